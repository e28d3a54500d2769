//! What a path of a writing command leads to, and how much room in the log that takes.

use super::document;
use crate::document::JsonDocument;
use crate::error;
use crate::limits::PLACES_MAX;
use crate::location::{self, LocationStep, Steps};
use crate::path::{ClientPath, JsonPath, TooMuch, WalkBudget, locate};
use crate::value::JsonNode;
use engramdb_engine::command::{Args, CommandError};
use engramdb_engine::hashing::HashSet;
use engramdb_engine::store::view::View;

/// A value that a path leads to.
#[derive(Clone, Debug)]
pub struct Match<'a> {
    pub steps: Steps<'a>,
    pub node: JsonNode<'a>,
}

/// The values at a path, in the document's order, each once.
pub fn matches<'a>(
    query: &'a JsonPath<'_>,
    document: &'a JsonDocument,
) -> Result<Vec<Match<'a>>, CommandError> {
    matches_within(query, document, &mut document.budget_under_lock())
}

/// The same for a command with several paths, which have one budget.
pub fn matches_within<'a>(
    query: &'a JsonPath<'_>,
    document: &'a JsonDocument,
    budget: &mut WalkBudget,
) -> Result<Vec<Match<'a>>, CommandError> {
    let (mut matches, mut is_too_many) = (Vec::new(), false);
    locate(query, document.value(), budget, &mut |steps, node| {
        is_too_many |= matches.len() == PLACES_MAX;
        if !is_too_many {
            matches.push(Match { steps: Steps::from_slice(steps), node });
        }
    })?;
    if is_too_many {
        return Err(error::TOO_MANY_PLACES);
    }
    if query.may_repeat() && matches.len() > 1 {
        let mut seen = HashSet::default();
        matches.retain(|found| seen.insert(found.steps.clone()));
    }
    Ok(matches)
}

/// Puts values that are within others in front of these, so that a change of one does not move another.
pub fn innermost_first(matches: &mut [Match<'_>]) {
    matches.sort_by_key(|found| std::cmp::Reverse(found.steps.len()));
}

/// The bytes that an effect may take for one match beside its location: an index or two, or a number.
const MATCH_BYTES: usize = 32;

/// How much a command may log beyond its words for a path, its second argument, that leads to several values.
pub fn room(view: &View<'_>, args: Args<'_>) -> usize {
    args.get(2).map_or(0, |path| room_of(view, args.word(1), path, None))
}

/// The same for any key and path, within a budget if several have one. A path that leads to one value at most
/// has its names in itself.
pub fn room_of(view: &View<'_>, key: &[u8], path: &[u8], budget: Option<&mut WalkBudget>) -> usize {
    if !leads_to_several(path) {
        return 0;
    }
    let (Ok(Some(document)), Ok(path)) = (document(view, key), ClientPath::new(path)) else { return 0 };
    let Ok(query) = path.query() else { return 0 };
    let mut own = document.budget_under_lock();
    bytes_of(&query, document, budget.unwrap_or(&mut own)).unwrap_or_default()
}

fn bytes_of(
    query: &JsonPath<'_>,
    document: &JsonDocument,
    budget: &mut WalkBudget,
) -> Result<usize, TooMuch> {
    let (mut bytes, mut places) = (0, 0);
    locate(query, document.value(), budget, &mut |steps, _| {
        places += 1;
        bytes += MATCH_BYTES + steps.iter().map(LocationStep::bytes_max).sum::<usize>();
    })?;
    // More are refused.
    Ok(if places > PLACES_MAX { 0 } else { bytes })
}

/// Whether a path can lead to more than one value: it may say so of one that cannot.
pub fn leads_to_several(path: &[u8]) -> bool {
    path.iter().any(|byte| matches!(byte, b'*' | b'?' | b',' | b':'))
        || path.windows(2).any(|pair| pair == b"..")
}

/// Adds locations to a payload.
pub fn put_locations(payload: &mut Vec<u8>, matches: &[Match<'_>]) {
    matches.iter().for_each(|found| location::put(payload, &found.steps));
}
