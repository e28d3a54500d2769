//! The vector parts of a query, and the attributes that follow parts.

use super::expand::has_sounds;
use super::fields::NamedField;
use super::lexer::{Token, TokenKind};
use super::open::{self, OpenKnn, OpenLeaf, OpenRange, Raw, Slot};
use super::parser::{Parsed, Parser};
use super::{Node, Pattern, QueryAttributes, TextMatch};
use crate::documents::shapes::ShapePredicate;
use crate::error::{self, Kind as Wrong, SearchError};
use crate::schema::{Algorithm, Definition, FieldKind, VectorOptions};
use std::sync::Arc;

/// The size of a vector range (`Parser::grow`): it has its own vector, and is a search by itself.
const RANGE_SIZE: usize = 128;

/// Called with an attribute's name and value.
type AttributeReader<'r, 'a> = &'r mut dyn FnMut(&[u8], Raw<'a>) -> Parsed<()>;

impl<'a> Parser<'a> {
    fn vector_field(&self, place: NamedField) -> Parsed<&'a VectorOptions> {
        match self.kind(place) {
            FieldKind::Vector(options) => Ok(options),
            _ => Err(self.wrong("VECTOR", place)),
        }
    }

    /// Reads the query vector's parameter.
    fn blob(&mut self) -> Parsed<usize> {
        if self.token.kind != TokenKind::Parameter {
            return Err(self.syntax());
        }
        let word = self.parameter(self.token.text)?;
        self.advance();
        Ok(word)
    }

    /// Ends `predicate $shape]`, whose parameter is at this place and has this word.
    fn shape(&mut self, place: NamedField, command: Token<'a>, at: usize, word: usize) -> Parsed<Node> {
        let predicate = ShapePredicate::read(command.text);
        let predicate = predicate.ok_or_else(|| Wrong::NoPredicate.of(at.to_string().as_bytes()))?;
        self.expect(b']')?;
        if !matches!(self.kind(place), FieldKind::GeoShape(_)) {
            return Err(self.wrong("GEOSHAPE", place));
        }
        Ok(Node::Open(OpenLeaf::Geometry { field: place.field, predicate, word }))
    }

    /// Reads `VECTOR_RANGE radius $vector]`, or a predicate and a shape.
    pub fn vector_range(&mut self, place: NamedField) -> Parsed<Node> {
        let command = self.advance();
        let first = self.token;
        let radius = self.number()?;
        if self.token.is(b']') {
            let Slot::Word(word) = radius.value else { return Err(self.syntax()) };
            return self.shape(place, command, first.at, word);
        }
        let vector = self.blob()?;
        self.expect(b']')?;
        if !command.is_keyword("VECTOR_RANGE") {
            return Err(error::at(Wrong::NoRangeCommand, command.at, command.text));
        }
        self.vector_field(place)?;
        self.grow(RANGE_SIZE)?;
        open::check_radius(&radius)?;
        let range = OpenRange { field: place.field, radius, vector, epsilon: None, alias: None };
        Ok(Node::Open(OpenLeaf::Range(range)))
    }

    /// Reads `=>[KNN …]` and the attributes after it.
    pub fn knn(&mut self, is_unfiltered: bool) -> Parsed<OpenKnn> {
        self.advance();
        self.expect(b'[')?;
        if self.token.kind != TokenKind::Word {
            return Err(self.syntax());
        }
        let command = self.advance();
        let k = self.k()?;
        let place = self.field()?;
        let vector = self.blob()?;
        if !command.is_keyword("KNN") {
            return Err(error::at(Wrong::NoVectorCommand, command.at, command.text));
        }
        let options = self.vector_field(place)?;
        let mut knn = OpenKnn::new(place.field, k, vector);
        let mut seen = Seen { is_unfiltered, names: Vec::new() };
        let mut alias = None;
        while alias.is_none() && self.token.kind == TokenKind::Word {
            if self.token.is_keyword("AS") {
                self.advance();
                alias = Some(self.value()?);
            } else {
                let name = self.advance().text;
                let value = self.value()?;
                seen.attribute(&mut knn, options, name, value)?;
            }
        }
        self.expect(b']')?;
        let second_alias = self.knn_attributes(&mut knn, options, seen, &mut alias)?;
        let default_alias = [b"__", &self.definition.fields[place.field].name[..], b"_score"].concat();
        knn.alias = self.alias(alias.unwrap_or(Raw::Text(&default_alias)))?;
        knn.second_alias = second_alias.map(|alias| self.alias(alias)).transpose()?;
        Ok(knn)
    }

    fn k(&mut self) -> Parsed<Slot<usize>> {
        let is_count = self.token.kind == TokenKind::Number && self.token.text.iter().all(u8::is_ascii_digit);
        if self.token.kind != TokenKind::Parameter && !is_count {
            return Err(self.syntax());
        }
        Slot::of(self.value()?, open::k)
    }

    /// Reads the attributes in braces after KNN's brackets. Returns a second name of the distance, if one is
    /// given.
    fn knn_attributes(
        &mut self,
        knn: &mut OpenKnn,
        options: &VectorOptions,
        mut seen: Seen,
        alias: &mut Option<Raw<'a>>,
    ) -> Parsed<Option<Raw<'a>>> {
        let mut second_alias = None;
        if self.token.kind != TokenKind::Arrow {
            return Ok(None);
        }
        self.advance();
        self.expect(b'{')?;
        let mut weights = Vec::new();
        self.attribute_list(&mut |name, value| {
            match name.to_ascii_uppercase().as_slice() {
                b"YIELD_DISTANCE_AS" if alias.is_some() => second_alias = Some(value),
                b"YIELD_DISTANCE_AS" => *alias = Some(value),
                upper if KNN_ATTRIBUTES.contains(&upper) => seen.attribute(knn, options, name, value)?,
                _ => of_scores(name, value, &mut weights)?,
            }
            Ok(())
        })?;
        self.weights.append(&mut weights);
        Ok(second_alias)
    }

    fn alias(&self, raw: Raw<'_>) -> Parsed<Slot<Arc<[u8]>>> {
        Slot::of(raw, |alias| open::alias(alias, self.definition))
    }

    /// Calls `each` for every `$name: value` up to the closing brace.
    fn attribute_list(&mut self, each: AttributeReader<'_, 'a>) -> Parsed<()> {
        loop {
            while self.take(b';') {}
            if self.take(b'}') {
                return Ok(());
            }
            if self.token.kind != TokenKind::Parameter {
                return Err(self.syntax());
            }
            let name = self.advance().text;
            self.expect(b':')?;
            let value = self.value()?;
            each(name, value)?;
            if !self.token.is(b';') && !self.token.is(b'}') {
                return Err(self.syntax());
            }
        }
    }

    /// Reads the attributes of a part of the filter, after their opening brace.
    pub fn attributes(&mut self, node: &mut Option<Node>) -> Parsed<()> {
        let mut alias = None;
        // A second list of attributes changes the first one.
        let mut own = match node {
            Some(Node::With(with)) => with.attributes.clone(),
            _ => QueryAttributes::default(),
        };
        let mut range = match node {
            Some(Node::Open(OpenLeaf::Range(range))) => Some(range),
            _ => None,
        };
        let definition = self.definition;
        self.attribute_list(&mut |name, value| {
            match (name.to_ascii_lowercase().as_slice(), range.as_mut()) {
                (b"yield_distance_as", Some(_)) => alias = Some(value),
                (b"epsilon", Some(range)) => set_epsilon(range, definition, value)?,
                (b"ef_runtime" | b"recall", Some(_)) => return Err(Wrong::VectorOption.error()),
                (b"batch_size" | b"hybrid_policy", Some(_)) => return Err(Wrong::NotHybrid.error()),
                _ if own.set(name, value)? => {}
                _ => return Err(Wrong::UnknownAttribute.of(name)),
            }
            Ok(())
        })?;
        if let (Some(alias), Some(range)) = (alias, range) {
            range.alias = Some(self.alias(alias)?);
        }
        // RediSearch checks this of words alone.
        let is_deaf = match node.as_ref().map(Node::bare) {
            Some(Node::Text { fields, text: TextMatch::Term(Pattern::Exact(_)) }) => {
                !has_sounds(definition, fields)
            }
            _ => false,
        };
        if own.phonetic.is_some() && is_deaf {
            return Err(Wrong::NotPhonetic.error());
        }
        *node = node.take().map(|node| node.with(own));
        Ok(())
    }
}

/// Reads an attribute that any part may have. A KNN is not scored: its weight is checked and has no effect.
fn of_scores(name: &[u8], value: Raw<'_>, weights: &mut Vec<usize>) -> Parsed<()> {
    match (name.to_ascii_lowercase().as_slice(), value) {
        (b"weight", Raw::Text(text)) => open::check_weight(text),
        (b"weight", Raw::Word(word)) => {
            weights.push(word);
            Ok(())
        }
        (b"slop" | b"inorder" | b"phonetic", _) => {
            Err(error::unsupported("Slop, inorder and phonetic matching of a KNN are"))
        }
        _ => Err(Wrong::UnknownAttribute.of(name)),
    }
}

/// The attributes that may follow KNN's brackets. `Seen` checks which of them the field has.
const KNN_ATTRIBUTES: [&[u8]; 10] = [
    b"EF_RUNTIME",
    b"RECALL",
    b"EPSILON",
    b"HYBRID_POLICY",
    b"BATCH_SIZE",
    b"RERANK",
    b"SHARD_K_RATIO",
    b"SEARCH_WINDOW_SIZE",
    b"SEARCH_BUFFER_CAPACITY",
    b"USE_SEARCH_HISTORY",
];

/// The attributes of KNN that were given.
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
            return Err(Wrong::VectorTwice.error());
        }
        match name.as_slice() {
            b"EF_RUNTIME" if options.algorithm != Algorithm::Flat => {
                knn.ef_runtime = Some(Slot::of(value, open::count)?);
            }
            b"SEARCH_WINDOW_SIZE" if options.algorithm == Algorithm::Svs => {
                knn.ef_runtime = Some(Slot::of(value, open::count)?);
            }
            // A FLAT index finds all, so that any recall is met.
            b"RECALL" => knn.recall = Some(Slot::of(value, open::recall)?),
            b"HYBRID_POLICY" | b"BATCH_SIZE" if self.is_unfiltered => return Err(Wrong::NotHybrid.error()),
            b"HYBRID_POLICY" => knn.policy = Some(Slot::of(value, open::policy)?),
            b"BATCH_SIZE" => knn.batch_size = Some(Slot::of(value, open::count)?),
            // These are for several shards, or for index types that this server does not have.
            b"SHARD_K_RATIO" => knn.shard_ratio = Some(Slot::of(value, open::shard_ratio)?),
            b"SEARCH_BUFFER_CAPACITY" if options.algorithm == Algorithm::Svs => {
                knn.buffer_capacity = Some(Slot::of(value, open::count)?);
            }
            b"USE_SEARCH_HISTORY" if options.algorithm == Algorithm::Svs => {}
            b"EPSILON" => return Err(Wrong::NotRange.error()),
            _ => return Err(Wrong::VectorOption.error()),
        }
        if knn.recall.is_some() && knn.ef_runtime.is_some() {
            return Err(Wrong::RecallWithEf.error());
        }
        self.names.push(name);
        Ok(())
    }
}

fn set_epsilon(range: &mut OpenRange, definition: &Definition, value: Raw<'_>) -> Result<(), SearchError> {
    match &definition.fields[range.field].kind {
        FieldKind::Vector(options) if options.algorithm != Algorithm::Flat => {}
        _ => return Err(Wrong::VectorOption.error()),
    }
    let epsilon = Slot::of(value, open::epsilon)?;
    match range.epsilon.replace(epsilon) {
        Some(_) => Err(Wrong::VectorTwice.error()),
        None => Ok(()),
    }
}
