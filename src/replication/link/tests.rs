//! The replica's side as scripts: what happens, then what it says. Lines were taken from redis-server 7.0.15.

use super::stream::Kind;
use super::*;
use crate::protocol::Args;
use crate::replication::history::ReplId;
use crate::replication::node::testing::address;

struct Script {
    link: Link,
    now: i64,
    out: Vec<Output>,
}

fn id(byte: u8) -> ReplId {
    ReplId::from_random([byte; 20])
}

fn standing(byte: u8, offset: u64) -> Option<Standing> {
    Some(Standing { id: id(byte), offset: Offset(offset), db: 0 })
}

impl Script {
    fn new(config: Config) -> Script {
        Script { link: Link::new(Config { repl_timeout_s: 60, port: 7001, ..config }), now: 0, out: Vec::new() }
    }

    fn step(&mut self, input: Input<'_>) -> &mut Self {
        self.link.step(self.now, input, &mut self.out);
        self
    }

    fn receive(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.step(Input::Received(bytes.as_ref()))
    }

    fn follow(&mut self, standing: Option<Standing>) -> &mut Self {
        self.step(Input::ReplicaOf { primary: address(), standing })
    }

    /// Up to the request for the stream.
    fn shake_hands(&mut self, standing: Option<Standing>) -> &mut Self {
        self.follow(standing).step(Input::Connected).receive("+PONG\r\n").receive("+OK\r\n+OK\r\n")
    }

    fn seconds(&mut self, seconds: i64) -> &mut Self {
        for _ in 0..seconds {
            self.now += 1000;
            self.step(Input::Tick);
        }
        self
    }

    fn said(&mut self) -> Vec<String> {
        let words = |output: Output| match output {
            Output::Connect(address) => format!("connect {address}"),
            Output::Send(bytes) => format!("> {}", bytes.escape_ascii()),
            Output::LoadBytes(bytes) => format!("load {}", bytes.escape_ascii()),
            Output::Log(_, line) => line,
            other => format!("{other:?}"),
        };
        self.out.drain(..).map(words).collect()
    }

    /// The same without the lines for the log.
    fn done(&mut self) -> Vec<String> {
        self.out.retain(|output| !matches!(output, Output::Log(..)));
        self.said()
    }

    /// The commands that have come, and the bytes that go to the node's own stream.
    fn fetch(&mut self) -> (Vec<(Kind, u32, u64)>, Vec<u8>) {
        let (mut args, mut seen, mut stream) = (Args::new(), Vec::new(), Vec::new());
        while let Some((fetched, range)) = self.link.fetch(&mut args, &mut self.out) {
            assert!(self.link.fetched_bytes(range).ends_with(b"\n"));
            seen.push((fetched.kind, fetched.db, fetched.end.0));
        }
        self.link.take_stream(|bytes| stream.extend_from_slice(bytes));
        self.link.give_up_if_corrupt(self.now, &mut self.out);
        (seen, stream)
    }
}

fn online() -> Script {
    let mut script = Script::new(Config::default());
    script.shake_hands(standing(1, 100)).receive("+CONTINUE\r\n").said();
    script
}

#[test]
fn a_first_synchronization_in_redis_words() {
    let mut script = Script::new(Config::default());
    let wanted = ["Connecting to MASTER 10.0.0.1:6379", "MASTER <-> REPLICA sync started", "connect 10.0.0.1:6379"];
    assert_eq!(script.follow(None).said(), wanted);
    let wanted = ["Non blocking connect for SYNC fired the event.", "> *1\\r\\n$4\\r\\nPING\\r\\n"];
    assert_eq!(script.step(Input::Connected).said(), wanted);
    let conf = "*3\\r\\n$8\\r\\nREPLCONF\\r\\n$14\\r\\nlistening-port\\r\\n$4\\r\\n7001\\r\\n";
    let capa = "*5\\r\\n$8\\r\\nREPLCONF\\r\\n$4\\r\\ncapa\\r\\n$3\\r\\neof\\r\\n$4\\r\\ncapa\\r\\n$6\\r\\npsync2\\r\\n";
    let wanted = ["Master replied to PING, replication can continue...", &format!("> {conf}{capa}")];
    assert_eq!(script.receive("+PO").receive("NG\r\n").said(), wanted);
    let psync = "> *3\\r\\n$5\\r\\nPSYNC\\r\\n$1\\r\\n?\\r\\n$2\\r\\n-1\\r\\n";
    let wanted = ["Partial resynchronization not possible (no cached master)", psync];
    assert_eq!(script.receive("+OK\r\n+OK\r\n").said(), wanted);
    assert_eq!((script.link.state_name(), script.link.is_up(), script.link.role_offset()), ("handshake", false, -1));
    let wanted = [
        &format!("Full resync from master: {}:70", id(5)),
        "MASTER <-> REPLICA sync: receiving 9 bytes from master to disk",
        "LoadBegins { bytes: Some(9), to: Disk, is_same_history: false }",
        "load REDIS",
    ];
    assert_eq!(script.receive(format!("\n+FULLRESYNC {} 70\r\n\n$9\r\nREDIS", id(5))).said(), wanted);
    assert_eq!(script.link.transfer(3000).map(|facts| (facts.total_bytes, facts.read_bytes, facts.last_io_s)), Some((9, 5, 3)));
    let wanted = [
        "load 0010",
        "History(Drop)",
        "MASTER <-> REPLICA sync: Flushing old data",
        "MASTER <-> REPLICA sync: Loading DB in memory",
        "LoadEnds",
    ];
    assert_eq!(script.receive("0010*1\r\n$4\r\nping\r\n*1\r\n").said(), wanted, "the stream follows at once");
    assert_eq!((script.link.wants_bytes(), script.fetch().0.len()), (false, 0));
    assert_eq!(script.seconds(2).said(), ["> \\n", "> \\n"], "so that the primary sees that it is there");
    let adopted = format!("History(Adopt {{ id: {}, offset: Offset(70) }})", id(5));
    let wanted = [&adopted, "MASTER <-> REPLICA sync: Finished with success", "History(LinkUp)"];
    assert_eq!(script.step(Input::LoadFinished { db: Some(2) }).said(), wanted);
    assert_eq!(script.fetch(), (vec![(Kind::Own, 2, 84)], b"*1\r\n$4\r\nping\r\n".to_vec()));
    assert_eq!(script.link.offsets(), (88, 70), "read, and applied");
    let ack = |offset| format!("> *3\\r\\n$8\\r\\nREPLCONF\\r\\n$3\\r\\nACK\\r\\n$2\\r\\n{offset}\\r\\n");
    assert_eq!(script.step(Input::Applied(Offset(84))).seconds(1).said(), [ack(84)]);
}

#[test]
fn a_streamed_data_set_ends_with_its_mark_however_it_is_cut() {
    let text = format!("+FULLRESYNC {} 7\r\n$EOF:{}\r\nREDIS...{}", id(1), id(2), id(2));
    for size in 1..text.len() {
        let mut script = Script::new(Config { load_to: LoadTo::Memory, ..Config::default() });
        script.shake_hands(None).said();
        text.as_bytes().chunks(size).for_each(|piece| {
            script.receive(piece);
        });
        let done = script.done();
        let loaded: String = done.iter().filter_map(|words| words.strip_prefix("load ")).collect();
        assert_eq!((&*loaded, done.last().map(String::as_str)), ("REDIS...", Some("LoadEnds")), "{size}");
        assert_eq!(done[..2], ["History(Drop)", "LoadBegins { bytes: None, to: Memory, is_same_history: false }"]);
        assert_eq!(
            script.step(Input::LoadFinished { db: None }).done()[2],
            "> *3\\r\\n$8\\r\\nREPLCONF\\r\\n$3\\r\\nACK\\r\\n$1\\r\\n7\\r\\n"
        );
    }
}

#[test]
fn it_says_who_it_is() {
    let config =
        Config { masterauth: Some(b"secret".to_vec()), replica_announce_ip: Some("1.2.3.4".to_owned()), ..Config::default() };
    let mut script = Script::new(Config { masteruser: Some(b"me".to_vec()), ..config });
    script.follow(None).step(Input::Connected).said();
    let said = script.receive("-NOAUTH Authentication required.\r\n").said();
    assert!(said[1].starts_with("> *3\\r\\n$4\\r\\nAUTH\\r\\n$2\\r\\nme\\r\\n$6\\r\\nsecret\\r\\n*3"), "{said:?}");
    assert!(said[1].contains("$10\\r\\nip-address\\r\\n$7\\r\\n1.2.3.4\\r\\n"));
    let said = script.receive("+OK\r\n-ERR a\r\n-ERR b\r\n-ERR c\r\n").said();
    let does_not = |option, why| format!("(Non critical) Master does not understand REPLCONF {option}: -ERR {why}");
    assert_eq!(said[..3], [does_not("listening-port", "a"), does_not("ip-address", "b"), does_not("capa", "c")]);
    let mut script = Script::new(Config { masterauth: Some(b"wrong".to_vec()), ..Config::default() });
    script.follow(None).step(Input::Connected).receive("+PONG\r\n").said();
    assert_eq!(script.receive("-WRONGPASS no\r\n").said(), ["Unable to AUTH to MASTER: -WRONGPASS no", "Close"]);
    assert_eq!(script.seconds(1).done(), ["connect 10.0.0.1:6379"]);
    script.step(Input::Connected).said();
    assert_eq!(script.receive("-LOADING wait\r\n").said(), ["Error reply to PING from master: '-LOADING wait'", "Close"]);
}

#[test]
fn what_it_has_is_continued_over_connections_and_primaries() {
    let mut script = Script::new(Config::default());
    let said = script.shake_hands(standing(1, 100)).said();
    assert!(said[0].starts_with("Before turning into a replica, using my own master parameters to synthesize a cached master"));
    assert!(said.contains(&format!("Trying a partial resynchronization (request {}:101).", id(1))), "{said:?}");
    let wanted = [
        "Successful partial resynchronization with master.".to_owned(),
        format!("Master replication ID changed to {}", id(2)),
        format!("History(ContinueAs({}))", id(2)),
        "MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.".to_owned(),
        "History(LinkUp)".to_owned(),
    ];
    assert_eq!(script.receive(format!("+CONTINUE {}\r\n*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nDEL", id(2))).said(), wanted);
    assert_eq!((script.fetch().1.len(), script.link.offsets()), (14, (125, 100)));
    script.step(Input::Applied(Offset(114)));
    let wanted = [
        "Connection with master lost.",
        "Caching the disconnected master state.",
        "History(LinkDown)",
        "Close",
        "Reconnecting to MASTER 10.0.0.1:6379",
        "MASTER <-> REPLICA sync started",
        "connect 10.0.0.1:6379",
    ];
    assert_eq!(script.step(Input::Closed("reset".to_owned())).said(), wanted);
    assert_eq!((script.link.offsets(), script.link.down_since_s(5000)), ((114, 114), Some(5)), "half a command is worth nothing");
    let other = Address { host: "other".to_owned(), port: 1 };
    let said = script.step(Input::ReplicaOf { primary: other, standing: standing(9, 9) }).step(Input::Connected).done();
    assert_eq!(said[..2], ["Close", "connect other:1"]);
    let said = script.receive("+PONG\r\n+OK\r\n+OK\r\n").said();
    assert!(said.contains(&format!("Trying a partial resynchronization (request {}:115).", id(2))), "{said:?}");
    assert_eq!(script.step(Input::NoOne).said(), ["Close", "Discarding previously cached master state.", "History(Promote)"]);
    assert_eq!((script.link.state_name(), script.seconds(5).said().len()), ("none", 0));
}

#[test]
fn answers_to_psync_other_than_yes() {
    let answer = |text: &str| {
        let mut script = Script::new(Config::default());
        script.shake_hands(None).said();
        script.receive(format!("{text}\r\n")).said()
    };
    for text in ["-NOMASTERLINK Can't SYNC while not connected with my master", "-LOADING Redis is loading"] {
        let line = format!("Master is currently unable to PSYNC but should be in the future: {text}");
        assert_eq!(answer(text), [&line, "Close"]);
    }
    let retry = ["Retrying with SYNC...", "> SYNC\\r\\n"];
    let unknown = "Master does not support PSYNC or is in error state (reply: -ERR unknown command)";
    assert_eq!(answer("-ERR unknown command"), [&[unknown][..], &retry].concat());
    for text in ["-NOAUTH a", "-NOPERM b", "+CONTINUE", "what"] {
        let line = format!("Unexpected reply to PSYNC from master: {text}");
        assert_eq!(answer(text), [&[&*line][..], &retry].concat());
    }
    for text in ["+FULLRESYNC", "+FULLRESYNC x 1", &format!("+FULLRESYNC {} -1", id(1)), &format!("+FULLRESYNC {} x", id(1))] {
        assert_eq!(answer(text), ["Master replied with wrong +FULLRESYNC syntax.", "Close"]);
    }
}

#[test]
fn a_transfer_that_goes_wrong_is_tried_again_at_once() {
    let again = |what: &str| {
        let mut lines =
            vec![what.to_owned(), "Close".to_owned(), "Reconnecting to MASTER 10.0.0.1:6379 after failure".to_owned()];
        lines.extend(["MASTER <-> REPLICA sync started".to_owned(), "connect 10.0.0.1:6379".to_owned()]);
        lines
    };
    let started = |rest: &str| {
        let mut script = Script::new(Config::default());
        script.shake_hands(standing(1, 5)).receive(format!("+FULLRESYNC {} 1\r\n{rest}", id(2))).said();
        script
    };
    let bad =
        "Bad protocol from MASTER, the first byte is not '$' (we received 'hello'), are you sure the host and port are right?";
    assert_eq!(started("").receive("hello\r\n").said(), again(bad));
    assert_eq!(started("").receive("-ERR no\r\n").said(), again("MASTER aborted replication with an error: ERR no"));
    assert_eq!(started("").step(Input::Closed("x".to_owned())).said(), again("I/O error reading bulk count from MASTER: x"));
    let mut script = started("$100\r\nREDIS");
    assert_eq!(script.step(Input::Closed("x".to_owned())).done(), ["LoadAborted", "Close", "connect 10.0.0.1:6379"]);
    assert_eq!(script.link.standing(), standing(1, 5), "nothing of the old data was touched");
    let mut script = started("$5\r\nREDIS");
    let done = script.step(Input::LoadFailed("bad".to_owned())).said();
    assert_eq!(done[0], "Failed trying to load the MASTER synchronization DB from disk: bad");
    assert_eq!((script.link.standing(), script.link.offsets()), (None, (1, 1)));
    let mut script = started("$100\r\nREDIS");
    assert!(script.seconds(61).said()[0].starts_with("Timeout receiving bulk data from MASTER... If the problem persists"));
    let mut script = online();
    assert_eq!(script.seconds(61).said()[60], "MASTER timeout: no data nor PING received...");
    let mut script = Script::new(Config::default());
    script.follow(None).said();
    assert_eq!(script.step(Input::ConnectFailed("refused".to_owned())).said(), ["Error condition on socket for SYNC: refused"]);
    script.seconds(1).said();
    assert_eq!(script.seconds(61).said()[0], "Timeout connecting to the MASTER...");
}

#[test]
fn blocks_count_when_they_are_whole() {
    let mut script = online();
    let block = b"*2\r\n$6\r\nselect\r\n$1\r\n3\r\n*1\r\n$5\r\nMULTI\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n4\r\n*1\r\n$1\r\nx\r\n";
    let (seen, stream) = script.receive(block).fetch();
    let kinds: Vec<_> = seen.iter().map(|(kind, db, _)| (*kind, *db)).collect();
    assert_eq!(kinds, [(Kind::Own, 3), (Kind::Multi, 3), (Kind::Own, 4), (Kind::Command, 4)]);
    assert_eq!((stream.len(), script.link.standing().unwrap().offset), (23, Offset(123)), "up to the block");
    let (seen, stream) = script.receive(b"*1\r\n$4\r\nEXEC\r\n").fetch();
    assert_eq!(
        (seen[0].0, stream.len(), script.link.standing().unwrap().offset.0),
        (Kind::Exec, block.len() - 23 + 14, 114 + block.len() as u64)
    );
    script.receive(b"*1\r\n$5\r\nMULTI\r\n*1\r\n$1\r\nx\r\n").fetch();
    assert!(script.step(Input::Closed(String::new())).done().contains(&"DropBlock".to_owned()));
}

#[test]
fn the_offset_is_told_when_it_is_asked_for_and_reached() {
    let mut script = online();
    let getack = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";
    script.receive(b"*1\r\n$1\r\nx\r\n").receive(getack).fetch();
    assert!(script.said().is_empty());
    let ack = "> *3\\r\\n$8\\r\\nREPLCONF\\r\\n$3\\r\\nACK\\r\\n$3\\r\\n111\\r\\n";
    assert_eq!(script.step(Input::Applied(Offset(111))).said(), [ack]);
    script.step(Input::Applied(Offset(148))).receive(getack).fetch();
    assert_eq!(script.said().len(), 1, "nothing is outstanding: at once");
    let both = "> *5\\r\\n$8\\r\\nREPLCONF\\r\\n$3\\r\\nACK\\r\\n$3\\r\\n148\\r\\n$4\\r\\nFACK\\r\\n$3\\r\\n";
    assert!(script.step(Input::OnDisk(Some(Offset(111)))).said().is_empty(), "that was not asked for");
    assert_eq!(script.step(Input::OnDisk(Some(Offset(148)))).said(), [format!("{both}148\\r\\n")]);
    script.step(Input::Applied(Offset(185))).receive(getack).fetch();
    assert_eq!(script.said(), [format!("{both}148\\r\\n").replacen("148", "185", 1)], "what is known of the disk at once");
}

#[test]
fn a_stream_that_is_none_ends_the_link_and_what_it_was_built_on() {
    for text in [&b"PING\r\n"[..], b"*1\r\nfoo\r\n", b"*9999999999\r\n"] {
        let mut script = online();
        let (seen, stream) = script.receive(b"*1\r\n$1\r\nx\r\n").receive(text).fetch();
        assert_eq!((seen.len(), stream.len()), (1, 11), "what was good before it counts");
        assert!(script.done().ends_with(&["Close".to_owned(), "connect 10.0.0.1:6379".to_owned()]));
        assert_eq!(script.link.standing(), None);
    }
}

#[test]
fn loading_beside_the_old_data_keeps_it_until_the_end() {
    let mut script = Script::new(Config { load_to: LoadTo::Beside, ..Config::default() });
    script.shake_hands(standing(1, 5)).receive(format!("+FULLRESYNC {} 9\r\n$3\r\nabc", id(1)));
    let done = script.done();
    assert!(done.contains(&"LoadBegins { bytes: Some(3), to: Beside, is_same_history: true }".to_owned()), "{done:?}");
    assert!(!done.contains(&"History(Drop)".to_owned()));
    assert_eq!(script.step(Input::LoadFinished { db: None }).done()[0], "History(Drop)");
}
