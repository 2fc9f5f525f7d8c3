//! Commands on collections in each of their encodings, through a shard as a client's command goes.
//!
//! `cargo bench --bench encodings`; one iteration is one command on a collection of the size named.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use kvshard::command::ArgsBuf;
use kvshard::family::{ShardCommand, commands};
use kvshard::keyspace::{ClientId, KeyHasher};
use kvshard::shard::Request;
use kvshard::{Settings, Shard};
use std::hint::black_box;

const NOW: i64 = 1_700_000_000_000;
/// A size that is packed by default, and one that is not.
const SIZES: [usize; 2] = [32, 100_000];

struct Bench {
    shard: Shard,
    out: Vec<u8>,
}

/// A command line, looked up and cut once.
struct Prepared {
    command: &'static ShardCommand,
    args: ArgsBuf,
}

fn prepare(line: &str) -> Prepared {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let name = line.split(' ').next().expect("a name").to_lowercase();
    let command = commands().find(|command| command.spec.name == name).expect("a command of a shard");
    Prepared { command, args: ArgsBuf::from_slices(&words) }
}

impl Bench {
    fn new() -> Bench {
        Bench {
            shard: Shard::new(KeyHasher::new([1, 2, 3, 4], 1), 16, Settings::default(), 42),
            out: Vec::with_capacity(1 << 20),
        }
    }

    fn run(&mut self, prepared: &Prepared) -> usize {
        self.out.clear();
        let request = Request {
            command: prepared.command,
            args: prepared.args.args(),
            db: 0,
            now: NOW,
            client: ClientId(1),
            resp3: false,
            may_block: false,
            no_touch: false,
            first_key: None,
        };
        self.shard.execute(request, &mut self.out);
        assert!(self.out.first().is_some_and(|kind| *kind != b'-'), "{}", String::from_utf8_lossy(&self.out));
        self.out.len()
    }

    fn fill(&mut self, size: usize, line: impl Fn(usize) -> String) {
        (0..size).for_each(|index| {
            self.run(&prepare(&line(index)));
        });
    }
}

/// Fills a key, then measures each of the commands, taken in turn from as many variants as `line` gives.
fn measure(criterion: &mut Criterion, kind: &str, fill: impl Fn(usize) -> String, cases: &[(&str, &dyn Fn(usize) -> String)]) {
    let mut group = criterion.benchmark_group(kind);
    for size in SIZES {
        let mut bench = Bench::new();
        bench.fill(size, &fill);
        for (name, line) in cases {
            // Spread over the collection, in an order that no cache guesses.
            let variants: Vec<Prepared> = (0..1024).map(|index| prepare(&line(index * 7919 % size))).collect();
            let mut next = 0;
            group.bench_function(BenchmarkId::new(*name, size), |bencher| {
                bencher.iter(|| {
                    next = (next + 1) % variants.len();
                    black_box(bench.run(&variants[next]))
                });
            });
        }
    }
    group.finish();
}

fn lists(criterion: &mut Criterion) {
    let fill = |index| format!("RPUSH k element-{index}");
    measure(
        criterion,
        "list",
        fill,
        &[
            ("LINDEX", &|index| format!("LINDEX k {index}")),
            ("LSET", &|index| format!("LSET k {index} element-x")),
            ("LRANGE_10", &|index| format!("LRANGE k {index} {}", index + 9)),
            ("LMOVE_around", &|_| "LMOVE k k LEFT RIGHT".into()),
        ],
    );
}

fn hashes(criterion: &mut Criterion) {
    let fill = |index| format!("HSET k field{index} value{index}");
    measure(
        criterion,
        "hash",
        fill,
        &[
            ("HGET", &|index| format!("HGET k field{index}")),
            ("HGET_missing", &|index| format!("HGET k nothing{index}")),
            ("HSET_same_length", &|index| format!("HSET k field{index} valuf{index}")),
            ("HMGET_4", &|index| format!("HMGET k field{index} field{} field{} none", index / 2, index / 3)),
        ],
    );
}

fn sets(criterion: &mut Criterion) {
    let members = |index| format!("SADD k member{index}");
    measure(
        criterion,
        "set",
        members,
        &[
            ("SISMEMBER", &|index| format!("SISMEMBER k member{index}")),
            ("SADD_present", &|index| format!("SADD k member{index}")),
            ("SRANDMEMBER_8", &|_| "SRANDMEMBER k 8".into()),
        ],
    );
    let integers = |index| format!("SADD k {index}");
    measure(criterion, "set_of_integers", integers, &[("SISMEMBER", &|index| format!("SISMEMBER k {index}"))]);
}

fn sorted_sets(criterion: &mut Criterion) {
    let fill = |index| format!("ZADD k {} member{index}", index * 31 % 100_003);
    measure(
        criterion,
        "sorted_set",
        fill,
        &[
            ("ZSCORE", &|index| format!("ZSCORE k member{index}")),
            ("ZRANK", &|index| format!("ZRANK k member{index}")),
            ("ZADD_moves", &|index| format!("ZADD k {} member{index}", index * 17 % 100_003)),
            ("ZRANGE_10", &|index| format!("ZRANGE k {index} {}", index + 9)),
            ("ZRANGEBYSCORE_10", &|index| format!("ZRANGEBYSCORE k {index} +inf LIMIT 0 10")),
        ],
    );
}

criterion_group!(benches, lists, hashes, sets, sorted_sets);
criterion_main!(benches);
