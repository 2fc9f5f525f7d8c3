//! BITCOUNT and BITPOS: counting and finding bits, eight bytes at a time.

use super::ShardCommand;
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::family::string::{clip_to, string_bytes};
use crate::number::parse_i64;
use crate::reply::Reply;

pub static BITCOUNT: ShardCommand = Command {
    spec: Spec {
        name: "bitcount",
        group: Group::Bitmap,
        since: "2.6.0",
        summary: "Counts the set bits of a string or of a part of it.",
        complexity: "O(N) with N bytes",
        arity: -2,
        flags: Flags::READONLY,
        acl: AclCategory::BITMAP,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new(
                "index",
                ArgKind::Block(&[
                    Arg::new("start", ArgKind::Integer),
                    Arg::new("end", ArgKind::Integer),
                    Arg::new(
                        "index_unit",
                        ArgKind::OneOf(&[
                            Arg::new("byte", ArgKind::PureToken).token("BYTE"),
                            Arg::new("bit", ArgKind::PureToken).token("BIT"),
                        ]),
                    )
                    .flags(ArgFlags::OPTIONAL)
                    .since("7.0.0"),
                ]),
            )
            .flags(ArgFlags::OPTIONAL),
        ],
        ..Spec::DEFAULT
    },
    run: bitcount,
};

fn bitcount(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let mut digits = itoa::Buffer::new();
    let bytes = match x.get(&x.key(a.at(1))) {
        None => {
            r.integer(0);
            return Ok(());
        }
        Some(value) => string_bytes(value, &mut digits)?,
    };
    let count = match count_range(a, bytes.len())? {
        Some((first, last)) => count_ones(bytes, first, last),
        None => 0,
    };
    r.integer(count as i64);
    Ok(())
}

/// The first and the last bit that BITCOUNT's arguments mean.
fn count_range(a: Args<'_>, len: usize) -> Result<Option<(usize, usize)>, Error> {
    if a.len() == 2 {
        return Ok(Unit::Byte.clip(0, -1, len));
    }
    if a.len() == 3 || a.len() > 5 {
        return Err(Error::Syntax);
    }
    let start = parse_i64(a.at(2)).ok_or(Error::NotInteger)?;
    let end = parse_i64(a.at(3)).ok_or(Error::NotInteger)?;
    if start < 0 && end < 0 && start > end {
        return Ok(None);
    }
    Ok(Unit::parse(a, 4)?.clip(start, end, len))
}

pub static BITPOS: ShardCommand = Command {
    spec: Spec {
        name: "bitpos",
        group: Group::Bitmap,
        since: "2.8.7",
        summary: "Finds the first set or clear bit of a string or of a part of it.",
        complexity: "O(N) with N bytes",
        arity: -3,
        flags: Flags::READONLY,
        acl: AclCategory::BITMAP,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("bit", ArgKind::Integer),
            Arg::new(
                "index",
                ArgKind::Block(&[
                    Arg::new("start", ArgKind::Integer),
                    Arg::new(
                        "end_index",
                        ArgKind::Block(&[
                            Arg::new("end", ArgKind::Integer),
                            Arg::new(
                                "index_unit",
                                ArgKind::OneOf(&[
                                    Arg::new("byte", ArgKind::PureToken).token("BYTE"),
                                    Arg::new("bit", ArgKind::PureToken).token("BIT"),
                                ]),
                            )
                            .flags(ArgFlags::OPTIONAL)
                            .since("7.0.0"),
                        ]),
                    )
                    .flags(ArgFlags::OPTIONAL),
                ]),
            )
            .flags(ArgFlags::OPTIONAL),
        ],
        ..Spec::DEFAULT
    },
    run: bitpos,
};

fn bitpos(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let bit = match parse_i64(a.at(2)).ok_or(Error::NotInteger)? {
        0 => false,
        1 => true,
        _ => return Err(Error::Text("ERR The bit argument must be 1 or 0.")),
    };
    let mut digits = itoa::Buffer::new();
    let bytes = match x.get(&x.key(a.at(1))) {
        None => {
            r.integer(if bit { -1 } else { 0 });
            return Ok(());
        }
        Some(value) => string_bytes(value, &mut digits)?,
    };
    let (start, unit, end) = position_range(a)?;
    let found = match unit.clip(start, end.unwrap_or(-1), bytes.len()) {
        None => None,
        // Without an end, the string counts as followed by zeros.
        Some((first, last)) => find_bit(bytes, first, last, bit).or((!bit && end.is_none()).then_some(bytes.len() * 8)),
    };
    r.integer(found.map_or(-1, |at| at as i64));
    Ok(())
}

/// BITPOS's start, unit, and end if it is given.
fn position_range(a: Args<'_>) -> Result<(i64, Unit, Option<i64>), Error> {
    if a.len() == 3 {
        return Ok((0, Unit::Byte, None));
    }
    if a.len() > 6 {
        return Err(Error::Syntax);
    }
    let start = parse_i64(a.at(3)).ok_or(Error::NotInteger)?;
    let unit = Unit::parse(a, 5)?;
    let end = a.get(4).map(|end| parse_i64(end).ok_or(Error::NotInteger)).transpose()?;
    Ok((start, unit, end))
}

/// What a range's positions count.
#[derive(Clone, Copy)]
enum Unit {
    Byte,
    Bit,
}

impl Unit {
    /// The word at `at`; bytes if there is none.
    fn parse(a: Args<'_>, at: usize) -> Result<Unit, Error> {
        if a.len() <= at || a.is(at, "byte") {
            Ok(Unit::Byte)
        } else if a.is(at, "bit") {
            Ok(Unit::Bit)
        } else {
            Err(Error::Syntax)
        }
    }

    /// The first and the last bit of what `start` to `end` means in a string of `len` bytes.
    fn clip(self, start: i64, end: i64, len: usize) -> Option<(usize, usize)> {
        match self {
            Unit::Byte => clip_to(start, end, len).map(|(first, last)| (first * 8, last * 8 + 7)),
            Unit::Bit => clip_to(start, end, len * 8),
        }
    }
}

/// Set bits from bit `first` to bit `last`, which lie within `bytes`.
fn count_ones(bytes: &[u8], first: usize, last: usize) -> u64 {
    let edges = (bytes[first / 8] & !(0xFF >> (first % 8))).count_ones() + (bytes[last / 8] & (0x7F >> (last % 8))).count_ones();
    popcount(&bytes[first / 8..=last / 8]) - u64::from(edges)
}

fn popcount(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let ones = |word: &[u8; 8]| u64::from(u64::from_ne_bytes(*word).count_ones());
    words.iter().map(ones).sum::<u64>() + rest.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
}

/// The first bit from `first` to `last`, which lie within `bytes`, that is `bit`.
fn find_bit(bytes: &[u8], first: usize, last: usize, bit: bool) -> Option<usize> {
    let wanted = |byte: u8| if bit { byte } else { !byte };
    let within = |at: usize, byte: u8| (byte != 0).then(|| at * 8 + byte.leading_zeros() as usize);
    let (head, tail) = (first / 8, last / 8);
    let (head_mask, tail_mask) = (0xFF >> (first % 8), !(0x7F >> (last % 8)));
    if head == tail {
        return within(head, wanted(bytes[head]) & head_mask & tail_mask);
    }
    within(head, wanted(bytes[head]) & head_mask)
        .or_else(|| find_byte(&bytes[head + 1..tail], bit).and_then(|at| within(head + 1 + at, wanted(bytes[head + 1 + at]))))
        .or_else(|| within(tail, wanted(bytes[tail]) & tail_mask))
}

/// The first byte that has a bit equal to `bit`.
fn find_byte(bytes: &[u8], bit: bool) -> Option<usize> {
    let skipped = if bit { 0 } else { 0xFF };
    let (words, _) = bytes.as_chunks::<8>();
    let start = words.iter().position(|word| *word != [skipped; 8]).unwrap_or(words.len()) * 8;
    bytes[start..].iter().position(|&byte| byte != skipped).map(|at| start + at)
}
