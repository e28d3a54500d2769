//! EXPLAINSCORE: how a score comes about, in RediSearch's texts.

use super::filter::{Ranges, means_in};
use super::score::{ScoreNode, ScoreTree, ScoredBlock, TermScore};
use super::walk::TextWalk;
use crate::documents::Documents;
use crate::query::scorer::Scorer;
use engramdb_engine::command::Reply;
use std::cell::RefCell;

/// A text, and the texts that it is explained by.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    text: String,
    parts: Vec<Explained>,
}

impl Explained {
    pub fn leaf(text: String) -> Explained {
        Explained { text, parts: Vec::new() }
    }

    pub fn of(text: String, parts: Vec<Explained>) -> Explained {
        Explained { text, parts }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        let parts = self.parts.iter().map(|part| size_of::<Explained>() + part.heap_bytes());
        self.text.len() + parts.sum::<usize>()
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn parts(&self) -> &[Explained] {
        &self.parts
    }

    pub fn write(&self, reply: &mut dyn Reply) {
        if self.parts.is_empty() {
            return reply.simple(&self.text);
        }
        reply.array(2);
        reply.simple(&self.text);
        reply.array(self.parts.len());
        self.parts.iter().for_each(|part| part.write(reply));
    }
}

/// Explains the score of a document that matches. `highest` is the highest score of the answer.
pub fn explain(tree: &ScoreTree, documents: &Documents, ranges: &Ranges, id: u32, highest: f64) -> Explained {
    let about = documents.about(id).score;
    match tree.scorer {
        Scorer::DocScore => return Explained::leaf(format!("Document's score is {about:.2}")),
        Scorer::Hamming => return of_hamming(tree, documents, id),
        _ => {}
    }
    let ids = [id];
    let block = tree.block_of(documents, ranges, &ids);
    let work = Work { tree, documents, ranges, id, block, walk: TextWalk::unbounded().part().into() };
    let (raw, inner) = work.node(&tree.root).unwrap_or_else(|| (0.0, Explained::leaf(String::new())));
    let over = |text: String, inner: Explained| Explained { text, parts: vec![inner] };
    match tree.scorer {
        Scorer::Bm25Std | Scorer::Bm25StdNorm | Scorer::Bm25StdTanh => {
            let whole = about * raw;
            let text = format!("Final BM25 : words BM25 {raw:.2} * document score {about:.2}");
            let plain = over(text, inner);
            match tree.scorer {
                Scorer::Bm25StdTanh => {
                    let factor = tree.tanh_factor;
                    let text = format!(
                        "Final Normalized BM25 : tanh(stretch factor 1/{factor} * Final BM25 {whole:.2})"
                    );
                    over(text, plain)
                }
                Scorer::Bm25StdNorm => {
                    let share = if highest == 0.0 { whole } else { whole / highest };
                    let text = format!(
                        "Final BM25STD.NORM: {share:.2} = Original Score: {whole:.2} / Max Score: {highest:.2}"
                    );
                    over(text, plain)
                }
                _ => plain,
            }
        }
        Scorer::Bm25 => {
            let slop = work.slop();
            over(format!("Final BM25 : words BM25 {raw:.2} * document score {about:.2} / slop {slop}"), inner)
        }
        Scorer::TfIdf | Scorer::TfIdfDocNorm => {
            let norm = tree.length(documents, id);
            match norm {
                _ if about == 0.0 => Explained::leaf("Document score is 0".to_owned()),
                0 if tree.scorer == Scorer::TfIdf => {
                    Explained::leaf("Document max frequency is 0".to_owned())
                }
                0 => Explained::leaf("Document length is 0".to_owned()),
                _ => {
                    let slop = work.slop();
                    let text = format!(
                        "Final TFIDF : words TFIDF {raw:.2} * document score {about:.2} / norm {norm} / slop {slop}"
                    );
                    over(text, inner)
                }
            }
        }
        _ => inner,
    }
}

fn of_hamming(tree: &ScoreTree, documents: &Documents, id: u32) -> Explained {
    let (bits, result) = tree.hamming(documents, id);
    let length = tree.payload_length();
    Explained::leaf(match bits {
        None => "Payloads provided to scorer vary in length".to_owned(),
        Some(bits) => {
            format!("String length is {length}. Bit count is {bits}. Result is (1 / count + 1) = {result:.2}")
        }
    })
}

struct Work<'w> {
    tree: &'w ScoreTree,
    documents: &'w Documents,
    ranges: &'w Ranges,
    id: u32,
    /// Of the document alone.
    block: ScoredBlock<'w>,
    walk: RefCell<TextWalk>,
}

impl Work<'_> {
    /// By how much the score is divided because words are far from each other.
    fn slop(&self) -> u32 {
        let distance = self.tree.distance(self.documents);
        let walk = &mut *self.walk.borrow_mut();
        distance.map_or(1, |mut distance| distance.divisor(self.documents, self.ranges, self.id, walk))
    }

    /// The score of a node and its explanation; `None` if the document does not match it.
    fn node(&self, node: &ScoreNode) -> Option<(f64, Explained)> {
        let is_met = |node| means_in(self.documents, self.ranges, node, self.id, &mut self.walk.borrow_mut());
        Some(match node {
            ScoreNode::Term(term) => return self.term(term),
            ScoreNode::First { weight, terms } => {
                let found = terms.iter().find_map(|term| self.term(term))?;
                self.group(*weight, vec![found], false)
            }
            ScoreNode::And { weight, parts, check, .. } => {
                let found: Option<Vec<_>> = parts.iter().map(|part| self.node(part)).collect();
                let found = found?;
                if !check.as_ref().is_none_or(is_met) {
                    return None;
                }
                self.group(*weight, found, false)
            }
            ScoreNode::Or { weight, parts } => {
                let found: Vec<_> = parts.iter().filter_map(|part| self.node(part)).collect();
                if found.is_empty() {
                    return None;
                }
                self.group(*weight, found, true)
            }
            ScoreNode::Optional(part) => self.node(part).unwrap_or_else(|| self.other(0.0, 1)),
            ScoreNode::All { weight } => self.all(*weight),
            ScoreNode::Other { weight, frequency, node } => {
                if !is_met(node) {
                    return None;
                }
                self.other(*weight, *frequency)
            }
        })
    }

    fn group(&self, weight: f64, found: Vec<(f64, Explained)>, is_union: bool) -> (f64, Explained) {
        let joined = |sum: f64, own: f64| if is_union { self.tree.joined(sum, own) } else { sum + own };
        let sum = found
            .iter()
            .map(|(score, _)| *score)
            .fold(f64::NAN, |sum, own| if sum.is_nan() { own } else { joined(sum, own) });
        let sum = if sum.is_nan() { 0.0 } else { sum };
        let text = match self.tree.scorer {
            Scorer::TfIdf | Scorer::TfIdfDocNorm => {
                format!("(Weight {weight:.2} * total children TFIDF {sum:.2})")
            }
            Scorer::DisMax => {
                format!("{:.2} = Weight {weight:.2} * children DISMAX {sum:.2}", weight * sum)
            }
            _ => format!("(Weight {weight:.2} * children BM25 {sum:.2})"),
        };
        (weight * sum, Explained { text, parts: found.into_iter().map(|(_, part)| part).collect() })
    }

    fn term(&self, term: &TermScore) -> Option<(f64, Explained)> {
        let frequency = term.frequencies(&self.block)[0];
        if frequency == 0 {
            return None;
        }
        let length = self.documents.texts().length(self.id).words;
        let score = self.tree.of_term(term, frequency, self.tree.statistics.norm(length));
        let weight = term.weight;
        let text = match self.tree.scorer {
            Scorer::TfIdf | Scorer::TfIdfDocNorm => {
                format!("(TFIDF {score:.2} = Weight {weight:.2} * TF {frequency} * IDF {:.2})", term.idf)
            }
            Scorer::Bm25 => self.of_bm25(score, weight, Some(term.idf), frequency),
            Scorer::DisMax => of_dismax(score, weight, frequency),
            _ => self.of_std(&String::from_utf8_lossy(term.shown()), score, weight, term.idf_std, frequency),
        };
        Some((score, Explained::leaf(text)))
    }

    fn all(&self, weight: f64) -> (f64, Explained) {
        let length = self.documents.texts().length(self.id).words;
        match self.tree.scorer {
            Scorer::Bm25Std | Scorer::Bm25StdNorm | Scorer::Bm25StdTanh => {
                let score = self.tree.of_all(weight, self.tree.statistics.norm(length));
                (score, Explained::leaf(self.of_std("*", score, weight, 1.0, 1)))
            }
            _ => self.other(weight, 1),
        }
    }

    fn other(&self, weight: f64, frequency: u32) -> (f64, Explained) {
        let score = self.tree.of_other(weight, frequency);
        let text = match self.tree.scorer {
            Scorer::TfIdf | Scorer::TfIdfDocNorm => {
                format!("(TFIDF {score:.2} = Weight {weight:.2} * Frequency {frequency})")
            }
            Scorer::Bm25 if frequency == 0 => "Frequency 0 -> value 0".to_owned(),
            Scorer::Bm25 => self.of_bm25(score, weight, None, frequency),
            Scorer::DisMax => of_dismax(score, weight, frequency),
            _ => "Irrelevant token -> score is 0".to_owned(),
        };
        (score, Explained::leaf(text))
    }

    fn of_bm25(&self, score: f64, weight: f64, idf: Option<f64>, frequency: u32) -> String {
        let average = self.tree.statistics.average_length;
        let idf = idf.map_or(String::new(), |idf| format!(" * IDF {idf:.2}"));
        format!(
            "({score:.2} = Weight {weight:.2}{idf} * F {frequency} / (F {frequency} + k1 1.2 * (1 - b 0.5 + b 0.5 * \
             Average Len {average:.2})))"
        )
    }

    fn of_std(&self, name: &str, score: f64, weight: f64, idf: f64, frequency: u32) -> String {
        let average = self.tree.statistics.average_length;
        let length = self.documents.texts().length(self.id).words;
        let frequency = f64::from(frequency);
        format!(
            "{name}: ({score:.2} = Weight {weight:.2} * IDF {idf:.2} * (F {frequency:.2} * (k1 1.2 + 1)) / (F \
             {frequency:.2} + k1 1.2 * (1 - b 0.75 + b 0.75 * Doc Len {length} / Average Doc Len {average:.2})))"
        )
    }
}

fn of_dismax(score: f64, weight: f64, frequency: u32) -> String {
    format!("DISMAX {score:.2} = Weight {weight:.2} * Frequency {frequency}")
}
