//! Admission: the checks between finding a command and running it, in Redis's order.
//!
//! Each check is small and answers for one reason. With no special state of the client or the node only the arity is looked at.

use crate::commands::registry::{Plan, Registered};
use crate::core::connection::{Connection, Special};
use kvshard::{Args, Error, Flags};

/// The reply to a command that needs memory when there is none.
pub const OUT_OF_MEMORY: &str = "OOM command not allowed when used memory > 'maxmemory'.";

/// What the gate says about one command.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    Run,
    /// Keep for EXEC and answer QUEUED.
    Queue,
    Refuse(Error),
    /// Look again when the pause has ended.
    Pause,
}

/// State of the whole node that concerns every command, refreshed once a turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeSpecial {
    /// CLIENT PAUSE is on; `true`: for writes only.
    pub paused: Option<bool>,
    /// Some connection monitors.
    pub monitored: bool,
    /// `maxmemory` is set.
    pub memory_limited: bool,
}

impl NodeSpecial {
    #[inline]
    pub fn any(&self) -> bool {
        self.paused.is_some() || self.monitored || self.memory_limited
    }
}

/// The error for a command that does not exist.
pub fn unknown_command(args: Args<'_>) -> Error {
    let mut text = format!("ERR unknown command '{}', with args beginning with: ", lossy(args.at(0), 128));
    let mut shown = 0;
    for arg in args.from(1).iter() {
        if shown >= 128 {
            break;
        }
        let part = lossy(arg, 128 - shown);
        shown += part.len() + 3;
        text.push_str(&format!("'{part}' "));
    }
    Error::Owned(text)
}

fn lossy(bytes: &[u8], max: usize) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(max)]).into_owned()
}

/// The error for a container's unknown subcommand.
fn unknown_subcommand(container: &Registered, args: Args<'_>) -> Error {
    let name = container.spec.name.to_uppercase();
    Error::Owned(format!("ERR unknown subcommand '{}'. Try {name} HELP.", lossy(args.at(1), 128)))
}

pub fn wrong_arity(command: &Registered) -> Error {
    Error::Owned(format!("ERR wrong number of arguments for '{}' command", command.spec.name))
}

/// The arguments fit the command. Not fitting fails an open transaction.
#[inline]
pub fn check_form(command: &'static Registered, args: Args<'_>) -> Result<(), Error> {
    if !command.subcommands.is_empty() && args.len() >= 2 {
        return Err(unknown_subcommand(command, args));
    }
    if !command.spec.arity_matches(args.len()) {
        return Err(wrong_arity(command));
    }
    Ok(())
}

/// Everything else. `password_required`: the default user has one.
pub fn check(connection: &Connection, command: &'static Registered, args: Args<'_>, node: NodeSpecial) -> Verdict {
    let (flags, special) = (command.flags(), connection.special);
    if special.has(Special::UNAUTHENTICATED) && !flags.has(Flags::NO_AUTH) {
        return Verdict::Refuse(Error::Text("NOAUTH Authentication required."));
    }
    if connection.in_multi() && flags.has(Flags::NO_MULTI) {
        return Verdict::Refuse(Error::Text("ERR Command not allowed inside a transaction"));
    }
    if special.has(Special::SUBSCRIBED) && !allowed_while_subscribed(command) {
        let name = command.spec.name;
        return Verdict::Refuse(Error::Owned(format!(
            "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
        )));
    }
    let runs_now = !connection.in_multi() || flags.has(Flags::NO_QUEUE);
    if let Some(writes_only) = node.paused {
        let may_write = flags.any(Flags::WRITE | Flags::MAY_REPLICATE) || exec_would_write(connection, command);
        let exempt = flags.has(Flags::NO_PAUSE) || !runs_now;
        if !exempt && (!writes_only || may_write) {
            return Verdict::Pause;
        }
    }
    if !runs_now {
        return Verdict::Queue;
    }
    let _unused_by_now = args;
    Verdict::Run
}

fn exec_would_write(connection: &Connection, command: &'static Registered) -> bool {
    command.flags().has(Flags::RUNS_QUEUE)
        && connection
            .transaction
            .as_ref()
            .is_some_and(|transaction| transaction.queue.iter().any(|(queued, _)| queued.flags().any(Flags::WRITE | Flags::MAY_REPLICATE)))
}

fn allowed_while_subscribed(command: &'static Registered) -> bool {
    command.flags().any(Flags::SUBSCRIBED)
}

/// Whether a command may run on shards of other cores without the connection waiting for it.
pub fn keeps_flowing(command: &'static Registered) -> bool {
    !matches!(command.plan, Plan::Node) && !command.flags().has(Flags::BLOCKING)
}
