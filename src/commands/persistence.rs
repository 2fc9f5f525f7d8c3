//! Saving by request: SAVE, BGSAVE, BGREWRITEAOF, LASTSAVE.
//!
//! The handlers claim the one save that may run and order it; the cut is made when the core comes to it, a moment later.

use super::{Action, Call, NodeCommand};
use crate::coordinator::status::Saving;
use crate::observe::log;
use kvshard::command::{AclCategory, Arg, ArgFlags, ArgKind, Command};
use kvshard::{Error, Flags, Group, Reply, Route, Spec};
use std::sync::atomic::Ordering;

pub static COMMANDS: &[&NodeCommand] = &[&SAVE, &BGSAVE, &BGREWRITEAOF, &LASTSAVE];

const FLAGS: Flags = Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::NO_ASYNC_LOADING);
const IN_PROGRESS: Error = Error::Text("ERR Background save already in progress");
const REWRITE_IN_PROGRESS: Error = Error::Text(
    "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to schedule a BGSAVE whenever \
     possible.",
);

pub static SAVE: NodeCommand = Command {
    spec: Spec {
        name: "save",
        group: Group::Server,
        summary: "Saves the data set to a file, and answers when that is done.",
        complexity: "O(N) where N is the total number of keys in all databases",
        arity: 1,
        flags: FLAGS.with(Flags::NO_MULTI),
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: save,
};

/// The client waits; unlike Redis nobody else does.
fn save(c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    let saving = Saving::Foreground(c.asker());
    if !c.core.node.persistence.begin_save(saving, c.core.now / 1000) {
        return Err(IN_PROGRESS);
    }
    c.core.to_save.push(saving);
    Ok(Action::Await)
}

pub static BGSAVE: NodeCommand = Command {
    spec: Spec {
        name: "bgsave",
        group: Group::Server,
        summary: "Begins to save the data set to a file.",
        complexity: "O(1)",
        arity: -1,
        flags: FLAGS,
        history: &[("3.2.2", "Option `SCHEDULE`.")],
        args: &[Arg::new("schedule", ArgKind::PureToken).token("SCHEDULE").flags(ArgFlags::OPTIONAL).since("3.2.2")],
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: bgsave,
};

fn bgsave(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    if c.args.len() > 2 || (c.args.len() == 2 && !c.args.is(1, "schedule")) {
        return Err(Error::Syntax);
    }
    let persistence = &c.core.node.persistence;
    {
        let mut rdb = persistence.rdb();
        let rewrites = match rdb.running.map(|running| running.saving) {
            Some(Saving::Rewrite { .. }) => true,
            Some(_) => return Err(IN_PROGRESS),
            None => false,
        };
        // As Redis, which does not fork in the midst of a transaction: the file shows what all of it has done.
        if c.in_exec || (rewrites && c.args.len() == 2) {
            rdb.scheduled = true;
            r.simple("Background saving scheduled");
            return Ok(Action::Done);
        }
        if rewrites {
            return Err(REWRITE_IN_PROGRESS);
        }
    }
    if !persistence.begin_save(Saving::Background, c.core.now / 1000) {
        return Err(IN_PROGRESS);
    }
    log::notice(&format!("Background saving started by pid {}", std::process::id()));
    c.core.to_save.push(Saving::Background);
    r.simple("Background saving started");
    Ok(Action::Done)
}

pub static BGREWRITEAOF: NodeCommand = Command {
    spec: Spec {
        name: "bgrewriteaof",
        group: Group::Server,
        summary: "Begins to rewrite the append-only file.",
        complexity: "O(1)",
        arity: 1,
        flags: FLAGS,
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: bgrewriteaof,
};

fn bgrewriteaof(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let persistence = &c.core.node.persistence;
    let saving = Saving::Rewrite { first_kept: 0 };
    if persistence.begin_save(saving, c.core.now / 1000) {
        log::notice(&format!("Background append only file rewriting started by pid {}", std::process::id()));
        c.core.to_rewrite = true;
        r.simple("Background append only file rewriting started");
        return Ok(Action::Done);
    }
    if persistence.rdb().running.is_some_and(|running| matches!(running.saving, Saving::Rewrite { .. })) {
        return Err(Error::Text("ERR Background append only file rewriting already in progress"));
    }
    persistence.aof().scheduled = true;
    r.simple("Background append only file rewriting scheduled");
    Ok(Action::Done)
}

pub static LASTSAVE: NodeCommand = Command {
    spec: Spec {
        name: "lastsave",
        group: Group::Server,
        summary: "Tells when the data set was last saved.",
        arity: 1,
        flags: Flags::LOADING.with(Flags::STALE).with(Flags::FAST),
        acl: AclCategory::ADMIN.with(AclCategory::DANGEROUS),
        tips: &["nondeterministic_output"],
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: lastsave,
};

fn lastsave(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    r.integer(c.core.node.persistence.last_save.load(Ordering::Relaxed));
    Ok(Action::Done)
}
