//! Byte formats of values that leave the process: what an RDB file, DUMP and a full synchronization hold.
//!
//! Everything read here may come from an enemy: nothing panics on it, nothing is allocated by a number that it merely
//! claims, and recursion has no place in it.

pub mod commands;
pub mod crc64;
pub mod listpack;
pub mod lzf;
pub mod rdb;
mod ziplist;

pub use rdb::{CodecError, Compression, Decoded, Reader, ValueLimits, decode_value, encode_value, value_type};

/// Fixed-size pieces of a buffer, taken from its front; `None` when it is too short.
fn split_array<'a, const N: usize>(data: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, rest) = data.split_first_chunk::<N>()?;
    *data = rest;
    Some(head)
}

/// `len` bytes from the front of a buffer.
fn split_bytes<'a>(data: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, rest) = data.split_at_checked(len)?;
    *data = rest;
    Some(head)
}

/// A little-endian two's complement integer of 1 to 8 bytes.
fn signed(bytes: &[u8]) -> i64 {
    let mut word = [0u8; 8];
    word[8 - bytes.len()..].copy_from_slice(bytes);
    i64::from_le_bytes(word) >> (64 - 8 * bytes.len() as u32)
}
