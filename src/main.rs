//! kvcore: a Redis-compatible, thread-per-core in-memory server on io_uring.
#![allow(dead_code, unused_imports)]

mod config;
mod protocol;
mod reactor;

fn main() {}
