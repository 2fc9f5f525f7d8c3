//! Members drawn at random: SPOP takes them out, SRANDMEMBER leaves them there.

use super::{READ, limits};
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::family::ShardCommand;
use crate::family::elements::{Draws, bulk_item};
use crate::keyspace::{Expiry, Key, NewValue};
use crate::number::parse_i64;
use crate::random::Random;
use crate::reply::Reply;
use crate::settings::NotifyFlags;
use crate::value::Object;
use crate::value::item::Item;
use crate::value::set::Set;

pub static SPOP: ShardCommand = Command {
    spec: Spec {
        name: "spop",
        group: Group::Set,
        summary: "Takes random members out of a set.",
        complexity: "O(N) by the number of members taken",
        arity: -2,
        flags: Flags::WRITE.with(Flags::FAST),
        acl: AclCategory::SET,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::DELETE))],
        tips: &["nondeterministic_output"],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("count", ArgKind::Integer).flags(ArgFlags::OPTIONAL).since("3.2.0")],
        history: &[("3.2.0", "Takes a count.")],
        ..Spec::DEFAULT
    },
    run: spop,
};

fn spop(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let count = match a.len() {
        2 => None,
        3 => {
            let count = parse_i64(a.at(2)).and_then(|count| usize::try_from(count).ok());
            Some(count.ok_or(Error::Text("ERR value is out of range, must be positive"))?)
        }
        _ => return Err(Error::Syntax),
    };
    let key = x.key(a.at(1));
    let Some(size) = x.set_mut(&key)?.map(|set| set.len()) else {
        if count.is_some() {
            r.set(0)
        } else {
            r.null()
        }
        return Ok(());
    };
    match count {
        None => pop_one(x, &key, r),
        Some(0) => {
            r.set(0);
            Ok(())
        }
        Some(count) => {
            x.event(NotifyFlags::SET, "spop", &key);
            x.changed_by(&key, count.min(size) as u64);
            if count >= size { pop_all(x, &key, r) } else { pop_some(x, &key, count, size - count, r) }
        }
    }
}

fn pop_one(x: &mut Exec<'_>, key: &Key<'_>, r: &mut Reply<'_>) -> CommandResult {
    let mut random = Random::new(x.shard.random.next());
    let mut popped = Vec::new();
    let Some(set) = x.set_mut(key)? else { return Ok(()) };
    set.pop(&mut random, &mut |member| member.write_to(&mut popped));
    let is_empty = set.is_empty();
    r.bulk(&popped);
    x.event(NotifyFlags::SET, "spop", key);
    x.effect(&[b"SREM", key.bytes, &popped]);
    if is_empty {
        x.delete_emptied(key);
    }
    x.changed(key);
    Ok(())
}

/// The whole set is taken: to followers that is a deletion.
fn pop_all(x: &mut Exec<'_>, key: &Key<'_>, r: &mut Reply<'_>) -> CommandResult {
    if let Some(set) = x.set(key)? {
        r.set(set.len());
        set.for_each(&mut |member| bulk_item(r, member));
    }
    x.delete_emptied(key);
    x.effect(&[b"DEL", key.bytes]);
    Ok(())
}

/// Where less than one member in this many stays, those that stay are drawn instead of those that go.
const FEW_STAY: usize = 5;

/// `count` members are taken and `staying` stay, neither of them 0.
fn pop_some(x: &mut Exec<'_>, key: &Key<'_>, count: usize, staying: usize, r: &mut Reply<'_>) -> CommandResult {
    let mut random = Random::new(x.shard.random.next());
    let mut popped: Vec<Vec<u8>> = Vec::new();
    let limits = limits(x);
    let wants_effects = x.wants_effects();
    let Some(set) = x.set_mut(key)? else { return Ok(()) };
    r.set(count);
    let mut write = |member: Item<'_>| {
        bulk_item(r, member);
        if wants_effects {
            popped.push(member.to_vec());
        }
    };
    if staying.saturating_mul(FEW_STAY) > count {
        (0..count).for_each(|_| _ = set.pop(&mut random, &mut write));
    } else {
        let mut rest = Set::new();
        set.sample(staying, &mut random, &mut |member| _ = rest.add_item(member, &limits));
        set.iter().filter(|member| !rest.contains_item(*member)).for_each(&mut write);
        x.store(key, NewValue::Object(Object::Set(rest)), Expiry::Keep);
    }
    for member in &popped {
        x.effect(&[b"SREM", key.bytes, member]);
    }
    Ok(())
}

pub static SRANDMEMBER: ShardCommand = Command {
    spec: Spec {
        name: "srandmember",
        group: Group::Set,
        summary: "Draws members of a set at random and leaves them there.",
        complexity: "O(N) by the number of members drawn",
        arity: -2,
        flags: Flags::READONLY,
        acl: AclCategory::SET,
        keys: &[KeySpec::one(1, READ)],
        tips: &["nondeterministic_output"],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("count", ArgKind::Integer).flags(ArgFlags::OPTIONAL).since("2.6.0")],
        history: &[("2.6.0", "Takes a count.")],
        ..Spec::DEFAULT
    },
    run: srandmember,
};

fn srandmember(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let draws = match a.len() {
        2 => None,
        3 => Some(Draws::parse(a.at(2))?),
        _ => return Err(Error::Syntax),
    };
    // A generator of its own, as the set stays borrowed from the shard.
    let mut random = Random::new(x.shard.random.next());
    let set = x.set(&x.key(a.at(1)))?;
    let Some(set) = set else {
        if draws.is_some() {
            r.array(0)
        } else {
            r.null()
        }
        return Ok(());
    };
    match draws {
        None => set.random(&mut random).into_iter().for_each(|member| bulk_item(r, member)),
        Some(Draws::Repeated(count)) => {
            r.array(count);
            (0..count).filter_map(|_| set.random(&mut random)).for_each(|member| bulk_item(r, member));
        }
        Some(Draws::Different(count)) => {
            let count = count.min(set.len());
            r.array(count);
            let mut write = |member: Item<'_>| bulk_item(r, member);
            if count == set.len() { set.for_each(&mut write) } else { set.sample(count, &mut random, &mut write) }
        }
    }
    Ok(())
}
