//! Subscriptions of one core's connections.
//!
//! Every core knows its own subscribers only; a publisher asks the cores that have any. Shard channels (SSUBSCRIBE) are a
//! separate name space; without cluster mode they behave as plain channels otherwise.

use super::Core;
use hashbrown::{HashMap, HashSet};
use kvshard::{Reply, glob};
use std::sync::atomic::Ordering;

/// The three kinds of subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Channel,
    Pattern,
    ShardChannel,
}

impl Kind {
    /// The word in the confirmation of a subscription, and of its end.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Kind::Channel => ("subscribe", "unsubscribe"),
            Kind::Pattern => ("psubscribe", "punsubscribe"),
            Kind::ShardChannel => ("ssubscribe", "sunsubscribe"),
        }
    }
}

/// What one connection is subscribed to.
#[derive(Default)]
pub struct Subscriptions {
    pub channels: HashSet<Box<[u8]>>,
    /// In the order of subscription, in which PUNSUBSCRIBE ends them.
    pub patterns: Vec<Box<[u8]>>,
    pub shard_channels: HashSet<Box<[u8]>>,
}

impl Subscriptions {
    /// Heap bytes of the names, roughly.
    pub fn memory(&self) -> usize {
        let names = self.channels.iter().chain(&self.patterns).chain(&self.shard_channels);
        names.map(|name| size_of::<Box<[u8]>>() + name.len()).sum()
    }

    /// False if it was there.
    fn insert(&mut self, kind: Kind, name: &[u8]) -> bool {
        match kind {
            Kind::Channel => self.channels.insert(name.into()),
            Kind::ShardChannel => self.shard_channels.insert(name.into()),
            Kind::Pattern => {
                let is_new = !self.patterns.iter().any(|pattern| **pattern == *name);
                if is_new {
                    self.patterns.push(name.into());
                }
                is_new
            }
        }
    }

    /// False if it was not there.
    fn remove(&mut self, kind: Kind, name: &[u8]) -> bool {
        match kind {
            Kind::Channel => self.channels.remove(name),
            Kind::ShardChannel => self.shard_channels.remove(name),
            Kind::Pattern => {
                let at = self.patterns.iter().position(|pattern| **pattern == *name);
                at.map(|at| self.patterns.remove(at)).is_some()
            }
        }
    }

    /// The count that confirmations show: shard channels are counted apart.
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::ShardChannel => self.shard_channels.len(),
            _ => self.channels.len() + self.patterns.len(),
        }
    }

    pub fn total(&self) -> usize {
        self.channels.len() + self.patterns.len() + self.shard_channels.len()
    }

    /// The names of one kind: patterns in the order of subscription, channels in byte order.
    pub fn names(&self, kind: Kind) -> Vec<Box<[u8]>> {
        let set = match kind {
            Kind::Channel => &self.channels,
            Kind::ShardChannel => &self.shard_channels,
            Kind::Pattern => return self.patterns.clone(),
        };
        let mut names: Vec<Box<[u8]>> = set.iter().cloned().collect();
        names.sort_unstable();
        names
    }
}

impl Core {
    /// Subscribes a connection of this core; other cores see it in the shared figure from here on.
    pub fn subscribe(&mut self, kind: Kind, name: &[u8], index: usize) {
        let connection = &mut self.connections[index];
        if connection.subscriptions.get_or_insert_default().insert(kind, name) {
            self.pubsub.subscribe(kind, name, index);
            self.node.per_core[self.id].subscriptions.fetch_add(1, Ordering::SeqCst);
        }
        connection.note_subscriptions();
    }

    pub fn unsubscribe(&mut self, kind: Kind, name: &[u8], index: usize) {
        let connection = &mut self.connections[index];
        let Some(subscriptions) = &mut connection.subscriptions else { return };
        if subscriptions.remove(kind, name) {
            self.pubsub.unsubscribe(kind, name, index);
            self.node.per_core[self.id].subscriptions.fetch_sub(1, Ordering::SeqCst);
        }
        connection.note_subscriptions();
    }

    /// Ends all subscriptions of a connection, without a word to it.
    pub fn unsubscribe_all(&mut self, index: usize) {
        for kind in [Kind::Channel, Kind::Pattern, Kind::ShardChannel] {
            let names = self.connections[index].subscriptions.as_ref().map(|subscriptions| subscriptions.names(kind));
            for name in names.into_iter().flatten() {
                self.unsubscribe(kind, &name, index);
            }
        }
    }

    /// The cores with subscribers, from the shared figures.
    pub fn subscribing_cores(&self) -> Vec<usize> {
        let figures = self.node.per_core.iter().map(|core| core.subscriptions.load(Ordering::SeqCst));
        figures.enumerate().filter(|&(_, subscriptions)| subscriptions > 0).map(|(core, _)| core).collect()
    }
}

/// Who of this core's connections (by index) is subscribed to what.
#[derive(Default)]
pub struct PubSub {
    channels: HashMap<Box<[u8]>, Vec<usize>>,
    shard_channels: HashMap<Box<[u8]>, Vec<usize>>,
    /// In the order of first subscription, as Redis walks them.
    patterns: Vec<(Box<[u8]>, Vec<usize>)>,
    subscriptions: usize,
}

impl PubSub {
    /// Number of subscriptions of this core's connections.
    pub fn len(&self) -> usize {
        self.subscriptions
    }

    pub fn subscribe(&mut self, kind: Kind, name: &[u8], connection: usize) {
        self.subscriptions += 1;
        match kind {
            Kind::Channel => self.channels.entry(name.into()).or_default().push(connection),
            Kind::ShardChannel => self.shard_channels.entry(name.into()).or_default().push(connection),
            Kind::Pattern => match self.patterns.iter_mut().find(|(pattern, _)| **pattern == *name) {
                Some((_, subscribers)) => subscribers.push(connection),
                None => self.patterns.push((name.into(), vec![connection])),
            },
        }
    }

    pub fn unsubscribe(&mut self, kind: Kind, name: &[u8], connection: usize) {
        self.subscriptions -= 1;
        let map = match kind {
            Kind::Channel => &mut self.channels,
            Kind::ShardChannel => &mut self.shard_channels,
            Kind::Pattern => {
                for (_, subscribers) in self.patterns.iter_mut().filter(|(pattern, _)| **pattern == *name) {
                    subscribers.retain(|&c| c != connection);
                }
                self.patterns.retain(|(_, subscribers)| !subscribers.is_empty());
                return;
            }
        };
        if let Some(subscribers) = map.get_mut(name) {
            subscribers.retain(|&c| c != connection);
            if subscribers.is_empty() {
                map.remove(name);
            }
        }
    }

    /// The connections that get a message on `channel`, with the pattern through which they get it.
    pub fn receivers(&self, shard: bool, channel: &[u8]) -> Vec<(usize, Option<Box<[u8]>>)> {
        let map = if shard { &self.shard_channels } else { &self.channels };
        let mut receivers: Vec<_> = map.get(channel).into_iter().flatten().map(|&c| (c, None)).collect();
        if !shard {
            for (pattern, subscribers) in &self.patterns {
                if glob::matches(pattern, channel, false) {
                    receivers.extend(subscribers.iter().map(|&c| (c, Some(pattern.clone()))));
                }
            }
        }
        receivers
    }

    /// Channels with subscribers on this core, those matching `pattern` if given.
    pub fn channels(&self, shard: bool, pattern: Option<&[u8]>) -> Vec<Box<[u8]>> {
        let map = if shard { &self.shard_channels } else { &self.channels };
        map.keys().filter(|name| pattern.is_none_or(|pattern| glob::matches(pattern, name, false))).cloned().collect()
    }

    pub fn subscribers(&self, shard: bool, channel: &[u8]) -> usize {
        let map = if shard { &self.shard_channels } else { &self.channels };
        map.get(channel).map_or(0, Vec::len)
    }

    /// Patterns with subscribers on this core.
    pub fn patterns(&self) -> impl Iterator<Item = &[u8]> {
        self.patterns.iter().map(|(pattern, _)| &**pattern)
    }

    /// Number of different channels with subscribers on this core.
    pub fn channel_count(&self, shard: bool) -> usize {
        if shard { self.shard_channels.len() } else { self.channels.len() }
    }
}

/// A message as a subscriber sees it.
pub fn write_message(out: &mut Vec<u8>, resp3: bool, shard: bool, pattern: Option<&[u8]>, channel: &[u8], message: &[u8]) {
    let mut reply = Reply::new(out, resp3);
    match pattern {
        Some(pattern) => {
            reply.push(4);
            reply.bulk(b"pmessage");
            reply.bulk(pattern);
        }
        None => {
            reply.push(3);
            reply.bulk(if shard { b"smessage" } else { b"message" });
        }
    }
    reply.bulk(channel);
    reply.bulk(message);
}
