//! The hash table of everything large: the keyspace, big hashes, sets and sorted sets.
//!
//! # Why not one big table
//!
//! A table that doubles moves every element at once: 40 to 90 ms at a million keys, close to a second at ten million. So
//! elements live in small *pages* (at most [`page::PAGE_MAX`] elements), and growing means splitting one page at a time,
//! some tens of microseconds. A directory (extendible hashing) finds the page by the top bits of an element's *position*.
//! In the keyspace the position starts with the slot, so that a page covers a run of slots or a part of one: what works on
//! slots touches only their pages, and a scan's cursor is a place in that order which survives every split.
//!
//! # Stored words
//!
//! An element is one 64-bit word: a pointer of 48 bits (8-byte aligned; its low 3 bits belong to the owner) and, in the top
//! 16 bits, the element's *order*: hash bits that place it inside its page. Growing a page needs no look at the elements;
//! only a split asks the owner for positions.
//!
//! # Cost
//!
//! A lookup reads the directory, the page's header, one or two cache lines of a chunk, and the element itself. A chunk is 128
//! bytes for 14 words; at the fill this file keeps, 10 to 12 bytes an element.

mod chunk;
mod page;

use page::Page;
pub use page::{PAGE_MAX, prefetch};

/// Where an element belongs: its position in directory order, its order within a page, and its tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Directory order: compared from the top bit.
    pub position: u64,
    /// Order within a page.
    pub order: u16,
    /// Fingerprint compared before an element is touched; never 0.
    pub tag: u8,
}

impl Place {
    /// The place of an element by its hash alone.
    #[inline]
    pub fn of_hash(hash: u64) -> Self {
        Place { position: hash, order: hash as u16, tag: (hash >> 16) as u8 | 0x80 }
    }

    /// The place of a key: slot order first, then its hash. `slot_position` has the slot in its top 14 bits.
    #[inline]
    pub fn of_key(slot_position: u64, hash: u64) -> Self {
        Place { position: slot_position | hash >> 14, order: hash as u16, tag: (hash >> 16) as u8 | 0x80 }
    }
}

/// The bits of a word that the owner stores (a pointer and 3 flag bits).
pub const PAYLOAD: u64 = (1 << 48) - 1;

/// Bit of a payload: its element ends behind the cache lines that are fetched ahead for all, and the next one is worth it.
const LONG: u64 = 2;
const COMPARED: usize = 40;
const LINE: usize = 64;

/// The bit that an element of so many bytes gets in its payload.
pub fn long_bit(start: *const u8, bytes: usize) -> u64 {
    let start = start as usize;
    if (start + bytes - 1) / LINE > (start + COMPARED) / LINE { LONG } else { 0 }
}

/// A scan's place: everything before it has been visited. [`Cursor::START`] begins; the end is `None`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor {
    /// Start of a page, by position.
    pub position: u64,
    /// Orders below this one have been visited within that page.
    pub order: u16,
}

impl Cursor {
    pub const START: Cursor = Cursor { position: 0, order: 0 };
    const POSITION_BITS: u32 = 34;

    /// As a number below 2^50; the start is 0.
    pub fn to_bits(self) -> u64 {
        (self.position >> (64 - Self::POSITION_BITS)) << 16 | u64::from(self.order)
    }

    /// Any number gives a valid cursor (bits above 2^50 are ignored).
    pub fn from_bits(bits: u64) -> Self {
        Cursor { position: (bits >> 16) << (64 - Self::POSITION_BITS), order: bits as u16 }
    }
}

/// Deepest directory: beyond it a page becomes a table of its own, so that one hot slot cannot blow up the directory.
/// With a cursor of 34 position bits, two levels reach 2^28 pages.
const DEPTH_MAX: u8 = 14;

/// See the module's documentation. Elements are words; who owns the pointers must empty the table before dropping it.
pub struct Table {
    /// Page index by the top `depth` bits of the position (after `base`).
    directory: Vec<u32>,
    pages: Vec<Node>,
    depth: u8,
    /// Position bits used up by the tables above this one.
    base: u8,
    len: usize,
}

struct Node {
    page: Page,
    /// How many of this table's directory bits the page shares.
    depth: u8,
    nested: Option<Box<Table>>,
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

/// Has what a payload points to fetched, as far as it is mostly looked at.
#[inline]
pub fn prefetch_target(payload: u64) {
    let start = (payload & !7) as *const u8;
    prefetch(start);
    // What is compared mostly ends within so many bytes, on the next cache line for half of the allocations.
    prefetch(start.wrapping_add(COMPARED));
    if payload & LONG != 0 {
        prefetch(start.wrapping_add(COMPARED + LINE));
    }
}

impl Table {
    pub fn new() -> Self {
        Self::with_base(0)
    }

    fn with_base(base: u8) -> Self {
        let root = Node { page: Page::default(), depth: 0, nested: None };
        Table { directory: vec![0], pages: vec![root], depth: 0, base, len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Heap bytes of the table itself, without the elements.
    pub fn bytes(&self) -> usize {
        let own = self.directory.capacity() * 4 + self.pages.capacity() * size_of::<Node>();
        own + self
            .pages
            .iter()
            .map(|n| n.page.bytes() + n.nested.as_ref().map_or(0, |t| size_of::<Table>() + t.bytes()))
            .sum::<usize>()
    }

    #[inline]
    fn index_of(&self, position: u64) -> usize {
        let shifted = position << self.base;
        if self.depth == 0 { 0 } else { self.directory[(shifted >> (64 - self.depth)) as usize] as usize }
    }

    #[inline]
    fn node(&self, place: Place) -> &Node {
        let mut node = &self.pages[self.index_of(place.position)];
        while let Some(nested) = &node.nested {
            node = &nested.pages[nested.index_of(place.position)];
        }
        node
    }

    #[inline]
    fn node_mut(&mut self, place: Place) -> &mut Node {
        let index = self.index_of(place.position);
        let node = &mut self.pages[index];
        match node.nested {
            Some(ref mut nested) => nested.node_mut(place),
            None => node,
        }
    }

    /// Asks the processor to fetch the chunk in which `place` would be found.
    #[inline]
    pub fn prefetch(&self, place: Place) {
        self.node(place).page.prefetch(place);
    }

    /// Has what the likely payload at `place` (same tag and order) points to fetched; call some time after [`Table::prefetch`].
    #[inline]
    pub fn prefetch_payload(&self, place: Place) {
        if let Some(payload) = self.get(place, |_| true) {
            prefetch_target(payload);
        }
    }

    /// The payload for which `is` holds among those at `place`.
    #[inline]
    pub fn get(&self, place: Place, is: impl FnMut(u64) -> bool) -> Option<u64> {
        let page = &self.node(place).page;
        page.find(place, is).map(|at| page.word(at) & PAYLOAD)
    }

    /// Replaces the payload for which `is` holds by `payload`; false when there is none.
    pub fn replace(&mut self, place: Place, is: impl FnMut(u64) -> bool, payload: u64) -> bool {
        let page = &mut self.node_mut(place).page;
        let Some(at) = page.find(place, is) else { return false };
        page.set_payload(at, payload);
        true
    }

    /// Adds an element that is not there yet. `position_of` gives the position of any stored payload (asked when a page splits).
    pub fn insert(&mut self, place: Place, payload: u64, position_of: impl Fn(u64) -> u64 + Copy) {
        debug_assert!(payload & !PAYLOAD == 0 && payload != 0);
        self.len += 1;
        loop {
            let index = self.index_of(place.position);
            let node = &mut self.pages[index];
            if let Some(nested) = &mut node.nested {
                return nested.insert(place, payload, position_of);
            }
            if !node.page.is_full() {
                return node.page.insert(place, payload);
            }
            if node.depth == DEPTH_MAX {
                let mut nested = Table::with_base(self.base + DEPTH_MAX);
                nested.len = node.page.len();
                nested.pages[0].page = std::mem::take(&mut node.page);
                node.nested = Some(Box::new(nested));
            } else {
                self.split(index, place.position, position_of);
            }
        }
    }

    /// Removes and returns the payload for which `is` holds.
    pub fn remove(&mut self, place: Place, is: impl FnMut(u64) -> bool + Copy) -> Option<u64> {
        let index = self.index_of(place.position);
        let node = &mut self.pages[index];
        let payload = match &mut node.nested {
            Some(nested) => nested.remove(place, is),
            None => node.page.find(place, is).map(|at| node.page.remove(at)),
        };
        self.len -= usize::from(payload.is_some());
        payload
    }

    fn split(&mut self, index: usize, position: u64, position_of: impl Fn(u64) -> u64) {
        let depth = self.pages[index].depth;
        if depth == self.depth {
            self.directory = self.directory.iter().flat_map(|&page| [page, page]).collect();
            self.depth += 1;
        }
        let bit = 63 - u32::from(self.base + depth);
        let (low, high) = std::mem::take(&mut self.pages[index].page).split(|payload| position_of(payload) >> bit & 1 == 1);
        self.pages[index] = Node { page: low, depth: depth + 1, nested: None };
        let upper = self.pages.len() as u32;
        self.pages.push(Node { page: high, depth: depth + 1, nested: None });
        // The page's run of directory entries begins where its own bits end; the upper half of the run is the new page's.
        let run = 1usize << (self.depth - depth);
        let start = ((position << self.base) >> (64 - self.depth)) as usize & !(run - 1);
        self.directory[start + run / 2..start + run].fill(upper);
    }

    /// Visits every element.
    pub fn for_each(&self, visit: &mut dyn FnMut(u64)) {
        for node in &self.pages {
            match &node.nested {
                Some(nested) => nested.for_each(visit),
                None => node.page.for_each(&mut *visit),
            }
        }
    }

    /// Every element, in an order that depends only on what was inserted and removed.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        let mut stack = vec![(self, 0usize, 0usize)];
        std::iter::from_fn(move || {
            loop {
                let (table, page, slot) = stack.last_mut()?;
                let Some(node) = table.pages.get(*page) else {
                    stack.pop();
                    continue;
                };
                if let (Some(nested), 0) = (&node.nested, *slot) {
                    *page += 1;
                    stack.push((nested, 0, 0));
                    continue;
                }
                if *slot >= node.page.slots() {
                    (*page, *slot) = (*page + 1, 0);
                    continue;
                }
                *slot += 1;
                if let Some(payload) = node.page.slot(*slot - 1) {
                    return Some(payload);
                }
            }
        })
    }

    /// Visits at least `want` elements from `cursor` on (all with the same home chunk together), fewer at the end.
    /// An element present during a whole run of scans is visited at least once. `None`: the end was reached.
    pub fn scan(&self, cursor: Cursor, want: usize, visit: &mut impl FnMut(u64)) -> Option<Cursor> {
        self.scan_below(cursor, want, u64::MAX, visit)
    }

    /// As [`Table::scan`], ending after the page that contains position `last`.
    pub fn scan_below(&self, mut cursor: Cursor, want: usize, last: u64, visit: &mut impl FnMut(u64)) -> Option<Cursor> {
        let (mut visited, mut empty_pages) = (0, 0);
        loop {
            let node = &self.pages[self.index_of(cursor.position)];
            let mut count = |payload| {
                visited += 1;
                visit(payload);
            };
            let next = match &node.nested {
                Some(nested) => nested.scan_page(cursor, want, last, &mut count),
                None => node.page.scan(cursor.order, want, &mut count).map(|order| Cursor { order, ..cursor }),
            };
            if next.is_some() {
                return next;
            }
            empty_pages += usize::from(node.page.len() == 0);
            let page_last = last_position(cursor.position, self.base + node.depth);
            if page_last >= last_position(cursor.position, self.base) || page_last >= last {
                return None;
            }
            cursor = Cursor { position: page_last + 1, order: 0 };
            // Passing empty pages is work too: eight of them count as one visit, so that a call stays bounded.
            if visited + empty_pages / 8 >= want {
                return Some(cursor);
            }
        }
    }

    /// [`Table::scan_below`] through a plain function pointer's type, so that nesting does not nest closure types.
    fn scan_page(&self, cursor: Cursor, want: usize, last: u64, visit: &mut dyn FnMut(u64)) -> Option<Cursor> {
        self.scan_below(cursor, want, last, &mut |payload| visit(payload))
    }

    /// One element, each with the same chance.
    pub fn random(&self, random: &mut crate::random::Random) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        // A slot of a virtual array in which every directory entry has the same number of slots: empty ones are drawn again.
        let widest = if self.depth == 0 { self.pages[0].page.slots() } else { page::SLOTS_MAX };
        for _ in 0..TRIES_MAX {
            let entry = random.below(self.directory.len() as u64) as usize;
            let node = &self.pages[self.directory[entry] as usize];
            if node.nested.is_some() {
                break;
            }
            let shared = self.depth - node.depth;
            if let Some(payload) = node.page.slot(random.below((widest as u64) << shared) as usize) {
                return Some(payload);
            }
        }
        self.nth(random.below(self.len as u64) as usize)
    }

    /// The element at `index` in page order: a walk over the pages, then over one page.
    fn nth(&self, mut index: usize) -> Option<u64> {
        for node in &self.pages {
            let len = node.nested.as_ref().map_or(node.page.len(), |nested| nested.len());
            if index < len {
                return match &node.nested {
                    Some(nested) => nested.nth(index),
                    None => (0..node.page.slots()).filter_map(|slot| node.page.slot(slot)).nth(index),
                };
            }
            index -= len;
        }
        None
    }

    /// Takes out all elements of some pages, at least `budget` elements in all if there are as many. For freeing in slices.
    /// The table must not be used otherwise afterwards. Returns whether it is empty now.
    pub fn drain_some(&mut self, budget: usize, take: &mut dyn FnMut(u64)) -> bool {
        let mut taken = 0;
        while let Some(node) = self.pages.last_mut() {
            if taken >= budget {
                return false;
            }
            if let Some(nested) = &mut node.nested {
                let before = nested.len;
                let emptied = nested.drain_some(budget - taken, take);
                let gone = before - nested.len;
                (taken, self.len) = (taken + gone, self.len - gone);
                if emptied {
                    self.pages.pop();
                }
                continue;
            }
            (taken, self.len) = (taken + node.page.len(), self.len - node.page.len());
            node.page.for_each(&mut *take);
            self.pages.pop();
        }
        *self = Table::with_base(self.base);
        true
    }

    /// Every element can be found by its place; counts and directory agree.
    pub fn check_invariants(&self, position_of: &dyn Fn(u64) -> u64) {
        let mut len = 0;
        for (index, node) in self.pages.iter().enumerate() {
            node.page.check_invariants();
            if let Some(nested) = &node.nested {
                assert_eq!(node.page.len(), 0);
                nested.check_invariants(position_of);
                len += nested.len;
            }
            node.page.for_each(|payload| assert_eq!(self.index_of(position_of(payload)), index, "an element in a wrong page"));
            len += node.page.len();
            let entries = self.directory.iter().filter(|&&page| page as usize == index).count();
            assert_eq!(entries, 1 << (self.depth - node.depth));
        }
        assert_eq!(len, self.len);
    }
}

/// The last position that shares the top `bits` bits with `position`.
fn last_position(position: u64, bits: u8) -> u64 {
    if bits == 0 { u64::MAX } else { position | u64::MAX >> bits }
}

/// Draws of a random slot before walking the pages instead; at the usual fill one draw in three finds an element.
const TRIES_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use std::collections::HashSet;

    /// Payloads in tests are numbers, not pointers; 0 is not allowed.
    fn hash(payload: u64) -> u64 {
        Random::new(payload).next()
    }

    fn of_hash(payload: u64) -> Place {
        Place::of_hash(hash(payload))
    }

    /// All in one slot of 14 bits: the directory must nest.
    fn of_slot(payload: u64) -> Place {
        Place::of_key(5 << 50, hash(payload))
    }

    fn grow_and_shrink(place: fn(u64) -> Place, count: u64) {
        let mut table = Table::new();
        let position = |payload| place(payload).position;
        for payload in 1..=count {
            assert!(table.get(place(payload), |p| p == payload).is_none());
            table.insert(place(payload), payload, position);
        }
        table.check_invariants(&position);
        assert_eq!(table.iter().collect::<HashSet<_>>().len(), count as usize);
        for payload in (1..=count).step_by(2) {
            assert_eq!(table.remove(place(payload), |p| p == payload), Some(payload));
        }
        table.check_invariants(&position);
        for payload in 1..=count {
            assert_eq!(table.get(place(payload), |p| p == payload).is_some(), payload % 2 == 0);
        }
        let mut drained = 0;
        while !table.drain_some(100, &mut |_| drained += 1) {}
        assert_eq!(drained, count / 2);
    }

    #[test]
    fn grows_and_shrinks() {
        for count in [1, 14, 15, 100, 768, 769, 50_000] {
            grow_and_shrink(of_hash, count);
            grow_and_shrink(of_slot, count);
        }
    }

    #[test]
    fn a_scan_sees_everything_while_the_table_grows() {
        for place in [of_hash as fn(u64) -> Place, of_slot] {
            let position = |payload| place(payload).position;
            let mut table = Table::new();
            (1..=3000).for_each(|payload| table.insert(place(payload), payload, position));
            let (mut seen, mut cursor, mut next, mut calls) = (HashSet::new(), Cursor::START, 3001, 0);
            loop {
                let after = table.scan(cursor, 10, &mut |payload| {
                    seen.insert(payload);
                });
                calls += 1;
                for _ in 0..20 {
                    table.insert(place(next), next, position);
                    next += 1;
                }
                match after {
                    Some(after) => cursor = Cursor::from_bits(after.to_bits()),
                    None => break,
                }
            }
            assert!((1..=3000).all(|payload| seen.contains(&payload)));
            assert!(calls > 100, "a call returns about as many as it was asked for");
        }
    }

    #[test]
    fn random_elements_are_drawn_evenly() {
        let mut table = Table::new();
        let count = 2000u64;
        (1..=count).for_each(|payload| table.insert(of_hash(payload), payload, |p| of_hash(p).position));
        let mut random = Random::new(1);
        let mut drawn = vec![0u32; count as usize + 1];
        let draws = count * 100;
        (0..draws).for_each(|_| drawn[table.random(&mut random).unwrap() as usize] += 1);
        let chi: f64 = drawn[1..].iter().map(|&n| (f64::from(n) - 100.0).powi(2) / 100.0).sum();
        assert!(chi < 2300.0, "chi-square of 1999 degrees of freedom: {chi}");
    }
}
