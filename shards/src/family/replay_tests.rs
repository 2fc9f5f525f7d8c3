//! Effects reproduce the data: random commands on one shard, replayed from their effects alone.

use super::testing::Session;
use crate::codec::commands::write_value;
use crate::effects::Effects;
use crate::keyspace::Value;
use crate::keyspace::expire::CycleBudget;
use crate::random::Random;
use crate::settings::{EvictionPolicy, Settings};
use std::collections::BTreeMap;

/// Command lines; `$` and a letter stand for something random (see [`filled_in`]).
const COMMANDS: &[&str] = &[
    "SET $s $v",
    "SET $s $v PX $i",
    "SET $s $v EX 100 GET",
    "SET $s $v KEEPTTL",
    "SET $k $v NX",
    "SET $s $v XX GET",
    "SET $s $v PXAT 1",
    "SETNX $s $v",
    "SETEX $s 1 $v",
    "PSETEX $s $i $v",
    "GETSET $s $v",
    "GETDEL $s",
    "GETEX $s PX $i",
    "GETEX $s PERSIST",
    "GETEX $s PXAT 5",
    "MSET $s $v $s $v $k $v",
    "MSETNX $s $v $s $v",
    "INCR $s",
    "DECRBY $s $n",
    "INCRBYFLOAT $s $f",
    "APPEND $s $v",
    "SETRANGE $s $n $v",
    "SETBIT $b $n 1",
    "BITFIELD $b SET u8 $n $n INCRBY i5 3 $n",
    "BITOP AND $b $b $s",
    "BITOP NOT $b $b",
    "BITOP XOR $b $b $b",
    "PFADD $p $m $m $m",
    "PFCOUNT $p",
    "PFMERGE $p $p $p",
    "PFMERGE $p $p",
    "PFDEBUG TODENSE $p",
    "RPUSH $l $v $v $m",
    "LPUSH $l $m $m",
    "LPUSHX $l $v",
    "RPUSHX $l $v",
    "LPOP $l",
    "RPOP $l $n",
    "LMPOP 2 $l $l LEFT COUNT $n",
    "LINSERT $l BEFORE $m $v",
    "LSET $l 0 $v",
    "LREM $l 1 $m",
    "LTRIM $l 1 9",
    "LMOVE $l $l LEFT RIGHT",
    "LMOVE $l $l RIGHT LEFT",
    "RPOPLPUSH $l $l",
    "BLMOVE $l $l LEFT LEFT 0",
    "BRPOPLPUSH $l $l 0",
    "BLPOP $l $l 0",
    "BRPOP $l 0",
    "BLMPOP 0 2 $l $l RIGHT COUNT 2",
    "HSET $h $m $v $m $v",
    "HMSET $h $m $v",
    "HSETNX $h $m $v",
    "HINCRBY $h $m $n",
    "HINCRBYFLOAT $h $m $f",
    "HDEL $h $m $m",
    "SADD $t $m $m $m $m",
    "SADD $t 1 2 3 4 5 6 7 8 9 a b",
    "SREM $t $m $m",
    "SPOP $t",
    "SPOP $t $n",
    "SPOP $t 8",
    "SMOVE $t $t $m",
    "SMOVE $t $t 5",
    "SINTERSTORE $t $t $t",
    "SUNIONSTORE $t $t $t",
    "SDIFFSTORE $t $t $t",
    "SUNIONSTORE $k $t",
    "ZADD $z $f $m $n $m",
    "ZADD $z XX CH $f $m",
    "ZADD $z GT $f $m",
    "ZADD $z INCR $f $m",
    "ZINCRBY $z $f $m",
    "ZREM $z $m $m",
    "ZPOPMIN $z",
    "ZPOPMAX $z 2",
    "ZMPOP 2 $z $z MIN COUNT 2",
    "BZPOPMIN $z $z 0",
    "BZMPOP 0 1 $z MAX",
    "ZREMRANGEBYSCORE $z 0 1",
    "ZREMRANGEBYRANK $z 0 0",
    "ZREMRANGEBYLEX $z [a [b",
    "ZRANGESTORE $z $z 0 2",
    "ZUNIONSTORE $z 2 $z $z",
    "ZINTERSTORE $z 2 $z $t",
    "ZDIFFSTORE $z 2 $z $z",
    "GEOADD $g $f $f $m",
    "GEOSEARCHSTORE $g $g FROMLONLAT 1 1 BYRADIUS 900 km",
    "GEORADIUS $g 0 0 999 km STOREDIST $g",
    "DEL $k $k $k",
    "UNLINK $k $k",
    "RENAME $k $k",
    "RENAMENX $k $k",
    "COPY $k $k REPLACE",
    "COPY $k $k",
    "COPY $k $k DB $d REPLACE",
    "MOVE $k $d",
    "EXPIRE $k 1",
    "PEXPIRE $k $i",
    "PEXPIRE $k $i GT",
    "EXPIREAT $k 1700000009",
    "PEXPIREAT $k 1700000001000 LT",
    "EXPIRE $k -1",
    "PERSIST $k",
    "SORT $l ALPHA STORE $l",
    "SORT $t ALPHA DESC STORE $l",
    "SORT $t BY nosort STORE $l",
    "SORT $l BY s* GET # GET s* ALPHA STORE $k",
    "SORT $z ALPHA STORE $k",
    "GET $k",
    "MGET $k $k $k",
    "EXISTS $k $k",
    "TYPE $k",
    "SCAN 0",
    "RANDOMKEY",
    "SWAPDB 0 $d",
    "SWAPDB 1 2",
];

/// Commands that are rare, as they end everything.
const RARE: &[&str] = &["FLUSHDB", "FLUSHALL", "FLUSHALL ASYNC"];

/// The kinds of keys, by letter.
const KINDS: &[u8] = b"sbplhtzg";
const DATABASES: usize = 3;

fn key(random: &mut Random, kind: u8) -> String {
    // Now and then a key that is meant for something else.
    let kind = if random.below(25) == 0 { KINDS[random.below(KINDS.len() as u64) as usize] } else { kind } as char;
    let number = random.below(4);
    if random.below(2) == 0 { format!("{{t}}{kind}{number}") } else { format!("{kind}{number}") }
}

fn filled_in(random: &mut Random, template: &str) -> String {
    let mut line = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        line.push_str(before);
        line.push_str(&match after.as_bytes()[0] {
            b'k' => {
                let kind = KINDS[random.below(KINDS.len() as u64) as usize];
                key(random, kind)
            }
            b'i' => (random.below(60) + 1).to_string(),
            b'v' if random.below(8) == 0 => "v".repeat(random.below(200) as usize + 1),
            b'v' => format!("v{}", random.below(9)),
            b'm' => ["a", "b", "c", "1", "2", "5", "77"][random.below(7) as usize].to_string(),
            b'n' => random.below(10).to_string(),
            b'f' => format!("{}.{}", random.below(9) as i64 - 4, random.below(100)),
            b'd' => random.below(DATABASES as u64).to_string(),
            kind => key(random, kind),
        });
        rest = &after[1..];
    }
    line + rest
}

/// Everything there is: values in an order of their own, and expiries.
fn contents(sessions: &[&Session]) -> BTreeMap<(usize, String), String> {
    let mut all = BTreeMap::new();
    for session in sessions {
        for (db, keys) in session.shard.dbs.iter().enumerate() {
            keys.for_each(|key, value, expiry| {
                let mut parts = vec![];
                match value {
                    Value::Hash(hash) => {
                        hash.for_each(&mut |field, value| parts.push(format!("{:?}={:?}", field.to_vec(), value.to_vec())))
                    }
                    Value::Set(set) => set.for_each(&mut |member| parts.push(format!("{:?}", member.to_vec()))),
                    Value::SortedSet(zset) => {
                        zset.iter().for_each(|(member, score)| parts.push(format!("{:?}@{}", member.to_vec(), score.to_bits())))
                    }
                    other => {
                        let mut bytes = Vec::new();
                        write_value(b"", other, None, &mut bytes, &mut |_| ());
                        parts.push(format!("{}", bytes.escape_ascii()));
                    }
                }
                parts.sort();
                let name = String::from_utf8_lossy(key).into_owned();
                let known = all.insert((db, name.clone()), format!("{expiry:?} {}", parts.join(" ")));
                assert!(known.is_none(), "{name} is on two shards");
            });
        }
    }
    all
}

/// Runs effects at a time at which nothing has expired, as a log is loaded.
fn replay(effects: &Effects, session: &mut Session) {
    let mut ranges = Vec::new();
    session.now = 1;
    for effect in effects.iter() {
        session.db = effect.db;
        let args = effect.args(&mut ranges);
        let reply = session.run_args(args);
        assert!(!reply.starts_with('-'), "{:?} answers {reply}", String::from_utf8_lossy(effect.resp));
    }
}

/// A session with small thresholds, so that all encodings occur.
fn session(shards: u16) -> Session {
    let mut session = Session::of_shards(shards);
    session.shard.settings =
        Settings { hash_max_listpack_entries: 3, zset_max_listpack_entries: 3, set_max_intset_entries: 6, ..Settings::default() };
    session
}

/// Random commands in `original`; `each` is called after each of them.
///
/// Only with `blocking` do clients wait: on a scratch shard nobody does.
fn run_random(seed: u64, steps: usize, blocking: bool, original: &mut Session, mut each: impl FnMut(&mut Session, &str)) {
    let mut random = Random::new(seed);
    let mut next_client = 10;
    for _ in 0..steps {
        original.now += random.below(15) as i64;
        original.db = if random.below(10) == 0 { random.below(DATABASES as u64) as usize } else { 0 };
        let template = match random.below(400) {
            0 => RARE[random.below(RARE.len() as u64) as usize],
            _ => COMMANDS[random.below(COMMANDS.len() as u64) as usize],
        };
        let line = filled_in(&mut random, template);
        let waits = original.run(&line) == "(waits)";
        each(original, &line);
        if waits && blocking {
            next_client += 1;
            original.wait_on(next_client, &line);
        }
        original.serve();
        each(original, "serving clients");
        match random.below(40) {
            0 => {
                original.shard.expire_cycle(original.now, CycleBudget::of_effort(1));
                each(original, "the expiry cycle");
            }
            1 => {
                original.shard.settings.maxmemory_policy = EvictionPolicy::AllkeysRandom;
                original.shard.evict_one(original.now);
                each(original, "an eviction");
            }
            _ => {}
        }
    }
}

#[test]
fn a_shard_is_reproduced_by_its_effects() {
    for seed in 0..6 {
        let (mut original, mut copy) = (session(1), session(1));
        copy.shard.effects.enabled = false;
        run_random(seed, 4000, true, &mut original, |original, _| {
            if original.shard.effects.len() > 100 {
                replay(&original.shard.effects.take(), &mut copy);
                assert_eq!(contents(&[original]), contents(&[&copy]), "seed {seed}");
            }
        });
    }
}

/// Splitting used to sort what was recorded: watchers and waiting clients were told of a command's keys in the order of their names.
#[test]
fn changed_keys_come_in_the_order_of_the_changes() {
    let mut session = session(3);
    let mut parts: Vec<Effects> = (0..3).map(|_| Effects::default()).collect();
    session.shard.begin_recording();
    for (line, want) in [("MSET b 1 a 2 b 3 c 4", "+OK"), ("DEL c b", ":2"), ("MSET 0 1 a 1", "+OK")] {
        session.check(&[(line, want)]);
        session.shard.split_effects(&mut parts);
    }
    let changed = session.shard.end_recording();
    let names: Vec<&[u8]> = changed.iter().map(|(_, key)| &**key).collect();
    assert_eq!(names, [&b"b"[..], b"a", b"b", b"c", b"c", b"b", b"0", b"a"]);
}

/// A key that a command changes again, right after the one before has changed it last, was noted once: the second change was lost.
#[test]
fn a_key_changed_again_by_the_next_command_is_written_again() {
    let mut original = session(3);
    let mut copies: Vec<Session> = (0..3).map(|_| session(3)).collect();
    copies.iter_mut().for_each(|copy| copy.shard.effects.enabled = false);
    let mut parts: Vec<Effects> = (0..3).map(|_| Effects::default()).collect();
    original.shard.begin_recording();
    for (line, want) in [
        ("MSET a 1 b 22 c 333 d 4444", "+OK"),
        ("SETBIT dest 276 1", ":0"),
        ("BITOP OR dest a b c d", ":4"),
        ("BITOP NOT dest dest", ":4"),
    ] {
        original.check(&[(line, want)]);
        original.shard.split_effects(&mut parts);
    }
    parts.iter().zip(&mut copies).for_each(|(part, copy)| replay(part, copy));
    assert_eq!(contents(&[&original]), contents(&copies.iter().collect::<Vec<_>>()));
}

#[test]
fn shards_are_reproduced_by_effects_split_among_them() {
    const SHARDS: u16 = 3;
    for seed in 10..14 {
        let mut original = session(SHARDS);
        let mut copies: Vec<Session> = (0..SHARDS).map(|_| session(SHARDS)).collect();
        copies.iter_mut().for_each(|copy| copy.shard.effects.enabled = false);
        let mut parts: Vec<Effects> = (0..SHARDS).map(|_| Effects::default()).collect();
        original.shard.begin_recording();
        run_random(seed, 1500, false, &mut original, |original, line| {
            original.shard.split_effects(&mut parts);
            original.shard.end_recording();
            original.shard.begin_recording();
            for (part, copy) in parts.iter_mut().zip(&mut copies) {
                replay(part, copy);
                part.clear();
            }
            for (shard, copy) in copies.iter().enumerate() {
                for db in &copy.shard.dbs {
                    db.for_each(|key, _, _| {
                        let placed = original.shard.hasher.key(key);
                        assert_eq!(original.shard.hasher.shard_of(placed.slot), shard, "seed {seed}: {line}");
                    });
                }
            }
            let (original, copies) = (contents(&[original]), contents(&copies.iter().collect::<Vec<_>>()));
            if original != copies {
                let differs = original.iter().find(|(key, value)| copies.get(key) != Some(value));
                let too_much = copies.iter().find(|(key, _)| !original.contains_key(key));
                panic!(
                    "seed {seed}: {line}\n  original {differs:?}\n  copy {too_much:?} {:?}",
                    differs.map(|(key, _)| copies.get(key))
                );
            }
        });
    }
}
