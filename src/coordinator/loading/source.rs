//! A file that is read from its beginning to its end, in large chunks; or a data set on its way from a primary, as it comes.

use super::{LOOK, LoadError};
use crate::config::structures::os_reason;
use crate::coordinator::contract::Received;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 1 << 20;

pub struct Source {
    input: Input,
    /// For the log.
    pub path: PathBuf,
    /// What is read of it: the file as long as it was when it was opened, or less.
    pub len: u64,
    chunk: Vec<u8>,
    /// Bytes of the chunk that were used.
    used: usize,
    /// Bytes read.
    at: u64,
}

enum Input {
    File(File),
    Stream(Receiver<Received>),
}

impl Source {
    /// What a primary sends. `total`: in bytes, as far as it is known.
    pub fn stream(received: Receiver<Received>, total: u64) -> Self {
        Source { input: Input::Stream(received), path: "the primary's RDB".into(), len: total, chunk: Vec::new(), used: 0, at: 0 }
    }

    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Source { input: Input::File(file), path: path.to_owned(), len, chunk: Vec::new(), used: 0, at: 0 })
    }

    /// Bytes of the file up to the end of the chunk.
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// Whether the file begins with these bytes. To be asked before anything is read.
    pub fn begins_with(&mut self, bytes: &[u8]) -> Result<bool, LoadError> {
        let chunk = self.next()?;
        let (begins, len) = (chunk.starts_with(bytes), chunk.len());
        self.keep(len);
        Ok(begins)
    }

    /// Whether there is something to be read now, or never will be. Waits for a while.
    pub fn is_ready(&mut self) -> Result<bool, LoadError> {
        let Input::Stream(received) = &self.input else { return Ok(true) };
        if self.used < self.chunk.len() {
            return Ok(true);
        }
        match received.recv_timeout(LOOK) {
            Ok(Received::Bytes(bytes)) => {
                self.at += bytes.len() as u64;
                (self.chunk, self.used) = (bytes, 0);
                Ok(true)
            }
            Ok(Received::Whole) => {
                (self.chunk, self.used) = (Vec::new(), 0);
                Ok(true)
            }
            Err(RecvTimeoutError::Timeout) => Ok(false),
            Err(RecvTimeoutError::Disconnected) => Err(LoadError::Fatal("it was given up".to_owned())),
        }
    }

    /// What was left of the chunk, else the next one; empty at the end. Of a stream when it [is ready](Source::is_ready).
    pub fn next(&mut self) -> Result<&[u8], LoadError> {
        if self.used < self.chunk.len() {
            return Ok(&self.chunk[std::mem::replace(&mut self.used, self.chunk.len())..]);
        }
        let Input::File(file) = &mut self.input else { return Ok(&[]) };
        self.chunk.resize(CHUNK_BYTES, 0);
        let want = usize::try_from(self.len - self.at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let len = loop {
            match file.read(&mut self.chunk[..want]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(len) => break len,
                Err(error) => {
                    let (path, reason) = (self.path.display(), os_reason(&error));
                    return Err(LoadError::Fatal(format!("Unrecoverable error reading the file {path}: {reason}")));
                }
            }
        };
        self.chunk.truncate(len);
        self.used = len;
        self.at += len as u64;
        Ok(&self.chunk)
    }

    /// Bytes of the file up to what [`Source::next`] begins with.
    pub fn used_to(&self) -> u64 {
        self.at - (self.chunk.len() - self.used) as u64
    }

    /// Lets the file end at `len`, of which no byte was taken yet.
    pub fn limit(&mut self, len: u64) {
        self.len = self.len.min(len);
        let surplus = self.at.saturating_sub(self.len);
        self.chunk.truncate(self.chunk.len() - surplus as usize);
        self.at -= surplus;
    }

    /// Gives the last bytes of the chunk back: [`Source::next`] begins with them.
    pub fn keep(&mut self, bytes: usize) {
        self.used = self.chunk.len() - bytes;
    }
}
