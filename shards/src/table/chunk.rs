//! A chunk: 14 words and their tags in two cache lines.
//!
//! ```text
//! byte 0 …  13   tags, 0 = empty
//! byte 14        how many elements that belong here or before have been pushed past this chunk (saturates at 255)
//! byte 15        unused
//! byte 16 … 127  14 words
//! ```

/// Words in a chunk.
pub const SLOTS: usize = 14;
const OVERFLOW: usize = 14;

/// Aligned as its words only: the allocator's blocks of whole chunks lie on cache lines by themselves, and asking for more
/// would make it over-allocate.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Chunk {
    tags: [u8; 16],
    words: [u64; SLOTS],
}

const _: () = assert!(size_of::<Chunk>() == 128);

/// Positions in a chunk, as a bit mask.
#[derive(Clone, Copy)]
pub struct Matches(u32);

impl Iterator for Matches {
    type Item = usize;
    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(bit)
    }
}

impl Chunk {
    pub const EMPTY: Chunk = Chunk { tags: [0; 16], words: [0; SLOTS] };

    /// The positions whose tag is `tag`.
    #[inline]
    pub fn matching(&self, tag: u8) -> Matches {
        Matches(equal_bytes(&self.tags, tag) & ((1 << SLOTS) - 1))
    }

    #[inline]
    pub fn occupied(&self) -> Matches {
        Matches(!equal_bytes(&self.tags, 0) & ((1 << SLOTS) - 1))
    }

    pub fn first_empty(&self) -> Option<usize> {
        self.matching(0).next()
    }

    #[inline]
    pub fn word(&self, at: usize) -> u64 {
        self.words[at]
    }

    pub fn set_word(&mut self, at: usize, word: u64) {
        self.words[at] = word;
    }

    pub fn tag(&self, at: usize) -> u8 {
        self.tags[at]
    }

    pub fn put(&mut self, at: usize, tag: u8, word: u64) {
        self.tags[at] = tag;
        self.words[at] = word;
    }

    pub fn clear(&mut self, at: usize) {
        self.tags[at] = 0;
        self.words[at] = 0;
    }

    /// Whether elements that belong here or before may stand further on.
    #[inline]
    pub fn overflowed(&self) -> bool {
        self.tags[OVERFLOW] != 0
    }

    pub fn passed_by(&mut self) {
        self.tags[OVERFLOW] = self.tags[OVERFLOW].saturating_add(1);
    }

    /// Undoes one [`Chunk::passed_by`]; a saturated count stays.
    pub fn passed_by_less(&mut self) {
        if self.tags[OVERFLOW] != u8::MAX {
            self.tags[OVERFLOW] -= 1;
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn equal_bytes(bytes: &[u8; 16], byte: u8) -> u32 {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8};
    // SAFETY: SSE2 is part of x86_64; the load is unaligned and reads exactly the 16 bytes of the array.
    unsafe {
        let group = _mm_loadu_si128(bytes.as_ptr().cast());
        _mm_movemask_epi8(_mm_cmpeq_epi8(group, _mm_set1_epi8(byte as i8))) as u32
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn equal_bytes(bytes: &[u8; 16], byte: u8) -> u32 {
    equal_bytes_portable(bytes, byte)
}

/// The portable twin, also what the vector form is tested against.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn equal_bytes_portable(bytes: &[u8; 16], byte: u8) -> u32 {
    bytes.iter().enumerate().fold(0, |mask, (i, &b)| mask | u32::from(b == byte) << i)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vector_and_portable_agree() {
        let mut seed = crate::random::Random::new(7);
        for _ in 0..1000 {
            let mut bytes = [0u8; 16];
            bytes.iter_mut().for_each(|b| *b = seed.below(4) as u8);
            for byte in 0..5 {
                assert_eq!(equal_bytes(&bytes, byte), equal_bytes_portable(&bytes, byte));
            }
        }
    }
}
