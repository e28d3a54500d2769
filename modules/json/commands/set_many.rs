//! JSON.MSET: all values are planned, errors included, before the first one is set.

use super::document;
use super::matches;
use super::parsed::{ParsedText, are_large, parse_and_build_apart};
use super::set::{Presence, plan, plan_at};
use crate::document::JsonDocument;
use crate::effect;
use crate::error;
use crate::limits::{MULTIPLIED_BYTES_MAX, PLACES_MAX};
use crate::packed;
use crate::path::{ClientPath, WalkBudget};
use engramdb_engine::command::{Args, CommandError, Outcome, Reply};
use engramdb_engine::hashing::HashMap;
use engramdb_engine::keyspace::{EffectOrigin, TypedValue};
use engramdb_engine::store::tx::Tx;
use engramdb_engine::store::view::View;

/// `JSON.MSET (key path value)+`
pub fn set_many(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (triples, rest) = args.from(1).as_chunks::<3>();
    if !rest.is_empty() {
        return Err(CommandError::wrong_arity("json.mset"));
    }
    let mut planning = Planning::of(triples, args.len())?;
    let texts: Vec<&[u8]> = triples.iter().map(|[.., text]| *text).collect();
    let apart = match are_large(&texts) {
        true => {
            let words: Vec<&[u8]> = triples.iter().flat_map(|[_, path, text]| [*path, *text]).collect();
            parse_and_build_apart(tx, &words).map(Some)
        }
        false => Some(None),
    };
    let Some(apart) = apart else { return Ok(()) };
    let is_apart = apart.is_some();
    let mut apart = apart.map(Vec::into_iter);
    let mut planned = Vec::with_capacity(triples.len());
    for triple in triples {
        let text = apart.as_mut().and_then(Iterator::next);
        planned.push(tx.read(|view| planning.plan(view, *triple, text))?);
    }
    // Its documents share their blocks with those that are changed now.
    drop(planning);
    let mut payloads = Vec::new();
    for ([key, ..], text) in triples.iter().zip(planned) {
        if let Some(text) = text {
            let object = text.built.map(|root| Box::new(JsonDocument::of(root)) as Box<dyn TypedValue>);
            tx.apply_given(effect::of(key, effect::SET, &text.payload), object);
            payloads.push(text.payload);
        }
    }
    if is_apart {
        tx.discard(Box::new(payloads));
    }
    reply.ok();
    Ok(())
}

/// What the command finds out before it changes anything.
struct Planning<'w> {
    /// What all walks together may cost.
    walks: WalkBudget,
    /// Values that may still be set at paths that lead to several, and the bytes of these.
    places: usize,
    bytes: usize,
    /// Of keys that are named more than once: how often they still come, and the document as the values so
    /// far make it; `None` before the first.
    again: HashMap<&'w [u8], (usize, Option<JsonDocument>)>,
}

impl<'w> Planning<'w> {
    fn of(triples: &[[&'w [u8]; 3]], words: usize) -> Result<Planning<'w>, CommandError> {
        let mut again: HashMap<&[u8], (usize, Option<JsonDocument>)> = HashMap::default();
        for [key, path, _] in triples {
            let (times, _) = again.entry(*key).or_default();
            *times += 1;
            // What an earlier value adds to such a path is not in the room that was asked for.
            if *times > 1 && matches::leads_to_several(path) {
                return Err(error::SEVERAL_AGAIN);
            }
        }
        again.retain(|_, (times, _)| *times > 1);
        let walks = WalkBudget::of_words(words);
        Ok(Planning { walks, places: PLACES_MAX, bytes: MULTIPLIED_BYTES_MAX, again })
    }

    /// The text for one key with its locations; `None` if it is set nowhere. It is parsed unless it was
    /// before.
    fn plan(
        &mut self,
        view: &View<'_>,
        [key, path, word]: [&[u8]; 3],
        parsed: Option<Result<ParsedText, CommandError>>,
    ) -> Result<Option<ParsedText>, CommandError> {
        let stored = document(view, key)?;
        let path = ClientPath::new(path)?;
        if stored.is_none() && !path.is_root() {
            return Err(error::NEW_AT_ROOT);
        }
        let query = stored.filter(|_| !path.is_root()).map(|_| path.query()).transpose()?;
        let mut text = parsed.unwrap_or_else(|| ParsedText::of(word))?;
        let limits = (text.depth, Some(&mut self.walks));
        let mut places = match (stored, query) {
            (Some(stored), Some(query)) => plan_at(stored, query, Presence::Any, limits, &mut text.payload)?,
            _ => plan(stored, &path, Presence::Any, limits, &mut text.payload)?,
        };
        if self.again.contains_key(key) {
            places = self.plan_again(key, stored, &path, (places, &mut text))?;
        }
        if places > 1 {
            let bytes = places.saturating_mul(packed::size(&text.payload));
            self.places = self.places.checked_sub(places).ok_or(error::TOO_MANY_PLACES)?;
            self.bytes = self.bytes.checked_sub(bytes).ok_or(error::TOO_MANY_BYTES)?;
        }
        Ok((places > 0).then_some(text))
    }

    /// The same for a key that is named more than once. RedisJSON refuses what the stored document has no
    /// place for, which `plan` does too. What is set here is what a sequence of JSON.SET sets: the path is
    /// looked for in the document as the values in front make it. An error there refuses the command.
    fn plan_again(
        &mut self,
        key: &[u8],
        stored: Option<&JsonDocument>,
        path: &ClientPath<'_>,
        (mut places, text): (usize, &mut ParsedText),
    ) -> Result<usize, CommandError> {
        let (times, upcoming) = self.again.get_mut(key).expect("the caller has found it");
        *times -= 1;
        if let Some(upcoming) = upcoming {
            text.payload.truncate(packed::size(&text.payload));
            let limits = (text.depth, Some(&mut self.walks));
            places = plan(Some(upcoming), path, Presence::Any, limits, &mut text.payload)?;
        }
        if *times == 0 {
            self.again.remove(key);
        } else if places > 0 {
            let upcoming = upcoming.get_or_insert_with(|| stored.cloned().unwrap_or_default());
            match &text.built {
                Some(built) => *upcoming = JsonDocument::of(built.clone()),
                None => {
                    let effect = effect::of(key, effect::SET, &text.payload);
                    upcoming.apply(&effect, EffectOrigin::Command).expect("it was planned for this document");
                }
            }
        }
        Ok(places)
    }
}

pub fn room_to_set_many(view: &View<'_>, args: Args<'_>) -> usize {
    let triples = args.from(1).as_chunks::<3>().0.iter();
    // Each effect names its key.
    let mut budget = WalkBudget::of_words(args.len());
    triples.map(|[key, path, _]| 64 + key.len() + matches::room_of(view, key, path, Some(&mut budget))).sum()
}
