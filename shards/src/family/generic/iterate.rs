//! Going over the keys of a database: all at once, piece by piece, or one at random.

use super::super::ShardCommand;
use super::super::scan::{ScanOptions, ScanReply, parse_cursor};
use super::keys::type_name;
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, Merge, Route, Spec};
use crate::error::CommandResult;
use crate::exec::Exec;
use crate::glob;
use crate::reply::{Aggregate, Reply};
use crate::table::Cursor;

pub static RANDOMKEY: ShardCommand = Command {
    spec: Spec {
        name: "randomkey",
        group: Group::Generic,
        summary: "Names a key drawn at random.",
        arity: 1,
        flags: Flags::READONLY.with(Flags::TOUCHES_ARBITRARY_KEYS),
        acl: AclCategory::KEYSPACE,
        tips: &["request_policy:all_shards", "nondeterministic_output"],
        route: Route::AllShards(Merge::Random),
        ..Spec::DEFAULT
    },
    run: randomkey,
};

fn randomkey(x: &mut Exec<'_>, _: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    loop {
        let shard = &mut *x.shard;
        let Some(entry) = shard.dbs[x.db].random(&mut shard.random) else {
            r.null();
            return Ok(());
        };
        let name = entry.key().to_vec();
        if x.exists(&x.key(&name)) {
            r.bulk(&name);
            return Ok(());
        }
    }
}

pub static KEYS: ShardCommand = Command {
    spec: Spec {
        name: "keys",
        group: Group::Generic,
        summary: "Lists the keys that match a pattern.",
        complexity: "O(N) in the number of keys of the database",
        arity: 2,
        flags: Flags::READONLY,
        acl: AclCategory::KEYSPACE.with(AclCategory::DANGEROUS),
        tips: &["request_policy:all_shards", "nondeterministic_output_order"],
        args: &[Arg::new("pattern", ArgKind::Pattern)],
        route: Route::AllShards(Merge::Concat),
        ..Spec::DEFAULT
    },
    run: keys,
};

fn keys(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let (pattern, now, mut count) = (a.at(1), x.now, 0);
    let all = pattern == b"*";
    let at = r.deferred();
    x.database().for_each(|key, _, expiry| {
        if (all || glob::matches(pattern, key, false)) && expiry.is_none_or(|at_ms| now <= at_ms) {
            r.bulk(key);
            count += 1;
        }
    });
    r.finish(at, Aggregate::Array, count);
    Ok(())
}

pub static SCAN: ShardCommand = Command {
    spec: Spec {
        name: "scan",
        group: Group::Generic,
        since: "2.8.0",
        summary: "Lists the keys of the database piece by piece.",
        complexity: "O(1) per call, O(N) for a whole round",
        arity: -2,
        flags: Flags::READONLY.with(Flags::TOUCHES_ARBITRARY_KEYS),
        acl: AclCategory::KEYSPACE,
        tips: &["nondeterministic_output", "request_policy:special"],
        args: &[
            Arg::new("cursor", ArgKind::Integer),
            Arg::new("pattern", ArgKind::Pattern).token("MATCH").flags(ArgFlags::OPTIONAL),
            Arg::new("count", ArgKind::Integer).token("COUNT").flags(ArgFlags::OPTIONAL),
            Arg::new("type", ArgKind::String).token("TYPE").flags(ArgFlags::OPTIONAL).since("6.0.0"),
        ],
        route: Route::Cursor,
        history: &[("6.0.0", "Option `TYPE`.")],
        ..Spec::DEFAULT
    },
    run: scan,
};

/// Reads and answers this shard's cursor only; which shard it is the node tells by the bits above (see [`Cursor::to_bits`]).
fn scan(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let cursor = Cursor::from_bits(parse_cursor(a.at(1))?);
    let options = ScanOptions::parse(a, 2, true)?;
    let mut reply = ScanReply::new(options, r.resp3);
    let (db, now, mut expired) = (x.db, x.now, Vec::new());
    let next = x.shard.dbs[db].scan(cursor, options.count, &mut |entry| {
        if !options.matches(entry.key()) {
            return;
        }
        if entry.expiry().is_some_and(|at_ms| now > at_ms) {
            expired.push(entry.key().to_vec());
        } else if options.type_name.is_none_or(|name| name.eq_ignore_ascii_case(type_name(entry.value()).as_bytes())) {
            reply.offer(entry.key());
        }
    });
    for name in expired {
        // Looking a key up removes it when its time is up.
        x.exists(&x.key(&name));
    }
    reply.finish(next.map_or(0, Cursor::to_bits), r);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::family::testing::Session;
    use std::collections::BTreeSet;

    fn filled(keys: usize) -> Session {
        let mut s = Session::new();
        for i in 0..keys {
            s.run(&format!("SET key:{i} v"));
        }
        s
    }

    #[test]
    fn keys_by_pattern() {
        let mut s = filled(3);
        s.run("SET gone v PX 5");
        s.now += 6;
        s.check(&[
            ("KEYS key:[12]x", "*0"),
            ("KEYS key:1", "*1 $5 key:1"),
            ("KEYS g*", "*0"),
            ("DBSIZE", ":4"),
            ("GET gone", "$-1"),
            ("DBSIZE", ":3"),
        ]);
        assert!(s.run("KEYS *").starts_with("*3 "));
    }

    #[test]
    fn a_scan_finds_every_key_whatever_the_count() {
        let mut s = filled(300);
        for count in [1, 7, 100, 100_000] {
            let (mut cursor, mut seen, mut calls) = ("0".to_owned(), BTreeSet::new(), 0);
            loop {
                let reply = s.run(&format!("SCAN {cursor} COUNT {count} MATCH key:*"));
                let words: Vec<&str> = reply.split(' ').collect();
                cursor = words[2].to_owned();
                seen.extend(words[4..].iter().skip(1).step_by(2).map(|w| w.to_string()));
                calls += 1;
                if cursor == "0" {
                    break;
                }
            }
            assert_eq!(seen.len(), 300, "COUNT {count}");
            assert!(calls >= 300 / count.max(1) / 20, "COUNT {count}: {calls} calls");
        }
    }

    #[test]
    fn options_of_scan() {
        let mut s = filled(2);
        s.run("SET gone v PX 5");
        s.now += 6;
        s.check(&[
            ("SCAN x", "-ERR invalid cursor"),
            ("SCAN 0 COUNT", "-ERR syntax error"),
            ("SCAN 0 COUNT 0", "-ERR syntax error"),
            ("SCAN 0 COUNT x", "-ERR value is not an integer or out of range"),
            ("DBSIZE", ":3"),
            ("SCAN 0 TYPE hash COUNT 100", "*2 $1 0 *0"),
            ("DBSIZE", ":2"),
            ("SCAN 0 TYPE nonsense", "*2 $1 0 *0"),
            ("SCAN 0 MATCH key:1 TYPE String", "*2 $1 0 *1 $5 key:1"),
            ("SCAN 18446744073709551615", "*2 $1 0 *0"),
            ("SCAN 0 MATCH none", "*2 $1 0 *0"),
        ]);
    }

    #[test]
    fn a_random_key_is_one_that_lives() {
        let mut s = Session::new();
        s.check(&[("RANDOMKEY", "$-1"), ("SET a 1 PX 5", "+OK"), ("SET b 1", "+OK")]);
        s.now += 6;
        for _ in 0..20 {
            assert_eq!(s.run("RANDOMKEY"), "$1 b");
        }
        assert_eq!(s.run("DBSIZE"), ":1");
    }
}
