//! What a process does with the system around it: becoming a daemon, limits, signals, random numbers for ids.

use crate::config::Config;
use crate::config::structures::ShutdownBySignal;
use crate::core::shared::{Node, ShutdownOptions};
use crate::observe::log;
use std::io::{self, Read};
use std::sync::Arc;

/// Descriptors kept back for files and the node itself, as Redis does.
const RESERVED_DESCRIPTORS: u64 = 32;

/// Detaches from the terminal. Must be called before any thread is started.
pub fn daemonize() -> io::Result<()> {
    // SAFETY: the process has one thread; the parent leaves at once without running destructors.
    unsafe {
        match libc::fork() {
            -1 => return Err(io::Error::last_os_error()),
            0 => {}
            _ => libc::_exit(0),
        }
        libc::setsid();
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        if null >= 0 {
            for fd in 0..3 {
                libc::dup2(null, fd);
            }
            if null > 2 {
                libc::close(null);
            }
        }
    }
    Ok(())
}

/// Keeps the kernel from backing memory with huge pages (`disable-thp`): they cost a small node several MB.
pub fn disable_huge_pages() {
    // SAFETY: no memory is involved. Where it fails, memory is as it was.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

/// Gives the calling thread a lower share of its CPU than threads that serve clients have.
pub fn yield_to_others() {
    const NICE: i32 = 10;
    // SAFETY: no memory is involved; 0 names the calling thread. Where it fails, the share is as it was.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

/// Raises the limit on descriptors for `maxclients`, or lowers `maxclients` to what the limit allows.
pub fn fit_limits(mut config: Config, cores: usize) -> Result<Config, String> {
    let reserved = RESERVED_DESCRIPTORS + 8 * cores as u64;
    let wanted = u64::from(config.maxclients) + reserved;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live value of the type the call fills.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Ok(config);
    }
    if limit.rlim_cur >= wanted {
        return Ok(config);
    }
    let raised = libc::rlimit { rlim_cur: wanted.min(limit.rlim_max.max(wanted)), rlim_max: limit.rlim_max.max(wanted) };
    // SAFETY: plain values are passed by a pointer to a live one.
    let set = |limit: &libc::rlimit| unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, limit) } == 0;
    if set(&raised) {
        log::notice(&format!(
            "Increased maximum number of open files to {wanted} (it was originally set to {}).",
            limit.rlim_cur
        ));
        return Ok(config);
    }
    let most = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
    let available = if set(&most) { limit.rlim_max } else { limit.rlim_cur };
    if available >= wanted {
        return Ok(config);
    }
    if available <= reserved {
        return Err(format!(
            "Your current 'ulimit -n' of {available} is not enough for the server to start. Please increase your open file limit to at least {}. Exiting.",
            reserved + 1
        ));
    }
    let clients = (available - reserved) as u32;
    log::warning(&format!(
        "You requested maxclients of {} requiring at least {wanted} max file descriptors. Current maximum open files is {available}. maxclients has been reduced to {clients} to compensate for low ulimit. If you need higher maxclients increase 'ulimit -n'.",
        config.maxclients
    ));
    config.maxclients = clients;
    Ok(config)
}

fn shutdown_signals() -> libc::sigset_t {
    // SAFETY: a signal set is plain bits; `sigemptyset` makes it valid before it is used.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGTERM);
        libc::sigaddset(&mut set, libc::SIGINT);
        set
    }
}

/// Keeps SIGTERM and SIGINT for [`watch_signals`]; must be called before threads are started. SIGPIPE and SIGHUP are ignored.
pub fn block_signals() {
    let set = shutdown_signals();
    // SAFETY: `set` is a valid signal set; ignoring a signal installs no handler.
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
    }
}

/// Asks the node to end in order at the first SIGTERM or SIGINT, and wakes its cores; ends it at once at a second SIGINT.
pub fn watch_signals(node: Arc<Node>, wake_cores: impl Fn() + Send + 'static) {
    let watch = move || {
        let set = shutdown_signals();
        loop {
            let mut signal = 0;
            // SAFETY: `set` is a valid signal set and `signal` a live integer.
            if unsafe { libc::sigwait(&set, &mut signal) } != 0 {
                return;
            }
            if node.shutdown.wanted().is_some() && signal == libc::SIGINT {
                log::warning("You insist... exiting now.");
                std::process::exit(1);
            }
            let config = node.current_config();
            let (name, how) = match signal {
                libc::SIGINT => ("SIGINT", config.shutdown_on_sigint),
                _ => ("SIGTERM", config.shutdown_on_sigterm),
            };
            log::warning(&format!("Received {name} scheduling shutdown..."));
            let ShutdownBySignal { save, nosave: no_save, now, force } = how;
            node.shutdown.want(ShutdownOptions { no_save, save, now, force }, None);
            wake_cores();
        }
    };
    // Without the thread the node runs on; a signal then ends it the hard way.
    if std::thread::Builder::new().name("signals".into()).spawn(watch).is_err() {
        log::warning("Can't start the thread that waits for signals");
    }
}

fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes));
    read.expect("every Linux system has /dev/urandom");
    bytes
}

/// Lower-case hexadecimal digits, as run ids and replication ids are made of.
pub fn random_hex(digits: usize) -> String {
    let hex = random_bytes::<32>().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    hex[..digits.min(64)].to_owned()
}

/// Seeds for hashing and sampling.
pub fn random_words() -> [u64; 4] {
    let bytes = random_bytes::<32>();
    std::array::from_fn(|word| u64::from_ne_bytes(std::array::from_fn(|byte| bytes[word * 8 + byte])))
}
