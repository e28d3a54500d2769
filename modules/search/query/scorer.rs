//! The functions that compute the score of a document, by their names in SCORER.

use crate::error::{Kind, SearchError};

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Scorer {
    /// Okapi BM25.
    #[default]
    Bm25Std,
    /// BM25STD divided by the highest score of the answer.
    Bm25StdNorm,
    /// The hyperbolic tangent of BM25STD, which is divided by BM25STD_TANH_FACTOR before.
    Bm25StdTanh,
    /// RediSearch's older variant of BM25: without the document's length.
    Bm25,
    TfIdf,
    TfIdfDocNorm,
    DisMax,
    DocScore,
    Hamming,
}

/// The default of BM25STD_TANH_FACTOR.
pub const TANH_FACTOR: u32 = 4;

const SCORERS: &[(&[u8], Scorer)] = &[
    (b"BM25STD", Scorer::Bm25Std),
    (b"BM25STD.NORM", Scorer::Bm25StdNorm),
    (b"BM25STD.TANH", Scorer::Bm25StdTanh),
    (b"BM25", Scorer::Bm25),
    (b"TFIDF", Scorer::TfIdf),
    (b"TFIDF.DOCNORM", Scorer::TfIdfDocNorm),
    (b"DISMAX", Scorer::DisMax),
    (b"DOCSCORE", Scorer::DocScore),
    (b"HAMMING", Scorer::Hamming),
];

impl Scorer {
    /// The scorer of this name, whose case matters.
    pub fn named(name: &[u8]) -> Result<Scorer, SearchError> {
        let found = SCORERS.iter().find(|(known, _)| *known == name);
        found.map(|(_, scorer)| *scorer).ok_or_else(|| Kind::NoScorer.of(name))
    }

    /// Whether scores depend on how near to each other the words of the query are in the document.
    pub fn minds_nearness(self) -> bool {
        matches!(self, Scorer::TfIdf | Scorer::TfIdfDocNorm | Scorer::Bm25)
    }
}
