//! FT.SUGADD, FT.SUGGET, FT.SUGDEL, FT.SUGLEN: completions of what a user types.
//!
//! Suggestions are a value of the keyspace, not of an index. They are compared in lower case, and are
//! different if their bytes are.

use crate::effects::{KIND_SUGGEST, KIND_UNSUGGEST};
use crate::error::{self, Kind, SearchError};
use crate::search::shape::{is_flat, shaped};
use crate::search::styled;
use crate::suggest::top::{TooMany, top};
use crate::suggest::trie::Suggestion;
use crate::suggest::value::{Suggestions, effect_on, encode};
use crate::words::whole_number;
use engramdb_engine::command::{Args, CommandError, Outcome, Reply};
use engramdb_engine::store::tx::Tx;
use engramdb_engine::store::view::View;
use engramdb_engine::types::parse_double;

/// The longest text of a suggestion, and the longest prefix that is looked for, in bytes.
const TEXT_BYTES_MAX: usize = 1024;
/// The completions that FT.SUGGET returns without MAX.
const SHOWN: usize = 5;
/// The most that MAX may ask for.
const SHOWN_MAX: u32 = 1_000;

const BAD_SCORE: CommandError = CommandError::of("ERR invalid score");
const TEXT_LENGTH: CommandError = CommandError::of("ERR a suggestion has 1 to 1024 bytes");

const TOO_MANY: CommandError =
    CommandError::of("ERR too many suggestions have to be compared: ask for a longer prefix, or for fewer");

/// The options of FT.SUGADD.
#[derive(Default)]
struct Added {
    adds_score: bool,
    payload: Option<Vec<u8>>,
}

impl Added {
    fn read(args: Args<'_>) -> Result<Added, SearchError> {
        let (mut added, mut words) = (Added::default(), args.options(4));
        while !words.is_done() {
            if words.take("INCR") {
                added.adds_score = true;
            } else if words.take("PAYLOAD") {
                let payload = words.word().map_err(|_| Kind::BadPayload.with([error::NO_VALUE.into()]))?;
                added.payload = Some(payload.to_vec());
            } else {
                return Err(Kind::UnknownArgument.of(words.word()?));
            }
        }
        Ok(added)
    }
}

pub fn add(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, text) = (args.word(1), args.word(2));
    if args.len() > 7 {
        return Err(CommandError::of("ERR wrong number of arguments for 'FT.SUGADD' command"));
    }
    let score = parse_double(args.word(3)).filter(|score| !score.is_nan()).ok_or(BAD_SCORE)? as f32;
    let Added { adds_score, payload } = tx.read(|view| styled(view, Added::read(args)))?;
    if text.is_empty() || text.len() > TEXT_BYTES_MAX {
        return Err(TEXT_LENGTH);
    }
    let (suggestion, length) = tx.read(|view| {
        let suggestions = view.object::<Suggestions>(key)?;
        let before = suggestions.and_then(|suggestions| suggestions.0.get(text));
        let sum = before.filter(|_| adds_score).map_or(0.0, |before| before.score) + score;
        if sum.is_nan() {
            return Err(BAD_SCORE);
        }
        let kept = || before.and_then(|before| before.payload.clone());
        let payload = payload.as_deref().map(Box::from).or_else(kept);
        let length = suggestions.map_or(0, |suggestions| suggestions.0.len()) + usize::from(before.is_none());
        Ok((Suggestion { text: text.into(), score: sum, payload }, length))
    })?;
    tx.apply(effect_on(key, KIND_SUGGEST, &encode(&suggestion)));
    reply.integer(length as i64);
    Ok(())
}

/// The payload that FT.SUGADD keeps, which is not among its words.
pub fn room_to_add(view: &View<'_>, args: Args<'_>) -> usize {
    let suggestions = view.object::<Suggestions>(args.word(1)).ok().flatten();
    let before = suggestions.and_then(|suggestions| suggestions.0.get(args.word(2)));
    before.and_then(|before| before.payload.as_ref()).map_or(0, |payload| payload.len())
}

/// The options of FT.SUGGET.
struct Wanted {
    fuzzy: bool,
    with_scores: bool,
    with_payloads: bool,
    most: usize,
}

impl Wanted {
    fn read(args: Args<'_>) -> Result<Wanted, SearchError> {
        let mut words = args.options(3);
        let mut wanted = Wanted { fuzzy: false, with_scores: false, with_payloads: false, most: SHOWN };
        while !words.is_done() {
            if words.take("FUZZY") {
                wanted.fuzzy = true;
            } else if words.take("WITHSCORES") {
                wanted.with_scores = true;
            } else if words.take("WITHPAYLOADS") {
                wanted.with_payloads = true;
            } else if words.take("MAX") {
                let bad = |cause: &'static str| Kind::BadMax.with([cause.into()]);
                let word = words.word().map_err(|_| bad(error::NO_VALUE))?;
                let most: i128 = whole_number(word).ok_or_else(|| bad(error::CONVERSION))?;
                let most = u32::try_from(most).ok().filter(|most| (1..=SHOWN_MAX).contains(most));
                wanted.most = most.ok_or_else(|| bad(error::BOUNDS))? as usize;
            } else {
                return Err(Kind::UnrecognizedArgument.of(words.word()?));
            }
        }
        Ok(wanted)
    }
}

pub fn get(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, prefix) = (args.word(1), args.word(2));
    let wanted = styled(view, Wanted::read(args))?;
    let Some(suggestions) = view.object::<Suggestions>(key)? else {
        reply.null();
        return Ok(());
    };
    if prefix.len() > TEXT_BYTES_MAX {
        return Err(CommandError::of("Invalid query length"));
    }
    let found = top(&suggestions.0, prefix, wanted.fuzzy, wanted.most).map_err(|TooMany| TOO_MANY)?;
    let columns = 1 + usize::from(wanted.with_scores) + usize::from(wanted.with_payloads);
    shaped(is_flat(view, reply), reply, |reply| {
        reply.array(found.len() * columns);
        for (suggestion, score) in &found {
            reply.bulk(&suggestion.text);
            if wanted.with_scores {
                reply.double(f64::from(*score));
            }
            if wanted.with_payloads {
                match &suggestion.payload {
                    Some(payload) => reply.bulk(payload),
                    None => reply.null(),
                }
            }
        }
    });
    Ok(())
}

pub fn delete(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, text) = (args.word(1), args.word(2));
    let is_there = tx.read(|view| {
        let suggestions = view.object::<Suggestions>(key)?;
        Ok(suggestions.is_some_and(|suggestions| suggestions.0.get(text).is_some()))
    })?;
    if is_there {
        tx.apply(effect_on(key, KIND_UNSUGGEST, text));
    }
    reply.integer(i64::from(is_there));
    Ok(())
}

pub fn length(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let suggestions = view.object::<Suggestions>(args.word(1))?;
    reply.integer(suggestions.map_or(0, |suggestions| suggestions.0.len()) as i64);
    Ok(())
}
