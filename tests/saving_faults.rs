//! Saving when something is wrong: full disks, directories that are gone, slow disks, sudden ends.

mod harness;

use harness::{Client, Program, Server, SmallDisk, Value, make_directory, names, ok, wait_for_bgsave, wait_until};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const OPTIONS: [&str; 4] = ["--enable-debug-command", "yes", "--enable-protected-configs", "yes"];

fn bgsave(client: &mut Client) -> String {
    assert_eq!(client.run("BGSAVE"), Value::Simple("Background saving started".into()));
    wait_for_bgsave(client);
    client.info("persistence", "rdb_last_bgsave_status")
}

/// The last lines of a log about saving, without what is each process's own.
fn about_saving(log: &str) -> Vec<String> {
    let lines = log.lines().filter_map(|line| line.split_once(" # ").or_else(|| line.split_once(" * ")));
    let words = ["saving", "Saving", "DB", "Background"];
    let known = lines.filter(|(_, text)| words.iter().any(|word| text.contains(word)) && !text.contains("Fork CoW"));
    let plain = known.map(|(_, text)| {
        let digits_gone: String = text.chars().filter(|c| !c.is_ascii_digit()).collect();
        digits_gone
            .split("in server root dir")
            .enumerate()
            .map(|(at, part)| match at {
                0 => part.to_owned(),
                _ => part.split_once(')').map_or(part, |(_, rest)| rest).to_owned(),
            })
            .collect::<String>()
    });
    plain.collect()
}

/// What both programs say to the same lines in a directory that `spoil` spoils and `repair` repairs.
fn troubled(
    program: Program,
    spoil: &dyn Fn(&Path, &mut Client),
    repair: &dyn Fn(&Path, &mut Client),
) -> (Vec<String>, Vec<String>) {
    let server = Server::without_privileges(program, &[&OPTIONS[..], &["--save", "10000 10000"]].concat());
    let (mut client, folder) = (server.client(), server.dir.path().join("data"));
    make_directory(&folder);
    ok(&mut client, &format!("CONFIG SET dir {}", folder.display()));
    ok(&mut client, "DEBUG POPULATE 20000");
    ok(&mut client, "SET a 1");
    spoil(&folder, &mut client);
    let mut said = Vec::new();
    let mut tell = |client: &mut Client, line: &str| said.push(format!("{line} -> {}", client.run(line)));
    tell(&mut client, "SAVE");
    tell(&mut client, "SET a 2");
    let status = bgsave(&mut client);
    assert_eq!(status, "err", "{program:?}: {}", server.log());
    for line in [
        "PING",
        "PING hello",
        "SET a 3",
        "GET a",
        "INCR a",
        "DEL a",
        "MSET x 1 y 2",
        "FLUSHALL",
        "PUBLISH c m",
        "EXISTS a",
        "MULTI",
        "SET a 4",
        "EXEC",
        "EVALX",
        "CONFIG SET stop-writes-on-bgsave-error no",
        "SET a 5",
        "PING",
        "BGSAVE",
    ] {
        tell(&mut client, line);
    }
    wait_for_bgsave(&mut client);
    ok(&mut client, "CONFIG SET stop-writes-on-bgsave-error yes");
    for line in ["SET a 6", "CONFIG SET save \"\"", "SET a 7", "CONFIG SET save \"10000 10000\"", "SET a 8", "GET a"] {
        tell(&mut client, line);
    }
    repair(&folder, &mut client);
    for line in ["SET a 9", "PING"] {
        tell(&mut client, line);
    }
    assert_eq!(bgsave(&mut client), "ok", "{program:?}: {}", server.log());
    tell(&mut client, "SET a 10");
    ok(&mut client, "SAVE");
    assert!(names(&folder).iter().all(|name| name == "dump.rdb" || name == "blocked"), "{:?}", names(&folder));
    // Redis's child and its parent write into the log at the same time.
    let mut log = about_saving(&server.log());
    log.sort();
    (said, log)
}

#[track_caller]
fn troubled_alike(spoil: &dyn Fn(&Path, &mut Client), repair: &dyn Fn(&Path, &mut Client)) -> Vec<String> {
    let theirs = troubled(Program::Redis, spoil, repair);
    for cores in [1, 2] {
        assert_eq!(troubled(Program::Kvcore { cores }, spoil, repair), theirs, "{cores} cores");
    }
    theirs.1
}

fn permit(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("permissions");
}

#[test]
fn a_directory_without_permission() {
    let log = troubled_alike(&|folder, _| permit(folder, 0o500), &|folder, _| permit(folder, 0o700));
    let refusal = "Failed opening the temp RDB file temp-.rdb";
    assert!(log.iter().any(|line| line.contains(refusal) && line.ends_with("Permission denied")), "{log:?}");
}

#[test]
fn a_directory_that_is_gone() {
    let log = troubled_alike(&|folder, _| std::fs::remove_dir(folder).expect("an empty directory"), &|folder, client| {
        make_directory(folder);
        ok(client, &format!("CONFIG SET dir {}", folder.display()));
    });
    assert!(log.iter().any(|line| line.contains("Failed opening the temp RDB file temp-.rdb")), "{log:?}");
}

#[test]
fn a_file_that_cannot_be_replaced() {
    let log = troubled_alike(
        &|folder, client| {
            make_directory(&folder.join("blocked"));
            make_directory(&folder.join("blocked/x"));
            ok(client, "CONFIG SET dbfilename blocked");
        },
        &|_, client| ok(client, "CONFIG SET dbfilename dump.rdb"),
    );
    assert!(
        log.iter().any(|line| line.contains("Error moving temp DB file temp-.rdb on the final destination blocked")),
        "{log:?}"
    );
}

#[test]
fn a_full_disk() {
    // Each server's small disk lies in its own directory, and lives until the disk is repaired by leaving it.
    let disks = std::cell::RefCell::new(Vec::new());
    let log = troubled_alike(
        &|folder, client| {
            let disk = SmallDisk::new(folder.parent().expect("a parent"), 64);
            ok(client, &format!("CONFIG SET dir {}", disk.path.display()));
            disks.borrow_mut().push(disk);
        },
        &|folder, client| {
            let disk = disks.borrow_mut().pop().expect("spoilt before");
            assert!(names(&disk.path).is_empty(), "the temporary file was removed");
            ok(client, &format!("CONFIG SET dir {}", folder.display()));
        },
    );
    assert!(log.iter().any(|line| line == "Write error saving DB on disk(rdbSaveRio): No space left on device"), "{log:?}");
}

/// The cores may not have heard yet that a save has failed when the next one begins: it must have all records all the same.
#[test]
fn a_save_at_once_after_one_that_failed_is_whole() {
    for cores in [1, 2] {
        let server = Server::kvcore(cores, &OPTIONS);
        let (mut client, gone) = (server.client(), server.dir.path().join("gone"));
        ok(&mut client, "DEBUG POPULATE 50000");
        for _round in 0..8 {
            std::fs::create_dir(&gone).expect("a directory");
            ok(&mut client, &format!("CONFIG SET dir {}", gone.display()));
            std::fs::remove_dir(&gone).expect("an empty directory");
            assert_eq!(bgsave(&mut client), "err");
            ok(&mut client, &format!("CONFIG SET dir {}", server.dir.path().display()));
            assert_eq!(bgsave(&mut client), "ok");
            let checked = Command::new("redis-check-rdb").arg(server.dir.path().join("dump.rdb")).output();
            let text = String::from_utf8_lossy(&checked.expect("redis-check-rdb").stdout).into_owned();
            assert!(text.contains("[info] 50000 keys read"), "{cores} cores: {text}");
        }
    }
}

/// A disk that has room again is used again without anybody's help: save points try anew, after five seconds.
#[test]
fn service_returns_by_itself_when_space_does() {
    let server = Server::kvcore(2, &OPTIONS);
    let disk = SmallDisk::new(server.dir.path(), 1024);
    let mut client = server.client();
    std::fs::write(disk.path.join("hog"), vec![1; 1000 << 10]).expect("room for it");
    ok(&mut client, &format!("CONFIG SET dir {}", disk.path.display()));
    ok(&mut client, "DEBUG POPULATE 10000");
    ok(&mut client, "SET a 1");
    ok(&mut client, "CONFIG SET save \"1 1\"");
    wait_until("the first attempt", || server.log().contains("Background saving error"));
    let first = Instant::now();
    assert!(client.run("SET a b").text().starts_with("MISCONF Redis is configured to save RDB snapshots"));
    assert!(client.run("PING").is_error());
    assert_eq!(client.run("GET key:17"), Value::bulk("value:17"));
    wait_until("the second attempt", || server.log().matches("Background saving error").count() == 2);
    assert!(first.elapsed() >= Duration::from_millis(4500), "it came after {:?}", first.elapsed());
    assert_eq!(names(&disk.path), ["hog"]);
    std::fs::remove_file(disk.path.join("hog")).expect("the hog");
    wait_until("writes", || client.run("SET a b") == Value::ok());
    assert_eq!(client.info("persistence", "rdb_last_bgsave_status"), "ok");
    assert_eq!(names(&disk.path), ["dump.rdb"]);
}

/// An end that cannot save is no end, unless it is forced.
#[test]
fn no_end_without_the_last_save() {
    let lines = |program| {
        let mut server = Server::start(program, &[&OPTIONS[..], &["--save", "10000 10000", "--dbfilename", "blocked"]].concat());
        std::fs::create_dir(server.dir.path().join("blocked")).expect("a directory");
        let mut client = server.client();
        ok(&mut client, "SET a 1");
        let mut said =
            vec![client.run("SHUTDOWN").to_string(), client.run("SET a 2").to_string(), client.run("SHUTDOWN ABORT").to_string()];
        server.signal("TERM");
        wait_until("the second failure", || server.log().matches("Errors trying to shut down the server. Check").count() == 2);
        said.push(client.run("SET a 3").to_string());
        client.send(&["SHUTDOWN", "SAVE", "FORCE"]);
        assert_eq!(server.wait_for_exit(), Some(0));
        let log = server.log();
        let known = ["shut down", "shutdown", "exit", "Exit", "final", "Error"];
        let texts =
            log.lines().filter_map(|line| line.split_once(" # ").or_else(|| line.split_once(" * ")).map(|(_, text)| text));
        let texts = texts.filter(|text| known.iter().any(|word| text.contains(word)));
        said.extend(texts.map(|text| {
            let text = text.replace(&server.dir.path().display().to_string(), "DIR").replace("kvcore", "Redis");
            text.chars().filter(|c| !c.is_ascii_digit()).collect()
        }));
        // Redis writes this one from within the signal's handler, without the mark of its level.
        said.retain(|line| !line.contains("scheduling shutdown"));
        said
    };
    let theirs = lines(Program::Redis);
    for cores in [1, 2] {
        assert_eq!(lines(Program::Kvcore { cores }), theirs, "{cores} cores");
    }
}

/// Values that change faster than a slow disk takes them: writers wait, memory does not grow, readers are served.
#[test]
fn memory_stays_bounded_when_the_disk_is_slow() {
    const KEYS: usize = 3000;
    const VALUE_BYTES: usize = 20_000;
    for cores in [1, 2] {
        let server = Server::kvcore(cores, &OPTIONS);
        let mut client = server.client();
        for key in 0..KEYS {
            ok(&mut client, &format!("SET key:{key} {}", format!("{key:08}").repeat(VALUE_BYTES / 8)));
        }
        ok(&mut client, "CONFIG SET rdb-key-save-delay 1000 rdbcompression no");
        let used = |client: &mut Client| client.info("memory", "used_memory").parse::<usize>().expect("a number");
        let before = used(&mut client);
        assert_eq!(client.run("BGSAVE"), Value::Simple("Background saving started".into()));
        let (stop, mut most, mut slowest) = (AtomicBool::new(false), 0, Duration::ZERO);
        let rounds: usize = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|writer| {
                    let (mut client, stop) = (server.client(), &stop);
                    scope.spawn(move || {
                        let mut written = 0;
                        // From the end, as the cut's own way may begin anywhere.
                        for at in (0..KEYS / 4).rev().cycle() {
                            if stop.load(Ordering::Relaxed) {
                                break;
                            }
                            let key = at * 4 + writer;
                            let requests: Vec<Vec<String>> = (0..2)
                                .map(|at| vec!["SETRANGE".into(), format!("key:{key}"), at.to_string(), "changed".into()])
                                .collect();
                            for reply in client.pipeline(&requests) {
                                assert_eq!(reply, Value::Integer(VALUE_BYTES as i64));
                            }
                            written += 1;
                        }
                        written
                    })
                })
                .collect();
            loop {
                let began = Instant::now();
                assert_eq!(client.run("STRLEN key:1"), Value::Integer(VALUE_BYTES as i64));
                slowest = slowest.max(began.elapsed());
                most = most.max(used(&mut client));
                if client.info("persistence", "rdb_bgsave_in_progress") == "0" {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            stop.store(true, Ordering::Relaxed);
            writers.into_iter().map(|writer| writer.join().expect("a writer")).sum()
        });
        let extra = (most - before) as f64 / before as f64;
        eprintln!("{cores} cores: {:.1} % extra, {rounds} writes, slowest read {slowest:?}", 100.0 * extra);
        assert!(extra < 0.10, "{before} bytes before, {most} at most: {:.1} % more", 100.0 * extra);
        assert!(rounds > 2, "writers got on, if slowly");
        assert!(slowest < Duration::from_secs(1), "readers do not wait: {slowest:?}");
        assert_eq!(client.info("persistence", "rdb_last_bgsave_status"), "ok");
        let checked = Command::new("redis-check-rdb").arg(server.dir.path().join("dump.rdb")).output().expect("redis-check-rdb");
        let text = String::from_utf8_lossy(&checked.stdout);
        assert!(checked.status.success() && text.contains(&format!("[info] {KEYS} keys read")), "{text}");
    }
}

#[test]
fn a_crash_in_the_midst_of_a_save_leaves_the_old_file() {
    for cores in [1, 2] {
        let mut server = Server::kvcore(cores, &OPTIONS);
        let mut client = server.client();
        ok(&mut client, "DEBUG POPULATE 5000");
        ok(&mut client, "SAVE");
        let file = server.dir.path().join("dump.rdb");
        let old = std::fs::read(&file).expect("a file");
        ok(&mut client, "DEBUG POPULATE 5000 more");
        ok(&mut client, "CONFIG SET rdb-key-save-delay 2000");
        assert_eq!(client.run("BGSAVE"), Value::Simple("Background saving started".into()));
        wait_until("some keys", || client.info("persistence", "current_save_keys_processed") != "0");
        server.kill();
        assert!(std::fs::read(&file).expect("a file") == old, "the old file is as it was");
    }
}
