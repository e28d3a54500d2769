//! The saved form of a graph: plain little-endian arrays, so that loading is reading and checking.
//!
//! ```text
//! header, 64 bytes
//!    0  "ENGRHNSW"
//!    8  u32 format version (1)      12  u32 metric (0 L2, 1 inner product, 2 cosine)
//!   16  u32 dimension               20  u32 M
//!   24  u32 ef_construction         28  u32 slots
//!   32  u64 seed                    40  u32 upper blocks
//!   44  u32 entry slot + 1, or 0    48  u32 level of the entry
//!   52  zeros                       60  u32 CRC-32C of bytes 0..60
//! sections, each filled up with zeros to a multiple of 64 bytes
//!   ids            u32 x slots
//!   states         u8  x slots              0 free, 2 live, 3 deleted but still a way through
//!   levels         u8  x slots
//!   base links     u32 x 2 M x slots        slot + 1; the first 0 ends a block
//!   upper links    u32 x M x upper blocks   by slot, then by layer from 1
//!   norms          f32 x slots              one over the length; cosine only, else empty
//!   vectors        f32 x dimension x slots
//! footer, 64 bytes
//!    0  u32 CRC-32C of each of the seven sections, without its filling
//!   28  zeros                       60  u32 CRC-32C of bytes 0..60
//! ```
//!
//! A file has no keys and no LSN: who saves a graph knows what its ids mean, and wraps it. Whatever does not fit
//! exactly is refused; the caller rebuilds. Nothing is allocated before the bytes that fill it were read.

use std::io::{self, Read, Write};

use super::graph::Entry;
use super::insert::LEVEL_MAX;
use super::{Hnsw, HnswParameters, M_MAX, M_MIN};
use crate::codes::CodeBuffer;
use crate::store::State;
use crate::{Metric, SearchRequest, VectorIndex};

const MAGIC: &[u8; 8] = b"ENGRHNSW";
const FORMAT_VERSION: u32 = 1;
const ALIGNMENT_BYTES: usize = 64;
const CHUNK_BYTES: usize = 64 << 10;
/// Far above any embedding; keeps a damaged header from asking for absurd rows.
const DIMENSION_MAX: usize = 1 << 20;
const SECTIONS: [&str; 7] = ["ids", "states", "levels", "base links", "upper links", "norms", "vectors"];

/// Why a saved graph was not taken. The caller rebuilds from the vectors.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the saved graph cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("this is not a saved graph")]
    Magic,
    #[error("the saved graph has format version {0}, which this build does not know")]
    Version(u32),
    #[error("the saved graph is damaged: checksum of {0}")]
    Checksum(&'static str),
    #[error("the saved graph is damaged: {0}")]
    Damaged(&'static str),
}

impl Hnsw {
    /// Writes the graph as it is at one moment, vectors included. Searches go on; mutations wait while the links are
    /// copied, and go on while everything is written.
    pub fn save(&self, out: &mut dyn Write) -> io::Result<()> {
        // No slot is freed while this is held, and whatever is live now keeps its vector while we are pinned.
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
        for links in [&copy.base, &copy.upper] {
            links.iter().try_for_each(|&link| writer.put(&link.to_le_bytes()))?;
            checksums.push(writer.end_section()?);
        }
        // The vector of a free slot may be written by an insert right now: it is saved as zeros.
        let is_free = |slot: u32| copy.states[slot as usize] == State::Free as u8;
        let slots = copy.ids.len() as u32;
        if self.parameters.metric == Metric::Cosine {
            for slot in 0..slots {
                let norm = if is_free(slot) { 0.0 } else { self.store.inverse_norm_of(slot) };
                writer.put(&norm.to_le_bytes())?;
            }
        }
        checksums.push(writer.end_section()?);
        let zeros = vec![0.0; self.parameters.dimension];
        for slot in 0..slots {
            let vector = if is_free(slot) { &zeros } else { self.store.vectors.row(slot) };
            vector.iter().try_for_each(|component| writer.put(&component.to_le_bytes()))?;
        }
        checksums.push(writer.end_section()?);
        writer.out.write_all(&footer(&checksums))
    }

    /// Reads what `save` wrote, up to its last byte and no further. The graph answers exactly as the saved one did.
    pub fn load(input: &mut dyn Read) -> Result<Hnsw, LoadError> {
        load(input, true)
    }

    fn copy_links(&self) -> LinksCopy {
        let _gate = self.gate.write();
        let slots = self.store.slot_count();
        let mut copy = LinksCopy { entry: self.graph.entry(), ..LinksCopy::default() };
        for slot in 0..slots {
            // Nobody inserts now, so a pending slot is one whose insert has failed half way.
            let state = match self.store.state(slot) {
                State::Pending => State::Deleted,
                state => state,
            };
            let level = if state == State::Free { 0 } else { self.graph.level(slot) };
            copy.ids.push(self.store.id_of(slot));
            copy.states.push(state as u8);
            copy.levels.push(level as u8);
            for layer in 0..=level {
                let links = if layer == 0 { &mut copy.base } else { &mut copy.upper };
                let end = links.len() + self.graph.capacity(layer);
                if state != State::Free {
                    self.graph.for_each_link(slot, layer, |link| links.push(link + 1));
                }
                links.resize(end, 0);
            }
        }
        copy
    }

    fn header(&self, copy: &LinksCopy) -> [u8; 64] {
        let parameters = self.parameters;
        let metric = match parameters.metric {
            Metric::L2 => 0,
            Metric::InnerProduct => 1,
            Metric::Cosine => 2,
        };
        let words = [
            FORMAT_VERSION,
            metric,
            parameters.dimension as u32,
            parameters.m as u32,
            parameters.ef_construction as u32,
            copy.ids.len() as u32,
            parameters.seed as u32,
            (parameters.seed >> 32) as u32,
            (copy.upper.len() / parameters.m) as u32,
            copy.entry.map_or(0, |entry| entry.slot + 1),
            copy.entry.map_or(0, |entry| entry.level as u32),
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

/// Everything about a graph but its vectors, at one moment.
#[derive(Default)]
struct LinksCopy {
    entry: Option<Entry>,
    ids: Vec<u32>,
    states: Vec<u8>,
    levels: Vec<u8>,
    base: Vec<u32>,
    upper: Vec<u32>,
}

/// Puts the checksum of a 64-byte block into its last word.
fn seal(block: &mut [u8; 64]) {
    let crc = crc32c::crc32c(&block[..60]);
    block[60..].copy_from_slice(&crc.to_le_bytes());
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

    /// Fills the section up and returns its checksum.
    fn end_section(&mut self) -> io::Result<u32> {
        self.flush()?;
        self.out.write_all(&[0; ALIGNMENT_BYTES][..filling(self.bytes)])?;
        self.bytes = 0;
        Ok(std::mem::take(&mut self.crc))
    }
}

fn filling(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT_BYTES) - bytes
}

/// Reads the sections in order and remembers their checksums.
struct Reader<'a> {
    input: &'a mut dyn Read,
    crc: u32,
    bytes: usize,
    checksums: Vec<u32>,
}

impl Reader<'_> {
    /// A 64-byte block whose last word is its checksum.
    fn block(&mut self, verify: bool, name: &'static str) -> Result<[u8; 64], LoadError> {
        let mut block = [0; 64];
        self.input.read_exact(&mut block)?;
        if verify && crc32c::crc32c(&block[..60]).to_le_bytes() != block[60..] {
            return Err(LoadError::Checksum(name));
        }
        Ok(block)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), LoadError> {
        self.input.read_exact(bytes)?;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.bytes += bytes.len();
        Ok(())
    }

    /// `count` bytes, allocated as they arrive.
    fn bytes(&mut self, count: usize) -> Result<Vec<u8>, LoadError> {
        let mut all = Vec::new();
        while all.len() < count {
            let start = all.len();
            all.resize(count.min(start + CHUNK_BYTES), 0);
            self.fill(&mut all[start..])?;
        }
        Ok(all)
    }

    fn words(&mut self, count: usize) -> Result<Vec<u32>, LoadError> {
        Ok(self.bytes(4 * count)?.as_chunks().0.iter().map(|&four| u32::from_le_bytes(four)).collect())
    }

    fn end_section(&mut self) -> Result<(), LoadError> {
        let mut filling = [0; ALIGNMENT_BYTES];
        let filling = &mut filling[..self::filling(self.bytes)];
        self.input.read_exact(filling)?;
        if filling.iter().any(|&byte| byte != 0) {
            return Err(LoadError::Damaged("filling between sections"));
        }
        self.checksums.push(std::mem::take(&mut self.crc));
        self.bytes = 0;
        Ok(())
    }
}

struct Header {
    parameters: HnswParameters,
    slots: u32,
    upper_blocks: usize,
    entry: Option<Entry>,
}

impl Header {
    fn parse(block: &[u8; 64]) -> Result<Header, LoadError> {
        let word = |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
        let metric = match word(12) {
            0 => Metric::L2,
            1 => Metric::InnerProduct,
            2 => Metric::Cosine,
            _ => return Err(LoadError::Damaged("unknown metric")),
        };
        let parameters = HnswParameters {
            dimension: word(16) as usize,
            metric,
            m: word(20) as usize,
            ef_construction: word(24) as usize,
            seed: u64::from(word(32)) | u64::from(word(36)) << 32,
            // Codes are made anew, so that whoever loads a graph decides.
            quantization: HnswParameters::new(word(16) as usize, metric).quantization,
        };
        let fits = (1..=DIMENSION_MAX).contains(&parameters.dimension)
            && (M_MIN..=M_MAX).contains(&parameters.m)
            && parameters == parameters.clamped()
            && word(28) < crate::pool::SLOT_LIMIT
            && word(48) as usize <= LEVEL_MAX;
        if !fits {
            return Err(LoadError::Damaged("parameters out of range"));
        }
        let entry = word(44).checked_sub(1).map(|slot| Entry { slot, level: word(48) as usize });
        Ok(Header { parameters, slots: word(28), upper_blocks: word(40) as usize, entry })
    }
}

fn load(input: &mut dyn Read, verify: bool) -> Result<Hnsw, LoadError> {
    let mut reader = Reader { input, crc: 0, bytes: 0, checksums: Vec::new() };
    let block = reader.block(false, "header")?;
    if block[..8] != *MAGIC {
        return Err(LoadError::Magic);
    }
    let version = u32::from_le_bytes([block[8], block[9], block[10], block[11]]);
    if version != FORMAT_VERSION {
        return Err(LoadError::Version(version));
    }
    let mut sealed = block;
    seal(&mut sealed);
    if verify && sealed != block {
        return Err(LoadError::Checksum("header"));
    }
    let header = Header::parse(&block)?;
    let mut index = Hnsw::new(header.parameters);
    let nodes = Nodes::read(&mut reader, &header)?;
    index.read_links(&mut reader, &nodes, header.slots)?;
    index.read_vectors(&mut reader, &nodes, header.slots)?;
    let footer = reader.block(verify, "footer")?;
    if verify && let Some(at) = footer_mismatch(&footer, &reader.checksums) {
        return Err(LoadError::Checksum(SECTIONS[at]));
    }
    index.restore_nodes(&nodes)?;
    index.graph.change_entry(|_| header.entry);
    Ok(index)
}

fn footer_mismatch(footer: &[u8; 64], checksums: &[u32]) -> Option<usize> {
    let saved = footer.as_chunks().0.iter().map(|&four| u32::from_le_bytes(four));
    checksums.iter().zip(saved).position(|(&computed, saved)| computed != saved)
}

/// What the first three sections say about each slot.
struct Nodes {
    ids: Vec<u32>,
    states: Vec<State>,
    levels: Vec<u8>,
}

impl Nodes {
    fn read(reader: &mut Reader<'_>, header: &Header) -> Result<Nodes, LoadError> {
        let slots = header.slots as usize;
        let ids = reader.words(slots)?;
        reader.end_section()?;
        let states: Option<Vec<State>> = reader.bytes(slots)?.into_iter().map(State::from_byte).collect();
        reader.end_section()?;
        let levels = reader.bytes(slots)?;
        reader.end_section()?;
        let states = states
            .filter(|states| !states.contains(&State::Pending))
            .ok_or(LoadError::Damaged("state of a slot"))?;
        let nodes = Nodes { ids, states, levels };
        nodes.check(header)?;
        Ok(nodes)
    }

    fn check(&self, header: &Header) -> Result<(), LoadError> {
        let fits = |(&state, &level): (&State, &u8)| match state {
            State::Free => level == 0,
            _ => usize::from(level) <= LEVEL_MAX,
        };
        if !self.states.iter().zip(&self.levels).all(fits) {
            return Err(LoadError::Damaged("level of a slot"));
        }
        if self.levels.iter().map(|&level| usize::from(level)).sum::<usize>() != header.upper_blocks {
            return Err(LoadError::Damaged("number of upper blocks"));
        }
        let entry_fits = match header.entry {
            None => !self.states.contains(&State::Live),
            Some(entry) => {
                entry.slot < header.slots
                    && self.is_linkable(entry.slot, entry.level)
                    && usize::from(self.levels[entry.slot as usize]) == entry.level
            }
        };
        if entry_fits { Ok(()) } else { Err(LoadError::Damaged("entry")) }
    }

    /// May a link of this layer point to the slot?
    fn is_linkable(&self, slot: u32, layer: usize) -> bool {
        let slot = slot as usize;
        self.states.get(slot).is_some_and(|&state| state != State::Free)
            && usize::from(self.levels[slot]) >= layer
    }

    /// The links of a block, checked: slots of that layer, then zeros.
    fn links<'a>(&self, block: &'a [u32], layer: usize) -> Result<impl Iterator<Item = u32> + 'a, LoadError> {
        let count = block.iter().position(|&link| link == 0).unwrap_or(block.len());
        let fits = block[..count].iter().all(|&link| self.is_linkable(link - 1, layer))
            && block[count..].iter().all(|&link| link == 0);
        if !fits {
            return Err(LoadError::Damaged("link"));
        }
        Ok(block[..count].iter().map(|&link| link - 1))
    }
}

impl Hnsw {
    fn read_links(&mut self, reader: &mut Reader<'_>, nodes: &Nodes, slots: u32) -> Result<(), LoadError> {
        for slot in 0..slots {
            let block = reader.words(self.graph.capacity(0))?;
            let links = nodes.links(&block, 0)?;
            if nodes.states[slot as usize] == State::Free && block[0] != 0 {
                return Err(LoadError::Damaged("links of a free slot"));
            }
            self.graph.place(slot, 0);
            self.graph.write(slot, 0, links);
        }
        reader.end_section()?;
        for slot in 0..slots {
            let level = usize::from(nodes.levels[slot as usize]);
            if level == 0 {
                continue;
            }
            let blocks = reader.words(level * self.graph.capacity(1))?;
            self.graph.place(slot, level);
            for (layer, block) in (1..).zip(blocks.chunks(self.graph.capacity(1))) {
                self.graph.write(slot, layer, nodes.links(block, layer)?);
            }
        }
        reader.end_section()
    }

    fn read_vectors(&mut self, reader: &mut Reader<'_>, nodes: &Nodes, slots: u32) -> Result<(), LoadError> {
        let cosine = self.parameters.metric == Metric::Cosine;
        let norms = reader.words(if cosine { slots as usize } else { 0 })?;
        reader.end_section()?;
        if norms.iter().any(|&bits| !f32::from_bits(bits).is_finite()) {
            return Err(LoadError::Damaged("norm"));
        }
        let mut bytes = vec![0; 4 * self.parameters.dimension];
        let mut vector = vec![0.0; self.parameters.dimension];
        let mut codes = CodeBuffer::default();
        for slot in 0..slots {
            reader.fill(&mut bytes)?;
            for (component, &four) in vector.iter_mut().zip(bytes.as_chunks().0) {
                *component = f32::from_le_bytes(four);
            }
            if self.store.check(&vector).is_err() {
                return Err(LoadError::Damaged("vector"));
            }
            let norm = norms.get(slot as usize).map_or(0.0, |&bits| f32::from_bits(bits));
            let id = nodes.ids[slot as usize];
            self.store.restore(slot, id, nodes.states[slot as usize], (&vector, norm), &mut codes);
        }
        reader.end_section()
    }

    /// Gives ids to the restored slots, now that all checksums are known to be right.
    fn restore_nodes(&mut self, nodes: &Nodes) -> Result<(), LoadError> {
        for (slot, &state) in (0..).zip(&nodes.states) {
            match state {
                State::Live if !self.store.restore_id(slot) => {
                    return Err(LoadError::Damaged("two vectors with one id"));
                }
                State::Deleted => self.bury(slot),
                _ => {}
            }
        }
        Ok(())
    }
}

/// An entry for fuzzing: whatever the bytes are, nothing panics and memory stays within a constant times their number.
/// Reads them with checksums, and without, for the checks behind those; uses the graph if one comes of it.
pub fn fuzz_load(bytes: &[u8]) {
    let _refused = load(&mut &*bytes, true).map(drop);
    let Ok(index) = load(&mut &*bytes, false) else { return };
    let vector = vec![0.5; index.parameters.dimension];
    for id in 0..3 {
        let _refused = index.insert(id, &vector);
        let _rows = index.search(&SearchRequest::new(&vector, 5, 10));
        index.remove(id);
    }
    index.compact();
}
