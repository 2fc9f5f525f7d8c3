//! WATCH: who watches which key of this shard, and who has lost.
//!
//! A watcher is a connection's transaction attempt. The shard marks it dirty at the first change of one of its keys here;
//! EXEC asks every shard involved before it runs.

use hashbrown::{HashMap, HashSet};

/// A key with the index of its database.
pub type DbKey = (usize, Box<[u8]>);

/// A connection of the node, unique over its lifetime.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ClientId(pub u64);

impl ClientId {
    /// Who runs the commands of a replica's primary.
    pub const PRIMARY: ClientId = ClientId(u64::MAX - 1);
}

#[derive(Default)]
pub struct Watch {
    keys: HashMap<DbKey, Vec<Watching>>,
    dirty: HashSet<ClientId>,
    by_client: HashMap<ClientId, Vec<DbKey>>,
}

struct Watching {
    client: ClientId,
    /// The key had expired already (but was still present) when it was watched: its removal is no change.
    was_expired: bool,
}

impl Watch {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Number of watched keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn watch(&mut self, client: ClientId, db: usize, key: &[u8], was_expired: bool) {
        let watchers = self.keys.entry((db, key.into())).or_default();
        if watchers.iter().all(|w| w.client != client) {
            watchers.push(Watching { client, was_expired });
            self.by_client.entry(client).or_default().push((db, key.into()));
        }
    }

    /// Forgets all of a client's keys and its loss.
    pub fn unwatch(&mut self, client: ClientId) {
        self.dirty.remove(&client);
        for key in self.by_client.remove(&client).unwrap_or_default() {
            if let Some(watchers) = self.keys.get_mut(&key) {
                watchers.retain(|w| w.client != client);
                if watchers.is_empty() {
                    self.keys.remove(&key);
                }
            }
        }
    }

    /// A key has changed.
    pub fn changed(&mut self, db: usize, key: &[u8]) {
        if let Some(watchers) = self.keys.get(&(db, Box::from(key))) {
            self.dirty.extend(watchers.iter().map(|w| w.client));
        }
    }

    /// An expired key was removed: no change for those who watched it when it had expired already.
    pub fn expired(&mut self, db: usize, key: &[u8]) {
        if let Some(watchers) = self.keys.get_mut(&(db, Box::from(key))) {
            for watching in watchers {
                if !std::mem::take(&mut watching.was_expired) {
                    self.dirty.insert(watching.client);
                }
            }
        }
    }

    /// All keys of a database may have changed: those for which `has_changed(key, was_expired)` have. It may say that a key
    /// counts as expired from now on, or no more.
    pub fn changed_in(&mut self, db: usize, mut has_changed: impl FnMut(&[u8], &mut bool) -> bool) {
        for ((_, key), watchers) in self.keys.iter_mut().filter(|((in_db, _), _)| *in_db == db) {
            for watching in watchers {
                if has_changed(key, &mut watching.was_expired) {
                    self.dirty.insert(watching.client);
                }
            }
        }
    }

    pub fn is_dirty(&self, client: ClientId) -> bool {
        self.dirty.contains(&client)
    }

    /// The client's watched keys with whether they had expired when they were watched.
    pub fn keys_of(&self, client: ClientId) -> impl Iterator<Item = (usize, &[u8], bool)> {
        self.by_client.get(&client).into_iter().flatten().map(move |key| {
            let expired = self.keys.get(key).is_some_and(|ws| ws.iter().any(|w| w.client == client && w.was_expired));
            (key.0, &*key.1, expired)
        })
    }
}
