//! Data sets that a replica loads while they come (`repl-diskless-load`): what clients see meanwhile and what is left when the link is cut
//! in between, on kvcore as on redis-server. And files that are only there for replication.

mod harness;

use harness::following::{ONE, REDIS, TWO, check_same, field_of};
use harness::{Client, Program, Proxy, Server, Value, fill, wait_until};

/// Keys of a data set that takes long to be loaded, and microseconds for each.
const KEYS: usize = 20_000;
const SLOWLY: &str = "100";

fn loading() -> Value {
    Value::Error("LOADING Redis is loading the dataset in memory".into())
}

/// A replica that looks at its clients often while it loads.
fn replica(program: Program, how: &str) -> Server {
    Server::following(program, &["--repl-diskless-load", how, "--loading-process-events-interval-bytes", "1024"])
}

/// Keys whose values say when they were written.
fn write(client: &mut Client, when: &str) {
    let requests: Vec<Vec<String>> =
        (0..KEYS).map(|key| vec!["SET".to_owned(), format!("key:{key}"), format!("{when}:{key:040}")]).collect();
    assert!(client.pipeline(&requests).iter().all(|reply| *reply == Value::ok()));
}

fn first(server: &Server) -> Value {
    server.client().run("GETRANGE key:1 0 2")
}

fn loads(client: &mut Client, field: &str) {
    wait_until("it loads", || field_of(client, field) == "1");
}

#[test]
fn data_sets_are_loaded_while_they_come() {
    for (primary, replicas) in [(TWO, [ONE, TWO, REDIS]), (REDIS, [ONE, TWO, TWO])] {
        let primary = Server::following(primary, &[]);
        fill(&primary);
        for how in ["on-empty-db", "swapdb"] {
            let replicas = replicas.map(|program| replica(program, how));
            replicas.iter().for_each(|replica| replica.follow(primary.port));
            check_same(&primary, &replicas.each_ref());
            for replica in &replicas {
                assert!(replica.log().contains("receiving streamed RDB from master with EOF to parser"), "{}", replica.log());
                assert!(!replica.dir.path().join("dump.rdb").exists(), "nothing went to disk");
            }
            primary.client().run("SET after 1");
            check_same(&primary, &replicas.each_ref());
        }
    }
}

#[test]
fn a_keyspace_that_is_not_empty_waits_for_the_whole_file() {
    for program in [TWO, REDIS] {
        let primary = Server::following(REDIS, &[]);
        fill(&primary);
        let replica = replica(program, "on-empty-db");
        replica.client().run("SET of-its-own 1");
        // What kvcore knows of its keys here is a tenth of a second old.
        std::thread::sleep(std::time::Duration::from_millis(200));
        replica.follow(primary.port);
        check_same(&primary, &[&replica]);
        assert!(replica.log().contains("from master with EOF to disk"), "{}", replica.log());
    }
}

/// The same history, further on: clients read what was there until all of the new is.
#[test]
fn old_data_is_shown_until_the_new_is_whole() {
    for program in [ONE, TWO, REDIS] {
        let primary = Server::following(TWO, &["--repl-backlog-size", "64kb"]);
        write(&mut primary.client(), "old");
        let replica = replica(program, "swapdb");
        let way = Proxy::to(primary.port);
        replica.follow(way.port);
        check_same(&primary, &[&replica]);
        way.close();
        write(&mut primary.client(), "new");
        primary.client().run("SET only-there 1");
        let (mut client, mut watching) = (replica.client(), replica.client());
        assert_eq!(client.run(&format!("CONFIG SET key-load-delay {SLOWLY}")), Value::ok());
        for key in ["key:1", "only-there", "never"] {
            watching.run(&format!("WATCH {key}"));
        }
        way.open();
        loads(&mut client, "async_loading");
        assert_eq!(field_of(&mut client, "loading"), "0");
        assert_eq!(client.run("MGET key:2 only-there").to_string(), format!("[\"old:{:040}\", null]", 2));
        assert_eq!(client.run("DBSIZE"), Value::Integer(KEYS as i64));
        assert_eq!(client.run("REPLICAOF NO ONE"), loading());
        assert_eq!(client.run("BGSAVE"), loading());
        assert!(client.run("CONFIG SET appendonly yes").to_string().contains("LOADING"));
        // It is cut in the midst: nothing is lost of what was there.
        way.close();
        wait_until("it has given up", || field_of(&mut client, "async_loading") == "0");
        assert_eq!((first(&replica), client.run("DBSIZE")), (Value::bulk("old"), Value::Integer(KEYS as i64)));
        assert_eq!(client.run("CONFIG SET key-load-delay 0"), Value::ok());
        way.open();
        check_same(&primary, &[&replica]);
        assert_eq!(first(&replica), Value::bulk("new"));
        watching.run("MULTI");
        watching.run("PING");
        assert!(watching.run("EXEC").is_null(), "what was watched has changed");
        assert!(replica.log().contains("Swapping active DB with loaded DB"), "{}", replica.log());
    }
}

/// Another history: nobody is shown what has nothing to do with it, and it is kept all the same until the new is whole.
#[test]
fn data_of_another_history_is_kept_and_not_shown() {
    for program in [ONE, TWO, REDIS] {
        let primary = Server::following(REDIS, &[]);
        write(&mut primary.client(), "new");
        let replica = replica(program, "swapdb");
        write(&mut replica.client(), "old");
        let mut client = replica.client();
        assert_eq!(client.run(&format!("CONFIG SET key-load-delay {SLOWLY}")), Value::ok());
        let way = Proxy::to(primary.port);
        replica.follow(way.port);
        loads(&mut client, "loading");
        assert_eq!((first(&replica), field_of(&mut client, "async_loading")), (loading(), "0".to_owned()));
        way.close();
        wait_until("it has given up", || field_of(&mut client, "loading") == "0");
        assert_eq!((first(&replica), client.run("DBSIZE")), (Value::bulk("old"), Value::Integer(KEYS as i64)));
        assert_eq!(client.run("CONFIG SET key-load-delay 0"), Value::ok());
        way.open();
        check_same(&primary, &[&replica]);
        assert_eq!(first(&replica), Value::bulk("new"));
    }
}

/// What has come of a data set that is cut off is no data set.
#[test]
fn an_empty_node_is_empty_again_when_the_link_is_cut() {
    for program in [ONE, TWO, REDIS] {
        let primary = Server::following(TWO, &[]);
        write(&mut primary.client(), "new");
        let replica = replica(program, "on-empty-db");
        let mut client = replica.client();
        assert_eq!(client.run(&format!("CONFIG SET key-load-delay {SLOWLY}")), Value::ok());
        let way = Proxy::to(primary.port);
        replica.follow(way.port);
        loads(&mut client, "loading");
        assert_eq!(first(&replica), loading());
        way.close();
        wait_until("it has given up", || field_of(&mut client, "loading") == "0");
        wait_until("it is empty", || client.run("DBSIZE") == Value::Integer(0));
        assert_eq!(client.run("CONFIG SET key-load-delay 0"), Value::ok());
        way.open();
        check_same(&primary, &[&replica]);
    }
}

#[test]
fn files_that_were_only_there_for_replication_go() {
    for (primary, replica) in [(TWO, REDIS), (REDIS, TWO)] {
        let from_disk =
            ["--repl-diskless-sync", "no", "--rdb-del-sync-files", "yes", "--save", "", "--repl-disable-tcp-nodelay", "yes"];
        let servers = [primary, replica].map(|program| Server::following(program, &from_disk));
        let [primary, replica] = &servers;
        fill(primary);
        replica.follow(primary.port);
        check_same(primary, &[replica]);
        for server in &servers {
            server.logs("Removing the RDB file");
            wait_until("it is gone", || !server.dir.path().join("dump.rdb").exists());
        }
    }
}
