//! Any bytes as an RDB file, cut anywhere: no panic, no more memory than the bytes justify, and one verdict.
//!
//! The first byte says how many of the next bytes place the cuts, and whether a header is put before the rest.
//! `cargo +nightly fuzz run rdb_file`
#![no_main]

use kvshard::codec;

#[path = "../../shards/src/codec/rdb/file/tests/verdict.rs"]
mod verdict;

use kvshard::Settings;
use kvshard::codec::ValueLimits;
use libfuzzer_sys::fuzz_target;
use verdict::judge;

fuzz_target!(|data: &[u8]| {
    let Some((&control, rest)) = data.split_first() else { return };
    let (places, body) = rest.split_at(rest.len().min(usize::from(control & 7)));
    let header: &[u8] = if control & 8 == 0 { b"REDIS0010" } else { b"" };
    let file = [header, body].concat();
    let mut cuts: Vec<usize> = places.iter().map(|&place| usize::from(place) * file.len() / 255).collect();
    cuts.sort_unstable();
    let limits = ValueLimits::new(&Settings::default(), &ahash::RandomState::with_seeds(1, 2, 3, 4));
    assert_eq!(judge(&file, cuts, &limits), judge(&file, [], &limits));
});
