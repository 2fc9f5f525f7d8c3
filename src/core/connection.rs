//! One connection: its socket, its buffers, and the state of the client behind it.
//!
//! An idle connection costs what this struct costs: buffers are given back when they are empty, and what few clients use
//! (a transaction, subscriptions, blocking) is boxed.

use super::pubsub::Subscriptions;
use super::reorder::{Place, Reorder};
use crate::commands::registry::Registered;
use crate::protocol::Parser;
use crate::replication::primary::request::{About, Request};
use kvshard::command::ArgsBuf;
use kvshard::keyspace::ClientId;
use kvshard::keyspace::waiters::TimeoutReply;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Unconsumed input of a stalled connection, bytes, above which no more is received until it goes on.
pub const STALLED_INPUT_MAX: usize = 1 << 20;

/// Output that does not wait for replies of other cores, bytes.
const HELD_OUTPUT_MAX: usize = 16 << 10;

pub struct Connection {
    pub id: ClientId,
    pub fd: RawFd,
    /// Distinguishes this connection from earlier ones in the same place of the slab.
    pub generation: u32,

    pub parser: Parser,
    /// Input not yet consumed: a cut request, or what waits while the connection is stalled. Begins at `query_at`.
    pub query: Vec<u8>,
    pub query_at: usize,
    /// Bytes of the read whose commands run now; CLIENT LIST counts them as query buffer.
    pub in_hand: usize,
    pub out: Vec<u8>,
    pub reorder: Reorder,
    /// So many bytes of the output wait for this position of the log.
    pub held: Option<(u64, usize)>,
    /// The last of the awaited replies that the output waits for.
    held_until: Option<Place>,
    /// The reactor's mark of the last measure of load in which this connection was active.
    pub active_in: u32,
    /// Bytes handed to the kernel and not yet sent.
    pub sending: usize,
    pub flush_wanted: bool,
    pub receiving: bool,
    /// No more commands are to be run; the socket goes at the end of the turn.
    pub closing: bool,
    pub close_after_output: bool,
    /// It is closing here to go on as a replica's, with this request.
    pub leaving: Option<Box<Request>>,
    /// What it has said of itself as a replica.
    about: Option<Box<About>>,
    /// The peer has sent its last byte.
    pub input_ended: bool,
    /// Why no further command of this connection may be started now.
    pub stall: Stall,

    pub db: usize,
    pub resp3: bool,
    /// What makes commands of this client take the long way through the gate.
    pub special: Special,
    pub reply_mode: ReplyMode,
    pub name: Option<Box<[u8]>>,
    pub library: Option<Box<Library>>,
    pub peer: Box<str>,
    pub local: Box<str>,
    pub is_unix: bool,
    pub no_evict: bool,
    pub no_touch: bool,
    pub transaction: Option<Box<Transaction>>,
    pub subscriptions: Option<Box<Subscriptions>>,
    pub blocked: Option<Box<Blocked>>,
    pub last_command: Option<&'static Registered>,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    pub last_interaction_ms: i64,
    /// Since when the output has been above its soft limit, ms; 0: it is not.
    pub soft_limit_since_ms: i64,
    pub total_net_in: u64,
    pub total_net_out: u64,
    pub total_commands: u64,
}

/// Why a connection's next command has to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stall {
    None,
    /// An operation over several cores is under way; it resumes the connection.
    Operation,
    /// A blocking command was sent to another core; its answer, or the news that it waits, resumes or blocks.
    AwaitingBlock(Place),
    /// The client is blocked; see [`Connection::blocked`].
    Blocked,
    /// CLIENT PAUSE; looked at again when time passes.
    Paused,
    /// Queues to other cores, or this connection's own output, are full; or the next command comes after awaited replies.
    BackPressure,
}

/// Bits that make the gate look closer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Special(pub u8);

impl Special {
    pub const UNAUTHENTICATED: u8 = 1;
    pub const TRANSACTION: u8 = 2;
    /// Subscribed, in RESP2: few commands are allowed.
    pub const SUBSCRIBED: u8 = 4;
    pub const MONITOR: u8 = 8;
    pub const REPLY_MODE: u8 = 16;
    /// No client: runs the commands of an append-only file. Nobody sees it, nothing is refused to it, and it has no socket.
    pub const LOADER: u8 = 32;

    pub fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    pub fn set(&mut self, bit: u8, on: bool) {
        if on { self.0 |= bit } else { self.0 &= !bit }
    }
}

/// CLIENT REPLY.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplyMode {
    On,
    Off,
    /// The reply of the command that runs now (EXEC) is still shown, the next one's is skipped.
    SkipNext,
    /// The next reply is skipped.
    Skip,
}

/// CLIENT SETINFO.
#[derive(Default)]
pub struct Library {
    pub name: Box<[u8]>,
    pub version: Box<[u8]>,
}

/// MULTI and WATCH.
#[derive(Default)]
pub struct Transaction {
    /// MULTI has been given.
    pub open: bool,
    /// A command could not be queued: EXEC will refuse.
    pub failed: bool,
    pub queue: Vec<(&'static Registered, ArgsBuf)>,
    pub queue_bytes: usize,
    /// Watched keys with their databases.
    pub watched: Vec<(usize, Box<[u8]>)>,
}

/// A client in a blocking command.
pub struct Blocked {
    /// Milliseconds since 1970; 0: no timeout.
    pub deadline_ms: i64,
    /// `None`: the executor for other nodes' connections has the answer (WAIT).
    pub on_timeout: Option<TimeoutReply>,
    /// Whoever sets it first answers the client.
    pub claimed: Arc<AtomicBool>,
    /// The reply's place among awaited ones, if the command was sent to another core.
    pub place: Option<Place>,
    /// The shards that know the client as waiting.
    pub shards: Vec<usize>,
    pub command: &'static Registered,
    pub db: usize,
    /// A key was filled, and an operation that runs the command again is under way.
    pub tries_again: bool,
}

impl Blocked {
    /// Takes the right to answer the client; false if someone else has it.
    pub fn claim(&self) -> bool {
        !self.claimed.swap(true, Ordering::AcqRel)
    }
}

impl Connection {
    pub fn new(id: ClientId, fd: RawFd, generation: u32, peer: String, local: String, is_unix: bool, now: i64) -> Self {
        Connection {
            id,
            fd,
            generation,
            parser: Parser::new(),
            query: Vec::new(),
            query_at: 0,
            in_hand: 0,
            out: Vec::new(),
            reorder: Reorder::default(),
            held: None,
            held_until: None,
            active_in: 0,
            sending: 0,
            flush_wanted: false,
            receiving: false,
            closing: false,
            close_after_output: false,
            leaving: None,
            about: None,
            input_ended: false,
            stall: Stall::None,
            db: 0,
            resp3: false,
            special: Special::default(),
            reply_mode: ReplyMode::On,
            name: None,
            library: None,
            peer: peer.into(),
            local: local.into(),
            is_unix,
            no_evict: false,
            no_touch: false,
            transaction: None,
            subscriptions: None,
            blocked: None,
            last_command: None,
            created_ms: now,
            last_interaction_ms: now,
            soft_limit_since_ms: 0,
            total_net_in: 0,
            total_net_out: 0,
            total_commands: 0,
        }
    }

    /// The input not consumed yet.
    pub fn pending_input(&self) -> usize {
        self.query.len() - self.query_at
    }

    /// Whether more input can be taken now.
    pub fn wants_input(&self) -> bool {
        !self.input_ended && !self.closing && (self.stall == Stall::None || self.pending_input() <= STALLED_INPUT_MAX)
    }

    /// Output that the client has not read: written, held and in the kernel's hands.
    pub fn pending_output(&self) -> usize {
        self.out.len() + self.sending + self.reorder.held_bytes()
    }

    pub fn in_multi(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.open)
    }

    pub fn is_subscribed(&self) -> bool {
        self.subscriptions.as_ref().is_some_and(|subscriptions| subscriptions.total() > 0)
    }

    /// To be called when the subscriptions or the protocol have changed.
    pub fn note_subscriptions(&mut self) {
        if !self.is_subscribed() {
            self.subscriptions = None;
        }
        self.special.set(Special::SUBSCRIBED, self.subscriptions.is_some() && !self.resp3);
    }

    pub fn set_reply_mode(&mut self, mode: ReplyMode) {
        self.reply_mode = mode;
        self.special.set(Special::REPLY_MODE, mode != ReplyMode::On);
    }

    /// Whether the output is to wait for replies that other cores still owe to commands that came together with those
    /// answered, so that they leave in one send. It waits for these only, not for later commands'.
    pub fn holds_output(&mut self) -> bool {
        let waits_for_long = matches!(self.stall, Stall::Blocked | Stall::AwaitingBlock(_));
        if self.reorder.is_empty() || self.closing || waits_for_long || self.out.len() >= HELD_OUTPUT_MAX {
            self.held_until = None;
            return false;
        }
        let until = *self.held_until.get_or_insert_with(|| self.reorder.youngest());
        let holds = !self.reorder.has_passed(until);
        if !holds {
            self.held_until = None;
        }
        holds
    }

    /// Whether an out-of-band message has to wait for replies that are due before it: it would overtake, say, the confirmation of the
    /// subscription it comes from. A blocked client gets it at once.
    pub fn holds_messages(&self) -> bool {
        !self.reorder.is_empty() && !matches!(self.stall, Stall::Blocked | Stall::AwaitingBlock(_))
    }

    /// Heap bytes held for this client, roughly: buffers and queues.
    pub fn memory(&self) -> usize {
        let of_transaction = |transaction: &Transaction| {
            let watched = transaction.watched.iter().map(|(_, key)| size_of::<(usize, Box<[u8]>)>() + key.len());
            transaction.queue_bytes + watched.sum::<usize>()
        };
        let queued = self.transaction.as_deref().map_or(0, of_transaction);
        let subscribed = self.subscriptions.as_deref().map_or(0, Subscriptions::memory);
        let buffers = self.query.capacity() + self.out.capacity() + self.sending + self.reorder.held_bytes();
        size_of::<Self>() + buffers + queued + subscribed
    }

    /// What it has said of itself as a replica: of one that has said nothing, its address.
    pub fn about_mut(&mut self) -> &mut About {
        let ip = self.peer.rsplit_once(':').map_or(&*self.peer, |(ip, _port)| ip).trim_start_matches('[').trim_end_matches(']');
        self.about.get_or_insert_with(|| Box::new(About { peer_ip: ip.to_owned(), ..About::default() }))
    }

    /// Whether the connection is reached from this machine only (for `protected-mode`).
    pub fn is_local(&self) -> bool {
        self.is_unix || self.peer.starts_with("127.") || self.peer.starts_with("[::1]")
    }
}
