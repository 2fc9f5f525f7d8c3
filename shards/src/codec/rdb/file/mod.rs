//! An RDB file: what stands around the values.
//!
//! ```text
//! REDIS vvvv                          magic and version, 9 bytes
//! fa name value                       something about the file
//! fe db    fb keys expiring           the database of what follows, and how large it is
//! [fc ms:8 | fd s:4] [f8 idle | f9 frequency:1] type key value
//! f5 code    f7 module's data    f4 slot keys expiring
//! ff crc:8                            the end; since version 5 the CRC of everything before it (0: not computed)
//! ```
//!
//! Knows no file and no socket: [`FileWriter`] appends to the caller's buffer, [`FileReader`] takes chunks of any size.
//! A [`Record`] is cut out without being decoded, so that one thread can cut and others decode (see [`Records`]).

mod reader;
mod skip;
mod writer;

pub use reader::{End, Event, FileReader, Record, Records};
pub use writer::{Access, FileWriter, Preamble, Replication, encode_record, select_db};

use super::CodecError;

/// The versions that are read. 7.2 writes 11, 7.4 writes 12.
pub const VERSIONS_READ: std::ops::RangeInclusive<u16> = 1..=12;
/// From this version on a file ends with a checksum.
const CHECKSUM_SINCE: u16 = 5;

const MAGIC: &[u8; 5] = b"REDIS";
const HEADER_BYTES: usize = 9;
const CHECKSUM_BYTES: usize = 8;

mod opcode {
    /// Only in files of clusters, since version 12.
    pub const SLOT_INFO: u8 = 0xF4;
    pub const FUNCTION: u8 = 0xF5;
    pub const FUNCTION_BEFORE_RELEASE: u8 = 0xF6;
    pub const MODULE_AUX: u8 = 0xF7;
    pub const IDLE: u8 = 0xF8;
    pub const FREQUENCY: u8 = 0xF9;
    pub const AUX: u8 = 0xFA;
    pub const RESIZE_DB: u8 = 0xFB;
    pub const EXPIRY_MS: u8 = 0xFC;
    pub const EXPIRY_S: u8 = 0xFD;
    pub const SELECT_DB: u8 = 0xFE;
    pub const END: u8 = 0xFF;
}

/// Whether the checksum is computed (`rdbchecksum`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checksum {
    On,
    Off,
}

/// What was being read when something was wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    Header,
    /// A type or opcode, or the short attributes before a key.
    Type,
    Expiry,
    /// A database's number or size.
    Length,
    Aux,
    ModuleAux,
    Function,
    Key,
    Value,
    Checksum,
}

impl Reading {
    fn words(self) -> &'static str {
        match self {
            Reading::Header => "the header",
            Reading::Type => "a type",
            Reading::Expiry => "an expiry",
            Reading::Length => "a database's number or size",
            Reading::Aux => "an auxiliary field",
            Reading::ModuleAux => "a module's data",
            Reading::Function => "a function library",
            Reading::Key => "a key",
            Reading::Value => "a value",
            Reading::Checksum => "the checksum",
        }
    }
}

/// What is wrong with a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cause {
    /// It ends too early.
    Incomplete,
    Signature,
    Version(i64),
    Value(CodecError),
    /// A function of a release candidate of Redis 7.0 (opcode f6).
    FunctionBeforeRelease,
    /// Sound, but kvcore has no such thing yet: "stream keys".
    Unsupported(&'static str),
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cause::Incomplete => f.write_str("Unexpected EOF reading RDB file"),
            Cause::Signature => f.write_str("Wrong signature trying to load DB from file"),
            Cause::Version(version) => write!(f, "Can't handle RDB format version {version}"),
            Cause::Value(CodecError::UnknownType(kind)) => write!(f, "Invalid object type: {kind}"),
            Cause::Value(error) => write!(f, "{error}"),
            Cause::FunctionBeforeRelease => f.write_str("Pre-release function format not supported"),
            Cause::Unsupported(what) => write!(f, "{what} are not supported yet"),
        }
    }
}

/// Where and why reading a file ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileError {
    /// Bytes of the file before the place.
    pub offset: u64,
    pub reading: Reading,
    pub cause: Cause,
    /// The type number of the value that was being read, or of the key before it.
    pub value_type: Option<u8>,
    /// The key whose value was being read.
    pub key: Option<Vec<u8>>,
}

impl FileError {
    fn new(offset: u64, reading: Reading, cause: Cause) -> Self {
        FileError { offset, reading, cause, value_type: None, key: None }
    }
}

impl std::fmt::Display for FileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.cause)?;
        if let Some(key) = &self.key {
            write!(f, ": key '{}'", key.escape_ascii())?;
        }
        write!(f, " (offset {}, while reading {})", self.offset, self.reading.words())
    }
}

impl std::error::Error for FileError {}

#[cfg(test)]
mod tests;
