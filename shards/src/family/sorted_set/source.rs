//! The inputs of unions, intersections and differences: sorted sets, and sets, whose members all have the score 1.

use crate::command::Args;
use crate::error::Error;
use crate::exec::Exec;
use crate::keyspace::{Db, Value};
use crate::value::item::Item;
use crate::value::{Set, SortedSet};

/// One input.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    Missing,
    Sorted(&'a SortedSet),
    Set(&'a Set),
}

impl<'a> Source<'a> {
    /// Looks every key up as a read does, and refuses other types.
    pub fn check(x: &mut Exec<'_>, keys: Args<'_>) -> Result<(), Error> {
        for name in keys.iter() {
            match x.get(&x.key(name)) {
                None | Some(Value::SortedSet(_) | Value::Set(_)) => {}
                Some(_) => return Err(Error::WrongType),
            }
        }
        Ok(())
    }

    /// A key that [`Source::check`] has seen.
    pub fn of(db: &'a Db, name: &[u8]) -> Self {
        match db.value(&db.hasher().key(name)) {
            Some(Value::SortedSet(set)) => Source::Sorted(set),
            Some(Value::Set(set)) => Source::Set(set),
            _ => Source::Missing,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Source::Missing => 0,
            Source::Sorted(set) => set.len(),
            Source::Set(set) => set.len(),
        }
    }

    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match self {
            Source::Missing => None,
            Source::Sorted(set) => set.score(member),
            Source::Set(set) => set.contains(member).then_some(1.0),
        }
    }

    /// Hands over every member until `visit` says false.
    pub fn for_each(&self, mut visit: impl FnMut(Item<'a>, f64) -> bool) {
        match self {
            Source::Missing => {}
            Source::Sorted(set) => {
                let _stopped = set.iter().all(|(member, score)| visit(member, score));
            }
            Source::Set(set) => {
                let _stopped = set.iter().all(|member| visit(member, 1.0));
            }
        }
    }
}
