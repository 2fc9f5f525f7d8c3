//! Many shards' logs become one stream with one offset.
//!
//! Each shard sends what it did, in its order: work of its own ([`Item::Work`]), its place in an operation over several shards
//! ([`Item::Operation`]), and its place of a point that several shards share ([`Item::Marker`]: the cut of a full sync, or the place
//! that a WAIT asks for). Work goes out at once unless an operation before it waits for its other shards. An operation goes out
//! when it is at the head of every one of its shards' queues: whole, in one place.
//!
//! ```text
//!   shard 0   SET a ─ op 17 ┐                          SET a ─┐
//!   shard 1   SET b ─ SET c ─ op 17 ─ SET d     ──▶    SET b ─ SET c ─ [op 17] ─ SET d ─ SET e
//!   shard 2            op 17 ┘ SET e
//! ```
//!
//! **What an operation consists of.** One of its shards brings what it did to all of them ([`Encoded::whole`]), the others only their
//! place. Its participants are all shards it has locked, not only those it has changed, if its effects name keys that it has only
//! read (`COPY a b` must stand where `a` had the value that was copied): then the effects can be the commands as they were, one MSET
//! instead of ten SETs, RENAME instead of a huge value. Effects divided among their owners need only the shards that are changed.
//!
//! **Order.** A shard may see two operations that have nothing in common in the other order than another shard does: waiting for
//! both heads would then wait for ever. Ids decide. They are drawn while all of an operation's locks are held, so of two operations
//! that meet on a key the first has the smaller id. A shard's queue is kept in the order of ids: an operation that comes after one with
//! a larger id is put before it, and before the work that followed that one. It held its locks all that time, as it
//! had drawn its id before the other had, so nothing it passes touches its keys. The queues being in one order, the operation with the
//! smallest id of all is at the head of each of its queues as soon as all its shards have sent it, and nothing is ever stuck.
//! A marker's id is drawn from the same counter: before any of its shards send it, and after whatever must stand before it.
//!
//! Refuses to know offsets and replicas: bytes are appended to a buffer of the caller.
//! Cost: work is encoded on its own core and copied here once, a batch at a time.

use std::collections::{BTreeMap, VecDeque};

pub use super::encoded::Encoded;
use crate::persistence::spanning::OperationId;

/// What a shard sends. No two operations or markers have the same id.
#[derive(Debug)]
pub enum Item {
    /// What this shard did alone.
    Work(Encoded),
    /// The place that an operation on so many shards has in this one's order. One of them brings what it did.
    Operation { id: OperationId, shards: u16, effects: Option<Encoded> },
    /// The place in this shard's order of a point that so many shards share.
    Marker { id: OperationId, shards: u16, kind: MarkerKind },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MarkerKind {
    /// Only to know the place.
    Place,
    /// Replicas begin here: what follows selects its database.
    Cut,
}

/// What has come out and not been taken.
#[derive(Default, Debug)]
pub struct Merged {
    /// Of the stream.
    pub bytes: Vec<u8>,
    /// Markers, in order: how many of the bytes stand before it, its id, and the database that the stream has selected there.
    pub markers: Vec<MarkerReached>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MarkerReached {
    pub id: OperationId,
    pub bytes_before: usize,
    pub db: Option<usize>,
}

impl Merged {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.markers.clear();
    }
}

/// The queues of all shards.
#[derive(Debug)]
pub struct Merger {
    queues: Vec<VecDeque<Waiting>>,
    joint: BTreeMap<OperationId, Joint>,
    /// The database that the stream has selected.
    selected: Option<usize>,
    waiting_bytes: usize,
}

/// An operation's or marker's place in one shard's queue. A queue is in the order of ids.
#[derive(Debug)]
struct Waiting {
    id: OperationId,
    /// What the shard did after it and before the next.
    behind: Option<Encoded>,
}

#[derive(Debug)]
struct Joint {
    shards: u16,
    /// Queues in which it is the first.
    heads: u16,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Effects(Option<Encoded>),
    Marker(MarkerKind),
}

impl Merger {
    /// For a stream that has selected no database. All shards begin to send at one moment, when all of them are held.
    pub fn new(shards: usize) -> Merger {
        let queues = std::iter::repeat_with(VecDeque::new).take(shards).collect();
        Merger { queues, joint: BTreeMap::new(), selected: None, waiting_bytes: 0 }
    }

    /// The next command selects its database: the stream has been continued by another (a promotion), or replicas begin here.
    pub fn forget_database(&mut self) {
        self.selected = None;
    }

    /// The database that the stream has selected.
    pub fn selected(&self) -> Option<usize> {
        self.selected
    }

    /// Bytes that wait for an operation before them, or for the other shards of theirs.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Whether everything that has come has gone out.
    pub fn is_idle(&self) -> bool {
        self.joint.is_empty()
    }

    /// Takes what a shard sends, in the shard's order; what can go out is appended to `out`.
    pub fn push(&mut self, shard: usize, item: Item, out: &mut Merged) {
        match item {
            Item::Work(work) => match self.queues[shard].back_mut() {
                None => work.write_to(&mut self.selected, &mut out.bytes),
                Some(last) => {
                    self.waiting_bytes += work.bytes_len();
                    match &mut last.behind {
                        Some(behind) => {
                            let before = behind.bytes_len() + work.bytes_len();
                            behind.append(&work);
                            self.waiting_bytes += behind.bytes_len() - before;
                        }
                        behind => *behind = Some(work),
                    }
                }
            },
            Item::Operation { id, shards, effects } => {
                self.waiting_bytes += effects.as_ref().map_or(0, Encoded::bytes_len);
                self.place(shard, id, shards, Body::Effects(effects), out);
            }
            Item::Marker { id, shards, kind } => self.place(shard, id, shards, Body::Marker(kind), out),
        }
    }

    fn place(&mut self, shard: usize, id: OperationId, shards: u16, body: Body, out: &mut Merged) {
        let joint = self.joint.entry(id).or_insert(Joint { shards, heads: 0, body: Body::Effects(None) });
        debug_assert_eq!(joint.shards, shards, "all parts say the same");
        if !matches!(body, Body::Effects(None)) {
            debug_assert!(!matches!(joint.body, Body::Effects(Some(_))), "one shard brings the effects");
            joint.body = body;
        }
        let queue = &mut self.queues[shard];
        let at = queue.partition_point(|waiting| waiting.id < id);
        debug_assert!(queue.get(at).is_none_or(|waiting| waiting.id != id), "a shard has one place in an operation");
        if at == 0 {
            joint.heads += 1;
            if let Some(passed) = queue.front() {
                self.joint.entry(passed.id).and_modify(|joint| joint.heads -= 1);
            }
        }
        queue.insert(at, Waiting { id, behind: None });
        self.release(id, out);
    }

    /// Sends the operation if it is first everywhere, and whatever it has held up.
    fn release(&mut self, id: OperationId, out: &mut Merged) {
        let mut ready = vec![id];
        while let Some(id) = ready.pop() {
            if self.joint.get(&id).is_none_or(|joint| joint.heads < joint.shards) {
                continue;
            }
            match self.joint.remove(&id).map(|joint| joint.body) {
                Some(Body::Effects(Some(effects))) => {
                    self.waiting_bytes -= effects.bytes_len();
                    effects.write_to(&mut self.selected, &mut out.bytes);
                }
                Some(Body::Marker(kind)) => {
                    out.markers.push(MarkerReached { id, bytes_before: out.bytes.len(), db: self.selected });
                    if kind == MarkerKind::Cut {
                        self.selected = None;
                    }
                }
                Some(Body::Effects(None)) | None => {}
            }
            for queue in &mut self.queues {
                if queue.front().is_none_or(|first| first.id != id) {
                    continue;
                }
                if let Some(behind) = queue.pop_front().and_then(|done| done.behind) {
                    self.waiting_bytes -= behind.bytes_len();
                    behind.write_to(&mut self.selected, &mut out.bytes);
                }
                if let Some(next) = queue.front() {
                    self.joint.entry(next.id).and_modify(|joint| joint.heads += 1);
                    ready.push(next.id);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvshard::Effects;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Groups of (database, command in words).
    fn effects(groups: &[&[(usize, &str)]]) -> Effects {
        let mut effects = Effects::default();
        for group in groups {
            effects.begin();
            for (db, text) in *group {
                let words: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
                effects.push(*db, None, words.into_iter());
            }
            effects.end();
        }
        effects
    }

    fn work(db: usize, text: &str) -> Item {
        Item::Work(Encoded::groups(&effects(&[&[(db, text)]])).unwrap())
    }

    fn operation(id: u64, shards: u16, effects: Option<&Effects>) -> Item {
        Item::Operation { id: OperationId(id), shards, effects: effects.and_then(Encoded::whole) }
    }

    fn marker(id: u64, shards: u16, kind: MarkerKind) -> Item {
        Item::Marker { id: OperationId(id), shards, kind }
    }

    /// The commands of a stream in words.
    fn lines(stream: &[u8]) -> Vec<String> {
        use crate::protocol::{Args, Limits, Parsed, Parser};
        let (mut parser, mut args, mut at, mut lines) = (Parser::new(), Args::new(), 0, Vec::new());
        while at < stream.len() {
            let Parsed::Command { consumed } = parser.parse(&stream[at..], &Limits::default(), &mut args) else { panic!() };
            let words: Vec<_> = args.iter(&stream[at..]).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
            lines.push(words.join(" "));
            at += consumed;
        }
        lines
    }

    #[test]
    fn an_operation_waits_for_all_its_shards_and_work_only_for_operations() {
        let (mut merger, mut out) = (Merger::new(3), Merged::default());
        let block = effects(&[&[(0, "SET a 2"), (0, "SET b 2")], &[(1, "SET c 2")]]);
        merger.push(0, work(0, "SET a 1"), &mut out);
        merger.push(0, operation(17, 2, None), &mut out);
        merger.push(0, work(0, "SET a 3"), &mut out);
        merger.push(0, work(2, "SET a 4"), &mut out);
        merger.push(1, work(0, "SET b 1"), &mut out);
        merger.push(2, work(0, "SET x 1"), &mut out);
        let so_far = out.bytes.len();
        assert!(merger.waiting_bytes() > 0 && !merger.is_idle());
        merger.push(1, operation(17, 2, Some(&block)), &mut out);
        merger.push(1, work(2, "SET b 3"), &mut out);
        assert_eq!((merger.waiting_bytes(), merger.is_idle(), merger.selected()), (0, true, Some(2)));
        assert_eq!(lines(&out.bytes[..so_far]), ["SELECT 0", "SET a 1", "SET b 1", "SET x 1"]);
        let block = ["MULTI", "SET a 2", "SET b 2", "SELECT 1", "SET c 2", "EXEC"];
        let behind = ["SELECT 0", "SET a 3", "SELECT 2", "SET a 4", "SET b 3"];
        assert_eq!(lines(&out.bytes[so_far..]), [&block[..], &behind].concat());
    }

    #[test]
    fn one_effect_stands_alone_and_none_leaves_nothing() {
        let (mut merger, mut out) = (Merger::new(2), Merged::default());
        merger.push(0, operation(1, 2, Some(&effects(&[&[(3, "MSET a 1 b 1")]]))), &mut out);
        merger.push(1, operation(1, 2, None), &mut out);
        merger.push(1, operation(2, 2, None), &mut out);
        merger.push(0, operation(2, 2, None), &mut out);
        assert_eq!(lines(&out.bytes), ["SELECT 3", "MSET a 1 b 1"]);
        assert!(Encoded::groups(&Effects::default()).is_none() && Encoded::whole(&Effects::default()).is_none());
    }

    #[test]
    fn a_marker_has_one_place_and_what_follows_a_cut_selects_its_database() {
        let (mut merger, mut out) = (Merger::new(2), Merged::default());
        merger.push(0, work(1, "SET a 1"), &mut out);
        merger.push(0, marker(5, 2, MarkerKind::Cut), &mut out);
        merger.push(0, work(1, "SET a 2"), &mut out);
        merger.push(0, marker(6, 1, MarkerKind::Place), &mut out);
        merger.push(1, work(1, "SET b 1"), &mut out);
        let before = out.bytes.len();
        assert!(out.markers.is_empty());
        merger.push(1, marker(5, 2, MarkerKind::Cut), &mut out);
        let reached = |id, bytes_before| MarkerReached { id: OperationId(id), bytes_before, db: Some(1) };
        assert_eq!(out.markers, [reached(5, before), reached(6, out.bytes.len())]);
        assert_eq!(lines(&out.bytes[..before]), ["SELECT 1", "SET a 1", "SET b 1"]);
        assert_eq!(lines(&out.bytes[before..]), ["SELECT 1", "SET a 2"]);
    }

    #[test]
    fn operations_that_two_shards_see_in_different_orders_do_not_wait_for_each_other() {
        let (mut merger, mut out) = (Merger::new(2), Merged::default());
        let effects = [effects(&[&[(0, "MSET a 1 b 1")]]), effects(&[&[(0, "MSET c 1 d 1")]])];
        merger.push(0, operation(1, 2, Some(&effects[0])), &mut out);
        merger.push(0, operation(2, 2, Some(&effects[1])), &mut out);
        merger.push(1, operation(2, 2, None), &mut out);
        merger.push(1, work(0, "SET d 2"), &mut out);
        merger.push(1, operation(1, 2, None), &mut out);
        merger.push(1, work(0, "SET b 2"), &mut out);
        assert!(merger.is_idle());
        assert_eq!(lines(&out.bytes), ["SELECT 0", "MSET a 1 b 1", "MSET c 1 d 1", "SET d 2", "SET b 2"]);
    }

    /// Shards with keys, worked on as kvcore's: an operation locks its keys one by one, or gives up if it meets another's, draws its
    /// id and runs when it has all, then lets go one shard after the other. Whatever touches a key waits while it is locked.
    struct Model {
        keys: usize,
        locked: BTreeSet<Place>,
        running: Vec<Running>,
        logs: Vec<VecDeque<Item>>,
        /// What was done to each key, in order.
        done: BTreeMap<String, Vec<u64>>,
        next_id: u64,
        next_value: u64,
    }

    /// A shard, and the number of a key in it.
    type Place = (usize, usize);

    struct Running {
        id: Option<u64>,
        keys: Vec<Place>,
        held: usize,
        /// Shards that have not let go, and what the first of them to do so brings.
        left: Vec<usize>,
        shards: u16,
        effects: Option<Effects>,
    }

    impl Model {
        fn new(shards: usize, keys: usize) -> Model {
            let logs = (0..shards).map(|_| VecDeque::new()).collect();
            let (locked, running, done) = Default::default();
            Model { keys, locked, running, logs, done, next_id: 0, next_value: 0 }
        }

        fn key(&self, number: usize) -> Place {
            (number % self.logs.len(), number / self.logs.len() % self.keys)
        }

        fn change(&mut self, (shard, key): Place) -> String {
            self.next_value += 1;
            let name = format!("{shard}:{key}");
            self.done.entry(name.clone()).or_default().push(self.next_value);
            format!("SET {name} {}", self.next_value)
        }

        fn step(&mut self, [choice, a, b, c]: [usize; 4]) {
            let key = self.key(a);
            match choice % 8 {
                0..=2 if !self.locked.contains(&key) => {
                    let text = self.change(key);
                    self.logs[key.0].push_back(work(b % 2, &text));
                }
                3 => {
                    let keys: BTreeSet<_> = [key, self.key(b), self.key(c)].into();
                    let left: BTreeSet<usize> = keys.iter().map(|(shard, _)| *shard).collect();
                    let (shards, left) = (left.len() as u16, left.into_iter().collect());
                    let keys = keys.into_iter().collect();
                    self.running.push(Running { id: None, keys, held: 0, left, shards, effects: None });
                }
                4.. if !self.running.is_empty() => self.go_on(a % self.running.len(), b),
                _ => {}
            }
        }

        /// One of the operations does its next step.
        fn go_on(&mut self, at: usize, which: usize) {
            let running = &mut self.running[at];
            match (running.keys.get(running.held), running.id) {
                (Some(key), _) if self.locked.insert(*key) => running.held += 1,
                (Some(_), _) => {
                    let running = self.running.swap_remove(at);
                    running.keys[..running.held].iter().for_each(|key| assert!(self.locked.remove(key)));
                }
                (None, None) => {
                    self.next_id += 1;
                    running.id = Some(self.next_id);
                    let texts: Vec<String> = running.keys.clone().into_iter().map(|key| self.change(key)).collect();
                    let group: Vec<(usize, &str)> = texts.iter().map(|text| (which % 2, text.as_str())).collect();
                    self.running[at].effects = Some(effects(&[&group]));
                }
                (None, Some(id)) => {
                    let shard = running.left.swap_remove(which % running.left.len());
                    let effects = running.effects.take();
                    self.logs[shard].push_back(operation(id, running.shards, effects.as_ref()));
                    running.keys.iter().filter(|key| key.0 == shard).for_each(|key| assert!(self.locked.remove(key)));
                    if running.left.is_empty() {
                        self.running.swap_remove(at);
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_arrival_gives_every_keys_history_and_whole_operations(
            shards in 1usize..5,
            keys in 1usize..4,
            steps in proptest::collection::vec(any::<[u16; 4]>(), 1..200),
            arrivals in proptest::collection::vec(any::<u16>(), 1..300),
        ) {
            let mut model = Model::new(shards, keys);
            let (mut merger, mut out) = (Merger::new(shards), Merged::default());
            let mut arrivals = arrivals.into_iter().map(usize::from).cycle();
            for step in steps {
                model.step(step.map(usize::from));
                let shard = arrivals.next().unwrap() % (shards + 1);
                if let Some(item) = model.logs.get_mut(shard).and_then(VecDeque::pop_front) {
                    merger.push(shard, item, &mut out);
                }
            }
            while !model.running.is_empty() {
                model.go_on(arrivals.next().unwrap() % model.running.len(), 0);
            }
            while model.logs.iter().any(|log| !log.is_empty()) {
                let from = arrivals.next().unwrap() % shards;
                let shard = (from..from + shards).map(|at| at % shards).find(|at| !model.logs[*at].is_empty()).unwrap();
                let item = model.logs[shard].pop_front().unwrap();
                merger.push(shard, item, &mut out);
            }
            prop_assert!(merger.is_idle() && merger.waiting_bytes() == 0, "stuck");
            let (mut seen, mut block, mut operations) = (BTreeMap::<String, Vec<u64>>::new(), None, 0);
            for line in lines(&out.bytes) {
                match line.split(' ').collect::<Vec<_>>()[..] {
                    ["MULTI"] => prop_assert!(block.replace(Vec::new()).is_none()),
                    ["EXEC"] => {
                        let values: Vec<u64> = block.take().unwrap();
                        operations += 1;
                        prop_assert!(values.is_sorted_by(|a, b| a + 1 == *b), "of one operation: {:?}", values);
                    }
                    ["SET", key, value] => {
                        let value = value.parse().unwrap();
                        block.iter_mut().for_each(|block| block.push(value));
                        seen.entry(key.to_owned()).or_default().push(value);
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(seen, model.done);
            prop_assert!(operations <= model.next_id && block.is_none());
        }
    }
}
