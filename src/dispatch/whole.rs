//! Commands that run with every shard of the node at hand, as one core has claimed them all.
//!
//! A command of one shard runs there; one for all shards runs on each, and the replies become one; one with keys of several
//! shards has them brought together in a scratch shard, as an operation would, without any further lock.

use super::log::BlockLog;
use super::route::{self, Target};
use crate::commands::registry::{Plan, Registered};
use kvshard::command::Merge;
use kvshard::keyspace::slot::SlotId;
use kvshard::shard;
use kvshard::{Outcome, Reply, Shard};

/// Runs one command with every shard of the node at hand.
pub fn run_on_all(
    shards: &mut [Box<Shard>],
    scratch: &mut Shard,
    command: &'static Registered,
    request: shard::Request<'_>,
    log: &mut Option<BlockLog>,
    out: &mut Vec<u8>,
) -> Outcome {
    let hasher = scratch.hasher.clone();
    let mut uses = Vec::new();
    let outcome = match route::target(command, request.args, &hasher, 0, &mut uses) {
        Target::One(shard) => {
            let start = out.len();
            let outcome = shards[shard].execute(request, out);
            if command.plan == Plan::Cursor {
                route::rewrite_cursor(out, start, shard, shards.len());
            }
            outcome
        }
        _ => match command.plan {
            Plan::AllShards(merge) => run_on_each(shards, merge, request, out),
            _ => run_gathered(shards, scratch, command, request, log, out),
        },
    };
    if let Some(log) = log {
        log.take_from_shards(shards);
    }
    outcome
}

/// Runs a command on each shard and joins the replies.
fn run_on_each(shards: &mut [Box<Shard>], merge: Merge, request: shard::Request<'_>, out: &mut Vec<u8>) -> Outcome {
    if merge == Merge::Random {
        let sizes: Vec<u64> = shards.iter().map(|shard| shard.dbs[request.db].len() as u64).collect();
        let mut drawn = shards[0].random.below(sizes.iter().sum());
        let chosen = sizes.iter().position(|&size| {
            let here = drawn < size;
            drawn = drawn.wrapping_sub(if here { 0 } else { size });
            here
        });
        // A shard whose keys have all expired answers null: the others are asked in turn.
        let (chosen, start, count) = (chosen.unwrap_or(0), out.len(), shards.len());
        let mut outcome = Outcome::default();
        for shard in (0..count).map(|step| (chosen + step) % count) {
            out.truncate(start);
            outcome = shards[shard].execute(request, out);
            if !matches!(&out[start..], b"$-1\r\n" | b"_\r\n") {
                break;
            }
        }
        return outcome;
    }
    let mut total = Outcome::default();
    let (mut sum, mut elements) = (0i64, 0i64);
    let mut body = Vec::new();
    for (at, shard) in shards.iter_mut().enumerate() {
        let mut part = Vec::new();
        let outcome = shard.execute(shard::Request { ..request }, &mut part);
        total.dirty += outcome.dirty;
        total.flushed_all |= outcome.flushed_all;
        if outcome.failed {
            // All shards refuse alike: the first one's word is enough.
            out.extend_from_slice(&part);
            return outcome;
        }
        let line_end = part.windows(2).position(|pair| pair == b"\r\n").unwrap_or(part.len());
        let number = || kvshard::number::parse_i64(part.get(1..line_end).unwrap_or_default()).unwrap_or(0);
        match merge {
            Merge::Sum => sum += number(),
            Merge::Concat => {
                elements += number();
                body.extend_from_slice(part.get(line_end + 2..).unwrap_or_default());
            }
            Merge::First | Merge::Random if at == 0 => body = part,
            Merge::First | Merge::Random => {}
        }
    }
    let mut reply = Reply::new(out, request.resp3);
    match merge {
        Merge::Sum => reply.integer(sum),
        Merge::Concat => {
            reply.array(elements as usize);
            out.extend_from_slice(&body);
        }
        Merge::First | Merge::Random => out.extend_from_slice(&body),
    }
    total
}

/// Brings the keys of one command together, runs it, and puts them back.
fn run_gathered(
    shards: &mut [Box<Shard>],
    scratch: &mut Shard,
    command: &'static Registered,
    request: shard::Request<'_>,
    log: &mut Option<BlockLog>,
    out: &mut Vec<u8>,
) -> Outcome {
    let hasher = scratch.hasher.clone();
    let mut keys: Vec<Box<[u8]>> = Vec::new();
    let lend = |key: &[u8], keys: &mut Vec<Box<[u8]>>, shards: &mut [Box<Shard>], scratch: &mut Shard| {
        if keys.iter().any(|known| **known == *key) {
            return;
        }
        keys.push(key.into());
        let placed = hasher.key(key);
        let owner = &mut shards[hasher.shard_of(placed.slot)];
        for db in 0..owner.dbs.len() {
            if let Some(entry) = owner.dbs[db].take(&placed) {
                scratch.install(db, entry);
            }
        }
    };
    scratch.begin_recording();
    scratch.effects.enabled = log.is_some();
    for key in route::keys(command, request.args) {
        lend(key, &mut keys, shards, scratch);
    }
    if let Some(dynamic) = command.spec.dynamic_keys {
        for key in scratch.dynamic_keys(dynamic, &request) {
            lend(&key, &mut keys, shards, scratch);
        }
    }
    let outcome = scratch.execute(request, out);
    if let Some(log) = log {
        log.take_from_scratch(scratch);
    }
    let changed = scratch.end_recording();
    for key in &keys {
        let placed = hasher.key(key);
        let owner = &mut shards[hasher.shard_of(placed.slot)];
        for db in 0..owner.dbs.len() {
            if let Some(entry) = scratch.dbs[db].take(&placed) {
                owner.install(db, entry);
            }
        }
    }
    for (db, key) in &changed {
        shards[hasher.shard_of(SlotId::of_key(key))].changed_elsewhere(*db, key);
    }
    outcome
}
