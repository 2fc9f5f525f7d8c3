//! The machine a node runs on: how many CPUs it may use, and whether its settings are those of the `tuning` folder.
//!
//! Reads `/proc` and `/sys`, never writes. The wanted values and the reasons printed with them come from the tuning files
//! themselves, which are built in, so that the check and what `tuning/apply` installs cannot differ.

mod check;
pub mod process;
mod wanted;

pub use check::{Machine, check};

/// What a machine is for; each role has its own settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// It runs kvcore.
    Store,
    /// It runs HAProxy in front of kvcore.
    Proxy,
}

impl Role {
    /// The role as the command line and the tuning folder call it.
    pub fn name(self) -> &'static str {
        match self {
            Role::Store => "store",
            Role::Proxy => "proxy",
        }
    }
}

/// How many CPUs this process may use: those of its affinity mask, or fewer if its control group has a quota of time.
pub fn usable_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
