//! Intersection, union and difference: SINTER, SUNION, SDIFF, their STORE forms, and SINTERCARD.

use super::{READ, limits};
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::family::ShardCommand;
use crate::family::elements::bulk_item;
use crate::keyspace::{Expiry, NewValue, OwnedEntry, Value};
use crate::number::parse_i64;
use crate::reply::{Aggregate, Reply};
use crate::settings::NotifyFlags;
use crate::value::Object;
use crate::value::item::Item;
use crate::value::set::{Set, difference, difference_set, intersect, union};

pub static SINTER: ShardCommand = Command {
    spec: Spec {
        name: "sinter",
        group: Group::Set,
        summary: "Tells the members that all of the sets have.",
        complexity: "O(N*M) by the size of the smallest set and the number of sets",
        arity: -2,
        flags: Flags::READONLY,
        acl: AclCategory::SET,
        keys: &[KeySpec::range(1, -1, 1, READ)],
        tips: &["nondeterministic_output_order"],
        args: &[Arg::new("key", ArgKind::Key(0)).flags(ArgFlags::MULTIPLE)],
        ..Spec::DEFAULT
    },
    run: sinter,
};

fn sinter(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let sets = read_sets(x, a.from(1))?;
    let (at, mut count) = (r.deferred(), 0);
    intersect_all(sets, &mut |member| {
        bulk_item(r, member);
        count += 1;
        true
    });
    r.finish(at, Aggregate::Set, count);
    Ok(())
}

pub static SINTERSTORE: ShardCommand = Command {
    spec: Spec {
        name: "sinterstore",
        group: Group::Set,
        summary: "Stores the members that all of the sets have.",
        complexity: "O(N*M) by the size of the smallest set and the number of sets",
        arity: -3,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::SET,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::UPDATE)), KeySpec::range(2, -1, 1, READ)],
        args: &[Arg::new("destination", ArgKind::Key(0)), Arg::new("key", ArgKind::Key(1)).flags(ArgFlags::MULTIPLE)],
        ..Spec::DEFAULT
    },
    run: sinterstore,
};

fn sinterstore(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let (limits, mut result) = (limits(x), Set::new());
    let sets = read_sets(x, a.from(2))?;
    intersect_all(sets, &mut |member| {
        result.add_item(member, &limits);
        true
    });
    store(x, a.at(1), result, "sinterstore", r);
    Ok(())
}

pub static SINTERCARD: ShardCommand = Command {
    spec: Spec {
        name: "sintercard",
        group: Group::Set,
        since: "7.0.0",
        summary: "Counts the members that all of the sets have, up to a limit.",
        complexity: "O(N*M) by the size of the smallest set and the number of sets",
        arity: -3,
        flags: Flags::READONLY,
        acl: AclCategory::SET,
        keys: &[KeySpec::count(1, READ)],
        args: &[
            Arg::new("numkeys", ArgKind::Integer),
            Arg::new("key", ArgKind::Key(0)).flags(ArgFlags::MULTIPLE),
            Arg::new("limit", ArgKind::Integer).token("LIMIT").flags(ArgFlags::OPTIONAL),
        ],
        ..Spec::DEFAULT
    },
    run: sintercard,
};

fn sintercard(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let keys = parse_i64(a.at(1)).filter(|&keys| keys > 0).and_then(|keys| usize::try_from(keys).ok());
    let keys = keys.ok_or(Error::Text("ERR numkeys should be greater than 0"))?;
    if keys > a.len() - 2 {
        return Err(Error::Text("ERR Number of keys can't be greater than number of args"));
    }
    let mut limit = 0;
    for at in (2 + keys..a.len()).step_by(2) {
        if !a.is(at, "limit") || at + 1 >= a.len() {
            return Err(Error::Syntax);
        }
        let number = parse_i64(a.at(at + 1)).and_then(|limit| usize::try_from(limit).ok());
        limit = number.ok_or(Error::Text("ERR LIMIT can't be negative"))?;
    }
    let (sets, mut count) = (read_sets(x, a.slice(2, 2 + keys))?, 0);
    intersect_all(sets, &mut |_| {
        count += 1;
        count != limit
    });
    r.integer(count as i64);
    Ok(())
}

/// Visits the common members of sets of which some may be missing, until `visit` returns false.
fn intersect_all(sets: Vec<Option<&Set>>, visit: &mut dyn FnMut(Item<'_>) -> bool) {
    if let Some(mut sets) = sets.into_iter().collect::<Option<Vec<_>>>() {
        intersect(&mut sets, visit);
    }
}

pub static SUNION: ShardCommand = Command {
    spec: Spec {
        name: "sunion",
        group: Group::Set,
        summary: "Tells the members that any of the sets has.",
        complexity: "O(N) by the members of all sets",
        arity: -2,
        flags: Flags::READONLY,
        acl: AclCategory::SET,
        keys: &[KeySpec::range(1, -1, 1, READ)],
        tips: &["nondeterministic_output_order"],
        args: &[Arg::new("key", ArgKind::Key(0)).flags(ArgFlags::MULTIPLE)],
        ..Spec::DEFAULT
    },
    run: sunion,
};

fn sunion(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let result = union_of(x, a.from(1))?;
    r.set(result.len());
    result.for_each(&mut |member| bulk_item(r, member));
    // A large result is freed in slices, as any value is.
    x.shard.trash.discard(OwnedEntry::new(b"", NewValue::Object(Object::Set(result)), None));
    Ok(())
}

pub static SUNIONSTORE: ShardCommand = Command {
    spec: Spec {
        name: "sunionstore",
        group: Group::Set,
        summary: "Stores the members that any of the sets has.",
        complexity: "O(N) by the members of all sets",
        arity: -3,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::SET,
        keys: &[KeySpec::one(1, KeyAccess::OW.with(KeyAccess::UPDATE)), KeySpec::range(2, -1, 1, READ)],
        args: &[Arg::new("destination", ArgKind::Key(0)), Arg::new("key", ArgKind::Key(1)).flags(ArgFlags::MULTIPLE)],
        ..Spec::DEFAULT
    },
    run: sunionstore,
};

fn sunionstore(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let result = union_of(x, a.from(2))?;
    store(x, a.at(1), result, "sunionstore", r);
    Ok(())
}

fn union_of(x: &mut Exec<'_>, keys: Args<'_>) -> Result<Set, Error> {
    let limits = limits(x);
    let sets: Vec<&Set> = read_sets(x, keys)?.into_iter().flatten().collect();
    Ok(union(&sets, &limits))
}

pub static SDIFF: ShardCommand = Command {
    spec: Spec {
        name: "sdiff",
        group: Group::Set,
        summary: "Tells the members of the first set that none of the others has.",
        complexity: "O(N) by the members of all sets",
        arity: -2,
        flags: Flags::READONLY,
        acl: AclCategory::SET,
        keys: &[KeySpec::range(1, -1, 1, READ)],
        tips: &["nondeterministic_output_order"],
        args: &[Arg::new("key", ArgKind::Key(0)).flags(ArgFlags::MULTIPLE)],
        ..Spec::DEFAULT
    },
    run: sdiff,
};

fn sdiff(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let (at, mut count) = (r.deferred(), 0);
    subtract_all(x, a.from(1), &mut |member| {
        bulk_item(r, member);
        count += 1;
    })?;
    r.finish(at, Aggregate::Set, count);
    Ok(())
}

pub static SDIFFSTORE: ShardCommand = Command {
    spec: Spec {
        name: "sdiffstore",
        group: Group::Set,
        summary: "Stores the members of the first set that none of the others has.",
        complexity: "O(N) by the members of all sets",
        arity: -3,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::SET,
        keys: &[KeySpec::one(1, KeyAccess::OW.with(KeyAccess::UPDATE)), KeySpec::range(2, -1, 1, READ)],
        args: &[Arg::new("destination", ArgKind::Key(0)), Arg::new("key", ArgKind::Key(1)).flags(ArgFlags::MULTIPLE)],
        ..Spec::DEFAULT
    },
    run: sdiffstore,
};

fn sdiffstore(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let limits = limits(x);
    let mut sets = read_sets(x, a.from(2))?.into_iter();
    let result = match sets.next().flatten() {
        Some(first) => difference_set(first, &mut sets.flatten().collect::<Vec<_>>(), &limits),
        None => Set::new(),
    };
    store(x, a.at(1), result, "sdiffstore", r);
    Ok(())
}

/// Visits the members of the set at the first key that no other key's set has.
fn subtract_all(x: &mut Exec<'_>, keys: Args<'_>, visit: &mut dyn FnMut(Item<'_>)) -> CommandResult {
    let limits = limits(x);
    let mut sets = read_sets(x, keys)?.into_iter();
    if let Some(Some(first)) = sets.next() {
        difference(first, &mut sets.flatten().collect::<Vec<_>>(), &limits, visit);
    }
    Ok(())
}

/// The sets at `keys`, in their order, `None` where there is no key.
fn read_sets<'x>(x: &'x mut Exec<'_>, keys: Args<'_>) -> Result<Vec<Option<&'x Set>>, Error> {
    for key in keys.iter() {
        x.set(&x.key(key))?;
    }
    // Every key has been looked up, so what is there now is a set and has not expired.
    let db = &x.shard.dbs[x.db];
    let set_at = |key| match db.value(&x.key(key)) {
        Some(Value::Set(set)) => Some(set),
        _ => None,
    };
    Ok(keys.iter().map(set_at).collect())
}

/// Puts a result in the place of whatever is at `destination`, or removes that if the result is empty.
fn store(x: &mut Exec<'_>, destination: &[u8], result: Set, event: &'static str, r: &mut Reply<'_>) {
    let key = x.key(destination);
    r.integer(result.len() as i64);
    if !result.is_empty() {
        x.store(&key, NewValue::Object(Object::Set(result)), Expiry::Clear);
        x.changed(&key);
        x.event(NotifyFlags::SET, event, &key);
    } else if x.delete_even_expired(&key) {
        x.changed(&key);
        x.event(NotifyFlags::GENERIC, "del", &key);
    }
}
