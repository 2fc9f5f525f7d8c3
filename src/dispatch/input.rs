//! From received bytes to executed commands.
//!
//! What one read brings is parsed first, up to [`PIPELINE_MAX`] commands at a time, so that the tables' memory for all their keys
//! can be fetched before the first of them runs; then they run in order. Commands for this core's shard run here and
//! reply straight into the connection's output; others are collected into one batch per core.

use super::gate::{self, Verdict};
use super::mesh::{NewItem, Origin};
use super::route::{self, KeyHint, Target};
use super::{Engine, loading, locks::Parked};
use crate::commands::registry::{Plan, Registered, Run};
use crate::core::connection::{ReplyMode, Special, Stall};
use crate::observe::slowlog::{SlowEntry, shortened};
use crate::protocol::{Limits, Parsed, ProtocolError};
use kvshard::command::{ArgsBuf, KeyUse};
use kvshard::keyspace::ClientId;
use kvshard::keyspace::Key;
use kvshard::shard::Request;
use kvshard::table::Place;
use kvshard::{Args, Error, Flags, Outcome, Reply};

/// Commands that are parsed ahead of the first one's execution.
const PIPELINE_MAX: usize = 64;
/// Awaited replies and unsent bytes of one connection, above which its next commands wait.
const AWAITED_MAX: usize = 4096;
/// Output that one read's commands may leave before the connection's output limits are looked at, bytes; otherwise they are when it
/// is sent.
const UNCHECKED_OUTPUT_MAX: usize = 256 << 10;
/// Argument positions that the pipeline's memory may keep from one cron to the next.
const RANGES_KEPT_MAX: usize = 4096;
/// Unused input buffer that an idle connection keeps, bytes.
const QUERY_KEPT_MAX: usize = 0;

/// Parsed commands on their way to execution; memory reused from turn to turn.
#[derive(Default)]
pub struct Pipeline {
    commands: Vec<Parcel>,
    ranges: Vec<(u32, u32)>,
    inline_text: Vec<u8>,
    uses: Vec<KeyUse>,
    /// Commands whose field or member is being fetched, and its place where the value is large.
    members: Vec<(usize, Option<Place>)>,
}

impl Pipeline {
    /// Gives back what unusually long requests made this grow by.
    pub fn trim(&mut self) {
        if self.ranges.capacity() > RANGES_KEPT_MAX {
            self.ranges = Vec::new();
        }
        if self.uses.capacity() > RANGES_KEPT_MAX {
            self.uses = Vec::new();
        }
    }
}

/// One parsed command: where its bytes and ranges are, and what is known about it.
#[derive(Clone, Copy)]
struct Parcel {
    start: usize,
    end: usize,
    ranges: (usize, usize),
    is_inline: bool,
    command: Option<&'static Registered>,
    key: Option<KeyHint>,
}

impl Parcel {
    #[inline]
    fn args<'a>(&self, input: &'a [u8], inline_text: &'a [u8], ranges: &'a [(u32, u32)]) -> Args<'a> {
        let bytes = if self.is_inline { inline_text } else { &input[self.start..self.end] };
        Args::new(bytes, &ranges[self.ranges.0..self.ranges.1])
    }
}

/// What follows the last whole command of the input.
enum Rest {
    Nothing,
    /// A cut request; so many more bytes complete its current argument, if known.
    Partial(usize),
    Error(ProtocolError),
}

impl Engine {
    /// Bytes have come for a connection.
    pub fn receive(&mut self, index: usize, bytes: &[u8]) {
        let connection = &mut self.core.connections[index];
        connection.last_interaction_ms = self.core.now;
        connection.total_net_in += bytes.len() as u64;
        self.core.counters.net_input_bytes += bytes.len() as u64;
        self.core.counters.reads_processed += 1;
        if connection.closing {
            return;
        }
        if connection.out.capacity() == 0 {
            connection.out = self.core.spare_output.take();
        }
        if connection.pending_input() == 0 && connection.stall == Stall::None {
            connection.in_hand = bytes.len();
            let used = self.consume(index, bytes);
            let Some(connection) = self.core.connections.get_mut(index) else { return };
            connection.in_hand = 0;
            if used < bytes.len() {
                connection.query.clear();
                connection.query_at = 0;
                connection.query.extend_from_slice(&bytes[used..]);
            }
        } else {
            connection.query.extend_from_slice(bytes);
            if self.limit_client(index) {
                return;
            }
            self.limit_input(index);
            self.continue_input(index);
        }
    }

    /// A stalled connection may not make this core keep any amount of input for it.
    fn limit_input(&mut self, index: usize) {
        let connection = &self.core.connections[index];
        if connection.stall == Stall::None {
            return;
        }
        let pending = connection.pending_input();
        if pending as u64 > self.core.config.client_query_buffer_limit {
            let shown = crate::commands::client::list::line(connection, self.core.now, 0);
            let shown = String::from_utf8_lossy(shown.trim_ascii_end());
            crate::observe::log::warning(&format!("Closing client that reached max query buffer length: {shown}"));
            self.core.counters.query_buffer_limit_disconnections += 1;
            self.core.close(index, false);
        } else if !connection.wants_input() {
            self.core.to_hush.push(index);
        }
    }

    /// Looks at the input that a connection has kept.
    pub fn continue_input(&mut self, index: usize) {
        let Some(connection) = self.core.connections.get_mut(index) else { return };
        if connection.stall != Stall::None {
            return;
        }
        if connection.closing || connection.pending_input() == 0 {
            if connection.closing {
                self.core.to_close.push(index);
            } else if connection.input_ended {
                self.core.close(index, true);
            }
            return;
        }
        let query = std::mem::take(&mut connection.query);
        let start = std::mem::take(&mut connection.query_at);
        let used = start + self.consume(index, &query[start..]);
        let Some(connection) = self.core.connections.get_mut(index) else { return };
        if !connection.receiving {
            self.core.to_receive.push(index);
        }
        let is_over = connection.input_ended && connection.stall == Stall::None && !connection.closing;
        // Nothing can have been added meanwhile: input comes through `receive` only.
        connection.query = query;
        connection.query_at = used;
        if used == connection.query.len() {
            connection.query.clear();
            connection.query_at = 0;
            if connection.query.capacity() > QUERY_KEPT_MAX {
                connection.query = Vec::new();
            }
        } else if used > connection.query.len() / 2 {
            connection.query.drain(..used);
            connection.query_at = 0;
        }
        if is_over {
            self.core.close(index, true);
        }
    }

    /// The peer has sent its last byte. What it sent before is still run and answered, unless it waits for other clients.
    pub fn end_input(&mut self, index: usize) {
        let connection = &mut self.core.connections[index];
        connection.input_ended = true;
        match connection.stall {
            Stall::Operation | Stall::BackPressure => {}
            Stall::None | Stall::AwaitingBlock(_) => self.core.close(index, true),
            Stall::Blocked | Stall::Paused => self.core.close(index, false),
        }
    }

    /// Runs the commands at the beginning of `input`; says how many bytes are done with.
    fn consume(&mut self, index: usize, input: &[u8]) -> usize {
        let mut used = 0;
        let mut pipeline = std::mem::take(&mut self.pipeline);
        while used < input.len() {
            let (parsed_to, rest) = self.parse(index, input, used, &mut pipeline);
            self.fetch_ahead(index, input, &mut pipeline);
            self.last_stamp = self.clock.nanos();
            let mut interrupted = false;
            for at in 0..pipeline.commands.len() {
                let parcel = pipeline.commands[at];
                let args = parcel.args(input, &pipeline.inline_text, &pipeline.ranges);
                let done = self.command(index, parcel.command, args, parcel.key, &mut pipeline.uses);
                let Some(connection) = self.core.connections.get_mut(index) else {
                    self.pipeline = pipeline;
                    return input.len();
                };
                if done {
                    used = parcel.end;
                }
                if connection.out.len() > UNCHECKED_OUTPUT_MAX {
                    self.check_output(index);
                }
                if self.core.connections[index].closing {
                    self.pipeline = pipeline;
                    return input.len();
                }
                if self.core.connections[index].stall != Stall::None {
                    interrupted = true;
                    break;
                }
            }
            if interrupted {
                self.core.connections[index].parser.reset();
                break;
            }
            used = parsed_to;
            match rest {
                Rest::Nothing => {}
                Rest::Partial(need) => {
                    let connection = &mut self.core.connections[index];
                    if need > input.len() - used {
                        connection.query.reserve(need);
                    }
                    break;
                }
                Rest::Error(error) => {
                    self.protocol_error(index, error);
                    used = input.len();
                    break;
                }
            }
        }
        self.pipeline = pipeline;
        used
    }

    /// Parses whole commands from `input[from..]`; says where it stopped, and why.
    fn parse(&mut self, index: usize, input: &[u8], from: usize, pipeline: &mut Pipeline) -> (usize, Rest) {
        pipeline.commands.clear();
        pipeline.ranges.clear();
        let connection = &mut self.core.connections[index];
        let authenticated = !connection.special.has(Special::UNAUTHENTICATED);
        let config = &self.core.config;
        let limits = match connection.special.has(Special::LOADER) {
            true => Limits::new(u64::MAX, u64::MAX, true),
            false => Limits::new(config.proto_max_bulk_len, config.client_query_buffer_limit, authenticated),
        };
        // What a client may send changes with AUTH, so before it commands are taken one by one.
        let most = if authenticated { PIPELINE_MAX } else { 1 };
        let mut at = from;
        while at < input.len() && pipeline.commands.len() < most {
            match connection.parser.parse(&input[at..], &limits, &mut self.parse_args) {
                Parsed::Incomplete { need } => return (at, Rest::Partial(need)),
                Parsed::Empty { consumed } => at += consumed,
                Parsed::Fatal(error) => return (at, Rest::Error(error)),
                Parsed::Command { consumed } => {
                    let first = pipeline.ranges.len();
                    pipeline.ranges.extend_from_slice(self.parse_args.ranges());
                    let is_inline = self.parse_args.is_inline();
                    let ranges = (first, pipeline.ranges.len());
                    pipeline.commands.push(Parcel { start: at, end: at + consumed, ranges, is_inline, command: None, key: None });
                    at += consumed;
                    if is_inline {
                        // The words are in the parser's own text, which the next request overwrites.
                        pipeline.inline_text.clear();
                        pipeline.inline_text.extend_from_slice(self.parse_args.bytes(input));
                        break;
                    }
                }
            }
        }
        (at, Rest::Nothing)
    }

    /// Finds the commands, places the keys, and has their memory fetched.
    #[inline]
    fn fetch_ahead(&mut self, index: usize, input: &[u8], pipeline: &mut Pipeline) {
        let Pipeline { commands, ranges, inline_text, members, .. } = pipeline;
        let several = commands.len() > 1;
        let hasher = &self.core.scratch.hasher;
        let own = self.core.id;
        // One command alone has nothing to wait beside.
        let db = self.core.shard.as_deref().filter(|_| several).map(|shard| &shard.dbs[self.core.connections[index].db]);
        members.clear();
        for (position, parcel) in commands.iter_mut().enumerate() {
            let args = parcel.args(input, inline_text, ranges);
            parcel.command = self.core.node.registry.find(args);
            let Some(command) = parcel.command else { continue };
            let Plan::OneKey(at) = command.plan else { continue };
            let Some(bytes) = args.get(at) else { continue };
            let key = hasher.key(bytes);
            parcel.key = Some(KeyHint { at: at as u32, slot: key.slot, place: key.place });
            if let Some(db) = db.filter(|_| hasher.shard_of(key.slot) == own) {
                db.prefetch(&key);
                if command.spec.member_at > 0 {
                    members.push((position, None));
                }
            }
        }
        let Some(db) = db else { return };
        let own_keys = commands.iter().filter_map(|parcel| parcel.key).filter(|key| hasher.shard_of(key.slot) == own);
        own_keys.for_each(|key| db.prefetch_entry(&Key { bytes: &[], slot: key.slot, place: key.place }));
        // Where values are large, the fields and members that the commands name.
        let named = |position: usize| {
            let parcel: &Parcel = &commands[position];
            let args = parcel.args(input, inline_text, ranges);
            (parcel.key.map(|key| key.key(args)), parcel.command.and_then(|command| args.get(command.spec.member_at)))
        };
        for (position, place) in members.iter_mut() {
            if let (Some(key), Some(member)) = named(*position) {
                *place = db.prefetch_member(&key, member);
            }
        }
        for &(position, place) in members.iter() {
            if let (Some(place), (Some(key), _)) = (place, named(position)) {
                db.prefetch_member_block(&key, place);
            }
        }
    }

    /// One command. False: it was not started and is to be looked at again later.
    #[inline]
    fn command(
        &mut self,
        index: usize,
        found: Option<&'static Registered>,
        args: Args<'_>,
        key: Option<KeyHint>,
        uses: &mut Vec<KeyUse>,
    ) -> bool {
        let Some(command) = found else {
            if gate::is_http(args.at(0)) {
                self.drop_http(index);
            } else {
                self.refuse(index, None, &gate::unknown_command(args));
            }
            return true;
        };
        if let Err(error) = gate::check_form(command, args) {
            self.refuse(index, Some(command), &error);
            return true;
        }
        let connection = &self.core.connections[index];
        if connection.special.0 != 0 || self.special.any() || connection.transaction.is_some() {
            match self.gated(index, command, args, key) {
                Verdict::Run => {}
                Verdict::Queue => {
                    self.queue(index, command, args);
                    return true;
                }
                Verdict::Refuse(error) => {
                    self.refuse(index, Some(command), &error);
                    return true;
                }
                Verdict::Pause => {
                    self.core.connections[index].stall = Stall::Paused;
                    self.paused.push(index);
                    return false;
                }
            }
        }
        let started = self.start(index, command, args, key, uses);
        if started && self.special.monitored {
            self.feed_monitors(index, command, args);
        }
        started
    }

    /// Runs an admitted command, here or elsewhere.
    pub(super) fn start(
        &mut self,
        index: usize,
        command: &'static Registered,
        args: Args<'_>,
        key: Option<KeyHint>,
        uses: &mut Vec<KeyUse>,
    ) -> bool {
        let target = match key {
            Some(key) => Target::One(self.core.scratch.hasher.shard_of(key.slot)),
            None => route::target(command, args, &self.core.scratch.hasher, self.core.id, uses),
        };
        let connection = &mut self.core.connections[index];
        connection.last_command = Some(command);
        connection.total_commands += 1;
        match target {
            Target::One(shard) if shard == self.core.id => self.run_here(index, command, args, key),
            Target::One(shard) => return self.send(index, shard, command, args, key),
            Target::Several | Target::AllShards => self.begin_spanning(index, command, args, target == Target::AllShards),
            Target::Node => return self.run_node_command(index, command, args),
        }
        true
    }

    /// Runs a command on this core's own shard.
    #[inline]
    fn run_here(&mut self, index: usize, command: &'static Registered, args: Args<'_>, key: Option<KeyHint>) {
        if !self.locks.is_quiet() && self.park_if_locked(index, command, args, key) {
            return;
        }
        let core = &mut self.core;
        let connection = &mut core.connections[index];
        let (client, silent) = (connection.id, connection.special.has(Special::REPLY_MODE));
        let direct = connection.reorder.is_empty() && !silent;
        let out = match (silent, direct) {
            (true, _) => {
                self.reply.clear();
                &mut self.reply
            }
            (_, true) => &mut connection.out,
            (_, false) => connection.reorder.held(),
        };
        let start = out.len();
        let Run::Shard(shard_command) = command.run else { unreachable!("a command with a shard's route runs on a shard") };
        let request = Request {
            command: shard_command,
            args,
            db: connection.db,
            now: core.now,
            client: connection.id,
            resp3: connection.resp3,
            may_block: !connection.special.has(Special::LOADER),
            no_touch: connection.no_touch,
            first_key: key.map(|key| key.key(args)),
        };
        let shard = core.shard.as_mut().expect("quiet locks: the shard is in place");
        let outcome = shard.execute(request, out);
        if command.plan == Plan::Cursor {
            route::rewrite_cursor(out, start, core.id, core.node.cores);
        }
        if outcome.failed {
            core.counters.error_reply(&out[start..]);
            if core.loading || client == ClientId::PRIMARY {
                loading::tell_error(client, command, &out[start..]);
            }
        }
        if outcome.wait.is_none() {
            if silent {
                Self::reply_mode_passed(connection);
            } else {
                if !direct {
                    connection.reorder.held_reply(start);
                }
                core.want_flush(index);
            }
        }
        if let Some(entry) = self.settle(command, args, &outcome) {
            self.keep_slow(*entry, Some(index));
        }
        if let Some(wait) = outcome.wait {
            self.block(index, command, args, wait);
        }
    }

    /// What follows every execution on this core's shard: counters, events, clients that can be served now. If the command was slow
    /// enough for the slow log, its entry goes to the core that knows the client; see [`Engine::keep_slow`].
    #[inline]
    pub(super) fn settle(&mut self, command: &'static Registered, args: Args<'_>, outcome: &Outcome) -> Option<Box<SlowEntry>> {
        let stamp = self.clock.nanos();
        let nanos = stamp - self.last_stamp;
        self.last_stamp = stamp;
        let core = &mut self.core;
        let mut slow = None;
        // What the data set's files make the shard do is nobody's command. One that begins to wait is logged when it is served.
        if !core.loading {
            core.counters.called(command.index, nanos, outcome.failed);
            if (core.slowlog.wants(nanos) || core.latency.wants(nanos)) && outcome.wait.is_none() {
                slow = self.slow(command, args, nanos).map(Box::new);
            }
        }
        if let Some(shard) = self.core.shard.as_ref() {
            let (events, ready) = (shard.has_events(), shard.waiters.has_ready());
            if outcome.dirty > 0 || outcome.flushed_all {
                self.changed(outcome);
            }
            if events {
                self.publish_events();
            }
            if ready {
                self.serve_blocked();
            }
        }
        slow
    }

    /// Counts changes, and looks at what they mean for a snapshot.
    #[inline]
    pub(super) fn changed(&mut self, outcome: &Outcome) {
        self.core.count_dirty(outcome.dirty);
        self.watch_waiting_records();
        if outcome.flushed_all {
            self.flushed_all();
        }
    }

    /// Notes a slow command of this core's connection, if that is still there.
    #[cold]
    pub(super) fn log_slow(&mut self, command: &'static Registered, args: Args<'_>, nanos: u64, index: Option<usize>) {
        if let Some(entry) = self.slow(command, args, nanos) {
            self.keep_slow(entry, index);
        }
    }

    /// A command that took long: a latency event here, where it ran, and an entry of the slow log, still without its client.
    #[cold]
    pub(super) fn slow(&mut self, command: &'static Registered, args: Args<'_>, nanos: u64) -> Option<SlowEntry> {
        let core = &mut self.core;
        let at = core.now / 1000;
        if core.latency.wants(nanos) {
            let event = if command.flags().has(Flags::FAST) { "fast-command" } else { "command" };
            core.latency.add(event, at, nanos / 1_000_000);
        }
        if !core.slowlog.wants(nanos) || command.flags().has(Flags::SKIP_SLOWLOG) {
            return None;
        }
        Some(SlowEntry {
            id: core.node.slowlog_next_id.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
            at,
            micros: nanos / 1000,
            args: shortened(command.redacted(args).as_ref().map_or(args, ArgsBuf::args)),
            address: String::new(),
            client_name: Vec::new(),
        })
    }

    /// Puts an entry into this core's slow log, with the name and address of the client, which is this core's.
    /// `None`: the client has gone meanwhile.
    #[cold]
    pub(super) fn keep_slow(&mut self, mut entry: SlowEntry, index: Option<usize>) {
        if let Some(connection) = index.and_then(|index| self.core.connections.get(index)) {
            entry.address = connection.peer.to_string();
            entry.client_name = connection.name.as_deref().map(<[u8]>::to_vec).unwrap_or_default();
        }
        self.core.slowlog.add(entry);
    }

    /// Sends a command to another core's shard. False: the way there is full.
    fn send(&mut self, index: usize, shard: usize, command: &'static Registered, args: Args<'_>, key: Option<KeyHint>) -> bool {
        let connection = &mut self.core.connections[index];
        if self.mesh.is_congested(shard) || connection.reorder.len() >= AWAITED_MAX {
            connection.stall = Stall::BackPressure;
            self.congested.push(index);
            return false;
        }
        let place = connection.reorder.await_reply();
        let blocking = command.flags().has(Flags::BLOCKING) && !connection.special.has(Special::LOADER);
        if blocking {
            connection.stall = Stall::AwaitingBlock(place);
        }
        let origin = Origin { core: self.core.id as u16, index: index as u32, generation: connection.generation, place };
        let item = NewItem {
            origin,
            client: connection.id,
            command,
            db: connection.db,
            resp3: connection.resp3,
            no_touch: connection.no_touch,
            may_block: blocking,
            key,
        };
        self.mesh.batch(shard).push(item, args);
        self.hops_outstanding += 1;
        self.core.counters.hops += 1;
        if connection.special.has(Special::REPLY_MODE) {
            connection.reorder.discard(place);
            Self::reply_mode_passed(connection);
        }
        true
    }

    /// Keys of the command are lent out: it waits, in this shard's queue and in the connection's order of replies.
    #[cold]
    fn park_if_locked(&mut self, index: usize, command: &'static Registered, args: Args<'_>, key: Option<KeyHint>) -> bool {
        let keys = route::keys(command, args);
        let whole = command.plan == Plan::Cursor;
        let blocked = if whole { self.locks.blocks_whole() } else { self.locks.blocks(keys.iter().copied()) };
        if !blocked {
            return false;
        }
        let connection = &mut self.core.connections[index];
        let place = connection.reorder.await_reply();
        let may_block = command.flags().has(Flags::BLOCKING) && !connection.special.has(Special::LOADER);
        if may_block {
            connection.stall = Stall::AwaitingBlock(place);
        }
        let new = NewItem {
            origin: Origin { core: self.core.id as u16, index: index as u32, generation: connection.generation, place },
            client: connection.id,
            command,
            db: connection.db,
            resp3: connection.resp3,
            no_touch: connection.no_touch,
            may_block,
            key,
        };
        if connection.special.has(Special::REPLY_MODE) {
            connection.reorder.discard(place);
            Self::reply_mode_passed(connection);
        }
        self.hops_outstanding += 1;
        let keys = keys.into_iter().map(Box::from).collect();
        self.locks.park(Parked::Command { item: super::mesh::Item::alone(new), args: args.to_buf(), keys, whole });
        true
    }

    #[cold]
    fn gated(&mut self, index: usize, command: &'static Registered, _args: Args<'_>, key: Option<KeyHint>) -> Verdict {
        let verdict = gate::check(&self.core.connections[index], command, self.special);
        if (verdict == Verdict::Run || verdict == Verdict::Queue)
            && self.special.memory_limited
            && gate::runs_any(&self.core.connections[index], command, Flags::DENYOOM)
        {
            // A shard that will run the command makes room itself.
            let hasher = &self.core.scratch.hasher;
            let elsewhere = key.is_some_and(|key| hasher.shard_of(key.slot) != self.core.id) && verdict == Verdict::Run;
            if !elsewhere && !self.make_room() {
                return Verdict::Refuse(Error::Text(gate::OUT_OF_MEMORY));
            }
        }
        verdict
    }

    /// Closes the connection of a client that talks HTTP; says so from time to time.
    #[cold]
    fn drop_http(&mut self, index: usize) {
        if self.core.now - self.http_warned_ms > gate::HTTP_WARNING_PAUSE_MS {
            crate::observe::log::warning(gate::HTTP_WARNING);
            self.http_warned_ms = self.core.now;
        }
        self.core.close(index, false);
    }

    /// Replies an error to a command that was not run.
    #[cold]
    fn refuse(&mut self, index: usize, command: Option<&'static Registered>, error: &Error) {
        if let Some(command) = command {
            self.core.counters.commands[command.index].rejected += 1;
        }
        if command.is_some_and(|command| command.flags().has(Flags::RUNS_QUEUE)) {
            return self.abort_exec(index, error);
        }
        if let Some(transaction) = &mut self.core.connections[index].transaction {
            transaction.failed |= transaction.open;
        }
        self.reply_with(index, |reply| reply.error(error));
    }

    #[cold]
    fn queue(&mut self, index: usize, command: &'static Registered, args: Args<'_>) {
        let connection = &mut self.core.connections[index];
        connection.last_command = Some(command);
        let transaction = connection.transaction.get_or_insert_default();
        transaction.queue_bytes += args.iter().map(|arg| arg.len() + 8).sum::<usize>();
        transaction.queue.push((command, args.to_buf()));
        self.reply_with(index, |reply| reply.simple("QUEUED"));
    }

    #[cold]
    fn protocol_error(&mut self, index: usize, error: ProtocolError) {
        let connection = &mut self.core.connections[index];
        let text = error.text();
        crate::observe::log::verbose(&format!(
            "Protocol error ({text}) from client: id={} addr={}",
            connection.id.0, connection.peer
        ));
        if text.is_empty() {
            self.core.counters.query_buffer_limit_disconnections += 1;
        }
        let mut out = Vec::new();
        error.write_reply(&mut out);
        self.core.counters.error_replies += u64::from(!out.is_empty());
        self.append_reply(index, &out);
        self.core.close(index, true);
    }

    /// Writes a reply that is ready now, in its place among those still awaited.
    pub(super) fn reply_with(&mut self, index: usize, write: impl FnOnce(&mut Reply<'_>)) {
        let resp3 = self.core.connections[index].resp3;
        let mut bytes = std::mem::take(&mut self.reply);
        bytes.clear();
        write(&mut Reply::new(&mut bytes, resp3));
        self.append_reply(index, &bytes);
        self.reply = bytes;
    }

    /// As [`Engine::reply_with`], with the bytes given.
    pub(super) fn append_reply(&mut self, index: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if bytes[0] == b'-' {
            self.core.counters.error_reply(bytes);
        }
        let connection = &mut self.core.connections[index];
        if connection.special.has(Special::REPLY_MODE) && Self::reply_mode_passed(connection) {
            return;
        }
        if connection.reorder.is_empty() {
            connection.out.extend_from_slice(bytes);
        } else {
            let start = connection.reorder.held().len();
            connection.reorder.held().extend_from_slice(bytes);
            connection.reorder.held_reply(start);
        }
        self.core.want_flush(index);
    }

    /// One more command has passed under CLIENT REPLY; true if its reply is not wanted.
    pub(super) fn reply_mode_passed(connection: &mut crate::core::connection::Connection) -> bool {
        match connection.reply_mode {
            ReplyMode::On => false,
            ReplyMode::Off => true,
            ReplyMode::SkipNext => {
                connection.set_reply_mode(ReplyMode::Skip);
                false
            }
            ReplyMode::Skip => {
                connection.set_reply_mode(ReplyMode::On);
                true
            }
        }
    }

    /// Queued and blocked commands are run again through here, with arguments of their own.
    pub(super) fn start_again(&mut self, index: usize, command: &'static Registered, args: &ArgsBuf) {
        let mut uses = Vec::new();
        self.start(index, command, args.args(), None, &mut uses);
    }
}
