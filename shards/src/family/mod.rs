//! The commands on keys, by family: each file holds the commands' definitions, handlers and tests together.
//!
//! Adding a command: one static item in its family's file, and one line in that family's list.

mod bitmap;
mod blocking;
mod elements;
pub mod generic;
mod geo;
mod hash;
mod hyperloglog;
mod list;
pub(crate) mod scan;
mod set;
mod sorted_set;
mod string;

use crate::command::Command;
use crate::exec::ShardHandler;

/// A command that runs on a shard.
pub type ShardCommand = Command<ShardHandler>;

/// All of them.
pub fn commands() -> impl Iterator<Item = &'static ShardCommand> {
    [
        bitmap::COMMANDS,
        generic::COMMANDS,
        geo::COMMANDS,
        hash::COMMANDS,
        hyperloglog::COMMANDS,
        list::COMMANDS,
        set::COMMANDS,
        sorted_set::COMMANDS,
        string::COMMANDS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod effect_tests;
#[cfg(test)]
mod replay_tests;
