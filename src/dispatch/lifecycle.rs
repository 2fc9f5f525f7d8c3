//! A connection's beginning and end, and what a core does as time passes.

use super::gate::{DiskError, NodeSpecial};
use super::mesh::{Adopted, Request};
use super::{Engine, Rest};
use crate::commands::client;
use crate::core::connection::{Connection, Special, Stall};
use crate::observe::clock::wall_ms;
use crate::core::shared::PerCore;
use crate::observe::{log, memory};
use crate::peers::contract::{Departed, ToPeers};
use crate::peers::status::PeerConnection;
use kvshard::keyspace::expire::CycleBudget;
use kvshard::keyspace::{ClientId, Db};
use kvshard::settings::EvictionPolicy;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Bytes of values freed, entries looked at for expiry: what a turn of the loop may spend on the shard's upkeep.
const FREE_BUDGET: usize = 1000;
/// Share of a core's time that expiry may take at effort 1, percent; each further effort adds 2.
const EXPIRE_SHARE_PERCENT: u64 = 25;
/// Keys evicted for one command at most, so that no command waits long for a limit that was lowered by much.
const EVICTIONS_A_COMMAND: usize = 1000;

/// Bytes in use up to which a resting core looks for memory to give back: it walks over all of it, some 0.2 ms for 64 MiB.
const TIDIED_BYTES_MAX: u64 = 256 << 20;
/// Bytes of the replication stream that may wait for the executor that sends it on.
const QUEUED_STREAM_MAX: usize = 32 << 20;
/// Connections looked at by one run of the clients' check, at least.
const CHECKED_MIN: usize = 5;

impl Engine {
    /// Takes over an accepted connection. Returns its index.
    pub fn adopt(&mut self, adopted: Adopted) {
        let core = &mut self.core;
        let id = ClientId(core.node.next_client_id.fetch_add(1, Ordering::Relaxed));
        self.next_generation = self.next_generation.wrapping_add(1);
        let Adopted { fd, peer, local, is_unix } = adopted;
        let mut connection = Connection::new(id, fd, self.next_generation, peer, local, is_unix, core.now);
        connection.special.set(Special::UNAUTHENTICATED, !core.config.requirepass.is_empty());
        let index = core.connections.insert(connection);
        core.by_client.insert(id, index);
        core.counters.connections_received += 1;
        core.to_receive.push(index);
        let connection = &core.connections[index];
        let denied = core.config.protected_mode && core.config.requirepass.is_empty() && !connection.is_local();
        if denied {
            core.counters.rejected_connections += 1;
            core.push_to(index, |out| out.extend_from_slice(DENIED.as_bytes()));
            core.close(index, true);
        }
    }

    /// A connection leaves for the executor of other nodes' connections, if that is what it waits for: nothing of it is under way
    /// any more.
    pub fn departs(&mut self, index: usize, socket: OwnedFd) {
        let connection = &mut self.core.connections[index];
        if let Some(request) = connection.leaving.take() {
            let about = std::mem::take(connection.about_mut());
            let client = PeerConnection {
                id: connection.id.0,
                peer: connection.peer.to_string(),
                local: connection.local.to_string(),
                name: connection.name.as_deref().unwrap_or_default().to_vec(),
                is_primary: false,
                created_ms: connection.created_ms,
            };
            let input = connection.query.split_off(connection.query_at);
            self.connection_ended(index);
            self.send_feed();
            self.core.node.replication.tell(ToPeers::Adopt(Box::new(Departed {
                socket,
                client,
                about,
                request: *request,
                input,
            })));
        }
    }

    /// Forgets a connection whose socket is gone or about to go.
    pub fn connection_ended(&mut self, index: usize) {
        let Some(connection) = self.core.connections.get_mut(index) else { return };
        let (id, generation, is_loader) = (connection.id, connection.generation, connection.special.has(Special::LOADER));
        let watched = connection.transaction.take().map(|transaction| transaction.watched).unwrap_or_default();
        if let Some(blocked) = &connection.blocked {
            blocked.claimed.store(true, Ordering::Release);
        }
        self.unblock(index, None);
        self.forget_watched(id, &watched);
        self.core.unsubscribe_all(index);
        self.core.set_monitor(index, false);
        self.congested.retain(|&other| other != index);
        self.paused.retain(|&other| other != index);
        self.core.by_client.remove(&id);
        self.core.connections.remove(index);
        if !is_loader {
            self.core.node.per_core[self.core.id].connections.fetch_sub(1, Ordering::Relaxed);
        }
        debug_assert!(generation != 0);
    }

    /// Everything that is not caused by input or mail: called once a turn. True if there is more to do at once.
    pub fn turn(&mut self) -> bool {
        self.core.now = wall_ms();
        self.look_at_node();
        if self.special.memory_limited {
            self.publish_evictable();
        }
        self.time_out_blocked();
        if self.locks.thaw(self.core.node.shutdown.hold()) {
            self.run_unlocked();
        }
        if self.core.id == 0 {
            self.look_at_shutdown();
            self.look_at_replication();
        }
        let retried = self.retry_refused();
        if self.special.paused.is_none() && !self.special.ending && !self.paused.is_empty() {
            for index in std::mem::take(&mut self.paused) {
                self.resume_stalled(index, Stall::Paused);
            }
        }
        if !self.congested.is_empty() && !self.mesh.has_backlog() {
            for index in std::mem::take(&mut self.congested) {
                self.resume_stalled(index, Stall::BackPressure);
            }
        }
        let mut busy = retried | self.continue_snapshot();
        if let Some(shard) = &mut self.core.shard
            && !shard.trash.is_empty()
        {
            shard.trash.free_some(FREE_BUDGET);
            busy |= !shard.trash.is_empty();
        }
        if !self.core.scratch.trash.is_empty() {
            self.core.scratch.trash.free_some(FREE_BUDGET);
            busy |= !self.core.scratch.trash.is_empty();
        }
        busy
    }

    /// Refreshes what the gate knows of the node.
    pub(super) fn look_at_node(&mut self) {
        self.follow_role();
        let node = &self.core.node;
        let replication = &node.replication;
        let loading = node.persistence.loading.load(Ordering::Relaxed);
        let too_many_records = node.persistence.full_shards.load(Ordering::Relaxed) > 0;
        // A failover does, the end that waits for replicas, and a stream that its reader does not keep up with.
        let pauses_writes = node.shutdown.until_ms() != 0
            || replication.pauses_writes.load(Ordering::Relaxed)
            || replication.queued_bytes.load(Ordering::Relaxed) > QUEUED_STREAM_MAX;
        self.special = NodeSpecial {
            paused: node.pause.active(self.core.now).or((too_many_records || pauses_writes).then_some(true)),
            ending: node.shutdown.hold() != 0,
            monitored: node.monitors.load(Ordering::Relaxed) > 0,
            memory_limited: self.core.config.maxmemory > 0 && !loading && !self.ignores_maxmemory(),
            lacks_replicas: replication.lacks_replicas(),
            read_only: replication.is_replica() && self.core.config.replica_read_only,
            stale: replication.is_link_down() && !self.core.config.replica_serve_stale_data,
            loading,
            async_loading: node.persistence.async_loading.load(Ordering::Relaxed),
            disk_error: self.disk_error(),
        };
    }

    /// A replica leaves it to its primary what is evicted.
    fn ignores_maxmemory(&self) -> bool {
        self.core.node.replication.is_replica() && self.core.config.replica_ignore_maxmemory
    }

    /// The node has become a replica, or a primary, while all shards were in one place: what else this core has takes notice now.
    #[inline]
    fn follow_role(&mut self) {
        if self.core.is_replica != self.core.node.replication.is_replica() {
            self.change_role();
        }
    }

    #[cold]
    fn change_role(&mut self) {
        self.core.is_replica = !self.core.is_replica;
        self.core.apply_config(self.core.config.clone());
        if self.core.is_replica {
            let claims = |connection: &Connection| connection.blocked.as_ref().is_some_and(|blocked| blocked.claim());
            let claimed = self.core.connections.iter().filter(|(_, connection)| claims(connection));
            let errors = claimed.map(|(_, connection)| (connection.id, Some(INSTANCE_STATE_CHANGED)));
            self.core.to_unblock.extend(errors);
            self.after_job();
        }
    }

    /// What keeps writes from surviving, if they are to be refused for it.
    fn disk_error(&self) -> Option<DiskError> {
        let (persistence, config) = (&self.core.node.persistence, &self.core.config);
        let rdb_failed = persistence.rdb_failed.load(Ordering::Relaxed);
        if rdb_failed && config.stop_writes_on_bgsave_error && !config.save.is_empty() {
            return Some(DiskError::Rdb);
        }
        let errno = persistence.aof_errno.load(Ordering::Relaxed);
        (errno != 0 && config.appendonly).then_some(DiskError::Aof(errno))
    }

    fn resume_stalled(&mut self, index: usize, from: Stall) {
        if let Some(connection) = self.core.connections.get_mut(index)
            && connection.stall == from
        {
            connection.stall = Stall::None;
            self.core.to_resume.push(index);
        }
    }

    /// Lets connections go on whose stall has ended.
    pub fn resume_connections(&mut self) -> bool {
        let mut any = false;
        while !self.core.to_resume.is_empty() {
            any = true;
            for index in std::mem::take(&mut self.core.to_resume) {
                self.continue_input(index);
            }
        }
        any
    }

    /// What a job or a finish may have left to be done.
    pub(super) fn after_job(&mut self) {
        self.parse_args.trim();
        self.look_at_node();
        for (client, error) in std::mem::take(&mut self.core.to_unblock) {
            if let Some(index) = self.core.connection_of(client) {
                self.end_claimed_wait(index, error);
            }
        }
    }

    /// How long the core may sleep if nothing comes.
    pub fn sleep(&self) -> Duration {
        let cron = 1000 / u64::from(self.core.config.hz.max(1));
        let deadline = self.next_deadline().map_or(cron, |deadline| deadline.saturating_sub(self.core.now).max(0) as u64);
        let pause_until = self.core.node.pause.until_ms.load(Ordering::Relaxed);
        // A pause that does not end by the clock is looked at again soon.
        let pause_end = if self.paused.is_empty() { cron } else { (pause_until - wall_ms()).max(1) as u64 };
        let wanted = Duration::from_millis(cron.min(deadline + u64::from(deadline > 0)).min(pause_end));
        self.snapshot_rest().map_or(wanted, |rest| rest.min(wanted))
    }

    /// Work of every tenth of a second: expiry, limits, figures for others.
    pub fn cron(&mut self) {
        self.core.sample_figures();
        self.expire_cycle();
        self.check_clients();
        self.evict_clients();
        if self.core.id == 0 {
            self.look_at_appending();
            self.look_at_save_points();
        }
        self.parse_args.trim();
        self.pipeline.trim();
        self.tidy_when_idle();
    }

    /// A core that has just come to rest gives free memory back, if that is not much to look through.
    fn tidy_when_idle(&mut self) {
        let processed = self.core.counters.commands_processed + self.core.counters.reads_processed;
        if processed != self.rest.processed {
            self.rest = Rest { processed, tidied: false };
        } else if !self.rest.tidied {
            self.rest.tidied = true;
            if memory::used() <= TIDIED_BYTES_MAX {
                memory::purge();
            }
        }
    }

    /// Removes expired keys, in slices: as long as a slice finds many, the next follows within this turn's share of time.
    fn expire_cycle(&mut self) {
        let began = self.clock.nanos();
        let Some(shard) = &mut self.core.shard else { return };
        if !shard.settings.active_expire || self.special.paused.is_some() || self.special.ending {
            return;
        }
        let effort = shard.settings.active_expire_effort;
        let share = EXPIRE_SHARE_PERCENT + 2 * (u64::from(effort) - 1);
        let budget_nanos = 10_000_000 * share / u64::from(self.core.config.hz.max(1));
        while shard.expire_cycle(self.core.now, CycleBudget::of_effort(effort)).more {
            if self.clock.nanos() - began > budget_nanos {
                shard.stats.expired_time_cap_reached += 1;
                break;
            }
        }
        let nanos = self.clock.nanos() - began;
        if self.core.latency.wants(nanos) {
            self.core.latency.add("expire-cycle", self.core.now / 1000, nanos / 1_000_000);
        }
        self.after_upkeep();
    }

    /// Events of the shard's upkeep go out as those of commands do.
    fn after_upkeep(&mut self) {
        if self.core.shard.as_ref().is_some_and(|shard| shard.has_events()) {
            self.publish_events();
        }
    }

    /// Idle timeouts and output limits that hold over time: looks at a part of the connections, at each once a second.
    fn check_clients(&mut self) {
        let places = self.core.connections.capacity();
        let part = (places / self.core.config.hz.max(1) as usize + 1).max(CHECKED_MIN).min(places);
        for _ in 0..part {
            self.checked_to = (self.checked_to + 1) % places;
            if self.core.connections.contains(self.checked_to) {
                self.check_idle(self.checked_to);
                self.check_output(self.checked_to);
            }
        }
    }

    /// While all clients together hold more than `maxmemory-clients`, the largest ones go; each core sees to it for its own.
    fn evict_clients(&mut self) {
        let node = self.core.node.clone();
        let (own, others) = (&node.per_core[self.core.id], || node.per_core.iter().enumerate());
        let Some(most) = self.core.config.client_bytes_max() else {
            own.clients_bytes.store(0, Ordering::Relaxed);
            own.largest_client.store(0, Ordering::Relaxed);
            return;
        };
        let clients = self.core.connections.iter().filter(|(_, connection)| !connection.special.has(Special::LOADER));
        let mut sizes: Vec<(u64, usize)> = clients.map(|(index, connection)| (connection.memory() as u64, index)).collect();
        sizes.sort_unstable();
        let mut bytes = sizes.iter().map(|(bytes, _)| bytes).sum();
        loop {
            let connections = &self.core.connections;
            let may_go = |&(_, index): &(u64, usize)| !connections[index].no_evict && !connections[index].closing;
            let largest = sizes.iter().copied().rfind(may_go);
            own.clients_bytes.store(bytes, Ordering::Relaxed);
            own.largest_client.store(largest.map_or(0, |(bytes, _)| bytes), Ordering::Relaxed);
            let Some((size, index)) = largest else { return };
            let is_larger = |(core, other): (usize, &PerCore)| {
                let theirs = other.largest_client.load(Ordering::Relaxed);
                theirs > size || (theirs == size && core < self.core.id)
            };
            let total: u64 = others().map(|(_, core)| core.clients_bytes.load(Ordering::Relaxed)).sum();
            if total < most || others().any(is_larger) {
                return;
            }
            self.evict_client(index);
            bytes -= size;
        }
    }

    /// The same at once for one that holds more all by itself. True if it had to go.
    pub(super) fn limit_client(&mut self, index: usize) -> bool {
        let (Some(most), connection) = (self.core.config.client_bytes_max(), &self.core.connections[index]) else { return false };
        let is_too_large = !connection.no_evict && connection.memory() as u64 >= most;
        if is_too_large {
            self.evict_client(index);
        }
        is_too_large
    }

    fn evict_client(&mut self, index: usize) {
        let shown = client::list::line(&self.core.connections[index], self.core.now, 0);
        log::notice(&format!("Evicting client: {}", String::from_utf8_lossy(shown.trim_ascii_end())));
        self.core.counters.evicted_clients += 1;
        self.core.close(index, false);
    }

    fn check_idle(&mut self, index: usize) {
        let connection = &self.core.connections[index];
        let timeout_ms = i64::from(self.core.config.timeout) * 1000;
        let waits = connection.blocked.is_some() || matches!(connection.stall, Stall::Paused | Stall::AwaitingBlock(_));
        let exempt = waits || connection.is_subscribed() || connection.special.0 & (Special::MONITOR | Special::LOADER) != 0;
        if timeout_ms > 0 && !exempt && self.core.now - connection.last_interaction_ms > timeout_ms {
            crate::observe::log::verbose("Closing idle client");
            self.core.close(index, false);
        }
    }

    /// Frees memory until a command that needs some may run; false if it may not.
    pub(super) fn make_room(&mut self) -> bool {
        let limit = self.core.config.maxmemory;
        if memory::used() <= limit {
            return true;
        }
        let Some(shard) = &mut self.core.shard else { return true };
        let began = self.clock.nanos();
        let mut evicted = 0;
        let fits = loop {
            // What was evicted in large values is freed at once: only then does it count.
            while !shard.trash.is_empty() && memory::used() > limit {
                shard.trash.free_some(FREE_BUDGET);
            }
            if memory::used() <= limit {
                break true;
            }
            if evicted >= EVICTIONS_A_COMMAND {
                // Enough for one command: others wait. The next one goes on.
                break true;
            }
            if !shard.evict_one(self.core.now) {
                break self.others_make_room();
            }
            evicted += 1;
        };
        let nanos = self.clock.nanos() - began;
        if self.core.latency.wants(nanos) {
            self.core.latency.add("eviction-cycle", self.core.now / 1000, nanos / 1_000_000);
        }
        self.after_upkeep();
        fits
    }

    /// This shard has nothing to evict: has every other that can make room. False if none can.
    fn others_make_room(&mut self) -> bool {
        let able = |core: &usize| *core != self.core.id && self.core.node.per_core[*core].evictable.load(Ordering::Relaxed) > 0;
        let others: Vec<usize> = (0..self.core.node.cores).filter(able).collect();
        for &core in &others {
            self.mesh.request(core, Request::MakeRoom);
        }
        !others.is_empty()
    }

    /// Says how many keys could be evicted here, for cores that have none.
    fn publish_evictable(&self) {
        if let Some(shard) = &self.core.shard {
            let volatile_only = shard.policy().volatile_only();
            let count = |db: &Db| if volatile_only { db.volatile() } else { db.len() };
            let evictable = if shard.policy() == EvictionPolicy::NoEviction { 0 } else { shard.dbs.iter().map(count).sum() };
            self.core.node.per_core[self.core.id].evictable.store(evictable, Ordering::Relaxed);
        }
    }

    /// Output limits: called when a connection's output has grown. True if the client was closed.
    pub fn check_output(&mut self, index: usize) -> bool {
        let Some(connection) = self.core.connections.get_mut(index) else { return true };
        if connection.closing && !connection.close_after_output {
            return true;
        }
        let pending = connection.pending_output() as u64;
        let limits = &self.core.config.client_output_buffer_limit;
        let limit = if connection.is_subscribed() { limits.pubsub } else { limits.normal };
        let hard = limit.hard_bytes > 0 && pending > limit.hard_bytes;
        let above_soft = limit.soft_bytes > 0 && pending > limit.soft_bytes;
        if !above_soft {
            connection.soft_limit_since_ms = 0;
        } else if connection.soft_limit_since_ms == 0 {
            connection.soft_limit_since_ms = self.core.now.max(1);
        }
        let soft = above_soft && self.core.now - connection.soft_limit_since_ms > limit.soft_seconds as i64 * 1000;
        if hard || soft {
            let shown = client::list::line(connection, self.core.now, 0);
            let shown = String::from_utf8_lossy(shown.trim_ascii_end());
            crate::observe::log::warning(&format!("Client {shown} closed for overcoming of output buffer limits."));
            self.core.counters.output_buffer_limit_disconnections += 1;
            self.core.close(index, false);
            return true;
        }
        false
    }

    /// Sends an accepted connection to the core that is to have it.
    pub fn hand_over(&mut self, to: usize, adopted: Adopted) {
        self.core.node.per_core[to].connections.fetch_add(1, Ordering::Relaxed);
        if to == self.core.id { self.adopt(adopted) } else { self.mesh.request(to, Request::Adopt(Box::new(adopted))) }
    }
}

const INSTANCE_STATE_CHANGED: &str =
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";

const DENIED: &str = "-DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default \
user. In this mode connections are only accepted from the loopback interface. If you want to connect from external computers to Redis you \
may adopt one of the following solutions: 1) Just disable protected mode sending the command 'CONFIG SET protected-mode no' from the \
loopback interface by connecting to Redis from the same host the server is running, however MAKE SURE Redis is not publicly accessible from \
internet if you do so. Use CONFIG REWRITE to make this change permanent. 2) Alternatively you can just disable the protected mode by editing \
the Redis configuration file, and setting the protected mode option to 'no', and then restarting the server. 3) If you started the server \
manually just for testing, restart it with the '--protected-mode no' option. 4) Setup a an authentication password for the default user. \
NOTE: You only need to do one of the above things in order for the server to start accepting connections from the outside.\r\n";
