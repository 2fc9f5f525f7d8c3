//! First key, last key, step: the older way of saying where keys are, which COMMAND INFO still shows.

use super::{BeginSearch, FindKeys, KeyAccess, Spec};

/// Argument positions; `last` below 0 counts from the end. All 0: no keys that can be said this way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LegacyRange {
    pub first: i32,
    pub last: i32,
    pub step: i32,
    /// There are keys beyond the range, or other words between its keys.
    pub movable: bool,
}

impl LegacyRange {
    /// Derived from the key specs by redis-server's rule: one range is taken as it is; of several, those that are plain and follow
    /// each other are joined.
    pub fn of(spec: &Spec) -> LegacyRange {
        let ranges = spec.keys.iter().map(|key| match (key.begin, key.find) {
            (BeginSearch::Index(first), FindKeys::Range { last, step, .. }) => {
                Some((first, if last >= 0 { first + last } else { last }, step, key.access.has(KeyAccess::INCOMPLETE)))
            }
            _ => None,
        });
        let ranges: Vec<_> = ranges.collect();
        if let [Some((first, last, step, movable))] = ranges[..] {
            return LegacyRange { first, last, step, movable };
        }
        let mut joined = LegacyRange::default();
        for range in &ranges {
            match *range {
                Some((first, last, 1, incomplete)) if joined.last == 0 || joined.last == first - 1 => {
                    joined.first = if joined.first == 0 { first } else { joined.first.min(first) };
                    // As unsigned numbers: an end counted from the back is beyond any other.
                    joined.last = (joined.last as u32).max(last as u32) as i32;
                    joined.step = 1;
                    joined.movable |= incomplete;
                }
                _ => joined.movable = true,
            }
        }
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::KeySpec;

    fn range(keys: &'static [KeySpec]) -> (i32, i32, i32, bool) {
        let LegacyRange { first, last, step, movable } = LegacyRange::of(&Spec { keys, ..Spec::DEFAULT });
        (first, last, step, movable)
    }

    /// Key specs of commands, and what redis-server 7.0.15 shows for them.
    #[test]
    fn ranges_are_derived_as_redis_does() {
        const RO: KeyAccess = KeyAccess::RO;
        assert_eq!(range(&[]), (0, 0, 0, false), "PING");
        assert_eq!(range(const { &[KeySpec::range(1, -1, 2, RO)] }), (1, -1, 2, false), "MSET");
        assert_eq!(range(const { &[KeySpec::one(1, RO), KeySpec::one(2, RO)] }), (1, 2, 1, false), "LMOVE");
        assert_eq!(range(const { &[KeySpec::one(1, RO), KeySpec::range(2, -1, 1, RO)] }), (1, -1, 1, false), "SDIFFSTORE");
        assert_eq!(range(const { &[KeySpec::one(1, RO), KeySpec::count(2, RO)] }), (1, 1, 1, true), "ZUNIONSTORE");
        assert_eq!(range(const { &[KeySpec::count(1, RO)] }), (0, 0, 0, true), "SINTERCARD");
        assert_eq!(range(const { &[KeySpec::one(1, RO.with(KeyAccess::INCOMPLETE))] }), (1, 1, 1, true), "incomplete");
    }
}
