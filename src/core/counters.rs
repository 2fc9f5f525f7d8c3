//! One core's counters: plain numbers, added up over the cores when somebody asks.

use hashbrown::HashMap;

#[derive(Clone, Debug, Default)]
pub struct Counters {
    pub connections_received: u64,
    pub rejected_connections: u64,
    pub commands_processed: u64,
    pub net_input_bytes: u64,
    pub net_output_bytes: u64,
    pub error_replies: u64,
    pub query_buffer_limit_disconnections: u64,
    pub output_buffer_limit_disconnections: u64,
    pub evicted_clients: u64,
    pub reads_processed: u64,
    pub writes_processed: u64,
    pub acl_access_denied_auth: u64,
    /// Commands sent to another core, for the per-core figures.
    pub hops: u64,
    /// By the registry's index of a command.
    pub commands: Vec<CommandCounters>,
    /// By the first word of the error.
    pub errors: HashMap<Box<[u8]>, u64>,
    /// `latency-tracking`.
    pub tracking: bool,
}

#[derive(Clone, Debug, Default)]
pub struct CommandCounters {
    pub calls: u64,
    pub nanos: u64,
    /// Refused before they ran.
    pub rejected: u64,
    /// Ran and replied an error.
    pub failed: u64,
    /// Latencies by bucket, allocated at the first use; see [`bucket`].
    pub histogram: Option<Box<[u32; BUCKETS]>>,
}

/// Buckets of a latency histogram: 8 per doubling, from 1 µs (all below it in bucket 0) to above 8 s.
pub const BUCKETS: usize = 8 * 24;
const STEPS_PER_DOUBLING: u32 = 3;

/// The bucket of a latency.
pub fn bucket(nanos: u64) -> usize {
    let value = nanos >> 7;
    if value < 8 {
        return value as usize;
    }
    let magnitude = 63 - value.leading_zeros();
    let step = (value >> (magnitude - STEPS_PER_DOUBLING)) & 7;
    (((magnitude - STEPS_PER_DOUBLING + 1) as usize) * 8 + step as usize).min(BUCKETS - 1)
}

/// The largest latency of a bucket, nanoseconds.
pub fn bucket_end(bucket: usize) -> u64 {
    if bucket < 8 {
        return ((bucket as u64 + 1) << 7) - 1;
    }
    let (magnitude, step) = (bucket as u32 / 8 - 1 + STEPS_PER_DOUBLING, bucket as u64 % 8);
    ((((8 + step + 1) << (magnitude - STEPS_PER_DOUBLING)) << 7) - 1).max(1)
}

/// The latency that `percent` of the calls did not exceed, nanoseconds; 0 without calls.
pub fn percentile(histogram: &[u32; BUCKETS], percent: f64) -> u64 {
    let calls: u64 = histogram.iter().map(|&count| u64::from(count)).sum();
    let wanted = ((percent.min(100.0) / 100.0 * calls as f64 + 0.5) as u64).max(1);
    let mut seen = 0;
    let reached = histogram.iter().position(|&count| {
        seen += u64::from(count);
        seen >= wanted
    });
    reached.map_or(0, bucket_end)
}

impl Counters {
    pub fn new(commands: usize) -> Self {
        Counters { commands: vec![CommandCounters::default(); commands], ..Counters::default() }
    }

    #[inline]
    pub fn called(&mut self, command: usize, nanos: u64, failed: bool) {
        self.commands_processed += 1;
        let counters = &mut self.commands[command];
        counters.calls += 1;
        counters.nanos += nanos;
        counters.failed += u64::from(failed);
        if self.tracking {
            let histogram = counters.histogram.get_or_insert_with(|| Box::new([0; BUCKETS]));
            let count = &mut histogram[bucket(nanos)];
            *count = count.saturating_add(1);
        }
    }

    /// A call counted already has taken some more time.
    pub fn took(&mut self, command: usize, nanos: u64) {
        self.commands[command].nanos += nanos;
    }

    /// An error reply has been written; `reply` begins with `-`.
    pub fn error_reply(&mut self, reply: &[u8]) {
        self.error_replies += 1;
        let text = reply.strip_prefix(b"-").unwrap_or(reply);
        let end = text.iter().position(|&b| b == b' ' || b == b'\r').unwrap_or(text.len());
        if let Some(count) = self.errors.get_mut(&text[..end]) {
            *count += 1;
        } else if self.errors.len() < ERROR_KINDS_MAX {
            self.errors.insert(text[..end].into(), 1);
        }
    }

    /// A copy without what is counted per command.
    pub fn totals(&self) -> Counters {
        Counters {
            connections_received: self.connections_received,
            rejected_connections: self.rejected_connections,
            commands_processed: self.commands_processed,
            net_input_bytes: self.net_input_bytes,
            net_output_bytes: self.net_output_bytes,
            error_replies: self.error_replies,
            query_buffer_limit_disconnections: self.query_buffer_limit_disconnections,
            output_buffer_limit_disconnections: self.output_buffer_limit_disconnections,
            evicted_clients: self.evicted_clients,
            reads_processed: self.reads_processed,
            writes_processed: self.writes_processed,
            acl_access_denied_auth: self.acl_access_denied_auth,
            hops: self.hops,
            commands: Vec::new(),
            errors: self.errors.clone(),
            tracking: self.tracking,
        }
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&mut self) {
        *self = Counters { tracking: self.tracking, ..Counters::new(self.commands.len()) };
    }

    /// Adds another core's counters.
    pub fn add(&mut self, other: &Counters) {
        self.connections_received += other.connections_received;
        self.rejected_connections += other.rejected_connections;
        self.commands_processed += other.commands_processed;
        self.net_input_bytes += other.net_input_bytes;
        self.net_output_bytes += other.net_output_bytes;
        self.error_replies += other.error_replies;
        self.query_buffer_limit_disconnections += other.query_buffer_limit_disconnections;
        self.output_buffer_limit_disconnections += other.output_buffer_limit_disconnections;
        self.evicted_clients += other.evicted_clients;
        self.reads_processed += other.reads_processed;
        self.writes_processed += other.writes_processed;
        self.acl_access_denied_auth += other.acl_access_denied_auth;
        self.hops += other.hops;
        for (mine, theirs) in self.commands.iter_mut().zip(&other.commands) {
            mine.calls += theirs.calls;
            mine.nanos += theirs.nanos;
            mine.rejected += theirs.rejected;
            mine.failed += theirs.failed;
            if let Some(theirs) = &theirs.histogram {
                let mine = mine.histogram.get_or_insert_with(|| Box::new([0; BUCKETS]));
                mine.iter_mut().zip(theirs.iter()).for_each(|(a, b)| *a = a.saturating_add(*b));
            }
        }
        for (kind, count) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
    }
}

/// Different error words that are counted; a client can make up words through scripts, so there must be an end.
const ERROR_KINDS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_cover_their_latencies_in_order() {
        let mut last = 0;
        for shift in 0..34 {
            for nanos in [1u64 << shift, (1u64 << shift) * 5 / 4, (1u64 << shift) * 7 / 4] {
                let index = bucket(nanos);
                assert!(index >= last);
                if index < BUCKETS - 1 {
                    assert!(bucket_end(index) >= nanos, "{nanos} in {index} ends at {}", bucket_end(index));
                    assert!(index == 0 || bucket_end(index - 1) < nanos, "{nanos} in {index}");
                }
                last = index;
            }
        }
    }
}
