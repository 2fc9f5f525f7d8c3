//! Commands of the node itself: connections, configuration, transactions, pub/sub, introspection.
//!
//! A handler acts on its core's state and says what is to happen beyond it by an [`Action`]; it never calls the dispatcher. Work
//! that needs every core is a [`Gather`]: a job run on each, and a finish that joins the parts into the reply.

pub mod registry;

use crate::coordinator::contract::Asker;
use crate::core::Core;
use crate::core::connection::Connection;
use crate::core::log::Mark;
use crate::replication::primary::request::Request;
use kvshard::command::Command;
use kvshard::{Args, Error, Reply};
use registry::Registered;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub type NodeHandler = fn(&mut Call<'_>, &mut Reply<'_>) -> Result<Action, Error>;
pub type NodeCommand = Command<NodeHandler>;

/// One call of a node command.
pub struct Call<'a> {
    pub core: &'a mut Core,
    /// Index of the caller's connection.
    pub connection: usize,
    pub args: Args<'a>,
    pub command: &'static Registered,
    /// Run by EXEC.
    pub in_exec: bool,
}

impl Call<'_> {
    /// The caller's connection, for those who answer it later.
    pub fn asker(&self) -> Asker {
        let generation = self.core.connections[self.connection].generation;
        Asker { core: self.core.id, index: self.connection, generation }
    }

    pub fn client(&mut self) -> &mut Connection {
        &mut self.core.connections[self.connection]
    }
}

/// What is to happen after a handler has written (or not written) its reply.
pub enum Action {
    /// The reply is complete.
    Done,
    /// Ask cores, then reply.
    Gather(Gather),
    /// Run the queued commands.
    Exec,
    /// The reply comes later, from the coordinator.
    Await,
    /// The replies to the connection's earlier commands are due first: then the command is looked at again.
    NotYet,
    /// The client is blocked until it is claimed, or its time is up; in milliseconds, 0: without an end. Its core and all others note
    /// the mark in their logs.
    Block { timeout_ms: i64, claimed: Arc<AtomicBool>, mark: Option<Arc<Mark>> },
    /// Forget watched keys on all shards; the reply is complete.
    Unwatch,
    /// The reply is complete; close when it is sent.
    Close,
    /// Close at once, without a reply.
    Drop,
    /// The connection goes on as a replica's.
    Leave(Box<Request>),
}

pub type Part = Box<dyn Any + Send>;

/// A job for several cores and what becomes of its results.
pub struct Gather {
    pub on: On,
    /// Waits where another core has the shard at the moment. Not for use inside EXEC.
    pub needs_shard: bool,
    /// The other cores are sent off before this one runs its own part: for jobs that take time.
    pub together: bool,
    pub job: Arc<dyn Fn(&mut Core) -> Part + Send + Sync>,
    /// Gets the parts in the order of the cores asked. Not called if the connection has gone.
    pub finish: Finish,
}

pub type Finish = Box<dyn FnOnce(&mut Core, usize, Vec<Part>, &mut Reply<'_>) -> Result<(), Error>>;

pub enum On {
    AllCores,
    Cores(Vec<usize>),
}

impl Gather {
    /// Runs `job` on every core and gives the results, by core, to `finish` with the connection's index.
    pub fn all<T: Send + 'static>(
        job: impl Fn(&mut Core) -> T + Send + Sync + 'static,
        finish: impl FnOnce(&mut Core, usize, Vec<T>, &mut Reply<'_>) -> Result<(), Error> + 'static,
    ) -> Gather {
        Gather {
            on: On::AllCores,
            needs_shard: false,
            together: false,
            job: Arc::new(move |core| Box::new(job(core))),
            finish: Box::new(move |core, connection, parts, reply| {
                let parts = parts.into_iter().map(|part| *part.downcast::<T>().expect("a job's part has the job's type"));
                finish(core, connection, parts.collect(), reply)
            }),
        }
    }

    pub fn on(mut self, cores: Vec<usize>) -> Gather {
        self.on = On::Cores(cores);
        self
    }

    pub fn needing_shard(mut self) -> Gather {
        self.needs_shard = true;
        self
    }

    pub fn together(mut self) -> Gather {
        self.together = true;
        self
    }
}

/// All node commands.
pub fn commands() -> impl Iterator<Item = &'static NodeCommand> {
    [
        client::COMMANDS,
        config::COMMANDS,
        connection::COMMANDS,
        debug::COMMANDS,
        info::COMMANDS,
        introspect::COMMANDS,
        latency::COMMANDS,
        memory::COMMANDS,
        monitor::COMMANDS,
        persistence::COMMANDS,
        pubsub::COMMANDS,
        replication::COMMANDS,
        server::COMMANDS,
        slowlog::COMMANDS,
        transaction::COMMANDS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

pub mod client;
pub mod config;
pub mod connection;
pub mod debug;
pub mod help;
pub mod info;
pub mod introspect;
pub mod latency;
pub mod memory;
pub mod monitor;
pub mod persistence;
pub mod pubsub;
pub mod replication;
pub mod server;
pub mod slowlog;
pub mod transaction;
