//! The seam between a shard core and the kernel.
//!
//! Owns: one io_uring per core thread ([`Ring`]), the buffers received bytes arrive in ([`buffers`]), the choice of
//! kernel features ([`Features`]), wakes between cores ([`Wake`]) and the listening sockets ([`listener`]). Every
//! unsafe obligation towards the kernel ends here: a caller hands over owned memory or plain descriptors and gets
//! [`Completion`]s back.
//!
//! Refuses to know: connections, clients, commands. A caller names its operations with a [`Token`] and finds its own
//! state machine by it.
//!
//! A turn of a core's loop is: take completions until there are none, act on them (receive, recycle, send), then one
//! [`Ring::submit_and_wait`], which is the turn's only system call.

pub mod buffers;
pub mod coalesce;
pub mod disk;
mod enter;
pub mod features;
pub mod listener;
pub mod listening;
pub mod ring;
pub mod runtime;
pub mod wake;

pub use buffers::Received;
pub use features::Features;
pub use ring::Ring;
pub use wake::Wake;

/// What a caller calls one of its operations: a kind, the index of its state machine, and the generation of that
/// index, so that a completion of a connection long gone is not taken for its successor's.
///
/// ```text
///  63      56 55            32 31              0
/// +----------+----------------+-----------------+
/// |   kind   |   generation   |      index      |
/// +----------+----------------+-----------------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(u64);

impl Token {
    /// Kinds above this one belong to the ring itself.
    pub const KIND_MAX: u8 = 0xEF;
    /// Generations wrap here.
    pub const GENERATION_MAX: u32 = (1 << 24) - 1;

    /// `generation` is taken modulo `GENERATION_MAX + 1`.
    pub const fn new(kind: u8, generation: u32, index: u32) -> Self {
        assert!(kind <= Self::KIND_MAX);
        let generation = generation & Self::GENERATION_MAX;
        Self((kind as u64) << 56 | (generation as u64) << 32 | index as u64)
    }

    pub const fn kind(self) -> u8 {
        (self.0 >> 56) as u8
    }

    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32 & Self::GENERATION_MAX
    }

    pub const fn index(self) -> u32 {
        self.0 as u32
    }
}

/// An error number of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// No receive buffer was free: recycle, then arm the receive again.
    pub const NOBUFS: Self = Self(libc::ENOBUFS);
    /// The operation was cancelled, or its descriptor closed through [`Ring::close`].
    pub const CANCELED: Self = Self(libc::ECANCELED);
    /// An accept met the process's limit on descriptors; arm it again later, not at once.
    pub const MFILE: Self = Self(libc::EMFILE);
}

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> Self {
        std::io::Error::from_raw_os_error(errno.0)
    }
}

impl std::fmt::Display for Errno {
    /// The C library's text alone, as Redis prints it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = std::io::Error::from_raw_os_error(self.0).to_string();
        let suffix = format!(" (os error {})", self.0);
        f.write_str(text.strip_suffix(&suffix).unwrap_or(&text))
    }
}

/// One step of an operation, or its end.
#[derive(Debug)]
pub struct Completion {
    pub token: Token,
    /// Accept: the descriptor. Receive: the bytes, 0 when the peer has closed. Send: all the bytes handed over.
    /// Poll: the events.
    pub result: Result<usize, Errno>,
    /// Further completions of this operation will come. If false, the operation has ended and, if it is still
    /// wanted, must be armed again.
    pub more: bool,
    /// The bytes of a [`Ring::recv`]; give it back with [`Ring::recycle`].
    pub received: Option<Received>,
    /// The memory of a [`Ring::send`] or [`Ring::recv_into`], given back.
    pub bytes: Option<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_keeps_its_parts() {
        let token = Token::new(Token::KIND_MAX, Token::GENERATION_MAX, u32::MAX);
        assert_eq!((token.kind(), token.generation(), token.index()), (Token::KIND_MAX, Token::GENERATION_MAX, u32::MAX));
        assert_eq!(Token::new(1, Token::GENERATION_MAX + 1, 2).generation(), 0);
    }

    #[test]
    fn an_error_number_prints_as_in_c() {
        assert_eq!(Errno(libc::EADDRINUSE).to_string(), "Address already in use");
    }
}
