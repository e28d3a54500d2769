//! What reading a document costs, so that little of it is done under the keyspace's lock.
//!
//! A row shows the values at some paths of its document. A small document is read where it is. A path through
//! a large one, or a path that may visit a value again and again, is walked without the lock, over the
//! document as it was at the look ([`DocumentSource::held`]).

use engramdb_engine::keyspace::{DocumentSource, DocumentType, PathCost};

/// The bytes of documents that are walked over under one hold of the lock: some tenths of a millisecond.
pub const HOLD_BYTES: usize = 256 << 10;
/// The bytes of one document that are walked over under a hold in which many documents are read.
pub const DOCUMENT_BYTES: usize = 16 << 10;
/// The bytes of documents that are held at a time, beyond the first one. As long as they do not change, they
/// take no memory of their own.
pub const HELD_BYTES: usize = 16 << 20;

/// What parsing a path and following it costs, in bytes that are walked over.
const PATH_BYTES: usize = 64;
/// Values of no more bytes need not be measured.
const SMALL_BYTES: usize = 4 << 10;
/// The most paths whose values are measured.
const MEASURED_MAX: usize = 16;

/// The paths that are read of each document.
#[derive(Debug, Default)]
pub struct ReadWeight {
    paths: usize,
    /// Those that lead to one value at most.
    lookups: Vec<Vec<u8>>,
    /// How often the others walk over the document; `None` if that is not known.
    walks: Option<usize>,
}

impl ReadWeight {
    /// Of reading each of these paths `times` times, and the whole document if the rows show it.
    pub fn new<'p>(
        documents: DocumentType,
        paths: impl Iterator<Item = &'p [u8]>,
        (times, shows_whole): (usize, bool),
    ) -> ReadWeight {
        let mut weight = ReadWeight { walks: Some(usize::from(shows_whole)), ..ReadWeight::default() };
        for path in paths {
            weight.paths += times;
            match documents.path_cost(path) {
                PathCost::Lookup => weight.lookups.push(path.to_vec()),
                PathCost::Walks(count) => weight.walks = weight.walks.map(|walks| walks + times * count),
                PathCost::Unknown => weight.walks = None,
            }
        }
        weight
    }

    /// The bytes that are walked over to read a document, at the most and about.
    pub fn of(&self, document: &dyn DocumentSource) -> usize {
        let bytes = document.walked_bytes();
        let Some(walks) = self.walks else { return usize::MAX };
        let fixed = (self.paths * PATH_BYTES).saturating_add(bytes.saturating_mul(walks));
        let all = bytes.saturating_mul(self.lookups.len());
        let of_lookups = if all <= SMALL_BYTES || self.lookups.len() > MEASURED_MAX {
            all
        } else {
            // Finding a value passes over the others without reading them.
            let one = |path: &Vec<u8>| document.bytes_at(path) + bytes.min(DOCUMENT_BYTES) / 16;
            self.lookups.iter().map(one).sum()
        };
        fixed.saturating_add(of_lookups)
    }
}

/// What one hold of the lock may still read in place.
#[derive(Clone, Copy, Debug)]
pub struct HoldBudget(usize);

impl Default for HoldBudget {
    fn default() -> HoldBudget {
        HoldBudget(HOLD_BYTES)
    }
}

impl HoldBudget {
    /// Whether a document of this weight is read in place.
    pub fn takes(&mut self, weight: usize) -> bool {
        let takes = weight <= DOCUMENT_BYTES && weight <= self.0;
        self.0 -= if takes { weight } else { 0 };
        takes
    }
}
