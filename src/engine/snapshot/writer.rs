//! Writes a snapshot file: sections one after the other, each entry as the effects that build it.
//!
//! The caller gives sections in any order. Nothing is durable, and nothing may be published, before
//! [`SnapshotWriter::finish`] returned.

use super::format::{
    BLOCK_HEADER_BYTES, Block, HEADER_BYTES, ModuleName, Section, SectionContent, SnapshotHeader, Trailer,
};
use crate::effect::Effect;
use crate::env::{Disk, DiskFile};
use crate::keyspace::Entry;
use crate::keyspace::digest::entry_digest;
use crate::log::RunningChecksum;
use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

/// A block ends after the effect that reaches this.
const BLOCK_BYTES: usize = 128 << 10;

pub struct SnapshotWriter {
    file: Arc<dyn DiskFile>,
    header: SnapshotHeader,
    offset: u64,
    sections: Vec<Section>,
    modules: Vec<ModuleName>,
    /// Modules of whose data types there are values.
    types_of: BTreeSet<u8>,
    /// The section that is open is the last of `sections`.
    open: bool,
    block: Vec<u8>,
    block_effects: u32,
    /// The longest block: its length is 32 bits.
    block_bytes_max: usize,
}

impl SnapshotWriter {
    /// Creates the file, replacing what is there.
    pub fn create(disk: &dyn Disk, path: &Path, header: &SnapshotHeader) -> io::Result<SnapshotWriter> {
        let file = disk.create(path)?;
        file.write_at(&header.encode(), 0)?;
        Ok(SnapshotWriter {
            file,
            header: *header,
            offset: HEADER_BYTES as u64,
            sections: Vec::new(),
            modules: Vec::new(),
            types_of: BTreeSet::new(),
            open: false,
            block: Vec::with_capacity(BLOCK_BYTES + BLOCK_BYTES / 8),
            block_effects: 0,
            block_bytes_max: u32::MAX as usize,
        })
    }

    #[cfg(test)]
    pub(super) fn with_blocks_of_at_most(self, block_bytes_max: usize) -> SnapshotWriter {
        SnapshotWriter { block_bytes_max, ..self }
    }

    /// Begins a section and ends the one before. A section that stays empty is not written.
    pub fn begin_section(&mut self, content: SectionContent) -> io::Result<()> {
        self.end_section()?;
        let checksum = RunningChecksum::default();
        let section =
            Section { content, offset: self.offset, bytes: 0, keys: 0, effects: 0, checksum, digest: 0 };
        self.sections.push(section);
        self.open = true;
        Ok(())
    }

    /// Writes an entry of the section's database.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        let section = self.section();
        let SectionContent::Keys { database, .. } = section.content else {
            panic!("entries go into sections of keys")
        };
        section.keys += 1;
        section.digest = section.digest.wrapping_add(entry_digest(entry));
        if let Some(data_type) = entry.value().data_type() {
            self.types_of.insert(data_type.module());
        }
        entry.save(&mut |effect| self.effect(database, effect))
    }

    /// Whether values of this module's data type were written: then the module is noted too.
    pub fn has_values_of(&self, module: u8) -> bool {
        self.types_of.contains(&module)
    }

    /// Notes a module whose effects are in the file.
    pub fn module(&mut self, number: u8, name: &str) {
        assert!(self.modules.iter().all(|module| module.number != number), "a module is noted once");
        self.modules.push(ModuleName { number, name: name.to_owned() });
    }

    /// Appends an effect to the open section.
    pub fn effect(&mut self, database: u32, effect: &Effect<'_>) -> io::Result<()> {
        assert!(self.open, "begin_section comes first");
        let start = self.block.len();
        effect.encode(database, &mut self.block);
        if self.block.len() > self.block_bytes_max {
            // It goes into a block of its own.
            let own = self.block.split_off(start);
            self.end_block()?;
            self.block = own;
        }
        self.block_effects += 1;
        if self.block.len() >= BLOCK_BYTES { self.end_block() } else { Ok(()) }
    }

    /// Writes footer and trailer, and makes the file's bytes durable; the caller gives it its name.
    /// Returns the trailer and the file's size.
    pub fn finish(mut self) -> io::Result<(Trailer, u64)> {
        self.end_section()?;
        assert!(self.block.is_empty() && self.block_effects == 0, "all effects are in the file");
        let bytes_of_sections: u64 = self.sections.iter().map(|section| section.bytes).sum();
        assert_eq!(
            self.offset,
            HEADER_BYTES as u64 + bytes_of_sections,
            "sections fill the file without gaps"
        );
        let mut footer = Vec::new();
        self.sections.iter().for_each(|section| section.encode(&mut footer));
        self.modules.iter().for_each(|module| module.encode(&mut footer));
        let mut trailer = total(&self.sections);
        trailer.footer_offset = self.offset;
        trailer.modules = self.modules.len() as u32;
        assert_eq!(self.header.contradiction_with(&trailer), None, "{trailer:?}");
        let bytes = trailer.encode(&self.header.encode(), &footer);
        self.file.write_vectored_at(&[IoSlice::new(&footer), IoSlice::new(&bytes)], self.offset)?;
        self.file.sync()?;
        Ok((trailer, self.offset + (footer.len() + bytes.len()) as u64))
    }

    fn section(&mut self) -> &mut Section {
        assert!(self.open, "begin_section comes first");
        self.sections.last_mut().expect("just begun")
    }

    fn end_section(&mut self) -> io::Result<()> {
        if !self.open {
            return Ok(());
        }
        self.end_block()?;
        self.open = false;
        if self.section_is_empty() {
            self.sections.pop();
        }
        Ok(())
    }

    fn section_is_empty(&self) -> bool {
        self.sections.last().is_some_and(|section| section.effects == 0)
    }

    fn end_block(&mut self) -> io::Result<()> {
        if self.block_effects == 0 {
            return Ok(());
        }
        assert!(self.block.len() <= self.block_bytes_max || self.block_effects == 1, "a block's length fits");
        let number = self.sections.len() as u32 - 1;
        let block = Block::of(number, self.block_effects, &self.block);
        let header = block.encode();
        self.file.write_vectored_at(&[IoSlice::new(&header), IoSlice::new(&self.block)], self.offset)?;
        let length = (BLOCK_HEADER_BYTES + self.block.len()) as u64;
        self.offset += length;
        let section = self.sections.last_mut().expect("effects go into sections");
        section.bytes += length;
        assert_eq!(section.offset + section.bytes, self.offset, "blocks follow each other");
        section.effects += u64::from(self.block_effects);
        section.checksum.add(&self.block);
        self.block.clear();
        // One huge value must not stay in memory for the rest of the run.
        self.block.shrink_to(4 * BLOCK_BYTES);
        self.block_effects = 0;
        Ok(())
    }
}

/// The trailer's totals over these sections.
pub(super) fn total(sections: &[Section]) -> Trailer {
    let mut checksum = RunningChecksum::default();
    sections.iter().for_each(|section| checksum.add(&section.checksum.0.to_le_bytes()));
    // Wrapping: a reader calls this with numbers that it does not trust yet.
    let sum = |of: fn(&Section) -> u64| sections.iter().map(of).fold(0, u64::wrapping_add);
    Trailer {
        sections: sections.len() as u32,
        keys: sum(|section| section.keys),
        effects: sum(|section| section.effects),
        checksum: checksum.0,
        ..Trailer::default()
    }
}
