//! Strings: values that are read and set whole, counted up, or patched.

use super::ShardCommand;
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Flags, Group, KeyAccess, KeySpec, KeyUse, Spec};
use crate::command::{Command, InvalidKeys};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::keyspace::{Expiry, Key, NewValue, Value};
use crate::number::parse_i64;
use crate::reply::Reply;
use crate::settings::NotifyFlags;

pub static COMMANDS: &[&ShardCommand] = &[&GET, &SET];

pub static GET: ShardCommand = Command {
    spec: Spec {
        name: "get",
        group: Group::String,
        summary: "Reads a string.",
        arity: 2,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::STRING,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[Arg::new("key", ArgKind::Key(0))],
        ..Spec::DEFAULT
    },
    run: get,
};

fn get(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    match x.get(&x.key(a.at(1))) {
        None => r.null(),
        Some(value) => write_string(value, r)?,
    }
    Ok(())
}

/// Writes a string value as a bulk string.
fn write_string(value: Value<'_>, r: &mut Reply<'_>) -> CommandResult {
    match value {
        Value::Short(bytes) => r.bulk(bytes),
        Value::Long(bytes) => r.bulk(bytes),
        Value::Integer(number) => r.bulk_integer(number),
        _ => return Err(Error::WrongType),
    }
    Ok(())
}

pub static SET: ShardCommand = Command {
    spec: Spec {
        name: "set",
        group: Group::String,
        summary: "Sets a key to a string, whatever it held before.",
        arity: -3,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::STRING,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::UPDATE).with(KeyAccess::VARIABLE_FLAGS))
            .noted("RW and ACCESS due to the optional `GET` argument")],
        find_keys: Some(set_keys),
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("value", ArgKind::String),
            Arg::new(
                "condition",
                ArgKind::OneOf(&[
                    Arg::new("nx", ArgKind::PureToken).token("NX").since("2.6.12"),
                    Arg::new("xx", ArgKind::PureToken).token("XX").since("2.6.12"),
                ]),
            )
            .flags(ArgFlags::OPTIONAL),
            Arg::new("get", ArgKind::PureToken).token("GET").flags(ArgFlags::OPTIONAL).since("6.2.0"),
            Arg::new(
                "expiration",
                ArgKind::OneOf(&[
                    Arg::new("seconds", ArgKind::Integer).token("EX").since("2.6.12"),
                    Arg::new("milliseconds", ArgKind::Integer).token("PX").since("2.6.12"),
                    Arg::new("unix-time-seconds", ArgKind::UnixTime).token("EXAT").since("6.2.0"),
                    Arg::new("unix-time-milliseconds", ArgKind::UnixTime).token("PXAT").since("6.2.0"),
                    Arg::new("keepttl", ArgKind::PureToken).token("KEEPTTL").since("6.0.0"),
                ]),
            )
            .flags(ArgFlags::OPTIONAL),
        ],
        ..Spec::DEFAULT
    },
    run: set,
};

/// With GET the key is also read.
fn set_keys(args: Args<'_>, out: &mut Vec<KeyUse>) -> Result<(), InvalidKeys> {
    let access = if args.from(3).iter().any(|arg| arg.eq_ignore_ascii_case(b"get")) {
        KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::UPDATE)
    } else {
        KeyAccess::OW.with(KeyAccess::UPDATE)
    };
    out.push(KeyUse { index: 1, access });
    Ok(())
}

#[derive(Default)]
struct SetOptions {
    not_exists: bool,
    exists: bool,
    get: bool,
    expiry: Option<Expiry>,
}

fn set(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let options = if a.len() == 3 { SetOptions::default() } else { set_options(x, a)? };
    let key = x.key(a.at(1));
    let mut old = Vec::new();
    if options.get {
        match x.get(&key) {
            Some(value) => write_string(value, &mut Reply::new(&mut old, r.resp3))?,
            None => Reply::new(&mut old, r.resp3).null(),
        }
    }
    if (options.not_exists || options.exists) && x.exists(&key) != options.exists {
        if options.get { r.out.extend_from_slice(&old) } else { r.null() }
        return Ok(());
    }
    let expiry = options.expiry.unwrap_or(Expiry::Clear);
    store_string(x, &key, a.at(2), expiry);
    x.event(NotifyFlags::STRING, "set", &key);
    if let Expiry::At(at_ms) = expiry {
        x.effect(&[b"SET", key.bytes, a.at(2), b"PXAT", itoa::Buffer::new().format(at_ms).as_bytes()]);
        x.event(NotifyFlags::GENERIC, "expire", &key);
    }
    if options.get { r.out.extend_from_slice(&old) } else { r.ok() }
    Ok(())
}

/// Stores a string in its tightest form and says that the key was changed.
fn store_string(x: &mut Exec<'_>, key: &Key<'_>, bytes: &[u8], expiry: Expiry) {
    let value = match parse_i64(bytes) {
        Some(number) => NewValue::Integer(number),
        None => NewValue::Bytes(bytes),
    };
    x.store(key, value, expiry);
    x.changed(key);
}

fn set_options(x: &Exec<'_>, a: Args<'_>) -> Result<SetOptions, Error> {
    let mut options = SetOptions::default();
    let mut at = 3;
    while at < a.len() {
        let timed = ["ex", "px", "exat", "pxat"].iter().position(|word| a.is(at, word));
        if a.is(at, "nx") && !options.exists {
            options.not_exists = true;
        } else if a.is(at, "xx") && !options.not_exists {
            options.exists = true;
        } else if a.is(at, "get") {
            options.get = true;
        } else if a.is(at, "keepttl") && options.expiry.is_none() {
            options.expiry = Some(Expiry::Keep);
        } else if let (Some(form), true, None) = (timed, at + 1 < a.len(), options.expiry) {
            options.expiry = Some(Expiry::At(expire_at(x, a.at(at + 1), form % 2 == 0, form < 2)?));
            at += 1;
        } else {
            return Err(Error::Syntax);
        }
        at += 1;
    }
    Ok(options)
}

/// An expiry argument as milliseconds since 1970: in seconds or milliseconds, relative to now or absolute.
fn expire_at(x: &Exec<'_>, text: &[u8], seconds: bool, relative: bool) -> Result<i64, Error> {
    let invalid = Error::InvalidExpire(x.spec.name);
    let number = parse_i64(text).ok_or(Error::NotInteger)?;
    if number <= 0 {
        return Err(invalid);
    }
    let unit = if seconds { 1000 } else { 1 };
    let base = if relative { x.now } else { 0 };
    number.checked_mul(unit).and_then(|ms| ms.checked_add(base)).ok_or(invalid)
}

#[cfg(test)]
mod tests {
    use crate::family::testing::Session;

    #[test]
    fn set_and_get() {
        let mut s = Session::new();
        s.check(&[
            ("GET k", "$-1"),
            ("SET k hello", "+OK"),
            ("GET k", "$5 hello"),
            ("SET k 42", "+OK"),
            ("GET k", "$2 42"),
            ("SET k v NX", "$-1"),
            ("SET k v XX GET", "$2 42"),
            ("SET k v NX XX", "-ERR syntax error"),
            ("SET k v EX 0", "-ERR invalid expire time in 'set' command"),
            ("SET k v EX x", "-ERR value is not an integer or out of range"),
            ("SET k v PX 100", "+OK"),
        ]);
        s.now += 100;
        s.check(&[("GET k", "$1 v")]);
        s.now += 1;
        s.check(&[("GET k", "$-1")]);
        assert_eq!(
            s.effects(),
            ["SET k hello", "SET k 42", "SET k v XX GET", "SET k v PXAT 1700000000100", "DEL k"]
        );
    }
}
