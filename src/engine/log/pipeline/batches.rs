//! The batches of a run, until they are submitted together.

use crate::effect::Batch;
use std::ops::Range;
use std::sync::Arc;

/// The closed batches of a run and the open one, in one buffer. Each of them may refer to contents.
#[derive(Debug, Default)]
pub struct Batches {
    bytes: Batch,
    closed: Vec<Closed>,
}

/// The end of a closed batch in the buffer, and the CRC32C of its bytes.
#[derive(Clone, Copy, Debug)]
struct Closed {
    end: usize,
    crc: u32,
}

impl Batches {
    /// The open batch, to which effects are appended.
    #[inline]
    pub fn open(&mut self) -> &mut Batch {
        &mut self.bytes
    }

    /// The number of closed batches.
    #[inline]
    pub fn count(&self) -> usize {
        self.closed.len()
    }

    /// Closes the open batch. Returns false if it is empty; it stays open then.
    #[inline]
    pub fn close(&mut self) -> bool {
        let (start, end) = (self.closed_bytes(), self.bytes.len());
        if start == end {
            return false;
        }
        assert!(start < end, "batches follow each other");
        let crc = match self.bytes.as_slice() {
            Some(bytes) => crc32c::crc32c(&bytes[start..]),
            None => self.bytes.crc(start),
        };
        self.closed.push(Closed { end, crc });
        true
    }

    fn closed_bytes(&self) -> usize {
        self.closed.last().map_or(0, |closed| closed.end)
    }

    /// The range of each closed batch in the buffer, and its checksum.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Range<usize>, u32)> {
        let mut start = 0;
        self.closed
            .iter()
            .map(move |closed| (std::mem::replace(&mut start, closed.end)..closed.end, closed.crc))
    }

    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.bytes.as_slice().expect("`refer` has taken batches that refer to contents")[range]
    }

    /// Returns the whole buffer, for the writer to copy from, if a batch has more than `bytes_max` bytes or
    /// refers to contents.
    pub(super) fn refer(&mut self, bytes_max: usize) -> Option<Arc<Batch>> {
        assert!(!self.closed.is_empty(), "a run has a batch");
        assert_eq!(self.closed_bytes(), self.bytes.len(), "no batch is open when a run is submitted");
        let is_copied =
            self.bytes.as_slice().is_some() && self.iter().all(|(range, _)| range.len() <= bytes_max);
        (!is_copied).then(|| Arc::new(self.bytes.take()))
    }

    /// Empties the buffer after its batches were submitted.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.closed.clear();
    }
}
