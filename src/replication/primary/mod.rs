//! The primary's side: what is said to the replicas of this node, and what they say.
//!
//! Owns the history, the backlog and the replicas attached; a replica with replicas of its own has the same, fed by
//! [`link`](super::link). Refuses to know sockets, shards and files: [`Input`] says what has happened, [`Output`] what is to be done.
//!
//! ```text
//! PSYNC ─┬─ the backlog has what follows ─────────────────── +CONTINUE ──▶ online
//!        └─ it has not ─▶ waits for a cut ─ +FULLRESYNC ─▶ waits for the end of the snapshot ─┬─ streamed: online, silent until ACK
//!                                                                                             └─ a file: is sent it ─▶ online
//! ```
//!
//! A replica has a place in the stream from the cut on, and is sent what follows in [`Chunk`]s of the backlog, a window at
//! a time: whatever its connection has not taken stays where it is, once for all replicas. What that may come to is bounded by
//! `client-output-buffer-limit replica`.
//!
//! Time is in milliseconds of any clock that does not go back.

mod contract;
pub mod facts;
mod full_sync;
mod replica;
pub mod request;
#[cfg(test)]
mod tests;

pub use contract::{Close, Config, Counts, Input, OtherSave, Output, Target, Upstream};
pub use replica::ReplicaId;

use super::backlog::Backlog;
use super::history::{History, Mismatch, Offset, ReplId, Standing, signed};
use crate::observe::log::Level;
use full_sync::Snapshot;
use replica::{Replica, State};
use request::{About, Request};
use std::collections::BTreeMap;

/// Bytes of the stream, or of a streamed snapshot, that are given out for a replica before any of them is sent.
pub const WINDOW_BYTES: u64 = 256 << 10;
/// How often [`Input::Tick`] does something.
const CRON_MS: i64 = 1000;

const PING: &[u8] = b"*1\r\n$4\r\nping\r\n";
const GETACK: &[u8] = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";

/// Where ids that nobody has had before come from.
pub type NewId = Box<dyn FnMut() -> ReplId + Send>;

pub struct Primary {
    pub config: Config,
    pub counts: Counts,
    /// PINGs would move the offset while a failover waits for replicas to have all of it.
    pub holds_pings: bool,
    /// The node's last snapshot is cut: a PING would be behind its place, and the replicas could not continue after the restart.
    pub is_ending: bool,
    history: History,
    backlog: Option<Backlog>,
    /// In the order of their arrival.
    replicas: Vec<(ReplicaId, Replica)>,
    upstream: Upstream,
    snapshot: Snapshot,
    other_save: OtherSave,
    /// Up to where anybody else is known to have the history.
    acknowledged: Offset,
    no_replicas_since: i64,
    next_cron_ms: i64,
    cron_loops: u64,
    new_id: NewId,
}

impl Primary {
    /// A node that begins as a primary, without any history but its own.
    pub fn new(config: Config, mut new_id: NewId, now: i64) -> Primary {
        Primary {
            config,
            counts: Counts::default(),
            holds_pings: false,
            is_ending: false,
            history: History::new(new_id()),
            backlog: None,
            replicas: Vec::new(),
            upstream: Upstream::None,
            snapshot: Snapshot::None,
            other_save: OtherSave::None,
            acknowledged: Offset(0),
            no_replicas_since: now,
            next_cron_ms: now,
            cron_loops: 1,
            new_id,
        }
    }

    pub fn history(&self) -> &History {
        &self.history
    }

    pub fn backlog(&self) -> Option<&Backlog> {
        self.backlog.as_ref()
    }

    /// Up to where some replica has acknowledged the history, or another node has had it before.
    pub fn acknowledged(&self) -> Offset {
        self.acknowledged
    }

    /// Whether the stream is wanted.
    pub fn is_fed(&self) -> bool {
        self.backlog.is_some()
    }

    pub fn step(&mut self, now: i64, input: Input<'_>, out: &mut Vec<Output>) {
        match input {
            Input::Sync { replica, about, request } => self.sync(now, replica, about, request, out),
            Input::Received { replica, bytes } => self.received(now, replica, bytes, out),
            Input::Sent { replica, bytes } => self.sent(now, replica, bytes, out),
            Input::Closed { replica } => self.remove(now, replica, out),
            Input::OtherSave(save) => {
                self.other_save = save;
                self.begin_pending(now, out);
            }
            Input::SnapshotBegun { at } => self.snapshot_begun(now, at, out),
            Input::SnapshotChunk(bytes) => self.snapshot_chunk(now, bytes, out),
            Input::SnapshotDone { file_bytes } => self.snapshot_done(now, file_bytes, out),
            Input::SnapshotFailed => self.snapshot_failed(now, out),
            Input::Tick => self.tick(now, out),
        }
    }

    /// The stream goes on with these bytes: whole commands, whole blocks. Nothing happens while it is not wanted.
    pub fn append(&mut self, now: i64, bytes: &[u8], out: &mut Vec<Output>) {
        let Some(backlog) = &mut self.backlog else { return };
        backlog.append(bytes);
        self.history.advance(bytes.len() as u64);
        self.pump_all(now, out);
        self.close_over_limit(now, out);
        self.trim();
    }

    /// Asks the replicas to say how far they are, for somebody who waits for that.
    pub fn request_acks(&mut self, now: i64, out: &mut Vec<Output>) {
        if self.upstream == Upstream::None && !self.replicas.is_empty() {
            self.append(now, GETACK, out);
        }
    }

    // ---- the node's own role ----

    /// The directives have changed.
    pub fn configure(&mut self, config: Config) {
        if let Some(backlog) = &mut self.backlog {
            backlog.resize(config.repl_backlog_size);
        }
        self.config = config;
        self.trim();
    }

    /// What an RDB file says that a primary has loaded at its start.
    pub fn restore(&mut self, now: i64, stored: Standing, out: &mut Vec<Output>) {
        self.history.restore_as_primary(stored);
        self.acknowledged = stored.offset;
        self.no_replicas_since = now;
        self.need_backlog(out);
    }

    pub fn set_upstream(&mut self, upstream: Upstream) {
        self.upstream = upstream;
    }

    /// The node is a primary from now on: a new id, and the replicas ask anew to hear of it.
    pub fn promote(&mut self, now: i64, out: &mut Vec<Output>) {
        let id = (self.new_id)();
        let line = self.history.shift(id);
        self.acknowledged = self.history.offset();
        log(out, Level::Warning, line);
        self.upstream = Upstream::None;
        self.disconnect_all(now, out);
        self.no_replicas_since = now;
    }

    /// The node's primary goes on under another id.
    pub fn continue_as(&mut self, now: i64, id: ReplId, out: &mut Vec<Output>) {
        self.history.continue_as(id);
        self.disconnect_all(now, out);
    }

    /// The node's data is about to be replaced: what it has of the stream is worth nothing.
    pub fn drop_history(&mut self, now: i64, out: &mut Vec<Output>) {
        self.disconnect_all(now, out);
        self.give_up_ordered_snapshot(out);
        if self.backlog.take().is_some() {
            out.push(Output::Feed(false));
        }
    }

    /// The node has loaded its primary's data.
    pub fn adopt(&mut self, id: ReplId, offset: Offset, out: &mut Vec<Output>) {
        self.history.adopt(id, offset);
        self.acknowledged = offset;
        self.backlog = None;
        self.need_backlog(out);
    }

    /// The same, if its primary has not said where in which history that is.
    pub fn adopt_unnamed(&mut self, out: &mut Vec<Output>) {
        let id = (self.new_id)();
        self.adopt(id, Offset(0), out);
    }

    /// What an RDB file says that a replica has loaded at its start.
    pub fn restore_as_replica(&mut self, stored: Standing) {
        self.history.restore_as_replica(stored);
    }

    /// The node continues with its primary where it stood: a backlog begins here, if there is none.
    pub fn need_backlog(&mut self, out: &mut Vec<Output>) {
        if self.backlog.is_none() {
            self.backlog = Some(Backlog::new(self.config.repl_backlog_size, self.history.offset()));
            out.push(Output::Feed(true));
        }
    }

    /// DEBUG CHANGE-REPL-ID.
    pub fn change_id(&mut self) {
        let id = (self.new_id)();
        self.history.begin_anew(id);
    }

    // ---- attaching ----

    fn sync(&mut self, now: i64, id: ReplicaId, about: About, request: Request, out: &mut Vec<Output>) {
        if self.find(id).is_some() {
            return;
        }
        let refused = match self.upstream {
            Upstream::Down => Some("-NOMASTERLINK Can't SYNC while not connected with my master\r\n"),
            _ if about.contents.is_filtered() && !about.eof => Some("-ERR Filtered replica requires EOF capability\r\n"),
            _ => None,
        };
        if let Some(reply) = refused {
            return out.push(Output::Refuse { to: id, reply: reply.to_owned() });
        }
        log(out, Level::Notice, format!("Replica {} asks for synchronization", about.name()));
        let is_old = request == Request::Sync;
        if let Request::Psync { id: history, offset, .. } = request {
            match self.may_continue(&history, offset, &about, out) {
                Some(place) => return self.continue_from(now, id, about, place, out),
                None => self.counts.sync_partial_err += u64::from(history.first() != Some(&b'?')),
            }
        }
        self.counts.sync_full += 1;
        self.replicas.push((id, Replica::new(about, is_old, State::WaitsForCut, now)));
        if self.replicas.len() == 1 && self.backlog.is_none() {
            // A new history: without a backlog nothing of the old one was counted.
            let fresh = (self.new_id)();
            self.history.begin_anew(fresh);
            self.need_backlog(out);
            let ids = format!("'{}' and '{}'", self.history.id(), self.history.second_id());
            log(out, Level::Notice, format!("Replication backlog created, my new replication IDs are {ids}"));
        }
        self.wait_for_snapshot(now, id, out);
    }

    /// From where a replica can be sent what it lacks; or the log says why it cannot.
    fn may_continue(&self, id: &[u8], requested: i64, about: &About, out: &mut Vec<Output>) -> Option<Offset> {
        let (name, asked) = (about.name(), request::printable(id));
        if let Err(mismatch) = self.history.may_continue(id, requested) {
            let (first, second) = (self.history.id(), self.history.second_id());
            let why = match mismatch {
                Mismatch::NotAsked => format!("Full resync requested by replica {name}"),
                Mismatch::UnknownId => format!(
                    "Partial resynchronization not accepted: Replication ID mismatch \
                     (Replica asked for '{asked}', my replication IDs are '{first}' and '{second}')"
                ),
                Mismatch::BeyondSecondId => format!(
                    "Partial resynchronization not accepted: Requested offset for second ID was {requested}, \
                     but I can reply up to {}",
                    self.history.second_repl_offset()
                ),
            };
            log(out, Level::Notice, why);
            return None;
        }
        let place = requested.checked_sub(1).and_then(|place| u64::try_from(place).ok()).map(Offset);
        let place = place.filter(|place| self.backlog.as_ref().is_some_and(|backlog| backlog.covers(*place)));
        if place.is_none() {
            let what = format!("Unable to partial resync with replica {name} for lack of backlog");
            log(out, Level::Notice, format!("{what} (Replica request was: {requested})."));
            if requested > signed(self.history.offset().0) {
                let what = "tried to PSYNC with an offset that is greater than the master replication offset.";
                log(out, Level::Warning, format!("Warning: replica {name} {what}"));
            }
        }
        place
    }

    fn continue_from(&mut self, now: i64, id: ReplicaId, about: About, place: Offset, out: &mut Vec<Output>) {
        let reply = if about.psync2 { format!("+CONTINUE {}\r\n", self.history.id()) } else { "+CONTINUE\r\n".to_owned() };
        let bytes = self.history.offset().since(place);
        let accepted = format!("Partial resynchronization request from {} accepted.", about.name());
        let mut replica = Replica::new(about, false, State::Online { until_ack: false }, now);
        replica.place = place;
        self.replicas.push((id, replica));
        self.counts.sync_partial_ok += 1;
        self.send(now, id, reply.into_bytes(), out);
        let from = place.next_byte();
        log(out, Level::Notice, format!("{accepted} Sending {bytes} bytes of backlog starting from offset {from}."));
        self.pump_all(now, out);
    }

    // ---- attached ----

    fn received(&mut self, now: i64, id: ReplicaId, bytes: &[u8], out: &mut Vec<Output>) {
        let end = self.history.offset();
        let Some((_, replica)) = self.replicas.iter_mut().find(|(found, _)| *found == id) else { return };
        replica.heard_ms = now;
        let mut input = std::mem::take(&mut replica.input);
        let good = input.acks(bytes, |ack| {
            replica.acked = replica.acked.max(Offset(ack.offset));
            self.acknowledged = self.acknowledged.max(replica.acked.min(end));
            let on_disk = ack.on_disk.map(Offset);
            replica.acked_on_disk = replica.acked_on_disk.max(on_disk);
            replica.acked_ms = now;
            if let State::Online { until_ack } = &mut replica.state {
                *until_ack = false;
            }
        });
        replica.input = input;
        match good {
            Ok(()) => self.pump_all(now, out),
            Err(replica::Nonsense) => self.close(now, id, Close::Now, out),
        }
    }

    fn sent(&mut self, now: i64, id: ReplicaId, bytes: u64, out: &mut Vec<Output>) {
        let Some(replica) = self.find(id) else { return };
        replica.sent(bytes, now);
        match replica.state {
            State::File if replica.in_flight == 0 => self.put_online(now, id, false, out),
            State::Leaving if replica.in_flight == 0 => return self.close(now, id, Close::Now, out),
            _ => {}
        }
        self.pump_all(now, out);
        self.trim();
    }

    /// Gives out what follows for those who have sent most of what they were given.
    fn pump_all(&mut self, now: i64, out: &mut Vec<Output>) {
        let Some(backlog) = &self.backlog else { return };
        for (id, replica) in &mut self.replicas {
            if !matches!(replica.state, State::Online { until_ack: false }) {
                continue;
            }
            debug_assert!(backlog.covers(replica.place), "what a replica has to be sent is kept");
            while replica.in_flight < WINDOW_BYTES
                && let Some(bytes) = backlog.chunk(replica.place, (WINDOW_BYTES - replica.in_flight) as usize)
            {
                replica.place = replica.place.plus(bytes.len() as u64);
                replica.gave_out(bytes.len() as u64, now);
                out.push(Output::Send { to: *id, bytes });
            }
        }
    }

    fn send(&mut self, now: i64, id: ReplicaId, bytes: Vec<u8>, out: &mut Vec<Output>) {
        if let Some(replica) = self.find(id) {
            replica.gave_out(bytes.len() as u64, now);
            out.push(Output::Send { to: id, bytes: bytes.into() });
        }
    }

    /// Drops what nobody needs.
    fn trim(&mut self) {
        let needed = self.replicas.iter().filter(|(_, replica)| replica.needs_stream()).map(|(_, replica)| replica.place).min();
        if let Some(backlog) = &mut self.backlog {
            backlog.trim(needed);
        }
    }

    fn close_over_limit(&mut self, now: i64, out: &mut Vec<Output>) {
        let (config, end) = (&self.config, self.history.offset());
        // A limit below the backlog's size would cut off whoever has just continued from it.
        let hard_bytes = config.hard_bytes.max(config.repl_backlog_size);
        let mut over = Vec::new();
        for (id, replica) in &mut self.replicas {
            let waiting = if replica.needs_stream() { end.since(replica.place) + replica.in_flight } else { 0 };
            let is_hard = config.hard_bytes > 0 && waiting >= hard_bytes;
            let is_soft = config.soft_bytes > 0 && waiting >= config.soft_bytes;
            let since = is_soft.then(|| *replica.soft_since.get_or_insert(now));
            replica.soft_since = since;
            let soft_ms = i64::try_from(config.soft_s.saturating_mul(1000)).unwrap_or(i64::MAX);
            if is_hard || since.is_some_and(|since| now.saturating_sub(since) > soft_ms) {
                over.push(*id);
            }
        }
        over.into_iter().for_each(|id| self.close(now, id, Close::OverLimit, out));
    }

    // ---- leaving ----

    fn close(&mut self, now: i64, id: ReplicaId, how: Close, out: &mut Vec<Output>) {
        out.push(Output::Close { replica: id, how });
        self.remove(now, id, out);
    }

    /// Its connection is no more.
    fn remove(&mut self, now: i64, id: ReplicaId, out: &mut Vec<Output>) {
        let Some(at) = self.replicas.iter().position(|(found, _)| *found == id) else { return };
        let (_, replica) = self.replicas.remove(at);
        log(out, Level::Warning, format!("Connection with replica {} lost.", replica.name()));
        if self.replicas.is_empty() {
            self.no_replicas_since = now;
        }
        if replica.state == State::WaitsForEnd {
            self.give_up_unwanted_snapshot(out);
        }
        self.trim();
    }

    fn disconnect_all(&mut self, now: i64, out: &mut Vec<Output>) {
        let ids: Vec<ReplicaId> = self.replicas.iter().map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.close(now, id, Close::Now, out));
    }

    // ---- time ----

    fn tick(&mut self, now: i64, out: &mut Vec<Output>) {
        if now < self.next_cron_ms {
            return;
        }
        self.next_cron_ms = now + CRON_MS;
        let period = u64::from(self.config.repl_ping_replica_period_s.max(1));
        let is_primary = self.upstream == Upstream::None;
        let pings = is_primary && !self.holds_pings && !self.is_ending;
        if self.cron_loops.is_multiple_of(period) && pings && !self.replicas.is_empty() {
            self.append(now, PING, out);
        }
        self.cron_loops += 1;
        self.keep_waiting_alive(now, out);
        self.close_timed_out(now, out);
        self.close_over_limit(now, out);
        self.free_backlog(now, out);
        self.begin_pending(now, out);
    }

    fn close_timed_out(&mut self, now: i64, out: &mut Vec<Output>) {
        let timeout_ms = i64::from(self.config.repl_timeout_s) * 1000;
        let streams = self.snapshot.is_streamed();
        let mut timed_out = BTreeMap::new();
        for (id, replica) in &self.replicas {
            let is_stuck = replica.stuck_since.is_some_and(|since| now.saturating_sub(since) > timeout_ms);
            let phase = match replica.state {
                State::Online { .. } if !replica.is_old && now.saturating_sub(replica.acked_ms) > timeout_ms => "streaming",
                State::WaitsForEnd if streams && is_stuck => "full",
                _ => continue,
            };
            timed_out.insert(*id, format!("Disconnecting timedout replica ({phase} sync): {}", replica.name()));
        }
        for (id, line) in timed_out {
            log(out, Level::Warning, line);
            self.close(now, id, Close::Now, out);
        }
    }

    /// After a time without replicas the backlog is given up, and with it the id: what is written from now on is not counted, so
    /// nobody may continue from the old one.
    fn free_backlog(&mut self, now: i64, out: &mut Vec<Output>) {
        let ttl_s = self.config.repl_backlog_ttl_s;
        let idle_s = now.saturating_sub(self.no_replicas_since).max(0) as u64 / 1000;
        let is_idle = self.replicas.is_empty() && self.upstream == Upstream::None;
        if ttl_s > 0 && is_idle && idle_s > ttl_s && self.backlog.take().is_some() {
            self.change_id();
            out.push(Output::Feed(false));
            log(out, Level::Notice, format!("Replication backlog freed after {ttl_s} seconds without connected replicas."));
        }
    }

    fn find(&mut self, id: ReplicaId) -> Option<&mut Replica> {
        self.replicas.iter_mut().find(|(found, _)| *found == id).map(|(_, replica)| replica)
    }
}

fn log(out: &mut Vec<Output>, level: Level, message: String) {
    out.push(Output::Log(level, message));
}
