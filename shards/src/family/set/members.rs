//! Commands on the members of one set: SADD, SREM, SMOVE, SCARD, SISMEMBER, SMISMEMBER, SMEMBERS, SSCAN.

use super::{READ, edit};
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec, Split};
use crate::error::CommandResult;
use crate::exec::Exec;
use crate::family::ShardCommand;
use crate::family::elements::bulk_item;
use crate::family::scan::{ScanOptions, ScanReply, parse_cursor};
use crate::reply::Reply;
use crate::settings::NotifyFlags;
use crate::split::Division;
use crate::table::Cursor;
use crate::value::set::Set;

pub static SADD: ShardCommand = Command {
    spec: Spec {
        name: "sadd",
        group: Group::Set,
        summary: "Adds members to a set, making it if there is none.",
        complexity: "O(N) by the number of members added",
        arity: -3,
        flags: Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST),
        acl: AclCategory::SET,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::INSERT))],
        member_at: 2,
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("member", ArgKind::String).flags(ArgFlags::MULTIPLE)],
        history: &[("2.4.0", "Takes several members.")],
        ..Spec::DEFAULT
    },
    run: sadd,
};

fn sadd(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let key = x.key(a.at(1));
    let added = edit(x, &key, |set, limits| a.from(2).iter().filter(|member| set.add(member, limits)).count())?;
    if added > 0 {
        x.changed_by(&key, added as u64);
        x.event(NotifyFlags::SET, "sadd", &key);
    }
    r.integer(added as i64);
    Ok(())
}

pub static SREM: ShardCommand = Command {
    spec: Spec {
        name: "srem",
        group: Group::Set,
        summary: "Removes members, and the set with its last one.",
        complexity: "O(N) by the number of members removed",
        arity: -3,
        flags: Flags::WRITE.with(Flags::FAST),
        acl: AclCategory::SET,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::DELETE))],
        member_at: 2,
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("member", ArgKind::String).flags(ArgFlags::MULTIPLE)],
        history: &[("2.4.0", "Takes several members.")],
        ..Spec::DEFAULT
    },
    run: srem,
};

fn srem(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let key = x.key(a.at(1));
    let Some(set) = x.set_mut(&key)? else {
        r.integer(0);
        return Ok(());
    };
    let removed = a.from(2).iter().filter(|member| set.remove(member)).count();
    let is_empty = set.is_empty();
    if removed > 0 {
        x.changed_by(&key, removed as u64);
        x.event(NotifyFlags::SET, "srem", &key);
    }
    if is_empty {
        x.delete_emptied(&key);
    }
    r.integer(removed as i64);
    Ok(())
}

pub static SMOVE: ShardCommand = Command {
    spec: Spec {
        name: "smove",
        group: Group::Set,
        summary: "Moves a member from one set to another.",
        arity: 4,
        flags: Flags::WRITE.with(Flags::FAST),
        acl: AclCategory::SET,
        keys: &[
            KeySpec::one(1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::DELETE)),
            KeySpec::one(2, KeyAccess::RW.with(KeyAccess::INSERT)),
        ],
        args: &[
            Arg::new("source", ArgKind::Key(0)),
            Arg::new("destination", ArgKind::Key(1)),
            Arg::new("member", ArgKind::String),
        ],
        split: Split::By(split_smove),
        ..Spec::DEFAULT
    },
    run: smove,
};

fn split_smove(division: &mut Division<'_>, a: Args<'_>) {
    for (command, name) in [(&b"SREM"[..], a.at(1)), (b"SADD", a.at(2))] {
        if division.has_changed(name) {
            division.push(&[command, name, a.at(3)]);
        }
    }
}

fn smove(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let (source, destination, member) = (x.key(a.at(1)), x.key(a.at(2)), a.at(3));
    let is_member = x.set_mut(&source).map(|set| set.map(|set| set.contains(member)));
    // As in Redis, the destination is looked up first: it may have expired.
    let there = x.exists(&destination);
    let Some(is_member) = is_member? else {
        r.integer(0);
        return Ok(());
    };
    if there {
        x.set_mut(&destination)?;
    }
    if !is_member || source.bytes == destination.bytes {
        r.integer(i64::from(is_member));
        return Ok(());
    }
    let emptied = x.set_mut(&source)?.is_some_and(|set| set.remove(member) && set.is_empty());
    x.event(NotifyFlags::SET, "srem", &source);
    if emptied {
        x.delete_emptied(&source);
    }
    x.changed(&source);
    if edit(x, &destination, |set, limits| set.add(member, limits))? {
        x.changed(&destination);
        x.event(NotifyFlags::SET, "sadd", &destination);
    }
    r.integer(1);
    Ok(())
}

pub static SCARD: ShardCommand = Command {
    spec: Spec {
        name: "scard",
        group: Group::Set,
        summary: "Counts the members of a set.",
        arity: 2,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::SET,
        keys: &[KeySpec::one(1, KeyAccess::RO)],
        args: &[Arg::new("key", ArgKind::Key(0))],
        ..Spec::DEFAULT
    },
    run: scard,
};

fn scard(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    r.integer(x.set(&x.key(a.at(1)))?.map_or(0, Set::len) as i64);
    Ok(())
}

pub static SISMEMBER: ShardCommand = Command {
    spec: Spec {
        name: "sismember",
        group: Group::Set,
        summary: "Tells whether a set has a member.",
        arity: 3,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::SET,
        keys: &[KeySpec::one(1, KeyAccess::RO)],
        member_at: 2,
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("member", ArgKind::String)],
        ..Spec::DEFAULT
    },
    run: sismember,
};

fn sismember(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let is_member = x.set(&x.key(a.at(1)))?.is_some_and(|set| set.contains(a.at(2)));
    r.integer(i64::from(is_member));
    Ok(())
}

pub static SMISMEMBER: ShardCommand = Command {
    spec: Spec {
        name: "smismember",
        group: Group::Set,
        since: "6.2.0",
        summary: "Tells of each of several strings whether a set has it.",
        complexity: "O(N) by the number of members asked for",
        arity: -3,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::SET,
        keys: &[KeySpec::one(1, READ)],
        member_at: 2,
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("member", ArgKind::String).flags(ArgFlags::MULTIPLE)],
        ..Spec::DEFAULT
    },
    run: smismember,
};

fn smismember(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let set = x.set(&x.key(a.at(1)))?;
    r.array(a.len() - 2);
    a.from(2).iter().for_each(|member| r.integer(i64::from(set.is_some_and(|set| set.contains(member)))));
    Ok(())
}

pub static SMEMBERS: ShardCommand = Command {
    spec: Spec {
        name: "smembers",
        group: Group::Set,
        summary: "Reads all members of a set.",
        complexity: "O(N) by the size of the set",
        arity: 2,
        flags: Flags::READONLY,
        acl: AclCategory::SET,
        keys: &[KeySpec::one(1, READ)],
        tips: &["nondeterministic_output_order"],
        args: &[Arg::new("key", ArgKind::Key(0))],
        ..Spec::DEFAULT
    },
    run: smembers,
};

fn smembers(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let set = x.set(&x.key(a.at(1)))?;
    r.set(set.map_or(0, Set::len));
    if let Some(set) = set {
        set.for_each(&mut |member| bulk_item(r, member));
    }
    Ok(())
}

pub static SSCAN: ShardCommand = Command {
    spec: Spec {
        name: "sscan",
        group: Group::Set,
        since: "2.8.0",
        summary: "Walks over a set a piece at a time.",
        complexity: "O(1) a call, O(N) for the whole walk",
        arity: -3,
        flags: Flags::READONLY,
        acl: AclCategory::SET,
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
    run: sscan,
};

fn sscan(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let cursor = Cursor::from_bits(parse_cursor(a.at(2))?);
    let Some(set) = x.set(&x.key(a.at(1)))? else {
        ScanReply::empty(r);
        return Ok(());
    };
    let options = ScanOptions::parse(a, 3, false)?;
    let mut reply = ScanReply::new(options, r.resp3);
    let next = set.scan(cursor, options.count, &mut |member| member.with_bytes(|member| reply.offer(member)));
    reply.finish(next.map_or(0, Cursor::to_bits), r);
    Ok(())
}
