//! Long histories of MULTI blocks that append unique values to lists and read lists, over all shards.
//!
//! As values are unique and appended, every read of a list shows the order of all writes to it so far. From that follow
//! edges between blocks: who wrote before whom, who read whose write, who read before whose write; and real time adds: who had ended
//! before who began. Strictly serializable histories have no cycle in this graph (the list-append check of Kingsbury and
//! Alvaro's Elle).

use crate::harness::{Client, Random, Server, Value, encode, seed};
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::{Duration, Instant};

const CLIENTS: usize = 6;
const KEYS: usize = 6;
/// Lists start anew after so many blocks of a client, so that they stay short.
const BLOCKS_PER_GENERATION: u64 = 150;

#[derive(Clone, Debug)]
enum Part {
    Append { key: String, value: u64 },
    Read { key: String, seen: Vec<u64> },
}

#[derive(Clone, Debug)]
struct Block {
    parts: Vec<Part>,
    began: Instant,
    ended: Instant,
}

fn perform(client: &mut Client, mut parts: Vec<Part>) -> Block {
    let body: Vec<u8> = parts
        .iter()
        .flat_map(|part| match part {
            Part::Append { key, value } => encode(&["RPUSH", key, &value.to_string()]),
            Part::Read { key, .. } => encode(&["LRANGE", key, "0", "-1"]),
        })
        .collect();
    let bytes = if parts.len() == 1 { body } else { [encode(&["MULTI"]), body, encode(&["EXEC"])].concat() };
    let began = Instant::now();
    client.send_raw(&bytes);
    let replies = if parts.len() == 1 {
        vec![client.reply()]
    } else {
        (0..=parts.len()).for_each(|_| drop(client.reply()));
        client.reply().items()
    };
    let ended = Instant::now();
    assert_eq!(replies.len(), parts.len(), "EXEC answered {replies:?}");
    for (part, reply) in parts.iter_mut().zip(replies) {
        assert!(!reply.is_error(), "{reply}");
        if let Part::Read { seen, .. } = part {
            *seen = reply.items().iter().map(|value: &Value| value.text().parse().expect("a number")).collect();
        }
    }
    Block { parts, began, ended }
}

pub fn run(cores: usize, duration: Duration) {
    let mut server = Server::kvcore(cores, &[]);
    let (end, seed) = (Instant::now() + duration, seed());
    let history = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for index in 0..CLIENTS {
            let (mut client, history) = (server.client(), &history);
            scope.spawn(move || {
                let mut random = Random::new(seed + index as u64);
                let (mut done, mut value) = (Vec::new(), index as u64);
                while Instant::now() < end {
                    let generation = done.len() as u64 / BLOCKS_PER_GENERATION;
                    let parts = (0..1 + random.below(4))
                        .map(|_| {
                            let key = format!("list{generation}:{}", random.below(KEYS));
                            if random.chance(50) {
                                value += CLIENTS as u64;
                                Part::Append { key, value }
                            } else {
                                Part::Read { key, seen: Vec::new() }
                            }
                        })
                        .collect();
                    done.push(perform(&mut client, parts));
                }
                history.lock().expect("no thread panicked holding it").extend(done);
            });
        }
    });
    let history = history.into_inner().expect("no thread panicked holding it");
    if let Err(problem) = check(&history) {
        panic!("--cores {cores}, seed {seed}, {} blocks: {problem}", history.len());
    }
    println!("--cores {cores}: {} blocks without a cycle", history.len());
    server.check_healthy();
}

/// Why the history is not strictly serializable, if it is not.
fn check(history: &[Block]) -> Result<(), String> {
    let mut writer: HashMap<u64, usize> = HashMap::new();
    let mut orders: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (index, block) in history.iter().enumerate() {
        for part in &block.parts {
            match part {
                Part::Append { value, .. } => drop(writer.insert(*value, index)),
                Part::Read { key, seen } => {
                    let longest = orders.entry(key).or_default();
                    let shared = longest.len().min(seen.len());
                    if longest[..shared] != seen[..shared] {
                        return Err(format!("{key} was seen as {seen:?} and as {longest:?}"));
                    }
                    if seen.len() > longest.len() {
                        *longest = seen.clone();
                    }
                }
            }
        }
    }
    let mut edges: Vec<(usize, usize)> = Vec::new();
    for order in orders.values() {
        let blocks: Vec<usize> = order
            .iter()
            .map(|value| writer.get(value).copied().ok_or(format!("nobody wrote {value}")))
            .collect::<Result<_, _>>()?;
        edges.extend(blocks.windows(2).map(|pair| (pair[0], pair[1])));
    }
    for (index, block) in history.iter().enumerate() {
        let mut own: HashMap<&str, Vec<u64>> = HashMap::new();
        for part in &block.parts {
            match part {
                Part::Append { key, value } => own.entry(key).or_default().push(*value),
                Part::Read { key, seen } => {
                    let mine = own.get(key.as_str()).cloned().unwrap_or_default();
                    if !seen.ends_with(&mine) {
                        return Err(format!("a block appended {mine:?} to {key} and then saw {seen:?}"));
                    }
                    let before = &seen[..seen.len() - mine.len()];
                    edges.extend(before.last().and_then(|value| writer.get(value)).map(|from| (*from, index)));
                    edges.extend(orders[key.as_str()].get(seen.len()).and_then(|value| writer.get(value)).map(|to| (index, *to)));
                }
            }
        }
    }
    edges.retain(|(from, to)| from != to);
    add_real_time(history, &mut edges);
    match in_a_cycle(edges, 2 * history.len()) {
        nodes if nodes.is_empty() => Ok(()),
        nodes => {
            let blocks: Vec<_> = nodes
                .into_iter()
                .filter(|node| *node < history.len())
                .take(8)
                .map(|node| format!("{:?}", history[node].parts))
                .collect();
            Err(format!("a cycle among or before\n  {}", blocks.join("\n  ")))
        }
    }
}

/// One node per end of a block, in a chain: a block leads to the node of its end, and the last end before its beginning leads to it.
fn add_real_time(history: &[Block], edges: &mut Vec<(usize, usize)>) {
    let mut by_end: Vec<usize> = (0..history.len()).collect();
    by_end.sort_by_key(|index| history[*index].ended);
    let moment = |position: usize| history.len() + position;
    edges.extend((1..by_end.len()).map(|position| (moment(position - 1), moment(position))));
    edges.extend(by_end.iter().enumerate().map(|(position, block)| (*block, moment(position))));
    for (index, block) in history.iter().enumerate() {
        let earlier = by_end.partition_point(|other| history[*other].ended < block.began);
        edges.extend((earlier > 0).then(|| (moment(earlier - 1), index)));
    }
}

/// The nodes that are left when all nodes without an open predecessor, then without an open successor, are taken away.
fn in_a_cycle(mut edges: Vec<(usize, usize)>, nodes: usize) -> Vec<usize> {
    let mut left = vec![true; nodes];
    for _ in 0..2 {
        let (mut degree, mut next) = (vec![0u32; nodes], vec![Vec::new(); nodes]);
        for (from, to) in edges.iter().filter(|(from, to)| left[*from] && left[*to]) {
            degree[*to] += 1;
            next[*from].push(*to);
        }
        let mut ready: Vec<usize> = (0..nodes).filter(|node| left[*node] && degree[*node] == 0).collect();
        while let Some(node) = ready.pop() {
            left[node] = false;
            for to in &next[node] {
                degree[*to] -= 1;
                if degree[*to] == 0 {
                    ready.push(*to);
                }
            }
        }
        edges.iter_mut().for_each(|edge| *edge = (edge.1, edge.0));
    }
    (0..nodes).filter(|node| left[*node]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(parts: Vec<Part>, began_ms: u64, ended_ms: u64, origin: Instant) -> Block {
        Block { parts, began: origin + Duration::from_millis(began_ms), ended: origin + Duration::from_millis(ended_ms) }
    }

    fn append(key: &str, value: u64) -> Part {
        Part::Append { key: key.into(), value }
    }

    fn read(key: &str, seen: &[u64]) -> Part {
        Part::Read { key: key.into(), seen: seen.to_vec() }
    }

    /// The checker must find a write skew across two lists, and a read that real time forbids.
    #[test]
    fn cycles_are_found() {
        let origin = Instant::now();
        let later = |parts| block(parts, 50, 60, origin);
        let skew = [
            block(vec![read("x", &[]), append("y", 1)], 0, 10, origin),
            block(vec![read("y", &[]), append("x", 2)], 0, 10, origin),
            later(vec![read("x", &[2]), read("y", &[1])]),
        ];
        assert!(check(&skew).is_err());
        let stale = [
            block(vec![append("x", 1)], 0, 10, origin),
            block(vec![read("x", &[])], 20, 30, origin),
            later(vec![read("x", &[1])]),
        ];
        assert!(check(&stale).is_err());
        let sound = [
            block(vec![append("x", 1)], 0, 10, origin),
            block(vec![read("x", &[])], 5, 30, origin),
            later(vec![read("x", &[1])]),
        ];
        assert_eq!(check(&sound), Ok(()));
    }
}
