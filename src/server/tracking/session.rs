//! How one client tracks.

/// CLIENT CACHING, for the next command or transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    Unsaid,
    Yes,
    No,
}

/// Which keys a client is informed of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackingMode {
    /// Those that it has read.
    All,
    /// Those that it has read after CLIENT CACHING YES.
    OptIn,
    /// Those that it has read, but not after CLIENT CACHING NO.
    OptOut,
    /// All with its prefixes.
    Broadcast,
}

#[derive(Clone, Debug)]
pub struct ClientTracking {
    pub mode: TrackingMode,
    pub no_loop: bool,
    /// The client that gets the invalidations; 0 for itself.
    pub redirect: u64,
    pub prefixes: Vec<Box<[u8]>>,
    pub caching: Caching,
}

impl ClientTracking {
    /// Whether the keys that the command reads are remembered.
    #[inline]
    pub fn remembers(&self) -> bool {
        match self.mode {
            TrackingMode::All => true,
            TrackingMode::OptIn => self.caching == Caching::Yes,
            TrackingMode::OptOut => self.caching != Caching::No,
            TrackingMode::Broadcast => false,
        }
    }

    /// Memory of the prefixes.
    pub fn heap_bytes(&self) -> usize {
        self.prefixes.iter().map(|prefix| 2 * prefix.len() + 128).sum()
    }
}
