//! What the cores and the coordinator say to each other.
//!
//! Orders go to the coordinator through one queue of the node's; each core has an inbox of its own for what comes back, and is
//! woken for it. All of these queues are the control plane: nothing on the path of a command uses them.

use super::status::{Reload, Saving};
use crate::core::log::{Mark, Segment};
use crate::replication::history::Standing;
use crossbeam_channel::{Receiver, Sender};
use kvshard::codec::rdb::Compression;
use kvshard::keyspace::load::{LoadFault, LoadRules};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes of a snapshot's pieces on their way to the coordinator, from all cores together: with that many no core sends another one.
pub const QUEUED_BYTES_MAX: usize = 256 << 10;
/// Messages on their way to a core; the coordinator waits when there are more.
pub const INBOX_MAX: usize = 64;

/// What the coordinator is to do.
pub enum Order {
    Snapshot(Box<Snapshot>),
    /// Load the append-only file anew, while the node runs.
    ReloadAppendOnly(Asker),
    /// Load the RDB file that is there, while the node runs.
    Reload(Reload),
    /// Load what the primary sends, in place of what is in memory.
    LoadForReplica(ReplicaLoad),
    /// One new segment for each core, to be sent to the core that asks. `why`: for the log.
    OpenSegments {
        core: usize,
        turning_on: bool,
        why: &'static str,
    },
    /// SHUTDOWN ABORT: those who have asked for the end are told that it does not come.
    CallOffShutdown,
    /// The node ends: nothing more comes.
    Exit,
}

/// Where the data set of the primary is.
pub enum ReplicaLoad {
    /// Whole, in a temporary file, which is to become the node's RDB file first.
    File { path: PathBuf, file: File },
    /// On its way. `total`: its length in bytes, if that is known. `shows_old`: clients may read meanwhile what is in memory, as it is
    /// loaded beside that.
    Stream { received: Receiver<Received>, total: Option<u64>, to: LoadTo, shows_old: bool },
}

impl ReplicaLoad {
    pub fn shows_old(&self) -> bool {
        matches!(self, ReplicaLoad::Stream { shows_old: true, .. })
    }

    pub fn is_beside(&self) -> bool {
        matches!(self, ReplicaLoad::Stream { to: LoadTo::Beside, .. })
    }
}

/// Of a data set on its way. One that will never be whole ends without [`Received::Whole`].
pub enum Received {
    Bytes(Vec<u8>),
    Whole,
}

/// A cut was made: what the cores send is to become an RDB file.
pub struct Snapshot {
    pub saving: Saving,
    /// The file that it replaces when it is whole. Not used for the base of an append-only file, which the coordinator names.
    pub path: PathBuf,
    pub compression: Compression,
    /// Microseconds to wait after each key; negative: one microsecond after every so many keys.
    pub key_delay_us: i32,
    /// The cores' records; each core's last piece says so.
    pub pieces: Receiver<Piece>,
    /// Cores that write any.
    pub cores: usize,
    /// Keys, and keys that expire, of each database at the cut.
    pub databases: Vec<(u64, u64)>,
    /// Changes counted up to the cut.
    pub changes: u64,
    /// Says where in the replication stream the cut is, if there is one.
    pub standing: Option<Receiver<Standing>>,
}

impl Snapshot {
    /// Where in the replication stream the cut is. The executor that knows it answers at once.
    pub fn standing(&self) -> Option<Standing> {
        self.standing.as_ref()?.recv().ok()
    }
}

/// Records of one shard's cut.
pub struct Piece {
    pub records: Vec<u8>,
    pub keys: u64,
    /// It was the shard's last.
    pub ended: bool,
}

/// What a core is told.
pub enum ToCore {
    /// The answer that a client, whose connection was stalled for it, has waited for.
    Reply { to: Asker, reply: Vec<u8> },
    /// From now on changes are logged here; nobody is served yet.
    Append { segment: Box<Segment>, done: Sender<()> },
    /// What was asked for, in the order in which it was; or why not.
    Segments(Result<Vec<Segment>, String>),
    /// The data set is being loaded.
    Load(Load),
    /// Whole commands of the primary's stream, and the place behind them. For the first core.
    Apply { bytes: Vec<u8>, end: u64 },
    /// A mark is wanted behind all that was done of the primary's stream. For the first core.
    Mark(Arc<Mark>),
    /// The primary's stream ends here, perhaps in the midst of a block. For the first core.
    ForgetStream,
    /// The configuration was changed by another than a client.
    Configure,
}

/// Steps of loading. A core takes them in their order.
pub enum Load {
    /// From now on this core only loads.
    Begin(BeginLoad),
    /// Records of keys that are this core's, of one database.
    Records { db: usize, batch: Vec<u8> },
    /// A file of commands begins, or commands of no file follow. For the first core only, as the next.
    File,
    /// Whole commands, as in an append-only file.
    Commands(Vec<u8>),
    /// Answer when everything before is done.
    Flush,
    /// What was loaded beside the data set takes its place, on all shards at one moment. For the first core, which answers then.
    TakeBeside,
    /// The data set is whole, or `keeps` nothing of it. Is answered like [`Load::Flush`].
    End { keeps: bool },
}

pub struct BeginLoad {
    pub rules: LoadRules,
    pub to: LoadTo,
    pub reports: Sender<LoadReport>,
}

/// Where records go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LoadTo {
    Shards,
    /// What the shards hold goes first.
    EmptiedShards,
    /// See [`Shard::beside`](kvshard::Shard::beside).
    Beside,
}

/// What a core has to say while it loads.
pub enum LoadReport {
    /// It has done what was to be answered.
    Done,
    /// It has met something that must not be; it does nothing more.
    Fault(Fault),
}

pub enum Fault {
    Record(LoadFault),
    /// A command could not be run.
    Command(String),
}

/// A connection of some core, as someone elsewhere names it.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    pub core: usize,
    pub index: usize,
    pub generation: u32,
}

/// The coordinator's ways to the cores.
pub struct ToCores {
    inboxes: Vec<Sender<ToCore>>,
    /// Wakes a core.
    wake: Box<dyn Fn(usize) + Send>,
}

impl ToCores {
    pub fn new(inboxes: Vec<Sender<ToCore>>, wake: Box<dyn Fn(usize) + Send>) -> Self {
        ToCores { inboxes, wake }
    }

    pub fn wake(&self, core: usize) {
        (self.wake)(core);
    }

    pub fn wake_all(&self) {
        (0..self.cores()).for_each(&self.wake);
    }

    pub fn cores(&self) -> usize {
        self.inboxes.len()
    }

    /// Waits while the core's inbox is full. A core that has ended hears nothing any more.
    pub fn tell(&self, core: usize, message: ToCore) {
        let _ended = self.inboxes[core].send(message);
        (self.wake)(core);
    }
}
