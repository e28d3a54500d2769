//! The entry that is being filled with batches.

use crate::effect::Batch;
use crate::log::entry::{EntryKind, HEADER_BYTES, PieceKind, begin_piece};
use crate::log::{LogEntry, LogLimits, Lsn, RunningChecksum};
use std::ops::Range;
use std::sync::Arc;

/// The bytes of a submitted batch.
pub enum BatchBytes<'a> {
    Here(&'a [u8]),
    /// A range of a shared buffer, to be copied by the writer.
    Referred(Arc<Batch>, Range<usize>),
}

impl BatchBytes<'_> {
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            BatchBytes::Here(bytes) => bytes.len(),
            BatchBytes::Referred(_, range) => range.len(),
        }
    }
}

/// The single piece of an entry, to be copied when the entry is written.
pub struct LatePiece {
    pub kind: PieceKind,
    pub batch: Arc<Batch>,
    pub range: Range<usize>,
}

/// An entry that is being filled.
pub struct Forming {
    pub entry: LogEntry,
    /// The entry's single piece, if it is not copied yet.
    pub late: Option<LatePiece>,
    /// The room reserved by its batches.
    pub reserved_bytes: u64,
    pub batches: usize,
}

impl Forming {
    pub fn new(buffer: Option<Vec<u8>>, lsn: Lsn, engine_time_ms: u64) -> Forming {
        let (buffer, checksum) = (buffer.unwrap_or_default(), RunningChecksum::default());
        let entry = LogEntry::in_buffer(buffer, EntryKind::Data, engine_time_ms, lsn, checksum);
        Forming { entry, late: None, reserved_bytes: 0, batches: 0 }
    }

    /// Copies the late piece, if there is one, into this buffer, which becomes the entry's.
    pub fn complete(&mut self, buffer: Option<Vec<u8>>) {
        let Some(LatePiece { kind, batch, range }) = self.late.take() else { return };
        assert_eq!(self.entry.bytes.len(), HEADER_BYTES, "a late piece is alone in its entry");
        assert!(range.end <= batch.len(), "a piece is inside its batch");
        let mut bytes = buffer.unwrap_or_default();
        bytes.clear();
        bytes.resize(HEADER_BYTES, 0);
        begin_piece(kind, range.len(), 0, &mut bytes);
        batch.copy(range, &mut bytes);
        self.entry.bytes = bytes;
    }

    /// True if a piece of `bytes` bytes with this time can be added.
    pub fn fits(&self, limits: &LogLimits, bytes: usize, engine_time_ms: u64) -> bool {
        let time = self.entry.engine_time_ms;
        let time_fits = engine_time_ms >= time && engine_time_ms - time <= u64::from(u32::MAX);
        time_fits && self.entry.bytes.len() + bytes <= limits.entry_bytes_max
    }
}
