//! The kinds of requests that `bench queries` sends.

use clap::ValueEnum;
use engramdb_datasets::SplitMix64;
use serde::Serialize;

use super::documents::{
    CATEGORIES, CITIES, INDEX, Item, ItemForm, PRICES, WORDS, category, city, key, rank, word,
};

/// The ranks that queries for frequent words draw from.
const FREQUENT_WORDS: u32 = 200;

/// A kind of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum RequestKind {
    /// One city of a thousand: @city:{...}
    Tag,
    /// A percent of the prices: @price:[... ...]
    Numeric,
    /// Category and price, the cheapest first: SORTBY price
    Sorted,
    /// One frequent word, the best first
    Word,
    /// Two frequent words, both
    Words,
    /// Three words, any of them
    AnyWord,
    /// Two frequent words next to each other
    Phrase,
    /// All words with a beginning of four letters
    Prefix,
    /// A word with one changed letter: %...%
    Fuzzy,
    /// FT.AGGREGATE: all documents by city, count and mean price
    Group,
    /// FT.AGGREGATE: the documents of a category by city
    GroupSome,
    /// The nearest vectors among the documents of a category
    Nearest,
    /// Nearest vectors with the words of a text as a further score (FT.AGGREGATE)
    Hybrid,
    /// JSON.SET of a whole document
    JsonSet,
    /// JSON.GET of a whole document
    JsonGet,
    /// JSON.GET of one path
    JsonPath,
    /// JSON.NUMINCRBY of one path
    JsonIncrement,
}

/// What requests are drawn over.
#[derive(Clone, Copy, Debug)]
pub struct Items {
    pub seed: u64,
    pub documents: u64,
    pub form: ItemForm,
    pub dimension: usize,
}

type Words = Vec<Vec<u8>>;

impl RequestKind {
    /// Why the kind cannot be sent to these documents.
    pub fn refusal(self, items: Items) -> Option<&'static str> {
        match self {
            RequestKind::Nearest | RequestKind::Hybrid if items.dimension == 0 => Some("--dimension 0"),
            _ if self.is_json() && items.form == ItemForm::Hash => Some("--form hash"),
            _ => None,
        }
    }

    fn is_json(self) -> bool {
        use RequestKind::{JsonGet, JsonIncrement, JsonPath, JsonSet};
        [JsonSet, JsonGet, JsonPath, JsonIncrement].contains(&self)
    }

    /// Whether servers must agree on the reply's first number, or number of rows: on all but approximate
    /// searches, and on nothing that changes data.
    pub fn is_comparable(self) -> bool {
        use RequestKind::{Hybrid, JsonIncrement, JsonSet, Nearest};
        ![Nearest, Hybrid, JsonSet, JsonIncrement].contains(&self)
    }

    pub fn name(self) -> String {
        self.to_possible_value().expect("no kind is hidden").get_name().to_owned()
    }

    /// A request of this kind.
    pub fn draw(self, random: &mut SplitMix64, items: Items) -> Words {
        let frequent = |random: &mut SplitMix64| word(rank(random, FREQUENT_WORDS));
        let of_category =
            |random: &mut SplitMix64| format!("@category:{{{}}}", category(rank(random, CATEGORIES)));
        match self {
            RequestKind::Tag => {
                search(&format!("@city:{{{}}}", city(random.below(u64::from(CITIES)) as u32)))
            }
            RequestKind::Numeric => {
                let least = random.below(PRICES);
                search(&format!("@price:[{least} {}]", least + PRICES / 100))
            }
            RequestKind::Sorted => {
                let query = format!("{} @price:[{} +inf]", of_category(random), random.below(PRICES));
                with(search(&query), &["SORTBY", "price"])
            }
            RequestKind::Word => search(&frequent(random)),
            RequestKind::Words => search(&[frequent(random), frequent(random)].join(" ")),
            RequestKind::AnyWord => search(&[0; 3].map(|_| word(rank(random, WORDS))).join("|")),
            RequestKind::Phrase => search(&format!("\"{} {}\"", frequent(random), frequent(random))),
            RequestKind::Prefix => search(&format!("{}*", &word(rank(random, WORDS))[..4])),
            RequestKind::Fuzzy => {
                let mut word = word(rank(random, WORDS));
                let at = random.below(word.len() as u64) as usize;
                word.replace_range(at..=at, "y");
                search(&format!("%{word}%"))
            }
            RequestKind::Group => group("*"),
            RequestKind::GroupSome => group(&of_category(random)),
            RequestKind::Nearest => {
                let filter = of_category(random);
                nearest(random, items, &filter)
            }
            RequestKind::Hybrid => hybrid(random, items),
            RequestKind::JsonSet => {
                let number = random.below(items.documents);
                let item = Item::new(items.seed, number, items.dimension);
                bytes(&["JSON.SET", &key(number), "$", &item.json()])
            }
            RequestKind::JsonGet => bytes(&["JSON.GET", &key(random.below(items.documents))]),
            RequestKind::JsonPath => bytes(&["JSON.GET", &key(random.below(items.documents)), "$.city"]),
            RequestKind::JsonIncrement => {
                bytes(&["JSON.NUMINCRBY", &key(random.below(items.documents)), "$.stock", "1"])
            }
        }
    }
}

fn bytes(words: &[&str]) -> Words {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn with(mut words: Words, more: &[&str]) -> Words {
    words.extend(bytes(more));
    words
}

fn search(query: &str) -> Words {
    bytes(&["FT.SEARCH", INDEX, query, "LIMIT", "0", "10", "DIALECT", "2"])
}

fn group(query: &str) -> Words {
    let reduce = ["REDUCE", "COUNT", "0", "AS", "n", "REDUCE", "AVG", "1", "@price", "AS", "mean"];
    let all = [&["FT.AGGREGATE", INDEX, query, "GROUPBY", "1", "@city"][..], &reduce, &["DIALECT", "2"]];
    bytes(&all.concat())
}

/// Adds the parameter `v`, a random vector.
fn with_vector(words: Words, random: &mut SplitMix64, items: Items) -> Words {
    let vector = (0..items.dimension).flat_map(|_| random.normal().to_le_bytes()).collect();
    let mut words = with(words, &["PARAMS", "2", "v"]);
    words.push(vector);
    with(words, &["DIALECT", "2"])
}

fn nearest(random: &mut SplitMix64, items: Items, filter: &str) -> Words {
    let query = format!("({filter})=>[KNN 10 @vector $v AS distance]");
    let words = ["FT.SEARCH", INDEX, &query, "SORTBY", "distance", "LIMIT", "0", "10"];
    with_vector(bytes(&words), random, items)
}

fn hybrid(random: &mut SplitMix64, items: Items) -> Words {
    let text = [word(rank(random, FREQUENT_WORDS)), word(rank(random, WORDS))].join("|");
    let query = format!("(~@title:({text}))=>[KNN 20 @vector $v AS distance]");
    let stages = ["APPLY", "0.7 * (2 - @distance) / 2 + 0.3 * @__score", "AS", "both"];
    let order = ["SORTBY", "2", "@both", "DESC", "MAX", "10"];
    let words = [&["FT.AGGREGATE", INDEX, &query, "ADDSCORES", "LOAD", "1", "@title"][..], &stages, &order];
    with_vector(bytes(&words.concat()), random, items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_a_request_that_needs_what_it_says() {
        let items = Items { seed: 1, documents: 10, form: ItemForm::Hash, dimension: 0 };
        for &kind in RequestKind::value_variants() {
            let words = kind.draw(&mut SplitMix64::new(1, 201, 0), Items { dimension: 4, ..items });
            let command = String::from_utf8_lossy(&words[0]).into_owned();
            assert_eq!(command.starts_with("JSON."), kind.is_json(), "{command}");
            let vector = words.iter().filter(|word| word.len() == 16 && word.iter().any(|byte| *byte > 127));
            let needs_vector = kind.refusal(items) == Some("--dimension 0");
            assert!(!needs_vector || vector.count() == 1, "{kind:?}");
        }
    }
}
