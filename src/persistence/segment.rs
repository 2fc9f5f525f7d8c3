//! Encodes what one core appends to its segment: the effects of its shard, as commands.
//!
//! Owns what stands between the commands: SELECT where the database changes, `#TS:<seconds>` at most once a second if wanted,
//! and MULTI and EXEC around what must be there whole or not at all. An operation that spans shards is such a block too, and
//! begins with the annotation of [`spanning`](super::spanning):
//!
//! ```text
//! #TS:1700000000\r\n                 ┐ never inside a block: redis-check-aof --truncate-to-timestamp cuts here
//! SELECT 0                           │
//! SET a 1                            ┘ one effect needs no block
//! MULTI
//!   #KV:17:1/1:…\r\n                   what the operation does to other shards; redis-server skips the line
//!   SET a 2                            what it does to this one
//! EXEC
//! ```
//!
//! Refuses to know files and when to write: bytes are appended to a buffer of the caller.

use std::io::Write;

use kvshard::Args;

use super::spanning::{Completion, Operation, SegmentSeq, annotate};

/// A command that reproduces a change.
#[derive(Clone, Copy)]
pub struct Effect<'a> {
    pub db: usize,
    pub args: Args<'a>,
}

/// The state of one segment's text.
#[derive(Clone, Debug)]
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

    /// Appends effects that belong together. `now` is in seconds since 1970.
    pub fn effects(&mut self, now: i64, effects: &[Effect<'_>], out: &mut Vec<u8>) {
        match effects {
            [] => {}
            [only] => {
                self.timestamp(now, out);
                self.effect(only, out);
            }
            _ => self.block(now, out, |encoder, out| effects.iter().for_each(|effect| encoder.effect(effect, out))),
        }
    }

    /// Appends the part that `own` has in an operation: its effects, and those of all others as an annotation. An operation
    /// that has effects on one segment only needs no annotation. Nothing is written if it has none here.
    pub fn operation(&mut self, now: i64, operation: &Operation<'_>, own: SegmentSeq, out: &mut Vec<u8>) {
        let effects = operation.effects_of(own);
        if effects.is_empty() {
            return;
        }
        if !operation.spans_segments() {
            return self.effects(now, effects, out);
        }
        self.block(now, out, |encoder, out| {
            annotate(operation, own, out);
            effects.iter().for_each(|effect| encoder.effect(effect, out));
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
        out.extend_from_slice(b"*1\r\n$5\r\nMULTI\r\n");
        content(self, out);
        out.extend_from_slice(b"*1\r\n$4\r\nEXEC\r\n");
    }

    fn timestamp(&mut self, now: i64, out: &mut Vec<u8>) {
        if self.timestamps && self.last_timestamp < now {
            self.last_timestamp = now;
            let _infallible = write!(out, "#TS:{now}\r\n");
        }
    }

    fn effect(&mut self, effect: &Effect<'_>, out: &mut Vec<u8>) {
        if self.selected != Some(effect.db) {
            self.selected = Some(effect.db);
            let mut digits = itoa::Buffer::new();
            push_command([b"SELECT", digits.format(effect.db).as_bytes()].into_iter(), out);
        }
        push_command(effect.args.iter(), out);
    }
}

/// Appends one command.
pub fn push_command<'a>(args: impl ExactSizeIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    push_header(b'*', args.len(), out);
    args.for_each(|arg| push_arg(arg, out));
}

pub(super) fn push_arg(arg: &[u8], out: &mut Vec<u8>) {
    push_header(b'$', arg.len(), out);
    out.extend_from_slice(arg);
    out.extend_from_slice(b"\r\n");
}

pub(super) fn push_header(mark: u8, number: usize, out: &mut Vec<u8>) {
    out.push(mark);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::super::spanning::{OperationId, Part};
    use super::*;
    use kvshard::command::ArgsBuf;

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

    fn buf(text: &str) -> ArgsBuf {
        ArgsBuf::from_slices(&text.split(' ').map(str::as_bytes).collect::<Vec<_>>())
    }

    #[test]
    fn databases_are_selected_where_they_change() {
        let [a, b, c] = ["SET a 1", "DEL b", "INCR c"].map(buf);
        let mut encoder = SegmentEncoder::new(false);
        let mut out = Vec::new();
        let effect = |db, buf: &'static ArgsBuf| Effect { db, args: buf.args() };
        let [a, b, c] = [a, b, c].map(|buf| &*Box::leak(Box::new(buf)));
        encoder.effects(1, &[effect(0, a)], &mut out);
        encoder.effects(1, &[], &mut out);
        encoder.effects(1, &[effect(0, b), effect(3, c)], &mut out);
        encoder.effects(1, &[effect(3, c)], &mut out);
        encoder.forget_database();
        encoder.effects(1, &[effect(3, c)], &mut out);
        let expected = ["SELECT 0", "SET a 1", "MULTI", "DEL b", "SELECT 3", "INCR c", "EXEC", "INCR c", "SELECT 3", "INCR c"];
        assert_eq!(words(&out), expected);
        assert!(out.starts_with(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n"));
    }

    #[test]
    fn timestamps_come_once_a_second_and_outside_of_blocks() {
        let set = buf("SET a 1");
        let effects = [Effect { db: 0, args: set.args() }; 2];
        let mut out = Vec::new();
        let mut encoder = SegmentEncoder::new(true);
        for now in [100, 100, 99, 101] {
            encoder.effects(now, &effects, &mut out);
        }
        encoder.set_timestamps(false);
        encoder.effects(200, &effects[..1], &mut out);
        let block = ["MULTI", "SET a 1", "SET a 1", "EXEC"];
        let first = ["#TS:100", "MULTI", "SELECT 0", "SET a 1", "SET a 1", "EXEC"];
        let expected: Vec<&str> = [&first[..], &block, &block, &["#TS:101"], &block, &["SET a 1"]].concat();
        assert_eq!(words(&out), expected);
    }

    #[test]
    fn an_operation_is_a_block_with_the_parts_of_the_others() {
        let [a, b] = ["SET a 1", "SET b 1"].map(buf);
        let [a, b] = [&a, &b].map(|buf| [Effect { db: 0, args: buf.args() }]);
        let part = |segment, effects| Part { segment: SegmentSeq(segment), effects };
        let parts = [part(3, &a[..]), part(4, &b[..]), part(5, &[])];
        let operation = Operation { id: OperationId(17), parts: &parts };
        let encode = |operation, own| {
            let mut out = Vec::new();
            SegmentEncoder::new(false).operation(1, operation, SegmentSeq(own), &mut out);
            words(&out)
        };
        let lines = encode(&operation, 3);
        assert_eq!([&lines[0], &lines[2], &lines[3], &lines[4]], ["MULTI", "SELECT 0", "SET a 1", "EXEC"]);
        assert!(lines[1].starts_with("#KV:17:1/1:") && lines[1].ends_with(" @3 @4 *2 SELECT 0 *3 SET b 1"), "{}", lines[1]);
        assert!(encode(&operation, 5).is_empty() && encode(&operation, 6).is_empty());
        assert_eq!(encode(&Operation { id: OperationId(18), parts: &parts[1..] }, 4), ["SELECT 0", "SET b 1"]);
    }
}
