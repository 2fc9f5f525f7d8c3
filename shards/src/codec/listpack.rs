//! Listpack, the serialized form of small collections since Redis 5.
//!
//! ```text
//! bytes: u32   count: u16 (65535: unknown)   entries …   ff
//! entry:  encoding and data, then their length backwards in groups of 7 bits
//!
//! 0xxxxxxx            integer 0 to 127            f0 len: u32   string
//! 10llllll            string up to 63 bytes       f1 f2 f3 f4   integer of 2, 3, 4, 8 bytes
//! 110xxxxx x          integer of 13 bits
//! 1110llll l          string up to 4095 bytes
//! ```
//!
//! All numbers are little-endian but those that share their first byte with the encoding.

use super::{signed, split_array, split_bytes};
use crate::value::item::{Item, parse_int};

const HEADER: usize = 6;
const END: u8 = 0xFF;
/// A count that says "too many for this field".
const COUNT_UNKNOWN: u16 = u16::MAX;
/// Longest decimal form of an i64.
const INT_DIGITS_MAX: usize = 20;

/// A listpack being written into its own buffer.
pub struct Writer {
    bytes: Vec<u8>,
    count: usize,
}

impl Default for Writer {
    fn default() -> Self {
        Writer { bytes: vec![0; HEADER], count: 0 }
    }
}

impl Writer {
    pub fn push(&mut self, item: Item<'_>) {
        match item {
            Item::Int(int) => self.push_int(int),
            Item::Bytes(bytes) => self.push_bytes(bytes),
        }
    }

    pub fn push_bytes(&mut self, bytes: &[u8]) {
        if bytes.len() <= INT_DIGITS_MAX
            && let Some(int) = parse_int(bytes)
        {
            return self.push_int(int);
        }
        let (start, len) = (self.bytes.len(), bytes.len());
        match len {
            0..64 => self.bytes.push(0x80 | len as u8),
            64..4096 => self.bytes.extend_from_slice(&[0xE0 | (len >> 8) as u8, len as u8]),
            _ => {
                self.bytes.push(0xF0);
                self.bytes.extend_from_slice(&(len as u32).to_le_bytes());
            }
        }
        self.bytes.extend_from_slice(bytes);
        self.end_entry(start);
    }

    pub fn push_int(&mut self, int: i64) {
        let start = self.bytes.len();
        let little = int.to_le_bytes();
        match int {
            0..128 => self.bytes.push(int as u8),
            -4096..4096 => self.bytes.extend_from_slice(&[0xC0 | (int >> 8) as u8 & 0x1F, int as u8]),
            _ => {
                let (first, width) = match int {
                    -0x8000..0x8000 => (0xF1, 2),
                    -0x80_0000..0x80_0000 => (0xF2, 3),
                    -0x8000_0000..0x8000_0000 => (0xF3, 4),
                    _ => (0xF4, 8),
                };
                self.bytes.push(first);
                self.bytes.extend_from_slice(&little[..width]);
            }
        }
        self.end_entry(start);
    }

    fn end_entry(&mut self, start: usize) {
        let len = self.bytes.len() - start;
        let (back, width) = backward_len(len);
        self.bytes.extend_from_slice(&back[..width]);
        self.count += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes so far, with header and end.
    pub fn len(&self) -> usize {
        self.bytes.len() + 1
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.push(END);
        let total = self.bytes.len() as u32;
        let count = u16::try_from(self.count).unwrap_or(COUNT_UNKNOWN);
        self.bytes[..4].copy_from_slice(&total.to_le_bytes());
        self.bytes[4..HEADER].copy_from_slice(&count.to_le_bytes());
        self.bytes
    }
}

/// The length of an entry as it stands behind it: 7 bits a byte, the highest first, all but the first marked.
fn backward_len(len: usize) -> ([u8; 5], usize) {
    let width = match len {
        0..128 => 1,
        128..16_383 => 2,
        16_383..2_097_151 => 3,
        2_097_151..268_435_455 => 4,
        _ => 5,
    };
    let mut bytes = [0; 5];
    for (at, byte) in bytes[..width].iter_mut().enumerate() {
        let group = (len >> (7 * (width - 1 - at))) as u8 & 0x7F;
        *byte = if at == 0 { group } else { group | 0x80 };
    }
    (bytes, width)
}

/// The elements of a listpack, checked one by one as they are read.
pub struct Elements<'a> {
    rest: &'a [u8],
    count: u16,
    read: usize,
}

impl<'a> Elements<'a> {
    /// `None` if header, length or end are wrong.
    pub fn new(mut data: &'a [u8]) -> Option<Self> {
        let total = data.len();
        let bytes = u32::from_le_bytes(*split_array(&mut data)?);
        let count = u16::from_le_bytes(*split_array(&mut data)?);
        let (&end, entries) = data.split_last()?;
        (bytes as usize == total && end == END).then_some(Elements { rest: entries, count, read: 0 })
    }

    /// The next element; `Ok(None)` at the end, `Err` where the entry or the count is damaged.
    #[expect(clippy::should_implement_trait, reason = "damage is an answer of its own")]
    pub fn next(&mut self) -> Result<Option<Item<'a>>, Damaged> {
        if self.rest.is_empty() {
            let right = self.count == COUNT_UNKNOWN || usize::from(self.count) == self.read;
            return if right { Ok(None) } else { Err(Damaged) };
        }
        self.read += 1;
        self.entry().map(Some).ok_or(Damaged)
    }

    fn entry(&mut self) -> Option<Item<'a>> {
        let before = self.rest.len();
        let rest = &mut self.rest;
        let first = split_array::<1>(rest)?[0];
        let item = match first {
            0..0x80 => Item::Int(first.into()),
            0x80..0xC0 => Item::Bytes(split_bytes(rest, usize::from(first & 0x3F))?),
            0xC0..0xE0 => {
                let value = i64::from(first & 0x1F) << 8 | i64::from(split_array::<1>(rest)?[0]);
                Item::Int(if value < 4096 { value } else { value - 8192 })
            }
            0xE0..0xF0 => {
                let len = usize::from(first & 0x0F) << 8 | usize::from(split_array::<1>(rest)?[0]);
                Item::Bytes(split_bytes(rest, len)?)
            }
            0xF0 => {
                let len = u32::from_le_bytes(*split_array(rest)?) as usize;
                Item::Bytes(split_bytes(rest, len)?)
            }
            0xF1..=0xF3 => Item::Int(signed(split_bytes(rest, usize::from(first - 0xEF))?)),
            0xF4 => Item::Int(signed(split_bytes(rest, 8)?)),
            0xF5.. => return None,
        };
        let (back, width) = backward_len(before - rest.len());
        (split_bytes(rest, width)? == &back[..width]).then_some(item)
    }
}

/// The bytes are no listpack (or ziplist).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damaged;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(data: &[u8]) -> Option<Vec<Vec<u8>>> {
        let mut elements = Elements::new(data)?;
        let mut out = Vec::new();
        loop {
            match elements.next() {
                Ok(Some(item)) => out.push(item.to_vec()),
                Ok(None) => return Some(out),
                Err(Damaged) => return None,
            }
        }
    }

    #[test]
    fn every_encoding_at_its_edges() {
        let mut wanted: Vec<Vec<u8>> = [0usize, 1, 63, 64, 4095, 4096, 16_380, 70_000].map(|len| vec![b'x'; len]).into();
        for edge in [0, 127, 4095, 0x7FFF, 0x7F_FFFF, 0x7FFF_FFFF, i64::MAX] {
            for int in [edge, edge.wrapping_add(1), -edge, -edge - 1, (-edge).wrapping_sub(2)] {
                wanted.push(int.to_string().into_bytes());
            }
        }
        wanted.extend(["-0", "01", "+1", "1 ", "9223372036854775808"].map(|text| text.as_bytes().to_vec()));
        let mut writer = Writer::default();
        wanted.iter().for_each(|bytes| writer.push_bytes(bytes));
        let len = writer.len();
        let data = writer.finish();
        assert_eq!(data.len(), len);
        assert_eq!(read(&data), Some(wanted));
    }

    #[test]
    fn the_bytes_that_redis_writes() {
        let mut writer = Writer::default();
        writer.push_bytes(b"a");
        writer.push_bytes(b"5");
        assert_eq!(writer.finish(), [12, 0, 0, 0, 2, 0, 0x81, b'a', 2, 5, 1, 0xFF]);
    }

    proptest! {
        #[test]
        fn round_trip(wanted: Vec<Vec<u8>>) {
            let mut writer = Writer::default();
            wanted.iter().for_each(|bytes| writer.push_bytes(bytes));
            prop_assert_eq!(read(&writer.finish()), Some(wanted));
        }

        #[test]
        fn reading_is_total(data: Vec<u8>) {
            read(&data);
        }
    }
}
