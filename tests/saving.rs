//! SAVE, BGSAVE, save points and the last save: what is in the file, when it is written, and what is said about it.
//! Full disks, memory while saving, and sudden ends are in `saving_faults.rs`.

mod harness;

use harness::{Client, Program, Random, Server, Value, fill, names, ok, seed, wait_for_bgsave, wait_until};
use kvshard::Settings;
use kvshard::codec::ValueLimits;
use kvshard::codec::rdb::file::{Checksum, Event, FileReader};
use kvshard::keyspace::Value as Stored;
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const OPTIONS: [&str; 4] = ["--enable-debug-command", "yes", "--enable-protected-configs", "yes"];

fn kvcore(cores: usize, more: &[&str]) -> Server {
    Server::kvcore(cores, &[&OPTIONS[..], more].concat())
}

/// A field of INFO persistence.
#[track_caller]
fn field(client: &mut Client, name: &str) -> String {
    client.info("persistence", name)
}

fn bgsave(client: &mut Client) {
    assert_eq!(client.run("BGSAVE"), Value::Simple("Background saving started".into()));
}

/// What was in a server at a moment: the digest of all, and a line for each key, to see what differs.
struct Content {
    digest: String,
    lines: Vec<String>,
}

fn content(server: &Server) -> Content {
    let lines = harness::digests(server).into_iter();
    // Encodings are the program's own business.
    let lines = lines.map(|line| line.rsplit_once(' ').expect("several words").0.to_owned()).collect();
    Content { digest: server.client().run("DEBUG DIGEST").text(), lines }
}

/// redis-check-rdb accepts the file, and redis-server makes the same data of it.
#[track_caller]
fn check_file(path: &Path, then: &Content) {
    let checked = Command::new("redis-check-rdb").arg(path).output().expect("redis-check-rdb");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    let (folder, name) = (path.parent().expect("a folder"), path.file_name().expect("a name"));
    let loaded =
        Server::redis(&[&OPTIONS[..], &["--dir", &folder.to_string_lossy(), "--dbfilename", &name.to_string_lossy()]].concat());
    // It answers DEBUG while it is loading, too.
    wait_until("the file to be loaded", || field(&mut loaded.client(), "loading") == "0");
    let loaded = content(&loaded);
    let lacks: Vec<_> = then.lines.iter().filter(|line| !loaded.lines.contains(line)).collect();
    assert!(lacks.is_empty(), "{} lacks, as redis-server sees it: {:#?}", path.display(), &lacks[..lacks.len().min(5)]);
    assert_eq!(loaded.digest, then.digest, "what redis-server loads from {}", path.display());
}

/// The strings of a file, by key.
fn strings(path: &Path) -> HashMap<String, String> {
    let limits = ValueLimits::new(&Settings::default(), &ahash::RandomState::with_seeds(1, 2, 3, 4));
    let file = std::fs::read(path).expect("a file");
    let (mut reader, mut found) = (FileReader::new(Checksum::On), HashMap::new());
    while let Some(event) = reader.next(&file).expect("a good file") {
        let Event::Key(record) = event else { continue };
        let entry = record.entry(&limits).expect("a good value");
        let value = match entry.value() {
            Stored::Short(bytes) => bytes.to_vec(),
            Stored::Long(bytes) => bytes.clone(),
            Stored::Integer(number) => number.to_string().into_bytes(),
            _ => continue,
        };
        found.insert(String::from_utf8_lossy(&record.key).into_owned(), String::from_utf8_lossy(&value).into_owned());
    }
    found
}

#[test]
fn every_type_and_encoding_reaches_redis() {
    for cores in [1, 2] {
        let server = kvcore(cores, &[]);
        fill(&server);
        let mut client = server.client();
        let (all, file) = (content(&server), server.dir.path().join("dump.rdb"));
        ok(&mut client, "SAVE");
        check_file(&file, &all);
        let compressed = std::fs::metadata(&file).expect("a file").len();
        let other = server.dir.path().join("other");
        std::fs::create_dir(&other).expect("a directory");
        ok(&mut client, &format!("CONFIG SET dir {} dbfilename x.rdb rdbcompression no", other.display()));
        bgsave(&mut client);
        wait_for_bgsave(&mut client);
        check_file(&other.join("x.rdb"), &all);
        assert_eq!(names(&other), ["x.rdb"]);
        let plain = std::fs::metadata(other.join("x.rdb")).expect("a file").len();
        assert!(plain > compressed, "{plain} bytes uncompressed, {compressed} compressed");
    }
}

#[test]
fn without_rdbchecksum_the_last_eight_bytes_are_zero() {
    let server = kvcore(1, &["--rdbchecksum", "no"]);
    let mut client = server.client();
    ok(&mut client, "SET a b");
    ok(&mut client, "SAVE");
    let file = std::fs::read(server.dir.path().join("dump.rdb")).expect("a file");
    assert!(file.ends_with(&[0xff, 0, 0, 0, 0, 0, 0, 0, 0]));
    check_file(&server.dir.path().join("dump.rdb"), &content(&server));
}

#[test]
fn access_clocks_are_saved_under_a_policy_that_needs_them() {
    let lfu = ["--maxmemory-policy", "allkeys-lfu", "--maxmemory", "1gb"];
    let server = kvcore(2, &lfu);
    let mut client = server.client();
    ok(&mut client, "SET hot 1");
    (0..500).for_each(|_| drop(client.run("GET hot")));
    ok(&mut client, "SAVE");
    let folder = server.dir.path().to_string_lossy().into_owned();
    let loaded = Server::redis(&[&lfu[..], &["--dir", &folder]].concat());
    assert_eq!(loaded.client().run("OBJECT FREQ hot"), client.run("OBJECT FREQ hot"));
}

/// Money moves between accounts on different shards while snapshots are taken: none may show it on its way.
#[test]
fn a_snapshot_is_one_instant_for_all_shards() {
    const ACCOUNTS: usize = 40;
    const ROUNDS: usize = 12;
    for cores in [1, 2] {
        let (server, seed) = (kvcore(cores, &[]), seed());
        let mut client = server.client();
        for account in 0..ACCOUNTS {
            ok(&mut client, &format!("SET exec:{account} 1000"));
            ok(&mut client, &format!("SET mset:{account} 1000"));
        }
        // Ballast, so that a save takes longer than a transfer.
        ok(&mut client, "DEBUG POPULATE 3000 ballast 100");
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in 0..3 {
                let (server, stop) = (&server, &stop);
                scope.spawn(move || {
                    let (mut client, mut random) = (server.client(), Random::new(seed + writer));
                    // Accounts of its own, whose balances it therefore knows.
                    let mut own: Vec<(usize, i64)> =
                        (0..ACCOUNTS).filter(|at| at % 3 == writer as usize).map(|at| (at, 1000)).collect();
                    while !stop.load(Ordering::Relaxed) {
                        let (from, to, sum) = (random.below(ACCOUNTS), random.below(ACCOUNTS), random.below(50));
                        let lines = ["MULTI".into(), format!("DECRBY exec:{from} {sum}"), format!("INCRBY exec:{to} {sum}")];
                        lines.iter().for_each(|line| drop(client.run(line)));
                        assert_eq!(client.run("EXEC").items().len(), 2);
                        let (a, b) = (random.below(own.len()), random.below(own.len()));
                        if a != b {
                            own[a].1 -= sum as i64;
                            own[b].1 += sum as i64;
                            ok(&mut client, &format!("MSET mset:{} {} mset:{} {}", own[a].0, own[a].1, own[b].0, own[b].1));
                        }
                    }
                });
            }
            let file = server.dir.path().join("dump.rdb");
            for round in 0..ROUNDS {
                if round % 3 == 2 {
                    ok(&mut client, "SAVE");
                } else {
                    bgsave(&mut client);
                    wait_for_bgsave(&mut client);
                }
                let found = strings(&file);
                for kind in ["exec:", "mset:"] {
                    let balances = || found.iter().filter(|(key, _)| key.starts_with(kind)).map(|(_, text)| text.parse::<i64>());
                    let sum: i64 = balances().map(|balance| balance.expect("a number")).sum();
                    assert_eq!(
                        (balances().count(), sum),
                        (ACCOUNTS, 1000 * ACCOUNTS as i64),
                        "{kind} round {round}, seed {seed}"
                    );
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}

/// What is in the file is the data at the moment of BGSAVE, whatever becomes of large values afterwards.
#[test]
fn large_values_change_while_they_are_saved() {
    for cores in [1, 2] {
        let server = kvcore(cores, &["--rdb-key-save-delay", "2000"]);
        let mut client = server.client();
        fill(&server);
        for key in 0..20 {
            let elements = |prefix: &str| (0..2000).map(|i| format!("{prefix}{i}")).collect::<Vec<_>>().join(" ");
            client.run(&format!("SET string:{key} {}", "x".repeat(50_000)));
            client.run(&format!("RPUSH list:{key} {}", elements("element")));
            client.run(&format!("SADD set:{key} {}", elements("member")));
            client.run(&format!("HSET hash:{key} {}", elements("")));
            client.run(&format!("ZADD zset:{key} {}", (0..2000).map(|i| format!("{i} m{i}")).collect::<Vec<_>>().join(" ")));
        }
        let then = content(&server);
        bgsave(&mut client);
        for key in 0..20 {
            for line in [
                format!("APPEND string:{key} more"),
                format!("LPOP list:{key} 100"),
                format!("SPOP set:{key} 100"),
                format!("HDEL hash:{key} 0 2 4 6"),
                format!("ZADD zset:{key} 17 new"),
                format!("EXPIRE zset:{key} 1000"),
                format!("RENAME list:{key} string:{key}"),
                format!("SINTERSTORE new:{key} set:{key} set:{}", (key + 1) % 20),
                format!("DEL hash:{key}"),
            ] {
                let reply = client.run(&line);
                assert!(!reply.is_error(), "{line}: {reply}");
            }
        }
        ok(&mut client, "SWAPDB 0 3");
        ok(&mut client, "FLUSHDB");
        assert_eq!(field(&mut client, "rdb_bgsave_in_progress"), "1", "the changes came in time");
        wait_for_bgsave(&mut client);
        assert_ne!(content(&server).digest, then.digest);
        check_file(&server.dir.path().join("dump.rdb"), &then);
    }
}

/// What a program answers to lines, where `~` waits until no save is running, `=n` until n saves have begun, and `!name` shows a
/// field of INFO persistence.
fn transcript(program: Program, options: &[&str], lines: &[&str]) -> Vec<String> {
    let server = Server::start(program, &[&OPTIONS[..], options].concat());
    let mut client = server.client();
    let mut said = Vec::new();
    for line in lines {
        match line.split_at(1) {
            ("~", _) => wait_for_bgsave(&mut client),
            ("=", saves) => wait_until("saves to begin", || field(&mut client, "rdb_saves") == saves),
            ("!", name) => said.push(format!("{name} = {}", field(&mut client, name))),
            _ => said.push(format!("{line} -> {}", client.run(line))),
        }
    }
    said
}

/// Both programs say the same, kvcore with one core and with two.
#[track_caller]
fn alike(options: &[&str], lines: &[&str]) -> Vec<String> {
    let theirs = transcript(Program::Redis, options, lines);
    for cores in [1, 2] {
        assert_eq!(transcript(Program::Kvcore { cores }, options, lines), theirs, "{cores} cores");
    }
    theirs
}

#[test]
fn replies_and_info_move_as_in_redis() {
    let lines = [
        "!rdb_last_bgsave_status",
        "!rdb_last_bgsave_time_sec",
        "!rdb_saves",
        "!rdb_changes_since_last_save",
        "SET a 1",
        "MSET b 2 c 3 d 4",
        "DEL b",
        "!rdb_changes_since_last_save",
        "SAVE",
        "!rdb_saves",
        "!rdb_changes_since_last_save",
        "!rdb_last_bgsave_time_sec",
        "SAVE x",
        "BGSAVE x",
        "BGSAVE SCHEDULE x",
        "LASTSAVE x",
        "MULTI",
        "SAVE",
        "EXEC",
        "MULTI",
        "SET e 5",
        "BGSAVE",
        "BGSAVE SCHEDULE",
        "EXEC",
        "=2",
        "~",
        "CONFIG SET rdb-key-save-delay 300000",
        "BGSAVE SCHEDULE",
        "BGSAVE",
        "BGSAVE SCHEDULE",
        "SAVE",
        "!rdb_bgsave_in_progress",
        "!current_save_keys_total",
        "!rdb_current_bgsave_time_sec",
        "!rdb_last_bgsave_status",
        "MULTI",
        "BGSAVE",
        "EXEC",
        "SET f 6",
        "FLUSHDB",
        "!rdb_changes_since_last_save",
        "~",
        "!rdb_changes_since_last_save",
        "!rdb_last_bgsave_status",
        "!current_save_keys_total",
        "!current_save_keys_processed",
        "!rdb_current_bgsave_time_sec",
    ];
    alike(&[], &lines);
}

#[test]
fn info_persistence_has_redis_s_fields_in_its_order() {
    let fields = |program| {
        let server = Server::start(program, &OPTIONS);
        let text = server.client().run("INFO persistence").text();
        text.lines().map(|line| line.split(':').next().unwrap_or("").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(fields(Program::Kvcore { cores: 2 }), fields(Program::Redis));
}

#[test]
fn lastsave_is_the_time_of_the_last_file() {
    let server = kvcore(2, &[]);
    let mut client = server.client();
    let start = client.run("LASTSAVE").integer();
    std::thread::sleep(Duration::from_millis(1100));
    ok(&mut client, "SAVE");
    let saved = client.run("LASTSAVE").integer();
    assert!(saved > start && saved <= start + 20, "{start} {saved}");
    assert_eq!(field(&mut client, "rdb_last_save_time"), saved.to_string());
}

/// SAVE does not keep other clients from being served.
#[test]
fn others_are_served_during_save() {
    let server = kvcore(1, &["--rdb-key-save-delay", "1000"]);
    let (mut client, mut other) = (server.client(), server.client());
    ok(&mut client, "DEBUG POPULATE 1000");
    client.send(&["SAVE"]);
    wait_until("the save to begin", || names(server.dir.path()).iter().any(|name| name.starts_with("temp-")));
    ok(&mut other, "SET a b");
    assert_eq!(other.run("SAVE"), Value::Error("ERR Background save already in progress".into()));
    assert_eq!(field(&mut other, "rdb_bgsave_in_progress"), "0");
    assert_eq!(client.message_within(Duration::from_millis(1)), None);
    assert_eq!(client.reply(), Value::ok());
    assert!(!strings(&server.dir.path().join("dump.rdb")).contains_key("a"));
}

#[test]
fn save_points_save_and_say_so() {
    let server = kvcore(2, &["--save", "1 2"]);
    let mut client = server.client();
    let file = server.dir.path().join("dump.rdb");
    ok(&mut client, "SET a 1");
    std::thread::sleep(Duration::from_millis(2500));
    assert!(!file.exists(), "one change is not enough");
    ok(&mut client, "SET b 1");
    wait_until("the save point's save", || file.exists() && field(&mut client, "rdb_changes_since_last_save") == "0");
    wait_for_bgsave(&mut client);
    let log = server.log();
    let lines = ["2 changes in 1 seconds. Saving...", "Background saving started by pid ", "DB saved on disk"];
    let places: Vec<_> = lines.iter().map(|line| log.find(line).unwrap_or_else(|| panic!("no {line:?} in\n{log}"))).collect();
    assert!(places.is_sorted() && log.contains("* Background saving terminated with success"), "{log}");
    assert_eq!(strings(&file).len(), 2);
    ok(&mut client, "CONFIG SET save \"\"");
    ok(&mut client, "MSET a 2 b 2 c 2");
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(server.log().matches("Saving...").count(), 1);
    ok(&mut client, "CONFIG SET save \"100 1 1 3\"");
    wait_until("the new save points", || server.log().contains("3 changes in 1 seconds. Saving..."));
}

/// The log of a program from its time of readiness on, without times, process ids and names of its own.
fn said(log: &str) -> Vec<String> {
    let lines = log.lines().skip_while(|line| !line.contains("Ready to accept connections")).skip(1);
    let shown = lines.filter_map(|line| {
        // The two report their signals differently: Redis from within the handler, which may write a line in two.
        let text = line.split_once(" # ").or_else(|| line.split_once(" * ")).map_or(line, |(_, text)| text);
        let text = text.rsplit_once(") ").filter(|(head, _)| head.contains("signal-handler")).map_or(text, |(_, text)| text);
        let known = ["Fork CoW", "Received SIGUSR1 in child", "overcommit"].iter().any(|own| text.contains(own));
        let text = text.split(" by pid ").next().unwrap_or(text);
        (!known && !text.is_empty()).then(|| text.replace("kvcore", "Redis"))
    });
    shown.collect()
}

/// How a program ends: (exit code, log, whether there is a file with the data).
fn ending(program: Program, options: &[&str], end: &dyn Fn(&Server)) -> (Option<i32>, Vec<String>, bool) {
    let mut server = Server::start(program, &[&OPTIONS[..], options].concat());
    ok(&mut server.client(), "SET a b");
    // What is compared is what the log says behind that line.
    wait_until("it is ready", || server.log().contains("Ready to accept connections"));
    end(&server);
    let code = server.wait_for_exit();
    (code, said(&server.log()), server.dir.path().join("dump.rdb").exists())
}

#[test]
fn ends_are_redis_s_ends() {
    let shutdown = |line: &'static str| move |server: &Server| server.client().send_raw(format!("{line}\r\n").as_bytes());
    let signal = |name: &'static str| move |server: &Server| server.signal(name);
    let points = ["--save", "1000 1000"];
    let slow = ["--save", "1000 1000", "--rdb-key-save-delay", "500000"];
    let interrupts = |server: &Server| {
        bgsave(&mut server.client());
        server.client().send_raw(b"SHUTDOWN\r\n");
    };
    type End<'a> = &'a dyn Fn(&Server);
    let cases: &[(&[&str], &str, End<'_>)] = &[
        (&[], "SHUTDOWN", &shutdown("SHUTDOWN")),
        (&[], "SHUTDOWN SAVE", &shutdown("SHUTDOWN SAVE")),
        (&[], "SIGTERM", &signal("TERM")),
        (&points, "SHUTDOWN", &shutdown("SHUTDOWN")),
        (&points, "SHUTDOWN NOSAVE", &shutdown("SHUTDOWN NOSAVE")),
        (&points, "SHUTDOWN FORCE NOW", &shutdown("SHUTDOWN FORCE NOW")),
        (&points, "SIGTERM", &signal("TERM")),
        (&points, "SIGINT", &signal("INT")),
        (&["--save", "1000 1000", "--shutdown-on-sigterm", "nosave"], "SIGTERM", &signal("TERM")),
        (&["--shutdown-on-sigint", "save now"], "SIGINT", &signal("INT")),
        (&["--save", "1000 1000", "--pidfile", "x.pid"], "SIGTERM", &signal("TERM")),
        (&slow, "SHUTDOWN during BGSAVE", &interrupts),
    ];
    for (options, what, end) in cases {
        let theirs = ending(Program::Redis, options, end);
        for cores in [1, 2] {
            let mut ours = ending(Program::Kvcore { cores }, options, end);
            // Redis does not come to see its child's end, as it does not wait for it.
            ours.1.retain(|line| !line.contains("terminated by signal") && !line.contains("Saving was given up"));
            let mut theirs = theirs.clone();
            // It always has a pid file.
            if !options.contains(&"--pidfile") {
                theirs.1.retain(|line| line != "Removing the pid file.");
                ours.1.retain(|line| line != "Removing the pid file.");
            }
            assert_eq!(ours, theirs, "{what} with {options:?}, {cores} cores");
        }
    }
}

/// Writers count up while the node ends with a save: what they were told is in the file.
#[test]
fn nothing_acknowledged_is_missing_after_the_last_save() {
    for (cores, by_signal) in [(1, false), (2, false), (2, true), (2, false)] {
        let mut server = kvcore(cores, &["--save", "1000 100000", "--rdb-key-save-delay", "100"]);
        ok(&mut server.client(), "DEBUG POPULATE 2000");
        let told: Vec<HashMap<String, i64>> = std::thread::scope(|scope| {
            let mut writers = Vec::new();
            for writer in 0..6 {
                let mut client = server.client();
                writers.push(scope.spawn(move || {
                    let mut told = HashMap::new();
                    for round in 1.. {
                        let mut burst: Vec<Vec<String>> = Vec::new();
                        for key in 0..8 {
                            burst.push(vec!["SET".into(), format!("w{writer}:{key}"), round.to_string()]);
                        }
                        burst.push(vec![
                            "MSET".into(),
                            format!("m{writer}:a"),
                            round.to_string(),
                            format!("m{writer}:b"),
                            round.to_string(),
                        ]);
                        let bytes: Vec<u8> = burst.iter().flat_map(|args| harness::encode(args)).collect();
                        if client.try_send_raw(&bytes).is_err() {
                            return told;
                        }
                        for args in &burst {
                            let Ok(reply) = client.try_message() else { return told };
                            assert_eq!(reply, Value::ok());
                            told.extend(args[1..].chunks(2).map(|pair| (pair[0].clone(), round)));
                        }
                    }
                    unreachable!("the rounds do not end")
                }));
            }
            std::thread::sleep(Duration::from_millis(300));
            if by_signal {
                server.signal("TERM")
            } else {
                server.client().send_raw(b"SHUTDOWN SAVE\r\n")
            }
            writers.into_iter().map(|writer| writer.join().expect("a writer")).collect()
        });
        assert_eq!(server.wait_for_exit(), Some(0));
        let found = strings(&server.dir.path().join("dump.rdb"));
        for (key, round) in told.iter().flatten() {
            let saved: i64 = found.get(key).map_or(0, |text| text.parse().expect("a number"));
            assert!(saved >= *round, "{key}: told {round}, in the file {saved} ({cores} cores)");
        }
        assert!(told.iter().all(|told| told.len() == 10), "all have written");
    }
}

/// While the last save is written clients wait for data; if it is called off they go on.
#[test]
fn an_end_that_is_called_off() {
    for cores in [1, 2] {
        let mut server = kvcore(cores, &["--rdb-key-save-delay", "100000"]);
        let (mut client, mut ender, mut reader, mut writer) =
            (server.client(), server.client(), server.client(), server.client());
        assert_eq!(client.run("SHUTDOWN ABORT"), Value::Error("ERR No shutdown in progress.".into()));
        ok(&mut client, "DEBUG POPULATE 1000");
        for _twice in 0..2 {
            ender.send(&["SHUTDOWN", "SAVE", "FORCE"]);
            wait_until("the last save", || names(server.dir.path()).iter().any(|name| name.starts_with("temp-")));
            reader.send(&["GET", "key:1"]);
            writer.send(&["MSET", "a", "1", "b", "2", "c", "3"]);
            assert_eq!(writer.message_within(Duration::from_millis(200)), None);
            assert_eq!(reader.message_within(Duration::from_millis(1)), None);
            assert_eq!(client.run("PING"), Value::Simple("PONG".into()));
            ok(&mut client, "SHUTDOWN ABORT");
            assert_eq!(ender.reply(), Value::Error("ERR Errors trying to SHUTDOWN. Check logs.".into()));
            assert_eq!((writer.reply(), reader.reply()), (Value::ok(), Value::bulk("value:1")));
            assert!(server.log().contains("Shutdown manually aborted."));
            wait_until("the file to be removed", || names(server.dir.path()) == ["out.log"]);
        }
        ok(&mut client, "CONFIG SET rdb-key-save-delay 0");
        ok(&mut client, "SAVE");
        server.check_healthy();
    }
}

#[test]
fn flushall_ends_a_background_save() {
    let slow = ["--rdb-key-save-delay", "500000"];
    // Also where there is nothing to flush any more.
    let lines = [
        "DEBUG POPULATE 100",
        "BGSAVE",
        "!rdb_bgsave_in_progress",
        "FLUSHALL",
        "~",
        "!rdb_last_bgsave_status",
        "!rdb_changes_since_last_save",
        "!rdb_saves",
        "!current_save_keys_total",
        "SET a b",
        "BGSAVE",
        "MULTI",
        "FLUSHALL",
        "SET c d",
        "EXEC",
        "~",
        "!rdb_saves",
        "DBSIZE",
        "BGSAVE",
        "FLUSHDB",
        "!rdb_bgsave_in_progress",
        "FLUSHALL",
        "~",
        "!rdb_last_bgsave_status",
    ];
    alike(&slow, &lines);
    for cores in [1, 2] {
        let server = kvcore(cores, &slow);
        let mut client = server.client();
        ok(&mut client, "DEBUG POPULATE 1000");
        bgsave(&mut client);
        ok(&mut client, "FLUSHALL");
        let began = Instant::now();
        wait_for_bgsave(&mut client);
        assert!(began.elapsed() < Duration::from_secs(5), "it was slow to give up");
        wait_until("the log", || server.log().contains("# Background saving terminated by signal 10"));
        assert_eq!(names(server.dir.path()), ["out.log"], "neither a file nor half of one");
    }
}

/// With save points the file becomes empty too.
#[test]
fn flushall_saves_the_empty_data_set_where_there_are_save_points() {
    for (cores, in_multi) in [(1, false), (2, false), (1, true), (2, true)] {
        let server = kvcore(cores, &["--save", "10000 10000"]);
        let mut client = server.client();
        let file = server.dir.path().join("dump.rdb");
        ok(&mut client, "DEBUG POPULATE 1000");
        ok(&mut client, "SAVE");
        ok(&mut client, "CONFIG SET rdb-key-save-delay 500000");
        bgsave(&mut client);
        if in_multi {
            ["MULTI", "FLUSHALL", "EXEC"].iter().for_each(|line| drop(client.run(line)));
        } else {
            ok(&mut client, "FLUSHALL ASYNC");
        }
        let empty = content(&server);
        wait_until("the save of nothing", || server.log().matches("DB saved on disk").count() == 2);
        wait_for_bgsave(&mut client);
        check_file(&file, &empty);
        assert_eq!(field(&mut client, "rdb_changes_since_last_save"), "0");
        assert_eq!(field(&mut client, "rdb_last_bgsave_status"), "ok");
    }
}
