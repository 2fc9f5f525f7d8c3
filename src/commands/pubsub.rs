//! Publish and subscribe. Every core knows its own subscribers; a publisher asks the cores that have any and waits for their count.

use super::{Action, Call, Gather, NodeCommand, help};
use crate::core::Core;
use crate::core::connection::ReplyMode;
use crate::core::pubsub::Kind;
use kvshard::command::{AclCategory, Arg, ArgFlags, ArgKind, Command, KeyAccess};
use kvshard::{Error, Flags, Group, KeySpec, Reply, Route, Spec};

pub static COMMANDS: &[&NodeCommand] = &[
    &SUBSCRIBE,
    &UNSUBSCRIBE,
    &PSUBSCRIBE,
    &PUNSUBSCRIBE,
    &SSUBSCRIBE,
    &SUNSUBSCRIBE,
    &PUBLISH,
    &SPUBLISH,
    &PUBSUB,
    &PUBSUB_CHANNELS,
    &PUBSUB_NUMSUB,
    &PUBSUB_NUMPAT,
    &PUBSUB_SHARDCHANNELS,
    &PUBSUB_SHARDNUMSUB,
    &PUBSUB_HELP,
];

/// For `..SPEC` in an item; name, summary, arity and flags are always written out.
const SPEC: Spec = Spec { group: Group::PubSub, route: Route::Node, ..Spec::DEFAULT };

const SUBSCRIBING: Flags = Flags::PUBSUB.with(Flags::NOSCRIPT).with(Flags::LOADING).with(Flags::STALE).with(Flags::SUBSCRIBED);
const PUBLISHING: Flags = Flags::PUBSUB.with(Flags::LOADING).with(Flags::STALE).with(Flags::FAST).with(Flags::MAY_REPLICATE);
const ASKING: Flags = Flags::PUBSUB.with(Flags::LOADING).with(Flags::STALE);

const OPTIONAL_MULTIPLE: ArgFlags = ArgFlags::OPTIONAL.with(ArgFlags::MULTIPLE);

pub static SUBSCRIBE: NodeCommand = Command {
    spec: Spec {
        name: "subscribe",
        since: "2.0.0",
        summary: "Listens to channels.",
        complexity: "O(N) where N is the number of channels to subscribe to.",
        arity: -2,
        flags: SUBSCRIBING,
        args: &[Arg::new("channel", ArgKind::String).flags(ArgFlags::MULTIPLE)],
        ..SPEC
    },
    run: |c, r| subscribe(c, r, Kind::Channel),
};

pub static PSUBSCRIBE: NodeCommand = Command {
    spec: Spec {
        name: "psubscribe",
        since: "2.0.0",
        summary: "Listens to all channels that match patterns.",
        complexity: "O(N) where N is the number of patterns the client is already subscribed to.",
        arity: -2,
        flags: SUBSCRIBING,
        args: &[Arg::new("pattern", ArgKind::Block(&[Arg::new("pattern", ArgKind::Pattern)])).flags(ArgFlags::MULTIPLE)],
        ..SPEC
    },
    run: |c, r| subscribe(c, r, Kind::Pattern),
};

pub static SSUBSCRIBE: NodeCommand = Command {
    spec: Spec {
        name: "ssubscribe",
        since: "7.0.0",
        summary: "Listens to shard channels.",
        complexity: "O(N) where N is the number of shard channels to subscribe to.",
        arity: -2,
        flags: SUBSCRIBING,
        keys: &[KeySpec::range(1, -1, 1, KeyAccess::NOT_KEY)],
        args: &[Arg::new("shardchannel", ArgKind::String).flags(ArgFlags::MULTIPLE)],
        ..SPEC
    },
    run: |c, r| subscribe(c, r, Kind::ShardChannel),
};

fn subscribe(c: &mut Call<'_>, r: &mut Reply<'_>, kind: Kind) -> Result<Action, Error> {
    if c.in_exec && kind == Kind::ShardChannel {
        return Err(Error::Text("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client"));
    }
    for name in c.args.from(1).iter() {
        c.core.subscribe(kind, name, c.connection);
        confirm(c, r, kind.words().0, kind, Some(name));
    }
    send_confirmations(c, r);
    Ok(Action::Done)
}

pub static UNSUBSCRIBE: NodeCommand = Command {
    spec: Spec {
        name: "unsubscribe",
        since: "2.0.0",
        summary: "Stops listening to channels, all by default.",
        complexity: "O(N) where N is the number of clients already subscribed to a channel.",
        arity: -1,
        flags: SUBSCRIBING,
        args: &[Arg::new("channel", ArgKind::String).flags(OPTIONAL_MULTIPLE)],
        ..SPEC
    },
    run: |c, r| unsubscribe(c, r, Kind::Channel),
};

pub static PUNSUBSCRIBE: NodeCommand = Command {
    spec: Spec {
        name: "punsubscribe",
        since: "2.0.0",
        summary: "Stops listening by patterns, all by default.",
        complexity: "O(N+M) where N is the number of patterns the client is already subscribed and M is the number of total patterns \
                     subscribed in the system (by any client).",
        arity: -1,
        flags: SUBSCRIBING,
        args: &[Arg::new("pattern", ArgKind::Pattern).flags(OPTIONAL_MULTIPLE)],
        ..SPEC
    },
    run: |c, r| unsubscribe(c, r, Kind::Pattern),
};

pub static SUNSUBSCRIBE: NodeCommand = Command {
    spec: Spec {
        name: "sunsubscribe",
        since: "7.0.0",
        summary: "Stops listening to shard channels, all by default.",
        complexity: "O(N) where N is the number of clients already subscribed to a shard channel.",
        arity: -1,
        flags: SUBSCRIBING,
        keys: &[KeySpec::range(1, -1, 1, KeyAccess::NOT_KEY)],
        args: &[Arg::new("shardchannel", ArgKind::String).flags(OPTIONAL_MULTIPLE)],
        ..SPEC
    },
    run: |c, r| unsubscribe(c, r, Kind::ShardChannel),
};

fn unsubscribe(c: &mut Call<'_>, r: &mut Reply<'_>, kind: Kind) -> Result<Action, Error> {
    let names: Vec<Box<[u8]>> = if c.args.len() > 1 {
        c.args.from(1).iter().map(Box::from).collect()
    } else {
        c.client().subscriptions.as_ref().map(|subscriptions| subscriptions.names(kind)).unwrap_or_default()
    };
    for name in &names {
        c.core.unsubscribe(kind, name, c.connection);
        confirm(c, r, kind.words().1, kind, Some(name));
    }
    if names.is_empty() {
        confirm(c, r, kind.words().1, kind, None);
    }
    send_confirmations(c, r);
    Ok(Action::Done)
}

/// What the client is told of each subscription's beginning or end, with the number it has now.
fn confirm(c: &mut Call<'_>, r: &mut Reply<'_>, word: &str, kind: Kind, name: Option<&[u8]>) {
    r.push(3);
    r.bulk(word.as_bytes());
    match name {
        Some(name) => r.bulk(name),
        None => r.null(),
    }
    r.integer(c.client().subscriptions.as_ref().map_or(0, |subscriptions| subscriptions.count(kind)) as i64);
}

/// Confirmations are messages rather than replies: CLIENT REPLY does not keep them back.
fn send_confirmations(c: &mut Call<'_>, r: &mut Reply<'_>) {
    if c.in_exec || c.client().reply_mode == ReplyMode::On {
        return;
    }
    let confirmations = std::mem::take(r.out);
    c.core.push_to(c.connection, |out| out.extend_from_slice(&confirmations));
    if c.client().reply_mode == ReplyMode::Skip {
        c.client().set_reply_mode(ReplyMode::On);
    }
}

pub static PUBLISH: NodeCommand = Command {
    spec: Spec {
        name: "publish",
        since: "2.0.0",
        summary: "Sends a message to a channel's listeners.",
        complexity: "O(N+M) where N is the number of clients subscribed to the receiving channel and M is the total number of subscribed \
                     patterns (by any client).",
        arity: 3,
        flags: PUBLISHING,
        args: &[Arg::new("channel", ArgKind::String), Arg::new("message", ArgKind::String)],
        ..SPEC
    },
    run: |c, r| publish(c, r, false),
};

pub static SPUBLISH: NodeCommand = Command {
    spec: Spec {
        name: "spublish",
        since: "7.0.0",
        summary: "Sends a message to a shard channel's listeners.",
        complexity: "O(N) where N is the number of clients subscribed to the receiving shard channel.",
        arity: 3,
        flags: PUBLISHING,
        keys: &[KeySpec::one(1, KeyAccess::NOT_KEY)],
        args: &[Arg::new("shardchannel", ArgKind::String), Arg::new("message", ArgKind::String)],
        ..SPEC
    },
    run: |c, r| publish(c, r, true),
};

/// A publisher that listens itself gets the message before its reply, as with Redis.
fn publish(c: &mut Call<'_>, r: &mut Reply<'_>, shard: bool) -> Result<Action, Error> {
    let (channel, message) = (c.args.at(1), c.args.at(2));
    let db = c.core.connections[c.connection].db;
    c.core.feed_command(db, c.args);
    let cores = c.core.subscribing_cores();
    if cores.iter().all(|&core| core == c.core.id) {
        r.integer(c.core.deliver(shard, channel, message) as i64);
        return Ok(Action::Done);
    }
    let (channel, message): (Box<[u8]>, Box<[u8]>) = (channel.into(), message.into());
    let job = move |core: &mut Core| core.deliver(shard, &channel, &message);
    Ok(Action::Gather(Gather::all(job, sum_of).on(cores)))
}

fn sum_of(_: &mut Core, _: usize, parts: Vec<usize>, r: &mut Reply<'_>) -> Result<(), Error> {
    r.integer(parts.into_iter().sum::<usize>() as i64);
    Ok(())
}

pub static PUBSUB: NodeCommand = Command {
    spec: Spec {
        name: "pubsub",
        since: "2.8.0",
        summary: "Commands about subscriptions.",
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

pub static PUBSUB_CHANNELS: NodeCommand = Command {
    spec: Spec {
        name: "pubsub|channels",
        since: "2.8.0",
        summary: "Channels with listeners.",
        complexity: "O(N) where N is the number of active channels, and assuming constant time pattern matching (relatively short channels \
                     and patterns)",
        arity: -2,
        flags: ASKING,
        args: &[Arg::new("pattern", ArgKind::Pattern).flags(ArgFlags::OPTIONAL)],
        ..SPEC
    },
    run: |c, _| channels(c, false),
};

pub static PUBSUB_SHARDCHANNELS: NodeCommand = Command {
    spec: Spec {
        name: "pubsub|shardchannels",
        since: "7.0.0",
        summary: "Shard channels with listeners.",
        complexity: "O(N) where N is the number of active shard channels, and assuming constant time pattern matching (relatively short \
                     shard channels).",
        arity: -2,
        flags: ASKING,
        args: &[Arg::new("pattern", ArgKind::Pattern).flags(ArgFlags::OPTIONAL)],
        ..SPEC
    },
    run: |c, _| channels(c, true),
};

fn channels(c: &mut Call<'_>, shard: bool) -> Result<Action, Error> {
    if c.args.len() > 3 {
        return Err(help::wrong_form(c.args));
    }
    let pattern: Option<Box<[u8]>> = c.args.get(2).map(Box::from);
    let job = move |core: &mut Core| core.pubsub.channels(shard, pattern.as_deref());
    let finish = |_: &mut Core, _: usize, parts: Vec<Vec<Box<[u8]>>>, r: &mut Reply<'_>| {
        let channels = union(parts);
        r.array(channels.len());
        channels.iter().for_each(|channel| r.bulk(channel));
        Ok(())
    };
    Ok(Action::Gather(Gather::all(job, finish)))
}

/// The cores' names, each once, in byte order.
fn union(parts: Vec<Vec<Box<[u8]>>>) -> Vec<Box<[u8]>> {
    let mut names: Vec<Box<[u8]>> = parts.into_iter().flatten().collect();
    names.sort_unstable();
    names.dedup();
    names
}

pub static PUBSUB_NUMSUB: NodeCommand = Command {
    spec: Spec {
        name: "pubsub|numsub",
        since: "2.8.0",
        summary: "Numbers of listeners of channels, those by pattern not counted.",
        complexity: "O(N) for the NUMSUB subcommand, where N is the number of requested channels",
        arity: -2,
        flags: ASKING,
        args: &[Arg::new("channel", ArgKind::String).flags(OPTIONAL_MULTIPLE)],
        ..SPEC
    },
    run: |c, _| numsub(c, false),
};

pub static PUBSUB_SHARDNUMSUB: NodeCommand = Command {
    spec: Spec {
        name: "pubsub|shardnumsub",
        since: "7.0.0",
        summary: "Numbers of listeners of shard channels.",
        complexity: "O(N) for the SHARDNUMSUB subcommand, where N is the number of requested shard channels",
        arity: -2,
        flags: ASKING,
        args: &[Arg::new("shardchannel", ArgKind::String).flags(OPTIONAL_MULTIPLE)],
        ..SPEC
    },
    run: |c, _| numsub(c, true),
};

fn numsub(c: &mut Call<'_>, shard: bool) -> Result<Action, Error> {
    let channels: Vec<Box<[u8]>> = c.args.from(2).iter().map(Box::from).collect();
    let asked = channels.clone();
    let job =
        move |core: &mut Core| -> Vec<usize> { asked.iter().map(|channel| core.pubsub.subscribers(shard, channel)).collect() };
    let finish = move |_: &mut Core, _: usize, parts: Vec<Vec<usize>>, r: &mut Reply<'_>| {
        r.array(channels.len() * 2);
        for (at, channel) in channels.iter().enumerate() {
            r.bulk(channel);
            r.integer(parts.iter().map(|counts| counts[at]).sum::<usize>() as i64);
        }
        Ok(())
    };
    Ok(Action::Gather(Gather::all(job, finish)))
}

pub static PUBSUB_NUMPAT: NodeCommand = Command {
    spec: Spec {
        name: "pubsub|numpat",
        since: "2.8.0",
        summary: "Number of different patterns listened by.",
        arity: 2,
        flags: ASKING,
        ..SPEC
    },
    run: numpat,
};

fn numpat(_c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    let job = |core: &mut Core| -> Vec<Box<[u8]>> { core.pubsub.patterns().map(Box::from).collect() };
    let finish = |_: &mut Core, _: usize, parts: Vec<Vec<Box<[u8]>>>, r: &mut Reply<'_>| {
        r.integer(union(parts).len() as i64);
        Ok(())
    };
    Ok(Action::Gather(Gather::all(job, finish)))
}

pub static PUBSUB_HELP: NodeCommand = Command {
    spec: Spec {
        name: "pubsub|help",
        since: "6.2.0",
        summary: "Lists the subcommands.",
        arity: 2,
        flags: Flags::LOADING.with(Flags::STALE),
        ..SPEC
    },
    run: pubsub_help,
};

fn pubsub_help(_c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    help::write_help(
        r,
        "PUBSUB",
        &[
            "CHANNELS [<pattern>]",
            "    Channels with listeners, those matching <pattern> if given.",
            "NUMPAT",
            "    Number of different patterns listened by.",
            "NUMSUB [<channel> ...]",
            "    Numbers of listeners of the channels, those by pattern not counted.",
            "SHARDCHANNELS [<pattern>]",
            "    Shard channels with listeners, those matching <pattern> if given.",
            "SHARDNUMSUB [<shardchannel> ...]",
            "    Numbers of listeners of the shard channels.",
        ],
    );
    Ok(Action::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_known_to_several_cores_count_once() {
        let name = |text: &str| Box::<[u8]>::from(text.as_bytes());
        let parts = vec![vec![name("b"), name("a")], vec![], vec![name("b"), name("c")]];
        assert_eq!(union(parts), vec![name("a"), name("b"), name("c")]);
    }
}
