//! Why an engine does not do what it is asked, because of its role. Here, so that admission has one type of
//! refusals.

/// The role of the engine forbids it, for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoleRefusal {
    /// A follower that has not applied everything that the log held at its start.
    #[error("the log is still being read")]
    Loading,
    /// A follower does not write.
    #[error("another node writes the log")]
    ReadOnly,
}
