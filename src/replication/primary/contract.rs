//! What the primary's side is told, and what it asks for.

use super::ReplicaId;
use super::request::{About, Contents, Request};
use crate::observe::log::Level;
use crate::replication::backlog::Chunk;
use crate::replication::history::Offset;

/// The directives that matter here, by their names.
#[derive(Clone, Debug)]
pub struct Config {
    pub repl_diskless_sync: bool,
    pub repl_diskless_sync_delay_s: u32,
    pub repl_diskless_sync_max_replicas: u32,
    pub repl_backlog_size: u64,
    pub repl_backlog_ttl_s: u64,
    pub repl_timeout_s: u32,
    pub repl_ping_replica_period_s: u32,
    /// `client-output-buffer-limit replica`.
    pub hard_bytes: u64,
    pub soft_bytes: u64,
    pub soft_s: u64,
    /// There are save points: a snapshot on disk is wanted also if no replica waits for it any more.
    pub has_save_points: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            repl_diskless_sync: true,
            repl_diskless_sync_delay_s: 5,
            repl_diskless_sync_max_replicas: 0,
            repl_backlog_size: 1 << 20,
            repl_backlog_ttl_s: 3600,
            repl_timeout_s: 60,
            repl_ping_replica_period_s: 10,
            hard_bytes: 256 << 20,
            soft_bytes: 64 << 20,
            soft_s: 60,
            has_save_points: false,
        }
    }
}

/// What this node itself follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Upstream {
    /// Nobody: it is a primary.
    None,
    /// A primary, from which nothing comes now.
    Down,
    Connected,
}

/// What saves the node has under way for reasons of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OtherSave {
    None,
    /// To the RDB file.
    Rdb,
    /// The append-only file is rewritten.
    Rewrite,
}

/// What has happened. Anything about a replica that is not attached (any more) is ignored.
#[derive(Debug)]
pub enum Input<'a> {
    /// An ordinary client says SYNC or PSYNC, and has no reply outstanding.
    Sync {
        replica: ReplicaId,
        about: About,
        request: Request,
    },
    Received {
        replica: ReplicaId,
        bytes: &'a [u8],
    },
    /// So many of the bytes given out for it have been sent.
    Sent {
        replica: ReplicaId,
        bytes: u64,
    },
    Closed {
        replica: ReplicaId,
    },
    OtherSave(OtherSave),
    /// The cut that was ordered is made, at this place of the stream.
    SnapshotBegun {
        at: Offset,
    },
    /// Bytes of a streamed snapshot, when [`Primary::wants_chunk`](super::Primary::wants_chunk).
    SnapshotChunk(Vec<u8>),
    /// It is whole. `file_bytes`: how long the file is, if it is one.
    SnapshotDone {
        file_bytes: u64,
    },
    SnapshotFailed,
    /// To be given several times a second.
    Tick,
}

/// What is to be done, in order.
#[derive(Debug)]
pub enum Output {
    /// Behind what was given out before for it.
    Send {
        to: ReplicaId,
        bytes: Chunk,
    },
    /// The snapshot's file, of this length; what is sent of it counts as [`Input::Sent`] like everything else. The file is
    /// opened now: another may take its place later.
    SendFile {
        to: ReplicaId,
        bytes: u64,
    },
    /// Nothing came of its request: it stays an ordinary client and is answered this.
    Refuse {
        to: ReplicaId,
        reply: String,
    },
    /// It is forgotten here already.
    Close {
        replica: ReplicaId,
        how: Close,
    },
    /// Make a cut, and say when ([`Input::SnapshotBegun`]) or that it cannot be ([`Input::SnapshotFailed`]).
    BeginSnapshot {
        target: Target,
        contents: Contents,
    },
    /// Nobody waits for the snapshot any more; [`Input::SnapshotFailed`] follows.
    GiveUpSnapshot,
    /// Whether the stream is wanted from now on: there is a backlog.
    Feed(bool),
    Log(Level, String),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Close {
    Now,
    /// When what was given out has been sent.
    AfterOutput,
    /// The same as `Now`, for the log: it has overcome its output limits.
    OverLimit,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    Disk,
    Sockets,
}

/// Counts since the start, as INFO has them.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    pub sync_full: u64,
    pub sync_partial_ok: u64,
    pub sync_partial_err: u64,
}
