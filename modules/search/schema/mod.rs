//! Definitions of indexes, as made by FT.CREATE: name, key prefixes, options and fields; and their format.
//!
//! A definition is the payload of a module effect, in the log and in snapshots:
//!
//! ```text
//! id u64 | flags u8 | score f64 | temporary_s u64 (0: not temporary)
//! name, language, language field, score field: bytes
//! since version 3: payload field: bytes
//! since version 4: type of the documents, as ON calls it: bytes (before: HASH)
//! since version 5: filter: bytes (empty: none)
//! prefixes: list | stop words: u8 (0: the default ones), list | fields: u32 count, then each:
//!   identifier, name: bytes | flags u8 | kind u8 | by kind:
//!     0 TEXT     weight f64, flags u8 (PHONETIC since version 6)
//!     1 TAG      separator u8 (0: none), flags u8
//!     2 NUMERIC, 3 GEO, 4 GEOSHAPE FLAT (before version 5: of either kind), 6 GEOSHAPE SPHERICAL
//!     5 VECTOR   algorithm u8, metric u8, dimension u32, m u32, ef_construction u32, ef_runtime u32,
//!                epsilon f64, initial capacity u64, block size u64; since version 2: element u8,
//!                quantization u8
//! ```
//!
//! Numbers are little-endian; bytes are a u32 length and the content, a list is a u32 count and that many
//! bytes. FT.CREATE chooses the id at random. An id of 0, in older logs, means the first free one.

pub mod bytes;
pub mod change;
pub mod create;
pub mod filter;
pub mod language;
pub mod sound;
pub mod synonyms;
mod words;

use bytes::{Reader, Writer};
use engramdb_engine::keyspace::{DataTypes, DocumentPath, DocumentType};
use engramdb_vector::{Element, HnswParameters, Metric, Quantization};
use filter::DocumentFilter;
use synonyms::SharedSynonyms;

/// The version of the payload that this program writes. It reads all earlier versions too.
pub const VERSION: u8 = 6;

/// The separator of a TAG field whose texts are not split: each text is one tag.
pub const NO_SEPARATOR: u8 = 0;

/// EF_RUNTIME if neither the schema nor the query gives one.
pub const EF_RUNTIME_DEFAULT: u32 = 100;

#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// Distinguishes this index from others of the same name; 0 until FT.CREATE has chosen it.
    pub id: u64,
    pub name: Vec<u8>,
    pub documents: DocumentType,
    /// Keys that begin with one of these are documents; the empty prefix matches all keys.
    pub prefixes: Vec<Vec<u8>>,
    pub options: IndexOptions,
    pub fields: Vec<FieldDefinition>,
    /// Not in the definition's format: effects of their own add them.
    pub synonyms: SharedSynonyms,
}

/// The coordinates of a GEOSHAPE field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coordinates {
    /// Longitudes and latitudes in degrees.
    #[default]
    Spherical,
    /// Of a plane.
    Flat,
}

impl Coordinates {
    pub fn name(self) -> &'static str {
        match self {
            Coordinates::Spherical => "SPHERICAL",
            Coordinates::Flat => "FLAT",
        }
    }
}

/// The options before SCHEMA, which FT.INFO shows. Most of them have no effect here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IndexOptions {
    pub skip_initial_scan: bool,
    pub no_offsets: bool,
    pub no_highlight: bool,
    pub no_fields: bool,
    pub no_frequencies: bool,
    pub max_text_fields: bool,
    pub index_all: bool,
    pub score: f64,
    pub language: Vec<u8>,
    pub language_field: Vec<u8>,
    pub score_field: Vec<u8>,
    /// The seconds without use after which the index is dropped; at least 1.
    pub temporary_s: Option<u64>,
    /// The document's field that WITHPAYLOADS shows; empty for none.
    pub payload_field: Vec<u8>,
    /// `None` for the default stop words.
    pub stop_words: Option<Vec<Vec<u8>>>,
    /// Which keys are documents; `None` for all with a prefix.
    pub filter: Option<DocumentFilter>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct FieldDefinition {
    /// The hash's field, or the path in a document of another type.
    pub identifier: DocumentPath,
    /// Its name in queries: the alias, or the identifier.
    pub name: Vec<u8>,
    pub kind: FieldKind,
    pub sortable: bool,
    pub unf: bool,
    pub no_index: bool,
    pub index_missing: bool,
    pub index_empty: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum FieldKind {
    /// If `phonetic`, words are found by those that sound alike too.
    Text {
        weight: f64,
        no_stem: bool,
        suffix_trie: bool,
        phonetic: bool,
    },
    Tag {
        separator: u8,
        case_sensitive: bool,
        suffix_trie: bool,
    },
    Numeric,
    Geo,
    GeoShape(Coordinates),
    Vector(VectorOptions),
}

impl FieldKind {
    pub fn type_name(&self) -> &'static str {
        match self {
            FieldKind::Text { .. } => "TEXT",
            FieldKind::Tag { .. } => "TAG",
            FieldKind::Numeric => "NUMERIC",
            FieldKind::Geo => "GEO",
            FieldKind::GeoShape(_) => "GEOSHAPE",
            FieldKind::Vector(_) => "VECTOR",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Flat,
    Hnsw,
    /// The name of RediSearch's quantized graph. Here it is the same graph as HNSW, with other attributes.
    Svs,
}

impl Algorithm {
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Flat => "FLAT",
            Algorithm::Hnsw => "HNSW",
            Algorithm::Svs => "SVS-VAMANA",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct VectorOptions {
    pub algorithm: Algorithm,
    pub element: Element,
    /// The code of the vectors in a graph.
    pub quantization: Quantization,
    pub metric: Metric,
    pub dimension: u32,
    pub m: u32,
    pub ef_construction: u32,
    pub ef_runtime: u32,
    pub epsilon: f64,
    pub initial_capacity: u64,
    pub block_size: u64,
}

impl VectorOptions {
    /// The size in bytes that a value in a hash must have, and that a vector is stored with.
    pub fn blob_bytes(&self) -> usize {
        self.dimension as usize * self.element.bytes()
    }

    /// The bytes of a vector and its links, as RediSearch estimates them for its limits of INITIAL_CAP and
    /// BLOCK_SIZE.
    pub fn element_bytes_estimated(&self) -> u64 {
        let blob = self.blob_bytes() as u64;
        match self.algorithm {
            Algorithm::Flat => blob + 16,
            Algorithm::Hnsw | Algorithm::Svs => blob + 8 * u64::from(self.m) + 91,
        }
    }

    /// Whether these bytes are a vector of the field: of the right size, with finite elements.
    pub fn is_vector(&self, blob: &[u8]) -> bool {
        blob.len() == self.blob_bytes() && self.element.is_finite(blob)
    }
}

pub fn element_name(element: Element) -> &'static str {
    match element {
        Element::F32 => "FLOAT32",
        Element::F64 => "FLOAT64",
        Element::F16 => "FLOAT16",
        Element::Bf16 => "BFLOAT16",
        Element::I8 => "INT8",
        Element::U8 => "UINT8",
    }
}

pub fn quantization_name(quantization: Quantization) -> &'static str {
    match quantization {
        Quantization::None => "NONE",
        Quantization::Bits8 => "SQ8",
        Quantization::Bits4 => "SQ4",
        Quantization::Bits1 => "BINARY",
    }
}

pub fn metric_name(metric: Metric) -> &'static str {
    match metric {
        Metric::L2 => "L2",
        Metric::InnerProduct => "IP",
        Metric::Cosine => "COSINE",
    }
}

impl Definition {
    /// True if a key of this name is a document of the index, if its value has the type `documents`.
    pub fn covers(&self, key: &[u8]) -> bool {
        self.prefixes.iter().any(|prefix| key.starts_with(prefix))
    }

    /// The index in `fields` of the field with this name in queries. Names are case-sensitive.
    pub fn field(&self, name: &[u8]) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }

    /// The document's field for a name that a client gives: an attribute's name, or the field's own.
    pub fn identifier_of<'a>(&'a self, name: &'a [u8]) -> &'a [u8] {
        self.field(name).map_or(name, |field| &self.fields[field].identifier[..])
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        let options = &self.options;
        out.u64(self.id);
        out.flags(&[
            options.skip_initial_scan,
            options.no_offsets,
            options.no_highlight,
            options.no_fields,
            options.no_frequencies,
            options.max_text_fields,
            options.index_all,
        ]);
        out.f64(options.score);
        out.u64(options.temporary_s.unwrap_or_default());
        for bytes in [
            &self.name,
            &options.language,
            &options.language_field,
            &options.score_field,
            &options.payload_field,
        ] {
            out.bytes(bytes);
        }
        out.bytes(self.documents.name().as_bytes());
        out.bytes(options.filter.as_ref().map_or(&[], |filter| &filter.text[..]));
        out.list(&self.prefixes);
        out.flags(&[options.stop_words.is_some()]);
        out.list(options.stop_words.as_deref().unwrap_or_default());
        out.u32(self.fields.len() as u32);
        self.fields.iter().for_each(|field| field.encode(&mut out));
        out.0
    }

    /// Reads the result of `encode` of this or an earlier version. Fails if the bytes are anything else, or
    /// if `types` does not have the type of the documents.
    pub fn decode(version: u8, bytes: &[u8], types: &DataTypes) -> Result<Definition, String> {
        let mut unknown = None;
        let type_of = &mut |name: &[u8]| {
            let documents = types.documents(name);
            if documents.is_none() {
                unknown = Some(name.escape_ascii().to_string());
            }
            documents
        };
        Definition::read(version, Reader(bytes), type_of).ok_or_else(|| match unknown {
            Some(name) => format!("an index is over documents of type {name}, which this program lacks"),
            None => "an index definition is malformed".to_owned(),
        })
    }

    fn read(
        version: u8,
        mut reader: Reader<'_>,
        type_of: &mut dyn FnMut(&[u8]) -> Option<DocumentType>,
    ) -> Option<Definition> {
        let id = reader.u64()?;
        let flags = reader.flags()?;
        // Before version 3 the seconds were kept and had no effect.
        let (score, seconds) = (reader.f64()?, reader.u64()?);
        let temporary_s = (version >= 3 && seconds > 0).then_some(seconds);
        let mut text = || reader.bytes().map(<[u8]>::to_vec);
        let (name, language, language_field, score_field) = (text()?, text()?, text()?, text()?);
        let payload_field = if version >= 3 { text()? } else { Vec::new() };
        let documents = if version >= 4 { type_of(&text()?)? } else { DocumentType::Hash };
        let filter = if version >= 5 { reader.bytes()? } else { b"" };
        let filter = match filter {
            b"" => None,
            text => Some(DocumentFilter::parse(text).ok()?),
        };
        let prefixes = reader.list()?;
        let own_stop_words = reader.flags()?[0];
        let stop_words = Some(reader.list()?).filter(|_| own_stop_words);
        let fields = (0..reader.u32()?)
            .map(|_| FieldDefinition::decode(version, &mut reader))
            .collect::<Option<_>>()?;
        let options = IndexOptions {
            skip_initial_scan: flags[0],
            no_offsets: flags[1],
            no_highlight: flags[2],
            no_fields: flags[3],
            no_frequencies: flags[4],
            max_text_fields: flags[5],
            index_all: flags[6],
            score,
            language,
            language_field,
            score_field,
            temporary_s,
            payload_field,
            stop_words,
            filter,
        };
        let synonyms = SharedSynonyms::default();
        let definition = Definition { id, name, documents, prefixes, options, fields, synonyms };
        reader.0.is_empty().then_some(definition)
    }
}

impl FieldDefinition {
    fn encode(&self, out: &mut Writer) {
        out.bytes(&self.identifier);
        out.bytes(&self.name);
        out.flags(&[self.sortable, self.unf, self.no_index, self.index_missing, self.index_empty]);
        match &self.kind {
            FieldKind::Text { weight, no_stem, suffix_trie, phonetic } => {
                out.0.push(0);
                out.f64(*weight);
                out.flags(&[*no_stem, *suffix_trie, *phonetic]);
            }
            FieldKind::Tag { separator, case_sensitive, suffix_trie } => {
                out.0.extend_from_slice(&[1, *separator]);
                out.flags(&[*case_sensitive, *suffix_trie]);
            }
            FieldKind::Numeric => out.0.push(2),
            FieldKind::Geo => out.0.push(3),
            FieldKind::GeoShape(Coordinates::Flat) => out.0.push(4),
            FieldKind::GeoShape(Coordinates::Spherical) => out.0.push(6),
            FieldKind::Vector(vector) => {
                out.0.push(5);
                vector.encode(out);
            }
        }
    }

    fn decode(version: u8, reader: &mut Reader<'_>) -> Option<FieldDefinition> {
        let (identifier, name) = (reader.bytes()?.to_vec().into(), reader.bytes()?.to_vec());
        let [sortable, unf, no_index, index_missing, index_empty, ..] = reader.flags()?;
        let kind = match reader.u8()? {
            0 => {
                let weight = reader.f64()?;
                let [no_stem, suffix_trie, phonetic, ..] = reader.flags()?;
                let phonetic = phonetic && version >= 6;
                FieldKind::Text { weight, no_stem, suffix_trie, phonetic }
            }
            1 => {
                let separator = reader.u8()?;
                let [case_sensitive, suffix_trie, ..] = reader.flags()?;
                FieldKind::Tag { separator, case_sensitive, suffix_trie }
            }
            2 => FieldKind::Numeric,
            3 => FieldKind::Geo,
            4 => FieldKind::GeoShape(Coordinates::Flat),
            6 => FieldKind::GeoShape(Coordinates::Spherical),
            5 => FieldKind::Vector(VectorOptions::decode(version, reader)?),
            _ => return None,
        };
        Some(FieldDefinition { identifier, name, kind, sortable, unf, no_index, index_missing, index_empty })
    }
}

/// An enum's number in the format: its place in the list of all values.
fn number_of<T: PartialEq>(all: &[T], one: &T) -> u8 {
    all.iter().position(|other| other == one).expect("all are listed") as u8
}

impl VectorOptions {
    fn encode(&self, out: &mut Writer) {
        out.0.extend_from_slice(&[self.algorithm as u8, number_of(&Metric::ALL, &self.metric)]);
        for number in [self.dimension, self.m, self.ef_construction, self.ef_runtime] {
            out.u32(number);
        }
        out.f64(self.epsilon);
        out.u64(self.initial_capacity);
        out.u64(self.block_size);
        out.0.push(number_of(&Element::ALL, &self.element));
        out.0.push(number_of(&Quantization::ALL, &self.quantization));
    }

    fn decode(version: u8, reader: &mut Reader<'_>) -> Option<VectorOptions> {
        let algorithm = match reader.u8()? {
            0 => Algorithm::Flat,
            1 => Algorithm::Hnsw,
            2 => Algorithm::Svs,
            _ => return None,
        };
        let mut options = VectorOptions {
            algorithm,
            element: Element::F32,
            quantization: Quantization::None,
            metric: *Metric::ALL.get(reader.u8()? as usize)?,
            dimension: reader.u32()?,
            m: reader.u32()?,
            ef_construction: reader.u32()?,
            ef_runtime: reader.u32()?,
            epsilon: reader.f64()?,
            initial_capacity: reader.u64()?,
            block_size: reader.u64()?,
        };
        if version == 1 {
            options.quantization = options.default_quantization();
            return Some(options);
        }
        options.element = *Element::ALL.get(reader.u8()? as usize)?;
        options.quantization = *Quantization::ALL.get(reader.u8()? as usize)?;
        Some(options)
    }

    /// The code of a graph if the schema gives none.
    pub fn default_quantization(&self) -> Quantization {
        if self.algorithm == Algorithm::Flat {
            return Quantization::None;
        }
        HnswParameters::of(self.element, self.dimension as usize, self.metric).quantization
    }
}

#[cfg(test)]
mod tests;
