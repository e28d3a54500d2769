use proptest::prelude::*;

use super::*;
use crate::frame::encode_command;

type Decoded = (Vec<Vec<Vec<u8>>>, DecodeStop);

/// Decodes a stream that arrives in reads of `size` bytes.
fn decode_in_reads(stream: &[u8], limits: RequestLimits, size: usize) -> Decoded {
    let mut decoder = Decoder::new(limits);
    let mut requests = Requests::new();
    let mut decoded = Vec::new();
    let mut buffer = Vec::new();
    let mut stop = DecodeStop::NeedBytes(1);
    for read in stream.chunks(size.max(1)) {
        buffer.extend_from_slice(read);
        let progress = decoder.decode(&buffer, &mut requests, usize::MAX);
        decoded.extend(requests.iter(&buffer).map(|request| request.iter().map(<[u8]>::to_vec).collect()));
        buffer.drain(..progress.consumed_bytes);
        stop = progress.stop;
        if let DecodeStop::Malformed(_) = stop {
            break;
        }
    }
    (decoded, stop)
}

fn decode_all(stream: &[u8]) -> Decoded {
    decode_in_reads(stream, RequestLimits::default(), stream.len())
}

fn request(arguments: &[&[u8]]) -> Vec<Vec<u8>> {
    arguments.iter().map(|argument| argument.to_vec()).collect()
}

/// Asserts that a stream of complete requests decodes to `expected`, however it is split.
#[track_caller]
fn assert_requests(stream: &[u8], expected: &[&[&[u8]]]) {
    let expected: Vec<_> = expected.iter().map(|arguments| request(arguments)).collect();
    for size in [stream.len(), 1, 2, 3, 5] {
        let (decoded, stop) = decode_in_reads(stream, RequestLimits::default(), size);
        assert_eq!(decoded, expected, "in reads of {size}");
        assert_eq!(stop, DecodeStop::NeedBytes(1), "in reads of {size}");
    }
}

/// Asserts the error of a malformed stream, however it is split.
#[track_caller]
fn assert_error(stream: &[u8], limits: RequestLimits, text: &str) {
    for size in [stream.len(), 1, 1000] {
        let DecodeStop::Malformed(error) = decode_in_reads(stream, limits, size).1 else {
            panic!("no error in reads of {size}");
        };
        assert_eq!(error.to_string(), text, "in reads of {size}");
        assert_eq!(String::from_utf8_lossy(&error.reply_text()), format!("ERR {text}"));
    }
}

#[test]
fn arrays_of_bulks() {
    assert_requests(b"*1\r\n$4\r\nPING\r\n", &[&[b"PING"]]);
    assert_requests(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n", &[&[b"SET", b"k", b""]]);
    assert_requests(b"*1\r\n$0\r\n\r\n", &[&[b""]]);
    assert_requests(b"*2\r\n$3\r\nGET\r\n$5\r\n\0\r\n\xff$\r\n", &[&[b"GET", b"\0\r\n\xff$"]]);
    assert_requests(b"*1\r\n$1\r\na\r\n*2\r\n$1\r\nb\r\n$1\r\nc\r\n", &[&[b"a"], &[b"b", b"c"]]);
    let eleven = [b"0123456789a".as_slice(); 11];
    assert_requests(&encode_command(&eleven), &[&eleven]);
}

#[test]
fn empty_requests_are_skipped() {
    assert_requests(b"*0\r\n", &[]);
    assert_requests(b"*-1\r\n*-5\r\n*0\r\n*1\r\n$1\r\na\r\n*0\r\n", &[&[b"a"]]);
    assert_requests(b"\r\n\n   \r\n \x0b\nPING\r\n", &[&[b"PING"]]);
}

/// Each of these was also sent to redis-server 7.0.15.
#[test]
fn two_bytes_end_a_line_whatever_they_are() {
    assert_requests(b"*1\r\n$4\r\nPINGxxPING\r\n", &[&[b"PING"], &[b"PING"]]);
    assert_requests(b"*1\r\n$4\rxPING\r\n", &[&[b"PING"]]);
    assert_requests(b"*1\rx$4\r\nPING\r\n", &[&[b"PING"]]);
}

/// Each of these was also sent to redis-server 7.0.15, except the NUL byte (at which Redis hangs).
#[test]
fn inline_commands_and_their_quotes() {
    assert_requests(b"PING\n", &[&[b"PING"]]);
    assert_requests(b"  SET k\tv  \r\nGET k\r\n", &[&[b"SET", b"k", b"v"], &[b"GET", b"k"]]);
    assert_requests(b"PING\r\r\n", &[&[b"PING"]]);
    assert_requests(b"ECHO a\rb\r\n", &[&[b"ECHO", b"a", b"b"]]);
    assert_requests(b"ECHO\ta\x0bb\r\n", &[&[b"ECHO", b"a\x0bb"]]);
    assert_requests(b"ECHO \x0c a\r\n", &[&[b"ECHO", b"a"]]);
    assert_requests(b"ECHO \"a\"\x0bb\r\n", &[&[b"ECHO", b"a", b"b"]]);
    assert_requests(b"ECHO a\\n\r\n", &[&[b"ECHO", b"a\\n"]]);
    assert_requests(b"ECHO \"\\x41\\n\\q\\xZZ\\x4\"\r\n", &[&[b"ECHO", b"A\nqxZZx4"]]);
    assert_requests(b"ECHO \"\\xfF\\r\\t\\b\\a\\\\\\\"\"\r\n", &[&[b"ECHO", b"\xff\r\t\x08\x07\\\""]]);
    assert_requests(b"ECHO 'a\\'b\\n'\r\n", &[&[b"ECHO", b"a'b\\n"]]);
    assert_requests(b"ECHO a\"b c\"\r\n", &[&[b"ECHO", b"ab c"]]);
    assert_requests(b"ECHO a'b c'\r\n", &[&[b"ECHO", b"ab c"]]);
    assert_requests(b"\"\" '' a\r\n", &[&[b"", b"", b"a"]]);
    assert_requests(b"ECHO a\0b\r\n", &[&[b"ECHO", b"a\0b"]]);
}

#[test]
fn inline_and_arrays_mix_in_a_pipeline() {
    let stream = b"ECHO 'x y'\r\n*1\r\n$4\r\nPING\r\nECHO z\n*2\r\n$1\r\na\r\n$1\r\nb\r\n";
    assert_requests(stream, &[&[b"ECHO", b"x y"], &[b"PING"], &[b"ECHO", b"z"], &[b"a", b"b"]]);
}

/// The texts are those of redis-server 7.0.15 for the same bytes.
#[test]
fn malformed_input() {
    let limits = RequestLimits::default();
    let count = "Protocol error: invalid multibulk length";
    for stream in [
        &b"*abc\r\n"[..],
        b"*\r\n",
        b"*+1\r\n",
        b"*01\r\n",
        b"*-0\r\n",
        b"*1 \r\n",
        b"*1\n$4\nPING\r\n",
        b"*2147483648\r\n",
        b"*-9223372036854775809\r\n",
        b"*1000000000000000000000000000000\r\n",
    ] {
        assert_error(stream, limits, count);
    }
    let length = "Protocol error: invalid bulk length";
    for stream in [
        &b"*1\r\n$-1\r\n"[..],
        b"*1\r\n$abc\r\n",
        b"*1\r\n$\r\n",
        b"*1\r\n$-0\r\n",
        b"*1\r\n$00\r\n",
        b"*1\r\n$536870913\r\n",
        b"*1\r\n$5000000000\r\n",
        b"*1\r\n$99999999999999999999\r\n",
    ] {
        assert_error(stream, limits, length);
    }
    assert_error(b"*3\r\n$3\r\nSET\r\n+x\r\n", limits, "Protocol error: expected '$', got '+'");
    assert_error(b"*1\r\n*1\r\n", limits, "Protocol error: expected '$', got '*'");
    let quotes = "Protocol error: unbalanced quotes in request";
    for stream in [
        &b"\"abc\r\n"[..],
        b"\"a\"b\r\n",
        b"set '\n",
        b"'a'b\n",
        b"ECHO a\"b\r\n",
        b"ECHO \"\\\r\n",
        b"a \"\\x4\n",
    ] {
        assert_error(stream, limits, quotes);
    }
}

#[test]
fn nesting_is_refused_at_the_second_level() {
    let stream = b"*1\r\n".repeat(100_000);
    assert_error(&stream, RequestLimits::default(), "Protocol error: expected '$', got '*'");
}

#[test]
fn an_error_quotes_the_clients_byte_as_it_is() {
    assert_eq!(
        *ProtocolError::ExpectedBulk(0xff).reply_text(),
        *b"ERR Protocol error: expected '$', got '\xff'"
    );
}

#[test]
fn lines_are_bounded() {
    let limits = RequestLimits::default();
    let digits = vec![b'1'; LINE_BYTES_MAX + 1];
    let cases: [(&[u8], &str); 3] = [
        (b"*", "Protocol error: too big mbulk count string"),
        (b"*1\r\n$", "Protocol error: too big bulk count string"),
        (b"PING ", "Protocol error: too big inline request"),
    ];
    for (start, text) in cases {
        assert_error(&[start, &digits].concat(), limits, text);
        // The same with its end in the same read: the result does not depend on how the line is split.
        assert_error(&[start, &digits, b"\r\n"].concat(), limits, text);
    }
    let longest = [b"PING ", &digits[..LINE_BYTES_MAX - 6], b"\r\n"].concat();
    assert_requests(&longest, &[&[b"PING", &digits[..LINE_BYTES_MAX - 6]]]);
    let quotes = [b"\"".as_slice(), &digits].concat();
    assert_error(&quotes, limits, "Protocol error: too big inline request");
}

#[test]
fn unauthenticated_clients_have_tight_limits() {
    let limits = RequestLimits { unauthenticated: true, ..RequestLimits::default() };
    assert_error(b"*11\r\n", limits, "Protocol error: unauthenticated multibulk length");
    assert_error(b"*1\r\n$16385\r\n", limits, "Protocol error: unauthenticated bulk length");
    assert_error(b"*3000000000\r\n", limits, "Protocol error: invalid multibulk length");
    assert_error(b"*1\r\n$9999999999\r\n", limits, "Protocol error: invalid bulk length");
    let allowed = encode_command(&vec![vec![b'x'; 16 * 1024]; 10]);
    let (decoded, stop) = decode_in_reads(&allowed, limits, 4096);
    assert_eq!((decoded.len(), stop), (1, DecodeStop::NeedBytes(1)));
    let many = b"PING a b c d e f g h i j k l m n\r\n";
    assert_eq!(decode_in_reads(many, limits, many.len()).0.len(), 1);
}

#[test]
fn limits_can_change_after_an_auth_in_a_pipeline() {
    let mut decoder = Decoder::new(RequestLimits { unauthenticated: true, ..RequestLimits::default() });
    let mut requests = Requests::new();
    let buffer = [encode_command(&["AUTH", "x"]), encode_command(&["k"; 11])].concat();
    let first = decoder.decode(&buffer, &mut requests, 1);
    assert_eq!((requests.len(), first.stop), (1, DecodeStop::RequestsMax));
    decoder.set_limits(RequestLimits::default());
    let second = decoder.decode(&buffer[first.consumed_bytes..], &mut requests, 1);
    assert_eq!((requests.len(), requests.get(0, &buffer).len()), (1, 11));
    assert_eq!(first.consumed_bytes + second.consumed_bytes, buffer.len());
}

#[test]
fn limits_are_configurable() {
    let limits = RequestLimits { arguments_max: 2, bulk_bytes_max: 3, unauthenticated: false };
    assert_error(b"*3\r\n", limits, "Protocol error: invalid multibulk length");
    assert_error(b"*2\r\n$3\r\nabc\r\n$4\r\n", limits, "Protocol error: invalid bulk length");
    let huge = RequestLimits { bulk_bytes_max: usize::MAX, ..RequestLimits::default() };
    let stream = b"*1\r\n$9223372036854775807\r\nabc";
    assert!(
        matches!(decode_in_reads(stream, huge, 1).1, DecodeStop::NeedBytes(missing) if missing > 1 << 62)
    );
}

#[test]
fn requests_before_an_error_are_returned() {
    let (decoded, stop) = decode_all(b"*1\r\n$4\r\nPING\r\nGET k\r\n*2\r\n$1\r\nx\r\n:1\r\n");
    assert_eq!(decoded, [request(&[b"PING"]), request(&[b"GET", b"k"])]);
    assert_eq!(stop, DecodeStop::Malformed(ProtocolError::ExpectedBulk(b':')));
}

#[test]
fn a_malformed_stream_stays_malformed() {
    let mut decoder = Decoder::default();
    let mut requests = Requests::new();
    let error = DecodeStop::Malformed(ProtocolError::InvalidMultibulkLength);
    assert_eq!(decoder.decode(b"*x\r\n", &mut requests, 1).stop, error);
    assert_eq!(decoder.decode(b"PING\r\n", &mut requests, 1).stop, error);
    assert!(requests.is_empty());
}

#[test]
fn the_number_of_missing_bytes_is_reported() {
    let missing = |stream: &[u8]| decode_all(stream).1;
    assert_eq!(missing(b"*2\r\n$3\r\nG"), DecodeStop::NeedBytes(4));
    assert_eq!(missing(b"*2\r\n$3\r\nGET\r"), DecodeStop::NeedBytes(1));
    assert_eq!(missing(b"*2\r\n$536870912\r\n"), DecodeStop::NeedBytes(536870914));
    assert_eq!(missing(b"*2\r\n$5"), DecodeStop::NeedBytes(1));
}

#[test]
fn a_header_reserves_little_memory() {
    assert_eq!(read_reserve_bytes(512 << 20, 14), READ_BYTES_MIN);
    assert_eq!(read_reserve_bytes(512 << 20, 1 << 20), 1 << 20);
    assert_eq!(read_reserve_bytes(100_000, 1 << 20), 100_000);
    assert_eq!(read_reserve_bytes(1, 1 << 20), READ_BYTES_MIN);

    let mut decoder = Decoder::default();
    let mut requests = Requests::new();
    let progress = decoder.decode(b"*1048576\r\n$536870912\r\n", &mut requests, 1);
    assert_eq!(progress, DecodeProgress { consumed_bytes: 0, stop: DecodeStop::NeedBytes(536870914) });
    assert_eq!(decoder.pending.capacity() + requests.ranges.capacity() + requests.unescaped.capacity(), 0);
}

#[test]
fn memory_of_a_huge_request_is_given_back() {
    let mut decoder = Decoder::default();
    let mut requests = Requests::new();
    let buffer = encode_command(&vec![b"x"; 100_000]);
    let _ = decoder.decode(&buffer[..buffer.len() - 1], &mut requests, 1);
    let _ = decoder.decode(&buffer, &mut requests, 1);
    assert_eq!(requests.get(0, &buffer).len(), 100_000);
    let _ = decoder.decode(b"", &mut requests, 1);
    assert!(decoder.pending.capacity() <= KEPT_RANGES_MAX);
    assert!(requests.ranges.capacity() <= KEPT_RANGES_MAX);
}

/// The decoder does not examine consumed bytes again: they may even change.
#[test]
fn no_byte_is_examined_twice() {
    let stream = encode_command(&["HSET", "key", "field", "value"]);
    let mut decoder = Decoder::default();
    let mut requests = Requests::new();
    for arrived in 1..stream.len() {
        let _ = decoder.decode(&stream[..arrived], &mut requests, 1);
        let seen = decoder.position + decoder.scanned;
        // Headers of a few bytes are read again until they are complete; anything before them is not.
        assert!(arrived - decoder.position <= 6, "{arrived} arrived, {seen} done");
        let mut changed = stream[..arrived].to_vec();
        changed[..decoder.position].fill(b'!');
        assert!(matches!(decoder.decode(&changed, &mut requests, 1).stop, DecodeStop::NeedBytes(_)));
    }
    let _ = decoder.decode(&stream, &mut requests, 1);
    assert_eq!(
        requests.get(0, &stream).arguments().as_slice(),
        [b"HSET".as_slice(), b"key", b"field", b"value"]
    );

    let line = vec![b'a'; 1000];
    let mut decoder = Decoder::default();
    for arrived in 1..line.len() {
        let _ = decoder.decode(&line[..arrived], &mut requests, 1);
        assert_eq!(decoder.scanned, arrived);
    }
}

#[test]
fn a_request_is_a_view_of_its_arguments() {
    let buffer = b"*2\r\n$3\r\nget\r\n$1\r\nk\r\nGET 'k'\r\n";
    let mut requests = Requests::new();
    let _ = Decoder::default().decode(buffer, &mut requests, 10);
    let array = requests.get(0, buffer);
    assert_eq!((array.name(), array.argument(1), array.len()), (&b"get"[..], &b"k"[..], 2));
    assert_eq!(array.range(1).map(|range| &buffer[range]), Some(&b"k"[..]));
    let inline = requests.get(1, buffer);
    let mut arguments = vec![&b"stale"[..]];
    inline.fill(&mut arguments);
    assert_eq!(arguments, [b"GET".as_slice(), b"k"]);
    assert_eq!(array.arguments().as_slice(), [b"get".as_slice(), b"k"]);
    assert_eq!((inline.name(), inline.argument(1), inline.range(1)), (&b"GET"[..], &b"k"[..], None));
}

fn commands() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    let argument = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        proptest::collection::vec(prop::sample::select(b"\r\n$*0123 '\"".as_slice()), 0..12),
    ];
    proptest::collection::vec(proptest::collection::vec(argument, 1..20), 1..8)
}

#[test]
#[should_panic(expected = "bytes of a pending request were dropped")]
fn bytes_of_a_pending_request_must_stay() {
    let (mut decoder, mut requests) = (Decoder::default(), Requests::new());
    let progress = decoder.decode(b"*2\r\n$3\r\nGET\r\n$1\r\n", &mut requests, usize::MAX);
    assert_eq!(progress, DecodeProgress { consumed_bytes: 0, stop: DecodeStop::NeedBytes(3) });
    _ = decoder.decode(b"k\r\n", &mut requests, usize::MAX);
}

#[test]
#[should_panic(expected = "a request is pending")]
fn memory_of_a_pending_request_is_not_given_back() {
    let (mut decoder, mut requests) = (Decoder::default(), Requests::new());
    _ = decoder.decode(b"*2\r\n$3\r\nGET\r\n", &mut requests, usize::MAX);
    decoder.give_back();
}

proptest! {
    #[test]
    fn cuts_change_nothing(commands in commands(), sizes in proptest::collection::vec(1usize..60, 1..20)) {
        let stream: Vec<u8> = commands.iter().flat_map(|arguments| encode_command(arguments)).collect();
        let mut decoder = Decoder::default();
        let mut requests = Requests::new();
        let mut decoded = Vec::new();
        let (mut consumed, mut arrived, mut sizes) = (0, 0, sizes.iter().cycle());
        while arrived < stream.len() {
            arrived = stream.len().min(arrived + sizes.next().expect("sizes repeat"));
            let buffer = &stream[consumed..arrived];
            let progress = decoder.decode(buffer, &mut requests, usize::MAX);
            decoded.extend(requests.iter(buffer).map(|request| {
                request.iter().map(<[u8]>::to_vec).collect::<Vec<_>>()
            }));
            consumed += progress.consumed_bytes;
        }
        prop_assert_eq!(consumed, stream.len());
        prop_assert_eq!(decoded, commands);
    }

    #[test]
    fn redis_protocol_reads_requests_the_same(commands in commands()) {
        use redis_protocol::resp2::{decode::decode, types::OwnedFrame};
        let stream: Vec<u8> = commands.iter().flat_map(|arguments| encode_command(arguments)).collect();
        let (decoded, _) = decode_all(&stream);
        let mut rest = stream.as_slice();
        for arguments in decoded {
            let (frame, length) = decode(rest).expect("well formed").expect("whole");
            let bulks = arguments.into_iter().map(OwnedFrame::BulkString).collect();
            prop_assert_eq!(frame, OwnedFrame::Array(bulks));
            rest = &rest[length..];
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        crate::fuzzing::fuzz_decode(&bytes);
        crate::fuzzing::fuzz_reply(&bytes);
    }
}
