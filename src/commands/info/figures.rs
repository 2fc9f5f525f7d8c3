//! The figures behind INFO: what one core knows, and the sum over all of them.

use crate::config::Config;
use crate::core::counters::Counters;
use crate::core::shared::Node;
use crate::core::{Core, KeyspaceFacts};
use crate::observe::memory;
use hashbrown::HashSet;
use kvshard::shard::Stats;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What costs more to take than a few numbers, and not every section shows.
#[derive(Clone, Copy)]
pub struct Wanted {
    pub per_command: bool,
    pub channels: bool,
}

/// One core's figures at one moment.
pub struct CoreFigures {
    pub counters: Counters,
    pub keyspace: KeyspaceFacts,
    pub clients: ClientFigures,
    /// Commands, bytes received and bytes sent per second.
    pub rates: [u64; 3],
    pub dirty: u64,
    pub table_bytes: usize,
    pub cpu: CpuTime,
    channels: Vec<Box<[u8]>>,
    shard_channels: Vec<Box<[u8]>>,
    patterns: Vec<Box<[u8]>>,
}

#[derive(Clone, Copy, Default)]
pub struct ClientFigures {
    pub connected: usize,
    pub blocked: usize,
    pub with_timeout: usize,
    pub input_max: usize,
    pub output_max: usize,
    pub memory: usize,
}

impl CoreFigures {
    pub fn take(core: &mut Core, wanted: Wanted) -> Self {
        let mut keyspace = core.keyspace_facts();
        keyspace.stats.add(&core.scratch.stats);
        let names = |shard| if wanted.channels { core.pubsub.channels(shard, None) } else { Vec::new() };
        CoreFigures {
            counters: if wanted.per_command { core.counters.clone() } else { core.counters.totals() },
            clients: ClientFigures::of(core),
            rates: core.rates.per_second(),
            dirty: core.node.per_core[core.id].dirty.load(Ordering::Relaxed),
            table_bytes: keyspace.table_bytes,
            cpu: CpuTime::of(libc::RUSAGE_THREAD),
            channels: names(false),
            shard_channels: names(true),
            patterns: core.pubsub.patterns().map(Box::from).collect(),
            keyspace,
        }
    }

    pub fn keys(&self) -> usize {
        self.keyspace.databases.iter().map(|&(keys, _, _)| keys).sum()
    }
}

impl ClientFigures {
    fn of(core: &Core) -> Self {
        let mut figures = ClientFigures::default();
        for (_, connection) in core.clients() {
            figures.connected += 1;
            if let Some(blocked) = &connection.blocked {
                figures.blocked += 1;
                figures.with_timeout += usize::from(blocked.deadline_ms != 0);
            }
            figures.input_max = figures.input_max.max(connection.query.capacity());
            figures.output_max = figures.output_max.max(connection.pending_output());
            figures.memory += connection.memory();
        }
        figures
    }

    fn add(&mut self, other: &ClientFigures) {
        self.connected += other.connected;
        self.blocked += other.blocked;
        self.with_timeout += other.with_timeout;
        self.input_max = self.input_max.max(other.input_max);
        self.output_max = self.output_max.max(other.output_max);
        self.memory += other.memory;
    }
}

/// Processor time in microseconds.
#[derive(Clone, Copy, Default)]
pub struct CpuTime {
    pub system: u64,
    pub user: u64,
}

impl CpuTime {
    /// `whose`: one of RUSAGE_SELF, RUSAGE_CHILDREN, RUSAGE_THREAD.
    pub fn of(whose: i32) -> Self {
        // SAFETY: all zeros is a valid `rusage`, which is plain numbers.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: `usage` is a live value of the type the call fills. If it fails, the time stays 0.
        unsafe { libc::getrusage(whose, &mut usage) };
        let micros = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
        CpuTime { system: micros(usage.ru_stime), user: micros(usage.ru_utime) }
    }
}

/// The whole node's figures.
pub struct Figures {
    pub node: Arc<Node>,
    pub config: Arc<Config>,
    /// Milliseconds since 1970.
    pub now: i64,
    pub cores: Vec<CoreFigures>,
    pub counters: Counters,
    pub stats: Stats,
    pub clients: ClientFigures,
    pub rates: [u64; 3],
    pub dirty: u64,
    /// Per database: keys, keys with an expiry, average time to live in ms.
    pub databases: Vec<(usize, usize, i64)>,
    pub table_bytes: usize,
    pub trash_pending: usize,
    pub trash_freed: u64,
    /// Different names over all cores.
    pub channels: usize,
    pub shard_channels: usize,
    pub patterns: usize,
    pub memory_used: u64,
    pub memory_peak: u64,
}

impl Figures {
    /// Adds up the cores' figures; `core` is the asking one.
    pub fn of(core: &Core, cores: Vec<CoreFigures>) -> Self {
        let memory_used = memory::used();
        let earlier_peak = core.node.peak_memory.fetch_max(memory_used, Ordering::Relaxed);
        let mut counters = Counters::new(core.node.registry.all().len());
        let (mut stats, mut clients, mut rates) = (Stats::default(), ClientFigures::default(), [0; 3]);
        let mut databases = vec![(0, 0, 0); core.config.databases as usize];
        for part in &cores {
            counters.add(&part.counters);
            stats.add(&part.keyspace.stats);
            clients.add(&part.clients);
            rates.iter_mut().zip(part.rates).for_each(|(sum, rate)| *sum += rate);
            for (sum, part) in databases.iter_mut().zip(&part.keyspace.databases) {
                *sum = joined(*sum, *part);
            }
        }
        let distinct = |names: fn(&CoreFigures) -> &[Box<[u8]>]| cores.iter().flat_map(names).collect::<HashSet<_>>().len();
        Figures {
            node: core.node.clone(),
            config: core.config.clone(),
            now: core.now,
            counters,
            stats,
            clients,
            rates,
            databases,
            dirty: core.node.unsaved_changes(),
            table_bytes: cores.iter().map(|part| part.table_bytes).sum(),
            trash_pending: cores.iter().map(|part| part.keyspace.trash_pending).sum(),
            trash_freed: cores.iter().map(|part| part.keyspace.trash_freed).sum(),
            channels: distinct(|part| &part.channels),
            shard_channels: distinct(|part| &part.shard_channels),
            patterns: distinct(|part| &part.patterns),
            memory_used,
            memory_peak: earlier_peak.max(memory_used),
            cores,
        }
    }
}

/// Two parts of one database; the average time to live is weighed by the keys it is of.
fn joined(a: (usize, usize, i64), b: (usize, usize, i64)) -> (usize, usize, i64) {
    let volatile = a.1 + b.1;
    let ttl_sum = i128::from(a.2) * a.1 as i128 + i128::from(b.2) * b.1 as i128;
    (a.0 + b.0, volatile, if volatile == 0 { 0 } else { (ttl_sum / volatile as i128) as i64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_live_are_weighed_by_their_keys() {
        assert_eq!(joined((5, 1, 100), (7, 3, 500)), (12, 4, 400));
        assert_eq!(joined((5, 0, 0), (7, 0, 0)), (12, 0, 0));
    }
}
