//! The append-only directory that a kvcore writes, as redis-server 7.0.15 and kvcore itself load it: after generated commands on
//! any number of cores, through flushes and rewrites, after kill -9. And what may be lost in a crash: nothing that was
//! acknowledged under `always`, nothing torn under any policy.

mod generated;
mod harness;

use generated::{Check, Gen, Step, any, command};
use harness::following::keep_all;
use harness::{Client, Ends, Program, Random, Server, SmallDisk, Value, copied, encode, ok, seed, setting, wait_until};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn options<'a>(dir: &'a Path, policy: &'a str) -> Vec<&'a str> {
    let dir = dir.to_str().expect("a path in UTF-8");
    vec!["--appendonly", "yes", "--appendfsync", policy, "--enable-debug-command", "yes", "--dir", dir]
}

/// What both programs hold after loading a copy of the server's directory is what the server holds.
fn check_loads(server: &Server, policy: &str) {
    let expected = server.digest();
    if policy != "always" {
        // What is on its way to the files gets there.
        std::thread::sleep(Duration::from_millis(100));
    }
    let copy = copied(server.dir.path());
    let redis = Server::redis(&options(copy.path(), policy));
    assert_eq!(redis.digest(), expected, "in redis-server; the files are those of\n{}", server.log());
    drop(redis);
    for cores in [1, 3] {
        let copy = copied(server.dir.path());
        let again = Server::kvcore(cores, &options(copy.path(), policy));
        assert_eq!(again.digest(), expected, "at --cores {cores}:\n{}", again.log());
    }
}

fn generated_commands_survive(cores: usize, policy: &str) {
    let seed = seed();
    let mut g = Gen::new(seed);
    g.quiet = true;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = Server::kvcore(cores, &["--appendonly", "yes", "--appendfsync", policy, "--enable-debug-command", "yes"]);
    drop(dir);
    let mut client = server.client();
    for round in 0..4 {
        for _ in 0..setting("KVCORE_STEPS", 400) {
            run_some(&mut g, &mut client);
        }
        if round % 2 == 1 {
            assert!(!client.run("BGREWRITEAOF").is_error());
            for _ in 0..40 {
                run_some(&mut g, &mut client);
            }
            wait_until("the rewrite ends", || {
                server.client().run("INFO persistence").text().contains("aof_rewrite_in_progress:0\r\n")
            });
            assert!(client.run("INFO persistence").text().contains("aof_last_bgrewrite_status:ok\r\n"), "{}", server.log());
        }
        keep_all(&server);
        check_loads(&server, policy);
    }
}

/// A command, or a few in a transaction.
fn run_some(g: &mut Gen, client: &mut Client) {
    let step = any(g);
    match g.below(60) {
        0 => drop(client.run(g.one_of(&["FLUSHALL", "FLUSHDB", "SWAPDB 0 1"]))),
        1..=8 => {
            client.run("MULTI");
            let others: Vec<Step> = (0..g.below(5)).map(|_| any(g)).collect();
            for step in std::iter::once(step).chain(others).filter(|step| step.is_plain() && !step.grows_unseen()) {
                client.command(&step.args);
            }
            if g.below(20) == 0 {
                client.run("FLUSHDB");
            }
            client.run("EXEC");
            client.run("SELECT 0");
        }
        _ if matches!(step.check, Check::Scan { .. } | Check::Transfer) || step.grows_unseen() => {}
        _ => drop(client.command(&step.args)),
    }
}

#[test]
fn generated_commands_survive_at_one_core() {
    generated_commands_survive(1, "everysec");
}

#[test]
fn generated_commands_survive_at_two_cores() {
    generated_commands_survive(2, "always");
}

#[test]
fn generated_commands_survive_at_three_cores() {
    generated_commands_survive(3, "no");
}

#[test]
fn appending_can_be_switched_on_and_off() {
    let server = Server::kvcore(2, &["--enable-debug-command", "yes"]);
    let mut client = server.client();
    (0..500).for_each(|number| drop(client.run(&format!("SET before:{number} {number}"))));
    assert_eq!(client.run("CONFIG SET appendonly yes").text(), "OK");
    let manifest = server.dir.path().join("appendonlydir/appendonly.aof.manifest");
    wait_until("the first base is whole", || manifest.exists());
    wait_until("and says so", || client.run("INFO persistence").text().contains("aof_rewrite_in_progress:0\r\n"));
    client.run("MSET a 1 b 2 c 3 d 4");
    check_loads(&server, "everysec");
    assert_eq!(client.run("CONFIG SET appendonly no").text(), "OK");
    wait_until("it is off", || client.run("INFO persistence").text().contains("aof_enabled:0\r\n"));
    // The switch is an operation of its own a moment later.
    std::thread::sleep(Duration::from_millis(300));
    let before = bytes_in(&server.dir.path().join("appendonlydir"));
    client.run("MSET a 5 b 6 c 7 d 8");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(bytes_in(&server.dir.path().join("appendonlydir")), before);
    client.run("CONFIG SET appendonly yes");
    wait_until("a new base", || {
        std::fs::read_to_string(&manifest).is_ok_and(|text| text.contains("appendonly.aof.2.base.rdb seq 2 type b"))
    });
    wait_until("and says so", || client.run("INFO persistence").text().contains("aof_rewrite_in_progress:0\r\n"));
    client.run("INCR n");
    check_loads(&server, "everysec");
}

fn bytes_in(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory).expect("a directory");
    files.map(|file| file.expect("an entry").metadata().expect("a file").len()).sum()
}

/// The next start would find a file without its beginning.
#[test]
fn nobody_ends_while_the_first_file_is_being_written() {
    for program in [Program::Kvcore { cores: 2 }, Program::Redis] {
        let mut server = Server::start(program, &["--enable-debug-command", "yes"]);
        let mut client = server.client();
        (0..10).for_each(|key| ok(&mut client, &format!("SET key:{key} v")));
        ok(&mut client, "CONFIG SET rdb-key-save-delay 1000000");
        ok(&mut client, "CONFIG SET appendonly yes");
        wait_until("it is being written", || client.info("persistence", "aof_rewrite_in_progress") == "1");
        for how in ["SHUTDOWN", "SHUTDOWN NOSAVE"] {
            let reply = server.client().run(how);
            assert_eq!(reply, Value::Error("ERR Errors trying to SHUTDOWN. Check logs.".into()), "{program:?}");
        }
        assert!(server.log().contains("Writing initial AOF, can't exit"), "{}", server.log());
        client.send(&["SHUTDOWN", "NOSAVE", "FORCE"]);
        assert_eq!(server.wait_for_exit(), Some(0), "{program:?}");
    }
}

#[test]
fn a_clean_end_loses_nothing_and_the_next_run_goes_on_in_the_same_segments() {
    let server = Server::kvcore(2, &["--appendonly", "yes", "--appendfsync", "no", "--enable-debug-command", "yes"]);
    let mut client = server.client();
    let requests: Vec<_> = (0..5000).map(|number| command!["SET", format!("key:{number}"), "x".repeat(20)]).collect();
    client.pipeline(&requests);
    let expected = server.digest();
    client.send(&["SHUTDOWN"]);
    wait_until("it has ended", || Client::connect(server.port).is_err());
    let path = server.dir.path().to_owned();
    let names = |path: &PathBuf| std::fs::read_to_string(path.join("appendonlydir/appendonly.aof.manifest")).expect("a manifest");
    let before = names(&path);
    let again = Server::kvcore(2, &options(&path, "everysec"));
    assert_eq!(again.digest(), expected);
    again.client().run("SET more 1");
    assert_eq!(names(&path), before);
    let mut client = again.client();
    wait_until("it is written", || client.run("INFO persistence").text().contains("aof_buffer_length:0\r\n"));
    std::thread::sleep(Duration::from_millis(50));
    let copy = copied(&path);
    let redis = Server::redis(&options(copy.path(), "no"));
    assert_eq!(redis.digest(), again.digest());
}

/// A directory's incremental file that holds these bytes, without them.
fn remove_from_files(directory: &Path, text: &[u8]) {
    for entry in std::fs::read_dir(directory).expect("the directory exists") {
        let path = entry.expect("an entry").path();
        let bytes = std::fs::read(&path).expect("a file");
        let found = bytes.windows(text.len()).rposition(|window| window == text);
        if let Some(at) = found.filter(|_| path.to_string_lossy().ends_with(".incr.aof")) {
            std::fs::write(&path, [&bytes[..at], &bytes[at + text.len()..]].concat()).expect("written");
            return;
        }
    }
    panic!("no file holds {}", text.escape_ascii());
}

#[test]
fn a_command_given_by_mistake_can_be_edited_out() {
    for cores in [1, 2, 3] {
        let server = Server::kvcore(cores, &["--appendonly", "yes"]);
        let mut client = server.client();
        let (path, files) = (server.dir.path().to_owned(), server.dir.path().join("appendonlydir"));
        client.command(&["SET", "test", "Nice to meet you"]);
        (0..20).for_each(|number| drop(client.run(&format!("SET key:{number} {number}"))));
        let end = |client: &mut Client, port: u16| {
            client.send(&["SHUTDOWN", "NOSAVE"]);
            wait_until("it has ended", || Client::connect(port).is_err());
        };
        client.run("DEL test");
        end(&mut client, server.port);
        remove_from_files(&files, b"*2\r\n$3\r\nDEL\r\n$4\r\ntest\r\n");
        let again = Server::kvcore(cores, &options(&path, "everysec"));
        let mut client = again.client();
        assert_eq!(client.run("GET test").text(), "Nice to meet you", "{cores} cores");
        client.run("FLUSHALL");
        assert_eq!(client.run("DBSIZE"), Value::Integer(0));
        end(&mut client, again.port);
        remove_from_files(&files, b"*1\r\n$8\r\nFLUSHALL\r\n");
        let again = Server::kvcore(cores, &options(&path, "everysec"));
        assert_eq!(again.client().run("DBSIZE"), Value::Integer(21), "{cores} cores");
    }
}

#[test]
fn debug_loadaof_loads_what_was_done_so_far_and_logging_goes_on() {
    for cores in [1, 2] {
        let server = Server::kvcore(cores, &["--appendonly", "yes", "--enable-debug-command", "yes"]);
        let mut client = server.client();
        for round in 0..5 {
            client.run(&format!("MSET a {round} b {round} c {round} d {round}"));
            client.run("INCR n");
            client.run("RPUSH list x y");
            let before = server.digest();
            assert_eq!(client.run("DEBUG LOADAOF"), Value::ok(), "{}", server.log());
            assert_eq!(server.digest(), before, "{cores} cores, round {round}");
        }
        assert_eq!(client.run("GET n").text(), "5");
        check_loads(&server, "everysec");
    }
}

// ---- disks that refuse ----

/// Writes until the disk is full, frees space, and starts again: writes are refused meanwhile and reads are not, the node goes on by
/// itself, and whatever was acknowledged is there.
fn a_full_disk_refuses_writes_only(cores: usize, policy: &str) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let disk = SmallDisk::new(folder.path(), 4096);
    let filler = disk.path.join("filler");
    std::fs::write(&filler, vec![1; 2 << 20]).expect("space");
    let server = Server::kvcore(cores, &options(&disk.path, policy));
    let (mut writer, mut reader) = (server.client(), server.client());
    let value = "x".repeat(10_000);
    let mut acknowledged = Vec::new();
    let refusal = loop {
        let key = format!("key:{}", acknowledged.len());
        assert!(acknowledged.len() < 1000, "the disk never gets full");
        writer.send(&["SET", &key, &value]);
        // With `always` the write that meets the end of the disk is answered once there is space.
        match writer.message_within(Duration::from_millis(1500)) {
            Some(reply) if reply.is_error() => break Some(reply),
            Some(_) => acknowledged.push(key),
            None => break None,
        }
    };
    assert_eq!(refusal.is_none(), policy == "always");
    wait_until("writes are refused", || {
        let reply = reader.run("SET refused 1");
        reply.is_error() && reply.text() == "MISCONF Errors writing to the AOF file: No space left on device"
    });
    assert!(reader.run("PING").is_error());
    assert_eq!(reader.run("GET key:0").text(), value);
    assert!(reader.run("INFO persistence").text().contains("aof_last_write_status:err\r\n"));
    std::fs::remove_file(&filler).expect("the filler");
    if refusal.is_none() {
        assert_eq!(writer.reply(), Value::ok(), "what has waited for the disk is answered");
        acknowledged.push(format!("key:{}", acknowledged.len()));
    }
    wait_until("writes are taken again", || !reader.run("SET refused 2").is_error());
    assert!(reader.run("INFO persistence").text().contains("aof_last_write_status:ok\r\n"));
    assert!(server.log().contains("Redis can write again"), "{}", server.log());
    for key in acknowledged.len()..acknowledged.len() + 20 {
        assert_eq!(writer.run(&format!("SET key:{key} {value}")), Value::ok());
        acknowledged.push(format!("key:{key}"));
    }
    std::thread::sleep(Duration::from_millis(100));
    drop(server);
    let again = Server::kvcore(cores, &options(&disk.path, policy));
    let mut client = again.client();
    assert!(acknowledged.iter().all(|key| client.run(&format!("GET {key}")) == Value::Bulk(value.clone().into())));
}

#[test]
fn a_full_disk_refuses_writes_only_with_always() {
    a_full_disk_refuses_writes_only(1, "always");
    a_full_disk_refuses_writes_only(2, "always");
}

#[test]
fn a_full_disk_refuses_writes_only_with_everysec() {
    a_full_disk_refuses_writes_only(1, "everysec");
    a_full_disk_refuses_writes_only(2, "everysec");
}

/// Files that are open stay writable; new ones cannot be made until there is permission again.
#[test]
fn a_directory_without_permission_keeps_what_there_is() {
    let permit = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("permissions");
    for cores in [1, 2] {
        let options = ["--appendonly", "yes", "--appendfsync", "always", "--enable-debug-command", "yes"];
        let server = Server::without_privileges(Program::Kvcore { cores }, &options);
        let (mut client, files) = (server.client(), server.dir.path().join("appendonlydir"));
        client.run("MSET a 1 b 2 c 3 d 4");
        permit(&files, 0o500);
        let rewritten = |client: &mut Client| {
            assert!(!client.run("BGREWRITEAOF").is_error());
            wait_until("the rewrite ends", || client.run("INFO persistence").text().contains("aof_rewrite_in_progress:0\r\n"));
            client.run("INFO persistence").text().contains("aof_last_bgrewrite_status:ok\r\n")
        };
        assert!(!rewritten(&mut client), "{}", server.log());
        assert_eq!(client.run("INCR a"), Value::Integer(2));
        let flushed = client.run("FLUSHALL");
        // With one segment it is a command like others; with several it begins new ones.
        let refusal = "MISCONF Errors writing to the AOF file: ";
        assert!(if cores == 1 { flushed == Value::ok() } else { flushed.text().starts_with(refusal) }, "{flushed}");
        assert_eq!(client.run("SET e 5"), Value::ok());
        check_loads(&server, "always");
        permit(&files, 0o700);
        assert!(rewritten(&mut client), "{}", server.log());
        assert_eq!(client.run("FLUSHALL"), Value::ok());
        assert_eq!(client.run("SET f 6"), Value::ok());
        check_loads(&server, "always");
    }
}

// ---- crashes ----

/// Keys that one writer always sets together, spread over all shards.
const TOGETHER: usize = 4;

/// What a writer knows: the last value that it sent, and the last that was acknowledged.
#[derive(Default)]
struct Progress {
    sent: AtomicU64,
    acknowledged: AtomicU64,
    /// As of a second ago and more.
    old: AtomicU64,
}

/// Writes increasing numbers until the connection ends.
fn write(port: u16, writer: usize, start: u64, progress: &Progress, ended: &AtomicBool) {
    let Ok(mut client) = Client::connect(port) else { return };
    let mut value = start;
    let (mut history, mut random) = (Vec::<(Instant, u64)>::new(), Random::new(writer as u64 + start));
    while !ended.load(Ordering::Relaxed) {
        value += 1;
        progress.sent.store(value, Ordering::SeqCst);
        let key = |at: usize| format!("w:{writer}:{at}");
        let together: Vec<String> = (0..TOGETHER).map(key).collect();
        let requests: Vec<Vec<Vec<u8>>> = match random.below(4) {
            0 | 1 => {
                let mut mset = command!["MSET"];
                together.iter().for_each(|key| mset.extend(command![key.as_str(), value.to_string()]));
                vec![mset]
            }
            2 => {
                let sets = together.iter().map(|key| command!["SET", key.as_str(), value.to_string()]);
                [command!["MULTI"]].into_iter().chain(sets).chain([command!["EXEC"]]).collect()
            }
            _ => {
                // The same by way of other keys: a value is set aside, and moved into place as one.
                let moves = together.iter().map(|key| command!["COPY", format!("t:{writer}"), key.as_str(), "REPLACE"]);
                let set = command!["SET", format!("t:{writer}"), value.to_string()];
                [command!["MULTI"], set].into_iter().chain(moves).chain([command!["EXEC"]]).collect()
            }
        };
        let bytes: Vec<u8> = requests.iter().flat_map(|args| encode(args)).collect();
        if client.try_send_raw(&bytes).is_err() {
            return;
        }
        for _ in &requests {
            match client.try_message() {
                Ok(reply) => assert!(!reply.is_error(), "{reply}"),
                Err(_) => return,
            }
        }
        progress.acknowledged.store(value, Ordering::SeqCst);
        history.push((Instant::now(), value));
        let second = Duration::from_millis(1000);
        let aged = history.iter().take_while(|(at, _)| at.elapsed() > second).count();
        if aged > 0 {
            progress.old.store(history[aged - 1].1, Ordering::SeqCst);
            history.drain(..aged);
        }
    }
}

/// Rounds of writing, kill -9 and starting again, with other numbers of cores.
fn crash(policy: &'static str, rounds: u64) {
    const WRITERS: usize = 6;
    const LOG_BYTES_MAX: u64 = 8 << 20;
    let seed = seed();
    let mut random = Random::new(seed ^ policy.len() as u64);
    let dir = tempfile::Builder::new().prefix("kvcore-test-").tempdir().expect("a temporary directory");
    let mut crash_options = options(dir.path(), policy);
    crash_options.extend(["--auto-aof-rewrite-min-size", "2mb"]);
    // The last value sent of each writer, and the one that the last start has found.
    let (mut last, mut held) = ([0; WRITERS], [0; WRITERS]);
    for round in 0..setting("KVCORE_ROUNDS", rounds) {
        let cores = 1 + random.below(4);
        let server = Server::kvcore(cores, &crash_options);
        let progress: Vec<Progress> = (0..WRITERS).map(|_| Progress::default()).collect();
        let (ended, flushes) = (AtomicBool::new(false), random.chance(10));
        let (port, pid) = (server.port, server.process_id());
        std::thread::scope(|scope| {
            let _ends = Ends(&ended);
            for (writer, progress) in progress.iter().enumerate() {
                let (start, ended) = (last[writer], &ended);
                scope.spawn(move || write(port, writer, start, progress, ended));
            }
            let pause = if random.chance(20) { 1100 + random.below(400) } else { 20 + random.below(250) };
            std::thread::sleep(Duration::from_millis(pause as u64));
            if random.chance(20) {
                server.client().run("BGREWRITEAOF");
                std::thread::sleep(Duration::from_millis(random.below(30) as u64));
            }
            if flushes {
                server.client().run("FLUSHDB");
                ended.store(true, Ordering::SeqCst);
            }
            // The process is this test's own.
            std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill");
        });
        drop(server);
        let again = Server::kvcore(1 + random.below(4), &crash_options);
        let mut client = again.client();
        for (writer, progress) in progress.iter().enumerate() {
            let value = together(&mut client, writer, round);
            let (sent, acknowledged) = (progress.sent.load(Ordering::SeqCst), progress.acknowledged.load(Ordering::SeqCst));
            let floor = if policy == "always" { acknowledged } else { progress.old.load(Ordering::SeqCst) };
            let floor = if flushes { 0 } else { floor.max(held[writer]) };
            assert!(
                floor <= value && value <= sent.max(held[writer]),
                "round {round}, writer {writer}: {value} is there, {acknowledged} was acknowledged (at least {floor} is due), {sent} sent"
            );
            (held[writer], last[writer]) = (value, last[writer].max(sent));
        }
        // Starts of a minute would prove no more than starts of a moment.
        if bytes_in(&dir.path().join("appendonlydir")) > LOG_BYTES_MAX {
            client.run("BGREWRITEAOF");
            wait_until("the rewrite ends", || client.run("INFO persistence").text().contains("aof_rewrite_in_progress:0\r\n"));
        }
    }
}

/// The value of the keys that a writer sets together; 0 if there are none.
fn together(client: &mut Client, writer: usize, round: u64) -> u64 {
    let mut mget = command!["MGET"];
    mget.extend((0..TOGETHER).map(|at| format!("w:{writer}:{at}").into_bytes()));
    let Value::Array(values) = client.command(&mget) else { panic!("MGET answers an array") };
    let number = |value: &Value| if *value == Value::Null { 0 } else { value.text().parse().expect("a number") };
    let values: Vec<u64> = values.iter().map(number).collect();
    assert!(values.iter().all(|value| *value == values[0]), "round {round}: torn: writer {writer} left {values:?}");
    values[0]
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_torn_with_always() {
    crash("always", 50);
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_torn_with_always_again() {
    crash("always", 50);
}

#[test]
fn nothing_older_than_a_second_is_lost_and_nothing_torn_with_everysec() {
    crash("everysec", 50);
}

#[test]
fn nothing_older_than_a_second_is_lost_and_nothing_torn_with_everysec_again() {
    crash("everysec", 50);
}
