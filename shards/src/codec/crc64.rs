//! CRC-64 as RDB files and DUMP payloads end with: Jones' polynomial 0xad93d23594c935a9, reflected, starting from 0.

/// The polynomial with its bits reversed.
const REFLECTED: u64 = 0x95AC_9329_AC4B_C9B5;

/// Bytes of a lane. A long input is computed in three lanes at once, since each step waits for its own table look-ups.
const LANE: usize = 4096;
/// Inputs of this size are the fastest, and its multiples.
pub const CRC_BLOCK: usize = 3 * LANE;

/// The CRC of what `crc` stands for, followed by `bytes`. Begin with 0.
pub fn crc64(mut crc: u64, mut bytes: &[u8]) -> u64 {
    while let Some((block, rest)) = bytes.split_first_chunk::<CRC_BLOCK>() {
        let (first, others) = block.split_at(LANE);
        let (second, third) = others.split_at(LANE);
        let (mut crc_second, mut crc_third) = (0, 0);
        let words = first.chunks_exact(8).zip(second.chunks_exact(8)).zip(third.chunks_exact(8));
        for ((first, second), third) in words {
            crc = step(crc, first);
            crc_second = step(crc_second, second);
            crc_third = step(crc_third, third);
        }
        crc = look_up(&LANE_TABLES, look_up(&LANE_TABLES, crc) ^ crc_second) ^ crc_third;
        bytes = rest;
    }
    let mut words = bytes.chunks_exact(8);
    crc = (&mut words).fold(crc, step);
    words.remainder().iter().fold(crc, |crc, &byte| TABLES[0][usize::from(crc as u8 ^ byte)] ^ crc >> 8)
}

/// Takes in eight bytes.
#[inline]
fn step(crc: u64, word: &[u8]) -> u64 {
    let mut bytes = [0u8; 8];
    bytes.copy_from_slice(word);
    let crc = crc ^ u64::from_le_bytes(bytes);
    (0..8).fold(0, |mixed, at| mixed ^ TABLES[7 - at][usize::from((crc >> (8 * at)) as u8)])
}

/// The sum of an entry for each byte of `crc`, the lowest first.
fn look_up(tables: &[[u64; 256]; 8], crc: u64) -> u64 {
    tables.iter().zip(crc.to_le_bytes()).fold(0, |mixed, (table, byte)| mixed ^ table[usize::from(byte)])
}

/// `LANE_TABLES[n][b]`: what byte `b` at place `n` of a CRC becomes when as many zero bytes follow as a lane has.
static LANE_TABLES: [[u64; 256]; 8] = lane_tables();

const fn lane_tables() -> [[u64; 256]; 8] {
    // The CRC is linear: the fate of each bit decides that of all bytes.
    let mut bits = [0u64; 64];
    let mut bit = 0;
    while bit < 64 {
        let mut crc = 1u64 << bit;
        let mut words = 0;
        while words < LANE / 8 {
            let mut mixed = 0;
            let mut at = 0;
            while at < 8 {
                mixed ^= TABLES[7 - at][((crc >> (8 * at)) & 0xFF) as usize];
                at += 1;
            }
            crc = mixed;
            words += 1;
        }
        bits[bit] = crc;
        bit += 1;
    }
    let mut tables = [[0u64; 256]; 8];
    let mut place = 0;
    while place < 8 {
        let mut byte = 1;
        while byte < 256 {
            // The entry without its lowest bit is there already.
            let low = (byte as u32).trailing_zeros() as usize;
            tables[place][byte] = tables[place][byte & (byte - 1)] ^ bits[8 * place + low];
            byte += 1;
        }
        place += 1;
    }
    tables
}

/// `TABLES[n][b]`: the CRC of byte `b` followed by `n` zero bytes.
static TABLES: [[u64; 256]; 8] = tables();

const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0u64; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ REFLECTED } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut depth = 1;
    while depth < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[depth - 1][byte];
            tables[depth][byte] = tables[0][(before & 0xFF) as usize] ^ before >> 8;
            byte += 1;
        }
        depth += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_polynomial_s_check_value() {
        assert_eq!(crc64(0, b"123456789"), 0xE9C6_D914_C4B8_D9CA);
    }

    /// Byte by byte, without lanes.
    #[test]
    fn lanes_change_nothing() {
        let bytes: Vec<u8> = (0..7 * LANE as u32 + 5).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
        let plain = bytes.iter().fold(77, |crc, byte| crc64(crc, &[*byte]));
        assert_eq!(crc64(77, &bytes), plain);
    }

    #[test]
    fn pieces_and_the_whole_agree() {
        let bytes: Vec<u8> = (0..3 * LANE as u32 + 100).map(|i| (i * 37 % 251) as u8).collect();
        for cut in (0..100).chain(3 * LANE - 10..bytes.len()) {
            assert_eq!(crc64(crc64(0, &bytes[..cut]), &bytes[cut..]), crc64(0, &bytes));
        }
    }
}
