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
use crate::path::{ChangeReach, JsonPath};
use crate::value::flat::ValueChange;
use crate::value::tree::Root;
use crate::value::{JsonNode, NodeItems};
use engramdb_engine::effect::Effect;
use engramdb_engine::store::tx::Tx;
use std::cell::{Cell, RefCell};

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

thread_local! {
    /// Whether this thread applies a payload that it has just made.
    static IS_OWN: Cell<bool> = const { Cell::new(false) };
    /// What the payload that is applied next makes of the document, built without the lock.
    static BUILT: RefCell<Option<Root>> = const { RefCell::new(None) };
}

/// Applies a payload that a handler has made: it is not checked as one from a log is. `built` is what it
/// makes of the document, if that is there already.
pub fn apply_own(tx: &mut Tx<'_>, key: &[u8], kind: u8, payload: &[u8], built: Option<Root>) -> usize {
    // Builds with assertions check it all the same.
    IS_OWN.set(!cfg!(debug_assertions));
    BUILT.set(built);
    let count = tx.apply(of(key, kind, payload));
    IS_OWN.set(false);
    assert!(BUILT.take().is_none(), "it was applied");
    count
}

/// Applies a payload. Returns in how many places it may have removed values within others: 0 if what was
/// there before had none, so that nothing but the places themselves has changed. `None` if it is malformed or
/// does not fit.
pub fn apply(root: &mut Option<Root>, kind: u8, mut payload: &[u8]) -> Option<usize> {
    let payload = &mut payload;
    if let Some(built) = BUILT.take() {
        let removed = usize::from(root.is_some());
        *root = Some(built);
        return Some(removed);
    }
    let value = match kind {
        SET | APPEND | MERGE => take_value(payload, DEPTH_MAX)?,
        _ => &[],
    };
    let (values, count) = if kind == INSERT { take_values(payload)? } else { (&[][..], 0) };
    let (mut places, mut removed) = (0, 0);
    loop {
        let steps = location::take(payload, DEPTH_MAX)?;
        removed += usize::from(may_remove_items(root, kind, &steps, places));
        let depth = DEPTH_MAX - steps.len();
        match kind {
            SET => {
                check_depth(value, depth)?;
                set(root, &steps, value)?;
            }
            REMOVE => root.as_mut()?.change(&steps, ValueChange::Remove)?,
            REPLACE => {
                let value = take_value(payload, depth)?;
                removed += usize::from(is_container(value));
                set(root, &steps, value)?;
            }
            INSERT => {
                check_run(values, false, depth.checked_sub(1)?)?;
                let index = take_count(payload)?;
                root.as_mut()?.change(&steps, ValueChange::Insert { index, values, count })?;
            }
            TRIM => {
                let (start, stop) = (take_count(payload)?, take_count(payload)?);
                root.as_mut()?.change(&steps, ValueChange::Trim { start, stop })?;
            }
            APPEND => root.as_mut()?.change(&steps, ValueChange::Append(packed::text(value)?.0))?,
            MERGE => {
                check_depth(value, depth)?;
                merge(root.as_mut()?, &mut Steps::from_slice(&steps), JsonNode::Packed(value))?;
            }
            FILL => return fill(root.as_mut()?, &steps, payload),
            _ => return None,
        }
        places += 1;
        if payload.is_empty() {
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

/// Whether a payload can change what is at a path of an index, or in what order. `removed` is what `apply`
/// has returned; `None` before that.
pub fn concerns(kind: u8, payload: &[u8], removed: Option<usize>, path: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(path) else { return true };
    // A filter can read anything, and to parse its patterns takes long. The location of the root is one 0.
    if path.contains(&b'?') || kind == SET && payload.last() == Some(&0) {
        return true;
    }
    let Ok(query) = JsonPath::parse(text) else { return true };
    is_reached(&query, kind, payload, removed).unwrap_or(true)
}

/// `None` if the payload has no known form, or too many places to look at each.
fn is_reached(query: &JsonPath<'_>, kind: u8, mut payload: &[u8], removed: Option<usize>) -> Option<bool> {
    const PLACES_MAX: usize = 64;
    const MERGED_PLACES_MAX: usize = 4;
    // An index has up to 1,024 paths, and each is compared with each place.
    const BYTES_MAX: usize = 8 << 10;
    let payload = &mut payload;
    let mut value: &[u8] = &[];
    let mut has_containers = false;
    match kind {
        SET | APPEND | MERGE => value = take_unchecked(payload)?,
        REMOVE | REPLACE | TRIM => {}
        INSERT if payload.len() <= BYTES_MAX => {
            let (run, count) = take_values_unchecked(payload)?;
            has_containers = NodeItems::of_run(run, false, count).any(|(_, value)| value.items().is_some());
        }
        _ => return None,
    }
    if payload.len() > BYTES_MAX {
        return None;
    }
    let removes =
        |value: &[u8]| removed.map_or(kind != REPLACE || is_container(value), |removed| removed > 0);
    for _ in 0..if kind == MERGE { MERGED_PLACES_MAX } else { PLACES_MAX } {
        let steps = location::take(payload, DEPTH_MAX)?;
        let reach = |below: bool, beside: bool| query.is_reached(&steps, ChangeReach { below, beside });
        let is_reached = match kind {
            SET => reach(removes(value) || is_container(value), false),
            REPLACE => {
                let value = take_unchecked(payload)?;
                reach(removes(value), false)
            }
            REMOVE => reach(removes(&[]), true),
            INSERT => is_reached_by_insert(query, steps, take_count(payload)?, has_containers),
            TRIM => {
                _ = (take_count(payload)?, take_count(payload)?);
                reach(true, false)
            }
            MERGE => is_reached_by_merge(query, steps, value),
            _ => reach(false, false),
        };
        if is_reached {
            return Some(true);
        }
        if payload.is_empty() {
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

fn is_container(value: &[u8]) -> bool {
    ContainerHeader::of(value).is_some()
}

/// Takes a value of a payload that is or was applied, and so was checked.
fn take_unchecked<'a>(payload: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (value, rest) = payload.split_at_checked(packed::size(payload))?;
    *payload = rest;
    Some(value)
}

fn take_values_unchecked<'a>(payload: &mut &'a [u8]) -> Option<(&'a [u8], usize)> {
    let count = take_count(payload)?;
    let all = *payload;
    for _ in 0..count {
        take_unchecked(payload)?;
    }
    Some((&all[..all.len() - payload.len()], count))
}

/// Whether a value that was checked fits in this depth.
fn check_depth(value: &[u8], depth: usize) -> Option<()> {
    let is_flat = ContainerHeader::of(value).is_none_or(|header| header.count == 0);
    let is_known = IS_OWN.get() || depth == DEPTH_MAX || is_flat && depth > 0;
    (is_known || packed::check(value, depth).is_some()).then_some(())
}

fn check_run(run: &[u8], is_object: bool, depth: usize) -> Option<()> {
    (IS_OWN.get() || packed::check_run(run, is_object, depth).is_some()).then_some(())
}

fn take_value<'a>(payload: &mut &'a [u8], depth: usize) -> Option<&'a [u8]> {
    let size = if IS_OWN.get() { packed::size(payload) } else { packed::check(payload, depth)? };
    let (value, rest) = payload.split_at(size);
    *payload = rest;
    Some(value)
}

fn take_count(payload: &mut &[u8]) -> Option<usize> {
    usize::try_from(location::take_number(payload)?).ok()
}

/// Packed values, and how many they are.
fn take_values<'a>(payload: &mut &'a [u8]) -> Option<(&'a [u8], usize)> {
    let count = take_count(payload)?;
    let all = *payload;
    for _ in 0..count {
        take_value(payload, DEPTH_MAX)?;
    }
    Some((&all[..all.len() - payload.len()], count))
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

fn fill(root: &mut Root, steps: &[LocationStep<'_>], payload: &mut &[u8]) -> Option<usize> {
    let count = take_count(payload)?;
    let is_object = at(root.value(), steps)?.is_object()?;
    let depth = (DEPTH_MAX - steps.len()).checked_sub(1)?;
    if packed::check_run(payload, is_object, depth)? != count {
        return None;
    }
    root.change(steps, ValueChange::Fill { items: payload, count })?;
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
        if apply(&mut root, kind % 9, payload.get(1..).unwrap_or_default()).is_some()
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
