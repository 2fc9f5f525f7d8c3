//! Servers that follow others: attaching them, waiting until they have caught up, and what they must have in common then.

use super::{Client, Program, Server, Value, wait_until};
use std::collections::BTreeMap;

pub const ONE: Program = Program::Kvcore { cores: 1 };
pub const TWO: Program = Program::Kvcore { cores: 2 };
pub const THREE: Program = Program::Kvcore { cores: 3 };
pub const REDIS: Program = Program::Redis;

/// What every server of a replication test is started with.
pub const FOLLOWING: &[&str] = &["--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0"];

impl Server {
    /// A server for a replication test, with further arguments.
    pub fn following(program: Program, extra: &[&str]) -> Server {
        Server::start(program, &[FOLLOWING, extra].concat())
    }

    /// REPLICAOF.
    #[track_caller]
    pub fn follow(&self, port: u16) {
        let reply = self.client().run(&format!("REPLICAOF 127.0.0.1 {port}"));
        assert!(matches!(&reply, Value::Simple(text) if text.starts_with("OK")), "{reply}");
    }

    /// REPLICAOF NO ONE.
    #[track_caller]
    pub fn stand_alone(&self) {
        assert_eq!(self.client().run("REPLICAOF NO ONE"), Value::ok());
    }

    /// A field of INFO; empty if there is none.
    #[track_caller]
    pub fn info(&self, field: &str) -> String {
        field_of(&mut self.client(), field)
    }

    /// The same as a number.
    #[track_caller]
    pub fn info_number(&self, field: &str) -> i64 {
        let text = self.info(field);
        text.parse().unwrap_or_else(|_| panic!("{field}:{text} is not a number"))
    }

    /// Waits until the server's link to its primary is up.
    #[track_caller]
    pub fn linked(&self) {
        let mut client = self.client();
        wait_until(&format!("the link of {:?} is up; its log:\n{}", self.program, self.log()), || {
            field_of(&mut client, "master_link_status") == "up"
        });
    }

    /// Waits until the log has the line's words.
    #[track_caller]
    pub fn logs(&self, words: &str) {
        wait_until(&format!("{:?} logs {words:?}", self.program), || self.log().contains(words));
    }

    pub fn digest(&self) -> String {
        self.client().run("DEBUG DIGEST").text()
    }
}

/// A field of INFO; empty if there is none.
#[track_caller]
pub fn field_of(client: &mut Client, field: &str) -> String {
    client.find_info("all", field).unwrap_or_default()
}

/// Waits until the replicas have done all that the primary has. Nobody may write meanwhile.
#[track_caller]
pub fn caught_up(primary: &Server, replicas: &[&Server]) {
    let mut ahead = primary.client();
    // What is behind this reply is in the offset.
    ahead.run("WAIT 0 1");
    for replica in replicas {
        let mut behind = replica.client();
        let mut last = String::new();
        let deadline = std::time::Instant::now() + super::PATIENCE;
        loop {
            let (up, at) = (field_of(&mut behind, "master_link_status"), field_of(&mut behind, "slave_repl_offset"));
            let offset = field_of(&mut ahead, "master_repl_offset");
            if up == "up" && at == offset {
                break;
            }
            last.clear();
            last.push_str(&format!("link {up}, {at} of {offset}"));
            assert!(
                std::time::Instant::now() < deadline,
                "{:?} does not catch up: {last}; its log:\n{}\nand that of its primary {:?}:\n{}",
                replica.program,
                replica.log(),
                primary.program,
                primary.log()
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// The replicas have caught up, and hold what the primary holds. Nobody may write meanwhile, and nothing expire.
#[track_caller]
pub fn check_same(primary: &Server, replicas: &[&Server]) {
    caught_up(primary, replicas);
    let expected = primary.digest();
    for replica in replicas {
        if replica.digest() != expected {
            let (here, there) = (contents(primary), contents(replica));
            let differs = |key: &&(i64, Vec<u8>)| here.get(*key) != there.get(*key);
            let keys: Vec<_> = here.keys().chain(there.keys()).filter(differs).take(5).collect();
            let shown = |(db, key): &(i64, Vec<u8>)| {
                let [here, there] = [&here, &there].map(|side| side.get(&(*db, key.clone())));
                format!("{db} {}: {here:?} and {there:?}", key.escape_ascii())
            };
            let lines: Vec<String> = keys.into_iter().map(shown).collect();
            // What has expired is in no list of keys, but it is counted.
            let [ours, theirs] = [primary, replica].map(|server| server.client().run("INFO keyspace").text());
            panic!(
                "{:?} does not hold what {:?} holds:\n{}\n{ours}{theirs}still so: {}",
                replica.program,
                primary.program,
                lines.join("\n"),
                replica.digest() != primary.digest()
            );
        }
    }
}

/// For each key of each database: the digest of its value and the time of its expiry.
pub fn contents(server: &Server) -> BTreeMap<(i64, Vec<u8>), (String, i64)> {
    let (mut client, mut found) = (server.client(), BTreeMap::new());
    for db in 0..16 {
        client.run(&format!("SELECT {db}"));
        for key in client.run("KEYS *").items() {
            let digest = client.command(&[&b"DEBUG"[..], b"DIGEST-VALUE", key.bytes()]).items()[0].text();
            let expiry = client.command(&[&b"PEXPIRETIME"[..], key.bytes()]).integer();
            found.insert((db, key.bytes().to_vec()), (digest, expiry));
        }
    }
    found
}

/// Keys that expire later than in a few seconds do so at the same time on both.
#[track_caller]
pub fn check_expiries(primary: &Server, replica: &Server) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let [here, there] = [primary, replica].map(|server| {
        let mut all = contents(server);
        all.retain(|_, (_, expiry)| *expiry == -1 || *expiry > now + 5000);
        all.into_iter().map(|(key, (_, expiry))| (key, expiry)).collect::<BTreeMap<_, _>>()
    });
    let differs = |key: &&(i64, Vec<u8>)| here.get(*key) != there.get(*key);
    let shown =
        |key: &(i64, Vec<u8>)| format!("{} {}: {:?} and {:?}", key.0, key.1.escape_ascii(), here.get(key), there.get(key));
    let wrong: Vec<String> = here.keys().chain(there.keys()).filter(differs).map(shown).take(10).collect();
    assert!(wrong.is_empty(), "{:?} does not have what {:?} has:\n{}", replica.program, primary.program, wrong.join("\n"));
}

/// Takes the expiry of every key away.
#[track_caller]
pub fn persist_all(client: &mut Client) {
    for db in 0..16 {
        client.run(&format!("SELECT {db}"));
        for keys in client.run("KEYS *").items().chunks(1000) {
            let requests: Vec<Vec<&[u8]>> = keys.iter().map(|key| vec![&b"PERSIST"[..], key.bytes()]).collect();
            client.pipeline(&requests);
        }
    }
}

/// The same, and waits until what had expired is gone, so that a digest stays what it is.
#[track_caller]
pub fn keep_all(server: &Server) {
    let mut client = server.client();
    persist_all(&mut client);
    wait_until("what has expired is gone", || {
        let keyspace = client.run("INFO keyspace").text();
        keyspace.lines().filter(|line| line.starts_with("db")).all(|line| line.contains(",expires=0,"))
    });
}

/// The names of INFO replication's fields, in their order.
pub fn field_names(server: &Server) -> Vec<String> {
    let text = server.client().run("INFO replication").text();
    text.lines().filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect()
}

/// What must hold of a node's offsets at any time (B9).
#[track_caller]
pub fn check_offsets(server: &Server) {
    let text = server.client().run("INFO replication").text();
    let number = |name: &str| -> i64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.parse().ok()).unwrap_or_else(|| panic!("no {name} in\n{text}"))
    };
    let (offset, second) = (number("master_repl_offset"), number("second_repl_offset"));
    if number("repl_backlog_active") == 1 {
        let (first, len) = (number("repl_backlog_first_byte_offset"), number("repl_backlog_histlen"));
        assert_eq!(first + len - 1, offset, "{text}");
        assert!(len <= number("repl_backlog_size") + (64 << 10), "{text}");
    }
    assert!(second <= offset + 1, "{text}");
}
