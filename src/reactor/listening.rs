//! The listening sockets of a node, which CONFIG SET may replace while it runs.
//!
//! Owns which sockets there are. Any thread may replace them; the core that accepts sees by the version that there is something
//! to arm. Two sockets cannot listen on one address, so where the port stays the same the old ones are silenced (a socket that
//! is shut down keeps its address but listens no more) before the new ones are opened, and revived if that fails.

use super::listener::{self, ListenError, ListenOptions, Listener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

pub struct Listening {
    sockets: Mutex<Sockets>,
    version: AtomicU32,
}

struct Sockets {
    port: u16,
    listeners: Vec<Arc<Listener>>,
}

impl Listening {
    /// `port` is that of the TCP sockets among `listeners`.
    pub fn new(port: u16, listeners: Vec<Listener>) -> Self {
        let listeners = listeners.into_iter().map(Arc::new).collect();
        Listening { sockets: Mutex::new(Sockets { port, listeners }), version: AtomicU32::new(1) }
    }

    /// Counts up with every change, from 1.
    #[inline]
    pub fn version(&self) -> u32 {
        self.version.load(Ordering::Acquire)
    }

    pub fn listeners(&self) -> Vec<Arc<Listener>> {
        self.lock().listeners.clone()
    }

    /// Listens as `options` say instead; the Unix socket stays as it is. After an error the old sockets listen on.
    pub fn replace_tcp(&self, options: &ListenOptions, warn: &mut dyn FnMut(&str)) -> Result<(), ListenError> {
        let mut sockets = self.lock();
        let same_port = sockets.port == options.port;
        let old: Vec<Arc<Listener>> = sockets.listeners.iter().filter(|listener| listener.path().is_none()).cloned().collect();
        if same_port {
            old.iter().for_each(|listener| listener.silence());
        }
        let opened = match listener::listen(&ListenOptions { unix_socket: None, ..options.clone() }, warn) {
            // No TCP at all is a valid wish at run time.
            Err(ListenError::Nowhere) if options.port == 0 || options.bind.is_empty() => Ok(Vec::new()),
            opened => opened,
        };
        match opened {
            Ok(new) => {
                old.iter().for_each(|listener| listener.silence());
                sockets.listeners.retain(|listener| listener.path().is_some());
                sockets.listeners.extend(new.into_iter().map(Arc::new));
                sockets.port = options.port;
            }
            Err(error) => {
                if same_port {
                    old.iter().for_each(|listener| listener.revive(options.backlog));
                }
                return Err(error);
            }
        }
        self.version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Sockets> {
        self.sockets.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    fn options(bind: &[String], port: u16) -> ListenOptions<'_> {
        ListenOptions { bind, port, backlog: 16, unix_socket: None, unix_socket_mode: 0 }
    }

    fn answers(address: &str, port: u16) -> bool {
        TcpStream::connect((address, port)).is_ok()
    }

    #[test]
    fn sockets_are_replaced_or_stay() {
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let (any, one, absent) = (names(&["*"]), names(&["127.0.0.1"]), names(&["10.9.9.9"]));
        let first = listener::listen(&options(&any, 18421), &mut |_| {}).unwrap();
        let listening = Listening::new(18421, first);
        assert!(answers("127.0.0.1", 18421) && answers("127.0.0.2", 18421));
        listening.replace_tcp(&options(&one, 18421), &mut |_| {}).unwrap();
        assert!(answers("127.0.0.1", 18421) && !answers("127.0.0.2", 18421), "another address, the same port");
        assert_eq!(listening.replace_tcp(&options(&absent, 18421), &mut |_| {}), Err(ListenError::Tcp(18421)));
        assert!(answers("127.0.0.1", 18421), "revived");
        assert_eq!(listening.version(), 2);
        listening.replace_tcp(&options(&one, 18422), &mut |_| {}).unwrap();
        assert!(answers("127.0.0.1", 18422) && !answers("127.0.0.1", 18421));
        listening.replace_tcp(&options(&one, 0), &mut |_| {}).unwrap();
        assert!(!answers("127.0.0.1", 18422) && listening.listeners().is_empty());
    }
}
