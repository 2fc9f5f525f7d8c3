//! Snapshots as the cores see them: one instant for all shards, then each shard's records in pieces to the coordinator.
//!
//! The cut is made like FLUSHALL: an operation to which every core lends its shard, so that no operation is half done at that
//! instant. Afterwards each core writes its own shard's cut, a slice a turn, beside its clients. When the coordinator takes no more
//! pieces for the moment, the cut waits and clients do not, unless they change so much meanwhile that its records would take up
//! memory without measure.
//!
//! The cut of the last save, before the node ends, leaves the shards with their cores but claimed: what would be done with them
//! from then on would not be in the file, and nobody is to be told that it was done.

use super::Engine;
use super::operation::Block;
use crate::coordinator::contract::{Order, Piece, QUEUED_BYTES_MAX, Snapshot};
use crate::coordinator::status::Saving;
use crate::core::Core;
use crate::observe::memory;
use crate::peers::contract::ToPeers;
use crossbeam_channel::{bounded, unbounded};
use kvshard::Shard;
use kvshard::codec::rdb::Compression;
use kvshard::keyspace::cut::{CutForm, CutStep};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Entries a turn writes of its shard's cut, and bytes of records that make a piece.
const SLICE_ENTRIES: usize = 256;
const PIECE_BYTES: usize = 64 << 10;
/// Records that may wait in all shards together: this part of the memory in use, for their buffers may be twice as large, and what is
/// queued and being written comes on top; all of it is to stay well below a tenth. For each shard at least so many bytes.
const WAITING_PART: usize = 64;
const WAITING_BYTES_MIN: usize = 256 << 10;
/// How soon the core looks again when the coordinator has no room for more.
const COORDINATOR_LOOK: Duration = Duration::from_millis(1);

/// This core's part of the snapshot under way.
#[derive(Default)]
pub struct CutStream {
    /// The coordinator has no room.
    waits: bool,
    /// So many records wait in the shard that writes have to wait; counted in `full_shards`.
    is_full: bool,
    /// The stream of the primary is held for a save of this core.
    holds_stream: bool,
    /// There is more to write, but not before this moment of the core's clock, nanoseconds.
    rests_until: Option<u64>,
}

/// What is done once with all shards in one place. If it returns a number, the shards stay claimed while that hold is on; see
/// [`crate::core::shared::Shutdown::hold`].
pub type OnAllShards = Box<dyn FnOnce(&mut Core, &mut [Box<Shard>]) -> Option<u64>>;

impl Engine {
    /// Begins the saves that were ordered on this core, as soon as all shards are through with the last cut.
    pub fn begin_saves(&mut self) {
        if !self.has_saves_to_begin()
            || self.core.node.persistence.cutting_shards.load(Ordering::Acquire) > 0
            || !self.is_stream_held()
        {
            return;
        }
        if std::mem::take(&mut self.core.to_rewrite) {
            self.begin_rewrite("background rewrite");
        }
        for saving in std::mem::take(&mut self.core.to_save) {
            let needs = self.whole_shards();
            let mut block = Block::new(Vec::new(), false);
            block.on_all_shards = Some(Box::new(move |core, shards| cut(core, shards, saving)));
            self.begin_for_nobody(needs, block);
        }
    }

    /// Whether the shards are at a known place of the primary's stream, if there is one, and stay there until the cut.
    fn is_stream_held(&mut self) -> bool {
        let replication = &self.core.node.replication;
        if !self.snapshot.holds_stream {
            if !replication.is_replica() {
                return true;
            }
            self.snapshot.holds_stream = true;
            replication.is_stream_held.store(false, Ordering::Relaxed);
            replication.stream_holds.fetch_add(1, Ordering::Release);
            self.mesh.ring_all();
        }
        let is_held = replication.is_stream_held.load(Ordering::Acquire);
        self.snapshot.holds_stream &= !is_held;
        is_held
    }

    fn has_saves_to_begin(&self) -> bool {
        self.core.to_rewrite || !self.core.to_save.is_empty()
    }

    /// Writes a slice of this shard's cut, if one is under way and it is time for it; true if there is more to do at once. The core
    /// then rests from it as long as the slice has taken, for its clients, and for whoever else needs its CPU: a save that took all
    /// of it would be sooner over, and its clients would wait for their turn on the CPU for milliseconds.
    pub(super) fn continue_snapshot(&mut self) -> bool {
        if !self.core.shard.as_ref().is_some_and(|shard| shard.is_cutting()) {
            self.snapshot.rests_until = None;
            self.watch_waiting_records();
            return false;
        }
        let began = self.clock.nanos();
        if self.snapshot.rests_until.is_some_and(|until| began < until) && !self.snapshot.is_full {
            return false;
        }
        let more = self.write_slice();
        let ended = self.clock.nanos();
        self.snapshot.rests_until = more.then_some(ended + (ended - began));
        self.watch_waiting_records();
        more && self.snapshot.is_full
    }

    /// How long the core may sleep for the sake of its cut.
    pub(super) fn snapshot_rest(&self) -> Option<Duration> {
        if self.snapshot.waits || self.has_saves_to_begin() {
            return Some(COORDINATOR_LOOK);
        }
        self.snapshot.rests_until.map(|until| Duration::from_nanos(until.saturating_sub(self.clock.nanos())))
    }

    fn write_slice(&mut self) -> bool {
        let stream = &mut self.snapshot;
        stream.waits = false;
        let Some(shard) = self.core.shard.as_mut().filter(|shard| shard.is_cutting()) else { return false };
        let persistence = &self.core.node.persistence;
        let Some(to_coordinator) = persistence.rdb().pieces.clone() else {
            // Nobody takes it any more: the rest of the cut is given up.
            shard.give_up_cut();
            let ended = shard.continue_cut(SLICE_ENTRIES, PIECE_BYTES, &mut Vec::new()).ended;
            persistence.cutting_shards.fetch_sub(usize::from(ended), Ordering::Release);
            return !ended;
        };
        if persistence.queued_bytes.load(Ordering::Relaxed) >= QUEUED_BYTES_MAX {
            stream.waits = true;
            return false;
        }
        let mut records = Vec::new();
        let CutStep { keys, ended } = shard.continue_cut(SLICE_ENTRIES, PIECE_BYTES, &mut records);
        persistence.cutting_shards.fetch_sub(usize::from(ended), Ordering::Release);
        persistence.queued_bytes.fetch_add(records.len(), Ordering::Relaxed);
        // If the save has just ended early, the next slice finds nobody.
        let _gone = to_coordinator.send(Piece { records, keys, ended });
        !ended
    }

    /// When writers are faster than the coordinator, the records of what they have changed wait in the shard. Beyond a measure
    /// the node's writes wait until most of that has been taken; reads go on. What was already on its way may still come on top.
    #[inline]
    pub(super) fn watch_waiting_records(&mut self) {
        let Some(shard) = self.core.shard.as_ref().filter(|shard| shard.is_cutting() || self.snapshot.is_full) else { return };
        let persistence = &self.core.node.persistence;
        let most = persistence.waiting_bytes_max.load(Ordering::Relaxed);
        let is_full = shard.cut_waiting_bytes() > if self.snapshot.is_full { most / 2 } else { most };
        if is_full == self.snapshot.is_full {
            return;
        }
        self.snapshot.is_full = is_full;
        if is_full {
            persistence.full_shards.fetch_add(1, Ordering::Relaxed);
        } else {
            persistence.full_shards.fetch_sub(1, Ordering::Relaxed);
        }
        self.look_at_node();
    }

    /// The whole data set was given up by a command that ran here.
    #[cold]
    pub(super) fn flushed_all(&mut self) {
        if self.core.loading {
            return;
        }
        self.core.node.persistence.flushed_all(!self.core.config.save.is_empty());
    }
}

/// The instant: every shard begins its cut, and the coordinator learns what is to come.
pub(super) fn cut(core: &mut Core, shards: &mut [Box<Shard>], saving: Saving) -> Option<u64> {
    let persistence = &core.node.persistence;
    let compression = if core.config.rdbcompression { Compression::Lzf } else { Compression::None };
    let form = CutForm { compression, policy: shards[0].settings.maxmemory_policy, now: core.now };
    let mut databases = vec![(0, 0); shards[0].dbs.len()];
    let without_data = matches!(saving, Saving::Replicas { contents, .. } if contents.without_data);
    let cores = if without_data { 0 } else { shards.len() };
    for shard in &mut shards[..cores] {
        for (sum, db) in databases.iter_mut().zip(&shard.dbs) {
            *sum = (sum.0 + db.len() as u64, sum.1 + db.volatile() as u64);
        }
        shard.begin_cut(form);
    }
    let (sender, pieces) = unbounded();
    let most = (memory::used() as usize / WAITING_PART / shards.len()).max(WAITING_BYTES_MIN);
    persistence.waiting_bytes_max.store(most, Ordering::Relaxed);
    persistence.queued_bytes.store(0, Ordering::Relaxed);
    persistence.cutting_shards.store(cores, Ordering::Release);
    {
        let mut rdb = persistence.rdb();
        rdb.pieces = Some(sender);
        if let Some(running) = &mut rdb.running {
            running.keys = databases.iter().map(|(keys, _)| keys).sum();
        }
    }
    let standing = (core.is_feeding() || core.node.replication.is_replica()).then(|| {
        let (standing, at) = bounded(1);
        let for_replicas = matches!(saving, Saving::Replicas { .. });
        core.node.replication.tell(ToPeers::Cut { for_replicas, standing });
        at
    });
    // Whoever has held the stream for this cut lets go of it.
    core.node.replication.release_stream();
    // From its root on: the process's directory may be another one when the file is whole.
    let path = core.config.dir.resolve(core.config.dbfilename.path());
    let changes = core.node.changes();
    let key_delay_us = core.config.rdb_key_save_delay;
    let snapshot = Snapshot { saving, path, compression, key_delay_us, pieces, cores, databases, changes, standing };
    // If the coordinator is gone the node is ending: the cores find the queue without its other end.
    let _gone = core.node.to_coordinator.send(Order::Snapshot(Box::new(snapshot)));
    let hold = core.node.shutdown.hold();
    (matches!(saving, Saving::Shutdown) && hold != 0).then_some(hold)
}
