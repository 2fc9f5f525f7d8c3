//! Adding members and changing scores.

use super::limits;
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::family::ShardCommand;
use crate::keyspace::{Expiry, NewValue};
use crate::number::parse_f64;
use crate::reply::Reply;
use crate::settings::NotifyFlags;
use crate::value::sorted_set::{AddOptions, Added};
use crate::value::{Object, SortedSet};

pub static ZADD: ShardCommand = Command {
    spec: Spec {
        name: "zadd",
        group: Group::SortedSet,
        since: "1.2.0",
        summary: "Adds members with their scores, or changes the scores of members.",
        complexity: "O(log(N)) for each member, N being the size of the sorted set.",
        arity: -4,
        flags: Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST),
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::UPDATE))],
        member_at: 3,
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new(
                "condition",
                ArgKind::OneOf(&[Arg::new("nx", ArgKind::PureToken).token("NX"), Arg::new("xx", ArgKind::PureToken).token("XX")]),
            )
            .flags(ArgFlags::OPTIONAL)
            .since("3.0.2"),
            Arg::new(
                "comparison",
                ArgKind::OneOf(&[Arg::new("gt", ArgKind::PureToken).token("GT"), Arg::new("lt", ArgKind::PureToken).token("LT")]),
            )
            .flags(ArgFlags::OPTIONAL)
            .since("6.2.0"),
            Arg::new("change", ArgKind::PureToken).token("CH").flags(ArgFlags::OPTIONAL).since("3.0.2"),
            Arg::new("increment", ArgKind::PureToken).token("INCR").flags(ArgFlags::OPTIONAL).since("3.0.2"),
            Arg::new("score_member", ArgKind::Block(&[Arg::new("score", ArgKind::Double), Arg::new("member", ArgKind::String)]))
                .flags(ArgFlags::MULTIPLE),
        ],
        history: &[
            ("2.4.0", "Takes several members."),
            ("3.0.2", "Options `XX`, `NX`, `CH` and `INCR`."),
            ("6.2.0", "Options `GT` and `LT`."),
        ],
        ..Spec::DEFAULT
    },
    run: zadd,
};

fn zadd(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    add(x, a, AddOptions::default(), r)
}

pub static ZINCRBY: ShardCommand = Command {
    spec: Spec {
        name: "zincrby",
        group: Group::SortedSet,
        since: "1.2.0",
        summary: "Adds a number to a member's score.",
        complexity: "O(log(N))",
        arity: 4,
        flags: Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST),
        acl: AclCategory::SORTEDSET,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::UPDATE))],
        member_at: 3,
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("increment", ArgKind::Integer), Arg::new("member", ArgKind::String)],
        ..Spec::DEFAULT
    },
    run: zincrby,
};

fn zincrby(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    add(x, a, AddOptions { increment: true, ..AddOptions::default() }, r)
}

/// What became of all pairs of a command.
#[derive(Default)]
struct Tally {
    added: u64,
    changed: u64,
    /// The last member's score, unless the conditions forbade it.
    score: Option<f64>,
}

impl Tally {
    fn count(&mut self, outcome: Added) -> Result<(), Error> {
        self.score = match outcome {
            Added::New(score) | Added::Changed(score) | Added::Same(score) => Some(score),
            Added::Skipped => None,
            Added::NotANumber => return Err(Error::Text("ERR resulting score is not a number (NaN)")),
        };
        self.added += u64::from(matches!(outcome, Added::New(_)));
        self.changed += u64::from(matches!(outcome, Added::Changed(_)));
        Ok(())
    }
}

/// ZADD and ZINCRBY: options, then pairs of score and member.
fn add(x: &mut Exec<'_>, a: Args<'_>, mut options: AddOptions, r: &mut Reply<'_>) -> CommandResult {
    let (first, count_changed) = if options.increment { (2, false) } else { parse_options(a, &mut options) };
    let pairs = a.from(first);
    if pairs.is_empty() || pairs.len() % 2 == 1 {
        return Err(Error::Syntax);
    }
    check_options(options, pairs.len() / 2)?;
    // Every score is read before anything is changed; a single one, which is the usual case, is not kept on the heap.
    let score = |at| parse_f64(pairs.at(at)).ok_or(Error::NotFloat);
    let first_score = score(0)?;
    let more_scores = (2..pairs.len()).step_by(2).map(score).collect::<Result<Vec<_>, _>>()?;
    let scores = std::iter::once(first_score).chain(more_scores);
    let members = (1..pairs.len()).step_by(2).map(|at| pairs.at(at));

    add_members(x, a.at(1), scores.zip(members), options, count_changed, r)
}

/// Adds members with their scores to a key, says what was done, and replies.
pub(in crate::family) fn add_members<'a>(
    x: &mut Exec<'_>,
    name: &[u8],
    pairs: impl Iterator<Item = (f64, &'a [u8])>,
    options: AddOptions,
    count_changed: bool,
    r: &mut Reply<'_>,
) -> CommandResult {
    let (key, limits) = (x.key(name), limits(x));
    let mut tally = Tally::default();
    if let Some(set) = x.sorted_set_mut(&key)? {
        for (score, member) in pairs {
            tally.count(set.add(member, score, options, &limits))?;
        }
    } else if !options.present {
        let mut set = SortedSet::new();
        for (score, member) in pairs {
            tally.count(set.add(member, score, options, &limits))?;
        }
        x.store(&key, NewValue::Object(Object::SortedSet(set)), Expiry::Clear);
    }
    match (options.increment, tally.score) {
        (true, Some(score)) => r.double(score),
        (true, None) => r.null(),
        (false, _) => r.integer((tally.added + if count_changed { tally.changed } else { 0 }) as i64),
    }
    if tally.added + tally.changed > 0 {
        x.changed_by(&key, tally.added + tally.changed);
        x.event(NotifyFlags::ZSET, if options.increment { "zincr" } else { "zadd" }, &key);
    }
    Ok(())
}

/// Reads ZADD's options; returns where the pairs begin, and whether changed members are counted, too.
fn parse_options(a: Args<'_>, options: &mut AddOptions) -> (usize, bool) {
    let mut count_changed = false;
    for at in 2..a.len() {
        // Scores begin with a digit or a sign nearly always: no word needs to be compared with them.
        if a.at(at).first().is_some_and(|byte| !byte.is_ascii_alphabetic()) {
            return (at, count_changed);
        }
        if a.is(at, "nx") {
            options.absent = true;
        } else if a.is(at, "xx") {
            options.present = true;
        } else if a.is(at, "ch") {
            count_changed = true;
        } else if a.is(at, "incr") {
            options.increment = true;
        } else if a.is(at, "gt") {
            options.greater = true;
        } else if a.is(at, "lt") {
            options.less = true;
        } else {
            return (at, count_changed);
        }
    }
    (a.len(), count_changed)
}

fn check_options(options: AddOptions, pairs: usize) -> Result<(), Error> {
    let AddOptions { absent, present, greater, less, increment } = options;
    if absent && present {
        return Err(Error::Text("ERR XX and NX options at the same time are not compatible"));
    }
    if [absent, greater, less].into_iter().filter(|&set| set).count() > 1 {
        return Err(Error::Text("ERR GT, LT, and/or NX options at the same time are not compatible"));
    }
    if increment && pairs > 1 {
        return Err(Error::Text("ERR INCR option supports a single increment-element pair"));
    }
    Ok(())
}
