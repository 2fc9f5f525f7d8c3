//! What commands changed, as commands that reproduce it: what is written to the append-only file and sent to replicas.
//!
//! Owns one flat buffer of effects that are encoded already, and an index of where each one ends. Both are reused from turn to
//! turn, and a command's own text is copied once. Refuses to know who reads them, and which database that reader has selected:
//! SELECT, MULTI and EXEC are added on the way out, by [`Effects::write_log`] and [`Effects::write_block`].
//!
//! Effects that must be seen together or not at all are a *group*: those of one command (with the deletion of expired keys that it
//! met), of one EXEC, of one script. Redis wraps a group of more than one in MULTI and EXEC; a group of one stands alone. A blocked
//! client that is served is a group of its own, behind that of the command that filled the key; so is every key that the expiry
//! cycle or an eviction removes.
//!
//! ```text
//! bytes   *3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n*2\r\n$3\r\nDEL\r\n…
//! index   (end, db, opens a group, command)         (end, …
//! ```

use crate::command::{Args, Spec};
use crate::reply::Reply;

/// The effects of one shard since they were last taken, in order.
#[derive(Default)]
pub struct Effects {
    /// Off: nobody follows and nothing is logged, so nothing is kept.
    pub enabled: bool,
    bytes: Vec<u8>,
    index: Vec<Mark>,
    /// Groups begun and not ended; only the outermost counts.
    depth: u32,
    /// The next effect is the first of its group.
    fresh: bool,
}

#[derive(Clone, Copy)]
struct Mark {
    /// Where it ends in the bytes; it begins where the one before ends.
    end: usize,
    db: u32,
    opens_group: bool,
    spec: Option<&'static Spec>,
}

/// One effect.
#[derive(Clone, Copy)]
pub struct Effect<'a> {
    pub db: usize,
    /// The command as RESP sends it.
    pub resp: &'a [u8],
    /// The effects from this one to the next that opens a group belong together.
    pub opens_group: bool,
    /// The command, for finding the keys; `None`: its first argument is its only key.
    pub spec: Option<&'static Spec>,
}

/// What a block of commands that belong together begins and ends with, in a log.
pub const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
pub const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

/// Buffers larger than this are given back instead of being kept for the next turn.
const KEPT_BYTES_MAX: usize = 1 << 20;
const KEPT_EFFECTS_MAX: usize = 1 << 14;

impl Effects {
    /// The effects until the matching [`Effects::end`] are one group. Groups within groups are part of the outermost.
    #[inline]
    pub fn begin(&mut self) {
        self.fresh |= self.depth == 0;
        self.depth += 1;
    }

    /// Ends what [`Effects::begin`] began.
    #[inline]
    pub fn end(&mut self) {
        debug_assert!(self.depth > 0, "a group was begun");
        self.depth = self.depth.saturating_sub(1);
    }

    /// Adds an effect. `spec` finds its keys; `None`: its first argument is its only key.
    #[inline]
    pub fn push<'a>(&mut self, db: usize, spec: Option<&'static Spec>, args: impl ExactSizeIterator<Item = &'a [u8]>) {
        write_command(&mut self.bytes, args);
        self.mark(db, spec);
    }

    /// Adds effects that `write` appends as RESP, saying after each where it ends. The first argument of each is its only key.
    pub fn push_written(&mut self, db: usize, write: impl FnOnce(&mut Vec<u8>, &mut dyn FnMut(usize))) {
        let Effects { bytes, index, depth, fresh, .. } = self;
        let mut ended = |end| {
            index.push(Mark { end, db: db as u32, opens_group: *depth == 0 || *fresh, spec: None });
            *fresh = false;
        };
        write(bytes, &mut ended);
        debug_assert_eq!(index.last().map_or(0, |mark| mark.end), bytes.len(), "every effect has its mark");
    }

    /// Adds an effect of another shard as it is.
    pub fn push_effect(&mut self, effect: Effect<'_>) {
        self.bytes.extend_from_slice(effect.resp);
        self.mark(effect.db, effect.spec);
    }

    /// Adds the effects of another buffer, which is emptied: to the group under way here, or else in the groups they are in.
    pub fn append(&mut self, other: &mut Effects) {
        let shift = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        for mark in &other.index {
            let opens_group = if self.depth == 0 { mark.opens_group } else { std::mem::take(&mut self.fresh) };
            self.index.push(Mark { end: mark.end + shift, opens_group, ..*mark });
        }
        other.clear();
    }

    #[inline]
    fn mark(&mut self, db: usize, spec: Option<&'static Spec>) {
        let opens_group = self.depth == 0 || self.fresh;
        self.fresh = false;
        self.index.push(Mark { end: self.bytes.len(), db: db as u32, opens_group, spec });
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Number of effects.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Bytes of all effects as RESP.
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// The effects in order.
    pub fn iter(&self) -> impl Iterator<Item = Effect<'_>> {
        let mut start = 0;
        self.index.iter().map(move |mark| {
            let resp = self.bytes.get(start..mark.end).unwrap_or_default();
            start = mark.end;
            Effect { db: mark.db as usize, resp, opens_group: mark.opens_group, spec: mark.spec }
        })
    }

    /// Appends the effects as they stand in a log: SELECT where the database changes, MULTI and EXEC round groups of more than one.
    /// `selected` is the database that the log has selected, if it has selected one.
    pub fn write_log(&self, selected: &mut Option<usize>, out: &mut Vec<u8>) {
        debug_assert_eq!(self.depth, 0, "a group is written whole");
        let mut in_group = false;
        for (at, effect) in self.iter().enumerate() {
            let last = self.index.get(at + 1).is_none_or(|next| next.opens_group);
            select(effect.db, selected, out);
            if effect.opens_group && !last {
                out.extend_from_slice(MULTI);
                in_group = true;
            }
            out.extend_from_slice(effect.resp);
            if last && in_group {
                out.extend_from_slice(EXEC);
                in_group = false;
            }
        }
    }

    /// Appends the effects as they stand in one block of a log, between its MULTI and EXEC: with SELECT where the database changes,
    /// and whatever groups they are in. `selected` as for [`Effects::write_log`].
    pub fn write_block(&self, selected: &mut Option<usize>, out: &mut Vec<u8>) {
        debug_assert_eq!(self.depth, 0, "a group is written whole");
        for effect in self.iter() {
            select(effect.db, selected, out);
            out.extend_from_slice(effect.resp);
        }
    }

    /// Forgets the effects; the memory is kept for the next ones, up to a bound.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.index.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
        self.index.shrink_to(KEPT_EFFECTS_MAX);
    }

    /// Takes the effects, leaving none, and no memory either: to keep that, read them in place and [`Effects::clear`] them.
    pub fn take(&mut self) -> Effects {
        debug_assert_eq!(self.depth, 0, "a group is taken whole");
        let enabled = self.enabled;
        std::mem::replace(self, Effects { enabled, ..Effects::default() })
    }
}

impl<'a> Effect<'a> {
    /// Its arguments; `ranges` is space to be reused.
    pub fn args<'r>(&self, ranges: &'r mut Vec<(u32, u32)>) -> Args<'r>
    where
        'a: 'r,
    {
        ranges.clear();
        let mut at = line_end(self.resp, 0);
        while let Some(b'$') = self.resp.get(at) {
            let start = line_end(self.resp, at);
            let len = number(self.resp.get(at + 1..start).unwrap_or_default());
            let end = (start + len).min(self.resp.len());
            ranges.push((start as u32, end as u32));
            at = end + 2;
        }
        Args::new(self.resp, ranges)
    }
}

/// The place behind the CR LF that ends the line at `from`.
fn line_end(resp: &[u8], from: usize) -> usize {
    memchr::memchr(b'\n', resp.get(from..).unwrap_or_default()).map_or(resp.len(), |len| from + len + 1)
}

/// The digits at the start of `text`.
fn number(text: &[u8]) -> usize {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0usize, |sum, digit| sum.saturating_mul(10).saturating_add(usize::from(digit - b'0')))
}

/// Appends SELECT, unless the log has selected that database.
fn select(db: usize, selected: &mut Option<usize>, out: &mut Vec<u8>) {
    if selected.replace(db) != Some(db) {
        write_command(out, [&b"SELECT"[..], itoa::Buffer::new().format(db).as_bytes()].into_iter());
    }
}

/// Appends a command as RESP sends it.
#[inline]
pub fn write_command<'a>(out: &mut Vec<u8>, args: impl ExactSizeIterator<Item = &'a [u8]>) {
    let mut writer = Reply::new(out, false);
    writer.array(args.len());
    args.for_each(|arg| writer.bulk(arg));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(effects: &mut Effects, db: usize, line: &str) {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        effects.push(db, None, words.into_iter());
    }

    /// The commands of a log, as lines.
    fn lines(effects: &Effects, mut selected: Option<usize>) -> Vec<String> {
        let mut out = Vec::new();
        effects.write_log(&mut selected, &mut out);
        words(&out)
    }

    fn words(log: &[u8]) -> Vec<String> {
        let (mut lines, mut rest) = (Vec::new(), log);
        while !rest.is_empty() {
            let next = rest.windows(3).skip(1).position(|part| part == b"\n*1" || part == b"\n*2" || part == b"\n*3");
            let (command, more) = rest.split_at(next.map_or(rest.len(), |at| at + 2));
            let effect = Effect { db: 0, resp: command, opens_group: true, spec: None };
            let mut ranges = Vec::new();
            lines.push(effect.args(&mut ranges).iter().map(|arg| String::from_utf8_lossy(arg)).collect::<Vec<_>>().join(" "));
            rest = more;
        }
        lines
    }

    #[test]
    fn encoded_once_and_read_back() {
        let mut effects = Effects::default();
        effects.push(3, None, [&b"SET"[..], b"a\r\n$1\r\n", b""].into_iter());
        push(&mut effects, 0, "DEL k");
        let seen: Vec<_> = effects.iter().map(|effect| (effect.db, effect.resp.to_vec())).collect();
        assert_eq!(seen[0], (3, b"*3\r\n$3\r\nSET\r\n$7\r\na\r\n$1\r\n\r\n$0\r\n\r\n".to_vec()));
        assert_eq!(seen[1], (0, b"*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n".to_vec()));
        let mut ranges = Vec::new();
        let first = effects.iter().next().unwrap();
        assert_eq!(first.args(&mut ranges).iter().collect::<Vec<_>>(), [&b"SET"[..], b"a\r\n$1\r\n", b""]);
        assert_eq!((effects.len(), effects.bytes_len()), (2, seen[0].1.len() + seen[1].1.len()));
    }

    #[test]
    fn groups_of_more_than_one_are_wrapped_and_databases_selected() {
        let mut effects = Effects::default();
        push(&mut effects, 0, "SET a");
        effects.begin();
        effects.end();
        effects.begin();
        push(&mut effects, 0, "SET b");
        effects.end();
        effects.begin();
        push(&mut effects, 2, "DEL c");
        effects.begin();
        push(&mut effects, 2, "SET c");
        push(&mut effects, 1, "SET d");
        effects.end();
        effects.end();
        push(&mut effects, 1, "DEL e");
        push(&mut effects, 1, "DEL f");
        let wanted = ["SET a", "SET b", "SELECT 2", "MULTI", "DEL c", "SET c", "SELECT 1", "SET d", "EXEC", "DEL e", "DEL f"];
        assert_eq!(lines(&effects, Some(0)), wanted);
        assert_eq!(lines(&effects, None)[..2], ["SELECT 0", "SET a"]);
        let (mut out, mut selected) = (Vec::new(), Some(0));
        effects.write_block(&mut selected, &mut out);
        let wanted = ["SET a", "SET b", "SELECT 2", "DEL c", "SET c", "SELECT 1", "SET d", "DEL e", "DEL f"];
        assert_eq!((words(&out), selected), (wanted.map(str::to_owned).into(), Some(1)));
    }

    #[test]
    fn appended_effects_keep_their_groups_or_join_one() {
        let two_groups = || {
            let mut effects = Effects::default();
            push(&mut effects, 0, "SET b");
            effects.begin();
            push(&mut effects, 0, "SET c");
            push(&mut effects, 0, "SET d");
            effects.end();
            effects
        };
        let mut effects = Effects::default();
        push(&mut effects, 0, "SET a");
        let mut other = two_groups();
        effects.append(&mut other);
        assert!(other.is_empty());
        assert_eq!(lines(&effects, Some(0)), ["SET a", "SET b", "MULTI", "SET c", "SET d", "EXEC"]);
        effects.clear();
        effects.begin();
        effects.append(&mut two_groups());
        effects.end();
        assert_eq!(lines(&effects, Some(0)), ["MULTI", "SET b", "SET c", "SET d", "EXEC"]);
    }

    #[test]
    fn memory_is_kept_up_to_a_bound() {
        let mut effects = Effects { enabled: true, ..Effects::default() };
        push(&mut effects, 0, "SET a");
        let capacity = effects.bytes.capacity();
        effects.clear();
        assert!(effects.is_empty() && effects.bytes.capacity() == capacity);
        effects.push(0, None, [&b"SET"[..], &vec![b'x'; 3 << 20]].into_iter());
        effects.clear();
        assert!(effects.bytes.capacity() <= KEPT_BYTES_MAX);
        push(&mut effects, 0, "SET a");
        assert_eq!((effects.take().len(), effects.len(), effects.enabled), (1, 0, true));
    }
}
