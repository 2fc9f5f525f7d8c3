//! Schemas: the field names that many small hashes have in common, kept once.
//!
//! Owns which sequences of fields are kept, and how a hash is fitted to one. A shard keeps a sequence that has come often; hashes
//! whose fields are nobody else's stay whole. Refuses to know values.
//!
//! A schema is never freed: hashes of all shards point to it without counting, and go from shard to shard. So the process keeps at
//! most [`SCHEMAS_MAX`] with names of at most [`NAMES_BYTES_MAX`], 4 MiB in all; hashes with further ones stay whole.

use super::hash::{Hash, HashLimits};
use super::item::Encoded;
use super::packed::{Packed, Pos};
use crate::keyspace::{OwnedEntry, ValueMut};
use ahash::{AHasher, RandomState};
use hashbrown::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

const SCHEMAS_MAX: usize = if cfg!(test) { 1 << 16 } else { 4096 };
/// Bytes of a schema's names.
const NAMES_BYTES_MAX: usize = 512;
/// A hash with fewer fields has little to share, one with more is more likely a collection than a record.
const FIELDS: std::ops::RangeInclusive<usize> = 2..=64;
/// Longest value, in bytes, of a hash that is made at once.
const SHARED_VALUE_MAX: usize = 1 << 16;
/// How often a sequence must have come. A hash whose field comes and goes, or that is made anew time and again, gets there too.
/// In builds for tests that is soon, so that generated commands get there.
const OFTEN: u32 = if cfg!(debug_assertions) { 2 } else { 16 };
/// Sequences that a shard counts.
const COUNTED: usize = 256;

static KEPT: [OnceLock<Schema>; SCHEMAS_MAX] = [const { OnceLock::new() }; SCHEMAS_MAX];
static KEPT_COUNT: AtomicUsize = AtomicUsize::new(0);

/// A sequence of distinct field names.
struct Schema {
    names: Packed,
    /// For each name a byte that most others differ in, and where it is.
    prints: Box<[u8]>,
    places: Box<[Pos]>,
}

impl Schema {
    fn new(names: Packed) -> Schema {
        let prints = names.iter().map(|name| name.with_bytes(print)).collect();
        let places = std::iter::successors(names.first(), |&pos| names.next(pos)).collect();
        Schema { names, prints, places }
    }
}

/// Names of records mostly differ in length, first or last byte.
#[inline]
fn print(name: &[u8]) -> u8 {
    let [first, last] = [name.first(), name.last()].map(|byte| byte.copied().unwrap_or(0));
    (name.len() as u8).wrapping_mul(29) ^ first.wrapping_mul(7) ^ last
}

/// One that is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SchemaId(u16);

const _: () = assert!(SCHEMAS_MAX <= u16::MAX as usize + 1);

impl SchemaId {
    #[inline]
    fn schema(self) -> &'static Schema {
        KEPT[usize::from(self.0)].get().expect("an id is made when its schema is kept")
    }

    /// The names, in the order of the fields.
    #[inline]
    pub fn names(self) -> &'static Packed {
        &self.schema().names
    }

    fn are_names<'a>(self, mut others: impl Iterator<Item = &'a [u8]>) -> bool {
        let Schema { names, places, .. } = self.schema();
        let is_next = |&place: &Pos| others.next().is_some_and(|name| names.is_at(place, &Encoded::new(name)));
        places.iter().all(is_next) && others.next().is_none()
    }

    /// The number of the field with this name.
    #[inline]
    pub fn index_of(self, name: &[u8]) -> Option<usize> {
        let Schema { names, prints, places } = self.schema();
        let name = (print(name), Encoded::new(name));
        memchr::memchr_iter(name.0, prints).find(|&index| names.is_at(places[index], &name.1))
    }

    /// None: as many as there may be are kept.
    fn keep(names: Packed) -> Option<SchemaId> {
        let claim = |count: usize| (count < SCHEMAS_MAX).then_some(count + 1);
        let index = KEPT_COUNT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim).ok()?;
        KEPT[index].set(Schema::new(names)).is_ok().then_some(SchemaId(index as u16))
    }
}

/// The schemas that a shard knows.
#[derive(Default)]
pub struct Schemas(Option<Box<Known>>);

struct Known {
    hasher: RandomState,
    by_hash: HashMap<u64, SchemaId>,
    counts: [Count; COUNTED],
}

/// How often a sequence has come, less how often others with the same place have: those that come most stay.
#[derive(Clone, Copy, Default)]
struct Count {
    hash: u64,
    times: u32,
}

impl Count {
    /// One more; true when it was often.
    fn add(&mut self, hash: u64) -> bool {
        if self.hash == hash {
            self.times += 1;
        } else if self.times == 0 {
            *self = Count { hash, times: 1 };
        } else {
            self.times -= 1;
        }
        self.hash == hash && self.times >= OFTEN
    }
}

impl Schemas {
    /// Has a small hash give its field names up for a schema, if there is one or is to be one. Whole hashes are left whole
    /// otherwise; it costs a look at each name.
    pub fn fit(&mut self, hash: &mut Hash) {
        if let Hash::Packed(packed) = hash
            && FIELDS.contains(&(packed.len() / 2))
            && let Some(schema) = self.0.get_or_insert_with(Known::new).schema_of(packed)
        {
            *hash = Hash::Shared(schema, packed.every_second(1));
        }
    }

    /// Has a hash's fields come often. For tests.
    #[cfg(test)]
    pub fn learn(&mut self, hash: &Hash) {
        (0..OFTEN).for_each(|_| self.fit(&mut hash.clone()));
    }

    /// A small hash of these fields and values, made at once, if the fields are those of a schema.
    pub fn make<'a>(&self, fields: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone, limits: &HashLimits) -> Option<Hash> {
        let known = self.0.as_ref()?;
        let is_small = |(name, value): (&[u8], &[u8])| name.len().max(value.len()) <= limits.value.min(SHARED_VALUE_MAX);
        let count = fields.clone().count();
        if !FIELDS.contains(&count) || count > limits.entries || !fields.clone().all(is_small) {
            return None;
        }
        let names = fields.clone().map(|(name, _)| name);
        let schema = *known.by_hash.get(&names.clone().fold(known.hasher.build_hasher(), added).finish())?;
        schema.are_names(names).then(|| Hash::Shared(schema, Packed::of(fields.map(|(_, value)| value))))
    }

    /// As [`Schemas::fit`], where a hash is made outside of a table.
    pub fn fit_entry(&mut self, entry: &mut OwnedEntry) {
        if let ValueMut::Hash(hash) = entry.value_mut() {
            self.fit(hash);
        }
    }
}

impl Known {
    fn new() -> Box<Known> {
        // Any seeds serve: who makes two sequences meet keeps them from being shared, and nothing else.
        Box::new(Known {
            hasher: RandomState::with_seeds(1, 2, 3, 4),
            by_hash: HashMap::new(),
            counts: [Count::default(); COUNTED],
        })
    }

    fn schema_of(&mut self, fields_and_values: &Packed) -> Option<SchemaId> {
        let (mut hasher, mut bytes, mut items) = (self.hasher.build_hasher(), 0, fields_and_values.iter());
        while let (Some(name), Some(_value)) = (items.next(), items.next()) {
            hasher = name.with_bytes(|name| added(hasher, name));
            bytes += name.len();
        }
        if bytes > NAMES_BYTES_MAX {
            return None;
        }
        let hash = hasher.finish();
        if let Some(&known) = self.by_hash.get(&hash) {
            return fields_and_values.encoded(2).eq(known.names().encoded(1)).then_some(known);
        }
        let count = &mut self.counts[hash as usize % COUNTED];
        if !count.add(hash) {
            return None;
        }
        *count = Count::default();
        let schema = SchemaId::keep(fields_and_values.every_second(0))?;
        self.by_hash.insert(hash, schema);
        Some(schema)
    }
}

/// The hash of a sequence of names, with one more.
fn added(mut hasher: AHasher, name: &[u8]) -> AHasher {
    hasher.write(name);
    hasher
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::value::item::Item;

    fn hash(fields: &[&str]) -> Hash {
        let limits = HashLimits::new(&Settings::default(), &RandomState::with_seeds(1, 2, 3, 4));
        let mut hash = Hash::new();
        fields.iter().for_each(|field| assert!(hash.set(field.as_bytes(), b"value", &limits)));
        hash
    }

    fn is_shared(hash: &Hash) -> bool {
        matches!(hash, Hash::Shared(..))
    }

    #[test]
    fn what_comes_often_is_shared() {
        let mut schemas = Schemas::default();
        let mut fit = |fields: &[&str]| {
            let mut hash = hash(fields);
            schemas.fit(&mut hash);
            hash.check_invariants();
            hash
        };
        (1..OFTEN).for_each(|_| assert!(!is_shared(&fit(&["name", "age"]))));
        assert!(!is_shared(&fit(&["age", "name"])), "another order");
        let shared = fit(&["name", "age"]);
        assert!(is_shared(&shared));
        assert_eq!(shared.get(b"age"), Some(Item::Bytes(b"value")));
        assert!(!is_shared(&fit(&["nam", "eage"])) && !is_shared(&fit(&["nam", "eag"])));
        let many: Vec<String> = (0..65).map(|number| number.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let long = "x".repeat(NAMES_BYTES_MAX);
        for fields in [&["one"][..], &many, &["a", &long]] {
            (0..2 * OFTEN).for_each(|_| assert!(!is_shared(&fit(fields)), "too few, too many, too long"));
        }
    }

    #[test]
    fn what_comes_most_is_found_amid_others() {
        let mut schemas = Schemas::default();
        let found = (0..20_000).find(|number| {
            (0..20).for_each(|other| schemas.fit(&mut hash(&["id", &format!("item:{number}:{other}")])));
            let mut record = hash(&["name", "age"]);
            schemas.fit(&mut record);
            is_shared(&record)
        });
        assert!(found.is_some_and(|number| number < 200), "{found:?}");
    }

    #[test]
    fn what_is_made_at_once_is_what_is_set_one_by_one() {
        let (mut schemas, limits) =
            (Schemas::default(), HashLimits::new(&Settings::default(), &RandomState::with_seeds(1, 2, 3, 4)));
        let names = ["name", "17", "", "-3", "nam", "age"];
        schemas.learn(&hash(&names));
        let long = "v".repeat(65);
        for values in [["", "1", "-99999", "x", "y", "z"], ["v"; 6], [long.as_str(); 6]] {
            let fields = names.iter().zip(values).map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            let made = schemas.make(fields.clone(), &limits);
            assert_eq!(made.is_some(), values[0].len() <= limits.value);
            let mut set = Hash::new();
            fields.for_each(|(name, value)| _ = set.set(name, value, &limits));
            let Some(made) = made else { continue };
            made.check_invariants();
            assert!(made.iter().eq(set.iter()));
        }
        let fewer = names[..5].iter().map(|name| (name.as_bytes(), &b""[..]));
        assert!(schemas.make(fewer.clone(), &limits).is_none());
        assert!(schemas.make(fewer.clone().chain(fewer), &limits).is_none());
    }

    #[test]
    fn fields_that_are_nobody_else_s_are_not_kept() {
        let mut schemas = Schemas::default();
        for number in 0..20_000 {
            schemas.fit(&mut hash(&["id", &format!("item:{number}")]));
        }
        assert!(schemas.0.is_some_and(|known| known.by_hash.is_empty()));
    }
}
