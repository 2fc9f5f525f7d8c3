//! Primaries and replicas as users and their tools see them: INFO replication and ROLE, refusals, promotion, authentication, waiting for
//! replicas, and moving from redis-server to kvcore and back without losing an acknowledged write.

mod harness;

use harness::following::{ONE, REDIS, TWO, caught_up, check_offsets, check_same, field_names, field_of};
use harness::{Client, Ends, PATIENCE, Program, Proxy, Server, Value, fill, wait_until};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::{Duration, Instant};

fn pair(primary: Program, replica: Program, extra: &[&str]) -> (Server, Server) {
    let primary = Server::following(primary, extra);
    let replica = Server::following(replica, extra);
    replica.follow(primary.port);
    caught_up(&primary, &[&replica]);
    wait_until("it is online", || primary.client().run("INFO replication").text().contains("state=online"));
    (primary, replica)
}

fn read_only() -> Value {
    Value::Error("READONLY You can't write against a read only replica.".into())
}

// ---- what they tell ----

#[test]
fn info_has_the_fields_of_redis_in_their_order() {
    let alone = [TWO, REDIS].map(|program| Server::following(program, &[]));
    assert_eq!(field_names(&alone[0]), field_names(&alone[1]), "of a primary that never had a replica");
    assert_eq!(alone[0].info("repl_backlog_active"), "0");
    let extra = ["--min-replicas-to-write", "1"];
    let (primary, replica) = pair(TWO, TWO, &extra);
    let (redis_primary, redis_replica) = pair(REDIS, REDIS, &extra);
    assert_eq!(field_names(&primary), field_names(&redis_primary));
    assert_eq!(field_names(&replica), field_names(&redis_replica));
    let state = |server: &Server| {
        server.info("slave0").split(',').map(|part| part.split('=').next().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(state(&primary), state(&redis_primary));
    assert_eq!((primary.info("connected_slaves").as_str(), primary.info("repl_backlog_active").as_str()), ("1", "1"));
    assert!(primary.info("slave0").starts_with(&format!("ip=127.0.0.1,port={},state=online,offset=", replica.port)));
    let told = |server: &Server| {
        ["master_host", "master_sync_in_progress", "slave_priority", "slave_read_only", "replica_announced", "connected_slaves"]
            .map(|field| server.info(field))
    };
    assert_eq!(told(&replica), told(&redis_replica));
    drop((primary, redis_primary));
    let (server, redis) = (&replica, &redis_replica);
    wait_until("the link is down", || server.info("master_link_status") == "down" && redis.info("master_link_status") == "down");
    assert_eq!(field_names(server), field_names(redis));
    assert_eq!(server.info("master_last_io_seconds_ago"), redis.info("master_last_io_seconds_ago"));
    server.stand_alone();
    redis.stand_alone();
    assert_eq!(field_names(server), field_names(redis));
    assert_eq!(server.info("repl_backlog_active"), "1", "as HAProxy's check wants it");
}

/// What a replica is told of itself by directives, its primary and its clients are told.
#[test]
fn directives_of_a_replica_are_shown_on_both_sides() {
    for (primary, replica) in [(TWO, REDIS), (REDIS, TWO), (TWO, TWO)] {
        let primary = Server::following(primary, &[]);
        let address = format!("127.0.0.1 {}", primary.port);
        let announced = ["--replica-announce-ip", "10.1.2.3", "--replica-announce-port", "7000"];
        let others = ["--slave-priority", "7", "--replica-announced", "no", "--slaveof", &address];
        let replica = Server::following(replica, &[&announced[..], &others].concat());
        caught_up(&primary, &[&replica]);
        wait_until("it is online", || primary.info("slave0").starts_with("ip=10.1.2.3,port=7000,state=online,offset="));
        assert_eq!(["slave_priority", "replica_announced"].map(|field| replica.info(field)), ["7", "0"]);
        assert_eq!(replica.client().run("CONFIG GET replicaof").items()[1], Value::bulk(&address));
        assert_eq!(
            replica.client().run(&format!("REPLICAOF {address}")),
            Value::Simple("OK Already connected to specified master".into())
        );
        replica.stand_alone();
        assert_eq!(replica.client().run("CONFIG GET slaveof").items()[1], Value::bulk(""));
    }
}

/// DEBUG SLEEP stops all of a node, also what serves its replicas.
#[test]
fn a_primary_that_hangs_is_noticed() {
    let extra = ["--repl-timeout", "2", "--repl-ping-replica-period", "1"];
    let pairs = [(TWO, REDIS), (TWO, TWO), (REDIS, TWO)].map(|(primary, replica)| pair(primary, replica, &extra));
    let mut clients = pairs.each_ref().map(|(primary, _)| primary.client());
    clients.iter_mut().for_each(|client| client.send(&["DEBUG", "SLEEP", "5"]));
    for (_, replica) in &pairs {
        replica.logs("MASTER timeout: no data nor PING received...");
    }
    for ((primary, replica), client) in pairs.iter().zip(&mut clients) {
        assert_eq!(client.reply(), Value::ok());
        caught_up(primary, &[replica]);
    }
}

#[test]
fn role_tells_both_sides() {
    for (primary, replica) in [(TWO, REDIS), (REDIS, TWO), (TWO, ONE)] {
        let (primary, replica) = pair(primary, replica, &[]);
        let offset = replica.client().run("ROLE").items()[4].clone();
        let expected = [
            Value::bulk("slave"),
            Value::bulk("127.0.0.1"),
            Value::Integer(primary.port.into()),
            Value::bulk("connected"),
            offset.clone(),
        ];
        assert_eq!(replica.client().run("ROLE").items()[..4], expected[..4]);
        assert!(offset.integer() >= 0);
        wait_until("the replica's offset is acknowledged", || {
            let role = primary.client().run("ROLE").items();
            assert_eq!(role[0], Value::bulk("master"));
            let replicas = role[2].items();
            assert_eq!(replicas.len(), 1);
            let fields = replicas[0].items();
            assert_eq!(fields[..2], [Value::bulk("127.0.0.1"), Value::bulk(replica.port.to_string())]);
            fields[2] == Value::bulk(role[1].integer().to_string())
        });
        drop(primary);
        wait_until("the replica looks for its primary", || {
            let role = replica.client().run("ROLE").items();
            ["connect", "connecting"].contains(&role[3].text().as_str()) && role[4] == Value::Integer(-1)
        });
    }
}

#[test]
fn a_replica_reads_and_refuses_writes_also_when_its_primary_is_gone() {
    for (primary, replica) in [(TWO, TWO), (REDIS, TWO), (REDIS, ONE)] {
        let (primary, replica) = pair(primary, replica, &[]);
        let mut client = replica.client();
        primary.client().run("SET foo bar");
        primary.client().run("MSET a 1 b 2 c 3");
        caught_up(&primary, &[&replica]);
        let check = |client: &mut Client| {
            assert_eq!(client.run("GET foo"), Value::bulk("bar"));
            assert_eq!(client.run("MGET a b c"), Value::Array(["1", "2", "3"].map(Value::bulk).to_vec()));
            for command in ["SET x y", "MSET x 1 y 2", "FLUSHALL", "EXPIRE foo 1", "BLPOP x 0", "EVAL \"return 1\" 0 x"] {
                let reply = client.run(command);
                assert!(reply == read_only() || command.starts_with("EVAL"), "{command}: {reply}");
            }
            client.run("MULTI");
            assert_eq!(client.run("SET x y"), read_only());
            assert!(client.run("EXEC").is_error());
        };
        check(&mut client);
        drop(primary);
        wait_until("the link is down", || field_of(&mut client, "master_link_status") == "down");
        check(&mut client);
        assert_eq!(field_of(&mut client, "role"), "slave");
        replica.logs("Connection with master lost.");
    }
}

#[test]
fn a_replica_steps_out_of_its_role_with_its_data() {
    for primary in [TWO, REDIS] {
        let (primary, replica) = pair(primary, TWO, &[]);
        let mut client = replica.client();
        primary.client().run("SET foo bar");
        caught_up(&primary, &[&replica]);
        assert_eq!(client.run("CONFIG SET slave-read-only no"), Value::ok());
        let (id, offset) = (primary.info("master_replid"), replica.info_number("master_repl_offset"));
        replica.stand_alone();
        let role = client.run("ROLE").items();
        assert_eq!(role[0], Value::bulk("master"));
        assert_eq!((replica.info("master_replid2"), replica.info_number("second_repl_offset")), (id.clone(), offset + 1));
        assert_ne!(replica.info("master_replid"), id);
        assert_eq!(client.run("GET foo"), Value::bulk("bar"));
        assert_eq!(client.run("SET foo baz"), Value::ok());
        assert_eq!(primary.client().run("GET foo"), Value::bulk("bar"));
        wait_until("the primary has lost it", || primary.info("connected_slaves") == "0");
        check_offsets(&replica);
        assert!(replica.log().contains("MASTER MODE enabled (user request"));
    }
}

#[test]
fn replicas_share_one_full_synchronization() {
    for diskless in ["yes", "no"] {
        let primary = Server::following(
            TWO,
            &["--repl-diskless-sync-delay", "1", "--repl-diskless-sync", diskless, "--rdb-key-save-delay", "4000"],
        );
        fill(&primary);
        let replicas = [REDIS, TWO, ONE].map(|program| Server::following(program, &[]));
        replicas.iter().for_each(|replica| replica.follow(primary.port));
        let all: Vec<&Server> = replicas.iter().collect();
        check_same(&primary, &all);
        assert_eq!(primary.info_number("connected_slaves"), 3);
        let snapshots = primary.log().matches("Starting BGSAVE for SYNC").count();
        assert_eq!((snapshots, primary.info_number("sync_full")), (1, 3), "{}", primary.log());
        let text = primary.client().run("INFO replication").text();
        for number in 0..3 {
            assert!(text.contains(&format!("\r\nslave{number}:ip=127.0.0.1,port=")), "{text}");
        }
    }
}

/// B7: the primary dies, one replica is promoted, the other continues from where it was.
#[test]
fn the_other_replica_continues_after_a_failover() {
    for [first, promoted, other] in [[TWO, TWO, TWO], [TWO, REDIS, ONE], [REDIS, TWO, REDIS], [TWO, TWO, REDIS]] {
        let options = ["--repl-backlog-size", "10MB"];
        let [first, promoted, other] = [first, promoted, other].map(|program| Server::following(program, &options));
        assert_eq!(promoted.client().run("CONFIG GET repl-backlog-size").items()[1], Value::bulk("10485760"));
        promoted.follow(first.port);
        other.follow(first.port);
        let mut client = first.client();
        (0..100).for_each(|number| drop(client.run(&format!("SET key:{number} {number}"))));
        caught_up(&first, &[&promoted, &other]);
        let id = first.info("master_replid");
        drop(first);
        promoted.stand_alone();
        assert_eq!(promoted.client().run("SET after failover"), Value::ok());
        other.follow(promoted.port);
        check_same(&promoted, &[&other]);
        assert_eq!((promoted.info_number("sync_partial_ok"), promoted.info_number("sync_full")), (1, 0), "{}", promoted.log());
        other.logs("Successful partial resynchronization with master.");
        let log = promoted.log();
        let line = log.lines().find(|line| line.contains("Partial resynchronization request from 127.0.0.1:"));
        let line = line.unwrap_or_else(|| panic!("no partial resynchronization:\n{log}"));
        assert!(line.contains(" accepted. Sending ") && line.contains(" bytes of backlog starting from offset "), "{line}");
        for server in [&promoted, &other] {
            check_offsets(server);
            assert_eq!(server.info("master_replid2"), id);
        }
        assert!(promoted.info_number("second_repl_offset") <= promoted.info_number("master_repl_offset"));
        assert_eq!(promoted.info("master_replid"), other.info("master_replid"));
    }
}

/// A primary that comes back says how much of what it has written nobody else has.
#[test]
fn what_an_old_primary_alone_has_is_discarded_with_a_word() {
    for promoted in [TWO, REDIS] {
        let (old, new) = pair(TWO, promoted, &[]);
        old.client().run("SET kept 1");
        caught_up(&old, &[&new]);
        assert_eq!(old.client().run("WAIT 1 0"), Value::Integer(1));
        new.stand_alone();
        wait_until("the old one has lost it", || old.info("connected_slaves") == "0");
        assert_eq!(old.client().run("SET iwas master"), Value::ok());
        assert_eq!(new.client().run("SET iam master"), Value::ok());
        old.follow(new.port);
        check_same(&new, &[&old]);
        assert_eq!(old.client().run("MGET kept iwas iam").to_string(), "[\"1\", null, \"master\"]");
        assert!(old.log().contains("bytes of this node's own replication history"), "{}", old.log());
    }
}

/// Sentinel asks a node to follow another and rewrites its configuration in one transaction.
#[test]
fn a_transaction_sees_the_primary_that_it_has_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("node.conf");
    std::fs::write(&file, "repl-diskless-sync-delay 0\n").expect("written");
    let primary = Server::following(REDIS, &[]);
    let server = Server::start(TWO, &[file.to_str().expect("a name")]);
    let mut client = server.client();
    for (command, role, line) in
        [(format!("REPLICAOF 127.0.0.1 {}", primary.port), "slave", true), ("REPLICAOF NO ONE".to_owned(), "master", false)]
    {
        assert_eq!(client.run("MULTI"), Value::ok());
        for command in [&command, "INFO replication", "CONFIG REWRITE", "CLIENT KILL TYPE normal"] {
            client.run(command);
        }
        let replies = client.run("EXEC").items();
        let info = replies[1].text();
        assert!(info.contains(&format!("role:{role}")) && info.contains("master_link_status:down") == line, "{info}");
        let rewritten = std::fs::read_to_string(&file).expect("the configuration");
        assert_eq!(rewritten.contains(&format!("replicaof 127.0.0.1 {}", primary.port)), line, "{rewritten}");
        wait_until("it has come about", || server.info("role") == role);
        if line {
            server.linked();
        }
    }
}

#[test]
fn counts_begin_anew_with_config_resetstat() {
    for program in [ONE, TWO, REDIS] {
        let (primary, _replica) = pair(program, TWO, &[]);
        assert_eq!(primary.info("sync_full"), "1");
        assert_eq!(primary.client().run("CONFIG RESETSTAT"), Value::ok());
        assert_eq!([primary.info("sync_full"), primary.info("sync_partial_err")], ["0", "0"]);
    }
}

/// CONFIG SET has its effect when it answers.
#[test]
fn replicas_are_counted_anew_when_the_directive_changes() {
    for program in [ONE, TWO, REDIS] {
        let (primary, _replica) = pair(program, TWO, &[]);
        let mut client = primary.client();
        for _ in 0..20 {
            assert_eq!(client.run("CONFIG SET min-replicas-to-write 2"), Value::ok());
            assert!(client.run("SET k v").to_string().contains("NOREPLICAS"));
            assert_eq!(client.run("CONFIG SET min-replicas-to-write 1"), Value::ok());
            assert_eq!(client.run("SET k v"), Value::ok());
        }
    }
}

// ---- refusals ----

#[test]
fn writes_are_refused_while_too_few_replicas_follow() {
    let options = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "2"];
    let refusal = Value::Error("NOREPLICAS Not enough good replicas to write.".into());
    for replica in [TWO, REDIS] {
        let primary = Server::following(TWO, &options);
        let mut client = primary.client();
        wait_until("writes are refused", || client.run("SET a 1") == refusal);
        assert_eq!(client.run("GET a"), Value::Null);
        let mut replica = Server::following(replica, &[]);
        replica.follow(primary.port);
        wait_until("writes are taken", || client.run("SET a 1") == Value::ok());
        replica.signal("STOP");
        let stopped = Instant::now();
        wait_until("writes are refused again", || client.run("SET a 2") == refusal);
        assert!(stopped.elapsed() < Duration::from_secs(5), "{:?}", stopped.elapsed());
        assert_eq!(client.run("MULTI"), Value::ok());
        assert_eq!(client.run("SET a 2"), refusal);
        client.run("DISCARD");
        replica.signal("CONT");
        wait_until("writes are taken again", || client.run("SET a 3") == Value::ok());
        replica.kill();
        wait_until("the replica is gone", || client.run("SET a 4") == refusal);
        assert_eq!(client.run("CONFIG SET min-replicas-to-write 0"), Value::ok());
        wait_until("nobody is needed", || client.run("SET a 5") == Value::ok());
    }
}

#[test]
fn stale_data_is_not_shown_where_that_is_forbidden() {
    let servers = [TWO, ONE, REDIS].map(|program| {
        let (primary, replica) = pair(TWO, program, &["--replica-serve-stale-data", "no"]);
        assert_eq!(replica.client().run("GET a"), Value::Null);
        drop(primary);
        wait_until("the link is down", || replica.info("master_link_status") == "down");
        replica
    });
    for command in
        ["GET a", "SET a 1", "MGET a b", "PING", "SELECT 1", "DBSIZE", "CONFIG GET port", "SUBSCRIBE x", "KEYS *", "WAIT 0 0"]
    {
        let replies = servers.each_ref().map(|server| {
            let reply = server.client().run(command);
            if reply.is_error() { reply.text() } else { "data".to_owned() }
        });
        assert_eq!(replies[0], replies[2], "{command}");
        assert_eq!(replies[1], replies[2], "{command}");
    }
    assert!(servers[0].client().run("GET a").text().starts_with("MASTERDOWN Link with MASTER is down"));
}

#[test]
fn primaries_ask_replicas_for_their_password() {
    for (primary, replica) in [(TWO, REDIS), (REDIS, TWO), (TWO, TWO)] {
        let primary = Server::following(primary, &["--requirepass", "secret"]);
        let replica = Server::following(replica, &["--masterauth", "wrong"]);
        replica.follow(primary.port);
        replica.logs("Unable to AUTH to MASTER");
        assert_eq!(replica.info("master_link_status"), "down");
        assert_eq!(replica.client().run("CONFIG SET masterauth secret"), Value::ok());
        replica.linked();
        let mut client = primary.client();
        assert_eq!(client.run("PSYNC ? -1"), Value::Error("NOAUTH Authentication required.".into()));
        client.run("AUTH secret");
        client.run("SET a 1");
        wait_until("it arrives", || replica.client().run("GET a") == Value::bulk("1"));
    }
}

#[test]
fn users_of_redis_can_be_replicas() {
    let primary = Server::following(REDIS, &[]);
    let mut client = primary.client();
    assert_eq!(client.run("ACL SETUSER follower on >secret +psync +replconf +ping"), Value::ok());
    assert_eq!(client.run("ACL SETUSER default resetpass >other"), Value::ok());
    let replica = Server::following(TWO, &["--masteruser", "follower", "--masterauth", "secret"]);
    replica.follow(primary.port);
    replica.linked();
    client.run("SET a 1");
    wait_until("it arrives", || replica.client().run("GET a") == Value::bulk("1"));
}

#[test]
fn a_writable_replica_keeps_its_writes_for_itself() {
    for primary in [REDIS, TWO] {
        let (primary, replica) = pair(primary, TWO, &["--replica-read-only", "no"]);
        let last = Server::following(REDIS, &[]);
        last.follow(replica.port);
        caught_up(&primary, &[&replica, &last]);
        let mut client = replica.client();
        assert_eq!(client.run("MSET own 1 a 1 b 2 c 3"), Value::ok());
        primary.client().run("SET a 2");
        caught_up(&primary, &[&replica, &last]);
        assert_eq!(client.run("MGET own a"), Value::Array(["1", "2"].map(Value::bulk).to_vec()));
        assert_eq!(primary.client().run("KEYS *").items(), [Value::bulk("a")]);
        assert_eq!(last.client().run("KEYS *").items(), [Value::bulk("a")]);
        assert_eq!(client.run("DBSIZE"), Value::Integer(4));
    }
}

/// What its own clients have given a time, nobody else would remove.
#[test]
fn a_writable_replica_removes_what_its_clients_have_timed() {
    for replica in [TWO, ONE, REDIS] {
        let (primary, replica) = pair(TWO, replica, &["--replica-read-only", "no"]);
        let last = Server::following(REDIS, &[]);
        last.follow(replica.port);
        let mut client = primary.client();
        assert_eq!(client.run("DEBUG SET-ACTIVE-EXPIRE 0"), Value::ok());
        client.run("SET theirs 1 PX 40");
        client.run("MSET timed 1 named 1");
        caught_up(&primary, &[&replica, &last]);
        let mut own = replica.client();
        for command in ["SET set 1 PX 40", "INCR set", "PEXPIRE timed 40", "RPUSH list a b", "PEXPIRE list 40"] {
            assert!(!own.run(command).is_error(), "{command}");
        }
        for command in ["SET persists 1 PX 40", "PERSIST persists", "MULTI", "PEXPIRE named 40", "RENAME named other", "EXEC"] {
            assert!(!own.run(command).is_error(), "{command}");
        }
        wait_until("they are removed", || own.run("DBSIZE") == Value::Integer(2));
        assert_eq!(own.run("KEYS *").items(), [Value::bulk("persists")], "{:?}", replica.program);
        assert_eq!(own.run("MGET set timed list other").to_string(), "[null, null, null, null]");
        assert_eq!(client.run("DBSIZE"), Value::Integer(3));
        caught_up(&primary, &[&replica, &last]);
        assert_eq!(last.client().run("DBSIZE"), Value::Integer(3), "nobody else is told");
        assert_eq!(client.run("GET theirs"), Value::Null);
        caught_up(&primary, &[&replica, &last]);
        assert_eq!(own.run("DBSIZE"), Value::Integer(1));
    }
}

/// Expiring keys is the primary's to do: until then they are on the replica and are not shown.
#[test]
fn expired_keys_are_absent_on_replicas() {
    for (primary, replica) in [(TWO, TWO), (REDIS, TWO), (TWO, REDIS)] {
        let (primary, replica) = pair(primary, replica, &[]);
        let mut client = primary.client();
        assert_eq!(client.run("DEBUG SET-ACTIVE-EXPIRE 0"), Value::ok());
        client.run("SET a 1 PX 40");
        client.run("RPUSH list x");
        client.run("PEXPIRE list 40");
        client.run("SET stays 1");
        caught_up(&primary, &[&replica]);
        let mut reader = replica.client();
        wait_until("it is not shown", || reader.run("GET a") == Value::Null);
        wait_until("nor the other", || reader.run("EXISTS list") == Value::Integer(0));
        assert_eq!(reader.run("TTL a"), Value::Integer(-2));
        assert_eq!(reader.run("TYPE list"), Value::Simple("none".into()));
        assert_eq!(reader.run("LRANGE list 0 -1"), Value::Array(Vec::new()));
        assert_eq!(reader.run("MGET a stays"), Value::Array(vec![Value::Null, Value::bulk("1")]));
        assert_eq!(reader.run("DBSIZE"), Value::Integer(3), "it is for the primary to remove them");
        assert_eq!(client.run("GET a"), Value::Null);
        assert_eq!(client.run("EXISTS list"), Value::Integer(0));
        caught_up(&primary, &[&replica]);
        assert_eq!(reader.run("DBSIZE"), Value::Integer(1));
    }
}

#[test]
fn messages_reach_subscribers_on_replicas() {
    for [first, middle, last] in [[TWO, REDIS, TWO], [REDIS, TWO, REDIS]] {
        let (first, middle) = pair(first, middle, &[]);
        let last = Server::following(last, &[]);
        last.follow(middle.port);
        caught_up(&first, &[&middle, &last]);
        for server in [&middle, &last] {
            caught_up(&first, &[&middle, &last]);
            let mut subscriber = server.client();
            subscriber.run("SUBSCRIBE news");
            subscriber.run("PSUBSCRIBE n*");
            let mut client = first.client();
            client.run("PUBLISH news one");
            client.run("MULTI");
            client.run("SET a 1");
            client.run("PUBLISH news two");
            client.run("EXEC");
            for text in ["one", "two"] {
                assert_eq!(subscriber.reply().items(), ["message", "news", text].map(Value::bulk), "{:?}", server.program);
                assert_eq!(subscriber.reply().items(), ["pmessage", "n*", "news", text].map(Value::bulk));
            }
        }
    }
}

#[test]
fn waiting_clients_are_let_go_when_the_node_becomes_a_replica() {
    let primary = Server::following(REDIS, &[]);
    let replies = [TWO, ONE, REDIS].map(|program| {
        let server = Server::following(program, &[]);
        let mut waiting = ["BLPOP a 0", "BLMOVE a b LEFT RIGHT 0", "BZPOPMIN z 0", "BLMPOP 0 1 a LEFT"].map(|command| {
            let mut client = server.client();
            client.send(&harness::words(command));
            client
        });
        wait_until("they wait", || server.info("blocked_clients") == waiting.len().to_string());
        server.follow(primary.port);
        waiting
            .each_mut()
            .map(|client| client.message_or(PATIENCE).map_or_else(|_| "closed".to_owned(), |reply| reply.to_string()))
    });
    assert!(replies[0][0].starts_with("-UNBLOCKED "), "{replies:?}");
    assert_eq!(replies[0], replies[2]);
    assert_eq!(replies[1], replies[2]);
}

// ---- waiting for replicas ----

#[test]
fn wait_counts_the_replicas_that_have_everything() {
    let primary = Server::following(TWO, &[]);
    let mut client = primary.client();
    assert_eq!(client.run("WAIT 1 1"), Value::Integer(0));
    let mut replicas = [REDIS, TWO].map(|program| Server::following(program, &[]));
    replicas.iter().for_each(|replica| replica.follow(primary.port));
    let all: Vec<&Server> = replicas.iter().collect();
    caught_up(&primary, &all);
    for number in 0..50 {
        client.run(&format!("SET n {number}"));
        assert_eq!(client.run("WAIT 2 20000"), Value::Integer(2));
        for replica in &replicas {
            assert_eq!(replica.client().run("GET n"), Value::bulk(number.to_string()), "{:?}", replica.program);
        }
    }
    replicas[0].signal("STOP");
    client.run("SET n again");
    let asked = Instant::now();
    assert_eq!(client.run("WAIT 2 300"), Value::Integer(1));
    assert!(asked.elapsed() >= Duration::from_millis(300));
    assert_eq!(client.run("WAIT 1 0"), Value::Integer(1));
    replicas[0].signal("CONT");
    assert_eq!(client.run("WAIT 2 0"), Value::Integer(2));
    replicas[1].kill();
    client.run("SET n more");
    assert_eq!(client.run("WAIT 2 100"), Value::Integer(1));
    let refusal = replicas[0].client().run("WAIT 1 0");
    assert!(refusal.is_error(), "{refusal}");
}

// ---- handing over ----

/// FAILOVER: the primary waits for a replica, hands over and follows it, and no write is lost meanwhile.
#[test]
fn failover_hands_over_without_losing_a_write() {
    for [first, second] in [[TWO, TWO], [TWO, REDIS], [REDIS, TWO]] {
        let (first, second) = pair(first, second, &[]);
        let ended = AtomicBool::new(false);
        let written = std::thread::scope(|scope| {
            let ends = Ends(&ended);
            let writing = scope.spawn(|| {
                let (mut client, mut written) = (first.client(), 0);
                // Refused by what is a replica now.
                while !ended.load(Ordering::SeqCst) && client.run("INCR n") == Value::Integer(written + 1) {
                    written += 1;
                }
                written
            });
            wait_until("writes go on", || first.client().run("GET n") != Value::Null);
            let target = format!("FAILOVER TO 127.0.0.1 {} TIMEOUT 20000", second.port);
            assert_eq!(first.client().run(&target), Value::ok());
            wait_until("it follows", || first.info("role") == "slave" && first.info("master_link_status") == "up");
            drop(ends);
            writing.join().expect("the writer")
        });
        assert_eq!(second.info("role"), "master");
        assert_eq!(second.client().run("GET n"), Value::bulk(written.to_string()), "{:?}", first.program);
        assert_eq!(first.info("master_failover_state"), "no-failover");
        second.client().run("SET after 1");
        check_same(&second, &[&first]);
        assert_eq!((second.info_number("sync_full"), second.info_number("sync_partial_ok")), (0, 1), "{}", second.log());
    }
}

/// What is wrong, and what cannot be done, is answered as redis-server does; a failover that waits can be called off.
#[test]
fn failover_is_refused_and_called_off_as_by_redis() {
    let replies = [TWO, REDIS].map(|program| {
        let (primary, mut replica) = pair(program, program, &[]);
        let mut client = primary.client();
        let port = replica.port;
        let mut replies = Vec::new();
        let mut ask =
            |client: &mut Client, line: &str| replies.push(client.run(line).to_string().replace(&port.to_string(), "PORT"));
        ask(&mut client, "FAILOVER ABORT");
        ask(&mut client, "FAILOVER TO 127.0.0.1 1");
        ask(&mut client, "FAILOVER TIMEOUT 0");
        ask(&mut client, "FAILOVER TIMEOUT x");
        ask(&mut client, "FAILOVER FORCE");
        ask(&mut client, "FAILOVER FORCE TIMEOUT 10");
        ask(&mut client, "FAILOVER NONSENSE");
        ask(&mut replica.client(), "FAILOVER");
        // One that does not answer is waited for.
        replica.signal("STOP");
        assert_eq!(client.run("SET a 1"), Value::ok());
        ask(&mut client, "FAILOVER");
        ask(&mut client, "FAILOVER");
        assert_eq!(field_of(&mut client, "master_failover_state"), "waiting-for-sync");
        let mut writer = primary.client();
        writer.send(&["SET", "a", "2"]);
        assert_eq!(writer.message_within(Duration::from_millis(100)), None, "writes wait");
        ask(&mut client, "FAILOVER ABORT");
        assert_eq!(writer.reply(), Value::ok());
        assert_eq!(field_of(&mut client, "master_failover_state"), "no-failover");
        ask(&mut client, "FAILOVER TIMEOUT 200");
        wait_until("the time is up", || field_of(&mut client, "master_failover_state") == "no-failover");
        assert_eq!(field_of(&mut client, "role"), "master");
        replica.signal("CONT");
        replica.kill();
        wait_until("it is gone", || field_of(&mut client, "connected_slaves") == "0");
        ask(&mut client, "FAILOVER");
        replies
    });
    assert_eq!(replies[0], replies[1]);
}

// ---- moving from Redis and back ----

/// Writes numbers to whichever server is the current one, and notes those that a replica has acknowledged.
struct Writer {
    port: AtomicU16,
    ended: AtomicBool,
}

impl Writer {
    fn run(&self) -> BTreeMap<String, String> {
        let (mut acknowledged, mut number) = (BTreeMap::new(), 0u64);
        let mut connected: Option<(u16, Client)> = None;
        while !self.ended.load(Ordering::SeqCst) {
            let port = self.port.load(Ordering::SeqCst);
            if connected.as_ref().is_none_or(|(to, _)| *to != port) {
                connected = Client::connect(port).ok().map(|client| (port, client));
                continue;
            }
            let Some((_, client)) = &mut connected else { continue };
            number += 1;
            let (key, value) = (format!("written:{number}"), number.to_string());
            if client.command(&["SET", &key, &value]) == Value::ok() && matches!(client.run("WAIT 1 100"), Value::Integer(1..)) {
                acknowledged.insert(key, value);
            }
        }
        acknowledged
    }
}

/// As a user would do it: kvcore follows a loaded redis-server, is promoted, the clients move, redis-server follows. And the way back.
#[test]
fn rolling_over_from_redis_and_back_loses_nothing_acknowledged() {
    for cores in [1, 2] {
        let redis = Server::following(REDIS, &[]);
        fill(&redis);
        let kvcore = Server::following(Program::Kvcore { cores }, &[]);
        let writer = Writer { port: AtomicU16::new(redis.port), ended: AtomicBool::new(false) };
        let acknowledged = std::thread::scope(|scope| {
            let writing = scope.spawn(|| writer.run());
            let ends = Ends(&writer.ended);
            for (from, to) in [(&redis, &kvcore), (&kvcore, &redis)] {
                to.follow(from.port);
                to.linked();
                wait_until("writes are acknowledged", || from.info("slave0").contains("state=online"));
                std::thread::sleep(Duration::from_millis(100));
                to.stand_alone();
                writer.port.store(to.port, Ordering::SeqCst);
                from.follow(to.port);
                from.linked();
                std::thread::sleep(Duration::from_millis(100));
                wait_until("writes are acknowledged by the other", || to.client().run("WAIT 1 1000") == Value::Integer(1));
            }
            drop(ends);
            writing.join().expect("the writer")
        });
        assert!(acknowledged.len() > 20, "only {} writes were acknowledged", acknowledged.len());
        check_same(&redis, &[&kvcore]);
        let mut client = redis.client();
        for (key, value) in &acknowledged {
            assert_eq!(client.run(&format!("GET {key}")), Value::bulk(value), "{key} of {} at {cores} cores", acknowledged.len());
        }
    }
}

/// The way is cut and the primary changes in the middle of everything: commands of a transaction arrive together or not at all.
#[test]
fn transactions_stay_whole_through_cuts_and_promotions() {
    for primary in [TWO, REDIS] {
        let primary = Server::following(primary, &["--repl-backlog-size", "64mb"]);
        let replica = Server::following(TWO, &[]);
        let way = Proxy::to(primary.port);
        replica.follow(way.port);
        replica.linked();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _ends = Ends(&ended);
            scope.spawn(|| {
                let mut client = primary.client();
                while !ended.load(Ordering::SeqCst) {
                    let requests = ["MULTI", "INCR a", "INCR b", "INCR c", "INCR d", "EXEC"].map(harness::words);
                    client.pipeline(&requests);
                }
            });
            let mut reader = replica.client();
            for round in 0..300 {
                let values = reader.run("MGET a b c d").items();
                assert!(values.iter().all(|value| *value == values[0]), "torn: {values:?}");
                if round % 30 == 29 {
                    way.cut();
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            replica.stand_alone();
            let values = reader.run("MGET a b c d").items();
            assert!(values.iter().all(|value| *value == values[0]), "torn by the promotion: {values:?}");
        });
        replica.follow(way.port);
        check_same(&primary, &[&replica]);
    }
}
