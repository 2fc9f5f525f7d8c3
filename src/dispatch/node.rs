//! What concerns the whole node: every core hears what the coordinator and the executor for other nodes say to it, and the first one
//! looks whether the node is to save, to change its role, or to end.

use super::Engine;
use super::apply::Part;
use super::loading::LoadBudget;
use super::operation::Block;
use crate::config::structures::SavePoint;
use crate::coordinator::contract::ToCore;
use crate::coordinator::status::Saving;
use crate::core::Core;
use crate::core::shared::{ShutdownOptions, tell_end_failed};
use crate::observe::log;
use crate::peers::contract::ToPeers;
use crate::peers::status::{Mode, Wishes};
use crate::replication::primary::Target;
use kvshard::Shard;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A save that failed is not tried again by a save point before so many seconds have passed.
const RETRY_SECONDS: i64 = 5;

impl Engine {
    /// Acts on what has come through the inbox. True if there was anything.
    pub fn read_inbox(&mut self) -> bool {
        let mut any = false;
        let mut budget = LoadBudget::of_a_turn();
        while let Some(message) = self.next_message(&budget) {
            match message {
                ToCore::Append { segment, done } => {
                    self.core.log.switch(Some(*segment), self.core.config.aof_timestamp_enabled);
                    self.core.shard.as_mut().expect("nobody is served yet").effects.enabled = true;
                    drop(done);
                }
                ToCore::Segments(opened) => self.segments_opened(opened),
                ToCore::Apply { bytes, end } => self.stream_part(Part { bytes, end }),
                ToCore::Mark(mark) => self.mark_logs(mark),
                ToCore::ForgetStream => self.forget_stream(),
                ToCore::Configure => self.core.apply_config(self.core.node.current_config()),
                ToCore::Load(load) => {
                    if !self.load(load, &mut budget) {
                        return any;
                    }
                }
                ToCore::Reply { to, reply } => self.answered_elsewhere(to, &reply),
            }
            any = true;
        }
        any
    }

    // ---- the first core looks ----

    /// Save points, and a BGSAVE that was scheduled.
    pub(super) fn look_at_save_points(&mut self) {
        let node = self.core.node.clone();
        let (persistence, now_s) = (&node.persistence, self.core.now / 1000);
        if persistence.is_loading() || node.shutdown.hold() != 0 {
            return;
        }
        let (scheduled, after_flush, last_try_s) = {
            let rdb = persistence.rdb();
            if rdb.running.is_some() {
                return;
            }
            (rdb.scheduled, rdb.after_flush, rdb.last_try_s)
        };
        let changes = node.unsaved_changes();
        let since_s = now_s - persistence.last_save.load(Ordering::Relaxed);
        let may_try = !persistence.rdb_failed.load(Ordering::Relaxed) || now_s - last_try_s > RETRY_SECONDS;
        let due = |point: &&SavePoint| changes >= point.changes && since_s > point.seconds as i64;
        let point = self.core.config.save.iter().find(due).filter(|_| may_try);
        if let Some(point) = point {
            log::notice(&format!("{} changes in {} seconds. Saving...", point.changes, point.seconds));
        }
        // One that a client has scheduled follows another, as in Redis.
        let for_client = point.is_none() && !after_flush;
        let wanted = point.is_some() || after_flush || (scheduled && may_try);
        if wanted && persistence.begin_save(Saving::Background, now_s) {
            if for_client {
                persistence.rdb().scheduled = false;
            }
            log::notice(&format!("Background saving started by pid {}", std::process::id()));
            self.core.to_save.push(Saving::Background);
        }
    }

    /// What the executor for other nodes' connections wants of the shards: the first core looks every turn.
    pub(super) fn look_at_replication(&mut self) {
        if !self.core.node.replication.has_wishes() {
            return;
        }
        let node = self.core.node.clone();
        let (replication, persistence) = (&node.replication, &node.persistence);
        if persistence.is_loading() || node.shutdown.hold() != 0 {
            return;
        }
        let can_save = persistence.rdb().running.is_none();
        let Wishes { mode, snapshot } = replication.take_wishes(can_save);
        if let Some(mode) = mode {
            let mut block = Block::new(Vec::new(), false);
            block.on_all_shards = Some(Box::new(move |core, shards| {
                switch(core, shards, mode);
                core.node.replication.tell(ToPeers::Switched);
                None
            }));
            self.begin_for_nobody(self.whole_shards(), block);
        }
        if let Some((target, contents)) = snapshot {
            let saving = Saving::Replicas { streamed: target == Target::Sockets, contents };
            if persistence.begin_save(saving, self.core.now / 1000) {
                log::notice(match target {
                    Target::Sockets => "Background RDB transfer started",
                    Target::Disk => "Background saving started",
                });
                self.core.to_save.push(saving);
            } else {
                replication.wish(|wishes| wishes.snapshot = wishes.snapshot.or(snapshot));
            }
        }
    }

    /// Whether the end waits until replicas have all that was written. Whoever wants it now waits no longer, also if another did.
    fn waits_for_replicas(&mut self, options: ShutdownOptions) -> bool {
        let (node, now) = (self.core.node.clone(), self.core.now);
        if !node.replication.is_served() || node.shutdown.has_waited() {
            return false;
        }
        let waits_ms = if options.now { 0 } else { i64::from(self.core.config.shutdown_timeout) * 1000 };
        let waits_until = node.shutdown.until_ms();
        if waits_until == 0 || (options.now && waits_until > now) {
            let until_ms = now + waits_ms;
            node.shutdown.wait_for_replicas(until_ms);
            self.on_all_cores(Arc::new(move |core| {
                core.tell_peers(ToPeers::Ending { until_ms });
                Box::new(())
            }));
        }
        true
    }

    /// Ends the node if that is wanted: at once, or after a last save, during which no write is let in.
    pub(super) fn look_at_shutdown(&mut self) {
        let Some(options) = self.core.node.shutdown.wanted() else { return };
        let node = self.core.node.clone();
        if node.shutdown.is_requested() || node.shutdown.is_aborted() || node.shutdown.hold() != 0 {
            return;
        }
        if self.waits_for_replicas(options) {
            return;
        }
        // What has been loaded so far must not take the place of the whole.
        let loading = node.persistence.is_loading();
        let (save, no_save) = (options.save && !loading, options.no_save || loading);
        let mut rdb = node.persistence.rdb();
        if let Some(running) = &rdb.running {
            let is_first =
                matches!(running.saving, Saving::Rewrite { .. }) && !node.persistence.is_founded.load(Ordering::Acquire);
            if is_first && !options.force {
                // A start would find nothing but what was appended since.
                tell_end_failed("Writing initial AOF, can't exit");
                node.shutdown.abort();
                // The coordinator is at work on it.
                return node.replication.tell(ToPeers::CallOffShutdown);
            }
            if !node.persistence.give_up.swap(true, Ordering::Relaxed) {
                match running.saving {
                    Saving::Background => log::warning("There is a child saving an .rdb. Killing it!"),
                    Saving::Rewrite { .. } => log::warning("There is a child rewriting the AOF. Killing it!"),
                    Saving::Foreground(_) | Saving::Replicas { .. } | Saving::Shutdown | Saving::Reload(_) => {}
                }
            }
            (rdb.scheduled, rdb.after_flush) = (false, false);
            return;
        }
        drop(rdb);
        if !save && (no_save || self.core.config.save.is_empty()) {
            node.shutdown.request();
            self.mesh.ring_all();
            return;
        }
        // If another save has begun at this moment: once more in the next turn.
        if node.persistence.begin_save(Saving::Shutdown, self.core.now / 1000) {
            log::notice("Saving the final RDB snapshot before exiting.");
            node.shutdown.hold_data();
            self.core.to_save.push(Saving::Shutdown);
        }
    }
}

/// The node's part in replication changes.
fn switch(core: &Core, shards: &mut [Box<Shard>], mode: Mode) {
    let replication = &core.node.replication;
    replication.set_mode(mode);
    let records = mode.feeds || core.node.persistence.logging.load(Ordering::Acquire);
    let replica = replication.role(&core.config);
    for shard in shards {
        shard.effects.enabled = records;
        shard.settings.replica = replica;
    }
}
