//! Whether a change at a location can change what a path leads to: an index reads a path again only then.
//!
//! The answer is for the path alone, without the document, so "yes" may be wrong and "no" may not. It is
//! found by following the location through the path's segments, all ways at a time.

use super::{JsonPath, Segment};
use crate::location::LocationStep;

/// What a change does besides replacing the value at its location.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeReach {
    /// Values within the location have changed, come or gone.
    pub below: bool,
    /// Other items of the container that the location is in have another index, or another place in the
    /// order.
    pub beside: bool,
}

/// The places in a path at which a walk can be: one bit for each segment that comes next, and one for the
/// end.
type Places = u64;

/// Longer paths count as reached.
const SEGMENTS_MAX: usize = Places::BITS as usize - 1;

impl JsonPath<'_> {
    /// Whether a change of the value at a location can change the values at the path, or their order.
    pub fn is_reached(&self, steps: &[LocationStep<'_>], reach: ChangeReach) -> bool {
        let is_filter = |segment: &Segment<'_>| matches!(segment, Segment::Filter(_));
        if self.segments.len() > SEGMENTS_MAX || self.segments.iter().any(is_filter) {
            return true;
        }
        let end = 1 << self.segments.len();
        let mut places = self.arrived(1);
        for (at, step) in steps.iter().enumerate() {
            // The path leads to a container around the location, which is another one now.
            if places & end != 0 || reach.beside && at + 1 == steps.len() && self.minds_order(places, *step) {
                return true;
            }
            places = self.after(places, *step);
            if places == 0 {
                return false;
            }
        }
        places & end != 0 || reach.below
    }

    /// Whether it consists of names, one after the other.
    pub fn has_names_alone(&self) -> bool {
        self.segments.iter().all(|segment| matches!(segment, Segment::Names(names) if names.len() == 1))
    }

    /// Adds the places that a walk reaches without a step: `..` is also about the value itself.
    fn arrived(&self, mut places: Places) -> Places {
        for (at, segment) in self.segments.iter().enumerate() {
            if places >> at & 1 == 1 && matches!(segment, Segment::Descend) {
                places |= 1 << (at + 1);
            }
        }
        places
    }

    fn after(&self, places: Places, step: LocationStep<'_>) -> Places {
        let mut next = 0;
        for (at, segment) in self.segments.iter().enumerate().filter(|(at, _)| places >> at & 1 == 1) {
            let leads_on = match (segment, step) {
                (Segment::Descend, _) => {
                    next |= 1 << at;
                    false
                }
                (Segment::All, _) | (Segment::Range { .. }, LocationStep::Index(_)) => true,
                (Segment::Names(names), LocationStep::Name(name)) => {
                    names.iter().any(|known| **known == *name)
                }
                (Segment::Indexes(indexes), LocationStep::Index(index)) => {
                    indexes.iter().any(|known| usize::try_from(*known).map_or(true, |known| known == index))
                }
                _ => false,
            };
            next |= u64::from(leads_on) << (at + 1);
        }
        self.arrived(next)
    }

    /// Whether the path minds the indexes or the order of the items of a container, which one step is in.
    fn minds_order(&self, places: Places, step: LocationStep<'_>) -> bool {
        self.segments.iter().enumerate().any(|(at, segment)| {
            places >> at & 1 == 1
                && match step {
                    LocationStep::Index(_) => matches!(segment, Segment::Indexes(_) | Segment::Range { .. }),
                    LocationStep::Name(_) => matches!(segment, Segment::All | Segment::Descend),
                }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_reached(path: &str, location: &[LocationStep<'_>], below: bool, beside: bool) -> bool {
        JsonPath::parse(path).expect("a path").is_reached(location, ChangeReach { below, beside })
    }

    #[test]
    fn a_path_is_reached_where_a_walk_can_pass_the_location() {
        use LocationStep::{Index, Name};
        let at = [Index(5), Name(b"zz")];
        for (path, value, below, beside) in [
            ("$", true, true, true),
            ("$..zz", true, true, true),
            ("$..i", false, true, true),
            ("$[*].i", false, false, false),
            ("$[*].zz", true, true, true),
            ("$[5].zz.a", false, true, false),
            ("$[4].zz", false, false, false),
            ("$[-1].zz", true, true, true),
            ("$[0:2].zz", true, true, true),
            ("$.a", false, false, false),
            ("$[*]", true, true, true),
            ("$[*].*", true, true, true),
            ("$[*]['a','zz']", true, true, true),
            ("$[?(@.i>1)].i", true, true, true),
            ("$..[0]", false, true, true),
            ("$.a..b", false, false, false),
        ] {
            assert_eq!(is_reached(path, &at, false, false), value, "{path}");
            assert_eq!(is_reached(path, &at, true, false), below, "{path} below");
            assert_eq!(is_reached(path, &at, false, true), beside, "{path} beside");
        }
        let element = [Name(b"a"), Index(1)];
        assert!(is_reached("$.a", &element, false, false), "an array that is one value");
        assert!(is_reached("$.a[0]", &element, false, true) && !is_reached("$.a[0]", &element, false, false));
        assert!(!is_reached("$..t", &element, false, false) && is_reached("$..t", &element, true, false));
        assert!(is_reached("$.a.b", &[], true, false) && !is_reached("$.a.b", &[], false, false));
        assert!(is_reached(&format!("${}", ".a".repeat(70)), &element, false, false), "a long one");
    }
}
