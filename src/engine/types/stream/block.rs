//! A block: entries in a row, in one allocation.
//!
//! ```text
//! count   number   the names of the first entry,
//! names   words    which others share
//! entries, each:
//!   length  number   bytes after it, times two, plus one if its names are those of the first entry
//!   ms      number   minus that of the block's first ID
//!   seq     number   minus that of the block's first ID if `ms` is 0
//!   count   number   only with names of its own: how many pairs
//!   words            values; with names of its own, names and values in turn
//! ```
//!
//! The block's first ID stays what it was when the first entry is removed.

use super::words::{self, StreamWord, Words};
use super::{StreamId, StreamPairs};

#[derive(Debug)]
pub(super) struct Block {
    pub(super) first: StreamId,
    bytes: Vec<u8>,
    /// Where the first entry begins.
    start: u32,
    pub(super) live: u32,
    /// Entries that were removed from the middle. Redis keeps these, so that they count for what fits.
    removed: u32,
    /// The bytes of Redis's node, but for its two counters.
    listpack_bytes: u32,
}

/// An entry of a stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamEntry<'a> {
    pub id: StreamId,
    /// How many names and values it has.
    pub pairs: usize,
    /// The shared names, or none if the words have them.
    names: Option<Words<'a>>,
    words: Words<'a>,
}

impl<'a> StreamEntry<'a> {
    pub fn pairs(&self) -> impl Iterator<Item = (StreamWord<'a>, StreamWord<'a>)> + use<'a> {
        let StreamEntry { pairs, mut names, mut words, .. } = *self;
        (0..pairs).map(move |_| {
            let name = names.as_mut().unwrap_or(&mut words).word();
            (name, words.word())
        })
    }
}

/// The beginning of an entry.
struct Header {
    ms: u64,
    seq: u64,
    shares_names: bool,
    /// Where its words begin, and where it ends.
    words: usize,
    end: usize,
}

/// How large Redis's empty node is, with its end, but without its two counters.
const LISTPACK_BYTES: usize = 7;

impl Block {
    /// A block for an entry with this ID and these names, which is pushed next.
    pub(super) fn new(first: StreamId, pairs: &StreamPairs<'_>) -> Block {
        let mut bytes = Vec::new();
        words::put_number(&mut bytes, pairs.len() as u64);
        let mut listpack_bytes = LISTPACK_BYTES + words::listpack_integer_bytes(pairs.len() as i64) + 2;
        for (name, _) in pairs.iter() {
            words::put_word(&mut bytes, name);
            listpack_bytes += words::listpack_bytes(name);
        }
        let (start, listpack_bytes) = (bytes.len() as u32, listpack_bytes as u32);
        Block { first, bytes, start, live: 0, removed: 0, listpack_bytes }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives back room for entries that will not come.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Whether Redis would begin another node for an entry whose words have this many bytes in total. A limit
    /// of 0 is none.
    pub(super) fn is_full(&self, added_bytes: usize, bytes_max: u64, entries_max: u64) -> bool {
        const NODE_BYTES_MAX: u64 = 1 << 30;
        let bytes_max = if bytes_max == 0 { NODE_BYTES_MAX } else { bytes_max.min(NODE_BYTES_MAX) };
        let counters = words::listpack_integer_bytes(i64::from(self.live))
            + words::listpack_integer_bytes(i64::from(self.removed));
        (self.listpack_bytes as usize + counters + added_bytes) as u64 >= bytes_max
            || entries_max != 0 && u64::from(self.live + self.removed) >= entries_max
    }

    /// Whether the counters of bytes can count these words too.
    pub(super) fn has_room(&self, pairs: &StreamPairs<'_>) -> bool {
        const BYTES_MAX: usize = 1 << 31;
        self.bytes.len() + pairs.bytes() + 32 * pairs.len() < BYTES_MAX
    }

    pub(super) fn push(&mut self, id: StreamId, pairs: &StreamPairs<'_>) {
        let shares_names = self.shares_names(pairs);
        let ms = id.ms - self.first.ms;
        let place = self.bytes.len();
        self.bytes.push(0);
        words::put_number(&mut self.bytes, ms);
        words::put_number(&mut self.bytes, if ms == 0 { id.seq - self.first.seq } else { id.seq });
        let elements = if shares_names { pairs.len() + 3 } else { 2 * pairs.len() + 4 };
        let mut listpack_bytes = 2
            + words::listpack_integer_bytes(ms as i64)
            + words::listpack_integer_bytes(id.seq.wrapping_sub(self.first.seq) as i64)
            + words::listpack_integer_bytes(elements as i64);
        if !shares_names {
            words::put_number(&mut self.bytes, pairs.len() as u64);
            listpack_bytes += words::listpack_integer_bytes(pairs.len() as i64);
        }
        for (name, value) in pairs.iter() {
            if !shares_names {
                words::put_word(&mut self.bytes, name);
                listpack_bytes += words::listpack_bytes(name);
            }
            words::put_word(&mut self.bytes, value);
            listpack_bytes += words::listpack_bytes(value);
        }
        self.put_length(place, shares_names);
        self.listpack_bytes = self.listpack_bytes.saturating_add(listpack_bytes as u32);
        self.live += 1;
    }

    /// Writes the length of the last entry, for which one byte was left.
    fn put_length(&mut self, place: usize, shares_names: bool) {
        let length = (self.bytes.len() - place - 1) as u64;
        let number = length << 1 | u64::from(shares_names);
        let count = words::number_bytes(number);
        if count > 1 {
            self.bytes.splice(place..place, std::iter::repeat_n(0, count - 1));
        }
        words::set_number(&mut self.bytes[place..place + count], number);
    }

    fn shares_names(&self, pairs: &StreamPairs<'_>) -> bool {
        let mut names = Words(&self.bytes);
        names.number() == pairs.len() as u64
            && pairs.iter().all(|(name, _)| names.word().with_bytes(|shared| shared == name))
    }

    #[inline]
    fn header(&self, place: usize) -> Header {
        let mut reader = Words(&self.bytes[place..]);
        let length = reader.number();
        let end = self.bytes.len() - reader.0.len() + (length >> 1) as usize;
        let (ms, seq) = (reader.number(), reader.number());
        let words = self.bytes.len() - reader.0.len();
        Header { ms, seq, shares_names: length & 1 != 0, words, end }
    }

    #[inline]
    fn id(&self, header: &Header) -> StreamId {
        match header.ms {
            0 => StreamId { ms: self.first.ms, seq: self.first.seq + header.seq },
            ms => StreamId { ms: self.first.ms + ms, seq: header.seq },
        }
    }

    fn entry(&self, header: &Header) -> StreamEntry<'_> {
        let mut words = Words(&self.bytes[header.words..header.end]);
        let mut names = Words(&self.bytes[..self.start as usize]);
        let shared = names.number() as usize;
        let (pairs, names) = match header.shares_names {
            true => (shared, Some(names)),
            false => (words.number() as usize, None),
        };
        StreamEntry { id: self.id(header), pairs, names, words }
    }

    /// The entries from this ID on, in order.
    pub(super) fn from(&self, from: StreamId) -> Entries<'_> {
        let mut place = self.start as usize;
        while place < self.bytes.len() {
            let header = self.header(place);
            if self.id(&header) >= from {
                break;
            }
            place = header.end;
        }
        Entries { block: self, place }
    }

    /// The entries up to this ID, the last one first.
    pub(super) fn backwards(&self, to: StreamId) -> EntriesBackwards<'_> {
        let mut places = Vec::with_capacity(self.live as usize);
        let mut place = self.start as usize;
        while place < self.bytes.len() {
            let header = self.header(place);
            if self.id(&header) > to {
                break;
            }
            places.push(place);
            place = header.end;
        }
        EntriesBackwards { block: self, places }
    }

    pub(super) fn last_id(&self) -> Option<StreamId> {
        let mut last = None;
        let mut place = self.start as usize;
        while place < self.bytes.len() {
            let header = self.header(place);
            place = header.end;
            last = Some(header);
        }
        last.map(|header| self.id(&header))
    }

    /// Removes an entry; false if it is not there.
    pub(super) fn remove(&mut self, id: StreamId) -> bool {
        let Entries { place, .. } = self.from(id);
        if place == self.bytes.len() {
            return false;
        }
        let header = self.header(place);
        if self.id(&header) != id {
            return false;
        }
        self.bytes.drain(place..header.end);
        self.live -= 1;
        self.removed += 1;
        true
    }

    /// Removes all entries up to this ID; returns how many.
    pub(super) fn remove_up_to(&mut self, last: StreamId) -> usize {
        let (start, mut place, mut count) = (self.start as usize, self.start as usize, 0);
        while place < self.bytes.len() {
            let header = self.header(place);
            if self.id(&header) > last {
                break;
            }
            place = header.end;
            count += 1;
        }
        self.bytes.drain(start..place);
        self.live -= count;
        self.removed += count;
        count as usize
    }
}

pub(super) struct Entries<'a> {
    block: &'a Block,
    place: usize,
}

impl<'a> Iterator for Entries<'a> {
    type Item = StreamEntry<'a>;

    fn next(&mut self) -> Option<StreamEntry<'a>> {
        if self.place == self.block.bytes.len() {
            return None;
        }
        let header = self.block.header(self.place);
        self.place = header.end;
        Some(self.block.entry(&header))
    }
}

pub(super) struct EntriesBackwards<'a> {
    block: &'a Block,
    places: Vec<usize>,
}

impl<'a> Iterator for EntriesBackwards<'a> {
    type Item = StreamEntry<'a>;

    fn next(&mut self) -> Option<StreamEntry<'a>> {
        let header = self.block.header(self.places.pop()?);
        Some(self.block.entry(&header))
    }
}
