//! A point-in-time cut of a shard, written out as records of an RDB file while the shard goes on changing.
//!
//! Owns: the marks that tell which entries are still to be written, the scan over them, and the records written. Refuses to
//! know: where they go, and when the cut is made on the other shards.
//!
//! Every entry carries one bit, the mark. While no cut is being written all entries have the database's mark. A cut turns the
//! database's mark over: entries with the other one belong to the cut and are still due. An entry is written when the scan comes
//! to it, or before it is first changed, replaced or taken out, whichever is sooner; it then gets the database's mark, as every
//! new entry does. So what is written is the database at the instant of the cut, each key once, and no copy of anything is kept.
//!
//! A cut that is given up goes on turning marks, without writing, until all are alike again.
//!
//! Cost: a branch for each change; while a cut is being written, a test of the mark, and the encoding of each entry once. A value
//! is written in one piece: a huge one makes one long slice.

use super::Db;
use super::entry::Entry;
use crate::codec::rdb::Compression;
use crate::codec::rdb::file::{Access, encode_record, select_db};
use crate::settings::EvictionPolicy;
use crate::shard::{Shard, lru_idle_seconds};
use crate::table::Cursor;

/// How records are to be written.
#[derive(Clone, Copy, Debug)]
pub struct CutForm {
    pub compression: Compression,
    /// Decides which access clock is written, if any.
    pub policy: EvictionPolicy,
    /// Milliseconds since 1970, at the cut: idle times are counted up to it.
    pub now: i64,
}

/// What is left of one database's cut.
pub(super) struct Cut {
    /// The number the database had at the instant of the cut; SWAPDB does not change it.
    number: usize,
    form: CutForm,
    pub(super) cursor: Cursor,
    /// Records not yet taken, led by their SELECTDB.
    records: Vec<u8>,
    keys: u64,
    given_up: bool,
}

impl Cut {
    pub(super) fn new(number: usize, form: CutForm) -> Self {
        Cut { number, form, cursor: Cursor::START, records: Vec::new(), keys: 0, given_up: false }
    }

    pub(super) fn write(&mut self, entry: Entry) {
        if self.given_up {
            return;
        }
        let CutForm { compression, policy, now } = self.form;
        let access = match policy {
            policy if policy.is_lfu() => Some(Access::Frequency(entry.access() as u8)),
            policy if policy.is_lru() => Some(Access::IdleSeconds(lru_idle_seconds(entry.access(), now).into())),
            _ => None,
        };
        if self.records.is_empty() {
            select_db(self.number as u64, &mut self.records);
        }
        encode_record(entry.key(), entry.value(), entry.expiry(), access, compression, &mut self.records);
        self.keys += 1;
    }

    pub(super) fn give_up(&mut self) {
        self.given_up = true;
        self.records = Vec::new();
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.records.len()
    }

    /// Appends what has been written since the last time; counts its keys. An empty `out` is exchanged, so that nothing is copied
    /// and no memory is held twice.
    pub(super) fn take(&mut self, out: &mut Vec<u8>) -> u64 {
        if out.is_empty() {
            std::mem::swap(out, &mut self.records);
        } else {
            out.append(&mut self.records);
        }
        std::mem::take(&mut self.keys)
    }
}

/// A shard's cut that is under way.
#[derive(Default)]
pub struct Cutting {
    given_up: bool,
    /// Databases flushed since the cut, which still have records to give.
    flushed: Vec<Db>,
}

/// What a step of the cut has brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CutStep {
    /// Keys among the records.
    pub keys: u64,
    /// That was all.
    pub ended: bool,
}

impl Shard {
    /// Makes the cut: all that the shard holds now is to be written. To be called on all shards while no entry is lent, so that
    /// it is one instant for the whole node.
    pub fn begin_cut(&mut self, form: CutForm) {
        assert!(self.cutting.is_none(), "one cut at a time");
        self.dbs.iter_mut().enumerate().for_each(|(number, db)| db.begin_cut(number, form));
        self.cutting = Some(Cutting::default());
    }

    /// Whether a cut, perhaps one that was given up, is under way.
    pub fn is_cutting(&self) -> bool {
        self.cutting.is_some()
    }

    /// Bytes of records that wait for [`Shard::continue_cut`]: made by it beyond its budget, or before values were changed. Whoever
    /// lets commands in bounds them.
    pub fn cut_waiting_bytes(&self) -> usize {
        let flushed = self.cutting.iter().flat_map(|cutting| &cutting.flushed);
        self.dbs.iter().chain(flushed).map(Db::cut_waiting_bytes).sum()
    }

    /// Goes on with the cut by about `want` entries, and not far beyond `bytes` of records, which are appended to `out`.
    pub fn continue_cut(&mut self, want: usize, bytes: usize, out: &mut Vec<u8>) -> CutStep {
        let start = out.len();
        let Some(cutting) = &mut self.cutting else { return CutStep { keys: 0, ended: true } };
        let mut keys = 0;
        let mut ended = true;
        for db in self.dbs.iter_mut().chain(&mut cutting.flushed) {
            // Every database's waiting records are taken: writers may have made some in any of them.
            let more = if out.len() - start < bytes { want } else { 0 };
            keys += db.continue_cut(more, bytes, out);
            ended &= !db.is_cutting();
        }
        for flushed in cutting.flushed.extract_if(.., |db| !db.is_cutting()) {
            self.trash.discard_db(flushed);
        }
        if ended {
            self.cutting = None;
        }
        CutStep { keys, ended }
    }

    /// Gives the cut up (shutdown, FLUSHALL, an error where the records go). Call [`Shard::continue_cut`] all the same until it
    /// ends; it brings no more records.
    pub fn give_up_cut(&mut self) {
        if let Some(cutting) = &mut self.cutting {
            cutting.given_up = true;
            // Those that were flushed have no next cut for which their marks would have to be alike.
            for mut flushed in std::mem::take(&mut cutting.flushed) {
                flushed.give_up_cut();
                self.trash.discard_db(flushed);
            }
            self.dbs.iter_mut().for_each(Db::give_up_cut);
        }
    }

    /// A database that was flushed goes, in slices; later, if the cut still needs it.
    pub(crate) fn discard_db(&mut self, db: Db) {
        match &mut self.cutting {
            Some(cutting) if db.is_cutting() && !cutting.given_up => cutting.flushed.push(db),
            _ => self.trash.discard_db(db),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::rdb::ValueLimits;
    use crate::codec::rdb::file::{Checksum, Event, FileReader};
    use crate::keyspace::{Expiry, KeyHasher, NewValue, Value};
    use crate::random::Random;
    use crate::settings::Settings;
    use std::collections::BTreeMap;

    const FORM: CutForm = CutForm { compression: Compression::None, policy: EvictionPolicy::NoEviction, now: 0 };

    fn shard() -> Shard {
        Shard::new(KeyHasher::new([1, 2, 3, 4], 1), 3, Settings::default(), 7)
    }

    fn set(shard: &mut Shard, db: usize, key: &str, value: &str, expiry: Expiry) {
        let key = shard.hasher.key(key.as_bytes());
        shard.dbs[db].set(&key, NewValue::Bytes(value.as_bytes()), expiry, 0);
    }

    type Content = BTreeMap<(usize, Vec<u8>), (Vec<u8>, Option<i64>)>;

    fn text(value: Value<'_>) -> Vec<u8> {
        match value {
            Value::Short(bytes) => bytes.to_vec(),
            Value::Long(bytes) => bytes.clone(),
            Value::Integer(number) => number.to_string().into_bytes(),
            _ => panic!("the tests hold strings only"),
        }
    }

    fn content(shard: &Shard) -> Content {
        let mut content = Content::new();
        for (number, db) in shard.dbs.iter().enumerate() {
            db.for_each(|key, value, expiry| {
                content.insert((number, key.to_vec()), (text(value), expiry));
            });
        }
        content
    }

    /// What the records say, read as a file; panics if a key is there twice.
    fn read(records: &[u8], shard: &Shard) -> Content {
        let limits = ValueLimits::new(&shard.settings, shard.hasher.state());
        let file = [b"REDIS0010", records, b"\xff", &[0; 8]].concat();
        let mut reader = FileReader::new(Checksum::On);
        let (mut content, mut db) = (Content::new(), u64::MAX);
        while let Some(event) = reader.next(&file).unwrap() {
            match event {
                Event::SelectDb(number) => db = number,
                Event::Key(record) => {
                    let entry = record.entry(&limits).unwrap();
                    let before = content.insert((db as usize, record.key.to_vec()), (text(entry.value()), record.expiry_ms));
                    assert!(before.is_none(), "each key once");
                }
                _ => {}
            }
        }
        content
    }

    /// Changes anything anywhere.
    fn meddle(shard: &mut Shard, random: &mut Random) {
        let (db, number) = (random.below(3) as usize, random.below(400));
        let name = format!("key:{number}");
        match random.below(20) {
            0..=8 => set(shard, db, &name, &format!("new{}", random.below(1_000_000)), Expiry::Keep),
            9..=11 => {
                let key = shard.hasher.key(name.as_bytes());
                shard.dbs[db].take(&key).into_iter().for_each(|entry| shard.trash.discard(entry));
            }
            12..=14 => {
                let key = shard.hasher.key(name.as_bytes());
                shard.dbs[db].set_expiry(&key, (number % 2 == 0).then_some(number as i64));
            }
            15 => {
                // As an operation over several shards: lent, changed elsewhere, given back.
                let key = shard.hasher.key(name.as_bytes());
                if let Some(entry) = shard.dbs[db].take(&key) {
                    shard.install(db, entry);
                }
            }
            16 if random.below(40) == 0 => shard.dbs.swap(db, (db + 1) % 3),
            17 if random.below(40) == 0 => {
                let flushed = shard.dbs[db].replace_by_empty();
                shard.discard_db(flushed);
            }
            _ => set(shard, db, &format!("fresh:{}", random.below(1000)), "x", Expiry::At(5)),
        }
    }

    #[test]
    fn records_are_the_shard_at_the_instant_of_the_cut_whatever_happens_meanwhile() {
        let (mut shard, mut random) = (shard(), Random::new(11));
        for round in 0..30 {
            for _ in 0..1000 {
                meddle(&mut shard, &mut random);
            }
            let expected = content(&shard);
            shard.begin_cut(FORM);
            let (mut records, mut keys) = (Vec::new(), 0);
            loop {
                for _ in 0..random.below(60) {
                    meddle(&mut shard, &mut random);
                }
                let step = shard.continue_cut(1 + random.below(40) as usize, 300, &mut records);
                keys += step.keys;
                if step.ended {
                    break;
                }
            }
            assert_eq!(read(&records, &shard), expected, "round {round}");
            assert_eq!(keys, expected.len() as u64);
            assert!(!shard.is_cutting());
            shard.dbs.iter().for_each(Db::check_invariants);
        }
    }

    #[test]
    fn a_cut_given_up_brings_nothing_more_and_the_next_one_is_whole() {
        let mut shard = shard();
        (0..500).for_each(|number| set(&mut shard, 0, &format!("key:{number}"), "v", Expiry::Clear));
        shard.begin_cut(FORM);
        let mut records = Vec::new();
        shard.continue_cut(50, usize::MAX, &mut records);
        shard.give_up_cut();
        set(&mut shard, 0, "key:1", "changed", Expiry::Clear);
        records.clear();
        while !shard.continue_cut(50, usize::MAX, &mut records).ended {}
        assert!(records.is_empty());
        shard.begin_cut(FORM);
        while !shard.continue_cut(50, usize::MAX, &mut records).ended {}
        assert_eq!(read(&records, &shard), content(&shard));
    }

    #[test]
    fn records_made_by_changes_are_counted_until_they_are_taken() {
        let mut shard = shard();
        (0..100).for_each(|number| set(&mut shard, 0, &format!("key:{number}"), &"v".repeat(1000), Expiry::Clear));
        shard.begin_cut(FORM);
        assert_eq!(shard.cut_waiting_bytes(), 0);
        for _twice in 0..2 {
            (0..50).for_each(|number| set(&mut shard, 0, &format!("key:{number}"), "changed", Expiry::Clear));
            let bytes = shard.cut_waiting_bytes();
            assert!((50_000..60_000).contains(&bytes), "each value once: {bytes}");
        }
        let flushed = shard.dbs[0].replace_by_empty();
        shard.discard_db(flushed);
        assert!(shard.cut_waiting_bytes() >= 50_000, "flushed databases too");
        let mut records = Vec::new();
        shard.continue_cut(0, usize::MAX, &mut records);
        assert!(records.len() >= 50_000 && shard.cut_waiting_bytes() == 0);
    }

    #[test]
    fn nothing_is_left_to_do_for_a_cut_of_flushed_data_that_is_given_up() {
        let mut shard = shard();
        (0..5000).for_each(|number| set(&mut shard, 0, &format!("key:{number}"), "v", Expiry::Clear));
        shard.begin_cut(FORM);
        let flushed = shard.dbs[0].replace_by_empty();
        shard.discard_db(flushed);
        shard.give_up_cut();
        assert!(shard.continue_cut(1, usize::MAX, &mut Vec::new()).ended);
        assert!(shard.trash.pending() > 0);
        while !shard.trash.is_empty() {
            shard.trash.free_some(1000);
        }
    }

    #[test]
    fn a_step_stops_at_its_budget() {
        let mut shard = shard();
        (0..5000).for_each(|number| set(&mut shard, 0, &format!("key:{number}"), &"v".repeat(100), Expiry::Clear));
        shard.begin_cut(FORM);
        let mut records = Vec::new();
        let step = shard.continue_cut(usize::MAX, 1000, &mut records);
        assert!(!step.ended && records.len() > 1000 && records.len() < 20_000, "{}", records.len());
    }
}
