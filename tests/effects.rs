//! What a shard gives to the append-only file, against what redis-server 7.0.15 writes into its own: generated commands run on a
//! redis-server with `appendonly yes` and on a [`Shard`] in this process, and after each the new part of the file must be the effects.
//!
//! Times may differ by what lies between the two clocks' readings. Random choices (SPOP) are compared by their form. A difference
//! is noted, both sides are emptied, and the run goes on; `KVCORE_SEED=… KVCORE_STEPS=…` repeats one.

mod generated;
mod harness;

use generated::{Check, Gen, Group, KINDS, Kind, Step, collections, command, generic, show, sorted_sets, strings, weighted};
use harness::{Client, Server, seed, setting, wait_until};
use kvshard::command::ArgsBuf;
use kvshard::family::{ShardCommand, commands};
use kvshard::keyspace::serve::Served;
use kvshard::keyspace::waiters::{Wait, Waiter, awaited_keys};
use kvshard::keyspace::{ClientId, KeyHasher};
use kvshard::shard::Request;
use kvshard::{Settings, Shard};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

type Words = Vec<Vec<u8>>;

const GROUPS: &[(usize, Group)] = &[
    (10, strings::string),
    (4, strings::bitmap),
    (3, strings::hyperloglog),
    (12, collections::list),
    (8, collections::hash),
    (12, collections::set),
    (14, sorted_sets::sorted_set),
    (5, sorted_sets::geo),
    (20, generic::generic),
];

const STEPS: u64 = 5000;
const DATABASES: usize = 16;
/// Two clocks' readings of the same command are no further apart.
const CLOCKS_APART_MS: u64 = 2500;
/// From here on a number may be a time, in milliseconds.
const TIMES_FROM: i64 = 1_000_000_000_000;
/// Clients that may wait at the same time.
const WAITERS_MAX: usize = 3;
/// Differences after which a run gives up.
const FINDINGS_MAX: usize = 10;
/// Commands shown with a difference.
const HISTORY_SHOWN: usize = 12;

/// redis-server, its log as far as it was read, and its clients.
struct Reference {
    server: Server,
    client: Client,
    log_read: usize,
    /// Clients that wait, by the number they have at the shard.
    waiting: BTreeMap<u64, Client>,
}

/// The shard, and what its log would have selected.
struct Tested {
    shard: Shard,
    db: usize,
    selected: Option<usize>,
}

struct Pair {
    reference: Reference,
    tested: Tested,
    history: Vec<String>,
    findings: BTreeMap<String, String>,
    clients: u64,
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis() as i64
}

fn find_command(args: &[Vec<u8>]) -> Option<&'static ShardCommand> {
    let lower = |at: usize| args.get(at).map(|arg| String::from_utf8_lossy(arg).to_lowercase()).unwrap_or_default();
    let full = format!("{}|{}", lower(0), lower(1));
    let found = commands().find(|c| c.spec.name == full).or_else(|| commands().find(|c| c.spec.name == lower(0)))?;
    found.spec.arity_matches(args.len()).then_some(found)
}

/// The commands in a piece of a log.
fn parse_log(bytes: &[u8]) -> Vec<Words> {
    let (mut parsed, mut at) = (Vec::new(), 0);
    let line = |at: &mut usize| {
        let end = *at + bytes[*at..].iter().position(|byte| *byte == b'\n').expect("a whole line in the log");
        let text = String::from_utf8_lossy(&bytes[*at..end - 1]).into_owned();
        *at = end + 1;
        text
    };
    while at < bytes.len() {
        let head = line(&mut at);
        if head.starts_with('#') {
            continue;
        }
        let count: usize = head.strip_prefix('*').and_then(|count| count.parse().ok()).expect("a command");
        let words = (0..count).map(|_| {
            let len: usize = line(&mut at).strip_prefix('$').and_then(|len| len.parse().ok()).expect("a length");
            at += len + 2;
            bytes[at - len - 2..at - 2].to_vec()
        });
        let words = words.collect();
        parsed.push(words);
    }
    parsed
}

fn same_word(reference: &[u8], tested: &[u8]) -> bool {
    let time = |word: &[u8]| std::str::from_utf8(word).ok()?.parse::<i64>().ok().filter(|&number| number > TIMES_FROM);
    reference == tested || matches!((time(reference), time(tested)), (Some(a), Some(b)) if a.abs_diff(b) <= CLOCKS_APART_MS)
}

fn same_log(reference: &[Words], tested: &[Words]) -> bool {
    reference.len() == tested.len()
        && reference.iter().zip(tested).all(|(a, b)| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_word(a, b)))
}

/// As [`same_log`], looking at no member that was chosen at random.
fn same_form(reference: &[Words], tested: &[Words]) -> bool {
    let form = |log: &[Words]| log.iter().map(|words| (words[0].clone(), words.get(1).cloned(), words.len())).collect::<Vec<_>>();
    form(reference) == form(tested)
}

impl Reference {
    /// What was logged since the last call. It is in the file before the reply is sent.
    fn new_log(&mut self) -> Vec<Words> {
        let path = self.server.dir.path().join("appendonlydir/appendonly.aof.1.incr.aof");
        let bytes = std::fs::read(path).expect("redis-server's log");
        let new = parse_log(&bytes[self.log_read..]);
        self.log_read = bytes.len();
        new
    }

    /// A client of its own sends a command that must wait.
    fn block(&mut self, number: u64, args: &[Vec<u8>], db: usize) {
        let mut client = self.server.client();
        client.command(&command!["SELECT", db as i64]);
        client.send(args);
        self.waiting.insert(number, client);
        let wanted = format!("blocked_clients:{}\r\n", self.waiting.len());
        wait_until("redis-server's client waits", || self.client.run("INFO clients").text().contains(&wanted));
    }
}

impl Tested {
    /// Runs a command, and takes note of SELECT as the node would. The reply; or what it waits for.
    fn run(&mut self, args: &[Vec<u8>], may_block: bool) -> (Vec<u8>, Option<Wait>) {
        if args[0].eq_ignore_ascii_case(b"select") {
            let db = args.get(1).and_then(|db| std::str::from_utf8(db).ok()?.parse().ok()).filter(|&db: &usize| db < DATABASES);
            self.db = db.filter(|_| args.len() == 2).unwrap_or(self.db);
            return (Vec::new(), None);
        }
        let Some(command) = find_command(args) else { return (Vec::new(), None) };
        let buf = args_buf(args);
        let mut out = Vec::new();
        let request = Request {
            command,
            args: buf.args(),
            db: self.db,
            now: now_ms(),
            client: ClientId(1),
            resp3: false,
            may_block,
            no_touch: false,
            first_key: None,
        };
        let outcome = self.shard.execute(request, &mut out);
        (out, outcome.wait)
    }

    fn serve(&mut self) -> Vec<u64> {
        let mut served = Vec::new();
        self.shard.serve_ready(now_ms(), false, &mut served);
        let number = |served| match served {
            Served::Done { waiter, .. } => waiter.client.0,
            Served::Remote { .. } => unreachable!("there is one shard"),
        };
        served.into_iter().map(number).collect()
    }

    fn new_log(&mut self) -> Vec<Words> {
        let mut out = Vec::new();
        self.shard.effects.write_log(&mut self.selected, &mut out);
        self.shard.effects.clear();
        parse_log(&out)
    }
}

fn args_buf(args: &[Vec<u8>]) -> ArgsBuf {
    ArgsBuf::from_slices(&args.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

impl Pair {
    fn new(lazy_expire: bool, lazy_user_del: bool) -> Pair {
        let word = |on: bool| if on { "yes" } else { "no" };
        let server = Server::redis(&[
            "--appendonly",
            "yes",
            "--appendfsync",
            "no",
            "--aof-use-rdb-preamble",
            "no",
            "--enable-debug-command",
            "yes",
            "--lazyfree-lazy-expire",
            word(lazy_expire),
            "--lazyfree-lazy-user-del",
            word(lazy_user_del),
        ]);
        let mut client = server.client();
        // Which keys have been met by the expiry cycle is nothing that two servers agree on.
        client.run("DEBUG SET-ACTIVE-EXPIRE 0");
        let settings = Settings {
            lazyfree_lazy_expire: lazy_expire,
            lazyfree_lazy_user_del: lazy_user_del,
            sanitize_dump_payload: true,
            ..Settings::default()
        };
        let mut shard = Shard::new(KeyHasher::new([1, 2, 3, 4], 1), DATABASES, settings, 7);
        shard.effects.enabled = true;
        Pair {
            reference: Reference { server, client, log_read: 0, waiting: BTreeMap::new() },
            tested: Tested { shard, db: 0, selected: None },
            history: Vec::new(),
            findings: BTreeMap::new(),
            clients: 10,
        }
    }

    fn run(&mut self, args: &[Vec<u8>]) -> Vec<u8> {
        self.history.push(show(args));
        let (reply, wait) = self.tested.run(args, true);
        if let Some(wait) = wait {
            self.wait(args, wait);
        } else {
            self.reference.client.command(args);
        }
        reply
    }

    /// The command waits at the shard; another client of redis-server waits with it.
    fn wait(&mut self, args: &[Vec<u8>], wait: Wait) {
        self.clients += 1;
        let number = self.clients;
        let command = find_command(args).expect("it has just been run");
        let buf = args_buf(args);
        let keys: Vec<Vec<u8>> = awaited_keys(&command.spec, buf.args()).iter().map(|&at| args[at].clone()).collect();
        let waiter = Waiter {
            client: ClientId(number),
            core: 0,
            command,
            args: buf,
            db: self.tested.db,
            resp3: false,
            awaited: wait.awaited,
            claimed: Arc::new(AtomicBool::new(false)),
            remote: AtomicBool::new(false),
        };
        self.tested.shard.waiters.add(Arc::new(waiter), keys.iter().map(Vec::as_slice));
        self.reference.block(number, args, self.tested.db);
    }

    /// Serves waiting clients, and compares what both sides have logged.
    fn compare(&mut self, what: &str, same: fn(&[Words], &[Words]) -> bool) {
        let served = self.tested.serve();
        let (reference, tested) = (self.reference.new_log(), self.tested.new_log());
        if same(&reference, &tested) {
            for number in served {
                self.reference.waiting.remove(&number).expect("a client that waits").reply();
            }
            return;
        }
        // Redis 7.0 passes over a client that waits for a key of another type when a result is stored there; 7.2 serves it, as does
        // kvcore.
        let stores = ["SORT", "STORE", "GEORADIUS", "EXEC"].iter().any(|part| what.contains(part));
        if stores && !served.is_empty() && tested.len() > reference.len() && same_log(&reference, &tested[..reference.len()]) {
            return self.restart();
        }
        let lines = |log: &[Words]| log.iter().map(|words| format!("\n      {}", show(words))).collect::<String>();
        let mut text = format!("  redis-server{}\n  shard{}\n  after\n", lines(&reference), lines(&tested));
        for line in self.history.iter().rev().take(HISTORY_SHOWN).rev() {
            let _ = writeln!(text, "    {line}");
        }
        self.findings.entry(what.to_string()).or_insert(text);
        self.restart();
    }

    fn restart(&mut self) {
        for number in std::mem::take(&mut self.reference.waiting).into_keys() {
            self.tested.shard.waiters.remove(ClientId(number));
        }
        wait_until("no client waits", || self.reference.client.run("INFO clients").text().contains("blocked_clients:0\r\n"));
        for line in ["FLUSHALL", "SELECT 0"] {
            self.run(&harness::words(line));
        }
        let _ = (self.reference.new_log(), self.tested.new_log());
        self.history.clear();
    }

    fn step(&mut self, g: &mut Gen) {
        match g.below(40) {
            0 => self.let_keys_expire(g),
            1..=3 => self.transaction(g),
            4 if self.reference.waiting.len() < WAITERS_MAX => {
                let args = blocking(g);
                self.run(&args);
                self.compare(&name_of(&args), same_log);
            }
            _ => {
                let step = generate(g);
                self.single(step, g);
            }
        }
    }

    fn single(&mut self, step: Step, g: &mut Gen) {
        match &step.check {
            Check::Pop => {
                self.run(&step.args);
                self.compare("SPOP", same_form);
                if step.args.len() > 1 {
                    self.run(&command!["DEL", step.args[1].clone()]);
                    // What was left of the set differs; the deletion does not, unless one side has taken the last member.
                    self.compare("DEL behind SPOP", same_log);
                }
            }
            Check::Transfer => {
                let reply = self.run(&step.args);
                self.compare("DUMP", same_log);
                let Some(start) = reply.iter().position(|byte| *byte == b'\n').filter(|_| reply.len() > 7) else { return };
                let payload = reply[start + 1..reply.len() - 2].to_vec();
                let mut args = command![g.cased("RESTORE"), g.key(Kind::Text)];
                args.extend(if g.chance(50) { command![g.far_milliseconds()] } else { command!["0"] });
                args.push(payload);
                if g.chance(30) {
                    args[2] = g.unix_milliseconds().into_bytes();
                    args.push(b"absttl".to_vec());
                }
                if g.chance(60) {
                    args.push(b"REPLACE".to_vec());
                }
                self.run(&args);
                self.compare("RESTORE", same_log);
            }
            // Which expired keys these come across depends on the order of the table.
            Check::Scan { cursor: 1 } => {}
            _ if step.name() == "RANDOMKEY" => {}
            // Redis then serves in the order of a hash table.
            _ if step.name() == "SWAPDB" && !self.reference.waiting.is_empty() => {}
            _ => {
                self.run(&step.args);
                self.compare(&step.name(), same_log);
            }
        }
    }

    /// MULTI, some commands, EXEC: at the shard one group.
    fn transaction(&mut self, g: &mut Gen) {
        let steps: Vec<Step> = (0..1 + g.below(6)).map(|_| generate(g)).collect();
        let select = |args: &[Vec<u8>]| args[0].eq_ignore_ascii_case(b"select") && args.len() == 2;
        // An unknown subcommand would end the transaction.
        let known = |step: &Step| step.name() != "OBJECT" && (find_command(&step.args).is_some() || select(&step.args));
        let by_chance = |step: &Step| ["RANDOMKEY", "SWAPDB"].contains(&step.name().as_str());
        let usable = |step: &Step| step.is_plain() && !by_chance(step) && known(step);
        let steps: Vec<Step> = steps.into_iter().filter(usable).collect();
        self.history.push("MULTI".into());
        self.reference.client.run("MULTI");
        self.tested.shard.effects.begin();
        for step in &steps {
            self.history.push(show(&step.args));
            let queued = self.reference.client.command(&step.args);
            assert_eq!(queued.text(), "QUEUED", "{}", step.show());
        }
        // Both run the block now, at nearly the same time.
        for step in &steps {
            let (_, wait) = self.tested.run(&step.args, false);
            assert!(wait.is_none(), "nothing waits in a transaction");
        }
        self.tested.shard.effects.end();
        self.history.push("EXEC".into());
        self.reference.client.run("EXEC");
        self.compare("EXEC", same_log);
    }

    /// Some keys expire, of which nobody takes notice until a command comes across them.
    fn let_keys_expire(&mut self, g: &mut Gen) {
        let at_ms = now_ms() + 40;
        for _ in 0..8 {
            let kind = g.random.pick(KINDS).0;
            if now_ms() > at_ms - 15 {
                break;
            }
            let args = command!["PEXPIREAT", g.key(kind), at_ms];
            self.run(&args);
            if now_ms() >= at_ms {
                // The machine stood still in between: for one of the two the time may have passed before the command.
                return self.restart();
            }
            self.compare("PEXPIREAT", same_log);
        }
        while now_ms() <= at_ms + 3 {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.history.push("(these keys expire)".into());
    }
}

fn name_of(args: &[Vec<u8>]) -> String {
    String::from_utf8_lossy(&args[0]).to_uppercase()
}

fn generate(g: &mut Gen) -> Step {
    // Timeouts would come at different times: commands that wait are made here.
    g.quiet = true;
    weighted(GROUPS, g)
}

/// A command that waits for ever if it finds nothing.
fn blocking(g: &mut Gen) -> Words {
    let (list, zset) = (g.key(Kind::List), g.key(Kind::Scored));
    match g.below(8) {
        0 => command!["BLPOP", list, g.key(Kind::List), "0"],
        1 => command!["BRPOP", list, "0"],
        2 => command!["BLMOVE", list, g.key(Kind::List), g.one_of(&["LEFT", "right"]), g.one_of(&["left", "RIGHT"]), "0"],
        3 => command!["BRPOPLPUSH", list, g.key(Kind::List), "0"],
        4 => command!["BLMPOP", "0", "2", list, g.key(Kind::List), g.one_of(&["LEFT", "RIGHT"]), "COUNT", "3"],
        5 => command!["BZPOPMIN", zset, g.key(Kind::Scored), "0"],
        6 => command!["BZPOPMAX", zset, "0"],
        _ => command!["BZMPOP", "0", "1", zset, g.one_of(&["MIN", "max"]), "COUNT", "2"],
    }
}

fn run(lazy_expire: bool, lazy_user_del: bool) {
    let seed = seed();
    let mut g = Gen::new(seed);
    let mut pair = Pair::new(lazy_expire, lazy_user_del);
    let steps = setting("KVCORE_STEPS", STEPS);
    for _ in 0..steps {
        pair.step(&mut g);
        if pair.findings.len() >= FINDINGS_MAX {
            break;
        }
    }
    if !pair.findings.is_empty() {
        let mut report = format!("{} differences; replay with KVCORE_SEED={seed} KVCORE_STEPS={steps}\n", pair.findings.len());
        for (what, text) in &pair.findings {
            let _ = write!(report, "\n== {what}\n{text}");
        }
        panic!("{report}");
    }
}

#[test]
fn a_shard_logs_what_redis_logs() {
    run(false, false);
}

#[test]
fn a_shard_logs_what_redis_logs_with_lazy_freeing() {
    run(true, true);
}
