//! `IntSet`: a set of integers as a sorted array of the narrowest width that holds them all.
//!
//! Owns the small form of sets of integers. Refuses to know when a set has become too large for it. One allocation, 2, 4 or
//! 8 bytes per member; the width is the array's size divided by its count and therefore stored nowhere. A member that
//! needs a greater width rewrites the array once; it never narrows again, as members of one set tend to be alike.
//!
//! A look-up is a binary search, an edit one memmove besides.

use super::thin::Thin;

/// Sorted distinct integers behind one pointer. Invariant: the buffer is `tag` times 2, 4 or 8 bytes.
#[derive(Clone, Default)]
pub struct IntSet(Thin);

const _: () = assert!(size_of::<IntSet>() == 8 && size_of::<Option<IntSet>>() == 8);

impl IntSet {
    pub const fn new() -> Self {
        IntSet(Thin::new())
    }

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

    pub fn contains(&self, member: i64) -> bool {
        self.search(member).is_ok()
    }

    /// The member number `index` in ascending order.
    pub fn get(&self, index: usize) -> Option<i64> {
        (index < self.len()).then(|| read(self.0.bytes(), self.width(), index))
    }

    /// The members in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = i64> + ExactSizeIterator + Clone + '_ {
        let (data, width) = (self.0.bytes(), self.width());
        (0..self.len()).map(move |index| read(data, width, index))
    }

    /// True if the member is new. (Also false, and nothing changed, where the array would exceed 4 GiB.)
    pub fn insert(&mut self, member: i64) -> bool {
        let Err(index) = self.search(member) else { return false };
        let (old_width, count) = (self.width(), self.len());
        let width = old_width.max(width_of(member));
        let Ok(new_len) = u32::try_from((count + 1) * width) else { return false };
        self.0.resize(new_len);
        let data = self.0.bytes_mut();
        if width == old_width {
            data.copy_within(index * width..count * width, (index + 1) * width);
        } else {
            // Backwards, so that no member is overwritten before it is read.
            for old in (0..count).rev() {
                let value = read(data, old_width, old);
                write(data, width, old + (old >= index) as usize, value);
            }
        }
        write(data, width, index, member);
        self.0.set_tag(count as u32 + 1);
        true
    }

    /// True if the member was there.
    pub fn remove(&mut self, member: i64) -> bool {
        let Ok(index) = self.search(member) else { return false };
        let (width, count) = (self.width(), self.len());
        self.0.bytes_mut().copy_within((index + 1) * width..count * width, index * width);
        self.0.resize(((count - 1) * width) as u32);
        self.0.set_tag(count as u32 - 1);
        true
    }

    /// Panics unless the members ascend and the width is one of the three. For tests.
    pub fn check_invariants(&self) {
        assert_eq!(self.0.len(), self.len() * self.width());
        assert!(matches!(self.width(), 2 | 4 | 8));
        assert!(self.iter().zip(self.iter().skip(1)).all(|(a, b)| a < b));
        assert!(self.iter().all(|member| width_of(member) <= self.width()));
    }

    /// Bytes per member.
    fn width(&self) -> usize {
        let (len, count) = (self.0.len(), self.len());
        if len == 2 * count {
            2
        } else if len == 4 * count {
            4
        } else {
            8
        }
    }

    /// Where the member is, or where it would have to be inserted.
    fn search(&self, member: i64) -> Result<usize, usize> {
        let (data, count) = (self.0.bytes(), self.len());
        match self.width() {
            2 => search_in::<2>(data, count, member),
            4 => search_in::<4>(data, count, member),
            _ => search_in::<8>(data, count, member),
        }
    }
}

impl FromIterator<i64> for IntSet {
    fn from_iter<I: IntoIterator<Item = i64>>(members: I) -> Self {
        let mut set = IntSet::new();
        members.into_iter().for_each(|member| _ = set.insert(member));
        set
    }
}

#[inline]
fn search_in<const WIDTH: usize>(data: &[u8], count: usize, member: i64) -> Result<usize, usize> {
    // Ascending insertion, the commonest order, needs no search.
    if count == 0 || read(data, WIDTH, count - 1) < member {
        return Err(count);
    }
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        let found = read(data, WIDTH, middle);
        if found == member {
            return Ok(middle);
        }
        if found < member { low = middle + 1 } else { high = middle }
    }
    Err(low)
}

fn width_of(member: i64) -> usize {
    if i16::try_from(member).is_ok() {
        2
    } else if i32::try_from(member).is_ok() {
        4
    } else {
        8
    }
}

/// The member number `index`, which must be inside `data`.
#[inline]
fn read(data: &[u8], width: usize, index: usize) -> i64 {
    let at = index * width;
    match data[at..at + width] {
        [a, b] => i16::from_le_bytes([a, b]) as i64,
        [a, b, c, d] => i32::from_le_bytes([a, b, c, d]) as i64,
        [a, b, c, d, e, f, g, h] => i64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => unreachable!("widths are 2, 4 and 8"),
    }
}

#[inline]
fn write(data: &mut [u8], width: usize, index: usize, member: i64) {
    let at = index * width;
    data[at..at + width].copy_from_slice(&member.to_le_bytes()[..width]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn widths_and_sizes() {
        let mut set: IntSet = [5, -1, 3].into_iter().collect();
        assert_eq!((set.bytes(), set.iter().collect::<Vec<_>>()), (16, vec![-1, 3, 5]));
        assert!(set.insert(40_000) && !set.insert(5));
        assert_eq!((set.width(), set.get(3), set.get(4)), (4, Some(40_000), None));
        assert!(set.insert(i64::MIN) && set.insert(i64::MAX));
        assert_eq!((set.width(), set.get(0), set.get(5)), (8, Some(i64::MIN), Some(i64::MAX)));
        assert!(set.contains(-1) && !set.contains(0) && !set.remove(0));
        for member in [i64::MIN, -1, 3, 5, 40_000, i64::MAX] {
            assert!(set.remove(member));
            set.check_invariants();
        }
        assert_eq!((set.len(), set.bytes(), set.width()), (0, 0, 2));
    }

    proptest! {
        #[test]
        fn behaves_as_a_sorted_set(steps in prop::collection::vec((any::<i64>(), 40u32..64, any::<bool>(), any::<bool>()), 0..80)) {
            let (mut set, mut model) = (IntSet::new(), BTreeSet::new());
            for (raw, shift, add, wide) in steps {
                let member = if wide { raw >> (shift - 40) } else { raw >> shift.max(59) };
                if add {
                    prop_assert_eq!(set.insert(member), model.insert(member));
                } else {
                    prop_assert_eq!(set.remove(member), model.remove(&member));
                }
                set.check_invariants();
                prop_assert_eq!(set.contains(member), add);
                prop_assert!(set.iter().eq(model.iter().copied()));
                prop_assert_eq!((set.len(), set.get(0)), (model.len(), model.first().copied()));
                prop_assert!(set.clone().iter().rev().eq(model.iter().rev().copied()));
            }
        }
    }
}
