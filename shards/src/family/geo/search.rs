//! Finding the members in an area: GEOSEARCH, GEORADIUS and their kin.
//!
//! The cells that cover the area are ranges of scores; each is walked, and its members are measured.

use super::geohash::{Position, Shape};
use super::{parse_position, parse_unit, write_distance, write_position};
use crate::command::{AclCategory, Arg, ArgFlags, ArgKind, Args, Command, Flags, Group, KeyAccess, KeySpec, Spec};
use crate::error::{CommandResult, Error};
use crate::exec::Exec;
use crate::family::ShardCommand;
use crate::family::sorted_set::{limits, store_result, write_member};
use crate::number::{parse_f64, parse_i64};
use crate::reply::Reply;
use crate::value::SortedSet;
use crate::value::item::Item;
use crate::value::sorted_set::{Direction, ScoreRange};

/// What a command's name says about its arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// GEORADIUS: the center and the radius stand at fixed places.
    Radius { storable: bool },
    /// GEORADIUSBYMEMBER
    RadiusByMember { storable: bool },
    /// GEOSEARCH
    Search,
    /// GEOSEARCHSTORE
    SearchStore,
}

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
        args: &[
            Arg::new("key", ArgKind::Key(0)),
            Arg::new(
                "from",
                ArgKind::OneOf(&[
                    Arg::new("member", ArgKind::String).token("FROMMEMBER"),
                    Arg::new(
                        "longitude_latitude",
                        ArgKind::Block(&[Arg::new("longitude", ArgKind::Double), Arg::new("latitude", ArgKind::Double)]),
                    )
                    .token("FROMLONLAT"),
                ]),
            ),
            Arg::new(
                "by",
                ArgKind::OneOf(&[
                    Arg::new(
                        "circle",
                        ArgKind::Block(&[
                            Arg::new("radius", ArgKind::Double).token("BYRADIUS"),
                            Arg::new(
                                "unit",
                                ArgKind::OneOf(&[
                                    Arg::new("m", ArgKind::PureToken).token("M"),
                                    Arg::new("km", ArgKind::PureToken).token("KM"),
                                    Arg::new("ft", ArgKind::PureToken).token("FT"),
                                    Arg::new("mi", ArgKind::PureToken).token("MI"),
                                ]),
                            ),
                        ]),
                    ),
                    Arg::new(
                        "box",
                        ArgKind::Block(&[
                            Arg::new("width", ArgKind::Double).token("BYBOX"),
                            Arg::new("height", ArgKind::Double),
                            Arg::new(
                                "unit",
                                ArgKind::OneOf(&[
                                    Arg::new("m", ArgKind::PureToken).token("M"),
                                    Arg::new("km", ArgKind::PureToken).token("KM"),
                                    Arg::new("ft", ArgKind::PureToken).token("FT"),
                                    Arg::new("mi", ArgKind::PureToken).token("MI"),
                                ]),
                            ),
                        ]),
                    ),
                ]),
            ),
            Arg::new(
                "order",
                ArgKind::OneOf(&[
                    Arg::new("asc", ArgKind::PureToken).token("ASC"),
                    Arg::new("desc", ArgKind::PureToken).token("DESC"),
                ]),
            )
            .flags(ArgFlags::OPTIONAL),
            Arg::new(
                "count",
                ArgKind::Block(&[
                    Arg::new("count", ArgKind::Integer).token("COUNT"),
                    Arg::new("any", ArgKind::PureToken).token("ANY").flags(ArgFlags::OPTIONAL),
                ]),
            )
            .flags(ArgFlags::OPTIONAL),
            Arg::new("withcoord", ArgKind::PureToken).token("WITHCOORD").flags(ArgFlags::OPTIONAL),
            Arg::new("withdist", ArgKind::PureToken).token("WITHDIST").flags(ArgFlags::OPTIONAL),
            Arg::new("withhash", ArgKind::PureToken).token("WITHHASH").flags(ArgFlags::OPTIONAL),
        ],
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
            Arg::new(
                "from",
                ArgKind::OneOf(&[
                    Arg::new("member", ArgKind::String).token("FROMMEMBER"),
                    Arg::new(
                        "longitude_latitude",
                        ArgKind::Block(&[Arg::new("longitude", ArgKind::Double), Arg::new("latitude", ArgKind::Double)]),
                    )
                    .token("FROMLONLAT"),
                ]),
            ),
            Arg::new(
                "by",
                ArgKind::OneOf(&[
                    Arg::new(
                        "circle",
                        ArgKind::Block(&[
                            Arg::new("radius", ArgKind::Double).token("BYRADIUS"),
                            Arg::new(
                                "unit",
                                ArgKind::OneOf(&[
                                    Arg::new("m", ArgKind::PureToken).token("M"),
                                    Arg::new("km", ArgKind::PureToken).token("KM"),
                                    Arg::new("ft", ArgKind::PureToken).token("FT"),
                                    Arg::new("mi", ArgKind::PureToken).token("MI"),
                                ]),
                            ),
                        ]),
                    ),
                    Arg::new(
                        "box",
                        ArgKind::Block(&[
                            Arg::new("width", ArgKind::Double).token("BYBOX"),
                            Arg::new("height", ArgKind::Double),
                            Arg::new(
                                "unit",
                                ArgKind::OneOf(&[
                                    Arg::new("m", ArgKind::PureToken).token("M"),
                                    Arg::new("km", ArgKind::PureToken).token("KM"),
                                    Arg::new("ft", ArgKind::PureToken).token("FT"),
                                    Arg::new("mi", ArgKind::PureToken).token("MI"),
                                ]),
                            ),
                        ]),
                    ),
                ]),
            ),
            Arg::new(
                "order",
                ArgKind::OneOf(&[
                    Arg::new("asc", ArgKind::PureToken).token("ASC"),
                    Arg::new("desc", ArgKind::PureToken).token("DESC"),
                ]),
            )
            .flags(ArgFlags::OPTIONAL),
            Arg::new(
                "count",
                ArgKind::Block(&[
                    Arg::new("count", ArgKind::Integer).token("COUNT"),
                    Arg::new("any", ArgKind::PureToken).token("ANY").flags(ArgFlags::OPTIONAL),
                ]),
            )
            .flags(ArgFlags::OPTIONAL),
            Arg::new("storedist", ArgKind::PureToken).token("STOREDIST").flags(ArgFlags::OPTIONAL),
        ],
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
            Arg::new(
                "unit",
                ArgKind::OneOf(&[
                    Arg::new("m", ArgKind::PureToken).token("M"),
                    Arg::new("km", ArgKind::PureToken).token("KM"),
                    Arg::new("ft", ArgKind::PureToken).token("FT"),
                    Arg::new("mi", ArgKind::PureToken).token("MI"),
                ]),
            ),
            Arg::new("withcoord", ArgKind::PureToken).token("WITHCOORD").flags(ArgFlags::OPTIONAL),
            Arg::new("withdist", ArgKind::PureToken).token("WITHDIST").flags(ArgFlags::OPTIONAL),
            Arg::new("withhash", ArgKind::PureToken).token("WITHHASH").flags(ArgFlags::OPTIONAL),
            Arg::new(
                "count",
                ArgKind::Block(&[
                    Arg::new("count", ArgKind::Integer).token("COUNT"),
                    Arg::new("any", ArgKind::PureToken).token("ANY").flags(ArgFlags::OPTIONAL).since("6.2.0"),
                ]),
            )
            .flags(ArgFlags::OPTIONAL),
            Arg::new(
                "order",
                ArgKind::OneOf(&[
                    Arg::new("asc", ArgKind::PureToken).token("ASC"),
                    Arg::new("desc", ArgKind::PureToken).token("DESC"),
                ]),
            )
            .flags(ArgFlags::OPTIONAL),
            Arg::new("key", ArgKind::Key(1)).token("STORE").flags(ArgFlags::OPTIONAL),
            Arg::new("key", ArgKind::Key(2)).token("STOREDIST").flags(ArgFlags::OPTIONAL),
        ],
        deprecated: Some(("6.2.0", "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument")),
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
            Arg::new(
                "unit",
                ArgKind::OneOf(&[
                    Arg::new("m", ArgKind::PureToken).token("M"),
                    Arg::new("km", ArgKind::PureToken).token("KM"),
                    Arg::new("ft", ArgKind::PureToken).token("FT"),
                    Arg::new("mi", ArgKind::PureToken).token("MI"),
                ]),
            ),
            Arg::new("withcoord", ArgKind::PureToken).token("WITHCOORD").flags(ArgFlags::OPTIONAL),
            Arg::new("withdist", ArgKind::PureToken).token("WITHDIST").flags(ArgFlags::OPTIONAL),
            Arg::new("withhash", ArgKind::PureToken).token("WITHHASH").flags(ArgFlags::OPTIONAL),
            Arg::new(
                "count",
                ArgKind::Block(&[
                    Arg::new("count", ArgKind::Integer).token("COUNT"),
                    Arg::new("any", ArgKind::PureToken).token("ANY").flags(ArgFlags::OPTIONAL).since("6.2.0"),
                ]),
            )
            .flags(ArgFlags::OPTIONAL),
            Arg::new(
                "order",
                ArgKind::OneOf(&[
                    Arg::new("asc", ArgKind::PureToken).token("ASC"),
                    Arg::new("desc", ArgKind::PureToken).token("DESC"),
                ]),
            )
            .flags(ArgFlags::OPTIONAL),
        ],
        deprecated: Some(("6.2.0", "`GEOSEARCH` with the `BYRADIUS` argument")),
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
            Arg::new(
                "unit",
                ArgKind::OneOf(&[
                    Arg::new("m", ArgKind::PureToken).token("M"),
                    Arg::new("km", ArgKind::PureToken).token("KM"),
                    Arg::new("ft", ArgKind::PureToken).token("FT"),
                    Arg::new("mi", ArgKind::PureToken).token("MI"),
                ]),
            ),
            Arg::new("withcoord", ArgKind::PureToken).token("WITHCOORD").flags(ArgFlags::OPTIONAL),
            Arg::new("withdist", ArgKind::PureToken).token("WITHDIST").flags(ArgFlags::OPTIONAL),
            Arg::new("withhash", ArgKind::PureToken).token("WITHHASH").flags(ArgFlags::OPTIONAL),
            Arg::new(
                "count",
                ArgKind::Block(&[
                    Arg::new("count", ArgKind::Integer).token("COUNT"),
                    Arg::new("any", ArgKind::PureToken).token("ANY").flags(ArgFlags::OPTIONAL),
                ]),
            )
            .flags(ArgFlags::OPTIONAL),
            Arg::new(
                "order",
                ArgKind::OneOf(&[
                    Arg::new("asc", ArgKind::PureToken).token("ASC"),
                    Arg::new("desc", ArgKind::PureToken).token("DESC"),
                ]),
            )
            .flags(ArgFlags::OPTIONAL),
            Arg::new("key", ArgKind::Key(1)).token("STORE").flags(ArgFlags::OPTIONAL),
            Arg::new("key", ArgKind::Key(2)).token("STOREDIST").flags(ArgFlags::OPTIONAL),
        ],
        deprecated: Some(("6.2.0", "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments")),
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
            Arg::new(
                "unit",
                ArgKind::OneOf(&[
                    Arg::new("m", ArgKind::PureToken).token("M"),
                    Arg::new("km", ArgKind::PureToken).token("KM"),
                    Arg::new("ft", ArgKind::PureToken).token("FT"),
                    Arg::new("mi", ArgKind::PureToken).token("MI"),
                ]),
            ),
            Arg::new("withcoord", ArgKind::PureToken).token("WITHCOORD").flags(ArgFlags::OPTIONAL),
            Arg::new("withdist", ArgKind::PureToken).token("WITHDIST").flags(ArgFlags::OPTIONAL),
            Arg::new("withhash", ArgKind::PureToken).token("WITHHASH").flags(ArgFlags::OPTIONAL),
            Arg::new(
                "count",
                ArgKind::Block(&[
                    Arg::new("count", ArgKind::Integer).token("COUNT"),
                    Arg::new("any", ArgKind::PureToken).token("ANY").flags(ArgFlags::OPTIONAL),
                ]),
            )
            .flags(ArgFlags::OPTIONAL),
            Arg::new(
                "order",
                ArgKind::OneOf(&[
                    Arg::new("asc", ArgKind::PureToken).token("ASC"),
                    Arg::new("desc", ArgKind::PureToken).token("DESC"),
                ]),
            )
            .flags(ArgFlags::OPTIONAL),
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
    x.changed_by(&target, changes.saturating_sub(1));
    Ok(())
}

/// A member inside the area.
struct Point<'s> {
    member: Item<'s>,
    score: f64,
    position: Position,
    /// Metres.
    distance: f64,
}

struct Query<'a> {
    center: Position,
    shape: Shape,
    /// Of the shape and of the distances shown, in metres.
    unit: f64,
    order: Option<Direction>,
    /// 0: all.
    count: usize,
    /// Any `count` members will do.
    any: bool,
    with_distance: bool,
    with_score: bool,
    with_position: bool,
    target: Option<&'a [u8]>,
    store_distance: bool,
}

impl<'a> Query<'a> {
    fn parse(a: Args<'a>, form: Form, set: Option<&SortedSet>) -> Result<Self, Error> {
        let mut query = Query {
            center: Position { longitude: 0.0, latitude: 0.0 },
            shape: Shape::Circle { radius: 0.0 },
            unit: 1.0,
            order: None,
            count: 0,
            any: false,
            with_distance: false,
            with_score: false,
            with_position: false,
            target: None,
            store_distance: false,
        };
        let first_option = match form {
            Form::Radius { .. } => {
                query.center = parse_position(a, 2)?;
                query.parse_circle(a, 4)?;
                6
            }
            Form::RadiusByMember { .. } => {
                if let Some(set) = set {
                    query.center = center_at(set, a.at(2))?;
                    query.parse_circle(a, 3)?;
                }
                5
            }
            Form::Search => 2,
            Form::SearchStore => {
                query.target = Some(a.at(1));
                3
            }
        };
        query.parse_options(a, first_option, form, set)?;
        Ok(query)
    }

    fn parse_circle(&mut self, a: Args<'_>, at: usize) -> Result<(), Error> {
        let radius = parse_f64(a.at(at)).ok_or(Error::Text("ERR need numeric radius"))?;
        if radius < 0.0 {
            return Err(Error::Text("ERR radius cannot be negative"));
        }
        self.unit = parse_unit(a.at(at + 1))?;
        self.shape = Shape::Circle { radius };
        Ok(())
    }

    fn parse_box(&mut self, a: Args<'_>, at: usize) -> Result<(), Error> {
        let width = parse_f64(a.at(at)).ok_or(Error::Text("ERR need numeric width"))?;
        let height = parse_f64(a.at(at + 1)).ok_or(Error::Text("ERR need numeric height"))?;
        if height < 0.0 || width < 0.0 {
            return Err(Error::Text("ERR height or width cannot be negative"));
        }
        self.unit = parse_unit(a.at(at + 2))?;
        self.shape = Shape::Box { width, height };
        Ok(())
    }

    fn parse_options(&mut self, a: Args<'a>, first: usize, form: Form, set: Option<&SortedSet>) -> Result<(), Error> {
        let is_search = matches!(form, Form::Search | Form::SearchStore);
        let storable = matches!(form, Form::Radius { storable: true } | Form::RadiusByMember { storable: true });
        let (mut from_member, mut from_position, mut by_circle, mut by_box) = (false, false, false, false);
        let mut at = first;
        while at < a.len() {
            let more = a.len() - at - 1;
            if a.is(at, "withdist") {
                self.with_distance = true;
            } else if a.is(at, "withhash") {
                self.with_score = true;
            } else if a.is(at, "withcoord") {
                self.with_position = true;
            } else if a.is(at, "any") {
                self.any = true;
            } else if a.is(at, "asc") {
                self.order = Some(Direction::Ascending);
            } else if a.is(at, "desc") {
                self.order = Some(Direction::Descending);
            } else if a.is(at, "count") && more >= 1 {
                let count = parse_i64(a.at(at + 1)).ok_or(Error::NotInteger)?;
                self.count =
                    usize::try_from(count).ok().filter(|&count| count > 0).ok_or(Error::Text("ERR COUNT must be > 0"))?;
                at += 1;
            } else if storable && more >= 1 && (a.is(at, "store") || a.is(at, "storedist")) {
                self.store_distance = a.is(at, "storedist");
                self.target = a.get(at + 1);
                at += 1;
            } else if form == Form::SearchStore && a.is(at, "storedist") {
                self.store_distance = true;
            } else if is_search && a.is(at, "frommember") && more >= 1 && !from_position {
                if let Some(set) = set {
                    self.center = center_at(set, a.at(at + 1))?;
                }
                from_member = true;
                at += 1;
            } else if is_search && a.is(at, "fromlonlat") && more >= 2 && !from_member {
                self.center = parse_position(a, at + 1)?;
                from_position = true;
                at += 2;
            } else if is_search && a.is(at, "byradius") && more >= 2 && !by_box {
                self.parse_circle(a, at + 1)?;
                by_circle = true;
                at += 2;
            } else if is_search && a.is(at, "bybox") && more >= 3 && !by_circle {
                self.parse_box(a, at + 1)?;
                by_box = true;
                at += 3;
            } else {
                return Err(Error::Syntax);
            }
            at += 1;
        }
        if self.target.is_some() && (self.with_distance || self.with_score || self.with_position) {
            return Err(Error::Text(if form == Form::SearchStore {
                "ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            } else {
                "ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            }));
        }
        let name = || String::from_utf8_lossy(a.at(0));
        if is_search && !from_member && !from_position {
            return Err(Error::Owned(format!("ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {}", name())));
        }
        if is_search && !by_circle && !by_box {
            return Err(Error::Owned(format!("ERR exactly one of BYRADIUS and BYBOX can be specified for {}", name())));
        }
        if self.any && self.count == 0 {
            return Err(Error::Text("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }

    /// The members in the area: in the wanted order and number, unordered in the order of the cells and their scores.
    fn find<'s>(&self, set: &'s SortedSet) -> Vec<Point<'s>> {
        let enough = if self.any { self.count } else { usize::MAX };
        let mut found = Vec::new();
        for cell in self.shape.cells(self.center, self.unit) {
            let range = ScoreRange {
                min: cell.first_score() as f64,
                max: cell.end_score() as f64,
                min_excluded: false,
                max_excluded: true,
            };
            for (member, score) in set.range(set.score_ranks(&range), Direction::Ascending) {
                if found.len() >= enough {
                    break;
                }
                let position = Position::of_score(score);
                if let Some(distance) = self.shape.distance_within(self.center, self.unit, position) {
                    found.push(Point { member, score, position, distance });
                }
            }
        }
        // The nearest ones are wanted when only a number is given.
        let order = if self.count > 0 && !self.any { self.order.or(Some(Direction::Ascending)) } else { self.order };
        match order {
            Some(Direction::Ascending) => found.sort_by(|a, b| a.distance.total_cmp(&b.distance)),
            Some(Direction::Descending) => found.sort_by(|a, b| b.distance.total_cmp(&a.distance)),
            None => {}
        }
        if self.count > 0 {
            found.truncate(self.count);
        }
        found
    }

    fn reply(&self, found: &[Point<'_>], r: &mut Reply<'_>) {
        let details = [self.with_distance, self.with_score, self.with_position].into_iter().filter(|&with| with).count();
        r.array(found.len());
        for point in found {
            if details > 0 {
                r.array(details + 1);
            }
            write_member(r, point.member);
            if self.with_distance {
                write_distance(r, point.distance / self.unit);
            }
            if self.with_score {
                r.integer(point.score as i64);
            }
            if self.with_position {
                write_position(r, point.position);
            }
        }
    }
}

fn center_at(set: &SortedSet, member: &[u8]) -> Result<Position, Error> {
    set.score(member).map(Position::of_score).ok_or(Error::Text("ERR could not decode requested zset member"))
}
