//! The query parts that follow a field's name: words, tags in braces, ranges in brackets, comparisons.

use super::Node;
use super::lexer::{Token, TokenKind};
use super::open::{self, OpenCircle, OpenLeaf, OpenLimit, OpenNumber, Raw, Slot};
use super::parser::{Parsed, Parser, Postfix};
use super::values::{self, Affix};
use crate::error::{self, Kind as Wrong, SearchError};
use crate::schema::{FieldDefinition, FieldKind};

/// A field that the query names.
#[derive(Clone, Copy)]
pub struct NamedField {
    /// Its index in the definition.
    pub field: usize,
    /// The offset of its name in the query, in bytes.
    pub at: usize,
}

impl<'a> Parser<'a> {
    /// Reads `@name`.
    pub fn field(&mut self) -> Parsed<NamedField> {
        if self.token.kind != TokenKind::Field {
            return Err(self.syntax());
        }
        let name = self.advance();
        self.named(name)
    }

    pub fn named(&self, name: Token<'_>) -> Parsed<NamedField> {
        let plain = values::unescape(name.text);
        let field = self.definition.field(&plain);
        let field = field.ok_or_else(|| error::at(Wrong::UnknownField, name.at, &plain))?;
        Ok(NamedField { field, at: name.at })
    }

    pub fn kind(&self, place: NamedField) -> &'a FieldKind {
        &self.definition.fields[place.field].kind
    }

    /// The error for a field that is not of the wanted type.
    pub fn wrong(&self, wanted: &str, place: NamedField) -> SearchError {
        error::wrong_field(wanted, place.at, &self.definition.fields[place.field].name)
    }

    /// Reads `ismissing(@field)`.
    pub fn is_missing(&mut self) -> Parsed<Node> {
        self.advance();
        self.expect(b'(')?;
        let place = self.field()?;
        self.expect(b')')?;
        let FieldDefinition { name, index_missing, .. } = &self.definition.fields[place.field];
        if !index_missing {
            return Err(error::at(Wrong::NeedsIndexMissing, place.at, name));
        }
        Ok(Node::Missing(place.field))
    }

    /// The error about a field, unless what it should be looked for in is no query at all.
    fn unless_syntax(&mut self, error: SearchError, postfix: Postfix) -> SearchError {
        match self.words_in(Vec::new(), postfix) {
            Err(SearchError::Listed(Wrong::Syntax, near)) => SearchError::Listed(Wrong::Syntax, near),
            _ => error,
        }
    }

    /// Reads a part that begins with a field's name; `None` if it has only stop words.
    pub fn field_leaf(&mut self, postfix: Postfix) -> Parsed<Option<Node>> {
        let name = self.advance();
        match self.token.kind {
            TokenKind::Mark(b':') => self.advance(),
            TokenKind::Mark(b'|') => return self.several_fields(name, postfix),
            TokenKind::Comparison => return self.comparison(name).map(Some),
            _ => return Err(self.syntax()),
        };
        match self.token.kind {
            TokenKind::Mark(b'{') => self.tags(name).map(Some),
            TokenKind::Mark(b'[') => self.range(name).map(Some),
            _ if !self.begins_operand() => Err(self.syntax()),
            _ => {
                let place = self.named(name);
                match place {
                    Ok(place) if matches!(self.kind(place), FieldKind::Text { .. }) => {
                        self.words_in(vec![place.field], postfix)
                    }
                    Ok(place) => Err(self.unless_syntax(self.wrong("TEXT", place), postfix)),
                    Err(unknown) => Err(self.unless_syntax(unknown, postfix)),
                }
            }
        }
    }

    /// Reads the names of the fields up to the colon, of which the first has been read.
    pub fn names_after(&mut self, first: Token<'a>) -> Parsed<Vec<Token<'a>>> {
        let mut names = vec![first];
        while self.take(b'|') {
            if !matches!(self.token.kind, TokenKind::Word | TokenKind::Number) {
                return Err(self.syntax());
            }
            names.push(self.advance());
        }
        self.expect(b':')?;
        Ok(names)
    }

    /// Reads words in several fields. Fields that are not TEXT are ignored; an error if no field is TEXT.
    fn several_fields(&mut self, first: Token<'a>, postfix: Postfix) -> Parsed<Option<Node>> {
        let names = self.names_after(first)?;
        let places = names.into_iter().map(|name| self.named(name)).collect::<Parsed<Vec<NamedField>>>()?;
        let of_text = places.iter().filter(|place| matches!(self.kind(**place), FieldKind::Text { .. }));
        let fields: Vec<usize> = of_text.map(|place| place.field).collect();
        match fields.is_empty() {
            true => Err(self.wrong("TEXT", places[0])),
            false => self.words_in(fields, postfix),
        }
    }

    fn words_in(&mut self, fields: Vec<usize>, postfix: Postfix) -> Parsed<Option<Node>> {
        self.within_fields(fields, |parser| parser.within(2, |parser| parser.unary(postfix)))
    }

    pub fn tags(&mut self, name: Token<'a>) -> Parsed<Node> {
        let place = self.named(name)?;
        let case_sensitive = matches!(self.kind(place), FieldKind::Tag { case_sensitive: true, .. });
        self.advance();
        let mut nodes = Vec::new();
        loop {
            self.grow(1)?;
            nodes.push(self.tag(place, case_sensitive)?);
            if !self.take(b'|') {
                break;
            }
        }
        self.expect(b'}')?;
        if !matches!(self.kind(place), FieldKind::Tag { .. }) {
            return Err(self.wrong("TAG", place));
        }
        Ok(Node::any_of(nodes).expect("a tag at least"))
    }

    /// Reads a pattern, a parameter, or several words that form one tag, joined by spaces.
    fn tag(&mut self, NamedField { field, .. }: NamedField, case_sensitive: bool) -> Parsed<Node> {
        let is_word =
            |kind: TokenKind| matches!(kind, TokenKind::Word | TokenKind::Number | TokenKind::Quoted);
        if !is_word(self.token.kind) {
            let (affix, raw) = self.part()?;
            return Ok(match raw {
                Raw::Word(word) => Node::Open(OpenLeaf::Tag { field, case_sensitive, affix, word }),
                Raw::Text(text) => Node::Tag { field, pattern: values::pattern(affix, text, case_sensitive) },
            });
        }
        let mut tag = self.advance().text.to_vec();
        while is_word(self.token.kind) {
            tag.push(b' ');
            tag.extend_from_slice(self.advance().text);
        }
        let pattern = values::pattern(Affix::Whole, &tag, case_sensitive);
        open::check_empty(self.definition, &[field], &pattern)?;
        Ok(Node::Tag { field, pattern })
    }

    pub fn range(&mut self, name: Token<'a>) -> Parsed<Node> {
        let place = self.named(name)?;
        self.advance();
        if self.token.kind == TokenKind::Word {
            return self.vector_range(place);
        }
        let least = self.limit()?;
        let is_point = !least.exclusive && self.token.is(b']');
        let most = if is_point { least.clone() } else { self.limit()? };
        if !self.token.is(b']') {
            return self.circle(place, [least, most]);
        }
        self.advance();
        match self.kind(place) {
            FieldKind::Numeric => {
                Ok(OpenLeaf::Number { field: place.field, least, most, is_range: true }.closed())
            }
            _ => Err(self.wrong("NUMERIC", place)),
        }
    }

    /// Reads `radius unit]` of a circle, after its two first numbers.
    fn circle(&mut self, place: NamedField, centre: [OpenLimit; 2]) -> Parsed<Node> {
        if centre.iter().any(|limit| limit.exclusive) {
            return Err(self.syntax());
        }
        let radius = self.number()?;
        if !matches!(self.token.kind, TokenKind::Word | TokenKind::Parameter) {
            return Err(self.syntax());
        }
        let unit = self.value()?;
        self.expect(b']')?;
        if *self.kind(place) != FieldKind::Geo {
            return Err(self.wrong("GEO", place));
        }
        let unit = Slot::of(unit, open::geo_unit)?;
        let [longitude, latitude] = centre.map(|limit| limit.number);
        let circle = OpenCircle { field: place.field, numbers: [longitude, latitude, radius], unit };
        let node = OpenLeaf::Near(circle.clone()).closed();
        // A circle whose values are all known and wrong stays open; that is an error already.
        match &node {
            Node::Open(_) => open::check_circle(&circle).map(|()| node),
            _ => Ok(node),
        }
    }

    fn limit(&mut self) -> Parsed<OpenLimit> {
        let exclusive = self.take(b'(');
        Ok(OpenLimit { number: self.number()?, exclusive })
    }

    /// Reads a number or a parameter, each with any number of minus signs before it.
    pub fn number(&mut self) -> Parsed<OpenNumber> {
        let mut sign = 1.0;
        while self.take(b'-') {
            sign = -sign;
        }
        let token = self.token;
        let value = match token.kind {
            TokenKind::Number => Slot::Given(values::number(token.text).ok_or_else(|| self.syntax())?),
            TokenKind::Parameter => Slot::Word(self.parameter(token.text)?),
            _ => return Err(self.syntax()),
        };
        self.advance();
        Ok(OpenNumber { sign, value })
    }

    fn comparison(&mut self, name: Token<'a>) -> Parsed<Node> {
        let operator = self.advance().text;
        let value = self.number()?;
        let place = self.named(name)?;
        if *self.kind(place) != FieldKind::Numeric {
            return Err(self.wrong("NUMERIC", place));
        }
        let limit = |number, exclusive| OpenLimit { number, exclusive };
        let infinity = |sign| limit(OpenNumber { sign, value: Slot::Given(f64::INFINITY) }, false);
        let (least, most) = match operator {
            b">=" => (limit(value, false), infinity(1.0)),
            b">" => (limit(value, true), infinity(1.0)),
            b"<=" => (infinity(-1.0), limit(value, false)),
            b"<" => (infinity(-1.0), limit(value, true)),
            _ => (limit(value.clone(), false), limit(value, false)),
        };
        let node = OpenLeaf::Number { field: place.field, least, most, is_range: false }.closed();
        Ok(if operator == b"!=" { Node::Not(Box::new(node)) } else { node })
    }
}
