//! Real clients: redis-cli, redis-benchmark and redis-py, as their users call them.
//!
//! redis-py comes from the virtual environment that `tests/run` prepares.

mod harness;

use harness::{Program, Server};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn redis_cli(server: &Server, args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new("redis-cli")
        .args(["-p", &server.port.to_string()])
        .args(args)
        .env("LC_ALL", "C")
        .current_dir(server.dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("redis-cli is installed");
    let mut stdin = child.stdin.take().expect("a pipe");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // It may have ended without reading its input.
            let _ = stdin.write_all(input);
        });
        child.wait_with_output().expect("redis-cli's output")
    })
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

const FILL: &[u8] = b"SET s hello\nSET n 42\nRPUSH l a b c\nHSET h f1 v1 f2 v2\nSADD set x\nZADD z 1 one 2.5 two\nPFADD hll a b\nSETEX t 1000 v\n";

/// Every invocation must print the same as with redis-server.
#[test]
fn redis_cli_prints_the_same() {
    let invocations: &[(&[&str], &[u8])] = &[
        (&["PING"], b""),
        (&["SET", "k", "v"], b""),
        (&["GET", "nothing"], b""),
        (&["NOSUCH", "a"], b""),
        (&["-n", "5", "SET", "k", "v"], b""),
        (&["-n", "99", "GET", "k"], b""),
        (&["-3", "HGETALL", "h"], b""),
        (&["-3", "ZRANGE", "z", "0", "-1", "WITHSCORES"], b""),
        (&["-3", "SMEMBERS", "set"], b""),
        (&["-2", "HGETALL", "h"], b""),
        (&["--no-raw", "LRANGE", "l", "0", "-1"], b""),
        (&["--csv", "LRANGE", "l", "0", "-1"], b""),
        (&["--json", "HGETALL", "h"], b""),
        (&["-r", "3", "INCR", "counter"], b""),
        (&["-x", "SET", "from-stdin"], b"the value"),
        (&["-X", "here", "SET", "tag", "here"], b"the value"),
        (&["--no-raw"], b"SET a 1\nINCR a\nMULTI\nINCR a\nGET a\nEXEC\nLPUSH a 1\nSELECT 3\nDBSIZE\nHELLO 3\n"),
        (&["--pipe"], b"SET p1 1\r\nSET p2 2\r\nINCR p1\r\n"),
        (&["--pipe"], b"*3\r\n$3\r\nSET\r\n$2\r\np3\r\n$1\r\n3\r\n*2\r\n$5\r\nLPUSH\r\n$1\r\nx\r\n"),
        (&["-a", "secret", "PING"], b""),
        (&["DEBUG", "SLEEP", "0"], b""),
        (&["REPLCONF", "rdb-filter-only", "functions keys"], b""),
        (&["REPLCONF", "rdb-filter-only", "\"functions"], b""),
        (&["--no-raw", "OBJECT", "HELP"], b""),
        (&["--no-raw", "CLIENT", "NO-EVICT", "on"], b""),
    ];
    let (redis, kvcore) = (Server::redis(&[]), Server::kvcore(2, &[]));
    for server in [&redis, &kvcore] {
        redis_cli(server, &[], FILL);
    }
    let mut differences = Vec::new();
    for (args, input) in invocations {
        let outputs = [&redis, &kvcore].map(|server| {
            let output = redis_cli(server, args, input);
            (lines_that_compare(&text(&output)), output.status.code())
        });
        if outputs[0] != outputs[1] {
            differences.push(format!("redis-cli {}\n  redis  {:?}\n  kvcore {:?}", args.join(" "), outputs[0], outputs[1]));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// What of the data set a client asks for as a replica is what it gets, and the next gets everything.
#[test]
fn redis_cli_fetches_data_sets() {
    let files = [Program::Redis, Program::Kvcore { cores: 1 }, Program::Kvcore { cores: 2 }].map(|program| {
        let server = Server::following(program, &[]);
        redis_cli(&server, &[], FILL);
        ["--functions-rdb", "--rdb", "--functions-rdb"].map(|option| {
            let path = server.dir.path().join("fetched.rdb");
            let output = redis_cli(&server, &[option, "fetched.rdb"], b"");
            assert!(output.status.success(), "{program:?}: {}", text(&output));
            let check = Command::new("redis-check-rdb").arg(&path).output().expect("redis-check-rdb is installed");
            let keys = text(&check).lines().find(|line| line.ends_with(" keys read")).map(str::to_owned);
            (keys, std::fs::metadata(&path).expect("the file").len())
        })
    });
    for file in &files {
        let keys = file.each_ref().map(|(keys, _)| keys.as_deref().expect("a number of keys"));
        assert_eq!(keys, ["[info] 0 keys read", "[info] 8 keys read", "[info] 0 keys read"]);
        assert_eq!(file[0].1, files[0][0].1, "there is nothing in it but what it says of itself");
    }
}

/// The output without what differs by nature (connection ids).
fn lines_that_compare(text: &str) -> String {
    let mut out = String::new();
    let mut after_id = false;
    for line in text.lines() {
        if !after_id {
            out.push_str(line);
            out.push('\n');
        }
        after_id = line.contains("\"id\"");
        if after_id && line.contains("(integer)") {
            out.truncate(out.len() - line.len() - 1);
            after_id = false;
        }
    }
    out
}

#[test]
fn redis_cli_walks_the_keyspace() {
    for cores in [1, 2] {
        let server = Server::kvcore(cores, &[]);
        let many: Vec<u8> = (0..5000).flat_map(|index| format!("SET key:{index} {index}\r\n").into_bytes()).collect();
        let piped = text(&redis_cli(&server, &["--pipe"], &many));
        assert!(piped.contains("errors: 0, replies: 5000"), "{piped}");
        redis_cli(&server, &[], FILL);
        let scanned = text(&redis_cli(&server, &["--scan"], b""));
        let distinct: std::collections::BTreeSet<_> = scanned.lines().collect();
        assert_eq!((distinct.len(), scanned.lines().count()), (5008, 5008), "--scan lists every key once");
        let some = text(&redis_cli(&server, &["--scan", "--pattern", "key:12??"], b""));
        assert_eq!(some.lines().count(), 100);
        for option in ["--bigkeys", "--memkeys"] {
            let output = redis_cli(&server, &[option], b"");
            let report = text(&output);
            assert!(output.status.success() && report.contains("Sampled 5008 keys in the keyspace!"), "{option}: {report}");
        }
        redis_cli(&server, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"], b"");
        let hot = redis_cli(&server, &["--hotkeys"], b"");
        assert!(hot.status.success(), "--hotkeys: {}", text(&hot));
    }
}

#[test]
fn redis_benchmark_runs_its_default_tests() {
    for (cores, extra) in
        [(1, &["-P", "16"][..]), (2, &["-P", "16"]), (2, &["-P", "1", "--threads", "2"]), (2, &["-P", "16", "-3"])]
    {
        let mut server = Server::kvcore(cores, &[]);
        let output = Command::new("redis-benchmark")
            .args(["-p", &server.port.to_string(), "-n", "2000", "-c", "20", "-r", "1000", "--csv"])
            .args(extra)
            .output()
            .expect("redis-benchmark is installed");
        let report = text(&output);
        assert!(output.status.success() && !report.contains("rror"), "--cores {cores} {extra:?}: {report}");
        assert!(report.lines().filter(|line| line.starts_with('"')).count() >= 20, "--cores {cores} {extra:?}: {report}");
        server.check_healthy();
    }
}

fn python(server: &Server, script: &str, password: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let interpreter = root.join("target/python/bin/python");
    assert!(interpreter.exists(), "there is no {}: tests/run (or tests/python/prepare) makes it", interpreter.display());
    let output = Command::new(interpreter)
        .arg(root.join("tests/python").join(script))
        .args([&server.port.to_string(), password])
        .output()
        .expect("the interpreter starts");
    assert!(output.status.success(), "{script} with --cores of {:?}:\n{}", server.program, text(&output));
}

#[test]
fn redis_py_speaks_resp2_and_resp3() {
    for cores in [1, 2] {
        let mut server = Server::kvcore(cores, &[]);
        python(&server, "protocols.py", "");
        server.check_healthy();
    }
}

/// Scenario I5: a forwarded port given as a string, a password, database 2.
#[test]
fn redis_py_as_the_scenario_shows_it() {
    let mut server = Server::kvcore(2, &["--requirepass", "redis123"]);
    python(&server, "forwarded_port.py", "redis123");
    server.check_healthy();
}
