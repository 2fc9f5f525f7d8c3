//! Operations that span segments: how each participant's segment also tells what the operation does to all others, and what a
//! start must complete.
//!
//! An operation over several shards appends one block to the segment of each. A crash may leave some of these blocks and lose
//! others, with the tail of their segment. As every block holds all effects, one of them is enough to complete the rest:
//!
//! ```text
//!   segment 3   … MULTI  #KV:17 [4: DEL b]  SET a 1  EXEC …            is whole
//!   segment 4   … MULTI  #KV:17 [3: SET          ▒▒ lost ▒▒            the reader cuts before MULTI
//!                                                                       → DEL b is applied from segment 3
//! ```
//!
//! **The text.** Own effects are the commands of the block. The others' are annotation lines, which redis-server skips: lines
//! of at most 1023 bytes with CR LF (one byte more, and redis-server 7.0.15 says "Bad file format"), so a record is cut:
//!
//! ```text
//! line    #KV:<operation>:<line>/<lines>:<piece>\r\n      numbers in decimal, lines counted from 1
//! record  <checksum> @<own segment>{ @<segment>{ *<arguments>{ <argument>}}}       the pieces joined
//!
//! #KV:17:1/1:7a0c5d2f11b39e64 @3 @4 *2 SELECT 0 *2 DEL b\r\n
//!            └── CRC-64, 16 hexadecimal digits, of the operation's id in decimal followed by the text from ` @` on
//! ```
//!
//! An argument of printable ASCII stands as it is, so that a person finds it; any other, also an empty one and one that begins
//! with `~`, is `~` and base64 without padding. Segments are named by their sequence number in the manifest, which no other
//! segment ever has. Whoever edits a segment by hand edits commands, and leaves annotations alone: a block removed as a whole
//! looks like a lost one.
//!
//! **Order.** An operation's id is drawn from one counter while all its locks are held. Of two operations that touch one key
//! the first to run therefore has the smaller id, and lost parts are applied in the order of their ids, behind all that the
//! segment still has. Ids go on from [`Recovery::next_operation`] after a start.
//!
//! Refuses to know files and shards. What is damaged is refused, not guessed.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use kvshard::Effects;
use kvshard::codec::crc64::crc64;
use kvshard::effects::write_command;

use super::aof_reader::{Annotation, Command, LINE_BYTES_MAX};

/// What the annotation lines of this module begin with.
pub const MARK: &[u8] = b"#KV:";
/// Longest piece of a record on one line.
const PIECE_BYTES_MAX: usize = 960;
/// Mark, a 64-bit id, two 32-bit numbers of lines, three separators, CR LF.
const AROUND_PIECE_BYTES_MAX: usize = MARK.len() + 20 + 10 + 10 + 3 + 2;
const CHECKSUM_DIGITS: usize = 16;
/// Most lines of a record; more than a block that fits into memory has.
const LINES_MAX: u64 = u32::MAX as u64;

const _: () = assert!(PIECE_BYTES_MAX + AROUND_PIECE_BYTES_MAX <= LINE_BYTES_MAX);

/// The place of an operation in the order of those that conflict with it; no two in the segments of a manifest have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperationId(pub u64);

/// The sequence number that the manifest gives a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentSeq(pub i64);

/// What an operation does, to each segment that it changes.
#[derive(Clone, Copy)]
pub struct Operation<'a> {
    pub id: OperationId,
    /// One for each segment at most.
    pub parts: &'a [(SegmentSeq, &'a Effects)],
}

impl<'a> Operation<'a> {
    /// What it does to a segment, if anything.
    pub fn effects_of(&self, segment: SegmentSeq) -> Option<&'a Effects> {
        self.changes().find(|(changed, _)| *changed == segment).map(|(_, effects)| effects)
    }

    /// Whether more than one segment is changed.
    pub fn spans_segments(&self) -> bool {
        self.changes().nth(1).is_some()
    }

    /// The parts that are not empty.
    fn changes(&self) -> impl Iterator<Item = (SegmentSeq, &'a Effects)> {
        self.parts.iter().copied().filter(|(_, effects)| !effects.is_empty())
    }
}

/// Appends the annotation lines of `operation` for the block in the segment `own`.
pub fn annotate(operation: &Operation<'_>, own: SegmentSeq, out: &mut Vec<u8>) {
    let text = record_text(operation, own);
    let lines = text.len().div_ceil(PIECE_BYTES_MAX);
    for (index, piece) in text.chunks(PIECE_BYTES_MAX).enumerate() {
        let line_start = out.len();
        out.extend_from_slice(MARK);
        let _infallible = write!(out, "{}:{}/{lines}:", operation.id.0, index + 1);
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
        debug_assert!(out.len() - line_start <= LINE_BYTES_MAX);
    }
}

fn record_text(operation: &Operation<'_>, own: SegmentSeq) -> Vec<u8> {
    let mut text = vec![b'0'; CHECKSUM_DIGITS];
    push_word(" @", own.0, &mut text);
    let mut ranges = Vec::new();
    for (segment, effects) in operation.changes().filter(|(segment, _)| *segment != own) {
        push_word(" @", segment.0, &mut text);
        let mut selected = None;
        for effect in effects.iter() {
            if selected.replace(effect.db) != Some(effect.db) {
                push_word(" *2 SELECT ", effect.db as i64, &mut text);
            }
            let args = effect.args(&mut ranges);
            push_word(" *", args.len() as i64, &mut text);
            args.iter().for_each(|arg| push_argument(arg, &mut text));
        }
    }
    let sum = checksum(operation.id, &text[CHECKSUM_DIGITS..]);
    text[..CHECKSUM_DIGITS].copy_from_slice(format!("{sum:016x}").as_bytes());
    text
}

fn push_word(mark: &str, number: i64, text: &mut Vec<u8>) {
    text.extend_from_slice(mark.as_bytes());
    text.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn push_argument(arg: &[u8], text: &mut Vec<u8>) {
    text.push(b' ');
    if !arg.is_empty() && arg[0] != b'~' && arg.iter().all(u8::is_ascii_graphic) {
        text.extend_from_slice(arg);
    } else {
        text.push(b'~');
        text.extend_from_slice(STANDARD_NO_PAD.encode(arg).as_bytes());
    }
}

fn checksum(id: OperationId, text: &[u8]) -> u64 {
    crc64(crc64(0, itoa::Buffer::new().format(id.0).as_bytes()), text)
}

/// What one segment says about one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub id: OperationId,
    /// The segment in whose block the record stands.
    pub own: SegmentSeq,
    /// What the operation does elsewhere, in the form of a segment; each begins with SELECT.
    pub others: Vec<(SegmentSeq, Vec<u8>)>,
}

/// Why annotation lines were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Not in the form of a line or record.
    Form,
    /// A line of a record is missing, or at the wrong place.
    Sequence,
    Checksum,
    /// The record was written for another segment.
    Elsewhere(SegmentSeq),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Form => f.write_str("malformed #KV annotation"),
            Damage::Sequence => f.write_str("a line of a #KV annotation is missing or at the wrong place"),
            Damage::Checksum => f.write_str("wrong checksum of a #KV annotation"),
            Damage::Elsewhere(segment) => write!(f, "#KV annotation of the segment with sequence number {}", segment.0),
        }
    }
}

/// Puts the annotation lines of a segment together to records.
#[derive(Debug, Default)]
pub struct Decoder {
    open: Option<OpenRecord>,
}

#[derive(Debug)]
struct OpenRecord {
    id: OperationId,
    lines: u64,
    /// Lines read.
    read: u64,
    text: Vec<u8>,
}

impl Decoder {
    /// Takes a line without its line end; a whole record with its last. Annotations of other kinds are passed over.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<Record>, Damage> {
        let Some(rest) = line.strip_prefix(MARK) else { return Ok(None) };
        let (id, rest) = take_number(rest, b':', u64::MAX)?;
        let (number, rest) = take_number(rest, b'/', LINES_MAX)?;
        let (lines, piece) = take_number(rest, b':', LINES_MAX)?;
        let id = OperationId(id);
        let mut open = match self.open.take() {
            None => OpenRecord { id, lines, read: 0, text: Vec::new() },
            Some(open) => open,
        };
        if (open.id, open.lines, open.read + 1) != (id, lines, number) || number > lines {
            return Err(Damage::Sequence);
        }
        open.read = number;
        open.text.extend_from_slice(piece);
        if number == lines {
            return record(id, &open.text).map(Some);
        }
        self.open = Some(open);
        Ok(None)
    }

    /// Whether no record is in progress. One that is when its block ends is damaged.
    pub fn is_idle(&self) -> bool {
        self.open.is_none()
    }
}

fn record(id: OperationId, text: &[u8]) -> Result<Record, Damage> {
    let (sum, text) = text.split_at_checked(CHECKSUM_DIGITS).ok_or(Damage::Form)?;
    if sum != format!("{:016x}", checksum(id, text)).as_bytes() {
        return Err(Damage::Checksum);
    }
    let mut words = text.split(|byte| *byte == b' ');
    if words.next() != Some(b"") {
        return Err(Damage::Form);
    }
    let own = segment(words.next().unwrap_or_default())?;
    let mut others: Vec<(SegmentSeq, Vec<u8>)> = Vec::new();
    while let Some(word) = words.next() {
        if word.first() == Some(&b'@') {
            let seq = segment(word)?;
            if seq == own || others.iter().any(|(other, _)| *other == seq) {
                return Err(Damage::Form);
            }
            others.push((seq, Vec::new()));
            continue;
        }
        let count = word.strip_prefix(b"*").and_then(number).filter(|count| *count > 0).ok_or(Damage::Form)?;
        let (_, commands) = others.last_mut().ok_or(Damage::Form)?;
        let args = (0..count).map(|_| words.next().and_then(argument).ok_or(Damage::Form)).collect::<Result<Vec<_>, _>>()?;
        write_command(commands, args.iter().map(|arg| &**arg));
    }
    Ok(Record { id, own, others })
}

fn segment(word: &[u8]) -> Result<SegmentSeq, Damage> {
    let seq = word.strip_prefix(b"@").and_then(number).and_then(|number| i64::try_from(number).ok());
    seq.map(SegmentSeq).ok_or(Damage::Form)
}

/// What [`push_argument`] wrote; of base64 nothing but what it gives is accepted.
fn argument(word: &[u8]) -> Option<Cow<'_, [u8]>> {
    match word.strip_prefix(b"~") {
        Some(encoded) => STANDARD_NO_PAD.decode(encoded).ok().map(Cow::Owned),
        None => (!word.is_empty()).then_some(Cow::Borrowed(word)),
    }
}

/// Decimal digits without sign or leading zeros.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || (digits[0] == b'0' && digits.len() > 1) {
        return None;
    }
    digits.iter().try_fold(0u64, |value, digit| {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 { None } else { value.checked_mul(10)?.checked_add(u64::from(digit)) }
    })
}

fn take_number(text: &[u8], end: u8, max: u64) -> Result<(u64, &[u8]), Damage> {
    let at = memchr::memchr(end, text).ok_or(Damage::Form)?;
    let value = number(&text[..at]).filter(|value| *value <= max).ok_or(Damage::Form)?;
    Ok((value, &text[at + 1..]))
}

/// What one segment holds of operations that span segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    pub segment: SegmentSeq,
    /// The operations whose whole block is here, with their effects on this segment.
    pub records: Vec<Record>,
}

/// Collects a segment's [`Contents`] while it is read. A record counts when its block has ended.
#[derive(Debug)]
pub struct Survey {
    decoder: Decoder,
    /// Records of the block in progress.
    pending: Vec<Record>,
    contents: Contents,
}

impl Survey {
    pub fn new(segment: SegmentSeq) -> Survey {
        let contents = Contents { segment, records: Vec::new() };
        Survey { decoder: Decoder::default(), pending: Vec::new(), contents }
    }

    pub fn annotation(&mut self, annotation: &Annotation<'_>) -> Result<(), Damage> {
        if let Some(record) = self.decoder.line(annotation.line)? {
            if record.own != self.contents.segment {
                return Err(Damage::Elsewhere(record.own));
            }
            self.pending.push(record);
        }
        match annotation.transaction {
            None => self.block_end(),
            Some(_) => Ok(()),
        }
    }

    pub fn command(&mut self, command: &Command<'_>) -> Result<(), Damage> {
        if command.transaction.is_none() || command.args.is(0, "exec") {
            return self.block_end();
        }
        Ok(())
    }

    /// What the segment holds up to its end, or to the place where its tail is cut.
    pub fn finish(self) -> Contents {
        self.contents
    }

    fn block_end(&mut self) -> Result<(), Damage> {
        if !self.decoder.is_idle() {
            return Err(Damage::Sequence);
        }
        self.contents.records.append(&mut self.pending);
        Ok(())
    }
}

/// A part of an operation that its segment has lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    pub segment: SegmentSeq,
    pub operation: OperationId,
    /// To be applied behind everything in the segment, and written there by
    /// [`SegmentEncoder::completion`](super::segment::SegmentEncoder::completion). Begins with SELECT.
    pub commands: Vec<u8>,
}

/// What a start must do about operations that span segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// By segment, and within one in the order in which they are to be applied.
    pub completions: Vec<Completion>,
    /// Parts whose segment is not among those read: somebody took it out of the manifest. Nothing can be done.
    pub without_segment: Vec<(OperationId, SegmentSeq)>,
    /// The first id that no operation has.
    pub next_operation: OperationId,
}

/// Two segments disagree about what an operation does to a third: one of the files is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disagreement {
    pub operation: OperationId,
    pub segment: SegmentSeq,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (operation, segment) = (self.operation.0, self.segment.0);
        write!(f, "#KV annotations disagree about what operation {operation} does to the segment with sequence number {segment}")
    }
}

/// What is missing where: every operation of which at least one block is left is to be there whole. `contents` has each
/// segment that was read, once, in any order.
pub fn recover(contents: &[Contents]) -> Result<Recovery, Disagreement> {
    let segments: BTreeSet<SegmentSeq> = contents.iter().map(|contents| contents.segment).collect();
    let records = || contents.iter().flat_map(|contents| contents.records.iter().map(move |record| (contents.segment, record)));
    let held: BTreeSet<(SegmentSeq, OperationId)> = records().map(|(segment, record)| (segment, record.id)).collect();
    let mut missing: BTreeMap<(SegmentSeq, OperationId), &[u8]> = BTreeMap::new();
    for (_, record) in records() {
        for (segment, commands) in record.others.iter().filter(|(segment, _)| !held.contains(&(*segment, record.id))) {
            let known = missing.entry((*segment, record.id)).or_insert(commands);
            if *known != &commands[..] {
                return Err(Disagreement { operation: record.id, segment: *segment });
            }
        }
    }
    let last = records().map(|(_, record)| record.id.0).max();
    let next_operation = OperationId(last.map_or(0, |last| last.saturating_add(1)));
    let mut recovery = Recovery { next_operation, ..Recovery::default() };
    for ((segment, operation), commands) in missing {
        if segments.contains(&segment) {
            recovery.completions.push(Completion { segment, operation, commands: commands.to_vec() });
        } else {
            recovery.without_segment.push((operation, segment));
        }
    }
    Ok(recovery)
}

#[cfg(test)]
mod tests {
    use super::super::aof_reader::{AofReader, Step};
    use super::super::segment::SegmentEncoder;
    use super::*;
    use proptest::prelude::*;

    /// (database, arguments)
    type OwnedEffect = (usize, Vec<Vec<u8>>);

    /// Each in a group of its own.
    fn built(owned: &[OwnedEffect]) -> Effects {
        let mut effects = Effects::default();
        owned.iter().for_each(|(db, args)| effects.push(*db, None, args.iter().map(Vec::as_slice)));
        effects
    }

    /// An operation with owned arguments, and the segment of each part.
    #[derive(Clone, Debug)]
    struct Owned {
        id: u64,
        parts: Vec<(i64, Vec<OwnedEffect>)>,
    }

    impl Owned {
        /// Each part in words: `segment: command; command`, all in database 0.
        fn new(id: u64, parts: &[(i64, &str)]) -> Owned {
            let command = |text: &str| (0, text.trim().split(' ').map(|word| word.as_bytes().to_vec()).collect());
            Owned { id, parts: parts.iter().map(|(seq, text)| (*seq, text.split(';').map(command).collect())).collect() }
        }

        fn with<T>(&self, act: impl FnOnce(&Operation<'_>) -> T) -> T {
            let effects: Vec<Effects> = self.parts.iter().map(|(_, effects)| built(effects)).collect();
            let parts: Vec<_> = self.parts.iter().zip(&effects).map(|((seq, _), effects)| (SegmentSeq(*seq), effects)).collect();
            act(&Operation { id: OperationId(self.id), parts: &parts })
        }

        fn lines(&self, own: i64) -> Vec<Vec<u8>> {
            let mut out = Vec::new();
            self.with(|operation| annotate(operation, SegmentSeq(own), &mut out));
            out.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
        }

        /// What the operation does to a segment, as a segment of its own would say it.
        fn commands(&self, seq: i64) -> Vec<u8> {
            let mut out = Vec::new();
            self.with(|operation| {
                operation.effects_of(SegmentSeq(seq)).expect("a change").write_block(&mut None, &mut out);
            });
            out
        }
    }

    fn decode(lines: &[Vec<u8>]) -> Result<Option<Record>, Damage> {
        let mut decoder = Decoder::default();
        let mut last = None;
        for line in lines {
            assert_eq!(last, None, "a record before its last line");
            last = decoder.line(line.strip_suffix(b"\r\n").expect("a line end"))?;
        }
        Ok(last)
    }

    #[test]
    fn the_text_of_a_record() {
        let operation = Owned::new(17, &[(3, "SET a 1"), (4, "DEL b; SET c é"), (12, "SET ~x  1")]);
        let text = operation.lines(3).concat();
        let sum = format!("{:016x}", crc64(0, b"17 @3 @4 *2 SELECT 0 *2 DEL b *3 SET c ~w6k @12 *2 SELECT 0 *4 SET ~fng ~ 1"));
        let expected = format!("#KV:17:1/1:{sum} @3 @4 *2 SELECT 0 *2 DEL b *3 SET c ~w6k @12 *2 SELECT 0 *4 SET ~fng ~ 1\r\n");
        assert_eq!(text.escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
        let record = decode(&operation.lines(4)).expect("good").expect("whole");
        assert_eq!((record.id, record.own), (OperationId(17), SegmentSeq(4)));
        let parts = [3, 12].map(|seq| (SegmentSeq(seq), operation.commands(seq)));
        assert_eq!(record.others, parts);
    }

    #[test]
    fn long_records_are_cut_into_lines_that_redis_skips() {
        let longest =
            Owned { id: u64::MAX, parts: vec![(1, vec![(0, vec![b"x".to_vec()])]), (2, vec![(0, vec![vec![7; 100_000]])])] };
        let lines = longest.lines(1);
        assert_eq!(lines.len(), 139);
        assert!(lines.iter().all(|line| line.len() <= LINE_BYTES_MAX && line.starts_with(MARK)));
        let record = decode(&lines).expect("good").expect("whole");
        assert_eq!(record.others, [(SegmentSeq(2), longest.commands(2))]);
    }

    #[test]
    fn damage_is_seen() {
        let line = |text: &str| {
            let sum = checksum(OperationId(1), text.as_bytes());
            vec![format!("#KV:1:1/1:{sum:016x}{text}\r\n").into_bytes()]
        };
        assert!(decode(&line(" @1 @2 *1 a")).expect("good").is_some());
        for text in [
            "",
            " ",
            "@1",
            " x",
            " @",
            " @-1",
            " @01",
            " @1 ",
            " @1 *1 a",
            " @1 @1",
            " @1 @2 @2",
            " @1 @2 a",
            " @1 @2 *0",
            " @1 @2 *2 a",
            " @1 @2 *1  ",
            " @1 @2 *1 ~A",
            " @1 @2 *1 ~AB",
            " @1 @2 *1 ~AA==",
            " @1 @2 *1 ~-_8",
            " @1 @2 *1 ~!A",
            " @1 @2 *99999999999999999999 a",
            " @9223372036854775808",
        ] {
            assert_eq!(decode(&line(text)), Err(Damage::Form), "{text}");
        }
        for text in
            ["#KV:", "#KV:1", "#KV:1:1:x", "#KV::1/1:x", "#KV:1:1/:x", "#KV:1:1/4294967296:x", "#KV:1:1/1:", "#KV:x:1/1:x"]
        {
            assert_eq!(Decoder::default().line(text.as_bytes()), Err(Damage::Form), "{text}");
        }
        for text in ["#KV:1:0/1:x", "#KV:1:2/1:x", "#KV:1:2/2:x", "#KV:1:1/0:x"] {
            assert_eq!(Decoder::default().line(text.as_bytes()), Err(Damage::Sequence), "{text}");
        }
        for text in ["#", "#TS:1", "#KW:1:1/1:x", "#kv:"] {
            assert_eq!(Decoder::default().line(text.as_bytes()), Ok(None), "{text}");
        }
    }

    #[test]
    fn a_lost_moved_or_changed_line_is_seen() {
        let operation = Owned { id: 5, parts: vec![(1, vec![(0, vec![vec![b'k'; 3000]])]), (2, vec![(0, vec![vec![0; 3000]])])] };
        let lines = operation.lines(1);
        assert!(lines.len() > 3);
        for index in 0..lines.len() - 1 {
            let mut lost = lines.clone();
            lost.remove(index);
            assert_eq!(decode(&lost), Err(Damage::Sequence));
            let mut swapped = lines.clone();
            swapped.swap(index, index + 1);
            assert_eq!(decode(&swapped), Err(Damage::Sequence));
        }
        let short = Owned::new(12, &[(1, "SET a 1"), (2, "SET b 2")]).lines(1).concat();
        for index in 0..short.len() - 2 {
            let mut changed = short.clone();
            changed[index] ^= 1;
            let verdict = decode(&[changed]);
            assert!(!matches!(verdict, Ok(Some(_))), "byte {index}: {verdict:?}");
        }
    }

    /// Segments 1 to 3 of one run: (segment, bytes); operations in the order in which they ran.
    fn segments(operations: &[Owned]) -> Vec<(i64, Vec<u8>)> {
        let ping = built(&[(1, vec![b"PING".to_vec()])]);
        let segment = |seq| {
            let mut encoder = SegmentEncoder::new(true);
            let mut out = Vec::new();
            for (now, operation) in operations.iter().enumerate() {
                encoder.effects(now as i64, &ping, &mut out);
                operation.with(|operation| encoder.operation(now as i64, operation, SegmentSeq(seq), &mut out));
            }
            (seq, out)
        };
        [1, 2, 3].map(segment).into()
    }

    fn survey(seq: i64, bytes: &[u8]) -> Result<Contents, Damage> {
        let mut reader = AofReader::new().with_annotations();
        reader.feed(bytes);
        let mut survey = Survey::new(SegmentSeq(seq));
        loop {
            match reader.next().expect("good text") {
                Step::Command(command) => survey.command(&command)?,
                Step::Annotation(annotation) => survey.annotation(&annotation)?,
                _ => return Ok(survey.finish()),
            }
        }
    }

    fn sample() -> Vec<Owned> {
        vec![
            Owned::new(10, &[(1, "SET a 10"), (2, "SET b 10"), (3, "SET c 10")]),
            Owned::new(12, &[(3, "SET c 12"), (1, "SET a 12; DEL z")]),
            Owned::new(11, &[(2, "SET b2 11"), (3, "SET c2 11")]),
            Owned::new(13, &[(2, "SET b 13")]),
        ]
    }

    #[test]
    fn whole_segments_need_nothing() {
        let contents: Vec<Contents> = segments(&sample()).iter().map(|(seq, bytes)| survey(*seq, bytes).expect("good")).collect();
        let ids = |index: usize| contents[index].records.iter().map(|record| record.id.0).collect::<Vec<_>>();
        assert_eq!([ids(0), ids(1), ids(2)], [vec![10, 12], vec![10, 11], vec![10, 12, 11]]);
        let expected = Recovery { next_operation: OperationId(13), ..Recovery::default() };
        assert_eq!(recover(&contents), Ok(expected));
        assert_eq!(recover(&[]), Ok(Recovery::default()));
    }

    #[test]
    fn a_segment_cut_anywhere_is_completed_from_the_others() {
        let operations = sample();
        let segments = segments(&operations);
        let whole: Vec<Contents> = segments.iter().map(|(seq, bytes)| survey(*seq, bytes).expect("good")).collect();
        for (index, (seq, bytes)) in segments.iter().enumerate() {
            for cut in 0..=bytes.len() {
                let mut contents = whole.clone();
                contents[index] = survey(*seq, &bytes[..cut]).expect("good");
                let held: Vec<u64> = contents[index].records.iter().map(|record| record.id.0).collect();
                let mut lost: Vec<&Owned> = operations
                    .iter()
                    .filter(|operation| operation.parts.len() > 1 && !held.contains(&operation.id))
                    .filter(|operation| operation.parts.iter().any(|(part, _)| part == seq))
                    .collect();
                lost.sort_by_key(|operation| operation.id);
                let segment = SegmentSeq(*seq);
                let expected: Vec<Completion> = lost
                    .iter()
                    .map(|lost| Completion { segment, operation: OperationId(lost.id), commands: lost.commands(*seq) })
                    .collect();
                let recovery = recover(&contents).expect("agreement");
                assert_eq!(recovery.completions, expected, "segment {seq} cut at {cut}");
                assert!(cut < bytes.len() || expected.is_empty());
            }
        }
    }

    #[test]
    fn a_completed_segment_needs_nothing_at_the_next_start() {
        let segments = segments(&sample());
        let mut contents: Vec<Contents> = segments.iter().map(|(seq, bytes)| survey(*seq, bytes).expect("good")).collect();
        contents[2].records.clear();
        let recovery = recover(&contents).expect("agreement");
        assert_eq!(recovery.completions.iter().map(|completion| completion.operation.0).collect::<Vec<_>>(), [10, 11, 12]);
        let mut encoder = SegmentEncoder::new(false);
        let mut out = Vec::new();
        recovery.completions.iter().for_each(|completion| encoder.completion(0, completion, &mut out));
        contents[2] = survey(3, &out).expect("good");
        assert_eq!(recover(&contents).expect("agreement").completions, []);
        let mut commands = Vec::new();
        let mut reader = AofReader::new();
        reader.feed(&out);
        while let Ok(Step::Command(command)) = reader.next() {
            commands.push(command.args.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect::<Vec<_>>().join(" "));
        }
        let block = |set| ["MULTI", "SELECT 0", set, "EXEC"];
        assert_eq!(commands, [block("SET c 10"), block("SET c2 11"), block("SET c 12")].concat());
    }

    #[test]
    fn what_cannot_be_completed_is_told() {
        let record = |own, others: &[(i64, &str)]| Record {
            id: OperationId(4),
            own: SegmentSeq(own),
            others: others.iter().map(|(seq, text)| (SegmentSeq(*seq), text.as_bytes().to_vec())).collect(),
        };
        let contents = |segment, records| Contents { segment: SegmentSeq(segment), records };
        let gone = [contents(1, vec![record(1, &[(2, "x")])])];
        assert_eq!(recover(&gone).expect("agreement").without_segment, [(OperationId(4), SegmentSeq(2))]);
        let differing = [
            contents(1, vec![record(1, &[(2, "x"), (3, "x")])]),
            contents(2, vec![record(2, &[(1, "x"), (3, "y")])]),
            contents(3, Vec::new()),
        ];
        assert_eq!(recover(&differing), Err(Disagreement { operation: OperationId(4), segment: SegmentSeq(3) }));
    }

    #[test]
    fn a_record_in_the_wrong_segment_or_without_its_end_is_damage() {
        let operation = Owned { id: 5, parts: vec![(1, vec![(0, vec![vec![b'k'; 3000]])]), (2, vec![(0, vec![vec![0; 3000]])])] };
        let (_, bytes) = &segments(std::slice::from_ref(&operation))[0];
        assert_eq!(survey(2, bytes), Err(Damage::Elsewhere(SegmentSeq(1))));
        let line = operation.lines(1).remove(0);
        let block = [b"*1\r\n$5\r\nMULTI\r\n", &line[..], b"*1\r\n$4\r\nEXEC\r\n"].concat();
        assert_eq!(survey(1, &block), Err(Damage::Sequence));
        assert_eq!(survey(1, &line), Err(Damage::Sequence));
    }

    fn owned() -> impl Strategy<Value = Owned> {
        let arg = prop_oneof![proptest::collection::vec(any::<u8>(), 0..300), "[ -~]{0,10}".prop_map(String::into_bytes)];
        let effect = (0usize..3, proptest::collection::vec(arg, 1..4));
        let effects = proptest::collection::vec(effect, 1..5);
        (any::<u64>(), proptest::collection::btree_map(1i64..9, effects, 2..5))
            .prop_map(|(id, parts)| Owned { id, parts: parts.into_iter().collect() })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(operation in owned()) {
            for (own, _) in &operation.parts {
                let record = decode(&operation.lines(*own)).expect("good").expect("whole");
                let others = operation.parts.iter().filter(|(seq, _)| seq != own);
                let expected: Vec<_> = others.map(|(seq, _)| (SegmentSeq(*seq), operation.commands(*seq))).collect();
                prop_assert_eq!(record, Record { id: OperationId(operation.id), own: SegmentSeq(*own), others: expected });
            }
        }

        #[test]
        fn any_line_is_read_or_refused(line: Vec<u8>, id: u64, text in "[ @*~a-z0-9]{0,40}") {
            let _verdict = Decoder::default().line(&[MARK, &line].concat());
            let sum = checksum(OperationId(id), text.as_bytes());
            let _verdict = Decoder::default().line(format!("#KV:{id}:1/1:{sum:016x}{text}").as_bytes());
        }
    }
}
