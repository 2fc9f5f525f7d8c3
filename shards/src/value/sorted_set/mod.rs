//! Sorted sets: members with scores, in the order of (score, member).
//!
//! Owns the two encodings and when one becomes the other. Refuses to know commands: a range of any kind is first turned into
//! a range of ranks, in O(log n) for the large form, and then walked, counted or removed as such.
//!
//! Small sets are one packed buffer in order ([`small`]); past the thresholds a set becomes a table and a B+-tree ([`tree`])
//! and stays that. Scores are never NaN.

mod bounds;
mod small;
mod tree;

pub use bounds::{LexBound, LexRange, ScoreRange};

use super::bptree;
use super::item::Item;
use super::packed::Packed;
use crate::random::Random;
use crate::table::{Cursor, Table};
use ahash::RandomState;
use std::iter::Rev;
use std::ops::Range;
use tree::{Ranked, Tree};

/// A sorted set.
#[derive(Clone)]
pub struct SortedSet(Form);

#[derive(Clone)]
enum Form {
    Packed(Packed),
    Tree(Box<Tree>),
}

const _: () = assert!(size_of::<SortedSet>() <= 16);

/// Bytes a packed buffer may have, whatever the thresholds say.
const PACKED_BYTES_MAX: usize = 1 << 30;

/// When the small form ends, and what the large one hashes with.
#[derive(Clone)]
pub struct Limits {
    pub entries: usize,
    pub value: usize,
    pub hasher: RandomState,
}

/// Conditions and meaning of an addition (ZADD's options).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct AddOptions {
    /// Only members that are not there.
    pub absent: bool,
    /// Only members that are there.
    pub present: bool,
    /// Only to a greater score.
    pub greater: bool,
    /// Only to a lesser score.
    pub less: bool,
    /// The score is added to the old one.
    pub increment: bool,
}

/// What an addition did; the score is the member's now.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Added {
    New(f64),
    Changed(f64),
    Same(f64),
    /// The conditions forbade it.
    Skipped,
    /// The sum would be no number; nothing was changed.
    NotANumber,
}

/// Which end a walk begins at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    Ascending,
    Descending,
}

impl Default for SortedSet {
    fn default() -> Self {
        Self::new()
    }
}

impl SortedSet {
    pub const fn new() -> Self {
        SortedSet(Form::Packed(Packed::new()))
    }

    /// An empty set in the form that a set of `entries` members has, the longest of `longest` bytes.
    pub fn sized(entries: usize, longest: usize, limits: &Limits) -> Self {
        if entries > limits.entries || longest > limits.value {
            SortedSet(Form::Tree(Box::new(Tree::new(limits.hasher.clone()))))
        } else {
            SortedSet::new()
        }
    }

    /// The small form of members that stand in order and are distinct, whatever the thresholds say (loading); `None` if they
    /// do not fit.
    pub fn from_sorted<'a>(members: impl IntoIterator<Item = (Item<'a>, f64)>) -> Option<Self> {
        let mut packed = Packed::new();
        let fits = members.into_iter().all(|(member, score)| small::append(&mut packed, member, score));
        (fits && packed.encoded_bytes() <= PACKED_BYTES_MAX).then_some(SortedSet(Form::Packed(packed)))
    }

    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Packed(packed) => packed.len() / 2,
            Form::Tree(tree) => tree.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The table of a large one, for prefetching.
    #[inline]
    pub fn table(&self) -> Option<&Table> {
        if let Form::Tree(tree) = &self.0 { Some(tree.table()) } else { None }
    }

    /// As OBJECT ENCODING names it.
    pub fn encoding(&self) -> &'static str {
        match &self.0 {
            Form::Packed(_) => "listpack",
            Form::Tree(_) => "skiplist",
        }
    }

    /// Heap bytes.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Form::Packed(packed) => packed.bytes(),
            Form::Tree(tree) => tree.bytes(),
        }
    }

    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match &self.0 {
            Form::Packed(packed) => small::find(packed, member).map(|found| found.score),
            Form::Tree(tree) => tree.score(member),
        }
    }

    /// Sets a member's score, whatever it was; tells whether the member is new.
    pub fn insert(&mut self, member: &[u8], score: f64, limits: &Limits) -> bool {
        matches!(self.add(member, score, AddOptions::default(), limits), Added::New(_))
    }

    /// Adds a member or changes its score, as the options allow. `score` is no NaN.
    pub fn add(&mut self, member: &[u8], score: f64, options: AddOptions, limits: &Limits) -> Added {
        match &mut self.0 {
            Form::Packed(packed) => {
                let Some(found) = small::find(packed, member) else {
                    if options.present {
                        return Added::Skipped;
                    }
                    self.make_room(member, limits);
                    self.insert_new(member, score);
                    return Added::New(score);
                };
                let outcome = options.decide(found.score, score);
                if let Added::Changed(score) = outcome {
                    small::remove(packed, found.pos);
                    small::insert(packed, member, score);
                }
                outcome
            }
            Form::Tree(tree) => match tree.locate(member) {
                Err(_) if options.present => Added::Skipped,
                Err(place) => {
                    tree.insert(place, member, score);
                    Added::New(score)
                }
                Ok(block) => {
                    let outcome = options.decide(block.score(), score);
                    if let Added::Changed(score) = outcome {
                        tree.set_score(block, score);
                    }
                    outcome
                }
            },
        }
    }

    fn insert_new(&mut self, member: &[u8], score: f64) {
        match &mut self.0 {
            Form::Packed(packed) => small::insert(packed, member, score),
            Form::Tree(tree) => tree.add_new(member, score),
        }
    }

    /// Adds a member that is not there and that comes behind all others: what is built in order is built fastest.
    pub fn push_last(&mut self, member: &[u8], score: f64, limits: &Limits) {
        self.make_room(member, limits);
        match &mut self.0 {
            Form::Packed(packed) => small::insert(packed, member, score),
            Form::Tree(tree) => tree.push_last(member, score),
        }
    }

    /// Goes over to the large form if one more member would be too much for the small one.
    fn make_room(&mut self, member: &[u8], limits: &Limits) {
        let Form::Packed(packed) = &self.0 else { return };
        let too_many = packed.len() / 2 >= limits.entries;
        if too_many || member.len() > limits.value || packed.encoded_bytes() + member.len() > PACKED_BYTES_MAX {
            let mut tree = Tree::new(limits.hasher.clone());
            small::pairs(packed).for_each(|(member, score)| member.with_bytes(|member| tree.push_last(member, score)));
            self.0 = Form::Tree(Box::new(tree));
        }
    }

    /// Removes a member; its score if it was there.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        match &mut self.0 {
            Form::Packed(packed) => {
                let found = small::find(packed, member)?;
                small::remove(packed, found.pos);
                Some(found.score)
            }
            Form::Tree(tree) => tree.remove(member),
        }
    }

    /// Removes the members of these ranks (cut to the length), handing each to `visit` in ascending order; returns how many.
    pub fn remove_ranks(&mut self, ranks: Range<usize>, mut visit: impl FnMut(&[u8], f64)) -> usize {
        let end = ranks.end.min(self.len());
        let ranks = ranks.start.min(end)..end;
        match &mut self.0 {
            Form::Packed(packed) => {
                let gone = small::pairs(packed).skip(ranks.start).take(ranks.len());
                gone.for_each(|(member, score)| member.with_bytes(|member| visit(member, score)));
                small::remove_ranks(packed, ranks.clone());
            }
            Form::Tree(tree) => tree.remove_ranks(ranks.clone(), visit),
        }
        ranks.len()
    }

    /// Ascending rank (from 0) and score of a member.
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        match &self.0 {
            Form::Packed(packed) => small::rank(packed, member),
            Form::Tree(tree) => tree.rank(member),
        }
    }

    pub fn by_rank(&self, rank: usize) -> Option<(Item<'_>, f64)> {
        match &self.0 {
            Form::Packed(packed) => small::pairs(packed).nth(rank),
            Form::Tree(tree) => tree.by_rank(rank).map(|(member, score)| (Item::Bytes(member), score)),
        }
    }

    /// The ranks of the members with scores in `range`.
    pub fn score_ranks(&self, range: &ScoreRange) -> Range<usize> {
        match &self.0 {
            Form::Packed(packed) => small::score_ranks(packed, range),
            Form::Tree(tree) => tree.score_ranks(range),
        }
    }

    /// The ranks of the members in `range`, where all scores are equal.
    pub fn lex_ranks(&self, range: &LexRange<'_>) -> Range<usize> {
        match &self.0 {
            Form::Packed(packed) => small::lex_ranks(packed, range),
            Form::Tree(tree) => tree.lex_ranks(range),
        }
    }

    /// The members of these ranks (cut to the length) with their scores, from either end of them.
    pub fn range(&self, ranks: Range<usize>, direction: Direction) -> Entries<'_> {
        let end = ranks.end.min(self.len());
        let ranks = ranks.start.min(end)..end;
        Entries(match (&self.0, direction) {
            (Form::Packed(packed), Direction::Ascending) => {
                let mut pairs = small::pairs(packed);
                if ranks.start > 0 {
                    pairs.nth(ranks.start - 1);
                }
                Walk::Packed(pairs.take(ranks.len()))
            }
            (Form::Packed(packed), Direction::Descending) => {
                let pairs: Vec<_> = small::pairs(packed).skip(ranks.start).take(ranks.len()).collect();
                Walk::PackedBack(pairs.into_iter().rev())
            }
            (Form::Tree(tree), Direction::Ascending) => Walk::Tree(Ahead::new(tree.ranks(ranks))),
            (Form::Tree(tree), Direction::Descending) => Walk::TreeBack(Ahead::new(tree.ranks(ranks).rev())),
        })
    }

    /// All members in ascending order.
    pub fn iter(&self) -> Entries<'_> {
        self.range(0..self.len(), Direction::Ascending)
    }

    /// A member drawn with equal chances.
    pub fn random(&self, random: &mut Random) -> Option<(Item<'_>, f64)> {
        match &self.0 {
            Form::Packed(_) => self.by_rank(random.below(self.len() as u64) as usize),
            Form::Tree(tree) => tree.random(random).map(|(member, score)| (Item::Bytes(member), score)),
        }
    }

    /// Visits at least `want` members from `cursor` on; `None`: the end was reached. The small form is visited whole.
    pub fn scan(&self, cursor: Cursor, want: usize, visit: &mut impl FnMut(&[u8], f64)) -> Option<Cursor> {
        match &self.0 {
            Form::Packed(packed) => {
                small::pairs(packed).for_each(|(member, score)| member.with_bytes(|member| visit(member, score)));
                None
            }
            Form::Tree(tree) => tree.scan(cursor, want, visit),
        }
    }

    /// Frees about `budget` members; true when nothing is left. The set must not be used otherwise afterwards.
    pub fn free_some(&mut self, budget: usize) -> bool {
        match &mut self.0 {
            Form::Packed(packed) => {
                packed.clear();
                true
            }
            Form::Tree(tree) => tree.free_some(budget),
        }
    }

    /// Panics if order, table or counts are wrong. For tests.
    pub fn check_invariants(&self) {
        match &self.0 {
            Form::Packed(packed) => {
                packed.check_invariants();
                assert_eq!(packed.len() % 2, 0, "a score for each member");
                let pairs: Vec<_> = small::pairs(packed).map(|(member, score)| (score, member.to_vec())).collect();
                assert!(pairs.is_sorted_by(|a, b| a < b), "members ascend by (score, member)");
            }
            Form::Tree(tree) => tree.check_invariants(),
        }
    }
}

impl AddOptions {
    /// What becomes of a member that is there.
    fn decide(self, old: f64, given: f64) -> Added {
        if self.absent {
            return Added::Skipped;
        }
        let new = if self.increment { old + given } else { given };
        if new.is_nan() {
            Added::NotANumber
        } else if (self.greater && new <= old) || (self.less && new >= old) {
            Added::Skipped
        } else if new == old {
            Added::Same(old)
        } else {
            Added::Changed(new)
        }
    }
}

/// Members with their scores, walked in one direction.
pub struct Entries<'a>(Walk<'a>);

enum Walk<'a> {
    Packed(std::iter::Take<small::Pairs<'a>>),
    PackedBack(Rev<std::vec::IntoIter<(Item<'a>, f64)>>),
    Tree(Ahead<bptree::Range<'a, Ranked>>),
    TreeBack(Ahead<Rev<bptree::Range<'a, Ranked>>>),
}

impl<'a> Iterator for Entries<'a> {
    type Item = (Item<'a>, f64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let item = match &mut self.0 {
            Walk::Packed(pairs) => return pairs.next(),
            Walk::PackedBack(pairs) => return pairs.next(),
            Walk::Tree(ranks) => ranks.next()?,
            Walk::TreeBack(ranks) => ranks.next()?,
        };
        // The walk borrows the set, so the block lives as long as the member is used.
        Some((Item::Bytes(item.member()), item.score()))
    }
}

/// A walk that asks for the blocks of the next items before they are needed: they are all over the heap.
struct Ahead<I> {
    items: I,
    /// Items already taken from `items`, the next one at `at`.
    ring: [Option<Ranked>; AHEAD],
    at: usize,
}

/// How many blocks are on their way at a time.
const AHEAD: usize = 8;

impl<I: Iterator<Item = Ranked>> Ahead<I> {
    fn new(mut items: I) -> Self {
        let ring = std::array::from_fn(|_| items.next().inspect(|item| item.prefetch()));
        Ahead { items, ring, at: 0 }
    }

    #[inline]
    fn next(&mut self) -> Option<Ranked> {
        let following = self.items.next().inspect(|item| item.prefetch());
        let item = std::mem::replace(&mut self.ring[self.at], following);
        self.at = (self.at + 1) % AHEAD;
        item
    }
}

#[cfg(test)]
mod tests;
