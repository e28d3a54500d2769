//! A recursive-descent parser of queries: words, groups, negations. `fields` parses what follows a field's
//! name, `vectors` the vector parts. Depth and size are bounded; syntax errors give their position.

use super::lexer::{Lexer, Part, Token, TokenKind};
use super::open::{self, OpenLeaf, Raw, Template};
use super::values::{self, Affix};
use super::{Node, Pattern, QueryAttributes, TextMatch};
use crate::documents::text::{self, StopWords};
use crate::error::{self, Kind as Wrong, SearchError};
use crate::schema::{Definition, FieldKind};
use engramdb_engine::hashing::{HashMap, HashSet};
use std::sync::Arc;

/// The most open parts at a place of the query: parentheses, signs, and left operands. RediSearch's parser
/// stack has the same number of places.
const DEPTH_MAX: usize = 255;
/// The largest size of a query: `Node::size`, plus the terms of phrases, plus `RANGE_SIZE` for each vector
/// range. It bounds the memory of the tree and the time of its evaluation under a lock.
pub const SIZE_MAX: usize = 1 << 17;

pub type Parsed<T> = Result<T, SearchError>;

/// The parameters that PARAMS names, each with the number of the request's word that is its value.
#[derive(Clone, Debug, Default)]
pub struct Parameters<'a>(HashMap<&'a [u8], usize>);

impl<'a> Parameters<'a> {
    /// Adds a parameter whose value is word number `word` of the request. Fails if the name is known.
    pub fn add(&mut self, name: &'a [u8], word: usize) -> Parsed<()> {
        match self.0.insert(name, word) {
            Some(_) => Err(Wrong::ParameterTwice.of(name)),
            None => Ok(()),
        }
    }

    /// The numbers of the words that are values.
    pub fn words(&self) -> impl Iterator<Item = usize> {
        self.0.values().copied()
    }

    pub fn get(&self, name: &[u8]) -> Parsed<usize> {
        self.0.get(name).copied().ok_or_else(|| Wrong::NoParameter.of(name))
    }
}

/// Restrictions of the words that a query searches for.
#[derive(Clone, Copy, Debug, Default)]
pub struct WordScope<'a> {
    /// The names of the fields that words are searched in (INFIELDS); `None` for all.
    pub in_fields: Option<&'a [Vec<u8>]>,
    /// Searches for stop words too (NOSTOPWORDS), although no document is indexed by them.
    pub keeps_stop_words: bool,
    /// The query is of dialect 1, otherwise of dialect 2 and later.
    pub is_first_dialect: bool,
}

/// Parses a query on an index. `Template::bind` fills in the values of its parameters.
pub fn parse(
    definition: &Definition,
    text: &[u8],
    parameters: &Parameters<'_>,
    scope: WordScope<'_>,
) -> Parsed<Template> {
    let in_fields: Option<HashSet<&[u8]>> =
        scope.in_fields.map(|names| names.iter().map(Vec::as_slice).collect());
    let mut lexer = Lexer::new(text);
    let token = lexer.next();
    let mut parser = Parser {
        lexer,
        token,
        definition,
        parameters,
        in_fields: in_fields.as_ref(),
        keeps_stop_words: scope.keeps_stop_words,
        is_first_dialect: scope.is_first_dialect,
        depth: 0,
        size: 0,
        fields: Arc::default(),
        all_fields: Arc::default(),
        are_fields_named: false,
        weights: Vec::new(),
    };
    let all_text = (0..).zip(&definition.fields);
    let all_text =
        all_text.filter(|(_, field)| matches!(field.kind, FieldKind::Text { .. }) && !field.no_index);
    parser.all_fields = all_text.map(|(field, _)| field).collect();
    parser.fields = parser.wanted(parser.all_fields.clone().iter().copied());
    if parser.is_first_dialect {
        let filter = parser.first_dialect()?;
        return Ok(Template::new(filter, None, parser.weights));
    }
    let filter = parser.filter()?;
    let knn =
        if parser.token.kind == TokenKind::Arrow { Some(parser.knn(filter == Node::All)?) } else { None };
    if parser.token.kind != TokenKind::End {
        return Err(parser.syntax());
    }
    Ok(Template::new(filter, knn, parser.weights))
}

pub struct Parser<'a> {
    lexer: Lexer<'a>,
    /// The token that is read next.
    pub token: Token<'a>,
    pub definition: &'a Definition,
    pub parameters: &'a Parameters<'a>,
    /// By name; `None` for all.
    in_fields: Option<&'a HashSet<&'a [u8]>>,
    keeps_stop_words: bool,
    is_first_dialect: bool,
    depth: usize,
    /// The size of all nodes so far.
    size: usize,
    /// The TEXT fields that words are searched in, ascending.
    pub fields: Arc<[usize]>,
    /// All of them. NOFIELDS: documents do not know in which field a word is.
    all_fields: Arc<[usize]>,
    /// The query names these fields; otherwise they are all. After names only words may follow.
    pub are_fields_named: bool,
    /// The numbers of the request's words that are weights.
    pub weights: Vec<usize>,
}

/// What may follow a part of a query.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Postfix {
    Attributes,
    /// Attributes, or KNN because the part is the whole filter.
    Neighbors,
}

impl<'a> Parser<'a> {
    // Tokens.

    /// Takes the next token.
    pub fn advance(&mut self) -> Token<'a> {
        std::mem::replace(&mut self.token, self.lexer.next())
    }

    /// The token after the next one.
    pub fn ahead(&self) -> Token<'a> {
        let mut lexer = self.lexer;
        lexer.next()
    }

    pub fn take(&mut self, mark: u8) -> bool {
        let found = self.token.is(mark);
        if found {
            self.advance();
        }
        found
    }

    pub fn expect(&mut self, mark: u8) -> Parsed<()> {
        if self.take(mark) { Ok(()) } else { Err(self.syntax()) }
    }

    /// A syntax error at the next token.
    pub fn syntax(&self) -> SearchError {
        error::at(Wrong::Syntax, self.token.at, self.token.near)
    }

    /// Reads a word, a number, quoted text, or a parameter.
    pub fn value(&mut self) -> Parsed<Raw<'a>> {
        let raw = match self.token.kind {
            TokenKind::Word | TokenKind::Number | TokenKind::Quoted => Raw::Text(self.token.text),
            TokenKind::Parameter => Raw::Word(self.parameter(self.token.text)?),
            _ => return Err(self.syntax()),
        };
        self.advance();
        Ok(raw)
    }

    /// The number of the request's word that is the value of a parameter, which the next token names.
    pub fn parameter(&self, name: &[u8]) -> Parsed<usize> {
        if self.is_first_dialect {
            return Err(error::at(Wrong::Syntax, self.token.at, name));
        }
        self.parameters.get(name)
    }

    // The tree.

    fn filter(&mut self) -> Parsed<Node> {
        if self.token.kind == TokenKind::End {
            return Ok(Node::Nothing);
        }
        if self.everything()? {
            return Ok(Node::All);
        }
        let first = self.unary(Postfix::Neighbors)?;
        if self.token.kind == TokenKind::Arrow {
            // For RediSearch's KNN, a filter of only stop words is no filter.
            return Ok(first.unwrap_or(Node::All));
        }
        Ok(self.or_after(first)?.unwrap_or(Node::Nothing))
    }

    /// Takes a star, or a star in parentheses, if the query begins with one; it matches all documents.
    fn everything(&mut self) -> Parsed<bool> {
        let (mut lexer, mut token, mut open) = (self.lexer, self.token, 0);
        while token.is(b'(') {
            open += 1;
            token = lexer.next();
        }
        if !token.is(b'*') {
            return Ok(false);
        }
        (0..=open).for_each(|_| _ = self.advance());
        (0..open).try_for_each(|_| self.expect(b')'))?;
        Ok(true)
    }

    /// Reads a union; `None` if it has only stop words.
    fn or(&mut self) -> Parsed<Option<Node>> {
        let first = self.unary(Postfix::Attributes)?;
        self.or_after(first)
    }

    fn or_after(&mut self, first: Option<Node>) -> Parsed<Option<Node>> {
        let mut nodes = Vec::new();
        push_flat(&mut nodes, self.and_after(first)?);
        while self.take(b'|') {
            let next = self.within(2, |parser| {
                let first = parser.unary(Postfix::Attributes)?;
                parser.and_after(first)
            })?;
            push_flat(&mut nodes, next);
        }
        Ok(Node::any_of(nodes))
    }

    fn and_after(&mut self, first: Option<Node>) -> Parsed<Option<Node>> {
        let mut nodes: Vec<Node> = first.into_iter().collect();
        while self.begins_operand() {
            let next = self.within(1, |parser| parser.unary(Postfix::Attributes))?;
            push_and(&mut nodes, next);
        }
        Ok(Node::all_of(nodes))
    }

    pub fn begins_operand(&self) -> bool {
        match self.token.kind {
            TokenKind::Word
            | TokenKind::Number
            | TokenKind::Parameter
            | TokenKind::Quoted
            | TokenKind::Wildcard
            | TokenKind::Affix { .. } => true,
            TokenKind::Field => !self.are_fields_named,
            TokenKind::Mark(mark) => b"(-~%\"".contains(&mark),
            TokenKind::End | TokenKind::Arrow | TokenKind::Comparison => false,
        }
    }

    /// Calls `read` with `places` more open parts. Fails if they are too many.
    pub fn within<T>(&mut self, places: usize, read: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.depth += places;
        // A leaf takes a place too.
        if self.depth >= DEPTH_MAX {
            return Err(Wrong::TooDeep.error());
        }
        let read = read(self);
        self.depth -= places;
        read
    }

    /// Adds to the query's size, before memory is allocated. Fails if it is too large.
    pub fn grow(&mut self, size: usize) -> Parsed<()> {
        self.size += size;
        if self.size <= SIZE_MAX { Ok(()) } else { Err(error::query_too_large(SIZE_MAX)) }
    }

    pub fn unary(&mut self, postfix: Postfix) -> Parsed<Option<Node>> {
        self.grow(1)?;
        for (sign, wrap) in [(b'-', Node::Not as fn(Box<Node>) -> Node), (b'~', Node::Optional)] {
            if self.take(sign) {
                let node = self.within(1, |parser| parser.unary(Postfix::Attributes))?;
                return Ok(node.map(|node| wrap(Box::new(node))));
            }
        }
        let mut node = if self.take(b'(') {
            // The closing parenthesis takes a place after the content.
            if self.depth + 2 >= DEPTH_MAX {
                return Err(Wrong::TooDeep.error());
            }
            let node = self.within(1, Self::or)?;
            self.expect(b')')?;
            node
        } else {
            self.leaf(postfix)?
        };
        while self.token.kind == TokenKind::Arrow {
            let ahead = self.ahead();
            if ahead.is(b'[') && postfix == Postfix::Neighbors {
                break;
            }
            self.advance();
            self.expect(b'{')?;
            self.attributes(&mut node)?;
        }
        Ok(node)
    }

    pub fn leaf(&mut self, postfix: Postfix) -> Parsed<Option<Node>> {
        match self.token.kind {
            TokenKind::Field if !self.are_fields_named => self.field_leaf(postfix),
            TokenKind::Word if !self.are_fields_named && self.token.is_keyword("ismissing") => {
                self.is_missing().map(Some)
            }
            TokenKind::Word | TokenKind::Number => self.word(),
            TokenKind::Quoted => self.phrase(),
            TokenKind::Parameter | TokenKind::Wildcard | TokenKind::Affix { .. } => {
                let (affix, raw) = self.part()?;
                self.term(affix, raw).map(Some)
            }
            TokenKind::Mark(b'%') => self.fuzzy().map(Some),
            TokenKind::Mark(b'"') => {
                // It is never closed: RediSearch reports the first token after it that is no word.
                self.advance();
                while matches!(self.token.kind, TokenKind::Word | TokenKind::Number) {
                    self.advance();
                }
                Err(self.syntax())
            }
            _ => Err(self.syntax()),
        }
    }

    /// Reads `%word%`, with up to three marks on either side: as many changes of the word are allowed.
    fn fuzzy(&mut self) -> Parsed<Node> {
        let marks = |parser: &mut Self, most: usize| (0..most).take_while(|_| parser.take(b'%')).count();
        let opening = marks(self, 3);
        if !matches!(self.token.kind, TokenKind::Word | TokenKind::Number | TokenKind::Parameter) {
            return Err(self.syntax());
        }
        let (_, raw) = self.part()?;
        if marks(self, opening) < opening {
            return Err(self.syntax());
        }
        self.term(Affix::Fuzzy(opening as u8), raw)
    }

    /// Reads a word, quoted text, a parameter or a pattern; text is still escaped.
    pub fn part(&mut self) -> Parsed<(Affix, Raw<'a>)> {
        let token = self.token;
        let (affix, is_named) = match token.kind {
            TokenKind::Word | TokenKind::Number | TokenKind::Quoted => (Affix::Whole, false),
            TokenKind::Parameter => (Affix::Whole, true),
            TokenKind::Wildcard => (Affix::Wildcard, token.text.starts_with(b"$")),
            TokenKind::Affix { leading, trailing, of } => {
                (Affix::of(leading, trailing), of == Part::Parameter)
            }
            _ => return Err(self.syntax()),
        };
        let name = if token.kind == TokenKind::Wildcard && is_named { &token.text[1..] } else { token.text };
        let raw = if is_named { Raw::Word(self.parameter(name)?) } else { Raw::Text(token.text) };
        self.advance();
        Ok((affix, raw))
    }

    /// A text node of the terms that match.
    fn term(&mut self, affix: Affix, raw: Raw<'_>) -> Parsed<Node> {
        let fields = self.text_fields()?;
        Ok(match raw {
            Raw::Text(text) => {
                let pattern = values::pattern(affix, text, false);
                open::check_fuzzy(&pattern)?;
                Node::Text { fields, text: TextMatch::Term(pattern) }
            }
            Raw::Word(word) => {
                let is_named = self.are_fields_named;
                Node::Open(OpenLeaf::Term { fields, is_named, affix, word })
            }
        })
    }

    pub fn word(&mut self) -> Parsed<Option<Node>> {
        let term = text::lower(&values::unescape(self.advance().text));
        if !self.keeps_stop_words && self.stop_words().contains(&term) {
            return Ok(None);
        }
        let text = TextMatch::Term(Pattern::Exact(term));
        Ok(Some(Node::Text { fields: self.text_fields()?, text }))
    }

    fn phrase(&mut self) -> Parsed<Option<Node>> {
        let inside = self.advance().text;
        if inside.is_empty() {
            let empty = Pattern::Exact(Vec::new());
            if self.are_fields_named {
                open::check_empty(self.definition, &self.fields, &empty)?;
            }
            let fields = self.text_fields()?;
            return Ok(Some(Node::Text { fields, text: TextMatch::Term(empty) }));
        }
        // In a query, unlike in a document, control characters end words.
        let spaced = |byte: &u8| if byte.is_ascii_control() { b' ' } else { *byte };
        let inside: Vec<u8> = inside.iter().map(spaced).collect();
        let mut terms = Vec::new();
        text::tokenize(&inside, self.stop_words(), &mut |term| terms.push(term.to_vec()));
        self.grow(terms.len())?;
        Ok(match terms.len() {
            0 => None,
            _ => Some(Node::Text { fields: self.text_fields()?, text: TextMatch::Phrase(terms) }),
        })
    }

    fn stop_words(&self) -> StopWords<'a> {
        StopWords(self.definition.options.stop_words.as_deref())
    }

    /// The fields of one more text node.
    fn text_fields(&mut self) -> Parsed<Arc<[usize]>> {
        self.grow(self.fields.len())?;
        Ok(self.fields.clone())
    }

    /// Reads words to be searched in those of these fields that the request allows.
    pub fn within_fields(
        &mut self,
        mut fields: Vec<usize>,
        read: impl FnOnce(&mut Self) -> Parsed<Option<Node>>,
    ) -> Parsed<Option<Node>> {
        fields.sort_unstable();
        fields.dedup();
        let named = self.wanted(fields.into_iter());
        let outer =
            (std::mem::replace(&mut self.fields, named), std::mem::replace(&mut self.are_fields_named, true));
        let node = read(self);
        let named = std::mem::replace(&mut self.fields, outer.0);
        self.are_fields_named = outer.1;
        node.map(|node| node.map(|node| of_fields(node, named)))
    }

    /// Those of the fields that INFIELDS allows.
    pub fn wanted(&self, fields: impl Iterator<Item = usize>) -> Arc<[usize]> {
        let name = |field: usize| self.definition.fields[field].name.as_slice();
        if self.definition.options.no_fields && self.in_fields.is_none() {
            return self.all_fields.clone();
        }
        fields.filter(|&field| self.in_fields.is_none_or(|names| names.contains(name(field)))).collect()
    }
}

/// A node with several parts, whose words are all looked for in these fields.
pub fn of_fields(node: Node, fields: Arc<[usize]>) -> Node {
    let mut attributes = match &node {
        Node::And(_) | Node::Or(_) | Node::Not(_) | Node::Optional(_) => QueryAttributes::default(),
        Node::With(with) if !matches!(with.node, Node::Text { .. }) => with.attributes.clone(),
        _ => return node,
    };
    attributes.fields = Some(fields);
    node.with(attributes)
}

/// Adds a node behind others; as in RediSearch, a first node that is an intersection goes on.
pub fn push_and(nodes: &mut Vec<Node>, next: Option<Node>) {
    if let [Node::And(parts)] = &mut nodes[..]
        && next.is_some()
    {
        *nodes = std::mem::take(parts);
    }
    nodes.extend(next);
}

/// Adds a node; a first node that is a union is replaced by its parts.
fn push_flat(nodes: &mut Vec<Node>, node: Option<Node>) {
    match node {
        Some(Node::Or(parts)) if nodes.is_empty() => *nodes = parts,
        node => nodes.extend(node),
    }
}

/// Parses any bytes as a query on an index with a field of each kind. Errors are fine, panics are not.
pub fn fuzz_query(bytes: &[u8]) {
    let definition = crate::schema::create::definition_of(
        "FT.CREATE i SCHEMA t TEXT c TAG n NUMERIC INDEXMISSING \
         v VECTOR HNSW 6 TYPE FLOAT32 DIM 1 DISTANCE_METRIC L2 g GEO s GEOSHAPE FLAT",
    );
    let mut parameters = Parameters::default();
    // Each value follows its name, as in a request.
    let words: [&[u8]; 4] = [b"v", &[0; 4], b"p", b"1"];
    for name in [0, 2] {
        parameters.add(words[name], name + 1).expect("different names");
    }
    for is_first_dialect in [false, true] {
        let scope = WordScope { is_first_dialect, ..WordScope::default() };
        if let Ok(template) = parse(&definition, bytes, &parameters, scope) {
            _ = template.bind(&definition, &words);
        }
    }
}
