//! What this kernel's io_uring can do, found by trying.
//!
//! Owns: the list of optional features, the check for what is indispensable (the set of Linux 5.15), and the sentence
//! a user reads when io_uring cannot be used. Refuses to know: how a feature is used.
//!
//! Versions are not compared: distributions carry newer io_uring code in older kernels, and containers forbid parts of
//! it. Each feature is tried together with those already found, so that what is probed is what is run. Some ten rings
//! are made and dropped: about a millisecond, once per process.

use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{Builder, IoUring, Probe, cqueue, opcode, squeue};

use super::buffers::BufferPool;
use super::enter::RegisteredFd;
use super::ring::BUFFER_GROUP;

/// The optional features in use. `Default` is none: the set of Linux 5.15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    pub submit_all: bool,
    pub coop_taskrun: bool,
    pub single_issuer: bool,
    /// Needs `single_issuer`.
    pub defer_taskrun: bool,
    pub no_sqarray: bool,
    pub registered_ring_fd: bool,
    pub skip_success: bool,
    pub msg_ring: bool,
    pub cancel_fd: bool,
    pub buffer_ring: bool,
    /// Needs `buffer_ring`.
    pub multishot_recv: bool,
    pub multishot_accept: bool,
    pub no_iowait: bool,
    pub min_wait: bool,
}

/// One feature: its name in the directive that switches it off, what its lack costs, and its field.
struct Row {
    name: &'static str,
    cost: &'static str,
    field: fn(&mut Features) -> &mut bool,
}

const ROWS: &[Row] = &[
    Row {
        name: "submit_all",
        cost: "one refused operation delays those queued behind it (Linux 5.18)",
        field: |f| &mut f.submit_all,
    },
    Row { name: "coop_taskrun", cost: "an interrupt for each completion (Linux 5.19)", field: |f| &mut f.coop_taskrun },
    Row { name: "single_issuer", cost: "a lock in the kernel for each completion (Linux 6.0)", field: |f| &mut f.single_issuer },
    Row {
        name: "defer_taskrun",
        cost: "smaller batches of completions, more CPU under load (Linux 6.1)",
        field: |f| &mut f.defer_taskrun,
    },
    Row { name: "no_sqarray", cost: "one more memory read for each operation (Linux 6.6)", field: |f| &mut f.no_sqarray },
    Row {
        name: "registered_ring_fd",
        cost: "a file lookup for each system call (Linux 5.18)",
        field: |f| &mut f.registered_ring_fd,
    },
    Row {
        name: "skip_success",
        cost: "a completion to skip for each close and wake (Linux 5.17)",
        field: |f| &mut f.skip_success,
    },
    Row { name: "msg_ring", cost: "two more system calls for each wake between cores (Linux 5.18)", field: |f| &mut f.msg_ring },
    Row { name: "cancel_fd", cost: "slower closing of connections (Linux 5.19)", field: |f| &mut f.cancel_fd },
    Row { name: "buffer_ring", cost: "a poll and a system call for each receive (Linux 5.19)", field: |f| &mut f.buffer_ring },
    Row { name: "multishot_recv", cost: "one more operation for each receive (Linux 6.0)", field: |f| &mut f.multishot_recv },
    Row {
        name: "multishot_accept",
        cost: "one more operation for each new connection (Linux 5.19)",
        field: |f| &mut f.multishot_accept,
    },
    Row {
        name: "no_iowait",
        cost: "idle cores are shown as waiting for I/O in top and /proc/pressure (Linux 6.15)",
        field: |f| &mut f.no_iowait,
    },
    Row { name: "min_wait", cost: "a system call for each request of a busy core (Linux 6.12)", field: |f| &mut f.min_wait },
];

/// In the list of features to switch off: all of them.
pub const ALL: &str = "all";

/// Why no ring can be had. `Display` is the sentence for the user, remedy included.
#[derive(Debug)]
pub enum SetupError {
    /// The sysctl `kernel.io_uring_disabled` has this value.
    DisabledBySysctl(u8),
    /// A seccomp profile or security module forbids the system call.
    Forbidden,
    /// There is no such system call: a kernel (or a sandbox in its place) without io_uring.
    Absent,
    TooOld {
        release: String,
        lacks: &'static str,
    },
    /// Locked or kernel memory is short; the soft limit in bytes, if there is one.
    Memlock {
        limit_bytes: Option<u64>,
    },
    /// A feature to be switched off has a name nobody knows.
    UnknownFeature(String),
    Other(io::Error),
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DisabledBySysctl(1) => write!(
                f,
                "io_uring is limited to privileged processes on this host: run `sysctl kernel.io_uring_disabled=0`, \
                 or put this user's group into kernel.io_uring_group"
            ),
            Self::DisabledBySysctl(_) => {
                write!(f, "io_uring is disabled on this host: run `sysctl kernel.io_uring_disabled=0`")
            }
            Self::Forbidden => write!(
                f,
                "io_uring is forbidden here, most likely by the container's seccomp profile: allow io_uring_setup, \
                 io_uring_enter and io_uring_register in it (a profile is in tuning/)"
            ),
            Self::Absent => write!(f, "this kernel has no io_uring: Linux 5.15 or newer, built with CONFIG_IO_URING, is needed"),
            Self::TooOld { release, lacks } => {
                write!(f, "the io_uring of this kernel ({release}) lacks {lacks}: Linux 5.15 or newer is needed")
            }
            Self::Memlock { limit_bytes: Some(bytes) } => write!(
                f,
                "no memory for an io_uring: RLIMIT_MEMLOCK is {} kB, raise it to 65536 kB (`ulimit -l 65536`, or \
                 LimitMEMLOCK=64M in the systemd unit), or raise the memory limit of the container",
                bytes / 1024
            ),
            Self::Memlock { limit_bytes: None } => {
                write!(f, "no memory for an io_uring: raise the memory limit of the container or free memory on this host")
            }
            Self::UnknownFeature(name) => {
                write!(f, "there is no io_uring feature '{name}'; known are {ALL}")?;
                ROWS.iter().try_for_each(|row| write!(f, ", {}", row.name))
            }
            Self::Other(error) if error.raw_os_error() == Some(libc::EMFILE) => write!(
                f,
                "no descriptor left for an io_uring: raise the limit on open files (`ulimit -n`, or LimitNOFILE in the systemd unit)"
            ),
            Self::Other(error) => write!(f, "an io_uring cannot be set up: {error}"),
        }
    }
}

impl std::error::Error for SetupError {}

impl SetupError {
    /// What the failure of io_uring_setup means.
    pub(super) fn from_setup(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                let text = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
                match text.trim().parse() {
                    Ok(level @ 1..=2) => Self::DisabledBySysctl(level),
                    _ => Self::Forbidden,
                }
            }
            Some(libc::ENOSYS) => Self::Absent,
            Some(libc::ENOMEM) => Self::Memlock { limit_bytes: memlock_limit_bytes() },
            _ => Self::Other(error),
        }
    }
}

impl Features {
    /// Finds what the kernel has, leaving out `switched_off` (names as in [`Features::names`], or [`ALL`]).
    pub fn probe(switched_off: &[String]) -> Result<Self, SetupError> {
        let mut allowed = Self::default();
        for row in ROWS {
            *(row.field)(&mut allowed) = true;
        }
        for name in switched_off {
            if name == ALL {
                allowed = Self::default();
                continue;
            }
            let row = ROWS.iter().find(|row| row.name == name).ok_or_else(|| SetupError::UnknownFeature(name.clone()))?;
            *(row.field)(&mut allowed) = false;
        }
        // On a thread of its own: taking rings down later interrupts system calls of the thread that made them (EINTR).
        let prober = std::thread::Builder::new().name("probe".to_owned());
        let probed = prober.spawn(move || Self::probe_here(allowed)).map_err(SetupError::Other)?.join();
        probed.expect("probing does not panic")
    }

    fn probe_here(mut allowed: Self) -> Result<Self, SetupError> {
        demand_base(&IoUring::new(PROBE_ENTRIES).map_err(SetupError::from_setup)?)?;
        let mut found = Self::default();
        for row in ROWS {
            if *(row.field)(&mut allowed) {
                *(row.field)(&mut found) = true;
                let works = found.consistent() && found.works(row.name).unwrap_or(false);
                *(row.field)(&mut found) = works;
            }
        }
        Ok(found)
    }

    /// Each feature that is not in use, with what that costs.
    pub fn missing(&self) -> Vec<(&'static str, &'static str)> {
        let mut copy = *self;
        ROWS.iter().filter(|row| !*(row.field)(&mut copy)).map(|row| (row.name, row.cost)).collect()
    }

    pub fn names() -> impl Iterator<Item = &'static str> {
        ROWS.iter().map(|row| row.name)
    }

    /// Whether every feature's own needs are met.
    pub fn consistent(&self) -> bool {
        (self.single_issuer || !self.defer_taskrun) && (self.buffer_ring || !self.multishot_recv)
    }

    /// The flags of setup that follow.
    pub(super) fn builder(&self) -> Builder {
        let mut builder = IoUring::builder();
        if self.submit_all {
            builder.setup_submit_all();
        }
        if self.coop_taskrun {
            builder.setup_coop_taskrun();
        }
        if self.single_issuer {
            builder.setup_single_issuer();
        }
        if self.defer_taskrun {
            builder.setup_defer_taskrun();
        }
        if self.coop_taskrun || self.defer_taskrun {
            builder.setup_taskrun_flag();
        }
        if self.no_sqarray {
            builder.setup_no_sqarray();
        }
        builder
    }

    /// Tries the feature `name` on a ring made with what is found so far, `name` included.
    fn works(&self, name: &str) -> io::Result<bool> {
        let mut ring = self.builder().build(PROBE_ENTRIES)?;
        match name {
            "registered_ring_fd" => RegisteredFd::new(ring.as_raw_fd()).map(|_| true),
            "skip_success" => Ok(ring.params().is_feature_skip_cqe_on_success()),
            "no_iowait" => Ok(ring.params().is_feature_no_iowait()),
            "min_wait" => Ok(ring.params().is_feature_min_timeout()),
            "msg_ring" => msg_ring_works(&mut ring, self),
            "cancel_fd" => cancel_fd_works(&mut ring),
            "buffer_ring" => buffer_ring_works(&mut ring, false),
            "multishot_recv" => buffer_ring_works(&mut ring, true),
            "multishot_accept" => multishot_accept_works(&mut ring),
            _ => Ok(true), // a flag of setup, which has succeeded
        }
    }
}

const PROBE_ENTRIES: u32 = 8;
/// How long a probe waits for a completion that ought to be there at once.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);

/// Refuses a kernel without what the ring always uses: the set of Linux 5.15.
fn demand_base(ring: &IoUring) -> Result<(), SetupError> {
    let params = ring.params();
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(SetupError::Other)?;
    let needs = [
        (params.is_feature_nodrop(), "completions that are never dropped"),
        (params.is_feature_fast_poll(), "internal polling"),
        (params.is_feature_ext_arg(), "timed waiting"),
        (params.is_feature_native_workers(), "native workers"),
        (probe.is_supported(opcode::LinkAt::CODE), "the operations of Linux 5.15"),
    ];
    match needs.iter().find(|(present, _)| !present) {
        None => Ok(()),
        Some((_, lacks)) => {
            let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
            Err(SetupError::TooOld { release: release.trim().to_owned(), lacks })
        }
    }
}

/// Queues `entry`, whose memory outlives the ring, and waits for one completion.
fn run(ring: &mut IoUring, entry: &squeue::Entry, after_submit: impl FnOnce() -> io::Result<()>) -> io::Result<cqueue::Entry> {
    // SAFETY: the callers pass operations on descriptors and on buffers that live until the ring is dropped.
    unsafe { ring.submission().push(entry) }.expect("the ring of a probe holds one entry");
    ring.submit()?;
    after_submit()?;
    let patience = Timespec::from(PROBE_PATIENCE);
    ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&patience))?;
    ring.completion().next().ok_or_else(|| io::ErrorKind::TimedOut.into())
}

fn msg_ring_works(ring: &mut IoUring, features: &Features) -> io::Result<bool> {
    let mut target = features.builder().build(PROBE_ENTRIES)?;
    let entry = opcode::MsgRingData::new(Fd(target.as_raw_fd()), 0, 1, None).build();
    if run(ring, &entry, || Ok(()))?.result() < 0 {
        return Ok(false);
    }
    let patience = Timespec::from(PROBE_PATIENCE);
    target.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&patience))?;
    Ok(target.completion().next().is_some())
}

fn cancel_fd_works(ring: &mut IoUring) -> io::Result<bool> {
    let (idle, _peer) = UnixStream::pair()?;
    let entry = opcode::AsyncCancel2::new(CancelBuilder::fd(Fd(idle.as_raw_fd())).all()).build();
    let result = run(ring, &entry, || Ok(()))?.result();
    Ok(result == 0 || result == -libc::ENOENT)
}

fn buffer_ring_works(ring: &mut IoUring, multishot: bool) -> io::Result<bool> {
    const BUFFERS: u16 = 2;
    const BUFFER_BYTES: u32 = 64;
    let pool = BufferPool::new(BUFFERS, BUFFER_BYTES, true)?;
    let (address, entries) = pool.shared_ring().expect("a shared pool was asked for");
    // SAFETY: the mapping at `address` holds `entries` entries and lives until the group is unregistered below.
    unsafe { ring.submitter().register_buf_ring_with_flags(address, entries, BUFFER_GROUP, 0) }?;
    let (mut writer, reader) = UnixStream::pair()?;
    let fd = Fd(reader.as_raw_fd());
    let entry = if multishot {
        opcode::RecvMulti::new(fd, BUFFER_GROUP).build()
    } else {
        opcode::Recv::new(fd, std::ptr::null_mut(), BUFFER_BYTES)
            .buf_group(BUFFER_GROUP)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT)
    };
    let outcome = run(ring, &entry, || writer.write_all(b"x"));
    // The receive ends with its peer, before the memory it would write to is unmapped.
    drop(writer);
    if outcome.as_ref().is_ok_and(|cqe| cqueue::more(cqe.flags())) {
        let patience = Timespec::from(PROBE_PATIENCE);
        ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&patience))?;
    }
    ring.submitter().unregister_buf_ring(BUFFER_GROUP)?;
    let cqe = outcome?;
    Ok(cqe.result() == 1 && cqueue::buffer_select(cqe.flags()).is_some() && cqueue::more(cqe.flags()) == multishot)
}

fn multishot_accept_works(ring: &mut IoUring) -> io::Result<bool> {
    use std::os::linux::net::SocketAddrExt;
    // An earlier probe's listener may linger while its ring is taken down: each gets a name of its own.
    static PROBES: AtomicU32 = AtomicU32::new(0);
    let name = format!("kvcore-probe-{}-{}", std::process::id(), PROBES.fetch_add(1, Ordering::Relaxed));
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
    let listener = UnixListener::bind_addr(&address)?;
    let entry = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).flags(libc::SOCK_CLOEXEC).build();
    let mut client = None;
    let cqe = run(ring, &entry, || {
        client = Some(UnixStream::connect_addr(&address)?);
        Ok(())
    })?;
    if cqe.result() >= 0 {
        // SAFETY: the descriptor was just accepted and belongs to no one else.
        drop(unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(cqe.result()) });
    }
    Ok(cqe.result() >= 0 && cqueue::more(cqe.flags()))
}

fn memlock_limit_bytes() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable for the call.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) } != 0;
    (!failed && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_can_be_switched_off_together_and_alone() {
        let full = Features::probe(&[]).unwrap();
        let none = Features::probe(&[ALL.to_owned()]).unwrap();
        assert_eq!(none, Features::default());
        assert_eq!(none.missing().len(), ROWS.len());
        for name in Features::names() {
            let found = Features::probe(&[name.to_owned()]).unwrap();
            assert!(found.consistent());
            assert!(found.missing().iter().any(|(missing, _)| *missing == name));
            assert!(found.missing().len() <= full.missing().len() + 2, "without {name}: {found:?}");
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let sentence = Features::probe(&["polling".to_owned()]).unwrap_err().to_string();
        assert!(sentence.contains("'polling'") && sentence.contains("buffer_ring"), "{sentence}");
    }

    #[test]
    fn each_refusal_names_its_remedy() {
        let of = |errno| SetupError::from_setup(io::Error::from_raw_os_error(errno)).to_string();
        assert!(of(libc::EPERM).contains("seccomp") || of(libc::EPERM).contains("sysctl"));
        assert!(of(libc::ENOSYS).contains("5.15"));
        assert!(of(libc::ENOMEM).contains("memory limit"));
        assert!(of(libc::EMFILE).contains("ulimit -n"));
        assert!(SetupError::DisabledBySysctl(2).to_string().contains("kernel.io_uring_disabled=0"));
    }
}
