//! The keys of a shard: entries, databases, expiry, eviction, scanning, and who waits for or watches a key.

pub mod cut;
pub mod db;
pub mod entry;
pub mod evict;
pub mod expire;
pub mod load;
pub mod serve;
pub mod slot;
pub mod waiters;
pub mod watch;

pub use db::{Db, Expiry, Key, KeyHasher};
pub use entry::{NewValue, OwnedEntry, Value, ValueMut};
pub use watch::ClientId;
