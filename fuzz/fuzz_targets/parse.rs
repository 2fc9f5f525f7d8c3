//! Any bytes, cut anywhere: no panic, no more memory than the bytes justify, and one verdict.
//!
//! The first byte says how many of the next bytes place the cuts and whether the client has authenticated.
//! `cargo +nightly fuzz run parse`
#![no_main]

#[allow(dead_code, unused_imports, reason = "a fuzz target of one part")]
#[path = "../../src/protocol/mod.rs"]
mod protocol;

#[allow(dead_code, reason = "written for the unit tests as well")]
#[path = "../../src/protocol/tests/verdict.rs"]
mod verdict;

use libfuzzer_sys::fuzz_target;
use verdict::judge;

fuzz_target!(|data: &[u8]| {
    let Some((&control, rest)) = data.split_first() else { return };
    let (places, stream) = rest.split_at(rest.len().min(usize::from(control & 7)));
    let mut cuts: Vec<usize> = places.iter().map(|&place| usize::from(place) * stream.len() / 255).collect();
    cuts.sort_unstable();
    let limits = protocol::Limits::default().for_client(control & 8 == 0);
    assert_eq!(judge(stream, cuts, &limits), judge(stream, [], &limits));
});
