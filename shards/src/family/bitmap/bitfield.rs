//! BITFIELD: integers of any width, at any bit of a string.

use super::{ShardCommand, check_offset};
use crate::command::{
    AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, InvalidKeys, KeyAccess, KeySpec, KeyUse, Spec,
};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::family::string::{grow, string_bytes, string_mut};
use crate::number::parse_i64;
use crate::reply::Reply;
use crate::settings::NotifyFlags;

pub static BITFIELD: ShardCommand = Command {
    spec: Spec {
        name: "bitfield",
        group: Group::Bitmap,
        since: "3.2.0",
        summary: "Reads and writes integers of any width at any bit of a string.",
        complexity: "O(1) for each operation",
        arity: -2,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::BITMAP,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::UPDATE).with(KeyAccess::VARIABLE_FLAGS))
            .noted("This command allows both access and modification of the key")],
        find_keys: Some(bitfield_keys),
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new(
                "operation",
                ArgKind::OneOf(&[
                    Arg::new(
                        "encoding_offset",
                        ArgKind::Block(&[Arg::new("encoding", ArgKind::String), Arg::new("offset", ArgKind::Integer)]),
                    )
                    .token("GET"),
                    Arg::new(
                        "write",
                        ArgKind::Block(&[
                            Arg::new(
                                "wrap_sat_fail",
                                ArgKind::OneOf(&[
                                    Arg::new("wrap", ArgKind::PureToken).token("WRAP"),
                                    Arg::new("sat", ArgKind::PureToken).token("SAT"),
                                    Arg::new("fail", ArgKind::PureToken).token("FAIL"),
                                ]),
                            )
                            .token("OVERFLOW")
                            .flags(ArgFlags::OPTIONAL),
                            Arg::new(
                                "write_operation",
                                ArgKind::OneOf(&[
                                    Arg::new(
                                        "encoding_offset_value",
                                        ArgKind::Block(&[
                                            Arg::new("encoding", ArgKind::String),
                                            Arg::new("offset", ArgKind::Integer),
                                            Arg::new("value", ArgKind::Integer),
                                        ]),
                                    )
                                    .token("SET"),
                                    Arg::new(
                                        "encoding_offset_increment",
                                        ArgKind::Block(&[
                                            Arg::new("encoding", ArgKind::String),
                                            Arg::new("offset", ArgKind::Integer),
                                            Arg::new("increment", ArgKind::Integer),
                                        ]),
                                    )
                                    .token("INCRBY"),
                                ]),
                            ),
                        ]),
                    ),
                ]),
            )
            .flags(ArgFlags::OPTIONAL.with(ArgFlags::MULTIPLE)),
        ],
        ..Spec::DEFAULT
    },
    run: bitfield,
};

/// Without SET and INCRBY it only reads.
fn bitfield_keys(args: Args<'_>, out: &mut Vec<KeyUse>) -> Result<(), InvalidKeys> {
    let mut at = 2;
    while at < args.len() {
        let len = if args.is(at, "get") {
            3
        } else if args.is(at, "overflow") {
            2
        } else {
            break;
        };
        if at + len > args.len() {
            break;
        }
        at += len;
    }
    let access = if at >= args.len() {
        KeyAccess::RO.with(KeyAccess::ACCESS)
    } else {
        KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::UPDATE)
    };
    out.push(KeyUse { index: 1, access });
    Ok(())
}

fn bitfield(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let operations = parse_operations(x, a)?;
    let written = operations.iter().filter(|operation| operation.action != Action::Get);
    let Some(end) = written.map(|operation| operation.field.offset + operation.field.bits as usize).max() else {
        return read_fields(x, a, &operations, r);
    };
    let key = x.key(a.at(1));
    let bytes = string_mut(x, &key)?;
    let grown = end.div_ceil(8) > bytes.len();
    grow(bytes, end.div_ceil(8));
    let mut changes = 0;
    r.array(operations.len());
    for operation in &operations {
        match operation.run(bytes) {
            None => r.null(),
            Some((reply, changed)) => {
                r.integer(reply);
                changes += u64::from(changed || grown && operation.action != Action::Get);
            }
        }
    }
    if changes > 0 {
        x.changed_by(&key, changes);
        x.event(NotifyFlags::STRING, "setbit", &key);
    }
    Ok(())
}

pub static BITFIELD_RO: ShardCommand = Command {
    spec: Spec {
        name: "bitfield_ro",
        group: Group::Bitmap,
        since: "6.0.0",
        summary: "Reads integers of any width at any bit of a string.",
        complexity: "O(1) for each operation",
        arity: -2,
        flags: Flags::READONLY.with(Flags::FAST),
        acl: AclCategory::BITMAP,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new(
                "encoding_offset",
                ArgKind::Block(&[Arg::new("encoding", ArgKind::String), Arg::new("offset", ArgKind::Integer)]),
            )
            .token("GET")
            .flags(ArgFlags::OPTIONAL.with(ArgFlags::MULTIPLE).with(ArgFlags::MULTIPLE_TOKEN)),
        ],
        ..Spec::DEFAULT
    },
    run: bitfield_ro,
};

fn bitfield_ro(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let operations = parse_operations(x, a)?;
    if operations.iter().any(|operation| operation.action != Action::Get) {
        return Err(Error::Text("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    read_fields(x, a, &operations, r)
}

fn read_fields(x: &mut Exec<'_>, a: Args<'_>, operations: &[Operation], r: &mut Reply<'_>) -> CommandResult {
    let mut digits = itoa::Buffer::new();
    let bytes = match x.get(&x.key(a.at(1))) {
        None => &[],
        Some(value) => string_bytes(value, &mut digits)?,
    };
    r.array(operations.len());
    for operation in operations {
        r.integer(operation.field.read(bytes));
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Get,
    Set(i64),
    Increment(i64),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

struct Operation {
    action: Action,
    field: Field,
    overflow: Overflow,
}

fn parse_operations(x: &Exec<'_>, a: Args<'_>) -> Result<Vec<Operation>, Error> {
    let (mut operations, mut overflow, mut at) = (Vec::new(), Overflow::Wrap, 2);
    while at < a.len() {
        let left = a.len() - at - 1;
        if a.is(at, "overflow") && left >= 1 {
            let words = [("wrap", Overflow::Wrap), ("sat", Overflow::Saturate), ("fail", Overflow::Fail)];
            let found = words.into_iter().find(|(word, _)| a.is(at + 1, word));
            overflow = found.ok_or(Error::Text("ERR Invalid OVERFLOW type specified"))?.1;
            at += 2;
            continue;
        }
        let get = a.is(at, "get") && left >= 2;
        let increment = a.is(at, "incrby") && left >= 3;
        let set = a.is(at, "set") && left >= 3;
        if !(get || set || increment) {
            return Err(Error::Syntax);
        }
        let field = Field::parse(x, a.at(at + 1), a.at(at + 2))?;
        let action = if get {
            Action::Get
        } else {
            let value = parse_i64(a.at(at + 3)).ok_or(Error::NotInteger)?;
            if increment { Action::Increment(value) } else { Action::Set(value) }
        };
        operations.push(Operation { action, field, overflow });
        at += if get { 3 } else { 4 };
    }
    Ok(operations)
}

impl Operation {
    /// The reply (the new value, for SET the old one), and whether the field was changed; `None` when the operation failed by an overflow. The field
    /// must lie within `bytes` unless it is only read.
    fn run(&self, bytes: &mut [u8]) -> Option<(i64, bool)> {
        let old = self.field.read(bytes);
        let (base, increment) = match self.action {
            Action::Get => return Some((old, false)),
            Action::Set(value) => (value, 0),
            Action::Increment(increment) => (old, increment),
        };
        let new = match self.field.overflow(base, increment) {
            None => base.wrapping_add(increment),
            Some(limit) => match self.overflow {
                Overflow::Wrap => self.field.wrap(base.wrapping_add(increment)),
                Overflow::Saturate => limit,
                Overflow::Fail => return None,
            },
        };
        self.field.write(bytes, new);
        let reply = if matches!(self.action, Action::Set(_)) { old } else { new };
        Some((reply, new != old))
    }
}

/// An integer in a string: 1 to 64 bits (63 if it has no sign), most significant first.
#[derive(Clone, Copy)]
struct Field {
    signed: bool,
    bits: u32,
    /// In bits.
    offset: usize,
}

impl Field {
    fn parse(x: &Exec<'_>, kind: &[u8], offset: &[u8]) -> Result<Field, Error> {
        let (signed, bits) = match kind {
            [b'i', bits @ ..] => (true, parse_i64(bits).filter(|bits| (1..=64).contains(bits))),
            [b'u', bits @ ..] => (false, parse_i64(bits).filter(|bits| (1..=63).contains(bits))),
            _ => (false, None),
        };
        let bits = bits.ok_or(Error::Text(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
        ))?;
        let offset = match offset {
            [b'#', index @ ..] => parse_i64(index).and_then(|index| index.checked_mul(bits)),
            offset => parse_i64(offset),
        };
        Ok(Field { signed, bits: bits as u32, offset: check_offset(x, offset)? })
    }

    /// The bytes that hold it, and how many bits follow it in the last one.
    fn place(self) -> (usize, usize, usize) {
        let end = self.offset + self.bits as usize;
        let last = (end - 1) / 8;
        (self.offset / 8, last, (last + 1) * 8 - end)
    }

    /// What lies behind the end of `bytes` reads as zero.
    fn read(self, bytes: &[u8]) -> i64 {
        let (first, last, shift) = self.place();
        let at = |index: usize| u128::from(bytes.get(index).copied().unwrap_or(0));
        let raw = (first..=last).fold(0, |raw, index| raw << 8 | at(index)) >> shift;
        self.wrap(raw as i64)
    }

    fn write(self, bytes: &mut [u8], value: i64) {
        let (first, last, shift) = self.place();
        let (mask, value) = (u128::from(self.mask()) << shift, u128::from(value as u64 & self.mask()) << shift);
        let old = bytes[first..=last].iter().fold(0, |raw, &byte| raw << 8 | u128::from(byte));
        let mut raw = old & !mask | value;
        for byte in bytes[first..=last].iter_mut().rev() {
            *byte = raw as u8;
            raw >>= 8;
        }
    }

    fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }

    /// The low bits of `value` as the field's type reads them.
    fn wrap(self, value: i64) -> i64 {
        if self.signed {
            let unused = 64 - self.bits;
            value << unused >> unused
        } else {
            (value as u64 & self.mask()) as i64
        }
    }

    /// The limit that `base + increment` exceeds, if it does. A base out of range counts, too; one far below the range of a
    /// signed field is taken for one above it, as redis-server does.
    fn overflow(self, base: i64, increment: i64) -> Option<i64> {
        if !self.signed {
            let (max, base) = (self.mask(), base as u64);
            let (above, below) = (max.wrapping_sub(base) as i64, base.wrapping_neg() as i64);
            if base > max || increment > 0 && increment > above {
                return Some(max as i64);
            }
            return (increment < 0 && increment < below).then_some(0);
        }
        let max = (self.mask() >> 1) as i64;
        let min = -max - 1;
        let (above, below) = (max.wrapping_sub(base), min.wrapping_sub(base));
        let narrow = self.bits < 64;
        if base > max || narrow && increment > above || base >= 0 && increment > 0 && increment > above {
            return Some(max);
        }
        let too_low = base < min || narrow && increment < below || base < 0 && increment < 0 && increment < below;
        too_low.then_some(min)
    }
}
