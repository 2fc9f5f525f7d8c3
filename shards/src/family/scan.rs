//! What SCAN, HSCAN, SSCAN and ZSCAN have in common: the cursor, the options, the filter and the form of the reply.
//!
//! A command parses the cursor first, looks at its key, and only then parses the options: that is the order in which
//! redis-server answers errors. Then it offers every element of the scanned piece to a [`ScanReply`].

use crate::command::Args;
use crate::error::Error;
use crate::glob;
use crate::number::parse_i64;
use crate::reply::Reply;

/// Elements a call is to look at where the client says nothing.
const COUNT_DEFAULT: usize = 10;

/// `MATCH`, `COUNT` and (for SCAN alone) `TYPE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanOptions<'a> {
    /// `None`: everything matches.
    pub pattern: Option<&'a [u8]>,
    /// Elements to look at, at least 1; as large as the client likes, so nothing may be allocated by it.
    pub count: usize,
    pub type_name: Option<&'a [u8]>,
}

impl<'a> ScanOptions<'a> {
    /// The options from argument `from` on; `TYPE` only where `with_type` says so.
    pub fn parse(a: Args<'a>, from: usize, with_type: bool) -> Result<Self, Error> {
        let mut options = ScanOptions { pattern: None, count: COUNT_DEFAULT, type_name: None };
        for at in (from..a.len()).step_by(2) {
            let Some(value) = a.get(at + 1) else { return Err(Error::Syntax) };
            if a.is(at, "count") {
                let count = parse_i64(value).ok_or(Error::NotInteger)?;
                options.count = usize::try_from(count).ok().filter(|&count| count > 0).ok_or(Error::Syntax)?;
            } else if a.is(at, "match") {
                options.pattern = (value != b"*").then_some(value);
            } else if with_type && a.is(at, "type") {
                options.type_name = Some(value);
            } else {
                return Err(Error::Syntax);
            }
        }
        Ok(options)
    }

    pub fn matches(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, name, false))
    }
}

/// A cursor argument, read as C's strtoul does: an optional sign, digits, and nothing else; the empty string is 0.
pub fn parse_cursor(text: &[u8]) -> Result<u64, Error> {
    let invalid = Error::Text("ERR invalid cursor");
    let (negative, digits) = match text {
        [] => return Ok(0),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return Err(invalid);
    }
    let mut value = 0u64;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        let next = value.checked_mul(10).and_then(|value| value.checked_add(u64::from(digit)));
        value = next.filter(|_| digit < 10).ok_or(invalid.clone())?;
    }
    Ok(if negative { value.wrapping_neg() } else { value })
}

/// The reply under construction: elements are filtered and written aside until the next cursor is known.
pub struct ScanReply<'a> {
    options: ScanOptions<'a>,
    body: Vec<u8>,
    /// Bulk strings in `body`.
    len: usize,
    resp3: bool,
}

impl<'a> ScanReply<'a> {
    pub fn new(options: ScanOptions<'a>, resp3: bool) -> Self {
        ScanReply { options, body: Vec::new(), len: 0, resp3 }
    }

    /// An element that is a name alone (a key, a member of a set).
    pub fn offer(&mut self, name: &[u8]) {
        if self.options.matches(name) {
            self.write(name);
        }
    }

    /// An element with a value (a field of a hash, a member with its score's text); only the name is matched.
    pub fn offer_pair(&mut self, name: &[u8], value: &[u8]) {
        if self.options.matches(name) {
            self.write(name);
            self.write(value);
        }
    }

    /// Writes the reply; a `cursor` of 0 ends the scan.
    pub fn finish(self, cursor: u64, r: &mut Reply<'_>) {
        r.array(2);
        r.bulk(cursor.to_string().as_bytes());
        r.array(self.len);
        r.out.extend_from_slice(&self.body);
    }

    /// The reply to a scan of a key that is not there.
    pub fn empty(r: &mut Reply<'_>) {
        r.array(2);
        r.bulk(b"0");
        r.array(0);
    }

    fn write(&mut self, bytes: &[u8]) {
        Reply::new(&mut self.body, self.resp3).bulk(bytes);
        self.len += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::ArgsBuf;

    #[test]
    fn cursors_are_read_as_strtoul_does() {
        for (text, want) in [
            ("", Some(0)),
            ("0", Some(0)),
            ("007", Some(7)),
            ("+7", Some(7)),
            ("-1", Some(u64::MAX)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            (" 1", None),
            ("1 ", None),
            ("-", None),
            ("x", None),
            ("1x", None),
        ] {
            assert_eq!(parse_cursor(text.as_bytes()).ok(), want, "{text:?}");
        }
    }

    #[test]
    fn options_in_any_order_the_last_one_wins() {
        let parse = |words: &[&str], with_type| {
            let args = ArgsBuf::from_slices(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>());
            let options = ScanOptions::parse(args.args(), 0, with_type)?;
            let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            Ok((text(options.pattern), options.count, text(options.type_name)))
        };
        assert_eq!(parse(&[], false), Ok((None, 10, None)));
        assert_eq!(parse(&["COUNT", "3", "match", "a*", "Count", "5"], false), Ok((Some("a*".into()), 5, None)));
        assert_eq!(parse(&["MATCH", "*", "TYPE", "hash"], true), Ok((None, 10, Some("hash".into()))));
        for (words, want) in [
            (&["TYPE", "hash"][..], Error::Syntax),
            (&["COUNT", "0"], Error::Syntax),
            (&["COUNT", "-1"], Error::Syntax),
            (&["COUNT", "x"], Error::NotInteger),
            (&["COUNT"], Error::Syntax),
            (&["BAR", "1"], Error::Syntax),
        ] {
            assert_eq!(parse(words, false), Err(want), "{words:?}");
        }
    }
}
