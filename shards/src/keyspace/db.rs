//! One database of a shard: keys to entries, with their number and how many of them expire.
//!
//! Knows nothing of `now`: whether an entry has expired is decided above (`exec`), which keeps every use of the clock in one
//! place. A lookup costs one table lookup and one touch of the entry.

use super::cut::{Cut, CutForm};
use super::entry::{Entry, NewValue, OwnedEntry, Value, ValueMut};
use super::slot::{SLOTS, SlotId};
use crate::random::Random;
use crate::table::{Cursor, Place, Table, prefetch_target};
use ahash::RandomState;

/// A key with its slot and its place in the tables, computed once per command.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    pub bytes: &'a [u8],
    pub slot: SlotId,
    pub place: Place,
}

/// Turns keys into places. All shards of a node share the seeds, so that a key computed on one core is valid on another.
#[derive(Clone)]
pub struct KeyHasher {
    state: RandomState,
    shards: u16,
    /// 2^32 divided by the shards, rounded up: spares the division that every key would need twice.
    reciprocal: u64,
    /// Left shift that brings the slot's number within its shard to the top of a position.
    slot_shift: u32,
}

impl KeyHasher {
    pub fn new(seeds: [u64; 4], shards: u16) -> Self {
        let local_slots = u32::from(SLOTS).div_ceil(u32::from(shards));
        KeyHasher {
            state: RandomState::with_seeds(seeds[0], seeds[1], seeds[2], seeds[3]),
            shards,
            reciprocal: (1u64 << 32).div_ceil(u64::from(shards)),
            slot_shift: 64 - local_slots.next_power_of_two().trailing_zeros(),
        }
    }

    #[inline]
    pub fn key<'a>(&self, bytes: &'a [u8]) -> Key<'a> {
        self.key_in_slot(bytes, SlotId::of_key(bytes))
    }

    #[inline]
    pub fn key_in_slot<'a>(&self, bytes: &'a [u8], slot: SlotId) -> Key<'a> {
        Key { bytes, slot, place: Place::of_key(self.slot_position(slot), self.state.hash_one(bytes)) }
    }

    /// The slot's number within its shard. Exact: the reciprocal is too large by less than 1, so the product by less than 2^14,
    /// while a quotient is short of the next whole number by a 2^14th at least, which is 2^18 here.
    #[inline]
    fn number_in_shard(&self, slot: SlotId) -> u64 {
        const _: () = assert!(SLOTS <= 1 << 14);
        (u64::from(slot.0) * self.reciprocal) >> 32
    }

    /// Position of the first key of `slot` in the tables of the shard that owns it.
    #[inline]
    fn slot_position(&self, slot: SlotId) -> u64 {
        self.number_in_shard(slot).checked_shl(self.slot_shift).unwrap_or(0)
    }

    /// The first and the last position of a slot's keys.
    pub fn slot_positions(&self, slot: SlotId) -> (u64, u64) {
        let first = self.slot_position(slot);
        (first, first | ((1u64 << self.slot_shift.min(63)) - 1))
    }

    #[inline]
    pub fn shard_of(&self, slot: SlotId) -> usize {
        usize::from(slot.0 - self.number_in_shard(slot) as u16 * self.shards)
    }

    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// The place of a member or field inside a value's own table.
    #[inline]
    pub fn member(&self, bytes: &[u8]) -> Place {
        Place::of_hash(self.state.hash_one(bytes))
    }

    /// What hashes members and fields; values' own tables keep a copy.
    pub fn state(&self) -> &RandomState {
        &self.state
    }
}

/// What happens to a key's expiry when its value is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry {
    Keep,
    Clear,
    /// Milliseconds since 1970.
    At(i64),
}

/// Entries a cut looks at between two looks at its budget.
const CUT_STEP: usize = 16;

pub struct Db {
    table: Table,
    hasher: KeyHasher,
    /// Entries with an expiry.
    volatile: usize,
    /// Where the active expiry cycle goes on.
    pub(crate) expire_cursor: Cursor,
    /// Running estimate of the share of volatile keys whose time is up.
    pub(crate) stale_share: f64,
    /// Running estimate of the time to live of volatile keys, milliseconds (INFO's avg_ttl).
    pub avg_ttl_ms: i64,
    /// The mark of entries that no cut is to write any more; see [`super::cut`].
    mark: bool,
    cut: Option<Box<Cut>>,
}

impl Db {
    pub fn new(hasher: KeyHasher) -> Self {
        Db {
            table: Table::new(),
            hasher,
            volatile: 0,
            expire_cursor: Cursor::START,
            stale_share: 0.0,
            avg_ttl_ms: 0,
            mark: false,
            cut: None,
        }
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Keys with an expiry.
    pub fn volatile(&self) -> usize {
        self.volatile
    }

    /// Heap bytes of the table, without entries.
    pub fn table_bytes(&self) -> usize {
        self.table.bytes()
    }

    #[inline]
    pub fn prefetch(&self, key: &Key<'_>) {
        self.table.prefetch(key.place);
    }

    /// Fetches the entry the key would be found in; call some time after [`Db::prefetch`].
    #[inline]
    pub fn prefetch_entry(&self, key: &Key<'_>) {
        self.table.prefetch_payload(key.place);
    }

    /// Fetches the entries of several keys, so that their misses of the cache overlap.
    #[inline]
    pub fn prefetch_all<'k>(&self, keys: impl Iterator<Item = &'k Key<'k>> + Clone) {
        keys.clone().for_each(|key| self.prefetch(key));
        keys.for_each(|key| self.prefetch_entry(key));
    }

    /// Fetches the place of a field or member in the large value of `key`, if there is one; the entry should have arrived.
    #[inline]
    pub fn prefetch_member(&self, key: &Key<'_>, member: &[u8]) -> Option<Place> {
        let table = self.members(key)?;
        let place = self.hasher.member(member);
        table.prefetch(place);
        Some(place)
    }

    /// Fetches the member itself; call some time after [`Db::prefetch_member`], with the place it gave.
    #[inline]
    pub fn prefetch_member_block(&self, key: &Key<'_>, place: Place) {
        if let Some(table) = self.members(key) {
            table.prefetch_payload(place);
        }
    }

    /// The table of a large value with members.
    #[inline]
    fn members(&self, key: &Key<'_>) -> Option<&Table> {
        match self.value(key)? {
            Value::Hash(hash) => hash.table(),
            Value::Set(set) => set.table(),
            Value::SortedSet(sorted_set) => sorted_set.table(),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn find(&self, key: &Key<'_>) -> Option<Entry> {
        self.table.get(key.place, |payload| entry(payload).key() == key.bytes).map(entry)
    }

    #[inline]
    pub fn value(&self, key: &Key<'_>) -> Option<Value<'_>> {
        self.find(key).map(Entry::value)
    }

    pub fn value_mut(&mut self, key: &Key<'_>) -> Option<ValueMut<'_>> {
        let entry = self.find(key)?;
        self.before_change(entry);
        Some(entry.value_mut())
    }

    pub fn contains(&self, key: &Key<'_>) -> bool {
        self.find(key).is_some()
    }

    /// `None`: no such key; `Some(None)`: it does not expire.
    pub fn expiry(&self, key: &Key<'_>) -> Option<Option<i64>> {
        self.find(key).map(Entry::expiry)
    }

    /// The access clock of a key: LRU seconds, or LFU minutes and counter.
    pub fn access(&self, key: &Key<'_>) -> Option<u32> {
        self.find(key).map(Entry::access)
    }

    /// Sets the value of a key, new or not. Returns the entry it replaced, if that was not overwritten in place.
    /// `access` is the clock of a new entry.
    pub fn set(&mut self, key: &Key<'_>, value: NewValue<'_>, expiry: Expiry, access: u32) -> Option<OwnedEntry> {
        let old = self.find(key);
        let at_ms = match expiry {
            Expiry::Keep => old.and_then(Entry::expiry),
            Expiry::Clear => None,
            Expiry::At(at_ms) => Some(at_ms),
        };
        if let Some(old) = old {
            self.before_change(old);
            if old.overwrite(&value, at_ms.is_some()) {
                if let Some(at_ms) = at_ms {
                    old.set_expiry(at_ms);
                }
                old.set_access(access);
                return None;
            }
        }
        let mut new = OwnedEntry::new(key.bytes, value, at_ms);
        new.set_access(access);
        self.put(key, new)
    }

    /// Puts an entry in, in the place of one with the same key, which is returned.
    pub fn put(&mut self, key: &Key<'_>, new: OwnedEntry) -> Option<OwnedEntry> {
        debug_assert_eq!(new.key(), key.bytes);
        let new = new.release();
        new.set_mark(self.mark);
        self.volatile += usize::from(new.has_expiry());
        let old = self.find(key);
        if let Some(old) = old {
            self.before_change(old);
            self.volatile -= usize::from(old.has_expiry());
            let is_old = |payload| entry(payload) == old;
            assert!(self.table.replace(key.place, is_old, new.to_payload()), "an entry just found can be replaced");
            // SAFETY: `old` has just left the table, and nothing else owns it.
            return Some(unsafe { OwnedEntry::from_entry(old) });
        }
        let hasher = &self.hasher;
        let position_of = |payload| hasher.key(entry(payload).key()).place.position;
        self.table.insert(key.place, new.to_payload(), position_of);
        None
    }

    /// Takes a key out.
    pub fn take(&mut self, key: &Key<'_>) -> Option<OwnedEntry> {
        let payload = self.table.remove(key.place, |payload| entry(payload).key() == key.bytes)?;
        let old = entry(payload);
        self.before_change(old);
        self.volatile -= usize::from(old.has_expiry());
        // SAFETY: the entry has just left the table, and nothing else owns it.
        Some(unsafe { OwnedEntry::from_entry(old) })
    }

    /// Sets or removes the expiry of a key; false when there is no such key.
    pub fn set_expiry(&mut self, key: &Key<'_>, expiry: Option<i64>) -> bool {
        let Some(old) = self.find(key) else { return false };
        self.before_change(old);
        match (old.has_expiry(), expiry) {
            (true, Some(at_ms)) => old.set_expiry(at_ms),
            (false, None) => {}
            _ => {
                let entry = self.take(key).expect("the key has just been found");
                self.put(key, entry.with_expiry(expiry));
            }
        }
        true
    }

    // ---- the cut ----

    /// Makes the cut: what is in the database now is to be written, under the database's number `number`.
    pub fn begin_cut(&mut self, number: usize, form: CutForm) {
        assert!(self.cut.is_none(), "one cut at a time");
        if !self.is_empty() {
            self.mark = !self.mark;
            self.cut = Some(Box::new(Cut::new(number, form)));
        }
    }

    /// Whether a cut, perhaps one that was given up, is still under way.
    pub fn is_cutting(&self) -> bool {
        self.cut.is_some()
    }

    /// An entry of this database is about to change or to go: it is written first if the cut still owes it.
    #[inline]
    pub(crate) fn before_change(&mut self, entry: Entry) {
        if let Some(cut) = &mut self.cut
            && entry.mark() != self.mark
        {
            entry.set_mark(self.mark);
            cut.write(entry);
        }
    }

    /// Goes on with the cut, by about `want` entries and not far beyond `bytes` of records; appends them to `out` and returns
    /// how many keys they are. Without a cut, nothing.
    pub fn continue_cut(&mut self, mut want: usize, bytes: usize, out: &mut Vec<u8>) -> u64 {
        let Some(cut) = &mut self.cut else { return 0 };
        let mark = self.mark;
        let mut next = Some(cut.cursor);
        let mut found = Vec::with_capacity(2 * CUT_STEP);
        while let Some(cursor) = next
            && want > 0
            && cut.waiting_bytes() < bytes
        {
            let step = want.min(CUT_STEP);
            // All are asked for before the first is looked at: each is a miss of the cache.
            next = self.table.scan(cursor, step, &mut |payload| {
                prefetch_target(payload);
                found.push(entry(payload));
            });
            for entry in found.drain(..).filter(|entry| entry.mark() != mark) {
                entry.set_mark(mark);
                cut.write(entry);
            }
            want -= step;
        }
        let keys = cut.take(out);
        match next {
            Some(cursor) => cut.cursor = cursor,
            None => self.cut = None,
        }
        keys
    }

    /// Bytes of records that wait to be taken.
    pub(super) fn cut_waiting_bytes(&self) -> usize {
        self.cut.as_ref().map_or(0, |cut| cut.waiting_bytes())
    }

    /// Gives the cut up. Marks are still to be turned: go on with [`Db::continue_cut`] before the next one.
    pub fn give_up_cut(&mut self) {
        if let Some(cut) = &mut self.cut {
            cut.give_up();
        }
    }

    /// Visits at least `want` entries from `cursor` on; see [`Table::scan`].
    pub(crate) fn scan(&self, cursor: Cursor, want: usize, visit: &mut dyn FnMut(Entry)) -> Option<Cursor> {
        self.table.scan(cursor, want, &mut |payload| visit(entry(payload)))
    }

    /// As [`Db::scan`], visiting only entries with an expiry; the others are passed by without being touched.
    pub(crate) fn scan_volatile(&self, cursor: Cursor, want: usize, visit: &mut dyn FnMut(Entry)) -> Option<Cursor> {
        self.table.scan(cursor, want, &mut |payload| {
            if Entry::payload_has_expiry(payload) {
                visit(entry(payload));
            }
        })
    }

    /// Visits the keys of a slot until `visit` returns false.
    pub fn for_each_in_slot(&self, slot: SlotId, visit: &mut dyn FnMut(&[u8]) -> bool) {
        let (first, last) = self.hasher.slot_positions(slot);
        let mut cursor = Cursor { position: first, order: 0 };
        let mut go_on = true;
        while go_on {
            let next = self.table.scan_below(cursor, 64, last, &mut |payload| {
                let key: &[u8] = entry(payload).key();
                if go_on && SlotId::of_key(key) == slot {
                    go_on = visit(key);
                }
            });
            match next {
                Some(next) if next.position <= last => cursor = next,
                _ => return,
            }
        }
    }

    /// Visits every key.
    pub fn for_each(&self, mut visit: impl FnMut(&[u8], Value<'_>, Option<i64>)) {
        self.table.for_each(&mut |payload| visit(entry(payload).key(), entry(payload).value(), entry(payload).expiry()));
    }

    /// A key drawn with equal chances.
    pub(crate) fn random(&self, random: &mut Random) -> Option<Entry> {
        self.table.random(random).map(entry)
    }

    /// Moves entries out, at least `budget` if there are as many; true when none is left. For freeing in slices.
    pub fn drain_some(&mut self, budget: usize, take: &mut dyn FnMut(OwnedEntry)) -> bool {
        self.volatile = 0;
        // SAFETY: a drained payload has left the table for good, and nothing else owns its entry.
        self.table.drain_some(budget, &mut |payload| take(unsafe { OwnedEntry::from_entry(entry(payload)) }))
    }

    /// The database emptied, and what it held, to be freed in slices ([`Shard::discard_db`](crate::Shard::discard_db)).
    pub fn replace_by_empty(&mut self) -> Db {
        let mut empty = Db::new(self.hasher.clone());
        empty.mark = self.mark;
        std::mem::replace(self, empty)
    }

    pub fn hasher(&self) -> &KeyHasher {
        &self.hasher
    }

    pub fn check_invariants(&self) {
        self.table.check_invariants(&|payload| self.hasher.key(entry(payload).key()).place.position);
        let volatile = self.table.iter().filter(|&payload| entry(payload).has_expiry()).count();
        assert_eq!(volatile, self.volatile);
        assert!(self.table.iter().all(|payload| entry(payload).has_expiry() == Entry::payload_has_expiry(payload)));
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        while !self.drain_some(usize::MAX, &mut drop) {}
    }
}

/// The entry behind a payload of this database's table.
#[inline]
fn entry(payload: u64) -> Entry {
    // SAFETY: the table holds payloads of live entries only: they enter in `put` and leave in `put`, `take` and `drain_some`.
    unsafe { Entry::from_payload(payload) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn db() -> Db {
        Db::new(KeyHasher::new([1, 2, 3, 4], 3))
    }

    fn name(i: u32) -> Vec<u8> {
        format!("key:{i}").into_bytes()
    }

    #[test]
    fn a_slot_s_shard_and_number_are_its_remainder_and_quotient() {
        for shards in (1..=70).chain([127, 128, 255, 4095, 5461, 8191, 8192, 8193, 16383, 16384]) {
            let hasher = KeyHasher::new([1, 2, 3, 4], shards);
            for slot in (0..SLOTS).map(SlotId) {
                assert_eq!(hasher.shard_of(slot), usize::from(slot.shard(shards)), "slot {slot:?} of {shards} shards");
                assert_eq!(hasher.number_in_shard(slot), u64::from(slot.0 / shards), "slot {slot:?} of {shards} shards");
            }
        }
    }

    #[test]
    fn keys_come_and_go() {
        let mut db = db();
        let hasher = db.hasher().clone();
        for i in 0..5000 {
            let expiry = if i % 3 == 0 { Expiry::At(i64::from(i)) } else { Expiry::Clear };
            assert!(db.set(&hasher.key(&name(i)), NewValue::Integer(i.into()), expiry, 0).is_none());
        }
        db.check_invariants();
        for i in 0..5000 {
            let name = name(i);
            let key = hasher.key(&name);
            assert!(matches!(db.value(&key), Some(Value::Integer(n)) if n == i64::from(i)));
            assert!(db.set_expiry(&key, (i % 2 == 0).then_some(9)));
        }
        assert_eq!(db.volatile(), 2500);
        db.check_invariants();
        for i in 0..4999 {
            assert_eq!(db.take(&hasher.key(&name(i))).map(|e| e.key().to_vec()), Some(name(i)));
        }
        assert_eq!(db.len(), 1);
        db.check_invariants();
    }

    #[test]
    fn a_slot_s_keys_are_found_by_its_pages() {
        let mut db = Db::new(KeyHasher::new([1, 2, 3, 4], 1));
        let hasher = db.hasher().clone();
        for i in 0..20_000 {
            db.set(&hasher.key(&name(i)), NewValue::Bytes(b"v"), Expiry::Clear, 0);
        }
        for slot in [0, 1, 500, 16383].map(SlotId) {
            let want = (0..20_000).filter(|&i| SlotId::of_key(&name(i)) == slot).count();
            let mut got = 0;
            db.for_each_in_slot(slot, &mut |_| {
                got += 1;
                true
            });
            assert_eq!(got, want);
        }
    }
}
