//! A recursive descent over the query's bytes. Depth is bounded; every error says where.

use super::{Knn, Node, Pattern, Query, TextMatch, VectorRange, values};
use crate::documents::vector_of;
use crate::error;
use crate::postings::Limit;
use crate::schema::{Algorithm, Definition, FieldKind, VectorOptions};
use crate::text::{self, StopWords};
use engramdb_engine::command::CommandError;

/// Nested parentheses and signs.
const DEPTH_MAX: usize = 100;
/// More neighbours than this are not asked for by mistake only.
const K_MAX: usize = 1_000_000;
const EF_MAX: usize = 1_000_000;

type Parsed<T> = Result<T, CommandError>;
/// Takes an attribute's name and value.
type AttributeReader<'r> = &'r mut dyn FnMut(&[u8], &[u8]) -> Parsed<()>;

/// What PARAMS gave: names and values.
#[derive(Clone, Debug, Default)]
pub struct Parameters<'a>(Vec<(&'a [u8], &'a [u8])>);

impl<'a> Parameters<'a> {
    pub fn add(&mut self, name: &'a [u8], value: &'a [u8]) -> Parsed<()> {
        if self.0.iter().any(|(other, _)| *other == name) {
            return Err(error::duplicate_parameter(name));
        }
        self.0.push((name, value));
        Ok(())
    }

    fn get(&self, name: &[u8]) -> Parsed<&'a [u8]> {
        let found = self.0.iter().find(|(other, _)| *other == name);
        found.map(|(_, value)| *value).ok_or_else(|| error::unknown_parameter(name))
    }
}

/// Reads a query on an index.
pub fn parse(definition: &Definition, text: &[u8], parameters: &Parameters<'_>) -> Parsed<Query> {
    let mut parser = Parser { text, at: 0, definition, parameters, depth: 0, fields: None };
    let filter = parser.filter()?;
    let knn = if parser.take_arrow_to(b'[') { Some(parser.knn(filter == Node::All)?) } else { None };
    parser.space();
    if parser.at < text.len() {
        return Err(parser.syntax());
    }
    Ok(Query { filter, knn })
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    definition: &'a Definition,
    parameters: &'a Parameters<'a>,
    depth: usize,
    /// The TEXT fields that words are looked for in; `None` for all.
    fields: Option<Vec<usize>>,
}

/// Punctuation that separates words like a space.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || b",.;/&^#+`?!".contains(&byte)
}

fn is_word(byte: u8) -> bool {
    !is_space(byte) && !b"|()[]{}\"'*%$@~-=<>:".contains(&byte)
}

impl<'a> Parser<'a> {
    // Bytes and tokens.

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.at += 1;
        }
    }

    /// Skips whitespace only.
    fn blank(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn take(&mut self, token: &[u8]) -> bool {
        self.blank();
        let found = self.text[self.at..].starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    fn expect(&mut self, token: &[u8]) -> Parsed<()> {
        if self.take(token) { Ok(()) } else { Err(self.syntax()) }
    }

    /// Takes `=>` and the bracket behind it, or nothing.
    fn take_arrow_to(&mut self, bracket: u8) -> bool {
        let start = self.at;
        if self.take(b"=>") && self.take(&[bracket]) {
            return true;
        }
        self.at = start;
        false
    }

    /// A run of bytes without spaces and brackets, as values stand in brackets.
    fn value(&mut self) -> Parsed<&'a [u8]> {
        self.blank();
        let end = |byte: &u8| byte.is_ascii_whitespace() || b"]};()|".contains(byte);
        let rest = &self.text[self.at..];
        let word = &rest[..rest.iter().position(end).unwrap_or(rest.len())];
        if word.is_empty() {
            return Err(self.syntax());
        }
        self.at += word.len();
        Ok(word)
    }

    /// A value, or the parameter that it names.
    fn resolved(&mut self) -> Parsed<&'a [u8]> {
        let word = self.value()?;
        match word.strip_prefix(b"$") {
            Some(name) => self.parameters.get(name),
            None => Ok(word),
        }
    }

    /// A run of word characters with escapes, still escaped.
    fn word(&mut self) -> &'a [u8] {
        let start = self.at;
        while let Some(byte) = self.peek() {
            match byte {
                b'\\' => self.at += 1,
                byte if is_word(byte) => {}
                _ => break,
            }
            self.at += 1;
        }
        self.at = self.at.min(self.text.len());
        &self.text[start..self.at]
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        self.blank();
        let rest = &self.text[self.at..];
        let is_it = rest.len() >= keyword.len()
            && rest[..keyword.len()].eq_ignore_ascii_case(keyword.as_bytes())
            && rest.get(keyword.len()).is_none_or(|&byte| !is_word(byte));
        self.at += if is_it { keyword.len() } else { 0 };
        is_it
    }

    /// The error for what stands here.
    fn syntax(&self) -> CommandError {
        let mut ahead = Parser { parameters: self.parameters, fields: None, ..*self };
        ahead.blank();
        let at = ahead.at;
        let mut near = ahead.word();
        if near.is_empty() {
            near = &self.text[at..(at + 1).min(self.text.len())];
        }
        error::syntax(at, near)
    }

    // The tree.

    fn filter(&mut self) -> Parsed<Node> {
        self.space();
        if self.at == self.text.len() {
            return Ok(Node::Nothing);
        }
        Ok(self.or()?.unwrap_or(Node::Nothing))
    }

    /// `None` where only stop words stood.
    fn or(&mut self) -> Parsed<Option<Node>> {
        let mut nodes = Vec::new();
        loop {
            nodes.extend(self.and()?);
            self.space();
            if !self.take(b"|") {
                break;
            }
        }
        Ok(if nodes.len() > 1 { Some(Node::Or(nodes)) } else { nodes.pop() })
    }

    fn and(&mut self) -> Parsed<Option<Node>> {
        let mut nodes = Vec::new();
        let mut any = false;
        loop {
            self.space();
            match self.peek() {
                None | Some(b'|' | b')') => break,
                Some(b'=') if any => break,
                _ => {}
            }
            any = true;
            nodes.extend(self.unary()?);
        }
        if !any {
            return Err(self.syntax());
        }
        Ok(if nodes.len() > 1 { Some(Node::And(nodes)) } else { nodes.pop() })
    }

    fn unary(&mut self) -> Parsed<Option<Node>> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(CommandError::of("SEARCH_SYNTAX Syntax error: the query is nested too deeply"));
        }
        let node = self.unary_within_depth();
        self.depth -= 1;
        node
    }

    fn unary_within_depth(&mut self) -> Parsed<Option<Node>> {
        self.space();
        if self.take(b"-") {
            return Ok(self.unary()?.map(|node| Node::Not(Box::new(node))));
        }
        if self.take(b"~") {
            return Ok(self.unary()?.map(|node| Node::Optional(Box::new(node))));
        }
        let mut node = if self.take(b"(") {
            let node = self.or()?;
            self.expect(b")")?;
            node
        } else {
            self.leaf()?
        };
        if self.take_arrow_to(b'{') {
            self.attributes(&mut node)?;
        }
        Ok(node)
    }

    fn leaf(&mut self) -> Parsed<Option<Node>> {
        match self.peek() {
            Some(b'@') => self.field_leaf(),
            Some(b'"') => self.phrase(),
            Some(b'%') => Err(error::unsupported("Fuzzy matching is")),
            Some(b'$') => {
                let value = text::lower(self.resolved()?);
                Ok(Some(self.term(Pattern::Exact(value))))
            }
            Some(b'*') => self.star(),
            Some(b'w') if self.text[self.at..].starts_with(b"w'") => {
                let raw = self.quoted_wildcard()?;
                Ok(Some(self.term(values::pattern(raw, false))))
            }
            Some(byte) if is_word(byte) => self.word_leaf(),
            _ => Err(self.syntax()),
        }
    }

    fn word_leaf(&mut self) -> Parsed<Option<Node>> {
        let start = self.at;
        let word = self.word();
        if word.eq_ignore_ascii_case(b"ismissing") && self.take(b"(") {
            return self.is_missing().map(Some);
        }
        if self.peek() == Some(b'*') {
            self.at += 1;
        }
        let pattern = values::pattern(&self.text[start..self.at], false);
        match &pattern {
            Pattern::Exact(term) if self.stop_words().contains(term) => Ok(None),
            _ => Ok(Some(self.term(pattern))),
        }
    }

    /// `*` for everything, `*suf`, `*inf*`.
    fn star(&mut self) -> Parsed<Option<Node>> {
        let start = self.at;
        self.at += 1;
        if self.word().is_empty() {
            return Ok(Some(Node::All));
        }
        if self.peek() == Some(b'*') {
            self.at += 1;
        }
        Ok(Some(self.term(values::pattern(&self.text[start..self.at], false))))
    }

    fn quoted_wildcard(&mut self) -> Parsed<&'a [u8]> {
        let start = self.at;
        let inside = &self.text[start + 2..];
        let Some(end) = inside.iter().position(|&byte| byte == b'\'') else { return Err(self.syntax()) };
        self.at = start + 2 + end + 1;
        Ok(&self.text[start..self.at])
    }

    fn phrase(&mut self) -> Parsed<Option<Node>> {
        let start = self.at + 1;
        let mut end = start;
        while end < self.text.len() && self.text[end] != b'"' {
            end += if self.text[end] == b'\\' { 2 } else { 1 };
        }
        if end >= self.text.len() {
            return Err(self.syntax());
        }
        self.at = end + 1;
        let mut terms = Vec::new();
        text::tokenize(&self.text[start..end], self.stop_words(), &mut |term| terms.push(term.to_vec()));
        Ok(match terms.len() {
            0 => None,
            _ => Some(Node::Text { fields: self.text_fields(), text: TextMatch::Phrase(terms) }),
        })
    }

    fn stop_words(&self) -> StopWords<'a> {
        StopWords(self.definition.options.stop_words.as_deref())
    }

    fn term(&self, pattern: Pattern) -> Node {
        Node::Text { fields: self.text_fields(), text: TextMatch::Term(pattern) }
    }

    fn text_fields(&self) -> Vec<usize> {
        let is_text = |&field: &usize| {
            let field = &self.definition.fields[field];
            matches!(field.kind, FieldKind::Text { .. }) && !field.no_index
        };
        self.fields.clone().unwrap_or_else(|| (0..self.definition.fields.len()).filter(is_text).collect())
    }

    // Fields.

    /// Reads `@name`; the field and where its `@` stands.
    fn field(&mut self) -> Parsed<(usize, usize)> {
        self.blank();
        let at = self.at;
        self.expect(b"@")?;
        let name = self.word();
        if name.is_empty() {
            return Err(self.syntax());
        }
        let name = values::unescape(name);
        let field = self.definition.field(&name).ok_or_else(|| error::unknown_field(&name))?;
        Ok((field, at))
    }

    fn wrong(&self, wanted: &str, (field, at): (usize, usize)) -> CommandError {
        error::wrong_field(wanted, at, &self.definition.fields[field].name)
    }

    fn is_missing(&mut self) -> Parsed<Node> {
        let (field, _) = self.field()?;
        self.expect(b")")?;
        if !self.definition.fields[field].index_missing {
            let name = error::text(&self.definition.fields[field].name);
            return Err(CommandError::new(format!(
                "SEARCH_QUERY_BAD 'ismissing' requires field '{name}' to be defined with 'INDEXMISSING'"
            )));
        }
        Ok(Node::Missing(field))
    }

    fn field_leaf(&mut self) -> Parsed<Option<Node>> {
        let place = self.field()?;
        if self.peek() == Some(b'|') {
            return self.several_fields(place);
        }
        self.blank();
        if self.take(b":") {
            self.blank();
            return match self.peek() {
                Some(b'{') => self.tags(place).map(Some),
                Some(b'[') => self.range(place).map(Some),
                _ => self.text_in(vec![place]),
            };
        }
        self.comparison(place).map(Some)
    }

    fn several_fields(&mut self, first: (usize, usize)) -> Parsed<Option<Node>> {
        let mut places = vec![first];
        while self.take(b"|") {
            let name = values::unescape(self.word());
            let field = self.definition.field(&name).ok_or_else(|| error::unknown_field(&name))?;
            places.push((field, first.1));
        }
        self.expect(b":")?;
        self.text_in(places)
    }

    fn text_in(&mut self, places: Vec<(usize, usize)>) -> Parsed<Option<Node>> {
        for &place in &places {
            if !matches!(self.definition.fields[place.0].kind, FieldKind::Text { .. }) {
                return Err(self.wrong("TEXT", place));
            }
        }
        let outer = self.fields.replace(places.into_iter().map(|(field, _)| field).collect());
        let node = self.unary();
        self.fields = outer;
        node
    }

    fn tags(&mut self, place: (usize, usize)) -> Parsed<Node> {
        let field = &self.definition.fields[place.0];
        let FieldKind::Tag { case_sensitive, .. } = field.kind else { return Err(self.wrong("TAG", place)) };
        let start = self.at + 1;
        let Some(end) = values::closing_brace(self.text, start) else {
            self.at = self.text.len();
            return Err(self.syntax());
        };
        let mut nodes = Vec::new();
        for raw in values::split_tags(&self.text[start..end]) {
            let raw = values::trim(raw);
            let pattern = match raw {
                [] => return Err(self.syntax()),
                [b'$', name @ ..] => {
                    let value = self.parameters.get(name)?;
                    Pattern::Exact(if case_sensitive { value.to_vec() } else { text::lower(value) })
                }
                [b'"', inside @ .., b'"'] => {
                    let plain = values::unescape(inside);
                    Pattern::Exact(if case_sensitive { plain } else { text::lower(&plain) })
                }
                raw => values::pattern(raw, case_sensitive),
            };
            nodes.push(Node::Tag { field: place.0, pattern });
        }
        self.at = end + 1;
        Ok(if nodes.len() > 1 { Node::Or(nodes) } else { nodes.remove(0) })
    }

    fn range(&mut self, place: (usize, usize)) -> Parsed<Node> {
        self.expect(b"[")?;
        if self.keyword("VECTOR_RANGE") {
            return self.vector_range(place);
        }
        match self.definition.fields[place.0].kind {
            FieldKind::Numeric => {}
            FieldKind::Geo | FieldKind::GeoShape => {
                return Err(error::unsupported("Filters on GEO fields are"));
            }
            _ => return Err(self.wrong("NUMERIC", place)),
        }
        let least = self.limit()?;
        let most = if self.take(b"]") { None } else { Some(self.limit()?) };
        if most.is_some() {
            self.expect(b"]")?;
        }
        Ok(Node::Number { field: place.0, least, most: most.unwrap_or(least) })
    }

    fn limit(&mut self) -> Parsed<Limit> {
        let exclusive = self.take(b"(");
        Ok(Limit { value: self.number()?, exclusive })
    }

    /// A number, a parameter, or a parameter's negative.
    fn number(&mut self) -> Parsed<f64> {
        self.blank();
        let start = self.at;
        let word = self.value()?;
        let (sign, rest) = match word {
            [b'-', rest @ ..] if rest.starts_with(b"$") => (-1.0, rest),
            [b'+', rest @ ..] if rest.starts_with(b"$") => (1.0, rest),
            word => (1.0, word),
        };
        let digits = match rest.strip_prefix(b"$") {
            Some(name) => self.parameters.get(name)?,
            None => rest,
        };
        values::number(digits).map(|number| sign * number).ok_or_else(|| error::syntax(start, word))
    }

    fn comparison(&mut self, place: (usize, usize)) -> Parsed<Node> {
        let operators: [&[u8]; 6] = [b"==", b"!=", b">=", b"<=", b">", b"<"];
        let Some(&operator) = operators.iter().find(|operator| self.take(operator)) else {
            return Err(self.syntax());
        };
        if self.definition.fields[place.0].kind != FieldKind::Numeric {
            return Err(self.wrong("NUMERIC", place));
        }
        let limit = |value, exclusive| Limit { value, exclusive };
        let (low, high) = (limit(f64::NEG_INFINITY, false), limit(f64::INFINITY, false));
        let value = self.number()?;
        let (least, most) = match operator {
            b">=" => (limit(value, false), high),
            b">" => (limit(value, true), high),
            b"<=" => (low, limit(value, false)),
            b"<" => (low, limit(value, true)),
            _ => (limit(value, false), limit(value, false)),
        };
        let node = Node::Number { field: place.0, least, most };
        Ok(if operator == b"!=" { Node::Not(Box::new(node)) } else { node })
    }

    // Vectors.

    fn vector_field(&self, place: (usize, usize)) -> Parsed<&'a VectorOptions> {
        match &self.definition.fields[place.0].kind {
            FieldKind::Vector(options) => Ok(options),
            _ => Err(self.wrong("VECTOR", place)),
        }
    }

    /// Reads the query vector: a parameter with a blob of the field's size.
    fn blob(&mut self, options: &VectorOptions) -> Parsed<Vec<f32>> {
        self.blank();
        if self.peek() != Some(b'$') {
            return Err(self.syntax());
        }
        let blob = self.resolved()?;
        if blob.len() != options.blob_bytes() {
            return Err(error::vector_query(&format!(
                "query vector blob size ({}) does not match index's expected size ({}).",
                blob.len(),
                options.blob_bytes()
            )));
        }
        vector_of(blob, blob.len()).ok_or_else(|| {
            error::vector_query("the query vector has a component that is not a finite number")
        })
    }

    fn vector_range(&mut self, place: (usize, usize)) -> Parsed<Node> {
        let options = self.vector_field(place)?;
        let radius = self.number()?;
        if radius < 0.0 {
            return Err(error::vector_query(&format!("negative radius ({radius}) given in a range query")));
        }
        let vector = self.blob(options)?;
        self.expect(b"]")?;
        let range = VectorRange { field: place.0, radius: radius as f32, vector, epsilon: None, alias: None };
        Ok(Node::Range(range))
    }

    /// Reads what stands in the brackets behind `=>`, and the attributes behind them.
    fn knn(&mut self, is_unfiltered: bool) -> Parsed<Knn> {
        if !self.keyword("KNN") {
            return Err(self.syntax());
        }
        self.blank();
        let start = self.at;
        let word = self.resolved()?;
        let k = std::str::from_utf8(word).ok().and_then(|digits| digits.parse::<usize>().ok());
        let k = k.ok_or_else(|| error::syntax(start, word))?;
        if k > K_MAX {
            return Err(error::vector_query(&format!(
                "KNN K parameter is too large, must not exceed {K_MAX}"
            )));
        }
        let place = self.field()?;
        let options = self.vector_field(place)?;
        let vector = self.blob(options)?;
        let default_alias = [b"__", &self.definition.fields[place.0].name[..], b"_score"].concat();
        let mut knn = Knn { field: place.0, k, vector, ef_runtime: None, alias: default_alias };
        let mut seen = Seen { is_unfiltered, names: Vec::new() };
        while !self.take(b"]") {
            if self.keyword("AS") {
                knn.alias = self.resolved()?.to_vec();
            } else {
                let name = self.value()?;
                let value = self.resolved()?;
                seen.attribute(&mut knn, options, name, value)?;
            }
        }
        if self.take_arrow_to(b'{') {
            self.attribute_list(&mut |name, value| {
                if name.eq_ignore_ascii_case(b"yield_distance_as") {
                    knn.alias = value.to_vec();
                    return Ok(());
                }
                seen.attribute(&mut knn, options, name, value)
            })?;
        }
        self.check_alias(&knn.alias)?;
        Ok(knn)
    }

    fn check_alias(&self, alias: &[u8]) -> Parsed<()> {
        if self.definition.field(alias).is_some() {
            let alias = error::text(alias);
            return Err(CommandError::new(format!("Property `{alias}` already exists in schema")));
        }
        Ok(())
    }

    /// Calls `each` for every `$name: value` up to the closing brace.
    fn attribute_list(&mut self, each: AttributeReader<'_>) -> Parsed<()> {
        loop {
            if self.take(b"}") {
                return Ok(());
            }
            self.expect(b"$")?;
            let name = self.word();
            self.expect(b":")?;
            let value = self.resolved()?;
            each(name, value)?;
            _ = self.take(b";");
        }
    }

    /// Attributes of a part of the filter.
    fn attributes(&mut self, node: &mut Option<Node>) -> Parsed<()> {
        let mut aliases = Vec::new();
        self.attribute_list(&mut |name, value| {
            match (name.to_ascii_lowercase().as_slice(), node.as_mut()) {
                // Scores only.
                (b"weight", _) => {}
                (b"yield_distance_as", Some(Node::Range(range))) => {
                    aliases.push(value.to_vec());
                    range.alias = Some(value.to_vec());
                }
                (b"epsilon", Some(Node::Range(range))) => {
                    let epsilon = values::number(value).filter(|epsilon| *epsilon >= 0.0);
                    let invalid = || error::vector_parameter("SEARCH_VALUE_BAD", "Invalid value was given");
                    range.epsilon = Some(epsilon.ok_or_else(invalid)? as f32);
                }
                // RediSearch takes KNN's attributes here only to refuse them later; nothing depends on them.
                (b"ef_runtime" | b"batch_size" | b"hybrid_policy", Some(Node::Range(_))) => {}
                (b"slop" | b"inorder" | b"phonetic", _) => {
                    return Err(error::unsupported("Slop, inorder and phonetic matching are"));
                }
                _ => {
                    return Err(CommandError::new(format!(
                        "SEARCH_OPTION_INVALID Invalid attribute {}",
                        error::text(name)
                    )));
                }
            }
            Ok(())
        })?;
        aliases.iter().try_for_each(|alias| self.check_alias(alias))
    }
}

/// Which of KNN's attributes were given.
struct Seen {
    is_unfiltered: bool,
    names: Vec<Vec<u8>>,
}

impl Seen {
    fn attribute(&mut self, knn: &mut Knn, options: &VectorOptions, name: &[u8], value: &[u8]) -> Parsed<()> {
        let name = name.to_ascii_uppercase();
        if self.names.contains(&name) {
            return Err(error::vector_parameter("SEARCH_PARAM_DUP", "Parameter was specified twice"));
        }
        let number = || {
            let number = std::str::from_utf8(value).ok().and_then(|digits| digits.parse::<usize>().ok());
            let number = number.filter(|number| (1..=EF_MAX).contains(number));
            number.ok_or_else(|| error::vector_parameter("SEARCH_VALUE_BAD", "Invalid value was given"))
        };
        match name.as_slice() {
            b"EF_RUNTIME" if options.algorithm == Algorithm::Hnsw => knn.ef_runtime = Some(number()?),
            b"HYBRID_POLICY" | b"BATCH_SIZE" if self.is_unfiltered => {
                return Err(error::vector_parameter(
                    "SEARCH_HYBRID_ATTR_NON_HYBRID",
                    "hybrid query attributes were sent for a non-hybrid query",
                ));
            }
            b"HYBRID_POLICY" => {
                if !value.eq_ignore_ascii_case(b"ADHOC_BF") && !value.eq_ignore_ascii_case(b"BATCHES") {
                    return Err(error::vector_parameter("SEARCH_VALUE_BAD", "Invalid value was given"));
                }
            }
            b"BATCH_SIZE" => _ = number()?,
            // For several shards, or for indexes that this server does not have.
            b"SHARD_K_RATIO" => {}
            b"EPSILON" => {
                return Err(error::vector_parameter(
                    "SEARCH_RANGE_ATTR_NON_RANGE",
                    "range query attributes were sent for a non-range query",
                ));
            }
            _ => return Err(error::vector_parameter("SEARCH_OPTION_INVALID", "Invalid option")),
        }
        self.names.push(name);
        Ok(())
    }
}

/// Parses any bytes as a query on an index with a field of each kind: it may fail, never panic.
pub fn fuzz_query(bytes: &[u8]) {
    let words: Vec<&[u8]> =
        "FT.CREATE i SCHEMA t TEXT c TAG n NUMERIC INDEXMISSING v VECTOR HNSW 6 TYPE FLOAT32 \
        DIM 1 DISTANCE_METRIC L2 g GEO"
            .split_ascii_whitespace()
            .map(str::as_bytes)
            .collect();
    let definition = crate::create::parse(engramdb_engine::command::Args::new(&words)).expect("well formed");
    let mut parameters = Parameters::default();
    for (name, value) in [(&b"v"[..], &[0; 4][..]), (b"p", b"1")] {
        parameters.add(name, value).expect("different names");
    }
    // Whether it parses is the bytes' affair.
    _ = parse(&definition, bytes, &parameters);
}
