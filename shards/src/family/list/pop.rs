//! Taking elements from one end of one list: LPOP, RPOP, LMPOP, and their forms that wait for an element.

use super::{ENDS, ShardCommand, end_of, number_from, taken, write_item};
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::family::blocking::timeout_ms;
use crate::keyspace::waiters::{Awaited, TimeoutReply, Wait};
use crate::reply::Reply;
use crate::value::List;
use crate::value::chunk::End;

const TAKEN: KeyAccess = KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::DELETE);

const POP: Spec = Spec {
    group: Group::List,
    complexity: "O(N) in the number of elements taken",
    arity: -2,
    flags: Flags::WRITE.with(Flags::FAST),
    acl: AclCategory::LIST,
    keys: &[KeySpec::one(1, TAKEN)],
    args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("count", ArgKind::Integer).flags(ArgFlags::OPTIONAL).since("6.2.0")],
    history: &[("6.2.0", "Takes `count`.")],
    ..Spec::DEFAULT
};

pub static LPOP: ShardCommand = Command {
    spec: Spec { name: "lpop", summary: "Takes the first element of a list, or the first few.", ..POP },
    run: |x, a, r| pop(x, a, r, End::Front),
};

pub static RPOP: ShardCommand = Command {
    spec: Spec { name: "rpop", summary: "Takes the last element of a list, or the last few.", ..POP },
    run: |x, a, r| pop(x, a, r, End::Back),
};

#[inline]
fn pop(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>, end: End) -> CommandResult {
    if a.len() > 3 {
        return Err(Error::Owned(format!("ERR wrong number of arguments for '{}' command", x.spec.name)));
    }
    let count = match a.get(2) {
        Some(text) => Some(number_from(0, text, "ERR value is out of range, must be positive")?),
        None => None,
    };
    let key = x.key(a.at(1));
    match x.list_mut(&key)? {
        None if count.is_none() => r.null(),
        None => r.null_array(),
        Some(_) if count == Some(0) => r.array(0),
        Some(list) => {
            let popped = write_popped(list, end, count, r);
            let emptied = list.is_empty();
            taken(x, end, &key, emptied);
            x.changed_by(&key, popped as u64);
        }
    }
    Ok(())
}

/// Takes up to `count` elements (one if none is given, and then not as an array) and writes them as they come. Returns how
/// many.
#[inline]
fn write_popped(list: &mut List, end: End, count: Option<usize>, r: &mut Reply<'_>) -> usize {
    let popped = match count {
        None => 1,
        Some(count) => {
            let popped = count.min(list.len());
            r.array(popped);
            popped
        }
    };
    for _ in 0..popped {
        list.pop(end, |item| write_item(r, item));
    }
    popped
}

pub static LMPOP: ShardCommand = Command {
    spec: Spec {
        name: "lmpop",
        group: Group::List,
        since: "7.0.0",
        summary: "Takes elements from the first of several lists that has any.",
        complexity: "O(N+M) for N keys and M elements taken",
        arity: -4,
        flags: Flags::WRITE,
        acl: AclCategory::LIST,
        keys: &[KeySpec::count(1, TAKEN)],
        args: &[
            Arg::new("numkeys", ArgKind::Integer),
            Arg::new("key", ArgKind::Key(0)).flags(ArgFlags::MULTIPLE),
            Arg::new("where", ENDS),
            Arg::new("count", ArgKind::Integer).token("COUNT").flags(ArgFlags::OPTIONAL),
        ],
        ..Spec::DEFAULT
    },
    run: lmpop,
};

fn lmpop(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let (keys, end, count) = mpop_options(a, 1)?;
    if !pop_first(x, keys, end, Some(count), r)? {
        r.null_array();
    }
    Ok(())
}

/// Keys, end and count, of arguments whose number of keys is at `index`.
fn mpop_options(a: Args<'_>, index: usize) -> Result<(Args<'_>, End, usize), Error> {
    let keys = number_from(1, a.at(index), "ERR numkeys should be greater than 0")?;
    let end_index = keys.checked_add(index + 1).filter(|&at| at < a.len()).ok_or(Error::Syntax)?;
    let end = end_of(a, end_index)?;
    let options = a.from(end_index + 1);
    let count = match options.len() {
        0 => 1,
        // A second COUNT is an error, but only after the first one's number.
        2.. if options.is(0, "count") => {
            let count = number_from(1, options.at(1), "ERR count should be greater than 0")?;
            if options.len() > 2 {
                return Err(Error::Syntax);
            }
            count
        }
        _ => return Err(Error::Syntax),
    };
    Ok((a.slice(index + 1, end_index), end, count))
}

/// Takes from the first of the keys that holds a list, as an array of its name and what was taken; false if none does.
/// The effect names that key alone.
fn pop_first(x: &mut Exec<'_>, keys: Args<'_>, end: End, count: Option<usize>, r: &mut Reply<'_>) -> Result<bool, Error> {
    for name in keys.iter() {
        if !x.may_serve(name) {
            continue;
        }
        let key = x.key(name);
        let Some(list) = x.list_mut(&key)? else { continue };
        r.array(2);
        r.bulk(name);
        let popped = write_popped(list, end, count, r);
        let emptied = list.is_empty();
        taken(x, end, &key, emptied);
        // Redis does not count the element that a client had waited for.
        let uncounted = x.is_served() && count.is_none();
        x.changed_by(&key, if uncounted { 0 } else { popped as u64 });
        let command: &[u8] = if end == End::Front { b"LPOP" } else { b"RPOP" };
        match count {
            None => x.effect(&[command, name]),
            Some(_) => x.effect(&[command, name, itoa::Buffer::new().format(popped).as_bytes()]),
        }
        return Ok(true);
    }
    Ok(false)
}

const BLOCKING_POP: Spec = Spec {
    group: Group::List,
    since: "2.0.0",
    complexity: "O(N) in the number of keys",
    arity: -3,
    flags: Flags::WRITE.with(Flags::NOSCRIPT).with(Flags::BLOCKING),
    acl: AclCategory::LIST,
    keys: &[KeySpec::range(1, -2, 1, TAKEN)],
    args: &[Arg::new("key", ArgKind::Key(0)).flags(ArgFlags::MULTIPLE), Arg::new("timeout", ArgKind::Double)],
    history: &[("6.0.0", "The timeout may be a fraction of a second.")],
    ..Spec::DEFAULT
};

pub static BLPOP: ShardCommand = Command {
    spec: Spec {
        name: "blpop",
        summary: "Takes the first element of the first of several lists that has any, waiting for one if none has.",
        ..BLOCKING_POP
    },
    run: |x, a, r| blocking_pop(x, a, r, End::Front),
};

pub static BRPOP: ShardCommand = Command {
    spec: Spec {
        name: "brpop",
        summary: "Takes the last element of the first of several lists that has any, waiting for one if none has.",
        ..BLOCKING_POP
    },
    run: |x, a, r| blocking_pop(x, a, r, End::Back),
};

fn blocking_pop(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>, end: End) -> CommandResult {
    let last = a.len() - 1;
    let timeout_ms = timeout_ms(a.at(last), x.now)?;
    pop_or_wait(x, a.slice(1, last), end, None, timeout_ms, r)
}

fn pop_or_wait(
    x: &mut Exec<'_>,
    keys: Args<'_>,
    end: End,
    count: Option<usize>,
    timeout_ms: i64,
    r: &mut Reply<'_>,
) -> CommandResult {
    if !pop_first(x, keys, end, count, r)? {
        x.wait(Wait { awaited: Awaited::List, timeout_ms, on_timeout: TimeoutReply::NullArray }, r);
    }
    Ok(())
}

pub static BLMPOP: ShardCommand = Command {
    spec: Spec {
        name: "blmpop",
        group: Group::List,
        since: "7.0.0",
        summary: "Takes elements from the first of several lists that has any, waiting for some if none has.",
        complexity: "O(N+M) for N keys and M elements taken",
        arity: -5,
        flags: Flags::WRITE.with(Flags::BLOCKING),
        acl: AclCategory::LIST,
        keys: &[KeySpec::count(2, TAKEN)],
        args: &[
            Arg::new("timeout", ArgKind::Double),
            Arg::new("numkeys", ArgKind::Integer),
            Arg::new("key", ArgKind::Key(0)).flags(ArgFlags::MULTIPLE),
            Arg::new("where", ENDS),
            Arg::new("count", ArgKind::Integer).token("COUNT").flags(ArgFlags::OPTIONAL),
        ],
        ..Spec::DEFAULT
    },
    run: blmpop,
};

fn blmpop(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let (keys, end, count) = mpop_options(a, 2)?;
    let timeout_ms = timeout_ms(a.at(1), x.now)?;
    pop_or_wait(x, keys, end, Some(count), timeout_ms, r)
}
