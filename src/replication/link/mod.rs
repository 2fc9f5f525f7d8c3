//! The replica's side: the link to this node's primary.
//!
//! Connects, says who it is, continues where it was or takes a whole data set, then receives the stream; reconnects whenever
//! anything goes wrong. Refuses to know sockets, files and shards: [`Input`] says what has happened, [`Output`] what is to be done, and
//! the stream's commands are fetched with [`Link::fetch`].
//!
//! ```text
//! none ◀─▶ connect ─▶ connecting ─▶ PING, AUTH, REPLCONF, PSYNC ─┬─ +CONTINUE ─────────────────────────────▶ connected
//!            ▲                                                   └─ +FULLRESYNC ─▶ transfer ─▶ loading ────────┘ │
//!            └───────────────────────────────── anything fails ──────────────────────────────────────────────────┘
//! ```
//!
//! What the node has of its primary's history is its [`Standing`]. It outlives connections and changes of primary, and is given up only
//! when other data is about to take the place of the node's, or when the stream turns out to be nonsense.
//!
//! Lines and bytes are redis-server 7.0.15's. Time is in milliseconds of any clock that does not go back.

mod contract;
pub mod facts;
mod handshake;
pub mod stream;
#[cfg(test)]
mod tests;
mod transfer;

pub use contract::{Config, HistoryChange, Input, LoadTo, Output};
pub use stream::Fetched;

use super::history::{Offset, Standing};
use crate::observe::log::Level;
use handshake::Step;
use stream::Stream;
use transfer::Transfer;

/// How often [`Input::Tick`] does something.
const CRON_MS: i64 = 1000;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[derive(Debug)]
enum State {
    /// The node follows nobody.
    None,
    /// It wants to, and has no connection.
    Connect,
    Connecting,
    Handshake(Step),
    /// A data set is coming.
    Transfer(Transfer),
    /// It is here and being loaded.
    Loading(Transfer),
    Connected,
}

pub struct Link {
    pub config: Config,
    primary: Option<Address>,
    state: State,
    /// Where the node's data stands in its primary's history.
    standing: Option<Standing>,
    /// Bytes that have come and belong to no finished line, transfer or command.
    stream: Stream,
    /// What the shards have done of the stream.
    applied: Offset,
    /// An ACK was asked for when everything before this place is applied.
    ack_wanted: Option<Offset>,
    /// The same when it is on disk.
    disk_ack_wanted: Option<Offset>,
    /// What of the stream is on this node's disk, as far as it is known.
    on_disk: Option<Offset>,
    /// The next PSYNC asks the other side to become the primary (FAILOVER).
    pub asks_failover: bool,
    /// The primary is of old, and wants no ACKs.
    is_old: bool,
    /// Why the stream cannot be read any further.
    corruption: Option<String>,
    last_io_ms: i64,
    down_since_ms: Option<i64>,
    next_cron_ms: i64,
    newline_ms: i64,
}

impl Link {
    pub fn new(config: Config) -> Link {
        Link {
            config,
            primary: None,
            state: State::None,
            standing: None,
            stream: Stream::default(),
            applied: Offset(0),
            ack_wanted: None,
            disk_ack_wanted: None,
            on_disk: None,
            asks_failover: false,
            is_old: false,
            corruption: None,
            last_io_ms: 0,
            down_since_ms: None,
            next_cron_ms: i64::MIN,
            newline_ms: i64::MIN,
        }
    }

    pub fn step(&mut self, now: i64, input: Input<'_>, out: &mut Vec<Output>) {
        match input {
            Input::ReplicaOf { primary, standing } => self.follow(now, primary, standing, out),
            Input::NoOne => self.stand_alone(out),
            Input::Connected => self.connected(now, out),
            Input::ConnectFailed(reason) => self.connect_failed(&reason, out),
            Input::Closed(reason) => self.closed(now, &reason, out),
            Input::Received(bytes) => self.received(now, bytes, out),
            Input::LoadFinished { db } => self.load_finished(now, db, out),
            Input::LoadFailed(reason) => self.load_failed(now, &reason, out),
            Input::Applied(offset) => self.has_applied(offset, out),
            Input::OnDisk(offset) => self.has_on_disk(offset, out),
            Input::Tick => self.tick(now, out),
        }
    }

    // ---- whom to follow ----

    fn follow(&mut self, now: i64, primary: Address, own: Option<Standing>, out: &mut Vec<Output>) {
        self.hang_up(out);
        if self.primary.is_none() {
            self.standing = own;
            if let Some(own) = own {
                self.applied = own.offset;
                notice(
                    out,
                    "Before turning into a replica, using my own master parameters to synthesize a cached master: \
                     I may be able to synchronize with the new master with just a partial transfer.",
                );
            }
        }
        self.primary = Some(primary);
        self.connect(now, "Connecting to MASTER", "", out);
    }

    fn stand_alone(&mut self, out: &mut Vec<Output>) {
        if self.primary.take().is_none() {
            return;
        }
        self.hang_up(out);
        self.discard_standing(out);
        self.state = State::None;
        self.down_since_ms = None;
        out.push(Output::History(HistoryChange::Promote));
    }

    /// Nothing will be continued from where the node stands.
    fn discard_standing(&mut self, out: &mut Vec<Output>) {
        if self.standing.take().is_some() {
            notice(out, "Discarding previously cached master state.");
        }
    }

    /// Ends the connection, if there is one, and whatever was under way on it.
    fn hang_up(&mut self, out: &mut Vec<Output>) {
        let had_connection = !matches!(self.state, State::None | State::Connect);
        if let State::Transfer(transfer) | State::Loading(transfer) = &self.state
            && transfer.has_begun()
        {
            out.push(Output::LoadAborted);
        }
        if matches!(self.state, State::Connected) {
            warning(out, "Connection with master lost.".to_owned());
            if self.is_old {
                self.standing = None;
            }
            if self.standing.is_some() {
                notice(out, "Caching the disconnected master state.");
            }
            out.push(Output::History(HistoryChange::LinkDown));
        }
        if self.stream.drop_unfinished() {
            out.push(Output::DropBlock);
        }
        if had_connection {
            out.push(Output::Close);
        }
        self.state = State::Connect;
    }

    fn connect(&mut self, now: i64, why: &str, after: &str, out: &mut Vec<Output>) {
        let Some(primary) = self.primary.clone() else { return };
        notice(out, &format!("{why} {primary}{after}"));
        notice(out, "MASTER <-> REPLICA sync started");
        self.state = State::Connecting;
        self.last_io_ms = now;
        self.stream.clear();
        self.is_old = false;
        self.corruption = None;
        (self.ack_wanted, self.disk_ack_wanted, self.on_disk) = (None, None, None);
        out.push(Output::Connect(primary));
    }

    // ---- the connection ----

    fn connect_failed(&mut self, reason: &str, out: &mut Vec<Output>) {
        if matches!(self.state, State::Connecting) {
            warning(out, format!("Error condition on socket for SYNC: {reason}"));
            self.state = State::Connect;
        }
    }

    fn closed(&mut self, now: i64, reason: &str, out: &mut Vec<Output>) {
        match &mut self.state {
            State::None | State::Connect => {}
            State::Connecting => self.connect_failed(reason, out),
            State::Handshake(step) => {
                let line = step.no_response();
                warning(out, format!("Failed to read response from the server: {reason}"));
                warning(out, line.to_owned());
                self.hang_up(out);
            }
            State::Transfer(transfer) => {
                warning(out, transfer.broken_line(reason));
                self.retry(now, out);
            }
            // Everything is here; what follows is asked for when it is loaded.
            State::Loading(transfer) => transfer.is_cut_off = true,
            State::Connected => self.lost(now, out),
        }
    }

    /// Something went wrong on the way to a full synchronization: at once another attempt.
    fn retry(&mut self, now: i64, out: &mut Vec<Output>) {
        self.hang_up(out);
        self.connect(now, "Reconnecting to MASTER", " after failure", out);
    }

    /// The stream has ended. The next connection continues it.
    fn lost(&mut self, now: i64, out: &mut Vec<Output>) {
        self.hang_up(out);
        self.down_since_ms = Some(now);
        self.connect(now, "Reconnecting to MASTER", "", out);
    }

    /// What has come is no stream: what was built on it is not continued. To be called when [`Link::take_stream`] has been.
    pub fn give_up_if_corrupt(&mut self, now: i64, out: &mut Vec<Output>) {
        if let Some(line) = self.corruption.take() {
            warning(out, line);
            self.standing = None;
            self.lost(now, out);
        }
    }

    fn received(&mut self, now: i64, bytes: &[u8], out: &mut Vec<Output>) {
        if matches!(self.state, State::None | State::Connect | State::Connecting) {
            return;
        }
        self.last_io_ms = now;
        self.stream.receive(bytes);
        self.go_on(now, out);
    }

    /// Uses what has come, as far as it goes.
    fn go_on(&mut self, now: i64, out: &mut Vec<Output>) {
        loop {
            let goes_on = match &self.state {
                State::Handshake(_) => self.handshake_line(now, out),
                State::Transfer(transfer) if !transfer.has_begun() => self.header_line(now, out),
                State::Transfer(_) => return self.transfer_bytes(now, out),
                State::Loading(_) | State::Connected => return,
                State::None | State::Connect | State::Connecting => return self.stream.clear(),
            };
            if !goes_on {
                return;
            }
        }
    }

    // ---- time ----

    fn tick(&mut self, now: i64, out: &mut Vec<Output>) {
        if now < self.next_cron_ms {
            return;
        }
        self.next_cron_ms = now + CRON_MS;
        let is_late = now.saturating_sub(self.last_io_ms) > i64::from(self.config.repl_timeout_s) * 1000;
        match &self.state {
            State::Connecting | State::Handshake(_) if is_late => {
                warning(out, "Timeout connecting to the MASTER...".to_owned());
                self.retry(now, out);
            }
            State::Transfer(_) if is_late => {
                let hint = "If the problem persists try to set the 'repl-timeout' parameter in redis.conf to a larger value.";
                warning(out, format!("Timeout receiving bulk data from MASTER... {hint}"));
                self.retry(now, out);
            }
            State::Connected if is_late => {
                warning(out, "MASTER timeout: no data nor PING received...".to_owned());
                self.lost(now, out);
            }
            State::Connect => self.connect(now, "Connecting to MASTER", "", out),
            State::Connected => self.ack(out),
            // So that the primary sees that this node is there, though it acknowledges nothing.
            State::Loading(_) => self.newline(now, out),
            State::Transfer(transfer) if transfer.is_loading() => self.newline(now, out),
            _ => {}
        }
    }

    fn newline(&mut self, now: i64, out: &mut Vec<Output>) {
        if now.saturating_sub(self.newline_ms) >= CRON_MS {
            self.newline_ms = now;
            out.push(Output::Send(b"\n".to_vec()));
        }
    }

    // ---- acknowledging ----

    fn has_applied(&mut self, offset: Offset, out: &mut Vec<Output>) {
        self.applied = self.applied.max(offset);
        if self.ack_wanted.is_some_and(|wanted| wanted <= self.applied) {
            self.ack(out);
        }
    }

    fn has_on_disk(&mut self, offset: Option<Offset>, out: &mut Vec<Output>) {
        self.on_disk = offset;
        if self.disk_ack_wanted.is_some_and(|wanted| offset >= Some(wanted)) {
            self.disk_ack_wanted = None;
            self.ack(out);
        }
    }

    /// What is on disk is told behind the offset, which a primary before Redis 7.2 does not read any further.
    fn ack(&mut self, out: &mut Vec<Output>) {
        if matches!(self.state, State::Connected) && !self.is_old {
            self.ack_wanted = self.ack_wanted.filter(|wanted| *wanted > self.applied);
            let (applied, on_disk) = (self.applied.to_string(), self.on_disk.map(|offset| offset.to_string()));
            let mut words = vec![&b"REPLCONF"[..], b"ACK", applied.as_bytes()];
            words.extend(on_disk.iter().flat_map(|offset| [&b"FACK"[..], offset.as_bytes()]));
            out.push(Output::Send(handshake::command(&words)));
        }
    }
}

fn notice(out: &mut Vec<Output>, line: &str) {
    out.push(Output::Log(Level::Notice, line.to_owned()));
}

fn warning(out: &mut Vec<Output>, line: String) {
    out.push(Output::Log(Level::Warning, line));
}
