//! The executor for connections to other nodes: replicas of this one, and the primary that it follows.
//!
//! Owns the sockets and drives [`crate::replication`], which decides. What the cores have to say comes through one queue, whose order
//! is the order of the replication stream; what they are to do goes into their inboxes, or stands in [`status::Replication`], where the first
//! core looks for it.
//!
//! Its thread waits for a first message before it makes the executor: a node without peers has neither the rings nor the memory.

mod connection;
pub mod contract;
mod following;
mod replicas;
pub mod status;

use crate::coordinator::contract::{Asker, ToCore, ToCores};
use crate::core::shared::Node;
use crate::observe::clock;
use crate::replication::history::{Offset, ReplId};
use crate::replication::link::Link;
use crate::replication::node::{self, Output};
use crate::replication::primary::{Counts, Input, Primary};
use crate::system::process;
use contract::ToPeers;
use crossbeam_channel::{Receiver, TryRecvError};
use following::Following;
use glommio::{LocalExecutorBuilder, Placement, timer};
use replicas::Replicas;
use status::Mode;
use std::cell::RefCell;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often time is looked at.
const TICK: Duration = Duration::from_millis(100);
/// With so many messages at once more are on their way: instead of being woken for each, the executor looks again a moment later.
const BUSY_MESSAGES: usize = 8;
const GATHER: Duration = Duration::from_micros(500);
/// Memory that the executor's rings may lock, bytes.
const IO_BYTES: usize = 64 << 10;

/// Serves until the node ends.
pub fn run(node: Arc<Node>, messages: Receiver<ToPeers>, to_cores: ToCores) -> Result<(), String> {
    let first = match messages.recv() {
        Ok(ToPeers::Exit) | Err(_) => return Ok(()),
        Ok(first) => first,
    };
    let executor = LocalExecutorBuilder::new(Placement::Unbound).name("kvcore-peers").io_memory(IO_BYTES).make();
    let executor = executor.map_err(|error| format!("Connections to other nodes can't be served: {error}"))?;
    executor.run(async move {
        let peers = Peers::shared(node, to_cores);
        glommio::spawn_local(tick(peers.clone())).detach();
        serve(&peers, first, &messages).await
    })
}

/// The node's replication id at its start, and a source of further ones.
pub fn new_id() -> ReplId {
    let words = process::random_words();
    let mut bytes = [0; 20];
    for (pair, word) in bytes.chunks_mut(8).zip(words) {
        pair.copy_from_slice(&word.to_ne_bytes()[..pair.len()]);
    }
    ReplId::from_random(bytes)
}

async fn tick(peers: Shared) {
    loop {
        timer::sleep(TICK).await;
        peers.borrow_mut().tick();
    }
}

/// Takes what comes through the queue.
async fn serve(peers: &Shared, first: ToPeers, messages: &Receiver<ToPeers>) -> Result<(), String> {
    let node = peers.borrow().node.clone();
    let mailbox = node.replication.mailbox();
    let (rings, hears) = UnixStream::pair().map_err(|error| format!("no pair of sockets: {error}"))?;
    rings.set_nonblocking(true).map_err(|error| format!("a socket that does not block: {error}"))?;
    mailbox.set_bell(rings);
    let mut bell = connection::Bell::new(hears);
    let mut pending = Some(first);
    loop {
        let mut count = 0;
        loop {
            let message = match pending.take() {
                Some(message) => message,
                None => match messages.try_recv() {
                    Ok(message) => message,
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                },
            };
            if matches!(message, ToPeers::Exit) {
                return Ok(());
            }
            count += 1;
            take(peers, message);
        }
        peers.borrow_mut().stream_on();
        if count >= BUSY_MESSAGES {
            timer::sleep(GATHER).await;
            continue;
        }
        mailbox.sleep();
        if messages.is_empty() {
            bell.heard().await.map_err(|error| format!("the bell of the queue: {error}"))?;
        }
        mailbox.awake();
    }
}

fn take(peers: &Shared, message: ToPeers) {
    if let ToPeers::Adopt(departed) = message {
        return connection::adopt(peers, *departed);
    }
    peers.borrow_mut().take(message);
}

/// All of it, for the tasks of the executor: nobody holds it while it waits.
type Shared = Rc<RefCell<Peers>>;

struct Peers {
    node: Arc<Node>,
    to_cores: ToCores,
    config: Arc<crate::config::Config>,
    /// For tasks that are begun.
    own: std::rc::Weak<RefCell<Peers>>,
    machine: node::Node,
    outputs: Vec<Output>,
    /// Of the stream, not yet with the machine.
    fed: Vec<u8>,
    /// The end of what the shards have done in the stream; what the node itself has put behind it is for nobody to wait for.
    written: Offset,
    /// The database that the stream has selected.
    selected: Option<usize>,
    replicas: Replicas,
    following: Following,
}

impl Peers {
    fn shared(node: Arc<Node>, to_cores: ToCores) -> Shared {
        let config = node.current_config();
        let mut first = Some(node.replication.facts().id);
        let ids = Box::new(move || first.take().unwrap_or_else(new_id));
        let primary = Primary::new(replicas::directives(&config), ids, clock::wall_ms());
        let link = Link::new(following::directives(&node));
        let following = Following::new(node.replication.is_replica());
        Rc::new_cyclic(|own| {
            RefCell::new(Peers {
                node,
                to_cores,
                config,
                own: own.clone(),
                machine: node::Node::new(primary, link),
                outputs: Vec::new(),
                fed: Vec::new(),
                written: Offset(0),
                selected: None,
                replicas: Replicas::default(),
                following,
            })
        })
    }

    fn take(&mut self, message: ToPeers) {
        match message {
            ToPeers::Feed(encoded) => {
                self.node.replication.queued_bytes.fetch_sub(encoded.bytes_len(), Ordering::Relaxed);
                encoded.write_to(&mut self.selected, &mut self.fed);
            }
            ToPeers::Cut { for_replicas, standing } => self.cut(for_replicas, &standing),
            ToPeers::Snapshot(step) => self.snapshot(step),
            ToPeers::Wait(wait) => self.wait(wait),
            ToPeers::Marked => self.settle(),
            ToPeers::Ending { until_ms } => self.ending(until_ms),
            ToPeers::EndWait { claimed, answers } => self.end_wait(&claimed, answers),
            ToPeers::ReplicaOf { primary, asker } => self.replica_of(primary, asker),
            ToPeers::Failover { ask, asker } => self.fail_over(ask, asker),
            ToPeers::Restore(stored) => self.restore(stored),
            ToPeers::Started { stored } => self.started(stored),
            ToPeers::Switched => self.switched(),
            ToPeers::Loaded(result) => self.loaded(result),
            ToPeers::Applied { parts, end } => self.applied(parts, end),
            ToPeers::Kill(clients) => clients.into_iter().for_each(|client| self.kill(client)),
            ToPeers::ChangeId => {
                self.machine.primary_mut().change_id();
                self.publish();
            }
            ToPeers::CallOffShutdown => self.node.shutdown.call_off(&self.to_cores),
            ToPeers::Configured => self.configure(),
            ToPeers::ResetCounts => self.machine.primary_mut().counts = Counts::default(),
            ToPeers::Sleep(pause) => std::thread::sleep(pause),
            ToPeers::Adopt(_) | ToPeers::Exit => {}
        }
    }

    /// Hands what was fed to the replicas.
    fn stream_on(&mut self) {
        if !self.fed.is_empty() {
            let mut fed = std::mem::take(&mut self.fed);
            self.machine.append(clock::wall_ms(), &fed, &mut self.outputs);
            fed.clear();
            self.fed = fed;
            self.perform();
            self.written = self.machine.offset();
            self.replicas.move_ending(self.written);
            self.node.replication.publish_offset(&self.machine, self.written());
        }
    }

    /// What replicas are to have that are waited for: less, if the node has taken over another history since.
    fn written(&self) -> Offset {
        self.written.min(self.machine.offset())
    }

    /// Does what the machine wants, and says how things are.
    fn settle(&mut self) {
        self.look_at_disk();
        self.look_at_ending();
        self.perform();
        self.answer_waits();
        self.publish();
    }

    fn publish(&self) {
        if self.following.is_starting {
            return;
        }
        let outboxes = self.replicas.outboxes().chain(self.following.outbox());
        let connections = outboxes.map(|outbox| outbox.about.clone()).collect();
        let config = self.node.current_config();
        self.node.replication.publish(&self.machine, self.written(), connections, &config, clock::wall_ms());
    }

    /// Ends a connection; its tasks tell that it has ended.
    fn kill(&self, client: u64) {
        let mut outboxes = self.replicas.outboxes().chain(self.following.outbox());
        if let Some(outbox) = outboxes.find(|outbox| outbox.about.id == client) {
            outbox.shut_down();
        }
    }

    fn perform(&mut self) {
        while !self.outputs.is_empty() {
            for output in std::mem::take(&mut self.outputs) {
                match output {
                    Output::Replicas(output) => self.perform_for_replicas(output),
                    Output::Link(output) => self.perform_for_link(output),
                    Output::PauseWrites(pause) => self.node.replication.pauses_writes.store(pause, Ordering::Release),
                    Output::Merge(feeds) => {
                        self.selected = None;
                        if !self.following.is_becoming_replica() {
                            self.want_mode(Mode { feeds, is_replica: self.machine.is_replica() });
                        }
                    }
                }
            }
        }
    }

    fn want_mode(&mut self, mode: Mode) {
        self.node.replication.wish(|wishes| wishes.mode = Some(mode));
        self.following.wanted = Some(mode);
        self.to_cores.wake(0);
    }

    fn answer(&self, to: Option<Asker>, reply: &[u8]) {
        if let Some(to) = to {
            self.to_cores.tell(to.core, ToCore::Reply { to, reply: reply.to_vec() });
        }
    }

    /// Takes the configuration over, if there is another one.
    fn configure(&mut self) {
        let config = self.node.current_config();
        if !Arc::ptr_eq(&config, &self.config) {
            self.machine.primary_mut().configure(replicas::directives(&config));
            self.machine.link_mut().config = following::directives(&self.node);
            self.config = config;
        }
    }

    fn tick(&mut self) {
        self.configure();
        self.machine.primary_mut().is_ending = self.node.shutdown.hold() != 0 || self.replicas.is_ending();
        let now = clock::wall_ms();
        let save = self.other_save();
        self.machine.step_replicas(now, Input::OtherSave(save), &mut self.outputs);
        self.machine.tick(now, &mut self.outputs);
        self.fetch();
        self.settle();
        self.pump_snapshot();
    }
}
