//! Unions, intersections and differences, returned or stored.

use super::copying::write_members;
use super::sorted_set;
use super::storing::{room_to_store, store};
use crate::command::{Args, CommandError, OptionWords, Outcome, Reply, Stage, integer};
use crate::hashing::{HashMap, HashState};
use crate::store::tx::Tx;
use crate::store::view::View;
use crate::types::{ScoredMember, SortedSet, parse_score};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Combination {
    Union,
    Intersection,
    Difference,
}

/// How the scores of a member in several sets become one.
#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn of(self, one: f64, other: f64) -> f64 {
        match self {
            Aggregate::Sum => or_zero(one + other),
            Aggregate::Min => {
                if other < one {
                    other
                } else {
                    one
                }
            }
            Aggregate::Max => {
                if other > one {
                    other
                } else {
                    one
                }
            }
        }
    }
}

/// Infinities of both signs add up to 0, and so does infinity times 0.
fn or_zero(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// A set whose members are combined.
#[derive(Clone, Copy)]
struct Source<'v> {
    set: Option<&'v SortedSet>,
    weight: f64,
}

impl<'v> Source<'v> {
    fn find(view: &View<'v>, key: &[u8]) -> Result<Source<'v>, CommandError> {
        Ok(Source { set: sorted_set(view, key)?, weight: 1.0 })
    }

    fn len(&self) -> usize {
        self.set.map_or(0, SortedSet::len)
    }

    /// Members with their weighted scores.
    fn iter(&self) -> impl Iterator<Item = ScoredMember<'v>> {
        let weight = self.weight;
        let entries = self.set.into_iter().flat_map(SortedSet::iter);
        entries.map(move |entry| ScoredMember { score: or_zero(entry.score * weight), ..entry })
    }

    fn score(&self, member: &[u8]) -> Option<f64> {
        let score = self.set?.score(member)?;
        Some(or_zero(score * self.weight))
    }
}

/// What a command combines, and how.
struct Combining<'v> {
    sources: Vec<Source<'v>>,
    aggregate: Aggregate,
    with_scores: bool,
    /// ZINTERCARD's: 0 for none.
    limit: usize,
}

/// What is done with the result, which decides the options.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Reply,
    Count,
    Store,
}

impl<'v> Combining<'v> {
    /// Parses the words from the number of keys, which is word `at`, on.
    fn parse(
        view: &View<'v>,
        args: Args<'_>,
        at: usize,
        combination: Combination,
        purpose: Purpose,
    ) -> Result<Combining<'v>, CommandError> {
        let numkeys = integer(args.word(at))?;
        let Some(numkeys) = usize::try_from(numkeys).ok().filter(|count| *count > 0) else {
            let name = String::from_utf8_lossy(args.word(0)).to_lowercase();
            return Err(CommandError::new(format!(
                "ERR at least 1 input key is needed for '{name}' command"
            )));
        };
        let mut options = args.options(at + 1);
        let keys = options.words(numkeys)?;
        let sources = keys.iter().map(|key| Source::find(view, key)).collect::<Result<_, _>>()?;
        let mut combining = Combining { sources, aggregate: Aggregate::Sum, with_scores: false, limit: 0 };
        let has_weights = combination != Combination::Difference && purpose != Purpose::Count;
        while !options.is_done() {
            combining.option(&mut options, has_weights, purpose)?;
        }
        Ok(combining)
    }

    fn option(
        &mut self,
        options: &mut OptionWords<'_>,
        has_weights: bool,
        purpose: Purpose,
    ) -> Result<(), CommandError> {
        let left = options.left();
        if has_weights && left > self.sources.len() && options.take("WEIGHTS") {
            for source in &mut self.sources {
                let weight = parse_score(options.word()?);
                source.weight = weight.ok_or(CommandError::of("ERR weight value is not a float"))?;
            }
        } else if has_weights && left >= 2 && options.take("AGGREGATE") {
            self.aggregate = if options.take("SUM") {
                Aggregate::Sum
            } else if options.take("MIN") {
                Aggregate::Min
            } else if options.take("MAX") {
                Aggregate::Max
            } else {
                return Err(CommandError::SYNTAX);
            };
        } else if purpose == Purpose::Reply && options.take("WITHSCORES") {
            self.with_scores = true;
        } else if purpose == Purpose::Count && left >= 2 && options.take("LIMIT") {
            let limit = integer(options.word()?).ok().and_then(|limit| usize::try_from(limit).ok());
            self.limit = limit.ok_or(CommandError::of("ERR LIMIT can't be negative"))?;
        } else {
            return Err(CommandError::SYNTAX);
        }
        Ok(())
    }

    /// The result, in order.
    fn result(&mut self, combination: Combination) -> Vec<ScoredMember<'v>> {
        let mut members = match combination {
            Combination::Union => self.union(),
            Combination::Intersection => self.intersection().collect(),
            Combination::Difference => self.difference(),
        };
        members.sort_unstable_by(|one, other| {
            let by_score = one.score.partial_cmp(&other.score).expect("no score is NaN");
            by_score.then_with(|| one.member.cmp(other.member))
        });
        members
    }

    /// The smallest set first: its scores are aggregated first, as in Redis.
    fn sort_sources(&mut self) {
        self.sources.sort_by_key(Source::len);
    }

    fn union(&mut self) -> Vec<ScoredMember<'v>> {
        self.sort_sources();
        if let [source] = &self.sources[..] {
            return source.iter().collect();
        }
        let largest = self.sources.last().map_or(0, Source::len);
        let mut places = HashMap::<&[u8], usize>::with_capacity_and_hasher(largest, HashState::default());
        let mut members = Vec::<ScoredMember<'v>>::with_capacity(largest);
        for entry in self.sources.iter().flat_map(Source::iter) {
            let place = *places.entry(entry.member).or_insert(members.len());
            match members.get_mut(place) {
                Some(found) => found.score = self.aggregate.of(found.score, entry.score),
                None => members.push(entry),
            }
        }
        members
    }

    fn intersection(&mut self) -> impl Iterator<Item = ScoredMember<'v>> {
        self.sort_sources();
        let (first, others) = self.sources.split_first().expect("there is a key");
        let aggregate = self.aggregate;
        first.iter().filter_map(move |entry| {
            let mut scores = others.iter().map(|source| source.score(entry.member));
            let score = scores.try_fold(entry.score, |sum, score| Some(aggregate.of(sum, score?)))?;
            Some(ScoredMember { score, ..entry })
        })
    }

    fn difference(&self) -> Vec<ScoredMember<'v>> {
        let (first, others) = self.sources.split_first().expect("there is a key");
        let is_left =
            |entry: &ScoredMember<'_>| others.iter().all(|source| source.score(entry.member).is_none());
        first.iter().filter(is_left).collect()
    }
}

type Staged = Result<Stage, CommandError>;

fn reply_with(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply, combination: Combination) -> Staged {
    let mut combining = Combining::parse(view, args, 1, combination, Purpose::Reply)?;
    let members = combining.result(combination);
    let count = members.len();
    write_members(members.into_iter(), count, combining.with_scores, reply);
    Ok(Stage::Done)
}

pub fn zdiff(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Staged {
    reply_with(view, args, reply, Combination::Difference)
}

pub fn zinter(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Staged {
    reply_with(view, args, reply, Combination::Intersection)
}

pub fn zunion(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Staged {
    reply_with(view, args, reply, Combination::Union)
}

pub fn zintercard(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Staged {
    let mut combining = Combining::parse(view, args, 1, Combination::Intersection, Purpose::Count)?;
    let limit = if combining.limit == 0 { usize::MAX } else { combining.limit };
    reply.integer(combining.intersection().take(limit).count() as i64);
    Ok(Stage::Done)
}

fn store_result(
    tx: &mut Tx<'_>,
    args: Args<'_>,
    (combination, event): (Combination, &'static str),
    reply: &mut dyn Reply,
) -> Outcome {
    let members: Vec<(f64, Vec<u8>)> = tx.read(|view| {
        let mut combining = Combining::parse(view, args, 2, combination, Purpose::Store)?;
        let members = combining.result(combination).into_iter();
        Ok(members.map(|entry| (entry.score, entry.member.to_vec())).collect())
    })?;
    store(tx, args.word(1), &members, event);
    reply.integer(members.len() as i64);
    Ok(())
}

pub fn zdiffstore(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    store_result(tx, args, (Combination::Difference, "zdiffstore"), reply)
}

pub fn zinterstore(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    store_result(tx, args, (Combination::Intersection, "zinterstore"), reply)
}

pub fn zunionstore(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    store_result(tx, args, (Combination::Union, "zunionstore"), reply)
}

/// The log's room for a result, which has each member of its sources at most once.
pub fn room(view: &View<'_>, args: Args<'_>) -> usize {
    let Ok(keys) = super::counted_keys(args, 2) else { return 0 };
    let sets = keys.iter().filter_map(|&key| sorted_set(view, args.word(key)).ok().flatten());
    let (members, bytes) =
        sets.fold((0, 0), |(members, bytes), set| (members + set.len(), bytes + set.member_bytes_max()));
    room_to_store(args.word(1), members, bytes)
}
