//! Dictionaries, synonyms, spelling and suggestions: live, and after a restart.

use crate::harness::Server;

fn filled() -> Server {
    let server = Server::new();
    assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SCHEMA t TEXT u TEXT"), "OK");
    for (key, t) in [("d:1", "hello name"), ("d:2", "held names"), ("d:3", "hello there"), ("d:4", "help")] {
        server.hset(key, &[("t", t.as_bytes())]);
    }
    server
}

#[test]
fn dictionaries_are_of_a_database_and_come_back() {
    let server = Server::new();
    assert_eq!(server.line("FT.DICTADD d foo bar foo"), "2");
    assert_eq!(server.line("FT.DICTADD d foo baz"), "1");
    assert_eq!(server.line("FT.DICTADD gone x"), "1");
    assert_eq!(server.line("FT.DICTDEL gone x y"), "1");
    assert_eq!(server.line("FT.DICTDUMP gone"), "could not open dict key");
    let server = server.restart();
    assert_eq!(server.line("FT.DICTDUMP d"), r#"["bar", "baz", "foo"]"#);
    assert_eq!(server.line("SWAPDB 0 1"), "OK");
    assert_eq!(server.line("FT.DICTDUMP d"), "could not open dict key");
    assert_eq!(server.line("SWAPDB 0 1"), "OK");
    assert_eq!(server.line("FT.DICTDEL d bar"), "1");
    assert_eq!(server.line("FLUSHALL"), "OK");
    server.backfill();
    assert_eq!(server.restart().line("FT.DICTDUMP d"), "could not open dict key");
}

#[test]
fn long_lists_are_copied_without_the_lock() {
    let server = filled();
    let terms: String = (0..5_000).map(|term| format!(" t{term:04}")).collect();
    assert_eq!(server.line(&format!("FT.DICTADD d{terms}")), "5000");
    assert_eq!(server.line(&format!("FT.SYNUPDATE idx g{terms}")), "OK");
    for command in ["FT.DICTDUMP d", "FT.SYNDUMP idx"] {
        assert!(server.is_offloaded(command), "{command}");
        let reply = server.line(command);
        assert_eq!(reply.matches("\"t").count(), 5_000, "{command}");
        assert!(reply.contains("t0000") && reply.contains("t4999"), "{command}");
    }
    let memory = || {
        let run = server.engine.inspect();
        let view = run.view(0);
        view.modules().iter().map(|module| module.memory_bytes()).sum::<usize>()
    };
    let before = memory();
    assert!(before > 5_000 * 100, "{before}");
    assert_eq!(server.line("FT.DROPINDEX idx"), "OK");
    assert!(memory() < before);
}

#[test]
fn a_word_finds_its_synonyms_unless_it_is_meant_verbatim() {
    let server = filled();
    let before = server.keys("hi", &[]);
    assert!(before.is_empty(), "{before:?}");
    assert_eq!(server.line("FT.SYNUPDATE idx greetings HI hello Shalom"), "OK");
    assert_eq!(server.line("FT.SYNUPDATE idx aid SKIPINITIALSCAN help hello"), "OK");
    let server = server.restart();
    assert_eq!(server.line("FT.SYNDUMP idx").matches("greetings").count(), 3);
    let sorted = |query: &str, more: &[&[u8]]| {
        let mut keys = server.keys(query, more);
        keys.sort();
        keys
    };
    assert_eq!(sorted("hi", &[]), ["d:1", "d:3"]);
    assert_eq!(sorted("hello", &[]), ["d:1", "d:3", "d:4"]);
    assert_eq!(sorted("hello", &[b"VERBATIM"]), ["d:1", "d:3"]);
    assert_eq!(sorted("hi name", &[]), ["d:1"]);
    assert_eq!(sorted("-hi", &[]), ["d:1", "d:2", "d:3", "d:4"], "as in RediSearch");
    assert_eq!(sorted("@u:hi", &[]), Vec::<String>::new());
    assert_eq!(server.line("FT.ALTER idx SCHEMA ADD c TAG"), "OK");
    assert_eq!(sorted("hi", &[]), ["d:1", "d:3"], "an altered index has the same synonyms");
}

#[test]
fn synonyms_that_are_too_many_for_a_query_are_refused() {
    let server = filled();
    let terms: String = (0..70_000).map(|term| format!(" t{term}")).collect();
    assert_eq!(server.line(&format!("FT.SYNUPDATE idx g{terms}")), "OK");
    let reply = server.line("FT.SEARCH idx t5");
    assert!(reply.starts_with("The query is too large"), "{reply}");
    assert!(server.line("FT.SEARCH idx t5 VERBATIM").starts_with('['));
}

#[test]
fn a_check_compares_with_the_terms_that_the_index_has() {
    let server = filled();
    let check = |words: &str| server.line(&format!("FT.SPELLCHECK idx {words}"));
    assert_eq!(check("hello"), "[]");
    assert_eq!(
        check("helo"),
        r#"[["TERM", "helo", [["0.5", "hello"], ["0.25", "held"], ["0.25", "help"]]]]"#
    );
    server.line("DEL d:1");
    assert!(check("helo FULLSCOREINFO").starts_with(r#"[3, ["TERM", "helo", [["1", "held"]"#));
    assert_eq!(server.line("FT.DICTADD d helo hexo"), "2");
    assert_eq!(check("helo TERMS EXCLUDE d"), "[]");
    assert!(check("helu TERMS INCLUDE d hela").contains(r#"["0", "hela"], ["0", "helo"]"#));
    assert_eq!(check("helo TERMS INCLUDE none"), "Dict does not exist: none");
    assert_eq!(check("helo NOSUCH"), "Unknown argument `NOSUCH`");
}

#[test]
fn a_check_of_a_large_index_goes_to_the_pool_and_refuses_to_find_everything() {
    let server = filled();
    for part in 0..110 {
        let text: String = (0..1000).map(|word| format!(" {}", letters(part * 1000 + word))).collect();
        server.hset(&format!("d:many{part}"), &[("t", text.as_bytes())]);
    }
    assert_eq!(server.line("FT.CONFIG SET TIMEOUT 0"), "OK");
    assert!(server.is_offloaded("FT.SPELLCHECK idx zzzz DISTANCE 4"));
    let reply = server.line("FT.SPELLCHECK idx zzzz DISTANCE 4");
    assert!(reply.starts_with("More than 100000 words"), "{reply}");
}

/// A number in letters, four of them.
fn letters(number: usize) -> String {
    (0..4).map(|place| char::from(b'a' + (number / 20_usize.pow(place) % 20) as u8)).collect()
}

#[test]
fn suggestions_are_values_of_the_keyspace() {
    let server = Server::new();
    assert_eq!(server.line("FT.SUGADD s hello 1"), "1");
    assert_eq!(server.line("FT.SUGADD s help 5 PAYLOAD pay"), "2");
    assert_eq!(server.line("FT.SUGADD s help 1 INCR"), "2");
    assert_eq!(server.line("FT.SUGADD s zero 0"), "3");
    assert_eq!(server.line("FT.SUGADD s x nan"), "ERR invalid score");
    assert_eq!(server.line("TYPE s"), "trietype0");
    assert_eq!(server.line("COPY s t"), "1");
    assert_eq!(server.line("RENAME t u"), "OK");
    let server = server.restart();
    for key in ["s", "u"] {
        let found = server.line(&format!("FT.SUGGET {key} hel WITHSCORES WITHPAYLOADS"));
        assert_eq!(found, r#"["help", "4.242640495300293", "pay", "hello", "0.5773502588272095", nil]"#);
    }
    assert_eq!(server.line("FT.SUGGET s helo FUZZY MAX 1"), r#"["help"]"#);
    assert_eq!(server.line("FT.SUGGET none h"), "nil");
    assert_eq!(server.line("FT.SUGDEL u hello"), "1");
    assert_eq!(server.line("FT.SUGDEL u hello"), "0");
    assert_eq!(server.line("FT.SUGDEL u help"), "1");
    assert_eq!(server.line("FT.SUGLEN u"), "1");
    assert_eq!(server.line("FT.SUGDEL u zero"), "1");
    assert_eq!(server.line("EXISTS s u"), "1");
    assert_eq!(server.line("SET str x"), "OK");
    assert!(server.line("FT.SUGADD str a 1").starts_with("WRONGTYPE"));
    assert_eq!(server.restart().line("FT.SUGLEN s"), "3");
}

#[test]
fn a_payload_that_is_kept_has_room_in_the_log() {
    let server = Server::new();
    let payload = "p".repeat(100_000);
    assert_eq!(server.line(&format!("FT.SUGADD s a 1 PAYLOAD {payload}")), "1");
    assert_eq!(server.line("FT.SUGADD s a 2"), "1");
    assert_eq!(server.line("FT.SUGADD s a 2 INCR"), "1");
    assert!(server.restart().line("FT.SUGGET s a WITHPAYLOADS").contains(&payload));
}
