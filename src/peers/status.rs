//! What the executor for other nodes' connections and the rest of the node know of each other without asking.

use super::contract::{Mailbox, ToPeers};
use crate::config::Config;
use crate::replication::history::{Offset, ReplId, signed};
use crate::replication::link::facts::TransferFacts;
use crate::replication::link::{Address, Link};
use crate::replication::node::Node;
use crate::replication::primary::facts::ReplicaFacts;
use crate::replication::primary::{Counts, Target};
use crossbeam_channel::Receiver;
use kvshard::settings::Replica;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The node's part in replication.
pub struct Replication {
    /// Changes go into the replication stream. Changed while all shards are in one place.
    pub feeding: AtomicBool,
    /// The node follows another. Likewise.
    is_replica: AtomicBool,
    /// How the two should be: the first core sees to it.
    wanted: Mutex<Mode>,
    /// They are not as they should be.
    pub is_mode_wanted: AtomicBool,
    /// Saves that wait for a place between two parts of the primary's stream: nothing of it is begun while there are any.
    pub stream_holds: AtomicUsize,
    /// The first core is at such a place.
    pub is_stream_held: AtomicBool,
    /// Replicas want a snapshot: the first core begins it as soon as no other is under way.
    pub snapshot_wanted: Mutex<Option<Target>>,
    /// Set with it, so that nobody has to look into the other.
    pub is_snapshot_wanted: AtomicBool,
    /// Bytes of the stream in the queue to the executor.
    pub queued_bytes: AtomicUsize,
    /// Bytes of a snapshot in the queue to the executor.
    pub snapshot_bytes: AtomicUsize,
    /// The node follows another and nothing comes from there.
    is_link_down: AtomicBool,
    /// There are fewer good replicas than `min-replicas-to-write` wants.
    lacks_replicas: AtomicBool,
    /// The executor has said how things are: it exists.
    is_served: AtomicBool,
    /// FAILOVER waits for a replica to have everything.
    pub pauses_writes: AtomicBool,
    /// `master_repl_offset`.
    offset: AtomicU64,
    /// The end of what the shards have done in the stream.
    written: AtomicU64,
    /// The same, with what the backlog has at that moment: first byte and length.
    place: Mutex<(i64, Option<(i64, u64)>)>,
    facts: Mutex<Arc<Facts>>,
    mailbox: Mailbox,
}

/// What the shards have to know of the node's part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mode {
    /// Changes go into the replication stream.
    pub feeds: bool,
    pub is_replica: bool,
}

/// What INFO and ROLE show.
#[derive(Clone, Debug)]
pub struct Facts {
    pub id: ReplId,
    pub second_id: ReplId,
    pub second_offset: i64,
    pub counts: Counts,
    pub replicas: Vec<ReplicaFacts>,
    pub good_replicas: Option<usize>,
    /// First byte, length, and memory, all in bytes.
    pub backlog: Option<(i64, u64, usize)>,
    /// Whom the node follows.
    pub upstream: Option<Upstream>,
    pub connections: Vec<Arc<PeerConnection>>,
    /// `master_failover_state`.
    pub failover: &'static str,
}

/// A connection to another node, as CLIENT LIST shows it and CLIENT KILL ends it.
#[derive(Debug)]
pub struct PeerConnection {
    /// The client's number.
    pub id: u64,
    pub peer: String,
    pub local: String,
    pub name: Vec<u8>,
    /// It is the primary's; otherwise a replica's.
    pub is_primary: bool,
    /// Milliseconds since 1970.
    pub created_ms: i64,
}

impl PeerConnection {
    /// As CLIENT LIST shows it.
    pub fn line(&self, now: i64) -> String {
        let PeerConnection { id, peer, local, name, is_primary, created_ms } = self;
        let (flags, command, user) = if *is_primary { ('M', "NULL", "(superuser)") } else { ('S', "psync", "default") };
        let (name, age) = (String::from_utf8_lossy(name), now / 1000 - created_ms / 1000);
        format!(
            "id={id} addr={peer} laddr={local} fd=-1 name={name} age={age} idle=0 flags={flags} db=0 sub=0 psub=0 ssub=0 multi=-1 qbuf=0 \
             qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd={command} user={user} redir=-1 \
             resp=2"
        )
    }
}

/// The primary, and the link to it.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub host: String,
    pub port: u16,
    pub is_up: bool,
    /// As ROLE says it.
    pub state: &'static str,
    pub role_offset: i64,
    pub last_io_s: i64,
    pub transfer: Option<TransferFacts>,
    pub read_offset: u64,
    pub applied_offset: u64,
    pub down_since_s: Option<i64>,
}

impl Upstream {
    fn of(link: &Link, now: i64) -> Option<Upstream> {
        let Address { host, port } = link.primary()?.clone();
        let (read_offset, applied_offset) = link.offsets();
        Some(Upstream {
            host,
            port,
            is_up: link.is_up(),
            state: link.state_name(),
            role_offset: link.role_offset(),
            last_io_s: link.last_io_s(now),
            transfer: link.transfer(now),
            read_offset,
            applied_offset,
            down_since_s: link.down_since_s(now),
        })
    }
}

impl Facts {
    fn of(machine: &Node, connections: Vec<Arc<PeerConnection>>, now: i64) -> Facts {
        let primary = machine.primary();
        let history = primary.history();
        Facts {
            upstream: Upstream::of(machine.link(), now),
            connections,
            failover: machine.failover_state(),
            id: history.id(),
            second_id: history.second_id(),
            second_offset: history.second_repl_offset(),
            counts: primary.counts,
            replicas: primary.replicas(now).collect(),
            good_replicas: primary.good_replicas(now),
            backlog: primary.backlog().map(|backlog| (backlog.first_byte(), backlog.len(), backlog.heap_bytes())),
        }
    }
}

fn wants_replicas(config: &Config) -> bool {
    config.min_replicas_to_write > 0 && config.min_replicas_max_lag > 0
}

impl Replication {
    /// `is_replica`: at the start.
    pub fn new(id: ReplId, is_replica: bool) -> (Replication, Receiver<ToPeers>) {
        let (mailbox, messages) = Mailbox::new();
        let facts = Facts {
            id,
            second_id: ReplId::NONE,
            second_offset: -1,
            counts: Counts::default(),
            replicas: Vec::new(),
            good_replicas: None,
            backlog: None,
            upstream: None,
            connections: Vec::new(),
            failover: "no-failover",
        };
        let replication = Replication {
            feeding: AtomicBool::new(false),
            wanted: Mutex::new(Mode { feeds: false, is_replica }),
            is_mode_wanted: AtomicBool::new(false),
            stream_holds: AtomicUsize::new(0),
            is_stream_held: AtomicBool::new(false),
            snapshot_wanted: Mutex::new(None),
            is_snapshot_wanted: AtomicBool::new(false),
            queued_bytes: AtomicUsize::new(0),
            snapshot_bytes: AtomicUsize::new(0),
            is_replica: AtomicBool::new(is_replica),
            is_link_down: AtomicBool::new(is_replica),
            lacks_replicas: AtomicBool::new(false),
            is_served: AtomicBool::new(false),
            pauses_writes: AtomicBool::new(false),
            offset: AtomicU64::new(0),
            written: AtomicU64::new(0),
            place: Mutex::new((0, None)),
            facts: Mutex::new(Arc::new(facts)),
            mailbox,
        };
        (replication, messages)
    }

    pub fn tell(&self, message: ToPeers) {
        self.mailbox.tell(message);
    }

    pub fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    #[inline]
    pub fn is_replica(&self) -> bool {
        self.is_replica.load(Ordering::Relaxed)
    }

    /// As the shards are to know it.
    pub fn role(&self, config: &Config) -> Replica {
        match (self.is_replica(), config.replica_read_only) {
            (false, _) => Replica::No,
            (true, true) => Replica::ReadOnly,
            (true, false) => Replica::Writable,
        }
    }

    pub fn is_link_down(&self) -> bool {
        self.is_link_down.load(Ordering::Relaxed)
    }

    pub fn lacks_replicas(&self, config: &Config) -> bool {
        match self.is_served.load(Ordering::Relaxed) {
            true => self.lacks_replicas.load(Ordering::Relaxed),
            // Without an executor there is no replica.
            false => wants_replicas(config) && !self.is_replica(),
        }
    }

    /// `min_slaves_good_slaves`; `None` while the directives do not ask.
    pub fn good_replicas(&self, config: &Config) -> Option<usize> {
        self.facts().good_replicas.or_else(|| wants_replicas(config).then_some(0))
    }

    /// There is an executor: without one there is no replica.
    pub fn is_served(&self) -> bool {
        self.is_served.load(Ordering::Relaxed)
    }

    /// `master_repl_offset`.
    pub fn offset(&self) -> i64 {
        signed(self.offset.load(Ordering::Relaxed))
    }

    /// The same, with the first byte and the length of the backlog.
    pub fn place(&self) -> (i64, Option<(i64, u64)>) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn facts(&self) -> Arc<Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replicas have acknowledged everything that was written: how many.
    pub fn caught_up(&self) -> usize {
        let end = Offset(self.written.load(Ordering::Relaxed));
        self.facts().replicas.iter().filter(|replica| replica.is_online && replica.offset >= end).count()
    }

    /// The same on their disks.
    pub fn caught_up_on_disk(&self) -> usize {
        let end = Offset(self.written.load(Ordering::Relaxed));
        self.facts().replicas.iter().filter(|replica| replica.is_online && replica.on_disk >= Some(end)).count()
    }

    // ---- told by the executor ----

    pub fn publish(&self, machine: &Node, written: Offset, connections: Vec<Arc<PeerConnection>>, now: i64) {
        self.publish_offset(machine, written);
        self.lacks_replicas.store(machine.primary().lacks_replicas(now), Ordering::Relaxed);
        self.is_served.store(true, Ordering::Relaxed);
        self.is_link_down.store(machine.is_replica() && !machine.link().is_up(), Ordering::Relaxed);
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(Facts::of(machine, connections, now));
    }

    pub fn publish_offset(&self, machine: &Node, written: Offset) {
        let backlog = machine.primary().backlog().map(|backlog| (backlog.first_byte(), backlog.len()));
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = (signed(machine.offset().0), backlog);
        self.offset.store(machine.offset().0, Ordering::Relaxed);
        self.written.store(written.0, Ordering::Relaxed);
    }

    pub fn mode(&self) -> Mode {
        Mode { feeds: self.feeding.load(Ordering::Acquire), is_replica: self.is_replica.load(Ordering::Acquire) }
    }

    pub fn want_mode(&self, mode: Mode) {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = mode;
        self.is_mode_wanted.store(true, Ordering::Release);
    }

    pub fn wanted_mode(&self) -> Mode {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called while all shards are in one place.
    pub fn set_mode(&self, mode: Mode) {
        self.feeding.store(mode.feeds, Ordering::Release);
        self.is_replica.store(mode.is_replica, Ordering::Release);
    }

    pub fn want_snapshot(&self, target: Target) {
        *self.snapshot_wanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(target);
        self.is_snapshot_wanted.store(true, Ordering::Release);
    }

    /// So many bytes of a snapshot have come through the queue.
    pub fn took_snapshot_bytes(&self, bytes: usize) {
        self.snapshot_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A save that may have held the primary's stream has made its cut, or makes none.
    pub fn release_stream(&self) {
        let release = |holds: usize| holds.checked_sub(1);
        let _nothing_held = self.stream_holds.fetch_update(Ordering::AcqRel, Ordering::Acquire, release);
    }

    /// Takes the wish, if there is one.
    pub fn take_snapshot_wish(&self) -> Option<Target> {
        self.is_snapshot_wanted.store(false, Ordering::Relaxed);
        self.snapshot_wanted.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
