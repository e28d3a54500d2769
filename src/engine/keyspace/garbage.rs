//! Removed values, kept until the lock is released, because dropping a large value takes time.

use super::Database;
use super::value::OwnedValue;
use std::any::Any;
use std::fmt;

/// The removed value of an effect, to be dropped later.
#[derive(Default)]
pub enum Garbage {
    #[default]
    None,
    Value(OwnedValue),
    Databases(Vec<Database>),
    /// Something large that was made for a write, or was a part of a value.
    Made(Box<dyn Any + Send + Sync>),
}

impl fmt::Debug for Garbage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Garbage::None => "None",
            Garbage::Value(_) => "Value",
            Garbage::Databases(_) => "Databases",
            Garbage::Made(_) => "Made",
        })
    }
}

impl Garbage {
    /// True if dropping it takes too long for a thread that others wait for.
    pub fn is_large(&self) -> bool {
        const PARTS_MAX: usize = 10_000;
        const BYTES_MAX: usize = 4 << 20;
        match self {
            Garbage::Databases(_) | Garbage::Made(_) => true,
            Garbage::Value(value) => value.read().len() > PARTS_MAX || value.heap_bytes() > BYTES_MAX,
            Garbage::None => false,
        }
    }

    /// How many values it is of those that take time to drop, and its bytes by estimate.
    pub(crate) fn weight(&self) -> (u64, usize) {
        /// As in Redis, smaller values are no work.
        const PARTS_SMALL: usize = 64;
        match self {
            Garbage::Value(value) => {
                let is_work = value.read().len() > PARTS_SMALL;
                (u64::from(is_work), value.heap_bytes())
            }
            Garbage::Databases(databases) => databases.iter().fold((0, 0), |(keys, bytes), database| {
                (keys + database.len() as u64, bytes + database.heap_bytes())
            }),
            Garbage::Made(_) | Garbage::None => (0, 0),
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
