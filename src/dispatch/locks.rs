//! One shard's locks: which keys are lent to operations that span shards, and who waits for them.
//!
//! # Rules
//!
//! An operation asks each of its shards once, in parallel, for all its keys there. A shard grants all or nothing. In a conflict the
//! older operation (smaller ticket) waits, the younger is refused, gives back what it holds elsewhere and asks again with its old
//! ticket (wait-die): waits go from older to younger only, so there is no cycle, and the oldest always gets through. A wait that
//! would turn round, because an older operation is granted first or lines up, ends in a refusal too ([`Locks::reconsider`]).
//!
//! Lent keys are not in the shard's tables. (Where each shard runs its own part of an operation they stay there, untouched: see
//! [`apart`](super::apart).) Commands that need one are parked and run, in order, when it is back, before any waiting operation is
//! granted. A command that shares a key with a parked one is parked too, so per-key order holds.

use super::mesh::{Grant, Item, Job, LockRequest, OperationId, Release, Scope};
use hashbrown::HashMap;
use kvshard::Shard;
use kvshard::command::ArgsBuf;
use kvshard::keyspace::Key;
use std::collections::{BTreeMap, VecDeque};

#[derive(Default)]
pub struct Locks {
    /// Lent keys, by the ticket they are lent to.
    held: HashMap<Box<[u8]>, u64>,
    /// The whole shard is lent to this ticket.
    claimed: Option<u64>,
    /// The shard is in place but stays claimed, as long as the node's hold of this number is on.
    frozen: Option<u64>,
    waiting: BTreeMap<u64, LockRequest>,
    parked: VecDeque<Parked>,
    /// Keys of parked commands, with how many commands need them.
    parked_keys: HashMap<Box<[u8]>, usize>,
    /// Parked commands that need every key in place. While there are any, nothing more is lent, so that they get their turn.
    parked_whole: usize,
}

/// What waits for keys to come back.
pub enum Parked {
    /// `keys` empty: needs the whole shard in place, no particular key.
    Command {
        item: Item,
        args: ArgsBuf,
        keys: Vec<Box<[u8]>>,
        whole: bool,
    },
    Job {
        operation: OperationId,
        position: usize,
        job: Job,
    },
}

pub enum Decision {
    Granted(Grant),
    Waits,
    Refused,
}

impl Locks {
    /// Nothing is lent and nobody waits: the usual case, in which no key needs to be looked up here.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.held.is_empty() && self.claimed.is_none() && self.parked.is_empty()
    }

    /// Whether a command on these keys has to be parked.
    pub fn blocks<'k>(&self, mut keys: impl Iterator<Item = &'k [u8]>) -> bool {
        self.claimed.is_some() || keys.any(|key| self.held.contains_key(key) || self.parked_keys.contains_key(key))
    }

    /// Whether a command that looks at the whole shard (a scan) has to be parked.
    pub fn blocks_whole(&self) -> bool {
        self.claimed.is_some() || !self.held.is_empty() || !self.parked.is_empty()
    }

    pub fn park(&mut self, parked: Parked) {
        if let Parked::Command { keys, whole, .. } = &parked {
            self.parked_whole += usize::from(*whole);
            for key in keys {
                *self.parked_keys.entry(key.clone()).or_default() += 1;
            }
        }
        self.parked.push_back(parked);
    }

    pub fn request(&mut self, request: LockRequest, shard_id: usize, shard: &mut Option<Box<Shard>>, now: i64) -> Decision {
        match self.youngest_rule(&request) {
            Rule::Free => Decision::Granted(self.grant(request, shard_id, shard, now)),
            Rule::OlderThanAll => {
                self.waiting.insert(request.ticket, request);
                Decision::Waits
            }
            Rule::Younger => Decision::Refused,
        }
    }

    fn youngest_rule(&self, request: &LockRequest) -> Rule {
        let mut rule = Rule::Free;
        let mut meet = |ticket: u64| {
            if ticket < request.ticket {
                rule = Rule::Younger;
            } else if rule == Rule::Free && ticket > request.ticket {
                rule = Rule::OlderThanAll;
            }
        };
        self.claimed.iter().for_each(|&ticket| meet(ticket));
        if self.parked_whole > 0 {
            self.held.values().for_each(|&ticket| meet(ticket));
        }
        match &request.scope {
            Scope::Shard => {
                self.held.values().for_each(|&ticket| meet(ticket));
                self.waiting.range(..request.ticket).for_each(|(&ticket, _)| meet(ticket));
            }
            Scope::Keys { keys, .. } => {
                for key in keys.iter() {
                    self.held.get(key).into_iter().for_each(|&ticket| meet(ticket));
                    if self.parked_keys.contains_key(key) {
                        // The parked command waits for some holder; to wait behind it is to wait for any of them.
                        self.held.values().for_each(|&ticket| meet(ticket));
                    }
                }
                let older = self.waiting.range(..request.ticket);
                older.filter(|(_, other)| overlaps(&other.scope, keys)).for_each(|(&ticket, _)| meet(ticket));
            }
        }
        rule
    }

    fn grant(&mut self, request: LockRequest, shard_id: usize, shard_slot: &mut Option<Box<Shard>>, now: i64) -> Grant {
        let shard = shard_slot.as_mut().expect("an unclaimed shard is in place");
        let watch_broken = request.check_watch.is_some_and(|client| shard.watch_is_broken(client, now));
        let mut entries = Vec::new();
        let mut lent = None;
        match request.scope {
            Scope::Shard => {
                self.claimed = Some(request.ticket);
                lent = shard_slot.take();
            }
            Scope::Keys { keys, db } => {
                for key in keys.iter() {
                    let before = self.held.insert(key.clone(), request.ticket);
                    debug_assert!(before.is_none(), "a key is locked once");
                }
                if request.lends {
                    let dbs = db.map_or(0..shard.dbs.len(), |db| db..db + 1);
                    entries.reserve(keys.len());
                    let placed: Vec<Key<'_>> = keys.iter().map(|key| shard.hasher.key(key)).collect();
                    dbs.clone().for_each(|db| shard.dbs[db].prefetch_all(placed.iter()));
                    for key in &placed {
                        for db in dbs.clone() {
                            entries.extend(shard.dbs[db].take(key).map(|entry| (db, entry)));
                        }
                    }
                }
            }
        }
        Grant { operation: request.from, shard_id, entries, shard: lent, watch_broken }
    }

    /// Takes locks back; the entries have been put in place by the caller.
    pub fn release(&mut self, release: &Release) {
        match &release.scope {
            Scope::Shard => {
                debug_assert_eq!(self.claimed, Some(release.ticket));
                self.frozen = release.freeze;
                if self.frozen.is_none() {
                    self.claimed = None;
                }
            }
            Scope::Keys { keys, .. } => {
                for key in keys.iter() {
                    let ticket = self.held.remove(key);
                    debug_assert_eq!(ticket, Some(release.ticket));
                }
            }
        }
    }

    #[inline]
    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// Frees the shard if it was frozen for another hold than the one that is on now; true if it did.
    pub fn thaw(&mut self, hold: u64) -> bool {
        let thaws = self.frozen.is_some_and(|frozen| frozen != hold);
        if thaws {
            (self.frozen, self.claimed) = (None, None);
        }
        thaws
    }

    /// Takes out the parked commands and jobs that can run now, in order.
    pub fn take_runnable(&mut self) -> Vec<Parked> {
        if self.claimed.is_some() {
            return Vec::new();
        }
        let mut runnable = Vec::new();
        let mut kept: VecDeque<Parked> = VecDeque::new();
        let mut kept_keys: HashMap<Box<[u8]>, usize> = HashMap::new();
        let mut kept_whole = 0;
        for parked in std::mem::take(&mut self.parked) {
            let stays = match &parked {
                Parked::Job { .. } => false,
                Parked::Command { keys, whole, .. } => {
                    (*whole && (!self.held.is_empty() || !kept.is_empty()))
                        || keys.iter().any(|key| self.held.contains_key(key) || kept_keys.contains_key(key))
                }
            };
            if !stays {
                runnable.push(parked);
                continue;
            }
            if let Parked::Command { keys, whole, .. } = &parked {
                kept_whole += usize::from(*whole);
                keys.iter().for_each(|key| *kept_keys.entry(key.clone()).or_default() += 1);
            }
            kept.push_back(parked);
        }
        (self.parked, self.parked_keys, self.parked_whole) = (kept, kept_keys, kept_whole);
        runnable
    }

    /// Looks at the waiting operations again, oldest first, after something has changed: grants what can be granted now, and
    /// refuses those that would wait for an older operation from here on (an older one was granted, or waits, before them). Without
    /// that refusal two operations could wait for each other.
    pub fn reconsider(&mut self, shard_id: usize, shard: &mut Option<Box<Shard>>, now: i64) -> (Vec<Grant>, Vec<OperationId>) {
        let (mut grants, mut refused) = (Vec::new(), Vec::new());
        let tickets: Vec<u64> = self.waiting.keys().copied().collect();
        for ticket in tickets {
            match self.waiting.get(&ticket).map(|request| self.youngest_rule(request)) {
                Some(Rule::Free) => {
                    let request = self.waiting.remove(&ticket).expect("just looked at");
                    grants.push(self.grant(request, shard_id, shard, now));
                }
                Some(Rule::Younger) => refused.extend(self.waiting.remove(&ticket).map(|request| request.from)),
                Some(Rule::OlderThanAll) | None => {}
            }
        }
        (grants, refused)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    Free,
    OlderThanAll,
    Younger,
}

fn overlaps(scope: &Scope, keys: &[Box<[u8]>]) -> bool {
    match scope {
        Scope::Shard => true,
        Scope::Keys { keys: others, .. } => others.iter().any(|other| keys.contains(other)),
    }
}
