//! `kvcore --check-aof`, and this binary under the name redis-check-aof: is an append-only file, or all that a manifest names,
//! in order; and what would be cut off to make it so.
//!
//! Owns the same lines, questions and exit codes as redis-check-aof 7.0.15, down to what it does with nonsense: it stops at the
//! first thing that is none of its own, and counts the lines of all files together. Stricter than the server about line ends,
//! looser about counts (`*0` is a command without arguments). Only the last file is ever cut, and only after a `y`, or at a
//! timestamp.
//!
//! Refuses to know what an RDB holds: [`PreambleCheck`] is the call for that part. Files are read through once, with a buffer of
//! fixed size; a value's bytes are passed over.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use kvshard::number::leading_integer;

use super::manifest::{LINE_BYTES_MAX as MANIFEST_LINE_BYTES_MAX, Manifest};
use crate::config::structures::os_reason;
use crate::observe::log;

/// Longest header line of a command; what is behind is no CR LF.
const HEADER_BYTES_MAX: usize = 127;
/// Longest path, as in limits.h.
const PATH_BYTES_MAX: usize = 4096;
/// Longest message of Redis's log, and longest text of an error.
const MESSAGE_BYTES_MAX: usize = 1023;

/// Checks the RDB at the beginning of `file`, and prints on `out` what redis-check-rdb prints, with `name` as the file's name. Tells
/// where it ends, or `None` if it is damaged.
pub type PreambleCheck = fn(name: &str, file: &mut File, out: &mut dyn Write) -> Option<u64>;

/// Checks what `arguments` name, the program's own name not among them; `program` is that name, for the usage line. The
/// result is the exit code.
pub fn run(
    program: &OsStr,
    arguments: &[OsString],
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    preamble_check: PreambleCheck,
) -> u8 {
    let options = match Options::read(arguments) {
        Ok(options) => options,
        Err(Refusal::Usage) => return usage(program, out),
        Err(Refusal::Timestamp) => return ended(out, "Invalid timestamp, aborting...\n"),
    };
    if options.path.as_os_str().len() > PATH_BYTES_MAX {
        ended(out, "Error: filepath is too long (exceeds PATH_MAX)\n");
        return usage(program, out);
    }
    let mut check = Check {
        fix: options.fix,
        to_timestamp: options.to_timestamp,
        line: 1,
        error: String::new(),
        looked_at: 0,
        stale: [0; HEADER_BYTES_MAX + 1],
        input,
        out,
        preamble_check,
    };
    let verdict = check.named_file(&options.path);
    let _unwritable = check.out.flush();
    u8::from(verdict.is_err())
}

fn usage(program: &OsStr, out: &mut dyn Write) -> u8 {
    let program = program.to_string_lossy();
    ended(out, &format!("Usage: {program} [--fix|--truncate-to-timestamp $timestamp] <file.manifest|file.aof>\n"))
}

fn ended(out: &mut dyn Write, text: &str) -> u8 {
    let _unwritable = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    1
}

struct Options {
    path: PathBuf,
    fix: bool,
    /// Seconds since 1970; 0 for none.
    to_timestamp: i64,
}

enum Refusal {
    Usage,
    Timestamp,
}

impl Options {
    fn read(arguments: &[OsString]) -> Result<Options, Refusal> {
        let options = |path: &OsString, fix, to_timestamp| Options { path: PathBuf::from(path), fix, to_timestamp };
        match arguments {
            [path] => Ok(options(path, false, 0)),
            [switch, path] if switch == "--fix" => Ok(options(path, true, 0)),
            [switch, timestamp, path] if switch == "--truncate-to-timestamp" => {
                let (seconds, used) = leading_integer(timestamp.as_bytes());
                match seconds {
                    Ok(seconds) if used == timestamp.len() => Ok(options(path, false, seconds)),
                    _ => Err(Refusal::Timestamp),
                }
            }
            _ => Err(Refusal::Usage),
        }
    }
}

/// The end of the check, with exit code 1; why is printed already.
struct Stop;

/// What is printed about a file that did not stop the check.
enum FileVerdict {
    Valid,
    Empty,
    Truncated,
    TruncatedToTimestamp,
}

/// A file's place among those that a manifest names, or alone.
struct Subject<'a> {
    /// As printed.
    name: &'a str,
    path: &'a Path,
    /// The only one that may be cut.
    is_last: bool,
    begins_with_rdb: bool,
}

struct Check<'a> {
    fix: bool,
    to_timestamp: i64,
    /// Of all files so far, counted at line ends of commands, from 1.
    line: u64,
    /// The last thing that was wrong inside a command.
    error: String,
    /// Where the last line or argument that was looked at began.
    looked_at: u64,
    /// The last count line, of which a shorter one leaves the end in place: redis-check-aof prints two bytes at a wrong line
    /// end even where it has read only one.
    stale: [u8; HEADER_BYTES_MAX + 1],
    input: &'a mut dyn BufRead,
    out: &'a mut dyn Write,
    preamble_check: PreambleCheck,
}

impl Check<'_> {
    fn named_file(&mut self, path: &Path) -> Result<(), Stop> {
        if self.is_manifest(path)? {
            return self.multi_part(path);
        }
        let begins_with_rdb = self.begins_with_rdb(path)?;
        self.say("Start checking Old-Style AOF\n");
        let name = path.to_string_lossy();
        let verdict = self.file(&Subject { name: &name, path, is_last: true, begins_with_rdb })?;
        self.verdict(&verdict, &name, "AOF");
        Ok(())
    }

    fn multi_part(&mut self, path: &Path) -> Result<(), Stop> {
        self.say("Start checking Multi Part AOF\n");
        let manifest = self.manifest(path)?;
        let directory = directory_of(path);
        let count = manifest.load_order().count();
        let place = |name: &[u8]| {
            let path = [directory.as_bytes(), b"/", name].concat();
            (String::from_utf8_lossy(name).into_owned(), PathBuf::from(OsString::from_vec(path)))
        };
        if let Some(base) = manifest.base() {
            let (name, path) = place(&base.name);
            let begins_with_rdb = self.begins_with_rdb(&path)?;
            let format = if begins_with_rdb { "RDB" } else { "RESP" };
            self.say(&format!("Start to check BASE AOF ({format} format).\n"));
            let verdict = self.file(&Subject { name: &name, path: &path, is_last: count == 1, begins_with_rdb })?;
            self.verdict(&verdict, &name, "BASE AOF");
        }
        if !manifest.incremental().is_empty() {
            self.say("Start to check INCR files.\n");
        }
        for (index, entry) in manifest.incremental().iter().enumerate() {
            let (name, path) = place(&entry.name);
            let is_last = index + 1 == manifest.incremental().len();
            let verdict = self.file(&Subject { name: &name, path: &path, is_last, begins_with_rdb: false })?;
            self.verdict(&verdict, &name, "INCR AOF");
        }
        self.say("All AOF files and manifest are valid\n");
        Ok(())
    }

    /// A manifest's error is printed as the server logs it.
    fn manifest(&mut self, path: &Path) -> Result<Manifest, Stop> {
        let read = std::fs::read(path).map_err(|error| {
            let (path, error) = (path.display(), os_reason(&error));
            vec![format!("Fatal error: can't open the AOF manifest file {path} for reading: {error}")]
        });
        let parsed = read.and_then(|text| Manifest::parse(&text).map_err(|error| error.messages()));
        parsed.map_err(|messages| {
            for message in messages {
                let now = std::time::SystemTime::now();
                let message = cut(&message, MESSAGE_BYTES_MAX);
                self.say(&log::format_line(std::process::id(), 'C', now, log::Level::Warning, message));
            }
            Stop
        })
    }

    /// A file with a line that begins with `file`.
    fn is_manifest(&mut self, path: &Path) -> Result<bool, Stop> {
        let mut text = Text::new(self.open_to_look(path)?);
        let mut found = false;
        let mut line = Vec::new();
        loop {
            match text.line(MANIFEST_LINE_BYTES_MAX, &mut line) {
                Ok(0) => return Ok(found),
                Ok(_) => found |= line.starts_with(b"file"),
                Err(_) => return self.stop(&format!("Cannot read file: {}\n", path.display())),
            }
        }
    }

    fn begins_with_rdb(&mut self, path: &Path) -> Result<bool, Stop> {
        let mut start = Vec::new();
        // An RDB's header has eight bytes. A file that cannot be read is found out when it is checked.
        let _unreadable = self.open_to_look(path)?.take(8).read_to_end(&mut start);
        Ok(start.len() == 8 && start.starts_with(b"REDIS"))
    }

    fn open_to_look(&mut self, path: &Path) -> Result<File, Stop> {
        File::open(path).or_else(|error| self.stop(&format!("Cannot open file {}: {}\n", path.display(), os_reason(&error))))
    }

    fn file(&mut self, subject: &Subject<'_>) -> Result<FileVerdict, Stop> {
        let Subject { name, path, is_last, begins_with_rdb } = *subject;
        let opened = OpenOptions::new().read(true).write(true).open(path);
        let mut file = opened
            .or_else(|error| self.stop(&format!("Cannot open file {}: {}, aborting...\n", path.display(), os_reason(&error))))?;
        let size = match file.metadata() {
            Ok(metadata) => metadata.len(),
            Err(_) => return self.stop(&format!("Cannot stat file: {name}, aborting...\n")),
        };
        if size == 0 {
            return Ok(FileVerdict::Empty);
        }
        let mut start = 0;
        if begins_with_rdb {
            match (self.preamble_check)(name, &mut file, self.out) {
                Some(end) => {
                    self.say("RDB preamble is OK, proceeding with AOF tail...\n");
                    start = end;
                }
                None => return self.stop("RDB preamble of AOF file is not sane, aborting.\n"),
            }
        }
        let mut text = match file.seek(SeekFrom::Start(start)) {
            Ok(_) => Text { reader: BufReader::new(file), position: start },
            Err(_) => return self.stop(&format!("Failed to read from AOF {name}, aborting...\n")),
        };
        let Some(good_end) = self.commands(&mut text, subject)? else {
            return Ok(FileVerdict::TruncatedToTimestamp);
        };
        if !self.error.is_empty() {
            let error = format!("{}\n", self.error);
            self.say(&error);
        }
        let diff = size.saturating_sub(good_end);
        if diff == 0 && self.to_timestamp != 0 {
            self.say(&format!("Truncate nothing in AOF {name} to timestamp {}\n", self.to_timestamp));
            return Ok(FileVerdict::Valid);
        }
        let line = self.line;
        self.say(&format!(
            "AOF analyzed: filename={name}, size={size}, ok_up_to={good_end}, ok_up_to_line={line}, diff={diff}\n"
        ));
        if diff == 0 {
            return Ok(FileVerdict::Valid);
        }
        if !self.fix {
            return self.stop(&format!("AOF {name} is not valid. Use the --fix option to try fixing it.\n"));
        }
        if !is_last {
            return self.stop(&format!("Failed to truncate AOF {name} because it is not the last file\n"));
        }
        self.say(&format!("This will shrink the AOF {name} from {size} bytes, with {diff} bytes, to {good_end} bytes\n"));
        if !self.confirmed() {
            return self.stop("Aborting...\n");
        }
        match text.reader.get_ref().set_len(good_end) {
            Ok(()) => Ok(FileVerdict::Truncated),
            Err(_) => self.stop(&format!("Failed to truncate AOF {name}\n")),
        }
    }

    /// Reads commands and annotations up to the end or to what is wrong; where the good part ends. `None` when the file was cut
    /// at a timestamp.
    fn commands(&mut self, text: &mut Text, subject: &Subject<'_>) -> Result<Option<u64>, Stop> {
        let mut depth = 0;
        let mut good_end = text.position;
        let at_end = loop {
            if depth == 0 {
                good_end = text.position;
            }
            match text.peek() {
                Err(_) => return self.stop(&format!("Failed to read from AOF {}, aborting...\n", subject.name)),
                Ok(None) => break true,
                Ok(Some(b'#')) => {
                    if self.annotation(text, subject)? {
                        return Ok(None);
                    }
                }
                Ok(Some(b'*')) => match self.command(text, subject, &mut depth) {
                    Ok(()) => {}
                    Err(CommandEnd::Wrong(what)) => {
                        self.error = format!("0x{:16x}: {}", self.looked_at, cut(&what, MESSAGE_BYTES_MAX));
                        break false;
                    }
                    // Nothing is behind the last line.
                    Err(CommandEnd::Missing) => break true,
                },
                Ok(Some(_)) => {
                    self.say(&format!("AOF {} format error\n", subject.name));
                    break false;
                }
            }
        };
        if at_end && depth != 0 {
            self.error = format!("0x{:16x}: Reached EOF before reading EXEC for MULTI", self.looked_at);
        }
        Ok(Some(good_end))
    }

    /// Whether the file was cut at this annotation.
    fn annotation(&mut self, text: &mut Text, subject: &Subject<'_>) -> Result<bool, Stop> {
        let (offset, path, to) = (text.position, subject.path.display(), self.to_timestamp);
        self.looked_at = offset;
        let mut line = Vec::new();
        if text.line(super::aof_reader::LINE_BYTES_MAX, &mut line).is_err() {
            return self.stop(&format!("Failed to read annotations from AOF {path}, aborting...\n"));
        }
        let Some(timestamp) = line.strip_prefix(b"#TS:").filter(|_| to != 0) else { return Ok(false) };
        let (seconds, used) = leading_integer(timestamp);
        let seconds = match seconds {
            Ok(seconds) if timestamp.get(used) == Some(&b'\r') => seconds,
            _ => return self.stop("Invalid timestamp annotation\n"),
        };
        if seconds <= to {
            return Ok(false);
        }
        if offset == 0 {
            return self.stop(&format!("AOF {path} has nothing before timestamp {to}, aborting...\n"));
        }
        if !subject.is_last {
            return self.stop(&format!(
                "Failed to truncate AOF {path} to timestamp {to} to offset {offset} because it is not the last file.\n\
                 If you insist, please delete all files after this file according to the manifest file and delete the \
                 corresponding records in manifest file manually. Then re-run redis-check-aof.\n"
            ));
        }
        match text.reader.get_ref().set_len(offset) {
            Ok(()) => Ok(true),
            Err(_) => self.stop(&format!("Failed to truncate AOF {path} to timestamp {to}\n")),
        }
    }

    fn command(&mut self, text: &mut Text, subject: &Subject<'_>, depth: &mut i32) -> Result<(), CommandEnd> {
        let mut stale = self.stale;
        let count = self.header(text, b'*', &mut stale);
        self.stale = stale;
        for index in 0..count? {
            // What an argument's line leaves behind is overwritten by what reads its bytes.
            let len = self.header(text, b'$', &mut [0; HEADER_BYTES_MAX + 1])?;
            if !(0..=i64::MAX - 2).contains(&len) {
                let what = format!("Expected to read string of {len} bytes, which is not in the suitable range");
                return Err(CommandEnd::Wrong(what));
            }
            self.looked_at = text.position;
            let bytes = text.argument(len as u64 + 2);
            if bytes.read < len as u64 + 2 {
                let what = format!("Expected to read {} bytes, got {} bytes", len + 2, bytes.read);
                return Err(CommandEnd::Wrong(what));
            }
            self.line_end(bytes.last)?;
            let path = subject.path.display();
            let name = bytes.name(len as u64);
            if index == 0 && name.eq_ignore_ascii_case(b"multi") {
                *depth += 1;
                if *depth != 1 {
                    return Err(CommandEnd::Wrong(format!("Unexpected MULTI in AOF {path}")));
                }
            } else if index == 0 && name.eq_ignore_ascii_case(b"exec") {
                *depth -= 1;
                if *depth != 0 {
                    return Err(CommandEnd::Wrong(format!("Unexpected EXEC in AOF {path}")));
                }
            }
        }
        Ok(())
    }

    /// The number of a header line. `buffer` is what its bytes are put into.
    fn header(&mut self, text: &mut Text, prefix: u8, buffer: &mut [u8; HEADER_BYTES_MAX + 1]) -> Result<i64, CommandEnd> {
        self.looked_at = text.position;
        let mut line = Vec::new();
        let len = text.line(HEADER_BYTES_MAX, &mut line).unwrap_or(0);
        if len == 0 {
            return Err(CommandEnd::Missing);
        }
        buffer[..len].copy_from_slice(&line);
        buffer[len] = 0;
        if buffer[0] != prefix {
            // Printed as a character, which ends the text if it is a NUL.
            let got = if buffer[0] == 0 { String::new() } else { format!("{}'", char::from(buffer[0])) };
            return Err(CommandEnd::Wrong(format!("Expected prefix '{}', got: '{got}", char::from(prefix))));
        }
        let (Ok(number) | Err(number), used) = leading_integer(&buffer[1..len]);
        let at = |index: usize| buffer.get(1 + used + index).copied().unwrap_or(0);
        self.line_end([at(0), at(1)])?;
        Ok(number)
    }

    fn line_end(&mut self, bytes: [u8; 2]) -> Result<(), CommandEnd> {
        if bytes != *b"\r\n" {
            // Bytes are printed as signed integers.
            let [first, second] = bytes.map(|byte| i32::from(byte as i8));
            return Err(CommandEnd::Wrong(format!("Expected \\r\\n, got: {first:02x}{second:02x}")));
        }
        self.line += 1;
        Ok(())
    }

    fn confirmed(&mut self) -> bool {
        self.say("Continue? [y/N]: ");
        let _unwritable = self.out.flush();
        let mut answer = [0];
        matches!(self.input.read(&mut answer), Ok(1)) && answer[0].eq_ignore_ascii_case(&b'y')
    }

    fn verdict(&mut self, verdict: &FileVerdict, name: &str, style: &str) {
        let to = self.to_timestamp;
        let line = match verdict {
            FileVerdict::Valid => format!("{style} {name} is valid\n"),
            FileVerdict::Empty => format!("{style} {name} is empty\n"),
            FileVerdict::Truncated => format!("Successfully truncated AOF {name}\n"),
            FileVerdict::TruncatedToTimestamp => format!("Successfully truncated AOF {name} to timestamp {to}\n"),
        };
        self.say(&line);
    }

    fn say(&mut self, text: &str) {
        let _unwritable = self.out.write_all(text.as_bytes());
    }

    fn stop<T>(&mut self, text: &str) -> Result<T, Stop> {
        self.say(text);
        Err(Stop)
    }
}

/// Why a command was not read to its end.
enum CommandEnd {
    /// What is wrong with what was looked at last.
    Wrong(String),
    /// The file ends where a header should begin.
    Missing,
}

/// A file's text, read line by line or passed over.
struct Text {
    reader: BufReader<File>,
    /// Of the next byte in the file.
    position: u64,
}

/// What is kept of an argument that was passed over.
struct Argument {
    read: u64,
    first: [u8; 6],
    last: [u8; 2],
}

impl Argument {
    /// The argument as a command's name, up to a NUL; cut if it is longer than those that matter.
    fn name(&self, len: u64) -> &[u8] {
        let name = &self.first[..self.first.len().min(len as usize)];
        name.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

impl Text {
    fn new(file: File) -> Text {
        Text { reader: BufReader::new(file), position: 0 }
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.reader.fill_buf()?.first().copied())
    }

    /// Reads up to and with the next line feed, but not more than `max` bytes; how many. None are left at the end.
    fn line(&mut self, max: usize, line: &mut Vec<u8>) -> io::Result<usize> {
        line.clear();
        let len = self.reader.by_ref().take(max as u64).read_until(b'\n', line)?;
        self.position += len as u64;
        Ok(len)
    }

    /// Passes over `len` bytes, or as many as there are.
    fn argument(&mut self, len: u64) -> Argument {
        let mut argument = Argument { read: 0, first: [0; 6], last: [0; 2] };
        while argument.read < len {
            let Ok(available) = self.reader.fill_buf() else { break };
            let window = &available[..available.len().min(usize::try_from(len - argument.read).unwrap_or(usize::MAX))];
            if window.is_empty() {
                break;
            }
            for (place, byte) in argument.first.iter_mut().skip(argument.read as usize).zip(window) {
                *place = *byte;
            }
            for &byte in &window[window.len().saturating_sub(2)..] {
                argument.last = [argument.last[1], byte];
            }
            let taken = window.len();
            argument.read += taken as u64;
            self.reader.consume(taken);
        }
        self.position += argument.read;
        argument
    }
}

/// The directory of a path, in the words of dirname(3).
fn directory_of(path: &Path) -> OsString {
    let trimmed = |mut bytes: &[u8]| {
        while let [rest @ .., b'/'] = bytes {
            bytes = rest;
        }
        bytes.len()
    };
    let bytes = path.as_os_str().as_bytes();
    let bytes = &bytes[..trimmed(bytes)];
    match bytes.iter().rposition(|byte| *byte == b'/') {
        None if bytes.is_empty() && path.has_root() => OsString::from("/"),
        None => OsString::from("."),
        Some(slash) => match trimmed(&bytes[..slash]) {
            0 => OsString::from("/"),
            len => OsStr::from_bytes(&bytes[..len]).to_owned(),
        },
    }
}

fn cut(text: &str, max: usize) -> &str {
    let end = (0..=text.len().min(max)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Place {
        directory: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Place {
            Place { directory: tempfile::tempdir().expect("a temporary directory") }
        }

        fn path(&self, name: &str) -> String {
            self.directory.path().join(name).to_str().expect("text").to_owned()
        }

        fn write(&self, name: &str, bytes: &[u8]) -> String {
            std::fs::write(self.path(name), bytes).expect("written");
            self.path(name)
        }

        /// The exit code and the output, without the directory.
        fn check(&self, arguments: &[&str], answer: &str, preamble_check: PreambleCheck) -> (u8, String) {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            let mut out = Vec::new();
            let code = run(OsStr::new("check"), &arguments, &mut answer.as_bytes(), &mut out, preamble_check);
            let directory = format!("{}/", self.directory.path().display());
            (code, String::from_utf8_lossy(&out).replace(&directory, ""))
        }
    }

    fn sane_after_nine(_: &str, _: &mut File, out: &mut dyn Write) -> Option<u64> {
        out.write_all(b"[rdb]\n").expect("written");
        Some(9)
    }

    fn damaged(_: &str, _: &mut File, _: &mut dyn Write) -> Option<u64> {
        None
    }

    const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

    #[test]
    fn a_tail_is_cut_after_a_yes() {
        let place = Place::new();
        let path = place.write("a", &[PING, b"*1\r\n$4\r\nPI"].concat());
        let analysis = "Start checking Old-Style AOF\n0x              16: Expected to read 6 bytes, got 2 bytes\n\
                        AOF analyzed: filename=a, size=24, ok_up_to=14, ok_up_to_line=6, diff=10\n";
        let question =
            format!("{analysis}This will shrink the AOF a from 24 bytes, with 10 bytes, to 14 bytes\nContinue? [y/N]: ");
        let (code, out) = place.check(&[&path], "", damaged);
        assert_eq!((code, out), (1, format!("{analysis}AOF a is not valid. Use the --fix option to try fixing it.\n")));
        for answer in ["", "\n", "n\n", "z"] {
            assert_eq!(place.check(&["--fix", &path], answer, damaged), (1, format!("{question}Aborting...\n")));
        }
        let fixed = place.check(&["--fix", &path], "Y", damaged);
        assert_eq!(fixed, (0, format!("{question}Successfully truncated AOF a\n")));
        assert_eq!(std::fs::read(&path).expect("read"), PING);
    }

    #[test]
    fn the_rdb_part_is_another_s() {
        let place = Place::new();
        let base = place.write("b", b"REDIS0011");
        let tail = place.write("t", &[b"REDIS0011", PING].concat());
        let manifest = place.write("m", b"file b seq 1 type b\nfile i seq 1 type i\n");
        place.write("i", PING);
        let (code, out) = place.check(&[&tail], "", sane_after_nine);
        let expected = "Start checking Old-Style AOF\n[rdb]\nRDB preamble is OK, proceeding with AOF tail...\n\
                        AOF analyzed: filename=t, size=23, ok_up_to=23, ok_up_to_line=4, diff=0\nAOF t is valid\n";
        assert_eq!((code, out.as_str()), (0, expected));
        let (code, out) = place.check(&[&base], "", damaged);
        assert_eq!((code, out.as_str()), (1, "Start checking Old-Style AOF\nRDB preamble of AOF file is not sane, aborting.\n"));
        assert_eq!(place.check(&[&manifest], "", damaged).0, 1);
        assert_eq!(place.check(&[&manifest], "", sane_after_nine).0, 0);
    }

    #[test]
    fn directories_are_those_of_dirname() {
        let cases = [
            ("m", "."),
            ("a/m", "a"),
            ("a//m", "a"),
            ("/m", "/"),
            ("//m", "/"),
            ("a/m//", "a"),
            ("//", "/"),
            ("", "."),
            ("./m", "."),
        ];
        for (path, expected) in cases {
            assert_eq!(directory_of(Path::new(path)), expected, "{path}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_file_gets_a_verdict(pieces in proptest::collection::vec(proptest::sample::select(&[
            "*1\r\n", "*2\r\n", "$4\r\n", "PING\r\n", "*1\r\n$5\r\nMULTI\r\n", "*1\r\n$4\r\nexec\r\n", "#TS:5\r\n", "#TS:", "$-1\r\n", "\0",
            "file a seq 1 type i\n", "REDIS", "\u{ff}", "$9223372036854775807\r\n", "*9999999999\r\n",
        ][..]), 0..20), switch in 0usize..3) {
            let place = Place::new();
            let path = place.write("a", pieces.concat().as_bytes());
            let arguments = [vec!["--fix", &path], vec![&path], vec!["--truncate-to-timestamp", "4", &path]];
            let (code, out) = place.check(&arguments[switch], "y", sane_after_nine);
            prop_assert!(code <= 1 && out.starts_with("Start checking"));
        }
    }
}
