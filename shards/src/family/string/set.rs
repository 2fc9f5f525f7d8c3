//! Strings set whole, whatever the key held.

use super::{ExpiryForm, GivenExpiry, PREFETCHED, ShardCommand, prefetched, store_string, write_or_null};
use crate::command::{
    AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, InvalidKeys, KeyAccess, KeySpec, KeyUse, Spec, Split,
    SplitKeys,
};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::keyspace::{Expiry, Key};
use crate::reply::Reply;
use crate::settings::NotifyFlags;

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
                ArgKind::OneOf(&[Arg::new("nx", ArgKind::PureToken).token("NX"), Arg::new("xx", ArgKind::PureToken).token("XX")]),
            )
            .flags(ArgFlags::OPTIONAL)
            .since("2.6.12"),
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
        history: &[
            ("2.6.12", "Options `EX`, `PX`, `NX` and `XX`."),
            ("6.0.0", "Option `KEEPTTL`."),
            ("6.2.0", "Options `GET`, `EXAT` and `PXAT`."),
            ("7.0.0", "`NX` together with `GET`."),
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
struct SetOptions<'a> {
    not_exists: bool,
    exists: bool,
    get: bool,
    keep_expiry: bool,
    expiry: Option<GivenExpiry<'a>>,
}

impl<'a> SetOptions<'a> {
    fn parse(a: Args<'a>) -> Result<Self, Error> {
        let mut options = SetOptions::default();
        let mut at = 3;
        while at < a.len() {
            if a.is(at, "nx") && !options.exists {
                options.not_exists = true;
            } else if a.is(at, "xx") && !options.not_exists {
                options.exists = true;
            } else if a.is(at, "get") {
                options.get = true;
            } else if a.is(at, "keepttl") && options.expiry.is_none() {
                options.keep_expiry = true;
            } else if let Some(expiry) = GivenExpiry::parse(a, at, options.expiry)
                && !options.keep_expiry
            {
                options.expiry = Some(expiry);
                at += 1;
            } else {
                return Err(Error::Syntax);
            }
            at += 1;
        }
        Ok(options)
    }
}

fn set(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let key = x.key(a.at(1));
    if a.len() == 3 {
        set_to(x, &key, a.at(2), Expiry::Clear);
        r.ok();
        return Ok(());
    }
    let options = SetOptions::parse(a)?;
    let expiry = match options.expiry {
        Some(given) => Expiry::At(given.at_ms(x)?),
        None if options.keep_expiry => Expiry::Keep,
        None => Expiry::Clear,
    };
    if options.get {
        write_or_null(x.get(&key), r)?;
    }
    let refused = (options.not_exists || options.exists) && x.exists(&key) != options.exists;
    if refused {
        if !options.get {
            r.null();
        }
        return Ok(());
    }
    set_to(x, &key, a.at(2), expiry);
    if options.get && options.expiry.is_none() && x.wants_effects() {
        let without_get = a.iter().enumerate().filter(|(at, arg)| *at < 3 || !arg.eq_ignore_ascii_case(b"get"));
        x.effect(&without_get.map(|(_, arg)| arg).collect::<Vec<_>>());
    }
    if !options.get {
        r.ok();
    }
    Ok(())
}

/// Sets a string as SET does, with its events; and with its effect where there is an expiry.
fn set_to(x: &mut Exec<'_>, key: &Key<'_>, bytes: &[u8], expiry: Expiry) {
    store_string(x, key, bytes, expiry);
    x.event(NotifyFlags::STRING, "set", key);
    if let Expiry::At(at_ms) = expiry {
        if x.wants_effects() {
            x.effect(&[b"SET", key.bytes, bytes, b"PXAT", itoa::Buffer::new().format(at_ms).as_bytes()]);
        }
        x.event(NotifyFlags::GENERIC, "expire", key);
    }
}

pub static SETNX: ShardCommand = Command {
    spec: Spec {
        name: "setnx",
        group: Group::String,
        summary: "Sets a key to a string if the key does not exist.",
        arity: 3,
        flags: Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST),
        acl: AclCategory::STRING,
        keys: &[KeySpec::one(1, KeyAccess::OW.with(KeyAccess::INSERT))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("value", ArgKind::String)],
        ..Spec::DEFAULT
    },
    run: setnx,
};

fn setnx(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let key = x.key(a.at(1));
    let free = !x.exists(&key);
    if free {
        set_to(x, &key, a.at(2), Expiry::Clear);
    }
    r.integer(free.into());
    Ok(())
}

pub static SETEX: ShardCommand = Command {
    spec: Spec {
        name: "setex",
        group: Group::String,
        since: "2.0.0",
        summary: "Sets a key to a string with an expiry in seconds.",
        arity: 4,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::STRING,
        keys: &[KeySpec::one(1, KeyAccess::OW.with(KeyAccess::UPDATE))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("seconds", ArgKind::Integer), Arg::new("value", ArgKind::String)],
        ..Spec::DEFAULT
    },
    run: setex,
};

fn setex(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    set_for(x, a, r, ExpiryForm::Seconds)
}

pub static PSETEX: ShardCommand = Command {
    spec: Spec {
        name: "psetex",
        group: Group::String,
        since: "2.6.0",
        summary: "Sets a key to a string with an expiry in milliseconds.",
        arity: 4,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::STRING,
        keys: &[KeySpec::one(1, KeyAccess::OW.with(KeyAccess::UPDATE))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("milliseconds", ArgKind::Integer), Arg::new("value", ArgKind::String)],
        ..Spec::DEFAULT
    },
    run: psetex,
};

fn psetex(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    set_for(x, a, r, ExpiryForm::Milliseconds)
}

fn set_for(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>, form: ExpiryForm) -> CommandResult {
    let at_ms = GivenExpiry { form, text: a.at(2) }.at_ms(x)?;
    set_to(x, &x.key(a.at(1)), a.at(3), Expiry::At(at_ms));
    r.ok();
    Ok(())
}

pub static GETSET: ShardCommand = Command {
    spec: Spec {
        name: "getset",
        group: Group::String,
        summary: "Sets a key to a string and returns the one it held.",
        arity: 3,
        flags: Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST),
        acl: AclCategory::STRING,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::UPDATE))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("value", ArgKind::String)],
        deprecated: Some(("6.2.0", "`SET` with the `!GET` argument")),
        ..Spec::DEFAULT
    },
    run: getset,
};

fn getset(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let key = x.key(a.at(1));
    write_or_null(x.get(&key), r)?;
    set_to(x, &key, a.at(2), Expiry::Clear);
    x.effect(&[b"SET", key.bytes, a.at(2)]);
    Ok(())
}

pub static MSET: ShardCommand = Command {
    spec: Spec {
        name: "mset",
        group: Group::String,
        since: "1.0.1",
        summary: "Sets several keys to strings.",
        complexity: "O(N) with N keys",
        arity: -3,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::STRING,
        keys: &[KeySpec::range(1, -1, 2, KeyAccess::OW.with(KeyAccess::UPDATE))],
        tips: &["request_policy:multi_shard", "response_policy:all_succeeded"],
        split: Split::PerKey { name: b"MSET", step: 2, keys: SplitKeys::All },
        apart: true,
        args: &[Arg::new("key_value", ArgKind::Block(&[Arg::new("key", ArgKind::Key(0)), Arg::new("value", ArgKind::String)]))
            .flags(ArgFlags::MULTIPLE)],
        ..Spec::DEFAULT
    },
    run: mset,
};

fn mset(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    if a.len().is_multiple_of(2) {
        return Err(Error::Text("ERR wrong number of arguments for 'mset' command"));
    }
    set_pairs(x, a);
    r.ok();
    Ok(())
}

fn set_pairs(x: &mut Exec<'_>, a: Args<'_>) {
    for first in (1..a.len()).step_by(2 * PREFETCHED) {
        let batch = a.slice(first, first + 2 * PREFETCHED);
        for (pair, key) in prefetched(x, batch, 2).enumerate() {
            set_to(x, &key, batch.at(2 * pair + 1), Expiry::Clear);
        }
    }
}

pub static MSETNX: ShardCommand = Command {
    spec: Spec {
        name: "msetnx",
        group: Group::String,
        since: "1.0.1",
        summary: "Sets several keys to strings if none of them exists.",
        complexity: "O(N) with N keys",
        arity: -3,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::STRING,
        keys: &[KeySpec::range(1, -1, 2, KeyAccess::OW.with(KeyAccess::INSERT))],
        tips: &["request_policy:multi_shard", "response_policy:agg_min"],
        split: Split::PerKey { name: b"MSET", step: 2, keys: SplitKeys::All },
        args: &[Arg::new("key_value", ArgKind::Block(&[Arg::new("key", ArgKind::Key(0)), Arg::new("value", ArgKind::String)]))
            .flags(ArgFlags::MULTIPLE)],
        ..Spec::DEFAULT
    },
    run: msetnx,
};

fn msetnx(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    if a.len().is_multiple_of(2) {
        return Err(Error::Text("ERR wrong number of arguments for 'msetnx' command"));
    }
    let free = a.from(1).iter().step_by(2).all(|key| !x.exists(&x.key(key)));
    if free {
        set_pairs(x, a);
    }
    r.integer(free.into());
    Ok(())
}
