//! Strings: values that are read and set whole, counted up, or patched.
//!
//! Here is what the commands share: how a string value is seen as bytes, stored, and made ready to be changed in place, and
//! how an expiry is written in a command.

mod change;
mod get;
mod lcs;
mod set;

use super::ShardCommand;
use crate::command::Args;
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::keyspace::{Expiry, Key, NewValue, Value, ValueMut};
use crate::number::parse_i64;
use crate::reply::Reply;
use crate::value::Object;

pub static COMMANDS: &[&ShardCommand] = &[
    &get::GET,
    &get::MGET,
    &get::GETDEL,
    &get::GETEX,
    &get::GETRANGE,
    &get::SUBSTR,
    &get::STRLEN,
    &set::SET,
    &set::SETNX,
    &set::SETEX,
    &set::PSETEX,
    &set::GETSET,
    &set::MSET,
    &set::MSETNX,
    &change::INCR,
    &change::DECR,
    &change::INCRBY,
    &change::DECRBY,
    &change::INCRBYFLOAT,
    &change::APPEND,
    &change::SETRANGE,
    &lcs::LCS,
];

// ---- seeing a string ----

fn is_string(value: Value<'_>) -> bool {
    matches!(value, Value::Short(_) | Value::Long(_) | Value::Integer(_))
}

/// Writes a string value as a bulk string.
#[inline]
fn write_string(value: Value<'_>, r: &mut Reply<'_>) -> CommandResult {
    match value {
        Value::Short(bytes) => r.bulk(bytes),
        Value::Long(bytes) => r.bulk(bytes),
        Value::Integer(number) => r.bulk_integer(number),
        _ => return Err(Error::WrongType),
    }
    Ok(())
}

fn write_or_null(value: Option<Value<'_>>, r: &mut Reply<'_>) -> CommandResult {
    match value {
        Some(value) => write_string(value, r),
        None => {
            r.null();
            Ok(())
        }
    }
}

/// The bytes of a string value; `digits` holds them where it is an integer.
#[inline]
pub(super) fn string_bytes<'a>(value: Value<'a>, digits: &'a mut itoa::Buffer) -> Result<&'a [u8], Error> {
    match value {
        Value::Short(bytes) => Ok(bytes),
        Value::Long(bytes) => Ok(bytes),
        Value::Integer(number) => Ok(digits.format(number).as_bytes()),
        _ => Err(Error::WrongType),
    }
}

/// The part of `len` bytes (or bits) that `start` to `end` means: both included, negative ones counted from the end, clipped
/// to what is there. `None` when nothing is left.
fn clip_range(start: i64, end: i64, len: usize) -> Option<(usize, usize)> {
    if start < 0 && end < 0 && start > end { None } else { clip_to(start, end, len) }
}

/// As [`clip_range`], but two ends before the beginning mean the first byte, whatever their order.
pub(super) fn clip_to(start: i64, end: i64, len: usize) -> Option<(usize, usize)> {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let from_start = |at: i64| if at < 0 { (len + at).max(0) } else { at };
    let (start, end) = (from_start(start), from_start(end).min(len - 1));
    (start <= end).then_some((start as usize, end as usize))
}

// ---- storing and changing ----

/// Stores a string in its tightest form and says that the key was changed.
#[inline]
fn store_string(x: &mut Exec<'_>, key: &Key<'_>, bytes: &[u8], expiry: Expiry) {
    let value = match parse_i64(bytes) {
        Some(number) => NewValue::Integer(number),
        None => NewValue::Bytes(bytes),
    };
    x.store(key, value, expiry);
    x.changed(key);
}

/// Length of the string under `key`, if there is one, looked up for a change: it counts neither as a hit nor as a miss.
fn string_len(x: &mut Exec<'_>, key: &Key<'_>) -> Result<Option<usize>, Error> {
    match x.get_mut(key) {
        None => Ok(None),
        Some(ValueMut::Short(bytes)) => Ok(Some(bytes.len())),
        Some(ValueMut::Long(bytes)) => Ok(Some(bytes.len())),
        Some(ValueMut::Integer(number)) => Ok(Some(itoa::Buffer::new().format(*number).len())),
        Some(_) => Err(Error::WrongType),
    }
}

/// The string under `key` for changing it in place, made (empty) if there is none. Its encoding becomes `raw`.
pub(super) fn string_mut<'x>(x: &'x mut Exec<'_>, key: &Key<'_>) -> Result<&'x mut Vec<u8>, Error> {
    let made = match x.get_mut(key) {
        None => Some(Vec::new()),
        Some(ValueMut::Short(bytes)) => Some(bytes.to_vec()),
        Some(ValueMut::Integer(number)) => Some(itoa::Buffer::new().format(*number).as_bytes().to_vec()),
        Some(ValueMut::Long(_)) => None,
        Some(_) => return Err(Error::WrongType),
    };
    if let Some(bytes) = made {
        x.store(key, NewValue::Object(Object::String(Box::new(bytes))), Expiry::Keep);
    }
    match x.get_mut(key) {
        Some(ValueMut::Long(bytes)) => Ok(bytes),
        _ => Err(Error::WrongType),
    }
}

/// Room that a string which has to grow gets beside what it needs: as much again, up to this.
const SPARE_MAX: usize = 1 << 20;

/// Fills a string up with zero bytes to at least `len`.
pub(super) fn grow(bytes: &mut Vec<u8>, len: usize) {
    if bytes.is_empty() {
        // Zeroed by the allocator, which need not touch the pages of a large sparse string.
        *bytes = vec![0; len];
    } else if len > bytes.len() {
        if len > bytes.capacity() {
            bytes.reserve_exact(len - bytes.len() + len.min(SPARE_MAX));
        }
        bytes.resize(len, 0);
    }
}

/// The sum of two lengths, if a string may be as long as that.
fn checked_len(x: &Exec<'_>, len: usize, added: usize) -> Result<usize, Error> {
    let sum = len.checked_add(added).filter(|&sum| sum as u64 <= x.settings().proto_max_bulk_len);
    sum.ok_or(Error::StringTooLong)
}

// ---- several keys ----

/// Keys whose places are fetched together: enough to hide a miss of the cache behind the others.
const PREFETCHED: usize = 16;

/// Each `step`-th argument as a key, at most [`PREFETCHED`]; the memory they will be found in is on its way.
fn prefetched<'k>(x: &mut Exec<'_>, batch: Args<'k>, step: usize) -> impl Iterator<Item = Key<'k>> + use<'k> {
    let mut keys = [None; PREFETCHED];
    for (slot, bytes) in keys.iter_mut().zip(batch.iter().step_by(step)) {
        *slot = Some(x.key(bytes));
    }
    x.database().prefetch_all(keys.iter().flatten());
    keys.into_iter().flatten()
}

// ---- expiry arguments ----

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ExpiryForm {
    Seconds,
    Milliseconds,
    UnixSeconds,
    UnixMilliseconds,
}

/// An expiry as it stands in a command, not yet read.
#[derive(Clone, Copy)]
struct GivenExpiry<'a> {
    form: ExpiryForm,
    text: &'a [u8],
}

impl<'a> GivenExpiry<'a> {
    /// EX, PX, EXAT or PXAT at `at`, and its value; a repetition of `earlier` only in the same form.
    fn parse(a: Args<'a>, at: usize, earlier: Option<GivenExpiry<'_>>) -> Option<Self> {
        let form = if a.is(at, "ex") {
            ExpiryForm::Seconds
        } else if a.is(at, "px") {
            ExpiryForm::Milliseconds
        } else if a.is(at, "exat") {
            ExpiryForm::UnixSeconds
        } else if a.is(at, "pxat") {
            ExpiryForm::UnixMilliseconds
        } else {
            return None;
        };
        let text = a.get(at + 1)?;
        earlier.is_none_or(|earlier| earlier.form == form).then_some(GivenExpiry { form, text })
    }

    fn is_absolute(self) -> bool {
        matches!(self.form, ExpiryForm::UnixSeconds | ExpiryForm::UnixMilliseconds)
    }

    /// Milliseconds since 1970.
    fn at_ms(self, x: &Exec<'_>) -> Result<i64, Error> {
        let number = parse_i64(self.text).ok_or(Error::NotInteger)?;
        let unit = if matches!(self.form, ExpiryForm::Seconds | ExpiryForm::UnixSeconds) { 1000 } else { 1 };
        let base = if self.is_absolute() { 0 } else { x.now };
        let at_ms = number.checked_mul(unit).and_then(|ms| ms.checked_add(base)).filter(|_| number > 0);
        at_ms.ok_or(Error::InvalidExpire(x.spec.name))
    }
}

#[cfg(test)]
mod tests {
    use crate::family::testing::Session;

    #[test]
    fn set_get_and_their_options() {
        let mut s = Session::new();
        s.check(&[
            ("GET k", "$-1"),
            ("SET k hello", "+OK"),
            ("GET k", "$5 hello"),
            ("SET k 42", "+OK"),
            ("GET k", "$2 42"),
            ("SET k v NX", "$-1"),
            ("SET k v XX GET", "$2 42"),
            ("SET k v NX GET", "$1 v"),
            ("SET k v NX XX", "-ERR syntax error"),
            ("SET k v EX 10 KEEPTTL", "-ERR syntax error"),
            ("SET k v EX", "-ERR syntax error"),
            ("SET k v EX x PX", "-ERR syntax error"),
            ("SET k v EX 0", "-ERR invalid expire time in 'set' command"),
            ("SET k v EX 9223372036854775", "-ERR invalid expire time in 'set' command"),
            ("SET k v EX x", "-ERR value is not an integer or out of range"),
            ("SETEX k 0 v", "-ERR invalid expire time in 'setex' command"),
            ("SET k v PX 5000 PX 100", "+OK"),
        ]);
        s.now += 100;
        s.check(&[("GET k", "$1 v")]);
        s.now += 1;
        s.check(&[
            ("GET k", "$-1"),
            ("SETEX k 1 a", "+OK"),
            ("GETSET k b", "$1 a"),
            ("SETNX k c", ":0"),
            ("PSETEX k 5 c", "+OK"),
        ]);
        assert_eq!(
            s.effects(),
            [
                "SET k hello",
                "SET k 42",
                "SET k v XX",
                "SET k v PXAT 1700000000100",
                "DEL k",
                "SET k a PXAT 1700000001101",
                "SET k b",
                "SET k c PXAT 1700000000106"
            ]
        );
    }

    #[test]
    fn getex_and_getdel_say_what_they_did() {
        let mut s = Session::new();
        s.check(&[
            ("GETEX k", "$-1"),
            ("SET k v", "+OK"),
            ("GETEX k", "$1 v"),
            ("GETEX k PERSIST", "$1 v"),
            ("GETEX k PERSIST EX 5", "-ERR syntax error"),
            ("GETEX k EX 0", "-ERR invalid expire time in 'getex' command"),
            ("GETEX none EX 0", "$-1"),
            ("GETEX k EX 5", "$1 v"),
            ("GETEX k PERSIST", "$1 v"),
            ("GETEX k EXAT 1", "$1 v"),
            ("GET k", "$-1"),
            ("SET k v", "+OK"),
            ("GETDEL k", "$1 v"),
            ("GETDEL k", "$-1"),
        ]);
        assert_eq!(s.effects(), ["SET k v", "PEXPIREAT k 1700000005000", "PERSIST k", "DEL k", "SET k v", "DEL k"]);
    }

    #[test]
    fn several_keys_at_once() {
        let mut s = Session::new();
        let many = (0..40).map(|i| format!(" k{i} {i}")).collect::<String>();
        s.check(&[
            (&format!("MSET{many}"), "+OK"),
            ("MGET k0 none k39 k17", "*4 $1 0 $-1 $2 39 $2 17"),
            ("MSETNX n 1 k3 2", ":0"),
            ("MSETNX n 1 m 2", ":1"),
            ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command"),
            ("MSETNX a 1 b", "-ERR wrong number of arguments for 'msetnx' command"),
        ]);
        s.resp3 = true;
        s.check(&[("MGET n x", "*2 $1 1 _")]);
    }

    #[test]
    fn parts() {
        let mut s = Session::new();
        s.check(&[
            ("SETRANGE k 3 ab", ":5"),
            ("GET k", "$5 \0\0\0ab"),
            ("SETRANGE k 0 \"\"", ":5"),
            ("SETRANGE k -1 x", "-ERR offset is out of range"),
            ("SETRANGE k 536870911 xy", "-ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
            ("SETRANGE none 5 \"\"", ":0"),
            ("SETRANGE k 1 c", ":5"),
            ("GETRANGE k 1 -2", "$3 c\0a"),
            ("GETRANGE k -1 -2", "$0"),
            ("SUBSTR k 0 0", "$1 \0"),
            ("SET n 12345", "+OK"),
            ("GETRANGE n -100 2", "$3 123"),
            ("APPEND n x", ":6"),
            ("APPEND new 1", ":1"),
            ("INCR new", ":2"),
            ("STRLEN n", ":6"),
            ("STRLEN none", ":0"),
        ]);
    }

    #[test]
    fn counting() {
        let mut s = Session::new();
        s.check(&[
            ("INCR k", ":1"),
            ("DECRBY k 3", ":-2"),
            ("INCRBY k 9223372036854775807", ":9223372036854775805"),
            ("INCRBY k 3", "-ERR increment or decrement would overflow"),
            ("DECRBY k -9223372036854775808", "-ERR decrement would overflow"),
            ("INCRBY k 1.5", "-ERR value is not an integer or out of range"),
            ("SET f 10.50", "+OK"),
            ("INCRBYFLOAT f 0.1", "$4 10.6"),
            ("INCRBYFLOAT f 0.4", "$2 11"),
            ("INCR f", ":12"),
            ("INCRBYFLOAT f inf", "-ERR increment would produce NaN or Infinity"),
            ("INCRBYFLOAT f x", "-ERR value is not a valid float"),
            ("SET s abc", "+OK"),
            ("INCR s", "-ERR value is not an integer or out of range"),
        ]);
        s.effects();
        s.check(&[("SET f 3 PX 50", "+OK"), ("INCRBYFLOAT f 5.0e3", "$4 5003"), ("INCR f", ":5004")]);
        assert_eq!(s.effects(), ["SET f 3 PXAT 1700000000050", "SET f 5003 KEEPTTL", "INCR f"]);
    }

    #[test]
    fn longest_common_subsequence() {
        let mut s = Session::new();
        s.check(&[
            ("MSET a ohmytext b mynewtext", "+OK"),
            ("LCS a b", "$6 mytext"),
            ("LCS a b LEN", ":6"),
            ("LCS a b IDX", "*4 $7 matches *2 *2 *2 :4 :7 *2 :5 :8 *2 *2 :2 :3 *2 :0 :1 $3 len :6"),
            ("LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN", "*4 $7 matches *1 *3 *2 :4 :7 *2 :5 :8 :4 $3 len :6"),
            ("LCS a none", "$0"),
            ("LCS a b IDX LEN", "-ERR If you want both the length and indexes, please just use IDX."),
            ("LCS a b MINMATCHLEN", "-ERR syntax error"),
        ]);
        s.resp3 = true;
        s.check(&[("LCS a none IDX", "%2 $7 matches *0 $3 len :0")]);
    }
}
