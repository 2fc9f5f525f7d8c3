//! CONFIG GET, SET, REWRITE, RESETSTAT, HELP.
//!
//! Values, bounds and their refusals are [`crate::config`]'s. Here a change takes effect: what may fail (a directory, a limit, a
//! port) first, under the lock of the node's configuration, so that either all of it counts or nothing; then every core takes
//! the new configuration over, and only then the client is answered.

use super::help::{container, write_help};
use super::{Action, Call, Gather, NodeCommand};
use crate::config::structures::os_reason;
use crate::config::{Config, Directive, SetContext, SetError, not_available, rewrite};
use crate::core::Core;
use crate::core::shared::{Node, log_level};
use crate::observe::log;
use crate::system::process;
use kvshard::command::{Arg, ArgFlags, ArgKind, Command};
use kvshard::{Error, Flags, Group, Reply, Route, Spec};
use std::env;
use std::sync::Arc;

pub static COMMANDS: &[&NodeCommand] = &[&CONFIG, &CONFIG_GET, &CONFIG_SET, &CONFIG_REWRITE, &CONFIG_RESETSTAT, &CONFIG_HELP];

const FLAGS: Flags = Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::LOADING).with(Flags::STALE);

pub static CONFIG: NodeCommand = Command {
    spec: Spec {
        name: "config",
        group: Group::Server,
        since: "2.0.0",
        summary: "Commands about the server's configuration.",
        complexity: "Depends on the subcommand.",
        arity: -2,
        flags: Flags::NONE,
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: container,
};

pub static CONFIG_GET: NodeCommand = Command {
    spec: Spec {
        name: "config|get",
        group: Group::Server,
        since: "2.0.0",
        summary: "Shows the values of directives.",
        complexity: "O(N) in the number of directives",
        arity: -3,
        flags: FLAGS,
        args: &[Arg::new("parameter", ArgKind::Block(&[Arg::new("parameter", ArgKind::String)])).flags(ArgFlags::MULTIPLE)],
        history: &[("7.0.0", "Several patterns in one call.")],
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: get,
};

fn get(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let patterns: Vec<&[u8]> = c.args.from(2).iter().collect();
    let found = c.core.config.get(&patterns);
    r.map(found.len());
    for (name, value) in found {
        r.bulk(&name);
        r.bulk(&value);
    }
    Ok(Action::Done)
}

pub static CONFIG_SET: NodeCommand = Command {
    spec: Spec {
        name: "config|set",
        group: Group::Server,
        since: "2.0.0",
        summary: "Changes directives, all of those given or none.",
        complexity: "O(N) in the number of directives given",
        arity: -4,
        flags: FLAGS,
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        args: &[Arg::new(
            "parameter_value",
            ArgKind::Block(&[Arg::new("parameter", ArgKind::String), Arg::new("value", ArgKind::String)]),
        )
        .flags(ArgFlags::MULTIPLE)],
        history: &[("7.0.0", "Several directives in one call.")],
        is_secret: Some(|args, index| index >= 3 && index % 2 == 1 && Config::is_sensitive(args.at(index - 1))),
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: set,
};

fn set(c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    if c.args.len() % 2 == 1 {
        return Err(Error::Syntax);
    }
    let words: Vec<&[u8]> = c.args.from(2).iter().collect();
    let pairs: Vec<(&[u8], &[u8])> = words.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    let context = SetContext { local_client: c.client().is_local(), loading: c.core.node.persistence.is_loading() };
    change(&c.core.node, &pairs, context).map_err(|error| Error::Owned(error.to_string()))?;
    let job = |core: &mut Core| core.apply_config(core.node.current_config());
    Ok(Action::Gather(Gather::all(job, |_, _, _, reply| {
        reply.ok();
        Ok(())
    })))
}

/// Changes the node's configuration and brings into effect what does not belong to a core.
fn change(node: &Node, pairs: &[(&[u8], &[u8])], context: SetContext) -> Result<(), SetError> {
    let mut current = node.config.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut next = (**current).clone();
    let changed = next.set(pairs, context)?;
    take_effect(node, &current, &next, &changed)?;
    *current = Arc::new(next);
    node.replication.configured(&current);
    Ok(())
}

fn take_effect(node: &Node, current: &Config, next: &Config, changed: &[&Directive]) -> Result<(), SetError> {
    let has = |name: &str| changed.iter().any(|directive| directive.name == name);
    if has("tls-port") && next.tls_port > 0 {
        return Err(SetError::failed("tls-port", not_available("TLS")));
    }
    if has("maxclients") {
        make_room_for_clients(node, next)?;
    }
    if has("dir") {
        env::set_current_dir(&next.dir.0).map_err(|error| SetError::failed("dir", os_reason(&error)))?;
    }
    let address = ["port", "bind"].into_iter().find(|name| has(name));
    if let Some(name) = address
        && !node.relisten.get().is_some_and(|relisten| relisten(next))
    {
        if has("dir") {
            // It was the process's directory a moment ago.
            let _gone_meanwhile = env::set_current_dir(&current.dir.0);
        }
        let reason = match name {
            "port" => "Unable to listen on this port. Check server logs.",
            _ => "Failed to bind to specified addresses.",
        };
        return Err(SetError::failed(name, reason));
    }
    log::set_least(log_level(next));
    Ok(())
}

fn make_room_for_clients(node: &Node, next: &Config) -> Result<(), SetError> {
    let fitted = process::fit_limits(next.clone(), node.cores).map_err(|reason| SetError::failed("maxclients", reason))?;
    if fitted.maxclients < next.maxclients {
        let reason =
            format!("The operating system is not able to handle the specified number of clients, try with {}", fitted.maxclients);
        return Err(SetError::failed("maxclients", reason));
    }
    Ok(())
}

pub static CONFIG_REWRITE: NodeCommand = Command {
    spec: Spec {
        name: "config|rewrite",
        group: Group::Server,
        since: "2.8.0",
        summary: "Brings the configuration file up to the values in effect.",
        arity: 2,
        flags: FLAGS,
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: rewrite_file,
};

fn rewrite_file(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let node = &c.core.node;
    let Some(path) = &node.config_file else { return Err(Error::Text(rewrite::NO_FILE)) };
    // Under the lock, so that two rewrites never work on one file at a time.
    let config = node.config.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Err(error) = rewrite::rewrite_file(path, &config, rewrite::OtherLines::default()) {
        let reason = os_reason(&error);
        log::warning(&format!("CONFIG REWRITE failed: {reason}"));
        return Err(Error::Owned(format!("ERR Rewriting config file: {reason}")));
    }
    log::warning("CONFIG REWRITE executed with success.");
    r.ok();
    Ok(Action::Done)
}

pub static CONFIG_RESETSTAT: NodeCommand = Command {
    spec: Spec {
        name: "config|resetstat",
        group: Group::Server,
        since: "2.0.0",
        summary: "Sets the server's statistics back to zero.",
        arity: 2,
        flags: FLAGS,
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: reset_statistics,
};

fn reset_statistics(c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    c.core.node.replication.reset_counts();
    Ok(Action::Gather(Gather::all(Core::reset_statistics, |_, _, _, reply| {
        reply.ok();
        Ok(())
    })))
}

pub static CONFIG_HELP: NodeCommand = Command {
    spec: Spec {
        name: "config|help",
        group: Group::Server,
        since: "5.0.0",
        summary: "Lists the subcommands.",
        arity: 2,
        flags: Flags::LOADING.with(Flags::STALE),
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: help,
};

fn help(_c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let lines = [
        "GET <pattern> [<pattern> ...]",
        "    Show the directives whose names match a glob-style pattern, with their values.",
        "SET <directive> <value> [<directive> <value> ...]",
        "    Give directives new values; either all of them change or none.",
        "RESETSTAT",
        "    Set the statistics that INFO shows back to zero.",
        "REWRITE",
        "    Write the values in effect into the configuration file.",
    ];
    write_help(r, "CONFIG", &lines);
    Ok(Action::Done)
}

#[cfg(test)]
mod tests {
    use crate::commands::registry::Registry;
    use kvshard::command::ArgsBuf;

    #[test]
    fn secret_values_are_not_shown() {
        let line = ArgsBuf::from_slices(&[b"config", b"set", b"port", b"1", b"RequirePass", b"x", b"masterauth", b"y"]);
        let registry = Registry::new();
        let command = registry.find(line.args()).expect("there");
        let shown = command.redacted(line.args()).expect("may hold some");
        let shown: Vec<_> = shown.args().iter().map(String::from_utf8_lossy).collect();
        assert_eq!(shown.join(" "), "config set port 1 RequirePass (redacted) masterauth (redacted)");
    }
}
