//! The real HAProxy with `conf/haproxy.cfg` in front of a primary and its replicas: who is UP on which port, and what clients meet there
//! when another server is promoted.

mod harness;

use harness::{Client, Program, Server, Value, wait_until};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PASSWORD: &[&str] = &["--requirepass", "mypassword", "--masterauth", "mypassword"];

/// HAProxy's ports in the sample, and their stand-ins.
struct Balancer {
    child: Child,
    writes: u16,
    reads: u16,
    stats: u16,
    dir: tempfile::TempDir,
}

impl Balancer {
    /// The sample with the test's addresses in the place of its own.
    fn before(servers: &[&Server]) -> Balancer {
        let sample = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/haproxy.cfg")).expect("the sample");
        let listeners: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind(("127.0.0.1", 0)).expect("a free port")).collect();
        let ports: Vec<u16> = listeners.iter().map(|listener| listener.local_addr().expect("its address").port()).collect();
        let mut text = sample.replace("maxconn 1000000", "maxconn 500").replace("check inter 1s", "check inter 200ms");
        for (from, port) in [("*:5000", ports[0]), ("*:5001", ports[1]), ("0.0.0.0:9000", ports[2])] {
            assert!(text.contains(from));
            text = text.replace(from, &format!("127.0.0.1:{port}"));
        }
        let sample_servers = ["10.0.0.201:6379", "10.0.0.211:6379", "10.0.0.212:6379", "10.0.0.213:6379"];
        for (index, from) in sample_servers.into_iter().enumerate() {
            assert_eq!(text.matches(from).count(), 2);
            // A server that is not there.
            let port = servers.get(index).map_or(1, |server| server.port);
            text = text.replace(from, &format!("127.0.0.1:{port}"));
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("haproxy.cfg");
        std::fs::write(&file, text).expect("written");
        drop(listeners);
        let log = File::create(dir.path().join("haproxy.log")).expect("a log file");
        let child = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log)
            .spawn()
            .expect("haproxy: tests/run installs it");
        let balancer = Balancer { child, writes: ports[0], reads: ports[1], stats: ports[2], dir };
        wait_until("HAProxy answers", || TcpStream::connect(("127.0.0.1", balancer.stats)).is_ok());
        balancer
    }

    /// `backend/server` and its state, from the statistics page.
    fn states(&self) -> BTreeMap<String, String> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.stats)).expect("the statistics page");
        // haproxy:password
        let request = "GET /stats;csv HTTP/1.0\r\nAuthorization: Basic aGFwcm94eTpwYXNzd29yZA==\r\n\r\n";
        socket.write_all(request.as_bytes()).expect("sent");
        let mut text = String::new();
        socket.read_to_string(&mut text).expect("the page");
        let lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let rows = lines.filter(|row| row.len() > 17 && row[1].starts_with('R'));
        rows.map(|row| (format!("{}/{}", row[0], row[1]), row[17].to_owned())).collect()
    }

    /// The servers that are UP behind each of the two ports. A check that is failing for the first time still counts as `UP`.
    fn up(&self) -> [Vec<String>; 2] {
        let states = self.states();
        ["bk_redis_master/", "bk_redis_slave/"].map(|backend| {
            let up = states.iter().filter(|(_, state)| state.starts_with("UP"));
            up.filter_map(|(name, _)| name.strip_prefix(backend).map(str::to_owned)).collect()
        })
    }

    #[track_caller]
    fn shows(&self, writes: &[&str], reads: &[&str]) {
        let expected = [writes, reads].map(|names| names.iter().map(|name| name.to_string()).collect::<Vec<_>>());
        let mut last = String::new();
        let deadline = Instant::now() + harness::PATIENCE;
        while self.up() != expected {
            last.clear();
            last.push_str(&format!("{:?}", self.states()));
            let log = || std::fs::read_to_string(self.dir.path().join("haproxy.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "expected {expected:?}: {last}\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ended = (self.child.kill(), self.child.wait());
    }
}

/// A client through HAProxy; `None` while no server is UP there.
fn client_at(port: u16) -> Option<Client> {
    let mut client = Client::connect(port).ok()?;
    client.try_send_raw(b"*2\r\n$4\r\nAUTH\r\n$10\r\nmypassword\r\n").ok()?;
    (client.try_message().ok()? == Value::ok()).then_some(client)
}

fn with_password(server: &Server) -> Client {
    let mut client = server.client();
    assert_eq!(client.run("AUTH mypassword"), Value::ok());
    client
}

fn follow(replica: &Server, primary: &Server) {
    assert_eq!(with_password(replica).run(&format!("REPLICAOF 127.0.0.1 {}", primary.port)), Value::ok());
    wait_until("the link is up", || with_password(replica).run("INFO replication").text().contains("master_link_status:up"));
}

/// F1, byte by byte: the check as HAProxy sends it, in the form of inline commands.
#[test]
fn the_check_is_answered_as_haproxy_expects() {
    let [primary, replica] = [2, 1].map(|cores| Server::following(Program::Kvcore { cores }, PASSWORD));
    let check = b"AUTH mypassword\r\nPING\r\ninfo replication\r\nQUIT\r\n";
    let reply = |server: &Server| {
        let mut client = server.client();
        client.send_raw(check);
        String::from_utf8(client.read_until_closed(harness::PATIENCE).expect("it closes after QUIT")).expect("text")
    };
    let lone = reply(&primary);
    assert!(lone.starts_with("+OK\r\n+PONG\r\n$") && lone.ends_with("+OK\r\n"), "{lone}");
    assert!(lone.contains("role:master") && lone.contains("repl_backlog_active:0"), "a primary that never had a replica: {lone}");
    follow(&replica, &primary);
    let [primary, replica] = [reply(&primary), reply(&replica)];
    assert!(primary.contains("role:master") && primary.contains("repl_backlog_active:1"), "{primary}");
    assert!(replica.contains("role:slave") && replica.contains("repl_backlog_active:1"), "{replica}");
    assert!(primary.len() < 16 << 10);
}

/// F2 to F6: one server behind the port for writes, the replicas behind that for reads, and the switch.
#[test]
fn writes_go_to_the_primary_and_reads_to_replicas_through_a_promotion() {
    let start = |cores| Server::following(Program::Kvcore { cores }, PASSWORD);
    let (mut first, second, third) = (start(2), start(2), Server::following(Program::Redis, PASSWORD));
    let balancer = Balancer::before(&[&first, &second, &third]);
    // Nobody has a replica: nobody is the one to write to.
    balancer.shows(&[], &[]);
    follow(&second, &first);
    follow(&third, &first);
    balancer.shows(&["R1"], &["R2", "R3"]);
    let mut writer = client_at(balancer.writes).expect("a server for writes");
    assert_eq!(writer.run("SET a 1"), Value::ok());
    assert_eq!(writer.run("WAIT 2 0"), Value::Integer(2));
    let mut readers = [(); 4].map(|()| client_at(balancer.reads).expect("a server for reads"));
    for reader in &mut readers {
        assert_eq!(reader.run("GET a"), Value::bulk("1"));
        assert!(reader.run("SET b 1").is_error());
    }
    let ports = readers.each_mut().map(|reader| reader.run("CONFIG GET port").items()[1].text());
    assert!(ports.iter().any(|port| *port != ports[0]), "the replicas take turns: {ports:?}");
    // The primary dies, the second is promoted.
    let died = Instant::now();
    first.kill();
    assert_eq!(with_password(&second).run("REPLICAOF NO ONE"), Value::ok());
    let mut again = None;
    wait_until("writes reach the new primary", || {
        again = client_at(balancer.writes).filter(|_| balancer.up()[0] == ["R2"]);
        again.is_some()
    });
    println!("{:?} from the kill to the first connection for writes", died.elapsed());
    let mut writer = again.expect("set above");
    assert_eq!(writer.run("SET a 2"), Value::ok());
    assert_eq!(writer.run("CONFIG GET port").items()[1].text(), second.port.to_string());
    follow(&third, &second);
    balancer.shows(&["R2"], &["R3"]);
    // A demotion ends the sessions for writes instead of refusing each command.
    follow(&second, &third);
    assert_eq!(with_password(&third).run("REPLICAOF NO ONE"), Value::ok());
    balancer.shows(&["R3"], &["R2"]);
    let deadline = Instant::now() + harness::PATIENCE;
    while writer.try_send_raw(b"*1\r\n$4\r\nPING\r\n").is_ok() && writer.try_message().is_ok() {
        assert!(Instant::now() < deadline, "the session for writes outlives the demotion");
        std::thread::sleep(Duration::from_millis(5));
    }
}
