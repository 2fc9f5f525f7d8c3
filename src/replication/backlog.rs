//! The newest part of the stream, in memory: what replicas that were away for a while continue from, and what those that are here
//! are being sent.
//!
//! One copy, however many replicas: each has only a place in it, and is lent [`Chunk`]s of it.
//!
//! ```text
//!  first byte                                    end (the history's offset)
//!   ▼                                              ▼
//!   ├── block ──┼── block ──┼── block ──┼── block ─┤◀─ append
//!                     ▲                         ▲
//!                 replica 2                 replica 1
//! ```
//!
//! Blocks are dropped whole from the front once more than `repl-backlog-size` is behind them, except those that a replica still has
//! to be sent: as in Redis 7 the backlog then grows, and whoever keeps it from shrinking is cut off by its output limits, which
//! [`primary`](super::primary) watches. A block that is lent lives on until it is given back, also beyond the backlog.
//!
//! Appending copies once; finding a place is a binary search over the blocks.

use std::collections::VecDeque;
use std::ops::{Deref, Range};
use std::sync::Arc;

use super::history::{Offset, signed};

/// Least size of a backlog, whatever the configuration says.
pub const BACKLOG_BYTES_MIN: u64 = 16 << 10;
/// Blocks have at least this limit. Above it a 16th of the backlog, so that little more than the backlog's size is kept.
const BLOCK_BYTES_MIN: usize = 16 << 10;
/// A last block shorter than this is copied rather than left behind when it has to grow while it is lent.
const COPIED_BYTES_MAX: usize = 4 << 10;

/// Bytes on their way to somebody. Cheap to clone; what is lent of a backlog shares its memory.
#[derive(Clone, Debug)]
pub struct Chunk {
    bytes: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(self.range.clone()).unwrap_or_default()
    }
}

impl From<Vec<u8>> for Chunk {
    fn from(bytes: Vec<u8>) -> Chunk {
        Chunk { range: 0..bytes.len(), bytes: Arc::new(bytes) }
    }
}

#[derive(Debug)]
pub struct Backlog {
    /// `repl-backlog-size`.
    bytes_wanted: u64,
    /// Not one of them is empty.
    blocks: VecDeque<Block>,
    /// The first place from which everything is here.
    start: Offset,
    end: Offset,
}

#[derive(Debug)]
struct Block {
    start: Offset,
    bytes: Arc<Vec<u8>>,
}

impl Block {
    fn end(&self) -> Offset {
        self.start.plus(self.bytes.len() as u64)
    }
}

impl Backlog {
    /// An empty one for a history that has come to `at`.
    pub fn new(bytes_wanted: u64, at: Offset) -> Backlog {
        let mut backlog = Backlog { bytes_wanted: 0, blocks: VecDeque::new(), start: at, end: at };
        backlog.resize(bytes_wanted);
        backlog
    }

    /// Another `repl-backlog-size`. What is too much goes with the next [`Backlog::trim`].
    pub fn resize(&mut self, bytes_wanted: u64) {
        self.bytes_wanted = bytes_wanted.max(BACKLOG_BYTES_MIN);
    }

    /// `repl_backlog_size`.
    pub fn size(&self) -> u64 {
        self.bytes_wanted
    }

    /// `repl_backlog_first_byte_offset`.
    pub fn first_byte(&self) -> i64 {
        signed(self.start.next_byte())
    }

    /// `repl_backlog_histlen`.
    pub fn len(&self) -> u64 {
        self.end.since(self.start)
    }

    /// Where it ends: the offset of its history.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Memory of the stream, bytes.
    pub fn heap_bytes(&self) -> usize {
        self.blocks.iter().map(|block| block.bytes.capacity() + size_of::<Block>()).sum()
    }

    /// Whether everything from this place on is here.
    pub fn covers(&self, place: Offset) -> bool {
        (self.start..=self.end).contains(&place)
    }

    pub fn append(&mut self, mut bytes: &[u8]) {
        let block_bytes = BLOCK_BYTES_MIN.max((self.bytes_wanted / 16).min(1 << 30) as usize);
        while !bytes.is_empty() {
            let room = self.blocks.back_mut().and_then(|block| growing(&mut block.bytes, block_bytes));
            let taken = match room {
                Some(last) => {
                    let taken = bytes.len().min(block_bytes - last.len());
                    last.extend_from_slice(&bytes[..taken]);
                    taken
                }
                None => {
                    let taken = bytes.len().min(block_bytes);
                    self.blocks.push_back(Block { start: self.end, bytes: Arc::new(bytes[..taken].to_vec()) });
                    taken
                }
            };
            self.end = self.end.plus(taken as u64);
            bytes = &bytes[taken..];
        }
    }

    /// Drops what is beyond the wanted size, but nothing behind `needed`, the least place from which anyone is being sent.
    pub fn trim(&mut self, needed: Option<Offset>) {
        while self.blocks.len() > 1
            && let Some(first) = self.blocks.front()
            && self.end.since(first.end()) >= self.bytes_wanted
            && needed.is_none_or(|needed| first.end() <= needed)
        {
            self.start = first.end();
            self.blocks.pop_front();
        }
    }

    /// The bytes from this place to the end of their block, `bytes_max` at most; `None` where nothing follows or nothing is kept.
    pub fn chunk(&self, place: Offset, bytes_max: usize) -> Option<Chunk> {
        if place < self.start || place >= self.end {
            return None;
        }
        let block = self.blocks.get(self.blocks.partition_point(|block| block.end() <= place))?;
        let from = place.since(block.start) as usize;
        let to = block.bytes.len().min(from.saturating_add(bytes_max));
        Some(Chunk { bytes: block.bytes.clone(), range: from..to })
    }

    /// All bytes from this place on, piece by piece.
    pub fn since(&self, place: Offset) -> impl Iterator<Item = &[u8]> {
        let first = self.blocks.partition_point(|block| block.end() <= place);
        self.blocks.iter().skip(first).map(move |block| block.bytes.get(place.since(block.start) as usize..).unwrap_or_default())
    }
}

/// The last block, if it may still grow. Those who were lent a part of it keep what they have.
fn growing(bytes: &mut Arc<Vec<u8>>, block_bytes: usize) -> Option<&mut Vec<u8>> {
    match bytes.len() {
        len if len >= block_bytes => None,
        len if len < COPIED_BYTES_MAX => Some(Arc::make_mut(bytes)),
        _ => Arc::get_mut(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The byte at each place of a long stream.
    fn byte(place: u64) -> u8 {
        (place.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
    }

    fn text(from: u64, len: u64) -> Vec<u8> {
        (from..from + len).map(byte).collect()
    }

    fn all(backlog: &Backlog) -> Vec<u8> {
        backlog.since(backlog.start).flatten().copied().collect()
    }

    #[test]
    fn the_newest_bytes_are_kept() {
        let mut backlog = Backlog::new(1, Offset(1000));
        assert_eq!((backlog.size(), backlog.first_byte(), backlog.len()), (BACKLOG_BYTES_MIN, 1001, 0));
        assert!(backlog.covers(Offset(1000)) && backlog.chunk(Offset(1000), 10).is_none());
        let mut end = 1000;
        for len in [1, 0, 100_000, 5, 20_000, 16_384, 16_383, 70] {
            backlog.append(&text(end, len));
            backlog.trim(None);
            end += len;
            assert_eq!(all(&backlog), text(backlog.start.0, backlog.len()));
            assert_eq!(
                (backlog.end(), backlog.first_byte() as u64 + backlog.len() - 1),
                (Offset(end), end),
                "as INFO must add up"
            );
        }
        assert!((BACKLOG_BYTES_MIN..BACKLOG_BYTES_MIN + BLOCK_BYTES_MIN as u64).contains(&backlog.len()), "{}", backlog.len());
        assert!(!backlog.covers(Offset(1000)) && !backlog.covers(Offset(end + 1)) && backlog.covers(Offset(end)));
        assert!(backlog.chunk(Offset(1000), 10).is_none() && backlog.chunk(Offset(end), 10).is_none());
    }

    #[test]
    fn what_a_replica_needs_stays_and_what_is_lent_is_not_touched() {
        let mut backlog = Backlog::new(0, Offset(0));
        backlog.append(&text(0, 10));
        let lent = backlog.chunk(Offset(3), 100).unwrap();
        for at in 1..20_000 {
            backlog.append(&text(at * 10, 10));
            backlog.trim(Some(Offset(3)));
        }
        assert_eq!((&*lent, backlog.len()), (&text(3, 7)[..], 200_000));
        backlog.trim(Some(Offset(150_000)));
        assert!(backlog.covers(Offset(150_000)) && backlog.first_byte() > 100_000);
        backlog.resize(1 << 20);
        backlog.append(&text(200_000, 2_000_000));
        backlog.trim(None);
        assert!((1 << 20..1_200_000).contains(&backlog.len()), "{}", backlog.len());
        assert_eq!(&*lent, text(3, 7), "though its block is gone");
    }

    #[test]
    fn small_appends_while_a_replica_reads_do_not_scatter() {
        let mut backlog = Backlog::new(1 << 20, Offset(0));
        let mut lent = Vec::new();
        for at in 0..10_000 {
            backlog.append(&text(at * 30, 30));
            lent = vec![backlog.chunk(Offset(at * 30), 1000).unwrap()];
        }
        assert!(backlog.blocks.len() < 100 && backlog.heap_bytes() < 700_000, "{}", backlog.heap_bytes());
        assert_eq!(&*lent[0], text(9999 * 30, 30));
    }

    proptest! {
        #[test]
        fn any_reader_sees_the_stream(
            appended in proptest::collection::vec(0u64..40_000, 1..40),
            wanted in 0u64..200_000,
            from in 0u64..300_000,
            step in 1usize..50_000,
        ) {
            let (mut backlog, mut end, mut place) = (Backlog::new(wanted, Offset(7)), 7, None);
            for len in appended {
                backlog.append(&text(end, len));
                end += len;
                if place.is_none() && backlog.covers(Offset(from)) {
                    place = Some(Offset(from));
                }
                backlog.trim(place);
                if let Some(place) = &mut place {
                    prop_assert!(backlog.covers(*place));
                    if let Some(chunk) = backlog.chunk(*place, step) {
                        prop_assert_eq!(&*chunk, &text(place.0, chunk.len() as u64)[..]);
                        *place = place.plus(chunk.len() as u64);
                    }
                }
                prop_assert_eq!(backlog.end(), Offset(end));
            }
        }
    }
}
