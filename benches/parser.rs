//! Parsing a pipeline of 64 requests that are complete in the buffer, and the cost of resuming a big argument.
//!
//! `cargo bench --bench parser`; criterion's time per iteration divided by 64 is the time per request.

#[allow(dead_code, unused_imports, reason = "a benchmark of one part")]
#[path = "../src/protocol/mod.rs"]
mod protocol;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use protocol::{Args, Limits, Parsed, Parser};
use std::hint::black_box;

const PIPELINE: u64 = 64;

fn request(args: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn pipeline(args: impl Fn(u64) -> Vec<Vec<u8>>) -> Vec<u8> {
    (0..PIPELINE)
        .flat_map(|index| {
            let args = args(index);
            request(&args.iter().map(Vec::as_slice).collect::<Vec<_>>())
        })
        .collect()
}

/// Parses all of `input`; the sum keeps the arguments from being optimised away.
fn drain(parser: &mut Parser, args: &mut Args, input: &[u8], limits: &Limits) -> u64 {
    let mut at = 0;
    let mut sum = 0;
    while at < input.len() {
        match parser.parse(&input[at..], limits, args) {
            Parsed::Command { consumed } => {
                let (start, end) = args.ranges()[args.len() - 1];
                sum += u64::from(start) + u64::from(end);
                at += consumed;
            }
            other => panic!("a complete pipeline gave {other:?}"),
        }
    }
    sum
}

fn complete_requests(criterion: &mut Criterion) {
    let key = |index: u64| format!("key:{index:012}").into_bytes();
    let inputs = [
        ("ping", pipeline(|_| vec![b"PING".to_vec()])),
        ("get", pipeline(|index| vec![b"GET".to_vec(), key(index)])),
        ("set_64", pipeline(|index| vec![b"SET".to_vec(), key(index), vec![b'x'; 64]])),
        ("set_1024", pipeline(|index| vec![b"SET".to_vec(), key(index), vec![b'x'; 1024]])),
        // Lengths that change from one request to the next, so that branches cannot be learnt.
        (
            "set_mixed",
            pipeline(|index| {
                let random = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
                let len = [3, 17, 60, 120, 300, 1500][random as usize % 6];
                vec![b"SET".to_vec(), key(index)[..4 + random as usize % 12].to_vec(), vec![b'x'; len]]
            }),
        ),
        ("inline_get", (0..PIPELINE).flat_map(|index| format!("GET key:{index:012}\r\n").into_bytes()).collect()),
    ];
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("pipeline_of_64");
    group.throughput(Throughput::Elements(PIPELINE));
    for (name, input) in &inputs {
        let (mut parser, mut args) = (Parser::new(), Args::new());
        group.bench_function(*name, |bencher| {
            bencher.iter(|| drain(&mut parser, &mut args, black_box(input), &limits));
        });
    }
    group.finish();
}

fn cut_requests(criterion: &mut Criterion) {
    let limits = Limits::default();
    let mut args = Args::new();
    let get = request(&[b"GET", b"key:000000000042"]);
    criterion.bench_function("get_cut_in_two", |bencher| {
        let mut parser = Parser::new();
        bencher.iter(|| {
            black_box(parser.parse(black_box(&get[..20]), &limits, &mut args));
            black_box(parser.parse(black_box(&get), &limits, &mut args))
        });
    });
    let mut big = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$419430400\r\n".to_vec();
    big.resize(1024 * 1024, b'x');
    criterion.bench_function("one_more_piece_of_400_mb", |bencher| {
        let mut parser = Parser::new();
        parser.parse(&big, &limits, &mut args);
        bencher.iter(|| black_box(parser.parse(black_box(&big), &limits, &mut args)));
    });
}

criterion_group!(benches, complete_requests, cut_requests);
criterion_main!(benches);
