//! What lies on disk: append-only files, their manifest, and the tools that check them and snapshots.
//!
//! Owns formats and rules. Refuses to know the ring, clients and the running shards: bytes come in and go out as slices,
//! and files are touched only by the checking tools and by the small file layer of the manifest.

pub mod aof_reader;
pub mod check_aof;
pub mod check_rdb;
pub mod disk;
pub mod manifest;
pub mod segment;
pub mod spanning;

#[cfg(test)]
mod loading_tests;
