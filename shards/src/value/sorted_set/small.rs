//! The small form: member, score, member, score … in one packed buffer, in order.
//!
//! Owns how a score stands in a packed element, exactly and as tightly as it goes:
//!
//! ```text
//! integer of up to 53 bits             a packed integer, 1 to 8 bytes
//! exact as f32                         4 bytes
//! any other                            8 bytes
//! ```
//!
//! -0 becomes 0, as in redis-server's small form. An element of 4 or 8 bytes that would read as a decimal integer gets a zero
//! byte in front.

use super::bounds::{LexRange, ScoreRange};
use crate::value::item::{Item, parse_int};
use crate::value::packed::{Iter, Packed, Pos};
use std::cmp::Ordering;
use std::ops::Range;

/// Integers up to here are exact as doubles.
const INT_MAX: f64 = 9_007_199_254_740_992.0;

/// Where a member stands, and its score.
#[derive(Clone, Copy)]
pub struct Found {
    pub pos: Pos,
    pub score: f64,
}

pub fn score_of(item: Item<'_>) -> f64 {
    match item {
        Item::Int(int) => int as f64,
        Item::Bytes(&[a, b, c, d] | &[0, a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
        Item::Bytes(&[a, b, c, d, e, f, g, h] | &[0, a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
        Item::Bytes(_) => unreachable!("a score is written by with_score alone"),
    }
}

/// Calls `f` with the element for a score.
fn with_score<R>(score: f64, f: impl FnOnce(&[u8]) -> R) -> R {
    if score.fract() == 0.0 && score.abs() <= INT_MAX {
        return f(itoa::Buffer::new().format(score as i64).as_bytes());
    }
    let mut padded = [0u8; 9];
    let narrow = score as f32;
    let len = if f64::from(narrow) == score {
        padded[1..5].copy_from_slice(&narrow.to_le_bytes());
        4
    } else {
        padded[1..9].copy_from_slice(&score.to_le_bytes());
        8
    };
    let start = usize::from(parse_int(&padded[1..=len]).is_none());
    f(&padded[start..=len])
}

fn compare(item: Item<'_>, member: &[u8]) -> Ordering {
    match item {
        Item::Bytes(bytes) => bytes.cmp(member),
        int => int.with_bytes(|bytes| bytes.cmp(member)),
    }
}

/// Members with their scores from the first on.
pub fn pairs(packed: &Packed) -> Pairs<'_> {
    Pairs(packed.iter())
}

#[derive(Clone)]
pub struct Pairs<'a>(Iter<'a>);

impl<'a> Iterator for Pairs<'a> {
    type Item = (Item<'a>, f64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let member = self.0.next()?;
        Some((member, score_of(self.0.next()?)))
    }
}

pub fn find(packed: &Packed, member: &[u8]) -> Option<Found> {
    let pos = packed.find(member, 2)?;
    let score = score_of(packed.at(packed.next(pos)?)?);
    Some(Found { pos, score })
}

/// The rank and score of a member.
pub fn rank(packed: &Packed, member: &[u8]) -> Option<(usize, f64)> {
    pairs(packed).enumerate().find(|(_, (item, _))| item.eq_bytes(member)).map(|(rank, (_, score))| (rank, score))
}

/// Adds a member that is not there. The caller has made sure that it fits.
pub fn insert(packed: &mut Packed, member: &[u8], score: f64) {
    let before = |&(item, other): &(Item<'_>, f64)| other < score || (other == score && compare(item, member).is_lt());
    let rank = pairs(packed).take_while(before).count();
    let pos = packed.seek(2 * rank).unwrap_or_else(|| packed.end());
    let done = with_score(score, |bytes| packed.insert(pos, bytes)) && packed.insert(pos, member);
    debug_assert!(done, "a small sorted set is far below 4 GiB");
}

/// Adds a member behind all others, where it belongs and is new; false if it does not fit.
pub fn append(packed: &mut Packed, member: Item<'_>, score: f64) -> bool {
    let pushed = match member {
        Item::Int(int) => packed.push_int(int),
        Item::Bytes(bytes) => packed.push(bytes),
    };
    pushed && with_score(score, |bytes| packed.push(bytes))
}

pub fn remove(packed: &mut Packed, pos: Pos) {
    packed.remove(pos, 2);
}

pub fn remove_ranks(packed: &mut Packed, ranks: Range<usize>) {
    if let Some(pos) = packed.seek(2 * ranks.start) {
        packed.remove(pos, 2 * ranks.len());
    }
}

pub fn score_ranks(packed: &Packed, range: &ScoreRange) -> Range<usize> {
    let start = pairs(packed).take_while(|&(_, score)| range.is_above(score)).count();
    start..start + pairs(packed).skip(start).take_while(|&(_, score)| !range.is_below(score)).count()
}

pub fn lex_ranks(packed: &Packed, range: &LexRange<'_>) -> Range<usize> {
    let above = |(item, _): &(Item<'_>, f64)| item.with_bytes(|member| range.is_above(member));
    let below = |(item, _): &(Item<'_>, f64)| item.with_bytes(|member| range.is_below(member));
    let start = pairs(packed).take_while(above).count();
    start..start + pairs(packed).skip(start).take_while(|pair| !below(pair)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_survive_exactly() {
        let digits = f64::from_le_bytes(*b"12345678");
        let few_digits = f64::from(f32::from_le_bytes(*b"1234"));
        for score in [
            0.0,
            1.0,
            -1.0,
            1.5,
            0.1,
            1e300,
            -1e-300,
            f64::INFINITY,
            f64::NEG_INFINITY,
            INT_MAX,
            INT_MAX + 2.0,
            digits,
            few_digits,
            f64::MIN_POSITIVE,
            5e-324,
        ] {
            let mut packed = Packed::new();
            insert(&mut packed, b"m", score);
            let (_, read) = pairs(&packed).next().unwrap();
            assert_eq!(read.to_bits(), score.to_bits(), "{score}");
        }
    }
}
