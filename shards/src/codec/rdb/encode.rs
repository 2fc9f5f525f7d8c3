//! Writing values, each in the form that redis-server would choose for it.

use super::super::listpack::Writer;
use super::super::lzf;
use super::{LENGTH_32, LENGTH_64, NODE_PACKED, NODE_PLAIN, STRING_INT8, STRING_INT16, STRING_INT32, STRING_LZF, kind};
use crate::keyspace::Value;
use crate::number::{parse_i64, write_f64};
use crate::value::item::Item;
use crate::value::sorted_set::Direction;
use crate::value::{Hash, List, Set, SortedSet};

/// Whether long strings are compressed (`rdbcompression`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    Lzf,
    None,
}

/// Bytes of a listpack in a list; an element that is larger has one of its own.
const NODE_BYTES: usize = 8192;
/// From this size on an element stands outside of listpacks.
const PLAIN_BYTES_MIN: usize = 1 << 30;
/// Longest string that is tried as an integer: `-2147483648`.
const INTEGER_DIGITS_MAX: usize = 11;
/// Shorter strings cannot be compressed.
const COMPRESS_MIN: usize = 21;
/// Bytes that compression must save.
const COMPRESS_GAIN_MIN: usize = 4;

/// The type number that goes with [`encode_value`].
pub fn value_type(value: Value<'_>) -> u8 {
    match value {
        Value::Integer(_) | Value::Short(_) | Value::Long(_) => kind::STRING,
        Value::List(_) => kind::LIST_QUICKLIST_2,
        Value::Hash(Hash::Packed(_) | Hash::Shared(..)) => kind::HASH_LISTPACK,
        Value::Hash(Hash::Table(_)) => kind::HASH,
        Value::Set(Set::Ints(_)) => kind::SET_INTSET,
        Value::Set(Set::Packed(_) | Set::Table(_)) => kind::SET,
        Value::SortedSet(zset) if zset.encoding() == "listpack" => kind::ZSET_LISTPACK,
        Value::SortedSet(_) => kind::ZSET_2,
    }
}

/// Appends a value, without its type.
pub fn encode_value(value: Value<'_>, compression: Compression, out: &mut Vec<u8>) {
    let mut encoder = Encoder { out, compression, scratch: Vec::new() };
    match value {
        Value::Integer(number) => encoder.item(Item::Int(number)),
        Value::Short(bytes) => encoder.string(bytes),
        Value::Long(bytes) => encoder.string(bytes),
        Value::List(list) => encoder.list(list),
        Value::Hash(hash) => encoder.hash(hash),
        Value::Set(set) => encoder.set(set),
        Value::SortedSet(zset) => encoder.sorted_set(zset),
    }
}

/// Appends a length or number.
pub fn write_length(len: u64, out: &mut Vec<u8>) {
    match len {
        0..64 => out.push(len as u8),
        64..16_384 => out.extend_from_slice(&[0x40 | (len >> 8) as u8, len as u8]),
        _ => match u32::try_from(len) {
            Ok(len) => {
                out.push(LENGTH_32);
                out.extend_from_slice(&len.to_be_bytes());
            }
            Err(_) => {
                out.push(LENGTH_64);
                out.extend_from_slice(&len.to_be_bytes());
            }
        },
    }
}

/// Appends a string in its shortest form.
pub fn write_string(bytes: &[u8], compression: Compression, out: &mut Vec<u8>) {
    Encoder { out, compression, scratch: Vec::new() }.string(bytes);
}

struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    compression: Compression,
    /// Compressed data whose length must be known before it is written.
    scratch: Vec<u8>,
}

impl Encoder<'_> {
    fn length(&mut self, len: usize) {
        write_length(len as u64, self.out);
    }

    fn item(&mut self, item: Item<'_>) {
        match item {
            Item::Int(int) if self.integer(int) => {}
            item => item.with_bytes(|bytes| self.string(bytes)),
        }
    }

    fn string(&mut self, bytes: &[u8]) {
        if bytes.len() <= INTEGER_DIGITS_MAX
            && let Some(int) = parse_i64(bytes)
            && self.integer(int)
        {
            return;
        }
        if self.compression == Compression::Lzf && bytes.len() >= COMPRESS_MIN {
            self.scratch.clear();
            if lzf::compress(bytes, bytes.len() - COMPRESS_GAIN_MIN + 1, &mut self.scratch) {
                self.out.push(STRING_LZF);
                self.length(self.scratch.len());
                self.length(bytes.len());
                self.out.extend_from_slice(&self.scratch);
                return;
            }
        }
        self.length(bytes.len());
        self.out.extend_from_slice(bytes);
    }

    /// False, and nothing written, if it has more than 32 bits.
    fn integer(&mut self, int: i64) -> bool {
        if let Ok(int) = i8::try_from(int) {
            self.out.extend_from_slice(&[STRING_INT8, int as u8]);
        } else if let Ok(int) = i16::try_from(int) {
            self.out.push(STRING_INT16);
            self.out.extend_from_slice(&int.to_le_bytes());
        } else if let Ok(int) = i32::try_from(int) {
            self.out.push(STRING_INT32);
            self.out.extend_from_slice(&int.to_le_bytes());
        } else {
            return false;
        }
        true
    }

    fn list(&mut self, list: &List) {
        // The number of nodes stands before them.
        let (mut nodes, mut body) = (0, Vec::new());
        let mut inner = Encoder { out: &mut body, compression: self.compression, scratch: Vec::new() };
        let mut node = Writer::default();
        let flush = |node: &mut Writer, inner: &mut Encoder<'_>, nodes: &mut usize| {
            if !node.is_empty() {
                write_length(NODE_PACKED, inner.out);
                inner.string(&std::mem::take(node).finish());
                *nodes += 1;
            }
        };
        list.iter().for_each(|item| {
            if item.len() >= PLAIN_BYTES_MIN {
                flush(&mut node, &mut inner, &mut nodes);
                write_length(NODE_PLAIN, inner.out);
                item.with_bytes(|bytes| inner.string(bytes));
                nodes += 1;
                return;
            }
            if node.len() + item.len() > NODE_BYTES {
                flush(&mut node, &mut inner, &mut nodes);
            }
            node.push(item);
        });
        flush(&mut node, &mut inner, &mut nodes);
        self.length(nodes);
        self.out.extend_from_slice(&body);
    }

    fn hash(&mut self, hash: &Hash) {
        if let Hash::Packed(_) | Hash::Shared(..) = hash {
            let mut node = Writer::default();
            hash.for_each(&mut |field, value| {
                node.push(field);
                node.push(value);
            });
            return self.string(&node.finish());
        }
        self.length(hash.len());
        hash.for_each(&mut |field, value| {
            self.item(field);
            self.item(value);
        });
    }

    fn set(&mut self, set: &Set) {
        if let Set::Ints(ints) = set {
            let width = ints.iter().map(width_of).max().unwrap_or(2);
            let mut blob = Vec::with_capacity(8 + ints.len() * width);
            blob.extend_from_slice(&(width as u32).to_le_bytes());
            blob.extend_from_slice(&(ints.len() as u32).to_le_bytes());
            ints.iter().for_each(|int| blob.extend_from_slice(&int.to_le_bytes()[..width]));
            return self.string(&blob);
        }
        self.length(set.len());
        set.for_each(&mut |member| self.item(member));
    }

    fn sorted_set(&mut self, zset: &SortedSet) {
        if zset.encoding() == "listpack" {
            let (mut node, mut text) = (Writer::default(), Vec::new());
            for (member, score) in zset.iter() {
                text.clear();
                write_f64(&mut text, score);
                node.push(member);
                node.push_bytes(&text);
            }
            return self.string(&node.finish());
        }
        self.length(zset.len());
        // From the greatest: redis-server then adds each at the head.
        for (member, score) in zset.range(0..zset.len(), Direction::Descending) {
            self.item(member);
            self.out.extend_from_slice(&score.to_le_bytes());
        }
    }
}

/// Bytes that an intset needs for a member.
fn width_of(int: i64) -> usize {
    if i16::try_from(int).is_ok() {
        2
    } else if i32::try_from(int).is_ok() {
        4
    } else {
        8
    }
}
