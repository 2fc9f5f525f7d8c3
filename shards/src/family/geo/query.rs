//! A search for members in an area: reading its arguments, finding, and replying.
//!
//! The cells that cover the area are ranges of scores; each is walked, and its members are measured.

use super::geohash::{Position, Shape};
use super::{parse_position, parse_unit, write_distance, write_position};
use crate::command::Args;
use crate::error::Error;
use crate::family::sorted_set::write_member;
use crate::number::{parse_f64, parse_i64};
use crate::reply::Reply;
use crate::value::SortedSet;
use crate::value::item::Item;
use crate::value::sorted_set::{Direction, ScoreRange};

/// What a command's name says about its arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// GEORADIUS: the center and the radius stand at fixed places.
    Radius { storable: bool },
    /// GEORADIUSBYMEMBER
    RadiusByMember { storable: bool },
    /// GEOSEARCH
    Search,
    /// GEOSEARCHSTORE
    SearchStore,
}

/// A member inside the area.
pub struct Point<'s> {
    pub member: Item<'s>,
    pub score: f64,
    position: Position,
    /// Metres.
    pub distance: f64,
}

pub struct Query<'a> {
    center: Position,
    shape: Shape,
    /// Of the shape and of the distances shown, in metres.
    pub unit: f64,
    order: Option<Direction>,
    /// 0: all.
    count: usize,
    /// Any `count` members will do.
    any: bool,
    with_distance: bool,
    with_score: bool,
    with_position: bool,
    pub target: Option<&'a [u8]>,
    pub store_distance: bool,
}

impl<'a> Query<'a> {
    pub fn parse(a: Args<'a>, form: Form, set: Option<&SortedSet>) -> Result<Self, Error> {
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
    pub fn find<'s>(&self, set: &'s SortedSet) -> Vec<Point<'s>> {
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

    pub fn reply(&self, found: &[Point<'_>], r: &mut Reply<'_>) {
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
