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
