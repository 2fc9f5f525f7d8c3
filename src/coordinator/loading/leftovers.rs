//! Temporary files that a process left behind when it was killed.
//!
//! They are known by their names alone, and by the process that the name tells being gone; every other file is somebody's.

use crate::observe::log;
use crate::persistence::disk::FileLayer;
use std::path::Path;

/// Names around the process's number.
const TEMPORARY: [(&str, &str); 3] = [("temp-", ".rdb"), ("temp-rewriteaof-bg-", ".aof"), ("temp-rewriteaof-", ".aof")];

/// Removes what is left over in `directory`, with a line in the log for each.
pub fn remove(disk: &mut impl FileLayer, directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let left_over = name.to_str().and_then(process_of).is_some_and(is_gone);
        if left_over && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            remove_file(disk, &entry.path());
        }
    }
}

/// Removes a temporary file that nobody else can have made.
pub fn remove_file(disk: &mut impl FileLayer, path: &Path) {
    let shown = path.strip_prefix(".").unwrap_or(path).display();
    match disk.remove(path) {
        Ok(()) => log::notice(&format!("Removed the temporary file {shown}, left over by a process that was killed")),
        Err(error) => log::warning(&format!("Can't remove the left over temporary file {shown}: {error}")),
    }
}

/// The process that the name of a temporary file tells.
fn process_of(name: &str) -> Option<u32> {
    TEMPORARY.iter().find_map(|(prefix, suffix)| {
        let number = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
        number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())?
    })
}

/// This process has just begun: what bears its number is of an earlier one, as often happens in containers.
fn is_gone(process: u32) -> bool {
    process == std::process::id() || !Path::new(&format!("/proc/{process}")).exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persistence::disk::Disk;

    #[test]
    fn only_files_of_processes_that_are_gone_are_removed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let gone = u32::MAX;
        let (own, parent) = (std::process::id(), std::os::unix::process::parent_id());
        let left_over = [format!("temp-{gone}.rdb"), format!("temp-{own}.rdb"), format!("temp-rewriteaof-bg-{gone}.aof")];
        let kept = [
            format!("temp-{parent}.rdb"),
            "temp-x.rdb".into(),
            "temp-.rdb".into(),
            format!("temp-{gone}.txt"),
            "dump.rdb".into(),
        ];
        for name in left_over.iter().chain(&kept) {
            std::fs::write(directory.path().join(name), b"").expect("written");
        }
        std::fs::create_dir(directory.path().join(format!("temp-{}.rdb", gone - 1))).expect("made");
        remove(&mut Disk, directory.path());
        assert!(left_over.iter().all(|name| !directory.path().join(name).exists()));
        assert!(kept.iter().all(|name| directory.path().join(name).exists()));
        assert!(directory.path().join(format!("temp-{}.rdb", gone - 1)).exists());
    }
}
