//! `Chunk`: one buffer of a list, open at both ends.
//!
//! Owns the bytes of some elements that stand next to each other. Refuses to know its neighbours, and which limits apply to it.
//! Each element is an [`item`](super::item) followed by the size of its encoding, so that it can be walked both ways:
//!
//! ```text
//! gap │ item size │ item size │ … │ gap         size: u8 up to 253, else u16 254, else u32 255
//!     start                      end
//! ```
//!
//! A push writes into the gap at its side. When that is used up, the elements slide inside the buffer if enough is free at the
//! other side, and otherwise move to a somewhat larger buffer: a chunk has little slack, at a few copies per byte.
//!
//! A chunk that is not in use can be made compact ([`front`](super::front)); it must be opened before it is edited.

use super::front;
use super::item::{Encoded, Item, encoded_size};
use super::thin::{Thin, fill_class};

/// A run of elements. The buffer's tag is the end of the elements in it. Invariant: `start..end` is `count` whole elements.
/// If compact, `start` is COMPACT, the buffer their compact form, and the tag the bytes they take when expanded.
#[derive(Clone, Default)]
pub struct Chunk {
    buffer: Thin,
    start: u32,
    count: u32,
}

const _: () = assert!(size_of::<Chunk>() == 16);

/// Smallest buffer made, in bytes of elements: a block of 32 bytes.
const AREA_MIN: usize = 24;
/// Elements of fewer bytes than this share of the buffer make a pop shrink it.
const SPARSE: usize = 4;
const COMPACT: u32 = u32::MAX;
const SIZE16: u8 = 254;
const SIZE32: u8 = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Front,
    Back,
}

/// How a buffer that is full grows.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    /// By one part in this many, and up to the next size class.
    pub share: usize,
    /// To no more bytes than this, except for what a single element needs.
    pub area_max: usize,
}

impl Chunk {
    pub const fn new() -> Self {
        Chunk { buffer: Thin::new(), start: 0, count: 0 }
    }

    /// A chunk without slack that holds `entries`, which must be `count` whole ones.
    pub fn of(entries: &[u8], count: usize) -> Self {
        let mut chunk = Chunk::new();
        chunk.set(entries, count);
        chunk
    }

    #[inline]
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Bytes of the elements, when expanded.
    #[inline]
    pub fn used(&self) -> usize {
        if self.is_compact() { self.end() } else { self.end() - self.start as usize }
    }

    #[inline]
    pub fn is_compact(&self) -> bool {
        self.start == COMPACT
    }

    pub fn heap_bytes(&self) -> usize {
        self.buffer.heap_bytes()
    }

    /// The elements; if compact, expanded into `scratch`.
    #[inline]
    pub fn read<'a>(&'a self, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        self.read_first(self.count(), scratch)
    }

    /// The first `count` elements, or more; if compact, expanded into `scratch`.
    #[inline]
    pub fn read_first<'a>(&'a self, count: usize, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        if !self.is_compact() {
            return self.entries();
        }
        scratch.clear();
        scratch.reserve(self.used());
        front::expand(self.buffer.bytes(), count, scratch);
        scratch
    }

    /// Makes the chunk compact if that saves a quarter.
    pub fn compress(&mut self) {
        if self.is_compact() || self.count < 2 {
            return;
        }
        let mut coded = Vec::with_capacity(self.used());
        if front::compress(self.entries(), &mut coded) {
            let (used, count) = (self.used() as u32, self.count());
            self.set(&coded, count);
            self.buffer.set_tag(used);
            self.start = COMPACT;
        }
    }

    /// Undoes `compress`.
    pub fn open(&mut self) {
        if self.is_compact() {
            let mut scratch = Vec::new();
            self.read(&mut scratch);
            self.set(&scratch, self.count());
        }
    }

    /// The elements of a chunk that is not compact.
    #[inline]
    pub fn entries(&self) -> &[u8] {
        debug_assert!(!self.is_compact());
        &self.buffer.bytes()[self.start as usize..self.end()]
    }

    /// Adds an element. False if the buffer would exceed 4 GiB.
    #[inline]
    pub fn push(&mut self, end: End, item: &Encoded<'_>, growth: Growth) -> bool {
        let size = entry_size(item.size());
        let room = match end {
            End::Front => self.start as usize,
            End::Back => self.buffer.len() - self.end(),
        };
        if room < size && !self.make_room(end, size, growth) {
            return false;
        }
        let at = match end {
            End::Front => {
                self.start -= size as u32;
                self.start as usize
            }
            End::Back => {
                let at = self.end();
                self.buffer.set_tag((at + size) as u32);
                at
            }
        };
        write_entry(item, &mut self.buffer.bytes_mut()[at..at + size]);
        self.count += 1;
        true
    }

    /// Hands the element at an end to `f` and removes it.
    #[inline]
    pub fn pop<R>(&mut self, end: End, f: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        let entries = self.entries();
        let (item, size) = match end {
            End::Front => first(entries)?,
            End::Back => last(entries)?,
        };
        let result = f(item);
        self.drop_bytes(end, size, 1);
        Some(result)
    }

    /// Removes `count` elements from an end.
    pub fn drop_items(&mut self, end: End, count: usize) {
        let count = count.min(self.count());
        let entries = self.entries();
        let bytes = match end {
            End::Front => offset(entries, self.count(), count),
            End::Back => entries.len() - offset(entries, self.count(), self.count() - count),
        };
        self.drop_bytes(end, bytes, count);
    }

    /// Replaces everything, without slack.
    pub fn set(&mut self, entries: &[u8], count: usize) {
        debug_assert!(entries.len() <= u32::MAX as usize && count <= u32::MAX as usize);
        let len = entries.len() as u32;
        self.buffer.resize(len);
        self.buffer.set_tag(len);
        self.buffer.bytes_mut().copy_from_slice(entries);
        (self.start, self.count) = (0, count as u32);
    }

    /// Gives back the slack.
    pub fn shrink(&mut self) {
        if !self.is_compact() {
            self.relocate(self.used(), 0);
        }
    }

    /// Panics unless the bytes, expanded, are exactly `count` elements with matching sizes. For tests.
    pub fn check_invariants(&self) {
        assert!(self.is_compact() || self.start as usize <= self.end() && self.end() <= self.buffer.len());
        let mut scratch = Vec::new();
        let (mut rest, mut count) = (self.read(&mut scratch), 0);
        assert_eq!(rest.len(), self.used());
        while let Some((item, size)) = first(rest) {
            let (same, back) = last(&rest[..size]).expect("every element has its size behind it");
            assert_eq!((item, size), (same, back));
            rest = &rest[size..];
            count += 1;
        }
        assert_eq!((rest.len(), count), (0, self.count()));
        assert!(count > 0 || self.buffer.is_empty());
    }

    #[inline]
    fn end(&self) -> usize {
        self.buffer.tag() as usize
    }

    #[inline]
    fn drop_bytes(&mut self, end: End, bytes: usize, count: usize) {
        self.count -= count as u32;
        match end {
            End::Front => self.start += bytes as u32,
            End::Back => self.buffer.set_tag((self.end() - bytes) as u32),
        }
        let used = self.used();
        if self.buffer.len() > AREA_MIN.max(used * SPARSE) || used == 0 {
            self.relocate(if used == 0 { 0 } else { fill_class(used * 2) }, 0);
        }
    }

    #[cold]
    fn make_room(&mut self, end: End, size: usize, growth: Growth) -> bool {
        let (used, area) = (self.used(), self.buffer.len());
        let slack = (used / growth.share.max(1)).min(growth.area_max.saturating_sub(used + size));
        let need = used + size + slack;
        let new_area = if need <= area { area } else { fill_class(need.max(AREA_MIN)) };
        if u32::try_from(new_area).is_err() {
            return false;
        }
        // Half of the gap at the other side stays: a queue gives it to the side that grows, a deque uses both.
        let spare = new_area - used - size;
        match end {
            End::Front => {
                let behind = ((area - self.end()) / 2).min(spare);
                self.relocate(new_area, new_area - behind - used);
            }
            End::Back => self.relocate(new_area, (self.start as usize / 2).min(spare)),
        }
        true
    }

    /// Moves the elements to offset `to` of a buffer of `area` bytes, which must hold them there.
    fn relocate(&mut self, area: usize, to: usize) {
        let (start, end) = (self.start as usize, self.end());
        let area = area as u32;
        if area as usize > self.buffer.len() {
            self.buffer.resize(area);
        }
        self.buffer.bytes_mut().copy_within(start..end, to);
        self.buffer.resize(area);
        self.start = to as u32;
        self.buffer.set_tag((to + end - start) as u32);
    }
}

/// Bytes that an item of this size takes with its size behind it.
#[inline]
pub fn entry_size(item: usize) -> usize {
    item + match item {
        0..=253 => 1,
        254..=0xffff => 3,
        _ => 5,
    }
}

/// What stands behind an item of this size: the bytes, and how many of them count.
#[inline]
pub fn entry_tail(item: usize) -> ([u8; 5], usize) {
    let [a, b, c, d] = (item as u32).to_le_bytes();
    match item {
        0..=253 => ([a, 0, 0, 0, 0], 1),
        254..=0xffff => ([a, b, SIZE16, 0, 0], 3),
        _ => ([a, b, c, d, SIZE32], 5),
    }
}

/// Writes an item and its size into `out`, which must be exactly `entry_size` bytes.
#[inline]
pub fn write_entry(item: &Encoded<'_>, out: &mut [u8]) {
    item.write(out);
    let size = item.size();
    match &mut out[size..] {
        [one] => *one = size as u8,
        behind => behind.copy_from_slice(&entry_tail(size).0[..entry_tail(size).1]),
    }
}

/// The first element of `entries` and the bytes it takes.
#[inline]
pub fn first(entries: &[u8]) -> Option<(Item<'_>, usize)> {
    let (item, size) = Item::decode(entries)?;
    Some((item, entry_size(size)))
}

/// The last element of `entries` and the bytes it takes.
#[inline]
pub fn last(entries: &[u8]) -> Option<(Item<'_>, usize)> {
    let size = match *entries {
        [.., a, b, c, d, SIZE32] => u32::from_le_bytes([a, b, c, d]) as usize,
        [.., a, b, SIZE16] => u16::from_le_bytes([a, b]) as usize,
        [.., size] => size as usize,
        [] => return None,
    };
    let whole = entry_size(size);
    let (item, _) = Item::decode(entries.get(entries.len().checked_sub(whole)?..)?)?;
    Some((item, whole))
}

/// Byte offset of the element number `index` of the `count` that `entries` holds; the end if there is none. Walks from the nearer end.
pub fn offset(entries: &[u8], count: usize, index: usize) -> usize {
    if index >= count {
        return entries.len();
    }
    let mut at = 0;
    if index <= count / 2 {
        for _ in 0..index {
            at += entry_size(encoded_size(&entries[at..]));
        }
    } else {
        at = entries.len();
        for _ in index..count {
            at -= last(&entries[..at]).map_or(0, |(_, size)| size);
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const SMALL: Growth = Growth { share: 4, area_max: 300 };
    const TIGHT: Growth = Growth { share: 8, area_max: 8184 };

    #[test]
    fn short_lists_are_tight() {
        let mut chunk = Chunk::new();
        for item in ["a", "b", "c", "1", "2"] {
            assert!(chunk.push(End::Back, &Encoded::new(item.as_bytes()), SMALL));
        }
        assert_eq!((chunk.used(), chunk.heap_bytes()), (13, 32));
        for _ in 0..200 {
            chunk.push(End::Back, &Encoded::new(b"element-0000000001"), TIGHT);
        }
        assert!(chunk.heap_bytes() < 4013 * 13 / 10, "{}", chunk.heap_bytes());
        chunk.shrink();
        assert!(chunk.heap_bytes() < 4013 * 9 / 8, "{}", chunk.heap_bytes());
    }

    #[test]
    fn a_queue_stays_small() {
        let mut chunk = Chunk::new();
        for round in 0..10_000i64 {
            chunk.push(End::Back, &Encoded::int(round), TIGHT);
            if round >= 20 {
                assert_eq!(chunk.pop(End::Front, |item| item == Item::Int(round - 20)), Some(true));
            }
        }
        assert!(chunk.heap_bytes() <= 256, "{}", chunk.heap_bytes());
    }

    proptest! {
        #[test]
        fn behaves_as_a_deque(steps in prop::collection::vec((0u8..9, any::<i64>(), 0usize..70000, 0u32..64), 0..120)) {
            let (mut chunk, mut model) = (Chunk::new(), VecDeque::<Vec<u8>>::new());
            for (kind, int, len, shift) in steps {
                let bytes = if shift == 0 { vec![b'z'; len] } else { (int >> shift).to_string().into_bytes() };
                let item = Encoded::new(&bytes);
                let end = if kind % 2 == 0 { End::Front } else { End::Back };
                match (kind, end) {
                    (0..4, End::Front) => { chunk.push(end, &item, SMALL); model.push_front(bytes); }
                    (0..4, End::Back) => { chunk.push(end, &item, SMALL); model.push_back(bytes); }
                    (4..6, End::Front) => prop_assert_eq!(chunk.pop(end, |item| item.to_vec()), model.pop_front()),
                    (4..6, End::Back) => prop_assert_eq!(chunk.pop(end, |item| item.to_vec()), model.pop_back()),
                    (6..8, _) => {
                        let count = (len % 5).min(model.len());
                        chunk.drop_items(end, count);
                        for _ in 0..count { if end == End::Front { model.pop_front() } else { model.pop_back() }; }
                    }
                    _ => {
                        chunk.shrink();
                        chunk.compress();
                        chunk.check_invariants();
                        chunk.open();
                    }
                }
                chunk.check_invariants();
                prop_assert_eq!(chunk.count(), model.len());
                let entries = chunk.entries();
                for (index, want) in model.iter().enumerate() {
                    let (item, _) = first(&entries[offset(entries, model.len(), index)..]).unwrap();
                    prop_assert!(item.eq_bytes(want));
                }
            }
        }
    }
}
