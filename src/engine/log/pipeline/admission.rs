//! Admission: room in the log is reserved before a batch is made.
//!
//! # Turns
//!
//! Any caller is admitted whose batch fits. A batch that takes much of the buffer fits only when little else
//! is reserved, and a batch larger than the buffer only when almost nothing is. While others write without a
//! pause, that moment may never come. So a caller with a large batch that the buffer has no room for takes a
//! turn. Until the first turn ends, no other large batch is admitted, and of small ones no more than a share
//! of the buffer; what is reserved drains meanwhile. Each admission of a large batch gives the small ones a
//! new share. While turns wait, they can use it whatever is reserved: so neither kind is overtaken for ever.
//!
//! A turn orders only the wait for the buffer, which ends as fast as the disk writes. A caller that waits
//! until the log has prepared segments has no turn: that takes longer, and others can be admitted beside it.
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
    /// Checks the account when the last user and the last credit are gone: all reserved room was given back,
    /// or belongs to batches that were not written.
    fn drop(&mut self) {
        let state = self.state.get_mut();
        if state.failed.is_some() || state.request.is_some() || std::thread::panicking() {
            return;
        }
        let unwritten: u64 = state.ready.iter().chain(&state.forming).map(|entry| entry.reserved_bytes).sum();
        assert_eq!(state.reserved_bytes, unwritten, "room is given back whole");
    }
}

/// A batch is large if it takes more than this part of the buffer. The same part is the share of small
/// batches beside a large one.
const SHARE_PART: u64 = 4;

/// The turns that are taken, in order.
#[derive(Default)]
pub(super) struct Turns {
    last: u64,
    waiting: VecDeque<u64>,
    /// What small batches have used of their share since the last admission of a large one.
    shared_bytes: u64,
}

impl Turns {
    /// Whether another caller's large batch is to be admitted before that of the owner of this turn.
    fn is_of_another(&self, own: Option<u64>) -> bool {
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

/// Why a batch has to wait.
#[derive(PartialEq)]
enum Lack {
    /// The buffer is full, or it is another caller's turn.
    Buffer,
    /// The log is preparing segments.
    Segments,
}

/// A caller's place among those that wait for much of the buffer. The caller keeps it between two attempts
/// for one request, and must give it up, or drop it, when it does not try again: no other large batch is
/// admitted meanwhile.
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
        self.reserve(None, batches, bytes, purpose)?.map_err(|_| Refusal::Busy)
    }

    /// Reserves room, or says what is lacking. An error means that waiting does not help.
    fn reserve(
        &self,
        turn: Option<u64>,
        batches: usize,
        bytes: usize,
        purpose: Purpose,
    ) -> Result<Result<Credit, Lack>, Refusal> {
        let shared = &self.shared;
        if batches == 0 {
            // A transaction that only reads.
            return Ok(Ok(Credit::none()));
        }
        let wanted = self.room_for(batches, bytes);
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
        if !self.has_place_in_buffer(&state, turn, wanted) {
            return Ok(Err(Lack::Buffer));
        }
        let reserved = state.reserved_bytes + wanted;
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
            let Some(cause) = room.full else { return Ok(Err(Lack::Segments)) };
            if purpose == Purpose::Any {
                let least = state.refused.as_ref().map_or(wanted, |(_, least)| wanted.min(*least));
                state.refused = Some((cause.clone(), least));
            }
            return Err(Refusal::Full { cause });
        }
        if self.is_large(wanted) {
            state.turns.shared_bytes = 0;
        } else if !state.turns.waiting.is_empty() {
            state.turns.shared_bytes += wanted;
        }
        state.reserved_bytes = reserved;
        Ok(Ok(Credit { shared: Some(self.shared.clone()), room: wanted }))
    }

    /// Whether the buffer has a place for `wanted` bytes now. Small batches use their share while turns wait.
    fn has_place_in_buffer(&self, state: &State, turn: Option<u64>, wanted: u64) -> bool {
        let fits = state.reserved_bytes + wanted <= self.shared.buffer_bytes_max;
        if self.is_large(wanted) {
            let is_almost_empty = state.reserved_bytes <= self.share_bytes();
            (fits || is_almost_empty) && !state.turns.is_of_another(turn)
        } else if state.turns.waiting.is_empty() {
            fits
        } else {
            state.turns.shared_bytes + wanted <= self.share_bytes()
        }
    }

    fn room_for(&self, batches: usize, bytes: usize) -> u64 {
        let room = self.shared.limits.room_for_batch(bytes);
        match batches {
            1 => room,
            // For any distribution of the bytes, padding costs each batch less than two blocks.
            _ => room + self.shared.limits.room_for_batch(0) * 2 * batches as u64,
        }
    }

    /// Like [`Pipeline::admit_run`], for a caller that tries again after [`Refusal::Busy`]. After another
    /// refusal the caller keeps its turn, because it may ask again for another purpose.
    pub fn admit_in_turn(
        &self,
        turn: &mut AdmissionTurn,
        batches: usize,
        bytes: usize,
        purpose: Purpose,
    ) -> Result<Credit, Refusal> {
        match self.reserve(turn.number(), batches, bytes, purpose)? {
            Ok(credit) => {
                turn.give_up();
                Ok(credit)
            }
            Err(lack) => {
                if lack == Lack::Segments {
                    turn.give_up();
                } else if turn.0.is_none() && self.is_large(self.room_for(batches, bytes)) {
                    let number = self.shared.state.lock().turns.take();
                    turn.0 = Some((self.shared.clone(), number));
                }
                Err(Refusal::Busy)
            }
        }
    }

    /// How many callers with large batches wait for room.
    pub fn turns(&self) -> usize {
        self.shared.state.lock().turns.waiting.len()
    }

    fn is_large(&self, wanted: u64) -> bool {
        wanted > self.share_bytes()
    }

    fn share_bytes(&self) -> u64 {
        self.shared.buffer_bytes_max / SHARE_PART
    }
}
