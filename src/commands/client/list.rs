//! CLIENT INFO and CLIENT LIST: one line for each connection, in Redis's format.
//!
//! Figures that Redis takes from its own buffers are taken from the corresponding ones here; a thing that does not exist here is 0.

use super::{ADMIN, OWN, SPEC};
use crate::commands::{Action, Call, Gather, NodeCommand};
use crate::core::Core;
use crate::core::connection::{Connection, Special, Stall};
use crate::peers::status::PeerConnection;
use kvshard::command::{Arg, ArgFlags, ArgKind, Command};
use kvshard::keyspace::ClientId;
use kvshard::{Args, Error, Reply, Spec};
use std::io::Write;

/// The classes by which clients are chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    Normal,
    Master,
    Replica,
    PubSub,
}

impl Class {
    pub fn from_word(word: &[u8]) -> Result<Class, Error> {
        match word.to_ascii_lowercase().as_slice() {
            b"normal" => Ok(Class::Normal),
            b"slave" | b"replica" => Ok(Class::Replica),
            b"pubsub" => Ok(Class::PubSub),
            b"master" => Ok(Class::Master),
            _ => Err(Error::Owned(format!("ERR Unknown client type '{}'", String::from_utf8_lossy(word)))),
        }
    }

    /// Other nodes' connections are served elsewhere: see [`Class::of_peer`].
    pub fn of(connection: &Connection) -> Class {
        if connection.is_subscribed() { Class::PubSub } else { Class::Normal }
    }

    pub fn of_peer(peer: &PeerConnection) -> Class {
        if peer.is_primary { Class::Master } else { Class::Replica }
    }
}

pub static INFO: NodeCommand = Command {
    spec: Spec {
        name: "client|info",
        since: "6.2.0",
        summary: "This connection's line of CLIENT LIST.",
        arity: 2,
        flags: OWN,
        tips: &["nondeterministic_output"],
        ..SPEC
    },
    run: info,
};

fn info(c: &mut Call<'_>, r: &mut Reply<'_>) -> Result<Action, Error> {
    let (args, now) = (args_bytes(c.args), c.core.now);
    r.verbatim("txt", &line(c.client(), now, args));
    Ok(Action::Done)
}

pub static LIST: NodeCommand = Command {
    spec: Spec {
        name: "client|list",
        since: "2.4.0",
        summary: "One line about each connection.",
        complexity: "O(N) where N is the number of client connections",
        arity: -2,
        flags: ADMIN,
        tips: &["nondeterministic_output"],
        args: &[
            Arg::new(
                "normal_master_replica_pubsub",
                ArgKind::OneOf(&[
                    Arg::new("normal", ArgKind::PureToken).token("NORMAL"),
                    Arg::new("master", ArgKind::PureToken).token("MASTER"),
                    Arg::new("replica", ArgKind::PureToken).token("REPLICA"),
                    Arg::new("pubsub", ArgKind::PureToken).token("PUBSUB"),
                ]),
            )
            .token("TYPE")
            .flags(ArgFlags::OPTIONAL)
            .since("5.0.0"),
            Arg::new("id", ArgKind::Block(&[Arg::new("client-id", ArgKind::Integer).flags(ArgFlags::MULTIPLE)]))
                .token("ID")
                .flags(ArgFlags::OPTIONAL)
                .since("6.2.0"),
        ],
        history: &[
            ("2.8.12", "Field `id`."),
            ("5.0.0", "Filter `TYPE`."),
            ("6.0.0", "Field `user`."),
            ("6.2.0", "Fields `argv-mem`, `tot-mem`, `laddr` and `redir`, filter `ID`."),
            ("7.0.0", "Fields `resp`, `multi-mem`, `rbs` and `rbp`."),
            ("7.0.3", "Field `ssub`."),
        ],
        ..SPEC
    },
    run: list,
};

/// Which connections are listed.
#[derive(Clone, PartialEq, Debug)]
enum Chosen {
    All,
    OfClass(Class),
    /// In this order.
    Ids(Vec<u64>),
}

impl Chosen {
    fn parse(args: Args<'_>) -> Result<Chosen, Error> {
        match args.len() {
            2 => Ok(Chosen::All),
            4 if args.is(2, "type") => Ok(Chosen::OfClass(Class::from_word(args.at(3))?)),
            4.. if args.is(2, "id") => {
                let id = |word| kvshard::number::parse_i64(word).ok_or(Error::Text("ERR Invalid client ID"));
                let ids: Result<Vec<i64>, Error> = args.from(3).iter().map(id).collect();
                // A negative number is no client's.
                Ok(Chosen::Ids(ids?.into_iter().filter_map(|id| u64::try_from(id).ok()).collect()))
            }
            _ => Err(Error::Syntax),
        }
    }

    fn has(&self, id: u64, class: Class) -> bool {
        match self {
            Chosen::All => true,
            Chosen::OfClass(chosen) => *chosen == class,
            Chosen::Ids(ids) => ids.contains(&id),
        }
    }
}

type Lines = Vec<(u64, Vec<u8>)>;

fn list(c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    let chosen = Chosen::parse(c.args)?;
    let (caller, args) = (c.client().id, args_bytes(c.args));
    let order = match &chosen {
        Chosen::Ids(ids) => Some(ids.clone()),
        _ => None,
    };
    let job = move |core: &mut Core| -> Lines {
        let clients = core.clients().map(|(_, connection)| connection);
        let listed = clients.filter(|connection| chosen.has(connection.id.0, Class::of(connection)));
        let args_of = |id: ClientId| if id == caller { args } else { 0 };
        let mut lines: Lines =
            listed.map(|connection| (connection.id.0, line(connection, core.now, args_of(connection.id)))).collect();
        if core.id == 0 {
            let peers = &core.node.replication.facts().connections;
            let listed = peers.iter().filter(|peer| chosen.has(peer.id, Class::of_peer(peer)));
            lines.extend(listed.map(|peer| (peer.id, format!("{}\n", peer.line(core.now)).into_bytes())));
        }
        lines
    };
    let finish = move |_: &mut Core, _: usize, parts: Vec<Lines>, reply: &mut Reply<'_>| {
        reply.verbatim("txt", &joined(parts, order.as_deref()));
        Ok(())
    };
    Ok(Action::Gather(Gather::all(job, finish)))
}

/// The cores' lines by number, or in the order asked for.
fn joined(parts: Vec<Lines>, order: Option<&[u64]>) -> Vec<u8> {
    let mut lines: Lines = parts.into_iter().flatten().collect();
    lines.sort_unstable_by_key(|(id, _)| *id);
    match order {
        None => lines.into_iter().flat_map(|(_, line)| line).collect(),
        Some(order) => {
            let found = order.iter().filter_map(|id| lines.binary_search_by_key(id, |(id, _)| *id).ok());
            found.flat_map(|at| lines[at].1.iter().copied()).collect()
        }
    }
}

/// Bytes of the arguments of the command that runs now.
fn args_bytes(args: Args<'_>) -> usize {
    args.iter().map(<[u8]>::len).sum()
}

/// A connection's line, with its newline.
pub fn line(connection: &Connection, now: i64, args_bytes: usize) -> Vec<u8> {
    let seconds = |since_ms: i64| now / 1000 - since_ms / 1000;
    let subscriptions = connection.subscriptions.as_deref();
    let subscribed = subscriptions.map_or((0, 0, 0), |s| (s.channels.len(), s.patterns.len(), s.shard_channels.len()));
    let transaction = connection.transaction.as_deref().filter(|transaction| transaction.open);
    let mut line = Vec::with_capacity(256);
    // Writing to a vector does not fail.
    let _ = write!(line, "id={} addr={} laddr={} fd={} name=", connection.id.0, connection.peer, connection.local, connection.fd);
    line.extend_from_slice(connection.name.as_deref().unwrap_or_default());
    let _ = write!(
        line,
        " age={} idle={} flags={} db={} sub={} psub={} ssub={} multi={} qbuf={} qbuf-free={} argv-mem={} multi-mem={}",
        seconds(connection.created_ms),
        seconds(connection.last_interaction_ms),
        flags(connection),
        connection.db,
        subscribed.0,
        subscribed.1,
        subscribed.2,
        transaction.map_or(-1, |transaction| transaction.queue.len() as i64),
        connection.pending_input() + connection.in_hand,
        connection.query.capacity() - connection.query.len(),
        args_bytes,
        transaction.map_or(0, |transaction| transaction.queue_bytes),
    );
    let _ = write!(
        line,
        " rbs={} rbp={} obl={} oll={} omem={} tot-mem={} events={} cmd={} user=default redir=-1 resp={}",
        connection.out.capacity(),
        connection.out.len(),
        connection.out.len(),
        connection.reorder.len() + usize::from(connection.sending > 0),
        connection.reorder.held_bytes() + connection.sending,
        connection.memory() + args_bytes,
        ["", "r", "w", "rw"][usize::from(connection.receiving) + 2 * usize::from(connection.sending > 0)],
        connection.last_command.map_or("NULL", |command| command.spec.name),
        if connection.resp3 { 3 } else { 2 },
    );
    if let Some(library) = &connection.library {
        for (field, value) in [(" lib-name=", &library.name), (" lib-ver=", &library.version)] {
            line.extend_from_slice(field.as_bytes());
            line.extend_from_slice(value);
        }
    }
    line.push(b'\n');
    line
}

/// The letters for a connection's state, `N` for none.
fn flags(connection: &Connection) -> String {
    let letters = [
        ('O', connection.special.has(Special::MONITOR)),
        ('P', connection.is_subscribed()),
        ('x', connection.in_multi()),
        ('b', matches!(connection.stall, Stall::Blocked | Stall::Paused)),
        ('c', connection.closing && connection.close_after_output),
        ('A', connection.closing && !connection.close_after_output),
        ('U', connection.is_unix),
        ('e', connection.no_evict),
        ('T', connection.no_touch),
    ];
    let set: String = letters.iter().filter(|(_, on)| *on).map(|(letter, _)| *letter).collect();
    if set.is_empty() { "N".into() } else { set }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvshard::command::ArgsBuf;

    #[test]
    fn a_new_connection_is_shown_in_the_format_of_redis() {
        let connection = Connection::new(ClientId(7), 12, 1, "127.0.0.1:5".into(), "127.0.0.1:6379".into(), false, 10_000);
        let text = String::from_utf8(line(&connection, 13_000, 10)).expect("ASCII");
        let memory = connection.memory() + 10;
        assert_eq!(
            text,
            format!(
                "id=7 addr=127.0.0.1:5 laddr=127.0.0.1:6379 fd=12 name= age=3 idle=3 flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 qbuf=0 \
                 qbuf-free=0 argv-mem=10 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem={memory} events= cmd=NULL user=default \
                 redir=-1 resp=2\n"
            )
        );
    }

    #[test]
    fn lines_come_by_number_or_as_asked_for() {
        let parts = || vec![vec![(3, b"3".to_vec()), (1, b"1".to_vec())], vec![(2, b"2".to_vec())]];
        assert_eq!(joined(parts(), None), b"123");
        assert_eq!(joined(parts(), Some(&[2, 9, 1, 2])), b"212");
    }

    #[test]
    fn what_to_list_is_parsed() {
        let parse = |words: &[&[u8]]| Chosen::parse(ArgsBuf::from_slices(words).args());
        assert_eq!(parse(&[b"client", b"list"]), Ok(Chosen::All));
        assert_eq!(parse(&[b"client", b"list", b"TYPE", b"slave"]), Ok(Chosen::OfClass(Class::Replica)));
        assert_eq!(parse(&[b"client", b"list", b"id", b"2", b"-1", b"1"]), Ok(Chosen::Ids(vec![2, 1])));
        assert_eq!(parse(&[b"client", b"list", b"id", b"x"]), Err(Error::Text("ERR Invalid client ID")));
        assert_eq!(parse(&[b"client", b"list", b"id"]), Err(Error::Syntax));
        assert_eq!(parse(&[b"client", b"list", b"type", b"x"]), Err(Error::Owned("ERR Unknown client type 'x'".into())));
    }
}
