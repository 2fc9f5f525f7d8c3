//! Ziplists and zipmaps: the serialized forms of small collections before Redis 7. Only read.
//!
//! ```text
//! ziplist   bytes: u32   tail: u32   count: u16 (65535: unknown)   entries …   ff
//! entry     length of the entry before (one byte, or fe and u32), encoding, data
//!           00llllll  01llllll l  80 len: u32 (big-endian)   strings
//!           c0 d0 e0 f0 fe   integers of 2, 4, 8, 3, 1 bytes;   f1 to fd   the integers 0 to 12
//! zipmap    count: u8   (length field   length free: u8 value free bytes) …   ff
//!           a length is one byte, or fe and u32
//! ```

use super::listpack::Damaged;
use super::{signed, split_array, split_bytes};
use crate::value::item::Item;

const END: u8 = 0xFF;
const BIG: u8 = 0xFE;
const COUNT_UNKNOWN: u16 = u16::MAX;
/// From here on a zipmap's first byte does not tell the number of its fields.
pub const ZIPMAP_COUNT_UNKNOWN: u8 = 254;
const HEADER: usize = 10;

/// The elements of a ziplist, checked one by one as they are read.
pub struct Elements<'a> {
    rest: &'a [u8],
    count: u16,
    read: usize,
    /// Size of the entry before.
    before: usize,
    /// Bytes from the last entry on, without the end.
    tail_len: usize,
}

impl<'a> Elements<'a> {
    pub fn new(mut data: &'a [u8]) -> Option<Self> {
        let total = data.len();
        let bytes = u32::from_le_bytes(*split_array(&mut data)?);
        let tail = u32::from_le_bytes(*split_array(&mut data)?);
        let count = u16::from_le_bytes(*split_array(&mut data)?);
        let (&end, entries) = data.split_last()?;
        let tail_len = (total - 1).checked_sub(tail as usize)?;
        let right = bytes as usize == total && end == END && tail as usize >= HEADER;
        right.then_some(Elements { rest: entries, count, read: 0, before: 0, tail_len })
    }

    /// The next element; `Ok(None)` at the end, `Err` where the entry or the count is damaged.
    pub fn next(&mut self) -> Result<Option<Item<'a>>, Damaged> {
        if self.rest.is_empty() {
            let right = self.before == self.tail_len && (self.count == COUNT_UNKNOWN || usize::from(self.count) == self.read);
            return if right { Ok(None) } else { Err(Damaged) };
        }
        self.read += 1;
        self.entry().map(Some).ok_or(Damaged)
    }

    fn entry(&mut self) -> Option<Item<'a>> {
        let start = self.rest.len();
        let rest = &mut self.rest;
        let before = match split_array::<1>(rest)?[0] {
            BIG => u32::from_le_bytes(*split_array(rest)?) as usize,
            END => return None,
            small => usize::from(small),
        };
        if before != self.before {
            return None;
        }
        let encoding = split_array::<1>(rest)?[0];
        let item = match encoding {
            0..0x40 => Item::Bytes(split_bytes(rest, usize::from(encoding))?),
            0x40..0x80 => {
                let len = usize::from(encoding & 0x3F) << 8 | usize::from(split_array::<1>(rest)?[0]);
                Item::Bytes(split_bytes(rest, len)?)
            }
            0x80 => {
                let len = u32::from_be_bytes(*split_array(rest)?) as usize;
                Item::Bytes(split_bytes(rest, len)?)
            }
            0xC0 => Item::Int(signed(split_bytes(rest, 2)?)),
            0xD0 => Item::Int(signed(split_bytes(rest, 4)?)),
            0xE0 => Item::Int(signed(split_bytes(rest, 8)?)),
            0xF0 => Item::Int(signed(split_bytes(rest, 3)?)),
            0xFE => Item::Int(signed(split_bytes(rest, 1)?)),
            0xF1..=0xFD => Item::Int(i64::from(encoding & 0x0F) - 1),
            _ => return None,
        };
        self.before = start - rest.len();
        Some(item)
    }
}

/// A field and its value.
type Pair<'a> = (&'a [u8], &'a [u8]);

/// The next field and value of a zipmap without its first byte; `Ok(None)` at its end.
pub fn zipmap_pair<'a>(rest: &mut &'a [u8]) -> Result<Option<Pair<'a>>, Damaged> {
    if **rest == [END] {
        return Ok(None);
    }
    zipmap_entry(rest).map(Some).ok_or(Damaged)
}

fn zipmap_entry<'a>(rest: &mut &'a [u8]) -> Option<Pair<'a>> {
    let field_len = zipmap_len(rest)?;
    let field = split_bytes(rest, field_len)?;
    let value_len = zipmap_len(rest)?;
    let free = split_array::<1>(rest)?[0];
    let value = split_bytes(rest, value_len)?;
    split_bytes(rest, usize::from(free))?;
    Some((field, value))
}

fn zipmap_len(rest: &mut &[u8]) -> Option<usize> {
    match split_array::<1>(rest)?[0] {
        BIG => Some(u32::from_le_bytes(*split_array(rest)?) as usize),
        END => None,
        small => Some(usize::from(small)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ziplist_of_every_kind() {
        let mut data = vec![0; 10];
        let mut before = 0usize;
        let entries: [(&[u8], &str); 9] = [
            (&[2, b'h', b'i'], "hi"),
            (&[0xF1], "0"),
            (&[0xFD], "12"),
            (&[0xFE, 0x80], "-128"),
            (&[0xC0, 0xE8, 0x03], "1000"),
            (&[0xF0, 0xFF, 0xFF, 0xFF], "-1"),
            (&[0xD0, 1, 0, 0, 0x80], "-2147483647"),
            (&[0xE0, 0, 0, 0, 0, 0, 0, 0, 0x80], "-9223372036854775808"),
            (&[0x40, 1, b'x'], "x"),
        ];
        for (bytes, _) in entries {
            data.push(before as u8);
            data.extend_from_slice(bytes);
            before = bytes.len() + 1;
        }
        data.push(0xFF);
        let total = data.len() as u32;
        data[..4].copy_from_slice(&total.to_le_bytes());
        data[4..8].copy_from_slice(&(total - 1 - before as u32).to_le_bytes());
        data[8] = entries.len() as u8;
        let mut elements = Elements::new(&data).unwrap();
        for (_, want) in entries {
            assert_eq!(elements.next().unwrap().unwrap().to_vec(), want.as_bytes());
        }
        assert_eq!(elements.next(), Ok(None));
        data[8] += 1;
        let mut elements = Elements::new(&data).unwrap();
        for _ in entries {
            elements.next().unwrap();
        }
        assert_eq!(elements.next(), Err(Damaged));
    }

    #[test]
    fn the_zipmap_of_the_format_s_description() {
        let mut rest = &b"\x03foo\x03\x00bar\x05hello\x05\x02worldxx\xff"[..];
        assert_eq!(zipmap_pair(&mut rest), Ok(Some((&b"foo"[..], &b"bar"[..]))));
        assert_eq!(zipmap_pair(&mut rest), Ok(Some((&b"hello"[..], &b"world"[..]))));
        assert_eq!(zipmap_pair(&mut rest), Ok(None));
        assert_eq!(zipmap_pair(&mut &b"\x03fo"[..]), Err(Damaged));
        assert_eq!(zipmap_pair(&mut &b""[..]), Err(Damaged));
    }
}
