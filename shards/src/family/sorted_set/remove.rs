//! Removing members, one by one or by range.

use super::bounds::{Bounds, RangeKind};
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::CommandResult;
use crate::exec::Exec;
use crate::family::ShardCommand;
use crate::reply::Reply;
use crate::settings::NotifyFlags;

//@zrem

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

//@zremrangebyrank

fn zremrangebyrank(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    remove_range(x, a, RangeKind::Rank, "zremrangebyrank", r)
}

//@zremrangebyscore

fn zremrangebyscore(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    remove_range(x, a, RangeKind::Score, "zremrangebyscore", r)
}

//@zremrangebylex

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
