//! What rows show is read, computed and marked without the keyspace's lock where it takes long, and within
//! the time limit.

use crate::harness::{Server, Ticking, blob};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Bytes of documents that one hold of the lock reads, at most: the last document may exceed them.
const WALKED_MAX: usize = 280 << 10;
/// The values of a large record. Its bytes are some eight times as many.
const VALUES: usize = 6000;
const RECORDS: usize = 90;

fn write(server: &Server, number: usize, turn: usize) {
    let values: Vec<String> =
        (0..VALUES).map(|place| format!("v{}", (place + turn) % VALUES + 10_000)).collect();
    let key = format!("r:{number:03}");
    let first = format!("t{turn}");
    let set = |path: &str, values: &[&str]| {
        let words: Vec<&[u8]> = [&b"RECORD.SET"[..], key.as_bytes(), path.as_bytes()]
            .into_iter()
            .chain(values.iter().map(|value| value.as_bytes()))
            .collect();
        server.run(&words);
    };
    set("$.a", &[&first]);
    set("$.l", &values.iter().map(String::as_str).collect::<Vec<_>>());
    set("$.n", &[&format!("n{number:03}")]);
}

fn with_records() -> Server {
    let server = Server::with_clock(Arc::new(Ticking::never()));
    let create =
        "FT.CREATE idx ON RECORD PREFIX 1 r: SCHEMA $.n AS n TAG $.a AS a TAG $.. AS all TAG NOINDEX";
    assert_eq!(server.line(create), "OK");
    (0..RECORDS).for_each(|number| write(&server, number, number));
    server
}

fn words(line: &str) -> Vec<&[u8]> {
    line.split(' ').map(str::as_bytes).collect()
}

/// Runs the command, with records that change between its looks. Each hold of the lock reads little, and the
/// reply is that of the last moment.
fn check(server: &Server, line: &str) -> String {
    let words = words(line);
    let turn = Cell::new(0);
    let between = || {
        turn.set(turn.get() + 1);
        (0..3).for_each(|number| write(server, (number + 7 * turn.get()) % RECORDS, turn.get()));
    };
    let (reply, _) = server.run_between_looks(&words, &between);
    let walked = server.walked_in_one_hold();
    assert!(walked <= WALKED_MAX, "{line}: {walked} bytes in one hold");
    assert!(reply == server.run_in_transaction(&words), "{line}: {}", &reply[..200]);
    reply
}

#[test]
fn the_rows_of_a_page_of_large_documents_are_read_after_the_last_look() {
    let server = with_records();
    for line in [
        "FT.SEARCH idx * RETURN 1 $.. LIMIT 0 90 DIALECT 3",
        "FT.SEARCH idx * RETURN 3 $.. AS all LIMIT 0 90",
        "FT.SEARCH idx * RETURN 2 $.l $.a LIMIT 3 80 DIALECT 3",
        "FT.SEARCH idx * SORTBY n DESC LIMIT 0 90 DIALECT 3",
        "FT.SEARCH idx * SORTBY all RETURN 1 $.n LIMIT 0 90 DIALECT 3",
        "FT.PROFILE idx SEARCH QUERY * RETURN 1 $.q LIMIT 0 90",
    ] {
        if line.starts_with("FT.PROFILE") {
            server.run_between_looks(&words(line), &|| ());
            assert!(server.walked_in_one_hold() <= WALKED_MAX, "{line}");
            continue;
        }
        let reply = check(&server, line);
        assert_eq!(reply.matches("r:0").count(), if line.contains("LIMIT 3") { 80 } else { 90 }, "{line}");
    }
    // Small ones are written in the look, with no other.
    for line in ["FT.SEARCH idx * RETURN 2 $.a $.n LIMIT 0 90", "FT.SEARCH idx * RETURN 1 $.. LIMIT 0 5"] {
        let (_, looks) = server.run_between_looks(&words(line), &|| ());
        assert_eq!(looks.len(), 1, "{line}");
        assert!(server.written_in_last_look() > 0, "{line}");
    }
}

#[test]
fn many_large_documents_are_read_between_two_looks() {
    let server = with_records();
    for number in RECORDS..300 {
        server.line(&format!("RECORD.SET r:{number:03} $.a x"));
        server.line(&format!("RECORD.SET r:{number:03} $.n n{number:03}"));
    }
    for line in [
        "FT.SEARCH idx * RETURN 1 $.. LIMIT 0 300 DIALECT 3",
        "FT.SEARCH idx * RETURN 1 $.. SORTBY n LIMIT 0 300 DIALECT 3",
    ] {
        assert_eq!(check(&server, line).matches("r:").count(), 300, "{line}");
    }
}

#[test]
fn aggregations_read_large_documents_without_the_lock() {
    let server = with_records();
    let all = |reply: &str| reply.matches(r#""n", "#).count();
    for line in [
        "FT.AGGREGATE idx * LOAD 4 $.. AS all @n",
        "FT.AGGREGATE idx * LOAD 4 $.. AS all @n DIALECT 3",
        "FT.AGGREGATE idx * LOAD 2 @all @n SORTBY 2 @n DESC MAX 90 DIALECT 3",
        "FT.AGGREGATE idx * LOAD * SORTBY 2 @n ASC MAX 90 DIALECT 3",
        "FT.AGGREGATE idx * LOAD 1 @all GROUPBY 1 @n REDUCE FIRST_VALUE 1 @all AS f",
    ] {
        let (reply, _) = server.run_between_looks(&words(line), &|| ());
        let walked = server.walked_in_one_hold();
        assert!(walked <= WALKED_MAX, "{line}: {walked} bytes in one hold");
        assert_eq!(all(&reply), RECORDS, "{line}");
        assert!(reply == server.run_in_transaction(&words(line)), "{line}");
        // Documents that change meanwhile stay in the answer.
        let turn = Cell::new(0);
        let (reply, _) = server.run_between_looks(&words(line), &|| {
            turn.set(turn.get() + 1);
            (0..20).for_each(|number| write(&server, number, turn.get() % 5));
        });
        assert_eq!(all(&reply), RECORDS, "{line}");
    }
    // Each row is one state of its document: both values are of the same write.
    let (turn, mut changed) = (Cell::new(0), 0);
    let line = "FT.AGGREGATE idx * LOAD 6 $.a AS a $.l AS l";
    let (reply, _) = server.run_between_looks(&words(line), &|| {
        turn.set(turn.get() + 1);
        (0..RECORDS).for_each(|number| write(&server, number, 100 + turn.get()));
    });
    let rows: Vec<&str> = reply.split(r#"["a", "t"#).skip(1).collect();
    assert_eq!(rows.len(), RECORDS, "{reply}");
    for row in rows {
        let written: usize = row.split('"').next().and_then(|turn| turn.parse().ok()).expect("a turn");
        assert!(row.contains(&format!(r#""l", "v{}""#, written + 10_000)), "{row}");
        changed += usize::from(written > 100);
    }
    assert!(changed > 0, "nothing changed meanwhile");
}

#[test]
fn hashes_of_many_fields_are_copied_in_slices() {
    let server = Server::with_clock(Arc::new(Ticking::never()));
    let create =
        "FT.CREATE idx PREFIX 1 d: SCHEMA n NUMERIC v VECTOR FLAT 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2";
    assert_eq!(server.line(create), "OK");
    let names: Vec<String> = (0..300).map(|field| format!("f{field}")).collect();
    for number in 0..100 {
        let (vector, digits) = (blob(&[number as f32, 0.0]), number.to_string());
        let mut fields: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
        fields.extend([("n", digits.as_bytes()), ("v", &vector)]);
        server.hset(&format!("d:{number}"), &fields);
    }
    let origin = blob(&[0.0, 0.0]);
    for query in ["*", "*=>[KNN 100 @v $q]"] {
        let mut line = words("FT.SEARCH idx");
        line.extend([
            query.as_bytes(),
            b"LIMIT",
            b"0",
            b"100",
            b"DIALECT",
            b"2",
            b"PARAMS",
            b"2",
            b"q",
            &origin,
        ]);
        let (reply, looks) = server.run_between_looks(&line, &|| ());
        assert_eq!(reply.matches(r#""f299", "x""#).count(), 100, "{query}");
        // A look copies some dozens; the last one copies none.
        assert!(
            looks.len() > 5 && looks.iter().skip(1).all(|looked_up| *looked_up < 20),
            "{query}: {looks:?}"
        );
        assert!(reply == server.run_in_transaction(&line), "{query}");
    }
}

#[test]
fn a_cursor_gives_each_large_document_once() {
    let server = with_records();
    let mut found = BTreeSet::new();
    let (mut reply, _) = server
        .run_between_looks(&words("FT.AGGREGATE idx * LOAD 4 $.. AS all @n WITHCURSOR COUNT 7"), &|| ());
    let mut reads = 0;
    loop {
        reads += 1;
        let rows: Vec<&str> =
            reply.split(r#""n", "#).skip(1).map(|row| row.split('"').nth(1).expect("a number")).collect();
        rows.iter().for_each(|row| assert!(found.insert((*row).to_owned()), "{row} comes twice"));
        let cursor = reply.trim_end_matches(']').rsplit(", ").next().expect("a cursor").to_owned();
        if cursor == "0" {
            break;
        }
        reply = server.run_between_looks(&words(&format!("FT.CURSOR READ idx {cursor}")), &|| ()).0;
        assert!(server.walked_in_one_hold() <= WALKED_MAX);
    }
    assert_eq!(found.len(), RECORDS);
    assert!(reads >= RECORDS / 7, "{reads}");
}

#[test]
fn few_documents_that_are_too_much_for_one_look_are_all_there() {
    let server = Server::new();
    assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SCHEMA n NUMERIC"), "OK");
    let text = "x".repeat(30_000);
    for number in 0..40 {
        server.hset(&format!("d:{number}"), &[("n", number.to_string().as_bytes()), ("t", text.as_bytes())]);
    }
    let (reply, looks) = server.run_between_looks(&words("FT.AGGREGATE idx * LOAD 2 n t"), &|| ());
    assert_eq!(reply.matches(r#""n", "#).count(), 40);
    assert!(looks.len() > 4, "{looks:?}");
}

/// A server with an index over `documents` hashes. Its clock advances by a millisecond at each reading.
fn ticking(documents: usize) -> Server {
    let mut server = Server::with_clock(Arc::new(Ticking::by_millisecond()));
    server.resp3 = true;
    assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SCHEMA n NUMERIC t TEXT"), "OK");
    for number in 0..documents {
        server.hset(&format!("d:{number}"), &[("n", number.to_string().as_bytes()), ("t", b"some words")]);
    }
    server
}

const WARNING: &str = r#""warning": ["Timeout limit was reached"]"#;

#[test]
fn the_time_limit_is_looked_at_by_the_work_of_a_row() {
    const ROWS: usize = 100;
    let server = ticking(ROWS);
    let sum = vec!["@n"; 10_000].join("+");
    let equal = vec!["@n==@n"; 10_000].join("&&");
    let reducers: String = (0..400).map(|number| format!(" REDUCE TOLIST 1 @n AS x{number}")).collect();
    let of_groups = "GROUPBY 1 @n";
    for line in [
        format!("FT.AGGREGATE idx * LOAD 1 @n APPLY {sum} AS x"),
        format!("FT.AGGREGATE idx * LOAD 1 @n FILTER {equal}"),
        format!("FT.AGGREGATE idx * LOAD 1 @n FILTER !({equal})"),
        format!("FT.AGGREGATE idx * {of_groups} APPLY {sum} AS x"),
        format!("FT.AGGREGATE idx * {of_groups} SORTBY 2 @n ASC LIMIT 0 100 APPLY {sum} AS x"),
        format!("FT.AGGREGATE idx * LOAD 1 @n APPLY {sum} AS x SORTBY 2 @x ASC MAX 100"),
        format!("FT.AGGREGATE idx * GROUPBY 1 @n{reducers} APPLY 1 AS y"),
    ] {
        let rows = |timeout: &str| {
            let line = format!("{line} TIMEOUT {timeout}");
            let (reply, _) = server.run_between_looks(&words(&line), &|| ());
            (reply.matches("extra_attributes").count(), reply.contains(WARNING))
        };
        let whole = rows("0");
        assert!(!whole.1 && (whole.0 == ROWS || line.contains('!')), "{whole:?} {}", &line[..60]);
        let (cut, is_late) = rows("4");
        assert!(is_late && cut < ROWS, "{cut} rows: {}", &line[..60]);
        let (more, is_late) = rows("30");
        let gives_rows = !line.contains('!') && !line.contains("REDUCE");
        assert!(is_late || !gives_rows, "{}", &line[..60]);
        assert!(more > cut || !gives_rows, "{more} after {cut} rows: {}", &line[..60]);
    }
    assert_eq!(server.line("FT.CONFIG SET ON_TIMEOUT fail"), "OK");
    let line = format!("FT.AGGREGATE idx * LOAD 1 @n APPLY {sum} AS x TIMEOUT 4");
    assert_eq!(server.run_between_looks(&words(&line), &|| ()).0, "Timeout limit was reached");
}

#[test]
fn a_cursor_goes_on_where_the_time_limit_has_ended_its_read() {
    const ROWS: usize = 60;
    let server = ticking(ROWS);
    let sum = vec!["@n"; 10_000].join("+");
    for steps in ["LOAD 1 @n", "GROUPBY 1 @n"] {
        let line = format!("FT.AGGREGATE idx * {steps} APPLY {sum} AS x WITHCURSOR COUNT 100 TIMEOUT 20");
        let (mut reply, _) = server.run_between_looks(&words(&line), &|| ());
        let (mut rows, mut reads) = (0, 0);
        loop {
            (rows, reads) = (rows + reply.matches("extra_attributes").count(), reads + 1);
            let cursor = reply.trim_end_matches(']').rsplit(", ").next().expect("a cursor").to_owned();
            if cursor == "0" {
                break;
            }
            assert!(reply.contains(WARNING) && reads < ROWS, "{reply}");
            reply = server.run_between_looks(&words(&format!("FT.CURSOR READ idx {cursor}")), &|| ()).0;
        }
        assert_eq!(rows, ROWS, "{steps}");
        assert!(reads > 2, "{reads} {steps}");
    }
}

#[test]
fn words_are_marked_after_the_last_look_and_in_time() {
    const WORDS: usize = 30_000;
    let server = ticking(0);
    let text: String = (0..WORDS).map(|number| format!("w{} ", number % 1000)).collect();
    for number in 0..9 {
        server.hset(&format!("d:{number}"), &[("n", b"1"), ("t", text.as_bytes())]);
    }
    for options in ["HIGHLIGHT", "SUMMARIZE FRAGS 9 LEN 9", "RETURN 1 t SUMMARIZE HIGHLIGHT"] {
        let line = format!("FT.SEARCH idx w7 {options} TIMEOUT 0");
        let (reply, _) = server.run_between_looks(&words(&line), &|| ());
        assert_eq!(reply.matches(r#""id""#).count(), 9, "{options}");
        assert_eq!(reply.contains("<b>w7</b>"), options.contains("HIGHLIGHT"), "{options}");
        assert!(server.touched_in_one_hold() < 1000, "{options}: {}", server.touched_in_one_hold());
        assert!(reply == server.run_in_transaction(&words(&line)), "{options}");
    }
    let cut = |timeout: usize| {
        let line = format!("FT.SEARCH idx w7 HIGHLIGHT TIMEOUT {timeout}");
        let (reply, _) = server.run_between_looks(&words(&line), &|| ());
        (reply.matches(r#""id""#).count(), reply.contains(WARNING))
    };
    let cuts: Vec<(usize, bool)> = (1..60).map(cut).collect();
    assert!(cuts.iter().any(|(rows, late)| *late && (1..9).contains(rows)), "{cuts:?}");
    assert_eq!(cuts.last(), Some(&(9, false)), "{cuts:?}");
}

#[test]
fn no_hold_walks_over_the_words_of_many_long_texts() {
    let mut server = Server::with_clock(Arc::new(Ticking::never()));
    server.resp3 = true;
    assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SCHEMA t TEXT"), "OK");
    let write = |number: usize, turn: usize| {
        let last = if (number + turn).is_multiple_of(3) { "one two" } else { "two one" };
        let text = format!("{}{last}", format!("w{number} one w{turn} two ").repeat(1000));
        server.hset(&format!("d:{number}"), &[("t", text.as_bytes())]);
    };
    (0..120).for_each(|number| write(number, 0));
    for query in ["\"one two\"", "(one two)=>{$slop:0;$inorder:true}"] {
        let words: [&[u8]; 7] =
            [b"FT.SEARCH", b"idx", query.as_bytes(), b"NOCONTENT", b"LIMIT", b"0", b"200"];
        let turn = Cell::new(0);
        let (reply, looks) = server.run_between_looks(&words, &|| {
            turn.set(turn.get() + 1);
            if turn.get() < 4 {
                (0..120).for_each(|number| write(number, turn.get()));
            }
        });
        let touched = server.touched_in_one_hold();
        assert!(touched < 2_600, "{query}: {touched}, {looks:?}");
        assert!(reply == server.run_in_transaction(&words), "{query}: {reply}");
    }
}

#[test]
fn the_time_limit_is_looked_at_between_the_paths_of_one_document() {
    let mut server = Server::with_clock(Arc::new(Ticking::by_millisecond()));
    server.resp3 = true;
    assert_eq!(server.line("FT.CREATE idx ON RECORD PREFIX 1 r: SCHEMA $.n AS n TAG"), "OK");
    (0..3).for_each(|number| write(&server, number, number));
    let paths: String = (0..400).map(|number| format!(" $.q{number}")).collect();
    for command in [
        format!("FT.SEARCH idx * RETURN 401 $..{paths}"),
        format!("FT.SEARCH idx * RETURN 401 $..{paths} LIMIT 0 1"),
        format!("FT.AGGREGATE idx * LOAD 401 $..{paths}"),
    ] {
        let cut = words(&command).into_iter().chain([&b"TIMEOUT"[..], b"100"]).collect::<Vec<_>>();
        let (reply, _) = server.run_between_looks(&cut, &|| ());
        assert!(reply.contains(WARNING), "{reply}");
        assert_eq!(reply.matches("extra_attributes").count(), 0, "{reply}");
        let whole = words(&command).into_iter().chain([&b"TIMEOUT"[..], b"0"]).collect::<Vec<_>>();
        let (reply, _) = server.run_between_looks(&whole, &|| ());
        let count = if command.ends_with("LIMIT 0 1") { 1 } else { 3 };
        assert_eq!(reply.matches("extra_attributes").count(), count, "{command}");
        assert!(!reply.contains(WARNING));
    }
}
