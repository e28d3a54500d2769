//! One audit: a search's rows beside the exact answer.

use super::Sample;
use crate::documents::ids::IdSet;
use crate::vectors::live::{MissCause, Tally};
use crate::vectors::{Question, VectorField};
use engramdb_vector::Neighbor;
use roaring::RoaringBitmap;

/// Documents that may have changed since the search. More, and what is left of the answer says little.
const CHANGES_MAX: u64 = 4_096;

/// How much farther than the last wanted row a row may be, relative to it, and still be as good: rounding.
const TIED: f64 = 1e-6;

/// The wide beam of a diagnosis, relative to the search's, and at least.
const WIDE_BEAM: usize = 10;
const WIDE_BEAM_MIN: usize = 1_000;

pub enum Audit {
    Done(Tally),
    /// Too much has changed since the search.
    Stale,
    /// `goes_on` said no.
    GivenUp,
}

/// Answers a sample exactly, and compares. `goes_on` is asked every fraction of a millisecond.
pub fn audit(sample: &Sample, goes_on: &dyn Fn() -> bool) -> Audit {
    let vectors = sample.vectors();
    let Some((before, id_bound)) = sample.changed() else { return Audit::Stale };
    let among = sample.among.as_ref().map(IdSet::new);
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
    /// The documents that changed since the search, and the bound of ids; `None` if there are too many.
    fn changed(&self) -> Option<(RoaringBitmap, u32)> {
        let documents = self.index.documents.read();
        let is_little = documents.version() - self.version <= CHANGES_MAX;
        is_little.then(|| (documents.changed_since(self.version), documents.id_bound()))
    }
}

/// What answers are measured by.
struct Comparison<'a> {
    changed: &'a RoaringBitmap,
    /// Rows that an answer should have of documents that did not change.
    wanted: usize,
    /// As far as the last of them.
    farthest: f64,
}

impl<'a> Comparison<'a> {
    /// `None` if there is nothing to be wanted.
    fn new(sample: &Sample, mut exact: Vec<Neighbor>, changed: &'a RoaringBitmap) -> Option<Comparison<'a>> {
        exact.retain(|row| !changed.contains(row.id));
        // The ranks that changed documents had among the true k are unknown; their ranks in the answer are
        // used instead.
        let gone = sample.rows.iter().filter(|row| changed.contains(row.id)).count();
        let wanted = exact.len().min(sample.k.saturating_sub(gone));
        let last = exact.get(wanted.checked_sub(1)?)?.distance;
        Some(Comparison { changed, wanted, farthest: last + last.abs() * TIED })
    }

    /// How many of the wanted rows an answer has.
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
        // Half of all nodes, or there would be a scan, not a walk.
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
