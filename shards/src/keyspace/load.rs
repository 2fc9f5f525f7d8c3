//! Putting the records of an RDB file into a shard.
//!
//! Owns what redis-server decides about each key that it loads: whether its time is up, what its access clock becomes, and what
//! a key that is there already means. Refuses to know where the records come from.

use crate::codec::rdb::file::{Access, Cause, FileError, Record};
use crate::codec::rdb::{CodecError, ValueLimits};
use crate::keyspace::Db;
use crate::shard::Shard;

/// How records are to be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LoadRules {
    /// Keys whose time is up are taken all the same: commands follow that may need them.
    pub keeps_expired: bool,
    /// A key takes the place of one that is there; otherwise that is an error.
    pub replaces: bool,
}

/// What became of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    Loaded,
    /// Its time was up.
    Expired,
    /// A collection without elements, which older versions of Redis could write.
    Empty,
}

/// Why the data set is not what it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LoadFault {
    Record(FileError),
    Duplicate { db: usize, key: Vec<u8> },
}

impl std::fmt::Display for LoadFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LoadFault::Record(error) => write!(f, "{error}"),
            LoadFault::Duplicate { db, key } => write!(f, "RDB has duplicated key '{}' in DB {db}", key.escape_ascii()),
        }
    }
}

impl Shard {
    /// Another data set is about to be loaded, beside what the shard holds.
    pub fn begin_beside(&mut self) {
        self.discard_beside();
        self.beside = Some(self.dbs.iter().map(|_| Db::new(self.hasher.clone())).collect());
    }

    /// The other data set takes the place of the databases, as if each had been swapped.
    pub fn take_beside(&mut self, now: i64) {
        let count = self.dbs.len();
        self.dbs.extend(self.beside.take().into_iter().flatten());
        (count..self.dbs.len()).for_each(|other| self.swap_dbs(other - count, other, now));
        self.dbs.split_off(count).into_iter().for_each(|db| self.discard_db(db));
    }

    pub fn discard_beside(&mut self) {
        self.beside.take().into_iter().flatten().for_each(|db| self.trash.discard_db(db));
    }

    /// Where a key of database `db` is loaded to.
    fn load_target(&mut self, db: usize) -> &mut Db {
        &mut self.beside.as_mut().unwrap_or(&mut self.dbs)[db]
    }

    /// Fetches the memory that [`Shard::load`] needs for the record's key.
    pub fn prefetch_load(&mut self, db: usize, record: &Record<'_>) {
        let key = self.hasher.key(&record.key);
        self.load_target(db).prefetch(&key);
    }

    /// Takes one key into database `db`, beside what the shard holds if that was begun. Nobody is told: no watcher, no waiting client,
    /// no event, no effect.
    pub fn load(
        &mut self,
        db: usize,
        record: &Record<'_>,
        limits: &ValueLimits,
        rules: LoadRules,
        now: i64,
    ) -> Result<Taken, LoadFault> {
        let mut entry = match record.entry(limits) {
            Ok(entry) => entry,
            Err(FileError { cause: Cause::Value(CodecError::Empty), .. }) => return Ok(Taken::Empty),
            Err(error) => return Err(LoadFault::Record(error)),
        };
        if !rules.keeps_expired && entry.expiry().is_some_and(|at_ms| at_ms < now) {
            return Ok(Taken::Expired);
        }
        entry.set_access(self.loaded_access(record.access, now));
        self.schemas.fit_entry(&mut entry);
        let key = self.hasher.key(&record.key);
        match self.load_target(db).put(&key, entry) {
            Some(_) if !rules.replaces => Err(LoadFault::Duplicate { db, key: record.key.to_vec() }),
            replaced => {
                replaced.into_iter().for_each(|old| self.trash.discard(old));
                Ok(Taken::Loaded)
            }
        }
    }

    /// The access clock of a loaded entry, as far as the eviction policy knows what the file says.
    fn loaded_access(&self, access: Option<Access>, now: i64) -> u32 {
        let fresh = self.fresh_access(now);
        match (self.settings.maxmemory_policy.is_lfu(), access) {
            (true, Some(Access::Frequency(frequency))) => fresh & !0xFF | u32::from(frequency),
            (false, Some(Access::IdleSeconds(idle))) => fresh.wrapping_sub(idle as u32) & 0xFF_FFFF,
            _ => fresh,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::rdb::Compression;
    use crate::codec::rdb::file::{Records, encode_record};
    use crate::keyspace::{KeyHasher, Value};
    use crate::settings::{EvictionPolicy, Settings};
    use crate::shard::lru_idle_seconds;

    const NOW: i64 = 1_700_000_000_000;

    /// A batch with one key `k`.
    fn batch(value: Value<'_>, expiry: Option<i64>, access: Option<Access>) -> Vec<u8> {
        let mut batch = 0u64.to_le_bytes().to_vec();
        encode_record(b"k", value, expiry, access, Compression::None, &mut batch);
        batch
    }

    fn load(shard: &mut Shard, batch: &[u8], rules: LoadRules) -> Result<Taken, LoadFault> {
        let limits = ValueLimits::new(&shard.settings, shard.hasher.state());
        let record = Records::new(batch).next().expect("a record").expect("a sound one");
        shard.load(1, &record, &limits, rules, NOW)
    }

    fn shard(policy: EvictionPolicy) -> Shard {
        let settings = Settings { maxmemory_policy: policy, ..Settings::default() };
        Shard::new(KeyHasher::new([1, 2, 3, 4], 1), 2, settings, 1)
    }

    #[test]
    fn expired_keys_are_left_out_unless_commands_follow() {
        let mut shard = shard(EvictionPolicy::NoEviction);
        let batch = batch(Value::Integer(1), Some(NOW - 1), None);
        assert_eq!(load(&mut shard, &batch, LoadRules::default()), Ok(Taken::Expired));
        assert!(shard.dbs[1].is_empty());
        assert_eq!(load(&mut shard, &batch, LoadRules { keeps_expired: true, ..LoadRules::default() }), Ok(Taken::Loaded));
        assert_eq!(shard.dbs[1].len(), 1);
    }

    #[test]
    fn a_key_that_is_there_is_an_error_or_replaced() {
        let mut shard = shard(EvictionPolicy::NoEviction);
        let [first, second] = [1, 2].map(|number| batch(Value::Integer(number), None, None));
        assert_eq!(load(&mut shard, &first, LoadRules::default()), Ok(Taken::Loaded));
        let fault = load(&mut shard, &second, LoadRules::default()).expect_err("it is there");
        assert_eq!(fault.to_string(), "RDB has duplicated key 'k' in DB 1");
        assert_eq!(load(&mut shard, &first, LoadRules { replaces: true, ..LoadRules::default() }), Ok(Taken::Loaded));
        assert_eq!(shard.dbs[1].len(), 1);
    }

    #[test]
    fn access_clocks_are_taken_over_where_the_policy_keeps_them() {
        let key = |shard: &Shard| shard.dbs[1].access(&shard.hasher.key(b"k")).expect("loaded");
        let mut lru = shard(EvictionPolicy::AllkeysLru);
        let idle = batch(Value::Integer(1), None, Some(Access::IdleSeconds(77)));
        load(&mut lru, &idle, LoadRules::default()).expect("loaded");
        assert_eq!(lru_idle_seconds(key(&lru), NOW), 77);
        let mut lfu = shard(EvictionPolicy::AllkeysLfu);
        load(&mut lfu, &batch(Value::Integer(1), None, Some(Access::Frequency(99))), LoadRules::default()).expect("loaded");
        assert_eq!(key(&lfu) & 0xFF, 99);
        load(&mut lfu, &idle, LoadRules { replaces: true, ..LoadRules::default() }).expect("loaded");
        assert_eq!(key(&lfu), lfu.fresh_access(NOW));
    }
}
