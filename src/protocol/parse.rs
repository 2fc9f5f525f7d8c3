//! Requests out of a byte buffer, in place.
//!
//! ```text
//! *2\r\n  $3\r\n GET\r\n  $5\r\n hello\r\n          a multibulk request: count, then length and bytes of each argument
//! GET "hello"\n                                     an inline request: anything that does not begin with '*'
//! ```
//!
//! An argument is a range of the input; nothing is copied or allocated for it. The ranges live in [`Args`], one per core
//! and reused, so an idle connection keeps only the few words of [`Parser`]. When a request is cut by the end of what has
//! arrived, its ranges so far move to the connection and its position is kept: the next call continues where this one
//! stopped and looks at no byte twice, so a 400 MB argument that comes in 16 KiB pieces costs one comparison per piece.
//!
//! What Redis accepts is accepted: the byte after a CR, and the two bytes after an argument, may be anything; a NUL hides
//! the rest of a line, which then never ends and fails at [`LINE_BYTES_MAX`](limits::LINE_BYTES_MAX). The verdict on a
//! stream never depends on how it was cut into pieces.
//!
//! Cost: about 4 ns per argument for lengths of up to four digits; longer ones search their CR.

use std::mem;

use memchr::memchr2;

use super::error::ProtocolError;
use super::inline;
use super::limits::{self, Limits};

/// What one call found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The request goes on beyond the input. `need` more bytes at least complete the current argument; 0: not known yet.
    Incomplete { need: usize },
    /// A request of at least one argument, in the [`Args`] given. `consumed` bytes of input belong to it.
    Command { consumed: usize },
    /// A request without arguments (a blank line, a count of zero or less): skip it, no reply is due.
    Empty { consumed: usize },
    /// Reply with the error and close; the rest of the input has no meaning.
    Fatal(ProtocolError),
}

/// The arguments of the request parsed last. One per core, lent to every call of every connection's parser.
#[derive(Debug, Default)]
pub struct Args {
    ranges: Vec<(u32, u32)>,
    /// The words of an inline request, unescaped; what the ranges refer to if `is_inline`.
    inline_text: Vec<u8>,
    is_inline: bool,
}

impl Args {
    pub fn new() -> Self {
        Args::default()
    }

    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Start and end of each argument in [`bytes`](Args::bytes).
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.ranges
    }

    /// The bytes the ranges refer to: `input`, as given to the parser, or the unescaped text of an inline request.
    pub fn bytes<'a>(&'a self, input: &'a [u8]) -> &'a [u8] {
        if self.is_inline { &self.inline_text } else { input }
    }

    /// Argument `index`, counted from the command's name. Panics past the end, as a slice does.
    pub fn get<'a>(&'a self, input: &'a [u8], index: usize) -> &'a [u8] {
        let (start, end) = self.ranges[index];
        &self.bytes(input)[start as usize..end as usize]
    }

    /// Whether the request was an inline one.
    pub fn is_inline(&self) -> bool {
        self.is_inline
    }

    pub fn iter<'a>(&'a self, input: &'a [u8]) -> impl ExactSizeIterator<Item = &'a [u8]> + 'a {
        let bytes = self.bytes(input);
        self.ranges.iter().map(move |&(start, end)| &bytes[start as usize..end as usize])
    }

    /// Gives back what an unusually long request made this grow by. For the end of a turn of the loop.
    pub fn trim(&mut self) {
        if self.ranges.capacity() > limits::RANGES_KEPT_MAX {
            self.ranges = Vec::new();
        }
        if self.inline_text.capacity() > limits::INLINE_BYTES_KEPT_MAX {
            self.inline_text = Vec::new();
        }
    }

    /// Heap bytes held, for accounting.
    pub fn heap_bytes(&self) -> usize {
        self.ranges.capacity() * size_of::<(u32, u32)>() + self.inline_text.capacity()
    }
}

/// A connection's place in the request it is in the middle of. Between requests every field is as in `new`.
#[derive(Debug)]
pub struct Parser {
    /// Arguments still to come, the current one included; 0 until the count is read.
    remaining: u32,
    /// Where the current item begins: the request's line, an argument's header or, with `bulk_len` known, its bytes.
    item: u32,
    /// Bytes before this offset hold no terminator of the current line.
    scanned: u32,
    /// Length of the current argument once its header is read.
    bulk_len: u32,
    /// Arguments read by earlier calls.
    ranges: Vec<(u32, u32)>,
}

const _: () = assert!(size_of::<Parser>() <= 40);

/// `bulk_len` while the header has not been read; longer than any argument may be.
const LEN_UNKNOWN: u32 = u32::MAX;

impl Default for Parser {
    fn default() -> Self {
        Parser::new()
    }
}

impl Parser {
    pub const fn new() -> Self {
        Parser { remaining: 0, item: 0, scanned: 0, bulk_len: LEN_UNKNOWN, ranges: Vec::new() }
    }

    /// Forgets the request in progress. Not needed after any result but `Incomplete`: a parser that has given a verdict
    /// stands between requests.
    pub fn reset(&mut self) {
        *self = Parser::new();
    }

    /// True if there is a place to continue from.
    fn is_mid_request(&self) -> bool {
        self.scanned > 0
    }

    /// Heap bytes held for a request in progress, for accounting.
    pub fn heap_bytes(&self) -> usize {
        self.ranges.capacity() * size_of::<(u32, u32)>()
    }

    /// Parses the request that begins at `input[0]`. After `Incomplete` call again with the same bytes and more after
    /// them; after `Command` or `Empty` drop `consumed` bytes first. `args` holds the arguments only after `Command`.
    #[inline]
    pub fn parse(&mut self, input: &[u8], limits: &Limits, args: &mut Args) -> Parsed {
        if self.is_mid_request() {
            return self.resume(input, limits, args);
        }
        debug_assert!(self.remaining == 0 && self.bulk_len == LEN_UNKNOWN && self.ranges.is_empty());
        args.ranges.clear();
        args.is_inline = false;
        match input.first() {
            Some(b'*') => match short_number(input, 0) {
                Some((count, header)) => self.begin(i64::from(count), header, input, limits, args),
                None => self.count_line(input, limits, args),
            },
            Some(_) => self.inline_line(input, args),
            None => Parsed::Incomplete { need: 0 },
        }
    }

    /// Continues a request that an earlier call left incomplete.
    #[cold]
    fn resume(&mut self, input: &[u8], limits: &Limits, args: &mut Args) -> Parsed {
        debug_assert!(input.len() >= self.scanned as usize, "the input of a resumed request has shrunk");
        if self.bulk_len != LEN_UNKNOWN {
            let end = self.item as usize + self.bulk_len as usize + 2;
            if input.len() < end {
                return Parsed::Incomplete { need: end - input.len() };
            }
        }
        args.is_inline = false;
        args.ranges.clear();
        if self.remaining == 0 {
            return match input.first() {
                Some(b'*') => self.count_line(input, limits, args),
                _ => self.inline_line(input, args),
            };
        }
        if self.ranges.len() > limits::RANGES_COPIED_MAX {
            mem::swap(&mut self.ranges, &mut args.ranges);
        } else {
            args.ranges.extend_from_slice(&self.ranges);
        }
        let at = Cursor { item: self.item as usize, scanned: self.scanned as usize, bulk_len: self.bulk_len };
        self.bulks(self.remaining, at, input, limits, args)
    }

    /// A count that is not short, or not all here yet.
    #[cold]
    fn count_line(&mut self, input: &[u8], limits: &Limits, args: &mut Args) -> Parsed {
        let end = match find_cr(input, 0, self.scanned as usize) {
            Line::Ends(end) => end,
            Line::Partial { scanned } => {
                self.scanned = scanned as u32;
                return Parsed::Incomplete { need: 0 };
            }
            Line::TooLong => return self.fatal(ProtocolError::CountTooBig),
        };
        match integer(&input[1..end]) {
            Some(count) if count <= limits::ARGS_MAX => self.begin(count, end + 2, input, limits, args),
            _ => self.fatal(ProtocolError::InvalidCount),
        }
    }

    /// The count is read and ends at `item`.
    #[inline(always)]
    fn begin(&mut self, count: i64, item: usize, input: &[u8], limits: &Limits, args: &mut Args) -> Parsed {
        if count <= 0 {
            self.finish();
            return Parsed::Empty { consumed: item };
        }
        if count > limits::UNAUTHENTICATED_ARGS_MAX && !limits.authenticated {
            return self.fatal(ProtocolError::UnauthenticatedCount);
        }
        let at = Cursor { item, scanned: item, bulk_len: LEN_UNKNOWN };
        self.bulks(count as u32, at, input, limits, args)
    }

    /// Reads arguments until the request or the input ends.
    #[inline(always)]
    fn bulks(&mut self, mut remaining: u32, at: Cursor, input: &[u8], limits: &Limits, args: &mut Args) -> Parsed {
        debug_assert!(remaining > 0);
        let mut at = at;
        loop {
            if at.bulk_len == LEN_UNKNOWN {
                match short_number(input, at.item) {
                    Some((len, header)) if input[at.item] == b'$' => {
                        at.item += header;
                        at.bulk_len = len;
                    }
                    _ => match length_line(&mut at, input, limits) {
                        Ok(true) => {}
                        Ok(false) => return self.suspend(remaining, at, args, 0),
                        Err(error) => return self.fatal(error),
                    },
                }
            }
            let end = at.item + at.bulk_len as usize;
            if end + 2 > input.len() {
                return self.suspend(remaining, at, args, end + 2 - input.len());
            }
            if end + 2 > limits::REQUEST_BYTES_MAX {
                return self.fatal(ProtocolError::QueryBufferFull);
            }
            args.ranges.push((at.item as u32, end as u32));
            at = Cursor { item: end + 2, scanned: end + 2, bulk_len: LEN_UNKNOWN };
            remaining -= 1;
            if remaining == 0 {
                self.finish();
                return Parsed::Command { consumed: at.item };
            }
        }
    }

    /// Moves the request so far into the connection.
    #[cold]
    fn suspend(&mut self, remaining: u32, at: Cursor, args: &mut Args, need: usize) -> Parsed {
        debug_assert!(at.item > 0 && remaining > 0);
        self.remaining = remaining;
        self.item = at.item as u32;
        // Behind the item if its header was short; a length that is known needs no search.
        self.scanned = at.scanned.max(at.item) as u32;
        self.bulk_len = at.bulk_len;
        if args.ranges.len() > limits::RANGES_COPIED_MAX {
            mem::swap(&mut self.ranges, &mut args.ranges);
        } else {
            // What earlier calls left here is a prefix of the list.
            self.ranges.extend_from_slice(&args.ranges[self.ranges.len()..]);
        }
        args.ranges.clear();
        Parsed::Incomplete { need }
    }

    #[cold]
    fn inline_line(&mut self, input: &[u8], args: &mut Args) -> Parsed {
        let newline = match find(b'\n', input, 0, self.scanned as usize) {
            Line::Ends(newline) => newline,
            Line::Partial { scanned } => {
                self.scanned = scanned as u32;
                return Parsed::Incomplete { need: 0 };
            }
            Line::TooLong => return self.fatal(ProtocolError::InlineTooBig),
        };
        let line = &input[..newline];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        args.is_inline = true;
        args.inline_text.clear();
        if inline::split(line, &mut args.inline_text, &mut args.ranges).is_err() {
            return self.fatal(ProtocolError::UnbalancedQuotes);
        }
        self.finish();
        let consumed = newline + 1;
        if args.ranges.is_empty() { Parsed::Empty { consumed } } else { Parsed::Command { consumed } }
    }

    #[inline(always)]
    fn finish(&mut self) {
        if self.is_mid_request() {
            self.reset();
        }
    }

    #[cold]
    fn fatal(&mut self, error: ProtocolError) -> Parsed {
        self.reset();
        Parsed::Fatal(error)
    }
}

/// Where the parser stands among the arguments; the fields mean what those of [`Parser`] mean.
struct Cursor {
    item: usize,
    scanned: usize,
    bulk_len: u32,
}

/// An argument's header that is not short, or not all here yet (`false`).
#[cold]
fn length_line(at: &mut Cursor, input: &[u8], limits: &Limits) -> Result<bool, ProtocolError> {
    let end = match find_cr(input, at.item, at.scanned) {
        Line::Ends(end) => end,
        Line::Partial { scanned } => {
            at.scanned = scanned;
            return Ok(false);
        }
        Line::TooLong => return Err(ProtocolError::LengthTooBig),
    };
    if input[at.item] != b'$' {
        return Err(ProtocolError::ExpectedBulk(input[at.item]));
    }
    let len = match integer(&input[at.item + 1..end]) {
        Some(len) if len >= 0 && len as u64 <= limits.bulk_bytes_max() => len,
        _ => return Err(ProtocolError::InvalidLength),
    };
    if len > limits::UNAUTHENTICATED_BULK_BYTES_MAX && !limits.authenticated {
        return Err(ProtocolError::UnauthenticatedLength);
    }
    at.item = end + 2;
    let request_room = limits::REQUEST_BYTES_MAX.saturating_sub(at.item) as u64;
    // Refused now instead of after that many bytes have been buffered.
    if len as u64 + 2 > request_room.min(limits.query_buffer_bytes_max()) {
        return Err(ProtocolError::QueryBufferFull);
    }
    at.bulk_len = len as u32;
    Ok(true)
}

enum Line {
    /// The terminator's offset.
    Ends(usize),
    Partial {
        scanned: usize,
    },
    TooLong,
}

/// The line that begins at `start`, up to a CR; the byte after it must be here too, whatever it is.
fn find_cr(input: &[u8], start: usize, scanned: usize) -> Line {
    match find(b'\r', input, start, scanned) {
        Line::Ends(end) if end + 2 > input.len() => Line::Partial { scanned: end },
        line => line,
    }
}

/// The first `terminator` that no NUL precedes, in the line that begins at `start` and was searched up to `scanned`.
fn find(terminator: u8, input: &[u8], start: usize, scanned: usize) -> Line {
    debug_assert!(start <= scanned && scanned <= input.len());
    let window_end = input.len().min(start + limits::LINE_BYTES_MAX + 1);
    let hit = memchr2(terminator, 0, &input[scanned..window_end]).map(|index| scanned + index);
    match hit {
        Some(end) if input[end] == terminator => Line::Ends(end),
        _ if input.len() - start > limits::LINE_BYTES_MAX => Line::TooLong,
        _ => Line::Partial { scanned: hit.unwrap_or(window_end) },
    }
}

/// Value and header size of `?d\r?` up to `?dddd\r?` at `at`. None for anything else, and near the input's end.
#[inline(always)]
fn short_number(input: &[u8], at: usize) -> Option<(u32, usize)> {
    let bytes: &[u8; 6] = input.get(at..)?.first_chunk()?;
    let digit = |index: usize| u32::from(bytes[index].wrapping_sub(b'0'));
    let first = digit(1);
    if first > 9 {
        return None;
    }
    if bytes[2] == b'\r' {
        return Some((first, 4));
    }
    let second = digit(2);
    if first == 0 || second > 9 {
        return None;
    }
    if bytes[3] == b'\r' {
        return Some((first * 10 + second, 5));
    }
    let third = digit(3);
    if third > 9 {
        return None;
    }
    if bytes[4] == b'\r' {
        return Some((first * 100 + second * 10 + third, 6));
    }
    let fourth = digit(4);
    if fourth > 9 || bytes[5] != b'\r' || input.len() < at + 7 {
        return None;
    }
    Some((first * 1000 + second * 100 + third * 10 + fourth, 7))
}

/// A decimal integer in its only form: no sign but `-`, no leading zeros, no `-0`, within `i64`.
fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    // Summed below zero, where `i64` reaches one further.
    let mut value: i64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_one_form() {
        let valid = [0, 1, 9, 10, -1, -10, 2_147_483_647, i64::MAX, i64::MIN];
        for value in valid {
            assert_eq!(integer(value.to_string().as_bytes()), Some(value));
        }
        for text in ["", "-", "-0", "00", "01", "+1", " 1", "1 ", "1a", "9223372036854775808", "-9223372036854775809"] {
            assert_eq!(integer(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn short_numbers_are_integers() {
        for value in 0..10_000 {
            let header = format!("${value}\r\nxx");
            assert_eq!(short_number(header.as_bytes(), 0), Some((value, header.len() - 2)));
        }
        for text in ["$\r\nxxxx", "$00\r\nxx", "$01\r\nxx", "$-1\r\nxx", "$1/\r\nxx", "$12:\r\nx", "$12345\r\n", "$123x\r\n"] {
            assert_eq!(short_number(text.as_bytes(), 0), None, "{text:?}");
        }
        assert_eq!(short_number(b"$1234\r", 0), None, "the LF has not come");
        assert_eq!(short_number(b"$1\r\n", 4), None);
        assert_eq!(short_number(b"$1\r\n", 5), None);
    }

    #[test]
    fn a_line_is_searched_once() {
        let mut parser = Parser::new();
        let mut input = vec![b'a'; 1000];
        assert_eq!(parser.parse(&input, &Limits::default(), &mut Args::new()), Parsed::Incomplete { need: 0 });
        assert_eq!(parser.scanned, 1000);
        input.extend_from_slice(b"\r\n");
        assert_eq!(parser.parse(&input, &Limits::default(), &mut Args::new()), Parsed::Command { consumed: 1002 });
        assert_eq!(parser.scanned, 0);
    }
}
