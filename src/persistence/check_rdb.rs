//! `kvcore --check-rdb FILE`, also under the name redis-check-rdb: reads a file to its end and says what is wrong with it.
//!
//! Prints what redis-check-rdb 7.0.15 prints, for good files, for files that end early and for what is no RDB file at all.
//! Damage inside values has words of its own, because Redis's name lines of its source there. Streams, functions and
//! modules are walked, not understood. Loads nothing: memory is that of the largest key.

use crate::observe::clock::wall_ms;
use ahash::RandomState;
use kvshard::Settings;
use kvshard::codec::ValueLimits;
use kvshard::codec::rdb::file::{Cause, Checksum, End, Event, FileError, FileReader, Reading, Record};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;

/// Bytes read from the file at once.
const CHUNK_BYTES: usize = 1 << 20;
/// Longest message, as in Redis.
const MESSAGE_BYTES_MAX: usize = 1023;

/// The names of the value types; Redis has none for newer ones.
const TYPE_NAMES: [&str; 19] = [
    "string",
    "list-linked",
    "set-hashtable",
    "zset-v1",
    "hash-hashtable",
    "zset-v2",
    "module-value",
    "",
    "",
    "hash-zipmap",
    "list-ziplist",
    "set-intset",
    "zset-ziplist",
    "hash-ziplist",
    "quicklist",
    "stream",
    "hash-listpack",
    "zset-listpack",
    "quicklist-v2",
];

/// Checks the file at `path` and reports to `out`; `Ok(true)` if all of it is good. `now_ms` tells expired keys.
pub fn check_rdb(path: &OsStr, now_ms: i64, out: &mut impl Write) -> io::Result<bool> {
    let mut check = Check { out, now_ms, keys: 0, expires: 0, expired: 0, end: 0 };
    check.line(0, &[b"Checking RDB file ", path.as_bytes()])?;
    let is_good = match File::open(path) {
        Ok(file) => check.run(file)?,
        Err(_) => false,
    };
    check.out.flush()?;
    Ok(is_good)
}

/// Checks the RDB that the append-only file `name` begins with, in the same words; tells where it ends if it is good.
pub fn check_preamble(name: &str, file: &mut File, mut out: &mut dyn Write) -> Option<u64> {
    let mut check = Check { out: &mut out, now_ms: wall_ms(), keys: 0, expires: 0, expired: 0, end: 0 };
    let is_good = check.line(0, &[b"Checking RDB file ", name.as_bytes()]).and_then(|()| check.run(file));
    is_good.unwrap_or(false).then_some(check.end)
}

/// What was seen so far.
struct Check<'a, W: Write> {
    out: &'a mut W,
    now_ms: i64,
    keys: u64,
    expires: u64,
    expired: u64,
    /// Where the RDB ends, once it has.
    end: u64,
}

impl<W: Write> Check<'_, W> {
    fn run(&mut self, mut file: impl Read) -> io::Result<bool> {
        let limits = ValueLimits::new(&Settings::default(), &RandomState::new());
        let mut reader = FileReader::new(Checksum::On);
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            // A file that cannot be read on ends here, as for Redis.
            let read = match file.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.unwrap_or(0),
            };
            if read == 0 {
                return match reader.finish() {
                    Ok(()) => Ok(true),
                    Err(error) => self.failed(&error),
                };
            }
            if let Some(is_good) = self.chunk(&mut reader, &buffer[..read], &limits)? {
                return Ok(is_good);
            }
        }
    }

    /// The verdict, once there is one.
    fn chunk(&mut self, reader: &mut FileReader, chunk: &[u8], limits: &ValueLimits) -> io::Result<Option<bool>> {
        loop {
            let event = match reader.next(chunk) {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(None),
                Err(error) => return self.failed(&error).map(Some),
            };
            // The borrow of the event ends before the reader is asked where it stands.
            let told = match event {
                Event::Aux { name, value } => Told::Line(joined(&[b"AUX FIELD ", text(&name), b" = '", text(&value), b"'"])),
                Event::SelectDb(db) => Told::Line(format!("Selecting DB ID {db}").into_bytes()),
                Event::ModuleAux { module } => Told::Line(format!("MODULE AUX for: {module}").into_bytes()),
                Event::ResizeDb { .. } | Event::Function(_) => Told::Nothing,
                Event::Key(record) => match self.key(&record, limits) {
                    Ok(()) => Told::Nothing,
                    Err(error) => return self.failed(&error).map(Some),
                },
                Event::End(end) => Told::End(end),
            };
            match told {
                Told::Nothing => {}
                Told::Line(line) => self.line(reader.offset(), &[&line])?,
                Told::End(end) => return self.ended(end, reader.offset()).map(Some),
            }
        }
    }

    fn key(&mut self, record: &Record<'_>, limits: &ValueLimits) -> Result<(), FileError> {
        if record.unsupported().is_none() {
            record.entry(limits)?;
        }
        self.keys += 1;
        if let Some(at_ms) = record.expiry_ms {
            self.expires += 1;
            self.expired += u64::from(at_ms < self.now_ms);
        }
        Ok(())
    }

    fn ended(&mut self, end: End, offset: u64) -> io::Result<bool> {
        self.end = offset;
        match end {
            End::ChecksumRight => self.line(offset, &[b"Checksum OK"])?,
            End::ChecksumDisabled => {
                self.line(offset, &[b"RDB file was saved with checksum disabled: no check performed."])?;
            }
            End::ChecksumUnknown => {}
            End::ChecksumWrong => {
                let value_type = (self.keys == 0).then_some(0);
                self.report(offset, b"RDB CRC error", Reading::Checksum, None, value_type)?;
                return Ok(false);
            }
        }
        self.line(offset, &[b"\\o/ RDB looks OK! \\o/"])?;
        self.counts()?;
        Ok(true)
    }

    fn failed(&mut self, error: &FileError) -> io::Result<bool> {
        // Redis begins with type 0, before it has seen any.
        let value_type = error.value_type.or((self.keys == 0).then_some(0));
        // A key counts as read before its value is.
        self.keys += u64::from(error.reading == Reading::Value);
        let message = match (error.reading, &error.cause) {
            (Reading::Function, Cause::Incomplete) => "Failed loading library, Failed loading library payload".to_owned(),
            (_, cause) => cause.to_string(),
        };
        self.report(error.offset, message.as_bytes(), error.reading, error.key.as_deref(), value_type)?;
        Ok(false)
    }

    fn report(
        &mut self,
        offset: u64,
        message: &[u8],
        reading: Reading,
        key: Option<&[u8]>,
        value_type: Option<u8>,
    ) -> io::Result<()> {
        writeln!(self.out, "--- RDB ERROR DETECTED ---")?;
        self.line(offset, &[message])?;
        writeln!(self.out, "[additional info] While doing: {}", doing(reading))?;
        if let Some(key) = key {
            self.out.write_all(&joined(&[b"[additional info] Reading key '", text(key), b"'\n"]))?;
        }
        if let Some(value_type) = value_type {
            let name = TYPE_NAMES.get(usize::from(value_type)).unwrap_or(&"unknown");
            writeln!(self.out, "[additional info] Reading type {value_type} ({name})")?;
        }
        self.counts()
    }

    fn counts(&mut self) -> io::Result<()> {
        writeln!(self.out, "[info] {} keys read", self.keys)?;
        writeln!(self.out, "[info] {} expires", self.expires)?;
        writeln!(self.out, "[info] {} already expired", self.expired)
    }

    fn line(&mut self, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        let line = joined(parts);
        write!(self.out, "[offset {offset}] ")?;
        self.out.write_all(&line[..line.len().min(MESSAGE_BYTES_MAX)])?;
        self.out.write_all(b"\n")
    }
}

/// What an event makes the check print.
enum Told {
    Nothing,
    Line(Vec<u8>),
    End(End),
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// Bytes as C prints them: up to the first zero.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Redis's word for what is being read.
fn doing(reading: Reading) -> &'static str {
    match reading {
        Reading::Header => "start",
        Reading::Type => "read-type",
        Reading::Expiry => "read-expire",
        Reading::Key => "read-key",
        Reading::Value => "read-object-value",
        Reading::Checksum => "check-sum",
        Reading::Length => "read-len",
        Reading::Aux => "read-aux",
        Reading::ModuleAux => "read-module-aux",
        Reading::Function => "read-functions",
    }
}
