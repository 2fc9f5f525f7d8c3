//! The file operations that saving stands on, as a seam: io_uring behind it in the node, failures on demand in tests.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Files on a disk. Every operation is done, or has failed, when its call returns.
pub trait FileLayer {
    /// Makes an empty file, or empties the one that is there.
    fn create(&mut self, path: &Path) -> io::Result<File>;
    /// Writes all of `bytes` from `offset` on, and gives their memory back.
    fn write(&mut self, file: &File, bytes: Vec<u8>, offset: u64) -> (Vec<u8>, io::Result<()>);
    /// Waits until the file's data is on disk.
    fn sync(&mut self, file: &File) -> io::Result<()>;

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    /// Waits until the names in `directory` are on disk.
    fn sync_directory(&mut self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }

    /// Makes `path` hold exactly `content`, and waits until it is on disk.
    fn write_durably(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        let file = self.create(path)?;
        self.write(&file, content.to_vec(), 0).1?;
        self.sync(&file)
    }
}

/// Plain system calls, where there is no ring: the checking tools and the start.
pub struct Disk;

impl FileLayer for Disk {
    fn create(&mut self, path: &Path) -> io::Result<File> {
        File::create(path)
    }

    fn write(&mut self, file: &File, bytes: Vec<u8>, offset: u64) -> (Vec<u8>, io::Result<()>) {
        let written = std::os::unix::fs::FileExt::write_all_at(file, &bytes, offset);
        (bytes, written)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}
