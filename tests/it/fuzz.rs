//! Fuzz targets under the seeded mutator of `engramdb_sim::fuzz`: seconds in a normal run, a minute each with
//! ENGRAMDB_TEST_LONG=1.

use engramdb_resp::{Encoder, Protocol, encode_command, fuzzing};
use engramdb_sim::fuzz;

const RESP_DICTIONARY: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"*",
    b"$",
    b"%",
    b"~",
    b">",
    b"|",
    b"_\r\n",
    b"#t\r\n",
    b",nan\r\n",
    b"(1\r\n",
    b"=5\r\ntxt:",
    b"!",
    b"+",
    b"-",
    b":",
    b"*0\r\n",
    b"*-1\r\n",
    b"$-1\r\n",
    b"$0\r\n\r\n",
    b"*1\r\n",
    b"$1\r\n",
    b"$536870912\r\n",
    b"*1048576\r\n",
    b"*2147483648\r\n",
    b"\"",
    b"'",
    b"\\x",
    b"\\",
    b" ",
    b"\0",
];

/// The first byte chooses the target's limits and pieces; each stream is tried with a few choices.
fn with_choices(streams: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let choose = |stream: &Vec<u8>| [0u8, 1, 2, 100].map(|choice| [&[choice], stream.as_slice()].concat());
    streams.iter().flat_map(choose).collect()
}

#[test]
fn resp_requests() {
    let many = vec!["a value of some bytes"; 100];
    let corpus = with_choices(&[
        encode_command(&["PING"]),
        [encode_command(&["SET", "key", "value"]), encode_command(&["GET", "key"])].concat(),
        encode_command(&many),
        encode_command(&["x"; 11]),
        encode_command(&["SET", "k", &"v".repeat(20_000)]),
        b"SET key \"a \\x41\\n b\" 'it\\'s'\r\nPING\n\r\n".to_vec(),
        b"PING\r\n*1\r\n$4\r\nPING\r\n*0\r\n*-1\r\nECHO a\r\n".to_vec(),
        b"*1\r\n".repeat(50),
        b"*2\r\n$3\r\nGET\r\n$5000000000\r\n".to_vec(),
    ]);
    fuzz::run("resp_requests", &corpus, RESP_DICTIONARY, fuzzing::fuzz_decode);
}

#[test]
fn resp_replies() {
    let corpus: Vec<Vec<u8>> = [Protocol::Resp2, Protocol::Resp3].map(every_reply).into();
    let nested = [b"*1\r\n".repeat(200), b"%1\r\n+k\r\n".repeat(100)];
    let corpus = with_choices(&[corpus, nested.into()].concat());
    fuzz::run("resp_replies", &corpus, RESP_DICTIONARY, fuzzing::fuzz_reply);
}

#[test]
fn snapshot_loader() {
    let snapshot = include_bytes!("../formats/v1/shards/0/snapshots/0000000000000031.snapshot");
    let corpus = [snapshot.to_vec(), snapshot[..200].to_vec()];
    let dictionary: &[&[u8]] = &[b"EDBSNAPS", b"EDBS", &[0; 8], &[0xff; 8], &[1, 0, 0, 0], &[6, 2, 0, 0]];
    fuzz::run("snapshot_loader", &corpus, dictionary, engramdb_engine::snapshot::fuzz_load);
}

#[test]
fn search_queries() {
    let corpus: Vec<Vec<u8>> = [
        "*=>[KNN 10 @v $v EF_RUNTIME 50 AS d]",
        "(@c:{a|b\\ c} @n:[(1 +inf])=>[KNN $p @v $v]=>{$yield_distance_as: d}",
        "@v:[VECTOR_RANGE 0.5 $v]=>{$EPSILON: 0.1; $YIELD_DISTANCE_AS: d}",
        "-@c:{x} | @n:[-inf 5] (\"exact phrase\" pre* *suf %fuzzy%)",
        "@n >= 3 @n != 4 ismissing(@n) ~word w'wild?c*d' @t:(a | b)",
        "@g:[1 2 3 km] (((((*)))))",
    ]
    .map(|query| query.as_bytes().to_vec())
    .into();
    let dictionary: &[&[u8]] =
        &[b"=>", b"[KNN", b"@v", b"$v", b"{", b"}", b"(", b")", b"|", b"-", b"*", b"\\", b"inf", b"AS", b"~"];
    fuzz::run("search_queries", &corpus, dictionary, engramdb_search::fuzz_query);
}

#[test]
fn searches() {
    let corpus: Vec<Vec<u8>> = [
        "hello | world\tWITHSCORES\tSCORER\tTFIDF\tHIGHLIGHT\tFIELDS\t1\tt\tTAGS\t2\t<\t>\nhello, world: hello",
        "he* *ld %helo% w'w?r*d'\tSUMMARIZE\tFRAGS\t2\tLEN\t3\tSEPARATOR\t|\tHIGHLIGHT\nhello many words of a long world help",
        "@g:[1 1 100 km] | @s:[WITHIN $p] -@n:[(1 inf]\tPARAMS\t2\tp\tPOLYGON((0 0, 0 9, 9 9, 9 0, 0 0))\nx",
        "\"hello world\" ~(a b c)=>{$slop: 1; $inorder: true; $weight: 2}\tSLOP\t2\tINORDER\tSCORER\tBM25\na b hello world",
        "@c:{b*|red} ismissing(@n) @u:(laufen|smyth)\tLANGUAGE\tgerman\tFILTER\tn\t-3\t(2\tGEOFILTER\tg\t1\t1\t5\tkm\nstra\\-\u{df}e",
        "hello\tRETURN\t3\tt\tAS\tx\tSORTBY\tn\tDESC\tLIMIT\t0\t5\tINFIELDS\t1\tt\tINKEYS\t1\tdocument 0\tDIALECT\t1\n",
        "(run|runs|running) -world\tVERBATIM\tSCORER\tHAMMING\tPAYLOAD\tabc\tEXPLAINSCORE\tWITHSCORES\tDIALECT\t4\nrun",
    ]
    .map(|words| words.as_bytes().to_vec())
    .into();
    let dictionary: &[&[u8]] = &[
        b"\t",
        b"\n",
        b"\tHIGHLIGHT",
        b"\tSUMMARIZE",
        b"\tFRAGS\t",
        b"\tLEN\t",
        b"\tTAGS\t2\t",
        b"\tFIELDS\t1\t",
        b"\tDIALECT\t1",
        b"\tDIALECT\t3",
        b"\tSLOP\t0",
        b"\tINORDER",
        b"\tLANGUAGE\tfrench",
        b"\tSCORER\tDISMAX",
        b"\tSCORER\tTFIDF.DOCNORM",
        b"\tSCORER\tBM25STD.NORM",
        b"=>{$weight:",
        b"=>{$slop:",
        b"$phonetic:true",
        b"@g:[0 0 1 m]",
        b"@u:",
        b"%%",
        b"w'*'",
        b"*",
        b"?",
        b"~",
        b"-",
        b"|",
        b"(",
        b")",
        b"\"",
        b"\\",
        b"\xff",
        b"65535",
    ];
    fuzz::run("searches", &corpus, dictionary, engramdb_search::fuzz_search);
}

#[test]
fn search_additions() {
    let corpus: Vec<Vec<u8>> = [
        "0.5\tREPLACE\tPARTIAL\tNOCREATE\tLANGUAGE\tgerman\tPAYLOAD\tp\tIF\t@a==\"b\"\tFIELDS\tt\thello\tn\t1",
        "1\tFIELDS\tFIELDS\tREPLACE\t__score\t2",
        "1e-3\tIF\t!exists(@x) && @y+1<2\tNOSAVE\tFIELDS",
    ]
    .map(|words| words.as_bytes().to_vec())
    .into();
    let dictionary: &[&[u8]] = &[
        b"\t",
        b"\tFIELDS\t",
        b"\tIF\t",
        b"\tPAYLOAD\t",
        b"\tLANGUAGE\t",
        b"nan",
        b"-0",
        b"1.0",
        b"@",
        b"\"",
    ];
    fuzz::run("search_additions", &corpus, dictionary, engramdb_search::fuzz_addition);
}

#[test]
fn search_shapes() {
    let corpus: Vec<Vec<u8>> = [
        "POINT(1 2)",
        "POLYGON((0 0, 0 10.5, -1e3 10, 10 0, 0 0), (2 2, 2 4, 4 4, 4 2, 2 2))",
        "POLYGON ((170 80, -170 80, -170 -10, 170 -10))",
        "POINT EMPTY",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    let dictionary: &[&[u8]] =
        &[b"POINT", b"POLYGON", b"EMPTY", b"(", b")", b",", b" ", b"1e308", b"nan", b"-0"];
    fuzz::run("search_shapes", &corpus, dictionary, engramdb_search::fuzz_shape);
}

#[test]
fn json_texts() {
    let corpus: Vec<Vec<u8>> = [
        r#"{"a":[1,-2,3.5e-7,null,true,false,"x\u00e9\ud83d\ude00\n"],"b":{"":{}},"a":0}"#,
        r#"[[[[[[1]]]]],18446744073709551615,-9223372036854775808,1e308,-0.0,0.1]"#,
        " [ ] ",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    let deep = [b"[".repeat(200), [b"{\"a\":".repeat(127), b"1".to_vec(), b"}".repeat(127)].concat()];
    let many = (0..400).map(|number| format!("\"n{}\":{number}", number % 300)).collect::<Vec<_>>().join(",");
    let corpus = [corpus, deep.into(), vec![format!("{{{many}}}").into_bytes()]].concat();
    let dictionary: &[&[u8]] = &[
        b"\"",
        b"\\u",
        b"\\ud83d\\ude00",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"null",
        b"true",
        b"e+",
        b"-",
        b"1e999",
    ];
    fuzz::run("json_texts", &corpus, dictionary, engramdb_json::fuzz_text);
}

#[test]
fn json_paths() {
    let corpus: Vec<Vec<u8>> = [
        "$..a[0,-1].b",
        "$.*[?(@.b[0]==true && (@.a>=1 || !(@.c=~'x')))]",
        "$['a',\"b\\\"c\"][1:-1:2][:2][::]",
        "a[0].b",
        "$..*..*..[*]",
        "$[?(@.a.a==$.a[2].a.a)][?@.x<1.5]",
        "$.a[?(@=='x' || @!=null || @ =~ \"^(a|b)*$\")]",
    ]
    .map(|path| path.as_bytes().to_vec())
    .into();
    let dictionary: &[&[u8]] = &[
        b"$", b"@", b"..", b".", b"[", b"]", b"*", b"?(", b")", b"&&", b"||", b"==", b"=~", b"'", b"\"",
        b"\\", b":", b",", b"-1", b"true", b"null",
    ];
    fuzz::run("json_paths", &corpus, dictionary, engramdb_json::fuzz_path);
}

#[test]
fn json_effects() {
    // Kind, length and payload in turn: a Set of a member, a Remove, an Insert, a Trim, an Append, a Merge.
    let corpus = [
        b"\x01\x04\x00\x05\x01\x02b\x02\x05\x00\x01\x02a\x03".to_vec(),
        b"\x04\x08\x00\x02\x01\x02\x01\x02a\x01\x05\x06\x00\x01\x02a\x00\x02".to_vec(),
        b"\x06\x08\x00\x81y\x02\x02a\x03\x07\x07\x00\xd2\x03\x01\x81c\xc0\x00".to_vec(),
        b"\x08\x07\x00\x01\x02a\x02\xc0\xc1\x03\x07\x00\x01\x02c\xc8\x00\x00\x20\x40".to_vec(),
    ];
    let dictionary: &[&[u8]] = &[
        b"\xd0\x00\x00",
        b"\xd2\x00\x00",
        b"\xd1",
        b"\xd3",
        b"\xca",
        b"\xcb",
        b"\x01\x02a",
        b"\x02\x02a\x05",
        b"\x80",
        b"\xff",
    ];
    fuzz::run("json_effects", &corpus, dictionary, engramdb_json::fuzz_effects);
}

fn every_reply(protocol: Protocol) -> Vec<u8> {
    let mut output = b"|1\r\n+ttl\r\n:3600\r\n".to_vec();
    let mut reply = Encoder::new(&mut output, protocol);
    reply.array_header(12);
    reply.ok();
    reply.error("ERR no");
    reply.integer(-42);
    reply.bulk("bytes\r\n");
    reply.null();
    reply.null_array();
    reply.double(0.1);
    reply.boolean(true);
    reply.big_number("12345678901234567890");
    reply.verbatim(b"txt", "text");
    reply.set_header(1);
    reply.bulk("member");
    reply.map_header(1);
    reply.bulk("field");
    reply.integer(7);
    reply.push_header(2);
    reply.bulk("message");
    reply.null();
    output
}

#[test]
fn expressions() {
    let corpus = [
        &b"upper(@t) == \"A\" && exists(@n) || !contains(@t, 'x')"[..],
        b"format(\"%s-%s\", split(@t, \",\", \" \"), substr(@t, 1, -2))",
        b"timefmt(@n, \"%Y-%m-%dT%H:%M:%S %j %U %V %G\")",
        b"parsetime(\"2018-01-31 16:45 +0100\", \"%Y-%m-%d %R %z\")",
        b"geodistance(@t, 1.5, -2e-3) ^ 2 % 7 / (1 - -@n)",
        b"case(@n >= 1, floor(log2(@n)), to_number(\"0x1p-3\")) <= -inf",
    ];
    let dictionary: &[&[u8]] = &[
        b"@n",
        b"@t",
        b"NULL",
        b"(",
        b")",
        b",",
        b"!",
        b"&&",
        b"||",
        b"==",
        b"\"",
        b"'",
        b"\\",
        b"%",
        b"1e400",
        b"case(",
        b"exists(",
        b"timefmt(",
        b"parsetime(",
        b"day(",
        b"split(",
        b"matched_terms()",
    ];
    fuzz::run("expressions", &corpus.map(<[u8]>::to_vec), dictionary, engramdb_search::fuzz_expression);
}

#[test]
fn aggregations() {
    let corpus: Vec<Vec<u8>> = [
        "LOAD 3 @n AS x GROUPBY 2 @t @n REDUCE COUNT 0 REDUCE SUM 1 @n AS s SORTBY 4 @s DESC @t ASC MAX 3 LIMIT 0 5",
        "LOAD * APPLY upper(@t) AS u FILTER @n>1 WITHCURSOR COUNT 5 MAXIDLE 100 PARAMS 2 a b DIALECT 3 TIMEOUT 5",
        "GROUPBY 0 REDUCE QUANTILE 2 @n 0.5 REDUCE FIRST_VALUE 4 @t BY @n DESC REDUCE RANDOM_SAMPLE 2 @n 3 ADDSCORES",
    ]
    .map(|words| words.as_bytes().to_vec())
    .into();
    let dictionary: &[&[u8]] = &[
        b" LOAD ",
        b" GROUPBY ",
        b" REDUCE ",
        b" SORTBY ",
        b" LIMIT ",
        b" APPLY ",
        b" FILTER ",
        b" AS ",
        b" 0 ",
        b" -1 ",
        b" 18446744073709551616 ",
        b" @n ",
        b" WITHCURSOR ",
        b" COUNT ",
        b" MAX ",
        b" BY ",
        b" PARAMS ",
    ];
    fuzz::run("aggregations", &corpus, dictionary, engramdb_search::fuzz_aggregation);
}

#[test]
fn definitions_and_suggestions() {
    let texts: [&[u8]; 5] = [
        b"\x04PREFIX 2 a: b: LANGUAGE german SCORE 0.5 FILTER @n>1 STOPWORDS 1 x SCHEMA t TEXT WEIGHT 2 SORTABLE",
        b"\x04SCHEMA v VECTOR HNSW 8 TYPE FLOAT32 DIM 4 DISTANCE_METRIC L2 QUANTIZATION SQ8 c TAG SEPARATOR ;",
        b"\x00n AS m NUMERIC NOINDEX g GEO INDEXMISSING s GEOSHAPE FLAT",
        b"\x00\x02\0\0\0\x02\0\0\0ab\0\0\x80?\0\0\0\0\0\x03\0\0\0abc\0\0\0@\x01\x01\0\0\0p",
        b"\x01\x01\0\0\0i\x01\0\0\0g\x02\0\0\0\x01\0\0\0a\x01\0\0\0b",
    ];
    let dictionary: &[&[u8]] = &[
        b" SCHEMA ",
        b" TEXT ",
        b" TAG ",
        b" NUMERIC ",
        b" VECTOR FLAT 6 ",
        b" FILTER ",
        b" AS ",
        b" PREFIX 1 ",
        b" SORTABLE ",
        b" INDEXEMPTY ",
        b"\x01\0\0\0",
        b"\xff\xff\xff\xff",
        b"\0\0\x80\x7f",
        b"\xc3\xa4",
        b"\xff",
    ];
    fuzz::run("definitions", &texts.map(<[u8]>::to_vec), dictionary, engramdb_search::fuzz_definitions);
}

#[test]
fn hybrid_searches() {
    let corpus: Vec<Vec<u8>> = [
        "2 SEARCH a SCORER BM25 YIELD_SCORE_AS s VSIM @v $q KNN 4 K 5 EF_RUNTIME 9 FILTER 3 @n:[1\t2] POLICY ADHOC COMBINE RRF 2 WINDOW 5",
        "SEARCH * VSIM @v $q RANGE 4 RADIUS 1 EPSILON 0.1 FILTER @t:{a} YIELD_SCORE_AS d COMBINE LINEAR 4 ALPHA 1 BETA 2 NOSORT",
        "SEARCH x VSIM @v $q LOAD 2 @n @t GROUPBY 1 @t REDUCE COUNT 0 LIMIT 0 3 PARAMS 2 q x TIMEOUT 5",
    ]
    .map(|words| words.as_bytes().to_vec())
    .into();
    let dictionary: &[&[u8]] = &[
        b" SEARCH ",
        b" VSIM ",
        b" KNN ",
        b" RANGE ",
        b" FILTER ",
        b" COMBINE ",
        b" RRF ",
        b" LINEAR ",
        b" 0 ",
        b" 3 ",
        b" -1 ",
        b" YIELD_SCORE_AS ",
        b" WINDOW ",
        b" K ",
        b" $q ",
        b" DIALECT 2 ",
        b" 99999999999999999999 ",
    ];
    fuzz::run("hybrid_searches", &corpus, dictionary, engramdb_search::fuzz_hybrid);
}

#[test]
fn rdb_files() {
    let file = include_bytes!("../data/small.rdb");
    let dictionary: &[&[u8]] = &[
        b"REDIS0012",
        b"VALKEY080",
        &[0xfa],
        &[0xfc],
        &[0xfe, 0],
        &[0xff],
        &[0x81],
        &[0xc3],
        &[0xf7],
        &[0xff; 8],
    ];
    fuzz::run("rdb_files", &[file.to_vec()], dictionary, engramdb_rdb::fuzzing::fuzz_file);
}

/// Values of every type as Redis writes them: type, version, content.
const RDB_VALUES: &[&[u8]] = &[
    b"\x10\x00\x14\x14\x00\x00\x00\x04\x00\x81a\x02\x01\x01\x81b\x02\x83two\x04\xff",
    b"\x11\x00\x18\x18\x00\x00\x00\x04\x00\x81b\x02\x84-inf\x05\x81a\x02\x831.5\x04\xff",
    b"\x16\x01\x02\x01a\xc0\x01\x00@\x94R\xa3\x03\x00\x00\x01b\x03two\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x0b\x00\x0e\x02\x00\x00\x00\x03\x00\x00\x00\x01\x00\x02\x00\x03\x00",
    b"\x0d\x00\x12\x12\x00\x00\x00\x0d\x00\x00\x00\x02\x00\x00\x01a\x03\xf2\xff",
];

/// Streams: one with three entries, one of them deleted, and two groups; one without entries.
const RDB_STREAMS: &[&[u8]] = &[
    b"\x15\x00\x01\x10\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x01@KK\x00\x00\x00\x19\x00\x02\x01\x01\x01\x02\x01\x84name\x05\x81n\x02\x00\x01\x02\x01\x00\x01\x00\x01\x81a\x02\x11\x01\x05\x01\x03\x01\x00\x01\x01\x01\x81b\x02\xdf\xfd\x02\x05\x01\x00\x01\x02\x01\xdf\xff\x02\x01\x01\x85other\x06\x84text\x05\x06\x01\xff\x02\x07\x00\x05\x01\x05\x02\x03\x02\x06second\x07\x00\x03\x00\x00\x07workers\x05\x01\x81\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x01\xc8\xa4\xa8/\xa2\x01\x00\x00\x03\x02\x04idle\xc7\xa4\xa8/\xa2\x01\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\x00\x02me\xc8\xa4\xa8/\xa2\x01\x00\x00\xc8\xa4\xa8/\xa2\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x01",
    b"\x15\x00\x00\x00\x09\x09\x00\x00\x00\x00\x01\x01\x01g\x00\x00\x00\x00\x00",
];

const RDB_DICTIONARY: &[&[u8]] =
    &[&[0x81], &[0x80], &[0xc3], &[0xff], &[0xf0], &[0xfe], &[0xff; 8], &[0; 8], &[0x13], &[0x0f]];

fn rdb_corpus() -> Vec<Vec<u8>> {
    [RDB_VALUES, RDB_STREAMS].concat().iter().map(|value| value.to_vec()).collect()
}

#[test]
fn rdb_values() {
    fuzz::run("rdb_values", &rdb_corpus(), RDB_DICTIONARY, engramdb_rdb::fuzzing::fuzz_value);
}

/// What RESTORE takes fits the keyspace, and comes back from DUMP.
#[test]
fn rdb_payloads() {
    fuzz::run("rdb_payloads", &rdb_corpus(), RDB_DICTIONARY, engramdb_engine::rdb::fuzz_payload);
}
