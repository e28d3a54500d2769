//! FT.EXPLAIN: a query as a tree, in RediSearch's format.
//!
//! Equivalent forms have the same tree: tags of one field joined by `|` inside or outside the braces, and a
//! word in all TEXT fields or in the only one.

use crate::documents::texts::shown_term;
use crate::number::format_number;
use crate::query::{Attributed, Knn, Node, Pattern, Policy, Query, TextMatch, VectorRange};
use crate::schema::{Definition, FieldDefinition, FieldKind};
use std::fmt::Write;
use std::sync::Arc;

/// The tree, line by line. `words` are the request's words, which contain the names of the parameters.
pub fn explain(definition: &Definition, query: &Query, words: &[&[u8]]) -> String {
    let mut tree = Tree { definition, words, text: String::new() };
    match &query.knn {
        Some(knn) => tree.knn(knn, &query.filter),
        None => tree.node(&query.filter, 0),
    }
    tree.text
}

struct Tree<'a> {
    definition: &'a Definition,
    words: &'a [&'a [u8]],
    text: String,
}

impl Tree<'_> {
    fn knn(&mut self, knn: &Knn, filter: &Node) {
        self.text.push_str("VECTOR {");
        if *filter != Node::All {
            self.text.push('\n');
            self.node(filter, 1);
            self.text.push_str("} => {");
        }
        let (vector, field) = (self.parameter(knn.word), self.name(knn.field));
        _ = write!(
            self.text,
            "K={} nearest vectors to `${vector}` in vector index associated with field @{field}",
            knn.k
        );
        if let Some(ef_runtime) = knn.ef_runtime {
            _ = write!(self.text, ", EF_RUNTIME = {ef_runtime}");
        }
        if knn.policy == Some(Policy::Exact) {
            self.text.push_str(", HYBRID_POLICY = ADHOC_BF");
        } else if let Some(recall) = knn.recall {
            _ = write!(self.text, ", RECALL = {recall}");
        }
        _ = writeln!(self.text, ", yields distance as `{}`}}", lossy(&knn.alias));
    }

    fn range(&mut self, range: &VectorRange) {
        let (vector, field) = (self.parameter(range.word), self.name(range.field));
        _ = write!(
            self.text,
            "VECTOR {{Vectors that are within {} distance radius from `${vector}` in vector index associated with field \
             @{field}",
            significant(range.radius)
        );
        if let Some(epsilon) = range.epsilon {
            _ = write!(self.text, ", epsilon = {}", significant(f64::from(epsilon)));
        }
        if let Some(alias) = &range.alias {
            _ = write!(self.text, ", yields distance as `{}`", lossy(alias));
        }
        self.text.push_str("}\n");
    }

    fn node(&mut self, node: &Node, depth: usize) {
        self.pad(depth);
        self.unpadded(node, depth);
    }

    fn unpadded(&mut self, node: &Node, depth: usize) {
        match node {
            Node::All => self.text.push_str("<WILDCARD>\n"),
            Node::Nothing => self.text.push_str("<empty>\n"),
            Node::And(nodes) => self.group("INTERSECT {", nodes, depth),
            Node::With(with) => self.attributed(with, depth),
            Node::Or(nodes) => match tags_of_one_field(nodes) {
                Some(field) => self.tags(field, nodes, depth),
                None => {
                    if let [word, Node::Text { text: TextMatch::Expanded(_), .. }, ..] = &nodes[..]
                        && let Node::Text { fields, text } = word.bare()
                    {
                        let prefix = self.names(fields);
                        self.text.push_str(&prefix);
                        let shown = self.with_groups(fields, text, nodes);
                        return self.group("UNION {", &shown, depth);
                    }
                    self.group("UNION {", nodes, depth);
                }
            },
            Node::Not(node) => self.group("NOT{", std::slice::from_ref(node), depth),
            Node::Optional(node) => self.group("OPTIONAL{", std::slice::from_ref(node), depth),
            Node::Tag { field, .. } => self.tags(*field, std::slice::from_ref(node), depth),
            Node::Number { field, least, most } => {
                let sign = |exclusive| if exclusive { "<" } else { "<=" };
                let (low, high) = (decimal(least.value), decimal(most.value));
                let (below, above) = (sign(least.exclusive), sign(most.exclusive));
                let name = self.name(*field);
                _ = writeln!(self.text, "NUMERIC {{{low} {below} @{name} {above} {high}}}");
            }
            Node::Geometry(query) => {
                let (number, shape) = (query.predicate.number(), lossy(&query.text));
                _ = writeln!(self.text, "GEOSHAPE{{{number} {shape}}}");
            }
            Node::Near { field, circle } => {
                let (name, centre, unit) = (self.name(*field), circle.centre, circle.unit.name());
                let [longitude, latitude, radius] =
                    [centre.longitude, centre.latitude, circle.radius].map(decimal);
                _ = writeln!(self.text, "GEO {name}:{{{longitude},{latitude} --> {radius} {unit}}}");
            }
            Node::Text { fields, text } => self.words_in(fields, text, depth),
            Node::Missing(field) => {
                let name = self.name(*field);
                _ = writeln!(self.text, "ISMISSING{{{name}}}");
            }
            Node::Range(range) => self.range(range),
            Node::Open(_) => unreachable!("a query has values for its parameters"),
        }
    }

    /// The terms that a word was expanded to, with the names of its groups of synonyms instead of their
    /// terms.
    fn with_groups(&self, fields: &Arc<[usize]>, word: &TextMatch, nodes: &[Node]) -> Vec<Node> {
        let TextMatch::Term(Pattern::Exact(word)) = word else { return nodes.to_vec() };
        let node = |term: Vec<u8>| Node::Text { fields: fields.clone(), text: TextMatch::Expanded(term) };
        let synonyms = self.definition.synonyms.of(word);
        let are_next = nodes[1..].iter().zip(&synonyms).filter(|(own, term)| **own == node(term.to_vec()));
        let count = synonyms.len();
        if count == 0 || are_next.count() < count {
            return nodes.to_vec();
        }
        let groups = self.definition.synonyms.groups_of(word).into_iter();
        let groups = groups.map(|group| node([&b"~"[..], &group].concat()));
        let (first, rest) = (nodes[..1].iter().cloned(), nodes[1 + count..].iter().cloned());
        first.chain(groups).chain(rest).collect()
    }

    fn group<N: std::borrow::Borrow<Node>>(&mut self, head: &str, nodes: &[N], depth: usize) {
        self.text.push_str(head);
        self.text.push('\n');
        nodes.iter().for_each(|node| self.node(node.borrow(), depth + 1));
        self.pad(depth);
        self.text.push_str("}\n");
    }

    fn tags(&mut self, field: usize, nodes: &[Node], depth: usize) {
        let name = self.name(field);
        _ = writeln!(self.text, "TAG:@{name} {{");
        for node in nodes {
            let Node::Tag { pattern, .. } = node else { continue };
            self.pad(depth + 1);
            self.pattern(pattern);
        }
        self.pad(depth);
        self.text.push_str("}\n");
    }

    /// A node, and its attributes where they are not the usual ones.
    fn attributed(&mut self, with: &Attributed, depth: usize) {
        let Attributed { node, attributes } = with;
        if let Some(fields) = &attributes.fields {
            let prefix = self.names(fields);
            self.text.push_str(&prefix);
        }
        self.unpadded(node, depth);
        let weight = attributes.weight();
        let weight = (weight != 1.0).then(|| format!("$weight: {};", significant(weight)));
        let shown = match node {
            Node::Text { text: TextMatch::Term(Pattern::Exact(_)), .. } => {
                weight.map(|weight| format!(" => {{{weight}}}"))
            }
            _ if attributes.is_of_request => None,
            _ => {
                let slop = attributes.slop.as_ref().map(|slop| *slop.given()).filter(|slop| *slop >= 0);
                let in_order = attributes.in_order.as_ref().is_some_and(|in_order| *in_order.given());
                let order = (slop.is_some() || in_order).then(|| format!("$inorder: {in_order};"));
                let slop = slop.map(|slop| format!("$slop: {slop};"));
                let all: Vec<String> = weight.into_iter().chain(slop).chain(order).collect();
                (!all.is_empty()).then(|| format!(" => {{ {} }}", all.join(" ")))
            }
        };
        if let Some(shown) = shown {
            self.text.pop();
            self.text.push_str(&shown);
            self.text.push('\n');
        }
    }

    /// The prefix of words that are looked for in these fields; empty for all TEXT fields.
    fn names(&self, fields: &[usize]) -> String {
        let is_text = |field: &&FieldDefinition| matches!(field.kind, FieldKind::Text { .. });
        if fields.len() == self.definition.fields.iter().filter(is_text).count() {
            return String::new();
        }
        if fields.is_empty() {
            return "@NULL:".to_owned();
        }
        let names: Vec<String> = fields.iter().map(|&field| self.name(field)).collect();
        format!("@{}:", names.join("|"))
    }

    fn words_in(&mut self, fields: &[usize], text: &TextMatch, depth: usize) {
        let prefix = self.names(fields);
        self.text.push_str(&prefix);
        match text {
            TextMatch::Term(pattern) => self.pattern(pattern),
            TextMatch::Expanded(term) => {
                _ = writeln!(self.text, "{}(expanded)", lossy(shown_term(term)));
            }
            TextMatch::Phrase(terms) => {
                self.text.push_str("EXACT {\n");
                for term in terms {
                    self.pad(depth + 1);
                    _ = writeln!(self.text, "{prefix}{}", lossy(term));
                }
                self.pad(depth);
                self.text.push_str("}\n");
            }
        }
    }

    fn pattern(&mut self, pattern: &Pattern) {
        _ = match pattern {
            Pattern::Exact(term) if term.is_empty() => writeln!(self.text, "\"\""),
            Pattern::Exact(term) => writeln!(self.text, "{}", lossy(term)),
            Pattern::Prefix(part) => writeln!(self.text, "PREFIX{{{}*}}", lossy(part)),
            Pattern::Suffix(part) => writeln!(self.text, "SUFFIX{{*{}}}", lossy(part)),
            Pattern::Infix(part) => writeln!(self.text, "INFIX{{*{}*}}", lossy(part)),
            Pattern::Wildcard(wildcard) => writeln!(self.text, "WILDCARD{{{}}}", lossy(wildcard)),
            Pattern::Fuzzy(word, _) => writeln!(self.text, "FUZZY{{{}}}", lossy(word)),
        };
    }

    fn pad(&mut self, depth: usize) {
        (0..depth).for_each(|_| self.text.push_str("  "));
    }

    fn name(&self, field: usize) -> String {
        lossy(&self.definition.fields[field].name)
    }

    /// The name of the parameter whose value is this word: the word before it.
    fn parameter(&self, word: usize) -> String {
        lossy(self.words[word - 1])
    }
}

fn tags_of_one_field(nodes: &[Node]) -> Option<usize> {
    let field = |node: &Node| match node {
        Node::Tag { field, .. } => Some(*field),
        _ => None,
    };
    let first = field(nodes.first()?)?;
    nodes.iter().all(|node| field(node) == Some(first)).then_some(first)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// C's `%f`.
fn decimal(number: f64) -> String {
    if number.is_finite() { format!("{number:.6}") } else { format_number(number).to_owned() }
}

/// C's `%g`: six significant digits.
fn significant(number: f64) -> String {
    let rounded = format!("{number:.5e}").parse().unwrap_or(number);
    format_number(rounded).to_owned()
}
