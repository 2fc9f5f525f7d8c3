//! HyperLogLogs: counting different elements in 12 kilobytes, with an error of about 0.8 %.
//!
//! An element's hash chooses one of 16384 registers and gives it a rank (how many zero bits the rest of the hash begins with,
//! plus one); each register keeps the largest rank it has seen. The registers live in a string, in redis-server's own layout
//! (see [`sketch`]), so values can be exchanged with it byte for byte.

mod debug;
mod estimate;
mod sketch;

use super::ShardCommand;
use super::string::string_mut;
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::keyspace::{Key, Value, ValueMut};
use crate::reply::Reply;
use crate::settings::NotifyFlags;
use estimate::{Histogram, estimate, place};
use sketch::{REGISTERS, Registers};

pub static COMMANDS: &[&ShardCommand] = &[&PFADD, &PFCOUNT, &PFMERGE, &debug::PFDEBUG, &debug::PFSELFTEST];

pub static PFADD: ShardCommand = Command {
    spec: Spec {
        name: "pfadd",
        group: Group::HyperLogLog,
        since: "2.8.9",
        summary: "Adds elements to a HyperLogLog.",
        complexity: "O(1) for each element",
        arity: -2,
        flags: Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST),
        acl: AclCategory::HYPERLOGLOG,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::INSERT))],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("element", ArgKind::String).flags(ArgFlags::OPTIONAL.with(ArgFlags::MULTIPLE)),
        ],
        ..Spec::DEFAULT
    },
    run: pfadd,
};

fn pfadd(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let sparse_max = x.settings().hll_sparse_max_bytes;
    let key = x.key(a.at(1));
    let (value, made) = open_or_make(x, &key)?;
    let mut changes = u64::from(made);
    for element in a.from(2).iter() {
        let (register, rank) = place(element);
        changes += u64::from(sketch::raise(value, register, rank, sparse_max)?);
    }
    if changes > 0 {
        sketch::forget_count(value);
        x.changed_by(&key, changes);
        x.event(NotifyFlags::STRING, "pfadd", &key);
    }
    r.integer(i64::from(changes > 0));
    Ok(())
}

pub static PFCOUNT: ShardCommand = Command {
    spec: Spec {
        name: "pfcount",
        group: Group::HyperLogLog,
        since: "2.8.9",
        summary: "Estimates how many different elements one or several HyperLogLogs have seen.",
        complexity: "O(1) for one key, O(N) with N keys",
        arity: -2,
        flags: Flags::READONLY.with(Flags::MAY_REPLICATE),
        acl: AclCategory::HYPERLOGLOG,
        keys: &[KeySpec::range(1, -1, 1, KeyAccess::RW.with(KeyAccess::ACCESS))
            .noted("RW because it may change the internal representation of the key, and propagate to replicas")],
        args: &[Arg::new("key", ArgKind::Key(0)).flags(ArgFlags::MULTIPLE)],
        ..Spec::DEFAULT
    },
    run: pfcount,
};

fn pfcount(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    if a.len() > 2 {
        let (registers, _) = union(x, a.from(1))?;
        r.integer(estimate(&Histogram::of_registers(&registers)) as i64);
        return Ok(());
    }
    let key = x.key(a.at(1));
    match x.get(&key) {
        None => {
            r.integer(0);
            return Ok(());
        }
        Some(value) => check(value)?,
    };
    let value = string_mut(x, &key)?;
    if let Some(count) = sketch::remembered_count(value) {
        r.integer(count as i64);
        return Ok(());
    }
    let count = estimate(&sketch::histogram(value)?);
    sketch::remember_count(value, count);
    x.changed(&key);
    // The remembered count is a part of the value, so it is sent on like a change.
    x.effect_is_own_text();
    r.integer(count as i64);
    Ok(())
}

pub static PFMERGE: ShardCommand = Command {
    spec: Spec {
        name: "pfmerge",
        group: Group::HyperLogLog,
        since: "2.8.9",
        summary: "Merges HyperLogLogs into one.",
        complexity: "O(N) with N keys",
        arity: -2,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::HYPERLOGLOG,
        keys: &[
            KeySpec::one(1, KeyAccess::RW.with(KeyAccess::ACCESS).with(KeyAccess::INSERT)),
            KeySpec::range(2, -1, 1, KeyAccess::RO.with(KeyAccess::ACCESS)),
        ],
        args: &[Arg::new("destkey", ArgKind::Key(0)), Arg::new("sourcekey", ArgKind::Key(1)).flags(ArgFlags::MULTIPLE)],
        ..Spec::DEFAULT
    },
    run: pfmerge,
};

fn pfmerge(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let sparse_max = x.settings().hll_sparse_max_bytes;
    let (registers, any_dense) = union(x, a.from(1))?;
    let key = x.key(a.at(1));
    let (value, _) = open_or_make(x, &key)?;
    if any_dense {
        sketch::make_dense(value)?;
    }
    for (register, &rank) in registers.iter().enumerate().filter(|&(_, &rank)| rank > 0) {
        // The destination was one of the sources, so it is known to be sound.
        sketch::raise(value, register, rank, sparse_max)?;
    }
    sketch::forget_count(value);
    x.changed(&key);
    x.event(NotifyFlags::STRING, "pfadd", &key);
    r.ok();
    Ok(())
}

/// The largest rank of each register over several keys, and whether any of them is dense.
fn union(x: &mut Exec<'_>, keys: Args<'_>) -> Result<(Box<Registers>, bool), Error> {
    let mut registers = Box::new([0; REGISTERS]);
    let mut any_dense = false;
    for key in keys.iter() {
        if let Some(value) = x.get(&x.key(key)) {
            let value = check(value)?;
            any_dense |= sketch::is_dense(value);
            sketch::merge_into(value, &mut registers)?;
        }
    }
    Ok((registers, any_dense))
}

/// The bytes of a value that has the form of a HyperLogLog.
fn check(value: Value<'_>) -> Result<&[u8], Error> {
    match value {
        Value::Short(bytes) => sketch::check(bytes),
        Value::Long(bytes) => sketch::check(bytes),
        Value::Integer(_) => Err(sketch::NOT_A_SKETCH),
        _ => Err(Error::WrongType),
    }
}

/// The HyperLogLog under `key` for changing it, made (empty) if there is none; true if it was.
fn open_or_make<'x>(x: &'x mut Exec<'_>, key: &Key<'_>) -> Result<(&'x mut Vec<u8>, bool), Error> {
    let made = match x.get_mut(key) {
        None => true,
        Some(ValueMut::Short(bytes)) => sketch::check(bytes).map(|_| false)?,
        Some(ValueMut::Long(bytes)) => sketch::check(bytes).map(|_| false)?,
        Some(ValueMut::Integer(_)) => return Err(sketch::NOT_A_SKETCH),
        Some(_) => return Err(Error::WrongType),
    };
    let value = string_mut(x, key)?;
    if made {
        value.extend_from_slice(&sketch::EMPTY);
    }
    Ok((value, made))
}

#[cfg(test)]
mod tests {
    use crate::family::testing::Session;

    fn add_many(s: &mut Session, key: &str, count: usize) {
        for i in 0..count {
            s.run(&format!("PFADD {key} element:{i}"));
        }
    }

    #[test]
    fn adding_and_counting() {
        let mut s = Session::new();
        s.check(&[
            ("PFADD h", ":1"),
            ("PFADD h", ":0"),
            ("PFCOUNT h", ":0"),
            ("PFADD h a b c d e f g", ":1"),
            ("PFADD h a", ":0"),
            ("PFCOUNT h", ":7"),
            ("PFCOUNT h", ":7"),
            ("PFDEBUG ENCODING h", "+sparse"),
            ("PFADD other g h", ":1"),
            ("PFCOUNT h other none", ":8"),
            ("PFMERGE d h other", "+OK"),
            ("PFCOUNT d", ":8"),
            ("PFCOUNT none", ":0"),
        ]);
        let wanted = "PFADD h, PFCOUNT h, PFADD h a b c d e f g, PFCOUNT h, PFADD other g h, PFMERGE d h other, PFCOUNT d";
        assert_eq!(s.effects().join(", "), wanted, "a count computed anew is sent on");
    }

    #[test]
    fn values_have_the_reference_s_bytes() {
        let mut s = Session::new();
        s.run("PFADD h a b c");
        let value = s.run("PFDEBUG DECODE h");
        assert_eq!(value, "$44 Z:8436 v:1,1 Z:4274 v:2,1 Z:3068 v:1,1 Z:603");
    }

    #[test]
    fn a_value_becomes_dense_when_the_sparse_form_grows_too_large() {
        let mut s = Session::new();
        add_many(&mut s, "h", 100);
        s.check(&[("PFDEBUG ENCODING h", "+sparse"), ("STRLEN h", ":285")]);
        s.shard.settings.hll_sparse_max_bytes = 300;
        add_many(&mut s, "h", 200);
        s.check(&[
            ("PFDEBUG ENCODING h", "+dense"),
            ("STRLEN h", ":12304"),
            ("PFDEBUG DECODE h", "-ERR HLL encoding is not sparse"),
        ]);
        add_many(&mut s, "g", 50);
        s.check(&[("PFDEBUG TODENSE g", ":1"), ("PFDEBUG TODENSE g", ":0"), ("PFMERGE g h", "+OK"), ("PFSELFTEST", "+OK")]);
        assert_eq!(s.run("PFCOUNT g"), s.run("PFCOUNT h"));
    }

    #[test]
    fn values_that_are_none() {
        let mut s = Session::new();
        let header = "HYLL\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x80";
        s.check(&[
            ("MSET s text n 1", "+OK"),
            (&format!("MSET short \"{header}\\x7f\" long \"{header}\\x7f\\xff\\x00\""), "+OK"),
            ("PFADD s a", "-WRONGTYPE Key is not a valid HyperLogLog string value."),
            ("PFCOUNT n", "-WRONGTYPE Key is not a valid HyperLogLog string value."),
            ("PFCOUNT short", "-INVALIDOBJ Corrupted HLL object detected"),
            ("PFCOUNT long short", "-INVALIDOBJ Corrupted HLL object detected"),
            ("PFMERGE d short", "-INVALIDOBJ Corrupted HLL object detected"),
            ("PFDEBUG GETREG long", "-INVALIDOBJ Corrupted HLL object detected"),
            ("PFDEBUG ENCODING none", "-ERR The specified key does not exist"),
            ("PFDEBUG WHAT long", "-ERR Unknown PFDEBUG subcommand 'WHAT'"),
        ]);
    }
}
