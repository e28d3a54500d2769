//! The effects on documents: what they carry, and how they are applied. Locations in them are concrete, so a
//! replay evaluates no path.
//!
//! | kind | payload |
//! |---|---|
//! | 1 Set | a value, locations: sets it there; a member that is missing is added |
//! | 2 Remove | locations, in the order in which they are removed |
//! | 3 Replace | location and value in turn: a scalar replaces a scalar, or an empty container another |
//! | 4 Insert | how many values, the values; location of an array and index in turn |
//! | 5 Trim | in turn: location of an array, index of the first kept element, index after the last kept one |
//! | 6 Append | a text, locations of texts |
//! | 7 Merge | a patch (RFC 7386), locations |
//! | 8 Fill | location of a container, how many items, the items: adds them at its end |
//!
//! Values are packed (`packed`), locations and numbers as `location` says.

use crate::location::{self, LocationStep, Steps};
use crate::packed::{self, ContainerHeader, DEPTH_MAX};
use crate::value::JsonNode;
use crate::value::flat::ValueChange;
use crate::value::tree::Root;
use engramdb_engine::effect::Effect;
use engramdb_engine::keyspace::EffectOrigin;

/// The module's number in effects.
pub const NUMBER: u8 = 2;
/// The version of payloads.
pub const VERSION: u8 = 1;

pub const SET: u8 = 1;
pub const REMOVE: u8 = 2;
pub const REPLACE: u8 = 3;
pub const INSERT: u8 = 4;
pub const TRIM: u8 = 5;
pub const APPEND: u8 = 6;
pub const MERGE: u8 = 7;
pub const FILL: u8 = 8;

/// The effect of this kind on a key.
pub fn of<'a>(key: &'a [u8], kind: u8, payload: &'a [u8]) -> Effect<'a> {
    Effect::Module { module: NUMBER, version: VERSION, kind, key: Some(key), payload }
}

/// What is read of a payload, from its front.
pub struct PayloadReader<'p> {
    rest: &'p [u8],
    /// Whether it may be malformed. What a handler has made, or what was applied before, is not.
    checks: bool,
}

impl<'p> PayloadReader<'p> {
    pub fn of(payload: &'p [u8], checks: bool) -> PayloadReader<'p> {
        PayloadReader { rest: payload, checks }
    }

    pub fn bytes_left(&self) -> usize {
        self.rest.len()
    }

    pub fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    /// A value with at most `depth` containers within each other.
    pub fn value(&mut self, depth: usize) -> Option<&'p [u8]> {
        let size = if self.checks { packed::check(self.rest, depth)? } else { packed::size(self.rest) };
        let (value, rest) = self.rest.split_at_checked(size)?;
        self.rest = rest;
        Some(value)
    }

    pub fn count(&mut self) -> Option<usize> {
        usize::try_from(location::take_number(&mut self.rest)?).ok()
    }

    /// Values, and how many they are.
    pub fn values(&mut self) -> Option<(&'p [u8], usize)> {
        let count = self.count()?;
        let all = self.rest;
        for _ in 0..count {
            self.value(DEPTH_MAX)?;
        }
        Some((&all[..all.len() - self.rest.len()], count))
    }

    pub fn steps(&mut self) -> Option<Steps<'p>> {
        location::take(&mut self.rest, DEPTH_MAX)
    }

    /// Whether a value that was read fits in this depth.
    fn check_depth(&self, value: &[u8], depth: usize) -> Option<()> {
        let is_flat = ContainerHeader::of(value).is_none_or(|header| header.count == 0);
        let is_known = !self.checks || depth == DEPTH_MAX || is_flat && depth > 0;
        (is_known || packed::check(value, depth).is_some()).then_some(())
    }

    /// The same for a run of elements.
    fn check_run(&self, run: &[u8], depth: usize) -> Option<()> {
        (!self.checks || packed::check_run(run, false, depth).is_some()).then_some(())
    }
}

/// Applies a payload. Returns in how many places it may have removed values within others: 0 if what was
/// there before had none, so that nothing but the places themselves has changed. `None` if it is malformed or
/// does not fit.
pub fn apply(root: &mut Option<Root>, kind: u8, payload: &[u8], origin: EffectOrigin) -> Option<usize> {
    // Builds with assertions check what a handler has made all the same.
    let checks = origin == EffectOrigin::Stored || cfg!(debug_assertions);
    let mut payload = PayloadReader::of(payload, checks);
    let value = match kind {
        SET | APPEND | MERGE => payload.value(DEPTH_MAX)?,
        _ => &[],
    };
    let (values, count) = if kind == INSERT { payload.values()? } else { (&[][..], 0) };
    let (mut places, mut removed) = (0, 0);
    loop {
        let steps = payload.steps()?;
        removed += usize::from(may_remove_items(root, kind, &steps, places));
        let depth = DEPTH_MAX - steps.len();
        match kind {
            SET => {
                payload.check_depth(value, depth)?;
                set(root, &steps, value)?;
            }
            REMOVE => root.as_mut()?.change(&steps, ValueChange::Remove)?,
            REPLACE => {
                let value = payload.value(depth)?;
                removed += usize::from(is_container(value));
                set(root, &steps, value)?;
            }
            INSERT => {
                payload.check_run(values, depth.checked_sub(1)?)?;
                let index = payload.count()?;
                root.as_mut()?.change(&steps, ValueChange::Insert { index, values, count })?;
            }
            TRIM => {
                let (start, stop) = (payload.count()?, payload.count()?);
                root.as_mut()?.change(&steps, ValueChange::Trim { start, stop })?;
            }
            APPEND => root.as_mut()?.change(&steps, ValueChange::Append(packed::text(value)?.0))?,
            MERGE => {
                payload.check_depth(value, depth)?;
                merge(root.as_mut()?, &mut Steps::from_slice(&steps), JsonNode::Packed(value))?;
            }
            FILL => return fill(root.as_mut()?, &steps, payload),
            _ => return None,
        }
        places += 1;
        if payload.is_done() {
            return Some(removed);
        }
    }
}

/// Whether a change may remove values that are within the one at its place. It is looked up in large
/// documents only, where it saves more, and for a few places.
fn may_remove_items(root: &Option<Root>, kind: u8, steps: &[LocationStep<'_>], places: usize) -> bool {
    const LOOKED_UP_MAX: usize = 16;
    match (kind, root) {
        (_, None) | (REPLACE | INSERT | APPEND | FILL, _) => false,
        (SET | REMOVE, Some(root @ Root::Large(_))) if places < LOOKED_UP_MAX => {
            let items = at(root.value(), steps).and_then(JsonNode::items);
            items.is_some_and(|items| items.len() > 0)
        }
        _ => true,
    }
}

pub fn is_container(value: &[u8]) -> bool {
    ContainerHeader::of(value).is_some()
}

fn set(root: &mut Option<Root>, steps: &[LocationStep<'_>], value: &[u8]) -> Option<()> {
    match root {
        Some(root) => root.change(steps, ValueChange::Set(value)),
        None if steps.is_empty() => {
            *root = Some(Root::of(value));
            Some(())
        }
        None => None,
    }
}

fn fill(root: &mut Root, steps: &[LocationStep<'_>], mut payload: PayloadReader<'_>) -> Option<usize> {
    let count = payload.count()?;
    let items = payload.rest;
    let is_object = at(root.value(), steps)?.is_object()?;
    let depth = (DEPTH_MAX - steps.len()).checked_sub(1)?;
    if packed::check_run(items, is_object, depth)? != count {
        return None;
    }
    root.change(steps, ValueChange::Fill { items, count })?;
    Some(1)
}

/// The value at a location.
pub fn at<'a>(root: JsonNode<'a>, steps: &[LocationStep<'_>]) -> Option<JsonNode<'a>> {
    steps.iter().try_fold(root, |node, step| match step {
        LocationStep::Name(name) => node.member(name),
        LocationStep::Index(index) => node.element(*index),
    })
}

/// Merges a patch into the value at a location (RFC 7386): members of objects are merged, a null removes a
/// member, anything else replaces what is there.
fn merge<'p>(root: &mut Root, steps: &mut Steps<'p>, patch: JsonNode<'p>) -> Option<()> {
    let current = at(root.value(), steps);
    if patch.is_object() != Some(true) || current.and_then(JsonNode::is_object) != Some(true) {
        let mut value = Vec::new();
        pack_without_nulls(patch, &mut value);
        return root.change(steps, ValueChange::Set(&value));
    }
    for (name, value) in patch.items()? {
        let is_null = matches!(value, JsonNode::Packed([packed::NULL, ..]));
        steps.push(LocationStep::Name(name));
        if !is_null {
            merge(root, steps, value)?;
        } else if at(root.value(), steps).is_some() {
            root.change(steps, ValueChange::Remove)?;
        }
        steps.pop();
    }
    Some(())
}

/// Packs a patch as it is where there was nothing: without the members of objects that are null.
fn pack_without_nulls(patch: JsonNode<'_>, out: &mut Vec<u8>) {
    if patch.is_object() != Some(true) {
        return patch.pack(out);
    }
    let opened = packed::open(out);
    let mut count = 0;
    for (name, value) in patch.items().into_iter().flatten() {
        if !matches!(value, JsonNode::Packed([packed::NULL, ..])) {
            packed::put_text(out, name);
            pack_without_nulls(value, out);
            count += 1;
        }
    }
    packed::close(out, opened, true, count);
}

/// Applies any bytes as the payloads of effects, for fuzzing.
pub fn fuzz_effects(bytes: &[u8]) {
    let mut root = None;
    let mut packed = Vec::new();
    crate::text::parse(r#"{"a":[1,"x",{"b":{}}],"c":1.5}"#, &mut packed).expect("JSON");
    set(&mut root, &[], &packed);
    let mut rest = bytes;
    while let Some((&kind, behind)) = rest.split_first() {
        let length = behind.first().map_or(0, |length| usize::from(*length)).min(behind.len());
        let (payload, behind) = behind.split_at(length);
        rest = behind;
        if apply(&mut root, kind % 9, payload.get(1..).unwrap_or_default(), EffectOrigin::Stored).is_some()
            && let Some(root) = &root
        {
            let mut whole = Vec::new();
            root.value().pack(&mut whole);
            assert_eq!(
                packed::check(&whole, DEPTH_MAX),
                Some(whole.len()),
                "it is well-formed after each effect"
            );
        }
    }
}

#[cfg(test)]
#[path = "effect_tests.rs"]
mod tests;
