//! Hostile other nodes, whose bytes are cut anywhere, and connections that come and go: neither a replica nor a primary panics or holds
//! much.
//!
//! The first byte says whether it is the node's primary that talks, or its replicas. The next one sets directives; the rest is the talk
//! (see `talk.rs`).
//! `cargo +nightly fuzz run replication -- -malloc_limit_mb=8`
#![no_main]

#[allow(dead_code, reason = "a fuzz target of one part")]
#[path = "../../src/observe/log.rs"]
pub mod log;

#[allow(dead_code, unused_imports, reason = "a fuzz target of one part")]
#[path = "../../src/protocol/mod.rs"]
mod protocol;

#[allow(dead_code, unused_imports, reason = "a fuzz target of one part")]
#[path = "../../src/replication/mod.rs"]
mod replication;

#[allow(dead_code, reason = "written for the unit tests as well")]
#[path = "../../src/replication/simulation/talk.rs"]
mod talk;

mod observe {
    pub use crate::log;
}

use libfuzzer_sys::fuzz_target;
use talk::{check, from_primary, from_replicas};

fuzz_target!(|data: &[u8]| {
    if let Some((side, talk)) = data.split_first() {
        check(talk, if side & 1 == 0 { from_primary } else { from_replicas }, 1);
    }
});
