//! Admission: room in the log is reserved before a batch is made.
//!
//! # Turns
//!
//! Any caller is admitted whose batch fits. A batch that takes much of the buffer fits only when little else
//! is reserved, and a batch larger than the buffer only when nothing is. While others write without a pause,
//! that moment may never come. So a caller that was refused with [`Refusal::Busy`] and has a large batch
//! takes a turn. Until the first turn ends, only its owner is admitted; what is reserved drains meanwhile.
//!
//! Small batches take no turn: when the buffer is full they are admitted as they come, because an order among
//! callers that try again a millisecond later would leave the log idle.

use super::{Fatal, LogLimits, Pipeline, Purpose, Refusal, Room, Shared, State, WriterRequest};
use crate::log::entry::HEADER_BYTES;
use std::collections::VecDeque;
use std::sync::Arc;

/// Reserved room in the log. Dropping it returns the room that no batch has used.
pub struct Credit {
    /// `None` if there is no room to return.
    shared: Option<Arc<Shared>>,
    pub(super) room: u64,
}

impl Credit {
    /// An empty credit, for a run that only reads.
    pub fn none() -> Credit {
        Credit { shared: None, room: 0 }
    }

    /// Takes over the room of another credit.
    pub fn absorb(&mut self, mut other: Credit) {
        self.room += std::mem::take(&mut other.room);
        if self.shared.is_none() {
            self.shared = other.shared.take();
        }
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.as_ref().filter(|_| self.room > 0) {
            let mut state = shared.state.lock();
            assert!(state.reserved_bytes >= self.room, "room is given back once");
            state.reserved_bytes -= self.room;
        }
    }
}

impl State {
    /// Replaces the request. A Time entry has reserved its room; it is written by now, or never will be.
    pub(super) fn set_request(&mut self, limits: &LogLimits, request: Option<WriterRequest>) {
        if let Some(WriterRequest::Time { .. }) = self.request {
            let block = limits.padded(HEADER_BYTES);
            assert!(self.reserved_bytes >= block, "room is given back once");
            self.reserved_bytes -= block;
        }
        self.request = request;
    }
}

impl Drop for Shared {
    /// When no credit is left and nobody uses the pipeline any more: all room was given back or is that of
    /// batches that were not written.
    fn drop(&mut self) {
        let state = self.state.get_mut();
        if state.failed.is_some() || state.request.is_some() || std::thread::panicking() {
            return;
        }
        let unwritten: u64 = state.ready.iter().chain(&state.forming).map(|entry| entry.reserved_bytes).sum();
        assert_eq!(state.reserved_bytes, unwritten, "room is given back whole");
    }
}

/// A batch is large if it takes more than this part of the buffer.
const LARGE_PART: u64 = 4;

/// The turns that are taken, in order.
#[derive(Default)]
pub(super) struct Turns {
    last: u64,
    waiting: VecDeque<u64>,
}

impl Turns {
    /// Whether another caller is to be admitted before the owner of this turn.
    #[inline]
    pub(super) fn is_of_another(&self, own: Option<u64>) -> bool {
        self.waiting.front().is_some_and(|first| own != Some(*first))
    }

    fn take(&mut self) -> u64 {
        self.last += 1;
        self.waiting.push_back(self.last);
        self.last
    }

    fn end(&mut self, number: u64) {
        self.waiting.retain(|waiting| *waiting != number);
    }
}

/// A caller's place among those that wait for much room. The caller keeps it between two attempts, and must
/// give it up, or drop it, when it does not try again: nothing else is admitted meanwhile.
#[derive(Default)]
pub struct AdmissionTurn(Option<(Arc<Shared>, u64)>);

impl AdmissionTurn {
    fn number(&self) -> Option<u64> {
        self.0.as_ref().map(|(_, number)| *number)
    }

    /// Ends the turn, if there is one.
    #[inline]
    pub fn give_up(&mut self) {
        if let Some((shared, number)) = self.0.take() {
            shared.state.lock().turns.end(number);
        }
    }
}

impl Drop for AdmissionTurn {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Pipeline {
    /// Reserves room for one batch of at most `bytes` bytes. Called before the keyspace lock is taken; never
    /// blocks on the disk.
    pub fn admit(&self, bytes: usize) -> Result<Credit, Refusal> {
        self.admit_run(1, bytes, Purpose::Any)
    }

    /// Reserves room for at most `batches` batches of at most `bytes` bytes together.
    pub fn admit_run(&self, batches: usize, bytes: usize, purpose: Purpose) -> Result<Credit, Refusal> {
        self.reserve(None, batches, bytes, purpose)
    }

    fn reserve(
        &self,
        turn: Option<u64>,
        batches: usize,
        bytes: usize,
        purpose: Purpose,
    ) -> Result<Credit, Refusal> {
        let shared = &self.shared;
        if batches == 0 {
            // A transaction that only reads.
            return Ok(Credit::none());
        }
        let mut wanted = shared.limits.room_for_batch(bytes);
        if batches > 1 {
            // For any distribution of the bytes, padding costs each batch less than two blocks.
            wanted += shared.limits.room_for_batch(0) * 2 * batches as u64;
        }
        let mut state = shared.state.lock();
        if let Some(fatal) = &state.failed {
            return Err(Refusal::Failed(fatal.clone()));
        }
        if state.closed {
            return Err(Refusal::Failed(Fatal::closed()));
        }
        if let Some(cause) = state.unclaimed.clone() {
            return Err(Refusal::ReadOnly { cause });
        }
        let reserved = state.reserved_bytes + wanted;
        if state.turns.is_of_another(turn) {
            return Err(Refusal::Busy);
        }
        if reserved > shared.buffer_bytes_max && state.reserved_bytes > 0 {
            return Err(Refusal::Busy);
        }
        let sealing = state.request == Some(WriterRequest::Seal);
        let fits = |room: &Room| {
            assert!(room.bytes_after_seal <= room.bytes, "a seal gives no room: {room:?}");
            reserved <= room.for_purpose(purpose, sealing)
        };
        let mut room = shared.log.room();
        if !fits(&room) {
            shared.log.want_room(reserved);
            room = shared.log.room();
        }
        if !fits(&room) {
            let Some(cause) = room.full else { return Err(Refusal::Busy) };
            if purpose == Purpose::Any {
                let least = state.refused.as_ref().map_or(wanted, |(_, least)| wanted.min(*least));
                state.refused = Some((cause.clone(), least));
            }
            return Err(Refusal::Full { cause });
        }
        state.reserved_bytes = reserved;
        Ok(Credit { shared: Some(self.shared.clone()), room: wanted })
    }

    /// Like [`Pipeline::admit_run`], for a caller that tries again after [`Refusal::Busy`]. With any other
    /// result the turn ends.
    pub fn admit_in_turn(
        &self,
        turn: &mut AdmissionTurn,
        batches: usize,
        bytes: usize,
        purpose: Purpose,
    ) -> Result<Credit, Refusal> {
        let admitted = self.reserve(turn.number(), batches, bytes, purpose);
        let is_busy = matches!(admitted, Err(Refusal::Busy));
        if !is_busy {
            turn.give_up();
        } else if turn.0.is_none() && self.is_large(bytes) {
            let number = self.shared.state.lock().turns.take();
            turn.0 = Some((self.shared.clone(), number));
        }
        admitted
    }

    /// How many callers with large batches wait for room.
    pub fn turns(&self) -> usize {
        self.shared.state.lock().turns.waiting.len()
    }

    fn is_large(&self, bytes: usize) -> bool {
        self.shared.limits.room_for_batch(bytes) > self.shared.buffer_bytes_max / LARGE_PART
    }
}
