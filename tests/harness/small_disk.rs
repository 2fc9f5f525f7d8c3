//! A disk that is soon full.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A small disk of a test's own, which can be filled.
pub struct SmallDisk {
    pub path: PathBuf,
}

impl SmallDisk {
    /// Below `folder`, with so many KiB. Fails where the test may not mount: it needs root, or a user namespace in which it is.
    pub fn new(folder: &Path, kib: u32) -> SmallDisk {
        let path = folder.join("small");
        std::fs::create_dir(&path).expect("a directory");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={kib}k,mode=777"), "tmpfs"]).arg(&path).output();
        let mounted = mounted.expect("the program mount");
        let why = String::from_utf8_lossy(&mounted.stderr);
        assert!(mounted.status.success(), "this test has to mount a small tmpfs, for which it must be root: {why}");
        SmallDisk { path }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a failing test's server may still be in it.
        let unmounted = Command::new("umount").arg("-l").arg(&self.path).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}
