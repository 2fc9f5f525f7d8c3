//! The large form: members by a table, order by a B+-tree, and one block for each member that both point to.
//!
//! The tree's items carry the upper part of the score beside the pointer, in 12 bytes together: a search touches blocks only
//! where those parts are equal, which at a million members is the difference between one cache miss a level and a dozen.

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

/// An item of the order: the upper 48 bits of the score's sort key and a pointer of 48 bits.
///
/// ```text
/// key bits 63…32 │ key bits 31…16, pointer bits 47…32 │ pointer bits 31…0
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ranked([u32; 3]);

const _: () = assert!(size_of::<Ranked>() == 12);
const POINTER_BITS: u32 = 48;
const KEY_BITS_LEFT_OUT: u32 = 16;

/// A score as an integer of the same order, without its lowest bits. The two zeros have one key.
#[inline]
fn key_of(score: f64) -> u64 {
    let bits = (score + 0.0).to_bits();
    let key = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    key >> KEY_BITS_LEFT_OUT
}

impl Ranked {
    #[inline]
    fn new(score: f64, block: Scored) -> Self {
        let (key, pointer) = (key_of(score), block.to_payload());
        debug_assert!(pointer >> POINTER_BITS == 0);
        Ranked([(key >> 16) as u32, (key << 16) as u32 | (pointer >> 32) as u32, pointer as u32])
    }

    #[inline]
    fn key(self) -> u64 {
        u64::from(self.0[0]) << 16 | u64::from(self.0[1] >> 16)
    }

    #[inline]
    fn block(self) -> Scored {
        block(u64::from(self.0[1] & 0xFFFF) << 32 | u64::from(self.0[2]))
    }

    #[inline]
    pub(super) fn score(self) -> f64 {
        self.block().score()
    }

    /// The caller chooses the lifetime: it must end before the set is changed.
    #[inline]
    pub(super) fn member<'a>(self) -> &'a [u8] {
        self.block().member()
    }

    /// Asks the processor to fetch the block.
    #[inline]
    pub(super) fn prefetch(self) {
        prefetch(self.block().to_payload() as *const u8);
    }

    /// How the item stands to a member with a score.
    #[inline]
    fn compare(self, key: u64, score: f64, member: &[u8]) -> Ordering {
        self.key().cmp(&key).then_with(|| {
            let block = self.block();
            block.score().partial_cmp(&score).unwrap_or(Ordering::Equal).then_with(|| block.member().cmp(member))
        })
    }

    /// How the item stands to another one.
    #[inline]
    fn compare_to(self, other: Ranked) -> Ordering {
        if self == other {
            return Ordering::Equal;
        }
        self.key().cmp(&other.key()).then_with(|| self.compare(other.key(), other.score(), other.member()))
    }

    /// Whether the item's score satisfies `holds`, which must hold for a prefix of the order; `bound` is where it ends, about.
    #[inline]
    fn score_is(self, bound: u64, holds: impl Fn(f64) -> bool) -> bool {
        match self.key().cmp(&bound) {
            Ordering::Less => true,
            Ordering::Equal => holds(self.score()),
            Ordering::Greater => false,
        }
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

    /// The block of a member that is there, or the place where [`Tree::insert`] puts it.
    #[inline]
    pub fn locate(&self, member: &[u8]) -> Result<Scored, Place> {
        let place = self.place(member);
        self.find(place, member).ok_or(place)
    }

    /// Adds a member that is not there; `place` is [`Tree::locate`]'s answer.
    pub fn insert(&mut self, place: Place, member: &[u8], score: f64) {
        debug_assert!(!score.is_nan());
        let new = Scored::new(member, score);
        self.put_in_table(place, new);
        self.put_in_order(new, score);
    }

    fn put_in_order(&mut self, block: Scored, score: f64) {
        let (key, member) = (key_of(score), block.member());
        let added = self.order.insert(Ranked::new(score, block), |item, _| item.compare(key, score, member));
        debug_assert!(added, "a member stands in the order once");
    }

    fn take_out_of_order(&mut self, block: Scored) {
        let item = Ranked::new(block.score(), block);
        let removed = self.order.remove_by(|other| other.compare_to(item));
        debug_assert!(removed.is_some(), "a member of the table stands in the order");
    }

    /// Adds a member that is not there and that comes behind all others.
    pub fn push_last(&mut self, member: &[u8], score: f64) {
        let (new, place) = (Scored::new(member, score), self.place(member));
        self.put_in_table(place, new);
        debug_assert!(self.order.last().is_none_or(|last| last.compare_to(Ranked::new(score, new)).is_lt()));
        self.order.push_last(Ranked::new(score, new));
    }

    fn put_in_table(&mut self, place: Place, new: Scored) {
        self.block_bytes += new.bytes();
        let hasher = &self.hasher;
        self.table.insert(place, new.to_payload(), |payload| Place::of_hash(hasher.hash_one(block(payload).member())).position);
    }

    pub fn add_new(&mut self, member: &[u8], score: f64) {
        self.insert(self.place(member), member, score);
    }

    /// Gives the member of a block another score.
    pub fn set_score(&mut self, old: Scored, score: f64) {
        debug_assert!(!score.is_nan());
        self.take_out_of_order(old);
        if old.set_score(score) {
            self.put_in_order(old, score);
            return;
        }
        let new = Scored::new(old.member(), score);
        let place = self.place(new.member());
        let replaced = self.table.replace(place, |payload| payload == old.to_payload(), new.to_payload());
        assert!(replaced, "a block of the order stands in the table");
        self.block_bytes = self.block_bytes + new.bytes() - old.bytes();
        // SAFETY: the block has just left the table and the order, and no other handle is kept.
        unsafe { old.free() };
        self.put_in_order(new, score);
    }

    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let place = self.place(member);
        let old = block(self.table.remove(place, |payload| block(payload).member() == member)?);
        let score = old.score();
        self.take_out_of_order(old);
        self.block_bytes -= old.bytes();
        // SAFETY: the block has just left the table and the order, and no other handle is kept.
        unsafe { old.free() };
        Some(score)
    }

    /// Removes the members of these ranks, in order.
    pub fn remove_ranks(&mut self, ranks: Range<usize>, mut visit: impl FnMut(&[u8], f64)) {
        let Tree { table, order, hasher, block_bytes } = self;
        order.remove_range(ranks, |item| {
            let old = item.block();
            let place = Place::of_hash(hasher.hash_one(old.member()));
            let removed = table.remove(place, |other| other == old.to_payload());
            debug_assert!(removed.is_some(), "a member in the order stands in the table");
            visit(old.member(), old.score());
            *block_bytes -= old.bytes();
            // SAFETY: the block has just left the table and the order, and `visit` cannot keep the borrow.
            unsafe { old.free() };
        });
    }

    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        let block = self.locate(member).ok()?;
        let item = Ranked::new(block.score(), block);
        let rank = self.order.find(|other| other.compare_to(item)).ok()?;
        Some((rank, block.score()))
    }

    pub fn ranks(&self, ranks: Range<usize>) -> Ranks<'_, Ranked> {
        self.order.range(ranks)
    }

    pub fn by_rank(&self, rank: usize) -> Option<(&[u8], f64)> {
        self.order.get(rank).map(|item| (item.member(), item.score()))
    }

    pub fn score_ranks(&self, range: &ScoreRange) -> Range<usize> {
        let (min, max) = (key_of(range.min), key_of(range.max));
        let start = self.order.partition_point(|item| item.score_is(min, |score| range.is_above(score)));
        let end = self.order.partition_point(|item| item.score_is(max, |score| !range.is_below(score)));
        start..end.max(start)
    }

    pub fn lex_ranks(&self, range: &LexRange<'_>) -> Range<usize> {
        let start = self.order.partition_point(|item| range.is_above(item.member()));
        let end = self.order.partition_point(|item| !range.is_below(item.member()));
        start..end.max(start)
    }

    pub fn random(&self, random: &mut Random) -> Option<(&[u8], f64)> {
        self.table.random(random).map(|payload| (block(payload).member(), block(payload).score()))
    }

    pub fn scan(&self, cursor: Cursor, want: usize, visit: &mut impl FnMut(&[u8], f64)) -> Option<Cursor> {
        self.table.scan(cursor, want, &mut |payload| visit(block(payload).member(), block(payload).score()))
    }

    /// For prefetching; members are placed as [`KeyHasher::member`](crate::keyspace::KeyHasher::member) says.
    #[inline]
    pub fn table(&self) -> &Table {
        &self.table
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
        self.order.check_invariants(|a, b| a.compare_to(*b));
        self.table.check_invariants(&|payload| self.place(block(payload).member()).position);
        assert_eq!(self.table.len(), self.order.len());
        let mut bytes = 0;
        for item in self.order.iter() {
            assert_eq!(item.key(), key_of(item.score()));
            assert_eq!(self.find(self.place(item.member()), item.member()), Some(item.block()));
            bytes += item.block().bytes();
        }
        assert_eq!(bytes, self.block_bytes);
    }
}

impl Clone for Tree {
    fn clone(&self) -> Self {
        let mut copy = Tree::new(self.hasher.clone());
        for item in self.order.iter() {
            copy.push_last(item.member(), item.score());
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
