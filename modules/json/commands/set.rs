//! Commands that set and remove values at paths.

use super::foreseen::{change, set_built};
use super::matches::{innermost_first, matches, matches_within, put_locations};
use super::parsed::{ParsedText, keep_parsed, parse_and_build_apart, parse_apart};
use super::payload::with_payload;
use super::{default_path, document, utf8};
use crate::document::JsonDocument;
use crate::error;
use crate::limits::PARSED_AT_ONCE_BYTES;
use crate::location::{self, LocationStep, removal_order};
use crate::packed::DEPTH_MAX;
use crate::path::{ClientPath, JsonPath, LastStep, WalkBudget, locate};
use crate::text;
use crate::{effect, value::JsonNode};
use engramdb_engine::command::{Args, CommandError, Outcome, Reply};
use engramdb_engine::effect::{Cause, Effect};
use engramdb_engine::store::tx::Tx;

/// What JSON.SET requires of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Any,
    /// NX
    Absent,
    /// XX
    Present,
}

pub fn set(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let key = args.word(1);
    let path = ClientPath::new(args.word(2))?;
    let presence = set_options(args)?;
    with_payload(|payload| {
        if args.word(3).len() <= PARSED_AT_ONCE_BYTES {
            let places = tx.read(|view| {
                let document = document(view, key)?;
                let depth = text::parse(utf8(args.word(3))?, payload)?;
                plan(document, &path, presence, (depth, None), payload)
            })?;
            if places == 0 {
                reply.null();
            } else if change(tx, key, effect::SET, payload, places) {
                reply.ok();
            }
            return Ok(());
        }
        tx.read(|view| document(view, key).map(|_| ()))?;
        let texts = parse_and_build_apart(tx, &[args.word(2), args.word(3)]);
        let Some(mut texts) = texts else { return Ok(()) };
        let mut parsed = texts.pop().expect("one text")?;
        let outcome = set_parsed(tx, (key, &path, presence), &mut parsed, reply);
        tx.discard(Box::new(parsed));
        outcome
    })
}

/// Sets a text that was parsed without the lock. What is left of it takes long to free.
fn set_parsed(
    tx: &mut Tx<'_>,
    (key, path, presence): (&[u8], &ClientPath<'_>, Presence),
    parsed: &mut ParsedText,
    reply: &mut dyn Reply,
) -> Outcome {
    let ParsedText { payload, depth, built } = parsed;
    let places = tx.read(|view| plan(document(view, key)?, path, presence, (*depth, None), payload))?;
    if places == 0 {
        reply.null();
        return Ok(());
    }
    let is_set = match built.take() {
        Some(root) => set_built(tx, key, payload, root).map_err(|root| *built = Some(root)).is_ok(),
        None => change(tx, key, effect::SET, payload, places),
    };
    if is_set {
        reply.ok();
    } else {
        keep_parsed(tx, payload, *depth, built.take());
    }
    Ok(())
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
pub fn plan(
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
        return plan_whole(payload);
    };
    if path.is_root() {
        return if presence == Presence::Absent { Ok(0) } else { plan_whole(payload) };
    }
    plan_at(document, path.query()?, presence, (depth, budget), payload)
}

/// The location of the whole document.
fn plan_whole(payload: &mut Vec<u8>) -> Result<usize, CommandError> {
    JsonDocument::default().check_growth(1, payload.len())?;
    location::put(payload, &[]);
    Ok(1)
}

/// The locations at a path in a document that is there.
pub fn plan_at(
    document: &JsonDocument,
    query: JsonPath<'_>,
    presence: Presence,
    (depth, budget): (usize, Option<&mut WalkBudget>),
    payload: &mut Vec<u8>,
) -> Result<usize, CommandError> {
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
    let is_apart = args.word(3).len() > PARSED_AT_ONCE_BYTES;
    let parsed = match is_apart {
        true => parse_apart(tx, &[args.word(3)]).and_then(|mut texts| texts.pop()),
        false => Some(ParsedText::of(args.word(3))),
    };
    let Some(parsed) = parsed else { return Ok(()) };
    let ParsedText { mut payload, depth, .. } = parsed?;
    let (kind, places) = tx.read(|view| {
        let document = document(view, key)?;
        let Some(document) = document.filter(|_| !path.is_root()) else {
            let is_new = document.is_none();
            document.map_or(Ok(()), |document| {
                document.check_growth(1, payload.len())?;
                check_merge(document, &payload)
            })?;
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
    if change(tx, key, kind, &payload, places) {
        reply.ok();
    } else if is_apart {
        keep_parsed(tx, &mut payload, depth, None);
    }
    if is_apart {
        tx.discard(Box::new(payload));
    }
    Ok(())
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
            if !change(tx, key, effect::REMOVE, &payload, removed) {
                return Ok(());
            }
        }
        None => _ = tx.apply(Effect::Delete { key, cause: Cause::Command }),
    }
    reply.integer(removed as i64);
    Ok(())
}
