//! The active expiry cycle: removes keys whose time is up although nobody asks for them.
//!
//! Expiry on access is exact; this keeps the keys that nobody accesses from filling the memory. Each database has a cursor
//! that walks its entries; pages are in hash order, so that a few entries at the cursor are a random sample. A step looks
//! at such a few and adds what it found to a running estimate of the share of expired keys; as long as that is more than
//! tolerated, the next step follows at once. (Judging by one step alone, as small as it is, would stop too often by
//! chance.) The walk also comes past every key, which sampling alone would not promise.
//!
//! Knows no clock: work is bounded by entries, and the caller repeats a cycle that says it has more to do as long as its
//! time slice lasts. A volatile entry costs a touch of its memory; the others are told by a bit of their word and cost a
//! small part of that.
//!
//! A replica leaves its primary's keys alone. A writable one removes those that its own clients have given a time, which nobody else
//! knows of; their entries say so.

use super::entry::Entry;
use crate::settings::Replica;
use crate::shard::Shard;
use crate::table::Cursor;

/// How much one call may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CycleBudget {
    /// Volatile entries to be looked at, over all databases.
    pub looks: usize,
}

impl CycleBudget {
    /// The budget of one call at an `active-expire-effort` of 1 to 10: tens to hundreds of microseconds.
    pub fn of_effort(effort: u32) -> Self {
        CycleBudget { looks: 400 + 200 * effort.clamp(1, EFFORT_MAX) as usize }
    }
}

/// What one call did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CycleReport {
    pub looked_at: usize,
    pub expired: usize,
    /// The budget ended before the share of expired keys was as low as wanted: another call would find work.
    pub more: bool,
}

const EFFORT_MAX: u32 = 10;
/// Volatile entries a step looks at, at effort 1.
const STEP_LOOKS: usize = 32;
/// Words passed by that count as one look.
const WORDS_PER_LOOK: usize = 32;
/// Words of one scan of the table: several chunks, so that a scan's start is paid once.
const SCAN_WORDS: usize = 64;

/// Weight of one step in the running estimate of the share of expired keys.
const STEP_WEIGHT: f64 = 0.125;

/// Share of expired keys up to which a database is left alone: 3 % at effort 1, 1 % at effort 10.
fn tolerated_share(effort: u32) -> f64 {
    0.03 - 0.02 * f64::from(effort - 1) / f64::from(EFFORT_MAX - 1)
}

/// The findings of one step in one database.
#[derive(Default)]
struct Step {
    looked_at: usize,
    words: usize,
    expired: usize,
    ttl_sum_ms: i64,
}

impl Step {
    fn cost(&self) -> usize {
        self.looked_at + self.words / WORDS_PER_LOOK
    }
}

impl Shard {
    /// Removes expired keys of all databases within `budget`, beginning where the last call ended.
    pub fn expire_cycle(&mut self, now: i64, budget: CycleBudget) -> CycleReport {
        let mut report = CycleReport::default();
        if !self.settings.active_expire || self.settings.loading || self.settings.replica == Replica::ReadOnly {
            return report;
        }
        let effort = self.settings.active_expire_effort.clamp(1, EFFORT_MAX);
        let wanted = STEP_LOOKS + STEP_LOOKS / 4 * (effort as usize - 1);
        let mut left = budget.looks;
        for _ in 0..self.dbs.len() {
            let db = self.expire_db % self.dbs.len();
            while self.dbs[db].volatile() > 0 {
                if left == 0 {
                    self.stats.expired_time_cap_reached += 1;
                    report.more = true;
                    return report;
                }
                let step = self.expire_step(db, now, wanted.min(left));
                left = left.saturating_sub(step.cost().max(1));
                report.looked_at += step.looked_at;
                report.expired += step.expired;
                self.settle_averages(db, &step);
                if self.dbs[db].stale_share <= tolerated_share(effort) {
                    break;
                }
            }
            self.expire_db = (db + 1) % self.dbs.len();
        }
        report
    }

    /// Looks at `wanted` volatile entries from the database's cursor on, or passes the words that cost as much, and
    /// removes those whose time is up.
    fn expire_step(&mut self, db: usize, now: i64, wanted: usize) -> Step {
        let mut step = Step::default();
        let only_own = self.settings.replica != Replica::No;
        let mut expired: Vec<Entry> = Vec::new();
        let mut key = Vec::new();
        while step.cost() < wanted && self.dbs[db].volatile() > 0 {
            let next = self.dbs[db].scan_volatile(self.dbs[db].expire_cursor, SCAN_WORDS, &mut |entry| {
                if only_own && !entry.expires_here() {
                    return;
                }
                step.looked_at += 1;
                match entry.expiry() {
                    Some(at_ms) if now > at_ms => expired.push(entry),
                    Some(at_ms) => step.ttl_sum_ms = step.ttl_sum_ms.saturating_add(at_ms - now),
                    None => debug_assert!(false, "a volatile entry has an expiry"),
                }
            });
            step.words += SCAN_WORDS;
            step.expired += expired.len();
            for entry in expired.drain(..) {
                key.clear();
                key.extend_from_slice(entry.key());
                let place = self.hasher.key(&key);
                self.expire(db, &place);
            }
            self.dbs[db].expire_cursor = next.unwrap_or(Cursor::START);
            if next.is_none() {
                break;
            }
        }
        step
    }

    fn settle_averages(&mut self, db: usize, step: &Step) {
        let alive = (step.looked_at - step.expired) as i64;
        if alive > 0 {
            let ttl_ms = step.ttl_sum_ms / alive;
            let average = &mut self.dbs[db].avg_ttl_ms;
            *average = if *average == 0 { ttl_ms } else { *average / 50 * 49 + ttl_ms / 50 };
        }
        // A step that met no volatile key counts as one without expired keys: where they are rare there is little to gain.
        let share = step.expired as f64 / step.looked_at.max(1) as f64;
        let estimate = &mut self.dbs[db].stale_share;
        *estimate = share * STEP_WEIGHT + *estimate * (1.0 - STEP_WEIGHT);
        if step.looked_at > 0 {
            self.stats.expired_stale_share = share * 0.05 + self.stats.expired_stale_share * 0.95;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::testing::Session;
    use crate::keyspace::{ClientId, Expiry, KeyHasher, NewValue};
    use crate::settings::Settings;

    fn shard(dbs: usize) -> Shard {
        Shard::new(KeyHasher::new([1, 2, 3, 4], 1), dbs, Settings::default(), 1)
    }

    fn add(shard: &mut Shard, db: usize, name: &str, expiry: Option<i64>) {
        let key = shard.hasher.key(name.as_bytes());
        let expiry = expiry.map_or(Expiry::Clear, Expiry::At);
        shard.dbs[db].set(&key, NewValue::Integer(1), expiry, 0);
    }

    #[test]
    fn everything_expired_goes_and_nothing_else() {
        let mut shard = shard(3);
        shard.effects.enabled = true;
        for i in 0..20_000 {
            add(&mut shard, i % 3, &format!("k{i}"), (i % 2 == 0).then_some(if i % 4 == 0 { 100 } else { 10_000 }));
        }
        let mut calls = 0;
        while shard.expire_cycle(101, CycleBudget::of_effort(1)).more {
            calls += 1;
            assert!(calls < 1000, "the cycle ends");
        }
        for _ in 0..1000 {
            shard.expire_cycle(101, CycleBudget::of_effort(1));
        }
        assert_eq!(shard.dbs.iter().map(|db| db.len()).sum::<usize>(), 15_000);
        assert_eq!(shard.dbs.iter().map(|db| db.volatile()).sum::<usize>(), 5_000);
        assert_eq!((shard.stats.expired_keys, shard.effects.take().len()), (5_000, 5_000));
        assert!(shard.dbs.iter().all(|db| (9_000..10_000).contains(&db.avg_ttl_ms)));
        shard.dbs.iter().for_each(|db| db.check_invariants());
    }

    #[test]
    fn a_call_keeps_to_its_budget() {
        let mut shard = shard(1);
        for i in 0..50_000 {
            add(&mut shard, 0, &format!("k{i}"), Some(5));
        }
        let report = shard.expire_cycle(6, CycleBudget { looks: 300 });
        assert!(report.more && report.looked_at <= 300 + 2 * SCAN_WORDS, "{report:?}");
        assert_eq!(shard.stats.expired_time_cap_reached, 1);
    }

    #[test]
    fn a_few_volatile_keys_among_many_are_found() {
        let mut shard = shard(1);
        for i in 0..50_000 {
            add(&mut shard, 0, &format!("k{i}"), (i % 5000 == 0).then_some(5));
        }
        let calls = (0..200).find(|_| {
            shard.expire_cycle(6, CycleBudget::of_effort(1));
            shard.dbs[0].volatile() == 0
        });
        assert!(calls.is_some());
        assert_eq!(shard.dbs[0].len(), 49_990);
    }

    /// A stream of keys that live for ten seconds and are never read: at ten cycles a second few dead ones may be there.
    #[test]
    fn the_share_of_dead_keys_stays_low() {
        let mut shard = shard(1);
        let (mut now, mut worst, mut sum) = (0, 0.0f64, 0.0);
        for tick in 0..600 {
            now += 100;
            for i in 0..200 {
                add(&mut shard, 0, &format!("{tick}:{i}"), Some(now + 10_000));
            }
            for _ in 0..20 {
                if !shard.expire_cycle(now, CycleBudget::of_effort(1)).more {
                    break;
                }
            }
            let mut dead = 0;
            shard.dbs[0].for_each(|_, _, expiry| dead += usize::from(expiry.is_some_and(|at| now > at)));
            let share = dead as f64 / shard.dbs[0].len() as f64;
            worst = worst.max(share);
            sum += share;
        }
        assert!(worst < 0.1 && sum / 500.0 < 0.04, "worst {worst}, mean {}", sum / 500.0);
    }

    #[test]
    fn a_writable_replica_removes_what_its_own_clients_have_timed() {
        let mut session = Session::new();
        session.shard.settings.replica = Replica::Writable;
        let mut run = |client, lines: &[&str]| {
            session.client = client;
            lines.iter().for_each(|line| assert!(!session.run(line).starts_with('-'), "{line}"));
        };
        let (own, primary) = (ClientId(1), ClientId::PRIMARY);
        run(primary, &["SET theirs 1 PX 10", "SET counted 1 PX 10", "SET timed 1", "SET taken 1 PX 10"]);
        run(own, &["SET given-back 1 PX 10", "SET mine 1 PX 10", "APPEND mine text", "INCR counted", "PEXPIRE timed 10"]);
        run(own, &["RENAME taken renamed", "COPY theirs copied", "SET persists 1 PX 10", "PERSIST persists"]);
        run(primary, &["SET given-back 2 PX 10", "APPEND timed 2"]);
        let (shard, later) = (&mut session.shard, session.now + 11);
        shard.settings.replica = Replica::ReadOnly;
        assert_eq!(shard.expire_cycle(later, CycleBudget::of_effort(1)), CycleReport::default());
        shard.settings.replica = Replica::Writable;
        assert_eq!(shard.expire_cycle(later, CycleBudget::of_effort(1)).expired, 4);
        let mut left = Vec::new();
        shard.dbs[0].for_each(|key, _, _| left.push(String::from_utf8_lossy(key).into_owned()));
        left.sort();
        assert_eq!(left, ["counted", "given-back", "persists", "theirs"]);
    }

    #[test]
    fn switched_off_it_does_nothing() {
        let mut shard = shard(1);
        shard.settings.active_expire = false;
        add(&mut shard, 0, "k", Some(5));
        assert_eq!(shard.expire_cycle(6, CycleBudget::of_effort(10)), CycleReport::default());
    }
}
