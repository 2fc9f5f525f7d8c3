//! One element of a packed value: how a byte string stands in a buffer.
//!
//! Owns the encoding that `Packed` and `List` share. Refuses to know what lies between elements or how many there are.
//! Every string has exactly one encoding, so that two elements are equal when their encodings are: a search encodes its needle
//! once and compares bytes. Canonical decimal integers (what Redis's string2ll accepts) are kept in binary.
//!
//! ```text
//! 00..=b7            string of 0 to 183 bytes, which follow
//! b8..=f3            the integers 0 to 59
//! f4..=fb            integer in the 1 to 8 bytes that follow (two's complement, as few as possible, highest first: neighbours in a sequence share a prefix)
//! fc len: u8         string of 184 + len bytes
//! fd len: u16        string of up to 65535 bytes
//! fe len: u32        string of up to 4 GiB
//! ff                 never written
//! ```

const SHORT_MAX: u8 = 0xb7;
const SMALL_INT: u8 = 0xb8;
const SMALL_INTS: i64 = 60;
const INT1: u8 = 0xf4;
const INT8: u8 = 0xfb;
const STR8: u8 = 0xfc;
const STR16: u8 = 0xfd;
const STR32: u8 = 0xfe;
/// Shortest string with a separate length byte.
const STR8_MIN: usize = SHORT_MAX as usize + 1;
/// The longest header, and the longest integer.
const HEAD_MAX: usize = 9;

/// Whole encoded size by first byte; 0 where a separate length decides.
static SIZES: [u8; 256] = {
    let mut sizes = [0u8; 256];
    let mut first = 0usize;
    while first < STR8 as usize {
        sizes[first] = if first <= SHORT_MAX as usize {
            first as u8 + 1
        } else if first < INT1 as usize {
            1
        } else {
            first as u8 - INT1 + 2
        };
        first += 1;
    }
    sizes
};

const _: () = assert!(SMALL_INT as i64 + SMALL_INTS == INT1 as i64);

/// An element as it is stored; an integer stands for its decimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    Bytes(&'a [u8]),
    Int(i64),
}

impl<'a> Item<'a> {
    /// Length as a byte string.
    #[inline]
    pub fn len(self) -> usize {
        match self {
            Item::Bytes(bytes) => bytes.len(),
            Item::Int(int) => digits(int),
        }
    }

    pub fn is_empty(self) -> bool {
        self == Item::Bytes(&[])
    }

    #[inline]
    pub fn eq_bytes(self, other: &[u8]) -> bool {
        match self {
            Item::Bytes(bytes) => bytes == other,
            Item::Int(int) => parse_int(other) == Some(int),
        }
    }

    /// Appends the byte string to `out`.
    #[inline]
    pub fn write_to(self, out: &mut Vec<u8>) {
        match self {
            Item::Bytes(bytes) => out.extend_from_slice(bytes),
            Item::Int(int) => out.extend_from_slice(itoa::Buffer::new().format(int).as_bytes()),
        }
    }

    #[inline]
    pub fn to_vec(self) -> Vec<u8> {
        self.with_bytes(<[u8]>::to_vec)
    }

    /// Calls `f` with the byte string; an integer's digits are made on the stack.
    #[inline]
    pub fn with_bytes<R>(self, f: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Item::Bytes(bytes) => f(bytes),
            Item::Int(int) => f(itoa::Buffer::new().format(int).as_bytes()),
        }
    }

    /// The element at the start of `data` and the size of its encoding; None if `data` does not start with a whole element.
    #[inline]
    pub fn decode(data: &'a [u8]) -> Option<(Item<'a>, usize)> {
        let (&first, rest) = data.split_first()?;
        if first <= SHORT_MAX {
            let len = first as usize;
            return Some((Item::Bytes(rest.get(..len)?), 1 + len));
        }
        if first < INT1 {
            return Some((Item::Int((first - SMALL_INT) as i64), 1));
        }
        if first <= INT8 {
            let width = (first - INT1 + 1) as usize;
            let mut word = [0u8; 8];
            word[..width].copy_from_slice(rest.get(..width)?);
            return Some((Item::Int(i64::from_be_bytes(word) >> (64 - 8 * width as u32)), 1 + width));
        }
        let (head, len) = long_len(data)?;
        Some((Item::Bytes(data.get(head..head + len)?), head + len))
    }
}

/// Size of the encoding that starts `data`; never 0, and past the end of `data` if that is no whole element.
#[inline]
pub fn encoded_size(data: &[u8]) -> usize {
    let Some(&first) = data.first() else { return 1 };
    // The predicted branch spares a search the latency of the table at each step.
    if first <= SHORT_MAX {
        return 1 + first as usize;
    }
    match SIZES[first as usize] {
        0 => long_len(data).map_or(usize::MAX >> 1, |(head, len)| head + len),
        size => size as usize,
    }
}

/// Whether `data` starts with a string whose header is one byte, its length.
#[inline]
pub fn is_short_string(data: &[u8]) -> bool {
    data.first().is_some_and(|&first| first <= SHORT_MAX)
}

/// A string ready to be written or searched for.
pub struct Encoded<'a> {
    head: [u8; HEAD_MAX],
    head_len: u8,
    tail: &'a [u8],
}

impl<'a> Encoded<'a> {
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        if let Some(int) = parse_int(bytes) {
            return Encoded::int(int);
        }
        let mut head = [0u8; HEAD_MAX];
        let len = bytes.len();
        let head_len = if len < STR8_MIN {
            head[0] = len as u8;
            1
        } else if len < STR8_MIN + 256 {
            head[0] = STR8;
            head[1] = (len - STR8_MIN) as u8;
            2
        } else if len <= u16::MAX as usize {
            head[0] = STR16;
            head[1..3].copy_from_slice(&(len as u16).to_le_bytes());
            3
        } else {
            // A longer string than u32 can say never fits a buffer, so that its wrong header is never written.
            head[0] = STR32;
            head[1..5].copy_from_slice(&(len as u32).to_le_bytes());
            5
        };
        Encoded { head, head_len, tail: bytes }
    }

    #[inline]
    pub fn int(int: i64) -> Self {
        let mut head = [0u8; HEAD_MAX];
        if (0..SMALL_INTS).contains(&int) {
            head[0] = SMALL_INT + int as u8;
            return Encoded { head, head_len: 1, tail: &[] };
        }
        let magnitude = if int < 0 { !int } else { int };
        let width = ((64 - magnitude.leading_zeros()) / 8 + 1) as u8;
        head[0] = INT1 + width - 1;
        head[1..].copy_from_slice(&(int << (64 - 8 * width as u32)).to_be_bytes());
        Encoded { head, head_len: 1 + width, tail: &[] }
    }

    /// Bytes of the encoding.
    #[inline]
    pub fn size(&self) -> usize {
        self.head_len as usize + self.tail.len()
    }

    #[inline]
    pub fn first_byte(&self) -> u8 {
        self.head[0]
    }

    /// Whether `data` starts with this element.
    #[inline]
    pub fn starts(&self, data: &[u8]) -> bool {
        if self.head_len == 1 {
            return matches!(data.split_first(), Some((&first, rest)) if first == self.head[0] && rest.starts_with(self.tail));
        }
        let head = &self.head[..self.head_len as usize];
        data.strip_prefix(head).is_some_and(|rest| rest.starts_with(self.tail))
    }

    /// Writes the encoding over the start of `out`; without effect if it does not fit.
    #[inline]
    pub fn write(&self, out: &mut [u8]) {
        let head_len = self.head_len as usize;
        if let Some(out) = out.get_mut(..self.size()) {
            let (head, tail) = out.split_at_mut(head_len);
            match head {
                [one] => *one = self.head[0],
                head => head.copy_from_slice(&self.head[..head_len]),
            }
            tail.copy_from_slice(self.tail);
        }
    }
}

/// The integer that `bytes` is the canonical decimal form of: no sign but `-`, no leading zero, no `-0`, within i64.
#[inline]
pub fn parse_int(bytes: &[u8]) -> Option<i64> {
    let (negative, digits) = match bytes {
        [b'0'] => return Some(0),
        [b'-', rest @ ..] => (true, rest),
        _ => (false, bytes),
    };
    if digits.len() > 19 || !matches!(digits.first(), Some(b'1'..=b'9')) {
        return None;
    }
    // At most 19 digits: below 10^19, which u64 holds.
    let mut magnitude = 0u64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        magnitude = magnitude * 10 + digit as u64;
    }
    if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

fn digits(int: i64) -> usize {
    let sign = (int < 0) as usize;
    int.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1 + sign
}

/// Header size and string length of an element with a separate length.
#[cold]
fn long_len(data: &[u8]) -> Option<(usize, usize)> {
    match *data {
        [STR8, len, ..] => Some((2, STR8_MIN + len as usize)),
        [STR16, a, b, ..] => Some((3, u16::from_le_bytes([a, b]) as usize)),
        [STR32, a, b, c, d, ..] => Some((5, u32::from_le_bytes([a, b, c, d]) as usize)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(bytes: &[u8]) -> usize {
        let encoded = Encoded::new(bytes);
        let mut buffer = vec![0xffu8; encoded.size() + 3];
        encoded.write(&mut buffer);
        let (item, size) = Item::decode(&buffer).unwrap();
        assert_eq!(size, encoded.size());
        assert_eq!(encoded_size(&buffer), size);
        assert!(encoded.starts(&buffer) && item.eq_bytes(bytes));
        assert_eq!((item.to_vec().as_slice(), item.len()), (bytes, bytes.len()));
        assert_eq!(matches!(item, Item::Int(_)), parse_int(bytes).is_some());
        assert!(Item::decode(&buffer[..size - 1]).is_none());
        assert!(encoded_size(&buffer[..size - 1]) > size - 1);
        size
    }

    #[test]
    fn strings_of_every_header() {
        for len in [0, 1, 183, 184, 439, 440, 65535, 65536, 70000] {
            let head = match len {
                0..=183 => 1,
                184..=439 => 2,
                440..=65535 => 3,
                _ => 5,
            };
            assert_eq!(round_trip(&vec![b'x'; len]), head + len);
        }
    }

    #[test]
    fn integers_of_every_width() {
        for (text, size) in [
            ("0", 1),
            ("59", 1),
            ("60", 2),
            ("-1", 2),
            ("127", 2),
            ("-128", 2),
            ("128", 3),
            ("-129", 3),
            ("32768", 4),
            ("8388608", 5),
            ("-2147483649", 6),
            ("9223372036854775807", 9),
            ("-9223372036854775808", 9),
        ] {
            assert_eq!(round_trip(text.as_bytes()), size, "{text}");
        }
    }

    #[test]
    fn only_canonical_integers_are_integers() {
        for text in [
            "",
            "-",
            "+1",
            "-0",
            "00",
            "01",
            "-01",
            " 1",
            "1 ",
            "1.0",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
            "18446744073709551616",
            "1a",
        ] {
            assert_eq!(parse_int(text.as_bytes()), None, "{text}");
            round_trip(text.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn any_string_survives(bytes in prop::collection::vec(any::<u8>(), 0..600)) { round_trip(&bytes); }

        #[test]
        fn any_integer_survives(int: i64, shift in 0u32..64) {
            let int = int >> shift;
            prop_assert!(round_trip(int.to_string().as_bytes()) <= 9);
        }

        #[test]
        fn decoding_is_total(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            match Item::decode(&bytes) {
                Some((_, size)) => prop_assert!(size == encoded_size(&bytes) && size <= bytes.len()),
                None => prop_assert!(encoded_size(&bytes) > bytes.len()),
            }
        }
    }
}
