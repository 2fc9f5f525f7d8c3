//! A page: a small open-addressing table of chunks that grows in small steps.
//!
//! An element's home chunk follows from its order alone (`order × chunks / 65536`), so a page with any number of chunks works,
//! and chunks in sequence hold orders in sequence: that is what makes a scan's place inside a page meaningful. An element that
//! finds its home full goes to a later chunk, and each chunk it passes counts that; removal undoes the counts, so there are
//! no tombstones.

use super::chunk::{Chunk, SLOTS};
use super::{PAYLOAD, Place};

/// Chunk counts a page grows through: exactly the allocator's size classes (4 per doubling), so that nothing is wasted.
const STEPS: [usize; 21] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64];
/// Fill at which a page of more than one chunk grows: 12 of 14, above which displaced elements become common.
const FILL: usize = 12;
/// Most elements in a page; one more and it is split.
pub const PAGE_MAX: usize = STEPS[STEPS.len() - 1] * FILL;

/// Slots of a page of the largest size.
pub const SLOTS_MAX: usize = STEPS[STEPS.len() - 1] * SLOTS;

/// Where an element stands in its page.
#[derive(Clone, Copy, Debug)]
pub struct At {
    chunk: u32,
    slot: u32,
}

#[derive(Default)]
pub struct Page {
    chunks: Box<[Chunk]>,
    len: u32,
    step: u8,
}

fn capacity(step: usize) -> usize {
    if STEPS[step] <= 1 { STEPS[step] * SLOTS } else { STEPS[step] * FILL }
}

fn step_for(len: usize) -> usize {
    (0..STEPS.len()).find(|&step| capacity(step) >= len).unwrap_or(STEPS.len() - 1)
}

fn order_of(word: u64) -> u16 {
    (word >> 48) as u16
}

impl Page {
    pub fn with_capacity(len: usize) -> Self {
        let step = step_for(len);
        Page { chunks: vec![Chunk::EMPTY; STEPS[step]].into_boxed_slice(), len: 0, step: step as u8 }
    }

    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn bytes(&self) -> usize {
        size_of_val(&*self.chunks)
    }

    pub fn slots(&self) -> usize {
        self.chunks.len() * SLOTS
    }

    pub fn is_full(&self) -> bool {
        self.len() >= PAGE_MAX
    }

    #[inline]
    fn home(&self, order: u16) -> usize {
        (usize::from(order) * self.chunks.len()) >> 16
    }

    #[inline]
    pub fn prefetch(&self, place: Place) {
        if let Some(chunk) = self.chunks.get(self.home(place.order)) {
            prefetch(std::ptr::from_ref(chunk).cast());
            prefetch(std::ptr::from_ref(chunk).cast::<u8>().wrapping_add(64));
        }
    }

    #[inline]
    pub fn find(&self, place: Place, mut is: impl FnMut(u64) -> bool) -> Option<At> {
        let count = self.chunks.len();
        let mut index = self.home(place.order);
        for _ in 0..count {
            let chunk = &self.chunks[index];
            for slot in chunk.matching(place.tag) {
                let word = chunk.word(slot);
                if order_of(word) == place.order && is(word & PAYLOAD) {
                    return Some(At { chunk: index as u32, slot: slot as u32 });
                }
            }
            if !chunk.overflowed() {
                return None;
            }
            index = if index + 1 == count { 0 } else { index + 1 };
        }
        None
    }

    #[inline]
    pub fn word(&self, at: At) -> u64 {
        self.chunks[at.chunk as usize].word(at.slot as usize)
    }

    /// Replaces the payload, keeping the order bits.
    pub fn set_payload(&mut self, at: At, payload: u64) {
        let chunk = &mut self.chunks[at.chunk as usize];
        let order = chunk.word(at.slot as usize) & !PAYLOAD;
        chunk.set_word(at.slot as usize, order | payload);
    }

    /// Adds an element that is not there yet. The page must not be full.
    pub fn insert(&mut self, place: Place, payload: u64) {
        debug_assert!(payload & !PAYLOAD == 0 && !self.is_full());
        if self.len() >= capacity(usize::from(self.step)) {
            self.resize(usize::from(self.step) + 1);
        }
        self.place(place.order, place.tag, payload | u64::from(place.order) << 48);
    }

    fn place(&mut self, order: u16, tag: u8, word: u64) {
        let mut index = self.home(order);
        loop {
            let chunk = &mut self.chunks[index];
            if let Some(slot) = chunk.first_empty() {
                chunk.put(slot, tag, word);
                self.len += 1;
                return;
            }
            chunk.passed_by();
            index = if index + 1 == self.chunks.len() { 0 } else { index + 1 };
        }
    }

    pub fn remove(&mut self, at: At) -> u64 {
        let word = self.word(at);
        let mut index = self.home(order_of(word));
        while index != at.chunk as usize {
            self.chunks[index].passed_by_less();
            index = if index + 1 == self.chunks.len() { 0 } else { index + 1 };
        }
        self.chunks[at.chunk as usize].clear(at.slot as usize);
        self.len -= 1;
        if self.len == 0 {
            *self = Page::default();
        } else if self.step > 2 && self.len() * 3 < capacity(usize::from(self.step)) {
            self.resize(step_for(self.len() * 3 / 2));
        }
        word & PAYLOAD
    }

    fn resize(&mut self, step: usize) {
        let old = std::mem::take(&mut self.chunks);
        self.chunks = vec![Chunk::EMPTY; STEPS[step]].into_boxed_slice();
        self.step = step as u8;
        self.len = 0;
        for chunk in &old {
            for slot in chunk.occupied() {
                let word = chunk.word(slot);
                self.place(order_of(word), chunk.tag(slot), word);
            }
        }
    }

    /// Divides the page in two by `upper(payload)`.
    pub fn split(self, mut upper: impl FnMut(u64) -> bool) -> (Page, Page) {
        let mut sides = Vec::with_capacity(self.len());
        let mut uppers = 0;
        for chunk in &self.chunks {
            chunk.occupied().for_each(|slot| prefetch((chunk.word(slot) & PAYLOAD & !7) as *const u8));
        }
        for chunk in &self.chunks {
            for slot in chunk.occupied() {
                let is_upper = upper(chunk.word(slot) & PAYLOAD);
                uppers += usize::from(is_upper);
                sides.push((chunk.word(slot), chunk.tag(slot), is_upper));
            }
        }
        let mut low = Page::with_capacity(sides.len() - uppers);
        let mut high = Page::with_capacity(uppers);
        for (word, tag, is_upper) in sides {
            let side = if is_upper { &mut high } else { &mut low };
            side.place(order_of(word), tag, word);
        }
        (low, high)
    }

    pub fn for_each(&self, mut visit: impl FnMut(u64)) {
        for chunk in &self.chunks {
            chunk.occupied().for_each(|slot| visit(chunk.word(slot) & PAYLOAD));
        }
    }

    /// The payload in the `index`-th slot (of [`Page::slots`]), if there is one.
    pub fn slot(&self, index: usize) -> Option<u64> {
        let chunk = self.chunks.get(index / SLOTS)?;
        (chunk.tag(index % SLOTS) != 0).then(|| chunk.word(index % SLOTS) & PAYLOAD)
    }

    /// Visits the elements with order ≥ `from`, home chunk by home chunk, until at least `want` were visited.
    /// Returns the order to go on from, or `None` at the page's end.
    pub fn scan(&self, from: u16, want: usize, visit: &mut impl FnMut(u64)) -> Option<u16> {
        let count = self.chunks.len();
        let mut visited = 0;
        for home in self.home(from)..count {
            let mut index = home;
            for _ in 0..count {
                let chunk = &self.chunks[index];
                for slot in chunk.occupied() {
                    let word = chunk.word(slot);
                    if self.home(order_of(word)) == home && order_of(word) >= from {
                        visit(word & PAYLOAD);
                        visited += 1;
                    }
                }
                if !chunk.overflowed() {
                    break;
                }
                index = if index + 1 == count { 0 } else { index + 1 };
            }
            if visited >= want && home + 1 < count {
                return Some(((home + 1) << 16).div_ceil(count) as u16);
            }
        }
        None
    }

    /// Every element can be found from its home; counts agree.
    pub fn check_invariants(&self) {
        let mut seen = 0;
        for chunk in &self.chunks {
            for slot in chunk.occupied() {
                let word = chunk.word(slot);
                let place = Place { position: 0, order: order_of(word), tag: chunk.tag(slot) };
                assert!(self.find(place, |payload| payload == word & PAYLOAD).is_some(), "an element is out of reach");
                seen += 1;
            }
        }
        assert_eq!(seen, self.len());
        assert_eq!(self.chunks.len(), STEPS[usize::from(self.step)]);
    }
}

#[inline]
pub fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it never faults, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _hint_only = address;
}
