//! Eviction: which key to give up when memory is full.
//!
//! Exact LRU or LFU would need every key in one order, kept up at every access. As in Redis, an eviction instead draws a few
//! keys, and the best of them go into a small pool that lives on from one eviction to the next; the best of the pool is
//! evicted. The pool is what makes a sample of five nearly as good as the exact order: good candidates of earlier draws
//! are not lost.
//!
//! A candidate is checked again before it goes: a key that was used, changed or given more time since it was drawn is
//! dropped from the pool instead. Knows nothing of how much memory is used; the caller evicts until it is enough, and must
//! let [`crate::shard::Trash`] free what was evicted.

use super::Key;
use super::entry::Entry;
use crate::settings::{EvictionPolicy, NotifyFlags};
use crate::shard::{Shard, deletion, lru_idle_seconds};
use crate::table::Cursor;

/// Candidates that are kept between evictions.
const POOL_MAX: usize = 16;
/// Keeps LRU scores positive: later than any clock in seconds.
const LRU_BASE: u64 = 1 << 40;
/// Words of the table passed by at a time when walking for volatile keys.
const WALK_WORDS: usize = 32;
/// Words after which a walk that has found something ends.
const WALK_WORDS_MAX: usize = 4096;

/// Keys worth evicting, the best last. Scores of different policies do not mix: [`Pool::use_for`] starts anew.
#[derive(Default)]
pub struct Pool {
    candidates: Vec<Candidate>,
    policy: Option<EvictionPolicy>,
    /// Database from which the next random key is taken.
    next_db: usize,
}

struct Candidate {
    /// The higher, the better to evict.
    score: u64,
    db: usize,
    key: Box<[u8]>,
}

impl Pool {
    fn use_for(&mut self, policy: EvictionPolicy) {
        if self.policy != Some(policy) {
            self.candidates.clear();
            self.policy = Some(policy);
        }
    }

    /// Keeps a candidate if there is room or a worse one.
    fn offer(&mut self, score: u64, db: usize, key: &[u8]) {
        let at = self.candidates.partition_point(|c| c.score < score);
        if self.candidates.len() == POOL_MAX && at == 0 {
            return;
        }
        if self.candidates.iter().any(|c| c.db == db && *c.key == *key) {
            return;
        }
        self.candidates.insert(at, Candidate { score, db, key: key.into() });
        if self.candidates.len() > POOL_MAX {
            self.candidates.remove(0);
        }
    }
}

impl Shard {
    /// Evicts the key that the policy finds best among those it draws; false when there is none that it may evict.
    pub fn evict_one(&mut self, now: i64) -> bool {
        let policy = self.settings.maxmemory_policy;
        match policy {
            EvictionPolicy::NoEviction => false,
            EvictionPolicy::AllkeysRandom | EvictionPolicy::VolatileRandom => self.evict_random(policy),
            _ => self.evict_best(policy, now),
        }
    }

    fn evict_random(&mut self, policy: EvictionPolicy) -> bool {
        for _ in 0..self.dbs.len() {
            let db = self.pool.next_db % self.dbs.len();
            self.pool.next_db = db + 1;
            let mut drawn = None;
            self.sample(db, policy, 1, &mut |entry| drawn = Some(entry.key().to_vec()));
            if let Some(key) = drawn {
                self.evict(db, &key);
                return true;
            }
        }
        false
    }

    fn evict_best(&mut self, policy: EvictionPolicy, now: i64) -> bool {
        let mut pool = std::mem::take(&mut self.pool);
        pool.use_for(policy);
        let evicted = loop {
            let mut sampled = false;
            for db in 0..self.dbs.len() {
                let mut drawn: Vec<Entry> = Vec::new();
                self.sample(db, policy, self.settings.maxmemory_samples.max(1), &mut |entry| drawn.push(entry));
                sampled |= !drawn.is_empty();
                for entry in drawn {
                    pool.offer(self.score(policy, entry, now), db, entry.key());
                }
            }
            if !sampled {
                break false;
            }
            // Candidates that are gone or were used meanwhile leave the pool; it cannot stay empty for long.
            let best = loop {
                let Some(best) = pool.candidates.pop() else { break None };
                let key = self.hasher.key(&best.key);
                let entry = self.dbs.get(best.db).and_then(|db| db.find(&key));
                if entry.is_some_and(|e| self.may_evict(policy, e) && self.score(policy, e, now) >= best.score) {
                    break Some(best);
                }
            };
            if let Some(best) = best {
                self.evict(best.db, &best.key);
                break true;
            }
        };
        self.pool = pool;
        evicted
    }

    fn may_evict(&self, policy: EvictionPolicy, entry: Entry) -> bool {
        !policy.volatile_only() || entry.has_expiry()
    }

    /// How good a key is to evict: seconds idle, rarity of use, or nearness of its end.
    fn score(&self, policy: EvictionPolicy, entry: Entry, now: i64) -> u64 {
        match policy {
            EvictionPolicy::VolatileTtl => u64::MAX - entry.expiry().unwrap_or(i64::MAX).max(0) as u64,
            policy if policy.is_lfu() => u64::from(255 - self.lfu_counter(entry.access(), now)),
            // Minus the time of day, so that the scores of earlier draws stay comparable.
            _ => LRU_BASE + u64::from(lru_idle_seconds(entry.access(), now)) - (now / 1000).clamp(0, LRU_BASE as i64) as u64,
        }
    }

    /// Draws about `wanted` keys of a database that the policy may evict; at least one if there is any. Volatile keys are
    /// looked for from one random place on: passing by other keys costs next to nothing, and neighbours in the table
    /// have nothing else in common.
    fn sample(&mut self, db: usize, policy: EvictionPolicy, wanted: usize, visit: &mut dyn FnMut(Entry)) {
        let draws = if policy.volatile_only() { 1 } else { wanted };
        for _ in 0..draws {
            let Some(entry) = self.dbs[db].random(&mut self.random) else { return };
            if policy.volatile_only() {
                let place = self.hasher.key(entry.key()).place;
                self.walk_volatile(db, Cursor { position: place.position, order: place.order }, wanted, visit);
            } else {
                visit(entry);
            }
        }
    }

    /// Visits volatile keys from `start` on, round the end, until there were `wanted`, or fewer after a long way, or all
    /// have been passed.
    fn walk_volatile(&self, db: usize, start: Cursor, wanted: usize, visit: &mut dyn FnMut(Entry)) {
        if self.dbs[db].volatile() == 0 {
            return;
        }
        let (mut cursor, mut found, mut rounds, mut words) = (start, 0, 0, 0);
        while found < wanted && rounds < 2 && (found == 0 || words < WALK_WORDS_MAX) {
            words += WALK_WORDS;
            let next = self.dbs[db].scan_volatile(cursor, WALK_WORDS, &mut |entry| {
                if found < wanted {
                    visit(entry);
                }
                found += 1;
            });
            rounds += usize::from(next.is_none());
            cursor = next.unwrap_or(Cursor::START);
        }
    }

    fn evict(&mut self, db: usize, key: &[u8]) {
        let key: Key<'_> = self.hasher.key(key);
        let Some(entry) = self.dbs[db].take(&key) else { return };
        self.trash.discard(entry);
        self.stats.evicted_keys += 1;
        self.signal_changed(db, key.bytes);
        if self.notifies(NotifyFlags::EVICTED) {
            self.push_event(NotifyFlags::EVICTED, "evicted", db, key.bytes);
        }
        if self.effects.enabled {
            let command = deletion(self.settings.lazyfree_lazy_eviction);
            self.effects.push(db, None, [command, key.bytes].into_iter());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::testing::shown_effects;
    use crate::keyspace::{Expiry, KeyHasher, NewValue};
    use crate::random::Random;
    use crate::settings::Settings;

    fn shard(policy: EvictionPolicy) -> Shard {
        let settings = Settings { maxmemory_policy: policy, notify: NotifyFlags::EVICTED, ..Settings::default() };
        Shard::new(KeyHasher::new([1, 2, 3, 4], 1), 4, settings, 7)
    }

    fn name(i: usize) -> Vec<u8> {
        format!("key:{i}").into_bytes()
    }

    fn add(shard: &mut Shard, db: usize, i: usize, expiry: Option<i64>, now: i64) {
        let name = name(i);
        let key = shard.hasher.key(&name);
        let access = shard.fresh_access(now);
        shard.dbs[db].set(&key, NewValue::Integer(1), expiry.map_or(Expiry::Clear, Expiry::At), access);
    }

    fn present(shard: &Shard, db: usize, i: usize) -> bool {
        shard.dbs[db].contains(&shard.hasher.key(&name(i)))
    }

    #[test]
    fn nothing_to_evict() {
        for policy in [EvictionPolicy::NoEviction, EvictionPolicy::VolatileLru, EvictionPolicy::VolatileRandom] {
            let mut shard = shard(policy);
            add(&mut shard, 0, 1, None, 0);
            assert!(!shard.evict_one(1000), "{policy:?}");
        }
        assert!(!shard(EvictionPolicy::AllkeysLru).evict_one(1000));
    }

    #[test]
    fn volatile_policies_take_volatile_keys_only_and_all_of_them() {
        use EvictionPolicy::*;
        for policy in [VolatileLru, VolatileLfu, VolatileRandom, VolatileTtl] {
            let mut shard = shard(policy);
            shard.effects.enabled = true;
            for i in 0..30_000 {
                add(&mut shard, i % 2, i, (i % 1000 < 2).then_some(1_000_000 + i as i64), 0);
            }
            for left in (0..60).rev() {
                assert!(shard.evict_one(500_000), "{policy:?}");
                assert_eq!(shard.dbs[0].volatile() + shard.dbs[1].volatile(), left);
            }
            assert!(!shard.evict_one(500_000));
            assert_eq!(shard.dbs[0].len() + shard.dbs[1].len(), 29_940);
            assert_eq!((shard.stats.evicted_keys, shard.effects.take().len(), shard.take_events().len()), (60, 60, 60));
            shard.dbs.iter().for_each(|db| db.check_invariants());
        }
    }

    #[test]
    fn ttl_takes_the_nearest_end_first() {
        let mut shard = shard(EvictionPolicy::VolatileTtl);
        for i in 0..10_000 {
            add(&mut shard, 0, i, Some(1_000_000 + i as i64 * 10), 0);
        }
        for _ in 0..5_000 {
            assert!(shard.evict_one(0));
        }
        let early_left = (0..4_000).filter(|&i| present(&shard, 0, i)).count();
        assert!(early_left < 250, "{early_left} of the 4000 that end first survived 5000 evictions");
    }

    /// The experiment by which Redis's documentation shows its LRU: fill, read the first half again, then add as many new
    /// keys as half of what fits. Ideally the untouched half goes, and nothing else.
    #[test]
    fn lru_keeps_what_was_used() {
        let mut shard = shard(EvictionPolicy::AllkeysLru);
        const FIT: usize = 10_000;
        let mut now = 0;
        for i in 0..FIT {
            now += 100;
            add(&mut shard, 0, i, None, now);
        }
        for i in 0..FIT / 2 {
            now += 100;
            add(&mut shard, 0, i, None, now);
        }
        for i in FIT..FIT + FIT / 2 {
            now += 100;
            assert!(shard.evict_one(now));
            add(&mut shard, 0, i, None, now);
        }
        let kept = |range: std::ops::Range<usize>| range.filter(|&i| present(&shard, 0, i)).count();
        let (used, unused, new) = (kept(0..FIT / 2), kept(FIT / 2..FIT), kept(FIT..FIT + FIT / 2));
        let reference = plain_pool_keeps(FIT);
        assert!(used + FIT / 200 >= reference, "used {used} (reference {reference}), unused {unused}, new {new}");
        assert!(new * 100 >= FIT / 2 * 99, "used {used}, unused {unused}, new {new}");
    }

    /// The same experiment on plain numbers, by the published description: five random keys a time, a pool of sixteen.
    /// Returns how many of the used half are left.
    fn plain_pool_keeps(fit: usize) -> usize {
        let mut random = Random::new(11);
        let mut last_use: Vec<(usize, usize)> = (0..fit).map(|i| (i, if i < fit / 2 { fit + i } else { i })).collect();
        let mut pool: Vec<(usize, usize)> = Vec::new();
        for i in fit..fit + fit / 2 {
            for _ in 0..5 {
                let (key, used) = last_use[random.below(fit as u64) as usize];
                if !pool.contains(&(used, key)) {
                    pool.push((used, key));
                }
            }
            pool.sort_unstable();
            pool.truncate(16);
            let (_, evicted) = pool.remove(0);
            let at = last_use.iter().position(|&(key, _)| key == evicted).unwrap();
            last_use[at] = (i, fit + i);
        }
        last_use.iter().filter(|&&(key, _)| key < fit / 2).count()
    }

    #[test]
    fn lfu_keeps_what_is_used_often() {
        let mut shard = shard(EvictionPolicy::AllkeysLfu);
        let mut random = Random::new(3);
        for i in 0..10_000 {
            add(&mut shard, 0, i, None, 0);
        }
        for _ in 0..200_000 {
            let name = name(random.below(1_000) as usize);
            let entry = shard.dbs[0].find(&shard.hasher.key(&name)).unwrap();
            let access = shard.next_access(entry.access(), 1000);
            entry.set_access(access);
        }
        for i in 10_000..18_000 {
            assert!(shard.evict_one(1000));
            add(&mut shard, 0, i, None, 1000);
        }
        let hot = (0..1_000).filter(|&i| present(&shard, 0, i)).count();
        assert!(hot >= 995, "{hot} of 1000 hot keys survived");
    }

    #[test]
    fn an_eviction_is_logged_by_the_lazyfree_setting_as_an_effect_of_its_own() {
        for (lazy, wanted) in [(false, "DEL"), (true, "UNLINK")] {
            let mut shard = shard(EvictionPolicy::AllkeysRandom);
            shard.settings.lazyfree_lazy_eviction = lazy;
            shard.effects.enabled = true;
            add(&mut shard, 0, 1, None, 0);
            add(&mut shard, 3, 2, None, 0);
            while shard.evict_one(0) {}
            assert_eq!(shown_effects(&shard.effects), [format!("{wanted} key:1"), format!("{wanted} key:2")]);
            assert!(shard.effects.iter().all(|effect| effect.opens_group));
        }
    }

    #[test]
    fn random_takes_from_all_databases() {
        let mut shard = shard(EvictionPolicy::AllkeysRandom);
        for i in 0..400 {
            add(&mut shard, i % 4, i, None, 0);
        }
        for _ in 0..200 {
            assert!(shard.evict_one(0));
        }
        assert!(shard.dbs.iter().all(|db| db.len() == 50));
    }
}
