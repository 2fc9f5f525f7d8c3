//! Mutated requests from a fixed seed: the fuzz target's claim on the stable toolchain, in seconds.

use super::cases;
use super::verdict::judge;
use crate::protocol::Limits;

const INPUTS: usize = 100_000;
const SEED: u64 = 0x6b76_636f_7265_0001;

/// Longer cases cost time and add nothing to mutate.
const SEED_BYTES_MAX: usize = 400;

/// Xorshift: all the randomness a test needs, the same on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    cases::all().into_iter().map(|case| case.stream).filter(|stream| (1..SEED_BYTES_MAX).contains(&stream.len())).collect()
}

/// One or two seeds, changed in up to four places.
pub fn mutated(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    const TOKENS: [&[u8]; 22] = [
        b"\r\n",
        b"\r",
        b"\n",
        b"\0",
        b"*",
        b"$",
        b"-",
        b"0",
        b"1",
        b"9",
        b"*1\r\n",
        b"$1\r\n",
        b"$4\r\nPING\r\n",
        b"\"",
        b"'",
        b"\\",
        b"\\x",
        b" ",
        b"\x0b",
        b"99999999999999999999",
        b"2147483648",
        b"*0\r\n",
    ];
    let mut stream = seeds[random.below(seeds.len())].clone();
    if random.below(2) == 0 {
        stream.extend_from_slice(&seeds[random.below(seeds.len())]);
    }
    for _ in 0..random.below(4) + 1 {
        let at = random.below(stream.len() + 1);
        let span = random.below(6).min(stream.len() - at);
        match random.below(4) {
            0 => drop(stream.drain(at..at + span)),
            1 => drop(stream.splice(at..at, TOKENS[random.below(TOKENS.len())].iter().copied())),
            2 => drop(stream.splice(at..at + span, TOKENS[random.below(TOKENS.len())].iter().copied())),
            _ if at < stream.len() => stream[at] = random.below(256) as u8,
            _ => {}
        }
    }
    stream
}

#[test]
fn mutated_requests_get_one_verdict_however_cut() {
    let seeds = seeds();
    let mut random = Random::new(SEED);
    let mut fatal = 0;
    for index in 0..INPUTS {
        let stream = mutated(&seeds, &mut random);
        let limits = Limits::default().for_client(index % 4 != 0);
        let whole = judge(&stream, [], &limits);
        let mut cuts: Vec<usize> = (0..random.below(5) + 1).map(|_| random.below(stream.len() + 1)).collect();
        cuts.sort_unstable();
        assert_eq!(
            judge(&stream, cuts.iter().copied(), &limits),
            whole,
            "input {index} cut at {cuts:?}: {}",
            stream.escape_ascii()
        );
        fatal += usize::from(whole.fatal.is_some());
    }
    assert!((INPUTS / 10..INPUTS * 9 / 10).contains(&fatal), "the mutations no longer reach both sides: {fatal} errors");
}
