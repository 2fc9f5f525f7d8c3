//! Keys to shards.

use crate::commands::registry::{Plan, Registered};
use kvshard::command::{KeyAccess, KeyUse, key_uses};
use kvshard::keyspace::slot::SlotId;
use kvshard::keyspace::{Key, KeyHasher};
use kvshard::{Args, table};

/// Where a command runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    One(usize),
    /// Keys of several shards.
    Several,
    AllShards,
    Node,
}

/// Where a command that is not [`Plan::OneKey`] runs. `uses` is scratch space and holds the command's keys afterwards.
pub fn target(command: &'static Registered, args: Args<'_>, hasher: &KeyHasher, own: usize, uses: &mut Vec<KeyUse>) -> Target {
    match command.plan {
        Plan::Node => Target::Node,
        Plan::AllShards(_) if hasher.shards() == 1 => Target::One(0),
        Plan::AllShards(_) => Target::AllShards,
        Plan::Cursor => Target::One(cursor_shard(args.at(1), usize::from(hasher.shards())).unwrap_or(own)),
        Plan::OneKey(_) | Plan::Keys => {
            if hasher.shards() == 1 {
                return Target::One(0);
            }
            uses.clear();
            // Arguments that name no keys run here and say what is wrong with them.
            if key_uses(command.spec, args, uses).is_err() {
                return Target::One(own);
            }
            if command.spec.dynamic_keys.is_some_and(|dynamic| dynamic.possible(args)) {
                return Target::AllShards;
            }
            let mut shards = uses.iter().map(|used| hasher.shard_of(SlotId::of_key(args.at(used.index))));
            match shards.next() {
                None => Target::One(own),
                Some(first) if shards.all(|shard| shard == first) => Target::One(first),
                Some(_) => Target::Several,
            }
        }
    }
}

/// The keys on which a blocking command waits: those it takes elements from.
pub fn awaited_keys<'a>(command: &'static Registered, args: Args<'a>) -> Vec<&'a [u8]> {
    let mut uses = Vec::new();
    if key_uses(command.spec, args, &mut uses).is_err() {
        return Vec::new();
    }
    uses.iter().filter(|used| used.access.has(KeyAccess::DELETE)).map(|used| args.at(used.index)).collect()
}

/// All keys of a command.
pub fn keys<'a>(command: &'static Registered, args: Args<'a>) -> Vec<&'a [u8]> {
    let mut uses = Vec::new();
    if key_uses(command.spec, args, &mut uses).is_err() {
        return Vec::new();
    }
    uses.iter().map(|used| args.at(used.index)).collect()
}

/// A scan's cursor as clients see it: the shard above, the shard's own cursor in the low bits.
const CURSOR_BITS: u32 = 50;

/// The shard a scan cursor belongs to.
pub fn cursor_shard(cursor: &[u8], shards: usize) -> Option<usize> {
    let shard = (kvshard::number::parse_u64(cursor)? >> CURSOR_BITS) as usize;
    (shard < shards).then_some(shard)
}

/// Makes a shard's reply to a scan the node's: its cursor leads on to the next shard, and ends after the last.
pub fn rewrite_cursor(out: &mut Vec<u8>, start: usize, shard: usize, shards: usize) {
    const HEAD: &[u8] = b"*2\r\n$";
    if !out[start..].starts_with(HEAD) {
        return;
    }
    let lines: Vec<usize> = out[start..].windows(2).enumerate().filter(|(_, w)| *w == b"\r\n").map(|(i, _)| i).take(3).collect();
    let [_, header, end] = lines[..] else { return };
    let Some(cursor) = kvshard::number::parse_u64(&out[start + header + 2..start + end]) else { return };
    let cursor = match cursor {
        0 if shard + 1 < shards => ((shard + 1) as u64) << CURSOR_BITS,
        0 => 0,
        cursor => (shard as u64) << CURSOR_BITS | cursor,
    };
    let text = cursor.to_string();
    let replacement = format!("*2\r\n${}\r\n{text}", text.len());
    out.splice(start..start + end, replacement.into_bytes());
}

/// A key's place as it travels with a command.
#[derive(Clone, Copy)]
pub struct KeyHint {
    /// Which argument it is.
    pub at: u32,
    pub slot: SlotId,
    pub place: table::Place,
}

impl KeyHint {
    #[inline]
    pub fn key(self, args: Args<'_>) -> Key<'_> {
        Key { bytes: args.at(self.at as usize), slot: self.slot, place: self.place }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_walks_from_shard_to_shard() {
        let rewritten = |reply: &str, shard| {
            let mut out = reply.as_bytes().to_vec();
            rewrite_cursor(&mut out, 0, shard, 2);
            String::from_utf8(out).unwrap()
        };
        let second = (1u64 << CURSOR_BITS).to_string();
        assert_eq!(rewritten("*2\r\n$1\r\n0\r\n*0\r\n", 0), format!("*2\r\n${}\r\n{second}\r\n*0\r\n", second.len()));
        assert_eq!(rewritten("*2\r\n$1\r\n0\r\n*0\r\n", 1), "*2\r\n$1\r\n0\r\n*0\r\n");
        assert_eq!(rewritten("*2\r\n$2\r\n77\r\n*0\r\n", 0), "*2\r\n$2\r\n77\r\n*0\r\n");
        assert_eq!(rewritten("-ERR invalid cursor\r\n", 0), "-ERR invalid cursor\r\n");
        assert_eq!(cursor_shard(second.as_bytes(), 2), Some(1));
        assert_eq!(cursor_shard(b"99999999999999999", 2), None);
    }
}
