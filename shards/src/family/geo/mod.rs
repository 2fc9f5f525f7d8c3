//! Positions on the globe, kept as the scores of sorted sets.
//!
//! [`geohash`] is the arithmetic, [`query`] the search for members in an area, [`search`] the commands that ask for one.

mod geohash;
mod query;
mod search;

use super::ShardCommand;
use super::sorted_set::add_members;
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, ArgsBuf, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::number::parse_f64;
use crate::reply::Reply;
use crate::value::SortedSet;
use crate::value::sorted_set::AddOptions;
use geohash::Position;

pub static COMMANDS: &[&ShardCommand] = &[
    &GEOADD,
    &GEOPOS,
    &GEODIST,
    &GEOHASH,
    &search::GEOSEARCH,
    &search::GEOSEARCHSTORE,
    &search::GEORADIUS,
    &search::GEORADIUS_RO,
    &search::GEORADIUSBYMEMBER,
    &search::GEORADIUSBYMEMBER_RO,
];

pub static GEOADD: ShardCommand = Command {
    spec: Spec {
        name: "geoadd",
        group: Group::Geo,
        since: "3.2.0",
        summary: "Adds members with their positions on the globe.",
        complexity: "O(log(N)) for each member.",
        arity: -5,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::GEO,
        keys: &[KeySpec::one(1, KeyAccess::RW.with(KeyAccess::UPDATE))],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new(
                "condition",
                ArgKind::OneOf(&[Arg::new("nx", ArgKind::PureToken).token("NX"), Arg::new("xx", ArgKind::PureToken).token("XX")]),
            )
            .flags(ArgFlags::OPTIONAL)
            .since("6.2.0"),
            Arg::new("change", ArgKind::PureToken).token("CH").flags(ArgFlags::OPTIONAL).since("6.2.0"),
            Arg::new(
                "longitude_latitude_member",
                ArgKind::Block(&[
                    Arg::new("longitude", ArgKind::Double),
                    Arg::new("latitude", ArgKind::Double),
                    Arg::new("member", ArgKind::String),
                ]),
            )
            .flags(ArgFlags::MULTIPLE),
        ],
        history: &[("6.2.0", "Options `CH`, `NX` and `XX`.")],
        ..Spec::DEFAULT
    },
    run: geoadd,
};

fn geoadd(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let (mut options, mut count_changed, mut first) = (AddOptions::default(), false, 2);
    while first < a.len() {
        if a.is(first, "nx") {
            options.absent = true;
        } else if a.is(first, "xx") {
            options.present = true;
        } else if a.is(first, "ch") {
            count_changed = true;
        } else {
            break;
        }
        first += 1;
    }
    let triples = a.from(first);
    if triples.is_empty() || !triples.len().is_multiple_of(3) || (options.absent && options.present) {
        return Err(Error::Syntax);
    }
    let starts = (0..triples.len()).step_by(3);
    let scores = starts.clone().map(|at| Ok(parse_position(triples, at)?.score())).collect::<Result<Vec<_>, Error>>()?;
    let members = starts.map(|at| triples.at(at + 2));
    let pairs = scores.iter().copied().zip(members);
    let changes = x.changes();
    add_members(x, a.at(1), pairs.clone().map(|(score, member)| (score as f64, member)), options, count_changed, r)?;
    if x.changes() > changes && x.wants_effects() {
        // As ZADD, so that a replica need not round the same way.
        let mut effect = ArgsBuf::default();
        effect.push(b"zadd");
        a.slice(1, first).iter().for_each(|arg| effect.push(arg));
        for (score, member) in pairs {
            effect.push(itoa::Buffer::new().format(score).as_bytes());
            effect.push(member);
        }
        x.effect(&effect.args().iter().collect::<Vec<_>>());
    }
    Ok(())
}

pub static GEOPOS: ShardCommand = Command {
    spec: Spec {
        name: "geopos",
        group: Group::Geo,
        since: "3.2.0",
        summary: "Reads the positions of members.",
        complexity: "O(M), M being the number of members given.",
        arity: -2,
        flags: Flags::READONLY,
        acl: AclCategory::GEO,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("member", ArgKind::String).flags(ArgFlags::MULTIPLE)],
        ..Spec::DEFAULT
    },
    run: geopos,
};

fn geopos(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let set = x.sorted_set(&x.key(a.at(1)))?;
    r.array(a.len() - 2);
    for member in a.from(2).iter() {
        match position_of(set, member) {
            Some(position) => write_position(r, position),
            None => r.null_array(),
        }
    }
    Ok(())
}

pub static GEODIST: ShardCommand = Command {
    spec: Spec {
        name: "geodist",
        group: Group::Geo,
        since: "3.2.0",
        summary: "Tells the distance between two members.",
        complexity: "O(1)",
        arity: -4,
        flags: Flags::READONLY,
        acl: AclCategory::GEO,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("member1", ArgKind::String),
            Arg::new("member2", ArgKind::String),
            Arg::new(
                "unit",
                ArgKind::OneOf(&[
                    Arg::new("m", ArgKind::PureToken).token("M"),
                    Arg::new("km", ArgKind::PureToken).token("KM"),
                    Arg::new("ft", ArgKind::PureToken).token("FT"),
                    Arg::new("mi", ArgKind::PureToken).token("MI"),
                ]),
            )
            .flags(ArgFlags::OPTIONAL),
        ],
        ..Spec::DEFAULT
    },
    run: geodist,
};

fn geodist(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let unit = match a.len() {
        4 => 1.0,
        5 => parse_unit(a.at(4))?,
        _ => return Err(Error::Syntax),
    };
    let set = x.sorted_set(&x.key(a.at(1)))?;
    match position_of(set, a.at(2)).zip(position_of(set, a.at(3))) {
        Some((first, second)) => write_distance(r, first.distance(second) / unit),
        None => r.null(),
    }
    Ok(())
}

pub static GEOHASH: ShardCommand = Command {
    spec: Spec {
        name: "geohash",
        group: Group::Geo,
        since: "3.2.0",
        summary: "Reads the positions of members as geohash strings.",
        complexity: "O(M), M being the number of members given.",
        arity: -2,
        flags: Flags::READONLY,
        acl: AclCategory::GEO,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[Arg::new("key", ArgKind::Key(0)), Arg::new("member", ArgKind::String).flags(ArgFlags::MULTIPLE)],
        ..Spec::DEFAULT
    },
    run: geohash,
};

fn geohash(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    let set = x.sorted_set(&x.key(a.at(1)))?;
    r.array(a.len() - 2);
    for member in a.from(2).iter() {
        match position_of(set, member) {
            Some(position) => r.bulk(&position.geohash()),
            None => r.null(),
        }
    }
    Ok(())
}

fn position_of(set: Option<&SortedSet>, member: &[u8]) -> Option<Position> {
    set?.score(member).map(Position::of_score)
}

/// Longitude and latitude at `at`.
fn parse_position(a: Args<'_>, at: usize) -> Result<Position, Error> {
    let number = |at| parse_f64(a.at(at)).ok_or(Error::NotFloat);
    let position = Position { longitude: number(at)?, latitude: number(at + 1)? };
    if !position.is_valid() {
        let Position { longitude, latitude } = position;
        return Err(Error::Owned(format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}")));
    }
    Ok(position)
}

/// A unit's length in metres.
fn parse_unit(text: &[u8]) -> Result<f64, Error> {
    match text.to_ascii_lowercase().as_slice() {
        b"m" => Ok(1.0),
        b"km" => Ok(1000.0),
        b"ft" => Ok(0.3048),
        b"mi" => Ok(1609.34),
        _ => Err(Error::Text("ERR unsupported unit provided. please use M, KM, FT, MI")),
    }
}

/// Four decimals, always as a bulk string.
fn write_distance(r: &mut Reply<'_>, distance: f64) {
    const SCALE: u64 = 10_000;
    let scaled = (distance * SCALE as f64).round_ties_even() as u64;
    r.bulk(format!("{}.{:04}", scaled / SCALE, scaled % SCALE).as_bytes());
}

fn write_position(r: &mut Reply<'_>, position: Position) {
    r.array(2);
    for degrees in [position.longitude, position.latitude] {
        let text = format!("{degrees:.17}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        let text = if text == "-0" { "0" } else { text };
        if r.resp3 {
            r.out.push(b',');
            r.out.extend_from_slice(text.as_bytes());
            r.out.extend_from_slice(b"\r\n");
        } else {
            r.bulk(text.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests;
