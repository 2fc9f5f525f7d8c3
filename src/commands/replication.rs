//! Replication by command: what replicas say before they follow (REPLCONF, PSYNC, SYNC), whom this node follows (REPLICAOF), and
//! how far its replicas are (ROLE, WAIT, WAITAOF).

use super::{Action, Call, Gather, NodeCommand};
use crate::config::structures::PrimaryAddress;
use crate::coordinator::contract::Asker;
use crate::core::Core;
use crate::core::connection::Special;
use crate::core::log::Mark;
use crate::peers::contract::{Disks, ToPeers, Wait};
use crate::replication::failover::{Ask, NO_FAILOVER};
use crate::replication::history::signed;
use crate::replication::primary::request::{Answer, Request};
use kvshard::command::{AclCategory, Arg, ArgFlags, ArgKind, Command};
use kvshard::number::parse_i64;
use kvshard::{Error, Flags, Group, Reply, Route, Spec};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub static COMMANDS: &[&NodeCommand] = &[&REPLCONF, &PSYNC, &SYNC, &REPLICAOF, &SLAVEOF, &FAILOVER, &ROLE, &WAIT, &WAITAOF];

const INTERNAL: Flags = Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::NO_ASYNC_LOADING).with(Flags::NO_MULTI);

pub static REPLCONF: NodeCommand = Command {
    spec: Spec {
        name: "replconf",
        group: Group::Server,
        since: "3.0.0",
        summary: "Tells a primary about the replica that the connection is from.",
        complexity: "O(1)",
        arity: -1,
        flags: Flags::ADMIN
            .with(Flags::NOSCRIPT)
            .with(Flags::LOADING)
            .with(Flags::STALE)
            .with(Flags::ALLOW_BUSY)
            .with(Flags::SYSTEM),
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: replconf,
};

fn replconf(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let args: Vec<&[u8]> = c.args.iter().skip(1).collect();
    match c.client().about_mut().replconf(&args) {
        Answer::Ok => r.ok(),
        Answer::Error(text) => return Err(Error::Owned(format!("ERR {text}"))),
        Answer::Silence => {}
    }
    Ok(Action::Done)
}

pub static PSYNC: NodeCommand = Command {
    spec: Spec {
        name: "psync",
        group: Group::Server,
        since: "2.8.0",
        summary: "Makes the connection a replica's, which continues where it was if that is possible.",
        arity: -3,
        flags: INTERNAL,
        args: &[Arg::new("replicationid", ArgKind::String), Arg::new("offset", ArgKind::Integer)],
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: psync,
};

pub static SYNC: NodeCommand = Command {
    spec: Spec {
        name: "sync",
        group: Group::Server,
        since: "1.0.0",
        summary: "Makes the connection a replica's, of a version before 2.8.",
        arity: 1,
        flags: INTERNAL,
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: sync,
};

fn psync(c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    let args: Vec<&[u8]> = c.args.iter().skip(1).collect();
    let request = Request::psync(&args).ok_or(Error::Text("ERR value is not an integer or out of range"))?;
    leave(c, request)
}

fn sync(c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    leave(c, Request::Sync)
}

/// A primary's stream cannot wait for a change that waits for the stream.
const IN_STREAM: Error = Error::Text("ERR Command not allowed in a replication stream");

fn leave(c: &mut Call<'_>, request: Request) -> Result<Action, Error> {
    let client = c.client();
    if client.special.has(Special::LOADER) {
        return Err(IN_STREAM);
    }
    if client.pending_output() > 0 || !client.reorder.is_empty() {
        return Err(Error::Text("ERR SYNC and PSYNC are invalid with pending output"));
    }
    Ok(Action::Leave(Box::new(request)))
}

const PRIMARY_ARGS: &[Arg] = &[Arg::new(
    "args",
    ArgKind::OneOf(&[
        Arg::new("host-port", ArgKind::Block(&[Arg::new("host", ArgKind::String), Arg::new("port", ArgKind::Integer)])),
        Arg::new(
            "no-one",
            ArgKind::Block(&[Arg::new("no", ArgKind::PureToken).token("NO"), Arg::new("one", ArgKind::PureToken).token("ONE")]),
        ),
    ]),
)];

const REPLICAOF_FLAGS: Flags = Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::STALE).with(Flags::NO_ASYNC_LOADING);

pub static REPLICAOF: NodeCommand = Command {
    spec: Spec {
        name: "replicaof",
        group: Group::Server,
        since: "5.0.0",
        summary: "Makes the node a replica of another one, or a primary.",
        complexity: "O(1)",
        arity: 3,
        flags: REPLICAOF_FLAGS,
        args: PRIMARY_ARGS,
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: replicaof,
};

pub static SLAVEOF: NodeCommand = Command {
    spec: Spec {
        name: "slaveof",
        group: Group::Server,
        since: "1.0.0",
        summary: "Makes the node a replica of another one, or a primary.",
        complexity: "O(1)",
        arity: 3,
        flags: REPLICAOF_FLAGS,
        deprecated: Some(("5.0.0", "`REPLICAOF`")),
        args: PRIMARY_ARGS,
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: replicaof,
};

fn replicaof(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    if c.client().special.has(Special::LOADER) {
        return Err(IN_STREAM);
    }
    let args = c.args;
    let primary = if args.is(1, "no") && args.is(2, "one") {
        None
    } else {
        let port = parse_i64(args.at(2)).and_then(|port| u16::try_from(port).ok());
        let port = port.ok_or(Error::Text("ERR Invalid master port"))?;
        Some(PrimaryAddress { host: String::from_utf8_lossy(args.at(1)).into_owned(), port })
    };
    let node = c.core.node.clone();
    if node.replication.facts().failover != NO_FAILOVER {
        return Err(Error::Text("ERR REPLICAOF not allowed while failing over."));
    }
    if c.in_exec {
        // Sentinel rewrites the configuration in the same transaction.
        node.set_replicaof(primary.clone());
        node.replication.announce(primary.as_ref());
    }
    Ok(ask(c, r, |asker| ToPeers::ReplicaOf { primary, asker }))
}

/// The client waits until it is done; a transaction does not.
fn ask(c: &mut Call<'_>, r: &mut Reply<'_>, message: impl FnOnce(Option<Asker>) -> ToPeers) -> Action {
    let asker = (!c.in_exec).then(|| c.asker());
    c.core.tell_peers(message(asker));
    if c.in_exec {
        r.ok();
        return Action::Done;
    }
    Action::Await
}

pub static FAILOVER: NodeCommand = Command {
    spec: Spec {
        name: "failover",
        group: Group::Server,
        since: "6.2.0",
        summary: "Hands the part of the primary over to a replica, when that has everything.",
        complexity: "O(1)",
        arity: -1,
        flags: Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::STALE),
        args: &[
            Arg::new(
                "target",
                ArgKind::Block(&[
                    Arg::new("host", ArgKind::String),
                    Arg::new("port", ArgKind::Integer),
                    Arg::new("force", ArgKind::PureToken).token("FORCE").flags(ArgFlags::OPTIONAL),
                ]),
            )
            .token("TO")
            .flags(ArgFlags::OPTIONAL),
            Arg::new("abort", ArgKind::PureToken).token("ABORT").flags(ArgFlags::OPTIONAL),
            Arg::new("milliseconds", ArgKind::Integer).token("TIMEOUT").flags(ArgFlags::OPTIONAL),
        ],
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: failover,
};

fn failover(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let args: Vec<&[u8]> = c.args.iter().skip(1).collect();
    let wish = Ask::parse(&args).map_err(|text| Error::Owned(format!("ERR {text}")))?;
    Ok(ask(c, r, |asker| ToPeers::Failover { ask: wish, asker }))
}

pub static WAIT: NodeCommand = Command {
    spec: Spec {
        name: "wait",
        group: Group::Generic,
        since: "3.0.0",
        summary: "Waits until so many replicas have acknowledged everything that the connection has written.",
        complexity: "O(1)",
        arity: 3,
        flags: Flags::NOSCRIPT,
        acl: AclCategory::CONNECTION,
        tips: &["request_policy:all_shards", "response_policy:agg_min"],
        args: &[Arg::new("numreplicas", ArgKind::Integer), Arg::new("timeout", ArgKind::Integer)],
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: wait,
};

fn wait(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    if c.core.node.replication.is_replica() {
        return Err(Error::Text(
            "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is configured to be \
             writable (which is not the default) writes to replicas are just local and are not propagated.",
        ));
    }
    let replicas = parse_i64(c.args.at(1)).ok_or(Error::NotInteger)?;
    let timeout_ms = timeout_ms(c.args.at(2))?;
    if c.in_exec {
        // A transaction cannot wait: it is told how things are.
        r.integer(c.core.node.replication.caught_up() as i64);
        return Ok(Action::Done);
    }
    Ok(block(c, replicas.max(0) as u64, timeout_ms, None))
}

fn timeout_ms(word: &[u8]) -> Result<i64, Error> {
    match parse_i64(word) {
        None => Err(Error::Text("ERR timeout is not an integer or out of range")),
        Some(..0) => Err(Error::Text("ERR timeout is negative")),
        Some(timeout_ms) => Ok(timeout_ms),
    }
}

/// The client waits for so many replicas to have what it has written. What it has asked of other cores before is to be done first.
fn block(c: &mut Call<'_>, replicas: u64, timeout_ms: i64, disks: Option<Disks>) -> Action {
    if !c.client().reorder.is_empty() {
        return Action::NotYet;
    }
    let (asker, claimed) = (c.asker(), Arc::new(AtomicBool::new(false)));
    let mark = disks.as_ref().and_then(|disks| disks.mark.clone());
    c.core.tell_peers(ToPeers::Wait(Wait { asker, claimed: claimed.clone(), replicas, disks }));
    Action::Block { timeout_ms, claimed, mark }
}

pub static WAITAOF: NodeCommand = Command {
    spec: Spec {
        name: "waitaof",
        group: Group::Generic,
        since: "7.2.0",
        summary: "Waits until everything that the connection has written is on this node's disk, or on so many replicas'.",
        complexity: "O(1)",
        arity: 4,
        flags: Flags::BLOCKING,
        acl: AclCategory::CONNECTION,
        tips: &["request_policy:all_shards", "response_policy:agg_min"],
        args: &[
            Arg::new("numlocal", ArgKind::Integer),
            Arg::new("numreplicas", ArgKind::Integer),
            Arg::new("timeout", ArgKind::Integer),
        ],
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: waitaof,
};

fn waitaof(c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    let needs_own = match parse_i64(c.args.at(1)).ok_or(Error::NotInteger)? {
        number @ (0 | 1) => number == 1,
        _ => return Err(Error::Text("ERR value is out of range, value must between 0 and 1")),
    };
    let replicas = parse_i64(c.args.at(2)).and_then(|number| u64::try_from(number).ok());
    let replicas = replicas.ok_or(Error::Text("ERR value is out of range, must be positive"))?;
    let timeout_ms = timeout_ms(c.args.at(3))?;
    if c.core.node.replication.is_replica() {
        return Err(Error::Text(
            "ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just local and are not \
             propagated.",
        ));
    }
    let appends = c.core.config.appendonly;
    if needs_own && !appends {
        return Err(Error::Text("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled."));
    }
    if c.in_exec {
        return Ok(Action::Gather(how_far_on_disk()));
    }
    let mark = appends.then(|| Mark::new(c.core.node.cores));
    Ok(block(c, replicas, timeout_ms, Some(Disks { needs_own, mark })))
}

/// What a transaction is told, which cannot wait.
fn how_far_on_disk() -> Gather {
    let job = |core: &mut Core| {
        core.seal();
        core.log.is_synced()
    };
    Gather::all(job, |core, _, synced, reply| {
        let is_own = core.config.appendonly && core.node.persistence.is_appended() && !synced.contains(&false);
        reply.array(2);
        reply.integer(is_own.into());
        reply.integer(core.node.replication.caught_up_on_disk() as i64);
        Ok(())
    })
}

pub static ROLE: NodeCommand = Command {
    spec: Spec {
        name: "role",
        group: Group::Server,
        since: "2.8.12",
        summary: "Tells the node's part in replication.",
        arity: 1,
        flags: Flags::NOSCRIPT.with(Flags::LOADING).with(Flags::STALE).with(Flags::FAST),
        acl: AclCategory::ADMIN.with(AclCategory::DANGEROUS),
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: role,
};

/// A primary's offset, and each replica's address and offset; or a replica's primary, and the state of the link to it.
fn role(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let replication = &c.core.node.replication;
    let facts = replication.facts();
    if let Some(upstream) = &facts.upstream {
        r.array(5);
        r.bulk(b"slave");
        r.bulk(upstream.host.as_bytes());
        r.integer(upstream.port.into());
        r.bulk(upstream.state.as_bytes());
        r.integer(upstream.role_offset);
        return Ok(Action::Done);
    }
    let online: Vec<_> = facts.replicas.iter().filter(|replica| replica.is_online).collect();
    r.array(3);
    r.bulk(b"master");
    r.integer(replication.offset());
    r.array(online.len());
    for replica in online {
        r.array(3);
        r.bulk(replica.ip.as_bytes());
        r.bulk_integer(replica.port.into());
        r.bulk_integer(signed(replica.offset.0));
    }
    Ok(Action::Done)
}
