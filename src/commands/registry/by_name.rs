//! Commands by name, without regard to case: the first thing that happens to every request.
//!
//! An open-addressing table keyed by the name's first eight bytes, so that the usual lookup is one multiplication and one
//! comparison of a word.

use super::Registered;

#[derive(Default)]
pub struct ByName {
    /// A power of two in size, at most half full.
    slots: Vec<Option<Slot>>,
    len: usize,
}

#[derive(Clone)]
struct Slot {
    head: u64,
    /// No other name of this length has this head.
    is_told_by_head: bool,
    name: Box<[u8]>,
    command: &'static Registered,
}

/// Up to eight bytes, for a longer word the first eight, with letters in lower case, and the length on top. Read as two or three
/// pieces that overlap, so that no loop and no call is needed. Bytes that are no letters may fall together with others.
#[inline]
fn head(word: &[u8]) -> u64 {
    let bytes = match (word.first_chunk(), word.first_chunk(), word.last_chunk()) {
        (Some(first), ..) => u64::from_le_bytes(*first),
        (None, Some(first), Some(last)) => u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32,
        _ => match *word {
            [] => 0,
            [first, ..] => u64::from(first) | u64::from(word[word.len() / 2]) << 8 | u64::from(word[word.len() - 1]) << 16,
        },
    };
    (bytes | 0x2020_2020_2020_2020) ^ (word.len() as u64) << 56
}

/// Whether a word with the head and the length of `name` is that name: eight bytes at most, and letters only.
fn is_told_by_head(name: &[u8]) -> bool {
    name.len() <= 8 && name.iter().all(u8::is_ascii_alphabetic)
}

impl ByName {
    #[inline]
    fn start(&self, head: u64) -> usize {
        (head.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as usize & (self.slots.len() - 1)
    }

    #[inline]
    pub fn get(&self, word: &[u8]) -> Option<&'static Registered> {
        if self.slots.is_empty() {
            return None;
        }
        let head = head(word);
        let mut at = self.start(head);
        while let Some(slot) = &self.slots[at] {
            let same = |slot: &Slot| {
                if slot.is_told_by_head { slot.name.len() == word.len() } else { slot.name.eq_ignore_ascii_case(word) }
            };
            if slot.head == head && same(slot) {
                return Some(slot.command);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        None
    }

    /// The name must not be there yet.
    pub fn insert(&mut self, name: &[u8], command: &'static Registered) {
        if 2 * (self.len + 1) > self.slots.len() {
            let bigger = vec![None; (self.slots.len() * 2).max(64)];
            let old = std::mem::replace(&mut self.slots, bigger);
            old.into_iter().flatten().for_each(|slot| self.place(slot));
        }
        self.len += 1;
        self.place(Slot { head: head(name), is_told_by_head: is_told_by_head(name), name: name.into(), command });
    }

    fn place(&mut self, slot: Slot) {
        let mut at = self.start(slot.head);
        while self.slots[at].is_some() {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = Some(slot);
    }

    /// Rare (`rename-command`): rebuilds the table.
    pub fn remove(&mut self, name: &[u8]) -> Option<&'static Registered> {
        let command = self.get(name)?;
        let size = self.slots.len();
        let old = std::mem::replace(&mut self.slots, vec![None; size]);
        old.into_iter().flatten().filter(|slot| !slot.name.eq_ignore_ascii_case(name)).for_each(|slot| self.place(slot));
        self.len -= 1;
        Some(command)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &'static Registered)> {
        self.slots.iter().flatten().map(|slot| (&*slot.name, slot.command))
    }

    pub fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::registry::Registry;
    use std::collections::HashMap;

    #[test]
    fn names_and_only_names_are_found() {
        let registry = Registry::new();
        let names: HashMap<&[u8], _> = registry.commands().map(|(name, command)| (name, command.index)).collect();
        let check = |word: &[u8]| {
            let found = registry.by_word(word).map(|command| command.index);
            assert_eq!(found, names.get(&*word.to_ascii_lowercase()).copied(), "{:?}", String::from_utf8_lossy(word));
        };
        check(b"");
        for name in names.keys() {
            check(name);
            check(&name.to_ascii_uppercase());
            for at in 0..name.len() {
                check(&[&name[..at], &name[at + 1..]].concat());
                check(&[&name[..=at], &name[at..]].concat());
                let mut other = name.to_vec();
                for byte in 0..=u8::MAX {
                    other[at] = byte;
                    check(&other);
                    check(&[&other[..=at], &other[at..]].concat());
                }
            }
        }
    }
}
