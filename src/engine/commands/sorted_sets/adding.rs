//! ZADD, ZINCRBY, ZREM.

use super::sorted_set;
use crate::command::{Args, CommandError, Outcome, Reply};
use crate::effect::{Effect, List, ScoredList};
use crate::hashing::{HashMap, HashState};
use crate::store::tx::Tx;
use crate::store::view::View;
use crate::types::{ScoredMember, SortedSetRef, parse_score};

const NO_NUMBER: CommandError = CommandError::of("ERR resulting score is not a number (NaN)");

/// When ZADD sets a score.
#[derive(Clone, Copy, Default)]
pub struct AddConditions {
    /// NX: only of members that are absent.
    pub only_new: bool,
    /// XX: only of members that are there.
    pub only_present: bool,
    /// GT and LT: only if it is higher or lower than the present one.
    pub only_higher: bool,
    pub only_lower: bool,
}

impl AddConditions {
    fn allow(self, old: Option<f64>, score: f64) -> bool {
        match old {
            None => !self.only_present,
            Some(old) => {
                !(self.only_new || self.only_higher && score <= old || self.only_lower && score >= old)
            }
        }
    }
}

struct AddOptions {
    conditions: AddConditions,
    counts_changes: bool,
    increments: bool,
    /// The index of the first score.
    first: usize,
}

impl AddOptions {
    fn parse(args: Args<'_>) -> Result<AddOptions, CommandError> {
        let mut conditions = AddConditions::default();
        let (mut counts_changes, mut increments) = (false, false);
        let mut options = args.options(2);
        loop {
            if options.take("NX") {
                conditions.only_new = true;
            } else if options.take("XX") {
                conditions.only_present = true;
            } else if options.take("GT") {
                conditions.only_higher = true;
            } else if options.take("LT") {
                conditions.only_lower = true;
            } else if options.take("CH") {
                counts_changes = true;
            } else if options.take("INCR") {
                increments = true;
            } else {
                break;
            }
        }
        let words = options.left();
        if words == 0 || !words.is_multiple_of(2) {
            return Err(CommandError::SYNTAX);
        }
        let AddConditions { only_new, only_present, only_higher, only_lower } = conditions;
        if only_new && only_present {
            return Err(CommandError::of("ERR XX and NX options at the same time are not compatible"));
        }
        if only_higher && (only_new || only_lower) || only_lower && only_new {
            return Err(CommandError::of(
                "ERR GT, LT, and/or NX options at the same time are not compatible",
            ));
        }
        if increments && words > 2 {
            return Err(CommandError::of("ERR INCR option supports a single increment-element pair"));
        }
        Ok(AddOptions { conditions, counts_changes, increments, first: options.index() })
    }
}

/// What an add changes: the pairs to be set, and how many of them are new.
pub struct Additions<'a> {
    pairs: Vec<ScoredMember<'a>>,
    added: usize,
}

impl<'a> Additions<'a> {
    /// Those of the pairs that change something, one after the other.
    pub fn find(
        view: &View<'_>,
        set: Option<SortedSetRef<'_>>,
        pairs: impl ExactSizeIterator<Item = ScoredMember<'a>>,
        conditions: AddConditions,
    ) -> Additions<'a> {
        let mut additions = Additions { pairs: Vec::with_capacity(pairs.len()), added: 0 };
        // A member may come several times.
        let mut scores = HashMap::<&[u8], f64>::with_capacity_and_hasher(
            if pairs.len() > 1 { pairs.len() } else { 0 },
            HashState::default(),
        );
        let is_single = pairs.len() == 1;
        for mut pair in pairs {
            let before = scores.get(pair.member).copied();
            let old = before.or_else(|| set.and_then(|set| set.score(pair.member)));
            if !conditions.allow(old, pair.score) || old == Some(pair.score) {
                continue;
            }
            pair.score = stored_in(view, set, pair.score);
            additions.added += usize::from(old.is_none());
            additions.pairs.push(pair);
            if !is_single {
                scores.insert(pair.member, pair.score);
            }
        }
        additions
    }

    pub fn apply(&self, tx: &mut Tx<'_>, key: &[u8]) {
        if !self.pairs.is_empty() {
            tx.apply(Effect::SortedSetAdd { key, members: ScoredList::Pairs(&self.pairs) });
        }
    }

    /// How many members are new, and how many have changed, new ones included.
    pub fn counts(&self) -> (usize, usize) {
        (self.added, self.pairs.len())
    }
}

/// The score as Redis stores it: its compact encoding has no negative zero.
fn stored_in(view: &View<'_>, set: Option<SortedSetRef<'_>>, score: f64) -> f64 {
    let is_compact = || {
        let limits = view.encoding_limits();
        set.is_none_or(|set| set.is_within(limits.sorted_set_entries, limits.sorted_set_value))
    };
    if score == 0.0 && score.is_sign_negative() && is_compact() { 0.0 } else { score }
}

pub fn zadd(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let key = args.word(1);
    let options = AddOptions::parse(args)?;
    let (pairs, _) = args.from(options.first).as_chunks::<2>();
    let score = |word: &[u8]| parse_score(word).ok_or(CommandError::NOT_FLOAT);
    if options.increments {
        tx.event("zincr");
        return increment(tx, key, (score(pairs[0][0])?, pairs[0][1]), options.conditions, reply);
    }
    if let [[text, member]] = pairs {
        let pair = [ScoredMember { score: score(text)?, member }];
        return add(tx, key, &pair, &options, reply);
    }
    let pairs = pairs.iter().map(|[text, member]| Ok(ScoredMember { score: score(text)?, member }));
    let pairs = pairs.collect::<Result<Vec<_>, CommandError>>()?;
    add(tx, key, &pairs, &options, reply)
}

fn add(
    tx: &mut Tx<'_>,
    key: &[u8],
    pairs: &[ScoredMember<'_>],
    options: &AddOptions,
    reply: &mut dyn Reply,
) -> Outcome {
    let additions = tx.read(|view| {
        let set = sorted_set(view, key)?;
        Ok(Additions::find(view, set, pairs.iter().copied(), options.conditions))
    })?;
    additions.apply(tx, key);
    let (added, changed) = additions.counts();
    reply.integer(if options.counts_changes { changed } else { added } as i64);
    Ok(())
}

fn increment(
    tx: &mut Tx<'_>,
    key: &[u8],
    (by, member): (f64, &[u8]),
    conditions: AddConditions,
    reply: &mut dyn Reply,
) -> Outcome {
    let (old, score) = tx.read(|view| {
        let set = sorted_set(view, key)?;
        let old = set.and_then(|set| set.score(member));
        let score = old.map_or(by, |old| old + by);
        if score.is_nan() {
            return Err(NO_NUMBER);
        }
        Ok((old, stored_in(view, set, score)))
    })?;
    if !conditions.allow(old, score) {
        reply.null();
        return Ok(());
    }
    if old != Some(score) {
        let members = ScoredList::Pairs(&[ScoredMember { score, member }]);
        tx.apply(Effect::SortedSetAdd { key, members });
    }
    reply.double(score);
    Ok(())
}

pub fn zincrby(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let by = parse_score(args.word(2)).ok_or(CommandError::NOT_FLOAT)?;
    increment(tx, args.word(1), (by, args.word(3)), AddConditions::default(), reply)
}

pub fn zrem(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, members) = (args.word(1), args.from(2));
    let any = tx.read(|view| {
        let set = sorted_set(view, key)?;
        Ok(set.is_some_and(|set| members.iter().any(|member| set.score(member).is_some())))
    })?;
    let members = List::Arguments(members);
    let removed = if any { tx.apply(Effect::SortedSetRemove { key, members }) } else { 0 };
    reply.integer(removed as i64);
    Ok(())
}
