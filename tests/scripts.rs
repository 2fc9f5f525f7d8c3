//! Conversations of several connections, written as scripts, held with redis-server 7.0.15 and with kvcore: the same replies.
//!
//! Covers what generated commands cannot: waiting, pub/sub, transactions between connections, protocol switches, expiry.
//! A script (`tests/scripts/*.script`) consists of cases, each on an empty server with new connections:
//!
//! ```text
//! == name of the case
//! a SET k v          connection a sends a command; the replies must be equal
//! a~ SMEMBERS s      equal but for the order of the elements
//! a? CLIENT ID       the same structure
//! a+5 PTTL k         integers at most 5 apart
//! a& BLPOP l 0       sends only, and goes on when the server counts one more blocked client
//! a> SUBSCRIBE c     sends only
//! a<                 the next message
//! a<~                the next message, but for the order of its elements
//! a.                 no message comes (for a tenth of a second)
//! a!                 the server closes the connection
//! wait 30            lets 30 ms pass
//! ```

mod generated;
mod harness;

use generated::Check;
use harness::{Client, Server, Value, words};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// How long a command may take to be seen waiting.
const UNTIL_BLOCKED: Duration = Duration::from_secs(3);
/// How long a message may take to come.
const ANSWER: Duration = Duration::from_secs(3);
const SILENCE: Duration = Duration::from_millis(100);

struct Side {
    server: Server,
    control: Client,
    clients: BTreeMap<char, Client>,
    resp3: bool,
}

impl Side {
    fn new(server: Server, resp3: bool) -> Side {
        let control = server.client();
        Side { server, control, clients: BTreeMap::new(), resp3 }
    }

    fn fresh(&mut self) {
        self.clients.clear();
        self.control = self.server.client();
        // What a case that broke off may have left.
        for line in [
            "AUTH secret",
            "CONFIG SET requirepass \"\" notify-keyspace-events \"\"",
            "CLIENT UNPAUSE",
            "DEBUG SET-ACTIVE-EXPIRE 1",
            "FLUSHALL",
        ] {
            self.control.run(line);
        }
        // Connections that are gone no longer count.
        harness::wait_until("connections of the last case to close", || {
            self.control.run("CLIENT LIST").text().lines().count() <= 1
        });
    }

    fn client(&mut self, name: char) -> &mut Client {
        let (server, resp3) = (&self.server, self.resp3);
        self.clients.entry(name).or_insert_with(|| if resp3 { server.client3() } else { server.client() })
    }

    fn blocked(&mut self) -> u64 {
        let info = self.control.run("INFO clients").text();
        let line = info.lines().find_map(|line| line.strip_prefix("blocked_clients:"));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }

    /// Performs a line; the message it leads to, if it leads to one.
    fn perform(&mut self, line: &Line) -> Option<Value> {
        match line.action {
            Action::Command => {
                let client = self.client(line.connection);
                client.send(&line.args);
                Some(next(client))
            }
            Action::Send => {
                self.client(line.connection).send(&line.args);
                None
            }
            Action::Block => {
                self.client(line.connection);
                let before = self.blocked();
                self.client(line.connection).send(&line.args);
                let deadline = Instant::now() + UNTIL_BLOCKED;
                while self.blocked() <= before && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(2));
                }
                None
            }
            Action::Read => Some(next(self.client(line.connection))),
            Action::Silence => self.client(line.connection).message_within(SILENCE),
            Action::Closed => {
                let closed = self.client(line.connection).read_until_closed(Duration::from_secs(3));
                Some(Value::Simple(if closed.is_ok() { "closed".into() } else { "still open".into() }))
            }
        }
    }
}

fn next(client: &mut Client) -> Value {
    client.message_or(ANSWER).unwrap_or_else(|error| Value::Error(format!("(no message: {})", error.kind())))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Command,
    Send,
    Block,
    Read,
    Silence,
    Closed,
}

struct Line {
    connection: char,
    action: Action,
    check: Check,
    args: Vec<Vec<u8>>,
}

fn parse(text: &str) -> Line {
    let (head, rest) = text.split_once(' ').unwrap_or((text, ""));
    let connection = head.chars().next().expect("a connection's name");
    let (action, check) = match &head[1..] {
        "" => (Action::Command, Check::Exact),
        "~" => (Action::Command, Check::Unordered),
        "?" => (Action::Command, Check::Shape),
        "&" => (Action::Block, Check::Exact),
        ">" => (Action::Send, Check::Exact),
        "<" => (Action::Read, Check::Exact),
        "<~" => (Action::Read, Check::Unordered),
        "<?" => (Action::Read, Check::Shape),
        "." => (Action::Silence, Check::Exact),
        "!" => (Action::Closed, Check::Exact),
        other => match other.strip_prefix('+') {
            Some(tolerance) => (Action::Command, Check::Near(tolerance.parse().expect("a tolerance"))),
            None => panic!("what does {head:?} mean in {text:?}?"),
        },
    };
    Line { connection, action, check, args: words(rest) }
}

fn run_scripts(cores: usize, resp3: bool) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("the scripts").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let only = std::env::var("KVCORE_CASE").unwrap_or_default();
    let extra = ["--enable-debug-command", "yes"];
    let (mut redis, mut kvcore) = (Side::new(Server::redis(&extra), resp3), Side::new(Server::kvcore(cores, &extra), resp3));
    let (mut report, mut failed, mut cases) = (String::new(), 0, 0);
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a script");
        for case in text.split("\n== ").skip(1) {
            let (name, body) = case.split_once('\n').unwrap_or((case, ""));
            if !name.contains(&only) {
                continue;
            }
            cases += 1;
            let began = Instant::now();
            redis.fresh();
            kvcore.fresh();
            if let Err(difference) = run_case(body, &mut redis, &mut kvcore) {
                failed += 1;
                let _ = writeln!(report, "== {name} ({})\n{difference}", file.file_name().expect("a name").to_string_lossy());
            }
            println!("{:6.0} ms {name}", began.elapsed().as_secs_f64() * 1000.0);
        }
    }
    assert!(cases > 0, "no case is called {only:?}");
    assert!(failed == 0, "{failed} of {cases} cases differ at --cores {cores}, RESP{}\n{report}", if resp3 { 3 } else { 2 });
}

fn run_case(body: &str, redis: &mut Side, kvcore: &mut Side) -> Result<(), String> {
    for text in body.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(ms) = text.strip_prefix("wait ") {
            std::thread::sleep(Duration::from_millis(ms.parse().expect("milliseconds")));
            continue;
        }
        let line = parse(text);
        let (reference, tested) = (redis.perform(&line), kvcore.perform(&line));
        let same = match (&reference, &tested) {
            (Some(a), Some(b)) => line.check.agrees(a, b),
            (a, b) => a == b,
        };
        let sound = !matches!(&reference, Some(Value::Error(text)) if text.starts_with("(no message"));
        if !same || !sound {
            let show = |value: Option<Value>| value.map_or("(nothing)".into(), |value| value.to_string());
            return Err(format!("  {text}\n    redis  {}\n    kvcore {}\n", show(reference), show(tested)));
        }
    }
    Ok(())
}

#[test]
fn one_core_resp2() {
    run_scripts(1, false);
}

#[test]
fn one_core_resp3() {
    run_scripts(1, true);
}

#[test]
fn two_cores_resp2() {
    run_scripts(2, false);
}

#[test]
fn two_cores_resp3() {
    run_scripts(2, true);
}
