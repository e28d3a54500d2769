//! The encoded effects of a batch. Large contents are referred to instead of copied.

use super::Effect;
use super::codec::Sink;
use crate::types::{Content, Contents};
use std::ops::Range;

/// A batch's bytes, in the order in which they are logged.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Contents, each with the index in `bytes` before which it belongs.
    contents: Vec<(usize, Content)>,
    contents_bytes: usize,
}

/// The largest buffer that is kept for the next batch, in bytes.
const KEPT_BYTES_MAX: usize = 1 << 20;

impl Batch {
    /// Adds an effect; refers to those of its words that are among the contents.
    pub fn push(&mut self, database: u32, effect: &Effect<'_>, contents: Option<&Contents>) {
        match contents {
            None => effect.encode(database, &mut self.bytes),
            Some(contents) => effect.encode_into(database, &mut Referring { batch: self, contents }),
        }
    }

    pub fn len(&self) -> usize {
        self.bytes.len() + self.contents_bytes
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All bytes; `None` if the batch refers to contents.
    pub fn as_slice(&self) -> Option<&[u8]> {
        self.contents.is_empty().then_some(&self.bytes)
    }

    /// Takes the batch, and leaves an empty one.
    pub fn take(&mut self) -> Batch {
        std::mem::take(self)
    }

    pub fn clear(&mut self) {
        if self.bytes.capacity() > KEPT_BYTES_MAX {
            *self = Batch::default();
        }
        self.bytes.clear();
        self.contents.clear();
        self.contents_bytes = 0;
    }

    /// The bytes in parts, in order; contents come with their checksum.
    fn parts(&self) -> impl Iterator<Item = (&[u8], Option<u32>)> {
        let mut from = 0;
        let referred = self.contents.iter().flat_map(move |(at, content)| {
            let before = &self.bytes[std::mem::replace(&mut from, *at)..*at];
            [(before, None), (content.bytes().as_slice(), Some(content.crc()))]
        });
        let last = self.contents.last().map_or(0, |(at, _)| *at);
        referred.chain([(&self.bytes[last..], None)])
    }

    /// CRC32C of the bytes from `start` on; uses the known checksums of contents.
    pub fn crc(&self, start: usize) -> u32 {
        let (mut crc, mut offset) = (0, 0);
        for (part, known) in self.parts() {
            let before = start.saturating_sub(offset).min(part.len());
            crc = match known {
                Some(known) if before == 0 => crc32c::crc32c_combine(crc, known, part.len()),
                _ => crc32c::crc32c_append(crc, &part[before..]),
            };
            offset += part.len();
        }
        crc
    }

    /// Appends some of the bytes to `out`.
    pub fn copy(&self, range: Range<usize>, out: &mut Vec<u8>) {
        let mut start = 0;
        for (part, _) in self.parts() {
            let end = start + part.len();
            if start >= range.end {
                return;
            }
            if end > range.start {
                out.extend_from_slice(&part[range.start.saturating_sub(start)..range.end.min(end) - start]);
            }
            start = end;
        }
    }
}

impl From<Vec<u8>> for Batch {
    fn from(bytes: Vec<u8>) -> Batch {
        Batch { bytes, ..Batch::default() }
    }
}

/// Encodes into a batch, and refers to words that are contents.
struct Referring<'b> {
    batch: &'b mut Batch,
    contents: &'b Contents,
}

impl Sink for Referring<'_> {
    fn len(&self) -> usize {
        self.batch.len()
    }

    fn put(&mut self, bytes: &[u8]) {
        self.batch.bytes.extend_from_slice(bytes);
    }

    fn put_word(&mut self, word: &[u8]) {
        match self.contents.of(word) {
            Some(content) => {
                self.batch.contents.push((self.batch.bytes.len(), content.clone()));
                self.batch.contents_bytes += word.len();
            }
            None => self.put(word),
        }
    }

    fn place(&self) -> usize {
        self.batch.bytes.len()
    }

    fn set(&mut self, place: usize, bytes: [u8; 4]) {
        self.batch.bytes[place..place + 4].copy_from_slice(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::{List, decode_batch};

    #[test]
    fn a_batch_that_refers_to_contents_has_the_bytes_of_one_that_copies_them() {
        let large = [vec![1u8; 100_000], vec![2; 70_000], vec![3; Contents::BYTES_MIN]];
        let contents: Vec<Content> = large.iter().cloned().map(Content::new).collect();
        let words: Vec<&[u8]> = contents.iter().map(|content| content.bytes().as_slice()).collect();
        let fields = [&b"f"[..], words[0], b"g", words[1], b"h", b"small", words[2], b"", words[0], words[0]];
        let effects = [
            Effect::StringSet { key: b"a", value: words[0], expires_at_ms: 7 },
            Effect::StringSet { key: b"b", value: b"small", expires_at_ms: 0 },
            Effect::HashSet { key: words[2], fields: List::Arguments(&fields), keep_expiry: false },
            Effect::StringAppend { key: b"a", suffix: words[1] },
            Effect::StringWrite { key: b"a", offset: 9, content: &words[1][1..] },
            Effect::HashDelete {
                key: b"h",
                fields: List::Arguments(&fields),
                cause: crate::effect::Cause::Command,
            },
        ];
        let contents = Contents::new(contents.clone());
        let (mut referring, mut copying, mut bytes) = (Batch::default(), Batch::default(), Vec::new());
        for effect in &effects {
            referring.push(3, effect, Some(&contents));
            copying.push(3, effect, None);
            effect.encode(3, &mut bytes);
        }
        assert!(referring.as_slice().is_none() && referring.bytes.len() < 80_000, "it refers");
        assert_eq!(copying.as_slice(), Some(&bytes[..]));
        assert_eq!(referring.len(), bytes.len());
        for start in [0, 1, 70_000, 170_000, bytes.len() - 1, bytes.len()] {
            assert_eq!(referring.crc(start), crc32c::crc32c(&bytes[start..]), "from {start}");
        }
        for size in [1 << 20, 65_537, 1000] {
            let mut copied = Vec::new();
            for start in (0..bytes.len()).step_by(size) {
                referring.copy(start..bytes.len().min(start + size), &mut copied);
            }
            assert!(copied == bytes, "in pieces of {size}");
        }
        let decoded: Vec<_> = decode_batch(&bytes).map(|record| record.expect("whole").effect).collect();
        assert!(decoded == effects);
    }
}
