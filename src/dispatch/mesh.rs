//! Messages between cores.
//!
//! Two bounded single-producer queues for each ordered pair of cores: one for requests, one for answers, so that an answer never
//! waits behind a request. Messages are collected during a turn and flushed at its end; what does not fit stays with the
//! sender, which then takes no new work for that target. A core is woken only if it has said that it sleeps.

use super::apart::Share;
use super::log::LoggedOperation;
use super::route::KeyHint;
use crate::commands::Part;
use crate::commands::registry::Registered;
use crate::core::Core;
use crate::core::log::Segment;
use crate::core::reorder::Place as ReplyPlace;
use crate::observe::slowlog::SlowEntry;
use crate::reactor::Wake;
use kvshard::Args;
use kvshard::Shard;
use kvshard::keyspace::waiters::{Wait, Waiter};
use kvshard::keyspace::{ClientId, Key, OwnedEntry};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Messages in flight from one core to another.
const QUEUE: usize = 256;
/// Requests kept back for a full queue, above which the sender's connections have to wait.
const BACKLOG_MAX: usize = 16;

/// Whose reply it is: a connection of core `core` and the reply's place in its order.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    pub core: u16,
    pub index: u32,
    pub generation: u32,
    pub place: ReplyPlace,
}

/// An operation in a core's table of operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OperationId {
    pub core: u16,
    pub index: u32,
    pub generation: u32,
}

/// One command for another core's shard; its arguments are ranges of the batch.
#[derive(Clone, Copy)]
pub struct Item {
    pub origin: Origin,
    pub client: ClientId,
    pub command: &'static Registered,
    pub db: u32,
    pub resp3: bool,
    pub no_touch: bool,
    pub may_block: bool,
    /// The first key's argument and place, where the sender has computed them.
    pub key: Option<KeyHint>,
    base: u32,
    ranges: (u32, u32),
}

impl Item {
    /// A command with arguments of its own, outside any batch.
    pub fn alone(new: NewItem) -> Self {
        let NewItem { origin, client, command, db, resp3, no_touch, may_block, key } = new;
        Item { origin, client, command, db: db as u32, resp3, no_touch, may_block, key, base: 0, ranges: (0, 0) }
    }

    pub fn first_key<'a>(&self, args: Args<'a>) -> Option<Key<'a>> {
        self.key.map(|key| key.key(args))
    }
}

/// The commands one core sends another in one turn.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    ranges: Vec<(u32, u32)>,
    pub items: Vec<Item>,
    /// The memory of earlier replies, back to whoever writes the next ones.
    pub spent: Option<Box<Replies>>,
}

/// What a sender says about a command; see [`Item`].
pub struct NewItem {
    pub origin: Origin,
    pub client: ClientId,
    pub command: &'static Registered,
    pub db: usize,
    pub resp3: bool,
    pub no_touch: bool,
    pub may_block: bool,
    pub key: Option<KeyHint>,
}

impl Batch {
    pub fn push(&mut self, new: NewItem, args: Args<'_>) {
        let (base, first) = (self.bytes.len() as u32, self.ranges.len() as u32);
        for arg in args.iter() {
            let start = self.bytes.len() as u32 - base;
            self.bytes.extend_from_slice(arg);
            self.ranges.push((start, self.bytes.len() as u32 - base));
        }
        let ranges = (first, self.ranges.len() as u32);
        self.items.push(Item { base, ranges, ..Item::alone(new) });
    }

    pub fn args(&self, item: &Item) -> Args<'_> {
        Args::new(&self.bytes[item.base as usize..], &self.ranges[item.ranges.0 as usize..item.ranges.1 as usize])
    }

    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ranges.clear();
        self.items.clear();
        if self.bytes.capacity() > SPARE_BYTES_MAX {
            *self = Batch::default();
        }
    }
}

/// Capacity above which a batch's memory, or that of its replies, is not kept for the next.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// Replies to commands of one batch.
#[derive(Default)]
pub struct Replies {
    pub bytes: Vec<u8>,
    pub items: Vec<ReplyItem>,
    /// The batch's memory, back to its sender for reuse.
    pub spent: Option<Box<Batch>>,
}

impl Replies {
    fn clear(&mut self) {
        self.bytes.clear();
        self.items.clear();
        if self.bytes.capacity() > SPARE_BYTES_MAX {
            *self = Replies::default();
        }
    }
}

pub struct ReplyItem {
    pub origin: Origin,
    /// End of the reply in `bytes`; it begins where the one before ends.
    pub end: u32,
    pub news: Option<Box<News>>,
}

/// What is to be said of few commands, beside their reply.
pub struct News {
    /// The client waits; there is no reply yet.
    pub waits: Option<(Wait, Arc<AtomicBool>)>,
    /// The command was slow: its entry for the slow log of the client's core.
    pub slow: Option<Box<SlowEntry>>,
}

/// Which keys an operation needs on one shard.
#[derive(Clone, Debug)]
pub enum Scope {
    /// These keys, sorted and each once, in one database or in all.
    Keys { keys: Arc<[Box<[u8]>]>, db: Option<usize> },
    /// The shard itself.
    Shard,
}

pub struct LockRequest {
    pub from: OperationId,
    /// Age: the smaller, the older.
    pub ticket: u64,
    pub scope: Scope,
    /// The entries of the keys are wanted, too; otherwise they stay where they are.
    pub lends: bool,
    /// Also say whether a watched key of this client has changed.
    pub check_watch: Option<ClientId>,
}

/// A shard's part of an operation's keyspace, lent until the operation releases it.
pub struct Grant {
    pub operation: OperationId,
    pub shard_id: usize,
    /// Entries of the locked keys that exist, with their databases, if they are lent.
    pub entries: Vec<(usize, OwnedEntry)>,
    pub shard: Option<Box<Shard>>,
    pub watch_broken: bool,
}

/// An operation has ended (or must begin anew): what was lent comes back.
pub struct Release {
    pub ticket: u64,
    pub scope: Scope,
    pub entries: Vec<(usize, OwnedEntry)>,
    /// What the shard is to run itself before it unlocks the keys.
    pub share: Option<Share>,
    /// Keys that were changed, with their databases, in the order of their first change.
    pub changed: Vec<(usize, Box<[u8]>)>,
    pub shard: Option<Box<Shard>>,
    pub unwatch: Option<ClientId>,
    /// The client now waits for its keys of this shard.
    pub wait: Option<KeysAwaited>,
    /// The shard is given back but stays claimed, while this hold is on.
    pub freeze: Option<u64>,
    /// The shard's log goes on in this segment, or (an inner `None`) not at all.
    pub switch: Option<Option<Box<Segment>>>,
    /// What the operation has done, if it is to be logged here.
    pub logged: Option<Arc<LoggedOperation>>,
    /// The operation waits for this shard's log to be durable.
    pub confirm: Option<OperationId>,
}

impl Release {
    /// Gives the locks back, and nothing else.
    pub fn new(ticket: u64, scope: Scope) -> Self {
        Release {
            ticket,
            scope,
            entries: Vec::new(),
            share: None,
            changed: Vec::new(),
            shard: None,
            unwatch: None,
            wait: None,
            freeze: None,
            switch: None,
            logged: None,
            confirm: None,
        }
    }
}

/// A blocked client, and the keys of one shard that it waits for.
pub type KeysAwaited = (Arc<Waiter>, Vec<Box<[u8]>>);

pub type Job = Arc<dyn Fn(&mut Core) -> Part + Send + Sync>;

pub enum Request {
    Batch(Box<Batch>),
    Lock(Box<LockRequest>),
    Release(Box<Release>),
    Job {
        operation: OperationId,
        position: usize,
        needs_shard: bool,
        job: Job,
    },
    /// A job nobody waits for.
    Tell(Job),
    Unwait(ClientId),
    Unwatch(ClientId),
    /// Memory is short and the sender has nothing to evict.
    MakeRoom,
    /// A connection accepted elsewhere.
    Adopt(Box<Adopted>),
}

/// An accepted connection on its way to its core.
pub struct Adopted {
    pub fd: i32,
    pub peer: String,
    pub local: String,
    pub is_unix: bool,
}

pub enum Answer {
    Replies(Box<Replies>),
    Granted(Box<Grant>),
    Refused {
        operation: OperationId,
    },
    /// What the operation did on this shard, and saw there, is durable.
    Durable {
        operation: OperationId,
    },
    /// `nanos`: what the job took.
    JobDone {
        operation: OperationId,
        position: usize,
        part: Part,
        nanos: u64,
    },
    /// A blocked client has been served.
    Served {
        client: ClientId,
        reply: Vec<u8>,
        /// Its entry for the slow log, if it was slow enough.
        slow: Option<Box<SlowEntry>>,
    },
    /// A blocked client's key is ready; its own core is to run the command.
    Ready {
        waiter: Arc<Waiter>,
    },
}

/// Whether a core sleeps, and how to wake it.
pub struct Doorbell {
    asleep: AtomicBool,
    wake: Wake,
}

impl Doorbell {
    pub fn new(wake: Wake) -> Self {
        Doorbell { asleep: AtomicBool::new(false), wake }
    }

    /// Wakes the core from a thread that has no ring.
    pub fn ring_from_outside(&self) {
        self.wake.wake_from_outside();
    }
}

/// One core's ends of all queues.
pub struct Mesh {
    own: usize,
    bells: Arc<Vec<Doorbell>>,
    peers: Vec<Peer>,
    /// Cores to be woken at the end of the turn.
    to_wake: Vec<usize>,
}

/// The queues to and from one other core. This core's own place has none.
struct Peer {
    requests: Lane<Request>,
    answers: Lane<Answer>,
    requests_in: Option<rtrb::Consumer<Request>>,
    answers_in: Option<rtrb::Consumer<Answer>>,
    batch: Box<Batch>,
    spare: Option<Box<Batch>>,
    /// Memory of replies from there, to be given back with the next batch.
    spent: Option<Box<Replies>>,
}

/// A bounded queue's sending end, and what did not fit.
struct Lane<T> {
    queue: Option<rtrb::Producer<T>>,
    backlog: VecDeque<T>,
}

impl<T> Lane<T> {
    fn push(&mut self, message: T) {
        self.backlog.push_back(message);
    }

    /// Moves as much as fits into the queue; true if anything was moved.
    fn flush(&mut self) -> bool {
        let Some(queue) = &mut self.queue else { return false };
        let mut moved = false;
        while let Some(message) = self.backlog.pop_front() {
            match queue.push(message) {
                Ok(()) => moved = true,
                Err(rtrb::PushError::Full(message)) => {
                    self.backlog.push_front(message);
                    break;
                }
            }
        }
        moved
    }
}

/// The queues of a node of `cores` cores, one mesh a core.
pub fn meshes(cores: usize, bells: Arc<Vec<Doorbell>>) -> Vec<Mesh> {
    let mut meshes: Vec<Mesh> = (0..cores)
        .map(|own| Mesh {
            own,
            bells: bells.clone(),
            to_wake: Vec::new(),
            peers: (0..cores).map(|_| Peer::unconnected()).collect(),
        })
        .collect();
    for from in 0..cores {
        for to in (0..cores).filter(|&to| to != from) {
            let (producer, consumer) = rtrb::RingBuffer::new(QUEUE);
            meshes[from].peers[to].requests.queue = Some(producer);
            meshes[to].peers[from].requests_in = Some(consumer);
            let (producer, consumer) = rtrb::RingBuffer::new(QUEUE);
            meshes[from].peers[to].answers.queue = Some(producer);
            meshes[to].peers[from].answers_in = Some(consumer);
        }
    }
    meshes
}

impl Peer {
    fn unconnected() -> Self {
        Peer {
            requests: Lane { queue: None, backlog: VecDeque::new() },
            answers: Lane { queue: None, backlog: VecDeque::new() },
            requests_in: None,
            answers_in: None,
            batch: Box::default(),
            spare: None,
            spent: None,
        }
    }
}

impl Mesh {
    pub fn cores(&self) -> usize {
        self.peers.len()
    }

    /// The batch that goes to `target` at the end of this turn.
    #[inline]
    pub fn batch(&mut self, target: usize) -> &mut Batch {
        &mut self.peers[target].batch
    }

    /// Sends a request, after what this turn has collected for that core already.
    pub fn request(&mut self, target: usize, request: Request) {
        self.end_batch(target);
        self.peers[target].requests.push(request);
    }

    pub fn answer(&mut self, target: usize, answer: Answer) {
        self.peers[target].answers.push(answer);
    }

    /// Whether connections that send to `target` have to wait.
    #[inline]
    pub fn is_congested(&self, target: usize) -> bool {
        let peer = &self.peers[target];
        peer.requests.backlog.len() >= BACKLOG_MAX
            || peer.batch.items.len() >= BATCH_ITEMS_MAX
            || peer.batch.bytes_len() >= BATCH_BYTES_MAX
    }

    /// Gives the memory of a batch that has been answered to the next one.
    pub fn reuse(&mut self, target: usize, mut batch: Box<Batch>) {
        batch.clear();
        self.peers[target].spare = Some(batch);
    }

    /// Gives the memory of replies that have been taken back to core `from`.
    pub fn give_back(&mut self, from: usize, mut replies: Box<Replies>) {
        replies.clear();
        self.peers[from].spent = Some(replies);
    }

    fn end_batch(&mut self, target: usize) {
        let peer = &mut self.peers[target];
        if !peer.batch.items.is_empty() {
            let next = peer.spare.take().unwrap_or_default();
            let mut batch = std::mem::replace(&mut peer.batch, next);
            batch.spent = peer.spent.take();
            peer.requests.push(Request::Batch(batch));
        }
    }

    /// Hands over what was collected. Afterwards [`Mesh::take_wakes`] says whom to wake.
    pub fn flush(&mut self) {
        for target in 0..self.peers.len() {
            if target == self.own {
                continue;
            }
            self.end_batch(target);
            let peer = &mut self.peers[target];
            let answered = peer.answers.flush();
            let requested = peer.requests.flush();
            if answered || requested {
                // Pairs with the fence in `sleep`: either the sleeper sees the message, or this sees that it sleeps.
                fence(Ordering::SeqCst);
                let bell = &self.bells[target];
                if bell.asleep.load(Ordering::Relaxed) && bell.asleep.swap(false, Ordering::Relaxed) {
                    self.to_wake.push(target);
                }
            }
        }
    }

    /// Messages that did not fit are waiting.
    pub fn has_backlog(&self) -> bool {
        self.peers.iter().any(|peer| !peer.requests.backlog.is_empty() || !peer.answers.backlog.is_empty())
    }

    /// As [`Mesh::flush`], waking sleepers at once instead of at the end of the turn.
    pub fn flush_now(&mut self) {
        self.flush();
        self.to_wake.drain(..).for_each(|target| self.bells[target].ring_from_outside());
    }

    /// Wakes every core.
    pub fn ring_all(&self) {
        self.bells.iter().for_each(Doorbell::ring_from_outside);
    }

    pub fn take_wakes(&mut self) -> impl Iterator<Item = &Wake> {
        self.to_wake.drain(..).map(|target| &self.bells[target].wake)
    }

    /// The next answer from any core.
    pub fn next_answer(&mut self) -> Option<(usize, Answer)> {
        self.peers.iter_mut().enumerate().find_map(|(from, peer)| Some((from, peer.answers_in.as_mut()?.pop().ok()?)))
    }

    /// The next request from core `from`.
    pub fn next_request(&mut self, from: usize) -> Option<Request> {
        self.peers[from].requests_in.as_mut()?.pop().ok()
    }

    fn inbox_is_empty(&self) -> bool {
        self.peers.iter().all(|peer| {
            peer.answers_in.as_ref().is_none_or(|queue| queue.is_empty())
                && peer.requests_in.as_ref().is_none_or(|queue| queue.is_empty())
        })
    }

    /// Whether anything has come.
    #[inline]
    pub fn has_mail(&self) -> bool {
        !self.inbox_is_empty()
    }

    /// Says that this core is about to sleep; false if mail has come meanwhile, and it must not.
    pub fn sleep(&self) -> bool {
        if self.peers.len() == 1 {
            return true;
        }
        let bell = &self.bells[self.own];
        bell.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.inbox_is_empty() {
            return true;
        }
        bell.asleep.store(false, Ordering::Relaxed);
        false
    }

    pub fn awake(&self) {
        if self.peers.len() > 1 {
            self.bells[self.own].asleep.store(false, Ordering::Relaxed);
        }
    }
}

/// Commands and bytes of one batch, above which the connections that fill it wait for the next turn.
const BATCH_ITEMS_MAX: usize = 8192;
const BATCH_BYTES_MAX: usize = 4 << 20;
