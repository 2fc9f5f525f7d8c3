//! How a key is stored: OBJECT, and MEMORY USAGE.

use super::super::ShardCommand;
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::keyspace::{Db, Key, Value};
use crate::number::parse_i64;
use crate::reply::Reply;
use crate::settings::EvictionPolicy;
use crate::shard::lru_idle_seconds;

pub static OBJECT: ShardCommand = Command {
    spec: Spec {
        name: "object",
        group: Group::Generic,
        since: "2.2.3",
        summary: "Container of the commands that look into how a key is stored.",
        complexity: "Depends on the subcommand",
        arity: -2,
        flags: Flags::NONE,
        ..Spec::DEFAULT
    },
    run: object,
};

/// Reached only by an unknown subcommand.
fn object(_: &mut Exec<'_>, a: Args<'_>, _: &mut Reply<'_>) -> CommandResult {
    let name = a.at(1).get(..NAME_SHOWN_MAX).unwrap_or(a.at(1));
    Err(Error::Owned(format!("ERR unknown subcommand '{}'. Try OBJECT HELP.", String::from_utf8_lossy(name))))
}

/// Bytes of an unknown name that an error shows.
const NAME_SHOWN_MAX: usize = 128;

/// Looks a key up for OBJECT: counted as a hit or a miss, but without an event and without touching it.
fn look(x: &mut Exec<'_>, key: &Key<'_>) -> bool {
    let found = x.exists(key);
    let stats = &mut x.shard.stats;
    *if found { &mut stats.keyspace_hits } else { &mut stats.keyspace_misses } += 1;
    found
}

pub static OBJECT_ENCODING: ShardCommand = Command {
    spec: Spec {
        name: "object|encoding",
        group: Group::Generic,
        since: "2.2.3",
        summary: "Names the internal encoding of a key's value.",
        arity: 3,
        flags: Flags::READONLY,
        acl: AclCategory::KEYSPACE,
        keys: &[KeySpec::one(2, KeyAccess::RO)],
        tips: &["nondeterministic_output"],
        args: &[Arg::new("key", ArgKind::Key(0))],
        ..Spec::DEFAULT
    },
    run: object_encoding,
};

fn object_encoding(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let key = x.key(a.at(2));
    look(x, &key);
    match x.peek(&key) {
        Some(value) => r.bulk(encoding(value).as_bytes()),
        None => r.null(),
    }
    Ok(())
}

/// Longest string that Redis keeps beside its object's head.
const EMBSTR_MAX: usize = 44;

/// The encoding by Redis's name.
pub fn encoding(value: Value<'_>) -> &'static str {
    match value {
        Value::Integer(_) => "int",
        Value::Short(bytes) if bytes.len() <= EMBSTR_MAX => "embstr",
        Value::Short(_) | Value::Long(_) => "raw",
        Value::List(_) => "quicklist",
        Value::Hash(hash) => hash.encoding(),
        Value::Set(set) => set.encoding(),
        Value::SortedSet(zset) => zset.encoding(),
    }
}

pub static OBJECT_FREQ: ShardCommand = Command {
    spec: Spec {
        name: "object|freq",
        group: Group::Generic,
        since: "4.0.0",
        summary: "Tells a key's logarithmic counter of uses (LFU policies).",
        arity: 3,
        flags: Flags::READONLY,
        acl: AclCategory::KEYSPACE,
        keys: &[KeySpec::one(2, KeyAccess::RO)],
        tips: &["nondeterministic_output"],
        args: &[Arg::new("key", ArgKind::Key(0))],
        ..Spec::DEFAULT
    },
    run: object_freq,
};

fn object_freq(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let key = x.key(a.at(2));
    look(x, &key);
    let Some(access) = x.access(&key) else {
        r.null();
        return Ok(());
    };
    if !x.settings().maxmemory_policy.is_lfu() {
        return Err(Error::Text(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching \
             between policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    r.integer(x.shard.lfu_counter(access, x.now).into());
    Ok(())
}

pub static OBJECT_IDLETIME: ShardCommand = Command {
    spec: Spec {
        name: "object|idletime",
        group: Group::Generic,
        since: "2.2.3",
        summary: "Tells how many seconds ago a key was last used.",
        arity: 3,
        flags: Flags::READONLY,
        acl: AclCategory::KEYSPACE,
        keys: &[KeySpec::one(2, KeyAccess::RO)],
        tips: &["nondeterministic_output"],
        args: &[Arg::new("key", ArgKind::Key(0))],
        ..Spec::DEFAULT
    },
    run: object_idletime,
};

fn object_idletime(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let key = x.key(a.at(2));
    look(x, &key);
    let Some(access) = x.access(&key) else {
        r.null();
        return Ok(());
    };
    if x.settings().maxmemory_policy.is_lfu() {
        return Err(Error::Text(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between \
             policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    r.integer(lru_idle_seconds(access, x.now).into());
    Ok(())
}

pub static OBJECT_REFCOUNT: ShardCommand = Command {
    spec: Spec {
        name: "object|refcount",
        group: Group::Generic,
        since: "2.2.3",
        summary: "Tells how many references a key's value has.",
        arity: 3,
        flags: Flags::READONLY,
        acl: AclCategory::KEYSPACE,
        keys: &[KeySpec::one(2, KeyAccess::RO)],
        tips: &["nondeterministic_output"],
        args: &[Arg::new("key", ArgKind::Key(0))],
        ..Spec::DEFAULT
    },
    run: object_refcount,
};

/// Values are not shared; the small integers that Redis shares answer as they do there.
fn object_refcount(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    use EvictionPolicy::*;
    let key = x.key(a.at(2));
    look(x, &key);
    let may_share = matches!(x.settings().maxmemory_policy, NoEviction | AllkeysRandom | VolatileRandom | VolatileTtl);
    match x.peek(&key) {
        None => r.null(),
        Some(Value::Integer(0..SHARED_INTEGERS)) if may_share => r.integer(i32::MAX.into()),
        Some(_) => r.integer(1),
    }
    Ok(())
}

/// Integers of which Redis keeps one object for all keys.
const SHARED_INTEGERS: i64 = 10_000;

pub static OBJECT_HELP: ShardCommand = Command {
    spec: Spec {
        name: "object|help",
        group: Group::Generic,
        since: "6.2.0",
        summary: "Shows the subcommands.",
        arity: 2,
        flags: Flags::LOADING.with(Flags::STALE),
        acl: AclCategory::KEYSPACE,
        ..Spec::DEFAULT
    },
    run: object_help,
};

fn object_help(_: &mut Exec<'_>, _: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    const LINES: [&str; 13] = [
        "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "ENCODING <key>",
        "    Return the kind of internal representation used in order to store the value",
        "    associated with a <key>.",
        "FREQ <key>",
        "    Return the access frequency index of the <key>. The returned integer is",
        "    proportional to the logarithm of the recent access frequency of the key.",
        "IDLETIME <key>",
        "    Return the idle time of the <key>, that is the approximated number of",
        "    seconds elapsed since the last access to the key.",
        "REFCOUNT <key>",
        "    Return the number of references of the value associated with the specified",
        "    <key>.",
    ];
    r.array(LINES.len() + 2);
    LINES.iter().for_each(|line| r.simple(line));
    r.simple("HELP");
    r.simple("    Prints this help.");
    Ok(())
}

pub static MEMORY_USAGE: ShardCommand = Command {
    spec: Spec {
        name: "memory|usage",
        group: Group::Server,
        since: "4.0.0",
        summary: "Estimates the memory of a key in bytes.",
        complexity: "O(N) in the number of chunks or samples",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(2, KeyAccess::RO)],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("count", ArgKind::Integer).token("SAMPLES").flags(ArgFlags::OPTIONAL)],
        ..Spec::DEFAULT
    },
    run: memory_usage,
};

/// SAMPLES is checked and not needed: values know their size.
fn memory_usage(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let mut at = 3;
    while at < a.len() {
        if !a.is(at, "samples") || at + 1 >= a.len() {
            return Err(Error::Syntax);
        }
        if parse_i64(a.at(at + 1)).ok_or(Error::NotInteger)? < 0 {
            return Err(Error::Syntax);
        }
        at += 2;
    }
    let key = x.key(a.at(2));
    match x.database().memory_of_key(&key) {
        Some(bytes) => r.integer(bytes as i64),
        None => r.null(),
    }
    Ok(())
}

impl Db {
    /// Heap bytes of a key: its entry, what its value owns beside it, and its share of the table.
    pub fn memory_of_key(&self, key: &Key<'_>) -> Option<usize> {
        let entry = self.find(key)?;
        let beside = match entry.value() {
            Value::Integer(_) | Value::Short(_) => 0,
            Value::Long(bytes) => size_of::<Vec<u8>>() + bytes.capacity(),
            Value::List(list) => size_of_val(list) + list.bytes(),
            Value::Hash(hash) => hash.bytes(),
            Value::Set(set) => set.bytes(),
            Value::SortedSet(zset) => zset.bytes(),
        };
        Some(entry.bytes() + beside + self.table_bytes().div_ceil(self.len().max(1)))
    }
}

#[cfg(test)]
mod tests {
    use crate::family::testing::Session;
    use crate::settings::EvictionPolicy;

    #[test]
    fn encodings_of_strings() {
        let mut s = Session::new();
        let (short, long) = ("x".repeat(44), "x".repeat(45));
        s.check(&[
            ("OBJECT ENCODING k", "$-1"),
            ("SET k 12", "+OK"),
            ("OBJECT ENCODING k", "$3 int"),
            ("OBJECT REFCOUNT k", ":2147483647"),
            (&format!("SET k {short}"), "+OK"),
            ("OBJECT ENCODING k", "$6 embstr"),
            (&format!("SET k {long}"), "+OK"),
            ("object encoding k", "$3 raw"),
            ("OBJECT REFCOUNT k", ":1"),
            ("OBJECT BAR", "-ERR unknown subcommand 'BAR'. Try OBJECT HELP."),
        ]);
        assert!(s.run("OBJECT HELP").starts_with("*15 +OBJECT <subcommand>"));
    }

    #[test]
    fn idle_time_and_frequency() {
        let mut s = Session::new();
        s.run("SET k v");
        s.now += 7_500;
        s.check(&[("OBJECT IDLETIME k", ":7"), ("OBJECT IDLETIME none", "$-1"), ("TTL k", ":-1"), ("OBJECT IDLETIME k", ":7")]);
        assert!(s.run("OBJECT FREQ k").starts_with("-ERR An LFU maxmemory policy is not selected"));
        s.check(&[("TOUCH k", ":1"), ("OBJECT IDLETIME k", ":0")]);
        s.shard.settings.maxmemory_policy = EvictionPolicy::AllkeysLfu;
        s.check(&[("SET k v", "+OK"), ("OBJECT FREQ k", ":5")]);
        assert!(s.run("OBJECT IDLETIME k").starts_with("-ERR An LFU maxmemory policy is selected"));
    }

    #[test]
    fn memory_grows_with_the_value() {
        let mut s = Session::new();
        s.check(&[
            ("MEMORY USAGE k", "$-1"),
            ("MEMORY USAGE k SAMPLES", "-ERR syntax error"),
            ("MEMORY USAGE k SAMPLES -1", "-ERR syntax error"),
            ("MEMORY USAGE k SAMPLES x", "-ERR value is not an integer or out of range"),
        ]);
        let mut usage = |len: usize| {
            s.run(&format!("SET k {}", "v".repeat(len)));
            s.run("MEMORY USAGE k SAMPLES 0")[1..].parse::<usize>().unwrap()
        };
        let (small, large) = (usage(10), usage(20_000));
        assert!(small < 250 && (20_000..21_000).contains(&large), "{small} {large}");
    }
}
