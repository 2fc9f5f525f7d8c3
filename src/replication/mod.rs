//! Replication as pure state machines: what a primary and a replica say and do, without sockets, clocks, threads or randomness.
//!
//! ```text
//! shards' effects ─▶ encoded ─▶ one stream ─▶ backlog ─▶ primary ─▶ replicas' connections
//!                                              ▲
//!                       primary's connection ─▶ link ─▶ commands to be applied
//! ```
//!
//! Whoever drives them hands in what happened and the time, and does what comes out. That is what makes whole networks of
//! nodes with failures replayable from one seed. Words and bytes are those of redis-server 7.0.15.

pub mod backlog;
pub mod encoded;
pub mod failover;
pub mod history;
pub mod link;
pub mod node;
pub mod primary;
#[cfg(test)]
mod simulation;
