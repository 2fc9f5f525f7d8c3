//! Where a token of the file ends, found without decoding it.
//!
//! Each token has a *form*: a list of parts, some of them repeated. The [`Skipper`] walks the form and remembers where it
//! stands, so a token that arrives in a thousand pieces is walked once. Nothing is allocated. A part costs a few
//! nanoseconds, the bytes inside strings nothing.

use super::super::{LENGTH_32, LENGTH_64, STRING_INT8, STRING_INT16, STRING_INT32, STRING_LZF};
use super::opcode;

/// Longest string: a damaged length must not make the reader wait for an exabyte.
pub const STRING_BYTES_MAX: u64 = 1 << 32;

/// Repetitions inside repetitions: groups, their consumers, the entries pending for each.
const DEPTH_MAX: usize = 4;

/// One thing in a token.
#[derive(Debug)]
enum Part {
    Length,
    String,
    /// A string that is a key.
    Key,
    Bytes(usize),
    /// A score as text: its length, or 253 to 255 without any.
    Score,
    /// A length, then the parts so many times.
    Times(&'static [Part]),
    /// A module's values: an opcode before each, 0 at the end.
    Module,
}

use Part::{Bytes, Key, Length, Module, Score, String as Text, Times};

/// The parts of a token after its first byte.
pub struct Form(&'static [Part]);

const PENDING: Part = Times(&[Bytes(16), Bytes(8), Length]);
const NODES: Part = Times(&[Text, Text]);

/// The form of the token that begins with `first`; `None` if there is none.
pub fn form(first: u8) -> Option<Form> {
    Some(Form(match first {
        // Strings, and all that is packed into one.
        0 | 9..=13 | 16 | 17 | 20 => &[Key, Text],
        1 | 2 | 14 => &[Key, Times(&[Text])],
        3 => &[Key, Times(&[Text, Score])],
        4 => &[Key, Times(&[Text, Text])],
        5 => &[Key, Times(&[Text, Bytes(8)])],
        18 => &[Key, Times(&[Length, Text])],
        6 | 7 => &[Key, Length, Module],
        // Streams: listpacks, number of entries, last id, groups (name, last id, pending entries, consumers).
        15 => {
            const CONSUMERS: Part = Times(&[Text, Bytes(8), Times(&[Bytes(16)])]);
            &[Key, NODES, Length, Length, Length, Times(&[Text, Length, Length, PENDING, CONSUMERS])]
        }
        // First id, greatest deleted id, entries added; a group's entries read.
        19 => {
            const CONSUMERS: Part = Times(&[Text, Bytes(8), Times(&[Bytes(16)])]);
            const GROUPS: Part = Times(&[Text, Length, Length, Length, PENDING, CONSUMERS]);
            &[Key, NODES, Length, Length, Length, Length, Length, Length, Length, Length, GROUPS]
        }
        // A consumer's active time.
        21 => {
            const CONSUMERS: Part = Times(&[Text, Bytes(8), Bytes(8), Times(&[Bytes(16)])]);
            const GROUPS: Part = Times(&[Text, Length, Length, Length, PENDING, CONSUMERS]);
            &[Key, NODES, Length, Length, Length, Length, Length, Length, Length, Length, GROUPS]
        }
        opcode::SLOT_INFO => &[Length, Length, Length],
        opcode::FUNCTION => &[Text],
        opcode::MODULE_AUX => &[Length, Length, Length, Module],
        opcode::IDLE | opcode::SELECT_DB => &[Length],
        opcode::FREQUENCY => &[Bytes(1)],
        opcode::AUX => &[Text, Text],
        opcode::RESIZE_DB => &[Length, Length],
        opcode::EXPIRY_MS => &[Bytes(8)],
        opcode::EXPIRY_S => &[Bytes(4)],
        opcode::END => &[],
        _ => return None,
    }))
}

/// The size of a token of the commonest form, a short key and a value that is one string not too long, if all of it has
/// come. `None` leaves the question to the [`Skipper`].
#[inline]
pub fn short_record(token: &[u8]) -> Option<usize> {
    let (&[kind, key_len], rest) = token.split_first_chunk::<2>()?;
    if !matches!(kind, 0 | 9..=13 | 16 | 17 | 20) || key_len >= 0x40 {
        return None;
    }
    let value = rest.get(usize::from(key_len)..)?;
    let value_len = match *value {
        [len @ 0..0x40, ..] => 1 + usize::from(len),
        [high @ 0x40..0x80, low, ..] => 2 + (usize::from(high & 0x3F) << 8 | usize::from(low)),
        [STRING_INT8, ..] => 2,
        [STRING_INT16, ..] => 3,
        [STRING_INT32, ..] => 5,
        _ => return None,
    };
    (value_len <= value.len()).then_some(2 + usize::from(key_len) + value_len)
}

/// How far a token goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Its size.
    Done(usize),
    /// It has at least so many bytes, more than there are.
    Need(usize),
}

enum Stop {
    Short { need: usize },
    Damaged(&'static str),
}

#[derive(Clone, Copy)]
struct Frame {
    parts: &'static [Part],
    next: usize,
    /// Rounds that are not complete, this one included.
    rounds: u64,
}

/// Walks one token after the other.
pub struct Skipper {
    /// Bytes of whole parts.
    at: usize,
    /// Where the read that went wrong, or lacked bytes, began.
    stopped_at: usize,
    key_end: usize,
    depth: usize,
    frames: [Frame; DEPTH_MAX],
}

impl Default for Skipper {
    fn default() -> Self {
        Skipper { at: 0, stopped_at: 0, key_end: 0, depth: 0, frames: [Frame { parts: &[], next: 0, rounds: 0 }; DEPTH_MAX] }
    }
}

impl Skipper {
    /// Stands behind the first byte of a token.
    pub fn begin(&mut self, form: Form) {
        self.at = 1;
        self.stopped_at = 1;
        self.key_end = 0;
        self.depth = 1;
        self.frames[0] = Frame { parts: form.0, next: 0, rounds: 1 };
    }

    /// Where the key ends, 0 before it was seen.
    pub fn key_end(&self) -> usize {
        self.key_end
    }

    pub fn stopped_at(&self) -> usize {
        self.stopped_at
    }

    /// Goes on in a token of which `token` has come so far. `Err` says what is damaged.
    pub fn advance(&mut self, token: &[u8]) -> Result<Step, &'static str> {
        let mut cursor = Cursor { data: token, at: self.at };
        match self.walk(&mut cursor) {
            Ok(()) => Ok(Step::Done(cursor.at)),
            Err(stop) => {
                self.stopped_at = cursor.at;
                match stop {
                    Stop::Short { need } => Ok(Step::Need(need)),
                    Stop::Damaged(what) => Err(what),
                }
            }
        }
    }

    fn walk(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Stop> {
        while self.depth > 0 {
            let frame = &mut self.frames[self.depth - 1];
            let Some(part) = frame.parts.get(frame.next) else {
                frame.rounds -= 1;
                frame.next = 0;
                self.depth -= usize::from(frame.rounds == 0);
                continue;
            };
            let mut inner = None;
            match part {
                Part::String => cursor.string()?,
                Part::Key => {
                    cursor.string()?;
                    self.key_end = cursor.at;
                }
                Part::Length => _ = cursor.length()?,
                Part::Bytes(len) => cursor.skip(*len)?,
                Part::Score => cursor.score()?,
                Part::Times(parts) => match cursor.length()? {
                    0 => {}
                    rounds => inner = Some(Frame { parts, next: 0, rounds }),
                },
                Part::Module => {
                    if cursor.module_value()? {
                        self.at = cursor.at;
                        continue;
                    }
                }
            }
            frame.next += 1;
            self.at = cursor.at;
            if let Some(inner) = inner {
                self.frames[self.depth] = inner;
                self.depth += 1;
            }
        }
        Ok(())
    }
}

/// Reads past things, and stays before the read that fails.
struct Cursor<'a> {
    data: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    #[inline]
    fn skip(&mut self, len: usize) -> Result<(), Stop> {
        if len > self.data.len() - self.at {
            return Err(Stop::Short { need: self.at.saturating_add(len) });
        }
        self.at += len;
        Ok(())
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        match self.data[self.at..].first_chunk::<N>() {
            Some(array) => {
                self.at += N;
                Ok(*array)
            }
            None => Err(Stop::Short { need: self.at + N }),
        }
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Stop> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    fn length(&mut self) -> Result<u64, Stop> {
        let first = self.byte()?;
        self.length_after(first)
    }

    #[inline]
    fn length_after(&mut self, first: u8) -> Result<u64, Stop> {
        Ok(match first {
            0..0x40 => first.into(),
            0x40..0x80 => u64::from(first & 0x3F) << 8 | u64::from(self.byte()?),
            LENGTH_32 => u32::from_be_bytes(self.array()?).into(),
            LENGTH_64 => u64::from_be_bytes(self.array()?),
            _ => return Err(Stop::Damaged("unknown length encoding")),
        })
    }

    fn text(&mut self, len: u64) -> Result<(), Stop> {
        match usize::try_from(len) {
            Ok(size) if len <= STRING_BYTES_MAX => self.skip(size),
            _ => Err(Stop::Damaged("a string is longer than 4 GiB")),
        }
    }

    #[inline]
    fn string(&mut self) -> Result<(), Stop> {
        match self.byte()? {
            STRING_INT8 => self.skip(1),
            STRING_INT16 => self.skip(2),
            STRING_INT32 => self.skip(4),
            STRING_LZF => {
                let (packed_len, _) = (self.length()?, self.length()?);
                self.text(packed_len)
            }
            first => {
                let len = self.length_after(first)?;
                self.text(len)
            }
        }
    }

    fn score(&mut self) -> Result<(), Stop> {
        match self.byte()? {
            253.. => Ok(()),
            len => self.skip(len.into()),
        }
    }

    /// False at the end of a module's values.
    fn module_value(&mut self) -> Result<bool, Stop> {
        match self.length()? {
            0 => return Ok(false),
            1 | 2 => _ = self.length()?,
            3 => self.skip(4)?,
            4 => self.skip(8)?,
            5 => self.string()?,
            _ => return Err(Stop::Damaged("unknown kind of module value")),
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the token ends when it comes byte by byte; each byte is asked for in vain at most once per length or header.
    fn end_of(token: &[u8]) -> Result<Step, &'static str> {
        let mut skipper = Skipper::default();
        skipper.begin(form(token[0]).ok_or("no such token")?);
        let mut step = Step::Need(1);
        for len in 1..=token.len() {
            step = skipper.advance(&token[..len])?;
            match step {
                Step::Done(_) => return Ok(step),
                Step::Need(need) => assert!(need > len),
            }
        }
        Ok(step)
    }

    #[test]
    fn every_form_ends_where_it_should() {
        let id = [7u8; 16];
        let time = [9u8; 8];
        let nodes = [b"\x01\x10", &id[..], b"\x03abc", b"\x05\x05\x06"].concat();
        let pending = [b"\x01", &id[..], &time, b"\x02"].concat();
        let consumer = [b"\x01\x02me", &time[..], b"\x01", &id].concat();
        let consumer_3 = [b"\x01\x02me", &time[..], &time, b"\x01", &id].concat();
        let group = |entries_read: &[u8], consumers: &[u8]| [b"\x01\x01g\x05\x06", entries_read, &pending, consumers].concat();
        let tokens: &[Vec<u8>] = &[
            b"\x00\x01k\x05hello".to_vec(),
            b"\x00\x01k\xc0\x05".to_vec(),
            b"\x00\x01k\xc1\x05\x05".to_vec(),
            b"\x11\x01k\xc2\x05\x05\x05\x05".to_vec(),
            [&b"\x00\x01k\x41\x05"[..], &[b'x'; 0x105]].concat(),
            [&b"\x00\x40\x41"[..], &[b'k'; 0x41], b"\x00"].concat(),
            b"\x00\xc2\x05\x05\x05\x05\xc3\x03\x40\x64abc".to_vec(),
            b"\x01\x01k\x02\x01a\x01b".to_vec(),
            b"\x02\x01k\x00".to_vec(),
            b"\x03\x01k\x03\x01a\xfe\x01b\x031.5\x01c\xfd".to_vec(),
            b"\x04\x01k\x01\x01f\x01v".to_vec(),
            b"\x05\x01k\x01\x01m12345678".to_vec(),
            b"\x07\x01k\x81\x10\x20\x30\x40\x50\x60\x70\x84\x05\x02ab\x02\x05\x01\x05\x03abcd\x0412345678\x00".to_vec(),
            b"\x0e\x01k\x02\x01a\x01b".to_vec(),
            b"\x12\x01k\x02\x01\x01a\x02\x01b".to_vec(),
            [b"\x0f\x01k", &nodes[..], &group(b"", &consumer)].concat(),
            [b"\x13\x01k", &nodes[..], b"\x01\x02\x03\x04\x05", &group(b"\x07", &consumer)].concat(),
            [b"\x15\x01k", &nodes[..], b"\x01\x02\x03\x04\x05", &group(b"\x07", &consumer_3)].concat(),
            b"\xf4\x01\x02\x40\x05".to_vec(),
            b"\xf5\x02ab".to_vec(),
            b"\xf7\x01\x02\x02\x00".to_vec(),
            b"\xf8\x80\x00\x00\x00\x01".to_vec(),
            b"\xf9\xff".to_vec(),
            b"\xfa\x01a\x01b".to_vec(),
            b"\xfb\x01\x02".to_vec(),
            b"\xfc12345678".to_vec(),
            b"\xfd1234".to_vec(),
            b"\xfe\x00".to_vec(),
            b"\xff".to_vec(),
        ];
        for token in tokens {
            assert_eq!(end_of(token), Ok(Step::Done(token.len())), "{}", token.escape_ascii());
            assert!(short_record(token).is_none_or(|len| len == token.len()), "{}", token.escape_ascii());
            (0..token.len()).for_each(|len| assert_eq!(short_record(&token[..len]), None));
            let more = [token, &b"more"[..]].concat();
            let mut skipper = Skipper::default();
            skipper.begin(form(token[0]).unwrap());
            assert_eq!(skipper.advance(&more), Ok(Step::Done(token.len())), "{}", token.escape_ascii());
        }
    }

    #[test]
    fn nonsense_is_named_and_huge_claims_only_wait() {
        assert_eq!(end_of(b"\x00\xc4"), Err("unknown length encoding"));
        assert_eq!(end_of(b"\x00\x01k\x81\xff\xff\xff\xff\xff\xff\xff\xff"), Err("a string is longer than 4 GiB"));
        assert_eq!(end_of(b"\x00\x01k\x80\xff\xff\xff\xff"), Ok(Step::Need(8 + 0xFFFF_FFFF)));
        assert_eq!(end_of(b"\x02\x01k\x81\xff\xff\xff\xff\xff\xff\xff\xff"), Ok(Step::Need(13)));
        assert_eq!(end_of(b"\x07\x01k\x01\x06"), Err("unknown kind of module value"));
        for first in [8, 22, 30, 0x80, 0xF3, opcode::FUNCTION_BEFORE_RELEASE] {
            assert!(form(first).is_none(), "{first}");
        }
    }

    #[test]
    fn the_key_s_end_is_known_as_soon_as_it_has_come() {
        let mut skipper = Skipper::default();
        skipper.begin(form(0).unwrap());
        assert_eq!(skipper.advance(b"\x00\x03ke"), Ok(Step::Need(5)));
        assert_eq!((skipper.key_end(), skipper.stopped_at()), (0, 2));
        assert_eq!(skipper.advance(b"\x00\x03key\x09"), Ok(Step::Need(15)));
        assert_eq!((skipper.key_end(), skipper.stopped_at()), (5, 6));
    }
}
