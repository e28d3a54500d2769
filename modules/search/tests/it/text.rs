//! Words: stems, nearness, changes of letters; and the scores of documents.

use crate::harness::Server;

fn loaded(schema: &str, documents: &[(&str, &[&str])]) -> Server {
    let server = Server::new();
    assert_eq!(server.line(&format!("FT.CREATE idx PREFIX 1 d: {schema}")), "OK");
    for (key, pairs) in documents {
        let pairs: Vec<(&str, &[u8])> = pairs.chunks(2).map(|pair| (pair[0], pair[1].as_bytes())).collect();
        server.hset(key, &pairs);
    }
    server
}

/// The keys that a search finds, sorted.
fn keys(server: &Server, search: &[&str]) -> Vec<String> {
    let words: Vec<&[u8]> =
        [&b"FT.SEARCH"[..], b"idx"].into_iter().chain(search.iter().map(|word| word.as_bytes())).collect();
    let reply = server.run(&[&words[..], &[b"NOCONTENT"]].concat());
    let list = reply.strip_prefix('[').unwrap_or_else(|| panic!("{search:?}: {reply}"));
    let keys = list.trim_end_matches(']').split(", ").skip(1);
    let mut keys: Vec<String> = keys.map(|key| key.trim_matches('"').to_owned()).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn words_with_one_stem_find_each_other() {
    let server = loaded(
        "SCHEMA t TEXT x TEXT NOSTEM",
        &[
            ("d:1", &["t", "running dogs", "x", "apples"]),
            ("d:2", &["t", "he runs", "x", "apple"]),
            ("d:3", &["t", "run dog"]),
        ],
    );
    for (search, want) in [
        (&["run"][..], &["d:1", "d:2", "d:3"][..]),
        (&["running"], &["d:1", "d:2", "d:3"]),
        (&["running", "VERBATIM"], &["d:1"]),
        (&["\"running dogs\""], &["d:1"]),
        (&["\"run dogs\""], &[]),
        (&["@t:dog"], &["d:1", "d:3"]),
        (&["@x:apple"], &["d:2"]),
        (&["@x:apples"], &["d:1"]),
        (&["-running"], &["d:2", "d:3"]),
        (&["running", "LANGUAGE", "german"], &["d:1"]),
        (&["running", "EXPANDER", "none"], &["d:1"]),
    ] {
        assert_eq!(keys(&server, search), want, "{search:?}");
    }
    assert_eq!(server.line("FT.SEARCH idx run LANGUAGE klingon"), "No such language");
    assert_eq!(
        server.line("FT.SEARCH idx run LANGUAGE chinese"),
        "The language chinese is not supported by this server yet"
    );
}

#[test]
fn a_document_may_name_its_language() {
    let server = loaded(
        "LANGUAGE_FIELD l SCHEMA t TEXT",
        &[
            ("d:1", &["t", "h\u{e4}user", "l", "german"]),
            ("d:2", &["t", "h\u{e4}user"]),
            ("d:3", &["t", "houses"]),
        ],
    );
    let german = ["haus", "LANGUAGE", "german"];
    assert_eq!(keys(&server, &german), ["d:1"]);
    assert_eq!(keys(&server, &["house"]), ["d:3"]);
    // The language of a document changes, and nothing of the old stems is left.
    server.line("HSET d:2 l german");
    assert_eq!(keys(&server, &german), ["d:1", "d:2"]);
    server.line("HSET d:1 l english");
    assert_eq!(keys(&server, &german), ["d:2"]);
    server.line("DEL d:2");
    assert_eq!(keys(&server, &german), [""; 0]);
}

#[test]
fn words_are_as_near_to_each_other_as_a_query_asks() {
    let server = loaded(
        "SCHEMA t TEXT b TEXT",
        &[
            ("d:1", &["t", "alpha beta", "b", "gamma delta"]),
            ("d:2", &["t", "alpha x y beta"]),
            ("d:3", &["t", "beta alpha"]),
        ],
    );
    for (search, want) in [
        (&["\"alpha beta\""][..], &["d:1"][..]),
        // The words of all fields are numbered one after the other.
        (&["\"beta gamma\""], &["d:1"]),
        (&["alpha beta", "SLOP", "0"], &["d:1", "d:3"]),
        (&["alpha beta", "SLOP", "0", "INORDER"], &["d:1"]),
        (&["alpha beta", "SLOP", "1"], &["d:1", "d:3"]),
        (&["alpha beta", "SLOP", "2"], &["d:1", "d:2", "d:3"]),
        (&["alpha beta", "INORDER"], &["d:1", "d:2"]),
        (&["beta alpha", "INORDER"], &["d:3"]),
        (&["(alpha beta)=>{$slop: 2; $inorder: true}"], &["d:1", "d:2"]),
        (&["(alpha beta)=>{$slop: $s}", "PARAMS", "2", "s", "0"], &["d:1", "d:3"]),
        (&["(alpha (beta|x))=>{$slop: 0}"], &["d:1", "d:2", "d:3"]),
        (&["x|((alpha beta)=>{$slop: 0})"], &["d:1", "d:2", "d:3"]),
        (&["-((alpha beta)=>{$slop: 0})"], &["d:2"]),
    ] {
        assert_eq!(keys(&server, search), want, "{search:?}");
    }
    assert_eq!(
        server.line("FT.SEARCH idx alpha SLOP x"),
        "Bad arguments for SLOP: Could not convert argument to expected type"
    );
    for (attribute, value) in [("slop", "-2"), ("inorder", "7"), ("phonetic", "x"), ("weight", "-1")] {
        let query = format!("alpha=>{{${attribute}:{value}}}");
        let error = format!("Invalid value ({value}) for `{attribute}`");
        assert_eq!(server.run(&[b"FT.SEARCH", b"idx", query.as_bytes()]), error);
    }
}

#[test]
fn words_with_few_changes_are_found() {
    let server = loaded(
        "SCHEMA t TEXT",
        &[("d:1", &["t", "hello"]), ("d:2", &["t", "help"]), ("d:3", &["t", "\u{fc}ber world"])],
    );
    for (query, want) in [
        ("%helo%", &["d:1", "d:2"][..]),
        ("%%hxllo%%", &["d:1"]),
        ("%%%helpme%%%", &["d:1", "d:2"]),
        ("%uber%", &["d:3"]),
        ("%the%", &[]),
        ("%$p%", &["d:1", "d:2"]),
        ("%helo% -%help%", &["d:1"]),
    ] {
        assert_eq!(keys(&server, &[query, "PARAMS", "2", "p", "helo"]), want, "{query}");
    }
    for (query, error) in [
        ("%abc", "Syntax error at offset 1 near abc"),
        ("%abc%%", "Syntax error at offset 5 near abc"),
        ("%a b%", "Syntax error at offset 3 near b"),
    ] {
        assert_eq!(server.run(&[b"FT.SEARCH", b"idx", query.as_bytes()]), error);
    }
}

/// The score of a document for a query, and its explanation.
fn score(server: &Server, scorer: &str, query: &str, key: &str) -> (f64, String) {
    let words = ["FT.SEARCH", "idx", query, "NOCONTENT", "WITHSCORES", "EXPLAINSCORE", "SCORER", scorer];
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    let reply = server.run(&words);
    let rest = reply.split(&format!("\"{key}\", [")).nth(1).unwrap_or_else(|| panic!("{key} in {reply}"));
    let (score, rest) = rest.split_once(", ").expect("a score and its explanation");
    (score.trim_matches('"').parse().expect("a number"), rest.to_owned())
}

/// The numbers are those of RediSearch 2.10.5, those of BM25STD by the formula of Redis 8.
#[test]
fn scores_are_redisearchs() {
    let server = loaded(
        "SCHEMA t TEXT b TEXT WEIGHT 3 g TAG n NUMERIC s TEXT NOSTEM",
        &[
            ("d:1", &["t", "hello world running dogs", "b", "hello again", "g", "red", "n", "1"]),
            ("d:2", &["t", "hello hello hello", "b", "the cat", "g", "red,blue", "n", "2"]),
            ("d:3", &["t", "run dog", "g", "blue", "n", "3", "s", "running"]),
        ],
    );
    for (scorer, query, key, want) in [
        ("TFIDF", "hello", "d:1", 1.0),
        ("TFIDF", "hello world", "d:1", 1.5),
        ("TFIDF", "@b:hello", "d:1", 1.0),
        ("TFIDF", "running", "d:3", 1.5),
        ("TFIDF", "running", "d:1", 0.75),
        ("TFIDF", "hello ~zzz", "d:2", 1.0),
        ("TFIDF", "@g:{red}", "d:1", 0.25),
        ("TFIDF", "@n:[1 2] hello", "d:2", 4.0 / 3.0),
        ("TFIDF", "-hello", "d:3", 0.0),
        ("TFIDF", "*", "d:2", 1.0 / 3.0),
        ("TFIDF", "(hello world)=>{$weight:2}", "d:1", 3.0),
        ("TFIDF", "hello=>{$weight:2}", "d:1", 2.0),
        ("DISMAX", "hello|world", "d:1", 4.0),
        ("DOCSCORE", "hello", "d:1", 1.0),
        ("HAMMING", "hello", "d:1", 0.0),
    ] {
        let (found, explained) = score(&server, scorer, query, key);
        assert!((found - want).abs() < 1e-9, "{scorer} {query} {key}: {found}, {explained}");
    }
    let plain = |frequency: f64, length: f64, with_term: f64| {
        let idf = (1.0 + (3.0 - with_term + 0.5) / (with_term + 0.5)).ln();
        idf * frequency * 2.2 / (frequency + 1.2 * (0.25 + 0.75 * length / (19.0 / 3.0)))
    };
    let bm25 = |query: &str, key: &str, want: f64| {
        let (found, explained) = score(&server, "BM25STD", query, key);
        assert!((found - want).abs() < 1e-6, "{query} {key}: {found}, {explained}");
        let (squashed, _) = score(&server, "BM25STD.TANH", query, key);
        assert!((squashed - (want / 4.0).tanh()).abs() < 1e-6, "{query} {key}: {squashed}");
    };
    bm25("hello", "d:1", plain(4.0, 10.0, 2.0));
    bm25("hello", "d:2", plain(3.0, 6.0, 2.0));
    bm25("hello world", "d:1", plain(4.0, 10.0, 2.0) + plain(1.0, 10.0, 1.0));
    bm25("hello|world", "d:2", plain(3.0, 6.0, 2.0));
    bm25("hello=>{$weight:3}", "d:2", 3.0 * plain(3.0, 6.0, 2.0));
    bm25("hel*", "d:2", plain(3.0, 6.0, 2.0));
    bm25("@n:[1 3]", "d:2", 0.0);
    let best = plain(3.0, 6.0, 2.0).max(plain(4.0, 10.0, 2.0));
    let (normal, _) = score(&server, "BM25STD.NORM", "hello", "d:2");
    assert!((normal - plain(3.0, 6.0, 2.0) / best).abs() < 1e-6, "{normal}");
    let (_, explained) = score(&server, "TFIDF", "hello world", "d:1");
    let tree = "[Final TFIDF : words TFIDF 6.00 * document score 1.00 / norm 4 / slop 1, [[(Weight 1.00 * total children \
                TFIDF 6.00), [(TFIDF 2.00 = Weight 1.00 * TF 1 * IDF 2.00), (TFIDF 4.00 = Weight 1.00 * TF 4 * IDF 1.00)";
    assert!(explained.starts_with(tree), "{explained}");
    assert_eq!(
        server.line("FT.SEARCH idx hello EXPLAINSCORE"),
        "EXPLAINSCORE must be accompanied with WITHSCORES"
    );
    assert_eq!(server.line("FT.SEARCH idx hello SCORER bm25std"), "No such scorer bm25std");
}

#[test]
fn the_best_documents_come_first_and_follow_changes() {
    let server = loaded("SCORE_FIELD sc SCHEMA t TEXT", &[]);
    for number in 0..3000 {
        let text = format!("word {}", "filler ".repeat(number % 50));
        server.hset(&format!("d:{number}"), &[("t", text.as_bytes())]);
    }
    let first = |server: &Server| server.line("FT.SEARCH idx word NOCONTENT LIMIT 0 2");
    assert_eq!(first(&server), r#"[3000, "d:0", "d:50"]"#);
    server.line("HSET d:50 sc 0.5");
    assert_eq!(first(&server), r#"[3000, "d:0", "d:100"]"#);
    server.line("DEL d:0");
    server.line("HSET d:77 t 'word word word'");
    assert_eq!(first(&server), r#"[2999, "d:77", "d:100"]"#);
    // A page that is beyond the documents that are kept in order at first.
    let page = server.line("FT.SEARCH idx word NOCONTENT LIMIT 2990 20");
    assert_eq!(page.matches("d:").count(), 9, "{page}");
    // The statistics are those of the documents that are left.
    server.line("FLUSHALL");
    server.line("FT.CREATE idx PREFIX 1 d: SCORE_FIELD sc SCHEMA t TEXT");
    server.line("HSET d:1 t 'word other'");
    let (found, explained) = score(&server, "BM25STD", "word", "d:1");
    assert!((found - (4.0f64 / 3.0).ln()).abs() < 1e-6, "{found} {explained}");
}

#[test]
fn words_that_were_found_are_marked_and_texts_shortened() {
    let server = loaded(
        "SCHEMA t TEXT b TEXT n NUMERIC",
        &[
            ("d:1", &["t", "Hello world, running dogs hello", "b", "the hello  and   welcome", "n", "312"]),
            (
                "d:2",
                &[
                    "t",
                    "a b c d e f g h one two three four five six seven eight nine ten target eleven twelve thirteen \
                     fourteen fifteen sixteen seventeen eighteen nineteen twenty other one two three four five six seven \
                     eight nine ten eleven twelve thirteen target fourteen other fifteen sixteen seventeen eighteen",
                ],
            ),
        ],
    );
    let marked = |options: &str, field: &str| {
        let reply = server.line(&format!("FT.SEARCH idx {options}"));
        let rest =
            reply.split(&format!("\"{field}\", \"")).nth(1).unwrap_or_else(|| panic!("{options}: {reply}"));
        rest.split('"').next().unwrap_or_default().to_owned()
    };
    for (options, field, want) in [
        ("hello HIGHLIGHT", "t", "<b>Hello</b> world, running dogs <b>hello</b>"),
        ("@b:hello HIGHLIGHT", "t", "<b>Hello</b> world, running dogs <b>hello</b>"),
        ("run HIGHLIGHT TAGS [ ]", "t", "Hello world, [running] dogs hello"),
        ("hel* HIGHLIGHT FIELDS 1 t", "b", "the hello  and   welcome"),
        ("'hello -zzz' HIGHLIGHT FIELDS 1 b", "b", "the <b>hello</b>  and   welcome"),
        ("hello SUMMARIZE", "b", "hello and... "),
        ("hello SUMMARIZE", "n", "312"),
        ("hello RETURN 3 t AS x HIGHLIGHT", "x", "Hello world, running dogs hello"),
        (
            "target SUMMARIZE FRAGS 2 LEN 5 SEPARATOR |",
            "t",
            "nine ten target eleven|thirteen target fourteen|",
        ),
        (
            "'target other' SUMMARIZE FRAGS 2 LEN 10 HIGHLIGHT",
            "t",
            "six seven eight nine ten <b>target</b> eleven twelve thirteen... eleven twelve thirteen <b>target</b> fourteen \
             <b>other</b> fifteen sixteen... ",
        ),
        ("'@n:[312 312]' SUMMARIZE", "t", "Hello world, running dogs"),
        ("hello SUMMARIZE FRAGS 0", "t", ""),
    ] {
        assert_eq!(marked(options, field), want, "{options}");
    }
    for (options, error) in [
        ("hello HIGHLIGHT FIELDS", "Bad arguments for HIGHLIGHT"),
        ("hello SUMMARIZE FRAGS x", "Bad arguments for SUMMARIZE"),
        ("hello SUMMARIZE LEN -1", "Bad arguments for SUMMARIZE"),
        ("hello HIGHLIGHT FIELDS 1 none", "No such property `none`"),
        ("hello RETURN 3 t AS none HIGHLIGHT FIELDS 1 none", "Property `none` is not in schema"),
    ] {
        assert_eq!(server.line(&format!("FT.SEARCH idx {options}")), error);
    }
}

#[test]
fn words_that_sound_alike_are_found_in_phonetic_fields() {
    let server = loaded(
        "SCHEMA t TEXT PHONETIC dm:en u TEXT n TEXT NOSTEM PHONETIC dm:fr",
        &[
            ("d:1", &["t", "smith's knight felix jon", "u", "smith", "n", "smythe running"]),
            ("d:2", &["t", "smyth night phelix john", "u", "xx"]),
        ],
    );
    for (query, want) in [
        ("smith", &["d:1", "d:2"][..]),
        ("@t:smith", &["d:1", "d:2"]),
        ("@u:smith", &["d:1"]),
        ("@u:smyth", &[]),
        ("@n:smith", &["d:1"]),
        ("@t:john", &["d:1", "d:2"]),
        ("@t:(felix)=>{$phonetic:false}", &["d:1"]),
        ("@t:felix=>{$phonetic:true}", &["d:1", "d:2"]),
        ("\"night\"", &["d:2"]),
        ("(@t:night @t:phelix)=>{$slop:0}", &["d:1", "d:2"]),
    ] {
        assert_eq!(keys(&server, &[query]), want, "{query}");
    }
    let query = "@u:felix=>{$phonetic:true}";
    let refused = server.run(&[b"FT.SEARCH", b"idx", query.as_bytes()]);
    assert_eq!(refused, "field does not support phonetics");
    assert_eq!(
        server.line("FT.EXPLAIN idx @t:felix"),
        "\"@t:UNION {\\n  @t:felix\\n  @t:<FLKS(expanded)\\n  @t:+felix(expanded)\\n}\\n\""
    );
    server.line("HSET d:2 t other");
    assert_eq!(keys(&server, &["@t:smith"]), ["d:1"]);
}

#[test]
fn long_queries_over_texts_that_repeat_their_words_are_bounded() {
    let server = loaded("SCHEMA t TEXT", &[]);
    server.hset("d:1", &[("t", "run ".repeat(20_000).as_bytes())]);
    let phrase = format!("\"{}\"", "run ".repeat(30_000));
    let search = |query: &str, options: &[&[u8]]| {
        server.run(&[&[&b"FT.SEARCH"[..], b"idx", query.as_bytes(), b"NOCONTENT"], options].concat())
    };
    assert_eq!(search(&phrase, &[]), r#"[1, "d:1"]"#);
    let words = "run ".repeat(3_000);
    assert_eq!(search(&words, &[b"SLOP", b"3", b"INORDER"]), r#"[1, "d:1"]"#);
    let refused = "Fuzzy matching of more than 255 bytes is not supported by this server yet";
    assert_eq!(search(&format!("%{}%", "a".repeat(256)), &[]), refused);
    // A long term costs a comparison no more than the word is long.
    server.hset("d:2", &[("t", "a".repeat(1_000_000).as_bytes())]);
    assert_eq!(search(&format!("%%%{}%%%", "a".repeat(255)), &[]), "[0]");
    assert_eq!(search("%%%aaa%%%", &[]), r#"[1, "d:1"]"#);
}
