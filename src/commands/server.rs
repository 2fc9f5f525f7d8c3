//! Commands about the node as a whole: TIME, LOLWUT, SHUTDOWN.

use super::{Action, Call, NodeCommand};
use crate::config::REDIS_VERSION;
use crate::coordinator::contract::Order;
use crate::core::shared::ShutdownOptions;
use crate::observe::{clock, log};
use kvshard::command::{Arg, ArgFlags, ArgKind, Command};
use kvshard::number::parse_i64;
use kvshard::{Args, Error, Flags, Group, Reply, Route, Spec};
use std::sync::atomic::Ordering;

pub static COMMANDS: &[&NodeCommand] = &[&TIME, &LOLWUT, &SHUTDOWN];

pub static TIME: NodeCommand = Command {
    spec: Spec {
        name: "time",
        group: Group::Server,
        since: "2.6.0",
        summary: "Tells the server's time: seconds since 1970, and microseconds.",
        arity: 1,
        flags: Flags::LOADING.with(Flags::STALE).with(Flags::FAST),
        tips: &["nondeterministic_output"],
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: time,
};

fn time(_c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let micros = clock::wall_micros();
    r.array(2);
    r.bulk_integer(micros / 1_000_000);
    r.bulk_integer(micros % 1_000_000);
    Ok(Action::Done)
}

pub static LOLWUT: NodeCommand = Command {
    spec: Spec {
        name: "lolwut",
        group: Group::Server,
        since: "5.0.0",
        summary: "Draws something, and tells the version of Redis that the server is compatible with.",
        complexity: "",
        arity: -1,
        flags: Flags::READONLY.with(Flags::FAST),
        args: &[Arg::new("version", ArgKind::Integer).token("VERSION").flags(ArgFlags::OPTIONAL)],
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: lolwut,
};

/// The drawing's size if the client does not choose, and its bounds.
const DRAWING_COLUMNS: i64 = 66;
const DRAWING_ROWS: i64 = 8;
const DRAWING_COLUMNS_MAX: i64 = 1000;
const DRAWING_ROWS_MAX: i64 = 200;

fn lolwut(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let number = |index: usize| c.args.get(index).map(|word| parse_i64(word).ok_or(Error::NotInteger)).transpose();
    let (version, first) = match c.args.len() >= 3 && c.args.is(1, "version") {
        true => (number(2)?.unwrap_or(0), 3),
        false => (0, 1),
    };
    let mut drawing = String::new();
    if matches!(version, 5 | 6) {
        let columns = number(first)?.unwrap_or(DRAWING_COLUMNS);
        let rows = number(first + 1)?.unwrap_or(DRAWING_ROWS);
        number(first + 2)?;
        let cores = c.core.node.cores;
        drawing = hills(cores, columns.clamp(1, DRAWING_COLUMNS_MAX) as usize, rows.clamp(1, DRAWING_ROWS_MAX) as usize);
    }
    drawing.push_str(&format!("Redis ver. {REDIS_VERSION}\n"));
    r.verbatim("txt", drawing.as_bytes());
    Ok(Action::Done)
}

/// A range of hills, one summit for each core.
fn hills(cores: usize, columns: usize, rows: usize) -> String {
    let height = |column: usize| {
        let turn = (column as f64 + 0.5) / columns as f64 * cores as f64;
        (0.5 - 0.5 * (turn * std::f64::consts::TAU).cos()) * rows as f64
    };
    let mut drawing = String::with_capacity((columns + 1) * rows);
    for row in (0..rows).rev() {
        drawing.extend((0..columns).map(|column| match height(column) - row as f64 {
            above if above >= 1.0 => '#',
            above if above >= 0.5 => '^',
            above if above > 0.0 => '.',
            _ => ' ',
        }));
        drawing.push('\n');
    }
    drawing
}

pub static SHUTDOWN: NodeCommand = Command {
    spec: Spec {
        name: "shutdown",
        group: Group::Server,
        summary: "Ends the node.",
        complexity: "O(N) when saving, where N is the total number of keys in all databases, otherwise O(1)",
        arity: -1,
        flags: Flags::ADMIN
            .with(Flags::NOSCRIPT)
            .with(Flags::LOADING)
            .with(Flags::STALE)
            .with(Flags::NO_MULTI)
            .with(Flags::ALLOW_BUSY),
        args: &[
            Arg::new(
                "nosave_save",
                ArgKind::OneOf(&[
                    Arg::new("nosave", ArgKind::PureToken).token("NOSAVE"),
                    Arg::new("save", ArgKind::PureToken).token("SAVE"),
                ]),
            )
            .flags(ArgFlags::OPTIONAL),
            Arg::new("now", ArgKind::PureToken).token("NOW").flags(ArgFlags::OPTIONAL).since("7.0.0"),
            Arg::new("force", ArgKind::PureToken).token("FORCE").flags(ArgFlags::OPTIONAL).since("7.0.0"),
            Arg::new("abort", ArgKind::PureToken).token("ABORT").flags(ArgFlags::OPTIONAL).since("7.0.0"),
        ],
        history: &[("7.0.0", "NOW, FORCE and ABORT.")],
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: shutdown,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ShutdownRequest {
    Abort,
    Begin(ShutdownOptions),
}

impl ShutdownRequest {
    fn parse(words: Args<'_>) -> Result<Self, Error> {
        let (mut options, mut abort) = (ShutdownOptions::default(), false);
        for index in 0..words.len() {
            let option = match () {
                () if words.is(index, "nosave") => &mut options.no_save,
                () if words.is(index, "save") => &mut options.save,
                () if words.is(index, "now") => &mut options.now,
                () if words.is(index, "force") => &mut options.force,
                () if words.is(index, "abort") => &mut abort,
                () => return Err(Error::Syntax),
            };
            *option = true;
        }
        match (abort, options) {
            (true, options) if options == ShutdownOptions::default() => Ok(ShutdownRequest::Abort),
            (false, options) if !(options.save && options.no_save) => Ok(ShutdownRequest::Begin(options)),
            _ => Err(Error::Syntax),
        }
    }
}

/// The client's connection ends with the node, or it is told why not: then the first core, which looks after the end, has found
/// that the last save failed.
fn shutdown(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let shutdown = &c.core.node.shutdown;
    match ShutdownRequest::parse(c.args.from(1))? {
        ShutdownRequest::Abort if shutdown.wanted().is_none() => Err(Error::Text("ERR No shutdown in progress.")),
        ShutdownRequest::Abort => {
            log::notice("Shutdown manually aborted.");
            shutdown.abort();
            if shutdown.hold() != 0 {
                c.core.node.persistence.give_up.store(true, Ordering::Relaxed);
            }
            // If the coordinator is gone, the node has ended already.
            let _gone = c.core.node.to_coordinator.send(Order::CallOffShutdown);
            r.ok();
            Ok(Action::Done)
        }
        ShutdownRequest::Begin(options) => {
            shutdown.want(options, Some(c.asker()));
            Ok(Action::Await)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvshard::command::ArgsBuf;

    fn parse(line: &str) -> Result<ShutdownRequest, Error> {
        let words: Vec<&[u8]> = line.split_whitespace().map(str::as_bytes).collect();
        ShutdownRequest::parse(ArgsBuf::from_slices(&words).args())
    }

    #[test]
    fn what_shutdown_may_be_told() {
        let begin = |options| Ok(ShutdownRequest::Begin(options));
        assert_eq!(parse(""), begin(ShutdownOptions::default()));
        assert_eq!(parse("nosave NOW"), begin(ShutdownOptions { no_save: true, now: true, ..ShutdownOptions::default() }));
        assert_eq!(parse("SAVE force"), begin(ShutdownOptions { save: true, force: true, ..ShutdownOptions::default() }));
        assert_eq!(parse("abort"), Ok(ShutdownRequest::Abort));
        for wrong in ["save nosave", "abort now", "abort save", "later"] {
            assert_eq!(parse(wrong), Err(Error::Syntax), "{wrong}");
        }
    }

    #[test]
    fn the_drawing_has_the_size_asked_for() {
        for (cores, columns, rows) in [(1, 1, 1), (2, 66, 8), (64, 40, 200)] {
            let drawing = hills(cores, columns, rows);
            assert_eq!(drawing.lines().count(), rows);
            assert!(drawing.lines().all(|line| line.len() == columns));
        }
    }
}
