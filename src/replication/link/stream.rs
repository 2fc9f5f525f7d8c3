//! Bytes from the primary, cut into lines, parts of a data set, and the commands of the stream.
//!
//! ```text
//!       fetched, and the node has taken it     fetched      not fetched
//!      ├──────────────────────────────────┼──────────────┼──────────────┤
//!    start                              taken           at
//!                                           ▲ boundary: the last end of a command or block
//! ```

use super::{Link, Output, State};
use crate::protocol::{Args, Limits, Parsed, Parser};
use crate::replication::history::{Offset, Standing};
use std::ops::Range;

/// Bytes that are used up and stay in the buffer before it is moved.
const MOVED_BYTES: usize = 64 << 10;
/// Memory that a buffer keeps once it is empty.
const KEPT_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Stream {
    bytes: Vec<u8>,
    /// What is before it was fetched.
    at: usize,
    /// What is before it was handed to the node's own history.
    taken: usize,
    /// The last end of a command, or of a block of them.
    boundary: usize,
    in_block: bool,
    parser: Parser,
}

/// A line has no end.
#[derive(Debug)]
pub(super) struct NoLine;

impl Stream {
    pub fn clear(&mut self) {
        *self = Stream { bytes: std::mem::take(&mut self.bytes), ..Stream::default() };
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
    }

    pub fn receive(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn waiting(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// The next line without its end, if all of it is here.
    pub fn line(&mut self, bytes_max: usize) -> Result<Option<Vec<u8>>, NoLine> {
        let waiting = self.waiting();
        match memchr::memchr(b'\n', waiting) {
            Some(end) if end <= bytes_max => {
                let line = waiting[..end].strip_suffix(b"\r").unwrap_or(&waiting[..end]).to_vec();
                self.use_up(end + 1);
                Ok(Some(line))
            }
            None if waiting.len() <= bytes_max => Ok(None),
            _ => Err(NoLine),
        }
    }

    /// The next bytes, so many at most.
    pub fn take(&mut self, bytes_max: usize) -> Vec<u8> {
        let waiting = self.waiting();
        let taken = waiting[..waiting.len().min(bytes_max)].to_vec();
        self.use_up(taken.len());
        taken
    }

    /// Something other than the stream is used.
    fn use_up(&mut self, bytes: usize) {
        self.at += bytes;
        (self.taken, self.boundary) = (self.at, self.at);
        self.compact();
    }

    fn compact(&mut self) {
        if self.taken == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES_MAX);
        } else if self.taken >= MOVED_BYTES.max(self.bytes.len() / 2) {
            self.bytes.drain(..self.taken);
        } else {
            return;
        }
        self.at -= self.taken;
        self.boundary -= self.taken;
        self.taken = 0;
    }

    /// Forgets what is not a whole command or block. True: a block was open, whose commands were fetched.
    pub fn drop_unfinished(&mut self) -> bool {
        let in_block = self.in_block;
        self.bytes.truncate(self.boundary);
        self.at = self.boundary;
        self.in_block = false;
        self.parser.reset();
        in_block
    }
}

/// What the stream says next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fetched {
    pub kind: Kind,
    /// The database that it is for.
    pub db: u32,
    /// The place of the stream behind it. [`Input::Applied`](super::Input::Applied) of this place says that it is done; of a block, the
    /// place behind its EXEC.
    pub end: Offset,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// To be run, or kept for the block it is in.
    Command,
    /// The commands up to EXEC are to be run as one.
    Multi,
    Exec,
    /// For the link alone; nothing to be run.
    Own,
}

impl Link {
    /// Fetches the next command of the stream, if all of it is here: its arguments are in `args`, of the bytes that
    /// [`Link::fetched_bytes`] gives for the range. When there is none, or from time to time, [`Link::take_stream`] is to be called.
    pub fn fetch(&mut self, args: &mut Args, out: &mut Vec<Output>) -> Option<(Fetched, Range<usize>)> {
        if !matches!(self.state, State::Connected) || self.corruption.is_some() {
            return None;
        }
        let mut standing = self.standing?;
        let (from, before) = (self.stream.at, standing.offset.plus((self.stream.at - self.stream.boundary) as u64));
        let input = self.stream.bytes.get(from..).unwrap_or_default();
        let consumed = match self.stream.parser.parse(input, &Limits::new(u64::MAX, u64::MAX, true), args) {
            Parsed::Incomplete { .. } => return None,
            Parsed::Command { .. } if args.is_inline() => {
                let what = "Receiving inline protocol from master, master stream corruption?";
                let done = "Closing the master connection and discarding the cached master.";
                self.corruption = Some(format!("WARNING: {what} {done}"));
                return None;
            }
            Parsed::Fatal(error) => {
                self.corruption = Some(format!("Protocol error ({}) from master", error.text()));
                return None;
            }
            Parsed::Empty { consumed } => {
                // Whatever the parser has left in them, an empty line has none.
                *args = Args::new();
                consumed
            }
            Parsed::Command { consumed } => consumed,
        };
        let (kind, end) = (self.understand(&mut standing, before, args, from, out), before.plus(consumed as u64));
        self.stream.at = from + consumed;
        if !self.stream.in_block {
            standing.offset = end;
            self.stream.boundary = self.stream.at;
        }
        self.standing = Some(standing);
        Some((Fetched { kind, db: standing.db, end }, from..from + consumed))
    }

    /// The bytes of the command fetched last.
    pub fn fetched_bytes(&self, range: Range<usize>) -> &[u8] {
        self.stream.bytes.get(range).unwrap_or_default()
    }

    /// What a command means to the link.
    fn understand(&mut self, standing: &mut Standing, before: Offset, args: &Args, from: usize, out: &mut Vec<Output>) -> Kind {
        let input = self.stream.bytes.get(from..).unwrap_or_default();
        let Some(name) = (!args.is_empty()).then(|| args.get(input, 0)) else { return Kind::Own };
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        // The first letter spares most commands the comparisons.
        match name.first().map(u8::to_ascii_lowercase) {
            Some(b'm') if is("multi") => {
                self.stream.in_block = true;
                Kind::Multi
            }
            Some(b'e') if is("exec") => {
                self.stream.in_block = false;
                Kind::Exec
            }
            Some(b'd') if is("discard") => {
                self.stream.in_block = false;
                out.push(Output::DropBlock);
                Kind::Own
            }
            Some(b'p') if is("ping") => Kind::Own,
            Some(b's') if is("select") && args.len() == 2 => {
                let db = std::str::from_utf8(args.get(input, 1)).ok().and_then(|text| text.parse().ok());
                standing.db = db.unwrap_or(standing.db);
                Kind::Own
            }
            Some(b'r') if is("replconf") => {
                if args.len() >= 2 && args.get(input, 1).eq_ignore_ascii_case(b"getack") {
                    // As Redis: how far it is without this command.
                    (self.ack_wanted, self.disk_ack_wanted) = (Some(before), Some(before));
                    if self.applied >= before {
                        self.ack(out);
                    }
                }
                Kind::Own
            }
            _ => Kind::Command,
        }
    }

    /// The bytes of whole commands and blocks fetched since the last call, as the primary has sent them: the node's own stream.
    pub fn take_stream(&mut self, take: impl FnOnce(&[u8])) {
        let stream = &mut self.stream;
        if stream.boundary > stream.taken {
            take(stream.bytes.get(stream.taken..stream.boundary).unwrap_or_default());
            stream.taken = stream.boundary;
            stream.compact();
        }
    }

    /// The place up to which bytes have come (`slave_read_repl_offset`).
    pub(super) fn read_offset(&self) -> Option<Offset> {
        let read = if matches!(self.state, State::Connected) { self.stream.bytes.len() - self.stream.boundary } else { 0 };
        self.standing.map(|standing| standing.offset.plus(read as u64))
    }
}
