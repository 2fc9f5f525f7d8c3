//! The stream of a replica's primary, as the first core runs it: by a client without a socket, as every other client's commands are
//! run, so that they reach all cores.
//!
//! Parts of the stream are begun in their order, each when the one before has been taken; what other cores still owe to earlier ones
//! may be outstanding meanwhile. A part counts as applied when all of it is done, and that is told.
//!
//! A save has to know which place of the stream its cut is at: it has the stream held between two parts, until the cut is made.

use super::Engine;
use crate::core::connection::Stall;
use crate::core::reorder::Place;
use crate::peers::contract::ToPeers;
use kvshard::keyspace::ClientId;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;

/// Whole commands of the stream.
pub struct Part {
    pub bytes: Vec<u8>,
    /// The place of the stream behind them, if that is no place within a block.
    pub end: u64,
}

#[derive(Default)]
pub struct Applier {
    /// The connection that runs the commands, with its generation.
    client: Option<(usize, u32)>,
    queue: VecDeque<Part>,
    /// The end of the part that is being taken.
    current: Option<u64>,
    /// Parts that were taken: the last reply that each waits for, and its end.
    outstanding: VecDeque<(Option<Place>, u64)>,
}

impl Engine {
    /// A part of the stream has come.
    pub(super) fn stream_part(&mut self, part: Part) {
        self.applier.queue.push_back(part);
    }

    /// The stream ends here. What has come of it and was not begun is forgotten.
    pub(super) fn forget_stream(&mut self) {
        if let Some(index) = self.applying_client() {
            self.connection_ended(index);
        }
        self.applier = Applier::default();
    }

    fn applying_client(&self) -> Option<usize> {
        let (index, generation) = self.applier.client?;
        self.core.connections.get(index).filter(|connection| connection.generation == generation).map(|_| index)
    }

    /// Goes on with the stream. True if anything was done.
    #[inline]
    pub fn apply_stream(&mut self) -> bool {
        let Applier { queue, current, outstanding, .. } = &self.applier;
        let is_held = self.core.id == 0 && self.core.node.replication.stream_holds.load(Ordering::Acquire) > 0;
        if queue.is_empty() && current.is_none() && outstanding.is_empty() && !is_held {
            return false;
        }
        self.apply_parts(is_held)
    }

    fn apply_parts(&mut self, is_held: bool) -> bool {
        let mut any = false;
        let index = match self.applying_client() {
            Some(index) => index,
            None => {
                let client = self.inner_client(ClientId::PRIMARY);
                self.applier.client = Some(client);
                client.0
            }
        };
        let connection = &mut self.core.connections[index];
        let is_taken = connection.pending_input() == 0 && connection.stall == Stall::None;
        if is_taken && let Some(end) = self.applier.current.take() {
            let last = (!connection.reorder.is_empty()).then(|| connection.reorder.youngest());
            self.applier.outstanding.push_back((last, end));
        }
        let (mut parts, mut applied) = (0, None);
        while let Some((last, end)) = self.applier.outstanding.front()
            && last.is_none_or(|last| connection.reorder.has_passed(last))
        {
            (parts, applied) = (parts + 1, Some(*end));
            self.applier.outstanding.pop_front();
        }
        if let Some(end) = applied {
            any = true;
            self.core.tell_peers(ToPeers::Applied { parts, end });
        }
        let is_between = is_taken && self.applier.outstanding.is_empty();
        self.core.node.replication.is_stream_held.store(is_held && is_between, Ordering::Release);
        if !is_held
            && is_taken
            && let Some(part) = self.applier.queue.pop_front()
        {
            self.applier.current = Some(part.end);
            let connection = &mut self.core.connections[index];
            (connection.query, connection.query_at) = (part.bytes, 0);
            self.continue_input(index);
            any = true;
        }
        any
    }
}
