//! EXEC, and node commands wherever they run.

use super::Engine;
use super::gather::Measured;
use super::mesh::{OperationId, Request, Scope};
use super::operation::{Block, Caller, Workplace};
use super::route::{self, Target};
use crate::commands::registry::{Plan, Registered, Run};
use crate::commands::{Action, Call};
use crate::core::connection::{Connection, Special, Stall, Transaction};
use kvshard::keyspace::ClientId;
use kvshard::{Args, Effects, Error, Reply};

impl Engine {
    /// Runs a node command for a connection. False: it is to be looked at again later.
    pub(super) fn run_node_command(&mut self, index: usize, command: &'static Registered, args: Args<'_>) -> bool {
        let Run::Node(node_command) = command.run else { unreachable!("a command with the node's route runs on the node") };
        let mut bytes = std::mem::take(&mut self.reply);
        bytes.clear();
        let resp3 = self.core.connections[index].resp3;
        let mut reply = Reply::new(&mut bytes, resp3);
        let mut call = Call { core: &mut self.core, connection: index, args, command, in_exec: false };
        let result = (node_command.run)(&mut call, &mut reply);
        let failed = result.is_err();
        let action = result.unwrap_or_else(|error| {
            reply.out.clear();
            reply.error(&error);
            Action::Done
        });
        self.after_job();
        let began = std::mem::replace(&mut self.last_stamp, self.clock.nanos());
        let nanos = self.last_stamp - began;
        if matches!(action, Action::NotYet) {
            self.core.connections[index].stall = Stall::BackPressure;
            self.congested.push(index);
            self.reply = bytes;
            return false;
        }
        if !matches!(action, Action::Gather(_)) {
            self.count_node_command(Some(index), command, args, nanos, failed);
        }
        if self.core.connections.contains(index) {
            self.append_reply(index, &bytes);
            self.act(index, action, Measured { command, args, nanos });
        }
        self.reply = bytes;
        true
    }

    /// A node command has ended; `index` is its connection, if that is still there.
    pub(super) fn count_node_command(
        &mut self,
        index: Option<usize>,
        command: &'static Registered,
        args: Args<'_>,
        nanos: u64,
        failed: bool,
    ) {
        let loads = |index| self.core.connections.get(index).is_some_and(|c: &Connection| c.special.has(Special::LOADER));
        if index.is_some_and(loads) {
            if failed {
                // A database that cannot be selected: what follows would go to another one.
                self.refuse_load(format!("'{}' can't be run", command.spec.name));
            }
            return;
        }
        self.core.counters.called(command.index, nanos, failed);
        if self.core.slowlog.wants(nanos) || self.core.latency.wants(nanos) {
            self.log_slow(command, args, nanos, index);
        }
    }

    fn act(&mut self, index: usize, action: Action, measured: Measured<'_>) {
        match action {
            Action::Done | Action::NotYet => {}
            Action::Gather(gather) => self.gather(index, gather, measured, None),
            Action::Await => {
                self.core.connections[index].stall = Stall::Operation;
                // Whoever is to act on it may sleep.
                self.mesh.ring_all();
            }
            Action::Block { timeout_ms, claimed, mark } => {
                self.block_elsewhere(index, timeout_ms, claimed);
                mark.into_iter().for_each(|mark| self.mark_logs(mark));
            }
            Action::Exec => self.exec(index),
            Action::Unwatch => self.unwatch(index),
            Action::Close => self.core.close(index, true),
            Action::Drop => self.core.close(index, false),
            Action::Leave(request) => {
                let connection = &mut self.core.connections[index];
                (connection.closing, connection.leaving) = (true, Some(request));
                self.core.to_hush.push(index);
                self.core.to_close.push(index);
            }
        }
    }

    /// Runs a node command of a block; its reply goes to the block's. False: it asks other cores first.
    pub(super) fn run_node_in_block(
        &mut self,
        caller: Caller,
        block: &mut Block,
        command: &'static Registered,
        args: Args<'_>,
        parent: Option<OperationId>,
    ) -> bool {
        let Run::Node(node_command) = command.run else { unreachable!("called for node commands") };
        let alive = self.core.connections.get(caller.index).filter(|connection| connection.generation == caller.generation);
        let Some(connection) = alive else { return true };
        let mut bytes = Vec::new();
        let mut reply = Reply::new(&mut bytes, connection.resp3);
        let mut call = Call { core: &mut self.core, connection: caller.index, args, command, in_exec: true };
        let began = self.clock.nanos();
        let result = (node_command.run)(&mut call, &mut reply);
        let failed = result.is_err();
        let action = result.unwrap_or_else(|error| {
            reply.out.clear();
            reply.error(&error);
            Action::Done
        });
        self.after_job();
        let nanos = self.clock.nanos() - began;
        if !matches!((&action, parent), (Action::Gather(_), Some(_))) {
            self.count_node_command(Some(caller.index), command, args, nanos, failed);
        }
        if bytes.first() == Some(&b'-') {
            self.core.counters.error_reply(&bytes);
        }
        block.out.extend_from_slice(&bytes);
        match (action, parent) {
            (Action::Gather(gather), Some(parent)) => {
                self.gather(caller.index, gather, Measured { command, args, nanos }, Some(parent));
                false
            }
            (Action::Close, _) => {
                self.core.close(caller.index, true);
                true
            }
            (Action::Drop, _) => {
                self.core.close(caller.index, false);
                true
            }
            _ => true,
        }
    }

    /// Forgets what the connection watches, on every shard.
    pub(super) fn unwatch(&mut self, index: usize) {
        let connection = &mut self.core.connections[index];
        let client = connection.id;
        let Some(transaction) = &mut connection.transaction else { return };
        let watched = std::mem::take(&mut transaction.watched);
        if !transaction.open {
            connection.transaction = None;
        }
        self.forget_watched(client, &watched);
    }

    pub(super) fn forget_watched(&mut self, client: ClientId, watched: &[(usize, Box<[u8]>)]) {
        let mut shards: Vec<usize> = watched
            .iter()
            .map(|(_, key)| self.core.scratch.hasher.shard_of(kvshard::keyspace::slot::SlotId::of_key(key)))
            .collect();
        shards.sort_unstable();
        shards.dedup();
        shards.into_iter().for_each(|shard| self.unwatch_on(shard, client));
    }

    pub(super) fn unwatch_on(&mut self, shard: usize, client: ClientId) {
        if shard == self.core.id {
            self.with_shard_or_later(move |shard| shard.watch.unwatch(client));
        } else {
            self.mesh.request(shard, Request::Unwatch(client));
        }
    }

    /// EXEC itself is refused: what was queued is discarded.
    pub(super) fn abort_exec(&mut self, index: usize, error: &Error) {
        let connection = &mut self.core.connections[index];
        let transaction = connection.transaction.take().map_or_else(Transaction::default, |transaction| *transaction);
        connection.special.set(Special::TRANSACTION, false);
        let client = connection.id;
        self.forget_watched(client, &transaction.watched);
        let why = error.text();
        let why = why.strip_prefix("ERR ").unwrap_or(&why);
        let error = Error::Owned(format!("EXECABORT Transaction discarded because of: {why}"));
        self.reply_with(index, |reply| reply.error(&error));
    }

    /// Runs the queued commands as one.
    fn exec(&mut self, index: usize) {
        let connection = &mut self.core.connections[index];
        let transaction = connection.transaction.take().map_or_else(Transaction::default, |transaction| *transaction);
        connection.special.set(Special::TRANSACTION, false);
        let (db, client) = (connection.db, connection.id);
        let Transaction { queue, watched, failed, .. } = transaction;
        if failed {
            self.forget_watched(client, &watched);
            let error = Error::Text("EXECABORT Transaction discarded because of previous errors.");
            return self.reply_with(index, |reply| reply.error(&error));
        }
        if self.special.monitored {
            for (command, args) in &queue {
                self.feed_monitors(index, command, args.args());
            }
        }
        let commands = || queue.iter().map(|(command, args)| (*command, args.args()));
        let asks = commands().any(|(command, _)| command.plan == Plan::Node);
        let alone = self.core.node.cores == 1 && !asks;
        let needs_all = !alone && commands().any(|(command, args)| self.needs_all_shards(command, args));
        let mut needs = if needs_all { self.whole_shards() } else { self.needs_of(commands(), db, &watched) };
        // Nothing to lock, but perhaps node commands that ask other cores: such a block is an operation on this shard's no keys.
        let local = needs.iter().all(|(shard, _)| *shard == self.core.id);
        let check_watch = (!watched.is_empty()).then_some(client);
        if local && !asks && self.run_exec_here(index, &queue, &needs, check_watch) {
            return;
        }
        if needs.is_empty() {
            needs.push((self.core.id, Scope::Keys { keys: [].into(), db: Some(db) }));
        }
        let mut block = Block::new(queue, true);
        if block.commands.is_empty() {
            Reply::new(&mut block.out, false).array(0);
        }
        if block.commands.iter().any(|(command, _)| self.needs_new_segments(command)) {
            return self.begin_in_new_segments(index, block, check_watch);
        }
        self.begin(index, needs, block, check_watch, false);
    }

    fn needs_all_shards(&self, command: &'static Registered, args: Args<'_>) -> bool {
        let mut uses = Vec::new();
        match command.plan {
            Plan::AllShards(_) | Plan::Cursor => true,
            Plan::Node => false,
            Plan::OneKey(_) | Plan::Keys => {
                route::target(command, args, &self.core.scratch.hasher, self.core.id, &mut uses) == Target::AllShards
            }
        }
    }

    /// The usual case of one shard: no ticket, no lock. False if keys are lent out at the moment.
    fn run_exec_here(
        &mut self,
        index: usize,
        queue: &[(&'static Registered, kvshard::command::ArgsBuf)],
        needs: &[(usize, Scope)],
        check_watch: Option<ClientId>,
    ) -> bool {
        let keys = needs.iter().flat_map(|(_, scope)| match scope {
            Scope::Keys { keys, .. } => &**keys,
            Scope::Shard => &[],
        });
        if !self.locks.is_quiet() && (self.locks.blocks(keys.map(|key| &**key)) || self.locks.blocks_whole()) {
            return false;
        }
        let Some(shard) = &mut self.core.shard else { return false };
        let broken = check_watch.is_some_and(|client| shard.watch_is_broken(client, self.core.now));
        if let Some(client) = check_watch {
            shard.watch.unwatch(client);
        }
        let mut block = Block::new(queue.to_vec(), true);
        block.place = Workplace::Own;
        if broken {
            block.break_off(self.core.connections[index].resp3);
        } else if queue.is_empty() {
            Reply::new(&mut block.out, false).array(0);
        }
        let connection = &self.core.connections[index];
        let caller = Caller { index, generation: connection.generation, client: connection.id };
        self.group_effects(Effects::begin);
        let ended = self.run_block(caller, &mut block, None);
        debug_assert!(ended, "a block without node commands runs through");
        self.group_effects(Effects::end);
        self.append_reply(index, &block.out);
        if self.core.shard.as_ref().is_some_and(|shard| shard.has_events()) {
            self.publish_events();
        }
        if self.core.shard.as_ref().is_some_and(|shard| shard.waiters.has_ready()) {
            self.serve_blocked();
        }
        true
    }

    /// The effects of a block on this core's own shard are one group.
    fn group_effects(&mut self, mark: fn(&mut Effects)) {
        if let Some(shard) = &mut self.core.shard {
            mark(&mut shard.effects);
        }
    }
}
