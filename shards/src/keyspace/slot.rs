//! Hash slots: which of the 16384 slots a key belongs to, and which shard owns a slot.

pub const SLOTS: u16 = 16384;

/// One of the 16384 hash slots of Redis Cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SlotId(pub u16);

impl SlotId {
    /// CRC16 of the key, or of its hash tag: what stands between the first `{` and the next `}`, if not empty.
    #[inline]
    pub fn of_key(key: &[u8]) -> Self {
        SlotId(crc16(hash_tag(key)) % SLOTS)
    }

    /// The shard that owns the slot on a node of `shards` shards.
    #[inline]
    pub fn shard(self, shards: u16) -> u16 {
        if shards == 1 { 0 } else { self.0 % shards }
    }
}

/// Keys up to this length are looked through without a call.
const SHORT_KEY: usize = 64;

#[inline]
fn hash_tag(key: &[u8]) -> &[u8] {
    if key.len() <= SHORT_KEY && !has_brace(key) {
        return key;
    }
    let Some(open) = memchr::memchr(b'{', key) else { return key };
    match memchr::memchr(b'}', &key[open + 1..]) {
        Some(len) if len > 0 => &key[open + 1..open + 1 + len],
        _ => key,
    }
}

/// Whether a byte of the key is `{`, eight bytes a step.
#[inline]
fn has_brace(key: &[u8]) -> bool {
    const EACH: u64 = u64::MAX / 255;
    let mut chunks = key.chunks_exact(8);
    let in_word = chunks.any(|chunk| {
        let word = chunk.iter().rev().fold(0u64, |word, &byte| word << 8 | u64::from(byte));
        // A byte that is zero now was the brace; only such a byte borrows at its top bit.
        let zeroed = word ^ (EACH * u64::from(b'{'));
        zeroed.wrapping_sub(EACH) & !zeroed & (EACH << 7) != 0
    });
    in_word || chunks.remainder().contains(&b'{')
}

/// CRC16/XMODEM (polynomial 0x1021, as the cluster specification gives it), eight bytes a step.
pub fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0u16;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let mixed = [chunk[0] ^ (crc >> 8) as u8, chunk[1] ^ crc as u8];
        crc = TABLES[7][usize::from(mixed[0])]
            ^ TABLES[6][usize::from(mixed[1])]
            ^ TABLES[5][usize::from(chunk[2])]
            ^ TABLES[4][usize::from(chunk[3])]
            ^ TABLES[3][usize::from(chunk[4])]
            ^ TABLES[2][usize::from(chunk[5])]
            ^ TABLES[1][usize::from(chunk[6])]
            ^ TABLES[0][usize::from(chunk[7])];
    }
    for &byte in chunks.remainder() {
        crc = crc << 8 ^ TABLES[0][usize::from((crc >> 8) as u8 ^ byte)];
    }
    crc
}

/// `TABLES[n][b]`: the CRC of byte `b` followed by `n` zero bytes.
static TABLES: [[u16; 256]; 8] = tables();

const fn tables() -> [[u16; 256]; 8] {
    let mut tables = [[0u16; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { crc << 1 ^ 0x1021 } else { crc << 1 };
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
            tables[depth][byte] = before << 8 ^ tables[0][(before >> 8) as usize];
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
    fn the_specification_s_check_value() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
    }

    #[test]
    fn sliced_and_bytewise_agree() {
        let bytes: Vec<u8> = (0..100u32).map(|i| (i * 37 % 251) as u8).collect();
        for len in 0..bytes.len() {
            let plain = bytes[..len].iter().fold(0u16, |crc, &b| crc << 8 ^ TABLES[0][usize::from((crc >> 8) as u8 ^ b)]);
            assert_eq!(crc16(&bytes[..len]), plain);
        }
    }

    #[test]
    fn hash_tags() {
        assert_eq!(SlotId::of_key(b"foo"), SlotId(12182));
        assert_eq!(SlotId::of_key(b"{user1000}.following"), SlotId::of_key(b"{user1000}.followers"));
        assert_eq!(hash_tag(b"foo{}{bar}"), b"foo{}{bar}");
        assert_eq!(hash_tag(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(hash_tag(b"foo{bar}{zap}"), b"bar");
        assert_eq!(hash_tag(b"foo{bar"), b"foo{bar");
        for len in 0..80 {
            for brace in 0..=len {
                let mut key: Vec<u8> = (0..len).map(|at| if at % 3 == 0 { b'z' } else { 0xFB }).collect();
                assert_eq!(hash_tag(&key), key, "no brace in {len} bytes");
                key.insert(brace, b'{');
                key.extend_from_slice(b"tag}");
                assert_eq!(hash_tag(&key), &key[brace + 1..key.len() - 1], "a brace at {brace} of {len}");
            }
        }
    }
}
