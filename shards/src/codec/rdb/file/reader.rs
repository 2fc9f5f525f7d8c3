//! Reading a file that comes in chunks.
//!
//! The caller passes a chunk and takes events until there are none, then passes the next. What lies whole in a chunk is
//! borrowed from it; only a token that goes over a chunk's end is copied, once, into a buffer that grows with what has
//! come and never with what a length claims. The [`Skipper`] remembers where it stands in such a token.

use super::super::{CodecError, Reader, ValueLimits, decode_value};
use super::skip::{STRING_BYTES_MAX, Skipper, Step, form, short_record};
use super::writer::{Access, attributes};
use super::{CHECKSUM_BYTES, CHECKSUM_SINCE, Cause, Checksum, FileError, HEADER_BYTES, MAGIC, Reading, VERSIONS_READ, opcode};
use crate::codec::crc64::{CRC_BLOCK, crc64};
use crate::keyspace::OwnedEntry;
use std::borrow::Cow;

/// Bytes whose checksum is computed at once, while they are in the cache: whole blocks of its lanes.
const CHECKSUM_STRIDE: usize = 4 * CRC_BLOCK;
/// Bytes that are at least copied for a token that goes over a chunk's end; what is too much is given back.
const GATHER_MIN: usize = 4096;
/// A buffer larger than this is freed after its token.
const GATHERED_KEPT_MAX: usize = 1 << 20;

const STREAM_TYPES: [u8; 3] = [15, 19, 21];
const MODULE_TYPES: [u8; 2] = [6, 7];
/// What stands before the time at which a module's data is loaded.
const MODULE_WHEN: u64 = 2;

/// An error inside the reader: small while all goes well.
type Fault = Box<FileError>;

/// What a file holds, in its order.
#[derive(Debug)]
pub enum Event<'a> {
    Aux {
        name: Cow<'a, [u8]>,
        value: Cow<'a, [u8]>,
    },
    SelectDb(u64),
    ResizeDb {
        keys: u64,
        expiring: u64,
    },
    Key(Record<'a>),
    /// The code of a function library.
    Function(Cow<'a, [u8]>),
    /// Data of a module, skipped.
    ModuleAux {
        module: String,
    },
    End(End),
}

/// What the end of the file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    ChecksumRight,
    ChecksumWrong,
    /// The file was written without one.
    ChecksumDisabled,
    /// The version has none, or the reader was told not to compute it.
    ChecksumUnknown,
}

/// A key with its value still encoded.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    pub key: Cow<'a, [u8]>,
    pub expiry_ms: Option<i64>,
    pub access: Option<Access>,
    pub value_type: u8,
    /// The encoded value, without its type.
    pub value: &'a [u8],
    /// Where the value begins in the file.
    pub offset: u64,
    /// Type, key and value as they stood in the file.
    raw: &'a [u8],
}

impl Record<'_> {
    /// Decodes the value. `Cause::Value(CodecError::Empty)` is a key that redis-server skips.
    pub fn entry(&self, limits: &ValueLimits) -> Result<OwnedEntry, FileError> {
        if let Some(what) = self.unsupported() {
            return Err(self.error(0, Cause::Unsupported(what)));
        }
        let mut reader = Reader::new(self.value);
        let decoded = decode_value(self.value_type, &mut reader, limits);
        let at = reader.position();
        match decoded {
            Ok(decoded) if reader.remaining() == 0 => Ok(decoded.into_entry(&self.key, self.expiry_ms)),
            Ok(_) => Err(self.error(at, Cause::Value(CodecError::Damaged("a value ends too early")))),
            Err(error) => Err(self.error(at, Cause::Value(error))),
        }
    }

    /// What kvcore has no value for: "stream keys".
    pub fn unsupported(&self) -> Option<&'static str> {
        if STREAM_TYPES.contains(&self.value_type) {
            Some("stream keys")
        } else if MODULE_TYPES.contains(&self.value_type) {
            Some("module keys")
        } else {
            None
        }
    }

    /// Appends the record to a batch for [`Records`].
    pub fn append_to(&self, batch: &mut Vec<u8>) {
        batch.extend_from_slice(&self.offset.to_le_bytes());
        attributes(self.expiry_ms, self.access, batch);
        batch.extend_from_slice(self.raw);
    }

    fn error(&self, at: usize, cause: Cause) -> FileError {
        FileError {
            value_type: Some(self.value_type),
            key: Some(self.key.to_vec()),
            ..FileError::new(self.offset + at as u64, Reading::Value, cause)
        }
    }
}

/// The records that [`Record::append_to`] put into a batch, in their order, with their offsets in the file.
pub struct Records<'a> {
    batch: &'a [u8],
    cutter: Cutter,
}

impl<'a> Records<'a> {
    pub fn new(batch: &'a [u8]) -> Self {
        Records { batch, cutter: Cutter::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    fn record(&mut self) -> Result<Record<'a>, FileError> {
        const DAMAGED: CodecError = CodecError::Damaged("damaged batch of records");
        let error = |cause| FileError::new(0, Reading::Type, cause);
        let (head, mut rest) = self.batch.split_first_chunk::<8>().ok_or(error(Cause::Incomplete))?;
        loop {
            let Step::Done(len) = self.cutter.cut(rest, 0).map_err(|fault| *fault)? else { return Err(error(Cause::Incomplete)) };
            let (token, after) = rest.split_at(len);
            rest = after;
            if self.cutter.attribute(token) {
                continue;
            }
            self.batch = rest;
            return match self.cutter.event(token, 0)? {
                Some(Event::Key(record)) => Ok(Record { offset: u64::from_le_bytes(*head), ..record }),
                _ => Err(error(Cause::Value(DAMAGED))),
            };
        }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, FileError>;

    /// Nothing comes after an error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.batch.is_empty() {
            return None;
        }
        let record = self.record();
        if record.is_err() {
            self.batch = &[];
        }
        Some(record)
    }
}

/// Finds the ends of tokens, and keeps what stands before a key until the key comes.
#[derive(Default)]
struct Cutter {
    skipper: Skipper,
    /// The first byte of the token that the skipper is in.
    inside: Option<u8>,
    expiry_ms: Option<i64>,
    idle_s: Option<u64>,
    frequency: Option<u8>,
    /// The type of the last key that began.
    value_type: Option<u8>,
}

impl Cutter {
    /// How far the token goes at whose beginning `input` stands. `offset` is the token's place in the file.
    #[inline]
    fn cut(&mut self, input: &[u8], offset: u64) -> Result<Step, Fault> {
        let Some(&first) = input.first() else { return Ok(Step::Need(1)) };
        if self.inside.is_none() {
            if let Some(len) = short_record(input) {
                self.value_type = Some(first);
                return Ok(Step::Done(len));
            }
            let Some(form) = form(first) else { return Err(self.no_form(first, offset)) };
            self.skipper.begin(form);
            self.inside = Some(first);
            if first < opcode::SLOT_INFO {
                self.value_type = Some(first);
            }
        }
        match self.skipper.advance(input) {
            Ok(Step::Done(len)) => {
                self.inside = None;
                Ok(Step::Done(len))
            }
            Ok(need) => Ok(need),
            Err(what) => Err(Box::new(self.error(input, offset, Cause::Value(CodecError::Damaged(what))))),
        }
    }

    #[cold]
    fn no_form(&self, first: u8, offset: u64) -> Fault {
        let cause = match first {
            opcode::FUNCTION_BEFORE_RELEASE => Cause::FunctionBeforeRelease,
            _ => Cause::Value(CodecError::UnknownType(first)),
        };
        Box::new(FileError { value_type: self.value_type, ..FileError::new(offset + 1, Reading::Type, cause) })
    }

    /// An error at the place where the skipper stopped in the token `input`.
    #[cold]
    fn error(&self, input: &[u8], offset: u64, cause: Cause) -> FileError {
        let Some(first) = self.inside else {
            return FileError { value_type: self.value_type, ..FileError::new(offset, Reading::Type, cause) };
        };
        let key_end = self.skipper.key_end();
        let key = input.get(1..key_end).and_then(|raw| Reader::new(raw).string().ok());
        FileError {
            offset: offset + self.skipper.stopped_at() as u64,
            reading: reading(first, key_end > 0),
            cause,
            value_type: self.value_type,
            key: key.map(|key| key.into_bytes().into_owned()),
        }
    }

    /// Takes in a token that says something about the next key; false if it is none.
    #[inline]
    fn attribute(&mut self, token: &[u8]) -> bool {
        let Some((&first, rest)) = token.split_first() else { return true };
        match first {
            opcode::EXPIRY_MS => self.expiry_ms = rest.first_chunk().map(|&at_ms| i64::from_le_bytes(at_ms)),
            opcode::EXPIRY_S => {
                self.expiry_ms = rest.first_chunk().map(|&at_s| i64::from(i32::from_le_bytes(at_s)) * 1000);
            }
            opcode::IDLE => self.idle_s = Reader::new(rest).length().ok(),
            opcode::FREQUENCY => self.frequency = rest.first().copied(),
            opcode::SLOT_INFO => {}
            _ => return false,
        }
        true
    }

    /// What a whole token that is no attribute says; `None` for the opcode of the end.
    fn event<'a>(&mut self, token: &'a [u8], offset: u64) -> Result<Option<Event<'a>>, FileError> {
        let Some(&first) = token.first() else { return Ok(None) };
        let mut reader = Reader::new(token);
        let value_type = self.value_type;
        let event = self.event_of(first, token, &mut reader, offset);
        let at = offset + reader.position() as u64;
        event.map_err(|error| FileError { value_type, ..FileError::new(at, reading(first, false), Cause::Value(error)) })
    }

    fn event_of<'a>(
        &mut self,
        first: u8,
        token: &'a [u8],
        reader: &mut Reader<'a>,
        offset: u64,
    ) -> Result<Option<Event<'a>>, CodecError> {
        reader.byte()?;
        Ok(Some(match first {
            opcode::AUX => Event::Aux { name: reader.string()?.into_bytes(), value: reader.string()?.into_bytes() },
            opcode::SELECT_DB => Event::SelectDb(reader.length()?),
            opcode::RESIZE_DB => Event::ResizeDb { keys: reader.length()?, expiring: reader.length()? },
            opcode::FUNCTION => Event::Function(reader.string()?.into_bytes()),
            opcode::MODULE_AUX => {
                let module = module_name(reader.length()?);
                if reader.length()? != MODULE_WHEN {
                    return Err(CodecError::Damaged("bad when_opcode"));
                }
                Event::ModuleAux { module }
            }
            opcode::END => return Ok(None),
            value_type => {
                let key = match token.get(1) {
                    Some(&len @ 0..0x40) => {
                        reader.byte()?;
                        Cow::Borrowed(reader.bytes(len.into())?)
                    }
                    _ => reader.string()?.into_bytes(),
                };
                let value = &token[reader.position()..];
                // As in Redis, -1 stands for no expiry. A file has idle times or frequencies, never both.
                let expiry_ms = self.expiry_ms.take().filter(|at_ms| *at_ms != -1);
                let frequency = self.frequency.take().map(Access::Frequency);
                let access = self.idle_s.take().map(Access::IdleSeconds).or(frequency);
                let offset = offset + reader.position() as u64;
                self.value_type = None;
                Event::Key(Record { key, expiry_ms, access, value_type, value, offset, raw: token })
            }
        }))
    }
}

/// What a token that begins with `first` holds.
fn reading(first: u8, has_key: bool) -> Reading {
    match first {
        opcode::EXPIRY_MS | opcode::EXPIRY_S => Reading::Expiry,
        opcode::SELECT_DB | opcode::RESIZE_DB | opcode::SLOT_INFO => Reading::Length,
        opcode::AUX => Reading::Aux,
        opcode::MODULE_AUX => Reading::ModuleAux,
        opcode::FUNCTION => Reading::Function,
        opcode::IDLE | opcode::FREQUENCY | opcode::END => Reading::Type,
        _ if has_key => Reading::Value,
        _ => Reading::Key,
    }
}

/// A module's name: nine characters of six bits, above ten bits of version.
fn module_name(id: u64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..9).rev().map(|at| char::from(LETTERS[(id >> (10 + 6 * at) & 63) as usize])).collect()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Header,
    Body,
    Checksum,
    Done,
}

/// Where the bytes of a whole token are.
#[derive(Clone, Copy)]
enum Place {
    Chunk { from: usize, to: usize },
    Gathered,
}

/// Reads one file.
pub struct FileReader {
    state: State,
    checksum: Checksum,
    crc: u64,
    version: u16,
    /// Bytes of the file in whole tokens.
    offset: u64,
    cutter: Cutter,
    /// Bytes taken from the chunk.
    at: usize,
    /// Bytes of the chunk that are in the checksum.
    summed: usize,
    /// The beginning of a token whose end has not come, or (`is_used`) a token that went out as an event.
    gathered: Vec<u8>,
    is_used: bool,
    /// Bytes that the token in `gathered` has at least.
    need: usize,
}

impl FileReader {
    pub fn new(checksum: Checksum) -> Self {
        FileReader {
            state: State::Header,
            checksum,
            crc: 0,
            version: 0,
            offset: 0,
            cutter: Cutter::default(),
            at: 0,
            summed: 0,
            gathered: Vec::new(),
            is_used: false,
            need: 0,
        }
    }

    /// Bytes of the file up to the end of the last event.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The file's version; 0 before its header has come.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// Bytes held for a token whose end has not come.
    pub fn gathered_bytes(&self) -> usize {
        self.gathered.capacity()
    }

    /// The next event. Call it with the same chunk until it returns `None`, then with the bytes that follow; no more after
    /// an error or [`Event::End`].
    pub fn next<'a>(&'a mut self, chunk: &'a [u8]) -> Result<Option<Event<'a>>, FileError> {
        self.forget_used();
        let place = loop {
            let Some(place) = self.token(chunk).map_err(|fault| *fault)? else { return Ok(None) };
            if !self.take_in(place, chunk).map_err(|fault| *fault)? {
                break place;
            }
        };
        self.is_used = matches!(place, Place::Gathered);
        let token = bytes_at(place, chunk, &self.gathered);
        let began = self.offset - token.len() as u64;
        if self.state == State::Done {
            return Ok(Some(Event::End(end_of(token, self.crc, self.checksum))));
        }
        self.cutter.event(token, began)
    }

    /// What follows the end in the chunk that [`Event::End`] came from: an append-only file after its preamble.
    pub fn rest<'c>(&self, chunk: &'c [u8]) -> &'c [u8] {
        chunk.get(self.at..).unwrap_or_default()
    }

    /// Says that there are no more bytes: an error if the file does not end here.
    pub fn finish(&self) -> Result<(), FileError> {
        let token = if self.is_used { &[] } else { &self.gathered[..] };
        let error = |reading, value_type| FileError { value_type, ..FileError::new(self.offset, reading, Cause::Incomplete) };
        match self.state {
            State::Done => Ok(()),
            State::Header => Err(error(Reading::Header, None)),
            State::Checksum => Err(error(Reading::Checksum, self.cutter.value_type)),
            State::Body => Err(self.cutter.error(token, self.offset, Cause::Incomplete)),
        }
    }

    /// Acts on a whole token; false if it is one that goes out as an event.
    #[inline]
    fn take_in(&mut self, place: Place, chunk: &[u8]) -> Result<bool, Fault> {
        let token = bytes_at(place, chunk, &self.gathered);
        self.offset += token.len() as u64;
        match self.state {
            State::Header => {
                self.version = version(token)?;
                self.state = State::Body;
            }
            State::Body if token == [opcode::END] => {
                self.sum(chunk);
                let has_checksum = self.version >= CHECKSUM_SINCE;
                self.state = if has_checksum { State::Checksum } else { State::Done };
                if !has_checksum {
                    return Ok(false);
                }
            }
            State::Body => {
                if self.at - self.summed >= CHECKSUM_STRIDE {
                    self.sum(chunk);
                }
                if !self.cutter.attribute(bytes_at(place, chunk, &self.gathered)) {
                    return Ok(false);
                }
            }
            State::Checksum => {
                self.state = State::Done;
                return Ok(false);
            }
            State::Done => {}
        }
        self.forget(place);
        Ok(true)
    }

    /// The next whole token; `None` when the chunk is used up.
    #[inline]
    fn token(&mut self, chunk: &[u8]) -> Result<Option<Place>, Fault> {
        if self.state == State::Done {
            return Ok(None);
        }
        if self.gathered.is_empty() {
            let rest = chunk.get(self.at..).unwrap_or_default();
            match self.cut(rest)? {
                Step::Done(len) => {
                    let from = self.at;
                    self.at += len;
                    return Ok(Some(Place::Chunk { from, to: self.at }));
                }
                Step::Need(need) => self.need = need,
            }
            self.gathered.extend_from_slice(rest);
            self.at = chunk.len();
        }
        self.gather(chunk)
    }

    /// Adds to a token that came in parts.
    fn gather(&mut self, chunk: &[u8]) -> Result<Option<Place>, Fault> {
        while let Some(rest) = chunk.get(self.at..).filter(|rest| !rest.is_empty()) {
            let missing = self.need.saturating_sub(self.gathered.len()).max(GATHER_MIN);
            let more = &rest[..rest.len().min(missing)];
            self.gathered.extend_from_slice(more);
            self.at += more.len();
            if self.gathered.len() < self.need {
                continue;
            }
            let gathered = std::mem::take(&mut self.gathered);
            let step = self.cut(&gathered);
            self.gathered = gathered;
            match step? {
                Step::Need(need) => self.need = need,
                Step::Done(len) => {
                    // The surplus is of the piece just added: the token was incomplete before it.
                    self.at -= self.gathered.len() - len;
                    self.gathered.truncate(len);
                    return Ok(Some(Place::Gathered));
                }
            }
        }
        if !matches!(self.state, State::Checksum | State::Done) {
            self.sum(chunk);
        }
        (self.at, self.summed) = (0, 0);
        Ok(None)
    }

    #[inline]
    fn cut(&mut self, input: &[u8]) -> Result<Step, Fault> {
        let fixed = match self.state {
            State::Header => HEADER_BYTES,
            State::Checksum => CHECKSUM_BYTES,
            State::Body | State::Done => return self.cutter.cut(input, self.offset),
        };
        Ok(if input.len() < fixed { Step::Need(fixed) } else { Step::Done(fixed) })
    }

    /// Brings the checksum up to what was taken from the chunk.
    fn sum(&mut self, chunk: &[u8]) {
        if self.checksum == Checksum::On {
            self.crc = crc64(self.crc, chunk.get(self.summed..self.at).unwrap_or_default());
        }
        self.summed = self.at;
    }

    fn forget(&mut self, place: Place) {
        self.is_used = matches!(place, Place::Gathered);
        self.forget_used();
    }

    fn forget_used(&mut self) {
        if self.is_used {
            self.gathered.clear();
            self.is_used = false;
            if self.gathered.capacity() > GATHERED_KEPT_MAX {
                self.gathered = Vec::new();
            }
        }
    }
}

fn bytes_at<'a>(place: Place, chunk: &'a [u8], gathered: &'a [u8]) -> &'a [u8] {
    match place {
        Place::Chunk { from, to } => chunk.get(from..to).unwrap_or_default(),
        Place::Gathered => gathered,
    }
}

/// The version in a header, read as C's atoi would.
fn version(header: &[u8]) -> Result<u16, Fault> {
    let error = |cause| Box::new(FileError::new(HEADER_BYTES as u64, Reading::Header, cause));
    let text = header.strip_prefix(MAGIC).ok_or_else(|| error(Cause::Signature))?.trim_ascii_start();
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let number = digits.fold(0i64, |number, digit| number * 10 + i64::from(digit - b'0'));
    let number = if is_negative { -number } else { number };
    u16::try_from(number).ok().filter(|version| VERSIONS_READ.contains(version)).ok_or_else(|| error(Cause::Version(number)))
}

fn end_of(token: &[u8], crc: u64, checksum: Checksum) -> End {
    match token.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) {
        None => End::ChecksumUnknown,
        Some(_) if checksum == Checksum::Off => End::ChecksumUnknown,
        Some(0) => End::ChecksumDisabled,
        Some(claimed) if claimed == crc => End::ChecksumRight,
        Some(_) => End::ChecksumWrong,
    }
}

const _: () = assert!(STRING_BYTES_MAX <= usize::MAX as u64);
