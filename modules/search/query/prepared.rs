//! A cache of parsed searches, shared by all requests with the same words.
//!
//! Clients send the same search repeatedly, with other values in PARAMS. The result of parsing the words
//! without those values is kept per index; the next request with the same words only fills in its values.
//!
//! The cache is bounded by entries and by bytes. It has two generations. An entry that is used moves to the
//! young one. A full young generation becomes the old one, and the previous old one is dropped with all
//! entries that were not used since. So texts that do not recur cannot evict texts that do. Searches share
//! one lock, which is held for a look-up.

use super::expand::{Expander, Expansion};
use super::request::{self, QueryOptions};
use crate::documents::postings::Limit;
use crate::error::{self, Kind, SearchError};
use crate::query::{self, Node, Query, QueryDefaults, Template, WordScope};
use crate::schema::language::Language;
use crate::schema::{Definition, FieldKind};
use crate::weight::ReadWeight;
use engramdb_engine::command::Args;
use engramdb_engine::hashing::HashMap;
use engramdb_engine::types::parse_double;
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};

/// The number of the query's word in a request; the options follow it.
const QUERY_AT: usize = 2;

/// The most entries of one generation.
const GENERATION_MAX: usize = 256;
/// The most entries of one generation with the same text and different options (pages, for example).
const VARIANTS_MAX: usize = 8;
/// Searches with more bytes are not kept, so that a generation takes at most about this times its entries.
const WORDS_BYTES_MAX: usize = 4096;
/// The bytes that a word counts beyond its own: for its place, and its part of the tree.
const WORD_BYTES: usize = 32;
/// Searches with a larger `Node::size` are not kept either: a bare word is searched in all TEXT fields.
const NODES_MAX: usize = 256;
/// The most rows times nodes of the query that are explained, under the keyspace's lock.
const EXPLAINED_MAX: usize = 1 << 16;

/// A parsed search, without the values of its parameters.
#[derive(Debug)]
pub struct PreparedSearch {
    pub request: QueryOptions,
    template: Template,
    pub defaults: QueryDefaults,
    /// The request's words from the query on; `None` for the values of parameters.
    words: Vec<Option<Box<[u8]>>>,
    /// What reading the documents of rows costs.
    weight: OnceLock<ReadWeight>,
}

impl PreparedSearch {
    /// Parses a request without reading the values of its parameters.
    pub fn new(
        definition: &Definition,
        args: Args<'_>,
        defaults: QueryDefaults,
    ) -> Result<PreparedSearch, SearchError> {
        let (mut request, parameters) = request::parse(args)?;
        request.default_dialect = defaults.dialect;
        // A page that begins in front of the most rows ends there. One that is longer is refused, once it is
        // known which index it is of.
        let most = defaults.rows_max;
        if !request.names_limit || request.limit <= most && request.offset <= most {
            request.limit = request.limit.min(most - request.offset.min(most));
        }
        if request.tanh_factor == 0 {
            request.tanh_factor = defaults.tanh_factor;
        }
        if !request.names_scorer {
            request.scorer = defaults.scorer;
        }
        let is_bare = definition.options.no_offsets || definition.options.no_highlight;
        if is_bare && !request.excerpts.are_none() {
            return Err(Kind::NoOffsets.error());
        }
        let scope = WordScope {
            in_fields: request.in_fields.as_deref(),
            keeps_stop_words: request.keeps_stop_words,
            is_first_dialect: request.dialect() == 1,
        };
        let mut template = query::parse(definition, args[QUERY_AT], &parameters, scope)?;
        add_filters(definition, &request, &mut template)?;
        if request.explains && request.limit.saturating_mul(template.filter.size()) > EXPLAINED_MAX {
            return Err(error::unsupported("EXPLAINSCORE of so many rows of so large a query is"));
        }
        let of_index = Language::named(&definition.options.language).unwrap_or_default();
        let expansion = Expansion {
            language: request.language.unwrap_or(of_index),
            expander: if request.is_verbatim { Expander::NONE } else { request.expander },
            slop: request.slop.filter(|slop| *slop >= 0),
            in_order: request.in_order,
        };
        template.expand(definition, expansion)?;
        let mut words: Vec<Option<Box<[u8]>>> =
            args.from(QUERY_AT).iter().map(|word| Some(Box::from(*word))).collect();
        parameters.words().for_each(|word| words[word - QUERY_AT] = None);
        Ok(PreparedSearch { request, template, defaults, words, weight: OnceLock::new() })
    }

    /// What reading a document that is no hash costs for a row, in an index of this definition.
    pub fn weight(&self, definition: &Definition) -> &ReadWeight {
        self.weight.get_or_init(|| {
            let request = &self.request;
            let named = request.fields.iter().flatten().map(|(name, _)| definition.identifier_of(name));
            let payload = definition.options.payload_field.as_slice();
            let payload = request.with_payloads.then_some(payload);
            let paths = named.filter(|_| !request.no_content).chain(payload);
            let shows_whole = request.fields.is_none() && !request.no_content;
            ReadWeight::new(definition.documents, paths, (1, shows_whole))
        })
    }

    /// The query with the request's values. The request must equal the one that this was made of, except for
    /// the values of parameters.
    pub fn bind(&self, definition: &Definition, args: Args<'_>) -> Result<Query, SearchError> {
        let mut query = self.template.bind(definition, &args)?;
        self.defaults.restrict(&mut query.filter);
        Ok(query)
    }

    fn is_of(&self, words: &[&[u8]]) -> bool {
        self.words.len() == words.len()
            && self.words.iter().zip(words).all(|(own, word)| own.as_deref().is_none_or(|own| own == *word))
    }

    fn words_bytes(&self) -> usize {
        self.words.iter().flatten().map(|word| word.len() + WORD_BYTES).sum()
    }
}

/// Adds the numeric ranges of FILTER and the circles of GEOFILTER to the query.
fn add_filters(
    definition: &Definition,
    request: &QueryOptions,
    template: &mut Template,
) -> Result<(), SearchError> {
    let mut conditions = Vec::with_capacity(request.filters.len());
    for [field, least, most] in &request.filters {
        let number = |end: &str, word: &[u8]| {
            let (exclusive, digits) = match word.strip_prefix(b"(") {
                Some(digits) => (true, digits),
                None => (false, word),
            };
            let value = parse_double(digits)
                .ok_or_else(|| Kind::FilterRange.with([end.into(), error::text(digits).into()]))?;
            Ok::<Limit, SearchError>(Limit { value, exclusive })
        };
        let place = definition.field(field).ok_or_else(|| error::at(Kind::UnknownField, 0, field))?;
        if definition.fields[place].kind != FieldKind::Numeric {
            return Err(error::wrong_field("NUMERIC", 0, field));
        }
        let (least, most) = (number("lower", least)?, number("upper", most)?);
        conditions.push(Node::Number { field: place, least, most });
    }
    for (field, circle) in &request.geo_filters {
        let place = definition.field(field).ok_or_else(|| error::at(Kind::UnknownField, 0, field))?;
        if definition.fields[place].kind != FieldKind::Geo {
            return Err(error::wrong_field("GEO", 0, field));
        }
        conditions.push(Node::Near { field: place, circle: *circle });
    }
    template.narrow(conditions);
    Ok(())
}

/// The prepared searches of one index.
#[derive(Debug, Default)]
pub struct PreparedCache(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    /// What they were parsed with.
    defaults: QueryDefaults,
    young: Generation,
    old: Generation,
}

/// Parsed searches by the query's text.
#[derive(Debug, Default)]
struct Generation {
    by_text: HashMap<Box<[u8]>, Vec<Arc<PreparedSearch>>>,
    length: usize,
}

impl PreparedCache {
    /// The parsed search of these words, from the cache or parsed now.
    pub fn get(
        &self,
        definition: &Definition,
        args: Args<'_>,
        defaults: QueryDefaults,
    ) -> Result<Arc<PreparedSearch>, SearchError> {
        {
            let mut kept = self.0.lock();
            if kept.defaults != defaults {
                *kept = Generations { defaults, ..Generations::default() };
            }
            if let Some(found) = kept.find(args.from(QUERY_AT)) {
                return Ok(found);
            }
        }
        let prepared = Arc::new(PreparedSearch::new(definition, args, defaults)?);
        if prepared.words_bytes() <= WORDS_BYTES_MAX && prepared.template.filter.size() <= NODES_MAX {
            self.0.lock().keep(prepared.clone());
        }
        Ok(prepared)
    }

    /// Forgets all searches, because words are expanded to others from now on.
    pub fn clear(&self) {
        *self.0.lock() = Generations::default();
    }
}

impl Generations {
    fn find(&mut self, words: &[&[u8]]) -> Option<Arc<PreparedSearch>> {
        if let Some(found) = self.young.find(words) {
            return Some(found);
        }
        let found = self.old.find(words)?;
        self.keep(found.clone());
        Some(found)
    }

    fn keep(&mut self, prepared: Arc<PreparedSearch>) {
        if self.young.length >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.keep(prepared);
    }
}

impl Generation {
    fn find(&self, words: &[&[u8]]) -> Option<Arc<PreparedSearch>> {
        let variants = self.by_text.get(words[0])?;
        variants.iter().find(|prepared| prepared.is_of(words)).cloned()
    }

    fn keep(&mut self, prepared: Arc<PreparedSearch>) {
        let text = prepared.words[0].as_deref().expect("the query itself is not the value of a parameter");
        if !self.by_text.contains_key(text) {
            self.by_text.insert(text.into(), Vec::new());
        }
        let variants = self.by_text.get_mut(text).expect("inserted above");
        if variants.len() < VARIANTS_MAX {
            self.length += 1;
        } else {
            variants.remove(0);
        }
        variants.push(prepared);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition() -> Definition {
        crate::schema::create::definition_of(
            "FT.CREATE i SCHEMA n NUMERIC c TAG v VECTOR FLAT 6 TYPE FLOAT32 DIM 1 DISTANCE_METRIC L2",
        )
    }

    fn words(line: &str) -> Vec<&[u8]> {
        line.split(' ').map(str::as_bytes).collect()
    }

    #[test]
    fn other_values_find_the_same_and_other_words_do_not() {
        let (cache, definition) = (PreparedCache::default(), definition());
        let get = |line: &str| {
            cache.get(&definition, Args::new(&words(line)), QueryDefaults::default()).expect("well formed")
        };
        let first = get("FT.SEARCH i @n:[$a\t2] PARAMS 2 a 1 LIMIT 0 5");
        assert!(Arc::ptr_eq(&first, &get("ft.search i @n:[$a\t2] PARAMS 2 a 77 LIMIT 0 5")));
        for other in [
            "FT.SEARCH i @n:[$a\t3] PARAMS 2 a 1 LIMIT 0 5",
            "FT.SEARCH i @n:[$a\t2] PARAMS 2 a 1 LIMIT 0 6",
            "FT.SEARCH i @n:[$a\t2] PARAMS 2 a 1 LIMIT 0 5 NOCONTENT",
            "FT.SEARCH i @n:[$a\t2] LIMIT 0 5 PARAMS 2 a 1",
        ] {
            assert!(!Arc::ptr_eq(&first, &get(other)), "{other}");
        }
        let bound = |a: &str| {
            let line = format!("FT.SEARCH i @n:[$a\t2] PARAMS 2 a {a} LIMIT 0 5");
            first.bind(&definition, Args::new(&words(&line)))
        };
        let limit = |value| Limit { value, exclusive: false };
        let range = |least| Node::Number { field: 0, least: limit(least), most: limit(2.0) };
        assert_eq!(bound("1").map(|query| query.filter), Ok(Arc::new(range(1.0))));
        assert_eq!(bound("-3").map(|query| query.filter), Ok(Arc::new(range(-3.0))));
        assert!(bound("x").is_err());
    }

    #[test]
    fn used_searches_are_kept_and_the_cache_is_bounded() {
        let (cache, definition) = (PreparedCache::default(), definition());
        let get = |line: &str| {
            cache.get(&definition, Args::new(&words(line)), QueryDefaults::default()).expect("well formed")
        };
        let used = get("FT.SEARCH i @c:{x}");
        for number in 0..10 * GENERATION_MAX {
            get(&format!("FT.SEARCH i @c:{{{number}}}"));
            get(&format!("FT.SEARCH i @c:{{y}} LIMIT {number} 5"));
            assert!(Arc::ptr_eq(&used, &get("FT.SEARCH i @c:{x}")));
        }
        let generations = cache.0.lock();
        for generation in [&generations.young, &generations.old] {
            let kept: usize = generation.by_text.values().map(Vec::len).sum();
            assert!(kept == generation.length && kept <= GENERATION_MAX, "{kept}");
        }
    }

    #[test]
    fn long_searches_are_not_kept() {
        let (cache, definition) = (PreparedCache::default(), definition());
        let line = format!("FT.SEARCH i @c:{{{}}}", "x".repeat(WORDS_BYTES_MAX));
        let prepared =
            cache.get(&definition, Args::new(&words(&line)), QueryDefaults::default()).expect("well formed");
        assert_eq!(Arc::strong_count(&prepared), 1);
    }
}
