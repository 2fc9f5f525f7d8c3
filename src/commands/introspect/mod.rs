//! COMMAND and its subcommands: what the server's commands are, told by their own definitions.
//!
//! The registry says which commands there are, [`describe`] writes one of them down. Where Redis answers in the order of a hash
//! table this answers in the order of definition.

mod describe;

use super::help::write_help;
use super::registry::{Registered, Registry};
use super::{Action, Call, NodeCommand};
use kvshard::command::{AclCategory, Arg, ArgFlags, ArgKind, BeginSearch, Command, FindKeys, KeyAccess, KeyUse, key_uses};
use kvshard::{Error, Flags, Group, Reply, Route, Spec, glob};

pub static COMMANDS: &[&NodeCommand] = &[
    &COMMAND,
    &COMMAND_COUNT,
    &COMMAND_LIST,
    &COMMAND_INFO,
    &COMMAND_DOCS,
    &COMMAND_GETKEYS,
    &COMMAND_GETKEYSANDFLAGS,
    &COMMAND_HELP,
];

/// What all of them have in common.
const COMMON: Spec = Spec {
    group: Group::Server,
    since: "2.8.13",
    flags: Flags::LOADING.with(Flags::STALE).with(Flags::SENTINEL),
    acl: AclCategory::CONNECTION,
    route: Route::Node,
    ..Spec::DEFAULT
};
const NAMES: &[Arg] = &[Arg::new("command-name", ArgKind::String).flags(ArgFlags::OPTIONAL.with(ArgFlags::MULTIPLE))];
const ANY_ORDER: &[&str] = &["nondeterministic_output_order"];
const PER_COMMAND: &str = "O(N) in the number of commands asked for";

/// Commands (not subcommands) that can be called, in the order of definition.
fn commands(registry: &Registry) -> Vec<&'static Registered> {
    let mut commands: Vec<_> = registry.commands().map(|(_, command)| command).collect();
    commands.sort_unstable_by_key(|command| command.index);
    commands
}

pub static COMMAND: NodeCommand = Command {
    spec: Spec {
        name: "command",
        summary: "Describes all commands.",
        complexity: "O(N) in the number of commands",
        arity: -1,
        tips: ANY_ORDER,
        ..COMMON
    },
    run: command,
};

fn command(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let commands = commands(&c.core.node.registry);
    r.array(commands.len());
    commands.into_iter().for_each(|command| describe::info(r, command));
    Ok(Action::Done)
}

pub static COMMAND_COUNT: NodeCommand =
    Command { spec: Spec { name: "command|count", summary: "Counts the commands.", arity: 2, ..COMMON }, run: count };

fn count(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    r.integer(c.core.node.registry.len() as i64);
    Ok(Action::Done)
}

pub static COMMAND_LIST: NodeCommand = Command {
    spec: Spec {
        name: "command|list",
        since: "7.0.0",
        summary: "Names the commands, all or those of a kind.",
        complexity: "O(N) in the number of commands",
        arity: -2,
        tips: ANY_ORDER,
        args: &[Arg::new(
            "filterby",
            ArgKind::OneOf(&[
                Arg::new("module-name", ArgKind::String).token("MODULE"),
                Arg::new("category", ArgKind::String).token("ACLCAT"),
                Arg::new("pattern", ArgKind::Pattern).token("PATTERN"),
            ]),
        )
        .token("FILTERBY")
        .flags(ArgFlags::OPTIONAL)],
        ..COMMON
    },
    run: list,
};

/// FILTERBY.
enum Filter<'a> {
    All,
    /// No command is a module's.
    None,
    Category(AclCategory),
    Pattern(&'a [u8]),
}

impl Filter<'_> {
    fn takes(&self, spec: &Spec) -> bool {
        match self {
            Filter::All => true,
            Filter::None => false,
            Filter::Category(category) => spec.acl_categories().any(*category),
            Filter::Pattern(pattern) => glob::matches(pattern, spec.name.as_bytes(), true),
        }
    }
}

fn list(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let args = c.args;
    let filter = match args.len() {
        2 => Filter::All,
        5 if args.is(2, "filterby") && args.is(3, "module") => Filter::None,
        5 if args.is(2, "filterby") && args.is(3, "aclcat") => {
            let named = AclCategory::NAMES.iter().find(|(_, name)| args.is(4, name));
            named.map_or(Filter::None, |&(category, _)| Filter::Category(category))
        }
        5 if args.is(2, "filterby") && args.is(3, "pattern") => Filter::Pattern(args.at(4)),
        _ => return Err(Error::Syntax),
    };
    let commands = commands(&c.core.node.registry);
    let all = commands.iter().flat_map(|command| std::iter::once(command).chain(&command.subcommands));
    let taken: Vec<&str> = all.filter(|command| filter.takes(command.spec)).map(|command| command.spec.name).collect();
    r.array(taken.len());
    taken.iter().for_each(|name| r.bulk(name.as_bytes()));
    Ok(Action::Done)
}

pub static COMMAND_INFO: NodeCommand = Command {
    spec: Spec {
        name: "command|info",
        summary: "Describes commands, all or those named.",
        complexity: PER_COMMAND,
        arity: -2,
        tips: ANY_ORDER,
        args: NAMES,
        history: &[("7.0.0", "Without names it describes all commands.")],
        ..COMMON
    },
    run: info,
};

fn info(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    if c.args.len() == 2 {
        return command(c, r);
    }
    r.array(c.args.len() - 2);
    for name in c.args.from(2).iter() {
        match c.core.node.registry.by_full_name(name) {
            Some(command) => describe::info(r, command),
            None => r.null(),
        }
    }
    Ok(Action::Done)
}

pub static COMMAND_DOCS: NodeCommand = Command {
    spec: Spec {
        name: "command|docs",
        since: "7.0.0",
        summary: "Shows documentation of commands, all or those named.",
        complexity: PER_COMMAND,
        arity: -2,
        tips: ANY_ORDER,
        args: NAMES,
        ..COMMON
    },
    run: docs,
};

fn docs(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let registry = &c.core.node.registry;
    let asked: Vec<&'static Registered> = match c.args.len() {
        2 => commands(registry),
        _ => c.args.from(2).iter().filter_map(|name| registry.by_full_name(name)).collect(),
    };
    r.map(asked.len());
    for command in asked {
        r.bulk(command.spec.name.as_bytes());
        describe::docs(r, command);
    }
    Ok(Action::Done)
}

pub static COMMAND_GETKEYS: NodeCommand = Command {
    spec: Spec {
        name: "command|getkeys",
        summary: "Picks the keys out of a command line.",
        complexity: "O(N) in the number of arguments",
        arity: -4,
        ..COMMON
    },
    run: get_keys,
};

fn get_keys(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let keys = keys_of_line(c)?;
    r.array(keys.len());
    keys.iter().for_each(|key| r.bulk(c.args.at(key.index + 2)));
    Ok(Action::Done)
}

pub static COMMAND_GETKEYSANDFLAGS: NodeCommand = Command {
    spec: Spec {
        name: "command|getkeysandflags",
        since: "7.0.0",
        summary: "Picks the keys out of a command line and says how they are used.",
        complexity: "O(N) in the number of arguments",
        arity: -4,
        ..COMMON
    },
    run: get_keys_and_flags,
};

fn get_keys_and_flags(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let keys = keys_of_line(c)?;
    r.array(keys.len());
    for key in keys {
        r.array(2);
        r.bulk(c.args.at(key.index + 2));
        describe::access(r, key.access);
    }
    Ok(Action::Done)
}

/// The keys of the command line that begins at the third argument.
fn keys_of_line(c: &Call<'_>) -> Result<Vec<KeyUse>, Error> {
    const UNKNOWN: Error = Error::Text("ERR Invalid command specified");
    let line = c.args.from(2);
    let command = c.core.node.registry.find(line).ok_or(UNKNOWN)?;
    if line.len() > 1 && !command.subcommands.is_empty() {
        return Err(UNKNOWN);
    }
    let spec = command.spec;
    let is_key = |access: KeyAccess| !access.has(KeyAccess::NOT_KEY);
    if spec.find_keys.is_none() && !spec.keys.iter().any(|key| is_key(key.access)) {
        return Err(Error::Text("ERR The command has no key arguments"));
    }
    if !spec.arity_matches(line.len()) {
        return Err(Error::Text("ERR Invalid number of arguments specified for command"));
    }
    let mut keys = Vec::new();
    let found = key_uses(spec, line, &mut keys);
    // A count of 0 is not taken for a command without keys, although others of its keys may be there.
    let counts_none = spec.keys.iter().any(|key| match (key.begin, key.find) {
        (BeginSearch::Index(index), FindKeys::Count { count, .. }) => line.at((index + count) as usize) == b"0",
        _ => false,
    });
    keys.retain(|key| is_key(key.access));
    if found.is_err() || keys.is_empty() || counts_none {
        if spec.flags.has(Flags::NO_MANDATORY_KEYS) {
            return Ok(Vec::new());
        }
        return Err(Error::Text("ERR Invalid arguments specified for command"));
    }
    Ok(keys)
}

pub static COMMAND_HELP: NodeCommand = Command {
    spec: Spec { name: "command|help", since: "5.0.0", summary: "Lists the subcommands.", arity: 2, ..COMMON },
    run: help,
};

fn help(_c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let lines = [
        "(no subcommand)",
        "    Describe all commands of this server.",
        "COUNT",
        "    Say how many commands there are.",
        "LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]",
        "    Name the commands, all or those that the filter takes.",
        "INFO [<command-name> ...]",
        "    Describe the commands named, or all of them.",
        "DOCS [<command-name> ...]",
        "    Show the documentation of the commands named, or of all of them.",
        "GETKEYS <full-command>",
        "    Pick the keys out of a whole command line.",
        "GETKEYSANDFLAGS <full-command>",
        "    Pick the keys out of a whole command line, with what the command does to them.",
    ];
    write_help(r, "COMMAND", &lines);
    Ok(Action::Done)
}
