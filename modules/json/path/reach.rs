//! Whether a change at a location can change what a path leads to: an index reads a path again only then.
//!
//! The answer is for the path alone, without the document, so "yes" may be wrong and "no" may not. It is
//! found by following the location through the path's segments, all ways at a time.

use super::{JsonPath, Segment};
use crate::effect::{APPEND, INSERT, MERGE, PayloadReader, REMOVE, REPLACE, SET, TRIM, is_container};
use crate::location::{LocationStep, Steps};
use crate::packed::DEPTH_MAX;
use crate::value::{JsonNode, NodeItems};

/// Whether a payload can change what is at a path of an index, or in what order. `removed` is what `apply`
/// has returned; `None` before that.
pub fn concerns(kind: u8, payload: &[u8], removed: Option<usize>, path: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(path) else { return true };
    // A filter can read anything.
    if path.contains(&b'?') {
        return true;
    }
    let Ok(query) = JsonPath::parse(text) else { return true };
    reaches(kind, payload, removed, &query)
}

/// The same for a path that was parsed.
pub fn reaches(kind: u8, payload: &[u8], removed: Option<usize>, query: &JsonPath<'_>) -> bool {
    // The location of the root is one 0.
    kind == SET && payload.last() == Some(&0) || is_reached(query, kind, payload, removed).unwrap_or(true)
}

/// `None` if the payload has no known form, or too many places to look at each.
fn is_reached(query: &JsonPath<'_>, kind: u8, payload: &[u8], removed: Option<usize>) -> Option<bool> {
    const PLACES_MAX: usize = 64;
    const MERGED_PLACES_MAX: usize = 4;
    // An index has up to 1,024 paths, and each is compared with each place.
    const BYTES_MAX: usize = 8 << 10;
    // It is or was applied.
    let payload = &mut PayloadReader::of(payload, false);
    let mut value: &[u8] = &[];
    let mut has_containers = false;
    match kind {
        SET | APPEND | MERGE => value = payload.value(DEPTH_MAX)?,
        REMOVE | REPLACE | TRIM => {}
        INSERT if payload.bytes_left() <= BYTES_MAX => {
            let (run, count) = payload.values()?;
            has_containers = NodeItems::of_run(run, false, count).any(|(_, value)| value.items().is_some());
        }
        _ => return None,
    }
    if payload.bytes_left() > BYTES_MAX {
        return None;
    }
    let removes =
        |value: &[u8]| removed.map_or(kind != REPLACE || is_container(value), |removed| removed > 0);
    for _ in 0..if kind == MERGE { MERGED_PLACES_MAX } else { PLACES_MAX } {
        let steps = payload.steps()?;
        let reach = |below: bool, beside: bool| query.is_reached(&steps, ChangeReach { below, beside });
        let is_reached = match kind {
            SET => reach(removes(value) || is_container(value), false),
            REPLACE => {
                let value = payload.value(DEPTH_MAX)?;
                reach(removes(value), false)
            }
            REMOVE => reach(removes(&[]), true),
            INSERT => is_reached_by_insert(query, steps, payload.count()?, has_containers),
            TRIM => {
                _ = (payload.count()?, payload.count()?);
                reach(true, false)
            }
            MERGE => is_reached_by_merge(query, steps, value),
            _ => reach(false, false),
        };
        if is_reached {
            return Some(true);
        }
        if payload.is_done() {
            return Some(false);
        }
    }
    None
}

/// The elements behind the new ones have other indexes now.
fn is_reached_by_insert(query: &JsonPath<'_>, mut steps: Steps<'_>, index: usize, below: bool) -> bool {
    steps.push(LocationStep::Index(index));
    query.is_reached(&steps, ChangeReach { below, beside: true })
}

/// A path of names alone is reached where the patch has a value on its way. Others can lead to what the patch
/// replaces.
fn is_reached_by_merge<'p>(query: &JsonPath<'_>, mut steps: Steps<'p>, patch: &'p [u8]) -> bool {
    const PATCH_BYTES_MAX: usize = 4 << 10;
    if query.has_names_alone() && patch.len() <= PATCH_BYTES_MAX {
        return is_reached_by_patch(query, &mut steps, JsonNode::Packed(patch));
    }
    query.is_reached(&steps, ChangeReach { below: true, beside: true })
}

fn is_reached_by_patch<'p>(query: &JsonPath<'_>, steps: &mut Steps<'p>, patch: JsonNode<'p>) -> bool {
    let members = patch.items().filter(|items| patch.is_object() == Some(true) && items.len() > 0);
    let Some(mut members) = members else {
        return query.is_reached(steps, ChangeReach { below: true, beside: false });
    };
    members.any(|(name, value)| {
        steps.push(LocationStep::Name(name));
        let is_reached = is_reached_by_patch(query, steps, value);
        steps.pop();
        is_reached
    })
}

/// What a change does besides replacing the value at its location.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ChangeReach {
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
    fn is_reached(&self, steps: &[LocationStep<'_>], reach: ChangeReach) -> bool {
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
    fn has_names_alone(&self) -> bool {
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
