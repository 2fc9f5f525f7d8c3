//! The layout of a HyperLogLog in a string, as redis-server has it.
//!
//! ```text
//!  0      4          5      8        16
//!  ├ HYLL ┼ encoding ┼ zeros ┼ count ─┼─ registers …
//!
//!  count      little-endian; the top bit set: not known
//!  dense (0)  16384 registers of 6 bits, from the least significant bit of each byte on: 12288 bytes
//!  sparse (1) runs that cover all registers in order:
//!             00LLLLLL           L + 1 registers of rank 0
//!             01LLLLLL LLLLLLLL  L + 1 registers of rank 0
//!             1RRRRRLL           L + 1 registers of rank R + 1
//! ```
//!
//! A value begins sparse and becomes dense when a rank exceeds 32 or the value `hll-sparse-max-bytes`. The bytes come from
//! clients (a value can be SET), so nothing in them is trusted beyond [`check`].

use super::estimate::Histogram;
use crate::error::Error;

pub const REGISTERS: usize = 1 << 14;
/// A rank for each register.
pub type Registers = [u8; REGISTERS];

pub const HEADER: usize = 16;
const ENCODING: usize = 4;
const COUNT: usize = 8;
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
const DENSE_LEN: usize = HEADER + REGISTERS * 6 / 8;

/// A new value: sparse, all registers in one run, its count known to be 0.
pub const EMPTY: [u8; HEADER + 2] = *b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0\x7F\xFF";

pub const NOT_A_SKETCH: Error = Error::Text("WRONGTYPE Key is not a valid HyperLogLog string value.");
const CORRUPTED: Error = Error::Text("INVALIDOBJ Corrupted HLL object detected");

const SPARSE_RANK_MAX: u8 = 32;
const RANK_RUN_MAX: usize = 4;
const SHORT_ZEROS_MAX: usize = 64;
const RANK_BIT: u8 = 0x80;
const LONG_ZEROS_BIT: u8 = 0x40;

/// `value` itself, if it has the form of a HyperLogLog.
pub fn check(value: &[u8]) -> Result<&[u8], Error> {
    let sound = value.len() >= HEADER
        && value.starts_with(b"HYLL")
        && match value[ENCODING] {
            DENSE => value.len() == DENSE_LEN,
            encoding => encoding == SPARSE,
        };
    if sound { Ok(value) } else { Err(NOT_A_SKETCH) }
}

pub fn is_dense(value: &[u8]) -> bool {
    value[ENCODING] == DENSE
}

// ---- the remembered count ----

pub fn remembered_count(value: &[u8]) -> Option<u64> {
    let count = value[COUNT..HEADER].iter().rev().fold(0, |count, &byte| count << 8 | u64::from(byte));
    (count >> 63 == 0).then_some(count)
}

pub fn remember_count(value: &mut [u8], count: u64) {
    value[COUNT..HEADER].copy_from_slice(&count.to_le_bytes());
}

pub fn forget_count(value: &mut [u8]) {
    value[HEADER - 1] |= 0x80;
}

// ---- reading ----

/// One run of a sparse value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// 0 for runs of zeros.
    pub rank: u8,
    /// Registers.
    pub len: usize,
    /// Bytes of its code: 2 for the long form of zeros, else 1.
    pub size: usize,
}

/// The runs of a sparse value's registers. A code cut off at the end counts as followed by a zero byte.
pub struct Runs<'a>(&'a [u8]);

impl<'a> Runs<'a> {
    /// `codes` is the value without its header.
    pub fn new(codes: &'a [u8]) -> Self {
        Runs(codes)
    }
}

impl Iterator for Runs<'_> {
    type Item = Run;

    #[inline]
    fn next(&mut self) -> Option<Run> {
        let (&code, rest) = self.0.split_first()?;
        let low = usize::from(code & 0x3F);
        let run = if code & RANK_BIT != 0 {
            Run { rank: (code >> 2 & 0x1F) + 1, len: usize::from(code & 3) + 1, size: 1 }
        } else if code & LONG_ZEROS_BIT != 0 {
            Run { rank: 0, len: (low << 8 | usize::from(rest.first().copied().unwrap_or(0))) + 1, size: 2 }
        } else {
            Run { rank: 0, len: low + 1, size: 1 }
        };
        self.0 = rest.get(run.size - 1..).unwrap_or_default();
        Some(run)
    }
}

/// Calls `visit` with each group of four dense registers, which takes three bytes.
fn for_each_four(value: &[u8], mut visit: impl FnMut(usize, [u8; 4])) {
    let (groups, _) = value[HEADER..].as_chunks::<3>();
    for (index, &[a, b, c]) in groups.iter().enumerate() {
        visit(index * 4, [a & 63, (a >> 6 | b << 2) & 63, (b >> 4 | c << 4) & 63, c >> 2]);
    }
}

pub fn histogram(value: &[u8]) -> Result<Histogram, Error> {
    let mut histogram = Histogram([0; 64]);
    if is_dense(value) {
        for_each_four(value, |_, ranks| ranks.iter().for_each(|&rank| histogram.0[usize::from(rank)] += 1));
        return Ok(histogram);
    }
    let mut covered = 0;
    for run in Runs::new(&value[HEADER..]) {
        histogram.0[usize::from(run.rank)] += run.len as u64;
        covered += run.len;
    }
    if covered == REGISTERS { Ok(histogram) } else { Err(CORRUPTED) }
}

/// Raises each register to the value's rank, where that is larger.
pub fn merge_into(value: &[u8], registers: &mut Registers) -> Result<(), Error> {
    if is_dense(value) {
        for_each_four(value, |first, ranks| {
            for (register, rank) in registers[first..].iter_mut().zip(ranks) {
                *register = rank.max(*register);
            }
        });
        return Ok(());
    }
    let mut first = 0;
    for run in Runs::new(&value[HEADER..]) {
        if run.rank > 0 {
            let covered = registers.get_mut(first..first + run.len).ok_or(CORRUPTED)?;
            covered.iter_mut().for_each(|register| *register = run.rank.max(*register));
        }
        first += run.len;
    }
    if first == REGISTERS { Ok(()) } else { Err(CORRUPTED) }
}

// ---- changing ----

/// Raises one register to `rank`; false if it was there already.
pub fn raise(value: &mut Vec<u8>, register: usize, rank: u8, sparse_max: usize) -> Result<bool, Error> {
    debug_assert!(register < REGISTERS && rank < 64);
    if is_dense(value) { Ok(raise_dense(value, register, rank)) } else { raise_sparse(value, register, rank, sparse_max) }
}

/// Turns a sparse value into a dense one; false if it was dense. The remembered count stays.
pub fn make_dense(value: &mut Vec<u8>) -> Result<bool, Error> {
    if is_dense(value) {
        return Ok(false);
    }
    let mut registers = Box::new([0; REGISTERS]);
    merge_into(value, &mut registers)?;
    let mut dense = Vec::with_capacity(DENSE_LEN);
    dense.extend_from_slice(&value[..HEADER]);
    dense[ENCODING] = DENSE;
    for [a, b, c, d] in registers.as_chunks::<4>().0 {
        dense.extend_from_slice(&[a | b << 6, b >> 2 | c << 4, c >> 4 | d << 2]);
    }
    *value = dense;
    Ok(true)
}

fn raise_dense(value: &mut [u8], register: usize, rank: u8) -> bool {
    let (at, shift) = (HEADER + register * 6 / 8, register * 6 % 8);
    // A register that ends in its first byte has no second one to touch, which at the end of the value does not exist.
    let high = if shift > 2 { value[at + 1] } else { 0 };
    let pair = u16::from_le_bytes([value[at], high]);
    if (pair >> shift & 63) as u8 >= rank {
        return false;
    }
    let [low, high] = (pair & !(63 << shift) | u16::from(rank) << shift).to_le_bytes();
    value[at] = low;
    if shift > 2 {
        value[at + 1] = high;
    }
    true
}

fn raise_sparse(value: &mut Vec<u8>, register: usize, rank: u8, sparse_max: usize) -> Result<bool, Error> {
    if rank > SPARSE_RANK_MAX {
        make_dense(value)?;
        return Ok(raise_dense(value, register, rank));
    }
    let (mut at, mut first, mut before) = (HEADER, 0, HEADER);
    let found = Runs::new(&value[HEADER..]).find(|run| {
        if register < first + run.len {
            return true;
        }
        before = at;
        at += run.size;
        first += run.len;
        false
    });
    let run = found.ok_or(CORRUPTED)?;
    if run.rank >= rank {
        return Ok(false);
    }
    let mut codes = Codes::default();
    codes.push(run.rank, register - first);
    codes.push(rank, 1);
    codes.push(run.rank, first + run.len - register - 1);
    if codes.len > run.size && value.len() + codes.len - run.size > sparse_max {
        make_dense(value)?;
        return Ok(raise_dense(value, register, rank));
    }
    let end = (at + run.size).min(value.len());
    value.splice(at..end, codes.bytes[..codes.len].iter().copied());
    join_runs(value, before);
    forget_count(value);
    Ok(true)
}

/// The codes that replace one run: at most zeros in the long form, a rank, and zeros in the long form.
#[derive(Default)]
struct Codes {
    bytes: [u8; 5],
    len: usize,
}

impl Codes {
    /// A run in its shortest form; nothing for an empty one. Runs of a rank have at most [`RANK_RUN_MAX`] registers.
    fn push(&mut self, rank: u8, len: usize) {
        if len == 0 {
            return;
        }
        let length = (len - 1) as u16;
        let [high, low] = length.to_be_bytes();
        let codes: &[u8] = match rank {
            0 if len > SHORT_ZEROS_MAX => &[high | LONG_ZEROS_BIT, low],
            0 => &[low],
            rank => &[RANK_BIT | (rank - 1) << 2 | low],
        };
        self.bytes[self.len..][..codes.len()].copy_from_slice(codes);
        self.len += codes.len();
    }
}

/// Joins runs of the same rank that follow each other, in the few codes from `at` on that a change can have touched.
fn join_runs(value: &mut Vec<u8>, mut at: usize) {
    const CODES_SCANNED: usize = 5;
    for _ in 0..CODES_SCANNED {
        let Some(run) = Runs::new(&value[at.min(value.len())..]).next() else { return };
        if run.rank > 0
            && let Some(next) = Runs::new(&value[at + 1..]).next()
            && next.rank == run.rank
            && run.len + next.len <= RANK_RUN_MAX
        {
            let mut joined = Codes::default();
            joined.push(run.rank, run.len + next.len);
            value[at] = joined.bytes[0];
            value.remove(at + 1);
        } else {
            at += run.size;
        }
    }
}
