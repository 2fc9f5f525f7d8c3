//! Reading values of every type number, old and new.

use super::super::listpack::{self, Damaged};
use super::super::{signed, ziplist};
use super::{CodecError, NODE_PACKED, NODE_PLAIN, Reader, Text, kind};
use crate::keyspace::{NewValue, OwnedEntry};
use crate::number::{parse_f64, parse_i64};
use crate::settings::Settings;
use crate::value::hash::HashLimits;
use crate::value::item::Item;
use crate::value::list::ListLimit;
use crate::value::packed::Packed;
use crate::value::set::SetLimits;
use crate::value::sorted_set::Limits as SortedSetLimits;
use crate::value::{Hash, List, Object, Set, SortedSet};
use ahash::RandomState;
use std::borrow::Cow;
use std::cmp::Ordering;

/// The settings that decide the encodings of what is read.
pub struct ValueLimits {
    list: ListLimit,
    hash: HashLimits,
    set: SetLimits,
    sorted_set: SortedSetLimits,
}

impl ValueLimits {
    /// `hasher` is the shards' own (see [`crate::keyspace::KeyHasher::state`]).
    pub fn new(settings: &Settings, hasher: &RandomState) -> Self {
        ValueLimits {
            list: ListLimit::from_config(settings.list_max_listpack_size.into()),
            hash: HashLimits::new(settings, hasher),
            set: SetLimits::new(settings, hasher),
            sorted_set: SortedSetLimits {
                entries: settings.zset_max_listpack_entries,
                value: settings.zset_max_listpack_value,
                hasher: hasher.clone(),
            },
        }
    }
}

/// A value that was read.
pub enum Decoded<'a> {
    Integer(i64),
    Bytes(Cow<'a, [u8]>),
    Object(Object),
}

impl Decoded<'_> {
    pub fn into_entry(self, key: &[u8], expiry: Option<i64>) -> OwnedEntry {
        match self {
            Decoded::Integer(number) => OwnedEntry::new(key, NewValue::Integer(number), expiry),
            Decoded::Bytes(bytes) => OwnedEntry::new(key, NewValue::Bytes(&bytes), expiry),
            Decoded::Object(object) => OwnedEntry::new(key, NewValue::Object(object), expiry),
        }
    }
}

impl From<Damaged> for CodecError {
    fn from(_: Damaged) -> Self {
        CodecError::Damaged("damaged listpack or ziplist")
    }
}

/// Reads a value whose type is known, leaving the reader behind it.
pub fn decode_value<'a>(kind: u8, reader: &mut Reader<'a>, limits: &ValueLimits) -> Result<Decoded<'a>, CodecError> {
    let object = match kind {
        kind::STRING => return string(reader),
        kind::LIST | kind::LIST_ZIPLIST | kind::LIST_QUICKLIST | kind::LIST_QUICKLIST_2 => {
            Object::List(Box::new(list(kind, reader, limits)?))
        }
        kind::SET => Object::Set(set(reader, limits)?),
        kind::SET_INTSET => Object::Set(intset(&blob(reader)?, limits)?),
        kind::SET_LISTPACK => {
            let (mut set, blob) = (Set::new(), blob(reader)?);
            let mut elements = Elements::listpack(&blob)?;
            while let Some(member) = elements.next()? {
                only_new(set.add_item(member, &limits.set))?;
            }
            Object::Set(set)
        }
        kind::HASH => Object::Hash(hash(reader, limits)?),
        kind::HASH_ZIPMAP => Object::Hash(zipmap(&blob(reader)?, limits)?),
        kind::HASH_ZIPLIST => Object::Hash(packed_hash(Elements::ziplist(&blob(reader)?)?, limits)?),
        kind::HASH_LISTPACK => Object::Hash(packed_hash(Elements::listpack(&blob(reader)?)?, limits)?),
        kind::ZSET | kind::ZSET_2 => Object::SortedSet(sorted_set(kind, reader, limits)?),
        kind::ZSET_ZIPLIST => Object::SortedSet(packed_sorted_set(Elements::ziplist(&blob(reader)?)?, limits)?),
        kind::ZSET_LISTPACK => Object::SortedSet(packed_sorted_set(Elements::listpack(&blob(reader)?)?, limits)?),
        _ => return Err(CodecError::UnknownType(kind)),
    };
    if object.elements() == 0 { Err(CodecError::Empty) } else { Ok(Decoded::Object(object)) }
}

fn string<'a>(reader: &mut Reader<'a>) -> Result<Decoded<'a>, CodecError> {
    Ok(match reader.string()? {
        Text::Int(int) => Decoded::Integer(int),
        Text::Bytes(bytes) => match parse_i64(&bytes) {
            Some(int) => Decoded::Integer(int),
            None => Decoded::Bytes(bytes),
        },
    })
}

fn blob<'a>(reader: &mut Reader<'a>) -> Result<Cow<'a, [u8]>, CodecError> {
    reader.string().map(Text::into_bytes)
}

fn only_new(is_new: bool) -> Result<(), CodecError> {
    if is_new { Ok(()) } else { Err(CodecError::Damaged("an element is there twice")) }
}

/// The elements of either packed form.
enum Elements<'a> {
    Listpack(listpack::Elements<'a>),
    Ziplist(ziplist::Elements<'a>),
}

impl<'a> Elements<'a> {
    fn listpack(data: &'a [u8]) -> Result<Self, CodecError> {
        Ok(Elements::Listpack(listpack::Elements::new(data).ok_or(Damaged)?))
    }

    fn ziplist(data: &'a [u8]) -> Result<Self, CodecError> {
        Ok(Elements::Ziplist(ziplist::Elements::new(data).ok_or(Damaged)?))
    }

    fn next(&mut self) -> Result<Option<Item<'a>>, Damaged> {
        match self {
            Elements::Listpack(elements) => elements.next(),
            Elements::Ziplist(elements) => elements.next(),
        }
    }

    fn next_pair(&mut self) -> Result<Option<(Item<'a>, Item<'a>)>, Damaged> {
        match self.next()? {
            None => Ok(None),
            Some(first) => Ok(Some((first, self.next()?.ok_or(Damaged)?))),
        }
    }
}

fn list(kind: u8, reader: &mut Reader<'_>, limits: &ValueLimits) -> Result<List, CodecError> {
    let mut list = List::new();
    let parts = if kind == kind::LIST_ZIPLIST { 1 } else { reader.length()? };
    let push = |list: &mut List, bytes: &[u8]| match list.push_back(bytes, limits.list) {
        true => Ok(()),
        false => Err(CodecError::Damaged("an element is too large")),
    };
    for _ in 0..parts {
        let container = if kind == kind::LIST_QUICKLIST_2 { reader.length()? } else { NODE_PACKED };
        let text = reader.string()?;
        if kind == kind::LIST || container == NODE_PLAIN {
            text.with_bytes(|bytes| push(&mut list, bytes))?;
            continue;
        }
        let blob = text.into_bytes();
        let mut elements = match container {
            NODE_PACKED if kind == kind::LIST_QUICKLIST_2 => Elements::listpack(&blob)?,
            NODE_PACKED => Elements::ziplist(&blob)?,
            _ => return Err(CodecError::Damaged("unknown kind of list node")),
        };
        while let Some(item) = elements.next()? {
            item.with_bytes(|bytes| push(&mut list, bytes))?;
        }
    }
    Ok(list)
}

fn set(reader: &mut Reader<'_>, limits: &ValueLimits) -> Result<Set, CodecError> {
    let mut set = Set::new();
    for _ in 0..reader.length()? {
        let member = reader.string()?;
        only_new(member.with_bytes(|member| set.add(member, &limits.set)))?;
    }
    Ok(set)
}

/// An intset: width and count (u32 each, little-endian), then the members.
fn intset(blob: &[u8], limits: &ValueLimits) -> Result<Set, CodecError> {
    const DAMAGED: CodecError = CodecError::Damaged("damaged intset");
    let mut reader = Reader::new(blob);
    let width = u32::from_le_bytes(reader.array().map_err(|_| DAMAGED)?) as usize;
    let count = u32::from_le_bytes(reader.array().map_err(|_| DAMAGED)?) as usize;
    if !matches!(width, 2 | 4 | 8) || count.checked_mul(width) != Some(reader.remaining()) {
        return Err(DAMAGED);
    }
    let members = blob[blob.len() - reader.remaining()..].chunks_exact(width).map(signed);
    if !members.clone().is_sorted_by(|a, b| a < b) {
        return Err(DAMAGED);
    }
    if count <= limits.set.intset_entries {
        return Ok(Set::Ints(members.collect()));
    }
    let mut set = Set::new();
    members.for_each(|member| _ = set.add_item(Item::Int(member), &limits.set));
    Ok(set)
}

fn hash(reader: &mut Reader<'_>, limits: &ValueLimits) -> Result<Hash, CodecError> {
    let (mut hash, fields) = (Hash::new(), reader.length()?);
    if fields > limits.hash.entries as u64 {
        hash.convert(&limits.hash);
    }
    for _ in 0..fields {
        let (field, value) = (reader.string()?, reader.string()?);
        only_new(field.with_bytes(|field| value.with_bytes(|value| hash.set(field, value, &limits.hash))))?;
    }
    Ok(hash)
}

fn zipmap(blob: &[u8], limits: &ValueLimits) -> Result<Hash, CodecError> {
    let mut hash = Hash::new();
    let (&count, mut rest) = blob.split_first().ok_or(Damaged)?;
    while let Some((field, value)) = ziplist::zipmap_pair(&mut rest)? {
        only_new(hash.set(field, value, &limits.hash))?;
    }
    let right = count >= ziplist::ZIPMAP_COUNT_UNKNOWN || usize::from(count) == hash.len();
    if right { Ok(hash) } else { Err(Damaged.into()) }
}

/// A packed hash stays packed whatever the size of its values, as in redis-server, unless it has too many fields.
fn packed_hash(mut elements: Elements<'_>, limits: &ValueLimits) -> Result<Hash, CodecError> {
    let mut pairs = Vec::new();
    while pairs.len() <= limits.hash.entries {
        let Some(pair) = elements.next_pair()? else { break };
        pairs.push(pair);
    }
    if pairs.len() <= limits.hash.entries {
        let mut packed = Packed::new();
        for (field, value) in &pairs {
            let fits = [field, value].into_iter().all(|item| match item {
                Item::Int(int) => packed.push_int(*int),
                Item::Bytes(bytes) => packed.push(bytes),
            });
            if !fits {
                return Err(CodecError::Damaged("a hash is too large"));
            }
        }
        only_new(are_distinct(pairs.iter().map(|(field, _)| *field)))?;
        return Ok(Hash::Packed(packed));
    }
    let mut hash = Hash::new();
    hash.convert(&limits.hash);
    let mut put = |(field, value): (Item<'_>, Item<'_>)| {
        only_new(field.with_bytes(|field| value.with_bytes(|value| hash.set(field, value, &limits.hash))))
    };
    pairs.into_iter().try_for_each(&mut put)?;
    while let Some(pair) = elements.next_pair()? {
        put(pair)?;
    }
    Ok(hash)
}

/// Whether no item stands there twice. An integer may be written as digits too.
fn are_distinct<'a>(items: impl Iterator<Item = Item<'a>>) -> bool {
    let mut items: Vec<(Option<i64>, &[u8])> = items
        .map(|item| match item {
            Item::Int(int) => (Some(int), &[][..]),
            Item::Bytes(bytes) => match parse_i64(bytes) {
                Some(int) => (Some(int), &[][..]),
                None => (None, bytes),
            },
        })
        .collect();
    items.sort_unstable();
    items.windows(2).all(|pair| pair[0] != pair[1])
}

fn sorted_set(kind: u8, reader: &mut Reader<'_>, limits: &ValueLimits) -> Result<SortedSet, CodecError> {
    let mut zset = SortedSet::default();
    for _ in 0..reader.length()? {
        let member = reader.string()?;
        let score = if kind == kind::ZSET_2 { f64::from_le_bytes(reader.array()?) } else { text_score(reader)? };
        let score = valid_score(score)?;
        only_new(member.with_bytes(|member| zset.insert(member, score, &limits.sorted_set)))?;
    }
    Ok(zset)
}

/// The oldest form of a score: its length and its digits, or 253 to 255 for what has none.
fn text_score(reader: &mut Reader<'_>) -> Result<f64, CodecError> {
    Ok(match reader.byte()? {
        255 => f64::NEG_INFINITY,
        254 => f64::INFINITY,
        253 => f64::NAN,
        len => parse_f64(reader.bytes(len.into())?.trim_ascii()).ok_or(CodecError::Damaged("a score is no number"))?,
    })
}

fn valid_score(score: f64) -> Result<f64, CodecError> {
    if score.is_nan() { Err(CodecError::Damaged("a score is no number")) } else { Ok(score) }
}

/// As with hashes, a packed sorted set stays packed unless it has too many members. They mostly come in order.
fn packed_sorted_set(mut elements: Elements<'_>, limits: &ValueLimits) -> Result<SortedSet, CodecError> {
    let mut pairs: Vec<(Item<'_>, f64)> = Vec::new();
    while pairs.len() <= limits.sorted_set.entries {
        let Some(pair) = next_scored(&mut elements)? else { break };
        pairs.push(pair);
    }
    if pairs.len() <= limits.sorted_set.entries {
        only_new(are_distinct(pairs.iter().map(|(member, _)| *member)))?;
        if !pairs.is_sorted_by(|a, b| scored_order(a, b).is_lt()) {
            pairs.sort_unstable_by(scored_order);
        }
        return SortedSet::from_sorted(pairs).ok_or(CodecError::Damaged("a sorted set is too large"));
    }
    let mut zset = SortedSet::sized(pairs.len(), 0, &limits.sorted_set);
    let mut put =
        |(member, score): (Item<'_>, f64)| only_new(member.with_bytes(|member| zset.insert(member, score, &limits.sorted_set)));
    pairs.into_iter().try_for_each(&mut put)?;
    while let Some(pair) = next_scored(&mut elements)? {
        put(pair)?;
    }
    Ok(zset)
}

fn next_scored<'a>(elements: &mut Elements<'a>) -> Result<Option<(Item<'a>, f64)>, CodecError> {
    let Some((member, score)) = elements.next_pair()? else { return Ok(None) };
    let score = match score {
        Item::Int(int) => int as f64,
        Item::Bytes(text) => valid_score(parse_f64(text).ok_or(CodecError::Damaged("a score is no number"))?)?,
    };
    Ok(Some((member, score)))
}

/// Scores (which are no NaN), then members as bytes.
fn scored_order(a: &(Item<'_>, f64), b: &(Item<'_>, f64)) -> Ordering {
    let by_score = a.1.partial_cmp(&b.1).unwrap_or(Ordering::Equal);
    by_score.then_with(|| a.0.with_bytes(|a_bytes| b.0.with_bytes(|b_bytes| a_bytes.cmp(b_bytes))))
}
