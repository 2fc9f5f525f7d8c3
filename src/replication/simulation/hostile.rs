//! Peers that send anything: garbage, huge lengths, wrong offsets, half a data set. The fuzz targets' claims on the stable
//! toolchain, in seconds.

use super::Random;
use super::talk::{FIRST_OTHER, FIRST_WORD, Verdict, WORDS, check, from_primary, from_replicas};

const TALKS: u64 = 1000;
const STEPS: usize = 150;

/// A piece that a peer sends.
fn said(bytes: &[u8]) -> Vec<u8> {
    let bytes = &bytes[..bytes.len().min(usize::from(FIRST_WORD) - 1)];
    [&[bytes.len() as u8], bytes].concat()
}

/// Something else that happens.
fn other(what: u8) -> Vec<u8> {
    vec![FIRST_OTHER + what, 0]
}

fn event(random: &mut Random, good: &[Vec<u8>]) -> Vec<u8> {
    let number = random.below(WORDS.len() as u64) as u8;
    let mut word = WORDS[usize::from(number)].as_bytes().to_vec();
    let at = random.below(word.len() as u64) as usize;
    match random.below(20) {
        0 => said(&(0..=random.below(120)).map(|_| random.next() as u8).collect::<Vec<u8>>()),
        1 => said(&word[..=at]),
        2 => {
            word[at] = random.next() as u8;
            said(&word)
        }
        3 => good[random.below(good.len() as u64) as usize].clone(),
        4..8 => vec![FIRST_OTHER + random.below(30) as u8, random.next() as u8],
        _ => vec![FIRST_WORD + number],
    }
}

/// Talks of pieces of good ones and of anything; what they are to come to is in the outputs of some.
fn talks(good: &[Vec<u8>], from_peer: impl Fn(&[u8], usize) -> Verdict, wanted: &[&str]) {
    let mut seen = vec![0; wanted.len()];
    for seed in 0..TALKS {
        let mut random = Random(seed);
        let mut bytes = vec![random.next() as u8];
        (0..STEPS).for_each(|_| bytes.extend(event(&mut random, good)));
        println!("seed {seed}");
        let whole = check(&bytes, &from_peer, 1 + random.below(9) as usize);
        for (count, wanted) in seen.iter_mut().zip(wanted) {
            *count += usize::from(whole.outputs.iter().any(|words| words.contains(wanted)));
        }
    }
    assert!(seen.iter().all(|count| *count >= 20), "the talks no longer come to all of {wanted:?}: {seen:?}");
}

#[test]
fn a_hostile_primary() {
    let (connected, load_finished) = (other(0), other(4));
    let hands_shaken = said(b"+PONG\r\n+OK\r\n+OK\r\n");
    let full = said(format!("+FULLRESYNC {} 100\r\n", "5a".repeat(20)).as_bytes());
    let marked = said(format!("$EOF:{}\r\nREDIS{}", "5a".repeat(20), "5a".repeat(20)).as_bytes());
    let good = [
        [&connected[..], &hands_shaken, &said(b"+CONTINUE\r\n*1\r\n$5\r\nMULTI\r\n")].concat(),
        [&connected[..], &hands_shaken, &full, &said(b"$5\r\nREDIS*1\r\n$4\r\nPING\r\n"), &load_finished].concat(),
        [&connected[..], &hands_shaken, &full, &marked, &load_finished].concat(),
    ];
    let wanted = ["LinkUp", "LoadBegins { bytes: None", "LoadBegins { bytes: Some", "Adopt {", "Protocol error", "DropBlock"];
    talks(&good, from_primary, &wanted);
}

#[test]
fn hostile_replicas() {
    let about = said(b"listening-port 7001 capa eof capa psync2 ip-address a");
    let snapshot: Vec<u8> = [4, 5, 6, 9].into_iter().flat_map(other).collect();
    let good = [
        [&about[..], &other(1), &said(b"? -1"), &other(3), &snapshot, &said(b"REPLCONF ACK 0\n")].concat(),
        [&about[..], &other(1), &other(2)].concat(),
    ];
    let wanted = ["Synchronization with replica", "Partial resynchronization request from", "mismatch"];
    talks(&good, from_replicas, &wanted);
}
