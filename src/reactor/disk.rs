//! Files by way of a ring: what the coordinator writes.

use super::{Features, Ring, Token};
use crate::persistence::disk::FileLayer;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// A ring that carries one file operation at a time.
pub struct RingDisk {
    ring: Ring,
}

/// The only operation under way.
const TOKEN: Token = Token::new(1, 0, 0);

impl RingDisk {
    /// For the calling thread, which may wait for a disk as long as that takes.
    pub fn new(features: &Features) -> io::Result<Self> {
        let limits = super::ring::Limits { submissions: 8, completions: 16, buffers: 1, buffer_bytes: 4096 };
        let ring = Ring::with_limits(features, limits).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(RingDisk { ring })
    }

    /// Waits for the operation that was queued.
    fn outcome(&mut self) -> io::Result<super::Completion> {
        loop {
            if let Some(completion) = self.ring.next_completion() {
                debug_assert_eq!(completion.token, TOKEN);
                return Ok(completion);
            }
            self.ring.submit_and_wait(None)?;
        }
    }
}

impl FileLayer for RingDisk {
    fn create(&mut self, path: &Path) -> io::Result<File> {
        File::create(path)
    }

    fn write(&mut self, file: &File, bytes: Vec<u8>, offset: u64) -> (Vec<u8>, io::Result<()>) {
        if bytes.is_empty() {
            return (bytes, Ok(()));
        }
        self.ring.write(file.as_raw_fd(), bytes, offset, TOKEN);
        match self.outcome() {
            Ok(completion) => (completion.bytes.unwrap_or_default(), completion.result.map(drop).map_err(io::Error::from)),
            Err(error) => (Vec::new(), Err(error)),
        }
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        self.ring.sync(file.as_raw_fd(), TOKEN);
        self.outcome()?.result.map(drop).map_err(io::Error::from)
    }
}
