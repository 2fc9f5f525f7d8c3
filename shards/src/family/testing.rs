//! The vocabulary of command tests: a request, the reply expected, a clock moved by hand.

use super::{ShardCommand, commands};
use crate::command::{Args, ArgsBuf};
use crate::effects::{Effect, Effects};
use crate::keyspace::serve::Served;
use crate::keyspace::waiters::{Awaited, Waiter, awaited_keys};
use crate::keyspace::{ClientId, KeyHasher};
use crate::settings::Settings;
use crate::shard::{Request, Shard};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A client of one shard.
pub struct Session {
    pub shard: Shard,
    pub now: i64,
    pub db: usize,
    pub client: ClientId,
    pub resp3: bool,
    /// What the last command that asked to wait waits for.
    awaited: Option<Awaited>,
}

impl Session {
    pub fn new() -> Self {
        Session::of_shards(1)
    }

    /// A session on a shard of a node that has so many.
    pub fn of_shards(shards: u16) -> Self {
        let mut shard = Shard::new(KeyHasher::new([1, 2, 3, 4], shards), 16, Settings::default(), 42);
        shard.effects.enabled = true;
        Session { shard, now: 1_700_000_000_000, db: 0, client: ClientId(1), resp3: false, awaited: None }
    }

    /// Runs a command line (words; double quotes with `\xHH`, `\n`, `\r`, `\\`, `\"` inside) and returns the reply with
    /// CR LF shown as one space: `$5 hello`, `*2 $1 a :3`.
    pub fn run(&mut self, line: &str) -> String {
        let args = words(line);
        self.run_args(args.args())
    }

    pub fn run_args(&mut self, args: Args<'_>) -> String {
        let command = lookup(args).unwrap_or_else(|| panic!("unknown command {:?}", String::from_utf8_lossy(args.at(0))));
        assert!(command.spec.arity_matches(args.len()), "arity of {}", command.spec.name);
        let mut out = Vec::new();
        let request = Request {
            command,
            args,
            db: self.db,
            now: self.now,
            client: self.client,
            resp3: self.resp3,
            may_block: true,
            no_touch: false,
            first_key: None,
        };
        let outcome = self.shard.execute(request, &mut out);
        for db in &self.shard.dbs {
            db.check_invariants();
        }
        if let Some(wait) = outcome.wait {
            self.awaited = Some(wait.awaited);
            assert!(out.is_empty());
            return "(waits)".into();
        }
        shown(&out)
    }

    /// Another client sends a command that must wait; it waits here from then on.
    pub fn block(&mut self, client: u64, line: &str) {
        self.block_as(client, line, false);
    }

    /// As [`Session::block`], for a client that must be served on its own core if `remote`. Its claim is returned.
    pub fn block_as(&mut self, client: u64, line: &str, remote: bool) -> Arc<AtomicBool> {
        assert_eq!(self.run(line), "(waits)", "reply to {line}");
        self.wait_as(client, line, remote)
    }

    /// The command that has just asked to wait does so.
    pub fn wait_on(&mut self, client: u64, line: &str) {
        self.wait_as(client, line, false);
    }

    fn wait_as(&mut self, client: u64, line: &str, remote: bool) -> Arc<AtomicBool> {
        let args = words(line);
        let command = lookup(args.args()).expect("the command has just been run");
        let keys: Vec<_> = awaited_keys(&command.spec, args.args()).iter().map(|&at| args.args().at(at).to_vec()).collect();
        let claimed = Arc::new(AtomicBool::new(false));
        let awaited = self.awaited.expect("the command has just asked to wait");
        let waiter = Waiter {
            client: ClientId(client),
            core: 0,
            command,
            args,
            db: self.db,
            resp3: self.resp3,
            awaited,
            claimed: claimed.clone(),
            remote: AtomicBool::new(remote),
        };
        self.shard.waiters.add(Arc::new(waiter), keys.iter().map(Vec::as_slice));
        claimed
    }

    /// Ends a block of commands: who is served, in order, as `client: reply`.
    pub fn serve(&mut self) -> Vec<String> {
        let mut served = Vec::new();
        self.shard.serve_ready(self.now, false, &mut served);
        for db in &self.shard.dbs {
            db.check_invariants();
        }
        let show = |served| match served {
            Served::Done { waiter, reply } => format!("{}: {}", waiter.client.0, shown(&reply)),
            Served::Remote { waiter } => format!("{}: remote", waiter.client.0),
        };
        served.into_iter().map(show).collect()
    }

    /// Runs each request and compares its reply.
    pub fn check(&mut self, cases: &[(&str, &str)]) {
        for (line, want) in cases {
            assert_eq!(self.run(line), *want, "reply to {line}");
        }
    }

    /// The effects since the last call, as command lines.
    pub fn effects(&mut self) -> Vec<String> {
        shown_effects(&self.shard.effects.take())
    }

    /// As [`Session::effects`], as they stand in a log that has database 0 selected.
    pub fn log(&mut self) -> Vec<String> {
        let effects = self.shard.effects.take();
        let (mut bytes, mut selected) = (Vec::new(), Some(0));
        effects.write_log(&mut selected, &mut bytes);
        let mut read = Effects::default();
        read.push_written(0, |out, ended| {
            for command in commands_in(&bytes) {
                out.extend_from_slice(command);
                ended(out.len());
            }
        });
        shown_effects(&read)
    }
}

/// Cuts RESP into commands, by their numbers and lengths.
fn commands_in(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut commands = Vec::new();
    while !bytes.is_empty() {
        let number = |line: &[u8]| String::from_utf8_lossy(&line[1..]).trim_end().parse::<usize>().expect("a number");
        let mut at = memchr::memchr(b'\n', bytes).expect("a line") + 1;
        for _ in 0..number(&bytes[..at]) {
            let end = at + memchr::memchr(b'\n', &bytes[at..]).expect("a line") + 1;
            at = end + number(&bytes[at..end]) + 2;
        }
        let (command, rest) = bytes.split_at(at);
        commands.push(command);
        bytes = rest;
    }
    commands
}

/// Effects as command lines.
pub fn shown_effects(effects: &Effects) -> Vec<String> {
    let mut ranges = Vec::new();
    let mut show = |effect: Effect<'_>| {
        let args = effect.args(&mut ranges);
        args.iter().map(|a| String::from_utf8_lossy(a).into_owned()).collect::<Vec<_>>().join(" ")
    };
    effects.iter().map(&mut show).collect()
}

/// A reply with CR LF shown as one space.
fn shown(reply: &[u8]) -> String {
    String::from_utf8_lossy(reply).trim_end_matches("\r\n").replace("\r\n", " ")
}

fn lookup(args: Args<'_>) -> Option<&'static ShardCommand> {
    let name = String::from_utf8_lossy(args.at(0)).to_lowercase();
    let full = format!("{name}|{}", String::from_utf8_lossy(args.at(1)).to_lowercase());
    commands().find(|c| c.spec.name == full).or_else(|| commands().find(|c| c.spec.name == name))
}

fn words(line: &str) -> ArgsBuf {
    let mut args = ArgsBuf::default();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (mut word, mut chars) = (Vec::new(), quoted.char_indices());
            loop {
                match chars.next().expect("a closing quote") {
                    (at, '"') => {
                        rest = quoted[at + 1..].trim_start();
                        break;
                    }
                    (at, '\\') => match chars.next().expect("an escaped character").1 {
                        'n' => word.push(b'\n'),
                        'r' => word.push(b'\r'),
                        'x' => {
                            word.push(u8::from_str_radix(&quoted[at + 2..at + 4], 16).expect("two hexadecimal digits"));
                            chars.nth(1);
                        }
                        other => word.extend(other.to_string().bytes()),
                    },
                    (_, other) => word.extend(other.to_string().bytes()),
                }
            }
            args.push(&word);
        } else {
            let end = rest.find(' ').unwrap_or(rest.len());
            args.push(&rest.as_bytes()[..end]);
            rest = rest[end..].trim_start();
        }
    }
    args
}
