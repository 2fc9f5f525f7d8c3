//! CLIENT UNBLOCK, PAUSE and UNPAUSE: making other clients go on, or wait.

use super::{ADMIN, SPEC};
use crate::commands::{Action, Call, Gather, NodeCommand, help};
use crate::core::Core;
use kvshard::command::{Arg, ArgFlags, ArgKind, Command};
use kvshard::keyspace::ClientId;
use kvshard::{Error, Reply, Spec};
use std::sync::atomic::Ordering;

const UNBLOCKED: &str = "UNBLOCKED client unblocked via CLIENT UNBLOCK";

pub static UNBLOCK: NodeCommand = Command {
    spec: Spec {
        name: "client|unblock",
        since: "5.0.0",
        summary: "Ends another connection's wait in a blocking command.",
        complexity: "O(log N) where N is the number of client connections",
        arity: -3,
        flags: ADMIN,
        args: &[
            Arg::new("client-id", ArgKind::Integer),
            Arg::new(
                "timeout_error",
                ArgKind::OneOf(&[
                    Arg::new("timeout", ArgKind::PureToken).token("TIMEOUT"),
                    Arg::new("error", ArgKind::PureToken).token("ERROR"),
                ]),
            )
            .flags(ArgFlags::OPTIONAL),
        ],
        ..SPEC
    },
    run: unblock,
};

fn unblock(c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    let error = match c.args.len() {
        3 => None,
        4 if c.args.is(3, "timeout") => None,
        4 if c.args.is(3, "error") => Some(UNBLOCKED),
        4 => return Err(Error::Text("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
        _ => return Err(help::wrong_form(c.args)),
    };
    let id = kvshard::number::parse_i64(c.args.at(2)).ok_or(Error::NotInteger)?;
    let client = ClientId(id as u64);
    let job = move |core: &mut Core| {
        let connection = core.connection_of(client).map(|index| &core.connections[index]);
        let claimed = connection.and_then(|connection| connection.blocked.as_ref()).is_some_and(|blocked| blocked.claim());
        if claimed {
            core.to_unblock.push((client, error));
        }
        claimed
    };
    let finish = |_: &mut Core, _: usize, parts: Vec<bool>, reply: &mut Reply<'_>| {
        reply.integer(i64::from(parts.contains(&true)));
        Ok(())
    };
    Ok(Action::Gather(Gather::all(job, finish)))
}

pub static PAUSE: NodeCommand = Command {
    spec: Spec {
        name: "client|pause",
        since: "2.9.50",
        summary: "Lets all commands, or those that write, wait.",
        arity: -3,
        flags: ADMIN,
        args: &[
            Arg::new("timeout", ArgKind::Integer),
            Arg::new(
                "mode",
                ArgKind::OneOf(&[
                    Arg::new("write", ArgKind::PureToken).token("WRITE"),
                    Arg::new("all", ArgKind::PureToken).token("ALL"),
                ]),
            )
            .flags(ArgFlags::OPTIONAL)
            .since("6.2.0"),
        ],
        history: &[("6.2.0", "A mode: all commands, or those that write.")],
        ..SPEC
    },
    run: pause,
};

/// A pause under way is only ever made longer and stricter.
fn pause(c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    let writes_only = match c.args.len() {
        3 => false,
        4 if c.args.is(3, "write") => true,
        4 if c.args.is(3, "all") => false,
        4 => return Err(Error::Text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
        _ => return Err(help::wrong_form(c.args)),
    };
    let timeout = kvshard::number::parse_i64(c.args.at(2)).ok_or(Error::Text("ERR timeout is not an integer or out of range"))?;
    if timeout < 0 {
        return Err(Error::Text("ERR timeout is negative"));
    }
    let now = c.core.now;
    let until_ms = if timeout == 0 { 0 } else { now.checked_add(timeout).ok_or(Error::Text("ERR timeout is out of range"))? };
    let pause = &c.core.node.pause;
    let stricter = pause.active(now) == Some(false);
    pause.writes_only.store(writes_only && !stricter, Ordering::SeqCst);
    pause.until_ms.fetch_max(until_ms, Ordering::SeqCst);
    Ok(noticed_everywhere())
}

pub static UNPAUSE: NodeCommand = Command {
    spec: Spec {
        name: "client|unpause",
        since: "6.2.0",
        summary: "Ends CLIENT PAUSE.",
        complexity: "O(N) Where N is the number of paused clients",
        arity: 2,
        flags: ADMIN,
        ..SPEC
    },
    run: unpause,
};

fn unpause(c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    c.core.node.pause.until_ms.store(0, Ordering::SeqCst);
    Ok(noticed_everywhere())
}

/// Answers OK when every core has looked at the node's state, which they do after a job.
fn noticed_everywhere() -> Action {
    let finish = |_: &mut Core, _: usize, _: Vec<()>, reply: &mut Reply<'_>| {
        reply.ok();
        Ok(())
    };
    Action::Gather(Gather::all(|_| (), finish))
}
