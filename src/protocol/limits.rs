//! The sizes a request may have before the connection is refused, each with its reason.
//!
//! The values clients can meet are those of Redis 7.0.15; they are part of what "drop-in" means. The parser compares
//! against them; configuration (`proto-max-bulk-len`, `client-query-buffer-limit`) arrives through [`Limits`].

/// Longest line: an inline request, `*<count>` or `$<length>`, counted up to its terminator. A line whose terminator has
/// not come within this many bytes is an error. Redis looks only when a read ends, so it lets a longer line through when
/// one read happens to complete it; here the verdict does not depend on how the bytes were cut.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// Largest `*<count>`: Redis keeps the count in an `int`.
pub const ARGS_MAX: i64 = i32::MAX as i64;

/// Most arguments before the client has authenticated: enough for `AUTH` and `HELLO` with every option.
pub const UNAUTHENTICATED_ARGS_MAX: i64 = 10;

/// Longest argument before the client has authenticated, so that strangers cannot make the server hold much.
pub const UNAUTHENTICATED_BULK_BYTES_MAX: i64 = 16 * 1024;

/// Lowest value configuration may give to either limit of [`Limits`]; the parser's short path relies on it.
pub const CONFIGURED_BYTES_MIN: u64 = 1024 * 1024;

/// Longest request as a whole. Offsets of arguments are `u32`, which halves the memory the parser writes per argument;
/// the margin leaves room for one more header line after the last argument that fits. Redis has no such limit because it
/// copies arguments out one by one; a request past it is closed like one that overruns the query buffer.
pub const REQUEST_BYTES_MAX: usize = u32::MAX as usize - 2 * LINE_BYTES_MAX;

/// Argument ranges that are copied between a connection and the shared scratch when a request is cut; longer lists are
/// exchanged whole, so that a request of a million arguments in small pieces is not copied once per piece.
pub const RANGES_COPIED_MAX: usize = 64;

/// Argument ranges for which [`Args::trim`](super::Args::trim) leaves room: 32 KiB per core.
pub const RANGES_KEPT_MAX: usize = 4096;

/// Bytes of inline text for which [`Args::trim`](super::Args::trim) leaves room.
pub const INLINE_BYTES_KEPT_MAX: usize = 4096;

const _: () = assert!(LINE_BYTES_MAX as u64 <= CONFIGURED_BYTES_MIN);
const _: () = assert!(REQUEST_BYTES_MAX + LINE_BYTES_MAX < u32::MAX as usize);

/// What configuration and the client's state allow, handed to every call of the parser.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    bulk_bytes_max: u64,
    query_buffer_bytes_max: u64,
    /// False while the client still has to authenticate, not merely while it has not: with a default user that needs no
    /// password every client counts as authenticated.
    pub authenticated: bool,
}

impl Limits {
    /// From `proto-max-bulk-len` and `client-query-buffer-limit`, both in bytes. Values below
    /// [`CONFIGURED_BYTES_MIN`], which the configuration refuses, are raised to it.
    pub fn new(bulk_bytes_max: u64, query_buffer_bytes_max: u64, authenticated: bool) -> Self {
        Limits {
            bulk_bytes_max: bulk_bytes_max.max(CONFIGURED_BYTES_MIN),
            query_buffer_bytes_max: query_buffer_bytes_max.max(CONFIGURED_BYTES_MIN),
            authenticated,
        }
    }

    /// The same limits for a client in this state.
    pub fn for_client(self, authenticated: bool) -> Self {
        Limits { authenticated, ..self }
    }

    /// Longest argument that is not an error in itself.
    pub fn bulk_bytes_max(&self) -> u64 {
        self.bulk_bytes_max
    }

    /// Most bytes of one argument, its CR LF included, that may wait in the buffer.
    pub fn query_buffer_bytes_max(&self) -> u64 {
        self.query_buffer_bytes_max
    }
}

impl Default for Limits {
    /// Redis's defaults: arguments of 512 MiB, a query buffer of 1 GiB, no password.
    fn default() -> Self {
        Limits::new(512 * 1024 * 1024, 1024 * 1024 * 1024, true)
    }
}
