//! Waiting for replicas: what WAIT counts, and how such clients are seen and let go.

mod harness;

use harness::following::field_of;
use harness::{Client, PATIENCE, Program, Server, Value, encode, wait_until, words};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const ONE: Program = Program::Kvcore { cores: 1 };
const TWO: Program = Program::Kvcore { cores: 2 };
const REDIS: Program = Program::Redis;

const MOMENT: Duration = Duration::from_millis(100);

/// A replica that has nothing, and says what it is told to say.
struct Pretender(TcpStream);

impl Pretender {
    fn attach(server: &Server) -> Pretender {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        for line in ["REPLCONF listening-port 1", "REPLCONF capa eof capa psync2"] {
            let mut reply = [0; 5];
            stream.write_all(&encode(&words(line))).expect("sent");
            stream.read_exact(&mut reply).expect("a reply");
            assert_eq!(&reply, b"+OK\r\n");
        }
        stream.write_all(&encode(&["PSYNC", "?", "-1"])).expect("sent");
        let (mut seen, mut chunk) = (Vec::new(), [0; 4096]);
        while !Self::is_whole(&seen) {
            let len = stream.read(&mut chunk).expect("a snapshot");
            assert!(len > 0, "the snapshot is cut off");
            seen.extend_from_slice(&chunk[..len]);
        }
        let mut pretender = Pretender(stream);
        pretender.says("ACK 0");
        wait_until("it is online", || server.info("slave0").contains("state=online"));
        pretender
    }

    /// A streamed snapshot ends with the 40 bytes that stand at its beginning.
    fn is_whole(seen: &[u8]) -> bool {
        let begin = seen.windows(5).position(|window| window == b"$EOF:").map(|at| at + 5);
        begin.and_then(|at| seen.get(at..at + 40).map(|mark| seen.len() > at + 80 && seen.ends_with(mark))) == Some(true)
    }

    fn says(&mut self, what: &str) {
        self.0.write_all(&encode(&words(&format!("REPLCONF {what}")))).expect("sent");
    }

    /// Acknowledges all that the primary has.
    fn acknowledges(&mut self, server: &Server) {
        let mut client = server.client();
        wait_until("it has all", || {
            // What is behind this reply is in the offset.
            client.run("WAIT 0 0");
            let offset = field_of(&mut client, "master_repl_offset");
            self.says(&format!("ACK {offset}"));
            client.run("WAIT 1 20") == Value::Integer(1)
        });
    }
}

/// A client that waits, and its number.
fn waiting(server: &Server, line: &str) -> (Client, i64) {
    let mut client = server.client();
    client.run("CLIENT SETNAME waits");
    let id = client.run("CLIENT ID").integer();
    client.send(&words(line));
    wait_until("it waits", || server.info("blocked_clients") == "1");
    (client, id)
}

// ---- WAIT ----

#[test]
fn waiting_clients_are_seen_and_let_go_as_by_redis() {
    let told = [ONE, TWO, REDIS].map(|program| {
        let server = Server::following(program, &[]);
        let _replica = Pretender::attach(&server);
        let (mut client, mut told) = (server.client(), Vec::new());
        client.run("SET a 1");
        let (mut waits, id) = waiting(&server, "WAIT 1 0");
        let list = client.run("CLIENT LIST").text();
        let line = list.lines().find(|line| line.contains("name=waits")).expect("it is listed");
        told.extend(line.split(' ').filter(|field| field.starts_with("flags=") || field.starts_with("cmd=")).map(str::to_owned));
        for (how, line) in [("", "WAIT 1 0"), ("TIMEOUT", "WAIT 1 0"), ("ERROR", "WAIT 1 100000")] {
            told.push(server.info("clients_in_timeout_table"));
            told.push(client.run(&format!("CLIENT UNBLOCK {id} {how}")).to_string());
            told.push(waits.reply().to_string());
            told.push(client.run(&format!("CLIENT UNBLOCK {id} {how}")).to_string());
            waits.send(&words(line));
            wait_until("it waits", || server.info("blocked_clients") == "1");
        }
        told.push(server.info("clients_in_timeout_table"));
        waits.send(&["PING"]);
        assert_eq!(waits.message_within(MOMENT), None, "one after the other");
        drop(waits);
        wait_until("it has gone", || server.info("blocked_clients") == "0");
        told.push(server.info("clients_in_timeout_table"));
        let asked = Instant::now();
        told.push(client.run("WAIT 1 50").to_string());
        assert!(asked.elapsed() >= Duration::from_millis(50));
        told.push(format!("{:?}", client.pipeline(&["MULTI", "SET a 2", "WAIT 1 0", "EXEC"].map(words))));
        let (mut waits, _) = waiting(&server, "WAIT 1 0");
        client.run("REPLICAOF 127.0.0.1 1");
        told.push(waits.message_or(PATIENCE).map_or_else(|_| "closed".to_owned(), |reply| reply.to_string()));
        told
    });
    assert_eq!(told[0], told[2]);
    assert_eq!(told[1], told[2]);
}

/// A command in the same pipeline whose key is another core's is waited for too.
#[test]
fn wait_counts_what_was_asked_of_other_cores_before() {
    for program in [TWO, REDIS] {
        let server = Server::following(program, &["--appendonly", "no"]);
        let mut replica = Pretender::attach(&server);
        let mut client = server.client();
        for number in 0..16 {
            replica.acknowledges(&server);
            let requests = [format!("SET key:{number} 1"), "WAIT 1 20".to_owned(), "GET x".to_owned()];
            let replies = client.pipeline(&requests.map(|line| words(&line)));
            assert_eq!(replies, [Value::ok(), Value::Integer(0), Value::Null], "key:{number}");
        }
    }
}
