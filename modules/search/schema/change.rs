//! What changes an index after it was made, and dictionaries; and the formats of these effects:
//!
//! ```text
//! kind 3, alias:      alias: bytes | has an index u8 | index: bytes
//! kind 4, fields:     index: bytes | flags u8 (1: SKIPINITIALSCAN) | fields, as in a definition
//! kind 5, synonyms:   index: bytes | group: bytes | terms: list
//! kind 6, dictionary: name: bytes | flags u8 (1: terms are added, else removed) | terms: list
//! ```

use super::FieldDefinition;
use super::bytes::{Reader, Writer};

/// An alias is given to an index, or taken away.
pub struct AliasChange {
    pub alias: Vec<u8>,
    /// The index's name.
    pub index: Option<Vec<u8>>,
}

impl AliasChange {
    pub fn encode(alias: &[u8], index: Option<&[u8]>) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        out.bytes(alias);
        out.flags(&[index.is_some()]);
        out.bytes(index.unwrap_or_default());
        out.0
    }

    pub fn decode(bytes: &[u8]) -> Result<AliasChange, String> {
        let mut reader = Reader(bytes);
        let mut read = || {
            let alias = reader.bytes()?.to_vec();
            let has_index = reader.flags()?[0];
            let index = Some(reader.bytes()?.to_vec()).filter(|_| has_index);
            reader.0.is_empty().then_some(AliasChange { alias, index })
        };
        read().ok_or_else(|| "the change of an alias is malformed".to_owned())
    }
}

/// Fields are added to an index.
pub struct Alteration {
    pub name: Vec<u8>,
    pub fields: Vec<FieldDefinition>,
    /// Keys that exist already lack the fields until they change.
    pub skips_scan: bool,
}

impl Alteration {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        out.bytes(&self.name);
        out.flags(&[self.skips_scan]);
        out.u32(self.fields.len() as u32);
        self.fields.iter().for_each(|field| field.encode(&mut out));
        out.0
    }

    pub fn decode(version: u8, bytes: &[u8]) -> Result<Alteration, String> {
        let mut reader = Reader(bytes);
        let mut read = || {
            let name = reader.bytes()?.to_vec();
            let skips_scan = reader.flags()?[0];
            let count = reader.u32()?;
            let field = |_| FieldDefinition::decode(version, &mut reader);
            let fields = (0..count).map(field).collect::<Option<_>>()?;
            reader.0.is_empty().then_some(Alteration { name, fields, skips_scan })
        };
        read().ok_or_else(|| "the change of an index is malformed".to_owned())
    }
}

/// Terms are added to a group of synonyms.
pub struct SynonymChange {
    /// The index's name.
    pub index: Vec<u8>,
    pub group: Vec<u8>,
    /// In lower case.
    pub terms: Vec<Vec<u8>>,
}

impl SynonymChange {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        out.bytes(&self.index);
        out.bytes(&self.group);
        out.list(&self.terms);
        out.0
    }

    pub fn decode(bytes: &[u8]) -> Result<SynonymChange, String> {
        let mut reader = Reader(bytes);
        let mut read = || {
            let (index, group) = (reader.bytes()?.to_vec(), reader.bytes()?.to_vec());
            let terms = reader.list()?;
            reader.0.is_empty().then_some(SynonymChange { index, group, terms })
        };
        read().ok_or_else(|| "a change of synonyms is malformed".to_owned())
    }
}

/// Terms are added to a dictionary, or removed.
pub struct DictionaryChange {
    pub name: Vec<u8>,
    pub adds: bool,
    pub terms: Vec<Vec<u8>>,
}

impl DictionaryChange {
    pub fn encode(name: &[u8], adds: bool, terms: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        out.bytes(name);
        out.flags(&[adds]);
        out.list(terms);
        out.0
    }

    pub fn decode(bytes: &[u8]) -> Result<DictionaryChange, String> {
        let mut reader = Reader(bytes);
        let mut read = || {
            let name = reader.bytes()?.to_vec();
            let adds = reader.flags()?[0];
            let terms = reader.list()?;
            reader.0.is_empty().then_some(DictionaryChange { name, adds, terms })
        };
        read().ok_or_else(|| "a change of a dictionary is malformed".to_owned())
    }
}

#[cfg(test)]
mod tests;
