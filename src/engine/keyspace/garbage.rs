//! Removed values, kept until the lock is released, because dropping a large value takes time.

use super::Database;
use super::value::OwnedValue;

/// The removed value of an effect, to be dropped later.
#[derive(Debug, Default)]
pub enum Garbage {
    #[default]
    None,
    Value(OwnedValue),
    Databases(Vec<Database>),
}

impl Garbage {
    /// True if dropping it takes too long for a thread that others wait for.
    pub fn is_large(&self) -> bool {
        const PARTS_MAX: usize = 10_000;
        const BYTES_MAX: usize = 4 << 20;
        match self {
            Garbage::Databases(_) => true,
            Garbage::Value(value) => value.read().len() > PARTS_MAX || value.heap_bytes() > BYTES_MAX,
            Garbage::None => false,
        }
    }

    pub fn is_none(&self) -> bool {
        matches!(self, Garbage::None)
    }

    /// Keeps a value that takes time to drop; drops a small string now.
    pub(super) fn of(value: OwnedValue) -> Garbage {
        const STRING_BYTES_MAX: usize = 16 << 10;
        match &value {
            OwnedValue::String(string) if string.heap_bytes() <= STRING_BYTES_MAX => Garbage::None,
            _ => Garbage::Value(value),
        }
    }
}
