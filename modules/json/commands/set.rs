//! Commands that set and remove values at paths.

use super::foreseen::{PlannedEffect, apply};
use super::matches::{self, innermost_first, matches, matches_within, put_locations};
use super::parsed::{AT_ONCE_BYTES, ParsedText, are_large, keep_parsed, parse_apart};
use super::{default_path, document, utf8};
use crate::document::JsonDocument;
use crate::error;
use crate::location::{self, LocationStep, removal_order};
use crate::packed::{self, DEPTH_MAX};
use crate::path::{ClientPath, JsonPath, LastStep, WalkBudget, locate};
use crate::text;
use crate::value::tree::Root;
use crate::{effect, value::JsonNode};
use engramdb_engine::command::{Args, CommandError, Outcome, Reply};
use engramdb_engine::effect::{Cause, Effect};
use engramdb_engine::hashing::HashSet;
use engramdb_engine::store::tx::Tx;
use engramdb_engine::store::view::View;
use std::cell::RefCell;

/// What JSON.SET requires of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Any,
    /// NX
    Absent,
    /// XX
    Present,
}

thread_local! {
    /// The payload of the last command of this thread, so that its memory is used again.
    static PAYLOAD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Calls `with` on an empty buffer for a payload.
pub fn with_payload<R>(with: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    const KEPT_BYTES_MAX: usize = 256 << 10;
    let mut payload = PAYLOAD.take();
    payload.clear();
    let result = with(&mut payload);
    if payload.capacity() <= KEPT_BYTES_MAX {
        PAYLOAD.set(payload);
    }
    result
}

/// Parses a text of the request into the payload, and returns how many containers are within each other, and
/// the value if it was built without the lock. `None` if the command must return, and will run again.
fn parse(
    tx: &mut Tx<'_>,
    word: &[u8],
    payload: &mut Vec<u8>,
) -> Result<Option<(usize, Option<Root>)>, CommandError> {
    if word.len() <= AT_ONCE_BYTES {
        return Ok(Some((text::parse(utf8(word)?, payload)?, None)));
    }
    let Some(mut texts) = parse_apart(tx, &[word]) else { return Ok(None) };
    let parsed = texts.pop().expect("one text")?;
    *payload = parsed.payload;
    Ok(Some((parsed.depth, parsed.built)))
}

pub fn set(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let key = args.word(1);
    let path = ClientPath::new(args.word(2))?;
    let presence = set_options(args)?;
    with_payload(|payload| {
        let mut large = None;
        if args.word(3).len() > AT_ONCE_BYTES {
            tx.read(|view| document(view, key).map(|_| ()))?;
            large = parse(tx, args.word(3), payload)?;
            if large.is_none() {
                return Ok(());
            }
        }
        let places = tx.read(|view| {
            let document = document(view, key)?;
            let depth = match &large {
                Some((depth, _)) => *depth,
                None => text::parse(utf8(args.word(3))?, payload)?,
            };
            plan(document, &path, presence, (depth, None), payload)
        })?;
        if places == 0 {
            reply.null();
            return Ok(());
        }
        let (depth, built) = large.unwrap_or_default();
        let (built, elsewhere) = if path.is_root() { (built, None) } else { (None, built) };
        let mut planned = PlannedEffect { key, kind: effect::SET, payload, places, built };
        if apply(tx, &mut planned) {
            reply.ok();
        } else {
            let built = planned.built.or(elsewhere);
            keep_parsed(tx, payload, depth, built);
        }
        Ok(())
    })
}

fn set_options(args: Args<'_>) -> Result<Presence, CommandError> {
    let mut presence = Presence::Any;
    let mut options = args.options(4);
    while !options.is_done() {
        if presence == Presence::Any && options.take("NX") {
            presence = Presence::Absent;
        } else if presence == Presence::Any && options.take("XX") {
            presence = Presence::Present;
        } else if options.take("FORMAT") {
            let format = options.word().map_err(|_| CommandError::wrong_arity("json.set"))?;
            check_format(format)?;
        } else {
            utf8(options.word()?)?;
            return Err(CommandError::SYNTAX);
        }
    }
    Ok(presence)
}

/// The format of a text that is set.
fn check_format(format: &[u8]) -> Result<(), CommandError> {
    match format {
        b"JSON" | b"STRING" => Ok(()),
        b"BSON" => Err(error::BSON),
        _ => Err(error::WRONG_FORMAT),
    }
}

/// Adds the locations at which a value is set to the payload of `Set`. Returns how many.
fn plan(
    document: Option<&JsonDocument>,
    path: &ClientPath<'_>,
    presence: Presence,
    (depth, budget): (usize, Option<&mut WalkBudget>),
    payload: &mut Vec<u8>,
) -> Result<usize, CommandError> {
    let Some(document) = document else {
        if presence == Presence::Present {
            return Ok(0);
        }
        if !path.is_root() {
            return Err(error::NEW_AT_ROOT);
        }
        location::put(payload, &[]);
        return Ok(1);
    };
    if path.is_root() {
        location::put(payload, &[]);
        return Ok(usize::from(presence != Presence::Absent));
    }
    let query = path.query()?;
    let mut own = document.budget_under_lock();
    let budget = budget.unwrap_or(&mut own);
    if presence != Presence::Absent {
        let places = plan_present(&query, document, (depth, budget), payload)?;
        if places > 0 || presence == Presence::Present {
            return Ok(places);
        }
    }
    plan_new(query, document, (depth, budget), payload)
}

/// The locations of all values that are there.
fn plan_present(
    query: &JsonPath<'_>,
    document: &JsonDocument,
    (depth, budget): (usize, &mut WalkBudget),
    payload: &mut Vec<u8>,
) -> Result<usize, CommandError> {
    if !query.is_static() {
        let mut matches = matches_within(query, document, budget)?;
        innermost_first(&mut matches);
        matches.iter().try_for_each(|found| check_depth(found.steps.len(), depth))?;
        document.check_growth(matches.len(), payload.len())?;
        put_locations(payload, &matches);
        return Ok(matches.len());
    }
    document.check_growth(1, payload.len())?;
    let mut steps_found = None;
    locate(query, document.value(), budget, &mut |steps, _| {
        location::put(payload, steps);
        steps_found = Some(steps.len());
    })?;
    steps_found.map_or(Ok(0), |steps| check_depth(steps, depth).map(|()| 1))
}

fn check_depth(steps: usize, depth: usize) -> Result<(), CommandError> {
    if steps + depth > DEPTH_MAX { Err(error::TOO_DEEP) } else { Ok(()) }
}

/// The location of a member that is not there.
fn plan_new(
    query: JsonPath<'_>,
    document: &JsonDocument,
    (depth, budget): (usize, &mut WalkBudget),
    payload: &mut Vec<u8>,
) -> Result<usize, CommandError> {
    if !query.is_static() {
        return Err(error::NOT_STATIC);
    }
    document.check_growth(1, payload.len())?;
    let mut is_there = false;
    locate(&query, document.value(), budget, &mut |_, _| is_there = true)?;
    let (parent, last) = query.split_last().ok_or(error::NO_MEMBER_TO_SET)?;
    let LastStep::Name(name) = last else {
        return if is_there { Ok(0) } else { Err(error::OUT_OF_RANGE) };
    };
    let mut steps_found = None;
    locate(
        &parent,
        document.value(),
        &mut document.budget_under_lock(),
        &mut |steps, node: JsonNode<'_>| {
            if node.is_object() == Some(true) && !is_there {
                steps_found = Some(steps.len() + 1);
                let steps = steps.iter().copied().chain([LocationStep::Name(&name)]);
                location::put(payload, &steps.collect::<location::Steps<'_>>());
            }
        },
    )?;
    steps_found.map_or(Ok(0), |steps| check_depth(steps, depth).map(|()| 1))
}

/// Each member of a patch is looked for in the document: in its blocks, and in one of them.
fn check_merge(document: &JsonDocument, patch: &[u8]) -> Result<(), CommandError> {
    const LOOKS_MAX: usize = 16 << 20;
    const BLOCK_BYTES: usize = 8 << 10;
    let bytes = document.content_bytes() + patch.len();
    let looks =
        members(JsonNode::Packed(patch)).saturating_mul(bytes / BLOCK_BYTES + bytes.min(BLOCK_BYTES) / 16);
    if looks > LOOKS_MAX { Err(error::TOO_MANY_MEMBERS) } else { Ok(()) }
}

/// The members of an object, and of objects in it.
fn members(node: JsonNode<'_>) -> usize {
    if node.is_object() != Some(true) {
        return 0;
    }
    node.items().into_iter().flatten().map(|(_, value)| 1 + members(value)).sum()
}

/// `JSON.MERGE key path value [FORMAT format]`
pub fn merge(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let key = args.word(1);
    let path = ClientPath::new(args.word(2))?;
    let mut options = args.options(4);
    while !options.is_done() {
        if !options.take("FORMAT") {
            return Err(CommandError::SYNTAX);
        }
        check_format(options.word().map_err(|_| CommandError::wrong_arity("json.merge"))?)?;
    }
    tx.read(|view| document(view, key).map(|_| ()))?;
    let mut payload = Vec::new();
    let Some((depth, built)) = parse(tx, args.word(3), &mut payload)? else { return Ok(()) };
    let (kind, places) = tx.read(|view| {
        let document = document(view, key)?;
        let Some(document) = document.filter(|_| !path.is_root()) else {
            let is_new = document.is_none();
            document.map_or(Ok(()), |document| check_merge(document, &payload))?;
            let places = plan(document, &path, Presence::Any, (depth, None), &mut payload)?;
            return Ok((if is_new { effect::SET } else { effect::MERGE }, places));
        };
        let query = path.query()?;
        check_merge(document, &payload)?;
        let budget = &mut document.budget_under_lock();
        let places = plan_present(&query, document, (depth, budget), &mut payload)?;
        if places > 0 {
            return Ok((effect::MERGE, places));
        }
        // A new member is set as it is, nulls included.
        Ok::<_, CommandError>((effect::SET, plan_new(query, document, (depth, budget), &mut payload)?))
    })?;
    if places == 0 {
        reply.null();
        return Ok(());
    }
    let places =
        if kind == effect::MERGE { places * (1 + members(JsonNode::Packed(&payload))) } else { places };
    let mut planned = PlannedEffect { key, kind, payload: &payload, places, built: None };
    if apply(tx, &mut planned) {
        reply.ok();
    } else {
        keep_parsed(tx, &mut payload, depth, built);
    }
    Ok(())
}

pub fn set_many(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (triples, rest) = args.from(1).as_chunks::<3>();
    if !rest.is_empty() {
        return Err(CommandError::wrong_arity("json.mset"));
    }
    let mut keys = HashSet::default();
    for [key, path, _] in triples {
        // What an earlier value adds to such a path is not in the room that was asked for.
        if !keys.insert(*key) && matches::leads_to_several(path) {
            return Err(error::SEVERAL_AGAIN);
        }
    }
    let texts: Vec<&[u8]> = triples.iter().map(|[.., text]| *text).collect();
    let apart = match are_large(&texts) {
        true => parse_apart(tx, &texts).map(Some),
        false => Some(None),
    };
    let Some(apart) = apart else { return Ok(()) };
    let mut apart = apart.map(Vec::into_iter);
    let mut texts = Vec::with_capacity(triples.len());
    let mut budget = WalkBudget::of_words(args.len());
    for triple in triples {
        let text = apart.as_mut().and_then(Iterator::next);
        texts.push(tx.read(|view| planned(view, *triple, text, &mut budget))?);
    }
    keys.clear();
    for ([key, path, _], (mut text, mut is_planned)) in triples.iter().zip(texts) {
        if !keys.insert(*key) {
            // An earlier value may have changed where the path leads. If that is nowhere, nothing is set.
            text.payload.truncate(packed::size(&text.payload));
            let places = tx.read(|view| places_of(view, (*key, *path), &mut text, &mut budget));
            is_planned = places.is_ok_and(|places| places > 0);
        }
        if is_planned {
            let built = text.built.filter(|_| ClientPath::new(path).is_ok_and(|path| path.is_root()));
            effect::apply_own(tx, key, effect::SET, &text.payload, built);
        }
    }
    reply.ok();
    Ok(())
}

/// The text for one key with its locations, and whether there are any. It is parsed unless it was before.
fn planned(
    view: &View<'_>,
    [key, path, text]: [&[u8]; 3],
    parsed: Option<Result<ParsedText, CommandError>>,
    budget: &mut WalkBudget,
) -> Result<(ParsedText, bool), CommandError> {
    let document = document(view, key)?;
    let client_path = ClientPath::new(path)?;
    if document.is_none() && !client_path.is_root() {
        return Err(error::NEW_AT_ROOT);
    }
    if document.is_some() {
        client_path.query()?;
    }
    let mut text = parsed.unwrap_or_else(|| ParsedText::of(text))?;
    let places = places_of(view, (key, path), &mut text, budget)?;
    Ok((text, places > 0))
}

fn places_of(
    view: &View<'_>,
    (key, path): (&[u8], &[u8]),
    text: &mut ParsedText,
    budget: &mut WalkBudget,
) -> Result<usize, CommandError> {
    let document = document(view, key)?;
    let path = ClientPath::new(path)?;
    plan(document, &path, Presence::Any, (text.depth, Some(budget)), &mut text.payload)
}

pub fn room_to_set_many(view: &View<'_>, args: Args<'_>) -> usize {
    let triples = args.from(1).as_chunks::<3>().0.iter();
    // Each effect names its key.
    let mut budget = WalkBudget::of_words(args.len());
    triples.map(|[key, path, _]| 64 + key.len() + matches::room_of(view, key, path, Some(&mut budget))).sum()
}

pub fn delete(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let key = args.word(1);
    let path = default_path(args, 2)?;
    let (payload, removed) = tx.read(|view| match document(view, key)? {
        None => Ok::<_, CommandError>((None, 0)),
        Some(_) if path.is_root() => Ok((None, 1)),
        Some(document) => {
            let query = path.query()?;
            let mut matches = matches(&query, document)?;
            matches.sort_by(|one, other| removal_order(&one.steps, &other.steps));
            // What is within a removed value goes with it.
            matches.dedup_by(|inner, outer| inner.steps.starts_with(&outer.steps));
            if matches.first().is_some_and(|found| found.steps.is_empty()) {
                return Ok((None, 1));
            }
            let mut payload = Vec::new();
            put_locations(&mut payload, &matches);
            Ok((Some(payload), matches.len()))
        }
    })?;
    match payload {
        _ if removed == 0 => {}
        Some(payload) => {
            let (kind, payload) = (effect::REMOVE, &payload[..]);
            if !apply(tx, &mut PlannedEffect { key, kind, payload, places: removed, built: None }) {
                return Ok(());
            }
        }
        None => _ = tx.apply(Effect::Delete { key, cause: Cause::Command }),
    }
    reply.integer(removed as i64);
    Ok(())
}
