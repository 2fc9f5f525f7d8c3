//! Clients that wait for a key of this shard to be filled (BLPOP and its kin).
//!
//! Waiters of a key are served in the order in which they began to wait, at the end of the command (or block of commands) that
//! filled it. A waiter whose keys are spread over several shards waits on each of them; the first shard that can serve
//! it claims it, by one atomic flag that only waiters carry.

use super::watch::ClientId;
use crate::command::ArgsBuf;
use crate::family::ShardCommand;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The type of value a command waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Awaited {
    List,
    SortedSet,
}

/// What a blocked client answers when its time is up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeoutReply {
    Null,
    NullArray,
}

/// A command's wish to wait, out of its handler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wait {
    pub awaited: Awaited,
    /// Milliseconds; 0 waits for ever.
    pub timeout_ms: i64,
    pub on_timeout: TimeoutReply,
}

/// One blocked client as a shard sees it.
pub struct Waiter {
    pub client: ClientId,
    /// The core that owns the connection, for the answer.
    pub core: u16,
    pub command: &'static ShardCommand,
    pub args: ArgsBuf,
    pub db: usize,
    pub resp3: bool,
    pub awaited: Awaited,
    /// Set by whoever serves, times out or unblocks the client; shared by the shards it waits on.
    pub claimed: Arc<AtomicBool>,
    /// Not served here but on the client's core, because serving needs keys of other shards (BLMOVE to another shard).
    pub remote: bool,
}

impl Waiter {
    /// True for the one caller that may serve the client.
    pub fn claim(&self) -> bool {
        !self.claimed.swap(true, Ordering::AcqRel)
    }
}

#[derive(Default)]
pub struct Waiters {
    by_key: HashMap<(usize, Box<[u8]>), VecDeque<Arc<Waiter>>>,
    by_client: HashMap<ClientId, Vec<(usize, Box<[u8]>)>>,
    /// Keys that were filled and have waiters, in the order of filling.
    ready: Vec<(usize, Box<[u8]>, Awaited)>,
}

impl Waiters {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Number of keys that are waited for.
    pub fn keys(&self) -> usize {
        self.by_key.len()
    }

    pub fn add<'k>(&mut self, waiter: Arc<Waiter>, keys: impl Iterator<Item = &'k [u8]>) {
        for key in keys {
            let queue = self.by_key.entry((waiter.db, key.into())).or_default();
            if !queue.iter().any(|w| w.client == waiter.client) {
                queue.push_back(waiter.clone());
                self.by_client.entry(waiter.client).or_default().push((waiter.db, key.into()));
            }
        }
    }

    /// The client does not wait here any more.
    pub fn remove(&mut self, client: ClientId) {
        for key in self.by_client.remove(&client).unwrap_or_default() {
            if let Some(queue) = self.by_key.get_mut(&key) {
                queue.retain(|w| w.client != client);
                if queue.is_empty() {
                    self.by_key.remove(&key);
                }
            }
        }
    }

    /// A key now holds a value of a type that clients may wait for.
    pub fn filled(&mut self, db: usize, key: &[u8], awaited: Awaited) {
        let key = (db, Box::from(key));
        if self.by_key.contains_key(&key) {
            let ready = (key.0, key.1, awaited);
            if !self.ready.contains(&ready) {
                self.ready.push(ready);
            }
        }
    }

    /// All keys of a database that are waited for (after SWAPDB, or a load).
    pub fn keys_in(&self, db: usize) -> Vec<Box<[u8]>> {
        let mut keys: Vec<_> = self.by_key.keys().filter(|key| key.0 == db).map(|key| key.1.clone()).collect();
        keys.sort();
        keys
    }

    #[inline]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes the filled keys, in order.
    pub fn take_ready(&mut self) -> Vec<(usize, Box<[u8]>, Awaited)> {
        std::mem::take(&mut self.ready)
    }

    /// The waiters of a key, longest waiting first.
    pub fn of_key(&self, db: usize, key: &[u8]) -> Vec<Arc<Waiter>> {
        self.by_key.get(&(db, Box::from(key))).map(|queue| queue.iter().cloned().collect()).unwrap_or_default()
    }
}
