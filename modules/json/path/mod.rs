//! Paths: JSONPath in RedisJSON's dialect, and the legacy paths of RedisJSON 1.
//!
//! No library fits (decision 0042): those for Rust evaluate over a value type of their own, have the
//! dialect of RFC 9535, and bound neither time nor results. A path is parsed into a [`JsonPath`], which is
//! walked over a document in its order. The walk is bounded by a [`WalkBudget`].

mod filter;
mod parse;
mod reach;
mod walk;

#[cfg(test)]
pub use filter::COMPILED;
pub use filter::equal;
#[cfg(test)]
pub use parse::PARSED;
pub use reach::{concerns, reaches};
pub use walk::{TooMuch, WalkBudget, locate, select, select_first};

use crate::error;
use engramdb_engine::command::CommandError;
use engramdb_engine::keyspace::PathCost;
use filter::{PathFilter, TextPattern};
use smallvec::SmallVec;
use std::borrow::Cow;

/// A parsed path.
#[derive(Debug)]
pub struct JsonPath<'p> {
    segments: SmallVec<[Segment<'p>; 4]>,
}

#[derive(Debug)]
enum Segment<'p> {
    /// `..`: what comes next is looked for in the value and in all that it contains.
    Descend,
    /// `*`
    All,
    /// `.name`, `['name', 'other']`
    Names(SmallVec<[Cow<'p, [u8]>; 1]>),
    /// `[0, -1]`
    Indexes(SmallVec<[i64; 2]>),
    /// `[start:stop:step]`
    Range { start: Option<i64>, stop: Option<i64>, step: usize },
    /// `[?filter]`: the items of a container, or a value that is none itself.
    Filter(Box<PathFilter<'p>>),
}

impl<'p> JsonPath<'p> {
    /// Parses a JSONPath, which begins with `$`.
    pub fn parse(text: &'p str) -> Result<JsonPath<'p>, CommandError> {
        parse::parse(text)
    }

    /// Parses a path that is walked over many documents, patterns included: so that none of these walks pays
    /// for them, which would let it depend on the others whether a budget suffices.
    pub fn compiled(text: &str) -> Option<JsonPath<'static>> {
        let path = JsonPath::parse(text).ok()?.into_owned();
        path.each_pattern(&mut |pattern| pattern.compile());
        Some(path)
    }

    /// How many patterns it has.
    pub fn patterns(&self) -> usize {
        let mut count = 0;
        self.each_pattern(&mut |_| count += 1);
        count
    }

    fn each_pattern(&self, each: &mut dyn FnMut(&TextPattern<'_>)) {
        for segment in &self.segments {
            if let Segment::Filter(filter) = segment {
                filter.each_pattern(each);
            }
        }
    }

    fn into_owned(self) -> JsonPath<'static> {
        JsonPath { segments: self.segments.into_iter().map(Segment::into_owned).collect() }
    }

    /// The path of the whole document.
    pub fn is_root(&self) -> bool {
        self.segments.is_empty()
    }

    /// Whether it names one value at most.
    pub fn is_static(&self) -> bool {
        self.segments.iter().all(|segment| match segment {
            Segment::Names(names) => names.len() == 1,
            Segment::Indexes(indexes) => indexes.len() == 1,
            _ => false,
        })
    }

    /// Whether it can name a value twice. One `..` leads to each value once, unless a filter comes with it,
    /// which takes a value as an item and by itself.
    pub fn may_repeat(&self) -> bool {
        let descends = self.segments.iter().filter(|segment| matches!(segment, Segment::Descend)).count();
        self.segments.iter().any(|segment| match segment {
            Segment::Descend => descends > 1,
            Segment::Filter(_) => descends > 0,
            Segment::Names(names) => names.len() > 1,
            Segment::Indexes(indexes) => indexes.len() > 1,
            _ => false,
        })
    }

    /// What a walk costs. A text of all values has those below others once more, which is why `..` costs
    /// more.
    pub fn cost(&self) -> PathCost {
        const NAMES_MAX: usize = 16;
        let are_different = |names: &[Cow<'_, [u8]>]| {
            names.len() <= NAMES_MAX && (1..names.len()).all(|at| !names[..at].contains(&names[at]))
        };
        let descends = self.segments.iter().filter(|segment| matches!(segment, Segment::Descend)).count();
        let may_repeat = self.segments.iter().any(|segment| match segment {
            Segment::Names(names) => !are_different(names),
            Segment::Indexes(indexes) => indexes.len() > 1,
            Segment::Filter(_) => true,
            _ => false,
        });
        match descends {
            _ if self.is_static() => PathCost::Lookup,
            0 | 1 if !may_repeat => PathCost::Walks(1 + 3 * descends),
            _ => PathCost::Unknown,
        }
    }

    /// Splits off the last step of a static path.
    pub fn split_last(mut self) -> Option<(JsonPath<'p>, LastStep<'p>)> {
        let last = match self.segments.pop()? {
            Segment::Names(mut names) => LastStep::Name(names.pop()?),
            _ => LastStep::Index,
        };
        Some((self, last))
    }
}

impl Segment<'_> {
    fn into_owned(self) -> Segment<'static> {
        match self {
            Segment::Descend => Segment::Descend,
            Segment::All => Segment::All,
            Segment::Names(names) => {
                Segment::Names(names.into_iter().map(|name| Cow::Owned(name.into_owned())).collect())
            }
            Segment::Indexes(indexes) => Segment::Indexes(indexes),
            Segment::Range { start, stop, step } => Segment::Range { start, stop, step },
            Segment::Filter(filter) => Segment::Filter(Box::new(filter.into_owned())),
        }
    }
}

/// The last step of a static path.
#[derive(Debug)]
pub enum LastStep<'p> {
    Name(Cow<'p, [u8]>),
    Index,
}

/// A path as a client sends it.
#[derive(Clone, Debug)]
pub struct ClientPath<'a> {
    original: &'a str,
    /// The same as JSONPath, where it is a legacy one.
    rewritten: Option<String>,
}

impl<'a> ClientPath<'a> {
    pub fn new(word: &'a [u8]) -> Result<ClientPath<'a>, CommandError> {
        let original = std::str::from_utf8(word).map_err(|_| error::NOT_UTF8)?;
        Ok(ClientPath::of(original))
    }

    /// The path of a command that was called without one.
    pub fn legacy_root() -> ClientPath<'static> {
        ClientPath::of(".")
    }

    fn of(original: &'a str) -> ClientPath<'a> {
        let rewritten = match original.as_bytes() {
            [b'$'] | [b'$', b'.' | b'[', ..] => None,
            b"." => Some("$".to_owned()),
            [b'.', ..] => Some(format!("${original}")),
            _ => Some(format!("$.{original}")),
        };
        ClientPath { original, rewritten }
    }

    /// Whether it names the first match alone, in RedisJSON 1's replies.
    pub fn is_legacy(&self) -> bool {
        self.rewritten.is_some()
    }

    pub fn original(&self) -> &'a str {
        self.original
    }

    /// The JSONPath.
    pub fn text(&self) -> &str {
        self.rewritten.as_deref().unwrap_or(self.original)
    }

    pub fn is_root(&self) -> bool {
        self.text() == "$"
    }

    pub fn query(&self) -> Result<JsonPath<'_>, CommandError> {
        JsonPath::parse(self.text())
    }
}

/// Parses any bytes as a path and walks it over a document, for fuzzing.
pub fn fuzz_path(bytes: &[u8]) {
    const DOCUMENT: &str =
        r#"{"a":[0,1,{"b":[true,null,"x"],"a":{"a":1.5}}],"b":{"c":"text","d":{}},"é":[[1,2],[3]]}"#;
    let Ok(path) = ClientPath::new(bytes) else { return };
    let Ok(query) = path.query() else { return };
    let mut packed = Vec::new();
    crate::text::parse(DOCUMENT, &mut packed).expect("JSON");
    let node = crate::value::JsonNode::Packed(&packed);
    let (mut selected, mut located) = (0, 0);
    let one = select(&query, node, &mut WalkBudget::new(10_000), &mut |_| selected += 1);
    let other = locate(&query, node, &mut WalkBudget::new(10_000), &mut |steps, found| {
        let reached = steps.iter().try_fold(node, |node, step| match step {
            crate::location::LocationStep::Name(name) => node.member(name),
            crate::location::LocationStep::Index(index) => node.element(*index),
        });
        assert_eq!(format!("{:?}", reached.expect("it is there")), format!("{found:?}"));
        located += 1;
    });
    assert_eq!((selected, one.is_ok()), (located, other.is_ok()));
}

#[cfg(test)]
mod tests;
