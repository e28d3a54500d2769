//! Sets of commands, by their ids.

/// One bit for each command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandSet(Box<[u64]>);

impl CommandSet {
    pub fn empty(commands: usize) -> CommandSet {
        CommandSet(vec![0; commands.div_ceil(64)].into())
    }

    pub fn full(commands: usize) -> CommandSet {
        CommandSet(vec![u64::MAX; commands.div_ceil(64)].into())
    }

    #[inline]
    pub fn has(&self, id: usize) -> bool {
        self.0[id / 64] & 1 << (id % 64) != 0
    }

    pub fn set(&mut self, id: usize, is_in: bool) {
        let (word, bit) = (&mut self.0[id / 64], 1 << (id % 64));
        if is_in { *word |= bit } else { *word &= !bit }
    }

    pub fn heap_bytes(&self) -> usize {
        size_of_val(&*self.0)
    }
}
