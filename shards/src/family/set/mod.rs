//! Sets: distinct members under one key.

mod algebra;
mod members;
mod random;

use super::ShardCommand;
use crate::command::KeyAccess;
use crate::error::Error;
use crate::exec::Exec;
use crate::keyspace::{Expiry, Key, NewValue};
use crate::value::Object;
use crate::value::set::{Set, SetLimits};

pub static COMMANDS: &[&ShardCommand] = &[
    &members::SADD,
    &members::SREM,
    &members::SMOVE,
    &members::SCARD,
    &members::SISMEMBER,
    &members::SMISMEMBER,
    &members::SMEMBERS,
    &members::SSCAN,
    &random::SPOP,
    &random::SRANDMEMBER,
    &algebra::SINTER,
    &algebra::SINTERSTORE,
    &algebra::SINTERCARD,
    &algebra::SUNION,
    &algebra::SUNIONSTORE,
    &algebra::SDIFF,
    &algebra::SDIFFSTORE,
];

/// The key's value is read and told.
const READ: KeyAccess = KeyAccess::RO.with(KeyAccess::ACCESS);

fn limits(x: &Exec<'_>) -> SetLimits {
    SetLimits::new(x.settings(), x.shard.hasher.state())
}

/// Changes the set at `key`, made if there is none.
fn edit<R>(x: &mut Exec<'_>, key: &Key<'_>, edit: impl FnOnce(&mut Set, &SetLimits) -> R) -> Result<R, Error> {
    let limits = limits(x);
    if let Some(set) = x.set_mut(key)? {
        return Ok(edit(set, &limits));
    }
    let mut set = Set::new();
    let result = edit(&mut set, &limits);
    x.store(key, NewValue::Object(Object::Set(set)), Expiry::Clear);
    Ok(result)
}

#[cfg(test)]
mod tests;
