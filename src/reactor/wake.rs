//! Waking a core that sleeps in its ring.
//!
//! Owns: the eventfd by which any thread reaches a ring, and what another ring needs to reach it directly. Refuses to
//! know: whether the core sleeps; who wakes a core that is awake wastes 20 to 30 µs on both sides.
//!
//! A wake only ends the sleep: it carries nothing, and several may count as one.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The way to one ring. Clones lead to the same ring; after that is gone a wake does nothing.
#[derive(Clone, Debug)]
pub struct Wake {
    target: Arc<Target>,
}

#[derive(Debug)]
struct Target {
    ring_fd: RawFd,
    alive: AtomicBool,
    eventfd: OwnedFd,
}

impl Wake {
    pub(super) fn new(ring_fd: RawFd) -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to no one else.
        let eventfd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { target: Arc::new(Target { ring_fd, alive: AtomicBool::new(true), eventfd }) })
    }

    /// Wakes the ring from a thread that has none: the signal thread, glommio's executor, a test. One system call.
    pub fn wake_from_outside(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: `one` is 8 readable bytes, and the eventfd is open as long as `target` lives. The result is of no
        // use: 8 bytes are written whole, and a counter at its maximum wakes all the same.
        unsafe { libc::write(self.target.eventfd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// The descriptor of the ring, if it still is one.
    pub(super) fn ring_fd(&self) -> Option<RawFd> {
        self.target.alive.load(Ordering::Acquire).then_some(self.target.ring_fd)
    }

    pub(super) fn eventfd(&self) -> RawFd {
        self.target.eventfd.as_raw_fd()
    }

    /// The ring is about to close its descriptor.
    pub(super) fn retire(&self) {
        self.target.alive.store(false, Ordering::Release);
    }

    pub(super) fn same_target(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.target, &other.target)
    }
}
