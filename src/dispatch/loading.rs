//! Loading as a core sees it: what the coordinator has read of the data set becomes entries of this core's shard.
//!
//! Steps come through the core's inbox and are taken in their order. Of records a turn takes as many as keep it short, so that
//! clients get their -LOADING meanwhile. Commands are run by a connection without a socket, whose replies go nowhere: the next
//! ones wait until it has taken the last, so that what is ahead of it stays in the bounded inbox. A fault is reported once; what
//! comes after it is passed over, as the node ends.

use super::Engine;
use super::operation::Block;
use crate::commands::registry::Registered;
use crate::coordinator::contract::{BeginLoad, Fault, Load, LoadReport, LoadTo, ToCore};
use crate::core::connection::{Connection, ReplyMode, Special, Stall};
use crate::observe::log;
use crossbeam_channel::Sender;
use kvshard::codec::ValueLimits;
use kvshard::codec::rdb::file::{Record, Records};
use kvshard::keyspace::ClientId;
use kvshard::keyspace::load::{LoadFault, LoadRules, Taken};
use std::sync::atomic::Ordering;

/// Bytes of records that a turn takes, about.
const BYTES_A_TURN: usize = 256 << 10;
/// Records whose places in the table are fetched together.
const GROUP: usize = 32;
/// Bytes of an error reply that the log repeats.
const LOGGED_ERROR_MAX: usize = 4096;
/// Empty keys that the log names.
const EMPTY_KEYS_NAMED: u64 = 10;

/// This core's part in loading.
#[derive(Default)]
pub struct Loader {
    begun: Option<Begun>,
    /// A step whose time has not come.
    held: Option<Load>,
}

struct Begun {
    rules: LoadRules,
    to: LoadTo,
    limits: ValueLimits,
    reports: Sender<LoadReport>,
    faulty: bool,
    /// The connection that runs commands, with its generation.
    client: Option<(usize, u32)>,
}

/// What is left of a turn for loading.
pub struct LoadBudget {
    bytes: usize,
}

impl LoadBudget {
    pub fn of_a_turn() -> Self {
        LoadBudget { bytes: BYTES_A_TURN }
    }

    fn spend(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes.max(1));
    }
}

impl Engine {
    /// What the coordinator says next, if this turn is to hear it.
    pub(super) fn next_message(&mut self, budget: &LoadBudget) -> Option<ToCore> {
        if budget.bytes == 0 {
            return None;
        }
        let held = self.loader.held.take().map(ToCore::Load);
        held.or_else(|| self.core.inbox.try_recv().ok())
    }

    /// Takes a step of loading. False: it has to wait, and is kept.
    pub(super) fn load(&mut self, load: Load, budget: &mut LoadBudget) -> bool {
        if !self.may_load(&load) {
            self.loader.held = Some(load);
            return false;
        }
        match load {
            Load::Begin(begin) => self.begin_load(begin),
            Load::Records { db, batch } => {
                budget.spend(batch.len());
                self.load_records(db, &batch);
            }
            Load::File => self.begin_file(),
            Load::Commands(bytes) => {
                budget.spend(bytes.len());
                self.run_commands(bytes);
            }
            Load::Flush => self.report(LoadReport::Done),
            Load::TakeBeside => self.take_beside(),
            Load::End { keeps } => {
                self.forget_client();
                self.end_load(keeps);
                self.core.set_loading(false);
                self.report(LoadReport::Done);
                self.loader = Loader::default();
            }
        }
        true
    }

    fn may_load(&mut self, load: &Load) -> bool {
        // The shard may be lent for an operation that began before.
        self.core.shard.is_some()
            && match load {
                // What is to be loaded may be just what the log has still to write.
                Load::Begin(_) => self.log_is_written(),
                Load::Records { .. } => true,
                _ => self.client_is_idle(load),
            }
    }

    fn begin_load(&mut self, begin: BeginLoad) {
        let BeginLoad { rules, to, reports } = begin;
        if to != LoadTo::Beside {
            self.core.set_loading(true);
        }
        let shard = self.core.shard.as_mut().expect("looked at before every step");
        match to {
            LoadTo::Shards => {}
            LoadTo::EmptiedShards => _ = shard.flush_all(),
            LoadTo::Beside => shard.begin_beside(),
        }
        let limits = ValueLimits::new(&shard.settings, shard.hasher.state());
        self.loader.begun = Some(Begun { rules, to, limits, reports, faulty: false, client: None });
    }

    fn end_load(&mut self, keeps: bool) {
        let (Some(shard), Some(begun)) = (&mut self.core.shard, &self.loader.begun) else { return };
        match begun.to {
            _ if keeps => {}
            LoadTo::Shards | LoadTo::EmptiedShards => _ = shard.flush_all(),
            LoadTo::Beside => shard.discard_beside(),
        }
    }

    /// What was loaded beside the data set takes its place.
    fn take_beside(&mut self) {
        let Some(reports) = self.loader.begun.as_ref().map(|begun| begun.reports.clone()) else { return };
        let mut block = Block::new(Vec::new(), false);
        block.on_all_shards = Some(Box::new(move |core, shards| {
            shards.iter_mut().for_each(|shard| shard.take_beside(core.now));
            // A coordinator that waits no longer is ending.
            let _gone = reports.send(LoadReport::Done);
            None
        }));
        self.begin_for_nobody(self.whole_shards(), block);
    }

    fn report(&self, report: LoadReport) {
        if let Some(begun) = &self.loader.begun {
            // A coordinator that has given up hears nothing.
            let _gone = begun.reports.send(report);
        }
    }

    fn load_records(&mut self, db: usize, batch: &[u8]) {
        let Some(begun) = self.loader.begun.as_mut().filter(|begun| !begun.faulty) else { return };
        let shard = self.core.shard.as_mut().expect("looked at before every step");
        let progress = &self.core.node.persistence.load;
        let (mut counts, mut records) = ([0; 3], Records::new(batch));
        let mut group: Vec<Record<'_>> = Vec::with_capacity(GROUP);
        let result = loop {
            // The table's memory for a group of keys is fetched before the first of them is put in: they come in no order of ours.
            let mut bad = None;
            for record in records.by_ref().take(GROUP) {
                match record {
                    Ok(record) => {
                        shard.prefetch_load(db, &record);
                        group.push(record);
                    }
                    Err(error) => bad = Some(LoadFault::Record(error)),
                }
            }
            let taken = group.drain(..).try_for_each(|record| {
                let taken = shard.load(db, &record, &begun.limits, begun.rules, self.core.now)?;
                counts[taken as usize] += 1;
                if taken == Taken::Empty && progress.empty_skipped.fetch_add(1, Ordering::Relaxed) < EMPTY_KEYS_NAMED {
                    log::notice(&format!("rdbLoadObject skipping empty key: {}", String::from_utf8_lossy(&record.key)));
                }
                Ok(())
            });
            match taken.and(bad.map_or(Ok(()), Err)) {
                Ok(()) if records.is_empty() => break Ok(()),
                Ok(()) => {}
                Err(fault) => break Err(fault),
            }
        };
        progress.keys_loaded.fetch_add(counts[Taken::Loaded as usize], Ordering::Relaxed);
        progress.keys_expired.fetch_add(counts[Taken::Expired as usize], Ordering::Relaxed);
        progress.applied_bytes.fetch_add(batch.len() as u64, Ordering::Relaxed);
        if let Err(fault) = result {
            begun.faulty = true;
            self.report(LoadReport::Fault(Fault::Record(fault)));
        }
    }

    // ---- commands ----

    /// Whether the client that runs commands is ready for this step.
    fn client_is_idle(&self, next: &Load) -> bool {
        let Some(connection) = self.loading_client().and_then(|index| self.core.connections.get(index)) else { return true };
        let taken = connection.pending_input() == 0 && connection.stall == Stall::None;
        // Answers of other cores may still be on their way while more commands are run.
        taken && (matches!(next, Load::Commands(_)) || connection.reorder.is_empty())
    }

    fn loading_client(&self) -> Option<usize> {
        let (index, generation) = self.loader.begun.as_ref()?.client?;
        self.core.connections.get(index).filter(|connection| connection.generation == generation).map(|_| index)
    }

    /// Every file begins as a new client does: in the first database, outside of a transaction.
    fn begin_file(&mut self) {
        self.forget_client();
        let client = self.inner_client(ClientId(u64::MAX));
        if let Some(begun) = &mut self.loader.begun {
            begun.client = Some(client);
        }
    }

    /// A client without a socket, which runs commands that nobody waits for: its place and its generation.
    pub(super) fn inner_client(&mut self, id: ClientId) -> (usize, u32) {
        self.next_generation = self.next_generation.wrapping_add(1);
        let (generation, now) = (self.next_generation, self.core.now);
        let mut connection = Connection::new(id, -1, generation, String::new(), String::new(), true, now);
        connection.special.set(Special::LOADER, true);
        connection.set_reply_mode(ReplyMode::Off);
        // There is no socket whose receive could be armed.
        connection.receiving = true;
        (self.core.connections.insert(connection), generation)
    }

    fn forget_client(&mut self) {
        if let Some(index) = self.loading_client() {
            self.connection_ended(index);
        }
        if let Some(begun) = &mut self.loader.begun {
            begun.client = None;
        }
    }

    fn run_commands(&mut self, bytes: Vec<u8>) {
        self.core.node.persistence.load.applied_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if self.loader.begun.as_ref().is_none_or(|begun| begun.faulty) {
            return;
        }
        if let Some(index) = self.loading_client() {
            let connection = &mut self.core.connections[index];
            (connection.query, connection.query_at) = (bytes, 0);
            self.continue_input(index);
        }
        let connection = self.loading_client().map(|index| &mut self.core.connections[index]);
        if connection.is_some_and(|connection| !connection.closing) {
            return;
        }
        self.refuse_load("a command has ended the client that runs the file".to_owned());
    }

    /// Something in an append-only file cannot be run.
    pub(super) fn refuse_load(&mut self, what: String) {
        if let Some(begun) = &mut self.loader.begun {
            begun.faulty = true;
            self.report(LoadReport::Fault(Fault::Command(what)));
        }
    }
}

/// A command of an append-only file has replied an error, which nobody gets: as in Redis the log tells it.
#[cold]
pub(super) fn tell_error(client: ClientId, command: &Registered, reply: &[u8]) {
    let text = String::from_utf8_lossy(&reply[..reply.len().min(LOGGED_ERROR_MAX)]);
    let (text, name) = (text.trim_start_matches('-').trim_end(), command.spec.name);
    let (this, to) = if client == ClientId::PRIMARY { ("replica", "master") } else { ("server", "AOF-loading-client") };
    log::warning(&format!(
        "== CRITICAL == This {this} is sending an error to its {to}: '{text}' after processing the command '{name}'"
    ));
}
