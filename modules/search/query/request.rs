//! The options of FT.SEARCH, which follow index and query in any order.
//!
//! Each option works, is refused, or cannot change the answer; see docs/compatibility.md.

use crate::documents::geo::{GeoCircle, GeoUnit, Position};
use crate::error::{self, Kind, SearchError};
use crate::query::Parameters;
use crate::query::excerpts::ExcerptOptions;
use crate::query::expand::Expander;
use crate::query::scorer::Scorer;
use crate::schema::language::{Language, NamedLanguage};
use crate::words::{counted, list, value, whole_number};
use engramdb_engine::command::{Args, OptionWords};
use engramdb_engine::hashing::HashSet;
use engramdb_engine::keyspace::Several;
use engramdb_engine::types::parse_double;
use std::time::Duration;

/// The largest number in LIMIT; a larger one is read as the next. What is allowed, settings say.
const LIMIT_MAX: usize = 1 << 31;
/// The most rows whose scores are explained: they are explained under the keyspace's lock.
const EXPLAINED_MAX: usize = 1_000;

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
    /// The fields and circles of GEOFILTER.
    pub geo_filters: Vec<(Vec<u8>, GeoCircle)>,
    /// Stop words are searched for like other words.
    pub keeps_stop_words: bool,
    /// VERBATIM: words of the query are not expanded.
    pub is_verbatim: bool,
    pub expander: Expander,
    /// The language of the query's words; `None` for that of the index.
    pub language: Option<Language>,
    /// How many other words may be between the words of an intersection; negative for any number.
    pub slop: Option<i32>,
    pub in_order: bool,
    pub scorer: Scorer,
    /// SCORER was given.
    pub names_scorer: bool,
    /// LIMIT was given.
    pub names_limit: bool,
    /// 0 until it is known, if the request does not say it.
    pub tanh_factor: u32,
    /// What HAMMING compares the documents' payloads with.
    pub payload: Vec<u8>,
    /// Scores are explained.
    pub explains: bool,
    /// HIGHLIGHT and SUMMARIZE.
    pub excerpts: ExcerptOptions,
    /// FORMAT EXPAND was given.
    pub expands: bool,
    dialect: Option<u32>,
    /// The dialect without DIALECT.
    pub default_dialect: u32,
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
    pub fn dialect(&self) -> u32 {
        self.dialect.unwrap_or(self.default_dialect)
    }

    /// Which values a reply shows of a path at which a document has several.
    pub fn several(&self) -> Several {
        let is_new = self.expands || self.dialect() > 2;
        if is_new { Several::All } else { Several::First }
    }

    /// Refuses a page that has more than `most` rows, the most that FT.SEARCH may return, or begins behind
    /// that number.
    pub fn check_limits(&self, most: usize) -> Result<(), SearchError> {
        for (name, number) in [("LIMIT", self.limit), ("OFFSET", self.offset)] {
            if self.names_limit && number > most.min(LIMIT_MAX) {
                return Err(Kind::LimitOver.with([name.into(), most.min(LIMIT_MAX).to_string().into()]));
            }
        }
        Ok(())
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
            || of_words(&mut words, &mut request)?
            || of_scores(&mut words, &mut request)?
            || request.excerpts.read(&mut words)?
            || of_documents(&mut words, &mut request)?
            || of_reply(&mut words, &mut request)?
            || of_query(&mut words, &mut request, &mut parameters)?;
        if !known {
            let place = words.index() - 2;
            return Err(refused(words.word()?, place));
        }
    }
    if request.explains && !request.with_scores {
        return Err(Kind::ExplainNeedsScores.error());
    }
    if request.explains && request.limit > EXPLAINED_MAX {
        return Err(error::unsupported(&format!("EXPLAINSCORE for more than {EXPLAINED_MAX} rows is")));
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
        ("VERBATIM", &mut request.is_verbatim),
        ("INORDER", &mut request.in_order),
        ("EXPLAINSCORE", &mut request.explains),
    ];
    flags.into_iter().any(|(name, flag)| {
        let taken = words.take(name);
        *flag |= taken;
        taken
    })
}

/// Reads an option about the words of the query.
fn of_words(words: &mut OptionWords<'_>, request: &mut QueryOptions) -> Result<bool, SearchError> {
    // Totals are always counted.
    if ["WITHCOUNT", "WITHOUTCOUNT"].iter().any(|option| words.take(option)) {
        return Ok(true);
    }
    if words.take("EXPANDER") {
        request.expander = Expander::named(value(words, "EXPANDER")?);
    } else if words.take("LANGUAGE") {
        request.language = Some(match NamedLanguage::of(value(words, "LANGUAGE")?) {
            NamedLanguage::Known(language) => language,
            NamedLanguage::Chinese => return Err(error::unsupported("The language chinese is")),
            NamedLanguage::Unknown => return Err(Kind::NoLanguage.error()),
        });
    } else if words.take("SLOP") {
        let slop = words.word().ok().and_then(whole_number);
        request.slop = Some(slop.ok_or(error::bad_arguments("SLOP", error::CONVERSION))?);
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// Reads an option about scores.
fn of_scores(words: &mut OptionWords<'_>, request: &mut QueryOptions) -> Result<bool, SearchError> {
    if words.take("SCORER") {
        request.scorer = Scorer::named(value(words, "SCORER")?)?;
        request.names_scorer = true;
    } else if words.take("BM25STD_TANH_FACTOR") {
        let factor = words.word().ok().and_then(whole_number).filter(|factor| (1..=10_000).contains(factor));
        request.tanh_factor = factor.ok_or(Kind::BadTanhFactor.error())?;
    } else if words.take("PAYLOAD") {
        request.payload = value(words, "PAYLOAD")?.to_vec();
    } else {
        return Ok(false);
    }
    Ok(true)
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
    } else if words.take("GEOFILTER") {
        request.geo_filters.push(geo_filter(words)?);
    } else {
        return Ok(false);
    }
    Ok(true)
}

fn geo_filter(words: &mut OptionWords<'_>) -> Result<(Vec<u8>, GeoCircle), SearchError> {
    let &[field, longitude, latitude, radius, unit] =
        words.words(5).map_err(|_| Kind::GeoFilterShort.error())?
    else {
        unreachable!("five words were taken")
    };
    let number = |name: &str, digits: &[u8]| {
        parse_double(digits).ok_or_else(|| error::bad_arguments(name, error::CONVERSION))
    };
    let centre = Position { longitude: number("<lon>", longitude)?, latitude: number("<lat>", latitude)? };
    let radius = number("<radius>", radius)?;
    let unit = GeoUnit::read(unit).ok_or_else(|| Kind::GeoFilterNoUnit.of(unit))?;
    Ok((field.to_vec(), GeoCircle::new(centre, radius, unit)?))
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
        request.names_limit = true;
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
    let bounded = |number: usize| number.min(LIMIT_MAX + 1);
    Ok((bounded(offset), bounded(limit)))
}
