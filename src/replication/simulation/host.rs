//! One simulated server: a node, a small data set, what it saves, loads and applies, each in its own time.

use super::super::encoded::Encoded;
use super::super::history::{Offset, ReplId, Standing};
use super::super::link::stream::Kind;
use super::super::link::{self, Address, Link, LoadTo};
use super::super::node::{Node, Output};
use super::super::primary::request::Contents;
use super::super::primary::{self, Primary, Target};
use super::Random;
use crate::protocol::Args;
use kvshard::Effects;
use std::collections::{BTreeMap, VecDeque};

/// Keys with values that tell the order of what was done to them, and how often.
pub type Data = BTreeMap<u64, u64>;

pub const KEYS: u64 = 6;

/// One change: what is added to a key's history.
pub type Change = (u64, u64);

pub fn change(data: &mut Data, (key, by): Change) {
    let value = data.entry(key).or_default();
    *value = value.wrapping_mul(1_000_003).wrapping_add(by + 1);
}

pub struct Host {
    pub node: Node,
    pub data: Data,
    /// What was fetched of the stream and not done yet: where it ends, and what it changes.
    pub applying: VecDeque<(Offset, Vec<Change>)>,
    block: Option<Vec<Change>>,
    /// The database that the stream has selected.
    selected: Option<usize>,
    next_change: u64,
    /// What is being saved for replicas.
    pub saving: Option<Saving>,
    /// The last data set saved on disk for replicas.
    pub file: Vec<u8>,
    pub load: Option<Load>,
    pub slow_until: i64,
    /// What a restart finds.
    pub disk: Option<(Data, Option<Standing>)>,
}

pub struct Saving {
    pub target: Target,
    pub next_at: i64,
    /// The data at the cut and how much of it was sent, once the cut is made.
    pub bytes: Option<(Vec<u8>, usize)>,
    pub fails: bool,
}

pub struct Load {
    bytes: Vec<u8>,
    to: LoadTo,
    /// When it is through, once all is here.
    pub ends_at: Option<i64>,
    pub fails: bool,
}

impl Host {
    pub fn new(now: i64, random: &mut Random) -> Host {
        let config = primary::Config {
            repl_diskless_sync: random.chance(50),
            repl_diskless_sync_delay_s: random.below(2) as u32,
            repl_backlog_size: if random.chance(40) { 16 << 10 } else { 256 << 10 },
            repl_backlog_ttl_s: 30,
            repl_timeout_s: 10,
            repl_ping_replica_period_s: 2,
            hard_bytes: 40 << 10,
            soft_bytes: 20 << 10,
            soft_s: 2,
            ..primary::Config::default()
        };
        let load_to = [LoadTo::Disk, LoadTo::Memory, LoadTo::Beside][random.below(3) as usize];
        let mut ids = Random(random.next());
        let new_id = Box::new(move || {
            let mut bytes = [0; 20];
            bytes.chunks_mut(8).for_each(|part| part.copy_from_slice(&ids.next().to_le_bytes()[..part.len()]));
            ReplId::from_random(bytes)
        });
        let link = Link::new(link::Config { repl_timeout_s: 10, port: 7000, load_to, ..link::Config::default() });
        Host {
            node: Node::new(Primary::new(config, new_id, now), link),
            data: Data::new(),
            applying: VecDeque::new(),
            block: None,
            selected: None,
            next_change: random.next() >> 20,
            saving: None,
            file: Vec::new(),
            load: None,
            slow_until: 0,
            disk: None,
        }
    }

    /// Clients write: one key, or two at once, which are on different shards.
    pub fn write(&mut self, now: i64, random: &mut Random, out: &mut Vec<Output>) {
        let key = random.below(KEYS);
        let keys = if random.chance(40) { vec![key, (key + 1) % KEYS] } else { vec![key] };
        let mut effects = Effects::default();
        effects.begin();
        let padding = "x".repeat(if random.chance(10) { 5000 } else { 3 });
        for key in &keys {
            self.next_change += 1;
            change(&mut self.data, (*key, self.next_change));
            let (key, by) = (key.to_string(), self.next_change.to_string());
            effects.push(random.below(2) as usize, None, [b"ADD", key.as_bytes(), by.as_bytes(), padding.as_bytes()].into_iter());
        }
        effects.end();
        let encoded = if keys.len() > 1 { Encoded::whole(&effects) } else { Encoded::groups(&effects) };
        let mut bytes = Vec::new();
        encoded.expect("an effect").write_to(&mut self.selected, &mut bytes);
        self.node.append(now, &bytes, out);
    }

    /// Takes what the stream says, and hands on what it is.
    pub fn fetch(&mut self, now: i64, out: &mut Vec<Output>) {
        let mut args = Args::new();
        while let Some((fetched, input)) = self.node.next(now, &mut args, out) {
            let number = |at: usize| std::str::from_utf8(args.get(input, at)).ok().and_then(|text| text.parse::<u64>().ok());
            let mut changes = Vec::new();
            match fetched.kind {
                Kind::Command => {
                    assert!(args.get(input, 0) == b"ADD", "nothing else is ever sent");
                    let change = (number(1).expect("a key"), number(2).expect("a number"));
                    self.block.as_mut().unwrap_or(&mut changes).push(change);
                }
                Kind::Multi => self.block = Some(Vec::new()),
                Kind::Exec => changes = self.block.take().expect("a block was open"),
                Kind::Own => {}
            }
            if self.block.is_none() {
                self.applying.push_back((fetched.end, changes));
            }
        }
        self.node.pass_stream_on(now, out);
    }

    /// Does so much of what was fetched.
    pub fn apply(&mut self, now: i64, count: usize, out: &mut Vec<Output>) {
        let mut last = None;
        for (end, changes) in self.applying.drain(..count.min(self.applying.len())) {
            changes.into_iter().for_each(|by| change(&mut self.data, by));
            last = Some(end);
        }
        if let Some(end) = last {
            self.node.step_link(now, link::Input::Applied(end), out);
        }
    }

    pub fn promote(&mut self, now: i64, out: &mut Vec<Output>) {
        self.apply(now, usize::MAX, out);
        self.node.step_link(now, link::Input::NoOne, out);
        self.applying.clear();
    }

    pub fn follow(&mut self, now: i64, primary: usize, out: &mut Vec<Output>) {
        self.apply(now, usize::MAX, out);
        self.node.replica_of(now, address(primary), out);
    }

    /// What is where, for a save of its own.
    pub fn save(&mut self) {
        let loads = self.load.is_some();
        if self.applying.is_empty() && !loads {
            self.disk = Some((self.data.clone(), self.node.standing(self.selected)));
        }
    }

    /// A new process with what the old one has saved.
    pub fn restarted(&mut self, now: i64, follows: Option<usize>, random: &mut Random, out: &mut Vec<Output>) {
        let disk = self.disk.take().filter(|_| random.chance(75));
        *self = Host::new(now, random);
        let stored = disk.and_then(|(data, standing)| {
            self.data = data;
            standing
        });
        match (follows, stored) {
            (Some(primary), stored) => self.node.start_as_replica(now, address(primary), stored, out),
            (None, Some(stored)) => self.node.restore_as_primary(now, stored, out),
            (None, None) => {}
        }
    }

    // ---- what outputs ask for ----

    pub fn begin_saving(&mut self, now: i64, target: Target, contents: Contents, random: &mut Random) {
        assert!(!contents.is_filtered() && self.saving.is_none(), "one at a time");
        self.saving = Some(Saving { target, next_at: now + random.below(300) as i64, bytes: None, fails: random.chance(5) });
    }

    /// The save's next step, if it is due.
    pub fn go_on_saving(&mut self, now: i64, random: &mut Random, out: &mut Vec<Output>) {
        let Some(saving) = &mut self.saving else { return };
        if saving.next_at > now {
            return;
        }
        saving.next_at = now + random.below(200) as i64;
        let input = match &mut saving.bytes {
            _ if saving.fails && random.chance(30) => {
                self.saving = None;
                primary::Input::SnapshotFailed
            }
            None if self.load.is_some() => return,
            None => {
                saving.bytes = Some((encode(&self.data), 0));
                let at = if self.node.is_replica() { self.node.link().applied() } else { self.node.offset() };
                primary::Input::SnapshotBegun { at }
            }
            Some((bytes, sent)) if saving.target == Target::Sockets && *sent < bytes.len() => {
                if !self.node.primary().wants_chunk() {
                    return;
                }
                let end = (*sent + 1 + random.below(60) as usize).min(bytes.len());
                let piece = bytes[*sent..end].to_vec();
                *sent = end;
                primary::Input::SnapshotChunk(piece)
            }
            Some((bytes, _)) => {
                let file_bytes = bytes.len() as u64;
                self.file = std::mem::take(bytes);
                self.saving = None;
                primary::Input::SnapshotDone { file_bytes }
            }
        };
        self.node.step_replicas(now, input, out);
    }

    pub fn give_up_saving(&mut self, now: i64, out: &mut Vec<Output>) {
        if self.saving.take().is_some() {
            self.node.step_replicas(now, primary::Input::SnapshotFailed, out);
        }
    }

    /// Whatever the link says about data sets.
    pub fn loading(&mut self, now: i64, output: link::Output, random: &mut Random) {
        match output {
            link::Output::LoadBegins { to, .. } => {
                assert!(self.load.is_none(), "one at a time");
                self.load = Some(Load { bytes: Vec::new(), to, ends_at: None, fails: random.chance(5) });
                if to == LoadTo::Memory {
                    self.empty();
                }
            }
            link::Output::LoadBytes(bytes) => self.load.as_mut().expect("a load").bytes.extend(bytes),
            link::Output::LoadEnds => self.load.as_mut().expect("a load").ends_at = Some(now + random.below(1500) as i64),
            link::Output::LoadAborted => {
                let load = self.load.take();
                if load.is_some_and(|load| load.to == LoadTo::Memory || load.to == LoadTo::Disk && load.ends_at.is_some()) {
                    self.empty();
                }
            }
            link::Output::DropBlock => self.block = None,
            _ => {}
        }
    }

    fn empty(&mut self) {
        self.data.clear();
        self.applying.clear();
    }

    pub fn go_on_loading(&mut self, now: i64, out: &mut Vec<Output>) {
        let Some(load) = self.load.as_ref().filter(|load| load.ends_at.is_some_and(|at| at <= now)) else { return };
        if load.fails {
            return self.node.step_link(now, link::Input::LoadFailed("as it happens".to_owned()), out);
        }
        let data = decode(&load.bytes).expect("what was sent is what has come");
        self.empty();
        (self.data, self.load) = (data, None);
        self.node.step_link(now, link::Input::LoadFinished { db: Some(0) }, out);
    }

    /// A place in a history at which the data is known to be what it is, if there is one.
    pub fn place(&self) -> Option<(ReplId, Offset)> {
        if self.load.is_some() {
            return None;
        }
        match self.node.is_replica() {
            true => self.node.link().standing().map(|standing| (standing.id, self.node.link().applied())),
            false => self.node.primary().is_fed().then(|| (self.node.primary().history().id(), self.node.offset())),
        }
    }
}

pub fn address(host: usize) -> Address {
    Address { host: host.to_string(), port: 7000 }
}

fn encode(data: &Data) -> Vec<u8> {
    let entries = data.iter().map(|(key, value)| format!("{key}={value};"));
    format!("RDB{}.", entries.collect::<String>()).into_bytes()
}

fn decode(bytes: &[u8]) -> Option<Data> {
    let text = std::str::from_utf8(bytes).ok()?.strip_prefix("RDB")?.strip_suffix('.')?;
    let entry = |entry: &str| entry.split_once('=').and_then(|(key, value)| Some((key.parse().ok()?, value.parse().ok()?)));
    text.split_terminator(';').map(entry).collect()
}
