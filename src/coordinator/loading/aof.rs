//! Loading an append-only directory: its files in the manifest's order, each checked here and run by the first core.
//!
//! A file may begin with an RDB; what follows are commands. They are checked on this thread (form, name, number of arguments) and
//! sent in chunks of whole commands to the first core, where a client without a socket runs them: so routing and
//! operations over several shards are what they are for every client.
//!
//! **Where a tail may be cut** (`aof-load-truncated yes`). Redis cuts the last file only, as it writes to one at a time. A kvcore that
//! was killed leaves a cut tail in as many files as it had cores, and the manifest does not say which files these are, so every
//! incremental file may have one. A base may, as in Redis, if no file follows. What is cut is told, with file and offset.
//! Segments may be preallocated: zeros at the end of a file are no part of it. Behind a whole command they go even with
//! `aof-load-truncated no`, as nothing is lost with them.
//!
//! **Operations over several segments.** Each incremental file's annotations are surveyed; when all files are read, what a segment
//! has lost of an operation is run, appended to that segment and synced, before the node serves anybody (see
//! [`spanning`](crate::persistence::spanning)). The survey keeps the decoded annotations of all files until then: about as many bytes
//! as the operations over several shards have in the files.

use super::source::Source;
use super::{LoadError, Loaded, Session, leftovers};
use crate::config::Config;
use crate::config::structures::os_reason;
use crate::coordinator::Coordinator;
use crate::coordinator::contract::{Load, LoadTo};
use crate::observe::{clock, log};
use crate::persistence::aof_reader::{AofReader, Command, Corrupt, End, Step};
use crate::persistence::disk::FileLayer;
use crate::persistence::manifest::{Entry, Kind, Manifest, store};
use crate::persistence::segment::SegmentEncoder;
use crate::persistence::spanning::{Completion, Contents, Damage, OperationId, SegmentSeq, Survey, recover};
use kvshard::command::Split;
use kvshard::effects::write_command;
use kvshard::keyspace::load::LoadRules;
use kvshard::keyspace::slot::SlotId;
use kvshard::split::by_owner;
use kvshard::{Args, Flags, Spec};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Bytes of commands that are sent at once: a turn of the first core.
const COMMANDS_BYTES: usize = 64 << 10;
/// Bytes that are looked at at once for the end of a file's zeros.
const TAIL_BYTES: u64 = 64 << 10;
const RDB_MAGIC: &[u8] = b"REDIS";

/// Where the append-only files are.
struct Place {
    directory: PathBuf,
    /// `appendfilename`: what the names of the files begin with.
    stem: String,
    manifest: PathBuf,
}

impl Place {
    fn of(config: &Config) -> Self {
        let directory = config.appenddirname.path().to_owned();
        let stem = config.appendfilename.path().display().to_string();
        let manifest = directory.join(format!("{stem}.manifest"));
        Place { directory, stem, manifest }
    }

    fn manifest_name(&self) -> String {
        format!("{}.manifest", self.stem)
    }
}

/// The manifest, if there is one. Also read when nothing is to be loaded by it: a node may be told later to append.
pub(super) fn manifest(config: &Config) -> Result<Manifest, LoadError> {
    let Place { manifest: path, .. } = Place::of(config);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Manifest::default());
        }
        Err(error) => {
            let (path, reason) = (path.display(), os_reason(&error));
            return fatal(format!("Fatal error: can't open the AOF manifest file {path} for reading: {reason}"));
        }
    };
    Manifest::parse(&text).or_else(|error| {
        error.messages().iter().for_each(|message| log::warning(message));
        fatal(format!(
            "The AOF manifest file {} is damaged: {}. Put it right by hand, or restore it",
            path.display(),
            error.fault
        ))
    })
}

impl Coordinator {
    /// Loads what the manifest names, or a plain file of before Redis 7.
    pub(super) fn load_append_only(&self, disk: &mut impl FileLayer, to: LoadTo) -> Result<Loaded, LoadError> {
        let config = self.node.current_config();
        let place = Place::of(&config);
        let manifest = upgraded(disk, &place, manifest(&config)?)?;
        if place.directory.is_dir() {
            leftovers::remove(disk, &place.directory);
            let temporary = place.directory.join(format!("temp-{}", place.manifest_name()));
            if temporary.exists() {
                leftovers::remove_file(disk, &temporary);
            }
        }
        if manifest.load_order().next().is_none() && to == LoadTo::Shards {
            return Ok(Loaded { manifest, ..Loaded::default() });
        }
        let began = Instant::now();
        let rules = LoadRules { keeps_expired: true, replaces: false };
        let mut session = Session::begin(self, total_bytes(&place, &manifest)?, rules, to);
        // Commands reach other cores by way of the first one, which is not the way that this came: all must know by then that they load.
        session.flush()?;
        let mut next_operation = OperationId::default();
        let read = session.load_files(disk, &config, &place, &manifest).map(|next| next_operation = next);
        session.finish(read, true)?;
        log::notice(&format!("DB loaded from append only file: {:.3} seconds", began.elapsed().as_secs_f64()));
        Ok(Loaded { manifest, next_operation, stored: None })
    }
}

/// Redis 7 moves a plain append-only file into the directory, as the base of a new manifest.
fn upgraded(disk: &mut impl FileLayer, place: &Place, manifest: Manifest) -> Result<Manifest, LoadError> {
    let Place { directory, stem, .. } = place;
    let plain = Path::new(stem);
    let moved = directory.join(stem);
    let is_empty = manifest.base().is_none() && manifest.incremental().is_empty();
    // The manifest was written by an upgrade that came no further.
    let half_done = manifest.incremental().is_empty()
        && manifest.base().is_some_and(|base| base.name == plain.as_os_str().as_bytes())
        && !moved.exists();
    if !plain.is_file() || !(is_empty || half_done) {
        return Ok(manifest);
    }
    let upgraded = Manifest::of_plain_file(plain.as_os_str().as_bytes());
    let shown = directory.display();
    if let Err(error) = std::fs::create_dir(directory)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return fatal(format!("Can't open or create append-only dir {shown}: {}", os_reason(&error)));
    }
    store(disk, directory, &place.manifest_name(), &upgraded).or_else(|error| fatal(error.to_string()))?;
    let moving = disk
        .rename(plain, &moved)
        .and_then(|()| disk.sync_directory(directory))
        .and_then(|()| disk.sync_directory(Path::new(".")));
    moving.or_else(|error| {
        fatal(format!("Error trying to move the old AOF file {stem} into dir {shown}: {}", os_reason(&error)))
    })?;
    log::notice(&format!("Successfully migrated an old-style AOF configuration ({stem}) into the AOF directory ({shown})."));
    Ok(upgraded)
}

/// Bytes of all files. One that is missing is fatal: nobody could tell what was in it.
fn total_bytes(place: &Place, manifest: &Manifest) -> Result<u64, LoadError> {
    manifest.load_order().try_fold(0, |sum, entry| {
        let path = entry.path(&place.directory);
        match std::fs::metadata(&path) {
            Ok(facts) => Ok(sum + facts.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => fatal(format!(
                "Fatal error: the append only file {} is missing, but the manifest {} names it. Restore the file; without it a part of the \
                 data set is lost",
                path.display(),
                place.manifest.display()
            )),
            Err(error) => fatal(format!("Unable to obtain the AOF file {} length. stat: {}", path.display(), os_reason(&error))),
        }
    })
}

impl Session<'_> {
    /// Says which operation comes next.
    fn load_files(
        &mut self,
        disk: &mut impl FileLayer,
        config: &Config,
        place: &Place,
        manifest: &Manifest,
    ) -> Result<OperationId, LoadError> {
        let files = manifest.load_order().count();
        let mut contents = Vec::new();
        for (index, entry) in manifest.load_order().enumerate() {
            let began = Instant::now();
            let is_base = entry.kind == Kind::Base;
            let survey = (!is_base).then(|| Survey::new(SegmentSeq(entry.seq)));
            let path = entry.path(&place.directory);
            let source = Source::open(&path).or_else(|error| {
                fatal(format!(
                    "Fatal error: can't open the append log file {} for reading: {}",
                    path.display(),
                    os_reason(&error)
                ))
            })?;
            let bytes = source.len;
            let mut reading = Reading { name: shown(entry), place, source, survey, out: Vec::new(), block: Vec::new() };
            self.tell_first(Load::File);
            let end = self.read_file(&mut reading)?;
            settle_tail(disk, config, &reading, bytes, end, !is_base || index + 1 == files)?;
            contents.extend(reading.survey.map(Survey::finish));
            self.before += bytes;
            let kind = if is_base { "base" } else { "incr" };
            log::notice(&format!("DB loaded from {kind} file {}: {:.3} seconds", reading.name, began.elapsed().as_secs_f64()));
        }
        self.complete(disk, place, manifest, &contents)
    }

    /// Reads one file up to its end.
    fn read_file(&mut self, reading: &mut Reading<'_>) -> Result<End, LoadError> {
        let full = reading.source.len;
        let mut reader = AofReader::new();
        if reading.source.begins_with(RDB_MAGIC)? {
            reader = AofReader::at(self.read_preamble(reading)?);
        } else {
            let len = without_zeros(&reading.source.path, full).or_else(|error| reading.unreadable(&error))?;
            reading.source.limit(len);
        }
        if reading.survey.is_some() {
            reader = reader.with_annotations();
        }
        loop {
            let chunk = reading.source.next()?;
            if chunk.is_empty() {
                break;
            }
            reader.feed(chunk);
            self.take_commands(&mut reader, reading)?;
            let offset = reading.source.offset();
            self.read(offset)?;
        }
        self.send_commands(reading)?;
        reader.finish().or_else(|corrupt| reading.corrupt(corrupt))
    }

    /// The RDB that a file begins with; says where it ends.
    fn read_preamble(&mut self, reading: &mut Reading<'_>) -> Result<u64, LoadError> {
        let is_plain = reading.name == reading.place.stem;
        let (what, of) = if is_plain {
            ("preamble from AOF file", "preamble of the AOF file")
        } else {
            ("base file on AOF loading", "base file")
        };
        log::notice(&format!("Reading RDB {what}..."));
        let read = self.read_rdb(&mut reading.source);
        read.inspect_err(|_| log::warning(&format!("Error reading the RDB {of} {}, AOF loading aborted", reading.name)))?;
        if is_plain {
            log::notice("Reading the remaining AOF tail...");
        }
        Ok(reading.source.used_to())
    }

    /// Takes the whole commands that the reader has.
    fn take_commands(&mut self, reader: &mut AofReader, reading: &mut Reading<'_>) -> Result<(), LoadError> {
        loop {
            let step = reader.next().or_else(|corrupt| reading.corrupt(corrupt))?;
            match step {
                Step::Command(command) => {
                    let end = command.end;
                    let spec = self.check(&command, reading)?;
                    if let Some(survey) = &mut reading.survey {
                        let surveyed = survey.command(&command);
                        surveyed.or_else(|damage| reading.damaged(damage, command.offset))?;
                    }
                    reading.take(&command, spec, self.to_cores.cores());
                    if reading.out.len() >= COMMANDS_BYTES {
                        self.send_commands(reading)?;
                    }
                    self.delay(end)?;
                }
                Step::Annotation(annotation) => {
                    if let Some(survey) = &mut reading.survey {
                        let surveyed = survey.annotation(&annotation);
                        surveyed.or_else(|damage| reading.damaged(damage, annotation.offset))?;
                    }
                }
                Step::Preamble | Step::NeedMore => return Ok(()),
            }
        }
    }

    fn send_commands(&mut self, reading: &mut Reading<'_>) -> Result<(), LoadError> {
        if reading.out.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::replace(&mut reading.out, Vec::with_capacity(COMMANDS_BYTES + COMMANDS_BYTES / 8));
        let len = bytes.len();
        self.send(0, Load::Commands(bytes), len)
    }

    /// Whether a command may stand in a file. Those that act on the node or on the connection never do.
    fn check(&self, command: &Command<'_>, reading: &Reading<'_>) -> Result<&'static Spec, LoadError> {
        let (args, offset, file) = (command.args, command.offset, &reading.name);
        let name = String::from_utf8_lossy(args.at(0));
        let found = self.node.registry.find(args).filter(|found| found.subcommands.is_empty() || args.len() < 2);
        let Some(found) = found else {
            return fatal(format!("Unknown command '{name}' reading the append only file {file} (at offset {offset})"));
        };
        if !found.spec.arity_matches(args.len()) {
            return fatal(format!(
                "Wrong number of arguments for '{name}' reading the append only file {file} (at offset {offset})"
            ));
        }
        if found.flags().any(Flags::ADMIN | Flags::NO_AUTH) {
            return fatal(format!("Command '{name}' can't stand in the append only file {file} (at offset {offset})"));
        }
        Ok(found.spec)
    }

    /// Runs what segments have lost of operations, and appends it to them.
    fn complete(
        &mut self,
        disk: &mut impl FileLayer,
        place: &Place,
        manifest: &Manifest,
        contents: &[Contents],
    ) -> Result<OperationId, LoadError> {
        let recovery = recover(contents).or_else(|disagreement| {
            fatal(format!("{disagreement}: one of the append only files of {} is not what was written", place.manifest.display()))
        })?;
        for (operation, segment) in &recovery.without_segment {
            let (operation, segment) = (operation.0, segment.0);
            log::warning(&format!(
                "Operation {operation} had a part in segment {segment}, which the manifest no longer names: it stays incomplete"
            ));
        }
        self.tell_first(Load::File);
        for completion in &recovery.completions {
            self.send(0, Load::Commands(completion.commands.clone()), completion.commands.len())?;
        }
        self.flush()?;
        for entry in manifest.incremental() {
            let of_segment: Vec<&Completion> =
                recovery.completions.iter().filter(|completion| completion.segment.0 == entry.seq).collect();
            if !of_segment.is_empty() {
                let path = entry.path(&place.directory);
                let appended = append(disk, &path, &of_segment);
                appended.or_else(|error| {
                    fatal(format!("Can't complete the append only file {}: {}", path.display(), os_reason(&error)))
                })?;
                let (file, count) = (shown(entry), of_segment.len());
                log::warning(&format!("AOF {file}: completed {count} operations from the files of other cores"));
            }
        }
        Ok(recovery.next_operation)
    }
}

fn append(disk: &mut impl FileLayer, path: &Path, completions: &[&Completion]) -> io::Result<()> {
    let mut encoder = SegmentEncoder::new(false);
    let mut bytes = Vec::new();
    completions.iter().for_each(|completion| encoder.completion(clock::wall_ms() / 1000, completion, &mut bytes));
    let file = File::options().write(true).open(path)?;
    let end = file.metadata()?.len();
    disk.write(&file, bytes, end).1?;
    disk.sync(&file)
}

/// One file while it is read.
struct Reading<'p> {
    name: String,
    place: &'p Place,
    source: Source,
    /// Of an incremental file.
    survey: Option<Survey>,
    /// Commands to be sent.
    out: Vec<u8>,
    /// Commands of a transaction whose EXEC has not come.
    block: Vec<u8>,
}

impl Reading<'_> {
    /// Adds a command to those to be sent. As nobody looks on, a transaction is its commands, once it is whole, and a command that
    /// does the same to each of its keys is one for each core: so each goes to its shard without waiting for others.
    fn take(&mut self, command: &Command<'_>, spec: &Spec, cores: usize) {
        let out = match command.transaction {
            None => &mut self.out,
            Some(_) if command.args.is(0, "exec") => return self.out.append(&mut self.block),
            Some(_) if command.args.is(0, "multi") => return,
            Some(_) => &mut self.block,
        };
        match spec.split {
            Split::PerKey { name, step, .. } if cores > 1 && command.args.len() > 1 + step => {
                divide(command.args, name, step, cores, out);
            }
            _ => out.extend_from_slice(command.raw),
        }
    }

    fn corrupt<T>(&self, corrupt: Corrupt) -> Result<T, LoadError> {
        let Corrupt { offset, fault } = corrupt;
        log::warning(&corrupt.message(&self.name));
        fatal(format!(
            "The append only file {} is corrupt at offset {offset}: {fault}. {}",
            self.source.path.display(),
            self.remedy()
        ))
    }

    fn damaged<T>(&self, damage: Damage, offset: u64) -> Result<T, LoadError> {
        fatal(format!(
            "The append only file {} is corrupt at offset {offset}: {damage}. {}",
            self.source.path.display(),
            self.remedy()
        ))
    }

    fn unreadable<T>(&self, error: &io::Error) -> Result<T, LoadError> {
        fatal(format!("Unrecoverable error reading the append only file {}: {}", self.name, os_reason(error)))
    }

    fn remedy(&self) -> String {
        format!("Make a backup of the directory, then run kvcore --check-aof --fix {}", self.place.manifest.display())
    }
}

/// The command `name` for each core that owns any of its keys.
fn divide(args: Args<'_>, name: &[u8], step: usize, cores: usize, out: &mut Vec<u8>) {
    let owner = |key: &[u8]| Some(usize::from(SlotId::of_key(key).shard(cores as u16)));
    for (_, command) in by_owner(args, name, step, cores, owner) {
        write_command(out, command.into_iter());
    }
}

/// Cuts what does not belong to the file at its end, where that is allowed.
fn settle_tail(
    disk: &mut impl FileLayer,
    config: &Config,
    reading: &Reading<'_>,
    bytes: u64,
    end: End,
    may_be_cut: bool,
) -> Result<(), LoadError> {
    let name = &reading.name;
    let (offset, loses) = match end {
        End::Whole { offset } if offset == bytes => return Ok(()),
        End::Whole { offset } => (offset, false),
        End::Truncated { offset, in_transaction } => {
            if in_transaction {
                log::warning(&format!("Revert incomplete MULTI/EXEC transaction in AOF file {name}"));
            }
            (offset, true)
        }
    };
    if loses && !config.aof_load_truncated {
        return fatal(format!(
            "Unexpected end of file reading the append only file {name}, at offset {offset}. You can: 1) Make a backup of your AOF file, \
             then use kvcore --check-aof --fix {}. 2) Alternatively you can set the 'aof-load-truncated' configuration option to yes and \
             restart the server.",
            reading.place.manifest.display()
        ));
    }
    if loses && !may_be_cut {
        return fatal(format!(
            "Fatal error: the truncated file is not the last file: {name} ends unexpectedly at offset {offset}. {}",
            reading.remedy()
        ));
    }
    if loses {
        log::warning(&format!("!!! Warning: short read while loading the AOF file {name}!!!"));
    }
    log::warning(&format!("!!! Truncating the AOF {name} at offset {offset} !!!"));
    let cut = File::options().write(true).open(&reading.source.path).and_then(|file| {
        file.set_len(offset)?;
        disk.sync(&file)
    });
    cut.or_else(|error| fatal(format!("Error truncating the AOF file {name}: {}", os_reason(&error))))?;
    match loses {
        true => log::warning(&format!("AOF {name} loaded anyway because aof-load-truncated is enabled")),
        false => {
            log::warning(&format!("AOF {name} ended with zeros, as a preallocated file does after a crash: no command is lost"))
        }
    }
    Ok(())
}

/// The length of a file up to the zeros at its end.
fn without_zeros(path: &Path, len: u64) -> io::Result<u64> {
    let file = File::open(path)?;
    let mut end = len;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(TAIL_BYTES);
        block.resize((end - start) as usize, 0);
        file.read_exact_at(&mut block, start)?;
        match block.iter().rposition(|&byte| byte != 0) {
            Some(last) => return Ok(start + last as u64 + 1),
            None => end = start,
        }
    }
    Ok(0)
}

fn shown(entry: &Entry) -> String {
    String::from_utf8_lossy(&entry.name).into_owned()
}

fn fatal<T>(message: String) -> Result<T, LoadError> {
    Err(LoadError::Fatal(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_for_many_keys_becomes_one_for_each_core() {
        let words: Vec<Vec<u8>> = (0..6).flat_map(|key| [format!("key:{key}").into_bytes(), b"v".to_vec()]).collect();
        let args: Vec<&[u8]> = std::iter::once(&b"mset"[..]).chain(words.iter().map(Vec::as_slice)).collect();
        let args = kvshard::command::ArgsBuf::from_slices(&args);
        let mut out = Vec::new();
        divide(args.args(), b"MSET", 2, 2, &mut out);
        let mut reader = AofReader::new();
        reader.feed(&out);
        let mut keys = Vec::new();
        while let Ok(Step::Command(command)) = reader.next() {
            assert!(command.args.is(0, "mset") && command.args.len() % 2 == 1);
            let owner = |at: usize| SlotId::of_key(command.args.at(at)).shard(2);
            assert!((1..command.args.len()).step_by(2).all(|at| owner(at) == owner(1)));
            keys.extend((1..command.args.len()).step_by(2).map(|at| command.args.at(at).to_vec()));
        }
        keys.sort();
        assert_eq!(keys, words.iter().step_by(2).cloned().collect::<Vec<_>>());
    }

    #[test]
    fn zeros_at_the_end_are_no_part_of_a_file() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("file");
        let block = TAIL_BYTES as usize;
        for (data, zeros) in
            [(0, 0), (0, 5), (1, 0), (7, 3), (7, block), (block, block), (block - 1, 3 * block + 1), (3 * block, 1)]
        {
            std::fs::write(&path, [vec![b'x'; data], vec![0; zeros]].concat()).expect("written");
            assert_eq!(without_zeros(&path, (data + zeros) as u64).expect("read"), data as u64, "{data} and {zeros}");
        }
    }
}
