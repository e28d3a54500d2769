//! Filters of JSONPath: what they compare, and how. Comparisons are RedisJSON's: values of different types
//! are unequal, and neither above nor below each other.

use super::JsonPath;
use super::walk::{TooMuch, WalkBudget, select};
use crate::packed::JsonNumber;
use crate::value::{JsonNode, NodeContent};
use regex::{Regex, RegexBuilder};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::OnceLock;

#[derive(Debug)]
pub enum PathFilter<'p> {
    Any(Vec<PathFilter<'p>>),
    All(Vec<PathFilter<'p>>),
    Exists(Term<'p>),
    Compare(Term<'p>, Comparison, Term<'p>),
    Matches(Term<'p>, TextPattern<'p>),
}

/// A pattern in a path. The first text that it is compared with has it compiled, from the budget of its walk.
#[derive(Debug)]
pub struct TextPattern<'p> {
    text: Cow<'p, [u8]>,
    /// `None` if it is no pattern.
    compiled: OnceLock<Option<Regex>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    AtLeast,
    Above,
    AtMost,
    Below,
    Equal,
    Unequal,
    Matches,
}

#[derive(Debug)]
pub enum Term<'p> {
    Current(JsonPath<'p>),
    Root(JsonPath<'p>),
    Number(JsonNumber),
    Text(Cow<'p, [u8]>),
    Boolean(bool),
    Null,
}

/// A term's value.
#[derive(Clone, Copy)]
enum Operand<'a> {
    JsonNode(JsonNode<'a>),
    Number(JsonNumber),
    Text(&'a [u8]),
    Boolean(bool),
    Null,
}

impl<'p> PathFilter<'p> {
    pub fn compare(left: Term<'p>, comparison: Comparison, right: Term<'p>) -> PathFilter<'p> {
        match (comparison, right) {
            (Comparison::Matches, Term::Text(text)) => {
                PathFilter::Matches(left, TextPattern { text, compiled: OnceLock::new() })
            }
            (_, right) => PathFilter::Compare(left, comparison, right),
        }
    }

    pub fn into_owned(self) -> PathFilter<'static> {
        let all = |parts: Vec<PathFilter<'p>>| parts.into_iter().map(PathFilter::into_owned).collect();
        match self {
            PathFilter::Any(parts) => PathFilter::Any(all(parts)),
            PathFilter::All(parts) => PathFilter::All(all(parts)),
            PathFilter::Exists(term) => PathFilter::Exists(term.into_owned()),
            PathFilter::Compare(left, comparison, right) => {
                PathFilter::Compare(left.into_owned(), comparison, right.into_owned())
            }
            PathFilter::Matches(term, TextPattern { text, compiled }) => {
                let text = Cow::Owned(text.into_owned());
                PathFilter::Matches(term.into_owned(), TextPattern { text, compiled })
            }
        }
    }

    /// Calls `each` with the patterns in it.
    pub fn each_pattern(&self, each: &mut dyn FnMut(&TextPattern<'_>)) {
        match self {
            PathFilter::Any(parts) | PathFilter::All(parts) => {
                parts.iter().for_each(|part| part.each_pattern(each));
            }
            PathFilter::Exists(term) => term.each_pattern(each),
            PathFilter::Compare(left, _, right) => {
                left.each_pattern(each);
                right.each_pattern(each);
            }
            PathFilter::Matches(term, pattern) => {
                term.each_pattern(each);
                each(pattern);
            }
        }
    }

    /// Whether it holds for a value.
    pub fn holds<'a>(
        &'a self,
        node: JsonNode<'a>,
        root: JsonNode<'a>,
        budget: &mut WalkBudget,
    ) -> Result<bool, TooMuch> {
        budget.spend(1)?;
        Ok(match self {
            PathFilter::Any(parts) => {
                for part in parts {
                    if part.holds(node, root, budget)? {
                        return Ok(true);
                    }
                }
                false
            }
            PathFilter::All(parts) => {
                for part in parts {
                    if !part.holds(node, root, budget)? {
                        return Ok(false);
                    }
                }
                true
            }
            PathFilter::Exists(term) => term.operand(node, root, budget)?.is_some(),
            PathFilter::Matches(term, pattern) => {
                let text = match term.operand(node, root, budget)? {
                    Some(Operand::JsonNode(node)) => node.text(),
                    _ => None,
                };
                match text {
                    Some(text) => pattern.is_match(text, budget)?,
                    None => false,
                }
            }
            PathFilter::Compare(left, comparison, right) => {
                let left = left.operand(node, root, budget)?;
                let right = right.operand(node, root, budget)?;
                compare(left, *comparison, right, budget)?
            }
        })
    }
}

impl<'p> Term<'p> {
    fn into_owned(self) -> Term<'static> {
        match self {
            Term::Current(path) => Term::Current(path.into_owned()),
            Term::Root(path) => Term::Root(path.into_owned()),
            Term::Number(number) => Term::Number(number),
            Term::Text(text) => Term::Text(Cow::Owned(text.into_owned())),
            Term::Boolean(boolean) => Term::Boolean(boolean),
            Term::Null => Term::Null,
        }
    }

    fn each_pattern(&self, each: &mut dyn FnMut(&TextPattern<'_>)) {
        if let Term::Current(path) | Term::Root(path) = self {
            path.each_pattern(each);
        }
    }

    /// The value; `None` if a path names none, or several.
    fn operand<'a>(
        &'a self,
        node: JsonNode<'a>,
        root: JsonNode<'a>,
        budget: &mut WalkBudget,
    ) -> Result<Option<Operand<'a>>, TooMuch> {
        let (query, from) = match self {
            Term::Current(query) => (query, node),
            Term::Root(query) => (query, root),
            Term::Number(number) => return Ok(Some(Operand::Number(*number))),
            Term::Text(text) => return Ok(Some(Operand::Text(text))),
            Term::Boolean(boolean) => return Ok(Some(Operand::Boolean(*boolean))),
            Term::Null => return Ok(Some(Operand::Null)),
        };
        let (mut found, mut count) = (None, 0);
        select(query, from, budget, &mut |node| {
            found = Some(Operand::JsonNode(node));
            count += 1;
        })?;
        Ok(found.filter(|_| count == 1))
    }
}

impl<'a> Operand<'a> {
    /// The same without the node, if it is no container.
    fn scalar(self) -> Option<Operand<'a>> {
        let Operand::JsonNode(node) = self else { return Some(self) };
        Some(match node.content() {
            NodeContent::Null => Operand::Null,
            NodeContent::Boolean(boolean) => Operand::Boolean(boolean),
            NodeContent::Number(number) => Operand::Number(number),
            NodeContent::Text(text) => Operand::Text(text),
            NodeContent::Array(_) | NodeContent::Object(_) => return None,
        })
    }
}

fn compare(
    left: Option<Operand<'_>>,
    comparison: Comparison,
    right: Option<Operand<'_>>,
    budget: &mut WalkBudget,
) -> Result<bool, TooMuch> {
    if let (Some(Operand::Text(left)), Some(Operand::Text(right))) =
        (left.and_then(Operand::scalar), right.and_then(Operand::scalar))
    {
        spend_on_texts(left, right, budget)?;
    }
    let is_equal = |budget: &mut WalkBudget| match (left, right) {
        (Some(Operand::JsonNode(left)), Some(Operand::JsonNode(right))) => equal(left, right, true, budget),
        _ => Ok(order(left, right) == Some(Ordering::Equal)),
    };
    let order = || order(left, right);
    Ok(match comparison {
        Comparison::Equal => is_equal(budget)?,
        Comparison::Unequal => !is_equal(budget)?,
        Comparison::AtLeast => order().is_some_and(Ordering::is_ge),
        Comparison::Above => order().is_some_and(Ordering::is_gt),
        Comparison::AtMost => order().is_some_and(Ordering::is_le),
        Comparison::Below => order().is_some_and(Ordering::is_lt),
        Comparison::Matches => match (left, right) {
            (Some(Operand::JsonNode(left)), Some(Operand::JsonNode(right))) => {
                match (left.text(), right.text()) {
                    (Some(text), Some(pattern)) => match compile(pattern, budget)? {
                        Some(pattern) => is_match(&pattern, text, budget)?,
                        None => false,
                    },
                    _ => false,
                }
            }
            _ => false,
        },
    })
}

impl TextPattern<'_> {
    /// Compiles it within no budget: the patterns of a schema are counted.
    pub fn compile(&self) {
        let compiled = compile(&self.text, &mut WalkBudget::new(usize::MAX));
        self.compiled.get_or_init(|| compiled.ok().flatten());
    }

    fn is_match(&self, text: &[u8], budget: &mut WalkBudget) -> Result<bool, TooMuch> {
        if self.compiled.get().is_none() {
            let compiled = compile(&self.text, budget)?;
            self.compiled.get_or_init(|| compiled);
        }
        match self.compiled.get().and_then(Option::as_ref) {
            Some(pattern) => is_match(pattern, text, budget),
            None => Ok(false),
        }
    }
}

/// Compiles a pattern; `None` if it is none, or is too large. How long that takes depends on the size of what
/// comes out, which a few bytes can make large (`\pL{9}`): it is tried with little, and then with more.
fn compile(pattern: &[u8], budget: &mut WalkBudget) -> Result<Option<Regex>, TooMuch> {
    /// The memory that a compiled pattern may take, in bytes, and the visits that its compiling is paid with.
    const TRIES: [(usize, usize); 3] = [(16 << 10, 1000), (64 << 10, 4000), (256 << 10, 16_000)];
    let Ok(text) = std::str::from_utf8(pattern) else { return Ok(None) };
    for (bytes, visits) in TRIES {
        budget.spend(visits + text.len())?;
        #[cfg(test)]
        COMPILED.set(COMPILED.get() + 1);
        match RegexBuilder::new(text).size_limit(bytes).nest_limit(100).build() {
            Ok(compiled) => return Ok(Some(compiled)),
            Err(regex::Error::CompiledTooBig(_)) => {}
            Err(_) => return Ok(None),
        }
    }
    Ok(None)
}

#[cfg(test)]
thread_local! {
    /// How often this thread has compiled a pattern.
    pub static COMPILED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// To compare texts takes as long as to visit some values, if they are long.
fn spend_on_texts(left: &[u8], right: &[u8], budget: &mut WalkBudget) -> Result<(), TooMuch> {
    const BYTES_OF_VISIT: usize = 256;
    budget.spend(left.len().min(right.len()) / BYTES_OF_VISIT)
}

fn is_match(pattern: &Regex, text: &[u8], budget: &mut WalkBudget) -> Result<bool, TooMuch> {
    budget.spend(1 + text.len() / 16)?;
    Ok(std::str::from_utf8(text).is_ok_and(|text| pattern.is_match(text)))
}

fn order(left: Option<Operand<'_>>, right: Option<Operand<'_>>) -> Option<Ordering> {
    match (left?.scalar()?, right?.scalar()?) {
        (Operand::Number(left), Operand::Number(right)) => Some(order_numbers(left, right)),
        (Operand::Text(left), Operand::Text(right)) => Some(left.cmp(right)),
        (Operand::Boolean(left), Operand::Boolean(right)) => Some(left.cmp(&right)),
        (Operand::Null, Operand::Null) => Some(Ordering::Equal),
        _ => None,
    }
}

fn order_numbers(left: JsonNumber, right: JsonNumber) -> Ordering {
    match (left, right) {
        (JsonNumber::Integer(left), JsonNumber::Integer(right)) => left.cmp(&right),
        (JsonNumber::Unsigned(left), JsonNumber::Unsigned(right)) => left.cmp(&right),
        _ => left.as_f64().partial_cmp(&right.as_f64()).unwrap_or(Ordering::Equal),
    }
}

/// Whether two values are equal. The order of an object's members does not count; whether 1 and 1.0 are equal
/// depends on who asks.
pub fn equal(
    left: JsonNode<'_>,
    right: JsonNode<'_>,
    integers_are_floats: bool,
    budget: &mut WalkBudget,
) -> Result<bool, TooMuch> {
    budget.spend(1)?;
    Ok(match (left.content(), right.content()) {
        (NodeContent::Null, NodeContent::Null) => true,
        (NodeContent::Boolean(left), NodeContent::Boolean(right)) => left == right,
        (NodeContent::Number(left), NodeContent::Number(right)) => {
            let is_float = |number| matches!(number, JsonNumber::Float(_) | JsonNumber::Unsigned(_));
            order_numbers(left, right).is_eq() && (integers_are_floats || is_float(left) == is_float(right))
        }
        (NodeContent::Text(left), NodeContent::Text(right)) => {
            spend_on_texts(left, right, budget)?;
            left == right
        }
        (NodeContent::Array(left), NodeContent::Array(right)) => {
            if left.len() != right.len() {
                return Ok(false);
            }
            for ((_, left), (_, right)) in left.zip(right) {
                if !equal(left, right, integers_are_floats, budget)? {
                    return Ok(false);
                }
            }
            true
        }
        (NodeContent::Object(members), NodeContent::Object(others)) => {
            if members.len() != others.len() {
                return Ok(false);
            }
            for (name, value) in members {
                budget.spend(right.lookup_cost())?;
                let Some(other) = right.member(name) else { return Ok(false) };
                if !equal(value, other, integers_are_floats, budget)? {
                    return Ok(false);
                }
            }
            true
        }
        _ => false,
    })
}
