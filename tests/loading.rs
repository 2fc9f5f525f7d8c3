//! What a start finds on disk becomes the data set: RDB files and append-only directories of kvcore and of redis-server, whole,
//! cut off, damaged and missing.

mod harness;

use harness::data::{digests, fill};
use harness::{Server, Value, copied, wait_until};
use std::path::Path;
use std::process::Command;

const DEBUG: [&str; 2] = ["--enable-debug-command", "yes"];

/// Options for a server on the files of a directory.
fn on<'a>(dir: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    [&DEBUG[..], &["--dir", dir.to_str().expect("a plain path")], more].concat()
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
        assert_eq!(ours.digest(), theirs.digest(), "{cores} cores");
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
        assert_eq!(client.info("everything", "rdb_last_load_keys_loaded"), expected.len().to_string());
        assert_eq!(client.info("everything", "rdb_changes_since_last_save"), "0");
        assert_eq!(client.run("SAVE"), Value::ok());
        for program in [Server::redis(&on(dir.path(), &[])), Server::kvcore(4 - cores, &on(dir.path(), &[]))] {
            assert_eq!(program.digest(), theirs.digest(), "written by {cores} cores");
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
    assert_eq!(client.info("everything", "rdb_last_load_keys_expired"), "10");
    assert_eq!(client.info("everything", "rdb_last_load_keys_loaded"), "10");
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
    assert_eq!(client.info("everything", "loading"), "1");
    assert_eq!(client.info("everything", "async_loading"), "0");
    wait_until("the file is known", || client.info("everything", "loading_total_bytes") == file.len().to_string());
    for field in ["loading_start_time", "loading_rdb_used_mem", "loading_eta_seconds"] {
        wait_until(field, || client.info("everything", field).parse::<u64>().expect("a number") > 0);
    }
    let mut read = || client.info("everything", "loading_loaded_bytes").parse::<u64>().expect("a number");
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

#[test]
fn a_reload_goes_through_the_file() {
    for cores in 1..=3 {
        let ours = Server::kvcore(cores, &DEBUG);
        fill(&ours);
        let mut client = ours.client();
        let before = ours.digest();
        assert_eq!(client.run("DEBUG RELOAD"), Value::ok());
        assert_eq!(ours.digest(), before);
        assert_eq!(client.info("everything", "rdb_changes_since_last_save"), "0");
        client.run("SET word changed");
        client.run("SET new v");
        let refused = client.run("DEBUG RELOAD NOSAVE NOFLUSH");
        assert_eq!(refused.text(), "ERR Error trying to load the RDB dump, check server logs");
        assert!(ours.log().contains("RDB has duplicated key '"), "{}", ours.log());
        assert_eq!(client.run("DEBUG RELOAD NOSAVE NOFLUSH MERGE"), Value::ok());
        assert_eq!(client.run("GET word").text(), "hello");
        assert_eq!(client.run("GET new").text(), "v");
        assert_eq!(client.run("DEBUG RELOAD nosave"), Value::ok());
        assert_eq!(ours.digest(), before);
        assert_eq!(client.run("DEBUG RELOAD x").text(), "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.");
        std::fs::remove_file(ours.dir.path().join("dump.rdb")).expect("removed");
        assert!(client.run("DEBUG RELOAD NOSAVE").is_error());
        assert_eq!(ours.digest(), before, "without a file nothing is flushed");
        assert_eq!(client.run("SET k v EX 1"), Value::ok());
        wait_until("keys expire again", || client.run("EXISTS k") == Value::Integer(0));
    }
}

// ---- append-only files ----

const STEM: &str = "appendonly.aof";
const MANIFEST: &str = "appendonlydir/appendonly.aof.manifest";
const FIRST: &str = "appendonlydir/appendonly.aof.1.incr.aof";

fn command(line: &str) -> Vec<u8> {
    harness::encode(&harness::words(line))
}

fn commands(lines: &[&str]) -> Vec<u8> {
    lines.iter().flat_map(|line| command(line)).collect()
}

/// A directory with these files under `appendonlydir`, besides a manifest that names incremental ones.
fn append_only(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::create_dir(dir.path().join("appendonlydir")).expect("made");
    let mut manifest = String::new();
    for (index, (name, bytes)) in files.iter().enumerate() {
        std::fs::write(dir.path().join("appendonlydir").join(name), bytes).expect("written");
        manifest += &match name.contains("base") {
            true => format!("file {name} seq 1 type b\n"),
            false => format!("file {name} seq {} type i\n", index + 1),
        };
    }
    std::fs::write(dir.path().join(MANIFEST), manifest).expect("written");
    dir
}

/// One incremental file.
fn one_segment(bytes: &[u8]) -> tempfile::TempDir {
    append_only(&[("appendonly.aof.1.incr.aof", bytes)])
}

fn appending<'a>(dir: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    [&on(dir, &["--appendonly", "yes"])[..], more].concat()
}

fn refused(dir: &Path, words: &[&str]) {
    for cores in [1, 2] {
        let (code, log) = Server::kvcore_to_its_end(dir, cores, &["--appendonly", "yes"]);
        assert_eq!(code, Some(1), "{log}");
        words.iter().for_each(|words| assert!(log.contains(words), "no '{words}' in\n{log}"));
        assert!(!log.contains("Ready to accept") && !log.contains("panicked"), "{log}");
    }
}

/// Changes of all kinds, also over several shards and with times.
const CHANGES: &[&str] = &[
    "SELECT 0",
    "MSET m1 1 m2 2 m3 3 m4 4",
    "SELECT 3",
    "MULTI",
    "INCR counter",
    "SET other 1",
    "SELECT 4",
    "LPUSH l a b c",
    "RENAME l renamed",
    "EXEC",
    "RPUSH in-four x y z",
    "LPOP in-four 2",
    "SET gone v PX 1",
    "SET stays v PX 1000000000",
    "SET persists v PXAT 99999999999999",
    "PERSIST persists",
    "SADD s1 a b c d",
    "SADD s2 c d e",
    "SINTERSTORE s3 s1 s2",
    "SPOP s1 2",
    "ZADD z 1 a 2 b",
    "ZINCRBY z 5 a",
    "SELECT 0",
    "COPY m1 m1copy DB 5",
    "MOVE m2 6",
    "DEL m3",
    "HSET h f v g w",
    "HINCRBYFLOAT h n 1.5",
    "SETRANGE m4 5 x",
    "SWAPDB 6 7",
];

#[test]
fn a_directory_of_redis_is_the_same_in_kvcore() {
    for preamble in ["yes", "no"] {
        let options = ["--appendonly", "yes", "--aof-use-rdb-preamble", preamble, "--aof-timestamp-enabled", "yes"];
        let theirs = Server::redis(&[&DEBUG[..], &options].concat());
        let mut client = theirs.client();
        fill(&theirs);
        assert_eq!(client.run("CONFIG SET auto-aof-rewrite-percentage 0"), Value::ok());
        assert!(!client.run("BGREWRITEAOF").is_error());
        wait_until("the rewrite ends", || {
            client.info("everything", "aof_rewrite_in_progress") == "0" && client.info("everything", "aof_rewrites") != "0"
        });
        for line in CHANGES {
            assert!(!client.run(line).is_error(), "{line}");
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
        client.run("SELECT 4");
        assert_eq!(client.run("EXISTS gone"), Value::Integer(0));
        // What redis-server itself makes of the files: a score of -0 may have become 0.
        let there = digests(&Server::redis(&appending(copied(theirs.dir.path()).path(), &[])));
        for cores in 1..=3 {
            let dir = copied(theirs.dir.path());
            let ours = Server::kvcore(cores, &appending(dir.path(), &[]));
            let here = digests(&ours);
            let differ: Vec<_> = here
                .iter()
                .filter(|line| !there.contains(line))
                .chain(there.iter().filter(|line| !here.contains(line)))
                .collect();
            assert!(differ.is_empty(), "{cores} cores, preamble {preamble}: {differ:#?}");
            let log = ours.log();
            let base = if preamble == "yes" { "Reading RDB base file on AOF loading..." } else { "DB loaded from base file" };
            for words in [
                base,
                "DB loaded from base file appendonly.aof.2.base.",
                "DB loaded from incr file appendonly.aof.2.incr.aof: 0.",
                "DB loaded from append only file: ",
            ] {
                assert!(log.contains(words), "{words}\n{log}");
            }
            assert!(!log.contains("CRITICAL"), "{log}");
        }
    }
}

#[test]
fn a_file_of_before_redis_7_is_moved_into_the_directory() {
    let theirs = Server::redis(&DEBUG);
    fill(&theirs);
    assert_eq!(theirs.client().run("SAVE"), Value::ok());
    let rdb = std::fs::read(theirs.dir.path().join("dump.rdb")).expect("the file of SAVE");
    // Without what is not the same at every run.
    let changes: Vec<&str> = CHANGES.iter().copied().filter(|line| !line.contains("SPOP") && !line.contains(" PX ")).collect();
    for (what, file, keys) in
        [("commands", commands(&changes), 3), ("a preamble", [rdb, commands(&["SELECT 11", "SET a b"])].concat(), 0)]
    {
        for half in [false, true] {
            let dir = tempfile::tempdir().expect("a temporary directory");
            std::fs::write(dir.path().join(STEM), &file).expect("written");
            if half {
                // An upgrade that was killed before it could move the file.
                std::fs::create_dir(dir.path().join("appendonlydir")).expect("made");
                std::fs::write(dir.path().join(MANIFEST), "file appendonly.aof seq 1 type b\n").expect("written");
            }
            let ours = Server::kvcore(2, &appending(dir.path(), &[]));
            let log = ours.log();
            assert!(log.contains("Successfully migrated an old-style AOF configuration (appendonly.aof) into the AOF directory (appendonlydir)."), "{log}");
            assert!(keys == 0 || ours.client().run("DBSIZE") == Value::Integer(keys), "{what}");
            let expected = ours.digest();
            drop(ours);
            assert!(!dir.path().join(STEM).exists());
            assert_eq!(std::fs::read(dir.path().join("appendonlydir").join(STEM)).expect("moved"), file);
            let manifest = std::fs::read_to_string(dir.path().join(MANIFEST)).expect("the manifest");
            assert!(manifest.starts_with("file appendonly.aof seq 1 type b\n"), "{manifest}");
            assert_eq!(Server::kvcore(3, &appending(dir.path(), &[])).digest(), expected, "{what}");
            assert_eq!(Server::redis(&appending(dir.path(), &[])).digest(), expected, "{what}");
        }
    }
}

/// Groups that each count `a` and `b` up by one, which are on different shards; with the place where each ends.
fn counting(groups: usize) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut ends) = (commands(&["SELECT 0"]), Vec::new());
    ends.push(bytes.len());
    for _ in 0..groups {
        bytes.extend(commands(&["MULTI", "INCR a", "INCR b", "EXEC"]));
        ends.push(bytes.len());
    }
    (bytes, ends)
}

#[test]
fn a_tail_is_cut_back_to_the_last_whole_group() {
    let (bytes, ends) = counting(3);
    let (last, zeros) = (ends[2], vec![0; 5000]);
    for cut in last..=bytes.len() {
        for zeros in [&b""[..], &zeros].into_iter().filter(|zeros| zeros.is_empty() || cut % 7 == 0 || cut == bytes.len()) {
            let dir = one_segment(&[&bytes[..cut], zeros].concat());
            let ours = Server::kvcore(2, &appending(dir.path(), &[]));
            let whole = ends.iter().rposition(|end| *end <= cut).expect("the first") as i64;
            let mut client = ours.client();
            for key in ["a", "b"] {
                assert_eq!(client.run(&format!("INCRBY {key} 0")), Value::Integer(whole), "{key}, cut at {cut}");
            }
            let end = ends[whole as usize];
            let len = std::fs::metadata(dir.path().join(FIRST)).expect("the file").len();
            assert_eq!(len, end as u64, "cut at {cut}");
            let log = ours.log();
            let told = log.contains(&format!("!!! Truncating the AOF appendonly.aof.1.incr.aof at offset {end} !!!"));
            assert_eq!(told, cut > end || !zeros.is_empty(), "cut at {cut}: {log}");
            let loses = log.contains("AOF appendonly.aof.1.incr.aof loaded anyway because aof-load-truncated is enabled");
            assert_eq!(loses, cut > end, "cut at {cut}: {log}");
        }
    }
}

#[test]
fn every_segment_may_have_a_cut_tail_but_no_base_before_others() {
    let (bytes, _) = counting(2);
    let cut = &bytes[..bytes.len() - 5];
    let names = ["appendonly.aof.1.incr.aof", "appendonly.aof.2.incr.aof", "appendonly.aof.3.incr.aof"];
    let dir = append_only(&[(names[0], cut), (names[1], &bytes), (names[2], cut)]);
    let ours = Server::kvcore(2, &appending(dir.path(), &[]));
    assert_eq!(ours.client().run("GET a").text(), "4");
    drop(ours);
    // What is left is whole.
    let theirs = Server::redis(&appending(dir.path(), &["--aof-load-truncated", "no"]));
    assert_eq!(theirs.client().run("GET b").text(), "4");
    let dir = append_only(&[("appendonly.aof.1.base.aof", cut), ("appendonly.aof.2.incr.aof", &bytes)]);
    refused(
        dir.path(),
        &["the truncated file is not the last file: appendonly.aof.1.base.aof", "kvcore --check-aof --fix appendonlydir"],
    );
    let dir = append_only(&[("appendonly.aof.1.base.aof", cut)]);
    assert_eq!(Server::kvcore(2, &appending(dir.path(), &[])).client().run("GET a").text(), "1");
}

#[test]
fn what_is_wrong_with_append_only_files_ends_the_start() {
    let (bytes, ends) = counting(3);
    let dir = one_segment(&bytes[..bytes.len() - 1]);
    let (code, log) = Server::kvcore_to_its_end(dir.path(), 2, &["--appendonly", "yes", "--aof-load-truncated", "no"]);
    let words = "Unexpected end of file reading the append only file appendonly.aof.1.incr.aof, at offset ";
    assert!(code == Some(1) && log.contains(words) && log.contains("Revert incomplete MULTI/EXEC"), "{log}");
    assert_eq!(std::fs::read(dir.path().join(FIRST)).expect("still there").len(), bytes.len() - 1);
    let dir = one_segment(&[&bytes[..], &[0; 100]].concat());
    let ours = Server::kvcore(2, &appending(dir.path(), &["--aof-load-truncated", "no"]));
    assert_eq!(ours.client().run("GET a").text(), "3");
    let file = "appendonlydir/appendonly.aof.1.incr.aof";
    let mut middle = bytes.clone();
    middle[ends[1]] = b'x';
    let at = format!("The append only file {file} is corrupt at offset {}: ", ends[1]);
    refused(
        one_segment(&middle).path(),
        &["Bad file format reading the append only file appendonly.aof.1.incr.aof", &at, "kvcore --check-aof --fix"],
    );
    let unknown = one_segment(&commands(&["SELECT 0", "FROBNICATE a"]));
    refused(
        unknown.path(),
        &["Unknown command 'FROBNICATE' reading the append only file appendonly.aof.1.incr.aof (at offset 23)"],
    );
    refused(one_segment(&commands(&["CLIENT NONSENSE"])).path(), &["Unknown command 'CLIENT'"]);
    refused(one_segment(&commands(&["SET a"])).path(), &["Wrong number of arguments for 'SET'"]);
    for line in ["SHUTDOWN", "SAVE", "QUIT", "RESET", "MONITOR"] {
        refused(one_segment(&commands(&[line])).path(), &[&format!("Command '{line}' can't stand in the append only file")]);
    }
    refused(one_segment(&commands(&["SELECT 99", "SET a b"])).path(), &["'select' can't be run"]);
    let dir = one_segment(&bytes);
    std::fs::remove_file(dir.path().join(FIRST)).expect("removed");
    refused(dir.path(), &[&format!("{file} is missing, but the manifest {MANIFEST} names it")]);
    for text in ["", "file a.aof seq 1 type x\n", "file a.aof seq 1 type i"] {
        let dir = one_segment(&bytes);
        std::fs::write(dir.path().join(MANIFEST), text).expect("written");
        refused(dir.path(), &["FATAL AOF MANIFEST FILE ERROR", &format!("The AOF manifest file {MANIFEST} is damaged")]);
    }
    let damaged = [commands(&["SELECT 0", "MULTI"]), b"#KV:1:1/1:nonsense\r\n".to_vec(), commands(&["SET a b", "EXEC"])].concat();
    refused(one_segment(&damaged).path(), &["is corrupt at offset 38: ", "#KV annotation"]);
    let base = append_only(&[("appendonly.aof.1.base.rdb", b"REDIS0010\xfe"), ("appendonly.aof.2.incr.aof", &bytes)]);
    refused(base.path(), &["Error reading the RDB base file appendonly.aof.1.base.rdb, AOF loading aborted"]);
}

/// A part of operation `id` over segments 1 and 2: `own` there, `other` in the other one.
fn part(id: u64, segment: u32, own: &str, other: &str) -> Vec<u8> {
    use kvshard::codec::crc64::crc64;
    let words = other.split(' ').count();
    let text = format!(" @{segment} @{} *2 SELECT 0 *{words} {other}", 3 - segment);
    let sum = crc64(crc64(0, id.to_string().as_bytes()), text.as_bytes());
    let annotation = format!("#KV:{id}:1/1:{sum:016x}{text}\r\n");
    [commands(&["MULTI"]), annotation.into_bytes(), commands(&["SELECT 0", own, "EXEC"])].concat()
}

#[test]
fn an_operation_is_completed_where_its_segment_has_lost_it() {
    let first = [part(7, 1, "SET a 7", "SET b 7"), part(9, 1, "SET a 9", "SET b 9")].concat();
    let second = [part(7, 2, "SET b 7", "SET a 7"), part(9, 2, "SET b 9", "SET a 9")].concat();
    let names = ["appendonly.aof.1.incr.aof", "appendonly.aof.2.incr.aof"];
    for cut in (0..second.len()).step_by(13).chain([second.len() - 1, second.len()]) {
        for zeros in [0, 4096] {
            let tail = [&second[..cut], &vec![0; zeros]].concat();
            let dir = append_only(&[(names[0], &first), (names[1], &tail)]);
            let expected = |server: &Server| {
                let values = server.client().run("MGET a b");
                assert_eq!(values.items().iter().map(Value::text).collect::<Vec<_>>(), ["9", "9"], "cut at {cut}");
            };
            let ours = Server::kvcore(2, &appending(dir.path(), &[]));
            expected(&ours);
            assert_eq!(ours.log().contains("completed"), cut < second.len(), "{}", ours.log());
            drop(ours);
            let again = Server::kvcore(3, &appending(dir.path(), &["--aof-load-truncated", "no"]));
            expected(&again);
            assert!(!again.log().contains("completed"), "{}", again.log());
            if cut % 5 == 0 {
                expected(&Server::redis(&appending(dir.path(), &["--aof-load-truncated", "no"])));
            }
        }
    }
}

#[test]
fn loading_leaves_no_trace_but_the_data() {
    let mut file =
        commands(&["SELECT 0", "SET k v", "PEXPIREAT k 1000", "PERSIST k", "SET dead v PXAT 5", "BLPOP none 0", "INCR k"]);
    (0..300).for_each(|i| file.extend(command(&format!("SET big:{i} {}", "x".repeat(20_000)))));
    file.extend(command(&format!("SET huge {}", "y".repeat(3_000_000))));
    file.extend(commands(&["WATCH k", "PUBLISH c m", "MULTI", "SET never committed"]));
    let dir = one_segment(&file);
    let options = [
        "--maxmemory",
        "1mb",
        "--slowlog-log-slower-than",
        "0",
        "--notify-keyspace-events",
        "KEA",
        "--proto-max-bulk-len",
        "1mb",
    ];
    let ours = Server::kvcore(2, &appending(dir.path(), &options));
    let mut client = ours.client();
    assert_eq!(client.run("GET k").text(), "v");
    assert_eq!(client.run("EXISTS never big:0 big:299 huge"), Value::Integer(3));
    wait_until("what is dead goes", || client.run("DBSIZE") == Value::Integer(302));
    let log = ours.log();
    assert!(log.contains("== CRITICAL == This server is sending an error to its AOF-loading-client: 'ERR value is not an integer or out of range' after processing the command 'incr'"), "{log}");
    let stats = client.run("INFO everything").text();
    assert!(!stats.contains("cmdstat_set:") && !stats.contains("cmdstat_select"), "{stats}");
    assert_eq!(client.info("everything", "connected_clients"), "1");
    assert_eq!(client.run("CLIENT LIST").text().lines().count(), 1);
    let slow = client.run("SLOWLOG GET 100").to_string();
    assert!(!slow.contains("xxx"), "{slow}");
    assert!(client.run("SET a b").text().starts_with("OOM"));
}
