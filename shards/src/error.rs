//! Every error a client can get from a command on keys, with Redis's exact code and text, in one place.

use std::borrow::Cow;

/// A client error. `text()` is the line after `-`, without CR LF.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    WrongType,
    Syntax,
    NotInteger,
    NotFloat,
    OutOfRange,
    NoSuchKey,
    IndexOutOfRange,
    InvalidExpire(&'static str),
    Overflow,
    NanOrInfinity,
    StringTooLong,
    /// Any other fixed text, code included.
    Text(&'static str),
    /// A text with values in it, code included.
    Owned(String),
    /// As [`Error::Owned`], repeating bytes of the client's that may be no UTF-8.
    Bytes(Vec<u8>),
}

impl Error {
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Error::WrongType => "WRONGTYPE Operation against a key holding the wrong kind of value".into(),
            Error::Syntax => "ERR syntax error".into(),
            Error::NotInteger => "ERR value is not an integer or out of range".into(),
            Error::NotFloat => "ERR value is not a valid float".into(),
            Error::OutOfRange => "ERR value is out of range".into(),
            Error::NoSuchKey => "ERR no such key".into(),
            Error::IndexOutOfRange => "ERR index out of range".into(),
            Error::InvalidExpire(command) => format!("ERR invalid expire time in '{command}' command").into(),
            Error::Overflow => "ERR increment or decrement would overflow".into(),
            Error::NanOrInfinity => "ERR increment would produce NaN or Infinity".into(),
            Error::StringTooLong => "ERR string exceeds maximum allowed size (proto-max-bulk-len)".into(),
            Error::Text(text) => (*text).into(),
            Error::Owned(text) => text.as_str().into(),
            Error::Bytes(text) => String::from_utf8_lossy(text),
        }
    }
}

/// `Err` is written to the client as an error reply; a handler that fails has written nothing and changed nothing.
pub type CommandResult = Result<(), Error>;
