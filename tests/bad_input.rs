//! What no client should send: kvcore answers it with Redis's words, and closes the connection where Redis does.

mod harness;

use harness::{Client, Program, Server, Value, encode, wait_until};
use std::time::Duration;

/// After so long without more bytes a connection counts as kept open.
const QUIET: Duration = Duration::from_millis(250);
/// Streams sent at the same time.
const AT_ONCE: usize = 24;

struct Case {
    name: String,
    stream: Vec<u8>,
}

fn case(name: &str, stream: impl AsRef<[u8]>) -> Case {
    Case { name: name.into(), stream: stream.as_ref().to_vec() }
}

/// What a server did with a stream: its output, and whether it closed. A connection kept open must still be read from.
fn verdict(server: &Server, stream: &[u8], pieces: usize) -> (String, bool) {
    let mut client = server.client();
    for piece in stream.chunks(stream.len().div_ceil(pieces).max(1)) {
        if client.try_send_raw(piece).is_err() {
            break;
        }
        if pieces > 1 {
            std::thread::sleep(Duration::from_millis(3));
        }
    }
    match client.read_until_closed(QUIET) {
        Ok(output) => (output.escape_ascii().to_string(), true),
        Err(output) => (output.escape_ascii().to_string(), false),
    }
}

#[track_caller]
fn compare(extra: &[&str], cases: Vec<Case>) {
    let redis = Server::redis(extra);
    for cores in [1, 2] {
        let mut kvcore = Server::kvcore(cores, extra);
        let differ = |case: &Case, pieces: usize| {
            let (expected, seen) = (verdict(&redis, &case.stream, pieces), verdict(&kvcore, &case.stream, pieces));
            let show = |(output, closed): (String, bool)| {
                format!(
                    "{}{} {}",
                    &output[..output.len().min(300)],
                    if output.len() > 300 { "…" } else { "" },
                    if closed { "(closed)" } else { "(open)" }
                )
            };
            (expected != seen)
                .then(|| format!("{} in {pieces} pieces\n    redis  {}\n    kvcore {}", case.name, show(expected), show(seen)))
        };
        let mut differences = Vec::new();
        for some in cases.chunks(AT_ONCE) {
            std::thread::scope(|scope| {
                let one = |case| [1, 3].into_iter().filter_map(|pieces| differ(case, pieces)).collect::<Vec<_>>();
                let running: Vec<_> = some.iter().map(|case| scope.spawn(move || one(case))).collect();
                differences.extend(running.into_iter().flat_map(|thread| thread.join().expect("a verdict")));
            });
        }
        assert!(differences.is_empty(), "{} differences at --cores {cores}\n{}", differences.len(), differences.join("\n"));
        let alive = kvcore.client().run("PING").text();
        assert!(["PONG", "NOAUTH Authentication required."].contains(&alive.as_str()), "{alive}");
        kvcore.check_healthy();
    }
}

fn long(prefix: &str, byte: u8, count: usize, suffix: &str) -> Vec<u8> {
    [prefix.as_bytes(), &vec![byte; count], suffix.as_bytes()].concat()
}

#[test]
fn lengths() {
    let headers = [
        "*-1",
        "*0",
        "*-2147483649",
        "*2147483648",
        "*1048577",
        "*abc",
        "*",
        "* 1",
        "*1 ",
        "*+1",
        "*1.5",
        "*9223372036854775808",
        "*01",
    ];
    let bulks = [
        "$-1",
        "$-2",
        "$abc",
        "$",
        "$ 1",
        "$536870913",
        "$9223372036854775808",
        "$+4",
        "$4x",
        "$04",
        "4",
        ":4",
        "+OK",
        "-ERR",
        "*1",
    ];
    let mut cases: Vec<Case> =
        headers.iter().map(|header| case(&format!("multibulk {header}"), format!("{header}\r\nPING\r\n"))).collect();
    cases.extend(bulks.iter().map(|bulk| case(&format!("bulk {bulk}"), format!("*1\r\n{bulk}\r\nPING\r\nPING\r\n"))));
    cases.push(case("the second bulk is bad", "*2\r\n$4\r\nECHO\r\n$x\r\n"));
    cases.push(case("a good command, then a bad one", [encode(&["PING"]), b"*1\r\n$z\r\n".to_vec()].concat()));
    cases.push(case("a bulk that is longer than said", "*1\r\n$4\r\nPINGPING\r\n"));
    cases.push(case("a bulk that is shorter than said", "*1\r\n$10\r\nPING\r\n*1\r\n$4\r\nPING\r\n"));
    cases.push(case("only LF", "*1\n$4\nPING\n"));
    cases.push(case("an empty bulk as command", "*1\r\n$0\r\n\r\n"));
    cases.push(case("a header without end", long("*", b'1', 70_000, "")));
    cases.push(case("a bulk header without end", long("*1\r\n$", b'1', 70_000, "")));
    compare(&[], cases);
}

#[test]
fn half_commands() {
    let whole = encode(&["SET", "key", "value"]);
    let cases = (1..whole.len()).step_by(2).map(|cut| case(&format!("the first {cut} bytes"), &whole[..cut])).collect();
    compare(&[], cases);
}

#[test]
fn inline() {
    compare(
        &[],
        vec![
            case("inline", "PING\r\n"),
            case("inline with LF", "PING\n"),
            case("arguments", "ECHO  hello \r\n"),
            case("quotes", "ECHO \"a b\"\r\nECHO 'a b'\r\nECHO \"\\x41\\n\\t\"\r\nECHO 'it\\'s'\r\n"),
            case("unbalanced double quotes", "ECHO \"abc\r\nPING\r\n"),
            case("unbalanced single quotes", "ECHO 'abc\r\nPING\r\n"),
            case("text after a quote", "ECHO \"abc\"def\r\nPING\r\n"),
            case("empty lines", "\r\n\r\n\n  \r\nPING\r\n"),
            case("over 64 KiB without end", long("", b'a', 66_000, "")),
            // Redis looks only after each read of 16 KiB, so a line must be longer than 80 KiB to be refused for certain.
            case("over 64 KiB with end", long("ECHO ", b'a', 120_000, "\r\nPING\r\n")),
            case("just under 64 KiB", long("ECHO ", b'a', 65_000, "\r\n")),
            case("NUL", "PING\0\r\nPING\r\n"),
            case("NUL first", "\0\r\nPING\r\n"),
            case("bytes over 127", b"ECHO \xff\xfe\x80\r\n"),
            case("a command of bytes over 127", b"\xff\xfe\r\nPING\r\n"),
            case("CR inside", "ECHO a\rb\r\n"),
            case("spaces of all kinds", "ECHO\ta\x0b\r\n"),
            case("mixed with multibulk", "PING\r\n*1\r\n$4\r\nPING\r\nPING\r\n"),
            case("a TLS handshake", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n"),
            case("SSH", "SSH-2.0-OpenSSH_9.0\r\n"),
            case("a reply", "+OK\r\n$3\r\nabc\r\n"),
        ],
    );
}

#[test]
fn http() {
    compare(
        &[],
        vec![
            case("POST", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nPING\r\n"),
            case("post", "post / HTTP/1.1\r\n\r\n"),
            case("Host:", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            case("host: alone", "host: x\r\nPING\r\n"),
            case("POST as multibulk", encode(&["POST", "/"])),
            case("GET without Host", "GET / HTTP/1.1\r\n\r\n"),
        ],
    );
}

#[test]
fn strange_commands() {
    let mut cases: Vec<Case> = [
        &b"no\x00such"[..],
        b"bad\xff\xfename",
        b"line\r\nfeed",
        b"",
        b"|",
        b"client|list",
        b"GET|",
        b"'quoted'",
        b"a very long name that goes on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on",
    ]
    .iter()
    .map(|name| case(&format!("the command {}", name.escape_ascii()), encode(&[*name, b"arg\x00one", b"\xff"])))
    .collect();
    cases.push(case("many arguments of an unknown command", encode(&["nosuch"; 60])));
    cases.push(case("long arguments of an unknown command", encode(&[b"nosuch".to_vec(), vec![b'x'; 3000]])));
    cases.push(case("an unknown subcommand", encode(&[&b"CONFIG"[..], b"no\xffsuch\r\n"])));
    for line in ["SET k", "GET", "MGET", "CLIENT", "CLIENT KILL", "OBJECT ENCODING", "EXPIRE k", "HELLO 3 x", "COMMAND GETKEYS"] {
        cases.push(case(line, encode(&line.split(' ').collect::<Vec<_>>())));
    }
    compare(&[], cases);
}

#[test]
fn binary_keys_and_values() {
    let every_byte: Vec<u8> = (0..=255).collect();
    let requests = [
        encode(&[b"SET".to_vec(), every_byte.clone(), every_byte.clone()]),
        encode(&[b"GET".to_vec(), every_byte.clone()]),
        encode(&[b"HSET".to_vec(), b"h".to_vec(), every_byte.clone(), every_byte.clone()]),
        encode(&["HGETALL", "h"]),
        encode(&["CLIENT", "SETNAME", "caf\u{e9}"]),
        encode(&[b"DEL".to_vec(), every_byte, b"h".to_vec()]),
    ];
    compare(&[], vec![case("every byte", requests.concat())]);
}

#[test]
fn limits_of_the_configuration() {
    let megabyte = 1024 * 1024;
    let set = |len: usize| {
        [format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${len}\r\n").into_bytes(), vec![b'v'; len.min(2 * megabyte)], b"\r\n".to_vec()]
            .concat()
    };
    compare(
        &["--proto-max-bulk-len", "1mb"],
        vec![
            case("a bulk of the limit", set(megabyte)),
            case("a bulk over the limit", "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048577\r\n"),
            case("SETRANGE over the limit", encode(&["SETRANGE", "r", "1048576", "x"])),
            case("APPEND over the limit", [set(megabyte), encode(&["APPEND", "k", "x"]), encode(&["STRLEN", "k"])].concat()),
            case("SETBIT over the limit", encode(&["SETBIT", "b", "8388608", "1"])),
        ],
    );
}

#[test]
fn query_buffer_limit() {
    let limit = 1024 * 1024;
    let mut requests = [format!("*4\r\n$4\r\nMSET\r\n$1\r\nk\r\n${limit}\r\n").into_bytes(), vec![b'v'; limit]].concat();
    requests.extend_from_slice(&vec![b'v'; limit]);
    let redis = Server::redis(&["--client-query-buffer-limit", "1mb"]);
    let mut kvcore = Server::kvcore(2, &["--client-query-buffer-limit", "1mb"]);
    for server in [&redis, &kvcore] {
        let mut client = server.client();
        let _ = client.try_send_raw(&requests);
        assert!(
            client.read_until_closed(Duration::from_secs(5)).is_ok(),
            "{:?} keeps a client with 2 MiB of half a command",
            server.program
        );
    }
    kvcore.check_healthy();
}

/// Before authentication clients may send little: no more than 10 arguments, none over 16 KiB.
/// `maxmemory-clients`: of clients that hold too much together the largest go, but for those that are exempt.
#[test]
fn clients_that_hold_too_much_together() {
    for program in [Program::Redis, Program::Kvcore { cores: 1 }, Program::Kvcore { cores: 2 }] {
        let server = Server::start(program, &["--maxmemory-clients", "8mb"]);
        let mut exempt = server.client();
        assert_eq!(exempt.run("CLIENT NO-EVICT ON"), Value::ok());
        let begin_echo = |client: &mut Client, bytes: usize| {
            let head = format!("*2\r\n$4\r\nECHO\r\n${bytes}\r\n");
            // A client that is evicted in the midst of it cannot send the rest.
            let _ = client.try_send_raw(&[head.as_bytes(), &vec![b'x'; bytes - 1]].concat());
        };
        let sizes = [256 << 10, 512 << 10, 5 << 20, 5 << 20, 5 << 20, 5 << 20];
        begin_echo(&mut exempt, 3 << 20);
        let mut clients: Vec<Client> = sizes.iter().map(|_| server.client()).collect();
        clients.iter_mut().zip(sizes).for_each(|(client, size)| begin_echo(client, size));
        wait_until("four are evicted", || server.info("evicted_clients") == "4");
        for (client, size) in clients[..2].iter_mut().zip(sizes).chain([(&mut exempt, 3 << 20)]) {
            client.send_raw(b"y\r\n");
            assert_eq!(client.reply().bytes().len(), size, "{program:?}");
        }
        for client in &mut clients[2..] {
            assert!(client.read_until_closed(QUIET).is_ok(), "{program:?}");
        }
        let mut alone = server.client();
        begin_echo(&mut alone, 9 << 20);
        assert!(alone.read_until_closed(QUIET).is_ok(), "{program:?}");
        assert_eq!(server.log().matches("Evicting client: id=").count(), 5, "{program:?}");
        assert_eq!(server.info("evicted_clients"), "5");
        assert_eq!(server.client().run("CONFIG RESETSTAT"), Value::ok());
        assert_eq!(server.info("evicted_clients"), "0");
    }
}

#[test]
fn before_authentication() {
    compare(
        &["--requirepass", "secret"],
        vec![
            case("eleven arguments", "*11\r\n$4\r\nPING\r\n"),
            case("ten arguments", encode(&["PING"; 10])),
            case("a bulk over 16 KiB", "*2\r\n$4\r\nECHO\r\n$16385\r\n"),
            case("a bulk of 16 KiB", long("*2\r\n$4\r\nECHO\r\n$16384\r\n", b'x', 16384, "\r\n")),
            case("a command", encode(&["GET", "k"])),
            case("an unknown command", encode(&["NOSUCH"])),
            case("too few arguments", encode(&["GET"])),
            case("AUTH, then many arguments", [encode(&["AUTH", "secret"]), encode(&["DEL"; 20])].concat()),
            case("QUIT", encode(&["QUIT"])),
            case("wrong AUTH", encode(&["AUTH", "x"])),
        ],
    );
}
