//! CLIENT KILL: closes connections on all cores by address, number, class or user.

use super::list::Class;
use super::{ADMIN, SPEC};
use crate::commands::{Action, Call, Gather, NodeCommand};
use crate::core::Core;
use crate::core::connection::Connection;
use crate::peers::contract::ToPeers;
use crate::peers::status::PeerConnection;
use kvshard::command::{Arg, ArgFlags, ArgKind, Command};
use kvshard::{Args, Error, Reply, Spec};
use std::sync::Arc;

pub static KILL: NodeCommand = Command {
    spec: Spec {
        name: "client|kill",
        since: "2.4.0",
        summary: "Closes connections.",
        complexity: "O(N) where N is the number of client connections",
        arity: -3,
        flags: ADMIN,
        args: &[Arg::new(
            "filter",
            ArgKind::OneOf(&[
                Arg::new("ip:port", ArgKind::String).deprecated("2.8.12"),
                Arg::new("new-format", ArgKind::OneOf(FILTERS)).flags(ArgFlags::MULTIPLE),
            ]),
        )],
        history: &[
            ("2.8.12", "Filters by name."),
            ("2.8.12", "Filter `ID`."),
            ("3.2.0", "Type `master`."),
            ("5.0.0", "Type `replica`, which older clients call `slave`."),
            ("6.2.0", "Filter `LADDR`."),
        ],
        ..SPEC
    },
    run: kill,
};

const FILTERS: &[Arg] = &[
    Arg::new("client-id", ArgKind::Integer).token("ID").flags(ArgFlags::OPTIONAL).since("2.8.12"),
    Arg::new(
        "normal_master_slave_pubsub",
        ArgKind::OneOf(&[
            Arg::new("normal", ArgKind::PureToken).token("NORMAL"),
            Arg::new("master", ArgKind::PureToken).token("MASTER").since("3.2.0"),
            Arg::new("slave", ArgKind::PureToken).token("SLAVE"),
            Arg::new("replica", ArgKind::PureToken).token("REPLICA").since("5.0.0"),
            Arg::new("pubsub", ArgKind::PureToken).token("PUBSUB"),
        ]),
    )
    .token("TYPE")
    .flags(ArgFlags::OPTIONAL)
    .since("2.8.12"),
    Arg::new("username", ArgKind::String).token("USER").flags(ArgFlags::OPTIONAL),
    Arg::new("ip:port", ArgKind::String).token("ADDR").flags(ArgFlags::OPTIONAL),
    Arg::new("ip:port", ArgKind::String).token("LADDR").flags(ArgFlags::OPTIONAL).since("6.2.0"),
    Arg::new("yes/no", ArgKind::String).token("SKIPME").flags(ArgFlags::OPTIONAL),
];

/// What a connection has to be like; `None` is anything.
#[derive(Clone, Default)]
struct Filter {
    id: Option<u64>,
    class: Option<Class>,
    peer: Option<Vec<u8>>,
    local: Option<Vec<u8>>,
    spares_caller: bool,
}

impl Filter {
    fn parse(args: Args<'_>) -> Result<Filter, Error> {
        let mut filter = Filter { spares_caller: true, ..Filter::default() };
        if args.len() == 3 {
            return Ok(Filter { peer: Some(args.at(2).to_vec()), spares_caller: false, ..filter });
        }
        for at in (2..args.len()).step_by(2) {
            let value = args.get(at + 1).ok_or(Error::Syntax)?;
            if args.is(at, "id") {
                let id = kvshard::number::parse_i64(value).filter(|id| *id > 0);
                filter.id = Some(id.ok_or(Error::Text("ERR client-id should be greater than 0"))? as u64);
            } else if args.is(at, "type") {
                filter.class = Some(Class::from_word(value)?);
            } else if args.is(at, "addr") {
                filter.peer = Some(value.to_vec());
            } else if args.is(at, "laddr") {
                filter.local = Some(value.to_vec());
            } else if args.is(at, "user") {
                // Every client is the one user that there is.
                if value != b"default" {
                    return Err(Error::Owned(format!("ERR No such user '{}'", String::from_utf8_lossy(value))));
                }
            } else if args.is(at, "skipme") {
                filter.spares_caller = match value.to_ascii_lowercase().as_slice() {
                    b"yes" => true,
                    b"no" => false,
                    _ => return Err(Error::Syntax),
                };
            } else {
                return Err(Error::Syntax);
            }
        }
        Ok(filter)
    }

    fn fits(&self, connection: &Connection) -> bool {
        self.fits_all(connection.id.0, Class::of(connection), &connection.peer, &connection.local)
    }

    fn fits_peer(&self, peer: &PeerConnection) -> bool {
        self.fits_all(peer.id, Class::of_peer(peer), &peer.peer, &peer.local)
    }

    fn fits_all(&self, id: u64, class: Class, peer: &str, local: &str) -> bool {
        self.id.is_none_or(|wanted| wanted == id)
            && self.class.is_none_or(|wanted| wanted == class)
            && self.peer.as_ref().is_none_or(|wanted| wanted == peer.as_bytes())
            && self.local.as_ref().is_none_or(|wanted| wanted == local.as_bytes())
    }
}

fn kill(c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    let filter = Filter::parse(c.args)?;
    let old_form = c.args.len() == 3;
    let caller = c.client().id;
    let kills_caller = !filter.spares_caller && filter.fits(c.client());
    let job = move |core: &mut Core| {
        let fits = |connection: &Connection| connection.id != caller && !connection.closing && filter.fits(connection);
        let killed: Vec<usize> = core.clients().filter(|(_, connection)| fits(connection)).map(|(index, _)| index).collect();
        killed.iter().for_each(|&index| core.close(index, false));
        killed.len() + if core.id == 0 { kill_peers(core, &filter) } else { 0 }
    };
    let finish = move |core: &mut Core, index: usize, parts: Vec<usize>, reply: &mut Reply<'_>| {
        let killed = parts.into_iter().sum::<usize>() + usize::from(kills_caller);
        if old_form && killed == 0 {
            return Err(Error::Text("ERR No such client"));
        }
        if old_form {
            reply.ok()
        } else {
            reply.integer(killed as i64)
        }
        if kills_caller {
            core.close(index, true);
        }
        Ok(())
    };
    Ok(Action::Gather(Gather::all(job, finish)))
}

/// Has connections to other nodes ended; says how many.
fn kill_peers(core: &Core, filter: &Filter) -> usize {
    let replication = &core.node.replication;
    let fitting = |peer: &&Arc<PeerConnection>| filter.fits_peer(peer);
    let killed: Vec<u64> = replication.facts().connections.iter().filter(fitting).map(|peer| peer.id).collect();
    let count = killed.len();
    if count > 0 {
        replication.tell(ToPeers::Kill(killed));
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvshard::command::ArgsBuf;
    use kvshard::keyspace::ClientId;

    #[test]
    fn connections_fit_when_all_conditions_do() {
        let connection = Connection::new(ClientId(7), 12, 1, "127.0.0.1:5".into(), "127.0.0.1:6379".into(), false, 0);
        let fits = |words: &[&str]| {
            let words: Vec<&[u8]> = ["client", "kill"].iter().chain(words).map(|word| word.as_bytes()).collect();
            Filter::parse(ArgsBuf::from_slices(&words).args()).map(|filter| filter.fits(&connection))
        };
        assert_eq!(fits(&["127.0.0.1:5"]), Ok(true));
        assert_eq!(fits(&["127.0.0.1:6"]), Ok(false));
        assert_eq!(fits(&["ID", "7", "type", "normal", "user", "default"]), Ok(true));
        assert_eq!(fits(&["id", "7", "type", "pubsub"]), Ok(false));
        assert_eq!(fits(&["laddr", "127.0.0.1:6379", "skipme", "no"]), Ok(true));
        assert_eq!(fits(&["id", "0"]), Err(Error::Text("ERR client-id should be greater than 0")));
        assert_eq!(fits(&["id", "7", "type"]), Err(Error::Syntax));
        assert_eq!(fits(&["user", "x"]), Err(Error::Owned("ERR No such user 'x'".into())));
    }
}
