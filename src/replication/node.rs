//! Both sides of a node: its link to a primary, and its replicas. What happens to the node's history on one side is told the other.
//!
//! A primary's stream is merged out of its shards; a replica's is what its own primary has sent, byte by byte, so that its replicas
//! have the same history.

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
}

/// What is to be done, in order.
#[derive(Debug)]
pub enum Output {
    /// For the replicas; never [`primary::Output::Feed`].
    Replicas(primary::Output),
    /// For the primary; [`link::Output::History`] only says what was done.
    Link(link::Output),
    /// Whether the shards' effects are to be merged and given to [`Node::append`] from now on. A stream that begins selects its database.
    Merge(bool),
}

impl Node {
    pub fn new(primary: Primary, link: Link) -> Node {
        Node { primary, link, is_merging: false }
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
    }

    /// What has happened on the side of the replicas.
    pub fn step_replicas(&mut self, now: i64, input: primary::Input<'_>, out: &mut Vec<Output>) {
        if let primary::Input::Sync { replica, request: Request::Psync { id, failover: true, .. }, .. } = &input
            && let Some(error) = self.take_over(now, &id.clone(), out)
        {
            return out.push(Output::Replicas(primary::Output::Refuse { to: *replica, reply: error.to_owned() }));
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
        self.step_link(now, link::Input::Tick, out);
        self.step_replicas(now, primary::Input::Tick, out);
    }

    fn pass_on(&mut self, now: i64, said: Vec<link::Output>, out: &mut Vec<Output>) {
        for output in said {
            if let link::Output::History(change) = output {
                self.change_history(now, change, out);
            }
            out.push(Output::Link(output));
        }
    }

    fn change_history(&mut self, now: i64, change: HistoryChange, out: &mut Vec<Output>) {
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

    fn with_primary(&mut self, out: &mut Vec<Output>, act: impl FnOnce(&mut Primary, &mut Vec<primary::Output>)) {
        let mut said = Vec::new();
        act(&mut self.primary, &mut said);
        self.forward(said, out);
    }

    fn forward(&mut self, said: Vec<primary::Output>, out: &mut Vec<Output>) {
        let is_feed = |output: &primary::Output| matches!(output, primary::Output::Feed(_));
        out.extend(said.into_iter().filter(|output| !is_feed(output)).map(Output::Replicas));
        let merges = !self.is_replica() && self.primary.is_fed();
        if merges != self.is_merging {
            self.is_merging = merges;
            out.push(Output::Merge(merges));
        }
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
