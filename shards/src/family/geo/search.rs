//! The commands that look for members in an area: GEOSEARCH, GEORADIUS and their kin.

use super::query::{Form, Query};
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::CommandResult;
use crate::exec::Exec;
use crate::family::ShardCommand;
use crate::family::sorted_set::{limits, store_result};
use crate::reply::Reply;
use crate::value::SortedSet;

const UNIT: Arg = Arg::new(
    "unit",
    ArgKind::OneOf(&[
        Arg::new("m", ArgKind::PureToken).token("M"),
        Arg::new("km", ArgKind::PureToken).token("KM"),
        Arg::new("ft", ArgKind::PureToken).token("FT"),
        Arg::new("mi", ArgKind::PureToken).token("MI"),
    ]),
);
const ORDER: Arg = Arg::new(
    "order",
    ArgKind::OneOf(&[Arg::new("asc", ArgKind::PureToken).token("ASC"), Arg::new("desc", ArgKind::PureToken).token("DESC")]),
)
.flags(ArgFlags::OPTIONAL);
const COUNT: Arg = Arg::new(
    "count",
    ArgKind::Block(&[
        Arg::new("count", ArgKind::Integer).token("COUNT"),
        Arg::new("any", ArgKind::PureToken).token("ANY").flags(ArgFlags::OPTIONAL),
    ]),
)
.flags(ArgFlags::OPTIONAL);
/// GEORADIUS tells since when it has ANY.
const COUNT_BEFORE_ANY: Arg = Arg::new(
    "count",
    ArgKind::Block(&[
        Arg::new("count", ArgKind::Integer).token("COUNT"),
        Arg::new("any", ArgKind::PureToken).token("ANY").flags(ArgFlags::OPTIONAL).since("6.2.0"),
    ]),
)
.flags(ArgFlags::OPTIONAL);
const WITH_POSITION: Arg = Arg::new("withcoord", ArgKind::PureToken).token("WITHCOORD").flags(ArgFlags::OPTIONAL);
const WITH_DISTANCE: Arg = Arg::new("withdist", ArgKind::PureToken).token("WITHDIST").flags(ArgFlags::OPTIONAL);
const WITH_SCORE: Arg = Arg::new("withhash", ArgKind::PureToken).token("WITHHASH").flags(ArgFlags::OPTIONAL);
const FROM: Arg = Arg::new(
    "from",
    ArgKind::OneOf(&[
        Arg::new("member", ArgKind::String).token("FROMMEMBER"),
        Arg::new(
            "longitude_latitude",
            ArgKind::Block(&[Arg::new("longitude", ArgKind::Double), Arg::new("latitude", ArgKind::Double)]),
        )
        .token("FROMLONLAT"),
    ]),
);
const BY: Arg = Arg::new(
    "by",
    ArgKind::OneOf(&[
        Arg::new("circle", ArgKind::Block(&[Arg::new("radius", ArgKind::Double).token("BYRADIUS"), UNIT])),
        Arg::new(
            "box",
            ArgKind::Block(&[Arg::new("width", ArgKind::Double).token("BYBOX"), Arg::new("height", ArgKind::Double), UNIT]),
        ),
    ]),
);

pub static GEOSEARCH: ShardCommand = Command {
    spec: Spec {
        name: "geosearch",
        group: Group::Geo,
        since: "6.2.0",
        summary: "Finds the members in a circle or box.",
        complexity: "O(N+log(M)), N being the members in the cells around the area and M the size of the set.",
        arity: -7,
        flags: Flags::READONLY,
        acl: AclCategory::GEO,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[Arg::new("key", ArgKind::Key(0)), FROM, BY, ORDER, COUNT, WITH_POSITION, WITH_DISTANCE, WITH_SCORE],
        history: &[("7.0.0", "Units in upper case.")],
        ..Spec::DEFAULT
    },
    run: geosearch,
};

fn geosearch(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    search(x, a, Form::Search, r)
}

pub static GEOSEARCHSTORE: ShardCommand = Command {
    spec: Spec {
        name: "geosearchstore",
        group: Group::Geo,
        since: "6.2.0",
        summary: "Stores the members found in a circle or box.",
        complexity: "O(N+log(M)), N being the members in the cells around the area and M the size of the set.",
        arity: -8,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::GEO,
        keys: &[KeySpec::one(1, KeyAccess::OW.with(KeyAccess::UPDATE)), KeySpec::one(2, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[
            Arg::new("destination", ArgKind::Key(0)),
            Arg::new("source", ArgKind::Key(1)),
            FROM,
            BY,
            ORDER,
            COUNT,
            Arg::new("storedist", ArgKind::PureToken).token("STOREDIST").flags(ArgFlags::OPTIONAL),
        ],
        history: &[("7.0.0", "Units in upper case.")],
        ..Spec::DEFAULT
    },
    run: geosearchstore,
};

fn geosearchstore(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    search(x, a, Form::SearchStore, r)
}

pub static GEORADIUS: ShardCommand = Command {
    spec: Spec {
        name: "georadius",
        group: Group::Geo,
        since: "3.2.0",
        summary: "Finds, and may store, the members around a position.",
        complexity: "O(N+log(M)), N being the members in the cells around the circle and M the size of the set.",
        arity: -6,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::GEO,
        keys: &[
            KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS)),
            KeySpec::after("store", 6, KeyAccess::OW.with(KeyAccess::UPDATE)),
            KeySpec::after("storedist", 6, KeyAccess::OW.with(KeyAccess::UPDATE)),
        ],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("longitude", ArgKind::Double),
            Arg::new("latitude", ArgKind::Double),
            Arg::new("radius", ArgKind::Double),
            UNIT,
            WITH_POSITION,
            WITH_DISTANCE,
            WITH_SCORE,
            COUNT_BEFORE_ANY,
            ORDER,
            Arg::new("key", ArgKind::Key(1)).token("STORE").flags(ArgFlags::OPTIONAL),
            Arg::new("key", ArgKind::Key(2)).token("STOREDIST").flags(ArgFlags::OPTIONAL),
        ],
        deprecated: Some(("6.2.0", "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument")),
        history: &[("6.2.0", "Option `ANY` of `COUNT`."), ("7.0.0", "Units in upper case.")],
        ..Spec::DEFAULT
    },
    run: georadius,
};

fn georadius(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    search(x, a, Form::Radius { storable: true }, r)
}

pub static GEORADIUS_RO: ShardCommand = Command {
    spec: Spec {
        name: "georadius_ro",
        group: Group::Geo,
        since: "3.2.10",
        summary: "Finds the members around a position.",
        complexity: "O(N+log(M)), N being the members in the cells around the circle and M the size of the set.",
        arity: -6,
        flags: Flags::READONLY,
        acl: AclCategory::GEO,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("longitude", ArgKind::Double),
            Arg::new("latitude", ArgKind::Double),
            Arg::new("radius", ArgKind::Double),
            UNIT,
            WITH_POSITION,
            WITH_DISTANCE,
            WITH_SCORE,
            COUNT_BEFORE_ANY,
            ORDER,
        ],
        deprecated: Some(("6.2.0", "`GEOSEARCH` with the `BYRADIUS` argument")),
        history: &[("6.2.0", "Option `ANY` of `COUNT`.")],
        ..Spec::DEFAULT
    },
    run: georadius_ro,
};

fn georadius_ro(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    search(x, a, Form::Radius { storable: false }, r)
}

pub static GEORADIUSBYMEMBER: ShardCommand = Command {
    spec: Spec {
        name: "georadiusbymember",
        group: Group::Geo,
        since: "3.2.0",
        summary: "Finds, and may store, the members around another one.",
        complexity: "O(N+log(M)), N being the members in the cells around the circle and M the size of the set.",
        arity: -5,
        flags: Flags::WRITE.with(Flags::DENYOOM),
        acl: AclCategory::GEO,
        keys: &[
            KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS)),
            KeySpec::after("store", 5, KeyAccess::OW.with(KeyAccess::UPDATE)),
            KeySpec::after("storedist", 5, KeyAccess::OW.with(KeyAccess::UPDATE)),
        ],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("member", ArgKind::String),
            Arg::new("radius", ArgKind::Double),
            UNIT,
            WITH_POSITION,
            WITH_DISTANCE,
            WITH_SCORE,
            COUNT,
            ORDER,
            Arg::new("key", ArgKind::Key(1)).token("STORE").flags(ArgFlags::OPTIONAL),
            Arg::new("key", ArgKind::Key(2)).token("STOREDIST").flags(ArgFlags::OPTIONAL),
        ],
        deprecated: Some(("6.2.0", "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments")),
        history: &[("7.0.0", "Units in upper case.")],
        ..Spec::DEFAULT
    },
    run: georadiusbymember,
};

fn georadiusbymember(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    search(x, a, Form::RadiusByMember { storable: true }, r)
}

pub static GEORADIUSBYMEMBER_RO: ShardCommand = Command {
    spec: Spec {
        name: "georadiusbymember_ro",
        group: Group::Geo,
        since: "3.2.10",
        summary: "Finds the members around another one.",
        complexity: "O(N+log(M)), N being the members in the cells around the circle and M the size of the set.",
        arity: -5,
        flags: Flags::READONLY,
        acl: AclCategory::GEO,
        keys: &[KeySpec::one(1, KeyAccess::RO.with(KeyAccess::ACCESS))],
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new("member", ArgKind::String),
            Arg::new("radius", ArgKind::Double),
            UNIT,
            WITH_POSITION,
            WITH_DISTANCE,
            WITH_SCORE,
            COUNT,
            ORDER,
        ],
        deprecated: Some(("6.2.0", "`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments")),
        ..Spec::DEFAULT
    },
    run: georadiusbymember_ro,
};

fn georadiusbymember_ro(x: &mut Exec<'_>, a: Args<'_>, r: &mut Reply<'_>) -> CommandResult {
    search(x, a, Form::RadiusByMember { storable: false }, r)
}

fn search(x: &mut Exec<'_>, a: Args<'_>, form: Form, r: &mut Reply<'_>) -> CommandResult {
    let limits = limits(x);
    let source = x.key(a.at(if form == Form::SearchStore { 2 } else { 1 }));
    let set = x.sorted_set(&source)?;
    let query = Query::parse(a, form, set)?;
    let found = set.map(|set| query.find(set)).unwrap_or_default();
    let Some(target) = query.target else {
        query.reply(&found, r);
        return Ok(());
    };
    let longest = found.iter().map(|point| point.member.len()).max().unwrap_or(0);
    let mut result = SortedSet::sized(found.len(), longest, &limits);
    for point in &found {
        let score = if query.store_distance { point.distance / query.unit } else { point.score };
        point.member.with_bytes(|member| result.insert(member, score, &limits));
    }
    let event = if matches!(form, Form::Search | Form::SearchStore) { "geosearchstore" } else { "georadiusstore" };
    let changes = result.len() as u64;
    let target = x.key(target);
    store_result(x, &target, result, event, r);
    // Every member stored counts as a change.
    x.count_changes(changes.saturating_sub(1));
    Ok(())
}
