//! Loading as a core sees it: what the coordinator has read of the data set becomes entries of this core's shard.
//!
//! Steps come through the core's inbox and are taken in their order. Of records a turn takes as many as keep it short, so that
//! clients get their -LOADING meanwhile. A fault is reported once; what comes after it is passed over, as the node ends.

use super::Engine;
use crate::coordinator::contract::{BeginLoad, Load, LoadReport, ToCore};
use crate::observe::log;
use crossbeam_channel::Sender;
use kvshard::codec::ValueLimits;
use kvshard::codec::rdb::file::Records;
use kvshard::keyspace::load::{LoadFault, LoadRules, Taken};
use std::sync::atomic::Ordering;

/// Bytes of records that a turn takes, about.
const BYTES_A_TURN: usize = 256 << 10;
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
    limits: ValueLimits,
    reports: Sender<LoadReport>,
    faulty: bool,
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
        if self.core.shard.is_none() {
            // It was lent for an operation that began before.
            self.loader.held = Some(load);
            return false;
        }
        match load {
            Load::Begin(begin) => self.begin_load(begin),
            Load::Records { db, batch } => {
                budget.spend(batch.len());
                self.load_records(db, &batch);
            }
            Load::Flush => self.report(LoadReport::Done),
            Load::End => {
                self.core.set_loading(false);
                self.report(LoadReport::Done);
                self.loader = Loader::default();
            }
        }
        true
    }

    fn begin_load(&mut self, begin: BeginLoad) {
        let BeginLoad { rules, empties, reports } = begin;
        self.core.set_loading(true);
        let shard = self.core.shard.as_mut().expect("looked at before every step");
        if empties {
            for db in 0..shard.dbs.len() {
                shard.flush(db);
            }
        }
        let limits = ValueLimits::new(&shard.settings, shard.hasher.state());
        self.loader.begun = Some(Begun { rules, limits, reports, faulty: false });
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
        let mut counts = [0; 3];
        let result = Records::new(batch).try_for_each(|record| {
            let record = record.map_err(LoadFault::Record)?;
            let taken = shard.load(db, &record, &begun.limits, begun.rules, self.core.now)?;
            counts[taken as usize] += 1;
            if taken == Taken::Empty && progress.empty_skipped.fetch_add(1, Ordering::Relaxed) < EMPTY_KEYS_NAMED {
                log::notice(&format!("rdbLoadObject skipping empty key: {}", String::from_utf8_lossy(&record.key)));
            }
            Ok(())
        });
        progress.keys_loaded.fetch_add(counts[Taken::Loaded as usize], Ordering::Relaxed);
        progress.keys_expired.fetch_add(counts[Taken::Expired as usize], Ordering::Relaxed);
        progress.applied_bytes.fetch_add(batch.len() as u64, Ordering::Relaxed);
        if let Err(fault) = result {
            begun.faulty = true;
            self.report(LoadReport::Fault(fault));
        }
    }
}
