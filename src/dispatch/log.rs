//! The append-only file as the dispatcher sees it: effects on their way to this core's log, and replies that wait for the disk.
//!
//! With `appendfsync always` nothing is shown before it is durable. What leaves a core carries the log's position at that
//! moment, and waits until it is on disk: the output of connections, answers to other cores, and the end of an operation over
//! several shards, which every one of its shards confirms. The core itself never waits.
//!
//! Also decides when appending begins and ends, and when the file is rewritten.

use super::Engine;
use super::mesh::Answer;
use super::operation::{Block, Caller};
use super::snapshot::cut;
use crate::commands::registry::{Plan, Registered};
use crate::config::structures::os_reason;
use crate::config::values::AppendFsync;
use crate::coordinator::contract::Order;
use crate::coordinator::status::Saving;
use crate::core::connection::Stall;
use crate::core::log::{Completed, LogOperation, Mark, Segment};
use crate::observe::log;
use crate::persistence::spanning::{Operation, OperationId, SegmentSeq};
use crate::replication::encoded::Encoded;
use kvshard::keyspace::ClientId;
use kvshard::{Args, Effects, Flags, Shard};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A rewrite that failed is not tried again by itself before so many milliseconds have passed.
const RETRY_MS: i64 = 5000;

/// What waits for a position of the log to be durable.
pub enum Held {
    Connection { index: usize, generation: u32 },
    Answer { to: usize, answer: Answer },
}

/// What a block has done, by the shard whose segment it goes to.
pub struct BlockLog {
    parts: Vec<Effects>,
    /// All of it goes to the first segment, which is new and therefore loaded after all older ones: effects without keys
    /// (FLUSHALL) are about every shard's.
    together: bool,
}

impl BlockLog {
    pub fn new(shards: usize, together: bool) -> Self {
        let mut parts: Vec<Effects> = Vec::new();
        parts.resize_with(shards, Effects::default);
        BlockLog { parts, together }
    }

    /// All of it, as one block.
    pub fn whole(&self) -> Option<Encoded> {
        let mut all = Effects::default();
        self.parts.iter().flat_map(Effects::iter).for_each(|effect| all.push_effect(effect));
        Encoded::whole(&all)
    }

    /// What follows until [`BlockLog::end`] is one group in each part.
    pub fn begin(&mut self) {
        self.parts.iter_mut().for_each(Effects::begin);
    }

    pub fn end(&mut self) {
        self.parts.iter_mut().for_each(Effects::end);
    }

    /// Adds a command that a shard runs by itself.
    pub fn push(&mut self, shard: usize, db: usize, args: Args<'_>) {
        self.parts[shard].push(db, None, args.iter());
    }

    /// Takes the effects of the command that has just run on lent entries.
    pub fn take_from_scratch(&mut self, scratch: &mut Shard) {
        if self.together {
            self.parts[0].append(&mut scratch.effects);
        } else {
            scratch.split_effects(&mut self.parts);
        }
    }

    /// Takes the effects of the command that has just run on shards lent whole.
    pub fn take_from_shards(&mut self, shards: &mut [Box<Shard>]) {
        for (at, shard) in shards.iter_mut().enumerate().filter(|(_, shard)| !shard.effects.is_empty()) {
            if !self.together {
                self.parts[at].append(&mut shard.effects);
                continue;
            }
            // Every shard says the same of an effect without keys: once is enough.
            let said_before =
                |effect: &kvshard::effects::Effect<'_>| at > 0 && effect.spec.is_some_and(|spec| spec.keys.is_empty());
            shard.effects.iter().filter(|effect| !said_before(effect)).for_each(|effect| self.parts[0].push_effect(effect));
            shard.effects.clear();
        }
    }
}

/// An operation's effects, as they go to the segments of its shards.
pub struct LoggedOperation {
    id: OperationId,
    parts: Vec<(SegmentSeq, Effects)>,
}

/// What goes on when new segments have been made.
pub enum AwaitingSegments {
    /// A block with commands about every shard's keys; its connection waits.
    Block { caller: Caller, block: Box<Block>, check_watch: Option<ClientId> },
    /// The cut of a rewrite.
    Rewrite,
}

impl Engine {
    /// Whether a command's effects can only be logged in a segment that is loaded after all that there are: FLUSHALL in one of
    /// several segments would also empty, or spare, what the others have.
    pub(super) fn needs_new_segments(&self, command: &Registered) -> bool {
        let about_all = matches!(command.plan, Plan::AllShards(_)) && command.flags().has(Flags::WRITE);
        about_all && self.core.node.cores > 1 && self.is_logging()
    }

    /// Begins an operation on all shards whose effects are the first in new segments.
    pub(super) fn begin_in_new_segments(&mut self, index: usize, block: Block, check_watch: Option<ClientId>) {
        self.core.connections[index].stall = Stall::Operation;
        let caller = self.caller(index);
        self.awaiting_segments.push_back(AwaitingSegments::Block { caller, block: Box::new(block), check_watch });
        self.order_segments(false, "flush");
    }

    /// Begins a rewrite that was claimed: of the append-only file that there is, or as the beginning of one.
    pub(super) fn begin_rewrite(&mut self, why: &'static str) {
        let (appends, logging) = (self.core.config.appendonly, self.is_logging());
        if appends || logging {
            self.awaiting_segments.push_back(AwaitingSegments::Rewrite);
            self.order_segments(!logging, why);
        } else {
            // Nothing is appended: the base alone is the file.
            self.core.to_save.push(Saving::Rewrite { first_kept: i64::MAX });
        }
    }

    fn order_segments(&self, turning_on: bool, why: &'static str) {
        let order = Order::OpenSegments { core: self.core.id, turning_on, why };
        // If the coordinator is gone the node is ending.
        let _gone = self.core.node.to_coordinator.send(order);
    }

    /// The coordinator has made segments, or says why not.
    pub(super) fn segments_opened(&mut self, opened: Result<Vec<Segment>, String>) {
        let awaiting = self.awaiting_segments.pop_front().expect("segments are made for somebody");
        match (awaiting, opened) {
            (AwaitingSegments::Block { caller, mut block, check_watch }, Ok(segments)) => {
                block.segments = Some(segments);
                self.begin_for(caller, self.whole_shards(), *block, check_watch, false);
            }
            (AwaitingSegments::Block { caller, .. }, Err(error)) => {
                let mut reply = Vec::new();
                kvshard::Reply::new(&mut reply, false).error_text(&format!("MISCONF Errors writing to the AOF file: {error}"));
                self.answer_caller(caller, false, &reply);
                (0..self.core.node.cores).for_each(|shard| self.unwatch_on(shard, caller.client));
            }
            (AwaitingSegments::Rewrite, Ok(segments)) => {
                let saving = Saving::Rewrite { first_kept: segments[0].seq.0 };
                let mut block = Block::new(Vec::new(), false);
                block.segments = Some(segments);
                block.on_all_shards = Some(Box::new(move |core, shards| cut(core, shards, saving)));
                self.begin_for_nobody(self.whole_shards(), block);
            }
            (AwaitingSegments::Rewrite, Err(_)) => {
                self.core.node.replication.release_stream();
                let persistence = &self.core.node.persistence;
                persistence.rdb().has_ended();
                let mut aof = persistence.aof();
                aof.last_try_ms = self.core.now;
                aof.rewrite_failed();
            }
        }
    }

    /// Sees to it that changes are logged, or not, as the configuration wants it, and that the file is rewritten when it has grown.
    /// The first core looks, several times a second.
    pub(super) fn look_at_appending(&mut self) {
        let node = self.core.node.clone();
        let (persistence, logging) = (&node.persistence, self.is_logging());
        if persistence.is_loading() || node.shutdown.hold() != 0 {
            return;
        }
        self.turning_off &= logging;
        let appends = self.core.config.appendonly;
        let rewrites = persistence.rdb().running.map(|running| matches!(running.saving, Saving::Rewrite { .. }));
        let begins_anew = persistence.aof().begins_anew;
        if logging && (!appends || begins_anew) && !self.turning_off {
            if rewrites == Some(true) {
                persistence.give_up.store(true, Ordering::Relaxed);
            }
            self.turning_off = true;
            let mut block = Block::new(Vec::new(), false);
            block.segments = Some(Vec::new());
            return self.begin_for_nobody(self.whole_shards(), block);
        }
        if rewrites.is_some() || self.turning_off {
            return;
        }
        let mut aof = persistence.aof();
        aof.begins_anew &= logging;
        let may_try = aof.consecutive_failures == 0 || self.core.now - aof.last_try_ms > RETRY_MS;
        let percentage = u64::from(self.core.config.auto_aof_rewrite_percentage);
        let (base, least) = (aof.base_bytes.max(1), self.core.config.auto_aof_rewrite_min_size);
        let scheduled = std::mem::take(&mut aof.scheduled);
        drop(aof);
        let bytes = node.aof_bytes();
        let growth = (bytes * 100 / base).saturating_sub(100);
        let grown = logging && may_try && percentage > 0 && bytes > least && growth >= percentage;
        let begins = appends && !logging && may_try;
        if !(begins || scheduled || grown) || !persistence.begin_save(Saving::Rewrite { first_kept: 0 }, self.core.now / 1000) {
            return;
        }
        if grown {
            log::notice(&format!("Starting automatic rewriting of AOF on {growth}% growth"));
        }
        log::notice(&format!("Background append only file rewriting started by pid {}", std::process::id()));
        self.core.to_rewrite = true;
    }

    /// Whether changes are logged anywhere. Known to every core from the moment on when it holds all shards, or is lent the first
    /// entry after that.
    #[inline]
    pub(super) fn is_logging(&self) -> bool {
        self.core.node.persistence.logging.load(Ordering::Acquire) && !self.core.loading
    }

    /// Whether effects are kept: for the log, or for the replication stream.
    pub(super) fn keeps_effects(&self) -> bool {
        self.is_logging() || self.core.is_feeding()
    }

    /// Everything that was done so far is in the file.
    pub(super) fn log_is_written(&mut self) -> bool {
        self.core.seal();
        self.core.log.is_idle(false)
    }

    /// Gives what a block has done the form in which its shards log it; `None` if it has changed nothing. To be called while its
    /// locks are held: the ids of operations that meet on a key then go up in their order.
    pub(super) fn logged(&self, block: BlockLog) -> Option<LoggedOperation> {
        if !self.is_logging() || block.parts.iter().all(Effects::is_empty) {
            return None;
        }
        let persistence = &self.core.node.persistence;
        let segments = persistence.segments();
        let parts: Vec<_> = segments.iter().copied().zip(block.parts).filter(|(_, effects)| !effects.is_empty()).collect();
        let id = OperationId(persistence.next_operation.fetch_add(1, Ordering::Relaxed));
        Some(LoggedOperation { id, parts })
    }

    /// This shard's part of an operation goes to the log, behind what the shard did before.
    pub(super) fn log_operation(&mut self, logged: &LoggedOperation) {
        self.core.seal();
        let parts: Vec<(SegmentSeq, &Effects)> = logged.parts.iter().map(|(segment, effects)| (*segment, effects)).collect();
        self.core.log.append_operation(self.core.now / 1000, &Operation { id: logged.id, parts: &parts });
    }

    /// Has every core note a mark in its log, behind what this core has asked of it before.
    pub(super) fn mark_logs(&mut self, mark: Arc<Mark>) {
        self.on_all_cores(Arc::new(move |core| {
            core.mark_log(&mark);
            Box::new(())
        }));
    }

    /// What was done so far goes into the replication stream, before anybody can know of it.
    #[inline]
    pub fn send_feed(&mut self) {
        if self.core.is_feeding() {
            self.core.seal();
            self.core.send_feed();
        }
    }

    /// What an operation has done goes into the replication stream, before anything of it is given back.
    pub(super) fn feed_operation(&mut self, whole: impl FnOnce() -> Option<Encoded>) {
        if self.core.is_feeding() {
            self.core.seal();
            self.core.feed.add(whole());
            self.core.send_feed();
        }
    }

    /// The position that whatever leaves this core now has to wait for, if any.
    #[inline]
    pub fn hold(&mut self) -> Option<u64> {
        if self.core.config.appendfsync != AppendFsync::Always || !self.core.log.is_on() {
            return None;
        }
        self.core.seal();
        self.core.log.hold_position()
    }

    /// How many bytes of a connection's output may be sent, as [`Engine::hold`] has said; the rest waits.
    pub fn sendable(&mut self, index: usize, hold: Option<u64>) -> usize {
        let connection = &mut self.core.connections[index];
        let free = match connection.held {
            Some((position, _)) if position > self.core.log.durable() => return 0,
            Some((_, len)) => len,
            None => 0,
        };
        let len = connection.out.len();
        match hold {
            Some(position) if len > free => {
                connection.held = Some((position, len - free));
                let generation = connection.generation;
                self.held.push_back((position, Held::Connection { index, generation }));
                free
            }
            _ => {
                connection.held = None;
                len
            }
        }
    }

    /// Sends an answer that tells of this shard's state, once that is durable.
    pub(super) fn answer_when_durable(&mut self, to: usize, answer: Answer) {
        match self.hold() {
            Some(position) => self.held.push_back((position, Held::Answer { to, answer })),
            None => self.send_answer(to, answer),
        }
    }

    /// Lets go of what has waited for the log.
    fn let_go(&mut self) {
        let durable = self.core.log.durable();
        while self.held.front().is_some_and(|(position, _)| *position <= durable) {
            match self.held.pop_front() {
                Some((_, Held::Connection { index, generation }))
                    if self.core.connections.get(index).is_some_and(|connection| connection.generation == generation) =>
                {
                    self.core.want_flush(index);
                }
                Some((_, Held::Answer { to, answer })) => self.send_answer(to, answer),
                Some((_, Held::Connection { .. })) | None => {}
            }
        }
    }

    // ---- the disk ----

    /// What the ring is to do for the log.
    pub fn next_log_operation(&mut self, flush: bool) -> Option<LogOperation> {
        self.core.seal();
        let (policy, now) = (self.core.config.appendfsync, self.core.now);
        self.core.log.next_operation(now, policy, flush)
    }

    /// The ring has done it.
    pub fn log_completed(&mut self, result: Result<usize, i32>, bytes: Option<Vec<u8>>) {
        let completed = self.core.log.completed(self.core.now, result, bytes);
        let persistence = &self.core.node.persistence;
        match completed {
            Completed::Progress => {
                // The first that gets through speaks for the disk; another core's failure comes again within a second.
                if persistence.aof_errno.swap(0, Ordering::Relaxed) != 0 {
                    log::warning("AOF write error looks solved, Redis can write again.");
                }
                self.let_go();
                self.core.count_synced_marks();
            }
            Completed::Failed { errno, writing } => {
                let what = if writing { "Error writing to the AOF file" } else { "Fail to fsync the AOF file" };
                log::warning(&format!("{what}: {}", os_reason(&std::io::Error::from_raw_os_error(errno))));
                persistence.aof_errno.store(errno, Ordering::Relaxed);
            }
        }
    }
}
