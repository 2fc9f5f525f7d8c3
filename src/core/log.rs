//! One core's end of the append-only file: what is still to be written, in which order, and what is known to be on disk.
//!
//! Owns the chunks, their numbers and the order of writes and syncs: one operation at a time, so that a segment grows in order.
//! Refuses to know the ring: [`Log::next_operation`] says what is to be done, [`Log::completed`] hears how it went.
//!
//! ```text
//! effects of a turn ─▶ open chunk ─▶ write ─▶ (always) sync ─▶ durable: what waited for this number goes out
//!                      chunks queue up while an operation is under way: the next write takes all of them (group commit)
//! ```
//!
//! A chunk is kept until it is written (with `always`: until it is on disk), so whatever fails is tried again, from the same
//! offset: a disk that was full costs nothing but time. What a segment has is synced before the next one is written to, so that there
//! is one number up to which all is on disk.

use crate::config::values::AppendFsync;
use crate::persistence::segment::SegmentEncoder;
use crate::persistence::spanning::{Operation, SegmentSeq};
use kvshard::Effects;
use std::cell::Cell;
use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// How often `everysec` syncs, and how long an operation that failed waits, milliseconds.
const SYNC_MS: i64 = 1000;
const RETRY_MS: i64 = 1000;
/// A sync that takes longer than this keeps writes waiting, as Redis counts them (`aof_delayed_fsync`), milliseconds.
const DELAYED_MS: i64 = 2000;
/// Memory of a chunk that is kept for the next one, bytes.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// A moment of the logs of all cores, for those who wait until what they had then is on disk.
pub struct Mark {
    /// Cores that have not come to the moment, and cores whose log is not on disk up to it.
    unplaced: AtomicUsize,
    unsynced: AtomicUsize,
}

impl Mark {
    pub fn new(cores: usize) -> Arc<Mark> {
        Arc::new(Mark { unplaced: AtomicUsize::new(cores), unsynced: AtomicUsize::new(cores) })
    }

    /// One more core is there; true: it is the last.
    pub fn place(&self) -> bool {
        self.unplaced.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Likewise for its log.
    pub fn sync(&self) -> bool {
        self.unsynced.fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub fn is_placed(&self) -> bool {
        self.unplaced.load(Ordering::Acquire) == 0
    }

    pub fn is_synced(&self) -> bool {
        self.unsynced.load(Ordering::Acquire) == 0
    }
}

/// A file that effects are appended to.
#[derive(Debug)]
pub struct Segment {
    pub file: File,
    pub seq: SegmentSeq,
    /// Bytes that it has on disk: the next ones go behind them.
    pub bytes: Cell<u64>,
}

#[derive(Default)]
pub struct Log {
    /// Where effects go now; none: nothing is logged.
    segment: Option<Rc<Segment>>,
    /// Bytes of the present segment, on disk or not.
    appended_bytes: u64,
    /// Of the present segment; its timestamps follow the configuration.
    encoder: SegmentEncoder,
    /// Chunks to be written, the oldest first; the last one still grows, if it is of the present segment.
    queue: VecDeque<Chunk>,
    /// The number of the newest chunk.
    last: u64,
    /// Chunks up to this one need not be waited for any more.
    durable: u64,
    /// Chunks up to this one are on disk, whatever the policy.
    synced: u64,
    /// Who wants to know when that is so of which chunk.
    marks: VecDeque<(u64, Weak<Mark>)>,
    operation: Option<Flying>,
    /// The segment last written to, and whether it has bytes that were not synced.
    unsynced: Option<Rc<Segment>>,
    last_sync_ms: i64,
    retry_at_ms: i64,
    /// The disk refuses, and so it has since this was the newest chunk.
    refused_at: Option<u64>,
    /// Writes that waited for a sync for long, since the start.
    pub delayed_syncs: u64,
    spare: Vec<u8>,
}

struct Chunk {
    segment: Rc<Segment>,
    number: u64,
    bytes: Vec<u8>,
}

/// The operation under way.
enum Flying {
    /// `through`: it ends when the bytes are on disk.
    Write { chunk: Chunk, len: usize, through: bool },
    Sync {
        segment: Rc<Segment>,
        /// The last chunk that it has.
        until: u64,
        began_ms: i64,
        delayed: bool,
    },
}

/// What the reactor is to do for the log.
#[derive(Debug)]
pub enum LogOperation {
    /// `through`: and have them reach the disk.
    Write {
        fd: RawFd,
        bytes: Vec<u8>,
        offset: u64,
        through: bool,
    },
    Sync {
        fd: RawFd,
    },
}

/// How a log stands after an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Completed {
    /// More is on disk, perhaps.
    Progress,
    /// The system's error number: the same is tried again, later.
    Failed { errno: i32, writing: bool },
}

impl Log {
    /// Whether effects are logged.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.segment.is_some()
    }

    /// From now on effects go to another segment, or (`None`) nowhere. What was appended before still goes where it belongs.
    pub fn switch(&mut self, segment: Option<Segment>, timestamps: bool) {
        self.appended_bytes = segment.as_ref().map_or(0, |segment| segment.bytes.get());
        self.encoder = SegmentEncoder::new(timestamps);
        self.segment = segment.map(Rc::new);
    }

    pub fn set_timestamps(&mut self, enabled: bool) {
        self.encoder.set_timestamps(enabled);
    }

    pub fn segment(&self) -> Option<SegmentSeq> {
        self.segment.as_ref().map(|segment| segment.seq)
    }

    /// Bytes of the present segment, whether they are on disk or not.
    pub fn bytes(&self) -> u64 {
        self.appended_bytes
    }

    /// Bytes that were not written yet.
    pub fn waiting_bytes(&self) -> usize {
        self.queue.iter().map(|chunk| chunk.bytes.len()).sum()
    }

    pub fn is_syncing(&self) -> bool {
        matches!(self.operation, Some(Flying::Sync { .. }))
    }

    /// Appends what a shard has done. `now` is in seconds since 1970.
    pub fn append(&mut self, now: i64, effects: &mut Effects) {
        if effects.is_empty() {
            return;
        }
        self.encode(|encoder, out| encoder.effects(now, effects, out));
        effects.clear();
    }

    /// Appends this segment's part in an operation over several shards.
    pub fn append_operation(&mut self, now: i64, operation: &Operation<'_>) {
        let Some(own) = self.segment() else { return };
        self.encode(|encoder, out| encoder.operation(now, operation, own, out));
    }

    fn encode(&mut self, write: impl FnOnce(&mut SegmentEncoder, &mut Vec<u8>)) {
        let Some(segment) = &self.segment else { return };
        // What comes after a refusal has a number of its own, so that it can be told from what came before.
        let refused_at = self.refused_at.unwrap_or(0);
        let grows = self.queue.back().is_some_and(|chunk| Rc::ptr_eq(&chunk.segment, segment) && chunk.number > refused_at);
        if !grows {
            self.last += 1;
            let (segment, bytes) = (segment.clone(), std::mem::take(&mut self.spare));
            self.queue.push_back(Chunk { segment, number: self.last, bytes });
        }
        let bytes = &mut self.queue.back_mut().expect("just looked at").bytes;
        let before = bytes.len();
        write(&mut self.encoder, bytes);
        self.appended_bytes += (bytes.len() - before) as u64;
        if bytes.is_empty() {
            // Nothing came of it: the number is given back.
            self.last -= 1;
            self.spare = self.queue.pop_back().expect("pushed above").bytes;
        }
    }

    /// Everything up to this number is on disk (as far as the policy promises it to those who wait).
    #[inline]
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Whether what was appended must be waited for before anyone hears of it.
    #[inline]
    pub fn is_pending(&self) -> bool {
        self.last > self.durable
    }

    /// What leaves the core now has to wait for this position, if for any. While the disk refuses, reads go on: they may then show
    /// what is not durable yet, but whoever has written goes on waiting, and nothing more is written.
    #[inline]
    pub fn hold_position(&self) -> Option<u64> {
        let refused = self.refused_at.is_some_and(|refused_at| self.last <= refused_at);
        (self.is_pending() && !refused).then_some(self.last)
    }

    /// Everything appended so far is on disk, whatever the policy.
    pub fn is_synced(&self) -> bool {
        self.synced >= self.last
    }

    /// Notes a mark at what was appended so far. Nobody waits for those that have gone.
    pub fn mark(&mut self, mark: &Arc<Mark>) {
        self.marks.retain(|(_, mark)| mark.strong_count() > 0);
        match self.is_on() {
            true => self.marks.push_back((self.last, Arc::downgrade(mark))),
            // Nothing of it is to come to disk here.
            false => self.marks.push_front((0, Arc::downgrade(mark))),
        }
    }

    /// The next mark that is on disk.
    pub fn next_synced_mark(&mut self) -> Option<Arc<Mark>> {
        while self.marks.front().is_some_and(|(position, _)| *position <= self.synced) {
            let (_, mark) = self.marks.pop_front()?;
            if let Some(mark) = mark.upgrade() {
                return Some(mark);
            }
        }
        None
    }

    /// Nothing is left to be written, nor (`synced`) to be synced.
    pub fn is_idle(&self, synced: bool) -> bool {
        self.operation.is_none() && self.queue.is_empty() && !(synced && self.unsynced.is_some())
    }

    /// Whether the operation under way is a write that replies wait for.
    #[inline]
    pub fn writes_through(&self) -> bool {
        matches!(self.operation, Some(Flying::Write { through: true, .. }))
    }

    /// What is to be done now, if anything. `flush`: sync as soon as all is written, whatever the policy (the end of the node).
    pub fn next_operation(&mut self, now_ms: i64, policy: AppendFsync, flush: bool) -> Option<LogOperation> {
        if let Some(operation) = &mut self.operation {
            if let Flying::Sync { began_ms, delayed, .. } = operation
                && !*delayed
                && !self.queue.is_empty()
                && now_ms - *began_ms > DELAYED_MS
            {
                *delayed = true;
                self.delayed_syncs += 1;
            }
            return None;
        }
        if now_ms < self.retry_at_ms {
            return None;
        }
        let changes_file = |unsynced: &Rc<Segment>, queue: &VecDeque<Chunk>| {
            queue.front().is_some_and(|chunk| !Rc::ptr_eq(&chunk.segment, unsynced))
        };
        if let Some(unsynced) = &self.unsynced {
            let due = policy == AppendFsync::EverySec && now_ms - self.last_sync_ms >= SYNC_MS;
            let leaves = changes_file(unsynced, &self.queue);
            if due || leaves || (flush && self.queue.is_empty()) {
                let segment = unsynced.clone();
                return Some(self.sync(segment, now_ms));
            }
        }
        let mut chunk = self.queue.pop_front()?;
        let (fd, offset) = (chunk.segment.file.as_raw_fd(), chunk.segment.bytes.get());
        let bytes = std::mem::take(&mut chunk.bytes);
        let len = bytes.len();
        let through = policy == AppendFsync::Always;
        self.operation = Some(Flying::Write { chunk, len, through });
        Some(LogOperation::Write { fd, bytes, offset, through })
    }

    fn sync(&mut self, segment: Rc<Segment>, now_ms: i64) -> LogOperation {
        let fd = segment.file.as_raw_fd();
        // One operation at a time: all that was begun to be written is written.
        self.operation = Some(Flying::Sync { segment, until: self.durable, began_ms: now_ms, delayed: false });
        LogOperation::Sync { fd }
    }

    /// The operation under way has ended; a write gives its bytes back.
    pub fn completed(&mut self, now_ms: i64, result: Result<usize, i32>, bytes: Option<Vec<u8>>) -> Completed {
        let operation = self.operation.take().expect("an operation that was begun");
        match (operation, result) {
            (Flying::Write { mut chunk, len, through }, Ok(written)) if written == len => {
                chunk.bytes = bytes.unwrap_or_default();
                if through {
                    self.synced = chunk.number;
                } else {
                    self.unsynced = Some(chunk.segment.clone());
                }
                self.refused_at = None;
                self.finish(chunk, len);
                Completed::Progress
            }
            (Flying::Write { mut chunk, .. }, result) => {
                // Also after a sync that failed: the kernel may have given up what it could not write.
                chunk.bytes = bytes.unwrap_or_default();
                self.queue.push_front(chunk);
                (self.retry_at_ms, self.refused_at) = (now_ms + RETRY_MS, Some(self.last));
                Completed::Failed { errno: result.err().unwrap_or(libc::ENOSPC), writing: true }
            }
            (Flying::Sync { segment, until, .. }, Ok(_)) => {
                (self.last_sync_ms, self.synced) = (now_ms, until);
                if self.unsynced.as_ref().is_some_and(|unsynced| Rc::ptr_eq(unsynced, &segment)) {
                    self.unsynced = None;
                }
                Completed::Progress
            }
            (Flying::Sync { .. }, Err(errno)) => {
                self.retry_at_ms = now_ms + RETRY_MS;
                Completed::Failed { errno, writing: false }
            }
        }
    }

    /// A chunk is where it belongs.
    fn finish(&mut self, chunk: Chunk, len: usize) {
        chunk.segment.bytes.update(|bytes| bytes + len as u64);
        self.durable = chunk.number;
        if chunk.bytes.capacity() <= SPARE_BYTES_MAX {
            self.spare = chunk.bytes;
            self.spare.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(seq: i64) -> Segment {
        Segment { file: tempfile::tempfile().expect("a temporary file"), seq: SegmentSeq(seq), bytes: Cell::new(0) }
    }

    fn effects(key: &str) -> Effects {
        let mut effects = Effects::default();
        effects.push(0, None, [&b"DEL"[..], key.as_bytes()].into_iter());
        effects
    }

    /// Ends a write as a disk that works does.
    fn written(log: &mut Log, operation: Option<LogOperation>) -> String {
        let Some(LogOperation::Write { bytes, offset, .. }) = operation else { panic!("{operation:?} is no write") };
        let text = format!("{offset}: {}", String::from_utf8_lossy(&bytes).replace("\r\n", " "));
        assert_eq!(log.completed(0, Ok(bytes.len()), Some(bytes)), Completed::Progress);
        text
    }

    #[test]
    fn what_comes_during_a_write_goes_together_with_the_next() {
        let policy = AppendFsync::Always;
        let mut log = Log::default();
        log.append(0, &mut effects("lost"));
        assert!(!log.is_pending() && log.next_operation(0, policy, false).is_none());
        log.switch(Some(segment(1)), false);
        log.append(0, &mut effects("a"));
        let first = log.hold_position().expect("something to wait for");
        let write = log.next_operation(0, policy, false);
        assert!(matches!(write, Some(LogOperation::Write { through: true, .. })) && log.writes_through());
        log.append(0, &mut effects("b"));
        log.append(0, &mut effects("c"));
        assert!(log.durable() < first && log.next_operation(0, policy, false).is_none(), "one at a time");
        let text = written(&mut log, write);
        assert!(text.starts_with("0: *2 $6 SELECT") && text.ends_with("$1 a "), "{text}");
        assert!(log.durable() == first && log.is_pending());
        let write = log.next_operation(0, policy, false);
        assert_eq!(written(&mut log, write), "43: *2 $3 DEL $1 b *2 $3 DEL $1 c ");
        assert!(!log.is_pending() && log.is_idle(true));
        assert_eq!(log.bytes(), 43 + 40);
    }

    #[test]
    fn a_mark_is_reached_when_all_before_it_is_on_disk() {
        let mut log = Log::default();
        let [nothing, first, second] = [(); 3].map(|()| Mark::new(1));
        log.mark(&nothing);
        assert!(log.next_synced_mark().is_some_and(|mark| Arc::ptr_eq(&mark, &nothing)), "nothing is logged");
        log.switch(Some(segment(1)), false);
        log.append(0, &mut effects("a"));
        log.mark(&first);
        let write = log.next_operation(10, AppendFsync::EverySec, false);
        written(&mut log, write);
        log.append(0, &mut effects("b"));
        log.mark(&second);
        log.mark(&Mark::new(1));
        assert!(!log.is_synced() && log.next_synced_mark().is_none(), "written is not on disk");
        assert!(matches!(log.next_operation(SYNC_MS, AppendFsync::EverySec, false), Some(LogOperation::Sync { .. })));
        log.completed(SYNC_MS, Ok(0), None);
        assert!(log.next_synced_mark().is_some_and(|mark| Arc::ptr_eq(&mark, &first)));
        assert!(log.next_synced_mark().is_none());
        log.switch(Some(segment(2)), false);
        log.append(0, &mut effects("c"));
        let write = log.next_operation(SYNC_MS, AppendFsync::No, false);
        written(&mut log, write);
        assert!(matches!(log.next_operation(SYNC_MS, AppendFsync::No, false), Some(LogOperation::Sync { .. })));
        log.completed(SYNC_MS, Ok(0), None);
        assert!(log.next_synced_mark().is_some_and(|mark| Arc::ptr_eq(&mark, &second)));
        let write = log.next_operation(SYNC_MS, AppendFsync::Always, false);
        written(&mut log, write);
        assert!(log.is_synced() && log.next_synced_mark().is_none() && log.marks.is_empty(), "nobody waits for the last one");
    }

    #[test]
    fn a_failure_is_tried_again_from_the_same_place() {
        let policy = AppendFsync::Always;
        let mut log = Log::default();
        log.switch(Some(segment(1)), false);
        log.append(0, &mut effects("a"));
        for (round, errno) in [(0, libc::ENOSPC), (1, libc::EIO)] {
            let Some(LogOperation::Write { bytes, offset: 0, .. }) = log.next_operation(round * RETRY_MS, policy, false) else {
                panic!("a write")
            };
            assert!(log.hold_position().is_some() || round > 0);
            let completed = log.completed(round * RETRY_MS, Err(errno), Some(bytes));
            assert_eq!(completed, Completed::Failed { errno, writing: true });
            assert!(log.hold_position().is_none() && log.is_pending(), "reads go on, the writer waits");
            assert!(log.next_operation((round + 1) * RETRY_MS - 1, policy, false).is_none() && log.is_pending());
        }
        log.append(0, &mut effects("b"));
        assert!(log.hold_position().is_some(), "what slips in is waited for");
        let write = log.next_operation(2 * RETRY_MS, policy, false);
        assert!(written(&mut log, write).starts_with("0: "));
        let write = log.next_operation(2 * RETRY_MS, policy, false);
        assert_eq!(written(&mut log, write), "43: *2 $3 DEL $1 b ");
        assert!(!log.is_pending());
    }

    #[test]
    fn a_second_passes_between_syncs_and_a_segment_is_synced_before_the_next() {
        let policy = AppendFsync::EverySec;
        let mut log = Log::default();
        log.switch(Some(segment(1)), false);
        log.append(0, &mut effects("a"));
        let write = log.next_operation(10, policy, false);
        written(&mut log, write);
        assert!(!log.is_pending() && log.next_operation(SYNC_MS - 1, policy, false).is_none());
        assert!(matches!(log.next_operation(SYNC_MS, policy, false), Some(LogOperation::Sync { .. })));
        log.append(0, &mut effects("b"));
        assert!(log.next_operation(SYNC_MS + DELAYED_MS, policy, false).is_none());
        assert!(log.next_operation(SYNC_MS + DELAYED_MS + 1, policy, false).is_none());
        assert_eq!(log.delayed_syncs, 1);
        log.completed(4000, Ok(0), None);
        let write = log.next_operation(4000, policy, false);
        written(&mut log, write);
        log.switch(Some(segment(2)), false);
        log.append(0, &mut effects("c"));
        assert!(matches!(log.next_operation(4001, policy, false), Some(LogOperation::Sync { .. })));
        log.completed(4001, Ok(0), None);
        let write = log.next_operation(4001, policy, false);
        let text = written(&mut log, write);
        assert!(text.starts_with("0: *2 $6 SELECT"), "{text}");
        assert!(matches!(log.next_operation(4002, policy, true), Some(LogOperation::Sync { .. })), "the end does not wait");
    }
}
