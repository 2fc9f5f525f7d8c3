//! Any file, cut anywhere into chunks: no panic, no more memory than the bytes justify, one verdict; and the place where a
//! truncated file is to be cut leaves a whole one with the same commands.
//!
//! The first byte says how many of the next bytes place the cuts.
//! `cargo +nightly fuzz run aof_reader`
#![no_main]

#[allow(dead_code, reason = "a fuzz target of one part")]
#[path = "../../src/persistence/aof_reader.rs"]
mod aof_reader;

use aof_reader::{AofReader, Corrupt, End, Step};
use libfuzzer_sys::fuzz_target;

/// Offset, end and text of what was read, and how it ended.
type Verdict = (Vec<(u64, u64, Vec<Vec<u8>>)>, Result<End, Corrupt>);

fn read(file: &[u8], cuts: &[usize]) -> Verdict {
    let mut reader = AofReader::new().with_annotations();
    let mut seen = Vec::new();
    let mut start = 0;
    let mut ends = cuts.iter().copied().chain([file.len()]);
    loop {
        match reader.next() {
            Ok(Step::Command(command)) => {
                assert!(!command.args.is_empty());
                seen.push((command.offset, command.end, command.args.iter().map(<[u8]>::to_vec).collect()));
            }
            Ok(Step::Annotation(annotation)) => seen.push((annotation.offset, annotation.offset, vec![annotation.line.to_vec()])),
            Ok(Step::Preamble) => return (seen, reader.finish()),
            Ok(Step::NeedMore) => match ends.next() {
                Some(end) => {
                    reader.feed(&file[start..end]);
                    start = end;
                }
                None => return (seen, reader.finish()),
            },
            Err(error) => return (seen, Err(error)),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&control, rest)) = data.split_first() else { return };
    let (places, file) = rest.split_at(rest.len().min(usize::from(control & 7)));
    let mut cuts: Vec<usize> = places.iter().map(|&place| usize::from(place) * file.len() / 255).collect();
    cuts.sort_unstable();
    let whole = read(file, &[]);
    assert_eq!(read(file, &cuts), whole);
    if let (seen, Ok(End::Truncated { offset, .. })) = whole
        && !file.starts_with(b"REDIS")
    {
        let kept = &file[..offset as usize];
        let expected = seen.into_iter().filter(|(start, _, _)| *start < offset).collect();
        assert_eq!(read(kept, &[]), (expected, Ok(End::Whole { offset })));
    }
});
