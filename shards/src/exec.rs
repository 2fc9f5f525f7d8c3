//! What a command's handler may do: read and change keys, and say what it did.
//!
//! Every access to a key goes through here, so expiry, access clocks, hit counts, watches, blocked clients, events and effects
//! are taken care of in one place, and a handler is left with its command's meaning. Handlers get the reply writer
//! separately, so that they can write while they hold a borrowed value.
//!
//! A handler that fails returns its error before it has written or changed anything.

use crate::command::{Args, Flags, Spec};
use crate::error::{CommandResult, Error};
use crate::keyspace::entry::Entry;
use crate::keyspace::waiters::{Awaited, Wait};
use crate::keyspace::{ClientId, Db, Expiry, Key, NewValue, OwnedEntry, Value, ValueMut};
use crate::reply::Reply;
use crate::settings::{NotifyFlags, Replica, Settings};
use crate::shard::Shard;
use crate::value::schema::Schemas;
use crate::value::{Hash, List, Object, Set, SortedSet};

/// A shard command's handler. `args[0]` is the command's name (for a subcommand, `args[1]` the subcommand's).
pub type ShardHandler = fn(&mut Exec<'_>, Args<'_>, &mut Reply<'_>) -> CommandResult;

/// One execution of one command.
pub struct Exec<'s> {
    pub shard: &'s mut Shard,
    /// Index of the selected database.
    pub db: usize,
    /// Milliseconds since 1970; the same for a whole MULTI block or script.
    pub now: i64,
    pub client: ClientId,
    pub spec: &'static Spec,
    /// False inside MULTI and scripts: a command that would wait answers its timeout reply at once.
    pub may_block: bool,
    /// Reads do not move access clocks (CLIENT NO-TOUCH).
    pub no_touch: bool,
    hint: Option<Key<'s>>,
    /// The key that was filled, when a blocked client is served.
    filled: Option<&'s [u8]>,
    outcome: Outcome,
    effect: EffectText,
}

/// What is logged of a command and sent to replicas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum EffectText {
    /// Its own text, if it writes and has changed something.
    OwnIfChanged,
    /// Its own text in any case.
    Own,
    /// What the handler has given instead.
    Given,
}

/// What an execution did, beside its reply.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Number of changes, as `rdb_changes_since_last_save` counts them.
    pub dirty: u64,
    /// The client must wait; nothing was replied.
    pub wait: Option<Wait>,
    /// An error was replied.
    pub failed: bool,
    /// The whole data set was given up, so that what is being saved of it is not wanted any more.
    pub flushed_all: bool,
}

impl<'s> Exec<'s> {
    pub(crate) fn new(shard: &'s mut Shard, spec: &'static Spec, db: usize, now: i64, client: ClientId) -> Self {
        Exec {
            shard,
            db,
            now,
            client,
            spec,
            may_block: false,
            no_touch: false,
            hint: None,
            filled: None,
            outcome: Outcome::default(),
            effect: EffectText::OwnIfChanged,
        }
    }

    /// The first key's place, where the caller has computed it already.
    pub(crate) fn with_hint(mut self, hint: Option<Key<'s>>) -> Self {
        self.hint = hint;
        self
    }

    /// The command has waited, and is run for this key, which was filled.
    pub(crate) fn serving(mut self, filled: &'s [u8]) -> Self {
        self.filled = Some(filled);
        self
    }

    /// Runs the handler and settles its reply, effect and outcome.
    #[inline]
    pub(crate) fn run(mut self, handler: ShardHandler, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
        if self.shard.effects.enabled {
            return self.run_with_effects(handler, args, reply);
        }
        self.handle(handler, args, reply);
        self.outcome
    }

    #[inline]
    fn handle(&mut self, handler: ShardHandler, args: Args<'_>, reply: &mut Reply<'_>) {
        let start = reply.out.len();
        if let Err(error) = handler(self, args, reply) {
            debug_assert_eq!(reply.out.len(), start, "a handler that fails has written nothing");
            reply.error(&error);
            self.outcome.failed = true;
        }
    }

    /// The keys that expire on the way and the command itself are one group, but for a command that comes past any keys there are
    /// (SCAN): those have nothing to do with each other.
    fn run_with_effects(mut self, handler: ShardHandler, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
        let grouped = !self.spec.flags.has(Flags::TOUCHES_ARBITRARY_KEYS);
        if grouped {
            self.shard.effects.begin();
        }
        self.handle(handler, args, reply);
        let own_text = match self.effect {
            EffectText::OwnIfChanged => self.outcome.dirty > 0 && self.spec.flags.has(Flags::WRITE),
            EffectText::Own => true,
            EffectText::Given => false,
        };
        if own_text {
            self.shard.effects.push(self.db, Some(self.spec), args.iter());
        }
        if grouped {
            self.shard.effects.end();
        }
        self.outcome
    }

    pub fn settings(&self) -> &Settings {
        &self.shard.settings
    }

    // ---- keys ----

    /// A key argument with its place. The bytes may come from anywhere; the first key of the command is not hashed again.
    #[inline]
    pub fn key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        match self.hint {
            Some(hint) if std::ptr::eq(hint.bytes, bytes) => Key { bytes, ..hint },
            _ => self.shard.hasher.key(bytes),
        }
    }

    pub fn database(&mut self) -> &mut Db {
        &mut self.shard.dbs[self.db]
    }

    /// The value of a key for reading: counts a hit or a miss and moves the access clock.
    #[inline]
    pub fn get(&mut self, key: &Key<'_>) -> Option<Value<'_>> {
        let entry = self.read(key)?;
        self.touch_access(entry);
        Some(entry.value())
    }

    /// As [`Exec::get`], without moving the access clock (EXISTS, TYPE, TTL).
    pub fn look(&mut self, key: &Key<'_>) -> Option<Value<'_>> {
        self.read(key).map(Entry::value)
    }

    #[inline]
    fn read(&mut self, key: &Key<'_>) -> Option<Entry> {
        let Some(entry) = self.live(key) else {
            self.shard.stats.keyspace_misses += 1;
            self.event(NotifyFlags::KEY_MISS, "keymiss", key);
            return None;
        };
        self.shard.stats.keyspace_hits += 1;
        Some(entry)
    }

    /// As [`Exec::get`], without counting and without moving the access clock (OBJECT, DEBUG …).
    pub fn peek(&mut self, key: &Key<'_>) -> Option<Value<'_>> {
        self.live(key).map(Entry::value)
    }

    /// The value of a key for changing it. Say [`Exec::changed`] when it was.
    pub fn get_mut(&mut self, key: &Key<'_>) -> Option<ValueMut<'_>> {
        self.entry_to_change(key).map(Entry::value_mut)
    }

    fn entry_to_change(&mut self, key: &Key<'_>) -> Option<Entry> {
        let entry = self.live(key)?;
        self.shard.dbs[self.db].before_change(entry);
        self.touch_access(entry);
        Some(entry)
    }

    pub fn exists(&mut self, key: &Key<'_>) -> bool {
        self.live(key).is_some()
    }

    pub fn list(&mut self, key: &Key<'_>) -> Result<Option<&List>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::List(list)) => Ok(Some(list)),
            Some(_) => Err(Error::WrongType),
        }
    }

    pub fn hash(&mut self, key: &Key<'_>) -> Result<Option<&Hash>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Hash(hash)) => Ok(Some(hash)),
            Some(_) => Err(Error::WrongType),
        }
    }

    pub fn set(&mut self, key: &Key<'_>) -> Result<Option<&Set>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Set(set)) => Ok(Some(set)),
            Some(_) => Err(Error::WrongType),
        }
    }

    pub fn sorted_set(&mut self, key: &Key<'_>) -> Result<Option<&SortedSet>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::SortedSet(zset)) => Ok(Some(zset)),
            Some(_) => Err(Error::WrongType),
        }
    }

    pub fn list_mut(&mut self, key: &Key<'_>) -> Result<Option<&mut List>, Error> {
        match self.get_mut(key) {
            None => Ok(None),
            Some(ValueMut::List(list)) => Ok(Some(list)),
            Some(_) => Err(Error::WrongType),
        }
    }

    /// With what it is fitted to when its fields have changed.
    pub fn hash_mut(&mut self, key: &Key<'_>) -> Result<Option<(&mut Hash, &mut Schemas)>, Error> {
        match self.entry_to_change(key).map(Entry::value_mut) {
            None => Ok(None),
            Some(ValueMut::Hash(hash)) => Ok(Some((hash, &mut self.shard.schemas))),
            Some(_) => Err(Error::WrongType),
        }
    }

    pub fn set_mut(&mut self, key: &Key<'_>) -> Result<Option<&mut Set>, Error> {
        match self.get_mut(key) {
            None => Ok(None),
            Some(ValueMut::Set(set)) => Ok(Some(set)),
            Some(_) => Err(Error::WrongType),
        }
    }

    pub fn sorted_set_mut(&mut self, key: &Key<'_>) -> Result<Option<&mut SortedSet>, Error> {
        match self.get_mut(key) {
            None => Ok(None),
            Some(ValueMut::SortedSet(zset)) => Ok(Some(zset)),
            Some(_) => Err(Error::WrongType),
        }
    }

    /// The string value of a key for changing it in place, made (empty) if there is none. Its encoding becomes `raw`.
    pub fn string_mut(&mut self, key: &Key<'_>) -> Result<&mut Vec<u8>, Error> {
        let long = match self.get(key) {
            Some(Value::Long(_)) => None,
            Some(Value::Integer(number)) => Some(itoa::Buffer::new().format(number).as_bytes().to_vec()),
            Some(Value::Short(bytes)) => Some(bytes.to_vec()),
            None => Some(Vec::new()),
            Some(_) => return Err(Error::WrongType),
        };
        if let Some(bytes) = long {
            self.store(key, NewValue::Object(Object::String(Box::new(bytes))), Expiry::Keep);
        }
        match self.get_mut(key) {
            Some(ValueMut::Long(bytes)) => Ok(bytes),
            _ => Err(Error::WrongType),
        }
    }

    /// Sets the value of a key, whatever it held. Does not count as a change by itself: say [`Exec::changed`].
    pub fn store(&mut self, key: &Key<'_>, value: NewValue<'_>, expiry: Expiry) {
        let awaited = match &value {
            NewValue::Object(Object::List(_)) => Some(Awaited::List),
            NewValue::Object(Object::SortedSet(_)) => Some(Awaited::SortedSet),
            _ => None,
        };
        let access = self.shard.fresh_access(self.now);
        let is_own_time = match expiry {
            Expiry::Keep => self.expires_here(key),
            Expiry::Clear | Expiry::At(_) => self.client != ClientId::PRIMARY,
        };
        let expired = self.live(key).is_none() && self.shard.notifies(NotifyFlags::NEW);
        if expired {
            self.event(NotifyFlags::NEW, "new", key);
        }
        if let Some(old) = self.shard.dbs[self.db].set(key, value, expiry, access) {
            self.shard.trash.discard(old);
        }
        self.note_time(key, is_own_time);
        self.filled(key, awaited);
    }

    /// Puts an entry (taken elsewhere, restored, renamed) under `key`, which must be its own key.
    pub fn put(&mut self, key: &Key<'_>, entry: OwnedEntry) {
        let awaited = match entry.value() {
            Value::List(_) => Some(Awaited::List),
            Value::SortedSet(_) => Some(Awaited::SortedSet),
            _ => None,
        };
        if self.shard.notifies(NotifyFlags::NEW) && self.live(key).is_none() {
            self.event(NotifyFlags::NEW, "new", key);
        }
        if let Some(old) = self.shard.dbs[self.db].put(key, entry) {
            self.shard.trash.discard(old);
        }
        self.note_time(key, self.client != ClientId::PRIMARY);
        self.filled(key, awaited);
    }

    fn filled(&mut self, key: &Key<'_>, awaited: Option<Awaited>) {
        if let Some(awaited) = awaited
            && !self.shard.waiters.is_empty()
        {
            self.shard.waiters.filled(self.db, key.bytes, awaited);
        }
    }

    /// Removes a key; a large value is freed later, in slices. Does not count as a change by itself.
    pub fn delete(&mut self, key: &Key<'_>) -> bool {
        match self.take(key) {
            Some(entry) => {
                self.shard.trash.discard(entry);
                true
            }
            None => false,
        }
    }

    /// As [`Exec::delete`], also for a key whose time is up and that nobody has come across yet: as in Redis, it then counts as
    /// deleted instead of expired.
    pub fn delete_even_expired(&mut self, key: &Key<'_>) -> bool {
        let entry = self.shard.dbs[self.db].take(key);
        let existed = entry.is_some();
        entry.into_iter().for_each(|entry| self.shard.trash.discard(entry));
        existed
    }

    /// Takes a key out with its value.
    pub fn take(&mut self, key: &Key<'_>) -> Option<OwnedEntry> {
        self.live(key)?;
        self.shard.dbs[self.db].take(key)
    }

    /// Removes a collection that has become empty, with its `del` event.
    pub fn delete_emptied(&mut self, key: &Key<'_>) {
        self.delete(key);
        self.event(NotifyFlags::GENERIC, "del", key);
    }

    /// `None`: no such key; `Some(None)`: it does not expire. Milliseconds since 1970.
    pub fn expiry(&mut self, key: &Key<'_>) -> Option<Option<i64>> {
        self.live(key).map(Entry::expiry)
    }

    /// Sets or removes the expiry; false when there is no such key.
    pub fn set_expiry(&mut self, key: &Key<'_>, expiry: Option<i64>) -> bool {
        let is_there = self.live(key).is_some();
        if is_there {
            self.shard.dbs[self.db].set_expiry(key, expiry);
            self.note_time(key, self.client != ClientId::PRIMARY);
        }
        is_there
    }

    fn expires_here(&self, key: &Key<'_>) -> bool {
        self.settings().replica == Replica::Writable && self.shard.dbs[self.db].find(key).is_some_and(Entry::expires_here)
    }

    /// Whose the time of a key is that was just set: on a writable replica the node removes what its own clients have timed.
    #[inline]
    fn note_time(&mut self, key: &Key<'_>, is_own: bool) {
        if self.settings().replica == Replica::Writable
            && let Some(entry) = self.shard.dbs[self.db].find(key)
        {
            entry.set_expires_here(is_own);
        }
    }

    /// Whether a key given this time is to be removed at once. Not while the data set is loaded: what follows may still need it.
    pub fn is_past(&self, at_ms: i64) -> bool {
        at_ms <= self.now && !self.settings().loading && self.settings().replica == Replica::No
    }

    /// The access clock of a key: seconds since the last access under LRU policies, the counter under LFU ones.
    pub fn access(&mut self, key: &Key<'_>) -> Option<u32> {
        self.live(key).map(Entry::access)
    }

    /// The entry of a key that has not expired; an expired one is removed on the way.
    #[inline]
    fn live(&mut self, key: &Key<'_>) -> Option<Entry> {
        let entry = self.shard.dbs[self.db].find(key)?;
        if entry.has_expiry() && self.shard.is_expired(entry.expiry(), self.now) {
            return self.expired(entry, key);
        }
        Some(entry)
    }

    /// A key whose time is up. A replica waits for its primary to say so, whose commands find the key until then.
    #[cold]
    fn expired(&mut self, entry: Entry, key: &Key<'_>) -> Option<Entry> {
        match self.settings().replica {
            Replica::ReadOnly | Replica::Writable if self.client == ClientId::PRIMARY => return Some(entry),
            Replica::ReadOnly => {}
            Replica::Writable if !self.spec.flags.has(Flags::WRITE) => {}
            Replica::Writable | Replica::No => self.shard.expire(self.db, key),
        }
        None
    }

    #[inline]
    fn touch_access(&mut self, entry: Entry) {
        if !self.no_touch {
            let access = self.shard.next_access(entry.access(), self.now);
            if access != entry.access() {
                entry.set_access(access);
            }
        }
    }

    // ---- what was done ----

    /// Key `key` was changed: counts it, and lets its watchers know.
    #[inline]
    pub fn changed(&mut self, key: &Key<'_>) {
        self.outcome.dirty += 1;
        self.shard.signal_changed(self.db, key.bytes);
    }

    /// As [`Exec::changed`], counting `changes` (which may be 0: watchers are told all the same).
    pub fn changed_by(&mut self, key: &Key<'_>, changes: u64) {
        self.outcome.dirty += changes;
        self.shard.signal_changed(self.db, key.bytes);
    }

    /// Counts changes that are no single key's (FLUSHALL, SWAPDB).
    pub fn count_changes(&mut self, changes: u64) {
        self.outcome.dirty += changes;
    }

    /// Says that the whole data set was given up.
    pub fn flushed_all(&mut self) {
        self.outcome.flushed_all = true;
    }

    /// Changes so far in this execution.
    pub fn changes(&self) -> u64 {
        self.outcome.dirty
    }

    /// Announces a keyspace event, if its class is switched on.
    #[inline]
    pub fn event(&mut self, class: NotifyFlags, name: &'static str, key: &Key<'_>) {
        if self.shard.notifies(class) {
            self.shard.push_event(class, name, self.db, key.bytes);
        }
    }

    /// Replaces the command's own text as its effect: what is written to the append-only file and sent to replicas. May be
    /// given several times. Needed where the text would not reproduce the change: times, random choices, clocks, waits.
    /// The first argument behind the name is the only key.
    pub fn effect(&mut self, args: &[&[u8]]) {
        self.give_effect(None, args);
    }

    /// As [`Exec::effect`], for a command with several keys, which `spec` finds.
    pub fn effect_of(&mut self, spec: &'static Spec, args: &[&[u8]]) {
        self.give_effect(Some(spec), args);
    }

    fn give_effect(&mut self, spec: Option<&'static Spec>, args: &[&[u8]]) {
        self.effect = EffectText::Given;
        if self.shard.effects.enabled {
            self.shard.effects.push(self.db, spec, args.iter().copied());
        }
    }

    /// The command's own text is its effect, although it may have changed nothing, or is no writing command.
    pub fn effect_is_own_text(&mut self) {
        self.effect = EffectText::Own;
    }

    /// Whether [`Exec::effect`]'s text is wanted at all (to spare making it).
    pub fn wants_effects(&self) -> bool {
        self.shard.effects.enabled
    }

    /// Whether a command that waits may take from this key: from any when it comes, from the one that was filled when it has
    /// waited. The others were empty then, and what they hold now is not looked at.
    pub fn may_serve(&self, key: &[u8]) -> bool {
        self.filled.is_none_or(|filled| filled == key)
    }

    /// The command has waited and is being served.
    pub fn is_served(&self) -> bool {
        self.filled.is_some()
    }

    /// Asks to wait for one of the command's keys to be filled; the handler then returns `Ok` without a reply, and is run
    /// again when a key is ready. Where waiting is not allowed, writes the timeout reply.
    pub fn wait(&mut self, wait: Wait, reply: &mut Reply<'_>) {
        use crate::keyspace::waiters::TimeoutReply;
        if self.may_block {
            self.outcome.wait = Some(wait);
        } else {
            match wait.on_timeout {
                TimeoutReply::Null => reply.null(),
                TimeoutReply::NullArray => reply.null_array(),
            }
        }
    }
}
