use proptest::prelude::*;
use redis_protocol::{resp2, resp3};

use super::*;

fn encode(protocol: Protocol, write: impl FnOnce(&mut Encoder)) -> String {
    let mut output = Vec::new();
    write(&mut Encoder::new(&mut output, protocol));
    String::from_utf8(output).expect("the test's replies are text")
}

#[track_caller]
fn assert_encodes(write: impl Fn(&mut Encoder), resp2: &str, resp3: &str) {
    assert_eq!(encode(Protocol::Resp2, &write), resp2);
    assert_eq!(encode(Protocol::Resp3, &write), resp3);
}

#[test]
fn replies_in_both_protocols() {
    assert_encodes(|reply| reply.ok(), "+OK\r\n", "+OK\r\n");
    assert_encodes(|reply| reply.simple_string("PONG"), "+PONG\r\n", "+PONG\r\n");
    assert_encodes(|reply| reply.error("ERR no"), "-ERR no\r\n", "-ERR no\r\n");
    assert_encodes(|reply| reply.integer(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n");
    assert_encodes(|reply| reply.bulk(b"a\r\n"), "$3\r\na\r\n\r\n", "$3\r\na\r\n\r\n");
    assert_encodes(|reply| reply.bulk(""), "$0\r\n\r\n", "$0\r\n\r\n");
    assert_encodes(|reply| reply.bulk_integer(-12), "$3\r\n-12\r\n", "$3\r\n-12\r\n");
    assert_encodes(|reply| reply.null(), "$-1\r\n", "_\r\n");
    assert_encodes(|reply| reply.null_array(), "*-1\r\n", "_\r\n");
    assert_encodes(|reply| reply.array_header(12), "*12\r\n", "*12\r\n");
    assert_encodes(|reply| reply.map_header(7), "*14\r\n", "%7\r\n");
    assert_encodes(|reply| reply.set_header(2), "*2\r\n", "~2\r\n");
    assert_encodes(|reply| reply.push_header(3), "*3\r\n", ">3\r\n");
    assert_encodes(|reply| reply.boolean(true), ":1\r\n", "#t\r\n");
    assert_encodes(|reply| reply.boolean(false), ":0\r\n", "#f\r\n");
    assert_encodes(|reply| reply.double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n");
    assert_encodes(|reply| reply.big_number("123"), "$3\r\n123\r\n", "(123\r\n");
    assert_encodes(|reply| reply.verbatim(b"txt", "hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n");
    assert_encodes(|reply| reply.raw(b"+QUEUED\r\n"), "+QUEUED\r\n", "+QUEUED\r\n");
}

#[test]
fn a_quoted_line_end_cannot_end_the_reply() {
    let text = "ERR unknown command 'a\r\n+OK', with args beginning with: ";
    let safe = "-ERR unknown command 'a  +OK', with args beginning with: \r\n";
    assert_encodes(|reply| reply.error(text), safe, safe);
    assert_encodes(|reply| reply.simple_string("a\nb"), "+a b\r\n", "+a b\r\n");
}

#[test]
fn the_protocol_can_change_in_the_middle() {
    let text = encode(Protocol::Resp2, |reply| {
        reply.null();
        reply.set_protocol(Protocol::Resp3);
        assert_eq!(reply.protocol(), Protocol::Resp3);
        reply.null();
        assert_eq!(reply.output_bytes(), 8);
    });
    assert_eq!(text, "$-1\r\n_\r\n");
}

fn double_text(value: f64) -> String {
    let mut text = [0; DOUBLE_BYTES_MAX];
    let length = format_double(value, &mut text);
    String::from_utf8(text[..length].to_vec()).expect("ASCII")
}

#[test]
fn doubles_read_like_redis_writes_them() {
    let table = [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (-3.0, "-3"),
        (10.0, "10"),
        (0.1, "0.1"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1.6875, "1.6875"),
        (123456.789, "123456.789"),
        (1234567.0, "1234567"),
        (1e7, "10000000"),
        (1e8, "100000000"),
        (-12e8, "-1200000000"),
        (4611686018427387904.0, "4611686018427387904"),
        (4611686018427388928.0, "4611686018427389000"),
        (1e19, "1e+19"),
        (1e20, "1e+20"),
        (1.5e300, "1.5e+300"),
        (0.001, "0.001"),
        (0.000001, "0.000001"),
        (1e-7, "1e-7"),
        (1.25e-7, "1.25e-7"),
        (f64::MAX, "1.7976931348623157e+308"),
        (-f64::MIN_POSITIVE, "-2.2250738585072014e-308"),
        (5e-324, "5e-324"),
        (9007199254740993.0, "9007199254740992"),
        (f64::INFINITY, "inf"),
        (f64::NEG_INFINITY, "-inf"),
        (f64::NAN, "nan"),
    ];
    for (value, text) in table {
        assert_eq!(double_text(value), text);
    }
}

proptest! {
    #[test]
    fn doubles_survive_the_round_trip(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        prop_assume!(!value.is_nan());
        let text = double_text(value);
        prop_assert_eq!(text.parse::<f64>().expect("a number").to_bits(), bits, "{}", text);
    }

    #[test]
    fn redis_protocol_reads_what_we_write(
        text in "[^\r\n]{0,20}",
        bytes in proptest::collection::vec(any::<u8>(), 0..100),
        number in any::<i64>(),
        double in -1e300f64..1e300,
    ) {
        let write = |protocol| {
            let mut output = Vec::new();
            let mut reply = Encoder::new(&mut output, protocol);
            reply.array_header(7);
            reply.simple_string(&text);
            reply.error(&text);
            reply.bulk(&bytes);
            reply.integer(number);
            reply.null();
            reply.double(double);
            reply.map_header(1);
            reply.bulk(&bytes);
            reply.integer(number);
            output
        };
        let output = write(Protocol::Resp2);
        let (frame, length) = resp2::decode::decode(&output).expect("well formed").expect("whole");
        prop_assert_eq!(length, output.len());
        use resp2::types::OwnedFrame as Frame2;
        prop_assert_eq!(frame, Frame2::Array(vec![
            Frame2::SimpleString(text.clone().into_bytes()),
            Frame2::Error(text.clone()),
            Frame2::BulkString(bytes.clone()),
            Frame2::Integer(number),
            Frame2::Null,
            Frame2::BulkString(double_text(double).into_bytes()),
            Frame2::Array(vec![Frame2::BulkString(bytes.clone()), Frame2::Integer(number)]),
        ]));

        let output = write(Protocol::Resp3);
        let (frame, length) = resp3::decode::complete::decode(&output).expect("well formed").expect("whole");
        prop_assert_eq!(length, output.len());
        use resp3::types::OwnedFrame as Frame3;
        let bulk = Frame3::BlobString { data: bytes, attributes: None };
        let integer = Frame3::Number { data: number, attributes: None };
        prop_assert_eq!(frame, Frame3::Array { data: vec![
            Frame3::SimpleString { data: text.clone().into_bytes(), attributes: None },
            Frame3::SimpleError { data: text, attributes: None },
            bulk.clone(),
            integer.clone(),
            Frame3::Null,
            Frame3::Double { data: double, attributes: None },
            Frame3::Map { data: [(bulk, integer)].into(), attributes: None },
        ], attributes: None });
    }
}
