//! A recursive descent over the query's bytes. Depth is bounded; every error says where.

use super::open::{self, OpenKnn, OpenLeaf, OpenLimit, OpenNumber, OpenRange, Raw, Slot, Template};
use super::values::{self, Affix};
use super::{Node, Pattern, TextMatch};
use crate::error;
use crate::schema::{Algorithm, Definition, Field, FieldKind, VectorOptions};
use crate::text::{self, StopWords};
use engramdb_engine::command::CommandError;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Nested parentheses and signs.
const DEPTH_MAX: usize = 100;
/// What a query may ask for, see `Node::size`: what a tree takes, and how long it is evaluated under a lock, follow from it.
const SIZE_MAX: usize = 1 << 17;
/// What a vector range counts for in it: it has a vector of its own, and is a search of its own.
const RANGE_SIZE: usize = 128;

type Parsed<T> = Result<T, CommandError>;
/// Takes an attribute's name and value.
type AttributeReader<'r, 'a> = &'r mut dyn FnMut(&[u8], Raw<'a>) -> Parsed<()>;

/// What PARAMS names: where in the request each value stands.
#[derive(Clone, Debug, Default)]
pub struct Parameters<'a>(HashMap<&'a [u8], usize>);

impl<'a> Parameters<'a> {
    /// The value is the request's word of this number.
    pub fn add(&mut self, name: &'a [u8], word: usize) -> Parsed<()> {
        match self.0.insert(name, word) {
            Some(_) => Err(error::duplicate_parameter(name)),
            None => Ok(()),
        }
    }

    /// The numbers of the words that are values.
    pub fn words(&self) -> impl Iterator<Item = usize> {
        self.0.values().copied()
    }

    fn get(&self, name: &[u8]) -> Parsed<usize> {
        self.0.get(name).copied().ok_or_else(|| error::unknown_parameter(name))
    }
}

/// Reads a query on an index; the values of its parameters are put in by `Template::bind`. Words are looked for in the
/// fields called `in_fields` only, where that is given.
pub fn parse(
    definition: &Definition,
    text: &[u8],
    parameters: &Parameters<'_>,
    in_fields: Option<&[Vec<u8>]>,
) -> Parsed<Template> {
    let in_fields: Option<HashSet<&[u8]>> = in_fields.map(|names| names.iter().map(Vec::as_slice).collect());
    let (in_fields, fields) = (in_fields.as_ref(), Arc::default());
    let mut parser = Parser {
        text,
        at: 0,
        definition,
        parameters,
        in_fields,
        depth: 0,
        size: 0,
        fields,
        are_fields_named: false,
    };
    let all_text = (0..).zip(&definition.fields);
    let all_text =
        all_text.filter(|(_, field)| matches!(field.kind, FieldKind::Text { .. }) && !field.no_index);
    parser.fields = parser.wanted(all_text.map(|(field, _)| field));
    let filter = parser.filter()?;
    let knn = if parser.take_arrow_to(b'[') { Some(parser.knn(filter == Node::All)?) } else { None };
    parser.space();
    if parser.at < text.len() {
        return Err(parser.syntax());
    }
    Ok(Template::new(filter, knn))
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    definition: &'a Definition,
    parameters: &'a Parameters<'a>,
    /// By name; `None` for all.
    in_fields: Option<&'a HashSet<&'a [u8]>>,
    depth: usize,
    /// Of all nodes so far.
    size: usize,
    /// The TEXT fields that words are looked for in, and whether the query names them; otherwise they are all.
    fields: Arc<[usize]>,
    are_fields_named: bool,
}

/// Punctuation that separates words like a space.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || b",.;/&^#+`?!<>".contains(&byte)
}

fn is_word(byte: u8) -> bool {
    !is_space(byte) && !b"|()[]{}\"'*%$@~-=:".contains(&byte)
}

impl<'a> Parser<'a> {
    // Bytes and tokens.

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|byte| is_space(byte) || self.is_stray(byte)) {
            self.at += 1;
        }
    }

    /// True for punctuation that could begin something, and does not here: it separates words too.
    fn is_stray(&self, byte: u8) -> bool {
        match byte {
            b'\'' => values::closing_mark(self.text, self.at).is_none(),
            b'=' => self.text.get(self.at + 1) != Some(&b'>'),
            _ => false,
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
    fn resolved(&mut self) -> Parsed<Raw<'a>> {
        let word = self.value()?;
        match word.strip_prefix(b"$") {
            Some(name) => self.parameters.get(name).map(Raw::Word),
            None => Ok(Raw::Text(word)),
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
        let mut ahead = Parser { fields: self.fields.clone(), ..*self };
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
        self.grow(1)?;
        let node = self.unary_within_depth();
        self.depth -= 1;
        node
    }

    /// Makes sure that there may be so much more, before there is.
    fn grow(&mut self, size: usize) -> Parsed<()> {
        self.size += size;
        if self.size <= SIZE_MAX { Ok(()) } else { Err(error::query_too_large(SIZE_MAX)) }
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
            Some(mark) if values::is_quotation_mark(mark) => self.phrase(),
            Some(b'%') => Err(error::unsupported("Fuzzy matching is")),
            Some(b'$') => self.parameter_leaf(false),
            Some(b'*') => self.star(),
            Some(b'w') if self.text.get(self.at + 1).is_some_and(|&mark| values::is_quotation_mark(mark)) => {
                let raw = self.quoted_wildcard()?;
                self.term(values::pattern(raw, false)).map(Some)
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
            _ => self.term(pattern).map(Some),
        }
    }

    /// `$whole` or `$pre*`; `$suf` and `$inf*` behind a star.
    fn parameter_leaf(&mut self, leading_star: bool) -> Parsed<Option<Node>> {
        self.at += 1;
        let word = self.parameters.get(self.word())?;
        let trailing_star = self.peek() == Some(b'*');
        self.at += usize::from(trailing_star);
        let affix = Affix::of(leading_star, trailing_star);
        Ok(Some(Node::Open(OpenLeaf::Term { fields: self.text_fields()?, affix, word })))
    }

    /// `*` for everything, `*suf`, `*inf*`.
    fn star(&mut self) -> Parsed<Option<Node>> {
        let start = self.at;
        self.at += 1;
        if self.peek() == Some(b'$') {
            return self.parameter_leaf(true);
        }
        if self.word().is_empty() {
            return Ok(Some(Node::All));
        }
        if self.peek() == Some(b'*') {
            self.at += 1;
        }
        self.term(values::pattern(&self.text[start..self.at], false)).map(Some)
    }

    fn quoted_wildcard(&mut self) -> Parsed<&'a [u8]> {
        let start = self.at;
        let end = values::closing_mark(self.text, start + 1).ok_or_else(|| self.syntax())?;
        self.at = end + 1;
        Ok(&self.text[start..self.at])
    }

    fn phrase(&mut self) -> Parsed<Option<Node>> {
        let start = self.at + 1;
        let end = values::closing_mark(self.text, self.at).ok_or_else(|| self.syntax())?;
        self.at = end + 1;
        if end == start {
            let empty = Pattern::Exact(Vec::new());
            if self.are_fields_named && !self.fields.is_empty() {
                open::check_empty(self.definition, &self.fields, &empty)?;
            }
            return self.term(empty).map(Some);
        }
        let mut terms = Vec::new();
        text::tokenize(&self.text[start..end], self.stop_words(), &mut |term| terms.push(term.to_vec()));
        Ok(match terms.len() {
            0 => None,
            _ => Some(Node::Text { fields: self.text_fields()?, text: TextMatch::Phrase(terms) }),
        })
    }

    fn stop_words(&self) -> StopWords<'a> {
        StopWords(self.definition.options.stop_words.as_deref())
    }

    fn term(&mut self, pattern: Pattern) -> Parsed<Node> {
        Ok(Node::Text { fields: self.text_fields()?, text: TextMatch::Term(pattern) })
    }

    /// For one more node.
    fn text_fields(&mut self) -> Parsed<Arc<[usize]>> {
        self.grow(self.fields.len())?;
        Ok(self.fields.clone())
    }

    /// Those of the fields that words may be looked for in.
    fn wanted(&self, fields: impl Iterator<Item = usize>) -> Arc<[usize]> {
        let name = |field: usize| self.definition.fields[field].name.as_slice();
        fields.filter(|&field| self.in_fields.is_none_or(|names| names.contains(name(field)))).collect()
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
        let (field, at) = self.field()?;
        self.expect(b")")?;
        let Field { name, index_missing, .. } = &self.definition.fields[field];
        if !index_missing {
            let cause = "'ismissing' requires defining the field with 'INDEXMISSING'";
            return Err(error::syntax_at(cause, at, name));
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
        let named = self.wanted(places.into_iter().map(|(field, _)| field));
        let outer =
            (std::mem::replace(&mut self.fields, named), std::mem::replace(&mut self.are_fields_named, true));
        let node = self.unary();
        (self.fields, self.are_fields_named) = outer;
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
            self.grow(1)?;
            let raw = values::trim(raw);
            if raw.is_empty() {
                return Err(self.syntax());
            }
            if let (affix, [b'$', name @ ..]) = values::affix(raw) {
                let word = self.parameters.get(name)?;
                nodes.push(Node::Open(OpenLeaf::Tag { field: place.0, case_sensitive, affix, word }));
                continue;
            }
            let pattern = values::pattern(raw, case_sensitive);
            open::check_empty(self.definition, &[place.0], &pattern)?;
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
        let most = most.unwrap_or_else(|| least.clone());
        Ok(OpenLeaf::Number { field: place.0, least, most }.closed())
    }

    fn limit(&mut self) -> Parsed<OpenLimit> {
        let exclusive = self.take(b"(");
        Ok(OpenLimit { number: self.number()?, exclusive })
    }

    /// A number, a parameter, or a parameter's negative.
    fn number(&mut self) -> Parsed<OpenNumber> {
        self.blank();
        let start = self.at;
        let word = self.value()?;
        let (sign, rest) = match word {
            [b'-', rest @ ..] if rest.starts_with(b"$") => (-1.0, rest),
            [b'+', rest @ ..] if rest.starts_with(b"$") => (1.0, rest),
            word => (1.0, word),
        };
        let raw = match rest.strip_prefix(b"$") {
            Some(name) => Raw::Word(self.parameters.get(name)?),
            None => Raw::Text(rest),
        };
        Ok(OpenNumber { sign, value: Slot::of(raw, |digits| open::number(digits, start))? })
    }

    fn comparison(&mut self, place: (usize, usize)) -> Parsed<Node> {
        let operators: [&[u8]; 6] = [b"==", b"!=", b">=", b"<=", b">", b"<"];
        let Some(&operator) = operators.iter().find(|operator| self.take(operator)) else {
            return Err(self.syntax());
        };
        if self.definition.fields[place.0].kind != FieldKind::Numeric {
            return Err(self.wrong("NUMERIC", place));
        }
        let limit = |number, exclusive| OpenLimit { number, exclusive };
        let infinity = |sign| limit(OpenNumber { sign, value: Slot::Given(f64::INFINITY) }, false);
        let value = self.number()?;
        let (least, most) = match operator {
            b">=" => (limit(value, false), infinity(1.0)),
            b">" => (limit(value, true), infinity(1.0)),
            b"<=" => (infinity(-1.0), limit(value, false)),
            b"<" => (infinity(-1.0), limit(value, true)),
            _ => (limit(value.clone(), false), limit(value, false)),
        };
        let node = OpenLeaf::Number { field: place.0, least, most }.closed();
        Ok(if operator == b"!=" { Node::Not(Box::new(node)) } else { node })
    }

    // Vectors.

    fn vector_field(&self, place: (usize, usize)) -> Parsed<&'a VectorOptions> {
        match &self.definition.fields[place.0].kind {
            FieldKind::Vector(options) => Ok(options),
            _ => Err(self.wrong("VECTOR", place)),
        }
    }

    /// Reads the query vector's parameter.
    fn blob(&mut self) -> Parsed<usize> {
        self.blank();
        if self.peek() != Some(b'$') {
            return Err(self.syntax());
        }
        match self.resolved()? {
            Raw::Word(word) => Ok(word),
            Raw::Text(_) => Err(self.syntax()),
        }
    }

    fn vector_range(&mut self, place: (usize, usize)) -> Parsed<Node> {
        self.vector_field(place)?;
        self.grow(RANGE_SIZE)?;
        let radius = self.number()?;
        open::check_radius(&radius)?;
        let vector = self.blob()?;
        self.expect(b"]")?;
        let range = OpenRange { field: place.0, radius, vector, epsilon: None, alias: None };
        Ok(Node::Open(OpenLeaf::Range(range)))
    }

    /// Reads what stands in the brackets behind `=>`, and the attributes behind them.
    fn knn(&mut self, is_unfiltered: bool) -> Parsed<OpenKnn> {
        self.blank();
        let start = self.at;
        if !self.keyword("KNN") {
            let cause = "Syntax error: Expecting Vector Similarity command";
            return Err(error::syntax_at(cause, start, self.word()));
        }
        self.blank();
        let start = self.at;
        let k = Slot::of(self.resolved()?, |digits| open::k(digits, start))?;
        let place = self.field()?;
        let options = self.vector_field(place)?;
        let vector = self.blob()?;
        let (mut alias, mut second_alias) = (None, None);
        let mut knn = OpenKnn::new(place.0, k, vector);
        let mut seen = Seen { is_unfiltered, names: Vec::new() };
        while !self.take(b"]") {
            if self.keyword("AS") {
                alias = Some(self.resolved()?);
            } else {
                let name = self.value()?;
                let value = self.resolved()?;
                seen.attribute(&mut knn, options, name, value)?;
            }
        }
        if self.take_arrow_to(b'{') {
            self.attribute_list(&mut |name, value| {
                match name.to_ascii_uppercase().as_slice() {
                    b"YIELD_DISTANCE_AS" if alias.is_some() => second_alias = Some(value),
                    b"YIELD_DISTANCE_AS" => alias = Some(value),
                    // Of scores only.
                    b"WEIGHT" => {}
                    upper if KNN_ATTRIBUTES.contains(&upper) => {
                        seen.attribute(&mut knn, options, name, value)?;
                    }
                    _ => return Err(error::unknown_attribute(name)),
                }
                Ok(())
            })?;
        }
        let default_alias = [b"__", &self.definition.fields[place.0].name[..], b"_score"].concat();
        knn.alias = self.alias(alias.unwrap_or(Raw::Text(&default_alias)))?;
        knn.second_alias = second_alias.map(|alias| self.alias(alias)).transpose()?;
        Ok(knn)
    }

    fn alias(&self, raw: Raw<'_>) -> Parsed<Slot<Arc<[u8]>>> {
        Slot::of(raw, |alias| open::alias(alias, self.definition))
    }

    /// Calls `each` for every `$name: value` up to the closing brace.
    fn attribute_list(&mut self, each: AttributeReader<'_, 'a>) -> Parsed<()> {
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
        let mut range = match node {
            Some(Node::Open(OpenLeaf::Range(range))) => Some(range),
            _ => None,
        };
        let mut alias = None;
        let definition = self.definition;
        self.attribute_list(&mut |name, value| {
            match (name.to_ascii_lowercase().as_slice(), range.as_mut()) {
                // Scores only.
                (b"weight", _) => {}
                (b"yield_distance_as", Some(_)) => alias = Some(value),
                (b"epsilon", Some(range)) => set_epsilon(range, definition, value)?,
                // RediSearch takes KNN's attributes here only to refuse them later; nothing depends on them.
                (b"ef_runtime" | b"batch_size" | b"hybrid_policy", Some(_)) => {}
                (b"slop" | b"inorder" | b"phonetic", _) => {
                    return Err(error::unsupported("Slop, inorder and phonetic matching are"));
                }
                _ => return Err(error::unknown_attribute(name)),
            }
            Ok(())
        })?;
        if let (Some(alias), Some(range)) = (alias, range) {
            range.alias = Some(self.alias(alias)?);
        }
        Ok(())
    }
}

/// KNN's attributes that may stand behind its brackets. Which of them the field has is for `Seen` to say.
const KNN_ATTRIBUTES: [&[u8]; 9] = [
    b"EF_RUNTIME",
    b"EPSILON",
    b"HYBRID_POLICY",
    b"BATCH_SIZE",
    b"RERANK",
    b"SHARD_K_RATIO",
    b"SEARCH_WINDOW_SIZE",
    b"SEARCH_BUFFER_CAPACITY",
    b"USE_SEARCH_HISTORY",
];

/// Which of KNN's attributes were given.
struct Seen {
    is_unfiltered: bool,
    names: Vec<Vec<u8>>,
}

impl Seen {
    fn attribute(
        &mut self,
        knn: &mut OpenKnn,
        options: &VectorOptions,
        name: &[u8],
        value: Raw<'_>,
    ) -> Parsed<()> {
        let name = name.to_ascii_uppercase();
        if self.names.contains(&name) {
            return Err(specified_twice());
        }
        match name.as_slice() {
            b"EF_RUNTIME" if options.algorithm != Algorithm::Flat => {
                knn.ef_runtime = Some(Slot::of(value, open::count)?);
            }
            b"SEARCH_WINDOW_SIZE" if options.algorithm == Algorithm::Svs => {
                knn.ef_runtime = Some(Slot::of(value, open::count)?);
            }
            b"HYBRID_POLICY" | b"BATCH_SIZE" if self.is_unfiltered => {
                return Err(error::vector_parameter(
                    "SEARCH_HYBRID_ATTR_NON_HYBRID",
                    "hybrid query attributes were sent for a non-hybrid query",
                ));
            }
            b"HYBRID_POLICY" => knn.policy = Some(Slot::of(value, open::policy)?),
            b"BATCH_SIZE" => knn.batch_size = Some(Slot::of(value, open::count)?),
            // For several shards, or for indexes that this server does not have.
            b"SHARD_K_RATIO" => knn.shard_ratio = Some(Slot::of(value, open::shard_ratio)?),
            b"SEARCH_BUFFER_CAPACITY" if options.algorithm == Algorithm::Svs => {
                knn.buffer_capacity = Some(Slot::of(value, open::count)?);
            }
            b"USE_SEARCH_HISTORY" if options.algorithm == Algorithm::Svs => {}
            b"EPSILON" => {
                return Err(error::vector_parameter(
                    "SEARCH_RANGE_ATTR_NON_RANGE",
                    "range query attributes were sent for a non-range query",
                ));
            }
            _ => return Err(invalid_option()),
        }
        self.names.push(name);
        Ok(())
    }
}

fn set_epsilon(range: &mut OpenRange, definition: &Definition, value: Raw<'_>) -> Parsed<()> {
    match &definition.fields[range.field].kind {
        FieldKind::Vector(options) if options.algorithm != Algorithm::Flat => {}
        _ => return Err(invalid_option()),
    }
    let epsilon = Slot::of(value, open::epsilon)?;
    match range.epsilon.replace(epsilon) {
        Some(_) => Err(specified_twice()),
        None => Ok(()),
    }
}

fn specified_twice() -> CommandError {
    error::vector_parameter("SEARCH_PARAM_DUP", "Parameter was specified twice")
}

fn invalid_option() -> CommandError {
    error::vector_parameter("SEARCH_OPTION_INVALID", "Invalid option")
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
    // Each behind its name, as in a request.
    let words: [&[u8]; 4] = [b"v", &[0; 4], b"p", b"1"];
    for name in [0, 2] {
        parameters.add(words[name], name + 1).expect("different names");
    }
    // Whether it parses is the bytes' affair.
    if let Ok(template) = parse(&definition, bytes, &parameters, None) {
        _ = template.bind(&definition, &words);
    }
}
