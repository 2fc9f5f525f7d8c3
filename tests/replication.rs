//! What replicas hold is what their primary holds: kvcore and redis-server 7.0.15 follow each other in both directions and in chains,
//! through generated commands of all kinds, cut links, gaps, restarts and kills on either side.

mod generated;
mod harness;

use generated::{Check, Gen, Step, any, command};
use harness::following::{ONE, REDIS, THREE, TWO, caught_up, check_expiries, check_offsets, check_same, field_of, keep_all};
use harness::{Client, Ends, Program, Proxy, Random, Server, fill, seed, setting, wait_until};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn generator(salt: u64) -> Gen {
    let seed = seed();
    let mut g = Gen::new(seed ^ salt);
    g.quiet = true;
    g
}

/// A command, or a few in a transaction, in any of several databases.
fn run_some(g: &mut Gen, client: &mut Client) {
    let step = any(g);
    if g.below(8) == 0 {
        client.run(g.one_of(&["SELECT 0", "SELECT 1", "SELECT 3", "SELECT 15"]));
    }
    match g.below(60) {
        0 => drop(client.run(g.one_of(&["FLUSHALL", "FLUSHDB", "SWAPDB 0 1", "SWAPDB 3 15", "FLUSHDB"]))),
        1..=8 => {
            client.run("MULTI");
            let others: Vec<Step> = (0..g.below(5)).map(|_| any(g)).collect();
            for step in std::iter::once(step).chain(others).filter(|step| step.is_plain() && !step.grows_unseen()) {
                client.command(&step.args);
            }
            match g.below(40) {
                0 | 1 => drop(client.run("FLUSHDB")),
                2 => drop(client.run("SWAPDB 1 3")),
                _ => {}
            }
            client.run("EXEC");
        }
        9..=12 => {
            let key = format!("short:{}", g.below(50));
            let lived = (g.below(400) as i64 + 1).to_string();
            client.command(&command!["SET", key, "soon gone", "PX", lived]);
        }
        13..=15 => {
            let key = format!("long:{}", g.below(50));
            client.command(&command!["SET", key, "stays", "EX", "5000"]);
        }
        _ if matches!(step.check, Check::Scan { .. } | Check::Transfer) || step.grows_unseen() => {}
        _ => drop(client.command(&step.args)),
    }
}

/// The data is the same everywhere, expiries included, and so are the offsets.
fn check_all(primary: &Server, replicas: &[&Server]) {
    caught_up(primary, replicas);
    replicas.iter().for_each(|replica| check_expiries(primary, replica));
    keep_all(primary);
    check_same(primary, replicas);
    [&[primary], replicas].concat().into_iter().for_each(check_offsets);
}

/// Half of the commands before the replicas come, half of them after.
fn generated_commands_arrive(primary: Program, replicas: &[Program]) {
    let mut g = generator(0);
    let primary = Server::following(primary, &[]);
    let replicas: Vec<Server> = replicas.iter().map(|program| Server::following(*program, &[])).collect();
    let all: Vec<&Server> = replicas.iter().collect();
    let mut client = primary.client();
    let steps = setting("KVCORE_STEPS", 1500);
    (0..steps).for_each(|_| run_some(&mut g, &mut client));
    all.iter().for_each(|replica| replica.follow(primary.port));
    (0..steps).for_each(|_| run_some(&mut g, &mut client));
    check_all(&primary, &all);
    (0..steps / 2).for_each(|_| run_some(&mut g, &mut client));
    check_all(&primary, &all);
}

#[test]
fn generated_commands_arrive_from_one_core() {
    generated_commands_arrive(ONE, &[REDIS, TWO]);
}

#[test]
fn generated_commands_arrive_from_two_cores() {
    generated_commands_arrive(TWO, &[REDIS, TWO]);
}

#[test]
fn generated_commands_arrive_from_three_cores() {
    generated_commands_arrive(THREE, &[REDIS, TWO]);
}

#[test]
fn generated_commands_arrive_from_redis() {
    generated_commands_arrive(REDIS, &[ONE, THREE]);
}

/// Values of every type and encoding, large ones too, by a full synchronization.
#[test]
fn a_whole_data_set_arrives() {
    for (primary, replicas) in [(TWO, [REDIS, THREE]), (REDIS, [ONE, TWO])] {
        for diskless in ["yes", "no"] {
            let primary = Server::following(primary, &["--repl-diskless-sync", diskless]);
            fill(&primary);
            let replicas = replicas.map(|program| Server::following(program, &[]));
            replicas[0].client().run("SET of-its-own 1");
            replicas.iter().for_each(|replica| replica.follow(primary.port));
            let all: Vec<&Server> = replicas.iter().collect();
            check_same(&primary, &all);
            all.iter().for_each(|replica| check_expiries(&primary, replica));
        }
    }
}

// ---- writers beside the test ----

/// Runs `test` while another connection writes generated commands.
fn while_writing(primary: &Server, mut g: Gen, test: impl FnOnce()) {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ends = Ends(&ended);
        let mut client = primary.client();
        let ended = &ended;
        scope.spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                run_some(&mut g, &mut client);
            }
        });
        test();
    });
}

fn attached(primary: &Server) -> usize {
    primary.client().run("INFO replication").text().matches("state=online").count()
}

// ---- links that are cut ----

fn cut_links_are_continued(primary: Program, replicas: &[Program]) {
    let g = generator(1);
    let mut random = Random::new(seed());
    let primary = Server::following(primary, &["--repl-backlog-size", "64mb"]);
    let replicas: Vec<Server> = replicas.iter().map(|program| Server::following(*program, &[])).collect();
    let ways: Vec<Proxy> = replicas.iter().map(|_| Proxy::to(primary.port)).collect();
    for (replica, way) in replicas.iter().zip(&ways) {
        replica.follow(way.port);
        replica.linked();
    }
    wait_until("all are online", || attached(&primary) == replicas.len());
    let full = primary.info_number("sync_full");
    assert!(full <= replicas.len() as i64);
    while_writing(&primary, g, || {
        for _ in 0..setting("KVCORE_ROUNDS", 12) {
            let before = primary.info_number("sync_partial_ok");
            let chosen = random.below(ways.len());
            match random.below(4) {
                0 => drop(primary.client().run("CLIENT KILL TYPE replica")),
                1 => drop(replicas[chosen].client().run("CLIENT KILL TYPE master")),
                _ => ways[chosen].cut(),
            }
            wait_until("it is continued", || primary.info_number("sync_partial_ok") > before);
            std::thread::sleep(Duration::from_millis(random.below(20) as u64));
        }
    });
    let all: Vec<&Server> = replicas.iter().collect();
    check_all(&primary, &all);
    assert_eq!(primary.info_number("sync_full"), full, "{}", primary.log());
    assert!(primary.log().contains("Partial resynchronization request from 127.0.0.1:"));
    assert!(replicas.iter().any(|replica| replica.log().contains("Successful partial resynchronization with master.")));
}

#[test]
fn cut_links_are_continued_from_kvcore() {
    cut_links_are_continued(TWO, &[REDIS, TWO]);
}

#[test]
fn cut_links_are_continued_from_redis() {
    cut_links_are_continued(REDIS, &[ONE, THREE]);
}

/// What was written while a replica was away no longer fits the backlog (B8).
#[test]
fn a_gap_larger_than_the_backlog_takes_everything_again() {
    for (primary, replica) in [(TWO, REDIS), (TWO, ONE), (REDIS, TWO)] {
        let primary = Server::following(primary, &["--repl-backlog-size", "64kb"]);
        let replica = Server::following(replica, &[]);
        let way = Proxy::to(primary.port);
        replica.follow(way.port);
        caught_up(&primary, &[&replica]);
        let (full, failed) = (primary.info_number("sync_full"), primary.info_number("sync_partial_err"));
        way.close();
        let mut client = primary.client();
        for number in 0..40 {
            client.command(&["SET", &format!("key:{number}"), &"x".repeat(10_000)]);
        }
        check_offsets(&primary);
        way.open();
        wait_until("everything is taken again", || primary.info_number("sync_full") == full + 1);
        check_same(&primary, &[&replica]);
        assert_eq!(primary.info_number("sync_partial_err"), failed + 1);
        primary.logs("Unable to partial resync with replica");
    }
}

// ---- chains ----

#[test]
fn chains_hold_the_same_and_go_on_after_a_promotion_in_the_middle() {
    for chain in [[REDIS, TWO, REDIS], [TWO, REDIS, TWO], [TWO, THREE, ONE]] {
        let mut g = generator(2);
        let [first, middle, last] = chain.map(|program| Server::following(program, &["--repl-backlog-size", "64mb"]));
        let mut client = first.client();
        (0..300).for_each(|_| run_some(&mut g, &mut client));
        middle.follow(first.port);
        caught_up(&first, &[&middle]);
        last.follow(middle.port);
        (0..300).for_each(|_| run_some(&mut g, &mut client));
        caught_up(&first, &[&middle, &last]);
        keep_all(&first);
        check_same(&first, &[&middle, &last]);
        assert_eq!(first.info("master_replid"), last.info("master_replid"));
        let full = middle.info_number("sync_full");
        middle.stand_alone();
        let mut client = middle.client();
        (0..300).for_each(|_| run_some(&mut g, &mut client));
        wait_until("the last one hears of it", || last.info("master_replid") == middle.info("master_replid"));
        check_all(&middle, &[&last]);
        assert_eq!(middle.info_number("sync_full"), full, "{chain:?}: {}", middle.log());
        assert_eq!(middle.info("master_replid2"), first.info("master_replid"));
    }
}

// ---- joining while something else is under way ----

#[test]
fn replicas_may_join_while_snapshots_run() {
    for diskless in ["yes", "no"] {
        let g = generator(3);
        let primary = Server::following(TWO, &["--repl-diskless-sync", diskless]);
        let mut client = primary.client();
        client.run("DEBUG POPULATE 100000 populated 100");
        let replicas = [REDIS, TWO, ONE].map(|program| Server::following(program, &[]));
        while_writing(&primary, g, || {
            client.run("BGSAVE");
            replicas[0].follow(primary.port);
            wait_until("a snapshot for the first has begun", || {
                primary.log().contains("Starting BGSAVE for SYNC") || attached(&primary) > 0
            });
            replicas[1].follow(primary.port);
            replicas[2].follow(primary.port);
            wait_until("all are online", || attached(&primary) == 3);
        });
        let all: Vec<&Server> = replicas.iter().collect();
        check_all(&primary, &all);
    }
}

// ---- restarts ----

fn shut_down(server: &mut Server, how: &str) {
    server.client().send(&["SHUTDOWN", how]);
    server.wait_for_exit();
}

/// The ids and the offset are in the RDB file, so that replicas continue with a primary that was away.
#[test]
fn a_restarted_primary_is_continued_with() {
    for (program, replica) in [(TWO, REDIS), (TWO, TWO), (REDIS, TWO)] {
        let mut g = generator(4);
        let mut primary = Server::following(program, &["--repl-backlog-ttl", "0"]);
        let replica = Server::following(replica, &[]);
        let way = Proxy::to(primary.port);
        replica.follow(way.port);
        let mut client = primary.client();
        (0..500).for_each(|_| run_some(&mut g, &mut client));
        caught_up(&primary, &[&replica]);
        let id = primary.info("master_replid");
        shut_down(&mut primary, "SAVE");
        let again = Server::following(program, &["--dir", &primary.dir.path().to_string_lossy()]);
        way.turn_to(again.port);
        let full = again.info_number("sync_full");
        wait_until("it goes on with its history", || again.info("master_replid2") == id);
        let mut client = again.client();
        (0..100).for_each(|_| run_some(&mut g, &mut client));
        check_all(&again, &[&replica]);
        assert_eq!((again.info_number("sync_full"), again.info_number("sync_partial_ok")), (full, 1), "{}", again.log());
    }
}

#[test]
fn a_restarted_replica_continues() {
    for (primary, program) in [(TWO, TWO), (REDIS, TWO), (TWO, REDIS)] {
        let mut g = generator(5);
        let primary = Server::following(primary, &[]);
        let mut replica = Server::following(program, &[]);
        replica.follow(primary.port);
        let mut client = primary.client();
        (0..500).for_each(|_| run_some(&mut g, &mut client));
        caught_up(&primary, &[&replica]);
        let (full, partial) = (primary.info_number("sync_full"), primary.info_number("sync_partial_ok"));
        shut_down(&mut replica, "SAVE");
        (0..20).for_each(|_| run_some(&mut g, &mut client));
        let dir = replica.dir.path().to_string_lossy().into_owned();
        let again = Server::following(program, &["--dir", &dir, "--replicaof", &format!("127.0.0.1 {}", primary.port)]);
        check_all(&primary, &[&again]);
        let after = (primary.info_number("sync_full"), primary.info_number("sync_partial_ok"));
        assert_eq!(after, (full, partial + 1), "{}", primary.log());
    }
}

/// What a replica saves in the middle of the stream says exactly how far it is: no command is done twice, and none is left out.
#[test]
fn a_replica_restarted_in_the_middle_of_the_stream_continues_exactly() {
    for (primary, program) in [(TWO, TWO), (REDIS, THREE), (REDIS, ONE)] {
        let primary = Server::following(primary, &["--repl-backlog-size", "256mb"]);
        let home = tempfile::tempdir().expect("a temporary directory");
        let dir = home.path().to_string_lossy().into_owned();
        let mut replica = Server::following(program, &["--dir", &dir]);
        replica.follow(primary.port);
        replica.linked();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _ends = Ends(&ended);
            scope.spawn(|| {
                let mut client = primary.client();
                let one = |number: usize| match number % 5 {
                    0 => command!["INCR", format!("n:{}", number % 7)],
                    1 => command!["RPUSH", format!("list:{}", number % 11), number.to_string()],
                    2 => command!["APPEND", format!("text:{}", number % 13), "x"],
                    3 => command!["SELECT", (number % 3).to_string()],
                    _ => command!["MSET", "a", number.to_string(), "b", number.to_string(), "c", number.to_string()],
                };
                let requests: Vec<_> = (0..500).map(one).collect();
                while !ended.load(Ordering::SeqCst) {
                    client.pipeline(&requests);
                }
            });
            for round in 0..3 {
                std::thread::sleep(Duration::from_millis(40 + 30 * round));
                shut_down(&mut replica, "SAVE");
                let address = format!("127.0.0.1 {}", primary.port);
                replica = Server::following(program, &["--dir", &dir, "--replicaof", &address]);
                replica.linked();
            }
        });
        check_same(&primary, &[&replica]);
        assert_eq!(primary.info_number("sync_full"), 1, "{}", primary.log());
    }
}

/// Either side is killed while commands stream, and comes back with what it has on disk.
/// `load`: the replica's `repl-diskless-load`.
fn kills_under_load(primary: Program, replica: Program, load: &str) {
    let mut g = generator(6);
    let appending = ["--appendonly", "yes", "--appendfsync", "no"];
    let mut first = Server::following(primary, &appending);
    let home = tempfile::tempdir().expect("a temporary directory");
    let files = home.path().to_string_lossy().into_owned();
    let kept = ["--dir", &files, "--repl-diskless-load", load];
    let way = Proxy::to(first.port);
    let mut second = Server::following(replica, &kept);
    second.follow(way.port);
    second.linked();
    let mut before: Vec<Server> = Vec::new();
    for round in 0..4 {
        let next = generator(10 + round);
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _ends = Ends(&ended);
            let (port, ended) = (first.port, &ended);
            scope.spawn(move || {
                // Until its server is killed.
                let mut number = 0u64;
                let Ok(mut client) = Client::connect(port) else { return };
                while !ended.load(Ordering::SeqCst) {
                    number += 1;
                    let requests: [Vec<Vec<u8>>; 3] = [
                        command!["INCR", "counter"],
                        command!["MSET", format!("a:{}", number % 100), number.to_string(), format!("b:{}", number % 90), "x"],
                        command!["RPUSH", format!("list:{}", number % 7), number.to_string()],
                    ];
                    let bytes: Vec<u8> = requests.iter().flat_map(|args| harness::encode(args)).collect();
                    if client.try_send_raw(&bytes).is_err() || requests.iter().any(|_| client.try_message().is_err()) {
                        return;
                    }
                }
            });
            std::thread::sleep(Duration::from_millis(50 + g.below(150) as u64));
            if round % 2 == 0 {
                second.kill();
                second = Server::following(replica, &[&kept[..], &["--replicaof", &format!("127.0.0.1 {}", way.port)]].concat());
                std::thread::sleep(Duration::from_millis(g.below(50) as u64));
            } else {
                first.kill();
            }
        });
        if round % 2 == 1 {
            let dir = before.first().unwrap_or(&first).dir.path().to_string_lossy().into_owned();
            let again = Server::following(primary, &[&appending[..], &["--dir", &dir]].concat());
            way.turn_to(again.port);
            before.push(std::mem::replace(&mut first, again));
        }
        let (mut g, mut client) = (next, first.client());
        (0..100).for_each(|_| run_some(&mut g, &mut client));
        check_all(&first, &[&second]);
    }
}

#[test]
fn kills_under_load_are_survived_with_kvcore_before_redis() {
    kills_under_load(TWO, REDIS, "disabled");
}

#[test]
fn kills_under_load_are_survived_with_redis_before_kvcore() {
    kills_under_load(REDIS, TWO, "on-empty-db");
}

#[test]
fn kills_under_load_are_survived_with_kvcore_before_kvcore() {
    for load in ["disabled", "swapdb"] {
        kills_under_load(THREE, TWO, load);
    }
}

/// A replica that falls behind its output buffer's limit is cut off, and takes everything again.
#[test]
fn a_replica_that_does_not_read_is_cut_off() {
    let primary = Server::following(TWO, &["--client-output-buffer-limit", "replica 1mb 0 0", "--repl-backlog-size", "64kb"]);
    let mut lazy = primary.client();
    lazy.run("REPLCONF listening-port 1 capa eof capa psync2");
    lazy.send(&["PSYNC", "?", "-1"]);
    wait_until("it is seen", || primary.info_number("connected_slaves") == 1);
    let mut client = primary.client();
    let value = "x".repeat(100_000);
    let mut written = 0;
    wait_until("it is cut off", || {
        written += 1;
        client.command(&["SET", &format!("key:{}", written % 10), &value]);
        field_of(&mut client, "connected_slaves") == "0"
    });
    assert!(written < 1000, "{written} values of 100 KB stood in the buffers of a replica that may have 1 MB");
}
