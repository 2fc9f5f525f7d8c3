//! The manifest of an append-only directory: which files make up the data, and in which order they are loaded.
//!
//! Owns Redis 7's text form, its rules and its words for a bad one:
//!
//! ```text
//! file appendonly.aof.2.base.rdb seq 2 type b      at most one base, loaded first
//! file appendonly.aof.1.incr.aof seq 1 type h      history: replaced, may be deleted
//! file appendonly.aof.3.incr.aof seq 3 type i      incremental, loaded in this order;
//! file appendonly.aof.4.incr.aof seq 4 type i      sequence numbers go up
//! ```
//!
//! Redis has one incremental file at a time. kvcore has one for each core, called a segment, and each is an entry of its own:
//! to redis-server they are incremental files to be loaded one after the other, and as their keys are disjoint the order
//! does not matter. A *generation* is what begins with one base: the segments opened at the base's cut and after.
//!
//! Refuses to know what the files hold. Only [`store`] touches the disk, through [`FileLayer`].

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kvshard::number::leading_integer;

use super::disk::FileLayer;
use crate::config::words;

/// Longest line that is read, its line feed included. Longer ones are refused, or cut if they are comments.
pub const LINE_BYTES_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Base,
    /// Replaced by a later generation; deleted when nobody reads it any more.
    History,
    Incremental,
}

impl Kind {
    fn letter(self) -> u8 {
        match self {
            Kind::Base => b'b',
            Kind::History => b'h',
            Kind::Incremental => b'i',
        }
    }
}

/// What a base file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseFormat {
    Rdb,
    Commands,
}

/// One file of the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// A name inside the append-only directory, never a path.
    pub name: Vec<u8>,
    /// Not 0.
    pub seq: i64,
    pub kind: Kind,
}

impl Entry {
    pub fn path(&self, directory: &Path) -> PathBuf {
        directory.join(OsStr::from_bytes(&self.name))
    }
}

/// The files of an append-only directory. Sequence numbers of the incremental files go up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    base: Option<Entry>,
    /// As printed: the newest generation first.
    history: Vec<Entry>,
    incremental: Vec<Entry>,
}

impl Manifest {
    /// Reads a manifest's text as redis-server does.
    pub fn parse(text: &[u8]) -> Result<Manifest, ManifestError> {
        let mut manifest = Manifest::default();
        let mut rest = text;
        let mut number = 0;
        while !rest.is_empty() {
            let (line, after) = take_line(rest);
            rest = after;
            number += 1;
            if line.starts_with(b"#") {
                continue;
            }
            if !line.ends_with(b"\n") || line.contains(&0) {
                return Err(ManifestError { fault: Fault::LongLine, line: None });
            }
            let line = trim(line);
            let placed = entry(line).and_then(|entry| manifest.place(entry));
            placed.map_err(|fault| ManifestError { fault, line: Some((number, line.to_vec())) })?;
        }
        match number {
            0 => Err(ManifestError { fault: Fault::Empty, line: None }),
            _ => Ok(manifest),
        }
    }

    /// The text of the manifest, as Redis prints it: base, history, incremental files.
    pub fn print(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for entry in self.base.iter().chain(&self.history).chain(&self.incremental) {
            text.extend_from_slice(b"file ");
            match needs_quotes(&entry.name) {
                true => text.extend_from_slice(&words::quote(&entry.name)),
                false => text.extend_from_slice(&entry.name),
            }
            text.extend_from_slice(format!(" seq {} type ", entry.seq).as_bytes());
            text.extend_from_slice(&[entry.kind.letter(), b'\n']);
        }
        text
    }

    /// A manifest with nothing but a file of before Redis 7, under its own name.
    pub fn of_plain_file(name: &[u8]) -> Manifest {
        Manifest { base: Some(Entry { name: name.to_vec(), seq: 1, kind: Kind::Base }), ..Manifest::default() }
    }

    pub fn base(&self) -> Option<&Entry> {
        self.base.as_ref()
    }

    pub fn incremental(&self) -> &[Entry] {
        &self.incremental
    }

    /// Files of earlier generations, which may be deleted once this manifest is on disk.
    pub fn history(&self) -> &[Entry] {
        &self.history
    }

    /// The files that make up the data: the base, then the incremental files.
    pub fn load_order(&self) -> impl Iterator<Item = &Entry> {
        self.base.iter().chain(&self.incremental)
    }

    /// The next base's sequence number; no file of the manifest has it. `None` when there are no more numbers.
    pub fn next_base_seq(&self) -> Option<i64> {
        self.next_seq(self.base.as_ref(), b".base.")
    }

    /// The next incremental file's sequence number; no file of the manifest has it. `None` when there are no more numbers.
    pub fn next_incremental_seq(&self) -> Option<i64> {
        self.next_seq(self.incremental.last(), b".incr.")
    }

    /// History lines do not say what a file was; its name does.
    fn next_seq(&self, last: Option<&Entry>, part: &[u8]) -> Option<i64> {
        let was = |entry: &&Entry| memchr::memmem::find(&entry.name, part).is_some();
        let replaced = self.history.iter().filter(was).map(|entry| entry.seq);
        last.map(|entry| entry.seq).into_iter().chain(replaced).fold(0, i64::max).checked_add(1)
    }

    /// Adds `count` incremental files named `<stem>.<seq>.incr.aof`, one for each core, and returns them. `None`, with nothing
    /// changed, when there are no more numbers.
    ///
    /// This alone is what happens at the cut of a rewrite: until its base is complete, the old files and the new segments
    /// together are the data.
    pub fn open_segments(&mut self, stem: &str, count: usize) -> Option<&[Entry]> {
        let first = self.next_incremental_seq()?;
        let end = first.checked_add(i64::try_from(count).ok()?)?;
        let name = |seq| format!("{stem}.{seq}.incr.aof").into_bytes();
        self.incremental.extend((first..end).map(|seq| Entry { name: name(seq), seq, kind: Kind::Incremental }));
        Some(&self.incremental[self.incremental.len() - count..])
    }

    /// Puts a new base named `<stem>.<seq>.base.rdb` or `.aof` in place of the old one and of every incremental file before
    /// `first_kept_seq`, which become history. `None`, with nothing changed, when there are no more numbers.
    pub fn replace_base(&mut self, stem: &str, format: BaseFormat, first_kept_seq: i64) -> Option<&Entry> {
        let seq = self.next_base_seq()?;
        let suffix = match format {
            BaseFormat::Rdb => "rdb",
            BaseFormat::Commands => "aof",
        };
        let kept = self.incremental.iter().position(|entry| entry.seq >= first_kept_seq).unwrap_or(self.incremental.len());
        let replaced = self.incremental.drain(..kept).chain(self.base.take());
        let replaced: Vec<Entry> = replaced.map(|entry| Entry { kind: Kind::History, ..entry }).collect();
        self.history.splice(..0, replaced);
        let name = format!("{stem}.{seq}.base.{suffix}").into_bytes();
        Some(self.base.insert(Entry { name, seq, kind: Kind::Base }))
    }

    /// A new generation: one base and `segments` incremental files; every file of before becomes history.
    pub fn new_generation(&self, stem: &str, format: BaseFormat, segments: usize) -> Option<Manifest> {
        let mut next = self.clone();
        let first = next.next_incremental_seq()?;
        next.open_segments(stem, segments)?;
        next.replace_base(stem, format, first)?;
        Some(next)
    }

    /// Forgets the history, once its files are deleted.
    pub fn forget_history(&mut self) {
        self.history.clear();
    }

    fn place(&mut self, entry: Entry) -> Result<(), Fault> {
        match entry.kind {
            Kind::Base if self.base.is_some() => return Err(Fault::DuplicateBase),
            Kind::Base => self.base = Some(entry),
            Kind::History => self.history.push(entry),
            Kind::Incremental => {
                if entry.seq <= self.incremental.last().map_or(0, |last| last.seq) {
                    return Err(Fault::Order);
                }
                self.incremental.push(entry);
            }
        }
        Ok(())
    }
}

/// What is wrong with a manifest; `Display` gives Redis's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Empty,
    /// Longer than [`LINE_BYTES_MAX`], or without a line feed at its end.
    LongLine,
    Format,
    Path,
    DuplicateBase,
    Order,
    Kind,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Empty => "Found an empty AOF manifest",
            Fault::LongLine => "The AOF manifest file contains too long line",
            Fault::Format => "Invalid AOF manifest file format",
            Fault::Path => "File can't be a path, just a filename",
            Fault::DuplicateBase => "Found duplicate base file information",
            Fault::Order => "Found a non-monotonic sequence number",
            Fault::Kind => "Unknown AOF file type",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    pub fault: Fault,
    /// The line's number, from 1, and its text, if one line is to blame.
    pub line: Option<(usize, Vec<u8>)>,
}

impl ManifestError {
    /// What redis-server logs, one warning each.
    pub fn messages(&self) -> Vec<String> {
        let mut messages = vec!["\n*** FATAL AOF MANIFEST FILE ERROR ***\n".to_owned()];
        if let Some((number, text)) = &self.line {
            messages.push(format!("Reading the manifest file, at line {number}\n"));
            messages.push(format!(">>> '{}'\n", String::from_utf8_lossy(text)));
        }
        messages.push(format!("{}\n", self.fault));
        messages
    }
}

/// What comes up to the next line feed, or [`LINE_BYTES_MAX`] bytes without one; and the rest.
fn take_line(text: &[u8]) -> (&[u8], &[u8]) {
    let window = &text[..text.len().min(LINE_BYTES_MAX)];
    text.split_at(memchr::memchr(b'\n', window).map_or(window.len(), |at| at + 1))
}

fn trim(mut line: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    while let [first, rest @ ..] = line
        && blank(first)
    {
        line = rest;
    }
    while let [rest @ .., last] = line
        && blank(last)
    {
        line = rest;
    }
    line
}

/// The entry a line stands for. Pairs of unknown words are for later versions, and skipped.
fn entry(line: &[u8]) -> Result<Entry, Fault> {
    let words = words::split(line).filter(|words| words.len() >= 6 && words.len().is_multiple_of(2)).ok_or(Fault::Format)?;
    let (mut name, mut seq, mut letter) = (Vec::new(), 0, 0);
    for pair in words.chunks_exact(2) {
        let [key, value] = [until_nul(&pair[0]), until_nul(&pair[1])];
        if key.eq_ignore_ascii_case(b"file") {
            if value.contains(&b'/') || value.contains(&b'\\') {
                return Err(Fault::Path);
            }
            name = value.to_vec();
        } else if key.eq_ignore_ascii_case(b"seq") {
            let (Ok(number) | Err(number), _) = leading_integer(value);
            seq = number;
        } else if key.eq_ignore_ascii_case(b"type") {
            letter = value.first().copied().unwrap_or(0);
        }
    }
    // Redis takes an empty name and fails to open it later.
    if name.is_empty() || seq == 0 || letter == 0 {
        return Err(Fault::Format);
    }
    let kinds = [Kind::Base, Kind::History, Kind::Incremental];
    let kind = kinds.into_iter().find(|kind| kind.letter() == letter).ok_or(Fault::Kind)?;
    Ok(Entry { name, seq, kind })
}

/// A quoted word may hold a NUL, where Redis's strings end.
fn until_nul(word: &[u8]) -> &[u8] {
    word.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Also for `'`, which Redis prints bare and then cannot read.
fn needs_quotes(name: &[u8]) -> bool {
    name.is_empty() || name.iter().any(|byte| !byte.is_ascii_graphic() || matches!(byte, b'\\' | b'"' | b'\''))
}

/// Why a manifest was not stored.
#[derive(Debug)]
pub enum StoreError {
    Write(PathBuf, io::Error),
    Rename(PathBuf, PathBuf, io::Error),
    /// The new manifest is in place, but a power loss may bring the old one back.
    SyncDirectory(PathBuf, io::Error),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Write(path, error) => {
                write!(f, "Error trying to write the temporary AOF manifest file {}: {error}", path.display())
            }
            StoreError::Rename(from, to, error) => {
                let (from, to) = (from.display(), to.display());
                write!(f, "Error trying to rename the temporary AOF manifest file {from} into {to}: {error}")
            }
            StoreError::SyncDirectory(path, error) => {
                write!(f, "Fail to fsync AOF directory {}: {error}.", path.display())
            }
        }
    }
}

impl std::error::Error for StoreError {}

/// Puts `manifest` in place of the file `name` in `directory`: the old or the new one is there, whole, whenever the power
/// fails. The temporary file is `temp-<name>`.
pub fn store(files: &mut impl FileLayer, directory: &Path, name: &str, manifest: &Manifest) -> Result<(), StoreError> {
    let (temporary, path) = (directory.join(format!("temp-{name}")), directory.join(name));
    files.write_durably(&temporary, &manifest.print()).map_err(|error| StoreError::Write(temporary.clone(), error))?;
    files.rename(&temporary, &path).map_err(|error| StoreError::Rename(temporary, path, error))?;
    files.sync_directory(directory).map_err(|error| StoreError::SyncDirectory(directory.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::super::disk::Disk;
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn parse(text: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(text.as_bytes())
    }

    fn good(text: &str) -> Manifest {
        parse(text).unwrap_or_else(|error| panic!("{text:?}: {error:?}"))
    }

    fn printed(manifest: &Manifest) -> String {
        String::from_utf8(manifest.print()).expect("text")
    }

    const SAMPLE: &str = "\
file appendonly.aof.2.base.rdb seq 2 type b
file appendonly.aof.1.incr.aof seq 1 type h
file appendonly.aof.1.base.rdb seq 1 type h
file appendonly.aof.2.incr.aof seq 2 type i
file appendonly.aof.7.incr.aof seq 7 type i
";

    #[test]
    fn what_redis_prints_is_read_and_printed_again() {
        let manifest = good(SAMPLE);
        assert_eq!(printed(&manifest), SAMPLE);
        let order: Vec<i64> = manifest.load_order().map(|entry| entry.seq).collect();
        assert_eq!(order, [2, 2, 7]);
        assert_eq!((manifest.next_base_seq(), manifest.next_incremental_seq()), (Some(3), Some(8)));
    }

    #[test]
    fn forms_that_redis_reads() {
        let long_comment = format!("#{}\nfile a seq 1 type b\n", "x".repeat(1022));
        let cases = [
            ("file a seq 1 type b\n", "file a seq 1 type b\n"),
            ("# c\n  FILE \"a\" Seq +1junk type base extra word\r\n#file", "file a seq 1 type b\n"),
            ("type i seq 9223372036854775808 file 'a b'\n", "file \"a b\" seq 9223372036854775807 type i\n"),
            ("file a file b seq 3 seq 4 type h type i\n", "file b seq 4 type i\n"),
            ("file \"q\\\"\\x01\\n\" seq -3 type h\n", "file \"q\\\"\\x01\\n\" seq -3 type h\n"),
            ("file \"a\\x00b\" seq 1 type i\n", "file a seq 1 type i\n"),
            ("# nothing\n", ""),
            (&long_comment, "file a seq 1 type b\n"),
        ];
        for (text, expected) in cases {
            assert_eq!(printed(&good(text)), expected, "{text}");
        }
    }

    #[test]
    fn faults_have_redis_s_words_and_name_the_line() {
        const FORMAT: &str = "Invalid AOF manifest file format";
        let long = format!("file a seq 1 type b {} y\n", "x".repeat(1003));
        let long_comment = format!("#{}\nfile a seq 1 type b\n", "x".repeat(1100));
        let cases = [
            ("", None, "Found an empty AOF manifest"),
            ("file a seq 1 type b", None, "The AOF manifest file contains too long line"),
            (&long, None, "The AOF manifest file contains too long line"),
            ("file a seq 1 type b\0\n", None, "The AOF manifest file contains too long line"),
            (&long_comment, Some(2), FORMAT),
            ("\n", Some(1), FORMAT),
            ("file a seq 1 type b\n \n", Some(2), FORMAT),
            ("file a seq 1\n", Some(1), FORMAT),
            ("file a seq 1 type b odd\n", Some(1), FORMAT),
            ("file a seq 0 type b\n", Some(1), FORMAT),
            ("file a seq x type b\n", Some(1), FORMAT),
            ("file a seq 1 type \"\"\n", Some(1), FORMAT),
            ("file \"\" seq 1 type b\n", Some(1), FORMAT),
            ("file \"a seq 1 type b\n", Some(1), FORMAT),
            ("#\nfile a b c d e\n", Some(2), FORMAT),
            ("file a/b seq 1 type b\n", Some(1), "File can't be a path, just a filename"),
            ("file a\\b seq 1 type b\n", Some(1), "File can't be a path, just a filename"),
            ("file a seq 1 type b\nfile b seq 2 type b\n", Some(2), "Found duplicate base file information"),
            ("file a seq 2 type i\nfile b seq 2 type i\n", Some(2), "Found a non-monotonic sequence number"),
            ("file a seq 2 type i\nfile b seq 1 type i\n", Some(2), "Found a non-monotonic sequence number"),
            ("file a seq -1 type i\n", Some(1), "Found a non-monotonic sequence number"),
            ("file a seq 1 type B\n", Some(1), "Unknown AOF file type"),
        ];
        for (text, line, words) in cases {
            let error = parse(text).expect_err(text);
            assert_eq!(error.fault.to_string(), words, "{text}");
            assert_eq!(error.line.as_ref().map(|(number, _)| *number), line, "{text}");
        }
        let messages = parse("# c\nfile a seq 0 type b \n").expect_err("a zero").messages();
        assert_eq!(
            messages[1..],
            ["Reading the manifest file, at line 2\n", ">>> 'file a seq 0 type b'\n", "Invalid AOF manifest file format\n"]
        );
    }

    #[test]
    fn a_generation_makes_history_of_all_before() {
        let first = Manifest::default().new_generation("appendonly.aof", BaseFormat::Rdb, 2).expect("numbers");
        let expected = "\
file appendonly.aof.1.base.rdb seq 1 type b
file appendonly.aof.1.incr.aof seq 1 type i
file appendonly.aof.2.incr.aof seq 2 type i
";
        assert_eq!(printed(&first), expected);
        let mut second = first.new_generation("appendonly.aof", BaseFormat::Commands, 1).expect("numbers");
        let expected = "\
file appendonly.aof.2.base.aof seq 2 type b
file appendonly.aof.1.incr.aof seq 1 type h
file appendonly.aof.2.incr.aof seq 2 type h
file appendonly.aof.1.base.rdb seq 1 type h
file appendonly.aof.3.incr.aof seq 3 type i
";
        assert_eq!(printed(&second), expected);
        assert_eq!(good(expected), second);
        second.forget_history();
        assert_eq!(second.history(), []);
    }

    #[test]
    fn during_a_rewrite_old_and_new_segments_are_the_data() {
        let mut manifest = good("file x.1.base.rdb seq 1 type b\nfile x.1.incr.aof seq 1 type i\n");
        let opened: Vec<i64> = manifest.open_segments("x", 2).expect("numbers").iter().map(|entry| entry.seq).collect();
        assert_eq!(opened, [2, 3]);
        assert_eq!(manifest.load_order().count(), 4);
        manifest.replace_base("x", BaseFormat::Rdb, 2).expect("numbers");
        let order: Vec<&[u8]> = manifest.load_order().map(|entry| &entry.name[..]).collect();
        assert_eq!(order, [&b"x.2.base.rdb"[..], b"x.2.incr.aof", b"x.3.incr.aof"]);
        assert_eq!(manifest.history().len(), 2);
    }

    #[test]
    fn numbers_of_history_are_not_used_again() {
        let manifest = good("file x.9.incr.aof seq 9 type h\nfile x.4.base.aof seq 4 type h\nfile x.3.incr.aof seq 3 type i\n");
        assert_eq!((manifest.next_base_seq(), manifest.next_incremental_seq()), (Some(5), Some(10)));
        let mut full = good("file x seq 9223372036854775806 type i\n");
        assert!(full.open_segments("x", 2).is_none() && full.incremental().len() == 1);
    }

    /// Fails at a countdown, and remembers what was asked.
    struct Failing {
        steps_left: usize,
        done: Vec<String>,
    }

    impl Failing {
        fn step(&mut self, what: String) -> io::Result<()> {
            self.steps_left = self.steps_left.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
            self.done.push(what);
            Ok(())
        }
    }

    impl FileLayer for Failing {
        fn create(&mut self, _: &Path) -> io::Result<fs::File> {
            unreachable!("a manifest is written in one piece")
        }

        fn write(&mut self, _: &fs::File, _: Vec<u8>, _: u64) -> (Vec<u8>, io::Result<()>) {
            unreachable!("a manifest is written in one piece")
        }

        fn sync(&mut self, _: &fs::File) -> io::Result<()> {
            unreachable!("a manifest is written in one piece")
        }

        fn write_durably(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
            self.step(format!("write {} {}", path.display(), content.len()))
        }

        fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
            self.step(format!("rename {} {}", from.display(), to.display()))
        }

        fn sync_directory(&mut self, directory: &Path) -> io::Result<()> {
            self.step(format!("sync {}", directory.display()))
        }
    }

    #[test]
    fn a_manifest_is_written_aside_then_renamed() {
        let manifest = good(SAMPLE);
        let steps = ["write d/temp-m 220", "rename d/temp-m d/m", "sync d"];
        for steps_left in 0..=3 {
            let mut files = Failing { steps_left, done: Vec::new() };
            let result = store(&mut files, Path::new("d"), "m", &manifest);
            assert_eq!((files.done.as_slice(), result.is_ok()), (&steps.map(str::to_owned)[..steps_left], steps_left == 3));
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        store(&mut Disk, directory.path(), "m", &manifest).expect("stored");
        let names: Vec<_> =
            fs::read_dir(directory.path()).expect("listed").map(|entry| entry.expect("one").file_name()).collect();
        assert_eq!(names, ["m"]);
        assert_eq!(Manifest::parse(&fs::read(directory.path().join("m")).expect("read")), Ok(manifest));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text: Vec<u8>) {
            let _verdict = Manifest::parse(&text);
        }

        #[test]
        fn any_name_survives(name in "[^/\\\\\0]{1,40}", seq in 1i64..) {
            let entry = Entry { name: name.into_bytes(), seq, kind: Kind::Incremental };
            let manifest = Manifest { incremental: vec![entry], ..Manifest::default() };
            prop_assert_eq!(Manifest::parse(&manifest.print()), Ok(manifest));
        }
    }
}
