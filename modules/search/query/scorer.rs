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

/// By the numbers of `Scorer::ALL`.
pub const SCORER_NAMES: &[&str] = &[
    "BM25STD",
    "BM25STD.NORM",
    "BM25STD.TANH",
    "BM25",
    "TFIDF",
    "TFIDF.DOCNORM",
    "DISMAX",
    "DOCSCORE",
    "HAMMING",
];

impl Scorer {
    pub const ALL: [Scorer; 9] = [
        Scorer::Bm25Std,
        Scorer::Bm25StdNorm,
        Scorer::Bm25StdTanh,
        Scorer::Bm25,
        Scorer::TfIdf,
        Scorer::TfIdfDocNorm,
        Scorer::DisMax,
        Scorer::DocScore,
        Scorer::Hamming,
    ];

    /// The scorer of this name, whose case matters.
    pub fn named(name: &[u8]) -> Result<Scorer, SearchError> {
        let found = SCORER_NAMES.iter().position(|known| known.as_bytes() == name);
        found.map(|number| Scorer::ALL[number]).ok_or_else(|| Kind::NoScorer.of(name))
    }

    pub fn name(self) -> &'static str {
        let number = Scorer::ALL.iter().position(|scorer| *scorer == self);
        SCORER_NAMES[number.expect("all are listed")]
    }

    /// Whether scores depend on how near to each other the words of the query are in the document.
    pub fn minds_nearness(self) -> bool {
        matches!(self, Scorer::TfIdf | Scorer::TfIdfDocNorm | Scorer::Bm25)
    }
}
