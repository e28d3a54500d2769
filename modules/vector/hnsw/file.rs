//! The saved form of a graph: plain little-endian arrays, so that loading is reading and checking.
//!
//! ```text
//! header, 64 bytes
//!    0  "ENGRHNSW"
//!    8  u32 format version (3)      12  u8 metric (0 L2, 1 inner product, 2 cosine), u8 element and u8 quantization
//!   16  u32 dimension                   (by their order in the enums), u8 0
//!   20  u32 M                       24  u32 ef_construction
//!   28  u32 slots                   32  u64 seed
//!   40  u32 upper blocks            44  u32 entry slot + 1, or 0
//!   48  u32 level of the entry      52  u32 1 if there are codes, else 0; then zeros
//!   60  u32 CRC-32C of bytes 0..60
//! sections, each filled up with zeros to a multiple of 64 bytes
//!   ids            u32 x slots
//!   states         u8  x slots              0 free, 2 live, 3 deleted but still a way through
//!   levels         u8  x slots
//!   base links     u32 x 2 M x slots        slot + 1; the first 0 ends a block
//!   upper links    u32 x M x upper blocks   by slot, then by layer from 1
//!   norms          f32 x slots              one over the length; cosine only, else empty
//!   centre         f32 x dimension         what the codes are made around; empty without codes
//!   codes          rows of codes.rs x slots; empty without codes
//!   fingerprints   u64 x slots              of the vectors, see `fingerprint`
//! footer, 64 bytes
//!    0  u32 CRC-32C of each of the nine sections, without its filling
//!   36  zeros                       60  u32 CRC-32C of bytes 0..60
//! ```
//!
//! Vectors are not in the file: whoever saves a graph has them elsewhere, and gives them back one by one (`Loading`). Where a
//! vector is not what it was, or is gone, its node is removed.
//!
//! A file has no keys and no LSN: who saves a graph knows what its ids mean, and wraps it. Whatever does not fit
//! exactly is refused; the caller rebuilds. Nothing is allocated before the bytes that fill it were read.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::graph::{Entry, Graph};
use super::insert::LEVEL_MAX;
use super::{Hnsw, HnswParameters, M_MAX, M_MIN};
use crate::store::{State, Store};
use crate::vectors::{Placed, Vectors};
use crate::{Element, Metric, Quantization, SearchRequest, VectorIndex};

const MAGIC: &[u8; 8] = b"ENGRHNSW";
const FORMAT_VERSION: u32 = 3;
const ALIGNMENT_BYTES: usize = 64;
const CHUNK_BYTES: usize = 64 << 10;
/// Far above any embedding; keeps a damaged header from asking for absurd rows.
const DIMENSION_MAX: usize = 1 << 20;
const SECTIONS: [&str; 9] =
    ["ids", "states", "levels", "base links", "upper links", "norms", "centre", "codes", "fingerprints"];

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
    /// Writes the graph as it is at one moment, without its vectors. Searches go on; mutations wait while the links are
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
        // What belongs to a free slot may be written by an insert right now: it is saved as zeros.
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

    /// Reads what `save` wrote, by two threads. With its vectors, the graph answers exactly as the saved one did.
    pub fn load(input: &dyn Input) -> Result<Loading, LoadError> {
        load(input, true)
    }

    fn copy_links(&self) -> LinksCopy {
        let _gate = self.gate.write();
        let slots = self.store.slot_count();
        let has_codes = self.store.centre().is_some();
        let mut copy = LinksCopy { entry: self.graph.entry(), has_codes, ..LinksCopy::default() };
        for slot in 0..slots {
            // Nobody inserts now, so no slot is pending.
            let state = self.store.state(slot);
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
    has_codes: bool,
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

/// What a saved graph is read from, by several threads at once.
pub trait Input: Sync {
    /// Fills all of `bytes` from this offset on.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Input for &[u8] {
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..));
        rest.unwrap_or_default().read_exact(bytes)
    }
}

/// Reads sections in order and remembers their checksums.
struct Reader<'a> {
    input: &'a dyn Input,
    offset: u64,
    crc: u32,
    bytes: usize,
    checksums: Vec<u32>,
}

impl<'a> Reader<'a> {
    fn at(input: &'a dyn Input, offset: u64) -> Reader<'a> {
        Reader { input, offset, crc: 0, bytes: 0, checksums: Vec::new() }
    }

    /// A 64-byte block whose last word is its checksum.
    fn block(&mut self, verify: bool, name: &'static str) -> Result<[u8; 64], LoadError> {
        let mut block = [0; 64];
        self.read(&mut block)?;
        if verify && crc32c::crc32c(&block[..60]).to_le_bytes() != block[60..] {
            return Err(LoadError::Checksum(name));
        }
        Ok(block)
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.input.read_exact_at(bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), LoadError> {
        self.read(bytes)?;
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
        Ok(words_of(&self.bytes(4 * count)?).collect())
    }

    /// Calls `each` with one row of `row_bytes` after the other.
    fn rows(
        &mut self,
        count: usize,
        row_bytes: usize,
        mut each: impl FnMut(usize, &[u8]) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        if row_bytes == 0 {
            return (0..count).try_for_each(|row| each(row, &[]));
        }
        let rows_at_once = (CHUNK_BYTES / row_bytes).max(1);
        let mut chunk = vec![0; rows_at_once.min(count) * row_bytes];
        for first in (0..count).step_by(rows_at_once) {
            let chunk = &mut chunk[..rows_at_once.min(count - first) * row_bytes];
            self.fill(chunk)?;
            (first..).zip(chunk.chunks_exact(row_bytes)).try_for_each(|(row, bytes)| each(row, bytes))?;
        }
        Ok(())
    }

    fn end_section(&mut self) -> Result<(), LoadError> {
        let mut filling = [0; ALIGNMENT_BYTES];
        let filling = &mut filling[..self::filling(self.bytes)];
        self.read(filling)?;
        if filling.iter().any(|&byte| byte != 0) {
            return Err(LoadError::Damaged("filling between sections"));
        }
        self.checksums.push(std::mem::take(&mut self.crc));
        self.bytes = 0;
        Ok(())
    }
}

fn words_of(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.as_chunks().0.iter().map(|&four| u32::from_le_bytes(four))
}

struct Header {
    parameters: HnswParameters,
    slots: u32,
    upper_blocks: usize,
    entry: Option<Entry>,
    has_codes: bool,
}

impl Header {
    /// Of both sections of links.
    fn link_bytes(&self) -> u64 {
        let section = |blocks: usize, degree: usize| {
            (4 * blocks as u64 * degree as u64).next_multiple_of(ALIGNMENT_BYTES as u64)
        };
        section(self.slots as usize, 2 * self.parameters.m) + section(self.upper_blocks, self.parameters.m)
    }

    fn parse(block: &[u8; 64]) -> Result<Header, LoadError> {
        let word = |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
        let [metric, element, quantization, rest] = word(12).to_le_bytes().map(usize::from);
        let kind = (Metric::ALL.get(metric), Element::ALL.get(element), Quantization::ALL.get(quantization));
        let (Some(&metric), Some(&element), Some(&quantization), 0) = (kind.0, kind.1, kind.2, rest) else {
            return Err(LoadError::Damaged("unknown metric, element or quantization"));
        };
        let parameters = HnswParameters {
            element,
            dimension: word(16) as usize,
            metric,
            m: word(20) as usize,
            ef_construction: word(24) as usize,
            seed: u64::from(word(32)) | u64::from(word(36)) << 32,
            quantization,
        };
        let fits = (1..=DIMENSION_MAX).contains(&parameters.dimension)
            && (M_MIN..=M_MAX).contains(&parameters.m)
            && parameters == parameters.clamped()
            && word(28) < crate::pool::SLOT_LIMIT
            && word(48) as usize <= LEVEL_MAX
            && word(52) <= u32::from(parameters.quantization != Quantization::None);
        if !fits {
            return Err(LoadError::Damaged("parameters out of range"));
        }
        let entry = word(44).checked_sub(1).map(|slot| Entry { slot, level: word(48) as usize });
        let has_codes = word(52) == 1;
        Ok(Header { parameters, slots: word(28), upper_blocks: word(40) as usize, entry, has_codes })
    }
}

fn load(input: &dyn Input, verify: bool) -> Result<Loading, LoadError> {
    let mut reader = Reader::at(input, 0);
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
    let mut of_links = Reader::at(input, reader.offset);
    let mut of_rows = Reader::at(input, reader.offset + header.link_bytes());
    let Hnsw { graph, store, .. } = &mut index;
    let fingerprints = std::thread::scope(|scope| {
        let links = scope.spawn(|| read_links(graph, &mut of_links, &nodes, &header));
        let fingerprints = read_rows(store, &mut of_rows, &nodes, &header);
        links.join().expect("reading ends in a result")?;
        fingerprints
    })?;
    let footer = of_rows.block(verify, "footer")?;
    let checksums = [reader.checksums, of_links.checksums, of_rows.checksums].concat();
    if verify && let Some(at) = footer_mismatch(&footer, &checksums) {
        return Err(LoadError::Checksum(SECTIONS[at]));
    }
    // How large vectors are is believed only now: nothing of them is in the file.
    index.store.restore_room(header.slots);
    index.restore_nodes(&nodes)?;
    index.graph.change_entry(|_| header.entry);
    let progress = fingerprints.iter().map(|_| AtomicU8::new(EMPTY)).collect();
    Ok(Loading { index, fingerprints, progress })
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
    /// In how many layers a slot may be linked to: none if it is free. What each link is checked by, in one look.
    layers: Vec<u8>,
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
        let mut nodes = Nodes { ids, states, levels, layers: Vec::new() };
        let layers = |(&state, &level)| if state == State::Free { 0 } else { level + 1 };
        nodes.check_levels(header)?;
        nodes.layers = nodes.states.iter().zip(&nodes.levels).map(layers).collect();
        nodes.check_entry(header)?;
        Ok(nodes)
    }

    fn check_levels(&self, header: &Header) -> Result<(), LoadError> {
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
        Ok(())
    }

    fn check_entry(&self, header: &Header) -> Result<(), LoadError> {
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
    #[inline]
    fn is_linkable(&self, slot: u32, layer: usize) -> bool {
        self.layers.get(slot as usize).is_some_and(|&layers| usize::from(layers) > layer)
    }

    /// The links of a block, checked: slots of that layer, then zeros.
    fn links<'a>(&self, block: &'a [u8], layer: usize) -> Result<impl Iterator<Item = u32> + 'a, LoadError> {
        let count = words_of(block).position(|link| link == 0).unwrap_or(block.len() / 4);
        let fits = words_of(block).take(count).all(|link| self.is_linkable(link - 1, layer))
            && block[4 * count..].iter().all(|&byte| byte == 0);
        if !fits {
            return Err(LoadError::Damaged("link"));
        }
        Ok(words_of(block).take(count).map(|link| link - 1))
    }
}

fn read_links(
    graph: &Graph,
    reader: &mut Reader<'_>,
    nodes: &Nodes,
    header: &Header,
) -> Result<(), LoadError> {
    graph.reserve(header.slots);
    reader.rows(header.slots as usize, 4 * graph.capacity(0), |slot, block| {
        let links = nodes.links(block, 0)?;
        if nodes.states[slot] == State::Free && block[..4] != [0; 4] {
            return Err(LoadError::Damaged("links of a free slot"));
        }
        graph.place(slot as u32, 0);
        graph.write(slot as u32, 0, links);
        Ok(())
    })?;
    reader.end_section()?;
    let block_bytes = 4 * graph.capacity(1);
    let blocks = reader.bytes(header.upper_blocks * block_bytes)?;
    let mut blocks = blocks.chunks(block_bytes);
    for (slot, &level) in (0..).zip(&nodes.levels).filter(|(_, level)| **level != 0) {
        graph.place(slot, usize::from(level));
        for (layer, block) in (1..=usize::from(level)).zip(&mut blocks) {
            graph.write(slot, layer, nodes.links(block, layer)?);
        }
    }
    reader.end_section()
}

/// Norms and codes with their centre; returns the fingerprints.
fn read_rows(
    store: &mut Store,
    reader: &mut Reader<'_>,
    nodes: &Nodes,
    header: &Header,
) -> Result<Vec<u64>, LoadError> {
    let slots = header.slots;
    store.reserve(slots);
    let cosine = store.kind.metric == Metric::Cosine;
    let norms = reader.words(if cosine { slots as usize } else { 0 })?;
    reader.end_section()?;
    if norms.iter().any(|&bits| !f32::from_bits(bits).is_finite()) {
        return Err(LoadError::Damaged("norm"));
    }
    let centre = reader.words(if header.has_codes { header.parameters.dimension } else { 0 })?;
    reader.end_section()?;
    let centre: Vec<f32> = centre.into_iter().map(f32::from_bits).collect();
    if !centre.iter().all(|x| x.is_finite()) {
        return Err(LoadError::Damaged("centre"));
    }
    if header.has_codes {
        store.restore_centre(centre);
    }
    reader.rows(slots as usize, store.code_bytes(), |slot, codes| {
        let norm = norms.get(slot).map_or(1.0, |&bits| f32::from_bits(bits));
        store.restore(slot as u32, nodes.ids[slot], nodes.states[slot], (codes, norm));
        Ok(())
    })?;
    reader.end_section()?;
    let bytes = reader.bytes(8 * slots as usize)?;
    reader.end_section()?;
    Ok(bytes.as_chunks().0.iter().map(|&eight| u64::from_le_bytes(eight)).collect())
}

impl Hnsw {
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

/// A loaded graph that gets its vectors back.
pub struct Loading {
    index: Hnsw,
    /// By slot.
    fingerprints: Vec<u64>,
    /// By slot: `EMPTY`, ... `WANTED`.
    progress: Vec<AtomicU8>,
}

/// The vector has not come back.
const EMPTY: u8 = 0;
/// Somebody writes it.
const BEING_WRITTEN: u8 = 1;
/// It stands there, but nobody wants it any more.
const WRITTEN: u8 = 2;
/// It stands there, and its id has it.
const WANTED: u8 = 3;

impl Loading {
    pub fn parameters(&self) -> HnswParameters {
        self.index.parameters
    }

    /// How many ids the saved graph has.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn contains(&self, id: u32) -> bool {
        self.index.contains(id)
    }

    /// The memory that vectors come back to.
    pub fn vectors(&self) -> &Arc<Vectors> {
        self.index.vectors()
    }

    /// Gives an id its vector back, as often as one likes. `None` if the saved graph does not have the id, or had another
    /// vector there. Any number of threads may do this at once.
    pub fn restore(&self, id: u32, vector: &[u8]) -> Option<Placed> {
        let store = &self.index.store;
        let slot = store.slot_of(id)?;
        // What has the fingerprint of a vector that was checked needs no other check than that.
        if vector.len() != store.vector_bytes_each()
            || self.fingerprints[slot as usize] != fingerprint(vector)
        {
            return None;
        }
        let progress = &self.progress[slot as usize];
        match progress.compare_exchange(EMPTY, BEING_WRITTEN, Ordering::Acquire, Ordering::Acquire) {
            Ok(_) => {
                // SAFETY: only the one who has set the mark writes the slot, and nobody reads it before the next one.
                unsafe { store.restore_vector(slot, vector) };
            }
            Err(BEING_WRITTEN) => return None,
            Err(_) => {}
        }
        progress.store(WANTED, Ordering::Release);
        Some(store.vector_at(slot))
    }

    /// Reads what giving these ids their vectors will read, and decides nothing by it: so the cache misses of many ids overlap.
    pub fn prefetch(&self, ids: impl Iterator<Item = u32>) {
        let slots: Vec<u32> = ids.filter_map(|id| self.index.store.slot_of(id)).collect();
        let read = |&slot: &u32| {
            let (progress, fingerprint) = (&self.progress[slot as usize], self.fingerprints[slot as usize]);
            self.index.store.vectors().prefetch_holders(slot);
            fingerprint ^ u64::from(progress.load(Ordering::Relaxed))
        };
        std::hint::black_box(slots.iter().map(read).fold(0, |all, one| all ^ one));
    }

    /// The id is to have no vector, unless it gets it back once more.
    pub fn forget(&self, id: u32) {
        let Some(slot) = self.index.store.slot_of(id) else { return };
        // The order of calls for one id is the caller's affair.
        _ = self.progress[slot as usize].compare_exchange(
            WANTED,
            WRITTEN,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
    }

    /// The graph, without the ids whose vectors did not come back.
    pub fn finish(self) -> Hnsw {
        let Loading { index, progress, .. } = self;
        for (slot, progress) in (0..).zip(progress) {
            if progress.into_inner() != WANTED && index.store.state(slot) == State::Live {
                index.remove(index.store.id_of(slot));
            }
        }
        if index.store.centre().is_none() {
            // Walks would go by vectors that are not there.
            index.compact();
        }
        index
    }
}

/// Tells vectors apart: 64 bits, of four sums over every fourth word, each multiplied on (the constants are those of
/// SplitMix64). Two that differ have the same with a chance of about 2^-64; a vector that passes for another
/// is found less well, and its distances are right all the same. Part of the format.
fn fingerprint(vector: &[u8]) -> u64 {
    const FACTOR: u64 = 0xBF58_476D_1CE4_E5B9;
    let mix = |sum: u64, word: u64| ((sum ^ word).wrapping_mul(FACTOR)).rotate_left(29);
    let mut sums = [1, 2, 3, vector.len() as u64];
    let (blocks, rest) = vector.as_chunks::<32>();
    for block in blocks {
        for (sum, &word) in sums.iter_mut().zip(block.as_chunks().0) {
            *sum = mix(*sum, u64::from_le_bytes(word));
        }
    }
    let sum = rest.iter().fold(0, |sum, &byte| mix(sum, u64::from(byte)));
    let all = sums.iter().fold(sum, |all, &sum| mix(all, sum));
    (all ^ all >> 31).wrapping_mul(0x94D0_49BB_1331_11EB)
}

/// An entry for fuzzing: whatever the bytes are, nothing panics and memory stays within a constant times their number.
/// Reads them with checksums, and without, for the checks behind those; uses the graph if one comes of it.
pub fn fuzz_load(bytes: &[u8]) {
    let _refused = load(&bytes, true).map(drop);
    let Ok(loading) = load(&bytes, false) else { return };
    let vector = vec![0; loading.index.store.vector_bytes_each()];
    (0..3).for_each(|id| _ = loading.restore(id, &vector));
    let index = loading.finish();
    for id in 0..3 {
        let _refused = index.insert(id, &vector);
        let _rows = index.search(&SearchRequest::new(&vector, 5, 10));
        index.remove(id);
    }
    index.compact();
}
