//! Cells by document id, in blocks that exist while one of their cells is set.
//!
//! A field that FT.ALTER adds is first set for a document with any id, and the writer that does it holds the
//! keyspace's lock: it makes one block, however large the id is. When the documents go, so do the blocks.

/// Cells in a block.
const BLOCK: usize = 1024;

/// What a cell can be.
pub trait SparseCell: Clone {
    /// A cell that nothing was written to.
    fn unset() -> Self;

    fn is_unset(&self) -> bool;
}

/// A list of cells, of which most may be unset.
pub struct SparseCells<T> {
    blocks: Vec<Option<Box<Block<T>>>>,
    /// The cells for which blocks have memory, and the number of blocks.
    capacity: usize,
    made: usize,
}

struct Block<T> {
    /// As many as were needed; those that are missing at the end are unset.
    cells: Vec<T>,
    /// How many are set.
    set: usize,
}

impl<T> Default for SparseCells<T> {
    fn default() -> SparseCells<T> {
        SparseCells { blocks: Vec::new(), capacity: 0, made: 0 }
    }
}

impl<T: SparseCell> SparseCells<T> {
    /// The cell of an id, if it was written to; it may be unset.
    #[inline]
    pub fn get(&self, id: u32) -> Option<&T> {
        self.blocks.get(id as usize / BLOCK)?.as_ref()?.cells.get(id as usize % BLOCK)
    }

    /// Writes a cell; returns what it was.
    pub fn replace(&mut self, id: u32, cell: T) -> T {
        let (number, at) = (id as usize / BLOCK, id as usize % BLOCK);
        if cell.is_unset() && self.get(id).is_none() {
            return cell;
        }
        if self.blocks.len() <= number {
            self.blocks.resize_with(number + 1, || None);
        }
        let block = self.blocks[number].get_or_insert_with(|| {
            self.made += 1;
            Box::new(Block { cells: Vec::new(), set: 0 })
        });
        let before = block.cells.capacity();
        if block.cells.len() <= at {
            // Twice as many as before, but no more than a block has.
            let wanted = (2 * before).max(at + 1).min(BLOCK);
            block.cells.reserve_exact(wanted.saturating_sub(block.cells.len()));
            block.cells.resize(at + 1, T::unset());
        }
        self.capacity = self.capacity + block.cells.capacity() - before;
        block.set += usize::from(!cell.is_unset());
        let old = std::mem::replace(&mut block.cells[at], cell);
        block.set -= usize::from(!old.is_unset());
        if block.set == 0 {
            self.capacity -= block.cells.capacity();
            self.made -= 1;
            self.blocks[number] = None;
            self.drop_end();
        }
        old
    }

    /// Drops the places of blocks at the end that do not exist.
    fn drop_end(&mut self) {
        while let Some(None) = self.blocks.last() {
            self.blocks.pop();
        }
        if self.blocks.is_empty() {
            self.blocks = Vec::new();
        }
    }

    /// The ids of cells that are set, in order, with their cells.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let blocks = self.blocks.iter().enumerate();
        let made = blocks.filter_map(|(number, block)| Some((number, block.as_ref()?)));
        let cells = made.flat_map(|(number, block)| {
            block.cells.iter().enumerate().map(move |(at, cell)| ((number * BLOCK + at) as u32, cell))
        });
        cells.filter(|(_, cell)| !cell.is_unset())
    }

    /// Bytes of the blocks, without what the cells own.
    pub fn heap_bytes(&self) -> usize {
        self.capacity * size_of::<T>()
            + self.made * size_of::<Block<T>>()
            + self.blocks.capacity() * size_of::<Option<Box<Block<T>>>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    impl SparseCell for u8 {
        fn unset() -> u8 {
            0
        }

        fn is_unset(&self) -> bool {
            *self == 0
        }
    }

    #[test]
    fn cells_are_those_that_were_written_last_and_blocks_go_with_them() {
        let (mut cells, mut model) = (SparseCells::default(), BTreeMap::new());
        let mut state = 5u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..20_000 {
            let (id, cell) = (random(5_000) as u32, (random(3) * random(200)) as u8);
            let before = match cell {
                0 => model.remove(&id),
                _ => model.insert(id, cell),
            };
            assert_eq!(cells.replace(id, cell), before.unwrap_or_default());
            assert_eq!(cells.get(id).copied().unwrap_or_default(), cell);
        }
        assert!(cells.iter().map(|(id, cell)| (id, *cell)).eq(model.iter().map(|(id, cell)| (*id, *cell))));
        let capacity = cells.blocks.iter().flatten().map(|block| block.cells.capacity());
        assert_eq!(cells.capacity, capacity.sum::<usize>());
        assert!(cells.capacity <= 5 * BLOCK);
        model.keys().for_each(|&id| _ = cells.replace(id, 0));
        assert_eq!((cells.heap_bytes(), cells.made), (0, 0));
    }

    #[test]
    fn a_large_id_makes_one_block() {
        let mut cells = SparseCells::default();
        cells.replace(50_000_000, 7u8);
        assert_eq!((cells.get(50_000_000), cells.get(49_999_999), cells.get(3)), (Some(&7), Some(&0), None));
        assert_eq!(cells.made, 1);
        assert!(cells.heap_bytes() < 500_000, "{}", cells.heap_bytes());
        cells.replace(49_000_000, 0);
        assert_eq!(cells.made, 1, "nothing is made for a cell that stays unset");
    }
}
