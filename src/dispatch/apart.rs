//! Commands over several shards of which each shard runs its own share.
//!
//! Where what a command does to a key depends on no other key and on nothing that was there, and its answer is known beforehand
//! ([`Spec::apart`](kvshard::Spec::apart)), nothing has to be gathered. The shards lock its keys as for any operation (see
//! [`operation`](super::operation)), but lend nothing. When all of them hold their locks, each is told in one message to run
//! its share and to unlock.
//!
//! Strict serializability: the operation's point in the one order is, as always, the moment when all locks are held. From then on
//! until its share has run nobody reads or writes a key, so nobody can tell that the shares run one after the other. Nothing can stop
//! a share any more either: such a command does not fail.
//!
//! The log: what the shares do is known before they run, so it is one operation with one id, given to every shard together with
//! its share. What a share finds expired is overwritten, and needs no mention.
//!
//! Measured with MSET of 10 keys on two cores, where lending moves each entry twice and touches five tables: a third less CPU.

use super::Engine;
use super::log::BlockLog;
use super::mesh::{OperationId, Release, Scope};
use super::operation::{Block, Operation};
use crate::commands::registry::{Registered, Run};
use crate::replication::encoded::Encoded;
use kvshard::command::{ArgsBuf, Split};
use kvshard::keyspace::ClientId;
use kvshard::keyspace::slot::SlotId;
use kvshard::split::by_owner;
use kvshard::{Args, Reply, shard};
use std::sync::Arc;

/// What one shard runs of a command: the same with its own keys.
pub struct Share {
    pub command: &'static Registered,
    args: ArgsBuf,
    db: usize,
    client: ClientId,
}

impl Engine {
    /// Begins a command with keys of several shards that each can run by itself. False: it is not such a command.
    pub(super) fn begin_apart(&mut self, index: usize, command: &'static Registered, args: Args<'_>) -> bool {
        let Split::PerKey { name, step, .. } = command.spec.split else { return false };
        let connection = &self.core.connections[index];
        // Arguments that are no whole number of steps are for the command itself to refuse.
        let fits = (args.len() - 1).is_multiple_of(step);
        if !command.spec.apart || !fits || self.core.loading {
            return false;
        }
        let (db, client, cores) = (connection.db, connection.id, self.core.node.cores);
        let hasher = &self.core.scratch.hasher;
        let owner = |key: &[u8]| Some(hasher.shard_of(SlotId::of_key(key)));
        let (mut needs, mut shares) = (Vec::with_capacity(cores), Vec::with_capacity(cores));
        for (shard, own) in by_owner(args, name, step, cores, owner) {
            let mut keys: Vec<Box<[u8]>> = own[1..].iter().step_by(step).map(|&key| key.into()).collect();
            keys.sort_unstable();
            keys.dedup();
            needs.push((shard, Scope::Keys { keys: keys.into(), db: Some(db) }));
            shares.push(Share { command, args: ArgsBuf::from_slices(&own), db, client });
        }
        let mut block = Block::new(vec![(command, args.to_buf())], false);
        block.apart = Some(shares);
        self.begin(index, needs, block, None, false);
        true
    }

    /// All shards hold their locks: tells each what to run, and answers.
    pub(super) fn end_apart(&mut self, id: OperationId) {
        let Some(Operation::Spanning(spanning)) = self.operations.remove(id) else { return };
        let (caller, ticket, needs, block) = (spanning.caller, spanning.ticket, spanning.needs, spanning.block);
        let shares = block.apart.expect("called for such operations");
        let log = self.is_logging().then(|| {
            let mut log = BlockLog::new(self.core.node.cores, false);
            needs.iter().zip(&shares).for_each(|((shard, _), share)| log.push(*shard, share.db, share.args.args()));
            log
        });
        let (db, whole) = (shares[0].db, block.commands[0].1.args());
        self.feed_operation(|| Encoded::command(db, whole));
        let logged = log.and_then(|log| self.logged(log)).map(Arc::new);
        let mut out = Vec::new();
        Reply::new(&mut out, false).ok();
        let alive = self.is_alive(caller);
        let confirm = if alive { self.commit(caller, false, &mut out, needs.len()) } else { None };
        let mut own = None;
        for ((shard, scope), share) in needs.into_iter().zip(shares) {
            let release = Release { logged: logged.clone(), confirm, ..Release::new(ticket, scope) };
            if shard == self.core.id {
                own = Some((share, release));
            } else {
                self.send_release(shard, Release { share: Some(share), ..release });
            }
        }
        let nanos = own.as_ref().map_or(0, |(share, _)| self.run_share(share));
        let (command, args) = &block.commands[0];
        self.core.counters.called(command.index, nanos, false);
        if self.core.slowlog.wants(nanos) || self.core.latency.wants(nanos) {
            self.log_slow(command, args.args(), nanos, alive.then_some(caller.index));
        }
        if let Some((_, release)) = own {
            self.release(release);
        }
        if alive && confirm.is_none() {
            self.answer_caller(caller, false, &out);
        }
    }

    /// Runs this shard's share, under its locks; says how long it took, in nanoseconds. Its effect is in the log by way of the whole.
    pub(super) fn run_share(&mut self, share: &Share) -> u64 {
        let Run::Shard(command) = share.command.run else { unreachable!("only shard commands have shares") };
        let began = self.clock.nanos();
        let request = shard::Request {
            command,
            args: share.args.args(),
            db: share.db,
            now: self.core.now,
            client: share.client,
            resp3: false,
            may_block: false,
            no_touch: false,
            first_key: None,
        };
        let mut reply = std::mem::take(&mut self.reply);
        reply.clear();
        let shard = self.core.shard.as_mut().expect("a shard with locked keys is in place");
        let follows = std::mem::replace(&mut shard.effects.enabled, false);
        let outcome = shard.execute(request, &mut reply);
        shard.effects.enabled = follows;
        let events = shard.has_events();
        debug_assert!(!outcome.failed && outcome.wait.is_none(), "a command that can be divided does not fail");
        self.reply = reply;
        let nanos = self.clock.nanos() - began;
        self.changed(&outcome);
        if events {
            self.publish_events();
        }
        nanos
    }
}
