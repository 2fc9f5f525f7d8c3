//! The reply writer: what it costs to spell the usual replies into a connection's output.
//!
//! `cargo bench --bench reply`; each iteration writes 64 replies (or one array of 100), as a pipeline does.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kvshard::Reply;
use std::hint::black_box;

const REPLIES: u64 = 64;

fn replies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("64_replies");
    group.throughput(Throughput::Elements(REPLIES));
    let mut out = Vec::with_capacity(1 << 16);
    let mut bench = |name: &str, resp3: bool, write: &dyn Fn(&mut Reply<'_>, u64)| {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                let mut reply = Reply::new(&mut out, resp3);
                (0..REPLIES).for_each(|index| write(&mut reply, black_box(index)));
                out.len()
            });
        });
    };
    let (small, large) = (black_box(vec![b'x'; 16]), black_box(vec![b'x'; 1024]));
    bench("ok", false, &|reply, _| reply.ok());
    bench("null", false, &|reply, _| reply.null());
    bench("small_integer", false, &|reply, index| reply.integer(index as i64 % 10));
    bench("large_integer", false, &|reply, index| reply.integer(index as i64 * 1_234_567_891));
    bench("bulk_16", false, &|reply, _| reply.bulk(&small));
    bench("bulk_1024", false, &|reply, _| reply.bulk(&large));
    bench("bulk_integer", false, &|reply, index| reply.bulk_integer(index as i64 * 7919));
    bench("double_integral", true, &|reply, index| reply.double(index as f64));
    bench("double_fraction", true, &|reply, index| reply.double(index as f64 + 0.1));
    group.finish();
}

fn arrays(criterion: &mut Criterion) {
    let item = black_box(vec![b'x'; 10]);
    let mut out = Vec::with_capacity(1 << 16);
    criterion.bench_function("array_of_100_bulks", |bencher| {
        bencher.iter(|| {
            out.clear();
            let mut reply = Reply::new(&mut out, false);
            reply.array(100);
            (0..100).for_each(|_| reply.bulk(black_box(&item)));
            out.len()
        });
    });
    criterion.bench_function("deferred_array_of_100_bulks", |bencher| {
        bencher.iter(|| {
            out.clear();
            let mut reply = Reply::new(&mut out, false);
            let at = reply.deferred();
            (0..100).for_each(|_| reply.bulk(black_box(&item)));
            reply.finish(at, kvshard::reply::Aggregate::Array, 100);
            out.len()
        });
    });
}

criterion_group!(benches, replies, arrays);
criterion_main!(benches);
