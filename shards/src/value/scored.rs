//! `Scored`: a sorted set's member with its score, in one allocation.
//!
//! Owns the layout of that block, and the unsafe code that reads it. Refuses to know tables and orders: who holds a handle
//! decides when the block is freed.
//!
//! ```text
//! pointer ──► score: f64 │ len: u8 │ byte 0 … len-1               members of up to 254 bytes
//!             score: f64 │ 255 │ len: u32 │ byte 0 … len-1        longer ones
//! ```
//!
//! A handle is a plain pointer that the member table and the order share. The rule all users keep: a block is made in
//! [`Scored::new`], reached only while its member table holds it, and freed once, on leaving that table.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// A handle to a live block. Copying it copies the pointer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scored(NonNull<u8>);

const SCORE: usize = size_of::<f64>();
/// Value of the short length that says that a long one follows.
const LONG: u8 = u8::MAX;
const ALIGN: usize = 8;

// SAFETY: a block is plain bytes, reached only through the one value that owns its member table; handles move with it.
unsafe impl Send for Scored {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Scored {}

impl Scored {
    pub fn new(member: &[u8], score: f64) -> Self {
        let (offset, len) = (Self::offset_for(member.len()), member.len());
        let layout = Self::layout(offset + len);
        // SAFETY: the layout's size is not 0. The writes stay inside it: 8 bytes of score at the aligned start, the length of 1 or
        // 1 + 4 bytes behind it, and `len` bytes from `offset` on, which end at `offset + len`. `member` is a borrow of other
        // memory, so it cannot overlap the fresh block.
        unsafe {
            let Some(block) = NonNull::new(alloc(layout)) else { handle_alloc_error(layout) };
            block.cast::<f64>().write(score);
            if len < usize::from(LONG) {
                block.add(SCORE).write(len as u8);
            } else {
                block.add(SCORE).write(LONG);
                block.add(SCORE + 1).cast::<[u8; 4]>().write((len as u32).to_ne_bytes());
            }
            std::ptr::copy_nonoverlapping(member.as_ptr(), block.as_ptr().add(offset), len);
            Scored(block)
        }
    }

    /// The word a table stores.
    #[inline]
    pub fn to_payload(self) -> u64 {
        self.0.as_ptr() as u64
    }

    /// # Safety
    /// `payload` must come from [`Scored::to_payload`] of a block that has not been freed.
    #[inline]
    pub unsafe fn from_payload(payload: u64) -> Self {
        // SAFETY: the payload of a live block is its non-null pointer.
        Scored(unsafe { NonNull::new_unchecked(payload as *mut u8) })
    }

    #[inline]
    pub fn score(self) -> f64 {
        // SAFETY: a live block begins with its score, aligned to 8.
        unsafe { self.0.cast::<f64>().read() }
    }

    #[inline]
    pub fn set_score(self, score: f64) {
        // SAFETY: as in `score`; the value that owns the block is borrowed mutably, and members are the only references given out.
        unsafe { self.0.cast::<f64>().write(score) }
    }

    /// The caller chooses the lifetime: it must end before the block is freed.
    #[inline]
    pub(super) fn member<'a>(self) -> &'a [u8] {
        // SAFETY: a live block has its length behind the score, and that many initialised bytes behind the length; the bytes are
        // never written again after `new`.
        unsafe {
            let short = self.0.add(SCORE).read();
            let (offset, len) = if short < LONG {
                (SCORE + 1, usize::from(short))
            } else {
                (SCORE + 5, u32::from_ne_bytes(self.0.add(SCORE + 1).cast::<[u8; 4]>().read()) as usize)
            };
            std::slice::from_raw_parts(self.0.as_ptr().add(offset), len)
        }
    }

    /// Heap bytes of the block.
    pub fn bytes(self) -> usize {
        let len = self.member().len();
        Self::layout(Self::offset_for(len) + len).size()
    }

    /// # Safety
    /// Nobody may use the block, through any copy of the handle, afterwards.
    pub unsafe fn free(self) {
        let layout = Self::layout(Self::offset_for(self.member().len()) + self.member().len());
        // SAFETY: the block came from `alloc` with the same layout, which follows from the member's length alone.
        unsafe { dealloc(self.0.as_ptr(), layout) }
    }

    #[inline]
    fn offset_for(len: usize) -> usize {
        if len < usize::from(LONG) { SCORE + 1 } else { SCORE + 5 }
    }

    #[inline]
    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size.next_multiple_of(ALIGN), ALIGN).expect("a block is far smaller than the address space")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_every_length_class() {
        for len in [0, 1, 11, 254, 255, 256, 70_000] {
            let member = vec![b'm'; len];
            let block = Scored::new(&member, -1.5);
            assert_eq!((block.member(), block.score()), (&member[..], -1.5));
            block.set_score(2.0);
            // SAFETY: the block is live, and the handle is not used after `free`.
            let again = unsafe { Scored::from_payload(block.to_payload()) };
            assert_eq!((again.member(), again.score()), (&member[..], 2.0));
            assert!(block.bytes() >= len + 9 && block.bytes() < len + 21);
            // SAFETY: the last use of the block.
            unsafe { block.free() }
        }
    }
}
