//! Commands that set and remove values at paths.

use super::foreseen::is_foreseen;
use super::matches::{self, innermost_first, matches, matches_within, put_locations};
use super::{default_path, document, utf8};
use crate::document::JsonDocument;
use crate::error;
use crate::location::{self, LocationStep, removal_order};
use crate::packed::{self, DEPTH_MAX};
use crate::path::{ClientPath, JsonPath, LastStep, WalkBudget, locate};
use crate::text;
use crate::value::tree::Root;
use crate::{effect, value::JsonNode};
use engramdb_engine::MadeOfWords;
use engramdb_engine::command::{Args, CommandError, Outcome, Reply};
use engramdb_engine::effect::{Cause, Effect};
use engramdb_engine::hashing::HashSet;
use engramdb_engine::keyspace::TypedValue;
use engramdb_engine::store::tx::Tx;
use engramdb_engine::store::view::View;
use std::cell::RefCell;
use std::sync::Arc;

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

/// A text of more bytes is parsed without the lock.
const AT_ONCE_BYTES: usize = 128 << 10;

/// A text that was parsed without the lock: the beginning of the payload, how many containers are within each
/// other, and the value in memory.
type Parsed = Result<(Vec<u8>, usize, Root), CommandError>;

fn parse_apart(text: Arc<Vec<u8>>) -> MadeOfWords {
    let parse = || {
        let mut payload = Vec::new();
        let depth = text::parse(utf8(&text)?, &mut payload)?;
        let root = Root::of(&payload);
        Ok((payload, depth, root))
    };
    made_of_parsed(parse())
}

fn made_of_parsed(parsed: Parsed) -> MadeOfWords {
    let heap_bytes = parsed.as_ref().map_or(0, |(payload, _, root)| payload.capacity() + root.heap_bytes());
    MadeOfWords { value: Box::new(parsed), heap_bytes }
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
    let Some(made) = tx.made_of(word, parse_apart) else { return Ok(None) };
    let parsed = made.value.downcast::<Parsed>().expect("what parse_apart makes");
    let (packed, depth, root) = (*parsed)?;
    *payload = packed;
    Ok(Some((depth, Some(root))))
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
        let is_planned = tx.read(|view| {
            let document = document(view, key)?;
            let depth = match &large {
                Some((depth, _)) => *depth,
                None => text::parse(utf8(args.word(3))?, payload)?,
            };
            plan(document, &path, presence, (depth, None), payload)
        })?;
        if !is_planned {
            reply.null();
            return Ok(());
        }
        let (depth, built) = large.unwrap_or_default();
        let at_root = built.as_ref().filter(|_| path.is_root());
        if !is_foreseen(tx, key, effect::SET, payload, at_root) {
            keep_parsed(tx, payload, depth, built);
            return Ok(());
        }
        effect::apply_own(tx, key, effect::SET, payload, built.filter(|_| path.is_root()));
        reply.ok();
        Ok(())
    })
}

/// Keeps a text that was parsed without the lock for the next run of the command. The payload begins with it.
fn keep_parsed(tx: &mut Tx<'_>, payload: &mut Vec<u8>, depth: usize, built: Option<Root>) {
    if let Some(root) = built {
        payload.truncate(packed::size(payload));
        tx.keep_made(made_of_parsed(Ok((std::mem::take(payload), depth, root))));
    }
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

/// Adds the locations at which a value is set to the payload of `Set`. False if there are none.
fn plan(
    document: Option<&JsonDocument>,
    path: &ClientPath<'_>,
    presence: Presence,
    (depth, budget): (usize, Option<&mut WalkBudget>),
    payload: &mut Vec<u8>,
) -> Result<bool, CommandError> {
    let Some(document) = document else {
        if presence == Presence::Present {
            return Ok(false);
        }
        if !path.is_root() {
            return Err(error::NEW_AT_ROOT);
        }
        location::put(payload, &[]);
        return Ok(true);
    };
    if path.is_root() {
        location::put(payload, &[]);
        return Ok(presence != Presence::Absent);
    }
    let query = path.query()?;
    let mut own = document.budget_under_lock();
    let budget = budget.unwrap_or(&mut own);
    if presence != Presence::Absent && plan_present(&query, document, (depth, budget), payload)? {
        return Ok(true);
    }
    if presence == Presence::Present {
        return Ok(false);
    }
    plan_new(query, document, (depth, budget), payload)
}

/// The locations of all values that are there.
fn plan_present(
    query: &JsonPath<'_>,
    document: &JsonDocument,
    (depth, budget): (usize, &mut WalkBudget),
    payload: &mut Vec<u8>,
) -> Result<bool, CommandError> {
    if !query.is_static() {
        let mut matches = matches_within(query, document, budget)?;
        innermost_first(&mut matches);
        matches.iter().try_for_each(|found| check_depth(found.steps.len(), depth))?;
        document.check_growth(matches.len(), payload.len())?;
        put_locations(payload, &matches);
        return Ok(!matches.is_empty());
    }
    document.check_growth(1, payload.len())?;
    let mut steps_found = None;
    locate(query, document.value(), budget, &mut |steps, _| {
        location::put(payload, steps);
        steps_found = Some(steps.len());
    })?;
    steps_found.map_or(Ok(false), |steps| check_depth(steps, depth).map(|()| true))
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
) -> Result<bool, CommandError> {
    if !query.is_static() {
        return Err(error::NOT_STATIC);
    }
    document.check_growth(1, payload.len())?;
    let mut is_there = false;
    locate(&query, document.value(), budget, &mut |_, _| is_there = true)?;
    let (parent, last) = query.split_last().ok_or(error::NO_MEMBER_TO_SET)?;
    let LastStep::Name(name) = last else {
        return if is_there { Ok(false) } else { Err(error::OUT_OF_RANGE) };
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
    steps_found.map_or(Ok(false), |steps| check_depth(steps, depth).map(|()| true))
}

/// Each member of a patch is looked for in the document: in its blocks, and in one of them.
fn check_merge(document: &JsonDocument, patch: &[u8]) -> Result<(), CommandError> {
    const LOOKS_MAX: usize = 16 << 20;
    const BLOCK_BYTES: usize = 8 << 10;
    let bytes = document.heap_bytes() + patch.len();
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
    let kind = tx.read(|view| {
        let document = document(view, key)?;
        let Some(document) = document.filter(|_| !path.is_root()) else {
            let is_new = document.is_none();
            document.map_or(Ok(()), |document| check_merge(document, &payload))?;
            let is_planned = plan(document, &path, Presence::Any, (depth, None), &mut payload)?;
            return Ok(is_planned.then_some(if is_new { effect::SET } else { effect::MERGE }));
        };
        let query = path.query()?;
        check_merge(document, &payload)?;
        let budget = &mut document.budget_under_lock();
        if plan_present(&query, document, (depth, budget), &mut payload)? {
            return Ok(Some(effect::MERGE));
        }
        // A new member is set as it is, nulls included.
        Ok::<_, CommandError>(
            plan_new(query, document, (depth, budget), &mut payload)?.then_some(effect::SET),
        )
    })?;
    match kind {
        Some(kind) => {
            if !is_foreseen(tx, key, kind, &payload, None) {
                keep_parsed(tx, &mut payload, depth, built);
                return Ok(());
            }
            effect::apply_own(tx, key, kind, &payload, None);
            reply.ok();
        }
        None => reply.null(),
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
    let mut payloads = Vec::with_capacity(triples.len());
    let mut budget = WalkBudget::of_words(args.len());
    for triple in triples {
        payloads.push(tx.read(|view| planned(view, *triple, &mut budget))?);
    }
    keys.clear();
    for (triple, mut payload) in triples.iter().zip(payloads) {
        let key = triple[0];
        if !keys.insert(key) {
            // An earlier value may have changed where the path leads. If that is nowhere, nothing is set.
            payload = tx.read(|view| planned(view, *triple, &mut budget)).unwrap_or_default();
        }
        if let Some(payload) = payload {
            effect::apply_own(tx, key, effect::SET, &payload, None);
        }
    }
    reply.ok();
    Ok(())
}

/// The payload for one key; `None` if there is nothing to set.
fn planned(
    view: &View<'_>,
    [key, path, text]: [&[u8]; 3],
    budget: &mut WalkBudget,
) -> Result<Option<Vec<u8>>, CommandError> {
    let document = document(view, key)?;
    let path = ClientPath::new(path)?;
    if document.is_none() && !path.is_root() {
        return Err(error::NEW_AT_ROOT);
    }
    if document.is_some() {
        path.query()?;
    }
    let mut payload = Vec::new();
    let depth = text::parse(utf8(text)?, &mut payload)?;
    let is_planned = plan(document, &path, Presence::Any, (depth, Some(budget)), &mut payload)?;
    Ok(is_planned.then_some(payload))
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
            if !is_foreseen(tx, key, effect::REMOVE, &payload, None) {
                return Ok(());
            }
            effect::apply_own(tx, key, effect::REMOVE, &payload, None);
        }
        None => _ = tx.apply(Effect::Delete { key, cause: Cause::Command }),
    }
    reply.integer(removed as i64);
    Ok(())
}
