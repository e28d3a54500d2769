//! Expands the words of a query to what else a document may have instead.
//!
//! A word is expanded to its synonyms, to what sounds alike (PHONETIC), to what has the same stem, and to its
//! stem as a word, as in RediSearch; EXPANDER names one of these. Exact phrases, negated and optional parts
//! are not expanded. RediSearch's options about the nearness of all words of a request (SLOP, INORDER) become
//! attributes of the intersections here.

use super::attributes::{Attributed, QueryAttributes};
use super::open::Slot;
use super::parser::SIZE_MAX;
use super::{Node, Pattern, TextMatch};
use crate::documents::texts::{sound_term, stem_term};
use crate::error::{self, SearchError};
use crate::schema::language::Language;
use crate::schema::sound::sound;
use crate::schema::synonyms::SharedSynonyms;
use crate::schema::{Definition, FieldDefinition, FieldKind};
use std::sync::Arc;

/// What words are expanded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expander {
    synonyms: bool,
    sounds: Sounds,
    stems: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sounds {
    None,
    /// Those of PHONETIC fields.
    OfFields,
    /// Of any field; only those of PHONETIC fields have documents.
    All,
}

/// How the words of a request are expanded.
#[derive(Clone, Debug, Default)]
pub struct Expansion {
    pub language: Language,
    pub expander: Expander,
    /// SLOP, for intersections that do not say it themselves.
    pub slop: Option<i32>,
    /// INORDER
    pub in_order: bool,
}

impl Default for Expander {
    fn default() -> Expander {
        Expander { synonyms: true, sounds: Sounds::OfFields, stems: true }
    }
}

impl Expander {
    /// VERBATIM, and any name that RediSearch does not know: words are not expanded.
    pub const NONE: Expander = Expander { synonyms: false, sounds: Sounds::None, stems: false };

    /// The expander of this name, which is case-sensitive.
    pub fn named(name: &[u8]) -> Expander {
        match name {
            b"DEFAULT" => Expander::default(),
            b"SYNONYM" => Expander { synonyms: true, ..Expander::NONE },
            b"PHONETIC" => Expander { sounds: Sounds::All, ..Expander::NONE },
            b"SBSTEM" => Expander { stems: true, ..Expander::NONE },
            _ => Expander::NONE,
        }
    }
}

impl Expansion {
    /// Fails if synonyms would make the tree too large.
    pub fn check(&self, definition: &Definition, node: &Node) -> Result<(), SearchError> {
        if !self.expander.synonyms || definition.synonyms.is_empty() {
            return Ok(());
        }
        let mut left = SIZE_MAX;
        fn has_room(node: &Node, synonyms: &SharedSynonyms, left: &mut usize) -> bool {
            match node {
                Node::And(nodes) | Node::Or(nodes) => nodes.iter().all(|node| has_room(node, synonyms, left)),
                Node::With(with) => has_room(&with.node, synonyms, left),
                Node::Text { fields, text: TextMatch::Term(Pattern::Exact(word)) } => {
                    let size = synonyms.count_max(word).saturating_mul(1 + fields.len());
                    *left = left.saturating_sub(size);
                    *left > 0
                }
                _ => true,
            }
        }
        match has_room(node, &definition.synonyms, &mut left) {
            true => Ok(()),
            false => Err(error::query_too_large(SIZE_MAX)),
        }
    }

    /// The tree with its words expanded.
    pub fn apply(&self, definition: &Definition, node: Node) -> Node {
        match node {
            Node::And(nodes) => self.intersection(definition, nodes, QueryAttributes::default()),
            Node::Or(nodes) => Node::Or(self.each(definition, nodes)),
            Node::With(with) => {
                let Attributed { node, attributes } = *with;
                match node {
                    Node::And(nodes) => self.intersection(definition, nodes, attributes),
                    Node::Text { fields, text: TextMatch::Term(Pattern::Exact(word)) } => {
                        let hears = attributes.phonetic.as_ref().is_none_or(|phonetic| *phonetic.given());
                        let expanded = self.expanded(definition, &fields, &word, hears);
                        let node = Node::Text { fields, text: TextMatch::Term(Pattern::Exact(word)) };
                        union_of(Node::With(Box::new(Attributed { node, attributes })), expanded)
                    }
                    node => {
                        let node = self.apply(definition, node);
                        Node::With(Box::new(Attributed { node, attributes }))
                    }
                }
            }
            Node::Text { fields, text: TextMatch::Term(Pattern::Exact(word)) } => {
                let expanded = self.expanded(definition, &fields, &word, true);
                union_of(Node::Text { fields, text: TextMatch::Term(Pattern::Exact(word)) }, expanded)
            }
            node => node,
        }
    }

    fn each(&self, definition: &Definition, nodes: Vec<Node>) -> Vec<Node> {
        nodes.into_iter().map(|node| self.apply(definition, node)).collect()
    }

    fn intersection(
        &self,
        definition: &Definition,
        nodes: Vec<Node>,
        mut attributes: QueryAttributes,
    ) -> Node {
        let is_own = attributes.slop.is_some() || attributes.in_order.is_some() || attributes.weight() != 1.0;
        if attributes.slop.as_ref().is_none_or(|slop| !slop.is_open() && *slop.given() < 0) {
            attributes.slop = self.slop.map(Slot::Given).or(attributes.slop);
        }
        if self.in_order {
            attributes.in_order = Some(Slot::Given(true));
        }
        attributes.is_of_request = !is_own && (attributes.slop.is_some() || attributes.in_order.is_some());
        Node::And(self.each(definition, nodes)).with(attributes)
    }

    /// The terms that a word in these fields is expanded to; to what it sounds like if it `hears`.
    fn expanded(
        &self,
        definition: &Definition,
        fields: &Arc<[usize]>,
        word: &[u8],
        hears: bool,
    ) -> Vec<Node> {
        if self.expander == Expander::NONE || word.is_empty() {
            return Vec::new();
        }
        let node = |fields: &Arc<[usize]>, term: Vec<u8>| Node::Text {
            fields: fields.clone(),
            text: TextMatch::Expanded(term),
        };
        let synonyms = if self.expander.synonyms { definition.synonyms.of(word) } else { Vec::new() };
        let mut nodes: Vec<Node> = synonyms.into_iter().map(|term| node(fields, term)).collect();
        let sounds = match self.expander.sounds {
            Sounds::None => false,
            Sounds::OfFields => has_sounds(definition, fields),
            Sounds::All => true,
        };
        if hears && sounds {
            nodes.extend(sound(word).map(|sound| node(fields, sound_term(&sound))));
        }
        let stem = self.expander.stems.then(|| self.language.stem(word)).flatten();
        let Some(stem) = stem else { return nodes };
        let Some(fields) = stemmed(definition, fields) else { return nodes };
        nodes.push(node(&fields, stem_term(&stem)));
        if stem != word {
            nodes.push(node(&fields, stem));
        }
        nodes
    }
}

/// Whether words of one of these fields are also found by what they sound like.
pub fn has_sounds(definition: &Definition, fields: &[usize]) -> bool {
    let hears =
        |&field: &usize| matches!(definition.fields[field].kind, FieldKind::Text { phonetic: true, .. });
    fields.iter().any(hears)
}

/// Those of the fields whose words are indexed by their stems too. All TEXT fields are taken as they are, as
/// in RediSearch. `None` if there are none.
fn stemmed(definition: &Definition, fields: &Arc<[usize]>) -> Option<Arc<[usize]>> {
    let is_text = |field: &&FieldDefinition| matches!(field.kind, FieldKind::Text { .. });
    if fields.len() == definition.fields.iter().filter(is_text).count() {
        return Some(fields.clone());
    }
    let is_stemmed =
        |&field: &usize| matches!(definition.fields[field].kind, FieldKind::Text { no_stem: false, .. });
    let stemmed: Arc<[usize]> = fields.iter().copied().filter(is_stemmed).collect();
    (!stemmed.is_empty()).then_some(stemmed)
}

fn union_of(word: Node, expanded: Vec<Node>) -> Node {
    if expanded.is_empty() {
        return word;
    }
    Node::Or([word].into_iter().chain(expanded).collect())
}
