//! Running generated commands against both servers, and comparing replies, events and what the keys hold.
//!
//! A difference does not end a run: it is noted, both servers are emptied, and the run goes on, so that one run shows several
//! faults. It fails at its end with all of them.

use crate::generated::{Check, Gen, Group, Step, command, leaves, shape, show, weighted};
use crate::harness::{Client, Server, Value, seed, setting};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

/// What a run consists of.
#[derive(Clone, Copy)]
pub struct Plan {
    pub groups: &'static [(usize, Group)],
    pub cores: usize,
    pub resp3: bool,
    /// Steps unless `KVCORE_STEPS` says otherwise.
    pub steps: u64,
    /// Also compare keyspace events.
    pub events: bool,
}

/// Thresholds low enough that every encoding occurs; half of the runs use them.
const LOW_THRESHOLDS: &[&str] = &[
    "--hash-max-listpack-entries",
    "8",
    "--hash-max-listpack-value",
    "20",
    "--set-max-intset-entries",
    "12",
    "--zset-max-listpack-entries",
    "8",
    "--zset-max-listpack-value",
    "20",
    "--list-max-listpack-size",
    "4",
    "--list-compress-depth",
    "1",
];

/// Databases the generators use.
const DATABASES: usize = 3;
/// Steps between two comparisons of the whole contents.
const STEPS_BETWEEN_STATES: usize = 200;
/// Comparisons of the contents between two fresh starts.
const STATES_BETWEEN_FLUSHES: usize = 8;
/// Differences after which a run gives up.
const FINDINGS_MAX: usize = 12;
/// Commands shown with a difference.
const HISTORY_SHOWN: usize = 20;
/// Looks, a millisecond apart, for events of other cores that are still on their way.
const EVENT_LOOKS_MAX: usize = 500;
const PTTL_TOLERANCE_MS: u64 = 2500;

struct Side {
    client: Client,
    /// Another connection, for interference under WATCH.
    other: Client,
    events: Option<Client>,
    server: Server,
}

struct Pair {
    reference: Side,
    tested: Side,
    plan: Plan,
    seed: u64,
    history: Vec<String>,
    findings: BTreeMap<String, String>,
    /// Commands that kvcore does not know; they are reported once and then left out.
    missing: BTreeSet<String>,
    /// Keys that SORT has read in this step.
    sorted: Vec<Vec<u8>>,
    healed: bool,
}

pub fn run(name: &str, plan: Plan) {
    let seed = seed();
    let mut g = Gen::new(seed);
    let mut extra = vec!["--enable-debug-command", "yes"];
    if g.chance(50) {
        extra.extend(LOW_THRESHOLDS);
    }
    if plan.events {
        extra.extend(["--notify-keyspace-events", "KEA"]);
    }
    let mut pair = Pair {
        reference: Side::new(Server::redis(&extra), plan),
        tested: Side::new(Server::kvcore(plan.cores, &extra), plan),
        plan,
        seed,
        history: Vec::new(),
        findings: BTreeMap::new(),
        missing: BTreeSet::new(),
        sorted: Vec::new(),
        healed: false,
    };
    let steps = setting("KVCORE_STEPS", plan.steps) as usize;
    let (mut done, mut states) = (0, 0);
    while done < steps && pair.findings.len() < FINDINGS_MAX {
        let mut since = 0;
        while since < STEPS_BETWEEN_STATES && !pair.healed {
            since += pair.some_steps(&mut g);
        }
        done += since;
        pair.healed = false;
        pair.compare_state();
        pair.history.clear();
        states += 1;
        if states % STATES_BETWEEN_FLUSHES == 0 {
            pair.restart();
        }
    }
    pair.tested.server.check_healthy();
    let mut findings = std::mem::take(&mut pair.findings);
    if !pair.missing.is_empty() {
        findings.insert("commands that kvcore does not know".into(), format!("  {:?}\n", pair.missing));
    }
    drop(pair);
    if !findings.is_empty() {
        let mut report = format!("{name}: {} differences; replay with KVCORE_SEED={seed} KVCORE_STEPS={steps}\n", findings.len());
        for (what, text) in &findings {
            let _ = write!(report, "\n== {what}\n{text}");
        }
        panic!("{report}");
    }
}

impl Side {
    fn new(server: Server, plan: Plan) -> Side {
        let open = || if plan.resp3 { server.client3() } else { server.client() };
        let events = plan.events.then(|| {
            let mut client = server.client3();
            client.send(&["PSUBSCRIBE", "__key*__:*"]);
            client.message();
            // A key that is set with a time in the past goes when the expiry cycle finds it, at another step on each side.
            server.client().command(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
            client
        });
        Side { client: open(), other: open(), events, server }
    }

    /// The keyspace events since the last call.
    fn take_events(&mut self) -> Vec<String> {
        let Some(events) = &mut self.events else { return Vec::new() };
        let mut seen = Vec::new();
        events.send(&["PING", "end"]);
        loop {
            match events.message() {
                Value::Push(items) => seen.push(format!("{} {}", items[2].text(), items[3].text())),
                _ => return seen,
            }
        }
    }
}

impl Pair {
    /// Runs a step, or a few in a pipeline or transaction; the number of steps.
    fn some_steps(&mut self, g: &mut Gen) -> usize {
        let steps = self.run_some(g);
        // In Redis, SORT changes the encoding of a sorted set that it reads for good, which nobody relies on.
        for key in std::mem::take(&mut self.sorted) {
            if self.reference.client.command(&command!["TYPE", key.clone()]) == Value::Simple("zset".into()) {
                let _ = self.both(&command!["DEL", key]);
            }
        }
        let _ = (self.reference.take_events(), self.tested.take_events());
        steps
    }

    fn run_some(&mut self, g: &mut Gen) -> usize {
        match g.below(12) {
            0 | 1 => self.pipeline(g),
            2 => self.transaction(g),
            _ => {
                g.quiet = false;
                let step = self.generate(g);
                self.single(step);
                1
            }
        }
    }

    fn generate(&mut self, g: &mut Gen) -> Step {
        let mut step = weighted(self.plan.groups, g);
        if g.chance(4) {
            g.spoil(&mut step);
        }
        if self.missing.contains(&step.name()) { Step::exact(command!["PING"]) } else { step }
    }

    fn note(&mut self, step: &Step) {
        if step.name().starts_with("SORT") {
            self.sorted.extend(step.args.get(1).cloned());
        }
        self.history.push(step.show());
    }

    fn single(&mut self, step: Step) {
        self.note(&step);
        match &step.check {
            Check::Scan { cursor } => self.scan(&step, *cursor),
            Check::Sample { source } => self.sample(&step, &source.clone()),
            Check::Pop => self.pop(&step),
            Check::Transfer => self.transfer(&step),
            _ => {
                let (reference, tested) = self.both(&step.args);
                self.expect(&step, &reference, &tested);
            }
        }
        if self.plan.events && step.check != Check::Pop {
            self.compare_events(&step.name());
        } else {
            let _ = (self.reference.take_events(), self.tested.take_events());
        }
    }

    fn both(&mut self, args: &[Vec<u8>]) -> (Value, Value) {
        (self.reference.client.command(args), self.tested.client.command(args))
    }

    fn expect(&mut self, step: &Step, reference: &Value, tested: &Value) {
        if !step.check.agrees(reference, tested) {
            self.differs(&step.name(), format!("{}\n  redis  {reference}\n  kvcore {tested}\n", step.show()));
        }
    }

    /// Notes a difference and starts afresh.
    fn differs(&mut self, what: &str, text: String) {
        let (name, unknown) = (what.split(' ').next().unwrap_or(""), "kvcore -ERR unknown command '");
        if text.contains(unknown) && !text.contains("redis  -ERR unknown command") {
            self.missing.insert(name.to_string());
        } else if !self.findings.contains_key(what) {
            let mut full = text;
            let _ = writeln!(full, "  after");
            for line in self.history.iter().rev().take(HISTORY_SHOWN).rev() {
                let _ = writeln!(full, "    {line}");
            }
            self.findings.insert(what.to_string(), full);
        }
        self.restart();
        self.healed = true;
    }

    fn restart(&mut self) {
        for side in [&mut self.reference, &mut self.tested] {
            for args in [&["DISCARD"][..], &["UNWATCH"], &["FLUSHALL"], &["SELECT", "0"]] {
                side.client.command(args);
            }
            side.take_events();
        }
        self.history.clear();
    }

    fn pipeline(&mut self, g: &mut Gen) -> usize {
        g.quiet = true;
        let steps: Vec<Step> = (0..2 + g.below(20)).map(|_| self.generate(g)).filter(Step::is_plain).collect();
        let requests: Vec<_> = steps.iter().map(|step| step.args.clone()).collect();
        self.history.push(format!("(a pipeline of {} follows)", steps.len()));
        steps.iter().for_each(|step| self.note(step));
        let (reference, tested) = (self.reference.client.pipeline(&requests), self.tested.client.pipeline(&requests));
        for ((step, reference), tested) in steps.iter().zip(&reference).zip(&tested) {
            if !step.check.agrees(reference, tested) {
                self.differs(
                    &format!("{} in a pipeline", step.name()),
                    format!("{}\n  redis  {reference}\n  kvcore {tested}\n", step.show()),
                );
                break;
            }
        }
        self.compare_events("a pipeline");
        steps.len()
    }

    /// MULTI, some commands, EXEC or DISCARD; perhaps watched, perhaps interfered with by another connection.
    fn transaction(&mut self, g: &mut Gen) -> usize {
        g.quiet = true;
        if g.chance(50) {
            let keys = {
                let step = self.generate(g);
                step.args.get(1).cloned().unwrap_or_default()
            };
            self.single(Step::exact(command!["WATCH", keys.clone(), "text0", "{a}list1"]));
            if g.chance(50) {
                let interference = if g.chance(50) { command!["SET", keys, "1"] } else { self.generate(g).args };
                if ["FLUSHALL", "SELECT", "SWAPDB", "CLIENT", "CONFIG"]
                    .iter()
                    .all(|name| !interference[0].eq_ignore_ascii_case(name.as_bytes()))
                {
                    self.history.push(format!("(another connection) {}", show(&interference)));
                    let _ = (self.reference.other.command(&interference), self.tested.other.command(&interference));
                    if interference[0] == b"SPOP" {
                        self.restart();
                    }
                }
            }
        }
        self.single(Step::exact(command!["MULTI"]));
        let mut queued = Vec::new();
        for _ in 0..g.below(8) {
            let step = self.generate(g);
            // Waiting for one of these inside MULTI answers at once, and a nested HELLO would change the reply of EXEC.
            if !step.is_plain() || ["HELLO", "EXEC", "DISCARD"].contains(&step.name().as_str()) {
                continue;
            }
            self.note(&step);
            let (reference, tested) = self.both(&step.args);
            if reference != tested {
                self.differs(
                    &format!("{} queued", step.name()),
                    format!("{}\n  redis  {reference}\n  kvcore {tested}\n", step.show()),
                );
                return 1;
            }
            if reference == Value::Simple("QUEUED".into()) {
                queued.push(step);
            }
        }
        if g.chance(10) {
            self.single(Step::exact(command!["DISCARD"]));
            return queued.len() + 2;
        }
        self.history.push("EXEC".into());
        let (reference, tested) = self.both(&command!["EXEC"]);
        match (&reference, &tested) {
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() && a.len() == queued.len() => {
                for ((step, reference), tested) in queued.iter().zip(a).zip(b) {
                    if !step.check.agrees(reference, tested) {
                        self.differs(
                            &format!("{} in EXEC", step.name()),
                            format!("{}\n  redis  {reference}\n  kvcore {tested}\n", step.show()),
                        );
                        break;
                    }
                }
            }
            _ if reference == tested => {}
            _ => self.differs("EXEC", format!("EXEC\n  redis  {reference}\n  kvcore {tested}\n")),
        }
        self.compare_events("EXEC");
        queued.len() + 2
    }

    fn scan(&mut self, step: &Step, cursor: usize) {
        let pairs = ["HSCAN", "ZSCAN"].contains(&step.name().as_str());
        let reference = scan_all(&mut self.reference.client, &step.args, cursor, pairs);
        let tested = scan_all(&mut self.tested.client, &step.args, cursor, pairs);
        if reference != tested {
            self.differs(&step.name(), format!("{}, to the end\n  redis  {reference:?}\n  kvcore {tested:?}\n", step.show()));
        }
    }

    fn sample(&mut self, step: &Step, source: &[Vec<u8>]) {
        let possible: BTreeSet<_> = leaves(&self.reference.client.command(source)).into_iter().collect();
        let (reference, tested) = self.both(&step.args);
        let fits = shape(&reference) == shape(&tested) && leaves(&tested).iter().all(|leaf| possible.contains(leaf));
        let distinct = |value: &Value| value.items().iter().map(shape_and_text).collect::<BTreeSet<_>>().len();
        // Only a positive count promises distinct elements.
        let counted = step.args.get(2).and_then(|count| std::str::from_utf8(count).ok()?.parse::<i64>().ok()).unwrap_or(0) > 0;
        let unique = !counted || step.args.len() > 3 || distinct(&tested) == tested.items().len();
        let agrees = fits && unique;
        let same_error = reference.is_error() && reference == tested;
        if !agrees && !same_error {
            self.differs(&step.name(), format!("{}\n  redis  {reference}\n  kvcore {tested}\n", step.show()));
        }
    }

    fn pop(&mut self, step: &Step) {
        let tested = self.tested.client.command(&step.args);
        let members = leaves(&tested);
        if tested.is_error() || members.is_empty() {
            let reference = self.reference.client.command(&step.args);
            return self.expect(step, &reference, &tested);
        }
        let key = step.args[1].clone();
        let size = self.reference.client.command(&command!["SCARD", key.clone()]);
        let asked = step.args.get(2).map_or(1, |count| String::from_utf8_lossy(count).parse().unwrap_or(0));
        let mut remove = command!["SREM", key];
        remove.extend(members.iter().cloned());
        let removed = self.reference.client.command(&remove);
        self.history.push(format!("(at redis-server instead) {}", show(&remove)));
        let kind_fits = matches!(
            (&tested, step.args.len(), self.plan.resp3),
            (Value::Bulk(_), 2, _) | (Value::Set(_), 3, true) | (Value::Array(_), 3, false)
        );
        let count_fits = removed == Value::Integer(members.len() as i64) && members.len() as i64 == size.integer().min(asked);
        if !kind_fits || !count_fits {
            self.differs("SPOP", format!("{}\n  of {size}, kvcore {tested}, of which redis-server had {removed}\n", step.show()));
        }
        // SPOP of many may build the set anew, in a tighter encoding than SREM leaves.
        let _ = self.both(&command!["DEL", step.args[1].clone()]);
    }

    fn transfer(&mut self, step: &Step) {
        let (reference, tested) = self.both(&step.args);
        if !matches!((&reference, &tested), (Value::Bulk(_), Value::Bulk(_))) {
            return self.expect(step, &reference, &tested);
        }
        // A restored value may be encoded more tightly than the original was.
        let original = held(&mut self.reference.client, &step.args[1]);
        for (from, payload) in [("redis-server's", reference.bytes()), ("kvcore's", tested.bytes())] {
            let restore = command!["RESTORE", "restored", "0", payload.to_vec(), "REPLACE"];
            let (a, b) = self.both(&restore);
            let (here, there) =
                (contents(&mut self.reference.client, b"restored"), contents(&mut self.tested.client, b"restored"));
            let same = held(&mut self.tested.client, b"restored") == original;
            let _ = self.both(&command!["DEL", "restored"]);
            if a != Value::ok() || a != b || here != there || !same {
                let text = format!(
                    "RESTORE of {from} payload of {}\n  original      {original}\n  redis-server  {a} {here}\n  kvcore        {b} {there}\n  payload {}\n",
                    step.show(),
                    show(&[payload.to_vec()])
                );
                return self.differs("DUMP and RESTORE", text);
            }
        }
    }

    fn compare_events(&mut self, what: &str) {
        if !self.plan.events {
            return;
        }
        let (mut reference, mut tested) = (self.reference.take_events(), self.tested.take_events());
        if self.healed {
            return;
        }
        if self.plan.cores > 1 {
            // Events of another core's shard may come a moment after the reply, and those of different shards in any order.
            for _ in 0..EVENT_LOOKS_MAX {
                if tested.len() >= reference.len() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
                tested.extend(self.tested.take_events());
            }
            reference.sort();
            tested.sort();
        }
        if reference != tested {
            self.differs(&format!("events of {what}"), format!("  redis  {reference:?}\n  kvcore {tested:?}\n"));
        }
    }

    fn compare_state(&mut self) {
        for db in 0..DATABASES {
            let _ = self.both(&command!["SELECT", db as i64]);
            let (reference, tested) = self.both(&command!["KEYS", "*"]);
            let (reference, tested) = (reference.sorted(), tested.sorted());
            if reference != tested {
                return self.differs("keys", format!("KEYS * in database {db}\n  redis  {reference}\n  kvcore {tested}\n"));
            }
            for key in reference.items() {
                let key = key.bytes();
                let (a, b) = (contents(&mut self.reference.client, key), contents(&mut self.tested.client, key));
                let (ttl_a, ttl_b) = self.both(&command!["PTTL", key.to_vec()]);
                if !same_contents(&a, &b) || ttl_a.integer().abs_diff(ttl_b.integer()) > PTTL_TOLERANCE_MS {
                    let shown = String::from_utf8_lossy(key).into_owned();
                    let about: Vec<_> = self.history.iter().filter(|line| line.contains(&shown)).cloned().collect();
                    let text = format!(
                        "{shown} in database {db}\n  redis  ttl {ttl_a} {a}\n  kvcore ttl {ttl_b} {b}\n  commands that name it:\n    {}\n",
                        about.iter().rev().take(HISTORY_SHOWN).rev().cloned().collect::<Vec<_>>().join("\n    ")
                    );
                    let kind = key.iter().filter(|byte| byte.is_ascii_alphabetic()).map(|byte| *byte as char).collect::<String>();
                    return self.differs(&format!("contents of {kind}"), text);
                }
            }
        }
        let _ = self.both(&command!["SELECT", "0"]);
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("KVCORE_SEED={}; the last commands:", self.seed);
            self.history.iter().rev().take(HISTORY_SHOWN).rev().for_each(|line| eprintln!("    {line}"));
        }
    }
}

fn shape_and_text(value: &Value) -> String {
    value.to_string()
}

/// Runs a cursor to its end; the elements without repetition, or the first error.
fn scan_all(client: &mut Client, args: &[Vec<u8>], cursor: usize, pairs: bool) -> Result<BTreeSet<Vec<Value>>, String> {
    let (mut args, mut seen) = (args.to_vec(), BTreeSet::new());
    for _ in 0..100_000 {
        let reply = client.command(&args);
        let Value::Array(parts) = &reply else { return Err(reply.to_string()) };
        let size = if pairs { 2 } else { 1 };
        seen.extend(parts[1].items().chunks(size).map(<[Value]>::to_vec));
        if parts[0] == Value::bulk("0") {
            return Ok(seen);
        }
        args[cursor] = parts[0].bytes().to_vec();
    }
    Err("the cursor does not come to an end".into())
}

/// A key's type, encoding and contents, as one line.
fn contents(client: &mut Client, key: &[u8]) -> String {
    let encoding = client.command(&command!["OBJECT", "ENCODING", key.to_vec()]);
    format!("{encoding} {}", held(client, key))
}

/// Redis's SORT makes a small sorted set a skiplist for good, which shows in its encoding only.
fn same_contents(redis: &str, kvcore: &str) -> bool {
    redis == kvcore || redis.strip_prefix("\"skiplist\"").is_some_and(|rest| kvcore.strip_prefix("\"listpack\"") == Some(rest))
}

/// A key's type and contents, in an order of their own.
fn held(client: &mut Client, key: &[u8]) -> String {
    let kind = client.command(&command!["TYPE", key.to_vec()]).text();
    let held = match kind.as_str() {
        "string" => client.command(&command!["GET", key.to_vec()]),
        "list" => client.command(&command!["LRANGE", key.to_vec(), "0", "-1"]),
        "hash" => client.command(&command!["HGETALL", key.to_vec()]).sorted_pairs(),
        "set" => client.command(&command!["SMEMBERS", key.to_vec()]).sorted(),
        "zset" => client.command(&command!["ZRANGE", key.to_vec(), "0", "-1", "WITHSCORES"]),
        _ => Value::Null,
    };
    format!("{kind} {held}")
}
