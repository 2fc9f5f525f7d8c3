//! Rings against plain blocking sockets on loopback.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use super::super::features::ALL;
use super::*;

const ACCEPT: u8 = 1;
const RECV: u8 = 2;
const SEND: u8 = 3;
const STOP: u8 = 4;

const SHORT: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(10);

fn features_without(name: &str) -> Features {
    Features::probe(&[name.to_owned()]).unwrap()
}

/// All features, none, and all but each.
fn feature_sets() -> Vec<(&'static str, Features)> {
    let mut sets = vec![("(nothing)", Features::probe(&[]).unwrap()), (ALL, features_without(ALL))];
    sets.extend(Features::names().map(|name| (name, features_without(name))));
    sets
}

fn small(buffers: u16, buffer_bytes: u32) -> Limits {
    Limits { buffers, buffer_bytes, ..Limits::default() }
}

/// Takes turns until there is a completion.
fn next(ring: &mut Ring) -> Completion {
    let start = Instant::now();
    loop {
        if let Some(completion) = ring.next_completion() {
            return completion;
        }
        assert!(start.elapsed() < PATIENCE, "a completion is due");
        ring.submit_and_wait(Some(SHORT)).unwrap();
    }
}

/// A connected pair: the first for the ring.
fn connect(listener: &TcpListener) -> (RawFd, TcpStream) {
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_nodelay(true).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let (socket, _) = listener.accept().unwrap();
    socket.set_nodelay(true).unwrap();
    (socket.into_raw_fd(), peer)
}

#[derive(Default)]
struct Echo {
    fd: RawFd,
    generation: u32,
    pending: Vec<u8>,
    spare: Option<Vec<u8>>,
    sending: bool,
    receiving: bool,
    ended: bool,
}

#[derive(Default, Debug, Clone, Copy)]
struct EchoCounts {
    accepted: usize,
    starved: usize,
    buffers_at_end: usize,
    cpu_us: u64,
}

/// CPU time this thread has used.
fn thread_cpu_us() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

/// An echo server on a thread of its own, until something is sent over the first connection of `stop`.
fn echo_server(
    features: Features,
    limits: Limits,
    listener: TcpListener,
) -> (thread::JoinHandle<EchoCounts>, std::os::unix::net::UnixStream) {
    let (stop, stopped) = std::os::unix::net::UnixStream::pair().unwrap();
    let server = thread::spawn(move || {
        let mut ring = Ring::with_limits(&features, limits).unwrap();
        let mut connections: Slab<Echo> = Slab::new();
        let mut counts = EchoCounts::default();
        let mut generation = 0;
        let mut dirty = Vec::new();
        let accept = Token::new(ACCEPT, 0, 0);
        ring.accept(listener.as_raw_fd(), accept);
        ring.poll(stopped.as_raw_fd(), libc::POLLIN, Token::new(STOP, 0, 0));
        'turns: loop {
            ring.submit_and_wait(None).unwrap();
            while let Some(completion) = ring.next_completion() {
                let token = completion.token;
                let index = token.index() as usize;
                match token.kind() {
                    STOP => break 'turns,
                    ACCEPT => {
                        let fd = completion.result.unwrap() as RawFd;
                        counts.accepted += 1;
                        generation += 1;
                        let index = connections.insert(Echo { fd, generation, receiving: true, ..Echo::default() });
                        ring.recv(fd, Token::new(RECV, generation, index as u32));
                        if !completion.more {
                            ring.accept(listener.as_raw_fd(), accept);
                        }
                    }
                    RECV => {
                        let echo = &mut connections[index];
                        assert_eq!(echo.generation, token.generation());
                        if let Some(received) = completion.received {
                            assert_eq!(received.len(), completion.result.unwrap());
                            echo.pending.extend_from_slice(ring.bytes(&received));
                            ring.recycle(received);
                        }
                        match completion.result {
                            Ok(1..) => {}
                            Err(Errno::NOBUFS) => counts.starved += 1,
                            Ok(0) | Err(_) => echo.ended = true,
                        }
                        if !completion.more {
                            echo.receiving = !echo.ended;
                            if echo.receiving {
                                ring.recv(echo.fd, token);
                            }
                        }
                        dirty.push(index);
                    }
                    SEND => {
                        let echo = &mut connections[index];
                        echo.sending = false;
                        echo.ended |= completion.result.is_err();
                        let mut bytes = completion.bytes.unwrap();
                        bytes.clear();
                        echo.spare = Some(bytes);
                        dirty.push(index);
                    }
                    kind => panic!("kind {kind}"),
                }
            }
            for index in dirty.drain(..) {
                let Some(echo) = connections.get_mut(index) else { continue };
                if !echo.pending.is_empty() && !echo.sending && !echo.ended {
                    let bytes = std::mem::replace(&mut echo.pending, echo.spare.take().unwrap_or_default());
                    ring.send(echo.fd, bytes, Token::new(SEND, echo.generation, index as u32));
                    echo.sending = true;
                }
                if echo.ended && !echo.sending && !echo.receiving {
                    ring.close(echo.fd);
                    connections.remove(index);
                }
            }
        }
        counts.buffers_at_end = ring.buffers_available();
        counts.cpu_us = thread_cpu_us();
        counts
    });
    (server, stop)
}

/// Sends `rounds` pipelines of `pipeline` requests over each connection, and checks what comes back.
fn run_echo(name: &str, features: Features, limits: Limits, connections: usize, rounds: usize, pipeline: usize) -> EchoCounts {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (server, mut stop) = echo_server(features, limits, listener);
    let mut clients: Vec<TcpStream> = (0..connections).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut back = Vec::new();
    for round in 0..rounds {
        let request = |client: usize| -> Vec<u8> {
            (0..pipeline).flat_map(|i| format!("PING {client} {round} {i}\r\n").into_bytes()).collect()
        };
        for (index, client) in clients.iter_mut().enumerate() {
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.write_all(&request(index)).unwrap();
        }
        for (index, client) in clients.iter_mut().enumerate() {
            let expected = request(index);
            back.resize(expected.len(), 0);
            client.read_exact(&mut back).unwrap_or_else(|error| panic!("without {name}: {error}"));
            assert_eq!(back, expected, "without {name}");
        }
    }
    for client in &clients {
        client.shutdown(Shutdown::Write).unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "without {name} the server closes too");
    }
    stop.write_all(b"x").unwrap();
    let counts = server.join().unwrap();
    assert_eq!(counts.accepted, connections);
    assert_eq!(counts.buffers_at_end, usize::from(limits.buffers), "without {name} every buffer is back");
    counts
}

#[test]
fn echoes_pipelines_of_100_connections_with_every_set_of_features() {
    for (name, features) in feature_sets() {
        run_echo(name, features, Limits::default(), 100, 5, 16);
    }
}

#[test]
fn receives_go_on_after_running_out_of_buffers() {
    for (name, features) in feature_sets() {
        let counts = run_echo(name, features, small(2, 64), 50, 3, 40);
        if name == "(nothing)" {
            assert!(counts.starved > 0, "two buffers are too few for 50 pipelines");
        }
    }
}

#[test]
fn idle_connections_hold_no_buffers() {
    for (name, features) in feature_sets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ring = Ring::with_limits(&features, small(4, 64)).unwrap();
        let mut pairs: Vec<_> = (0..40).map(|_| connect(&listener)).collect();
        for (index, (fd, _)) in pairs.iter().enumerate() {
            ring.recv(*fd, Token::new(RECV, 0, index as u32));
        }
        ring.submit_and_wait(Some(Duration::ZERO)).unwrap();
        let (_, last) = pairs.last_mut().unwrap();
        last.write_all(b"x").unwrap();
        let completion = next(&mut ring);
        assert_eq!((completion.token.index(), completion.result), (39, Ok(1)), "without {name}");
        ring.recycle(completion.received.unwrap());
        for (fd, _) in &pairs {
            ring.close(*fd);
        }
    }
}

#[test]
fn loses_no_completion_of_an_overflowing_queue() {
    let limits = Limits { submissions: 8, completions: 16, ..Limits::default() };
    for name in ["(nothing)", ALL] {
        let features = if name == ALL { features_without(ALL) } else { Features::probe(&[]).unwrap() };
        run_echo(name, features, limits, 200, 3, 4);
    }
}

#[test]
fn takes_more_operations_in_a_turn_than_the_queue_holds() {
    for (name, features) in feature_sets() {
        let mut ring = Ring::new(&features).unwrap();
        let (readable, mut writer) = std::os::unix::net::UnixStream::pair().unwrap();
        writer.write_all(b"x").unwrap();
        const POLLS: usize = 10_000;
        for index in 0..POLLS {
            ring.poll(readable.as_raw_fd(), libc::POLLIN, Token::new(1, 0, index as u32));
        }
        let mut seen = vec![false; POLLS];
        for _ in 0..POLLS {
            let completion = next(&mut ring);
            assert!(!std::mem::replace(&mut seen[completion.token.index() as usize], true), "without {name}");
            assert_eq!(completion.result.unwrap() & libc::POLLIN as usize, libc::POLLIN as usize);
        }
    }
}

#[test]
fn wakes_another_ring_and_is_woken_from_outside() {
    const ROUNDS: u32 = 2000;
    for (name, features) in feature_sets() {
        let (send_handle, handles) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let other = thread::spawn(move || {
            let mut ring = Ring::new(&features).unwrap();
            send_handle.send(ring.wake_handle()).unwrap();
            let back: Wake = answers.recv().unwrap();
            for _ in 0..ROUNDS {
                while !ring.take_woken() {
                    ring.submit_and_wait(Some(PATIENCE)).unwrap();
                    assert!(ring.next_completion().is_none());
                }
                ring.wake(&back);
            }
            ring.submit();
        });
        let mut ring = Ring::new(&features).unwrap();
        answer.send(ring.wake_handle()).unwrap();
        let there = handles.recv().unwrap();
        let start = Instant::now();
        for _ in 0..ROUNDS {
            ring.wake(&there);
            while !ring.take_woken() {
                ring.submit_and_wait(Some(PATIENCE)).unwrap();
                assert!(ring.next_completion().is_none());
            }
        }
        println!("wake, there and back, without {name}: {} ns", start.elapsed().as_nanos() / u128::from(ROUNDS));
        other.join().unwrap();
        ring.wake(&there); // its ring is gone
        ring.submit_and_wait(Some(Duration::ZERO)).unwrap();

        let here = ring.wake_handle();
        let outside = thread::spawn(move || here.wake_from_outside());
        while !ring.take_woken() {
            ring.submit_and_wait(Some(PATIENCE)).unwrap();
            assert!(ring.next_completion().is_none());
        }
        outside.join().unwrap();
    }
}

#[test]
fn sleeps_as_long_as_told_and_not_at_all_for_zero() {
    for (name, features) in feature_sets() {
        let mut ring = Ring::new(&features).unwrap();
        ring.submit_and_wait(Some(Duration::from_millis(1))).unwrap();
        for millis in [1, 20] {
            let start = Instant::now();
            ring.submit_and_wait(Some(Duration::from_millis(millis))).unwrap();
            let slept = start.elapsed();
            assert!(slept >= Duration::from_millis(millis), "without {name}: {slept:?}");
            assert!(slept < Duration::from_millis(millis + 500), "without {name}: {slept:?}");
            println!("asked for {millis} ms without {name}: {slept:?}");
        }
        let start = Instant::now();
        for _ in 0..1000 {
            ring.submit_and_wait(Some(Duration::ZERO)).unwrap();
        }
        println!("1000 idle looks without {name}: {:?}", start.elapsed());
    }
}

#[test]
fn a_closing_peer_ends_the_receive_and_a_reset_fails_the_send() {
    for (name, features) in feature_sets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ring = Ring::with_limits(&features, small(2, 64)).unwrap();
        for round in 0..10 {
            let (fd, mut peer) = connect(&listener);
            ring.recv(fd, Token::new(RECV, 0, round));
            peer.write_all(b"bye").unwrap();
            let completion = next(&mut ring);
            let received = completion.received.unwrap();
            assert_eq!(ring.bytes(&received), b"bye", "without {name}");
            ring.recycle(received);
            if !completion.more {
                ring.recv(fd, completion.token);
            }
            drop(peer);
            let end = next(&mut ring);
            assert_eq!((end.result, end.more, end.received.is_none()), (Ok(0), false, true), "without {name}");
            ring.close(fd);
            ring.submit();
            assert_eq!(ring.buffers_available(), 2);
        }
        let (fd, peer) = connect(&listener);
        socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        thread::sleep(Duration::from_millis(5));
        ring.send(fd, b"too late".to_vec(), Token::new(SEND, 0, 0));
        let completion = next(&mut ring);
        assert!(completion.result.is_err() && completion.bytes.unwrap() == b"too late", "without {name}");
        ring.close(fd);
    }
}

#[test]
fn a_cancelled_receive_takes_no_bytes_with_it() {
    for (name, features) in feature_sets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ring = Ring::new(&features).unwrap();
        let (fd, mut peer) = connect(&listener);
        let token = Token::new(RECV, 7, 1);
        ring.recv(fd, token);
        ring.submit();
        ring.cancel(token);
        let completion = next(&mut ring);
        assert_eq!(
            (completion.token, completion.result, completion.more),
            (token, Err(Errno::CANCELED), false),
            "without {name}"
        );
        peer.write_all(b"still here").unwrap();
        ring.recv(fd, token);
        let received = next(&mut ring).received.unwrap();
        assert_eq!(ring.bytes(&received), b"still here", "without {name}");
        ring.recycle(received);
        ring.close(fd);
    }
}

#[test]
fn closing_ends_what_is_armed_and_the_peer_sees_it() {
    for (name, features) in feature_sets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ring = Ring::new(&features).unwrap();
        let (fd, mut peer) = connect(&listener);
        ring.recv(fd, Token::new(RECV, 0, 1));
        ring.send(fd, vec![b'x'; 64 << 20], Token::new(SEND, 0, 1)); // more than the socket takes at once
        ring.submit_and_wait(Some(Duration::from_millis(1))).unwrap();
        ring.close(fd);
        let mut ends = [next(&mut ring), next(&mut ring)];
        ends.sort_by_key(|end| end.token.kind());
        assert!(matches!(ends[0].result, Ok(0) | Err(_)) && !ends[0].more, "without {name}");
        assert!(ends[1].result.is_err(), "without {name}: {:?}", ends[1].result);
        let mut rest = Vec::new();
        let _ = peer.read_to_end(&mut rest); // an end or a reset, but no more waiting
        assert!(rest.len() < 64 << 20);
    }
}

#[test]
fn sends_and_fills_memory_larger_than_the_socket_buffers() {
    const BULK: usize = 32 << 20;
    for (name, features) in feature_sets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ring = Ring::new(&features).unwrap();
        let (fd, mut peer) = connect(&listener);
        let echo = thread::spawn(move || {
            let mut bulk = vec![0; BULK];
            peer.read_exact(&mut bulk).unwrap();
            peer.write_all(&bulk).unwrap();
        });
        let bulk: Vec<u8> = (0..BULK).map(|i| (i / 3) as u8).collect();
        ring.send(fd, bulk, Token::new(SEND, 0, 0));
        let sent = next(&mut ring);
        assert_eq!(sent.result, Ok(BULK), "without {name}");
        let mut back = b"head".to_vec();
        while back.len() < BULK + 4 {
            let limit = BULK + 4 - back.len();
            ring.recv_into(fd, back, limit, Token::new(RECV, 0, 0));
            let filled = next(&mut ring);
            assert!(filled.result.unwrap() > 0, "without {name}");
            back = filled.bytes.unwrap();
        }
        assert!(back.starts_with(b"head") && back[4..] == sent.bytes.unwrap()[..], "without {name}");
        echo.join().unwrap();
        ring.close(fd);
    }
}

#[test]
fn measure_round_trips() {
    const ROUNDS: u32 = 10_000;
    let trips = |address| {
        let mut client = TcpStream::connect(address).unwrap();
        client.set_nodelay(true).unwrap();
        let mut back = [0; 16];
        let start = Instant::now();
        for _ in 0..ROUNDS {
            client.write_all(&[b'x'; 16]).unwrap();
            client.read_exact(&mut back).unwrap();
        }
        start.elapsed().as_nanos() / u128::from(ROUNDS)
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let plain = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_nodelay(true).unwrap();
        let mut buffer = [0; 16384];
        while let Ok(len @ 1..) = socket.read(&mut buffer) {
            socket.write_all(&buffer[..len]).unwrap();
        }
    });
    println!("round trip, blocking socket: {} ns", trips(address));
    plain.join().unwrap();
    for (name, features) in feature_sets() {
        let (connections, rounds) = (50, 200);
        let counts = run_echo(name, features, Limits::default(), connections, rounds, 1);
        println!("server CPU, 50 connections, without {name}: {} ns", counts.cpu_us * 1000 / (connections * rounds) as u64);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (server, mut stop) = echo_server(features, Limits::default(), listener);
        println!("round trip, ring without {name}: {} ns", trips(address));
        stop.write_all(b"x").unwrap();
        server.join().unwrap();
    }
}

#[test]
fn writes_to_a_file_where_it_is_told_and_syncs() {
    for (name, features) in feature_sets() {
        let mut ring = Ring::new(&features).unwrap();
        let path = std::env::temp_dir().join(format!("kvcore-ring-{}-{}", std::process::id(), name.replace(' ', "-")));
        let file = std::fs::File::create(&path).unwrap();
        ring.write(file.as_raw_fd(), b"world".to_vec(), 6, Token::new(SEND, 0, 1));
        ring.write(file.as_raw_fd(), b"hello ".to_vec(), 0, Token::new(SEND, 0, 2));
        let mut written: Vec<_> = (0..2)
            .map(|_| next(&mut ring))
            .map(|completion| (completion.token.index(), completion.result, completion.bytes.map(|bytes| bytes.len())))
            .collect();
        written.sort_by_key(|(index, ..)| *index);
        assert_eq!(written, [(1, Ok(5), Some(5)), (2, Ok(6), Some(6))], "without {name}");
        ring.sync(file.as_raw_fd(), Token::new(SEND, 0, 3));
        assert_eq!(next(&mut ring).result, Ok(0), "without {name}");
        ring.write_through(file.as_raw_fd(), b"!".to_vec(), 11, Token::new(SEND, 0, 4));
        let completion = next(&mut ring);
        assert_eq!(
            (completion.token.index(), completion.result, completion.bytes),
            (4, Ok(1), Some(b"!".to_vec())),
            "without {name}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"hello world!");
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_write_that_fails_says_why_and_gives_the_bytes_back() {
    let mut ring = Ring::new(&Features::probe(&[]).unwrap()).unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    ring.write(full.as_raw_fd(), b"too much".to_vec(), 0, Token::new(SEND, 0, 1));
    let completion = next(&mut ring);
    assert_eq!((completion.result, completion.bytes), (Err(Errno(libc::ENOSPC)), Some(b"too much".to_vec())));
    ring.write_through(full.as_raw_fd(), b"too much".to_vec(), 0, Token::new(SEND, 0, 2));
    let completion = next(&mut ring);
    assert_eq!((completion.token.index(), completion.result), (2, Err(Errno(libc::ENOSPC))));
    assert_eq!(completion.bytes, Some(b"too much".to_vec()));
    // Nothing of it is left: the next operation is answered by its own completion.
    ring.sync(full.as_raw_fd(), Token::new(SEND, 0, 3));
    assert_eq!(next(&mut ring).token.index(), 3);
}

#[test]
fn waits_for_so_many_completions_or_so_long() {
    let features = Features::probe(&[]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut ring = Ring::new(&features).unwrap();
    let mut pairs: Vec<_> = (0..3).map(|_| connect(&listener)).collect();
    for (index, (fd, _)) in pairs.iter().enumerate() {
        ring.recv(*fd, Token::new(RECV, 0, index as u32));
    }
    ring.submit_and_wait(Some(Duration::ZERO)).unwrap();
    let take = |ring: &mut Ring| {
        let mut taken = 0;
        while let Some(completion) = ring.next_completion() {
            taken += 1;
            completion.received.into_iter().for_each(|received| ring.recycle(received));
        }
        taken
    };

    // One of three: it is there when the time to wait for more is over, long before the timeout.
    pairs[0].1.write_all(b"x").unwrap();
    let (began, within) = (Instant::now(), Duration::from_millis(30));
    ring.submit_and_coalesce(Some(PATIENCE), 3, within).unwrap();
    assert_eq!(take(&mut ring), 1);
    assert!(began.elapsed() < PATIENCE / 2);
    assert!(!features.min_wait || began.elapsed() >= within);

    // All three: nothing is waited for, however long the wait may be. A send that completes at once does not count as news.
    ring.send(pairs[0].0, b"y".to_vec(), Token::new(SEND, 0, 9));
    pairs.iter_mut().for_each(|(_, peer)| peer.write_all(b"x").unwrap());
    let began = Instant::now();
    let mut taken = 0;
    while taken < 4 {
        ring.submit_and_coalesce(Some(PATIENCE), 3, PATIENCE).unwrap();
        taken += take(&mut ring);
    }
    assert!(began.elapsed() < PATIENCE / 2);
    pairs.iter().for_each(|(fd, _)| ring.close(*fd));
}
