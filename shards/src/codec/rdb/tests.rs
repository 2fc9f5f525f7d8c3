use super::*;
use crate::keyspace::{NewValue, OwnedEntry, Value};
use crate::random::Random;
use crate::settings::Settings;
use crate::value::hash::HashLimits;
use crate::value::list::ListLimit;
use crate::value::schema::Schemas;
use crate::value::set::SetLimits;
use crate::value::sorted_set::Limits;
use crate::value::{Hash, List, Object, Set, SortedSet};
use ahash::RandomState;

fn hasher() -> RandomState {
    RandomState::with_seeds(1, 2, 3, 4)
}

pub(super) fn limits() -> ValueLimits {
    ValueLimits::new(&Settings::default(), &hasher())
}

fn entry(value: NewValue<'_>) -> OwnedEntry {
    OwnedEntry::new(b"k", value, None)
}

/// What a value holds, in an order of its own.
pub(super) fn contents(value: Value<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut out = Vec::new();
    let mut sort = true;
    match value {
        Value::Integer(int) => out.push((int.to_string().into_bytes(), Vec::new())),
        Value::Short(bytes) => out.push((bytes.to_vec(), Vec::new())),
        Value::Long(bytes) => out.push((bytes.clone(), Vec::new())),
        Value::List(list) => {
            sort = false;
            list.iter().for_each(|item| out.push((item.to_vec(), Vec::new())));
        }
        Value::Hash(hash) => hash.for_each(&mut |field, value| out.push((field.to_vec(), value.to_vec()))),
        Value::Set(set) => set.for_each(&mut |member| out.push((member.to_vec(), Vec::new()))),
        Value::SortedSet(zset) => {
            sort = false;
            zset.iter().for_each(|(member, score)| out.push((member.to_vec(), score.to_le_bytes().to_vec())));
        }
    }
    if sort {
        out.sort();
    }
    out
}

fn encoded(value: Value<'_>, compression: Compression) -> Vec<u8> {
    let mut bytes = vec![value_type(value)];
    encode_value(value, compression, &mut bytes);
    bytes
}

fn decoded(bytes: &[u8]) -> Result<OwnedEntry, CodecError> {
    let mut reader = Reader::new(bytes);
    let kind = reader.byte()?;
    decode_value(kind, &mut reader, &limits()).map(|decoded| decoded.into_entry(b"k", None))
}

/// `n` elements of mixed kinds: words, numbers, binary, long ones.
fn element(i: usize) -> Vec<u8> {
    match i % 5 {
        0 => format!("word:{i}").into_bytes(),
        1 => (i as i64 * 7919 - 40_000).to_string().into_bytes(),
        2 => vec![0xFF, i as u8, (i >> 8) as u8, 0],
        3 => format!("{}", u64::MAX - i as u64).into_bytes(),
        _ => format!("{i} {}", "long ".repeat(i % 60)).into_bytes(),
    }
}

pub(super) fn samples() -> Vec<OwnedEntry> {
    let settings = Settings::default();
    let mut entries = vec![entry(NewValue::Bytes(b"")), entry(NewValue::Bytes(&b"abc".repeat(5000)))];
    for int in [0, -1, 127, 128, -129, 32_768, -32_769, i64::from(i32::MAX), 1 << 31, i64::MIN, i64::MAX] {
        entries.push(entry(NewValue::Integer(int)));
    }
    for len in [1, 11, 12, 20, 21, 63, 64, 16_383, 16_384] {
        entries.push(entry(NewValue::Bytes(&vec![b'x'; len])));
        entries.push(entry(NewValue::Bytes(&(0..len).map(|i| ((i * i) >> 3) as u8).collect::<Vec<_>>())));
    }
    let mut schemas = Schemas::default();
    for n in [1, 2, 20, 100, 700, 3000] {
        let (mut list, mut hash, mut set, mut zset) = (List::new(), Hash::new(), Set::new(), SortedSet::default());
        let mut ints = Set::new();
        let zset_limits = Limits { entries: 128, value: 64, hasher: hasher() };
        for i in 0..n {
            let element = element(i);
            list.push_back(&element, ListLimit::default());
            hash.set(&element, &super::tests::element(i * 3 + 1), &HashLimits::new(&settings, &hasher()));
            set.add(&element, &SetLimits::new(&settings, &hasher()));
            let score = [f64::INFINITY, -0.0, 0.1, i as f64, -1e300, 1e17 + i as f64][i % 6];
            zset.insert(&element, score, &zset_limits);
            let int = i as i64 * [1, 70_000, -5_000_000_000][n % 3];
            ints.add(int.to_string().as_bytes(), &SetLimits::new(&settings, &hasher()));
        }
        let mut shared = hash.clone();
        schemas.learn(&shared);
        schemas.fit(&mut shared);
        assert_eq!(matches!(shared, Hash::Shared(..)), n == 2, "{n}");
        let hashes = [hash, shared].map(Object::Hash);
        let others = [Object::List(Box::new(list)), Object::Set(set), Object::SortedSet(zset), Object::Set(ints)];
        entries.extend(hashes.into_iter().chain(others).map(|object| entry(NewValue::Object(object))));
    }
    entries
}

#[test]
fn every_value_comes_back_in_its_encoding() {
    for entry in samples() {
        for compression in [Compression::Lzf, Compression::None] {
            let bytes = encoded(entry.value(), compression);
            let back = decoded(&bytes).unwrap();
            assert_eq!(contents(back.value()), contents(entry.value()));
            assert_eq!(value_type(back.value()), bytes[0], "the same encoding");
        }
    }
}

#[test]
fn the_bytes_that_redis_writes() {
    for (value, want) in [
        (NewValue::Integer(10), &b"\x00\xc0\x0a"[..]),
        (NewValue::Integer(-1000), b"\x00\xc1\x18\xfc"),
        (NewValue::Integer(1 << 40), b"\x00\x0d1099511627776"),
        (NewValue::Bytes(b"hello"), b"\x00\x05hello"),
    ] {
        assert_eq!(encoded(entry(value).value(), Compression::Lzf), want);
    }
}

#[test]
fn old_forms() {
    let shown = |bytes: &[u8]| {
        let show = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        decoded(bytes).map(|e| contents(e.value()).iter().map(|(a, b)| (show(a), b.len())).collect::<Vec<_>>())
    };
    let pair = |a: &str, b: usize| (a.to_owned(), b);
    assert_eq!(shown(b"\x01\x02\x01a\xc0\x05"), Ok(vec![pair("a", 0), pair("5", 0)]));
    assert_eq!(shown(b"\x02\x02\x01b\x01a"), Ok(vec![pair("a", 0), pair("b", 0)]));
    assert_eq!(shown(b"\x03\x02\x01a\xfe\x01b\x031.5"), Ok(vec![pair("b", 8), pair("a", 8)]));
    assert_eq!(shown(b"\x04\x01\x01f\x01v"), Ok(vec![pair("f", 1)]));
    assert_eq!(shown(b"\x09\x0a\x01\x01f\x01\x00v\x01g\x00\x00\xff"), Err(CodecError::Damaged("damaged listpack or ziplist")));
    assert_eq!(shown(b"\x09\x0b\x02\x01f\x01\x00v\x01g\x00\x00\xff"), Ok(vec![pair("f", 1), pair("g", 0)]));
    let ziplist = b"\x10\x10\x00\x00\x00\x0d\x00\x00\x00\x02\x00\x00\x01a\x03\xf2\xff";
    for kind in [10, 12, 13] {
        let bytes = [&[kind][..], ziplist].concat();
        assert!(shown(&bytes).is_ok(), "type {kind}: {:?}", shown(&bytes));
    }
    assert!(shown(&[&b"\x0e\x01"[..], ziplist].concat()).is_ok());
}

#[test]
fn nonsense_is_named() {
    let error = |bytes: &[u8]| decoded(bytes).err().unwrap();
    assert_eq!(error(b""), CodecError::Truncated);
    assert_eq!(error(b"\x00\x05hell"), CodecError::Truncated);
    assert_eq!(error(b"\x02\x00"), CodecError::Empty);
    assert_eq!(error(b"\x07"), CodecError::UnknownType(7));
    assert_eq!(error(b"\x00\xc4"), CodecError::Damaged("unknown length encoding"));
    assert_eq!(error(b"\x02\x02\x01a\x01a"), CodecError::Damaged("an element is there twice"));
    assert_eq!(error(b"\x05\x01\x01a\x00\x00\x00\x00\x00\x00\xf8\x7f"), CodecError::Damaged("a score is no number"));
    assert_eq!(error(b"\x00\x81\xff\xff\xff\xff\xff\xff\xff\xff"), CodecError::Truncated);
    assert_eq!(error(b"\x02\x81\xff\xff\xff\xff\xff\xff\xff\xff"), CodecError::Truncated);
}

#[test]
fn mutations_neither_panic_nor_break_a_value() {
    let mut random = Random::new(1);
    let mut survived = 0;
    for entry in samples() {
        let whole = encoded(entry.value(), Compression::None);
        for _ in 0..(200_000 / (whole.len() + 100)).min(300) {
            let mut bytes = whole.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len() as u64) as usize;
                match random.below(4) {
                    0 => bytes[at] = random.next() as u8,
                    1 => bytes[at] ^= 1 << random.below(8),
                    2 => bytes.truncate(at.max(1)),
                    _ => bytes.insert(at, random.next() as u8),
                }
            }
            if let Ok(back) = decoded(&bytes) {
                survived += 1;
                match back.value() {
                    Value::Hash(hash) => hash.check_invariants(),
                    Value::Set(set) => set.check_invariants(),
                    Value::SortedSet(zset) => zset.check_invariants(),
                    _ => {}
                }
                let again = decoded(&encoded(back.value(), Compression::Lzf)).unwrap();
                assert_eq!(contents(again.value()), contents(back.value()));
            }
        }
    }
    assert!(survived > 0);
}
