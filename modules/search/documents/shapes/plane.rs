//! Points and polygons in a plane, and the projection of a sphere to one.

use super::{Geometry, Point, ShapeKind};
use crate::schema::Coordinates;

/// Relative to the lengths in question: what is nearer than this is at the same place.
const NEAR: f64 = 1e-12;
/// The least cosine between a point and the middle of a projected hemisphere.
const HORIZON: f64 = 1e-3;

/// Shapes in one plane.
pub struct Plane {
    pub shapes: Vec<ShapeKind>,
}

/// Where a point is in relation to a polygon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    Inside,
    Edge,
    Outside,
}

impl Plane {
    /// Shapes of the same coordinates.
    pub fn of(shapes: &[&Geometry]) -> Plane {
        let is_flat = shapes.iter().any(|shape| shape.coordinates == Coordinates::Flat);
        let projection = if is_flat { None } else { Projection::of(shapes) };
        let place = |point: Point| projection.as_ref().map_or(point, |projection| projection.place(point));
        let kind = |shape: &&Geometry| match &shape.kind {
            ShapeKind::Point(point) => ShapeKind::Point(place(*point)),
            ShapeKind::Polygon(rings) => {
                let ring = |ring: &Vec<Point>| ring.iter().copied().map(place).collect();
                ShapeKind::Polygon(rings.iter().map(ring).collect())
            }
        };
        Plane { shapes: shapes.iter().map(kind).collect() }
    }
}

/// The projection of a hemisphere from the sphere's centre.
struct Projection {
    middle: [f64; 3],
    east: [f64; 3],
    north: [f64; 3],
}

impl Projection {
    /// `None` if the shapes do not fit into one hemisphere around their middle.
    fn of(shapes: &[&Geometry]) -> Option<Projection> {
        let points = || shapes.iter().flat_map(|shape| shape.points()).map(on_sphere);
        let middle = normal(
            points().fold([0.0; 3], |sum, point| std::array::from_fn(|side| sum[side] + point[side])),
        )?;
        if points().any(|point| dot(point, middle) < HORIZON) {
            return None;
        }
        let east = normal(cross([0.0, 0.0, 1.0], middle)).unwrap_or([0.0, 1.0, 0.0]);
        Some(Projection { middle, east, north: cross(middle, east) })
    }

    fn place(&self, point: Point) -> Point {
        let point = on_sphere(point);
        let height = dot(point, self.middle);
        [dot(point, self.east) / height, dot(point, self.north) / height]
    }
}

/// The point of a sphere of radius 1 with these degrees of longitude and latitude.
pub fn on_sphere([longitude, latitude]: Point) -> [f64; 3] {
    let (longitude, latitude) = (longitude.to_radians(), latitude.to_radians());
    [latitude.cos() * longitude.cos(), latitude.cos() * longitude.sin(), latitude.sin()]
}

/// The box around a polygon on a sphere: of the cap around its middle that reaches to its farthest point.
/// Sides are in the cap, because it is no larger than a hemisphere.
pub fn box_of_cap(points: impl Iterator<Item = Point>) -> ([f64; 3], [f64; 3]) {
    let points: Vec<[f64; 3]> = points.map(on_sphere).collect();
    let sum = points.iter().fold([0.0; 3], |sum, point| std::array::from_fn(|side| sum[side] + point[side]));
    let middle = normal(sum).filter(|&middle| points.iter().all(|&point| dot(point, middle) >= HORIZON));
    let Some(middle) = middle else { return ([-2.0; 3], [2.0; 3]) };
    let reach = points.iter().map(|&point| 2.0 - 2.0 * dot(point, middle)).fold(0.0, f64::max).sqrt() + 1e-9;
    (middle.map(|side| side - reach), middle.map(|side| side + reach))
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    (0..3).map(|side| a[side] * b[side]).sum()
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

fn normal(a: [f64; 3]) -> Option<[f64; 3]> {
    let length = dot(a, a).sqrt();
    (length > 1e-9).then(|| a.map(|side| side / length))
}

/// The sides of a ring, the last one back to its first point.
pub fn sides(ring: &[Point]) -> impl Iterator<Item = [Point; 2]> + Clone {
    (0..ring.len()).map(|at| [ring[at], ring[(at + 1) % ring.len()]])
}

/// Twice the area of a triangle: positive if it turns left, 0 if the points are on one line.
fn turn(a: Point, b: Point, c: Point) -> f64 {
    let (ab, ac) = ([b[0] - a[0], b[1] - a[1]], [c[0] - a[0], c[1] - a[1]]);
    let area = ab[0] * ac[1] - ab[1] * ac[0];
    let scale = (ab[0].abs() + ab[1].abs()) * (ac[0].abs() + ac[1].abs());
    if area.abs() <= NEAR * scale { 0.0 } else { area }
}

/// Whether a point that is on the line of a side is on the side.
fn is_between([a, b]: [Point; 2], point: Point) -> bool {
    (0..2).all(|side| {
        let (least, most) = (a[side].min(b[side]), a[side].max(b[side]));
        let near = NEAR * (1.0 + most.abs().max(least.abs()));
        (least - near..=most + near).contains(&point[side])
    })
}

fn is_on(side: [Point; 2], point: Point) -> bool {
    is_between(side, point) && turn(side[0], side[1], point) == 0.0
}

fn may_meet(one: [Point; 2], other: [Point; 2]) -> bool {
    (0..2).all(|side| {
        let ends = |[a, b]: [Point; 2]| (a[side].min(b[side]), a[side].max(b[side]));
        let ((least, most), (other_least, other_most)) = (ends(one), ends(other));
        let near = NEAR * (1.0 + most.abs().max(other_most.abs()));
        least <= other_most + near && other_least <= most + near
    })
}

/// Whether two sides have a point in common.
fn do_meet(one: [Point; 2], other: [Point; 2]) -> bool {
    if !may_meet(one, other) {
        return false;
    }
    let [a, b] = other.map(|end| turn(one[0], one[1], end));
    let [c, d] = one.map(|end| turn(other[0], other[1], end));
    if a * b < 0.0 && c * d < 0.0 {
        return true;
    }
    other.iter().any(|&end| is_on(one, end)) || one.iter().any(|&end| is_on(other, end))
}

/// Where a point is in a polygon.
pub fn locate(rings: &[Vec<Point>], point: Point) -> Location {
    let mut is_inside = false;
    for [a, b] in rings.iter().flat_map(|ring| sides(ring)) {
        if is_on([a, b], point) {
            return Location::Edge;
        }
        if (a[1] > point[1]) != (b[1] > point[1]) {
            let x = a[0] + (point[1] - a[1]) / (b[1] - a[1]) * (b[0] - a[0]);
            is_inside ^= point[0] < x;
        }
    }
    if is_inside { Location::Inside } else { Location::Outside }
}

/// Whether two polygons have a point in common.
pub fn intersect(one: &[Vec<Point>], other: &[Vec<Point>]) -> bool {
    let all = |rings: &[Vec<Point>]| rings.iter().flat_map(|ring| sides(ring)).collect::<Vec<_>>();
    let (sides, others) = (all(one), all(other));
    sides.iter().any(|&side| others.iter().any(|&other| do_meet(side, other)))
        || locate(other, one[0][0]) != Location::Outside
        || locate(one, other[0][0]) != Location::Outside
}

/// Whether a polygon is inside of another one, whose boundary it may touch.
pub fn is_within(one: &[Vec<Point>], other: &[Vec<Point>]) -> bool {
    !between_cuts(one, other, &mut |point| locate(other, point) == Location::Outside)
        && !between_cuts(other, one, &mut |point| locate(one, point) == Location::Inside)
        && locate(other, point_inside(one)) == Location::Inside
}

/// Whether `is_it` is true of a point between two places at which the sides of one polygon meet those of the
/// other: such a part of a side is all inside, all outside, or all on the boundary.
fn between_cuts(one: &[Vec<Point>], other: &[Vec<Point>], is_it: &mut dyn FnMut(Point) -> bool) -> bool {
    let others: Vec<[Point; 2]> = other.iter().flat_map(|ring| sides(ring)).collect();
    let mut cuts = Vec::new();
    for [a, b] in one.iter().flat_map(|ring| sides(ring)) {
        let along = [b[0] - a[0], b[1] - a[1]];
        let length = along[0] * along[0] + along[1] * along[1];
        cuts.clear();
        cuts.extend([0.0, 1.0]);
        for &[c, d] in others.iter().filter(|&&other| may_meet([a, b], other)) {
            let (of_c, of_d) = (turn(a, b, c), turn(a, b, d));
            if of_c * of_d < 0.0 {
                let share = of_c / (of_c - of_d);
                let x = [c[0] + share * (d[0] - c[0]), c[1] + share * (d[1] - c[1])];
                cuts.push(((x[0] - a[0]) * along[0] + (x[1] - a[1]) * along[1]) / length);
            }
            for (end, turns) in [(c, of_c), (d, of_d)] {
                if turns == 0.0 {
                    cuts.push(((end[0] - a[0]) * along[0] + (end[1] - a[1]) * along[1]) / length);
                }
            }
        }
        cuts.retain(|cut| (0.0..=1.0).contains(cut));
        cuts.sort_unstable_by(f64::total_cmp);
        for pair in cuts.windows(2).filter(|pair| pair[1] - pair[0] > 1e-9) {
            let middle = (pair[0] + pair[1]) / 2.0;
            if is_it([a[0] + middle * along[0], a[1] + middle * along[1]]) {
                return true;
            }
        }
    }
    false
}

/// A point inside of a polygon: in the widest part of a line across it.
fn point_inside(rings: &[Vec<Point>]) -> Point {
    let mut rows: Vec<f64> = rings.iter().flatten().map(|point| point[1]).collect();
    rows.sort_unstable_by(f64::total_cmp);
    rows.dedup();
    let widest = (1..rows.len()).max_by(|&a, &b| (rows[a] - rows[a - 1]).total_cmp(&(rows[b] - rows[b - 1])));
    let Some(row) = widest.map(|at| (rows[at] + rows[at - 1]) / 2.0) else { return rings[0][0] };
    let across = rings.iter().flat_map(|ring| sides(ring)).filter(|[a, b]| (a[1] > row) != (b[1] > row));
    let mut places: Vec<f64> =
        across.map(|[a, b]| a[0] + (row - a[1]) / (b[1] - a[1]) * (b[0] - a[0])).collect();
    places.sort_unstable_by(f64::total_cmp);
    let inside = places.chunks_exact(2).max_by(|a, b| (a[1] - a[0]).total_cmp(&(b[1] - b[0])));
    inside.map_or(rings[0][0], |pair| [(pair[0] + pair[1]) / 2.0, row])
}

/// Whether the rings are a polygon: none crosses or touches itself or another, and holes are inside.
pub fn check(rings: &[Vec<Point>]) -> Result<(), &'static str> {
    for ring in rings {
        let area: f64 = sides(ring)
            .map(|[a, b]| {
                (a[0] - ring[0][0]) * (b[1] - ring[0][1]) - (b[0] - ring[0][0]) * (a[1] - ring[0][1])
            })
            .sum();
        if area == 0.0 {
            return Err("Geometry has wrong orientation");
        }
        let back = |at: usize| {
            let [a, b, c] = [0, 1, 2].map(|next| ring[(at + next) % ring.len()]);
            let toward = (b[0] - a[0]) * (c[0] - b[0]) + (b[1] - a[1]) * (c[1] - b[1]);
            turn(a, b, c) == 0.0 && toward < 0.0
        };
        if (0..ring.len()).any(back) {
            return Err("Geometry has spikes");
        }
    }
    if meets_itself(rings) {
        return Err("Geometry has invalid self-intersections");
    }
    let outer = &rings[..1];
    match rings[1..].iter().all(|hole| locate(outer, hole[0]) == Location::Inside) {
        true => Ok(()),
        false => Err("Geometry has interior rings defined outside the outer boundary"),
    }
}

/// Whether two sides that do not follow each other have a point in common. Compares sides in the order of
/// their left ends, so that only those above each other are compared.
fn meets_itself(rings: &[Vec<Point>]) -> bool {
    let mut all: Vec<([Point; 2], usize, usize)> = Vec::new();
    for (number, ring) in rings.iter().enumerate() {
        all.extend(sides(ring).enumerate().map(|(at, side)| (side, number, at)));
    }
    let left = |side: &[Point; 2]| side[0][0].min(side[1][0]);
    let right = |side: &[Point; 2]| side[0][0].max(side[1][0]);
    all.sort_unstable_by(|a, b| left(&a.0).total_cmp(&left(&b.0)));
    for (at, (side, ring, number)) in all.iter().enumerate() {
        let above = all[at + 1..].iter().take_while(|(other, ..)| left(other) <= right(side));
        for (other, other_ring, other_number) in above {
            let length = rings[*ring].len();
            let follows = ring == other_ring
                && ((number + 1) % length == *other_number || (other_number + 1) % length == *number);
            if !follows && do_meet(*side, *other) {
                return true;
            }
        }
    }
    false
}
