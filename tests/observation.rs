//! What a node of two cores tells of itself as one: the slow log, latency, and its end.

mod harness;

use harness::{Server, Value};
use std::time::{Duration, Instant};

/// Commands that ran on another core were logged without their client's address and name.
#[test]
fn slow_log_names_the_clients_of_all_commands() {
    let server = Server::kvcore(2, &["--slowlog-log-slower-than", "0"]);
    let mut clients = [server.client(), server.client()];
    for (number, client) in clients.iter_mut().enumerate() {
        client.run(&format!("CLIENT SETNAME client-{number}"));
    }
    clients[0].run("SLOWLOG RESET");
    for round in 0..10 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.run(&format!("SET key:{round} client-{number}"));
        }
    }
    let entries = clients[1].run("SLOWLOG GET -1").items();
    let mut last_id = i64::MAX;
    let mut sets = 0;
    for entry in entries {
        let fields = entry.items();
        assert!(fields[0].integer() < last_id, "newest first, and every id once");
        last_id = fields[0].integer();
        let args = fields[3].items();
        if args[0].text() == "SET" {
            sets += 1;
            assert_eq!(fields[5].text(), args[2].text());
            assert!(fields[4].text().starts_with("127.0.0.1:"));
        }
    }
    assert_eq!(sets, 20);
}

/// MSET over several shards is run by each of them with its own keys, and is one command all the same: in the counters, the slow log
/// and the events, for who watches a key, and in the database of its client.
#[test]
fn what_the_shards_run_apart_is_one_command() {
    let options = ["--slowlog-log-slower-than", "0", "--notify-keyspace-events", "KEA", "--enable-debug-command", "yes"];
    for cores in [2, 3] {
        let server = Server::kvcore(cores, &options);
        let (mut client, mut other, mut subscriber) = (server.client(), server.client(), server.client());
        client.run("SELECT 3");
        other.run("SELECT 3");
        client.run("DEBUG SET-ACTIVE-EXPIRE 0");
        let keys: Vec<String> = (0..8).map(|number| format!("key:{number}")).collect();
        client.run("SET key:2 old PX 1");
        client.run("RPUSH key:5 old");
        std::thread::sleep(Duration::from_millis(5));
        other.run("WATCH key:0 key:1 key:6");
        subscriber.run("PSUBSCRIBE __keyevent@3__:set");
        client.run("CONFIG RESETSTAT");
        client.run("SLOWLOG RESET");
        let pairs: Vec<String> = keys.iter().map(|key| format!("{key} new:{key}")).collect();
        let line = format!("MSET {} key:7 last", pairs.join(" "));
        assert_eq!(client.run(&line), Value::ok());
        assert!(client.run("MSET key:1 a key:2").is_error(), "a key without a value");

        let mut wanted: Vec<String> = keys.iter().map(|key| format!("new:{key}")).collect();
        wanted[7] = "last".to_owned();
        let held = client.run(&format!("MGET {}", keys.join(" "))).items();
        assert_eq!(held.iter().map(Value::text).collect::<Vec<_>>(), wanted);
        assert_eq!(client.run("PTTL key:2").integer(), -1);
        let mut announced: Vec<String> = (0..9).map(|_| subscriber.message().items()[3].text()).collect();
        announced.sort_unstable();
        announced.dedup();
        assert_eq!(announced, keys);
        other.run("MULTI");
        assert_eq!(other.run("EXEC"), Value::NullArray, "a watched key has changed");
        let counted = client.run("INFO commandstats").text();
        let counted = counted.lines().find(|line| line.starts_with("cmdstat_mset:")).expect("it was called").to_owned();
        assert!(counted.contains(":calls=2,") && counted.contains("failed_calls=1"), "{counted}");
        let entries = client.run("SLOWLOG GET -1").items();
        let logged: Vec<String> = entries
            .iter()
            .map(|entry| entry.items()[3].items().iter().map(Value::text).collect::<Vec<_>>().join(" "))
            .filter(|line| line.starts_with("MSET"))
            .collect();
        assert_eq!(logged, ["MSET key:1 a key:2", line.as_str()]);
    }
}

/// Redis stops as a whole, and says afterwards how long it took.
#[test]
fn debug_sleep_stops_all_cores_and_is_measured() {
    let server = Server::kvcore(2, &["--latency-monitor-threshold", "50", "--enable-debug-command", "yes"]);
    let (mut sleeper, mut other) = (server.client(), server.client());
    let began = Instant::now();
    sleeper.send(&["DEBUG", "SLEEP", "0.2"]);
    std::thread::sleep(Duration::from_millis(30));
    for key in 0..8 {
        other.run(&format!("GET key:{key}"));
    }
    let passed = began.elapsed();
    assert!(passed >= Duration::from_millis(195), "a core went on after {passed:?}");
    assert_eq!(sleeper.reply(), Value::ok());
    let slow = sleeper.run("SLOWLOG GET 1").items()[0].items();
    assert!(slow[2].integer() >= 200_000, "{slow:?}");
    let latest = sleeper.run("LATENCY LATEST").items()[0].items();
    assert_eq!(latest[0].text(), "command");
    assert!(latest[2].integer() >= 200);
}

#[test]
fn shutdown_ends_all_cores_without_a_reply() {
    let mut server = Server::kvcore(2, &[]);
    let mut clients = [server.client(), server.client()];
    clients[1].send(&["SHUTDOWN", "NOSAVE"]);
    assert_eq!(clients[1].read_until_closed(Duration::from_secs(5)), Ok(Vec::new()));
    assert_eq!(clients[0].read_until_closed(Duration::from_secs(5)), Ok(Vec::new()));
    assert_eq!(server.wait_for_exit(), Some(0));
}
