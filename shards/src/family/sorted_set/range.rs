//! Reading a range of members, and storing one.

use super::bounds::{Bounds, RangeKind};
use super::{limits, write_entry, write_header};
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::family::ShardCommand;
use crate::keyspace::{Expiry, Key, NewValue};
use crate::number::parse_i64;
use crate::reply::Reply;
use crate::settings::NotifyFlags;
use crate::value::sorted_set::{Direction, Entries};
use crate::value::{Object, SortedSet};

pub static ZRANGE: ShardCommand = Command {
    spec: Spec {
        name: "zrange",
        group: Group::SortedSet,
        since: "1.2.0",
        summary: "Reads members by rank, score or lexicographical order.",
        complexity: "O(log(N)+M), M being the number of members returned.",
        arity: -4,
        flags: Flags::READONLY,
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("start", ArgKind::String),
            Arg::new("stop", ArgKind::String),
            Arg::new(
                "sortby",
                ArgKind::OneOf(&[
                    Arg::new("byscore", ArgKind::PureToken).token("BYSCORE"),
                    Arg::new("bylex", ArgKind::PureToken).token("BYLEX"),
                ]),
            )
            .flags(ArgFlags::OPTIONAL)
            .since("6.2.0"),
            Arg::new("rev", ArgKind::PureToken).token("REV").flags(ArgFlags::OPTIONAL).since("6.2.0"),
            Arg::new(
                "offset_count",
                ArgKind::Block(&[Arg::new("offset", ArgKind::Integer), Arg::new("count", ArgKind::Integer)]),
            )
            .token("LIMIT")
            .flags(ArgFlags::OPTIONAL)
            .since("6.2.0"),
            Arg::new("withscores", ArgKind::PureToken).token("WITHSCORES").flags(ArgFlags::OPTIONAL),
        ],
        history: &[("6.2.0", "Options `REV`, `BYSCORE`, `BYLEX` and `LIMIT`.")],
        ..Spec::DEFAULT
    },
    run: zrange,
};

fn zrange(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    read_range(x, a, None, None, r)
}

pub static ZREVRANGE: ShardCommand = Command {
    spec: Spec {
        name: "zrevrange",
        group: Group::SortedSet,
        since: "1.2.0",
        summary: "Reads members by rank in descending order.",
        complexity: "O(log(N)+M), M being the number of members returned.",
        arity: -4,
        flags: Flags::READONLY,
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("start", ArgKind::Integer),
            Arg::new("stop", ArgKind::Integer),
            Arg::new("withscores", ArgKind::PureToken).token("WITHSCORES").flags(ArgFlags::OPTIONAL),
        ],
        deprecated: Some(("6.2.0", "`ZRANGE` with the `REV` argument")),
        ..Spec::DEFAULT
    },
    run: zrevrange,
};

fn zrevrange(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    read_range(x, a, Some(RangeKind::Rank), Some(Direction::Descending), r)
}

pub static ZRANGEBYSCORE: ShardCommand = Command {
    spec: Spec {
        name: "zrangebyscore",
        group: Group::SortedSet,
        since: "1.0.5",
        summary: "Reads the members whose scores lie in a range.",
        complexity: "O(log(N)+M), M being the number of members returned.",
        arity: -4,
        flags: Flags::READONLY,
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("min", ArgKind::Double),
            Arg::new("max", ArgKind::Double),
            Arg::new("withscores", ArgKind::PureToken).token("WITHSCORES").flags(ArgFlags::OPTIONAL).since("2.0.0"),
            Arg::new(
                "offset_count",
                ArgKind::Block(&[Arg::new("offset", ArgKind::Integer), Arg::new("count", ArgKind::Integer)]),
            )
            .token("LIMIT")
            .flags(ArgFlags::OPTIONAL),
        ],
        deprecated: Some(("6.2.0", "`ZRANGE` with the `BYSCORE` argument")),
        history: &[("2.0.0", "Option `WITHSCORES`.")],
        ..Spec::DEFAULT
    },
    run: zrangebyscore,
};

fn zrangebyscore(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    read_range(x, a, Some(RangeKind::Score), Some(Direction::Ascending), r)
}

pub static ZREVRANGEBYSCORE: ShardCommand = Command {
    spec: Spec {
        name: "zrevrangebyscore",
        group: Group::SortedSet,
        since: "2.2.0",
        summary: "Reads the members whose scores lie in a range in descending order.",
        complexity: "O(log(N)+M), M being the number of members returned.",
        arity: -4,
        flags: Flags::READONLY,
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("max", ArgKind::Double),
            Arg::new("min", ArgKind::Double),
            Arg::new("withscores", ArgKind::PureToken).token("WITHSCORES").flags(ArgFlags::OPTIONAL),
            Arg::new(
                "offset_count",
                ArgKind::Block(&[Arg::new("offset", ArgKind::Integer), Arg::new("count", ArgKind::Integer)]),
            )
            .token("LIMIT")
            .flags(ArgFlags::OPTIONAL),
        ],
        deprecated: Some(("6.2.0", "`ZRANGE` with the `REV` and `BYSCORE` arguments")),
        history: &[("2.1.6", "Bounds can be exclusive.")],
        ..Spec::DEFAULT
    },
    run: zrevrangebyscore,
};

fn zrevrangebyscore(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    read_range(x, a, Some(RangeKind::Score), Some(Direction::Descending), r)
}

pub static ZRANGEBYLEX: ShardCommand = Command {
    spec: Spec {
        name: "zrangebylex",
        group: Group::SortedSet,
        since: "2.8.9",
        summary: "Reads the members that lie in a lexicographical range.",
        complexity: "O(log(N)+M), M being the number of members returned.",
        arity: -4,
        flags: Flags::READONLY,
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("min", ArgKind::String),
            Arg::new("max", ArgKind::String),
            Arg::new(
                "offset_count",
                ArgKind::Block(&[Arg::new("offset", ArgKind::Integer), Arg::new("count", ArgKind::Integer)]),
            )
            .token("LIMIT")
            .flags(ArgFlags::OPTIONAL),
        ],
        deprecated: Some(("6.2.0", "`ZRANGE` with the `BYLEX` argument")),
        ..Spec::DEFAULT
    },
    run: zrangebylex,
};

fn zrangebylex(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    read_range(x, a, Some(RangeKind::Lex), Some(Direction::Ascending), r)
}

pub static ZREVRANGEBYLEX: ShardCommand = Command {
    spec: Spec {
        name: "zrevrangebylex",
        group: Group::SortedSet,
        since: "2.8.9",
        summary: "Reads the members that lie in a lexicographical range in descending order.",
        complexity: "O(log(N)+M), M being the number of members returned.",
        arity: -4,
        flags: Flags::READONLY,
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("max", ArgKind::String),
            Arg::new("min", ArgKind::String),
            Arg::new(
                "offset_count",
                ArgKind::Block(&[Arg::new("offset", ArgKind::Integer), Arg::new("count", ArgKind::Integer)]),
            )
            .token("LIMIT")
            .flags(ArgFlags::OPTIONAL),
        ],
        deprecated: Some(("6.2.0", "`ZRANGE` with the `REV` and `BYLEX` arguments")),
        ..Spec::DEFAULT
    },
    run: zrevrangebylex,
};

fn zrevrangebylex(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    read_range(x, a, Some(RangeKind::Lex), Some(Direction::Descending), r)
}

fn read_range(
    x: &mut Exec<'_>,
    a: Args<'_>,
    kind: Option<RangeKind>,
    direction: Option<Direction>,
    r: &mut Reply<'_>,
) -> CommandResult {
    let query = Query::parse(a.from(1), kind, direction, false)?;
    match x.sorted_set(&x.key(a.at(1)))? {
        None => r.array(0),
        Some(set) => {
            let (len, entries) = query.entries(set);
            write_header(r, len, query.with_scores);
            entries.for_each(|(member, score)| write_entry(r, member, score, query.with_scores));
        }
    }
    Ok(())
}

pub static ZRANGESTORE: ShardCommand = Command {
    spec: Spec {
        name: "zrangestore",
        group: Group::SortedSet,
        since: "6.2.0",
        summary: "Stores a range of members in another key.",
        complexity: "O(log(N)+M), M being the number of members stored.",
        arity: -5,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::OW.with(KeyAccess::UPDATE)), KeySpec::one(2, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[
            Arg::new("dst", ArgKind::Key(0)),
            Arg::new("src", ArgKind::Key(1)),
            Arg::new("min", ArgKind::String),
            Arg::new("max", ArgKind::String),
            Arg::new(
                "sortby",
                ArgKind::OneOf(&[
                    Arg::new("byscore", ArgKind::PureToken).token("BYSCORE"),
                    Arg::new("bylex", ArgKind::PureToken).token("BYLEX"),
                ]),
            )
            .flags(ArgFlags::OPTIONAL),
            Arg::new("rev", ArgKind::PureToken).token("REV").flags(ArgFlags::OPTIONAL),
            Arg::new(
                "offset_count",
                ArgKind::Block(&[Arg::new("offset", ArgKind::Integer), Arg::new("count", ArgKind::Integer)]),
            )
            .token("LIMIT")
            .flags(ArgFlags::OPTIONAL),
        ],
        ..Spec::DEFAULT
    },
    run: zrangestore,
};

fn zrangestore(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let query = Query::parse(a.from(2), None, None, true)?;
    let (target, limits) = (x.key(a.at(1)), limits(x));
    let mut result = SortedSet::new();
    if let Some(set) = x.sorted_set(&x.key(a.at(2)))? {
        let (len, entries) = query.entries(set);
        result = SortedSet::sized(len, 0, &limits);
        for (member, score) in entries {
            member.with_bytes(|member| result.insert(member, score, &limits));
        }
    }
    store_result(x, &target, result, "zrangestore", r);
    Ok(())
}

/// Puts a command's result under `target`, or deletes that key if the result is empty, and replies its size.
pub(in crate::family) fn store_result(
    x: &mut Exec<'_>,
    target: &Key<'_>,
    result: SortedSet,
    event: &'static str,
    r: &mut Reply<'_>,
) {
    r.integer(result.len() as i64);
    if !result.is_empty() {
        x.store(target, NewValue::Object(Object::SortedSet(result)), Expiry::Clear);
        x.changed(target);
        x.event(NotifyFlags::ZSET, event, target);
    } else if x.delete_even_expired(target) {
        x.changed(target);
        x.event(NotifyFlags::GENERIC, "del", target);
    }
}

/// A range with everything said about it.
struct Query<'a> {
    bounds: Bounds<'a>,
    direction: Direction,
    with_scores: bool,
    offset: i64,
    /// Negative: no limit.
    limit: i64,
}

impl<'a> Query<'a> {
    /// `a` is key, minimum, maximum and options; what a command's name says is not an option of it.
    fn parse(a: Args<'a>, mut kind: Option<RangeKind>, mut direction: Option<Direction>, store: bool) -> Result<Self, Error> {
        let (fixed_kind, fixed_direction) = (kind.is_some(), direction.is_some());
        let (mut with_scores, mut offset, mut limit) = (false, 0, -1);
        let mut at = 3;
        while at < a.len() {
            if !store && a.is(at, "withscores") {
                with_scores = true;
            } else if a.is(at, "limit") && at + 2 < a.len() {
                offset = parse_i64(a.at(at + 1)).ok_or(Error::NotInteger)?;
                limit = parse_i64(a.at(at + 2)).ok_or(Error::NotInteger)?;
                at += 2;
            } else if !fixed_direction && direction.is_none() && a.is(at, "rev") {
                direction = Some(Direction::Descending);
            } else if !fixed_kind && kind.is_none() && a.is(at, "bylex") {
                kind = Some(RangeKind::Lex);
            } else if !fixed_kind && kind.is_none() && a.is(at, "byscore") {
                kind = Some(RangeKind::Score);
            } else {
                return Err(Error::Syntax);
            }
            at += 1;
        }
        let kind = kind.unwrap_or(RangeKind::Rank);
        let direction = direction.unwrap_or(Direction::Ascending);
        if limit != -1 && kind == RangeKind::Rank {
            let text = "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX";
            return Err(Error::Text(text));
        }
        if with_scores && kind == RangeKind::Lex {
            return Err(Error::Text("ERR syntax error, WITHSCORES not supported in combination with BYLEX"));
        }
        // A descending range of scores or members is given from its upper end; indexes are counted from the upper end anyway.
        let swapped = direction == Direction::Descending && kind != RangeKind::Rank;
        let (min, max) = if swapped { (a.at(2), a.at(1)) } else { (a.at(1), a.at(2)) };
        if kind == RangeKind::Rank {
            (offset, limit) = (0, -1);
        }
        Ok(Query { bounds: Bounds::parse(kind, min, max)?, direction, with_scores, offset, limit })
    }

    /// How many members the query finds, and the walk over them.
    fn entries<'s>(&self, set: &'s SortedSet) -> (usize, Entries<'s>) {
        let reverse = self.direction == Direction::Descending;
        let found = self.bounds.ranks(set, reverse);
        // A negative offset never comes to its end, so nothing is found.
        let skipped = usize::try_from(self.offset).unwrap_or(usize::MAX).min(found.len());
        let count = usize::try_from(self.limit).unwrap_or(usize::MAX).min(found.len() - skipped);
        let ranks = if reverse {
            let end = found.end - skipped;
            end - count..end
        } else {
            let start = found.start + skipped;
            start..start + count
        };
        (count, set.range(ranks, self.direction))
    }
}
