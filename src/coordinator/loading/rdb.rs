//! Reading an RDB file and dividing its records among their owners.

use super::source::Source;
use super::{LoadError, Session};
use crate::config::structures::os_reason;
use crate::coordinator::Coordinator;
use crate::coordinator::contract::{Load, LoadTo};
use crate::observe::{clock, log};
use crate::replication::history::{Standing, StoredStanding};
use kvshard::codec::rdb::file::{Cause, Checksum, End, Event, FileError, FileReader, Record};
use kvshard::keyspace::load::LoadRules;
use kvshard::keyspace::slot::SlotId;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

/// Bytes of records that are sent at once.
const BATCH_BYTES: usize = 64 << 10;

impl Coordinator {
    /// Loads a file by itself, and says what it has said of replication; `None`: there is no file.
    pub(super) fn load_rdb(&self, path: &Path, rules: LoadRules, to: LoadTo) -> Result<Option<StoredStanding>, LoadError> {
        let mut source = match Source::open(path) {
            Ok(source) => source,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fatal(&os_reason(&error))),
        };
        let mut session = Session::begin(self, source.len, rules, to);
        let read = session.read_rdb(&mut source);
        session.finish(read, true).map(Some)
    }

    /// Loads what a primary sends while it comes. Keeps all of it or nothing.
    pub(super) fn load_stream(&self, mut source: Source, rules: LoadRules, to: LoadTo) -> Result<StoredStanding, LoadError> {
        let mut session = Session::begin(self, source.len, rules, to);
        let read = session.read_rdb(&mut source).and_then(|()| session.expect_end(&mut source));
        let taken = read.and_then(|()| if to == LoadTo::Beside { session.take_beside() } else { Ok(()) });
        session.finish(taken, false)
    }
}

/// Where a file stands in a replication stream, as it says before its first key. What is wrong with it is found when it is loaded.
pub(super) fn standing_of(path: &Path) -> Option<Standing> {
    let (mut reader, mut stored) = (FileReader::new(Checksum::Off), StoredStanding::default());
    let mut source = Source::open(path).ok()?;
    let chunk = source.next().ok()?;
    while let Ok(Some(Event::Aux { name, value })) = reader.next(chunk) {
        stored.field(&name, &value);
    }
    stored.standing()
}

impl Session<'_> {
    /// Reads an RDB up to its end, and waits until it is installed. What follows in the file is left in the source.
    pub(super) fn read_rdb(&mut self, source: &mut Source) -> Result<(), LoadError> {
        let config = self.node.current_config();
        let mut reader = FileReader::new(if config.rdbchecksum { Checksum::On } else { Checksum::Off });
        let mut batches = Batches::new(self.to_cores.cores());
        let path = source.path.clone();
        let rest = loop {
            self.await_bytes(source)?;
            let chunk = source.next()?;
            if chunk.is_empty() {
                reader.finish().map_err(|error| unreadable(&path, &error))?;
            }
            let mut rest = None;
            while let Some(event) = reader.next(chunk).map_err(|error| unreadable(&path, &error))? {
                match event {
                    Event::Key(record) => {
                        if let Some(core) = batches.add(&record) {
                            self.send_batch(&mut batches, core)?;
                        }
                        self.delay(record.offset)?;
                    }
                    Event::SelectDb(db) if db >= u64::from(config.databases) => return Err(too_many_databases(config.databases)),
                    Event::SelectDb(db) if db as usize != batches.db => {
                        self.send_batches(&mut batches)?;
                        batches.db = db as usize;
                    }
                    Event::SelectDb(_) | Event::ResizeDb { .. } => {}
                    Event::Aux { name, value } => self.take_aux(&name, &value),
                    Event::Function(_) => return Err(unsupported(&path, "function libraries")),
                    Event::ModuleAux { module } => {
                        let text = "The RDB file contains AUX module data I can't load: no matching module";
                        return Err(LoadError::Fatal(format!("{text} '{module}'")));
                    }
                    Event::End(end) => {
                        check_end(end)?;
                        rest = Some(reader.rest(chunk).len());
                        break;
                    }
                }
            }
            let offset = source.offset();
            self.read(offset - rest.unwrap_or(0) as u64)?;
            if let Some(rest) = rest {
                break rest;
            }
        };
        source.keep(rest);
        self.send_batches(&mut batches)?;
        self.flush()?;
        self.tell_keys();
        Ok(())
    }

    fn await_bytes(&self, source: &mut Source) -> Result<(), LoadError> {
        while !source.is_ready()? {
            self.look()?;
        }
        Ok(())
    }

    /// Nothing may follow the data set.
    fn expect_end(&self, source: &mut Source) -> Result<(), LoadError> {
        self.await_bytes(source)?;
        if source.next()?.is_empty() { Ok(()) } else { Err(fatal("bytes follow its end")) }
    }

    fn send_batches(&mut self, batches: &mut Batches) -> Result<(), LoadError> {
        (0..self.to_cores.cores()).try_for_each(|core| self.send_batch(batches, core))
    }

    fn send_batch(&mut self, batches: &mut Batches, core: usize) -> Result<(), LoadError> {
        let batch = &mut batches.by_core[core];
        if batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::replace(batch, Vec::with_capacity(BATCH_BYTES + BATCH_BYTES / 8));
        let bytes = batch.len();
        self.send(core, Load::Records { db: batches.db, batch }, bytes)
    }

    /// What the file says about itself, in Redis's words.
    fn take_aux(&mut self, name: &[u8], value: &[u8]) {
        self.stored.field(name, value);
        let text = String::from_utf8_lossy(value);
        match name {
            [b'%', ..] => log::notice(&format!("RDB '{}': {text}", String::from_utf8_lossy(name))),
            b"redis-ver" => log::notice(&format!("Loading RDB produced by version {text}")),
            b"ctime" => {
                let age_s = clock::wall_ms() / 1000 - number(&text);
                log::notice(&format!("RDB age {} seconds", age_s.max(0)));
            }
            b"used-mem" => {
                let bytes = number(&text);
                log::notice(&format!("RDB memory usage when created {:.2} Mb", bytes as f64 / f64::from(1 << 20)));
                self.node.persistence.load.rdb_used_memory.store(bytes.max(0) as u64, Ordering::Relaxed);
            }
            b"aof-preamble" if number(&text) != 0 => log::notice("RDB has an AOF tail"),
            b"aof-base" if number(&text) != 0 => log::notice("RDB is base AOF"),
            _ => {}
        }
    }

    fn tell_keys(&self) {
        let progress = &self.node.persistence.load;
        let [loaded, expired, empty] =
            [&progress.keys_loaded, &progress.keys_expired, &progress.empty_skipped].map(|figure| figure.load(Ordering::Relaxed));
        let skipped = if empty > 0 { format!(", empty keys skipped: {empty}") } else { String::new() };
        log::notice(&format!("Done loading RDB, keys loaded: {loaded}, keys expired: {expired}{skipped}."));
    }
}

/// Records collected for their owners, all of one database.
struct Batches {
    db: usize,
    by_core: Vec<Vec<u8>>,
}

impl Batches {
    fn new(cores: usize) -> Self {
        Batches { db: 0, by_core: vec![Vec::new(); cores] }
    }

    /// Adds a record; says whose batch is to be sent now.
    #[inline]
    fn add(&mut self, record: &Record<'_>) -> Option<usize> {
        let core = match self.by_core.len() {
            1 => 0,
            cores => usize::from(SlotId::of_key(&record.key).shard(cores as u16)),
        };
        let batch = &mut self.by_core[core];
        record.append_to(batch);
        (batch.len() >= BATCH_BYTES).then_some(core)
    }
}

/// The integer that a text is, else 0.
fn number(text: &str) -> i64 {
    text.trim().parse().unwrap_or(0)
}

fn check_end(end: End) -> Result<(), LoadError> {
    match end {
        End::ChecksumRight | End::ChecksumUnknown => {}
        End::ChecksumDisabled => log::notice("RDB file was saved with checksum disabled: no check performed."),
        End::ChecksumWrong => {
            log::warning("Wrong RDB checksum. Aborting now.");
            return Err(fatal("the RDB file's checksum is wrong: it is not what was written"));
        }
    }
    Ok(())
}

fn unreadable(path: &Path, error: &FileError) -> LoadError {
    match &error.cause {
        Cause::Signature | Cause::Version(_) => {
            log::warning(&error.cause.to_string());
            return fatal(&format!("{} is no RDB file that this version reads", path.display()));
        }
        _ => log::warning("Short read or OOM loading DB. Unrecoverable error, aborting now."),
    }
    fatal(&format!("{}: {error}; kvcore --check-rdb tells more", path.display()))
}

fn unsupported(path: &Path, what: &str) -> LoadError {
    fatal(&format!("{}: {what} are not supported yet", path.display()))
}

fn too_many_databases(databases: u32) -> LoadError {
    let text = "FATAL: Data file was created with a Redis server configured to handle more than";
    LoadError::Fatal(format!("{text} {databases} databases. Exiting"))
}

fn fatal(why: &str) -> LoadError {
    LoadError::Fatal(format!("Fatal error loading the DB: {why}. Exiting."))
}
