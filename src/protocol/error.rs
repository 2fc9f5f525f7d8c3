//! The protocol's errors: their exact text on the wire, in this one place.

/// Why a connection is closed for what it sent. Except [`QueryBufferFull`](ProtocolError::QueryBufferFull), the client
/// is told before the close. Texts as Redis 7.0.15 writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    InlineTooBig,
    UnbalancedQuotes,
    CountTooBig,
    InvalidCount,
    UnauthenticatedCount,
    LengthTooBig,
    /// A bulk header was due and this byte came instead of `$`.
    ExpectedBulk(u8),
    InvalidLength,
    UnauthenticatedLength,
    /// The request cannot fit the query buffer: closed without a reply, the operator's log says why.
    QueryBufferFull,
}

impl ProtocolError {
    /// Appends the error reply, `-ERR Protocol error: ...` with its CR LF; nothing for an error that is not told.
    pub fn write_reply(self, out: &mut Vec<u8>) {
        let text = self.text();
        if text.is_empty() {
            return;
        }
        out.extend_from_slice(b"-ERR Protocol error: ");
        out.extend_from_slice(text.as_bytes());
        if let ProtocolError::ExpectedBulk(byte) = self {
            // A line end inside an error line would end it early.
            let shown = if byte == b'\r' || byte == b'\n' { b' ' } else { byte };
            out.extend_from_slice(&[b'\'', shown, b'\'']);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// The constant part of the text, for the log as well; empty for an error the client is not told.
    pub fn text(self) -> &'static str {
        match self {
            ProtocolError::InlineTooBig => "too big inline request",
            ProtocolError::UnbalancedQuotes => "unbalanced quotes in request",
            ProtocolError::CountTooBig => "too big mbulk count string",
            ProtocolError::InvalidCount => "invalid multibulk length",
            ProtocolError::UnauthenticatedCount => "unauthenticated multibulk length",
            ProtocolError::LengthTooBig => "too big bulk count string",
            ProtocolError::ExpectedBulk(_) => "expected '$', got ",
            ProtocolError::InvalidLength => "invalid bulk length",
            ProtocolError::UnauthenticatedLength => "unauthenticated bulk length",
            ProtocolError::QueryBufferFull => "",
        }
    }
}
