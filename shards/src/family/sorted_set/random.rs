//! Members drawn at random.

use super::{write_entry, write_header, write_member};
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::family::ShardCommand;
use crate::keyspace::Value;
use crate::number::parse_i64;
use crate::random::Random;
use crate::reply::Reply;
use crate::value::SortedSet;
use std::collections::BTreeSet;

/// Most members drawn with repetition by one command: above, the reply alone would take gigabytes.
const DRAWS_MAX: u64 = 1 << 27;

pub static ZRANDMEMBER: ShardCommand = Command {
    spec: Spec {
        name: "zrandmember",
        group: Group::SortedSet,
        since: "6.2.0",
        summary: "Returns members drawn at random.",
        complexity: "O(M), M being the number of members returned.",
        arity: -2,
        flags: Flags::READONLY,
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        tips: &["nondeterministic_output"],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new(
                "options",
                ArgKind::Block(&[
                    Arg::new("count", ArgKind::Integer),
                    Arg::new("withscores", ArgKind::PureToken).token("WITHSCORES").flags(ArgFlags::OPTIONAL),
                ]),
            )
            .flags(ArgFlags::OPTIONAL),
        ],
        ..Spec::DEFAULT
    },
    run: zrandmember,
};

fn zrandmember(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let key = x.key(a.at(1));
    let wish = if a.len() > 2 { Some(parse_wish(a)?) } else { None };
    x.sorted_set(&key)?;
    // The set and the random numbers are both the shard's: the set is looked at again beside them.
    let (db, random) = (&x.shard.dbs[x.db], &mut x.shard.random);
    let set = match db.value(&key) {
        Some(Value::SortedSet(set)) => Some(set),
        _ => None,
    };
    match (set, wish) {
        (None, None) => r.null(),
        (None, Some(_)) => r.array(0),
        (Some(set), None) => match set.random(random) {
            Some((member, _)) => write_member(r, member),
            None => r.null(),
        },
        (Some(set), Some(wish)) => draw(set, random, wish, r),
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Wish {
    count: u64,
    repeated: bool,
    with_scores: bool,
}

fn parse_wish(a: Args<'_>) -> Result<Wish, Error> {
    let count = parse_i64(a.at(2)).ok_or(Error::NotInteger)?;
    if count == i64::MIN {
        let text = format!("ERR value is out of range, value must between {} and {}", -i64::MAX, i64::MAX);
        return Err(Error::Owned(text));
    }
    let with_scores = a.len() == 4 && a.is(3, "withscores");
    if a.len() > 3 && !with_scores {
        return Err(Error::Syntax);
    }
    let too_many = with_scores && !(-i64::MAX / 2..=i64::MAX / 2).contains(&count);
    if too_many || (count < 0 && count.unsigned_abs() > DRAWS_MAX) {
        return Err(Error::OutOfRange);
    }
    Ok(Wish { count: count.unsigned_abs(), repeated: count < 0, with_scores })
}

fn draw(set: &SortedSet, random: &mut Random, wish: Wish, r: &mut Reply<'_>) {
    let Wish { count, repeated, with_scores } = wish;
    let len = set.len() as u64;
    if repeated {
        write_header(r, count as usize, with_scores);
        for _ in 0..count {
            if let Some((member, score)) = set.random(random) {
                write_entry(r, member, score, with_scores);
            }
        }
        return;
    }
    write_header(r, count.min(len) as usize, with_scores);
    if count >= len {
        set.iter().for_each(|(member, score)| write_entry(r, member, score, with_scores));
        return;
    }
    if count * 3 <= len {
        for rank in distinct(random, len, count) {
            if let Some((member, score)) = set.by_rank(rank as usize) {
                write_entry(r, member, score, with_scores);
            }
        }
        return;
    }
    // One walk that takes each member with the chance that the rest of the wish has among the rest of the set.
    let (mut left, mut wanted) = (len, count);
    for (member, score) in set.iter() {
        if random.below(left) < wanted {
            write_entry(r, member, score, with_scores);
            wanted -= 1;
        }
        left -= 1;
    }
}

/// `count` different numbers below `bound` (Floyd's algorithm).
fn distinct(random: &mut Random, bound: u64, count: u64) -> BTreeSet<u64> {
    let mut chosen = BTreeSet::new();
    for top in bound - count..bound {
        let drawn = random.below(top + 1);
        if !chosen.insert(drawn) {
            chosen.insert(top);
        }
    }
    chosen
}
