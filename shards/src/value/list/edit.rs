//! Edits in the inside of a list: LSET, LINSERT, LREM.
//!
//! Owns how chunks stay within the limits: one that becomes too large is halved, and neighbours that together fill less than
//! three quarters of a chunk after a removal are joined. An edit rebuilds its chunk, and LINSERT and LREM walk to it.

use std::collections::VecDeque;
use std::ops::Range;

use super::super::chunk::{Chunk, entry_size, first, offset, write_entry};
use super::super::item::Encoded;
use super::{List, ListLimit, Place, Repr, Ring};

impl List {
    /// Replaces the element at `index`, which counts from the tail if negative; false if there is none.
    pub fn set(&mut self, index: i64, bytes: &[u8], limit: ListLimit) -> bool {
        let Some(index) = self.resolve(index) else { return false };
        let place = self.place(index);
        self.splice(place, 1, bytes, limit)
    }

    /// Puts `bytes` before the first element equal to `pivot`; false if there is none.
    pub fn insert_before(&mut self, pivot: &[u8], bytes: &[u8], limit: ListLimit) -> bool {
        self.search(pivot).is_some_and(|place| self.splice(place, 0, bytes, limit))
    }

    /// Puts `bytes` behind the first element equal to `pivot`; false if there is none.
    pub fn insert_after(&mut self, pivot: &[u8], bytes: &[u8], limit: ListLimit) -> bool {
        let after = |place: Place| Place { within: place.within + 1, ..place };
        self.search(pivot).is_some_and(|place| self.splice(after(place), 0, bytes, limit))
    }

    /// Removes elements equal to `value`: the first `count`, the last `-count`, or all if 0. Returns how many there were.
    pub fn remove(&mut self, count: i64, value: &[u8], limit: ListLimit) -> usize {
        let value = Encoded::new(value);
        let wanted = if count == 0 { usize::MAX } else { usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX) };
        let (mut left, mut scratch) = (wanted, Vec::new());
        for step in 0..self.chunks() {
            if left == 0 {
                break;
            }
            let index = if count < 0 { self.chunks() - 1 - step } else { step };
            let chunk = self.chunk_mut(index);
            let entries = chunk.read(&mut scratch);
            let found = matches(entries, &value).count();
            if found > 0 {
                let taken = found.min(left);
                let kept_first = if count < 0 { found - taken } else { 0 };
                let rest = without(entries, &value, kept_first..kept_first + taken);
                let rest_count = chunk.count() - taken;
                chunk.set(&rest, rest_count);
                self.compress(index);
                left -= taken;
            }
        }
        let removed = wanted - left;
        if removed > 0 {
            self.join_chunks(removed, limit);
        }
        removed
    }

    fn search(&self, value: &[u8]) -> Option<Place> {
        let (value, mut scratch) = (Encoded::new(value), Vec::new());
        (0..self.chunks()).find_map(|chunk| {
            let within = matches(self.chunk(chunk).read(&mut scratch), &value).next()?;
            Some(Place { chunk, within })
        })
    }

    /// Replaces `removed` elements from `place` on (in its chunk) by `bytes`.
    fn splice(&mut self, place: Place, removed: usize, bytes: &[u8], limit: ListLimit) -> bool {
        let item = Encoded::new(bytes);
        let size = entry_size(item.size());
        let chunk = self.chunk_mut(place.chunk);
        let mut scratch = Vec::new();
        let old = chunk.read(&mut scratch);
        let from = offset(old, chunk.count(), place.within);
        let to = from + offset(&old[from..], chunk.count() - place.within, removed);
        if u32::try_from(old.len() - (to - from) + size).is_err() {
            return false;
        }
        let mut entries = Vec::with_capacity(old.len() + size);
        entries.extend_from_slice(&old[..from]);
        entries.resize(from + size, 0);
        write_entry(&item, &mut entries[from..]);
        entries.extend_from_slice(&old[to..]);
        let count = chunk.count() + 1 - removed;
        let fits = limit.admits(entries.len(), count);
        if fits {
            chunk.set(&entries, count);
        }
        if let Repr::Many(ring) = &mut self.0 {
            ring.len = ring.len + 1 - removed;
        }
        if fits {
            self.compress(place.chunk);
        } else {
            self.replace_chunk(place.chunk, halves(&entries, count, limit));
        }
        true
    }

    /// Puts several chunks in the place of one.
    fn replace_chunk(&mut self, index: usize, pieces: Vec<Chunk>) {
        let added = pieces.len();
        match &mut self.0 {
            Repr::One(_) => {
                let len = pieces.iter().map(Chunk::count).sum();
                self.0 = Repr::Many(Box::new(Ring { chunks: pieces.into(), len }));
            }
            Repr::Many(ring) => {
                let behind = ring.chunks.split_off(index + 1);
                ring.chunks.pop_back();
                ring.chunks.extend(pieces);
                ring.chunks.extend(behind);
            }
        }
        self.settle();
        (index..index + added).for_each(|piece| self.compress(piece));
    }

    /// After `removed` elements went: drops empty chunks and joins small neighbours.
    fn join_chunks(&mut self, removed: usize, limit: ListLimit) {
        let Repr::Many(ring) = &mut self.0 else { return };
        ring.len -= removed;
        let mut joined = VecDeque::<Chunk>::with_capacity(ring.chunks.len());
        for mut chunk in ring.chunks.drain(..).filter(|chunk| chunk.count() > 0) {
            match joined.back_mut() {
                Some(last) if limit.admits_joined(last.used() + chunk.used(), last.count() + chunk.count()) => {
                    let count = last.count() + chunk.count();
                    last.open();
                    chunk.open();
                    let (mut none, mut nothing) = (Vec::new(), Vec::new());
                    last.set(&[last.read(&mut none), chunk.read(&mut nothing)].concat(), count);
                }
                _ => joined.push_back(chunk),
            }
        }
        ring.chunks = joined;
        self.settle();
    }
}

/// Numbers of the elements equal to `value`.
fn matches(entries: &[u8], value: &Encoded<'_>) -> impl Iterator<Item = usize> {
    walk_entries(entries).enumerate().filter(|(_, entry)| value.starts(entry)).map(|(i, _)| i)
}

/// The entries but for those equal to `value` whose number among these is in `dropped`.
fn without(entries: &[u8], value: &Encoded<'_>, dropped: Range<usize>) -> Vec<u8> {
    let mut rest = Vec::with_capacity(entries.len());
    let mut found = 0;
    for entry in walk_entries(entries) {
        let equal = value.starts(entry);
        if !(equal && dropped.contains(&found)) {
            rest.extend_from_slice(entry);
        }
        found += equal as usize;
    }
    rest
}

/// Each element with its sizes.
fn walk_entries(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (_, size) = first(rest)?;
        let (entry, behind) = rest.split_at_checked(size)?;
        rest = behind;
        Some(entry)
    })
}

/// Cuts entries into chunks within the limit, each time at the element nearest to the middle.
fn halves(entries: &[u8], count: usize, limit: ListLimit) -> Vec<Chunk> {
    if limit.admits(entries.len(), count) {
        return vec![Chunk::of(entries, count)];
    }
    let (mut at, mut before) = (0, 0);
    for entry in walk_entries(entries).take(count - 1) {
        // Cut before the element that spans the middle if that is nearer, but never before the first.
        let next = at + entry.len();
        if before > 0 && next > entries.len() / 2 && next - entries.len() / 2 > (entries.len() / 2).saturating_sub(at) {
            break;
        }
        (at, before) = (next, before + 1);
    }
    let mut pieces = halves(&entries[..at], before, limit);
    pieces.extend(halves(&entries[at..], count - before, limit));
    pieces
}
