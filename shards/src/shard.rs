//! A shard: the databases of one core, and everything that belongs to them.

use crate::command::{Args, DynamicKeys, Flags};
use crate::effects::Effects;
use crate::error::Error;
use crate::exec::{Exec, Outcome};
use crate::family::ShardCommand;
use crate::keyspace::cut::Cutting;
use crate::keyspace::evict::Pool;
use crate::keyspace::waiters::{Awaited, Waiters};
use crate::keyspace::watch::Watch;
use crate::keyspace::{ClientId, Db, Key, KeyHasher, OwnedEntry, Value};
use crate::random::Random;
use crate::reply::Reply;
use crate::settings::{EvictionPolicy, NotifyFlags, Replica, Settings};
use crate::value::Object;
use crate::value::schema::Schemas;

/// Everything one core owns of the keyspace. It is `Send`: a core lends it to another for work on the whole keyspace.
pub struct Shard {
    pub dbs: Vec<Db>,
    pub hasher: KeyHasher,
    pub settings: Settings,
    pub stats: Stats,
    pub watch: Watch,
    pub waiters: Waiters,
    pub effects: Effects,
    pub trash: Trash,
    pub random: Random,
    /// Candidates for eviction.
    pub(crate) pool: Pool,
    /// Fields that small hashes have in common.
    pub(crate) schemas: Schemas,
    /// Database with which the active expiry cycle goes on.
    pub(crate) expire_db: usize,
    events: Vec<Event>,
    /// Keys changed since [`Shard::begin_recording`].
    pub(crate) recorded: Option<Vec<(usize, Box<[u8]>)>>,
    /// How many of the recorded changes belong to effects that were split already.
    pub(crate) split_until: usize,
    pub(crate) cutting: Option<Cutting>,
    /// Another data set, which is being loaded and is to take the place of the databases. Nobody sees it before.
    pub(crate) beside: Option<Vec<Db>>,
}

/// Counters since the start or the last CONFIG RESETSTAT.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    pub keyspace_hits: u64,
    pub keyspace_misses: u64,
    pub expired_keys: u64,
    pub evicted_keys: u64,
    pub expired_time_cap_reached: u64,
    /// Running share of expired keys among those the expiry cycle looks at (INFO's expired_stale_perc).
    pub expired_stale_share: f64,
}

impl Stats {
    /// Adds the counters of another shard; shares are not added.
    pub fn add(&mut self, other: &Stats) {
        self.keyspace_hits += other.keyspace_hits;
        self.keyspace_misses += other.keyspace_misses;
        self.expired_keys += other.expired_keys;
        self.evicted_keys += other.evicted_keys;
        self.expired_time_cap_reached += other.expired_time_cap_reached;
    }
}

/// A keyspace event to be published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    pub class: NotifyFlags,
    pub name: &'static str,
    pub db: usize,
    pub key: Box<[u8]>,
}

/// One command to be run on a shard.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub command: &'static ShardCommand,
    pub args: Args<'a>,
    pub db: usize,
    /// Milliseconds since 1970.
    pub now: i64,
    pub client: ClientId,
    pub resp3: bool,
    pub may_block: bool,
    pub no_touch: bool,
    /// The place of the first key, if the caller has computed it.
    pub first_key: Option<Key<'a>>,
}

/// Only the primary writes.
pub const READ_ONLY: Error = Error::Text("READONLY You can't write against a read only replica.");

impl Shard {
    pub fn new(hasher: KeyHasher, databases: usize, settings: Settings, seed: u64) -> Self {
        Shard {
            dbs: (0..databases).map(|_| Db::new(hasher.clone())).collect(),
            hasher,
            settings,
            stats: Stats::default(),
            watch: Watch::default(),
            waiters: Waiters::default(),
            effects: Effects::default(),
            trash: Trash::default(),
            random: Random::new(seed),
            pool: Pool::default(),
            schemas: Schemas::default(),
            expire_db: 0,
            events: Vec::new(),
            recorded: None,
            split_until: 0,
            cutting: None,
            beside: None,
        }
    }

    /// Runs one command, appending its reply to `out`. Arity has been checked.
    #[inline]
    pub fn execute(&mut self, request: Request<'_>, out: &mut Vec<u8>) -> Outcome {
        let mut reply = Reply::new(out, request.resp3);
        if self.settings.replica == Replica::ReadOnly
            && request.client != ClientId::PRIMARY
            && request.command.spec.flags.has(Flags::WRITE)
        {
            reply.error(&READ_ONLY);
            return Outcome { failed: true, ..Outcome::default() };
        }
        let mut exec =
            Exec::new(self, &request.command.spec, request.db, request.now, request.client).with_hint(request.first_key);
        exec.may_block = request.may_block;
        exec.no_touch = request.no_touch;
        exec.run(request.command.run, request.args, &mut reply)
    }

    #[inline]
    pub(crate) fn notifies(&self, class: NotifyFlags) -> bool {
        self.settings.notify.any(class)
    }

    pub(crate) fn push_event(&mut self, class: NotifyFlags, name: &'static str, db: usize, key: &[u8]) {
        self.events.push(Event { class, name, db, key: key.into() });
    }

    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Takes the keyspace events that are to be published, in order.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    #[inline]
    pub(crate) fn signal_changed(&mut self, db: usize, key: &[u8]) {
        if !self.watch.is_empty() {
            self.watch.changed(db, key);
        }
        self.record(db, key);
    }

    fn record(&mut self, db: usize, key: &[u8]) {
        if let Some(recorded) = &mut self.recorded
            && recorded[self.split_until..].last().is_none_or(|(last_db, last)| *last_db != db || **last != *key)
        {
            recorded.push((db, key.into()));
        }
    }

    // ---- work that spans shards: entries are lent to a scratch shard and come back ----

    /// From now on this shard notes which keys are changed.
    pub fn begin_recording(&mut self) {
        self.recorded = Some(Vec::new());
        self.split_until = 0;
    }

    /// The keys changed since [`Shard::begin_recording`], with their databases, in the order of the changes. Who is told twice of a
    /// key has nothing more to do: taking out what comes again would cost more.
    pub fn end_recording(&mut self) -> Vec<(usize, Box<[u8]>)> {
        self.recorded.take().unwrap_or_default()
    }

    /// Takes the counters and the values to be freed of another shard that was worked in.
    pub fn take_over(&mut self, worked_in: &mut Shard) {
        self.stats.add(&std::mem::take(&mut worked_in.stats));
        self.trash.take_over(&mut worked_in.trash);
    }

    /// Puts a lent entry in place; tells nobody.
    pub fn install(&mut self, db: usize, entry: OwnedEntry) {
        let key = entry.key().to_vec();
        let replaced = self.dbs[db].put(&self.hasher.key(&key), entry);
        debug_assert!(replaced.is_none(), "a lent key is nowhere else");
    }

    /// A key of this shard was changed while it was lent: its watchers and those who wait for it are told.
    pub fn changed_elsewhere(&mut self, db: usize, key: &[u8]) {
        self.signal_changed(db, key);
        if self.waiters.is_empty() {
            return;
        }
        let awaited = match self.dbs[db].value(&self.hasher.key(key)) {
            Some(Value::List(_)) => Awaited::List,
            Some(Value::SortedSet(_)) => Awaited::SortedSet,
            _ => return,
        };
        self.waiters.filled(db, key, awaited);
    }

    /// The keys that only the data can tell, for a command whose own keys are here.
    pub fn dynamic_keys(&mut self, dynamic: DynamicKeys, request: &Request<'_>) -> Vec<Vec<u8>> {
        let mut exec = Exec::new(self, &request.command.spec, request.db, request.now, request.client);
        (dynamic.find)(&mut exec, request.args)
    }

    /// Whether a key that the client watches on this shard has changed, or has expired since.
    pub fn watch_is_broken(&self, client: ClientId, now: i64) -> bool {
        self.watch.is_dirty(client)
            || self.watch.keys_of(client).any(|(db, key, was_expired)| {
                let expiry = self.dbs[db].expiry(&self.hasher.key(key)).flatten();
                !was_expired && self.is_expired(expiry, now)
            })
    }

    /// WATCH: marks the client's interest in a key.
    pub fn watch_key(&mut self, client: ClientId, db: usize, key: &[u8], now: i64) {
        let expiry = self.dbs[db].expiry(&self.hasher.key(key)).flatten();
        let expired = self.is_expired(expiry, now);
        self.watch.watch(client, db, key, expired);
    }

    #[inline]
    pub(crate) fn is_expired(&self, expiry: Option<i64>, now: i64) -> bool {
        expiry.is_some_and(|at_ms| now > at_ms) && !self.settings.loading
    }

    /// Removes a key whose time is up.
    pub(crate) fn expire(&mut self, db: usize, key: &Key<'_>) {
        let Some(entry) = self.dbs[db].take(key) else { return };
        self.trash.discard(entry);
        self.stats.expired_keys += 1;
        if self.effects.enabled {
            let command = deletion(self.settings.lazyfree_lazy_expire);
            self.effects.push(db, None, [command, key.bytes].into_iter());
        }
        if self.notifies(NotifyFlags::EXPIRED) {
            self.push_event(NotifyFlags::EXPIRED, "expired", db, key.bytes);
        }
        if !self.watch.is_empty() {
            self.watch.expired(db, key.bytes);
        }
        self.record(db, key.bytes);
    }

    /// The access clock of a new entry.
    pub fn fresh_access(&self, now: i64) -> u32 {
        if self.settings.maxmemory_policy.is_lfu() { lfu_minutes(now) << 8 | LFU_INITIAL } else { lru_seconds(now) }
    }

    /// The access clock after one more access.
    #[inline]
    pub(crate) fn next_access(&mut self, access: u32, now: i64) -> u32 {
        if !self.settings.maxmemory_policy.is_lfu() {
            return lru_seconds(now);
        }
        let counter = self.lfu_counter(access, now);
        let chance = 1.0 / (f64::from(counter.saturating_sub(LFU_INITIAL)) * f64::from(self.settings.lfu_log_factor) + 1.0);
        let counter = if counter < 255 && self.random.unit() < chance { counter + 1 } else { counter };
        lfu_minutes(now) << 8 | counter
    }

    /// An LFU counter, decremented for the time since it was last seen.
    pub fn lfu_counter(&self, access: u32, now: i64) -> u32 {
        let elapsed = lfu_minutes(now).wrapping_sub(access >> 8) & 0xFFFF;
        let periods = elapsed.checked_div(self.settings.lfu_decay_time).unwrap_or(0);
        (access & 0xFF).saturating_sub(periods)
    }

    pub fn policy(&self) -> EvictionPolicy {
        self.settings.maxmemory_policy
    }
}

/// The command that says that a key was removed, by the setting for the reason.
pub(crate) fn deletion(lazy: bool) -> &'static [u8] {
    if lazy { b"UNLINK" } else { b"DEL" }
}

/// Counter of a new entry, so that it is not evicted before it had a chance.
const LFU_INITIAL: u32 = 5;

fn lru_seconds(now: i64) -> u32 {
    ((now / 1000) & 0xFF_FFFF) as u32
}

fn lfu_minutes(now: i64) -> u32 {
    ((now / 60_000) & 0xFFFF) as u32
}

/// Seconds since the last access, by an LRU clock that wraps after 194 days.
pub fn lru_idle_seconds(access: u32, now: i64) -> u32 {
    lru_seconds(now).wrapping_sub(access) & 0xFF_FFFF
}

/// Values on their way out: large ones are freed a slice at a time, so that deleting never stalls the core.
#[derive(Default)]
pub struct Trash {
    objects: Vec<Object>,
    dbs: Vec<Db>,
    /// Objects freed in slices since the start (INFO's lazyfreed_objects).
    pub freed: u64,
}

/// Elements up to which a value is freed at once.
const FREE_AT_ONCE: usize = 64;

impl Trash {
    /// Frees the entry now if that is quick, later if not.
    pub fn discard(&mut self, entry: OwnedEntry) {
        if let Some(object) = entry.into_object()
            && object.elements() > FREE_AT_ONCE
        {
            self.objects.push(object);
        }
    }

    /// Everything another shard has to free.
    fn take_over(&mut self, other: &mut Trash) {
        self.objects.append(&mut other.objects);
        self.dbs.append(&mut other.dbs);
        self.freed += std::mem::take(&mut other.freed);
    }

    /// A whole database.
    pub fn discard_db(&mut self, db: Db) {
        if !db.is_empty() {
            self.dbs.push(db);
        }
    }

    /// Objects waiting to be freed (INFO's lazyfree_pending_objects).
    pub fn pending(&self) -> usize {
        self.objects.len() + self.dbs.iter().map(Db::len).sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.dbs.is_empty()
    }

    /// Frees about `budget` elements.
    pub fn free_some(&mut self, budget: usize) {
        if let Some(object) = self.objects.last_mut() {
            if object.free_some(budget) {
                self.objects.pop();
                self.freed += 1;
            }
        } else if let Some(db) = self.dbs.last_mut() {
            let (objects, freed) = (&mut self.objects, &mut self.freed);
            let emptied = db.drain_some(budget, &mut |entry| match entry.into_object() {
                Some(object) if object.elements() > FREE_AT_ONCE => objects.push(object),
                _ => *freed += 1,
            });
            if emptied {
                self.dbs.pop();
            }
        }
    }
}
