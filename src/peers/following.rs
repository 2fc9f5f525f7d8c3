//! The primary that this node follows: the connection to it, the data set that it sends, its stream on the way to the shards, and
//! the change from one role to the other.
//!
//! A change of role, or of the primary, waits until all that was fetched of the stream is applied: the node's place in its history is
//! then what its shards hold. The shards change over in one moment, in which all of them are in one place.

use super::Peers;
use super::connection::{self, Outbox, Post};
use super::status::Mode;
use crate::config::structures::{PrimaryAddress, os_reason};
use crate::config::values::DisklessLoad;
use crate::coordinator::contract::{Asker, LoadTo, Order, Received, ReplicaLoad, ToCore};
use crate::core::log::Mark;
use crate::core::shared::Node;
use crate::observe::{clock, log};
use crate::protocol::Args;
use crate::replication::failover::Ask;
use crate::replication::history::{Offset, Standing};
use crate::replication::link::stream::Kind;
use crate::replication::link::{self, Address, Input, Output};
use crossbeam_channel::{Sender, unbounded};
use kvshard::effects::write_command;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes of the stream that the first core takes at once, and how many parts may be on their way to it.
const PART_BYTES: usize = 64 << 10;
const PARTS_MAX: usize = 4;
/// Reads of a data set that wait for the coordinator.
const TRANSFER_WAITING_MAX: usize = 16;
/// Parts that are fetched and wait; nothing more is fetched then, and soon nothing more is read.
const PARTS_WAITING_MAX: usize = 16;

#[derive(Default)]
pub(super) struct Following {
    /// The connection, with the number that tells it from earlier ones.
    outbox: Option<Outbox>,
    connections: u64,
    /// The data set of the start is being loaded, and the machine does not know yet whom the configuration has it follow.
    pub is_starting: bool,
    transfer: Transfer,
    /// Data sets that were given up while they were being loaded.
    loads_given_up: usize,
    // ---- the stream ----
    args: Args,
    /// Fetched, not yet sent to the first core; the last one still grows.
    waiting: VecDeque<Part>,
    /// The end of what was fetched, outside of any block.
    fetched: Offset,
    in_block: bool,
    /// The database that the commands so far have selected, and where the shards are.
    db: u32,
    applied_db: u32,
    /// Of the parts that were sent.
    sent_dbs: VecDeque<u32>,
    /// A mark behind a place of the stream, for the primary that waits for disks. One at a time.
    mark: Option<(Offset, Arc<Mark>)>,
    // ---- the role ----
    changes: VecDeque<Change>,
    /// What was ordered of the shards and is not done.
    pub wanted: Option<Mode>,
    /// The first change waits for the shards.
    is_switching: bool,
}

/// A data set on its way here.
#[derive(Default)]
enum Transfer {
    #[default]
    None,
    ToFile(PathBuf, File),
    /// The coordinator loads it while it comes. `is_whole`: as soon as the stream so far is applied, it is to take the node's place.
    ToCoordinator {
        sender: Sender<Received>,
        is_whole: bool,
    },
    /// The coordinator has all of it.
    Loading,
}

#[derive(Default)]
struct Part {
    bytes: Vec<u8>,
    end: Offset,
    db: u32,
}

struct Change {
    /// None: the node becomes a primary.
    to: Option<Address>,
    asker: Option<Asker>,
}

impl Peers {
    // ---- whom to follow ----

    /// The data set is here, at the start.
    pub(super) fn restore(&mut self, stored: Standing) {
        self.machine.restore_as_primary(clock::wall_ms(), stored, &mut self.outputs);
        self.settle();
    }

    pub(super) fn started(&mut self, stored: Option<Standing>) {
        self.following.is_starting = false;
        if let Some(PrimaryAddress { host, port }) = self.config.replicaof.clone() {
            self.machine.start_as_replica(clock::wall_ms(), Address { host, port }, stored, &mut self.outputs);
        }
        self.settle();
    }

    pub(super) fn replica_of(&mut self, to: Option<PrimaryAddress>, asker: Option<Asker>) {
        let to = to.map(|PrimaryAddress { host, port }| Address { host, port });
        if self.machine.is_failing_over() {
            return self.answer(asker, b"-ERR REPLICAOF not allowed while failing over.\r\n");
        }
        self.following.changes.push_back(Change { to, asker });
        self.go_on_changing();
    }

    /// Begins the first change, when everything fetched so far is applied and no other change is under way.
    fn go_on_changing(&mut self) {
        while !self.following.is_switching && self.following.wanted.is_none() && self.is_all_applied() {
            let Some(to) = self.following.changes.front().map(|change| change.to.clone()) else { return };
            match (to, self.machine.is_replica()) {
                (Some(to), true) if self.machine.link().primary() == Some(&to) => {
                    log::notice(
                        "REPLICAOF would result into synchronization with the master we are already connected with. No operation performed.",
                    );
                    self.changed(b"+OK Already connected to specified master\r\n");
                }
                (None, false) => self.changed(b"+OK\r\n"),
                (Some(to), true) => self.follow(to),
                (None, true) => {
                    self.following.is_switching = true;
                    self.machine.step_link(clock::wall_ms(), Input::NoOne, &mut self.outputs);
                    self.settle();
                    self.want_mode(Mode { feeds: self.machine.primary().is_fed(), is_replica: false });
                }
                (Some(_), false) => {
                    self.following.is_switching = true;
                    self.want_mode(Mode { feeds: false, is_replica: true });
                }
            }
        }
    }

    /// FAILOVER.
    pub(super) fn fail_over(&mut self, ask: Ask, asker: Option<Asker>) {
        self.stream_on();
        let answer = self.machine.fail_over(clock::wall_ms(), ask, &mut self.outputs);
        self.settle();
        match answer {
            Ok(()) => self.answer(asker, b"+OK\r\n"),
            Err(text) => self.answer(asker, format!("-ERR {text}\r\n").as_bytes()),
        }
    }

    /// The shards have changed over.
    pub(super) fn switched(&mut self) {
        self.stream_on();
        if self.following.wanted != Some(self.node.replication.mode()) {
            // Another change was wanted meanwhile.
            return;
        }
        self.following.wanted = None;
        if self.following.changes.is_empty() {
            // A failover has changed the role.
            self.remember(self.machine.link().primary().cloned().as_ref());
        }
        if std::mem::take(&mut self.following.is_switching) {
            match self.following.changes.front().and_then(|change| change.to.clone()) {
                Some(to) => self.follow(to),
                None => {
                    log::notice("MASTER MODE enabled (user request)");
                    self.changed(b"+OK\r\n");
                }
            }
        }
        self.go_on_changing();
    }

    fn follow(&mut self, to: Address) {
        log::notice(&format!("REPLICAOF {to} enabled (user request)"));
        self.machine.replica_of(clock::wall_ms(), to, &mut self.outputs);
        self.settle();
        self.changed(b"+OK\r\n");
    }

    /// The first change is done.
    fn changed(&mut self, reply: &[u8]) {
        if let Some(change) = self.following.changes.pop_front() {
            self.remember(change.to.as_ref());
            self.answer(change.asker, reply);
        }
    }

    /// The configuration says it too, for CONFIG REWRITE.
    fn remember(&mut self, primary: Option<&Address>) {
        let to = primary.map(|address| PrimaryAddress { host: address.host.clone(), port: address.port });
        self.node.set_replicaof(to);
        (0..self.to_cores.cores()).for_each(|core| self.to_cores.tell(core, ToCore::Configure));
    }

    // ---- the connection ----

    pub(super) fn perform_for_link(&mut self, output: Output) {
        match output {
            Output::Connect(address) => {
                self.following.connections += 1;
                if let Some(peers) = self.own.upgrade() {
                    let number = self.following.connections;
                    let client = self.node.next_client_id.fetch_add(1, Ordering::Relaxed);
                    let connects = connection::connect(peers, number, client, address.host, address.port);
                    glommio::spawn_local(connects).detach();
                }
            }
            Output::Send(bytes) => {
                if let Some(outbox) = &self.following.outbox {
                    outbox.post(Post::Bytes(bytes.into()));
                }
            }
            Output::Close => {
                self.following.connections += 1;
                if let Some(outbox) = self.following.outbox.take() {
                    outbox.shut_down();
                }
            }
            Output::LoadBegins { bytes, to, is_same_history } => self.load_begins(bytes, to, is_same_history),
            Output::LoadBytes(bytes) => self.load_bytes(bytes),
            Output::LoadEnds => self.load_ends(),
            Output::LoadAborted => self.load_aborted(),
            Output::DropBlock => self.drop_block(),
            // The machine of both sides has taken notice.
            Output::History(_) | Output::FailoverAnswered(_) => {}
            Output::Log(level, message) => log::write(level, &message),
        }
    }

    /// Whether a connection is still the one to the primary.
    pub(super) fn is_current(&self, number: u64) -> bool {
        self.following.connections == number
    }

    fn step_link(&mut self, input: Input<'_>) {
        self.machine.step_link(clock::wall_ms(), input, &mut self.outputs);
        self.fetch();
        self.settle();
        self.go_on_changing();
    }

    pub(super) fn connected(&mut self, number: u64, connected: io::Result<Outbox>) {
        if self.is_current(number) {
            match connected {
                Ok(outbox) => {
                    self.following.outbox = Some(outbox);
                    self.machine.link_mut().config = directives(&self.node);
                    self.step_link(Input::Connected);
                }
                Err(error) => self.step_link(Input::ConnectFailed(os_reason(&error))),
            }
        }
    }

    pub(super) fn primary_said(&mut self, number: u64, bytes: &[u8]) {
        if self.is_current(number) {
            self.step_link(Input::Received(bytes));
        }
    }

    pub(super) fn primary_closed(&mut self, number: u64, why: &str) {
        if self.is_current(number) {
            self.following.outbox = None;
            self.step_link(Input::Closed(why.to_owned()));
        }
    }

    /// Whether more of the stream may be read.
    pub(super) fn has_room(&self) -> bool {
        let is_taken = match &self.following.transfer {
            Transfer::ToCoordinator { sender, .. } => sender.len() < TRANSFER_WAITING_MAX,
            _ => true,
        };
        is_taken && self.following.waiting.len() < PARTS_WAITING_MAX && self.machine.link().wants_bytes()
    }

    // ---- the data set ----

    fn load_begins(&mut self, total: Option<u64>, to: link::LoadTo, is_same_history: bool) {
        let (to, shows_old) = match to {
            link::LoadTo::Disk => return self.create_file(),
            link::LoadTo::Memory => (LoadTo::EmptiedShards, false),
            link::LoadTo::Beside => (LoadTo::Beside, is_same_history),
        };
        let (sender, received) = unbounded();
        self.following.transfer = Transfer::ToCoordinator { sender, is_whole: false };
        self.order_load(ReplicaLoad::Stream { received, total, to, shows_old });
    }

    fn create_file(&mut self) {
        let path = PathBuf::from(format!("temp-{}.{}.rdb", clock::wall_ms() / 1000, std::process::id()));
        match File::create(&path) {
            Ok(file) => self.following.transfer = Transfer::ToFile(path, file),
            Err(error) => {
                self.load_failed(&format!("Opening the temp file needed for MASTER <-> REPLICA synchronization: {error}"))
            }
        }
    }

    fn load_bytes(&mut self, bytes: Vec<u8>) {
        match &mut self.following.transfer {
            Transfer::ToFile(_, file) => {
                if let Err(error) = file.write_all(&bytes) {
                    self.load_failed(&format!(
                        "Write error writing to the DB dump file needed for MASTER <-> REPLICA synchronization: {error}"
                    ));
                }
            }
            // A coordinator that has given it up says so.
            Transfer::ToCoordinator { sender, .. } => drop(sender.send(Received::Bytes(bytes))),
            Transfer::None | Transfer::Loading => {}
        }
    }

    fn load_ends(&mut self) {
        match std::mem::take(&mut self.following.transfer) {
            Transfer::ToFile(path, file) => {
                self.following.transfer = Transfer::Loading;
                self.order_load(ReplicaLoad::File { path, file });
            }
            Transfer::ToCoordinator { sender, .. } => {
                self.following.transfer = Transfer::ToCoordinator { sender, is_whole: true };
                self.hand_over_transfer();
            }
            Transfer::None | Transfer::Loading => {}
        }
    }

    /// A transfer that is whole may take the node's place when nothing of the stream is on its way to the shards.
    fn hand_over_transfer(&mut self) {
        if self.is_all_applied()
            && let Transfer::ToCoordinator { sender, is_whole: true } = &self.following.transfer
        {
            let _given_up = sender.send(Received::Whole);
            self.following.transfer = Transfer::Loading;
        }
    }

    fn order_load(&mut self, load: ReplicaLoad) {
        let persistence = &self.node.persistence;
        // What is being saved is about to be replaced.
        persistence.give_up.store(true, Ordering::Relaxed);
        persistence.close(load.shows_old());
        if !load.is_beside() {
            self.forget_stream();
        }
        // If the coordinator is gone the node is ending.
        let _gone = self.node.to_coordinator.send(Order::LoadForReplica(load));
    }

    fn load_failed(&mut self, why: &str) {
        self.drop_transfer();
        self.machine.step_link(clock::wall_ms(), Input::LoadFailed(why.to_owned()), &mut self.outputs);
    }

    /// A file goes; true if the coordinator has heard of the data set.
    fn drop_transfer(&mut self) -> bool {
        match std::mem::take(&mut self.following.transfer) {
            Transfer::None => false,
            Transfer::ToFile(path, _) => {
                let _gone_already = std::fs::remove_file(path);
                false
            }
            Transfer::ToCoordinator { .. } | Transfer::Loading => true,
        }
    }

    fn load_aborted(&mut self) {
        self.following.loads_given_up += usize::from(self.drop_transfer());
    }

    pub(super) fn loaded(&mut self, result: Result<Option<u32>, String>) {
        if self.following.loads_given_up > 0 {
            self.following.loads_given_up -= 1;
            return;
        }
        self.following.transfer = Transfer::None;
        match result {
            Ok(db) => {
                // Of a data set beside the node's own this is the moment; the other ones have forgotten when their load began.
                self.forget_stream();
                self.following.applied_db = db.unwrap_or_default();
                self.step_link(Input::LoadFinished { db });
            }
            Err(why) => self.step_link(Input::LoadFailed(why)),
        }
    }

    // ---- the stream ----

    /// Fetches what has come of the stream, and sends it on its way to the shards.
    pub(super) fn fetch(&mut self) {
        let now = clock::wall_ms();
        let mut args = std::mem::take(&mut self.following.args);
        while self.following.changes.is_empty() && self.following.waiting.len() < PARTS_WAITING_MAX {
            let Some((fetched, bytes)) = self.machine.next(now, &mut args, &mut self.outputs) else { break };
            self.following.take(fetched, bytes);
        }
        self.following.args = args;
        self.machine.pass_stream_on(now, &mut self.outputs);
        self.send_parts();
    }

    fn send_parts(&mut self) {
        while self.following.sent_dbs.len() < PARTS_MAX
            && let Some(Part { bytes, end, db }) = self.following.waiting.pop_front()
        {
            self.following.sent_dbs.push_back(db);
            self.to_cores.tell(0, ToCore::Apply { bytes, end: end.0 });
        }
        if self.is_all_applied() {
            // Whatever came last had nothing to be run.
            let end = self.following.fetched;
            if self.machine.link().applied() < end {
                self.machine.step_link(clock::wall_ms(), Input::Applied(end), &mut self.outputs);
            }
        }
    }

    /// The place of the stream that the shards are at, to be asked while they are held there.
    pub(super) fn place_of_shards(&self) -> Offset {
        if self.machine.is_replica() { self.machine.link().applied() } else { self.machine.offset() }
    }

    /// The same with the history's id, for an RDB file; `None`: there is no stream.
    pub(super) fn standing(&self) -> Option<Standing> {
        let standing = self.machine.standing(self.selected)?;
        if !self.machine.is_replica() {
            return Some(standing);
        }
        Some(Standing { offset: self.place_of_shards(), db: self.following.applied_db, ..standing })
    }

    fn is_all_applied(&self) -> bool {
        self.following.sent_dbs.is_empty() && self.following.waiting.is_empty()
    }

    /// The first core says how far the shards are.
    pub(super) fn applied(&mut self, parts: usize, end: u64) {
        for _ in 0..parts {
            let db = self.following.sent_dbs.pop_front();
            self.following.applied_db = db.unwrap_or(self.following.applied_db);
        }
        self.hand_over_transfer();
        self.step_link(Input::Applied(Offset(end)));
    }

    /// What is applied is on disk some time later, if the node appends: that is found out, and told the primary.
    pub(super) fn look_at_disk(&mut self) {
        if !self.machine.link().is_up() {
            return;
        }
        let (was_on_disk, is_appended) = (self.machine.link().on_disk(), self.node.persistence.is_appended());
        let reached = self.following.mark.take_if(|(_, mark)| is_appended && mark.is_synced()).map(|(place, _)| place);
        let on_disk = if self.config.appendonly { reached.or(was_on_disk) } else { None };
        if on_disk != was_on_disk {
            self.machine.step_link(clock::wall_ms(), Input::OnDisk(on_disk), &mut self.outputs);
        }
        let applied = self.machine.link().applied();
        if self.config.appendonly && self.following.mark.is_none() && on_disk < Some(applied) {
            let mark = Mark::new(self.node.cores);
            self.following.mark = Some((applied, mark.clone()));
            self.to_cores.tell(0, ToCore::Mark(mark));
        }
    }

    /// Commands of a block whose end never came are not to be run.
    fn drop_block(&mut self) {
        if std::mem::take(&mut self.following.in_block) {
            let end = self.following.fetched;
            let part = self.following.growing();
            write_command(&mut part.bytes, [&b"DISCARD"[..]].into_iter());
            part.end = end;
            self.send_parts();
        }
    }

    /// Other data is about to take the place of what the stream was about.
    fn forget_stream(&mut self) {
        self.following.waiting.clear();
        self.following.sent_dbs.clear();
        self.following.mark = None;
        (self.following.in_block, self.following.db, self.following.applied_db) = (false, 0, 0);
        // A place in another history, which may be further than any of the next one's.
        self.following.fetched = Offset(0);
        self.to_cores.tell(0, ToCore::ForgetStream);
    }
}

impl Following {
    pub fn new(is_starting: bool) -> Following {
        Following { is_starting, ..Following::default() }
    }

    pub fn outbox(&self) -> Option<&Outbox> {
        self.outbox.as_ref()
    }

    /// The shards are being told that the node is a replica, which it is from then on.
    pub fn is_becoming_replica(&self) -> bool {
        self.is_switching && self.changes.front().is_some_and(|change| change.to.is_some())
    }

    fn take(&mut self, fetched: link::Fetched, bytes: &[u8]) {
        match fetched.kind {
            Kind::Own => {}
            Kind::Command | Kind::Multi | Kind::Exec => {
                let db = (fetched.db != self.db).then_some(fetched.db);
                self.db = fetched.db;
                let part = self.growing();
                if let Some(db) = db {
                    write_command(&mut part.bytes, [&b"SELECT"[..], itoa::Buffer::new().format(db).as_bytes()].into_iter());
                }
                part.bytes.extend_from_slice(bytes);
                self.in_block = fetched.kind == Kind::Multi || self.in_block && fetched.kind != Kind::Exec;
            }
        }
        if !self.in_block {
            self.fetched = fetched.end;
            if let Some(part) = self.waiting.back_mut() {
                (part.end, part.db) = (fetched.end, fetched.db);
            }
        }
    }

    /// The part that takes more.
    fn growing(&mut self) -> &mut Part {
        if self.waiting.back().is_none_or(|part| part.bytes.len() >= PART_BYTES) {
            self.waiting.push_back(Part { bytes: Vec::new(), end: self.fetched, db: self.db });
        }
        self.waiting.back_mut().expect("pushed above")
    }
}

/// The directives that a replica goes by, for the keyspace as it is.
pub(super) fn directives(node: &Node) -> link::Config {
    let config = node.current_config();
    let text = |text: &[u8]| (!text.is_empty()).then(|| text.to_vec());
    let port = if config.replica_announce_port > 0 { config.replica_announce_port } else { config.port };
    link::Config {
        masterauth: text(&config.masterauth),
        masteruser: text(&config.masteruser),
        port,
        replica_announce_ip: text(&config.replica_announce_ip).map(|ip| String::from_utf8_lossy(&ip).into_owned()),
        repl_timeout_s: config.repl_timeout,
        load_to: match config.repl_diskless_load {
            DisklessLoad::OnEmptyDb if node.keys() == 0 => link::LoadTo::Memory,
            DisklessLoad::Disabled | DisklessLoad::OnEmptyDb => link::LoadTo::Disk,
            DisklessLoad::Swapdb => link::LoadTo::Beside,
        },
    }
}
