//! The arithmetic of positions: 52-bit geohashes, the cells around an area, distances on the globe.
//!
//! Owns the constants and the order of every floating-point operation: results are bit for bit those of redis-server, so none of
//! the expressions may be rearranged. Longitudes and latitudes are degrees, distances metres.

use std::f64::consts::PI;

pub const LONGITUDE_MAX: f64 = 180.0;
/// Where the square Mercator map ends.
pub const LATITUDE_MAX: f64 = 85.051_128_78;
const EARTH_RADIUS: f64 = 6_372_797.560_856;
/// Half the circumference of the Mercator map.
const MERCATOR_MAX: f64 = 20_037_726.37;
/// Bits of each coordinate in a full geohash.
pub const STEPS_MAX: u32 = 26;

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Position {
    pub longitude: f64,
    pub latitude: f64,
}

impl Position {
    pub fn is_valid(self) -> bool {
        self.longitude.abs() <= LONGITUDE_MAX && self.latitude.abs() <= LATITUDE_MAX
    }

    /// The full geohash as a score.
    pub fn score(self) -> u64 {
        Cell::around(self, STEPS_MAX).first_score()
    }

    /// The middle of the smallest cell that a score denotes, whatever the score.
    pub fn of_score(score: f64) -> Self {
        let area = Cell { bits: c_unsigned(score), steps: STEPS_MAX }.area();
        let middle = |low: f64, high: f64, max: f64| ((low + high) / 2.0).clamp(-max, max);
        Position {
            longitude: middle(area.west, area.east, LONGITUDE_MAX),
            latitude: middle(area.south, area.north, LATITUDE_MAX),
        }
    }

    /// The standard geohash text: latitudes to 90 degrees, 11 characters of which the last is always 0.
    pub fn geohash(self) -> [u8; 11] {
        const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        let bits = Cell::in_range(self, STEPS_MAX, 90.0).bits;
        let mut text = [ALPHABET[0]; 11];
        for (i, letter) in text[..10].iter_mut().enumerate() {
            *letter = ALPHABET[(bits >> (52 - (i + 1) * 5) & 31) as usize];
        }
        text
    }

    /// Great-circle distance by the haversine formula.
    pub fn distance(self, other: Position) -> f64 {
        let v = ((radians(other.longitude) - radians(self.longitude)) / 2.0).sin();
        if v == 0.0 {
            return self.distance_of_latitudes(other);
        }
        let (first, second) = (radians(self.latitude), radians(other.latitude));
        let u = ((second - first) / 2.0).sin();
        let a = u * u + first.cos() * second.cos() * v * v;
        2.0 * EARTH_RADIUS * a.sqrt().asin()
    }

    fn distance_of_latitudes(self, other: Position) -> f64 {
        EARTH_RADIUS * (radians(other.latitude) - radians(self.latitude)).abs()
    }
}

fn radians(degrees: f64) -> f64 {
    degrees * (PI / 180.0)
}

fn degrees(radians: f64) -> f64 {
    radians / (PI / 180.0)
}

/// C's conversion of a double to an unsigned 64-bit integer as x86-64 compilers do it, also outside its range.
fn c_unsigned(value: f64) -> u64 {
    const HALF: f64 = 9_223_372_036_854_775_808.0;
    let signed = |value: f64| if value >= HALF { i64::MIN } else { value as i64 };
    if value >= HALF { signed(value - HALF) as u64 ^ 1 << 63 } else { signed(value) as u64 }
}

/// The area that is searched.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Shape {
    Circle { radius: f64 },
    Box { width: f64, height: f64 },
}

impl Shape {
    /// The distance of `point` from `center` if it lies inside. `unit` is the shape's unit in metres.
    pub fn distance_within(self, center: Position, unit: f64, point: Position) -> Option<f64> {
        match self {
            Shape::Circle { radius } => {
                let distance = center.distance(point);
                (distance <= radius * unit).then_some(distance)
            }
            Shape::Box { width, height } => {
                if point.distance_of_latitudes(center) > height * unit / 2.0 {
                    return None;
                }
                let beside = Position { longitude: center.longitude, latitude: point.latitude };
                (point.distance(beside) <= width * unit / 2.0).then(|| center.distance(point))
            }
        }
    }

    /// Metres from the center to the farthest point.
    fn reach(self, unit: f64) -> f64 {
        unit * match self {
            Shape::Circle { radius } => radius,
            Shape::Box { width, height } => ((width / 2.0) * (width / 2.0) + (height / 2.0) * (height / 2.0)).sqrt(),
        }
    }

    fn bounds(self, center: Position, unit: f64) -> Area {
        let (width, height) = match self {
            Shape::Circle { radius } => (unit * radius, unit * radius),
            Shape::Box { width, height } => (unit * (width / 2.0), unit * (height / 2.0)),
        };
        let up = degrees(height / EARTH_RADIUS);
        // The edge nearer to a pole spans more degrees.
        let edge = if center.latitude < 0.0 { center.latitude - up } else { center.latitude + up };
        let aside = degrees(width / EARTH_RADIUS / radians(edge).cos());
        Area {
            west: center.longitude - aside,
            east: center.longitude + aside,
            south: center.latitude - up,
            north: center.latitude + up,
        }
    }

    /// The cell of the center and those around it that may hold points of the shape, in the order in which they are searched.
    pub fn cells(self, center: Position, unit: f64) -> Vec<Cell> {
        let bounds = self.bounds(center, unit);
        let mut cell = Cell::around(center, steps_for(self.reach(unit), center.latitude));
        let too_small = cell.moved(0, 1).area().north < bounds.north
            || cell.moved(0, -1).area().south > bounds.south
            || cell.moved(1, 0).area().east < bounds.east
            || cell.moved(-1, 0).area().west > bounds.west;
        if cell.steps > 1 && too_small {
            cell = Cell::around(center, cell.steps - 1);
        }
        let area = cell.area();
        let prune = cell.steps >= 2;
        let needless = |east: i32, north: i32| {
            prune
                && ((north < 0 && area.south < bounds.south)
                    || (north > 0 && area.north > bounds.north)
                    || (east < 0 && area.west < bounds.west)
                    || (east > 0 && area.east > bounds.east))
        };
        const ORDER: [(i32, i32); 9] = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
        let mut cells: Vec<Cell> = Vec::with_capacity(ORDER.len());
        // Round the whole globe, neighbours may be the same cell; the center's cell is not compared with the one after it.
        let mut last = None;
        for (index, (east, north)) in ORDER.into_iter().enumerate() {
            let next = cell.moved(east, north);
            if needless(east, north) || last == Some(next) {
                continue;
            }
            cells.push(next);
            last = (index > 0).then_some(next);
        }
        cells
    }
}

/// How many steps make cells about as large as the reach.
fn steps_for(reach: f64, latitude: f64) -> u32 {
    if reach == 0.0 {
        return STEPS_MAX;
    }
    let (mut steps, mut reach) = (1i32, reach);
    while reach < MERCATOR_MAX {
        reach *= 2.0;
        steps += 1;
    }
    steps -= 2;
    if latitude.abs() > 66.0 {
        steps -= 1;
        if latitude.abs() > 80.0 {
            steps -= 1;
        }
    }
    steps.clamp(1, STEPS_MAX as i32) as u32
}

/// A rectangle of degrees.
#[derive(Clone, Copy, Debug)]
struct Area {
    west: f64,
    east: f64,
    south: f64,
    north: f64,
}

/// A geohash of `steps` bits for each coordinate: latitude in the even bits, longitude in the odd ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cell {
    bits: u64,
    steps: u32,
}

const LATITUDE_BITS: u64 = 0x5555_5555_5555_5555;
const LONGITUDE_BITS: u64 = !LATITUDE_BITS;

impl Cell {
    fn around(position: Position, steps: u32) -> Self {
        Self::in_range(position, steps, LATITUDE_MAX)
    }

    fn in_range(position: Position, steps: u32, latitude_max: f64) -> Self {
        let scale = (1u64 << steps) as f64;
        let fixed = |degrees: f64, max: f64| ((degrees - -max) / (max - -max) * scale) as u32;
        let (latitude, longitude) = (fixed(position.latitude, latitude_max), fixed(position.longitude, LONGITUDE_MAX));
        Cell { bits: spread(latitude) | spread(longitude) << 1, steps }
    }

    fn area(self) -> Area {
        let (latitude, longitude) = (squeeze(self.bits), squeeze(self.bits >> 1));
        let scale = (1u64 << self.steps) as f64;
        let degrees = |part: u32, max: f64| -max + f64::from(part) / scale * (max - -max);
        Area {
            south: degrees(latitude, LATITUDE_MAX),
            north: degrees(latitude.wrapping_add(1), LATITUDE_MAX),
            west: degrees(longitude, LONGITUDE_MAX),
            east: degrees(longitude.wrapping_add(1), LONGITUDE_MAX),
        }
    }

    /// The cell so many places to the east and to the north, around the edges of the map.
    fn moved(self, east: i32, north: i32) -> Self {
        let used = u64::MAX >> (64 - 2 * self.steps);
        // With the other coordinate's bits set, a carry or a borrow runs through them.
        let step = |own: u64, by: i32| {
            let (bits, others) = (self.bits & own, !own & used);
            let moved = match by {
                0 => return bits,
                1.. => bits.wrapping_add(others + 1),
                _ => (bits | others).wrapping_sub(others + 1),
            };
            moved & own & used
        };
        Cell { bits: step(LONGITUDE_BITS, east) | step(LATITUDE_BITS, north), steps: self.steps }
    }

    /// The least score in the cell.
    pub fn first_score(self) -> u64 {
        self.bits << (52 - 2 * self.steps)
    }

    /// The least score behind the cell.
    pub fn end_score(self) -> u64 {
        (self.bits + 1) << (52 - 2 * self.steps)
    }
}

/// Puts the bits of a word into the even places.
fn spread(word: u32) -> u64 {
    let mut bits = u64::from(word);
    for (shift, mask) in [
        (16, 0x0000_FFFF_0000_FFFF),
        (8, 0x00FF_00FF_00FF_00FF),
        (4, 0x0F0F_0F0F_0F0F_0F0F),
        (2, 0x3333_3333_3333_3333),
        (1, LATITUDE_BITS),
    ] {
        bits = (bits | bits << shift) & mask;
    }
    bits
}

/// Collects the even bits.
fn squeeze(bits: u64) -> u32 {
    let mut bits = bits & LATITUDE_BITS;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0F0F_0F0F_0F0F_0F0F),
        (4, 0x00FF_00FF_00FF_00FF),
        (8, 0x0000_FFFF_0000_FFFF),
        (16, 0x0000_0000_FFFF_FFFF),
    ] {
        bits = (bits | bits >> shift) & mask;
    }
    bits as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_positions() {
        let palermo = Position { longitude: 13.361389, latitude: 38.115556 };
        let catania = Position { longitude: 15.087269, latitude: 37.502669 };
        assert_eq!((palermo.score(), catania.score()), (3479099956230698, 3479447370796909));
        let back = Position::of_score(3479099956230698.0);
        assert_eq!((back.longitude, back.latitude), (13.361389338970184, 38.1155563954963));
        assert_eq!(&back.geohash(), b"sqc8b49rny0");
        let distance = back.distance(Position::of_score(3479447370796909.0));
        assert_eq!(format!("{distance:.4}"), "166274.1516");
    }

    #[test]
    fn moves_wrap_around_the_map() {
        let corner = Cell { bits: 0, steps: 3 };
        assert_eq!(corner.moved(-1, 0).moved(1, 0), corner);
        assert_eq!(corner.moved(0, -1).moved(0, 1), corner);
        assert_eq!(corner.moved(1, 1).bits, 0b11);
        assert_eq!(corner.moved(-1, -1).bits, 0b11_1111);
        for word in [0, 1, 0xFFFF_FFFF, 0x1234_5678] {
            assert_eq!(squeeze(spread(word)), word);
        }
    }
}
