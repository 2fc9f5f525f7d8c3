//! The whole verdict on a file, and the claim that it does not depend on how the file was cut.
//!
//! Used by the unit tests and by the fuzz target, which includes it beside `crate::codec`.

use crate::codec::rdb::file::{Checksum, End, Event, FileError, FileReader, Record, Records};
use crate::codec::rdb::{Compression, ValueLimits, encode_value, value_type};

/// What a file amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// A line for each event.
    pub events: Vec<String>,
    pub end: Option<End>,
    pub error: Option<FileError>,
    /// Bytes behind the end.
    pub rest: usize,
}

/// Feeds `file` cut at the ascending offsets `cuts`.
pub fn judge(file: &[u8], cuts: impl IntoIterator<Item = usize>, limits: &ValueLimits) -> Verdict {
    let mut verdict = Verdict::default();
    let mut reader = FileReader::new(Checksum::On);
    let mut fed = 0;
    for arrived in cuts.into_iter().chain([file.len()]) {
        let chunk = &file[fed..arrived];
        fed = arrived;
        loop {
            let before = reader.offset();
            match reader.next(chunk) {
                Ok(Some(Event::End(end))) => verdict.end = Some(end),
                Ok(Some(event)) => verdict.events.push(line(&event, limits)),
                Ok(None) => break,
                Err(error) => {
                    assert!(error.offset <= fed as u64 && error.offset >= before.min(error.offset));
                    verdict.error = Some(error);
                    return verdict;
                }
            }
            assert!(reader.offset() > before && reader.offset() <= fed as u64, "every event takes bytes");
        }
        let held = reader.gathered_bytes();
        assert!(held <= 8192 + 2 * fed, "{held} bytes held for {fed} of input");
        if verdict.end.is_some() {
            verdict.rest = reader.rest(chunk).len() + file.len() - fed;
            break;
        }
    }
    verdict.error = reader.finish().err();
    verdict
}

fn line(event: &Event<'_>, limits: &ValueLimits) -> String {
    match event {
        Event::Key(record) => {
            let mut batch = Vec::new();
            record.append_to(&mut batch);
            record.append_to(&mut batch);
            let again: Vec<_> = Records::new(&batch).map(|record| shown(&record.expect("cut once already"), limits)).collect();
            let direct = shown(record, limits);
            assert_eq!(again, [direct.clone(), direct.clone()], "a batch carries records as they are");
            direct
        }
        other => format!("{other:?}"),
    }
}

/// A record with its value decoded and encoded again.
fn shown(record: &Record<'_>, limits: &ValueLimits) -> String {
    let value = match record.entry(limits) {
        Ok(entry) => {
            assert_eq!((entry.key(), entry.expiry()), (&record.key[..], record.expiry_ms));
            let mut bytes = vec![value_type(entry.value())];
            encode_value(entry.value(), Compression::None, &mut bytes);
            bytes.escape_ascii().to_string()
        }
        Err(error) => error.to_string(),
    };
    let Record { key, expiry_ms, access, offset, .. } = record;
    format!("{} {expiry_ms:?} {access:?} at {offset}: {value}", key.escape_ascii())
}
