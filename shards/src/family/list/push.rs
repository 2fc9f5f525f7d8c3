//! LPUSH, RPUSH, and their forms for lists that exist.

use super::{ShardCommand, check_elements, limit, push_event};
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::CommandResult;
use crate::exec::Exec;
use crate::keyspace::{Expiry, NewValue};
use crate::reply::Reply;
use crate::value::chunk::End;
use crate::value::list::ListLimit;
use crate::value::{List, Object};

/// What the four commands have in common.
const PUSH: Spec = Spec {
    group: Group::List,
    complexity: "O(N) in the number of elements pushed",
    arity: -3,
    flags: Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST),
    acl: AclCategory::LIST,
    keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::INSERT))],
    args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("element", ArgKind::String).flags(ArgFlags::MULTIPLE)],
    ..Spec::DEFAULT
};

pub static LPUSH: ShardCommand = Command {
    spec: Spec {
        name: "lpush",
        summary: "Puts elements in front of a list, which is made if there is none.",
        history: &[("2.4.0", "Takes any number of elements.")],
        ..PUSH
    },
    run: |x, a, r| push(x, a, r, End::Front, false),
};

pub static RPUSH: ShardCommand = Command {
    spec: Spec {
        name: "rpush",
        summary: "Puts elements behind a list, which is made if there is none.",
        history: &[("2.4.0", "Takes any number of elements.")],
        ..PUSH
    },
    run: |x, a, r| push(x, a, r, End::Back, false),
};

pub static LPUSHX: ShardCommand = Command {
    spec: Spec {
        name: "lpushx",
        since: "2.2.0",
        summary: "Puts elements in front of a list that exists.",
        history: &[("4.0.0", "Takes any number of elements.")],
        ..PUSH
    },
    run: |x, a, r| push(x, a, r, End::Front, true),
};

pub static RPUSHX: ShardCommand = Command {
    spec: Spec {
        name: "rpushx",
        since: "2.2.0",
        summary: "Puts elements behind a list that exists.",
        history: &[("4.0.0", "Takes any number of elements.")],
        ..PUSH
    },
    run: |x, a, r| push(x, a, r, End::Back, true),
};

#[inline]
fn push(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>, end: End, only_existing: bool) -> CommandResult {
    let elements = a.from(2);
    check_elements(elements)?;
    let (key, limit) = (x.key(a.at(1)), limit(x));
    let len = match x.list_mut(&key)? {
        Some(list) => push_all(list, elements, end, limit),
        None if only_existing => {
            r.integer(0);
            return Ok(());
        }
        None => {
            let mut list = List::new();
            let len = push_all(&mut list, elements, end, limit);
            x.store(&key, NewValue::Object(Object::List(Box::new(list))), Expiry::Clear);
            len
        }
    };
    r.integer(len as i64);
    x.changed_by(&key, elements.len() as u64);
    push_event(x, end, &key);
    Ok(())
}

/// Pushes the elements one after another; returns how many there are then.
#[inline]
fn push_all(list: &mut List, elements: Args<'_>, end: End, limit: ListLimit) -> usize {
    for element in elements.iter() {
        let pushed = list.push(end, element, limit);
        debug_assert!(pushed, "elements that are too large have been refused");
    }
    list.len()
}
