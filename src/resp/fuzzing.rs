//! Fuzz targets: functions over bytes that panic when an invariant is violated. The root's tests/it/fuzz.rs
//! calls them with mutated seeds.

use crate::decode::{DecodeStop, Decoder, ProtocolError, RequestLimits, Requests};
use crate::frame::{ReplyError, ReplyReader, Value, encode_command};

/// The observable result of decoding a stream of requests.
#[derive(Debug, PartialEq)]
struct Outcome {
    requests: Vec<Vec<Vec<u8>>>,
    consumed_bytes: usize,
    error: Option<ProtocolError>,
}

/// Decodes a stream that arrives in pieces of the given sizes (repeated), as on a connection.
fn decode_in_pieces(bytes: &[u8], limits: RequestLimits, sizes: &[usize], requests_max: usize) -> Outcome {
    let mut decoder = Decoder::new(limits);
    let mut requests = Requests::new();
    let mut outcome = Outcome { requests: Vec::new(), consumed_bytes: 0, error: None };
    let mut arrived = 0;
    let mut sizes = sizes.iter().cycle();
    loop {
        let buffer = &bytes[outcome.consumed_bytes..arrived];
        let progress = decoder.decode(buffer, &mut requests, requests_max);
        assert!(requests.len() <= requests_max);
        for request in requests.iter(buffer) {
            assert!(request.len() > 0, "a request has a name");
            outcome.requests.push(request.iter().map(<[u8]>::to_vec).collect());
        }
        outcome.consumed_bytes += progress.consumed_bytes;
        match progress.stop {
            DecodeStop::RequestsMax => assert_eq!(requests.len(), requests_max),
            DecodeStop::Malformed(error) => {
                outcome.error = Some(error);
                return outcome;
            }
            DecodeStop::NeedBytes(missing_bytes) => {
                assert!(missing_bytes > 0);
                if arrived == bytes.len() {
                    return outcome;
                }
                let size = *sizes.next().expect("sizes repeat");
                arrived = bytes.len().min(arrived + size.max(1));
            }
        }
    }
}

/// Sizes of pieces from 1 to 64 bytes, which depend on the input.
fn some_sizes(bytes: &[u8]) -> [usize; 16] {
    let mix = |state: u64, byte: &u8| state.wrapping_mul(31).wrapping_add(u64::from(*byte));
    let mut state = bytes.iter().fold(1, mix);
    std::array::from_fn(|_| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 58) as usize + 1
    })
}

/// A stream decodes to the same requests as a whole, byte by byte and in pieces; and the decoded requests,
/// encoded again, decode to themselves. The first byte selects limits and pieces.
pub fn fuzz_decode(bytes: &[u8]) {
    let Some((&choice, stream)) = bytes.split_first() else {
        return;
    };
    let limits = match choice % 3 {
        0 => RequestLimits::default(),
        1 => RequestLimits { unauthenticated: true, ..RequestLimits::default() },
        _ => RequestLimits { arguments_max: 8, bulk_bytes_max: 64, unauthenticated: false },
    };
    let whole = decode_in_pieces(stream, limits, &[stream.len()], usize::MAX);
    assert_eq!(whole, decode_in_pieces(stream, limits, &[1], usize::MAX));
    let sizes = some_sizes(bytes);
    assert_eq!(whole, decode_in_pieces(stream, limits, &sizes, usize::MAX));
    assert_eq!(whole, decode_in_pieces(stream, limits, &sizes, 1 + usize::from(choice % 5)));

    let encoded: Vec<u8> = whole.requests.iter().flat_map(|arguments| encode_command(arguments)).collect();
    let again = decode_in_pieces(&encoded, RequestLimits::default(), &[encoded.len()], usize::MAX);
    assert_eq!(again.requests, whole.requests);
    assert_eq!(again.error, None);
}

fn read_in_pieces(bytes: &[u8], size: usize) -> (Vec<Value>, Option<ReplyError>) {
    let mut reader = ReplyReader::new();
    let mut values = Vec::new();
    for piece in bytes.chunks(size.max(1)) {
        reader.feed(piece);
        loop {
            match reader.next_reply() {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(error) => return (values, Some(error)),
            }
        }
    }
    (values, None)
}

/// A stream of replies decodes to the same values as a whole and in pieces. The first byte selects the
/// pieces.
pub fn fuzz_reply(bytes: &[u8]) {
    let Some((&choice, stream)) = bytes.split_first() else {
        return;
    };
    let whole = read_in_pieces(stream, stream.len());
    // Compared as text, because NaN does not equal itself.
    assert_eq!(format!("{whole:?}"), format!("{:?}", read_in_pieces(stream, 1)));
    assert_eq!(format!("{whole:?}"), format!("{:?}", read_in_pieces(stream, usize::from(choice))));
}
