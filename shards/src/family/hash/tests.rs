use crate::family::testing::Session;
use crate::keyspace::Value;
use crate::settings::NotifyFlags;

fn encoding(s: &Session, key: &[u8]) -> &'static str {
    match s.shard.dbs[0].value(&s.shard.hasher.key(key)) {
        Some(Value::Hash(hash)) => {
            hash.check_invariants();
            hash.encoding()
        }
        _ => "none",
    }
}

#[test]
fn fields_come_and_go() {
    let mut s = Session::new();
    s.check(&[
        ("HSET h a 1 b two", ":2"),
        ("HSET h a 2 c 3", ":1"),
        ("HSET h a 1 b", "-ERR wrong number of arguments for 'hset' command"),
        ("HMSET h a 1 b", "-ERR wrong number of arguments for 'hmset' command"),
        ("HMSET h d \"\"", "+OK"),
        ("HSETNX h a x", ":0"),
        ("HSETNX h e 007", ":1"),
        ("HGET h a", "$1 2"),
        ("HGET h e", "$3 007"),
        ("HGET h x", "$-1"),
        ("HGET no a", "$-1"),
        ("HMGET h a x d", "*3 $1 2 $-1 $0"),
        ("HMGET no a b", "*2 $-1 $-1"),
        ("HLEN h", ":5"),
        ("HEXISTS h b", ":1"),
        ("HEXISTS h x", ":0"),
        ("HSTRLEN h b", ":3"),
        ("HSTRLEN h a", ":1"),
        ("HSTRLEN h x", ":0"),
        ("HKEYS h", "*5 $1 a $1 b $1 c $1 d $1 e"),
        ("HVALS h", "*5 $1 2 $3 two $1 3 $0  $3 007"),
        ("HDEL h b d x b", ":2"),
        ("HGETALL h", "*6 $1 a $1 2 $1 c $1 3 $1 e $3 007"),
        ("HDEL h a c e f", ":3"),
        ("HGETALL h", "*0"),
        ("HKEYS h", "*0"),
        ("HDEL h a", ":0"),
    ]);
    assert_eq!(encoding(&s, b"h"), "none");
    assert_eq!(
        s.effects(),
        ["HSET h a 1 b two", "HSET h a 2 c 3", "HMSET h d ", "HSETNX h e 007", "HDEL h b d x b", "HDEL h a c e f"]
    );
}

#[test]
fn replies_in_resp3() {
    let mut s = Session::new();
    s.resp3 = true;
    s.check(&[
        ("HSET h a 1", ":1"),
        ("HGETALL h", "%1 $1 a $1 1"),
        ("HGETALL no", "%0"),
        ("HGET h x", "_"),
        ("HMGET no x", "*1 _"),
        ("HRANDFIELD no", "_"),
        ("HRANDFIELD no 3", "*0"),
        ("HRANDFIELD h 5 WITHVALUES", "*1 *2 $1 a $1 1"),
        ("HRANDFIELD h -2 WITHVALUES", "*2 *2 $1 a $1 1 *2 $1 a $1 1"),
        ("HSCAN h 0", "*2 $1 0 *2 $1 a $1 1"),
    ]);
}

#[test]
fn wrong_types_and_bad_numbers_change_nothing() {
    let mut s = Session::new();
    s.run("SET s x");
    let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    for line in [
        "HSET s a 1",
        "HSETNX s a 1",
        "HMSET s a 1",
        "HDEL s a",
        "HINCRBY s a 1",
        "HINCRBYFLOAT s a 1",
        "HGET s a",
        "HMGET s a",
        "HGETALL s",
        "HKEYS s",
        "HVALS s",
        "HLEN s",
        "HEXISTS s a",
        "HSTRLEN s a",
        "HSCAN s 0",
        "HRANDFIELD s",
        "HRANDFIELD s 0",
    ] {
        assert_eq!(s.run(line), wrong, "{line}");
    }
    s.check(&[
        ("HINCRBY s a x", "-ERR value is not an integer or out of range"),
        ("HINCRBYFLOAT s a x", "-ERR value is not a valid float"),
        ("HINCRBYFLOAT s a inf", "-ERR value is NaN or Infinity"),
        ("HINCRBYFLOAT s a nan", "-ERR value is not a valid float"),
        ("HSCAN s x", "-ERR invalid cursor"),
        ("HSCAN no 0 COUNT x", "*2 $1 0 *0"),
        ("HSET h t text b 9223372036854775807", ":2"),
        ("HSCAN h 0 COUNT x", "-ERR value is not an integer or out of range"),
        ("HSCAN h 0 NOVALUES", "-ERR syntax error"),
        ("HINCRBY h t 1", "-ERR hash value is not an integer"),
        ("HINCRBY h b 1", "-ERR increment or decrement would overflow"),
        ("HINCRBYFLOAT h t 1", "-ERR hash value is not a float"),
        ("HRANDFIELD h x", "-ERR value is not an integer or out of range"),
        ("HRANDFIELD h 1 VALUES", "-ERR syntax error"),
        ("HRANDFIELD h 1 WITHVALUES x", "-ERR syntax error"),
        ("HRANDFIELD h 4611686018427387904 WITHVALUES", "-ERR value is out of range"),
        ("HRANDFIELD h -9223372036854775807 VALUES", "-ERR syntax error"),
        (
            "HRANDFIELD h -9223372036854775808",
            "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ),
    ]);
    assert_eq!(s.effects(), ["SET s x", "HSET h t text b 9223372036854775807"]);
}

#[test]
fn counting() {
    let mut s = Session::new();
    s.check(&[
        ("HINCRBY h n 5", ":5"),
        ("HINCRBY h n -7", ":-2"),
        ("HINCRBYFLOAT h f 10.50", "$4 10.5"),
        ("HINCRBYFLOAT h f 0.1", "$4 10.6"),
        ("HINCRBYFLOAT h n 2", "$1 0"),
        ("HINCRBYFLOAT h f 5.0e3", "$22 5010.60000000000000009"),
        ("HGETALL h", "*4 $1 n $1 0 $1 f $22 5010.60000000000000009"),
    ]);
    assert_eq!(
        s.effects(),
        ["HINCRBY h n 5", "HINCRBY h n -7", "HSET h f 10.5", "HSET h f 10.6", "HSET h n 0", "HSET h f 5010.60000000000000009"]
    );
}

#[test]
fn thresholds_decide_the_encoding() {
    let mut s = Session::new();
    s.shard.settings.hash_max_listpack_entries = 3;
    s.shard.settings.hash_max_listpack_value = 5;
    s.check(&[("HSET h a 1 b 2 c 12345", ":3")]);
    assert_eq!(encoding(&s, b"h"), "listpack");
    s.check(&[("HSET h d 1", ":1"), ("HDEL h d c", ":2"), ("HMGET h a b", "*2 $1 1 $1 2")]);
    assert_eq!(encoding(&s, b"h"), "hashtable");
    s.check(&[("HSET long a 123456", ":1"), ("HSET field abcdef 1", ":1"), ("HINCRBY counted abcdef 1", ":1")]);
    s.check(&[("HSETNX grown a 1", ":1"), ("HINCRBYFLOAT grown a 0.123456", "$8 1.123456")]);
    for key in ["long", "field", "counted", "grown"] {
        assert_eq!(encoding(&s, key.as_bytes()), "hashtable", "{key}");
    }
}

#[test]
fn a_scan_sees_every_field() {
    let mut s = Session::new();
    s.run("HSET small f1 1 f2 2 g1 3");
    s.check(&[
        ("HSCAN small 0 MATCH f*", "*2 $1 0 *4 $2 f1 $1 1 $2 f2 $1 2"),
        ("HSCAN small 77 COUNT 1 MATCH g?", "*2 $1 0 *2 $2 g1 $1 3"),
    ]);
    (0..2000).for_each(|i| assert_eq!(s.run(&format!("HSET large f{i} {i}")), ":1"));
    let (mut seen, mut cursor, mut calls) = (std::collections::BTreeSet::new(), "0".to_owned(), 0);
    loop {
        let reply = s.run(&format!("HSCAN large {cursor} COUNT 20"));
        let words: Vec<&str> = reply.split(' ').collect();
        assert!(words[3..].len() < 1 + 4 * 120, "about as many as asked for");
        seen.extend(words[4..].chunks(4).map(|pair| (pair[1].to_owned(), pair[3].to_owned())));
        cursor = words[2].to_owned();
        calls += 1;
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen.len(), 2000);
    assert!(calls > 20 && seen.iter().all(|(field, value)| field[1..] == **value));
}

#[test]
fn random_fields() {
    let mut s = Session::new();
    s.check(&[
        ("HSET h a 1", ":1"),
        ("HRANDFIELD h", "$1 a"),
        ("HRANDFIELD h 0", "*0"),
        ("HRANDFIELD h 3", "*1 $1 a"),
        ("HRANDFIELD h -3", "*3 $1 a $1 a $1 a"),
        ("HRANDFIELD h 1 withvalues", "*2 $1 a $1 1"),
        ("HRANDFIELD no", "$-1"),
        ("HRANDFIELD no 1 WITHVALUES", "*0"),
    ]);
    for entries in [512, 0] {
        s.shard.settings.hash_max_listpack_entries = entries;
        (0..100).for_each(|i| _ = s.run(&format!("HSET h{entries} f{i} {i}")));
        for count in [1, 10, 50, 99] {
            let reply = s.run(&format!("HRANDFIELD h{entries} {count} WITHVALUES"));
            let words: Vec<&str> = reply.split(' ').collect();
            assert_eq!(words[0], format!("*{}", 2 * count));
            let fields: std::collections::BTreeSet<_> = words[1..].chunks(4).map(|pair| pair[1]).collect();
            assert_eq!(fields.len(), count);
            assert!(words[1..].chunks(4).all(|pair| pair[1][1..] == *pair[3]));
        }
    }
}

#[test]
fn events_in_order() {
    let mut s = Session::new();
    s.shard.settings.notify = NotifyFlags(!NotifyFlags::KEY_MISS.0);
    for line in ["HSET h a 1 b 2", "HSETNX h a 1", "HINCRBY h a 1", "HINCRBYFLOAT h a 1", "HDEL h x", "HDEL h a b"] {
        s.run(line);
    }
    let events: Vec<_> = s.shard.take_events().iter().map(|event| event.name).collect();
    assert_eq!(events, ["new", "hset", "hincrby", "hincrbyfloat", "hdel", "del"]);
}
