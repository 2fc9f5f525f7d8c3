//! COMMAND and its subcommands agree with redis-server 7.0.15, field by field, for every command that both have.
//!
//! Summaries, complexities and the sentences of histories are kvcore's own and are not compared.

mod harness;

use harness::{Client, Server, Value, words};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Commands of redis-server that kvcore does not have yet, by name or by `prefix*`. Every other one must exist.
const NOT_YET: &[&str] = &[
    // streams
    "x*",
    // scripts and functions
    "eval*",
    "fcall*",
    "function*",
    "script*",
    // cluster
    "cluster*",
    "asking",
    "readonly",
    "readwrite",
    "migrate",
    "restore-asking",
    // replication
    "replicaof",
    "slaveof",
    "psync",
    "sync",
    "replconf",
    "failover",
    "role",
    "wait",
    // persistence
    "save",
    "bgsave",
    "bgrewriteaof",
    "lastsave",
    // access control lists, modules, tracking
    "acl*",
    "module*",
    "client|caching",
    "client|tracking",
    "client|trackinginfo",
    "client|getredir",
    // Redis's own self tests
    "pfselftest",
    "pfdebug",
];

struct Pair {
    redis: Client,
    kvcore: Client,
    _servers: [Server; 2],
}

impl Pair {
    fn start() -> Pair {
        let (redis, kvcore) = (Server::redis(&[]), Server::kvcore(1, &[]));
        Pair { redis: redis.client3(), kvcore: kvcore.client3(), _servers: [redis, kvcore] }
    }

    /// Lower-case names, with subcommands, of all commands of each.
    fn names(&mut self) -> [BTreeSet<String>; 2] {
        [&mut self.redis, &mut self.kvcore].map(|client| {
            let reply = client.run("COMMAND LIST");
            reply.items().iter().map(|name| name.text().to_lowercase()).collect()
        })
    }

    fn in_both(&mut self) -> Vec<String> {
        let [redis, kvcore] = self.names();
        redis.intersection(&kvcore).cloned().collect()
    }

    fn run(&mut self, line: &str) -> (Value, Value) {
        (self.redis.run(line), self.kvcore.run(line))
    }
}

/// Differences that are meant: what Redis 7.2 added to a command of 7.0.
const MEANT: &[&str] =
    &["zrank: arity", "zrevrank: arity", "zrank: arguments", "zrevrank: arguments", "zrank: history", "zrevrank: history"];

fn fail_if_any(differences: &[String]) {
    let differences: Vec<_> = differences.iter().filter(|text| !MEANT.iter().any(|meant| text.starts_with(meant))).collect();
    let mut report = format!("{} differences\n", differences.len());
    for difference in &differences {
        let _ = writeln!(report, "{difference}");
    }
    assert!(differences.is_empty(), "{report}");
}

#[test]
fn no_command_is_missing() {
    let mut pair = Pair::start();
    let [redis, kvcore] = pair.names();
    let excused = |name: &str| {
        NOT_YET.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == *pattern,
        })
    };
    let missing: Vec<_> = redis.difference(&kvcore).filter(|name| !excused(name)).cloned().collect();
    assert!(missing.is_empty(), "{} commands are missing: {}", missing.len(), missing.join(" "));
    let (_, count) = pair.run("COMMAND COUNT");
    let top_level = kvcore.iter().filter(|name| !name.contains('|')).count();
    assert_eq!(count, Value::Integer(top_level as i64), "COMMAND COUNT against COMMAND LIST");
}

const INFO_FIELDS: &[&str] =
    &["name", "arity", "flags", "first key", "last key", "step", "ACL categories", "tips", "key specs", "subcommands"];

#[test]
fn command_info_agrees() {
    let mut pair = Pair::start();
    let mut differences = Vec::new();
    for name in pair.in_both() {
        let (redis, kvcore) = pair.run(&format!("COMMAND INFO {name}"));
        let (redis, kvcore) = (redis.items().remove(0).items(), kvcore.items().remove(0).items());
        if redis.len() != kvcore.len() {
            differences.push(format!("{name}: {} fields, kvcore {}", redis.len(), kvcore.len()));
        }
        for ((field, redis), kvcore) in INFO_FIELDS.iter().zip(redis).zip(kvcore) {
            // Subcommands are compared under their own names.
            let same = *field == "subcommands"
                || (*field != "key specs" && redis.clone().sorted() == kvcore.clone().sorted())
                || redis == kvcore;
            if !same {
                differences.push(format!("{name}: {field}\n    redis  {redis}\n    kvcore {kvcore}"));
            }
        }
    }
    fail_if_any(&differences);
}

#[test]
fn command_info_spells_resp2_and_strangers_alike() {
    let mut pair = Pair::start();
    pair.redis.run("HELLO 2");
    pair.kvcore.run("HELLO 2");
    for line in [
        "COMMAND INFO get",
        "COMMAND INFO GET nosuch set",
        "COMMAND INFO object|encoding",
        "COMMAND INFO nosuch|sub",
        "COMMAND DOCS nosuch",
    ] {
        let (redis, kvcore) = pair.run(line);
        assert_eq!(redis, kvcore, "{line}");
    }
}

/// A documentation value without the texts that are each project's own, and with its maps sorted.
fn without_texts(value: &Value) -> Value {
    match value {
        Value::Map(pairs) => {
            let kept =
                pairs.iter().filter(|(name, _)| !["summary", "complexity", "display_text"].contains(&name.text().as_str()));
            let mut pairs: Vec<_> = kept
                .map(|(name, value)| {
                    let value = match name.text().as_str() {
                        "history" => Value::Array(value.items().iter().map(|entry| entry.items()[0].clone()).collect()),
                        "subcommands" => Value::Null,
                        _ => without_texts(value),
                    };
                    (name.clone(), value)
                })
                .collect();
            pairs.sort();
            Value::Map(pairs)
        }
        Value::Array(items) => Value::Array(items.iter().map(without_texts).collect()),
        other => other.clone(),
    }
}

#[test]
fn command_docs_agree() {
    let mut pair = Pair::start();
    let mut differences = Vec::new();
    for name in pair.in_both() {
        let (redis, kvcore) = pair.run(&format!("COMMAND DOCS {name}"));
        let fields = |reply: &Value| -> BTreeMap<String, Value> {
            let docs = reply.pairs().into_iter().next().map_or(Value::Null, |(_, docs)| docs);
            without_texts(&docs).pairs().into_iter().map(|(name, value)| (name.text(), value)).collect()
        };
        let (redis, kvcore) = (fields(&redis), fields(&kvcore));
        let all: BTreeSet<_> = redis.keys().chain(kvcore.keys()).collect();
        for field in all {
            if redis.get(field) != kvcore.get(field) {
                differences.push(format!(
                    "{name}: {field}\n    redis  {:?}\n    kvcore {:?}",
                    redis.get(field),
                    kvcore.get(field)
                ));
            }
        }
    }
    fail_if_any(&differences);
}

#[test]
fn command_list_filters_agree() {
    let mut pair = Pair::start();
    let common: BTreeSet<_> = pair.in_both().into_iter().collect();
    let names = |reply: &Value| -> BTreeSet<String> {
        reply.items().iter().map(|name| name.text()).filter(|name| common.contains(name)).collect()
    };
    let categories = "keyspace read write set sortedset list hash string bitmap hyperloglog geo pubsub admin fast slow blocking dangerous connection transaction";
    let mut filters: Vec<String> = categories.split(' ').map(|category| format!("ACLCAT {category}")).collect();
    filters.extend(["PATTERN *", "PATTERN z*", "PATTERN client|*", "PATTERN [bg]*", "MODULE nosuch"].map(String::from));
    for filter in filters {
        let (redis, kvcore) = pair.run(&format!("COMMAND LIST FILTERBY {filter}"));
        assert_eq!(redis.is_error(), kvcore.is_error(), "{filter}: redis {redis}, kvcore {kvcore}");
        let (redis, kvcore) = (names(&redis), names(&kvcore));
        let differ: Vec<_> = redis.symmetric_difference(&kvcore).collect();
        assert!(differ.is_empty(), "FILTERBY {filter}: only one has {differ:?}");
    }
    for line in [
        "COMMAND LIST FILTERBY ACLCAT nosuch",
        "COMMAND LIST FILTERBY",
        "COMMAND LIST FILTERBY color red",
        "COMMAND COUNT 1",
        "COMMAND NOSUCH",
    ] {
        let (redis, kvcore) = pair.run(line);
        assert_eq!(redis, kvcore, "{line}");
    }
}

/// Commands whose keys COMMAND GETKEYS and GETKEYSANDFLAGS must find as Redis does.
const KEYS_OF: &str = "
GET k
SET k v
SET k v GET EX 5
SET k v XX
MSET a 1 b 2 c 3
MSET a 1 b
MGET a b c
DEL a b
RENAME a b
COPY a b DB 3
EXISTS a
OBJECT ENCODING k
OBJECT HELP
MEMORY USAGE k
DEBUG OBJECT k
LMPOP 2 a b LEFT
LMPOP 0 a LEFT
LMPOP x a LEFT
BLMPOP 0 2 a b LEFT COUNT 1
BLPOP a b 0
BLMOVE a b LEFT RIGHT 0
BRPOPLPUSH a b 0
SINTERCARD 2 a b LIMIT 1
SINTERSTORE d a b
ZUNIONSTORE d 2 a b WEIGHTS 1 2
ZUNIONSTORE d 3 a b
ZINTER 2 a b
ZINTERCARD 1 a
ZMPOP 1 a MIN
BZMPOP 0 2 a b MAX
BZPOPMIN a b 0
ZRANGESTORE d s 0 1
ZDIFFSTORE d 2 a b
SORT k
SORT k BY w* GET o* STORE d
SORT k STORE d STORE e
SORT_RO k BY w*
GEORADIUS k 1 2 3 m STORE d
GEORADIUS k 1 2 3 m STOREDIST d
GEORADIUS k 1 2 3 m
GEORADIUSBYMEMBER k m 3 km STORE d
GEOSEARCHSTORE d s FROMMEMBER m BYRADIUS 1 m
BITOP AND d a b
BITFIELD k GET u8 0
BITFIELD k SET u8 0 1
PFCOUNT a b
PFMERGE d a b
WATCH a b
SMOVE a b m
LCS a b
PING
CONFIG GET x
NOSUCH a
GET
GET a b
SUBSCRIBE c
SPUBLISH c m
SSUBSCRIBE c d
RESTORE k 0 v
DUMP k
EXPIRE k 1
SCAN 0
COMMAND COUNT
";

#[test]
fn keys_of_commands_agree() {
    let mut pair = Pair::start();
    let mut differences = Vec::new();
    for line in KEYS_OF.lines().filter(|line| !line.is_empty()) {
        for subcommand in ["GETKEYS", "GETKEYSANDFLAGS"] {
            let mut args = vec![b"COMMAND".to_vec(), subcommand.as_bytes().to_vec()];
            args.extend(words(line));
            let (redis, kvcore) = (pair.redis.command(&args), pair.kvcore.command(&args));
            if redis != kvcore {
                differences.push(format!("COMMAND {subcommand} {line}\n    redis  {redis}\n    kvcore {kvcore}"));
            }
        }
    }
    fail_if_any(&differences);
}
