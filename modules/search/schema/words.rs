//! The words of FT.CREATE that make a definition: the way back of `create`.

use super::{
    Algorithm, Coordinates, Definition, FieldDefinition, FieldKind, IndexOptions, NO_SEPARATOR,
    VectorOptions, element_name, metric_name, quantization_name,
};
use engramdb_vector::Quantization;

/// Words that are being put together.
struct Sentence(Vec<Vec<u8>>);

impl Sentence {
    fn add(&mut self, word: impl AsRef<[u8]>) {
        self.0.push(word.as_ref().to_vec());
    }

    /// A name and a value.
    fn pair(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.add(name);
        self.add(value);
    }

    /// A name, a count and words.
    fn list(&mut self, name: &str, words: &[Vec<u8>]) {
        self.pair(name, words.len().to_string());
        words.iter().for_each(|word| self.add(word));
    }

    fn flags(&mut self, flags: &[(bool, &str)]) {
        flags.iter().filter(|(is_set, _)| *is_set).for_each(|(_, name)| self.add(name));
    }
}

impl Definition {
    /// FT.CREATE with its words.
    pub fn words(&self) -> Vec<Vec<u8>> {
        let mut words = Sentence(vec![b"FT.CREATE".to_vec(), self.name.clone()]);
        words.pair("ON", self.documents.name());
        words.list("PREFIX", &self.prefixes);
        put_options(&self.options, &mut words);
        words.add("SCHEMA");
        self.fields.iter().for_each(|field| put_field(field, &mut words));
        words.0
    }
}

fn put_options(options: &IndexOptions, words: &mut Sentence) {
    words.flags(&[
        (options.no_offsets, "NOOFFSETS"),
        (options.no_highlight, "NOHL"),
        (options.no_fields, "NOFIELDS"),
        (options.no_frequencies, "NOFREQS"),
        (options.max_text_fields, "MAXTEXTFIELDS"),
        (options.skip_initial_scan, "SKIPINITIALSCAN"),
    ]);
    if options.index_all {
        words.pair("INDEXALL", "ENABLE");
    }
    if options.score != 1.0 {
        words.pair("SCORE", options.score.to_string());
    }
    for (name, value) in [
        ("LANGUAGE", &options.language),
        ("LANGUAGE_FIELD", &options.language_field),
        ("SCORE_FIELD", &options.score_field),
        ("PAYLOAD_FIELD", &options.payload_field),
    ] {
        if !value.is_empty() {
            words.pair(name, value);
        }
    }
    if let Some(seconds) = options.temporary_s {
        words.pair("TEMPORARY", seconds.to_string());
    }
    if let Some(stop_words) = &options.stop_words {
        words.list("STOPWORDS", stop_words);
    }
    if let Some(filter) = &options.filter {
        words.pair("FILTER", &filter.text);
    }
}

fn put_field(field: &FieldDefinition, words: &mut Sentence) {
    words.add(&field.identifier[..]);
    words.pair("AS", &field.name);
    words.add(field.kind.type_name());
    match &field.kind {
        FieldKind::Text { weight, no_stem, suffix_trie, phonetic } => {
            words.pair("WEIGHT", weight.to_string());
            words.flags(&[(*no_stem, "NOSTEM"), (*suffix_trie, "WITHSUFFIXTRIE")]);
            if *phonetic {
                words.pair("PHONETIC", "dm:en");
            }
        }
        FieldKind::Tag { separator, case_sensitive, suffix_trie } => {
            if *separator != NO_SEPARATOR {
                words.pair("SEPARATOR", [*separator]);
            }
            words.flags(&[(*case_sensitive, "CASESENSITIVE"), (*suffix_trie, "WITHSUFFIXTRIE")]);
        }
        FieldKind::Numeric | FieldKind::Geo => {}
        FieldKind::GeoShape(Coordinates::Spherical) => words.add("SPHERICAL"),
        FieldKind::GeoShape(Coordinates::Flat) => words.add("FLAT"),
        FieldKind::Vector(vector) => put_vector(vector, words),
    }
    words.flags(&[
        (field.index_empty, "INDEXEMPTY"),
        (field.index_missing, "INDEXMISSING"),
        (field.sortable, "SORTABLE"),
        (field.sortable && field.unf, "UNF"),
        (field.no_index, "NOINDEX"),
    ]);
}

fn put_vector(vector: &VectorOptions, words: &mut Sentence) {
    let mut attributes = vec![
        ("TYPE", element_name(vector.element).to_owned()),
        ("DIM", vector.dimension.to_string()),
        ("DISTANCE_METRIC", metric_name(vector.metric).to_owned()),
    ];
    if vector.algorithm != Algorithm::Svs && vector.initial_capacity > 0 {
        attributes.push(("INITIAL_CAP", vector.initial_capacity.to_string()));
    }
    if vector.algorithm != Algorithm::Flat {
        attributes.push(("EPSILON", vector.epsilon.to_string()));
    }
    match vector.algorithm {
        Algorithm::Flat => attributes.push(("BLOCK_SIZE", vector.block_size.to_string())),
        Algorithm::Hnsw => attributes.extend([
            ("M", vector.m.to_string()),
            ("EF_CONSTRUCTION", vector.ef_construction.to_string()),
            ("EF_RUNTIME", vector.ef_runtime.to_string()),
        ]),
        Algorithm::Svs => attributes.extend([
            ("GRAPH_MAX_DEGREE", (2 * vector.m).to_string()),
            ("CONSTRUCTION_WINDOW_SIZE", vector.ef_construction.to_string()),
            ("SEARCH_WINDOW_SIZE", vector.ef_runtime.to_string()),
            ("COMPRESSION", compression_name(vector.quantization).to_owned()),
        ]),
    }
    // RediSearch does not know it.
    if vector.algorithm == Algorithm::Hnsw && vector.quantization != vector.default_quantization() {
        attributes.push(("QUANTIZATION", quantization_name(vector.quantization).to_owned()));
    }
    words.pair(vector.algorithm.name(), (2 * attributes.len()).to_string());
    attributes.iter().for_each(|(name, value)| words.pair(name, value));
}

/// A word of RediSearch's for a code with these bits.
fn compression_name(quantization: Quantization) -> &'static str {
    match quantization {
        Quantization::None => "NO_COMPRESSION",
        Quantization::Bits8 => "LVQ8",
        // RediSearch has none of one bit, and COMPRESSION cannot ask for it.
        Quantization::Bits4 | Quantization::Bits1 => "LVQ4",
    }
}

#[cfg(test)]
mod tests {
    use crate::schema::create::{definition_of, parse};
    use crate::schema::tests::COMMANDS;
    use engramdb_engine::command::Args;
    use engramdb_engine::keyspace::DataTypes;

    #[test]
    fn a_definition_comes_back_from_its_words() {
        let more = [
            "FT.CREATE i SCHEMA t TEXT",
            "FT.CREATE i PREFIX 2 a: b: FILTER @n>3 LANGUAGE german LANGUAGE_FIELD l SCORE 0.25 SCORE_FIELD s \
             PAYLOAD_FIELD p STOPWORDS 2 foo bar NOOFFSETS NOFREQS TEMPORARY 60 INDEXALL ENABLE SCHEMA \
             t AS title TEXT NOSTEM WEIGHT 2.5 PHONETIC dm:en WITHSUFFIXTRIE INDEXEMPTY SORTABLE UNF n NUMERIC SORTABLE \
             c TAG SEPARATOR ; CASESENSITIVE INDEXMISSING g GEO SORTABLE NOINDEX",
            "FT.CREATE i STOPWORDS 0 NOHL NOFIELDS MAXTEXTFIELDS SKIPINITIALSCAN SCHEMA s GEOSHAPE FLAT r GEOSHAPE \
             v VECTOR FLAT 8 TYPE FLOAT64 DIM 2 DISTANCE_METRIC COSINE BLOCK_SIZE 10 \
             w VECTOR HNSW 14 TYPE FLOAT32 DIM 4 DISTANCE_METRIC L2 M 20 EF_CONSTRUCTION 100 EF_RUNTIME 7 EPSILON 0.5 \
             x VECTOR SVS-VAMANA 8 TYPE FLOAT16 DIM 8 DISTANCE_METRIC IP COMPRESSION LVQ8",
        ];
        for command in COMMANDS.iter().chain(&more) {
            let definition = definition_of(command);
            let words = definition.words();
            let given: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let again = parse(Args::new(&given), &DataTypes::default(), u64::MAX).expect("its own words");
            assert_eq!(again, definition, "{command}");
        }
    }
}
