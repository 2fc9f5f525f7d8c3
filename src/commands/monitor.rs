//! MONITOR: a connection that is shown every command of the node. The dispatcher shows them.

use super::{Action, Call, Gather, NodeCommand};
use crate::core::Core;
use crate::core::connection::Special;
use crate::core::shared::Node;
use kvshard::command::Command;
use kvshard::{Error, Flags, Group, Reply, Route, Spec};
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub static COMMANDS: &[&NodeCommand] = &[&MONITOR];

static MONITOR: NodeCommand = Command {
    spec: Spec {
        name: "monitor",
        group: Group::Server,
        summary: "Shows every command of the server as it runs.",
        arity: 1,
        flags: Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::LOADING).with(Flags::STALE),
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: monitor,
};

/// Every core has to notice before the OK, so that what is run after it is shown.
fn monitor(c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    if c.in_exec {
        return Err(Error::Text("ERR MONITOR isn't allowed for DENY BLOCKING client"));
    }
    if c.client().special.has(Special::MONITOR) {
        return Ok(Action::Done);
    }
    let seat = Seat::take(&c.core.node);
    let finish = move |core: &mut Core, index: usize, _: Vec<()>, reply: &mut Reply<'_>| {
        seat.keep();
        core.set_monitor(index, true);
        reply.ok();
        Ok(())
    };
    Ok(Action::Gather(Gather::all(|_| (), finish)))
}

/// One of `node.monitors`, given back if the connection goes before it is a monitor.
struct Seat(Option<Arc<Node>>);

impl Seat {
    fn take(node: &Arc<Node>) -> Seat {
        node.monitors.fetch_add(1, Ordering::SeqCst);
        Seat(Some(node.clone()))
    }

    /// From here on the connection accounts for it.
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(node) = &self.0 {
            node.monitors.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
