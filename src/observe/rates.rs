//! Rates of counters over the last second or two, from samples.

/// Samples that are averaged.
const SAMPLES: usize = 16;
/// Time between two samples, milliseconds.
const PERIOD_MS: i64 = 100;

/// Per-second rates of `N` counters.
#[derive(Clone, Debug)]
pub struct Rates<const N: usize> {
    samples: [[u64; SAMPLES]; N],
    next: usize,
    last: [u64; N],
    last_ms: i64,
}

impl<const N: usize> Rates<N> {
    pub fn new(now: i64) -> Self {
        Rates { samples: [[0; SAMPLES]; N], next: 0, last: [0; N], last_ms: now }
    }

    /// Takes a sample if it is time for one; call it often.
    pub fn sample(&mut self, now: i64, counters: [u64; N]) {
        let passed = now - self.last_ms;
        if passed < PERIOD_MS {
            // A clock set back must not stop the samples.
            self.last_ms = self.last_ms.min(now);
            return;
        }
        for ((samples, last), counter) in self.samples.iter_mut().zip(self.last).zip(counters) {
            samples[self.next] = counter.saturating_sub(last) * 1000 / passed as u64;
        }
        (self.last, self.last_ms, self.next) = (counters, now, (self.next + 1) % SAMPLES);
    }

    /// Events per second of each counter.
    pub fn per_second(&self) -> [u64; N] {
        self.samples.map(|samples| samples.iter().sum::<u64>() / SAMPLES as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_counter_has_its_rate_after_all_samples() {
        let mut rates = Rates::<2>::new(1000);
        for step in 1..=SAMPLES as u64 {
            rates.sample(1000 + step as i64 * 100, [step * 50, 0]);
            rates.sample(1000 + step as i64 * 100 + 40, [u64::MAX, u64::MAX]);
        }
        assert_eq!(rates.per_second(), [500, 0]);
    }
}
