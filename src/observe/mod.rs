//! What the node tells about itself: slow commands, latency events, the log.

pub mod clock;
pub mod latency;
pub mod log;
pub mod memory;
pub mod rates;
pub mod slowlog;
