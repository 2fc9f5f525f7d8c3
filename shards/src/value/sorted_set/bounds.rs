//! The bounds of ranges by score and by member.

use std::cmp::Ordering;

/// Scores between two bounds, each inclusive or not.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ScoreRange {
    pub min: f64,
    pub max: f64,
    pub min_excluded: bool,
    pub max_excluded: bool,
}

impl ScoreRange {
    /// Whether `score` lies before the range.
    #[inline]
    pub fn is_above(&self, score: f64) -> bool {
        if self.min_excluded { score <= self.min } else { score < self.min }
    }

    /// Whether `score` lies behind the range.
    #[inline]
    pub fn is_below(&self, score: f64) -> bool {
        if self.max_excluded { score >= self.max } else { score > self.max }
    }
}

/// One end of a range by member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LexBound<'a> {
    /// Before every member (`-`).
    Lowest,
    /// Behind every member (`+`).
    Highest,
    Included(&'a [u8]),
    Excluded(&'a [u8]),
}

impl<'a> LexBound<'a> {
    fn order(self) -> (u8, &'a [u8]) {
        match self {
            LexBound::Lowest => (0, &[]),
            LexBound::Included(member) | LexBound::Excluded(member) => (1, member),
            LexBound::Highest => (2, &[]),
        }
    }
}

/// Members between two bounds; meaningful where all scores are equal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LexRange<'a> {
    pub min: LexBound<'a>,
    pub max: LexBound<'a>,
}

impl LexRange<'_> {
    /// Nothing can lie in it, whatever the set.
    pub fn is_empty(&self) -> bool {
        let excluded = |bound| matches!(bound, LexBound::Excluded(_));
        match self.min.order().cmp(&self.max.order()) {
            Ordering::Less => false,
            Ordering::Equal => excluded(self.min) || excluded(self.max),
            Ordering::Greater => true,
        }
    }

    /// Whether `member` lies before the range.
    pub fn is_above(&self, member: &[u8]) -> bool {
        match self.min {
            LexBound::Lowest => false,
            LexBound::Highest => true,
            LexBound::Included(min) => member < min,
            LexBound::Excluded(min) => member <= min,
        }
    }

    /// Whether `member` lies behind the range.
    pub fn is_below(&self, member: &[u8]) -> bool {
        match self.max {
            LexBound::Lowest => true,
            LexBound::Highest => false,
            LexBound::Included(max) => member > max,
            LexBound::Excluded(max) => member >= max,
        }
    }
}
