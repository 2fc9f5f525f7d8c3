//! Both sides of a node: its link to a primary, and its replicas. What happens to the node's history on one side is told the other.
//!
//! A primary's stream is merged out of its shards; a replica's is what its own primary has sent, byte by byte, so that its replicas
//! have the same history.

use super::failover::Failover;
use super::history::{Offset, Standing};
use super::link::{self, Address, HistoryChange, Link};
use super::primary::request::Request;
use super::primary::{self, Primary, Upstream};
use crate::observe::log::Level;
use crate::protocol::Args;

pub struct Node {
    primary: Primary,
    link: Link,
    /// The shards' effects are wanted.
    is_merging: bool,
    /// The node was a primary, and has not heard yet whether the history it had then is part of its new primary's: up to where some
    /// replica had acknowledged it.
    may_diverge_from: Option<Offset>,
    /// Bytes of its own history that the node has given up for a new primary's, though no replica had acknowledged them.
    pub discarded_bytes: u64,
    /// FAILOVER is under way.
    pub(super) failover: Option<Failover>,
}

/// What is to be done, in order.
#[derive(Debug)]
pub enum Output {
    /// For the replicas; never [`primary::Output::Feed`].
    Replicas(primary::Output),
    /// For the primary; [`link::Output::History`] only says what was done.
    Link(link::Output),
    /// CLIENT PAUSE WRITE without an end, for FAILOVER; or its end.
    PauseWrites(bool),
    /// Whether the shards' effects are to be merged and given to [`Node::append`] from now on. A stream that begins selects its database.
    Merge(bool),
}

impl Node {
    pub fn new(primary: Primary, link: Link) -> Node {
        Node { primary, link, is_merging: false, may_diverge_from: None, discarded_bytes: 0, failover: None }
    }

    /// For what is asked.
    pub fn primary(&self) -> &Primary {
        &self.primary
    }

    pub fn link(&self) -> &Link {
        &self.link
    }

    /// For directives and counts.
    pub fn primary_mut(&mut self) -> &mut Primary {
        &mut self.primary
    }

    pub fn link_mut(&mut self) -> &mut Link {
        &mut self.link
    }

    pub fn is_replica(&self) -> bool {
        self.link.primary().is_some()
    }

    /// REPLICAOF host port.
    pub fn replica_of(&mut self, now: i64, primary: Address, out: &mut Vec<Output>) {
        let history = self.primary.history();
        let own = Standing { id: history.id(), offset: history.offset(), db: 0 };
        if !self.is_replica() {
            self.may_diverge_from = Some(self.primary.acknowledged());
        }
        self.follow(now, primary, Some(own), out);
    }

    /// The same at the start, with what the RDB file says.
    pub fn start_as_replica(&mut self, now: i64, primary: Address, stored: Option<Standing>, out: &mut Vec<Output>) {
        if let Some(stored) = stored {
            self.primary.restore_as_replica(stored);
        }
        self.follow(now, primary, stored, out);
    }

    /// The start as a primary that has loaded an RDB file which says where it stands.
    pub fn restore_as_primary(&mut self, now: i64, stored: Standing, out: &mut Vec<Output>) {
        self.with_primary(out, |primary, out| primary.restore(now, stored, out));
    }

    fn follow(&mut self, now: i64, primary: Address, standing: Option<Standing>, out: &mut Vec<Output>) {
        self.primary.set_upstream(Upstream::Down);
        self.step_link(now, link::Input::ReplicaOf { primary, standing }, out);
        self.forward(Vec::new(), out);
    }

    /// Asks the replicas how far they are.
    pub fn request_acks(&mut self, now: i64, out: &mut Vec<Output>) {
        self.with_primary(out, |primary, out| primary.request_acks(now, out));
    }

    /// What has happened on the side of the replicas.
    pub fn step_replicas(&mut self, now: i64, input: primary::Input<'_>, out: &mut Vec<Output>) {
        if let primary::Input::Sync { replica, request: Request::Psync { id, failover: true, .. }, .. } = &input
            && let Some(error) = self.take_over(now, &id.clone(), out)
        {
            return out.push(Output::Replicas(primary::Output::Refuse { to: *replica, reply: error.to_owned() }));
        }
        if let primary::Input::Sync { replica, .. } = &input
            && self.is_failing_over()
        {
            let reply = "-NOMASTERLINK Can't SYNC while failing over\r\n".to_owned();
            return out.push(Output::Replicas(primary::Output::Refuse { to: *replica, reply }));
        }
        self.with_primary(out, |primary, out| primary.step(now, input, out));
    }

    /// PSYNC … FAILOVER: the primary itself wants to follow this node. `Some`: why not.
    fn take_over(&mut self, now: i64, id: &[u8], out: &mut Vec<Output>) -> Option<&'static str> {
        let line = format!("Failover request received for replid {}.", String::from_utf8_lossy(id));
        out.push(Output::Replicas(primary::Output::Log(Level::Warning, line)));
        if !self.is_replica() {
            return Some("-ERR PSYNC FAILOVER can't be sent to a master.\r\n");
        }
        if !self.primary.history().id().is(id) {
            return Some("-ERR PSYNC FAILOVER replid must match my replid.\r\n");
        }
        self.step_link(now, link::Input::NoOne, out);
        None
    }

    /// What has happened on the side of the primary.
    pub fn step_link(&mut self, now: i64, input: link::Input<'_>, out: &mut Vec<Output>) {
        // A link that is cut forgets what it has fetched.
        self.pass_stream_on(now, out);
        let mut said = Vec::new();
        self.link.step(now, input, &mut said);
        self.pass_on(now, said, out);
    }

    /// The stream of this node as a primary goes on with these bytes of its shards.
    pub fn append(&mut self, now: i64, bytes: &[u8], out: &mut Vec<Output>) {
        if !self.is_replica() {
            self.with_primary(out, |primary, out| primary.append(now, bytes, out));
        }
    }

    /// The next command of the primary's stream; see [`Link::fetch`]. To be called until there is none whenever something has happened on
    /// the link's side, and then [`Node::pass_stream_on`].
    pub fn next(&mut self, now: i64, args: &mut Args, out: &mut Vec<Output>) -> Option<(link::Fetched, &[u8])> {
        let mut said = Vec::new();
        let fetched = self.link.fetch(args, &mut said);
        if !said.is_empty() {
            self.pass_on(now, said, out);
        }
        let (fetched, range) = fetched?;
        Some((fetched, self.link.fetched_bytes(range)))
    }

    /// What was fetched is part of this node's stream now, for its own replicas.
    pub fn pass_stream_on(&mut self, now: i64, out: &mut Vec<Output>) {
        let (primary, link) = (&mut self.primary, &mut self.link);
        let mut said = Vec::new();
        link.take_stream(|bytes| primary.append(now, bytes, &mut said));
        self.forward(said, out);
        let mut said = Vec::new();
        self.link.give_up_if_corrupt(now, &mut said);
        self.pass_on(now, said, out);
    }

    pub fn tick(&mut self, now: i64, out: &mut Vec<Output>) {
        self.go_on_failing_over(now, out);
        self.step_link(now, link::Input::Tick, out);
        self.step_replicas(now, primary::Input::Tick, out);
    }

    fn pass_on(&mut self, now: i64, said: Vec<link::Output>, out: &mut Vec<Output>) {
        for output in said {
            if let link::Output::History(change) = output {
                self.change_history(now, change, out);
            }
            match output {
                link::Output::FailoverAnswered(accepted) => self.failover_answered(now, accepted, out),
                output => out.push(Output::Link(output)),
            }
        }
    }

    fn change_history(&mut self, now: i64, change: HistoryChange, out: &mut Vec<Output>) {
        let acknowledged = if change == HistoryChange::LinkDown { None } else { self.may_diverge_from.take() };
        if let (HistoryChange::Drop, Some(from)) = (change, acknowledged) {
            self.discard_since(from, out);
        }
        self.with_primary(out, |primary, out| match change {
            HistoryChange::Drop => primary.drop_history(now, out),
            HistoryChange::Adopt { id, offset } => primary.adopt(id, offset, out),
            HistoryChange::AdoptUnnamed => primary.adopt_unnamed(out),
            HistoryChange::ContinueAs(id) => primary.continue_as(now, id, out),
            HistoryChange::LinkUp => {
                primary.set_upstream(Upstream::Connected);
                primary.need_backlog(out);
            }
            HistoryChange::LinkDown => primary.set_upstream(Upstream::Down),
            HistoryChange::Promote => primary.promote(now, out),
        });
    }

    /// The data that the node had as a primary makes room for its new primary's.
    fn discard_since(&mut self, acknowledged: Offset, out: &mut Vec<Output>) {
        let bytes = self.offset().since(acknowledged);
        if bytes > 0 {
            self.discarded_bytes += bytes;
            let what =
                format!("Discarding {bytes} bytes of this node's own replication history, written since offset {acknowledged}");
            let line = format!("{what}: no replica had acknowledged them, and the new master's data set takes their place.");
            out.push(Output::Link(link::Output::Log(Level::Warning, line)));
        }
    }

    fn with_primary(&mut self, out: &mut Vec<Output>, act: impl FnOnce(&mut Primary, &mut Vec<primary::Output>)) {
        let mut said = Vec::new();
        act(&mut self.primary, &mut said);
        self.forward(said, out);
    }

    fn forward(&mut self, said: Vec<primary::Output>, out: &mut Vec<Output>) {
        let merges = !self.is_replica() && self.primary.is_fed();
        if merges != self.is_merging {
            // First, as a snapshot that is ordered now needs what follows its cut.
            self.is_merging = merges;
            out.push(Output::Merge(merges));
        }
        let is_feed = |output: &primary::Output| matches!(output, primary::Output::Feed(_));
        out.extend(said.into_iter().filter(|output| !is_feed(output)).map(Output::Replicas));
    }

    /// Where the node's data stands, for an RDB file; the database is that of the link, or of the merged stream.
    pub fn standing(&self, merged_db: Option<usize>) -> Option<Standing> {
        let history = self.primary.history();
        let own = || Standing { id: history.id(), offset: history.offset(), db: merged_db.unwrap_or_default() as u32 };
        match self.is_replica() {
            true => self.link.standing(),
            false => self.primary.is_fed().then(own),
        }
    }

    /// `master_repl_offset`.
    pub fn offset(&self) -> Offset {
        self.primary.history().offset()
    }
}

/// Nodes and what is done with them, for scripts.
#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::replication::history::ReplId;
    use crate::replication::primary::request::About;
    use crate::replication::primary::{Config, NewId, ReplicaId};

    /// Ids whose digits say which one they are.
    pub fn counted_ids() -> NewId {
        let mut count = 0;
        Box::new(move || {
            count += 1;
            ReplId::from_random([count; 20])
        })
    }

    /// The primary's.
    pub fn address() -> Address {
        Address { host: "10.0.0.1".to_owned(), port: 6379 }
    }

    pub fn about(port: u16) -> About {
        About { port, peer_ip: "10.0.0.9".to_owned(), eof: true, psync2: true, ..About::default() }
    }

    pub fn psync(id: &str, offset: i64) -> Request {
        Request::Psync { id: id.as_bytes().to_vec(), offset, failover: false }
    }

    pub fn node() -> Node {
        let config = Config { repl_diskless_sync_delay_s: 0, ..Config::default() };
        Node::new(Primary::new(config, counted_ids(), 0), Link::new(link::Config::default()))
    }

    pub fn attach(node: &mut Node, replica: u64, offset: i64, out: &mut Vec<Output>) {
        let request = psync(node.primary().history().id().as_str(), offset);
        node.step_replicas(0, primary::Input::Sync { replica: ReplicaId(replica), about: about(7001), request }, out);
    }

    pub fn receive(node: &mut Node, text: &str, out: &mut Vec<Output>) {
        node.step_link(0, link::Input::Received(text.as_bytes()), out);
        let mut args = Args::new();
        while node.next(0, &mut args, out).is_some() {}
        node.pass_stream_on(0, out);
    }

    pub fn sent(out: &[Output]) -> String {
        let bytes = out.iter().filter_map(|output| match output {
            Output::Replicas(primary::Output::Send { bytes, .. }) => Some(bytes.to_vec()),
            _ => None,
        });
        String::from_utf8(bytes.collect::<Vec<_>>().concat()).expect("text")
    }

    pub fn lines(out: &[Output]) -> Vec<&str> {
        let line = |output| match output {
            &Output::Link(link::Output::Log(_, ref line)) | &Output::Replicas(primary::Output::Log(_, ref line)) => Some(&**line),
            _ => None,
        };
        out.iter().filter_map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{address, attach, lines, node, receive, sent};
    use super::*;
    use crate::replication::history::ReplId;
    use crate::replication::primary::ReplicaId;
    use crate::replication::primary::request::About;

    /// A replica that stands at 100 of its primary's history.
    fn replica(out: &mut Vec<Output>) -> Node {
        let mut node = node();
        let stored = Standing { id: ReplId::from_random([9; 20]), offset: Offset(100), db: 0 };
        node.start_as_replica(0, address(), Some(stored), out);
        node.step_link(0, link::Input::Connected, out);
        receive(&mut node, "+PONG\r\n+OK\r\n+OK\r\n+CONTINUE\r\n", out);
        node
    }

    #[test]
    fn chained_replicas_get_the_same_bytes_and_hear_of_a_new_id() {
        let mut out = Vec::new();
        let mut node = replica(&mut out);
        attach(&mut node, 1, 101, &mut out);
        out.clear();
        let stream =
            "*1\r\n$4\r\nPING\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*1\r\n$5\r\nMULTI\r\n*1\r\n$1\r\nx\r\n*1\r\n$4\r\nEXEC\r\n";
        receive(&mut node, stream, &mut out);
        assert_eq!((sent(&out), node.offset()), (stream.to_owned(), Offset(100 + stream.len() as u64)));
        assert!(!node.primary().config.has_save_points && !out.iter().any(|output| matches!(output, Output::Merge(_))));
        out.clear();
        node.step_link(0, link::Input::Closed("reset".to_owned()), &mut out);
        node.step_link(0, link::Input::Connected, &mut out);
        assert_eq!(node.primary().replica_count(), 1, "perhaps it can go on");
        receive(&mut node, &format!("+PONG\r\n+OK\r\n+OK\r\n+CONTINUE {}\r\n", "5a".repeat(20)), &mut out);
        assert_eq!(
            (node.primary().replica_count(), node.primary().history().second_repl_offset()),
            (0, 101 + stream.len() as i64)
        );
        out.clear();
        attach(&mut node, 2, 101, &mut out);
        assert_eq!(sent(&out), format!("+CONTINUE {}\r\n{stream}", "5a".repeat(20)));
    }

    #[test]
    fn nobody_continues_from_data_that_was_replaced() {
        let mut out = Vec::new();
        let mut node = replica(&mut out);
        attach(&mut node, 1, 101, &mut out);
        node.step_link(0, link::Input::Closed("reset".to_owned()), &mut out);
        node.step_link(0, link::Input::Connected, &mut out);
        let full = format!("+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC {} 50\r\n$1\r\n", "5a".repeat(20));
        receive(&mut node, &full, &mut out);
        assert_eq!(node.primary().replica_count(), 1, "nothing is replaced yet");
        receive(&mut node, "R", &mut out);
        assert_eq!((node.primary().replica_count(), node.primary().is_fed(), node.standing(None)), (0, false, None));
        node.step_link(0, link::Input::LoadFinished { db: Some(3) }, &mut out);
        let standing = Standing { id: ReplId::from_random([0x5a; 20]), offset: Offset(50), db: 3 };
        assert_eq!((node.standing(None), node.offset(), node.primary().is_fed()), (Some(standing), Offset(50), true));
    }

    #[test]
    fn a_primary_that_returns_says_what_is_lost() {
        let (mut node, mut out) = (node(), Vec::new());
        attach(&mut node, 1, -1, &mut out);
        node.step_replicas(0, primary::Input::SnapshotBegun { at: Offset(0) }, &mut out);
        node.step_replicas(0, primary::Input::SnapshotDone { file_bytes: 0 }, &mut out);
        assert!(out.iter().any(|output| matches!(output, Output::Merge(true))));
        node.append(0, b"*1\r\n$1\r\nx\r\n", &mut out);
        let ack = b"REPLCONF ACK 11\r\n";
        node.step_replicas(0, primary::Input::Received { replica: ReplicaId(1), bytes: ack }, &mut out);
        node.append(0, b"*1\r\n$4\r\nlost\r\n", &mut out);
        out.clear();
        node.replica_of(0, address(), &mut out);
        assert!(out.iter().any(|output| matches!(output, Output::Merge(false))));
        node.step_link(0, link::Input::Connected, &mut out);
        let full = format!("+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC {} 50\r\n$1\r\nR", "5a".repeat(20));
        receive(&mut node, &full, &mut out);
        assert_eq!(node.discarded_bytes, 14);
        assert!(lines(&out).iter().any(|line| line.starts_with("Discarding 14 bytes of this node's own replication history")));
    }

    #[test]
    fn a_primary_can_hand_over() {
        let mut out = Vec::new();
        let mut node = replica(&mut out);
        let take_over = |node: &mut Node, id: &str, out: &mut Vec<Output>| {
            out.clear();
            let request = Request::Psync { id: id.as_bytes().to_vec(), offset: 101, failover: true };
            let about = About { psync2: true, ..About::default() };
            node.step_replicas(0, primary::Input::Sync { replica: ReplicaId(7), about, request }, out);
            out.iter().any(|output| matches!(output, Output::Replicas(primary::Output::Refuse { .. })))
        };
        assert!(take_over(&mut node, "0", &mut out), "another history");
        let id = node.primary().history().id().to_string();
        assert!(!take_over(&mut node, &id, &mut out) && !node.is_replica());
        assert_eq!(sent(&out), format!("+CONTINUE {}\r\n", node.primary().history().id()));
        assert!(take_over(&mut node, &id, &mut out), "it is a primary");
    }
}
