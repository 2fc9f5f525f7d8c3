//! Snapshots as the cores see them: one instant for all shards, then each shard's records in pieces to the coordinator.
//!
//! The cut is made like FLUSHALL: an operation to which every core lends its shard, so that no operation is half done at that
//! instant. Afterwards each core writes its own shard's cut, a slice a turn, beside its clients. When the coordinator takes no more
//! pieces for the moment, the cut waits: clients do not.

use super::Engine;
use super::loading::LoadBudget;
use super::operation::Block;
use crate::config::structures::SavePoint;
use crate::coordinator::contract::{Order, PIECES_MAX, Piece, Snapshot, ToCore};
use crate::coordinator::status::Saving;
use crate::core::Core;
use crate::core::connection::Stall;
use crate::core::shared::ShutdownOptions;
use crate::observe::log;
use crossbeam_channel::{Sender, TrySendError, bounded};
use kvshard::Shard;
use kvshard::codec::rdb::Compression;
use kvshard::keyspace::cut::CutForm;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// Entries a turn writes of its shard's cut, and bytes of records that make a piece.
const SLICE_ENTRIES: usize = 256;
const PIECE_BYTES: usize = 64 << 10;
/// A save that failed is not tried again by a save point before so many seconds have passed.
const RETRY_SECONDS: i64 = 5;

/// This core's part of the snapshot under way.
#[derive(Default)]
pub struct CutStream {
    to_coordinator: Option<Sender<Piece>>,
    /// What the coordinator had no room for.
    unsent: Option<Piece>,
}

/// What is done once with all shards in one place.
pub type OnAllShards = Box<dyn FnOnce(&mut Core, &mut [Box<Shard>])>;

impl Engine {
    /// Begins the saves that were ordered on this core since the last turn.
    pub fn begin_saves(&mut self) {
        if self.core.to_save.is_empty() {
            return;
        }
        for saving in std::mem::take(&mut self.core.to_save) {
            let needs = self.whole_shards();
            let mut block = Block::new(Vec::new(), false);
            block.on_all_shards = Some(Box::new(move |core, shards| cut(core, shards, saving)));
            self.begin_for_nobody(needs, block);
        }
    }

    /// Writes a slice of this shard's cut, if one is under way; true if there is more to do at once.
    pub(super) fn continue_snapshot(&mut self) -> bool {
        let Some(shard) = self.core.shard.as_mut().filter(|shard| shard.is_cutting()) else { return false };
        let stream = &mut self.snapshot;
        if stream.to_coordinator.is_none() {
            stream.to_coordinator = self.core.node.persistence.rdb().pieces.clone();
        }
        let given_up = stream.to_coordinator.is_none();
        if given_up {
            shard.give_up_cut();
            stream.unsent = None;
        }
        let piece = stream.unsent.take().unwrap_or_else(|| {
            let mut records = Vec::with_capacity(PIECE_BYTES);
            let step = shard.continue_cut(SLICE_ENTRIES, PIECE_BYTES, &mut records);
            Piece { records, keys: step.keys, ended: step.ended }
        });
        if given_up {
            return !piece.ended;
        }
        let ended = piece.ended;
        let to = stream.to_coordinator.as_ref().expect("looked at above");
        match to.try_send(piece) {
            Ok(()) if ended => {
                *stream = CutStream::default();
                false
            }
            Ok(()) => true,
            Err(TrySendError::Full(piece)) => {
                stream.unsent = Some(piece);
                false
            }
            // Nobody takes it any more: the rest of the cut is given up.
            Err(TrySendError::Disconnected(_)) => {
                *stream = CutStream::default();
                true
            }
        }
    }

    /// Pieces wait for the coordinator to have room: look again soon.
    pub(super) fn waits_for_coordinator(&self) -> bool {
        self.snapshot.unsent.is_some()
    }

    /// Acts on what the coordinator has said.
    pub fn read_inbox(&mut self) -> bool {
        let mut any = false;
        let mut budget = LoadBudget::of_a_turn();
        while let Some(message) = self.next_message(&budget) {
            match message {
                ToCore::Load(load) => {
                    if !self.load(load, &mut budget) {
                        return any;
                    }
                }
                ToCore::Reply { to, reply } => {
                    let current = self.core.connections.get_mut(to.index).filter(|c| c.generation == to.generation);
                    if let Some(connection) = current {
                        connection.stall = Stall::None;
                        self.core.to_resume.push(to.index);
                        self.append_reply(to.index, &reply);
                    }
                }
            }
            any = true;
        }
        any
    }

    // ---- when to save, and to end: the first core looks ----

    /// Save points, and a BGSAVE that was scheduled.
    pub(super) fn look_at_save_points(&mut self) {
        let node = self.core.node.clone();
        let (persistence, now_s) = (&node.persistence, self.core.now / 1000);
        if persistence.loading.load(Ordering::Relaxed) || node.shutdown.holds_writes() {
            return;
        }
        let (scheduled, last_try_s) = {
            let rdb = persistence.rdb();
            if rdb.running.is_some() {
                return;
            }
            (rdb.scheduled, rdb.last_try_s)
        };
        let changes = node.unsaved_changes();
        let since_s = now_s - persistence.last_save.load(Ordering::Relaxed);
        let may_try = !persistence.rdb_failed.load(Ordering::Relaxed) || now_s - last_try_s > RETRY_SECONDS;
        let due = |point: &&SavePoint| changes >= point.changes && since_s > point.seconds as i64;
        let point = self.core.config.save.iter().find(due).filter(|_| may_try);
        if let Some(point) = point {
            log::notice(&format!("{} changes in {} seconds. Saving...", point.changes, point.seconds));
        }
        if (point.is_some() || scheduled) && persistence.begin_save(Saving::Background, now_s) {
            log::notice(&format!("Background saving started by pid {}", std::process::id()));
            self.core.to_save.push(Saving::Background);
        }
    }

    /// Ends the node if that is wanted: at once, or after a last save, during which no write is let in.
    pub(super) fn look_at_shutdown(&mut self) {
        let node = self.core.node.clone();
        let Some(options) = node.shutdown.wanted() else { return };
        if node.shutdown.is_requested() || node.shutdown.holds_writes() {
            return;
        }
        if node.persistence.loading.load(Ordering::Relaxed) {
            // What is half there must not take the place of what is on disk.
            node.shutdown.request();
            self.mesh.ring_all();
            return;
        }
        let ShutdownOptions { save, no_save, .. } = options;
        let mut rdb = node.persistence.rdb();
        if let Some(running) = &rdb.running {
            if !node.persistence.give_up.swap(true, Ordering::Relaxed) && matches!(running.saving, Saving::Background) {
                log::warning("There is a child saving an .rdb. Killing it!");
            }
            rdb.scheduled = false;
            return;
        }
        drop(rdb);
        if !save && (no_save || self.core.config.save.is_empty()) {
            node.shutdown.request();
            self.mesh.ring_all();
            return;
        }
        log::notice("Saving the final RDB snapshot before exiting.");
        node.shutdown.hold_writes();
        if node.persistence.begin_save(Saving::Shutdown, self.core.now / 1000) {
            self.core.to_save.push(Saving::Shutdown);
        }
    }
}

/// The instant: every shard begins its cut, and the coordinator learns what is to come.
fn cut(core: &mut Core, shards: &mut [Box<Shard>], saving: Saving) {
    let persistence = &core.node.persistence;
    if shards.iter().any(|shard| shard.is_cutting()) {
        // The last cut was given up and is not quite through.
        core.to_save.push(saving);
        return;
    }
    let compression = if core.config.rdbcompression { Compression::Lzf } else { Compression::None };
    let form = CutForm { compression, policy: shards[0].settings.maxmemory_policy, now: core.now };
    let mut databases = vec![(0, 0); shards[0].dbs.len()];
    for shard in shards.iter_mut() {
        for (sum, db) in databases.iter_mut().zip(&shard.dbs) {
            *sum = (sum.0 + db.len() as u64, sum.1 + db.volatile() as u64);
        }
        shard.begin_cut(form);
    }
    let (sender, pieces) = bounded(PIECES_MAX);
    {
        let mut rdb = persistence.rdb();
        rdb.pieces = Some(sender);
        if let Some(running) = &mut rdb.running {
            running.keys = databases.iter().map(|(keys, _)| keys).sum();
        }
    }
    let path = PathBuf::from(core.config.dbfilename.path());
    let changes = core.node.changes();
    let cores = shards.len();
    let snapshot = Snapshot { saving, path, compression, pieces, cores, databases, changes };
    // If the coordinator is gone the node is ending: the cores find the queue without its other end.
    let _gone = core.node.to_coordinator.send(Order::Snapshot(Box::new(snapshot)));
}
