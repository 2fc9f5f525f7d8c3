//! SLOWLOG: the slow commands of all cores as one log.
//!
//! Each core keeps the slow commands of its own connections; ids are drawn from one counter of the node, so the merged log is
//! the entries of all cores by descending id.

use super::help::{container, write_help, wrong_form};
use super::{Action, Call, Gather, NodeCommand};
use crate::observe::slowlog::SlowEntry;
use kvshard::command::{Arg, ArgFlags, ArgKind, Command};
use kvshard::{Error, Flags, Group, Reply, Route, Spec};

pub static COMMANDS: &[&NodeCommand] = &[&SLOWLOG, &SLOWLOG_GET, &SLOWLOG_LEN, &SLOWLOG_RESET, &SLOWLOG_HELP];

const FLAGS: Flags = Flags::ADMIN.with(Flags::LOADING).with(Flags::STALE);
/// Entries that GET answers when it is not told how many.
const GET_DEFAULT: i64 = 10;

pub static SLOWLOG: NodeCommand = Command {
    spec: Spec {
        name: "slowlog",
        group: Group::Server,
        since: "2.2.12",
        summary: "A container for slow log commands.",
        complexity: "Depends on subcommand.",
        arity: -2,
        flags: Flags::NONE,
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: container,
};

pub static SLOWLOG_GET: NodeCommand = Command {
    spec: Spec {
        name: "slowlog|get",
        group: Group::Server,
        since: "2.2.12",
        summary: "Answers the newest entries of the slow log.",
        complexity: "O(N) in the number of entries answered",
        arity: -2,
        flags: FLAGS,
        tips: &["request_policy:all_nodes", "nondeterministic_output"],
        args: &[Arg::new("count", ArgKind::Integer).flags(ArgFlags::OPTIONAL)],
        history: &[("4.0.0", "An entry tells the client's address and name.")],
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: get,
};

fn get(c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    if c.args.len() > 3 {
        return Err(wrong_form(c.args));
    }
    let count = match c.args.get(2) {
        None => GET_DEFAULT,
        Some(word) => kvshard::number::parse_i64(word)
            .filter(|&count| count >= -1)
            .ok_or(Error::Text("ERR count should be greater than or equal to -1"))?,
    };
    let wanted = usize::try_from(count).unwrap_or(usize::MAX).min(c.core.config.slowlog_max_len as usize);
    let job = move |core: &mut crate::core::Core| core.slowlog.entries().take(wanted).cloned().collect::<Vec<_>>();
    Ok(Action::Gather(Gather::all(job, move |_, _, parts, r| {
        let entries = newest(parts, wanted);
        r.array(entries.len());
        entries.iter().for_each(|entry| write_entry(r, entry));
        Ok(())
    })))
}

/// The newest `wanted` entries of all cores, newest first.
fn newest(parts: Vec<Vec<SlowEntry>>, wanted: usize) -> Vec<SlowEntry> {
    let mut entries: Vec<SlowEntry> = parts.into_iter().flatten().collect();
    entries.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.id));
    entries.truncate(wanted);
    entries
}

fn write_entry(r: &mut Reply<'_>, entry: &SlowEntry) {
    r.array(6);
    r.integer(entry.id as i64);
    r.integer(entry.at);
    r.integer(entry.micros as i64);
    r.array(entry.args.len());
    entry.args.iter().for_each(|arg| r.bulk(arg));
    r.bulk(entry.address.as_bytes());
    r.bulk(&entry.client_name);
}

pub static SLOWLOG_LEN: NodeCommand = Command {
    spec: Spec {
        name: "slowlog|len",
        group: Group::Server,
        since: "2.2.12",
        summary: "Counts the entries of the slow log.",
        arity: 2,
        flags: FLAGS,
        tips: &["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"],
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: len,
};

fn len(_c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    Ok(Action::Gather(Gather::all(
        |core| core.slowlog.len(),
        |core, _, parts, r| {
            // Each core keeps as many as the whole log may have.
            r.integer(parts.into_iter().sum::<usize>().min(core.config.slowlog_max_len as usize) as i64);
            Ok(())
        },
    )))
}

pub static SLOWLOG_RESET: NodeCommand = Command {
    spec: Spec {
        name: "slowlog|reset",
        group: Group::Server,
        since: "2.2.12",
        summary: "Empties the slow log.",
        complexity: "O(N) in the number of entries",
        arity: 2,
        flags: FLAGS,
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: reset,
};

fn reset(_c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    Ok(Action::Gather(Gather::all(
        |core| core.slowlog.clear(),
        |_, _, _, r| {
            r.ok();
            Ok(())
        },
    )))
}

pub static SLOWLOG_HELP: NodeCommand = Command {
    spec: Spec {
        name: "slowlog|help",
        group: Group::Server,
        since: "6.2.0",
        summary: "Describes the subcommands.",
        arity: 2,
        flags: Flags::LOADING.with(Flags::STALE),
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: help,
};

fn help(_c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    const LINES: &[&str] = &[
        "GET [<count>]",
        "    Answer the newest <count> entries (default: 10, -1 for all of them). An entry is",
        "    its id, the time, the microseconds it took, the arguments, the client's address and name.",
        "LEN",
        "    Count the entries.",
        "RESET",
        "    Empty the slow log.",
    ];
    write_help(r, "SLOWLOG", LINES);
    Ok(Action::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64) -> SlowEntry {
        SlowEntry { id, at: 0, micros: 1, args: Vec::new(), address: String::new(), client_name: Vec::new() }
    }

    #[test]
    fn cores_logs_become_one() {
        let parts = vec![vec![entry(7), entry(3)], vec![], vec![entry(8), entry(5), entry(1)]];
        let ids: Vec<u64> = newest(parts, 4).iter().map(|entry| entry.id).collect();
        assert_eq!(ids, [8, 7, 5, 3]);
    }
}
