//! What every end-to-end test needs: a server of its own, a client that understands RESP2 and RESP3, replies as values.
//!
//! Owns the life of the servers it starts: each has its own directory and port, and ends with the value that stands for it.
//! Refuses to know what is tested. Nothing here sleeps for a fixed time: it polls for what it waits for, with a deadline.
//!
//! `KVCORE_BIN` names another program to test instead of the one just built; with redis-server in it the tests test themselves.

#![allow(dead_code, unused_imports, reason = "each test program uses its own part")]

mod client;
pub mod data;
pub mod following;
mod proxy;
mod random;
mod server;
mod small_disk;
mod value;

pub use client::{Client, encode, ok, wait_for_bgsave};
pub use data::{DBS, data, digests, fill};
pub use proxy::Proxy;
pub use random::Random;
pub use server::{Program, Server, copied, kvcore_path, make_directory, names};
pub use small_disk::SmallDisk;
pub use value::Value;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long anything that should be immediate may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Polls `condition` until it holds; panics with `what` when patience ends.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Says to those who write beside a test that it has ended, also when it fails.
pub struct Ends<'a>(pub &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A number from the environment, or its default.
pub fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

/// The seed of a randomised test, which is printed: `KVCORE_SEED`, or a new one each run.
pub fn seed() -> u64 {
    let fresh = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |now| now.as_nanos() as u64);
    let seed = setting("KVCORE_SEED", fresh % 1_000_000_000);
    println!("KVCORE_SEED={seed}");
    seed
}

/// The arguments of a request written as words separated by spaces; `"…"` groups, with `\xHH`, `\n`, `\r`, `\t`, `\"` and `\\` inside.
pub fn words(line: &str) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut bytes = line.bytes().peekable();
    loop {
        while bytes.peek() == Some(&b' ') {
            bytes.next();
        }
        let Some(first) = bytes.next() else { return out };
        let mut word = Vec::new();
        if first != b'"' {
            word.push(first);
            while let Some(byte) = bytes.next_if(|byte| *byte != b' ') {
                word.push(byte);
            }
        } else {
            loop {
                match bytes.next().expect("a closing quote") {
                    b'"' => break,
                    b'\\' => word.push(match bytes.next().expect("an escaped character") {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'x' => {
                            let digits = [bytes.next(), bytes.next()].map(|digit| digit.expect("two hexadecimal digits"));
                            u8::from_str_radix(std::str::from_utf8(&digits).expect("ASCII"), 16).expect("hexadecimal digits")
                        }
                        other => other,
                    }),
                    other => word.push(other),
                }
            }
        }
        out.push(word);
    }
}
