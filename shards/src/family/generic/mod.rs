//! Commands on keys of any type: their existence, names, expiry, encoding, serialized form, and whole databases.

mod database;
mod expire;
mod iterate;
mod keys;
mod object;

use super::ShardCommand;

pub static COMMANDS: &[&ShardCommand] = &[
    &keys::DEL,
    &keys::UNLINK,
    &keys::EXISTS,
    &keys::TOUCH,
    &keys::TYPE,
    &keys::RENAME,
    &keys::RENAMENX,
    &keys::COPY,
    &keys::MOVE,
    &iterate::RANDOMKEY,
    &iterate::KEYS,
    &iterate::SCAN,
    &expire::EXPIRE,
    &expire::PEXPIRE,
    &expire::EXPIREAT,
    &expire::PEXPIREAT,
    &expire::TTL,
    &expire::PTTL,
    &expire::EXPIRETIME,
    &expire::PEXPIRETIME,
    &expire::PERSIST,
    &object::OBJECT,
    &object::OBJECT_ENCODING,
    &object::OBJECT_FREQ,
    &object::OBJECT_IDLETIME,
    &object::OBJECT_REFCOUNT,
    &object::OBJECT_HELP,
    &object::MEMORY_USAGE,
    &database::DBSIZE,
    &database::FLUSHDB,
    &database::FLUSHALL,
    &database::SWAPDB,
];
