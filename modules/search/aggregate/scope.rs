//! The properties that steps can name: those of documents, and those that steps make.

use crate::error::{Kind, SearchError};
use crate::index::Index;
use crate::schema::FieldKind;
use crate::search::plan::Plan;
use engramdb_engine::hashing::HashMap;
use engramdb_engine::keyspace::DocumentType;
use std::sync::Arc;

/// Where a property of documents comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum ColumnSource {
    Key,
    Score,
    /// Of FT.HYBRID: the fused score, that of the words, and that of the vector.
    FusedScore,
    TextScore,
    VectorScore,
    /// Of FT.HYBRID: how the fused score comes about.
    Explanation,
    /// The distance of this name.
    Distance(Arc<[u8]>),
    Field {
        /// The hash's field, or the path.
        identifier: Vec<u8>,
        /// The index's field whose numbers or tags are the values.
        indexed: Option<usize>,
        /// Texts that are numbers are numbers.
        numeric: bool,
        /// Texts are in lower case, as SORTABLE without UNF keeps them.
        lower: bool,
    },
    /// There is no such property in documents.
    Nothing,
}

/// The place of the cell that explains a row's fused score, if there is one.
pub const EXPLANATION_PLACE: usize = 0;

/// A property that is read from documents, and the place of its cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub place: usize,
    pub source: ColumnSource,
}

/// The properties between two GROUPBYs.
#[derive(Default)]
pub struct PropertyScope {
    /// The names, in the order in which rows show them; a name's place is that of its cell.
    names: Vec<Vec<u8>>,
    places: HashMap<Vec<u8>, usize>,
    documents: Option<OfDocuments>,
}

/// The properties of the rows of documents.
struct OfDocuments {
    index: Arc<Index>,
    columns: Vec<Column>,
    loads_all: bool,
}

impl PropertyScope {
    /// The scope before the first GROUPBY.
    pub fn of_documents(plan: &Plan, first: Vec<(Vec<u8>, ColumnSource)>) -> PropertyScope {
        let documents = OfDocuments { index: plan.index.clone(), columns: Vec::new(), loads_all: false };
        let mut scope = PropertyScope { documents: Some(documents), ..PropertyScope::default() };
        for (name, source) in first {
            if source == ColumnSource::Explanation {
                scope.hide_explanation();
            } else {
                scope.column(&name, source);
            }
        }
        if let Some(knn) = &plan.query.knn {
            scope.column(&knn.alias, ColumnSource::Distance(knn.alias.clone()));
        }
        plan.query.filter.ranges(&mut |range| {
            if let Some(alias) = &range.alias {
                scope.column(alias, ColumnSource::Distance(alias.clone()));
            }
        });
        scope
    }

    pub fn width(&self) -> usize {
        self.names.len()
    }

    pub fn loads_all(&self) -> bool {
        self.documents.as_ref().is_some_and(|documents| documents.loads_all)
    }

    pub fn names(&self) -> Vec<(Vec<u8>, usize)> {
        self.names.iter().cloned().zip(0..).collect()
    }

    /// The columns of documents, and whether LOAD * is there; `None` after a GROUPBY.
    pub fn into_columns(self) -> Option<(Vec<Column>, bool)> {
        self.documents.map(|documents| (documents.columns, documents.loads_all))
    }

    /// The place of a property, which is new if there is none yet.
    pub fn write(&mut self, name: &[u8]) -> usize {
        if let Some(&place) = self.places.get(name) {
            return place;
        }
        self.names.push(name.to_vec());
        self.places.insert(name.to_vec(), self.names.len() - 1);
        self.names.len() - 1
    }

    /// Adds a property; fails if there is one of this name.
    pub fn add(&mut self, name: &[u8]) -> Result<(), SearchError> {
        if self.places.contains_key(name) {
            return Err(Kind::NameTwice.of(name));
        }
        self.write(name);
        Ok(())
    }

    /// The place of a property that an expression names: one that exists, or a SORTABLE field.
    pub fn read(&mut self, name: &[u8]) -> Option<usize> {
        if let Some(&place) = self.places.get(name) {
            return Some(place);
        }
        let documents = self.documents.as_ref()?;
        let definition = &documents.index.definition;
        let field = &definition.fields[definition.field(name)?];
        // LOAD * gives the fields of a hash their names; of other documents it has only the whole.
        let is_loaded = documents.loads_all && definition.documents == DocumentType::Hash;
        if !field.sortable && !is_loaded {
            return None;
        }
        let is_sortable = field.sortable;
        let source = field_source(&documents.index, name, is_sortable);
        Some(self.column(name, source))
    }

    /// The same, and otherwise any field of the schema.
    pub fn read_or_load(&mut self, name: &[u8]) -> Option<usize> {
        if let Some(place) = self.read(name) {
            return Some(place);
        }
        let index = self.documents.as_ref()?.index.clone();
        index.definition.field(name)?;
        let source = field_source(&index, name, false);
        Some(self.column(name, source))
    }

    /// LOAD of a path, or of a field by its name.
    pub fn load(&mut self, path: &[u8], name: &[u8]) {
        if self.places.contains_key(name) {
            return;
        }
        let documents = self.documents.as_ref().expect("LOAD comes before GROUPBY");
        let source = loaded_source(&documents.index, path);
        self.column(name, source);
    }

    pub fn load_all(&mut self) {
        self.documents.as_mut().expect("LOAD comes before GROUPBY").loads_all = true;
    }

    /// Adds the column that explains scores, which no step can name.
    fn hide_explanation(&mut self) {
        debug_assert_eq!(self.names.len(), EXPLANATION_PLACE, "it is the first column");
        self.names.push(Vec::new());
        let documents = self.documents.as_mut().expect("columns are of documents");
        documents.columns.push(Column { place: EXPLANATION_PLACE, source: ColumnSource::Explanation });
    }

    fn column(&mut self, name: &[u8], source: ColumnSource) -> usize {
        let place = self.write(name);
        let documents = self.documents.as_mut().expect("columns are of documents");
        documents.columns.push(Column { place, source });
        place
    }
}

/// What LOAD of this path, or field, reads.
pub fn loaded_source(index: &Index, path: &[u8]) -> ColumnSource {
    match path {
        b"__key" => ColumnSource::Key,
        b"__score" => ColumnSource::Nothing,
        path => field_source(index, path, false),
    }
}

fn field_source(index: &Index, name: &[u8], of_index: bool) -> ColumnSource {
    let definition = &index.definition;
    let identifier = definition.identifier_of(name).to_vec();
    let Some(place) = definition.field(name) else {
        return ColumnSource::Field { identifier, indexed: None, numeric: false, lower: false };
    };
    let field = &definition.fields[place];
    let numeric = field.kind == FieldKind::Numeric;
    let has_values = numeric || matches!(field.kind, FieldKind::Tag { .. });
    ColumnSource::Field {
        identifier,
        indexed: (has_values && !field.no_index && index.is_whole(place)).then_some(place),
        numeric,
        lower: of_index && !field.unf && matches!(field.kind, FieldKind::Text { .. } | FieldKind::Tag { .. }),
    }
}
