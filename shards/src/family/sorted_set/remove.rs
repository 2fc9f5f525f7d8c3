//! Removing members, one by one or by range.

use super::bounds::{Bounds, RangeKind};
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::CommandResult;
use crate::exec::Exec;
use crate::family::ShardCommand;
use crate::reply::Reply;
use crate::settings::NotifyFlags;

pub static ZREM: ShardCommand = Command {
    spec: Spec {
        name: "zrem",
        group: Group::SortedSet,
        since: "1.2.0",
        summary: "Removes members.",
        complexity: "O(M*log(N)), M being the number of members given.",
        arity: -3,
        flags: Flags::WRITE.with(Flags::FAST),
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::DELETE))],
        member_at: 2,
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("member", ArgKind::String).flags(ArgFlags::MULTIPLE)],
        history: &[("2.4.0", "Takes several members.")],
        ..Spec::DEFAULT
    },
    run: zrem,
};

fn zrem(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let key = x.key(a.at(1));
    let (mut removed, mut emptied) = (0, false);
    if let Some(set) = x.sorted_set_mut(&key)? {
        for member in a.from(2).iter() {
            removed += u64::from(set.remove(member).is_some());
            if set.is_empty() {
                emptied = true;
                break;
            }
        }
    }
    finish(x, a, "zrem", removed, emptied, r);
    Ok(())
}

pub static ZREMRANGEBYRANK: ShardCommand = Command {
    spec: Spec {
        name: "zremrangebyrank",
        group: Group::SortedSet,
        since: "2.0.0",
        summary: "Removes the members in a range of ranks.",
        complexity: "O(log(N)+M), M being the number of members removed.",
        arity: 4,
        flags: Flags::WRITE,
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::DELETE))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("start", ArgKind::Integer), Arg::new("stop", ArgKind::Integer)],
        ..Spec::DEFAULT
    },
    run: zremrangebyrank,
};

fn zremrangebyrank(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    remove_range(x, a, RangeKind::Rank, "zremrangebyrank", r)
}

pub static ZREMRANGEBYSCORE: ShardCommand = Command {
    spec: Spec {
        name: "zremrangebyscore",
        group: Group::SortedSet,
        since: "1.2.0",
        summary: "Removes the members whose scores lie in a range.",
        complexity: "O(log(N)+M), M being the number of members removed.",
        arity: 4,
        flags: Flags::WRITE,
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::DELETE))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("min", ArgKind::Double), Arg::new("max", ArgKind::Double)],
        ..Spec::DEFAULT
    },
    run: zremrangebyscore,
};

fn zremrangebyscore(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    remove_range(x, a, RangeKind::Score, "zremrangebyscore", r)
}

pub static ZREMRANGEBYLEX: ShardCommand = Command {
    spec: Spec {
        name: "zremrangebylex",
        group: Group::SortedSet,
        since: "2.8.9",
        summary: "Removes the members that lie in a lexicographical range.",
        complexity: "O(log(N)+M), M being the number of members removed.",
        arity: 4,
        flags: Flags::WRITE,
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::DELETE))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("min", ArgKind::String), Arg::new("max", ArgKind::String)],
        ..Spec::DEFAULT
    },
    run: zremrangebylex,
};

fn zremrangebylex(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    remove_range(x, a, RangeKind::Lex, "zremrangebylex", r)
}

fn remove_range(x: &mut Exec<'_>, a: Args<'_>, kind: RangeKind, event: &'static str, r: &mut Reply<'_>) -> CommandResult {
    let bounds = Bounds::parse(kind, a.at(2), a.at(3))?;
    let key = x.key(a.at(1));
    let (mut removed, mut emptied) = (0, false);
    if let Some(set) = x.sorted_set_mut(&key)? {
        let ranks = bounds.ranks(set, false);
        // A set that goes whole is left to `delete_emptied`, which frees a large one in slices.
        emptied = ranks.len() == set.len();
        removed = if emptied { set.len() } else { set.remove_ranks(ranks, |_, _| {}) };
    }
    finish(x, a, event, removed as u64, emptied, r);
    Ok(())
}

fn finish(x: &mut Exec<'_>, a: Args<'_>, event: &'static str, removed: u64, emptied: bool, r: &mut Reply<'_>) {
    let key = x.key(a.at(1));
    if removed > 0 {
        x.changed_by(&key, removed);
        x.event(NotifyFlags::ZSET, event, &key);
        if emptied {
            x.delete_emptied(&key);
        }
    }
    r.integer(removed as i64);
}
