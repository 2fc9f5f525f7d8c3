//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! Queueing is the gate's work and running the queue the dispatcher's; these handlers only open, close and mark.

use super::{Action, Call, Gather, NodeCommand};
use crate::core::connection::Special;
use kvshard::command::{AclCategory, Arg, ArgFlags, ArgKind, Command, KeyAccess};
use kvshard::keyspace::slot::SlotId;
use kvshard::{Error, Flags, Group, KeySpec, Reply, Route, Spec};

pub static COMMANDS: &[&NodeCommand] = &[&MULTI, &EXEC, &DISCARD, &WATCH, &UNWATCH];

/// What all of them have in common.
const FLAGS: Flags = Flags::NOSCRIPT.with(Flags::LOADING).with(Flags::STALE).with(Flags::FAST);

pub static MULTI: NodeCommand = Command {
    spec: Spec {
        name: "multi",
        group: Group::Transactions,
        since: "1.2.0",
        summary: "Begins to queue commands.",
        arity: 1,
        flags: FLAGS.with(Flags::NO_QUEUE).with(Flags::ALLOW_BUSY),
        acl: AclCategory::TRANSACTION,
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: multi,
};

fn multi(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let client = c.client();
    if client.in_multi() {
        return Err(Error::Text("ERR MULTI calls can not be nested"));
    }
    client.transaction.get_or_insert_default().open = true;
    client.special.set(Special::TRANSACTION, true);
    r.ok();
    Ok(Action::Done)
}

pub static EXEC: NodeCommand = Command {
    spec: Spec {
        name: "exec",
        group: Group::Transactions,
        since: "1.2.0",
        summary: "Runs the queued commands as one.",
        complexity: "Depends on commands in the transaction",
        arity: 1,
        flags: Flags::NOSCRIPT
            .with(Flags::LOADING)
            .with(Flags::STALE)
            .with(Flags::SKIP_SLOWLOG)
            .with(Flags::NO_QUEUE)
            .with(Flags::RUNS_QUEUE),
        acl: AclCategory::TRANSACTION,
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: exec,
};

fn exec(c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    if c.client().in_multi() { Ok(Action::Exec) } else { Err(Error::Text("ERR EXEC without MULTI")) }
}

pub static DISCARD: NodeCommand = Command {
    spec: Spec {
        name: "discard",
        group: Group::Transactions,
        since: "2.0.0",
        summary: "Drops the queued commands.",
        complexity: "O(N), when N is the number of queued commands",
        arity: 1,
        flags: FLAGS.with(Flags::NO_QUEUE).with(Flags::ALLOW_BUSY),
        acl: AclCategory::TRANSACTION,
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: discard,
};

fn discard(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let client = c.client();
    match &mut client.transaction {
        Some(transaction) if transaction.open => {
            let watched = std::mem::take(&mut transaction.watched);
            **transaction = Default::default();
            transaction.watched = watched;
        }
        _ => return Err(Error::Text("ERR DISCARD without MULTI")),
    }
    client.special.set(Special::TRANSACTION, false);
    r.ok();
    Ok(Action::Unwatch)
}

pub static WATCH: NodeCommand = Command {
    spec: Spec {
        name: "watch",
        group: Group::Transactions,
        since: "2.2.0",
        summary: "Makes EXEC depend on keys staying as they are.",
        complexity: "O(1) for every key.",
        arity: -2,
        flags: FLAGS.with(Flags::NO_QUEUE).with(Flags::ALLOW_BUSY),
        acl: AclCategory::TRANSACTION,
        keys: &[KeySpec::range(1, -1, 1, KeyAccess::RO)],
        args: &[Arg::new("key", ArgKind::Key(0)).flags(ArgFlags::MULTIPLE)],
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: watch,
};

fn watch(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    if c.client().in_multi() {
        return Err(Error::Text("ERR WATCH inside MULTI is not allowed"));
    }
    let (db, id) = (c.client().db, c.client().id);
    let keys: Vec<Box<[u8]>> = c.args.from(1).iter().map(Box::from).collect();
    let watched = &mut c.client().transaction.get_or_insert_default().watched;
    for key in &keys {
        if !watched.contains(&(db, key.clone())) {
            watched.push((db, key.clone()));
        }
    }
    let hasher = &c.core.scratch.hasher;
    let mut cores: Vec<usize> = keys.iter().map(|key| hasher.shard_of(SlotId::of_key(key))).collect();
    cores.sort_unstable();
    cores.dedup();
    let _written_by_finish = r;
    let job = move |core: &mut crate::core::Core| {
        let (own, now) = (core.id, core.now);
        let shard = core.shard.as_mut().expect("the job waits for the shard");
        for key in &keys {
            if shard.hasher.shard_of(SlotId::of_key(key)) == own {
                shard.watch_key(id, db, key, now);
            }
        }
    };
    let finish = |_: &mut crate::core::Core, _: usize, _: Vec<()>, reply: &mut Reply<'_>| {
        reply.ok();
        Ok(())
    };
    Ok(Action::Gather(Gather::all(job, finish).on(cores).needing_shard()))
}

pub static UNWATCH: NodeCommand = Command {
    spec: Spec {
        name: "unwatch",
        group: Group::Transactions,
        since: "2.2.0",
        summary: "Forgets all watched keys.",
        arity: 1,
        flags: FLAGS.with(Flags::ALLOW_BUSY),
        acl: AclCategory::TRANSACTION,
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: unwatch,
};

fn unwatch(_c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    r.ok();
    Ok(Action::Unwatch)
}
