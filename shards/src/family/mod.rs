//! The commands on keys, by family: each file holds the commands' definitions, handlers and tests together.
//!
//! Adding a command: one static item in its family's file, and one line in that family's list.

mod elements;
mod hash;
pub(crate) mod scan;
mod blocking;
pub mod generic;
mod set;
mod blocking;
mod geo;
pub(crate) mod scan;
mod sorted_set;
mod blocking;
mod list;
mod string;

use crate::command::Command;
use crate::exec::ShardHandler;

/// A command that runs on a shard.
pub type ShardCommand = Command<ShardHandler>;

/// All of them.
pub fn commands() -> impl Iterator<Item = &'static ShardCommand> {
    [generic::COMMANDS, string::COMMANDS].into_iter().flatten().copied()
    [string::COMMANDS, hash::COMMANDS, set::COMMANDS].into_iter().flatten().copied()
    [geo::COMMANDS, sorted_set::COMMANDS, string::COMMANDS].into_iter().flatten().copied()
    [list::COMMANDS, string::COMMANDS].into_iter().flatten().copied()
}

#[cfg(test)]
mod testing;
