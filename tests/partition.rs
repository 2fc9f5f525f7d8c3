//! A network that falls apart and heals: three nodes in network namespaces of the test's own, the way between them blocked with iptables
//! as an administrator would try it out (E3 to E7, without Sentinel: the test promotes).
//!
//! Each namespace has one end of a veth pair, whose other end is a port of a bridge in a fourth one. Nothing of the machine's own network is touched.

mod harness;

use harness::{kvcore_path, wait_until};
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Runs `ip` with these words.
fn ip(words: &str) -> Result<(), String> {
    let output = Command::new("ip").args(words.split(' ')).output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {words}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Namespaces that end with the test.
struct Network {
    name: String,
    nodes: usize,
}

impl Network {
    /// Fails where the machine forbids namespaces.
    fn of(test: &str, nodes: usize) -> Result<Network, String> {
        let network = Network { name: format!("kvt-{}-{test}", std::process::id()), nodes };
        let hub = network.hub();
        ip(&format!("netns add {hub}"))?;
        ip(&format!("-n {hub} link add bridge0 type bridge"))?;
        ip(&format!("-n {hub} link set bridge0 up"))?;
        for number in 0..nodes {
            let space = network.space(number);
            ip(&format!("netns add {space}"))?;
            ip(&format!("-n {space} link set lo up"))?;
            ip(&format!("-n {hub} link add port{number} type veth peer name eth0 netns {space}"))?;
            ip(&format!("-n {hub} link set port{number} master bridge0 up"))?;
            ip(&format!("-n {space} address add {}/24 dev eth0", address(number)))?;
            ip(&format!("-n {space} link set eth0 up"))?;
        }
        Ok(network)
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.name)
    }

    fn space(&self, number: usize) -> String {
        format!("{}-{number}", self.name)
    }

    /// `iptables` in a node's namespace.
    #[track_caller]
    fn filter(&self, number: usize, words: &str) {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.space(number), "iptables"])
            .args(words.split(' '))
            .output()
            .expect("iptables: tests/run installs it");
        assert!(output.status.success(), "iptables {words}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let spaces = (0..self.nodes).map(|number| self.space(number)).chain([self.hub()]);
        spaces.for_each(|space| drop(ip(&format!("netns del {space}"))));
    }
}

fn address(number: usize) -> String {
    format!("10.77.0.{}", number + 1)
}

const PORT: &str = "6379";

/// A kvcore in a namespace.
struct Node {
    space: String,
    address: String,
    child: Child,
    dir: tempfile::TempDir,
}

impl Node {
    fn start(network: &Network, number: usize, extra: &[&str]) -> Node {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = File::create(dir.path().join("out.log")).expect("a log file");
        let child = Command::new("ip")
            .args(["netns", "exec", &network.space(number)])
            .arg(kvcore_path())
            .args(["--cores", "2", "--port", PORT, "--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""])
            .args(["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1", "--repl-timeout", "3"])
            .args(extra)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log)
            .spawn()
            .expect("ip netns exec");
        let node = Node { space: network.space(number), address: address(number), child, dir };
        wait_until("it answers", || node.run("PING") == "PONG");
        node
    }

    /// What redis-cli in the node's own namespace says.
    fn run(&self, line: &str) -> String {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.space, "redis-cli", "-p", PORT])
            .args(line.split(' '))
            .output()
            .expect("redis-cli");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn info(&self, field: &str) -> String {
        let text = self.run("INFO all");
        let found = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        found.unwrap_or_default().trim().to_owned()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("out.log")).unwrap_or_default()
    }

    #[track_caller]
    fn follow(&self, primary: &Node) {
        assert!(self.run(&format!("REPLICAOF {} {PORT}", primary.address)).starts_with("OK"));
    }

    #[track_caller]
    fn linked(&self) {
        wait_until("the link is up", || self.info("master_link_status") == "up");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ended = (self.child.kill(), self.child.wait());
        let log = self.log();
        if std::thread::panicking() {
            eprintln!("{}:\n{log}", self.address);
        }
        assert!(std::thread::panicking() || !log.contains("panicked at"), "{log}");
    }
}

/// The network, or why there is none.
fn network(test: &str, nodes: usize) -> Option<Network> {
    assert!(Path::new("/usr/sbin/iptables").exists() || Path::new("/sbin/iptables").exists(), "iptables: tests/run installs it");
    match Network::of(test, nodes) {
        Ok(network) => Some(network),
        Err(why) => {
            println!("left out, as this machine forbids network namespaces: {why}");
            None
        }
    }
}

/// E3 to E7: the primary loses its replicas, one of them is promoted, both sides write, and what the old one wrote is gone once it follows.
#[test]
fn writes_of_an_isolated_primary_are_discarded_when_it_follows_again() {
    let Some(network) = network("e", 3) else { return };
    let [old, new, other] = [0, 1, 2].map(|number| Node::start(&network, number, &[]));
    for replica in [&new, &other] {
        replica.follow(&old);
        replica.linked();
    }
    assert_eq!(old.run("SET before 1"), "OK");
    wait_until("it arrives", || new.run("GET before") == "1" && other.run("GET before") == "1");
    // E3: the replicas' addresses are blocked on the primary.
    for number in [1, 2] {
        network.filter(0, &format!("-A INPUT -s {} -j DROP", address(number)));
    }
    for replica in [&new, &other] {
        wait_until("the link is down", || replica.info("master_link_status") == "down");
        assert_eq!(replica.info("master_host"), address(0));
    }
    // E4: whoever has more of the stream is promoted.
    let offset = |node: &Node| node.info("slave_repl_offset").parse::<u64>().expect("a number");
    let (new, other) = if offset(&new) >= offset(&other) { (new, other) } else { (other, new) };
    assert_eq!(new.run("REPLICAOF NO ONE"), "OK");
    other.follow(&new);
    other.linked();
    assert_eq!(new.info("sync_full"), "0", "{}", new.log());
    wait_until("the isolated one has noticed", || old.info("connected_slaves") == "0");
    assert_eq!(old.info("role"), "master");
    assert_eq!((new.info("role"), new.info("connected_slaves")), ("master".into(), "1".into()));
    // E5
    assert_eq!(new.run("SET iam master"), "OK");
    assert_eq!(old.run("SET iwas master"), "OK");
    assert_eq!(old.run("SET iam nobody"), "OK");
    // E6
    network.filter(0, "-F");
    old.follow(&new);
    old.linked();
    wait_until("both are attached", || new.info("connected_slaves") == "2" && new.info("slave1").contains("state=online"));
    // E7
    wait_until("they hold the same", || old.run("GET iam") == "master");
    assert_eq!(old.run("GET iwas"), "");
    assert_eq!(old.run("GET before"), "1");
    assert_eq!(new.run("DBSIZE"), "2");
    assert_eq!(old.run("DBSIZE"), "2");
    let log = old.log();
    let line = log
        .lines()
        .find_map(|line| line.split_once("Discarding ")?.1.split_once(" bytes of this node's own replication history"));
    let bytes: usize =
        line.and_then(|(bytes, _)| bytes.parse().ok()).unwrap_or_else(|| panic!("not a word about what is lost:\n{log}"));
    assert!((60..1000).contains(&bytes), "two SETs are {bytes} bytes");
}

/// The protected case of E5: the isolated primary refuses writes once its replicas have been silent for too long.
#[test]
fn an_isolated_primary_that_needs_replicas_refuses_writes() {
    let Some(network) = network("n", 2) else { return };
    let options = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "2"];
    let [primary, replica] = [0, 1].map(|number| Node::start(&network, number, &options));
    replica.follow(&primary);
    replica.linked();
    wait_until("writes are taken", || primary.run("SET a 1") == "OK");
    network.filter(0, &format!("-A INPUT -s {} -j DROP", address(1)));
    let cut = Instant::now();
    wait_until("writes are refused", || primary.run("SET a 2").starts_with("NOREPLICAS"));
    assert!(cut.elapsed() < Duration::from_secs(6), "{:?}", cut.elapsed());
    network.filter(0, "-F");
    wait_until("writes are taken again", || primary.run("SET a 3") == "OK");
    wait_until("and arrive", || replica.run("GET a") == "3");
}

/// Packets are lost for a while, in one direction or in both: the stream goes on, or is continued, and nothing is missing.
#[test]
fn lost_packets_lose_nothing() {
    let Some(network) = network("l", 2) else { return };
    let [primary, replica] = [0, 1].map(|number| Node::start(&network, number, &[]));
    replica.follow(&primary);
    replica.linked();
    let rules = [
        "-A INPUT -m statistic --mode random --probability 0.3 -j DROP",
        "-A OUTPUT -o eth0 -m statistic --mode random --probability 0.3 -j DROP",
        "-A INPUT -i eth0 -p tcp -j REJECT --reject-with tcp-reset",
        "-A INPUT -i eth0 -j DROP",
    ];
    for (round, rule) in rules.into_iter().enumerate() {
        network.filter(1, &rule.replace("-A INPUT -m", "-A INPUT -i eth0 -m"));
        for number in 0..30 {
            assert_eq!(primary.run(&format!("SET key:{round}:{number} {round}")), "OK");
        }
        network.filter(1, "-F");
    }
    let expected = primary.run("DBSIZE");
    wait_until("all is there", || replica.info("master_link_status") == "up" && replica.run("DBSIZE") == expected);
    assert_eq!(primary.info("sync_full"), "1", "{}", primary.log());
}
