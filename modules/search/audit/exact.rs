//! One audit: compares a search's rows with the exact answer.

use super::Sample;
use crate::vectors::live::{MissCause, Tally};
use crate::vectors::{Question, VectorField};
use engramdb_vector::Neighbor;
use roaring::RoaringBitmap;

/// The most changes since the search: with more, too few rows of the answer remain to compare.
const CHANGES_MAX: u64 = 4_096;

/// The relative difference of distances up to which a row ties with the last wanted one: rounding errors.
const TIED: f64 = 1e-6;

/// The wide beam of a diagnosis: this many times the search's, and at least `WIDE_BEAM_MIN`.
const WIDE_BEAM: usize = 10;
const WIDE_BEAM_MIN: usize = 1_000;

pub enum Audit {
    Done(Tally),
    /// Too many documents have changed since the search.
    Stale,
    /// `goes_on` returned false.
    GivenUp,
}

/// Answers a sample exactly, and compares. Calls `goes_on` every fraction of a millisecond; false ends the
/// audit.
pub fn audit(sample: &Sample, goes_on: &dyn Fn() -> bool) -> Audit {
    let vectors = sample.vectors();
    let Some((before, id_bound)) = sample.changed() else { return Audit::Stale };
    let among = sample.among.as_ref().map(|among| sample.index.vector_set(sample.field, among));
    let is_late = || !goes_on();
    let question = Question { query: &sample.query, filter: among.as_ref(), id_bound, is_late: &is_late };
    let Some(exact) = vectors.nearest_exactly(&question, sample.k, &before) else { return Audit::GivenUp };
    let Some((changed, _)) = sample.changed() else { return Audit::Stale };
    let Some(comparison) = Comparison::new(sample, exact, &changed) else { return Audit::Stale };
    let found = comparison.found_in(&sample.rows);
    let missed = if found < comparison.wanted {
        diagnose(sample, vectors, &question, &comparison, found)
    } else {
        Default::default()
    };
    let count = |rows: usize| rows as u64;
    Audit::Done(Tally {
        samples: 1,
        coarse: u64::from(sample.too_coarse),
        wanted: count(comparison.wanted),
        found: count(found),
        missed: missed.map(count),
    })
}

impl Sample {
    /// The ids of vectors that may have changed since the search, and the bound of ids; `None` if there are
    /// too many.
    fn changed(&self) -> Option<(RoaringBitmap, u32)> {
        let documents = self.index.documents.read();
        let is_little = documents.version() - self.version <= CHANGES_MAX;
        if !is_little {
            return None;
        }
        let mut changed = documents.changed_since(self.version);
        if documents.has_rows() {
            let mut rows = Vec::new();
            changed.iter().for_each(|id| rows.extend(documents.rows(id, self.field)));
            // Rows that the search found and that were given up since.
            let found = self.rows.iter().map(|row| row.id);
            rows.extend(found.filter(|&id| documents.version_of(id) > self.version));
            changed.extend(rows);
        }
        Some((changed, documents.id_bound()))
    }
}

/// The exact answer, with which answers are compared.
struct Comparison<'a> {
    changed: &'a RoaringBitmap,
    /// The number of rows of unchanged documents that an answer should have.
    wanted: usize,
    /// The distance of the last of them.
    farthest: f64,
}

impl<'a> Comparison<'a> {
    /// `None` if no rows are wanted.
    fn new(sample: &Sample, mut exact: Vec<Neighbor>, changed: &'a RoaringBitmap) -> Option<Comparison<'a>> {
        exact.retain(|row| !changed.contains(row.id));
        // The ranks that changed documents had among the true k are unknown; their ranks in the answer are
        // used instead.
        let gone = sample.rows.iter().filter(|row| changed.contains(row.id)).count();
        let wanted = exact.len().min(sample.k.saturating_sub(gone));
        let last = exact.get(wanted.checked_sub(1)?)?.distance;
        Some(Comparison { changed, wanted, farthest: last + last.abs() * TIED })
    }

    /// The number of wanted rows in an answer.
    fn found_in(&self, rows: &[Neighbor]) -> usize {
        let is_wanted = |row: &&Neighbor| row.distance <= self.farthest && !self.changed.contains(row.id);
        rows.iter().filter(is_wanted).count().min(self.wanted)
    }
}

/// Rows that the search missed, by cause.
fn diagnose(
    sample: &Sample,
    vectors: &VectorField,
    question: &Question<'_>,
    comparison: &Comparison<'_>,
    found: usize,
) -> [usize; MissCause::ALL.len()] {
    let found_with = |ef: usize| {
        let rows = vectors.nearest_by_vectors(question, sample.k, ef);
        comparison.found_in(&rows.neighbors)
    };
    let wanted = comparison.wanted;
    let by_vectors = found_with(sample.ef).max(found);
    let by_wide_beam = match by_vectors < wanted {
        // At most half of all nodes: for more, the index would scan instead of walk.
        true => {
            let wide = (sample.ef.max(sample.k) * WIDE_BEAM).max(WIDE_BEAM_MIN);
            found_with(wide.min(vectors.structure().index().len().saturating_sub(1) / 2)).max(by_vectors)
        }
        false => wanted,
    };
    let mut missed = [0; MissCause::ALL.len()];
    missed[MissCause::Codes as usize] = by_vectors - found;
    missed[MissCause::Beam as usize] = by_wide_beam - by_vectors;
    missed[MissCause::Graph as usize] = wanted - by_wide_beam;
    missed
}
