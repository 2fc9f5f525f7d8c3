//! Encodes what one core appends to its segment: the effects of its shard, as commands.
//!
//! Owns what [`Effects`] cannot say of themselves: `#TS:<seconds>` at most once a second if wanted, and that the part of an
//! operation that spans segments is one block, which begins with the annotation of [`spanning`](super::spanning):
//!
//! ```text
//! #TS:1700000000\r\n                 ┐ never inside a block: redis-check-aof --truncate-to-timestamp cuts here
//! SELECT 0                           │
//! SET a 1                            ┘ a group of one effect needs no block
//! MULTI
//!   #KV:17:1/1:…\r\n                   what the operation does to other shards; redis-server skips the line
//!   SET a 2                            what it does to this one
//! EXEC
//! ```
//!
//! Refuses to know files and when to write: bytes are appended to a buffer of the caller.

use std::io::Write;

use kvshard::Effects;
use kvshard::effects::{EXEC, MULTI};

use super::spanning::{Completion, Operation, SegmentSeq, annotate};

/// The first line of a segment: which of a run's segments it is. The next run goes on in them if it has as many cores. redis-server
/// skips the line.
pub fn head(index: usize, cores: usize) -> Vec<u8> {
    format!("#KVSEGMENT:{}/{cores}\r\n", index + 1).into_bytes()
}

/// The state of one segment's text.
#[derive(Clone, Default, Debug)]
pub struct SegmentEncoder {
    /// The database that the text so far has selected.
    selected: Option<usize>,
    timestamps: bool,
    /// Seconds since 1970.
    last_timestamp: i64,
}

impl SegmentEncoder {
    /// For an empty segment, or one whose text is not known. `timestamps` as aof-timestamp-enabled.
    pub fn new(timestamps: bool) -> SegmentEncoder {
        SegmentEncoder { selected: None, timestamps, last_timestamp: 0 }
    }

    pub fn set_timestamps(&mut self, enabled: bool) {
        self.timestamps = enabled;
    }

    /// To be called when text was cut off the segment, or written by another: the next command selects its database.
    pub fn forget_database(&mut self) {
        self.selected = None;
    }

    /// Appends effects in the groups they are in. `now` is in seconds since 1970.
    pub fn effects(&mut self, now: i64, effects: &Effects, out: &mut Vec<u8>) {
        if !effects.is_empty() {
            self.timestamp(now, out);
            effects.write_log(&mut self.selected, out);
        }
    }

    /// Appends the part that `own` has in an operation: one block of its effects, whatever groups they are in, and those of all
    /// others as an annotation. An operation that has effects on one segment only needs none, and its groups are enough.
    /// Nothing is written if it has no effects here.
    pub fn operation(&mut self, now: i64, operation: &Operation<'_>, own: SegmentSeq, out: &mut Vec<u8>) {
        let Some(effects) = operation.effects_of(own) else { return };
        if !operation.spans_segments() {
            return self.effects(now, effects, out);
        }
        self.block(now, out, |encoder, out| {
            annotate(operation, own, out);
            effects.write_block(&mut encoder.selected, out);
        });
    }

    /// Appends a part that the segment had lost, once it is applied, so that the next start finds it.
    pub fn completion(&mut self, now: i64, completion: &Completion, out: &mut Vec<u8>) {
        self.block(now, out, |_, out| {
            annotate(&Operation { id: completion.operation, parts: &[] }, completion.segment, out);
            out.extend_from_slice(&completion.commands);
        });
        self.forget_database();
    }

    fn block(&mut self, now: i64, out: &mut Vec<u8>, content: impl FnOnce(&mut Self, &mut Vec<u8>)) {
        self.timestamp(now, out);
        out.extend_from_slice(MULTI);
        content(self, out);
        out.extend_from_slice(EXEC);
    }

    fn timestamp(&mut self, now: i64, out: &mut Vec<u8>) {
        if self.timestamps && self.last_timestamp < now {
            self.last_timestamp = now;
            let _infallible = write!(out, "#TS:{now}\r\n");
        }
    }
}

#[cfg(test)]
pub mod testing {
    use super::Effects;

    /// Groups of (database, command in words).
    pub fn groups(groups: &[&[(usize, &str)]]) -> Effects {
        let mut effects = Effects::default();
        for group in groups {
            effects.begin();
            for (db, text) in *group {
                let words: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
                effects.push(*db, None, words.into_iter());
            }
            effects.end();
        }
        effects
    }
}

#[cfg(test)]
mod tests {
    use super::super::spanning::OperationId;
    use super::testing::groups;
    use super::*;

    /// Commands in words; annotations as they are.
    fn words(text: &[u8]) -> Vec<String> {
        use super::super::aof_reader::{AofReader, Step};
        let mut reader = AofReader::new().with_annotations();
        reader.feed(text);
        let mut lines = Vec::new();
        loop {
            match reader.next().expect("good text") {
                Step::Command(command) => {
                    let args: Vec<String> = command.args.iter().map(|arg| arg.escape_ascii().to_string()).collect();
                    lines.push(args.join(" "));
                }
                Step::Annotation(annotation) => lines.push(annotation.line.escape_ascii().to_string()),
                _ => break,
            }
        }
        assert!(matches!(reader.finish(), Ok(super::super::aof_reader::End::Whole { .. })));
        lines
    }

    #[test]
    fn databases_are_selected_where_they_change() {
        let mut encoder = SegmentEncoder::new(false);
        let mut out = Vec::new();
        encoder.effects(1, &groups(&[&[(0, "SET a 1")]]), &mut out);
        encoder.effects(1, &Effects::default(), &mut out);
        encoder.effects(1, &groups(&[&[(0, "DEL b"), (3, "INCR c")], &[(3, "INCR d")]]), &mut out);
        encoder.effects(1, &groups(&[&[(3, "INCR c")]]), &mut out);
        encoder.forget_database();
        encoder.effects(1, &groups(&[&[(3, "INCR c"), (3, "INCR d")]]), &mut out);
        let before = ["SELECT 0", "SET a 1", "MULTI", "DEL b", "SELECT 3", "INCR c", "EXEC", "INCR d", "INCR c"];
        let after = ["SELECT 3", "MULTI", "INCR c", "INCR d", "EXEC"];
        assert_eq!(words(&out), [&before[..], &after].concat());
        assert!(out.starts_with(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n"));
    }

    #[test]
    fn timestamps_come_once_a_second_and_outside_of_blocks() {
        let effects = groups(&[&[(0, "SET a 1"), (0, "SET a 1")]]);
        let mut out = Vec::new();
        let mut encoder = SegmentEncoder::new(true);
        for now in [100, 100, 99, 101] {
            encoder.effects(now, &effects, &mut out);
            encoder.effects(now + 10, &Effects::default(), &mut out);
        }
        encoder.set_timestamps(false);
        encoder.effects(200, &groups(&[&[(0, "SET a 1")]]), &mut out);
        let block = ["MULTI", "SET a 1", "SET a 1", "EXEC"];
        let expected: Vec<&str> =
            [&["#TS:100", "SELECT 0"], &block[..], &block, &block, &["#TS:101"], &block, &["SET a 1"]].concat();
        assert_eq!(words(&out), expected);
    }

    #[test]
    fn an_operation_is_a_block_with_the_parts_of_the_others() {
        let (a, b) = (groups(&[&[(0, "SET a 1")], &[(0, "DEL c"), (0, "DEL d")]]), groups(&[&[(0, "SET b 1")]]));
        let none = Effects::default();
        let parts = [(SegmentSeq(3), &a), (SegmentSeq(4), &b), (SegmentSeq(5), &none)];
        let operation = Operation { id: OperationId(17), parts: &parts };
        let encode = |operation, own| {
            let mut out = Vec::new();
            SegmentEncoder::new(true).operation(1, operation, SegmentSeq(own), &mut out);
            words(&out)
        };
        let mut lines = encode(&operation, 3);
        let annotation = lines.remove(2);
        assert_eq!(lines, ["#TS:1", "MULTI", "SELECT 0", "SET a 1", "DEL c", "DEL d", "EXEC"]);
        assert!(annotation.starts_with("#KV:17:1/1:") && annotation.ends_with(" @3 @4 *2 SELECT 0 *3 SET b 1"), "{annotation}");
        assert!(encode(&operation, 5).is_empty() && encode(&operation, 6).is_empty());
        assert_eq!(encode(&Operation { id: OperationId(18), parts: &parts[1..] }, 4), ["#TS:1", "SELECT 0", "SET b 1"]);
    }
}
