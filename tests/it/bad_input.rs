//! Invalid input to the real binary: the reply is a clear error with Redis's or RediSearch's text, the
//! connection continues if it does in Redis, the server always continues, and its memory does not grow with
//! announced sizes.
//!
//! The texts of the protocol and of plain commands were compared with a Redis 7.0 server; those of FT.*
//! follow RediSearch where it has one.

#![allow(clippy::disallowed_methods, reason = "tests of the real binary live in real time, on the real disk")]

use engramdb_resp::Value;
use engramdb_testkit::process::{Client, Server, TempDir, until};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", server.port)).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket has timeouts");
    stream
}

/// Sends bytes, and reads until the server closes. A reset counts as closed: it occurs when the server had
/// not read everything.
fn until_closed(server: &Server, bytes: &[u8]) -> String {
    let mut stream = connect(server);
    // The server may have closed before everything was sent.
    _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("the connection stays open: {error}"),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends bytes and then PING; returns everything before PING's reply, which must arrive.
fn and_goes_on(server: &Server, bytes: &[u8]) -> String {
    let mut stream = connect(server);
    stream
        .write_all(&[bytes, b"\r\n*2\r\n$4\r\nPING\r\n$8\r\nstill-on\r\n"].concat())
        .expect("the server reads");
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while !answer.ends_with(b"$8\r\nstill-on\r\n") {
        let count = stream.read(&mut chunk).expect("PING is answered");
        assert!(count > 0, "closed after {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&chunk[..count]);
    }
    answer.truncate(answer.len() - b"$8\r\nstill-on\r\n".len());
    String::from_utf8_lossy(&answer).into_owned()
}

/// The server's memory in bytes: the current value, or the maximum (`VmHWM`).
fn memory_bytes(server: &Server, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(field)).expect("Linux reports it");
    let kib: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kib * 1024
}

#[test]
fn input_that_is_not_resp_is_refused_with_redis_text_and_closed() {
    let directory = TempDir::new("bad-resp");
    let server = Server::start(directory.path(), &[]);
    let long = |head: &[u8], fill: u8| [head, &vec![fill; 70_000]].concat();
    let cases: [(&[u8], &str); 14] = [
        (b"*x\r\n", "invalid multibulk length"),
        (b"*2147483648\r\n", "invalid multibulk length"),
        (b"*99999999999999999999\r\n", "invalid multibulk length"),
        (b"*1\r\n:5\r\n", "expected '$', got ':'"),
        (b"*1\r\n*1\r\n$4\r\nPING\r\n", "expected '$', got '*'"),
        (&b"*1\r\n".repeat(100_000), "expected '$', got '*'"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$abc\r\n", "invalid bulk length"),
        (b"*2\r\n$3\r\nGET\r\n$536870913\r\n", "invalid bulk length"),
        (b"*2\r\n$3\r\nGET\r\n$5368709120\r\n", "invalid bulk length"),
        (b"SET \"a b c\r\n", "unbalanced quotes in request"),
        (&long(b"", b'A'), "too big inline request"),
        (&long(b"*", b'1'), "too big mbulk count string"),
        (&long(b"*1\r\n$", b'1'), "too big bulk count string"),
    ];
    for (bytes, text) in cases {
        let answer = until_closed(&server, &[PING, bytes].concat());
        // Commands before the invalid part are answered, but a reset may overtake an answer.
        let wanted = format!("+PONG\r\n-ERR Protocol error: {text}\r\n");
        assert!(
            answer == wanted || (bytes.len() > 60_000 && wanted.starts_with(&answer)),
            "{text}: {answer}"
        );
    }
    for request in ["POST / HTTP/1.1\r\n", "Host: localhost\r\nSET a b\r\n"] {
        assert_eq!(until_closed(&server, request.as_bytes()), "", "{request}");
    }
    assert_eq!(and_goes_on(&server, b""), "");
}

#[test]
fn odd_requests_that_redis_takes_are_taken() {
    let directory = TempDir::new("odd-resp");
    let server = Server::start(directory.path(), &[]);
    let cases: [(&[u8], &str); 9] = [
        (b"*0\r\n*-1\r\n", ""),
        (b"\r\n\r\nPING\n", "+PONG\r\n"),
        (b"*1\r\n$4\r\nPINGxx", "+PONG\r\n"),
        (b"*1\r\n$0\r\n\r\n", "-ERR unknown command '', with args beginning with: \r\n"),
        (
            b"*2\r\n$5\r\nF\r\nOO\r\n$1\r\n\x01\r\n",
            "-ERR unknown command 'F  OO', with args beginning with: '\x01' \r\n",
        ),
        (b"set \"a b\" 'c'\r\nget \"\\x61 b\"\r\n", "+OK\r\n$1\r\nc\r\n"),
        (b"GET\r\nGET a b\r\n", &"-ERR wrong number of arguments for 'get' command\r\n".repeat(2)),
        (b"%1\r\n", "-ERR unknown command '%1', with args beginning with: \r\n"),
        (b"EXEC\r\nDISCARD\r\n", "-ERR EXEC without MULTI\r\n-ERR DISCARD without MULTI\r\n"),
    ];
    for (bytes, wanted) in cases {
        assert_eq!(and_goes_on(&server, bytes), wanted, "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_request_may_come_byte_by_byte_and_end_in_the_middle() {
    let directory = TempDir::new("bytewise");
    let server = Server::start(directory.path(), &[]);
    let mut stream = connect(&server);
    stream.set_nodelay(true).expect("a TCP socket");
    for byte in b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nhello\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n" {
        stream.write_all(&[*byte]).expect("the server reads");
    }
    // Half closed in the middle of a request: the complete ones are answered, then the server closes.
    stream.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk").expect("the server reads");
    stream.shutdown(Shutdown::Write).expect("it is connected");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered and closed");
    assert_eq!(answer, "+OK\r\n$5\r\nhello\r\n");
    assert_eq!(and_goes_on(&server, b"GET k\r\n"), "$5\r\nhello\r\n");
}

#[test]
fn announced_bytes_take_no_memory() {
    let directory = TempDir::new("announced");
    let server = Server::start(directory.path(), &[]);
    let before = memory_bytes(&server, "VmRSS");
    let mut held = Vec::new();
    for _ in 0..200 {
        let mut stream = connect(&server);
        // The largest sizes that Redis allows: 100 GB announced in total, and a count of two thousand
        // million.
        stream.write_all(b"*2147483647\r\n$3\r\nSET\r\n$536870912\r\nabc").expect("the server reads");
        held.push(stream);
    }
    assert_eq!(and_goes_on(&server, b""), "");
    let grown = memory_bytes(&server, "VmHWM").saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for 200 announcements");
}

#[test]
fn unauthenticated_clients_may_announce_little() {
    let directory = TempDir::new("strangers");
    let server = Server::start(directory.path(), &["--requirepass", "secret"]);
    let cases: [(&[u8], &str); 2] = [
        (b"*11\r\n", "-ERR Protocol error: unauthenticated multibulk length\r\n"),
        (b"*2\r\n$4\r\nAUTH\r\n$16385\r\n", "-ERR Protocol error: unauthenticated bulk length\r\n"),
    ];
    for (bytes, wanted) in cases {
        assert_eq!(until_closed(&server, bytes), wanted);
    }
    let mut client = server.client();
    let mut answer = |words: &[&str]| format!("{:?}", client.call(words).expect("an answer"));
    for words in [&["GET", "a"][..], &["FT._LIST"], &["FLUSHALL"], &["PING"]] {
        let answer = answer(words);
        assert!(answer.contains("NOAUTH Authentication required."), "{words:?}: {answer}");
    }
    assert!(
        answer(&["AUTH", "wrong"]).contains("WRONGPASS invalid username-password pair or user is disabled.")
    );
    assert!(answer(&["AUTH", "secret"]).contains("OK"));
    let large = "x".repeat(100_000);
    assert!(answer(&["SET", "a", &large]).contains("OK"), "the limits are gone");
}

#[test]
fn wrong_types_and_numbers_in_redis_words() {
    let directory = TempDir::new("wrong-types");
    let server = Server::start(directory.path(), &[]);
    assert_eq!(and_goes_on(&server, b"HSET hash f v\r\nSET string x\r\n"), ":1\r\n+OK\r\n");
    const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
    let cases = [
        ("GET hash", WRONG_TYPE),
        ("INCR hash", WRONG_TYPE),
        ("HGET string f", WRONG_TYPE),
        ("HSCAN string 0", WRONG_TYPE),
        ("INCR string", "ERR value is not an integer or out of range"),
        ("INCRBYFLOAT string 1", "ERR value is not a valid float"),
        ("INCRBYFLOAT a nan", "ERR value is not a valid float"),
        ("HINCRBY hash f 1", "ERR hash value is not an integer"),
        ("SET a b EX -1", "ERR invalid expire time in 'set' command"),
        ("SET a b EX x", "ERR value is not an integer or out of range"),
        ("SET a b NX XX", "ERR syntax error"),
        ("SETRANGE a 536870912 b", "ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
        ("EXPIRE string 1 FOO", "ERR Unsupported option FOO"),
        ("EXPIRE string 9999999999999999", "ERR invalid expire time in 'expire' command"),
        ("SCAN x", "ERR invalid cursor"),
        ("SELECT 99", "ERR DB index is out of range"),
        ("HELLO 4", "NOPROTO unsupported protocol version"),
        ("RENAME nosuch a", "ERR no such key"),
    ];
    for (request, wanted) in cases {
        let answer = and_goes_on(&server, format!("{request}\r\n").as_bytes());
        assert_eq!(answer, format!("-{wanted}\r\n"), "{request}");
    }
}

/// The bytes of a vector field with four floats.
fn vector(components: [f32; 4]) -> Vec<u8> {
    components.iter().flat_map(|component| component.to_le_bytes()).collect()
}

fn words(request: &str) -> Vec<Vec<u8>> {
    request.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

const CREATE: &str = "FT.CREATE i ON HASH PREFIX 1 d: SCHEMA t TAG n NUMERIC v VECTOR";
const HNSW: &str = "HNSW 6 TYPE FLOAT32 DIM 4 DISTANCE_METRIC L2";

#[test]
fn index_definitions_that_make_no_sense() {
    let directory = TempDir::new("bad-create");
    let server = Server::start(directory.path(), &[]);
    let mut client = server.client();
    let cases = [
        (
            "FLAT 5 TYPE FLOAT32 DIM 4 DISTANCE_METRIC",
            "Bad number of arguments for vector similarity index: got 5",
        ),
        ("HNSW 5 TYPE FLOAT32 DIM 4 DISTANCE_METRIC", "got 5 but expected even number"),
        ("HNSW 4 TYPE FLOAT32 DIM 4", "without specifying DISTANCE_METRIC argument"),
        ("HNSW 6 TYPE FLOAT32 DIM 0 DISTANCE_METRIC L2", "index dim"),
        ("HNSW 6 TYPE FLOAT32 DIM -4 DISTANCE_METRIC L2", "index dim"),
        ("HNSW 6 TYPE FLOAT32 DIM 99999999999 DISTANCE_METRIC L2", "index dim"),
        ("HNSW 6 TYPE FLOAT31 DIM 4 DISTANCE_METRIC L2", "index type"),
        ("HNSW 6 TYPE FLOAT32 DIM 4 DISTANCE_METRIC TAXI", "index metric"),
        ("HNSW 8 TYPE FLOAT32 DIM 4 DISTANCE_METRIC L2 FOO 1", "FOO"),
        ("HNSW 8 TYPE FLOAT32 DIM 4 DISTANCE_METRIC L2 M 99999999", "index m:"),
        ("FLAT 9999999999999 TYPE", "Bad number of arguments"),
        ("HNSW 9999999999998 TYPE", "index type: Expected an argument, but none provided"),
        ("HNSW 9999999999998 TYPE FLOAT32", "Expected 9999999999998 parameters but got 2"),
        ("TREE 2 TYPE FLOAT32", "vector similarity algorithm"),
        (&format!("{HNSW} t TAG"), "Duplicate field in schema - t"),
        (&format!("{HNSW} x FOO"), "Invalid field type for field `x`"),
    ];
    for (definition, wanted) in cases {
        let answer = client.call(&words(&format!("{CREATE} {definition}"))).expect("an answer");
        assert!(is_error_with(&answer, wanted), "{definition}: {answer:?}");
    }
    assert!(is_error_with(
        &client.call(&["FT.CREATE", "i", "FOO", "SCHEMA", "t", "TAG"]).expect("an answer"),
        "FOO"
    ));
    // The failed ones had no effect.
    assert_eq!(
        client.call(&words(&format!("{CREATE} {HNSW}"))).expect("an answer"),
        Value::SimpleString("OK".into())
    );
    let again = client.call(&words(&format!("{CREATE} {HNSW}"))).expect("an answer");
    assert!(is_error_with(&again, "Index already exists"));
}

fn is_error_with(answer: &Value, text: &str) -> bool {
    matches!(answer, Value::Error(message) if String::from_utf8_lossy(message).contains(text))
}

#[test]
fn documents_and_queries_that_make_no_sense() {
    let directory = TempDir::new("bad-query");
    let server = Server::start(directory.path(), &[]);
    let mut client = server.client();
    client.call(&words(&format!("{CREATE} {HNSW}"))).expect("an answer");
    let good = vector([1.0, 2.0, 3.0, 4.0]);
    // A hash accepts any bytes; an invalid vector is not indexed, and FT.INFO reports it.
    let not_finite = vector([1.0, f32::NAN, 3.0, 4.0]);
    let vectors = [&good[..], &good[..12], &not_finite, &vector([f32::INFINITY; 4]), b"", &good.repeat(100)];
    for (number, bytes) in vectors.iter().enumerate() {
        let key = format!("d:{number}");
        let stored = client.call(&[b"HSET", key.as_bytes(), b"v", bytes, b"t", b"x"]).expect("an answer");
        assert_eq!(stored, Value::Integer(2));
    }
    let info = format!("{:?}", client.call(&["FT.INFO", "i"]).expect("an answer"));
    assert!(info.contains("hash_indexing_failures"), "{info}");
    let knn = |query: &str, blob: &[u8]| -> Vec<Vec<u8>> {
        let tail: [&[u8]; 8] = [b"PARAMS", b"2", b"b", blob, b"NOCONTENT", b"DIALECT", b"2", b"VERBATIM"];
        let head: [&[u8]; 3] = [b"FT.SEARCH", b"i", query.as_bytes()];
        head.iter().chain(&tail).map(|word| word.to_vec()).collect()
    };
    let found = client.call(&knn("*=>[KNN 9 @v $b]", &good)).expect("an answer");
    assert!(format!("{found:?}").contains("d:0") && !format!("{found:?}").contains("d:1"), "{found:?}");
    for (blob, wanted) in [
        (&good[..12], "query vector blob size (12) does not match index's expected size (16)"),
        (&not_finite, "not a finite number"),
        (b"", "query vector blob size (0) does not match index's expected size (16)"),
    ] {
        let answer = client.call(&knn("*=>[KNN 9 @v $b]", blob)).expect("an answer");
        assert!(is_error_with(&answer, wanted), "{answer:?}");
    }
    for (query, wanted) in BAD_QUERIES {
        let answer = client.call(&knn(query, &good)).expect("an answer");
        assert!(is_error_with(&answer, wanted), "{query}: {answer:?}");
    }
    for deep in ["(".repeat(50_000), "-".repeat(50_000), "@t:{".repeat(50_000), "(-".repeat(50_000)] {
        let answer = client.call(&knn(&deep, &good)).expect("an answer");
        let wanted = if deep.starts_with('@') { "Syntax error" } else { "Parser stack overflow" };
        assert!(is_error_with(&answer, wanted), "{answer:?}");
    }
    for (options, wanted) in BAD_OPTIONS {
        let answer = client.call(&words(&format!("FT.SEARCH i * {options}"))).expect("an answer");
        assert!(is_error_with(&answer, wanted), "{options}: {answer:?}");
    }
    for (request, wanted) in [
        ("FT.SEARCH nope *", "nope: no such index"),
        ("FT.INFO nope", "Unknown index name"),
        ("FT.DROPINDEX nope", "Unknown Index name"),
    ] {
        assert!(is_error_with(&client.call(&words(request)).expect("an answer"), wanted));
    }
    assert_eq!(client.call(&["PING"]).expect("an answer"), Value::SimpleString("PONG".into()));
}

const BAD_QUERIES: [(&str, &str); 18] = [
    ("*=>[KNN", "Syntax error"),
    ("*=>[KNN x @v $b]", "Syntax error"),
    ("*=>[KNN -1 @v $b]", "Syntax error"),
    ("*=>[KNN 99999999999 @v $b]", "KNN K parameter is too large"),
    ("*=>[KNN 3 @nope $b]", "Unknown field"),
    ("*=>[KNN 3 @t $b]", "Expected a VECTOR field"),
    ("*=>[KNN 3 @v $other]", "No such parameter `other`"),
    ("*=>[KNN 3 @v $b FOO 3]", "Invalid option"),
    ("*=>[KNN 3 @v $b EF_RUNTIME 0]", "Invalid value was given"),
    ("*=>[FOO 3 @v $b]", "Syntax error"),
    ("@t:{", "Syntax error"),
    ("@t:{a} )", "Syntax error"),
    ("@n:[1", "Syntax error"),
    ("@n:[a b]", "Syntax error"),
    ("@nope:{a}", "Unknown field"),
    ("@t:[1 2]", "Expected a NUMERIC field"),
    ("@n:{a}", "Expected a TAG field"),
    ("@t:{a}|", "Syntax error"),
];

const BAD_OPTIONS: [(&str, &str); 10] = [
    ("FOO", "Unknown argument `FOO`"),
    ("LIMIT 0", "LIMIT requires two arguments"),
    ("LIMIT -1 3", "LIMIT needs two numeric arguments"),
    ("LIMIT 0 99999999999", "LIMIT exceeds maximum of 1000000"),
    ("SORTBY nope", "not loaded nor in schema"),
    ("RETURN 5 a", "Bad arguments for RETURN"),
    ("TIMEOUT x", "TIMEOUT requires a non negative integer"),
    ("DIALECT 9", "DIALECT requires a non negative integer >=1 and <= 4"),
    ("PARAMS 1 b", "PARAM"),
    ("PARAMS 20 b c", "Bad arguments for PARAMS"),
];

#[test]
fn a_client_that_does_not_read_costs_bounded_memory() {
    let directory = TempDir::new("slow-reader");
    let server = Server::start(directory.path(), &[]);
    let mut client = server.client();
    let limit = ["CONFIG", "SET", "client-output-buffer-limit", "normal 16mb 0 0"];
    assert_eq!(client.call(&limit).expect("an answer"), Value::SimpleString("OK".into()));
    client.call(&["SET", "large", &"x".repeat(1 << 20)]).expect("an answer");
    let before = memory_bytes(&server, "VmRSS");
    let mut lazy = connect(&server);
    lazy.set_write_timeout(Some(Duration::from_secs(5))).expect("a socket has timeouts");
    // A gigabyte of replies. The server stops reading, or closes: in both cases a write fails or the loop
    // ends.
    for _ in 0..64 {
        if lazy.write_all(&b"GET large\r\n".repeat(16)).is_err() {
            break;
        }
    }
    for _ in 0..50 {
        assert_eq!(client.call(&["PING"]).expect("others are served"), Value::SimpleString("PONG".into()));
        std::thread::sleep(Duration::from_millis(10));
    }
    let grown = memory_bytes(&server, "VmHWM").saturating_sub(before);
    assert!(grown < 96 << 20, "{grown} bytes for one lazy client");
}

#[test]
fn a_slow_reader_gets_all_of_a_large_reply() {
    let directory = TempDir::new("slow-large");
    let server = Server::start(directory.path(), &[]);
    let mut client = server.client();
    // More than the buffers of two sockets.
    let large = "x".repeat(64 << 20);
    client.call(&["SET", "large", &large]).expect("an answer");
    let mut stream = connect(&server);
    stream.write_all(b"GET large\r\n").expect("the server reads");
    // The output is larger than the sockets' buffers: `omem` shows the part that the server still holds.
    until("the server keeps nothing back", || {
        let list = client.call(&["CLIENT", "LIST"]).expect("an answer");
        let list = String::from_utf8_lossy(list.as_bytes().expect("text")).into_owned();
        list.lines().any(|line| line.contains("cmd=get") && !line.contains(" omem=0 "))
    });
    let mut answer = vec![0; large.len() + b"$67108864\r\n\r\n".len()];
    stream.read_exact(&mut answer).expect("all of it comes");
    assert!(answer.starts_with(b"$67108864\r\nxxx") && answer.ends_with(b"xxx\r\n"));
}

#[test]
fn ten_thousand_quick_connections() {
    let directory = TempDir::new("connects");
    let server = Server::start(directory.path(), &[]);
    let before = memory_bytes(&server, "VmRSS");
    for number in 0..10_000 {
        let mut stream = connect(&server);
        match number % 4 {
            0 => {}
            1 => _ = stream.write_all(b"*1\r\n$4\r\nPI"),
            2 => _ = stream.write_all(PING),
            _ => {
                stream.write_all(PING).expect("the server reads");
                let mut pong = [0; 7];
                stream.read_exact(&mut pong).expect("an answer");
                assert_eq!(&pong, b"+PONG\r\n");
            }
        }
    }
    assert_eq!(and_goes_on(&server, b""), "");
    let grown = memory_bytes(&server, "VmHWM").saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for 10,000 connections that are gone");
    let connected = |client: &mut Client| {
        let list = client.call(&["CLIENT", "LIST"]).expect("an answer");
        format!("{list:?}").matches(" addr=").count()
    };
    // The server notices the close of the last one some time later.
    let mut client = server.client();
    until("closed connections are listed", || connected(&mut client) == 1);
}

#[test]
fn junk_from_many_at_once() {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};
    let directory = TempDir::new("junk");
    let server = Server::start(directory.path(), &[]);
    let mut client = server.client();
    client.call(&["SET", "kept", "value"]).expect("an answer");
    let mut random = SmallRng::seed_from_u64(8);
    for _ in 0..300 {
        let mut junk = vec![0u8; random.random_range(1..4000)];
        random.fill(&mut junk[..]);
        if random.random() {
            // Looks like a request at first.
            junk.splice(0..0, *b"*3\r\n$3\r\nSET\r\n");
        }
        let mut stream = connect(&server);
        _ = stream.write_all(&junk);
    }
    let kept = client.call(&["GET", "kept"]).expect("an answer");
    assert_eq!(kept, Value::Bulk(b"value".to_vec()));
}
