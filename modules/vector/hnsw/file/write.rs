//! Saves a graph.

use std::io::{self, Write};

use super::{
    ALIGNMENT_BYTES, CHUNK_BYTES, FORMAT_VERSION, HEADLESS, MAGIC, RESOLUTIONS, SECTIONS, UNEQUAL, filling,
    fingerprint, seal,
};
use crate::Metric;
use crate::hnsw::Hnsw;
use crate::hnsw::graph::Entry;
use crate::store::{Resolution, State};

impl Hnsw {
    /// Writes the graph as of one moment, without its vectors. Searches go on. Mutations wait while the links
    /// are copied, and go on while the file is written.
    pub fn save(&self, out: &mut dyn Write) -> io::Result<()> {
        // While this is held no slot is freed, and while this thread is pinned every slot that is live now
        // keeps its vector.
        let _sweep = self.repair.hold();
        let _pinned = self.store.pin();
        let copy = self.copy_links();
        let mut writer = Writer { out, chunk: Vec::with_capacity(CHUNK_BYTES), crc: 0, bytes: 0 };
        writer.out.write_all(&self.header(&copy))?;
        let mut checksums = Vec::with_capacity(SECTIONS.len());
        copy.ids.iter().try_for_each(|&id| writer.put(&id.to_le_bytes()))?;
        checksums.push(writer.end_section()?);
        writer.put(&copy.states)?;
        checksums.push(writer.end_section()?);
        writer.put(&copy.levels)?;
        checksums.push(writer.end_section()?);
        for words in [&copy.members, &copy.base, &copy.upper] {
            words.iter().try_for_each(|&word| writer.put(&word.to_le_bytes()))?;
            checksums.push(writer.end_section()?);
        }
        // An insert may be writing to a free slot right now: free slots are saved as zeros.
        let is_free = |slot: u32| copy.states[slot as usize] == State::Free as u8;
        let slots = 0..copy.ids.len() as u32;
        if self.parameters.metric == Metric::Cosine {
            for slot in slots.clone() {
                let norm = if is_free(slot) { 0.0 } else { self.store.inverse_norm_of(slot) };
                writer.put(&norm.to_le_bytes())?;
            }
        }
        checksums.push(writer.end_section()?);
        let centre = if copy.has_codes { self.store.centre() } else { None };
        for component in centre.iter().flat_map(|centre| centre.components()) {
            writer.put(&component.to_le_bytes())?;
        }
        checksums.push(writer.end_section()?);
        let zeros = vec![0; if copy.has_codes { self.store.code_bytes() } else { 0 }];
        for slot in slots.clone() {
            let is_zero = is_free(slot) || !copy.has_codes;
            writer.put(if is_zero { &zeros } else { self.store.codes_in(slot) })?;
        }
        checksums.push(writer.end_section()?);
        for slot in slots {
            let print = if is_free(slot) { 0 } else { fingerprint(self.store.vector_in(slot)) };
            writer.put(&print.to_le_bytes())?;
        }
        checksums.push(writer.end_section()?);
        writer.out.write_all(&footer(&checksums))
    }

    fn copy_links(&self) -> LinksCopy {
        let _gate = self.gate.write();
        let slots = self.store.slot_count();
        let has_codes = self.store.centre().is_some();
        let mut copy = LinksCopy { entry: self.graph.entry(), has_codes, ..LinksCopy::default() };
        for slot in 0..slots {
            // No insert is running, so no slot is pending.
            let state = self.store.state(slot);
            let level = if state == State::Free { 0 } else { self.graph.level(slot) };
            copy.ids.push(self.store.id_of(slot));
            copy.states.push(state as u8 | self.saved_hints(slot, state));
            copy.levels.push(level as u8);
            for layer in 0..=level {
                let links = if layer == 0 { &mut copy.base } else { &mut copy.upper };
                let end = links.len() + self.graph.capacity(layer);
                if state != State::Free {
                    self.graph.for_each_word(slot, layer, |link| links.push(link));
                }
                links.resize(end, 0);
            }
        }
        for (member, place) in self.store.copies().pairs() {
            copy.members.extend([member, place.slot | if place.is_equal { 0 } else { UNEQUAL }]);
        }
        copy
    }

    fn saved_hints(&self, slot: u32, state: State) -> u8 {
        let is_node = matches!(state, State::Live | State::Deleted);
        let is_headless = state == State::Live && self.store.is_headless(slot);
        let resolution = if is_node { self.store.resolution_at(slot) } else { Resolution::Links };
        let saved = RESOLUTIONS.iter().find(|(of, _)| *of == resolution).map_or(0, |(_, bits)| *bits);
        saved | if is_headless { HEADLESS } else { 0 }
    }

    fn header(&self, copy: &LinksCopy) -> [u8; 64] {
        let parameters = self.parameters;
        let kind = [parameters.metric as u8, parameters.element as u8, parameters.quantization as u8, 0];
        let words = [
            FORMAT_VERSION,
            u32::from_le_bytes(kind),
            parameters.dimension as u32,
            parameters.m as u32,
            parameters.ef_construction as u32,
            copy.ids.len() as u32,
            parameters.seed as u32,
            (parameters.seed >> 32) as u32,
            (copy.upper.len() / parameters.m) as u32,
            copy.entry.map_or(0, |entry| entry.slot + 1),
            copy.entry.map_or(0, |entry| entry.level as u32),
            u32::from(copy.has_codes),
            copy.members.len() as u32 / 2,
        ];
        let mut header = [0; 64];
        header[..8].copy_from_slice(MAGIC);
        for (bytes, word) in header[8..].as_chunks_mut().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        seal(&mut header);
        header
    }
}

/// Everything about a graph except its vectors, as of one moment.
#[derive(Default)]
struct LinksCopy {
    entry: Option<Entry>,
    has_codes: bool,
    ids: Vec<u32>,
    states: Vec<u8>,
    levels: Vec<u8>,
    /// Pairs of a member and its place, see the format.
    members: Vec<u32>,
    base: Vec<u32>,
    upper: Vec<u32>,
}

fn footer(checksums: &[u32]) -> [u8; 64] {
    let mut footer = [0; 64];
    for (bytes, checksum) in footer.as_chunks_mut().0.iter_mut().zip(checksums) {
        *bytes = checksum.to_le_bytes();
    }
    seal(&mut footer);
    footer
}

struct Writer<'a> {
    out: &'a mut dyn Write,
    chunk: Vec<u8>,
    crc: u32,
    bytes: usize,
}

impl Writer<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.crc = crc32c::crc32c_append(self.crc, &self.chunk);
        self.bytes += self.chunk.len();
        self.out.write_all(&self.chunk)?;
        self.chunk.clear();
        Ok(())
    }

    /// Pads the section and returns its checksum.
    fn end_section(&mut self) -> io::Result<u32> {
        self.flush()?;
        self.out.write_all(&[0; ALIGNMENT_BYTES][..filling(self.bytes)])?;
        self.bytes = 0;
        Ok(std::mem::take(&mut self.crc))
    }
}
