//! The primary that this node follows: the connection to it, the data set that it sends, its stream on the way to the shards, and
//! the change from one role to the other.
//!
//! A change of role, or of the primary, waits until all that was fetched of the stream is applied: the node's place in its history is
//! then what its shards hold. The shards change over in one moment, in which all of them are in one place.

use super::Peers;
use super::connection::{self, Outbox, Post};
use super::status::Mode;
use crate::config::Config;
use crate::config::structures::PrimaryAddress;
use crate::coordinator::contract::{Asker, Order, ToCore};
use crate::core::log::Mark;
use crate::observe::{clock, log};
use crate::protocol::Args;
use crate::replication::failover::Ask;
use crate::replication::history::{Offset, Standing};
use crate::replication::link::stream::Kind;
use crate::replication::link::{self, Address, Input, LoadTo, Output};
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
/// Parts that are fetched and wait; nothing more is fetched then, and soon nothing more is read.
const PARTS_WAITING_MAX: usize = 16;

#[derive(Default)]
pub(super) struct Following {
    /// The connection, with the number that tells it from earlier ones.
    outbox: Option<Outbox>,
    connections: u64,
    /// The data set on its way to disk.
    file: Option<(PathBuf, File)>,
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
    /// Changes of the shards' mode that were ordered and are not done.
    pub switches: usize,
    /// The first change waits for the shards.
    is_switching: bool,
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
    pub(super) fn started(&mut self, stored: Option<Standing>) {
        let now = clock::wall_ms();
        match self.config.replicaof.clone() {
            Some(PrimaryAddress { host, port }) => {
                self.machine.start_as_replica(now, Address { host, port }, stored, &mut self.outputs);
            }
            None => {
                if let Some(stored) = stored {
                    self.machine.restore_as_primary(now, stored, &mut self.outputs);
                }
            }
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
        while !self.following.is_switching && self.following.switches == 0 && self.is_all_applied() {
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
                    let before = self.following.switches;
                    self.machine.step_link(clock::wall_ms(), Input::NoOne, &mut self.outputs);
                    self.settle();
                    if self.following.switches == before {
                        self.want_mode(Mode { feeds: false, is_replica: false });
                    }
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
        if self.node.replication.mode() != self.node.replication.wanted_mode() {
            // Another change was wanted meanwhile.
            return;
        }
        self.following.switches = 0;
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
        {
            let mut config = self.node.config.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if config.replicaof == to {
                return;
            }
            let mut next = (**config).clone();
            next.replicaof = to;
            *config = Arc::new(next);
        }
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
            Output::LoadBegins { .. } => self.load_begins(),
            Output::LoadBytes(bytes) => self.load_bytes(&bytes),
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
                    self.step_link(Input::Connected);
                }
                Err(error) => self.step_link(Input::ConnectFailed(crate::config::structures::os_reason(&error))),
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
        self.following.waiting.len() < PARTS_WAITING_MAX && self.machine.link().wants_bytes()
    }

    // ---- the data set ----

    fn load_begins(&mut self) {
        let path = PathBuf::from(format!("temp-{}.{}.rdb", clock::wall_ms() / 1000, std::process::id()));
        match File::create(&path) {
            Ok(file) => self.following.file = Some((path, file)),
            Err(error) => {
                self.load_failed(&format!("Opening the temp file needed for MASTER <-> REPLICA synchronization: {error}"))
            }
        }
    }

    fn load_bytes(&mut self, bytes: &[u8]) {
        if let Some((_, file)) = &mut self.following.file
            && let Err(error) = file.write_all(bytes)
        {
            self.load_failed(&format!(
                "Write error writing to the DB dump file needed for MASTER <-> REPLICA synchronization: {error}"
            ));
        }
    }

    fn load_ends(&mut self) {
        let Some((path, file)) = self.following.file.take() else { return };
        let placed = file.sync_all().and_then(|()| std::fs::rename(&path, self.config.dbfilename.path()));
        if let Err(error) = placed {
            let _gone_already = std::fs::remove_file(&path);
            return self.load_failed(&format!("putting the file in place: {error}"));
        }
        let persistence = &self.node.persistence;
        // What is being saved is about to be replaced.
        persistence.give_up.store(true, Ordering::Relaxed);
        persistence.loading.store(true, Ordering::SeqCst);
        self.forget_stream();
        // If the coordinator is gone the node is ending.
        let _gone = self.node.to_coordinator.send(Order::LoadForReplica);
    }

    fn load_failed(&mut self, why: &str) {
        if let Some((path, _)) = self.following.file.take() {
            let _gone_already = std::fs::remove_file(path);
        }
        self.machine.step_link(clock::wall_ms(), Input::LoadFailed(why.to_owned()), &mut self.outputs);
    }

    fn load_aborted(&mut self) {
        match self.following.file.take() {
            Some((path, _)) => drop(std::fs::remove_file(path)),
            None if self.node.persistence.loading.load(Ordering::SeqCst) => self.following.loads_given_up += 1,
            None => {}
        }
    }

    pub(super) fn loaded(&mut self, result: Result<Option<u32>, String>) {
        if self.following.loads_given_up > 0 {
            self.following.loads_given_up -= 1;
            return;
        }
        match result {
            Ok(db) => {
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
    pub fn outbox(&self) -> Option<&Outbox> {
        self.outbox.as_ref()
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

/// The directives that a replica goes by.
pub(super) fn directives(config: &Config) -> link::Config {
    let text = |text: &[u8]| (!text.is_empty()).then(|| text.to_vec());
    let port = if config.replica_announce_port > 0 { config.replica_announce_port } else { config.port };
    link::Config {
        masterauth: text(&config.masterauth),
        masteruser: text(&config.masteruser),
        port,
        replica_announce_ip: text(&config.replica_announce_ip).map(|ip| String::from_utf8_lossy(&ip).into_owned()),
        repl_timeout_s: config.repl_timeout,
        // Others would need room for two data sets, or leave none when they fail: a file has neither fault.
        load_to: LoadTo::Disk,
    }
}
