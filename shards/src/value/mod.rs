//! The values a key can hold, each with its small (packed) and its large encoding.

pub mod bptree;
pub mod chunk;
pub mod front;
pub mod intset;
pub mod item;
pub mod list;
pub mod packed;
pub mod thin;
