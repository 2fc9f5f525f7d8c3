//! The loop of one core: completions in, the engine's work, output and wakes out, one system call a turn.
//!
//! Owns the ring and the listening sockets' accepts; everything else is the engine's. A turn is: take completions, read mail,
//! resume what may go on, flush mail and output, then submit and sleep until something happens.

use super::coalesce::{self, Coalescer};
use super::listener::{self, Listener};
use super::listening::Listening;
use super::{Completion, Errno, Ring, Token};
use crate::core::connection::Stall;
use crate::core::log::LogOperation;
use crate::dispatch::Engine;
use crate::dispatch::mesh::Adopted;
use crate::observe::{clock, log};
use slab::Slab;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What a completion belongs to.
mod kind {
    pub const ACCEPT: u8 = 1;
    pub const RECEIVE: u8 = 2;
    pub const SEND: u8 = 3;
    pub const LOG: u8 = 4;
}

/// How long a core with answers outstanding looks at its inbox before it sleeps. A wake costs more, but longer looks were no
/// gain in any measurement (0, 3, 20 µs; two cores beside their client on two CPUs).
const LOOK_NANOS: u64 = 3_000;
/// How long a core that ends waits for the others to have ended what concerns it.
const LAST_MAIL_NANOS: u64 = 2_000_000_000;
/// How long the end of the node waits for the log to be on disk.
const LAST_WRITES_NANOS: u64 = 30_000_000_000;
/// How long an accept that met the limit on descriptors pauses, milliseconds.
const ACCEPT_PAUSE_MS: i64 = 100;

pub struct Runtime {
    ring: Ring,
    engine: Engine,
    /// Only the accepting core has it.
    listening: Option<Arc<Listening>>,
    /// The sockets whose accepts are armed, of the version below.
    listeners: Slab<Accepting>,
    listening_version: u32,
    paused_listeners: Vec<usize>,
    accept_again_ms: i64,
    coalescer: Coalescer,
    last_cron_ms: i64,
}

struct Accepting {
    listener: Arc<Listener>,
    /// Distinguishes it from earlier ones in the same place.
    generation: u32,
}

impl Runtime {
    pub fn new(ring: Ring, engine: Engine, listening: Option<Arc<Listening>>) -> Self {
        Runtime {
            ring,
            engine,
            listening,
            listeners: Slab::new(),
            listening_version: 0,
            paused_listeners: Vec::new(),
            accept_again_ms: 0,
            coalescer: Coalescer::new(),
            last_cron_ms: 0,
        }
    }

    /// Runs until the node is to end.
    pub fn run(mut self) -> std::io::Result<()> {
        loop {
            self.follow_listening();
            let mut busy = self.engine.turn();
            while let Some(completion) = self.ring.next_completion() {
                self.complete(completion);
            }
            busy |= self.engine.read_mail();
            busy |= self.engine.read_inbox();
            busy |= self.engine.resume_connections();
            busy |= self.engine.apply_stream();
            self.engine.begin_saves();
            busy |= self.engine.take_own_answers();
            self.arm_receives();
            self.end_turn();
            if self.engine.core.node.shutdown.is_requested() {
                return self.finish();
            }
            self.run_cron();
            self.sleep(busy)?;
        }
    }

    /// Hands mail and output over.
    fn end_turn(&mut self) {
        self.engine.send_feed();
        self.flush_output();
        self.close_connections();
        if self.engine.core.log.is_on() || !self.engine.core.log.is_idle(true) {
            let operation = self.engine.next_log_operation(false);
            self.log(operation);
        }
        self.engine.mesh.flush();
        for wake in self.engine.mesh.take_wakes() {
            self.ring.wake(wake);
        }
    }

    /// Has the ring do what the log wants.
    fn log(&mut self, operation: Option<LogOperation>) {
        const TOKEN: Token = Token::new(kind::LOG, 0, 0);
        match operation {
            Some(LogOperation::Write { fd, bytes, offset, through: true }) => self.ring.write_through(fd, bytes, offset, TOKEN),
            Some(LogOperation::Write { fd, bytes, offset, through: false }) => self.ring.write(fd, bytes, offset, TOKEN),
            Some(LogOperation::Sync { fd }) => self.ring.sync(fd, TOKEN),
            None => {}
        }
    }

    fn logged(&mut self, completion: Completion) {
        self.engine.log_completed(completion.result.map_err(|errno| errno.0), completion.bytes);
    }

    fn sleep(&mut self, busy: bool) -> std::io::Result<()> {
        if busy || self.engine.mesh.has_backlog() {
            return self.ring.submit_and_wait(Some(Duration::ZERO));
        }
        let wanted = self.coalescer.wanted(self.engine.clock.nanos(), clock::thread_cpu_nanos);
        // A busy core has more to wait for than the answers of others, and no time to spend on looking.
        if self.engine.hops_outstanding > 0 && wanted == 1 {
            // Answers are likely within microseconds: submit what there is, then look for a while.
            self.ring.submit_and_wait(Some(Duration::ZERO))?;
            let until = self.engine.clock.nanos() + LOOK_NANOS;
            while self.engine.clock.nanos() < until {
                if self.engine.mesh.has_mail() {
                    return Ok(());
                }
                std::hint::spin_loop();
            }
        }
        if !self.engine.mesh.sleep() {
            return self.ring.submit_and_wait(Some(Duration::ZERO));
        }
        // Clients wait for the disk: its answer is to be heard at once.
        let wanted = if self.engine.core.log.writes_through() { 1 } else { wanted };
        let timeout = self.engine.sleep();
        let slept = self.ring.submit_and_coalesce(Some(timeout), wanted, coalesce::WITHIN);
        self.engine.mesh.awake();
        slept
    }

    fn run_cron(&mut self) {
        let now = self.engine.core.now;
        let period = 1000 / i64::from(self.engine.core.config.hz.max(1));
        if now - self.last_cron_ms >= period {
            self.last_cron_ms = now;
            self.engine.cron();
        }
        if !self.paused_listeners.is_empty() && now >= self.accept_again_ms {
            for index in std::mem::take(&mut self.paused_listeners) {
                self.arm_accept(index);
            }
        }
    }

    fn complete(&mut self, completion: Completion) {
        match completion.token.kind() {
            kind::ACCEPT => self.accepted(completion),
            kind::RECEIVE => self.received(completion),
            kind::SEND => self.sent(completion),
            kind::LOG => self.logged(completion),
            other => debug_assert!(false, "a completion of unknown kind {other}"),
        }
    }

    // ---- connections ----

    /// Arms accepts for sockets that are new, and forgets those that are gone: their accepts have ended by themselves.
    #[inline]
    fn follow_listening(&mut self) {
        let Some(listening) = &self.listening else { return };
        let version = listening.version();
        if version == self.listening_version {
            return;
        }
        self.listening_version = version;
        let current = listening.listeners();
        self.listeners.retain(|_, armed| current.iter().any(|listener| Arc::ptr_eq(listener, &armed.listener)));
        for listener in current {
            if !self.listeners.iter().any(|(_, armed)| Arc::ptr_eq(&listener, &armed.listener)) {
                let index = self.listeners.insert(Accepting { listener, generation: version });
                self.arm_accept(index);
            }
        }
    }

    fn arm_accept(&mut self, index: usize) {
        if let Some(accepting) = self.listeners.get(index) {
            self.ring.accept(accepting.listener.fd(), Token::new(kind::ACCEPT, accepting.generation, index as u32));
        }
    }

    fn accepted(&mut self, completion: Completion) {
        let index = completion.token.index() as usize;
        let current = self.listeners.get(index).filter(|accepting| is_of(completion.token, accepting.generation));
        let Some(listener) = current.map(|accepting| accepting.listener.clone()) else {
            // Of a socket that is gone.
            return completion.result.into_iter().for_each(|fd| self.ring.close(fd as RawFd));
        };
        match completion.result {
            Ok(fd) => {
                self.welcome(fd as RawFd, &listener);
                if !completion.more {
                    self.arm_accept(index);
                }
            }
            Err(Errno::CANCELED) => {}
            Err(errno) => {
                // A socket that listens no more is about to be replaced, or listens again soon.
                if errno != Errno(libc::EINVAL) {
                    log::warning(&format!("Error accepting a client connection: {errno}"));
                }
                self.paused_listeners.push(index);
                self.accept_again_ms = self.engine.core.now + ACCEPT_PAUSE_MS;
            }
        }
    }

    /// Gives a new connection to the core with the fewest.
    fn welcome(&mut self, fd: RawFd, listener: &Listener) {
        let core = &mut self.engine.core;
        if core.node.connections() >= core.config.maxclients as usize {
            core.counters.rejected_connections += 1;
            refuse(fd, b"-ERR max number of clients reached\r\n");
            return self.ring.close(fd);
        }
        if let Err(error) = listener::set_up_accepted(fd, core.config.tcp_keepalive) {
            log::verbose(&format!("Setting up a client's socket: {error}"));
        }
        let endpoints = listener::endpoints(fd, listener);
        let is_unix = endpoints.peer.starts_with('/');
        let counts = core.node.per_core.iter().map(|per_core| per_core.connections.load(Ordering::Relaxed));
        let to = counts.enumerate().min_by_key(|&(_, count)| count).map_or(0, |(core, _)| core);
        self.engine.hand_over(to, Adopted { fd, peer: endpoints.peer, local: endpoints.local, is_unix });
    }

    /// Ends the receive of connections that have sent too much; arms it for those that have none: new ones, and those that may read
    /// again. A receive that is being ended counts as armed until its last completion, which arms it again if that is wanted by then.
    fn arm_receives(&mut self) {
        for index in std::mem::take(&mut self.engine.core.to_hush) {
            let Some(connection) = self.engine.core.connections.get(index) else { continue };
            if connection.receiving && !connection.wants_input() {
                self.ring.cancel(Token::new(kind::RECEIVE, connection.generation, index as u32));
            }
        }
        for index in std::mem::take(&mut self.engine.core.to_receive) {
            let Some(connection) = self.engine.core.connections.get_mut(index) else { continue };
            if !connection.receiving && connection.wants_input() {
                connection.receiving = true;
                self.ring.recv(connection.fd, Token::new(kind::RECEIVE, connection.generation, index as u32));
            }
        }
    }

    fn received(&mut self, completion: Completion) {
        let Completion { token, result, more, received, .. } = completion;
        let index = token.index() as usize;
        let current = self.engine.core.connections.get(index).is_some_and(|c| is_of(token, c.generation));
        if let Some(received) = received {
            if current {
                self.coalescer.note(&mut self.engine.core.connections[index].active_in);
                self.engine.receive(index, self.ring.bytes(&received));
            }
            self.ring.recycle(received);
        }
        let Some(connection) = self.engine.core.connections.get_mut(index).filter(|c| is_of(token, c.generation)) else { return };
        if more {
            return;
        }
        connection.receiving = false;
        match result {
            Ok(0) => self.engine.end_input(index),
            Ok(_) | Err(Errno::NOBUFS | Errno::CANCELED) => self.engine.core.to_receive.push(index),
            Err(errno) => {
                log::verbose(&format!("Reading from client: {errno}"));
                self.engine.core.close(index, false);
            }
        }
        if self.engine.core.connections.get(index).is_some_and(|connection| connection.leaving.is_some()) {
            self.engine.core.to_close.push(index);
        }
    }

    /// Sends what connections have been given to send; one operation for each at a time.
    fn flush_output(&mut self) {
        let hold = self.engine.hold();
        for index in std::mem::take(&mut self.engine.core.to_flush) {
            let Some(connection) = self.engine.core.connections.get_mut(index) else { continue };
            connection.flush_wanted = false;
            if self.engine.check_output(index) {
                continue;
            }
            let connection = &mut self.engine.core.connections[index];
            if connection.out.is_empty() || connection.sending > 0 || connection.holds_output() {
                continue;
            }
            let sendable = if hold.is_none() && connection.held.is_none() {
                connection.out.len()
            } else {
                self.engine.sendable(index, hold)
            };
            if sendable == 0 {
                continue;
            }
            let connection = &mut self.engine.core.connections[index];
            connection.last_interaction_ms = self.engine.core.now;
            let rest = if sendable < connection.out.len() { connection.out.split_off(sendable) } else { Vec::new() };
            let out = std::mem::replace(&mut connection.out, rest);
            connection.sending = out.len();
            connection.total_net_out += out.len() as u64;
            let (fd, token) = (connection.fd, Token::new(kind::SEND, connection.generation, index as u32));
            self.engine.core.counters.net_output_bytes += out.len() as u64;
            self.engine.core.counters.writes_processed += 1;
            self.ring.send(fd, out, token);
        }
    }

    fn sent(&mut self, completion: Completion) {
        let Completion { token, result, bytes, .. } = completion;
        if let Some(bytes) = bytes {
            self.engine.core.spare_output.give_back(bytes);
        }
        let index = token.index() as usize;
        let Some(connection) = self.engine.core.connections.get_mut(index).filter(|c| is_of(token, c.generation)) else { return };
        connection.sending = 0;
        connection.last_interaction_ms = self.engine.core.now;
        if let Err(errno) = result {
            if errno != Errno::CANCELED {
                log::verbose(&format!("Error writing to client: {errno}"));
            }
            connection.out.clear();
            return self.engine.core.close(index, false);
        }
        if connection.out.is_empty() {
            let unused = std::mem::take(&mut connection.out);
            self.engine.core.spare_output.give_back(unused);
            if connection.closing {
                self.engine.core.to_close.push(index);
            }
        } else {
            self.engine.core.want_flush(index);
        }
    }

    fn close_connections(&mut self) {
        for index in std::mem::take(&mut self.engine.core.to_close) {
            let Some(connection) = self.engine.core.connections.get_mut(index) else { continue };
            if !connection.closing {
                continue;
            }
            let output_due = !connection.reorder.is_empty() || connection.stall == Stall::Operation;
            let output_left = connection.sending > 0 || !connection.out.is_empty() || output_due;
            if connection.close_after_output && output_left {
                continue;
            }
            let fd = connection.fd;
            if connection.leaving.is_some() {
                if !connection.receiving && !output_left {
                    // SAFETY: the descriptor is the connection's own, which gives it away.
                    self.engine.departs(index, unsafe { OwnedFd::from_raw_fd(fd) });
                }
                continue;
            }
            self.engine.connection_ended(index);
            if fd >= 0 {
                self.ring.close(fd);
            }
        }
    }

    /// Serves the other cores until all of them have ended what they had begun: what was acknowledged is then in the logs of all its
    /// shards.
    fn end_together(&mut self) -> std::io::Result<()> {
        let node = self.engine.core.node.clone();
        let until = self.engine.clock.nanos() + LAST_MAIL_NANOS;
        let mut is_quiet = false;
        while node.shutdown.quiet() < node.cores && self.engine.clock.nanos() < until {
            self.engine.read_mail();
            self.engine.mesh.flush_now();
            if !is_quiet && self.engine.hops_outstanding == 0 && !self.engine.mesh.has_backlog() {
                is_quiet = true;
                node.shutdown.count_quiet();
            }
            let operation = self.engine.next_log_operation(true);
            self.log(operation);
            self.ring.submit_and_wait(Some(Duration::from_micros(100)))?;
            while let Some(completion) = self.ring.next_completion() {
                if completion.token.kind() == kind::LOG {
                    self.logged(completion);
                }
            }
        }
        self.engine.read_mail();
        Ok(())
    }

    /// The node ends: writes what is left of the log, sends what is left to send, closes everything.
    fn finish(mut self) -> std::io::Result<()> {
        // After a last save all shards are still claimed, and nobody has anything under way with another.
        if self.engine.core.node.shutdown.hold() == 0 {
            self.end_together()?;
        }
        let until = self.engine.clock.nanos() + LAST_WRITES_NANOS;
        while !self.engine.core.log.is_idle(true) && self.engine.clock.nanos() < until {
            let operation = self.engine.next_log_operation(true);
            self.log(operation);
            self.ring.submit_and_wait(Some(Duration::from_millis(10)))?;
            while let Some(completion) = self.ring.next_completion() {
                self.complete(completion);
            }
            self.engine.core.now = clock::wall_ms();
        }
        self.flush_output();
        let fds: Vec<RawFd> = self.engine.core.clients().map(|(_, connection)| connection.fd).collect();
        self.ring.submit_and_wait(Some(Duration::from_millis(1)))?;
        fds.into_iter().for_each(|fd| self.ring.close(fd));
        self.ring.submit();
        Ok(())
    }
}

/// Whether a completion is of this very connection; generations travel in 24 bits.
fn is_of(token: Token, generation: u32) -> bool {
    token.generation() == generation & Token::GENERATION_MAX
}

/// A last word to a connection that is not taken.
fn refuse(fd: RawFd, text: &[u8]) {
    // SAFETY: `text` is readable for its length; the descriptor is the caller's. If the peer does not read, it hears nothing.
    unsafe { libc::send(fd, text.as_ptr().cast(), text.len(), libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) };
}
