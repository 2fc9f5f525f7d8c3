//! What every writing command is logged as: the answers of redis-server 7.0.15's append-only file.

use super::commands;
use super::testing::Session;
use crate::command::Flags;

/// (commands before, separated by `;`, where `+5` moves the clock; the command; its effects, separated by `;`)
const CASES: &[(&str, &str, &str)] = &[
    // Strings.
    ("", "SET k v", "SET k v"),
    ("", "set k v ex 10", "SET k v PXAT 1700000010000"),
    ("SET k v", "set k v PX 10 xx get", "SET k v PXAT 1700000000010"),
    ("", "SET k v EXAT 9999999999", "SET k v PXAT 9999999999000"),
    ("", "SET k v PXAT 1", "SET k v PXAT 1"),
    ("", "SET k v KEEPTTL", "SET k v KEEPTTL"),
    ("SET k v", "set k get xx GET get", "set k get xx"),
    ("", "SET k v NX GET", "SET k v NX"),
    ("SET k v", "SET k v NX", ""),
    ("SET k v", "SET k v NX GET", ""),
    ("", "SET k v XX PX 10", ""),
    ("", "SETEX k 10 v", "SET k v PXAT 1700000010000"),
    ("", "psetex k 10 v", "SET k v PXAT 1700000000010"),
    ("", "SETNX k v", "SETNX k v"),
    ("SET k v", "SETNX k v", ""),
    ("SET k v", "GETSET k w", "SET k w"),
    ("", "GETSET k w", "SET k w"),
    ("SET k v", "GETDEL k", "DEL k"),
    ("", "GETDEL k", ""),
    ("SET k v", "GETEX k", ""),
    ("SET k v", "GETEX k EX 10", "PEXPIREAT k 1700000010000"),
    ("SET k v", "GETEX k PXAT 1", "DEL k"),
    ("SET k v EX 9", "getex k persist", "PERSIST k"),
    ("SET k v", "GETEX k PERSIST", ""),
    ("", "GETEX k EX 10", ""),
    ("", "MSET a 1 b 2", "MSET a 1 b 2"),
    ("", "MSETNX a 1 b 2", "MSETNX a 1 b 2"),
    ("SET b 1", "MSETNX a 1 b 2", ""),
    ("", "INCR k", "INCR k"),
    ("", "DECR k", "DECR k"),
    ("", "INCRBY k 0", "INCRBY k 0"),
    ("", "DECRBY k 5", "DECRBY k 5"),
    ("SET k v", "INCR k", ""),
    ("SET k 1.5", "INCRBYFLOAT k 1.5", "SET k 3 KEEPTTL"),
    ("", "APPEND k \"\"", "APPEND k "),
    ("", "SETRANGE k 0 \"\"", ""),
    ("SET k 1", "SETRANGE k 0 1", "SETRANGE k 0 1"),
    // Bitmaps and counters.
    ("", "SETBIT k 7 0", "SETBIT k 7 0"),
    ("SETBIT k 7 1", "SETBIT k 7 1", ""),
    ("", "BITFIELD k SET u8 0 1", "BITFIELD k SET u8 0 1"),
    ("BITFIELD k SET u8 0 1", "BITFIELD k SET u8 0 1", ""),
    ("BITFIELD k SET u8 0 1", "BITFIELD k GET u8 0", ""),
    ("BITFIELD k SET u8 0 1", "BITFIELD k OVERFLOW FAIL INCRBY u8 0 255", ""),
    ("SET a x", "BITOP NOT k a", "BITOP NOT k a"),
    ("SET k x", "BITOP AND k none none", "BITOP AND k none none"),
    ("", "BITOP AND k none none", ""),
    ("", "PFADD k a b", "PFADD k a b"),
    ("PFADD k a b", "PFADD k b a", ""),
    ("", "PFADD k", "PFADD k"),
    ("PFADD k a", "pfcount k", "pfcount k"),
    ("PFADD k a;PFCOUNT k", "PFCOUNT k", ""),
    ("PFADD k a;PFADD j a", "PFCOUNT k j", ""),
    ("PFADD k a", "PFMERGE j k", "PFMERGE j k"),
    ("", "PFMERGE j none", "PFMERGE j none"),
    ("PFADD k a", "PFDEBUG GETREG k", "PFDEBUG GETREG k"),
    // Lists.
    ("", "RPUSH k a b", "RPUSH k a b"),
    ("", "LPUSH k a b", "LPUSH k a b"),
    ("", "LPUSHX k a", ""),
    ("RPUSH k a", "LPUSHX k a", "LPUSHX k a"),
    ("RPUSH k a", "rpushx k a", "rpushx k a"),
    ("RPUSH k a b", "LPOP k", "LPOP k"),
    ("RPUSH k a b", "LPOP k 0", ""),
    ("RPUSH k a b", "RPOP k 9", "RPOP k 9"),
    ("RPUSH k a b", "LMPOP 2 none k LEFT", "LPOP k 1"),
    ("RPUSH k a b", "lmpop 2 none k right count 9", "RPOP k 2"),
    ("", "LMPOP 2 none k LEFT", ""),
    ("RPUSH k a b", "LINSERT k before b x", "LINSERT k before b x"),
    ("RPUSH k a b", "LINSERT k before c x", ""),
    ("RPUSH k a b", "LSET k 0 a", "LSET k 0 a"),
    ("RPUSH k a b", "LREM k 0 c", ""),
    ("RPUSH k a b", "LREM k 0 a", "LREM k 0 a"),
    ("RPUSH k a b", "LTRIM k 0 -1", ""),
    ("RPUSH k a b", "LTRIM k 5 3", "LTRIM k 5 3"),
    ("RPUSH k a b", "LMOVE k j LEFT RIGHT", "LMOVE k j LEFT RIGHT"),
    ("RPUSH k a b", "RPOPLPUSH k k", "RPOPLPUSH k k"),
    ("", "RPOPLPUSH k k", ""),
    ("RPUSH k a b", "BLPOP none k 1", "LPOP k"),
    ("RPUSH k a b", "BRPOP none k 1", "RPOP k"),
    ("RPUSH k a b", "BLMPOP 1 2 none k RIGHT COUNT 5", "RPOP k 2"),
    ("RPUSH k a b", "blmove k j left RIGHT 1", "LMOVE k j left RIGHT"),
    ("RPUSH k a b", "BRPOPLPUSH k j 1", "RPOPLPUSH k j"),
    // Hashes.
    ("", "HSET k f 1", "HSET k f 1"),
    ("HSET k f 1", "HSET k f 1", "HSET k f 1"),
    ("", "HMSET k f 2", "HMSET k f 2"),
    ("HSET k f 1", "HSETNX k f 3", ""),
    ("", "HSETNX k f 3", "HSETNX k f 3"),
    ("", "HINCRBY k f 0", "HINCRBY k f 0"),
    ("HSET k f 2", "HINCRBYFLOAT k f 1.25", "HSET k f 3.25"),
    ("HSET k f 2", "HDEL k none", ""),
    ("HSET k f 2", "HDEL k none f", "HDEL k none f"),
    // Sets.
    ("", "SADD k a b", "SADD k a b"),
    ("SADD k a", "SADD k a", ""),
    ("SADD k a", "SADD k a b", "SADD k a b"),
    ("SADD k a", "SREM k x", ""),
    ("SADD k a", "SREM k a x", "SREM k a x"),
    ("SADD k a", "SPOP k", "SREM k a"),
    ("SADD k a", "SPOP k 0", ""),
    ("SADD k a b", "SPOP k 2", "DEL k"),
    ("", "SPOP k", ""),
    ("SADD k a", "SMOVE k j x", ""),
    ("SADD k a", "SMOVE k k a", ""),
    ("SADD k a", "SMOVE k j a", "SMOVE k j a"),
    ("SADD k a", "SINTERSTORE d k none", ""),
    ("SADD k a;SET d x", "SINTERSTORE d k none", "SINTERSTORE d k none"),
    ("SADD k a", "SUNIONSTORE d k none", "SUNIONSTORE d k none"),
    ("SADD k a", "SDIFFSTORE d k none", "SDIFFSTORE d k none"),
    // Sorted sets.
    ("", "ZADD k 1 a", "ZADD k 1 a"),
    ("ZADD k 1 a", "ZADD k 1 a", ""),
    ("ZADD k 1 a", "ZADD k XX CH 2 a 3 b", "ZADD k XX CH 2 a 3 b"),
    ("ZADD k 1 a", "ZADD k NX 2 a", ""),
    ("ZADD k 1 a", "ZADD k INCR 0 a", ""),
    ("ZADD k 1 a", "ZINCRBY k 0 a", ""),
    ("ZADD k 1 a", "ZINCRBY k 1 a", "ZINCRBY k 1 a"),
    ("ZADD k 1 a", "ZREM k b", ""),
    ("ZADD k 1 a", "ZREM k b a", "ZREM k b a"),
    ("ZADD k 1 a", "ZPOPMIN k", "ZPOPMIN k"),
    ("ZADD k 1 a", "ZPOPMAX k 5", "ZPOPMAX k 5"),
    ("ZADD k 1 a", "ZPOPMIN k 0", ""),
    ("ZADD k 1 a 2 b", "zmpop 2 none k MIN", "ZPOPMIN k 1"),
    ("ZADD k 1 a 2 b", "ZMPOP 2 none k MAX COUNT 5", "ZPOPMAX k 2"),
    ("ZADD k 1 a 2 b", "BZPOPMIN none k 1", "ZPOPMIN k"),
    ("ZADD k 1 a 2 b", "BZPOPMAX none k 1", "ZPOPMAX k"),
    ("ZADD k 1 a 2 b", "BZMPOP 1 2 none k MIN COUNT 7", "ZPOPMIN k 2"),
    ("ZADD k 1 a 2 b", "ZREMRANGEBYSCORE k 5 6", ""),
    ("ZADD k 1 a 2 b", "ZREMRANGEBYSCORE k 2 6", "ZREMRANGEBYSCORE k 2 6"),
    ("ZADD k 1 a 2 b", "ZREMRANGEBYRANK k 0 0", "ZREMRANGEBYRANK k 0 0"),
    ("ZADD k 1 a 1 b", "ZREMRANGEBYLEX k [a [a", "ZREMRANGEBYLEX k [a [a"),
    ("ZADD k 1 a", "ZRANGESTORE d k 0 -1", "ZRANGESTORE d k 0 -1"),
    ("ZADD k 1 a", "ZRANGESTORE d k 5 6", ""),
    ("ZADD k 1 a", "ZUNIONSTORE d 1 k", "ZUNIONSTORE d 1 k"),
    ("ZADD k 1 a", "ZINTERSTORE d 2 k none", ""),
    ("ZADD k 1 a;SET d x", "ZINTERSTORE d 2 k none", "ZINTERSTORE d 2 k none"),
    ("ZADD k 1 a", "ZDIFFSTORE d 1 k", "ZDIFFSTORE d 1 k"),
    ("", "geoadd k CH 13.361389 38.115556 P", "zadd k CH 3479099956230698 P"),
    ("GEOADD k 13.361389 38.115556 P", "GEOADD k 13.361389 38.115556 P", ""),
    (
        "GEOADD k 13 38 P",
        "GEOSEARCHSTORE d k FROMLONLAT 13 38 BYRADIUS 9 km",
        "GEOSEARCHSTORE d k FROMLONLAT 13 38 BYRADIUS 9 km",
    ),
    ("GEOADD k 13 38 P", "GEORADIUS k 13 38 9 km STORE d", "GEORADIUS k 13 38 9 km STORE d"),
    ("GEOADD k 13 38 P", "GEORADIUS k 13 38 9 km", ""),
    ("GEOADD k 13 38 P", "GEORADIUSBYMEMBER k P 9 km STOREDIST d", "GEORADIUSBYMEMBER k P 9 km STOREDIST d"),
    // Keys.
    ("", "DEL k", ""),
    ("SET k v", "DEL none k", "DEL none k"),
    ("SET k v", "UNLINK none k", "UNLINK none k"),
    ("SET k v", "RENAME k k", ""),
    ("SET k v", "RENAME k j", "RENAME k j"),
    ("SET k v;SET j v", "RENAMENX k j", ""),
    ("SET k v", "RENAMENX k j", "RENAMENX k j"),
    ("SET k v", "COPY k j", "COPY k j"),
    ("SET k v;SET j v", "COPY k j", ""),
    ("SET k v", "COPY k j DB 2 REPLACE", "COPY k j DB 2 REPLACE"),
    ("SET k v", "MOVE k 3", "MOVE k 3"),
    ("", "MOVE k 3", ""),
    ("SET k v", "EXPIRE k 100", "PEXPIREAT k 1700000100000"),
    ("SET k v EX 9", "expire k 100 gt", "PEXPIREAT k 1700000100000 gt"),
    ("SET k v EX 9", "EXPIRE k 100 LT", ""),
    ("SET k v", "PEXPIRE k 100", "PEXPIREAT k 1700000000100"),
    ("SET k v", "EXPIREAT k 9999999999 NX", "PEXPIREAT k 9999999999000 NX"),
    ("SET k v", "pexpireat k 9999999999999", "pexpireat k 9999999999999"),
    ("SET k v", "EXPIRE k -1", "DEL k"),
    ("", "EXPIRE k 1", ""),
    ("SET k v EX 9", "PERSIST k", "PERSIST k"),
    ("SET k v", "PERSIST k", ""),
    ("RPUSH k b a", "SORT k ALPHA STORE d", "SORT k ALPHA STORE d"),
    ("RPUSH k b a", "SORT k ALPHA", ""),
    ("", "SORT k STORE d", ""),
    ("SET d x", "SORT k STORE d", "SORT k STORE d"),
    ("", "FLUSHALL", "FLUSHALL"),
    ("", "flushdb async", "flushdb async"),
    ("", "SWAPDB 0 0", "SWAPDB 0 0"),
    // Keys whose time is up: their deletion comes first, and belongs to the command.
    ("SET k v PX 5;+6", "GET k", "DEL k"),
    ("SET k v PX 5;SET j v PX 5;+6", "MGET k j", "MULTI;DEL k;DEL j;EXEC"),
    ("SET k v PX 5;SET j v PX 5;+6", "DEL k j", "MULTI;DEL k;DEL j;EXEC"),
    ("SET k v PX 5;+6", "SET k w", "MULTI;DEL k;SET k w;EXEC"),
    ("SET k v PX 5;+6", "SET k w PX 7", "MULTI;DEL k;SET k w PXAT 1700000000013;EXEC"),
    ("SET k v PX 5;+6", "INCR k", "MULTI;DEL k;INCR k;EXEC"),
    ("SET k v PX 5;SET j v PX 5;+6", "MSET k 1 j 1", "MULTI;DEL k;DEL j;MSET k 1 j 1;EXEC"),
    ("SET k v PX 5;+6", "RENAME k j", "DEL k"),
    ("SET j v PX 5;SET k v;+6", "RENAME k j", "MULTI;DEL j;RENAME k j;EXEC"),
    ("SET j v PX 5;SET k v;+6", "COPY k j REPLACE", "MULTI;DEL j;COPY k j REPLACE;EXEC"),
    ("SET k v PX 5;+6", "EXPIRE k 5", "DEL k"),
    ("SET k v PX 5;RPUSH l a;+6", "BLPOP k l 0", "MULTI;DEL k;LPOP l;EXEC"),
    ("SET a v PX 5;SET b v PX 5;+6", "LMPOP 2 a b LEFT", "MULTI;DEL a;DEL b;EXEC"),
    ("SADD k a;SET d v PX 5;+6", "SINTERSTORE d k none", "SINTERSTORE d k none"),
    ("SADD k a;SET d v PX 5;+6", "SUNIONSTORE d k none", "MULTI;DEL d;SUNIONSTORE d k none;EXEC"),
    ("SET k v PX 5;+6", "SCAN 0", "DEL k"),
];

fn run_setup(s: &mut Session, setup: &str) {
    for line in setup.split(';').filter(|line| !line.is_empty()) {
        match line.strip_prefix('+') {
            Some(ms) => s.now += ms.parse::<i64>().expect("milliseconds"),
            None => assert!(!s.run(line).starts_with('-'), "{line}"),
        }
    }
    s.log();
}

#[test]
fn every_command_is_logged_as_redis_does() {
    let mut failures = Vec::new();
    for (setup, command, wanted) in CASES {
        let mut s = Session::new();
        run_setup(&mut s, setup);
        s.run(command);
        let log = s.log().join(";");
        if log != *wanted {
            failures.push(format!("{setup} | {command}\n    wanted {wanted}\n    got    {log}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn no_writing_command_is_forgotten() {
    // Their payloads are binary: see `dump`.
    const ELSEWHERE: &[&str] = &["restore", "restore-asking"];
    let tested: Vec<String> = CASES.iter().map(|case| case.1.split(' ').next().unwrap().to_lowercase()).collect();
    for command in commands().filter(|command| command.spec.flags.has(Flags::WRITE)) {
        let name = command.spec.name;
        assert!(ELSEWHERE.contains(&name) || tested.iter().any(|tested| tested == name), "{name} has no case");
    }
}

#[test]
fn nothing_is_kept_while_nobody_wants_it() {
    let mut s = Session::new();
    s.shard.effects.enabled = false;
    for (setup, command, _) in CASES {
        run_setup(&mut s, &format!("FLUSHALL;{setup}"));
        s.run(command);
        assert!(s.shard.effects.is_empty(), "{command}");
    }
}

#[test]
fn deletions_follow_the_lazyfree_settings() {
    for (setting, unlinking) in [(0, &["GET a", "EXPIRE k -1", "GETEX k PXAT 1"][..]), (1, &["GETDEL k"]), (2, &[])] {
        for command in ["GET a", "EXPIRE k -1", "GETEX k PXAT 1", "GETDEL k", "SPOP s 9", "DEL k"] {
            let mut s = Session::new();
            let settings = &mut s.shard.settings;
            let flags =
                [&mut settings.lazyfree_lazy_expire, &mut settings.lazyfree_lazy_user_del, &mut settings.lazyfree_lazy_eviction];
            for (at, flag) in flags.into_iter().enumerate() {
                *flag = at == setting;
            }
            run_setup(&mut s, "SET a v PX 5;SET k v;SADD s x y;+6");
            s.run(command);
            let wanted = if unlinking.contains(&command) { "UNLINK " } else { "DEL " };
            let log = s.log();
            assert!(log.len() == 1 && log[0].starts_with(wanted), "{command} with setting {setting}: {log:?}");
        }
    }
}

#[test]
fn a_random_choice_is_logged_as_what_was_chosen() {
    let mut s = Session::new();
    run_setup(&mut s, "SADD k a b c d e f g h i j");
    let reply = s.run("SPOP k 4");
    let log = s.log();
    assert_eq!((log.len(), log[0].as_str(), log[5].as_str()), (6, "MULTI", "EXEC"));
    for line in &log[1..5] {
        let member = line.strip_prefix("SREM k ").expect("a removal");
        assert!(reply.contains(&format!("$1 {member}")), "{line} of {reply}");
    }
}

#[test]
fn served_clients_follow_what_served_them() {
    let mut s = Session::new();
    s.block(2, "BLPOP l 0");
    s.block(3, "blmove l m LEFT right 0");
    s.block(4, "BRPOP m 0");
    s.block(5, "BZMPOP 0 1 z MAX COUNT 2");
    run_setup(&mut s, "SET m v PX 5");
    s.now += 6;
    s.shard.effects.begin();
    s.run("RPUSH l a b c");
    s.run("ZADD z 1 a 2 b 3 c");
    s.shard.effects.end();
    s.serve();
    let wanted = ["MULTI", "RPUSH l a b c", "ZADD z 1 a 2 b 3 c", "EXEC", "LPOP l"];
    let move_and_expiry = ["MULTI", "DEL m", "LMOVE l m left right", "EXEC", "ZPOPMAX z 2", "RPOP m"];
    assert_eq!(s.log(), [&wanted[..], &move_and_expiry].concat());
    s.block(6, "BRPOPLPUSH q r 0");
    s.run("RPUSH q a");
    s.serve();
    assert_eq!(s.log(), ["RPUSH q a", "RPOPLPUSH q r"]);
}

#[test]
fn keys_met_by_scan_and_the_expiry_cycle_have_nothing_to_do_with_each_other() {
    let mut s = Session::new();
    run_setup(&mut s, "SET a v PX 5;SET b v PX 5;SET c v PX 5;+6");
    s.run("SCAN 0");
    let mut log = s.log();
    log.sort();
    assert_eq!(log, ["DEL a", "DEL b", "DEL c"]);
    run_setup(&mut s, "SET a v PX 5;SET b v PX 5;+6");
    s.shard.effects.begin();
    s.run("SCAN 0");
    s.shard.effects.end();
    assert_eq!(s.log().len(), 4, "within EXEC they belong together");
    run_setup(&mut s, "SET a v PX 5;SET b v PX 5;+6");
    s.shard.expire_cycle(s.now, crate::keyspace::expire::CycleBudget::of_effort(10));
    assert_eq!(s.log().len(), 2);
}

#[test]
fn databases_are_selected_where_they_change() {
    let mut s = Session::new();
    s.db = 1;
    run_setup(&mut s, "SET k v");
    s.db = 0;
    run_setup(&mut s, "SET k v PX 5;+6");
    s.db = 1;
    s.run("MOVE k 0");
    assert_eq!(s.log(), ["MULTI", "DEL k", "SELECT 1", "MOVE k 0", "EXEC"]);
}
