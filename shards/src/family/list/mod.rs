//! Lists: elements in an order, pushed and taken at both ends, and waited for.
//!
//! `push` puts elements in, `pop` takes them from one list (at once or when there are some), `shift` moves them from list to list,
//! `inside` reads and edits lists by index and value. How a list is stored is the business of
//! [`value::list`](crate::value::list).

mod inside;
mod pop;
mod push;
mod shift;
#[cfg(test)]
mod tests;

use super::ShardCommand;
use crate::command::{Arg, ArgKind, Args};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::keyspace::Key;
use crate::number::parse_i64;
use crate::reply::Reply;
use crate::settings::NotifyFlags;
use crate::value::chunk::End;
use crate::value::item::Item;
use crate::value::list::ListLimit;

pub static COMMANDS: &[&ShardCommand] = &[
    &push::LPUSH,
    &push::RPUSH,
    &push::LPUSHX,
    &push::RPUSHX,
    &pop::LPOP,
    &pop::RPOP,
    &pop::LMPOP,
    &pop::BLPOP,
    &pop::BRPOP,
    &pop::BLMPOP,
    &shift::LMOVE,
    &shift::RPOPLPUSH,
    &shift::BLMOVE,
    &shift::BRPOPLPUSH,
    &inside::LLEN,
    &inside::LINDEX,
    &inside::LRANGE,
    &inside::LPOS,
    &inside::LSET,
    &inside::LINSERT,
    &inside::LREM,
    &inside::LTRIM,
];

/// Longest element: two of them and a whole chunk fit the buffer that an edit makes.
const ELEMENT_MAX: usize = (u32::MAX as usize - CHUNK_MAX) / 2;
/// More than the bytes of a chunk of several elements under any `list-max-listpack-size`, and their sizes.
const CHUNK_MAX: usize = 1 << 17;

/// The words for the two ends, as an argument's description.
const ENDS: ArgKind =
    ArgKind::OneOf(&[Arg::new("left", ArgKind::PureToken).token("LEFT"), Arg::new("right", ArgKind::PureToken).token("RIGHT")]);

fn limit(x: &Exec<'_>) -> ListLimit {
    ListLimit::from_config(i64::from(x.settings().list_max_listpack_size))
}

/// Refuses elements that no list can hold.
fn check_elements(elements: Args<'_>) -> CommandResult {
    if elements.iter().any(|element| element.len() > ELEMENT_MAX) { Err(Error::StringTooLong) } else { Ok(()) }
}

fn integer(text: &[u8]) -> Result<i64, Error> {
    parse_i64(text).ok_or(Error::NotInteger)
}

/// A number that must be at least `min`, or else the answer is `error`, also when it is no number.
fn number_from(min: i64, text: &[u8], error: &'static str) -> Result<usize, Error> {
    let number = parse_i64(text).filter(|&number| number >= min);
    number.and_then(|number| usize::try_from(number).ok()).ok_or(Error::Text(error))
}

/// The end that the argument at `index` names.
fn end_of(a: Args<'_>, index: usize) -> Result<End, Error> {
    if a.is(index, "left") {
        Ok(End::Front)
    } else if a.is(index, "right") {
        Ok(End::Back)
    } else {
        Err(Error::Syntax)
    }
}

#[inline]
fn write_item(r: &mut Reply<'_>, item: Item<'_>) {
    match item {
        Item::Bytes(bytes) => r.bulk(bytes),
        Item::Int(number) => r.bulk_integer(number),
    }
}

fn push_event(x: &mut Exec<'_>, end: End, key: &Key<'_>) {
    x.event(NotifyFlags::LIST, if end == End::Front { "lpush" } else { "rpush" }, key);
}

/// Announces that elements were taken from `end`, and removes the key if they were the last.
fn taken(x: &mut Exec<'_>, end: End, key: &Key<'_>, emptied: bool) {
    x.event(NotifyFlags::LIST, if end == End::Front { "lpop" } else { "rpop" }, key);
    if emptied {
        x.delete_emptied(key);
    }
}
