//! Commands that change hashes: HSET, HSETNX, HMSET, HDEL, HINCRBY, HINCRBYFLOAT.

use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::family::ShardCommand;
use crate::keyspace::{Expiry, Key, NewValue};
use crate::number::{LongDouble, parse_i64};
use crate::reply::Reply;
use crate::settings::NotifyFlags;
use crate::value::Object;
use crate::value::hash::{Hash, HashLimits};
use crate::value::item::Item;
use crate::value::schema::Schemas;

pub static HSET: ShardCommand = Command {
    spec: Spec {
        name: "hset",
        group: Group::Hash,
        since: "2.0.0",
        summary: "Sets fields of a hash, making it if there is none.",
        complexity: "O(N) by the number of fields set",
        arity: -4,
        flags: Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST),
        acl: AclCategory::HASH,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::UPDATE))],
        member_at: 2,
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("field_value", ArgKind::Block(&[Arg::new("field", ArgKind::String), Arg::new("value", ArgKind::String)]))
                .flags(ArgFlags::MULTIPLE),
        ],
        history: &[("4.0.0", "Takes several fields.")],
        ..Spec::DEFAULT
    },
    run: hset,
};

fn hset(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let created = set_fields(x, a)?;
    r.integer(created);
    Ok(())
}

pub static HMSET: ShardCommand = Command {
    spec: Spec {
        name: "hmset",
        group: Group::Hash,
        since: "2.0.0",
        summary: "Sets fields of a hash; the old form of HSET.",
        complexity: "O(N) by the number of fields set",
        arity: -4,
        flags: Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST),
        acl: AclCategory::HASH,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::UPDATE))],
        member_at: 2,
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("field_value", ArgKind::Block(&[Arg::new("field", ArgKind::String), Arg::new("value", ArgKind::String)]))
                .flags(ArgFlags::MULTIPLE),
        ],
        deprecated: Some(("4.0.0", "`HSET` with multiple field-value pairs")),
        ..Spec::DEFAULT
    },
    run: hmset,
};

fn hmset(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    set_fields(x, a)?;
    r.ok();
    Ok(())
}

/// Sets the fields given from argument 2 on; returns how many are new.
fn set_fields(x: &mut Exec<'_>, a: Args<'_>) -> Result<i64, Error> {
    if !a.len().is_multiple_of(2) {
        return Err(Error::Owned(format!("ERR wrong number of arguments for '{}' command", x.spec.name)));
    }
    let key = x.key(a.at(1));
    let fields = (2..a.len()).step_by(2).map(|at| (a.at(at), a.at(at + 1)));
    let at_once =
        |schemas: &Schemas, limits: &HashLimits| schemas.make(fields.clone(), limits).map(|hash| (hash.len() as i64, hash));
    let one_by_one = |hash: &mut Hash, limits: &HashLimits| {
        Ok(fields.clone().map(|(field, value)| i64::from(hash.set(field, value, limits))).sum())
    };
    let created = make_or_edit(x, &key, at_once, one_by_one)?;
    x.changed_by(&key, (a.len() as u64 - 2) / 2);
    x.event(NotifyFlags::HASH, "hset", &key);
    Ok(created)
}

/// Changes the hash at `key`, made if there is none. An `edit` that fails has changed nothing.
fn edit<R>(x: &mut Exec<'_>, key: &Key<'_>, edit: impl FnOnce(&mut Hash, &HashLimits) -> Result<R, Error>) -> Result<R, Error> {
    make_or_edit(x, key, |_, _| None, edit)
}

/// The same, with a shorter way that a new hash may be made.
#[inline]
fn make_or_edit<R>(
    x: &mut Exec<'_>,
    key: &Key<'_>,
    make: impl FnOnce(&Schemas, &HashLimits) -> Option<(R, Hash)>,
    edit: impl FnOnce(&mut Hash, &HashLimits) -> Result<R, Error>,
) -> Result<R, Error> {
    let limits = HashLimits::new(x.settings(), x.shard.hasher.state());
    if let Some((hash, schemas)) = x.hash_mut(key)? {
        let fields = hash.len();
        let result = edit(hash, &limits)?;
        if hash.len() != fields {
            schemas.fit(hash);
        }
        return Ok(result);
    }
    let (result, hash) = match make(&x.shard.schemas, &limits) {
        Some(made) => made,
        None => {
            let mut hash = Hash::new();
            let result = edit(&mut hash, &limits)?;
            x.shard.schemas.fit(&mut hash);
            (result, hash)
        }
    };
    x.store(key, NewValue::Object(Object::Hash(hash)), Expiry::Clear);
    Ok(result)
}

pub static HSETNX: ShardCommand = Command {
    spec: Spec {
        name: "hsetnx",
        group: Group::Hash,
        since: "2.0.0",
        summary: "Sets a field of a hash unless it is there.",
        arity: 4,
        flags: Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST),
        acl: AclCategory::HASH,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::INSERT))],
        member_at: 2,
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("field", ArgKind::String), Arg::new("value", ArgKind::String)],
        ..Spec::DEFAULT
    },
    run: hsetnx,
};

fn hsetnx(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let key = x.key(a.at(1));
    let created = edit(x, &key, |hash, limits| Ok(!hash.contains(a.at(2)) && hash.set(a.at(2), a.at(3), limits)))?;
    if created {
        x.changed(&key);
        x.event(NotifyFlags::HASH, "hset", &key);
    }
    r.integer(i64::from(created));
    Ok(())
}

pub static HDEL: ShardCommand = Command {
    spec: Spec {
        name: "hdel",
        group: Group::Hash,
        since: "2.0.0",
        summary: "Removes fields, and the hash with its last one.",
        complexity: "O(N) by the number of fields removed",
        arity: -3,
        flags: Flags::WRITE.with(Flags::FAST),
        acl: AclCategory::HASH,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::DELETE))],
        member_at: 2,
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("field", ArgKind::String).flags(ArgFlags::MULTIPLE)],
        history: &[("2.4.0", "Takes several fields.")],
        ..Spec::DEFAULT
    },
    run: hdel,
};

fn hdel(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let key = x.key(a.at(1));
    let Some((hash, schemas)) = x.hash_mut(&key)? else {
        r.integer(0);
        return Ok(());
    };
    let removed = a.from(2).iter().filter(|field| hash.remove(field)).count();
    let is_empty = hash.is_empty();
    if removed > 0 {
        schemas.fit(hash);
        x.changed_by(&key, removed as u64);
        x.event(NotifyFlags::HASH, "hdel", &key);
    }
    if is_empty {
        x.delete_emptied(&key);
    }
    r.integer(removed as i64);
    Ok(())
}

pub static HINCRBY: ShardCommand = Command {
    spec: Spec {
        name: "hincrby",
        group: Group::Hash,
        since: "2.0.0",
        summary: "Adds an integer to the integer in a field, 0 if there is none.",
        arity: 4,
        flags: Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST),
        acl: AclCategory::HASH,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::UPDATE))],
        member_at: 2,
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("field", ArgKind::String), Arg::new("increment", ArgKind::Integer)],
        ..Spec::DEFAULT
    },
    run: hincrby,
};

fn hincrby(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let increment = parse_i64(a.at(3)).ok_or(Error::NotInteger)?;
    let key = x.key(a.at(1));
    let mut digits = itoa::Buffer::new();
    let sum = edit(x, &key, |hash, limits| {
        hash.update(a.at(2), limits, |old| {
            let old = match old {
                None => 0,
                Some(Item::Int(int)) => int,
                Some(Item::Bytes(bytes)) => parse_i64(bytes).ok_or(Error::Text("ERR hash value is not an integer"))?,
            };
            let sum = old.checked_add(increment).ok_or(Error::Overflow)?;
            Ok((sum, digits.format(sum).as_bytes()))
        })
    })?;
    x.changed(&key);
    x.event(NotifyFlags::HASH, "hincrby", &key);
    r.integer(sum);
    Ok(())
}

pub static HINCRBYFLOAT: ShardCommand = Command {
    spec: Spec {
        name: "hincrbyfloat",
        group: Group::Hash,
        since: "2.6.0",
        summary: "Adds a number to the number in a field, 0 if there is none.",
        arity: 4,
        flags: Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST),
        acl: AclCategory::HASH,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::UPDATE))],
        member_at: 2,
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("field", ArgKind::String), Arg::new("increment", ArgKind::Double)],
        ..Spec::DEFAULT
    },
    run: hincrbyfloat,
};

fn hincrbyfloat(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let increment = LongDouble::parse(a.at(3)).ok_or(Error::NotFloat)?;
    if increment.is_infinite() {
        return Err(Error::Text("ERR value is NaN or Infinity"));
    }
    let key = x.key(a.at(1));
    let mut text = Vec::new();
    edit(x, &key, |hash, limits| {
        hash.update(a.at(2), limits, |old| {
            let old = match old {
                None => LongDouble::ZERO,
                Some(Item::Int(int)) => LongDouble::from(int),
                Some(Item::Bytes(bytes)) => LongDouble::parse(bytes).ok_or(Error::Text("ERR hash value is not a float"))?,
            };
            old.checked_add(increment).ok_or(Error::NanOrInfinity)?.write(&mut text);
            Ok(((), &text[..]))
        })
    })?;
    x.changed(&key);
    x.event(NotifyFlags::HASH, "hincrbyfloat", &key);
    x.effect(&[b"HSET", key.bytes, a.at(2), &text]);
    r.bulk(&text);
    Ok(())
}
