//! `Thin`: a byte buffer behind one 8-byte pointer.
//!
//! Owns the allocation of the packed values, and with it all of their unsafe code. Refuses to know what the bytes mean.
//! A `Vec<u8>` costs 24 bytes beside its heap block, which for a hash of ten fields is a tenth of the value; here length and
//! one free word (`tag`, used as an element count) stand in the block itself:
//!
//! ```text
//! pointer ──► len: u32 │ tag: u32 │ byte 0 … byte len-1 │ slack up to the allocator's size class
//! ```
//!
//! The capacity is not stored: it is `class(8 + len)`, the size class the allocator would hand out anyway, so growing
//! inside a class is free and growing past it is one realloc. An empty buffer has no block and a tag of 0.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::ptr::{self, NonNull};

/// Heap buffer of at most `u32::MAX` bytes with one free `u32` beside them.
pub struct Thin(NonNull<Header>);

#[repr(C, align(8))]
struct Header {
    len: u32,
    tag: u32,
}

const HEADER: usize = size_of::<Header>();
/// From here on the allocator works in pages, and rounding to a quarter of a power of two would only cost address space.
const PAGED_FROM: usize = 128 << 10;
const PAGE: usize = 4096;
/// What an empty buffer points at: never written, never freed.
static EMPTY: Header = Header { len: 0, tag: 0 };

const _: () = assert!(HEADER == 8 && size_of::<Thin>() == 8 && size_of::<Option<Thin>>() == 8);
const _: () = assert!(usize::BITS == 64, "a block of u32::MAX bytes must have a valid Layout");

// SAFETY: `Thin` owns its block exclusively, and the shared EMPTY header is never written.
unsafe impl Send for Thin {}
// SAFETY: as above; `&Thin` only gives out shared access.
unsafe impl Sync for Thin {}

impl Thin {
    pub const fn new() -> Self {
        Thin(NonNull::new((&raw const EMPTY).cast_mut()).expect("a static has an address"))
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.header().len as usize
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub fn tag(&self) -> u32 {
        self.header().tag
    }

    /// Without effect on an empty buffer, which has nowhere to keep it.
    #[inline]
    pub fn set_tag(&mut self, tag: u32) {
        if !self.is_empty() {
            // SAFETY: a non-empty buffer owns its block, `&mut self` makes the access exclusive, and the header was
            // initialised when the block was allocated.
            unsafe { (*self.0.as_ptr()).tag = tag }
        }
    }

    /// Bytes of heap this buffer occupies.
    pub fn heap_bytes(&self) -> usize {
        if self.is_empty() { 0 } else { class(HEADER + self.len()) }
    }

    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: see `data`; for an empty buffer the length is 0 and the pointer, one past EMPTY, is non-null and aligned.
        unsafe { std::slice::from_raw_parts(self.data(), self.len()) }
    }

    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.data(), self.len()) }
    }

    /// Changes the length; bytes below both lengths stay, new ones are zero. The tag stays unless the length becomes 0.
    pub fn resize(&mut self, len: u32) {
        let old = self.header().len;
        if len == old {
            return;
        }
        if len == 0 {
            *self = Thin::new();
            return;
        }
        let (old_class, new_class) = (class(HEADER + old as usize), class(HEADER + len as usize));
        let layout = layout_of(new_class);
        // SAFETY: both layouts have a non-zero size. In the second arm the buffer is not empty, so its block came from this
        // allocator with the layout of its class, which is what is passed back to it.
        let block = unsafe {
            if old == 0 {
                alloc(layout)
            } else if old_class != new_class {
                realloc(self.0.as_ptr().cast(), layout_of(old_class), new_class)
            } else {
                self.0.as_ptr().cast()
            }
        };
        let Some(block) = NonNull::new(block.cast::<Header>()) else { handle_alloc_error(layout) };
        self.0 = block;
        // SAFETY: the block is aligned to 8 and holds at least HEADER + len bytes; it is exclusively ours. A fresh block gets
        // its whole header here; one that grew keeps the tag and the bytes below `old`. Bytes `old..len` are initialised
        // by the zeroing, so that every byte below `len` is initialised at all times.
        unsafe {
            if old == 0 {
                block.as_ptr().write(Header { len, tag: 0 });
            } else {
                (*block.as_ptr()).len = len;
            }
            if len > old {
                ptr::write_bytes(self.data().add(old as usize), 0, (len - old) as usize);
            }
        }
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: the pointer is EMPTY or an owned block whose header is initialised.
        unsafe { self.0.as_ref() }
    }

    /// Start of the bytes: `len` of them are initialised and owned.
    #[inline]
    fn data(&self) -> *mut u8 {
        // SAFETY: one header past the pointer is inside the block, or the end of EMPTY.
        unsafe { self.0.as_ptr().cast::<u8>().add(HEADER) }
    }
}

impl Drop for Thin {
    fn drop(&mut self) {
        if !self.is_empty() {
            // SAFETY: a non-empty buffer owns a block of exactly this layout, and nobody uses it after drop.
            unsafe { dealloc(self.0.as_ptr().cast(), layout_of(class(HEADER + self.len()))) }
        }
    }
}

impl Default for Thin {
    fn default() -> Self {
        Thin::new()
    }
}

impl Clone for Thin {
    fn clone(&self) -> Self {
        let mut copy = Thin::new();
        copy.resize(self.header().len);
        copy.set_tag(self.tag());
        copy.bytes_mut().copy_from_slice(self.bytes());
        copy
    }
}

/// The largest length whose block is no bigger than the one for `len`: what a structure that grows may as well take.
pub fn fill_class(len: usize) -> usize {
    class(HEADER + len) - HEADER
}

/// The allocator's size class for a block: every 8 bytes up to 64, four per doubling above, whole pages when large.
fn class(size: usize) -> usize {
    let step = match size {
        0..=64 => 8,
        65..PAGED_FROM => 1 << ((size - 1).ilog2() - 2),
        _ => PAGE,
    };
    size.next_multiple_of(step)
}

fn layout_of(class: usize) -> Layout {
    Layout::from_size_align(class, align_of::<Header>()).expect("a block is far below isize::MAX")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_the_allocators() {
        for (size, want) in [(9, 16), (16, 16), (57, 64), (65, 80), (80, 80), (128, 128), (129, 160), (8185, 8192)] {
            assert_eq!(class(size), want, "{size}");
        }
        for size in 1..400_000 {
            let class_size = class(size);
            assert!(class_size >= size && class(class_size) == class_size, "{size}");
            assert!(class(size + 1) >= class_size, "{size}");
        }
        assert_eq!(fill_class(17), 24);
    }

    #[test]
    fn growing_and_shrinking_keep_bytes_and_tag() {
        let mut thin = Thin::new();
        thin.set_tag(7);
        assert_eq!((thin.len(), thin.tag(), thin.heap_bytes()), (0, 0, 0));
        for len in (1..3000u32).chain([200_000, 100, 9, 3]) {
            let old = thin.len();
            thin.resize(len);
            thin.set_tag(len);
            if len as usize > old {
                assert!(thin.bytes()[old..].iter().all(|&b| b == 0));
                thin.bytes_mut()[old..].fill(len as u8);
            }
            assert_eq!(thin.bytes()[0], 1);
            assert_eq!((thin.len(), thin.tag()), (len as usize, len));
        }
        let copy = thin.clone();
        assert_eq!((copy.bytes(), copy.tag()), (thin.bytes(), 3));
        thin.resize(0);
        assert_eq!((thin.tag(), thin.heap_bytes(), thin.bytes()), (0, 0, &[][..]));
        thin.clone().resize(5);
    }
}
