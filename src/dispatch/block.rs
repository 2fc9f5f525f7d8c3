//! Clients in blocking commands: from the wait to the answer, the timeout, or the client's end.
//!
//! Whoever answers a blocked client first sets its `claimed` flag: the shard that serves it, its own core on timeout or CLIENT
//! UNBLOCK, or its disconnection. The others then do nothing. Who waits for other nodes (WAIT) is served by the executor for their
//! connections, as a shard would serve him.

use super::Engine;
use super::mesh::{Answer, Request};
use super::route;
use crate::commands::registry::{Registered, Run};
use crate::coordinator::contract::Asker;
use crate::core::connection::{Blocked, Stall};
use crate::core::reorder::Place;
use crate::observe::slowlog::SlowEntry;
use crate::peers::contract::ToPeers;
use kvshard::Args;
use kvshard::command::ArgsBuf;
use kvshard::keyspace::ClientId;
use kvshard::keyspace::serve::Served;
use kvshard::keyspace::waiters::{TimeoutReply, Wait, Waiter};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

impl Engine {
    /// A command of this core's connection waits for keys of this core's shard.
    pub(super) fn block(&mut self, index: usize, command: &'static Registered, args: Args<'_>, wait: Wait) {
        let claimed = Arc::new(AtomicBool::new(false));
        let waiter = self.new_waiter(index, command, args.to_buf(), wait, claimed.clone(), false);
        let keys = route::awaited_keys(command, args);
        let shard = self.core.shard.as_mut().expect("the command has just run on it");
        shard.waiters.add(Arc::new(waiter), keys.into_iter());
        let own = self.core.id;
        self.mark_blocked(index, command, wait, claimed, None, vec![own]);
    }

    pub(super) fn new_waiter(
        &self,
        index: usize,
        command: &'static Registered,
        args: ArgsBuf,
        wait: Wait,
        claimed: Arc<AtomicBool>,
        remote: bool,
    ) -> Waiter {
        let connection = &self.core.connections[index];
        let Run::Shard(shard_command) = command.run else { unreachable!("only shard commands wait") };
        Waiter {
            client: connection.id,
            core: self.core.id as u16,
            command: shard_command,
            args,
            db: connection.db,
            resp3: connection.resp3,
            awaited: wait.awaited,
            claimed,
            remote: AtomicBool::new(remote),
        }
    }

    /// Another core says that the command it was sent waits there.
    pub(super) fn blocked_elsewhere(
        &mut self,
        index: usize,
        place: Place,
        wait: Wait,
        claimed: Arc<AtomicBool>,
        shards: Vec<usize>,
    ) {
        let command = self.core.connections[index].last_command.expect("a command was sent");
        let early = self.ready_early.iter().position(|waiter| Arc::ptr_eq(&waiter.claimed, &claimed));
        self.mark_blocked(index, command, wait, claimed, Some(place), shards);
        if let Some(early) = early {
            let waiter = self.ready_early.swap_remove(early);
            self.ready(&waiter);
        }
    }

    pub(super) fn mark_blocked(
        &mut self,
        index: usize,
        command: &'static Registered,
        wait: Wait,
        claimed: Arc<AtomicBool>,
        place: Option<Place>,
        shards: Vec<usize>,
    ) {
        let (db, on_timeout) = (self.core.connections[index].db, Some(wait.on_timeout));
        let blocked = Blocked { deadline_ms: 0, on_timeout, claimed, place, shards, command, db, tries_again: false };
        self.set_blocked(index, wait.timeout_ms, blocked);
    }

    /// The client waits for other nodes: the executor for their connections knows of it.
    pub(super) fn block_elsewhere(&mut self, index: usize, timeout_ms: i64, claimed: Arc<AtomicBool>) {
        let connection = &self.core.connections[index];
        let (command, db) = (connection.last_command.expect("it runs"), connection.db);
        let shards = Vec::new();
        let blocked = Blocked { deadline_ms: 0, on_timeout: None, claimed, place: None, shards, command, db, tries_again: false };
        self.set_blocked(index, timeout_ms, blocked);
    }

    fn set_blocked(&mut self, index: usize, timeout_ms: i64, mut blocked: Blocked) {
        let connection = &mut self.core.connections[index];
        if timeout_ms != 0 {
            blocked.deadline_ms = self.core.now.saturating_add(timeout_ms);
            self.deadlines.insert((blocked.deadline_ms, index, connection.generation));
        }
        connection.stall = Stall::Blocked;
        connection.blocked = Some(Box::new(blocked));
        if connection.closing || connection.input_ended {
            self.core.close(index, false);
        }
    }

    /// The answer has come to a client that waits for the coordinator, or for other nodes.
    pub(super) fn answered_elsewhere(&mut self, to: Asker, reply: &[u8]) {
        let Some(connection) = self.core.connections.get_mut(to.index).filter(|c| c.generation == to.generation) else { return };
        if let Some(blocked) = connection.blocked.take() {
            self.deadlines.remove(&(blocked.deadline_ms, to.index, to.generation));
        }
        connection.stall = Stall::None;
        self.core.to_resume.push(to.index);
        self.append_reply(to.index, reply);
    }

    /// Serves the clients whose keys were filled on this core's shard.
    pub(super) fn serve_blocked(&mut self) {
        let mut served = Vec::new();
        let Some(shard) = &mut self.core.shard else { return };
        let began = self.clock.nanos();
        let changes = shard.serve_ready(self.core.now, !self.locks.is_quiet(), &mut served);
        self.core.count_dirty(changes);
        self.publish_events();
        let nanos = (self.clock.nanos() - began) / served.len().max(1) as u64;
        for one in served {
            match one {
                Served::Done { waiter, reply } => {
                    let slow = self.count_served(&waiter, nanos);
                    let (to, answer) = (usize::from(waiter.core), Answer::Served { client: waiter.client, reply, slow });
                    if to == self.core.id { self.send_answer(to, answer) } else { self.answer_when_durable(to, answer) }
                }
                Served::Remote { waiter } => self.send_answer(usize::from(waiter.core), Answer::Ready { waiter }),
            }
        }
    }

    /// The call was counted when it began to wait; serving it has taken `nanos` more.
    fn count_served(&mut self, waiter: &Waiter, nanos: u64) -> Option<Box<SlowEntry>> {
        let command = self.core.node.registry.by_full_name(waiter.command.spec.name.as_bytes())?;
        self.core.counters.took(command.index, nanos);
        if self.core.slowlog.wants(nanos) { self.slow(command, waiter.args.args(), nanos).map(Box::new) } else { None }
    }

    /// A blocked client's answer has come; whoever sends it has claimed the client.
    pub(super) fn served(&mut self, client: ClientId, reply: &[u8], slow: Option<Box<SlowEntry>>) {
        let Some(index) = self.core.connection_of(client) else { return };
        if let Some(entry) = slow {
            self.keep_slow(*entry, Some(index));
        }
        let connection = &mut self.core.connections[index];
        match connection.stall {
            // Served within the very batch in which it began to wait: the news of the wait is still on its way, and then void.
            Stall::AwaitingBlock(place) if connection.blocked.is_none() => {
                connection.reorder.fill(place, reply, &mut connection.out);
                connection.stall = Stall::None;
                self.core.to_resume.push(index);
                self.core.want_flush(index);
            }
            _ => self.unblock(index, Some(reply)),
        }
    }

    /// Ends the wait; everyone who knows of it is told. `reply` is `None` when the client is going anyway.
    pub(super) fn unblock(&mut self, index: usize, reply: Option<&[u8]>) {
        let Some(connection) = self.core.connections.get_mut(index) else { return };
        let Some(blocked) = connection.blocked.take() else { return };
        let client = connection.id;
        if blocked.deadline_ms != 0 {
            self.deadlines.remove(&(blocked.deadline_ms, index, connection.generation));
        }
        connection.stall = Stall::None;
        self.core.to_resume.push(index);
        if let Some(reply) = reply {
            match blocked.place {
                Some(place) => {
                    connection.reorder.fill(place, reply, &mut connection.out);
                    self.core.want_flush(index);
                }
                None => self.append_reply(index, reply),
            }
        }
        if blocked.on_timeout.is_none() {
            self.core.node.replication.tell(ToPeers::EndWait { claimed: blocked.claimed, answers: false });
        }
        for shard in blocked.shards {
            if shard == self.core.id {
                self.with_shard_or_later(move |shard| shard.waiters.remove(client));
            } else {
                self.mesh.request(shard, Request::Unwait(client));
            }
        }
    }

    /// Answers the clients whose time is up.
    pub(super) fn time_out_blocked(&mut self) {
        while let Some(&(deadline, index, generation)) = self.deadlines.first() {
            if deadline > self.core.now {
                return;
            }
            self.deadlines.pop_first();
            let current = self.core.connections.get(index).is_some_and(|connection| connection.generation == generation);
            if current {
                self.end_wait(index);
            }
        }
    }

    /// Ends a wait from this side if the client's answer is not already on its way.
    fn end_wait(&mut self, index: usize) {
        if self
            .core
            .connections
            .get(index)
            .and_then(|connection| connection.blocked.as_ref())
            .is_some_and(|blocked| blocked.claim())
        {
            self.end_claimed_wait(index, None);
        }
    }

    /// Answers a blocked client that was claimed here: with the timeout's reply, or an error; or has it answered by whoever knows.
    pub(super) fn end_claimed_wait(&mut self, index: usize, error: Option<&str>) {
        let Some(connection) = self.core.connections.get(index) else { return };
        let Some(blocked) = &connection.blocked else { return };
        let mut reply = Vec::new();
        let mut writer = kvshard::Reply::new(&mut reply, connection.resp3);
        match (error, blocked.on_timeout) {
            (Some(error), _) => writer.error_text(error),
            (None, Some(TimeoutReply::Null)) => writer.null(),
            (None, Some(TimeoutReply::NullArray)) => writer.null_array(),
            (None, None) => {
                let claimed = blocked.claimed.clone();
                return self.core.node.replication.tell(ToPeers::EndWait { claimed, answers: true });
            }
        }
        self.unblock(index, Some(&reply));
    }

    /// The earliest deadline of a blocked client, ms since 1970.
    pub(super) fn next_deadline(&self) -> Option<i64> {
        self.deadlines.first().map(|&(deadline, ..)| deadline)
    }

    /// A key that this core's client waits for is ready elsewhere, and serving it takes several shards: the command runs again as an
    /// operation. If it has to wait once more it keeps its places in the queues.
    pub(super) fn ready(&mut self, waiter: &Arc<Waiter>) {
        let Some(index) = self.core.connection_of(waiter.client) else { return };
        let connection = &mut self.core.connections[index];
        if matches!(connection.stall, Stall::AwaitingBlock(_)) {
            // The news of the wait is still on its way: it was filled within the very batch, or the disk is waited for.
            self.ready_early.retain(|early| self.core.connection_of(early.client).is_some());
            return self.ready_early.push(waiter.clone());
        }
        let Some(blocked) = &mut connection.blocked else { return };
        // It may wait for something else by now. One that tries already will see what has been filled.
        if Arc::ptr_eq(&blocked.claimed, &waiter.claimed) && !blocked.tries_again {
            blocked.tries_again = true;
            let command = blocked.command;
            self.retry_blocked(index, command, waiter.args.clone());
        }
    }
}
