//! INFO: the sections of redis-server 7.0.15, field by field in its order, and a section about the cores.
//!
//! Each core takes its figures ([`figures`]), the asking core adds them up and writes the sections asked for: about the node
//! in [`node`], about what it has done in [`activity`]. A field of something that is not there says so in Redis's way
//! (0, no, -1), so that whoever reads INFO by program finds every field.

mod activity;
mod figures;
mod node;

use super::{Action, Call, Gather, NodeCommand};
use figures::{CoreFigures, Figures, Wanted};
use kvshard::command::{AclCategory, Arg, ArgFlags, ArgKind, Command};
use kvshard::{Error, Flags, Group, Reply, Route, Spec};

pub static COMMANDS: &[&NodeCommand] = &[&INFO];

pub static INFO: NodeCommand = Command {
    spec: Spec {
        name: "info",
        group: Group::Server,
        summary: "Shows figures about the server, by sections.",
        arity: -1,
        flags: Flags::LOADING.with(Flags::STALE).with(Flags::SENTINEL),
        acl: AclCategory::DANGEROUS,
        tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        args: &[Arg::new("section", ArgKind::String).flags(ArgFlags::OPTIONAL.with(ArgFlags::MULTIPLE))],
        history: &[("7.0.0", "Several sections in one call.")],
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: info,
};

/// A section, in the order in which they are shown.
struct Section {
    name: &'static str,
    /// Shown where nobody asks for certain sections.
    by_default: bool,
    write: fn(&Figures, &mut String),
}

const fn section(name: &'static str, by_default: bool, write: fn(&Figures, &mut String)) -> Section {
    Section { name, by_default, write }
}

static SECTIONS: &[Section] = &[
    section("server", true, node::server),
    section("clients", true, node::clients),
    section("memory", true, node::memory),
    section("persistence", true, node::persistence),
    section("stats", true, activity::stats),
    section("replication", true, node::replication),
    section("cpu", true, node::cpu),
    section("modules", true, node::modules),
    section("commandstats", false, activity::command_stats),
    section("errorstats", true, activity::error_stats),
    section("latencystats", false, activity::latency_stats),
    section("cluster", true, node::cluster),
    section("keyspace", true, activity::keyspace),
    section("cores", false, activity::cores),
];

/// One bit for each of [`SECTIONS`].
type Chosen = u32;
const _: () = assert!(SECTIONS.len() <= Chosen::BITS as usize);

/// `default`, `all`, `everything` and names of sections, in any case; what is unknown adds nothing.
fn chosen<'a>(words: impl ExactSizeIterator<Item = &'a [u8]>) -> Chosen {
    let those = |keep: &dyn Fn(&Section) -> bool| -> Chosen {
        SECTIONS.iter().enumerate().filter(|(_, section)| keep(section)).fold(0, |bits, (at, _)| bits | 1 << at)
    };
    if words.len() == 0 {
        return those(&|section| section.by_default);
    }
    words.fold(0, |bits, word| {
        bits | match word.to_ascii_lowercase().as_slice() {
            b"default" => those(&|section| section.by_default),
            b"all" | b"everything" => those(&|_| true),
            b"module_list" => those(&|section| section.name == "modules"),
            word => those(&|section| section.name.as_bytes() == word),
        }
    })
}

fn has(chosen: Chosen, name: &str) -> bool {
    SECTIONS.iter().enumerate().any(|(at, section)| section.name == name && chosen & (1 << at) != 0)
}

fn info(c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    let chosen = chosen(c.args.from(1).iter());
    let wanted =
        Wanted { per_command: has(chosen, "commandstats") || has(chosen, "latencystats"), channels: has(chosen, "stats") };
    let job = move |core: &mut crate::core::Core| CoreFigures::take(core, wanted);
    Ok(Action::Gather(Gather::all(job, move |core, _, parts, reply| {
        let figures = Figures::of(core, parts);
        let mut text = String::with_capacity(8 << 10);
        for (_, section) in SECTIONS.iter().enumerate().filter(|(at, _)| chosen & (1 << at) != 0) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            (section.write)(&figures, &mut text);
        }
        reply.verbatim("txt", text.as_bytes());
        Ok(())
    })))
}

/// Appends `name:value` lines: `lines!(text, "name" => value, …)`; a value is anything that prints.
macro_rules! lines {
    ($text:expr, $($name:literal => $value:expr,)*) => { $(
        // Writing to a string cannot fail.
        let _infallible = std::fmt::Write::write_fmt($text, format_args!("{}:{}\r\n", $name, $value));
    )* };
}
use lines;

fn yes(on: bool) -> u8 {
    u8::from(on)
}

/// Bytes with a unit, two digits behind the point.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let power = (bytes.ilog2() / 10).min(UNITS.len() as u32);
    format!("{:.2}{}", bytes as f64 / 1024f64.powi(power as i32), UNITS[power as usize - 1])
}

/// `a / b` with two digits, 0 where there is nothing to divide by.
fn ratio(a: u64, b: u64) -> String {
    format!("{:.2}", if b == 0 { 0.0 } else { a as f64 / b as f64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str]) -> Vec<&'static str> {
        let chosen = chosen(words.iter().map(|word| word.as_bytes()));
        SECTIONS.iter().map(|section| section.name).filter(|name| has(chosen, name)).collect()
    }

    #[test]
    fn sections_are_chosen_as_in_redis() {
        let default = ["server", "clients", "memory", "persistence", "stats", "replication", "cpu", "modules", "errorstats"];
        let default = [&default[..], &["cluster", "keyspace"]].concat();
        assert_eq!(names(&[]), default);
        assert_eq!(names(&["DEFAULT"]), default);
        assert_eq!(names(&["all"]).len(), SECTIONS.len());
        assert_eq!(names(&["keyspace", "Server", "nosuch", "server"]), ["server", "keyspace"]);
        assert_eq!(names(&["default", "cores"]).len(), default.len() + 1);
    }

    #[test]
    fn sizes_are_written_as_in_redis() {
        let sizes = [(0, "0B"), (1023, "1023B"), (1024, "1.00K"), (99_606_880, "94.99M"), (25_276_518_400, "23.54G")];
        for (bytes, text) in sizes {
            assert_eq!(human(bytes), text);
        }
        assert_eq!(human(u64::MAX), "16.00E");
    }
}
