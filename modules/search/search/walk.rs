//! How much of a document's texts is walked over, which bounds the time under the lock of the documents.

/// The words of one document that its score may walk over. What is beyond counts as not near, or not there.
const OF_A_DOCUMENT: usize = 1 << 22;
/// The words that the scores of a last look may walk over.
const OF_A_LOOK: usize = 1 << 23;
/// The words that a look at a field costs as much as, where it may have none.
pub const WORDS_PER_FIELD: usize = 4;

/// Counts the words of documents that are walked over, and the steps among their places.
pub struct TextWalk {
    pub walked: usize,
    most: usize,
}

impl TextWalk {
    pub fn unbounded() -> TextWalk {
        TextWalk { walked: 0, most: usize::MAX }
    }

    /// A walk for the scores of the documents that have changed before a last look.
    pub fn of_a_look() -> TextWalk {
        TextWalk { walked: 0, most: OF_A_LOOK }
    }

    /// A walk for the score of one document, within this one.
    pub fn part(&self) -> TextWalk {
        TextWalk { walked: 0, most: OF_A_DOCUMENT.min(self.most.saturating_sub(self.walked)) }
    }

    /// Whether no more is to be walked over.
    pub fn is_over(&self) -> bool {
        self.walked > self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::{DocumentContent, Documents, FieldContent};
    use crate::query::QueryDefaults;
    use crate::query::prepared::PreparedSearch;
    use crate::schema::create::definition_of;
    use crate::search::filter::{Evaluation, Ranges};
    use crate::search::score::ScoreTree;
    use engramdb_engine::command::Args;
    use parking_lot::RwLock;
    use std::iter::repeat_n;

    /// Scores one document with a text of these words; returns how many words that walked over.
    fn walked(text: &[&str], query: &str, scorer: &str) -> usize {
        walked_with("TEXT NOSTEM", text, query, scorer)
    }

    fn walked_with(field: &str, text: &[&str], query: &str, scorer: &str) -> usize {
        let definition = definition_of(&format!("FT.CREATE i STOPWORDS 0 SCHEMA t {field}"));
        let documents = RwLock::new(Documents::new(&definition));
        let words = text.iter().map(|word| Some(word.as_bytes())).collect();
        let content =
            DocumentContent { fields: vec![FieldContent::Text(words)], ..DocumentContent::default() };
        documents.write().upsert(b"d", &content);
        let line = [&b"FT.SEARCH"[..], b"i", query.as_bytes(), b"SCORER", scorer.as_bytes()];
        let prepared = PreparedSearch::new(&definition, Args::new(&line), QueryDefaults::default());
        let prepared = prepared.unwrap_or_else(|_| panic!("{query}"));
        let bound = prepared.bind(&definition, Args::new(&line)).unwrap_or_else(|_| panic!("{query}"));
        let ranges = Ranges::unmatched(&bound.filter);
        let evaluation = Evaluation::new(&documents, &ranges, &|| false);
        let Ok(tree) = ScoreTree::find(&evaluation, &bound.filter, &prepared.request, true) else {
            unreachable!("nothing is late")
        };
        let mut walk = TextWalk::unbounded();
        tree.scores_counted(&documents.read(), &ranges, &[0], &mut walk);
        walk.walked
    }

    #[test]
    fn a_word_of_a_document_is_compared_with_no_word_of_a_query_that_has_not_its_stem() {
        // Each word of the query has a stem of its own, and so has each word of the document.
        let names: Vec<String> = (0..20_000).map(|number| format!("w{number}ing")).collect();
        let text: Vec<&str> = names.iter().map(String::as_str).collect();
        for count in [1_000, 20_000] {
            let counted = walked_with("TEXT", &text[..count], &names[..count].join("|"), "TFIDF");
            assert!(counted < 10 * count, "{counted}");
        }
    }

    #[test]
    fn phrases_and_distances_in_scores_are_counted_and_end() {
        let word = |number: usize| format!("w{number}");
        let names: Vec<String> = (0..200).map(word).collect();
        // Of no pair is the second word after the first.
        let text: Vec<&str> = names.iter().rev().cycle().take(20_000).map(String::as_str).collect();
        let phrase = |number: usize| format!("\"w{} w{}\"", number / 20, 100 + number % 20);
        let some: Vec<String> = (0..20).map(phrase).collect();
        let counted = walked(&text, &some.join("|"), "BM25STD");
        assert!((400_000..500_000).contains(&counted), "{counted}");
        let many: Vec<String> = (0..400).map(phrase).collect();
        for scorer in ["BM25STD", "TFIDF"] {
            let counted = walked(&text, &many.join("|"), scorer);
            assert!((OF_A_DOCUMENT..OF_A_DOCUMENT + 100_000).contains(&counted), "{scorer}: {counted}");
        }
        // The places of two words are compared once, however often the query has them.
        let text: Vec<&str> = repeat_n("a", 20_000).chain(["x"]).chain(repeat_n("b", 20_000)).collect();
        let counted = walked(&text, &["a b"; 100].join(" "), "BM25");
        assert!((80_000..100_000).contains(&counted), "{counted}");
        let others = (0..400).map(|number| format!("a w{number}")).collect::<Vec<String>>().join(" ");
        let text: Vec<&str> = text.into_iter().chain(names.iter().map(String::as_str)).collect();
        let counted = walked(&text, &format!("~({others}) a"), "BM25");
        assert!(counted < OF_A_DOCUMENT + 100_000, "{counted}");
    }
}
