//! Whole databases: counting, flushing and exchanging them.
//!
//! Each shard does its own part; the node joins the replies and writes the one effect.

use super::super::ShardCommand;
use super::keys::parse_int;
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, Merge, Route, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::keyspace::waiters::Awaited;
use crate::keyspace::{Db, Value};
use crate::reply::Reply;
use crate::shard::Shard;

pub static DBSIZE: ShardCommand = Command {
    spec: Spec {
        name: "dbsize",
        group: Group::Server,
        summary: "Counts the keys of the database.",
        arity: 1,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::KEYSPACE,
        tips: &["request_policy:all_shards", "response_policy:agg_sum"],
        route: Route::AllShards(Merge::Sum),
        ..Spec::DEFAULT
    },
    run: dbsize,
};

fn dbsize(x: &mut Exec<'_>, _: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    r.integer(x.database().len() as i64);
    Ok(())
}

pub static FLUSHDB: ShardCommand = Command {
    spec: Spec {
        name: "flushdb",
        group: Group::Server,
        summary: "Deletes all keys of the database.",
        complexity: "O(1); the keys are freed later, in slices",
        arity: -1,
        flags: Flags::WRITE,
        acl: AclCategory::KEYSPACE.with(AclCategory::DANGEROUS),
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        args: &[Arg::new(
            "async",
            ArgKind::OneOf(&[
                Arg::new("async", ArgKind::PureToken).token("ASYNC").since("4.0.0"),
                Arg::new("sync", ArgKind::PureToken).token("SYNC").since("6.2.0"),
            ]),
        )
        .flags(ArgFlags::OPTIONAL)],
        route: Route::AllShards(Merge::First),
        history: &[("4.0.0", "Option `ASYNC`."), ("6.2.0", "Option `SYNC`.")],
        ..Spec::DEFAULT
    },
    run: flushdb,
};

fn flushdb(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    check_mode(a)?;
    let removed = x.shard.flush(x.db);
    flushed(x, r, removed);
    Ok(())
}

pub static FLUSHALL: ShardCommand = Command {
    spec: Spec {
        name: "flushall",
        group: Group::Server,
        summary: "Deletes all keys of all databases.",
        complexity: "O(1); the keys are freed later, in slices",
        arity: -1,
        flags: Flags::WRITE,
        acl: AclCategory::KEYSPACE.with(AclCategory::DANGEROUS),
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        args: &[Arg::new(
            "async",
            ArgKind::OneOf(&[
                Arg::new("async", ArgKind::PureToken).token("ASYNC").since("4.0.0"),
                Arg::new("sync", ArgKind::PureToken).token("SYNC").since("6.2.0"),
            ]),
        )
        .flags(ArgFlags::OPTIONAL)],
        route: Route::AllShards(Merge::First),
        history: &[("4.0.0", "Option `ASYNC`."), ("6.2.0", "Option `SYNC`.")],
        ..Spec::DEFAULT
    },
    run: flushall,
};

fn flushall(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    check_mode(a)?;
    let removed = x.shard.flush_all();
    x.flushed_all();
    flushed(x, r, removed);
    Ok(())
}

/// SYNC and ASYNC are the same here: the keys are gone at once, and their memory is freed in slices.
fn check_mode(a: Args<'_>) -> CommandResult {
    if a.len() == 1 || (a.len() == 2 && (a.is(1, "sync") || a.is(1, "async"))) { Ok(()) } else { Err(Error::Syntax) }
}

/// Flushing has its effect also where there was nothing to flush, as followers may know more.
fn flushed(x: &mut Exec<'_>, r: &mut Reply<'_>, removed: usize) {
    x.count_changes(removed as u64);
    x.effect_is_own_text();
    r.ok();
}

pub static SWAPDB: ShardCommand = Command {
    spec: Spec {
        name: "swapdb",
        group: Group::Server,
        since: "4.0.0",
        summary: "Exchanges two databases.",
        complexity: "O(N) in the number of clients that watch or wait for keys of either",
        arity: 3,
        flags: Flags::WRITE.with(Flags::FAST),
        acl: AclCategory::KEYSPACE.with(AclCategory::DANGEROUS),
        args: &[Arg::new("index1", ArgKind::Integer), Arg::new("index2", ArgKind::Integer)],
        route: Route::AllShards(Merge::First),
        ..Spec::DEFAULT
    },
    run: swapdb,
};

fn swapdb(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    if x.settings().cluster_enabled {
        return Err(Error::Text("ERR SWAPDB is not allowed in cluster mode"));
    }
    let first = parse_int(a.at(1)).map_err(|_| Error::Text("ERR invalid first DB index"))?;
    let second = parse_int(a.at(2)).map_err(|_| Error::Text("ERR invalid second DB index"))?;
    let count = x.shard.dbs.len();
    let index = |number: i64| usize::try_from(number).ok().filter(|&db| db < count);
    let (Some(first), Some(second)) = (index(first), index(second)) else {
        return Err(Error::Text("ERR DB index is out of range"));
    };
    if first != second {
        x.shard.swap_dbs(first, second, x.now);
    }
    x.count_changes(1);
    r.ok();
    Ok(())
}

impl Shard {
    /// Empties a database and tells the watchers of its keys; returns how many keys it had.
    pub fn flush(&mut self, db: usize) -> usize {
        let emptied = self.dbs[db].replace_by_empty();
        let hasher = &self.hasher;
        // A key that had expired before it was watched has not changed by being removed.
        self.watch.changed_in(db, |key, was_expired| !std::mem::take(was_expired) && emptied.contains(&hasher.key(key)));
        let removed = emptied.len();
        self.discard_db(emptied);
        removed
    }

    /// Empties all of them; returns how many keys they had.
    pub fn flush_all(&mut self) -> usize {
        (0..self.dbs.len()).map(|db| self.flush(db)).sum()
    }

    /// Exchanges two databases. Clients stay where they are: watchers of keys that are or were there have lost, and
    /// waiters are looked at again.
    pub(crate) fn swap_dbs(&mut self, first: usize, second: usize, now: i64) {
        for (db, other) in [(first, second), (second, first)] {
            let (before, after): (&Db, &Db) = (&self.dbs[db], &self.dbs[other]);
            let hasher = &self.hasher;
            self.watch.changed_in(db, |key, was_expired| {
                let key = hasher.key(key);
                let present_after = after.expiry(&key);
                let expired_after = present_after.is_some_and(|expiry| expiry.is_some_and(|at_ms| now > at_ms));
                if *was_expired {
                    *was_expired = present_after.is_some();
                    present_after.is_some() && !expired_after
                } else if before.contains(&key) {
                    true
                } else {
                    // Nothing replaced by what has expired is no change, neither now nor when it is removed.
                    *was_expired = expired_after;
                    present_after.is_some() && !expired_after
                }
            });
        }
        self.dbs.swap(first, second);
        for db in [first, second] {
            for name in self.waiters.keys_in(db) {
                let awaited = match self.dbs[db].value(&self.hasher.key(&name)) {
                    Some(Value::List(_)) => Awaited::List,
                    Some(Value::SortedSet(_)) => Awaited::SortedSet,
                    _ => continue,
                };
                self.waiters.filled(db, &name, awaited);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::family::testing::Session;
    use crate::keyspace::ClientId;

    #[test]
    fn flushing() {
        let mut s = Session::new();
        s.check(&[
            ("FLUSHDB NOW", "-ERR syntax error"),
            ("FLUSHALL ASYNC SYNC", "-ERR syntax error"),
            ("FLUSHALL", "+OK"),
            ("SET a 1", "+OK"),
            ("SET b 1 PX 5", "+OK"),
        ]);
        s.db = 1;
        s.check(&[("SET c 1", "+OK"), ("FLUSHDB async", "+OK"), ("DBSIZE", ":0")]);
        s.db = 0;
        s.check(&[("DBSIZE", ":2"), ("FLUSHALL SYNC", "+OK"), ("DBSIZE", ":0")]);
        let effects = s.effects();
        assert_eq!(
            (effects[0].as_str(), effects[4].as_str(), effects[5].as_str()),
            ("FLUSHALL", "FLUSHDB async", "FLUSHALL SYNC")
        );
        s.shard.trash.free_some(100);
        s.shard.trash.free_some(100);
        assert!(s.shard.trash.is_empty());
    }

    #[test]
    fn flushing_tells_watchers_of_present_keys() {
        let mut s = Session::new();
        s.run("SET a 1");
        s.run("SET old 1 PX 5");
        s.now += 6;
        for (client, key, was_expired) in [(1, &b"a"[..], false), (2, b"none", false), (3, b"old", true)] {
            s.shard.watch.watch(ClientId(client), 0, key, was_expired);
        }
        s.run("FLUSHDB");
        assert_eq!([1, 2, 3].map(|client| s.shard.watch.is_dirty(ClientId(client))), [true, false, false]);
    }

    #[test]
    fn swapping() {
        let mut s = Session::new();
        s.check(&[
            ("SWAPDB x 1", "-ERR invalid first DB index"),
            ("SWAPDB 0 3000000000", "-ERR invalid second DB index"),
            ("SWAPDB 0 16", "-ERR DB index is out of range"),
            ("SWAPDB -1 0", "-ERR DB index is out of range"),
            ("SWAPDB 0 0", "+OK"),
            ("SET a 1", "+OK"),
        ]);
        for (client, db, key) in [(1, 0, &b"a"[..]), (2, 1, b"a"), (3, 2, b"a"), (4, 0, b"none")] {
            s.shard.watch.watch(ClientId(client), db, key, false);
        }
        s.check(&[("SWAPDB 0 1", "+OK"), ("DBSIZE", ":0")]);
        assert_eq!([1, 2, 3, 4].map(|client| s.shard.watch.is_dirty(ClientId(client))), [true, true, false, false]);
        s.db = 1;
        s.check(&[("GET a", "$1 1")]);
        assert_eq!(s.effects(), ["SWAPDB 0 0", "SET a 1", "SWAPDB 0 1"]);
    }
}
