use crate::family::testing::Session;
use crate::keyspace::ClientId;
use crate::settings::NotifyFlags;
use std::sync::atomic::Ordering;

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

/// A session in which `line` fills lists, and a string is at `s`.
fn with(lines: &[&str]) -> Session {
    let mut s = Session::new();
    s.run("SET s text");
    for line in lines {
        s.run(line);
    }
    s.effects();
    s
}

fn events(s: &mut Session) -> Vec<String> {
    s.shard.take_events().into_iter().map(|e| format!("{} {}", e.name, String::from_utf8_lossy(&e.key))).collect()
}

#[test]
fn push_and_pop() {
    let mut s = with(&[]);
    s.check(&[
        ("RPUSH l a b 3", ":3"),
        ("LPUSH l y z", ":5"),
        ("LRANGE l 0 -1", "*5 $1 z $1 y $1 a $1 b $1 3"),
        ("LLEN l", ":5"),
        ("LLEN none", ":0"),
        ("RPUSHX none a", ":0"),
        ("LPUSHX none a b", ":0"),
        ("RPUSHX l last", ":6"),
        ("LPUSHX l first", ":7"),
        ("LPOP l", "$5 first"),
        ("RPOP l", "$4 last"),
        ("RPOP l", "$1 3"),
        ("LPOP l 0", "*0"),
        ("RPOP l 2", "*2 $1 b $1 a"),
        ("LPOP l 9223372036854775807", "*2 $1 z $1 y"),
        ("LLEN l", ":0"),
        ("LPOP l", "$-1"),
        ("LPOP l 1", "*-1"),
        ("LPOP l x", "-ERR value is out of range, must be positive"),
        ("LPOP l -1", "-ERR value is out of range, must be positive"),
        ("LPOP l 1 1", "-ERR wrong number of arguments for 'lpop' command"),
        ("RPOP l 1 1", "-ERR wrong number of arguments for 'rpop' command"),
        ("RPUSH s a", WRONG_TYPE),
        ("LPUSHX s a", WRONG_TYPE),
        ("LPOP s", WRONG_TYPE),
        ("LPOP s 0", WRONG_TYPE),
        ("LLEN s", WRONG_TYPE),
    ]);
    assert_eq!(
        s.effects(),
        [
            "RPUSH l a b 3",
            "LPUSH l y z",
            "RPUSHX l last",
            "LPUSHX l first",
            "LPOP l",
            "RPOP l",
            "RPOP l",
            "RPOP l 2",
            "LPOP l 9223372036854775807"
        ]
    );
    s.resp3 = true;
    s.check(&[("LPOP l", "_"), ("LPOP l 1", "_"), ("LINDEX l 0", "_")]);
}

#[test]
fn events_come_in_redis_order() {
    let mut s = with(&[]);
    s.shard.settings.notify = NotifyFlags(NotifyFlags::LIST.0 | NotifyFlags::GENERIC.0 | NotifyFlags::NEW.0);
    for line in ["RPUSH l a b", "LMOVE l m LEFT RIGHT", "RPOPLPUSH l l", "LSET l 0 c", "LINSERT l BEFORE c d", "LTRIM l 1 1"] {
        s.run(line);
    }
    let want = ["new l", "rpush l", "new m", "rpush m", "lpop l", "lpush l", "rpop l", "lset l", "linsert l", "ltrim l"];
    assert_eq!(events(&mut s), want);
    for line in ["LREM l 0 c", "LREM l 0 c", "LMPOP 2 l m RIGHT"] {
        s.run(line);
    }
    assert_eq!(events(&mut s), ["lrem l", "del l", "rpop m", "del m"]);
    s.block(2, "BLMOVE l m LEFT LEFT 0");
    s.run("RPUSH l x");
    s.serve();
    assert_eq!(events(&mut s), ["new l", "rpush l", "new m", "lpush m", "lpop l", "del l"]);
}

#[test]
fn ranges_and_indexes() {
    let mut s = with(&["RPUSH l a b c d e"]);
    s.check(&[
        ("LRANGE l 1 2", "*2 $1 b $1 c"),
        ("LRANGE l -2 100", "*2 $1 d $1 e"),
        ("LRANGE l -100 0", "*1 $1 a"),
        ("LRANGE l 3 1", "*0"),
        ("LRANGE l 5 6", "*0"),
        ("LRANGE l 0 -9223372036854775808", "*0"),
        ("LRANGE l -9223372036854775808 9223372036854775807", "*5 $1 a $1 b $1 c $1 d $1 e"),
        ("LRANGE none 0 1", "*0"),
        ("LRANGE none 0 x", "-ERR value is not an integer or out of range"),
        ("LRANGE s 0 1", WRONG_TYPE),
        ("LINDEX l 0", "$1 a"),
        ("LINDEX l -1", "$1 e"),
        ("LINDEX l 5", "$-1"),
        ("LINDEX l x", "-ERR value is not an integer or out of range"),
        ("LINDEX none x", "$-1"),
        ("LINDEX s x", WRONG_TYPE),
        ("LSET l 1 B", "+OK"),
        ("LSET l -1 55", "+OK"),
        ("LSET l 5 x", "-ERR index out of range"),
        ("LSET l x x", "-ERR value is not an integer or out of range"),
        ("LSET none x x", "-ERR no such key"),
        ("LSET s x x", WRONG_TYPE),
        ("LINSERT l before c b2", ":6"),
        ("LINSERT l AFTER c c2", ":7"),
        ("LINSERT l AFTER none c2", ":-1"),
        ("LINSERT none AFTER c c2", ":0"),
        ("LINSERT none in c c2", "-ERR syntax error"),
        ("LINSERT s AFTER c c2", WRONG_TYPE),
        ("LRANGE l 0 -1", "*7 $1 a $1 B $2 b2 $1 c $2 c2 $1 d $2 55"),
        ("LTRIM l 1 -2", "+OK"),
        ("LTRIM l 0 x", "-ERR value is not an integer or out of range"),
        ("LTRIM l 0 -1", "+OK"),
        ("LRANGE l 0 -1", "*5 $1 B $2 b2 $1 c $2 c2 $1 d"),
        ("LTRIM l 5 9", "+OK"),
        ("LLEN l", ":0"),
        ("LTRIM l 0 1", "+OK"),
        ("LTRIM s 0 1", WRONG_TYPE),
    ]);
    let effects = ["LSET l 1 B", "LSET l -1 55", "LINSERT l before c b2", "LINSERT l AFTER c c2", "LTRIM l 1 -2", "LTRIM l 5 9"];
    assert_eq!(s.effects(), effects);
}

#[test]
fn removing_by_value() {
    let mut s = with(&["RPUSH l a 1 a 2 a 1 a"]);
    s.check(&[
        ("LREM l 1 a", ":1"),
        ("LREM l -2 a", ":2"),
        ("LRANGE l 0 -1", "*4 $1 1 $1 a $1 2 $1 1"),
        ("LREM l 0 1", ":2"),
        ("LREM l 0 01", ":0"),
        ("LREM l x 1", "-ERR value is not an integer or out of range"),
        ("LREM l -9223372036854775808 2", ":1"),
        ("LREM l 5 a", ":1"),
        ("LREM l 5 a", ":0"),
        ("LREM s 0 a", WRONG_TYPE),
    ]);
    assert_eq!(s.effects().len(), 5);
}

#[test]
fn positions() {
    let mut s = with(&["RPUSH l a b c 1 2 3 c c"]);
    s.check(&[
        ("LPOS l c", ":2"),
        ("LPOS l c RANK 2", ":6"),
        ("LPOS l c RANK -1", ":7"),
        ("LPOS l c RANK 4", "$-1"),
        ("LPOS l c COUNT 2", "*2 :2 :6"),
        ("LPOS l c COUNT 0 RANK -1", "*3 :7 :6 :2"),
        ("LPOS l c COUNT 9223372036854775807 RANK 2", "*2 :6 :7"),
        ("LPOS l c RANK -9223372036854775807 COUNT 0", "*0"),
        ("LPOS l c MAXLEN 2", "$-1"),
        ("LPOS l c MAXLEN 3", ":2"),
        ("LPOS l c MAXLEN 1 RANK -1 COUNT 0", "*1 :7"),
        ("LPOS l 2", ":4"),
        ("LPOS l 02", "$-1"),
        ("LPOS l x COUNT 0", "*0"),
        ("LPOS none c", "$-1"),
        ("LPOS none c COUNT 0", "*0"),
        ("LPOS l c COUNT -1", "-ERR COUNT can't be negative"),
        ("LPOS l c COUNT x", "-ERR COUNT can't be negative"),
        ("LPOS l c MAXLEN -1", "-ERR MAXLEN can't be negative"),
        ("LPOS l c RANK x", "-ERR value is not an integer or out of range"),
        (
            "LPOS l c RANK 0",
            "-ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... \
             or use negative to start from the end of the list",
        ),
        ("LPOS l c RANK", "-ERR syntax error"),
        ("LPOS l c RUNK 1", "-ERR syntax error"),
        ("LPOS s c", WRONG_TYPE),
    ]);
}

#[test]
fn moving() {
    let mut s = with(&["RPUSH l a b c 4"]);
    s.check(&[
        ("LMOVE l m LEFT RIGHT", "$1 a"),
        ("LMOVE l m right left", "$1 4"),
        ("RPOPLPUSH l m", "$1 c"),
        ("LRANGE m 0 -1", "*3 $1 c $1 4 $1 a"),
        ("LMOVE l l LEFT RIGHT", "$1 b"),
        ("LMOVE m m LEFT RIGHT", "$1 c"),
        ("LRANGE m 0 -1", "*3 $1 4 $1 a $1 c"),
        ("LMOVE l s LEFT RIGHT", WRONG_TYPE),
        ("LMOVE s l LEFT RIGHT", WRONG_TYPE),
        ("LMOVE none s LEFT RIGHT", "$-1"),
        ("RPOPLPUSH none s", "$-1"),
        ("LMOVE l m UP RIGHT", "-ERR syntax error"),
        ("LMOVE l m LEFT DOWN", "-ERR syntax error"),
        ("BLMOVE l m LEFT RIGHT 0", "$1 b"),
        ("LLEN l", ":0"),
        ("BRPOPLPUSH m l 0", "$1 b"),
        ("BRPOPLPUSH m s 0", WRONG_TYPE),
        ("BLMOVE none s LEFT LEFT x", "-ERR timeout is not a float or out of range"),
        ("BLMOVE none s LEFT LEFT -1", "-ERR timeout is negative"),
        ("BLMOVE none s LEFT LEFT 0", "(waits)"),
        ("BLMOVE s none LEFT LEFT 0", WRONG_TYPE),
    ]);
    assert_eq!(
        s.effects(),
        [
            "LMOVE l m LEFT RIGHT",
            "LMOVE l m right left",
            "RPOPLPUSH l m",
            "LMOVE l l LEFT RIGHT",
            "LMOVE m m LEFT RIGHT",
            "LMOVE l m LEFT RIGHT",
            "RPOPLPUSH m l"
        ]
    );
}

#[test]
fn taking_from_the_first_of_several() {
    let mut s = with(&["RPUSH l a b c d", "RPUSH m x"]);
    s.check(&[
        ("LMPOP 2 none l LEFT", "*2 $1 l *1 $1 a"),
        ("LMPOP 2 none l RIGHT COUNT 2", "*2 $1 l *2 $1 d $1 c"),
        ("BLMPOP 0 2 none l LEFT COUNT 10", "*2 $1 l *1 $1 b"),
        ("LMPOP 1 l LEFT", "*-1"),
        ("BLMPOP 0.5 1 l LEFT", "(waits)"),
        ("BLPOP none m 0", "*2 $1 m $1 x"),
        ("BRPOP none m 0", "(waits)"),
        ("LMPOP 2 none s LEFT", WRONG_TYPE),
        ("BLPOP none s 0", WRONG_TYPE),
        ("BLPOP s x", "-ERR timeout is not a float or out of range"),
        ("BLPOP s -1", "-ERR timeout is negative"),
        ("LMPOP 0 l LEFT", "-ERR numkeys should be greater than 0"),
        ("LMPOP x l LEFT", "-ERR numkeys should be greater than 0"),
        ("LMPOP 2 l LEFT", "-ERR syntax error"),
        ("LMPOP 1 l UP", "-ERR syntax error"),
        ("LMPOP 9223372036854775807 l LEFT", "-ERR syntax error"),
        ("LMPOP 1 l LEFT COUNT 0", "-ERR count should be greater than 0"),
        ("LMPOP 1 l LEFT COUNT x COUNT 1", "-ERR count should be greater than 0"),
        ("LMPOP 1 l LEFT COUNT 1 COUNT 1", "-ERR syntax error"),
        ("LMPOP 1 l LEFT COUNT", "-ERR syntax error"),
        ("BLMPOP x 1 l UP", "-ERR syntax error"),
        ("BLMPOP x 1 l LEFT", "-ERR timeout is not a float or out of range"),
        ("BLMPOP -1 1 l LEFT", "-ERR timeout is negative"),
    ]);
    assert_eq!(s.effects(), ["LPOP l 1", "RPOP l 2", "LPOP l 1", "LPOP m"]);
}

#[test]
fn clients_are_served_in_the_order_in_which_they_began_to_wait() {
    let mut s = with(&[]);
    s.block(2, "BLPOP l 0");
    s.block(3, "BRPOP l 0");
    s.block(4, "BLMPOP 0 1 l LEFT COUNT 2");
    s.block(5, "BLPOP l 0");
    assert!(s.serve().is_empty());
    s.run("RPUSH l a");
    assert_eq!(s.serve(), ["2: *2 $1 l $1 a"]);
    s.run("RPUSH l b c d e");
    assert_eq!(s.serve(), ["3: *2 $1 l $1 e", "4: *2 $1 l *2 $1 b $1 c", "5: *2 $1 l $1 d"]);
    assert!(s.shard.waiters.is_empty());
    assert_eq!(s.effects(), ["RPUSH l a", "LPOP l", "RPUSH l b c d e", "RPOP l", "LPOP l 2", "LPOP l"]);
    s.check(&[("LLEN l", ":0")]);
}

#[test]
fn served_clients_get_replies_in_their_protocol() {
    let mut s = with(&[]);
    s.resp3 = true;
    s.block(2, "BLMOVE l s LEFT LEFT 0");
    s.block(3, "BRPOPLPUSH l m 0");
    s.run("RPUSH l 1");
    assert_eq!(s.serve(), [format!("2: {WRONG_TYPE}"), "3: $1 1".into()]);
    assert_eq!(s.effects(), ["RPUSH l 1", "RPOPLPUSH l m"]);
}

#[test]
fn a_served_move_serves_the_next() {
    let mut s = with(&[]);
    s.block(2, "BLMOVE a b LEFT RIGHT 0");
    s.block(3, "BRPOPLPUSH b c 0");
    s.block(4, "BLPOP c d 0");
    s.block(5, "BLPOP b 0");
    s.run("RPUSH a 1 2");
    assert_eq!(s.serve(), ["2: $1 1", "3: $1 1", "4: *2 $1 c $1 1"]);
    assert_eq!(s.effects(), ["RPUSH a 1 2", "LMOVE a b left right", "RPOPLPUSH b c", "LPOP c"]);
    s.check(&[("LRANGE a 0 -1", "*1 $1 2")]);
    // A move from a list to itself leaves it to the next.
    s.block(6, "BLMOVE r r LEFT RIGHT 0");
    s.block(7, "BLPOP r 0");
    s.run("RPUSH r 1");
    assert_eq!(s.serve(), ["6: $1 1", "7: *2 $1 r $1 1"]);
}

#[test]
fn the_filled_key_is_served_whatever_the_others_hold() {
    let mut s = with(&[]);
    s.block(2, "BLPOP a b c 0");
    s.run("SET c text");
    s.run("SET a text");
    s.run("RPUSH b 1");
    assert_eq!(s.serve(), ["2: *2 $1 b $1 1"]);
    assert!(s.shard.waiters.is_empty());
    // The first to be filled, not the first by name.
    s.block(3, "BLMPOP 0 2 x y LEFT");
    s.run("RPUSH y 1");
    s.run("RPUSH x 2");
    assert_eq!(s.serve(), ["3: *2 $1 y *1 $1 1"]);
    s.check(&[("LRANGE x 0 -1", "*1 $1 2")]);
    // A key named twice is waited for once.
    s.block(4, "BLPOP z z 0");
    s.run("RPUSH z 1 2");
    assert_eq!(s.serve(), ["4: *2 $1 z $1 1"]);
}

#[test]
fn a_key_of_another_type_or_emptied_again_serves_nobody() {
    let mut s = with(&[]);
    s.block(2, "BLPOP l 0");
    s.run("SET l text");
    assert!(s.serve().is_empty());
    s.run("SET l x PX 10");
    s.now += 11;
    s.run("RPUSH l a");
    s.run("LPOP l");
    assert!(s.shard.waiters.has_ready());
    assert!(s.serve().is_empty());
    s.run("RPUSH l a");
    s.run("SET l text");
    assert!(s.serve().is_empty());
    assert_eq!(s.shard.waiters.clients(), 1);
    s.now += 1;
    s.run("SET l x PX 10");
    s.now += 11;
    s.run("LPUSH l a");
    assert_eq!(s.serve(), ["2: *2 $1 l $1 a"]);
}

#[test]
fn claimed_clients_are_passed_over() {
    let mut s = with(&[]);
    let claimed = s.block_as(2, "BLPOP l 0", false);
    s.block(3, "BLPOP l 0");
    claimed.store(true, Ordering::Release);
    s.run("RPUSH l a b");
    assert_eq!(s.serve(), ["3: *2 $1 l $1 a"]);
    assert!(s.shard.waiters.is_empty());
}

#[test]
fn a_remote_client_holds_up_its_key_until_it_leaves() {
    let mut s = with(&[]);
    let claimed = s.block_as(2, "BLMOVE l elsewhere LEFT LEFT 0", true);
    s.block(3, "BLPOP l other 0");
    s.run("RPUSH l a b");
    assert_eq!(s.serve(), ["2: remote"]);
    assert!(!claimed.load(Ordering::Acquire));
    s.run("RPUSH other x");
    s.block(4, "BLPOP third 0");
    assert_eq!(s.serve(), ["3: *2 $5 other $1 x"]);
    // It is served by its core; then the key is looked at again, if somebody waits for it.
    s.run("LPOP l 2");
    s.block(5, "BLPOP l 0");
    s.run("RPUSH l c");
    assert_eq!(s.serve(), ["2: remote"]);
    s.shard.waiters.remove(ClientId(2));
    assert_eq!(s.serve(), ["5: *2 $1 l $1 c"]);
}

#[test]
fn a_served_pop_is_not_counted_as_a_change() {
    let mut s = with(&[]);
    s.block(2, "BLPOP l 0");
    s.block(3, "BLMPOP 0 1 l LEFT COUNT 5");
    s.run("RPUSH l a b c");
    assert_eq!(s.shard.serve_ready(s.now, false, &mut Vec::new()), 2);
}

#[test]
fn long_lists_work_at_any_limit() {
    for limit in [-5, -2, 1, 7] {
        let mut s = Session::new();
        s.shard.settings.list_max_listpack_size = limit;
        for i in 0..300 {
            assert_eq!(s.run(&format!("RPUSH l item:{i}")), format!(":{}", i + 1));
        }
        s.check(&[
            ("LINDEX l 150", "$8 item:150"),
            ("LRANGE l 298 400", "*2 $8 item:298 $8 item:299"),
            ("LPOS l item:200 RANK -1", ":200"),
            ("LINSERT l BEFORE item:200 x", ":301"),
            ("LSET l 200 y", "+OK"),
            ("LREM l 0 item:10", ":1"),
            ("LTRIM l 199 200", "+OK"),
            ("LRANGE l 0 -1", "*2 $1 y $8 item:200"),
        ]);
    }
}
