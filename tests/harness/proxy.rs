//! A way between two servers that a test can cut, close and turn to another server.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Default)]
struct State {
    target: AtomicU16,
    is_closed: AtomicBool,
    is_ended: AtomicBool,
    ways: Mutex<Vec<TcpStream>>,
}

impl State {
    fn cut(&self) {
        for way in self.ways.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _already = way.shutdown(Shutdown::Both);
        }
    }
}

/// Listens on a port of loopback, and passes what comes there on.
pub struct Proxy {
    pub port: u16,
    state: Arc<State>,
}

impl Proxy {
    pub fn to(target: u16) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let state = Arc::new(State { target: AtomicU16::new(target), ..State::default() });
        let shared = state.clone();
        std::thread::spawn(move || accept(&listener, &shared));
        Proxy { port, state }
    }

    /// Ends all connections; new ones are let through.
    pub fn cut(&self) {
        self.state.cut();
    }

    /// Ends all connections, and new ones at once.
    pub fn close(&self) {
        self.state.is_closed.store(true, Ordering::SeqCst);
        self.cut();
    }

    pub fn open(&self) {
        self.state.is_closed.store(false, Ordering::SeqCst);
    }

    /// New connections go there.
    pub fn turn_to(&self, target: u16) {
        self.state.target.store(target, Ordering::SeqCst);
        self.cut();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.is_ended.store(true, Ordering::SeqCst);
        self.cut();
        let _wakes_it = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    while let Ok((near, _)) = listener.accept() {
        if state.is_ended.load(Ordering::SeqCst) {
            return;
        }
        let target = state.target.load(Ordering::SeqCst);
        let far = if state.is_closed.load(Ordering::SeqCst) { None } else { TcpStream::connect(("127.0.0.1", target)).ok() };
        let Some(far) = far else { continue };
        let _slower_without = (near.set_nodelay(true), far.set_nodelay(true));
        let clones = [&near, &near, &far, &far].map(|way| way.try_clone().expect("a second handle of a socket"));
        let [near_again, near_kept, far_again, far_kept] = clones;
        state.ways.lock().unwrap_or_else(PoisonError::into_inner).extend([near_kept, far_kept]);
        if state.is_closed.load(Ordering::SeqCst) {
            state.cut();
        }
        std::thread::spawn(move || pass(near, far));
        std::thread::spawn(move || pass(far_again, near_again));
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _already = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
