//! Commands about the connection itself: PING, ECHO, SELECT, QUIT, AUTH, HELLO, RESET.

use super::{Action, Call, NodeCommand};
use kvshard::command::{AclCategory, Arg, ArgFlags, ArgKind, Command};
use kvshard::{Error, Flags, Group, Reply, Route, Spec};

pub static COMMANDS: &[&NodeCommand] = &[&PING, &ECHO, &SELECT, &QUIT];

pub static PING: NodeCommand = Command {
    spec: Spec {
        name: "ping",
        group: Group::Connection,
        summary: "Answers PONG, or the message given.",
        arity: -1,
        flags: Flags::FAST.with(Flags::SENTINEL).with(Flags::SUBSCRIBED),
        acl: AclCategory::CONNECTION,
        args: &[Arg::new("message", ArgKind::String).flags(ArgFlags::OPTIONAL)],
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: ping,
};

fn ping(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    if c.args.len() > 2 {
        return Err(Error::Text("ERR wrong number of arguments for 'ping' command"));
    }
    let client = c.client();
    if client.is_subscribed() && !client.resp3 {
        r.array(2);
        r.bulk(b"pong");
        r.bulk(c.args.at(1));
    } else if let Some(message) = c.args.get(1) {
        r.bulk(message);
    } else {
        r.simple("PONG");
    }
    Ok(Action::Done)
}

pub static ECHO: NodeCommand = Command {
    spec: Spec {
        name: "echo",
        group: Group::Connection,
        summary: "Answers the message given.",
        arity: 2,
        flags: Flags::LOADING.with(Flags::STALE).with(Flags::FAST),
        acl: AclCategory::CONNECTION,
        args: &[Arg::new("message", ArgKind::String)],
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: echo,
};

fn echo(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    r.bulk(c.args.at(1));
    Ok(Action::Done)
}

pub static SELECT: NodeCommand = Command {
    spec: Spec {
        name: "select",
        group: Group::Connection,
        summary: "Chooses the database of the commands to come.",
        arity: 2,
        flags: Flags::LOADING.with(Flags::STALE).with(Flags::FAST),
        acl: AclCategory::CONNECTION,
        args: &[Arg::new("index", ArgKind::Integer)],
        route: Route::Node,
        spans_databases: true,
        ..Spec::DEFAULT
    },
    run: select,
};

fn select(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let number = kvshard::number::parse_i64(c.args.at(1)).ok_or(Error::Text("ERR invalid DB index"))?;
    let databases = c.core.config.databases as usize;
    let db = usize::try_from(number).ok().filter(|&db| db < databases).ok_or(Error::Text("ERR DB index is out of range"))?;
    c.client().db = db;
    r.ok();
    Ok(Action::Done)
}

pub static QUIT: NodeCommand = Command {
    spec: Spec {
        name: "quit",
        group: Group::Connection,
        summary: "Closes the connection.",
        arity: -1,
        flags: Flags::ALLOW_BUSY
            .with(Flags::NOSCRIPT)
            .with(Flags::LOADING)
            .with(Flags::STALE)
            .with(Flags::FAST)
            .with(Flags::NO_AUTH)
            .with(Flags::NO_QUEUE)
            .with(Flags::NO_PAUSE)
            .with(Flags::SUBSCRIBED),
        acl: AclCategory::CONNECTION,
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: quit,
};

fn quit(_c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    r.ok();
    Ok(Action::Close)
}
