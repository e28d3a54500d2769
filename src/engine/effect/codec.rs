//! Encodes and decodes the fields of effects.

use super::{Cause, List, ScoredList};

/// The encoded length. The configuration limits requests to 2 GiB, so an effect is always shorter than 4 GiB.
/// A longer one panics, because a truncated length would make the log unreadable.
pub(super) fn length_u32(length: usize) -> u32 {
    u32::try_from(length).expect("an effect is below 4 GiB")
}

/// The output of an encoder.
pub(super) trait Sink {
    /// The number of bytes so far.
    fn len(&self) -> usize;
    fn put(&mut self, bytes: &[u8]);
    /// The same for bytes that can be a whole word of a request.
    fn put_word(&mut self, word: &[u8]);
    /// The position of the next bytes, for `set`.
    fn place(&self) -> usize;
    fn set(&mut self, place: usize, bytes: [u8; 4]);
}

impl Sink for Vec<u8> {
    #[inline]
    fn len(&self) -> usize {
        self.len()
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn put_word(&mut self, word: &[u8]) {
        self.extend_from_slice(word);
    }

    #[inline]
    fn place(&self) -> usize {
        self.len()
    }

    #[inline]
    fn set(&mut self, place: usize, bytes: [u8; 4]) {
        self[place..place + 4].copy_from_slice(&bytes);
    }
}

#[inline]
pub(super) fn put_bytes(out: &mut impl Sink, bytes: &[u8]) {
    out.put(&length_u32(bytes.len()).to_le_bytes());
    out.put_word(bytes);
}

#[inline]
pub(super) fn put_list(out: &mut impl Sink, list: List<'_>) {
    out.put(&length_u32(list.len()).to_le_bytes());
    for item in list.iter() {
        put_bytes(out, item);
    }
}

#[inline]
pub(super) fn put_scores(out: &mut impl Sink, list: ScoredList<'_>) {
    out.put(&length_u32(list.len()).to_le_bytes());
    for entry in list.iter() {
        out.put(&entry.score.to_le_bytes());
        put_bytes(out, entry.member);
    }
}

/// Reads the fields of an effect. Each method consumes the field that it returns; `None` if the bytes are too
/// short or malformed.
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        let (first, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(u32::from_le_bytes(*first))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        let (first, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(u64::from_le_bytes(*first))
    }

    pub(super) fn cause(&mut self) -> Option<Cause> {
        match self.u8()? {
            0 => Some(Cause::Command),
            1 => Some(Cause::Expired),
            2 => Some(Cause::Evicted),
            _ => None,
        }
    }

    /// A length and that many bytes.
    pub(super) fn counted(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        let (content, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(content)
    }

    /// All remaining bytes.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    /// A list at the end of the payload. Every item is checked here, so that iterating cannot fail.
    pub(super) fn list(&mut self) -> Option<List<'a>> {
        let count = self.u32()?;
        let bytes = self.bytes;
        for _ in 0..count {
            self.counted()?;
        }
        Some(List::Encoded { count, bytes: &bytes[..bytes.len() - self.bytes.len()] })
    }

    /// The same with scores, none of which is NaN.
    pub(super) fn scores(&mut self) -> Option<ScoredList<'a>> {
        let count = self.u32()?;
        let bytes = self.bytes;
        for _ in 0..count {
            let score = f64::from_bits(self.u64()?);
            if score.is_nan() {
                return None;
            }
            self.counted()?;
        }
        Some(ScoredList::Encoded { count, bytes: &bytes[..bytes.len() - self.bytes.len()] })
    }
}
