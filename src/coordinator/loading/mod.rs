//! Loading the data set: what to load, and the way from the files to the cores.
//!
//! One thread reads, checks and cuts; the cores decode and install. Records of an RDB go to their owners in batches, through the
//! cores' bounded inboxes; commands of an append-only file go to the first core, which runs them as a client's (see [`aof`]).
//! Until all of it is done the node answers -LOADING.
//!
//! Refuses to guess: whatever is not as it should be ends the node, with one sentence that says what and where.
//!
//! Memory: a chunk of the file, a batch for each core, and [`WINDOW_BYTES`] on the way to the cores, or one record or command if
//! that is larger. What annotations of an append-only file cost is said in [`aof`].

mod aof;
mod leftovers;
mod rdb;
mod source;

use super::Coordinator;
use super::contract::{Asker, BeginLoad, Fault, Load, LoadReport, LoadTo, ReplicaLoad, ToCore, ToCores};
use super::status::Reload;
use crate::config::Config;
use crate::config::structures::os_reason;
use crate::core::shared::Node;
use crate::observe::{clock, log};
use crate::peers::contract::ToPeers;
use crate::peers::status::Mode;
use crate::persistence::disk::FileLayer;
use crate::persistence::manifest::Manifest;
use crate::persistence::spanning::OperationId;
use crate::replication::history::{Standing, StoredStanding};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use kvshard::keyspace::load::LoadRules;
use source::Source;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Bytes on their way to the cores, all together, above which reading waits.
const WINDOW_BYTES: u64 = 16 << 20;
/// How often a wait looks whether the node ends.
const LOOK: Duration = Duration::from_millis(20);
/// How often a full window is looked at: the cores need several milliseconds for what is in it.
const WINDOW_LOOK: Duration = Duration::from_micros(200);
/// Delays of single keys are added up to this.
const DELAY_MIN: Duration = Duration::from_millis(1);
/// How often the log tells how far loading has come.
const TELL: Duration = Duration::from_secs(10);

/// What the start has found on disk and brought into memory.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The files of the append-only directory, also when they were not loaded (`appendonly no`).
    pub manifest: Manifest,
    /// The first id that no operation over several segments has.
    pub next_operation: OperationId,
    /// Where the data set stands in a replication stream, if it says so.
    pub stored: Option<Standing>,
}

/// Why there is no data set.
#[derive(Debug)]
pub enum LoadError {
    /// Somebody wants the node to end before it has begun.
    NodeEnds,
    /// A sentence for the user.
    Fatal(String),
}

/// Whether clients are to be told from the first moment that the node loads.
pub fn is_expected(config: &Config) -> bool {
    config.appendonly || config.dbfilename.path().exists()
}

impl Coordinator {
    /// Loads what the configuration says.
    pub(super) fn load(&self, disk: &mut impl FileLayer) -> Result<Loaded, LoadError> {
        let config = self.node.current_config();
        leftovers::remove(disk, Path::new("."));
        if config.appendonly {
            return self.load_append_only(disk, LoadTo::Shards);
        }
        let manifest = aof::manifest(&config)?;
        let began = Instant::now();
        let path = config.dbfilename.path();
        let (is_replica, stored) = (self.node.replication.is_replica(), rdb::standing_of(path));
        // Replicas may go on from where the file stands: they are to hear of every key that is gone, and of every change from now on.
        let rules = LoadRules { keeps_expired: is_replica || stored.is_some(), ..LoadRules::default() };
        if let Some(stored) = stored
            && !is_replica
        {
            // Before anything is loaded: of the first key that expires replicas are to hear. Without a file nobody waits for it to
            // be loaded: a replica may be here already, and have changed the mode.
            self.node.replication.set_mode(Mode { feeds: true, is_replica: false });
            self.node.replication.tell(ToPeers::Restore(stored));
        }
        if self.load_rdb(path, rules, LoadTo::Shards)?.is_some() {
            log::notice(&format!("DB loaded from disk: {:.3} seconds", began.elapsed().as_secs_f64()));
        }
        Ok(Loaded { manifest, next_operation: OperationId::default(), stored })
    }
}

impl Coordinator {
    /// DEBUG RELOAD, whose handler has closed the node to all commands but those of a node that loads.
    pub(super) fn reload(&self, reload: Reload) {
        let config = self.node.current_config();
        let rules = LoadRules { replaces: reload.replaces, ..LoadRules::default() };
        let to = if reload.empties { LoadTo::EmptiedShards } else { LoadTo::Shards };
        let loaded = self.load_rdb(config.dbfilename.path(), rules, to);
        match &loaded {
            Ok(Some(_)) => log::warning("DB reloaded by DEBUG RELOAD"),
            Ok(None) | Err(LoadError::NodeEnds) => {}
            Err(LoadError::Fatal(why)) => log::warning(why),
        }
        let failed = b"-ERR Error trying to load the RDB dump, check server logs\r\n";
        self.reopen(reload.asker, if matches!(loaded, Ok(Some(_))) { b"+OK\r\n" } else { failed });
    }

    /// DEBUG LOADAOF, likewise.
    pub(super) fn reload_append_only(&self, disk: &mut impl FileLayer, asker: Asker) {
        let loaded = self.load_append_only(disk, LoadTo::EmptiedShards);
        match &loaded {
            Ok(_) => log::warning("Append Only File loaded by DEBUG LOADAOF"),
            Err(LoadError::NodeEnds) => {}
            Err(LoadError::Fatal(why)) => log::warning(why),
        }
        let failed = b"-ERR Error trying to load the AOF files, check server logs.\r\n";
        self.reopen(asker, if loaded.is_ok() { b"+OK\r\n" } else { failed });
    }

    /// The data set of the primary, in place of what is in memory. The node was closed as for a reload, but for reading where that is
    /// kept until the other is whole.
    pub(super) fn load_for_replica(&self, load: ReplicaLoad) {
        let config = self.node.current_config();
        let rules = LoadRules { keeps_expired: true, ..LoadRules::default() };
        let persistence = &self.node.persistence;
        // Something else may have opened it since.
        persistence.close(load.shows_old());
        let loaded = match load {
            ReplicaLoad::File { path, file } => {
                let place = config.dbfilename.path();
                let placed = put_in_place(&path, &file, place);
                let loaded = placed.and_then(|()| self.load_rdb(place, rules, LoadTo::EmptiedShards));
                if config.rdb_del_sync_files && !config.keeps_data() {
                    log::notice("Removing the RDB file obtained from the master. This replica has persistence disabled");
                    let _gone_already = std::fs::remove_file(place);
                }
                loaded
            }
            ReplicaLoad::Stream { received, total, to, .. } => {
                self.load_stream(Source::stream(received, total.unwrap_or(0)), rules, to).map(Some)
            }
        };
        let loaded = match loaded {
            Ok(Some(stored)) => Ok(stored.stream_db()),
            Ok(None) => Err("the file is gone".to_owned()),
            Err(LoadError::NodeEnds) => Err("the node ends".to_owned()),
            Err(LoadError::Fatal(why)) => Err(why),
        };
        if config.appendonly {
            // What was appended so far has nothing to do with this data: the file begins anew.
            persistence.is_founded.store(false, Ordering::Release);
            persistence.aof().begins_anew = true;
        }
        persistence.open();
        self.node.replication.tell(ToPeers::Loaded(loaded));
    }

    /// Opens the node again, and answers.
    pub(super) fn reopen(&self, to: Asker, reply: &[u8]) {
        self.node.persistence.open();
        self.to_cores.tell(to.core, ToCore::Reply { to, reply: reply.to_vec() });
    }
}

/// A data set that has come from a primary becomes the node's RDB file.
fn put_in_place(temporary: &Path, file: &File, path: &Path) -> Result<(), LoadError> {
    file.sync_all().and_then(|()| std::fs::rename(temporary, path)).map_err(|error| {
        let _gone_already = std::fs::remove_file(temporary);
        LoadError::Fatal(format!("putting the file in place: {}", os_reason(&error)))
    })
}

/// One load: the way to the cores, and what they say.
struct Session<'c> {
    node: &'c Node,
    to_cores: &'c ToCores,
    reports: Receiver<LoadReport>,
    /// Bytes of records and commands sent.
    sent: u64,
    /// Bytes of the files before the one that is read.
    before: u64,
    told: Instant,
    delay: Delay,
    /// Where the data set stands in a replication stream, as far as it has said so.
    stored: StoredStanding,
}

/// `key-load-delay`, by which tests make loading last.
struct Delay {
    /// Nanoseconds for each key.
    nanos: u64,
    /// What has not been waited yet.
    due: Duration,
}

impl Delay {
    /// From microseconds for each key or, below zero, keys for each microsecond.
    fn new(setting: i32) -> Self {
        let size = u64::from(setting.unsigned_abs());
        let nanos = if setting >= 0 { size * 1000 } else { 1000 / size };
        Delay { nanos, due: Duration::ZERO }
    }
}

impl<'c> Session<'c> {
    /// Has every core begin. `bytes`: of all files together.
    fn begin(coordinator: &'c Coordinator, bytes: u64, rules: LoadRules, to: LoadTo) -> Self {
        let Coordinator { node, to_cores, .. } = coordinator;
        node.persistence.begin_load(clock::wall_ms() / 1000, bytes);
        let (sender, reports): (Sender<LoadReport>, _) = unbounded();
        let delay = Delay::new(node.current_config().key_load_delay);
        for core in 0..to_cores.cores() {
            let begin = BeginLoad { rules, to, reports: sender.clone() };
            to_cores.tell(core, ToCore::Load(Load::Begin(begin)));
        }
        let stored = StoredStanding::default();
        Session { node, to_cores, reports, sent: 0, before: 0, told: Instant::now(), delay, stored }
    }

    /// Sends the first core something of no size.
    fn tell_first(&self, load: Load) {
        self.to_cores.tell(0, ToCore::Load(load));
    }

    /// Sends something of so many bytes, when there is room on the way.
    fn send(&mut self, core: usize, load: Load, bytes: usize) -> Result<(), LoadError> {
        let applied = &self.node.persistence.load.applied_bytes;
        while self.sent - applied.load(Ordering::Relaxed) > WINDOW_BYTES {
            self.look()?;
            std::thread::sleep(WINDOW_LOOK);
        }
        self.sent += bytes as u64;
        self.to_cores.tell(core, ToCore::Load(load));
        Ok(())
    }

    /// Whether anything forbids to go on.
    fn look(&self) -> Result<(), LoadError> {
        if self.node.shutdown.is_requested() {
            return Err(LoadError::NodeEnds);
        }
        match self.reports.try_recv() {
            Ok(LoadReport::Fault(fault)) => Err(faulty(&fault)),
            _ => Ok(()),
        }
    }

    /// Notes how far the file is read, and tells it from time to time.
    fn read(&mut self, offset: u64) -> Result<(), LoadError> {
        let progress = &self.node.persistence.load;
        let (read, total) = (self.before + offset, progress.total_bytes.load(Ordering::Relaxed));
        progress.read_bytes.store(read, Ordering::Relaxed);
        if self.told.elapsed() >= TELL {
            self.told = Instant::now();
            log::notice(&format!("Loading the data set: {:.2}% done", 100.0 * read as f64 / total.max(1) as f64));
        }
        self.look()
    }

    /// A key or command more, which ends at this offset.
    #[inline]
    fn delay(&mut self, offset: u64) -> Result<(), LoadError> {
        if self.delay.nanos == 0 {
            return Ok(());
        }
        self.delay.due += Duration::from_nanos(self.delay.nanos);
        if self.delay.due >= DELAY_MIN {
            std::thread::sleep(std::mem::take(&mut self.delay.due));
            self.read(offset)?;
        }
        Ok(())
    }

    /// Waits until the cores are through with all that was sent.
    fn flush(&mut self) -> Result<(), LoadError> {
        self.all_answer(|| Load::Flush)
    }

    /// The data set is whole, or nothing more of it comes. `keeps`: then what was loaded stays where it is.
    fn finish(self, read: Result<(), LoadError>, keeps: bool) -> Result<StoredStanding, LoadError> {
        match read {
            Ok(()) => self.all_answer(|| Load::End { keeps: true }).map(|()| self.stored),
            Err(error) => {
                self.tell_all(|| Load::End { keeps });
                Err(error)
            }
        }
    }

    /// What was loaded beside the data set takes its place.
    fn take_beside(&self) -> Result<(), LoadError> {
        self.tell_first(Load::TakeBeside);
        self.await_answers(1)
    }

    fn tell_all(&self, step: impl Fn() -> Load) {
        (0..self.to_cores.cores()).for_each(|core| self.to_cores.tell(core, ToCore::Load(step())));
    }

    fn all_answer(&self, step: impl Fn() -> Load) -> Result<(), LoadError> {
        self.tell_all(step);
        self.await_answers(self.to_cores.cores())
    }

    fn await_answers(&self, mut due: usize) -> Result<(), LoadError> {
        while due > 0 {
            match self.reports.recv_timeout(LOOK) {
                Ok(LoadReport::Done) => due -= 1,
                Ok(LoadReport::Fault(fault)) => return Err(faulty(&fault)),
                Err(RecvTimeoutError::Disconnected) => return Err(LoadError::NodeEnds),
                Err(RecvTimeoutError::Timeout) => self.look()?,
            }
        }
        Ok(())
    }
}

fn faulty(fault: &Fault) -> LoadError {
    LoadError::Fatal(match fault {
        Fault::Record(fault) => format!("Fatal error loading the DB: {fault}. Exiting."),
        Fault::Command(what) => format!("Fatal error loading the append only file: {what}. Exiting."),
    })
}
