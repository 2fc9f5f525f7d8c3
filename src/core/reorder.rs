//! Replies back in order: the part of a connection's output that waits for other cores.
//!
//! A command sent to another core takes a place; replies of later commands that are ready sooner are held behind it. With nothing
//! waiting this is empty and replies go straight to the output.

use std::collections::VecDeque;

/// The place of one awaited reply.
pub type Place = u32;

#[derive(Default)]
pub struct Reorder {
    /// The place of `entries[0]`; places count up and wrap.
    first: Place,
    entries: VecDeque<Entry>,
    held: Vec<u8>,
}

enum Entry {
    Awaited,
    /// Awaited, but nobody wants to see it (CLIENT REPLY OFF).
    Unwanted,
    /// A range of `held`.
    Held {
        start: usize,
        end: usize,
    },
}

impl Reorder {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of replies that are awaited or held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes held behind awaited replies.
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Takes the place for a reply that another core will give.
    pub fn await_reply(&mut self) -> Place {
        self.entries.push_back(Entry::Awaited);
        self.youngest()
    }

    /// The place of the youngest reply that is awaited or held; there is one.
    pub fn youngest(&self) -> Place {
        debug_assert!(!self.is_empty());
        self.first.wrapping_add(self.entries.len() as Place - 1)
    }

    /// Whether the reply of a place that was taken has been put out.
    pub fn has_passed(&self, place: Place) -> bool {
        (place.wrapping_sub(self.first) as i32) < 0
    }

    /// Where a local reply goes while others are awaited; call [`Reorder::held_reply`] with the length from before.
    pub fn held(&mut self) -> &mut Vec<u8> {
        &mut self.held
    }

    /// What was appended to [`Reorder::held`] since `start` is one reply.
    pub fn held_reply(&mut self, start: usize) {
        let end = self.held.len();
        self.entries.push_back(Entry::Held { start, end });
    }

    /// The reply for `place` will not be shown.
    pub fn discard(&mut self, place: Place) {
        if let Some(entry) = self.entries.get_mut(place.wrapping_sub(self.first) as usize) {
            *entry = Entry::Unwanted;
        }
    }

    /// The reply for `place` has come: appends to `out` all that is due now.
    pub fn fill(&mut self, place: Place, reply: &[u8], out: &mut Vec<u8>) {
        let index = place.wrapping_sub(self.first) as usize;
        let reply = if matches!(self.entries.get(index), Some(Entry::Unwanted)) { &[] } else { reply };
        if index == 0 && matches!(self.entries.front(), Some(Entry::Awaited | Entry::Unwanted)) {
            out.extend_from_slice(reply);
            self.advance();
            while let Some(Entry::Held { start, end }) = self.entries.front() {
                out.extend_from_slice(&self.held[*start..*end]);
                self.advance();
            }
            if self.entries.is_empty() {
                self.held.clear();
            }
        } else if let Some(entry @ (Entry::Awaited | Entry::Unwanted)) = self.entries.get_mut(index) {
            let start = self.held.len();
            self.held.extend_from_slice(reply);
            *entry = Entry::Held { start, end: self.held.len() };
        } else {
            debug_assert!(false, "a reply came for a place that awaits none");
        }
    }

    fn advance(&mut self) {
        self.entries.pop_front();
        self.first = self.first.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_leave_in_the_order_of_their_commands() {
        let mut reorder = Reorder { first: Place::MAX, ..Reorder::default() };
        let mut out = Vec::new();
        let a = reorder.await_reply();
        let start = reorder.held().len();
        reorder.held().extend_from_slice(b"b");
        reorder.held_reply(start);
        let c = reorder.await_reply();
        let d = reorder.await_reply();
        reorder.fill(d, b"d", &mut out);
        assert!(out.is_empty());
        reorder.fill(a, b"a", &mut out);
        assert_eq!(out, b"ab");
        assert!(reorder.has_passed(a) && !reorder.has_passed(c) && reorder.youngest() == d);
        reorder.fill(c, b"c", &mut out);
        assert!(reorder.has_passed(d));
        assert_eq!((out.as_slice(), reorder.is_empty(), reorder.held_bytes()), (&b"abcd"[..], true, 0));
    }
}
