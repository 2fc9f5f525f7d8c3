//! kvcore: a Redis-compatible, thread-per-core in-memory server on io_uring.

#[allow(dead_code, unused_imports, reason = "driven by the reactor")]
mod protocol;

fn main() {}
