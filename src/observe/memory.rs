//! Memory in use, counted exactly: every allocation of the process goes through here.
//!
//! Each thread counts for itself, on a cache line of its own; the sum over all threads is what is in use. Memory allocated on
//! one core and freed on another shows as plus there and minus here, so only the sum has a meaning.

use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
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

/// The size an allocation of `size` bytes takes: classes every 8 bytes up to 64, then four per doubling.
#[inline]
fn class_size(size: usize) -> i64 {
    if size <= 64 {
        return size.next_multiple_of(8) as i64;
    }
    let step = 1usize << ((size - 1).ilog2() - 2);
    size.next_multiple_of(step) as i64
}

// SAFETY: every call is passed on unchanged to mimalloc, which keeps GlobalAlloc's contract; counting touches no memory of the
// caller's and does not allocate (the thread-local is const-initialised and has no destructor).
unsafe impl GlobalAlloc for CountingAllocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(class_size(layout.size()));
        // SAFETY: the caller's obligations are those of mimalloc's `alloc`.
        unsafe { MiMalloc.alloc(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        add(-class_size(layout.size()));
        // SAFETY: as above; `pointer` came from this allocator, that is from mimalloc.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(class_size(layout.size()));
        // SAFETY: as in `alloc`.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        add(class_size(new_size) - class_size(layout.size()));
        // SAFETY: as in `dealloc`.
        unsafe { MiMalloc.realloc(pointer, layout, new_size) }
    }
}
