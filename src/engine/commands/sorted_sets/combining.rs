//! Unions, intersections and differences, returned or stored.

use super::copying::write_members;
use super::sorted_set;
use super::storing::{room_to_store, store};
use crate::command::{Args, CommandError, OptionWords, Outcome, Reply, Stage, integer};
use crate::hashing::{HashMap, HashState};
use crate::store::tx::Tx;
use crate::store::view::View;
use crate::types::{RowElement, ScoredMember, SetRef, SortedSetRef, parse_score};
use std::borrow::Cow;

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

/// A sorted set, or a set, whose members have the score 1.
#[derive(Clone, Copy)]
enum SourceSet<'v> {
    Absent,
    Sorted(SortedSetRef<'v>),
    Plain(SetRef<'v>),
}

/// A set whose members are combined.
#[derive(Clone, Copy)]
struct Source<'v> {
    set: SourceSet<'v>,
    weight: f64,
}

/// A member of a result. Those of sets of integers are made.
struct Combined<'v> {
    score: f64,
    member: Cow<'v, [u8]>,
}

impl<'v> SourceSet<'v> {
    fn find(view: &View<'v>, key: &[u8]) -> Result<SourceSet<'v>, CommandError> {
        match sorted_set(view, key) {
            Ok(set) => Ok(set.map_or(SourceSet::Absent, SourceSet::Sorted)),
            Err(_) => Ok(view.set(key)?.map_or(SourceSet::Absent, SourceSet::Plain)),
        }
    }

    /// The number of members, and a bound of their bytes.
    fn sizes(self) -> (usize, usize) {
        match self {
            SourceSet::Absent => (0, 0),
            SourceSet::Sorted(set) => (set.len(), set.member_bytes_max()),
            SourceSet::Plain(set) => (set.len(), set.text_bytes_max(set.len())),
        }
    }
}

impl<'v> Source<'v> {
    fn len(&self) -> usize {
        self.set.sizes().0
    }

    /// Members with their weighted scores.
    fn iter(&self) -> impl Iterator<Item = Combined<'v>> + use<'v> {
        let weight = self.weight;
        let (sorted, plain) = match self.set {
            SourceSet::Absent => (None, None),
            SourceSet::Sorted(set) => (Some(set), None),
            SourceSet::Plain(set) => (None, Some(set)),
        };
        let sorted = sorted.into_iter().flat_map(SortedSetRef::iter);
        let sorted = sorted.map(|entry| (entry.score, Cow::Borrowed(entry.member)));
        let plain = plain.into_iter().flat_map(SetRef::iter).map(|element| match element {
            RowElement::Bytes(bytes) => (1.0, Cow::Borrowed(bytes)),
            integer @ RowElement::Integer(_) => (1.0, Cow::Owned(integer.to_vec())),
        });
        sorted.chain(plain).map(move |(score, member)| Combined { score: or_zero(score * weight), member })
    }

    /// The weighted score of a member. It is NaN for infinity times 0, as in Redis's intersections.
    fn score(&self, member: &[u8]) -> Option<f64> {
        let score = match self.set {
            SourceSet::Absent => None,
            SourceSet::Sorted(set) => set.score(member),
            SourceSet::Plain(set) => set.contains(member).then_some(1.0),
        };
        score.map(|score| score * self.weight)
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
        let source = |key: &&[u8]| Ok(Source { set: SourceSet::find(view, key)?, weight: 1.0 });
        let sources = keys.iter().map(source).collect::<Result<_, CommandError>>()?;
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
    fn result(&mut self, combination: Combination) -> Vec<Combined<'v>> {
        let mut members = match combination {
            Combination::Union => self.union(),
            Combination::Intersection => self.intersection().collect(),
            Combination::Difference => self.difference(),
        };
        members.sort_unstable_by(|one, other| {
            let by_score = one.score.partial_cmp(&other.score).expect("no score is NaN");
            by_score.then_with(|| one.member.cmp(&other.member))
        });
        members
    }

    /// The smallest set first: its scores are aggregated first, as in Redis.
    fn sort_sources(&mut self) {
        self.sources.sort_by_key(Source::len);
    }

    fn union(&mut self) -> Vec<Combined<'v>> {
        self.sort_sources();
        if let [source] = &self.sources[..] {
            return source.iter().collect();
        }
        let largest = self.sources.last().map_or(0, Source::len);
        let mut scores =
            HashMap::<Cow<'v, [u8]>, f64>::with_capacity_and_hasher(largest, HashState::default());
        for Combined { score, member } in self.sources.iter().flat_map(Source::iter) {
            let aggregate = |found: &mut f64| *found = self.aggregate.of(*found, score);
            scores.entry(member).and_modify(aggregate).or_insert(score);
        }
        scores.into_iter().map(|(member, score)| Combined { score, member }).collect()
    }

    fn intersection(&mut self) -> impl Iterator<Item = Combined<'v>> {
        self.sort_sources();
        let (first, others) = self.sources.split_first().expect("there is a key");
        let aggregate = self.aggregate;
        first.iter().filter_map(move |Combined { score, member }| {
            let mut scores = others.iter().map(|source| source.score(&member));
            let score = scores.try_fold(score, |sum, score| Some(aggregate.of(sum, score?)))?;
            Some(Combined { score, member })
        })
    }

    fn difference(&self) -> Vec<Combined<'v>> {
        let (first, others) = self.sources.split_first().expect("there is a key");
        let is_left =
            |entry: &Combined<'_>| others.iter().all(|source| source.score(&entry.member).is_none());
        first.iter().filter(is_left).collect()
    }
}

type Staged = Result<Stage, CommandError>;

fn reply_with(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply, combination: Combination) -> Staged {
    let mut combining = Combining::parse(view, args, 1, combination, Purpose::Reply)?;
    let members = combining.result(combination);
    let entries = members.iter().map(|entry| ScoredMember { score: entry.score, member: &entry.member });
    write_members(entries, members.len(), combining.with_scores, reply);
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
        Ok(members.map(|entry| (entry.score, entry.member.into_owned())).collect())
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
    let sizes = keys.iter().filter_map(|&key| SourceSet::find(view, args.word(key)).ok());
    let add = |sum: (usize, usize), sizes: (usize, usize)| (sum.0 + sizes.0, sum.1 + sizes.1);
    let (members, bytes) = sizes.map(SourceSet::sizes).fold((0, 0), add);
    room_to_store(args.word(1), members, bytes)
}
