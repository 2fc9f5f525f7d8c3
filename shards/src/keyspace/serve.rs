//! Serving blocked clients: what happens at the end of a command, or of a block of commands, that filled keys.
//!
//! Owns the order: keys as they became ready, clients as they began to wait for a key, until the key has nothing left. Refuses
//! to know what a command does with the key: it runs the blocked command again, for that key alone. A command served here may
//! fill another key (BLMOVE), which is then looked at in the next round.
//!
//! A client must be answered exactly once, though several shards may hold it, and must never be lost. So the order is: see
//! that the key holds what the client waits for, then claim the client, then run its command, which cannot fail to find
//! something any more. A client that must be served on its own core is only announced; the claim is made there, when
//! its keys are locked and found to have something. Until it leaves the queue, nobody behind it is served from that key.

use super::Key;
use super::entry::Value;
use super::waiters::{Awaited, Waiter};
use crate::exec::Exec;
use crate::reply::Reply;
use crate::shard::Shard;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What came of a blocked client.
#[derive(Clone)]
pub enum Served {
    /// It has been served: the reply is for its connection. It may still be in the queues of other shards, which
    /// pass over it, until they are told to remove it.
    Done { waiter: Arc<Waiter>, reply: Vec<u8> },
    /// A key of it was filled; its core is to lock its keys, claim it, run its command, and remove it here.
    Remote { waiter: Arc<Waiter> },
}

impl Shard {
    /// Serves the clients that wait for keys that were filled, appending what came of it. Returns the number of changes, as
    /// [`Outcome::dirty`](crate::Outcome) counts them; effects and events gather in the shard as for any command. `has_locks`: keys
    /// may be lent; then who has a key to put something into is only announced, as that key may be among them.
    pub fn serve_ready(&mut self, now: i64, has_locks: bool, served: &mut Vec<Served>) -> u64 {
        let mut changes = 0;
        while self.waiters.has_ready() {
            for (db, key) in self.waiters.take_ready() {
                changes += self.serve_key(db, &key, now, has_locks, served);
            }
        }
        changes
    }

    fn serve_key(&mut self, db: usize, bytes: &[u8], now: i64, has_locks: bool, served: &mut Vec<Served>) -> u64 {
        let key = self.hasher.key(bytes);
        let (mut changes, mut place) = (0, 0);
        while let Some(waiter) = self.waiters.waiter(db, bytes, place) {
            let Some(held) = self.held(&waiter, &key, now) else { break };
            if held != waiter.awaited {
                place += 1;
            } else if waiter.is_claimed() {
                self.waiters.remove(waiter.client);
            } else if waiter.is_remote() || has_locks && waiter.has_destination() {
                waiter.remote.store(true, Ordering::Relaxed);
                served.push(Served::Remote { waiter });
                break;
            } else {
                self.waiters.remove(waiter.client);
                if waiter.claim() {
                    changes += self.serve(&waiter, bytes, now, served);
                }
            }
        }
        changes
    }

    /// What the key has to give to blocked clients, if anything.
    fn held(&mut self, waiter: &Waiter, key: &Key<'_>, now: i64) -> Option<Awaited> {
        let mut exec = Exec::new(self, &waiter.command.spec, waiter.db, now, waiter.client);
        match exec.peek(key)? {
            Value::List(_) => Some(Awaited::List),
            Value::SortedSet(_) => Some(Awaited::SortedSet),
            _ => None,
        }
    }

    /// Runs a claimed client's command for a key that holds what it waits for. The command may not wait again: were it to find
    /// nothing all the same, its client would get the reply of a timeout rather than be lost.
    fn serve(&mut self, waiter: &Arc<Waiter>, filled: &[u8], now: i64, served: &mut Vec<Served>) -> u64 {
        let mut reply = Vec::new();
        let exec = Exec::new(self, &waiter.command.spec, waiter.db, now, waiter.client).serving(filled);
        let outcome = exec.run(waiter.command.run, waiter.args.args(), &mut Reply::new(&mut reply, waiter.resp3));
        debug_assert!(outcome.wait.is_none() && !reply.is_empty(), "{} was not served", waiter.command.spec.name);
        served.push(Served::Done { waiter: waiter.clone(), reply });
        outcome.dirty
    }
}
