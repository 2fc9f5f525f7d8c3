//! The part of the configuration that a shard needs, as plain values; the node keeps it up to date.

/// Encoding thresholds, eviction and expiry settings. Field names are Redis's directives.
#[derive(Clone, Debug)]
pub struct Settings {
    pub hash_max_listpack_entries: usize,
    pub hash_max_listpack_value: usize,
    pub set_max_intset_entries: usize,
    pub zset_max_listpack_entries: usize,
    pub zset_max_listpack_value: usize,
    /// Negative: size classes -1..-5 (4 to 64 KiB); positive: elements per chunk.
    pub list_max_listpack_size: i32,
    pub hll_sparse_max_bytes: usize,
    /// Longest string value and longest bulk argument, bytes.
    pub proto_max_bulk_len: u64,
    pub maxmemory_policy: EvictionPolicy,
    pub maxmemory_samples: usize,
    pub lfu_log_factor: u32,
    /// Minutes until an unused LFU counter is decremented.
    pub lfu_decay_time: u32,
    pub notify: NotifyFlags,
    pub active_expire_effort: u32,
    /// DEBUG SET-ACTIVE-EXPIRE.
    pub active_expire: bool,
    /// The data set is being loaded: nothing expires, and a time that has passed is kept as any other.
    pub loading: bool,
    /// The data is another node's: nothing expires here, keys whose time is up are only not shown, until the primary says that they
    /// are gone; but for what a writable replica's own clients have timed. See also
    /// [`ClientId::PRIMARY`](crate::keyspace::ClientId::PRIMARY).
    pub replica: Replica,
    pub sanitize_dump_payload: bool,
    /// Values are always freed in slices; these only choose between DEL and UNLINK as what followers and the log are told.
    pub lazyfree_lazy_expire: bool,
    pub lazyfree_lazy_eviction: bool,
    pub lazyfree_lazy_user_del: bool,
    /// Keys are bound to slots by cluster mode (SORT BY/GET patterns are refused).
    pub cluster_enabled: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            hash_max_listpack_entries: 512,
            hash_max_listpack_value: 64,
            set_max_intset_entries: 512,
            zset_max_listpack_entries: 128,
            zset_max_listpack_value: 64,
            list_max_listpack_size: -2,
            hll_sparse_max_bytes: 3000,
            proto_max_bulk_len: 512 << 20,
            maxmemory_policy: EvictionPolicy::NoEviction,
            maxmemory_samples: 5,
            lfu_log_factor: 10,
            lfu_decay_time: 1,
            notify: NotifyFlags(0),
            active_expire_effort: 1,
            active_expire: true,
            loading: false,
            replica: Replica::No,
            sanitize_dump_payload: false,
            lazyfree_lazy_expire: false,
            lazyfree_lazy_eviction: false,
            lazyfree_lazy_user_del: false,
            cluster_enabled: false,
        }
    }
}

/// Whether a node is a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replica {
    No,
    /// Only the primary changes anything.
    ReadOnly,
    /// Clients may write too (`replica-read-only no`), and what they give a time expires here.
    Writable,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EvictionPolicy {
    VolatileLru,
    VolatileLfu,
    VolatileRandom,
    VolatileTtl,
    AllkeysLru,
    AllkeysLfu,
    AllkeysRandom,
    NoEviction,
}

impl EvictionPolicy {
    pub fn is_lfu(self) -> bool {
        matches!(self, EvictionPolicy::VolatileLfu | EvictionPolicy::AllkeysLfu)
    }

    pub fn is_lru(self) -> bool {
        matches!(self, EvictionPolicy::VolatileLru | EvictionPolicy::AllkeysLru)
    }

    pub fn volatile_only(self) -> bool {
        use EvictionPolicy::*;
        matches!(self, VolatileLru | VolatileLfu | VolatileRandom | VolatileTtl)
    }
}

/// The classes of keyspace events that are published (`notify-keyspace-events`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NotifyFlags(pub u32);

impl NotifyFlags {
    pub const KEYSPACE: Self = Self(1); // K
    pub const KEYEVENT: Self = Self(1 << 1); // E
    pub const GENERIC: Self = Self(1 << 2); // g
    pub const STRING: Self = Self(1 << 3); // $
    pub const LIST: Self = Self(1 << 4); // l
    pub const SET: Self = Self(1 << 5); // s
    pub const HASH: Self = Self(1 << 6); // h
    pub const ZSET: Self = Self(1 << 7); // z
    pub const EXPIRED: Self = Self(1 << 8); // x
    pub const EVICTED: Self = Self(1 << 9); // e
    pub const STREAM: Self = Self(1 << 10); // t
    pub const KEY_MISS: Self = Self(1 << 11); // m (excluded from A)
    pub const MODULE: Self = Self(1 << 13); // d
    pub const NEW: Self = Self(1 << 14); // n (excluded from A)

    pub fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}
