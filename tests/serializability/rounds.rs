//! Short rounds of concurrent commands over all shards, each explained by a search for one order of all its commands.
//!
//! The whole keyspace is one object with a simple model. A round is strictly serializable if its commands can be put into one
//! order in which the model gives every reply that was given, no command stands before one that had ended when it began, and
//! commands of one connection on the same key keep their order (Wing and Gong's search, with Lowe's table of configurations
//! already tried). Rounds are short and end with a look at every key, so the search is exact and quick.

use crate::harness::{Client, Random, Server, Value, encode, seed};
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

const CLIENTS: usize = 4;
const OPERATIONS_ONE_BY_ONE: usize = 6;
/// Fewer in a pipeline, where all overlap.
const OPERATIONS_IN_A_PIPELINE: usize = 3;
/// String keys s0… and set keys t0…: enough to lie on all shards.
const STRINGS: usize = 5;
const SETS: usize = 4;

#[derive(Clone, Debug)]
enum Command {
    Mset(Vec<(usize, u32)>),
    Msetnx(Vec<(usize, u32)>),
    Mget(Vec<usize>),
    Get(usize),
    Set(usize, u32),
    Del(Vec<usize>),
    Exists(Vec<usize>),
    Rename(usize, usize),
    Copy(usize, usize),
    Sadd(usize, u32),
    Smove(usize, usize, u32),
    Smembers(usize),
    Sunion(Vec<usize>),
    SunionStore(usize, Vec<usize>),
    SinterStore(usize, Vec<usize>),
}

use Command::*;

/// The whole keyspace, as the commands see it.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
struct Model {
    strings: [Option<u32>; STRINGS],
    sets: [BTreeSet<u32>; SETS],
}

/// One or several commands that are one atomic operation, and what they answered.
#[derive(Clone)]
struct Operation {
    client: usize,
    commands: Vec<Command>,
    replies: Vec<Value>,
    began: Instant,
    ended: Instant,
}

impl Operation {
    fn keys(&self) -> impl Iterator<Item = String> {
        // Values are numbers, so whatever begins with a letter of keys is one.
        self.commands.iter().flat_map(|command| command.args().into_iter().skip(1).filter(|word| word.starts_with(['s', 't'])))
    }
}

fn s(index: usize) -> String {
    format!("s{index}")
}

fn t(index: usize) -> String {
    format!("t{index}")
}

impl Command {
    fn args(&self) -> Vec<String> {
        let line = |name: &str, rest: Vec<String>| std::iter::once(name.to_string()).chain(rest).collect();
        let pairs = |pairs: &[(usize, u32)]| pairs.iter().flat_map(|(key, value)| [s(*key), value.to_string()]).collect();
        match self {
            Mset(list) => line("MSET", pairs(list)),
            Msetnx(list) => line("MSETNX", pairs(list)),
            Mget(keys) => line("MGET", keys.iter().map(|key| s(*key)).collect()),
            Get(key) => line("GET", vec![s(*key)]),
            Set(key, value) => line("SET", vec![s(*key), value.to_string()]),
            Del(keys) => line("DEL", keys.iter().map(|key| s(*key)).collect()),
            Exists(keys) => line("EXISTS", keys.iter().map(|key| s(*key)).collect()),
            Rename(from, to) => line("RENAME", vec![s(*from), s(*to)]),
            Copy(from, to) => line("COPY", vec![s(*from), s(*to), "REPLACE".into()]),
            Sadd(key, member) => line("SADD", vec![t(*key), member.to_string()]),
            Smove(from, to, member) => line("SMOVE", vec![t(*from), t(*to), member.to_string()]),
            Smembers(key) => line("SMEMBERS", vec![t(*key)]),
            Sunion(keys) => line("SUNION", keys.iter().map(|key| t(*key)).collect()),
            SunionStore(to, keys) => line("SUNIONSTORE", [*to].iter().chain(keys).map(|key| t(*key)).collect()),
            SinterStore(to, keys) => line("SINTERSTORE", [*to].iter().chain(keys).map(|key| t(*key)).collect()),
        }
    }

    /// Makes the command's change in the model; the reply that follows.
    fn apply(&self, model: &mut Model) -> Value {
        let string = |value: Option<u32>| value.map_or(Value::Null, |number| Value::bulk(number.to_string()));
        let members =
            |set: &BTreeSet<u32>| Value::Array(set.iter().map(|member| Value::bulk(member.to_string())).collect()).sorted();
        match self {
            Mset(pairs) => {
                pairs.iter().for_each(|(key, value)| model.strings[*key] = Some(*value));
                Value::ok()
            }
            Msetnx(pairs) => {
                let free = pairs.iter().all(|(key, _)| model.strings[*key].is_none());
                if free {
                    pairs.iter().for_each(|(key, value)| model.strings[*key] = Some(*value));
                }
                Value::Integer(i64::from(free))
            }
            Mget(keys) => Value::Array(keys.iter().map(|key| string(model.strings[*key])).collect()),
            Get(key) => string(model.strings[*key]),
            Set(key, value) => {
                model.strings[*key] = Some(*value);
                Value::ok()
            }
            Del(keys) => Value::Integer(keys.iter().filter(|key| model.strings[**key].take().is_some()).count() as i64),
            Exists(keys) => Value::Integer(keys.iter().filter(|key| model.strings[**key].is_some()).count() as i64),
            Rename(from, to) => match model.strings[*from].take() {
                None => Value::Error("ERR no such key".into()),
                value => {
                    model.strings[*to] = value;
                    Value::ok()
                }
            },
            Copy(from, to) => match model.strings[*from] {
                None => Value::Integer(0),
                value => {
                    model.strings[*to] = value;
                    Value::Integer(1)
                }
            },
            Sadd(key, member) => Value::Integer(i64::from(model.sets[*key].insert(*member))),
            Smove(from, to, member) => {
                let moved = model.sets[*from].remove(member);
                if moved {
                    model.sets[*to].insert(*member);
                }
                Value::Integer(i64::from(moved))
            }
            Smembers(key) => members(&model.sets[*key]),
            Sunion(keys) => members(&keys.iter().flat_map(|key| model.sets[*key].clone()).collect()),
            SunionStore(to, keys) => {
                model.sets[*to] = keys.iter().flat_map(|key| model.sets[*key].clone()).collect();
                Value::Integer(model.sets[*to].len() as i64)
            }
            SinterStore(to, keys) => {
                let first = model.sets[keys[0]].clone();
                model.sets[*to] =
                    first.into_iter().filter(|member| keys.iter().all(|key| model.sets[*key].contains(member))).collect();
                Value::Integer(model.sets[*to].len() as i64)
            }
        }
    }

    fn generate(random: &mut Random, value: &mut u32) -> Command {
        let mut fresh = || {
            *value += 1;
            *value
        };
        let few =
            |random: &mut Random, bound: usize| -> Vec<usize> { (0..2 + random.below(3)).map(|_| random.below(bound)).collect() };
        let two = |random: &mut Random, bound: usize| {
            let first = random.below(bound);
            (first, (first + 1 + random.below(bound - 1)) % bound)
        };
        let mut distinct = |random: &mut Random| -> Vec<(usize, u32)> {
            let keys: BTreeSet<usize> = few(random, STRINGS).into_iter().collect();
            keys.into_iter().map(|key| (key, fresh())).collect()
        };
        match random.below(20) {
            0..=2 => Mset(distinct(random)),
            3 => Msetnx(distinct(random)),
            4..=6 => Mget(few(random, STRINGS)),
            7 => Get(random.below(STRINGS)),
            8 => Set(random.below(STRINGS), distinct(random)[0].1),
            9 => Del({
                let (a, b) = two(random, STRINGS);
                vec![a, b]
            }),
            10 => Exists(few(random, STRINGS)),
            11 | 12 => {
                let (from, to) = two(random, STRINGS);
                Rename(from, to)
            }
            13 => {
                let (from, to) = two(random, STRINGS);
                Copy(from, to)
            }
            14 => Sadd(random.below(SETS), random.below(6) as u32),
            15 => {
                let (from, to) = two(random, SETS);
                Smove(from, to, random.below(6) as u32)
            }
            16 => Smembers(random.below(SETS)),
            17 => Sunion(few(random, SETS)),
            18 => SunionStore(random.below(SETS), few(random, SETS)),
            _ => SinterStore(random.below(SETS), few(random, SETS)),
        }
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "strings {:?}, sets {:?}", self.strings, self.sets)
    }
}

/// The bytes of an operation: a command, or several in MULTI.
fn request(commands: &[Command]) -> Vec<u8> {
    if let [one] = commands {
        return encode(&one.args());
    }
    let body: Vec<u8> = commands.iter().flat_map(|command| encode(&command.args())).collect();
    [encode(&["MULTI"]), body, encode(&["EXEC"])].concat()
}

fn read_replies(client: &mut Client, commands: &[Command]) -> Vec<Value> {
    let raw = if commands.len() == 1 {
        vec![client.reply()]
    } else {
        for _ in 0..=commands.len() {
            client.reply();
        }
        client.reply().items()
    };
    let sets = |command: &Command| matches!(command, Smembers(_) | Sunion(_));
    raw.into_iter().zip(commands).map(|(reply, command)| if sets(command) { reply.sorted() } else { reply }).collect()
}

/// One client's part of a round.
fn perform(index: usize, client: &mut Client, operations: Vec<Vec<Command>>, pipelined: bool) -> Vec<Operation> {
    let mut done = Vec::new();
    if pipelined {
        let bytes: Vec<u8> = operations.iter().flat_map(|commands| request(commands)).collect();
        let began = Instant::now();
        client.send_raw(&bytes);
        let replies: Vec<_> = operations.iter().map(|commands| read_replies(client, commands)).collect();
        let ended = Instant::now();
        done.extend(operations.into_iter().zip(replies).map(|(commands, replies)| Operation {
            client: index,
            commands,
            replies,
            began,
            ended,
        }));
    } else {
        for commands in operations {
            let bytes = request(&commands);
            let began = Instant::now();
            client.send_raw(&bytes);
            let replies = read_replies(client, &commands);
            done.push(Operation { client: index, commands, replies, began, ended: Instant::now() });
        }
    }
    done
}

/// For each operation, the set (as bits) of those that must stand before it.
fn predecessors(operations: &[Operation]) -> Vec<u64> {
    let bit = |earlier: bool, index: usize| if earlier { 1 << index } else { 0 };
    let before = |(index, other): (usize, &Operation), (of, operation): (usize, &Operation)| {
        let in_order =
            index < of && other.client == operation.client && other.keys().any(|key| operation.keys().any(|own| own == key));
        bit(other.ended < operation.began || in_order, index)
    };
    let all = || operations.iter().enumerate();
    all().map(|operation| all().map(|other| before(other, operation)).sum()).collect()
}

/// The state in which a round ended by some order that explains its replies, if there is one.
fn explain(operations: &[Operation], start: &Model) -> Option<Model> {
    assert!(operations.len() <= 64, "a bit for each operation");
    let all = u64::MAX >> (64 - operations.len());
    let predecessors = predecessors(operations);
    let mut seen: HashSet<(u64, Model)> = HashSet::new();
    let mut stack = vec![(0, start.clone())];
    while let Some((done, model)) = stack.pop() {
        if done == all {
            return Some(model);
        }
        if !seen.insert((done, model.clone())) {
            continue;
        }
        for (index, operation) in operations.iter().enumerate().rev() {
            if done & (1 << index) != 0 || predecessors[index] & !done != 0 {
                continue;
            }
            let mut next = model.clone();
            if operation.commands.iter().zip(&operation.replies).all(|(command, reply)| command.apply(&mut next) == *reply) {
                stack.push((done | 1 << index, next));
            }
        }
    }
    None
}

fn show(history: &[Operation]) {
    let first = history.iter().map(|operation| operation.began).min().expect("operations");
    for Operation { client, commands, replies, began, ended } in history {
        let micros = |at: &Instant| at.duration_since(first).as_micros();
        eprintln!("client {client} {:>6} … {:>6} µs  {commands:?}  →  {replies:?}", micros(began), micros(ended));
    }
}

pub fn run(cores: usize, duration: Duration) {
    let mut server = Server::kvcore(cores, &[]);
    let (end, seed) = (Instant::now() + duration, seed());
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| server.client()).collect();
    let (mut random, mut value, mut rounds) = (Random::new(seed), 0, 0);
    let mut model = Model::default();
    while Instant::now() < end {
        let pipelined = random.chance(40);
        let per_client = if pipelined { OPERATIONS_IN_A_PIPELINE } else { OPERATIONS_ONE_BY_ONE };
        let mut plan = || -> Vec<Vec<Command>> {
            (0..per_client)
                .map(|_| {
                    let commands = if random.chance(25) { 2 + random.below(3) } else { 1 };
                    (0..commands).map(|_| Command::generate(&mut random, &mut value)).collect()
                })
                .collect()
        };
        let plans: Vec<_> = (0..CLIENTS).map(|_| plan()).collect();
        let (barrier, history) = (Barrier::new(CLIENTS), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for ((index, client), plan) in clients.iter_mut().enumerate().zip(plans) {
                let (barrier, history) = (&barrier, &history);
                scope.spawn(move || {
                    barrier.wait();
                    let done = perform(index, client, plan, pipelined);
                    history.lock().expect("no thread panicked holding it").extend(done);
                });
            }
        });
        let mut history = history.into_inner().expect("no thread panicked holding it");
        history.sort_by_key(|operation| (operation.ended, operation.client));
        let look: Vec<Command> = std::iter::once(Mget((0..STRINGS).collect())).chain((0..SETS).map(Smembers)).collect();
        history.extend(perform(0, &mut clients[0], vec![look], false));
        match explain(&history, &model) {
            Some(end) => model = end,
            None => {
                show(&history);
                panic!("--cores {cores}, round {rounds}, seed {seed}: no order explains these replies, from {model:?}");
            }
        }
        rounds += 1;
    }
    println!("--cores {cores}: {rounds} rounds explained");
    assert!(rounds > 100, "only {rounds} rounds in {duration:?}");
    server.check_healthy();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(command: Command, reply: Value, began: Instant, ended: Instant) -> Operation {
        Operation { client: 0, commands: vec![command], replies: vec![reply], began, ended }
    }

    /// The checker must not accept everything: half of an MSET, and a read of what an earlier command had overwritten.
    #[test]
    fn torn_and_stale_reads_are_refused() {
        let at = |ms: u64| Instant::now() + Duration::from_millis(ms + 1000);
        let (t0, t1, t2, t3) = (at(0), at(100), at(200), at(300));
        let write = operation(Mset(vec![(0, 1), (1, 1)]), Value::ok(), t0, t1);
        let start = Model::default();
        let read = |a: Value, b: Value, began, ended| Operation {
            client: 1,
            ..operation(Mget(vec![0, 1]), Value::Array(vec![a, b]), began, ended)
        };
        let (old, new) = (Value::Null, Value::bulk("1"));
        assert!(explain(&[write.clone(), read(new.clone(), new.clone(), t0, t1)], &start).is_some());
        assert!(explain(&[write.clone(), read(old.clone(), old.clone(), t0, t1)], &start).is_some());
        assert!(explain(&[write.clone(), read(old.clone(), new, t0, t1)], &start).is_none(), "a torn read");
        assert!(explain(&[write, read(old.clone(), old, t2, t3)], &start).is_none(), "a stale read");
    }
}
