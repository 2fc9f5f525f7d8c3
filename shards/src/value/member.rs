//! The large form of sets and hashes: a table of members, each in ONE allocation with its value, if it has one.
//!
//! Owns the blocks' layout and all unsafe code of sets and hashes. Refuses to know encodings' names and thresholds.
//!
//! ```text
//! set    [len][member]              rounded up to 8 bytes
//! hash   [len][len][field][value]   rounded up to 8 bytes
//!
//! len    00..=fd        the length itself
//!        fe u16         little endian
//!        ff u32         little endian
//! ```
//!
//! So a set's member of 11 bytes takes 16 bytes and its share of the table, 10 to 12 bytes. A block's size follows from its
//! head and is stored nowhere; a value that is replaced by one of the same rounded size is overwritten in place.

use crate::random::Random;
use crate::table::{Cursor, Place, Table};
use ahash::RandomState;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Unordered members with their blocks; `VALUED` ones have a value each (the fields of a hash).
pub struct Members<const VALUED: bool> {
    /// Payloads are pointers to live blocks, owned by this table.
    table: Table,
    hasher: RandomState,
    /// Bytes of all blocks.
    block_bytes: usize,
}

impl<const VALUED: bool> Members<VALUED> {
    pub fn new(hasher: RandomState) -> Self {
        Members { table: Table::new(), hasher, block_bytes: 0 }
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Heap bytes, without this struct itself.
    pub fn bytes(&self) -> usize {
        self.table.bytes() + self.block_bytes
    }

    /// The value of a member (empty in a set); `None` when it is not there.
    #[inline]
    pub fn get(&self, member: &[u8]) -> Option<&[u8]> {
        let payload = self.table.get(self.place(member), |payload| self.block(payload).member() == member)?;
        Some(self.block(payload).value())
    }

    #[inline]
    pub fn contains(&self, member: &[u8]) -> bool {
        self.table.get(self.place(member), |payload| self.block(payload).member() == member).is_some()
    }

    /// For prefetching; members are placed as [`KeyHasher::member`](crate::keyspace::KeyHasher::member) says.
    #[inline]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Sets the value of a member, new or not (a set's is empty). True if it is new.
    pub fn put(&mut self, member: &[u8], value: &[u8]) -> bool {
        debug_assert!(VALUED || value.is_empty());
        let place = self.place(member);
        let Some(payload) = self.table.get(place, |payload| self.block(payload).member() == member) else {
            self.add(place, member, value);
            return true;
        };
        // SAFETY: the table is borrowed exclusively, and nothing borrowed from its blocks is alive.
        if VALUED && !unsafe { self.block(payload).overwrite(value) } {
            let new = Block::<VALUED>::new(member, value);
            let replaced = self.table.replace(place, |other| other == payload, new.to_payload());
            assert!(replaced, "a member just found can be replaced");
            self.block_bytes += new.size();
            self.free(payload);
        }
        false
    }

    /// True if the member was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        let place = self.place(member);
        // SAFETY: the payloads that `remove` shows to the closure are this table's own.
        let is = |payload| unsafe { Block::<VALUED>::of(payload) }.member() == member;
        let Some(payload) = self.table.remove(place, is) else { return false };
        self.free(payload);
        true
    }

    /// A member with its value, each with the same chance.
    pub fn random(&self, random: &mut Random) -> Option<(&[u8], &[u8])> {
        self.table.random(random).map(|payload| self.block(payload).parts())
    }

    /// Takes out a member drawn with equal chances, showing it to `visit`; false when there is none.
    pub fn pop(&mut self, random: &mut Random, visit: &mut dyn FnMut(&[u8])) -> bool {
        let Some(payload) = self.table.random(random) else { return false };
        let place = self.place(self.block(payload).member());
        let removed = self.table.remove(place, |other| other == payload);
        assert_eq!(removed, Some(payload), "a member just drawn can be removed");
        visit(self.block(payload).member());
        self.free(payload);
        true
    }

    /// Visits `count` different members, each choice with the same chance; all of them if there are no more.
    pub fn sample(&self, count: usize, random: &mut Random, visit: &mut dyn FnMut(&[u8], &[u8])) {
        if count.saturating_mul(SPARSE) > self.len() {
            let mut chooser = Chooser::new(count, self.len());
            return self.for_each(&mut |member, value| {
                if chooser.takes_next(random) {
                    visit(member, value);
                }
            });
        }
        let mut seen = hashbrown::HashSet::with_capacity_and_hasher(count, self.hasher.clone());
        while seen.len() < count {
            let payload = self.table.random(random).expect("count is below the length, so there is a member");
            if seen.insert(payload) {
                let (member, value) = self.block(payload).parts();
                visit(member, value);
            }
        }
    }

    /// Visits every member with its value.
    #[inline]
    pub fn for_each(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.table.for_each(&mut |payload| {
            let (member, value) = self.block(payload).parts();
            visit(member, value);
        });
    }

    /// Every member with its value. One small allocation; [`Members::for_each`] has none.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> + '_ {
        self.table.iter().map(|payload| self.block(payload).parts())
    }

    /// Visits about `want` members from `cursor` on; see [`Table::scan`].
    pub fn scan(&self, cursor: Cursor, want: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> Option<Cursor> {
        self.table.scan(cursor, want, &mut |payload| {
            let (member, value) = self.block(payload).parts();
            visit(member, value);
        })
    }

    /// Frees about `budget` members; true when none is left.
    pub fn free_some(&mut self, budget: usize) -> bool {
        let bytes = &mut self.block_bytes;
        // SAFETY: a drained payload was this table's own and has left it for good, so its block is freed once.
        self.table.drain_some(budget, &mut |payload| *bytes -= unsafe { Block::<VALUED>::of(payload).free() })
    }

    /// Panics unless every member is found where it belongs, and the bytes add up. For tests.
    pub fn check_invariants(&self) {
        self.table.check_invariants(&|payload| self.place(self.block(payload).member()).position);
        let mut bytes = 0;
        self.table.for_each(&mut |payload| {
            let block = self.block(payload);
            assert!(VALUED || block.value().is_empty());
            assert_eq!(self.get(block.member()), Some(block.value()));
            bytes += block.size();
        });
        assert_eq!(bytes, self.block_bytes);
    }

    #[inline]
    fn place(&self, member: &[u8]) -> Place {
        Place::of_hash(self.hasher.hash_one(member))
    }

    /// Adds a member that is not there yet.
    fn add(&mut self, place: Place, member: &[u8], value: &[u8]) {
        let new = Block::<VALUED>::new(member, value);
        self.block_bytes += new.size();
        let hasher = &self.hasher;
        self.table.insert(place, new.to_payload(), |payload| {
            // SAFETY: the payloads that `insert` asks about are this table's own.
            Place::of_hash(hasher.hash_one(unsafe { Block::<VALUED>::of(payload) }.member())).position
        });
    }

    /// Frees the block of a payload that has just left the table.
    fn free(&mut self, payload: u64) {
        // SAFETY: private, and called only with payloads that `replace` or `remove` have just taken out of the table.
        self.block_bytes -= unsafe { Block::<VALUED>::of(payload).free() };
    }

    /// The block behind a payload of this table, for as long as the table is borrowed.
    #[inline]
    fn block(&self, payload: u64) -> Block<'_, VALUED> {
        // SAFETY: the table holds live blocks only: they enter in `add` and `put`, and are freed when they leave it.
        unsafe { Block::of(payload) }
    }
}

impl<const VALUED: bool> Clone for Members<VALUED> {
    fn clone(&self) -> Self {
        let mut copy = Members::new(self.hasher.clone());
        self.for_each(&mut |member, value| copy.add(copy.place(member), member, value));
        copy
    }
}

impl<const VALUED: bool> Drop for Members<VALUED> {
    fn drop(&mut self) {
        while !self.free_some(usize::MAX) {}
    }
}

/// Where fewer than one member in this many is wanted, drawing at random until they differ is cheaper than a walk.
const SPARSE: usize = 3;

/// Chooses `wanted` out of `left` things that come by one after the other, each choice with the same chance.
pub struct Chooser {
    wanted: usize,
    left: usize,
}

impl Chooser {
    pub fn new(wanted: usize, of: usize) -> Self {
        Chooser { wanted, left: of }
    }

    /// Whether the next one is chosen.
    pub fn takes_next(&mut self, random: &mut Random) -> bool {
        let takes = random.below(self.left as u64) < self.wanted as u64;
        self.left = self.left.saturating_sub(1);
        self.wanted -= usize::from(takes && self.wanted > 0);
        takes
    }
}

/// A pointer to a live block, borrowed from the table that owns it.
#[derive(Clone, Copy)]
struct Block<'a, const VALUED: bool>(NonNull<u8>, PhantomData<&'a [u8]>);

const LEN16: u8 = 0xfe;
const LEN32: u8 = 0xff;
/// Size and address step of blocks: the table needs 3 free bits in a pointer.
const ALIGN: usize = 8;

/// Lengths and the place of the first byte behind them.
#[derive(Clone, Copy)]
struct Head {
    member: usize,
    value: usize,
    end: usize,
}

impl Head {
    fn size(self) -> usize {
        (self.end + self.member + self.value).next_multiple_of(ALIGN)
    }
}

impl<'a, const VALUED: bool> Block<'a, VALUED> {
    /// A new block, to be owned by a table.
    fn new(member: &[u8], value: &[u8]) -> Self {
        let (mut head_bytes, mut end) = ([0u8; 10], 0);
        write_len(&mut head_bytes, &mut end, member.len());
        if VALUED {
            write_len(&mut head_bytes, &mut end, value.len());
        }
        let size = Head { member: member.len(), value: value.len(), end }.size();
        let layout = layout(size);
        // SAFETY: the layout is never of size 0. Head, member and value follow each other and end within `size`, and the
        // fresh allocation cannot overlap the borrowed bytes.
        unsafe {
            let Some(start) = NonNull::new(alloc(layout)) else { handle_alloc_error(layout) };
            std::ptr::copy_nonoverlapping(head_bytes.as_ptr(), start.as_ptr(), end);
            std::ptr::copy_nonoverlapping(member.as_ptr(), start.as_ptr().add(end), member.len());
            std::ptr::copy_nonoverlapping(value.as_ptr(), start.as_ptr().add(end + member.len()), value.len());
            Block(start, PhantomData)
        }
    }

    fn to_payload(self) -> u64 {
        self.0.as_ptr() as u64
    }

    /// # Safety
    /// `payload` must come from [`Block::to_payload`] of a block that stays live, and whose value is not overwritten, while the
    /// returned pointer and what is borrowed through it are used.
    #[inline]
    unsafe fn of(payload: u64) -> Self {
        // SAFETY: the payload of a live block is its non-null pointer.
        Block(unsafe { NonNull::new_unchecked(payload as *mut u8) }, PhantomData)
    }

    #[inline]
    fn head(self) -> Head {
        let (member, mut end) = self.read_len(0);
        let mut value = 0;
        if VALUED {
            (value, end) = self.read_len(end);
        }
        Head { member, value, end }
    }

    /// The length at `at` and the offset behind it.
    #[inline]
    fn read_len(self, at: usize) -> (usize, usize) {
        // SAFETY: called for the places where `new` has written a length, in as many bytes as its first byte says.
        unsafe {
            let start = self.0.add(at);
            match start.read() {
                LEN16 => (usize::from(start.add(1).cast::<u16>().read_unaligned()), at + 3),
                LEN32 => (start.add(1).cast::<u32>().read_unaligned() as usize, at + 5),
                len => (usize::from(len), at + 1),
            }
        }
    }

    #[inline]
    fn parts(self) -> (&'a [u8], &'a [u8]) {
        let head = self.head();
        (self.slice(head.end, head.member), self.slice(head.end + head.member, head.value))
    }

    #[inline]
    fn member(self) -> &'a [u8] {
        let head = self.head();
        self.slice(head.end, head.member)
    }

    #[inline]
    fn value(self) -> &'a [u8] {
        self.parts().1
    }

    #[inline]
    fn slice(self, at: usize, len: usize) -> &'a [u8] {
        // SAFETY: called with the ranges the head describes, which `new` has initialised; the block lives for 'a (see `of`).
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().add(at), len) }
    }

    /// Puts `value` in the place of the present one if it needs the same length bytes and the same rounded size.
    ///
    /// # Safety
    /// Nothing borrowed from this block may be alive.
    unsafe fn overwrite(self, value: &[u8]) -> bool {
        let old = self.head();
        let mut bytes = [0u8; 10];
        let mut end = 0;
        write_len(&mut bytes, &mut end, value.len());
        let head_start = self.read_len(0).1;
        let new = Head { value: value.len(), ..old };
        if head_start + end != old.end || new.size() != old.size() {
            return false;
        }
        // SAFETY: both writes end within the block, as the sizes are equal; `value` is not borrowed from the block by the
        // caller's promise, so it cannot overlap it.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.as_ptr().add(head_start), end);
            std::ptr::copy_nonoverlapping(value.as_ptr(), self.0.as_ptr().add(old.end + old.member), value.len());
        }
        true
    }

    fn size(self) -> usize {
        self.head().size()
    }

    /// Frees the block and returns its size.
    ///
    /// # Safety
    /// The block must be in no table any more; neither it nor anything borrowed from it may be used afterwards.
    unsafe fn free(self) -> usize {
        let size = self.size();
        // SAFETY: `new` allocated the block with this layout, as its rounded size never changes.
        unsafe { dealloc(self.0.as_ptr(), layout(size)) };
        size
    }
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, ALIGN).expect("two lengths of 32 bits are far below isize::MAX")
}

/// Appends a length to a head of which `end` bytes are written.
fn write_len(head: &mut [u8; 10], end: &mut usize, len: usize) {
    let at = *end;
    if len < usize::from(LEN16) {
        head[at] = len as u8;
        *end += 1;
    } else if let Ok(short) = u16::try_from(len) {
        head[at] = LEN16;
        head[at + 1..at + 3].copy_from_slice(&short.to_le_bytes());
        *end += 3;
    } else {
        let long = u32::try_from(len).expect("an argument is shorter than 4 GiB");
        head[at] = LEN32;
        head[at + 1..at + 5].copy_from_slice(&long.to_le_bytes());
        *end += 5;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn hasher() -> RandomState {
        RandomState::with_seeds(1, 2, 3, 4)
    }

    #[test]
    fn blocks_are_as_tight_as_drawn() {
        for (member, value, size) in
            [(11, 5, 24), (0, 0, 8), (253, 0, 256), (254, 0, 264), (65_535, 1, 65_544), (65_536, 300, 65_848)]
        {
            let mut members = Members::<true>::new(hasher());
            let (member, value) = (vec![b'm'; member], vec![b'v'; value]);
            assert!(members.put(&member, &value) && !members.put(&member, &value));
            assert_eq!((members.get(&member), members.block_bytes), (Some(&value[..]), size));
            members.check_invariants();
        }
        let mut set = Members::<false>::new(hasher());
        assert!(set.put(b"member:1234", b""));
        assert_eq!(set.block_bytes, 16);
    }

    #[test]
    fn a_large_one_is_freed_in_slices() {
        let mut members = Members::<false>::new(hasher());
        (0..10_000u32).for_each(|i| assert!(members.put(&i.to_le_bytes(), b"")));
        let mut slices = 1;
        while !members.free_some(100) {
            slices += 1;
        }
        assert!(slices > 5 && members.is_empty());
        assert_eq!(members.block_bytes, 0);
    }

    #[test]
    fn samples_differ_and_are_even() {
        let mut members = Members::<false>::new(hasher());
        (0..200u32).for_each(|i| assert!(members.put(&i.to_le_bytes(), b"")));
        let mut random = Random::new(3);
        for count in [1, 10, 100, 199] {
            let mut drawn = [0u32; 200];
            for _ in 0..2000 {
                let mut seen = BTreeSet::new();
                members.sample(count, &mut random, &mut |member, _| {
                    let number = u32::from_le_bytes(member.try_into().unwrap());
                    drawn[number as usize] += 1;
                    assert!(seen.insert(number));
                });
                assert_eq!(seen.len(), count);
            }
            let expected = 2000.0 * count as f64 / 200.0;
            assert!(drawn.iter().all(|&n| (f64::from(n) - expected).abs() < 6.0 * expected.sqrt()), "{count}");
        }
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![9 => "[a-d]{0,3}".prop_map(String::into_bytes), 1 => (250usize..260).prop_map(|len| vec![b'x'; len])]
    }

    proptest! {
        #[test]
        fn behaves_as_a_map(steps in prop::collection::vec((bytes(), bytes(), 0u8..4), 0..300)) {
            let (mut members, mut model) = (Members::<true>::new(hasher()), BTreeMap::new());
            let mut random = Random::new(1);
            for (member, value, action) in steps {
                match action {
                    0 => prop_assert_eq!(members.remove(&member), model.remove(&member).is_some()),
                    1 if value.is_empty() => {
                        let popped = members.pop(&mut random, &mut |member| assert!(model.remove(member).is_some()));
                        prop_assert_eq!(popped, !members.is_empty() || popped);
                    }
                    _ => {
                        prop_assert_eq!(members.put(&member, &value), !model.contains_key(&member));
                        model.insert(member.clone(), value);
                    }
                }
                prop_assert_eq!(members.get(&member), model.get(&member).map(Vec::as_slice));
                prop_assert_eq!(members.len(), model.len());
            }
            members.check_invariants();
            let copy = members.clone();
            copy.check_invariants();
            let all: BTreeMap<_, _> = copy.iter().map(|(member, value)| (member.to_vec(), value.to_vec())).collect();
            prop_assert_eq!(all, model);
        }
    }
}
