//! The documents of `bench queries`: short texts with tags and numbers, a function of seed and number.
//!
//! Words have the skew of a language: the word of rank n is drawn about as often as 1 / n (ranks are uniform
//! on a logarithmic scale), so that few words are in most documents and most words are in few.

use clap::ValueEnum;
use engramdb_datasets::SplitMix64;
use engramdb_resp::encode_command_into;
use serde::Serialize;

/// Different words.
pub const WORDS: u32 = 20_000;
/// Words of a title.
const TITLE_WORDS: usize = 8;
/// Categories, drawn with the skew of words.
pub const CATEGORIES: u32 = 100;
/// Cities, drawn uniformly.
pub const CITIES: u32 = 1_000;
/// Prices are integers below this, drawn uniformly.
pub const PRICES: u64 = 100_000;
pub const INDEX: &str = "bench-queries";
pub const PREFIX: &str = "item:";

/// Streams of random numbers.
const DOCUMENTS: u64 = 30;
const SYLLABLES: [&str; 16] =
    ["ba", "do", "fi", "gu", "ka", "le", "mo", "nu", "pa", "re", "si", "to", "va", "we", "xi", "zo"];

/// The form of the documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ItemForm {
    /// Hashes, indexed ON HASH
    Hash,
    /// JSON documents, indexed ON JSON
    Json,
}

/// A document.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub title: String,
    pub category: String,
    pub city: String,
    pub price: u64,
    pub stock: u64,
    pub vector: Vec<f32>,
}

/// The word of a rank; the most frequent one has rank 0.
pub fn word(rank: u32) -> String {
    // Digits to the base of 16, at least three; the factor is odd, so that neighbours in rank begin
    // differently and no two ranks have the same word.
    let mut digits = u64::from(rank).wrapping_mul(0x9E5) & 0xffff;
    let mut text = String::new();
    for _ in 0..4 {
        text.push_str(SYLLABLES[(digits & 15) as usize]);
        digits >>= 4;
    }
    text
}

/// A rank below `ranks`; small ones are drawn more often.
pub fn rank(random: &mut SplitMix64, ranks: u32) -> u32 {
    let drawn = f64::from(ranks + 1).powf(f64::from(random.uniform())) as u32;
    drawn.clamp(1, ranks) - 1
}

pub fn category(rank: u32) -> String {
    format!("category{rank}")
}

pub fn city(number: u32) -> String {
    format!("city{number}")
}

pub fn key(number: u64) -> String {
    format!("{PREFIX}{number:09}")
}

impl Item {
    /// The document with this number; its vector has `dimension` components.
    pub fn new(seed: u64, number: u64, dimension: usize) -> Item {
        let random = &mut SplitMix64::new(seed, DOCUMENTS, number);
        let title: Vec<String> = (0..TITLE_WORDS).map(|_| word(rank(random, WORDS))).collect();
        Item {
            title: title.join(" "),
            category: category(rank(random, CATEGORIES)),
            city: city(random.below(u64::from(CITIES)) as u32),
            price: random.below(PRICES),
            stock: random.below(100),
            vector: (0..dimension).map(|_| random.normal()).collect(),
        }
    }

    /// The document as JSON.
    pub fn json(&self) -> String {
        let Item { title, category, city, price, stock, vector } = self;
        let vector: Vec<String> = vector.iter().map(f32::to_string).collect();
        let vector =
            if vector.is_empty() { String::new() } else { format!(",\"vector\":[{}]", vector.join(",")) };
        format!(
            "{{\"title\":\"{title}\",\"category\":\"{category}\",\"city\":\"{city}\",\"price\":{price},\"stock\":{stock}{vector}}}"
        )
    }

    /// Appends the command that stores the document.
    pub fn encode(&self, form: ItemForm, number: u64, bytes: &mut Vec<u8>) {
        let key = key(number);
        let (price, stock) = (self.price.to_string(), self.stock.to_string());
        let vector: Vec<u8> = self.vector.iter().flat_map(|component| component.to_le_bytes()).collect();
        let fields: [(&str, &[u8]); 6] = [
            ("title", self.title.as_bytes()),
            ("category", self.category.as_bytes()),
            ("city", self.city.as_bytes()),
            ("price", price.as_bytes()),
            ("stock", stock.as_bytes()),
            ("vector", &vector),
        ];
        match form {
            ItemForm::Hash => {
                let given = fields.iter().filter(|(_, value)| !value.is_empty());
                let words: Vec<&[u8]> = [&b"HSET"[..], key.as_bytes()]
                    .into_iter()
                    .chain(given.flat_map(|(name, value)| [name.as_bytes(), value]))
                    .collect();
                encode_command_into(bytes, &words);
            }
            ItemForm::Json => encode_command_into(bytes, &["JSON.SET", &key, "$", &self.json()]),
        }
    }
}

/// FT.CREATE for these documents.
pub fn create(form: ItemForm, dimension: usize) -> Vec<String> {
    let on = match form {
        ItemForm::Hash => "HASH",
        ItemForm::Json => "JSON",
    };
    let mut words = format!("FT.CREATE {INDEX} ON {on} PREFIX 1 {PREFIX} SCHEMA");
    let fields = [
        ("title", "TEXT NOSTEM".to_owned()),
        ("category", "TAG".to_owned()),
        ("city", "TAG SORTABLE".to_owned()),
        ("price", "NUMERIC SORTABLE".to_owned()),
        ("stock", "NUMERIC".to_owned()),
        ("vector", format!("VECTOR HNSW 6 TYPE FLOAT32 DIM {dimension} DISTANCE_METRIC L2")),
    ];
    for (name, kind) in fields.iter().filter(|(name, _)| *name != "vector" || dimension > 0) {
        words += &match form {
            ItemForm::Hash => format!(" {name} {kind}"),
            ItemForm::Json => format!(" $.{name} AS {name} {kind}"),
        };
    }
    words.split(' ').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn words_differ_and_few_of_them_are_frequent() {
        let words: HashSet<String> = (0..WORDS).map(word).collect();
        assert_eq!(words.len(), WORDS as usize);
        let mut random = SplitMix64::new(1, 200, 0);
        let drawn: Vec<u32> = (0..10_000).map(|_| rank(&mut random, WORDS)).collect();
        let frequent = drawn.iter().filter(|&&rank| rank < 10).count();
        assert!((2_000..3_000).contains(&frequent), "ln(11) / ln(20,001) of all: {frequent}");
        assert!(drawn.iter().any(|&rank| rank > WORDS / 2));
    }

    #[test]
    fn a_document_is_a_function_of_seed_and_number_in_either_form() {
        let item = Item::new(1, 7, 2);
        assert_eq!(item, Item::new(1, 7, 2));
        assert_ne!(item, Item::new(1, 8, 2));
        let json: serde_json::Value = serde_json::from_str(&item.json()).expect("JSON");
        assert_eq!(json["price"], item.price);
        assert_eq!(json["title"], item.title.as_str());
        assert_eq!(json["vector"].as_array().map(Vec::len), Some(2));
        let words = |form, dimension| {
            let mut bytes = Vec::new();
            Item::new(1, 7, dimension).encode(form, 7, &mut bytes);
            String::from_utf8_lossy(&bytes).lines().next().map(str::to_owned)
        };
        assert_eq!(words(ItemForm::Hash, 2).as_deref(), Some("*14"));
        assert_eq!(words(ItemForm::Hash, 0).as_deref(), Some("*12"), "without a vector");
        assert_eq!(words(ItemForm::Json, 0).as_deref(), Some("*4"));
    }
}
