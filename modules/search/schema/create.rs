//! Parses FT.CREATE's words into a definition.
//!
//! Every option before SCHEMA that clients send is read and checked. Options without an effect here are kept
//! for FT.INFO; docs/compatibility.md lists them. What would change answers and is not implemented is
//! refused, here or when a query uses it; so is ON with a document type that the program lacks.

use super::filter::DocumentFilter;
use super::language::NamedLanguage;
use super::synonyms::SharedSynonyms;
use super::{
    Algorithm, Coordinates, Definition, EF_RUNTIME_DEFAULT, FieldDefinition, FieldKind, IndexOptions,
    NO_SEPARATOR, VectorOptions, element_name, quantization_name,
};
use crate::error::{self, Kind, SearchError};
use crate::words::{list, value, whole_number};
use engramdb_engine::command::{Args, OptionWords};
use engramdb_engine::hashing::HashSet;
use engramdb_engine::keyspace::{DataTypes, DocumentType};
use engramdb_engine::types::parse_double;
use engramdb_vector::{Element, Metric, Quantization};

/// The most fields of an index: more are taken for a mistake of the client.
pub const FIELDS_MAX: usize = 1024;
/// The patterns in the paths of all fields. They are compiled for the first document that is read, under the
/// lock: up to some milliseconds for each, and 256 KiB.
const PATTERNS_MAX: usize = 64;
/// The largest dimension: the sum of the products of this many bytes fits the integer that it is summed in.
const DIMENSION_MAX: u64 = 65_536;
const M_MAX: u64 = 2048;
const EF_MAX: u64 = 1_000_000;
/// As in RediSearch, which counts milliseconds in 64 bits.
const TEMPORARY_S_MAX: i64 = i64::MAX / 1000;

type Parsed<T> = Result<T, SearchError>;

/// Parses `FT.CREATE name [option…] SCHEMA field…`. Documents are hashes, or of one of these types.
/// `block_bytes_max` is the most memory that the first vectors of a field may be declared to take.
pub fn parse(args: Args<'_>, types: &DataTypes, block_bytes_max: u64) -> Parsed<Definition> {
    let mut words = args.options(2);
    let mut head = Head {
        documents: DocumentType::Hash,
        prefixes: Vec::new(),
        options: IndexOptions { score: 1.0, ..IndexOptions::default() },
    };
    while !words.take("SCHEMA") {
        head.read(&mut words, types)?;
    }
    let Head { documents, mut prefixes, options } = head;
    if prefixes.is_empty() {
        prefixes.push(Vec::new());
    }
    let mut fields: Vec<FieldDefinition> = Vec::new();
    add_fields(&mut words, args[1], documents, block_bytes_max, &mut fields)?;
    if fields.is_empty() {
        return Err(Kind::NoFields.error());
    }
    let (name, synonyms) = (args[1].to_vec(), SharedSynonyms::default());
    Ok(Definition { id: 0, name, documents, prefixes, options, fields, synonyms })
}

/// Parses the words after SCHEMA, to the end, and adds the fields to those that the index has.
pub fn add_fields(
    words: &mut OptionWords<'_>,
    index: &[u8],
    documents: DocumentType,
    block_bytes_max: u64,
    fields: &mut Vec<FieldDefinition>,
) -> Parsed<()> {
    let mut names: HashSet<Vec<u8>> = fields.iter().map(|field| field.name.clone()).collect();
    let mut patterns: usize = fields.iter().map(|field| documents.patterns_in(&field.identifier)).sum();
    while !words.is_done() {
        let mut field = field(words, documents, block_bytes_max)?;
        if !documents.is_path(&field.identifier) {
            let path = [b"$.", &field.identifier[..]].concat();
            if !documents.is_path(&path) {
                let parts = [&field.identifier[..], &field.name, index].map(|part| error::text(part).into());
                return Err(Kind::BadPath.with(parts));
            }
            // Clients of valkey-search, which takes `name` for `$.name`, send it. RediSearch refuses it for
            // vectors; for other types it creates the index, and finds nothing.
            field.identifier = path.into();
        }
        if field.name.is_empty() {
            return Err(Kind::FieldUnnamed.error());
        }
        if !names.insert(field.name.clone()) {
            return Err(Kind::FieldTwice.of(&field.name));
        }
        if fields.len() == FIELDS_MAX {
            return Err(Kind::TooManyFields.with([FIELDS_MAX.to_string().into()]));
        }
        patterns += documents.patterns_in(&field.identifier);
        if patterns > PATTERNS_MAX {
            return Err(Kind::TooManyPatterns.with([PATTERNS_MAX.to_string().into()]));
        }
        fields.push(field);
    }
    Ok(())
}

/// The definition of an index over hashes, from its command; for tests and fuzzing. Panics if it is invalid.
pub fn definition_of(command: &str) -> Definition {
    let words: Vec<&[u8]> = command.split_ascii_whitespace().map(str::as_bytes).collect();
    parse(Args::new(&words), &DataTypes::default(), u64::MAX).expect("well formed")
}

/// The options before SCHEMA.
struct Head {
    documents: DocumentType,
    prefixes: Vec<Vec<u8>>,
    options: IndexOptions,
}

impl Head {
    /// Reads one option.
    fn read(&mut self, words: &mut OptionWords<'_>, types: &DataTypes) -> Parsed<()> {
        if words.is_done() {
            return Err(Kind::NoSchema.error());
        }
        if words.take("ON") {
            self.documents = on(value(words, "ON")?, types)?;
            return Ok(());
        }
        if words.take("PREFIX") {
            self.prefixes = list(words, "PREFIX")?;
            return Ok(());
        }
        head_option(words, &mut self.options)
    }
}

fn head_option(words: &mut OptionWords<'_>, options: &mut IndexOptions) -> Parsed<()> {
    for (name, flag) in [
        ("NOOFFSETS", &mut options.no_offsets),
        ("NOHL", &mut options.no_highlight),
        ("NOFIELDS", &mut options.no_fields),
        ("NOFREQS", &mut options.no_frequencies),
        ("MAXTEXTFIELDS", &mut options.max_text_fields),
        ("SKIPINITIALSCAN", &mut options.skip_initial_scan),
    ] {
        if words.take(name) {
            *flag = true;
            return Ok(());
        }
    }
    if words.take("ASYNC") || words.take("NOSCOREIDX") {
        return Ok(());
    }
    if words.take("STOPWORDS") {
        options.stop_words = Some(list(words, "STOPWORDS")?);
    } else if words.take("LANGUAGE") {
        options.language = value(words, "LANGUAGE")?.to_ascii_lowercase();
        match NamedLanguage::of(&options.language) {
            NamedLanguage::Known(_) => {}
            NamedLanguage::Chinese => return Err(error::unsupported("The language chinese is")),
            NamedLanguage::Unknown => return Err(Kind::BadLanguage.error()),
        }
    } else if words.take("LANGUAGE_FIELD") {
        options.language_field = value(words, "LANGUAGE_FIELD")?.to_vec();
    } else if words.take("SCORE") {
        let score = parse_double(value(words, "SCORE")?).filter(|score| (0.0..=1.0).contains(score));
        options.score = score.ok_or(Kind::BadScore.error())?;
    } else if words.take("SCORE_FIELD") {
        options.score_field = value(words, "SCORE_FIELD")?.to_vec();
    } else if words.take("PAYLOAD_FIELD") {
        options.payload_field = value(words, "PAYLOAD_FIELD")?.to_vec();
    } else if words.take("TEMPORARY") {
        let seconds: Option<i64> = whole_number(value(words, "TEMPORARY")?);
        let seconds = seconds.filter(|&seconds| seconds <= TEMPORARY_S_MAX);
        let seconds = seconds.ok_or(error::bad_arguments("TEMPORARY", error::CONVERSION))?;
        options.temporary_s = Some(seconds.max(1) as u64);
    } else if words.take("INDEXALL") {
        let choice = value(words, "INDEXALL")?;
        options.index_all = choice.eq_ignore_ascii_case(b"ENABLE");
        if !options.index_all && !choice.eq_ignore_ascii_case(b"DISABLE") {
            return Err(Kind::BadIndexAll.error());
        }
    } else if words.take("FILTER") {
        options.filter = Some(DocumentFilter::parse(value(words, "FILTER")?)?);
    } else {
        return Err(Kind::UnknownArgument.of(words.word()?));
    }
    Ok(())
}

fn on(name: &[u8], types: &DataTypes) -> Parsed<DocumentType> {
    types.documents(name).ok_or_else(|| match name.eq_ignore_ascii_case(b"JSON") {
        true => error::unsupported("ON JSON is"),
        false => Kind::BadRuleType.of(name),
    })
}

fn field(
    words: &mut OptionWords<'_>,
    documents: DocumentType,
    block_bytes_max: u64,
) -> Parsed<FieldDefinition> {
    let identifier = words.word()?.to_vec();
    let name = if words.take("AS") { required(words, b"AS")?.to_vec() } else { identifier.clone() };
    let Some(type_name) = words.peek() else { return Err(Kind::FieldUntyped.of(&name)) };
    let mut field = FieldDefinition {
        identifier: identifier.into(),
        name,
        kind: FieldKind::Numeric,
        sortable: false,
        unf: false,
        no_index: false,
        index_missing: false,
        index_empty: false,
    };
    field.kind = match type_name.to_ascii_uppercase().as_slice() {
        b"TEXT" => FieldKind::Text { weight: 1.0, no_stem: false, suffix_trie: false, phonetic: false },
        b"TAG" => {
            // A hash's field has one text, which the separator splits; other documents have lists of tags.
            let separator = if documents == DocumentType::Hash { b',' } else { NO_SEPARATOR };
            FieldKind::Tag { separator, case_sensitive: false, suffix_trie: false }
        }
        b"NUMERIC" => FieldKind::Numeric,
        b"GEO" => FieldKind::Geo,
        b"GEOSHAPE" => FieldKind::GeoShape(Coordinates::default()),
        b"VECTOR" => {
            words.word()?;
            FieldKind::Vector(vector(words, block_bytes_max)?)
        }
        _ => {
            return Err(Kind::BadFieldType.of(&field.identifier));
        }
    };
    if !matches!(field.kind, FieldKind::Vector(_)) {
        words.word()?;
    }
    while field_option(words, &mut field)? {}
    // Values of other documents are compared unchanged.
    field.unf |= field.sortable && documents != DocumentType::Hash;
    if field.no_index && field.index_missing {
        return Err(Kind::FieldContradicts.of(&field.identifier));
    }
    Ok(field)
}

/// Reads one option after a field's type; false if the next word begins another field.
fn field_option(words: &mut OptionWords<'_>, field: &mut FieldDefinition) -> Parsed<bool> {
    if words.take("INDEXMISSING") {
        field.index_missing = true;
        return Ok(true);
    }
    if matches!(field.kind, FieldKind::Vector(_)) {
        return Ok(false);
    }
    if words.take("SORTABLE") {
        field.sortable = true;
        // Values of these types are compared unchanged, so UNF is implied.
        let is_kept = matches!(field.kind, FieldKind::Numeric | FieldKind::Tag { case_sensitive: true, .. });
        field.unf = words.take("UNF") || is_kept;
        return Ok(true);
    }
    if words.take("NOINDEX") {
        field.no_index = true;
        return Ok(true);
    }
    kind_option(words, field)
}

/// Like `field_option`, for an option that only some types have.
fn kind_option(words: &mut OptionWords<'_>, field: &mut FieldDefinition) -> Parsed<bool> {
    match &mut field.kind {
        FieldKind::Text { weight, .. } if words.take("WEIGHT") => {
            *weight = parse_double(value(words, "weight")?)
                .ok_or_else(|| error::bad_arguments("weight", error::CONVERSION))?;
        }
        FieldKind::Text { no_stem, .. } if words.take("NOSTEM") => *no_stem = true,
        FieldKind::Text { phonetic, .. } if words.take("PHONETIC") => {
            // One algorithm serves all four languages, as in RediSearch.
            let known: [&[u8]; 4] = [b"dm:en", b"dm:fr", b"dm:pt", b"dm:es"];
            if !known.contains(&required(words, b"PHONETIC")?) {
                return Err(Kind::BadPhonetic.error());
            }
            *phonetic = true;
        }
        FieldKind::Tag { separator, .. } if words.take("SEPARATOR") => {
            *separator = match required(words, b"SEPARATOR")? {
                [separator] => *separator,
                other => return Err(Kind::BadSeparator.of(other)),
            };
        }
        FieldKind::Tag { case_sensitive, .. } if words.take("CASESENSITIVE") => *case_sensitive = true,
        FieldKind::Text { suffix_trie, .. } | FieldKind::Tag { suffix_trie, .. }
            if words.take("WITHSUFFIXTRIE") =>
        {
            *suffix_trie = true;
        }
        FieldKind::Text { .. } | FieldKind::Tag { .. } if words.take("INDEXEMPTY") => {
            field.index_empty = true;
        }
        FieldKind::GeoShape(coordinates) if words.take("FLAT") => *coordinates = Coordinates::Flat,
        FieldKind::GeoShape(coordinates) if words.take("SPHERICAL") => {
            *coordinates = Coordinates::Spherical;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The word after an option of a field.
fn required<'a>(words: &mut OptionWords<'a>, option: &[u8]) -> Parsed<&'a [u8]> {
    words.word().map_err(|_| Kind::RequiresArgument.of(option))
}

/// Reads `FLAT|HNSW count (name value)…`.
fn vector(words: &mut OptionWords<'_>, block_bytes_max: u64) -> Parsed<VectorOptions> {
    let algorithm = value(words, "vector similarity algorithm")?;
    let algorithm = match algorithm.to_ascii_uppercase().as_slice() {
        b"FLAT" => Algorithm::Flat,
        b"HNSW" => Algorithm::Hnsw,
        b"SVS-VAMANA" => Algorithm::Svs,
        _ => return Err(Kind::BadAlgorithm.error()),
    };
    const COUNT: &str = "vector similarity number of parameters";
    let count: Option<usize> = whole_number(value(words, COUNT)?);
    let count = count.ok_or_else(|| error::bad_arguments(COUNT, error::CONVERSION))?;
    // RediSearch checks the number of a graph's words before it reads them; for the other algorithms it reads
    // them first. The order decides which error a client gets.
    if count % 2 == 1 {
        let odd = if algorithm == Algorithm::Hnsw { Kind::OddGraphCount } else { Kind::OddCount };
        return Err(odd.with([count.to_string().into()]));
    }
    let given = count.min(words.left());
    // The name without a value at the end is named in the error; see `attributes_of`.
    if algorithm == Algorithm::Hnsw && given < count && given.is_multiple_of(2) {
        return Err(Kind::ShortGraph.with([count.to_string().into(), given.to_string().into()]));
    }
    let attributes = words.words(given)?;
    let options =
        attributes_of(algorithm, attributes, count).map_err(|problem| problem.into_error(algorithm))?;
    let names = |name: &[u8]| attributes.chunks(2).any(|pair| pair[0].eq_ignore_ascii_case(name));
    let has_blocks = names(b"BLOCK_SIZE");
    // As in RediSearch, the first vectors are a block of them, if nothing else is said.
    let initial = if names(b"INITIAL_CAP") { options.initial_capacity } else { options.block_size };
    let declared = [
        ("initial capacity", has_blocks || names(b"INITIAL_CAP"), initial),
        ("block size", has_blocks, options.block_size),
    ];
    let most = block_bytes_max / options.element_bytes_estimated();
    match declared.into_iter().find(|&(_, is_given, vectors)| is_given && vectors > most) {
        Some((what, _, vectors)) => {
            Err(Kind::VectorLimit.with([what.into(), vectors.to_string().into(), most.to_string().into()]))
        }
        None => Ok(options),
    }
}

/// An error in a vector field's attributes.
enum AttributeProblem {
    Missing(&'static str),
    Bad {
        attribute: &'static str,
        cause: &'static str,
    },
    Unknown(String),
    /// Fewer words than were announced.
    Short {
        announced: usize,
        given: usize,
    },
}

impl AttributeProblem {
    fn into_error(self, algorithm: Algorithm) -> SearchError {
        let algorithm = algorithm.name().into();
        match self {
            AttributeProblem::Missing(attribute) => {
                Kind::AttributeMissing.with([algorithm, attribute.into()])
            }
            AttributeProblem::Bad { attribute, cause } => {
                let (older, older_cause) = (older_name(attribute), older_cause(attribute, cause));
                let parts = [attribute, older, cause, older_cause].map(Into::into);
                let [attribute, older, cause, older_cause] = parts;
                Kind::BadAttribute.with([algorithm, attribute, older, cause, older_cause])
            }
            AttributeProblem::Unknown(attribute) => {
                Kind::AttributeUnknown.with([algorithm, attribute.into()])
            }
            AttributeProblem::Short { announced, given } => {
                Kind::Short.with([announced.to_string().into(), given.to_string().into()])
            }
        }
    }
}

/// The name of an attribute in errors of RediSearch up to 8.6.
fn older_name(attribute: &'static str) -> &'static str {
    match attribute {
        "TYPE" => "type",
        "DIM" => "dim",
        "DISTANCE_METRIC" => "metric",
        "INITIAL_CAP" => "initial cap",
        "BLOCK_SIZE" => "blocksize",
        "M" => "m",
        "EF_CONSTRUCTION" => "efConstruction",
        "EF_RUNTIME" => "efRuntime",
        "EPSILON" => "epsilon",
        attribute => attribute,
    }
}

/// The cause in errors of RediSearch up to 8.6: it has a text of its own for a word that an attribute with a
/// fixed set of words does not have.
fn older_cause(attribute: &str, cause: &'static str) -> &'static str {
    let is_one_of_words = matches!(attribute, "TYPE" | "DISTANCE_METRIC" | "QUANTIZATION" | "COMPRESSION");
    if is_one_of_words && cause == error::CONVERSION { error::UNKNOWN } else { cause }
}

/// Reads names and values; `announced` is the number of words that the command gave.
fn attributes_of(
    algorithm: Algorithm,
    words: &[&[u8]],
    announced: usize,
) -> Result<VectorOptions, AttributeProblem> {
    let mut attributes = Attributes::new(algorithm);
    for pair in words.chunks(2) {
        let value = pair.get(1).copied();
        let known = attributes.set(&pair[0].to_ascii_uppercase(), value.unwrap_or_default());
        match known {
            Ok(true) => {}
            Ok(false) => return Err(AttributeProblem::Unknown(error::text(pair[0]))),
            Err(AttributeProblem::Bad { attribute, .. }) if value.is_none() => {
                return Err(bad(attribute, error::NO_VALUE));
            }
            Err(problem) => return Err(problem),
        }
    }
    if words.len() < announced {
        return Err(AttributeProblem::Short { announced, given: words.len() });
    }
    attributes.into_options()
}

/// The attributes of a vector field that have been read so far.
struct Attributes {
    options: VectorOptions,
    element: Option<Element>,
    dimension: Option<u32>,
    metric: Option<Metric>,
    quantization: Option<Quantization>,
}

impl Attributes {
    fn new(algorithm: Algorithm) -> Attributes {
        let options = VectorOptions {
            algorithm,
            element: Element::F32,
            quantization: Quantization::None,
            metric: Metric::L2,
            dimension: 0,
            m: 16,
            ef_construction: 200,
            ef_runtime: EF_RUNTIME_DEFAULT,
            epsilon: 0.01,
            initial_capacity: 0,
            block_size: 1024,
        };
        Attributes { options, element: None, dimension: None, metric: None, quantization: None }
    }

    /// Sets an attribute; false if the algorithm has no attribute of this name.
    fn set(&mut self, name: &[u8], value: &[u8]) -> Result<bool, AttributeProblem> {
        let Attributes { options, quantization, .. } = self;
        match name {
            b"TYPE" => self.element = Some(parse_element(value)?),
            b"DIM" => self.dimension = Some(number(value, "DIM", 1, DIMENSION_MAX)? as u32),
            b"DISTANCE_METRIC" => self.metric = Some(parse_metric(value)?),
            b"INITIAL_CAP" if options.algorithm != Algorithm::Svs => {
                options.initial_capacity = number(value, "INITIAL_CAP", 0, u64::MAX)?;
            }
            b"EPSILON" if options.algorithm != Algorithm::Flat => {
                let epsilon = parse_double(value).ok_or(bad("EPSILON", error::CONVERSION))?;
                if !(epsilon >= 0.0 && epsilon.is_finite()) {
                    return Err(bad("EPSILON", error::BOUNDS));
                }
                options.epsilon = epsilon;
            }
            name => {
                return match options.algorithm {
                    Algorithm::Flat => flat_attribute(options, name, value),
                    Algorithm::Hnsw => hnsw_attribute(options, quantization, name, value),
                    Algorithm::Svs => svs_attribute(options, quantization, name, value),
                };
            }
        }
        Ok(true)
    }

    fn into_options(self) -> Result<VectorOptions, AttributeProblem> {
        let mut options = self.options;
        options.element = self.element.ok_or(AttributeProblem::Missing("TYPE"))?;
        options.dimension = self.dimension.ok_or(AttributeProblem::Missing("DIM"))?;
        options.metric = self.metric.ok_or(AttributeProblem::Missing("DISTANCE_METRIC"))?;
        options.quantization = self.quantization.unwrap_or_else(|| options.default_quantization());
        Ok(options)
    }
}

fn flat_attribute(options: &mut VectorOptions, name: &[u8], value: &[u8]) -> Result<bool, AttributeProblem> {
    if name != b"BLOCK_SIZE" {
        return Ok(false);
    }
    options.block_size = number(value, "BLOCK_SIZE", 1, u64::MAX)?;
    Ok(true)
}

fn hnsw_attribute(
    options: &mut VectorOptions,
    quantization: &mut Option<Quantization>,
    name: &[u8],
    value: &[u8],
) -> Result<bool, AttributeProblem> {
    match name {
        b"M" => options.m = number(value, "M", 2, M_MAX)? as u32,
        b"EF_CONSTRUCTION" => {
            options.ef_construction = number(value, "EF_CONSTRUCTION", 1, EF_MAX)? as u32;
        }
        b"EF_RUNTIME" => options.ef_runtime = number(value, "EF_RUNTIME", 1, EF_MAX)? as u32,
        b"QUANTIZATION" => *quantization = Some(parse_quantization(value)?),
        _ => return Ok(false),
    }
    Ok(true)
}

/// Sets an attribute by the name that it has for RediSearch's quantized graph (SVS-VAMANA).
fn svs_attribute(
    options: &mut VectorOptions,
    quantization: &mut Option<Quantization>,
    name: &[u8],
    value: &[u8],
) -> Result<bool, AttributeProblem> {
    match name {
        b"COMPRESSION" => *quantization = Some(parse_compression(value)?),
        b"CONSTRUCTION_WINDOW_SIZE" => {
            options.ef_construction = number(value, "CONSTRUCTION_WINDOW_SIZE", 1, EF_MAX)? as u32;
        }
        b"GRAPH_MAX_DEGREE" => {
            options.m = (number(value, "GRAPH_MAX_DEGREE", 2, 2 * M_MAX)? as u32).div_ceil(2).max(2);
        }
        b"SEARCH_WINDOW_SIZE" => {
            options.ef_runtime = number(value, "SEARCH_WINDOW_SIZE", 1, EF_MAX)? as u32;
        }
        // These are checked and have no effect: there is no training and no reduction here.
        b"TRAINING_THRESHOLD" => _ = number(value, "TRAINING_THRESHOLD", 1, u64::MAX)?,
        b"REDUCE" => _ = number(value, "REDUCE", 1, DIMENSION_MAX)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn parse_element(word: &[u8]) -> Result<Element, AttributeProblem> {
    let found =
        Element::ALL.into_iter().find(|&element| word.eq_ignore_ascii_case(element_name(element).as_bytes()));
    found.ok_or(bad("TYPE", error::CONVERSION))
}

fn parse_quantization(word: &[u8]) -> Result<Quantization, AttributeProblem> {
    let found = Quantization::ALL
        .into_iter()
        .find(|&one| word.eq_ignore_ascii_case(quantization_name(one).as_bytes()));
    found.ok_or(bad("QUANTIZATION", error::CONVERSION))
}

/// The quantization by RediSearch's word for it. Only the bits of the code that is searched count: where
/// RediSearch keeps a second code for re-ranking, this server uses the vector.
fn parse_compression(word: &[u8]) -> Result<Quantization, AttributeProblem> {
    match word.to_ascii_uppercase().as_slice() {
        b"NO_COMPRESSION" => Ok(Quantization::None),
        b"LVQ8" | b"LEANVEC8X8" => Ok(Quantization::Bits8),
        b"LVQ4" | b"LVQ4X4" | b"LVQ4X8" | b"LEANVEC4X8" => Ok(Quantization::Bits4),
        _ => Err(bad("COMPRESSION", error::CONVERSION)),
    }
}

fn bad(attribute: &'static str, cause: &'static str) -> AttributeProblem {
    AttributeProblem::Bad { attribute, cause }
}

fn number(word: &[u8], attribute: &'static str, least: u64, most: u64) -> Result<u64, AttributeProblem> {
    let number: i128 = whole_number(word).ok_or(bad(attribute, error::CONVERSION))?;
    match u64::try_from(number) {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(bad(attribute, error::BOUNDS)),
    }
}

fn parse_metric(word: &[u8]) -> Result<Metric, AttributeProblem> {
    match word.to_ascii_uppercase().as_slice() {
        b"L2" => Ok(Metric::L2),
        b"IP" => Ok(Metric::InnerProduct),
        b"COSINE" => Ok(Metric::Cosine),
        _ => Err(bad("DISTANCE_METRIC", error::CONVERSION)),
    }
}
