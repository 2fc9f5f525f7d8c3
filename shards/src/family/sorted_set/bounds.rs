//! Ranges as arguments: read once, resolved to ranks against a set.

use crate::error::Error;
use crate::number::{parse_f64, parse_i64};
use crate::value::SortedSet;
use crate::value::sorted_set::{LexBound, LexRange, ScoreRange};
use std::ops::Range;

/// What a range is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RangeKind {
    Rank,
    Score,
    Lex,
}

/// A range of members.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Bounds<'a> {
    /// First and last index; negative ones count from the end.
    Rank(i64, i64),
    Score(ScoreRange),
    Lex(LexRange<'a>),
}

impl<'a> Bounds<'a> {
    pub fn parse(kind: RangeKind, min: &'a [u8], max: &'a [u8]) -> Result<Self, Error> {
        match kind {
            RangeKind::Rank => {
                let index = |text| parse_i64(text).ok_or(Error::NotInteger);
                Ok(Bounds::Rank(index(min)?, index(max)?))
            }
            RangeKind::Score => parse_scores(min, max).map(Bounds::Score),
            RangeKind::Lex => parse_members(min, max).map(Bounds::Lex),
        }
    }

    /// The ascending ranks of the range's members; with `reverse`, indexes count from the highest member.
    pub fn ranks(&self, set: &SortedSet, reverse: bool) -> Range<usize> {
        match self {
            Bounds::Rank(first, last) => {
                let ranks = indexes(*first, *last, set.len());
                if reverse { set.len() - ranks.end..set.len() - ranks.start } else { ranks }
            }
            Bounds::Score(range) => set.score_ranks(range),
            Bounds::Lex(range) if range.is_empty() => 0..0,
            Bounds::Lex(range) => set.lex_ranks(range),
        }
    }
}

/// Inclusive indexes, negative ones from the end, as a range within `len`.
fn indexes(first: i64, last: i64, len: usize) -> Range<usize> {
    let from_end = |index: i64| if index < 0 { index.saturating_add(len as i64) } else { index };
    let (first, last) = (from_end(first).max(0), from_end(last).min(len as i64 - 1));
    if first > last { 0..0 } else { first as usize..last as usize + 1 }
}

pub fn parse_scores(min: &[u8], max: &[u8]) -> Result<ScoreRange, Error> {
    let ((min, min_excluded), (max, max_excluded)) =
        score_bound(min).zip(score_bound(max)).ok_or(Error::Text("ERR min or max is not a float"))?;
    Ok(ScoreRange { min, max, min_excluded, max_excluded })
}

/// A score, exclusive after `(`. C's strtod reads it: leading spaces are skipped, a zero byte ends it, nothing at all is 0,
/// and what overflows is infinite.
fn score_bound(text: &[u8]) -> Option<(f64, bool)> {
    let (excluded, text) = match text {
        [b'(', rest @ ..] => (true, rest),
        text => (false, text),
    };
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Some((0.0, excluded));
    }
    let digits = text.iter().position(|byte| !matches!(byte, b' ' | b'\t'..=b'\r')).map(|at| &text[at..])?;
    let score = parse_f64(digits).or_else(|| out_of_range(digits))?;
    Some((score, excluded))
}

/// A decimal number too large or too small for a double: infinity or zero.
fn out_of_range(text: &[u8]) -> Option<f64> {
    let magnitude = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    let decimal = magnitude.first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'.');
    if decimal { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
}

pub fn parse_members<'a>(min: &'a [u8], max: &'a [u8]) -> Result<LexRange<'a>, Error> {
    let (min, max) = lex_bound(min).zip(lex_bound(max)).ok_or(Error::Text("ERR min or max not valid string range item"))?;
    Ok(LexRange { min, max })
}

fn lex_bound(text: &[u8]) -> Option<LexBound<'_>> {
    match text {
        [b'+'] | [b'+', 0, ..] => Some(LexBound::Highest),
        [b'-'] | [b'-', 0, ..] => Some(LexBound::Lowest),
        [b'(', member @ ..] => Some(LexBound::Excluded(member)),
        [b'[', member @ ..] => Some(LexBound::Included(member)),
        _ => None,
    }
}
