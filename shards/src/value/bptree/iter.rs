//! Walking the items between two ranks, from either end.
//!
//! Owns no path: at the end of a leaf the next one is looked up by rank. That is one descent over the counts, without a comparison,
//! for some fifty items, and spares leaves the links that every split and join would have to mend.

use super::BPlusTree;
use std::iter::FusedIterator;

/// The items of a run of ranks in ascending order; `rev()` walks them downwards.
pub struct Range<'a, T> {
    tree: &'a BPlusTree<T>,
    /// Ranks still to come: `front..back`.
    front: usize,
    back: usize,
    /// Items of the leaf under `front`, from there on; may reach beyond `back`.
    front_items: &'a [T],
    /// Items of the leaf under `back - 1`, up to there; may reach below `front`.
    back_items: &'a [T],
}

impl<'a, T: Copy> Range<'a, T> {
    pub(super) fn new(tree: &'a BPlusTree<T>, front: usize, back: usize) -> Self {
        Range { tree, front, back, front_items: &[], back_items: &[] }
    }
}

impl<T: Copy> Iterator for Range<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if self.front >= self.back {
            return None;
        }
        if self.front_items.is_empty() {
            let (items, at) = self.tree.leaf_of(self.front)?;
            self.front_items = &items[at..];
        }
        let (&item, rest) = self.front_items.split_first()?;
        self.front_items = rest;
        self.front += 1;
        Some(item)
    }

    fn nth(&mut self, n: usize) -> Option<T> {
        let n = n.min(self.len());
        self.front += n;
        self.front_items = self.front_items.get(n..).unwrap_or(&[]);
        self.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.back.saturating_sub(self.front);
        (left, Some(left))
    }
}

impl<T: Copy> DoubleEndedIterator for Range<'_, T> {
    fn next_back(&mut self) -> Option<T> {
        if self.front >= self.back {
            return None;
        }
        if self.back_items.is_empty() {
            let (items, at) = self.tree.leaf_of(self.back - 1)?;
            self.back_items = &items[..=at];
        }
        let (&item, rest) = self.back_items.split_last()?;
        self.back_items = rest;
        self.back -= 1;
        Some(item)
    }

    fn nth_back(&mut self, n: usize) -> Option<T> {
        let n = n.min(self.len());
        self.back -= n;
        self.back_items = &self.back_items[..self.back_items.len().saturating_sub(n)];
        self.next_back()
    }
}

impl<T: Copy> ExactSizeIterator for Range<'_, T> {}
impl<T: Copy> FusedIterator for Range<'_, T> {}
