//! Contents in the memory of another owner, so that they are not stored twice: the vectors of an index.
//!
//! A housed value reads like any other and is never changed in place. Its copies (COPY) are separate
//! contents.

use std::fmt;
use std::sync::Arc;

/// Memory that stores contents, each at a place. A [`Housed`] owns its place until `release`; the content
/// does not change meanwhile.
pub trait House: Send + Sync {
    fn content(&self, place: u32) -> &[u8];
    /// Called once for each owned place.
    fn release(&self, place: u32);
}

/// A place in a house, released when this is dropped.
pub struct Housed {
    house: Arc<dyn House>,
    place: u32,
}

impl Housed {
    /// Takes ownership of the place.
    pub fn new(house: Arc<dyn House>, place: u32) -> Housed {
        Housed { house, place }
    }

    pub fn is_in(&self, house: &Arc<dyn House>) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.house), Arc::as_ptr(house))
    }

    #[inline]
    pub fn content(&self) -> &[u8] {
        self.house.content(self.place)
    }
}

impl Drop for Housed {
    fn drop(&mut self) {
        self.house.release(self.place);
    }
}

impl fmt::Debug for Housed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Housed({}, {} bytes)", self.place, self.content().len())
    }
}
