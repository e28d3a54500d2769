//! FT.SEARCH's words behind index and query, in any order.

use crate::error;
use crate::query::Parameters;
use crate::words::{counted, list, value, whole_number};
use engramdb_engine::command::{Args, CommandError, Options};
use engramdb_engine::types::parse_double;
use std::time::Duration;

/// RediSearch's `search-timeout`.
const TIMEOUT_DEFAULT: Duration = Duration::from_millis(500);
const LIMIT_MAX: usize = 1_000_000;

/// A field, and what to call it in the reply.
pub type Returned = (Vec<u8>, Vec<u8>);

/// What the reply is to look like.
#[derive(Clone, Debug)]
pub struct Request {
    pub no_content: bool,
    pub with_scores: bool,
    pub with_payloads: bool,
    pub with_sort_keys: bool,
    /// `None` for all.
    pub fields: Option<Vec<Returned>>,
    pub sort_by: Option<SortBy>,
    pub offset: usize,
    pub limit: usize,
    /// `None` for as long as it takes.
    pub timeout: Option<Duration>,
    pub in_keys: Option<Vec<Vec<u8>>>,
    /// Where words of the query are looked for; `None` for all TEXT fields.
    pub in_fields: Option<Vec<Vec<u8>>>,
    /// Numeric filters in the old form: field, least, most, as written.
    pub filters: Vec<[Vec<u8>; 3]>,
}

#[derive(Clone, Debug)]
pub struct SortBy {
    pub field: Vec<u8>,
    pub descending: bool,
}

/// The options, and where the values of the query's parameters stand.
pub fn parse<'a>(args: Args<'a>) -> Result<(Request, Parameters<'a>), CommandError> {
    let mut request = Request {
        no_content: false,
        with_scores: false,
        with_payloads: false,
        with_sort_keys: false,
        fields: None,
        sort_by: None,
        offset: 0,
        limit: 10,
        timeout: Some(TIMEOUT_DEFAULT),
        in_keys: None,
        in_fields: None,
        filters: Vec::new(),
    };
    let mut parameters = Parameters::default();
    let mut words = args.options(3);
    while !words.is_done() {
        if !(flag(&mut words, &mut request) || ignored(&mut words)?) {
            option(&mut words, &mut request, &mut parameters)?;
        }
    }
    Ok((request, parameters))
}

fn flag(words: &mut Options<'_>, request: &mut Request) -> bool {
    let flags = [
        ("NOCONTENT", &mut request.no_content),
        ("WITHSCORES", &mut request.with_scores),
        ("WITHPAYLOADS", &mut request.with_payloads),
        ("WITHSORTKEYS", &mut request.with_sort_keys),
    ];
    flags.into_iter().any(|(name, flag)| {
        let taken = words.take(name);
        *flag |= taken;
        taken
    })
}

/// Takes an option that changes no answer here: there is no stemming or expansion, and scores are all one.
fn ignored(words: &mut Options<'_>) -> Result<bool, CommandError> {
    // Totals are always counted, whether one asks for it or against it.
    if ["VERBATIM", "NOSTOPWORDS", "WITHCOUNT", "WITHOUTCOUNT"].iter().any(|option| words.take(option)) {
        return Ok(true);
    }
    for option in ["LANGUAGE", "EXPANDER", "SCORER", "PAYLOAD", "FORMAT"] {
        if words.take(option) {
            return value(words, option).map(|_| true);
        }
    }
    Ok(false)
}

fn option<'a>(
    words: &mut Options<'a>,
    request: &mut Request,
    parameters: &mut Parameters<'a>,
) -> Result<(), CommandError> {
    if words.take("PARAMS") {
        let pairs = counted(words, "PARAMS")?;
        if parameters.words().next().is_some() {
            return Err(CommandError::of(
                "SEARCH_ADD_ARGS Multiple PARAMS are not allowed. Parameters can be defined only once",
            ));
        }
        if pairs.is_empty() {
            return Err(NOT_IN_PAIRS);
        }
        let first = words.index() - pairs.len();
        for (number, pair) in pairs.chunks(2).enumerate() {
            let [name, _value] = pair else {
                return Err(NOT_IN_PAIRS);
            };
            parameters.add(name, first + 2 * number + 1)?;
        }
    } else if words.take("RETURN") {
        request.fields = Some(returned(counted(words, "RETURN")?)?);
        request.no_content |= request.fields.as_ref().is_some_and(Vec::is_empty);
    } else if words.take("SORTBY") {
        let field = value(words, "SORTBY")?;
        let field = field.strip_prefix(b"@").unwrap_or(field).to_vec();
        let descending = words.take("DESC");
        _ = !descending && words.take("ASC");
        request.sort_by = Some(SortBy { field, descending });
    } else if words.take("LIMIT") {
        (request.offset, request.limit) = limit(words)?;
    } else if words.take("DIALECT") {
        let dialect = whole_number(words.word().unwrap_or_default());
        if !dialect.is_some_and(|dialect| (1..=4).contains(&dialect)) {
            return Err(CommandError::of(
                "SEARCH_PARSE_ARGS DIALECT requires a non negative integer >=1 and <= 4",
            ));
        }
    } else if words.take("TIMEOUT") {
        let milliseconds = whole_number(words.word().unwrap_or_default());
        let milliseconds = milliseconds
            .ok_or(CommandError::of("SEARCH_PARSE_ARGS TIMEOUT requires a non negative integer"))?;
        request.timeout = (milliseconds > 0).then(|| Duration::from_millis(milliseconds));
    } else if words.take("INKEYS") {
        request.in_keys = Some(list(words, "INKEYS")?);
    } else if words.take("INFIELDS") {
        request.in_fields = Some(list(words, "INFIELDS")?);
    } else if words.take("FILTER") {
        let three = words.words(3);
        let three = three.map_err(|_| CommandError::of("SEARCH_PARSE_ARGS FILTER requires 3 arguments"))?;
        if three.iter().any(|word| word.is_empty()) {
            return Err(CommandError::of("SEARCH_PARSE_ARGS Numeric/Geo filter value/s cannot be empty"));
        }
        request.filters.push(std::array::from_fn(|word| three[word].to_vec()));
    } else {
        return Err(refused(words.word()?));
    }
    Ok(())
}

const NOT_IN_PAIRS: CommandError =
    CommandError::of("SEARCH_ADD_ARGS Parameters must be specified in PARAM VALUE pairs");

fn refused(word: &[u8]) -> CommandError {
    let upper = word.to_ascii_uppercase();
    let known: [&[u8]; 6] = [b"GEOFILTER", b"SUMMARIZE", b"HIGHLIGHT", b"SLOP", b"INORDER", b"EXPLAINSCORE"];
    if known.contains(&upper.as_slice()) {
        return error::unsupported(&format!("{} is", String::from_utf8_lossy(&upper)));
    }
    CommandError::new(format!("SEARCH_ARG_UNRECOGNIZED Unknown argument `{}`", error::text(word)))
}

fn returned(words: &[&[u8]]) -> Result<Vec<Returned>, CommandError> {
    let mut fields = Vec::new();
    let mut rest = words;
    while let [name, after @ ..] = rest {
        rest = after;
        let name = name.strip_prefix(b"@").unwrap_or(name);
        let mut alias = name;
        if let [keyword, after @ ..] = rest
            && keyword.eq_ignore_ascii_case(b"AS")
        {
            let [given, after @ ..] = after else {
                return Err(CommandError::of(
                    "SEARCH_PARSE_ARGS RETURN path AS name - must be accompanied with NAME",
                ));
            };
            (alias, rest) = (given, after);
        }
        fields.push((name.to_vec(), alias.to_vec()));
    }
    Ok(fields)
}

fn limit(words: &mut Options<'_>) -> Result<(usize, usize), CommandError> {
    let mut number = || words.word().ok().and_then(parse_double).filter(|number| *number >= 0.0);
    let (Some(offset), Some(limit)) = (number(), number()) else {
        return Err(CommandError::of("SEARCH_PARSE_ARGS LIMIT needs two numeric arguments"));
    };
    let (offset, limit) = (offset as usize, limit as usize);
    for (name, number) in [("LIMIT", limit), ("OFFSET", offset)] {
        if number > LIMIT_MAX {
            return Err(CommandError::new(format!(
                "SEARCH_LIMIT_OVER {name} exceeds maximum of {LIMIT_MAX}"
            )));
        }
    }
    if limit == 0 && offset > 0 {
        return Err(CommandError::of(
            "SEARCH_LIMIT_OVER The `offset` of the LIMIT must be 0 when `num` is 0",
        ));
    }
    Ok((offset, limit))
}
