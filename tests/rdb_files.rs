//! RDB files between kvcore's codec and redis-server: each reads what the other wrote, and `--check-rdb` says what redis-check-rdb says.

mod harness;

use harness::data::{DBS, data, digests, fill};
use harness::{Server, Value, kvcore_path};
use kvshard::Settings;
use kvshard::codec::rdb::file::{Checksum, End, Event, FileReader, FileWriter, Preamble};
use kvshard::codec::{Compression, ValueLimits};
use std::path::Path;
use std::process::{Command, Output};

fn limits() -> ValueLimits {
    ValueLimits::new(&Settings::default(), &ahash::RandomState::with_seeds(1, 2, 3, 4))
}

/// Reads a file in chunks of `size` and writes it anew. Every value is decoded and encoded.
fn rewritten(file: &[u8], size: usize, checksum: Checksum, compression: Compression) -> Vec<u8> {
    let (mut out, mut end, mut keys) = (Vec::new(), None, 0);
    let mut reader = FileReader::new(Checksum::On);
    let mut writer = FileWriter::new(checksum, compression);
    let about =
        Preamble { redis_version: "7.0.15", created_s: 1, used_memory_bytes: 1 << 20, aof_base: false, replication: None };
    writer.header(&about, &mut out);
    for chunk in file.chunks(size) {
        while let Some(event) = reader.next(chunk).expect("a good file") {
            match event {
                Event::Aux { .. } => {}
                Event::SelectDb(db) => writer.select_db(db, &mut out),
                Event::ResizeDb { keys, expiring } => writer.resize_db(keys, expiring, &mut out),
                Event::Key(record) => {
                    let entry = record.entry(&limits()).expect("a good value");
                    writer.record(entry.key(), entry.value(), entry.expiry(), record.access, &mut out);
                    keys += 1;
                }
                Event::End(found) => end = Some(found),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!((reader.finish(), end), (Ok(()), Some(End::ChecksumRight)));
    assert_eq!(keys, DBS.len() * data().iter().filter(|command| !command[0].ends_with(b"EXPIRE")).count());
    writer.end(&mut out);
    out
}

fn checked(program: &str, arguments: &[&str], file: &Path) -> (String, String, Option<i32>) {
    let Output { stdout, stderr, status } =
        Command::new(program).args(arguments).arg(file).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    // Redis logs some failures again, with its process id and the time.
    let lines = String::from_utf8_lossy(&stdout).lines().filter(|line| !line.contains(" # ")).collect::<Vec<_>>().join("\n");
    (lines, String::from_utf8_lossy(&stderr).into_owned(), status.code())
}

/// Also with the opcodes of both kinds of eviction.
#[test]
fn redis_and_the_codec_read_each_other_s_files() {
    for (policy, size, checksum, compression) in [
        ("noeviction", usize::MAX, Checksum::On, Compression::Lzf),
        ("allkeys-lfu", 4096, Checksum::On, Compression::None),
        ("allkeys-lru", 333, Checksum::Off, Compression::Lzf),
    ] {
        let options = ["--enable-debug-command", "yes", "--maxmemory-policy", policy, "--maxmemory", "1gb"];
        let theirs = Server::redis(&options);
        fill(&theirs);
        assert_eq!(theirs.client().run("SAVE"), Value::ok());
        let file = std::fs::read(theirs.dir.path().join("dump.rdb")).expect("the file of SAVE");
        let ours = rewritten(&file, size, checksum, compression);
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("ours.rdb");
        std::fs::write(&path, &ours).expect("written");
        let (output, _, code) = checked("redis-check-rdb", &[], &path);
        assert_eq!(code, Some(0), "{output}");
        let folder = dir.path().to_string_lossy().into_owned();
        let loaded = Server::redis(&[&options[..], &["--dir", &folder, "--dbfilename", "ours.rdb"]].concat());
        // A modified string loses its encoding when it is loaded.
        assert_eq!(theirs.client().run("DEBUG RELOAD"), Value::ok());
        let (expected, found) = (digests(&theirs), digests(&loaded));
        let differ: Vec<_> = found.iter().filter(|line| !expected.contains(line)).collect();
        assert!(differ.is_empty() && found.len() == expected.len(), "{policy}: {differ:#?}");
        if policy == "allkeys-lfu" {
            let frequency = |server: &Server| server.client().run("OBJECT FREQ word");
            assert_eq!(frequency(&loaded), frequency(&theirs));
        }
    }
}

/// A small file with a value of each kind of layout.
fn small_file() -> Vec<u8> {
    let server =
        Server::redis(&["--set-max-intset-entries", "2", "--hash-max-listpack-entries", "2", "--zset-max-listpack-entries", "1"]);
    let mut client = server.client();
    for line in [
        "SET s hello",
        "SET int 70000",
        "SET lzf aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "RPUSH l a b 3",
        "SADD ints 1 2",
        "SADD set a 200 c",
        "HSET packed f v",
        "HSET hash f v g w h 1000",
        "ZADD zpacked 1 a",
        "ZADD zset 1 a 2.5 b",
        "SET e v PX 1000000000",
        "SELECT 5",
        "SET k v EXAT 99999999999",
    ] {
        assert!(!client.run(line).is_error(), "{line}");
    }
    assert_eq!(client.run("SAVE"), Value::ok());
    std::fs::read(server.dir.path().join("dump.rdb")).expect("the file of SAVE")
}

/// Files with what kvcore walks over: streams with groups, functions.
fn file_of_strangers() -> Vec<u8> {
    let server = Server::redis(&[]);
    let mut client = server.client();
    for line in [
        "XADD stream 1-1 a b",
        "XADD stream 2-1 a b",
        "XADD deleted 1-1 a b",
        "XDEL deleted 1-1",
        "XGROUP CREATE stream g 0",
        "XREADGROUP GROUP g me COUNT 1 STREAMS stream >",
        "XREADGROUP GROUP g you COUNT 1 STREAMS stream >",
        "FUNCTION LOAD \"#!lua name=mylib\\nredis.register_function('f', function(keys, args) return 1 end)\"",
        "SET after v",
        "SAVE",
    ] {
        let reply = client.run(line);
        assert!(!reply.is_error(), "{line}: {reply}");
    }
    std::fs::read(server.dir.path().join("dump.rdb")).expect("the file of SAVE")
}

#[test]
fn check_rdb_says_what_redis_check_rdb_says() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("x.rdb");
    let kvcore = kvcore_path().to_string_lossy().into_owned();
    let mut wrong = Vec::new();
    let mut compare = |what: &str, path: &Path| {
        let theirs = checked("redis-check-rdb", &[], path);
        let ours = checked(&kvcore, &["--check-rdb"], path);
        if ours != theirs {
            wrong.push(format!("{what}:\n  redis  {theirs:?}\n  kvcore {ours:?}"));
        }
        theirs
    };
    let mut with = |what: &str, file: &[u8]| {
        std::fs::write(&path, file).expect("written");
        compare(what, &path)
    };
    let file = small_file();
    let body = file.len() - 8;
    let (good, _, code) = with("good", &file);
    assert!(good.contains("Checksum OK") && good.contains("[info] 12 keys read") && code == Some(0), "{good}");
    let (strangers, _, code) = with("streams and functions", &file_of_strangers());
    assert!(strangers.contains("[info] 3 keys read") && code == Some(0), "{strangers}");
    assert_eq!(with("a good file and more", &[&file, &b"more"[..]].concat()).2, Some(0));
    assert_eq!(with("without a checksum", &[&file[..body], &[0; 8]].concat()).2, Some(0));
    assert_eq!(with("of version 3", &[b"REDIS0003", &file[9..]].concat()).2, Some(0));
    assert_eq!(with("without keys", b"REDIS0010\xff\0\0\0\0\0\0\0\0").2, Some(0));
    assert_eq!(with("a long field", &[b"REDIS0010\xfa\x03a\0b\x44\xb0", &[b'x'; 1200][..], b"\xff"].concat()).2, Some(1));
    assert_eq!(with("a wrong checksum", &[&file[..body], &[1; 8]].concat()).2, Some(1));
    assert_eq!(with("a wrong checksum without keys", b"REDIS0010\xff12345678").2, Some(1));
    for version in ["0099", "0000", "abcd", "-001", "9999"] {
        assert_eq!(with(version, &[b"REDIS", version.as_bytes(), &file[9..]].concat()).2, Some(1));
    }
    assert_eq!(with("garbage", &file[9..]).2, Some(1));
    assert_eq!(with("garbage text", b"# a configuration\nport 6379\n").2, Some(1));
    assert_eq!(with("an unknown type", &[&file[..9], b"\x08"].concat()).2, Some(1));
    for len in 0..file.len() {
        assert_eq!(with(&format!("the first {len} bytes"), &file[..len]).2, Some(1));
    }
    let function = file_of_strangers();
    let at = function.windows(9).position(|bytes| bytes == b"#!lua nam").expect("the function");
    assert_eq!(with("half a function", &function[..at + 4]).2, Some(1));
    assert_eq!(compare("no file", &dir.path().join("none")).2, Some(1));
    assert_eq!(compare("a folder", dir.path()).2, Some(1));
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong[..wrong.len().min(10)].join("\n"));
}
