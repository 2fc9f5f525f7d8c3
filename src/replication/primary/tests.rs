//! The primary's side as scripts: what happens, then what it says. Bytes and lines were taken from redis-server 7.0.15.

use super::request::Contents;
use super::*;
use crate::replication::node::testing::{about, counted_ids, psync};

/// A primary with a clock that is moved by hand.
struct Script {
    primary: Primary,
    now: i64,
    out: Vec<Output>,
}

fn id(count: u8) -> String {
    ReplId::from_random([count; 20]).to_string()
}

impl Script {
    fn new(config: Config) -> Script {
        Script { primary: Primary::new(config, counted_ids(), 0), now: 0, out: Vec::new() }
    }

    fn step(&mut self, input: Input<'_>) -> &mut Self {
        self.primary.step(self.now, input, &mut self.out);
        self
    }

    fn sync(&mut self, replica: u64, about: About, request: Request) -> &mut Self {
        self.step(Input::Sync { replica: ReplicaId(replica), about, request })
    }

    fn begun(&mut self) -> &mut Self {
        let at = self.primary.history().offset();
        self.step(Input::SnapshotBegun { at })
    }

    fn sent_all(&mut self, replica: u64) -> &mut Self {
        self.step(Input::Sent { replica: ReplicaId(replica), bytes: u64::MAX })
    }

    fn ack(&mut self, replica: u64, offset: u64) -> &mut Self {
        let bytes = format!("*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n${}\r\n{offset}\r\n", offset.to_string().len());
        self.step(Input::Received { replica: ReplicaId(replica), bytes: bytes.as_bytes() })
    }

    fn append(&mut self, bytes: &[u8]) -> &mut Self {
        self.primary.append(self.now, bytes, &mut self.out);
        self
    }

    fn seconds(&mut self, seconds: i64) -> &mut Self {
        for _ in 0..seconds {
            self.now += 1000;
            self.step(Input::Tick);
        }
        self
    }

    /// What has come out, in words; what is sent to one replica one behind the other is joined.
    fn said(&mut self) -> Vec<String> {
        let mut said: Vec<String> = Vec::new();
        for output in self.out.drain(..) {
            let words = match output {
                Output::Send { to, bytes } => {
                    let (to, text) = (format!("{} < ", to.0), bytes.escape_ascii().to_string());
                    if let Some(last) = said.last_mut().filter(|last| last.starts_with(&to)) {
                        last.push_str(&text);
                        continue;
                    }
                    to + &text
                }
                Output::Log(_, line) => line,
                Output::SendFile { to, bytes } => format!("{} < file of {bytes}", to.0),
                Output::Close { replica, how } => format!("close {} {how:?}", replica.0),
                Output::Refuse { to, reply } => format!("refuse {} {}", to.0, reply.as_bytes().escape_ascii()),
                Output::BeginSnapshot { target, .. } => format!("snapshot to {target:?}"),
                other => format!("{other:?}"),
            };
            said.push(words);
        }
        said
    }

    /// The same without the lines for the log.
    fn done(&mut self) -> Vec<String> {
        self.out.retain(|output| !matches!(output, Output::Log(..)));
        self.said()
    }
}

fn at_once() -> Config {
    Config { repl_diskless_sync_delay_s: 0, repl_ping_replica_period_s: 1_000_000, ..Config::default() }
}

/// With one replica that has had a snapshot and acknowledges.
fn online(config: Config) -> Script {
    let mut script = Script::new(config);
    script.sync(1, about(7001), psync("?", -1)).begun().step(Input::SnapshotDone { file_bytes: 3 }).sent_all(1).ack(1, 0);
    script.said();
    script
}

#[test]
fn a_streamed_snapshot_then_the_stream_after_the_first_ack() {
    let mut script = Script::new(at_once());
    let wanted = [
        "Replica 10.0.0.9:7001 asks for synchronization",
        "Full resync requested by replica 10.0.0.9:7001",
        "Feed(true)",
        &format!("Replication backlog created, my new replication IDs are '{}' and '{}'", id(2), "0".repeat(40)),
        "Starting BGSAVE for SYNC with target: replicas sockets",
        "snapshot to Sockets",
    ];
    assert_eq!(script.sync(1, about(7001), psync("?", -1)).said(), wanted);
    script.append(b"before");
    assert_eq!(script.begun().said(), [format!("1 < +FULLRESYNC {} 6\\r\\n$EOF:{}\\r\\n", id(2), id(3))]);
    assert!(script.primary.wants_chunk());
    script.append(b"since").step(Input::SnapshotChunk(vec![b'x'; WINDOW_BYTES as usize])).out.clear();
    assert!(!script.primary.wants_chunk(), "until most of it is sent");
    assert!(script.step(Input::Sent { replica: ReplicaId(1), bytes: 200 }).primary.wants_chunk());
    let wanted = [
        "Diskless rdb transfer, done reading from pipe, 1 replicas still up.",
        &format!("1 < {}", id(3)),
        "Streamed RDB transfer with replica 10.0.0.9:7001 succeeded (socket). Waiting for REPLCONF ACK from slave to enable streaming",
        "Synchronization with replica 10.0.0.9:7001 succeeded",
    ];
    assert_eq!(script.step(Input::SnapshotDone { file_bytes: 0 }).said(), wanted);
    assert!(script.sent_all(1).append(b"!").said().is_empty());
    assert_eq!(script.ack(1, 6).said(), ["1 < since!"]);
    assert_eq!(script.append(b"more").said(), ["1 < more"]);
    let facts: Vec<_> = script.primary.replicas(script.now + 2500).collect();
    assert_eq!((facts[0].state, facts[0].offset, facts[0].lag_s, facts[0].port), ("online", Offset(6), 2, 7001));
}

#[test]
fn a_snapshot_on_disk_is_shared_also_by_one_that_comes_later() {
    let mut script = Script::new(Config { repl_diskless_sync: false, ..at_once() });
    script.sync(1, about(7001), psync("?", -1)).begun().append(b"abc");
    let shown = script.done();
    assert_eq!(shown[1..], ["snapshot to Disk", &format!("1 < +FULLRESYNC {} 0\\r\\n", id(2))]);
    let said = script.sync(2, about(7002), psync(&id(9), 5)).said();
    assert!(
        said[1].starts_with(&format!(
            "Partial resynchronization not accepted: Replication ID mismatch (Replica asked for '{}'",
            id(9)
        ))
    );
    assert_eq!(said[2..], [&format!("2 < +FULLRESYNC {} 0\\r\\n", id(2)), "Waiting for end of BGSAVE for SYNC"]);
    let less = About { eof: false, psync2: false, ..about(7003) };
    let said = script.sync(3, less, Request::Sync).said();
    assert_eq!(said[1..], ["Can't attach the replica to the current BGSAVE. Waiting for next BGSAVE for SYNC"]);
    assert_eq!(script.seconds(1).done(), ["1 < \\n", "2 < \\n", "3 < \\n"]);
    let done = script.step(Input::SnapshotDone { file_bytes: 3 }).done();
    assert_eq!(done, ["1 < $3\\r\\n", "1 < file of 3", "2 < $3\\r\\n", "2 < file of 3", "snapshot to Disk"]);
    let states: Vec<_> = script.primary.replicas(script.now).map(|facts| facts.state).collect();
    assert_eq!(states, ["send_bulk", "send_bulk", "wait_bgsave"]);
    assert_eq!(script.sent_all(1).said(), ["Synchronization with replica 10.0.0.9:7001 succeeded", "1 < abc"], "without an ACK");
    assert_eq!(script.begun().done(), [""; 0], "one that came with SYNC is told nothing");
    let done = script.step(Input::SnapshotDone { file_bytes: 1 }).sent_all(3).done();
    assert_eq!(done, ["3 < $1\\r\\n", "3 < file of 1"], "the second replica's file is another");
}

#[test]
fn whoever_was_away_continues_where_the_backlog_reaches() {
    let mut script = online(at_once());
    script.append(b"0123456789").sent_all(1);
    script.step(Input::Closed { replica: ReplicaId(1) }).append(b"more");
    assert_eq!(script.said(), ["1 < 0123456789", "Connection with replica 10.0.0.9:7001 lost."]);
    let said = script.sync(2, about(7001), psync(&id(2).to_uppercase(), 9)).said();
    let accepted =
        "Partial resynchronization request from 10.0.0.9:7001 accepted. Sending 6 bytes of backlog starting from offset 9.";
    assert_eq!(said[1..], [format!("2 < +CONTINUE {}\\r\\n", id(2)), accepted.to_owned(), "2 < 89more".to_owned()]);
    let old = About { psync2: false, ..about(0) };
    assert_eq!(script.sync(3, old, psync(&id(2), 15)).done(), ["3 < +CONTINUE\\r\\n"]);
    for (request, counted) in [(16, 1), (0, 2), (-5, 3), (i64::MIN, 4), (i64::MAX, 5)] {
        let said = script.sync(100, about(7004), psync(&id(2), request)).said();
        let why =
            format!("Unable to partial resync with replica 10.0.0.9:7004 for lack of backlog (Replica request was: {request}).");
        assert_eq!(said[1], why);
        assert_eq!(said[2].starts_with("Warning: replica"), request > 15, "{said:?}");
        assert_eq!(script.primary.counts.sync_partial_err, counted);
        script.step(Input::Closed { replica: ReplicaId(100) }).begun().step(Input::SnapshotFailed).said();
    }
    assert_eq!(script.primary.counts, Counts { sync_full: 6, sync_partial_ok: 2, sync_partial_err: 5 });
}

#[test]
fn a_promoted_node_is_asked_anew_and_goes_on_with_both_ids() {
    let mut script = online(at_once());
    script.append(b"0123456789").sent_all(1).said();
    script.primary.promote(script.now, &mut script.out);
    let said = script.said();
    assert!(said[0].ends_with(&format!("valid up to offset: 11. New replication ID is {}", id(4))), "{said:?}");
    assert_eq!(said[1..], ["close 1 Now", "Connection with replica 10.0.0.9:7001 lost."]);
    script.append(b"new");
    assert_eq!(script.sync(1, about(7001), psync(&id(2), 11)).done(), [format!("1 < +CONTINUE {}\\r\\nnew", id(4))]);
    let said = script.sync(2, about(7002), psync(&id(2), 12)).said();
    assert!(said[1].ends_with("Requested offset for second ID was 12, but I can reply up to 11"), "{said:?}");
}

#[test]
fn streamed_snapshots_wait_for_company() {
    let config = Config { repl_diskless_sync_delay_s: 3, repl_diskless_sync_max_replicas: 3, ..at_once() };
    let mut script = Script::new(config);
    assert_eq!(script.sync(1, about(7001), psync("?", -1)).said().last().unwrap(), "Delay next BGSAVE for diskless SYNC");
    assert_eq!(script.seconds(2).done()[1..], [""; 0]);
    script.sync(2, about(7002), psync("?", -1)).done();
    assert!(script.seconds(1).done().contains(&"snapshot to Sockets".to_owned()), "the first has waited long enough");
    script.begun().said();
    let said = script.sync(3, about(7003), psync("?", -1)).said();
    assert_eq!(said.last().unwrap(), "Current BGSAVE has socket target. Waiting for next BGSAVE for SYNC");
    script.sync(4, about(7004), psync("?", -1)).sync(5, about(7005), psync("?", -1)).said();
    assert_eq!(
        script.step(Input::SnapshotDone { file_bytes: 0 }).done().last().unwrap(),
        "snapshot to Sockets",
        "enough have come"
    );
}

#[test]
fn a_snapshot_that_fails_or_that_nobody_wants_leaves_nothing_behind() {
    let mut script = Script::new(at_once());
    script.sync(1, about(7001), psync("?", -1)).said();
    let failed = "1 < -ERR BGSAVE failed, replication can\\'t continue\\r\\n";
    assert_eq!(script.step(Input::SnapshotFailed).done(), [failed, "close 1 AfterOutput"]);
    script.sync(2, about(7002), psync("?", -1)).begun().said();
    let failed = ["SYNC failed. BGSAVE child returned an error", "close 2 Now", "Connection with replica 10.0.0.9:7002 lost."];
    assert_eq!(script.step(Input::SnapshotFailed).said(), failed);
    script.sync(3, about(7003), psync("?", -1)).begun().said();
    let dropped =
        ["Connection with replica 10.0.0.9:7003 lost.", "Diskless rdb transfer, last replica dropped, killing fork child."];
    assert_eq!(script.step(Input::Closed { replica: ReplicaId(3) }).said(), [&dropped[..], &["GiveUpSnapshot"]].concat());
    let said = script.sync(4, about(7004), psync("?", -1)).said();
    assert!(said.last().unwrap().ends_with("BGSAVE for replication delayed"), "{said:?}");
    assert_eq!(script.step(Input::SnapshotFailed).done(), ["snapshot to Sockets"]);
}

#[test]
fn other_saves_come_first() {
    let mut script = Script::new(Config { repl_diskless_sync: false, ..at_once() });
    script.step(Input::OtherSave(OtherSave::Rewrite)).sync(1, about(7001), psync("?", -1));
    assert!(script.said().last().unwrap().starts_with("No BGSAVE in progress, but another BG operation is active."));
    script.step(Input::OtherSave(OtherSave::Rdb)).sync(2, about(7002), psync("?", -1));
    assert!(script.said().last().unwrap().starts_with("Can't attach the replica to the current BGSAVE."));
    assert_eq!(script.step(Input::OtherSave(OtherSave::None)).done(), ["snapshot to Disk"]);
}

#[test]
fn one_that_wants_only_the_snapshot_gets_no_more() {
    let mut script = Script::new(at_once());
    script.sync(1, About { rdb_only: true, eof: false, ..about(7001) }, psync("?", -1)).begun().append(b"stream").said();
    let done = script.step(Input::SnapshotDone { file_bytes: 5 }).append(b"more").sent_all(1).said();
    let leaves = "RDB transfer completed, rdb only replica (10.0.0.9:7001) should be disconnected asap";
    let wanted = ["1 < $5\\r\\n", "1 < file of 5", leaves, "close 1 Now", "Connection with replica 10.0.0.9:7001 lost."];
    assert_eq!(done, wanted);
    let filtered = Contents { without_data: true, without_functions: true };
    let reply = "refuse 2 -ERR Filtered replica requires EOF capability\\r\\n";
    assert_eq!(script.sync(2, About { contents: filtered, eof: false, ..about(0) }, psync("?", -1)).said(), [reply]);
    script.primary.set_upstream(Upstream::Down);
    let reply = "refuse 3 -NOMASTERLINK Can\\'t SYNC while not connected with my master\\r\\n";
    assert_eq!(script.sync(3, about(7003), psync("?", -1)).said(), [reply]);
}

#[test]
fn a_replica_that_takes_nothing_is_cut_off_and_memory_stays_bounded() {
    let mut script = online(Config { hard_bytes: 4 << 20, soft_bytes: 2 << 20, soft_s: 5, ..at_once() });
    let mut kept = 0;
    for _ in 0..70 {
        script.append(&[b'x'; 100_000]);
        kept = kept.max(script.primary.backlog().unwrap().heap_bytes());
    }
    assert!(script.done().contains(&"close 1 OverLimit".to_owned()));
    assert!((4 << 20..5 << 20).contains(&kept), "{kept}");
    assert!(script.primary.backlog().unwrap().heap_bytes() < 1_500_000);
    let mut script = online(Config { hard_bytes: 0, soft_bytes: 2 << 20, soft_s: 5, ..at_once() });
    script.append(&[b'x'; 3_000_000]).seconds(5).ack(1, 1).done();
    assert_eq!(script.primary.replica_count(), 1, "not for long enough");
    assert!(script.seconds(1).done().contains(&"close 1 OverLimit".to_owned()));
}

#[test]
fn pings_timeouts_and_the_backlogs_end() {
    let mut script = online(Config { repl_ping_replica_period_s: 10, repl_timeout_s: 15, repl_backlog_ttl_s: 20, ..at_once() });
    let pings = script.seconds(11).done();
    assert_eq!(pings, ["1 < *1\\r\\n$4\\r\\nping\\r\\n"]);
    assert_eq!(script.primary.history().offset(), Offset(14));
    let said = script.seconds(5).said();
    assert_eq!(said[0], "Disconnecting timedout replica (streaming sync): 10.0.0.9:7001");
    assert!(script.seconds(20).said().is_empty() && script.primary.is_fed());
    let freed = ["Feed(false)", "Replication backlog freed after 20 seconds without connected replicas."];
    assert_eq!(script.seconds(1).said(), freed);
    assert_eq!((script.primary.history().id().to_string(), script.primary.history().offset()), (id(4), Offset(14)));
}

#[test]
fn lag_and_those_that_have_acknowledged() {
    let mut script = online(at_once());
    script.append(b"0123456789").sent_all(1).ack(1, 10).said();
    let primary = &script.primary;
    assert_eq!((primary.acked_by(Offset(10)), primary.acked_by(Offset(11)), primary.on_disk_of(Offset(0))), (1, 0, 0));
    let lags = [999, 3999, 4000].map(|now| primary.replicas(now).map(|replica| replica.lag_s).sum::<i64>());
    assert_eq!(lags, [0, 3, 4]);
    script.primary.request_acks(0, &mut script.out);
    assert_eq!(script.said(), ["1 < *3\\r\\n$8\\r\\nREPLCONF\\r\\n$6\\r\\nGETACK\\r\\n$1\\r\\n*\\r\\n"]);
}
