//! The slow log: the last commands that took longer than `slowlog-log-slower-than`.

use kvshard::Args;
use std::collections::VecDeque;

/// Arguments kept of a logged command, and bytes kept of an argument; the rest is said in words, as Redis does.
const ARGS_MAX: usize = 32;
const ARG_BYTES_MAX: usize = 128;

#[derive(Clone, Debug)]
pub struct SlowEntry {
    pub id: u64,
    /// Seconds since 1970.
    pub at: i64,
    pub micros: u64,
    pub args: Vec<Vec<u8>>,
    pub address: String,
    pub client_name: Vec<u8>,
}

#[derive(Default)]
pub struct SlowLog {
    entries: VecDeque<SlowEntry>,
    threshold_micros: i64,
    max: usize,
}

impl SlowLog {
    /// `threshold_micros` below 0 switches the log off; 0 logs every command.
    pub fn configure(&mut self, threshold_micros: i64, max: usize) {
        (self.threshold_micros, self.max) = (threshold_micros, max);
        self.entries.truncate(max);
    }

    #[inline]
    pub fn wants(&self, nanos: u64) -> bool {
        self.threshold_micros >= 0 && nanos / 1000 >= self.threshold_micros as u64 && self.max > 0
    }

    pub fn add(&mut self, entry: SlowEntry) {
        self.entries.push_front(entry);
        self.entries.truncate(self.max);
    }

    /// Newest first.
    pub fn entries(&self) -> impl Iterator<Item = &SlowEntry> {
        self.entries.iter()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

/// A command's arguments, shortened as the slow log keeps them.
pub fn shortened(args: Args<'_>) -> Vec<Vec<u8>> {
    let kept = if args.len() > ARGS_MAX { ARGS_MAX - 1 } else { args.len() };
    let mut out: Vec<Vec<u8>> = args
        .iter()
        .take(kept)
        .map(|arg| {
            if arg.len() <= ARG_BYTES_MAX {
                return arg.to_vec();
            }
            let more = format!("... ({} more bytes)", arg.len() - ARG_BYTES_MAX);
            [&arg[..ARG_BYTES_MAX], more.as_bytes()].concat()
        })
        .collect();
    if kept < args.len() {
        out.push(format!("... ({} more arguments)", args.len() - kept).into_bytes());
    }
    out
}
