//! HRANDFIELD: fields drawn at random.

use super::READ;
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeySpec, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::family::ShardCommand;
use crate::family::elements::{Draws, bulk_item};
use crate::number::parse_i64;
use crate::random::Random;
use crate::reply::Reply;
use crate::value::item::Item;

pub static HRANDFIELD: ShardCommand = Command {
    spec: Spec {
        name: "hrandfield",
        group: Group::Hash,
        since: "6.2.0",
        summary: "Draws fields of a hash at random.",
        complexity: "O(N) by the number of fields drawn",
        arity: -2,
        flags: Flags::READONLY,
        acl: AclCategory::HASH,
        keys: &[KeySpec::one(1, READ)],
        tips: &["nondeterministic_output"],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new(
                "options",
                ArgKind::Block(&[
                    Arg::new("count", ArgKind::Integer),
                    Arg::new("withvalues", ArgKind::PureToken).token("WITHVALUES").flags(ArgFlags::OPTIONAL),
                ]),
            )
            .flags(ArgFlags::OPTIONAL),
        ],
        ..Spec::DEFAULT
    },
    run: hrandfield,
};

fn hrandfield(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let wanted = if a.len() > 2 { Some(options(a)?) } else { None };
    // A generator of its own, as the hash stays borrowed from the shard.
    let mut random = Random::new(x.shard.random.next());
    let hash = x.hash(&x.key(a.at(1)))?;
    let Some((draws, with_values)) = wanted else {
        match hash.and_then(|hash| hash.random(&mut random)) {
            Some((field, _)) => bulk_item(r, field),
            None => r.null(),
        }
        return Ok(());
    };
    let Some(hash) = hash else {
        r.array(0);
        return Ok(());
    };
    let count = match draws {
        Draws::Different(count) => count.min(hash.len()),
        Draws::Repeated(count) => count,
    };
    r.array(if with_values && !r.resp3 { 2 * count } else { count });
    let mut write = |field: Item<'_>, value: Item<'_>| {
        if with_values && r.resp3 {
            r.array(2);
        }
        bulk_item(r, field);
        if with_values {
            bulk_item(r, value);
        }
    };
    match draws {
        Draws::Different(_) if count == hash.len() => hash.for_each(&mut write),
        Draws::Different(_) => hash.sample(count, &mut random, &mut write),
        Draws::Repeated(_) => {
            let pairs = (0..count).filter_map(|_| hash.random(&mut random));
            pairs.for_each(|(field, value)| write(field, value));
        }
    }
    Ok(())
}

/// The count, and whether values are told too.
fn options(a: Args<'_>) -> Result<(Draws, bool), Error> {
    let draws = Draws::parse(a.at(2));
    // What the count alone makes too large is found after the syntax.
    if let Err(error) = &draws
        && *error != Error::OutOfRange
    {
        return Err(error.clone());
    }
    let with_values = a.len() == 4 && a.is(3, "withvalues");
    if a.len() > 3 && !with_values {
        return Err(Error::Syntax);
    }
    let range = -(i64::MAX / 2)..=i64::MAX / 2;
    if with_values && parse_i64(a.at(2)).is_none_or(|count| !range.contains(&count)) {
        return Err(Error::OutOfRange);
    }
    Ok((draws?, with_values))
}
