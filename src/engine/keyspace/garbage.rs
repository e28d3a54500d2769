//! What was removed, kept until the lock is released: dropping a large value takes time.

use super::Database;
use super::value::OwnedValue;

/// What is left of an effect, to be dropped.
#[derive(Debug, Default)]
pub enum Garbage {
    #[default]
    None,
    Value(OwnedValue),
    Databases(Vec<Database>),
}

impl Garbage {
    /// Whether dropping it takes longer than others should wait.
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

    /// A value worth carrying out of the lock; small strings are dropped on the spot.
    pub(super) fn of(value: OwnedValue) -> Garbage {
        const STRING_BYTES_MAX: usize = 16 << 10;
        match &value {
            OwnedValue::String(string) if string.heap_bytes() <= STRING_BYTES_MAX => Garbage::None,
            _ => Garbage::Value(value),
        }
    }
}
