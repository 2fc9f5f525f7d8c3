//! Where saving and loading stand: what the gate, INFO and the commands about saving read.
//!
//! Changed by the coordinator and by whoever orders a save; on the path of a command nothing here is looked at but the flags,
//! once a turn of a core's loop.

use super::contract::{Asker, Piece};
use crate::persistence::spanning::SegmentSeq;
use crate::replication::primary::request::Contents;
use crossbeam_channel::Sender;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

/// The persistence of the node, shared by all of its cores and the coordinator.
pub struct Persistence {
    /// Clients are answered -LOADING.
    pub loading: AtomicBool,
    /// A primary's data set is being loaded beside the node's own, which clients may read meanwhile.
    pub async_loading: AtomicBool,
    /// The last background save failed.
    pub rdb_failed: AtomicBool,
    /// What keeps the append-only file from being written: the system's error number, or 0.
    pub aof_errno: AtomicI32,
    /// Changes are logged. Changed while all shards are in one place.
    pub logging: AtomicBool,
    /// The append-only file has all of the data set in it, but for what is still to be synced: its base is written.
    pub is_founded: AtomicBool,
    /// The next operation over several shards that is logged; see [`crate::persistence::spanning`].
    pub next_operation: AtomicU64,
    segments: Mutex<Arc<[SegmentSeq]>>,
    /// The save under way is to end without a file.
    pub give_up: AtomicBool,
    /// Seconds since 1970 of the last save (before the first: of the start).
    pub last_save: AtomicI64,
    /// Changes that the last save has in it.
    pub saved_changes: AtomicU64,
    /// Keys that the save under way has written.
    pub keys_written: AtomicU64,
    /// Bytes of pieces that were sent to the coordinator and have not been written.
    pub queued_bytes: AtomicUsize,
    /// Shards that are not through with the last cut. One that was given up goes on for a while after its save has ended.
    pub cutting_shards: AtomicUsize,
    /// Bytes of records that may wait in a shard before the node's writes wait too.
    pub waiting_bytes_max: AtomicUsize,
    /// Shards with more than that.
    pub full_shards: AtomicUsize,
    pub load: LoadProgress,
    rdb: Mutex<RdbStatus>,
    aof: Mutex<AofStatus>,
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
    /// For replicas; `streamed`: to them, instead of to the file.
    Replicas { streamed: bool, contents: Contents },
    /// The node ends after it.
    Shutdown,
    /// The base of the append-only file; segments before this one are in it.
    Rewrite { first_kept: i64 },
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
    /// FLUSHALL wants the file to become empty too, as soon as nothing else is running.
    pub after_flush: bool,
    /// Seconds since 1970 of the last attempt in the background.
    pub last_try_s: i64,
    /// How long the last background save has taken, seconds; -1: there was none.
    pub last_duration_s: i64,
    /// Saves that clients and save points have begun.
    pub saves: u64,
    /// Where the cores send their pieces, while a save runs.
    pub pieces: Option<Sender<Piece>>,
}

/// What is known of the append-only file.
#[derive(Debug, Default)]
pub struct AofStatus {
    /// A rewrite is to begin when nothing else is running.
    pub scheduled: bool,
    /// How long the last rewrite has taken, seconds; -1: there was none.
    pub last_duration_s: i64,
    pub last_failed: bool,
    /// What is appended has no base: appending is to be switched off, and if the directive wants it, on again.
    pub begins_anew: bool,
    pub rewrites: u64,
    pub consecutive_failures: u64,
    /// Milliseconds since 1970 of the last attempt.
    pub last_try_ms: i64,
    /// Bytes of all files that are not appended to any more.
    pub settled_bytes: u64,
    /// Bytes of the whole after the last rewrite, or at the start.
    pub base_bytes: u64,
}

impl RdbStatus {
    /// The save under way is over: the next may begin. How long it has taken, seconds.
    pub fn has_ended(&mut self) -> i64 {
        self.pieces = None;
        self.running.take().map_or(-1, |running| running.began.elapsed().as_secs() as i64)
    }
}

impl AofStatus {
    pub fn rewrite_failed(&mut self) {
        self.last_failed = true;
        self.consecutive_failures += 1;
    }
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
        let rdb = RdbStatus {
            running: None,
            scheduled: false,
            after_flush: false,
            last_try_s: 0,
            last_duration_s: -1,
            saves: 0,
            pieces: None,
        };
        Persistence {
            loading: AtomicBool::new(false),
            async_loading: AtomicBool::new(false),
            rdb_failed: AtomicBool::new(false),
            aof_errno: AtomicI32::new(0),
            logging: AtomicBool::new(false),
            is_founded: AtomicBool::new(false),
            next_operation: AtomicU64::new(0),
            segments: Mutex::new(Arc::new([])),
            give_up: AtomicBool::new(false),
            last_save: AtomicI64::new(now_s),
            saved_changes: AtomicU64::new(0),
            keys_written: AtomicU64::new(0),
            queued_bytes: AtomicUsize::new(0),
            cutting_shards: AtomicUsize::new(0),
            waiting_bytes_max: AtomicUsize::new(0),
            full_shards: AtomicUsize::new(0),
            load: LoadProgress::default(),
            rdb: Mutex::new(rdb),
            aof: Mutex::new(AofStatus { last_duration_s: -1, ..AofStatus::default() }),
        }
    }

    /// Whether what is on disk of the append-only file brings the data set back.
    pub fn is_appended(&self) -> bool {
        self.logging.load(Ordering::Acquire) && self.is_founded.load(Ordering::Acquire)
    }

    pub fn rdb(&self) -> MutexGuard<'_, RdbStatus> {
        self.rdb.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The segments that the shards log to, by shard.
    pub fn segments(&self) -> Arc<[SegmentSeq]> {
        self.segments.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// To be called while all shards are in one place, or before any is at work.
    pub fn set_segments(&self, segments: Arc<[SegmentSeq]>) {
        *self.segments.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = segments;
    }

    pub fn aof(&self) -> MutexGuard<'_, AofStatus> {
        self.aof.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
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

    /// Closes the node to clients while a data set is loaded; if it `shows_old` data meanwhile, only to what could disturb that.
    pub fn close(&self, shows_old: bool) {
        self.loading.store(!shows_old, Ordering::SeqCst);
        self.async_loading.store(shows_old, Ordering::SeqCst);
    }

    /// Opens it again.
    pub fn open(&self) {
        self.loading.store(false, Ordering::SeqCst);
        self.async_loading.store(false, Ordering::SeqCst);
    }

    /// CONFIG SET and the like ask.
    pub fn is_loading(&self) -> bool {
        self.loading.load(Ordering::Relaxed) || self.async_loading.load(Ordering::Relaxed)
    }

    /// Claims the one save that may run at a time; false if one does.
    pub fn begin_save(&self, saving: Saving, now_s: i64) -> bool {
        let mut rdb = self.rdb();
        if rdb.running.is_some() {
            return false;
        }
        if matches!(saving, Saving::Background) {
            rdb.last_try_s = now_s;
        }
        rdb.after_flush &= matches!(saving, Saving::Rewrite { .. });
        rdb.saves += u64::from(matches!(saving, Saving::Foreground(_) | Saving::Background));
        rdb.running = Some(Running { saving, began: Instant::now(), keys: 0 });
        self.keys_written.store(0, Ordering::Relaxed);
        self.give_up.store(false, Ordering::Relaxed);
        true
    }

    /// The whole data set was given up: a background save of it ends without a file, and if `save_anew`, one of the empty data set
    /// follows.
    pub fn flushed_all(&self, save_anew: bool) {
        let mut rdb = self.rdb();
        if rdb.running.is_some_and(|running| matches!(running.saving, Saving::Background)) {
            self.give_up.store(true, Ordering::Relaxed);
        }
        rdb.after_flush |= save_anew;
    }
}
