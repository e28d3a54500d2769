//! Reading a document: what an index wants of it, by the fields of its definition.
//!
//! A hash has one value in a field, whose bytes are read as the field's type asks. A document of another type
//! has typed values, and may have several at a path: each counts for the index, as if the field were there
//! several times. What a type of field does not take makes the document unreadable, whole: it is counted
//! (FT.INFO) and not indexed.
//!
//! | field | a hash's bytes | one value of other documents | in an array, or of several values |
//! |---|---|---|---|
//! | TEXT | words | a text | texts, each for itself: no phrase goes from one to the next |
//! | TAG | tags, cut at SEPARATOR | a text, cut at SEPARATOR if there is one; a boolean | texts |
//! | NUMERIC | one number | a number | numbers |
//! | GEO | longitude and latitude | a text, the same | texts |
//! | GEOSHAPE | a shape; what is none is not indexed | a text, the same | none |
//! | VECTOR | its elements, little-endian | an array of numbers | such arrays, each a value |
//!
//! A null is a value of any type, of which nothing is indexed: the field is not missing. Values that are
//! several are read as an array's elements are, so that arrays among them are refused, except vectors.
//! (Measured on RediSearch 2.10.5.)

use super::geo::Position;
use super::shapes::Geometry;
use super::text::{self, StopWords};
use super::text_content::TextContent;
use super::{About, DocumentContent, FieldContent};
use crate::error::{Kind, SearchError};
use crate::schema::language::Language;
use crate::schema::{Coordinates, Definition, FieldDefinition, FieldKind, NO_SEPARATOR, VectorOptions};
use engramdb_engine::keyspace::{DocumentPath, FieldValue};
use engramdb_engine::module::ReadHash;
use engramdb_engine::store::document::Document;
use engramdb_engine::types::{StringRef, parse_double};
use std::sync::Arc;

/// The most bytes of the texts of a field of one document, as of one value.
const TEXT_BYTES_MAX: usize = if cfg!(test) { 1 << 20 } else { 512 << 20 };

/// The values of a document, in the keyspace or on its way there.
pub trait DocumentValues {
    /// Calls `each` with the values at a path, in order.
    fn values(&self, path: &[u8], each: impl FnMut(FieldValue<'_>));

    /// The same at the path of a field.
    fn values_at(&self, path: &DocumentPath, each: impl FnMut(FieldValue<'_>)) {
        self.values(path, each);
    }
}

impl DocumentValues for Document<'_> {
    #[inline]
    fn values(&self, path: &[u8], each: impl FnMut(FieldValue<'_>)) {
        Document::values(self, path, each);
    }

    #[inline]
    fn values_at(&self, path: &DocumentPath, each: impl FnMut(FieldValue<'_>)) {
        Document::values_at(self, path, each);
    }
}

impl DocumentValues for ReadHash<'_> {
    fn values(&self, path: &[u8], mut each: impl FnMut(FieldValue<'_>)) {
        if let Some((_, content)) = pair_of(self, path) {
            each(FieldValue::Stored(StringRef::Bytes(content)));
        }
    }
}

/// Which pair of the hash has the field, and its content: the last one, should a name come twice.
pub fn pair_of<'a>(hash: &ReadHash<'a>, name: &[u8]) -> Option<(usize, &'a [u8])> {
    let named = hash.fields.pairs().enumerate().filter(|(_, (field, _))| *field == name);
    named.map(|(pair, (_, content))| (pair, content)).last()
}

/// Why a document cannot be indexed.
#[derive(Debug, PartialEq)]
pub struct Unreadable {
    /// The field of the definition that it fails in.
    pub field: usize,
    pub cause: SearchError,
}

/// Reads from a document what the index wants of it.
pub fn read(definition: &Definition, document: &impl DocumentValues) -> Result<DocumentContent, Unreadable> {
    read_with(definition, document, VectorOptions::is_vector)
}

/// As `read`, but checks only the size of a vector: the caller learns by other means whether it is valid.
pub fn read_trusting(
    definition: &Definition,
    document: &impl DocumentValues,
) -> Result<DocumentContent, Unreadable> {
    read_with(definition, document, |options, blob| blob.len() == options.blob_bytes())
}

/// Reads a field of a document.
pub fn read_field(
    definition: &Definition,
    field: usize,
    document: &impl DocumentValues,
) -> Result<FieldContent, Unreadable> {
    read_field_with(definition, field, document, &VectorOptions::is_vector)
}

fn read_with(
    definition: &Definition,
    document: &impl DocumentValues,
    is_vector: impl Fn(&VectorOptions, &[u8]) -> bool,
) -> Result<DocumentContent, Unreadable> {
    let of_field = |field| read_field_with(definition, field, document, &is_vector);
    let fields = (0..definition.fields.len()).map(of_field).collect::<Result<_, _>>()?;
    Ok(DocumentContent { fields, about: about(definition, document) })
}

fn read_field_with(
    definition: &Definition,
    number: usize,
    document: &impl DocumentValues,
    is_vector: &impl Fn(&VectorOptions, &[u8]) -> bool,
) -> Result<FieldContent, Unreadable> {
    let stop_words = StopWords(definition.options.stop_words.as_deref());
    let field = &definition.fields[number];
    let mut content = FieldContent::Missing;
    let (mut count, mut result) = (0, Ok(()));
    let (mut is_tag, mut are_elements) = (false, true);
    let mut left = TEXT_BYTES_MAX;
    document.values_at(&field.identifier, |value| {
        count += 1;
        match left.checked_sub(text_bytes(value)) {
            Some(rest) => left = rest,
            // A path can lead to the same text many times.
            None if result.is_ok() => result = Err(Kind::TooMuchText.error()),
            None => {}
        }
        are_elements &= is_element(&field.kind, value);
        let is_list = matches!(value, FieldValue::Numbers(_) | FieldValue::Array(_));
        match (&field.kind, &mut result) {
            (FieldKind::Vector(vector), Ok(())) => result = content.add_vector(vector, value, is_vector),
            (FieldKind::Vector(_), Err(_)) => {}
            (_, Ok(())) if count == 1 && is_list => result = content.add_list(field, stop_words, value),
            (_, Ok(())) if count == 1 => result = content.add_single(field, stop_words, value),
            (_, Ok(())) => result = content.add_element(field, stop_words, value),
            _ => {}
        }
        is_tag = match value {
            FieldValue::Stored(text) => text.with_bytes(|text| content.is_tag(field, text)),
            FieldValue::Text(text) => content.is_tag(field, text.as_bytes()),
            _ => false,
        };
    });
    if is_tag && count == 1 {
        content = content.into_tag();
    }
    if let FieldContent::Number(number) = content
        && count > 1
    {
        // The first value of the document may be another one, a null.
        content = FieldContent::Numbers(vec![number]);
    }
    if let FieldContent::Text(words) = &mut content {
        words.finish();
    }
    let unreadable = |cause| Unreadable { field: number, cause };
    // The first value may be one that only a single one can be.
    if count > 1 && !are_elements && !matches!(field.kind, FieldKind::Vector(_)) {
        return Err(unreadable(wrong_element(&field.kind)));
    }
    result.map(|()| content).map_err(unreadable)
}

/// What a document says of itself. What cannot be read is as if it were not said, as in RediSearch.
pub fn about(definition: &Definition, document: &impl DocumentValues) -> About {
    let options = &definition.options;
    let mut about = About::of(definition);
    let bytes_of = |path: &[u8], read: &mut dyn FnMut(&[u8])| {
        if !path.is_empty() {
            document.values(path, |value| match value {
                FieldValue::Stored(bytes) => bytes.with_bytes(&mut *read),
                FieldValue::Text(text) => read(text.as_bytes()),
                FieldValue::Number(number) => read(number.to_string().as_bytes()),
                _ => {}
            });
        }
    };
    bytes_of(&options.language_field, &mut |word| {
        about.language = Language::named(word).unwrap_or(about.language);
    });
    bytes_of(&options.score_field, &mut |word| {
        about.score = parse_double(word).filter(|score| score.is_finite()).unwrap_or(about.score);
    });
    bytes_of(&options.payload_field, &mut |bytes| about.payload = Some(bytes.into()));
    about
}

/// Fails if a value is none of a field that has only one. The value of a NOINDEX field must be one, too.
fn check_single(kind: &FieldKind, value: FieldValue<'_>) -> Result<(), SearchError> {
    match (kind, value) {
        (FieldKind::Numeric, FieldValue::Stored(bytes)) => bytes
            .with_bytes(|bytes| parse_double(bytes).map(|_| ()).ok_or_else(|| Kind::NotANumber.of(bytes))),
        (FieldKind::Numeric, FieldValue::Number(_)) => Ok(()),
        (FieldKind::Geo, FieldValue::Stored(bytes)) => {
            bytes.with_bytes(|bytes| Position::read(bytes).map(|_| ()))
        }
        (FieldKind::Geo, FieldValue::Text(text)) => Position::read(text.as_bytes()).map(|_| ()),
        (FieldKind::Tag { .. }, FieldValue::Boolean(_)) => Ok(()),
        (
            FieldKind::Text { .. } | FieldKind::Tag { .. } | FieldKind::GeoShape(_),
            FieldValue::Stored(_) | FieldValue::Text(_),
        ) => Ok(()),
        (_, value) => Err(wrong_type(value)),
    }
}

/// Whether a value can be in an array of a field's values, or one of several.
fn is_element(kind: &FieldKind, value: FieldValue<'_>) -> bool {
    match (kind, value) {
        (FieldKind::GeoShape(_) | FieldKind::Vector(_), _) => false,
        (_, FieldValue::Null | FieldValue::Stored(_)) => true,
        (FieldKind::Numeric, value) => matches!(value, FieldValue::Number(_)),
        (FieldKind::Text { .. } | FieldKind::Tag { .. } | FieldKind::Geo, value) => {
            matches!(value, FieldValue::Text(_))
        }
    }
}

/// Calls `each` on the vectors of a document that was read, in order, as the index stores them.
#[inline]
pub fn each_vector(
    options: &VectorOptions,
    document: &impl DocumentValues,
    path: &DocumentPath,
    mut each: impl FnMut(&[u8]),
) {
    document.values_at(path, |value| match value {
        FieldValue::Stored(blob) => blob.with_bytes(&mut each),
        FieldValue::Numbers(numbers) => {
            if let Some(made) = options.element.encode(numbers) {
                each(&made);
            }
        }
        _ => {}
    });
}

impl FieldContent {
    /// Adds the only value of a field that is no vector.
    fn add_single(
        &mut self,
        field: &FieldDefinition,
        stop_words: StopWords<'_>,
        value: FieldValue<'_>,
    ) -> Result<(), SearchError> {
        match (&field.kind, value) {
            (_, FieldValue::Null) => self.be_present(),
            (_, FieldValue::Other) => return Err(wrong_type(value)),
            _ if field.no_index => {
                check_single(&field.kind, value)?;
                *self = FieldContent::Present;
            }
            (FieldKind::Text { .. }, FieldValue::Stored(bytes)) => {
                bytes.with_bytes(|bytes| self.add_text(field, stop_words, bytes));
            }
            (FieldKind::Text { .. }, FieldValue::Text(text)) => {
                self.add_text(field, stop_words, text.as_bytes());
            }
            (FieldKind::Tag { .. }, FieldValue::Stored(bytes)) => {
                bytes.with_bytes(|bytes| self.add_tags(field, bytes));
            }
            (FieldKind::Tag { .. }, FieldValue::Text(text)) => self.add_tags(field, text.as_bytes()),
            (FieldKind::Tag { .. }, FieldValue::Boolean(boolean)) => {
                self.add_tags(field, if boolean { b"true" } else { b"false" });
            }
            (FieldKind::Numeric, FieldValue::Stored(bytes)) => {
                let number =
                    bytes.with_bytes(|bytes| parse_double(bytes).ok_or_else(|| Kind::NotANumber.of(bytes)));
                self.add_number(number?);
            }
            (FieldKind::Numeric, FieldValue::Number(number)) => self.add_typed_number(number)?,
            (FieldKind::Geo, FieldValue::Stored(bytes)) => {
                self.add_number(bytes.with_bytes(Position::read)?.cell());
            }
            (FieldKind::Geo, FieldValue::Text(text)) => {
                self.add_number(Position::read(text.as_bytes())?.cell());
            }
            (FieldKind::GeoShape(coordinates), FieldValue::Stored(bytes)) => {
                *self = bytes.with_bytes(|bytes| shape(bytes, *coordinates));
            }
            (FieldKind::GeoShape(coordinates), FieldValue::Text(text)) => {
                *self = shape(text.as_bytes(), *coordinates);
            }
            (_, value) => return Err(wrong_type(value)),
        }
        Ok(())
    }

    /// Adds an array, which is the only value of a field that is no vector.
    fn add_list(
        &mut self,
        field: &FieldDefinition,
        stop_words: StopWords<'_>,
        list: FieldValue<'_>,
    ) -> Result<(), SearchError> {
        if matches!(field.kind, FieldKind::GeoShape(_)) {
            return Err(wrong_element(&field.kind));
        }
        *self = match field.kind {
            FieldKind::Numeric if !field.no_index => FieldContent::Numbers(Vec::new()),
            _ => FieldContent::Present,
        };
        match list {
            FieldValue::Numbers(numbers) => numbers
                .iter()
                .try_for_each(|&number| self.add_element(field, stop_words, FieldValue::Number(number))),
            FieldValue::Array(elements) => {
                elements.iter().try_for_each(|&element| self.add_element(field, stop_words, element))
            }
            _ => unreachable!("an array is one of these"),
        }
    }

    /// Adds one of several values, or an element of an array.
    fn add_element(
        &mut self,
        field: &FieldDefinition,
        stop_words: StopWords<'_>,
        value: FieldValue<'_>,
    ) -> Result<(), SearchError> {
        if !is_element(&field.kind, value) {
            return Err(wrong_element(&field.kind));
        }
        self.add_single(field, stop_words, value)
    }

    fn add_vector(
        &mut self,
        options: &VectorOptions,
        value: FieldValue<'_>,
        is_vector: &impl Fn(&VectorOptions, &[u8]) -> bool,
    ) -> Result<(), SearchError> {
        match value {
            FieldValue::Null => {
                self.be_present();
                return Ok(());
            }
            FieldValue::Stored(blob) => blob.with_bytes(|blob| {
                if is_vector(options, blob) { Ok(()) } else { Err(no_vector(options, blob.len())) }
            })?,
            FieldValue::Array(elements) => {
                let mut elements = elements.iter();
                let place = elements.position(|element| !matches!(element, FieldValue::Number(_)));
                return Err(Kind::WrongVectorElement.with([place.unwrap_or_default().to_string().into()]));
            }
            FieldValue::Numbers(numbers) => {
                if numbers.is_empty() {
                    return Err(Kind::EmptyVector.error());
                }
                if numbers.len() != options.dimension as usize {
                    let (given, wanted) = (numbers.len().to_string(), options.dimension.to_string());
                    return Err(Kind::VectorLength.with([wanted.into(), given.into()]));
                }
                if options.element.encode(numbers).is_none() {
                    return Err(no_vector(options, options.blob_bytes()));
                }
            }
            _ => return Err(wrong_type(value)),
        }
        *self = match self {
            FieldContent::Vectors(count) => FieldContent::Vectors(*count + 1),
            _ => FieldContent::Vectors(1),
        };
        Ok(())
    }

    /// A value is there of which nothing is indexed.
    fn be_present(&mut self) {
        if matches!(self, FieldContent::Missing) {
            *self = FieldContent::Present;
        }
    }

    fn add_typed_number(&mut self, number: f64) -> Result<(), SearchError> {
        if number.is_nan() {
            return Err(Kind::NotANumber.of(b"NaN"));
        }
        self.add_number(number);
        Ok(())
    }

    fn add_number(&mut self, number: f64) {
        *self = match std::mem::replace(self, FieldContent::Missing) {
            FieldContent::Number(first) => FieldContent::Numbers(vec![first, number]),
            FieldContent::Numbers(mut numbers) => {
                numbers.push(number);
                FieldContent::Numbers(numbers)
            }
            _ => FieldContent::Number(number),
        };
    }

    fn add_text(&mut self, field: &FieldDefinition, stop_words: StopWords<'_>, text: &[u8]) {
        if !matches!(self, FieldContent::Text(_)) {
            *self = FieldContent::Text(TextContent::default());
        }
        let FieldContent::Text(words) = self else { unreachable!("made above") };
        if !words.is_empty() {
            words.end_text();
        }
        words.reserve(text.len());
        text::tokenize(text, stop_words, &mut |term| words.push(term));
        if field.index_empty && text.is_empty() {
            words.push(b"");
        }
    }

    fn add_tags(&mut self, field: &FieldDefinition, bytes: &[u8]) {
        let FieldKind::Tag { separator, case_sensitive, .. } = field.kind else {
            unreachable!("asked for TAG fields only")
        };
        let terms = self.terms();
        let mut add = |tag: &[u8]| {
            if field.index_empty || !tag.is_empty() {
                terms.push(if case_sensitive { tag.to_vec() } else { text::lower(tag) });
            }
        };
        match separator {
            NO_SEPARATOR => add(bytes),
            _ => bytes.split(|&byte| byte == separator).map(<[u8]>::trim_ascii).for_each(add),
        }
    }

    /// Whether there is one tag, whose text is this value.
    fn is_tag(&self, field: &FieldDefinition, value: &[u8]) -> bool {
        let FieldKind::Tag { .. } = field.kind else { return false };
        matches!(self, FieldContent::Terms(terms)
            if matches!(&terms[..], [tag] if value == tag.as_slice()))
    }

    fn into_tag(self) -> FieldContent {
        match self {
            FieldContent::Terms(terms) => {
                FieldContent::Tag(terms.into_iter().next().expect("checked to be one tag"))
            }
            content => content,
        }
    }

    fn terms(&mut self) -> &mut Vec<Vec<u8>> {
        if !matches!(self, FieldContent::Terms(_)) {
            *self = FieldContent::Terms(Vec::new());
        }
        let FieldContent::Terms(terms) = self else { unreachable!("made above") };
        terms
    }
}

/// The bytes of the texts of a value.
fn text_bytes(value: FieldValue<'_>) -> usize {
    match value {
        FieldValue::Text(text) => text.len(),
        FieldValue::Array(elements) => elements.iter().map(|&element| text_bytes(element)).sum(),
        _ => 0,
    }
}

/// What is wrong with a blob of this length that is no vector.
fn no_vector(options: &VectorOptions, length: usize) -> SearchError {
    if length == options.blob_bytes() {
        return Kind::NotFinite.error();
    }
    Kind::BlobSize.with([length.to_string().into(), options.blob_bytes().to_string().into()])
}

/// RediSearch's texts about JSON, which has all of these types.
fn wrong_type(value: FieldValue<'_>) -> SearchError {
    let wrong = match value {
        FieldValue::Numbers(_) | FieldValue::Array(_) => Kind::WrongElement,
        FieldValue::Stored(_) | FieldValue::Text(_) => Kind::WrongString,
        FieldValue::Number(_) => Kind::WrongNumber,
        FieldValue::Boolean(_) => Kind::WrongBoolean,
        FieldValue::Other | FieldValue::Null => Kind::WrongObject,
    };
    wrong.error()
}

fn shape(bytes: &[u8], coordinates: Coordinates) -> FieldContent {
    match Geometry::read(bytes, coordinates) {
        Ok(shape) => FieldContent::Geometry(Arc::new(shape)),
        Err(_) => FieldContent::Present,
    }
}

/// What is wrong with a value that is in an array, or one of several, and cannot be.
fn wrong_element(kind: &FieldKind) -> SearchError {
    let wrong = match kind {
        FieldKind::Numeric => Kind::WrongNumericElement,
        FieldKind::GeoShape(_) => Kind::WrongArray,
        _ => Kind::WrongElement,
    };
    wrong.error()
}

#[cfg(test)]
mod tests;
