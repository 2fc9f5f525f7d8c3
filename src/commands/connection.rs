//! Commands about the connection itself: PING, ECHO, SELECT, QUIT, AUTH, HELLO, RESET.

use super::client::settings::name_from;
use super::{Action, Call, NodeCommand};
use crate::config::REDIS_VERSION;
use crate::core::connection::{ReplyMode, Special};
use kvshard::command::{AclCategory, Arg, ArgFlags, ArgKind, Command};
use kvshard::{Error, Flags, Group, Reply, Route, Spec};

pub static COMMANDS: &[&NodeCommand] = &[&PING, &ECHO, &SELECT, &QUIT, &AUTH, &HELLO, &RESET];

/// What AUTH, HELLO and RESET have in common.
const FLAGS: Flags =
    Flags::NOSCRIPT.with(Flags::LOADING).with(Flags::STALE).with(Flags::FAST).with(Flags::NO_AUTH).with(Flags::ALLOW_BUSY);

const WRONG_PASSWORD: Error = Error::Text("WRONGPASS invalid username-password pair or user is disabled.");

pub static PING: NodeCommand = Command {
    spec: Spec {
        name: "ping",
        group: Group::Connection,
        summary: "Answers PONG, or the message given.",
        arity: -1,
        flags: Flags::FAST.with(Flags::SENTINEL).with(Flags::SUBSCRIBED).with(Flags::HEALTH),
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
    let number = kvshard::number::parse_i64(c.args.at(1)).ok_or(Error::NotInteger)?;
    if i32::try_from(number).is_err() {
        return Err(Error::Text("ERR value is out of range, value must between -2147483648 and 2147483647"));
    }
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

pub static AUTH: NodeCommand = Command {
    spec: Spec {
        name: "auth",
        group: Group::Connection,
        summary: "Authenticates the connection.",
        complexity: "O(N) where N is the number of passwords defined for the user",
        arity: -2,
        flags: FLAGS,
        acl: AclCategory::CONNECTION,
        args: &[
            Arg::new("username", ArgKind::String).flags(ArgFlags::OPTIONAL).since("6.0.0"),
            Arg::new("password", ArgKind::String),
        ],
        history: &[("6.0.0", "A user's name and password.")],
        is_secret: Some(|_, index| index > 0),
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: auth,
};

fn auth(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    match c.args.len() {
        2 if c.core.config.requirepass.is_empty() => Err(Error::Text(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
        )),
        2 => authenticate(c, b"default", c.args.at(1)),
        3 => authenticate(c, c.args.at(1), c.args.at(2)),
        _ => Err(Error::Syntax),
    }?;
    r.ok();
    Ok(Action::Done)
}

/// Lets the client in as `user`. There is one user so far; with no password set for it, any will do.
fn authenticate(c: &mut Call<'_>, user: &[u8], password: &[u8]) -> Result<(), Error> {
    let expected = &c.core.config.requirepass;
    if user != b"default" || !(expected.is_empty() || same_secret(expected, password)) {
        c.core.counters.acl_access_denied_auth += 1;
        return Err(WRONG_PASSWORD);
    }
    c.client().special.set(Special::UNAUTHENTICATED, false);
    Ok(())
}

/// Compares in a time that tells nothing of the secret but its length.
fn same_secret(secret: &[u8], given: &[u8]) -> bool {
    let mut difference = u8::from(secret.len() != given.len());
    for (at, byte) in secret.iter().enumerate() {
        difference |= byte ^ given.get(at).copied().unwrap_or(!byte);
    }
    std::hint::black_box(difference) == 0
}

pub static HELLO: NodeCommand = Command {
    spec: Spec {
        name: "hello",
        group: Group::Connection,
        since: "6.0.0",
        summary: "Tells about the server; chooses the protocol, authenticates and names the connection.",
        arity: -1,
        flags: FLAGS,
        acl: AclCategory::CONNECTION,
        args: &[Arg::new(
            "arguments",
            ArgKind::Block(&[
                Arg::new("protover", ArgKind::Integer),
                Arg::new(
                    "username_password",
                    ArgKind::Block(&[Arg::new("username", ArgKind::String), Arg::new("password", ArgKind::String)]),
                )
                .token("AUTH")
                .flags(ArgFlags::OPTIONAL),
                Arg::new("clientname", ArgKind::String).token("SETNAME").flags(ArgFlags::OPTIONAL),
            ]),
        )
        .flags(ArgFlags::OPTIONAL)],
        history: &[("6.2.0", "Without a protocol version it only tells about the connection.")],
        is_secret: Some(|args, index| index > 2 && (args.is(index - 1, "auth") || args.is(index - 2, "auth"))),
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: hello,
};

fn hello(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let version = match c.args.get(1) {
        None => None,
        Some(word) => match kvshard::number::parse_i64(word) {
            Some(version @ 2..=3) => Some(version),
            Some(_) => return Err(Error::Text("NOPROTO unsupported protocol version")),
            None => return Err(Error::Text("ERR Protocol version is not an integer or out of range")),
        },
    };
    let mut at = 2;
    while let Some(option) = c.args.get(at) {
        if c.args.is(at, "auth") && at + 2 < c.args.len() {
            authenticate(c, c.args.at(at + 1), c.args.at(at + 2))?;
            at += 3;
        } else if c.args.is(at, "setname") && at + 1 < c.args.len() {
            c.client().name = name_from(c.args.at(at + 1))?;
            at += 2;
        } else {
            return Err(Error::Owned(format!("ERR Syntax error in HELLO option '{}'", String::from_utf8_lossy(option))));
        }
    }
    if c.client().special.has(Special::UNAUTHENTICATED) {
        return Err(Error::Text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to \
             authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    let mode = if c.core.config.cluster_enabled { "cluster" } else { "standalone" };
    let client = c.client();
    if let Some(version) = version {
        client.resp3 = version == 3;
        client.note_subscriptions();
    }
    let id = client.id.0 as i64;
    let mut reply = Reply::new(r.out, client.resp3);
    reply.map(7);
    for (field, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.bulk(field.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.integer(if client.resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(id);
    for (field, value) in [("mode", mode), ("role", "master")] {
        reply.bulk(field.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
    Ok(Action::Done)
}

pub static RESET: NodeCommand = Command {
    spec: Spec {
        name: "reset",
        group: Group::Connection,
        since: "6.2.0",
        summary: "Makes the connection as it was when it was new.",
        arity: 1,
        flags: FLAGS.with(Flags::NO_QUEUE).with(Flags::SUBSCRIBED),
        acl: AclCategory::CONNECTION,
        route: Route::Node,
        ..Spec::DEFAULT
    },
    run: reset,
};

/// What the client's library said of itself, and NO-EVICT, stay.
fn reset(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let index = c.connection;
    c.core.set_monitor(index, false);
    c.core.unsubscribe_all(index);
    let password_required = !c.core.config.requirepass.is_empty();
    let client = c.client();
    client.db = 0;
    client.resp3 = false;
    client.name = None;
    client.no_touch = false;
    client.set_reply_mode(ReplyMode::On);
    client.special.set(Special::UNAUTHENTICATED, password_required);
    client.special.set(Special::TRANSACTION, false);
    client.note_subscriptions();
    if let Some(transaction) = &mut client.transaction {
        let watched = std::mem::take(&mut transaction.watched);
        **transaction = Default::default();
        transaction.watched = watched;
    }
    Reply::new(r.out, false).simple("RESET");
    Ok(Action::Unwatch)
}

#[cfg(test)]
mod tests {
    use super::same_secret;

    #[test]
    fn secrets_are_compared_as_a_whole() {
        assert!(same_secret(b"abc", b"abc"));
        for wrong in [&b""[..], b"ab", b"abd", b"abcd"] {
            assert!(!same_secret(b"abc", wrong), "{wrong:?}");
        }
    }
}
