//! Where saving and loading stand: what the gate, INFO and the commands about saving read.
//!
//! Changed by the coordinator and by whoever orders a save; on the path of a command nothing here is looked at but the flags,
//! once a turn of a core's loop.

use super::contract::{Asker, Piece};
use crossbeam_channel::Sender;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

/// The persistence of the node, shared by all of its cores and the coordinator.
pub struct Persistence {
    /// Clients are answered -LOADING.
    pub loading: AtomicBool,
    /// The last background save failed.
    pub rdb_failed: AtomicBool,
    /// What keeps the append-only file from being written: the system's error number, or 0.
    pub aof_errno: AtomicI32,
    /// The save under way is to end without a file.
    pub give_up: AtomicBool,
    /// Seconds since 1970 of the last save (before the first: of the start).
    pub last_save: AtomicI64,
    /// Changes that the last save has in it.
    pub saved_changes: AtomicU64,
    /// Keys that the save under way has written.
    pub keys_written: AtomicU64,
    pub load: LoadProgress,
    rdb: Mutex<RdbStatus>,
}

/// How far loading has come, and what the last load has brought.
#[derive(Debug, Default)]
pub struct LoadProgress {
    /// Seconds since 1970.
    pub began_s: AtomicI64,
    /// Bytes of all files, and of what has been read of them.
    pub total_bytes: AtomicU64,
    pub read_bytes: AtomicU64,
    /// Memory in use when the RDB file was written, as it says.
    pub rdb_used_memory: AtomicU64,
    /// Keys of RDB files.
    pub keys_loaded: AtomicU64,
    pub keys_expired: AtomicU64,
    pub empty_skipped: AtomicU64,
    /// Bytes of records and commands that the cores are through with.
    pub applied_bytes: AtomicU64,
}

/// Who has asked for a save.
#[derive(Clone, Copy, Debug)]
pub enum Saving {
    /// SAVE: the client waits for the file.
    Foreground(Asker),
    /// BGSAVE, or a save point.
    Background,
    /// The node ends after it.
    Shutdown,
    /// DEBUG RELOAD: the file is loaded after it.
    Reload(Reload),
}

/// What DEBUG RELOAD asks for.
#[derive(Clone, Copy, Debug)]
pub struct Reload {
    pub asker: Asker,
    /// What is in memory goes first.
    pub empties: bool,
    /// Keys of the file take the place of those in memory.
    pub replaces: bool,
}

/// What is known of RDB files.
#[derive(Debug)]
pub struct RdbStatus {
    pub running: Option<Running>,
    /// BGSAVE SCHEDULE is to begin when nothing else is running.
    pub scheduled: bool,
    /// Seconds since 1970 of the last attempt in the background.
    pub last_try_s: i64,
    /// How long the last background save has taken, seconds; -1: there was none.
    pub last_duration_s: i64,
    /// Saves that came to their end well.
    pub saves: u64,
    /// Where the cores send their pieces; until each core has its own.
    pub pieces: Option<Sender<Piece>>,
}

/// A save that was ordered and has not ended.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    pub saving: Saving,
    pub began: Instant,
    /// Keys at the cut; 0 before it.
    pub keys: u64,
}

impl Persistence {
    /// `now_s`: seconds since 1970.
    pub fn new(now_s: i64) -> Self {
        let rdb = RdbStatus { running: None, scheduled: false, last_try_s: 0, last_duration_s: -1, saves: 0, pieces: None };
        Persistence {
            loading: AtomicBool::new(false),
            rdb_failed: AtomicBool::new(false),
            aof_errno: AtomicI32::new(0),
            give_up: AtomicBool::new(false),
            last_save: AtomicI64::new(now_s),
            saved_changes: AtomicU64::new(0),
            keys_written: AtomicU64::new(0),
            load: LoadProgress::default(),
            rdb: Mutex::new(rdb),
        }
    }

    pub fn rdb(&self) -> MutexGuard<'_, RdbStatus> {
        self.rdb.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Loading begins.
    pub fn begin_load(&self, now_s: i64, total_bytes: u64) {
        let LoadProgress { began_s, total_bytes: total, read_bytes, .. } = &self.load;
        let LoadProgress { rdb_used_memory, keys_loaded, keys_expired, empty_skipped, applied_bytes, .. } = &self.load;
        began_s.store(now_s, Ordering::Relaxed);
        total.store(total_bytes, Ordering::Relaxed);
        for figure in [read_bytes, rdb_used_memory, keys_loaded, keys_expired, empty_skipped, applied_bytes] {
            figure.store(0, Ordering::Relaxed);
        }
    }

    /// Claims the one save that may run at a time; false if one does.
    pub fn begin_save(&self, saving: Saving, now_s: i64) -> bool {
        let mut rdb = self.rdb();
        if rdb.running.is_some() {
            return false;
        }
        if matches!(saving, Saving::Background) {
            rdb.last_try_s = now_s;
            rdb.scheduled = false;
        }
        rdb.running = Some(Running { saving, began: Instant::now(), keys: 0 });
        self.keys_written.store(0, Ordering::Relaxed);
        self.give_up.store(false, Ordering::Relaxed);
        true
    }
}
