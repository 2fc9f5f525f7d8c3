//! A whole network of nodes in one thread, from one seed: writes, delays, cut and silent links, restarts with and without what was
//! saved, slow replicas, promotions, chains, snapshots and loads that fail.
//!
//! Checked after everything that happens: two nodes at the same place of the same history have the same data, and had the same
//! bytes before it; whoever asks for what the backlog has is given it. At the end the network heals, and after some time
//! all nodes are equal. A failure prints its seed; `KVCORE_SEED=<seed> cargo test replication::simulation` replays it.

mod host;
mod hostile;
mod talk;

use super::history::{Offset, ReplId};
use super::node::Output;
use super::primary::request::{About, Request};
use super::primary::{self, Close, ReplicaId};
use super::{backlog::Chunk, link};
use crate::protocol::{Args, Limits, Parsed, Parser};
use host::Host;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Steps of one network before it heals.
const STEPS: usize = 3000;
const NETWORKS: u64 = 100;

pub struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Bytes on their way in one direction.
#[derive(Default)]
struct Pipe {
    packets: VecDeque<(i64, Vec<u8>)>,
    last_at: i64,
}

/// A connection from a replica to its primary.
struct Connection {
    from: usize,
    to: usize,
    requests: Pipe,
    stream: Pipe,
    /// What the server end knows of a client that is no replica yet.
    handshake: Option<(About, Vec<u8>)>,
    /// When each end hears that it is over.
    ends: [Option<i64>; 2],
}

#[derive(Default)]
struct Happened {
    full: u64,
    partial: u64,
    commands: u64,
    cut: u64,
    over_limit: u64,
    promoted: u64,
}

struct World {
    random: Random,
    now: i64,
    hosts: Vec<Host>,
    /// By the number that names the replica at its primary.
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    /// Pairs of hosts between which nothing passes until then.
    silent: BTreeMap<(usize, usize), i64>,
    /// Everything ever seen of a history, and the data at places of it.
    bytes: HashMap<ReplId, Vec<Option<u8>>>,
    data: HashMap<(ReplId, Offset), host::Data>,
    seen: Vec<(ReplId, Offset)>,
    happened: Happened,
    is_healed: bool,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random(seed);
        let count = 2 + random.below(4) as usize;
        let hosts: Vec<Host> = (0..count).map(|_| Host::new(0, &mut random)).collect();
        let seen = hosts.iter().map(|host| (host.node.primary().history().id(), Offset(0))).collect();
        let mut world = World {
            random,
            now: 0,
            hosts,
            connections: BTreeMap::new(),
            next_connection: 1,
            silent: BTreeMap::new(),
            bytes: HashMap::new(),
            data: HashMap::new(),
            seen,
            happened: Happened::default(),
            is_healed: false,
        };
        (1..count).for_each(|at| world.act(at, |host, now, _, out| host.follow(now, 0, out)));
        world
    }

    /// Something happens at a host; what it asks for is done, and what it has become is looked at.
    fn act(&mut self, at: usize, act: impl FnOnce(&mut Host, i64, &mut Random, &mut Vec<Output>)) {
        let mut out = Vec::new();
        act(&mut self.hosts[at], self.now, &mut self.random, &mut out);
        self.settle(at, out);
        let mut out = Vec::new();
        self.hosts[at].fetch(self.now, &mut out);
        self.settle(at, out);
    }

    fn settle(&mut self, at: usize, out: Vec<Output>) {
        self.look(at);
        for output in out {
            match output {
                Output::Replicas(output) => self.for_replicas(at, output),
                Output::Link(link::Output::Connect(address)) => {
                    let to = address.host.parse().expect("a host's number");
                    let none = || Pipe { packets: VecDeque::new(), last_at: self.now };
                    let handshake = Some((About { peer_ip: at.to_string(), ..About::default() }, Vec::new()));
                    let connection = Connection { from: at, to, requests: none(), stream: none(), handshake, ends: [None; 2] };
                    self.connections.insert(self.next_connection, connection);
                    self.next_connection += 1;
                }
                Output::Link(link::Output::Send(bytes)) => {
                    let Some(id) = self.connection_of(at) else { continue };
                    let delay = 1 + self.random.below(40) as i64;
                    if let Some(connection) = self.connections.get_mut(&id) {
                        connection.requests.send(self.now + delay, bytes);
                    }
                }
                Output::Link(link::Output::Close) => {
                    let Some(id) = self.connection_of(at) else { continue };
                    self.end(id, 0);
                }
                Output::Link(output) => self.hosts[at].loading(self.now, output, &mut self.random),
                Output::Merge(_) | Output::PauseWrites(_) => {}
            }
        }
    }

    fn for_replicas(&mut self, at: usize, output: primary::Output) {
        let now = self.now;
        match output {
            primary::Output::Send { to, bytes } => self.send(to, &bytes),
            primary::Output::SendFile { to, bytes } => {
                let file = self.hosts[at].file.clone();
                assert_eq!(file.len() as u64, bytes, "the file that was saved last");
                self.send(to, &Chunk::from(file));
            }
            primary::Output::Refuse { to, reply } => self.send(to, &Chunk::from(reply.into_bytes())),
            primary::Output::Close { replica, how } => {
                self.happened.over_limit += u64::from(how == Close::OverLimit);
                self.end(replica.0, 1);
            }
            primary::Output::BeginSnapshot { target, contents } => {
                self.hosts[at].begin_saving(now, target, contents, &mut self.random);
            }
            primary::Output::GiveUpSnapshot => self.act(at, |host, now, _, out| host.give_up_saving(now, out)),
            primary::Output::Log(..) | primary::Output::Feed(_) => {}
        }
    }

    fn send(&mut self, to: ReplicaId, bytes: &Chunk) {
        let Some(connection) = self.connections.get_mut(&to.0) else { return };
        let slow = if self.hosts[connection.from].slow_until > self.now { 4000 } else { 40 };
        let at = self.now + 1 + self.random.below(slow) as i64;
        let (first, second) = bytes.split_at(self.random.below(2 * bytes.len() as u64).min(bytes.len() as u64) as usize);
        connection.stream.send(at, first.to_vec());
        connection.stream.send(at + self.random.below(slow) as i64, second.to_vec());
    }

    /// The connection to its primary that a host has.
    fn connection_of(&self, at: usize) -> Option<u64> {
        let mut own =
            self.connections.iter().filter(|(_, connection)| connection.from == at && connection.ends[0] != Some(i64::MIN));
        own.next_back().map(|(id, _)| *id)
    }

    /// One end closes: it hears no more, the other does not yet.
    fn end(&mut self, id: u64, by: usize) {
        let heard_at = self.now + self.random.below(if self.random.0.is_multiple_of(4) { 15_000 } else { 100 }) as i64;
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.ends[by] = Some(i64::MIN);
            connection.ends[1 - by].get_or_insert(heard_at);
        }
    }

    fn is_silent(&self, a: usize, b: usize) -> bool {
        self.silent.get(&(a.min(b), a.max(b))).is_some_and(|until| *until > self.now)
    }

    // ---- time ----

    fn pass(&mut self, ms: i64) {
        self.now += ms;
        for id in self.connections.keys().copied().collect::<Vec<_>>() {
            self.deliver(id);
        }
        self.connections.retain(|_, connection| connection.ends != [Some(i64::MIN); 2]);
        for at in 0..self.hosts.len() {
            let count = self.random.below(4) as usize;
            self.act(at, |host, now, _, out| host.apply(now, count, out));
            self.act(at, |host, now, random, out| host.go_on_saving(now, random, out));
            self.act(at, |host, now, _, out| host.go_on_loading(now, out));
            self.act(at, |host, now, _, out| host.node.tick(now, out));
        }
    }

    fn deliver(&mut self, id: u64) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (from, to) = (connection.from, connection.to);
        if self.is_silent(from, to) {
            return;
        }
        if self.connection_of(from) == Some(id) && self.hosts[from].node.link().state_name() == "connecting" {
            self.act(from, |host, now, _, out| host.node.step_link(now, link::Input::Connected, out));
        }
        while let Some(bytes) = self.arrived(id, 0) {
            self.asked(id, to, bytes);
        }
        while self.hosts[from].node.link().wants_bytes() && self.connection_of(from) == Some(id) {
            let Some(bytes) = self.arrived(id, 1) else { break };
            let (replica, len) = (ReplicaId(id), bytes.len() as u64);
            self.act(to, |host, now, _, out| {
                host.node.step_replicas(now, primary::Input::Sent { replica, bytes: len }, out);
            });
            for piece in bytes.chunks(1 + self.random.below(2000) as usize) {
                if self.connection_of(from) == Some(id) {
                    self.act(from, |host, now, _, out| host.node.step_link(now, link::Input::Received(piece), out));
                }
            }
        }
        let now = self.now;
        let due = |world: &World, end: usize| {
            let ends = world.connections.get(&id).map(|connection| connection.ends[end]);
            ends.flatten().is_some_and(|at| at > i64::MIN && at <= now)
        };
        if due(self, 1) {
            self.end(id, 1);
            let replica = ReplicaId(id);
            self.act(to, |host, now, _, out| host.node.step_replicas(now, primary::Input::Closed { replica }, out));
        }
        if due(self, 0) {
            self.end(id, 0);
            let reason = "Connection reset by peer".to_owned();
            self.act(from, |host, now, _, out| host.node.step_link(now, link::Input::Closed(reason), out));
        }
    }

    /// What has come through one direction of a connection whose receiver still listens.
    fn arrived(&mut self, id: u64, direction: usize) -> Option<Vec<u8>> {
        let now = self.now;
        let connection = self.connections.get_mut(&id)?;
        let (pipe, listener) = match direction {
            0 => (&mut connection.requests, connection.ends[1]),
            _ => (&mut connection.stream, connection.ends[0]),
        };
        let mut arrived = Vec::new();
        while listener != Some(i64::MIN)
            && let Some((_, bytes)) = pipe.due(now)
        {
            arrived.extend(bytes);
        }
        (!arrived.is_empty()).then_some(arrived)
    }

    /// The server's end of a connection: an ordinary client until it asks for the stream.
    fn asked(&mut self, id: u64, to: usize, bytes: Vec<u8>) {
        let replica = ReplicaId(id);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some((mut about, mut input)) = connection.handshake.take() else {
            let received = primary::Input::Received { replica, bytes: &bytes };
            return self.act(to, |host, now, _, out| host.node.step_replicas(now, received, out));
        };
        input.extend(bytes);
        let (mut parser, mut args, mut at) = (Parser::new(), Args::new(), 0);
        while let Parsed::Command { consumed } = parser.parse(&input[at..], &Limits::default(), &mut args) {
            let words: Vec<Vec<u8>> = args.iter(&input[at..]).map(<[u8]>::to_vec).collect();
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            at += consumed;
            match words[0] {
                b"PING" => self.send(replica, &Chunk::from(b"+PONG\r\n".to_vec())),
                b"REPLCONF" => {
                    assert_eq!(about.replconf(&words[1..]), primary::request::Answer::Ok);
                    self.send(replica, &Chunk::from(b"+OK\r\n".to_vec()));
                }
                _ => {
                    let request = Request::psync(&words[1..]).expect("links ask properly");
                    return self.synchronize(id, to, about, request);
                }
            }
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.handshake = Some((about, input.split_off(at)));
        }
    }

    fn synchronize(&mut self, id: u64, to: usize, about: About, request: Request) {
        let primary = self.hosts[to].node.primary();
        let is_there = match &request {
            Request::Psync { id, offset, .. } if *offset > 0 && primary.history().may_continue(id, *offset).is_ok() => {
                primary.backlog().is_some_and(|backlog| backlog.covers(Offset(*offset as u64 - 1)))
            }
            _ => false,
        };
        let before = primary.counts;
        let input = primary::Input::Sync { replica: ReplicaId(id), about, request };
        self.act(to, |host, now, _, out| host.node.step_replicas(now, input, out));
        let after = self.hosts[to].node.primary().counts;
        let (partial, full) = (after.sync_partial_ok - before.sync_partial_ok, after.sync_full - before.sync_full);
        assert!(partial == u64::from(is_there) || partial + full == 0, "what the backlog has is given");
        self.happened.partial += partial;
        self.happened.full += full;
        if partial + full == 0
            && let Some(connection) = self.connections.get_mut(&id)
        {
            connection.handshake = Some((About::default(), Vec::new()));
        }
    }

    // ---- what must hold ----

    fn look(&mut self, at: usize) {
        let host = &self.hosts[at];
        let (id, end) = (host.node.primary().history().id(), host.node.offset());
        let (_, before) = std::mem::replace(&mut self.seen[at], (id, end));
        if let Some(backlog) = host.node.primary().backlog() {
            assert!(backlog.heap_bytes() < 800_000, "memory is bounded");
            assert_eq!(backlog.end(), end);
            if before < end && backlog.covers(before) {
                let known = self.bytes.entry(id).or_default();
                known.resize(known.len().max(end.0 as usize), None);
                for (place, byte) in (before.0 as usize..).zip(backlog.since(before).flatten()) {
                    let seen = known[place].get_or_insert(*byte);
                    assert_eq!(seen, byte, "host {at}: byte {place} of {id}");
                }
            }
        }
        if let Some(place) = host.place() {
            let data = self.data.entry(place).or_insert_with(|| host.data.clone());
            assert_eq!(*data, host.data, "host {at} at {place:?}");
        }
    }

    // ---- what happens ----

    fn step(&mut self) {
        let at = self.random.below(self.hosts.len() as u64) as usize;
        let other = self.random.below(self.hosts.len() as u64) as usize;
        match self.random.below(1000) {
            0..400 => {
                let ms = if self.random.chance(3) { 3000 } else { 1 + self.random.below(60) as i64 };
                self.pass(ms);
            }
            400..920 if !self.hosts[at].node.is_replica() => {
                self.happened.commands += 1;
                self.act(at, |host, now, random, out| host.write(now, random, out));
            }
            920..945 => {
                let alive = self.connections.iter().filter(|(_, connection)| connection.ends == [None; 2]);
                let ids: Vec<u64> = alive.map(|(id, _)| *id).collect();
                if let Some(id) = ids.get(self.random.below(ids.len() as u64) as usize) {
                    self.happened.cut += 1;
                    let at = self.now + self.random.below(100) as i64;
                    let connection = self.connections.get_mut(id).expect("listed");
                    connection.ends = connection.ends.map(|end| end.or(Some(at)));
                }
            }
            945..949 if at != other => {
                let until = self.now + self.random.below(25_000) as i64;
                self.silent.insert((at.min(other), at.max(other)), until);
            }
            949..965 => self.hosts[at].slow_until = self.now + self.random.below(20_000) as i64,
            965..985 => self.hosts[at].save(),
            985..989 => self.restart(at),
            989..992 if self.hosts[at].node.is_replica() => {
                self.happened.promoted += 1;
                self.act(at, |host, now, _, out| host.promote(now, out));
                for replica in (0..self.hosts.len()).filter(|replica| *replica != at) {
                    if self.random.chance(60) {
                        self.act(replica, |host, now, _, out| host.follow(now, at, out));
                    }
                }
            }
            992..994 if at != other => self.act(at, |host, now, _, out| host.follow(now, other, out)),
            _ => {}
        }
    }

    fn restart(&mut self, at: usize) {
        let follows = self.hosts[at].node.link().primary().and_then(|address| address.host.parse().ok());
        for (id, end) in self
            .connections
            .iter()
            .flat_map(|(id, connection)| {
                let ends = [(connection.from, 0), (connection.to, 1)].into_iter().filter(|(host, _)| *host == at);
                ends.map(|(_, end)| (*id, end)).collect::<Vec<_>>()
            })
            .collect::<Vec<_>>()
        {
            self.end(id, end);
        }
        self.seen[at] = (ReplId::NONE, Offset(u64::MAX));
        self.act(at, |host, now, random, out| host.restarted(now, follows, random, out));
    }

    /// Nothing more goes wrong: after a while all are equal.
    fn heal(&mut self) {
        self.is_healed = true;
        self.silent.clear();
        self.hosts.iter_mut().for_each(|host| host.slow_until = 0);
        let first = self.random.below(self.hosts.len() as u64) as usize;
        self.act(first, |host, now, _, out| host.promote(now, out));
        let mut attached = vec![first];
        for at in (0..self.hosts.len()).filter(|at| *at != first) {
            let primary = attached[self.random.below(attached.len() as u64) as usize];
            self.act(at, |host, now, _, out| host.follow(now, primary, out));
            attached.push(at);
        }
        for round in 0..2500 {
            if round < 200 {
                self.act(first, |host, now, random, out| host.write(now, random, out));
            }
            if round == 2350 {
                // Not for as long as the timeouts are.
                self.hosts.iter_mut().for_each(|host| host.node.primary_mut().holds_pings = true);
            }
            self.pass(50);
        }
        let (id, end) = (self.hosts[first].node.primary().history().id(), self.hosts[first].node.offset());
        for (at, host) in self.hosts.iter().enumerate() {
            assert_eq!(host.data, self.hosts[first].data, "host {at} against {first}");
            assert_eq!((host.node.primary().history().id(), host.node.offset()), (id, end), "host {at}");
            assert!(at == first || (host.node.link().is_up() && host.node.link().applied() == end), "host {at}");
        }
    }
}

impl Pipe {
    fn due(&mut self, now: i64) -> Option<(i64, Vec<u8>)> {
        self.packets.front().is_some_and(|(at, _)| *at <= now).then(|| self.packets.pop_front()).flatten()
    }

    /// Nothing overtakes anything.
    fn send(&mut self, at: i64, bytes: Vec<u8>) {
        self.last_at = self.last_at.max(at);
        self.packets.push_back((self.last_at, bytes));
    }
}

fn simulate(seed: u64) -> Happened {
    let mut world = World::new(seed);
    (0..STEPS).for_each(|_| world.step());
    world.heal();
    world.happened
}

#[test]
fn networks_that_heal_become_equal() {
    let replayed = std::env::var("KVCORE_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let seeds = replayed.map_or(1..NETWORKS + 1, |seed| seed..seed + 1);
    let mut total = Happened::default();
    for seed in seeds {
        let happened = std::panic::catch_unwind(|| simulate(seed)).unwrap_or_else(|panic| {
            eprintln!("replay with: KVCORE_SEED={seed} cargo test replication::simulation");
            std::panic::resume_unwind(panic)
        });
        total.full += happened.full;
        total.partial += happened.partial;
        total.commands += happened.commands;
        total.cut += happened.cut;
        total.over_limit += happened.over_limit;
        total.promoted += happened.promoted;
    }
    if replayed.is_none() {
        let Happened { full, partial, commands, cut, over_limit, promoted } = total;
        let seen =
            format!("{full} full, {partial} partial, {commands} commands, {cut} cut, {over_limit} over, {promoted} promoted");
        assert!(full > 300 && partial > 300 && over_limit > 5 && promoted > 100 && commands > 10_000, "{seen}");
        println!("{seen}");
    }
}
