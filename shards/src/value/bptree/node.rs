//! The nodes of the B+-tree: how entries are kept, moved between siblings, split off and joined.
//!
//! Owns the fill rules. Refuses to know what an item is: order comes in as a closure, and nothing here but a search calls it.
//! An entry of a leaf is an item; an entry of an inner node is a child with its first item and its number of items.
//! Slots behind `len` hold stale copies in the item arrays (never read) and `None` in the child array.

use std::cmp::Ordering;

/// Items a leaf holds: with 8-byte items and the length a leaf is 512 bytes, an exact size class of the allocator.
pub const LEAF_MAX: usize = 63;
/// Children an inner node holds: 1000 bytes with 8-byte items.
pub const INNER_MAX: usize = 31;

/// A full node gives entries to a sibling only if that has this fraction of its slots free; below it would soon be asked again.
const SHIFT_FRACTION: usize = 8;
/// A node with less than this fraction of its slots used is joined with a sibling, or filled up from it.
const UNDER_FRACTION: usize = 3;

/// The step of the first pass through a leaf.
const STRIDE: usize = 8;

const _: () = assert!(LEAF_MAX / SHIFT_FRACTION >= 2 && INNER_MAX / SHIFT_FRACTION >= 2);
const _: () = assert!(size_of::<Leaf<u64>>() <= 512 && size_of::<Inner<u64>>() <= 1024);

pub struct Leaf<T> {
    items: [T; LEAF_MAX],
    len: u16,
}

pub struct Inner<T> {
    firsts: [T; INNER_MAX],
    counts: [usize; INNER_MAX],
    children: [Option<Node<T>>; INNER_MAX],
    len: u16,
}

pub enum Node<T> {
    Leaf(Box<Leaf<T>>),
    Inner(Box<Inner<T>>),
}

/// How many nodes a tree has; kept by every function that makes or drops one.
#[derive(Default, Debug, PartialEq, Eq)]
pub struct Tally {
    pub leaves: usize,
    pub inners: usize,
}

/// Where in a full subtree the item would have gone: splits at the tree's edges leave the inward node full.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    Start,
    Middle,
    End,
}

pub enum Inserted {
    Done,
    /// An item that compares equal is there; nothing was changed.
    Exists,
    /// No room without help from the parent; nothing was changed.
    Full(Edge),
}

impl<T: Copy> Leaf<T> {
    fn empty(fill: T) -> Self {
        Leaf { items: [fill; LEAF_MAX], len: 0 }
    }

    pub fn with(item: T) -> Self {
        Leaf { items: [item; LEAF_MAX], len: 1 }
    }

    pub fn items(&self) -> &[T] {
        &self.items[..self.len as usize]
    }

    /// Where the item is that `probe` calls equal, or where it would go. Compares every eighth item, then those between: more
    /// comparisons than halving, but they do not wait for each other, so their cache misses overlap.
    pub fn search(&self, probe: &impl Fn(&T) -> Ordering) -> Result<usize, usize> {
        let items = self.items();
        let before = |items: &[T]| items.iter().filter(|item| probe(item).is_lt()).count();
        let strides = items.chunks_exact(STRIDE).filter(|stride| probe(&stride[STRIDE - 1]).is_lt()).count();
        let rest = &items[strides * STRIDE..];
        let at = strides * STRIDE + before(&rest[..rest.len().min(STRIDE - 1)]);
        match items.get(at) {
            Some(item) if probe(item).is_eq() => Ok(at),
            _ => Err(at),
        }
    }

    fn insert(&mut self, item: T, probe: &impl Fn(&T) -> Ordering) -> Inserted {
        let len = self.len as usize;
        let at = match self.search(probe) {
            Ok(_) => return Inserted::Exists,
            Err(at) => at,
        };
        if len == LEAF_MAX {
            return Inserted::Full(match at {
                0 => Edge::Start,
                LEAF_MAX => Edge::End,
                _ => Edge::Middle,
            });
        }
        self.items.copy_within(at..len, at + 1);
        self.items[at] = item;
        self.len += 1;
        Inserted::Done
    }

    fn drain(&mut self, start: usize, count: usize, visit: &mut impl FnMut(T)) {
        let len = self.len as usize;
        debug_assert!(start + count <= len);
        self.items[start..start + count].iter().for_each(|&item| visit(item));
        self.items.copy_within(start + count..len, start);
        self.len -= count as u16;
    }

    fn shift_left(left: &mut Self, right: &mut Self, n: usize) {
        let (l, r) = (left.len as usize, right.len as usize);
        left.items[l..l + n].copy_from_slice(&right.items[..n]);
        right.items.copy_within(n..r, 0);
        left.len += n as u16;
        right.len -= n as u16;
    }

    fn shift_right(left: &mut Self, right: &mut Self, n: usize) {
        let (l, r) = (left.len as usize, right.len as usize);
        right.items.copy_within(..r, n);
        right.items[..n].copy_from_slice(&left.items[l - n..l]);
        left.len -= n as u16;
        right.len += n as u16;
    }
}

impl<T: Copy> Inner<T> {
    fn empty(fill: T) -> Self {
        Inner { firsts: [fill; INNER_MAX], counts: [0; INNER_MAX], children: [const { None }; INNER_MAX], len: 0 }
    }

    /// The node above a root that has become full.
    pub fn above(root: Node<T>, count: usize) -> Self {
        let mut inner = Inner::empty(root.first());
        inner.counts[0] = count;
        inner.children[0] = Some(root);
        inner.len = 1;
        inner
    }

    pub fn len(&self) -> usize {
        self.len as usize
    }

    fn counts(&self) -> &[usize] {
        &self.counts[..self.len()]
    }

    pub fn child(&self, i: usize) -> &Node<T> {
        self.children[i].as_ref().expect("children below len are present")
    }

    fn child_mut(&mut self, i: usize) -> &mut Node<T> {
        self.children[i].as_mut().expect("children below len are present")
    }

    pub fn take_only_child(&mut self) -> Node<T> {
        debug_assert!(self.len == 1);
        self.len = 0;
        self.children[0].take().expect("children below len are present")
    }

    /// The last child whose first item satisfies `before`; the first child if none does.
    pub fn child_by(&self, before: impl Fn(&T) -> bool) -> usize {
        self.firsts[1..self.len()].partition_point(before)
    }

    /// The child that holds the item of this rank, and the rank within it.
    pub fn child_of_rank(&self, mut rank: usize) -> (usize, usize) {
        let mut i = 0;
        while rank >= self.counts[i] {
            rank -= self.counts[i];
            i += 1;
        }
        (i, rank)
    }

    pub fn count_before(&self, i: usize) -> usize {
        self.counts[..i].iter().sum()
    }

    fn insert(&mut self, item: T, probe: &impl Fn(&T) -> Ordering, tally: &mut Tally) -> Inserted {
        loop {
            let i = self.child_by(|first| probe(first).is_le());
            match self.child_mut(i).insert(item, probe, tally) {
                Inserted::Done => {
                    self.counts[i] += 1;
                    if i == 0 {
                        self.firsts[0] = self.child(0).first();
                    }
                    return Inserted::Done;
                }
                Inserted::Exists => return Inserted::Exists,
                Inserted::Full(edge) => {
                    let edge = match edge {
                        Edge::Start if i == 0 => Edge::Start,
                        Edge::End if i + 1 == self.len() => Edge::End,
                        _ => Edge::Middle,
                    };
                    if !self.make_room(i, edge, tally) {
                        return Inserted::Full(edge);
                    }
                }
            }
        }
    }

    /// Takes entries off the full child `i`: to a sibling if one has space, else to a new node, if this node has a slot for it.
    fn make_room(&mut self, i: usize, edge: Edge, tally: &mut Tally) -> bool {
        let free = |j: usize| self.child(j).capacity() - self.child(j).len();
        let left = if i > 0 { free(i - 1) } else { 0 };
        let right = if i + 1 < self.len() { free(i + 1) } else { 0 };
        let capacity = self.child(i).capacity();
        if left.max(right) >= capacity / SHIFT_FRACTION {
            self.even_out(if left >= right { i - 1 } else { i });
            return true;
        }
        if self.len() == INNER_MAX {
            return false;
        }
        let moved = match edge {
            Edge::Start => capacity - 1,
            Edge::Middle => capacity / 2,
            Edge::End => 1,
        };
        self.split(i, moved, tally);
        true
    }

    /// Moves the last `n` entries of child `i` into a new node behind it.
    fn split(&mut self, i: usize, n: usize, tally: &mut Tally) {
        let len = self.len();
        debug_assert!(len < INNER_MAX && n > 0);
        let node = self.child(i).empty_sibling(tally);
        self.firsts.copy_within(i + 1..len, i + 2);
        self.counts.copy_within(i + 1..len, i + 2);
        self.children[i + 1..=len].rotate_right(1);
        self.children[i + 1] = Some(node);
        self.counts[i + 1] = 0;
        self.len += 1;
        self.shift_right(i, n);
    }

    /// Levels the fill of the children `i` and `i + 1`.
    fn even_out(&mut self, i: usize) {
        let (l, r) = (self.child(i).len(), self.child(i + 1).len());
        if l > r {
            self.shift_right(i, (l - r) / 2);
        } else {
            self.shift_left(i, (r - l) / 2);
        }
    }

    /// Moves `n` entries from the start of child `i + 1` to the end of child `i`.
    fn shift_left(&mut self, i: usize, n: usize) {
        let (left, right) = self.pair_mut(i);
        let moved = match (left, right) {
            (Node::Leaf(l), Node::Leaf(r)) => {
                Leaf::shift_left(l, r, n);
                n
            }
            (Node::Inner(l), Node::Inner(r)) => Inner::adopt_left(l, r, n),
            _ => unreachable!("siblings are of one kind"),
        };
        self.counts[i] += moved;
        self.counts[i + 1] -= moved;
        if self.counts[i + 1] > 0 {
            self.firsts[i + 1] = self.child(i + 1).first();
        }
    }

    /// Moves `n` entries from the end of child `i` to the start of child `i + 1`.
    fn shift_right(&mut self, i: usize, n: usize) {
        let (left, right) = self.pair_mut(i);
        let moved = match (left, right) {
            (Node::Leaf(l), Node::Leaf(r)) => {
                Leaf::shift_right(l, r, n);
                n
            }
            (Node::Inner(l), Node::Inner(r)) => Inner::adopt_right(l, r, n),
            _ => unreachable!("siblings are of one kind"),
        };
        self.counts[i] -= moved;
        self.counts[i + 1] += moved;
        self.firsts[i + 1] = self.child(i + 1).first();
    }

    fn pair_mut(&mut self, i: usize) -> (&mut Node<T>, &mut Node<T>) {
        match &mut self.children[i..i + 2] {
            [Some(left), Some(right)] => (left, right),
            _ => unreachable!("children below len are present"),
        }
    }

    /// Returns how many items the moved children hold.
    fn adopt_left(left: &mut Self, right: &mut Self, n: usize) -> usize {
        let (l, r) = (left.len(), right.len());
        left.firsts[l..l + n].copy_from_slice(&right.firsts[..n]);
        right.firsts.copy_within(n..r, 0);
        left.counts[l..l + n].copy_from_slice(&right.counts[..n]);
        right.counts.copy_within(n..r, 0);
        left.children[l..l + n].swap_with_slice(&mut right.children[..n]);
        right.children[..r].rotate_left(n);
        left.len += n as u16;
        right.len -= n as u16;
        left.counts[l..l + n].iter().sum()
    }

    /// Returns how many items the moved children hold.
    fn adopt_right(left: &mut Self, right: &mut Self, n: usize) -> usize {
        let (l, r) = (left.len(), right.len());
        right.firsts.copy_within(..r, n);
        right.firsts[..n].copy_from_slice(&left.firsts[l - n..l]);
        right.counts.copy_within(..r, n);
        right.counts[..n].copy_from_slice(&left.counts[l - n..l]);
        right.children[..r + n].rotate_right(n);
        right.children[..n].swap_with_slice(&mut left.children[l - n..l]);
        left.len -= n as u16;
        right.len += n as u16;
        right.counts[..n].iter().sum()
    }

    fn drain(&mut self, start: usize, count: usize, tally: &mut Tally, visit: &mut impl FnMut(T)) {
        let (mut i, mut start) = self.child_of_rank(start);
        let lowest = i;
        let mut left = count;
        while left > 0 {
            let n = left.min(self.counts[i] - start);
            self.child_mut(i).drain(start, n, tally, visit);
            self.counts[i] -= n;
            left -= n;
            start = 0;
            if self.counts[i] == 0 {
                self.drop_empty_child(i, tally);
            } else {
                self.firsts[i] = self.child(i).first();
                i += 1;
            }
        }
        // At most two children lost a part of their items: the one at `lowest` and the one behind it.
        for j in (lowest..i).rev() {
            if j < self.len() && self.child(j).is_under() {
                self.refill(j, tally);
            }
        }
    }

    /// Joins the underfull child `i` with a sibling if both fit into one node, else fills it up from one.
    fn refill(&mut self, i: usize, tally: &mut Tally) {
        let fits = |j: usize| j + 1 < self.len() && self.child(j).len() + self.child(j + 1).len() <= self.child(j).capacity();
        let seam = if i > 0 && fits(i - 1) { i - 1 } else { i };
        if fits(seam) {
            self.shift_left(seam, self.child(seam + 1).len());
            self.drop_empty_child(seam + 1, tally);
        } else if i + 1 < self.len() {
            self.even_out(i);
        } else if i > 0 {
            self.even_out(i - 1);
        }
    }

    fn drop_empty_child(&mut self, i: usize, tally: &mut Tally) {
        let len = self.len();
        debug_assert!(self.counts[i] == 0 && self.child(i).len() == 0);
        tally.forget(self.child(i));
        self.firsts.copy_within(i + 1..len, i);
        self.counts.copy_within(i + 1..len, i);
        self.children[i] = None;
        self.children[i..len].rotate_left(1);
        self.len -= 1;
    }

    fn replace(&mut self, item: T, probe: &impl Fn(&T) -> Ordering) -> Option<T> {
        let i = self.child_by(|first| probe(first).is_le());
        let old = self.child_mut(i).replace(item, probe)?;
        self.firsts[i] = self.child(i).first();
        Some(old)
    }

    fn free_last_leaves(&mut self, budget: &mut usize, tally: &mut Tally) -> usize {
        let mut freed = 0;
        while *budget > 0 && self.len > 0 {
            let last = self.len() - 1;
            let n = self.child_mut(last).free_last_leaves(budget, tally);
            self.counts[last] -= n;
            freed += n;
            if self.counts[last] == 0 {
                self.drop_empty_child(last, tally);
            }
        }
        freed
    }
}

impl<T: Copy> Node<T> {
    /// Entries, not items.
    pub fn len(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.len as usize,
            Node::Inner(inner) => inner.len(),
        }
    }

    /// The smallest item; the node must not be empty.
    pub fn first(&self) -> T {
        match self {
            Node::Leaf(leaf) => leaf.items[0],
            Node::Inner(inner) => inner.firsts[0],
        }
    }

    /// `probe` tells how an item of the tree compares with the new one.
    pub fn insert(&mut self, item: T, probe: &impl Fn(&T) -> Ordering, tally: &mut Tally) -> Inserted {
        match self {
            Node::Leaf(leaf) => leaf.insert(item, probe),
            Node::Inner(inner) => inner.insert(item, probe, tally),
        }
    }

    /// Removes `count` items from rank `start` on. Never compares, so `visit` may free what an item points to.
    pub fn drain(&mut self, start: usize, count: usize, tally: &mut Tally, visit: &mut impl FnMut(T)) {
        match self {
            Node::Leaf(leaf) => leaf.drain(start, count, visit),
            Node::Inner(inner) => inner.drain(start, count, tally, visit),
        }
    }

    /// Swaps the item that `probe` calls equal for `item`, which must compare equal too.
    pub fn replace(&mut self, item: T, probe: &impl Fn(&T) -> Ordering) -> Option<T> {
        match self {
            Node::Leaf(leaf) => {
                let at = leaf.search(probe).ok()?;
                Some(std::mem::replace(&mut leaf.items[at], item))
            }
            Node::Inner(inner) => inner.replace(item, probe),
        }
    }

    /// Empties up to `budget` leaves from the end; returns how many items went.
    pub fn free_last_leaves(&mut self, budget: &mut usize, tally: &mut Tally) -> usize {
        match self {
            Node::Leaf(leaf) => {
                *budget -= 1;
                std::mem::take(&mut leaf.len) as usize
            }
            Node::Inner(inner) => inner.free_last_leaves(budget, tally),
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Node::Leaf(_) => LEAF_MAX,
            Node::Inner(_) => INNER_MAX,
        }
    }

    fn is_under(&self) -> bool {
        self.len() < self.capacity() / UNDER_FRACTION
    }

    fn empty_sibling(&self, tally: &mut Tally) -> Node<T> {
        match self {
            Node::Leaf(_) => {
                tally.leaves += 1;
                Node::Leaf(Box::new(Leaf::empty(self.first())))
            }
            Node::Inner(_) => {
                tally.inners += 1;
                Node::Inner(Box::new(Inner::empty(self.first())))
            }
        }
    }

    /// Checks the subtree, adds its nodes to `tally`, and returns its number of items and its height.
    pub fn check(&self, compare: &impl Fn(&T, &T) -> Ordering, tally: &mut Tally) -> (usize, usize)
    where
        T: PartialEq,
    {
        assert!((1..=self.capacity()).contains(&self.len()), "a node's length is within its bounds");
        let inner = match self {
            Node::Leaf(leaf) => {
                tally.leaves += 1;
                assert!(leaf.items().is_sorted_by(|a, b| compare(a, b).is_lt()), "items ascend");
                return (leaf.len as usize, 0);
            }
            Node::Inner(inner) => inner,
        };
        tally.inners += 1;
        assert!(inner.children[inner.len()..].iter().all(Option::is_none), "no child behind len");
        let mut heights = Vec::new();
        for i in 0..inner.len() {
            let child = inner.child(i);
            assert!(inner.firsts[i] == child.first(), "a separator is the very first item of its child");
            if i > 0 {
                assert!(compare(&inner.child(i - 1).last(), &child.first()).is_lt(), "children ascend");
            }
            let (count, height) = child.check(compare, tally);
            assert_eq!(inner.counts[i], count, "the count of a child is its number of items");
            heights.push(height);
        }
        assert!(heights.iter().all(|&h| h == heights[0]), "leaves are on one level");
        (inner.counts().iter().sum(), heights[0] + 1)
    }

    fn last(&self) -> T {
        match self {
            Node::Leaf(leaf) => leaf.items[leaf.len as usize - 1],
            Node::Inner(inner) => inner.child(inner.len() - 1).last(),
        }
    }
}

impl Tally {
    pub fn forget<T>(&mut self, node: &Node<T>) {
        match node {
            Node::Leaf(_) => self.leaves -= 1,
            Node::Inner(_) => self.inners -= 1,
        }
    }
}
