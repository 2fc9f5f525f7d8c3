//! From requests to replies: admission, routing to shards, work that spans shards, replies in order.
//!
//! [`Engine`] is one core's whole life without the kernel: the reactor hands it bytes, completions and time, and performs what
//! it leaves in its lists (output to send, connections to close, cores to wake).

pub mod apart;
pub mod apply;
pub mod block;
pub mod gate;
pub mod gather;
pub mod input;
pub mod lifecycle;
pub mod loading;
pub mod locks;
pub mod log;
pub mod mesh;
pub mod node;
pub mod operation;
pub mod publish;
pub mod remote;
pub mod route;
pub mod snapshot;
pub mod transaction;
pub mod whole;

use crate::core::Core;
use crate::observe::clock::Clock;
use crate::protocol;
use kvshard::keyspace::waiters::Waiter;
use locks::Locks;
use mesh::Mesh;
use operation::Operations;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

pub struct Engine {
    pub core: Core,
    pub mesh: Mesh,
    pub clock: Clock,
    locks: Locks,
    operations: Operations,
    /// Deadlines of blocked clients: (ms since 1970, connection, generation).
    deadlines: BTreeSet<(i64, usize, u32)>,
    parse_args: protocol::Args,
    pipeline: input::Pipeline,
    /// Node-level replies are written here before they go to their connection.
    reply: Vec<u8>,
    /// What makes every command take the long way through the gate, for the whole node; see [`gate::NodeSpecial`].
    special: gate::NodeSpecial,
    /// Connections that wait for queues to other cores to drain.
    congested: Vec<usize>,
    /// Connections that wait for CLIENT PAUSE to end.
    paused: Vec<usize>,
    /// End of the last measured command, nanoseconds.
    last_stamp: u64,
    /// Requests sent to other cores whose answers are outstanding; with some, the core looks at its inbox before it sleeps.
    pub hops_outstanding: usize,
    next_generation: u32,
    /// When the log last told of a client that talks HTTP, milliseconds since 1970.
    http_warned_ms: i64,
    /// The connection's place that the clients' check has come to.
    checked_to: usize,
    snapshot: snapshot::CutStream,
    /// What waits for the log to be durable, in the order of its positions.
    held: VecDeque<(u64, log::Held)>,
    /// Blocked clients whose key was filled before their core has heard that they wait.
    ready_early: Vec<Arc<Waiter>>,
    awaiting_segments: VecDeque<log::AwaitingSegments>,
    /// Logging is being switched off.
    turning_off: bool,
    loader: loading::Loader,
    applier: apply::Applier,
    rest: Rest,
}

/// Whether the core is at rest, as the last cron saw it.
struct Rest {
    /// Commands and reads so far.
    processed: u64,
    /// Memory has been tidied since the last of them.
    tidied: bool,
}

impl Engine {
    pub fn new(core: Core, mesh: Mesh) -> Self {
        Engine {
            core,
            mesh,
            clock: Clock::new(),
            locks: Locks::default(),
            operations: Operations::default(),
            deadlines: BTreeSet::new(),
            parse_args: protocol::Args::new(),
            pipeline: input::Pipeline::default(),
            reply: Vec::new(),
            special: gate::NodeSpecial::default(),
            congested: Vec::new(),
            paused: Vec::new(),
            last_stamp: 0,
            hops_outstanding: 0,
            next_generation: 0,
            http_warned_ms: 0,
            checked_to: 0,
            snapshot: snapshot::CutStream::default(),
            held: VecDeque::new(),
            ready_early: Vec::new(),
            awaiting_segments: VecDeque::new(),
            turning_off: false,
            rest: Rest { processed: 0, tidied: true },
            loader: loading::Loader::default(),
            applier: apply::Applier::default(),
        }
    }
}
