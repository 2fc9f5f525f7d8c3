//! LATENCY DOCTOR: the events in numbers, and what may be done about each.

use crate::config::Config;
use crate::observe::latency::{LatencyEvent, LatencyMonitor};
use std::fmt::Write;

/// What may be done about latency, in the order of the report.
const ADVICE: &[(&[&str], &str)] = &[
    (
        &["command"],
        "Look at SLOWLOG GET: it names the commands that take long. A threshold of slowlog-log-slower-than at or below the one of \
         the latency monitor makes sure that every such command is logged.",
    ),
    (
        &["fast-command"],
        "Commands of constant time were slow: the CPU was not available. Look for other programs on the CPUs that the cores are \
         pinned to, for limits of a container or virtual machine, and for swapping; `redis-cli --intrinsic-latency 100` measures \
         what the machine itself adds.",
    ),
    (&["expire-cycle"], "Many keys expire at the same moments: spread their times to live, or raise 'hz' towards 100."),
    (
        &["eviction-cycle", "eviction-del"],
        "Memory had to be freed in bulk: raise 'maxmemory' in small steps rather than lower it in large ones, and avoid single \
         commands that store very large values.",
    ),
    (
        &["aof-write-pending-fsync", "aof-write-active-child", "aof-write-alone", "aof-fsync-always", "aof-fstat"],
        "Writing the append-only file was slow: use a local, fast disk that nothing else writes to.",
    ),
];

struct Summary {
    samples: u64,
    average: u64,
    mean_deviation: u64,
    /// Seconds between samples, on average.
    period: f64,
}

impl Summary {
    fn of(event: &LatencyEvent, now: i64) -> Summary {
        let samples = event.samples.len().max(1) as u64;
        let average = event.samples.iter().map(|&(_, ms)| ms).sum::<u64>() / samples;
        let deviations = event.samples.iter().map(|&(_, ms)| ms.abs_diff(average)).sum::<u64>();
        let since = event.samples.front().map_or(0, |&(at, _)| now - at).max(1);
        Summary { samples, average, mean_deviation: deviations / samples, period: since as f64 / samples as f64 }
    }
}

/// `now`: seconds since 1970.
pub fn write(monitor: &LatencyMonitor, config: &Config, now: i64) -> String {
    let mut events: Vec<_> = monitor.events().collect();
    events.sort_unstable_by_key(|(name, _)| *name);
    if events.is_empty() {
        return match config.latency_monitor_threshold {
            0 => "The latency monitor is off. CONFIG SET latency-monitor-threshold <milliseconds> switches it on.\n".to_owned(),
            ms => format!("Nothing has taken {ms} milliseconds or longer since the monitor was switched on or reset.\n"),
        };
    }
    let mut text = String::from("Latency spikes were observed:\n\n");
    for (number, (name, event)) in events.iter().enumerate() {
        let Summary { samples, average, mean_deviation, period } = Summary::of(event, now);
        let _into_a_string = writeln!(
            text,
            "{}. {name}: {samples} latency spikes (average {average}ms, mean deviation {mean_deviation}ms, period {period:.2} sec). \
             Worst all time event {}ms.",
            number + 1,
            event.max_ms
        );
    }
    let applies = |names: &[&str]| events.iter().any(|(event, _)| names.contains(event));
    let advice: Vec<&str> = ADVICE.iter().filter(|(names, _)| applies(names)).map(|(_, advice)| *advice).collect();
    if !advice.is_empty() {
        text.push_str("\nWhat may help:\n\n");
        advice.iter().for_each(|advice| text.push_str(&format!("- {advice}\n")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_sums_up_and_advises() {
        let mut monitor = LatencyMonitor::default();
        assert!(write(&monitor, &Config::default(), 10).contains("off"));
        monitor.add("command", 100, 20);
        monitor.add("command", 150, 40);
        let text = write(&monitor, &Config::default(), 200);
        let line =
            "1. command: 2 latency spikes (average 30ms, mean deviation 10ms, period 50.00 sec). Worst all time event 40ms.";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("SLOWLOG GET") && !text.contains("expire"));
    }
}
