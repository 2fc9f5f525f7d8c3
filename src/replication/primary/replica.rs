//! One attached replica, as its primary sees it.

use super::request::{About, Contents, integer};
use crate::protocol::{Args, Limits, Parsed, Parser};
use crate::replication::history::Offset;

/// A replica's connection, as whoever drives this names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReplicaId(pub u64);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// For a snapshot to begin.
    WaitsForCut,
    /// For the snapshot that it is part of: to be written, or while it is being streamed.
    WaitsForEnd,
    /// The snapshot's file is on its way.
    File,
    /// In the stream. `until_ack`: the snapshot was streamed, and nothing follows it before the replica says that it has it.
    Online { until_ack: bool },
    /// It only wanted the snapshot, which is on its way.
    Leaving,
}

#[derive(Debug)]
pub(super) struct Replica {
    pub about: About,
    /// It came with SYNC.
    pub is_old: bool,
    pub state: State,
    /// What of the stream it is to be sent next.
    pub place: Offset,
    /// Bytes given out for it and not known to be sent, and since when none of them was.
    pub in_flight: u64,
    pub stuck_since: Option<i64>,
    /// When it was last heard of.
    pub heard_ms: i64,
    pub acked: Offset,
    /// What it says is on its disk (`FACK`, Redis 7.2).
    pub acked_on_disk: Option<Offset>,
    pub acked_ms: i64,
    /// Since when its output exceeds the soft limit.
    pub soft_since: Option<i64>,
    pub input: Input,
}

/// What it sends, and has not been understood yet.
#[derive(Debug, Default)]
pub(super) struct Input {
    parser: Parser,
    bytes: Vec<u8>,
}

/// What replicas say that matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ack {
    pub offset: u64,
    pub on_disk: Option<u64>,
}

/// It sends what no replica sends.
#[derive(Debug)]
pub(super) struct Nonsense;

impl Input {
    /// Takes what has come. A replica sends acknowledgements and empty lines; any other command is passed over. What is kept of
    /// an unfinished command is bounded, as for a client that has not authenticated.
    pub fn acks(&mut self, bytes: &[u8], mut seen: impl FnMut(Ack)) -> Result<(), Nonsense> {
        let (limits, mut args, mut at) = (Limits::default().for_client(false), Args::new(), 0);
        self.bytes.extend_from_slice(bytes);
        loop {
            let input = self.bytes.get(at..).unwrap_or_default();
            match self.parser.parse(input, &limits, &mut args) {
                Parsed::Command { consumed } => {
                    if let Some(ack) = ack(&args, input) {
                        seen(ack);
                    }
                    at += consumed;
                }
                Parsed::Empty { consumed } => at += consumed,
                Parsed::Incomplete { .. } => break,
                Parsed::Fatal(_) => return Err(Nonsense),
            }
        }
        self.bytes.drain(..at);
        Ok(())
    }
}

fn ack(args: &Args, input: &[u8]) -> Option<Ack> {
    let mut words = args.iter(input);
    if !words.next()?.eq_ignore_ascii_case(b"replconf") {
        return None;
    }
    let mut ack = None;
    while let (Some(option), Some(value)) = (words.next(), words.next()) {
        let number = integer(value).and_then(|number| u64::try_from(number).ok());
        match (number, &mut ack) {
            (Some(offset), None) if option.eq_ignore_ascii_case(b"ack") => ack = Some(Ack { offset, on_disk: None }),
            (on_disk, Some(ack)) if option.eq_ignore_ascii_case(b"fack") => ack.on_disk = on_disk,
            _ => {}
        }
    }
    ack
}

impl Replica {
    pub fn new(about: About, is_old: bool, state: State, now: i64) -> Replica {
        Replica {
            about,
            is_old,
            state,
            place: Offset(0),
            in_flight: 0,
            stuck_since: None,
            heard_ms: now,
            acked: Offset(0),
            acked_on_disk: None,
            acked_ms: now,
            soft_since: None,
            input: Input::default(),
        }
    }

    pub fn contents(&self) -> Contents {
        self.about.contents
    }

    pub fn name(&self) -> String {
        self.about.name()
    }

    /// Whether the stream behind its place is kept for it.
    pub fn needs_stream(&self) -> bool {
        let begun = matches!(self.state, State::WaitsForEnd | State::File | State::Online { .. });
        begun && !self.about.rdb_only
    }

    pub fn is_online(&self) -> bool {
        matches!(self.state, State::Online { .. })
    }

    /// As INFO shows it; `None`: not at all.
    pub fn state_name(&self) -> Option<&'static str> {
        match self.state {
            State::WaitsForCut | State::WaitsForEnd => Some("wait_bgsave"),
            State::File => Some("send_bulk"),
            State::Online { .. } => Some("online"),
            State::Leaving => None,
        }
    }

    /// Seconds since it has acknowledged anything.
    pub fn lag_s(&self, now: i64) -> i64 {
        if self.is_online() { now.saturating_sub(self.acked_ms).max(0) / 1000 } else { 0 }
    }

    /// So many bytes were given out for it.
    pub fn gave_out(&mut self, bytes: u64, now: i64) {
        self.in_flight += bytes;
        self.stuck_since.get_or_insert(now);
    }

    /// So many of them are sent.
    pub fn sent(&mut self, bytes: u64, now: i64) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        self.stuck_since = (self.in_flight > 0).then_some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acks(pieces: &[&[u8]]) -> (Vec<Ack>, bool) {
        let (mut input, mut seen) = (Input::default(), Vec::new());
        let good = pieces.iter().all(|piece| input.acks(piece, |ack| seen.push(ack)).is_ok());
        (seen, good)
    }

    #[test]
    fn acknowledgements_come_in_any_pieces_and_among_other_things() {
        let text = b"\n*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$2\r\n70\r\n\nPING\r\n*3\r\n$8\r\nreplconf\r\n$6\r\nGETACK\r\n$1\r\n*\r\nREPLCONF ack 71 FACK 5\n";
        let wanted = [Ack { offset: 70, on_disk: None }, Ack { offset: 71, on_disk: Some(5) }];
        assert_eq!(acks(&[text]), (wanted.to_vec(), true));
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(acks(&bytes), (wanted.to_vec(), true));
        assert_eq!(acks(&[b"REPLCONF ACK -1\r\nREPLCONF ACK x\r\nREPLCONF ACK\r\n"]), (Vec::new(), true));
    }

    #[test]
    fn a_hostile_replica_is_found_out_before_it_has_cost_much() {
        for text in [&b"*1000000\r\n"[..], b"*2\r\n$1000000000\r\n", b"*1\r\nxx\r\n", &[b'x'; 100_000]] {
            let (mut input, mut good) = (Input::default(), true);
            for piece in text.chunks(1000) {
                good = good && input.acks(piece, |_| {}).is_ok();
                assert!(input.bytes.len() < 70_000);
            }
            assert!(!good, "{}", text[..5].escape_ascii());
        }
    }
}
