//! What a snapshot's file consists of: an RDB, or (the base of an append-only file with `aof-use-rdb-preamble no`) the commands that
//! make the same data.

use crate::config::REDIS_VERSION;
use crate::observe::{clock, memory};
use crate::replication::history::Standing;
use ahash::RandomState;
use kvshard::Settings;
use kvshard::codec::commands::write_value;
use kvshard::codec::rdb::file::{Checksum, Event, FileError, FileReader, FileWriter, Preamble, Replication};
use kvshard::codec::rdb::{Compression, RDB_VERSION, ValueLimits};
use kvshard::effects::write_command;

/// Turns the cores' records into bytes of the file.
pub enum Body {
    Rdb(FileWriter),
    Commands(Box<Commands>),
}

/// Records as commands.
pub struct Commands {
    limits: ValueLimits,
    /// The database that the commands so far have selected.
    selected: Option<u64>,
}

impl Body {
    /// An RDB, whose header goes to `out`. `databases`: how many keys, and keys that expire, each has. `standing`: where it is in the
    /// replication stream.
    pub fn rdb(
        checksum: Checksum,
        compression: Compression,
        aof_base: bool,
        databases: &[(u64, u64)],
        standing: Option<&Standing>,
        out: &mut Vec<u8>,
    ) -> Body {
        let mut writer = FileWriter::new(checksum, compression);
        let preamble = Preamble {
            redis_version: REDIS_VERSION,
            created_s: (clock::wall_ms() / 1000) as u64,
            used_memory_bytes: memory::used(),
            aof_base,
            replication: standing.map(|standing| Replication {
                stream_db: standing.db.into(),
                id: standing.id.as_str(),
                offset: standing.offset.0,
            }),
        };
        writer.header(&preamble, out);
        for (db, &(keys, expiring)) in databases.iter().enumerate().filter(|(_, (keys, _))| *keys > 0) {
            writer.select_db(db as u64, out);
            writer.resize_db(keys, expiring, out);
        }
        Body::Rdb(writer)
    }

    pub fn commands() -> Body {
        // The values are only read again: whatever encodings they get here are as good as any.
        let limits = ValueLimits::new(&Settings::default(), &RandomState::new());
        Body::Commands(Box::new(Commands { limits, selected: None }))
    }

    /// Appends the records of one piece.
    pub fn records(&mut self, records: &[u8], out: &mut Vec<u8>) {
        match self {
            Body::Rdb(writer) => writer.records(records, out),
            Body::Commands(commands) => commands.records(records, out).expect("the cores write records that can be read"),
        }
    }

    pub fn end(self, out: &mut Vec<u8>) {
        match self {
            Body::Rdb(writer) => writer.end(out),
            Body::Commands(_) => {}
        }
    }
}

impl Commands {
    fn records(&mut self, records: &[u8], out: &mut Vec<u8>) -> Result<(), FileError> {
        let mut reader = FileReader::new(Checksum::Off);
        let header = format!("REDIS{RDB_VERSION:04}");
        let nothing_yet = reader.next(header.as_bytes())?;
        debug_assert!(nothing_yet.is_none(), "a header is no event");
        let mut db = None;
        while let Some(event) = reader.next(records)? {
            match event {
                Event::SelectDb(number) => db = Some(number),
                Event::Key(record) => {
                    if self.selected != db {
                        let number = db.unwrap_or_default();
                        write_command(out, [&b"SELECT"[..], itoa::Buffer::new().format(number).as_bytes()].into_iter());
                        self.selected = db;
                    }
                    let entry = record.entry(&self.limits)?;
                    write_value(&record.key, entry.value(), record.expiry_ms, out, &mut |_| {});
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvshard::codec::rdb::file::{encode_record, select_db};
    use kvshard::keyspace::Value;

    #[test]
    fn records_become_the_commands_that_make_their_keys() {
        let mut piece = Vec::new();
        select_db(3, &mut piece);
        encode_record(b"a", Value::Integer(5), Some(1_900_000_000_000), None, Compression::None, &mut piece);
        encode_record(b"b", Value::Short(b"text"), None, None, Compression::None, &mut piece);
        let mut other = Vec::new();
        select_db(0, &mut other);
        encode_record(b"c", Value::Integer(1), None, None, Compression::None, &mut other);
        let (mut body, mut out) = (Body::commands(), Vec::new());
        [&piece, &piece, &other].into_iter().for_each(|piece| body.records(piece, &mut out));
        body.end(&mut out);
        let text = String::from_utf8(out).unwrap().replace("\r\n", " ");
        let keys = "*3 $3 SET $1 a $1 5 *3 $9 PEXPIREAT $1 a $13 1900000000000 *3 $3 SET $1 b $4 text ";
        assert_eq!(text, format!("*2 $6 SELECT $1 3 {keys}{keys}*2 $6 SELECT $1 0 *3 $3 SET $1 c $1 1 "));
    }
}
