//! Contents that are stored in memory of another owner, so that they need not be stored twice: the vectors
//! of an index.
//!
//! A housed value reads like any other and is never changed in place. Its copies (COPY) are contents of their
//! own.

use std::fmt;
use std::sync::Arc;

/// Memory that houses contents, each at a place. A place belongs to its [`Housed`] until `release`, and its
/// content does not change meanwhile.
pub trait House: Send + Sync {
    fn content(&self, place: u32) -> &[u8];
    /// Called once for each place that was given away.
    fn release(&self, place: u32);
}

/// A place in a house, released when this is dropped.
pub struct Housed {
    house: Arc<dyn House>,
    place: u32,
}

impl Housed {
    /// Takes over the keeping of the place.
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
