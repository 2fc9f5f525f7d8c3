//! A socket of a peer: what is read goes to the state machines, what they give out is written in its order.

use super::Shared;
use super::contract::Departed;
use super::status::PeerConnection;
use crate::config::structures::os_reason;
use crate::observe::{clock, log};
use crate::replication::backlog::Chunk;
use crate::replication::primary::ReplicaId;
use futures_lite::{AsyncReadExt, AsyncWriteExt, io};
use glommio::channels::local_channel::{self, LocalReceiver, LocalSender};
use glommio::{net, timer};
use socket2::{SockAddr, Socket};
use std::fs::File;
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// Bytes that are read at once: a replica says little.
const REPLICA_READ_BYTES: usize = 4 << 10;
const PRIMARY_READ_BYTES: usize = 64 << 10;
/// Bytes of a file that are sent at once.
const FILE_BYTES: usize = 256 << 10;
/// How often a connection that may not be read looks whether it may.
const ROOM_LOOK: Duration = Duration::from_millis(1);

/// What is to be written.
pub enum Post {
    Bytes(Chunk),
    /// So many bytes from the file's beginning.
    File {
        file: File,
        bytes: u64,
    },
    /// Nothing more comes: the connection is to be closed.
    End,
}

/// The way to a connection.
pub struct Outbox {
    posts: LocalSender<Post>,
    socket: Socket,
    pub about: Arc<PeerConnection>,
}

impl Outbox {
    pub fn post(&self, post: Post) {
        // If the connection has gone its end is on its way here.
        let _gone = self.posts.try_send(post);
    }

    /// Ends what reads and what writes.
    pub fn shut_down(&self) {
        let _already = self.socket.shutdown(Shutdown::Both);
    }
}

/// The end of a pair of sockets by which the cores wake the executor.
pub struct Bell(net::UnixStream);

impl Bell {
    pub fn new(socket: UnixStream) -> Bell {
        // SAFETY: the descriptor is this socket's own, which is given away.
        Bell(unsafe { net::UnixStream::from_raw_fd(socket.into_raw_fd()) })
    }

    pub async fn heard(&mut self) -> io::Result<()> {
        let mut rings = [0; 64];
        self.0.read(&mut rings).await.map(drop)
    }
}

/// Whose connection it is.
#[derive(Clone, Copy)]
enum Peer {
    Replica(ReplicaId),
    /// With the connection's number.
    Primary(u64),
}

/// Takes over a connection that has asked for the stream.
pub fn adopt(peers: &Shared, mut departed: Departed) {
    let Ok(socket) = departed.socket.as_fd().try_clone_to_owned() else {
        return log::warning("No descriptor is left for a replica's connection");
    };
    let (posts, received) = local_channel::new_unbounded();
    let socket = Socket::from(socket);
    if peers.borrow().config.repl_disable_tcp_nodelay {
        let _sooner_with = socket.set_tcp_nodelay(false);
    }
    let outbox = Outbox { posts, socket, about: Arc::new(departed.client) };
    let input = std::mem::take(&mut departed.input);
    let replica = peers.borrow_mut().attached(departed.about, departed.request, &input, outbox);
    serve(peers, Peer::Replica(replica), stream_of(departed.socket), received);
}

/// Connects to the primary.
pub async fn connect(peers: Shared, number: u64, client: u64, host: String, port: u16) {
    let connected = connect_to(host, port).await;
    if !peers.borrow().is_current(number) {
        return;
    }
    match connected {
        Ok((stream, socket)) => {
            let (posts, received) = local_channel::new_unbounded();
            let address = |address: io::Result<SockAddr>| address.ok().and_then(|address| address.as_socket());
            let text = |address: Option<SocketAddr>| address.map_or_else(String::new, |address| address.to_string());
            let about = PeerConnection {
                id: client,
                peer: text(address(socket.peer_addr())),
                local: text(address(socket.local_addr())),
                name: Vec::new(),
                is_primary: true,
                created_ms: clock::wall_ms(),
            };
            peers.borrow_mut().connected(number, Ok(Outbox { posts, socket, about: Arc::new(about) }));
            serve(&peers, Peer::Primary(number), stream, received);
        }
        Err(error) => peers.borrow_mut().connected(number, Err(error)),
    }
}

async fn connect_to(host: String, port: u16) -> io::Result<(net::TcpStream, Socket)> {
    // Names may take seconds to be resolved.
    let addresses = glommio::executor().spawn_blocking(move || (host.as_str(), port).to_socket_addrs()).await?;
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match net::TcpStream::connect(address).await {
            Ok(stream) => {
                let _slower_without = stream.set_nodelay(true);
                // SAFETY: the descriptor is the stream's own, which is open.
                let socket = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }.try_clone_to_owned()?;
                return Ok((stream, Socket::from(socket)));
            }
            Err(error) => failure = error.into(),
        }
    }
    Err(failure)
}

fn stream_of(socket: OwnedFd) -> net::TcpStream {
    // SAFETY: the descriptor is this socket's own, which is given away.
    unsafe { net::TcpStream::from_raw_fd(socket.into_raw_fd()) }
}

fn serve(peers: &Shared, peer: Peer, stream: net::TcpStream, received: LocalReceiver<Post>) {
    let (reads, writes) = io::split(stream);
    glommio::spawn_local(read(peers.clone(), peer, reads)).detach();
    glommio::spawn_local(write(peers.clone(), peer, writes, received)).detach();
}

async fn read(peers: Shared, peer: Peer, mut socket: io::ReadHalf<net::TcpStream>) {
    let bytes = if let Peer::Primary(_) = peer { PRIMARY_READ_BYTES } else { REPLICA_READ_BYTES };
    let mut buffer = vec![0; bytes];
    let why = loop {
        match socket.read(&mut buffer).await {
            Ok(0) => break "Connection reset by peer".to_owned(),
            Ok(len) => said(&peers, peer, &buffer[..len]),
            Err(error) => break os_reason(&error),
        }
        while matches!(peer, Peer::Primary(number) if peers.borrow().is_current(number) && !peers.borrow().has_room()) {
            timer::sleep(ROOM_LOOK).await;
        }
    };
    closed(&peers, peer, &why);
}

fn said(peers: &Shared, peer: Peer, bytes: &[u8]) {
    match peer {
        Peer::Replica(replica) => peers.borrow_mut().replica_said(replica, bytes),
        Peer::Primary(number) => peers.borrow_mut().primary_said(number, bytes),
    }
}

fn sent(peers: &Shared, peer: Peer, bytes: u64) {
    if let Peer::Replica(replica) = peer {
        peers.borrow_mut().sent_to_replica(replica, bytes);
    }
}

fn closed(peers: &Shared, peer: Peer, why: &str) {
    match peer {
        Peer::Replica(replica) => peers.borrow_mut().replica_closed(replica),
        Peer::Primary(number) => peers.borrow_mut().primary_closed(number, why),
    }
}

async fn write(peers: Shared, peer: Peer, mut socket: io::WriteHalf<net::TcpStream>, posts: LocalReceiver<Post>) {
    let why = loop {
        let written = match posts.recv().await {
            Some(Post::Bytes(bytes)) => {
                let written = socket.write_all(&bytes).await;
                written.inspect(|()| sent(&peers, peer, bytes.len() as u64))
            }
            Some(Post::File { file, bytes }) => write_file(&peers, peer, &mut socket, file, bytes).await,
            Some(Post::End) => break String::new(),
            // Whoever has forgotten the connection knows of its end.
            None => return,
        };
        if let Err(error) = written {
            break os_reason(&error);
        }
    };
    closed(&peers, peer, &why);
}

async fn write_file(
    peers: &Shared,
    peer: Peer,
    socket: &mut io::WriteHalf<net::TcpStream>,
    file: File,
    bytes: u64,
) -> io::Result<()> {
    let (mut left, mut buffer) = (bytes, vec![0; FILE_BYTES]);
    let mut at = 0;
    while left > 0 {
        let part = left.min(FILE_BYTES as u64);
        let buffer = &mut buffer[..part as usize];
        // Just written, so the page cache has it: this does not wait for a disk.
        file.read_exact_at(buffer, at)?;
        socket.write_all(buffer).await?;
        (left, at) = (left - part, at + part);
        sent(peers, peer, part);
    }
    Ok(())
}
