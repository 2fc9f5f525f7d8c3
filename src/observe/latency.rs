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

    pub fn event(&self, name: &str) -> Option<&LatencyEvent> {
        self.events.get(name)
    }

    /// Forgets these events, or all; says which there were.
    pub fn reset(&mut self, names: Option<&[String]>) -> Vec<&'static str> {
        let forgotten = |event: &str| names.is_none_or(|names| names.iter().any(|name| name == event));
        self.events.extract_if(|event, _| forgotten(event)).map(|(event, _)| event).collect()
    }

    /// Adds another core's events; of samples of the same second the worst remains, as within one core.
    pub fn merge(&mut self, other: &LatencyMonitor) {
        for (name, event) in &other.events {
            let mine = self.events.entry(name).or_default();
            mine.max_ms = mine.max_ms.max(event.max_ms);
            mine.samples.extend(&event.samples);
            mine.samples.make_contiguous().sort();
            let samples = std::mem::take(&mut mine.samples);
            for (at, ms) in samples {
                match mine.samples.back_mut() {
                    Some(last) if last.0 == at => last.1 = ms,
                    _ => mine.samples.push_back((at, ms)),
                }
            }
            while mine.samples.len() > SAMPLES_MAX {
                mine.samples.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_events_become_one_series() {
        let (mut a, mut b) = (LatencyMonitor::default(), LatencyMonitor::default());
        a.add("command", 10, 5);
        a.add("command", 12, 7);
        b.add("command", 11, 50);
        b.add("command", 12, 3);
        b.add("fast-command", 12, 1);
        a.merge(&b);
        let event = a.event("command").unwrap();
        assert_eq!((event.samples.iter().copied().collect::<Vec<_>>(), event.max_ms), (vec![(10, 5), (11, 50), (12, 7)], 50));
        assert_eq!(a.reset(Some(&["fast-command".to_owned(), "none".to_owned()])), ["fast-command"]);
        assert_eq!(a.reset(None), ["command"]);
    }
}
