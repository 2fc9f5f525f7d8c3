//! All commands of the node, found by name.
//!
//! Built once at the start from the shard's and the node's definitions, with `rename-command` applied; it lives as long as the
//! process, so commands are referred to by `&'static`.

use super::NodeCommand;
use kvshard::command::{BeginSearch, FindKeys, Merge};
use kvshard::family::ShardCommand;
use kvshard::{Args, Flags, Route, Spec};

mod by_name;
use by_name::ByName;

/// A command as the dispatcher sees it.
pub struct Registered {
    pub spec: &'static Spec,
    pub run: Run,
    /// Its place in per-command counters; subcommands have places of their own.
    pub index: usize,
    pub plan: Plan,
    pub subcommands: Vec<&'static Registered>,
}

#[derive(Clone, Copy)]
pub enum Run {
    Shard(&'static ShardCommand),
    Node(&'static NodeCommand),
}

/// [`Route`], worked out for the dispatcher.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    /// One key, always at this argument.
    OneKey(usize),
    Keys,
    AllShards(Merge),
    Cursor,
    Node,
}

pub struct Registry {
    by_name: ByName,
    /// Commands and subcommands by their index.
    all: Vec<&'static Registered>,
}

/// Why `rename-command` was refused.
#[derive(Debug)]
pub enum RenameError {
    NoSuchCommand,
    NameTaken,
}

impl Registry {
    pub fn new() -> Self {
        let mut registry = Registry { by_name: ByName::default(), all: Vec::new() };
        let mut specs: Vec<(&'static Spec, Run)> = kvshard::family::commands().map(|c| (&c.spec, Run::Shard(c))).collect();
        specs.extend(super::commands().map(|c| (&c.spec, Run::Node(c))));
        let (subcommands, commands): (Vec<_>, Vec<_>) = specs.into_iter().partition(|(spec, _)| spec.name.contains('|'));
        for (spec, run) in commands {
            let prefix = format!("{}|", spec.name);
            let own = subcommands.iter().filter(|(sub, _)| sub.name.starts_with(&prefix));
            let own = own.map(|&(sub, run)| registry.register(sub, run, Vec::new())).collect();
            let registered = registry.register(spec, run, own);
            assert!(registry.by_name.get(spec.name.as_bytes()).is_none(), "{} is defined twice", spec.name);
            registry.by_name.insert(spec.name.as_bytes(), registered);
        }
        registry
    }

    fn register(&mut self, spec: &'static Spec, run: Run, subcommands: Vec<&'static Registered>) -> &'static Registered {
        let index = self.all.len();
        let registered: &'static Registered = Box::leak(Box::new(Registered { spec, run, index, plan: plan(spec), subcommands }));
        self.all.push(registered);
        registered
    }

    /// The command (or subcommand) that the arguments name; containers answer for unknown subcommands themselves.
    #[inline]
    pub fn find(&self, args: Args<'_>) -> Option<&'static Registered> {
        let command = self.by_word(args.at(0))?;
        if command.subcommands.is_empty() || args.len() < 2 {
            return Some(command);
        }
        Some(command.subcommand(args.at(1)).unwrap_or(command))
    }

    #[inline]
    pub fn by_word(&self, word: &[u8]) -> Option<&'static Registered> {
        self.by_name.get(word)
    }

    /// By full name, `container|sub` included.
    pub fn by_full_name(&self, name: &[u8]) -> Option<&'static Registered> {
        match name.iter().position(|&b| b == b'|') {
            Some(bar) => self.by_word(&name[..bar])?.subcommand(&name[bar + 1..]),
            None => self.by_word(name),
        }
    }

    /// `rename-command`: an empty new name removes the command.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<(), RenameError> {
        let (from, to) = (from.to_ascii_lowercase(), to.to_ascii_lowercase());
        if !to.is_empty() && self.by_name.get(&to).is_some() {
            return Err(RenameError::NameTaken);
        }
        let command = self.by_name.remove(&from).ok_or(RenameError::NoSuchCommand)?;
        if !to.is_empty() {
            self.by_name.insert(&to, command);
        }
        Ok(())
    }

    /// Commands (not subcommands) by the name they are called with now.
    pub fn commands(&self) -> impl Iterator<Item = (&[u8], &'static Registered)> {
        self.by_name.iter()
    }

    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Commands and subcommands, by index.
    pub fn all(&self) -> &[&'static Registered] {
        &self.all
    }
}

impl Registered {
    pub fn subcommand(&self, word: &[u8]) -> Option<&'static Registered> {
        self.subcommands.iter().copied().find(|sub| sub.subname().as_bytes().eq_ignore_ascii_case(word))
    }

    /// The name without its container.
    pub fn subname(&self) -> &'static str {
        self.spec.name.rsplit('|').next().unwrap_or(self.spec.name)
    }

    pub fn is_subcommand(&self) -> bool {
        self.spec.name.contains('|')
    }

    pub fn flags(&self) -> Flags {
        self.spec.flags
    }
}

fn plan(spec: &Spec) -> Plan {
    match spec.route {
        Route::Node => Plan::Node,
        Route::Cursor => Plan::Cursor,
        Route::AllShards(merge) => Plan::AllShards(merge),
        Route::Keys => match spec.keys {
            [only] if !spec.spans_databases => match (only.begin, only.find) {
                (BeginSearch::Index(index), FindKeys::Range { last: 0, .. }) => Plan::OneKey(index as usize),
                _ => Plan::Keys,
            },
            _ => Plan::Keys,
        },
    }
}
