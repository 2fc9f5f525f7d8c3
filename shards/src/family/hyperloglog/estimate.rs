//! The arithmetic of HyperLogLogs: from an element to its register and rank, and from the registers' ranks to a count.
//!
//! Both must agree with redis-server bit for bit, since registers and counts are exchanged with it.

use super::sketch::{REGISTERS, Registers};

/// Bits of the hash that choose the register.
const REGISTER_BITS: u32 = REGISTERS.trailing_zeros();
/// Bits of the hash that give the rank.
const RANK_BITS: u32 = 64 - REGISTER_BITS;
const SEED: u64 = 0xADC8_3B19;

/// The register of an element, and its rank: 1 to [`RANK_BITS`] + 1.
pub fn place(element: &[u8]) -> (usize, u8) {
    let hash = murmur_64a(element, SEED);
    let rest = hash >> REGISTER_BITS | 1 << RANK_BITS;
    ((hash as usize) & (REGISTERS - 1), rest.trailing_zeros() as u8 + 1)
}

/// MurmurHash2 by Austin Appleby, its variant A for 64 bits, reading little-endian.
fn murmur_64a(bytes: &[u8], seed: u64) -> u64 {
    const FACTOR: u64 = 0xC6A4_A793_5BD1_E995;
    const SHIFT: u32 = 47;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(FACTOR);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let mut word = u64::from_le_bytes(*word).wrapping_mul(FACTOR);
        word ^= word >> SHIFT;
        hash = (hash ^ word.wrapping_mul(FACTOR)).wrapping_mul(FACTOR);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, &byte| tail << 8 | u64::from(byte));
        hash = (hash ^ tail).wrapping_mul(FACTOR);
    }
    hash = (hash ^ hash >> SHIFT).wrapping_mul(FACTOR);
    hash ^ hash >> SHIFT
}

/// How many registers have each rank. (Six bits hold more ranks than there are; a value made by hand may contain those.)
pub struct Histogram(pub [u64; 64]);

impl Histogram {
    pub fn of_registers(registers: &Registers) -> Self {
        let mut histogram = Histogram([0; 64]);
        for &rank in registers {
            histogram.0[usize::from(rank) & 63] += 1;
        }
        histogram
    }
}

/// The improved estimator of Otmar Ertl, "New cardinality estimation algorithms for HyperLogLog sketches"
/// (arXiv:1702.01284), algorithm 6, which needs no bias correction.
pub fn estimate(histogram: &Histogram) -> u64 {
    /// 1 / (2 ln 2)
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    let registers = REGISTERS as f64;
    let of_rank = |rank: u32| histogram.0[rank as usize] as f64;
    let mut z = registers * tau((registers - of_rank(RANK_BITS + 1)) / registers);
    for rank in (1..=RANK_BITS).rev() {
        z = (z + of_rank(rank)) * 0.5;
    }
    z += registers * sigma(of_rank(0) / registers);
    (ALPHA * registers * registers / z).round() as u64
}

/// x + Σ x^(2^k) · 2^(k-1), k from 1 on.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * y;
        y += y;
        if sum == before {
            return sum;
        }
    }
}

/// (1 - x - Σ (1 - x^(2^-k))² · 2^-k) / 3, k from 1 on.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = sum;
        y *= 0.5;
        sum -= (1.0 - x) * (1.0 - x) * y;
        if sum == before {
            return sum / 3.0;
        }
    }
}
