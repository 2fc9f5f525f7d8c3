//! GET and SET of random keys among a million, through a shard as a client's command goes.
//!
//! `cargo bench --bench shard_get_set`; one iteration runs 64 commands, one at a time or in batches of 16 whose table places and
//! entries are fetched ahead, as the reactor does with a pipeline. Criterion's time divided by 64 is the time per command.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kvshard::command::ArgsBuf;
use kvshard::family::{ShardCommand, commands};
use kvshard::keyspace::{ClientId, Key, KeyHasher};
use kvshard::shard::Request;
use kvshard::{Settings, Shard};
use std::hint::black_box;

const NOW: i64 = 1_700_000_000_000;
const KEYS: usize = 1_000_000;
const PER_ITERATION: usize = 64;
const BATCH: usize = 16;

fn command(name: &str) -> &'static ShardCommand {
    commands().find(|command| command.spec.name == name).expect("a command of a shard")
}

fn key(index: usize) -> Vec<u8> {
    format!("key:{index:012}").into_bytes()
}

fn run(shard: &mut Shard, command: &'static ShardCommand, args: &ArgsBuf, first_key: Option<Key<'_>>, out: &mut Vec<u8>) {
    let args = args.args();
    let request = Request {
        command,
        args,
        db: 0,
        now: NOW,
        client: ClientId(1),
        resp3: false,
        may_block: false,
        no_touch: false,
        first_key,
    };
    shard.execute(request, out);
}

fn filled() -> Shard {
    let mut shard = Shard::new(KeyHasher::new([1, 2, 3, 4], 1), 16, Settings::default(), 42);
    let (set, mut out) = (command("set"), Vec::new());
    for index in 0..KEYS {
        out.clear();
        run(&mut shard, set, &ArgsBuf::from_slices(&[b"SET", &key(index), b"0123456789abcdef"]), None, &mut out);
    }
    shard
}

fn get_and_set(criterion: &mut Criterion) {
    let mut shard = filled();
    let mut group = criterion.benchmark_group("a_million_keys");
    group.throughput(Throughput::Elements(PER_ITERATION as u64));
    let spread = |index: usize| index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    for (name, present) in [("get", true), ("set", true), ("get_missing", false)] {
        let run_as = command(name.split('_').next().expect("a name"));
        let requests: Vec<ArgsBuf> = (0..KEYS / 4)
            .map(|index| {
                let key = key(spread(index) % KEYS + if present { 0 } else { KEYS });
                if name == "set" {
                    ArgsBuf::from_slices(&[b"SET", &key, b"fedcba9876543210"])
                } else {
                    ArgsBuf::from_slices(&[b"GET", &key])
                }
            })
            .collect();
        let (mut at, mut out) = (0, Vec::with_capacity(1 << 16));
        let places = requests.len() - PER_ITERATION;
        let mut next = move || {
            at = (at + PER_ITERATION) % places;
            at
        };
        group.bench_function(format!("{name}_one_by_one"), |bencher| {
            bencher.iter(|| {
                out.clear();
                let at = next();
                for args in &requests[at..at + PER_ITERATION] {
                    run(&mut shard, run_as, args, None, &mut out);
                }
                black_box(out.len())
            });
        });
        group.bench_function(format!("{name}_in_batches"), |bencher| {
            bencher.iter(|| {
                out.clear();
                let at = next();
                for batch in requests[at..at + PER_ITERATION].chunks(BATCH) {
                    let places: [Key<'_>; BATCH] = std::array::from_fn(|index| shard.hasher.key(batch[index].args().at(1)));
                    places.iter().for_each(|key| shard.dbs[0].prefetch(key));
                    places.iter().for_each(|key| shard.dbs[0].prefetch_entry(key));
                    for (args, key) in batch.iter().zip(places) {
                        run(&mut shard, run_as, args, Some(key), &mut out);
                    }
                }
                black_box(out.len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, get_and_set);
criterion_main!(benches);
