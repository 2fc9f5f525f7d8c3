//! Generators: lists, hashes, sets.

use super::generate::{Gen, Kind, command, join};
use super::step::{Check, Step};

/// A timeout that ends soon: commands that would wait are generated, but nobody will serve them.
const SOON: &str = "0.01";

fn side(g: &mut Gen) -> &'static str {
    g.one_of(&["LEFT", "RIGHT", "left", "right", "LEFT", "RIGHT", "up"])
}

pub fn list(g: &mut Gen) -> Step {
    let key = g.key(Kind::List);
    Step::exact(match g.below(if g.quiet { 22 } else { 26 }) {
        0..=3 => {
            let name = g.one_of(&["LPUSH", "RPUSH", "RPUSH"]);
            let values = (0..1 + g.below(6)).map(|_| g.value()).collect();
            join(vec![command![name, key], values])
        }
        4 => command![g.one_of(&["LPUSHX", "RPUSHX"]), key, g.value(), g.value()],
        5 | 6 => {
            let mut args = command![g.one_of(&["LPOP", "RPOP"]), key];
            if g.chance(50) {
                args.push(g.count().into_bytes());
            }
            args
        }
        7 => command!["LLEN", key],
        8 => command!["LINDEX", key, g.index()],
        9 | 10 => command!["LINSERT", key, g.one_of(&["BEFORE", "after", "AFTER", "beside"]), g.value(), g.value()],
        11 => command!["LSET", key, g.index(), g.value()],
        12 => command!["LREM", key, g.index(), g.value()],
        13 => {
            if g.chance(60) {
                return Step::exact(command!["LRANGE", key, "0", "-1"]);
            }
            command!["LTRIM", key, g.index(), g.random.between(5, 30)]
        }
        14 | 15 => command!["LRANGE", key, g.index(), g.index()],
        16 => {
            let mut args = command!["LPOS", key, g.value()];
            for _ in 0..g.below(3) {
                let option = g.one_of(&["RANK", "COUNT", "MAXLEN", "rank"]);
                args.extend(command![option, g.index()]);
            }
            args
        }
        17 => command!["RPOPLPUSH", key, g.key(Kind::List)],
        18 | 19 => command!["LMOVE", key, g.key(Kind::List), side(g), side(g)],
        20 | 21 => {
            let keys = g.keys(Kind::List, 4);
            let mut args = join(vec![command!["LMPOP", keys.len() as i64], keys, command![side(g)]]);
            if g.chance(50) {
                args.extend(command!["COUNT", g.count()]);
            }
            args
        }
        22 => join(vec![command![g.one_of(&["BLPOP", "BRPOP"])], g.keys(Kind::List, 3), command![SOON]]),
        23 => command!["BRPOPLPUSH", key, g.key(Kind::List), SOON],
        24 => command!["BLMOVE", key, g.key(Kind::List), side(g), side(g), SOON],
        _ => {
            let keys = g.keys(Kind::List, 3);
            join(vec![command!["BLMPOP", SOON, keys.len() as i64], keys, command![side(g)]])
        }
    })
}

pub fn hash(g: &mut Gen) -> Step {
    let key = g.key(Kind::Hash);
    match g.below(20) {
        0..=4 => {
            let mut args = command![g.one_of(&["HSET", "HSET", "HMSET"]), key];
            for _ in 0..1 + g.below(5) {
                args.push(g.member());
                args.push(g.value());
            }
            Step::exact(args)
        }
        5 => Step::exact(command!["HSETNX", key, g.member(), g.value()]),
        6 => Step::exact(command!["HGET", key, g.member()]),
        7 => Step::exact(join(vec![command!["HMGET", key], g.members(5)])),
        8 => Step::exact(join(vec![command!["HDEL", key], g.members(3)])),
        9 => Step::exact(command!["HLEN", key]),
        10 => Step::exact(command!["HSTRLEN", key, g.member()]),
        11 => Step::exact(command!["HEXISTS", key, g.member()]),
        12 => Step::exact(command!["HINCRBY", key, g.member(), g.integer()]),
        13 => Step::exact(command!["HINCRBYFLOAT", key, g.member(), g.float()]),
        14 => Step::new(command!["HGETALL", key], Check::UnorderedPairs),
        15 => Step::new(command![g.one_of(&["HKEYS", "HVALS"]), key], Check::Unordered),
        16 | 17 => {
            let mut args = command!["HRANDFIELD", key.clone()];
            if g.chance(70) {
                args.push(g.index().into_bytes());
                if g.chance(50) {
                    args.push(b"WITHVALUES".to_vec());
                }
            }
            Step::new(args, Check::Sample { source: command!["HGETALL", key] })
        }
        _ => Step::new(join(vec![command!["HSCAN", key, "0"], scan_options(g)]), Check::Scan { cursor: 2 }),
    }
}

/// MATCH and COUNT, in any order, each perhaps.
pub fn scan_options(g: &mut Gen) -> Vec<Vec<u8>> {
    let mut args = Vec::new();
    if g.chance(30) {
        args.extend(command!["COUNT", g.one_of(&["1", "3", "100", "10", "0", "abc"])]);
    }
    if g.chance(40) {
        args.extend(command!["match", g.pattern()]);
    }
    args
}

pub fn set(g: &mut Gen) -> Step {
    let key = g.key(Kind::Set);
    match g.below(24) {
        0..=5 => {
            let most = if g.chance(10) { 30 } else { 6 };
            let members = if g.chance(50) {
                (0..1 + g.below(most)).map(|_| command![g.random.between(-40, 40)].remove(0)).collect()
            } else {
                g.members(most)
            };
            Step::exact(join(vec![command!["SADD", key], members]))
        }
        6 | 7 => Step::exact(join(vec![command!["SREM", key], g.members(4)])),
        8 => Step::exact(command!["SCARD", key]),
        9 => Step::exact(command!["SISMEMBER", key, g.member()]),
        10 => Step::exact(join(vec![command!["SMISMEMBER", key], g.members(5)])),
        11 => Step::exact(command!["SMOVE", key, g.key(Kind::Set), g.member()]),
        12 => Step::new(command!["SMEMBERS", key], Check::Unordered),
        13 | 14 => {
            Step::new(join(vec![command![g.one_of(&["SINTER", "SUNION", "SDIFF"])], g.keys(Kind::Set, 4)]), Check::Unordered)
        }
        15..=17 => {
            Step::exact(join(vec![command![g.one_of(&["SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE"]), key], g.keys(Kind::Set, 4)]))
        }
        18 => {
            let keys = g.keys(Kind::Set, 3);
            let mut args = join(vec![command!["SINTERCARD", keys.len() as i64], keys]);
            if g.chance(40) {
                args.extend(command!["LIMIT", g.count()]);
            }
            Step::exact(args)
        }
        19 | 20 => {
            let mut args = command!["SRANDMEMBER", key.clone()];
            if g.chance(70) {
                args.push(g.index().into_bytes());
            }
            Step::new(args, Check::Sample { source: command!["SMEMBERS", key] })
        }
        21 => {
            let mut args = command!["SPOP", key];
            if g.chance(60) {
                args.push(g.count().into_bytes());
            }
            Step::new(args, Check::Pop)
        }
        _ => Step::new(join(vec![command!["SSCAN", key, "0"], scan_options(g)]), Check::Scan { cursor: 2 }),
    }
}
