//! A hostile primary, whose bytes are cut anywhere, and connections that come and go: the node that follows it neither panics nor
//! holds much.
//!
//! The first byte sets directives; the rest is a talk (see `talk.rs`).
//! `cargo +nightly fuzz run link -- -malloc_limit_mb=8`
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
use talk::{check, from_primary};

fuzz_target!(|data: &[u8]| {
    check(data, from_primary, 1);
});
