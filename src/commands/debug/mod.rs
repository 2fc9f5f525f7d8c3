//! DEBUG: what tests of clients and of the node itself need.
//!
//! One command with words of its own, as in redis-server: COMMAND shows no subcommands of it. What works on keys is in `keys`, the
//! digest in `digest`. Nothing here crashes, leaks or restarts the node: those words are refused.

mod digest;
mod keys;

use super::help::{write_help, wrong_form};
use super::{Action, Call, Gather, NodeCommand};
use crate::config::values::parse_memory;
use crate::observe::log;
use crate::peers::contract::ToPeers;
use kvshard::command::Command;
use kvshard::number::{parse_f64, parse_i64};
use kvshard::reply::Aggregate;
use kvshard::{Args, Error, Flags, Group, Reply, Route, Spec};
use std::thread;
use std::time::Duration;

pub static COMMANDS: &[&NodeCommand] = &[&DEBUG];

pub static DEBUG: NodeCommand = Command {
    spec: Spec {
        name: "debug",
        group: Group::Server,
        summary: "A container for debugging commands.",
        complexity: "Depends on subcommand.",
        arity: -2,
        flags: Flags::ADMIN
            .with(Flags::NOSCRIPT)
            .with(Flags::LOADING)
            .with(Flags::STALE)
            .with(Flags::PROTECTED)
            .with(Flags::SYSTEM),
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: debug,
};

/// One word of DEBUG.
struct Word {
    name: &'static str,
    /// How many arguments follow it.
    args: std::ops::RangeInclusive<usize>,
    run: fn(&mut Call<'_>, Args<'_>, &mut Reply<'_>) -> Result<Action, Error>,
}

const WORDS: &[Word] = &[
    Word { name: "change-repl-id", args: 0..=0, run: change_replication_id },
    Word { name: "digest", args: 0..=0, run: digest::of_all },
    Word { name: "digest-value", args: 0..=usize::MAX, run: digest::of_keys },
    Word { name: "error", args: 1..=1, run: error },
    Word { name: "help", args: 0..=0, run: help },
    Word { name: "htstats", args: 1..=1, run: keys::table_stats },
    Word { name: "loadaof", args: 0..=0, run: keys::load_append_only },
    Word { name: "log", args: 1..=1, run: log_message },
    Word { name: "object", args: 1..=1, run: keys::object },
    Word { name: "populate", args: 1..=3, run: keys::populate },
    Word { name: "protocol", args: 1..=1, run: protocol },
    Word { name: "quicklist-packed-threshold", args: 1..=1, run: packed_threshold },
    Word { name: "reload", args: 0..=usize::MAX, run: keys::reload },
    Word { name: "set-active-expire", args: 1..=1, run: set_active_expire },
    Word { name: "sleep", args: 1..=1, run: sleep },
    Word { name: "stringmatch-len", args: 2..=2, run: match_length },
];

/// Words that would end or damage the node.
const REFUSED: &[&str] = &["assert", "crash-and-recover", "leak", "oom", "panic", "restart", "segfault"];

fn debug(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let local = c.client().is_local();
    if !c.core.config.enable_debug_command.allows(local) {
        return Err(Error::Text(
            "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local \
             connection, otherwise you need to set this option in the configuration file, and then restart the server.",
        ));
    }
    let args = c.args;
    if let Some(word) = REFUSED.iter().find(|word| args.is(1, word)) {
        return Err(Error::Owned(format!("ERR DEBUG {} is refused: it would end or damage the server", word.to_uppercase())));
    }
    let word = WORDS.iter().find(|word| args.is(1, word.name) && word.args.contains(&(args.len() - 2)));
    let word = word.ok_or_else(|| wrong_form(args))?;
    (word.run)(c, args.from(2), r)
}

fn done(r: &mut Reply<'_>) -> Result<Action, Error> {
    r.ok();
    Ok(Action::Done)
}

/// A gather whose job needs the core's shard. In a transaction the shards may be lent to the very block that asks, and would not
/// come back before it ends.
fn on_shards(c: &Call<'_>, gather: Gather) -> Result<Action, Error> {
    if c.in_exec {
        return Err(Error::Text("ERR This DEBUG subcommand is not allowed inside a transaction"));
    }
    Ok(Action::Gather(gather.needing_shard()))
}

/// As C's `atoi`: the number at the beginning of a word, else 0.
fn leading_number(word: &[u8]) -> i64 {
    let digits = word.iter().skip(usize::from(word.first() == Some(&b'-'))).take_while(|byte| byte.is_ascii_digit()).count();
    parse_i64(&word[..digits + usize::from(word.first() == Some(&b'-'))]).unwrap_or(0)
}

fn change_replication_id(c: &mut Call<'_>, _args: Args<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    log::warning("Changing replication IDs after receiving DEBUG change-repl-id");
    c.core.node.replication.tell(ToPeers::ChangeId);
    done(r)
}

/// The argument as an error reply, whatever it is.
fn error(_c: &mut Call<'_>, args: Args<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    r.out.push(b'-');
    r.out.extend(args.at(0).iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
    r.out.extend_from_slice(b"\r\n");
    Ok(Action::Done)
}

fn log_message(_c: &mut Call<'_>, args: Args<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    log::warning(&format!("DEBUG LOG: {}", String::from_utf8_lossy(args.at(0))));
    done(r)
}

/// Stops the whole node: every core sleeps, and who serves other nodes too; the answer comes when the cores have.
fn sleep(c: &mut Call<'_>, args: Args<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    let seconds = parse_f64(args.at(0)).unwrap_or(0.0);
    let pause = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    c.core.node.replication.sleep(pause);
    let answer = |_: &mut _, _, _, r: &mut Reply<'_>| {
        r.ok();
        Ok(())
    };
    Ok(Action::Gather(Gather::all(move |_| thread::sleep(pause), answer).together()))
}

fn set_active_expire(c: &mut Call<'_>, args: Args<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    let on = leading_number(args.at(0)) != 0;
    on_shards(
        c,
        Gather::all(
            move |core| {
                let shard = core.shard.as_mut().expect("the job waits for the shard");
                shard.settings.active_expire = on;
            },
            |_, _, _, r| {
                r.ok();
                Ok(())
            },
        ),
    )
}

/// Redis keeps list elements from this size on in nodes of their own. Lists here have one form for elements of every size, so
/// there is nothing to set; the argument is checked as Redis does.
fn packed_threshold(_c: &mut Call<'_>, args: Args<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    const THRESHOLD_MAX: u64 = (1 << 32) - (1 << 20);
    match parse_memory(args.at(0)) {
        Some(..=THRESHOLD_MAX) => done(r),
        _ => Err(Error::Text("ERR argument must be a memory value bigger than 1 and smaller than 4gb")),
    }
}

/// Longest string that is made for [`match_length`].
const MATCHED_MAX: usize = 1 << 20;

/// Whether a string of so many `a` matches a pattern.
fn match_length(_c: &mut Call<'_>, args: Args<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let len = parse_i64(args.at(0)).and_then(|len| usize::try_from(len).ok()).filter(|&len| len <= MATCHED_MAX);
    let text = vec![b'a'; len.ok_or(Error::OutOfRange)?];
    r.integer(i64::from(kvshard::glob::matches(args.at(1), &text, false)));
    Ok(Action::Done)
}

/// One reply of every type, for the tests of clients.
#[allow(clippy::approx_constant, reason = "the double that redis-server answers")]
fn protocol(_c: &mut Call<'_>, args: Args<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let is = |name: &str| args.is(0, name);
    match () {
        () if is("string") => r.bulk(b"Hello World"),
        () if is("integer") => r.integer(12345),
        () if is("double") => r.double(3.141),
        () if is("bignum") => big_number(r, "1234567999999999999999999999999999999"),
        () if is("null") => r.null(),
        () if is("array") => {
            r.array(3);
            (0..3).for_each(|number| r.integer(number));
        }
        () if is("set") => {
            r.set(3);
            (0..3).for_each(|number| r.integer(number));
        }
        () if is("map") => {
            r.map(3);
            for number in 0..3 {
                r.integer(number);
                r.boolean(number == 1);
            }
        }
        () if is("attrib") => {
            if r.resp3 {
                r.out.extend_from_slice(b"|1\r\n");
                r.bulk(b"key-popularity");
                r.array(2);
                r.bulk(b"key:123");
                r.integer(90);
            }
            r.bulk(b"Some real reply following the attribute");
        }
        () if is("push") => {
            if !r.resp3 {
                return Err(Error::Text("ERR RESP2 is not supported by this command"));
            }
            let place = r.deferred();
            r.bulk(b"server-cpu-usage");
            r.integer(42);
            r.finish(place, Aggregate::Push, 2);
            r.bulk(b"Some real reply following the push reply");
        }
        () if is("verbatim") => r.verbatim("txt", b"This is a verbatim\nstring"),
        () if is("true") => r.boolean(true),
        () if is("false") => r.boolean(false),
        () => {
            return Err(Error::Text(
                "ERR Wrong protocol type name. Please use one of the following: \
                 string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(Action::Done)
}

/// An integer of any length: `(` in RESP3, a bulk string in RESP2.
fn big_number(r: &mut Reply<'_>, digits: &str) {
    if r.resp3 {
        r.out.extend_from_slice(format!("({digits}\r\n").as_bytes());
    } else {
        r.bulk(digits.as_bytes());
    }
}

fn help(_c: &mut Call<'_>, _args: Args<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    const LINES: &[&str] = &[
        "CHANGE-REPL-ID",
        "    Give the node a new replication id.",
        "DIGEST",
        "    A fingerprint of the whole data set, the same as redis-server's for the same data.",
        "DIGEST-VALUE <key> [<key> ...]",
        "    Fingerprints of the values of these keys.",
        "ERROR <string>",
        "    Reply this error.",
        "HTSTATS <dbid>",
        "    The keys and the table of a database, shard by shard.",
        "LOADAOF",
        "    Empty the memory and load the append-only file.",
        "LOG <message>",
        "    Write a line into the log.",
        "OBJECT <key>",
        "    How a key's value is kept.",
        "POPULATE <count> [<prefix>] [<size>]",
        "    Make <count> string keys <prefix>:<number> (default: key), filled up to <size> bytes.",
        "PROTOCOL <type>",
        "    Reply something of this type: string, integer, double, bignum, null, array, set, map, attrib, push, verbatim,",
        "    true, false.",
        "QUICKLIST-PACKED-THRESHOLD <size>",
        "    Checked and without effect: lists have one form for elements of all sizes.",
        "RELOAD [<option> ...]",
        "    Save the data set, empty the memory and load the file. Options: NOSAVE, NOFLUSH, MERGE (replace keys that are there).",
        "SET-ACTIVE-EXPIRE <0|1>",
        "    Whether expired keys are removed in the background.",
        "SLEEP <seconds>",
        "    Stop all cores for so long. Decimals are allowed.",
        "STRINGMATCH-LEN <length> <pattern>",
        "    Whether a string of <length> times 'a' matches.",
    ];
    write_help(r, "DEBUG", LINES);
    Ok(Action::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_at_the_beginning() {
        for (word, number) in [("1", 1), ("0", 0), ("12x", 12), ("-3", -3), ("x1", 0), ("", 0), ("-", 0)] {
            assert_eq!(leading_number(word.as_bytes()), number, "{word}");
        }
    }

    #[test]
    fn no_word_is_there_twice() {
        assert!(WORDS.is_sorted_by(|a, b| a.name < b.name));
        assert!(WORDS.iter().all(|word| !REFUSED.contains(&word.name)));
    }
}
