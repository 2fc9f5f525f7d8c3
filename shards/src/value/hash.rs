//! Hashes: fields to values.
//!
//! Owns the choice between the forms. A small hash is one allocation, field, value, field, value…, searched by walking, or its
//! values alone, if others have the same fields (see [`schema`](super::schema)); a large one is a table of fields with a block
//! each. As in Redis the thresholds decide when a hash becomes large, and it stays large. Refuses to know keys, clients and replies.
//!
//! Cost: small, a walk over at most `hash-max-listpack-entries` fields; large, one table lookup.

use super::item::Item;
use super::member::{Chooser, Members};
use super::packed::{self, Packed, Pos};
use super::schema::SchemaId;
use crate::random::Random;
use crate::settings::Settings;
use crate::table::{Cursor, Table};
use ahash::RandomState;

#[derive(Clone)]
pub enum Hash {
    /// Field, value, field, value…
    Packed(Packed),
    /// The values of the schema's fields. A field more or less makes it whole again.
    Shared(SchemaId, Packed),
    Table(Box<Members<true>>),
}

const _: () = assert!(size_of::<Hash>() <= 16);

/// Up to where a hash stays small, and how the fields of a large one are hashed.
pub struct HashLimits {
    pub entries: usize,
    /// Bytes of the longest field or value.
    pub value: usize,
    pub hasher: RandomState,
}

impl HashLimits {
    pub fn new(settings: &Settings, hasher: &RandomState) -> Self {
        HashLimits {
            entries: settings.hash_max_listpack_entries,
            value: settings.hash_max_listpack_value,
            hasher: hasher.clone(),
        }
    }
}

/// Bytes that a small hash never exceeds, however the thresholds are set.
const PACKED_BYTES_MAX: usize = 1 << 30;

impl Default for Hash {
    fn default() -> Self {
        Self::new()
    }
}

impl Hash {
    pub const fn new() -> Self {
        Hash::Packed(Packed::new())
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        match self {
            Hash::Packed(packed) => packed.len() / 2,
            Hash::Shared(_, values) => values.len(),
            Hash::Table(fields) => fields.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The table of a large one, for prefetching.
    #[inline]
    pub fn table(&self) -> Option<&Table> {
        if let Hash::Table(fields) = self { Some(fields.table()) } else { None }
    }

    /// As OBJECT ENCODING names it.
    pub fn encoding(&self) -> &'static str {
        match self {
            Hash::Packed(_) | Hash::Shared(..) => "listpack",
            Hash::Table(_) => "hashtable",
        }
    }

    /// Heap bytes, with the allocator's rounding where it is known.
    pub fn bytes(&self) -> usize {
        match self {
            Hash::Packed(packed) | Hash::Shared(_, packed) => packed.bytes(),
            Hash::Table(fields) => size_of::<Members<true>>() + fields.bytes(),
        }
    }

    #[inline]
    pub fn get(&self, field: &[u8]) -> Option<Item<'_>> {
        match self {
            Hash::Packed(packed) => packed.at(value_pos(packed, field)?),
            Hash::Shared(schema, values) => values.get(schema.index_of(field)?),
            Hash::Table(fields) => fields.get(field).map(Item::Bytes),
        }
    }

    pub fn contains(&self, field: &[u8]) -> bool {
        match self {
            Hash::Packed(packed) => packed.find(field, 2).is_some(),
            Hash::Shared(schema, _) => schema.index_of(field).is_some(),
            Hash::Table(fields) => fields.contains(field),
        }
    }

    /// Length of a field's value; 0 when there is no such field.
    pub fn value_len(&self, field: &[u8]) -> usize {
        self.get(field).map_or(0, Item::len)
    }

    /// Sets a field, new or not. True if it is new.
    #[inline]
    pub fn set(&mut self, field: &[u8], value: &[u8], limits: &HashLimits) -> bool {
        self.make_room(field.len(), value.len(), limits);
        if let Hash::Table(fields) = self {
            return fields.put(field, value);
        }
        let at = self.find(field);
        self.write_small(at, field, value, limits);
        at.is_none()
    }

    /// Sets a field to what `make` gives for its present value, and returns what else it gives. Where it fails, nothing is
    /// changed. A small hash is walked once.
    pub fn update<'v, R, E>(
        &mut self,
        field: &[u8],
        limits: &HashLimits,
        make: impl FnOnce(Option<Item<'_>>) -> Result<(R, &'v [u8]), E>,
    ) -> Result<R, E> {
        if let Hash::Table(_) = self {
            let (result, value) = make(self.get(field))?;
            self.set(field, value, limits);
            return Ok(result);
        }
        let at = self.find(field);
        let (result, value) = make(at.and_then(|at| self.small()?.at(at)))?;
        if self.make_room(field.len(), value.len(), limits) {
            self.set(field, value, limits);
        } else {
            self.write_small(at, field, value, limits);
        }
        Ok(result)
    }

    /// Converts a small hash for which a field or value would be too long. True if it did.
    #[inline]
    fn make_room(&mut self, field_len: usize, value_len: usize, limits: &HashLimits) -> bool {
        let (Hash::Packed(packed) | Hash::Shared(_, packed)) = self else { return false };
        let too_long = field_len.max(value_len) > limits.value;
        if too_long || packed.encoded_bytes() + field_len + value_len > PACKED_BYTES_MAX {
            self.convert(limits);
            return true;
        }
        false
    }

    /// What a small hash has of its own.
    fn small(&self) -> Option<&Packed> {
        if let Hash::Packed(packed) | Hash::Shared(_, packed) = self { Some(packed) } else { None }
    }

    /// Where the value of a field of a small hash is.
    #[inline]
    fn find(&self, field: &[u8]) -> Option<Pos> {
        match self {
            Hash::Packed(packed) => value_pos(packed, field),
            Hash::Shared(schema, values) => values.seek(schema.index_of(field)?),
            Hash::Table(_) => None,
        }
    }

    /// Writes a value at `at`, or a new field with it, and converts a small hash that has one field too many.
    #[inline]
    fn write_small(&mut self, at: Option<Pos>, field: &[u8], value: &[u8], limits: &HashLimits) {
        if at.is_none() {
            self.make_whole();
        }
        let (Hash::Packed(packed) | Hash::Shared(_, packed)) = self else { return };
        let written = match at {
            Some(at) => packed.replace(at, value),
            None => packed.push(field) && packed.push(value),
        };
        assert!(written, "the size has been checked");
        if self.len() > limits.entries {
            self.convert(limits);
        }
    }

    /// Has a hash that shares its field names keep them itself.
    fn make_whole(&mut self) {
        if let Hash::Shared(schema, values) = self {
            *self = Hash::Packed(Packed::in_turns(schema.names(), values));
        }
    }

    /// True if the field was there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        match self {
            Hash::Packed(packed) => packed.find(field, 2).is_some_and(|at| packed.remove(at, 2)),
            Hash::Shared(..) if !self.contains(field) => false,
            Hash::Shared(..) => {
                self.make_whole();
                self.remove(field)
            }
            Hash::Table(fields) => fields.remove(field),
        }
    }

    /// Makes a small hash a large one.
    pub fn convert(&mut self, limits: &HashLimits) {
        if let Some(pairs) = self.pairs() {
            let mut fields = Members::new(limits.hasher.clone());
            for (field, value) in pairs {
                field.with_bytes(|field| value.with_bytes(|value| fields.put(field, value)));
            }
            *self = Hash::Table(Box::new(fields));
        }
    }

    /// Visits every field with its value; a small hash in the order of insertion.
    #[inline]
    pub fn for_each(&self, visit: &mut dyn FnMut(Item<'_>, Item<'_>)) {
        match self {
            Hash::Packed(_) | Hash::Shared(..) => {
                self.pairs().into_iter().flatten().for_each(|(field, value)| visit(field, value))
            }
            Hash::Table(fields) => fields.for_each(&mut |field, value| visit(Item::Bytes(field), Item::Bytes(value))),
        }
    }

    /// Every field with its value.
    pub fn iter(&self) -> impl Iterator<Item = (Item<'_>, Item<'_>)> + '_ {
        let fields = if let Hash::Table(fields) = self { Some(fields.iter()) } else { None };
        let of_table = fields.into_iter().flatten().map(|(field, value)| (Item::Bytes(field), Item::Bytes(value)));
        self.pairs().into_iter().flatten().chain(of_table)
    }

    /// The fields of a small hash with their values.
    #[inline]
    fn pairs(&self) -> Option<Pairs<'_>> {
        match self {
            Hash::Packed(packed) => Some(Pairs { fields: packed.iter(), values: None }),
            Hash::Shared(schema, values) => Some(Pairs { fields: schema.names().iter(), values: Some(values.iter()) }),
            Hash::Table(_) => None,
        }
    }

    /// A field with its value, each with the same chance.
    pub fn random(&self, random: &mut Random) -> Option<(Item<'_>, Item<'_>)> {
        match self {
            Hash::Packed(packed) => {
                let field = packed.seek(2 * random.below(self.len() as u64) as usize)?;
                Some((packed.at(field)?, packed.at(packed.next(field)?)?))
            }
            Hash::Shared(schema, values) => {
                let index = random.below(self.len() as u64) as usize;
                Some((schema.names().get(index)?, values.get(index)?))
            }
            Hash::Table(fields) => fields.random(random).map(|(field, value)| (Item::Bytes(field), Item::Bytes(value))),
        }
    }

    /// Visits `count` different fields, each choice with the same chance; all of them if there are no more.
    pub fn sample(&self, count: usize, random: &mut Random, visit: &mut dyn FnMut(Item<'_>, Item<'_>)) {
        match self {
            Hash::Packed(_) | Hash::Shared(..) => {
                let mut chooser = Chooser::new(count, self.len());
                let chosen = self.pairs().into_iter().flatten().filter(|_| chooser.takes_next(random));
                chosen.for_each(|(field, value)| visit(field, value));
            }
            Hash::Table(fields) => {
                fields.sample(count, random, &mut |field, value| visit(Item::Bytes(field), Item::Bytes(value)));
            }
        }
    }

    /// Visits about `want` fields from `cursor` on (a small hash: all of them). `None`: the end was reached.
    pub fn scan(&self, cursor: Cursor, want: usize, visit: &mut dyn FnMut(Item<'_>, Item<'_>)) -> Option<Cursor> {
        match self {
            Hash::Packed(_) | Hash::Shared(..) => {
                self.for_each(visit);
                None
            }
            Hash::Table(fields) => fields.scan(cursor, want, &mut |field, value| visit(Item::Bytes(field), Item::Bytes(value))),
        }
    }

    /// Frees about `budget` fields; true when none is left.
    pub fn free_some(&mut self, budget: usize) -> bool {
        match self {
            Hash::Packed(_) | Hash::Shared(..) => {
                *self = Hash::new();
                true
            }
            Hash::Table(fields) => fields.free_some(budget),
        }
    }

    /// Panics unless fields are paired with values and distinct. For tests.
    pub fn check_invariants(&self) {
        match self {
            Hash::Packed(packed) => {
                packed.check_invariants();
                assert!(packed.len() % 2 == 0);
                for (index, (field, _)) in self.iter().enumerate() {
                    assert_eq!(field.with_bytes(|field| packed.find(field, 2)), packed.seek(2 * index), "a field twice");
                }
            }
            Hash::Shared(schema, values) => {
                values.check_invariants();
                assert_eq!(values.len(), schema.names().len());
                let mut whole = self.clone();
                whole.make_whole();
                whole.check_invariants();
            }
            Hash::Table(fields) => fields.check_invariants(),
        }
    }
}

/// Where the value of a field is.
#[inline]
fn value_pos(packed: &Packed, field: &[u8]) -> Option<Pos> {
    packed.next(packed.find(field, 2)?)
}

/// Fields with their values: both from one sequence, or from one each.
struct Pairs<'a> {
    fields: packed::Iter<'a>,
    values: Option<packed::Iter<'a>>,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (Item<'a>, Item<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let field = self.fields.next()?;
        Some((field, self.values.as_mut().unwrap_or(&mut self.fields).next()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::schema::Schemas;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn limits(entries: usize, value: usize) -> HashLimits {
        HashLimits { entries, value, hasher: RandomState::with_seeds(1, 2, 3, 4) }
    }

    #[test]
    fn it_becomes_large_at_the_thresholds_and_stays_so() {
        let limits = limits(2, 4);
        let mut hash = Hash::new();
        assert!(hash.set(b"a", b"1234", &limits) && hash.set(b"b", b"", &limits) && !hash.set(b"a", b"x", &limits));
        assert_eq!((hash.encoding(), hash.len()), ("listpack", 2));
        let mut more = hash.clone();
        assert!(more.set(b"c", b"", &limits));
        assert_eq!((more.encoding(), more.len()), ("hashtable", 3));
        assert!(more.remove(b"c") && more.remove(b"b"));
        assert_eq!((more.encoding(), more.get(b"a")), ("hashtable", Some(Item::Bytes(b"x"))));
        for (field, value) in [(&b"a"[..], &b"12345"[..]), (b"12345", b"")] {
            let mut longer = hash.clone();
            longer.set(field, value, &limits);
            longer.check_invariants();
            assert_eq!((longer.encoding(), longer.value_len(field)), ("hashtable", value.len()));
        }
    }

    #[test]
    fn memory_per_field() {
        let limits = limits(512, 64);
        let mut small = Hash::new();
        (10..20).for_each(|i| assert!(small.set(format!("fld:{i}").as_bytes(), b"val:xx", &limits)));
        assert_eq!(small.bytes(), 160);
        let mut schemas = Schemas::default();
        schemas.learn(&small);
        schemas.fit(&mut small);
        assert_eq!(small.bytes(), 80);
        let mut large = Hash::new();
        let count = 100_000;
        (0..count).for_each(|i| assert!(large.set(format!("f{i:010}").as_bytes(), b"value", &limits)));
        let per_field = large.bytes() as f64 / f64::from(count);
        assert!(per_field < 36.5, "{per_field}");
    }

    proptest! {
        #[test]
        fn all_forms_behave_as_a_map(
            entries in 0usize..12,
            steps in prop::collection::vec(("[a-c0-9]{0,2}", "[a-z0-9]{0,6}", any::<bool>()), 0..60),
        ) {
            let limits = limits(entries, 4);
            let (mut hash, mut model, mut schemas) = (Hash::new(), BTreeMap::new(), Schemas::default());
            let mut random = Random::new(9);
            for (field, value, remove) in steps {
                if remove && value.len() % 2 == 0 {
                    let old = model.get(&field).cloned();
                    let seen = hash.update(field.as_bytes(), &limits, |old| match old.map(Item::to_vec) {
                        Some(old) if old.is_empty() => Err(()),
                        old => Ok((old, value.as_bytes())),
                    });
                    match seen {
                        Ok(seen) => {
                            prop_assert_eq!(seen, old.map(String::into_bytes));
                            model.insert(field.clone(), value);
                        }
                        Err(()) => prop_assert_eq!(old.as_deref(), Some("")),
                    }
                } else if remove {
                    prop_assert_eq!(hash.remove(field.as_bytes()), model.remove(&field).is_some());
                } else {
                    let is_new = hash.set(field.as_bytes(), value.as_bytes(), &limits);
                    prop_assert_eq!(is_new, model.insert(field.clone(), value).is_none());
                }
                schemas.learn(&hash);
                schemas.fit(&mut hash);
                hash.check_invariants();
                prop_assert_eq!(hash.len(), model.len());
                prop_assert_eq!(hash.contains(field.as_bytes()), model.contains_key(&field));
                prop_assert_eq!(hash.get(field.as_bytes()).map(Item::to_vec), model.get(&field).map(|v| v.clone().into_bytes()));
                let text = |item: Item<'_>| String::from_utf8(item.to_vec()).unwrap();
                let all: BTreeMap<_, _> = hash.iter().map(|(field, value)| (text(field), text(value))).collect();
                prop_assert_eq!(&all, &model);
                let mut sampled = BTreeMap::new();
                hash.sample(3, &mut random, &mut |field, value| assert!(sampled.insert(text(field), text(value)).is_none()));
                prop_assert_eq!(sampled.len(), model.len().min(3));
                let drawn = hash.random(&mut random).map(|(field, value)| (text(field), text(value)));
                prop_assert!(sampled.into_iter().chain(drawn).all(|(field, value)| model[&field] == value));
                let mut scanned = BTreeMap::new();
                prop_assert!(hash.scan(Cursor::START, 1000, &mut |f, v| _ = scanned.insert(text(f), text(v))).is_none());
                prop_assert_eq!(&scanned, &model);
            }
        }
    }
}
