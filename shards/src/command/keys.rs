//! Key specs: where in a command's arguments its keys stand, and what the command does with them.
//!
//! The model is the one COMMAND INFO shows (begin search, find keys). Routing, COMMAND GETKEYS, WATCH checks, ACL key
//! patterns and cluster redirects all read keys through [`key_uses`].

use super::{Args, Spec};

/// How a key's value and the key itself are used. Written as COMMAND INFO does: one of RO, RW, OW, RM, then details.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KeyAccess(pub u16);

impl KeyAccess {
    pub const RO: Self = Self(1);
    pub const RW: Self = Self(1 << 1);
    pub const OW: Self = Self(1 << 2);
    pub const RM: Self = Self(1 << 3);
    pub const ACCESS: Self = Self(1 << 4);
    pub const UPDATE: Self = Self(1 << 5);
    pub const INSERT: Self = Self(1 << 6);
    pub const DELETE: Self = Self(1 << 7);
    pub const NOT_KEY: Self = Self(1 << 8);
    pub const INCOMPLETE: Self = Self(1 << 9);
    pub const VARIABLE_FLAGS: Self = Self(1 << 10);

    /// In the order in which redis-server lists them.
    pub const NAMES: [(KeyAccess, &'static str); 11] = [
        (Self::RO, "RO"),
        (Self::RW, "RW"),
        (Self::OW, "OW"),
        (Self::RM, "RM"),
        (Self::ACCESS, "access"),
        (Self::UPDATE, "update"),
        (Self::INSERT, "insert"),
        (Self::DELETE, "delete"),
        (Self::NOT_KEY, "not_key"),
        (Self::INCOMPLETE, "incomplete"),
        (Self::VARIABLE_FLAGS, "variable_flags"),
    ];

    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

#[derive(Clone, Copy, Debug)]
pub enum BeginSearch {
    /// At this argument position.
    Index(i32),
    /// After this word, looked for from position `start` (negative: from the end, backwards).
    Keyword {
        word: &'static str,
        start: i32,
    },
    Unknown,
}

#[derive(Clone, Copy, Debug)]
pub enum FindKeys {
    /// From the beginning to `last` (relative to it; negative: from the end of the arguments), each `step`-th;
    /// with `last == -1`, `limit > 1` says that only the first 1/limit of the rest are keys.
    Range {
        last: i32,
        step: i32,
        limit: i32,
    },
    /// A number at `count` (relative to the beginning) says how many keys stand from `first` on, each `step`-th.
    Count {
        count: i32,
        first: i32,
        step: i32,
    },
    Unknown,
}

#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    pub begin: BeginSearch,
    pub find: FindKeys,
    pub access: KeyAccess,
    /// Shown by COMMAND INFO where the plain fields cannot say it.
    pub notes: Option<&'static str>,
}

impl KeySpec {
    /// One key at position `index`.
    pub const fn one(index: i32, access: KeyAccess) -> Self {
        Self::range(index, 0, 1, access)
    }

    pub const fn range(index: i32, last: i32, step: i32, access: KeyAccess) -> Self {
        KeySpec { begin: BeginSearch::Index(index), find: FindKeys::Range { last, step, limit: 0 }, access, notes: None }
    }

    /// A count at `index`, then that many keys.
    pub const fn count(index: i32, access: KeyAccess) -> Self {
        KeySpec { begin: BeginSearch::Index(index), find: FindKeys::Count { count: 0, first: 1, step: 1 }, access, notes: None }
    }

    /// One key after the word `word`, looked for from `start` on.
    pub const fn after(word: &'static str, start: i32, access: KeyAccess) -> Self {
        KeySpec {
            begin: BeginSearch::Keyword { word, start },
            find: FindKeys::Range { last: 0, step: 1, limit: 0 },
            access,
            notes: None,
        }
    }

    pub const fn unknown(access: KeyAccess) -> Self {
        KeySpec { begin: BeginSearch::Unknown, find: FindKeys::Unknown, access, notes: None }
    }

    pub const fn noted(mut self, notes: &'static str) -> Self {
        self.notes = Some(notes);
        self
    }
}

/// One key of a command: its argument position and what is done to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyUse {
    pub index: usize,
    pub access: KeyAccess,
}

/// Appends the keys of a command in the order of their specs. `Err` when the arguments make no sense (a bad key count).
pub fn key_uses(spec: &Spec, args: Args<'_>, out: &mut Vec<KeyUse>) -> Result<(), InvalidKeys> {
    if let Some(find) = spec.find_keys {
        return find(args, out);
    }
    for key_spec in spec.keys {
        uses_of(key_spec, args, out)?;
    }
    Ok(())
}

/// The arguments name no valid set of keys (for example a key count that is no number, or too large).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidKeys;

fn uses_of(spec: &KeySpec, args: Args<'_>, out: &mut Vec<KeyUse>) -> Result<(), InvalidKeys> {
    let argc = args.len() as i32;
    let first = match spec.begin {
        BeginSearch::Index(index) => index,
        BeginSearch::Keyword { word, start } => match find_keyword(args, word, start) {
            Some(position) if position + 1 < argc => position + 1,
            // Not there, or cut off behind the word, which the command itself will refuse.
            _ => return Ok(()),
        },
        BeginSearch::Unknown => return Ok(()),
    };
    let (first, last, step) = match spec.find {
        FindKeys::Range { last, step, limit } => {
            let last = match last {
                -1 if limit > 1 => first + (argc - first) / limit - 1,
                last if last < 0 => argc + last,
                last => first + last,
            };
            (first, last, step)
        }
        FindKeys::Count { count, first: offset, step } => {
            let number = args.get((first + count) as usize).ok_or(InvalidKeys)?;
            let keys = crate::number::parse_i64(number).ok_or(InvalidKeys)?;
            if keys < 0 || keys > i64::from(argc) {
                return Err(InvalidKeys);
            }
            let first = first + offset;
            (first, first + (keys as i32 - 1) * step, step)
        }
        FindKeys::Unknown => return Ok(()),
    };
    if last >= argc {
        return Err(InvalidKeys);
    }
    let mut index = first;
    while index <= last && step > 0 {
        out.push(KeyUse { index: index as usize, access: spec.access });
        index += step;
    }
    Ok(())
}

fn find_keyword(args: Args<'_>, word: &str, start: i32) -> Option<i32> {
    let argc = args.len() as i32;
    let matches = |index: &i32| args.is(*index as usize, word);
    if start >= 0 { (start..argc).find(matches) } else { (1..=(argc + start).max(0)).rev().find(matches) }
}
