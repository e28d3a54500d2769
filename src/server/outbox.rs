//! A connection's replies on their way out, in order, each held until its gate is durable.
//!
//! ```text
//! bytes     |written....|released....|held.....................|
//! segments               gate 0       gate 17       gate 21
//! ```
//!
//! Invariants: bytes leave in the order in which they were written; none leaves before its segment's gate, nor before
//! the gates of all segments in front of it. Replies that become held in the same round share a segment with the
//! highest of their gates: a pipeline's replies leave in one write.

use crate::pool;
use engramdb_engine::log::Lsn;
use std::collections::VecDeque;

#[derive(Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    written: usize,
    /// Where each gate's bytes end; gates rise.
    segments: VecDeque<Segment>,
    /// Bytes up to here have been released.
    released: usize,
}

struct Segment {
    gate: Lsn,
    end: usize,
}

/// Written bytes are cut off the front once there are so many of them.
const COMPACT_BYTES: usize = 256 * 1024;

impl Outbox {
    /// Where replies are appended. [`Outbox::seal`] must follow, before any flush.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = pool::take();
        }
        &mut self.bytes
    }

    pub fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives the bytes appended since the last seal their gate. `durable` is what is durable already.
    pub fn seal(&mut self, gate: Lsn, durable: Lsn) {
        let end = self.bytes.len();
        match self.segments.back_mut() {
            Some(last) => {
                last.gate = last.gate.max(gate);
                last.end = end;
            }
            None if gate <= durable => self.released = end,
            None => self.segments.push_back(Segment { gate, end }),
        }
    }

    /// Begins a new segment for what is appended from now on, so that it does not delay what is held already.
    pub fn begin_round(&mut self) {
        if let Some(last) = self.segments.back()
            && last.end > self.released
        {
            let gate = last.gate;
            self.segments.push_back(Segment { gate, end: self.bytes.len() });
        }
    }

    /// Releases what is durable. Returns the gate of the first bytes that are still held.
    pub fn release(&mut self, durable: Lsn) -> Option<Lsn> {
        while let Some(first) = self.segments.front() {
            if first.gate > durable {
                return Some(first.gate);
            }
            self.released = first.end;
            self.segments.pop_front();
        }
        None
    }

    /// What may be sent now.
    pub fn sendable(&self) -> &[u8] {
        &self.bytes[self.written..self.released]
    }

    pub fn sent(&mut self, bytes: usize) {
        self.written += bytes;
        debug_assert!(self.written <= self.released, "held bytes were sent");
        if self.written == self.bytes.len() {
            debug_assert!(self.segments.iter().all(|segment| segment.end == self.written));
            self.segments.clear();
            self.written = 0;
            self.released = 0;
            pool::give(&mut self.bytes);
        } else if self.written >= COMPACT_BYTES && self.written >= self.bytes.len() / 2 {
            self.bytes.drain(..self.written);
            self.released -= self.written;
            self.segments.iter_mut().for_each(|segment| segment.end -= self.written);
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(outbox: &mut Outbox, text: &str, gate: u64, durable: u64) {
        outbox.bytes().extend_from_slice(text.as_bytes());
        outbox.seal(Lsn(gate), Lsn(durable));
    }

    fn sendable(outbox: &Outbox) -> &str {
        std::str::from_utf8(outbox.sendable()).expect("test replies are text")
    }

    #[test]
    fn a_reply_waits_for_its_gate_and_for_those_in_front() {
        let mut outbox = Outbox::default();
        reply(&mut outbox, "a", 0, 5);
        reply(&mut outbox, "b", 7, 5);
        reply(&mut outbox, "c", 0, 5);
        assert_eq!(sendable(&outbox), "a");
        assert_eq!(outbox.release(Lsn(6)), Some(Lsn(7)));
        assert_eq!(sendable(&outbox), "a");
        outbox.sent(1);
        assert_eq!(outbox.release(Lsn(7)), None);
        assert_eq!(sendable(&outbox), "bc");
        outbox.sent(2);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_later_round_does_not_delay_an_earlier_one() {
        let mut outbox = Outbox::default();
        reply(&mut outbox, "a", 3, 0);
        reply(&mut outbox, "b", 4, 0);
        outbox.begin_round();
        reply(&mut outbox, "c", 9, 0);
        assert_eq!(outbox.release(Lsn(3)), Some(Lsn(4)), "one round is one segment");
        assert_eq!(outbox.release(Lsn(4)), Some(Lsn(9)));
        assert_eq!(sendable(&outbox), "ab");
        outbox.sent(1);
        assert_eq!(outbox.release(Lsn(9)), None);
        assert_eq!(sendable(&outbox), "bc");
    }

    #[test]
    fn large_output_is_cut_off_the_front() {
        let mut outbox = Outbox::default();
        reply(&mut outbox, &"x".repeat(2 * COMPACT_BYTES), 0, 0);
        reply(&mut outbox, "held", 1, 0);
        outbox.sent(COMPACT_BYTES + 100);
        assert_eq!(outbox.bytes.len(), COMPACT_BYTES - 100 + 4);
        outbox.sent(COMPACT_BYTES - 100);
        assert_eq!(sendable(&outbox), "");
        assert_eq!(outbox.release(Lsn(1)), None);
        assert_eq!(sendable(&outbox), "held");
    }
}
