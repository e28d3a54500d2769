//! Reads snapshot files. What a section holds is applied block by block: memory is one block for each thread
//! that reads, beside what is loaded.
//!
//! A start reads sections by several threads, each into a keyspace of its own that the whole then absorbs:
//! sections have no keys in common. Modules follow each key while it is still in the cache (`Follower`), so
//! that what they make of it need not be done by another walk over all keys. Hashes they see before they are
//! made: a content that a module keeps goes there from the block, and is never copied into the hash.
//!
//! Nothing here is believed before it was checked: lengths are compared with the file's size before anything
//! is allocated, blocks with their CRC before they are decoded, and only the effects that a snapshot is made
//! of are applied.

use super::SnapshotError;
use super::format::{
    BLOCK_HEADER_BYTES, Block, DATABASES_MAX, FormatError, HEADER_BYTES, ModuleName, SECTION_BYTES, Section,
    SectionContent, SnapshotHeader, TRAILER_BYTES, Trailer, trailer_crc,
};
use super::writer::total;
use crate::effect::{Effect, Record, decode_batch};
use crate::env::{Access, Disk, DiskFile, Env};
use crate::error::ReplayError;
use crate::keyspace::digest::entry_digest;
use crate::keyspace::{DataTypes, Housing, Keyspace};
use crate::log::RunningChecksum;
use crate::module::{Follower, HousedContent, Module, ReadHash};
use crate::shard::recovering::Recovering;
use crate::slot::key_slot;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An open snapshot whose header, footer and trailer are sound. The sections are checked as they are read.
pub struct SnapshotFile {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    header: SnapshotHeader,
    sections: Vec<Section>,
    modules: Vec<ModuleName>,
    trailer: Trailer,
    bytes: u64,
    check: bool,
}

impl SnapshotFile {
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<SnapshotFile, SnapshotError> {
        let file = disk.open(path, Access::Read);
        let file = file.map_err(|error| SnapshotError::Io { file: path.to_owned(), error })?;
        SnapshotFile::over(file, path, true)
    }

    /// `check` is false only for fuzzing, where hardly any input would get past a checksum.
    fn over(file: Arc<dyn DiskFile>, path: &Path, check: bool) -> Result<SnapshotFile, SnapshotError> {
        let at = Place { path };
        let bytes = file.size().map_err(|error| at.io(error))?;
        if bytes < (HEADER_BYTES + TRAILER_BYTES) as u64 {
            return Err(at.damaged(bytes, "the file is cut off"));
        }
        let header_bytes = at.read::<HEADER_BYTES>(&*file, 0)?;
        let header = SnapshotHeader::decode(&header_bytes, check).map_err(|error| at.format(0, error))?;
        let trailer_offset = bytes - TRAILER_BYTES as u64;
        let trailer_bytes = at.read::<TRAILER_BYTES>(&*file, trailer_offset)?;
        let trailer = Trailer::decode(&trailer_bytes).map_err(|error| at.format(trailer_offset, error))?;
        if !(HEADER_BYTES as u64..=trailer_offset).contains(&trailer.footer_offset) {
            return Err(at.damaged(trailer_offset, "the footer's place is impossible"));
        }
        let mut footer = vec![0; (trailer_offset - trailer.footer_offset) as usize];
        let filled = file.read_full_at(&mut footer, trailer.footer_offset).map_err(|error| at.io(error))?;
        let crc = trailer_crc(&header_bytes, &footer, &trailer_bytes);
        if filled < footer.len() || check && crc != trailer.crc {
            return Err(at.damaged(trailer.footer_offset, "the footer's checksum does not match"));
        }
        let (sections, modules) =
            decode_footer(&footer, &trailer).map_err(|detail| at.damaged(trailer.footer_offset, detail))?;
        if let Some(fact) = header.contradiction_with(&trailer) {
            return Err(at.damaged(trailer_offset, fact));
        }
        Ok(SnapshotFile { path: path.to_owned(), file, header, sections, modules, trailer, bytes, check })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    pub fn trailer(&self) -> &Trailer {
        &self.trailer
    }

    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    pub fn modules(&self) -> &[ModuleName] {
        &self.modules
    }

    /// The file's size.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Loads all of it, by `threads` threads.
    pub fn load(&self, recovering: &mut Recovering, threads: usize) -> Result<(), SnapshotError> {
        self.load_modules(recovering)?;
        let (followers, types) = (recovering.modules().followers(), recovering.keyspace().types().clone());
        let of_keys = |section: &Section| matches!(section.content, SectionContent::Keys { .. });
        let sections: Vec<usize> =
            (0..self.sections.len()).filter(|&index| of_keys(&self.sections[index])).collect();
        let mut keys = BTreeMap::<u32, usize>::new();
        for section in &self.sections {
            if let SectionContent::Keys { database, .. } = section.content {
                *keys.entry(database).or_default() += section.keys_at_most();
            }
        }
        keys.into_iter().for_each(|(database, keys)| recovering.reserve(database, keys));
        let (next, whole) = (AtomicUsize::new(0), Mutex::new((recovering, None::<(usize, SnapshotError)>)));
        let run = || {
            let mut block = Vec::new();
            while let Some(&index) = sections.get(next.fetch_add(1, Ordering::Relaxed)) {
                let part = self.load_apart(index, &mut block, &followers, &types);
                // One huge value must not stay in memory for the rest of the load.
                block.clear();
                block.shrink_to(BLOCK_KEPT_BYTES);
                let mut whole = whole.lock();
                let (recovering, failed) = &mut *whole;
                if let Err(error) = part.and_then(|part| self.absorb(recovering, index, part))
                    // Sections before this one have been begun, and end. So it is always the same one that
                    // counts.
                    && failed.as_ref().is_none_or(|(first, _)| index < *first)
                {
                    *failed = Some((index, error));
                }
                if failed.is_some() {
                    return;
                }
            }
        };
        std::thread::scope(|scope| {
            (1..threads.min(sections.len())).for_each(|_| _ = scope.spawn(run));
            run();
        });
        whole.into_inner().1.map_or(Ok(()), |(_, error)| Err(error))
    }

    fn absorb(&self, recovering: &mut Recovering, index: usize, part: Keyspace) -> Result<(), SnapshotError> {
        recovering.absorb(part).map_err(|key| {
            let detail = format!("the key {} stands in two sections", key.escape_ascii());
            self.damaged(self.sections[index].offset, &detail)
        })
    }

    /// Loads a section of keys into a keyspace of its own.
    fn load_apart(
        &self,
        index: usize,
        block: &mut Vec<u8>,
        followers: &[Arc<dyn Follower>],
        types: &DataTypes,
    ) -> Result<Keyspace, SnapshotError> {
        let SectionContent::Keys { database, .. } = self.sections[index].content else {
            unreachable!("only asked for sections of keys")
        };
        let keyspace = Keyspace::with_types(0, types.clone());
        let mut part = Part { keyspace, database, followers, open: None };
        part.keyspace.reserve(database, self.sections[index].keys_at_most());
        self.read_blocks(index, block, &mut |records| part.load(&records.collect::<Result<Vec<_>, _>>()?))?;
        Ok(part.finish())
    }

    /// Loads the keys of these slots, both ends included, of all databases, without followers.
    pub fn load_slots(
        &self,
        recovering: &mut Recovering,
        first: u16,
        last: u16,
    ) -> Result<(), SnapshotError> {
        let lsn = self.header.checkpoint.lsn;
        let mut block = Vec::new();
        for (index, section) in self.sections.iter().enumerate() {
            let SectionContent::Keys { first_slot, last_slot, .. } = section.content else { continue };
            if last_slot < first || first_slot > last {
                continue;
            }
            let whole = first <= first_slot && last_slot <= last;
            self.read_section(index, &mut block, &mut |record| {
                let wanted = |key| (first..=last).contains(&key_slot(key));
                if whole || record.effect.key().is_some_and(wanted) {
                    recovering.apply_record(lsn, record)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Calls `each` with every effect of the sections of keys.
    pub(super) fn each_of_keys(
        &self,
        each: &mut dyn FnMut(&Record<'_>) -> Result<(), ReplayError>,
    ) -> Result<(), SnapshotError> {
        let mut block = Vec::new();
        let sections = self.sections.iter().enumerate();
        let mut of_keys =
            sections.filter(|(_, section)| matches!(section.content, SectionContent::Keys { .. }));
        of_keys.try_for_each(|(index, _)| self.read_section(index, &mut block, each))
    }

    /// Loads the users, and the modules' ground state.
    pub fn load_modules(&self, recovering: &mut Recovering) -> Result<(), SnapshotError> {
        for module in &self.modules {
            if recovering.modules().iter().all(|present| present.number() != module.number) {
                let (file, name) = (self.path.clone(), module.name.clone());
                return Err(SnapshotError::MissingModule { file, name, number: module.number });
            }
        }
        let lsn = self.header.checkpoint.lsn;
        let mut block = Vec::new();
        for (index, section) in self.sections.iter().enumerate() {
            if section.content == SectionContent::Modules {
                self.read_section(index, &mut block, &mut |record| recovering.apply_record(lsn, record))?;
            }
        }
        Ok(())
    }

    /// Reads every byte, and loads every section into a store of its own: each key must lie in its section's
    /// slots, and the result must have the number of keys and the digest that were written. Memory is one
    /// section at a time.
    pub fn verify(&self, env: &Env, modules: Vec<Box<dyn Module>>) -> Result<(), SnapshotError> {
        self.verify_with(env, modules, &mut |_| ())
    }

    /// The same; `progress` is called with the bytes of each section.
    pub fn verify_with(
        &self,
        env: &Env,
        modules: Vec<Box<dyn Module>>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), SnapshotError> {
        let mut ground = Recovering::new(env.clone(), 0, modules);
        self.load_modules(&mut ground)?;
        let types = ground.keyspace().types().clone();
        drop(ground);
        let mut block = Vec::new();
        for (index, section) in self.sections.iter().enumerate() {
            let SectionContent::Keys { database, first_slot, last_slot } = section.content else { continue };
            let mut keyspace = Keyspace::with_types(0, types.clone());
            self.read_section(index, &mut block, &mut |record| {
                let key = record.effect.key().expect("sections of keys hold no other effects");
                let misplaced = !(first_slot..=last_slot).contains(&key_slot(key));
                if misplaced || keyspace.apply(record).mismatch {
                    return Err(ReplayError::of_mismatch(&keyspace, record));
                }
                Ok(())
            })?;
            let entries = keyspace.database(database).into_iter().flat_map(|database| database.iter());
            let (keys, digest) = entries.fold((0, 0u64), |(keys, digest), entry| {
                (keys + 1, digest.wrapping_add(entry_digest(entry)))
            });
            if (keys, digest) != (section.keys, section.digest) {
                let detail = format!("section {index} does not bring back the entries that it was made of");
                return Err(self.damaged(section.offset, &detail));
            }
            progress(section.bytes);
        }
        Ok(())
    }

    /// Reads every byte and compares the checksums: whether the file still is what was verified when it was
    /// made.
    pub fn check(&self) -> Result<(), SnapshotError> {
        let mut block = Vec::new();
        (0..self.sections.len()).try_for_each(|index| self.read_section(index, &mut block, &mut |_| Ok(())))
    }

    /// Calls `each` for every effect of a section.
    fn read_section(
        &self,
        index: usize,
        block_bytes: &mut Vec<u8>,
        each: &mut dyn FnMut(&Record<'_>) -> Result<(), ReplayError>,
    ) -> Result<(), SnapshotError> {
        self.read_blocks(index, block_bytes, &mut |records| {
            for record in records {
                each(&record?).map_err(BlockError::Replay)?;
            }
            Ok(())
        })
    }

    /// Calls `each` with the effects of one block of a section after the other.
    fn read_blocks(
        &self,
        index: usize,
        block_bytes: &mut Vec<u8>,
        each: &mut EachBlock<'_>,
    ) -> Result<(), SnapshotError> {
        let section = &self.sections[index];
        let end = section.offset + section.bytes;
        let mut offset = section.offset;
        let mut effects = 0;
        let mut checksum = RunningChecksum::default();
        while offset < end {
            let (in_block, crc) = self.read_block(index, offset, end, block_bytes)?;
            effects += in_block;
            checksum.add_crc(crc, block_bytes.len());
            let mut records = decode_batch(block_bytes).map(|record| {
                let record = record.map_err(|error| BlockError::Damaged(error.to_string()))?;
                match belongs(&record, section.content) {
                    true => Ok(record),
                    false => Err(BlockError::Damaged("an effect stands in the wrong section".to_owned())),
                }
            });
            each(&mut records).map_err(|error| match error {
                BlockError::Damaged(detail) => self.damaged(offset, &detail),
                BlockError::Replay(cause) => SnapshotError::Replay { file: self.path.clone(), cause },
            })?;
            offset += (BLOCK_HEADER_BYTES + block_bytes.len()) as u64;
        }
        if self.check && (effects, checksum) != (section.effects, section.checksum) {
            return Err(self.damaged(section.offset, "the section's blocks are not those that were written"));
        }
        Ok(())
    }

    /// Reads the effects of the block at `offset` into `bytes`; returns how many there are, and their CRC32C.
    fn read_block(
        &self,
        section: usize,
        offset: u64,
        end: u64,
        bytes: &mut Vec<u8>,
    ) -> Result<(u64, u32), SnapshotError> {
        let at = Place { path: &self.path };
        if end - offset < BLOCK_HEADER_BYTES as u64 {
            return Err(self.damaged(offset, "a block does not fit its section"));
        }
        let block = Block::decode(&at.read::<BLOCK_HEADER_BYTES>(&*self.file, offset)?);
        let content_offset = offset + BLOCK_HEADER_BYTES as u64;
        if u64::from(block.bytes) > end - content_offset || block.section as usize != section {
            return Err(self.damaged(offset, "a block does not fit its section"));
        }
        bytes.resize(block.bytes as usize, 0);
        let filled = self.file.read_full_at(bytes, content_offset).map_err(|error| at.io(error))?;
        let crc = crc32c::crc32c(bytes);
        if filled < bytes.len() || self.check && block.crc_with(crc) != block.crc {
            return Err(self.damaged(offset, "a block's checksum does not match"));
        }
        Ok((u64::from(block.effects), crc))
    }

    fn damaged(&self, offset: u64, detail: &str) -> SnapshotError {
        Place { path: &self.path }.damaged(offset, detail)
    }
}

/// The buffer that is kept from one section to the next: larger than a block, unless it has one huge value.
const BLOCK_KEPT_BYTES: usize = 1 << 20;

/// What is done with the effects of a block.
type EachBlock<'a> =
    dyn FnMut(&mut dyn Iterator<Item = Result<Record<'_>, BlockError>>) -> Result<(), BlockError> + 'a;

/// What is wrong with a block.
enum BlockError {
    Damaged(String),
    Replay(ReplayError),
}

/// A section of keys on its way into a keyspace of its own.
struct Part<'f> {
    keyspace: Keyspace,
    database: u32,
    followers: &'f [Arc<dyn Follower>],
    /// The last key: the effects of a key follow each other, but may begin in one block and end in the next.
    open: Option<Vec<u8>>,
}

impl Part<'_> {
    /// Applies the effects of a block.
    fn load(&mut self, records: &[Record<'_>]) -> Result<(), BlockError> {
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(()) };
        let opened = self.open.replace(key_of(last).to_vec());
        // It ended with the block before, if it does not go on in this one.
        let ended = opened.as_deref().filter(|&opened| opened != key_of(first));
        let is_whole = |key| key != key_of(last) && opened.as_deref() != Some(key);
        let of_keys = records.chunk_by(|one, next| key_of(one) == key_of(next));
        let (hashes, others): (Vec<_>, Vec<_>) =
            of_keys.partition(|of_key| is_whole(key_of(&of_key[0])) && whole_hash(of_key).is_some());
        self.load_hashes(&hashes)?;
        others.iter().copied().flatten().try_for_each(|record| self.apply(record))?;
        let keys = ended.into_iter().chain(others.iter().map(|of_key| key_of(&of_key[0])));
        self.follow(&keys.filter(|&key| key != key_of(last)).collect::<Vec<_>>());
        Ok(())
    }

    /// Applies the effects of hashes that were read whole. Contents that followers have are referred to, and
    /// not stored again.
    fn load_hashes(&mut self, of_keys: &[&[Record<'_>]]) -> Result<(), BlockError> {
        let hashes: Vec<ReadHash<'_>> = of_keys.iter().filter_map(|of_key| whole_hash(of_key)).collect();
        let of_follower = |follower: &Arc<dyn Follower>| follower.hashes(self.database, &hashes);
        let mut housed: Vec<HousedContent> = self.followers.iter().flat_map(of_follower).collect();
        housed.sort_by_key(|content| (content.hash, content.pair));
        // Where two have it, one is enough.
        housed.dedup_by_key(|content| (content.hash, content.pair));
        let mut housed = housed.into_iter().peekable();
        for (number, (of_key, hash)) in of_keys.iter().zip(&hashes).enumerate() {
            let of_hash = std::iter::from_fn(|| housed.next_if(|content| content.hash == number));
            let of_hash = &mut of_hash.map(|content| (content.pair, content.housed));
            if self.keyspace.load_hash(self.database, hash.key, hash.fields, of_hash).mismatch {
                return Err(self.mismatch(&of_key[0]));
            }
            of_hash.for_each(drop);
            of_key[1..].iter().try_for_each(|record| self.apply(record))?;
        }
        Ok(())
    }

    fn apply(&mut self, record: &Record<'_>) -> Result<(), BlockError> {
        if self.keyspace.apply(record).mismatch { Err(self.mismatch(record)) } else { Ok(()) }
    }

    fn mismatch(&self, record: &Record<'_>) -> BlockError {
        BlockError::Replay(ReplayError::of_mismatch(&self.keyspace, record))
    }

    fn follow(&mut self, keys: &[&[u8]]) {
        for follower in self.followers {
            follower.loaded(&mut Housing::of(&mut self.keyspace), self.database, keys);
        }
    }

    fn finish(mut self) -> Keyspace {
        if let Some(open) = self.open.take() {
            self.follow(&[&open]);
        }
        self.keyspace
    }
}

fn key_of<'a>(record: &Record<'a>) -> &'a [u8] {
    record.effect.key().expect("sections of keys hold no other effects")
}

/// The hash that these effects of one key make, if the first of them sets all its fields.
fn whole_hash<'a>(of_key: &[Record<'a>]) -> Option<ReadHash<'a>> {
    let (first, rest) = of_key.split_first()?;
    match first.effect {
        Effect::HashSet { key, fields, .. }
            if rest
                .iter()
                .all(|record| matches!(record.effect, Effect::Expire { .. } | Effect::HashExpire { .. })) =>
        {
            Some(ReadHash { key, fields })
        }
        _ => None,
    }
}

/// Whether an effect is one that this section may hold. Others could change keys elsewhere, or take any
/// memory.
fn belongs(record: &Record<'_>, content: SectionContent) -> bool {
    match (record.effect, content) {
        (Effect::Module { key: None, .. }, SectionContent::Modules) => record.database < DATABASES_MAX,
        (effect, SectionContent::Modules) => effect.is_of_users(),
        (effect, SectionContent::Keys { database, .. }) => effect.builds() && record.database == database,
    }
}

/// The footer's records, if they fit the trailer and fill the file without gaps.
fn decode_footer(footer: &[u8], trailer: &Trailer) -> Result<(Vec<Section>, Vec<ModuleName>), &'static str> {
    let section_bytes = trailer.sections as usize * SECTION_BYTES;
    let (records, mut names) = footer.split_at_checked(section_bytes).ok_or("the footer is too short")?;
    let mut sections = Vec::with_capacity(trailer.sections as usize);
    let mut offset = HEADER_BYTES as u64;
    for record in records.chunks_exact(SECTION_BYTES) {
        let record = record.try_into().expect("chunks are exact");
        let section = Section::decode(record).map_err(|error| match error {
            FormatError::Damaged(detail) => detail,
            FormatError::UnknownLevel(_) => "a section's content is unknown",
        })?;
        if section.offset != offset || section.bytes > trailer.footer_offset - offset {
            return Err("the sections do not follow each other");
        }
        offset += section.bytes;
        sections.push(section);
    }
    if offset != trailer.footer_offset {
        return Err("the sections do not fill the file");
    }
    let mut modules = Vec::new();
    for _ in 0..trailer.modules {
        let (module, rest) = ModuleName::decode(names).ok_or("the footer is too short")?;
        modules.push(module);
        names = rest;
    }
    let totals = total(&sections);
    let agrees =
        (totals.keys, totals.effects, totals.checksum) == (trailer.keys, trailer.effects, trailer.checksum);
    if !names.is_empty() || !agrees {
        return Err("the trailer's totals are not those of the sections");
    }
    Ok((sections, modules))
}

/// Makes errors.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a Path,
}

impl Place<'_> {
    fn io(self, error: io::Error) -> SnapshotError {
        SnapshotError::Io { file: self.path.to_owned(), error }
    }

    fn damaged(self, offset_bytes: u64, detail: &str) -> SnapshotError {
        SnapshotError::Damaged { file: self.path.to_owned(), offset_bytes, detail: detail.to_owned() }
    }

    fn format(self, offset: u64, error: FormatError) -> SnapshotError {
        match error {
            FormatError::Damaged(detail) => self.damaged(offset, detail),
            FormatError::UnknownLevel(level) => {
                SnapshotError::UnknownLevel { file: self.path.to_owned(), level }
            }
        }
    }

    fn read<const N: usize>(self, file: &dyn DiskFile, offset: u64) -> Result<[u8; N], SnapshotError> {
        let mut bytes = [0; N];
        match file.read_full_at(&mut bytes, offset) {
            Ok(filled) if filled == N => Ok(bytes),
            Ok(_) => Err(self.damaged(offset, "the file is cut off")),
            Err(error) => Err(self.io(error)),
        }
    }
}

/// Fuzz target: loads any bytes as a snapshot, with and without believing the checksums. Must not panic, nor
/// allocate more than a small multiple of the input.
pub fn fuzz_load(bytes: &[u8]) {
    let env = Env::system();
    for check in [true, false] {
        let file = Arc::new(Bytes(bytes.to_vec()));
        let Ok(snapshot) = SnapshotFile::over(file, Path::new("fuzz"), check) else { continue };
        // The error is the expected outcome.
        let _ = snapshot.load(&mut Recovering::new(env.clone(), 16, Vec::new()), 1);
        let _ = snapshot.verify(&env, Vec::new());
    }
}

/// A file in memory, read-only.
struct Bytes(Vec<u8>);

impl DiskFile for Bytes {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..)).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_vectored_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn set_size(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn is_at(&self, _: &Path) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn links(&self) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn try_lock(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
