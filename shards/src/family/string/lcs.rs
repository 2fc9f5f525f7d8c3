//! LCS: the longest common subsequence of two strings, by the classic table of prefix lengths.

use super::{ShardCommand, string_bytes};
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::number::parse_i64;
use crate::reply::{Aggregate, Reply};

/// Lengths are counted in 32 bits.
const LEN_END: usize = u32::MAX as usize - 1;

pub static LCS: ShardCommand = Command {
    spec: Spec {
        name: "lcs",
        group: Group::String,
        since: "7.0.0",
        summary: "Longest common subsequence of two strings.",
        complexity: "O(N*M) with strings of N and M bytes",
        arity: -3,
        flags: Flags::READONLY,
        acl: AclCategory::STRING,
        keys: &[KeySpec::range(1, 1, 1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[
            Arg::new("key1", ArgKind::Key(0)),
            Arg::new("key2", ArgKind::Key(0)),
            Arg::new("len", ArgKind::PureToken).token("LEN").flags(ArgFlags::OPTIONAL),
            Arg::new("idx", ArgKind::PureToken).token("IDX").flags(ArgFlags::OPTIONAL),
            Arg::new("len", ArgKind::Integer).token("MINMATCHLEN").flags(ArgFlags::OPTIONAL),
            Arg::new("withmatchlen", ArgKind::PureToken).token("WITHMATCHLEN").flags(ArgFlags::OPTIONAL),
        ],
        ..Spec::DEFAULT
    },
    run: lcs,
};

#[derive(Default)]
struct LcsOptions {
    len: bool,
    indexes: bool,
    with_len: bool,
    len_min: u64,
}

impl LcsOptions {
    fn parse(a: Args<'_>) -> Result<Self, Error> {
        let mut options = LcsOptions::default();
        let mut at = 3;
        while at < a.len() {
            if a.is(at, "idx") {
                options.indexes = true;
            } else if a.is(at, "len") {
                options.len = true;
            } else if a.is(at, "withmatchlen") {
                options.with_len = true;
            } else if a.is(at, "minmatchlen") && at + 1 < a.len() {
                let len_min = parse_i64(a.at(at + 1)).ok_or(Error::NotInteger)?;
                options.len_min = u64::try_from(len_min).unwrap_or(0);
                at += 1;
            } else {
                return Err(Error::Syntax);
            }
            at += 1;
        }
        if options.len && options.indexes {
            return Err(Error::Text("ERR If you want both the length and indexes, please just use IDX."));
        }
        Ok(options)
    }
}

fn lcs(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    // Both are looked up before the error, as each counts as a hit or a miss.
    let (first, second) = (copy_of(x, a.at(1)), copy_of(x, a.at(2)));
    let not_strings = || Error::Text("ERR The specified keys must contain string values");
    let (first, second) = (first.ok_or_else(not_strings)?, second.ok_or_else(not_strings)?);
    let options = LcsOptions::parse(a)?;
    if first.len().max(second.len()) >= LEN_END {
        return Err(Error::Text("ERR String too long for LCS"));
    }
    let cells = (first.len() + 1) * (second.len() + 1);
    if cells as u64 > x.settings().proto_max_bulk_len / size_of::<u32>() as u64 {
        return Err(Error::Text("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"));
    }
    if options.len {
        r.integer(i64::from(common_len(&first, &second)));
        return Ok(());
    }
    let table = LenTable::new(&first, &second)
        .ok_or(Error::Text("ERR Insufficient memory, failed allocating transient memory for LCS"))?;
    if options.indexes {
        write_matches(&table, &options, r);
    } else {
        let mut common = Vec::with_capacity(table.len() as usize);
        table.for_each_run(&mut |run| common.extend(first[run.first..run.first + run.len].iter().rev()));
        common.reverse();
        r.bulk(&common);
    }
    Ok(())
}

/// The string of a key, empty if there is none; `None` if it holds something else.
fn copy_of(x: &mut Exec<'_>, key: &[u8]) -> Option<Vec<u8>> {
    let mut digits = itoa::Buffer::new();
    match x.get(&x.key(key)) {
        None => Some(Vec::new()),
        Some(value) => string_bytes(value, &mut digits).ok().map(<[u8]>::to_vec),
    }
}

fn write_matches(table: &LenTable<'_>, options: &LcsOptions, r: &mut Reply<'_>) {
    r.map(2);
    r.bulk(b"matches");
    let (matches, mut count) = (r.deferred(), 0);
    table.for_each_run(&mut |run| {
        if (run.len as u64) < options.len_min {
            return;
        }
        count += 1;
        r.array(if options.with_len { 3 } else { 2 });
        for start in [run.first, run.second] {
            r.array(2);
            r.integer(start as i64);
            r.integer((start + run.len - 1) as i64);
        }
        if options.with_len {
            r.integer(run.len as i64);
        }
    });
    r.finish(matches, Aggregate::Array, count);
    r.bulk(b"len");
    r.integer(table.len().into());
}

/// Bytes that follow each other in both strings: where they start in either, and how many there are.
struct Run {
    first: usize,
    second: usize,
    len: usize,
}

/// Lengths of the longest common subsequences of every pair of prefixes: row i, column j for i bytes of one string and j of
/// the other, row and column 0 being zero.
struct LenTable<'a> {
    first: &'a [u8],
    second: &'a [u8],
    cells: Vec<u32>,
}

impl<'a> LenTable<'a> {
    /// `None` when there is not enough memory for it.
    fn new(first: &'a [u8], second: &'a [u8]) -> Option<Self> {
        let width = second.len() + 1;
        let mut cells = Vec::new();
        cells.try_reserve_exact(width * (first.len() + 1)).ok()?;
        cells.resize(width * (first.len() + 1), 0);
        let mut rows = cells.chunks_exact_mut(width);
        let mut above = rows.next()?;
        for (&byte, row) in first.iter().zip(rows) {
            fill_row(byte, second, above, row);
            above = row;
        }
        Some(LenTable { first, second, cells })
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.cells[i * (self.second.len() + 1) + j]
    }

    fn len(&self) -> u32 {
        self.at(self.first.len(), self.second.len())
    }

    /// Walks the subsequence from its end to its beginning, run by run.
    fn for_each_run(&self, visit: &mut dyn FnMut(Run)) {
        let (mut i, mut j) = (self.first.len(), self.second.len());
        while i > 0 && j > 0 {
            let mut len = 0;
            while i > 0 && j > 0 && self.first[i - 1] == self.second[j - 1] {
                (i, j, len) = (i - 1, j - 1, len + 1);
            }
            if len > 0 {
                visit(Run { first: i, second: j, len });
            } else if self.at(i - 1, j) > self.at(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
    }
}

/// One row of a [`LenTable`] from the one above it; its column 0 stays zero.
fn fill_row(byte: u8, second: &[u8], above: &[u32], row: &mut [u32]) {
    let mut left = 0;
    for ((cell, pair), &other) in row[1..].iter_mut().zip(above.windows(2)).zip(second) {
        left = if byte == other { pair[0] + 1 } else { left.max(pair[1]) };
        *cell = left;
    }
}

/// The length alone, in two rows.
fn common_len(first: &[u8], second: &[u8]) -> u32 {
    let (mut above, mut row) = (vec![0; second.len() + 1], vec![0; second.len() + 1]);
    for &byte in first {
        fill_row(byte, second, &above, &mut row);
        std::mem::swap(&mut above, &mut row);
    }
    above[second.len()]
}
