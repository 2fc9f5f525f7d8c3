//! Intersection, union and difference of sets.
//!
//! A missing key is an empty set: callers leave it out, or pass an empty one. The same set may be given several times.

use super::{Set, SetLimits};
use crate::value::item::Item;

/// Visits the members that all of `sets` have until `visit` returns false. Reorders `sets`: the smallest is walked over,
/// and the others are asked in ascending order of size. O(smallest × sets).
pub fn intersect(sets: &mut [&Set], visit: &mut dyn FnMut(Item<'_>) -> bool) {
    sets.sort_by_key(|set| set.len());
    let Some((smallest, others)) = sets.split_first() else { return };
    for member in smallest.iter() {
        if others.iter().all(|other| other.contains_item(member)) && !visit(member) {
            return;
        }
    }
}

/// The members that any of `sets` has. O(all members).
pub fn union(sets: &[&Set], limits: &SetLimits) -> Set {
    let mut all = Set::new();
    for set in sets {
        set.for_each(&mut |member| _ = all.add_item(member, limits));
    }
    all
}

/// Visits the members of `from` that none of `others` has. O(members of `from` × others), but never more than about the
/// members of all sets together.
pub fn difference(from: &Set, others: &mut [&Set], limits: &SetLimits, visit: &mut dyn FnMut(Item<'_>)) {
    if others.iter().any(|other| std::ptr::eq(*other, from)) {
        return;
    }
    if !is_better_asked(from, others) {
        return what_is_left(from, others, limits).for_each(visit);
    }
    // The largest first: it is the likeliest to have the member.
    others.sort_by_key(|other| std::cmp::Reverse(other.len()));
    from.for_each(&mut |member| {
        if !others.iter().any(|other| other.contains_item(member)) {
            visit(member);
        }
    });
}

/// The same as a set: in the encoding that it has with redis-server, where what is removed has had a say in it.
pub fn difference_set(from: &Set, others: &mut [&Set], limits: &SetLimits) -> Set {
    let is_empty = others.iter().any(|other| std::ptr::eq(*other, from));
    if !is_empty && !is_better_asked(from, others) {
        return what_is_left(from, others, limits);
    }
    let mut result = Set::new();
    difference(from, others, limits, &mut |member| _ = result.add_item(member, limits));
    result
}

/// Whether it is less work to ask the others for each member than to remove all of theirs.
fn is_better_asked(from: &Set, others: &[&Set]) -> bool {
    let by_asking = from.len().saturating_mul(others.len() + 1) / 2;
    by_asking <= from.len() + others.iter().map(|other| other.len()).sum::<usize>()
}

fn what_is_left(from: &Set, others: &[&Set], limits: &SetLimits) -> Set {
    let mut left = union(&[from], limits);
    for other in others {
        if left.is_empty() {
            break;
        }
        other.for_each(&mut |member| _ = member.with_bytes(|member| left.remove(member)));
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use ahash::RandomState;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    type Model = BTreeSet<String>;

    fn limits() -> SetLimits {
        SetLimits { intset_entries: 8, hasher: RandomState::with_seeds(1, 2, 3, 4) }
    }

    fn text(item: Item<'_>) -> String {
        String::from_utf8(item.to_vec()).unwrap()
    }

    proptest! {
        #[test]
        fn behaves_as_the_algebra_of_sets(
            models in prop::collection::vec(prop::collection::btree_set("[0-9]{1,2}|[0-9]|[a-b]", 0..100), 1..6),
        ) {
            let limits = limits();
            let sets: Vec<Set> = models.iter().map(|model: &Model| {
                let mut set = Set::new();
                model.iter().for_each(|member| assert!(set.add(member.as_bytes(), &limits)));
                set
            }).collect();
            let refs: Vec<&Set> = sets.iter().collect();
            let everything: Model = models.iter().flatten().cloned().collect();

            prop_assert_eq!(union(&refs, &limits).iter().map(text).collect::<Model>(), everything.clone());

            let mut common = Model::new();
            intersect(&mut refs.clone(), &mut |member| common.insert(text(member)));
            let want: Model = everything.iter().filter(|m| models.iter().all(|model| model.contains(*m))).cloned().collect();
            prop_assert_eq!(&common, &want);
            let mut first_two = 0;
            intersect(&mut refs.clone(), &mut |_| { first_two += 1; first_two < 2 });
            prop_assert_eq!(first_two, want.len().min(2));

            let mut rest = Model::new();
            difference(refs[0], &mut refs[1..].to_vec(), &limits, &mut |member| assert!(rest.insert(text(member))));
            let want: Model = models[0].iter().filter(|m| !models[1..].iter().any(|model| model.contains(*m))).cloned().collect();
            prop_assert_eq!(&rest, &want);
            difference(refs[0], &mut refs.clone(), &limits, &mut |_| panic!("a set without itself is empty"));
            let set = difference_set(refs[0], &mut refs[1..].to_vec(), &limits);
            assert_eq!(set.len(), rest.len());
            set.for_each(&mut |member| assert!(rest.contains(&text(member))));
            assert!(difference_set(refs[0], &mut refs.clone(), &limits).is_empty());
        }
    }
}
