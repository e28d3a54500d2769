//! Rows: the ids of further vectors, where a document has several in a field.
//!
//! The first vector of a document in a field has the document's id, so that documents with one vector need
//! nothing of this. Each further one has a *row*: an id of its own, of the same numbers, which belongs to the
//! document and to the field. A vector index thus knows ids only, which are dense; a search finds ids and
//! turns them into documents, each with its nearest vector.
//!
//! A row that is given to another document has a younger version (`Documents::version_of`) than the search
//! that found it. Then both documents have changed since, and the search reads them again.

use super::columns::ListColumn;
use super::{Documents, FieldContent, Keys};
use engramdb_engine::hashing::HashSet;
use engramdb_vector::Neighbor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Ids in a block.
const BLOCK: usize = 4096;

type Block = Arc<[AtomicU32]>;

/// The documents of rows. A copy can be read without any lock, while rows are given and taken; it may not
/// know rows that are given after the copy was made.
#[derive(Clone, Default)]
pub struct Owners(Arc<Vec<Option<Block>>>);

impl Owners {
    /// Whether there never was a row.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The document that a vector with this id belongs to.
    #[inline]
    pub fn of(&self, id: u32) -> u32 {
        match self.0.get(id as usize / BLOCK) {
            // The owner's id plus one; 0 for an id that is no row.
            Some(Some(block)) => match block[id as usize % BLOCK].load(Ordering::Relaxed) {
                0 => id,
                owner => owner - 1,
            },
            _ => id,
        }
    }

    pub fn is_row(&self, id: u32) -> bool {
        self.of(id) != id
    }

    fn set(&mut self, row: u32, owner: Option<u32>) {
        let number = row as usize / BLOCK;
        if self.0.get(number).is_none_or(Option::is_none) {
            let blocks = Arc::make_mut(&mut self.0);
            blocks.resize(blocks.len().max(number + 1), None);
            blocks[number] = Some((0..BLOCK).map(|_| AtomicU32::new(0)).collect());
        }
        let block = self.0[number].as_ref().expect("it was made above");
        block[row as usize % BLOCK].store(owner.map_or(0, |owner| owner + 1), Ordering::Relaxed);
    }

    pub fn heap_bytes(&self) -> usize {
        let blocks = self.0.iter().flatten().count();
        self.0.capacity() * size_of::<Option<Block>>() + blocks * BLOCK * size_of::<AtomicU32>()
    }
}

/// The rows of a document by field, for fields with any.
pub type RowLists = Vec<(usize, Box<[u32]>)>;

impl FieldContent {
    /// How many vectors have a row.
    fn rows(&self) -> usize {
        match self {
            FieldContent::Vectors(count) => *count as usize - 1,
            _ => 0,
        }
    }

    pub fn has_rows(&self) -> bool {
        self.rows() > 0
    }
}

impl Keys {
    /// Gives rows to a document of an earlier run. False if it is none, or a row is taken.
    pub fn give_rows(&mut self, id: u32, field: usize, rows: &[u32]) -> bool {
        let is_document = self.key(id).is_some();
        let is_free = |row: u32| (row as usize) < self.slots.len() && self.slots.key(row).is_none();
        let (mut seen, owners) = (HashSet::default(), &self.owners);
        let are_free = rows.iter().all(|&row| is_free(row) && !owners.is_row(row) && seen.insert(row));
        if !is_document || rows.is_empty() || !are_free || !self.rows(id, field).is_empty() {
            return false;
        }
        for &row in rows {
            self.owners.set(row, Some(id));
            self.slots.make_row(row, 0);
        }
        self.count_rows(field, |count| count + rows.len());
        self.set_rows(id, field, rows.into());
        true
    }

    /// Returns the bytes that the list takes.
    pub(super) fn set_rows(&mut self, id: u32, field: usize, rows: Box<[u32]>) -> usize {
        while self.rows.len() <= field {
            self.rows.push(ListColumn::default());
        }
        self.rows[field].set(id, rows)
    }

    pub(super) fn take_rows(&mut self, id: u32) -> RowLists {
        let taken = self.rows.iter_mut().enumerate().map(|(field, lists)| (field, lists.take(id)));
        taken.filter(|(_, rows)| !rows.is_empty()).collect()
    }

    pub(super) fn take_rows_of(&mut self, id: u32, field: usize) -> Box<[u32]> {
        self.rows.get_mut(field).map_or_else(Box::default, |lists| lists.take(id))
    }

    /// The fields in which a document has rows.
    pub fn fields_with_rows(&self) -> impl Iterator<Item = usize> {
        self.row_counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(field, _)| field)
    }

    fn count_rows(&mut self, field: usize, count: impl FnOnce(usize) -> usize) {
        self.row_counts.resize(self.row_counts.len().max(field + 1), 0);
        self.row_counts[field] = count(self.row_counts[field]);
    }

    pub(super) fn rows(&self, id: u32, field: usize) -> &[u32] {
        self.rows.get(field).map_or(&[], |lists| lists.get(id))
    }
}

impl Documents {
    /// Whether a document has, or had, several vectors in a field.
    #[inline]
    pub fn has_rows(&self) -> bool {
        !self.keys.owners.is_empty()
    }

    pub fn owners(&self) -> &Owners {
        &self.keys.owners
    }

    /// How many rows a field has.
    pub fn row_count(&self, field: usize) -> usize {
        self.keys.row_counts.get(field).copied().unwrap_or_default()
    }

    /// How many vectors a document has in a field on average, rounded up; 1 where none has several.
    pub fn vectors_each(&self, field: usize) -> usize {
        1 + self.row_count(field).div_ceil(self.len().max(1))
    }

    /// The rows of a document in a field: those of its vectors after the first one.
    pub fn rows(&self, id: u32, field: usize) -> &[u32] {
        self.keys.rows(id, field)
    }

    /// The ids that the vectors of a document in a field have, if it has any there.
    pub fn vector_ids(&self, id: u32, field: usize) -> impl Iterator<Item = u32> {
        std::iter::once(id).chain(self.rows(id, field).iter().copied())
    }

    /// The id of a document's vector with this number.
    #[inline]
    pub fn vector_id(&self, id: u32, field: usize, number: usize) -> u32 {
        if number == 0 { id } else { self.rows(id, field)[number - 1] }
    }

    /// All documents with rows: the id, the field, and the rows.
    pub fn row_lists(&self) -> impl Iterator<Item = (u32, usize, &[u32])> {
        let fields = if self.has_rows() { self.keys.row_counts.len() } else { 0 };
        let ids = if fields > 0 { self.id_bound() } else { 0 };
        let of_id = move |id| (0..fields).map(move |field| (id, field, self.rows(id, field)));
        (0..ids).flat_map(of_id).filter(|(.., rows)| !rows.is_empty())
    }

    /// The documents of vectors that a search has found at this version, each with its nearest vector, in the
    /// order of the vectors. Leaves out ids that have changed since.
    pub fn add_documents(
        &self,
        version: u64,
        vectors: &[Neighbor],
        known: &mut HashSet<u32>,
        found: &mut Vec<Neighbor>,
    ) {
        for &Neighbor { id, distance } in vectors {
            if self.version_of(id) <= version {
                let id = self.keys.owners.of(id);
                if known.insert(id) {
                    found.push(Neighbor { id, distance });
                }
            }
        }
    }

    /// Takes the rows that documents have given up since the last call, with their fields. Whoever changes
    /// documents removes their vectors under the same lock, because a row is given away again at once.
    pub fn take_freed(&mut self) -> Vec<(usize, u32)> {
        std::mem::take(&mut self.freed)
    }

    /// As many rows as a document's content needs in a field: those that it has, and new ones.
    pub(super) fn fit_rows(
        &mut self,
        before: &mut RowLists,
        (id, field): (u32, usize),
        content: &FieldContent,
    ) -> Box<[u32]> {
        let held = before.iter().position(|(of, _)| *of == field).map(|at| before.swap_remove(at).1);
        let mut rows = held.map_or(Vec::new(), <[u32]>::into_vec);
        while rows.len() > content.rows() {
            let row = rows.pop().expect("there are more than are needed");
            self.free_row(field, row);
        }
        while rows.len() < content.rows() {
            let row = self.free_id();
            self.keys.owners.set(row, Some(id));
            self.keys.slots.make_row(row, self.version);
            self.keys.count_rows(field, |count| count + 1);
            rows.push(row);
        }
        rows.into()
    }

    pub(super) fn free_rows(&mut self, lists: RowLists) {
        for (field, rows) in lists {
            rows.iter().for_each(|&row| self.free_row(field, row));
        }
    }

    fn free_row(&mut self, field: usize, row: u32) {
        self.keys.owners.set(row, None);
        self.keys.count_rows(field, |count| count - 1);
        self.keys.slots.free(row, self.version);
        self.vacant.push(row);
        self.freed.push((field, row));
    }
}
