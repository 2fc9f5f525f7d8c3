//! `List`: the value of a list key, a deque of chunks.
//!
//! Owns the order of the elements and how they are spread over chunks. Refuses to know commands and replies; which limits
//! apply is an argument. A list of one chunk, as nearly all are, has nothing but that chunk; a longer one has a ring of them.
//! Pushing and popping touch one chunk at the end. An index is found by skipping whole chunks from the nearer end, their
//! counts standing next to each other in the ring. A chunk grows while it is an end of the list, and gives its slack back
//! when it no longer is.
//!
//! Chunks two or more away from both ends are compact where that pays. They are expanded for a reader into a buffer of its
//! own, and for good when they become an end of the list.

mod edit;
mod walk;

use std::collections::VecDeque;

use super::chunk::{Chunk, End, Growth, entry_size, first, offset};
use super::item::{Encoded, Item};
pub use walk::Walk;

/// A list of byte strings. Invariant: no chunk of a ring is empty, a ring has two or more, its ends are not compact.
#[derive(Clone)]
pub struct List(Repr);

#[derive(Clone)]
enum Repr {
    One(Chunk),
    Many(Box<Ring>),
}

#[derive(Clone)]
struct Ring {
    chunks: VecDeque<Chunk>,
    len: usize,
}

const _: () = assert!(size_of::<List>() == 16);

/// How large a chunk may grow. A single element larger than that has a chunk of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListLimit {
    bytes: usize,
    items: usize,
}

/// Chunks at each end of a ring that are never made compact: a list that goes back and forth over a boundary pays nothing.
const OPEN_CHUNKS: usize = 2;
/// Growth of a chunk that is alone, where slack counts, and of the ends of a ring, where copies do.
const TIGHT: usize = 8;
const DOUBLE: usize = 1;
/// What a block holds beside elements (the buffer's header), so that full chunks are whole powers of two.
const BLOCK_HEADER: usize = 8;
/// Upper bound where the limit is a number of elements, as in Redis.
const COUNTED_BYTES: usize = 8 << 10;

impl ListLimit {
    /// Resolves a value of `list-max-listpack-size`: -1 to -5 are 4 to 64 KiB, positive is a number of elements.
    pub const fn from_config(value: i64) -> Self {
        let block = match value {
            0.. => COUNTED_BYTES,
            -5..=-1 => 2048 << -value,
            _ => 2048 << 5,
        };
        let items = match value {
            0 => 1,
            1.. => value as usize,
            _ => usize::MAX,
        };
        ListLimit { bytes: block - BLOCK_HEADER, items }
    }

    fn admits(self, bytes: usize, items: usize) -> bool {
        items <= 1 || (bytes <= self.bytes && items <= self.items)
    }

    fn admits_joined(self, bytes: usize, items: usize) -> bool {
        bytes <= self.bytes / 4 * 3 && items <= self.items
    }
}

impl Default for ListLimit {
    fn default() -> Self {
        ListLimit::from_config(-2)
    }
}

impl List {
    pub const fn new() -> Self {
        List(Repr::One(Chunk::new()))
    }

    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::One(chunk) => chunk.count(),
            Repr::Many(ring) => ring.len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of chunks, 0 for an empty list.
    pub fn chunks(&self) -> usize {
        match &self.0 {
            Repr::One(chunk) => (chunk.count() > 0) as usize,
            Repr::Many(ring) => ring.chunks.len(),
        }
    }

    /// Heap bytes, with the allocator's rounding.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Repr::One(chunk) => chunk.heap_bytes(),
            Repr::Many(ring) => {
                let slots = size_of::<Ring>() + ring.chunks.capacity() * size_of::<Chunk>();
                slots + ring.chunks.iter().map(Chunk::heap_bytes).sum::<usize>()
            }
        }
    }

    /// Adds an element in front; false, with nothing changed, only if it is too large for any buffer (about 4 GiB).
    #[inline]
    pub fn push_front(&mut self, bytes: &[u8], limit: ListLimit) -> bool {
        self.push(End::Front, bytes, limit)
    }

    /// Adds an element behind; false as for `push_front`.
    #[inline]
    pub fn push_back(&mut self, bytes: &[u8], limit: ListLimit) -> bool {
        self.push(End::Back, bytes, limit)
    }

    #[inline]
    pub fn push(&mut self, end: End, bytes: &[u8], limit: ListLimit) -> bool {
        let item = Encoded::new(bytes);
        let size = entry_size(item.size());
        if size > u32::MAX as usize {
            return false;
        }
        let chunk = self.end_chunk(end);
        if !limit.admits(chunk.used() + size, chunk.count() + 1) {
            self.add_chunk(end);
        }
        match &mut self.0 {
            Repr::One(chunk) => chunk.push(end, &item, Growth { share: TIGHT, area_max: limit.bytes }),
            Repr::Many(ring) => {
                let pushed = ring.end_mut(end).push(end, &item, Growth { share: DOUBLE, area_max: limit.bytes });
                ring.len += pushed as usize;
                pushed
            }
        }
    }

    /// Removes the first element and returns what `f` makes of it.
    #[inline]
    pub fn pop_front<R>(&mut self, f: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        self.pop(End::Front, f)
    }

    /// Removes the last element and returns what `f` makes of it.
    #[inline]
    pub fn pop_back<R>(&mut self, f: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        self.pop(End::Back, f)
    }

    #[inline]
    pub fn pop<R>(&mut self, end: End, f: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        match &mut self.0 {
            Repr::One(chunk) => chunk.pop(end, f),
            Repr::Many(ring) => {
                let chunk = ring.end_mut(end);
                let result = chunk.pop(end, f);
                let emptied = chunk.count() == 0;
                ring.len -= 1;
                if emptied {
                    self.drop_chunk(end);
                }
                result
            }
        }
    }

    /// What `f` makes of the element at `index`, which counts from the tail if negative.
    pub fn get<R>(&self, index: i64, f: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        let place = self.place(self.resolve(index)?);
        let chunk = self.chunk(place.chunk);
        let mut scratch = Vec::new();
        let entries = chunk.read_first(place.within + 1, &mut scratch);
        let count = if chunk.is_compact() { place.within + 1 } else { chunk.count() };
        let (item, _) = first(&entries[offset(entries, count, place.within)..])?;
        Some(f(item))
    }

    /// Keeps the elements from `start` to `end` inclusive, which count from the tail if negative (LTRIM).
    pub fn trim(&mut self, start: i64, end: i64) {
        let len = self.len();
        let from_tail = |index: i64| if index < 0 { index.saturating_add_unsigned(len as u64) } else { index };
        let start = usize::try_from(from_tail(start)).unwrap_or(0);
        let kept_end = usize::try_from(from_tail(end).saturating_add(1)).unwrap_or(0).min(len);
        if start >= kept_end {
            *self = List::new();
            return;
        }
        self.drop_items(End::Back, len - kept_end);
        self.drop_items(End::Front, start);
    }

    /// Frees about `budget` elements (whole chunks, at least one), so that a huge list can be dropped in slices. True when empty.
    pub fn free_some(&mut self, budget: usize) -> bool {
        match &mut self.0 {
            Repr::One(_) => *self = List::new(),
            Repr::Many(ring) => {
                let mut freed = 0;
                while freed < budget.max(1)
                    && let Some(chunk) = ring.chunks.pop_back()
                {
                    freed += chunk.count();
                }
                ring.len -= freed;
                self.settle();
            }
        }
        self.is_empty()
    }

    /// Panics unless chunks and counts agree. For tests.
    pub fn check_invariants(&self, limit: ListLimit) {
        if let Repr::Many(ring) = &self.0 {
            assert!(ring.chunks.len() > 1);
            assert!(!ring.chunks[0].is_compact() && !ring.chunks[ring.chunks.len() - 1].is_compact());
            assert_eq!(ring.len, ring.chunks.iter().map(Chunk::count).sum::<usize>());
        }
        for index in 0..self.chunks() {
            let chunk = self.chunk(index);
            chunk.check_invariants();
            assert!(chunk.count() > 0 && limit.admits(chunk.used(), chunk.count()));
        }
    }

    fn chunk(&self, index: usize) -> &Chunk {
        match &self.0 {
            Repr::One(chunk) => chunk,
            Repr::Many(ring) => &ring.chunks[index],
        }
    }

    fn chunk_mut(&mut self, index: usize) -> &mut Chunk {
        match &mut self.0 {
            Repr::One(chunk) => chunk,
            Repr::Many(ring) => &mut ring.chunks[index],
        }
    }

    #[inline]
    fn end_chunk(&mut self, end: End) -> &mut Chunk {
        match &mut self.0 {
            Repr::One(chunk) => chunk,
            Repr::Many(ring) => ring.end_mut(end),
        }
    }

    /// Opens an empty chunk at an end; what was the end until now gives its slack back.
    #[cold]
    fn add_chunk(&mut self, end: End) {
        self.end_chunk(end).shrink();
        if let Repr::One(chunk) = &mut self.0 {
            let len = chunk.count();
            let chunks = VecDeque::from([std::mem::take(chunk)]);
            self.0 = Repr::Many(Box::new(Ring { chunks, len }));
        }
        if let Repr::Many(ring) = &mut self.0 {
            match end {
                End::Front => ring.chunks.push_front(Chunk::new()),
                End::Back => ring.chunks.push_back(Chunk::new()),
            }
            let inside = match end {
                End::Front => OPEN_CHUNKS,
                End::Back => ring.chunks.len().saturating_sub(OPEN_CHUNKS + 1),
            };
            self.compress(inside);
        }
    }

    /// Makes a chunk compact if it is far enough inside, and if that pays.
    fn compress(&mut self, index: usize) {
        if let Repr::Many(ring) = &mut self.0
            && index >= OPEN_CHUNKS
            && index + OPEN_CHUNKS < ring.chunks.len()
        {
            ring.chunks[index].compress();
        }
    }

    /// Drops the chunk at an end of a ring, whose elements are no longer in the ring's `len`.
    #[cold]
    fn drop_chunk(&mut self, end: End) {
        if let Repr::Many(ring) = &mut self.0 {
            match end {
                End::Front => ring.chunks.pop_front(),
                End::Back => ring.chunks.pop_back(),
            };
            self.settle();
        }
    }

    /// After chunks went: opens those that are ends now, and leaves the ring when there is no more than one in it.
    fn settle(&mut self) {
        if let Repr::Many(ring) = &mut self.0 {
            match ring.chunks.len() {
                0 => *self = List::new(),
                1 => {
                    let mut chunk = ring.chunks.pop_front().unwrap_or_default();
                    chunk.open();
                    self.0 = Repr::One(chunk);
                }
                _ => {
                    ring.end_mut(End::Front).open();
                    ring.end_mut(End::Back).open();
                }
            }
        }
    }

    /// Drops `count` elements, fewer than there are, from an end.
    fn drop_items(&mut self, end: End, mut count: usize) {
        if let Repr::Many(ring) = &mut self.0 {
            ring.len -= count;
            while ring.end_mut(end).count() <= count {
                count -= ring.end_mut(end).count();
                match end {
                    End::Front => ring.chunks.pop_front(),
                    End::Back => ring.chunks.pop_back(),
                };
            }
            self.settle();
        }
        self.end_chunk(end).drop_items(end, count);
    }

    /// The element's number from the head, for an index that counts from the tail if negative.
    fn resolve(&self, index: i64) -> Option<usize> {
        let index = if index < 0 { index.checked_add_unsigned(self.len() as u64)? } else { index };
        usize::try_from(index).ok().filter(|&index| index < self.len())
    }

    /// The chunk that holds element number `index`, which must be below `len`.
    fn place(&self, index: usize) -> Place {
        let Repr::Many(ring) = &self.0 else { return Place { chunk: 0, within: index } };
        if index < ring.len / 2 {
            let mut before = 0;
            for (chunk, count) in ring.chunks.iter().map(Chunk::count).enumerate() {
                if index < before + count {
                    return Place { chunk, within: index - before };
                }
                before += count;
            }
        } else {
            let mut before = ring.len;
            for (chunk, count) in ring.chunks.iter().map(Chunk::count).enumerate().rev() {
                before -= count;
                if index >= before {
                    return Place { chunk, within: index - before };
                }
            }
        }
        Place { chunk: 0, within: 0 }
    }
}

impl Ring {
    #[inline]
    fn end_mut(&mut self, end: End) -> &mut Chunk {
        match end {
            End::Front => self.chunks.front_mut(),
            End::Back => self.chunks.back_mut(),
        }
        .expect("a ring has two chunks or more")
    }
}

impl Default for List {
    fn default() -> Self {
        List::new()
    }
}

/// Where an element is: the chunk, and its number in there.
#[derive(Clone, Copy)]
struct Place {
    chunk: usize,
    within: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(mut walk: Walk<'_>) -> Vec<Vec<u8>> {
        let mut items = Vec::new();
        while let Some(item) = walk.next() {
            items.push(item.to_vec());
        }
        items
    }

    #[test]
    fn limits_are_those_of_redis() {
        let of = |value| (ListLimit::from_config(value).bytes + BLOCK_HEADER, ListLimit::from_config(value).items);
        assert_eq!([of(-1), of(-2), of(-5), of(-9)].map(|(b, _)| b), [4096, 8192, 65536, 65536]);
        assert_eq!([of(0), of(1), of(128)], [(8192, 1), (8192, 1), (8192, 128)]);
    }

    #[test]
    fn long_lists_are_dense_and_can_be_freed_in_slices() {
        let limit = ListLimit::default();
        let mut list = List::new();
        for number in 0..100_000 {
            list.push_back(format!("element-{number:010}").as_bytes(), limit);
        }
        list.check_invariants(limit);
        assert_eq!(list.len(), 100_000);
        assert!(list.bytes() < 100_000 * 3, "{}", list.bytes());
        for index in [0, 1, 49_999, 50_000, 99_999, -1, -100_000] {
            let want = if index < 0 { index + 100_000 } else { index };
            assert_eq!(list.get(index, |item| item.to_vec()), Some(format!("element-{want:010}").into_bytes()));
        }
        assert!(
            list.get(100_000, |_| ()).is_none() && list.get(-100_001, |_| ()).is_none() && list.get(i64::MIN, |_| ()).is_none()
        );
        let mut slices = 0;
        while !list.free_some(1000) {
            list.check_invariants(limit);
            slices += 1;
        }
        assert!((60..=100).contains(&slices), "{slices}");
        assert_eq!((list.len(), list.bytes(), list.chunks()), (0, 0, 0));
    }

    #[test]
    fn large_elements_have_their_own_chunk() {
        let (limit, large) = (ListLimit::from_config(-1), vec![b'l'; 10_000]);
        let mut list = List::new();
        for item in [&b"a"[..], b"b", &large, b"c"] {
            list.push_back(item, limit);
        }
        assert_eq!(list.chunks(), 3);
        assert!(list.insert_after(b"a", &large, limit));
        list.check_invariants(limit);
        assert_eq!(list.chunks(), 5);
        assert_eq!(list.remove(0, &large, limit), 2);
        assert_eq!((list.chunks(), all(list.iter())), (1, vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(End, Vec<u8>),
        Fill(End, usize),
        Pop(End),
        Set(i64, Vec<u8>),
        Insert(bool, usize, Vec<u8>),
        Remove(i64, usize),
        Trim(i64, i64),
        Free(usize),
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => "[a-c]{0,2}".prop_map(String::into_bytes),
            3 => (any::<i64>(), 0u32..64).prop_map(|(int, shift)| (int >> shift).to_string().into_bytes()),
            1 => (0usize..9000).prop_map(|len| vec![b'y'; len]),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        let end = || prop_oneof![Just(End::Front), Just(End::Back)];
        prop_oneof![
            6 => (end(), bytes()).prop_map(|(e, b)| Step::Push(e, b)),
            3 => (end(), 0usize..200).prop_map(|(e, n)| Step::Fill(e, n)),
            4 => end().prop_map(Step::Pop),
            4 => (-300i64..300, bytes()).prop_map(|(i, b)| Step::Set(i, b)),
            4 => (any::<bool>(), 0usize..300, bytes()).prop_map(|(a, i, b)| Step::Insert(a, i, b)),
            3 => (-3i64..4, 0usize..300).prop_map(|(c, i)| Step::Remove(c, i)),
            1 => (-300i64..100, -50i64..300).prop_map(|(s, e)| Step::Trim(s, e)),
            1 => (0usize..300).prop_map(Step::Free),
        ]
    }

    fn trim_model(model: &mut Vec<Vec<u8>>, start: i64, end: i64) {
        let len = model.len() as i64;
        let start = if start < 0 { (start + len).max(0) } else { start };
        let end = (if end < 0 { end + len } else { end }).min(len - 1);
        *model = if start > end { Vec::new() } else { model[start as usize..=end as usize].to_vec() };
    }

    fn remove_model(model: &mut Vec<Vec<u8>>, count: i64, value: &[u8]) -> usize {
        let mut found: Vec<usize> = (0..model.len()).filter(|&i| model[i] == value).collect();
        if count < 0 {
            found.reverse();
        }
        if count != 0 {
            found.truncate(count.unsigned_abs() as usize);
        }
        found.sort();
        found.iter().rev().for_each(|&i| _ = model.remove(i));
        found.len()
    }

    proptest! {
        #[test]
        fn behaves_as_a_vector(config in prop_oneof![Just(-2i64), Just(-1), 1i64..40], steps in prop::collection::vec(step(), 0..40)) {
            let limit = ListLimit::from_config(config);
            let (mut list, mut model) = (List::new(), Vec::<Vec<u8>>::new());
            for step in steps {
                match step {
                    Step::Push(end, b) => {
                        prop_assert!(list.push(end, &b, limit));
                        model.insert(if end == End::Front { 0 } else { model.len() }, b);
                    }
                    Step::Fill(end, n) => for i in 0..n {
                        let b = format!("item-{i:030}").into_bytes();
                        list.push(end, &b, limit);
                        model.insert(if end == End::Front { 0 } else { model.len() }, b);
                    },
                    Step::Pop(end) => {
                        let want = match end { End::Front if !model.is_empty() => Some(model.remove(0)), _ => model.pop() };
                        prop_assert_eq!(list.pop(end, |item| item.to_vec()), want);
                    }
                    Step::Set(i, b) => {
                        let at = if i < 0 { i + model.len() as i64 } else { i };
                        let there = (0..model.len() as i64).contains(&at);
                        prop_assert_eq!(list.set(i, &b, limit), there);
                        if there { model[at as usize] = b; }
                    }
                    Step::Insert(after, i, b) => {
                        let pivot = model.get(i).cloned().unwrap_or(b"not there".to_vec());
                        let at = model.iter().position(|item| *item == pivot);
                        let done = if after { list.insert_after(&pivot, &b, limit) } else { list.insert_before(&pivot, &b, limit) };
                        prop_assert_eq!(done, at.is_some());
                        if let Some(at) = at { model.insert(at + after as usize, b); }
                    }
                    Step::Remove(count, i) => {
                        let value = model.get(i).cloned().unwrap_or(b"a".to_vec());
                        prop_assert_eq!(list.remove(count, &value, limit), remove_model(&mut model, count, &value));
                    }
                    Step::Trim(start, end) => { list.trim(start, end); trim_model(&mut model, start, end); }
                    Step::Free(budget) => { list.free_some(budget); model.truncate(list.len()); }
                }
                list.check_invariants(limit);
                prop_assert_eq!(list.len(), model.len());
                prop_assert!(all(list.clone().iter()) == model);
                let mut reversed = all(list.iter_rev());
                reversed.reverse();
                prop_assert!(reversed == model);
                let (start, count) = (model.len() / 3, model.len() / 2);
                prop_assert!(all(list.range(start, count)) == model.iter().skip(start).take(count).cloned().collect::<Vec<_>>());
                prop_assert!(all(list.range_rev(start, count)) == model.iter().rev().skip(start).take(count).cloned().collect::<Vec<_>>());
            }
        }
    }
}
