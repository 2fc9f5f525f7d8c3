//! Unions, intersections and differences of sorted sets and sets.

use super::range::store_result;
use super::source::Source;
use super::{limits, write_entry, write_header};
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::family::ShardCommand;
use crate::number::{parse_f64, parse_i64};
use crate::reply::Reply;
use crate::value::SortedSet;
use crate::value::item::Item;
use ahash::RandomState;
use hashbrown::HashMap;
use std::cmp::Ordering;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operation {
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

pub static ZUNION: ShardCommand = Command {
    spec: Spec {
        name: "zunion",
        group: Group::SortedSet,
        since: "6.2.0",
        summary: "Unites several sorted sets.",
        complexity: "O(N+M*log(M)), N being the members read and M those of the result.",
        arity: -3,
        flags: Flags::READONLY,
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::count(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[
            Arg::new("numkeys", ArgKind::Integer),
            Arg::new("key", ArgKind::Key(0)).flags(ArgFlags::MULTIPLE),
            Arg::new("weight", ArgKind::Integer).token("WEIGHTS").flags(ArgFlags::OPTIONAL.with(ArgFlags::MULTIPLE)),
            Arg::new(
                "aggregate",
                ArgKind::OneOf(&[
                    Arg::new("sum", ArgKind::PureToken).token("SUM"),
                    Arg::new("min", ArgKind::PureToken).token("MIN"),
                    Arg::new("max", ArgKind::PureToken).token("MAX"),
                ]),
            )
            .token("AGGREGATE")
            .flags(ArgFlags::OPTIONAL),
            Arg::new("withscores", ArgKind::PureToken).token("WITHSCORES").flags(ArgFlags::OPTIONAL),
        ],
        ..Spec::DEFAULT
    },
    run: zunion,
};

fn zunion(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    combine(x, a, Operation::Union, r)
}

pub static ZINTER: ShardCommand = Command {
    spec: Spec {
        name: "zinter",
        group: Group::SortedSet,
        since: "6.2.0",
        summary: "Intersects several sorted sets.",
        complexity: "O(N*K+M*log(M)), N being the smallest input's size, K the number of inputs and M the size of the result.",
        arity: -3,
        flags: Flags::READONLY,
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::count(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[
            Arg::new("numkeys", ArgKind::Integer),
            Arg::new("key", ArgKind::Key(0)).flags(ArgFlags::MULTIPLE),
            Arg::new("weight", ArgKind::Integer).token("WEIGHTS").flags(ArgFlags::OPTIONAL.with(ArgFlags::MULTIPLE)),
            Arg::new(
                "aggregate",
                ArgKind::OneOf(&[
                    Arg::new("sum", ArgKind::PureToken).token("SUM"),
                    Arg::new("min", ArgKind::PureToken).token("MIN"),
                    Arg::new("max", ArgKind::PureToken).token("MAX"),
                ]),
            )
            .token("AGGREGATE")
            .flags(ArgFlags::OPTIONAL),
            Arg::new("withscores", ArgKind::PureToken).token("WITHSCORES").flags(ArgFlags::OPTIONAL),
        ],
        ..Spec::DEFAULT
    },
    run: zinter,
};

fn zinter(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    combine(x, a, Operation::Intersection, r)
}

pub static ZDIFF: ShardCommand = Command {
    spec: Spec {
        name: "zdiff",
        group: Group::SortedSet,
        since: "6.2.0",
        summary: "Takes the members of all other sorted sets from the first one.",
        complexity: "O(L+M*log(M)), L being the members of all inputs and M those of the result.",
        arity: -3,
        flags: Flags::READONLY,
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::count(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[
            Arg::new("numkeys", ArgKind::Integer),
            Arg::new("key", ArgKind::Key(0)).flags(ArgFlags::MULTIPLE),
            Arg::new("withscores", ArgKind::PureToken).token("WITHSCORES").flags(ArgFlags::OPTIONAL),
        ],
        ..Spec::DEFAULT
    },
    run: zdiff,
};

fn zdiff(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    combine(x, a, Operation::Difference, r)
}

fn combine(x: &mut Exec<'_>, a: Args<'_>, operation: Operation, r: &mut Reply<'_>) -> CommandResult {
    let request = Request::parse(x, a, 1, operation, Use::Reply)?;
    let result = request.result(x);
    write_header(r, result.len(), request.with_scores);
    result.iter().for_each(|(score, member)| write_entry(r, Item::Bytes(member), *score, request.with_scores));
    Ok(())
}

pub static ZINTERCARD: ShardCommand = Command {
    spec: Spec {
        name: "zintercard",
        group: Group::SortedSet,
        since: "7.0.0",
        summary: "Counts the members that several sorted sets share.",
        complexity: "O(N*K), N being the smallest input's size and K the number of inputs.",
        arity: -3,
        flags: Flags::READONLY,
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::count(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[
            Arg::new("numkeys", ArgKind::Integer),
            Arg::new("key", ArgKind::Key(0)).flags(ArgFlags::MULTIPLE),
            Arg::new("limit", ArgKind::Integer).token("LIMIT").flags(ArgFlags::OPTIONAL),
        ],
        ..Spec::DEFAULT
    },
    run: zintercard,
};

fn zintercard(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let request = Request::parse(x, a, 1, Operation::Intersection, Use::Count)?;
    let mut count = 0;
    request.intersect(&request.sources(x), |_, _| {
        count += 1;
        request.limit == 0 || count < request.limit
    });
    r.integer(count as i64);
    Ok(())
}

pub static ZUNIONSTORE: ShardCommand = Command {
    spec: Spec {
        name: "zunionstore",
        group: Group::SortedSet,
        since: "2.0.0",
        summary: "Unites several sorted sets into a key.",
        complexity: "O(N+M*log(M)), N being the members read and M those of the result.",
        arity: -4,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::OW.with(KeyAccess::UPDATE)), KeySpec::count(2, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[
            Arg::new("destination", ArgKind::Key(0)),
            Arg::new("numkeys", ArgKind::Integer),
            Arg::new("key", ArgKind::Key(1)).flags(ArgFlags::MULTIPLE),
            Arg::new("weight", ArgKind::Integer).token("WEIGHTS").flags(ArgFlags::OPTIONAL.with(ArgFlags::MULTIPLE)),
            Arg::new(
                "aggregate",
                ArgKind::OneOf(&[
                    Arg::new("sum", ArgKind::PureToken).token("SUM"),
                    Arg::new("min", ArgKind::PureToken).token("MIN"),
                    Arg::new("max", ArgKind::PureToken).token("MAX"),
                ]),
            )
            .token("AGGREGATE")
            .flags(ArgFlags::OPTIONAL),
        ],
        ..Spec::DEFAULT
    },
    run: zunionstore,
};

fn zunionstore(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    combine_and_store(x, a, Operation::Union, "zunionstore", r)
}

pub static ZINTERSTORE: ShardCommand = Command {
    spec: Spec {
        name: "zinterstore",
        group: Group::SortedSet,
        since: "2.0.0",
        summary: "Intersects several sorted sets into a key.",
        complexity: "O(N*K+M*log(M)), N being the smallest input's size, K the number of inputs and M the size of the result.",
        arity: -4,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::OW.with(KeyAccess::UPDATE)), KeySpec::count(2, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[
            Arg::new("destination", ArgKind::Key(0)),
            Arg::new("numkeys", ArgKind::Integer),
            Arg::new("key", ArgKind::Key(1)).flags(ArgFlags::MULTIPLE),
            Arg::new("weight", ArgKind::Integer).token("WEIGHTS").flags(ArgFlags::OPTIONAL.with(ArgFlags::MULTIPLE)),
            Arg::new(
                "aggregate",
                ArgKind::OneOf(&[
                    Arg::new("sum", ArgKind::PureToken).token("SUM"),
                    Arg::new("min", ArgKind::PureToken).token("MIN"),
                    Arg::new("max", ArgKind::PureToken).token("MAX"),
                ]),
            )
            .token("AGGREGATE")
            .flags(ArgFlags::OPTIONAL),
        ],
        ..Spec::DEFAULT
    },
    run: zinterstore,
};

fn zinterstore(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    combine_and_store(x, a, Operation::Intersection, "zinterstore", r)
}

pub static ZDIFFSTORE: ShardCommand = Command {
    spec: Spec {
        name: "zdiffstore",
        group: Group::SortedSet,
        since: "6.2.0",
        summary: "Stores the members of the first sorted set that no other one has.",
        complexity: "O(L+M*log(M)), L being the members of all inputs and M those of the result.",
        arity: -4,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::OW.with(KeyAccess::UPDATE)), KeySpec::count(2, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[
            Arg::new("destination", ArgKind::Key(0)),
            Arg::new("numkeys", ArgKind::Integer),
            Arg::new("key", ArgKind::Key(1)).flags(ArgFlags::MULTIPLE),
        ],
        ..Spec::DEFAULT
    },
    run: zdiffstore,
};

fn zdiffstore(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    combine_and_store(x, a, Operation::Difference, "zdiffstore", r)
}

fn combine_and_store(
    x: &mut Exec<'_>,
    a: Args<'_>,
    operation: Operation,
    event: &'static str,
    r: &mut Reply<'_>,
) -> CommandResult {
    let request = Request::parse(x, a, 2, operation, Use::Store)?;
    let limits = limits(x);
    let result = request.result(x);
    let longest = result.iter().map(|(_, member)| member.len()).max().unwrap_or(0);
    let mut set = SortedSet::sized(result.len(), longest, &limits);
    for (score, member) in result {
        set.insert(&member, score, &limits);
    }
    store_result(x, &x.key(a.at(1)), set, event, r);
    Ok(())
}

/// What becomes of the result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    Reply,
    Store,
    Count,
}

struct Request<'a> {
    keys: Args<'a>,
    operation: Operation,
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
    /// Where counting stops; 0: nowhere.
    limit: usize,
}

impl<'a> Request<'a> {
    /// The number of keys stands at `at`. The keys' types are checked before the options, as redis-server does.
    fn parse(x: &mut Exec<'_>, a: Args<'a>, at: usize, operation: Operation, usage: Use) -> Result<Self, Error> {
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
    fn sources<'s>(&self, x: &'s Exec<'_>) -> Vec<(Source<'s>, f64)> {
        let db = &x.shard.dbs[x.db];
        let mut sources: Vec<_> = self.keys.iter().map(|name| Source::of(db, name)).zip(self.weights.iter().copied()).collect();
        if self.operation != Operation::Difference {
            sources.sort_by_key(|(source, _)| source.len());
        }
        sources
    }

    /// The result in order.
    fn result(&self, x: &Exec<'_>) -> Vec<(f64, Vec<u8>)> {
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
    fn intersect(&self, sources: &[(Source<'_>, f64)], mut visit: impl FnMut(Item<'_>, f64) -> bool) {
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
