//! Generated commands of all groups, for the tests that run them somewhere.

#![allow(dead_code, unused_imports, reason = "each test program uses its own part")]

pub mod collections;
mod generate;
pub mod generic;
pub mod sorted_sets;
mod step;
pub mod strings;

pub use generate::{Argument, Gen, KINDS, Kind};
pub use step::{Check, Step, leaves, shape, show};

pub(crate) use generate::command;

/// A generator of commands.
pub type Group = fn(&mut Gen) -> Step;

/// All that are about keys.
const GROUPS: &[Group] = &[
    strings::string,
    strings::bitmap,
    collections::list,
    collections::hash,
    collections::set,
    sorted_sets::sorted_set,
    sorted_sets::geo,
    strings::hyperloglog,
    generic::generic,
    generic::generic,
];

/// A command of any group.
pub fn any(g: &mut Gen) -> Step {
    GROUPS[g.below(GROUPS.len())](g)
}

/// A command of these groups, each as often as its weight says.
pub fn weighted(groups: &[(usize, Group)], g: &mut Gen) -> Step {
    let mut at = g.below(groups.iter().map(|(weight, _)| weight).sum());
    for (weight, group) in groups {
        if at < *weight {
            return group(g);
        }
        at -= weight;
    }
    unreachable!("the number is below the sum of the weights")
}
