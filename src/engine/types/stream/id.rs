//! The ID of an entry: milliseconds, and a sequence number among those of one millisecond.

use std::fmt;

/// Ordered as entries are. As text it is `milliseconds-sequence`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    pub ms: u64,
    pub seq: u64,
}

impl StreamId {
    /// Before all entries: no entry has it.
    pub const ZERO: StreamId = StreamId { ms: 0, seq: 0 };
    pub const MAX: StreamId = StreamId { ms: u64::MAX, seq: u64::MAX };
    /// The length of the encoding.
    pub const BYTES: usize = 16;

    /// The next larger one; `None` after [`StreamId::MAX`].
    pub fn next(self) -> Option<StreamId> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(StreamId { seq, ..self }),
            None => Some(StreamId { ms: self.ms.checked_add(1)?, seq: 0 }),
        }
    }

    /// The next smaller one; `None` before 0-0.
    pub fn previous(self) -> Option<StreamId> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(StreamId { seq, ..self }),
            None => Some(StreamId { ms: self.ms.checked_sub(1)?, seq: u64::MAX }),
        }
    }

    /// `milliseconds-sequence`, or milliseconds alone: then the sequence is `missing`.
    pub fn parse(word: &[u8], missing: u64) -> Option<StreamId> {
        const WORD_BYTES_MAX: usize = 127;
        if word.len() > WORD_BYTES_MAX {
            return None;
        }
        match word.iter().position(|byte| *byte == b'-') {
            Some(dash) => {
                Some(StreamId { ms: parse_u64(&word[..dash])?, seq: parse_u64(&word[dash + 1..])? })
            }
            None => Some(StreamId { ms: parse_u64(word)?, seq: missing }),
        }
    }

    /// Both numbers in big-endian order, so that bytes are ordered as IDs are.
    pub fn to_bytes(self) -> [u8; StreamId::BYTES] {
        (u128::from(self.ms) << 64 | u128::from(self.seq)).to_be_bytes()
    }

    /// Calls `with` on the text without allocating.
    pub fn with_text<R>(self, with: impl FnOnce(&[u8]) -> R) -> R {
        let (mut ms, mut seq) = (itoa::Buffer::new(), itoa::Buffer::new());
        let (ms, seq) = (ms.format(self.ms).as_bytes(), seq.format(self.seq).as_bytes());
        let mut text = [b'-'; 41];
        text[..ms.len()].copy_from_slice(ms);
        let end = ms.len() + 1 + seq.len();
        text[ms.len() + 1..end].copy_from_slice(seq);
        with(&text[..end])
    }

    pub fn from_bytes(bytes: [u8; StreamId::BYTES]) -> StreamId {
        let both = u128::from_be_bytes(bytes);
        StreamId { ms: (both >> 64) as u64, seq: both as u64 }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// An unsigned number as C's `strtoull` reads it: spaces, a plus sign and zeros may come first.
pub fn parse_u64(word: &[u8]) -> Option<u64> {
    let digits = word.trim_ascii_start();
    let digits = digits.strip_prefix(b"+").unwrap_or(digits);
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_redis_reads_them() {
        let id = |ms, seq| Some(StreamId { ms, seq });
        for (word, wanted) in [
            ("5-3", id(5, 3)),
            ("5", id(5, 9)),
            ("0-0", id(0, 0)),
            ("007-01", id(7, 1)),
            ("18446744073709551615-18446744073709551615", id(u64::MAX, u64::MAX)),
            ("18446744073709551616-0", None),
            ("5-", None),
            ("-5", None),
            ("5-3-1", None),
            ("5--1", None),
            ("", None),
            ("x", None),
            ("5-*", None),
            ("+", None),
        ] {
            assert_eq!(StreamId::parse(word.as_bytes(), 9), wanted, "{word}");
        }
        assert_eq!(StreamId::parse(&[b'1'; 128], 0), None);
    }

    #[test]
    fn neighbours_and_bytes_keep_the_order() {
        let ids = [(0, 0), (0, 1), (0, u64::MAX), (1, 0), (256, 1), (u64::MAX, u64::MAX)];
        let ids = ids.map(|(ms, seq)| StreamId { ms, seq });
        for pair in ids.windows(2) {
            assert!(pair[0].to_bytes() < pair[1].to_bytes());
            assert!(pair[0].next().expect("not the last one") <= pair[1]);
            assert_eq!(pair[0].next().and_then(StreamId::previous), Some(pair[0]));
            assert_eq!(StreamId::from_bytes(pair[0].to_bytes()), pair[0]);
            pair[0].with_text(|text| assert_eq!(text, pair[0].to_string().as_bytes()));
        }
        assert_eq!((StreamId::MAX.next(), StreamId::ZERO.previous()), (None, None));
    }
}
