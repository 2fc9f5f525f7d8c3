//! A blocking client: requests out, replies in, and raw bytes both ways for what a client should not send.

use super::{PATIENCE, Value, wait_until, words};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// One connection.
pub struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    at: usize,
    /// Out-of-band messages that came while a reply was awaited.
    pub pushes: VecDeque<Value>,
}

/// A request as a RESP array of bulk strings.
pub fn encode<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        let arg = arg.as_ref();
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Runs a request that is answered OK.
#[track_caller]
pub fn ok(client: &mut Client, line: &str) {
    assert_eq!(client.run(line), Value::ok(), "{line}");
}

pub fn wait_for_bgsave(client: &mut Client) {
    wait_until("the background save to end", || client.info("persistence", "rdb_bgsave_in_progress") == "0");
}

impl Client {
    pub fn connect(port: u16) -> std::io::Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { stream, input: Vec::new(), at: 0, pushes: VecDeque::new() })
    }

    /// Sends one request and reads its reply.
    #[track_caller]
    pub fn command<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Value {
        self.send(args);
        self.reply()
    }

    /// As [`Client::command`], with the request written as words (see [`words`]).
    #[track_caller]
    pub fn run(&mut self, line: &str) -> Value {
        self.command(&words(line))
    }

    /// A field of a section of INFO, if it is there.
    #[track_caller]
    pub fn find_info(&mut self, section: &str, field: &str) -> Option<String> {
        let text = self.run(&format!("INFO {section}")).text();
        text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).map(str::to_owned)
    }

    /// A field that is there.
    #[track_caller]
    pub fn info(&mut self, section: &str, field: &str) -> String {
        self.find_info(section, field).unwrap_or_else(|| panic!("no {field} in INFO {section}"))
    }

    /// Sends all requests in one write, then reads all replies.
    #[track_caller]
    pub fn pipeline<A: AsRef<[u8]>>(&mut self, requests: &[Vec<A>]) -> Vec<Value> {
        let bytes: Vec<u8> = requests.iter().flat_map(|args| encode(args)).collect();
        self.send_raw(&bytes);
        requests.iter().map(|_| self.reply()).collect()
    }

    #[track_caller]
    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        self.send_raw(&encode(args));
    }

    #[track_caller]
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.try_send_raw(bytes).unwrap_or_else(|error| panic!("send: {error}"));
    }

    /// As [`Client::send_raw`], where the server may close meanwhile.
    pub fn try_send_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next reply; out-of-band messages before it are put aside.
    #[track_caller]
    pub fn reply(&mut self) -> Value {
        loop {
            match self.message() {
                push @ Value::Push(_) => self.pushes.push_back(push),
                reply => return reply,
            }
        }
    }

    /// The next message of any kind.
    #[track_caller]
    pub fn message(&mut self) -> Value {
        match self.try_message() {
            Ok(value) => value,
            Err(error) => panic!("no reply: {error}"),
        }
    }

    /// The next message, or why there is none (closed, or nothing came in time).
    pub fn try_message(&mut self) -> std::io::Result<Value> {
        let value = self.parse()?;
        self.input.drain(..self.at);
        self.at = 0;
        Ok(value)
    }

    /// The next message, or the error when none comes within `wait` or the connection ends.
    pub fn message_or(&mut self, wait: Duration) -> std::io::Result<Value> {
        self.stream.set_read_timeout(Some(wait))?;
        let result = self.try_message();
        self.stream.set_read_timeout(Some(PATIENCE))?;
        self.at = 0;
        result
    }

    /// The next message if one comes within `wait`.
    #[track_caller]
    pub fn message_within(&mut self, wait: Duration) -> Option<Value> {
        match self.message_or(wait) {
            Ok(value) => Some(value),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("no message: {error}"),
        }
    }

    /// Everything until the server closes; `Err` with what came so far when it does not close within `wait`.
    pub fn read_until_closed(&mut self, wait: Duration) -> Result<Vec<u8>, Vec<u8>> {
        self.stream.set_read_timeout(Some(wait)).expect("a socket option");
        let mut all = std::mem::take(&mut self.input);
        let mut chunk = [0; 65536];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(all),
                Ok(count) => all.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(all),
                Err(_) => return Err(all),
            }
        }
    }

    /// Says that nothing more will be sent.
    pub fn shutdown_write(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    fn fill(&mut self) -> std::io::Result<()> {
        let mut chunk = [0; 65536];
        match self.stream.read(&mut chunk)? {
            0 => Err(std::io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection")),
            count => {
                self.input.extend_from_slice(&chunk[..count]);
                Ok(())
            }
        }
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut searched = self.at;
        loop {
            if let Some(end) = self.input[searched..].windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.input[self.at..searched + end]).into_owned();
                self.at = searched + end + 2;
                return Ok(line);
            }
            searched = self.input.len().saturating_sub(1).max(self.at);
            self.fill()?;
        }
    }

    fn exactly(&mut self, len: usize) -> std::io::Result<Vec<u8>> {
        while self.input.len() < self.at + len + 2 {
            self.fill()?;
        }
        let bytes = self.input[self.at..self.at + len].to_vec();
        assert_eq!(&self.input[self.at + len..self.at + len + 2], b"\r\n", "a bulk string ends with CR LF");
        self.at += len + 2;
        Ok(bytes)
    }

    fn elements(&mut self, count: usize) -> std::io::Result<Vec<Value>> {
        (0..count).map(|_| self.parse()).collect()
    }

    fn parse(&mut self) -> std::io::Result<Value> {
        let line = self.line()?;
        let (kind, rest) = line.split_at_checked(1).unwrap_or_else(|| panic!("an empty line where a reply should begin"));
        let number = || rest.parse::<i64>().unwrap_or_else(|_| panic!("bad length in reply {line:?}"));
        Ok(match kind {
            "+" => Value::Simple(rest.to_string()),
            "-" => Value::Error(rest.to_string()),
            ":" => Value::Integer(number()),
            "_" => Value::Null,
            "," => Value::Double(rest.to_string()),
            "#" => Value::Boolean(rest == "t"),
            "(" => Value::BigNumber(rest.to_string()),
            "$" if number() < 0 => Value::Null,
            "$" => Value::Bulk(self.exactly(number() as usize)?),
            "=" => {
                let bytes = self.exactly(number() as usize)?;
                Value::Verbatim(String::from_utf8_lossy(&bytes[..3]).into_owned(), bytes[4..].to_vec())
            }
            "*" if number() < 0 => Value::NullArray,
            "*" => Value::Array(self.elements(number() as usize)?),
            "~" => Value::Set(self.elements(number() as usize)?),
            ">" => Value::Push(self.elements(number() as usize)?),
            "%" => {
                let flat = self.elements(2 * number() as usize)?;
                Value::Map(flat.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
            }
            _ => panic!("not a reply: {line:?}"),
        })
    }
}
