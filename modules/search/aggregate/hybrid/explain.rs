//! EXPLAINSCORE of FT.HYBRID: how a fused score comes about, in RediSearch's texts.

use super::words::{Fusion, VectorMethod, VectorPart};
use crate::number::format_exactly;
use crate::query::scorer::Scorer;
use crate::search::Explained;
use engramdb_engine::types::parse_double;

/// What the explanations of all rows have in common.
pub struct FusionTexts {
    fusion: Fusion,
    window: usize,
    scorer: &'static str,
    /// The vector search, as the text names it.
    branch: String,
    is_range: bool,
}

/// What a document has of one of the searches: its score there, and its rank, from 1 on.
#[derive(Clone, Copy)]
pub struct RankedPart {
    pub rank: usize,
    pub score: f64,
}

impl FusionTexts {
    pub fn new(fusion: Fusion, window: usize, scorer: Scorer, vector: &VectorPart<'_>) -> FusionTexts {
        let (branch, is_range) = match &vector.method {
            VectorMethod::Knn { .. } => ("vector branch (KNN)".to_owned(), false),
            VectorMethod::Range { radius, epsilon } => {
                let radius = parse_double(radius).unwrap_or_default();
                let epsilon = epsilon.map_or(String::new(), |epsilon| {
                    format!(", epsilon={}", String::from_utf8_lossy(epsilon))
                });
                (format!("vector branch (RANGE: radius={radius:.4}{epsilon})"), true)
            }
        };
        FusionTexts { fusion, window, scorer: scorer.name(), branch, is_range }
    }

    pub fn explain(
        &self,
        score: f64,
        text: Option<(RankedPart, Option<Box<Explained>>)>,
        vector: Option<RankedPart>,
    ) -> Explained {
        let terms =
            [self.term("text", 0, text.as_ref().map(|(part, _)| *part)), self.term("vector", 1, vector)];
        let final_line = format!("final score: {} = {}", terms.join(" + "), &*format_exactly(score));
        let envelope = match self.fusion {
            Fusion::ReciprocalRank { constant } => {
                format!("Hybrid score (RRF: window={}, constant={constant:.2})", self.window)
            }
            Fusion::Linear { alpha, beta } => {
                format!("Hybrid score (LINEAR: alpha={alpha:.4}, beta={beta:.4}, window={})", self.window)
            }
        };
        let parts = vec![self.of_text(text), self.of_vector(vector)];
        Explained::of(final_line, vec![Explained::of(envelope, parts)])
    }

    /// A term of the sum.
    fn term(&self, name: &str, place: usize, part: Option<RankedPart>) -> String {
        match (part, self.fusion) {
            (None, _) => format!("0 [{name}: no match]"),
            (Some(part), Fusion::ReciprocalRank { constant }) => {
                format!("1 / (constant {constant:.2} + rank {})", part.rank)
            }
            (Some(part), Fusion::Linear { alpha, beta }) => {
                format!("{:.4} * {:.4}", [alpha, beta][place], part.score)
            }
        }
    }

    fn of_text(&self, text: Option<(RankedPart, Option<Box<Explained>>)>) -> Explained {
        let is_ranked = matches!(self.fusion, Fusion::ReciprocalRank { .. });
        let Some((part, inner)) = text else {
            let name = if is_ranked { "rank" } else { "contribution" };
            return Explained::leaf(format!("text {name} = <no match>"));
        };
        let mut parts = Vec::new();
        let line = match self.fusion {
            Fusion::ReciprocalRank { .. } => format!("text rank = {}", part.rank),
            Fusion::Linear { alpha, .. } => {
                parts.push(Explained::leaf(format!("normalized text score = {:.4}", part.score)));
                contribution("text", alpha, part.score)
            }
        };
        parts.extend(inner.map(|inner| *inner));
        let scorer = Explained::of(format!("Text scorer: {}", self.scorer), parts);
        Explained::of(line, vec![scorer])
    }

    fn of_vector(&self, vector: Option<RankedPart>) -> Explained {
        let mut parts = Vec::new();
        if self.is_range {
            parts.push(format!("matched within radius = {}", vector.is_some()));
        }
        match (self.fusion, vector) {
            (Fusion::ReciprocalRank { .. }, None) => parts.push("vector rank = <no match>".to_owned()),
            (Fusion::ReciprocalRank { .. }, Some(part)) => parts.push(format!("vector rank = {}", part.rank)),
            (Fusion::Linear { .. }, None) => parts.push("vector contribution = <no match>".to_owned()),
            (Fusion::Linear { beta, .. }, Some(part)) => {
                parts.push(contribution("vector", beta, part.score));
                parts.push(format!("normalized vector score = {:.4}", part.score));
            }
        }
        Explained::of(self.branch.clone(), parts.into_iter().map(Explained::leaf).collect())
    }
}

fn contribution(name: &str, weight: f64, score: f64) -> String {
    format!("{name} contribution = {weight:.4} * {score:.4} = {:.4}", weight * score)
}
