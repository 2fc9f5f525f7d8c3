//! The latency monitor: events that took longer than `latency-monitor-threshold`, by name.

use hashbrown::HashMap;
use std::collections::VecDeque;

/// Samples kept of an event.
const SAMPLES_MAX: usize = 160;

#[derive(Clone, Debug, Default)]
pub struct LatencyEvent {
    /// (seconds since 1970, milliseconds), oldest first.
    pub samples: VecDeque<(i64, u64)>,
    pub max_ms: u64,
}

#[derive(Clone, Debug, Default)]
pub struct LatencyMonitor {
    /// Milliseconds; 0 switches the monitor off.
    pub threshold_ms: u64,
    events: HashMap<&'static str, LatencyEvent>,
}

impl LatencyMonitor {
    #[inline]
    pub fn wants(&self, nanos: u64) -> bool {
        self.threshold_ms != 0 && nanos / 1_000_000 >= self.threshold_ms
    }

    /// A second sample within one second raises the last one instead of being kept beside it.
    pub fn add(&mut self, event: &'static str, at: i64, ms: u64) {
        let event = self.events.entry(event).or_default();
        event.max_ms = event.max_ms.max(ms);
        match event.samples.back_mut() {
            Some((last_at, last_ms)) if *last_at == at => *last_ms = (*last_ms).max(ms),
            _ => {
                if event.samples.len() == SAMPLES_MAX {
                    event.samples.pop_front();
                }
                event.samples.push_back((at, ms));
            }
        }
    }

    pub fn events(&self) -> impl Iterator<Item = (&'static str, &LatencyEvent)> {
        self.events.iter().map(|(name, event)| (*name, event))
    }

    /// Forgets one event, or all; says how many.
    pub fn reset(&mut self, name: Option<&str>) -> usize {
        match name {
            Some(name) => usize::from(self.events.remove(name).is_some()),
            None => std::mem::take(&mut self.events).len(),
        }
    }

    /// Adds another core's events.
    pub fn merge(&mut self, other: &LatencyMonitor) {
        for (name, event) in &other.events {
            let mine = self.events.entry(name).or_default();
            mine.max_ms = mine.max_ms.max(event.max_ms);
            mine.samples.extend(&event.samples);
            mine.samples.make_contiguous().sort();
            while mine.samples.len() > SAMPLES_MAX {
                mine.samples.pop_front();
            }
        }
    }
}
