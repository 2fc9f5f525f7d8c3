//! The system call io_uring_enter in the two forms the io-uring crate does not combine: by a registered ring, whose
//! index the crate forgets with each borrow, and with a timeout.
//!
//! Owns: the layouts the kernel expects. Refuses to know: what is submitted.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::EnterFlags;

/// How long to wait, at most.
#[derive(Clone, Copy, Default)]
pub(super) struct Patience {
    /// For one completion; `None`: for ever.
    pub timeout: Option<Duration>,
    /// For more than one, if that many are asked for; needs the feature `min_wait`.
    pub min_wait: Duration,
}

/// Submits `submit` entries and waits for `wait_for` completions with `patience`; returns how many entries the kernel has
/// taken.
///
/// # Safety
///
/// `ring_fd` is a ring, `registered` is of the same ring and thread, and all memory that the entries submitted refer to
/// lives until they have completed.
pub(super) unsafe fn enter(
    ring_fd: RawFd,
    registered: Option<&RegisteredFd>,
    submit: u32,
    wait_for: u32,
    mut flags: EnterFlags,
    patience: Patience,
) -> io::Result<usize> {
    let fd = match registered {
        Some(registered) => {
            flags |= EnterFlags::REGISTERED_RING;
            registered.index as RawFd
        }
        None => ring_fd,
    };
    let timespec = patience.timeout.map(|timeout| KernelTimespec {
        seconds: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        nanoseconds: i64::from(timeout.subsec_nanos()),
    });
    let argument = timespec.as_ref().map(|timespec| GetEventsArg {
        timespec,
        min_wait_us: patience.min_wait.as_micros() as u32,
        ..GetEventsArg::EMPTY
    });
    let (pointer, size) = match &argument {
        Some(argument) => {
            flags |= EnterFlags::EXT_ARG;
            (std::ptr::from_ref(argument), size_of::<GetEventsArg>())
        }
        None => (std::ptr::null(), 0),
    };
    // SAFETY: `argument` and the timespec it points to live across the call; the rest is the caller's promise.
    let taken = unsafe { libc::syscall(libc::SYS_io_uring_enter, fd, submit, wait_for, flags.bits(), pointer, size) };
    if taken < 0 { Err(io::Error::last_os_error()) } else { Ok(taken as usize) }
}

/// Whether the kernel only asks to try again: a signal, the timeout, or a shortage that taking completions relieves.
pub(super) fn passes(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN))
}

/// Has the calling thread's waits end when they are due; by default the kernel takes 50 µs more to round them.
pub(super) fn demand_exact_timers() {
    // SAFETY: no memory is involved. Where it fails, waits are longer.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000) };
}

/// A ring's place in its thread's table of registered rings, which spares a file lookup per system call.
pub(super) struct RegisteredFd {
    ring_fd: RawFd,
    index: u32,
}

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct RsrcUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

impl RegisteredFd {
    const REGISTER: u32 = 20;
    const UNREGISTER: u32 = 21;

    pub(super) fn new(ring_fd: RawFd) -> io::Result<Self> {
        let mut update = RsrcUpdate { offset: u32::MAX, reserved: 0, data: ring_fd as u64 };
        Self::call(ring_fd, Self::REGISTER, &mut update)?;
        Ok(Self { ring_fd, index: update.offset })
    }

    fn call(ring_fd: RawFd, operation: u32, update: &mut RsrcUpdate) -> io::Result<()> {
        // SAFETY: `update` is one entry, writable for the call.
        let done = unsafe { libc::syscall(libc::SYS_io_uring_register, ring_fd, operation, std::ptr::from_mut(update), 1) };
        if done == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for RegisteredFd {
    fn drop(&mut self) {
        let mut update = RsrcUpdate { offset: self.index, reserved: 0, data: 0 };
        let _ = Self::call(self.ring_fd, Self::UNREGISTER, &mut update);
    }
}

/// `struct __kernel_timespec`.
#[repr(C)]
struct KernelTimespec {
    seconds: i64,
    nanoseconds: i64,
}

/// `struct io_uring_getevents_arg`, on targets of 64 bits.
#[repr(C)]
struct GetEventsArg {
    signal_mask: u64,
    signal_mask_bytes: u32,
    min_wait_us: u32,
    timespec: *const KernelTimespec,
}

impl GetEventsArg {
    const EMPTY: Self = Self { signal_mask: 0, signal_mask_bytes: 0, min_wait_us: 0, timespec: std::ptr::null() };
}

const _: () = assert!(size_of::<GetEventsArg>() == 24 && size_of::<KernelTimespec>() == 16 && size_of::<RsrcUpdate>() == 16);
