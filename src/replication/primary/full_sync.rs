//! Full synchronization: who waits for which snapshot, and what becomes of them.
//!
//! One snapshot at a time. All replicas that wait when its cut is made share it, if they want the same contents; one that comes
//! while a snapshot is being written to disk joins it, as the backlog has everything since the cut.

use super::replica::State;
use super::request::{About, Contents};
use super::{Close, OtherSave, Output, Primary, ReplicaId, Target, log};
use crate::observe::log::Level;
use crate::replication::backlog::Chunk;
use crate::replication::history::{Offset, ReplId};

/// The snapshot for replicas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Snapshot {
    None,
    /// Its cut was ordered and is not made yet.
    Ordered {
        target: Target,
        contents: Contents,
    },
    /// To disk.
    Written,
    /// To the replicas' connections; it ends with the mark.
    Streamed {
        mark: ReplId,
    },
    /// Nobody wants it any more; its end has not come yet.
    GivenUp,
}

impl Snapshot {
    pub fn is_streamed(self) -> bool {
        matches!(self, Snapshot::Streamed { .. })
    }
}

impl Primary {
    /// A replica has come that needs a full synchronization.
    pub(super) fn wait_for_snapshot(&mut self, now: i64, id: ReplicaId, out: &mut Vec<Output>) {
        let Some(about) = self.find(id).map(|replica| replica.about.clone()) else { return };
        let notice = |out: &mut Vec<Output>, message: &str| log(out, Level::Notice, message.to_owned());
        let delayed = self.config.repl_diskless_sync && about.eof && self.config.repl_diskless_sync_delay_s > 0;
        match (self.snapshot, self.other_save) {
            (Snapshot::Written, _) | (Snapshot::None, OtherSave::Rdb) => match self.joinable(id, &about) {
                Some(cut) => {
                    self.attach(now, id, cut, out);
                    notice(out, "Waiting for end of BGSAVE for SYNC");
                }
                None => notice(out, "Can't attach the replica to the current BGSAVE. Waiting for next BGSAVE for SYNC"),
            },
            (Snapshot::Streamed { .. }, _) => notice(out, "Current BGSAVE has socket target. Waiting for next BGSAVE for SYNC"),
            // It will be part of that, if it wants the same.
            (Snapshot::Ordered { .. }, _) => {}
            (Snapshot::GivenUp, _) | (Snapshot::None, OtherSave::Rewrite) => {
                notice(out, "No BGSAVE in progress, but another BG operation is active. BGSAVE for replication delayed")
            }
            (Snapshot::None, OtherSave::None) if delayed => notice(out, "Delay next BGSAVE for diskless SYNC"),
            (Snapshot::None, OtherSave::None) => self.order(about.contents, about.eof, out),
        }
    }

    /// The cut of a snapshot on disk that another replica waits for, if this one can have the same.
    fn joinable(&self, id: ReplicaId, about: &About) -> Option<Offset> {
        let (_, other) = self.replicas.iter().find(|(other_id, other)| {
            let has_stream = !other.about.rdb_only || about.rdb_only;
            *other_id != id && other.state == State::WaitsForEnd && has_stream
        })?;
        let knows_as_much = about.eof >= other.about.eof && about.psync2 >= other.about.psync2;
        (knows_as_much && about.contents == other.contents()).then_some(other.place)
    }

    fn order(&mut self, contents: Contents, all_know_eof: bool, out: &mut Vec<Output>) {
        let streamed = (self.config.repl_diskless_sync || contents.is_filtered()) && all_know_eof;
        let target = if streamed { Target::Sockets } else { Target::Disk };
        let name = if streamed { "replicas sockets" } else { "disk" };
        log(out, Level::Notice, format!("Starting BGSAVE for SYNC with target: {name}"));
        self.snapshot = Snapshot::Ordered { target, contents };
        out.push(Output::BeginSnapshot { target, contents });
    }

    /// Orders the snapshot that replicas wait for, when it is time: the longer a streamed one is put off, the more share it.
    pub(super) fn begin_pending(&mut self, now: i64, out: &mut Vec<Output>) {
        if self.snapshot != Snapshot::None || self.other_save != OtherSave::None {
            return;
        }
        let mut waiting = self.replicas.iter().map(|(_, replica)| replica).filter(|replica| replica.state == State::WaitsForCut);
        let Some(first) = waiting.next() else { return };
        let contents = first.contents();
        let (mut all_know_eof, mut count, mut waited_ms) = (first.about.eof, 1, now - first.heard_ms);
        for replica in waiting.filter(|replica| replica.contents() == contents) {
            all_know_eof &= replica.about.eof;
            waited_ms = waited_ms.max(now - replica.heard_ms);
            count += 1;
        }
        let config = &self.config;
        let enough = config.repl_diskless_sync_max_replicas;
        let is_time = !config.repl_diskless_sync
            || (enough > 0 && count >= enough)
            || waited_ms / 1000 >= i64::from(config.repl_diskless_sync_delay_s);
        if is_time {
            self.order(contents, all_know_eof, out);
        }
    }

    /// The cut is made.
    pub(super) fn snapshot_begun(&mut self, now: i64, at: Offset, out: &mut Vec<Output>) {
        let Snapshot::Ordered { target, contents } = self.snapshot else { return };
        let streamed = target == Target::Sockets;
        let fits = self.backlog.as_ref().is_some_and(|backlog| backlog.covers(at));
        let joins = |replica: &super::Replica| {
            fits && replica.state == State::WaitsForCut && replica.contents() == contents && (replica.about.eof || !streamed)
        };
        let ids: Vec<ReplicaId> = self.replicas.iter().filter(|(_, replica)| joins(replica)).map(|(id, _)| *id).collect();
        if ids.is_empty() {
            self.snapshot = Snapshot::GivenUp;
            return out.push(Output::GiveUpSnapshot);
        }
        let mark = (self.new_id)();
        self.snapshot = if streamed { Snapshot::Streamed { mark } } else { Snapshot::Written };
        for id in ids {
            self.attach(now, id, at, out);
            if streamed {
                self.send(now, id, format!("$EOF:{mark}\r\n").into_bytes(), out);
            }
        }
    }

    /// A replica is part of the snapshot with this cut.
    fn attach(&mut self, now: i64, id: ReplicaId, cut: Offset, out: &mut Vec<Output>) {
        let reply = format!("+FULLRESYNC {} {cut}\r\n", self.history.id());
        let Some(replica) = self.find(id) else { return };
        replica.state = State::WaitsForEnd;
        replica.place = cut;
        if !replica.is_old {
            self.send(now, id, reply.into_bytes(), out);
        }
    }

    /// The replicas that the snapshot is streamed to.
    fn streamed_to(&self) -> impl Iterator<Item = &(ReplicaId, super::Replica)> {
        self.replicas.iter().filter(|(_, replica)| self.snapshot.is_streamed() && replica.state == State::WaitsForEnd)
    }

    /// A snapshot is being streamed, and somebody wants it.
    pub fn is_streaming(&self) -> bool {
        self.snapshot.is_streamed()
    }

    /// Whether the next piece of a streamed snapshot may come. The slowest of its replicas decides.
    pub fn wants_chunk(&self) -> bool {
        self.snapshot.is_streamed() && self.streamed_to().all(|(_, replica)| replica.in_flight < super::WINDOW_BYTES)
    }

    pub(super) fn snapshot_chunk(&mut self, now: i64, bytes: Vec<u8>, out: &mut Vec<Output>) {
        let ids: Vec<ReplicaId> = self.streamed_to().map(|(id, _)| *id).collect();
        let bytes = Chunk::from(bytes);
        for id in ids {
            if let Some(replica) = self.find(id) {
                replica.gave_out(bytes.len() as u64, now);
                out.push(Output::Send { to: id, bytes: bytes.clone() });
            }
        }
    }

    pub(super) fn snapshot_done(&mut self, now: i64, file_bytes: u64, out: &mut Vec<Output>) {
        let waiting: Vec<ReplicaId> =
            self.replicas.iter().filter(|(_, replica)| replica.state == State::WaitsForEnd).map(|(id, _)| *id).collect();
        match std::mem::replace(&mut self.snapshot, Snapshot::None) {
            Snapshot::Streamed { mark } => {
                let up = waiting.len();
                log(out, Level::Warning, format!("Diskless rdb transfer, done reading from pipe, {up} replicas still up."));
                for id in waiting {
                    self.send(now, id, mark.as_str().as_bytes().to_vec(), out);
                    self.put_online(now, id, true, out);
                }
            }
            Snapshot::Written => {
                for id in waiting {
                    self.send(now, id, format!("${file_bytes}\r\n").into_bytes(), out);
                    if let Some(replica) = self.find(id) {
                        replica.state = State::File;
                        replica.gave_out(file_bytes, now);
                        out.push(Output::SendFile { to: id, bytes: file_bytes });
                    }
                }
            }
            Snapshot::None | Snapshot::Ordered { .. } | Snapshot::GivenUp => {}
        }
        self.begin_pending(now, out);
    }

    pub(super) fn snapshot_failed(&mut self, now: i64, out: &mut Vec<Output>) {
        let before_the_cut = match std::mem::replace(&mut self.snapshot, Snapshot::None) {
            Snapshot::None => return,
            Snapshot::GivenUp => return self.begin_pending(now, out),
            Snapshot::Ordered { .. } => true,
            Snapshot::Written | Snapshot::Streamed { .. } => false,
        };
        let lost = if before_the_cut { State::WaitsForCut } else { State::WaitsForEnd };
        let ids: Vec<ReplicaId> = self.replicas.iter().filter(|(_, replica)| replica.state == lost).map(|(id, _)| *id).collect();
        if before_the_cut {
            log(out, Level::Warning, "BGSAVE for replication failed".to_owned());
        }
        for id in ids {
            if before_the_cut {
                self.send(now, id, b"-ERR BGSAVE failed, replication can't continue\r\n".to_vec(), out);
                self.close(now, id, Close::AfterOutput, out);
            } else {
                log(out, Level::Warning, "SYNC failed. BGSAVE child returned an error".to_owned());
                self.close(now, id, Close::Now, out);
            }
        }
    }

    /// A replica that waited for the snapshot has gone: perhaps nobody else does.
    pub(super) fn give_up_unwanted_snapshot(&mut self, out: &mut Vec<Output>) {
        if self.replicas.iter().any(|(_, replica)| replica.state == State::WaitsForEnd) {
            return;
        }
        match self.snapshot {
            Snapshot::Streamed { .. } => {
                let line = "Diskless rdb transfer, last replica dropped, killing fork child.";
                log(out, Level::Warning, line.to_owned());
            }
            Snapshot::Written if !self.config.has_save_points => {}
            _ => return,
        }
        self.snapshot = Snapshot::GivenUp;
        out.push(Output::GiveUpSnapshot);
    }

    /// The cut that was ordered would be one of another history.
    pub(super) fn give_up_ordered_snapshot(&mut self, out: &mut Vec<Output>) {
        if matches!(self.snapshot, Snapshot::Ordered { .. }) {
            self.snapshot = Snapshot::GivenUp;
            out.push(Output::GiveUpSnapshot);
        }
    }

    /// It has the snapshot, or what is left of it is on its way.
    pub(super) fn put_online(&mut self, now: i64, id: ReplicaId, until_ack: bool, out: &mut Vec<Output>) {
        let Some(replica) = self.find(id) else { return };
        let name = replica.name();
        if until_ack {
            let waits = "Waiting for REPLCONF ACK from slave to enable streaming";
            log(out, Level::Notice, format!("Streamed RDB transfer with replica {name} succeeded (socket). {waits}"));
        }
        if !replica.about.rdb_only {
            replica.state = State::Online { until_ack };
            replica.acked_ms = now;
            return log(out, Level::Notice, format!("Synchronization with replica {name} succeeded"));
        }
        replica.state = State::Leaving;
        let is_sent = replica.in_flight == 0;
        let line = format!("RDB transfer completed, rdb only replica ({name}) should be disconnected asap");
        log(out, Level::Notice, line);
        if is_sent {
            self.close(now, id, Close::Now, out);
        }
    }

    /// Newlines for those that wait for a file, so that they know this node is there.
    pub(super) fn keep_waiting_alive(&mut self, now: i64, out: &mut Vec<Output>) {
        let streams = self.snapshot.is_streamed();
        let waits = |state| state == State::WaitsForCut || (state == State::WaitsForEnd && !streams);
        let waiting: Vec<ReplicaId> =
            self.replicas.iter().filter(|(_, replica)| waits(replica.state)).map(|(id, _)| *id).collect();
        waiting.into_iter().for_each(|id| self.send(now, id, b"\n".to_vec(), out));
    }
}
