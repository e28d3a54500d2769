//! Positions as scores: 26 bits of the latitude and 26 of the longitude, interleaved (Morton, 1966;
//! Niemeyer's geohash, 2008), over the ranges of Web Mercator. These are the scores of Redis.

/// The bits of a coordinate in a score.
pub const STEP_MAX: u32 = 26;

pub const LONGITUDE_MAX: f64 = 180.0;
/// Where Web Mercator's map is square (EPSG:3857).
pub const LATITUDE_MAX: f64 = 85.051_128_78;

const EVEN_BITS: u64 = 0x5555_5555_5555_5555;
const ODD_BITS: u64 = 0xAAAA_AAAA_AAAA_AAAA;

/// A position in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GeoPosition {
    pub longitude: f64,
    pub latitude: f64,
}

/// A cell of the grid with 2^step columns and rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GridCell {
    pub bits: u64,
    pub step: u32,
}

/// The edges of a cell, in degrees.
pub struct CellEdges {
    pub west: f64,
    pub east: f64,
    pub south: f64,
    pub north: f64,
}

impl GeoPosition {
    /// True if the grid has it.
    pub fn is_on_grid(self) -> bool {
        (-LONGITUDE_MAX..=LONGITUDE_MAX).contains(&self.longitude)
            && (-LATITUDE_MAX..=LATITUDE_MAX).contains(&self.latitude)
    }

    /// The score of a position on the grid.
    pub fn score(self) -> f64 {
        GridCell::of(self, STEP_MAX, LATITUDE_MAX).bits as f64
    }

    /// The centre of a score's cell.
    pub fn of_score(score: f64) -> GeoPosition {
        let edges = GridCell { bits: score as u64, step: STEP_MAX }.edges();
        let middle = |low: f64, high: f64, bound: f64| ((low + high) / 2.0).clamp(-bound, bound);
        GeoPosition {
            longitude: middle(edges.west, edges.east, LONGITUDE_MAX),
            latitude: middle(edges.south, edges.north, LATITUDE_MAX),
        }
    }

    /// The eleven characters of the standard geohash, whose latitudes reach the poles. It has 52 bits, so the
    /// last character is always the first of the alphabet.
    pub fn geohash(self) -> [u8; 11] {
        const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        const LATITUDE_OF_POLE: f64 = 90.0;
        let bits = GridCell::of(self, STEP_MAX, LATITUDE_OF_POLE).bits;
        let mut text = [ALPHABET[0]; 11];
        for (at, character) in text.iter_mut().take(10).enumerate() {
            *character = ALPHABET[(bits >> (52 - (at + 1) * 5)) as usize & 31];
        }
        text
    }
}

impl GridCell {
    /// The cell of a position, in a grid of latitudes up to `latitude_max`.
    pub fn of(position: GeoPosition, step: u32, latitude_max: f64) -> GridCell {
        let cells = (1u64 << step) as f64;
        let place = |value: f64, max: f64| ((value + max) / (2.0 * max) * cells) as u32;
        let latitude = spread(place(position.latitude, latitude_max));
        let longitude = spread(place(position.longitude, LONGITUDE_MAX));
        GridCell { bits: latitude | longitude << 1, step }
    }

    pub fn edges(self) -> CellEdges {
        let cells = (1u64 << self.step) as f64;
        let edge = |place: u64, max: f64| -max + (place as f64 / cells) * (2.0 * max);
        let (latitude, longitude) = (gather(self.bits), gather(self.bits >> 1));
        CellEdges {
            west: edge(longitude, LONGITUDE_MAX),
            east: edge(longitude + 1, LONGITUDE_MAX),
            south: edge(latitude, LATITUDE_MAX),
            north: edge(latitude + 1, LATITUDE_MAX),
        }
    }

    /// The cell that many columns east and rows north; the grid wraps around.
    pub fn moved(self, columns: i64, rows: i64) -> GridCell {
        let mask = u64::MAX >> (64 - self.step * 2);
        let (longitude, latitude) = (ODD_BITS & mask, EVEN_BITS & mask);
        // A carry passes the bits of the other coordinate where these are set, a borrow where they are not.
        let step = |bits: u64, own: u64, by: i64| {
            let moved = match by {
                1 => (bits & own | !own).wrapping_add(1),
                -1 => (bits & own).wrapping_sub(own & own.wrapping_neg()),
                _ => bits,
            };
            moved & own
        };
        GridCell { bits: step(self.bits, longitude, columns) | step(self.bits, latitude, rows), ..self }
    }

    /// The scores of the cell's positions: from the first to below the second.
    pub fn scores(self) -> (f64, f64) {
        let shift = 2 * (STEP_MAX - self.step);
        ((self.bits << shift) as f64, ((self.bits + 1) << shift) as f64)
    }
}

/// Puts the bits of a number at the even places.
fn spread(number: u32) -> u64 {
    let steps = [
        (16, 0x0000_FFFF_0000_FFFF),
        (8, 0x00FF_00FF_00FF_00FF),
        (4, 0x0F0F_0F0F_0F0F_0F0F),
        (2, 0x3333_3333_3333_3333),
        (1, EVEN_BITS),
    ];
    steps.into_iter().fold(u64::from(number), |bits, (shift, mask)| (bits | bits << shift) & mask)
}

/// Takes the bits from the even places.
fn gather(bits: u64) -> u64 {
    let steps = [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0F0F_0F0F_0F0F_0F0F),
        (4, 0x00FF_00FF_00FF_00FF),
        (8, 0x0000_FFFF_0000_FFFF),
        (16, 0x0000_0000_FFFF_FFFF),
    ];
    steps.into_iter().fold(bits & EVEN_BITS, |bits, (shift, mask)| (bits | bits >> shift) & mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PALERMO: GeoPosition = GeoPosition { longitude: 13.361389, latitude: 38.115556 };

    #[test]
    fn scores_are_those_of_redis() {
        assert_eq!(PALERMO.score(), 3_479_099_956_230_698.0);
        assert_eq!(&PALERMO.geohash(), b"sqc8b49rny0");
        let back = GeoPosition::of_score(PALERMO.score());
        assert_eq!((back.longitude, back.latitude), (13.361_389_338_970_184, 38.115_556_395_496_3));
    }

    #[test]
    fn a_cell_moves_to_its_neighbours_and_back() {
        for step in [1, 2, 5, 13, 26] {
            let cell = GridCell::of(PALERMO, step, LATITUDE_MAX);
            for (columns, rows) in [(1, 0), (0, 1), (1, 1), (-1, 1), (0, 0)] {
                let moved = cell.moved(columns, rows);
                assert_eq!(moved.moved(-columns, -rows), cell);
                assert!(moved.bits < 1 << (2 * step));
            }
            let (east, edges) = (cell.moved(1, 0).edges(), cell.edges());
            assert!(step == 1 || east.west == edges.east && east.south == edges.south);
        }
        assert_eq!(GridCell { bits: 3, step: 1 }.moved(1, 0).bits, 1, "it wraps around");
    }

    #[test]
    fn bits_spread_and_gather() {
        for number in [0, 1, 0xFFFF_FFFF, 0x1234_5678] {
            assert_eq!(gather(spread(number)), u64::from(number));
        }
    }
}
