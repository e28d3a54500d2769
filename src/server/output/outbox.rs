//! A connection's replies on their way out, in order, each held until its gate is durable.
//!
//! ```text
//! bytes     |written....|released....|held.....................|
//! segments               gate 0       gate 17       gate 21
//! buffers   | piece      | piece             | tail            |
//! ```
//!
//! Replies are appended to the tail. A tail that has become long is appended to the pieces, and a new one
//! begins: so a reply of any size is made without copying what is there of it, and its bytes are counted
//! against the connection's limit while it is made. Beyond the limit all of it is dropped, and what is
//! appended afterwards too: the connection is to be closed.
//!
//! A large value is not copied: a piece refers to it, and it is sent from its own memory.
//!
//! Invariants: bytes leave in the order in which they were written; none leaves before its segment's gate,
//! nor before the gates of all segments in front of it. Replies that become held in the same round share a
//! segment with the highest of their gates. Where the rest of a round is held and only replies of the same
//! round may leave, these can wait for it ([`Outbox::may_wait_for_held`]): a pipeline's replies then leave in
//! one write.

use crate::buffers;
use engramdb_engine::log::Lsn;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Positions count all bytes that were ever appended.
pub struct Outbox {
    /// Full buffers, the oldest first.
    pieces: VecDeque<Piece>,
    pieces_bytes: usize,
    tail: Vec<u8>,
    /// Where the first piece begins, or the tail if there is none.
    front_at: usize,
    tail_at: usize,
    written: usize,
    /// Where each gate's bytes end; gates rise.
    segments: VecDeque<Segment>,
    /// Bytes up to here have been released.
    released: usize,
    /// The highest gate of what was released.
    released_gate: Lsn,
    /// Where the replies of the last round begin.
    round_at: usize,
    bytes_max: usize,
    /// More than `bytes_max` were to be sent.
    has_overflowed: bool,
    /// The beginning of a reply that the client may not want: it keeps no more than a tail of it.
    unwanted_from: Option<usize>,
}

enum Piece {
    Own(Vec<u8>),
    /// A part of a content that others have too.
    Shared(Arc<Vec<u8>>, Range<usize>),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Own(bytes) => bytes,
            Piece::Shared(bytes, range) => &bytes[range.clone()],
        }
    }

    fn len(&self) -> usize {
        match self {
            Piece::Own(bytes) => bytes.len(),
            Piece::Shared(_, range) => range.len(),
        }
    }

    /// The bytes that are counted for it. A shared content counts fully: this piece may be its last owner by
    /// the time it is sent.
    fn capacity(&self) -> usize {
        match self {
            Piece::Own(bytes) => bytes.capacity(),
            Piece::Shared(_, range) => range.len(),
        }
    }
}

struct Segment {
    gate: Lsn,
    end: usize,
}

/// The length at which a tail becomes a piece.
const PIECE_BYTES: usize = 256 * 1024;

/// Contents below this are copied: a piece of their own costs about as much.
const SHARED_BYTES_MIN: usize = 16 * 1024;

/// Replies that may be sent and wait for the rest of their round, at most: beyond it a write costs more than
/// its system call.
const WAITING_BYTES_MAX: usize = 16 * 1024;

/// What is longer gets a piece of its own, which is allocated at its size.
pub const LARGE_BYTES: usize = 128 * 1024;

impl Default for Outbox {
    fn default() -> Outbox {
        Outbox {
            pieces: VecDeque::new(),
            pieces_bytes: 0,
            tail: Vec::new(),
            front_at: 0,
            tail_at: 0,
            written: 0,
            segments: VecDeque::new(),
            released: 0,
            released_gate: Lsn(0),
            round_at: 0,
            bytes_max: usize::MAX,
            has_overflowed: false,
            unwanted_from: None,
        }
    }
}

/// The memory of an outbox, for CLIENT LIST.
pub struct OutboxUsage {
    pub tail_bytes: usize,
    pub tail_capacity: usize,
    pub pieces: usize,
    pub pieces_capacity: usize,
}

impl Outbox {
    /// Where a reply's next words are appended. [`Outbox::seal`] must follow, before any flush.
    #[inline]
    pub fn tail(&mut self) -> &mut Vec<u8> {
        if self.tail.len() >= PIECE_BYTES || self.tail.capacity() == 0 {
            self.renew_tail();
        }
        &mut self.tail
    }

    /// A tail with capacity for `bytes`, if the limit allows them. `None` beyond the limit, and for a reply
    /// that the client does not want: nothing of it is kept then.
    pub fn large_tail(&mut self, bytes: usize) -> Option<&mut Vec<u8>> {
        if !self.makes_room(bytes) {
            return None;
        }
        self.push_tail();
        self.tail = Vec::with_capacity(bytes);
        Some(&mut self.tail)
    }

    #[cold]
    fn renew_tail(&mut self) {
        if self.tail.capacity() == 0 {
            self.tail = buffers::take();
            return;
        }
        if let Some(from) = self.unwanted_from {
            return self.tail.truncate(from - self.tail_at);
        }
        if self.len() > self.bytes_max {
            self.overflow();
        }
        if self.has_overflowed {
            self.tail_at += self.tail.len();
            self.tail.clear();
        } else {
            self.push_tail();
            self.tail = Vec::with_capacity(PIECE_BYTES);
        }
    }

    fn push_tail(&mut self) {
        if self.tail.is_empty() {
            return buffers::give(&mut self.tail);
        }
        let mut piece = std::mem::take(&mut self.tail);
        if piece.len() < piece.capacity() / 2 {
            piece.shrink_to_fit();
        }
        self.push(Piece::Own(piece));
    }

    fn push(&mut self, piece: Piece) {
        self.tail_at += piece.len();
        self.pieces_bytes += piece.capacity();
        self.pieces.push_back(piece);
    }

    /// Appends a part of a content that others have too.
    pub fn append_shared(&mut self, content: &Arc<Vec<u8>>, range: Range<usize>) {
        if range.len() < SHARED_BYTES_MIN {
            return self.tail().extend_from_slice(&content[range]);
        }
        if self.makes_room(range.len()) {
            self.push_tail();
            self.push(Piece::Shared(content.clone(), range));
        }
    }

    /// Bytes that can be appended before all are dropped.
    pub fn room(&self) -> usize {
        if self.has_overflowed {
            return 0;
        }
        let is_kept = self.unwanted_from.is_none();
        if is_kept { self.bytes_max.saturating_sub(self.len()) } else { usize::MAX }
    }

    /// One with the same limit, for a reply that is made elsewhere.
    pub fn like(&self) -> Outbox {
        Outbox { bytes_max: self.room(), ..Outbox::default() }
    }

    /// Appends all of another, of which nothing was sealed or sent.
    pub fn append(&mut self, mut other: Outbox) {
        if other.has_overflowed {
            return self.overflow();
        }
        debug_assert_eq!((other.written, other.segments.len()), (0, 0), "a reply is sent once");
        if other.pieces.is_empty() && other.tail.len() < LARGE_BYTES {
            return self.tail().extend_from_slice(&other.tail);
        }
        if self.unwanted_from.is_some() {
            // Nothing is kept of it, but that it was written.
            return self.tail().push(b'+');
        }
        if self.makes_room(other.len()) {
            self.push_tail();
            other.push_tail();
            other.pieces.into_iter().for_each(|piece| self.push(piece));
        }
    }

    /// Whether `bytes` more can be kept: false beyond the limit, and for a reply that the client does not
    /// want.
    fn makes_room(&mut self, bytes: usize) -> bool {
        if self.unwanted_from.is_some() {
            return false;
        }
        if self.len() + bytes > self.bytes_max {
            self.overflow();
        }
        !self.has_overflowed
    }

    /// Drops everything: the connection will be closed.
    pub fn overflow(&mut self) {
        let end = self.end();
        *self = Outbox { bytes_max: self.bytes_max, has_overflowed: true, ..Outbox::default() };
        (self.front_at, self.tail_at, self.written, self.released) = (end, end, end, end);
    }

    /// Whether replies were dropped because there were too many.
    pub fn has_overflowed(&self) -> bool {
        self.has_overflowed
    }

    /// The position of the next byte.
    #[inline]
    pub fn end(&self) -> usize {
        self.tail_at + self.tail.len()
    }

    /// Bytes to be sent.
    #[inline]
    pub fn len(&self) -> usize {
        self.end() - self.written
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is something to be sent that must not leave yet.
    pub fn is_held(&self) -> bool {
        self.end() > self.released
    }

    #[inline]
    pub fn heap_bytes(&self) -> usize {
        self.tail.capacity() + self.pieces_bytes
    }

    /// As in Redis, a small tail is a buffer that the client has anyway, and what is larger belongs to the
    /// list of replies.
    pub fn usage(&self) -> OutboxUsage {
        let (pieces, pieces_capacity) = (self.pieces.len(), self.pieces_bytes);
        let tail_capacity = self.tail.capacity();
        if tail_capacity > buffers::BUFFER_BYTES {
            let pieces_capacity = pieces_capacity + tail_capacity;
            return OutboxUsage { tail_bytes: 0, tail_capacity: 0, pieces: pieces + 1, pieces_capacity };
        }
        OutboxUsage { tail_bytes: self.tail.len(), tail_capacity, pieces, pieces_capacity }
    }

    /// Begins a reply that the client may not want.
    pub fn begin_unwanted(&mut self) {
        if self.tail.len() > LARGE_BYTES {
            self.push_tail();
        }
        self.unwanted_from = Some(self.end());
    }

    /// Ends it.
    pub fn end_unwanted(&mut self) {
        self.unwanted_from = None;
    }

    /// Drops what was appended from this position on. It must not have been sealed.
    pub fn rewind(&mut self, position: usize) {
        if self.has_overflowed {
            return;
        }
        while position < self.tail_at
            && let Some(piece) = self.pieces.pop_back()
        {
            self.pieces_bytes -= piece.capacity();
            self.tail_at -= piece.len();
            self.tail = match piece {
                Piece::Own(bytes) => bytes,
                Piece::Shared(..) if position <= self.tail_at => Vec::new(),
                Piece::Shared(bytes, range) => bytes[range.start..][..position - self.tail_at].to_vec(),
            };
        }
        self.tail.truncate(position.saturating_sub(self.tail_at));
    }

    /// Gives the bytes appended since the last seal their gate. `durable` is what is durable already.
    pub fn seal(&mut self, gate: Lsn, durable: Lsn) {
        let end = self.end();
        match self.segments.back_mut() {
            Some(last) => {
                last.gate = last.gate.max(gate);
                last.end = end;
            }
            None if gate <= durable => {
                self.released = end;
                self.released_gate = self.released_gate.max(gate);
            }
            None => self.segments.push_back(Segment { gate, end }),
        }
    }

    /// Begins a new segment for what is appended from now on, so that it does not delay what is held already.
    /// From now on no more than `bytes_max` may wait to be sent.
    pub fn begin_round(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
        self.round_at = self.end();
        if let Some(last) = self.segments.back()
            && last.end > self.released
        {
            let gate = last.gate;
            self.segments.push_back(Segment { gate, end: self.end() });
        }
    }

    /// Releases what is durable. Returns the gate of the first bytes that are still held.
    pub fn release(&mut self, durable: Lsn) -> Option<Lsn> {
        while let Some(first) = self.segments.front() {
            if first.gate > durable {
                return Some(first.gate);
            }
            assert!(first.end >= self.released, "segments end one after the other");
            self.released = first.end;
            self.released_gate = self.released_gate.max(first.gate);
            self.segments.pop_front();
        }
        None
    }

    /// Whether every reply has its gate: another may only be begun then.
    pub fn is_sealed(&self) -> bool {
        self.end() == self.segments.back().map_or(self.released, |last| last.end.max(self.released))
    }

    /// What must be durable before [`Outbox::sendable`] may leave.
    #[inline]
    pub fn released_gate(&self) -> Lsn {
        self.released_gate
    }

    /// Whether what may be sent now belongs to the last round, whose other replies are still held, and is
    /// small: it can leave in one write with them, because their client sent all of these requests together.
    #[inline]
    pub fn may_wait_for_held(&self) -> bool {
        let is_of_last_round = self.written >= self.round_at && self.is_held();
        is_of_last_round && self.released - self.written <= WAITING_BYTES_MAX
    }

    /// The first of what may be sent now: as much of it as lies in one buffer.
    pub fn sendable(&self) -> &[u8] {
        if self.has_overflowed {
            return &[];
        }
        let front = self.pieces.front().map_or(&*self.tail, Piece::bytes);
        let end = (self.released - self.front_at).min(front.len());
        &front[self.written - self.front_at..end]
    }

    pub fn sent(&mut self, bytes: usize) {
        self.written += bytes;
        assert!(self.written <= self.released, "held bytes were sent");
        while let Some(front) = self.pieces.front()
            && self.written == self.front_at + front.len()
        {
            let piece = self.pieces.pop_front().expect("it is there");
            self.front_at = self.written;
            self.pieces_bytes -= piece.capacity();
            if let Piece::Own(mut bytes) = piece {
                buffers::give(&mut bytes);
            }
        }
        if self.is_empty() {
            debug_assert!(self.segments.iter().all(|segment| segment.end == self.written));
            self.segments.clear();
            (self.front_at, self.tail_at, self.released) = (self.written, self.written, self.written);
            buffers::give(&mut self.tail);
        }
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
