//! Generators: commands on keys of any type, and on the connection and the server.

use super::collections::scan_options;
use super::generate::{Gen, KINDS, Kind, command, join};
use super::step::{Check, Step};

/// Two servers get a command that many milliseconds apart at most, hopefully.
const CLOCKS_APART_MS: i64 = 2500;

fn any_kind(g: &mut Gen) -> Kind {
    g.random.pick(KINDS).0
}

fn any_key(g: &mut Gen) -> Vec<u8> {
    let kind = any_kind(g);
    g.key(kind)
}

fn any_keys(g: &mut Gen, most: usize) -> Vec<Vec<u8>> {
    let kind = any_kind(g);
    g.keys(kind, most)
}

pub fn generic(g: &mut Gen) -> Step {
    let key = any_key(g);
    match g.below(40) {
        0 => Step::exact(join(vec![command![g.one_of(&["DEL", "UNLINK"])], any_keys(g, 3)])),
        1 | 2 => Step::exact(join(vec![command![g.one_of(&["EXISTS", "TOUCH"])], any_keys(g, 6)])),
        3 => Step::exact(command!["TYPE", key]),
        4..=7 => {
            let args = match g.below(4) {
                0 => command!["EXPIRE", key, g.far_seconds()],
                1 => command!["PEXPIRE", key, g.far_milliseconds()],
                2 => command!["EXPIREAT", key, g.unix_seconds()],
                _ => command!["PEXPIREAT", key, g.unix_milliseconds()],
            };
            let condition = match g.below(8) {
                0 => command!["NX"],
                1 => command!["xx"],
                2 => command!["GT"],
                3 => command!["LT"],
                4 => command!["NX", "GT"],
                _ => command![],
            };
            Step::exact(join(vec![args, condition]))
        }
        8 => Step::new(command![g.one_of(&["TTL", "EXPIRETIME"]), key], Check::Near(1 + CLOCKS_APART_MS / 1000)),
        9 => Step::new(command![g.one_of(&["PTTL", "PEXPIRETIME"]), key], Check::Near(CLOCKS_APART_MS)),
        10 => Step::exact(command!["PERSIST", key]),
        11..=13 => {
            let kind = any_kind(g);
            let name = g.one_of(&["RENAME", "RENAME", "RENAMENX"]);
            Step::exact(command![name, g.key(kind), g.key(kind)])
        }
        14..=16 => {
            let kind = any_kind(g);
            let mut args = command!["COPY", g.key(kind), g.key(kind)];
            if g.chance(30) {
                args.extend(command!["DB", g.one_of(&["0", "1", "2", "16", "-1", "x"])]);
            }
            if g.chance(50) {
                args.push(b"REPLACE".to_vec());
            }
            Step::exact(args)
        }
        17 => Step::exact(command!["MOVE", key, g.one_of(&["0", "1", "2", "1", "2", "16", "abc"])]),
        18 => Step::exact(command!["OBJECT", "ENCODING", key]),
        // redis-server shares small integers: the idle time of a key with one may be that of all of them, since the start.
        19 => Step::new(command!["OBJECT", g.one_of(&["IDLETIME", "FREQ"]), key], Check::Shape),
        20 => Step::exact(command!["OBJECT", g.one_of(&["ENCODING", "encoding", "nosuch"]), key]),
        21..=24 => sort(g),
        25 => Step::new(command!["KEYS", g.pattern()], Check::Unordered),
        26 | 27 => {
            let mut args = join(vec![command!["SCAN", "0"], scan_options(g)]);
            if g.chance(40) {
                args.extend(command!["TYPE", g.one_of(&["string", "list", "hash", "set", "zset", "HASH", "stream", "nothing"])]);
            }
            Step::new(args, Check::Scan { cursor: 1 })
        }
        28 => Step::new(command!["RANDOMKEY"], Check::Sample { source: command!["KEYS", "*"] }),
        // Keys whose time was up when they were set count until a cycle finds them: compared by KEYS with the contents.
        29 => Step::new(command!["DBSIZE"], Check::Shape),
        30 => Step::exact(command!["SELECT", g.one_of(&["0", "1", "0", "2", "0", "16", "-1", "abc", "0"])]),
        31 => Step::exact(command!["SWAPDB", g.one_of(&["0", "1", "2", "16"]), g.one_of(&["1", "2", "x"])]),
        32..=36 => Step::new(command!["DUMP", key], Check::Transfer),
        37 => {
            let mut args = command!["RESTORE", key, g.far_milliseconds(), g.value()];
            if g.chance(50) {
                args.push(b"REPLACE".to_vec());
            }
            Step::exact(args)
        }
        38 if g.chance(20) => Step::exact(command![g.one_of(&["FLUSHDB", "FLUSHALL"]), g.one_of(&["ASYNC", "SYNC", "never"])]),
        _ => Step::exact(command!["EXISTS", key]),
    }
}

fn sort(g: &mut Gen) -> Step {
    let kind = *g.random.pick(&[Kind::List, Kind::Set, Kind::Scored, Kind::List, Kind::Set]);
    let read_only = g.chance(30);
    let mut args = command![if read_only { "SORT_RO" } else { "SORT" }, g.key(kind)];
    let alpha = g.chance(70);
    // Elements that compare equal under BY … ALPHA come in any order, and without sorting a set has Redis's hash order.
    let mut check = Check::Exact;
    if g.chance(35) {
        let by = g.one_of(&["nosort", "text*", "{a}text*", "hash*->m1", "hash0->*"]);
        args.extend(command!["BY", by]);
        if alpha || kind == Kind::Set || !by.contains('*') {
            check = Check::Unordered;
        }
    }
    let limited = g.chance(30) && check == Check::Exact;
    if limited {
        args.extend(command!["LIMIT", g.random.between(-1, 3), g.random.between(-1, 5)]);
    }
    for _ in 0..g.below(3) {
        if g.chance(40) && check == Check::Exact {
            args.extend(command!["GET", g.one_of(&["#", "text*", "hash*->m1", "nothing", "{a}text*"])]);
        }
    }
    if g.chance(30) {
        args.push(g.one_of(&["ASC", "DESC"]).as_bytes().to_vec());
    }
    if alpha {
        args.push(b"ALPHA".to_vec());
    }
    if g.chance(25) && check == Check::Exact {
        args.extend(command!["STORE", g.key(Kind::List)]);
    }
    Step::new(args, check)
}

pub fn connection(g: &mut Gen) -> Step {
    match g.below(18) {
        0 => Step::exact(command![g.cased("PING")]),
        1 => Step::exact(command!["PING", g.value()]),
        2 => Step::exact(command!["ECHO", g.value()]),
        3 => Step::new(command!["TIME"], Check::Shape),
        4 => Step::exact(command!["CLIENT", "SETNAME", g.one_of(&["worker", "two words", "", "line\nfeed"])]),
        5 => Step::exact(command!["CLIENT", "GETNAME"]),
        6 => Step::new(command!["CLIENT", "ID"], Check::Shape),
        7 => Step::exact(command![g.value(), g.value(), g.value()]),
        8 => Step::exact(command!["NOSUCH", g.value(), g.value()]),
        9 => Step::exact(command![
            g.one_of(&["CLIENT", "CONFIG", "OBJECT", "COMMAND", "MEMORY", "DEBUG"]),
            g.one_of(&["NOSUCH", "nosuch|sub", ""])
        ]),
        10 => {
            let name = g.one_of(&["maxmemory", "hash-max-listpack-entries", "hash-max-ziplist-entries", "nosuch", "list-*-size"]);
            Step::new(command!["CONFIG", "GET", name], Check::UnorderedPairs)
        }
        11 => {
            let name = g.one_of(&["maxmemory-samples", "slowlog-max-len", "nosuch", "zset-max-ziplist-entries"]);
            Step::exact(command!["CONFIG", "SET", name, g.one_of(&["5", "100", "abc", "-1"])])
        }
        12 => Step::exact(command!["PUBLISH", g.one_of(&["news", "none"]), g.value()]),
        13 => Step::exact(command!["PUBSUB", g.one_of(&["CHANNELS", "NUMPAT", "NUMSUB", "SHARDCHANNELS", "SHARDNUMSUB"])]),
        15 => Step::exact(command!["AUTH", g.value()]),
        16 => Step::exact(command!["HELLO", g.one_of(&["1", "4", "abc"])]),
        _ => Step::exact(command![g.one_of(&["DISCARD", "EXEC", "UNWATCH"])]),
    }
}
