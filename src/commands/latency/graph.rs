//! LATENCY GRAPH: a column for each sample, filled up to its height, with its age below.

use crate::observe::latency::LatencyEvent;

/// Samples in a row of the picture; more are drawn below.
const COLUMNS: usize = 80;
/// Lines of text a full column is high, and the marks that divide a line into steps.
const LINES: u64 = 4;
const MARKS: &[u8] = b"_o#";

/// `now`: seconds since 1970.
pub fn draw(name: &str, event: &LatencyEvent, now: i64) -> String {
    let latencies = || event.samples.iter().map(|&(_, ms)| ms);
    let (low, high) = (latencies().min().unwrap_or(0), latencies().max().unwrap_or(0));
    let mut text = format!("{name} - high {high} ms, low {low} ms (all time high {} ms)\n", event.max_ms);
    text.push_str(&"-".repeat(COLUMNS));
    text.push('\n');
    let samples: Vec<(u64, String)> = event.samples.iter().map(|&(at, ms)| (step(ms, low, high), age(now - at))).collect();
    for (part, row) in samples.chunks(COLUMNS).enumerate() {
        if part > 0 {
            text.push('\n');
        }
        draw_row(&mut text, row);
    }
    text
}

/// The height of a column, in marks.
fn step(ms: u64, low: u64, high: u64) -> u64 {
    let steps = LINES * MARKS.len() as u64;
    ((ms - low) * steps / (high - low).max(1)).min(steps - 1)
}

fn draw_row(text: &mut String, row: &[(u64, String)]) {
    for line in (0..LINES).rev() {
        text.extend(row.iter().map(|(step, _)| match step.checked_sub(line * MARKS.len() as u64) {
            None => ' ',
            Some(above) => MARKS.get(above as usize).map_or('|', |&mark| char::from(mark)),
        }));
        text.push('\n');
    }
    text.push_str(&" ".repeat(row.len()));
    text.push('\n');
    // Ages read downwards.
    let longest = row.iter().map(|(_, age)| age.len()).max().unwrap_or(0);
    for at in 0..longest {
        text.extend(row.iter().map(|(_, age)| age.as_bytes().get(at).map_or(' ', |&byte| char::from(byte))));
        text.push('\n');
    }
}

fn age(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ ..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..86_400 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_filled_and_labelled() {
        let event = LatencyEvent { samples: [(100, 10), (4000, 110), (4090, 35)].into(), max_ms: 200 };
        let picture = draw("command", &event, 4095);
        let lines: Vec<&str> = picture.lines().collect();
        assert_eq!(lines[0], "command - high 110 ms, low 10 ms (all time high 200 ms)");
        assert_eq!(&lines[2..6], [" # ", " | ", " |_", "_||"]);
        assert_eq!(&lines[6..], ["   ", "115", "hms"]);
    }
}
