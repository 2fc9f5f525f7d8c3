//! CLIENT: what a connection says about itself, and what may be done to other connections.

pub mod kill;
pub mod list;
pub mod settings;
pub mod waiting;

use super::{Action, Call, NodeCommand, help};
use kvshard::command::{AclCategory, Command};
use kvshard::{Error, Flags, Group, Reply, Route, Spec};

pub static COMMANDS: &[&NodeCommand] = &[
    &CLIENT,
    &GETREDIR,
    &HELP,
    &ID,
    &settings::GETNAME,
    &settings::SETNAME,
    &settings::SETINFO,
    &settings::REPLY,
    &settings::NO_EVICT,
    &settings::NO_TOUCH,
    &list::INFO,
    &list::LIST,
    &kill::KILL,
    &waiting::UNBLOCK,
    &waiting::PAUSE,
    &waiting::UNPAUSE,
];

/// Flags of subcommands that concern the caller only, and of those that reach further.
const OWN: Flags = Flags::NOSCRIPT.with(Flags::LOADING).with(Flags::STALE);
const ADMIN: Flags = Flags::ADMIN.with(OWN);

/// For `..SPEC` in an item; name, summary, arity and flags are always written out.
const SPEC: Spec = Spec { group: Group::Connection, acl: AclCategory::CONNECTION, route: Route::Node, ..Spec::DEFAULT };

static CLIENT: NodeCommand = Command {
    spec: Spec {
        name: "client",
        since: "2.4.0",
        summary: "Commands about connections.",
        complexity: "Depends on subcommand.",
        arity: -2,
        flags: Flags::NONE,
        acl: AclCategory::NONE,
        ..SPEC
    },
    run: container,
};

/// Never runs: the gate refuses unknown subcommands and a missing one.
fn container(c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    Err(Error::Owned(format!("ERR wrong number of arguments for '{}' command", c.command.spec.name)))
}

static HELP: NodeCommand = Command {
    spec: Spec {
        name: "client|help",
        since: "5.0.0",
        summary: "Lists the subcommands.",
        arity: 2,
        flags: Flags::LOADING.with(Flags::STALE),
        ..SPEC
    },
    run: client_help,
};

fn client_help(_c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    help::write_help(
        r,
        "CLIENT",
        &[
            "GETREDIR",
            "    The client that gets this connection's invalidation messages; -1: there is no tracking.",
            "GETNAME",
            "    This connection's name.",
            "ID",
            "    This connection's number.",
            "INFO",
            "    This connection's line of CLIENT LIST.",
            "KILL <ip:port>",
            "    Closes the connection from <ip:port>.",
            "KILL <option> <value> [<option> <value> [...]]",
            "    Closes all connections that fit every option:",
            "    * ADDR (<ip:port>|<unixsocket>:0), LADDR (<ip:port>|<unixsocket>:0)",
            "      The peer's address; the address it connected to.",
            "    * ID <client-id>",
            "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
            "    * USER <username>",
            "    * SKIPME (YES|NO)",
            "      Whether this connection stays open in any case (default: yes).",
            "LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB) | ID <client-id> [<client-id> ...]]",
            "    One line about each connection.",
            "NO-EVICT (ON|OFF)",
            "    Keeps this connection open when clients use too much memory.",
            "NO-TOUCH (ON|OFF)",
            "    Keeps this connection's commands from counting as use of keys.",
            "PAUSE <timeout> [WRITE|ALL]",
            "    Lets all commands, or those that write, wait for <timeout> milliseconds.",
            "REPLY (ON|OFF|SKIP)",
            "    Whether this connection gets replies.",
            "SETINFO (LIB-NAME|LIB-VER) <value>",
            "    Says which library the client uses.",
            "SETNAME <name>",
            "    Names this connection.",
            "UNBLOCK <client-id> [TIMEOUT|ERROR]",
            "    Ends another connection's wait in a blocking command.",
            "UNPAUSE",
            "    Ends CLIENT PAUSE.",
        ],
    );
    Ok(Action::Done)
}

static ID: NodeCommand = Command {
    spec: Spec { name: "client|id", since: "5.0.0", summary: "This connection's number.", arity: 2, flags: OWN, ..SPEC },
    run: id,
};

fn id(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    r.integer(c.client().id.0 as i64);
    Ok(Action::Done)
}

static GETREDIR: NodeCommand = Command {
    spec: Spec {
        name: "client|getredir",
        since: "6.0.0",
        summary: "The client that gets this connection's invalidation messages.",
        arity: 2,
        flags: OWN,
        ..SPEC
    },
    run: getredir,
};

fn getredir(_c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    r.integer(-1);
    Ok(Action::Done)
}
