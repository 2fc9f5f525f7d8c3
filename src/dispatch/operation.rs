//! Work that spans shards: locking keys everywhere, running in one place, giving everything back.
//!
//! An operation asks every shard it needs, in parallel, to lend the entries of its keys (or the whole shard). When all have,
//! it runs on its own core as if there were one shard: the lent entries are put into the `scratch` shard and the ordinary
//! handlers run on that. Then every entry goes back to its owner with the news of what changed. Ownership of the entries moves
//! with the messages, so no core ever sees another's memory in use. See `locks` for why this neither deadlocks nor starves.
//! Commands that do the same to each key by itself need no such gathering: see [`apart`](super::apart).
//!
//! Strict serializability: every key is locked from before the first read to after the last write of the operation (two-phase
//! locking), and a reply is written only after the locks were held together; so the moment when all are held is the operation's
//! point in the one order.
//!
//! Jobs on several cores that need no keys (INFO, CLIENT LIST, PUBLISH …) are operations too: see [`gather`](super::gather).

use super::Engine;
use super::apart::Share;
use super::gather::Gathering;
use super::locks::Decision;
use super::log::BlockLog;
use super::mesh::{Answer, Grant, LockRequest, OperationId, Release, Request, Scope};
use super::snapshot::OnAllShards;
use super::{loading, route, whole};
use crate::commands::registry::{Registered, Run};
use crate::config::values::AppendFsync;
use crate::core::connection::{Special, Stall};
use crate::core::log::Segment;
use kvshard::command::ArgsBuf;
use kvshard::keyspace::ClientId;
use kvshard::keyspace::slot::SlotId;
use kvshard::keyspace::waiters::{Wait, Waiter};
use kvshard::shard;
use kvshard::{Args, Reply, Shard};
use slab::Slab;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A core's operations under way.
#[derive(Default)]
pub struct Operations {
    slots: Slab<(u32, Operation)>,
    next_generation: u32,
    /// Refused operations, to ask again.
    pub(super) retries: Vec<OperationId>,
    /// Empty shards for operations to work in.
    #[expect(clippy::vec_box, reason = "a shard is large, and moves as its box")]
    spare: Vec<Box<Shard>>,
    /// This core's answers to itself. They are taken up from the loop, so that one operation's end never runs the next one's
    /// beginning deeper and deeper in the stack.
    pub(super) own_answers: VecDeque<Answer>,
}

pub enum Operation {
    Spanning(Box<Spanning>),
    Gathering(Box<Gathering>),
    Committing(Box<Committing>),
}

/// A spanning operation that has ended, and whose shards have yet to say that it is durable.
pub struct Committing {
    caller: Caller,
    due: usize,
    out: Vec<u8>,
    retry: bool,
}

/// Work on keys of several shards.
pub struct Spanning {
    pub(super) caller: Caller,
    pub(super) ticket: u64,
    /// What is needed of which shard.
    pub(super) needs: Vec<(usize, Scope)>,
    grants: Vec<Grant>,
    answers_due: usize,
    refused: bool,
    check_watch: Option<ClientId>,
    pub(super) block: Block,
    /// A blocked client's command is being tried again.
    retry: bool,
    /// The block's commands are being run at this moment; a node command among them was answered meanwhile.
    pub(super) running: bool,
    pub(super) answered: bool,
}

/// The connection an operation works for.
#[derive(Clone, Copy)]
pub struct Caller {
    pub index: usize,
    pub generation: u32,
    pub client: ClientId,
}

/// Commands that run as one.
pub struct Block {
    pub commands: Vec<(&'static Registered, ArgsBuf)>,
    pub next: usize,
    /// MULTI/EXEC: replies are framed as one array, and nothing waits.
    pub is_exec: bool,
    pub out: Vec<u8>,
    pub wait: Option<Wait>,
    pub place: Workplace,
    /// The shards run the only command each by itself, and lend nothing: their shares, in the order of the shards needed.
    pub apart: Option<Vec<Share>>,
    /// Done first, once all shards are here.
    pub on_all_shards: Option<OnAllShards>,
    /// The shards stay claimed when they are given back; see [`OnAllShards`].
    pub freeze: Option<u64>,
    /// The logs go on in these segments, by shard, from this block on; an empty list: nothing is logged any more.
    pub segments: Option<Vec<Segment>>,
    log: Option<BlockLog>,
}

/// Where a block's commands find their keys.
pub enum Workplace {
    /// This core's own shard.
    Own,
    /// A shard of the operation's own, holding the lent entries and nothing else.
    Scratch(Box<Shard>),
    /// All shards, lent whole.
    #[expect(clippy::vec_box, reason = "a shard is large, and moves as its box")]
    Shards(Vec<Box<Shard>>),
}

impl Operations {
    pub(super) fn add(&mut self, core: usize, operation: Operation) -> OperationId {
        let generation = self.next_generation;
        self.next_generation = generation.wrapping_add(1);
        let index = self.slots.insert((generation, operation)) as u32;
        OperationId { core: core as u16, index, generation }
    }

    pub(super) fn get(&mut self, id: OperationId) -> Option<&mut Operation> {
        self.slots
            .get_mut(id.index as usize)
            .filter(|(generation, _)| *generation == id.generation)
            .map(|(_, operation)| operation)
    }

    pub(super) fn spanning(&mut self, id: OperationId) -> Option<&mut Spanning> {
        match self.get(id) {
            Some(Operation::Spanning(spanning)) => Some(spanning),
            _ => None,
        }
    }

    pub(super) fn remove(&mut self, id: OperationId) -> Option<Operation> {
        self.get(id)?;
        Some(self.slots.remove(id.index as usize).1)
    }
}

impl Engine {
    pub(super) fn caller(&self, index: usize) -> Caller {
        let connection = &self.core.connections[index];
        Caller { index, generation: connection.generation, client: connection.id }
    }

    pub(super) fn is_alive(&self, caller: Caller) -> bool {
        self.core.connections.get(caller.index).is_some_and(|connection| connection.generation == caller.generation)
    }

    /// Begins one command whose keys are on several shards, or that needs all of them.
    pub(super) fn begin_spanning(&mut self, index: usize, command: &'static Registered, args: Args<'_>, all: bool) {
        if !all && self.begin_apart(index, command, args) {
            return;
        }
        let db = self.core.connections[index].db;
        if all && self.needs_new_segments(command) {
            let block = Block::new(vec![(command, args.to_buf())], false);
            return self.begin_in_new_segments(index, block, None);
        }
        let needs = if all { self.whole_shards() } else { self.needs_of([(command, args)].into_iter(), db, &[]) };
        let block = Block::new(vec![(command, args.to_buf())], false);
        self.begin(index, needs, block, None, false);
    }

    /// Tries a blocked client's command again; it stays blocked meanwhile.
    pub(super) fn retry_blocked(&mut self, index: usize, command: &'static Registered, args: ArgsBuf) {
        let db = self.core.connections[index].blocked.as_ref().map_or(0, |blocked| blocked.db);
        let needs = self.needs_of([(command, args.args())].into_iter(), db, &[]);
        let block = Block::new(vec![(command, args)], false);
        self.begin(index, needs, block, None, true);
    }

    pub(super) fn whole_shards(&self) -> Vec<(usize, Scope)> {
        (0..self.core.node.cores).map(|shard| (shard, Scope::Shard)).collect()
    }

    /// The keys that commands (and a transaction's watches) need, by shard.
    pub(super) fn needs_of<'a>(
        &self,
        commands: impl Iterator<Item = (&'static Registered, Args<'a>)>,
        db: usize,
        watched: &[(usize, Box<[u8]>)],
    ) -> Vec<(usize, Scope)> {
        let mut one_db = watched.iter().all(|&(watched_db, _)| watched_db == db);
        let mut by_shard: Vec<Vec<Box<[u8]>>> = vec![Vec::new(); self.core.node.cores];
        let hasher = &self.core.scratch.hasher;
        let mut add = |key: &[u8]| by_shard[hasher.shard_of(SlotId::of_key(key))].push(key.into());
        for (command, args) in commands {
            one_db &= !command.spec.spans_databases;
            route::keys(command, args).into_iter().for_each(&mut add);
        }
        watched.iter().for_each(|(_, key)| add(key));
        let db = one_db.then_some(db);
        for keys in &mut by_shard {
            keys.sort_unstable();
            keys.dedup();
        }
        let needs = by_shard.into_iter().enumerate().filter(|(_, keys)| !keys.is_empty());
        needs.map(|(shard, keys)| (shard, Scope::Keys { keys: keys.into(), db })).collect()
    }

    /// Starts an operation for a connection, which waits for it.
    pub(super) fn begin(
        &mut self,
        index: usize,
        needs: Vec<(usize, Scope)>,
        block: Block,
        check_watch: Option<ClientId>,
        retry: bool,
    ) {
        let caller = self.caller(index);
        if !retry {
            self.core.connections[index].stall = Stall::Operation;
        }
        self.begin_for(caller, needs, block, check_watch, retry);
    }

    /// Starts an operation that no client waits for.
    pub(super) fn begin_for_nobody(&mut self, needs: Vec<(usize, Scope)>, block: Block) {
        let nobody = Caller { index: usize::MAX, generation: u32::MAX, client: ClientId(u64::MAX) };
        self.begin_for(nobody, needs, block, None, false);
    }

    pub(super) fn begin_for(
        &mut self,
        caller: Caller,
        needs: Vec<(usize, Scope)>,
        block: Block,
        check_watch: Option<ClientId>,
        retry: bool,
    ) {
        let ticket = self.core.node.take_ticket();
        let spanning = Spanning {
            caller,
            ticket,
            needs,
            grants: Vec::new(),
            answers_due: 0,
            refused: false,
            check_watch,
            block,
            retry,
            running: false,
            answered: false,
        };
        let id = self.operations.add(self.core.id, Operation::Spanning(Box::new(spanning)));
        self.ask(id);
    }

    /// Asks every shard for what the operation needs of it.
    fn ask(&mut self, id: OperationId) {
        let Some(spanning) = self.operations.spanning(id) else { return };
        spanning.answers_due = spanning.needs.len();
        spanning.refused = false;
        let (ticket, check_watch, lends) = (spanning.ticket, spanning.check_watch, spanning.block.apart.is_none());
        let needs = spanning.needs.clone();
        // Remote shards first: their answers travel while this core's own shard is asked.
        let own = self.core.id;
        for (shard, scope) in needs.iter().filter(|(shard, _)| *shard != own) {
            let request = LockRequest { from: id, ticket, scope: scope.clone(), lends, check_watch };
            self.hops_outstanding += 1;
            self.mesh.request(*shard, Request::Lock(Box::new(request)));
        }
        for (_, scope) in needs.into_iter().filter(|(shard, _)| *shard == own) {
            self.hops_outstanding += 1;
            self.lock(LockRequest { from: id, ticket, scope, lends, check_watch });
        }
    }

    /// An operation of some core asks for keys of this core's shard.
    pub(super) fn lock(&mut self, request: LockRequest) {
        let operation = request.from;
        let to = usize::from(operation.core);
        match self.locks.request(request, self.core.id, &mut self.core.shard, self.core.now) {
            Decision::Granted(grant) => self.grant(grant),
            Decision::Waits => {}
            Decision::Refused => return self.send_answer(to, Answer::Refused { operation }),
        }
        self.reconsider_waiting();
    }

    /// Hands over what an operation has asked this core for.
    pub(super) fn grant(&mut self, grant: Grant) {
        let mut grant = grant;
        if let Some(shard) = &mut grant.shard {
            self.core.shard_lent(shard);
            self.core.take_effects(shard);
        }
        self.send_feed();
        self.send_answer(usize::from(grant.operation.core), Answer::Granted(Box::new(grant)));
    }

    pub(super) fn granted(&mut self, grant: Grant) {
        self.hops_outstanding = self.hops_outstanding.saturating_sub(1);
        let id = grant.operation;
        let spanning = self.operations.spanning(id).expect("an operation lives until it has released its locks");
        spanning.grants.push(grant);
        spanning.answers_due -= 1;
        if spanning.answers_due == 0 {
            self.all_answered(id);
        }
    }

    pub(super) fn refused(&mut self, id: OperationId) {
        self.hops_outstanding = self.hops_outstanding.saturating_sub(1);
        let spanning = self.operations.spanning(id).expect("an operation lives until all have answered");
        spanning.refused = true;
        spanning.answers_due -= 1;
        if spanning.answers_due == 0 {
            self.all_answered(id);
        }
    }

    fn all_answered(&mut self, id: OperationId) {
        let spanning = self.operations.spanning(id).expect("called for a live operation");
        if spanning.refused {
            let (ticket, grants) = (spanning.ticket, std::mem::take(&mut spanning.grants));
            let scopes: Vec<_> = grants.iter().map(|grant| scope_of(&spanning.needs, grant.shard_id)).collect();
            for (grant, scope) in grants.into_iter().zip(scopes) {
                let release = Release { entries: grant.entries, shard: grant.shard, ..Release::new(ticket, scope) };
                self.send_release(grant.shard_id, release);
            }
            self.operations.retries.push(id);
            return;
        }
        if spanning.block.apart.is_some() {
            return self.end_apart(id);
        }
        self.run_spanning(id);
    }

    /// Asks again for operations that were refused; once a turn, so that others get on meanwhile.
    pub(super) fn retry_refused(&mut self) -> bool {
        if self.locks.is_frozen() {
            return false;
        }
        let retries = std::mem::take(&mut self.operations.retries);
        let any = !retries.is_empty();
        retries.into_iter().for_each(|id| self.ask(id));
        any
    }

    /// All keys are here: brings them together and runs the block.
    fn run_spanning(&mut self, id: OperationId) {
        let spanning = self.operations.spanning(id).expect("called for a live operation");
        let broken = spanning.grants.iter().any(|grant| grant.watch_broken);
        let whole = spanning.grants.iter().any(|grant| grant.shard.is_some());
        if whole {
            spanning.grants.sort_by_key(|grant| grant.shard_id);
            let shards = spanning.grants.iter_mut().map(|grant| grant.shard.take().expect("all or none are lent whole"));
            spanning.block.place = Workplace::Shards(shards.collect());
        } else {
            let mut scratch = self.operations.spare.pop().unwrap_or_else(|| self.core.new_scratch());
            scratch.settings.clone_from(&self.core.scratch.settings);
            // This core may not have noticed yet what has changed while all shards were in one place.
            scratch.settings.replica = self.core.node.replication.role(&self.core.config);
            scratch.begin_recording();
            scratch.effects.enabled = self.keeps_effects();
            let spanning = self.operations.spanning(id).expect("called for a live operation");
            for (db, entry) in spanning.grants.iter_mut().flat_map(|grant| grant.entries.drain(..)) {
                scratch.install(db, entry);
            }
            spanning.block.place = Workplace::Scratch(scratch);
        }
        let cores = self.core.node.cores;
        let (is_logging, keeps_effects, is_feeding) = (self.is_logging(), self.keeps_effects(), self.core.is_feeding());
        let spanning = self.operations.spanning(id).expect("called for a live operation");
        let (caller, retry) = (spanning.caller, spanning.retry);
        let connection = self.core.connections.get(caller.index).filter(|connection| connection.generation == caller.generation);
        let resp3 = connection.is_some_and(|connection| connection.resp3);
        let answered = retry && connection.is_none_or(|connection| connection.blocked.is_none());
        let block = &mut self.operations.spanning(id).expect("called for a live operation").block;
        // Segments are new only for what is about all shards, and for cuts, which change nothing. Without segments there is one stream.
        block.log = keeps_effects.then(|| BlockLog::new(cores, block.segments.is_some() || !is_logging));
        if let Workplace::Shards(shards) = &mut block.place {
            if let Some(segments) = &block.segments {
                self.core.node.persistence.set_segments(segments.iter().map(|segment| segment.seq).collect());
                self.core.node.persistence.logging.store(!segments.is_empty(), Ordering::Release);
                shards.iter_mut().for_each(|shard| shard.effects.enabled = is_feeding || !segments.is_empty());
                block.log.take_if(|_| segments.is_empty() && !is_feeding);
            }
            if let Some(act) = block.on_all_shards.take() {
                block.freeze = act(&mut self.core, shards);
            }
        }
        if broken {
            block.break_off(resp3);
        }
        if answered {
            // The blocked client was timed out or released meanwhile: its command must not run any more.
            block.commands.clear();
        }
        self.continue_block(id);
    }

    /// Runs the commands of an operation's block until it ends or has to wait for other cores.
    pub(super) fn continue_block(&mut self, id: OperationId) {
        loop {
            let Some(spanning) = self.operations.spanning(id) else { return };
            let caller = spanning.caller;
            (spanning.running, spanning.answered) = (true, false);
            let mut block = std::mem::replace(&mut spanning.block, Block::new(Vec::new(), false));
            let ended = self.run_block(caller, &mut block, Some(id));
            let spanning = self.operations.spanning(id).expect("it is not removed while it runs");
            spanning.running = false;
            // A command that asked this core alone has been answered meanwhile, into the block that stood in.
            let stand_in = std::mem::replace(&mut spanning.block, block);
            spanning.block.out.extend_from_slice(&stand_in.out);
            if ended {
                return self.end_spanning(id);
            }
            if !spanning.answered {
                return;
            }
        }
    }

    /// Runs a block's commands in its workplace. False: a command asks other cores, and the block goes on when they have answered.
    pub(super) fn run_block(&mut self, caller: Caller, block: &mut Block, parent: Option<OperationId>) -> bool {
        if block.is_exec && block.next == 0 && block.out.is_empty() && !block.commands.is_empty() {
            let len = block.commands.len();
            Reply::new(&mut block.out, false).array(len);
            block.log.iter_mut().for_each(BlockLog::begin);
        }
        while block.next < block.commands.len() {
            let (command, args) = &block.commands[block.next];
            let (command, args) = (*command, args.clone());
            block.next += 1;
            match command.run {
                Run::Shard(_) => self.run_in_block(caller, block, command, args.args()),
                Run::Node(_) => {
                    if !self.run_node_in_block(caller, block, command, args.args(), parent) {
                        return false;
                    }
                }
            }
        }
        if block.is_exec && !block.commands.is_empty() {
            block.log.iter_mut().for_each(BlockLog::end);
        }
        true
    }

    fn run_in_block(&mut self, caller: Caller, block: &mut Block, command: &'static Registered, args: Args<'_>) {
        let Run::Shard(shard_command) = command.run else { unreachable!("called for shard commands") };
        let connection = self.core.connections.get(caller.index).filter(|connection| connection.generation == caller.generation);
        let (db, resp3, no_touch) = connection.map_or((0, false, false), |c| (c.db, c.resp3, c.no_touch));
        let loads = connection.is_some_and(|connection| connection.special.has(Special::LOADER));
        let start = block.out.len();
        self.last_stamp = self.clock.nanos();
        let request = shard::Request {
            command: shard_command,
            args,
            db,
            now: self.core.now,
            client: caller.client,
            resp3,
            may_block: !block.is_exec && !loads,
            no_touch,
            first_key: None,
        };
        let outcome = match &mut block.place {
            Workplace::Own => {
                self.core.shard.as_mut().expect("a local block runs with the shard in place").execute(request, &mut block.out)
            }
            Workplace::Scratch(scratch) => {
                let outcome = scratch.execute(request, &mut block.out);
                if let Some(log) = &mut block.log {
                    log.take_from_scratch(scratch);
                }
                outcome
            }
            Workplace::Shards(shards) => {
                whole::run_on_all(shards, &mut self.core.scratch, command, request, &mut block.log, &mut block.out)
            }
        };
        if outcome.failed {
            self.core.counters.error_reply(&block.out[start..]);
            if loads {
                loading::tell_error(caller.client, command, &block.out[start..]);
            }
        }
        block.wait = outcome.wait;
        let stamp = self.clock.nanos();
        let nanos = stamp - self.last_stamp;
        if !self.core.loading {
            self.core.counters.called(command.index, nanos, outcome.failed);
            if self.core.slowlog.wants(nanos) || self.core.latency.wants(nanos) {
                let alive = self.is_alive(caller);
                self.log_slow(command, args, nanos, alive.then_some(caller.index));
            }
        }
        if outcome.dirty > 0 || outcome.flushed_all {
            self.changed(&outcome);
        }
    }

    /// Gives everything back, and answers.
    fn end_spanning(&mut self, id: OperationId) {
        let Some(Operation::Spanning(spanning)) = self.operations.remove(id) else { return };
        let Spanning { caller, ticket, needs, mut grants, check_watch, mut block, retry, .. } = *spanning;
        let alive = self.is_alive(caller);
        let waiter = block.wait.filter(|_| alive).map(|wait| self.spanning_waiter(caller.index, &block, wait, retry));
        let waits = waiter.is_some();
        // Marked before anything is given back: a shard may serve the client as soon as it knows it.
        if let (Some(wait), Some((_, Some(claimed)))) = (block.wait, &waiter) {
            let (command, _) = block.commands.pop().expect("the block of a blocking command is that command");
            let shards = (0..self.core.node.cores).collect();
            self.mark_blocked(caller.index, command, wait, claimed.clone(), None, shards);
        }
        if alive
            && waits
            && retry
            && let Some(blocked) = &mut self.core.connections[caller.index].blocked
        {
            blocked.tries_again = false;
        }
        let log = block.log.take();
        log.iter().for_each(|log| self.feed_operation(|| log.whole()));
        let logged = log.and_then(|log| self.logged(log)).map(Arc::new);
        let answers = alive && !waits && (!retry || !block.out.is_empty());
        let confirm = if answers { self.commit(caller, retry, &mut block.out, needs.len()) } else { None };
        match std::mem::replace(&mut block.place, Workplace::Own) {
            Workplace::Shards(shards) => {
                let mut switches = block.segments.map(|segments| {
                    let mut segments = segments.into_iter();
                    std::iter::repeat_with(move || segments.next().map(Box::new))
                });
                for (grant, shard) in grants.iter_mut().zip(shards) {
                    grant.shard = Some(shard);
                }
                self.publish_scratch_events();
                for grant in grants {
                    let switch = switches.as_mut().and_then(Iterator::next);
                    let release = Release {
                        shard: grant.shard,
                        unwatch: check_watch,
                        freeze: block.freeze,
                        switch,
                        logged: logged.clone(),
                        confirm,
                        ..Release::new(ticket, Scope::Shard)
                    };
                    self.send_release(grant.shard_id, release);
                }
            }
            Workplace::Scratch(mut scratch) => {
                let mut changed = scratch.end_recording();
                // A client that tries again keeps the places it has.
                let waiter = waiter.as_ref().filter(|(_, claimed)| claimed.is_some()).map(|(waiter, _)| waiter);
                // All parts are made before the first is given back: that may start the next operation.
                let releases: Vec<_> = needs
                    .into_iter()
                    .map(|(shard_id, scope)| {
                        let release = self.release_of(&mut scratch, ticket, scope, &mut changed, check_watch, waiter);
                        (shard_id, Release { logged: logged.clone(), confirm, ..release })
                    })
                    .collect();
                debug_assert!(scratch.dbs.iter().all(|db| db.is_empty()), "an operation keeps to its keys");
                self.publish_all(scratch.take_events());
                self.core.scratch.take_over(&mut scratch);
                self.operations.spare.push(scratch);
                // The own part last: it may serve the client at once, and that news must not overtake the others' parts.
                let (own, others): (Vec<_>, Vec<_>) = releases.into_iter().partition(|(shard_id, _)| *shard_id == self.core.id);
                for (shard_id, release) in others.into_iter().chain(own) {
                    self.send_release(shard_id, release);
                }
            }
            Workplace::Own => unreachable!("an operation has a workplace once it runs"),
        }
        if answers && confirm.is_none() {
            self.answer_caller(caller, retry, &block.out);
        }
    }

    /// An operation that has ended is to be answered with `out` when so many shards have confirmed that it is durable. `None`: nobody
    /// has to wait for that.
    pub(super) fn commit(&mut self, caller: Caller, retry: bool, out: &mut Vec<u8>, due: usize) -> Option<OperationId> {
        if !self.is_logging() || self.core.config.appendfsync != AppendFsync::Always {
            return None;
        }
        self.hops_outstanding += due;
        let committing = Committing { caller, due, out: std::mem::take(out), retry };
        Some(self.operations.add(self.core.id, Operation::Committing(Box::new(committing))))
    }

    /// One of its shards says that an operation's part is durable; when all have, its client is answered.
    pub(super) fn confirmed(&mut self, id: OperationId) {
        self.hops_outstanding = self.hops_outstanding.saturating_sub(1);
        let Some(Operation::Committing(committing)) = self.operations.get(id) else { return };
        committing.due -= 1;
        if committing.due > 0 {
            return;
        }
        if let Some(Operation::Committing(committing)) = self.operations.remove(id) {
            self.answer_caller(committing.caller, committing.retry, &committing.out);
        }
    }

    pub(super) fn answer_caller(&mut self, caller: Caller, retry: bool, out: &[u8]) {
        if !self.is_alive(caller) {
            return;
        }
        if retry {
            return self.unblock(caller.index, Some(out));
        }
        self.core.connections[caller.index].stall = Stall::None;
        self.core.to_resume.push(caller.index);
        self.append_reply(caller.index, out);
    }

    /// The waiter for a command that has to wait for keys of several shards; with its flag if the client is not blocked yet.
    fn spanning_waiter(&self, index: usize, block: &Block, wait: Wait, retry: bool) -> (Arc<Waiter>, Option<Arc<AtomicBool>>) {
        let (command, args) = block.commands.last().expect("the block of a blocking command is that command");
        let blocked = self.core.connections[index].blocked.as_ref().filter(|_| retry);
        let claimed = blocked.map_or_else(|| Arc::new(AtomicBool::new(false)), |blocked| blocked.claimed.clone());
        // Serving a command that only takes elements needs one shard at a time; one that also puts them elsewhere needs both.
        let hasher = &self.core.scratch.hasher;
        let awaited = route::awaited_keys(command, args.args()).len();
        let remote = awaited < route::keys(command, args.args()).len() && hasher.shards() > 1;
        let waiter = self.new_waiter(index, command, args.clone(), wait, claimed.clone(), remote);
        (Arc::new(waiter), (!retry).then_some(claimed))
    }

    fn release_of(
        &self,
        scratch: &mut Shard,
        ticket: u64,
        scope: Scope,
        changed: &mut Vec<(usize, Box<[u8]>)>,
        unwatch: Option<ClientId>,
        waiter: Option<&Arc<Waiter>>,
    ) -> Release {
        let Scope::Keys { keys, db } = &scope else { unreachable!("whole shards are released elsewhere") };
        let dbs = db.map_or(0..scratch.dbs.len(), |db| db..db + 1);
        let mut entries = Vec::with_capacity(keys.len());
        for key in keys.iter() {
            let placed = scratch.hasher.key(key);
            for db in dbs.clone() {
                entries.extend(scratch.dbs[db].take(&placed).map(|entry| (db, entry)));
            }
        }
        let changed = changed.extract_if(.., |(_, key)| keys.binary_search(key).is_ok()).collect();
        let wait = waiter.map(|waiter| {
            let command = self.core.node.registry.by_full_name(waiter.command.spec.name.as_bytes());
            let awaited = command.map_or_else(Vec::new, |command| route::awaited_keys(command, waiter.args.args()));
            let here = keys.iter().filter(|key| awaited.contains(&&***key)).cloned().collect();
            (waiter.clone(), here)
        });
        Release { entries, changed, unwatch, wait, ..Release::new(ticket, scope) }
    }

    pub(super) fn send_release(&mut self, shard_id: usize, release: Release) {
        if shard_id == self.core.id {
            self.release(release);
        } else {
            self.mesh.request(shard_id, Request::Release(Box::new(release)));
        }
    }

    /// Takes back what an operation had of this core's shard.
    pub(super) fn release(&mut self, mut release: Release) {
        if let Some(segment) = release.switch.take() {
            self.core.log.switch(segment.map(|segment| *segment), self.core.config.aof_timestamp_enabled);
        }
        if let Some(logged) = release.logged.take() {
            self.log_operation(&logged);
        }
        if let Some(operation) = release.confirm {
            self.answer_when_durable(usize::from(operation.core), Answer::Durable { operation });
        }
        if let Some(shard) = release.shard.take() {
            self.core.shard_returned(shard);
            if self.core.shard.as_ref().is_some_and(|shard| shard.has_events()) {
                self.publish_events();
            }
        }
        if self.core.shard.is_none() {
            // An operation that held no key here has not kept others from claiming the shard.
            debug_assert!(matches!(&release.scope, Scope::Keys { keys, .. } if keys.is_empty()));
            if let Some(client) = release.unwatch {
                self.with_shard_or_later(move |shard| shard.watch.unwatch(client));
            }
            return;
        }
        if let Some(share) = release.share.take() {
            let nanos = self.run_share(&share);
            self.core.counters.took(share.command.index, nanos);
        }
        let shard = self.core.shard.as_mut().expect("a shard with locked keys is in place");
        for (db, entry) in release.entries.drain(..) {
            shard.install(db, entry);
        }
        for (db, key) in &release.changed {
            shard.changed_elsewhere(*db, key);
        }
        if let Some(client) = release.unwatch {
            shard.watch.unwatch(client);
        }
        if let Some((waiter, keys)) = release.wait.take().filter(|(waiter, _)| !waiter.is_claimed()) {
            shard.waiters.add(waiter, keys.iter().map(|key| &**key));
        }
        self.locks.release(&release);
        if self.core.shard.as_ref().is_some_and(|shard| shard.waiters.has_ready()) {
            self.serve_blocked();
        }
        self.run_unlocked();
    }
}

impl Block {
    pub fn new(commands: Vec<(&'static Registered, ArgsBuf)>, is_exec: bool) -> Self {
        Block {
            commands,
            next: 0,
            is_exec,
            out: Vec::new(),
            wait: None,
            place: Workplace::Own,
            apart: None,
            on_all_shards: None,
            freeze: None,
            segments: None,
            log: None,
        }
    }

    /// A watched key has changed: EXEC answers null and runs nothing.
    pub fn break_off(&mut self, resp3: bool) {
        self.commands.clear();
        self.out.clear();
        Reply::new(&mut self.out, resp3).null_array();
    }
}

fn scope_of(needs: &[(usize, Scope)], shard_id: usize) -> Scope {
    needs.iter().find(|(shard, _)| *shard == shard_id).map(|(_, scope)| scope.clone()).expect("granted as needed")
}
