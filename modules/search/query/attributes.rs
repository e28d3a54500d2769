//! Attributes of parts of a query: `(a b)=>{$weight: 2; $slop: 3; $inorder: true; $phonetic: false}`.

use super::Node;
use super::open::{Raw, Slot, check_weight};
use super::parser::Parsed;
use super::values;
use crate::error::{self, Kind};
use crate::words::whole_number;
use std::sync::Arc;

/// A node with its attributes.
#[derive(Clone, Debug, PartialEq)]
pub struct Attributed {
    pub node: Node,
    pub attributes: QueryAttributes,
}

#[derive(Clone, Debug, PartialEq)]
pub struct QueryAttributes {
    /// The factor of the node's scores.
    pub weight: Slot<f64>,
    /// Whether the query says the factor.
    pub names_weight: bool,
    /// For an intersection: how many other words may be between its words; negative for any number.
    pub slop: Option<Slot<i32>>,
    /// For an intersection: whether its words must be in its order.
    pub in_order: Option<Slot<bool>>,
    /// For a word: whether words that sound alike match.
    pub phonetic: Option<Slot<bool>>,
    /// Set if these are from the request's options, and not in the query's text.
    pub is_of_request: bool,
    /// The fields that the query names for all words of the node.
    pub fields: Option<Arc<[usize]>>,
}

impl Default for QueryAttributes {
    fn default() -> QueryAttributes {
        QueryAttributes {
            weight: Slot::Given(1.0),
            names_weight: false,
            slop: None,
            in_order: None,
            phonetic: None,
            is_of_request: false,
            fields: None,
        }
    }
}

impl QueryAttributes {
    /// Sets an attribute; false if there is none of this name.
    pub fn set(&mut self, name: &[u8], value: Raw<'_>) -> Parsed<bool> {
        match name.to_ascii_lowercase().as_slice() {
            b"weight" => {
                self.weight = Slot::of(value, weight)?;
                self.names_weight = true;
            }
            b"slop" => self.slop = Some(Slot::of(value, slop)?),
            b"inorder" => self.in_order = Some(Slot::of(value, in_order)?),
            b"phonetic" => self.phonetic = Some(Slot::of(value, phonetic)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether a value is a parameter.
    pub fn is_open(&self) -> bool {
        self.weight.is_open()
            || self.slop.as_ref().is_some_and(Slot::is_open)
            || [&self.in_order, &self.phonetic].iter().any(|slot| slot.as_ref().is_some_and(Slot::is_open))
    }

    /// With the values of parameters, which are these words of a request.
    pub fn bound(&self, words: &[&[u8]]) -> Parsed<QueryAttributes> {
        let given = |slot: &Option<Slot<bool>>, read: fn(&[u8]) -> Parsed<bool>| {
            slot.as_ref().map(|slot| slot.value(words, read).map(Slot::Given)).transpose()
        };
        Ok(QueryAttributes {
            weight: Slot::Given(self.weight.value(words, weight)?),
            names_weight: self.names_weight,
            slop: self.slop.as_ref().map(|slot| slot.value(words, slop).map(Slot::Given)).transpose()?,
            in_order: given(&self.in_order, in_order)?,
            phonetic: given(&self.phonetic, phonetic)?,
            is_of_request: self.is_of_request,
            fields: self.fields.clone(),
        })
    }

    pub fn weight(&self) -> f64 {
        *self.weight.given()
    }

    /// How far apart the words of an intersection may be, and whether they must be in its order. `None` if
    /// any distance in any order is right.
    pub fn nearness(&self) -> Option<Nearness> {
        let slop = self.slop.as_ref().map_or(-1, |slot| *slot.given());
        let in_order = self.in_order.as_ref().is_some_and(|slot| *slot.given());
        match slop {
            0.. => Some(Nearness { slop: slop as u32, in_order }),
            _ if in_order => Some(Nearness { slop: u32::MAX, in_order }),
            _ => None,
        }
    }
}

/// How near to each other the words of an intersection must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nearness {
    /// The most other words between them.
    pub slop: u32,
    pub in_order: bool,
}

impl Nearness {
    /// That of a phrase.
    pub const ADJACENT: Nearness = Nearness { slop: 0, in_order: true };
}

fn weight(digits: &[u8]) -> Parsed<f64> {
    check_weight(digits)?;
    Ok(values::number(digits).unwrap_or(1.0))
}

fn slop(digits: &[u8]) -> Parsed<i32> {
    whole_number(digits).filter(|slop: &i32| *slop >= -1).ok_or_else(|| bad(digits, "slop"))
}

fn in_order(word: &[u8]) -> Parsed<bool> {
    boolean(word).ok_or_else(|| bad(word, "inorder"))
}

fn phonetic(word: &[u8]) -> Parsed<bool> {
    boolean(word).ok_or_else(|| bad(word, "phonetic"))
}

fn boolean(word: &[u8]) -> Option<bool> {
    match word.to_ascii_lowercase().as_slice() {
        b"true" | b"1" => Some(true),
        b"false" | b"0" => Some(false),
        _ => None,
    }
}

fn bad(word: &[u8], name: &'static str) -> error::SearchError {
    Kind::BadAttributeValue.with([error::text(word).into(), name.into()])
}
