//! `Scored`: a sorted set's member with its score, in one allocation.
//!
//! Owns the layout of that block, and the unsafe code that reads it. Refuses to know tables and orders: who holds a handle
//! decides when the block is freed.
//!
//! ```text
//! pointer ──► head: u8 │ score: i32 or f64 │ byte 0 … len-1                 members of up to 126 bytes
//!             head: u8 │ score: i32 or f64 │ len: u32 │ byte 0 … len-1      longer ones
//!
//! head        bits 0–6 length (127: the long form), bit 7 the score is an f64
//! ```
//!
//! Most scores are small integers, or times in seconds: with four bytes for those, a member of 11 bytes fits a block of 16.
//! Nothing behind the head is aligned.
//!
//! A handle is a plain pointer that the member table and the order share. The rule all users keep: a block is made in
//! [`Scored::new`], reached only while its member table holds it, and freed once, on leaving that table.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// A handle to a live block. Copying it copies the pointer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scored(NonNull<u8>);

const HEAD: usize = 1;
const WIDE: u8 = 0x80;
const LEN_BITS: u8 = 0x7F;
/// Value of the short length that says that a long one follows.
const LONG: u8 = LEN_BITS;
const LONG_LEN: usize = size_of::<u32>();
const ALIGN: usize = 8;

// SAFETY: a block is plain bytes, reached only through the one value that owns its member table; handles move with it.
unsafe impl Send for Scored {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Scored {}

/// The score as four bytes, if that is exact (which it is not for -0).
fn narrow(score: f64) -> Option<i32> {
    let int = score as i32;
    (f64::from(int).to_bits() == score.to_bits()).then_some(int)
}

impl Scored {
    pub fn new(member: &[u8], score: f64) -> Self {
        let len = member.len();
        let narrow = narrow(score);
        let wide = if narrow.is_none() { WIDE } else { 0 };
        let head = wide | if len < usize::from(LONG) { len as u8 } else { LONG };
        let offset = offset_of(head);
        let layout = Self::layout(offset + len);
        // SAFETY: the layout's size is not 0. The writes stay inside it: `offset_of(head)` bytes of head, score and long length,
        // and `len` bytes from there on; the score and the long length are written unaligned. `member` is a borrow of other
        // memory, so it cannot overlap the fresh block.
        unsafe {
            let Some(block) = NonNull::new(alloc(layout)) else { handle_alloc_error(layout) };
            block.write(head);
            match narrow {
                Some(int) => block.add(HEAD).cast::<i32>().write_unaligned(int),
                None => block.add(HEAD).cast::<f64>().write_unaligned(score),
            }
            if head & LEN_BITS == LONG {
                block.add(offset - LONG_LEN).cast::<u32>().write_unaligned(len as u32);
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
    fn head(self) -> u8 {
        // SAFETY: a live block begins with its head.
        unsafe { self.0.read() }
    }

    #[inline]
    pub fn score(self) -> f64 {
        // SAFETY: a live block has its score behind the head, as wide as the head says.
        unsafe {
            if self.head() & WIDE == 0 {
                f64::from(self.0.add(HEAD).cast::<i32>().read_unaligned())
            } else {
                self.0.add(HEAD).cast::<f64>().read_unaligned()
            }
        }
    }

    /// Writes another score; false, and nothing done, if it needs a block of another layout.
    #[inline]
    #[must_use]
    pub fn set_score(self, score: f64) -> bool {
        let (narrow, wide) = (narrow(score), self.head() & WIDE != 0);
        // SAFETY: as in `score`; the value that owns the block is borrowed mutably, and only members are given out as references.
        unsafe {
            match narrow {
                Some(int) if !wide => self.0.add(HEAD).cast::<i32>().write_unaligned(int),
                None if wide => self.0.add(HEAD).cast::<f64>().write_unaligned(score),
                _ => return false,
            }
        }
        true
    }

    /// Where the member's bytes begin, and how many they are.
    #[inline]
    fn extent(self) -> (usize, usize) {
        let head = self.head();
        let offset = offset_of(head);
        if head & LEN_BITS < LONG {
            return (offset, usize::from(head & LEN_BITS));
        }
        // SAFETY: a block whose head says so has its length in the 4 bytes before the member's.
        let len = unsafe { self.0.add(offset - LONG_LEN).cast::<u32>().read_unaligned() };
        (offset, len as usize)
    }

    /// The caller chooses the lifetime: it must end before the block is freed.
    #[inline]
    pub(super) fn member<'a>(self) -> &'a [u8] {
        let (offset, len) = self.extent();
        // SAFETY: `len` bytes from `offset` on were written by `new`, and are never written again.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().add(offset), len) }
    }

    /// Heap bytes of the block.
    pub fn bytes(self) -> usize {
        let (offset, len) = self.extent();
        Self::layout(offset + len).size()
    }

    /// # Safety
    /// Nobody may use the block, through any copy of the handle, afterwards.
    pub unsafe fn free(self) {
        let (offset, len) = self.extent();
        // SAFETY: the block came from `alloc` with the same layout, which follows from the head and the length alone.
        unsafe { dealloc(self.0.as_ptr(), Self::layout(offset + len)) }
    }

    #[inline]
    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size.next_multiple_of(ALIGN), ALIGN).expect("a block is far smaller than the address space")
    }
}

/// Bytes before the member's.
#[inline]
fn offset_of(head: u8) -> usize {
    let score = if head & WIDE == 0 { size_of::<i32>() } else { size_of::<f64>() };
    HEAD + score + if head & LEN_BITS == LONG { LONG_LEN } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_every_length_class() {
        for len in [0, 1, 11, 126, 127, 128, 70_000] {
            for (score, other, fits) in [
                (-1.5, 0.1, true),
                (3.0, -7.0, true),
                (1.0, 1.5, false),
                (f64::INFINITY, 0.0, false),
                (-0.0, 1e300, true),
                (f64::from(i32::MIN), f64::from(i32::MAX), true),
                (2_147_483_648.0, -2_147_483_649.0, true),
            ] {
                let member = vec![b'm'; len];
                let block = Scored::new(&member, score);
                assert_eq!((block.member(), block.score().to_bits()), (&member[..], score.to_bits()));
                assert_eq!(block.set_score(other), fits);
                // SAFETY: the block is live.
                let again = unsafe { Scored::from_payload(block.to_payload()) };
                let now = if fits { other } else { score };
                assert_eq!((again.member(), again.score().to_bits()), (&member[..], now.to_bits()));
                assert!(block.bytes() >= len + 5 && block.bytes() < len + 21);
                // SAFETY: the last use of the block.
                unsafe { block.free() }
            }
        }
        let block = Scored::new(b"member:1234", 1_700_000_000.0);
        assert_eq!(block.bytes(), 16);
        // SAFETY: the last use of the block.
        unsafe { block.free() }
    }
}
