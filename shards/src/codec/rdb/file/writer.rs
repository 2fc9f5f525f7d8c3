//! Writing a file into a buffer that the caller empties as it likes.

use super::super::{Compression, RDB_VERSION, encode_value, value_type, write_length, write_string};
use super::{Checksum, MAGIC, opcode};
use crate::codec::crc64::crc64;
use crate::keyspace::Value;

/// What a file says about itself at its beginning.
#[derive(Clone, Copy, Debug)]
pub struct Preamble<'a> {
    pub redis_version: &'a str,
    /// Seconds since 1970.
    pub created_s: u64,
    pub used_memory_bytes: u64,
    /// Whether it is the base of an append-only file.
    pub aof_base: bool,
    /// Where the file stands in a replication stream.
    pub replication: Option<Replication<'a>>,
}

#[derive(Clone, Copy, Debug)]
pub struct Replication<'a> {
    /// The database selected at this point of the stream; -1 if none is.
    pub stream_db: i64,
    pub id: &'a str,
    pub offset: u64,
}

/// How a key was used, where the eviction policy keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    IdleSeconds(u64),
    /// The logarithmic counter of LFU.
    Frequency(u8),
}

/// Appends one key with all that belongs to it. Needs no writer, so several cores can encode at once; the pieces go into
/// the file by [`FileWriter::records`].
pub fn encode_record(
    key: &[u8],
    value: Value<'_>,
    expiry_ms: Option<i64>,
    access: Option<Access>,
    compression: Compression,
    out: &mut Vec<u8>,
) {
    attributes(expiry_ms, access, out);
    out.push(value_type(value));
    write_string(key, compression, out);
    encode_value(value, compression, out);
}

/// Appends the opcode that says which database the records behind it belong to.
pub fn select_db(db: u64, out: &mut Vec<u8>) {
    out.push(opcode::SELECT_DB);
    write_length(db, out);
}

/// Appends what stands before the type.
pub(super) fn attributes(expiry_ms: Option<i64>, access: Option<Access>, out: &mut Vec<u8>) {
    if let Some(at_ms) = expiry_ms {
        out.push(opcode::EXPIRY_MS);
        out.extend_from_slice(&at_ms.to_le_bytes());
    }
    match access {
        Some(Access::IdleSeconds(seconds)) => {
            out.push(opcode::IDLE);
            write_length(seconds, out);
        }
        Some(Access::Frequency(frequency)) => out.extend_from_slice(&[opcode::FREQUENCY, frequency]),
        None => {}
    }
}

/// The running checksum of a file in the making. Every method appends to `out`, which may be emptied between calls.
pub struct FileWriter {
    checksum: Checksum,
    compression: Compression,
    crc: u64,
    written: u64,
}

impl FileWriter {
    pub fn new(checksum: Checksum, compression: Compression) -> Self {
        FileWriter { checksum, compression, crc: 0, written: 0 }
    }

    /// Bytes of the file so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Magic, version and auxiliary fields, in Redis's order.
    pub fn header(&mut self, about: &Preamble<'_>, out: &mut Vec<u8>) {
        self.append(out, |out, compression| {
            out.extend_from_slice(MAGIC);
            out.extend_from_slice(format!("{RDB_VERSION:04}").as_bytes());
            let mut aux = |name: &str, value: &str| {
                out.push(opcode::AUX);
                write_string(name.as_bytes(), compression, out);
                write_string(value.as_bytes(), compression, out);
            };
            aux("redis-ver", about.redis_version);
            aux("redis-bits", &usize::BITS.to_string());
            aux("ctime", &about.created_s.to_string());
            aux("used-mem", &about.used_memory_bytes.to_string());
            if let Some(replication) = &about.replication {
                aux("repl-stream-db", &replication.stream_db.to_string());
                aux("repl-id", replication.id);
                aux("repl-offset", &replication.offset.to_string());
            }
            aux("aof-base", if about.aof_base { "1" } else { "0" });
        });
    }

    pub fn select_db(&mut self, db: u64, out: &mut Vec<u8>) {
        self.append(out, |out, _| select_db(db, out));
    }

    /// How many keys the selected database has, and how many of them expire.
    pub fn resize_db(&mut self, keys: u64, expiring: u64, out: &mut Vec<u8>) {
        self.append(out, |out, _| {
            out.push(opcode::RESIZE_DB);
            write_length(keys, out);
            write_length(expiring, out);
        });
    }

    pub fn record(&mut self, key: &[u8], value: Value<'_>, expiry_ms: Option<i64>, access: Option<Access>, out: &mut Vec<u8>) {
        self.append(out, |out, compression| encode_record(key, value, expiry_ms, access, compression, out));
    }

    /// Records that [`encode_record`] made.
    pub fn records(&mut self, records: &[u8], out: &mut Vec<u8>) {
        self.append(out, |out, _| out.extend_from_slice(records));
    }

    /// The last bytes of the file.
    pub fn end(mut self, out: &mut Vec<u8>) {
        self.append(out, |out, _| out.push(opcode::END));
        // Without a checksum it is 0, which says so.
        out.extend_from_slice(&self.crc.to_le_bytes());
    }

    fn append(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>, Compression)) {
        let from = out.len();
        write(out, self.compression);
        self.written += (out.len() - from) as u64;
        if self.checksum == Checksum::On {
            self.crc = crc64(self.crc, &out[from..]);
        }
    }
}
