//! kvcore: a Redis-compatible, thread-per-core in-memory server on io_uring.
mod config;

fn main() {}
