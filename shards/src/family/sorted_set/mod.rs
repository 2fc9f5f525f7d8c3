//! Sorted sets: members with scores, read by score, by rank or by name.
//!
//! Every range, of whatever kind, becomes a range of ranks first ([`bounds`]); reading, counting, removing and storing work on
//! those.

mod add;
mod algebra;
mod bounds;
mod combine;
mod pop;
mod random;
mod range;
mod read;
mod remove;
mod source;

pub(super) use add::add_members;
pub(super) use range::store_result;

use super::ShardCommand;
use crate::exec::Exec;
use crate::reply::Reply;
use crate::value::item::Item;
use crate::value::sorted_set::Limits;

pub static COMMANDS: &[&ShardCommand] = &[
    &add::ZADD,
    &add::ZINCRBY,
    &remove::ZREM,
    &remove::ZREMRANGEBYRANK,
    &remove::ZREMRANGEBYSCORE,
    &remove::ZREMRANGEBYLEX,
    &read::ZCARD,
    &read::ZSCORE,
    &read::ZMSCORE,
    &read::ZRANK,
    &read::ZREVRANK,
    &read::ZCOUNT,
    &read::ZLEXCOUNT,
    &read::ZSCAN,
    &random::ZRANDMEMBER,
    &range::ZRANGE,
    &range::ZRANGESTORE,
    &range::ZREVRANGE,
    &range::ZRANGEBYSCORE,
    &range::ZREVRANGEBYSCORE,
    &range::ZRANGEBYLEX,
    &range::ZREVRANGEBYLEX,
    &combine::ZUNION,
    &combine::ZINTER,
    &combine::ZDIFF,
    &combine::ZINTERCARD,
    &combine::ZUNIONSTORE,
    &combine::ZINTERSTORE,
    &combine::ZDIFFSTORE,
    &pop::ZPOPMIN,
    &pop::ZPOPMAX,
    &pop::ZMPOP,
    &pop::BZPOPMIN,
    &pop::BZPOPMAX,
    &pop::BZMPOP,
];

/// The thresholds as they stand, for what may add members.
pub(super) fn limits(x: &Exec<'_>) -> Limits {
    let settings = x.settings();
    Limits {
        entries: settings.zset_max_listpack_entries,
        value: settings.zset_max_listpack_value,
        hasher: x.shard.hasher.state().clone(),
    }
}

pub(super) fn write_member(r: &mut Reply<'_>, member: Item<'_>) {
    match member {
        Item::Bytes(bytes) => r.bulk(bytes),
        Item::Int(int) => r.bulk_integer(int),
    }
}

/// The header of a list of `len` members: with scores, RESP2 puts them flat behind the members, RESP3 makes pairs.
pub(super) fn write_header(r: &mut Reply<'_>, len: usize, with_scores: bool) {
    r.array(if with_scores && !r.resp3 { 2 * len } else { len });
}

pub(super) fn write_entry(r: &mut Reply<'_>, member: Item<'_>, score: f64, with_scores: bool) {
    if with_scores && r.resp3 {
        r.array(2);
    }
    write_member(r, member);
    if with_scores {
        r.double(score);
    }
}

#[cfg(test)]
mod tests;
