//! The reply writer: RESP2 or RESP3 straight into the connection's output.
//!
//! A handler says what it answers (a map, a double, a null array); this file knows how either protocol spells it.

use crate::error::Error;
use crate::number;

/// Appends replies to `out` in the protocol version of the client.
pub struct Reply<'a> {
    pub out: &'a mut Vec<u8>,
    pub resp3: bool,
}

/// A place in the output where a length is still to be written (see [`Reply::deferred`]).
#[derive(Clone, Copy, Debug)]
pub struct Deferred(usize);

/// What the elements of an aggregate are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Aggregate {
    Array,
    Set,
    Map,
    Push,
}

impl<'a> Reply<'a> {
    pub fn new(out: &'a mut Vec<u8>, resp3: bool) -> Self {
        Reply { out, resp3 }
    }

    #[inline]
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    pub fn simple(&mut self, text: &str) {
        self.out.push(b'+');
        self.out.extend_from_slice(text.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    pub fn error(&mut self, error: &Error) {
        match error {
            Error::Bytes(text) => self.error_bytes(text),
            error => self.error_text(&error.text()),
        }
    }

    /// `text` with its code; CR and LF in it become spaces.
    pub fn error_text(&mut self, text: &str) {
        self.error_bytes(text.as_bytes());
    }

    fn error_bytes(&mut self, text: &[u8]) {
        self.out.push(b'-');
        self.out.extend(text.iter().map(|&byte| if byte == b'\r' || byte == b'\n' { b' ' } else { byte }));
        self.out.extend_from_slice(b"\r\n");
    }

    #[inline]
    pub fn integer(&mut self, value: i64) {
        self.header(b':', value);
    }

    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.header(b'$', bytes.len() as i64);
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// An integer as a bulk string.
    pub fn bulk_integer(&mut self, value: i64) {
        self.bulk(itoa::Buffer::new().format(value).as_bytes());
    }

    /// A single null: `$-1` or `_`.
    #[inline]
    pub fn null(&mut self) {
        self.out.extend_from_slice(if self.resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// The null of a command that otherwise answers an array: `*-1` or `_`.
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(if self.resp3 { b"_\r\n" } else { b"*-1\r\n" });
    }

    pub fn array(&mut self, len: usize) {
        self.header(b'*', len as i64);
    }

    /// A map of `pairs` pairs; in RESP2 an array of twice as many elements.
    pub fn map(&mut self, pairs: usize) {
        if self.resp3 { self.header(b'%', pairs as i64) } else { self.header(b'*', 2 * pairs as i64) }
    }

    pub fn set(&mut self, len: usize) {
        self.header(if self.resp3 { b'~' } else { b'*' }, len as i64);
    }

    /// An out-of-band message; in RESP2 an array.
    pub fn push(&mut self, len: usize) {
        self.header(if self.resp3 { b'>' } else { b'*' }, len as i64);
    }

    /// A double: `,` in RESP3, a bulk string in RESP2.
    pub fn double(&mut self, value: f64) {
        let mut text = Vec::with_capacity(24);
        number::write_f64(&mut text, value);
        if self.resp3 {
            self.out.push(b',');
            self.out.extend_from_slice(&text);
            self.out.extend_from_slice(b"\r\n");
        } else {
            self.bulk(&text);
        }
    }

    /// A boolean; in RESP2 the integer 1 or 0.
    pub fn boolean(&mut self, value: bool) {
        match (self.resp3, value) {
            (true, true) => self.out.extend_from_slice(b"#t\r\n"),
            (true, false) => self.out.extend_from_slice(b"#f\r\n"),
            (false, value) => self.integer(i64::from(value)),
        }
    }

    /// Text with a three-letter format (`txt`, `mkd`); in RESP2 a bulk string.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        debug_assert_eq!(format.len(), 3);
        if self.resp3 {
            self.header(b'=', text.len() as i64 + 4);
            self.out.extend_from_slice(format.as_bytes());
            self.out.push(b':');
            self.out.extend_from_slice(text);
            self.out.extend_from_slice(b"\r\n");
        } else {
            self.bulk(text);
        }
    }

    /// Begins an aggregate whose length is known only when its elements are written; end it with [`Reply::finish`].
    pub fn deferred(&mut self) -> Deferred {
        Deferred(self.out.len())
    }

    /// Writes the header of a deferred aggregate of `len` elements (pairs for a map) in front of them.
    pub fn finish(&mut self, at: Deferred, kind: Aggregate, len: usize) {
        let body = self.out.split_off(at.0);
        match kind {
            Aggregate::Array => self.array(len),
            Aggregate::Set => self.set(len),
            Aggregate::Map => self.map(len),
            Aggregate::Push => self.push(len),
        }
        self.out.extend_from_slice(&body);
    }

    /// The kind, a number and CR LF. One to three digits, by far the most common, are written without a loop.
    #[inline]
    fn header(&mut self, kind: u8, value: i64) {
        let digit = |value: i64| b'0' + (value % 10) as u8;
        match value {
            0..=9 => self.out.extend_from_slice(&[kind, digit(value), b'\r', b'\n']),
            10..=99 => self.out.extend_from_slice(&[kind, digit(value / 10), digit(value), b'\r', b'\n']),
            100..=999 => {
                self.out.extend_from_slice(&[kind, digit(value / 100), digit(value / 10), digit(value), b'\r', b'\n']);
            }
            _ => {
                let mut digits = itoa::Buffer::new();
                self.out.push(kind);
                self.out.extend_from_slice(digits.format(value).as_bytes());
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }
}
