//! Reading single members, counting, and scanning.

use super::bounds::{Bounds, RangeKind};
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::family::ShardCommand;
use crate::family::scan::{ScanOptions, ScanReply, parse_cursor};
use crate::number::write_f64;
use crate::reply::Reply;
use crate::table::Cursor;

pub static ZCARD: ShardCommand = Command {
    spec: Spec {
        name: "zcard",
        group: Group::SortedSet,
        since: "1.2.0",
        summary: "Tells how many members there are.",
        arity: 2,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::RO)],
        args: &[Arg::new("key", ArgKind::Key(0))],
        ..Spec::DEFAULT
    },
    run: zcard,
};

fn zcard(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let len = x.sorted_set(&x.key(a.at(1)))?.map_or(0, |set| set.len());
    r.integer(len as i64);
    Ok(())
}

pub static ZSCORE: ShardCommand = Command {
    spec: Spec {
        name: "zscore",
        group: Group::SortedSet,
        since: "1.2.0",
        summary: "Reads a member's score.",
        arity: 3,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        member_at: 2,
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("member", ArgKind::String)],
        ..Spec::DEFAULT
    },
    run: zscore,
};

fn zscore(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let set = x.sorted_set(&x.key(a.at(1)))?;
    match set.and_then(|set| set.score(a.at(2))) {
        Some(score) => r.double(score),
        None => r.null(),
    }
    Ok(())
}

pub static ZMSCORE: ShardCommand = Command {
    spec: Spec {
        name: "zmscore",
        group: Group::SortedSet,
        since: "6.2.0",
        summary: "Reads the scores of several members.",
        complexity: "O(M), M being the number of members given.",
        arity: -3,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        member_at: 2,
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("member", ArgKind::String).flags(ArgFlags::MULTIPLE)],
        ..Spec::DEFAULT
    },
    run: zmscore,
};

fn zmscore(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let set = x.sorted_set(&x.key(a.at(1)))?;
    r.array(a.len() - 2);
    for member in a.from(2).iter() {
        match set.and_then(|set| set.score(member)) {
            Some(score) => r.double(score),
            None => r.null(),
        }
    }
    Ok(())
}

pub static ZRANK: ShardCommand = Command {
    spec: Spec {
        name: "zrank",
        group: Group::SortedSet,
        since: "2.0.0",
        summary: "Tells a member's place in ascending order.",
        complexity: "O(log(N))",
        arity: -3,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        member_at: 2,
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("member", ArgKind::String),
            Arg::new("withscore", ArgKind::PureToken).token("WITHSCORE").flags(ArgFlags::OPTIONAL),
        ],
        history: &[("7.2.0", "The score can be asked for with `WITHSCORE`.")],
        ..Spec::DEFAULT
    },
    run: zrank,
};

fn zrank(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    rank(x, a, false, r)
}

pub static ZREVRANK: ShardCommand = Command {
    spec: Spec {
        name: "zrevrank",
        group: Group::SortedSet,
        since: "2.0.0",
        summary: "Tells a member's place in descending order.",
        complexity: "O(log(N))",
        arity: -3,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        member_at: 2,
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("member", ArgKind::String),
            Arg::new("withscore", ArgKind::PureToken).token("WITHSCORE").flags(ArgFlags::OPTIONAL),
        ],
        history: &[("7.2.0", "The score can be asked for with `WITHSCORE`.")],
        ..Spec::DEFAULT
    },
    run: zrevrank,
};

fn zrevrank(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    rank(x, a, true, r)
}

fn rank(x: &mut Exec<'_>, a: Args<'_>, reverse: bool, r: &mut Reply<'_>) -> CommandResult {
    if a.len() > 4 {
        return Err(Error::Owned(format!("ERR wrong number of arguments for '{}' command", x.spec.name)));
    }
    let with_score = a.len() == 4;
    if with_score && !a.is(3, "withscore") {
        return Err(Error::Syntax);
    }
    let set = x.sorted_set(&x.key(a.at(1)))?;
    let Some((set, (rank, score))) = set.and_then(|set| Some((set, set.rank(a.at(2))?))) else {
        if with_score {
            r.null_array()
        } else {
            r.null()
        }
        return Ok(());
    };
    let rank = if reverse { set.len() - 1 - rank } else { rank } as i64;
    if with_score {
        r.array(2);
    }
    r.integer(rank);
    if with_score {
        r.double(score);
    }
    Ok(())
}

pub static ZCOUNT: ShardCommand = Command {
    spec: Spec {
        name: "zcount",
        group: Group::SortedSet,
        since: "2.0.0",
        summary: "Counts the members whose scores lie in a range.",
        complexity: "O(log(N))",
        arity: 4,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("min", ArgKind::Double), Arg::new("max", ArgKind::Double)],
        ..Spec::DEFAULT
    },
    run: zcount,
};

fn zcount(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    count(x, a, RangeKind::Score, r)
}

pub static ZLEXCOUNT: ShardCommand = Command {
    spec: Spec {
        name: "zlexcount",
        group: Group::SortedSet,
        since: "2.8.9",
        summary: "Counts the members that lie in a lexicographical range.",
        complexity: "O(log(N))",
        arity: 4,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("min", ArgKind::String), Arg::new("max", ArgKind::String)],
        ..Spec::DEFAULT
    },
    run: zlexcount,
};

fn zlexcount(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    count(x, a, RangeKind::Lex, r)
}

fn count(x: &mut Exec<'_>, a: Args<'_>, kind: RangeKind, r: &mut Reply<'_>) -> CommandResult {
    let bounds = Bounds::parse(kind, a.at(2), a.at(3))?;
    let count = x.sorted_set(&x.key(a.at(1)))?.map_or(0, |set| bounds.ranks(set, false).len());
    r.integer(count as i64);
    Ok(())
}

pub static ZSCAN: ShardCommand = Command {
    spec: Spec {
        name: "zscan",
        group: Group::SortedSet,
        since: "2.8.0",
        summary: "Walks through the members and scores a piece at a time.",
        complexity: "O(1) for each call, O(N) for a whole run.",
        arity: -3,
        flags: Flags::READONLY,
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        tips: &["nondeterministic_output"],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("cursor", ArgKind::Integer),
            Arg::new("pattern", ArgKind::Pattern).token("MATCH").flags(ArgFlags::OPTIONAL),
            Arg::new("count", ArgKind::Integer).token("COUNT").flags(ArgFlags::OPTIONAL),
        ],
        ..Spec::DEFAULT
    },
    run: zscan,
};

fn zscan(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let cursor = Cursor::from_bits(parse_cursor(a.at(2))?);
    let Some(set) = x.sorted_set(&x.key(a.at(1)))? else {
        ScanReply::empty(r);
        return Ok(());
    };
    let options = ScanOptions::parse(a, 3, false)?;
    let mut reply = ScanReply::new(options, r.resp3);
    let mut text = Vec::new();
    let packed = set.encoding() == "listpack";
    let next = set.scan(cursor, options.count, &mut |member, score| {
        text.clear();
        if packed && is_packed_integer(score) {
            text.extend_from_slice(itoa::Buffer::new().format(score as i64).as_bytes());
        } else {
            write_f64(&mut text, score);
        }
        reply.offer_pair(member, &text);
    });
    reply.finish(next.map_or(0, Cursor::to_bits), r);
    Ok(())
}

/// Whether redis-server keeps the score as an integer in a small set, which is how ZSCAN then shows it.
fn is_packed_integer(score: f64) -> bool {
    score.fract() == 0.0 && score.abs() <= (i64::MAX / 2) as f64
}
