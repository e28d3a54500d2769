//! DIALECT 1: the same leaves as in dialect 2, but other reaches of fields' names and signs.
//!
//! ```text
//! query    := "" | "*" | sequence
//! sequence := union { union }                 an intersection
//! union    := part { "|" part }
//! part     := "~" sequence                    all that follows, up to a closing parenthesis
//!           | "-" sequence                    the same, up to a further sign or a phrase in it
//!           | "@" fields ":" union
//!           | primary { "=>" "{" attributes "}" }
//! primary  := "(" sequence ")" | word { word } | leaf
//! ```
//!
//! So words next to each other belong together: `@f:one two` looks for both in the field, and `one two|three`
//! is a union. There are no parameters, no vectors and no comparisons.

use super::fields::NamedField;
use super::lexer::TokenKind;
use super::parser::{Parsed, Parser, push_and};
use super::{Node, Postfix};
use crate::error::{self, Kind as Wrong, SearchError};
use crate::schema::FieldKind;

impl Parser<'_> {
    /// Reads a whole query of dialect 1.
    pub fn first_dialect(&mut self) -> Parsed<Node> {
        if self.token.kind == TokenKind::End {
            return Ok(Node::Nothing);
        }
        let node = if self.take(b'*') { Some(Node::All) } else { self.sequence()? };
        match self.token.kind {
            TokenKind::End => Ok(node.unwrap_or(Node::Nothing)),
            _ => Err(self.syntax()),
        }
    }

    fn sequence(&mut self) -> Parsed<Option<Node>> {
        self.sequence_up_to(|_| false)
    }

    /// What a minus covers.
    fn negated(&mut self) -> Parsed<Option<Node>> {
        self.sequence_up_to(|kind| matches!(kind, TokenKind::Quoted | TokenKind::Mark(b'-' | b'~' | b'"')))
    }

    /// Reads a sequence that ends before such a token, if it is not the first.
    fn sequence_up_to(&mut self, ends: fn(&TokenKind) -> bool) -> Parsed<Option<Node>> {
        if !self.begins_part() {
            return Err(self.unexpected());
        }
        let mut nodes = Vec::new();
        let mut is_first = true;
        while self.begins_part() && (std::mem::take(&mut is_first) || !ends(&self.token.kind)) {
            let next = self.within(1, Self::union)?;
            push_and(&mut nodes, next);
        }
        Ok(Node::all_of(nodes))
    }

    fn begins_part(&self) -> bool {
        match self.token.kind {
            TokenKind::Word
            | TokenKind::Number
            | TokenKind::Field
            | TokenKind::Quoted
            | TokenKind::Wildcard
            | TokenKind::Affix { .. } => true,
            TokenKind::Mark(mark) => b"(-~%\"".contains(&mark),
            TokenKind::Parameter | TokenKind::End | TokenKind::Arrow | TokenKind::Comparison => false,
        }
    }

    /// The error at a token that begins no part.
    fn unexpected(&self) -> SearchError {
        match self.token.kind {
            TokenKind::Parameter => error::at(Wrong::Syntax, self.token.at, self.token.text),
            _ => self.syntax(),
        }
    }

    fn union(&mut self) -> Parsed<Option<Node>> {
        let mut nodes: Vec<Node> = self.signed()?.into_iter().collect();
        while self.take(b'|') {
            nodes.extend(self.within(1, Self::signed)?);
        }
        Ok(Node::any_of(nodes))
    }

    /// Reads a part with its sign, its fields and its attributes.
    fn signed(&mut self) -> Parsed<Option<Node>> {
        self.grow(1)?;
        if self.take(b'-') {
            // Two in a row are none, so that any number of them takes one place.
            let is_odd = self.signs(b'-')? % 2 == 0;
            let node = self.within(1, Self::negated)?;
            let negated = |node| Node::Not(Box::new(node));
            return Ok(node.map(|node| if is_odd { negated(node) } else { negated(negated(node)) }));
        }
        if self.take(b'~') {
            self.signs(b'~')?;
            let node = self.within(1, Self::sequence)?;
            return Ok(node.map(|node| Node::Optional(Box::new(node))));
        }
        if self.token.kind == TokenKind::Field {
            return self.within(1, Self::of_field);
        }
        let mut node = match self.token.kind {
            TokenKind::Mark(b'(') => {
                self.advance();
                let node = self.within(1, Self::sequence)?;
                self.expect(b')')?;
                node
            }
            TokenKind::Word | TokenKind::Number => self.words()?,
            _ if self.begins_part() => self.leaf(Postfix::Attributes)?,
            _ => return Err(self.unexpected()),
        };
        while self.token.kind == TokenKind::Arrow {
            if !self.ahead().is(b'{') {
                return Err(self.syntax());
            }
            self.advance();
            self.expect(b'{')?;
            self.attributes(&mut node)?;
        }
        Ok(node)
    }

    /// Takes as many of these signs as there are, and returns how many.
    fn signs(&mut self, sign: u8) -> Parsed<usize> {
        let mut count = 0;
        while self.take(sign) {
            self.grow(1)?;
            count += 1;
        }
        Ok(count)
    }

    /// Reads words next to each other, all of which a document must have.
    fn words(&mut self) -> Parsed<Option<Node>> {
        let mut nodes = Vec::new();
        while matches!(self.token.kind, TokenKind::Word | TokenKind::Number) {
            self.grow(1)?;
            nodes.extend(self.word()?);
        }
        Ok(Node::all_of(nodes))
    }

    /// Reads a part that begins with the name of a field, or of several.
    fn of_field(&mut self) -> Parsed<Option<Node>> {
        let first = self.advance();
        let names = self.names_after(first)?;
        if let [name] = names[..] {
            match self.token.kind {
                TokenKind::Mark(b'{') => return self.tags(name).map(Some),
                TokenKind::Mark(b'[') => return self.range(name).map(Some),
                _ => {}
            }
        }
        if !self.begins_part() {
            return Err(self.unexpected());
        }
        let places = names.into_iter().map(|name| self.named(name)).collect::<Parsed<Vec<NamedField>>>()?;
        let is_text = |place: &&NamedField| matches!(self.kind(**place), FieldKind::Text { .. });
        let mut fields: Vec<usize> = places.iter().filter(is_text).map(|place| place.field).collect();
        // Other parts may follow in parentheses.
        if fields.is_empty() && !self.token.is(b'(') {
            return Err(self.wrong("TEXT", places[0]));
        }
        if self.are_fields_named {
            fields.retain(|field| self.fields.contains(field));
        }
        self.within_fields(fields, Self::union)
    }
}
