//! Clients that wait for a key of this shard to be filled (BLPOP and its kin).
//!
//! Waiters of a key are served in the order in which they began to wait, at the end of the command (or block of commands) that
//! filled it. A waiter whose keys are spread over several shards waits on each of them; the first shard that can serve
//! it claims it, by one atomic flag that only waiters carry.

use super::watch::ClientId;
use crate::command::{Args, ArgsBuf, KeyAccess, Spec, key_uses};
use crate::family::ShardCommand;
use hashbrown::{Equivalent, HashMap};
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
    /// Not served here but on the client's core, because serving needs keys of other shards (BLMOVE to another shard), or did once
    /// need a key that was lent. It stays so: who was announced there may be being served there.
    pub remote: AtomicBool,
}

impl Waiter {
    /// True for the one caller that may serve the client.
    pub fn claim(&self) -> bool {
        !self.claimed.swap(true, Ordering::AcqRel)
    }

    pub fn is_remote(&self) -> bool {
        self.remote.load(Ordering::Relaxed)
    }

    /// The command puts what it takes into another key.
    pub fn has_destination(&self) -> bool {
        let mut uses = Vec::new();
        let known = key_uses(&self.command.spec, self.args.args(), &mut uses);
        known.is_err() || uses.iter().any(|key| !key.access.has(KeyAccess::DELETE))
    }

    /// Somebody serves the client already, or has answered it.
    pub fn is_claimed(&self) -> bool {
        self.claimed.load(Ordering::Acquire)
    }
}

/// Argument positions of the keys that a blocked command waits for: those it takes from, not those it puts into.
pub fn awaited_keys(spec: &Spec, args: Args<'_>) -> Vec<usize> {
    let mut uses = Vec::new();
    match key_uses(spec, args, &mut uses) {
        Ok(()) => uses.iter().filter(|key| key.access.has(KeyAccess::DELETE)).map(|key| key.index).collect(),
        Err(_) => Vec::new(),
    }
}

type DbKey = (usize, Box<[u8]>);

/// A borrowed [`DbKey`], to look one up. Hashes as it does: both are the number, then the slice.
#[derive(Hash)]
struct Sought<'k>(usize, &'k [u8]);

impl Equivalent<DbKey> for Sought<'_> {
    fn equivalent(&self, key: &DbKey) -> bool {
        self.0 == key.0 && *self.1 == *key.1
    }
}

/// Who waits for one key, longest waiting first.
#[derive(Default)]
struct Queue {
    waiters: VecDeque<Arc<Waiter>>,
    /// The key is among those to be looked at.
    ready: bool,
}

/// All keys that one client waits for.
struct Waiting {
    awaited: Awaited,
    keys: Vec<DbKey>,
}

#[derive(Default)]
pub struct Waiters {
    by_key: HashMap<DbKey, Queue>,
    by_client: HashMap<ClientId, Waiting>,
    /// Clients by what they wait for.
    lists: usize,
    sorted_sets: usize,
    /// Keys that were filled and have waiters, in the order of filling.
    ready: Vec<DbKey>,
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

    /// Number of clients that wait here.
    pub fn clients(&self) -> usize {
        self.by_client.len()
    }

    /// A client begins to wait for `keys`; it must not be waiting here yet.
    pub fn add<'k>(&mut self, waiter: Arc<Waiter>, keys: impl Iterator<Item = &'k [u8]>) {
        debug_assert!(!self.by_client.contains_key(&waiter.client), "a client waits with one command at a time");
        let mut waiting = Waiting { awaited: waiter.awaited, keys: Vec::new() };
        for key in keys {
            let queue = self.by_key.entry((waiter.db, key.into())).or_default();
            // A key named twice: the client can only be the last, as it has just been added.
            if queue.waiters.back().is_none_or(|last| last.client != waiter.client) {
                queue.waiters.push_back(waiter.clone());
                waiting.keys.push((waiter.db, key.into()));
            }
        }
        if !waiting.keys.is_empty() {
            *self.count(waiting.awaited) += 1;
            self.by_client.insert(waiter.client, waiting);
        }
    }

    /// The client does not wait here any more. If it may have been holding up a key, having to be served elsewhere, that key
    /// is to be looked at again for those behind it (see [`Waiters::has_ready`]).
    pub fn remove(&mut self, client: ClientId) {
        let Some(waiting) = self.by_client.remove(&client) else { return };
        *self.count(waiting.awaited) -= 1;
        for key in waiting.keys {
            let Some(queue) = self.by_key.get_mut(&key) else { continue };
            let place = queue.waiters.iter().position(|waiter| waiter.client == client);
            let gone = place.and_then(|place| queue.waiters.remove(place));
            if queue.waiters.is_empty() {
                self.by_key.remove(&key);
            } else if gone.is_some_and(|waiter| waiter.is_remote()) && !queue.ready {
                queue.ready = true;
                self.ready.push(key);
            }
        }
    }

    /// A key now holds a value of a type that clients may wait for.
    pub fn filled(&mut self, db: usize, key: &[u8], awaited: Awaited) {
        if *self.count(awaited) == 0 {
            return;
        }
        if let Some(queue) = self.by_key.get_mut(&Sought(db, key))
            && !queue.ready
        {
            queue.ready = true;
            self.ready.push((db, key.into()));
        }
    }

    /// All keys of a database that are waited for (after SWAPDB, or a load).
    pub fn keys_in(&self, db: usize) -> Vec<Box<[u8]>> {
        let mut keys: Vec<_> = self.by_key.keys().filter(|key| key.0 == db).map(|key| key.1.clone()).collect();
        keys.sort();
        keys
    }

    /// Keys were filled that clients wait for: time for [`Shard::serve_ready`](crate::Shard::serve_ready).
    #[inline]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes the filled keys, in order.
    pub fn take_ready(&mut self) -> Vec<(usize, Box<[u8]>)> {
        let ready = std::mem::take(&mut self.ready);
        for key in &ready {
            if let Some(queue) = self.by_key.get_mut(key) {
                queue.ready = false;
            }
        }
        ready
    }

    /// The waiter at `place` in a key's queue; the longest waiting is at 0.
    pub fn waiter(&self, db: usize, key: &[u8], place: usize) -> Option<Arc<Waiter>> {
        self.by_key.get(&Sought(db, key))?.waiters.get(place).cloned()
    }

    fn count(&mut self, awaited: Awaited) -> &mut usize {
        match awaited {
            Awaited::List => &mut self.lists,
            Awaited::SortedSet => &mut self.sorted_sets,
        }
    }
}
