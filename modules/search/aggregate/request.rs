//! The words of FT.AGGREGATE: which documents, and the steps that their rows go through.
//!
//! What finds the documents becomes the words of an FT.SEARCH, which parses and keeps it. The steps stay
//! words here; `plan.rs` looks their properties up.

use super::reducers::{Reducer, reads_property};
use crate::error::{self, Kind, SearchError};
use crate::words::{counted, value, whole_number};
use engramdb_engine::command::{Args, OptionWords};
use std::time::Duration;

/// The most fields of SORTBY.
const SORT_KEYS_MAX: usize = 8;
/// The most steps.
const STEPS_MAX: usize = 1024;
/// The rows of an arrangement that sorts, if the request gives no number.
pub const SORTED_DEFAULT: usize = 10;

/// The words of a request, by their meaning.
#[derive(Debug, Default)]
pub struct AggregateRequest<'a> {
    /// The words of an FT.SEARCH that finds the documents.
    pub search: Vec<&'a [u8]>,
    pub steps: Vec<StepWords<'a>>,
    pub adds_scores: bool,
    /// The rows need no order.
    pub no_sort: bool,
    /// EXPLAINSCORE of FT.HYBRID.
    pub explains: bool,
    pub cursor: Option<CursorOptions>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CursorOptions {
    /// Rows of a reply; `None` for the default.
    pub count: Option<usize>,
    pub max_idle: Option<Duration>,
}

#[derive(Debug, PartialEq)]
pub enum StepWords<'a> {
    /// Paths, and their names in the pipeline.
    Load(Vec<(&'a [u8], &'a [u8])>),
    LoadAll,
    Group(GroupWords<'a>),
    Arrange(Arrangement<'a>),
    Apply {
        expression: &'a [u8],
        name: &'a [u8],
    },
    Filter(&'a [u8]),
}

#[derive(Debug, PartialEq)]
pub struct GroupWords<'a> {
    pub by: Vec<&'a [u8]>,
    pub reducers: Vec<ReducerWords<'a>>,
}

#[derive(Debug, PartialEq)]
pub struct ReducerWords<'a> {
    pub name: &'a [u8],
    pub arguments: &'a [&'a [u8]],
    pub alias: Option<&'a [u8]>,
}

/// SORTBY and LIMIT. All of those between two GROUPBYs are one step, at the place of the first: that is
/// RediSearch's meaning of them.
#[derive(Debug, Default, PartialEq)]
pub struct Arrangement<'a> {
    /// The fields, and whether they are descending; `None` without SORTBY.
    pub keys: Option<Vec<(&'a [u8], bool)>>,
    pub offset: usize,
    /// `None` for all rows, or the default number if they are sorted.
    pub limit: Option<usize>,
}

impl AggregateRequest<'_> {
    /// Refuses a LIMIT of more than `most` rows, and ends the steps with a LIMIT of `most`.
    pub fn bound(&mut self, most: usize) -> Result<(), SearchError> {
        if most == usize::MAX {
            return Ok(());
        }
        let over = |step: &StepWords<'_>| match step {
            StepWords::Arrange(arrangement) => arrangement.limit.is_some_and(|limit| limit > most),
            _ => false,
        };
        if self.steps.iter().any(over) {
            return Err(Kind::LimitOver.with(["LIMIT".into(), most.to_string().into()]));
        }
        self.steps.push(StepWords::Arrange(Arrangement { keys: None, offset: 0, limit: Some(most) }));
        Ok(())
    }
}

/// Reads the words of FT.AGGREGATE from the query on.
pub fn parse<'a>(args: Args<'a>) -> Result<AggregateRequest<'a>, SearchError> {
    parse_from(args, 3, false, &mut |_| Ok(false))
}

/// Reads the options and steps from this word on. `further` reads an option that only its command has, or
/// refuses one that the command has not; NOSORT and EXPLAINSCORE are options if `is_hybrid` is true.
pub fn parse_from<'a>(
    args: Args<'a>,
    from: usize,
    is_hybrid: bool,
    further: &mut dyn FnMut(&mut OptionWords<'a>) -> Result<bool, SearchError>,
) -> Result<AggregateRequest<'a>, SearchError> {
    let mut request = AggregateRequest::default();
    request.search.extend([&b"FT.SEARCH"[..], args.word(1), args.word(2)]);
    let mut words = args.options(from);
    while !words.is_done() {
        if further(&mut words)? {
            continue;
        }
        if is_hybrid && words.take("NOSORT") {
            request.no_sort = true;
            continue;
        }
        if is_hybrid && words.take("EXPLAINSCORE") {
            request.explains = true;
            continue;
        }
        let known = step(&mut words, &mut request, is_hybrid)?
            || of_query(args, &mut words, &mut request)?
            || of_reply(&mut words, &mut request)?;
        if !known {
            let place = words.index() - 2;
            let word = words.word()?;
            return Err(if is_hybrid { unknown(word) } else { refused(word, place) });
        }
    }
    let sorts = |step: &StepWords<'_>| matches!(step, StepWords::Arrange(Arrangement { keys: Some(_), .. }));
    if request.no_sort && request.steps.iter().any(sorts) {
        return Err(Kind::HybridArguments.with(["NOSORT is not allowed with SORTBY".into()]));
    }
    Ok(request)
}

fn unknown(word: &[u8]) -> SearchError {
    Kind::HybridArguments.with([format!("{}: Unknown argument", error::text(word)).into()])
}

/// Fails unless a name of FT.HYBRID says that it is one, or a path; FT.AGGREGATE needs no prefix.
fn prefixed(word: &[u8], of: &str) -> Result<(), SearchError> {
    if matches!(word.first(), Some(b'@' | b'$')) {
        return Ok(());
    }
    Err(Kind::NoPrefix.with([error::text(word).into(), of.to_owned().into()]))
}

fn refused(word: &[u8], place: usize) -> SearchError {
    let upper = word.to_ascii_uppercase();
    match upper.as_slice() {
        b"RETURN" | b"SUMMARIZE" | b"HIGHLIGHT" => Kind::NotForAggregate.of(&upper),
        _ => Kind::UnknownArgumentAt.with([error::text(word).into(), place.to_string().into()]),
    }
}

/// Reads an option about the documents, and adds its words to the FT.SEARCH.
fn of_query<'a>(
    args: Args<'a>,
    words: &mut OptionWords<'a>,
    request: &mut AggregateRequest<'a>,
) -> Result<bool, SearchError> {
    let first = words.index();
    let is_flag = ["VERBATIM", "INORDER", "NOSTOPWORDS"].iter().any(|option| words.take(option));
    if !is_flag {
        if words.take("DIALECT") {
            words.word().map_err(|_| Kind::NeedsArgument.of(b"DIALECT"))?;
        } else if words.take("TIMEOUT") {
            words.word().map_err(|_| Kind::NeedsTimeout.error())?;
        } else if words.take("FORMAT") {
            words.word().map_err(|_| Kind::NeedsArgument.of(b"FORMAT"))?;
        } else if let Some(option) =
            ["INKEYS", "INFIELDS", "PARAMS"].into_iter().find(|option| words.take(option))
        {
            counted(words, option)?;
        } else if let Some(option) =
            ["LANGUAGE", "EXPANDER", "SCORER", "SLOP", "PAYLOAD", "BM25STD_TANH_FACTOR"]
                .into_iter()
                .find(|option| words.take(option))
        {
            value(words, option)?;
        } else {
            return Ok(false);
        }
    }
    request.search.extend_from_slice(&args.from(first)[..words.index() - first]);
    Ok(true)
}

fn of_reply<'a>(
    words: &mut OptionWords<'a>,
    request: &mut AggregateRequest<'a>,
) -> Result<bool, SearchError> {
    if words.take("ADDSCORES") {
        request.adds_scores = true;
    } else if words.take("WITHCURSOR") {
        let cursor = request.cursor.get_or_insert_default();
        loop {
            if words.take("COUNT") {
                cursor.count = Some(positive(words, "COUNT", usize::MAX as u64)? as usize);
            } else if words.take("MAXIDLE") {
                let milliseconds = positive(words, "MAXIDLE", u64::from(u32::MAX))?;
                cursor.max_idle = Some(Duration::from_millis(milliseconds));
            } else {
                break;
            }
        }
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// Reads a number from 1 on.
fn positive(words: &mut OptionWords<'_>, option: &str, most: u64) -> Result<u64, SearchError> {
    let number: i128 =
        whole_number(value(words, option)?).ok_or_else(|| error::bad_arguments(option, error::CONVERSION))?;
    let number = u64::try_from(number).ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| error::bad_arguments(option, error::BOUNDS))
}

fn step<'a>(
    words: &mut OptionWords<'a>,
    request: &mut AggregateRequest<'a>,
    is_hybrid: bool,
) -> Result<bool, SearchError> {
    if words.take("LOAD") {
        let is_late = |step: &StepWords<'_>| matches!(step, StepWords::Group(_) | StepWords::Apply { .. });
        if request.steps.iter().any(is_late) {
            return Err(Kind::LateLoad.error());
        }
        request.steps.push(load(words, is_hybrid)?);
    } else if words.take("GROUPBY") {
        request.steps.push(StepWords::Group(group(words, is_hybrid)?));
    } else if words.take("SORTBY") {
        let keys = sort_keys(words, is_hybrid)?;
        let arrangement = arrangement(request);
        if arrangement.keys.is_some() {
            return Err(Kind::SecondSorting.error());
        }
        arrangement.keys = Some(keys);
        if words.take("MAX") {
            let most = words.word().ok().and_then(whole_number::<usize>);
            let most = most.ok_or_else(|| error::bad_arguments("MAX", error::CONVERSION))?;
            arrangement.limit = Some(most).filter(|most| *most > 0);
        }
    } else if words.take("LIMIT") {
        let two = words.words(2).map_err(|_| Kind::ShortLimit.error())?;
        let (Some(offset), Some(limit)) = (whole_number(two[0]), whole_number(two[1])) else {
            return Err(Kind::BadLimit.error());
        };
        let arrangement = arrangement(request);
        (arrangement.offset, arrangement.limit) = (offset, Some(limit));
    } else if words.take("APPLY") {
        let expression = value(words, "APPLY/FILTER")?;
        let name = match words.take("AS") {
            true => words.word().map_err(|_| Kind::AsNeedsName.error())?,
            false => expression,
        };
        request.steps.push(StepWords::Apply { expression, name });
    } else if words.take("FILTER") {
        request.steps.push(StepWords::Filter(value(words, "APPLY/FILTER")?));
    } else {
        return Ok(false);
    }
    if request.steps.len() > STEPS_MAX {
        return Err(Kind::StepsOver.with([STEPS_MAX.to_string().into()]));
    }
    Ok(true)
}

/// The arrangement since the last GROUPBY.
fn arrangement<'r, 'a>(request: &'r mut AggregateRequest<'a>) -> &'r mut Arrangement<'a> {
    let since_group = request.steps.iter().rposition(|step| matches!(step, StepWords::Group(_)));
    let first = since_group.map_or(0, |group| group + 1);
    let is_it = |step: &StepWords<'_>| matches!(step, StepWords::Arrange(_));
    let place = match request.steps[first..].iter().position(is_it) {
        Some(place) => first + place,
        None => {
            request.steps.push(StepWords::Arrange(Arrangement::default()));
            request.steps.len() - 1
        }
    };
    match &mut request.steps[place] {
        StepWords::Arrange(arrangement) => arrangement,
        step => unreachable!("{step:?} is at the place of an arrangement"),
    }
}

fn load<'a>(words: &mut OptionWords<'a>, is_hybrid: bool) -> Result<StepWords<'a>, SearchError> {
    if words.take("*") {
        return Ok(StepWords::LoadAll);
    }
    let mut rest = counted(words, "LOAD")?;
    let mut loaded = Vec::new();
    while let [path, after @ ..] = rest {
        if is_hybrid {
            prefixed(path, "LOAD")?;
        }
        let path = path.strip_prefix(b"@").unwrap_or(path);
        rest = after;
        let mut name = path;
        if let [keyword, after @ ..] = rest
            && keyword.eq_ignore_ascii_case(b"AS")
        {
            let [given, after @ ..] = after else { return Err(Kind::LoadWithoutName.error()) };
            (name, rest) = (given, after);
        }
        loaded.push((path, name));
    }
    Ok(StepWords::Load(loaded))
}

fn sort_keys<'a>(words: &mut OptionWords<'a>, is_hybrid: bool) -> Result<Vec<(&'a [u8], bool)>, SearchError> {
    let mut keys: Vec<(&[u8], bool)> = Vec::new();
    for word in counted(words, "SORTBY")? {
        if let Some(name) = word.strip_prefix(b"@") {
            if keys.len() == SORT_KEYS_MAX {
                return Err(Kind::SortKeysOver.with([SORT_KEYS_MAX.to_string().into()]));
            }
            keys.push((name, false));
        } else if word.eq_ignore_ascii_case(b"ASC") || word.eq_ignore_ascii_case(b"DESC") {
            keys.iter_mut().last().into_iter().for_each(|key| key.1 = word.eq_ignore_ascii_case(b"DESC"));
        } else {
            if is_hybrid {
                prefixed(word, "SORTBY")?;
            }
            return Err(Kind::SortDirection.of(word));
        }
    }
    Ok(keys)
}

fn group<'a>(words: &mut OptionWords<'a>, is_hybrid: bool) -> Result<GroupWords<'a>, SearchError> {
    let named = counted(words, "GROUPBY")?;
    let name = |word: &&'a [u8]| {
        word.strip_prefix(b"@").ok_or_else(|| {
            let name = error::text(word);
            error::bad_arguments("GROUPBY", &format!("Unknown property `{name}`. Did you mean `@{name}`?"))
        })
    };
    let by = named.iter().map(name).collect::<Result<Vec<_>, _>>()?;
    let mut reducers = Vec::new();
    while words.take("REDUCE") {
        let name = value(words, "REDUCE")?;
        let arguments = counted(words, &error::text(name))?;
        if is_hybrid && let Some(property) = arguments.first().filter(|_| reads_property(name)) {
            prefixed(property, &error::text(name))?;
        }
        let alias = if words.take("AS") { Some(value(words, "AS")?) } else { None };
        reducers.push(ReducerWords { name, arguments, alias });
    }
    Ok(GroupWords { by, reducers })
}

/// Reads any bytes, split at spaces, as the words of FT.AGGREGATE, and those of its reducers. Errors are
/// fine, panics are not.
pub fn fuzz_aggregation(bytes: &[u8]) {
    let words: Vec<&[u8]> = bytes.split(|byte| *byte == b' ').collect();
    let words = [&[&b"FT.AGGREGATE"[..], b"i", b"*"], &words[..]].concat();
    for step in parse(Args::new(&words)).map(|request| request.steps).unwrap_or_default() {
        if let StepWords::Group(group) = step {
            group.reducers.iter().for_each(|reducer| _ = Reducer::new(reducer, &mut |_| Ok(0)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed<R>(line: &str, with: impl FnOnce(Result<AggregateRequest<'_>, SearchError>) -> R) -> R {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        with(parse(Args::new(&words)))
    }

    #[test]
    fn options_of_the_query_become_a_search_and_the_rest_are_steps() {
        let line = "FT.AGGREGATE i q VERBATIM LOAD 4 @a $.b AS b TIMEOUT 5 GROUPBY 1 @b REDUCE sum 1 @a AS s \
                    PARAMS 2 x 1 SORTBY 2 @s DESC FILTER @s>1 LIMIT 1 2 DIALECT 3 WITHCURSOR MAXIDLE 9 COUNT 3";
        parsed(line, |request| {
            let request = request.expect("valid");
            let search: Vec<_> = request.search.iter().map(|word| String::from_utf8_lossy(word)).collect();
            assert_eq!(search.join(" "), "FT.SEARCH i q VERBATIM TIMEOUT 5 PARAMS 2 x 1 DIALECT 3");
            assert_eq!(request.steps.len(), 4);
            let loaded = vec![(&b"a"[..], &b"a"[..]), (b"$.b", b"b")];
            assert_eq!(request.steps[0], StepWords::Load(loaded));
            let keys = Some(vec![(&b"s"[..], true)]);
            assert_eq!(request.steps[2], StepWords::Arrange(Arrangement { keys, offset: 1, limit: Some(2) }));
            let max_idle = Some(Duration::from_millis(9));
            assert_eq!(request.cursor, Some(CursorOptions { count: Some(3), max_idle }));
        });
    }

    #[test]
    fn sorting_and_limits_between_two_groupings_are_one_step() {
        let line = "FT.AGGREGATE i * LIMIT 0 3 SORTBY 1 @a FILTER 1 LIMIT 2 1 GROUPBY 0 SORTBY 1 @b";
        parsed(line, |request| {
            let steps = request.expect("valid").steps;
            let arranged: Vec<_> = steps.iter().map(|step| matches!(step, StepWords::Arrange(_))).collect();
            assert_eq!(arranged, [true, false, false, true]);
        });
        parsed("FT.AGGREGATE i * SORTBY 1 @a APPLY 1 SORTBY 1 @b", |request| {
            assert_eq!(request.err(), Some(Kind::SecondSorting.error()));
        });
    }
}
