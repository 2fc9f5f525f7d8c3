//! Peers that send anything: garbage, huge lengths, wrong offsets, half a data set. Neither side panics, and neither holds much.

use super::Random;
use super::host::address;
use crate::protocol::Args;
use crate::replication::history::{Offset, ReplId};
use crate::replication::link::{self, Link, LoadTo};
use crate::replication::node::{Node, Output};
use crate::replication::primary::request::{About, Request};
use crate::replication::primary::{self, Config, Primary, ReplicaId};

const TALKS: u64 = 300;
const STEPS: usize = 150;
/// More than this is never sent in one talk, so nobody may hold more than a few times as much.
const SENT_BYTES_MAX: usize = STEPS * 300;

/// What peers say, and things that look like it.
const WORDS: &[&str] = &[
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
];

fn said(random: &mut Random) -> Vec<u8> {
    let word = WORDS[random.below(WORDS.len() as u64) as usize].as_bytes();
    match random.below(10) {
        0 => (0..random.below(200)).map(|_| random.next() as u8).collect(),
        1 => word[..random.below(word.len() as u64) as usize].to_vec(),
        2 => {
            let mut word = word.to_vec();
            let at = random.below(word.len() as u64) as usize;
            word[at] = random.next() as u8;
            word
        }
        _ => word.to_vec(),
    }
}

fn node(random: &mut Random) -> Node {
    let mut ids = Random(random.next());
    let new_id = Box::new(move || ReplId::from_random([ids.next() as u8; 20]));
    let config = Config { repl_diskless_sync: random.chance(50), repl_diskless_sync_delay_s: 0, ..Config::default() };
    let load_to = [LoadTo::Disk, LoadTo::Memory, LoadTo::Beside][random.below(3) as usize];
    let link = Link::new(link::Config { repl_timeout_s: 10, load_to, ..link::Config::default() });
    Node::new(Primary::new(config, new_id, 0), link)
}

/// Fetches what there is, and gives the bytes that the outputs hold.
fn drain(node: &mut Node, now: i64, out: &mut Vec<Output>) -> usize {
    let mut args = Args::new();
    while let Some((_, input)) = node.next(now, &mut args, out) {
        assert!(args.iter(input).count() < 100);
    }
    node.pass_stream_on(now, out);
    let held = node.primary().backlog().map_or(0, |backlog| backlog.heap_bytes());
    held + out
        .drain(..)
        .map(|output| if let Output::Link(link::Output::LoadBytes(bytes)) = output { bytes.len() } else { 0 })
        .sum::<usize>()
}

#[test]
fn a_hostile_primary() {
    for seed in 0..TALKS {
        let mut random = Random(seed);
        let (mut node, mut out, mut now) = (node(&mut random), Vec::new(), 0);
        node.replica_of(now, address(1), &mut out);
        // Half of them begin as a good one would.
        let good = if random.chance(50) { "+PONG\r\n+OK\r\n+OK\r\n" } else { "" };
        for step in 0..STEPS {
            now += random.below(1500) as i64;
            let bytes = if step == 1 { good.as_bytes().to_vec() } else { said(&mut random) };
            let input = match random.below(20) {
                _ if step == 0 => link::Input::Connected,
                0 => link::Input::Connected,
                1 => link::Input::Closed("reset".to_owned()),
                2 => link::Input::ConnectFailed("refused".to_owned()),
                3 => link::Input::LoadFinished { db: None },
                4 => link::Input::LoadFailed("bad".to_owned()),
                5 => link::Input::Tick,
                6 => link::Input::Applied(Offset(random.next() >> random.below(64))),
                _ => link::Input::Received(&bytes),
            };
            node.step_link(now, input, &mut out);
            let held = drain(&mut node, now, &mut out);
            assert!(held <= 4 * SENT_BYTES_MAX, "seed {seed}: {held}");
        }
        node.step_link(now, link::Input::NoOne, &mut out);
        node.tick(now, &mut out);
    }
}

#[test]
fn hostile_replicas() {
    for seed in 0..TALKS {
        let mut random = Random(seed);
        let (mut node, mut out, mut now) = (node(&mut random), Vec::new(), 0);
        for _ in 0..STEPS {
            now += random.below(1500) as i64;
            let replica = ReplicaId(random.below(4));
            let bytes = said(&mut random);
            let offset = random.next() as i64 >> random.below(64);
            let id = if random.chance(50) { node.primary().history().id().as_str().as_bytes().to_vec() } else { bytes.clone() };
            let mut about = About::default();
            let _any = about.replconf(&[b"capa", b"eof", b"listening-port", &bytes, b"ip-address", &bytes]);
            let input = match random.below(12) {
                0..3 => primary::Input::Sync { replica, about, request: Request::Psync { id, offset, failover: offset == 0 } },
                3 => primary::Input::Sync { replica, about, request: Request::Sync },
                4 => primary::Input::SnapshotBegun { at: Offset(random.next() >> random.below(64)) },
                5 => primary::Input::SnapshotChunk(bytes),
                6 => primary::Input::SnapshotDone { file_bytes: 5 },
                7 => primary::Input::SnapshotFailed,
                8 => primary::Input::Sent { replica, bytes: random.next() >> random.below(64) },
                9 => primary::Input::Closed { replica },
                10 => primary::Input::Tick,
                _ => primary::Input::Received { replica, bytes: &bytes },
            };
            node.step_replicas(now, input, &mut out);
            node.append(now, b"*1\r\n$1\r\nx\r\n", &mut out);
            let held = drain(&mut node, now, &mut out);
            assert!(held <= 4 * SENT_BYTES_MAX, "seed {seed}: {held}");
            assert!(node.primary().replica_count() <= 4);
            assert!(node.primary().replicas(now).all(|facts| facts.ip.len() < 300 && !facts.ip.contains('\n')));
        }
    }
}
