//! Strings read: whole, several at once, a part, or on their way out.

use super::{GivenExpiry, PREFETCHED, ShardCommand, clip_range, is_string, prefetched, string_bytes, write_string};
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::keyspace::Key;
use crate::number::parse_i64;
use crate::reply::Reply;
use crate::settings::NotifyFlags;
use crate::shard::deletion;

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

pub static MGET: ShardCommand = Command {
    spec: Spec {
        name: "mget",
        group: Group::String,
        summary: "Reads several strings; a null for each key that holds none.",
        complexity: "O(N) with N keys",
        arity: -2,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::STRING,
        keys: &[KeySpec::range(1, -1, 1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        tips: &["request_policy:multi_shard"],
        args: &[Arg::new("key", ArgKind::Key(0)).flags(ArgFlags::MULTIPLE)],
        ..Spec::DEFAULT
    },
    run: mget,
};

fn mget(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    r.array(a.len() - 1);
    for first in (1..a.len()).step_by(PREFETCHED) {
        for key in prefetched(x, a.slice(first, first + PREFETCHED), 1) {
            match x.get(&key) {
                Some(value) if is_string(value) => write_string(value, r)?,
                _ => r.null(),
            }
        }
    }
    Ok(())
}

pub static GETDEL: ShardCommand = Command {
    spec: Spec {
        name: "getdel",
        group: Group::String,
        since: "6.2.0",
        summary: "Reads a string and deletes its key.",
        arity: 2,
        flags: Flags::WRITE.with(Flags::FAST),
        acl: AclCategory::STRING,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::DELETE))],
        args: &[Arg::new("key", ArgKind::Key(0))],
        ..Spec::DEFAULT
    },
    run: getdel,
};

fn getdel(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let key = x.key(a.at(1));
    match x.get(&key) {
        None => r.null(),
        Some(value) => {
            write_string(value, r)?;
            let lazy = x.settings().lazyfree_lazy_user_del;
            delete_read(x, &key, lazy);
        }
    }
    Ok(())
}

/// Deletes a key that has just been read.
fn delete_read(x: &mut Exec<'_>, key: &Key<'_>, lazy: bool) {
    x.delete(key);
    x.changed(key);
    x.effect(&[deletion(lazy), key.bytes]);
    x.event(NotifyFlags::GENERIC, "del", key);
}

pub static GETEX: ShardCommand = Command {
    spec: Spec {
        name: "getex",
        group: Group::String,
        since: "6.2.0",
        summary: "Reads a string and sets or removes its key's expiry.",
        arity: -2,
        flags: Flags::WRITE.with(Flags::FAST),
        acl: AclCategory::STRING,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::UPDATE))
            .noted("RW and UPDATE because it changes the TTL")],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new(
                "expiration",
                ArgKind::OneOf(&[
                    Arg::new("seconds", ArgKind::Integer).token("EX"),
                    Arg::new("milliseconds", ArgKind::Integer).token("PX"),
                    Arg::new("unix-time-seconds", ArgKind::UnixTime).token("EXAT"),
                    Arg::new("unix-time-milliseconds", ArgKind::UnixTime).token("PXAT"),
                    Arg::new("persist", ArgKind::PureToken).token("PERSIST"),
                ]),
            )
            .flags(ArgFlags::OPTIONAL),
        ],
        ..Spec::DEFAULT
    },
    run: getex,
};

fn getex(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let options = GetExOptions::parse(a)?;
    let expiry = options.expiry.map(|expiry| expiry.at_ms(x)).transpose();
    let key = x.key(a.at(1));
    match x.get(&key) {
        None => {
            r.null();
            return Ok(());
        }
        Some(value) if !is_string(value) => return Err(Error::WrongType),
        Some(value) => {
            if let Err(error) = expiry {
                return Err(error);
            }
            write_string(value, r)?;
        }
    }
    match (expiry?, options.expiry) {
        (Some(at_ms), Some(given)) if given.is_absolute() && x.is_past(at_ms) => {
            let lazy = x.settings().lazyfree_lazy_expire;
            delete_read(x, &key, lazy);
        }
        (Some(at_ms), _) => {
            x.set_expiry(&key, Some(at_ms));
            x.changed(&key);
            x.effect(&[b"PEXPIREAT", key.bytes, itoa::Buffer::new().format(at_ms).as_bytes()]);
            x.event(NotifyFlags::GENERIC, "expire", &key);
        }
        _ if options.persist && x.expiry(&key).flatten().is_some() => {
            x.set_expiry(&key, None);
            x.changed(&key);
            x.effect(&[b"PERSIST", key.bytes]);
            x.event(NotifyFlags::GENERIC, "persist", &key);
        }
        _ => {}
    }
    Ok(())
}

#[derive(Default)]
struct GetExOptions<'a> {
    expiry: Option<GivenExpiry<'a>>,
    persist: bool,
}

impl<'a> GetExOptions<'a> {
    fn parse(a: Args<'a>) -> Result<Self, Error> {
        let mut options = GetExOptions::default();
        let mut at = 2;
        while at < a.len() {
            if a.is(at, "persist") && options.expiry.is_none() {
                options.persist = true;
                at += 1;
            } else if let Some(expiry) = GivenExpiry::parse(a, at, options.expiry)
                && !options.persist
            {
                options.expiry = Some(expiry);
                at += 2;
            } else {
                return Err(Error::Syntax);
            }
        }
        Ok(options)
    }
}

pub static GETRANGE: ShardCommand = Command {
    spec: Spec {
        name: "getrange",
        group: Group::String,
        since: "2.4.0",
        summary: "Reads a part of a string, given by its first and last byte.",
        complexity: "O(N) with N bytes returned",
        arity: 4,
        flags: Flags::READONLY,
        acl: AclCategory::STRING,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("start", ArgKind::Integer), Arg::new("end", ArgKind::Integer)],
        ..Spec::DEFAULT
    },
    run: getrange,
};

fn getrange(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let start = parse_i64(a.at(2)).ok_or(Error::NotInteger)?;
    let end = parse_i64(a.at(3)).ok_or(Error::NotInteger)?;
    let mut digits = itoa::Buffer::new();
    let bytes = match x.get(&x.key(a.at(1))) {
        None => &[],
        Some(value) => string_bytes(value, &mut digits)?,
    };
    r.bulk(match clip_range(start, end, bytes.len()) {
        Some((first, last)) => &bytes[first..=last],
        None => &[],
    });
    Ok(())
}

pub static SUBSTR: ShardCommand = Command {
    spec: Spec {
        name: "substr",
        group: Group::String,
        summary: "Reads a part of a string, given by its first and last byte.",
        complexity: "O(N) with N bytes returned",
        arity: 4,
        flags: Flags::READONLY,
        acl: AclCategory::STRING,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("start", ArgKind::Integer), Arg::new("end", ArgKind::Integer)],
        deprecated: Some(("2.0.0", "`GETRANGE`")),
        ..Spec::DEFAULT
    },
    run: getrange,
};

pub static STRLEN: ShardCommand = Command {
    spec: Spec {
        name: "strlen",
        group: Group::String,
        since: "2.2.0",
        summary: "Length of a string in bytes.",
        arity: 2,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::STRING,
        keys: &[KeySpec::one(1, KeyAccess::RO)],
        args: &[Arg::new("key", ArgKind::Key(0))],
        ..Spec::DEFAULT
    },
    run: strlen,
};

fn strlen(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let mut digits = itoa::Buffer::new();
    let len = match x.get(&x.key(a.at(1))) {
        None => 0,
        Some(value) => string_bytes(value, &mut digits)?.len(),
    };
    r.integer(len as i64);
    Ok(())
}
