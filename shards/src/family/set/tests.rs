use crate::family::testing::Session;
use crate::keyspace::Value;
use crate::settings::NotifyFlags;
use std::collections::BTreeSet;

fn encoding(s: &Session, key: &[u8]) -> &'static str {
    match s.shard.dbs[0].value(&s.shard.hasher.key(key)) {
        Some(Value::Set(set)) => {
            set.check_invariants();
            set.encoding()
        }
        _ => "none",
    }
}

/// The bulk strings of a flat reply without spaces in them.
fn members(reply: &str) -> BTreeSet<String> {
    let words: Vec<&str> = reply.split(' ').collect();
    let set: BTreeSet<String> = words[1..].chunks(2).map(|bulk| bulk[1].to_owned()).collect();
    assert_eq!(set.len(), words.len() / 2, "a member twice");
    set
}

#[test]
fn members_come_and_go() {
    let mut s = Session::new();
    s.check(&[
        ("SADD s 3 1 2 2", ":3"),
        ("SADD s 1", ":0"),
        ("SMEMBERS s", "*3 $1 1 $1 2 $1 3"),
        ("SADD s a 01", ":2"),
        ("SCARD s", ":5"),
        ("SCARD no", ":0"),
        ("SISMEMBER s 1", ":1"),
        ("SISMEMBER s 01", ":1"),
        ("SISMEMBER s 001", ":0"),
        ("SISMEMBER no 1", ":0"),
        ("SMISMEMBER s 1 x a", "*3 :1 :0 :1"),
        ("SMISMEMBER no 1 x", "*2 :0 :0"),
        ("SREM s 1 x a", ":2"),
        ("SREM no 1", ":0"),
        ("SMEMBERS s", "*3 $1 2 $1 3 $2 01"),
        ("SREM s 2 3 01 4", ":3"),
        ("SMEMBERS s", "*0"),
    ]);
    assert_eq!(encoding(&s, b"s"), "none");
    assert_eq!(s.effects(), ["SADD s 3 1 2 2", "SADD s a 01", "SREM s 1 x a", "SREM s 2 3 01 4"]);
}

#[test]
fn replies_in_resp3() {
    let mut s = Session::new();
    s.resp3 = true;
    s.check(&[
        ("SADD s 1", ":1"),
        ("SMEMBERS s", "~1 $1 1"),
        ("SMEMBERS no", "~0"),
        ("SINTER s s", "~1 $1 1"),
        ("SINTER s no", "~0"),
        ("SUNION s no", "~1 $1 1"),
        ("SDIFF s no", "~1 $1 1"),
        ("SDIFF s s", "~0"),
        ("SDIFF no s", "~0"),
        ("SPOP no", "_"),
        ("SPOP no 2", "~0"),
        ("SPOP s 0", "~0"),
        ("SRANDMEMBER no", "_"),
        ("SRANDMEMBER no 2", "*0"),
        ("SRANDMEMBER s 2", "*1 $1 1"),
        ("SPOP s 5", "~1 $1 1"),
        ("SISMEMBER s 1", ":0"),
    ]);
}

#[test]
fn wrong_types_and_bad_arguments_change_nothing() {
    let mut s = Session::new();
    s.run("SET t x");
    s.run("SADD s a");
    let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    for line in [
        "SADD t a",
        "SREM t a",
        "SMOVE t s a",
        "SMOVE s t a",
        "SMOVE s t x",
        "SCARD t",
        "SISMEMBER t a",
        "SMISMEMBER t a",
        "SMEMBERS t",
        "SSCAN t 0",
        "SPOP t",
        "SPOP t 0",
        "SRANDMEMBER t",
        "SRANDMEMBER t 0",
        "SINTER s t",
        "SINTER no t",
        "SINTERSTORE d s t",
        "SINTERCARD 2 no t",
        "SUNION s t",
        "SUNIONSTORE d s t",
        "SDIFF s t",
        "SDIFF no t",
        "SDIFFSTORE d s t",
    ] {
        assert_eq!(s.run(line), wrong, "{line}");
    }
    s.check(&[
        ("SMOVE no t a", ":0"),
        ("SPOP s x", "-ERR value is out of range, must be positive"),
        ("SPOP s -1", "-ERR value is out of range, must be positive"),
        ("SPOP s 1 2", "-ERR syntax error"),
        ("SRANDMEMBER s x", "-ERR value is not an integer or out of range"),
        ("SRANDMEMBER s 1 2", "-ERR syntax error"),
        (
            "SRANDMEMBER s -9223372036854775808",
            "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ),
        ("SINTERCARD 0 s", "-ERR numkeys should be greater than 0"),
        ("SINTERCARD x s", "-ERR numkeys should be greater than 0"),
        ("SINTERCARD 3 s s", "-ERR Number of keys can't be greater than number of args"),
        ("SINTERCARD 1 s LIMIT", "-ERR syntax error"),
        ("SINTERCARD 1 s FOO 1", "-ERR syntax error"),
        ("SINTERCARD 1 s LIMIT -1", "-ERR LIMIT can't be negative"),
        ("SINTERCARD 1 s LIMIT x", "-ERR LIMIT can't be negative"),
        ("SSCAN s x", "-ERR invalid cursor"),
        ("SSCAN s 0 TYPE set", "-ERR syntax error"),
        ("SSCAN no 0 COUNT x", "*2 $1 0 *0"),
    ]);
    assert_eq!(s.effects(), ["SET t x", "SADD s a"]);
}

#[test]
fn thresholds_decide_the_encoding() {
    let mut s = Session::new();
    s.shard.settings.set_max_intset_entries = 3;
    s.check(&[
        ("SADD i 1 2 3", ":3"),
        ("SADD m 1 a", ":2"),
        ("SADD n 007", ":1"),
        ("SADD g 1 2 3 4", ":4"),
        ("SREM g 4 3", ":2"),
    ]);
    for (key, want) in [(&b"i"[..], "intset"), (b"m", "hashtable"), (b"n", "hashtable"), (b"g", "hashtable")] {
        assert_eq!(encoding(&s, key), want, "{key:?}");
    }
    s.check(&[
        ("SREM m a", ":1"),
        ("SMEMBERS m", "*1 $1 1"),
        ("SUNIONSTORE u m i", ":3"),
        ("SUNIONSTORE w m i n", ":4"),
        ("SMEMBERS u", "*3 $1 1 $1 2 $1 3"),
    ]);
    assert_eq!((encoding(&s, b"m"), encoding(&s, b"u"), encoding(&s, b"w")), ("hashtable", "intset", "hashtable"));
}

#[test]
fn moving() {
    let mut s = Session::new();
    s.check(&[
        ("SADD a 1 x", ":2"),
        ("SADD b x", ":1"),
        ("SMOVE a a x", ":1"),
        ("SMOVE a a y", ":0"),
        ("SMOVE a b y", ":0"),
        ("SMOVE a b x", ":1"),
        ("SMOVE a c 1", ":1"),
        ("SMEMBERS b", "*1 $1 x"),
        ("SMEMBERS c", "*1 $1 1"),
        ("SCARD a", ":0"),
    ]);
    assert_eq!((encoding(&s, b"a"), encoding(&s, b"c")), ("none", "intset"));
    assert_eq!(s.effects(), ["SADD a 1 x", "SADD b x", "SMOVE a b x", "SMOVE a c 1"]);
}

#[test]
fn algebra() {
    let mut s = Session::new();
    s.check(&[
        ("SADD a 1 2 3 4", ":4"),
        ("SADD b 2 4 x", ":3"),
        ("SADD c 4 x", ":2"),
        ("SINTER a b c", "*1 $1 4"),
        ("SINTER a", "*4 $1 1 $1 2 $1 3 $1 4"),
        ("SINTERCARD 2 a b", ":2"),
        ("SINTERCARD 2 a b LIMIT 1", ":1"),
        ("SINTERCARD 2 a b LIMIT 0", ":2"),
        ("SINTERCARD 2 a no", ":0"),
        ("SDIFF a b", "*2 $1 1 $1 3"),
        ("SDIFF b a no", "*1 $1 x"),
        ("SDIFF a a b", "*0"),
        ("SINTERSTORE d a b", ":2"),
        ("SMEMBERS d", "*2 $1 2 $1 4"),
        ("SET t x", "+OK"),
        ("SDIFFSTORE t a b", ":2"),
        ("SMEMBERS t", "*2 $1 1 $1 3"),
        ("SUNIONSTORE a a c", ":5"),
        ("SINTERSTORE d d no", ":0"),
        ("SINTERSTORE d d no", ":0"),
        ("SUNIONSTORE e no", ":0"),
        ("SDIFFSTORE t no a", ":0"),
    ]);
    assert_eq!(members(&s.run("SUNION b c no a")), ["1", "2", "3", "4", "x"].map(str::to_owned).into());
    assert_eq!((encoding(&s, b"d"), encoding(&s, b"t")), ("none", "none"));
    assert_eq!(
        s.effects()[3..],
        ["SINTERSTORE d a b", "SET t x", "SDIFFSTORE t a b", "SUNIONSTORE a a c", "SINTERSTORE d d no", "SDIFFSTORE t no a"]
    );
}

#[test]
fn a_stored_result_has_no_expiry() {
    let mut s = Session::new();
    s.check(&[("SADD a 1", ":1"), ("SET d x PX 5", "+OK"), ("SUNIONSTORE d a", ":1")]);
    s.now += 100;
    s.check(&[("SMEMBERS d", "*1 $1 1")]);
}

#[test]
fn popping_is_told_as_what_was_removed() {
    let mut s = Session::new();
    s.check(&[("SADD s a", ":1"), ("SPOP s", "$1 a"), ("SPOP s", "$-1"), ("SADD s a 1", ":2")]);
    assert_eq!(s.effects(), ["SADD s a", "SREM s a", "SADD s a 1"]);
    assert_eq!(members(&s.run("SPOP s 2")), ["1", "a"].map(str::to_owned).into());
    assert_eq!(s.effects(), ["DEL s"]);
    // Integers, few members, many; few popped and nearly all.
    for (prefix, size) in [("", 100), ("m", 40), ("m", 1000)] {
        for count in [1, 30, size - 3] {
            let all: BTreeSet<String> = (0..size).map(|i| format!("{prefix}{i}")).collect();
            all.iter().for_each(|member| assert_eq!(s.run(&format!("SADD s {member}")), ":1"));
            s.effects();
            let popped = members(&s.run(&format!("SPOP s {count}")));
            assert_eq!(popped.len(), count);
            let removed: BTreeSet<String> = s.effects().iter().map(|effect| effect["SREM s ".len()..].to_owned()).collect();
            assert_eq!(removed, popped);
            let left = members(&s.run("SMEMBERS s"));
            assert!(left.is_disjoint(&popped) && left.union(&popped).cloned().collect::<BTreeSet<_>>() == all);
            encoding(&s, b"s");
            assert_eq!(members(&s.run(&format!("SPOP s {}", size - count))), left);
        }
    }
}

#[test]
fn random_members_stay() {
    let mut s = Session::new();
    s.check(&[
        ("SADD s a", ":1"),
        ("SRANDMEMBER s", "$1 a"),
        ("SRANDMEMBER s 0", "*0"),
        ("SRANDMEMBER s -3", "*3 $1 a $1 a $1 a"),
        ("SRANDMEMBER s 9223372036854775807", "*1 $1 a"),
    ]);
    (0..500).for_each(|i| _ = s.run(&format!("SADD large m{i}")));
    for count in [1, 20, 300, 499, 500, 501] {
        assert_eq!(members(&s.run(&format!("SRANDMEMBER large {count}"))).len(), count.min(500));
    }
    assert_eq!(s.run("SCARD large"), ":500");
}

#[test]
fn a_scan_sees_every_member() {
    let mut s = Session::new();
    s.check(&[
        ("SADD i 1 20 3", ":3"),
        ("SSCAN i 5 COUNT 1", "*2 $1 0 *3 $1 1 $1 3 $2 20"),
        ("SSCAN i 0 MATCH ?", "*2 $1 0 *2 $1 1 $1 3"),
    ]);
    (0..1000).for_each(|i| _ = s.run(&format!("SADD large m{i}")));
    let (mut seen, mut cursor) = (BTreeSet::new(), "0".to_owned());
    loop {
        let reply = s.run(&format!("SSCAN large {cursor}"));
        let words: Vec<&str> = reply.split(' ').collect();
        seen.extend(words[4..].chunks(2).map(|bulk| bulk[1].to_owned()));
        cursor = words[2].to_owned();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen.len(), 1000);
}

#[test]
fn events_in_order() {
    let mut s = Session::new();
    s.shard.settings.notify = NotifyFlags(!NotifyFlags::KEY_MISS.0 & !NotifyFlags::NEW.0);
    for line in ["SADD a 1 2 3", "SADD a 1", "SREM a x", "SREM a 3", "SMOVE a b 1", "SMOVE a b 2", "SPOP b", "SPOP b 5"] {
        s.run(line);
    }
    for line in ["SADD a 1", "SUNIONSTORE d a", "SINTERSTORE d a no", "SDIFFSTORE d no a"] {
        s.run(line);
    }
    let events: Vec<_> = s.shard.take_events().iter().map(|event| event.name).collect();
    assert_eq!(
        events,
        ["sadd", "srem", "srem", "sadd", "srem", "del", "sadd", "spop", "spop", "del", "sadd", "sunionstore", "del"]
    );
}
