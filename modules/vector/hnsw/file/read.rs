//! Reads and checks a saved graph.

use std::io::{self, Read};

use super::loading::Loading;
use super::{
    ALIGNMENT_BYTES, CHUNK_BYTES, DIMENSION_MAX, FORMAT_VERSION, HEADLESS, LoadError, MAGIC, RESOLUTION_BITS,
    RESOLUTIONS, SECTIONS, UNEQUAL, filling, seal,
};
use crate::copies::Place;
use crate::hnsw::graph::{Entry, Graph, is_kept, slot_of};
use crate::hnsw::insert::LEVEL_MAX;
use crate::hnsw::{Hnsw, HnswParameters, M_MAX, M_MIN};
use crate::store::{Resolution, State, Store};
use crate::{Element, Metric, Quantization};

/// Source of a saved graph, read by several threads at once.
pub trait Input: Sync {
    /// Fills all of `bytes` from this offset on. An error if the source ends before.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Input for &[u8] {
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..));
        rest.unwrap_or_default().read_exact(bytes)
    }
}

/// Reads sections in order and collects their checksums.
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

    /// Reads a 64-byte block whose last word is its checksum.
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

    /// Reads `count` bytes, allocating memory as they arrive.
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

    /// Calls `each` with one row of `row_bytes` after another.
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
    members: usize,
}

impl Header {
    /// The size of both sections of links.
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
            && word(28) < crate::candidates::SLOT_LIMIT
            && word(48) as usize <= LEVEL_MAX
            && word(52) <= u32::from(parameters.quantization != Quantization::None)
            && word(56) < word(28).max(1);
        if !fits {
            return Err(LoadError::Damaged("parameters out of range"));
        }
        let entry = word(44).checked_sub(1).map(|slot| Entry { slot, level: word(48) as usize });
        let has_codes = word(52) == 1;
        let (slots, upper_blocks, members) = (word(28), word(40) as usize, word(56) as usize);
        Ok(Header { parameters, slots, upper_blocks, entry, has_codes, members })
    }
}

pub(super) fn load(input: &dyn Input, verify: bool) -> Result<Loading, LoadError> {
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
    // The size of vectors is used only now, after all checks: the file contains nothing else that depends on
    // it.
    index.store.restore_room(header.slots);
    index.restore_nodes(&nodes)?;
    index.graph.change_entry(|_| header.entry);
    Ok(Loading::new(index, fingerprints))
}

fn footer_mismatch(footer: &[u8; 64], checksums: &[u32]) -> Option<usize> {
    let saved = footer.as_chunks().0.iter().map(|&four| u32::from_le_bytes(four));
    checksums.iter().zip(saved).position(|(&computed, saved)| computed != saved)
}

/// The contents of the first sections, by slot.
pub(super) struct Nodes {
    ids: Vec<u32>,
    pub states: Vec<State>,
    /// The other bits of the bytes of states.
    hints: Vec<u8>,
    levels: Vec<u8>,
    /// Members with their places, and whether their vectors are equal byte for byte.
    pub members: Vec<(u32, Place)>,
    /// The number of layers in which a slot may be linked to; 0 if it is free. Each link is checked by one
    /// lookup here.
    layers: Vec<u8>,
}

impl Nodes {
    fn read(reader: &mut Reader<'_>, header: &Header) -> Result<Nodes, LoadError> {
        let slots = header.slots as usize;
        let ids = reader.words(slots)?;
        reader.end_section()?;
        let hints = reader.bytes(slots)?;
        reader.end_section()?;
        let levels = reader.bytes(slots)?;
        reader.end_section()?;
        let members = reader.words(2 * header.members)?;
        reader.end_section()?;
        let state = |&byte: &u8| State::from_byte(byte & !(RESOLUTION_BITS | HEADLESS));
        let states: Option<Vec<State>> = hints.iter().map(state).collect();
        let states = states
            .filter(|states| !states.contains(&State::Pending))
            .ok_or(LoadError::Damaged("state of a slot"))?;
        let member = |pair: &[u32; 2]| {
            let place = Place { slot: pair[1] & !UNEQUAL, is_equal: pair[1] & UNEQUAL == 0 };
            (pair[0], place)
        };
        let members = members.as_chunks().0.iter().map(member).collect();
        let mut nodes = Nodes { ids, states, hints, levels, members, layers: Vec::new() };
        let layers = |(&state, &level)| if state == State::Free { 0 } else { level + 1 };
        if nodes.states.iter().zip(&nodes.hints).any(|(&state, &hints)| state == State::Free && hints != 0) {
            return Err(LoadError::Damaged("state of a slot"));
        }
        nodes.check_levels(header)?;
        nodes.layers = nodes.states.iter().zip(&nodes.levels).map(layers).collect();
        nodes.check_members()?;
        nodes.check_entry(header)?;
        Ok(nodes)
    }

    pub fn is_headless(&self, slot: u32) -> bool {
        self.hints[slot as usize] & HEADLESS != 0
    }

    fn resolution(&self, slot: u32) -> Option<Resolution> {
        let saved = self.hints[slot as usize] & RESOLUTION_BITS;
        RESOLUTIONS.iter().find(|(_, bits)| *bits == saved).map(|(resolution, _)| *resolution)
    }

    /// Checks that members are live and in order, that places are live and not members, and that a slot
    /// without an id is a place. No link may lead to a member.
    fn check_members(&mut self) -> Result<(), LoadError> {
        let is_live = |slot: u32| self.states.get(slot as usize) == Some(&State::Live);
        let fits = |&(member, place): &(u32, Place)| {
            is_live(member)
                && is_live(place.slot)
                && !self.is_headless(member)
                && self.levels[member as usize] == 0
                && self.members.binary_search_by_key(&place.slot, |&(member, _)| member).is_err()
        };
        let in_order = self.members.is_sorted_by(|a, b| a.0 < b.0);
        if !in_order || !self.members.iter().all(fits) {
            return Err(LoadError::Damaged("members"));
        }
        let mut places: Vec<u32> = self.members.iter().map(|(_, place)| place.slot).collect();
        places.sort_unstable();
        let is_place = |slot: u32| places.binary_search(&slot).is_ok();
        let slots = 0..self.states.len() as u32;
        if slots.into_iter().any(|slot| self.is_headless(slot) && !is_place(slot)) {
            return Err(LoadError::Damaged("a place without members"));
        }
        for &(member, _) in &self.members {
            self.layers[member as usize] = 0;
        }
        Ok(())
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

    /// Whether a link of this layer may point to the slot.
    #[inline]
    fn is_linkable(&self, slot: u32, layer: usize) -> bool {
        self.layers.get(slot as usize).is_some_and(|&layers| usize::from(layers) > layer)
    }

    /// The links of a block as they are stored, checked: slots of that layer, then zeros.
    fn links<'a>(&self, block: &'a [u8], layer: usize) -> Result<impl Iterator<Item = u32> + 'a, LoadError> {
        let count = words_of(block).position(|link| link == 0).unwrap_or(block.len() / 4);
        let fits = |link| {
            let is_whole = layer == 0 || !is_kept(link);
            is_whole && link << 1 != 0 && self.is_linkable(slot_of(link), layer)
        };
        let fits = words_of(block).take(count).all(fits) && block[4 * count..].iter().all(|&byte| byte == 0);
        if !fits {
            return Err(LoadError::Damaged("link"));
        }
        Ok(words_of(block).take(count))
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
        if nodes.layers[slot] == 0 && block[..4] != [0; 4] {
            return Err(LoadError::Damaged("links of a slot without a node"));
        }
        graph.place(slot as u32, 0);
        graph.write_words(slot as u32, 0, links);
        Ok(())
    })?;
    reader.end_section()?;
    let block_bytes = 4 * graph.capacity(1);
    let blocks = reader.bytes(header.upper_blocks * block_bytes)?;
    let mut blocks = blocks.chunks(block_bytes);
    for (slot, &level) in (0..).zip(&nodes.levels).filter(|(_, level)| **level != 0) {
        graph.place(slot, usize::from(level));
        for (layer, block) in (1..=usize::from(level)).zip(&mut blocks) {
            graph.write_words(slot, layer, nodes.links(block, layer)?);
        }
    }
    reader.end_section()
}

/// Reads norms, and codes with their centre; returns the fingerprints.
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
        let resolution = nodes.resolution(slot as u32).ok_or(LoadError::Damaged("state of a slot"))?;
        store.set_resolution(slot as u32, resolution);
        Ok(())
    })?;
    reader.end_section()?;
    let bytes = reader.bytes(8 * slots as usize)?;
    reader.end_section()?;
    Ok(bytes.as_chunks().0.iter().map(|&eight| u64::from_le_bytes(eight)).collect())
}
