//! One io_uring, owned by the thread of one core.
//!
//! Owns: the queues shared with the kernel, every memory the kernel reads or writes for an operation, and the choice
//! between an operation's forms by [`Features`]. Refuses to know: what a completion means to a connection.
//!
//! Invariants:
//! - Memory lent to the kernel (buffers, output, the wake counter) is owned by the ring until the operation has ended;
//!   dropping the ring ends the operations first, and leaks the memory if the kernel does not let go of it.
//! - No operation is lost: a full submission queue is submitted, a full completion queue is emptied into `spilled`.
//! - A descriptor given to [`Ring::close`] is not used by the ring afterwards, so its number may be used anew.
//!
//! User data of completions: a caller's [`Token`], or, with a kind above [`Token::KIND_MAX`], one of the ring's own.
//!
//! Costs: an operation is one 64-byte entry; a turn is one system call, and none if there is nothing to submit and
//! nothing to wait for.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, FsyncFlags};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};
use slab::Slab;

use super::buffers::{BufferPool, Received};
use super::enter::{Patience, RegisteredFd, demand_exact_timers, enter, passes};
use super::features::{Features, SetupError};
use super::wake::Wake;
use super::{Completion, Errno, Token};

/// The sizes of a ring; all but `buffer_bytes` are powers of two.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Operations queued between two system calls.
    pub submissions: u32,
    /// Completions the kernel keeps in shared memory; beyond that it keeps them by itself, which is slower.
    pub completions: u32,
    pub buffers: u16,
    pub buffer_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { submissions: 1024, completions: 4096, buffers: 128, buffer_bytes: 8 << 10 }
    }
}

/// The one group of receive buffers.
pub(super) const BUFFER_GROUP: u16 = 0;
/// The largest piece of output one operation carries; more is sent in several.
const SEND_BYTES_MAX: usize = 1 << 30;
/// How often, and how long each time, dropping the ring waits for operations to end.
const DRAIN_TURNS: u32 = 50;
const DRAIN_WAIT: Duration = Duration::from_millis(10);

/// Kinds of user data above [`Token::KIND_MAX`].
mod kind {
    /// Nobody waits for this.
    pub const IGNORED: u8 = 0xF0;
    /// The low half is an index into `flights`.
    pub const FLIGHT: u8 = 0xF1;
    /// Another ring has woken this one.
    pub const WOKEN: u8 = 0xF2;
    /// Someone has written to this ring's eventfd.
    pub const EVENTFD: u8 = 0xF3;
    /// The answer to waking another ring; the low half is an index into `peers`.
    pub const PEER: u8 = 0xF4;
}

const fn user_data(kind: u8, index: u32) -> u64 {
    (kind as u64) << 56 | index as u64
}

/// An operation for which the ring keeps more than a token.
struct Flight {
    token: Token,
    fd: RawFd,
    /// Cancelled, or its descriptor closed: it must not go on in a further step.
    ending: bool,
    task: Task,
}

enum Task {
    /// Hands `bytes`, of which `done` are gone, to `sink`.
    Out { bytes: Vec<u8>, done: usize, sink: Sink },
    /// Receives behind the bytes already there.
    Fill { bytes: Vec<u8> },
    /// Waits until there is something to receive.
    Readable,
}

/// Where output goes: to a socket, or into a file, where its first byte belongs at `offset`.
#[derive(Clone, Copy)]
enum Sink {
    Socket,
    File {
        offset: u64,
    },
    /// Into a file, and on to the disk: a sync is linked to each write. `written`: what became of the write whose sync is under way.
    Disk {
        offset: u64,
        written: Option<Result<usize, Errno>>,
    },
}

pub struct Ring {
    // Dropped in this order: the place in the table, then the ring, then (in `drop`) the memory it refers to.
    registered: Option<RegisteredFd>,
    uring: IoUring,
    features: Features,
    pool: ManuallyDrop<BufferPool>,
    flights: ManuallyDrop<Slab<Flight>>,
    /// What the kernel reads the eventfd's counter into.
    wake_counter: ManuallyDrop<Box<[u8; 8]>>,
    /// Operations whose last completion is still to come.
    armed: usize,
    /// Sends and writes since the last wait: they mostly complete while they are submitted, so a wait for news must not count them.
    sends_queued: u32,
    /// Completions taken out of the shared queue to make room.
    spilled: VecDeque<cqueue::Entry>,
    wake: Wake,
    woken: bool,
    /// The rings this one has woken.
    peers: Vec<Wake>,
    /// The ring belongs to its thread: the kernel enforces it with `single_issuer`.
    _not_send: PhantomData<*const ()>,
}

impl Ring {
    /// A ring for the calling thread.
    pub fn new(features: &Features) -> Result<Self, SetupError> {
        Self::with_limits(features, Limits::default())
    }

    pub fn with_limits(features: &Features, limits: Limits) -> Result<Self, SetupError> {
        assert!(features.consistent(), "features come from a probe");
        demand_exact_timers();
        let uring = features
            .builder()
            .setup_cqsize(limits.completions)
            .dontfork()
            .build(limits.submissions)
            .map_err(SetupError::from_setup)?;
        let pool = BufferPool::new(limits.buffers, limits.buffer_bytes, features.buffer_ring).map_err(SetupError::from_setup)?;
        if let Some((address, entries)) = pool.shared_ring() {
            // SAFETY: the mapping at `address` holds `entries` entries, and the pool outlives `uring` (see `drop`).
            unsafe { uring.submitter().register_buf_ring_with_flags(address, entries, BUFFER_GROUP, 0) }
                .map_err(SetupError::from_setup)?;
        }
        // A thread's table of registered rings may be full; the ring works without.
        let registered = features.registered_ring_fd.then(|| RegisteredFd::new(uring.as_raw_fd()).ok()).flatten();
        let wake = Wake::new(uring.as_raw_fd()).map_err(SetupError::Other)?;
        let mut ring = Self {
            uring,
            registered,
            features: *features,
            pool: ManuallyDrop::new(pool),
            flights: ManuallyDrop::new(Slab::new()),
            wake_counter: ManuallyDrop::new(Box::new([0; 8])),
            armed: 0,
            sends_queued: 0,
            spilled: VecDeque::new(),
            wake,
            woken: false,
            peers: Vec::new(),
            _not_send: PhantomData,
        };
        ring.arm_eventfd();
        Ok(ring)
    }

    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Accepts connections on a listening socket, which must be in blocking mode. Completes with a descriptor (close
    /// on exec, blocking mode), and goes on as long as `more`.
    pub fn accept(&mut self, fd: RawFd, token: Token) {
        let flags = libc::SOCK_CLOEXEC;
        let entry = if self.features.multishot_accept {
            opcode::AcceptMulti::new(Fd(fd)).flags(flags).build()
        } else {
            opcode::Accept::new(Fd(fd), std::ptr::null_mut(), std::ptr::null_mut()).flags(flags).build()
        };
        self.arm(entry.user_data(token.0));
    }

    /// Receives into the ring's buffers, from a socket in blocking mode. Completes with [`Completion::received`], goes
    /// on as long as `more`, and ends with [`Errno::NOBUFS`] if all buffers are out.
    pub fn recv(&mut self, fd: RawFd, token: Token) {
        if self.features.multishot_recv {
            self.arm(opcode::RecvMulti::new(Fd(fd), BUFFER_GROUP).build().user_data(token.0));
        } else if self.features.buffer_ring {
            let entry = opcode::Recv::new(Fd(fd), std::ptr::null_mut(), self.pool.buffer_bytes())
                .buf_group(BUFFER_GROUP)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT);
            self.arm(entry.user_data(token.0));
        } else {
            let index = self.fly(fd, token, Task::Readable);
            self.arm_readable(index, fd);
        }
    }

    /// Receives up to `limit` bytes behind those in `bytes`, and waits until there are that many or the peer closes:
    /// for a value too large to come through the buffers. No [`Ring::recv`] may be armed on `fd` meanwhile. The
    /// completion gives `bytes` back; its result is the number of bytes added.
    pub fn recv_into(&mut self, fd: RawFd, mut bytes: Vec<u8>, limit: usize, token: Token) {
        assert!(limit > 0);
        let limit = limit.min(SEND_BYTES_MAX);
        bytes.reserve_exact(limit);
        let start = bytes.spare_capacity_mut().as_mut_ptr().cast();
        let index = self.fly(fd, token, Task::Fill { bytes });
        let entry = opcode::Recv::new(Fd(fd), start, limit as u32).flags(libc::MSG_WAITALL).build();
        self.arm(entry.user_data(user_data(kind::FLIGHT, index as u32)));
    }

    /// Sends all of `bytes`, however many steps the socket takes for it; the completion gives `bytes` back. One send
    /// per socket at a time, since a second could overtake the rest of the first.
    pub fn send(&mut self, fd: RawFd, bytes: Vec<u8>, token: Token) {
        debug_assert!(!bytes.is_empty());
        let index = self.fly(fd, token, Task::Out { bytes, done: 0, sink: Sink::Socket });
        self.arm_out(index);
    }

    /// Writes all of `bytes` to a file from `offset` on, however many steps it takes; the completion gives `bytes` back and tells
    /// how many bytes are written, or what kept the rest from it.
    pub fn write(&mut self, fd: RawFd, bytes: Vec<u8>, offset: u64, token: Token) {
        debug_assert!(!bytes.is_empty());
        let index = self.fly(fd, token, Task::Out { bytes, done: 0, sink: Sink::File { offset } });
        self.arm_out(index);
    }

    /// As [`Ring::write`], and has the bytes reach the disk: one write linked to one sync, which is a turn less than one after the other.
    pub fn write_through(&mut self, fd: RawFd, bytes: Vec<u8>, offset: u64, token: Token) {
        debug_assert!(!bytes.is_empty());
        let index = self.fly(fd, token, Task::Out { bytes, done: 0, sink: Sink::Disk { offset, written: None } });
        self.arm_out(index);
    }

    /// Has what was written to a file reach the disk: its data, and as much about it as reading it back needs (fdatasync).
    pub fn sync(&mut self, fd: RawFd, token: Token) {
        let entry = opcode::Fsync::new(Fd(fd)).flags(FsyncFlags::DATASYNC).build();
        self.arm(entry.user_data(token.0));
    }

    /// Waits, once, for one of `events` (`libc::POLLIN` …) on any descriptor; completes with the events.
    pub fn poll(&mut self, fd: RawFd, events: i16, token: Token) {
        let entry = opcode::PollAdd::new(Fd(fd), events as u16 as u32).build();
        self.arm(entry.user_data(token.0));
    }

    /// Ends an operation named `token`, if it is not about to end by itself; it then completes with
    /// [`Errno::CANCELED`].
    pub fn cancel(&mut self, token: Token) {
        let flight = self.flights.iter_mut().find(|(_, flight)| flight.token == token);
        let target = flight.map_or(token.0, |(index, flight)| {
            flight.ending = true;
            user_data(kind::FLIGHT, index as u32)
        });
        self.forget_about(opcode::AsyncCancel::new(target).build());
    }

    /// Closes `fd`, after submitting all that was queued for it. Operations still armed on it end, each with a last
    /// completion, and what they had not sent is lost. The ring does not use this number again on behalf of the closed
    /// socket. (Without `cancel_fd` a poll must be cancelled by its token first.)
    pub fn close(&mut self, fd: RawFd) {
        for (_, flight) in self.flights.iter_mut().filter(|(_, flight)| flight.fd == fd) {
            flight.ending = true;
        }
        if self.features.cancel_fd {
            self.forget_about(opcode::AsyncCancel2::new(CancelBuilder::fd(Fd(fd)).all()).build());
        } else {
            // An armed operation would hold the socket open beyond the close; the shutdown ends it.
            self.shutdown(fd, std::net::Shutdown::Both);
        }
        self.forget_about(opcode::Close::new(Fd(fd)).build());
    }

    /// Shuts the socket down at once, after submitting what is queued: the peer sees the end, and armed receives end.
    pub fn shutdown(&mut self, fd: RawFd, how: std::net::Shutdown) {
        self.submit();
        let how = match how {
            std::net::Shutdown::Read => libc::SHUT_RD,
            std::net::Shutdown::Write => libc::SHUT_WR,
            std::net::Shutdown::Both => libc::SHUT_RDWR,
        };
        // SAFETY: no memory is involved. A failure means that nothing is connected any more, which is what is wanted.
        unsafe { libc::shutdown(fd, how) };
    }

    /// The way to wake this ring from elsewhere.
    pub fn wake_handle(&self) -> Wake {
        self.wake.clone()
    }

    /// Wakes another ring, at the next submit.
    pub fn wake(&mut self, target: &Wake) {
        let Some(ring_fd) = target.ring_fd() else { return };
        if !self.features.msg_ring {
            target.wake_from_outside();
            return;
        }
        let peer = self.peers.iter().position(|peer| peer.same_target(target)).unwrap_or_else(|| {
            self.peers.push(target.clone());
            self.peers.len() - 1
        });
        let entry = opcode::MsgRingData::new(Fd(ring_fd), 0, user_data(kind::WOKEN, 0), None).build();
        self.push(&self.quiet(entry).user_data(user_data(kind::PEER, peer as u32)));
    }

    /// Whether a wake has come since the last call.
    pub fn take_woken(&mut self) -> bool {
        std::mem::take(&mut self.woken)
    }

    /// Hands everything queued to the kernel, without waiting. Errors are met again by [`Ring::submit_and_wait`].
    pub fn submit(&mut self) {
        self.pool.publish();
        loop {
            let queued = self.queued();
            if queued == 0 || !matches!(self.enter(queued, 0, EnterFlags::empty(), Patience::default()), Ok(1..)) {
                break;
            }
        }
    }

    /// Hands everything queued to the kernel and sleeps until there is a completion, or for `timeout`. With a zero
    /// timeout, or with completions still to be taken, it does not sleep. Coming back early is no error; take
    /// completions until there are none, then call again.
    pub fn submit_and_wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.submit_and_coalesce(timeout, 1, Duration::ZERO)
    }

    /// As [`Ring::submit_and_wait`], but sleeps until there are `completions` beside those of the sends queued, or, once
    /// `within` has passed, at least one. Without the feature `min_wait`, until there is one.
    pub fn submit_and_coalesce(&mut self, timeout: Option<Duration>, completions: u32, within: Duration) -> io::Result<()> {
        self.pool.publish();
        let nothing_to_take = self.spilled.is_empty() && self.uring.completion().is_empty();
        let sleep = nothing_to_take && timeout != Some(Duration::ZERO);
        let queue = self.uring.submission();
        let (queued, due) = (queue.len() as u32, queue.taskrun() || queue.cq_overflow());
        drop(queue);
        if queued == 0 && !sleep && !due {
            return Ok(());
        }
        let mut flags = EnterFlags::GETEVENTS;
        if sleep && self.features.no_iowait {
            flags |= EnterFlags::NO_IOWAIT;
        }
        let sends = std::mem::take(&mut self.sends_queued);
        let coalesces = self.features.min_wait && !within.is_zero();
        let (wait_for, patience) = match (sleep, coalesces) {
            (false, _) => (0, Patience::default()),
            (true, false) => (1, Patience { timeout, min_wait: Duration::ZERO }),
            (true, true) => (sends + completions, Patience { timeout, min_wait: within }),
        };
        match self.enter(queued, wait_for, flags, patience) {
            Ok(_) => Ok(()),
            Err(error) if passes(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The next completion, in the order of the kernel; `None` when a further one takes another turn.
    pub fn next_completion(&mut self) -> Option<Completion> {
        loop {
            let entry = self.next_entry()?;
            if let Some(completion) = self.interpret(&entry) {
                return Some(completion);
            }
        }
    }

    /// The bytes that have come.
    pub fn bytes(&self, received: &Received) -> &[u8] {
        self.pool.bytes(received)
    }

    /// Gives a buffer back; the kernel learns of it, with all others of this turn, at the next submit.
    pub fn recycle(&mut self, received: Received) {
        self.pool.recycle(received);
    }

    /// Buffers not held by the caller.
    pub fn buffers_available(&self) -> usize {
        self.pool.available()
    }

    fn interpret(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        let (user_data, result, flags) = (entry.user_data(), entry.result(), entry.flags());
        let index = user_data as u32 as usize;
        let more = cqueue::more(flags);
        match (user_data >> 56) as u8 {
            kind::IGNORED => None,
            kind::WOKEN => {
                self.woken = true;
                None
            }
            kind::EVENTFD => {
                self.armed -= 1;
                self.woken = true;
                self.arm_eventfd();
                None
            }
            kind::PEER => {
                if result < 0 {
                    self.peers[index].wake_from_outside();
                }
                None
            }
            kind::FLIGHT => {
                self.armed -= 1;
                self.land(index, outcome(result))
            }
            _ => {
                self.armed -= usize::from(!more);
                // Some kernels name a buffer in a failed receive without having taken it.
                let received = match cqueue::buffer_select(flags) {
                    Some(id) if result >= 0 => Some(self.pool.filled(id, result as u32)),
                    _ => None,
                };
                let received = received.and_then(|received| {
                    if received.is_empty() {
                        self.pool.recycle(received);
                        return None;
                    }
                    Some(received)
                });
                Some(Completion { token: Token(user_data), result: outcome(result), more, received, bytes: None })
            }
        }
    }

    fn fly(&mut self, fd: RawFd, token: Token, task: Task) -> usize {
        self.flights.insert(Flight { token, fd, ending: false, task })
    }

    /// Goes on with a flight, or ends it.
    fn land(&mut self, index: usize, result: Result<usize, Errno>) -> Option<Completion> {
        let moved = *result.as_ref().unwrap_or(&0);
        let Flight { fd, ending, task, .. } = &mut self.flights[index];
        let (fd, ending) = (*fd, *ending);
        match task {
            Task::Out { sink: Sink::Disk { written: written @ None, .. }, done, .. } => {
                *done += moved;
                *written = Some(result);
                None
            }
            Task::Out { bytes, done, sink: Sink::Disk { written, .. } } => {
                let (done, unfinished) = (*done, *done < bytes.len());
                let ended = match written.take().expect("looked at above") {
                    Ok(0) => Err(Errno(libc::ENOSPC)),
                    Ok(_) if unfinished && ending => Err(Errno::CANCELED),
                    Ok(_) if unfinished => {
                        // The short write has cancelled its sync.
                        self.arm_out(index);
                        return None;
                    }
                    Ok(_) => result.map(|_| done),
                    Err(errno) => Err(errno),
                };
                self.end_flight(index, ended, None)
            }
            Task::Out { bytes, done, sink } => {
                *done += moved;
                let (done, unfinished) = (*done, *done < bytes.len());
                let ended = match (result, *sink) {
                    (Ok(0), Sink::File { .. }) => Err(Errno(libc::ENOSPC)),
                    (Ok(1..), _) if unfinished && ending => Err(Errno::CANCELED),
                    (Ok(1..), _) if unfinished => {
                        self.arm_out(index);
                        return None;
                    }
                    (result, _) => result.map(|_| done),
                };
                self.end_flight(index, ended, None)
            }
            Task::Fill { bytes } => {
                assert!(moved <= bytes.capacity() - bytes.len(), "the kernel writes into what it was given");
                // SAFETY: the kernel has written `moved` bytes behind the first `len`, within the capacity.
                unsafe { bytes.set_len(bytes.len() + moved) };
                self.end_flight(index, result, None)
            }
            Task::Readable if ending => self.end_flight(index, Err(Errno::CANCELED), None),
            Task::Readable => match result.map(|_| self.pool.fill(|buffer| receive_now(fd, buffer))) {
                Ok(Some(Ok((len, received)))) => self.end_flight(index, Ok(len), received),
                Ok(Some(Err(Errno(libc::EAGAIN)))) => {
                    self.arm_readable(index, fd);
                    None
                }
                Ok(None) => self.end_flight(index, Err(Errno::NOBUFS), None),
                Ok(Some(Err(errno))) | Err(errno) => self.end_flight(index, Err(errno), None),
            },
        }
    }

    fn end_flight(&mut self, index: usize, result: Result<usize, Errno>, received: Option<Received>) -> Option<Completion> {
        let Flight { token, task, .. } = self.flights.remove(index);
        let bytes = match task {
            Task::Out { bytes, .. } | Task::Fill { bytes } => Some(bytes),
            Task::Readable => None,
        };
        Some(Completion { token, result, more: false, received, bytes })
    }

    fn arm_out(&mut self, index: usize) {
        let Flight { fd, task: Task::Out { bytes, done, sink }, .. } = &self.flights[index] else {
            unreachable!("only output is armed here")
        };
        let rest = &bytes[*done..];
        let len = rest.len().min(SEND_BYTES_MAX) as u32;
        self.sends_queued += 1;
        let entry = match sink {
            Sink::Socket => {
                let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
                opcode::Send::new(Fd(*fd), rest.as_ptr(), len).flags(flags).build()
            }
            Sink::File { offset } | Sink::Disk { offset, .. } => {
                opcode::Write::new(Fd(*fd), rest.as_ptr(), len).offset(offset + *done as u64).build()
            }
        };
        let entry = entry.user_data(user_data(kind::FLIGHT, index as u32));
        if !matches!(sink, Sink::Disk { .. }) {
            return self.arm(entry);
        }
        let sync = opcode::Fsync::new(Fd(*fd)).flags(FsyncFlags::DATASYNC).build();
        let sync = sync.user_data(user_data(kind::FLIGHT, index as u32));
        self.armed += 2;
        self.push_all(&[entry.flags(squeue::Flags::IO_LINK), sync]);
    }

    fn arm_readable(&mut self, index: usize, fd: RawFd) {
        let entry = opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32).build();
        self.arm(entry.user_data(user_data(kind::FLIGHT, index as u32)));
    }

    fn arm_eventfd(&mut self) {
        let counter = self.wake_counter.as_mut_ptr();
        let entry = opcode::Read::new(Fd(self.wake.eventfd()), counter, size_of::<u64>() as u32).build();
        self.arm(entry.user_data(user_data(kind::EVENTFD, 0)));
    }

    /// Queues an operation that will end with a completion.
    fn arm(&mut self, entry: squeue::Entry) {
        self.armed += 1;
        self.push(&entry);
    }

    /// Queues an operation whose outcome nobody waits for.
    fn forget_about(&mut self, entry: squeue::Entry) {
        self.push(&self.quiet(entry).user_data(user_data(kind::IGNORED, 0)));
    }

    /// Asks for a completion in the case of failure only, where the kernel can do that.
    fn quiet(&self, entry: squeue::Entry) -> squeue::Entry {
        if self.features.skip_success { entry.flags(squeue::Flags::SKIP_SUCCESS) } else { entry }
    }

    fn push(&mut self, entry: &squeue::Entry) {
        self.push_all(std::slice::from_ref(entry));
    }

    /// Queues entries that are to be submitted together.
    fn push_all(&mut self, entries: &[squeue::Entry]) {
        // SAFETY: an entry names descriptors, and memory of `pool`, `flights` (on the heap, so moving the flight does
        // not move it) or `wake_counter`, all of which live until the operation's last completion, or for ever.
        while unsafe { self.uring.submission().push_multiple(entries) }.is_err() {
            self.make_room();
        }
    }

    /// The submission queue is full: lets the kernel have it.
    #[cold]
    fn make_room(&mut self) {
        // Receives among the queued need the buffers given back, or they starve for as long as the caller does not wait.
        self.pool.publish();
        let queued = self.queued();
        self.sends_queued = 0;
        match self.enter(queued, 0, EnterFlags::empty(), Patience::default()) {
            Ok(_) => {}
            Err(error) if passes(&error) => {
                // The kernel takes no more before it has room for completions (5.15), or memory.
                let ready: Vec<_> = self.uring.completion().collect();
                self.spilled.extend(ready);
                let _ = self.enter(0, 0, EnterFlags::GETEVENTS, Patience::default());
                std::thread::yield_now();
            }
            Err(error) => panic!("io_uring_enter refuses a ring that it has set up: {error}"),
        }
    }

    fn queued(&mut self) -> u32 {
        self.uring.submission().len() as u32
    }

    fn next_entry(&mut self) -> Option<cqueue::Entry> {
        if let Some(entry) = self.spilled.pop_front() {
            return Some(entry);
        }
        if let Some(entry) = self.uring.completion().next() {
            return Some(entry);
        }
        if self.uring.submission().cq_overflow() {
            // The kernel keeps completions the queue had no room for; entering moves them there.
            let _ = self.enter(0, 0, EnterFlags::GETEVENTS, Patience::default());
            return self.uring.completion().next();
        }
        None
    }

    fn enter(&self, submit: u32, wait_for: u32, flags: EnterFlags, patience: Patience) -> io::Result<usize> {
        // SAFETY: the descriptor is this ring's, and what its entries refer to lives long enough, by `push`.
        unsafe { enter(self.uring.as_raw_fd(), self.registered.as_ref(), submit, wait_for, flags, patience) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.wake.retire();
        if self.features.cancel_fd {
            for _ in 0..DRAIN_TURNS {
                if self.armed == 0 {
                    break;
                }
                self.forget_about(opcode::AsyncCancel2::new(CancelBuilder::any()).build());
                if self.submit_and_wait(Some(DRAIN_WAIT)).is_err() {
                    break;
                }
                while let Some(entry) = self.next_entry() {
                    let own = matches!((entry.user_data() >> 56) as u8, kind::IGNORED | kind::WOKEN | kind::PEER);
                    self.armed -= usize::from(!own && !cqueue::more(entry.flags()));
                }
            }
        }
        if self.armed > 0 {
            return; // the kernel may still write to the memory: it is leaked
        }
        // SAFETY: no operation is armed, so the kernel refers to none of this; nothing uses the fields after this.
        unsafe {
            ManuallyDrop::drop(&mut self.flights);
            ManuallyDrop::drop(&mut self.wake_counter);
        }
        let _ = self.uring.submitter().unregister_buf_ring(BUFFER_GROUP);
        // SAFETY: as above, and the kernel no longer looks for free buffers.
        unsafe { ManuallyDrop::drop(&mut self.pool) };
    }
}

fn outcome(result: i32) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| Errno(-result))
}

/// Receives what is there, without waiting.
fn receive_now(fd: RawFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        // SAFETY: `buffer` is writable for its length.
        let len = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) };
        if let Ok(len) = usize::try_from(len) {
            return Ok(len);
        }
        match io::Error::last_os_error().raw_os_error() {
            Some(libc::EINTR) => {}
            errno => return Err(Errno(errno.unwrap_or(libc::EIO))),
        }
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
