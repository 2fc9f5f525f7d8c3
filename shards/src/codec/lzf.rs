//! LZF, the compression of strings in RDB files.
//!
//! ```text
//! 000LLLLL                      L + 1 literal bytes follow
//! LLLooooo oooooooo             copy L + 2 bytes (L = 1..6) from offset + 1 bytes before
//! 111ooooo LLLLLLLL oooooooo    copy L + 9 bytes
//! ```
//!
//! A compressor may find what matches it likes; this one looks at the last place with the same three bytes, in a table
//! as large as the input warrants.

const LITERALS_MAX: usize = 32;
const MATCH_MIN: usize = 3;
const MATCH_MAX: usize = 264;
const OFFSET_MAX: usize = 1 << 13;
/// Most bytes that one byte of compressed data can stand for.
pub const EXPANSION_MAX: usize = MATCH_MAX / 3;

/// Expansion that is believed before it is seen.
const CLAIM_TRUSTED: usize = 8;

/// Appends the compressed form of `data` to `out` if it has fewer than `limit` bytes; else leaves `out` as it was.
pub fn compress(data: &[u8], limit: usize, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let bits = (usize::BITS - data.len().leading_zeros()).clamp(6, 14);
    // The place after the last occurrence of a hash of three bytes; 0: none.
    let mut places = vec![0u32; 1 << bits];
    let (mut at, mut literals) = (0, 0);
    while at + MATCH_MIN <= data.len() {
        let three = u32::from_le_bytes([data[at], data[at + 1], data[at + 2], 0]);
        let slot = (three.wrapping_mul(0x9E37_79B1) >> (32 - bits)) as usize;
        let before = places[slot] as usize;
        places[slot] = (at + 1) as u32;
        let from = before.wrapping_sub(1);
        if before == 0 || at - from > OFFSET_MAX || data[from..from + MATCH_MIN] != data[at..at + MATCH_MIN] {
            at += 1;
            continue;
        }
        let longest = MATCH_MAX.min(data.len() - at);
        let len = (MATCH_MIN..longest).find(|&i| data[from + i] != data[at + i]).unwrap_or(longest);
        put_literals(&data[literals..at], out);
        put_match(len, at - from - 1, out);
        if out.len() - start >= limit {
            break;
        }
        at += len;
        literals = at;
    }
    put_literals(&data[literals..], out);
    if out.len() - start >= limit {
        out.truncate(start);
        return false;
    }
    true
}

fn put_literals(literals: &[u8], out: &mut Vec<u8>) {
    for run in literals.chunks(LITERALS_MAX) {
        out.push((run.len() - 1) as u8);
        out.extend_from_slice(run);
    }
}

fn put_match(len: usize, offset: usize, out: &mut Vec<u8>) {
    let (len, high) = (len - 2, (offset >> 8) as u8);
    if len < 7 {
        out.push((len as u8) << 5 | high);
    } else {
        out.extend_from_slice(&[7 << 5 | high, (len - 7) as u8]);
    }
    out.push(offset as u8);
}

/// The `len` bytes that `data` stands for; `None` if it is damaged or stands for another number of bytes. A claimed length
/// alone allocates no more than a few times the data; the rest follows as it is written.
pub fn decompress(data: &[u8], len: usize) -> Option<Vec<u8>> {
    if len > data.len().saturating_mul(EXPANSION_MAX) {
        return None;
    }
    let mut out = Vec::with_capacity(len.min(data.len().saturating_mul(CLAIM_TRUSTED)));
    let mut rest = data;
    while let [control, tail @ ..] = rest {
        rest = tail;
        let control = usize::from(*control);
        if control < LITERALS_MAX {
            out.extend_from_slice(super::split_bytes(&mut rest, control + 1)?);
        } else {
            let mut run = (control >> 5) + 2;
            if run == 9 {
                run += usize::from(super::split_array::<1>(&mut rest)?[0]);
            }
            let offset = (control & 0x1F) << 8 | usize::from(super::split_array::<1>(&mut rest)?[0]);
            let from = out.len().checked_sub(offset + 1)?;
            if out.len() + run > len {
                return None;
            }
            if offset + 1 >= run {
                out.extend_from_within(from..from + run);
            } else {
                // The copy overlaps itself: each byte may be one just written.
                for at in from..from + run {
                    out.push(out[at]);
                }
            }
        }
        if out.len() > len {
            return None;
        }
    }
    (out.len() == len).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn runs_and_repeats_shrink() {
        for data in [vec![b'a'; 1000], b"abcabcabcabcabcabcabcabcabcabcabc".to_vec(), b"hello world, ".repeat(5000)] {
            let mut packed = vec![1, 2];
            assert!(compress(&data, data.len() - 4, &mut packed));
            assert!(packed.len() < data.len() / 2);
            assert_eq!(decompress(&packed[2..], data.len()), Some(data));
        }
    }

    #[test]
    fn what_does_not_shrink_is_left_alone() {
        let mut out = vec![7];
        let data: Vec<u8> = (0..200u8).collect();
        assert!(!compress(&data, data.len(), &mut out));
        assert_eq!(out, [7]);
    }

    #[test]
    fn damage_is_refused() {
        assert_eq!(decompress(&[0x20, 0], 3), None, "a copy from before the start");
        assert_eq!(decompress(&[3, b'a'], 4), None, "literals missing");
        assert_eq!(decompress(&[0, b'a'], 2), None, "too short");
        assert_eq!(decompress(&[1, b'a', b'b'], 1), None, "too long");
        assert_eq!(decompress(&[0, b'a'], usize::MAX), None, "an impossible length");
        assert_eq!(decompress(&[0, b'a', 0xE0, 255, 0], 265), Some(vec![b'a'; 265]));
    }

    proptest! {
        #[test]
        fn round_trip(data in proptest::collection::vec(0u8..4, 0..3000)) {
            let mut packed = Vec::new();
            if compress(&data, usize::MAX, &mut packed) {
                prop_assert_eq!(decompress(&packed, data.len()), Some(data));
            }
        }

        #[test]
        fn decompressing_is_total(data: Vec<u8>, len in 0usize..5000) {
            if let Some(out) = decompress(&data, len) {
                prop_assert_eq!(out.len(), len);
            }
        }
    }
}
