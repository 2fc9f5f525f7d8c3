//! The state of one core: its connections, its shard, its counters.
//!
//! Node-level commands act on this; the dispatcher moves it forward; the reactor feeds it bytes. It refuses to know the ring,
//! the other cores' state and how a command was routed here.

pub mod connection;
pub mod counters;
pub mod feed;
pub mod log;
pub mod pubsub;
pub mod reorder;
pub mod shared;
pub mod spare;

use crate::config::Config;
use crate::coordinator::contract::ToCore;
use crate::coordinator::status::Saving;
use crate::observe::latency::LatencyMonitor;
use crate::observe::memory;
use crate::observe::rates::Rates;
use crate::observe::slowlog::SlowLog;
use crate::peers::contract::ToPeers;
use connection::{Connection, Special};
use counters::Counters;
use crossbeam_channel::Receiver;
use hashbrown::HashMap;
use kvshard::keyspace::{ClientId, Db};
use kvshard::settings::NotifyFlags;
use kvshard::shard::Stats;
use kvshard::{Settings, Shard};
use log::{Log, Mark};
use pubsub::PubSub;
use shared::Node;
use slab::Slab;
use spare::SpareBuffers;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub struct Core {
    pub id: usize,
    pub node: Arc<Node>,
    pub config: Arc<Config>,
    pub connections: Slab<Connection>,
    pub by_client: HashMap<ClientId, usize>,
    /// `None` while another core works on the whole keyspace.
    pub shard: Option<Box<Shard>>,
    /// Where keys of several shards are brought together for one command; empty in between.
    pub scratch: Box<Shard>,
    pub pubsub: PubSub,
    /// Connections with MONITOR.
    pub monitors: Vec<usize>,
    pub counters: Counters,
    pub slowlog: SlowLog,
    pub latency: LatencyMonitor,
    /// Milliseconds since 1970, as of this turn of the loop.
    pub now: i64,
    pub spare_output: SpareBuffers,
    /// Connections with output that is not being sent yet.
    pub to_flush: Vec<usize>,
    /// Connections to be closed at the end of this turn (once their output is sent, if `after_reply`).
    pub to_close: Vec<usize>,
    /// Blocked clients, already claimed, to be released (CLIENT UNBLOCK): with an error or as if timed out.
    pub to_unblock: Vec<(ClientId, Option<&'static str>)>,
    /// Connections whose receive is to be armed.
    pub to_receive: Vec<usize>,
    /// Connections that have sent more than they may while stalled: their receive is to be ended.
    pub to_hush: Vec<usize>,
    /// Connections whose input may be looked at again.
    pub to_resume: Vec<usize>,
    /// What was known of the shard when it was lent the last time.
    pub lent_facts: KeyspaceFacts,
    /// Statistics were reset while the shard was lent.
    pub reset_on_return: bool,
    /// Commands, bytes received and bytes sent per second.
    pub rates: Rates<3>,
    /// What is appended to this core's segment.
    pub log: Log,
    /// What goes into the replication stream.
    pub feed: feed::Feed,
    /// What the coordinator has to say.
    pub inbox: Receiver<ToCore>,
    /// This core takes part in loading the data set: nothing expires and no keyspace event is published.
    pub loading: bool,
    /// The node is a replica, as far as this core has noticed.
    pub is_replica: bool,
    /// Saves that were ordered here and wait for the instant of their cut.
    pub to_save: Vec<Saving>,
    /// A rewrite of the append-only file was ordered here.
    pub to_rewrite: bool,
}

/// Facts for INFO and MEMORY about one core's part of the keyspace.
#[derive(Clone, Debug, Default)]
pub struct KeyspaceFacts {
    /// Per database: keys, keys with an expiry, average time to live in ms.
    pub databases: Vec<(usize, usize, i64)>,
    /// Without those of commands that ran over several shards.
    pub stats: Stats,
    /// Bytes of the tables themselves, without the entries.
    pub table_bytes: usize,
    /// Objects to be freed in slices, and those freed so since the start.
    pub trash_pending: usize,
    pub trash_freed: u64,
}

impl KeyspaceFacts {
    fn of(shard: &Shard) -> Self {
        KeyspaceFacts {
            databases: shard.dbs.iter().map(|db| (db.len(), db.volatile(), db.avg_ttl_ms)).collect(),
            stats: shard.stats,
            table_bytes: shard.dbs.iter().map(|db| db.table_bytes()).sum(),
            trash_pending: shard.trash.pending(),
            trash_freed: shard.trash.freed,
        }
    }
}

impl Core {
    /// Changes since the start; only their own core counts them, others read.
    #[inline]
    pub fn count_dirty(&self, changes: u64) {
        let dirty = &self.node.per_core[self.id].dirty;
        dirty.store(dirty.load(Ordering::Relaxed) + changes, Ordering::Relaxed);
    }

    /// The connections of clients.
    pub fn clients(&self) -> impl Iterator<Item = (usize, &Connection)> {
        self.connections.iter().filter(|(_, connection)| !connection.special.has(Special::LOADER))
    }

    pub fn connection_of(&self, client: ClientId) -> Option<usize> {
        self.by_client.get(&client).copied()
    }

    /// Appends an out-of-band message to a connection's output.
    pub fn push_to(&mut self, index: usize, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(connection) = self.connections.get_mut(index) {
            if connection.holds_messages() {
                let start = connection.reorder.held().len();
                write(connection.reorder.held());
                connection.reorder.held_reply(start);
            } else {
                write(&mut connection.out);
            }
            self.want_flush(index);
        }
    }

    /// Delivers a published message to this core's subscribers; says to how many.
    pub fn deliver(&mut self, shard: bool, channel: &[u8], message: &[u8]) -> usize {
        let receivers = self.pubsub.receivers(shard, channel);
        for (index, pattern) in &receivers {
            let resp3 = self.connections[*index].resp3;
            self.push_to(*index, |out| pubsub::write_message(out, resp3, shard, pattern.as_deref(), channel, message));
        }
        receivers.len()
    }

    /// An empty shard in which keys of several shards can be brought together.
    pub fn new_scratch(&self) -> Box<Shard> {
        let seed = self.scratch.random.clone().next();
        Box::new(Shard::new(self.scratch.hasher.clone(), self.scratch.dbs.len(), self.scratch.settings.clone(), seed))
    }

    pub fn want_flush(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if !connection.flush_wanted {
            connection.flush_wanted = true;
            self.to_flush.push(index);
        }
    }

    /// Closes a connection at the end of this turn; what it was sent before goes out first if `after_output`.
    pub fn close(&mut self, index: usize, after_output: bool) {
        if let Some(connection) = self.connections.get_mut(index) {
            connection.closing = true;
            connection.close_after_output |= after_output;
            if !after_output {
                connection.close_after_output = false;
            }
            self.to_close.push(index);
        }
    }

    /// Shows every command of the node to a connection, or no longer. `node.monitors` is the caller's to raise before and lowered here.
    pub fn set_monitor(&mut self, index: usize, on: bool) {
        let special = &mut self.connections[index].special;
        if special.has(Special::MONITOR) == on {
            return;
        }
        special.set(Special::MONITOR, on);
        if on {
            self.monitors.push(index);
        } else {
            self.monitors.retain(|&other| other != index);
            self.node.monitors.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// The facts of now, or those of the moment the shard was lent.
    pub fn keyspace_facts(&self) -> KeyspaceFacts {
        self.shard.as_deref().map_or_else(|| self.lent_facts.clone(), KeyspaceFacts::of)
    }

    /// The shard is on its way to another core.
    pub fn shard_lent(&mut self, shard: &Shard) {
        self.lent_facts = KeyspaceFacts::of(shard);
    }

    /// The shard has come back: what was changed for it meanwhile is done now.
    pub fn shard_returned(&mut self, mut shard: Box<Shard>) {
        debug_assert!(self.shard.is_none());
        // The role may have changed while the shard was lent, and this core not have noticed: no write may slip in between.
        let (active_expire, replica) = (shard.settings.active_expire, self.node.replication.role(&self.config));
        shard.settings = Settings { active_expire, replica, ..self.scratch.settings.clone() };
        if std::mem::take(&mut self.reset_on_return) {
            shard.stats = Stats::default();
        }
        self.shard = Some(shard);
    }

    /// CONFIG RESETSTAT.
    pub fn reset_statistics(&mut self) {
        self.counters.reset();
        self.rates = Rates::new(self.now);
        self.scratch.stats = Stats::default();
        self.lent_facts.stats = Stats::default();
        match &mut self.shard {
            Some(shard) => shard.stats = Stats::default(),
            None => self.reset_on_return = true,
        }
    }

    /// Notes a mark in this core's log.
    pub fn mark_log(&mut self, mark: &Arc<Mark>) {
        self.seal();
        self.log.mark(mark);
        // Whoever sees that all are placed is to see what of it is on disk already.
        self.count_synced_marks();
        if mark.place() {
            self.node.replication.tell(ToPeers::Marked);
        }
    }

    /// The log has come further.
    pub fn count_synced_marks(&mut self) {
        while let Some(mark) = self.log.next_synced_mark() {
            if mark.sync() {
                self.node.replication.tell(ToPeers::Marked);
            }
        }
    }

    /// Keeps the figures that need a look from time to time; called several times a second.
    pub fn sample_figures(&mut self) {
        let counters = &self.counters;
        self.rates.sample(self.now, [counters.commands_processed, counters.net_input_bytes, counters.net_output_bytes]);
        let published = &self.node.per_core[self.id];
        published.log_bytes.store(self.log.bytes(), Ordering::Relaxed);
        published.log_waiting.store(self.log.waiting_bytes() as u64, Ordering::Relaxed);
        published.log_delays.store(self.log.delayed_syncs, Ordering::Relaxed);
        published.log_syncs.store(u64::from(self.log.is_syncing()), Ordering::Relaxed);
        if let Some(shard) = &self.shard {
            published.keys.store(shard.dbs.iter().map(Db::len).sum(), Ordering::Relaxed);
        }
        if self.id == 0 {
            self.node.peak_memory.fetch_max(memory::used(), Ordering::Relaxed);
        }
    }

    /// The data set begins or ends to be loaded.
    pub fn set_loading(&mut self, loading: bool) {
        self.loading = loading;
        if let Some(shard) = &mut self.shard {
            // What is loaded is in the log already.
            shard.effects.enabled = !loading && (self.log.is_on() || self.node.replication.feeding.load(Ordering::Acquire));
        }
        self.apply_config(self.config.clone());
    }

    /// Applies a new configuration to what this core keeps of it.
    pub fn apply_config(&mut self, config: Arc<Config>) {
        let mut settings = shared::shard_settings(&config);
        if self.loading {
            settings.loading = true;
            settings.notify = NotifyFlags::default();
        }
        settings.replica = self.node.replication.role(&config);
        if let Some(shard) = &mut self.shard {
            shard.settings = Settings { active_expire: shard.settings.active_expire, ..settings.clone() };
        }
        self.scratch.settings = settings;
        self.slowlog.configure(config.slowlog_log_slower_than, config.slowlog_max_len as usize);
        self.latency.threshold_ms = config.latency_monitor_threshold;
        self.counters.tracking = config.latency_tracking;
        self.log.set_timestamps(config.aof_timestamp_enabled);
        if config.requirepass.is_empty() {
            self.connections.iter_mut().for_each(|(_, connection)| connection.special.set(Special::UNAUTHENTICATED, false));
        }
        self.config = config;
    }
}
