//! The configuration of a node: the table of directives, reading it from files and the command line, CONFIG GET and SET,
//! and CONFIG REWRITE.
//!
//! Owns names, bounds, spellings and Redis's words for every refusal. Refuses to know what a directive does: the node
//! reads the plain fields of [`Config`], and whoever owns an effect (a port, a limit, a thread) applies a change after
//! [`Config::set`] has said what changed. Nothing a file or a client writes can panic here.
//!
//! - `table` the one table; `directive` what a row is; `values`, `structures`, `checks` the kinds of values
//! - `words` quoting; `load` files and overrides; `command_line` the arguments; `availability` what is not there yet
//! - `change` CONFIG GET and SET; `rewrite` CONFIG REWRITE

mod availability;
mod change;
mod checks;
pub mod command_line;
mod directive;
pub mod load;
pub mod rewrite;
#[cfg(test)]
mod samples;
pub mod structures;
mod table;
pub mod values;
pub mod words;

use values::MemoryOrPercent;

pub use availability::not_available;
pub use change::{SetContext, SetError};
pub use directive::Directive;
pub use table::{Config, DIRECTIVES};

/// The Redis version whose behaviour a node shows, where clients ask for it.
pub const REDIS_VERSION: &str = "7.0.15";

/// Bytes that clients may hold in any case: with less nobody could tell the node that the limit is wrong.
const CLIENT_BYTES_MIN: u64 = 128 << 10;

impl Config {
    /// The node keeps its data on disk. Otherwise `rdb-del-sync-files` is about the files that replication leaves there.
    pub fn keeps_data(&self) -> bool {
        self.appendonly || !self.save.is_empty()
    }

    /// `maxmemory-clients`: bytes that all clients together may hold. None: no limit.
    pub fn client_bytes_max(&self) -> Option<u64> {
        let most = match self.maxmemory_clients {
            MemoryOrPercent::Bytes(bytes) => bytes,
            MemoryOrPercent::Percent(percent) => (self.maxmemory as f64 * f64::from(percent) / 100.0) as u64,
        };
        (most > 0).then_some(most.max(CLIENT_BYTES_MIN))
    }
}

impl Directive {
    /// The directive with this name or alias, in any case.
    pub fn find(name: &[u8]) -> Option<&'static Directive> {
        DIRECTIVES.iter().find(|directive| directive.is_called(name))
    }
}
