//! Sets of byte strings.
//!
//! Owns the choice among three forms: integers alone, sorted and as narrow as they fit; a few other members one behind the
//! other in one allocation; anything larger a table with a block for each member. Refuses to know keys, clients and replies.
//!
//! To a client there are two encodings, as in Redis 7.0: `intset`, and `hashtable` for the other two. A set never goes back
//! to a smaller form.
//!
//! Cost: integers, a binary search; few members, a walk; otherwise one table lookup.

mod algebra;

use super::intset::IntSet;
use super::item::Item;
use super::member::{Chooser, Members};
use super::packed::Packed;
use crate::number::parse_i64;
use crate::random::Random;
use crate::settings::Settings;
use crate::table::{Cursor, Table};
use ahash::RandomState;
pub use algebra::{difference, difference_set, intersect, union};

#[derive(Clone)]
pub enum Set {
    Ints(IntSet),
    Packed(Packed),
    Table(Box<Members<false>>),
}

const _: () = assert!(size_of::<Set>() <= 16);

/// Up to where a set of integers stays one, and how the members of a large set are hashed.
pub struct SetLimits {
    pub intset_entries: usize,
    pub hasher: RandomState,
}

impl SetLimits {
    pub fn new(settings: &Settings, hasher: &RandomState) -> Self {
        SetLimits { intset_entries: settings.set_max_intset_entries.min(INTSET_ENTRIES_MAX), hasher: hasher.clone() }
    }
}

/// Members of a set of integers, however the threshold is set.
const INTSET_ENTRIES_MAX: usize = 1 << 28;
/// Members of a packed set: walking over more would cost more than a table lookup by far.
const PACKED_ENTRIES_MAX: usize = 64;
/// Bytes of a packed set's longest member.
const PACKED_MEMBER_MAX: usize = 64;

impl Default for Set {
    fn default() -> Self {
        Self::new()
    }
}

impl Set {
    /// An empty set: of integers until a member is none.
    pub const fn new() -> Self {
        Set::Ints(IntSet::new())
    }

    pub fn len(&self) -> usize {
        match self {
            Set::Ints(ints) => ints.len(),
            Set::Packed(packed) => packed.len(),
            Set::Table(members) => members.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The table of a large one, for prefetching.
    #[inline]
    pub fn table(&self) -> Option<&Table> {
        if let Set::Table(members) = self { Some(members.table()) } else { None }
    }

    /// As OBJECT ENCODING names it.
    pub fn encoding(&self) -> &'static str {
        match self {
            Set::Ints(_) => "intset",
            Set::Packed(_) | Set::Table(_) => "hashtable",
        }
    }

    /// Heap bytes, with the allocator's rounding where it is known.
    pub fn bytes(&self) -> usize {
        match self {
            Set::Ints(ints) => ints.bytes(),
            Set::Packed(packed) => packed.bytes(),
            Set::Table(members) => size_of::<Members<false>>() + members.bytes(),
        }
    }

    #[inline]
    pub fn contains(&self, member: &[u8]) -> bool {
        match self {
            Set::Ints(ints) => parse_i64(member).is_some_and(|int| ints.contains(int)),
            Set::Packed(packed) => packed.find(member, 1).is_some(),
            Set::Table(members) => members.contains(member),
        }
    }

    /// As [`Set::contains`], for a member of another set.
    pub fn contains_item(&self, member: Item<'_>) -> bool {
        match (self, member) {
            (Set::Ints(ints), Item::Int(int)) => ints.contains(int),
            _ => member.with_bytes(|member| self.contains(member)),
        }
    }

    /// True if the member is new.
    #[inline]
    pub fn add(&mut self, member: &[u8], limits: &SetLimits) -> bool {
        if let Set::Ints(ints) = self {
            let Some(int) = parse_i64(member) else {
                self.leave_ints(member.len(), limits);
                return self.add(member, limits);
            };
            let is_new = ints.insert(int);
            if ints.len() > limits.intset_entries {
                self.leave_ints(0, limits);
            }
            return is_new;
        }
        if let Set::Packed(packed) = self {
            if packed.find(member, 1).is_some() {
                return false;
            }
            if packed.len() < PACKED_ENTRIES_MAX && member.len() <= PACKED_MEMBER_MAX {
                assert!(packed.push(member), "a packed set is small");
                return true;
            }
            self.convert_to_table(limits);
        }
        match self {
            Set::Table(members) => members.put(member, b""),
            Set::Ints(_) | Set::Packed(_) => unreachable!("made a table above"),
        }
    }

    /// As [`Set::add`], for a member of another set.
    pub fn add_item(&mut self, member: Item<'_>, limits: &SetLimits) -> bool {
        member.with_bytes(|member| self.add(member, limits))
    }

    /// True if the member was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match self {
            Set::Ints(ints) => parse_i64(member).is_some_and(|int| ints.remove(int)),
            Set::Packed(packed) => packed.find(member, 1).is_some_and(|at| packed.remove(at, 1)),
            Set::Table(members) => members.remove(member),
        }
    }

    /// Visits every member; integers ascend.
    #[inline]
    pub fn for_each(&self, visit: &mut dyn FnMut(Item<'_>)) {
        match self {
            Set::Ints(ints) => ints.iter().for_each(|int| visit(Item::Int(int))),
            Set::Packed(packed) => packed.iter().for_each(visit),
            Set::Table(members) => members.for_each(&mut |member, _| visit(Item::Bytes(member))),
        }
    }

    /// Every member; integers ascend.
    pub fn iter(&self) -> impl Iterator<Item = Item<'_>> + '_ {
        let (ints, packed, members) = match self {
            Set::Ints(ints) => (Some(ints.iter().map(Item::Int)), None, None),
            Set::Packed(packed) => (None, Some(packed.iter()), None),
            Set::Table(members) => (None, None, Some(members.iter().map(|(member, _)| Item::Bytes(member)))),
        };
        ints.into_iter().flatten().chain(packed.into_iter().flatten()).chain(members.into_iter().flatten())
    }

    /// A member, each with the same chance.
    pub fn random(&self, random: &mut Random) -> Option<Item<'_>> {
        match self {
            Set::Ints(ints) => ints.get(random.below(ints.len() as u64) as usize).map(Item::Int),
            Set::Packed(packed) => packed.get(random.below(packed.len() as u64) as usize),
            Set::Table(members) => members.random(random).map(|(member, _)| Item::Bytes(member)),
        }
    }

    /// Takes out a member drawn with equal chances, showing it to `visit`; false when there is none.
    pub fn pop(&mut self, random: &mut Random, visit: &mut dyn FnMut(Item<'_>)) -> bool {
        match self {
            Set::Ints(ints) => {
                let Some(int) = ints.get(random.below(ints.len() as u64) as usize) else { return false };
                visit(Item::Int(int));
                ints.remove(int)
            }
            Set::Packed(packed) => {
                let Some(at) = packed.seek(random.below(packed.len() as u64) as usize) else { return false };
                packed.at(at).into_iter().for_each(visit);
                packed.remove(at, 1)
            }
            Set::Table(members) => members.pop(random, &mut |member| visit(Item::Bytes(member))),
        }
    }

    /// Visits `count` different members, each choice with the same chance; all of them if there are no more.
    pub fn sample(&self, count: usize, random: &mut Random, visit: &mut dyn FnMut(Item<'_>)) {
        let mut chooser = Chooser::new(count, self.len());
        match self {
            Set::Ints(ints) => ints.iter().filter(|_| chooser.takes_next(random)).for_each(|int| visit(Item::Int(int))),
            Set::Packed(packed) => packed.iter().filter(|_| chooser.takes_next(random)).for_each(visit),
            Set::Table(members) => members.sample(count, random, &mut |member, _| visit(Item::Bytes(member))),
        }
    }

    /// Visits about `want` members from `cursor` on (all of them, unless there is a table). `None`: the end was reached.
    pub fn scan(&self, cursor: Cursor, want: usize, visit: &mut dyn FnMut(Item<'_>)) -> Option<Cursor> {
        match self {
            Set::Table(members) => members.scan(cursor, want, &mut |member, _| visit(Item::Bytes(member))),
            Set::Ints(_) | Set::Packed(_) => {
                self.for_each(visit);
                None
            }
        }
    }

    /// Frees about `budget` members; true when none is left.
    pub fn free_some(&mut self, budget: usize) -> bool {
        match self {
            Set::Table(members) => members.free_some(budget),
            Set::Ints(_) | Set::Packed(_) => {
                *self = Set::new();
                true
            }
        }
    }

    /// Panics unless the members are distinct and where they belong. For tests.
    pub fn check_invariants(&self) {
        match self {
            Set::Ints(ints) => ints.check_invariants(),
            Set::Packed(packed) => {
                packed.check_invariants();
                assert!(packed.len() <= PACKED_ENTRIES_MAX && packed.max_item_len() <= PACKED_MEMBER_MAX);
                for (index, item) in packed.iter().enumerate() {
                    assert_eq!(item.with_bytes(|member| packed.find(member, 1)), packed.seek(index), "a member twice");
                }
            }
            Set::Table(members) => members.check_invariants(),
        }
    }

    /// Makes a set of integers a general one that has room for a member of `member_len` bytes.
    fn leave_ints(&mut self, member_len: usize, limits: &SetLimits) {
        let Set::Ints(ints) = self else { return };
        if ints.len() >= PACKED_ENTRIES_MAX || member_len > PACKED_MEMBER_MAX {
            return self.convert_to_table(limits);
        }
        let mut packed = Packed::new();
        ints.iter().for_each(|int| assert!(packed.push_int(int), "a packed set is small"));
        *self = Set::Packed(packed);
    }

    fn convert_to_table(&mut self, limits: &SetLimits) {
        let mut members = Members::new(limits.hasher.clone());
        self.for_each(&mut |item| _ = item.with_bytes(|member| members.put(member, b"")));
        *self = Set::Table(Box::new(members));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn limits(intset_entries: usize) -> SetLimits {
        SetLimits { intset_entries, hasher: RandomState::with_seeds(1, 2, 3, 4) }
    }

    fn form(set: &Set) -> &'static str {
        match set {
            Set::Ints(_) => "ints",
            Set::Packed(_) => "packed",
            Set::Table(_) => "table",
        }
    }

    #[test]
    fn forms_and_encodings() {
        let limits = limits(100);
        let mut set = Set::new();
        (0..100i64).for_each(|i| assert!(set.add_item(Item::Int(i), &limits) && !set.add_item(Item::Int(i), &limits)));
        assert_eq!((form(&set), set.encoding()), ("ints", "intset"));
        let mut more = set.clone();
        assert!(more.add(b"100", &limits) && more.contains(b"0") && !more.contains(b"00"));
        assert_eq!((form(&more), more.encoding(), more.len()), ("table", "hashtable", 101));
        let mut few = Set::new();
        assert!(few.add(b"7", &limits) && few.add(b"007", &limits) && !few.add(b"7", &limits));
        assert_eq!((form(&few), few.encoding()), ("packed", "hashtable"));
        for i in 0..PACKED_ENTRIES_MAX as i64 - 2 {
            assert!(few.add_item(Item::Int(100 + i), &limits));
        }
        assert_eq!(form(&few), "packed");
        let mut long = few.clone();
        assert!(long.remove(b"7") && long.add(&[b'x'; PACKED_MEMBER_MAX + 1], &limits));
        assert!(few.add(b"one more", &limits));
        assert_eq!((form(&few), form(&long)), ("table", "table"));
        assert!(few.contains_item(Item::Int(100)) && few.contains(b"007") && few.contains_item(Item::Bytes(b"7")));
    }

    #[test]
    fn memory_per_member() {
        let limits = limits(512);
        let mut set = Set::new();
        let count = 100_000;
        (0..count).for_each(|i| assert!(set.add(format!("m{i:010}").as_bytes(), &limits)));
        let per_member = set.bytes() as f64 / f64::from(count);
        assert!(per_member < 28.5, "{per_member}");
    }

    proptest! {
        #[test]
        fn all_forms_behave_as_a_set(
            intset_entries in 0usize..80,
            steps in prop::collection::vec(("[0-9]{1,2}|[0-9]{1,3}|[0-9]{1,2}|[a-c]{1,2}|-?[0-9]{1,2}|x{60,70}", 0u8..6), 0..200),
        ) {
            let limits = limits(intset_entries);
            let (mut set, mut model) = (Set::new(), BTreeSet::new());
            let mut random = Random::new(9);
            for (member, action) in steps {
                match action {
                    0 => prop_assert_eq!(set.remove(member.as_bytes()), model.remove(&member)),
                    1 => {
                        let full = !set.is_empty();
                        let popped = set.pop(&mut random, &mut |item| assert!(model.remove(&text(item))));
                        prop_assert_eq!(popped, full);
                    }
                    _ => prop_assert_eq!(set.add(member.as_bytes(), &limits), model.insert(member.clone())),
                }
                set.check_invariants();
                prop_assert_eq!(set.len(), model.len());
                prop_assert_eq!(set.contains(member.as_bytes()), model.contains(&member));
            }
            prop_assert!(set.random(&mut random).is_none_or(|item| model.contains(&text(item))));
            prop_assert_eq!(set.iter().map(text).collect::<BTreeSet<_>>(), model.clone());
            for count in [0, 1, 10, 100] {
                let mut sampled = BTreeSet::new();
                set.sample(count, &mut random, &mut |item| assert!(sampled.insert(text(item))));
                prop_assert!(sampled.len() == count.min(model.len()) && sampled.is_subset(&model));
            }
        }
    }

    fn text(item: Item<'_>) -> String {
        String::from_utf8(item.to_vec()).unwrap()
    }
}
