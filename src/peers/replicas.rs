//! The replicas of this node: their snapshots, their connections, and the clients that wait for them.

use super::Peers;
use super::connection::{Outbox, Post};
use super::contract::{Disks, SnapshotStep, Wait};
use crate::config::Config;
use crate::coordinator::status::Saving;
use crate::observe::{clock, log};
use crate::replication::history::{Offset, Standing};
use crate::replication::primary::request::{About, Request};
use crate::replication::primary::{self, Close, Input, OtherSave, Output, ReplicaId};
use crossbeam_channel::Sender;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Default)]
pub(super) struct Replicas {
    outboxes: HashMap<ReplicaId, Outbox>,
    /// Clients that wait for replicas, each with the place that they are to reach.
    waits: Vec<(Wait, Offset)>,
    ending: Option<Ending>,
    /// Of a snapshot that is streamed, not yet with the machine.
    pieces: VecDeque<Vec<u8>>,
    /// All of its pieces have come.
    is_whole: bool,
    /// A snapshot on disk.
    file: Option<File>,
}

/// SHUTDOWN waits for the replicas.
struct Ending {
    until_ms: i64,
    /// Cores that write no more.
    cores: usize,
    /// What the replicas are to have, and for what of it they were asked.
    place: Offset,
    asked: Option<Offset>,
}

impl Replicas {
    pub fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// The cores have written more after all.
    pub fn move_ending(&mut self, place: Offset) {
        if let Some(ending) = &mut self.ending {
            ending.place = place;
        }
    }

    pub fn outboxes(&self) -> impl Iterator<Item = &Outbox> {
        self.outboxes.values()
    }
}

impl Peers {
    fn step(&mut self, input: Input<'_>) {
        self.machine.step_replicas(clock::wall_ms(), input, &mut self.outputs);
        self.settle();
    }

    pub(super) fn perform_for_replicas(&mut self, output: Output) {
        match output {
            Output::Send { to, bytes } => self.post(to, Post::Bytes(bytes)),
            Output::SendFile { to, bytes } => {
                if let Some(file) = self.replicas.file.as_ref().and_then(|file| file.try_clone().ok()) {
                    self.post(to, Post::File { file, bytes });
                }
            }
            Output::Refuse { to, reply } => {
                self.post(to, Post::Bytes(reply.into_bytes().into()));
                self.post(to, Post::End);
            }
            Output::Close { replica, how: Close::AfterOutput } => self.post(replica, Post::End),
            Output::Close { replica, how: how @ (Close::Now | Close::OverLimit) } => {
                if let Some(outbox) = self.replicas.outboxes.remove(&replica) {
                    if how == Close::OverLimit {
                        let client = outbox.about.line(clock::wall_ms());
                        log::warning(&format!(
                            "Client {client} scheduled to be closed ASAP for overcoming of output buffer limits."
                        ));
                    }
                    outbox.shut_down();
                }
            }
            Output::BeginSnapshot { target, contents } => {
                self.node.replication.wish(|wishes| wishes.snapshot = Some((target, contents)));
                self.to_cores.wake(0);
            }
            Output::GiveUpSnapshot => self.give_up_snapshot(),
            // The machine of both sides says it in another way.
            Output::Feed(_) => {}
            Output::Log(level, message) => log::write(level, &message),
        }
    }

    fn post(&self, to: ReplicaId, post: Post) {
        if let Some(outbox) = self.replicas.outboxes.get(&to) {
            outbox.post(post);
        }
    }

    // ---- snapshots ----

    /// What saves the node has under way for reasons of its own.
    pub(super) fn other_save(&self) -> OtherSave {
        match self.node.persistence.rdb().running.map(|running| running.saving) {
            None | Some(Saving::Replicas { .. }) => OtherSave::None,
            Some(Saving::Rewrite { .. }) => OtherSave::Rewrite,
            Some(_) => OtherSave::Rdb,
        }
    }

    pub(super) fn cut(&mut self, for_replicas: bool, standing: &Sender<Standing>) {
        self.stream_on();
        if let Some(at) = self.standing() {
            // A snapshot that was given up wants to know nothing.
            let _gone = standing.send(at);
        }
        if for_replicas {
            self.selected = None;
            (self.replicas.pieces, self.replicas.is_whole, self.replicas.file) = (VecDeque::new(), false, None);
            let at = self.place_of_shards();
            self.step(Input::SnapshotBegun { at });
        }
    }

    pub(super) fn snapshot(&mut self, step: SnapshotStep) {
        match step {
            SnapshotStep::Bytes(bytes) => self.replicas.pieces.push_back(bytes),
            SnapshotStep::Whole => self.replicas.is_whole = true,
            SnapshotStep::File(path) => {
                let opened = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
                match opened {
                    Ok((file_bytes, file)) => {
                        self.replicas.file = Some(file);
                        if self.config.rdb_del_sync_files && !self.config.keeps_data() {
                            let name = path.file_name().unwrap_or_default().to_string_lossy();
                            log::notice(&format!(
                                "Removing the RDB file {name} used to feed replicas in a persistence-less instance"
                            ));
                            // What is open can still be read.
                            let _gone_already = std::fs::remove_file(&path);
                        }
                        self.step(Input::SnapshotDone { file_bytes });
                    }
                    Err(error) => {
                        log::warning(&format!("SYNC failed. Can't open/stat DB after BGSAVE: {error}"));
                        self.step(Input::SnapshotFailed);
                    }
                }
            }
            SnapshotStep::Failed => {
                self.drop_pieces();
                self.step(Input::SnapshotFailed);
            }
        }
        self.pump_snapshot();
    }

    /// Nobody is left to send them to.
    fn drop_pieces(&mut self) {
        self.replicas.pieces.drain(..).for_each(|piece| self.node.replication.took_snapshot_bytes(piece.len()));
    }

    /// Gives the machine as much of a streamed snapshot as it wants.
    pub(super) fn pump_snapshot(&mut self) {
        if !self.machine.primary().is_streaming() {
            self.drop_pieces();
        }
        while self.machine.primary().wants_chunk()
            && let Some(piece) = self.replicas.pieces.pop_front()
        {
            self.node.replication.took_snapshot_bytes(piece.len());
            self.machine.step_replicas(clock::wall_ms(), Input::SnapshotChunk(piece), &mut self.outputs);
            self.perform();
        }
        if self.replicas.is_whole && self.replicas.pieces.is_empty() {
            self.replicas.is_whole = false;
            self.step(Input::SnapshotDone { file_bytes: 0 });
        }
    }

    fn give_up_snapshot(&mut self) {
        if self.node.replication.give_up_snapshot_wish() {
            return self.machine.step_replicas(clock::wall_ms(), Input::SnapshotFailed, &mut self.outputs);
        }
        let persistence = &self.node.persistence;
        if persistence.rdb().running.is_some_and(|running| matches!(running.saving, Saving::Replicas { .. })) {
            persistence.give_up.store(true, Ordering::Relaxed);
        }
    }

    // ---- connections ----

    pub(super) fn attached(&mut self, about: About, request: Request, input: &[u8], outbox: Outbox) -> ReplicaId {
        let replica = ReplicaId(outbox.about.id);
        self.replicas.outboxes.insert(replica, outbox);
        self.stream_on();
        self.step(Input::Sync { replica, about, request });
        if !input.is_empty() {
            self.replica_said(replica, input);
        }
        replica
    }

    pub(super) fn replica_said(&mut self, replica: ReplicaId, bytes: &[u8]) {
        self.step(Input::Received { replica, bytes });
    }

    pub(super) fn sent_to_replica(&mut self, replica: ReplicaId, bytes: u64) {
        self.machine.step_replicas(clock::wall_ms(), Input::Sent { replica, bytes }, &mut self.outputs);
        self.perform();
        self.pump_snapshot();
    }

    pub(super) fn replica_closed(&mut self, replica: ReplicaId) {
        if let Some(outbox) = self.replicas.outboxes.remove(&replica) {
            outbox.shut_down();
            self.step(Input::Closed { replica });
            self.pump_snapshot();
        }
    }

    // ---- WAIT and WAITAOF ----

    pub(super) fn wait(&mut self, wait: Wait) {
        self.stream_on();
        let place = self.written();
        if self.answered(&wait, place) {
            return;
        }
        self.replicas.waits.push((wait, place));
        self.machine.request_acks(clock::wall_ms(), &mut self.outputs);
        self.perform();
        self.node.replication.publish_offset(&self.machine, self.written());
    }

    /// Answers if it is reached and nobody else has claimed the client.
    fn answered(&self, wait: &Wait, place: Offset) -> bool {
        let is_placed = |disks: &Disks| disks.mark.as_ref().is_none_or(|mark| mark.is_placed());
        let is_own_reached = |disks: &Disks| is_placed(disks) && (!disks.needs_own || self.is_on_disk(disks));
        let is_reached = self.replicas_at(wait, place) as u64 >= wait.replicas && wait.disks.as_ref().is_none_or(is_own_reached);
        let answers = is_reached && !wait.claimed.swap(true, Ordering::AcqRel);
        if answers {
            self.say_how_far(wait, place);
        }
        answers
    }

    fn say_how_far(&self, wait: &Wait, place: Offset) {
        let replicas = self.replicas_at(wait, place);
        let reply = match &wait.disks {
            None => format!(":{replicas}\r\n"),
            Some(disks) => format!("*2\r\n:{}\r\n:{replicas}\r\n", u8::from(self.is_on_disk(disks))),
        };
        self.answer(Some(wait.asker), reply.as_bytes());
    }

    fn replicas_at(&self, wait: &Wait, place: Offset) -> usize {
        let primary = self.machine.primary();
        if wait.disks.is_none() { primary.acked_by(place) } else { primary.on_disk_of(place) }
    }

    fn is_on_disk(&self, disks: &Disks) -> bool {
        self.node.persistence.is_appended() && disks.mark.as_ref().is_some_and(|mark| mark.is_synced())
    }

    pub(super) fn answer_waits(&mut self) {
        if !self.replicas.waits.is_empty() {
            let mut waits = std::mem::take(&mut self.replicas.waits);
            waits.retain(|(wait, place)| !self.answered(wait, *place));
            self.replicas.waits = waits;
        }
    }

    pub(super) fn end_wait(&mut self, claimed: &Arc<AtomicBool>, answers: bool) {
        let at = self.replicas.waits.iter().position(|(wait, _)| Arc::ptr_eq(&wait.claimed, claimed));
        if let Some((wait, place)) = at.map(|at| self.replicas.waits.swap_remove(at))
            && answers
        {
            self.say_how_far(&wait, place);
        }
    }

    // ---- SHUTDOWN ----

    pub(super) fn ending(&mut self, until_ms: i64) {
        if self.node.shutdown.until_ms() != until_ms || self.node.shutdown.has_waited() {
            // Of an end that was called off, or has been waited for.
            return;
        }
        self.stream_on();
        let place = self.machine.offset();
        let known = self.replicas.ending.take().filter(|ending| ending.until_ms == until_ms);
        let Ending { cores, asked, .. } = known.unwrap_or(Ending { until_ms, cores: 0, place, asked: None });
        self.replicas.ending = Some(Ending { until_ms, cores: cores + 1, place, asked });
        self.settle();
    }

    /// Lets the node end when the replicas have everything, or the time is up.
    pub(super) fn look_at_ending(&mut self) {
        let Some(ending) = &mut self.replicas.ending else { return };
        if self.node.shutdown.until_ms() == 0 {
            self.replicas.ending = None;
            return;
        }
        let (now, place) = (clock::wall_ms(), ending.place);
        let is_over = now >= ending.until_ms;
        if ending.cores < self.node.cores && !is_over {
            return;
        }
        let (all, lagging) = self.machine.primary().lagging(place, now);
        if lagging.is_empty() || is_over {
            lagging.iter().for_each(|line| log::warning(line));
            if all > 0 {
                log::notice(&format!("{} of {all} replicas are in sync when shutting down.", all - lagging.len()));
            }
            self.replicas.ending = None;
            self.node.shutdown.replicas_are_done();
            self.to_cores.wake(0);
        } else if ending.asked != Some(place) {
            if ending.asked.replace(place).is_none() {
                log::notice("Waiting for replicas before shutting down.");
            }
            self.machine.request_acks(now, &mut self.outputs);
        }
    }
}

/// The directives that a primary goes by.
pub(super) fn directives(config: &Config) -> primary::Config {
    let limit = &config.client_output_buffer_limit.replica;
    primary::Config {
        repl_diskless_sync: config.repl_diskless_sync,
        repl_diskless_sync_delay_s: config.repl_diskless_sync_delay,
        repl_diskless_sync_max_replicas: config.repl_diskless_sync_max_replicas,
        repl_backlog_size: config.repl_backlog_size,
        repl_backlog_ttl_s: config.repl_backlog_ttl,
        repl_timeout_s: config.repl_timeout,
        repl_ping_replica_period_s: config.repl_ping_replica_period,
        hard_bytes: limit.hard_bytes,
        soft_bytes: limit.soft_bytes,
        soft_s: limit.soft_seconds,
        has_save_points: !config.save.is_empty(),
    }
}
