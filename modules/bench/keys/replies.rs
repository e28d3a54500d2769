//! Finds the ends of replies, without parsing values.
//!
//! The load generator shares the machine with the server that it measures. Building a value from each reply,
//! as `engramdb_resp::ReplyReader` does, would cost more than sending the request; this reads only lengths.

use memchr::memchr;

/// The beginning of the bytes that a server sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Scan {
    /// A complete reply of `bytes` bytes.
    Complete { bytes: usize, is_error: bool },
    /// The rest was not received yet.
    Partial,
    /// Not the beginning of a reply.
    Malformed,
}

/// Scans one reply in RESP2 or RESP3; aggregates include all their elements.
pub fn scan(bytes: &[u8]) -> Scan {
    let mut at = 0;
    let mut items_missing: usize = 1;
    while items_missing > 0 {
        let Some(line_bytes) = memchr(b'\n', &bytes[at..]) else { return Scan::Partial };
        let line = &bytes[at..at + line_bytes];
        let Some((&kind, [body @ .., b'\r'])) = line.split_first() else { return Scan::Malformed };
        at += line_bytes + 1;
        items_missing -= 1;
        match kind {
            b'+' | b'-' | b':' | b',' | b'#' | b'_' | b'(' => {}
            b'$' | b'!' | b'=' | b'*' | b'~' | b'>' | b'%' | b'|' => {
                if body == b"-1" {
                    continue;
                }
                let Some(length) = length_of(body) else { return Scan::Malformed };
                match kind {
                    b'$' | b'!' | b'=' => at += length + 2,
                    b'%' => items_missing += 2 * length,
                    // An attribute precedes the item that it describes.
                    b'|' => items_missing += 2 * length + 1,
                    _ => items_missing += length,
                }
            }
            _ => return Scan::Malformed,
        }
        if at > bytes.len() {
            return Scan::Partial;
        }
    }
    Scan::Complete { bytes: at, is_error: matches!(bytes[0], b'-' | b'!') }
}

/// A length within the limits of a reply.
fn length_of(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > 10 {
        return None;
    }
    digits.iter().try_fold(0, |length: usize, digit| match digit {
        b'0'..=b'9' => Some(length * 10 + usize::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use engramdb_resp::ReplyReader;

    use super::*;

    const REPLIES: [&[u8]; 12] = [
        b"+OK\r\n",
        b"-ERR no\r\n",
        b":12\r\n",
        b"$5\r\na\r\nbc\r\n",
        b"$0\r\n\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*3\r\n$1\r\na\r\n*2\r\n:1\r\n$-1\r\n+x\r\n",
        b"%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n#t\r\n",
        b"~2\r\n,1.5\r\n_\r\n",
        b"!7\r\nERR bad\r\n",
    ];

    #[test]
    fn replies_end_where_the_parser_ends() {
        for reply in REPLIES {
            let followed = [reply, b"+next\r\n"].concat();
            let is_error = matches!(reply[0], b'-' | b'!');
            assert_eq!(scan(&followed), Scan::Complete { bytes: reply.len(), is_error }, "{reply:?}");
            let mut reader = ReplyReader::new();
            reader.feed(reply);
            assert!(reader.next_reply().unwrap().is_some());
            for length in 0..reply.len() {
                assert_eq!(scan(&reply[..length]), Scan::Partial, "{reply:?} cut at {length}");
            }
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        for bytes in [&b"hello\r\n"[..], b"\r\n", b"+OK\n", b"$x\r\n", b"$\r\n", b"*99999999999\r\n"] {
            assert_eq!(scan(bytes), Scan::Malformed, "{bytes:?}");
        }
    }
}
