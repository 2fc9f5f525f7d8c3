//! Reading and editing a list by index and by value: LLEN, LINDEX, LRANGE, LPOS, LSET, LINSERT, LREM, LTRIM.

use super::{ShardCommand, check_elements, integer, limit, number_from, write_item};
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::number::parse_i64;
use crate::reply::{Aggregate, Reply};
use crate::settings::NotifyFlags;
use crate::value::item::Item;

const READ: Spec = Spec {
    group: Group::List,
    complexity: "O(N) in the length of the list",
    flags: Flags::READONLY,
    acl: AclCategory::LIST,
    keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
    ..Spec::DEFAULT
};

pub static LLEN: ShardCommand = Command {
    spec: Spec {
        name: "llen",
        group: Group::List,
        summary: "Tells the number of a list's elements.",
        arity: 2,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::LIST,
        keys: &[KeySpec::one(1, KeyAccess::RO)],
        args: &[Arg::new("key", ArgKind::Key(0))],
        ..Spec::DEFAULT
    },
    run: llen,
};

fn llen(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let len = x.list(&x.key(a.at(1)))?.map_or(0, |list| list.len());
    r.integer(len as i64);
    Ok(())
}

pub static LINDEX: ShardCommand = Command {
    spec: Spec {
        name: "lindex",
        summary: "Reads the element at an index.",
        complexity: "O(N) in the distance to the nearer end; O(1) at the ends",
        arity: 3,
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("index", ArgKind::Integer)],
        ..READ
    },
    run: lindex,
};

fn lindex(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let found = match x.list(&x.key(a.at(1)))? {
        Some(list) => list.get(integer(a.at(2))?, |item| write_item(r, item)),
        None => None,
    };
    if found.is_none() {
        r.null();
    }
    Ok(())
}

pub static LRANGE: ShardCommand = Command {
    spec: Spec {
        name: "lrange",
        summary: "Reads the elements between two indexes.",
        complexity: "O(S+N) for the distance S of the first element from the nearer end and N elements",
        arity: 4,
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("start", ArgKind::Integer), Arg::new("stop", ArgKind::Integer)],
        ..READ
    },
    run: lrange,
};

fn lrange(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let (start, stop) = (integer(a.at(2))?, integer(a.at(3))?);
    let Some(list) = x.list(&x.key(a.at(1)))? else {
        r.array(0);
        return Ok(());
    };
    let (first, count) = span(start, stop, list.len());
    r.array(count);
    list.range(first, count).for_each(|item| write_item(r, item));
    Ok(())
}

/// The first element and the number of elements of `start..=stop`, which count from the tail if negative, in a list of `len`.
fn span(start: i64, stop: i64, len: usize) -> (usize, usize) {
    let from_head = |index: i64| if index < 0 { index.saturating_add_unsigned(len as u64) } else { index };
    let first = usize::try_from(from_head(start)).unwrap_or(0);
    let end = usize::try_from(from_head(stop).saturating_add(1)).unwrap_or(0).min(len);
    (first, end.saturating_sub(first))
}

pub static LPOS: ShardCommand = Command {
    spec: Spec {
        name: "lpos",
        since: "6.0.6",
        summary: "Finds the indexes of elements equal to a value.",
        arity: -3,
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("element", ArgKind::String),
            Arg::new("rank", ArgKind::Integer).token("RANK").flags(ArgFlags::OPTIONAL),
            Arg::new("num-matches", ArgKind::Integer).token("COUNT").flags(ArgFlags::OPTIONAL),
            Arg::new("len", ArgKind::Integer).token("MAXLEN").flags(ArgFlags::OPTIONAL),
        ],
        ..READ
    },
    run: lpos,
};

struct Search {
    /// Backwards from the tail.
    backwards: bool,
    /// Matches to be passed over.
    skipped: u64,
    /// `None`: the first match alone, not as an array; 0: all matches.
    count: Option<usize>,
    /// Elements to be compared; 0: all.
    len_max: usize,
}

fn lpos(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let search = search_options(a)?;
    let sought = parse_i64(a.at(2)).map_or(Item::Bytes(a.at(2)), Item::Int);
    let Some(list) = x.list(&x.key(a.at(1)))? else {
        if search.count.is_some() {
            r.array(0)
        } else {
            r.null()
        }
        return Ok(());
    };
    let header = r.deferred();
    let compared = if search.len_max == 0 { usize::MAX } else { search.len_max };
    let wanted = match search.count {
        None => 1,
        Some(0) => usize::MAX,
        Some(count) => count,
    };
    let mut walk = if search.backwards { list.range_rev(0, compared) } else { list.range(0, compared) };
    let (mut skipped, mut found, mut passed) = (0, 0, 0);
    while found < wanted
        && let Some(item) = walk.next()
    {
        if item == sought && skipped < search.skipped {
            skipped += 1;
        } else if item == sought {
            r.integer(if search.backwards { list.len() - 1 - passed } else { passed } as i64);
            found += 1;
        }
        passed += 1;
    }
    if search.count.is_some() {
        r.finish(header, Aggregate::Array, found);
    } else if found == 0 {
        r.null();
    }
    Ok(())
}

fn search_options(a: Args<'_>) -> Result<Search, Error> {
    let mut search = Search { backwards: false, skipped: 0, count: None, len_max: 0 };
    let mut at = 3;
    while at < a.len() {
        let Some(value) = a.get(at + 1) else { return Err(Error::Syntax) };
        if a.is(at, "rank") {
            let rank = integer(value)?;
            if rank == 0 {
                return Err(Error::Text(
                    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... \
                     or use negative to start from the end of the list",
                ));
            }
            search.backwards = rank < 0;
            search.skipped = rank.unsigned_abs() - 1;
        } else if a.is(at, "count") {
            search.count = Some(number_from(0, value, "ERR COUNT can't be negative")?);
        } else if a.is(at, "maxlen") {
            search.len_max = number_from(0, value, "ERR MAXLEN can't be negative")?;
        } else {
            return Err(Error::Syntax);
        }
        at += 2;
    }
    Ok(search)
}

pub static LSET: ShardCommand = Command {
    spec: Spec {
        name: "lset",
        group: Group::List,
        summary: "Replaces the element at an index.",
        complexity: "O(N) in the distance to the nearer end; O(1) at the ends",
        arity: 4,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::LIST,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::UPDATE))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("index", ArgKind::Integer), Arg::new("element", ArgKind::String)],
        ..Spec::DEFAULT
    },
    run: lset,
};

fn lset(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    check_elements(a.from(3))?;
    let (key, limit) = (x.key(a.at(1)), limit(x));
    let list = x.list_mut(&key)?.ok_or(Error::NoSuchKey)?;
    if !list.set(integer(a.at(2))?, a.at(3), limit) {
        return Err(Error::IndexOutOfRange);
    }
    r.ok();
    x.changed(&key);
    x.event(NotifyFlags::LIST, "lset", &key);
    Ok(())
}

pub static LINSERT: ShardCommand = Command {
    spec: Spec {
        name: "linsert",
        group: Group::List,
        since: "2.2.0",
        summary: "Puts an element before or after the first one equal to a value.",
        complexity: "O(N) in the number of elements passed",
        arity: 5,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::LIST,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::INSERT))],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new(
                "where",
                ArgKind::OneOf(&[
                    Arg::new("before", ArgKind::PureToken).token("BEFORE"),
                    Arg::new("after", ArgKind::PureToken).token("AFTER"),
                ]),
            ),
            Arg::new("pivot", ArgKind::String),
            Arg::new("element", ArgKind::String),
        ],
        ..Spec::DEFAULT
    },
    run: linsert,
};

fn linsert(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let after = a.is(2, "after");
    if !after && !a.is(2, "before") {
        return Err(Error::Syntax);
    }
    check_elements(a.from(4))?;
    let (key, limit) = (x.key(a.at(1)), limit(x));
    let Some(list) = x.list_mut(&key)? else {
        r.integer(0);
        return Ok(());
    };
    let (pivot, element) = (a.at(3), a.at(4));
    let inserted = if after { list.insert_after(pivot, element, limit) } else { list.insert_before(pivot, element, limit) };
    if !inserted {
        r.integer(-1);
        return Ok(());
    }
    r.integer(list.len() as i64);
    x.changed(&key);
    x.event(NotifyFlags::LIST, "linsert", &key);
    Ok(())
}

pub static LREM: ShardCommand = Command {
    spec: Spec {
        name: "lrem",
        group: Group::List,
        summary: "Removes elements equal to a value: the first few, the last few, or all.",
        complexity: "O(N+M) for a list of N elements of which M are removed",
        arity: 4,
        flags: Flags::WRITE,
        acl: AclCategory::LIST,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::DELETE))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("count", ArgKind::Integer), Arg::new("element", ArgKind::String)],
        ..Spec::DEFAULT
    },
    run: lrem,
};

fn lrem(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let count = integer(a.at(2))?;
    let (key, limit) = (x.key(a.at(1)), limit(x));
    let Some(list) = x.list_mut(&key)? else {
        r.integer(0);
        return Ok(());
    };
    let removed = list.remove(count, a.at(3), limit);
    let emptied = list.is_empty();
    r.integer(removed as i64);
    if removed > 0 {
        x.changed_by(&key, removed as u64);
        x.event(NotifyFlags::LIST, "lrem", &key);
    }
    if emptied {
        x.delete_emptied(&key);
    }
    Ok(())
}

pub static LTRIM: ShardCommand = Command {
    spec: Spec {
        name: "ltrim",
        group: Group::List,
        summary: "Keeps the elements between two indexes and removes the others.",
        complexity: "O(N) in the number of elements removed",
        arity: 4,
        flags: Flags::WRITE,
        acl: AclCategory::LIST,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::DELETE))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("start", ArgKind::Integer), Arg::new("stop", ArgKind::Integer)],
        ..Spec::DEFAULT
    },
    run: ltrim,
};

fn ltrim(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let (start, stop) = (integer(a.at(2))?, integer(a.at(3))?);
    let key = x.key(a.at(1));
    let Some(list) = x.list_mut(&key)? else {
        r.ok();
        return Ok(());
    };
    let before = list.len();
    list.trim(start, stop);
    let kept = list.len();
    r.ok();
    x.event(NotifyFlags::LIST, "ltrim", &key);
    if kept == 0 {
        x.delete_emptied(&key);
    }
    x.changed_by(&key, (before - kept) as u64);
    Ok(())
}
