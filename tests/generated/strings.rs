//! Generators: strings, bitmaps, HyperLogLogs.

use super::generate::{Gen, Kind, command, join};
use super::step::{Check, Step};

pub fn string(g: &mut Gen) -> Step {
    let key = g.key(Kind::Text);
    Step::exact(match g.below(26) {
        0..=3 => set(g, key),
        4..=6 => command!["GET", key],
        7 => command!["GETSET", key, g.value()],
        8 => command!["GETDEL", key],
        9 => getex(g, key),
        10 => command!["APPEND", key, g.value()],
        11 => command!["STRLEN", key],
        12 => {
            let offset = if g.chance(8) { g.integer() } else { g.below(120).to_string() };
            command!["SETRANGE", key, offset, g.value()]
        }
        13 => command![g.one_of(&["GETRANGE", "SUBSTR"]), key, g.index(), g.index()],
        14 => command![g.one_of(&["INCR", "DECR"]), key],
        15 => command![g.one_of(&["INCRBY", "DECRBY"]), key, g.integer()],
        16 => command!["INCRBYFLOAT", key, g.float()],
        17 | 18 => join(vec![command!["MGET"], g.keys(Kind::Text, 8)]),
        19 | 20 => pairs(g, "MSET"),
        21 => pairs(g, "MSETNX"),
        22 => command!["SETNX", key, g.value()],
        23 => command!["SETEX", key, g.far_seconds(), g.value()],
        24 => command!["PSETEX", key, g.far_milliseconds(), g.value()],
        _ => lcs(g, key),
    })
}

fn set(g: &mut Gen, key: Vec<u8>) -> Vec<Vec<u8>> {
    let mut args = command![g.cased("SET"), key, g.value()];
    for _ in 0..g.below(3) {
        args.extend(match g.below(9) {
            0 => command!["NX"],
            1 => command!["xx"],
            2 => command!["GET"],
            3 => command!["KEEPTTL"],
            4 => command!["EX", g.far_seconds()],
            5 => command!["px", g.far_milliseconds()],
            6 => command!["EXAT", g.unix_seconds()],
            7 => command!["PXAT", g.unix_milliseconds()],
            _ => command!["EX"],
        });
    }
    args
}

fn getex(g: &mut Gen, key: Vec<u8>) -> Vec<Vec<u8>> {
    let mut args = command!["GETEX", key];
    args.extend(match g.below(7) {
        0 => command!["PERSIST"],
        1 => command!["EX", g.far_seconds()],
        2 => command!["PX", g.far_milliseconds()],
        3 => command!["EXAT", g.unix_seconds()],
        4 => command!["PXAT", g.unix_milliseconds()],
        5 => command!["EX", "100", "PERSIST"],
        _ => command![],
    });
    args
}

fn pairs(g: &mut Gen, name: &str) -> Vec<Vec<u8>> {
    let mut args = command![name];
    for key in g.keys(Kind::Text, 6) {
        args.push(key);
        args.push(g.value());
    }
    args
}

fn lcs(g: &mut Gen, key: Vec<u8>) -> Vec<Vec<u8>> {
    let mut args = command!["LCS", key, g.key(Kind::Text)];
    if g.chance(30) {
        args.push(b"LEN".to_vec());
    }
    if g.chance(40) {
        args.push(b"IDX".to_vec());
        if g.chance(50) {
            args.extend(command!["MINMATCHLEN", g.count()]);
        }
        if g.chance(50) {
            args.push(b"WITHMATCHLEN".to_vec());
        }
    }
    args
}

fn bit_offset(g: &mut Gen) -> String {
    if g.chance(4) { g.one_of(&["-1", "4294967296", "abc", "4294967295000", ""]).to_string() } else { g.below(700).to_string() }
}

pub fn bitmap(g: &mut Gen) -> Step {
    let key = g.key(Kind::Bits);
    Step::exact(match g.below(14) {
        0..=3 => {
            let bit = if g.chance(5) { g.integer() } else { g.below(2).to_string() };
            command!["SETBIT", key, bit_offset(g), bit]
        }
        4 => command!["GETBIT", key, bit_offset(g)],
        5 => command!["BITCOUNT", key],
        6 => join(vec![command!["BITCOUNT", key, g.index(), g.index()], unit(g)]),
        7 => {
            let mut args = command!["BITPOS", key, if g.chance(5) { g.integer() } else { g.below(2).to_string() }];
            if g.chance(60) {
                args.push(g.index().into_bytes());
                if g.chance(60) {
                    args.push(g.index().into_bytes());
                    args.extend(unit(g));
                }
            }
            args
        }
        8 | 9 => {
            let operation = g.one_of(&["AND", "or", "XOR", "NOT", "NOT", "nor"]);
            let most = if operation == "NOT" { 1 } else { 4 };
            join(vec![command!["BITOP", operation, key], g.keys(Kind::Bits, most)])
        }
        10 | 11 => bitfield(g, "BITFIELD", key),
        12 => bitfield(g, "BITFIELD_RO", key),
        _ => command!["GET", key],
    })
}

fn unit(g: &mut Gen) -> Vec<Vec<u8>> {
    match g.below(4) {
        0 => command!["BYTE"],
        1 => command!["bit"],
        _ => command![],
    }
}

fn bitfield(g: &mut Gen, name: &str, key: Vec<u8>) -> Vec<Vec<u8>> {
    let mut args = command![name, key];
    for _ in 0..1 + g.below(4) {
        let kind = g.one_of(&["u1", "u4", "i5", "u8", "i8", "i16", "u31", "i64", "u63", "u64", "i65", "x8", "i0"]);
        let offset = match g.below(10) {
            0 => bit_offset(g),
            1..=3 => format!("#{}", g.below(20)),
            _ => g.below(100).to_string(),
        };
        args.extend(match g.below(if name == "BITFIELD" { 6 } else { 3 }) {
            0..=2 => command!["GET", kind, offset],
            3 => command!["SET", kind, offset, g.integer()],
            4 => command!["INCRBY", kind, offset, g.integer()],
            _ => command!["OVERFLOW", g.one_of(&["WRAP", "sat", "FAIL", "none"])],
        });
    }
    args
}

pub fn hyperloglog(g: &mut Gen) -> Step {
    let key = g.key(Kind::Counter);
    let check = Check::Exact;
    let args = match g.below(10) {
        0..=4 => {
            let many = if g.chance(10) { 400 } else { 6 };
            let first = g.below(3000);
            let members = (0..g.below(many)).map(|index| format!("visitor{}", first + index).into_bytes()).collect();
            join(vec![command!["PFADD", key], members])
        }
        5 | 6 => join(vec![command!["PFCOUNT"], g.keys(Kind::Counter, 4)]),
        7 => join(vec![command!["PFMERGE", key], g.keys(Kind::Counter, 3)]),
        8 => command!["PFDEBUG", "ENCODING", key],
        _ => command!["STRLEN", key],
    };
    Step::new(args, check)
}
