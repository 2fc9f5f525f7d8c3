//! Saving by request: SAVE, BGSAVE, LASTSAVE.
//!
//! The handlers claim the one save that may run and order it; the cut is made when the core comes to it, a moment later.

use super::{Action, Call, NodeCommand};
use crate::coordinator::status::Saving;
use crate::observe::log;
use kvshard::command::{AclCategory, Arg, ArgFlags, ArgKind, Command};
use kvshard::{Error, Flags, Group, Reply, Route, Spec};
use std::sync::atomic::Ordering;

pub static COMMANDS: &[&NodeCommand] = &[&SAVE, &BGSAVE, &LASTSAVE];

const FLAGS: Flags = Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::NO_ASYNC_LOADING);
const IN_PROGRESS: Error = Error::Text("ERR Background save already in progress");

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
    if c.in_exec {
        // As Redis, which does not fork in the midst of a transaction: the file shows what all of it has done.
        let mut rdb = persistence.rdb();
        if rdb.running.is_some() {
            return Err(IN_PROGRESS);
        }
        rdb.scheduled = true;
        r.simple("Background saving scheduled");
        return Ok(Action::Done);
    }
    if !persistence.begin_save(Saving::Background, c.core.now / 1000) {
        return Err(IN_PROGRESS);
    }
    log::notice(&format!("Background saving started by pid {}", std::process::id()));
    c.core.to_save.push(Saving::Background);
    r.simple("Background saving started");
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
