//! What a change of a key can have changed for an index: the fields to read again.

use super::Index;
use engramdb_engine::effect::Effect;
use engramdb_engine::hashing::HashSet;
use engramdb_engine::keyspace::{DocumentPath, DocumentType};
use engramdb_engine::store::document::Document;
use smallvec::SmallVec;
use std::cell::OnceCell;

/// Fields of a definition, by number. A write changes few of them, so that they need no allocation.
pub type FieldNumbers = SmallVec<[usize; 8]>;

/// More names and fields are not compared in pairs.
pub const COMPARED_MAX: usize = 4096;

/// What is to be read again of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadScope {
    Whole,
    /// Some fields of the definition, or none. The document is as it was in all else, if the index has it.
    Fields(FieldNumbers),
}

/// The names of an effect's fields, for several indexes: in a table where they are many.
#[derive(Default)]
pub struct ChangedNames<'e>(OnceCell<HashSet<&'e [u8]>>);

impl Index {
    /// What an effect on a key concerns. `document` is the key's value after it; `count` what the effect has
    /// counted, or `None` before it is applied. `table` is the effect's own.
    pub fn concerned<'e>(
        &self,
        (effect, table): (&Effect<'e>, &ChangedNames<'e>),
        count: Option<usize>,
        document: Option<&Document<'_>>,
    ) -> ReadScope {
        match effect {
            Effect::Expire { .. } | Effect::HashExpire { .. } => ReadScope::Fields(FieldNumbers::new()),
            Effect::HashSet { fields, .. } => {
                let may_be_new = match document {
                    Some(Document::Hash(hash)) => hash.stored() <= fields.len() / 2,
                    _ => false,
                };
                if may_be_new {
                    return ReadScope::Whole;
                }
                self.concerned_names(fields.pairs().map(|(name, _)| name), fields.len() / 2, table)
            }
            Effect::HashDelete { .. } if document.is_none() => ReadScope::Whole,
            Effect::HashDelete { fields, .. } => self.concerned_names(fields.iter(), fields.len(), table),
            effect => match self.definition.documents {
                DocumentType::Object(data_type) if data_type.takes(effect) => self.concerned_paths(
                    |path| data_type.concerns(effect, count, path),
                    |path| data_type.concerns_at(effect, count, path),
                ),
                _ => ReadScope::Whole,
            },
        }
    }

    /// The same for the names of changed fields of a hash.
    fn concerned_names<'e>(
        &self,
        names: impl Iterator<Item = &'e [u8]> + Clone,
        count: usize,
        table: &ChangedNames<'e>,
    ) -> ReadScope {
        if count.saturating_mul(self.definition.fields.len()) <= COMPARED_MAX {
            let has_changed = |path: &[u8]| names.clone().any(|name| name == path);
            return self.concerned_paths(has_changed, |path| has_changed(path));
        }
        let names = table.0.get_or_init(|| names.collect());
        self.concerned_paths(|path| names.contains(path), |path| names.contains(&path[..]))
    }

    /// Both functions say whether the values at a path can have changed; the second is asked for fields.
    fn concerned_paths(
        &self,
        has_changed: impl Fn(&[u8]) -> bool,
        field_has_changed: impl Fn(&DocumentPath) -> bool,
    ) -> ReadScope {
        let options = &self.definition.options;
        let filter = options.filter.as_ref();
        let named = [&options.language_field, &options.score_field, &options.payload_field];
        let is_other = named.into_iter().any(|path| !path.is_empty() && has_changed(path))
            || filter.is_some_and(|filter| filter.identifiers(&self.definition).flatten().any(&has_changed));
        if is_other {
            return ReadScope::Whole;
        }
        let fields = self.definition.fields.iter().enumerate();
        let fields =
            fields.filter(|(_, field)| field_has_changed(&field.identifier)).map(|(number, _)| number);
        ReadScope::Fields(fields.collect())
    }
}
