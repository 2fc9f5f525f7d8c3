//! The tree against a sorted vector, and its promises about fill.

use super::*;
use proptest::prelude::*;

/// Ordered by `key` alone, so that a separator left behind by a removed or replaced item shows by its `id`.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Item {
    key: u32,
    id: u32,
}

fn by_key(a: &Item, b: &Item) -> Ordering {
    a.key.cmp(&b.key)
}

fn item(key: u32) -> Item {
    Item { key, id: 0 }
}

/// Keys 0..n in an order that looks random: multiplication by an odd number permutes the residues of a power of two.
fn scattered(bits: u32) -> impl Iterator<Item = u32> {
    let n = 1u32 << bits;
    (0..n).map(move |i| (i ^ (i >> 3)).wrapping_mul(0x9E37_79B1) % n)
}

fn fill(tree: &BPlusTree<u64>) -> f64 {
    tree.bytes() as f64 / tree.len() as f64
}

#[derive(Clone, Debug)]
enum Step {
    Insert { start: u32, step: u32, n: u32, down: bool },
    Remove { start: u32, step: u32, n: u32 },
    RemoveRange { start: usize, n: usize },
    Replace { start: u32, n: u32 },
    PopFirst(u32),
    PopLast(u32),
    FreeSome(usize),
    Clear,
}

const KEYS: u32 = 6000;

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..KEYS, 1..40u32, 1..900u32, any::<bool>()).prop_map(|(start, step, n, down)| Step::Insert { start, step, n, down }),
        5 => (0..KEYS, 1..40u32, 1..700u32).prop_map(|(start, step, n)| Step::Remove { start, step, n }),
        3 => (0..KEYS as usize, 0..1500usize).prop_map(|(start, n)| Step::RemoveRange { start, n }),
        2 => (0..KEYS, 1..200u32).prop_map(|(start, n)| Step::Replace { start, n }),
        1 => (1..200u32).prop_map(Step::PopFirst),
        1 => (1..200u32).prop_map(Step::PopLast),
        1 => (0..20usize).prop_map(Step::FreeSome),
        1 => Just(Step::Clear),
    ]
}

fn apply(step: Step, id: u32, tree: &mut BPlusTree<Item>, model: &mut Vec<Item>) {
    let place = |model: &[Item], key: u32| model.binary_search_by(|item| item.key.cmp(&key));
    match step {
        Step::Insert { start, step, n, down } => {
            for i in 0..n {
                let i = if down { n - 1 - i } else { i };
                let new = Item { key: (start + i * step) % KEYS, id };
                let at = place(model, new.key);
                assert_eq!(tree.insert(new, by_key), at.is_err());
                if let Err(at) = at {
                    model.insert(at, new);
                }
            }
        }
        Step::Remove { start, step, n } => {
            for i in 0..n {
                let key = (start + i * step) % KEYS;
                let expected = place(model, key).ok().map(|at| model.remove(at));
                assert_eq!(tree.remove_by(|item| item.key.cmp(&key)), expected);
            }
        }
        Step::RemoveRange { start, n } => {
            let (from, to) = (start.min(model.len()), (start + n).min(model.len()));
            let expected: Vec<Item> = model.drain(from..to).collect();
            let mut removed = Vec::new();
            assert_eq!(tree.remove_range(start..start + n, |item| removed.push(item)), expected.len());
            assert_eq!(removed, expected);
        }
        Step::Replace { start, n } => {
            for key in start..start + n {
                let new = Item { key, id };
                let expected = place(model, key).ok().map(|at| std::mem::replace(&mut model[at], new));
                assert_eq!(tree.replace(new, |item| item.key.cmp(&key)), expected);
            }
        }
        Step::PopFirst(n) => {
            for _ in 0..n {
                let expected = (!model.is_empty()).then(|| model.remove(0));
                assert_eq!(tree.pop_first(), expected);
            }
        }
        Step::PopLast(n) => (0..n).for_each(|_| assert_eq!(tree.pop_last(), model.pop())),
        Step::FreeSome(leaves) => {
            assert_eq!(tree.free_some(leaves), tree.is_empty());
            assert!(tree.len() + leaves * 63 >= model.len());
            model.truncate(tree.len());
        }
        Step::Clear => {
            tree.clear();
            model.clear();
        }
    }
}

/// Reads of all kinds around `key` and the rank `at`.
fn compare_reads(tree: &BPlusTree<Item>, model: &[Item], key: u32, at: usize) {
    assert_eq!(tree.find(|item| item.key.cmp(&key)), model.binary_search_by(|item| item.key.cmp(&key)));
    assert_eq!(tree.partition_point(|item| item.key < key), model.partition_point(|item| item.key < key));
    assert_eq!(tree.partition_point(|item| item.key <= key), model.partition_point(|item| item.key <= key));
    assert_eq!(tree.get(at), model.get(at).copied());
    assert_eq!((tree.first(), tree.last()), (model.first().copied(), model.last().copied()));
    let cut = at.min(model.len());
    assert!(tree.range(at..usize::MAX).eq(model[cut..].iter().copied()));
    assert!(tree.range(0..at).rev().eq(model[..cut].iter().rev().copied()));
    assert!(tree.iter().skip(at).step_by(7).eq(model.iter().copied().skip(at).step_by(7)));
    assert_eq!(tree.iter().nth_back(at), model.iter().copied().nth_back(at));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn behaves_like_a_sorted_vector(script in prop::collection::vec((steps(), 0..KEYS, 0..KEYS as usize), 1..40)) {
        let (mut tree, mut model) = (BPlusTree::new(), Vec::new());
        for (id, (step, key, at)) in script.into_iter().enumerate() {
            apply(step, id as u32, &mut tree, &mut model);
            tree.check_invariants(by_key);
            prop_assert!(tree.iter().eq(model.iter().copied()));
            compare_reads(&tree, &model, key, at);
        }
    }
}

#[test]
fn an_empty_tree_answers() {
    let mut tree = BPlusTree::<Item>::new();
    tree.check_invariants(by_key);
    assert_eq!((tree.len(), tree.bytes(), tree.is_empty()), (0, 0, true));
    assert_eq!((tree.first(), tree.last(), tree.get(0), tree.pop_first(), tree.pop_last()), (None, None, None, None, None));
    assert_eq!(tree.find(|_| Ordering::Less), Err(0));
    assert_eq!(tree.iter().next(), None);
    assert_eq!(tree.remove_range(0..10, |_| ()), 0);
    assert!(tree.free_some(1));
}

#[test]
fn single_items_come_and_go_with_every_invariant_kept() {
    let mut tree = BPlusTree::new();
    for key in scattered(12) {
        assert!(tree.insert(item(key), by_key));
        assert!(!tree.insert(item(key), by_key));
        tree.check_invariants(by_key);
    }
    assert!(tree.iter().map(|item| item.key).eq(0..1 << 12));
    for key in scattered(12).map(|key| key ^ 0x555) {
        assert_eq!(tree.remove_by(|item| item.key.cmp(&key)), Some(item(key)));
        tree.check_invariants(by_key);
    }
    assert_eq!(tree.bytes(), 0);
}

#[test]
fn rank_ranges_at_both_ends() {
    let keys = |tree: &BPlusTree<Item>, ranks| tree.range(ranks).map(|item| item.key).collect::<Vec<_>>();
    let mut tree = BPlusTree::from_sorted((0..5000).map(item));
    assert_eq!(keys(&tree, 0..3), [0, 1, 2]);
    assert_eq!(keys(&tree, 4998..usize::MAX), [4998, 4999]);
    assert_eq!(keys(&tree, 0..0), []);
    assert_eq!(keys(&tree, 5000..6000), []);
    #[allow(clippy::reversed_empty_ranges)]
    let reversed = 10..5;
    assert_eq!(keys(&tree, reversed.clone()), []);
    assert_eq!(tree.remove_range(reversed, |_| ()), 0);
    let mut range = tree.range(4999..5000);
    assert_eq!((range.len(), range.next_back(), range.next(), range.next_back()), (1, Some(item(4999)), None, None));
    assert_eq!(tree.remove_range(0..2500, |_| ()), 2500);
    tree.check_invariants(by_key);
    assert_eq!(tree.remove_range(2400..usize::MAX, |_| ()), 100);
    tree.check_invariants(by_key);
    assert_eq!((tree.first(), tree.last()), (Some(item(2500)), Some(item(4899))));
    assert_eq!(tree.remove_range(0..usize::MAX, |_| ()), 2400);
    assert_eq!((tree.len(), tree.bytes()), (0, 0));
}

#[test]
fn both_ends_of_a_range_meet_once() {
    let tree = BPlusTree::from_sorted((0..1000).map(item));
    let mut range = tree.range(100..900);
    let mut seen = Vec::new();
    while let Some(front) = range.next() {
        seen.push(front.key);
        seen.extend(range.next_back().map(|item| item.key));
        seen.extend(range.next_back().map(|item| item.key));
    }
    seen.sort_unstable();
    assert!(seen.into_iter().eq(100..900));
}

#[test]
fn random_insertion_fills_nodes() {
    let mut tree = BPlusTree::new();
    for key in scattered(17) {
        tree.insert(u64::from(key), u64::cmp);
    }
    assert!(fill(&tree) < 12.0, "{} bytes an item", fill(&tree));
}

#[test]
fn insertion_in_order_leaves_full_nodes() {
    let mut down = BPlusTree::new();
    (0..100_000u64).rev().for_each(|key| down.push_first(key));
    let up = BPlusTree::from_sorted(0..100_000u64);
    for tree in [&up, &down] {
        tree.check_invariants(u64::cmp);
        assert!(tree.iter().eq(0..100_000));
        assert!(fill(tree) < 9.0, "{} bytes an item", fill(tree));
    }
}

#[test]
fn a_thinned_tree_gives_memory_back() {
    let mut tree = BPlusTree::from_sorted(0..100_000u64);
    for key in (0..100_000u64).filter(|key| key % 10 != 0) {
        tree.remove_by(|other| other.cmp(&key));
    }
    tree.check_invariants(u64::cmp);
    assert!(fill(&tree) < 8.0 * 3.5, "{} bytes an item", fill(&tree));
}

#[test]
fn freeing_in_slices_keeps_a_tree() {
    let mut tree = BPlusTree::from_sorted((0..50_000).map(item));
    let mut slices = 0;
    let mut len = tree.len();
    while !tree.free_some(16) {
        tree.check_invariants(by_key);
        assert!(tree.len() < len && len - tree.len() <= 16 * 63);
        assert_eq!(tree.last(), Some(item(tree.len() as u32 - 1)));
        len = tree.len();
        slices += 1;
    }
    assert!(slices >= 50_000 / (16 * 63));
    assert_eq!(tree.bytes(), 0);
}
