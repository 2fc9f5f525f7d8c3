//! Reads the command part of an append-only file: bytes in, cut anywhere; commands, with their offsets, out.
//!
//! ```text
//! #TS:1700000000\r\n                     annotation: a line that redis-server skips
//! *1\r\n$5\r\nMULTI\r\n                  ← an end in what follows is cut back to before this MULTI
//! *3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n
//! *1\r\n$4\r\nEXEC\r\n
//! ```
//!
//! Owns the difference between a *truncated* file, whose last command is merely unfinished (the usual trace of a crash), and a
//! *corrupt* one. Refuses to know what commands mean, except that MULTI and EXEC enclose what counts as one. A file that begins
//! with an RDB is told apart; that part is read by another codec, and the rest by a reader that begins [`AofReader::at`] its end.
//!
//! The limits are those of redis-server's loader (at least one argument, no limit on an argument's length but the file's, an
//! annotation line of at most [`LINE_BYTES_MAX`] bytes), with these differences, each on the safe side:
//! - headers are `*` or `$`, digits and CR LF, and an argument ends with CR LF, as redis-check-aof wants it. The loader of
//!   Redis takes `*3junk\n`, and any two bytes after an argument;
//! - an annotation without its line feed at the end of the file counts as truncated. Redis keeps it, and swallows with it
//!   the head of the command it appends next;
//! - when the first command behind an RDB is unfinished, the place to cut is the RDB's end. Redis 7.0.15 cuts the file to nothing;
//! - a command is shorter than 4 GiB.
//!
//! The cost is one copy of the bytes. Memory is what was fed and not yet returned; a length that a file merely claims costs
//! nothing.

use std::fmt;

use kvshard::Args;
use memchr::memchr;

/// Longest annotation line, its CR LF included: redis-server 7 reads lines with a buffer of 1024 bytes, and takes what does not
/// fit for a command.
pub const LINE_BYTES_MAX: usize = 1023;
/// Longest command with all its headers: its arguments are 32-bit ranges.
pub const COMMAND_BYTES_MAX: usize = u32::MAX as usize;
/// Most arguments of a command.
pub const ARGS_MAX: u32 = i32::MAX as u32;
/// A larger buffer is given back once it is empty.
const BUFFER_BYTES_KEPT_MAX: usize = 1 << 20;

/// What an RDB file begins with.
const RDB_MAGIC: &[u8] = b"REDIS";

/// What comes next in the file.
#[derive(Debug)]
pub enum Step<'a> {
    Command(Command<'a>),
    /// Only with [`AofReader::with_annotations`].
    Annotation(Annotation<'a>),
    /// The file begins with an RDB, and nothing of it was consumed. This reader gives nothing else.
    Preamble,
    /// Feed more, or finish.
    NeedMore,
}

pub struct Command<'a> {
    /// Where the command begins in the file, in bytes.
    pub offset: u64,
    /// Where it ends.
    pub end: u64,
    pub args: Args<'a>,
    /// The command as it stands in the file.
    pub raw: &'a [u8],
    /// The offset of the MULTI that the command belongs to; MULTI and EXEC belong to their own block.
    pub transaction: Option<u64>,
}

impl fmt::Debug for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.offset, self.end)?;
        self.args.iter().try_for_each(|arg| write!(f, " \"{}\"", arg.escape_ascii()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Annotation<'a> {
    pub offset: u64,
    /// From the `#` on, without its line end.
    pub line: &'a [u8],
    /// The offset of the MULTI inside whose block the line stands.
    pub transaction: Option<u64>,
}

/// How a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a whole command or annotation, at this offset.
    Whole { offset: u64 },
    /// In the middle of something. Cut at `offset`, the file holds exactly its whole commands and transactions.
    Truncated {
        offset: u64,
        /// A MULTI has no EXEC, so that whole commands are cut off with it.
        in_transaction: bool,
    },
}

/// What is wrong with a corrupt file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Neither a command nor an annotation begins here.
    Start(u8),
    /// A number of arguments that is none, or out of range.
    Count,
    /// An argument's header that is none, or its length out of range.
    Length,
    /// An argument is not followed by CR LF.
    Terminator,
    AnnotationTooLong,
    CommandTooLong,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Start(byte) => write!(f, "expected '*' or '#', got '{}'", byte.escape_ascii()),
            Fault::Count => f.write_str("invalid number of arguments"),
            Fault::Length => f.write_str("invalid length of an argument"),
            Fault::Terminator => f.write_str("an argument does not end with CR LF"),
            Fault::AnnotationTooLong => write!(f, "an annotation is longer than {LINE_BYTES_MAX} bytes"),
            Fault::CommandTooLong => write!(f, "a command is longer than {COMMAND_BYTES_MAX} bytes"),
        }
    }
}

/// Bytes that no tail cut off could leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// Where the line or the argument's end in question begins.
    pub offset: u64,
    pub fault: Fault,
}

impl Corrupt {
    /// The words of redis-server for a file of this name.
    pub fn message(&self, file: &str) -> String {
        format!(
            "Bad file format reading the append only file {file}: \
             make a backup of your AOF file, then use ./redis-check-aof --fix <filename.manifest>"
        )
    }
}

/// Reads one file from its beginning to its end.
#[derive(Debug)]
pub struct AofReader {
    buffer: Vec<u8>,
    /// Where `buffer[0]` is in the file.
    buffer_offset: u64,
    /// Where in `buffer` the command or annotation in progress begins.
    start: usize,
    progress: Progress,
    /// Arguments of the command in progress, from its beginning.
    ranges: Vec<(u32, u32)>,
    with_annotations: bool,
    /// The file is known not to begin with an RDB.
    is_text: bool,
    /// The end of the last whole command.
    command_end: u64,
    /// The MULTI of the block in progress: its own offset, and the end of the command before it.
    transaction: Option<(u64, u64)>,
}

/// The place inside a command that is not all here yet.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// The next header or, with a length, the argument itself; from the command's beginning.
    item: usize,
    /// Arguments still to come; 0 until the count is read.
    remaining: u32,
    len: Option<u32>,
}

/// A step without its borrow.
enum Found {
    Command { start: usize, transaction: Option<u64> },
    Annotation { start: usize, end: usize },
    Preamble,
    NeedMore,
}

impl Default for AofReader {
    fn default() -> Self {
        AofReader::new()
    }
}

impl AofReader {
    /// Reads a file from its first byte.
    pub fn new() -> AofReader {
        AofReader {
            buffer: Vec::new(),
            buffer_offset: 0,
            start: 0,
            progress: Progress::default(),
            ranges: Vec::new(),
            with_annotations: false,
            is_text: false,
            command_end: 0,
            transaction: None,
        }
    }

    /// Reads what follows an RDB that ends at `offset` of the file.
    pub fn at(offset: u64) -> AofReader {
        AofReader { buffer_offset: offset, command_end: offset, is_text: true, ..AofReader::new() }
    }

    /// Annotations are given too, instead of being skipped.
    pub fn with_annotations(self) -> AofReader {
        AofReader { with_annotations: true, ..self }
    }

    /// The next bytes of the file.
    pub fn feed(&mut self, chunk: &[u8]) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.buffer.shrink_to(BUFFER_BYTES_KEPT_MAX);
        } else if self.start >= self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
        } else {
            self.buffer.extend_from_slice(chunk);
            return;
        }
        self.buffer_offset += self.start as u64;
        self.start = 0;
        self.buffer.extend_from_slice(chunk);
    }

    /// The next command or annotation. After an error the same error comes again.
    pub fn next(&mut self) -> Result<Step<'_>, Corrupt> {
        Ok(match self.advance()? {
            Found::Command { start, transaction } => Step::Command(Command {
                offset: self.offset(start),
                end: self.offset(self.start),
                args: Args::new(&self.buffer[start..self.start], &self.ranges),
                raw: &self.buffer[start..self.start],
                transaction,
            }),
            Found::Annotation { start, end } => Step::Annotation(Annotation {
                offset: self.offset(start),
                line: &self.buffer[start..end],
                transaction: self.transaction.map(|(offset, _)| offset),
            }),
            Found::Preamble => Step::Preamble,
            Found::NeedMore => Step::NeedMore,
        })
    }

    /// How the file ends, when all of it was fed and [`next`](Self::next) needs more. Gives the error of `next`, if any.
    pub fn finish(mut self) -> Result<End, Corrupt> {
        let found = self.advance()?;
        assert!(matches!(found, Found::NeedMore | Found::Preamble), "the file was not read to its end");
        let offset = self.offset(self.start);
        if self.start == self.buffer.len() && self.transaction.is_none() {
            return Ok(End::Whole { offset });
        }
        match (self.is_text, self.buffer.get(self.start)) {
            // Shorter than what an RDB begins with.
            (false, Some(&byte)) => Err(Corrupt { offset, fault: Fault::Start(byte) }),
            _ => Ok(End::Truncated {
                offset: self.transaction.map_or(self.command_end, |(_, before)| before),
                in_transaction: self.transaction.is_some(),
            }),
        }
    }

    /// The end of the last whole command: what a tail cut off leaves, outside a transaction.
    pub fn command_end(&self) -> u64 {
        self.command_end
    }

    fn offset(&self, index: usize) -> u64 {
        self.buffer_offset + index as u64
    }

    fn corrupt<T>(&self, index: usize, fault: Fault) -> Result<T, Corrupt> {
        Err(Corrupt { offset: self.offset(index), fault })
    }

    fn advance(&mut self) -> Result<Found, Corrupt> {
        loop {
            let rest = &self.buffer[self.start..];
            match rest.first() {
                Some(b'*') => return self.command(),
                Some(b'#') => {
                    self.is_text = true;
                    let window = &rest[..rest.len().min(LINE_BYTES_MAX)];
                    let start = self.start;
                    match memchr(b'\n', window) {
                        Some(len) => self.start += len + 1,
                        None if window.len() < LINE_BYTES_MAX => return Ok(Found::NeedMore),
                        None => return self.corrupt(start, Fault::AnnotationTooLong),
                    }
                    if self.with_annotations {
                        let end = self.start - 1;
                        let end = end - usize::from(self.buffer[end - 1] == b'\r');
                        return Ok(Found::Annotation { start, end });
                    }
                }
                Some(b'R') if !self.is_text && rest.starts_with(RDB_MAGIC) => return Ok(Found::Preamble),
                Some(b'R') if !self.is_text && RDB_MAGIC.starts_with(rest) => return Ok(Found::NeedMore),
                Some(&byte) => return self.corrupt(self.start, Fault::Start(byte)),
                None => return Ok(Found::NeedMore),
            }
        }
    }

    fn command(&mut self) -> Result<Found, Corrupt> {
        self.is_text = true;
        let input = &self.buffer[self.start..];
        let Progress { mut item, mut remaining, mut len } = self.progress;
        if remaining == 0 {
            self.ranges.clear();
            match header(input) {
                Header::Number { value: count @ 1..=ARGS_MAX, size } => (remaining, item) = (count, size),
                Header::Partial if input.get(1) != Some(&b'0') => return Ok(Found::NeedMore),
                _ => return self.corrupt(self.start, Fault::Count),
            }
        }
        loop {
            let known = match len {
                Some(known) => known,
                None => match input.get(item) {
                    Some(b'$') => match header(&input[item..]) {
                        Header::Number { value, size } => {
                            item += size;
                            value
                        }
                        Header::Partial => break,
                        Header::Bad => return self.corrupt(self.start + item, Fault::Length),
                    },
                    Some(_) => return self.corrupt(self.start + item, Fault::Length),
                    None => break,
                },
            };
            len = Some(known);
            let end = item + known as usize;
            if end + 2 > COMMAND_BYTES_MAX {
                return self.corrupt(self.start, Fault::CommandTooLong);
            }
            match input.get(end..input.len().min(end + 2)) {
                Some(b"\r\n") => {}
                Some(b"" | b"\r") | None => break,
                Some(_) => return self.corrupt(self.start + end, Fault::Terminator),
            }
            self.ranges.push((item as u32, end as u32));
            (item, len) = (end + 2, None);
            remaining -= 1;
            if remaining == 0 {
                return Ok(self.whole_command(item));
            }
        }
        self.progress = Progress { item, remaining, len };
        Ok(Found::NeedMore)
    }

    fn whole_command(&mut self, len: usize) -> Found {
        let start = self.start;
        let offset = self.offset(start);
        let name = Args::new(&self.buffer[start..start + len], &self.ranges).at(0);
        // A MULTI inside a block changes nothing; what to make of it is for whoever runs the commands.
        if name.len() == 5 && name.eq_ignore_ascii_case(b"multi") {
            self.transaction.get_or_insert((offset, self.command_end));
        }
        let transaction = self.transaction.map(|(offset, _)| offset);
        if name.len() == 4 && name.eq_ignore_ascii_case(b"exec") {
            self.transaction = None;
        }
        self.progress = Progress::default();
        self.start += len;
        self.command_end = offset + len as u64;
        Found::Command { start, transaction }
    }
}

enum Header {
    Number { value: u32, size: usize },
    Partial,
    Bad,
}

/// The number between the first byte of `input` and CR LF: digits without leading zeros, within 32 bits.
#[inline(always)]
fn header(input: &[u8]) -> Header {
    let mut value = 0u64;
    let mut at = 1;
    loop {
        match input.get(at) {
            Some(digit @ b'0'..=b'9') if value > 0 || at == 1 => {
                value = value * 10 + u64::from(digit - b'0');
                if value > u64::from(u32::MAX) {
                    return Header::Bad;
                }
                at += 1;
            }
            Some(b'\r') if at > 1 => {
                return match input.get(at + 1) {
                    Some(b'\n') => Header::Number { value: value as u32, size: at + 2 },
                    Some(_) => Header::Bad,
                    None => Header::Partial,
                };
            }
            Some(_) => return Header::Bad,
            None => return Header::Partial,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A command of a file with everything the reader says about it.
    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Seen {
        Command { offset: u64, end: u64, args: Vec<Vec<u8>>, transaction: Option<u64> },
        Annotation { offset: u64, line: Vec<u8>, transaction: Option<u64> },
        Preamble,
    }

    fn read_chunks<'a>(reader: AofReader, chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Seen>, Result<End, Corrupt>) {
        let mut reader = reader.with_annotations();
        let mut seen = Vec::new();
        let mut chunks = chunks.into_iter();
        loop {
            match reader.next() {
                Ok(Step::Command(Command { offset, end, args, transaction, raw })) => {
                    assert_eq!(raw.len() as u64, end - offset);
                    seen.push(Seen::Command { offset, end, args: args.iter().map(<[u8]>::to_vec).collect(), transaction });
                }
                Ok(Step::Annotation(Annotation { offset, line, transaction })) => {
                    seen.push(Seen::Annotation { offset, line: line.to_vec(), transaction });
                }
                Ok(Step::Preamble) => {
                    seen.push(Seen::Preamble);
                    return (seen, reader.finish());
                }
                Ok(Step::NeedMore) => match chunks.next() {
                    Some(chunk) => reader.feed(chunk),
                    None => return (seen, reader.finish()),
                },
                Err(error) => {
                    assert_eq!(reader.finish(), Err(error), "an error comes again");
                    return (seen, Err(error));
                }
            }
        }
    }

    fn read(file: &[u8]) -> (Vec<Seen>, Result<End, Corrupt>) {
        read_chunks(AofReader::new(), [file])
    }

    /// Words separated by blanks.
    fn command(text: &str) -> Vec<u8> {
        let words: Vec<&str> = text.split(' ').collect();
        let mut out = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| out += &format!("${}\r\n{word}\r\n", word.len()));
        out.into_bytes()
    }

    /// Commands (in words), annotations (with `#`, which get a CR LF), one a line.
    fn file(lines: &str) -> Vec<u8> {
        let line = |line: &str| match line.starts_with('#') {
            true => format!("{line}\r\n").into_bytes(),
            false => command(line),
        };
        lines.lines().flat_map(line).collect()
    }

    const SAMPLE: &str =
        "#TS:1700000000\nSELECT 0\nSET k v\n#TS:1700000001\nMULTI\n#KV:1\nSET a 1\nDEL  b\nEXEC\nmUlTi\neXec\nPING\n#end";

    #[test]
    fn commands_come_with_offsets_and_blocks() {
        let (seen, end) = read(&file("SET k v\n#x\nMULTI\n#y\nDEL k\nEXEC\nPING"));
        let command = |offset, end, words: &str, transaction| Seen::Command {
            offset,
            end,
            args: words.split(' ').map(|word| word.as_bytes().to_vec()).collect(),
            transaction,
        };
        let annotation = |offset, line: &str, transaction| Seen::Annotation { offset, line: line.into(), transaction };
        let expected = [
            command(0, 27, "SET k v", None),
            annotation(27, "#x", None),
            command(31, 46, "MULTI", Some(31)),
            annotation(46, "#y", Some(31)),
            command(50, 70, "DEL k", Some(31)),
            command(70, 84, "EXEC", Some(31)),
            command(84, 98, "PING", None),
        ];
        assert_eq!(seen, expected);
        assert_eq!(end, Ok(End::Whole { offset: 98 }));
    }

    #[test]
    fn annotations_are_skipped_by_default() {
        let mut reader = AofReader::new();
        reader.feed(&file("#TS:1\n#\nPING\n#x"));
        assert!(matches!(reader.next(), Ok(Step::Command(Command { offset: 10, end: 24, .. }))));
        assert!(matches!(reader.next(), Ok(Step::NeedMore)));
        assert_eq!(reader.finish(), Ok(End::Whole { offset: 28 }));
    }

    #[test]
    fn every_chunk_size_gives_the_same() {
        let mut file = file(SAMPLE);
        file.extend(command(&format!("SET big {}", "x".repeat(3000))));
        let whole = read(&file);
        assert_eq!(whole.0.len(), 14);
        for size in 1..file.len() {
            assert_eq!(read_chunks(AofReader::new(), file.chunks(size)), whole, "chunks of {size}");
        }
    }

    #[test]
    fn every_cut_gives_the_whole_commands_before_it() {
        let file = file(SAMPLE);
        let (all, _) = read(&file);
        let mut blocks = 0;
        for cut in 0..=file.len() {
            let (seen, end) = read(&file[..cut]);
            assert_eq!(seen, all[..seen.len()], "cut at {cut}");
            let commands = || {
                seen.iter().filter_map(|seen| match seen {
                    Seen::Command { offset, end, args, .. } => Some((*offset, *end, args[0].to_ascii_lowercase())),
                    _ => None,
                })
            };
            let before_block = |offset: u64| commands().map(|(_, end, _)| end).filter(|end| *end <= offset).max().unwrap_or(0);
            let open = commands().rfind(|(_, _, name)| name == b"multi" || name == b"exec");
            let open = open.filter(|(_, _, name)| name == b"multi");
            match end {
                Ok(End::Whole { offset }) => assert_eq!((offset, &open), (cut as u64, &None)),
                Ok(End::Truncated { offset, in_transaction }) => {
                    let expected = open.as_ref().map_or(before_block(u64::MAX), |(multi, ..)| before_block(*multi));
                    assert_eq!((offset, in_transaction), (expected, open.is_some()), "cut at {cut}");
                    assert!(matches!(read(&file[..offset as usize]).1, Ok(End::Whole { .. })));
                    blocks += usize::from(in_transaction);
                }
                Err(error) => panic!("cut at {cut}: {error:?}"),
            }
        }
        assert!(blocks > 20);
    }

    #[test]
    fn truncated_ends_name_the_place_to_cut() {
        let cases: [(&[u8], u64, bool); 9] = [
            (b"*", 27, false),
            (b"*1", 27, false),
            (b"*1\r", 27, false),
            (b"*1\r\n$100\r\nabc", 27, false),
            (b"*1\r\n$4\r\nPING", 27, false),
            (b"*1\r\n$4\r\nPING\r", 27, false),
            (b"#TS:17", 27, false),
            (b"#x\r\n*", 27, false),
            (b"#x\r\n*1\r\n$5\r\nMULTI\r\n*1\r\n$5\r\nMULTI\r\n", 27, true),
        ];
        for (tail, offset, in_transaction) in cases {
            let file = [&command("SET k v"), tail].concat();
            assert_eq!(read(&file).1, Ok(End::Truncated { offset, in_transaction }), "{}", tail.escape_ascii());
        }
        assert_eq!(read(b"").1, Ok(End::Whole { offset: 0 }));
        assert_eq!(read(b"*").1, Ok(End::Truncated { offset: 0, in_transaction: false }));
    }

    #[test]
    fn corruption_is_told_from_a_cut_tail() {
        let long_line = [b"#".repeat(LINE_BYTES_MAX - 1), b"\n".to_vec()].concat();
        assert!(read(&long_line).1.is_ok());
        let too_long = b"#".repeat(LINE_BYTES_MAX);
        let cases: [(&[u8], u64, Fault); 22] = [
            (b"x", 0, Fault::Start(b'x')),
            (b"\0\0\0\0", 0, Fault::Start(0)),
            (b"REDI", 0, Fault::Start(b'R')),
            (b"REDIT", 0, Fault::Start(b'R')),
            (b"#x\r\nREDIS0009", 4, Fault::Start(b'R')),
            (b"*0", 0, Fault::Count),
            (b"*0\r\n", 0, Fault::Count),
            (b"*-1\r\n", 0, Fault::Count),
            (b"*01\r\n", 0, Fault::Count),
            (b"*\r\n", 0, Fault::Count),
            (b"*1\n", 0, Fault::Count),
            (b"*1\rx", 0, Fault::Count),
            (b"*2147483648\r\n", 0, Fault::Count),
            (b"*99999999999", 0, Fault::Count),
            (b"*1\r\nx", 4, Fault::Length),
            (b"*1\r\n$-1\r\n", 4, Fault::Length),
            (b"*1\r\n$4294967296\r\n", 4, Fault::Length),
            (b"*1\r\n$4294967295\r\n", 0, Fault::CommandTooLong),
            (b"*1\r\n$4\r\nPINGx", 12, Fault::Terminator),
            (b"*1\r\n$4\r\nPING\rx", 12, Fault::Terminator),
            (b"*1\r\n$4\r\nPING\r\n\r\n", 14, Fault::Start(b'\r')),
            (&too_long, 0, Fault::AnnotationTooLong),
        ];
        for (bytes, offset, fault) in cases {
            let error = Corrupt { offset, fault };
            assert_eq!(read(bytes).1, Err(error), "{}", bytes.escape_ascii());
            assert_eq!(read_chunks(AofReader::new(), bytes.chunks(1)).1, Err(error), "{}", bytes.escape_ascii());
        }
        let message = Corrupt { offset: 0, fault: Fault::Count }.message("a.aof");
        assert!(message.starts_with("Bad file format reading the append only file a.aof: make a backup"));
    }

    #[test]
    fn an_rdb_at_the_beginning_is_left_to_its_codec() {
        let (seen, _) = read_chunks(AofReader::new(), [&b"RED"[..], b"IS0009..."]);
        assert_eq!(seen, [Seen::Preamble]);
        let (seen, end) = read_chunks(AofReader::at(100), [&command("PING")[..], b"*"]);
        assert!(matches!(seen[..], [Seen::Command { offset: 100, end: 114, .. }]));
        assert_eq!(end, Ok(End::Truncated { offset: 114, in_transaction: false }));
        assert_eq!(read_chunks(AofReader::at(100), [&b"*"[..]]).1, Ok(End::Truncated { offset: 100, in_transaction: false }));
    }

    #[test]
    fn memory_follows_what_was_fed_not_what_is_claimed() {
        let mut reader = AofReader::new();
        reader.feed(b"*2000000000\r\n$4000000000\r\n");
        assert!(matches!(reader.next(), Ok(Step::NeedMore)));
        assert!(reader.buffer.capacity() < 1000 && reader.ranges.capacity() < 1000);
        let mut reader = AofReader::new();
        for _ in 0..10 {
            reader.feed(&command(&"x".repeat(BUFFER_BYTES_KEPT_MAX)));
            assert!(matches!(reader.next(), Ok(Step::Command(_))));
        }
        reader.feed(b"");
        assert!(reader.buffer.capacity() <= BUFFER_BYTES_KEPT_MAX);
    }

    proptest! {
        #[test]
        fn any_bytes_any_cuts_one_verdict(bytes in proptest::collection::vec(hostile(), 0..60), size in 1usize..9) {
            let bytes = bytes.concat();
            prop_assert_eq!(read_chunks(AofReader::new(), bytes.chunks(size)), read(&bytes));
        }
    }

    /// Pieces that often make something valid.
    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 1..3),
            proptest::sample::select(
                &["*1", "*2", "$4", "$5", "\r\n", "\r", "MULTI", "exec", "#", "REDIS", "*1\r\n$5\r\nmulti\r\n"][..]
            )
            .prop_map(|text| text.as_bytes().to_vec()),
        ]
    }
}
