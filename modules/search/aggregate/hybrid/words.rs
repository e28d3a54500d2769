//! The words of FT.HYBRID: a search by words, a search by a vector, how both are fused, and steps.

use super::super::request::{self, AggregateRequest, StepWords};
use crate::error::{self, Kind, SearchError};
use crate::words::whole_number;
use engramdb_engine::command::{Args, OptionWords};
use engramdb_engine::types::parse_double;
use std::str::FromStr;

/// The rows of each search that are fused, and what a rank is added to, unless the request says otherwise.
const WINDOW: usize = 20;
const CONSTANT: f64 = 60.0;
/// The weights of the two scores.
const ALPHA: f64 = 0.3;
const BETA: f64 = 0.7;
/// The neighbours of a KNN without K.
const NEIGHBORS: usize = 10;
/// Neighbours that a KNN is asked for beyond K.
const TIES: usize = 64;
/// The name of the distance in the vector search.
pub const DISTANCE: &[u8] = b"__hybrid_distance";

/// A request, by its parts.
pub struct HybridRequest<'a> {
    pub query: &'a [u8],
    pub scorer: Option<&'a [u8]>,
    /// The name of the text search's score in the rows.
    pub search_alias: Option<&'a [u8]>,
    pub vector: VectorPart<'a>,
    pub fusion: Fusion,
    pub window: usize,
    /// The name of the fused score in the rows.
    pub fused_alias: Option<&'a [u8]>,
    pub rest: AggregateRequest<'a>,
}

pub struct VectorPart<'a> {
    pub field: &'a [u8],
    /// With its `$`.
    pub parameter: &'a [u8],
    pub method: VectorMethod<'a>,
    pub filter: Option<&'a [u8]>,
    /// POLICY and BATCH_SIZE, as attributes of a KNN.
    pub policy: Vec<(&'static [u8], &'a [u8])>,
    pub alias: Option<&'a [u8]>,
}

pub enum VectorMethod<'a> {
    Knn { k: usize, ef_runtime: Option<&'a [u8]>, shard_ratio: Option<&'a [u8]> },
    Range { radius: &'a [u8], epsilon: Option<&'a [u8]> },
}

/// How the scores of a document become one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fusion {
    /// The sum of the reciprocal ranks, each added to a constant.
    ReciprocalRank { constant: f64 },
    /// The weighted sum of the scores.
    Linear { alpha: f64, beta: f64 },
}

fn syntax<T>(text: impl Into<String>) -> Result<T, SearchError> {
    Err(Kind::HybridSyntax.with([text.into().into()]))
}

fn wrong<T>(text: impl Into<String>) -> Result<T, SearchError> {
    Err(Kind::HybridArguments.with([text.into().into()]))
}

/// Reads the words of FT.HYBRID from the one after the index on.
pub fn parse<'a>(args: Args<'a>) -> Result<HybridRequest<'a>, SearchError> {
    let mut words = args.options(2);
    if words.is_done() {
        return wrong("Missing subqueries count for FT.HYBRID");
    }
    if let Some(count) = words.peek().and_then(whole_number::<u32>).filter(|count| *count > 0) {
        words.word()?;
        if count != 2 {
            return wrong("FT.HYBRID currently supports only two subqueries");
        }
        if !words.take("SEARCH") {
            return syntax("SEARCH keyword is required");
        }
    } else if !words.take("SEARCH") {
        return syntax("Invalid subqueries count: expected an unsigned integer");
    }
    let Some(query) = words.peek() else { return wrong("No query string provided for SEARCH") };
    words.word()?;
    let (scorer, search_alias) = search_options(&mut words)?;
    let vector = vector_part(&mut words)?;
    let (mut fusion, mut window, mut fused_alias) =
        (Fusion::ReciprocalRank { constant: CONSTANT }, WINDOW, None);
    let mut is_combined = false;
    let rest = request::parse_from(args, words.index(), true, &mut |words| {
        if words.take("COMBINE") {
            if std::mem::replace(&mut is_combined, true) {
                return wrong("Duplicate COMBINE argument");
            }
            (fusion, window, fused_alias) = combine(words)?;
            return Ok(true);
        }
        let word = words.peek().unwrap_or_default();
        match word.to_ascii_uppercase().as_slice() {
            b"DIALECT" => Err(no_dialect()),
            b"ADDSCORES" | b"SCORER" | b"VERBATIM" | b"INORDER" | b"SLOP" | b"INKEYS" | b"INFIELDS"
            | b"LANGUAGE" | b"EXPANDER" | b"PAYLOAD" | b"NOSTOPWORDS" => {
                wrong(format!("Unknown argument `{}`", error::text(word)))
            }
            _ => Ok(false),
        }
    })?;
    check_steps(&rest)?;
    Ok(HybridRequest { query, scorer, search_alias, vector, fusion, window, fused_alias, rest })
}

/// Refuses what cannot be shown: explanations of groups, and steps of the fused list where there are cursors
/// over both searches instead of it.
fn check_steps(rest: &AggregateRequest<'_>) -> Result<(), SearchError> {
    if rest.explains && rest.steps.iter().any(|step| matches!(step, StepWords::Group(_))) {
        return wrong("EXPLAINSCORE is not supported with GROUPBY");
    }
    if rest.cursor.is_none() {
        return Ok(());
    }
    if rest.explains {
        return Err(error::unsupported("WITHCURSOR with EXPLAINSCORE is"));
    }
    if rest.steps.iter().any(|step| !is_load(step)) {
        return Err(error::unsupported("WITHCURSOR with steps other than LOAD is"));
    }
    Ok(())
}

pub fn is_load(step: &StepWords<'_>) -> bool {
    matches!(step, StepWords::Load(_) | StepWords::LoadAll)
}

fn no_dialect() -> SearchError {
    const TEXT: &str = "DIALECT is not supported in FT.HYBRID or any of its subqueries. Please check the documentation on \
                        search-default-dialect configuration.";
    Kind::HybridArguments.with([TEXT.into()])
}

type SearchPart<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// SCORER and YIELD_SCORE_AS of the text search.
fn search_options<'a>(words: &mut OptionWords<'a>) -> Result<SearchPart<'a>, SearchError> {
    let (mut scorer, mut alias) = (None, None);
    while let Some(word) = words.peek().filter(|word| !word.eq_ignore_ascii_case(b"VSIM")) {
        if words.take("SCORER") {
            scorer = Some(crate::words::value(words, "SCORER")?);
        } else if words.take("YIELD_SCORE_AS") {
            alias = Some(crate::words::value(words, "YIELD_SCORE_AS")?);
        } else if words.take("DIALECT") {
            return Err(no_dialect());
        } else {
            return wrong(format!("Unknown argument `{}` in SEARCH", error::text(word)));
        }
    }
    Ok((scorer, alias))
}

fn vector_part<'a>(words: &mut OptionWords<'a>) -> Result<VectorPart<'a>, SearchError> {
    if !words.take("VSIM") {
        return syntax("VSIM argument is required");
    }
    let Ok(field) = words.word() else { return syntax("Missing vector field name") };
    let Some(field) = field.strip_prefix(b"@") else {
        return syntax("Missing @ prefix for vector field name");
    };
    let Ok(parameter) = words.word() else { return syntax("Missing vector argument") };
    // It becomes a part of a query.
    let is_name = |name: &[u8]| name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    if !parameter.strip_prefix(b"$").is_some_and(is_name) {
        return syntax("Invalid vector argument, expected a parameter name starting with $");
    }
    let method = if words.take("KNN") {
        knn(words)?
    } else if words.take("RANGE") {
        range(words)?
    } else {
        VectorMethod::Knn { k: NEIGHBORS, ef_runtime: None, shard_ratio: None }
    };
    let mut part = VectorPart { field, parameter, method, filter: None, policy: Vec::new(), alias: None };
    if words.take("FILTER") {
        filter(words, &mut part)?;
    }
    if matches!(part.method, VectorMethod::Range { .. }) && !part.policy.is_empty() {
        return Err(Kind::NotHybrid.error());
    }
    while words.take("YIELD_SCORE_AS") {
        if part.alias.is_some() {
            return wrong("Duplicate YIELD_SCORE_AS argument");
        }
        let Ok(alias) = words.word() else { return wrong("Missing argument value for YIELD_SCORE_AS") };
        part.alias = Some(alias);
    }
    if words.take("DIALECT") {
        return Err(no_dialect());
    }
    Ok(part)
}

/// The count of the words of pairs, which must be even.
fn pair_count(words: &mut OptionWords<'_>) -> Result<usize, SearchError> {
    let Ok(count) = words.word() else { return wrong("Missing argument count") };
    match whole_number::<u32>(count) {
        None => wrong("Invalid argument count: expected an unsigned integer"),
        Some(count) if count == 0 || count % 2 == 1 => syntax(format!(
            "Invalid argument count: {count} (must be a positive even number for key/value pairs)"
        )),
        Some(count) => Ok(count as usize),
    }
}

/// Reads the counted words of a clause as pairs of these names and their values.
fn pairs<'a, const N: usize>(
    words: &mut OptionWords<'a>,
    clause: &str,
    names: [&str; N],
) -> Result<[Option<&'a [u8]>; N], SearchError> {
    let count = pair_count(words)?;
    let mut values = [None; N];
    for given in (0..count).step_by(2) {
        let Some(word) = words.peek() else {
            let verb = if given == 1 { "was" } else { "were" };
            return syntax(format!("Expected arguments {count}, but {given} {verb} provided"));
        };
        let Some(place) = names.iter().position(|name| words.take(name)) else {
            return wrong(format!("Unknown argument `{}` in {clause}", error::text(word)));
        };
        if values[place].is_some() {
            return wrong(format!("Duplicate {} argument", names[place]));
        }
        let Ok(value) = words.word() else {
            return wrong(format!("Missing argument value for {}", names[place]));
        };
        values[place] = Some(value);
    }
    Ok(values)
}

fn knn<'a>(words: &mut OptionWords<'a>) -> Result<VectorMethod<'a>, SearchError> {
    let [k, ef_runtime, shard_ratio] = pairs(words, "KNN", ["K", "EF_RUNTIME", "SHARD_K_RATIO"])?;
    let positive = |word: &[u8]| whole_number::<i64>(word).filter(|number| *number > 0);
    if ef_runtime.is_some_and(|word| positive(word).is_none()) {
        return syntax("Invalid EF_RUNTIME value");
    }
    if let Some(ratio) = shard_ratio
        && parse_double(ratio).is_none_or(|ratio| !(ratio > 0.0 && ratio <= 1.0))
    {
        return Err(Kind::BadShardRatio.of(ratio));
    }
    let Some(k) = k else { return wrong("Missing required argument K") };
    let Some(k) = positive(k) else { return syntax("Invalid K value") };
    Ok(VectorMethod::Knn { k: k as usize, ef_runtime, shard_ratio })
}

fn range<'a>(words: &mut OptionWords<'a>) -> Result<VectorMethod<'a>, SearchError> {
    let [radius, epsilon] = pairs(words, "RANGE", ["RADIUS", "EPSILON"])?;
    let not_negative = |word: &[u8]| parse_double(word).filter(|number| *number >= 0.0);
    if epsilon.is_some_and(|word| not_negative(word).is_none_or(|number| number == 0.0)) {
        return syntax("Invalid EPSILON value");
    }
    let Some(radius) = radius else { return wrong("Missing required argument RADIUS") };
    if not_negative(radius).is_none() {
        return syntax("Invalid RADIUS value");
    }
    Ok(VectorMethod::Range { radius, epsilon })
}

/// FILTER of the vector search: an expression, or a count and that number of words.
fn filter<'a>(words: &mut OptionWords<'a>, part: &mut VectorPart<'a>) -> Result<(), SearchError> {
    let Some(first) = words.peek() else { return wrong("Missing argument count for FILTER") };
    let Some(count) = whole_number::<usize>(first) else {
        part.filter = Some(words.word()?);
        return Ok(());
    };
    words.word()?;
    let left = words.left();
    let Ok(inner) = words.words(count) else {
        return syntax(format!("Not enough arguments in FILTER, specified {count} but provided only {left}"));
    };
    let [expression, options @ ..] = inner else { return wrong("Missing filter-expression for FILTER") };
    part.filter = Some(expression);
    for pair in options.chunks(2) {
        let [name, value] = pair else {
            return wrong(format!("Missing argument value for {}", error::text(pair[0])));
        };
        match name.to_ascii_uppercase().as_slice() {
            b"POLICY" if value.eq_ignore_ascii_case(b"ADHOC") => {
                part.policy.push((b"HYBRID_POLICY", b"ADHOC_BF"));
            }
            b"POLICY" if value.eq_ignore_ascii_case(b"BATCHES") => {
                part.policy.push((b"HYBRID_POLICY", b"BATCHES"));
            }
            b"POLICY" => return wrong("POLICY: Invalid value for argument"),
            b"BATCH_SIZE" if whole_number::<u32>(value).is_none() => {
                return Err(Kind::VectorValue.error());
            }
            b"BATCH_SIZE" => part.policy.push((b"BATCH_SIZE", value)),
            _ => return wrong(format!("Unknown argument `{}` in FILTER", error::text(name))),
        }
    }
    Ok(())
}

type Combined<'a> = (Fusion, usize, Option<&'a [u8]>);

fn combine<'a>(words: &mut OptionWords<'a>) -> Result<Combined<'a>, SearchError> {
    let Ok(method) = words.word() else { return wrong("COMBINE: Missing argument value") };
    let is_linear = method.eq_ignore_ascii_case(b"LINEAR");
    if !is_linear && !method.eq_ignore_ascii_case(b"RRF") {
        return wrong("COMBINE: Invalid value for argument");
    }
    let clause = if is_linear { "LINEAR" } else { "RRF" };
    let names: &[&str] = if is_linear {
        &["ALPHA", "BETA", "WINDOW", "YIELD_SCORE_AS"]
    } else {
        &["CONSTANT", "WINDOW", "YIELD_SCORE_AS"]
    };
    let inner = method_words(words, clause)?;
    let mut values: Vec<Option<&'a [u8]>> = vec![None; names.len()];
    for pair in inner.chunks(2) {
        let place = names.iter().position(|name| pair[0].eq_ignore_ascii_case(name.as_bytes()));
        let Some(place) = place else {
            return wrong(format!("{clause}: Unknown argument `{}`", error::text(pair[0])));
        };
        if values[place].replace(pair[1]).is_some() {
            return wrong(format!("Duplicate {} argument", names[place]));
        }
    }
    let value = |name: &str| names.iter().position(|own| *own == name).and_then(|place| values[place]);
    let window = number(clause, "WINDOW", value("WINDOW"), WINDOW)?;
    if window == 0 {
        return wrong(format!("{clause}: WINDOW: Value out of range"));
    }
    let fusion = match (is_linear, value("ALPHA"), value("BETA")) {
        (true, Some(_), None) => return syntax("Missing value for BETA"),
        (true, None, Some(_)) => return syntax("Missing value for ALPHA"),
        (true, alpha, beta) => Fusion::Linear {
            alpha: finite(clause, "ALPHA", alpha, ALPHA)?,
            beta: finite(clause, "BETA", beta, BETA)?,
        },
        _ => Fusion::ReciprocalRank { constant: finite(clause, "CONSTANT", value("CONSTANT"), CONSTANT)? },
    };
    let mut alias = value("YIELD_SCORE_AS");
    if words.take("YIELD_SCORE_AS") {
        if alias.is_some() {
            return wrong("YIELD_SCORE_AS specified more than once");
        }
        let Ok(given) = words.word() else { return wrong("Missing argument value for YIELD_SCORE_AS") };
        alias = Some(given);
    }
    Ok((fusion, window, alias))
}

/// The counted words of a method, which are pairs.
fn method_words<'a>(words: &mut OptionWords<'a>, clause: &str) -> Result<&'a [&'a [u8]], SearchError> {
    let Ok(count) = words.word() else { return wrong(format!("Missing {clause} argument count")) };
    let Some(count) = whole_number::<u32>(count) else {
        let text = format!("Invalid {clause} argument count, error: {}", error::CONVERSION);
        return wrong(text);
    };
    if count % 2 == 1 {
        return wrong(format!(
            "{clause} expects pairs of key value arguments, argument count must be an even number"
        ));
    }
    let left = words.left();
    words.words(count as usize).or_else(|_| {
        syntax(format!("Not enough arguments in {clause}, specified {count} but provided only {left}"))
    })
}

fn number<N: FromStr>(clause: &str, name: &str, word: Option<&[u8]>, default: N) -> Result<N, SearchError> {
    let Some(word) = word else { return Ok(default) };
    whole_number(word).map_or_else(|| wrong(format!("{clause}: Invalid value for {name}")), Ok)
}

/// A number that is neither infinite nor none: scores are sorted by what it makes of them.
fn finite(clause: &str, name: &str, word: Option<&[u8]>, default: f64) -> Result<f64, SearchError> {
    let Some(word) = word else { return Ok(default) };
    let number = parse_double(word).filter(|number| number.is_finite());
    number.map_or_else(|| wrong(format!("{clause}: Invalid value for {name}")), Ok)
}

impl HybridRequest<'_> {
    /// How many rows of the vector search are fused.
    pub fn vector_rows(&self) -> usize {
        match self.vector.method {
            VectorMethod::Knn { k, .. } => k.min(self.window),
            VectorMethod::Range { .. } => self.window,
        }
    }

    /// How many rows the vector search is asked for. Of neighbours some more, because those at the last
    /// distance are taken in the order of their ids.
    pub fn asked_rows(&self) -> usize {
        match self.vector.method {
            VectorMethod::Knn { .. } => self.vector_rows().saturating_add(TIES),
            VectorMethod::Range { .. } => self.window,
        }
    }

    /// The query of the vector search: its filter, and the KNN or range.
    pub fn vector_query(&self) -> Vec<u8> {
        let VectorPart { parameter, method, filter, policy, .. } = &self.vector;
        let field = &escaped(self.vector.field)[..];
        let filter = filter.filter(|filter| *filter != b"*");
        let mut query = Vec::new();
        let mut add = |parts: &[&[u8]]| parts.iter().for_each(|part| query.extend_from_slice(part));
        match method {
            VectorMethod::Knn { ef_runtime, shard_ratio, .. } => {
                match filter {
                    Some(filter) => add(&[b"(", filter, b")"]),
                    None => add(&[b"*"]),
                }
                let k = self.asked_rows().to_string();
                add(&[b"=>[KNN ", k.as_bytes(), b" @", field, b" ", parameter]);
                for (name, value) in [(&b"EF_RUNTIME"[..], ef_runtime), (b"SHARD_K_RATIO", shard_ratio)] {
                    value.iter().for_each(|value| add(&[b" ", name, b" ", value]));
                }
                policy.iter().for_each(|(name, value)| add(&[b" ", name, b" ", value]));
                add(&[b" AS ", DISTANCE, b"]"]);
            }
            VectorMethod::Range { radius, epsilon } => {
                filter.iter().for_each(|filter| add(&[b"(", filter, b") "]));
                add(&[b"@", field, b":[VECTOR_RANGE ", radius, b" ", parameter, b"]=>{$YIELD_DISTANCE_AS: "]);
                add(&[DISTANCE]);
                epsilon.iter().for_each(|epsilon| add(&[b"; $EPSILON: ", epsilon]));
                add(&[b"}"]);
            }
        }
        query
    }
}

/// A field's name as queries write it: punctuation is escaped.
fn escaped(name: &[u8]) -> Vec<u8> {
    let escape = |byte: &u8| (byte.is_ascii_punctuation() && *byte != b'_').then_some(b'\\');
    name.iter().flat_map(|byte| escape(byte).into_iter().chain([*byte])).collect()
}

/// Reads any bytes, split at spaces, as the words of FT.HYBRID. Errors are fine, panics are not.
pub fn fuzz_hybrid(bytes: &[u8]) {
    let words: Vec<&[u8]> = bytes.split(|byte| *byte == b' ').collect();
    let words = [&[&b"FT.HYBRID"[..], b"i"], &words[..]].concat();
    if let Ok(request) = parse(Args::new(&words)) {
        _ = request.vector_query();
    }
}
