//! What the executor for other nodes' connections and the rest of the node know of each other without asking.

use super::contract::{Mailbox, ToPeers};
use crate::config::Config;
use crate::config::structures::PrimaryAddress;
use crate::replication::failover::NO_FAILOVER;
use crate::replication::history::{Offset, ReplId, signed};
use crate::replication::link::facts::TransferFacts;
use crate::replication::link::{Address, Link};
use crate::replication::node::Node;
use crate::replication::primary::facts::ReplicaFacts;
use crate::replication::primary::request::Contents;
use crate::replication::primary::{Counts, Target};
use crossbeam_channel::Receiver;
use kvshard::settings::Replica;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The node's part in replication.
pub struct Replication {
    /// Changes go into the replication stream. Changed while all shards are in one place.
    pub feeding: AtomicBool,
    /// The node follows another. Likewise.
    is_replica: AtomicBool,
    wishes: Mutex<Wishes>,
    /// There are some; set with them, so that nobody has to look into the other.
    has_wishes: AtomicBool,
    /// Saves that wait for a place between two parts of the primary's stream: nothing of it is begun while there are any.
    pub stream_holds: AtomicUsize,
    /// The first core is at such a place.
    pub is_stream_held: AtomicBool,
    /// Bytes of the stream in the queue to the executor.
    pub queued_bytes: AtomicUsize,
    /// Bytes of a snapshot in the queue to the executor.
    pub snapshot_bytes: AtomicUsize,
    /// The node follows another and nothing comes from there.
    is_link_down: AtomicBool,
    /// There are fewer good replicas than `min-replicas-to-write` wants.
    lacks_replicas: AtomicBool,
    /// FAILOVER waits for a replica to have everything.
    pub pauses_writes: AtomicBool,
    /// The executor has said how things are: it exists.
    is_served: AtomicBool,
    /// The end of what the shards have done in the stream.
    written: AtomicU64,
    /// `master_repl_offset`, and what the backlog has at that moment: first byte and length.
    place: Mutex<(i64, Option<(i64, u64)>)>,
    facts: Mutex<Arc<Facts>>,
    mailbox: Mailbox,
}

/// What the executor wants of the shards. The first core sees to it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Wishes {
    pub mode: Option<Mode>,
    /// For replicas: it begins as soon as no other is under way.
    pub snapshot: Option<(Target, Contents)>,
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
    /// One that nobody has connected to yet.
    fn to_be(PrimaryAddress { host, port }: &PrimaryAddress) -> Upstream {
        Upstream {
            host: host.clone(),
            port: *port,
            is_up: false,
            state: "connect",
            role_offset: -1,
            last_io_s: -1,
            transfer: None,
            read_offset: 0,
            applied_offset: 0,
            down_since_s: Some(-1),
        }
    }

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
        }
    }
}

impl Replication {
    /// At the start.
    pub fn new(id: ReplId, config: &Config) -> (Replication, Receiver<ToPeers>) {
        let ((mailbox, messages), is_replica) = (Mailbox::new(), config.replicaof.is_some());
        let facts = Facts {
            id,
            second_id: ReplId::NONE,
            second_offset: -1,
            counts: Counts::default(),
            replicas: Vec::new(),
            upstream: config.replicaof.as_ref().map(Upstream::to_be),
            connections: Vec::new(),
            failover: NO_FAILOVER,
        };
        let replication = Replication {
            feeding: AtomicBool::new(false),
            wishes: Mutex::default(),
            has_wishes: AtomicBool::new(false),
            stream_holds: AtomicUsize::new(0),
            is_stream_held: AtomicBool::new(false),
            queued_bytes: AtomicUsize::new(0),
            snapshot_bytes: AtomicUsize::new(0),
            is_replica: AtomicBool::new(is_replica),
            is_link_down: AtomicBool::new(is_replica),
            lacks_replicas: AtomicBool::new(false),
            pauses_writes: AtomicBool::new(false),
            is_served: AtomicBool::new(false),
            written: AtomicU64::new(0),
            place: Mutex::new((0, None)),
            facts: Mutex::new(Arc::new(facts)),
            mailbox,
        };
        replication.count_good_replicas(config);
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

    pub fn lacks_replicas(&self) -> bool {
        self.lacks_replicas.load(Ordering::Relaxed)
    }

    /// `min_slaves_good_slaves`; `None` while the directives do not ask.
    pub fn good_replicas(&self, config: &Config) -> Option<usize> {
        let (wanted, lag_s) = (config.min_replicas_to_write, i64::from(config.min_replicas_max_lag));
        let is_good = |replica: &&ReplicaFacts| replica.is_online && replica.lag_s <= lag_s;
        (wanted > 0 && lag_s > 0).then(|| self.facts().replicas.iter().filter(is_good).count())
    }

    /// The directives have changed.
    pub fn configured(&self, config: &Config) {
        self.count_good_replicas(config);
        if self.is_served() {
            self.tell(ToPeers::Configured);
        }
    }

    fn count_good_replicas(&self, config: &Config) {
        let wanted = config.min_replicas_to_write as usize;
        let lacks = !self.is_replica() && self.good_replicas(config).is_some_and(|good| good < wanted);
        self.lacks_replicas.store(lacks, Ordering::Relaxed);
    }

    /// CONFIG RESETSTAT: the executor is told too.
    pub fn reset_counts(&self) {
        let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        *facts = Arc::new(Facts { counts: Counts::default(), ..(**facts).clone() });
        if self.is_served() {
            self.tell(ToPeers::ResetCounts);
        }
    }

    /// DEBUG SLEEP: the executor sleeps too.
    pub fn sleep(&self, pause: Duration) {
        if self.is_served() {
            self.tell(ToPeers::Sleep(pause));
        }
    }

    /// REPLICAOF was accepted in a transaction, which does not wait until it is done; what follows in it sees it all the same.
    pub fn announce(&self, upstream: Option<&PrimaryAddress>) {
        let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        *facts = Arc::new(Facts { upstream: upstream.map(Upstream::to_be), ..(**facts).clone() });
    }

    /// There is an executor: without one there is no replica.
    pub fn is_served(&self) -> bool {
        self.is_served.load(Ordering::Relaxed)
    }

    /// `master_repl_offset`.
    pub fn offset(&self) -> i64 {
        self.place().0
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

    pub fn publish(&self, machine: &Node, written: Offset, connections: Vec<Arc<PeerConnection>>, config: &Config, now: i64) {
        self.publish_offset(machine, written);
        self.is_served.store(true, Ordering::Relaxed);
        self.is_link_down.store(machine.is_replica() && !machine.link().is_up(), Ordering::Relaxed);
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(Facts::of(machine, connections, now));
        self.count_good_replicas(config);
    }

    pub fn publish_offset(&self, machine: &Node, written: Offset) {
        let backlog = machine.primary().backlog().map(|backlog| (backlog.first_byte(), backlog.len()));
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = (signed(machine.offset().0), backlog);
        self.written.store(written.0, Ordering::Relaxed);
    }

    pub fn mode(&self) -> Mode {
        Mode { feeds: self.feeding.load(Ordering::Acquire), is_replica: self.is_replica.load(Ordering::Acquire) }
    }

    /// Has the first core do something; wake it.
    pub fn wish(&self, add: impl FnOnce(&mut Wishes)) {
        add(&mut self.wishes.lock().unwrap_or_else(PoisonError::into_inner));
        self.has_wishes.store(true, Ordering::Release);
    }

    #[inline]
    pub fn has_wishes(&self) -> bool {
        self.has_wishes.load(Ordering::Relaxed)
    }

    /// That for a snapshot stays if no save can begin.
    pub fn take_wishes(&self, can_save: bool) -> Wishes {
        let mut wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = Wishes { mode: wishes.mode.take(), snapshot: wishes.snapshot.take_if(|_| can_save) };
        self.has_wishes.store(wishes.snapshot.is_some(), Ordering::Relaxed);
        taken
    }

    /// To be called while all shards are in one place.
    pub fn set_mode(&self, mode: Mode) {
        self.feeding.store(mode.feeds, Ordering::Release);
        self.is_replica.store(mode.is_replica, Ordering::Release);
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

    /// Nobody wants the snapshot any more. Whether it had not been begun.
    pub fn give_up_snapshot_wish(&self) -> bool {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner).snapshot.take().is_some()
    }
}
