//! LATENCY: what took long, by event, and how long commands take, over all cores.
//!
//! Every command gathers the cores' monitors or counters and answers from their sum; the texts for people are in `report`, the
//! picture is in `graph`.

mod graph;
mod report;

use super::help::{container, write_help};
use super::{Action, Call, Gather, NodeCommand};
use crate::commands::registry::Registered;
use crate::core::Core;
use crate::core::counters::{BUCKETS, Counters};
use crate::observe::latency::LatencyMonitor;
use kvshard::command::{Arg, ArgFlags, ArgKind, Command};
use kvshard::reply::Aggregate;
use kvshard::{Error, Flags, Group, Reply, Route, Spec};
use std::collections::BTreeSet;

pub static COMMANDS: &[&NodeCommand] = &[
    &LATENCY,
    &LATENCY_LATEST,
    &LATENCY_HISTORY,
    &LATENCY_RESET,
    &LATENCY_DOCTOR,
    &LATENCY_HISTOGRAM,
    &LATENCY_GRAPH,
    &LATENCY_HELP,
];

/// What most of them have in common.
const SPEC: Spec = Spec {
    group: Group::Server,
    since: "2.8.13",
    flags: Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::LOADING).with(Flags::STALE),
    tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
    route: Route::Node,
    ..Spec::DEFAULT
};

const EVENT: &[Arg] = &[Arg::new("event", ArgKind::String)];

pub static LATENCY: NodeCommand = Command {
    spec: Spec {
        name: "latency",
        summary: "A container for latency diagnostics commands.",
        complexity: "Depends on subcommand.",
        arity: -2,
        flags: Flags::NONE,
        tips: &[],
        ..SPEC
    },
    run: container,
};

/// Answers from the latency monitors of all cores, joined.
fn from_monitors(
    answer: impl FnOnce(&Core, LatencyMonitor, &mut Reply<'_>) -> Result<(), Error> + 'static,
) -> Result<Action, Error> {
    Ok(Action::Gather(Gather::all(
        |core| core.latency.clone(),
        move |core, _, parts, r| {
            let mut all = LatencyMonitor::default();
            parts.iter().for_each(|part| all.merge(part));
            answer(core, all, r)
        },
    )))
}

fn word(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub static LATENCY_LATEST: NodeCommand = Command {
    spec: Spec { name: "latency|latest", summary: "Tells the last sample of every event.", arity: 2, ..SPEC },
    run: latest,
};

fn latest(_c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    from_monitors(|_, monitor, r| {
        let mut events: Vec<_> = monitor.events().collect();
        events.sort_unstable_by_key(|(name, _)| *name);
        r.array(events.len());
        for (name, event) in events {
            let (at, ms) = event.samples.back().copied().unwrap_or_default();
            r.array(4);
            r.bulk(name.as_bytes());
            r.integer(at);
            r.integer(ms as i64);
            r.integer(event.max_ms as i64);
        }
        Ok(())
    })
}

pub static LATENCY_HISTORY: NodeCommand = Command {
    spec: Spec { name: "latency|history", summary: "Lists the samples of an event.", arity: 3, args: EVENT, ..SPEC },
    run: history,
};

fn history(c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    let name = word(c.args.at(2));
    from_monitors(move |_, monitor, r| {
        let samples = monitor.event(&name).map(|event| &event.samples);
        r.array(samples.map_or(0, |samples| samples.len()));
        for &(at, ms) in samples.into_iter().flatten() {
            r.array(2);
            r.integer(at);
            r.integer(ms as i64);
        }
        Ok(())
    })
}

pub static LATENCY_GRAPH: NodeCommand = Command {
    spec: Spec { name: "latency|graph", summary: "Draws the samples of an event.", arity: 3, args: EVENT, ..SPEC },
    run: graph_command,
};

fn graph_command(c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    let name = word(c.args.at(2));
    from_monitors(move |core, monitor, r| {
        let no_samples = || Error::Owned(format!("ERR No samples available for event '{name}'"));
        let event = monitor.event(&name).ok_or_else(no_samples)?;
        r.verbatim("txt", graph::draw(&name, event, core.now / 1000).as_bytes());
        Ok(())
    })
}

pub static LATENCY_RESET: NodeCommand = Command {
    spec: Spec {
        name: "latency|reset",
        summary: "Forgets the samples of events, or all.",
        arity: -2,
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        args: &[Arg::new("event", ArgKind::String).flags(ArgFlags::OPTIONAL.with(ArgFlags::MULTIPLE))],
        ..SPEC
    },
    run: reset,
};

fn reset(c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    let names: Vec<String> = c.args.from(2).iter().map(word).collect();
    let job = move |core: &mut Core| core.latency.reset((!names.is_empty()).then_some(&names));
    Ok(Action::Gather(Gather::all(job, |_, _, parts, r| {
        // An event that several cores have seen is one event.
        let events: BTreeSet<&str> = parts.into_iter().flatten().collect();
        r.integer(events.len() as i64);
        Ok(())
    })))
}

pub static LATENCY_DOCTOR: NodeCommand = Command {
    spec: Spec { name: "latency|doctor", summary: "Explains in words what took long.", arity: 2, ..SPEC },
    run: doctor,
};

fn doctor(_c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    from_monitors(|core, monitor, r| {
        r.verbatim("txt", report::write(&monitor, &core.config, core.now / 1000).as_bytes());
        Ok(())
    })
}

pub static LATENCY_HISTOGRAM: NodeCommand = Command {
    spec: Spec {
        name: "latency|histogram",
        since: "7.0.0",
        summary: "Tells how often commands took how long.",
        complexity: "O(N) in the number of commands answered",
        arity: -2,
        args: &[Arg::new("command", ArgKind::String).flags(ArgFlags::OPTIONAL.with(ArgFlags::MULTIPLE))],
        ..SPEC
    },
    run: histogram,
};

type Histogram = Box<[u32; BUCKETS]>;

fn histogram(c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    let registry = &c.core.node.registry;
    let commands: Vec<&'static Registered> = match c.args.len() {
        2 => registry.all().to_vec(),
        _ => {
            let named = c.args.from(2).iter().filter_map(|name| registry.by_full_name(name));
            named.flat_map(|command| std::iter::once(command).chain(command.subcommands.iter().copied())).collect()
        }
    };
    Ok(Action::Gather(Gather::all(
        |core| core.counters.clone(),
        move |_, _, parts, r| {
            let mut all = Counters::new(parts.first().map_or(0, |part| part.commands.len()));
            parts.iter().for_each(|part| all.add(part));
            let place = r.deferred();
            let mut written = 0;
            for command in commands {
                let Some(histogram) = &all.commands[command.index].histogram else { continue };
                r.bulk(command.spec.name.as_bytes());
                write_histogram(r, histogram);
                written += 1;
            }
            r.finish(place, Aggregate::Map, written);
            Ok(())
        },
    )))
}

/// Nanoseconds up to which the first line of a histogram counts; each next line has twice as many.
const FIRST_LEVEL: u64 = 1024;
const LEVELS: u32 = 20;
/// Latencies above are counted as this, nanoseconds.
const LEVEL_MAX: u64 = (1 << 30) - 1;

/// How many commands took at most so many microseconds, for those limits at which the number grows. The limits are those of
/// redis-server's histogram, which keeps two digits: a limit is the end of the step that begins at a power of two.
fn cumulative(histogram: &Histogram) -> Vec<(u64, u64)> {
    let mut lines: Vec<(u64, u64)> = Vec::new();
    let (mut counted, mut next) = (0u64, 0);
    for level in 0..=LEVELS {
        let start = FIRST_LEVEL << level;
        let (end, limit) = match level {
            LEVELS => (BUCKETS, LEVEL_MAX),
            _ => ((level as usize + 1) * 8, start + start / 128 - 1),
        };
        let before = counted;
        counted += histogram[next..end].iter().map(|&count| u64::from(count)).sum::<u64>();
        next = end;
        if counted > before {
            lines.push((limit / 1000, counted));
        }
    }
    lines
}

fn write_histogram(r: &mut Reply<'_>, histogram: &Histogram) {
    let lines = cumulative(histogram);
    r.map(2);
    r.bulk(b"calls");
    r.integer(lines.last().map_or(0, |&(_, count)| count) as i64);
    r.bulk(b"histogram_usec");
    r.map(lines.len());
    for (micros, count) in lines {
        r.integer(micros as i64);
        r.integer(count as i64);
    }
}

pub static LATENCY_HELP: NodeCommand = Command {
    spec: Spec {
        name: "latency|help",
        summary: "Describes the subcommands.",
        arity: 2,
        flags: Flags::LOADING.with(Flags::STALE),
        tips: &[],
        ..SPEC
    },
    run: help,
};

fn help(_c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    const LINES: &[&str] = &[
        "DOCTOR",
        "    Explain in words what took long, and what helps.",
        "GRAPH <event>",
        "    Draw the samples of an event.",
        "HISTORY <event>",
        "    List the samples of an event: time and milliseconds.",
        "LATEST",
        "    List all events with their last and their worst sample.",
        "RESET [<event> ...]",
        "    Forget the samples of these events (default: of all).",
        "HISTOGRAM [<command> ...]",
        "    How many calls took at most so many microseconds, for these commands (default: for all).",
    ];
    write_help(r, "LATENCY", LINES);
    Ok(Action::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::counters::bucket;

    #[test]
    fn histograms_have_redis_s_limits() {
        let mut histogram: Histogram = Box::new([0; BUCKETS]);
        for nanos in [1, 1023, 1024, 70_000, 200_000, 200_001, 150_000_000, 700_000_000, 9_000_000_000] {
            histogram[bucket(nanos)] += 1;
        }
        assert_eq!(cumulative(&histogram), [(1, 2), (2, 3), (132, 4), (264, 6), (270_532, 7), (1_073_741, 9)]);
    }
}
