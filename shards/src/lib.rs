//! One keyspace shard as a plain synchronous library.
//!
//! Owns the data structures, the commands that act on keys, and their replies. Refuses to know sockets, threads, clocks,
//! files and random sources: `now` and seeds are arguments, so every run can be replayed.
//!
//! Where to look: a command lives in [`family`], its description's form in [`command`], what a handler may do in [`exec`],
//! the keys themselves in [`keyspace`], and what a key can hold in [`value`].

pub mod codec;
pub mod command;
pub mod effects;
pub mod error;
pub mod exec;
pub mod family;
pub mod glob;
pub mod keyspace;
pub mod number;
pub mod random;
pub mod reply;
pub mod settings;
pub mod shard;
pub mod split;
pub mod table;
pub mod value;

pub use command::{Args, Command, Flags, Group, KeySpec, Route, Spec};
pub use effects::Effects;
pub use error::Error;
pub use exec::{Exec, Outcome};
pub use reply::Reply;
pub use settings::Settings;
pub use shard::Shard;
