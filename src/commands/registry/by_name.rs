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
    name: Box<[u8]>,
    command: &'static Registered,
}

/// The first eight bytes with letters in lower case, and the length on top. Bytes that are no letters may fall together with
/// others; the whole name is compared afterwards.
#[inline]
fn head(word: &[u8]) -> u64 {
    let mut bytes = [0u8; 8];
    let len = word.len().min(8);
    bytes[..len].copy_from_slice(&word[..len]);
    (u64::from_le_bytes(bytes) | 0x2020_2020_2020_2020) ^ (word.len() as u64) << 56
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
            if slot.head == head && slot.name.eq_ignore_ascii_case(word) {
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
        self.place(Slot { head: head(name), name: name.into(), command });
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
