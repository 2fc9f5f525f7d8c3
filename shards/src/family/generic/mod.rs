//! Commands on keys of any type: their existence, names, expiry, encoding, serialized form, and whole databases.

mod database;
mod dump;
mod expire;
mod iterate;
mod keys;
mod object;
mod sort;

use super::ShardCommand;

pub use dump::dump_payload;
pub use object::encoding;

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
    &sort::SORT,
    &sort::SORT_RO,
    &dump::DUMP,
    &dump::RESTORE,
    &dump::RESTORE_ASKING,
    &database::DBSIZE,
    &database::FLUSHDB,
    &database::FLUSHALL,
    &database::SWAPDB,
];
