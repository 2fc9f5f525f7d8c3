//! Talks with hostile peers, written as bytes, and what holds of each: neither side panics, holds much, or says much; and how a
//! peer's bytes are cut into pieces makes no difference.
//!
//! ```text
//! 0..=127  so many bytes, which follow, come from the peer
//! 128..    one of WORDS comes from the peer
//! ..=255   something else happens; the next byte says more
//! ```
//!
//! Used by the unit tests and by the fuzz targets, which include it beside `crate::replication`.

use crate::protocol::Args;
use crate::replication::history::{Offset, ReplId, Standing};
use crate::replication::link::{self, Address, Link, LoadTo};
use crate::replication::node::{Node, Output};
use crate::replication::primary::facts::ReplicaFacts;
use crate::replication::primary::request::{About, Request};
use crate::replication::primary::{self, Config, OtherSave, Primary, ReplicaId};

/// What peers say, and things that look like it.
pub const WORDS: &[&str] = &[
    "+PONG\r\n",
    "+OK\r\n",
    "-ERR no\r\n",
    "-NOAUTH no\r\n",
    "-LOADING x\r\n",
    "\n",
    "\r\n",
    "+CONTINUE\r\n",
    "+CONTINUE 5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a\r\n",
    "+FULLRESYNC 5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a 100\r\n",
    "+FULLRESYNC 5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a 9223372036854775807\r\n",
    "+FULLRESYNC 5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a -1\r\n",
    "+FULLRESYNC x 1\r\n",
    "$0\r\n",
    "$5\r\nREDIS",
    "$9223372036854775807\r\n",
    "$-1\r\n",
    "$EOF:5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a\r\n",
    "$EOF:5a\r\n",
    "REDIS0010",
    "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a",
    "*1\r\n$4\r\nPING\r\n",
    "*1\r\n$5\r\nMULTI\r\n",
    "*1\r\n$4\r\nEXEC\r\n",
    "*1\r\n$7\r\nDISCARD\r\n",
    "*2\r\n$6\r\nSELECT\r\n$2\r\n-1\r\n",
    "*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n",
    "*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$20\r\n18446744073709551615\r\n",
    "*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$19\r\n9223372036854775807\r\n",
    "*2\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n",
    "*2147483647\r\n",
    "*3\r\n$2147483647\r\n",
    "*0\r\n",
    "*-5\r\n",
    "SET a \"\r\n",
    "listening-port 7001 capa eof capa psync2 ip-address a\n",
    "rdb-only 1 rdb-filter-only functions",
    "? -1",
    "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a 101 FAILOVER",
];
pub const FIRST_WORD: u8 = 128;
pub const FIRST_OTHER: u8 = FIRST_WORD + WORDS.len() as u8;

/// So many replicas attach at most.
const REPLICAS: u8 = 4;
/// What each event may cost beside a multiple of the bytes that have come: a few lines for the log, and a backlog.
const EVENT_BYTES: usize = 4 << 10;
const NODE_BYTES: usize = 256 << 10;

enum Event<'t> {
    Said(&'t [u8]),
    Other { what: u8, more: u8 },
}

struct Events<'t>(&'t [u8]);

impl<'t> Iterator for Events<'t> {
    type Item = Event<'t>;

    fn next(&mut self) -> Option<Event<'t>> {
        let (&first, rest) = self.0.split_first()?;
        let event;
        (event, self.0) = if first < FIRST_WORD {
            let (said, rest) = rest.split_at(rest.len().min(first.into()));
            (Event::Said(said), rest)
        } else if let Some(word) = WORDS.get(usize::from(first - FIRST_WORD)) {
            (Event::Said(word.as_bytes()), rest)
        } else {
            let (&more, rest) = rest.split_first().unwrap_or((&0, rest));
            (Event::Other { what: first - FIRST_OTHER, more }, rest)
        };
        Some(event)
    }
}

/// What came of a talk, as far as it does not depend on how bytes were cut.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    pub outputs: Vec<String>,
    loaded: Vec<u8>,
    commands: Vec<(link::Fetched, Vec<Vec<u8>>)>,
    end: Option<(Offset, Option<Standing>, Vec<ReplicaFacts>)>,
}

struct Talk {
    node: Node,
    now: i64,
    out: Vec<Output>,
    verdict: Verdict,
    /// Bytes that may have been held or said so far, and that were said as outputs.
    allowed: usize,
    said: usize,
}

impl Talk {
    fn new(options: u8) -> Talk {
        let mut count = 0u8;
        let new_id = Box::new(move || {
            count = count.wrapping_add(1);
            ReplId::from_random([count; 20])
        });
        let load_to = [LoadTo::Disk, LoadTo::Memory, LoadTo::Beside][usize::from(options % 3)];
        let config = Config { repl_diskless_sync: options & 4 == 0, repl_diskless_sync_delay_s: 0, ..Config::default() };
        let link = Link::new(link::Config { repl_timeout_s: 10, load_to, ..link::Config::default() });
        let node = Node::new(Primary::new(config, new_id, 0), link);
        Talk { node, now: 0, out: Vec::new(), verdict: Verdict::default(), allowed: NODE_BYTES, said: 0 }
    }

    /// The peer has sent this, which comes in pieces.
    fn received(&mut self, said: &[u8], piece_bytes: usize, mut step: impl FnMut(&mut Talk, &[u8])) {
        self.allowed += 16 * said.len();
        for piece in said.chunks(piece_bytes) {
            step(self, piece);
            self.settle();
        }
    }

    fn follow(&mut self, port: u8) {
        let primary = Address { host: "primary".to_owned(), port: port.into() };
        self.node.replica_of(self.now, primary, &mut self.out);
    }

    /// Fetches what there is, and notes what came out.
    fn settle(&mut self) {
        let mut args = Args::new();
        while let Some((fetched, input)) = self.node.next(self.now, &mut args, &mut self.out) {
            self.verdict.commands.push((fetched, args.iter(input).map(<[u8]>::to_vec).collect()));
        }
        self.node.pass_stream_on(self.now, &mut self.out);
        for output in self.out.drain(..) {
            let outputs = &mut self.verdict.outputs;
            match output {
                Output::Link(link::Output::LoadBytes(bytes)) => self.verdict.loaded.extend(bytes),
                // Lent by the backlog: held once, however often it is sent.
                Output::Replicas(primary::Output::Send { to, bytes }) => {
                    outputs.push(format!("{to:?} < {}", bytes.escape_ascii()))
                }
                output => {
                    let words = format!("{output:?}");
                    self.said += words.len();
                    outputs.push(words);
                }
            }
        }
        let held = args.heap_bytes() + self.node.primary().backlog().map_or(0, |backlog| backlog.heap_bytes());
        let said = self.said + self.verdict.loaded.len();
        assert!(held + said <= self.allowed, "{held} bytes held, {said} said");
    }

    fn end(mut self) -> Verdict {
        let replicas = self.node.primary().replicas(self.now).collect();
        self.verdict.end = Some((self.node.offset(), self.node.link().standing(), replicas));
        self.verdict
    }
}

/// A primary talks to a node. Whatever it says comes in pieces of so many bytes.
pub fn from_primary(talk: &[u8], piece_bytes: usize) -> Verdict {
    let (&options, events) = talk.split_first().unwrap_or((&0, talk));
    let mut talk = Talk::new(options);
    talk.follow(0);
    for event in Events(events) {
        talk.allowed += EVENT_BYTES;
        let (what, more) = match event {
            Event::Said(said) => {
                talk.received(said, piece_bytes, |talk, piece| {
                    talk.node.step_link(talk.now, link::Input::Received(piece), &mut talk.out);
                });
                continue;
            }
            Event::Other { what, more } => (what, more),
        };
        let input = match what % 10 {
            0 | 1 => link::Input::Connected,
            2 => link::Input::Closed("reset".to_owned()),
            3 => link::Input::ConnectFailed("refused".to_owned()),
            4 => link::Input::LoadFinished { db: Some(more.into()) },
            5 => link::Input::LoadFailed("bad".to_owned()),
            6 => link::Input::Applied(talk.verdict.commands.last().map_or(Offset(0), |(fetched, _)| fetched.end)),
            7 => link::Input::Applied(Offset(u64::MAX >> (more & 63))),
            8 if more & 1 == 0 => link::Input::NoOne,
            8 => {
                talk.follow(more);
                link::Input::Tick
            }
            _ => {
                talk.now += i64::from(more) * 100;
                link::Input::Tick
            }
        };
        talk.node.step_link(talk.now, input, &mut talk.out);
        talk.settle();
    }
    talk.end()
}

/// Replicas talk to a node, which perhaps follows another; clients before they ask to be replicas, too.
pub fn from_replicas(talk: &[u8], piece_bytes: usize) -> Verdict {
    let (&options, events) = talk.split_first().unwrap_or((&0, talk));
    let mut talk = Talk::new(options);
    if options & 8 != 0 {
        talk.follow(0);
    }
    let (mut replica, mut about, mut last) = (ReplicaId(0), About::default(), &[][..]);
    for event in Events(events) {
        talk.allowed += EVENT_BYTES;
        let (what, more) = match event {
            Event::Said(said) => {
                talk.received(said, piece_bytes, |talk, bytes| {
                    talk.node.step_replicas(talk.now, primary::Input::Received { replica, bytes }, &mut talk.out);
                });
                last = said;
                continue;
            }
            Event::Other { what, more } => (what, more),
        };
        let words: Vec<&[u8]> = last.split(|byte| *byte == b' ').collect();
        let place = if more & 1 == 0 { talk.node.offset() } else { Offset(u64::MAX >> (more & 63)) };
        let input = match what % 15 {
            0 => {
                replica = ReplicaId((more % REPLICAS).into());
                about = About::default();
                continue;
            }
            1 => {
                let _answer = about.replconf(&words);
                continue;
            }
            2 => {
                let id = talk.node.primary().history().id().as_str().as_bytes().to_vec();
                let offset = place.next_byte().cast_signed();
                primary::Input::Sync {
                    replica,
                    about: about.clone(),
                    request: Request::Psync { id, offset, failover: more & 2 != 0 },
                }
            }
            3 => primary::Input::Sync { replica, about: about.clone(), request: Request::psync(&words).unwrap_or(Request::Sync) },
            4 => primary::Input::SnapshotBegun { at: place },
            5 => primary::Input::SnapshotChunk(vec![b'x'; more.into()]),
            6 => primary::Input::SnapshotDone { file_bytes: more.into() },
            7 => primary::Input::SnapshotFailed,
            8 => primary::Input::OtherSave([OtherSave::None, OtherSave::Rdb, OtherSave::Rewrite][usize::from(more % 3)]),
            9 | 10 => primary::Input::Sent { replica, bytes: u64::MAX >> (more & 63) },
            11 => primary::Input::Closed { replica },
            12 => {
                talk.node.append(talk.now, b"*1\r\n$1\r\nx\r\n", &mut talk.out);
                primary::Input::Tick
            }
            13 => {
                talk.node.request_acks(talk.now, &mut talk.out);
                primary::Input::Tick
            }
            _ => {
                talk.now += i64::from(more) * 100;
                primary::Input::Tick
            }
        };
        talk.node.step_replicas(talk.now, input, &mut talk.out);
        talk.settle();
        let primary = talk.node.primary();
        assert!(primary.replica_count() <= REPLICAS.into());
        assert!(primary.replicas(talk.now).all(|facts| facts.ip.len() < 1000 && !facts.ip.contains(char::is_control)));
    }
    talk.end()
}

/// What comes of the talk, whole or in pieces of so many bytes. Where a data set with a mark ends depends on the pieces, as nothing
/// may follow the mark before it is answered.
pub fn check(talk: &[u8], from_peer: impl Fn(&[u8], usize) -> Verdict, piece_bytes: usize) -> Verdict {
    let (whole, in_pieces) = (from_peer(talk, usize::MAX), from_peer(talk, piece_bytes));
    if !whole.outputs.iter().any(|words| words.contains("LoadBegins { bytes: None")) {
        assert_eq!(in_pieces, whole);
    }
    whole
}
