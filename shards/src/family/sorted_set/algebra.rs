//! How sorted sets and sets are combined: reading the arguments, joining scores, and the three operations.

use super::source::Source;
use crate::command::Args;
use crate::error::Error;
use crate::exec::Exec;
use crate::number::{parse_f64, parse_i64};
use crate::value::item::Item;
use ahash::RandomState;
use hashbrown::HashMap;
use std::cmp::Ordering;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    Union,
    Intersection,
    Difference,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn join(self, old: f64, new: f64) -> f64 {
        match self {
            // Opposite infinities make 0.
            Aggregate::Sum => number(old + new),
            Aggregate::Min => {
                if new < old {
                    new
                } else {
                    old
                }
            }
            Aggregate::Max => {
                if new > old {
                    new
                } else {
                    old
                }
            }
        }
    }
}

fn number(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// What becomes of the result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    Reply,
    Store,
    Count,
}

pub struct Request<'a> {
    keys: Args<'a>,
    operation: Operation,
    weights: Vec<f64>,
    aggregate: Aggregate,
    pub with_scores: bool,
    /// Where counting stops; 0: nowhere.
    pub limit: usize,
}

impl<'a> Request<'a> {
    /// The number of keys stands at `at`. The keys' types are checked before the options, as redis-server does.
    pub fn parse(x: &mut Exec<'_>, a: Args<'a>, at: usize, operation: Operation, usage: Use) -> Result<Self, Error> {
        let count = parse_i64(a.at(at)).ok_or(Error::NotInteger)?;
        if count < 1 {
            return Err(Error::Owned(format!("ERR at least 1 input key is needed for '{}' command", x.spec.name)));
        }
        let count = usize::try_from(count).ok().filter(|&count| count < a.len() - at).ok_or(Error::Syntax)?;
        let keys = a.slice(at + 1, at + 1 + count);
        Source::check(x, keys)?;
        let mut request =
            Request { keys, operation, weights: vec![1.0; count], aggregate: Aggregate::Sum, with_scores: false, limit: 0 };
        request.parse_options(a.from(at + 1 + count), usage)?;
        Ok(request)
    }

    fn parse_options(&mut self, a: Args<'_>, usage: Use) -> Result<(), Error> {
        let weighable = self.operation != Operation::Difference && usage != Use::Count;
        let mut at = 0;
        while at < a.len() {
            let left = a.len() - at;
            if weighable && left > self.weights.len() && a.is(at, "weights") {
                for weight in &mut self.weights {
                    at += 1;
                    *weight = parse_f64(a.at(at)).ok_or(Error::Text("ERR weight value is not a float"))?;
                }
            } else if weighable && left >= 2 && a.is(at, "aggregate") {
                at += 1;
                self.aggregate = if a.is(at, "sum") {
                    Aggregate::Sum
                } else if a.is(at, "min") {
                    Aggregate::Min
                } else if a.is(at, "max") {
                    Aggregate::Max
                } else {
                    return Err(Error::Syntax);
                };
            } else if usage == Use::Reply && a.is(at, "withscores") {
                self.with_scores = true;
            } else if usage == Use::Count && left >= 2 && a.is(at, "limit") {
                at += 1;
                let limit = parse_i64(a.at(at)).and_then(|limit| usize::try_from(limit).ok());
                self.limit = limit.ok_or(Error::Text("ERR LIMIT can't be negative"))?;
            } else {
                return Err(Error::Syntax);
            }
            at += 1;
        }
        Ok(())
    }

    /// The inputs with their weights: by size where that is quicker and changes nothing.
    pub fn sources<'s>(&self, x: &'s Exec<'_>) -> Vec<(Source<'s>, f64)> {
        let db = &x.shard.dbs[x.db];
        let mut sources: Vec<_> = self.keys.iter().map(|name| Source::of(db, name)).zip(self.weights.iter().copied()).collect();
        if self.operation != Operation::Difference {
            sources.sort_by_key(|(source, _)| source.len());
        }
        sources
    }

    /// The result in order.
    pub fn result(&self, x: &Exec<'_>) -> Vec<(f64, Vec<u8>)> {
        let sources = self.sources(x);
        let mut result = match self.operation {
            Operation::Union => self.unite(&sources, x.shard.hasher.state().clone()),
            Operation::Intersection => {
                let mut result = Vec::new();
                self.intersect(&sources, |member, score| {
                    result.push((score, member.to_vec()));
                    true
                });
                result
            }
            Operation::Difference => subtract(&sources),
        };
        // No score is NaN, and the two zeros are one score.
        result.sort_unstable_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal).then_with(|| a.1.cmp(&b.1)));
        result
    }

    fn unite(&self, sources: &[(Source<'_>, f64)], hasher: RandomState) -> Vec<(f64, Vec<u8>)> {
        let largest = sources.iter().map(|(source, _)| source.len()).max().unwrap_or(0);
        let mut scores: HashMap<Vec<u8>, f64, RandomState> = HashMap::with_capacity_and_hasher(largest, hasher);
        for (source, weight) in sources {
            source.for_each(|member, score| {
                let score = number(weight * score);
                member.with_bytes(|member| match scores.get_mut(member) {
                    Some(old) => *old = self.aggregate.join(*old, score),
                    None => {
                        scores.insert(member.to_vec(), score);
                    }
                });
                true
            });
        }
        scores.into_iter().map(|(member, score)| (score, member)).collect()
    }

    /// Hands over the members that all inputs have, until `visit` says false.
    pub fn intersect(&self, sources: &[(Source<'_>, f64)], mut visit: impl FnMut(Item<'_>, f64) -> bool) {
        let Some(((smallest, first_weight), others)) = sources.split_first() else { return };
        smallest.for_each(|member, score| {
            let joined = member.with_bytes(|bytes| {
                others.iter().try_fold(number(first_weight * score), |joined, (source, weight)| {
                    Some(self.aggregate.join(joined, source.score(bytes)? * weight))
                })
            });
            joined.is_none_or(|score| visit(member, score))
        });
    }
}

/// The members of the first input that no other one has.
fn subtract(sources: &[(Source<'_>, f64)]) -> Vec<(f64, Vec<u8>)> {
    let Some(((first, _), others)) = sources.split_first() else { return Vec::new() };
    let mut result = Vec::new();
    first.for_each(|member, score| {
        member.with_bytes(|bytes| {
            if others.iter().all(|(source, _)| source.score(bytes).is_none()) {
                result.push((score, bytes.to_vec()));
            }
        });
        true
    });
    result
}
