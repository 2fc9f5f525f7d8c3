//! `Packed`: a sequence of byte strings in one allocation.
//!
//! Owns the small form of hashes (field, value, field, value…), sorted sets (member, score…) and sets. Refuses to know which
//! of them it is, when it has become too large, and any order among its elements. Elements stand one behind the other
//! in the encoding of [`item`](super::item), with one byte of overhead for a short string and no link backwards: everything
//! walks forwards, which for the few elements of a small value is a cache line or two.
//!
//! An edit costs a memmove of what lies behind it, a search a walk with one byte compared per element. Nothing panics, whatever
//! the input: a position that is not one yields None or false.

use super::item::{Encoded, Item, encoded_size};
use super::thin::Thin;

/// A sequence of byte strings behind one pointer. Invariant: the buffer holds `tag` whole elements and nothing else.
#[derive(Clone, Default)]
pub struct Packed(Thin);

/// Where an element starts. Edits before it make it stale: it may then denote nothing, or something meaningless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos(u32);

const _: () = assert!(size_of::<Packed>() == 8 && size_of::<Option<Packed>>() == 8);

impl Packed {
    pub const fn new() -> Self {
        Packed(Thin::new())
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.0.tag() as usize
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Heap bytes, with the allocator's rounding.
    pub fn bytes(&self) -> usize {
        self.0.heap_bytes()
    }

    /// Bytes of the encoded elements.
    pub fn encoded_bytes(&self) -> usize {
        self.0.len()
    }

    pub fn first(&self) -> Option<Pos> {
        self.check(Pos(0))
    }

    /// The position behind the last element, where `insert` appends.
    pub fn end(&self) -> Pos {
        Pos(self.0.len() as u32)
    }

    /// The position behind the element at `pos`; None if there is no element there.
    #[inline]
    pub fn next(&self, pos: Pos) -> Option<Pos> {
        let at = pos.0 as usize;
        let rest = self.0.bytes().get(at..)?;
        self.check(Pos(u32::try_from(at + encoded_size(rest)).ok()?))
    }

    #[inline]
    pub fn at(&self, pos: Pos) -> Option<Item<'_>> {
        Some(Item::decode(self.0.bytes().get(pos.0 as usize..)?)?.0)
    }

    /// Position of the element number `index`.
    pub fn seek(&self, index: usize) -> Option<Pos> {
        if index >= self.len() {
            return None;
        }
        let data = self.0.bytes();
        let at = skip(data, 0, index);
        (at < data.len()).then_some(Pos(at as u32))
    }

    pub fn get(&self, index: usize) -> Option<Item<'_>> {
        self.at(self.seek(index)?)
    }

    /// The first element equal to `needle` among those number 0, `step`, 2·`step`… (1: all, 2: the fields of a hash).
    #[inline]
    pub fn find(&self, needle: &[u8], step: usize) -> Option<Pos> {
        let needle = Encoded::new(needle);
        let first = needle.first_byte();
        let data = self.0.bytes();
        let mut at = 0;
        while let Some(&byte) = data.get(at) {
            if byte == first && needle.starts(&data[at..]) {
                return Some(Pos(at as u32));
            }
            at = skip(data, at, step.max(1));
        }
        None
    }

    /// Whether the element at `pos` is this one.
    #[inline]
    pub fn is_at(&self, pos: Pos, needle: &Encoded<'_>) -> bool {
        self.0.bytes().get(pos.0 as usize..).is_some_and(|rest| needle.starts(rest))
    }

    /// The encodings of the elements number 0, `step`, 2·`step`…
    pub fn encoded(&self, step: usize) -> impl Iterator<Item = &[u8]> + '_ {
        let data = self.0.bytes();
        let mut at = 0;
        std::iter::from_fn(move || {
            let rest = data.get(at..).filter(|rest| !rest.is_empty())?;
            let element = rest.get(..encoded_size(rest))?;
            at = skip(data, at, step.max(1));
            Some(element)
        })
    }

    /// A sequence of these, made at once; their encodings fit into 4 GiB.
    pub fn of<'a>(elements: impl Iterator<Item = &'a [u8]> + Clone) -> Packed {
        let (count, bytes) =
            elements.clone().fold((0, 0), |(count, bytes), element| (count + 1, bytes + Encoded::new(element).size()));
        let mut packed = Packed::new();
        packed.0.resize(u32::try_from(bytes).expect("the caller's promise"));
        let mut at = 0;
        for element in elements {
            let element = Encoded::new(element);
            element.write(&mut packed.0.bytes_mut()[at..]);
            at += element.size();
        }
        packed.0.set_tag(count);
        packed
    }

    /// A sequence of its own of the elements number `first`, `first` + 2…
    pub fn every_second(&self, first: usize) -> Packed {
        Packed::of_encoded(|| self.encoded(1).skip(first).step_by(2))
    }

    /// The elements of two sequences of one length in turns.
    pub fn in_turns(first: &Packed, second: &Packed) -> Packed {
        Packed::of_encoded(|| first.encoded(1).zip(second.encoded(1)).flat_map(|(first, second)| [first, second]))
    }

    fn of_encoded<'a, I: Iterator<Item = &'a [u8]>>(elements: impl Fn() -> I) -> Packed {
        let (count, bytes) = elements().fold((0, 0), |(count, bytes), element| (count + 1, bytes + element.len()));
        let mut packed = Packed::new();
        packed.0.resize(u32::try_from(bytes).expect("parts of what fits into 4 GiB, or two of them far below"));
        let mut rest = packed.0.bytes_mut();
        for element in elements() {
            let (place, behind) = rest.split_at_mut(element.len());
            place.copy_from_slice(element);
            rest = behind;
        }
        packed.0.set_tag(count);
        packed
    }

    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: self.0.bytes(), left: self.len() }
    }

    /// Length of the longest element as a byte string; 0 if there is none.
    pub fn max_item_len(&self) -> usize {
        self.iter().map(Item::len).max().unwrap_or(0)
    }

    /// Appends an element. As for all edits, false says that it would not fit into 4 GiB, and that nothing was changed.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        self.insert(self.end(), bytes)
    }

    /// Appends the decimal form of `int`.
    pub fn push_int(&mut self, int: i64) -> bool {
        self.splice(self.0.len(), 0, Some(&Encoded::int(int)))
    }

    /// Puts an element before the one at `pos`.
    pub fn insert(&mut self, pos: Pos, bytes: &[u8]) -> bool {
        self.splice(pos.0 as usize, 0, Some(&Encoded::new(bytes)))
    }

    /// Puts `bytes` in the place of the element at `pos`, which stays a valid position.
    pub fn replace(&mut self, pos: Pos, bytes: &[u8]) -> bool {
        self.splice(pos.0 as usize, 1, Some(&Encoded::new(bytes)))
    }

    /// Removes `count` elements from `pos` on; false, and none removed, if they are not all there. `pos` is then what followed.
    pub fn remove(&mut self, pos: Pos, count: usize) -> bool {
        self.splice(pos.0 as usize, count, None)
    }

    pub fn clear(&mut self) {
        self.0 = Thin::new();
    }

    /// Panics unless the buffer is exactly `len` elements in their only encoding. For tests.
    pub fn check_invariants(&self) {
        let data = self.0.bytes();
        let (mut at, mut count) = (0, 0);
        while at < data.len() {
            let (item, size) = Item::decode(&data[at..]).expect("whole elements only");
            item.with_bytes(|bytes| assert!(Encoded::new(bytes).starts(&data[at..]), "one encoding for each string"));
            at += size;
            count += 1;
        }
        assert_eq!((at, count), (data.len(), self.len()));
    }

    /// Replaces `removed` elements from byte `at` on by the one given, if any; all or nothing.
    fn splice(&mut self, at: usize, removed: usize, added: Option<&Encoded<'_>>) -> bool {
        let (len, count) = (self.0.len(), self.len());
        let end = if removed <= count { skip(self.0.bytes(), at, removed) } else { usize::MAX };
        if at > len || end > len {
            return false;
        }
        let added_size = added.map_or(0, Encoded::size);
        let new_count = count - removed + added.is_some() as usize;
        let new_len = added_size.checked_add(len - (end - at));
        let (Some(Ok(new_len)), Ok(new_count)) = (new_len.map(u32::try_from), u32::try_from(new_count)) else {
            return false;
        };
        let new_end = at + added_size;
        if new_len as usize >= len {
            self.0.resize(new_len);
            self.0.bytes_mut().copy_within(end..len, new_end);
        } else {
            self.0.bytes_mut().copy_within(end..len, new_end);
            self.0.resize(new_len);
        }
        if let Some(added) = added {
            added.write(&mut self.0.bytes_mut()[at..]);
        }
        self.0.set_tag(new_count);
        true
    }

    fn check(&self, pos: Pos) -> Option<Pos> {
        ((pos.0 as usize) < self.0.len()).then_some(pos)
    }
}

/// Byte position `count` elements behind `at`; past the end of `data` if they are not there.
#[inline]
fn skip(data: &[u8], mut at: usize, count: usize) -> usize {
    for _ in 0..count {
        let Some(rest) = data.get(at..) else { break };
        at += encoded_size(rest);
    }
    at
}

/// The elements in their order.
#[derive(Clone)]
pub struct Iter<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        let (item, size) = Item::decode(self.rest)?;
        self.rest = &self.rest[size..];
        self.left = self.left.saturating_sub(1);
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, None)
    }
}

impl<'a> IntoIterator for &'a Packed {
    type Item = Item<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed(items: &[&str]) -> Packed {
        let mut packed = Packed::new();
        for item in items {
            assert!(packed.push(item.as_bytes()));
        }
        packed.check_invariants();
        packed
    }

    #[test]
    fn a_small_hash() {
        let mut hash = packed(&["name", "x", "x", "name", "17", "-3"]);
        assert_eq!(hash.encoded_bytes(), 5 + 2 + 2 + 5 + 1 + 2);
        assert_eq!(hash.bytes(), 32);
        let x = hash.find(b"x", 2).unwrap();
        assert_eq!(hash.seek(2), Some(x));
        assert_eq!(hash.seek(1), hash.find(b"x", 1));
        assert_eq!(hash.at(hash.next(x).unwrap()), Some(Item::Bytes(b"name")));
        assert_eq!(hash.at(hash.find(b"17", 2).unwrap()), Some(Item::Int(17)));
        assert_eq!(hash.find(b"017", 1), None);
        assert!(hash.replace(hash.next(x).unwrap(), b"a longer value"));
        assert!(hash.remove(x, 2));
        assert_eq!((hash.len(), hash.max_item_len()), (4, 4));
        assert!(!hash.remove(x, 3));
        hash.check_invariants();
        assert!(hash.remove(hash.first().unwrap(), 4));
        assert_eq!((hash.len(), hash.bytes()), (0, 0));
    }

    #[test]
    fn positions_that_are_none_change_nothing() {
        let mut packed = packed(&["a", "b"]);
        for pos in [4, 5, 1000, u32::MAX].map(Pos) {
            assert!(packed.at(pos).is_none() && packed.next(pos).is_none());
            assert!(!packed.replace(pos, b"c") && !packed.remove(pos, 1));
            assert!(pos == packed.end() || !packed.insert(pos, b"c"));
        }
        assert!(packed.next(packed.seek(1).unwrap()).is_none());
        assert!(!packed.remove(Pos(0), usize::MAX));
        assert_eq!(packed.find(b"b", 0), packed.find(b"b", 1));
        packed.check_invariants();
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(Vec<u8>),
        Insert(usize, Vec<u8>),
        Replace(usize, Vec<u8>),
        Remove(usize, usize),
        Find(usize, usize),
        Clear,
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => "[a-c]{0,3}".prop_map(String::into_bytes),
            3 => (any::<i64>(), 0u32..64).prop_map(|(int, shift)| (int >> shift).to_string().into_bytes()),
            1 => (0usize..600).prop_map(|len| vec![b'y'; len]),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => bytes().prop_map(Step::Push),
            3 => (0usize..30, bytes()).prop_map(|(i, b)| Step::Insert(i, b)),
            3 => (0usize..30, bytes()).prop_map(|(i, b)| Step::Replace(i, b)),
            3 => (0usize..30, 0usize..4).prop_map(|(i, n)| Step::Remove(i, n)),
            3 => (0usize..30, 1usize..3).prop_map(|(i, n)| Step::Find(i, n)),
            1 => Just(Step::Clear),
        ]
    }

    proptest! {
        #[test]
        fn behaves_as_a_vector(steps in prop::collection::vec(step(), 0..60)) {
            let (mut packed, mut model) = (Packed::new(), Vec::<Vec<u8>>::new());
            for step in steps {
                match step {
                    Step::Push(b) => { prop_assert!(packed.push(&b)); model.push(b); }
                    Step::Insert(i, b) => {
                        let pos = packed.seek(i).unwrap_or(packed.end());
                        prop_assert!(packed.insert(pos, &b));
                        model.insert(i.min(model.len()), b);
                    }
                    Step::Replace(i, b) => match packed.seek(i) {
                        Some(pos) => { prop_assert!(packed.replace(pos, &b)); model[i] = b; }
                        None => prop_assert!(i >= model.len()),
                    },
                    Step::Remove(i, n) => match packed.seek(i) {
                        Some(pos) => {
                            let whole = i + n <= model.len();
                            prop_assert_eq!(packed.remove(pos, n), whole);
                            if whole { model.drain(i..i + n); }
                        }
                        None => prop_assert!(i >= model.len()),
                    },
                    Step::Find(i, n) => if let Some(needle) = model.get(i) {
                        let want = (0..model.len()).step_by(n).find(|&i| &model[i] == needle);
                        prop_assert_eq!(packed.find(needle, n), want.and_then(|i| packed.seek(i)));
                    },
                    Step::Clear => { packed.clear(); model.clear(); }
                }
                packed.check_invariants();
                prop_assert_eq!(packed.len(), model.len());
                prop_assert!(packed.iter().map(Item::to_vec).eq(model.iter().cloned()));
                prop_assert!(packed.clone().iter().eq(packed.iter()));
                prop_assert_eq!(packed.max_item_len(), model.iter().map(Vec::len).max().unwrap_or(0));
            }
        }
    }
}
