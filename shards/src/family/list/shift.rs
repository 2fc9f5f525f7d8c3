//! Moving one element from a list to a list, which may be the same: LMOVE, RPOPLPUSH, and their forms that wait for an element.

use super::{ENDS, ShardCommand, end_of, limit, push_event, taken, write_item};
use crate::command::{AclCategory, Arg, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec, Split};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::family::blocking::timeout_ms;
use crate::keyspace::waiters::{Awaited, TimeoutReply, Wait};
use crate::keyspace::{Expiry, NewValue, Value};
use crate::reply::Reply;
use crate::split::Division;
use crate::value::chunk::End;
use crate::value::{List, Object};

const MOVE: Spec = Spec {
    group: Group::List,
    flags: Flags::WRITE.with(Flags::DENYOOM),
    acl: AclCategory::LIST,
    keys: &[
        KeySpec::one(1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::DELETE)),
        KeySpec::one(2, KeyAccess::RW.with(KeyAccess::INSERT)),
    ],
    ..Spec::DEFAULT
};

const BLOCKING_MOVE: Spec = Spec { flags: Flags::WRITE.with(Flags::DENYOOM).with(Flags::NOSCRIPT).with(Flags::BLOCKING), ..MOVE };

pub static LMOVE: ShardCommand = Command {
    spec: Spec {
        name: "lmove",
        since: "6.2.0",
        summary: "Moves an element from an end of one list to an end of another.",
        arity: 5,
        args: &[
            Arg::new("source", ArgKind::Key(0)),
            Arg::new("destination", ArgKind::Key(1)),
            Arg::new("wherefrom", ENDS),
            Arg::new("whereto", ENDS),
        ],
        split: Split::By(|division, a| {
            if let (Ok(from), Ok(to)) = (end_of(a, 3), end_of(a, 4)) {
                split_shift(division, a, from, to);
            }
        }),
        ..MOVE
    },
    run: lmove,
};

/// The element is where it was put.
fn split_shift(division: &mut Division<'_>, a: Args<'_>, from: End, to: End) {
    let Some(Value::List(list)) = division.held(a.at(2)) else { return };
    let Some(element) = list.get(if to == End::Front { 0 } else { -1 }, |item| item.to_vec()) else { return };
    division.push(&[if from == End::Front { b"LPOP" } else { b"RPOP" }, a.at(1)]);
    division.push(&[if to == End::Front { b"LPUSH" } else { b"RPUSH" }, a.at(2), &element]);
}

fn lmove(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let (from, to) = (end_of(a, 3)?, end_of(a, 4)?);
    if !shift(x, a, from, to, r)? {
        r.null();
    }
    Ok(())
}

pub static RPOPLPUSH: ShardCommand = Command {
    spec: Spec {
        name: "rpoplpush",
        since: "1.2.0",
        summary: "Moves the last element of a list to the front of another.",
        arity: 3,
        args: &[Arg::new("source", ArgKind::Key(0)), Arg::new("destination", ArgKind::Key(1))],
        split: Split::By(|division, a| split_shift(division, a, End::Back, End::Front)),
        deprecated: Some(("6.2.0", "`LMOVE` with the `RIGHT` and `LEFT` arguments")),
        ..MOVE
    },
    run: rpoplpush,
};

fn rpoplpush(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    if !shift(x, a, End::Back, End::Front, r)? {
        r.null();
    }
    Ok(())
}

pub static BLMOVE: ShardCommand = Command {
    spec: Spec {
        name: "blmove",
        since: "6.2.0",
        summary: "Moves an element from an end of one list to an end of another, waiting for one if there is none.",
        arity: 6,
        args: &[
            Arg::new("source", ArgKind::Key(0)),
            Arg::new("destination", ArgKind::Key(1)),
            Arg::new("wherefrom", ENDS),
            Arg::new("whereto", ENDS),
            Arg::new("timeout", ArgKind::Double),
        ],
        ..BLOCKING_MOVE
    },
    run: blmove,
};

fn blmove(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let (from, to) = (end_of(a, 3)?, end_of(a, 4)?);
    let timeout_ms = timeout_ms(a.at(5), x.now)?;
    if shift(x, a, from, to, r)? {
        // Redis spells the ends itself when it serves a client that has waited.
        let word = |end: End| if end == End::Front { &b"left"[..] } else { b"right" };
        let ends = if x.is_served() { [word(from), word(to)] } else { [a.at(3), a.at(4)] };
        x.effect_of(&LMOVE.spec, &[b"LMOVE", a.at(1), a.at(2), ends[0], ends[1]]);
    } else {
        wait(x, timeout_ms, r);
    }
    Ok(())
}

pub static BRPOPLPUSH: ShardCommand = Command {
    spec: Spec {
        name: "brpoplpush",
        since: "2.2.0",
        summary: "Moves the last element of a list to the front of another, waiting for one if there is none.",
        arity: 4,
        args: &[
            Arg::new("source", ArgKind::Key(0)),
            Arg::new("destination", ArgKind::Key(1)),
            Arg::new("timeout", ArgKind::Double),
        ],
        history: &[("6.0.0", "The timeout may be a fraction of a second.")],
        deprecated: Some(("6.2.0", "`BLMOVE` with the `RIGHT` and `LEFT` arguments")),
        ..BLOCKING_MOVE
    },
    run: brpoplpush,
};

fn brpoplpush(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let timeout_ms = timeout_ms(a.at(3), x.now)?;
    if shift(x, a, End::Back, End::Front, r)? {
        x.effect_of(&RPOPLPUSH.spec, &[b"RPOPLPUSH", a.at(1), a.at(2)]);
    } else {
        wait(x, timeout_ms, r);
    }
    Ok(())
}

/// Where waiting is not allowed the answer is a single null; after a wait it is the null of an array, as for BLPOP.
fn wait(x: &mut Exec<'_>, timeout_ms: i64, r: &mut Reply<'_>) {
    if x.may_block {
        x.wait(Wait { awaited: Awaited::List, timeout_ms, on_timeout: TimeoutReply::NullArray }, r);
    } else {
        r.null();
    }
}

/// Moves an element from the list at `a[1]` to the one at `a[2]` and answers it; false if there is none.
fn shift(x: &mut Exec<'_>, a: Args<'_>, from: End, to: End, r: &mut Reply<'_>) -> Result<bool, Error> {
    let (source, destination, limit) = (x.key(a.at(1)), x.key(a.at(2)), limit(x));
    if x.list_mut(&source)?.is_none() {
        return Ok(false);
    }
    x.list_mut(&destination)?;
    let Some(list) = x.list_mut(&source)? else { return Ok(false) };
    let moved_len = list.pop(from, |item| {
        write_item(r, item);
        item.len()
    });
    // The reply ends with the element and CR LF, and lends it to the push.
    let end = r.out.len() - 2;
    let element = &r.out[end - moved_len.unwrap_or(0)..end];
    match x.list_mut(&destination)? {
        Some(list) => {
            list.push(to, element, limit);
        }
        None => {
            let mut list = List::new();
            list.push(to, element, limit);
            x.store(&destination, NewValue::Object(Object::List(Box::new(list))), Expiry::Clear);
        }
    }
    x.changed_by(&destination, 0);
    push_event(x, to, &destination);
    let emptied = x.list_mut(&source)?.is_some_and(|list| list.is_empty());
    taken(x, from, &source, emptied);
    // Redis does not count the element that a client had waited for.
    x.changed_by(&source, u64::from(!x.is_served()));
    Ok(true)
}
