//! PFDEBUG and PFSELFTEST: a look into HyperLogLogs.

use super::estimate::{estimate, place};
use super::sketch::{self, HEADER, REGISTERS, Run, Runs};
use super::{ShardCommand, open_or_make};
use crate::command::{AclCategory, Arg, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Merge, Route, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::reply::Reply;

pub static PFDEBUG: ShardCommand = Command {
    spec: Spec {
        name: "pfdebug",
        group: Group::HyperLogLog,
        since: "2.8.9",
        summary: "Shows or converts the inner form of a HyperLogLog.",
        complexity: "O(1)",
        arity: 3,
        flags: Flags::WRITE.with(Flags::DENYOOM).with(Flags::ADMIN),
        acl: AclCategory::HYPERLOGLOG,
        keys: &[KeySpec::one(2, KeyAccess::RW.with(KeyAccess::ACCESS))],
        args: &[Arg::new("subcommand", ArgKind::String), Arg::new("key", ArgKind::Key(0))],
        ..Spec::DEFAULT
    },
    run: pfdebug,
};

fn pfdebug(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let key = x.key(a.at(2));
    if !x.exists(&key) {
        return Err(Error::Text("ERR The specified key does not exist"));
    }
    let (value, _) = open_or_make(x, &key)?;
    if a.is(1, "encoding") {
        r.simple(if sketch::is_dense(value) { "dense" } else { "sparse" });
    } else if a.is(1, "decode") {
        if sketch::is_dense(value) {
            return Err(Error::Text("ERR HLL encoding is not sparse"));
        }
        r.bulk(decoded(value).as_bytes());
    } else if a.is(1, "todense") {
        let converted = sketch::make_dense(value)?;
        if converted {
            x.changed(&key);
        }
        r.integer(converted.into());
    } else if a.is(1, "getreg") {
        let converted = sketch::make_dense(value)?;
        let mut registers = Box::new([0; REGISTERS]);
        sketch::merge_into(value, &mut registers)?;
        if converted {
            x.changed(&key);
        }
        r.array(REGISTERS);
        registers.iter().for_each(|&rank| r.integer(rank.into()));
    } else {
        return Err(Error::Owned(format!("ERR Unknown PFDEBUG subcommand '{}'", String::from_utf8_lossy(a.at(1)))));
    }
    Ok(())
}

/// The runs of a sparse value: `Z:` and `z:` zeros in the long and the short form, `v:` a rank and how often it stands.
fn decoded(value: &[u8]) -> String {
    let run = |run: Run| match (run.rank, run.size) {
        (0, 2) => format!("Z:{}", run.len),
        (0, _) => format!("z:{}", run.len),
        (rank, _) => format!("v:{rank},{}", run.len),
    };
    Runs::new(&value[HEADER..]).map(run).collect::<Vec<_>>().join(" ")
}

pub static PFSELFTEST: ShardCommand = Command {
    spec: Spec {
        name: "pfselftest",
        group: Group::HyperLogLog,
        since: "2.8.9",
        summary: "Tests the HyperLogLog implementation.",
        complexity: "O(1)",
        arity: 1,
        flags: Flags::ADMIN,
        acl: AclCategory::HYPERLOGLOG,
        route: Route::AllShards(Merge::First),
        ..Spec::DEFAULT
    },
    run: pfselftest,
};

/// Elements that the self-test adds. (redis-server adds a hundred times as many, which would stall a core for a second.)
const TESTED_ELEMENTS: u64 = 100_000;

fn pfselftest(x: &mut Exec<'_>, _: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let sparse_max = x.settings().hll_sparse_max_bytes;
    let seed = x.shard.random.next();
    test_registers(seed)?;
    test_counts(seed, sparse_max)?;
    r.ok();
    Ok(())
}

/// Every register keeps what it was set to, and leaves its neighbours alone.
fn test_registers(seed: u64) -> CommandResult {
    let mut dense = sketch::EMPTY.to_vec();
    sketch::make_dense(&mut dense)?;
    let rank = |register: usize| (place(&(register as u64 ^ seed).to_le_bytes()).1 * 7) & 63;
    for register in 0..REGISTERS {
        sketch::raise(&mut dense, register, rank(register), 0)?;
    }
    let mut registers = Box::new([0; REGISTERS]);
    sketch::merge_into(&dense, &mut registers)?;
    match (0..REGISTERS).find(|&register| registers[register] != rank(register)) {
        None => Ok(()),
        Some(bad) => {
            Err(Error::Owned(format!("ERR TESTFAILED Register {bad} should be {} but is {}", rank(bad), registers[bad])))
        }
    }
}

/// The dense and the sparse form count the same, and about what was added.
fn test_counts(seed: u64, sparse_max: usize) -> CommandResult {
    let (mut dense, mut sparse) = (sketch::EMPTY.to_vec(), sketch::EMPTY.to_vec());
    sketch::make_dense(&mut dense)?;
    let mut checkpoint = 1;
    for added in 1..=TESTED_ELEMENTS {
        let (register, rank) = place(&(added ^ seed).to_le_bytes());
        sketch::raise(&mut dense, register, rank, sparse_max)?;
        sketch::raise(&mut sparse, register, rank, sparse_max)?;
        if added < checkpoint {
            continue;
        }
        if (added as usize) < sparse_max / 2 && sketch::is_dense(&sparse) {
            return Err(Error::Text("ERR TESTFAILED sparse encoding not used"));
        }
        let count = estimate(&sketch::histogram(&dense)?);
        if count != estimate(&sketch::histogram(&sparse)?) {
            return Err(Error::Text("ERR TESTFAILED dense/sparse disagree"));
        }
        let standard_error = 1.04 / (REGISTERS as f64).sqrt();
        let allowed = if added == 10 { 1 } else { (standard_error * 6.0 * added as f64).ceil() as u64 };
        if count.abs_diff(added) > allowed {
            let error = count.abs_diff(added);
            return Err(Error::Owned(format!("ERR TESTFAILED Too big error. card:{added} abserr:{error}")));
        }
        checkpoint *= 10;
    }
    Ok(())
}
