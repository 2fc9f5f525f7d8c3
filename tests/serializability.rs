//! Work that spans shards is strictly serializable: checked on what concurrent clients saw.
//!
//! - transfers between accounts on different shards: no read of all accounts ever sees a wrong sum
//! - counters under WATCH: as many increments as successful EXECs
//! - short rounds of MSET, MGET, RENAME, COPY, SINTERSTORE, MULTI …: a search for one order of all commands of a round that explains
//!   every reply and respects real time (`serializability/rounds.rs`)
//! - long histories of appends and reads in MULTI: a graph of who saw whom must have no cycle (`serializability/appends.rs`)
//! - elements that clients in BLMOVE wait for: each arrives once, whoever locks its destination
//! - everything at once, keys and whole keyspace: all connections go on making progress
//!
//! `KVCORE_SECONDS` is the duration of each, `KVCORE_SEED` the seed.

#[path = "serializability/appends.rs"]
mod appends;
mod harness;
#[path = "serializability/rounds.rs"]
mod rounds;

use harness::{Client, PATIENCE, Random, Server, Value, encode, seed, setting};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SECONDS: u64 = 8;

fn duration() -> Duration {
    Duration::from_secs(setting("KVCORE_SECONDS", SECONDS))
}

const ACCOUNTS: usize = 12;
const START_BALANCE: i64 = 1000;

fn account(index: usize) -> String {
    format!("account:{index}")
}

/// What one client does in the bank, again and again.
#[derive(Clone, Copy)]
enum Role {
    /// WATCH, read, MULTI, SET both, EXEC.
    WatchedTransfer,
    /// MULTI, DECRBY, INCRBY, EXEC.
    BlindTransfer,
    /// MGET of all.
    Mget,
    /// GET of each in MULTI.
    MultiGet,
}

const ROLES: &[Role] = &[
    Role::WatchedTransfer,
    Role::WatchedTransfer,
    Role::BlindTransfer,
    Role::BlindTransfer,
    Role::Mget,
    Role::MultiGet,
    Role::Mget,
];

fn numbers(reply: &Value) -> Vec<i64> {
    reply.items().iter().map(|item| item.text().parse().expect("a balance")).collect()
}

fn bank_step(role: Role, client: &mut Client, random: &mut Random) {
    let (from, to) = (random.below(ACCOUNTS), random.below(ACCOUNTS));
    let amount = random.between(1, 50);
    let all: Vec<String> = (0..ACCOUNTS).map(account).collect();
    match role {
        Role::WatchedTransfer if from != to => {
            client.command(&["WATCH", &account(from), &account(to)]);
            let balances =
                [from, to].map(|index| client.command(&["GET", &account(index)]).text().parse::<i64>().expect("a balance"));
            client.run("MULTI");
            client.command(&["SET", &account(from), &(balances[0] - amount).to_string()]);
            client.command(&["SET", &account(to), &(balances[1] + amount).to_string()]);
            client.run("EXEC");
        }
        Role::BlindTransfer => {
            let requests = [
                encode(&["MULTI"]),
                encode(&["DECRBY", &account(from), &amount.to_string()]),
                encode(&["INCRBY", &account(to), &amount.to_string()]),
                encode(&["EXEC"]),
            ];
            client.send_raw(&requests.concat());
            let replies: Vec<Value> = requests.iter().map(|_| client.reply()).collect();
            assert_eq!(replies[3].items().len(), 2, "EXEC answered {}", replies[3]);
        }
        Role::Mget => {
            let mut args = vec!["MGET".to_string()];
            args.extend(all);
            let balances = numbers(&client.command(&args));
            assert_eq!(balances.iter().sum::<i64>(), ACCOUNTS as i64 * START_BALANCE, "MGET saw {balances:?}");
        }
        Role::MultiGet => {
            client.run("MULTI");
            for key in &all {
                client.command(&["GET", key]);
            }
            let balances = numbers(&client.run("EXEC"));
            assert_eq!(balances.iter().sum::<i64>(), ACCOUNTS as i64 * START_BALANCE, "MULTI of GETs saw {balances:?}");
        }
        Role::WatchedTransfer => {}
    }
}

fn bank(cores: usize) {
    let mut server = Server::kvcore(cores, &[]);
    let mut control = server.client();
    for index in 0..ACCOUNTS {
        control.command(&["SET", &account(index), &START_BALANCE.to_string()]);
    }
    let (end, seed, steps) = (Instant::now() + duration(), seed(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for (index, role) in ROLES.iter().enumerate() {
            let (mut client, steps) = (server.client(), &steps);
            scope.spawn(move || {
                let mut random = Random::new(seed + index as u64);
                while Instant::now() < end {
                    bank_step(*role, &mut client, &mut random);
                    steps.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let mut random = Random::new(seed);
    bank_step(Role::Mget, &mut control, &mut random);
    println!("--cores {cores}: {} steps", steps.load(Ordering::Relaxed));
    server.check_healthy();
}

/// Increments of a counter by WATCH, GET, MULTI, SET, EXEC, with a second counter on another shard in the same block.
fn watched_counter(cores: usize) {
    const CLIENTS: usize = 6;
    let mut server = Server::kvcore(cores, &[]);
    let mut control = server.client();
    control.run("MSET counter 0 shadow 0");
    let end = Instant::now() + duration();
    let (successes, conflicts) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for index in 0..CLIENTS {
            let (mut client, successes, conflicts) = (server.client(), &successes, &conflicts);
            scope.spawn(move || {
                let lone = index % 2 == 0;
                while Instant::now() < end {
                    if lone {
                        client.run("WATCH counter");
                    } else {
                        client.run("WATCH shadow counter");
                    }
                    let value: i64 = client.run("GET counter").text().parse().expect("a number");
                    client.run("MULTI");
                    client.command(&["SET", "counter", &(value + 1).to_string()]);
                    client.run("INCR shadow");
                    let reply = client.run("EXEC");
                    let count = if reply.is_null() { conflicts } else { successes };
                    assert!(!reply.is_error(), "EXEC answered {reply}");
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let (successes, conflicts) = (successes.load(Ordering::Relaxed), conflicts.load(Ordering::Relaxed));
    let ended = control.run("MGET counter shadow");
    let expected = Value::bulk(successes.to_string());
    assert_eq!(ended, Value::Array(vec![expected.clone(), expected]), "{successes} successful EXECs, {conflicts} conflicts");
    assert!(conflicts > 0, "nothing was put to the test");
    server.check_healthy();
}

/// Clients wait for elements to move, within a shard and to another one, while operations over several shards lock where these go:
/// each element arrives once, and who was told of it is who has moved it.
fn elements_on_the_move(cores: usize) {
    const DESTINATIONS: [&str; 3] = ["{a}one", "{a}two", "{b}other"];
    let mut server = Server::kvcore(cores, &[]);
    let end = Instant::now() + duration();
    let (pushed, moved) = (AtomicU64::new(0), DESTINATIONS.map(|_| AtomicU64::new(0)));
    std::thread::scope(|scope| {
        for mover in 0..2 * DESTINATIONS.len() {
            let (mut client, to) = (server.client(), mover % DESTINATIONS.len());
            let moved = &moved[to];
            scope.spawn(move || {
                while Instant::now() < end {
                    let reply = client.command(&["BLMOVE", "{a}from", DESTINATIONS[to], "LEFT", "RIGHT", "0.05"]);
                    moved.fetch_add(u64::from(!reply.is_null()), Ordering::Relaxed);
                }
            });
        }
        for _ in 0..4 {
            let mut client = server.client();
            scope.spawn(move || {
                let block = ["MULTI", "LLEN {a}one", "LLEN {a}two", "LLEN {b}other", "STRLEN {c}k", "STRLEN d", "EXEC"];
                let requests: Vec<_> = (0..4).flat_map(|_| block.map(harness::words)).collect();
                while Instant::now() < end {
                    client.pipeline(&requests);
                }
            });
        }
        let (mut client, pushed) = (server.client(), &pushed);
        scope.spawn(move || {
            while Instant::now() < end {
                pushed.fetch_add(1, Ordering::Relaxed);
                client.run("RPUSH {a}from x");
            }
        });
    });
    let mut client = server.client();
    let mut length = |key: &str| client.command(&["LLEN", key]).integer() as u64;
    let (left, arrived) = (length("{a}from"), DESTINATIONS.map(&mut length));
    assert_eq!(arrived, moved.map(AtomicU64::into_inner), "each that was told of is there");
    assert_eq!(left + arrived.iter().sum::<u64>(), pushed.into_inner(), "{left} are left, {arrived:?} have arrived");
    assert!(arrived.iter().all(|&arrived| arrived > 100), "nothing was put to the test: {arrived:?}");
    server.check_healthy();
}

/// All kinds of work at once; the check is that nobody waits forever.
fn progress(cores: usize) {
    const CLIENTS: usize = 10;
    let mut server = Server::kvcore(cores, &["--enable-debug-command", "yes"]);
    let (end, seed) = (Instant::now() + duration(), seed());
    let done: Vec<AtomicU64> = (0..CLIENTS).map(|_| AtomicU64::new(0)).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CLIENTS)
            .map(|index| {
                let (mut client, done, stop) = (server.client(), &done[index], &stop);
                scope.spawn(move || {
                    let mut random = Random::new(seed + index as u64);
                    while Instant::now() < end && !stop.load(Ordering::Relaxed) {
                        let requests: Vec<_> = (0..1 + random.below(16)).map(|_| any_work(&mut random, index == 0)).collect();
                        client.pipeline(&requests);
                        done.fetch_add(requests.len() as u64, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let mut last: Vec<(u64, Instant)> = done.iter().map(|_| (0, Instant::now())).collect();
        while workers.iter().any(|worker| !worker.is_finished()) {
            std::thread::sleep(Duration::from_millis(50));
            for (index, (count, since)) in last.iter_mut().enumerate() {
                let now = done[index].load(Ordering::Relaxed);
                if now != *count {
                    (*count, *since) = (now, Instant::now());
                } else if !workers[index].is_finished() && since.elapsed() > PATIENCE / 2 {
                    stop.store(true, Ordering::Relaxed);
                    panic!("connection {index} has had no reply for {:?}; all: {done:?}; seed {seed}", since.elapsed());
                }
            }
        }
    });
    println!("--cores {cores}: {done:?}");
    server.check_healthy();
}

/// A command over several shards, or on all of them.
fn any_work(random: &mut Random, keyspace_wide: bool) -> Vec<String> {
    let mut key = |kind: &str| format!("{kind}{}", random.below(8));
    let line = match (key("").parse().unwrap_or(0), key("").parse().unwrap_or(0)) {
        (0, 0) if keyspace_wide => "FLUSHALL".to_string(),
        (0, 1) if keyspace_wide => "SWAPDB 0 1".to_string(),
        (0, 2) => "DBSIZE".to_string(),
        (0, 3) => "KEYS *".to_string(),
        (0, 4) => "SCAN 0 COUNT 100".to_string(),
        (0, 5) => "RANDOMKEY".to_string(),
        (1, _) => format!("MSET {} 1 {} 2 {} 3 {} 4", key("s"), key("s"), key("s"), key("s")),
        (2, _) => format!("MGET {} {} {} {}", key("s"), key("s"), key("s"), key("s")),
        (3, 0..4) => format!("RENAME {} {}", key("s"), key("s")),
        (3, _) => format!("COPY {} {} REPLACE", key("t"), key("t")),
        (4, 0..4) => format!("SINTERSTORE {} {} {}", key("t"), key("t"), key("t")),
        (4, _) => format!("SADD {} 1 2 3 {}", key("t"), key("m")),
        (5, 0..3) => format!("BLPOP {} {} 0.001", key("l"), key("l")),
        (5, 3..5) => format!("RPUSH {} a b c", key("l")),
        (5, _) => format!("LMOVE {} {} LEFT RIGHT", key("l"), key("l")),
        (6, 0..2) => "MULTI".to_string(),
        (6, 2..6) => "EXEC".to_string(),
        (6, _) => format!("WATCH {} {}", key("s"), key("t")),
        _ => format!("DEL {} {} {}", key("s"), key("t"), key("l")),
    };
    line.split(' ').map(String::from).collect()
}

macro_rules! at_cores {
    ($($name:ident)*) => {
        $(mod $name {
            #[test]
            fn two_cores() {
                super::run_at(super::Check::$name, 2);
            }

            #[test]
            fn four_cores() {
                super::run_at(super::Check::$name, 4);
            }
        })*

        #[allow(non_camel_case_types, reason = "named as the tests are")]
        enum Check { $($name),* }
    };
}

at_cores!(bank_transfers counters_under_watch rounds_of_commands histories_of_appends elements_that_move everything_at_once);

fn run_at(check: Check, cores: usize) {
    match check {
        Check::bank_transfers => bank(cores),
        Check::counters_under_watch => watched_counter(cores),
        Check::rounds_of_commands => rounds::run(cores, duration()),
        Check::histories_of_appends => appends::run(cores, duration()),
        Check::elements_that_move => elements_on_the_move(cores),
        Check::everything_at_once => progress(cores),
    }
}
