//! The options of FT.SEARCH, which follow index and query in any order.
//!
//! Each option works, is refused, or cannot change the answer: this server neither ranks (SCORER, PAYLOAD)
//! nor expands words (VERBATIM, LANGUAGE, EXPANDER); see docs/compatibility.md.

use crate::error::{self, Kind, SearchError};
use crate::query::Parameters;
use crate::schema::language::is_language;
use crate::words::{counted, list, value, whole_number};
use engramdb_engine::command::{Args, OptionWords};
use engramdb_engine::hashing::HashSet;
use engramdb_engine::keyspace::Several;
use std::time::Duration;

const LIMIT_MAX: usize = 1_000_000;

const SCORERS: &[&[u8]] = &[
    b"BM25",
    b"BM25STD",
    b"BM25STD.NORM",
    b"BM25STD.TANH",
    b"DISMAX",
    b"DOCSCORE",
    b"HAMMING",
    b"TFIDF",
    b"TFIDF.DOCNORM",
];

/// A field, and its name in the reply.
pub type Returned = (Vec<u8>, Vec<u8>);

/// The options of a search.
#[derive(Clone, Debug, Default)]
pub struct QueryOptions {
    pub no_content: bool,
    pub with_scores: bool,
    pub with_payloads: bool,
    pub with_sort_keys: bool,
    /// The fields to return, whose reply names are unique; `None` for all.
    pub fields: Option<Vec<Returned>>,
    pub sort_by: Option<SortBy>,
    pub offset: usize,
    pub limit: usize,
    pub timeout: Timeout,
    /// In order, each once.
    pub in_keys: Option<Vec<Vec<u8>>>,
    /// The fields that words of the query are searched in; `None` for all TEXT fields.
    pub in_fields: Option<Vec<Vec<u8>>>,
    /// The ranges of FILTER: field, least, most, as written.
    pub filters: Vec<[Vec<u8>; 3]>,
    /// Stop words are searched for like other words.
    pub keeps_stop_words: bool,
    /// FORMAT EXPAND was given.
    pub expands: bool,
    dialect: Option<u32>,
}

#[derive(Clone, Debug)]
pub struct SortBy {
    pub field: Vec<u8>,
    pub descending: bool,
}

/// The time limit of a search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timeout {
    /// That of the settings.
    #[default]
    Default,
    /// `None` for no limit.
    Given(Option<Duration>),
}

impl QueryOptions {
    /// Which values a reply shows of a path at which a document has several.
    pub fn several(&self) -> Several {
        let is_new = self.expands || self.dialect.is_some_and(|dialect| dialect > 2);
        if is_new { Several::All } else { Several::First }
    }

    /// Refuses FORMAT EXPAND where it cannot be: hashes have no types. The errors come in RediSearch's order.
    pub fn check_format(&self, is_resp3: bool, is_hash: bool) -> Result<(), SearchError> {
        match self.dialect {
            _ if !self.expands => Ok(()),
            Some(..=2) => Err(Kind::ExpandNeedsDialect.error()),
            _ if !is_resp3 => Err(Kind::ExpandNeedsResp3.error()),
            _ if is_hash => Err(Kind::ExpandNeedsJson.error()),
            _ => Ok(()),
        }
    }
}

/// The options of a request, and its parameters.
pub fn parse<'a>(args: Args<'a>) -> Result<(QueryOptions, Parameters<'a>), SearchError> {
    let mut request = QueryOptions { limit: 10, ..QueryOptions::default() };
    let mut parameters = Parameters::default();
    let mut words = args.options(3);
    while !words.is_done() {
        let known = flag(&mut words, &mut request)
            || of_ranking(&mut words)?
            || of_documents(&mut words, &mut request)?
            || of_reply(&mut words, &mut request)?
            || of_query(&mut words, &mut request, &mut parameters)?;
        if !known {
            let place = words.index() - 2;
            return Err(refused(words.word()?, place));
        }
    }
    request.no_content |= request.fields.as_ref().is_some_and(Vec::is_empty);
    Ok((request, parameters))
}

fn flag(words: &mut OptionWords<'_>, request: &mut QueryOptions) -> bool {
    let flags = [
        ("NOCONTENT", &mut request.no_content),
        ("WITHSCORES", &mut request.with_scores),
        ("WITHPAYLOADS", &mut request.with_payloads),
        ("WITHSORTKEYS", &mut request.with_sort_keys),
        ("NOSTOPWORDS", &mut request.keeps_stop_words),
    ];
    flags.into_iter().any(|(name, flag)| {
        let taken = words.take(name);
        *flag |= taken;
        taken
    })
}

/// Reads an option that is checked and then has no effect.
fn of_ranking(words: &mut OptionWords<'_>) -> Result<bool, SearchError> {
    // Words are never expanded, and totals always counted.
    if ["VERBATIM", "WITHCOUNT", "WITHOUTCOUNT"].iter().any(|option| words.take(option)) {
        return Ok(true);
    }
    for option in ["EXPANDER", "PAYLOAD"] {
        if words.take(option) {
            return value(words, option).map(|_| true);
        }
    }
    if words.take("LANGUAGE") {
        return match is_language(value(words, "LANGUAGE")?) {
            true => Ok(true),
            false => Err(Kind::NoLanguage.error()),
        };
    }
    if words.take("SCORER") {
        let scorer = value(words, "SCORER")?;
        return if SCORERS.contains(&scorer) { Ok(true) } else { Err(Kind::NoScorer.of(scorer)) };
    }
    Ok(false)
}

/// Reads an option that restricts the documents.
fn of_documents(words: &mut OptionWords<'_>, request: &mut QueryOptions) -> Result<bool, SearchError> {
    if words.take("INKEYS") {
        let mut keys = list(words, "INKEYS")?;
        keys.sort_unstable();
        keys.dedup();
        request.in_keys = Some(keys);
    } else if words.take("INFIELDS") {
        request.in_fields = Some(list(words, "INFIELDS")?).filter(|fields| !fields.is_empty());
    } else if words.take("FILTER") {
        let three = words.words(3).map_err(|_| Kind::FilterShort.error())?;
        if three.iter().any(|word| word.is_empty()) {
            return Err(Kind::FilterEmpty.error());
        }
        request.filters.push(std::array::from_fn(|word| three[word].to_vec()));
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// Reads an option about the reply's rows.
fn of_reply(words: &mut OptionWords<'_>, request: &mut QueryOptions) -> Result<bool, SearchError> {
    if words.take("RETURN") {
        request.fields = Some(returned(counted(words, "RETURN")?)?);
    } else if words.take("SORTBY") {
        if request.sort_by.is_some() {
            return Err(Kind::SecondSortBy.error());
        }
        request.sort_by = Some(sort_by(words)?);
    } else if words.take("LIMIT") {
        (request.offset, request.limit) = limit(words)?;
    } else if words.take("FORMAT") {
        let format = words.word().map_err(|_| Kind::NeedsArgument.of(b"FORMAT"))?;
        request.expands = format.eq_ignore_ascii_case(b"EXPAND");
        if !request.expands && !format.eq_ignore_ascii_case(b"STRING") {
            return Err(Kind::BadFormat.of(format));
        }
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// Reads an option about the query's parameters, dialect or time limit.
fn of_query<'a>(
    words: &mut OptionWords<'a>,
    request: &mut QueryOptions,
    parameters: &mut Parameters<'a>,
) -> Result<bool, SearchError> {
    if words.take("PARAMS") {
        read_parameters(words, parameters)?;
    } else if words.take("DIALECT") {
        let dialect = words.word().map_err(|_| Kind::NeedsArgument.of(b"DIALECT"))?;
        let dialect = whole_number(dialect).filter(|dialect| (1..=4).contains(dialect));
        request.dialect = Some(dialect.ok_or(Kind::BadDialect.error())?);
    } else if words.take("TIMEOUT") {
        let milliseconds = words.word().map_err(|_| Kind::NeedsTimeout.error())?;
        let milliseconds = whole_number(milliseconds).ok_or(Kind::BadTimeout.error())?;
        request.timeout = Timeout::Given((milliseconds > 0).then(|| Duration::from_millis(milliseconds)));
    } else {
        return Ok(false);
    }
    Ok(true)
}

fn read_parameters<'a>(
    words: &mut OptionWords<'a>,
    parameters: &mut Parameters<'a>,
) -> Result<(), SearchError> {
    let pairs = counted(words, "PARAMS")?;
    if parameters.words().next().is_some() {
        return Err(Kind::ParametersTwice.error());
    }
    if pairs.is_empty() || pairs.len() % 2 == 1 {
        return Err(Kind::ParametersUnpaired.error());
    }
    let first = words.index() - pairs.len();
    let mut names = pairs.iter().step_by(2).enumerate();
    names.try_for_each(|(number, name)| parameters.add(name, first + 2 * number + 1))
}

fn sort_by(words: &mut OptionWords<'_>) -> Result<SortBy, SearchError> {
    let field = words.word().map_err(|_| Kind::BadSortBy.error())?;
    let field = field.strip_prefix(b"@").unwrap_or(field).to_vec();
    let descending = words.take("DESC");
    _ = !descending && words.take("ASC");
    if words.take("MAX") {
        return Err(Kind::SortByMax.error());
    }
    Ok(SortBy { field, descending })
}

fn refused(word: &[u8], place: usize) -> SearchError {
    let upper = word.to_ascii_uppercase();
    let known: [&[u8]; 6] = [b"GEOFILTER", b"SUMMARIZE", b"HIGHLIGHT", b"SLOP", b"INORDER", b"EXPLAINSCORE"];
    if known.contains(&upper.as_slice()) {
        return error::unsupported(&format!("{} is", String::from_utf8_lossy(&upper)));
    }
    Kind::UnknownArgumentAt.with([error::text(word).into(), place.to_string().into()])
}

/// Fields and their reply names; of several fields with one reply name, the first.
fn returned(words: &[&[u8]]) -> Result<Vec<Returned>, SearchError> {
    let (mut fields, mut names) = (Vec::new(), HashSet::default());
    let mut rest = words;
    while let [name, after @ ..] = rest {
        rest = after;
        let mut alias = *name;
        if let [keyword, after @ ..] = rest
            && keyword.eq_ignore_ascii_case(b"AS")
        {
            let [given, after @ ..] = after else { return Err(Kind::ReturnWithoutName.error()) };
            (alias, rest) = (given, after);
        }
        if names.insert(alias) {
            fields.push((name.to_vec(), alias.to_vec()));
        }
    }
    Ok(fields)
}

fn limit(words: &mut OptionWords<'_>) -> Result<(usize, usize), SearchError> {
    let two = words.words(2).map_err(|_| Kind::ShortLimit.error())?;
    let (Some(offset), Some(limit)) = (whole_number(two[0]), whole_number(two[1])) else {
        return Err(Kind::BadLimit.error());
    };
    for (name, number) in [("LIMIT", limit), ("OFFSET", offset)] {
        if number > LIMIT_MAX {
            return Err(Kind::LimitOver.with([name.into(), LIMIT_MAX.to_string().into()]));
        }
    }
    Ok((offset, limit))
}
