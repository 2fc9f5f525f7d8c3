//! Writing a snapshot: the cores' records, as they come, into a temporary file, which then takes the place of the old one.

use super::Coordinator;
use super::aof::{AofError, temporary_base};
use super::body::Body;
use super::contract::{Piece, Snapshot, ToCore};
use super::status::Saving;
use crate::config::structures::os_reason;
use crate::observe::{clock, log};
use crate::peers::contract::{SnapshotStep, ToPeers};
use crate::persistence::disk::FileLayer;
use crossbeam_channel::RecvTimeoutError;
use kvshard::codec::rdb::Compression;
use kvshard::codec::rdb::file::Checksum;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Bytes that are written at once.
const WRITE_BYTES: usize = 256 << 10;
/// Bytes after which the file's data is sent to the disk, so that the end has little left to wait for
/// (`rdb-save-incremental-fsync`).
const SYNC_BYTES: u64 = 32 << 20;
/// How often a save looks whether it is to be given up, while no piece comes.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes of a snapshot that go to replicas at once, and those that may be on their way there.
const STREAM_BYTES: usize = 64 << 10;
const STREAM_WINDOW_BYTES: usize = 1 << 20;
const STREAM_LOOK: Duration = Duration::from_millis(1);

/// Why there is no new file.
#[derive(Debug)]
pub enum SaveError {
    Create(PathBuf, io::Error),
    /// With Redis's name for the step.
    Write(&'static str, io::Error),
    Rename {
        from: PathBuf,
        to: PathBuf,
        error: io::Error,
    },
    Aof(AofError),
    /// FLUSHALL, or the node's end.
    GivenUp,
}

impl std::fmt::Display for SaveError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let root = || std::env::current_dir().map_or_else(|_| "unknown".to_owned(), |path| path.display().to_string());
        match self {
            SaveError::Create(path, error) => write!(
                f,
                "Failed opening the temp RDB file {} (in server root dir {}) for saving: {}",
                name(path),
                root(),
                os_reason(error)
            ),
            SaveError::Write(step, error) => write!(f, "Write error saving DB on disk({step}): {}", os_reason(error)),
            SaveError::Rename { from, to, error } => write!(
                f,
                "Error moving temp DB file {} on the final destination {} (in server root dir {}): {}",
                name(from),
                name(to),
                root(),
                os_reason(error)
            ),
            SaveError::GivenUp => f.write_str("Saving was given up"),
            SaveError::Aof(error) => write!(f, "{error}"),
        }
    }
}

impl Coordinator {
    /// Writes a snapshot, and tells everyone how it went.
    pub(super) fn save(&mut self, disk: &mut impl FileLayer, snapshot: Snapshot) {
        let result = match snapshot.saving {
            Saving::Rewrite { first_kept } => self.write_base(disk, &snapshot, first_kept),
            Saving::Replicas { streamed: true, .. } => self.stream(&snapshot),
            _ => self.write_rdb(disk, &snapshot),
        };
        // From here on the cores find nobody who takes their pieces, and give their cuts up.
        let Snapshot { saving, changes, pieces, path, .. } = snapshot;
        drop(pieces);
        match saving {
            Saving::Replicas { streamed, .. } => self.settle_for_replicas(streamed, path, changes, &result),
            Saving::Rewrite { .. } => self.settle_rewrite(disk, &result),
            _ => self.settle(saving, changes, &result),
        }
    }

    /// Sends a snapshot to the replicas instead of writing a file.
    fn stream(&self, snapshot: &Snapshot) -> Result<(), SaveError> {
        let replication = &self.node.replication;
        let given_up = || self.node.persistence.give_up.load(Ordering::Relaxed);
        let send = |buffer: &mut Vec<u8>| {
            while replication.snapshot_bytes.load(Ordering::Relaxed) > STREAM_WINDOW_BYTES {
                if given_up() || self.node.shutdown.is_requested() {
                    return Err(SaveError::GivenUp);
                }
                std::thread::sleep(STREAM_LOOK);
            }
            replication.snapshot_bytes.fetch_add(buffer.len(), Ordering::Relaxed);
            replication.tell(ToPeers::Snapshot(SnapshotStep::Bytes(std::mem::take(buffer))));
            Ok(())
        };
        let mut buffer = Vec::new();
        let checksum = if self.node.current_config().rdbchecksum { Checksum::On } else { Checksum::Off };
        let standing = snapshot.standing();
        let mut body = Body::rdb(checksum, snapshot.compression, false, &snapshot.databases, standing.as_ref(), &mut buffer);
        collect(snapshot, &mut body, &mut buffer, given_up, self.written(), |buffer| {
            if buffer.len() < STREAM_BYTES { Ok(()) } else { send(buffer) }
        })?;
        body.end(&mut buffer);
        send(&mut buffer)
    }

    fn settle_for_replicas(&self, streamed: bool, path: PathBuf, changes: u64, result: &Result<(), SaveError>) {
        self.note_outcome((!streamed).then_some(changes), result);
        match result {
            Ok(()) if streamed => log::notice("Background RDB transfer terminated with success"),
            Ok(()) => log::notice("Background saving terminated with success"),
            Err(SaveError::GivenUp) => log::warning("Background transfer terminated by signal 10"),
            Err(_) => log::warning("Background transfer error"),
        }
        self.node.persistence.rdb().has_ended();
        let step = match result {
            Ok(()) if streamed => SnapshotStep::Whole,
            Ok(()) => SnapshotStep::File(path),
            Err(_) => SnapshotStep::Failed,
        };
        self.node.replication.tell(ToPeers::Snapshot(step));
    }

    fn write_rdb(&self, disk: &mut impl FileLayer, snapshot: &Snapshot) -> Result<(), SaveError> {
        let temporary = temporary_name(&snapshot.path);
        self.write(disk, snapshot, Target { temporary: &temporary, path: &snapshot.path, form: Form::Rdb })
    }

    pub(super) fn write(&self, disk: &mut impl FileLayer, snapshot: &Snapshot, target: Target<'_>) -> Result<(), SaveError> {
        let persistence = &self.node.persistence;
        let checksum = if self.node.current_config().rdbchecksum { Checksum::On } else { Checksum::Off };
        let given_up = || persistence.give_up.load(Ordering::Relaxed);
        write(disk, snapshot, target, checksum, given_up, self.written())
    }

    /// What is to be called for each piece that was taken.
    fn written(&self) -> impl Fn(usize, u64) {
        let persistence = &self.node.persistence;
        |bytes, keys| {
            persistence.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            persistence.keys_written.fetch_add(keys, Ordering::Relaxed);
        }
    }

    /// An empty base, for a node that has nothing to append to.
    pub(super) fn write_empty_base(&self, disk: &mut impl FileLayer, path: &Path, form: Form) -> Result<(), SaveError> {
        let (_, pieces) = crossbeam_channel::bounded(0);
        let snapshot = Snapshot {
            saving: Saving::Rewrite { first_kept: i64::MAX },
            path: path.to_owned(),
            compression: Compression::None,
            key_delay_us: 0,
            pieces,
            cores: 0,
            databases: Vec::new(),
            changes: 0,
            standing: None,
        };
        self.write(disk, &snapshot, Target { temporary: &temporary_base(), path, form })
    }

    fn settle_rewrite(&mut self, disk: &mut impl FileLayer, result: &Result<(), SaveError>) {
        if let Err(error) = result {
            log::warning(&error.to_string());
            self.forget_unstored(disk);
        }
        match result {
            Ok(()) => {
                log::notice("Background AOF rewrite terminated with success");
                log::notice("Background AOF rewrite finished successfully");
            }
            // As Redis: a rewrite that was stopped on purpose is no failure.
            Err(SaveError::GivenUp) => log::warning("Background AOF rewrite terminated by signal 10"),
            Err(_) => log::warning("Background AOF rewrite terminated with error"),
        }
        let mut rdb = self.node.persistence.rdb();
        let mut aof = self.node.persistence.aof();
        match result {
            Ok(()) => (aof.last_failed, aof.consecutive_failures) = (false, 0),
            Err(SaveError::GivenUp) => {}
            Err(_) => aof.rewrite_failed(),
        }
        aof.rewrites += 1;
        aof.last_duration_s = rdb.has_ended();
        aof.last_try_ms = clock::wall_ms();
    }

    /// `changes`: those that are on disk now.
    fn note_outcome(&self, changes: Option<u64>, result: &Result<(), SaveError>) {
        let persistence = &self.node.persistence;
        match (result, changes) {
            (Ok(()), Some(changes)) => {
                persistence.last_save.store(clock::wall_ms() / 1000, Ordering::Relaxed);
                persistence.saved_changes.store(changes, Ordering::Relaxed);
                log::notice("DB saved on disk");
            }
            (Ok(()), None) => {}
            (Err(error), _) => log::warning(&error.to_string()),
        }
    }

    fn settle(&self, saving: Saving, changes: u64, result: &Result<(), SaveError>) {
        let persistence = &self.node.persistence;
        self.note_outcome(Some(changes), result);
        // What became of it is known before it counts as ended: whoever sees the end may ask for the outcome.
        match (saving, result) {
            (Saving::Background, Ok(_)) => {
                log::notice("Background saving terminated with success");
                persistence.rdb_failed.store(false, Ordering::Relaxed);
            }
            // As Redis: a save that was stopped on purpose is no failure.
            (Saving::Background, Err(SaveError::GivenUp)) => log::warning("Background saving terminated by signal 10"),
            (Saving::Background, Err(_)) => {
                log::warning("Background saving error");
                persistence.rdb_failed.store(true, Ordering::Relaxed);
            }
            // As Redis: the status is about background saves, which another that works puts right and one that fails leaves.
            _ => drop(persistence.rdb_failed.fetch_and(result.is_err(), Ordering::Relaxed)),
        }
        {
            let mut rdb = persistence.rdb();
            let seconds = rdb.has_ended();
            if matches!(saving, Saving::Background) {
                rdb.last_duration_s = seconds;
            }
        }
        match saving {
            Saving::Foreground(to) => {
                let reply = if result.is_ok() { b"+OK\r\n".to_vec() } else { b"-ERR\r\n".to_vec() };
                self.to_cores.tell(to.core, ToCore::Reply { to, reply });
            }
            Saving::Reload(reload) if result.is_ok() => self.reload(reload),
            Saving::Reload(reload) => self.reopen(reload.asker, b"-ERR\r\n"),
            Saving::Shutdown => self.node.shutdown.saved(result.is_ok(), &self.to_cores),
            Saving::Background | Saving::Replicas { .. } | Saving::Rewrite { .. } => {}
        }
    }
}

/// `temp-<pid>.rdb`, beside the file that it becomes.
fn temporary_name(path: &Path) -> PathBuf {
    path.with_file_name(format!("temp-{}.rdb", std::process::id()))
}

/// The file to be written.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    /// Where it is made, and where it goes once it is whole.
    pub temporary: &'a Path,
    pub path: &'a Path,
    pub form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    Rdb,
    /// The base of an append-only file, and says so.
    RdbBase,
    /// The same without an RDB.
    Commands,
}

/// Writes the file, or leaves none.
fn write(
    disk: &mut impl FileLayer,
    snapshot: &Snapshot,
    target: Target<'_>,
    checksum: Checksum,
    given_up: impl Fn() -> bool,
    written: impl Fn(usize, u64),
) -> Result<(), SaveError> {
    let Target { temporary, path, form } = target;
    let mut output = Output::create(disk, temporary)?;
    let (databases, standing) = (&snapshot.databases, snapshot.standing());
    let mut buffer = std::mem::take(&mut output.buffer);
    let mut body = match form {
        Form::Commands => Body::commands(),
        _ => Body::rdb(checksum, snapshot.compression, form == Form::RdbBase, databases, standing.as_ref(), &mut buffer),
    };
    collect(snapshot, &mut body, &mut buffer, &given_up, written, |buffer| {
        std::mem::swap(buffer, &mut output.buffer);
        let written = output.write_if(WRITE_BYTES);
        std::mem::swap(buffer, &mut output.buffer);
        written
    })?;
    output.buffer = buffer;
    body.end(&mut output.buffer);
    output.write_if(1)?;
    output.sync()?;
    if given_up() {
        return Err(SaveError::GivenUp);
    }
    output.put_in_place(path)
}

/// Puts the cores' pieces into the body as they come. `send` may take bytes from the buffer after each.
fn collect(
    snapshot: &Snapshot,
    body: &mut Body,
    buffer: &mut Vec<u8>,
    given_up: impl Fn() -> bool,
    written: impl Fn(usize, u64),
    mut send: impl FnMut(&mut Vec<u8>) -> Result<(), SaveError>,
) -> Result<(), SaveError> {
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
        body.records(&records, buffer);
        send(buffer)?;
        dawdle(keys_pause(keys, snapshot.key_delay_us), &given_up)?;
        written(records.len(), keys);
        cores_left -= usize::from(ended);
    }
    Ok(())
}

/// What `rdb-key-save-delay` makes of so many keys.
fn keys_pause(keys: u64, delay_us: i32) -> Duration {
    match u64::from(delay_us.unsigned_abs()) {
        0 => Duration::ZERO,
        delay if delay_us > 0 => Duration::from_micros(keys.saturating_mul(delay)),
        keys_a_microsecond => Duration::from_micros(keys / keys_a_microsecond),
    }
}

/// Waits, unless the save is given up.
fn dawdle(pause: Duration, given_up: &impl Fn() -> bool) -> Result<(), SaveError> {
    let begun = Instant::now();
    while let Some(left) = pause.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
        if given_up() {
            return Err(SaveError::GivenUp);
        }
        std::thread::sleep(left.min(LOOK));
    }
    Ok(())
}

/// A file in the making, which is removed unless it is put in its place.
struct Output<'d, D: FileLayer> {
    disk: &'d mut D,
    temporary: &'d Path,
    file: File,
    buffer: Vec<u8>,
    /// Bytes written.
    at: u64,
    /// Bytes known to be on disk.
    synced: u64,
    is_in_place: bool,
}

impl<'d, D: FileLayer> Output<'d, D> {
    fn create(disk: &'d mut D, temporary: &'d Path) -> Result<Self, SaveError> {
        let file = disk.create(temporary).map_err(|error| SaveError::Create(temporary.to_owned(), error))?;
        let buffer = Vec::with_capacity(WRITE_BYTES + WRITE_BYTES / 4);
        Ok(Output { disk, temporary, file, buffer, at: 0, synced: 0, is_in_place: false })
    }

    /// Writes the buffer out if it holds so many bytes.
    fn write_if(&mut self, bytes: usize) -> Result<(), SaveError> {
        if self.buffer.len() < bytes {
            return Ok(());
        }
        let len = self.buffer.len() as u64;
        let (mut buffer, written) = self.disk.write(&self.file, std::mem::take(&mut self.buffer), self.at);
        let failed = |error| SaveError::Write("rdbSaveRio", error);
        written.map_err(failed)?;
        buffer.clear();
        self.buffer = buffer;
        self.at += len;
        if self.at - self.synced >= SYNC_BYTES {
            self.disk.sync(&self.file).map_err(failed)?;
            self.synced = self.at;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), SaveError> {
        self.disk.sync(&self.file).map_err(|error| SaveError::Write("fsync", error))
    }

    fn put_in_place(mut self, path: &Path) -> Result<(), SaveError> {
        let moved = self.disk.rename(self.temporary, path);
        moved.map_err(|error| SaveError::Rename { from: self.temporary.to_owned(), to: path.to_owned(), error })?;
        self.is_in_place = true;
        let directory = path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.disk.sync_directory(directory).map_err(|error| SaveError::Write("fsyncFileDir", error))
    }
}

impl<D: FileLayer> Drop for Output<'_, D> {
    fn drop(&mut self) {
        if !self.is_in_place {
            let _may_not_exist = self.disk.remove(self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persistence::disk::Disk;
    use kvshard::codec::rdb::Compression;
    use kvshard::codec::rdb::file::{End, Event, FileReader};
    use std::cell::Cell;

    /// A disk on which the operation with this number fails; 0: none does.
    struct Failing {
        fails: usize,
        operations: usize,
        errno: i32,
    }

    impl Failing {
        fn next(&mut self) -> io::Result<()> {
            self.operations += 1;
            if self.operations == self.fails { Err(io::Error::from_raw_os_error(self.errno)) } else { Ok(()) }
        }
    }

    impl FileLayer for Failing {
        fn create(&mut self, path: &Path) -> io::Result<File> {
            self.next()?;
            Disk.create(path)
        }

        fn write(&mut self, file: &File, bytes: Vec<u8>, offset: u64) -> (Vec<u8>, io::Result<()>) {
            match self.next() {
                Ok(()) => Disk.write(file, bytes, offset),
                Err(error) => (bytes, Err(error)),
            }
        }

        fn sync(&mut self, _file: &File) -> io::Result<()> {
            self.next()
        }

        fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
            self.next()?;
            Disk.rename(from, to)
        }

        fn sync_directory(&mut self, _directory: &Path) -> io::Result<()> {
            self.next()
        }
    }

    /// Records of strings as a core sends them.
    fn records(keys: std::ops::Range<usize>) -> Vec<u8> {
        let mut out = b"\xfe\x00".to_vec();
        for key in keys {
            out.extend_from_slice(format!("\0\x0akey:{key:06}\x0a").as_bytes());
            out.extend_from_slice(&[b'v'; 10]);
        }
        out
    }

    /// What two cores have sent: so many keys.
    fn snapshot(directory: &Path, keys: usize) -> Snapshot {
        let (sender, pieces) = crossbeam_channel::unbounded();
        for at in (0..keys).step_by(1000) {
            let end = (at + 1000).min(keys);
            sender.send(Piece { records: records(at..end), keys: (end - at) as u64, ended: end == keys }).unwrap();
        }
        sender.send(Piece { records: Vec::new(), keys: 0, ended: true }).unwrap();
        Snapshot {
            saving: Saving::Background,
            path: directory.join("dump.rdb"),
            compression: Compression::None,
            key_delay_us: 0,
            pieces,
            cores: 2,
            databases: vec![(keys as u64, 0)],
            changes: 0,
            standing: None,
        }
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn rdb<'a>(temporary: &'a Path, snapshot: &'a Snapshot) -> Target<'a> {
        Target { temporary, path: &snapshot.path, form: Form::Rdb }
    }

    fn write_to(disk: &mut Failing, directory: &Path, keys: usize) -> Result<(), SaveError> {
        let snapshot = snapshot(directory, keys);
        write(disk, &snapshot, rdb(&temporary_name(&snapshot.path), &snapshot), Checksum::On, || false, |_, _| {})
    }

    const KEYS: usize = 200_000;

    #[test]
    fn whatever_fails_is_told_and_leaves_the_old_file_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dump.rdb");
        std::fs::write(&path, "old").unwrap();
        let mut whole = Failing { fails: 0, operations: 0, errno: 0 };
        write_to(&mut whole, directory.path(), KEYS).unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() > KEYS as u64);
        assert!(whole.operations > 7, "several writes: {}", whole.operations);
        for errno in [libc::ENOSPC, libc::EIO, libc::EACCES] {
            for fails in 1..=whole.operations {
                std::fs::write(&path, "old").unwrap();
                let error = write_to(&mut Failing { fails, operations: 0, errno }, directory.path(), KEYS).unwrap_err();
                assert_eq!(names(directory.path()), ["dump.rdb"], "step {fails}: {error}");
                let text = error.to_string();
                let reason = os_reason(&io::Error::from_raw_os_error(errno));
                let expected = match whole.operations - fails {
                    0 => "Write error saving DB on disk(fsyncFileDir): ",
                    1 => "Error moving temp DB file temp-",
                    2 => "Write error saving DB on disk(fsync): ",
                    _ if fails == 1 => "Failed opening the temp RDB file temp-",
                    _ => "Write error saving DB on disk(rdbSaveRio): ",
                };
                assert!(text.starts_with(expected) && text.ends_with(&reason), "step {fails}: {text}");
                let replaced = std::fs::read(&path).unwrap() != b"old";
                assert_eq!(replaced, fails == whole.operations, "only the directory's names may be in doubt");
            }
        }
    }

    #[test]
    fn the_file_has_what_the_pieces_have() {
        let directory = tempfile::tempdir().unwrap();
        write_to(&mut Failing { fails: 0, operations: 0, errno: 0 }, directory.path(), 2500).unwrap();
        let file = std::fs::read(directory.path().join("dump.rdb")).unwrap();
        let (mut reader, mut keys, mut end) = (FileReader::new(Checksum::On), 0, None);
        while let Some(event) = reader.next(&file).unwrap() {
            match event {
                Event::Key(_) => keys += 1,
                Event::End(found) => end = Some(found),
                _ => {}
            }
        }
        assert_eq!((keys, end), (2500, Some(End::ChecksumRight)));
    }

    #[test]
    fn a_save_that_is_given_up_leaves_nothing_whenever_that_is() {
        let directory = tempfile::tempdir().unwrap();
        for looks in 0..12usize {
            let snapshot = snapshot(directory.path(), 5000);
            let left = Cell::new(looks);
            let given_up = || left.replace(left.get().saturating_sub(1)) == 0;
            let mut disk = Failing { fails: 0, operations: 0, errno: 0 };
            let result =
                write(&mut disk, &snapshot, rdb(&temporary_name(&snapshot.path), &snapshot), Checksum::On, given_up, |_, _| {});
            match result {
                Err(SaveError::GivenUp) => assert!(names(directory.path()).is_empty(), "after {looks} looks"),
                Ok(_) => return assert!(looks > 5, "each piece is a moment to give up: {looks}"),
                Err(error) => panic!("{error}"),
            }
        }
        panic!("never whole");
    }

    #[test]
    fn cores_that_have_gone_end_the_save() {
        let directory = tempfile::tempdir().unwrap();
        let mut snapshot = snapshot(directory.path(), 1000);
        snapshot.cores = 3;
        let mut disk = Failing { fails: 0, operations: 0, errno: 0 };
        let result =
            write(&mut disk, &snapshot, rdb(&temporary_name(&snapshot.path), &snapshot), Checksum::Off, || false, |_, _| {});
        assert!(matches!(result, Err(SaveError::GivenUp)), "{result:?}");
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn the_delay_is_for_each_key() {
        assert_eq!(keys_pause(1000, 0), Duration::ZERO);
        assert_eq!(keys_pause(1000, 50), Duration::from_millis(50));
        assert_eq!(keys_pause(1000, -10), Duration::from_micros(100));
        assert_eq!(keys_pause(u64::MAX, i32::MIN), Duration::from_micros(u64::MAX >> 31));
        let begun = Instant::now();
        assert!(matches!(dawdle(Duration::from_secs(60), &|| true), Err(SaveError::GivenUp)));
        dawdle(Duration::from_millis(30), &|| false).unwrap();
        assert!((30..10_000).contains(&begun.elapsed().as_millis()));
    }
}
