//! Shapes: GEOSHAPE fields, and the shapes that queries compare with.
//!
//! A shape is a point or a polygon with holes, written as well-known text. It is kept by document, beside the
//! box around it, which tells most shapes apart. Comparing two shapes takes time proportional to the product
//! of their points, which are therefore at most `POINTS_MAX`.
//!
//! FLAT coordinates are of a plane. SPHERICAL ones are longitudes and latitudes in degrees, and sides of
//! polygons are great circles: two shapes are projected from the sphere's centre to a plane, where great
//! circles are straight lines (`plane.rs`). Shapes that do not fit into one hemisphere together are compared
//! by their coordinates, as if these were of a plane.
//!
//! A text that is no valid shape is not searched, as in RediSearch: its document is indexed without it.

mod plane;
mod text;

#[cfg(test)]
mod tests;

use crate::error::{Kind, SearchError};
use crate::schema::Coordinates;
use plane::{Location, Plane};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// The most points of a shape.
const POINTS_MAX: usize = 1024;
/// Boxes that are compared for one unit of work, and pairs of points.
const BOXES_PER_WORK: usize = 8;
const PAIRS_PER_WORK: usize = 64;

type Point = [f64; 2];

/// A valid shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Geometry {
    coordinates: Coordinates,
    kind: ShapeKind,
    around: Around,
}

#[derive(Clone, Debug, PartialEq)]
enum ShapeKind {
    Point(Point),
    /// The outer ring and the holes, without their last points, which are the first ones.
    Polygon(Vec<Vec<Point>>),
}

/// A box of coordinates around a shape; for a sphere, of the three coordinates of its surface.
#[derive(Clone, Debug, PartialEq)]
struct Around {
    least: [f64; 3],
    most: [f64; 3],
}

/// What a query asks of a document's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShapePredicate {
    Contains,
    Within,
    Disjoint,
    Intersects,
}

impl ShapePredicate {
    pub fn read(name: &[u8]) -> Option<ShapePredicate> {
        match name.to_ascii_uppercase().as_slice() {
            b"CONTAINS" => Some(ShapePredicate::Contains),
            b"WITHIN" => Some(ShapePredicate::Within),
            b"DISJOINT" => Some(ShapePredicate::Disjoint),
            b"INTERSECTS" => Some(ShapePredicate::Intersects),
            _ => None,
        }
    }

    /// RediSearch's number, which FT.EXPLAIN shows.
    pub fn number(self) -> u32 {
        self as u32 + 1
    }

    /// Whether it holds between a document's shape and a query's.
    pub fn holds(self, document: &Geometry, query: &Geometry) -> bool {
        let may_meet = document.around.meets(&query.around);
        match self {
            ShapePredicate::Disjoint => !(may_meet && document.intersects(query)),
            ShapePredicate::Intersects => may_meet && document.intersects(query),
            ShapePredicate::Within => may_meet && document.is_within(query),
            ShapePredicate::Contains => may_meet && query.is_within(document),
        }
    }
}

impl Geometry {
    /// Reads a shape; fails with a text about the shape.
    pub fn read(bytes: &[u8], coordinates: Coordinates) -> Result<Geometry, SearchError> {
        let wrong = |cause: &str| Kind::BadShape.of(cause.as_bytes());
        let kind = text::read(bytes).map_err(|cause| wrong(&cause))?;
        let invalid = |cause: &str| wrong(&format!("invalid geometry: {cause}"));
        let mut shape = Geometry { coordinates, around: Around::of([]), kind };
        shape.tidy().and_then(|()| shape.check()).map_err(invalid)?;
        shape.around = Around::of_shape(&shape);
        Ok(shape)
    }

    fn points(&self) -> impl Iterator<Item = Point> {
        let (point, rings) = match &self.kind {
            ShapeKind::Point(point) => (Some(*point), &[][..]),
            ShapeKind::Polygon(rings) => (None, &rings[..]),
        };
        point.into_iter().chain(rings.iter().flatten().copied())
    }

    /// Leaves out points that are equal to those before them.
    fn tidy(&mut self) -> Result<(), &'static str> {
        if !self.points().flatten().all(f64::is_finite) {
            return Err("Geometry has point(s) with invalid coordinate(s)");
        }
        if self.points().count() > POINTS_MAX {
            return Err("Geometry has too many points");
        }
        if let ShapeKind::Polygon(rings) = &mut self.kind {
            for ring in rings.iter_mut() {
                ring.dedup();
                while ring.len() > 1 && ring.first() == ring.last() {
                    ring.pop();
                }
            }
            if rings.is_empty() || rings.iter().any(|ring| ring.len() < 3) {
                return Err("Geometry has too few points");
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), &'static str> {
        let plane = Plane::of(&[self]);
        match &plane.shapes[0] {
            ShapeKind::Point(_) => Ok(()),
            ShapeKind::Polygon(rings) => plane::check(rings),
        }
    }

    fn intersects(&self, other: &Geometry) -> bool {
        let plane = Plane::of(&[self, other]);
        match (&plane.shapes[0], &plane.shapes[1]) {
            (ShapeKind::Point(one), ShapeKind::Point(other)) => one == other,
            (ShapeKind::Point(point), ShapeKind::Polygon(rings))
            | (ShapeKind::Polygon(rings), ShapeKind::Point(point)) => {
                plane::locate(rings, *point) != Location::Outside
            }
            (ShapeKind::Polygon(one), ShapeKind::Polygon(other)) => plane::intersect(one, other),
        }
    }

    /// Whether it is inside of the other shape. What only touches the other's boundary from inside is; a
    /// point on the boundary, and one that is the other, is not.
    fn is_within(&self, other: &Geometry) -> bool {
        let plane = Plane::of(&[self, other]);
        match (&plane.shapes[0], &plane.shapes[1]) {
            (_, ShapeKind::Point(_)) => false,
            (ShapeKind::Point(point), ShapeKind::Polygon(rings)) => {
                plane::locate(rings, *point) == Location::Inside
            }
            (ShapeKind::Polygon(one), ShapeKind::Polygon(other)) => plane::is_within(one, other),
        }
    }

    /// Units of work of a comparison.
    pub fn work(&self, other: &Geometry) -> usize {
        1 + self.points().count() * other.points().count() / PAIRS_PER_WORK
    }

    /// The same of one with any shape.
    pub fn work_max(&self) -> usize {
        1 + self.points().count() * POINTS_MAX / PAIRS_PER_WORK
    }

    pub fn heap_bytes(&self) -> usize {
        size_of::<Geometry>() + self.points().count() * size_of::<Point>()
    }
}

impl Around {
    fn of(points: impl IntoIterator<Item = [f64; 3]>) -> Around {
        let mut around = Around { least: [f64::INFINITY; 3], most: [f64::NEG_INFINITY; 3] };
        for point in points {
            for (side, &place) in point.iter().enumerate() {
                around.least[side] = around.least[side].min(place);
                around.most[side] = around.most[side].max(place);
            }
        }
        around
    }

    fn of_shape(shape: &Geometry) -> Around {
        if shape.coordinates == Coordinates::Flat {
            return Around::of(shape.points().map(|[x, y]| [x, y, 0.0]));
        }
        let mut around = Around::of(shape.points().map(plane::on_sphere));
        if let ShapeKind::Polygon(_) = &shape.kind {
            (around.least, around.most) = plane::box_of_cap(shape.points());
        }
        around
    }

    fn meets(&self, other: &Around) -> bool {
        (0..3).all(|side| self.least[side] <= other.most[side] && other.least[side] <= self.most[side])
    }
}

/// Reads any bytes as a shape, and compares it with others. Errors are fine, panics are not.
pub fn fuzz_shape(bytes: &[u8]) {
    for coordinates in [Coordinates::Flat, Coordinates::Spherical] {
        let Ok(shape) = Geometry::read(bytes, coordinates) else { continue };
        for other in ["POINT(1 1)", "POLYGON((0 0, 0 10, 10 10, 10 0, 0 0), (2 2, 2 4, 4 4, 4 2, 2 2))"] {
            let other = Geometry::read(other.as_bytes(), coordinates).expect("a shape");
            let holds = |predicate: ShapePredicate| predicate.holds(&shape, &other);
            assert_ne!(holds(ShapePredicate::Intersects), holds(ShapePredicate::Disjoint));
            _ = (holds(ShapePredicate::Within), holds(ShapePredicate::Contains));
        }
    }
}

/// The shapes of a field, by document.
#[derive(Default)]
pub struct ShapePostings {
    shapes: BTreeMap<u32, Arc<Geometry>>,
    bytes: usize,
}

impl ShapePostings {
    pub fn insert(&mut self, document: u32, shape: Arc<Geometry>) {
        self.bytes += shape.heap_bytes();
        self.shapes.insert(document, shape);
    }

    pub fn remove(&mut self, document: u32) {
        if let Some(shape) = self.shapes.remove(&document) {
            self.bytes -= shape.heap_bytes();
        }
    }

    pub fn get(&self, document: u32) -> Option<&Arc<Geometry>> {
        self.shapes.get(&document)
    }

    /// Continues a walk over all shapes, after document `after`, until `work` units are used up: adds those
    /// that the query must be compared with, and the others for which the predicate holds. True at the end.
    pub fn step(
        &self,
        after: &mut Option<u32>,
        (predicate, query): (ShapePredicate, &Geometry),
        (near, found): (&mut Vec<(u32, Arc<Geometry>)>, &mut Vec<u32>),
        work: &mut usize,
    ) -> bool {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let most = *work * BOXES_PER_WORK;
        let mut walked = 0;
        for (&document, shape) in self.shapes.range((from, Bound::Unbounded)).take(most) {
            if shape.around.meets(&query.around) {
                near.push((document, shape.clone()));
            } else if predicate == ShapePredicate::Disjoint {
                found.push(document);
            }
            *after = Some(document);
            walked += 1;
        }
        *work -= walked / BOXES_PER_WORK;
        walked < most
    }

    /// Bytes on the heap, estimated.
    pub fn heap_bytes(&self) -> usize {
        self.bytes + self.shapes.len() * 2 * size_of::<(u32, Arc<Geometry>)>()
    }
}
