//! The sorted set against a model, in both encodings.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn limits(entries: usize) -> Limits {
    Limits { entries, value: 64, hasher: RandomState::with_seeds(1, 2, 3, 4) }
}

#[derive(Clone, Debug)]
enum Step {
    Add(u16, i8, u8),
    Remove(u16),
    RemoveRanks(usize, usize),
    Scores(i8, i8, bool, bool),
    Rank(u16),
    Clone,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..400u16, any::<i8>(), 0..32u8).prop_map(|(m, s, f)| Step::Add(m, s, f)),
        4 => (0..400u16).prop_map(Step::Remove),
        1 => (0..300usize, 0..20usize).prop_map(|(a, n)| Step::RemoveRanks(a, n)),
        2 => any::<(i8, i8, bool, bool)>().prop_map(|(a, b, c, d)| Step::Scores(a, b, c, d)),
        2 => (0..400u16).prop_map(Step::Rank),
        1 => Just(Step::Clone),
    ]
}

fn name(member: u16) -> Vec<u8> {
    if member.is_multiple_of(3) { member.to_string().into_bytes() } else { format!("member:{member}").into_bytes() }
}

/// In steps of a quarter, so that the tight forms of scores all occur.
fn quarter(score: i8) -> f64 {
    f64::from(score) / 4.0
}

fn sorted(model: &BTreeMap<Vec<u8>, f64>) -> Vec<(f64, Vec<u8>)> {
    let mut list: Vec<_> = model.iter().map(|(m, &s)| (s, m.clone())).collect();
    list.sort_by(|a, b| a.partial_cmp(b).unwrap());
    list
}

fn run(entries: usize, steps: Vec<Step>) {
    let limits = limits(entries);
    let (mut set, mut model) = (SortedSet::new(), BTreeMap::<Vec<u8>, f64>::new());
    for step in steps {
        match step {
            Step::Add(member, score, bits) => {
                let (member, score) = (name(member), quarter(score));
                let bit = |n: u8| bits >> n & 1 == 1;
                let options = AddOptions {
                    absent: bits == 16,
                    present: bits == 17,
                    greater: bits < 16 && bit(2) && !bit(3),
                    less: bits < 16 && bit(3) && !bit(2),
                    increment: bits < 16 && bit(1),
                };
                let old = model.get(&member).copied();
                let new = if options.increment { old.unwrap_or(0.0) + score } else { score };
                let want = match old {
                    None if options.present => Added::Skipped,
                    None => Added::New(new),
                    Some(_) if options.absent => Added::Skipped,
                    Some(old) if options.greater && new <= old || options.less && new >= old => Added::Skipped,
                    Some(old) if old == new => Added::Same(old),
                    Some(_) => Added::Changed(new),
                };
                assert_eq!(set.add(&member, score, options, &limits), want);
                if let Added::New(score) | Added::Changed(score) = want {
                    model.insert(member, score);
                }
            }
            Step::Remove(member) => assert_eq!(set.remove(&name(member)), model.remove(&name(member))),
            Step::RemoveRanks(start, count) => {
                let gone: Vec<_> = sorted(&model).into_iter().skip(start).take(count).collect();
                let mut seen = Vec::new();
                set.remove_ranks(start..start + count, |member, score| seen.push((score, member.to_vec())));
                assert_eq!(seen, gone);
                gone.iter().for_each(|(_, member)| assert!(model.remove(member).is_some()));
            }
            Step::Scores(min, max, min_excluded, max_excluded) => {
                let range = ScoreRange { min: quarter(min), max: quarter(max), min_excluded, max_excluded };
                let want: Vec<_> =
                    sorted(&model).into_iter().filter(|(score, _)| !range.is_above(*score) && !range.is_below(*score)).collect();
                let ranks = set.score_ranks(&range);
                let mut got: Vec<_> = set.range(ranks.clone(), Direction::Ascending).map(|(m, s)| (s, m.to_vec())).collect();
                assert_eq!(got, want);
                got.reverse();
                let back: Vec<_> = set.range(ranks, Direction::Descending).map(|(m, s)| (s, m.to_vec())).collect();
                assert_eq!(back, got);
            }
            Step::Rank(member) => {
                let member = name(member);
                let want = sorted(&model).iter().position(|(_, other)| *other == member);
                assert_eq!(set.rank(&member), want.map(|rank| (rank, model[&member])));
                assert_eq!(set.score(&member), model.get(&member).copied());
                if let Some(rank) = want {
                    assert!(set.by_rank(rank).is_some_and(|(other, _)| other.eq_bytes(&member)));
                }
            }
            Step::Clone => {
                let copy = set.clone();
                copy.check_invariants();
                let mut built = SortedSet::sized(set.len(), 0, &limits);
                set.iter().for_each(|(member, score)| built.push_last(&member.to_vec(), score, &limits));
                built.check_invariants();
                let bytes = |set: &SortedSet| set.iter().map(|(member, score)| (member.to_vec(), score)).collect::<Vec<_>>();
                assert_eq!(bytes(&built), bytes(&set));
                set = copy;
            }
        }
        assert_eq!(set.len(), model.len());
    }
    set.check_invariants();
    assert_eq!(set.iter().map(|(m, s)| (s, m.to_vec())).collect::<Vec<_>>(), sorted(&model));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn behaves_like_the_model(
        entries in prop_oneof![Just(0usize), Just(20), Just(1000)],
        steps in prop::collection::vec(step(), 0..600),
    ) {
        run(entries, steps);
    }
}

#[test]
fn thresholds_change_the_encoding() {
    let limits = limits(2);
    let mut set = SortedSet::new();
    assert!(set.insert(b"a", 1.0, &limits) && set.insert(b"b", 2.0, &limits));
    assert_eq!(set.encoding(), "listpack");
    assert!(!set.insert(b"a", 3.0, &limits));
    assert_eq!(set.encoding(), "listpack");
    assert!(set.insert(b"c", 0.0, &limits));
    assert_eq!(set.encoding(), "skiplist");
    let mut set = SortedSet::new();
    set.insert(&[b'x'; 64], 1.0, &limits);
    assert_eq!(set.encoding(), "listpack");
    set.insert(&[b'y'; 65], 1.0, &limits);
    assert_eq!((set.encoding(), set.len()), ("skiplist", 2));
}

#[test]
fn lex_ranges_in_both_forms() {
    for entries in [0, 100] {
        let mut set = SortedSet::new();
        for member in ["a", "b", "c", "d", "e"] {
            set.insert(member.as_bytes(), 0.0, &limits(entries));
        }
        use LexBound::*;
        for (min, max, want) in [
            (Lowest, Highest, 0..5),
            (Included(b"b"), Included(b"d"), 1..4),
            (Excluded(b"b"), Excluded(b"d"), 2..3),
            (Included(b"bb"), Highest, 2..5),
        ] {
            assert_eq!(set.lex_ranks(&LexRange { min, max }), want);
        }
        assert!(set.lex_ranks(&LexRange { min: Highest, max: Lowest }).is_empty());
    }
    assert!(LexRange { min: LexBound::Highest, max: LexBound::Lowest }.is_empty());
    assert!(LexRange { min: LexBound::Included(b"a"), max: LexBound::Excluded(b"a") }.is_empty());
    assert!(!LexRange { min: LexBound::Included(b"a"), max: LexBound::Included(b"a") }.is_empty());
}

#[test]
fn a_large_set_is_freed_in_slices_and_scanned() {
    let mut set = SortedSet::new();
    for i in 0..10_000u32 {
        set.insert(format!("m{i}").as_bytes(), f64::from(i % 100), &limits(128));
    }
    let (mut cursor, mut seen) = (Some(Cursor::START), std::collections::HashSet::new());
    while let Some(from) = cursor {
        cursor = set.scan(from, 10, &mut |member, _| {
            seen.insert(member.to_vec());
        });
    }
    assert_eq!(seen.len(), 10_000);
    let mut calls = 0;
    while !set.free_some(100) {
        calls += 1;
    }
    assert!(calls > 50, "freed in slices: {calls}");
}
