//! Values as an RDB file holds them: a type, then lengths, strings and packed collections.
//!
//! ```text
//! length   00llllll   01llllll l   80 u32   81 u64 (big-endian)
//! string   length, bytes
//!          c0 c1 c2: integer of 1, 2, 4 bytes (little-endian)
//!          c3: compressed length, length, LZF data
//! ```
//!
//! Knows values only: the file around them is [`file`]'s, and DUMP's footer is the command's. Writes what redis-server 7.0
//! reads, reads what any Redis up to it wrote (streams and modules excepted: there is no such value here).

mod decode;
mod encode;
pub mod file;

pub use decode::{Decoded, ValueLimits, decode_value};
pub use encode::{Compression, encode_value, value_type, write_length, write_string};

use super::lzf;
use std::borrow::Cow;

/// The version of the format that is written, and the newest that is read.
pub const RDB_VERSION: u16 = 10;

/// The value types that RDB files number.
mod kind {
    pub const STRING: u8 = 0;
    pub const LIST: u8 = 1;
    pub const SET: u8 = 2;
    pub const ZSET: u8 = 3;
    pub const HASH: u8 = 4;
    pub const ZSET_2: u8 = 5;
    pub const HASH_ZIPMAP: u8 = 9;
    pub const LIST_ZIPLIST: u8 = 10;
    pub const SET_INTSET: u8 = 11;
    pub const ZSET_ZIPLIST: u8 = 12;
    pub const HASH_ZIPLIST: u8 = 13;
    pub const LIST_QUICKLIST: u8 = 14;
    pub const HASH_LISTPACK: u8 = 16;
    pub const ZSET_LISTPACK: u8 = 17;
    pub const LIST_QUICKLIST_2: u8 = 18;
    /// Since Redis 7.2; only read.
    pub const SET_LISTPACK: u8 = 20;
}

/// How a node of a quicklist holds its elements: one as it is, or a listpack.
const NODE_PLAIN: u64 = 1;
const NODE_PACKED: u64 = 2;

const LENGTH_32: u8 = 0x80;
const LENGTH_64: u8 = 0x81;
const STRING_INT8: u8 = 0xC0;
const STRING_INT16: u8 = 0xC1;
const STRING_INT32: u8 = 0xC2;
const STRING_LZF: u8 = 0xC3;

/// Why bytes are no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CodecError {
    /// They end too early: with more of them it may be one.
    Truncated,
    Damaged(&'static str),
    /// A collection without elements, which no key holds.
    Empty,
    UnknownType(u8),
}

impl std::fmt::Display for CodecError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CodecError::Truncated => f.write_str("unexpected end of the data"),
            CodecError::Damaged(what) => f.write_str(what),
            CodecError::Empty => f.write_str("a collection without elements"),
            CodecError::UnknownType(kind) => write!(f, "unknown value type {kind}"),
        }
    }
}

/// Reads the parts of a value from the front of a buffer.
#[derive(Clone)]
pub struct Reader<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Reader { data, at: 0 }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    pub fn remaining(&self) -> usize {
        self.data.len() - self.at
    }

    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], CodecError> {
        let end = self.at.checked_add(len).ok_or(CodecError::Truncated)?;
        let bytes = self.data.get(self.at..end).ok_or(CodecError::Truncated)?;
        self.at = end;
        Ok(bytes)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    pub fn byte(&mut self) -> Result<u8, CodecError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A length or number.
    pub fn length(&mut self) -> Result<u64, CodecError> {
        let first = self.byte()?;
        self.length_after(first)
    }

    fn length_after(&mut self, first: u8) -> Result<u64, CodecError> {
        Ok(match first {
            0..0x40 => first.into(),
            0x40..0x80 => u64::from(first & 0x3F) << 8 | u64::from(self.byte()?),
            LENGTH_32 => u32::from_be_bytes(self.array()?).into(),
            LENGTH_64 => u64::from_be_bytes(self.array()?),
            _ => return Err(CodecError::Damaged("unknown length encoding")),
        })
    }

    fn size(&mut self) -> Result<usize, CodecError> {
        usize::try_from(self.length()?).map_err(|_| CodecError::Truncated)
    }

    pub fn string(&mut self) -> Result<Text<'a>, CodecError> {
        let first = self.byte()?;
        Ok(match first {
            STRING_INT8 => Text::Int(i8::from_le_bytes(self.array()?).into()),
            STRING_INT16 => Text::Int(i16::from_le_bytes(self.array()?).into()),
            STRING_INT32 => Text::Int(i32::from_le_bytes(self.array()?).into()),
            STRING_LZF => {
                let (packed_len, len) = (self.size()?, self.size()?);
                let packed = self.bytes(packed_len)?;
                let bytes = lzf::decompress(packed, len).ok_or(CodecError::Damaged("damaged LZF string"))?;
                Text::Bytes(Cow::Owned(bytes))
            }
            _ => {
                let len = usize::try_from(self.length_after(first)?).map_err(|_| CodecError::Truncated)?;
                Text::Bytes(Cow::Borrowed(self.bytes(len)?))
            }
        })
    }
}

/// A string as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Text<'a> {
    /// Stands for its decimal digits.
    Int(i64),
    Bytes(Cow<'a, [u8]>),
}

impl<'a> Text<'a> {
    pub fn into_bytes(self) -> Cow<'a, [u8]> {
        match self {
            Text::Int(int) => Cow::Owned(int.to_string().into_bytes()),
            Text::Bytes(bytes) => bytes,
        }
    }

    /// Calls `f` with the byte string; an integer's digits are made on the stack.
    pub fn with_bytes<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Text::Int(int) => f(itoa::Buffer::new().format(*int).as_bytes()),
            Text::Bytes(bytes) => f(bytes),
        }
    }
}

#[cfg(test)]
mod tests;
