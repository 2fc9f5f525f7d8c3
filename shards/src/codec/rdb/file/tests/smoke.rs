//! Mutated files from a fixed seed: the fuzz target's claim on the stable toolchain, in seconds.

use super::super::super::tests::limits;
use super::verdict::judge;
use super::{all_tokens, cuts_of};
use crate::random::Random;

const INPUTS: usize = 20_000;
const SEED: u64 = 0x6b76_636f_7265_0002;

/// A file changed in up to four places.
fn mutated(seed: &[u8], random: &mut Random) -> Vec<u8> {
    const TOKENS: [&[u8]; 12] = [
        b"\xff",
        b"\xfe\x00",
        b"\xfc",
        b"\x00\x01k\x01v",
        b"\x0f",
        b"\x12",
        b"\x81",
        b"\x80\xff\xff",
        b"\xc3\x05",
        b"\x00",
        b"\x05",
        b"\xfa\x00\x00",
    ];
    let mut file = seed.to_vec();
    for _ in 0..random.below(4) + 1 {
        let at = random.below(file.len() as u64 + 1) as usize;
        let span = (random.below(6) as usize).min(file.len() - at);
        let token = TOKENS[random.below(TOKENS.len() as u64) as usize];
        match random.below(4) {
            0 => drop(file.drain(at..at + span)),
            1 => drop(file.splice(at..at, token.iter().copied())),
            2 => drop(file.splice(at..at + span, token.iter().copied())),
            _ if at < file.len() => file[at] = random.below(256) as u8,
            _ => {}
        }
    }
    file
}

#[test]
fn mutated_files_get_one_verdict_however_cut() {
    let (seed, limits, mut random) = (all_tokens(), limits(), Random::new(SEED));
    let mut refused = 0;
    for index in 0..INPUTS {
        let file = mutated(&seed, &mut random);
        let whole = judge(&file, [], &limits);
        let mut cuts: Vec<usize> = (0..random.below(5) + 1).map(|_| random.below(file.len() as u64 + 1) as usize).collect();
        cuts.sort_unstable();
        assert_eq!(judge(&file, cuts.iter().copied(), &limits), whole, "input {index} cut at {cuts:?}: {}", file.escape_ascii());
        if index % 16 == 0 {
            assert_eq!(judge(&file, cuts_of(&file, 1), &limits), whole, "input {index} byte by byte: {}", file.escape_ascii());
        }
        refused += usize::from(whole.error.is_some());
    }
    assert!((INPUTS / 10..INPUTS).contains(&refused), "the mutations no longer reach both sides: {refused} errors");
}
