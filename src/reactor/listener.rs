//! Listening sockets, and what is set on a socket accepted from them.
//!
//! Owns: the meaning of the directives `bind`, `port`, `tcp-backlog`, `unixsocket`, `unixsocketperm` and
//! `tcp-keepalive` of Redis 7.0, with Redis's words for what goes wrong. Refuses to know: who accepts.
//!
//! The sockets stay in blocking mode: io_uring waits for a blocking socket by itself, but hands the caller an EAGAIN
//! for a non-blocking one.

use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use super::Errno;

/// The directives.
#[derive(Clone, Debug)]
pub struct ListenOptions<'a> {
    /// Addresses or names; `*` and `::*` are all addresses, a leading `-` permits the address not to be there. Empty:
    /// no TCP.
    pub bind: &'a [String],
    /// 0: no TCP.
    pub port: u16,
    pub backlog: u32,
    pub unix_socket: Option<&'a Path>,
    /// 0: as the umask has it.
    pub unix_socket_mode: u32,
}

/// One listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    /// The path, if it is a Unix socket.
    path: Option<PathBuf>,
}

impl Listener {
    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// The path, if it is a Unix socket.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Stops listening and ends accepts under way; the address stays taken until the socket is dropped or revived.
    pub(super) fn silence(&self) {
        // A socket that is silent already answers with an error, which is fine.
        let _silent_already = borrow(self.fd()).shutdown(std::net::Shutdown::Both);
    }

    /// Listens again after [`Listener::silence`].
    pub(super) fn revive(&self, backlog: u32) {
        // Its address is still its own; should the kernel refuse all the same, the accept that is armed next says so.
        let _refused = borrow(self.fd()).listen(backlog_of(backlog));
    }
}

/// Why the node cannot start. `Display` is the last line Redis logs before it exits.
#[derive(Debug, PartialEq, Eq)]
pub enum ListenError {
    Tcp(u16),
    Unix(String),
    Nowhere,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "Failed listening on port {port} (TCP), aborting."),
            Self::Unix(reason) => write!(f, "Failed opening Unix socket: {reason}"),
            Self::Nowhere => f.write_str("Configured to not listen anywhere, exiting."),
        }
    }
}

impl std::error::Error for ListenError {}

/// Opens every socket asked for, or none. `warn` gets the lines Redis logs as warnings on the way.
pub fn listen(options: &ListenOptions, warn: &mut dyn FnMut(&str)) -> Result<Vec<Listener>, ListenError> {
    let mut listeners = Vec::new();
    if options.port != 0 {
        for bind in options.bind {
            let (optional, address) = bind.strip_prefix('-').map_or((false, bind.as_str()), |address| (true, address));
            match listen_tcp(address, options.port, options.backlog) {
                Ok(socket) => listeners.push(Listener { socket: socket.into(), path: None }),
                Err(failure) => {
                    let port = options.port;
                    warn(&format!("Warning: Could not create server TCP listening socket {address}:{port}: {}", failure.text));
                    if !failure.passes(optional) {
                        return Err(ListenError::Tcp(port));
                    }
                }
            }
        }
    }
    if let Some(path) = options.unix_socket {
        let socket = listen_unix(path, options.unix_socket_mode, options.backlog).map_err(ListenError::Unix)?;
        listeners.push(Listener { socket: socket.into(), path: Some(path.to_owned()) });
    }
    if listeners.is_empty() { Err(ListenError::Nowhere) } else { Ok(listeners) }
}

/// The line Redis logs if the kernel caps the backlog.
pub fn backlog_warning(backlog: u32) -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?;
    capped_backlog(backlog, text.trim().parse().ok()?)
}

fn capped_backlog(backlog: u32, somaxconn: u32) -> Option<String> {
    (somaxconn > 0 && somaxconn < backlog).then(|| {
        format!(
            "WARNING: The TCP backlog setting of {backlog} cannot be enforced because /proc/sys/net/core/somaxconn is \
             set to the lower value of {somaxconn}."
        )
    })
}

/// What keeps an address from being listened on.
struct BindFailure {
    errno: Option<i32>,
    text: String,
}

impl BindFailure {
    fn of(step: &str, error: &io::Error) -> Self {
        Self { errno: error.raw_os_error(), text: describe(step, error) }
    }

    /// Whether the other addresses are enough: the family is not there, or an optional address is not.
    fn passes(&self, optional: bool) -> bool {
        match self.errno {
            Some(libc::EADDRNOTAVAIL) => optional,
            Some(libc::ENOPROTOOPT | libc::EPROTONOSUPPORT | libc::ESOCKTNOSUPPORT | libc::EPFNOSUPPORT | libc::EAFNOSUPPORT) => {
                true
            }
            _ => false,
        }
    }
}

fn describe(step: &str, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => format!("{step}: {}", Errno(errno)),
        None => format!("{step}: {error}"),
    }
}

fn listen_tcp(address: &str, port: u16, backlog: u32) -> Result<Socket, BindFailure> {
    let address = resolve(address, port)?;
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, None).map_err(|error| {
        let errno = error.raw_os_error();
        BindFailure { errno, text: format!("unable to bind socket, errno: {}", errno.unwrap_or(0)) }
    })?;
    let set = |result: io::Result<()>, step| result.map_err(|error| BindFailure::of(step, &error));
    if domain == Domain::IPV6 {
        set(socket.set_only_v6(true), "setsockopt")?;
    }
    set(socket.set_reuse_address(true), "setsockopt SO_REUSEADDR")?;
    set(socket.bind(&address.into()), "bind")?;
    set(socket.listen(backlog_of(backlog)), "listen")?;
    Ok(socket)
}

fn backlog_of(backlog: u32) -> i32 {
    i32::try_from(backlog).unwrap_or(i32::MAX)
}

/// As in Redis, a colon makes it IPv6, anything else is IPv4, names included.
fn resolve(address: &str, port: u16) -> Result<SocketAddr, BindFailure> {
    match address {
        "*" => return Ok((Ipv4Addr::UNSPECIFIED, port).into()),
        "::*" => return Ok((Ipv6Addr::UNSPECIFIED, port).into()),
        _ => {}
    }
    let v6 = address.contains(':');
    let found = (address, port).to_socket_addrs().map_err(|error| {
        let text = error.to_string();
        let text = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
        BindFailure { errno: None, text: text.to_owned() }
    })?;
    found
        .into_iter()
        .find(|found| found.is_ipv6() == v6)
        .ok_or_else(|| BindFailure { errno: None, text: "Address family for hostname not supported".to_owned() })
}

/// `sockaddr_un.sun_path`, with its closing zero.
const UNIX_PATH_BYTES: usize = 108;

fn listen_unix(path: &Path, mode: u32, backlog: u32) -> Result<Socket, String> {
    let len = path.as_os_str().len();
    if len >= UNIX_PATH_BYTES {
        return Err(format!("unix socket path too long ({len}), must be under {UNIX_PATH_BYTES}"));
    }
    // What an earlier run has left; if it cannot be removed, bind says why.
    let _ = std::fs::remove_file(path);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(|error| describe("creating socket", &error))?;
    let address = SockAddr::unix(path).map_err(|error| describe("bind", &error))?;
    socket.bind(&address).map_err(|error| describe("bind", &error))?;
    if mode != 0 {
        // As in Redis, a mode that cannot be set does not keep the node from starting.
        let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    }
    socket.listen(backlog_of(backlog)).map_err(|error| describe("listen", &error))?;
    Ok(socket)
}

/// The probes of a keepalive that must fail before the connection is given up.
const KEEPALIVE_PROBES: u32 = 3;

/// Sets what every TCP client connection has: no delay of small replies, and, with a `keepalive_seconds` other than 0,
/// a first probe after that time and three more in it. Does nothing to a Unix socket. A failure (the peer may be gone)
/// is met again by the first receive.
pub fn set_up_accepted(fd: RawFd, keepalive_seconds: u32) -> io::Result<()> {
    let socket = borrow(fd);
    if !matches!(socket.domain()?, Domain::IPV4 | Domain::IPV6) {
        return Ok(());
    }
    socket.set_tcp_nodelay(true)?;
    if keepalive_seconds > 0 {
        let between = (keepalive_seconds / KEEPALIVE_PROBES).max(1);
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(keepalive_seconds.into()))
            .with_interval(Duration::from_secs(between.into()))
            .with_retries(KEEPALIVE_PROBES);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    Ok(())
}

/// The addresses of a connection, as CLIENT LIST shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    pub peer: String,
    pub local: String,
}

/// Reads the addresses of a connection accepted by `listener`: `127.0.0.1:5555`, `[::1]:5555`, for a Unix socket its
/// path and `:0` on both sides, and `?:0` for a socket that has no peer any more.
pub fn endpoints(fd: RawFd, listener: &Listener) -> Endpoints {
    if let Some(path) = listener.path() {
        let text = format!("{}:0", path.display());
        return Endpoints { peer: text.clone(), local: text };
    }
    let socket = borrow(fd);
    Endpoints { peer: address_text(socket.peer_addr()), local: address_text(socket.local_addr()) }
}

fn address_text(address: io::Result<SockAddr>) -> String {
    match address.ok().and_then(|address| address.as_socket()) {
        Some(SocketAddr::V4(address)) => format!("{}:{}", address.ip(), address.port()),
        Some(SocketAddr::V6(address)) => format!("[{}]:{}", address.ip(), address.port()),
        None => "?:0".to_owned(),
    }
}

/// The socket without its ownership.
fn borrow(fd: RawFd) -> ManuallyDrop<Socket> {
    assert!(fd >= 0);
    // SAFETY: the descriptor is the caller's and open; `ManuallyDrop` leaves closing it to the caller.
    ManuallyDrop::new(unsafe { Socket::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    fn options<'a>(bind: &'a [String], port: u16) -> ListenOptions<'a> {
        ListenOptions { bind, port, backlog: 511, unix_socket: None, unix_socket_mode: 0 }
    }

    fn names(bind: &[&str]) -> Vec<String> {
        bind.iter().map(|name| name.to_string()).collect()
    }

    /// What listening gives, and the warnings.
    fn attempt(bind: &[&str], port: u16) -> (Result<usize, ListenError>, Vec<String>) {
        let mut warnings = Vec::new();
        let result = listen(&options(&names(bind), port), &mut |line| warnings.push(line.to_owned()));
        (result.map(|listeners| listeners.len()), warnings)
    }

    #[test]
    fn the_default_addresses_are_both_families_on_one_port() {
        assert_eq!(attempt(&["*", "-::*"], 18161).0, Ok(2));
    }

    #[test]
    fn failures_are_worded_as_in_redis() {
        let taken = TcpListener::bind("127.0.0.1:18162").unwrap();
        let warning = |address: &str, reason: &str| {
            vec![format!("Warning: Could not create server TCP listening socket {address}:18162: {reason}")]
        };
        assert_eq!(
            attempt(&["127.0.0.1"], 18162),
            (Err(ListenError::Tcp(18162)), warning("127.0.0.1", "bind: Address already in use"))
        );
        assert_eq!(ListenError::Tcp(18162).to_string(), "Failed listening on port 18162 (TCP), aborting.");
        drop(taken);
        let absent = "bind: Cannot assign requested address";
        assert_eq!(attempt(&["127.0.0.1", "10.9.9.9"], 18162), (Err(ListenError::Tcp(18162)), warning("10.9.9.9", absent)));
        assert_eq!(attempt(&["127.0.0.1", "-10.9.9.9"], 18162), (Ok(1), warning("10.9.9.9", absent)));
        assert_eq!(attempt(&["*"], 0), (Err(ListenError::Nowhere), vec![]));
        assert_eq!(attempt(&[], 18162).0, Err(ListenError::Nowhere));
    }

    #[test]
    fn a_unix_socket_replaces_a_stale_one_and_has_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let at = |path| ListenOptions { unix_socket: Some(path), unix_socket_mode: 0o700, ..options(&[], 0) };
        for _ in 0..2 {
            let listeners = listen(&at(&path), &mut |_| {}).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
            let client = UnixStream::connect(&path).unwrap();
            set_up_accepted(client.as_raw_fd(), 300).unwrap();
            let text = format!("{}:0", path.display());
            assert_eq!(endpoints(client.as_raw_fd(), &listeners[0]), Endpoints { peer: text.clone(), local: text });
        }
        let absent = directory.path().join("none/socket");
        let error = listen(&at(&absent), &mut |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "Failed opening Unix socket: bind: No such file or directory");
        let long = PathBuf::from("/".repeat(UNIX_PATH_BYTES));
        let error = listen(&at(&long), &mut |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "Failed opening Unix socket: unix socket path too long (108), must be under 108");
    }

    #[test]
    fn an_accepted_socket_is_set_up_and_named() {
        for (bind, port, peer_prefix) in [("127.0.0.1", 18163, "127.0.0.1:"), ("::1", 18164, "[::1]:")] {
            let listeners = listen(&options(&names(&[bind]), port), &mut |_| {}).unwrap();
            let client = TcpStream::connect((bind, port)).unwrap();
            let (accepted, _) = borrow(listeners[0].fd()).accept().unwrap();
            set_up_accepted(accepted.as_raw_fd(), 100).unwrap();
            assert!(accepted.tcp_nodelay().unwrap() && accepted.keepalive().unwrap());
            assert_eq!(accepted.tcp_keepalive_time().unwrap(), Duration::from_secs(100));
            assert_eq!(accepted.tcp_keepalive_interval().unwrap(), Duration::from_secs(33));
            assert_eq!(accepted.tcp_keepalive_retries().unwrap(), 3);
            let names = endpoints(accepted.as_raw_fd(), &listeners[0]);
            assert_eq!(names.peer, format!("{peer_prefix}{}", client.local_addr().unwrap().port()));
            assert_eq!(names.local, format!("{peer_prefix}{port}"));
        }
    }

    #[test]
    fn a_capped_backlog_is_told() {
        assert_eq!(capped_backlog(511, 4096), None);
        assert!(capped_backlog(511, 128).unwrap().starts_with("WARNING: The TCP backlog setting of 511 cannot be enforced"));
    }
}
