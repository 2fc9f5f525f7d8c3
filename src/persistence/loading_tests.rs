//! redis-server 7 starts from what this module writes: a manifest with a base and one segment for each core, annotations and all.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kvshard::Effects;
use kvshard::effects::write_command;

use super::aof_reader::LINE_BYTES_MAX;
use super::disk::Disk;
use super::manifest::{BaseFormat, Manifest, store};
use super::segment::SegmentEncoder;
use super::spanning::{Operation, OperationId, SegmentSeq};

const STARTUP: Duration = Duration::from_secs(20);
const MANIFEST: &str = "appendonly.aof.manifest";

/// A redis-server on an append-only directory; ends with the value.
struct Redis {
    process: Child,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// What redis-server answers to inline commands after loading the directory, or nothing if it refused to start.
fn answers(directory: &Path, commands: &[&str]) -> Option<String> {
    let process = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--unixsocket", "redis.sock", "--appendonly", "yes", "--aof-load-truncated", "no"])
        .current_dir(directory)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server 7 is installed");
    let mut redis = Redis { process };
    let deadline = Instant::now() + STARTUP;
    loop {
        assert!(Instant::now() < deadline, "redis-server neither listens nor ends");
        if redis.process.try_wait().expect("its state").is_some() {
            return None;
        }
        let Ok(mut socket) = UnixStream::connect(directory.join("redis.sock")) else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        let mut answer = String::new();
        let _ended = socket.write_all(format!("{}\r\nQUIT\r\n", commands.join("\r\n")).as_bytes());
        // It may also end now, without an answer.
        if socket.read_to_string(&mut answer).is_ok() && !answer.is_empty() && !answer.contains("-LOADING") {
            return Some(answer);
        }
    }
}

fn directory(segments: &[Vec<u8>], base: &[u8]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let files = directory.path().join("appendonlydir");
    std::fs::create_dir(&files).expect("made");
    let manifest = Manifest::default().new_generation("appendonly.aof", BaseFormat::Commands, segments.len()).expect("numbers");
    let paths = manifest.load_order().map(|entry| entry.path(&files));
    for (path, bytes) in paths.zip(std::iter::once(base).chain(segments.iter().map(Vec::as_slice))) {
        std::fs::write(path, bytes).expect("written");
    }
    store(&mut Disk, &files, MANIFEST, &manifest).expect("stored");
    directory
}

fn command(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write_command(&mut out, text.split(' ').map(str::as_bytes).collect::<Vec<_>>().into_iter());
    out
}

#[test]
fn redis_loads_a_base_and_a_segment_for_each_core() {
    let effects = |commands: &[(usize, [&[u8]; 3])]| {
        let mut effects = Effects::default();
        commands.iter().for_each(|(db, args)| effects.push(*db, None, args.iter().copied()));
        effects
    };
    let (a, b) = ([&b"SET"[..], b"a", b"2"], [&b"SET"[..], b"b", b"3"]);
    let [first, second] = [[(0, [&b"SET"[..], b"large", &[0xA5; 50_000]]), (1, a)], [(0, a), (0, b)]].map(|part| effects(&part));
    let parts = [(SegmentSeq(1), &first), (SegmentSeq(2), &second)];
    let operation = Operation { id: OperationId(7), parts: &parts };
    let segment = |seq| {
        let mut encoder = SegmentEncoder::new(true);
        let mut out = Vec::new();
        encoder.operation(100, &operation, SegmentSeq(seq), &mut out);
        encoder.effects(101, &effects(&[(seq as usize + 3, [b"SET", b"here", b"1"])]), &mut out);
        out
    };
    let segments = [segment(1), segment(2), segment(3), Vec::new()];
    assert!(segments[1].windows(9).any(|bytes| bytes == b"#KV:7:2/7"), "the annotation takes several lines");
    let directory = directory(&segments, &command("SET base 0"));
    let asked = [
        "DBSIZE",
        "GET a",
        "GET b",
        "STRLEN large",
        "GET base",
        "SELECT 1",
        "GET a",
        "SELECT 4",
        "GET here",
        "SELECT 6",
        "GET here",
    ];
    let expected =
        ":4\r\n$1\r\n2\r\n$1\r\n3\r\n:50000\r\n$1\r\n0\r\n+OK\r\n$1\r\n2\r\n+OK\r\n$1\r\n1\r\n+OK\r\n$1\r\n1\r\n+OK\r\n";
    assert_eq!(answers(directory.path(), &asked).as_deref(), Some(expected));
    let mut check = Command::new("redis-check-aof");
    let check = check.arg(directory.path().join("appendonlydir").join(MANIFEST)).output().expect("redis-check-aof is installed");
    assert!(check.status.success(), "{}", check.stdout.escape_ascii());
}

#[test]
fn redis_takes_no_annotation_line_longer_than_ours() {
    for (len, loads) in [(LINE_BYTES_MAX, true), (LINE_BYTES_MAX + 1, false)] {
        let line = format!("#{}\r\n", "x".repeat(len - 3));
        let directory = directory(&[[line.as_bytes(), &command("SET a 1")].concat()], b"");
        assert_eq!(answers(directory.path(), &["DBSIZE"]), loads.then(|| ":1\r\n+OK\r\n".to_owned()), "{len}");
    }
}
