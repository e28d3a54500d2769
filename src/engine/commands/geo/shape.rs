//! Areas of searches, and distances on a sphere.

use super::hash::{GeoPosition, GridCell, LATITUDE_MAX, STEP_MAX};

/// In metres, as Redis has it.
const EARTH_RADIUS: f64 = 6_372_797.560856;
/// Half the width of Web Mercator's map, in metres.
const MERCATOR_MAX: f64 = 20_037_726.37;

/// What a search covers, with sizes in metres.
#[derive(Clone, Debug)]
pub enum GeoShape {
    Circle {
        center: GeoPosition,
        radius: f64,
    },
    Box {
        center: GeoPosition,
        width: f64,
        height: f64,
    },
    /// Distances are from the centroid.
    Polygon {
        centroid: GeoPosition,
        vertices: Vec<GeoPosition>,
    },
}

/// West, south, east and north, in degrees.
struct Bounds {
    west: f64,
    south: f64,
    east: f64,
    north: f64,
}

/// The distance of two positions along a great circle, in metres (haversine formula).
pub fn distance(one: GeoPosition, other: GeoPosition) -> f64 {
    let half = |from: f64, to: f64| ((to.to_radians() - from.to_radians()) / 2.0).sin();
    let by_longitude = half(one.longitude, other.longitude);
    if by_longitude == 0.0 {
        return latitude_distance(one.latitude, other.latitude);
    }
    let by_latitude = half(one.latitude, other.latitude);
    let cosines = one.latitude.to_radians().cos() * other.latitude.to_radians().cos();
    let square = by_latitude * by_latitude + cosines * by_longitude * by_longitude;
    // Rounding can make it more than 1, of which there is no arcsine.
    2.0 * EARTH_RADIUS * square.sqrt().min(1.0).asin()
}

fn latitude_distance(one: f64, other: f64) -> f64 {
    EARTH_RADIUS * (other.to_radians() - one.to_radians()).abs()
}

impl GeoShape {
    pub fn polygon(vertices: Vec<GeoPosition>) -> GeoShape {
        // The mean of the vertices as vectors, seen from the centre of the sphere.
        let mean = |part: &dyn Fn(f64, f64) -> f64| {
            let parts = vertices.iter().map(|at| part(at.longitude.to_radians(), at.latitude.to_radians()));
            parts.sum::<f64>() / vertices.len() as f64
        };
        let x = mean(&|longitude, latitude| latitude.cos() * longitude.cos());
        let y = mean(&|longitude, latitude| latitude.cos() * longitude.sin());
        let z = mean(&|_, latitude| latitude.sin());
        let centroid = GeoPosition {
            longitude: y.atan2(x).to_degrees(),
            latitude: z.atan2((x * x + y * y).sqrt()).to_degrees(),
        };
        GeoShape::Polygon { centroid, vertices }
    }

    fn center(&self) -> GeoPosition {
        match self {
            GeoShape::Circle { center, .. } | GeoShape::Box { center, .. } => *center,
            GeoShape::Polygon { centroid, .. } => *centroid,
        }
    }

    /// The distance from the centre, if the position is within the shape.
    pub fn contains(&self, position: GeoPosition) -> Option<f64> {
        match self {
            GeoShape::Circle { center, radius } => {
                Some(distance(*center, position)).filter(|distance| distance <= radius)
            }
            GeoShape::Box { center, width, height } => {
                let beside = GeoPosition { longitude: center.longitude, latitude: position.latitude };
                let is_inside = latitude_distance(position.latitude, center.latitude) <= height / 2.0
                    && distance(position, beside) <= width / 2.0;
                is_inside.then(|| distance(*center, position))
            }
            GeoShape::Polygon { centroid, vertices } => {
                is_within(vertices, position).then(|| distance(*centroid, position))
            }
        }
    }

    fn bounds(&self) -> Bounds {
        let center = self.center();
        let (half_width, half_height) = match self {
            GeoShape::Circle { radius, .. } => (*radius, *radius),
            GeoShape::Box { width, height, .. } => (width / 2.0, height / 2.0),
            GeoShape::Polygon { vertices, .. } => return bounds_of(vertices),
        };
        let by_latitude = (half_height / EARTH_RADIUS).to_degrees();
        // A degree of longitude is shortest at the side that is nearer to a pole.
        let nearest = center.latitude + if center.latitude < 0.0 { -by_latitude } else { by_latitude };
        let by_longitude = (half_width / EARTH_RADIUS / nearest.to_radians().cos()).to_degrees();
        Bounds {
            west: center.longitude - by_longitude,
            south: center.latitude - by_latitude,
            east: center.longitude + by_longitude,
            north: center.latitude + by_latitude,
        }
    }

    /// How far the shape reaches from its centre, in metres.
    fn reach(&self) -> f64 {
        match self {
            GeoShape::Circle { radius, .. } => *radius,
            GeoShape::Box { width, height, .. } => {
                ((width / 2.0) * (width / 2.0) + (height / 2.0) * (height / 2.0)).sqrt()
            }
            GeoShape::Polygon { centroid, vertices } => {
                vertices.iter().map(|vertex| distance(*centroid, *vertex)).fold(0.0, f64::max)
            }
        }
    }

    /// Cells that cover the shape: the one of its centre and those around it, in the order of a search.
    pub fn cells(&self) -> Vec<GridCell> {
        const AROUND: [(i64, i64); 8] =
            [(0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
        let (center, bounds) = (self.center(), self.bounds());
        let mut step = step_for(self.reach(), center.latitude);
        let mut cell = GridCell::of(center, step, LATITUDE_MAX);
        let reaches = cell.moved(0, 1).edges().north >= bounds.north
            && cell.moved(0, -1).edges().south <= bounds.south
            && cell.moved(1, 0).edges().east >= bounds.east
            && cell.moved(-1, 0).edges().west <= bounds.west;
        if step > 1 && !reaches {
            step -= 1;
            cell = GridCell::of(center, step, LATITUDE_MAX);
        }
        let edges = cell.edges();
        let is_needed = |(columns, rows): &(i64, i64)| {
            step < 2
                || !(*rows < 0 && edges.south < bounds.south
                    || *rows > 0 && edges.north > bounds.north
                    || *columns < 0 && edges.west < bounds.west
                    || *columns > 0 && edges.east > bounds.east)
        };
        let mut cells = vec![cell];
        for (columns, rows) in AROUND.into_iter().filter(is_needed) {
            let cell = cell.moved(columns, rows);
            // In a coarse grid, neighbours can be the same cell.
            if cells.last() != Some(&cell) {
                cells.push(cell);
            }
        }
        cells
    }
}

/// The step of a grid in which a cell and its neighbours cover this range.
fn step_for(range: f64, latitude: f64) -> u32 {
    if range == 0.0 {
        return STEP_MAX;
    }
    let (mut range, mut step) = (range, 1i32);
    while range < MERCATOR_MAX {
        range *= 2.0;
        step += 1;
    }
    step -= 2;
    // Cells are narrower towards the poles.
    step -= i32::from(latitude.abs() > 66.0) + i32::from(latitude.abs() > 80.0);
    step.clamp(1, STEP_MAX as i32) as u32
}

fn bounds_of(vertices: &[GeoPosition]) -> Bounds {
    let mut bounds = Bounds { west: f64::MAX, south: f64::MAX, east: f64::MIN, north: f64::MIN };
    for vertex in vertices {
        bounds.west = bounds.west.min(vertex.longitude);
        bounds.east = bounds.east.max(vertex.longitude);
        bounds.south = bounds.south.min(vertex.latitude);
        bounds.north = bounds.north.max(vertex.latitude);
    }
    bounds
}

/// Whether a ray from the position crosses the polygon's edges an odd number of times (Shimrat, 1962).
fn is_within(vertices: &[GeoPosition], position: GeoPosition) -> bool {
    let before = vertices.iter().cycle().skip(vertices.len() - 1);
    let crossings = vertices.iter().zip(before).filter(|(one, other)| {
        let spans = (one.latitude > position.latitude) != (other.latitude > position.latitude);
        let slope = (other.longitude - one.longitude) / (other.latitude - one.latitude);
        spans && position.longitude < slope * (position.latitude - one.latitude) + one.longitude
    });
    crossings.count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_redis() {
        let palermo = GeoPosition::of_score(3_479_099_956_230_698.0);
        let catania = GeoPosition::of_score(3_479_447_370_796_909.0);
        assert_eq!(format!("{:.4}", distance(palermo, catania)), "166274.1516");
        assert_eq!(distance(palermo, palermo), 0.0);
    }

    #[test]
    fn cells_cover_their_shape() {
        for latitude in [-84.0, -70.0, 0.0, 33.0, 81.0] {
            for reach in [0.0, 1.0, 5e3, 2e5, 3e6, 3e7] {
                let center = GeoPosition { longitude: 12.0, latitude };
                let cells = GeoShape::Circle { center, radius: reach }.cells();
                assert!(!cells.is_empty() && cells.len() <= 9);
                assert!(cells.windows(2).all(|pair| pair[0] != pair[1]));
            }
        }
    }
}
