//! Peers that say what they should not: sockets that claim to be replicas, and servers that claim to be primaries. The node neither ends
//! nor hangs, serves its clients, and follows and is followed properly afterwards.

mod harness;

use harness::following::{caught_up, check_offsets, check_same};
use harness::{Client, PATIENCE, Program, Random, Server, Value, encode, fill, seed, setting, wait_until, words};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

const ID: &str = "0123456789abcdef0123456789abcdef01234567";

fn noise(random: &mut Random, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|_| random.next() as u8).collect()
}

// ---- those that claim to be replicas ----

/// What is asked for, and what is sent behind it.
fn claims(server: &Server, random: &mut Random) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (id, offset) = (server.info("master_replid"), server.info_number("master_repl_offset"));
    let numbers = [
        "-1",
        "0",
        "1",
        "-2",
        "x",
        "",
        "007",
        "+1",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "99999999999999999999999",
        "1e5",
    ];
    let offsets = [offset - 1, offset, offset + 1, offset + 2, offset + 1_000_000].map(|offset| offset.to_string());
    let mut requests: Vec<Vec<u8>> = Vec::new();
    for number in numbers.iter().copied().chain(offsets.iter().map(String::as_str)) {
        for id in ["?", ID, &id, "", &id[1..]] {
            requests.push(encode(&["PSYNC", id, number]));
        }
    }
    for words in [
        &["PSYNC"][..],
        &["PSYNC", "?"],
        &["PSYNC", &id, "1", "FAILOVER"],
        &["PSYNC", ID, "1", "FAILOVER"],
        &["PSYNC", "?", "-1", "x", "y"],
        &["SYNC"],
        &["SYNC", "x"],
        &["REPLCONF"],
        &["REPLCONF", "ACK", "5"],
        &["REPLCONF", "listening-port", "99999999999"],
        &["REPLCONF", "listening-port", "-1"],
        &["REPLCONF", "rdb-only", "1"],
        &["REPLCONF", "ip-address", &"x".repeat(100_000)],
        &["REPLCONF", "getack", "*"],
    ] {
        requests.push(encode(words));
    }
    requests.push(encode(&[b"PSYNC".to_vec(), noise(random, 100_000), b"1".to_vec()]));
    requests.push([encode(&["MULTI"]), encode(&["PSYNC", "?", "-1"]), encode(&["EXEC"])].concat());
    requests.push([encode(&["REPLCONF", "rdb-only", "1"]), encode(&["PSYNC", "?", "-1"])].concat());
    requests.push([encode(&["SUBSCRIBE", "x"]), encode(&["PSYNC", "?", "-1"])].concat());
    requests.push([encode(&["MONITOR"]), encode(&["SYNC"])].concat());
    requests.push([encode(&["BLPOP", "nothing", "0"]), encode(&["SYNC"])].concat());
    requests.push([encode(&["GET", "x"]), encode(&["SYNC"]), encode(&["GET", "x"])].concat());
    let afterwards: [Vec<u8>; 10] = [
        Vec::new(),
        noise(random, 50_000),
        b"*1000000000\r\n".to_vec(),
        b"*3\r\n$9223372036854775807\r\n".to_vec(),
        encode(&["REPLCONF", "ACK", "9223372036854775807"]),
        encode(&["REPLCONF", "ACK", "-9223372036854775808"]),
        encode(&["REPLCONF", "ACK", "x"]),
        [encode(&["SET", "x", "1"]), encode(&["SELECT", "15"]), encode(&["FLUSHDB"])].concat(),
        vec![b'\n'; 100_000],
        vec![b'x'; 300_000],
    ];
    requests.into_iter().map(|request| (request, random.pick(&afterwards).clone())).collect()
}

fn serves(server: &mut Server) {
    let mut client = server.client();
    assert_eq!(client.run("SET lives yes"), Value::ok());
    assert_eq!(client.run("MGET lives lives"), Value::Array(vec![Value::bulk("yes"); 2]));
    server.check_healthy();
}

fn claimed_replicas_do_no_harm(cores: usize) {
    let seed = seed();
    let mut random = Random::new(seed);
    let mut server = Server::following(Program::Kvcore { cores }, &["--repl-backlog-size", "64kb"]);
    fill(&server);
    let real = Server::following(Program::Redis, &[]);
    real.follow(server.port);
    caught_up(&server, &[&real]);
    let mut kept: Vec<Client> = Vec::new();
    for (index, (request, behind)) in claims(&server, &mut random).into_iter().enumerate() {
        let mut client = server.client();
        let sent = client.try_send_raw(&request).and_then(|()| {
            if random.chance(50) {
                let _anything = client.read_until_closed(Duration::from_millis(3));
            }
            client.try_send_raw(&behind)
        });
        if sent.is_ok() && random.chance(30) {
            kept.push(client);
        }
        if kept.len() > 20 {
            kept.swap_remove(random.below(20));
        }
        if index % 10 == 0 {
            serves(&mut server);
            check_offsets(&server);
        }
    }
    drop(kept);
    serves(&mut server);
    wait_until("only the real one is left", || server.info("connected_slaves") == "1");
    let another = Server::following(Program::Kvcore { cores: 2 }, &[]);
    another.follow(server.port);
    check_same(&server, &[&real, &another]);
    server.check_healthy();
}

#[test]
fn claimed_replicas_do_no_harm_at_one_core() {
    claimed_replicas_do_no_harm(1);
}

#[test]
fn claimed_replicas_do_no_harm_at_two_cores() {
    claimed_replicas_do_no_harm(2);
}

/// At whatever point of its snapshot's way a replica leaves that reads nothing of it, the next one gets its own.
#[test]
fn a_replica_that_leaves_with_its_snapshot_on_the_way_holds_up_nobody() {
    let primary = Server::following(Program::Kvcore { cores: 2 }, &[]);
    let mut client = primary.client();
    for megabyte in 0..8 {
        for key in 0..16 {
            client.command(&[b"SET".to_vec(), format!("{megabyte}:{key}").into_bytes(), noise(&mut Random::new(key), 64 << 10)]);
        }
        let mut deaf = primary.client();
        assert_eq!(deaf.run("REPLCONF capa eof capa psync2"), Value::ok());
        deaf.send_raw(b"PSYNC ? -1\r\n");
        wait_until("it is served", || primary.info("connected_slaves") == "1");
        std::thread::sleep(Duration::from_millis(100));
        drop(deaf);
        let replica = Server::following(Program::Redis, &[]);
        replica.follow(primary.port);
        check_same(&primary, &[&replica]);
    }
}

// ---- those that claim to be primaries ----

/// Everything up to these words.
fn hear(socket: &mut TcpStream, heard: &mut Vec<u8>, end: &[u8]) -> std::io::Result<()> {
    let mut chunk = [0; 4096];
    while !heard.windows(end.len()).any(|window| window.eq_ignore_ascii_case(end)) {
        match socket.read(&mut chunk)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => heard.extend_from_slice(&chunk[..count]),
        }
    }
    Ok(())
}

/// A handshake that ends with these bytes in the place of an answer to PSYNC.
fn answer_psync(socket: &mut TcpStream, says: &[u8]) -> std::io::Result<()> {
    let mut heard = Vec::new();
    socket.set_read_timeout(Some(PATIENCE))?;
    hear(socket, &mut heard, b"PING\r\n")?;
    socket.write_all(b"+PONG\r\n")?;
    hear(socket, &mut heard, b"psync2\r\n")?;
    socket.write_all(b"+OK\r\n+OK\r\n")?;
    hear(socket, &mut heard, b"PSYNC\r\n")?;
    socket.write_all(says)
}

/// Follows a server that says this, and lets it go again.
fn follow_one_that(server: &mut Server, act: impl FnOnce(&mut TcpStream) -> std::io::Result<()> + Send) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    server.follow(port);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (mut socket, _) = listener.accept().expect("the node connects");
            let _closed_by_the_node = act(&mut socket);
            let mut rest = [0; 4096];
            let _ = socket.set_read_timeout(Some(Duration::from_millis(40)));
            while let Ok(1..) = socket.read(&mut rest) {}
        });
    });
    let mut client = server.client();
    wait_until("it answers", || client.run("PING") == Value::Simple("PONG".into()));
    client.run("ROLE");
    client.run("INFO replication");
    server.stand_alone();
    server.check_healthy();
}

/// An RDB file of redis-server's with something in it.
fn real_file() -> Vec<u8> {
    let redis = Server::redis(&[]);
    fill(&redis);
    assert_eq!(redis.client().run("SAVE"), Value::ok());
    std::fs::read(redis.dir.path().join("dump.rdb")).expect("the file")
}

fn full(offset: &str) -> Vec<u8> {
    format!("+FULLRESYNC {ID} {offset}\r\n").into_bytes()
}

fn with_length(file: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", file.len()).as_bytes(), file].concat()
}

/// `load`: `repl-diskless-load`, of a node that is empty each time.
fn primaries_that_answer_nonsense_do_no_harm(load: &str) {
    let seed = seed();
    let mut random = Random::new(seed);
    let mut server = Server::following(Program::Kvcore { cores: 2 }, &["--repl-diskless-load", load]);
    let file = real_file();
    let half = &file[..file.len() / 2];
    let mark = [b"$EOF:", ID.as_bytes(), b"\r\n"].concat();
    let mut spoilt = file.clone();
    (0..20).for_each(|_| spoilt[random.below(file.len())] ^= 0x41);
    let mut answers: Vec<Vec<u8>> = vec![
        noise(&mut random, 100_000),
        vec![b'x'; 3_000_000],
        vec![b'\n'; 100_000],
        b"+FULLRESYNC\r\n".to_vec(),
        b"+FULLRESYNC x y\r\n".to_vec(),
        full("99999999999999999999"),
        full("-5"),
        b"+CONTINUE\r\n".to_vec(),
        b"+CONTINUE nonsense\r\n*1\r\n$4\r\nPING\r\n".to_vec(),
        [format!("+CONTINUE {ID}\r\n").as_bytes(), b"*1\r\n$8\r\nFLUSHALL\r\n"].concat(),
        b"-ERR nonsense\r\n".to_vec(),
        [b"-ERR nonsense\r\n".to_vec(), with_length(&file)].concat(),
        b"-LOADING\r\n".to_vec(),
        b"-NOMASTERLINK\r\n".to_vec(),
        b"$5\r\nhello\r\n".to_vec(),
    ];
    for behind in [
        b"$18446744073709551616\r\n".to_vec(),
        b"$9223372036854775807\r\nREDIS0010".to_vec(),
        b"$-1\r\n".to_vec(),
        b"$0\r\n".to_vec(),
        b"$5\r\nREDIS".to_vec(),
        b"$EOF:short\r\n".to_vec(),
        b"*3\r\n".to_vec(),
        b"-ERR no\r\n".to_vec(),
        [b"$100\r\n".to_vec(), noise(&mut random, 100)].concat(),
        [format!("${}\r\n", file.len()).as_bytes(), half].concat(),
        with_length(half),
        with_length(&[&file[..], &file].concat()),
        with_length(&spoilt),
        [&mark[..], half].concat(),
        [&mark[..], half, ID.as_bytes()].concat(),
        [&mark[..], &spoilt, ID.as_bytes()].concat(),
        [&mark[..], &noise(&mut random, 1_000_000)].concat(),
        [&mark[..], &file, ID.as_bytes()].concat(),
    ] {
        answers.push([full("5"), behind].concat());
    }
    for answer in answers {
        follow_one_that(&mut server, |socket| answer_psync(socket, &answer));
        let mut client = server.client();
        // A data set that is being loaded is loaded to its end.
        wait_until("it takes writes", || client.run("FLUSHALL") == Value::ok());
    }
    let primary = Server::following(Program::Redis, &[]);
    fill(&primary);
    server.follow(primary.port);
    check_same(&primary, &[&server]);
}

#[test]
fn primaries_that_answer_nonsense_do_no_harm_to_files() {
    primaries_that_answer_nonsense_do_no_harm("disabled");
}

#[test]
fn primaries_that_answer_nonsense_do_no_harm_to_an_empty_keyspace() {
    primaries_that_answer_nonsense_do_no_harm("on-empty-db");
}

#[test]
fn primaries_that_answer_nonsense_do_no_harm_beside_the_keyspace() {
    primaries_that_answer_nonsense_do_no_harm("swapdb");
}

#[test]
fn primaries_that_do_not_speak_the_protocol_do_no_harm() {
    let mut server = Server::following(Program::Kvcore { cores: 1 }, &[]);
    follow_one_that(&mut server, |_| Ok(()));
    for line in
        ["-ERR no\r\n", "\r\n\r\n\r\n", "$-1\r\n", "HTTP/1.1 200 OK\r\n\r\n", "+", "-NOAUTH\r\n-x\r\n-y\r\n-z\r\n", "\0\0\0\0"]
    {
        follow_one_that(&mut server, |socket| socket.write_all(line.as_bytes()));
    }
    follow_one_that(&mut server, |socket| socket.write_all(&vec![b'x'; 2_000_000]));
}

/// A full synchronization with this file, and a stream as soon as the node says that it has it.
fn stream_behind(socket: &mut TcpStream, file: &[u8], stream: &[u8]) -> std::io::Result<()> {
    let mark = [b"$EOF:", ID.as_bytes(), b"\r\n"].concat();
    answer_psync(socket, &[&full("5")[..], &mark, file, ID.as_bytes()].concat())?;
    hear(socket, &mut Vec::new(), b"ACK\r\n$1\r\n5\r\n")?;
    socket.write_all(stream)
}

/// After a proper full synchronization come things that are no stream, or that no primary's stream holds.
fn streams_of_nonsense_do_no_harm(cores: usize) {
    let seed = seed();
    let mut random = Random::new(seed);
    let mut server = Server::following(Program::Kvcore { cores }, &[]);
    let file = real_file();
    let line = |line: &str| encode(&words(line));
    let mut streams: Vec<Vec<u8>> = vec![
        noise(&mut random, 100_000),
        b"*1000000000\r\n".to_vec(),
        b"*-5\r\n*0\r\n\r\n\r\n".to_vec(),
        b"*3\r\n$9223372036854775807\r\nx".to_vec(),
        b"*1\r\n$-1\r\n".to_vec(),
        b"SET a b\r\n".to_vec(),
        line("MULTI"),
        [line("MULTI"), line("SET half 1")].concat(),
        [line("MULTI"), line("MULTI"), line("SET a 1"), line("EXEC"), line("EXEC")].concat(),
        [line("EXEC"), line("DISCARD"), line("SET a 1")].concat(),
        [line("MULTI"), line("NONSENSE"), line("SET a 1"), line("EXEC")].concat(),
        [line("MULTI"), line("SET a 1"), line("BLPOP x 0"), line("EXEC")].concat(),
    ];
    let odd = [
        "SELECT 99999",
        "SELECT -1",
        "SELECT x",
        "SELECT",
        "NONSENSE a b",
        "SET a",
        "INCRBY word 1",
        "BLPOP nothing 0",
        "BLMOVE nothing x LEFT LEFT 0",
        "WAIT 5 0",
        "SUBSCRIBE x",
        "MONITOR",
        "QUIT",
        "RESET",
        "AUTH nonsense",
        "HELLO 3",
        "WATCH a b c",
        "CLIENT REPLY OFF",
        "CLIENT PAUSE 100000 WRITE",
        "CLIENT KILL TYPE normal SKIPME no",
        "PSYNC ? -1",
        "SYNC",
        "REPLICAOF NO ONE",
        "REPLICAOF 127.0.0.1 1",
        "REPLCONF GETACK *",
        "REPLCONF ACK 5",
        "REPLCONF",
        "DEBUG SLEEP 0",
        "BGSAVE",
        "EVAL \"return 1\" 0",
        "KEYS *",
    ];
    streams.extend(odd.map(|command| [line(command), line("SET after yes")].concat()));
    for stream in streams {
        println!("{}", stream[..stream.len().min(100)].escape_ascii());
        follow_one_that(&mut server, |socket| stream_behind(socket, &file, &stream));
        check_offsets(&server);
        server.client().run("CLIENT UNPAUSE");
        assert_eq!(server.client().run("SET lives yes"), Value::ok());
    }
    let huge = [full("9223372036854775800"), with_length(&file), line("SET a 1"), line("SET b 1")].concat();
    follow_one_that(&mut server, |socket| answer_psync(socket, &huge));
    let primary = Server::following(Program::Redis, &[]);
    fill(&primary);
    server.follow(primary.port);
    check_same(&primary, &[&server]);
}

#[test]
fn streams_of_nonsense_do_no_harm_at_one_core() {
    streams_of_nonsense_do_no_harm(1);
}

#[test]
fn streams_of_nonsense_do_no_harm_at_two_cores() {
    streams_of_nonsense_do_no_harm(2);
}

/// Mutations of what a real primary says, to a node that follows it.
#[test]
fn mutated_streams_do_no_harm() {
    let seed = seed();
    let mut random = Random::new(seed);
    let mut server = Server::following(Program::Kvcore { cores: 2 }, &[]);
    let redis = Server::redis(&[]);
    redis.client().run("SAVE");
    let file = std::fs::read(redis.dir.path().join("dump.rdb")).expect("the file");
    let commands: Vec<u8> = ["SELECT 3", "SET a 1", "MULTI", "RPUSH l x y", "MSET a 1 b 2 c 3", "EXEC", "PING", "PEXPIREAT a 1"]
        .iter()
        .flat_map(|command| encode(&words(command)))
        .collect();
    for _ in 0..setting("KVCORE_ROUNDS", 40) {
        let mut stream = commands.repeat(3);
        for _ in 0..1 + random.below(6) {
            let at = random.below(stream.len());
            match random.below(3) {
                0 => stream[at] = random.next() as u8,
                1 => drop(stream.remove(at)),
                _ => stream.insert(at, *random.pick(b"0123456789-$*\r\n")),
            }
        }
        follow_one_that(&mut server, |socket| stream_behind(socket, &file, &stream));
        check_offsets(&server);
    }
    let primary = Server::following(Program::Kvcore { cores: 1 }, &[]);
    fill(&primary);
    server.follow(primary.port);
    check_same(&primary, &[&server]);
}
