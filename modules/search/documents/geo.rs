//! Positions on the earth: GEO fields, and the circles that queries ask for.
//!
//! A position is stored as Redis stores it: a cell of 2^-26 of the longitudes and of the latitudes, as one
//! number whose bits are those of both in turn. Cells whose numbers begin with the same bits form a square,
//! so that a circle is covered by a few ranges of numbers, and positions are pairs of number and document
//! like the values of a NUMERIC field. A position has the distance of its cell's centre, as in RediSearch,
//! which is off by less than a metre.
//!
//! The earth is a sphere; distances are great circles (the haversine formula, with Redis's radius). Circles
//! around a pole or across the 180th meridian contain what is in them: RediSearch 2.10.5 misses some of it.

use super::postings::{NumberPostings, PositionWalk};
use crate::error::{Kind, SearchError};
use engramdb_engine::types::parse_double;
use std::f64::consts::PI;

const LONGITUDE_MAX: f64 = 180.0;
/// The bound of Mercator's projection, which Redis keeps positions in.
const LATITUDE_MAX: f64 = 85.051_128_78;
/// Bits of a cell's number in each direction.
const BITS: u32 = 26;
/// Metres.
const EARTH_RADIUS: f64 = 6_372_797.560_856;

/// The most ranges of numbers that cover a circle. More are narrower and find fewer positions outside of it.
const RANGES_MAX: usize = 48;

/// A place in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    pub longitude: f64,
    pub latitude: f64,
}

/// A unit of distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeoUnit {
    Metres,
    Kilometres,
    Feet,
    Miles,
}

/// All places within a radius.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GeoCircle {
    pub centre: Position,
    /// In `unit`; above 0.
    pub radius: f64,
    pub unit: GeoUnit,
}

impl GeoUnit {
    pub fn read(name: &[u8]) -> Option<GeoUnit> {
        let all = [GeoUnit::Metres, GeoUnit::Kilometres, GeoUnit::Feet, GeoUnit::Miles];
        all.into_iter().find(|unit| unit.name().as_bytes().eq_ignore_ascii_case(name))
    }

    pub fn name(self) -> &'static str {
        match self {
            GeoUnit::Metres => "m",
            GeoUnit::Kilometres => "km",
            GeoUnit::Feet => "ft",
            GeoUnit::Miles => "mi",
        }
    }

    fn metres(self) -> f64 {
        match self {
            GeoUnit::Metres => 1.0,
            GeoUnit::Kilometres => 1_000.0,
            GeoUnit::Feet => 0.3048,
            GeoUnit::Miles => 1_609.34,
        }
    }
}

impl Position {
    /// Reads `longitude,latitude`, in degrees; the comma may be a space.
    pub fn read(bytes: &[u8]) -> Result<Position, SearchError> {
        let comma = bytes.iter().position(|byte| b", ".contains(byte));
        let degrees = comma.and_then(|comma| {
            let (longitude, latitude) = (&bytes[..comma], bytes[comma + 1..].trim_ascii_start());
            Some((parse_double(longitude)?, parse_double(latitude)?))
        });
        let (longitude, latitude) = degrees.ok_or(Kind::BadGeo.error())?;
        if longitude.abs() > LONGITUDE_MAX || latitude.abs() > LATITUDE_MAX {
            let [longitude, latitude] = [longitude, latitude].map(|degrees| format!("{degrees:.6}").into());
            return Err(Kind::GeoOutside.with([longitude, latitude]));
        }
        Ok(Position { longitude, latitude })
    }

    /// The number of its cell.
    pub fn cell(self) -> f64 {
        let [x, y] = self.place();
        // 52 bits are exact in a double.
        (spread(x) << 1 | spread(y)) as f64
    }

    /// The centre of a cell.
    pub fn of_cell(cell: f64) -> Position {
        let cell = cell as u64;
        let degrees =
            |place: u32, most: f64| ((f64::from(place) + 0.5) / f64::from(1u32 << BITS) * 2.0 - 1.0) * most;
        Position {
            longitude: degrees(gathered(cell >> 1), LONGITUDE_MAX),
            latitude: degrees(gathered(cell), LATITUDE_MAX),
        }
    }

    /// The column and row of its cell, from the west and from the south.
    fn place(self) -> [u32; 2] {
        [(self.longitude, LONGITUDE_MAX), (self.latitude, LATITUDE_MAX)].map(|(degrees, most)| {
            // Casting takes what is beyond the bounds to the nearest cell.
            ((degrees / most + 1.0) / 2.0 * f64::from(1u32 << BITS)).min(f64::from((1u32 << BITS) - 1)) as u32
        })
    }

    /// The distance in metres.
    pub fn distance(self, other: Position) -> f64 {
        let [here, there] = [self.latitude, other.latitude].map(f64::to_radians);
        let u = ((there - here) / 2.0).sin();
        let v = ((other.longitude - self.longitude).to_radians() / 2.0).sin();
        2.0 * EARTH_RADIUS * (u * u + here.cos() * there.cos() * v * v).sqrt().min(1.0).asin()
    }
}

/// The bits of a number at every second place.
fn spread(number: u32) -> u64 {
    let mut bits = u64::from(number);
    for (shift, mask) in [
        (16, 0x0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (2, 0x3333_3333_3333_3333),
        (1, 0x5555_5555_5555_5555),
    ] {
        bits = (bits | bits << shift) & mask;
    }
    bits
}

/// The reverse of `spread`, which ignores the bits between.
fn gathered(bits: u64) -> u32 {
    let mut bits = bits & 0x5555_5555_5555_5555;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0f0f_0f0f_0f0f_0f0f),
        (4, 0x00ff_00ff_00ff_00ff),
        (8, 0x0000_ffff_0000_ffff),
        (16, 0x0000_0000_ffff_ffff),
    ] {
        bits = (bits | bits >> shift) & mask;
    }
    bits as u32
}

impl GeoCircle {
    /// Checks the values of a query, in RediSearch's order.
    pub fn new(centre: Position, radius: f64, unit: GeoUnit) -> Result<GeoCircle, SearchError> {
        // Not a number is no place.
        let is_place = centre.longitude.abs() <= 180.0 && centre.latitude.abs() <= 90.0;
        if !is_place {
            return Err(Kind::GeoFilterPlace.error());
        }
        if radius.is_nan() || radius <= 0.0 {
            return Err(Kind::GeoFilterRadius.error());
        }
        Ok(GeoCircle { centre, radius, unit })
    }

    fn metres(&self) -> f64 {
        self.radius * self.unit.metres()
    }

    /// Whether the position of a cell is inside.
    pub fn contains(&self, cell: f64) -> bool {
        self.centre.distance(Position::of_cell(cell)) <= self.metres()
    }

    /// Ranges of cells, first and last, in order, that cover the circle.
    fn ranges(&self) -> Vec<(f64, f64)> {
        let boxes = self.boxes();
        let (mut squares, mut whole) = (vec![Square { x: 0, y: 0, bits: BITS }], Vec::new());
        while !squares.is_empty() && 4 * squares.len() + whole.len() <= RANGES_MAX {
            let quarters = squares.iter().flat_map(|square| square.quarters());
            let met: Vec<Square> =
                quarters.filter(|square| boxes.iter().any(|it| it.meets(square))).collect();
            squares.clear();
            for square in met {
                let is_whole = square.bits == 0 || boxes.iter().any(|it| it.has(&square));
                if is_whole { &mut whole } else { &mut squares }.push(square);
            }
        }
        whole.append(&mut squares);
        let mut ranges: Vec<(u64, u64)> = whole.iter().map(Square::cells).collect();
        ranges.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (first, last) in ranges {
            match joined.last_mut() {
                Some(before) if before.1 + 1 == first => before.1 = last,
                _ => joined.push((first, last)),
            }
        }
        joined.into_iter().map(|(first, last)| (first as f64, last as f64)).collect()
    }

    /// One box of cells around the circle, or two if it crosses the 180th meridian.
    fn boxes(&self) -> Vec<CellBox> {
        let Position { longitude, latitude } = self.centre;
        // A little more than the circle: what is outside is found by its distance.
        let angle = (self.metres() / EARTH_RADIUS) * (1.0 + 1e-9) + 1e-9;
        let (south, north) = (latitude - angle.to_degrees(), latitude + angle.to_degrees());
        let has_pole = angle >= PI / 2.0 || south <= -90.0 || north >= 90.0;
        let half = if has_pole {
            LONGITUDE_MAX
        } else {
            (angle.sin() / latitude.to_radians().cos()).min(1.0).asin().to_degrees() + 1e-6
        };
        let (west, east) = (longitude - half, longitude + half);
        let between = |west: f64, east: f64| {
            let corner = |longitude, latitude| Position { longitude, latitude }.place();
            CellBox { least: corner(west, south), most: corner(east, north) }
        };
        match () {
            () if half >= LONGITUDE_MAX => vec![between(-LONGITUDE_MAX, LONGITUDE_MAX)],
            () if west < -LONGITUDE_MAX => {
                vec![between(-LONGITUDE_MAX, east), between(west + 2.0 * LONGITUDE_MAX, LONGITUDE_MAX)]
            }
            () if east > LONGITUDE_MAX => {
                vec![between(west, LONGITUDE_MAX), between(-LONGITUDE_MAX, east - 2.0 * LONGITUDE_MAX)]
            }
            () => vec![between(west, east)],
        }
    }
}

/// Columns and rows of cells, both ends included.
struct CellBox {
    least: [u32; 2],
    most: [u32; 2],
}

/// 2^bits columns and rows of cells, whose numbers follow each other.
struct Square {
    x: u32,
    y: u32,
    bits: u32,
}

impl Square {
    fn ends(&self) -> ([u32; 2], [u32; 2]) {
        let more = (1 << self.bits) - 1;
        ([self.x, self.y], [self.x + more, self.y + more])
    }

    fn quarters(&self) -> impl Iterator<Item = Square> + use<> {
        let Square { x, y, bits } = *self;
        let half = 1 << (bits - 1);
        let corners = [(x, y), (x, y + half), (x + half, y), (x + half, y + half)];
        corners.into_iter().map(move |(x, y)| Square { x, y, bits: bits - 1 })
    }

    fn cells(&self) -> (u64, u64) {
        let first = spread(self.x) << 1 | spread(self.y);
        (first, first + ((1 << (2 * self.bits)) - 1))
    }
}

impl CellBox {
    fn meets(&self, square: &Square) -> bool {
        let (least, most) = square.ends();
        (0..2).all(|side| least[side] <= self.most[side] && most[side] >= self.least[side])
    }

    fn has(&self, square: &Square) -> bool {
        let (least, most) = square.ends();
        (0..2).all(|side| least[side] >= self.least[side] && most[side] <= self.most[side])
    }
}

/// A walk over the positions in a circle, which may change between two steps. A changed document may occur
/// twice.
pub struct GeoWalk {
    circle: GeoCircle,
    /// What is left, the next one last.
    ranges: Vec<(f64, f64)>,
    walk: PositionWalk,
    pub documents: Vec<u32>,
}

impl GeoWalk {
    pub fn new(circle: GeoCircle) -> GeoWalk {
        let mut ranges = circle.ranges();
        ranges.reverse();
        GeoWalk { circle, ranges, walk: PositionWalk::default(), documents: Vec::new() }
    }

    /// Continues until `work` units are used up. True at the end of the walk.
    pub fn step(&mut self, positions: &NumberPostings, work: &mut usize) -> bool {
        while let Some(&range) = self.ranges.last() {
            let (circle, documents) = (&self.circle, &mut self.documents);
            let is_end = positions.visit(&mut self.walk, range, work, |cell, document| {
                if circle.contains(cell) {
                    documents.push(document);
                }
            });
            if !is_end {
                return false;
            }
            self.ranges.pop();
            self.walk = PositionWalk::default();
        }
        true
    }
}

#[cfg(test)]
mod tests;
