use super::*;
use crate::encode::{Encoder, Protocol};

fn read_in_pieces(bytes: &[u8], size: usize) -> Result<Vec<Value>, ReplyError> {
    let mut reader = ReplyReader::new();
    let mut values = Vec::new();
    for piece in bytes.chunks(size) {
        reader.feed(piece);
        while let Some(value) = reader.next_reply()? {
            values.push(value);
        }
    }
    Ok(values)
}

#[track_caller]
fn assert_reads(bytes: &[u8], expected: &[Value]) {
    for size in [bytes.len(), 1, 3] {
        assert_eq!(read_in_pieces(bytes, size).expect("well formed"), expected, "in pieces of {size}");
    }
}

fn bulk(text: &str) -> Value {
    Value::Bulk(text.into())
}

#[test]
fn commands() {
    assert_eq!(encode_command(&["SET", "k", ""]), b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
    let mut pipeline = encode_command(&[b"PING"]);
    encode_command_into(&mut pipeline, &[&[0xff, b'\r'][..]]);
    assert_eq!(pipeline, b"*1\r\n$4\r\nPING\r\n*1\r\n$2\r\n\xff\r\r\n");
}

#[test]
fn scalars() {
    assert_reads(
        b"+OK\r\n-ERR \xff\r\n",
        &[Value::SimpleString("OK".into()), Value::Error(b"ERR \xff".into())],
    );
    assert_reads(b":-7\r\n$2\r\n\r\n\r\n$0\r\n\r\n", &[Value::Integer(-7), bulk("\r\n"), bulk("")]);
    assert_reads(b"$-1\r\n*-1\r\n_\r\n", &[Value::Null, Value::Null, Value::Null]);
    assert_reads(
        b"#t\r\n#f\r\n,1.5\r\n,-inf\r\n",
        &[Value::Boolean(true), Value::Boolean(false), Value::Double(1.5), Value::Double(f64::NEG_INFINITY)],
    );
    assert_reads(
        b"(123\r\n=6\r\ntxt:hi\r\n!5\r\nERR x\r\n",
        &[
            Value::BigNumber("123".into()),
            Value::Verbatim { format: *b"txt", text: "hi".into() },
            Value::Error("ERR x".into()),
        ],
    );
}

#[test]
fn aggregates_keep_order_and_duplicates() {
    assert_reads(
        b"%3\r\n$1\r\nz\r\n:1\r\n*1\r\n:0\r\n:2\r\n$1\r\nz\r\n:3\r\n",
        &[Value::Map(vec![
            (bulk("z"), Value::Integer(1)),
            (Value::Array(vec![Value::Integer(0)]), Value::Integer(2)),
            (bulk("z"), Value::Integer(3)),
        ])],
    );
    let set = Value::Set(vec![Value::Integer(2), Value::Integer(1), Value::Integer(2)]);
    assert_reads(b"~3\r\n:2\r\n:1\r\n:2\r\n", &[set]);
    assert_reads(
        b">2\r\n+message\r\n*0\r\n%0\r\n",
        &[Value::Push(vec![Value::SimpleString("message".into()), Value::Array(vec![])]), Value::Map(vec![])],
    );
    assert_reads(
        b"*2\r\n*2\r\n:1\r\n*-1\r\n$-1\r\n",
        &[Value::Array(vec![Value::Array(vec![Value::Integer(1), Value::Null]), Value::Null])],
    );
}

#[test]
fn attributes_are_dropped() {
    assert_reads(
        b"|1\r\n+ttl\r\n:5\r\n*2\r\n:1\r\n|1\r\n+x\r\n*1\r\n:9\r\n:2\r\n",
        &[Value::Array(vec![Value::Integer(1), Value::Integer(2)])],
    );
}

#[test]
fn malformed_replies() {
    assert_eq!(read_in_pieces(b"?\r\n", 1), Err(ReplyError::UnknownType(b'?')));
    assert_eq!(read_in_pieces(b"*x\r\n", 1), Err(ReplyError::MalformedCount));
    assert_eq!(read_in_pieces(b"*?\r\n", 1), Err(ReplyError::MalformedCount));
    assert_eq!(read_in_pieces(b"*99999999999\r\n", 1), Err(ReplyError::MalformedCount));
    assert!(matches!(read_in_pieces(b":x\r\n", 1), Err(ReplyError::Malformed(_))));
    assert_eq!(read_in_pieces(&b"*1\r\n".repeat(1_000_000), 4096), Err(ReplyError::TooDeep));
    assert_eq!(read_in_pieces(&vec![b'+'; LINE_BYTES_MAX], 65536), Err(ReplyError::LineTooLong));
}

#[test]
fn reads_what_the_encoder_writes() {
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let mut output = Vec::new();
        let mut reply = Encoder::new(&mut output, protocol);
        reply.map_header(2);
        reply.bulk("score");
        reply.double(0.25);
        reply.bulk("exact");
        reply.boolean(true);
        let values = read_in_pieces(&output, 1).expect("well formed");
        assert_eq!(values.len(), 1);
        assert_eq!(values[0].get("score").and_then(Value::as_double), Some(0.25));
        assert_eq!(values[0].get("exact").and_then(Value::as_int), Some(1));
        assert_eq!(values[0].as_map().map(|pairs| pairs.len()), Some(2));
        assert!(values[0].get("missing").is_none());
    }
}

#[test]
fn values_convert_to_other_types() {
    assert!(Value::Null.is_null() && Value::Error("ERR".into()).is_error());
    assert_eq!(bulk("12").as_int(), Some(12));
    assert_eq!(bulk("x").as_int(), None);
    assert_eq!(bulk("1e3").as_double(), Some(1000.0));
    assert_eq!(bulk("x").as_str(), Some("x"));
    assert_eq!(Value::Integer(1).as_bytes(), None);
    assert_eq!(Value::Set(vec![Value::Null]).as_array(), Some(&[Value::Null][..]));
    assert_eq!(Value::Array(vec![Value::Null]).as_map(), None);
}

#[test]
fn values_are_shown_as_text() {
    let bytes = b"*4\r\n%1\r\n$2\r\nk\n\r\n,1.0\r\n-ERR no\r\n~2\r\n+OK\r\n_\r\n=6\r\ntxt:hi\r\n>1\r\n#t\r\n";
    let values = read_in_pieces(bytes, 1).expect("well formed");
    let shown = r#"[[{"k\n": 1.0}, -"ERR no", {+"OK", null}, ="txt:hi"], >[true]]"#;
    assert_eq!(format!("{values:?}"), shown);
}

/// While a large reply arrives in small pieces, the buffer contains only bytes that are not yet part of a
/// value.
#[test]
fn the_buffer_does_not_grow_with_the_reply() {
    let mut reader = ReplyReader::new();
    reader.feed(b"*100000\r\n");
    let mut reply = None;
    for _ in 0..50_000 {
        assert_eq!(reply, None);
        reader.feed(b"$5\r\nhello\r\n$5\r\nwor");
        reply = reader.next_reply().expect("well formed");
        assert_eq!(reply, None);
        reader.feed(b"ld\r\n");
        reply = reader.next_reply().expect("well formed");
        assert!(reader.buffer.len() <= CONSUMED_BYTES_MAX + 64);
    }
    assert_eq!(reply.and_then(|value| value.as_array().map(<[Value]>::len)), Some(100_000));
}
