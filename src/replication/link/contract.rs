//! What the replica's side is told, and what it asks for.

use super::Address;
use crate::observe::log::Level;
use crate::replication::history::{Offset, ReplId, Standing};

/// The directives that matter here, by their names.
#[derive(Clone, Debug, Default)]
pub struct Config {
    pub masterauth: Option<Vec<u8>>,
    pub masteruser: Option<Vec<u8>>,
    /// What the primary is told: `replica-announce-port`, or else the port that this node listens on.
    pub port: u16,
    pub replica_announce_ip: Option<String>,
    pub repl_timeout_s: u32,
    pub load_to: LoadTo,
}

/// Where a data set goes that comes from the primary: `repl-diskless-load`, decided for the keyspace as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LoadTo {
    /// A file, which is loaded when it is whole.
    #[default]
    Disk,
    /// The shards at once, in place of what they hold.
    Memory,
    /// Beside what the shards hold, which it replaces when it is whole.
    Beside,
}

/// What has happened. Of a connection that was closed by [`Output::Close`] and of a load that was given up nothing more is told.
#[derive(Debug)]
pub enum Input<'a> {
    /// REPLICAOF host port. `standing`: where the node stood as a primary, or what its RDB file has said at the start.
    ReplicaOf {
        primary: Address,
        standing: Option<Standing>,
    },
    /// REPLICAOF NO ONE. To be told when all that was fetched of the stream is applied.
    NoOne,
    Connected,
    /// With the system's words.
    ConnectFailed(String),
    /// By the other side, or by an error in the system's words.
    Closed(String),
    Received(&'a [u8]),
    /// The data set is loaded. `db`: its `repl-stream-db`.
    LoadFinished {
        db: Option<u32>,
    },
    LoadFailed(String),
    /// The shards have done everything of the stream before this place.
    Applied(Offset),
    /// So much of it is on this node's disk; `None`: nothing is appended.
    OnDisk(Option<Offset>),
    /// To be given several times a second.
    Tick,
}

/// What is to be done, in order.
#[derive(Debug)]
pub enum Output {
    Connect(Address),
    Send(Vec<u8>),
    Close,
    /// A data set begins: its length if it is known, and where it goes. `is_same_history`: what the shards hold is of the same
    /// history, so clients may read it meanwhile ([`LoadTo::Beside`]).
    LoadBegins {
        bytes: Option<u64>,
        to: LoadTo,
        is_same_history: bool,
    },
    LoadBytes(Vec<u8>),
    /// That was all. [`LoadTo::Disk`]: the file is to be put in place and loaded now.
    LoadEnds,
    /// It will never be whole; what was loaded of it is not kept.
    LoadAborted,
    /// The commands fetched since the last MULTI without an EXEC are not to be run.
    DropBlock,
    /// The other side has said whether it becomes the primary, as [`Link::asks_failover`](super::Link::asks_failover) has it asked; if
    /// not, the node follows nobody from now on.
    FailoverAnswered(bool),
    /// For the node's own history, at this very moment.
    History(HistoryChange),
    Log(Level, String),
}

/// What becomes of the node's history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HistoryChange {
    /// The node's data is about to be replaced: nobody can continue from what it had.
    Drop,
    /// The node has the data of this place, and is connected.
    Adopt {
        id: ReplId,
        offset: Offset,
    },
    /// The same under an id of its own, as the primary has told none.
    AdoptUnnamed,
    /// The primary has another id than before, from the node's place on.
    ContinueAs(ReplId),
    /// The stream goes on from the node's place.
    LinkUp,
    LinkDown,
    /// The node follows nobody any more.
    Promote,
}
