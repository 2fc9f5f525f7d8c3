//! Time for measuring: a counter of the processor where it has a steady one, the system's monotonic clock elsewhere.
//!
//! Two reads a command would cost more than some commands if each were a system clock's; the counter costs about 10 ns.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long the counter is compared with the system's clock at the start.
const CALIBRATION: Duration = Duration::from_millis(5);

pub struct Clock {
    started: Instant,
    #[cfg(target_arch = "x86_64")]
    counter: Option<Counter>,
}

#[cfg(target_arch = "x86_64")]
struct Counter {
    start: u64,
    /// Nanoseconds per tick, as a fraction of 2^32.
    scale: u64,
}

impl Clock {
    pub fn new() -> Self {
        Clock {
            started: Instant::now(),
            #[cfg(target_arch = "x86_64")]
            counter: Counter::calibrated(),
        }
    }

    /// Nanoseconds since this clock was made.
    #[inline]
    pub fn nanos(&self) -> u64 {
        #[cfg(target_arch = "x86_64")]
        if let Some(counter) = &self.counter {
            return counter.nanos();
        }
        self.started.elapsed().as_nanos() as u64
    }
}

#[cfg(target_arch = "x86_64")]
impl Counter {
    fn calibrated() -> Option<Self> {
        if !counter_is_steady() {
            return None;
        }
        let (began, start) = (Instant::now(), ticks());
        while began.elapsed() < CALIBRATION {
            std::hint::spin_loop();
        }
        let (nanos, end) = (began.elapsed().as_nanos() as u64, ticks());
        let passed = end.checked_sub(start).filter(|&passed| passed > 0)?;
        Some(Counter { start: end, scale: ((u128::from(nanos) << 32) / u128::from(passed)) as u64 })
    }

    #[inline]
    fn nanos(&self) -> u64 {
        ((u128::from(ticks().wrapping_sub(self.start)) * u128::from(self.scale)) >> 32) as u64
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn ticks() -> u64 {
    // SAFETY: the instruction exists on every x86_64 and touches no memory.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Whether the counter runs at one rate in all power states (the "invariant TSC" bit).
#[cfg(target_arch = "x86_64")]
fn counter_is_steady() -> bool {
    use std::arch::x86_64::__cpuid;
    __cpuid(0x8000_0000).eax >= 0x8000_0007 && __cpuid(0x8000_0007).edx & (1 << 8) != 0
}

/// Where monotonic time comes from, in INFO's words.
pub fn source() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if counter_is_steady() {
        return "X86 TSC";
    }
    "POSIX clock_gettime"
}

/// Milliseconds since 1970.
pub fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Microseconds since 1970.
pub fn wall_micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

/// The CPU time of the calling thread so far, nanoseconds.
pub fn thread_cpu_nanos() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable for the call. It cannot fail with this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
