//! Commands that cross cores: running what others sent, and taking the answers.

use super::Engine;
use super::locks::Parked;
use super::mesh::{Answer, Batch, Item, News, Origin, Replies, ReplyItem, Request};
use super::{gate, loading, route};
use crate::commands::registry::{Plan, Run};
use crate::core::connection::Stall;
use kvshard::keyspace::ClientId;
use kvshard::keyspace::waiters::{Wait, Waiter};
use kvshard::shard;
use kvshard::{Args, Flags};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Requests of one other core that are handled in a row, so that every core gets its turn.
const REQUESTS_A_TURN: usize = 64;

impl Engine {
    /// Handles what other cores have sent: answers first, then requests. True if there was anything.
    pub fn read_mail(&mut self) -> bool {
        let mut any = self.take_own_answers();
        while let Some((from, answer)) = self.mesh.next_answer() {
            any = true;
            self.answer(from, answer);
        }
        for from in 0..self.mesh.cores() {
            for _ in 0..REQUESTS_A_TURN {
                let Some(request) = self.mesh.next_request(from) else { break };
                any = true;
                self.request(from, request);
            }
        }
        any
    }

    /// Takes up what this core has answered itself; true if there was anything.
    pub fn take_own_answers(&mut self) -> bool {
        let mut any = false;
        while let Some(answer) = self.operations.own_answers.pop_front() {
            any = true;
            self.answer(self.core.id, answer);
        }
        any
    }

    fn request(&mut self, from: usize, request: Request) {
        match request {
            Request::Batch(batch) => self.run_batch(from, batch),
            Request::Lock(request) => self.lock(*request),
            Request::Release(release) => self.release(*release),
            Request::Job { operation, position, needs_shard, job } => {
                if needs_shard && self.core.shard.is_none() {
                    self.locks.park(Parked::Job { operation, position, job });
                } else {
                    self.run_job(operation, position, &job);
                }
            }
            Request::Tell(job) => {
                let _nobody_asks = job(&mut self.core);
                self.after_job();
            }
            Request::Unwait(client) => self.with_shard_or_later(move |shard| shard.waiters.remove(client)),
            Request::Unwatch(client) => self.with_shard_or_later(move |shard| shard.watch.unwatch(client)),
            Request::MakeRoom => {
                let _fits_or_not = self.make_room();
            }
            Request::Adopt(adopted) => self.adopt(*adopted),
        }
    }

    /// Acts on this core's shard now or, while it is lent, when it is back.
    pub(super) fn with_shard_or_later(&mut self, act: impl Fn(&mut kvshard::Shard) + Send + Sync + 'static) {
        if let Some(shard) = &mut self.core.shard {
            return act(shard);
        }
        let nobody = super::mesh::OperationId { core: self.core.id as u16, index: u32::MAX, generation: u32::MAX };
        let job: super::mesh::Job = Arc::new(move |core| {
            if let Some(shard) = &mut core.shard {
                act(shard);
            }
            Box::new(())
        });
        self.locks.park(Parked::Job { operation: nobody, position: 0, job });
    }

    fn run_batch(&mut self, from: usize, mut batch: Box<Batch>) {
        let mut replies = batch.spent.take().unwrap_or_default();
        replies.items.reserve(batch.items.len());
        self.fetch_batch_ahead(&batch);
        self.last_stamp = self.clock.nanos();
        for item in &batch.items {
            let args = batch.args(item);
            if !self.locks.is_quiet() && self.park_item(item, args) {
                continue;
            }
            self.run_item(item, args, &mut replies);
        }
        replies.spent = Some(batch);
        self.answer_when_durable(from, Answer::Replies(replies));
    }

    fn fetch_batch_ahead(&self, batch: &Batch) {
        let Some(shard) = self.core.shard.as_deref() else { return };
        if batch.items.len() < 2 {
            return;
        }
        let keyed = || batch.items.iter().filter_map(|item| Some((item.db as usize, item.first_key(batch.args(item))?)));
        keyed().for_each(|(db, key)| shard.dbs[db].prefetch(&key));
        keyed().for_each(|(db, key)| shard.dbs[db].prefetch_entry(&key));
    }

    #[cold]
    fn park_item(&mut self, item: &Item, args: Args<'_>) -> bool {
        let keys = route::keys(item.command, args);
        let whole = item.command.plan == Plan::Cursor;
        let blocked = if whole { self.locks.blocks_whole() } else { self.locks.blocks(keys.iter().copied()) };
        if blocked {
            let keys = keys.into_iter().map(Box::from).collect();
            self.locks.park(Parked::Command { item: *item, args: args.to_buf(), keys, whole });
        }
        blocked
    }

    /// Runs one command on this core's shard for a connection of any core.
    fn run_item(&mut self, item: &Item, args: Args<'_>, replies: &mut Replies) {
        let Run::Shard(command) = item.command.run else { unreachable!("only shard commands travel") };
        let start = replies.bytes.len();
        if self.special.memory_limited && item.command.flags().has(Flags::DENYOOM) && !self.make_room() {
            kvshard::Reply::new(&mut replies.bytes, item.resp3).error_text(gate::OUT_OF_MEMORY);
            self.core.counters.commands[item.command.index].rejected += 1;
            self.core.counters.error_reply(&replies.bytes[start..]);
            replies.items.push(ReplyItem { origin: item.origin, end: replies.bytes.len() as u32, news: None });
            return;
        }
        let request = shard::Request {
            command,
            args,
            db: item.db as usize,
            now: self.core.now,
            client: item.client,
            resp3: item.resp3,
            may_block: item.may_block,
            no_touch: item.no_touch,
            first_key: item.first_key(args),
        };
        let shard = self.core.shard.as_mut().expect("parked otherwise: the shard is in place");
        let outcome = shard.execute(request, &mut replies.bytes);
        if item.command.plan == Plan::Cursor {
            route::rewrite_cursor(&mut replies.bytes, start, self.core.id, self.core.node.cores);
        }
        if outcome.failed {
            self.core.counters.error_reply(&replies.bytes[start..]);
            if self.core.loading || item.client == ClientId::PRIMARY {
                loading::tell_error(item.client, item.command, &replies.bytes[start..]);
            }
        }
        let waits = outcome.wait.map(|wait| (wait, self.add_waiter(item, args, wait)));
        let slow = self.settle(item.command, args, &outcome);
        let news = (waits.is_some() || slow.is_some()).then(|| Box::new(News { waits, slow }));
        replies.items.push(ReplyItem { origin: item.origin, end: replies.bytes.len() as u32, news });
    }

    /// The client of another core (or of this one, by way of a parked command) waits for keys of this shard alone.
    fn add_waiter(&mut self, item: &Item, args: Args<'_>, wait: Wait) -> Arc<AtomicBool> {
        let claimed = Arc::new(AtomicBool::new(false));
        let Run::Shard(command) = item.command.run else { unreachable!("only shard commands wait") };
        let waiter = Waiter {
            client: item.client,
            core: item.origin.core,
            command,
            args: args.to_buf(),
            db: item.db as usize,
            resp3: item.resp3,
            awaited: wait.awaited,
            claimed: claimed.clone(),
            remote: AtomicBool::new(false),
        };
        let keys = route::awaited_keys(item.command, args);
        let shard = self.core.shard.as_mut().expect("the command has just run on it");
        shard.waiters.add(Arc::new(waiter), keys.into_iter());
        claimed
    }

    /// Runs parked commands and jobs whose keys are back, then grants what waiting operations can get.
    pub(super) fn run_unlocked(&mut self) {
        for parked in self.locks.take_runnable() {
            match parked {
                Parked::Command { item, args, .. } => {
                    let mut replies = Box::new(Replies::default());
                    self.last_stamp = self.clock.nanos();
                    self.run_item(&item, args.args(), &mut replies);
                    if usize::from(item.origin.core) == self.core.id {
                        self.take_replies(&mut replies);
                    } else {
                        self.answer_when_durable(usize::from(item.origin.core), Answer::Replies(replies));
                    }
                }
                Parked::Job { operation, position, job } => self.run_job(operation, position, &job),
            }
        }
        self.reconsider_waiting();
    }

    /// Answers the waiting operations that can be granted, or must be refused, after a change of the locks.
    pub(super) fn reconsider_waiting(&mut self) {
        let (grants, refused) = self.locks.reconsider(self.core.id, &mut self.core.shard, self.core.now);
        for operation in refused {
            self.send_answer(usize::from(operation.core), Answer::Refused { operation });
        }
        grants.into_iter().for_each(|grant| self.grant(grant));
    }

    /// An answer to any core, this one included.
    pub(super) fn send_answer(&mut self, to: usize, answer: Answer) {
        match answer {
            Answer::Granted(_) | Answer::Refused { .. } | Answer::Durable { .. } if to == self.core.id => {
                self.operations.own_answers.push_back(answer)
            }
            answer if to == self.core.id => self.answer(to, answer),
            answer => self.mesh.answer(to, answer),
        }
    }

    fn answer(&mut self, from: usize, answer: Answer) {
        match answer {
            Answer::Replies(mut replies) => {
                if let Some(batch) = replies.spent.take() {
                    self.mesh.reuse(from, batch);
                }
                self.take_replies(&mut replies);
                self.mesh.give_back(from, replies);
            }
            Answer::Granted(grant) => self.granted(*grant),
            Answer::Refused { operation } => self.refused(operation),
            Answer::Durable { operation } => self.confirmed(operation),
            Answer::JobDone { operation, position, part, nanos } => self.job_done(operation, position, part, nanos),
            Answer::Served { client, reply, slow } => self.served(client, &reply, slow),
            Answer::Ready { waiter } => self.ready(&waiter),
        }
    }

    fn take_replies(&mut self, replies: &mut Replies) {
        let mut start = 0;
        for item in replies.items.drain(..) {
            let reply = &replies.bytes[start..item.end as usize];
            start = item.end as usize;
            self.hops_outstanding = self.hops_outstanding.saturating_sub(1);
            let Origin { index, generation, place, .. } = item.origin;
            let index = index as usize;
            let alive = self.core.connections.get(index).is_some_and(|c| c.generation == generation);
            let (waits, slow) = item.news.map_or((None, None), |news| (news.waits, news.slow));
            if let Some(entry) = slow {
                self.keep_slow(*entry, alive.then_some(index));
            }
            let Some(connection) = self.core.connections.get_mut(index).filter(|_| alive) else { continue };
            if let Some((wait, claimed)) = waits {
                if connection.stall != Stall::AwaitingBlock(place) {
                    continue;
                }
                // The reply does not say which shard it waits on: all are told when the wait ends.
                let shards = (0..self.core.node.cores).collect();
                self.blocked_elsewhere(index, place, wait, claimed, shards);
                continue;
            }
            connection.reorder.fill(place, reply, &mut connection.out);
            if connection.stall == Stall::AwaitingBlock(place) {
                connection.stall = Stall::None;
                self.core.to_resume.push(index);
            }
            self.core.want_flush(index);
        }
    }
}
