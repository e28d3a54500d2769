//! Large words of a request, each in its own memory, to which the stored value, replies and the log refer
//! without a copy.

use std::sync::Arc;

/// A large content with its checksum, which is computed before any lock is taken.
#[derive(Clone, Debug)]
pub struct Content {
    bytes: Arc<Vec<u8>>,
    crc: u32,
}

impl Content {
    /// Computes the checksum, which takes time in proportion to the length.
    pub fn new(bytes: Vec<u8>) -> Content {
        let crc = crc32c::crc32c(&bytes);
        Content { bytes: Arc::new(bytes), crc }
    }

    pub fn bytes(&self) -> &Arc<Vec<u8>> {
        &self.bytes
    }

    /// CRC32C of the bytes.
    pub fn crc(&self) -> u32 {
        self.crc
    }
}

/// The large words of one request.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Sorted by address.
    contents: Vec<Content>,
}

impl Contents {
    /// Shorter words are copied.
    pub const BYTES_MIN: usize = super::string::SHARED_BYTES_MIN;

    pub fn new(mut contents: Vec<Content>) -> Contents {
        contents.sort_unstable_by_key(|content| content.bytes.as_ptr());
        Contents { contents }
    }

    /// The content that consists of exactly this word: the same memory, not only equal bytes.
    #[inline]
    pub fn of(&self, word: &[u8]) -> Option<&Content> {
        if word.len() < Contents::BYTES_MIN || self.contents.is_empty() {
            return None;
        }
        let found = self.contents.binary_search_by_key(&word.as_ptr(), |content| content.bytes.as_ptr());
        Some(&self.contents[found.ok()?]).filter(|content| content.bytes.len() == word.len())
    }
}
