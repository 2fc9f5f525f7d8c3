//! The memory received bytes arrive in.
//!
//! Owns: a fixed number of equal buffers, and which of them are free. Refuses to know: who receives into them.
//!
//! With a *buffer ring* the kernel takes a free buffer at the moment bytes are there, so idle connections hold none.
//! Without one, this side takes the buffer, also at the moment bytes are there (see [`super::Ring::recv`]). The older
//! interface in which the kernel chooses (`IORING_OP_PROVIDE_BUFFERS`) is not used: before Linux 5.18 it lets every
//! *waiting* receive keep the buffer it has chosen, so as many idle connections as there are buffers would starve the
//! rest for ever, and exactly the kernels without buffer rings would need it.
//!
//! Invariant: a buffer is either the kernel's (or free), or out as exactly one [`Received`]; only the latter is read.
//!
//! The entry of the ring, and the tail in the unused field of the first:
//!
//! ```text
//! entry 0   | addr u64 | len u32 | bid u16 | tail u16 |
//! entry 1   | addr u64 | len u32 | bid u16 |    -     |
//! ```

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

/// Bytes received into one of the ring's buffers. Not `Clone`: giving it to [`super::Ring::recycle`] ends it.
#[derive(Debug)]
#[must_use = "a buffer that is not recycled is lost to the ring"]
pub struct Received {
    id: u16,
    len: u32,
}

impl Received {
    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A private anonymous mapping: page-aligned, zeroed, and given back when dropped.
struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(len: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).expect("mmap without MAP_FIXED never maps page zero");
        Ok(Self { base, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and len are those of the mapping made in `new`, and the owner hands out no borrow that outlives it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Where free buffers wait.
enum Free {
    /// In the ring shared with the kernel. `tail` is ours; the kernel sees it at [`BufferPool::publish`].
    Shared { entries: Mapping, tail: u16, published: u16 },
    /// Here, the kernel knowing nothing of them.
    Own(Vec<u16>),
}

pub(super) struct BufferPool {
    memory: Mapping,
    count: u16,
    buffer_bytes: u32,
    free: Free,
    /// Buffers out as [`Received`].
    out: Vec<bool>,
}

/// The kernel's bound on the entries of one buffer ring.
pub(super) const BUFFERS_MAX: u16 = 1 << 15;

impl BufferPool {
    /// `count` is a power of two; all buffers are free.
    pub(super) fn new(count: u16, buffer_bytes: u32, shared: bool) -> io::Result<Self> {
        assert!(count.is_power_of_two() && count <= BUFFERS_MAX && buffer_bytes > 0);
        let free = if shared {
            let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
            Free::Shared { entries, tail: 0, published: 0 }
        } else {
            Free::Own(Vec::with_capacity(usize::from(count)))
        };
        let memory = Mapping::new(usize::from(count) * buffer_bytes as usize)?;
        let mut pool = Self { memory, count, buffer_bytes, free, out: vec![false; usize::from(count)] };
        for id in (0..count).rev() {
            pool.put(id);
        }
        pool.publish();
        Ok(pool)
    }

    /// The address and entry count to register with the kernel, if buffers are shared with it.
    pub(super) fn shared_ring(&self) -> Option<(u64, u16)> {
        match &self.free {
            Free::Shared { entries, .. } => Some((entries.base.as_ptr() as u64, self.count)),
            Free::Own(_) => None,
        }
    }

    pub(super) fn buffer_bytes(&self) -> u32 {
        self.buffer_bytes
    }

    /// Buffers that are free or the kernel's.
    pub(super) fn available(&self) -> usize {
        self.out.iter().filter(|&&out| !out).count()
    }

    /// The kernel has filled buffer `id` with `len` bytes and given it up.
    pub(super) fn filled(&mut self, id: u16, len: u32) -> Received {
        assert!(id < self.count && len <= self.buffer_bytes, "the kernel names buffers and lengths it was given");
        assert!(!self.out[usize::from(id)], "a buffer is out at most once");
        self.out[usize::from(id)] = true;
        Received { id, len }
    }

    /// Fills a free buffer of our own by `fill`, which gets the buffer and returns how many of its bytes it has
    /// written; an error, or nothing written, leaves the buffer free. `None` if no buffer is free.
    pub(super) fn fill<E>(
        &mut self,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Option<Result<(usize, Option<Received>), E>> {
        let Free::Own(free) = &mut self.free else { unreachable!("the kernel chooses from a shared pool") };
        let id = *free.last()?;
        let (offset, len) = (usize::from(id) * self.buffer_bytes as usize, self.buffer_bytes as usize);
        // SAFETY: the range lies in the mapping, which is initialised (zeroed); a free buffer of our own is known to
        // no one else, neither as a `Received` nor to the kernel.
        let buffer = unsafe { std::slice::from_raw_parts_mut(self.memory.base.as_ptr().add(offset), len) };
        Some(fill(buffer).map(|written| {
            if written == 0 {
                return (0, None);
            }
            if let Free::Own(free) = &mut self.free {
                free.pop();
            }
            (written, Some(self.filled(id, written as u32)))
        }))
    }

    pub(super) fn bytes(&self, received: &Received) -> &[u8] {
        debug_assert!(self.out[usize::from(received.id)]);
        let offset = usize::from(received.id) * self.buffer_bytes as usize;
        // SAFETY: `filled` has checked id and length; the buffer is out, so neither the kernel nor `fill` writes to it
        // until `recycle`, which needs this pool mutably and the `Received` by value.
        unsafe { std::slice::from_raw_parts(self.memory.base.as_ptr().add(offset), received.len as usize) }
    }

    /// Makes the buffer free. The kernel learns of it at the next `publish`.
    pub(super) fn recycle(&mut self, received: Received) {
        let out = &mut self.out[usize::from(received.id)];
        assert!(*out, "a buffer is recycled by the ring it came from");
        *out = false;
        self.put(received.id);
    }

    fn put(&mut self, id: u16) {
        let offset = usize::from(id) * self.buffer_bytes as usize;
        match &mut self.free {
            Free::Own(free) => free.push(id),
            Free::Shared { entries, tail, .. } => {
                let slot = usize::from(*tail & (self.count - 1));
                // SAFETY: slot < count, the number of entries the mapping holds. At most `count` buffers are free, so
                // the kernel has consumed what this slot held before; it does not read the slot until the tail passes.
                unsafe {
                    let entry = &mut *entries.base.as_ptr().cast::<BufRingEntry>().add(slot);
                    entry.set_addr(self.memory.base.as_ptr().add(offset) as u64);
                    entry.set_len(self.buffer_bytes);
                    entry.set_bid(id);
                }
                *tail = tail.wrapping_add(1);
            }
        }
    }

    /// Shows the kernel all buffers freed since the last call, by one store.
    pub(super) fn publish(&mut self) {
        if let Free::Shared { entries, tail, published } = &mut self.free
            && tail != published
        {
            // SAFETY: the mapping holds at least one entry; the address of its tail field is aligned and lives as long
            // as the mapping. The kernel only reads it.
            let shared = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(entries.base.as_ptr().cast()).cast_mut()) };
            shared.store(*tail, Ordering::Release);
            *published = *tail;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_buffers_run_out_and_come_back() {
        let mut pool = BufferPool::new(2, 64, false).unwrap();
        let write = |text: &'static [u8]| {
            move |buffer: &mut [u8]| {
                buffer[..text.len()].copy_from_slice(text);
                Ok::<_, ()>(text.len())
            }
        };
        let (_, one) = pool.fill(write(b"one")).unwrap().unwrap();
        let (_, two) = pool.fill(write(b"two")).unwrap().unwrap();
        assert!(pool.fill(write(b"three")).is_none());
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!((pool.bytes(&one), pool.bytes(&two)), (&b"one"[..], &b"two"[..]));
        pool.recycle(one);
        assert_eq!(pool.available(), 1);
        assert!(pool.fill(|_| Err::<usize, _>("reset")).unwrap().is_err());
        let (_, three) = pool.fill(write(b"three")).unwrap().unwrap();
        assert_eq!(pool.bytes(&three.unwrap()), b"three");
        assert_eq!(pool.bytes(&two), b"two");
    }

    #[test]
    fn shared_tail_is_published_in_one_step_and_wraps() {
        let mut pool = BufferPool::new(4, 64, true).unwrap();
        for _ in 0..70_000 {
            let received = pool.filled(3, 1);
            pool.recycle(received);
        }
        let Free::Shared { tail, published, .. } = &pool.free else { panic!("asked for a shared ring") };
        assert_eq!((*tail, *published), (70_004u32 as u16, 4));
        pool.publish();
        let Free::Shared { tail, published, .. } = &pool.free else { panic!("asked for a shared ring") };
        assert_eq!(tail, published);
    }
}
