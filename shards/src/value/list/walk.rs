//! Walks over the elements of a list, both ways: LRANGE, LPOS, and whoever writes a list out.

use super::super::chunk::{End, first, last, offset};
use super::super::item::Item;
use super::List;

impl List {
    /// Walks `len` elements from number `start` on, or as many as there are.
    pub fn range(&self, start: usize, len: usize) -> Walk<'_> {
        let left = len.min(self.len().saturating_sub(start));
        self.walk(start, left, End::Front)
    }

    /// Walks backwards from the element that is number `start` counted from the tail (the last is number 0).
    pub fn range_rev(&self, start: usize, len: usize) -> Walk<'_> {
        let behind = self.len().saturating_sub(start);
        self.walk(behind.saturating_sub(1), len.min(behind), End::Back)
    }

    pub fn iter(&self) -> Walk<'_> {
        self.range(0, usize::MAX)
    }

    pub fn iter_rev(&self) -> Walk<'_> {
        self.range_rev(0, usize::MAX)
    }

    fn walk(&self, start: usize, left: usize, from: End) -> Walk<'_> {
        let mut walk = Walk { list: self, from, chunk: 0, plain: &[], expanded: Vec::new(), at: 0, end: 0, left };
        if left > 0 {
            let place = self.place(start);
            walk.enter(place.chunk);
            let (data, count) = (walk.data(), self.chunk(place.chunk).count());
            match from {
                End::Front => walk.at = offset(data, count, place.within),
                End::Back => walk.end = offset(data, count, place.within + 1),
            }
        }
        walk
    }
}

/// Elements in one direction. Not an `Iterator`: an element may be borrowed from the walk itself.
pub struct Walk<'a> {
    list: &'a List,
    /// The end it comes from.
    from: End,
    chunk: usize,
    /// The elements of that chunk; if it is compact they are in `expanded`, and this is empty.
    plain: &'a [u8],
    expanded: Vec<u8>,
    /// What is still to come of them is `at..end`.
    at: usize,
    end: usize,
    left: usize,
}

impl Walk<'_> {
    /// How many elements are still to come.
    pub fn remaining(&self) -> usize {
        self.left
    }

    #[inline]
    #[expect(clippy::should_implement_trait, reason = "an iterator could not lend its elements")]
    pub fn next(&mut self) -> Option<Item<'_>> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        if self.at == self.end {
            self.enter(match self.from {
                End::Front => self.chunk + 1,
                End::Back => self.chunk.saturating_sub(1),
            });
        }
        let (at, end) = (self.at, self.end);
        match self.from {
            End::Front => {
                let (_, size) = first(&self.data()[at..end])?;
                self.at += size;
            }
            End::Back => {
                let (_, size) = last(&self.data()[at..end])?;
                self.end -= size;
            }
        }
        let start = if self.from == End::Front { at } else { self.end };
        Item::decode(&self.data()[start..end]).map(|(item, _)| item)
    }

    /// Calls `f` with each element.
    #[inline]
    pub fn for_each(mut self, mut f: impl FnMut(Item<'_>)) {
        while let Some(item) = self.next() {
            f(item);
        }
    }

    #[inline]
    fn data(&self) -> &[u8] {
        if self.plain.is_empty() { &self.expanded } else { self.plain }
    }

    #[cold]
    fn enter(&mut self, index: usize) {
        let chunk = self.list.chunk(index);
        self.chunk = index;
        self.plain = if chunk.is_compact() {
            chunk.read(&mut self.expanded);
            &[]
        } else {
            chunk.entries()
        };
        (self.at, self.end) = (0, self.data().len());
    }
}
