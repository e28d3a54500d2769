//! A file's bytes: as processes see them, and as they are on the disk.

use rand::Rng;
use rand::rngs::SmallRng;
use std::collections::BTreeSet;
use std::io::IoSlice;
use std::ops::Range;

pub const SECTOR_BYTES: usize = 512;

#[derive(Default)]
pub struct Content {
    /// The bytes in the page cache.
    pub current: Vec<u8>,
    pub durable: Vec<u8>,
    /// Sectors that the kernel knows it has to write.
    dirty: BTreeSet<usize>,
    /// Sectors whose write-back failed: the cache has the new bytes and considers them clean, the disk has
    /// the old ones.
    lost: BTreeSet<usize>,
    /// The size changed since it was last written, successfully or not.
    size_is_dirty: bool,
}

impl Content {
    /// A file whose content is durable.
    pub fn synced(bytes: Vec<u8>) -> Content {
        Content { current: bytes.clone(), durable: bytes, ..Content::default() }
    }

    pub fn write(&mut self, slices: &[IoSlice<'_>], offset: u64) {
        let mut at = offset as usize;
        for slice in slices {
            let end = at + slice.len();
            if end > self.current.len() {
                self.current.resize(end, 0);
                self.size_is_dirty = true;
            }
            self.current[at..end].copy_from_slice(slice);
            for sector in at / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
                self.lost.remove(&sector);
                self.dirty.insert(sector);
            }
            at = end;
        }
    }

    pub fn set_size(&mut self, bytes: usize) {
        self.size_is_dirty |= bytes != self.current.len();
        self.current.resize(bytes, 0);
        let reaches = |sector: &usize| sector * SECTOR_BYTES < bytes;
        self.dirty.retain(reaches);
        self.lost.retain(reaches);
    }

    /// Makes the dirty sectors and the size durable.
    pub fn sync(&mut self) {
        let dirty = std::mem::take(&mut self.dirty);
        if std::mem::take(&mut self.size_is_dirty) {
            self.durable.resize(self.current.len(), 0);
        }
        dirty.into_iter().for_each(|sector| self.write_back(sector));
    }

    /// The same for a part of the file. The size becomes durable up to the end of that part.
    pub fn sync_range(&mut self, range: Range<u64>) {
        let sectors = range.start as usize / SECTOR_BYTES..(range.end as usize).div_ceil(SECTOR_BYTES);
        self.durable.resize(self.durable.len().max(range.end as usize), 0);
        let dirty: Vec<usize> = self.dirty.range(sectors).copied().collect();
        for sector in dirty {
            self.dirty.remove(&sector);
            self.write_back(sector);
        }
    }

    /// A sync that fails: some sectors were written, none is dirty any more, and neither is the size.
    pub fn fail_sync(&mut self, random: &mut SmallRng) {
        let odds = odds(random);
        for sector in std::mem::take(&mut self.dirty) {
            if random.random_bool(odds) {
                self.write_back(sector);
            } else {
                self.lost.insert(sector);
            }
        }
        self.size_is_dirty = false;
    }

    /// The kernel's own write-back: writes some dirty sectors, and fails for some of those.
    pub fn write_some_back(&mut self, random: &mut SmallRng) {
        let (tried, failing) = (odds(random), [0.0, 0.0, 0.5, 1.0][random.random_range(0..4)]);
        for sector in std::mem::take(&mut self.dirty) {
            if !random.random_bool(tried) {
                self.dirty.insert(sector);
            } else if random.random_bool(failing) {
                self.lost.insert(sector);
            } else {
                self.write_back(sector);
            }
        }
        if random.random_bool(tried) && random.random_bool(failing) {
            self.size_is_dirty = false;
        }
    }

    /// The kernel drops clean pages at any time: a lost sector then reads as it is on the disk.
    pub fn evict(&mut self, random: &mut SmallRng) {
        let odds = odds(random);
        for sector in std::mem::take(&mut self.lost) {
            if random.random_bool(odds) {
                let end = ((sector + 1) * SECTOR_BYTES).min(self.current.len());
                self.current[sector * SECTOR_BYTES..end].fill(0);
                copy_sector(&self.durable, &mut self.current, sector);
            } else {
                self.lost.insert(sector);
            }
        }
    }

    /// The power is cut: dirty sectors may or may not have been written.
    pub fn lose_unsynced(&mut self, random: &mut SmallRng) {
        let odds = odds(random);
        let (old, new) = (self.durable.len(), self.current.len());
        let size = match random.random_range(0..3) {
            _ if !self.size_is_dirty => old,
            0 => old,
            1 => new,
            _ => random.random_range(old.min(new)..=old.max(new)),
        };
        self.durable.resize(size, 0);
        for sector in std::mem::take(&mut self.dirty) {
            if random.random_bool(odds) {
                copy_sector(&self.current, &mut self.durable, sector);
            }
        }
        self.lost.clear();
        self.size_is_dirty = false;
        self.current = self.durable.clone();
    }

    /// Writes one sector to the disk, and the size as far as the sector needs it.
    fn write_back(&mut self, sector: usize) {
        let end = ((sector + 1) * SECTOR_BYTES).min(self.current.len());
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        copy_sector(&self.current, &mut self.durable, sector);
    }
}

/// Each event has its own probability, so that nearly all and nearly none occur as well.
fn odds(random: &mut SmallRng) -> f64 {
    [0.0, 0.1, 0.5, 0.9, 1.0][random.random_range(0..5)]
}

/// Copies one sector, as far as both files reach.
fn copy_sector(from: &[u8], to: &mut [u8], sector: usize) {
    let start = sector * SECTOR_BYTES;
    let end = (start + SECTOR_BYTES).min(from.len()).min(to.len());
    if start < end {
        to[start..end].copy_from_slice(&from[start..end]);
    }
}
