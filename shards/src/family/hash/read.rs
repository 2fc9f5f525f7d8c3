//! Commands that read hashes: HGET, HMGET, HGETALL, HKEYS, HVALS, HLEN, HEXISTS, HSTRLEN, HSCAN.

use super::READ;
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::CommandResult;
use crate::exec::Exec;
use crate::family::ShardCommand;
use crate::family::elements::bulk_item;
use crate::family::scan::{ScanOptions, ScanReply, parse_cursor};
use crate::reply::Reply;
use crate::table::Cursor;
use crate::value::hash::Hash;

pub static HGET: ShardCommand = Command {
    spec: Spec {
        name: "hget",
        group: Group::Hash,
        since: "2.0.0",
        summary: "Reads the value of a field.",
        arity: 3,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::HASH,
        keys: &[KeySpec::one(1, READ)],
        member_at: 2,
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("field", ArgKind::String)],
        ..Spec::DEFAULT
    },
    run: hget,
};

fn hget(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    write_value(x.hash(&x.key(a.at(1)))?, a.at(2), r);
    Ok(())
}

pub static HMGET: ShardCommand = Command {
    spec: Spec {
        name: "hmget",
        group: Group::Hash,
        since: "2.0.0",
        summary: "Reads the values of several fields.",
        complexity: "O(N) by the number of fields asked for",
        arity: -3,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::HASH,
        keys: &[KeySpec::one(1, READ)],
        member_at: 2,
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("field", ArgKind::String).flags(ArgFlags::MULTIPLE)],
        ..Spec::DEFAULT
    },
    run: hmget,
};

fn hmget(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let hash = x.hash(&x.key(a.at(1)))?;
    r.array(a.len() - 2);
    a.from(2).iter().for_each(|field| write_value(hash, field, r));
    Ok(())
}

/// Writes the value of a field, or null.
#[inline]
fn write_value(hash: Option<&Hash>, field: &[u8], r: &mut Reply<'_>) {
    match hash.and_then(|hash| hash.get(field)) {
        Some(value) => bulk_item(r, value),
        None => r.null(),
    }
}

pub static HGETALL: ShardCommand = Command {
    spec: Spec {
        name: "hgetall",
        group: Group::Hash,
        since: "2.0.0",
        summary: "Reads all fields with their values.",
        complexity: "O(N) by the size of the hash",
        arity: 2,
        flags: Flags::READONLY,
        acl: AclCategory::HASH,
        keys: &[KeySpec::one(1, READ)],
        tips: &["nondeterministic_output_order"],
        args: &[Arg::new("key", ArgKind::Key(0))],
        ..Spec::DEFAULT
    },
    run: hgetall,
};

fn hgetall(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let hash = x.hash(&x.key(a.at(1)))?;
    r.map(hash.map_or(0, Hash::len));
    if let Some(hash) = hash {
        hash.for_each(&mut |field, value| {
            bulk_item(r, field);
            bulk_item(r, value);
        });
    }
    Ok(())
}

pub static HKEYS: ShardCommand = Command {
    spec: Spec {
        name: "hkeys",
        group: Group::Hash,
        since: "2.0.0",
        summary: "Reads the names of all fields.",
        complexity: "O(N) by the size of the hash",
        arity: 2,
        flags: Flags::READONLY,
        acl: AclCategory::HASH,
        keys: &[KeySpec::one(1, READ)],
        tips: &["nondeterministic_output_order"],
        args: &[Arg::new("key", ArgKind::Key(0))],
        ..Spec::DEFAULT
    },
    run: hkeys,
};

fn hkeys(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let hash = x.hash(&x.key(a.at(1)))?;
    r.array(hash.map_or(0, Hash::len));
    if let Some(hash) = hash {
        hash.for_each(&mut |field, _| bulk_item(r, field));
    }
    Ok(())
}

pub static HVALS: ShardCommand = Command {
    spec: Spec {
        name: "hvals",
        group: Group::Hash,
        since: "2.0.0",
        summary: "Reads the values of all fields.",
        complexity: "O(N) by the size of the hash",
        arity: 2,
        flags: Flags::READONLY,
        acl: AclCategory::HASH,
        keys: &[KeySpec::one(1, READ)],
        tips: &["nondeterministic_output_order"],
        args: &[Arg::new("key", ArgKind::Key(0))],
        ..Spec::DEFAULT
    },
    run: hvals,
};

fn hvals(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let hash = x.hash(&x.key(a.at(1)))?;
    r.array(hash.map_or(0, Hash::len));
    if let Some(hash) = hash {
        hash.for_each(&mut |_, value| bulk_item(r, value));
    }
    Ok(())
}

pub static HLEN: ShardCommand = Command {
    spec: Spec {
        name: "hlen",
        group: Group::Hash,
        since: "2.0.0",
        summary: "Counts the fields of a hash.",
        arity: 2,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::HASH,
        keys: &[KeySpec::one(1, KeyAccess::RO)],
        args: &[Arg::new("key", ArgKind::Key(0))],
        ..Spec::DEFAULT
    },
    run: hlen,
};

fn hlen(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    r.integer(x.hash(&x.key(a.at(1)))?.map_or(0, Hash::len) as i64);
    Ok(())
}

pub static HEXISTS: ShardCommand = Command {
    spec: Spec {
        name: "hexists",
        group: Group::Hash,
        since: "2.0.0",
        summary: "Tells whether a hash has a field.",
        arity: 3,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::HASH,
        keys: &[KeySpec::one(1, KeyAccess::RO)],
        member_at: 2,
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("field", ArgKind::String)],
        ..Spec::DEFAULT
    },
    run: hexists,
};

fn hexists(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let exists = x.hash(&x.key(a.at(1)))?.is_some_and(|hash| hash.contains(a.at(2)));
    r.integer(i64::from(exists));
    Ok(())
}

pub static HSTRLEN: ShardCommand = Command {
    spec: Spec {
        name: "hstrlen",
        group: Group::Hash,
        since: "3.2.0",
        summary: "Tells the length of a field's value.",
        arity: 3,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::HASH,
        keys: &[KeySpec::one(1, KeyAccess::RO)],
        member_at: 2,
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("field", ArgKind::String)],
        ..Spec::DEFAULT
    },
    run: hstrlen,
};

fn hstrlen(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    r.integer(x.hash(&x.key(a.at(1)))?.map_or(0, |hash| hash.value_len(a.at(2))) as i64);
    Ok(())
}

pub static HSCAN: ShardCommand = Command {
    spec: Spec {
        name: "hscan",
        group: Group::Hash,
        since: "2.8.0",
        summary: "Walks over a hash a piece at a time.",
        complexity: "O(1) a call, O(N) for the whole walk",
        arity: -3,
        flags: Flags::READONLY,
        acl: AclCategory::HASH,
        keys: &[KeySpec::one(1, READ)],
        tips: &["nondeterministic_output"],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("cursor", ArgKind::Integer),
            Arg::new("pattern", ArgKind::Pattern).token("MATCH").flags(ArgFlags::OPTIONAL),
            Arg::new("count", ArgKind::Integer).token("COUNT").flags(ArgFlags::OPTIONAL),
        ],
        ..Spec::DEFAULT
    },
    run: hscan,
};

fn hscan(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let cursor = Cursor::from_bits(parse_cursor(a.at(2))?);
    let Some(hash) = x.hash(&x.key(a.at(1)))? else {
        ScanReply::empty(r);
        return Ok(());
    };
    let options = ScanOptions::parse(a, 3, false)?;
    let mut reply = ScanReply::new(options, r.resp3);
    let next = hash.scan(cursor, options.count, &mut |field, value| {
        field.with_bytes(|field| value.with_bytes(|value| reply.offer_pair(field, value)));
    });
    reply.finish(next.map_or(0, Cursor::to_bits), r);
    Ok(())
}
