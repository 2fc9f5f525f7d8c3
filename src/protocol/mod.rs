//! The request side of the wire protocol: bytes from a client become the arguments of a command.
//!
//! Owns RESP multibulk and inline requests, their limits and their errors. Refuses to know sockets, clients and commands:
//! `POST` and `Host:` are commands like any other here. Replies are written elsewhere. Depends on nothing of the crate, so
//! that a fuzz target or a benchmark includes this directory as it is.

mod error;
mod inline;
pub mod limits;
mod parse;
mod quote;

pub use error::ProtocolError;
pub use limits::Limits;
pub use parse::{Args, Parsed, Parser};
pub use quote::quote;

#[cfg(test)]
mod tests;
