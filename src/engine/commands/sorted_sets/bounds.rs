//! Ranges of ranks, scores and names, as words and as ranks of a set.

use crate::command::{Args, CommandError, integer};
use crate::types::{SortedSetRef, parse_score_bound};
use std::ops::Range;

const NO_SCORE: CommandError = CommandError::of("ERR min or max is not a float");
const NO_NAME: CommandError = CommandError::of("ERR min or max not valid string range item");

/// One end of a range of scores.
#[derive(Clone, Copy)]
struct ScoreBound {
    score: f64,
    is_exclusive: bool,
}

impl ScoreBound {
    fn parse(word: &[u8]) -> Result<ScoreBound, CommandError> {
        let (text, is_exclusive) = word.strip_prefix(b"(").map_or((word, false), |text| (text, true));
        let score = parse_score_bound(text).ok_or(NO_SCORE)?;
        Ok(ScoreBound { score, is_exclusive })
    }
}

/// One end of a range of names.
#[derive(Clone)]
enum NameBound {
    Lowest,
    Highest,
    Name { name: Vec<u8>, is_exclusive: bool },
}

impl NameBound {
    fn parse(word: &[u8]) -> Result<NameBound, CommandError> {
        match word {
            b"-" => Ok(NameBound::Lowest),
            b"+" => Ok(NameBound::Highest),
            [b'(', name @ ..] => Ok(NameBound::Name { name: name.to_vec(), is_exclusive: true }),
            [b'[', name @ ..] => Ok(NameBound::Name { name: name.to_vec(), is_exclusive: false }),
            _ => Err(NO_NAME),
        }
    }
}

/// Members of a sorted set, in terms of their order.
#[derive(Clone)]
pub struct RangeBounds(Bounds);

#[derive(Clone)]
enum Bounds {
    /// Ranks from the first to the last one; negative ones count from the end.
    Ranks(i64, i64),
    Scores(ScoreBound, ScoreBound),
    Names(NameBound, NameBound),
}

impl RangeBounds {
    pub fn ranks(first: &[u8], last: &[u8]) -> Result<RangeBounds, CommandError> {
        Ok(RangeBounds(Bounds::Ranks(integer(first)?, integer(last)?)))
    }

    pub fn scores(min: &[u8], max: &[u8]) -> Result<RangeBounds, CommandError> {
        Ok(RangeBounds(Bounds::Scores(ScoreBound::parse(min)?, ScoreBound::parse(max)?)))
    }

    /// The scores from one to below another.
    pub fn scores_below(min: f64, max: f64) -> RangeBounds {
        let min = ScoreBound { score: min, is_exclusive: false };
        RangeBounds(Bounds::Scores(min, ScoreBound { score: max, is_exclusive: true }))
    }

    pub fn names(min: &[u8], max: &[u8]) -> Result<RangeBounds, CommandError> {
        Ok(RangeBounds(Bounds::Names(NameBound::parse(min)?, NameBound::parse(max)?)))
    }

    /// The ranks of the members within these bounds. Ranks count from the highest score if `is_reverse` and
    /// the bounds are ranks.
    pub fn of(&self, set: SortedSetRef<'_>, is_reverse: bool) -> Range<usize> {
        let (start, end) = match &self.0 {
            Bounds::Ranks(first, last) => {
                let ranks = between(*first, *last, set.len());
                match is_reverse {
                    true => (set.len() - ranks.end, set.len() - ranks.start),
                    false => (ranks.start, ranks.end),
                }
            }
            Bounds::Scores(min, max) => {
                let start = |score: f64| score < min.score || min.is_exclusive && score == min.score;
                let end = |score: f64| score < max.score || !max.is_exclusive && score == max.score;
                (set.count_scores(start), set.count_scores(end))
            }
            Bounds::Names(min, max) => (names_below(set, min, true), names_below(set, max, false)),
        };
        start..end.max(start)
    }
}

/// The number of names that are before a range which begins here, or up to a range that ends here.
fn names_below(set: SortedSetRef<'_>, bound: &NameBound, begins: bool) -> usize {
    match bound {
        NameBound::Lowest => 0,
        NameBound::Highest => set.len(),
        NameBound::Name { name, is_exclusive } if begins == *is_exclusive => {
            set.count_members(|member| member <= &name[..])
        }
        NameBound::Name { name, .. } => set.count_members(|member| member < &name[..]),
    }
}

/// The places from the first to the last one among `length`; negative ones count from the end.
fn between(first: i64, last: i64, length: usize) -> Range<usize> {
    let length = length as i64;
    let place = |place: i64| if place < 0 { length.saturating_add(place) } else { place };
    let (first, last) = (place(first).max(0), place(last).min(length - 1));
    if first > last { 0..0 } else { first as usize..last as usize + 1 }
}

/// The options of ZRANGE and its relatives.
#[derive(Clone)]
pub struct RangeQuery {
    pub bounds: RangeBounds,
    pub is_reverse: bool,
    pub with_scores: bool,
    offset: i64,
    /// Negative for no limit.
    count: i64,
}

/// By what ZRANGE and its relatives select.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RangeBy {
    /// What the options say: ranks, if they say nothing.
    Options,
    Ranks,
    Scores,
    Names,
}

impl RangeQuery {
    /// Parses the words from the minimum, which is word `at`, on. `is_reverse` is `None` if the options say
    /// it; `stores` is of ZRANGESTORE.
    pub fn parse(
        args: Args<'_>,
        at: usize,
        by: RangeBy,
        is_reverse: Option<bool>,
        stores: bool,
    ) -> Result<RangeQuery, CommandError> {
        let (mut chosen, mut reverse, mut with_scores) = (by, is_reverse.unwrap_or(false), false);
        let (mut offset, mut count) = (0, -1);
        let mut options = args.options(at + 2);
        while !options.is_done() {
            if !stores && options.take("WITHSCORES") {
                with_scores = true;
            } else if options.left() > 2 && options.take("LIMIT") {
                (offset, count) = (options.integer()?, options.integer()?);
            } else if is_reverse.is_none() && options.take("REV") {
                reverse = true;
            } else if by == RangeBy::Options && chosen == RangeBy::Options && options.take("BYLEX") {
                chosen = RangeBy::Names;
            } else if by == RangeBy::Options && chosen == RangeBy::Options && options.take("BYSCORE") {
                chosen = RangeBy::Scores;
            } else {
                return Err(CommandError::SYNTAX);
            }
        }
        let is_of_ranks = matches!(chosen, RangeBy::Options | RangeBy::Ranks);
        if is_of_ranks && (offset != 0 || count != -1) {
            return Err(CommandError::of(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && chosen == RangeBy::Names {
            return Err(CommandError::of(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        let (first, second) = (args.word(at), args.word(at + 1));
        let (min, max) = if reverse { (second, first) } else { (first, second) };
        let bounds = match chosen {
            RangeBy::Options | RangeBy::Ranks => RangeBounds::ranks(first, second)?,
            RangeBy::Scores => RangeBounds::scores(min, max)?,
            RangeBy::Names => RangeBounds::names(min, max)?,
        };
        Ok(RangeQuery { bounds, is_reverse: reverse, with_scores, offset, count })
    }

    /// The ranks of the members that it selects.
    pub fn of(&self, set: SortedSetRef<'_>) -> Range<usize> {
        let Range { start, end } = self.bounds.of(set, self.is_reverse);
        let Ok(offset) = usize::try_from(self.offset) else { return 0..0 };
        let length = (end - start).saturating_sub(offset);
        let count = usize::try_from(self.count).map_or(length, |count| count.min(length));
        match self.is_reverse {
            true => {
                let end = end.saturating_sub(offset).max(start);
                end - count..end
            }
            false => {
                let start = start.saturating_add(offset).min(end);
                start..start + count
            }
        }
    }
}
