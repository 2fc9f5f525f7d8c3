//! Writing a snapshot: the cores' records, as they come, into a temporary file, which then takes the place of the old one.

use super::Coordinator;
use super::contract::{Piece, Snapshot, ToCore};
use super::status::Saving;
use crate::config::REDIS_VERSION;
use crate::observe::{clock, log, memory};
use crate::persistence::disk::{FileLayer, reason};
use crossbeam_channel::RecvTimeoutError;
use kvshard::codec::rdb::file::{Checksum, FileWriter, Preamble};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Bytes that are written at once.
const WRITE_BYTES: usize = 1 << 20;
/// Bytes after which the file's data is sent to the disk, so that the end has little left to wait for
/// (`rdb-save-incremental-fsync`).
const SYNC_BYTES: u64 = 32 << 20;
/// How often a save looks whether it is to be given up, while no piece comes.
const LOOK: Duration = Duration::from_millis(20);

/// Why there is no new file.
#[derive(Debug)]
pub enum SaveError {
    Create(PathBuf, io::Error),
    Write(io::Error),
    Rename(PathBuf, io::Error),
    /// FLUSHALL, or the node's end.
    GivenUp,
}

impl std::fmt::Display for SaveError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let directory = || std::env::current_dir().unwrap_or_default().display().to_string();
        match self {
            SaveError::Create(path, error) => {
                let path = path.display();
                write!(
                    f,
                    "Failed opening the temp RDB file {path} (in server root dir {}) for saving: {}",
                    directory(),
                    reason(error)
                )
            }
            SaveError::Write(error) => write!(f, "Write error saving DB on disk: {}", reason(error)),
            SaveError::Rename(path, error) => write!(
                f,
                "Error moving temp DB file on the final destination {} (in server root dir {}): {}",
                path.display(),
                directory(),
                reason(error)
            ),
            SaveError::GivenUp => f.write_str("Background saving was given up"),
        }
    }
}

impl Coordinator {
    /// Writes a snapshot, and tells everyone how it went.
    pub(super) fn save(&self, disk: &mut impl FileLayer, snapshot: Snapshot) {
        let persistence = &self.node.persistence;
        let checksum = if self.node.current_config().rdbchecksum { Checksum::On } else { Checksum::Off };
        let temporary = temporary_name(&snapshot.path);
        let given_up = || persistence.give_up.load(Ordering::Relaxed);
        let written = |keys| {
            persistence.keys_written.fetch_add(keys, Ordering::Relaxed);
        };
        let result = write(disk, &snapshot, &temporary, checksum, given_up, written);
        if result.is_err() {
            let _may_not_exist = disk.remove(&temporary);
        }
        // From here on the cores find nobody who takes their pieces, and give their cuts up.
        let Snapshot { saving, changes, pieces, .. } = snapshot;
        drop(pieces);
        self.settle(saving, changes, &result);
    }

    fn settle(&self, saving: Saving, changes: u64, result: &Result<u64, SaveError>) {
        let persistence = &self.node.persistence;
        let now_s = clock::wall_ms() / 1000;
        match result {
            Ok(_) => {
                persistence.last_save.store(now_s, Ordering::Relaxed);
                persistence.saved_changes.store(changes, Ordering::Relaxed);
                log::notice("DB saved on disk");
            }
            Err(error) => log::warning(&error.to_string()),
        }
        {
            let mut rdb = persistence.rdb();
            rdb.saves += u64::from(result.is_ok());
            rdb.pieces = None;
            if let (Some(running), Saving::Background) = (rdb.running.take(), saving) {
                rdb.last_duration_s = running.began.elapsed().as_secs() as i64;
            }
        }
        match saving {
            Saving::Background => {
                match result {
                    Ok(_) => log::notice("Background saving terminated with success"),
                    Err(SaveError::GivenUp) => log::warning("Background saving terminated by signal 10"),
                    Err(_) => log::warning("Background saving error"),
                }
                // As Redis: a save that was stopped on purpose is no failure.
                if !matches!(result, Err(SaveError::GivenUp)) {
                    persistence.rdb_failed.store(result.is_err(), Ordering::Relaxed);
                }
            }
            Saving::Foreground(to) => {
                let reply = if result.is_ok() { b"+OK\r\n".to_vec() } else { b"-ERR\r\n".to_vec() };
                persistence.rdb_failed.store(result.is_err(), Ordering::Relaxed);
                self.to_cores.tell(to.core, ToCore::Reply { to, reply });
            }
            Saving::Reload(reload) if result.is_ok() => self.reload(reload),
            Saving::Reload(reload) => self.reloaded(reload, b"-ERR\r\n"),
            Saving::Shutdown => self.node.shutdown.saved(result.is_ok(), &self.to_cores),
        }
    }
}

/// `temp-<pid>.rdb`, beside the file that it becomes.
fn temporary_name(path: &Path) -> PathBuf {
    path.with_file_name(format!("temp-{}.rdb", std::process::id()))
}

/// Writes the file; says how many bytes it has.
fn write(
    disk: &mut impl FileLayer,
    snapshot: &Snapshot,
    temporary: &Path,
    checksum: Checksum,
    given_up: impl Fn() -> bool,
    written: impl Fn(u64),
) -> Result<u64, SaveError> {
    let file = disk.create(temporary).map_err(|error| SaveError::Create(temporary.to_owned(), error))?;
    let mut output = Output { disk, file, buffer: Vec::with_capacity(WRITE_BYTES + WRITE_BYTES / 4), at: 0, synced: 0 };
    let mut writer = FileWriter::new(checksum, snapshot.compression);
    let preamble = Preamble {
        redis_version: REDIS_VERSION,
        created_s: (clock::wall_ms() / 1000) as u64,
        used_memory_bytes: memory::used(),
        aof_base: false,
        replication: None,
    };
    writer.header(&preamble, &mut output.buffer);
    for (db, &(keys, expiring)) in snapshot.databases.iter().enumerate().filter(|(_, (keys, _))| *keys > 0) {
        writer.select_db(db as u64, &mut output.buffer);
        writer.resize_db(keys, expiring, &mut output.buffer);
    }
    let mut cores_left = snapshot.cores;
    while cores_left > 0 {
        if given_up() {
            return Err(SaveError::GivenUp);
        }
        let Piece { records, keys, ended } = match snapshot.pieces.recv_timeout(LOOK) {
            Ok(piece) => piece,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Err(SaveError::GivenUp),
        };
        writer.records(&records, &mut output.buffer);
        written(keys);
        cores_left -= usize::from(ended);
        output.write_if(WRITE_BYTES)?;
    }
    writer.end(&mut output.buffer);
    output.write_if(1)?;
    let Output { disk, file, at, .. } = output;
    disk.sync(&file).map_err(SaveError::Write)?;
    disk.rename(temporary, &snapshot.path).map_err(|error| SaveError::Rename(snapshot.path.clone(), error))?;
    let directory = snapshot.path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    disk.sync_directory(directory).map_err(SaveError::Write)?;
    Ok(at)
}

/// A file in the making.
struct Output<'d, D> {
    disk: &'d mut D,
    file: File,
    buffer: Vec<u8>,
    /// Bytes written.
    at: u64,
    /// Bytes known to be on disk.
    synced: u64,
}

impl<D: FileLayer> Output<'_, D> {
    /// Writes the buffer out if it holds so many bytes.
    fn write_if(&mut self, bytes: usize) -> Result<(), SaveError> {
        if self.buffer.len() < bytes {
            return Ok(());
        }
        let len = self.buffer.len() as u64;
        let (mut buffer, written) = self.disk.write(&self.file, std::mem::take(&mut self.buffer), self.at);
        written.map_err(SaveError::Write)?;
        buffer.clear();
        self.buffer = buffer;
        self.at += len;
        if self.at - self.synced >= SYNC_BYTES {
            self.disk.sync(&self.file).map_err(SaveError::Write)?;
            self.synced = self.at;
        }
        Ok(())
    }
}
