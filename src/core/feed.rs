//! What a core has done and not yet put into the queue of the replication stream; see [`crate::replication::encoded`].

use super::Core;
use crate::peers::contract::ToPeers;
use crate::replication::encoded::Encoded;
use kvshard::{Args, Effects, Shard};
use std::sync::atomic::Ordering;

#[derive(Default)]
pub struct Feed {
    pending: Option<Encoded>,
}

impl Feed {
    /// Adds what comes next.
    pub fn add(&mut self, next: Option<Encoded>) {
        match (&mut self.pending, next) {
            (Some(pending), Some(next)) => pending.append(&next),
            (pending @ None, next) => *pending = next,
            (Some(_), None) => {}
        }
    }

    pub fn effects(&mut self, effects: &Effects) {
        self.add(Encoded::groups(effects));
    }
}

impl Core {
    /// Whether changes go into the replication stream. Known to every core from the moment on when it holds all shards, or is lent
    /// the first entry after that.
    #[inline]
    pub fn is_feeding(&self) -> bool {
        self.node.replication.feeding.load(Ordering::Acquire) && !self.loading
    }

    /// Moves the shard's effects so far to the log and into the replication stream.
    #[inline]
    pub fn seal(&mut self) {
        if self.shard.as_ref().is_some_and(|shard| !shard.effects.is_empty())
            && let Some(mut shard) = self.shard.take()
        {
            self.take_effects(&mut shard);
            self.shard = Some(shard);
        }
    }

    /// The same of a shard that is being lent.
    pub fn take_effects(&mut self, shard: &mut Shard) {
        if self.is_feeding() {
            self.feed.effects(&shard.effects);
        }
        self.log.append(self.now / 1000, &mut shard.effects);
    }

    /// A command that changes no key, and that replicas are to run too.
    pub fn feed_command(&mut self, db: usize, args: Args<'_>) {
        if self.is_feeding() {
            self.seal();
            self.feed.add(Encoded::command(db, args));
        }
    }

    /// Tells the executor for other nodes' connections something that stands behind what was done here so far.
    pub fn tell_peers(&mut self, message: ToPeers) {
        self.seal();
        self.send_feed();
        self.node.replication.tell(message);
    }

    /// Puts it into the queue.
    pub fn send_feed(&mut self) {
        if let Some(pending) = self.feed.pending.take() {
            self.node.replication.queued_bytes.fetch_add(pending.bytes_len(), Ordering::Relaxed);
            self.node.replication.tell(ToPeers::Feed(pending));
        }
    }
}
