//! Removing members from either end, and waiting for some to come.

use super::write_member;
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::family::ShardCommand;
use crate::family::blocking::timeout_ms;
use crate::keyspace::Key;
use crate::keyspace::waiters::{Awaited, TimeoutReply, Wait};
use crate::number::parse_i64;
use crate::reply::Reply;
use crate::settings::NotifyFlags;
use crate::value::SortedSet;
use crate::value::item::Item;

/// Which end of a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Min,
    Max,
}

/// How popped members are answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// member, score, member, score …
    Flat,
    /// [member, score], [member, score] …
    Pairs,
    /// key, member, score
    KeyFlat,
    /// key, [[member, score] …]
    KeyPairs,
}

pub static ZPOPMIN: ShardCommand = Command {
    spec: Spec {
        name: "zpopmin",
        group: Group::SortedSet,
        since: "5.0.0",
        summary: "Removes and returns the members with the lowest scores.",
        complexity: "O(M*log(N)), M being the number of members removed.",
        arity: -2,
        flags: Flags::WRITE.with(Flags::FAST),
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::DELETE))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("count", ArgKind::Integer).flags(ArgFlags::OPTIONAL)],
        ..Spec::DEFAULT
    },
    run: zpopmin,
};

fn zpopmin(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    pop_command(x, a, End::Min, r)
}

pub static ZPOPMAX: ShardCommand = Command {
    spec: Spec {
        name: "zpopmax",
        group: Group::SortedSet,
        since: "5.0.0",
        summary: "Removes and returns the members with the highest scores.",
        complexity: "O(M*log(N)), M being the number of members removed.",
        arity: -2,
        flags: Flags::WRITE.with(Flags::FAST),
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::DELETE))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("count", ArgKind::Integer).flags(ArgFlags::OPTIONAL)],
        ..Spec::DEFAULT
    },
    run: zpopmax,
};

fn zpopmax(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    pop_command(x, a, End::Max, r)
}

fn pop_command(x: &mut Exec<'_>, a: Args<'_>, end: End, r: &mut Reply<'_>) -> CommandResult {
    if a.len() > 3 {
        return Err(Error::Syntax);
    }
    let count = match a.get(2) {
        None => 1,
        Some(text) => count_from(text, 0, "ERR value is out of range, must be positive")?,
    };
    let form = if r.resp3 && a.len() == 3 { Form::Pairs } else { Form::Flat };
    let key = x.key(a.at(1));
    if x.sorted_set_mut(&key)?.is_none() || count == 0 {
        r.array(0);
    } else {
        pop(x, &key, end, count, form, r)?;
    }
    Ok(())
}

pub static ZMPOP: ShardCommand = Command {
    spec: Spec {
        name: "zmpop",
        group: Group::SortedSet,
        since: "7.0.0",
        summary: "Removes and returns members of the first sorted set that has any.",
        complexity: "O(K+M*log(N)), K being the number of keys and M the number of members removed.",
        arity: -4,
        flags: Flags::WRITE,
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::count(1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::DELETE))],
        args: &[
            Arg::new("numkeys", ArgKind::Integer),
            Arg::new("key", ArgKind::Key(0)).flags(ArgFlags::MULTIPLE),
            Arg::new(
                "where",
                ArgKind::OneOf(&[
                    Arg::new("min", ArgKind::PureToken).token("MIN"),
                    Arg::new("max", ArgKind::PureToken).token("MAX"),
                ]),
            ),
            Arg::new("count", ArgKind::Integer).token("COUNT").flags(ArgFlags::OPTIONAL),
        ],
        ..Spec::DEFAULT
    },
    run: zmpop,
};

fn zmpop(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let request = MultiPop::parse(a, 1)?;
    if !pop_first_of(x, request.keys, request.end, Some(request.count), Form::KeyPairs, r)? {
        r.null_array();
    }
    Ok(())
}

pub static BZPOPMIN: ShardCommand = Command {
    spec: Spec {
        name: "bzpopmin",
        group: Group::SortedSet,
        since: "5.0.0",
        summary: "Removes and returns the member with the lowest score, waiting for one if there is none.",
        complexity: "O(log(N))",
        arity: -3,
        flags: Flags::WRITE.with(Flags::NOSCRIPT).with(Flags::BLOCKING).with(Flags::FAST),
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::range(1, -2, 1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::DELETE))],
        args: &[Arg::new("key", ArgKind::Key(0)).flags(ArgFlags::MULTIPLE), Arg::new("timeout", ArgKind::Double)],
        history: &[("6.0.0", "The timeout may have a fraction.")],
        ..Spec::DEFAULT
    },
    run: bzpopmin,
};

fn bzpopmin(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    blocking_pop(x, a, End::Min, r)
}

pub static BZPOPMAX: ShardCommand = Command {
    spec: Spec {
        name: "bzpopmax",
        group: Group::SortedSet,
        since: "5.0.0",
        summary: "Removes and returns the member with the highest score, waiting for one if there is none.",
        complexity: "O(log(N))",
        arity: -3,
        flags: Flags::WRITE.with(Flags::NOSCRIPT).with(Flags::BLOCKING).with(Flags::FAST),
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::range(1, -2, 1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::DELETE))],
        args: &[Arg::new("key", ArgKind::Key(0)).flags(ArgFlags::MULTIPLE), Arg::new("timeout", ArgKind::Double)],
        history: &[("6.0.0", "The timeout may have a fraction.")],
        ..Spec::DEFAULT
    },
    run: bzpopmax,
};

fn bzpopmax(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    blocking_pop(x, a, End::Max, r)
}

fn blocking_pop(x: &mut Exec<'_>, a: Args<'_>, end: End, r: &mut Reply<'_>) -> CommandResult {
    let timeout_ms = timeout_ms(a.at(a.len() - 1), x.now)?;
    if !pop_first_of(x, a.slice(1, a.len() - 1), end, None, Form::KeyFlat, r)? {
        wait(x, timeout_ms, r);
    }
    Ok(())
}

pub static BZMPOP: ShardCommand = Command {
    spec: Spec {
        name: "bzmpop",
        group: Group::SortedSet,
        since: "7.0.0",
        summary: "Removes and returns members of the first sorted set that has any, waiting if there is none.",
        complexity: "O(K+M*log(N)), K being the number of keys and M the number of members removed.",
        arity: -5,
        flags: Flags::WRITE.with(Flags::BLOCKING),
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::count(2, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::DELETE))],
        args: &[
            Arg::new("timeout", ArgKind::Double),
            Arg::new("numkeys", ArgKind::Integer),
            Arg::new("key", ArgKind::Key(0)).flags(ArgFlags::MULTIPLE),
            Arg::new(
                "where",
                ArgKind::OneOf(&[
                    Arg::new("min", ArgKind::PureToken).token("MIN"),
                    Arg::new("max", ArgKind::PureToken).token("MAX"),
                ]),
            ),
            Arg::new("count", ArgKind::Integer).token("COUNT").flags(ArgFlags::OPTIONAL),
        ],
        ..Spec::DEFAULT
    },
    run: bzmpop,
};

fn bzmpop(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let request = MultiPop::parse(a, 2)?;
    let timeout_ms = timeout_ms(a.at(1), x.now)?;
    if !pop_first_of(x, request.keys, request.end, Some(request.count), Form::KeyPairs, r)? {
        wait(x, timeout_ms, r);
    }
    Ok(())
}

fn wait(x: &mut Exec<'_>, timeout_ms: i64, r: &mut Reply<'_>) {
    x.wait(Wait { awaited: Awaited::SortedSet, timeout_ms, on_timeout: TimeoutReply::NullArray }, r);
}

/// What ZMPOP and BZMPOP ask for.
struct MultiPop<'a> {
    keys: Args<'a>,
    end: End,
    count: usize,
}

impl<'a> MultiPop<'a> {
    /// The number of keys stands at `at`.
    fn parse(a: Args<'a>, at: usize) -> Result<Self, Error> {
        let keys = count_from(a.at(at), 1, "ERR numkeys should be greater than 0")?;
        let end_at = keys.checked_add(at + 1).filter(|&end_at| end_at < a.len()).ok_or(Error::Syntax)?;
        let end = if a.is(end_at, "min") {
            End::Min
        } else if a.is(end_at, "max") {
            End::Max
        } else {
            return Err(Error::Syntax);
        };
        let count = match a.len() - end_at - 1 {
            0 => 1,
            // A second COUNT is an error behind the first one's value.
            more if more >= 2 && a.is(end_at + 1, "count") => {
                let count = count_from(a.at(end_at + 2), 1, "ERR count should be greater than 0")?;
                if more > 2 {
                    return Err(Error::Syntax);
                }
                count
            }
            _ => return Err(Error::Syntax),
        };
        Ok(MultiPop { keys: a.slice(at + 1, end_at), end, count })
    }
}

/// A number of at least `least`; whatever else stands there is answered with `message`.
fn count_from(text: &[u8], least: i64, message: &'static str) -> Result<usize, Error> {
    parse_i64(text).filter(|&number| number >= least).map(|number| number as usize).ok_or(Error::Text(message))
}

/// Pops from the first key that holds a sorted set, and says so as ZPOPMIN or ZPOPMAX; false if there is none. Without a
/// count, one member is popped.
fn pop_first_of(
    x: &mut Exec<'_>,
    keys: Args<'_>,
    end: End,
    count: Option<usize>,
    form: Form,
    r: &mut Reply<'_>,
) -> Result<bool, Error> {
    for name in keys.iter() {
        if !x.may_serve(name) {
            continue;
        }
        let key = x.key(name);
        if x.sorted_set_mut(&key)?.is_none() {
            continue;
        }
        let popped = pop(x, &key, end, count.unwrap_or(1), form, r)?;
        let command: &[u8] = if end == End::Min { b"ZPOPMIN" } else { b"ZPOPMAX" };
        match count {
            None => x.effect(&[command, key.bytes]),
            Some(_) => x.effect(&[command, key.bytes, itoa::Buffer::new().format(popped).as_bytes()]),
        }
        return Ok(true);
    }
    Ok(false)
}

/// Pops up to `count` members of a set that is there; returns how many.
fn pop(x: &mut Exec<'_>, key: &Key<'_>, end: End, count: usize, form: Form, r: &mut Reply<'_>) -> Result<usize, Error> {
    let Some(set) = x.sorted_set_mut(key)? else { return Ok(0) };
    let count = count.min(set.len());
    match form {
        Form::Flat => r.array(2 * count),
        Form::Pairs => r.array(count),
        Form::KeyFlat => {
            r.array(1 + 2 * count);
            r.bulk(key.bytes);
        }
        Form::KeyPairs => {
            r.array(2);
            r.bulk(key.bytes);
            r.array(count);
        }
    }
    let in_pairs = matches!(form, Form::Pairs | Form::KeyPairs);
    let emptied = take(set, end, count, &mut |member, score| {
        if in_pairs {
            r.array(2);
        }
        write_member(r, Item::Bytes(member));
        r.double(score);
    });
    x.changed_by(key, count as u64);
    x.event(NotifyFlags::ZSET, if end == End::Min { "zpopmin" } else { "zpopmax" }, key);
    if emptied {
        x.delete_emptied(key);
    }
    Ok(count)
}

/// Hands over `count` members from one end, and takes them out; true when none is left.
fn take(set: &mut SortedSet, end: End, count: usize, visit: &mut dyn FnMut(&[u8], f64)) -> bool {
    match end {
        End::Min => set.remove_ranks(0..count, visit),
        End::Max => {
            // One at a time: removal by ranks goes upwards, the reply downwards.
            (0..count).map(|_| set.remove_ranks(set.len() - 1..set.len(), &mut *visit)).sum()
        }
    };
    set.is_empty()
}
