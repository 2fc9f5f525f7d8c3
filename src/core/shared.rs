//! What the cores of a node share. Nothing here is on the path of a single-key command.

use crate::commands::registry::Registry;
use crate::config::structures::{KeyspaceEvents, PrimaryAddress};
use crate::config::{Config, values::*};
use crate::coordinator::contract::{Asker, Order, ToCore, ToCores};
use crate::coordinator::status::Persistence;
use crate::observe::log;
use crate::peers::status::Replication;
use crossbeam_channel::Sender;
use kvshard::Settings;
use kvshard::settings::{EvictionPolicy, NotifyFlags, Replica};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Instant;

pub struct Node {
    pub cores: usize,
    pub registry: Registry,
    /// The newest configuration; each core has its own `Arc` of it.
    pub config: Mutex<Arc<Config>>,
    pub config_file: Option<PathBuf>,
    pub run_id: String,
    pub started: Instant,
    /// Seconds since 1970.
    pub started_at: i64,
    pub next_client_id: AtomicU64,
    /// Order of operations that span shards; starts at 1.
    pub next_ticket: AtomicU64,
    pub slowlog_next_id: AtomicU64,
    pub per_core: Vec<PerCore>,
    /// Connections with MONITOR, over all cores.
    pub monitors: AtomicUsize,
    pub pause: Pause,
    pub shutdown: Shutdown,
    pub persistence: Persistence,
    pub replication: Replication,
    pub to_coordinator: Sender<Order>,
    /// Most memory in use seen so far, bytes.
    pub peak_memory: AtomicU64,
    /// Memory in use when the node had started, bytes.
    pub startup_memory: AtomicU64,
    /// Set once, before the cores begin.
    pub relisten: OnceLock<Relisten>,
}

/// Opens the TCP sockets that a configuration asks for in place of the old ones. False: that failed, the log says why, and the
/// old ones listen on.
pub type Relisten = Box<dyn Fn(&Config) -> bool + Send + Sync>;

/// Figures a core publishes once a turn, each on a cache line of its own.
#[repr(align(128))]
#[derive(Default)]
pub struct PerCore {
    pub connections: AtomicUsize,
    pub subscriptions: AtomicUsize,
    /// Changes since the start.
    pub dirty: AtomicU64,
    /// Keys, as of the last tenth of a second.
    pub keys: AtomicUsize,
    /// Bytes held for all clients, and for the one that may be evicted with most, while `maxmemory-clients` is set.
    pub clients_bytes: AtomicU64,
    pub largest_client: AtomicU64,
    /// Keys that the eviction policy may choose from, while `maxmemory` is set.
    pub evictable: AtomicUsize,
    /// Bytes of the segment, those not yet written, writes that waited long for a sync, and syncs under way.
    pub log_bytes: AtomicU64,
    pub log_waiting: AtomicU64,
    pub log_delays: AtomicU64,
    pub log_syncs: AtomicU64,
}

/// CLIENT PAUSE. Changed rarely, read only while `until_ms` is not 0.
#[derive(Default)]
pub struct Pause {
    /// Milliseconds since 1970; 0: no pause.
    pub until_ms: AtomicI64,
    /// Only commands that may write wait.
    pub writes_only: AtomicBool,
}

impl Pause {
    /// Whether commands have to wait now, and whether only writing ones.
    #[inline]
    pub fn active(&self, now: i64) -> Option<bool> {
        let until_ms = self.until_ms.load(Ordering::Relaxed);
        (until_ms > now).then(|| self.writes_only.load(Ordering::Relaxed))
    }
}

/// The end of the node: wanted by a client or a signal, perhaps after a last save, then requested of all cores.
#[derive(Default)]
pub struct Shutdown {
    requested: AtomicBool,
    wanted: AtomicBool,
    /// The end was called off; those who wait for it have not been told yet.
    aborted: AtomicBool,
    /// The last save is being written, and nobody may change what would not be in it: the number of this hold. 0: nothing is held.
    hold: AtomicU64,
    holds: AtomicU64,
    /// Until when replicas are waited for, milliseconds since 1970; 0: the end has not begun.
    until_ms: AtomicI64,
    /// They have everything, or were waited for long enough.
    replicas_done: AtomicBool,
    /// Cores that wait for nobody any more.
    quiet: AtomicUsize,
    wish: Mutex<Wish>,
}

#[derive(Default)]
struct Wish {
    options: ShutdownOptions,
    /// Clients to be told if it comes to nothing; the others see their connections end.
    askers: Vec<Asker>,
}

/// How the node is to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ShutdownOptions {
    pub no_save: bool,
    pub save: bool,
    pub now: bool,
    /// Also if the last save fails.
    pub force: bool,
}

impl Shutdown {
    /// Has all cores end with this turn of their loops.
    pub fn request(&self) {
        self.requested.store(true, Ordering::SeqCst);
    }

    /// Asks for the end. The first core looks for it once a turn.
    pub fn want(&self, options: ShutdownOptions, asker: Option<Asker>) {
        log::warning("User requested shutdown...");
        let mut wish = self.wish();
        wish.options = options;
        wish.askers.extend(asker);
        self.wanted.store(true, Ordering::SeqCst);
    }

    #[inline]
    pub fn wanted(&self) -> Option<ShutdownOptions> {
        self.wanted.load(Ordering::Relaxed).then(|| self.wish().options)
    }

    /// Nothing more is done for the end. Whoever calls this has the coordinator call it off too.
    pub fn abort(&self) {
        self.aborted.store(true, Ordering::SeqCst);
    }

    #[inline]
    pub fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Relaxed)
    }

    /// Clients that have asked for it and wait.
    pub fn askers(&self) -> usize {
        self.wish().askers.len()
    }

    /// From now on writes wait, until the node ends or [`Shutdown::call_off`].
    pub fn wait_for_replicas(&self, until_ms: i64) {
        self.until_ms.store(until_ms, Ordering::SeqCst);
    }

    /// Until when replicas are waited for, or were; 0: the end has not begun.
    #[inline]
    pub fn until_ms(&self) -> i64 {
        self.until_ms.load(Ordering::Relaxed)
    }

    /// Nothing more is waited for.
    pub fn replicas_are_done(&self) {
        self.replicas_done.store(true, Ordering::SeqCst);
    }

    pub fn has_waited(&self) -> bool {
        self.replicas_done.load(Ordering::SeqCst)
    }

    /// One more core has nothing under way that others have to do with.
    pub fn count_quiet(&self) {
        self.quiet.fetch_add(1, Ordering::SeqCst);
    }

    pub fn quiet(&self) -> usize {
        self.quiet.load(Ordering::SeqCst)
    }

    /// Takes the wish back, and tells those who had it.
    pub fn call_off(&self, to_cores: &ToCores) {
        self.wanted.store(false, Ordering::SeqCst);
        self.hold.store(0, Ordering::SeqCst);
        self.until_ms.store(0, Ordering::SeqCst);
        self.replicas_done.store(false, Ordering::SeqCst);
        self.aborted.store(false, Ordering::SeqCst);
        let askers = std::mem::take(&mut self.wish().askers);
        for to in askers {
            let reply = b"-ERR Errors trying to SHUTDOWN. Check logs.\r\n".to_vec();
            to_cores.tell(to.core, ToCore::Reply { to, reply });
        }
        to_cores.wake_all();
    }

    /// From now on data is neither read nor changed, until the node ends or [`Shutdown::call_off`].
    pub fn hold_data(&self) {
        let number = self.holds.fetch_add(1, Ordering::Relaxed) + 1;
        self.hold.store(number, Ordering::SeqCst);
    }

    /// The number of the hold that is on, or 0.
    #[inline]
    pub fn hold(&self) -> u64 {
        self.hold.load(Ordering::Relaxed)
    }

    /// The last save has ended, and with it the node, unless it failed.
    pub fn saved(&self, whole: bool, to_cores: &ToCores) {
        if self.is_aborted() {
            return;
        }
        if !whole && !self.wish().options.force {
            tell_end_failed("Error trying to save the DB, can't exit.");
            return self.call_off(to_cores);
        }
        if !whole {
            log::warning("Error trying to save the DB. Exit anyway.");
        }
        self.request();
        to_cores.wake_all();
    }

    fn wish(&self) -> MutexGuard<'_, Wish> {
        self.wish.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    #[inline]
    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }
}

/// In Redis's words.
pub fn tell_end_failed(why: &str) {
    log::warning(why);
    log::warning("Errors trying to shut down the server. Check the logs for more information.");
}

impl Node {
    pub fn connections(&self) -> usize {
        self.per_core.iter().map(|core| core.connections.load(Ordering::Relaxed)).sum()
    }

    /// Keys, as of the last tenth of a second.
    pub fn keys(&self) -> usize {
        self.per_core.iter().map(|core| core.keys.load(Ordering::Relaxed)).sum()
    }

    /// Changes since the start.
    pub fn changes(&self) -> u64 {
        self.per_core.iter().map(|core| core.dirty.load(Ordering::Relaxed)).sum()
    }

    /// Bytes of the append-only file.
    pub fn aof_bytes(&self) -> u64 {
        let appended: u64 = self.per_core.iter().map(|core| core.log_bytes.load(Ordering::Relaxed)).sum();
        self.persistence.aof().settled_bytes + appended
    }

    /// Changes that no save has in it.
    pub fn unsaved_changes(&self) -> u64 {
        self.changes().saturating_sub(self.persistence.saved_changes.load(Ordering::Relaxed))
    }

    pub fn current_config(&self) -> Arc<Config> {
        self.config.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// `replicaof`, for CONFIG REWRITE; cores are to be told.
    pub fn set_replicaof(&self, primary: Option<PrimaryAddress>) {
        let mut config = self.config.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if config.replicaof != primary {
            *config = Arc::new(Config { replicaof: primary, ..(**config).clone() });
        }
    }

    pub fn take_ticket(&self) -> u64 {
        self.next_ticket.fetch_add(1, Ordering::Relaxed)
    }
}

/// The least level of messages that are logged.
pub fn log_level(config: &Config) -> log::Level {
    match config.loglevel {
        LogLevel::Debug => log::Level::Debug,
        LogLevel::Verbose => log::Level::Verbose,
        LogLevel::Notice => log::Level::Notice,
        LogLevel::Warning => log::Level::Warning,
    }
}

/// The part of the configuration that a shard keeps.
pub fn shard_settings(config: &Config) -> Settings {
    Settings {
        hash_max_listpack_entries: config.hash_max_listpack_entries,
        hash_max_listpack_value: config.hash_max_listpack_value,
        set_max_intset_entries: config.set_max_intset_entries,
        zset_max_listpack_entries: config.zset_max_listpack_entries,
        zset_max_listpack_value: config.zset_max_listpack_value,
        list_max_listpack_size: config.list_max_listpack_size,
        hll_sparse_max_bytes: config.hll_sparse_max_bytes,
        proto_max_bulk_len: config.proto_max_bulk_len,
        maxmemory_policy: eviction_policy(config.maxmemory_policy),
        maxmemory_samples: config.maxmemory_samples as usize,
        lfu_log_factor: config.lfu_log_factor,
        lfu_decay_time: config.lfu_decay_time,
        notify: notify_flags(config.notify_keyspace_events),
        active_expire_effort: config.active_expire_effort,
        active_expire: true,
        loading: false,
        replica: Replica::No,
        sanitize_dump_payload: true,
        lazyfree_lazy_expire: config.lazyfree_lazy_expire,
        lazyfree_lazy_eviction: config.lazyfree_lazy_eviction,
        lazyfree_lazy_user_del: config.lazyfree_lazy_user_del,
        cluster_enabled: config.cluster_enabled,
    }
}

fn eviction_policy(policy: MaxmemoryPolicy) -> EvictionPolicy {
    match policy {
        MaxmemoryPolicy::VolatileLru => EvictionPolicy::VolatileLru,
        MaxmemoryPolicy::VolatileLfu => EvictionPolicy::VolatileLfu,
        MaxmemoryPolicy::VolatileRandom => EvictionPolicy::VolatileRandom,
        MaxmemoryPolicy::VolatileTtl => EvictionPolicy::VolatileTtl,
        MaxmemoryPolicy::AllkeysLru => EvictionPolicy::AllkeysLru,
        MaxmemoryPolicy::AllkeysLfu => EvictionPolicy::AllkeysLfu,
        MaxmemoryPolicy::AllkeysRandom => EvictionPolicy::AllkeysRandom,
        MaxmemoryPolicy::NoEviction => EvictionPolicy::NoEviction,
    }
}

fn notify_flags(events: KeyspaceEvents) -> NotifyFlags {
    const PAIRS: [(u16, NotifyFlags); 14] = [
        (KeyspaceEvents::GENERIC, NotifyFlags::GENERIC),
        (KeyspaceEvents::STRING, NotifyFlags::STRING),
        (KeyspaceEvents::LIST, NotifyFlags::LIST),
        (KeyspaceEvents::SET, NotifyFlags::SET),
        (KeyspaceEvents::HASH, NotifyFlags::HASH),
        (KeyspaceEvents::SORTED_SET, NotifyFlags::ZSET),
        (KeyspaceEvents::EXPIRED, NotifyFlags::EXPIRED),
        (KeyspaceEvents::EVICTED, NotifyFlags::EVICTED),
        (KeyspaceEvents::STREAM, NotifyFlags::STREAM),
        (KeyspaceEvents::MODULE, NotifyFlags::MODULE),
        (KeyspaceEvents::KEYSPACE, NotifyFlags::KEYSPACE),
        (KeyspaceEvents::KEYEVENT, NotifyFlags::KEYEVENT),
        (KeyspaceEvents::KEY_MISS, NotifyFlags::KEY_MISS),
        (KeyspaceEvents::NEW_KEY, NotifyFlags::NEW),
    ];
    NotifyFlags(PAIRS.iter().filter(|(from, _)| events.any(*from)).fold(0, |bits, (_, to)| bits | to.0))
}
