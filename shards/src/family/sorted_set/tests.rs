//! Sorted-set commands: replies as redis-server 7.0.15 gives them (ZRANK WITHSCORE as 7.2 does), effects and events.

use crate::family::testing::Session;
use crate::keyspace::{Key, Value};
use crate::settings::NotifyFlags;

fn encoding(s: &mut Session, name: &str) -> &'static str {
    let key: Key<'_> = s.shard.hasher.key(name.as_bytes());
    match s.shard.dbs[0].value(&key) {
        Some(Value::SortedSet(set)) => set.encoding(),
        _ => "none",
    }
}

fn events(s: &mut Session) -> Vec<String> {
    s.shard.take_events().into_iter().map(|event| format!("{} {}", event.name, String::from_utf8_lossy(&event.key))).collect()
}

#[test]
fn adding_and_its_options() {
    let mut s = Session::new();
    s.check(&[
        ("ZADD z 1 a 2 b 3 c", ":3"),
        ("ZADD z 1 a 5 b", ":0"),
        ("ZADD z CH 1 a 6 b 7 d", ":2"),
        ("ZADD z NX 9 a 8 e", ":1"),
        ("ZADD z XX CH 10 a 1 f", ":1"),
        ("ZADD z GT CH 5 a 11 b", ":1"),
        ("ZADD z LT CH 12 b 1 a", ":1"),
        ("ZADD z INCR 2.5 a", "$3 3.5"),
        ("ZADD z NX INCR 2 a", "$-1"),
        ("ZADD z XX INCR 2 none", "$-1"),
        ("ZADD z GT INCR -1 a", "$-1"),
        ("ZADD none XX 1 a", ":0"),
        ("ZADD none XX INCR 1 a", "$-1"),
        ("ZINCRBY z 0.1 a", "$18 3.6000000000000001"),
        ("ZINCRBY z inf a", "$3 inf"),
        ("ZINCRBY z -inf a", "-ERR resulting score is not a number (NaN)"),
        ("ZADD z NX XX 1 a", "-ERR XX and NX options at the same time are not compatible"),
        ("ZADD z GT LT 1 a", "-ERR GT, LT, and/or NX options at the same time are not compatible"),
        ("ZADD z INCR 1 a 2 b", "-ERR INCR option supports a single increment-element pair"),
        ("ZADD z 1 a 2", "-ERR syntax error"),
        ("ZADD z CH NX", "-ERR syntax error"),
        ("ZADD z 1 a x b", "-ERR value is not a valid float"),
        ("ZADD z nan a", "-ERR value is not a valid float"),
        ("SET str x", "+OK"),
        ("ZADD str 1 a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("ZADD str x a", "-ERR value is not a valid float"),
    ]);
    assert_eq!(s.run("ZCARD z"), ":5");
}

#[test]
fn reading_by_member_and_counting() {
    let mut s = Session::new();
    s.check(&[
        ("ZADD z 1 a 2 b 3 c 3 d", ":4"),
        ("ZSCORE z c", "$1 3"),
        ("ZSCORE z x", "$-1"),
        ("ZMSCORE z a x", "*2 $1 1 $-1"),
        ("ZMSCORE none a", "*1 $-1"),
        ("ZRANK z d", ":3"),
        ("ZREVRANK z d", ":0"),
        ("ZRANK z x", "$-1"),
        ("ZRANK z b WITHSCORE", "*2 :1 $1 2"),
        ("ZRANK z x WITHSCORE", "*-1"),
        ("ZRANK z b SCORE", "-ERR syntax error"),
        ("ZRANK z b WITHSCORE x", "-ERR wrong number of arguments for 'zrank' command"),
        ("ZCOUNT z -inf +inf", ":4"),
        ("ZCOUNT z (1 3", ":3"),
        ("ZCOUNT z \"\" \" 2\"", ":2"),
        ("ZCOUNT z 1e999 2", ":0"),
        ("ZCOUNT z a 3", "-ERR min or max is not a float"),
        ("ZLEXCOUNT z - +", ":4"),
        ("ZLEXCOUNT z a b", "-ERR min or max not valid string range item"),
    ]);
    s.resp3 = true;
    s.check(&[
        ("ZSCORE z c", ",3"),
        ("ZSCORE z x", "_"),
        ("ZMSCORE z a x", "*2 ,1 _"),
        ("ZRANK z b WITHSCORE", "*2 :1 ,2"),
        ("ZRANK z x WITHSCORE", "_"),
    ]);
}

#[test]
fn ranges_of_every_kind_in_both_encodings() {
    for entries in [128, 0] {
        let mut s = Session::new();
        s.shard.settings.zset_max_listpack_entries = entries;
        s.check(&[
            ("ZADD z 1 a 2 b 3 c 4 d 5 e", ":5"),
            ("ZRANGE z 0 -1", "*5 $1 a $1 b $1 c $1 d $1 e"),
            ("ZRANGE z -2 -1 WITHSCORES", "*4 $1 d $1 4 $1 e $1 5"),
            ("ZRANGE z 0 1 REV", "*2 $1 e $1 d"),
            ("ZRANGE z 5 9", "*0"),
            ("ZRANGE z 3 1", "*0"),
            ("ZRANGE z (1 3 BYSCORE", "*2 $1 b $1 c"),
            ("ZRANGE z 3 (1 BYSCORE REV LIMIT 1 5", "*1 $1 b"),
            ("ZRANGE z -inf inf BYSCORE LIMIT 1 2 WITHSCORES", "*4 $1 b $1 2 $1 c $1 3"),
            ("ZRANGE z -inf inf BYSCORE LIMIT -1 2", "*0"),
            ("ZRANGE z -inf inf BYSCORE LIMIT 3 -7", "*2 $1 d $1 e"),
            ("ZREVRANGE z 0 0 WITHSCORES", "*2 $1 e $1 5"),
            ("ZRANGEBYSCORE z 2 3", "*2 $1 b $1 c"),
            ("ZREVRANGEBYSCORE z 3 2 LIMIT 0 1", "*1 $1 c"),
            ("ZRANGE z 0 1 LIMIT 0 1", "-ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"),
            ("ZRANGE z - + BYLEX WITHSCORES", "-ERR syntax error, WITHSCORES not supported in combination with BYLEX"),
            ("ZRANGE z 0 x", "-ERR value is not an integer or out of range"),
            ("ZREVRANGE z 0 1 REV", "-ERR syntax error"),
            ("ZRANGE none 0 -1", "*0"),
            ("ZADD l 0 a 0 b 0 c 0 d", ":4"),
            ("ZRANGEBYLEX l [b (d", "*2 $1 b $1 c"),
            ("ZREVRANGEBYLEX l + (b LIMIT 1 1", "*1 $1 c"),
            ("ZRANGEBYLEX l + -", "*0"),
            ("ZRANGE l [b + BYLEX", "*3 $1 b $1 c $1 d"),
            ("ZRANGESTORE t z 1 2", ":2"),
            ("ZRANGE t 0 -1 WITHSCORES", "*4 $1 b $1 2 $1 c $1 3"),
            ("ZRANGESTORE t none 0 -1", ":0"),
            ("ZCARD t", ":0"),
            ("ZREMRANGEBYRANK z 0 0", ":1"),
            ("ZREMRANGEBYSCORE z (2 3", ":1"),
            ("ZREMRANGEBYLEX l [b [c", ":2"),
            ("ZRANGE z 0 -1", "*3 $1 b $1 d $1 e"),
            ("ZREMRANGEBYRANK z 0 -1", ":3"),
            ("ZCARD z", ":0"),
        ]);
        s.resp3 = true;
        s.check(&[("ZRANGE l 0 -1 WITHSCORES", "*2 *2 $1 a ,0 *2 $1 d ,0"), ("ZRANGE l 0 0", "*1 $1 a")]);
    }
}

#[test]
fn popping_in_all_reply_forms() {
    let mut s = Session::new();
    s.check(&[
        ("ZADD z 1 a 2 b 3 c 4 d 5 e 6 f 7 g 8 h", ":8"),
        ("ZPOPMIN z", "*2 $1 a $1 1"),
        ("ZPOPMAX z 2", "*4 $1 h $1 8 $1 g $1 7"),
        ("ZPOPMIN z 0", "*0"),
        ("ZPOPMIN none 5", "*0"),
        ("ZPOPMIN z -1", "-ERR value is out of range, must be positive"),
        ("ZPOPMIN z 1 2", "-ERR syntax error"),
        ("ZMPOP 2 none z MAX COUNT 2", "*2 $1 z *2 *2 $1 f $1 6 *2 $1 e $1 5"),
        ("ZMPOP 1 none MIN", "*-1"),
        ("ZMPOP 0 z MIN", "-ERR numkeys should be greater than 0"),
        ("ZMPOP 1 z MIN COUNT 0", "-ERR count should be greater than 0"),
        ("ZMPOP 1 z MIN COUNT 1 COUNT 1", "-ERR syntax error"),
        ("ZMPOP 3 z MIN COUNT 1", "-ERR syntax error"),
    ]);
    s.resp3 = true;
    s.check(&[
        ("ZPOPMIN z", "*2 $1 b ,2"),
        ("ZPOPMIN z 1", "*1 *2 $1 c ,3"),
        ("BZPOPMAX none z 0", "*3 $1 z $1 d ,4"),
        ("BZPOPMIN z 0", "(waits)"),
        ("BZMPOP 0 1 z MIN", "(waits)"),
        ("BZPOPMIN z x", "-ERR timeout is not a float or out of range"),
        ("BZPOPMIN z -1", "-ERR timeout is negative"),
        ("ZMPOP 1 none MIN", "_"),
    ]);
    assert_eq!(
        s.effects(),
        [
            "ZADD z 1 a 2 b 3 c 4 d 5 e 6 f 7 g 8 h",
            "ZPOPMIN z",
            "ZPOPMAX z 2",
            "ZPOPMAX z 2",
            "ZPOPMIN z",
            "ZPOPMIN z 1",
            "ZPOPMAX z"
        ]
    );
}

#[test]
fn unions_intersections_and_differences() {
    let mut s = Session::new();
    s.check(&[
        ("ZADD a 1 x 2 y 3 z", ":3"),
        ("ZADD b 10 y 20 z 30 w", ":3"),
        ("ZUNION 2 a b WITHSCORES", "*8 $1 x $1 1 $1 y $2 12 $1 z $2 23 $1 w $2 30"),
        ("ZINTER 2 a b WEIGHTS 2 1 AGGREGATE MAX WITHSCORES", "*4 $1 y $2 10 $1 z $2 20"),
        ("ZDIFF 2 a b WITHSCORES", "*2 $1 x $1 1"),
        ("ZINTERCARD 2 a b", ":2"),
        ("ZINTERCARD 2 a b LIMIT 1", ":1"),
        ("ZINTERCARD 2 a b LIMIT -1", "-ERR LIMIT can't be negative"),
        ("ZUNIONSTORE t 2 a b AGGREGATE MIN", ":4"),
        ("ZRANGE t 0 -1 WITHSCORES", "*8 $1 x $1 1 $1 y $1 2 $1 z $1 3 $1 w $2 30"),
        ("ZINTERSTORE t 2 a none", ":0"),
        ("ZCARD t", ":0"),
        ("ZDIFFSTORE a 2 a b", ":1"),
        ("ZUNION 0 a", "-ERR at least 1 input key is needed for 'zunion' command"),
        ("ZUNION 3 a b", "-ERR syntax error"),
        ("ZUNION x a b", "-ERR value is not an integer or out of range"),
        ("ZUNION 1 a WEIGHTS x", "-ERR weight value is not a float"),
        ("ZUNION 1 a AGGREGATE AVG", "-ERR syntax error"),
        ("ZUNIONSTORE t 1 a WITHSCORES", "-ERR syntax error"),
        ("ZADD i inf m", ":1"),
        ("ZADD j -inf m", ":1"),
        ("ZUNION 2 i j WITHSCORES", "*2 $1 m $1 0"),
        ("ZUNION 1 i WEIGHTS 0 WITHSCORES", "*2 $1 m $1 0"),
        ("SET str x", "+OK"),
        ("ZUNION 2 a str FOO", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
    ]);
}

#[test]
fn random_members_and_scans() {
    let mut s = Session::new();
    s.check(&[
        ("ZADD z 1 a", ":1"),
        ("ZRANDMEMBER z", "$1 a"),
        ("ZRANDMEMBER none", "$-1"),
        ("ZRANDMEMBER z 5 WITHSCORES", "*2 $1 a $1 1"),
        ("ZRANDMEMBER z -2", "*2 $1 a $1 a"),
        ("ZRANDMEMBER z 0", "*0"),
        ("ZRANDMEMBER z -9000000000000000000 WITHSCORES", "-ERR value is out of range"),
        ("ZRANDMEMBER z 1 SCORES", "-ERR syntax error"),
        ("ZSCAN z 0", "*2 $1 0 *2 $1 a $1 1"),
        ("ZSCAN z 0 MATCH b*", "*2 $1 0 *0"),
        ("ZSCAN none 0", "*2 $1 0 *0"),
        ("ZSCAN z x", "-ERR invalid cursor"),
    ]);
    for i in 0..1000 {
        s.run(&format!("ZADD big {i} m{i}"));
    }
    assert_eq!(encoding(&mut s, "big"), "skiplist");
    for count in [3, 500, 999] {
        let reply = s.run(&format!("ZRANDMEMBER big {count}"));
        let members: std::collections::HashSet<&str> = reply.split(' ').skip(1).filter(|word| word.starts_with('m')).collect();
        assert_eq!(members.len(), count);
    }
}

#[test]
fn thresholds_events_and_effects() {
    let mut s = Session::new();
    s.shard.settings.notify = NotifyFlags(NotifyFlags::ZSET.0 | NotifyFlags::GENERIC.0);
    s.shard.settings.zset_max_listpack_entries = 2;
    s.run("ZADD z 1 a 2 b");
    assert_eq!(encoding(&mut s, "z"), "listpack");
    s.run("ZADD z 3 c");
    assert_eq!(encoding(&mut s, "z"), "skiplist");
    s.run(&format!("ZADD long 1 {}", "x".repeat(65)));
    assert_eq!(encoding(&mut s, "long"), "skiplist");
    s.run("ZRANGESTORE t z 0 1");
    assert_eq!(encoding(&mut s, "t"), "listpack");
    assert_eq!(events(&mut s), ["zadd z", "zadd z", "zadd long", "zrangestore t"]);
    s.effects();
    for line in [
        "ZINCRBY z 1 a",
        "ZADD z 2 a",
        "ZREM z a b none",
        "ZREM z c",
        "ZREM z c",
        "ZREMRANGEBYRANK t 0 -1",
        "ZUNIONSTORE long 1 none",
    ] {
        s.run(line);
    }
    assert_eq!(events(&mut s), ["zincr z", "zrem z", "zrem z", "del z", "zremrangebyrank t", "del t", "del long"]);
    assert_eq!(
        s.effects(),
        ["ZINCRBY z 1 a", "ZREM z a b none", "ZREM z c", "ZREMRANGEBYRANK t 0 -1", "ZUNIONSTORE long 1 none"]
    );
}

/// A client that waited was answered WRONGTYPE, and lost its place, when another of its keys had become a hash meanwhile.
#[test]
fn a_served_client_takes_from_the_key_that_was_filled() {
    let mut s = Session::new();
    s.block(2, "BZPOPMIN other z 0");
    s.block(3, "BZMPOP 0 2 other z MAX COUNT 2");
    s.check(&[("HSET other f v", ":1"), ("ZADD z 1 a 2 b 3 c", ":3")]);
    assert_eq!(s.serve(), ["2: *3 $1 z $1 a $1 1", "3: *2 $1 z *2 *2 $1 c $1 3 *2 $1 b $1 2"]);
    assert_eq!(s.effects(), ["HSET other f v", "ZADD z 1 a 2 b 3 c", "ZPOPMIN z", "ZPOPMAX z 2"]);
}
