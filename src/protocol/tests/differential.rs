//! The verdicts against a live redis-server: the bytes it answers, and whether it closes the connection.
//!
//! A stream is sent raw on one connection. The commands this parser found in it are sent well-formed on another; the first
//! must answer what the second answers, followed by the error of the verdict. Unknown commands are answered with their
//! first arguments, so differences in arguments show.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::smoke::{Random, mutated, seeds};
use super::verdict::{Verdict, judge};
use super::{cases, encode};
use crate::protocol::Limits;

const MUTATED: usize = 400;
const STARTUP: Duration = Duration::from_secs(20);
const REPLY: Duration = Duration::from_secs(10);
/// How long a connection that is to stay open and silent is watched.
const SILENCE: Duration = Duration::from_millis(8);

/// A redis-server of its own on a socket file; ends with the value.
struct Redis {
    process: Child,
    dir: tempfile::TempDir,
}

impl Redis {
    fn start(options: &[&str]) -> Redis {
        let dir = tempfile::tempdir().expect("a directory for the socket");
        let process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket", "redis.sock"])
            .args(options)
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server 7 is installed");
        let redis = Redis { process, dir };
        let deadline = Instant::now() + STARTUP;
        while UnixStream::connect(redis.dir.path().join("redis.sock")).is_err() {
            assert!(Instant::now() < deadline, "redis-server does not listen");
            std::thread::yield_now();
        }
        redis
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.dir.path().join("redis.sock")).expect("redis-server listens");
        stream.set_read_timeout(Some(REPLY)).expect("a timeout can be set");
        stream
    }

    /// What the server answers to the well-formed `commands`.
    fn answers(&self, commands: &[Vec<Vec<u8>>]) -> Vec<u8> {
        let mut connection = self.connect();
        for args in commands {
            connection.write_all(&encode(args)).expect("redis-server reads");
        }
        connection.shutdown(std::net::Shutdown::Write).expect("the socket is open");
        let mut answers = Vec::new();
        connection.read_to_end(&mut answers).expect("redis-server answers and closes");
        answers
    }

    fn check(&self, name: &str, bytes: &[u8], verdict: &Verdict) {
        let shown = bytes[..bytes.len().min(200)].escape_ascii();
        let mut expected = self.answers(&verdict.commands);
        expected.extend_from_slice(&verdict.reply());
        let mut connection = self.connect();
        connection.write_all(bytes).expect("redis-server reads");
        let mut answer = vec![0; expected.len()];
        let read = connection.read_exact(&mut answer);
        assert!(read.is_ok(), "{name}: {shown}: redis says less than {}", expected.escape_ascii());
        assert_eq!(answer.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{name}: {shown}");
        if verdict.fatal.is_none() {
            connection.set_read_timeout(Some(SILENCE)).expect("a timeout can be set");
        }
        match connection.read(&mut [0; 256]) {
            Ok(0) => assert!(verdict.fatal.is_some(), "{name}: {shown}: redis closes"),
            Ok(_) => panic!("{name}: {shown}: redis says more"),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => assert!(verdict.fatal.is_some()),
            Err(error) => assert!(error.kind() == ErrorKind::WouldBlock && verdict.fatal.is_none(), "{name}: {shown}: {error}"),
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn redis_agrees_on_every_case() {
    let open = Redis::start(&[]);
    let locked = Redis::start(&["--requirepass", "secret"]);
    for case in cases::all() {
        let redis = if case.limits.authenticated { &open } else { &locked };
        redis.check(case.name, &case.stream, &judge(&case.stream, [], &case.limits));
    }
}

#[test]
fn redis_agrees_on_mutated_requests() {
    let open = Redis::start(&[]);
    let locked = Redis::start(&["--requirepass", "secret"]);
    let seeds = seeds();
    let mut random = Random::new(0x6b76_636f_7265_0002);
    for index in 0..MUTATED {
        let stream = mutated(&seeds, &mut random);
        let limits = Limits::default().for_client(index % 4 != 0);
        let redis = if limits.authenticated { &open } else { &locked };
        redis.check("mutated", &stream, &judge(&stream, [], &limits));
    }
}
