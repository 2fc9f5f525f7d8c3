//! Memory in use, counted exactly: every allocation of the process goes through here.
//!
//! Each thread counts for itself, on a cache line of its own; the sum over all threads is what is in use. Memory allocated on
//! one core and freed on another shows as plus there and minus here, so only the sum has a meaning.

use libmimalloc_sys::{
    mi_collect, mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc, mi_zalloc_aligned,
};
use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

pub struct CountingAllocator;

/// Threads beyond this many share the last place; cores and a few helpers are far fewer.
const THREADS_MAX: usize = 2048;

#[repr(align(128))]
struct Count(AtomicI64);

static COUNTS: [Count; THREADS_MAX] = [const { Count(AtomicI64::new(0)) }; THREADS_MAX];
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static PLACE: Cell<usize> = const { Cell::new(usize::MAX) };
}

#[inline]
fn add(bytes: i64) {
    let place = PLACE.try_with(|place| {
        if place.get() == usize::MAX {
            place.set(THREADS.fetch_add(1, Ordering::Relaxed).min(THREADS_MAX - 1));
        }
        place.get()
    });
    let place = place.unwrap_or(THREADS_MAX - 1);
    let count = &COUNTS[place].0;
    if place == THREADS_MAX - 1 {
        count.fetch_add(bytes, Ordering::Relaxed);
    } else {
        // Only this thread writes here: a plain addition, visible to readers.
        count.store(count.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
    }
}

/// Bytes allocated and not freed, over all threads, rounded up as the allocator's size classes are.
pub fn used() -> u64 {
    let threads = THREADS.load(Ordering::Relaxed).min(THREADS_MAX - 1);
    let sum: i64 = COUNTS[..threads].iter().chain(COUNTS.last()).map(|count| count.0.load(Ordering::Relaxed)).sum();
    sum.max(0) as u64
}

/// Bytes of the process that are in the machine's memory, if the kernel says so.
pub fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * system_figure(libc::_SC_PAGESIZE))
}

/// Bytes of memory the machine has.
pub fn of_the_machine() -> u64 {
    system_figure(libc::_SC_PHYS_PAGES) * system_figure(libc::_SC_PAGESIZE)
}

fn system_figure(name: i32) -> u64 {
    // SAFETY: the call takes a number and touches no memory of ours; an unknown name gives -1.
    unsafe { libc::sysconf(name) }.max(0) as u64
}

/// The size an allocation of `size` bytes takes: classes every 8 bytes up to 64, then four per doubling.
#[inline]
fn class_size(size: usize) -> i64 {
    if size <= 64 {
        return size.next_multiple_of(8) as i64;
    }
    let step = 1usize << ((size - 1).ilog2() - 2);
    size.next_multiple_of(step) as i64
}

/// Alignment that mimalloc gives every allocation by itself (`MI_MAX_ALIGN_SIZE`, set in `.cargo/config.toml`).
const NATURAL_ALIGN: usize = 8;

// SAFETY: every call is passed on to mimalloc with the layout's size and, where it asks for more than the natural alignment, its
// alignment; mimalloc's functions keep GlobalAlloc's contract. Counting touches no memory of the caller's and does not
// allocate (the thread-local is const-initialised and has no destructor).
unsafe impl GlobalAlloc for CountingAllocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(class_size(layout.size()));
        // SAFETY: any size is valid; the alignment is a power of two, by Layout.
        unsafe {
            match layout.align() {
                ..=NATURAL_ALIGN => mi_malloc(layout.size()).cast(),
                align => mi_malloc_aligned(layout.size(), align).cast(),
            }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        add(-class_size(layout.size()));
        // SAFETY: by the caller's word `pointer` came from this allocator, that is from mimalloc, whichever function gave it.
        unsafe { mi_free(pointer.cast()) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(class_size(layout.size()));
        // SAFETY: as in `alloc`.
        unsafe {
            match layout.align() {
                ..=NATURAL_ALIGN => mi_zalloc(layout.size()).cast(),
                align => mi_zalloc_aligned(layout.size(), align).cast(),
            }
        }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        add(class_size(new_size) - class_size(layout.size()));
        // SAFETY: as in `dealloc` and `alloc`.
        unsafe {
            match layout.align() {
                ..=NATURAL_ALIGN => mi_realloc(pointer.cast(), new_size).cast(),
                align => mi_realloc_aligned(pointer.cast(), new_size, align).cast(),
            }
        }
    }
}

/// Gives memory that is free back to the system, as far as this thread can (MEMORY PURGE).
pub fn purge() {
    // SAFETY: collects this thread's free pages; no allocation in use is touched.
    unsafe { mi_collect(true) }
}

/// The allocator's report on itself.
pub fn allocator_report() -> String {
    unsafe extern "C" fn append(text: *const c_char, out: *mut c_void) {
        // SAFETY: mimalloc passes a C string, and `out` as it was given below: the `Vec` that lives in the caller's frame.
        unsafe { (*out.cast::<Vec<u8>>()).extend_from_slice(CStr::from_ptr(text).to_bytes()) };
    }
    let mut out: Vec<u8> = Vec::new();
    // SAFETY: `append` takes what is given with it, and is called before this returns, on this thread.
    unsafe { libmimalloc_sys::mi_stats_print_out(Some(append), (&raw mut out).cast()) };
    String::from_utf8_lossy(&out).into_owned()
}
