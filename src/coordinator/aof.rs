//! The append-only directory: its manifest, new segments for the cores, and what a rewrite puts in place of old ones.
//!
//! Each core appends to its own segment by itself. The coordinator makes the files and keeps the manifest, in an order that leaves
//! a directory from which everything acknowledged can be loaded, whenever the power fails:
//!
//! ```text
//! rewrite   make segments ─▶ manifest lists them too ─▶ cut: cores go on in them ─▶ base written and synced
//!           ─▶ manifest: new base, new segments, the rest is history ─▶ history removed
//! ```
//!
//! While appending is being switched on, the manifest that lists the new segments is not stored before its base is whole: until
//! then the data set is where it was before.

use super::contract::ToCore;
use super::snapshot::{Form, SaveError, Target};
use super::{Coordinator, contract::Snapshot};
use crate::config::Config;
use crate::config::structures::os_reason;
use crate::core::log::Segment;
use crate::observe::log;
use crate::persistence::disk::FileLayer;
use crate::persistence::manifest::{BaseFormat, Entry, Manifest, StoreError, store};
use crate::persistence::segment::head;
use crate::persistence::spanning::SegmentSeq;
use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The append-only directory of this node.
pub struct Aof {
    directory: PathBuf,
    stem: String,
    manifest: Manifest,
    /// The manifest is what lies on disk. Not so while appending is being switched on.
    is_stored: bool,
}

/// Why the directory could not be changed.
#[derive(Debug)]
pub enum AofError {
    Directory(PathBuf, io::Error),
    Segment(PathBuf, io::Error),
    Manifest(StoreError),
    NoMoreNumbers,
}

impl std::fmt::Display for AofError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AofError::Directory(path, error) => {
                write!(f, "Can't open or create append-only dir {}: {}", path.display(), os_reason(error))
            }
            AofError::Segment(path, error) => {
                write!(f, "Can't open the append-only file {}: {}", path.display(), os_reason(error))
            }
            AofError::Manifest(error) => write!(f, "{error}"),
            AofError::NoMoreNumbers => f.write_str("The manifest has no more sequence numbers"),
        }
    }
}

impl Aof {
    /// `manifest`: what is on disk, or empty.
    pub fn new(config: &Config, manifest: Manifest) -> Self {
        let stem = String::from_utf8_lossy(config.appendfilename.path().as_os_str().as_bytes()).into_owned();
        Aof { directory: config.appenddirname.path().to_owned(), stem, manifest, is_stored: true }
    }

    fn manifest_name(&self) -> String {
        format!("{}.manifest", self.stem)
    }

    /// What lies on disk, if it can be read.
    fn stored_manifest(&self) -> Manifest {
        let text = fs::read(self.directory.join(self.manifest_name())).ok();
        text.and_then(|text| Manifest::parse(&text).ok()).unwrap_or_default()
    }

    fn path(&self, entry: &Entry) -> PathBuf {
        entry.path(&self.directory)
    }

    fn make_directory(&self) -> Result<(), AofError> {
        match fs::create_dir(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(AofError::Directory(self.directory.clone(), error)),
            _ => Ok(()),
        }
    }

    fn store(&self, disk: &mut impl FileLayer) -> Result<(), AofError> {
        store(disk, &self.directory, &self.manifest_name(), &self.manifest).map_err(AofError::Manifest)
    }

    /// Adds one empty segment for each core.
    fn open_segments(&mut self, disk: &mut impl FileLayer, cores: usize, why: &str) -> Result<Vec<Segment>, AofError> {
        let mut next = self.manifest.clone();
        let entries = next.open_segments(&self.stem, cores).ok_or(AofError::NoMoreNumbers)?.to_vec();
        let opened: Result<Vec<Segment>, AofError> =
            entries.iter().enumerate().map(|(index, entry)| self.make_segment(disk, entry, index, cores, why)).collect();
        let opened = opened.and_then(|segments| {
            let before = std::mem::replace(&mut self.manifest, next);
            if self.is_stored
                && let Err(error) = self.store(disk)
            {
                self.manifest = before;
                return Err(error);
            }
            Ok(segments)
        });
        if opened.is_err() {
            for entry in &entries {
                let _may_not_exist = disk.remove(&self.path(entry));
            }
        }
        opened
    }

    fn make_segment(
        &self,
        disk: &mut impl FileLayer,
        entry: &Entry,
        index: usize,
        cores: usize,
        why: &str,
    ) -> Result<Segment, AofError> {
        let path = self.path(entry);
        log::notice(&format!("Creating AOF incr file {} on {why}", String::from_utf8_lossy(&entry.name)));
        let made = disk.create(&path).and_then(|file| {
            let head = head(index, cores);
            let bytes = Cell::new(head.len() as u64);
            disk.write(&file, head, 0).1?;
            Ok(Segment { file, seq: SegmentSeq(entry.seq), bytes })
        });
        made.map_err(|error| AofError::Segment(path, error))
    }

    /// The last run's segments, if they are those of as many cores.
    fn reopen_segments(&self, cores: usize) -> Option<Vec<Segment>> {
        let entries = self.manifest.incremental();
        let last = entries.get(entries.len().checked_sub(cores)?..)?;
        last.iter().enumerate().map(|(index, entry)| reopen(&self.path(entry), entry.seq, &head(index, cores))).collect()
    }

    /// Bytes of all files but the last `segments`, which are counted by those who append to them.
    fn settled_bytes(&self, segments: usize) -> u64 {
        let entries: Vec<&Entry> = self.manifest.load_order().collect();
        let settled = entries.len().saturating_sub(segments);
        entries[..settled].iter().filter_map(|entry| fs::metadata(self.path(entry)).ok()).map(|file| file.len()).sum()
    }

    /// The file that the next base will be.
    fn next_base(&self, format: BaseFormat) -> Result<PathBuf, AofError> {
        let mut next = self.manifest.clone();
        let entry = next.replace_base(&self.stem, format, i64::MAX).ok_or(AofError::NoMoreNumbers)?;
        Ok(self.path(entry))
    }

    /// A base is whole: it takes the place of everything before the segment `first_kept`.
    fn replace_base(&mut self, disk: &mut impl FileLayer, format: BaseFormat, first_kept: i64) -> Result<(), AofError> {
        let before = self.manifest.clone();
        self.manifest.replace_base(&self.stem, format, first_kept).ok_or(AofError::NoMoreNumbers)?;
        if let Err(error) = self.store(disk) {
            self.manifest = before;
            return Err(error);
        }
        self.is_stored = true;
        Ok(())
    }

    /// Removes files that the manifest only remembers, then has it forget them.
    fn remove_history(&mut self, disk: &mut impl FileLayer) {
        if self.manifest.history().is_empty() {
            return;
        }
        for entry in self.manifest.history() {
            log::notice(&format!("Removing the history file {} in the background", String::from_utf8_lossy(&entry.name)));
            let _gone_already = disk.remove(&self.path(entry));
        }
        self.manifest.forget_history();
        if let Err(error) = self.store(disk) {
            log::warning(&error.to_string());
        }
    }
}

fn base_format(config: &Config) -> BaseFormat {
    if config.aof_use_rdb_preamble { BaseFormat::Rdb } else { BaseFormat::Commands }
}

fn form_of(format: BaseFormat) -> Form {
    match format {
        BaseFormat::Rdb => Form::RdbBase,
        BaseFormat::Commands => Form::Commands,
    }
}

fn reopen(path: &Path, seq: i64, head: &[u8]) -> Option<Segment> {
    let mut file: File = OpenOptions::new().read(true).write(true).open(path).ok()?;
    let mut beginning = vec![0; head.len()];
    file.read_exact(&mut beginning).ok()?;
    let bytes = Cell::new(file.metadata().ok()?.len());
    (beginning == head).then_some(Segment { file, seq: SegmentSeq(seq), bytes })
}

/// `temp-rewriteaof-bg-<pid>.aof`, as Redis names it.
pub fn temporary_base() -> PathBuf {
    PathBuf::from(format!("temp-rewriteaof-bg-{}.aof", std::process::id()))
}

impl Coordinator {
    /// Has every core append to its segment, before the first client is served. `manifest` is what was loaded.
    pub(super) fn begin_appending(&mut self, disk: &mut impl FileLayer, manifest: Manifest) -> Result<(), String> {
        let config = self.node.current_config();
        let cores = self.to_cores.cores();
        let mut aof = Aof::new(&config, manifest);
        let segments = self.first_segments(disk, &mut aof, &config).map_err(|error| error.to_string())?;
        let persistence = &self.node.persistence;
        persistence.set_segments(segments.iter().map(|segment| segment.seq).collect());
        let appended: u64 = segments.iter().map(|segment| segment.bytes.get()).sum();
        let settled = aof.settled_bytes(cores);
        {
            let mut status = persistence.aof();
            (status.settled_bytes, status.base_bytes) = (settled, settled + appended);
        }
        persistence.is_founded.store(true, Ordering::Release);
        persistence.logging.store(true, Ordering::Release);
        let (done, all) = crossbeam_channel::bounded(cores);
        for (core, segment) in segments.into_iter().enumerate() {
            self.to_cores.tell(core, ToCore::Append { segment: Box::new(segment), done: done.clone() });
        }
        drop(done);
        // A core that has ended lets go of its end of the channel.
        while all.recv_timeout(Duration::from_secs(60)).is_ok() {}
        self.aof = Some(aof);
        Ok(())
    }

    /// The segments of the last run, or new ones; where there is no file at all, one with an empty base.
    fn first_segments(&self, disk: &mut impl FileLayer, aof: &mut Aof, config: &Config) -> Result<Vec<Segment>, SaveError> {
        aof.make_directory().map_err(SaveError::Aof)?;
        if aof.manifest.base().is_none() && aof.manifest.incremental().is_empty() {
            let format = base_format(config);
            let base = aof.next_base(format).map_err(SaveError::Aof)?;
            log::notice(&format!("Creating AOF base file {} on server start", file_name(&base)));
            self.write_empty_base(disk, &base, form_of(format))?;
            aof.replace_base(disk, format, i64::MAX).map_err(SaveError::Aof)?;
        }
        let cores = self.to_cores.cores();
        match aof.reopen_segments(cores) {
            Some(segments) => Ok(segments),
            None => aof.open_segments(disk, cores, "server start").map_err(SaveError::Aof),
        }
    }

    fn aof(&mut self) -> &mut Aof {
        let config = self.node.current_config();
        self.aof.get_or_insert_with(|| {
            let mut aof = Aof::new(&config, Manifest::default());
            aof.manifest = aof.stored_manifest();
            aof
        })
    }

    /// Makes segments, and sends them to the core that has asked for them.
    pub(super) fn open_segments(&mut self, disk: &mut impl FileLayer, core: usize, turning_on: bool, why: &str) {
        let cores = self.to_cores.cores();
        if turning_on {
            self.aof().is_stored = false;
            self.node.persistence.is_founded.store(false, Ordering::Release);
        }
        let aof = self.aof();
        let opened = aof.make_directory().and_then(|()| aof.open_segments(disk, cores, why));
        let settled = aof.settled_bytes(cores);
        match &opened {
            Ok(_) => self.node.persistence.aof().settled_bytes = settled,
            Err(error) => log::warning(&error.to_string()),
        }
        self.to_cores.tell(core, ToCore::Segments(opened.map_err(|error| error.to_string())));
    }

    /// Writes the base of a rewrite, and puts it in place.
    pub(super) fn write_base(
        &mut self,
        disk: &mut impl FileLayer,
        snapshot: &Snapshot,
        first_kept: i64,
    ) -> Result<(), SaveError> {
        let format = base_format(&self.node.current_config());
        let aof = self.aof();
        aof.make_directory().map_err(SaveError::Aof)?;
        let (base, form) = (aof.next_base(format).map_err(SaveError::Aof)?, form_of(format));
        let temporary = temporary_base();
        self.write(disk, snapshot, Target { temporary: &temporary, path: &base, form })?;
        let (temporary, name) = (temporary.display(), file_name(&base));
        log::notice(&format!("Successfully renamed the temporary AOF base file {temporary} into {name}"));
        let disable_gc = self.node.current_config().aof_disable_auto_gc;
        let logging = self.node.persistence.logging.load(Ordering::Acquire);
        let cores = if logging { self.to_cores.cores() } else { 0 };
        let aof = self.aof();
        aof.replace_base(disk, format, first_kept).map_err(SaveError::Aof)?;
        if !disable_gc {
            aof.remove_history(disk);
        }
        let settled = aof.settled_bytes(cores);
        self.node.persistence.is_founded.store(true, Ordering::Release);
        let mut status = self.node.persistence.aof();
        (status.settled_bytes, status.base_bytes) = (settled, settled);
        Ok(())
    }

    /// Appending was to be switched on, and its base did not come about: what was made for it goes.
    pub(super) fn forget_unstored(&mut self, disk: &mut impl FileLayer) {
        let aof = self.aof();
        if aof.is_stored {
            return;
        }
        let stored = aof.stored_manifest();
        let known: Vec<&Entry> = stored.load_order().collect();
        for entry in aof.manifest.incremental().iter().filter(|entry| !known.contains(entry)) {
            let _gone_already = disk.remove(&aof.path(entry));
        }
        (aof.manifest, aof.is_stored) = (stored, true);
        self.node.persistence.aof().begins_anew = true;
    }
}

fn file_name(path: &Path) -> String {
    String::from_utf8_lossy(path.file_name().map_or(&[][..], OsStr::as_bytes)).into_owned()
}
