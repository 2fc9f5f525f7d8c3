//! Hashes: fields with values under one key.

mod random;
mod read;
mod write;

use super::ShardCommand;
use crate::command::KeyAccess;

pub static COMMANDS: &[&ShardCommand] = &[
    &write::HSET,
    &write::HSETNX,
    &write::HMSET,
    &write::HDEL,
    &write::HINCRBY,
    &write::HINCRBYFLOAT,
    &read::HGET,
    &read::HMGET,
    &read::HGETALL,
    &read::HKEYS,
    &read::HVALS,
    &read::HLEN,
    &read::HEXISTS,
    &read::HSTRLEN,
    &read::HSCAN,
    &random::HRANDFIELD,
];

/// The key's value is read and told.
const READ: KeyAccess = KeyAccess::RO.with(KeyAccess::ACCESS);

#[cfg(test)]
mod tests;
