//! Front coding: what an element shares with the start of the one before it is stored once.
//!
//! Owns the compact form of chunks in the inside of a long list. Refuses to know when a chunk should have it. Elements of one
//! list are mostly alike (a prefix and a number, rising ids), for which this comes near a general compressor at a few
//! nanoseconds per element both ways. The sizes behind elements are left out and made anew. There is no random access: a reader
//! expands the whole chunk.
//!
//! ```text
//! 00 item                    nothing shared
//! 01..=7f rest               the encodings share that many bytes, the whole header among them, and so have the same size
//! 80..=ff header rest        strings with headers of one byte; their texts share that many bytes less 80
//! ```

use super::chunk::{entry_size, entry_tail};
use super::item::{encoded_size, is_short_string};

const SHARED_MAX: usize = 0x7f;
const OWN_HEADER: u8 = 0x80;
/// Longest header of an element.
const HEADER_MAX: usize = 5;
/// A chunk must become smaller by a quarter; what fails to after this many bytes is given up.
const TRIAL: usize = 1024;

/// Appends the compact form of whole `entries` to `out`; false if that would not save a quarter.
pub fn compress(entries: &[u8], out: &mut Vec<u8>) -> bool {
    let worth = |from: usize, to: usize| to <= from / 4 * 3;
    let (mut at, mut before) = (0, &[][..]);
    while at < entries.len() {
        let size = encoded_size(&entries[at..]);
        let item = &entries[at..at + size];
        let shared = shared_prefix(before, item).min(SHARED_MAX);
        let own_header = shared == 0 && is_short_string(item) && is_short_string(before);
        if own_header {
            let text = shared_prefix(&before[1..], &item[1..]).min(SHARED_MAX);
            out.extend_from_slice(&[OWN_HEADER | text as u8, item[0]]);
            out.extend_from_slice(&item[1 + text..]);
        } else {
            // A longer header must be shared as a whole for the sizes to be the same.
            let shared = if shared >= HEADER_MAX || is_short(item) { shared } else { 0 };
            out.push(shared as u8);
            out.extend_from_slice(&item[shared..]);
        }
        at += entry_size(size);
        before = item;
        if at > TRIAL && out.len() > at {
            return false;
        }
        if (TRIAL..TRIAL * 2).contains(&at) && !worth(at, out.len()) {
            return false;
        }
    }
    worth(entries.len(), out.len())
}

/// Appends the entries that `coded` is the compact form of, or the first `count` of them.
pub fn expand(mut coded: &[u8], count: usize, out: &mut Vec<u8>) {
    let (mut before, mut before_size) = (out.len(), 0);
    for _ in 0..count {
        let [token, rest @ ..] = coded else { break };
        let at = out.len();
        let from_rest = match *token {
            0 => {
                let size = encoded_size(rest).min(rest.len());
                out.extend_from_slice(&rest[..size]);
                size
            }
            OWN_HEADER.. => {
                let text = (token - OWN_HEADER) as usize;
                let size = encoded_size(rest);
                out.push(rest[0]);
                out.extend_from_within(before + 1..before + 1 + text);
                let own = size - 1 - text;
                out.extend_from_slice(&rest[1..1 + own]);
                1 + own
            }
            shared => {
                let shared = shared as usize;
                out.extend_from_within(before..before + shared);
                let own = before_size - shared;
                out.extend_from_slice(&rest[..own]);
                own
            }
        };
        (before, before_size) = (at, out.len() - at);
        let (tail, tail_size) = entry_tail(before_size);
        out.extend_from_slice(&tail[..tail_size]);
        coded = &rest[from_rest..];
    }
}

/// Whether the header is the first byte alone, so that equal first bytes mean equal sizes.
fn is_short(item: &[u8]) -> bool {
    encoded_size(&item[..1]) < usize::MAX >> 1
}

#[inline]
fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    let len = a.len().min(b.len());
    let (mut words_a, mut words_b) = (a[..len].chunks_exact(8), b[..len].chunks_exact(8));
    let mut shared = 0;
    for (a, b) in words_a.by_ref().zip(words_b.by_ref()) {
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let difference = word(a) ^ word(b);
        if difference != 0 {
            return shared + (difference.trailing_zeros() / 8) as usize;
        }
        shared += 8;
    }
    shared + words_a.remainder().iter().zip(words_b.remainder()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::super::chunk::{Chunk, End, Growth};
    use super::super::item::Encoded;
    use super::*;
    use proptest::prelude::*;

    fn entries(items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
        let mut chunk = Chunk::new();
        for item in items {
            chunk.push(End::Back, &Encoded::new(&item), Growth { share: 4, area_max: 8184 });
        }
        let mut scratch = Vec::new();
        chunk.read(&mut scratch).to_vec()
    }

    fn coded_size(entries: &[u8]) -> Option<usize> {
        let (mut coded, mut back) = (Vec::new(), b"kept".to_vec());
        compress(entries, &mut coded).then(|| {
            expand(&coded, usize::MAX, &mut back);
            assert!(back[4..] == *entries);
            coded.len()
        })
    }

    #[test]
    fn sequences_take_two_bytes_an_element() {
        let named = entries((0..400).map(|i| format!("element-{i:010}").into_bytes()));
        assert!(coded_size(&named).is_some_and(|size| size < 400 * 9 / 4));
        let ids = entries((1_700_000_000..1_700_001_000).map(|i: u32| i.to_string().into_bytes()));
        assert!(coded_size(&ids).is_some_and(|size| size < 1000 * 9 / 4));
        let uneven = entries((0..400).map(|i| format!("user:profile:{}", i * 7).into_bytes()));
        assert!(coded_size(&uneven).is_some());
        let unlike = entries((0..400u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes().to_vec()));
        assert_eq!(coded_size(&unlike), None);
    }

    proptest! {
        #[test]
        fn what_is_compressed_comes_back(items in prop::collection::vec(
            (0usize..4, prop_oneof![0usize..30, 180usize..190, 430usize..450, 65530usize..65540], any::<i16>()), 0..60)) {
            let text = |kind: usize, len: usize, number: i16| match kind {
                0 => number.to_string().into_bytes(),
                1 => format!("{}{number}", "p".repeat(len)).into_bytes(),
                2 => format!("{number}{}", "s".repeat(len)).into_bytes(),
                _ => vec![b'q'; len],
            };
            let raw = entries(items.into_iter().map(|(kind, len, number)| text(kind, len, number)));
            coded_size(&raw);
        }
    }
}
