//! Deleting, counting, renaming, copying and moving keys.

use super::super::ShardCommand;
use crate::command::{
    AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec, Split, SplitKeys,
};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::keyspace::{NewValue, OwnedEntry, Value};
use crate::number::parse_i64;
use crate::reply::Reply;
use crate::settings::NotifyFlags;
use crate::value::Object;

pub static DEL: ShardCommand = Command {
    spec: Spec {
        name: "del",
        group: Group::Generic,
        summary: "Deletes keys.",
        complexity: "O(N) in the number of keys; a large value is freed later, in slices",
        arity: -2,
        flags: Flags::WRITE,
        acl: AclCategory::KEYSPACE,
        keys: &[KeySpec::range(1, -1, 1, KeyAccess::RM.with(KeyAccess::DELETE))],
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        split: Split::PerKey { name: b"DEL", step: 1, keys: SplitKeys::Changed },
        args: &[Arg::new("key", ArgKind::Key(0)).flags(ArgFlags::MULTIPLE)],
        ..Spec::DEFAULT
    },
    run: del,
};

pub static UNLINK: ShardCommand = Command {
    spec: Spec {
        name: "unlink",
        group: Group::Generic,
        since: "4.0.0",
        summary: "Deletes keys; their values are freed later.",
        complexity: "O(1) per key",
        arity: -2,
        flags: Flags::WRITE.with(Flags::FAST),
        acl: AclCategory::KEYSPACE,
        keys: &[KeySpec::range(1, -1, 1, KeyAccess::RM.with(KeyAccess::DELETE))],
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        split: Split::PerKey { name: b"UNLINK", step: 1, keys: SplitKeys::Changed },
        args: &[Arg::new("key", ArgKind::Key(0)).flags(ArgFlags::MULTIPLE)],
        ..Spec::DEFAULT
    },
    run: del,
};

fn del(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    for name in a.from(1).iter() {
        let key = x.key(name);
        if x.delete(&key) {
            x.changed(&key);
            x.event(NotifyFlags::GENERIC, "del", &key);
        }
    }
    r.integer(x.changes() as i64);
    Ok(())
}

pub static EXISTS: ShardCommand = Command {
    spec: Spec {
        name: "exists",
        group: Group::Generic,
        summary: "Counts the given keys that exist.",
        complexity: "O(N) in the number of keys",
        arity: -2,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::KEYSPACE,
        keys: &[KeySpec::range(1, -1, 1, KeyAccess::RO)],
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        args: &[Arg::new("key", ArgKind::Key(0)).flags(ArgFlags::MULTIPLE)],
        history: &[("3.0.3", "Takes several keys.")],
        ..Spec::DEFAULT
    },
    run: exists,
};

fn exists(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let count = a.from(1).iter().filter(|name| x.look(&x.key(name)).is_some()).count();
    r.integer(count as i64);
    Ok(())
}

pub static TOUCH: ShardCommand = Command {
    spec: Spec {
        name: "touch",
        group: Group::Generic,
        since: "3.2.1",
        summary: "Marks keys as just used and counts those that exist.",
        complexity: "O(N) in the number of keys",
        arity: -2,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::KEYSPACE,
        keys: &[KeySpec::range(1, -1, 1, KeyAccess::RO)],
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        args: &[Arg::new("key", ArgKind::Key(0)).flags(ArgFlags::MULTIPLE)],
        ..Spec::DEFAULT
    },
    run: touch,
};

/// Touches also for a client that asked its reads not to (CLIENT NO-TOUCH): that is what the command is for.
fn touch(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    x.no_touch = false;
    let count = a.from(1).iter().filter(|name| x.get(&x.key(name)).is_some()).count();
    r.integer(count as i64);
    Ok(())
}

pub static TYPE: ShardCommand = Command {
    spec: Spec {
        name: "type",
        group: Group::Generic,
        summary: "Tells what kind of value a key holds.",
        arity: 2,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::KEYSPACE,
        keys: &[KeySpec::one(1, KeyAccess::RO)],
        args: &[Arg::new("key", ArgKind::Key(0))],
        ..Spec::DEFAULT
    },
    run: key_type,
};

fn key_type(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    r.simple(x.look(&x.key(a.at(1))).map_or("none", type_name));
    Ok(())
}

/// As TYPE and SCAN's TYPE option name it.
pub(super) fn type_name(value: Value<'_>) -> &'static str {
    match value {
        Value::Integer(_) | Value::Short(_) | Value::Long(_) => "string",
        Value::List(_) => "list",
        Value::Hash(_) => "hash",
        Value::Set(_) => "set",
        Value::SortedSet(_) => "zset",
    }
}

pub static RENAME: ShardCommand = Command {
    spec: Spec {
        name: "rename",
        group: Group::Generic,
        summary: "Gives a key another name, replacing what had that name.",
        arity: 3,
        flags: Flags::WRITE,
        acl: AclCategory::KEYSPACE,
        keys: &[
            KeySpec::one(1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::DELETE)),
            KeySpec::one(2, KeyAccess::OW.with(KeyAccess::UPDATE)),
        ],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("newkey", ArgKind::Key(1))],
        ..Spec::DEFAULT
    },
    run: rename,
};

fn rename(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    rename_to(x, a, false)?;
    r.ok();
    Ok(())
}

pub static RENAMENX: ShardCommand = Command {
    spec: Spec {
        name: "renamenx",
        group: Group::Generic,
        summary: "Gives a key another name, if no key has that name.",
        arity: 3,
        flags: Flags::WRITE.with(Flags::FAST),
        acl: AclCategory::KEYSPACE,
        keys: &[
            KeySpec::one(1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::DELETE)),
            KeySpec::one(2, KeyAccess::OW.with(KeyAccess::INSERT)),
        ],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("newkey", ArgKind::Key(1))],
        history: &[("3.2.0", "The same name twice is no error any more.")],
        ..Spec::DEFAULT
    },
    run: renamenx,
};

fn renamenx(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let renamed = rename_to(x, a, true)?;
    r.integer(i64::from(renamed));
    Ok(())
}

fn rename_to(x: &mut Exec<'_>, a: Args<'_>, only_if_free: bool) -> Result<bool, Error> {
    let (from, to) = (x.key(a.at(1)), x.key(a.at(2)));
    if x.get_mut(&from).is_none() {
        return Err(Error::NoSuchKey);
    }
    if from.bytes == to.bytes || (only_if_free && x.exists(&to)) {
        return Ok(false);
    }
    let Some(entry) = x.take(&from) else { return Err(Error::NoSuchKey) };
    x.delete(&to);
    x.put(&to, entry.renamed(to.bytes));
    x.changed(&from);
    x.changed_by(&to, 0);
    x.event(NotifyFlags::GENERIC, "rename_from", &from);
    x.event(NotifyFlags::GENERIC, "rename_to", &to);
    Ok(true)
}

/// A number that must fit C's int, as databases' indexes do.
pub(super) fn parse_int(text: &[u8]) -> Result<i64, Error> {
    let number = parse_i64(text).ok_or(Error::NotInteger)?;
    if i32::try_from(number).is_err() {
        return Err(Error::Text("ERR value is out of range, value must between -2147483648 and 2147483647"));
    }
    Ok(number)
}

/// A database's index.
fn parse_db(x: &Exec<'_>, text: &[u8]) -> Result<usize, Error> {
    let number = parse_int(text)?;
    let in_range = usize::try_from(number).ok().filter(|&db| db < x.shard.dbs.len());
    in_range.ok_or(Error::Text("ERR DB index is out of range"))
}

const SAME_OBJECT: Error = Error::Text("ERR source and destination objects are the same");

pub static COPY: ShardCommand = Command {
    spec: Spec {
        name: "copy",
        spans_databases: true,
        group: Group::Generic,
        since: "6.2.0",
        summary: "Copies a key's value and expiry to another key.",
        complexity: "O(N) in the number of elements",
        arity: -3,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::KEYSPACE,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS)), KeySpec::one(2, KeyAccess::OW.with(KeyAccess::UPDATE))],
        args: &[
            Arg::new("source", ArgKind::Key(0)),
            Arg::new("destination", ArgKind::Key(1)),
            Arg::new("destination-db", ArgKind::Integer).token("DB").flags(ArgFlags::OPTIONAL),
            Arg::new("replace", ArgKind::PureToken).token("REPLACE").flags(ArgFlags::OPTIONAL),
        ],
        ..Spec::DEFAULT
    },
    run: copy,
};

fn copy(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let (from_db, mut to_db, mut replace, mut at) = (x.db, x.db, false, 3);
    while at < a.len() {
        if a.is(at, "replace") {
            replace = true;
        } else if a.is(at, "db") && at + 1 < a.len() {
            to_db = parse_db(x, a.at(at + 1))?;
            at += 1;
        } else {
            return Err(Error::Syntax);
        }
        at += 1;
    }
    if x.settings().cluster_enabled && (from_db != 0 || to_db != 0) {
        return Err(Error::Text("ERR Copying to another database is not allowed in cluster mode"));
    }
    let (from, to) = (x.key(a.at(1)), x.key(a.at(2)));
    if from_db == to_db && from.bytes == to.bytes {
        return Err(SAME_OBJECT);
    }
    let expiry = x.expiry(&from).flatten();
    let Some(mut entry) = x.get(&from).map(|value| copy_of(value, to.bytes, expiry)) else {
        r.integer(0);
        return Ok(());
    };
    entry.set_access(x.shard.fresh_access(x.now));
    x.db = to_db;
    let free = replace || !x.exists(&to);
    if free {
        x.delete(&to);
        x.put(&to, entry);
        x.changed(&to);
        x.event(NotifyFlags::GENERIC, "copy_to", &to);
    }
    x.db = from_db;
    r.integer(i64::from(free));
    Ok(())
}

/// An entry of its own with the same value.
fn copy_of(value: Value<'_>, key: &[u8], expiry: Option<i64>) -> OwnedEntry {
    let value = match value {
        Value::Integer(number) => NewValue::Integer(number),
        Value::Short(bytes) => NewValue::Bytes(bytes),
        Value::Long(bytes) => NewValue::Object(Object::String(Box::new(bytes.clone()))),
        Value::List(list) => NewValue::Object(Object::List(Box::new(list.clone()))),
        Value::Hash(hash) => NewValue::Object(Object::Hash(hash.clone())),
        Value::Set(set) => NewValue::Object(Object::Set(set.clone())),
        Value::SortedSet(zset) => NewValue::Object(Object::SortedSet(zset.clone())),
    };
    OwnedEntry::new(key, value, expiry)
}

pub static MOVE: ShardCommand = Command {
    spec: Spec {
        name: "move",
        spans_databases: true,
        group: Group::Generic,
        summary: "Moves a key to another database.",
        arity: 3,
        flags: Flags::WRITE.with(Flags::FAST),
        acl: AclCategory::KEYSPACE,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::UPDATE))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("db", ArgKind::Integer)],
        ..Spec::DEFAULT
    },
    run: move_key,
};

fn move_key(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    if x.settings().cluster_enabled {
        return Err(Error::Text("ERR MOVE is not allowed in cluster mode"));
    }
    let (from_db, to_db) = (x.db, parse_db(x, a.at(2))?);
    if from_db == to_db {
        return Err(SAME_OBJECT);
    }
    let key = x.key(a.at(1));
    let mut moved = x.get_mut(&key).is_some();
    if moved {
        x.db = to_db;
        moved = !x.exists(&key);
        x.db = from_db;
    }
    if moved && let Some(entry) = x.take(&key) {
        x.changed(&key);
        x.db = to_db;
        x.put(&key, entry);
        x.changed_by(&key, 0);
        x.db = from_db;
        x.event(NotifyFlags::GENERIC, "move_from", &key);
        x.db = to_db;
        x.event(NotifyFlags::GENERIC, "move_to", &key);
        x.db = from_db;
    }
    r.integer(i64::from(moved));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::family::testing::Session;
    use crate::keyspace::ClientId;
    use crate::settings::NotifyFlags;

    fn events(s: &mut Session) -> Vec<String> {
        let show = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
        s.shard.take_events().into_iter().map(|e| format!("{} {}@{}", e.name, show(&e.key), e.db)).collect()
    }

    #[test]
    fn deleting_and_counting() {
        let mut s = Session::new();
        s.shard.settings.notify = NotifyFlags(u32::MAX);
        s.check(&[
            ("SET a 1", "+OK"),
            ("SET b 2", "+OK"),
            ("EXISTS a b c a", ":3"),
            ("TOUCH a b c a", ":3"),
            ("TYPE a", "+string"),
            ("TYPE c", "+none"),
            ("DEL c", ":0"),
            ("DEL a c a", ":1"),
            ("UNLINK b b", ":1"),
            ("EXISTS a b", ":0"),
        ]);
        assert_eq!(s.effects(), ["SET a 1", "SET b 2", "DEL a c a", "UNLINK b b"]);
        let events = events(&mut s);
        assert_eq!(events.iter().filter(|e| e.starts_with("del ")).count(), 2, "{events:?}");
        assert_eq!(events.iter().filter(|e| *e == "keymiss c@0").count(), 3, "{events:?}");
    }

    #[test]
    fn an_expired_key_does_not_count_as_deleted() {
        let mut s = Session::new();
        s.run("SET a 1 PX 10");
        s.now += 11;
        s.check(&[("DEL a", ":0")]);
        assert_eq!(s.effects(), ["SET a 1 PXAT 1700000000010", "DEL a"]);
    }

    #[test]
    fn renaming() {
        let mut s = Session::new();
        s.shard.settings.notify = NotifyFlags::GENERIC;
        s.check(&[
            ("RENAME a b", "-ERR no such key"),
            ("RENAMENX a b", "-ERR no such key"),
            ("SET a 1 PX 5000", "+OK"),
            ("RENAME a a", "+OK"),
            ("RENAMENX a a", ":0"),
            ("SET b 2", "+OK"),
            ("RENAMENX a b", ":0"),
            ("RENAME a b", "+OK"),
            ("GET b", "$1 1"),
            ("PTTL b", ":5000"),
            ("EXISTS a", ":0"),
            ("RENAMENX b c", ":1"),
            ("PTTL c", ":5000"),
        ]);
        assert_eq!(s.effects().split_off(2), ["RENAME a b", "RENAMENX b c"]);
        assert_eq!(events(&mut s).split_off(1), ["rename_from a@0", "rename_to b@0", "rename_from b@0", "rename_to c@0"]);
    }

    #[test]
    fn copying() {
        let mut s = Session::new();
        s.check(&[
            ("COPY a b", ":0"),
            ("COPY a a", "-ERR source and destination objects are the same"),
            ("COPY a b DB", "-ERR syntax error"),
            ("COPY a b DB x", "-ERR value is not an integer or out of range"),
            ("COPY a b DB 16", "-ERR DB index is out of range"),
            ("COPY a b DB -1", "-ERR DB index is out of range"),
            ("COPY a b DB 3000000000", "-ERR value is out of range, value must between -2147483648 and 2147483647"),
            ("COPY a b x", "-ERR syntax error"),
            ("SET a hello PX 100", "+OK"),
            ("COPY a b", ":1"),
            ("COPY a b", ":0"),
            ("SET a 7", "+OK"),
            ("COPY a b REPLACE", ":1"),
            ("GET b", "$1 7"),
            ("PTTL b", ":-1"),
            ("COPY a a DB 3", ":1"),
        ]);
        s.db = 3;
        s.check(&[("GET a", "$1 7"), ("DBSIZE", ":1")]);
        assert_eq!(s.effects().split_off(2), ["SET a 7", "COPY a b REPLACE", "COPY a a DB 3"]);
    }

    #[test]
    fn moving_tells_watchers_of_both_databases() {
        let mut s = Session::new();
        s.shard.settings.notify = NotifyFlags::GENERIC;
        s.shard.watch.watch(ClientId(5), 2, b"a", false);
        s.check(&[
            ("MOVE a 0", "-ERR source and destination objects are the same"),
            ("MOVE a x", "-ERR value is not an integer or out of range"),
            ("MOVE a 99", "-ERR DB index is out of range"),
            ("MOVE a 2", ":0"),
            ("SET a 1 PX 500", "+OK"),
            ("MOVE a 2", ":1"),
            ("EXISTS a", ":0"),
            ("SET a 2", "+OK"),
            ("MOVE a 2", ":0"),
        ]);
        assert!(s.shard.watch.is_dirty(ClientId(5)));
        s.db = 2;
        s.check(&[("GET a", "$1 1"), ("PTTL a", ":500")]);
        assert_eq!(events(&mut s), ["expire a@0", "move_from a@0", "move_to a@2"]);
    }
}
