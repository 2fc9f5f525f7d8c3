//! One keyspace shard as a plain synchronous library.
//!
//! Owns the data structures, the commands that act on keys, and their replies. Refuses to know sockets, threads, clocks,
//! files and random sources: `now` and seeds are arguments, so every run can be replayed.

pub mod glob;
pub mod value;
