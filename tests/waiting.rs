//! Waiting for other nodes and for disks: WAIT and WAITAOF, how such clients are seen and let go, and the end of a primary that waits for
//! its replicas.

mod harness;

use harness::following::{ONE, REDIS, TWO, caught_up, field_of};
use harness::{Client, PATIENCE, Server, Value, encode, wait_until, words};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

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

/// A node whose directory took long to look through had forgotten by then that a replica had come, and fed it nothing.
#[test]
fn a_replica_that_comes_while_the_node_starts_is_fed() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    (0..20_000).for_each(|number| drop(std::fs::File::create(folder.path().join(number.to_string())).expect("a file")));
    for program in [ONE, TWO] {
        let server = Server::following(program, &["--dir", folder.path().to_str().expect("a path in UTF-8")]);
        let _replica = Pretender::attach(&server);
        std::thread::sleep(2 * MOMENT);
        let mut client = server.client();
        client.run("SET a 1");
        assert_eq!(client.run("WAIT 1 20"), Value::Integer(0), "it has acknowledged nothing yet");
    }
}

// ---- WAITAOF ----

#[test]
fn what_is_wrong_with_waitaof_is_said_as_by_redis() {
    let server = Server::following(TWO, &[]);
    let mut client = server.client();
    let mut check = |line: &str, error: &str| assert_eq!(client.run(line), Value::Error(format!("ERR {error}")), "{line}");
    check("WAITAOF 2 0 0", "value is out of range, value must between 0 and 1");
    check("WAITAOF -1 0 0", "value is out of range, value must between 0 and 1");
    check("WAITAOF x 0 0", "value is not an integer or out of range");
    check("WAITAOF 0 -1 0", "value is out of range, must be positive");
    check("WAITAOF 0 x 0", "value is out of range, must be positive");
    check("WAITAOF 0 0 -1", "timeout is negative");
    check("WAITAOF 0 0 x", "timeout is not an integer or out of range");
    check("WAITAOF 1 0 0", "WAITAOF cannot be used when numlocal is set but appendonly is disabled.");
    check("WAITAOF 0 0", "wrong number of arguments for 'waitaof' command");
    assert_eq!(client.run("WAITAOF 0 0 0"), counts(0, 0));
    assert_eq!(client.run("WAITAOF 0 1 20"), counts(0, 0));
    client.run("REPLICAOF 127.0.0.1 1");
    let replica = "WAITAOF cannot be used with replica instances. \
                   Please also note that writes to replicas are just local and are not propagated.";
    assert_eq!(client.run("WAITAOF 0 0 0"), Value::Error(format!("ERR {replica}")));
}

#[test]
fn waitaof_waits_for_this_nodes_disk() {
    for (program, policy) in [(ONE, "everysec"), (TWO, "everysec"), (ONE, "always"), (TWO, "always")] {
        let server = Server::following(program, &["--appendonly", "yes", "--appendfsync", policy]);
        let mut client = server.client();
        for number in 0..3 {
            let write = format!("MSET a{number} 1 b{number} 2 c{number} 3");
            let replies = client.pipeline(&[write.as_str(), "WAITAOF 1 0 0", "WAITAOF 0 0 0"].map(words));
            assert_eq!(format!("{replies:?}"), format!("{:?}", [Value::ok(), counts(1, 0), counts(1, 0)]), "{policy}");
        }
        assert_eq!(client.pipeline(&["MULTI", "WAITAOF 1 0 0", "EXEC"].map(words))[2], Value::Array(vec![counts(1, 0)]));
        // Nothing syncs any more; until it does again.
        client.run("CONFIG SET appendfsync no");
        client.run("SET a 1");
        assert_eq!(client.run("WAITAOF 1 0 50"), counts(0, 0));
        let replies = client.pipeline(&["MULTI", "SET a 2", "WAITAOF 1 0 0", "EXEC"].map(words));
        assert_eq!(replies[3], Value::Array(vec![Value::ok(), counts(0, 0)]));
        let (mut waits, id) = waiting(&server, "WAITAOF 1 0 0");
        assert_eq!(client.run(&format!("CLIENT UNBLOCK {id}")), Value::Integer(1));
        assert_eq!(waits.reply(), counts(0, 0));
        waits.send(&words("WAITAOF 1 0 0"));
        assert_eq!(waits.message_within(MOMENT), None);
        client.run("CONFIG SET appendfsync everysec");
        assert_eq!(waits.reply(), counts(1, 0));
        // A file that begins has nothing before its base is written.
        client.run("CONFIG SET appendonly no");
        assert!(client.run("WAITAOF 1 0 0").is_error());
        assert_eq!(client.run("WAITAOF 0 0 0"), counts(0, 0));
        stops_appending();
        client.run("CONFIG SET rdb-key-save-delay 50000");
        client.run("CONFIG SET appendonly yes");
        let begun = Instant::now();
        assert_eq!(client.run("WAITAOF 1 0 0"), counts(1, 0));
        assert!(begun.elapsed() > Duration::from_millis(300), "{:?}", begun.elapsed());
        assert_eq!(server.info("aof_rewrite_in_progress"), "0");
    }
}

/// A node looks at its configuration ten times a second, and shows nobody when it has stopped.
fn stops_appending() {
    std::thread::sleep(3 * MOMENT);
}

fn counts(own: i64, replicas: i64) -> Value {
    Value::Array(vec![Value::Integer(own), Value::Integer(replicas)])
}

#[test]
fn waitaof_counts_replicas_that_have_it_on_disk() {
    let primary = Server::following(TWO, &[]);
    let mut client = primary.client();
    let appends = ["--appendonly", "yes"];
    let replicas = [(TWO, &appends[..]), (ONE, &appends), (TWO, &[])].map(|(program, extra)| Server::following(program, extra));
    replicas.iter().for_each(|replica| replica.follow(primary.port));
    caught_up(&primary, &replicas.each_ref());
    for number in 0..3 {
        client.run(&format!("MSET a{number} 1 b{number} 2 c{number} 3"));
        assert_eq!(client.run("WAITAOF 0 2 0"), counts(0, 2));
        assert!(replicas[..2].iter().all(|replica| replica.client().run(&format!("GET a{number}")) == Value::bulk("1")));
    }
    client.run("SET a 1");
    assert_eq!(client.run("WAITAOF 0 3 2000"), counts(0, 2));
    assert_eq!(client.run("WAIT 3 0"), Value::Integer(3));
    assert_eq!(client.pipeline(&["MULTI", "WAITAOF 0 3 0", "EXEC"].map(words))[2], Value::Array(vec![counts(0, 2)]));
    // One that appends no more says nothing of its disk.
    replicas[0].client().run("CONFIG SET appendonly no");
    stops_appending();
    client.run("SET a 2");
    assert_eq!(client.run("WAITAOF 0 2 2000"), counts(0, 1));
    replicas[0].client().run("CONFIG SET appendonly yes");
    assert_eq!(client.run("WAITAOF 0 2 0"), counts(0, 2));
}

/// As replicas of Redis 7.2 say it.
#[test]
fn waitaof_hears_what_replicas_say_of_their_disks() {
    let server = Server::following(TWO, &["--appendonly", "yes"]);
    let mut replica = Pretender::attach(&server);
    server.client().run("SET a 1");
    replica.acknowledges(&server);
    let (mut waits, _) = waiting(&server, "WAITAOF 1 1 0");
    let offset = server.info_number("master_repl_offset");
    replica.says(&format!("ACK {offset} FACK 1"));
    assert_eq!(waits.message_within(Duration::from_millis(1500)), None);
    replica.says(&format!("ACK {offset} FACK {offset}"));
    assert_eq!(waits.reply(), counts(1, 1));
}

/// A primary before 7.2 reads what it knows, and passes over the rest.
#[test]
fn a_primary_of_old_understands_a_replica_that_appends() {
    for replica in [ONE, TWO] {
        let (primary, replica) = (Server::following(REDIS, &[]), Server::following(replica, &["--appendonly", "yes"]));
        replica.follow(primary.port);
        caught_up(&primary, &[&replica]);
        let mut client = primary.client();
        for number in 0..20 {
            client.run(&format!("SET a {number}"));
            assert_eq!(client.run("WAIT 1 0"), Value::Integer(1));
            std::thread::sleep(MOMENT);
        }
        assert_eq!((primary.info_number("sync_full"), replica.info("master_link_status").as_str()), (1, "up"));
    }
}

// ---- the end ----

/// What the log says of the end, without what differs each time.
fn said_of_the_end(server: &Server) -> Vec<String> {
    let log = server.log();
    let words = ["Waiting for replicas", "Lagging replica", "replicas are in sync", "manually aborted"];
    let lines = log.lines().filter(|line| words.iter().any(|word| line.contains(word)));
    let lines = lines.map(|line| line.split_once(" * ").or(line.split_once(" # ")).expect("a line of the log").1);
    // A lag may be a second more by the clock of the other.
    let shown = |word: &str| match word.starts_with("lag=") || word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_digit()) {
        true => "N".to_owned(),
        false => word.to_owned(),
    };
    lines.map(|line| line.split(' ').map(shown).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn the_end_waits_for_replicas_as_in_redis() {
    let told = [ONE, TWO, REDIS].map(|program| {
        let mut told = Vec::new();
        let mut server = Server::following(program, &[]);
        let mut replica = Pretender::attach(&server);
        let (mut client, mut asker, mut writer) = (server.client(), server.client(), server.client());
        let waits = |server: &Server| !server.info("shutdown_in_milliseconds").is_empty();
        replica.acknowledges(&server);
        client.run("SET a 1");
        asker.send(&["SHUTDOWN"]);
        wait_until("the end waits", || waits(&server));
        let left = server.info_number("shutdown_in_milliseconds");
        assert!((5_000..=10_000).contains(&left), "{left}");
        writer.send(&words("SET b 1"));
        assert_eq!(writer.message_within(MOMENT), None, "writes wait");
        told.push(client.run("GET a").to_string());
        told.push(client.run("SHUTDOWN ABORT").to_string());
        told.push(asker.reply().to_string());
        told.push(writer.reply().to_string());
        told.push(client.run("SHUTDOWN ABORT").to_string());
        assert!(!waits(&server));
        // Another time it comes to the end.
        server.client().send(&["SHUTDOWN"]);
        wait_until("the end waits", || waits(&server));
        let offset = server.info("master_repl_offset");
        replica.says(&format!("ACK {offset}"));
        told.push(format!("{:?}", server.wait_for_exit()));
        told.extend(said_of_the_end(&server));
        // And when the time is up.
        let mut server = Server::following(program, &["--shutdown-timeout", "1"]);
        let mut replica = Pretender::attach(&server);
        replica.acknowledges(&server);
        server.client().run(&format!("SET a {}", "x".repeat(50)));
        let asked = Instant::now();
        server.signal("TERM");
        told.push(format!("{:?}", server.wait_for_exit()));
        assert!((1_000..4_000).contains(&asked.elapsed().as_millis()), "{:?}", asked.elapsed());
        told.extend(said_of_the_end(&server));
        // Who does not want to wait does not.
        for (extra, how) in [(&[][..], "SHUTDOWN NOW"), (&["--shutdown-timeout", "0"], "SHUTDOWN")] {
            let mut server = Server::following(program, extra);
            let _replica = Pretender::attach(&server);
            server.client().run(&format!("SET a {}", "x".repeat(50)));
            let asked = Instant::now();
            server.client().send(&words(how));
            told.push(format!("{:?}", server.wait_for_exit()));
            assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
            told.extend(said_of_the_end(&server));
        }
        told
    });
    assert_eq!(told[0], told[2]);
    assert_eq!(told[1], told[2]);
}

/// In Redis the second one waits with the first.
#[test]
fn the_end_is_not_waited_for_when_it_is_wanted_now() {
    for program in [ONE, TWO] {
        let mut server = Server::following(program, &[]);
        let _replica = Pretender::attach(&server);
        server.client().run("SET a 1");
        server.client().send(&["SHUTDOWN"]);
        wait_until("the end waits", || !server.info("shutdown_in_milliseconds").is_empty());
        let asked = Instant::now();
        server.client().send(&["SHUTDOWN", "NOW"]);
        assert_eq!(server.wait_for_exit(), Some(0));
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    }
}

/// Clients write until the primary ends: replicas have what was acknowledged.
#[test]
fn replicas_have_what_was_written_before_the_end() {
    for (primary, replica) in [(ONE, REDIS), (TWO, REDIS), (TWO, TWO)] {
        let mut primary = Server::following(primary, &[]);
        let replica = Server::following(replica, &[]);
        replica.follow(primary.port);
        caught_up(&primary, &[&replica]);
        let port = primary.port;
        let has_ended = AtomicBool::new(false);
        let written = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|number| {
                    let has_ended = &has_ended;
                    scope.spawn(move || {
                        let (mut client, mut written) = (Client::connect(port).expect("a connection"), 0);
                        while !has_ended.load(Ordering::SeqCst) {
                            let sent = client.try_send_raw(&encode(&["INCR", &format!("n{number}")]));
                            match sent.and_then(|()| client.try_message()) {
                                Ok(reply) => written = reply.integer(),
                                Err(_) => break,
                            }
                        }
                        written
                    })
                })
                .collect();
            wait_until("they write", || primary.client().run("EXISTS n0 n1 n2 n3") == Value::Integer(4));
            replica.signal("STOP");
            std::thread::sleep(MOMENT);
            primary.signal("TERM");
            primary.logs("Waiting for replicas before shutting down.");
            replica.signal("CONT");
            let code = primary.wait_for_exit();
            has_ended.store(true, Ordering::SeqCst);
            assert_eq!(code, Some(0));
            writers.into_iter().map(|writer| writer.join().expect("a writer")).collect::<Vec<i64>>()
        });
        primary.logs("1 of 1 replicas are in sync when shutting down.");
        let mut reader = replica.client();
        for (number, written) in written.into_iter().enumerate() {
            let there = reader.run(&format!("GET n{number}")).text().parse::<i64>().expect("a number");
            assert!(written > 0 && there >= written, "n{number}: {there} of {written}");
        }
    }
}

// ---- what the log says of a replica that is too slow ----

#[test]
fn a_replica_over_its_limit_is_named_as_by_redis() {
    let lines = [TWO, REDIS].map(|program| {
        let limits = ["--client-output-buffer-limit", "replica 100kb 0 0", "--repl-backlog-size", "16kb"];
        let server = Server::following(program, &limits);
        let _replica = Pretender::attach(&server);
        let mut client = server.client();
        let value = "x".repeat(100_000);
        let words = "scheduled to be closed ASAP for overcoming of output buffer limits.";
        // What the kernel takes of it does not count.
        wait_until("it is closed", || {
            client.command(&["SET", "a", &value]);
            server.log().contains(words)
        });
        wait_until("it is gone", || server.info("connected_slaves") == "0");
        let log = server.log();
        let line =
            log.lines().find(|line| line.contains(words)).expect("just seen").split_once(" # ").expect("a warning").1.to_owned();
        let name = |word: &str| word.split_once('=').map_or(word, |(name, _)| name).to_owned();
        assert!(line.contains(" flags=S "), "{line}");
        line.split(' ').map(name).collect::<Vec<_>>()
    });
    assert_eq!(lines[0], lines[1]);
}
