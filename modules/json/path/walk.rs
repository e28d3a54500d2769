//! Walks a path over a document: depth first, in the document's order, as RedisJSON does. A value to which a
//! path leads twice is found twice.

use super::{JsonPath, Segment};
use crate::error;
use crate::location::{LocationStep, Steps};
use crate::packed::DEPTH_MAX;
use crate::value::{ITEMS_OF_VISIT, JsonNode};
use engramdb_engine::command::CommandError;

/// What a walk may cost. `$..*..*..*` would visit a value once for each way to it, and filters within filters
/// can begin at the root again.
#[derive(Debug)]
pub struct WalkBudget {
    /// Values that may still be visited.
    visits: usize,
    /// Levels that the walk may still go down, those of filters that it is in included: they take stack.
    levels: usize,
}

/// Visits that any walk may cost: about a millisecond.
const VISITS_MIN: usize = 100_000;
/// The most visits of a walk under the lock: about ten milliseconds.
const VISITS_UNDER_LOCK_MAX: usize = 1_000_000;
/// The visits of a path of an index: plain walks of documents of some 100 MB fit.
const INDEX_VISITS_MAX: usize = 16_000_000;
/// A document, and filters in it.
const LEVELS_MAX: usize = 2 * DEPTH_MAX + 128;

/// A walk has cost more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMuch;

impl From<TooMuch> for CommandError {
    fn from(_: TooMuch) -> CommandError {
        error::TOO_MUCH
    }
}

impl WalkBudget {
    pub fn new(visits: usize) -> WalkBudget {
        WalkBudget { visits, levels: LEVELS_MAX }
    }

    /// For a document of this many bytes: a walk that visits each value once or twice always fits.
    pub fn of_document(bytes: usize) -> WalkBudget {
        WalkBudget::new(VISITS_MIN.saturating_add(bytes.saturating_mul(2)))
    }

    /// For a path of an index or of a query. It is the same for all documents: a change elsewhere in a
    /// document must not decide whether a path can be read.
    pub fn of_index() -> WalkBudget {
        WalkBudget::new(INDEX_VISITS_MAX)
    }

    /// The same for a walk under the lock, which others wait for.
    pub fn under_lock(bytes: usize) -> WalkBudget {
        let WalkBudget { visits, levels } = WalkBudget::of_document(bytes);
        WalkBudget { visits: visits.min(VISITS_UNDER_LOCK_MAX), levels }
    }

    /// For a command that makes one walk for each of `words` words, in many documents, under the lock: a
    /// lookup in a large container is in it for each.
    pub fn of_words(words: usize) -> WalkBudget {
        const VISITS_OF_WORD: usize = 1000;
        const OF_ALL_WORDS_MAX: usize = 10_000_000;
        WalkBudget::new(VISITS_UNDER_LOCK_MAX + words.saturating_mul(VISITS_OF_WORD).min(OF_ALL_WORDS_MAX))
    }

    /// The same for a command with this many paths: each may look something up in the whole document.
    pub fn for_paths(self, paths: usize, document: JsonNode<'_>) -> WalkBudget {
        const VISITS_OF_STEPS: usize = 8;
        let of_all = paths.saturating_mul(VISITS_OF_STEPS + document.lookup_cost());
        WalkBudget { visits: self.visits.saturating_add(of_all), ..self }
    }

    /// For a further document of this many bytes.
    pub fn add(&mut self, bytes: usize) {
        self.visits = self.visits.saturating_add(bytes.saturating_mul(2));
    }

    #[inline]
    pub fn spend(&mut self, visits: usize) -> Result<(), TooMuch> {
        self.visits = self.visits.checked_sub(visits).ok_or(TooMuch)?;
        Ok(())
    }
}

/// Calls `each` with the values at the path, in order.
pub fn select<'a>(
    query: &'a JsonPath<'_>,
    root: JsonNode<'a>,
    budget: &mut WalkBudget,
    each: &mut dyn FnMut(JsonNode<'a>),
) -> Result<(), TooMuch> {
    walk(query, root, None, budget, &mut |_, node| {
        each(node);
        true
    })
}

/// The first value at the path. What is after it is not visited.
pub fn select_first<'a>(
    query: &'a JsonPath<'_>,
    root: JsonNode<'a>,
    budget: &mut WalkBudget,
) -> Result<Option<JsonNode<'a>>, TooMuch> {
    let mut first = None;
    let ended = walk(query, root, None, budget, &mut |_, node| {
        first = Some(node);
        false
    });
    match first {
        Some(node) => Ok(Some(node)),
        None => ended.map(|()| None),
    }
}

/// The same with the location of each.
pub fn locate<'a>(
    query: &'a JsonPath<'_>,
    root: JsonNode<'a>,
    budget: &mut WalkBudget,
    each: &mut dyn FnMut(&[LocationStep<'a>], JsonNode<'a>),
) -> Result<(), TooMuch> {
    walk(query, root, Some(Steps::new()), budget, &mut |steps, node| {
        each(steps, node);
        true
    })
}

/// Ends as if it had cost too much where `each` says that no more is needed.
fn walk<'a>(
    query: &'a JsonPath<'_>,
    root: JsonNode<'a>,
    steps: Option<Steps<'a>>,
    budget: &mut WalkBudget,
    each: &mut EachNode<'a, '_>,
) -> Result<(), TooMuch> {
    Walk { root, steps, budget, each }.from(&query.segments, root)
}

/// Called with the values that a path leads to. False if no more is needed.
type EachNode<'a, 'e> = dyn FnMut(&[LocationStep<'a>], JsonNode<'a>) -> bool + 'e;

struct Walk<'a, 'w> {
    root: JsonNode<'a>,
    /// The way to the present value, if it is wanted.
    steps: Option<Steps<'a>>,
    budget: &'w mut WalkBudget,
    each: &'w mut EachNode<'a, 'w>,
}

impl<'a> Walk<'a, '_> {
    /// Each level takes stack, so that it is counted.
    fn from(&mut self, segments: &'a [Segment<'_>], node: JsonNode<'a>) -> Result<(), TooMuch> {
        self.budget.spend(1)?;
        self.budget.levels = self.budget.levels.checked_sub(1).ok_or(TooMuch)?;
        let result = self.follow(segments, node);
        self.budget.levels += 1;
        result
    }

    fn follow(&mut self, segments: &'a [Segment<'_>], node: JsonNode<'a>) -> Result<(), TooMuch> {
        let Some((segment, rest)) = segments.split_first() else {
            // Its location is copied.
            const STEPS_OF_VISIT: usize = 8;
            self.budget.spend(self.steps.as_ref().map_or(0, |steps| steps.len() / STEPS_OF_VISIT))?;
            let goes_on = (self.each)(self.steps.as_deref().unwrap_or_default(), node);
            return if goes_on { Ok(()) } else { Err(TooMuch) };
        };
        match segment {
            Segment::Descend => {
                self.from(rest, node)?;
                self.descend(rest, node)
            }
            Segment::All => self.each_item(node, |walk, item| walk.from(rest, item)),
            Segment::Names(names) => names.iter().try_for_each(|name| match self.member(node, name)? {
                Some(value) => self.step(LocationStep::Name(name), |walk| walk.from(rest, value)),
                None => Ok(()),
            }),
            Segment::Indexes(indexes) => self.indexes(indexes, rest, node),
            Segment::Range { start, stop, step } => self.range((*start, *stop, *step), rest, node),
            Segment::Filter(filter) if node.is_object().is_none() => {
                if filter.holds(node, self.root, self.budget)? { self.from(rest, node) } else { Ok(()) }
            }
            Segment::Filter(filter) => self.each_item(node, |walk, item| {
                if filter.holds(item, walk.root, walk.budget)? { walk.from(rest, item) } else { Ok(()) }
            }),
        }
    }

    fn member(&mut self, node: JsonNode<'a>, name: &[u8]) -> Result<Option<JsonNode<'a>>, TooMuch> {
        self.budget.spend(node.lookup_cost())?;
        Ok(node.member(name))
    }

    fn step(
        &mut self,
        step: LocationStep<'a>,
        go_on: impl FnOnce(&mut Self) -> Result<(), TooMuch>,
    ) -> Result<(), TooMuch> {
        if let Some(steps) = &mut self.steps {
            steps.push(step);
        }
        let result = go_on(self);
        if let Some(steps) = &mut self.steps {
            steps.pop();
        }
        result
    }

    fn each_item(
        &mut self,
        node: JsonNode<'a>,
        mut go_on: impl FnMut(&mut Self, JsonNode<'a>) -> Result<(), TooMuch>,
    ) -> Result<(), TooMuch> {
        let Some(is_object) = node.is_object() else { return Ok(()) };
        self.budget.levels = self.budget.levels.checked_sub(1).ok_or(TooMuch)?;
        for (index, (name, item)) in node.items().into_iter().flatten().enumerate() {
            let step = if is_object { LocationStep::Name(name) } else { LocationStep::Index(index) };
            self.step(step, |walk| go_on(walk, item))?;
        }
        self.budget.levels += 1;
        Ok(())
    }

    fn descend(&mut self, rest: &'a [Segment<'_>], node: JsonNode<'a>) -> Result<(), TooMuch> {
        self.each_item(node, |walk, item| {
            walk.from(rest, item)?;
            walk.descend(rest, item)
        })
    }

    fn indexes(
        &mut self,
        indexes: &[i64],
        rest: &'a [Segment<'_>],
        node: JsonNode<'a>,
    ) -> Result<(), TooMuch> {
        let Some(length) = node.is_array().then(|| node.items().map_or(0, |items| items.len())) else {
            return Ok(());
        };
        indexes.iter().try_for_each(|index| {
            let index = absolute(*index, length);
            self.budget.spend(node.lookup_cost())?;
            match node.element(index) {
                Some(item) => self.step(LocationStep::Index(index), |walk| walk.from(rest, item)),
                None => Ok(()),
            }
        })
    }

    fn range(
        &mut self,
        (start, stop, step): (Option<i64>, Option<i64>, usize),
        rest: &'a [Segment<'_>],
        node: JsonNode<'a>,
    ) -> Result<(), TooMuch> {
        let Some(length) = node.is_array().then(|| node.items().map_or(0, |items| items.len())) else {
            return Ok(());
        };
        let start = start.map_or(0, |start| absolute(start, length));
        let stop = stop.map_or(length, |stop| absolute(stop, length));
        self.budget.spend(node.lookup_cost())?;
        let items = node.elements_from(start).into_iter().flatten();
        for (index, (_, item)) in (start..stop).zip(items).step_by(step) {
            // The elements between are passed.
            self.budget.spend(1 + step.min(stop - index) / ITEMS_OF_VISIT)?;
            self.step(LocationStep::Index(index), |walk| walk.from(rest, item))?;
        }
        Ok(())
    }
}

/// An index from the front. One beyond the front is the first, as RedisJSON has it.
fn absolute(index: i64, length: usize) -> usize {
    match usize::try_from(index) {
        Ok(index) => index.min(length),
        Err(_) => length.saturating_sub(usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX)),
    }
}
