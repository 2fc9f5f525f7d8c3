//! Unions, intersections and differences of sorted sets and sets.

use super::algebra::{Operation, Request, Use};
use super::range::store_result;
use super::{limits, write_entry, write_header};
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::CommandResult;
use crate::exec::Exec;
use crate::family::ShardCommand;
use crate::reply::Reply;
use crate::value::SortedSet;
use crate::value::item::Item;

const NUMBER_OF_KEYS: Arg = Arg::new("numkeys", ArgKind::Integer);
const KEYS: Arg = Arg::new("key", ArgKind::Key(0)).flags(ArgFlags::MULTIPLE);
const KEYS_AFTER_TARGET: Arg = Arg::new("key", ArgKind::Key(1)).flags(ArgFlags::MULTIPLE);
const TARGET: Arg = Arg::new("destination", ArgKind::Key(0));
const WEIGHTS: Arg = Arg::new("weight", ArgKind::Integer).token("WEIGHTS").flags(ArgFlags::OPTIONAL.with(ArgFlags::MULTIPLE));
const AGGREGATE: Arg = Arg::new(
    "aggregate",
    ArgKind::OneOf(&[
        Arg::new("sum", ArgKind::PureToken).token("SUM"),
        Arg::new("min", ArgKind::PureToken).token("MIN"),
        Arg::new("max", ArgKind::PureToken).token("MAX"),
    ]),
)
.token("AGGREGATE")
.flags(ArgFlags::OPTIONAL);

pub static ZUNION: ShardCommand = Command {
    spec: Spec {
        name: "zunion",
        group: Group::SortedSet,
        since: "6.2.0",
        summary: "Unites several sorted sets.",
        complexity: "O(N+M*log(M)), N being the members read and M those of the result.",
        arity: -3,
        flags: Flags::READONLY,
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::count(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[
            NUMBER_OF_KEYS,
            KEYS,
            WEIGHTS,
            AGGREGATE,
            Arg::new("withscores", ArgKind::PureToken).token("WITHSCORES").flags(ArgFlags::OPTIONAL),
        ],
        ..Spec::DEFAULT
    },
    run: zunion,
};

fn zunion(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    combine(x, a, Operation::Union, r)
}

pub static ZINTER: ShardCommand = Command {
    spec: Spec {
        name: "zinter",
        group: Group::SortedSet,
        since: "6.2.0",
        summary: "Intersects several sorted sets.",
        complexity: "O(N*K+M*log(M)), N being the smallest input's size, K the number of inputs and M the size of the result.",
        arity: -3,
        flags: Flags::READONLY,
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::count(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[
            NUMBER_OF_KEYS,
            KEYS,
            WEIGHTS,
            AGGREGATE,
            Arg::new("withscores", ArgKind::PureToken).token("WITHSCORES").flags(ArgFlags::OPTIONAL),
        ],
        ..Spec::DEFAULT
    },
    run: zinter,
};

fn zinter(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    combine(x, a, Operation::Intersection, r)
}

pub static ZDIFF: ShardCommand = Command {
    spec: Spec {
        name: "zdiff",
        group: Group::SortedSet,
        since: "6.2.0",
        summary: "Takes the members of all other sorted sets from the first one.",
        complexity: "O(L+M*log(M)), L being the members of all inputs and M those of the result.",
        arity: -3,
        flags: Flags::READONLY,
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::count(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[NUMBER_OF_KEYS, KEYS, Arg::new("withscores", ArgKind::PureToken).token("WITHSCORES").flags(ArgFlags::OPTIONAL)],
        ..Spec::DEFAULT
    },
    run: zdiff,
};

fn zdiff(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    combine(x, a, Operation::Difference, r)
}

fn combine(x: &mut Exec<'_>, a: Args<'_>, operation: Operation, r: &mut Reply<'_>) -> CommandResult {
    let request = Request::parse(x, a, 1, operation, Use::Reply)?;
    let result = request.result(x);
    write_header(r, result.len(), request.with_scores);
    result.iter().for_each(|(score, member)| write_entry(r, Item::Bytes(member), *score, request.with_scores));
    Ok(())
}

pub static ZINTERCARD: ShardCommand = Command {
    spec: Spec {
        name: "zintercard",
        group: Group::SortedSet,
        since: "7.0.0",
        summary: "Counts the members that several sorted sets share.",
        complexity: "O(N*K), N being the smallest input's size and K the number of inputs.",
        arity: -3,
        flags: Flags::READONLY,
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::count(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[NUMBER_OF_KEYS, KEYS, Arg::new("limit", ArgKind::Integer).token("LIMIT").flags(ArgFlags::OPTIONAL)],
        ..Spec::DEFAULT
    },
    run: zintercard,
};

fn zintercard(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let request = Request::parse(x, a, 1, Operation::Intersection, Use::Count)?;
    let mut count = 0;
    request.intersect(&request.sources(x), |_, _| {
        count += 1;
        request.limit == 0 || count < request.limit
    });
    r.integer(count as i64);
    Ok(())
}

pub static ZUNIONSTORE: ShardCommand = Command {
    spec: Spec {
        name: "zunionstore",
        group: Group::SortedSet,
        since: "2.0.0",
        summary: "Unites several sorted sets into a key.",
        complexity: "O(N+M*log(M)), N being the members read and M those of the result.",
        arity: -4,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::OW.with(KeyAccess::UPDATE)), KeySpec::count(2, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[TARGET, NUMBER_OF_KEYS, KEYS_AFTER_TARGET, WEIGHTS, AGGREGATE],
        ..Spec::DEFAULT
    },
    run: zunionstore,
};

fn zunionstore(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    combine_and_store(x, a, Operation::Union, "zunionstore", r)
}

pub static ZINTERSTORE: ShardCommand = Command {
    spec: Spec {
        name: "zinterstore",
        group: Group::SortedSet,
        since: "2.0.0",
        summary: "Intersects several sorted sets into a key.",
        complexity: "O(N*K+M*log(M)), N being the smallest input's size, K the number of inputs and M the size of the result.",
        arity: -4,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::OW.with(KeyAccess::UPDATE)), KeySpec::count(2, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[TARGET, NUMBER_OF_KEYS, KEYS_AFTER_TARGET, WEIGHTS, AGGREGATE],
        ..Spec::DEFAULT
    },
    run: zinterstore,
};

fn zinterstore(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    combine_and_store(x, a, Operation::Intersection, "zinterstore", r)
}

pub static ZDIFFSTORE: ShardCommand = Command {
    spec: Spec {
        name: "zdiffstore",
        group: Group::SortedSet,
        since: "6.2.0",
        summary: "Stores the members of the first sorted set that no other one has.",
        complexity: "O(L+M*log(M)), L being the members of all inputs and M those of the result.",
        arity: -4,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::OW.with(KeyAccess::UPDATE)), KeySpec::count(2, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[TARGET, NUMBER_OF_KEYS, KEYS_AFTER_TARGET],
        ..Spec::DEFAULT
    },
    run: zdiffstore,
};

fn zdiffstore(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    combine_and_store(x, a, Operation::Difference, "zdiffstore", r)
}

fn combine_and_store(
    x: &mut Exec<'_>,
    a: Args<'_>,
    operation: Operation,
    event: &'static str,
    r: &mut Reply<'_>,
) -> CommandResult {
    let request = Request::parse(x, a, 2, operation, Use::Store)?;
    let limits = limits(x);
    let result = request.result(x);
    let longest = result.iter().map(|(_, member)| member.len()).max().unwrap_or(0);
    let mut set = SortedSet::sized(result.len(), longest, &limits);
    for (score, member) in result {
        set.push_last(&member, score, &limits);
    }
    store_result(x, &x.key(a.at(1)), set, event, r);
    Ok(())
}
