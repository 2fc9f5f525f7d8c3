//! What INFO and ROLE ask about the link to the primary.

use super::{Address, Link, State};
use crate::replication::history::{Offset, Standing};

/// Of a data set on its way, as INFO's `master_sync_…` show it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransferFacts {
    /// -1: not known yet; 0: its end is a mark.
    pub total_bytes: i64,
    pub read_bytes: u64,
    pub last_io_s: i64,
}

impl Link {
    /// Whom the node follows.
    pub fn primary(&self) -> Option<&Address> {
        self.primary.as_ref()
    }

    /// `master_link_status`.
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Connected)
    }

    /// As ROLE says it.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::None => "none",
            State::Connect => "connect",
            State::Connecting => "connecting",
            State::Handshake(_) => "handshake",
            State::Transfer(_) | State::Loading(_) => "sync",
            State::Connected => "connected",
        }
    }

    /// `master_last_io_seconds_ago`.
    pub fn last_io_s(&self, now: i64) -> i64 {
        if self.is_up() { self.seconds_since_io(now) } else { -1 }
    }

    /// `master_sync_in_progress` and what follows it.
    pub fn transfer(&self, now: i64) -> Option<TransferFacts> {
        let (State::Transfer(transfer) | State::Loading(transfer)) = &self.state else { return None };
        let (total_bytes, read_bytes) = (transfer.total(), transfer.read);
        Some(TransferFacts { total_bytes, read_bytes, last_io_s: self.seconds_since_io(now) })
    }

    fn seconds_since_io(&self, now: i64) -> i64 {
        now.saturating_sub(self.last_io_ms).max(0) / 1000
    }

    /// Where the node stands in its primary's history, as far as commands were fetched; `None`: nowhere that can be continued from.
    pub fn standing(&self) -> Option<Standing> {
        self.standing
    }

    /// `slave_read_repl_offset` and `slave_repl_offset`; without a primary's history both are shown as 1.
    pub fn offsets(&self) -> (u64, u64) {
        self.read_offset().map_or((1, 1), |read| (read.0, self.applied.0))
    }

    /// As ROLE says it: -1 while there is no stream.
    pub fn role_offset(&self) -> i64 {
        if self.is_up() { i64::try_from(self.applied.0).unwrap_or(i64::MAX) } else { -1 }
    }

    /// What of the stream is on this node's disk, as far as it is known.
    pub fn on_disk(&self) -> Option<Offset> {
        self.on_disk
    }

    /// What the shards have done of the stream.
    pub fn applied(&self) -> Offset {
        self.applied
    }

    /// `master_link_down_since_seconds`; -1: it never was up.
    pub fn down_since_s(&self, now: i64) -> Option<i64> {
        (!self.is_up()).then(|| self.down_since_ms.map_or(-1, |since| now.saturating_sub(since).max(0) / 1000))
    }

    /// Whether bytes that come can be used: not while a data set is loaded that has come whole.
    pub fn wants_bytes(&self) -> bool {
        !matches!(self.state, State::Loading(_))
    }
}
