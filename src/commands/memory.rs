//! MEMORY about the node: STATS, DOCTOR, PURGE, MALLOC-STATS. (MEMORY USAGE is about a key and belongs to the shards.)

use super::help::{container, write_help};
use super::{Action, Call, Gather, NodeCommand};
use crate::core::Core;
use crate::observe::memory;
use kvshard::command::Command;
use kvshard::{Error, Flags, Group, Reply, Route, Spec};
use std::fmt::Write;
use std::sync::atomic::Ordering;

pub static COMMANDS: &[&NodeCommand] =
    &[&MEMORY, &MEMORY_STATS, &MEMORY_DOCTOR, &MEMORY_PURGE, &MEMORY_MALLOC_STATS, &MEMORY_HELP];

/// What most of them have in common.
const SPEC: Spec = Spec {
    group: Group::Server,
    since: "4.0.0",
    arity: 2,
    flags: Flags::NONE,
    tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
    route: Route::Node,
    ..Spec::DEFAULT
};

pub static MEMORY: NodeCommand = Command {
    spec: Spec {
        name: "memory",
        summary: "A container for memory diagnostics commands.",
        complexity: "Depends on subcommand.",
        arity: -2,
        tips: &[],
        ..SPEC
    },
    run: container,
};

/// One core's part of the figures.
struct Part {
    /// Heap bytes of connections.
    clients: usize,
    connections: usize,
    /// Per database: keys, and heap bytes of its table.
    databases: Vec<(usize, usize)>,
}

fn part(core: &mut Core) -> Part {
    let databases = core.shard.as_ref().map(|shard| &shard.dbs);
    Part {
        clients: core.clients().map(|(_, connection)| connection.memory()).sum(),
        connections: core.clients().count(),
        databases: databases.into_iter().flatten().map(|db| (db.len(), db.table_bytes())).collect(),
    }
}

/// Where the node's memory is.
#[derive(Default)]
struct Usage {
    used: u64,
    peak: u64,
    startup: u64,
    resident: u64,
    clients: u64,
    connections: u64,
    /// As in [`Part`], over all cores.
    databases: Vec<(u64, u64)>,
}

impl Usage {
    fn new(core: &Core, parts: &[Part]) -> Usage {
        let used = memory::used();
        let earlier_peak = core.node.peak_memory.fetch_max(used, Ordering::Relaxed);
        let mut databases = vec![(0, 0); core.config.databases as usize];
        for (all, one) in parts.iter().flat_map(|part| databases_with(&part.databases)) {
            let (keys, bytes): &mut (u64, u64) = &mut databases[all];
            *keys += one.0 as u64;
            *bytes += one.1 as u64;
        }
        Usage {
            used,
            peak: earlier_peak.max(used),
            startup: core.node.startup_memory.load(Ordering::Relaxed),
            resident: memory::resident().unwrap_or(0),
            clients: parts.iter().map(|part| part.clients as u64).sum(),
            connections: parts.iter().map(|part| part.connections as u64).sum(),
            databases,
        }
    }

    fn keys(&self) -> u64 {
        self.databases.iter().map(|&(keys, _)| keys).sum()
    }

    /// Memory that is not keys and values.
    fn overhead(&self) -> u64 {
        self.startup + self.clients + self.databases.iter().filter(|&&(keys, _)| keys > 0).map(|&(_, bytes)| bytes).sum::<u64>()
    }

    /// Used since the start.
    fn net(&self) -> u64 {
        self.used.saturating_sub(self.startup).max(1)
    }
}

fn databases_with(databases: &[(usize, usize)]) -> impl Iterator<Item = (usize, (usize, usize))> {
    databases.iter().copied().enumerate()
}

/// Gathers the figures for `answer`.
fn from_usage(c: &Call<'_>, answer: impl FnOnce(&Usage, &mut Reply<'_>) + 'static) -> Result<Action, Error> {
    let gather = Gather::all(part, move |core, _, parts, r| {
        answer(&Usage::new(core, &parts), r);
        Ok(())
    });
    // A shard that is lent to the transaction this runs in does not come back before it ends: its tables are not counted then.
    Ok(Action::Gather(if c.in_exec { gather } else { gather.needing_shard() }))
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

pub static MEMORY_STATS: NodeCommand =
    Command { spec: Spec { name: "memory|stats", summary: "Tells where the node's memory is.", ..SPEC }, run: stats };

/// Fields of [`write_stats`] beside one for each database with keys.
const STATS_FIELDS: usize = 27;

fn stats(c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    from_usage(c, write_stats)
}

fn write_stats(usage: &Usage, r: &mut Reply<'_>) {
    let Usage { used, peak, startup, resident, clients, .. } = *usage;
    let with_keys = || usage.databases.iter().enumerate().filter(|(_, (keys, _))| *keys > 0);
    let (keys, overhead) = (usage.keys(), usage.overhead());
    let dataset = used.saturating_sub(overhead);
    r.map(STATS_FIELDS + with_keys().count());
    let number = |r: &mut Reply<'_>, name: &str, value: i64| {
        r.bulk(name.as_bytes());
        r.integer(value);
    };
    let share = |r: &mut Reply<'_>, name: &str, value: f64| {
        r.bulk(name.as_bytes());
        r.double(value);
    };
    let beyond = |more: u64, less: u64| more as i64 - less as i64;
    number(r, "peak.allocated", peak as i64);
    number(r, "total.allocated", used as i64);
    number(r, "startup.allocated", startup as i64);
    number(r, "replication.backlog", 0);
    number(r, "clients.slaves", 0);
    number(r, "clients.normal", clients as i64);
    number(r, "cluster.links", 0);
    number(r, "aof.buffer", 0);
    number(r, "lua.caches", 0);
    number(r, "functions.caches", 0);
    for (db, &(_, table_bytes)) in with_keys() {
        r.bulk(format!("db.{db}").as_bytes());
        r.map(3);
        number(r, "overhead.hashtable.main", table_bytes as i64);
        // An expiry stands in its entry, and the table is in the order of slots: neither has a table of its own.
        number(r, "overhead.hashtable.expires", 0);
        number(r, "overhead.hashtable.slot-to-keys", 0);
    }
    number(r, "overhead.total", overhead as i64);
    number(r, "keys.count", keys as i64);
    number(r, "keys.bytes-per-key", usage.net().checked_div(keys).unwrap_or(0) as i64);
    number(r, "dataset.bytes", dataset as i64);
    share(r, "dataset.percentage", 100.0 * ratio(dataset, usage.net()));
    share(r, "peak.percentage", 100.0 * ratio(used, peak));
    number(r, "allocator.allocated", used as i64);
    // What mimalloc holds is not told apart from what is resident: all that is not in use counts as fragmentation.
    number(r, "allocator.active", resident as i64);
    number(r, "allocator.resident", resident as i64);
    share(r, "allocator-fragmentation.ratio", ratio(resident, used));
    number(r, "allocator-fragmentation.bytes", beyond(resident, used));
    share(r, "allocator-rss.ratio", 1.0);
    number(r, "allocator-rss.bytes", 0);
    share(r, "rss-overhead.ratio", 1.0);
    number(r, "rss-overhead.bytes", 0);
    share(r, "fragmentation", ratio(resident, used));
    number(r, "fragmentation.bytes", beyond(resident, used));
}

pub static MEMORY_DOCTOR: NodeCommand = Command {
    spec: Spec { name: "memory|doctor", summary: "Explains in words what is unusual about memory.", ..SPEC },
    run: doctor,
};

/// Below this nothing can be said, bytes.
const DOCTOR_USED_MIN: u64 = 5 << 20;
/// Resident memory beyond what is used, above which it is worth a word.
const DOCTOR_RSS_RATIO: f64 = 1.4;
const DOCTOR_RSS_BYTES: u64 = 10 << 20;
const DOCTOR_PEAK_RATIO: f64 = 1.5;
const DOCTOR_CLIENT_BYTES: u64 = 200 << 10;

fn doctor(c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    from_usage(c, |usage, r| r.verbatim("txt", report(usage).as_bytes()))
}

fn report(usage: &Usage) -> String {
    let Usage { used, peak, resident, clients, connections, .. } = *usage;
    if used < DOCTOR_USED_MIN {
        return "There is too little data in this instance to say anything about its memory.\n".to_owned();
    }
    let mut text = String::new();
    let mib = |bytes: u64| bytes >> 20;
    if ratio(peak, used) > DOCTOR_PEAK_RATIO {
        let _into_a_string = writeln!(
            text,
            " * Peak memory: {} MiB were in use at some time, {} MiB are now. Freed memory is used again for new data; MEMORY PURGE gives \
             what it can back to the system.\n",
            mib(peak),
            mib(used)
        );
    }
    if ratio(resident, used) > DOCTOR_RSS_RATIO && resident.saturating_sub(used) > DOCTOR_RSS_BYTES {
        let _into_a_string = writeln!(
            text,
            " * Resident memory: the process takes {} MiB of the machine's memory for {} MiB in use. After a peak this is normal; \
             otherwise values of many different sizes come and go.\n",
            mib(resident),
            mib(used)
        );
    }
    if clients / connections.max(1) > DOCTOR_CLIENT_BYTES {
        let _into_a_string = writeln!(
            text,
            " * Client buffers: {} MiB for {connections} clients. CLIENT LIST shows which of them read too slowly or send too much at \
             once.\n",
            mib(clients)
        );
    }
    match text.is_empty() {
        true => "There is nothing unusual about the memory of this instance.\n".to_owned(),
        false => format!("This is unusual about the memory of this instance:\n\n{text}"),
    }
}

pub static MEMORY_PURGE: NodeCommand = Command {
    spec: Spec {
        name: "memory|purge",
        summary: "Gives unused memory back to the system.",
        complexity: "Depends on how much memory is allocated, could be slow",
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        ..SPEC
    },
    run: purge,
};

fn purge(_c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    Ok(Action::Gather(Gather::all(
        |_| memory::purge(),
        |_, _, _, r| {
            r.ok();
            Ok(())
        },
    )))
}

pub static MEMORY_MALLOC_STATS: NodeCommand = Command {
    spec: Spec {
        name: "memory|malloc-stats",
        summary: "Shows the allocator's report on itself.",
        complexity: "Depends on how much memory is allocated, could be slow",
        ..SPEC
    },
    run: malloc_stats,
};

fn malloc_stats(_c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    r.verbatim("txt", memory::allocator_report().as_bytes());
    Ok(Action::Done)
}

pub static MEMORY_HELP: NodeCommand = Command {
    spec: Spec {
        name: "memory|help",
        summary: "Describes the subcommands.",
        flags: Flags::LOADING.with(Flags::STALE),
        tips: &[],
        ..SPEC
    },
    run: help,
};

fn help(_c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    const LINES: &[&str] = &[
        "DOCTOR",
        "    Explain in words what is unusual.",
        "MALLOC-STATS",
        "    Show the allocator's report on itself.",
        "PURGE",
        "    Give unused memory back to the system.",
        "STATS",
        "    Tell where the memory is.",
        "USAGE <key> [SAMPLES <count>]",
        "    Tell the bytes of a key with its value. They are known, so nothing is sampled.",
    ];
    write_help(r, "MEMORY", LINES);
    Ok(Action::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage() -> Usage {
        let databases = vec![(10, 1000), (0, 64)];
        Usage { used: 100 << 20, peak: 100 << 20, resident: 110 << 20, startup: 1 << 20, databases, ..Usage::default() }
    }

    #[test]
    fn stats_has_as_many_fields_as_it_says() {
        let mut out = Vec::new();
        write_stats(&usage(), &mut Reply::new(&mut out, true));
        let text = String::from_utf8(out).unwrap();
        // A name and a value each; the names are bulk strings of two lines. One field is a map of three.
        assert!(text.starts_with("%28\r\n"));
        assert_eq!(text.lines().filter(|line| line.starts_with('$')).count(), STATS_FIELDS + 1 + 3);
        assert!(text.contains("db.0") && !text.contains("db.1"));
    }

    #[test]
    fn the_doctor_names_what_is_unusual() {
        assert!(report(&Usage::default()).contains("too little"));
        assert!(report(&usage()).contains("nothing unusual"));
        let text = report(&Usage { peak: 200 << 20, resident: 200 << 20, clients: 300 << 10, connections: 1, ..usage() });
        assert!(["Peak", "Resident", "Client"].iter().all(|word| text.contains(word)), "{text}");
    }
}
