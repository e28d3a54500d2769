//! Consumer groups: how far a group has read, its consumers, and the entries that were delivered and not
//! acknowledged.
//!
//! A pending entry is in the group's list, which has its owner, and in the list of its consumer; both are in
//! the order of IDs. The entry itself may have been deleted from the stream meanwhile.

use super::StreamId;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};

/// A delivered entry that was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingEntry {
    /// The consumer's number in the group.
    consumer: u32,
    /// Milliseconds since the epoch, of the last delivery.
    pub delivered_ms: u64,
    /// How many times it was delivered.
    pub deliveries: u64,
}

#[derive(Debug, Default)]
pub struct StreamConsumer {
    pub name: Box<[u8]>,
    /// Milliseconds since the epoch, of its last attempt to read or claim. Like the access time of a key, it
    /// is noted by reads that change nothing else.
    seen_ms: AtomicU64,
    /// The same of the last one that gave it an entry; 0 for never.
    pub active_ms: u64,
    pending: BTreeSet<StreamId>,
}

impl StreamConsumer {
    pub fn seen_ms(&self) -> u64 {
        self.seen_ms.load(Ordering::Relaxed)
    }

    pub fn note_seen(&self, now_ms: u64) {
        self.seen_ms.store(now_ms, Ordering::Relaxed);
    }

    /// The IDs of its pending entries.
    pub fn pending(&self) -> &BTreeSet<StreamId> {
        &self.pending
    }
}

#[derive(Debug, Default)]
pub struct StreamGroup {
    /// The last entry that was delivered.
    pub last_id: StreamId,
    /// How many entries were added up to that one, since the stream began; `None` if unknown.
    pub entries_read: Option<u64>,
    pending: BTreeMap<StreamId, PendingEntry>,
    numbers: BTreeMap<Box<[u8]>, u32>,
    consumers: Vec<Option<Box<StreamConsumer>>>,
    free: Vec<u32>,
    /// Where the last step of a walk over the pending entries ended: the rank of the next one, and its ID.
    walk: Mutex<Option<(usize, StreamId)>>,
}

/// Estimates of the heap that an element of each kind takes, nodes of trees that are part full included.
const PENDING_BYTES: usize = 96;
const CONSUMER_BYTES: usize = 128;

impl StreamGroup {
    pub fn consumer(&self, name: &[u8]) -> Option<&StreamConsumer> {
        self.numbers.get(name).map(|number| self.numbered(*number))
    }

    /// In the order of their names.
    pub fn consumers(&self) -> impl ExactSizeIterator<Item = &StreamConsumer> {
        self.numbers.values().map(|number| self.numbered(*number))
    }

    fn numbered(&self, number: u32) -> &StreamConsumer {
        self.consumers[number as usize].as_ref().expect("a name has a consumer")
    }

    pub fn owner(&self, pending: &PendingEntry) -> &StreamConsumer {
        self.numbered(pending.consumer)
    }

    pub fn pending(&self) -> &BTreeMap<StreamId, PendingEntry> {
        &self.pending
    }

    /// The pending entries of a range of IDs; those of one consumer, or of all.
    pub fn pending_of<'g>(
        &'g self,
        consumer: Option<&'g StreamConsumer>,
        range: RangeInclusive<StreamId>,
    ) -> Box<dyn Iterator<Item = (StreamId, PendingEntry)> + 'g> {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        match consumer {
            None => Box::new(self.pending.range(range).map(|(id, pending)| (*id, *pending))),
            Some(consumer) => Box::new(consumer.pending.range(range).map(|id| (*id, self.pending[id]))),
        }
    }

    /// Up to `count` pending entries from this rank on. A walk that goes on where its last step ended costs
    /// no search for the rank.
    pub fn pending_step(&self, rank: usize, count: usize) -> Vec<(StreamId, PendingEntry)> {
        let noted = (*self.walk.lock()).filter(|(noted, _)| *noted == rank);
        let from = noted.map(|(_, id)| id).or_else(|| self.pending.keys().nth(rank).copied());
        let Some(from) = from else { return Vec::new() };
        let mut rest = self.pending.range(from..);
        let step: Vec<_> = rest.by_ref().take(count).map(|(id, pending)| (*id, *pending)).collect();
        *self.walk.lock() = rest.next().map(|(id, _)| (rank + step.len(), *id));
        step
    }

    pub(super) fn parts(&self) -> usize {
        1 + self.pending.len() + self.numbers.len()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<StreamGroup>() + self.pending.len() * PENDING_BYTES + self.consumers.len() * CONSUMER_BYTES
    }

    /// Sets the times of a consumer, which is created if it is absent; true if it was.
    pub fn set_consumer(&mut self, name: &[u8], seen_ms: u64, active_ms: u64) -> bool {
        let (number, is_new) = self.number_of(name);
        let consumer = self.consumers[number as usize].as_mut().expect("just looked up");
        consumer.note_seen(seen_ms);
        consumer.active_ms = active_ms;
        is_new
    }

    /// The number of a consumer, which is created if it is absent.
    fn number_of(&mut self, name: &[u8]) -> (u32, bool) {
        if let Some(number) = self.numbers.get(name) {
            return (*number, false);
        }
        let number = self.free.pop().unwrap_or(self.consumers.len() as u32);
        let consumer = Some(Box::new(StreamConsumer { name: name.into(), ..StreamConsumer::default() }));
        match self.consumers.get_mut(number as usize) {
            Some(place) => *place = consumer,
            None => self.consumers.push(consumer),
        }
        self.numbers.insert(name.into(), number);
        (number, true)
    }

    /// Removes a consumer with its pending entries; how many these were, or `None` if it was absent.
    pub fn remove_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let number = self.numbers.remove(name)?;
        let consumer = self.consumers[number as usize].take().expect("a name has a consumer");
        *self.walk.get_mut() = None;
        for id in &consumer.pending {
            self.pending.remove(id);
        }
        self.free.push(number);
        Some(consumer.pending.len())
    }

    /// Makes an entry pending for a consumer, or changes the pending one. False if there is no such consumer.
    pub fn set_pending(&mut self, consumer: &[u8], id: StreamId, delivered_ms: u64, deliveries: u64) -> bool {
        let Some(&number) = self.numbers.get(consumer) else { return false };
        let pending = PendingEntry { consumer: number, delivered_ms, deliveries };
        *self.walk.get_mut() = None;
        if let Some(before) = self.pending.insert(id, pending)
            && before.consumer != number
        {
            self.of_number(before.consumer).pending.remove(&id);
        }
        self.of_number(number).pending.insert(id);
        true
    }

    /// False if the entry is not pending.
    pub fn acknowledge(&mut self, id: StreamId) -> bool {
        let Some(pending) = self.pending.remove(&id) else { return false };
        *self.walk.get_mut() = None;
        self.of_number(pending.consumer).pending.remove(&id)
    }

    fn of_number(&mut self, number: u32) -> &mut StreamConsumer {
        self.consumers[number as usize].as_mut().expect("a pending entry has an owner")
    }
}
