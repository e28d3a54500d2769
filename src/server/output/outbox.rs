//! The outgoing replies of a connection, in order, each held until its gate is durable.
//!
//! ```text
//! bytes     |written....|released....|held.....................|
//! segments               gate 0       gate 17       gate 21
//! buffers   | piece      | piece             | tail            |
//! ```
//!
//! Replies are appended to the tail. A long tail is moved to the pieces, and a new one begins. So a reply of
//! any size is written without copying its first part, and its bytes count against the connection's limit
//! while it is written. Beyond the limit all output is dropped, including later output, and the caller must
//! close the connection.
//!
//! A large value is not copied: a piece refers to it, and it is sent from its own memory.
//!
//! Invariants: bytes leave in the order in which they were written. No byte leaves before the gates of its
//! segment and of all earlier segments are durable. Held replies of one round share a segment with the
//! highest of their gates. If all sendable replies belong to a round whose other replies are held, they can
//! wait for those ([`Outbox::may_wait_for_held`]), so that the replies of a pipeline leave in one write.

use crate::buffers;
use engramdb_engine::log::Lsn;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// The outgoing bytes of a connection. A position is the number of bytes appended before it.
pub struct Outbox {
    /// Full buffers, the oldest first.
    pieces: VecDeque<Piece>,
    /// The capacity of all pieces.
    pieces_bytes: usize,
    tail: Vec<u8>,
    /// The position of the first piece, or of the tail if there is none.
    front_at: usize,
    tail_at: usize,
    /// The position up to which bytes were sent.
    written: usize,
    /// The end of each gate's bytes; gates and ends ascend.
    segments: VecDeque<Segment>,
    /// The position up to which bytes may be sent.
    released: usize,
    /// The highest gate of the released bytes.
    released_gate: Lsn,
    /// The highest gate of all replies so far, sent and dropped ones included.
    latest_gate: Lsn,
    /// The position at which the replies of the last round begin.
    round_at: usize,
    bytes_max: usize,
    /// Unsent output exceeded `bytes_max`, and was dropped.
    has_overflowed: bool,
    /// The position of a reply that the client may not want; at most one tail of it is kept.
    unwanted_from: Option<usize>,
}

enum Piece {
    Own(Vec<u8>),
    /// A part of a shared content.
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

    /// The bytes that count against the limit. A shared part counts too, because this piece may become its
    /// last owner before it is sent.
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

/// Smaller contents are copied, because a piece costs about as much.
const SHARED_BYTES_MIN: usize = 16 * 1024;

/// The most sendable bytes that wait for the rest of their round: for more, the system call is a small part
/// of the cost of a write.
const WAITING_BYTES_MAX: usize = 16 * 1024;

/// A longer reply gets its own piece, allocated at its exact size.
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
            latest_gate: Lsn(0),
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
    /// The buffer to which a reply is appended. The caller must call [`Outbox::seal`] before any flush.
    #[inline]
    pub fn tail(&mut self) -> &mut Vec<u8> {
        if self.tail.len() >= PIECE_BYTES || self.tail.capacity() == 0 {
            self.renew_tail();
        }
        &mut self.tail
    }

    /// A tail with capacity for `bytes`. `None` beyond the limit and for an unwanted reply, of which nothing
    /// is kept.
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

    /// Appends a part of a shared content, by reference if it is large.
    pub fn append_shared(&mut self, content: &Arc<Vec<u8>>, range: Range<usize>) {
        if range.len() < SHARED_BYTES_MIN {
            return self.tail().extend_from_slice(&content[range]);
        }
        if self.makes_room(range.len()) {
            self.push_tail();
            self.push(Piece::Shared(content.clone(), range));
        }
    }

    /// The number of bytes that can be appended without exceeding the limit.
    pub fn room(&self) -> usize {
        if self.has_overflowed {
            return 0;
        }
        let is_kept = self.unwanted_from.is_none();
        if is_kept { self.bytes_max.saturating_sub(self.len()) } else { usize::MAX }
    }

    /// An empty outbox limited to this one's room, for a reply that is written separately.
    pub fn like(&self) -> Outbox {
        Outbox { bytes_max: self.room(), ..Outbox::default() }
    }

    /// Appends all bytes of another outbox, of which nothing was sealed or sent.
    pub fn append(&mut self, mut other: Outbox) {
        if other.has_overflowed {
            return self.overflow();
        }
        assert_eq!((other.written, other.segments.len()), (0, 0), "a reply is sent once");
        if other.pieces.is_empty() && other.tail.len() < LARGE_BYTES {
            return self.tail().extend_from_slice(&other.tail);
        }
        if self.unwanted_from.is_some() {
            // One byte shows that there was a reply; the rest is not kept.
            return self.tail().push(b'+');
        }
        if self.makes_room(other.len()) {
            self.push_tail();
            other.push_tail();
            other.pieces.into_iter().for_each(|piece| self.push(piece));
        }
    }

    /// True if `bytes` more can be kept; false for an unwanted reply and beyond the limit, where it drops all
    /// output.
    fn makes_room(&mut self, bytes: usize) -> bool {
        if self.unwanted_from.is_some() {
            return false;
        }
        if self.len() + bytes > self.bytes_max {
            self.overflow();
        }
        !self.has_overflowed
    }

    /// Drops all output; the caller must close the connection.
    pub fn overflow(&mut self) {
        let end = self.end();
        *self = Outbox { bytes_max: self.bytes_max, has_overflowed: true, ..Outbox::default() };
        (self.front_at, self.tail_at, self.written, self.released) = (end, end, end, end);
    }

    /// True if output was dropped because it exceeded the limit.
    pub fn has_overflowed(&self) -> bool {
        self.has_overflowed
    }

    /// The position of the next byte.
    #[inline]
    pub fn end(&self) -> usize {
        self.tail_at + self.tail.len()
    }

    /// The number of unsent bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.end() - self.written
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True if there are unsent bytes whose gates are not durable.
    pub fn is_held(&self) -> bool {
        self.end() > self.released
    }

    #[inline]
    pub fn heap_bytes(&self) -> usize {
        self.tail.capacity() + self.pieces_bytes
    }

    /// As in Redis, a small tail counts as the client's buffer, and a larger one as part of the reply list.
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

    /// Calls `with` with the bytes from this position on, which must not be sealed or sent.
    pub fn with_end<R>(&self, position: usize, with: impl FnOnce(&[u8]) -> R) -> R {
        if position >= self.tail_at {
            return with(&self.tail[position - self.tail_at..]);
        }
        let mut whole = Vec::with_capacity(self.end() - self.front_at);
        self.pieces.iter().for_each(|piece| whole.extend_from_slice(piece.bytes()));
        whole.extend_from_slice(&self.tail);
        with(&whole[position - self.front_at..])
    }

    /// Ends a reply that the client may not want.
    pub fn end_unwanted(&mut self) {
        self.unwanted_from = None;
    }

    /// Drops the bytes from this position on, which must not be sealed.
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

    /// Sets the gate of the bytes appended since the last seal. `durable` is the durable LSN.
    pub fn seal(&mut self, gate: Lsn, durable: Lsn) {
        let end = self.end();
        self.latest_gate = self.latest_gate.max(gate);
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

    /// Begins a new round: later replies get a new segment, so that they do not delay earlier ones. Sets the
    /// limit of unsent bytes to `bytes_max`.
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

    /// Releases the bytes whose gates are durable. Returns the gate of the first held bytes, if there are
    /// any.
    pub fn release(&mut self, durable: Lsn) -> Option<Lsn> {
        while let Some(first) = self.segments.front() {
            if first.gate > durable {
                return Some(first.gate);
            }
            assert!(first.end >= self.released, "segments end in ascending order");
            self.released = first.end;
            self.released_gate = self.released_gate.max(first.gate);
            self.segments.pop_front();
        }
        None
    }

    /// True if every reply has its gate; only then may another reply begin.
    pub fn is_sealed(&self) -> bool {
        self.end() == self.segments.back().map_or(self.released, |last| last.end.max(self.released))
    }

    /// The LSN that must be durable before [`Outbox::sendable`] may leave.
    #[inline]
    pub fn released_gate(&self) -> Lsn {
        self.released_gate
    }

    /// The highest gate of all replies so far, sent and dropped ones included.
    pub fn latest_gate(&self) -> Lsn {
        self.latest_gate
    }

    /// True if the sendable replies are small and belong to the last round, whose other replies are still
    /// held. They can leave in one write with those, because their client sent all of these requests
    /// together.
    #[inline]
    pub fn may_wait_for_held(&self) -> bool {
        let is_of_last_round = self.written >= self.round_at && self.is_held();
        is_of_last_round && self.released - self.written <= WAITING_BYTES_MAX
    }

    /// The first sendable bytes, up to the end of their buffer.
    pub fn sendable(&self) -> &[u8] {
        if self.has_overflowed {
            return &[];
        }
        let front = self.pieces.front().map_or(&*self.tail, Piece::bytes);
        let end = (self.released - self.front_at).min(front.len());
        &front[self.written - self.front_at..end]
    }

    /// Removes bytes that were sent.
    ///
    /// # Panics
    /// If they are more than were released: a reply would have been visible before it was durable.
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
            let are_done = self.segments.iter().all(|segment| segment.end == self.written);
            assert!(are_done, "no segment ends behind the last byte");
            self.segments.clear();
            (self.front_at, self.tail_at, self.released) = (self.written, self.written, self.written);
            buffers::give(&mut self.tail);
        }
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
