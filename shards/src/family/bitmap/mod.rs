//! Bitmaps: strings seen as rows of bits, the first bit being the most significant of the first byte.

mod bitfield;
mod bitop;
mod scan;

use super::ShardCommand;
use super::string::{grow, string_bytes, string_mut};
use crate::command::{AclCategory, Arg, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::number::parse_i64;
use crate::reply::Reply;
use crate::settings::NotifyFlags;

pub static COMMANDS: &[&ShardCommand] =
    &[&SETBIT, &GETBIT, &scan::BITCOUNT, &scan::BITPOS, &bitop::BITOP, &bitfield::BITFIELD, &bitfield::BITFIELD_RO];

pub static SETBIT: ShardCommand = Command {
    spec: Spec {
        name: "setbit",
        group: Group::Bitmap,
        since: "2.2.0",
        summary: "Sets or clears one bit of a string and returns what it was.",
        arity: 4,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::BITMAP,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::UPDATE))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("offset", ArgKind::Integer), Arg::new("value", ArgKind::Integer)],
        ..Spec::DEFAULT
    },
    run: setbit,
};

fn setbit(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let offset = bit_offset(x, a.at(2))?;
    let on = match a.at(3) {
        b"0" => false,
        b"1" => true,
        _ => return Err(Error::Text("ERR bit is not an integer or out of range")),
    };
    let key = x.key(a.at(1));
    let bytes = string_mut(x, &key)?;
    let (at, mask) = (offset / 8, 0x80 >> (offset % 8));
    let grown = at >= bytes.len();
    if grown {
        grow(bytes, at + 1);
    }
    let was_on = bytes[at] & mask != 0;
    if on {
        bytes[at] |= mask
    } else {
        bytes[at] &= !mask
    }
    if grown || was_on != on {
        x.changed(&key);
        x.event(NotifyFlags::STRING, "setbit", &key);
    }
    r.integer(was_on.into());
    Ok(())
}

pub static GETBIT: ShardCommand = Command {
    spec: Spec {
        name: "getbit",
        group: Group::Bitmap,
        since: "2.2.0",
        summary: "Reads one bit of a string.",
        arity: 3,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::BITMAP,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("offset", ArgKind::Integer)],
        ..Spec::DEFAULT
    },
    run: getbit,
};

fn getbit(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let offset = bit_offset(x, a.at(2))?;
    let mut digits = itoa::Buffer::new();
    let bytes = match x.get(&x.key(a.at(1))) {
        None => &[],
        Some(value) => string_bytes(value, &mut digits)?,
    };
    let on = bytes.get(offset / 8).is_some_and(|byte| byte & (0x80 >> (offset % 8)) != 0);
    r.integer(on.into());
    Ok(())
}

/// A bit's position in a string, which may be no further than a string can be long.
fn bit_offset(x: &Exec<'_>, text: &[u8]) -> Result<usize, Error> {
    check_offset(x, parse_i64(text))
}

fn check_offset(x: &Exec<'_>, offset: Option<i64>) -> Result<usize, Error> {
    let offset = offset.and_then(|offset| usize::try_from(offset).ok());
    let within = offset.filter(|offset| ((offset / 8) as u64) < x.settings().proto_max_bulk_len);
    within.ok_or(Error::Text("ERR bit offset is not an integer or out of range"))
}

#[cfg(test)]
mod tests {
    use crate::family::testing::Session;

    #[test]
    fn single_bits() {
        let mut s = Session::new();
        s.check(&[
            ("SETBIT k 7 0", ":0"),
            ("GET k", "$1 \0"),
            ("SETBIT k 7 0", ":0"),
            ("SETBIT k 9 1", ":0"),
            ("GETBIT k 9", ":1"),
            ("GETBIT k 1000", ":0"),
            ("GETBIT none 1", ":0"),
            ("SETBIT k 4294967296 1", "-ERR bit offset is not an integer or out of range"),
            ("SETBIT k -1 1", "-ERR bit offset is not an integer or out of range"),
            ("SETBIT k 1 2", "-ERR bit is not an integer or out of range"),
        ]);
        assert_eq!(s.effects(), ["SETBIT k 7 0", "SETBIT k 9 1"], "a bit that is there already is no change");
    }

    #[test]
    fn counting_and_finding() {
        let mut s = Session::new();
        s.check(&[
            ("SET k foobar", "+OK"),
            ("BITCOUNT k", ":26"),
            ("BITCOUNT k 0 0", ":4"),
            ("BITCOUNT k 5 30 BIT", ":17"),
            ("BITCOUNT k -1 -2", ":0"),
            ("BITCOUNT k 1", "-ERR syntax error"),
            ("BITCOUNT none 1", ":0"),
            ("SET k \"\\xff\\xf0\\x00\"", "+OK"),
            ("BITPOS k 0", ":12"),
            ("BITPOS k 1 2", ":-1"),
            ("BITPOS k 0 0 0", ":-1"),
            ("BITPOS k 1 13 -1 BIT", ":-1"),
            ("BITPOS k 2", "-ERR The bit argument must be 1 or 0."),
            ("BITPOS none 0", ":0"),
            ("BITPOS none 1", ":-1"),
            ("SET k \"\\xff\\xff\"", "+OK"),
            ("BITPOS k 0", ":16"),
            ("BITPOS k 0 0 -1", ":-1"),
        ]);
    }

    #[test]
    fn combining() {
        let mut s = Session::new();
        s.check(&[
            ("MSET a abc b ABCD", "+OK"),
            ("BITOP AND d a b", ":4"),
            ("GET d", "$4 ABC\0"),
            ("BITOP or d a b", ":4"),
            ("GET d", "$4 abcD"),
            ("BITOP XOR d a b none", ":4"),
            ("GET d", "$4    D"),
            ("BITOP NOT d a b", "-ERR BITOP NOT must be called with a single source key."),
            ("BITOP NAND d a", "-ERR syntax error"),
            ("BITOP AND d none", ":0"),
            ("GET d", "$-1"),
        ]);
    }

    #[test]
    fn fields() {
        let mut s = Session::new();
        s.check(&[
            ("BITFIELD k SET u8 0 255 GET i8 0 GET u4 #1", "*3 :0 :-1 :15"),
            ("BITFIELD k OVERFLOW SAT INCRBY u8 0 10 OVERFLOW FAIL INCRBY u8 0 1 INCRBY i5 100 1", "*3 :255 $-1 :1"),
            ("BITFIELD k INCRBY u8 0 2 SET i64 3 -2 GET i64 3", "*3 :1 :576460752303423488 :-2"),
            (
                "BITFIELD k GET u64 0",
                "-ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
            ),
            ("BITFIELD k OVERFLOW x", "-ERR Invalid OVERFLOW type specified"),
            ("BITFIELD k GET u8", "-ERR syntax error"),
            ("BITFIELD_RO k SET u8 0 1", "-ERR BITFIELD_RO only supports the GET subcommand"),
            ("BITFIELD_RO none GET u8 7", "*1 :0"),
            ("BITFIELD none", "*0"),
        ]);
    }
}
