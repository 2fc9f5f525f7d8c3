//! Strings changed where they are: counted up or down, appended to, patched.

use super::{ShardCommand, checked_len, grow, store_string, string_len, string_mut};
use crate::command::{AclCategory, Arg, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::keyspace::{Expiry, NewValue, ValueMut};
use crate::number::{LongDouble, parse_i64};
use crate::reply::Reply;
use crate::settings::NotifyFlags;

pub static INCR: ShardCommand = Command {
    spec: Spec {
        name: "incr",
        group: Group::String,
        summary: "Adds one to an integer.",
        arity: 2,
        flags: Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST),
        acl: AclCategory::STRING,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::UPDATE))],
        args: &[Arg::new("key", ArgKind::Key(0))],
        ..Spec::DEFAULT
    },
    run: incr,
};

fn incr(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    add(x, a, 1, r)
}

pub static DECR: ShardCommand = Command {
    spec: Spec {
        name: "decr",
        group: Group::String,
        summary: "Subtracts one from an integer.",
        arity: 2,
        flags: Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST),
        acl: AclCategory::STRING,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::UPDATE))],
        args: &[Arg::new("key", ArgKind::Key(0))],
        ..Spec::DEFAULT
    },
    run: decr,
};

fn decr(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    add(x, a, -1, r)
}

pub static INCRBY: ShardCommand = Command {
    spec: Spec {
        name: "incrby",
        group: Group::String,
        summary: "Adds to an integer.",
        arity: 3,
        flags: Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST),
        acl: AclCategory::STRING,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::UPDATE))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("increment", ArgKind::Integer)],
        ..Spec::DEFAULT
    },
    run: incrby,
};

fn incrby(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let increment = parse_i64(a.at(2)).ok_or(Error::NotInteger)?;
    add(x, a, increment, r)
}

pub static DECRBY: ShardCommand = Command {
    spec: Spec {
        name: "decrby",
        group: Group::String,
        summary: "Subtracts from an integer.",
        arity: 3,
        flags: Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST),
        acl: AclCategory::STRING,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::UPDATE))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("decrement", ArgKind::Integer)],
        ..Spec::DEFAULT
    },
    run: decrby,
};

fn decrby(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let decrement = parse_i64(a.at(2)).ok_or(Error::NotInteger)?;
    let increment = decrement.checked_neg().ok_or(Error::Text("ERR decrement would overflow"))?;
    add(x, a, increment, r)
}

/// Adds to the integer in the first key; one that is held as an integer is changed where it stands.
#[inline]
fn add(x: &mut Exec<'_>, a: Args<'_>, increment: i64, r: &mut Reply<'_>) -> CommandResult {
    let key = x.key(a.at(1));
    let sum = |old: i64| old.checked_add(increment).ok_or(Error::Overflow);
    let (new, in_place) = match x.get_mut(&key) {
        Some(ValueMut::Integer(number)) => {
            *number = sum(*number)?;
            (*number, true)
        }
        Some(ValueMut::Short(bytes)) => (sum(parse_i64(bytes).ok_or(Error::NotInteger)?)?, false),
        Some(ValueMut::Long(bytes)) => (sum(parse_i64(bytes).ok_or(Error::NotInteger)?)?, false),
        Some(_) => return Err(Error::WrongType),
        None => (increment, false),
    };
    if !in_place {
        x.store(&key, NewValue::Integer(new), Expiry::Keep);
    }
    x.changed(&key);
    x.event(NotifyFlags::STRING, "incrby", &key);
    r.integer(new);
    Ok(())
}

pub static INCRBYFLOAT: ShardCommand = Command {
    spec: Spec {
        name: "incrbyfloat",
        group: Group::String,
        since: "2.6.0",
        summary: "Adds to a number with decimals.",
        arity: 3,
        flags: Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST),
        acl: AclCategory::STRING,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::UPDATE))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("increment", ArgKind::Double)],
        ..Spec::DEFAULT
    },
    run: incrbyfloat,
};

fn incrbyfloat(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let key = x.key(a.at(1));
    let old = match x.get_mut(&key) {
        Some(ValueMut::Integer(number)) => LongDouble::from(*number),
        Some(ValueMut::Short(bytes)) => LongDouble::parse(bytes).ok_or(Error::NotFloat)?,
        Some(ValueMut::Long(bytes)) => LongDouble::parse(bytes).ok_or(Error::NotFloat)?,
        Some(_) => return Err(Error::WrongType),
        None => LongDouble::ZERO,
    };
    let increment = LongDouble::parse(a.at(2)).ok_or(Error::NotFloat)?;
    let mut text = Vec::new();
    old.checked_add(increment).ok_or(Error::NanOrInfinity)?.write(&mut text);
    x.store(&key, NewValue::Bytes(&text), Expiry::Keep);
    x.changed(&key);
    x.event(NotifyFlags::STRING, "incrbyfloat", &key);
    x.effect(&[b"SET", key.bytes, &text, b"KEEPTTL"]);
    r.bulk(&text);
    Ok(())
}

pub static APPEND: ShardCommand = Command {
    spec: Spec {
        name: "append",
        group: Group::String,
        since: "2.0.0",
        summary: "Adds bytes at the end of a string.",
        complexity: "O(1) amortized, beside copying the new bytes",
        arity: 3,
        flags: Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST),
        acl: AclCategory::STRING,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::INSERT))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("value", ArgKind::String)],
        ..Spec::DEFAULT
    },
    run: append,
};

fn append(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let (key, added) = (x.key(a.at(1)), a.at(2));
    let len = match string_len(x, &key)? {
        None => {
            store_string(x, &key, added, Expiry::Clear);
            added.len()
        }
        Some(old) => {
            let len = checked_len(x, old, added.len())?;
            let bytes = string_mut(x, &key)?;
            grow(bytes, len);
            bytes[old..].copy_from_slice(added);
            x.changed(&key);
            len
        }
    };
    x.event(NotifyFlags::STRING, "append", &key);
    r.integer(len as i64);
    Ok(())
}

pub static SETRANGE: ShardCommand = Command {
    spec: Spec {
        name: "setrange",
        group: Group::String,
        since: "2.2.0",
        summary: "Overwrites a part of a string, filling up with zero bytes where it is too short.",
        complexity: "O(M) with M bytes written",
        arity: 4,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::STRING,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::UPDATE))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("offset", ArgKind::Integer), Arg::new("value", ArgKind::String)],
        ..Spec::DEFAULT
    },
    run: setrange,
};

fn setrange(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let offset = parse_i64(a.at(2)).ok_or(Error::NotInteger)?;
    let offset = usize::try_from(offset).map_err(|_| Error::Text("ERR offset is out of range"))?;
    let (key, patch) = (x.key(a.at(1)), a.at(3));
    let old = string_len(x, &key)?.unwrap_or(0);
    if patch.is_empty() {
        r.integer(old as i64);
        return Ok(());
    }
    let end = checked_len(x, offset, patch.len())?;
    let bytes = string_mut(x, &key)?;
    grow(bytes, end);
    bytes[offset..end].copy_from_slice(patch);
    let len = bytes.len();
    x.changed(&key);
    x.event(NotifyFlags::STRING, "setrange", &key);
    r.integer(len as i64);
    Ok(())
}
