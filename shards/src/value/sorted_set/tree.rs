//! The large form: members by a table, order by a B+-tree, and one block for each member that both point to.
//!
//! The tree's items carry the score beside the pointer: a search touches blocks only where scores are equal, which at a
//! million members is the difference between one cache miss a level and a dozen.

use super::bounds::{LexRange, ScoreRange};
use crate::random::Random;
use crate::table::{Cursor, Place, Table, prefetch};
use crate::value::bptree::{BPlusTree, Range as Ranks};
use crate::value::scored::Scored;
use ahash::RandomState;
use std::cmp::Ordering;
use std::ops::Range;

/// Items that stand in one leaf, about: what freeing a leaf counts as.
const LEAF_ITEMS: usize = 64;

/// A sorted set's large form.
pub struct Tree {
    /// Owns the blocks.
    table: Table,
    order: BPlusTree<Ranked>,
    hasher: RandomState,
    /// Bytes of all blocks.
    block_bytes: usize,
}

/// An item of the order.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ranked {
    pub score: f64,
    pub block: Scored,
}

impl Ranked {
    /// The caller chooses the lifetime: it must end before the set is changed.
    #[inline]
    pub(super) fn member<'a>(&self) -> &'a [u8] {
        self.block.member()
    }

    /// How this item stands to (`score`, `member`).
    #[inline]
    fn compare(&self, score: f64, member: &[u8]) -> Ordering {
        match self.score.partial_cmp(&score) {
            Some(Ordering::Equal) | None => self.block.member().cmp(member),
            Some(order) => order,
        }
    }

    /// How this item stands to another one.
    #[inline]
    fn compare_to(&self, other: &Ranked) -> Ordering {
        if self.score == other.score && self.block == other.block {
            return Ordering::Equal;
        }
        self.compare(other.score, other.block.member())
    }
}

/// The block behind a payload of a tree's table.
#[inline]
fn block(payload: u64) -> Scored {
    // SAFETY: a tree's table holds payloads of live blocks only: they enter in `Tree::insert`, and whoever takes one out frees it
    // after that.
    unsafe { Scored::from_payload(payload) }
}

impl Tree {
    pub fn new(hasher: RandomState) -> Self {
        Tree { table: Table::new(), order: BPlusTree::new(), hasher, block_bytes: 0 }
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Heap bytes of everything.
    pub fn bytes(&self) -> usize {
        size_of::<Tree>() + self.table.bytes() + self.order.bytes() + self.block_bytes
    }

    #[inline]
    fn place(&self, member: &[u8]) -> Place {
        Place::of_hash(self.hasher.hash_one(member))
    }

    /// The block of a member, by its place.
    #[inline]
    fn find(&self, place: Place, member: &[u8]) -> Option<Scored> {
        self.table.get(place, |payload| block(payload).member() == member).map(block)
    }

    pub fn score(&self, member: &[u8]) -> Option<f64> {
        self.find(self.place(member), member).map(Scored::score)
    }

    /// The score of a member that is there, or the place where [`Tree::insert`] puts it.
    #[inline]
    pub fn locate(&self, member: &[u8]) -> Result<Ranked, Place> {
        let place = self.place(member);
        self.find(place, member).map(|block| Ranked { score: block.score(), block }).ok_or(place)
    }

    /// Adds a member that is not there; `place` is [`Tree::locate`]'s answer.
    pub fn insert(&mut self, place: Place, member: &[u8], score: f64) {
        debug_assert!(!score.is_nan());
        let new = Scored::new(member, score);
        self.block_bytes += new.bytes();
        let hasher = &self.hasher;
        self.table.insert(place, new.to_payload(), |payload| Place::of_hash(hasher.hash_one(block(payload).member())).position);
        let added = self.order.insert_by_order(Ranked { score, block: new });
        debug_assert!(added, "a member stands in the order once");
    }

    pub fn add_new(&mut self, member: &[u8], score: f64) {
        self.insert(self.place(member), member, score);
    }

    /// Gives a member another score.
    pub fn set_score(&mut self, item: Ranked, score: f64) {
        debug_assert!(!score.is_nan());
        let removed = self.order.remove_by(|other| other.compare_to(&item));
        debug_assert!(removed.is_some(), "a member of the table stands in the order");
        item.block.set_score(score);
        self.order.insert_by_order(Ranked { score, ..item });
    }

    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let place = self.place(member);
        let old = block(self.table.remove(place, |payload| block(payload).member() == member)?);
        let item = Ranked { score: old.score(), block: old };
        let removed = self.order.remove_by(|other| other.compare_to(&item));
        debug_assert!(removed.is_some(), "a member of the table stands in the order");
        self.block_bytes -= old.bytes();
        // SAFETY: the block has just left the table and the order, and no other handle is kept.
        unsafe { old.free() };
        Some(item.score)
    }

    /// Removes the members of these ranks, in order.
    pub fn remove_ranks(&mut self, ranks: Range<usize>, mut visit: impl FnMut(&[u8], f64)) {
        let Tree { table, order, hasher, block_bytes } = self;
        order.remove_range(ranks, |item| {
            let place = Place::of_hash(hasher.hash_one(item.block.member()));
            let payload = item.block.to_payload();
            let removed = table.remove(place, |other| other == payload);
            debug_assert!(removed.is_some(), "a member in the order stands in the table");
            visit(item.block.member(), item.score);
            *block_bytes -= item.block.bytes();
            // SAFETY: the block has just left the table and the order, and `visit` cannot keep the borrow.
            unsafe { item.block.free() };
        });
    }

    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        let item = self.locate(member).ok()?;
        let rank = self.order.find(|other| other.compare_to(&item)).ok()?;
        Some((rank, item.score))
    }

    pub fn ranks(&self, ranks: Range<usize>) -> Ranks<'_, Ranked> {
        self.order.range(ranks)
    }

    pub fn by_rank(&self, rank: usize) -> Option<(&[u8], f64)> {
        self.order.get(rank).map(|item| (item.block.member(), item.score))
    }

    pub fn score_ranks(&self, range: &ScoreRange) -> Range<usize> {
        let start = self.order.partition_point(|item| range.is_above(item.score));
        let end = self.order.partition_point(|item| !range.is_below(item.score));
        start..end.max(start)
    }

    pub fn lex_ranks(&self, range: &LexRange<'_>) -> Range<usize> {
        let start = self.order.partition_point(|item| range.is_above(item.block.member()));
        let end = self.order.partition_point(|item| !range.is_below(item.block.member()));
        start..end.max(start)
    }

    pub fn random(&self, random: &mut Random) -> Option<(&[u8], f64)> {
        self.table.random(random).map(|payload| (block(payload).member(), block(payload).score()))
    }

    pub fn scan(&self, cursor: Cursor, want: usize, visit: &mut impl FnMut(&[u8], f64)) -> Option<Cursor> {
        self.table.scan(cursor, want, &mut |payload| visit(block(payload).member(), block(payload).score()))
    }

    /// Frees about `budget` members; true when nothing is left.
    pub fn free_some(&mut self, budget: usize) -> bool {
        if !self.order.is_empty() {
            self.order.free_some(budget / LEAF_ITEMS + 1);
            return false;
        }
        self.free_blocks(budget)
    }

    fn free_blocks(&mut self, budget: usize) -> bool {
        self.table.drain_some(budget, &mut |payload| {
            prefetch(payload as *const u8);
            // SAFETY: a drained payload has left the table for good, and the order is not read any more.
            unsafe { block(payload).free() }
        })
    }

    pub fn check_invariants(&self) {
        self.order.check_invariants(Ranked::compare_to);
        self.table.check_invariants(&|payload| self.place(block(payload).member()).position);
        assert_eq!(self.table.len(), self.order.len());
        let mut bytes = 0;
        for item in self.order.iter() {
            assert_eq!(item.score.to_bits(), item.block.score().to_bits());
            let found = self.find(self.place(item.block.member()), item.block.member());
            assert_eq!(found, Some(item.block));
            bytes += item.block.bytes();
        }
        assert_eq!(bytes, self.block_bytes);
    }
}

impl BPlusTree<Ranked> {
    fn insert_by_order(&mut self, item: Ranked) -> bool {
        self.insert(item, |a, b| a.compare_to(b))
    }
}

impl Clone for Tree {
    fn clone(&self) -> Self {
        let mut copy = Tree::new(self.hasher.clone());
        for item in self.order.iter() {
            let (member, score) = (item.block.member(), item.score);
            copy.insert(copy.place(member), member, score);
        }
        copy
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.order.clear();
        while !self.free_blocks(usize::MAX) {}
    }
}
