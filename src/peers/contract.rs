//! What the cores, the coordinator and the executor for other nodes' connections say to each other.

use super::status::PeerConnection;
use crate::config::structures::PrimaryAddress;
use crate::coordinator::contract::Asker;
use crate::core::log::Mark;
use crate::replication::encoded::Encoded;
use crate::replication::failover::Ask;
use crate::replication::history::Standing;
use crate::replication::primary::request::{About, Request};
use crossbeam_channel::{Receiver, Sender};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What the executor is told. The order is that of the queue.
pub enum ToPeers {
    /// What shards have done.
    Feed(Encoded),
    /// A connection that has asked for the stream.
    Adopt(Box<Departed>),
    /// A cut was made: what stands before this is in the snapshot, what follows is not. `standing` is told where that is.
    Cut {
        for_replicas: bool,
        standing: Sender<Standing>,
    },
    Snapshot(SnapshotStep),
    /// REPLICAOF.
    ReplicaOf {
        primary: Option<PrimaryAddress>,
        asker: Option<Asker>,
    },
    Failover {
        ask: Ask,
        asker: Option<Asker>,
    },
    Wait(Wait),
    /// A mark is placed, or on disk, on all cores.
    Marked,
    /// Whoever has claimed this client's wait has ended it. `answers`: the executor is to say how things are.
    EndWait {
        claimed: Arc<AtomicBool>,
        answers: bool,
    },
    /// The node is to end when its replicas have everything, or at this time; milliseconds since 1970. Each core says so when it lets
    /// no more writes in.
    Ending {
        until_ms: i64,
    },
    /// The node does not end: those who have asked for it are told.
    CallOffShutdown,
    /// CLIENT KILL: these connections, by their numbers.
    Kill(Vec<u64>),
    /// DEBUG CHANGE-REPL-ID.
    ChangeId,
    /// CONFIG SET: what is asked for next is to go by it.
    Configured,
    /// CONFIG RESETSTAT.
    ResetCounts,
    /// DEBUG SLEEP.
    Sleep(Duration),
    /// The snapshot of the primary was loaded, with the database that the stream goes on with; or not.
    Loaded(Result<Option<u32>, String>),
    /// The shards have done everything of the primary's stream before this place.
    Applied {
        parts: usize,
        end: u64,
    },
    /// The node's role, and whether changes are fed, are now as they were wanted.
    Switched,
    /// The node, a primary, loads at its start a data set that stands here in a replication stream.
    Restore(Standing),
    /// The node, a replica, has loaded its data set at the start, and may follow its primary.
    Started {
        stored: Option<Standing>,
    },
    /// The node ends.
    Exit,
}

/// WAIT and WAITAOF: answered when so many replicas have acknowledged what stands before it.
pub struct Wait {
    pub asker: Asker,
    /// Whoever sets it first answers the client.
    pub claimed: Arc<AtomicBool>,
    pub replicas: u64,
    /// WAITAOF: what counts is what they have on disk.
    pub disks: Option<Disks>,
}

/// This node's own part in WAITAOF.
pub struct Disks {
    pub needs_own: bool,
    /// What is waited for; none: nothing is appended.
    pub mark: Option<Arc<Mark>>,
}

/// A snapshot on its way to replicas.
pub enum SnapshotStep {
    Bytes(Vec<u8>),
    /// It is whole, in this file.
    File(PathBuf),
    /// All bytes were told.
    Whole,
    Failed,
}

/// A connection that has left its core.
pub struct Departed {
    pub socket: OwnedFd,
    pub client: PeerConnection,
    pub about: About,
    pub request: Request,
    /// Bytes that came after the request.
    pub input: Vec<u8>,
}

/// The way to the executor.
pub struct Mailbox {
    queue: Sender<ToPeers>,
    bell: OnceLock<UnixStream>,
    asleep: AtomicBool,
}

impl Mailbox {
    pub fn new() -> (Mailbox, Receiver<ToPeers>) {
        let (queue, received) = crossbeam_channel::unbounded();
        (Mailbox { queue, bell: OnceLock::new(), asleep: AtomicBool::new(false) }, received)
    }

    pub fn tell(&self, message: ToPeers) {
        // If the executor is gone the node is ending.
        let _gone = self.queue.send(message);
        // Pairs with the fence in `sleep`: either the sleeper sees the message, or this sees that it sleeps.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed)
            && self.asleep.swap(false, Ordering::Relaxed)
            && let Some(mut bell) = self.bell.get()
        {
            let _already_ringing = bell.write(&[0]);
        }
    }

    /// The executor hears this end of a socket from now on.
    pub fn set_bell(&self, bell: UnixStream) {
        let _only_one = self.bell.set(bell);
    }

    /// The executor is about to sleep; it has to look into the queue once more.
    pub fn sleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}
