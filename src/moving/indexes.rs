//! Indexes of RediSearch, from what FT.INFO of a running server shows: an RDB file has them in a form of the
//! module's own, which is not read.

use super::connection::ServerLink;
use super::error::MoveError;
use engramdb_resp::Value;

/// An index of a server.
#[derive(Debug)]
pub struct FoundIndex {
    pub name: Vec<u8>,
    /// The words of the FT.CREATE that makes it, or why they cannot be said.
    pub words: Result<Vec<Vec<u8>>, String>,
}

/// The indexes of a server; none where it does not know the command.
pub fn indexes_of(connection: &mut ServerLink) -> Result<Vec<FoundIndex>, MoveError> {
    connection.send(&engramdb_resp::encode_command(&["FT._LIST"]))?;
    let list = connection.reply()?;
    let mut found = Vec::new();
    for name in list.as_array().unwrap_or_default().iter().filter_map(Value::as_bytes) {
        connection.send(&engramdb_resp::encode_command(&[&b"FT.INFO"[..], name]))?;
        let words = match connection.reply()? {
            Value::Error(text) => Err(String::from_utf8_lossy(&text).into_owned()),
            info => words_of(name, &info),
        };
        found.push(FoundIndex { name: name.to_vec(), words });
    }
    Ok(found)
}

/// Words as a client writes them.
pub fn shown_words(words: &[Vec<u8>]) -> String {
    let shown = |word: &Vec<u8>| {
        let is_plain =
            !word.is_empty() && word.iter().all(|byte| byte.is_ascii_graphic() && !b"\"'\\".contains(byte));
        match is_plain {
            true => String::from_utf8_lossy(word).into_owned(),
            false => format!("\"{}\"", word.escape_ascii()),
        }
    };
    words.iter().map(shown).collect::<Vec<_>>().join(" ")
}

/// The value of a name in a list of names and values.
fn of<'v>(pairs: &'v Value, name: &str) -> Option<&'v Value> {
    let pairs = pairs.as_array()?.chunks_exact(2);
    pairs.into_iter().find(|pair| text(&pair[0]).eq_ignore_ascii_case(name.as_bytes())).map(|pair| &pair[1])
}

/// A text, or a number as one.
fn text(value: &Value) -> Vec<u8> {
    match value {
        Value::Integer(number) => number.to_string().into_bytes(),
        other => other.as_bytes().unwrap_or_default().to_vec(),
    }
}

fn texts(value: Option<&Value>) -> Vec<Vec<u8>> {
    value.and_then(Value::as_array).unwrap_or_default().iter().map(text).collect()
}

/// Appends an option with a count and that many words.
fn counted(option: &str, list: Vec<Vec<u8>>, words: &mut Vec<Vec<u8>>) {
    words.extend([option.as_bytes().to_vec(), list.len().to_string().into_bytes()]);
    words.extend(list);
}

fn words_of(name: &[u8], info: &Value) -> Result<Vec<Vec<u8>>, String> {
    let definition = of(info, "index_definition").ok_or("FT.INFO shows no definition")?;
    let mut words = vec![b"FT.CREATE".to_vec(), name.to_vec()];
    let kind = text(of(definition, "key_type").ok_or("FT.INFO shows no type of keys")?);
    words.extend([b"ON".to_vec(), kind]);
    let prefixes = texts(of(definition, "prefixes"));
    if prefixes.iter().any(|prefix| !prefix.is_empty()) {
        counted("PREFIX", prefixes, &mut words);
    }
    for (shown, option, default) in [
        ("filter", "FILTER", ""),
        ("default_language", "LANGUAGE", ""),
        ("language_field", "LANGUAGE_FIELD", ""),
        ("default_score", "SCORE", "1"),
        ("score_field", "SCORE_FIELD", ""),
        ("payload_field", "PAYLOAD_FIELD", ""),
    ] {
        let value = of(definition, shown).map(text).unwrap_or_default();
        if !value.is_empty() && value != default.as_bytes() {
            words.extend([option.as_bytes().to_vec(), value]);
        }
    }
    if of(definition, "indexes_all").map(text).is_some_and(|value| value == b"true") {
        words.extend([b"INDEXALL".to_vec(), b"ENABLE".to_vec()]);
    }
    words.extend(texts(of(info, "index_options")));
    if let Some(list) = of(info, "stopwords_list") {
        counted("STOPWORDS", texts(Some(list)), &mut words);
    }
    words.push(b"SCHEMA".to_vec());
    let fields = of(info, "attributes").and_then(Value::as_array).unwrap_or_default();
    for field in fields {
        field_words(field, &mut words)?;
    }
    Ok(words)
}

/// The words of a field: FT.INFO shows pairs, and flags after them.
fn field_words(field: &Value, words: &mut Vec<Vec<u8>>) -> Result<(), String> {
    let mut parts = field.as_array().unwrap_or_default().iter().map(text);
    let (mut identifier, mut kind, mut vector, mut flags) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    while let Some(part) = parts.next() {
        let mut value = || parts.next().unwrap_or_default();
        match &part[..] {
            b"identifier" => identifier = vec![value()],
            b"attribute" => identifier.extend([b"AS".to_vec(), value()]),
            b"type" => kind.push(value()),
            b"WEIGHT" => kind.extend([b"WEIGHT".to_vec(), value()]),
            b"SEPARATOR" => {
                let separator = value();
                if !separator.is_empty() {
                    kind.extend([b"SEPARATOR".to_vec(), separator]);
                }
            }
            b"coord_system" => kind.push(value()),
            b"algorithm" => kind.push(value()),
            b"data_type" => vector.extend([b"TYPE".to_vec(), value()]),
            b"compression" | b"quantization" => {
                let code = value();
                if code != b"NONE" {
                    vector.extend([part.to_ascii_uppercase(), code]);
                }
            }
            b"dim"
            | b"distance_metric"
            | b"M"
            | b"ef_construction"
            | b"ef_runtime"
            | b"graph_max_degree"
            | b"construction_window_size"
            | b"search_window_size" => {
                vector.extend([part.to_ascii_uppercase(), value()]);
            }
            b"SORTABLE" | b"UNF" | b"NOINDEX" | b"INDEXEMPTY" | b"INDEXMISSING" => flags.push(part),
            // Others are of the type, and come before these.
            b"NOSTEM" | b"WITHSUFFIXTRIE" | b"CASESENSITIVE" => kind.push(part),
            other => {
                let name =
                    String::from_utf8_lossy(identifier.first().map_or(&b""[..], Vec::as_slice)).into_owned();
                return Err(format!("the option {} of the field {name} is not known", other.escape_ascii()));
            }
        }
    }
    words.append(&mut identifier);
    words.append(&mut kind);
    if !vector.is_empty() {
        words.push(vector.len().to_string().into_bytes());
        words.append(&mut vector);
    }
    words.append(&mut flags);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words in brackets as a reply.
    fn value(words: &str) -> Value {
        fn list<'a>(words: &mut impl Iterator<Item = &'a str>) -> Value {
            let mut found = Vec::new();
            while let Some(word) = words.next() {
                match word {
                    "[" => found.push(list(words)),
                    "]" => break,
                    "_" => found.push(Value::Bulk(Vec::new())),
                    word => {
                        found.push(word.parse().map_or_else(|_| Value::Bulk(word.into()), Value::Integer))
                    }
                }
            }
            Value::Array(found)
        }
        list(&mut words.split_ascii_whitespace())
    }

    #[test]
    fn the_command_comes_from_what_is_shown() {
        let info = value(
            "index_name i index_options [ NOFREQS NOOFFSETS ] index_definition [ key_type HASH prefixes [ a: b: ] \
             filter @n>3 default_language german language_field lang default_score 0.5 score_field sc ] attributes [ \
             [ identifier t attribute title type TEXT WEIGHT 2 SORTABLE UNF NOSTEM WITHSUFFIXTRIE ] \
             [ identifier c attribute c type TAG SEPARATOR ; CASESENSITIVE INDEXEMPTY ] \
             [ identifier v attribute v type VECTOR algorithm HNSW data_type FLOAT32 dim 4 distance_metric L2 M 20 ] \
             [ identifier s attribute s type GEOSHAPE coord_system FLAT ] ] num_docs 0 stopwords_list [ foo bar ]",
        );
        let words = words_of(b"i", &info).expect("all is known");
        let wanted = "FT.CREATE i ON HASH PREFIX 2 a: b: FILTER @n>3 LANGUAGE german LANGUAGE_FIELD lang SCORE 0.5 \
             SCORE_FIELD sc NOFREQS NOOFFSETS STOPWORDS 2 foo bar SCHEMA t AS title TEXT WEIGHT 2 NOSTEM WITHSUFFIXTRIE \
             SORTABLE UNF c AS c TAG SEPARATOR ; CASESENSITIVE INDEXEMPTY v AS v VECTOR HNSW 8 TYPE FLOAT32 DIM 4 \
             DISTANCE_METRIC L2 M 20 s AS s GEOSHAPE FLAT";
        assert_eq!(shown_words(&words), wanted);
        let plain = value(
            "index_definition [ key_type JSON prefixes [ _ ] default_score 1 ] attributes [ [ identifier $.b attribute b \
             type TAG SEPARATOR _ ] ]",
        );
        let words = words_of(b"a b", &plain).expect("all is known");
        assert_eq!(shown_words(&words), "FT.CREATE \"a b\" ON JSON SCHEMA $.b AS b TAG");
        let strange =
            value("index_definition [ key_type HASH ] attributes [ [ identifier x type TEXT NEWS ] ]");
        let refused = words_of(b"i", &strange).expect_err("it is not known");
        assert_eq!(refused, "the option NEWS of the field x is not known");
    }
}
