//! What a start finds on disk becomes the data set: RDB files and append-only directories of kvcore and of redis-server, whole,
//! cut off, damaged and missing.

mod harness;

use harness::data::{digests, fill};
use harness::{Client, Server, Value, wait_until};
use std::path::Path;
use std::process::Command;

const DEBUG: [&str; 2] = ["--enable-debug-command", "yes"];

/// Options for a server on the files of a directory.
fn on<'a>(dir: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    [&DEBUG[..], &["--dir", dir.to_str().expect("a plain path")], more].concat()
}

fn info(client: &mut Client, field: &str) -> String {
    let text = client.run("INFO everything").text();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field} in INFO")).to_owned()
}

fn digest(server: &Server) -> Value {
    server.client().run("DEBUG DIGEST")
}

#[test]
fn a_dump_of_either_is_the_same_in_both() {
    let theirs = Server::redis(&DEBUG);
    fill(&theirs);
    // A modified string loses its encoding when it is loaded.
    assert_eq!(theirs.client().run("DEBUG RELOAD"), Value::ok());
    let expected = digests(&theirs);
    for cores in 1..=3 {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::copy(theirs.dir.path().join("dump.rdb"), dir.path().join("dump.rdb")).expect("copied");
        let ours = Server::kvcore(cores, &on(dir.path(), &[]));
        assert_eq!(digest(&ours), digest(&theirs), "{cores} cores");
        let found = digests(&ours);
        let differ: Vec<_> = found.iter().filter(|line| !expected.contains(line)).collect();
        assert!(differ.is_empty() && found.len() == expected.len(), "{cores} cores: {differ:#?}");
        let log = ours.log();
        for words in [
            "Loading RDB produced by version 7.0.15",
            "RDB age ",
            "RDB memory usage when created ",
            &format!("Done loading RDB, keys loaded: {}, keys expired: 0.", expected.len()),
            "DB loaded from disk: 0.",
            "Ready to accept connections",
        ] {
            assert!(log.contains(words), "{words}\n{log}");
        }
        let mut client = ours.client();
        assert_eq!(info(&mut client, "rdb_last_load_keys_loaded"), expected.len().to_string());
        assert_eq!(info(&mut client, "rdb_changes_since_last_save"), "0");
        assert_eq!(client.run("SAVE"), Value::ok());
        for program in [Server::redis(&on(dir.path(), &[])), Server::kvcore(4 - cores, &on(dir.path(), &[]))] {
            assert_eq!(digest(&program), digest(&theirs), "written by {cores} cores");
        }
    }
}

#[test]
fn expired_keys_are_left_out_and_counted() {
    let theirs = Server::redis(&DEBUG);
    let mut client = theirs.client();
    client.run("DEBUG SET-ACTIVE-EXPIRE 0");
    for key in 0..10 {
        client.run(&format!("SET soon:{key} v PX 1"));
        client.run(&format!("SET later:{key} v PX 1000000"));
    }
    assert_eq!(client.run("SAVE"), Value::ok());
    std::thread::sleep(std::time::Duration::from_millis(5));
    let ours = Server::kvcore(2, &on(theirs.dir.path(), &[]));
    let mut client = ours.client();
    assert_eq!(client.run("DBSIZE"), Value::Integer(10));
    assert_eq!(info(&mut client, "rdb_last_load_keys_expired"), "10");
    assert_eq!(info(&mut client, "rdb_last_load_keys_loaded"), "10");
    assert_eq!(
        client.run("INFO keyspace").text().lines().nth(1).map(|line| line.starts_with("db0:keys=10,expires=10")),
        Some(true)
    );
}

#[test]
fn access_clocks_are_taken_over() {
    for (policy, question) in [("allkeys-lru", "OBJECT IDLETIME old"), ("allkeys-lfu", "OBJECT FREQ old")] {
        let options = ["--maxmemory-policy", policy];
        let theirs = Server::redis(&[&DEBUG[..], &options].concat());
        let mut client = theirs.client();
        client.run("SET old v");
        let payload = client.run("DUMP old").bytes().to_vec();
        let access: &[&[u8]] = if policy == "allkeys-lru" { &[b"IDLETIME", b"5000"] } else { &[b"FREQ", b"77"] };
        let restore: Vec<&[u8]> = [&[&b"RESTORE"[..], b"old", b"0", &payload, b"REPLACE"], access].concat();
        assert_eq!(client.command(&restore), Value::ok());
        assert_eq!(client.run("SAVE"), Value::ok());
        let ours = Server::kvcore(2, &on(theirs.dir.path(), &options));
        let Value::Integer(found) = ours.client().run(question) else { panic!("no number") };
        assert!(if policy == "allkeys-lru" { (5000..5100).contains(&found) } else { found == 77 }, "{policy}: {found}");
    }
}

/// (what, the file, words of the log)
#[test]
fn a_file_that_is_not_as_it_should_be_ends_the_start() {
    let theirs = Server::redis(&[]);
    let mut client = theirs.client();
    for line in ["SELECT 9", "SET a 1", "RPUSH l a b c", "SAVE"] {
        client.run(line);
    }
    let good = std::fs::read(theirs.dir.path().join("dump.rdb")).expect("the file of SAVE");
    client.run("XADD stream * a b");
    client.run("SAVE");
    let stream = std::fs::read(theirs.dir.path().join("dump.rdb")).expect("the file of SAVE");
    client.run("FLUSHALL");
    client.run("FUNCTION LOAD \"#!lua name=mylib\\nredis.register_function('f', function(keys, args) return 1 end)\"");
    client.run("SAVE");
    let function = std::fs::read(theirs.dir.path().join("dump.rdb")).expect("the file of SAVE");
    let body = good.len() - 8;
    let twice = b"REDIS0010\xfe\x00\x00\x01a\x01b\x00\x01a\x01b\xff\0\0\0\0\0\0\0\0".to_vec();
    let cases: [(&str, Vec<u8>, &[&str]); 10] = [
        ("garbage", b"garbage".repeat(9), &["Wrong signature trying to load DB from file", "Fatal error loading the DB"]),
        ("a version", b"REDIS0099".to_vec(), &["Can't handle RDB format version 99", "Fatal error loading the DB"]),
        ("nothing", Vec::new(), &["Short read or OOM loading DB. Unrecoverable error, aborting now.", "offset 0"]),
        (
            "a cut",
            good[..body - 3].to_vec(),
            &["Short read or OOM loading DB. Unrecoverable error, aborting now.", "Unexpected EOF"],
        ),
        ("a checksum", [&good[..body], b"12345678"].concat(), &["Wrong RDB checksum", "Fatal error loading the DB"]),
        ("a type", b"REDIS0010\xfe\x00\x08\x01a\x01b\xff".to_vec(), &["Invalid object type: 8"]),
        ("a key twice", twice, &["RDB has duplicated key 'a' in DB 0"]),
        ("a stream", stream, &["stream keys are not supported yet: key 'stream'"]),
        ("a function", function, &["function libraries are not supported yet"]),
        ("a damaged value", b"REDIS0010\xfe\x00\x10\x01a\x03xyz\xff\0\0\0\0\0\0\0\0".to_vec(), &["damaged listpack", "key 'a'"]),
    ];
    for cores in [1, 2] {
        for (what, file, words) in &cases {
            let dir = tempfile::tempdir().expect("a temporary directory");
            std::fs::write(dir.path().join("dump.rdb"), file).expect("written");
            let (code, log) = Server::kvcore_to_its_end(dir.path(), cores, &[]);
            assert_eq!(code, Some(1), "{what}: {log}");
            words.iter().for_each(|words| assert!(log.contains(words), "{what}: no '{words}' in\n{log}"));
            assert!(!log.contains("Ready to accept") && !log.contains("panicked"), "{what}: {log}");
            assert_eq!(&std::fs::read(dir.path().join("dump.rdb")).expect("still there"), file);
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("dump.rdb"), &good).expect("written");
        let (code, log) = Server::kvcore_to_its_end(dir.path(), cores, &["--databases", "9"]);
        assert!(code == Some(1) && log.contains("configured to handle more than 9 databases"), "{log}");
    }
}

/// A file with so many keys that loading it takes a while.
fn large_dump(keys: usize) -> tempfile::TempDir {
    let theirs = Server::redis(&DEBUG);
    let mut client = theirs.client();
    assert_eq!(client.run(&format!("DEBUG POPULATE {keys} key 40")), Value::ok());
    assert_eq!(client.run("SAVE"), Value::ok());
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::rename(theirs.dir.path().join("dump.rdb"), dir.path().join("dump.rdb")).expect("moved");
    dir
}

#[test]
fn clients_are_told_that_the_node_loads_and_a_signal_ends_it_at_once() {
    let dir = large_dump(500_000);
    let file = std::fs::read(dir.path().join("dump.rdb")).expect("the file");
    let mut loading = Server::kvcore_that_loads(2, &on(dir.path(), &["--save", "1 1", "--key-load-delay", "20"]));
    let mut client = loading.client();
    let reply = client.run("PING");
    assert_eq!(reply.to_string(), "-LOADING Redis is loading the dataset in memory");
    for line in ["GET a", "SET a b", "SAVE", "BGSAVE", "DBSIZE", "MULTI"] {
        let reply = client.run(line);
        assert!(line == "MULTI" || reply.text().starts_with("LOADING"), "{line}: {reply}");
        client.run("DISCARD");
    }
    assert_eq!(info(&mut client, "loading"), "1");
    assert_eq!(info(&mut client, "async_loading"), "0");
    assert_eq!(info(&mut client, "loading_total_bytes"), file.len().to_string());
    for field in ["loading_start_time", "loading_rdb_used_mem", "loading_eta_seconds"] {
        wait_until(field, || info(&mut client, field).parse::<u64>().expect("a number") > 0);
    }
    let mut read = || info(&mut client, "loading_loaded_bytes").parse::<u64>().expect("a number");
    assert!(read() <= file.len() as u64);
    let began = std::time::Instant::now();
    let killed = Command::new("kill").args(["-TERM", &loading.process_id().to_string()]).status();
    assert!(killed.expect("kill is there").success());
    assert_eq!(loading.wait_for_exit(), Some(0), "{}", loading.log());
    assert!(began.elapsed().as_millis() < 1500, "{:?}", began.elapsed());
    assert!(std::fs::read(dir.path().join("dump.rdb")).expect("the file") == file, "nothing was saved over it");
    let loaded = Server::kvcore(2, &on(dir.path(), &[]));
    assert_eq!(loaded.client().run("DBSIZE"), Value::Integer(500_000));
    assert!(!loaded.client().run("INFO persistence").text().contains("loading_start_time"));
}

#[test]
fn what_a_killed_process_left_over_goes() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let names = ["temp-4294967295.rdb", "temp-rewriteaof-bg-4294967295.aof", "temp-1.rdb", "temp-mine.rdb", "notes.txt"];
    names.iter().for_each(|name| std::fs::write(dir.path().join(name), b"x").expect("written"));
    let ours = Server::kvcore(1, &on(dir.path(), &[]));
    wait_until("it is gone", || !dir.path().join(names[1]).exists());
    let left: Vec<&str> = names.into_iter().filter(|name| dir.path().join(name).exists()).collect();
    assert_eq!(left, ["temp-1.rdb", "temp-mine.rdb", "notes.txt"]);
    assert!(ours.log().contains("Removed the temporary file temp-4294967295.rdb"), "{}", ours.log());
}
