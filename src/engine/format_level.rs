//! Format levels: how a reader tells files of a newer version from damaged ones.
//!
//! Segments and entries of the log, snapshots, their manifest and the manifest of a backup each state in
//! `needs` the lowest level that reads them. All share one level: a version that reads only some of them
//! cannot use the directory. A writer states [`BASE_LEVEL`], and a higher level only where it uses something
//! newer. Every reader calls [`check`] before it interprets the rest.

/// The highest level that this version reads.
pub const FORMAT_LEVEL: u16 = 1;
/// The lowest level that exists, which this version states wherever it uses nothing newer.
pub const BASE_LEVEL: u16 = 1;
const _: () = assert!(BASE_LEVEL <= FORMAT_LEVEL, "a version reads what it writes");

/// A level that this version does not read: of a newer version, or one that no version writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownLevel(pub u16);

impl std::error::Error for UnknownLevel {}

impl std::fmt::Display for UnknownLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let UnknownLevel(level) = *self;
        match level {
            ..BASE_LEVEL => write!(f, "states format level {level}, which does not exist"),
            _ => write!(f, "needs format level {level}, this version reads up to {FORMAT_LEVEL}"),
        }
    }
}

/// Checks what something that was read states in `needs`.
///
/// # Errors
/// If this version does not read it.
pub fn check(needs: u16) -> Result<(), UnknownLevel> {
    if (BASE_LEVEL..=FORMAT_LEVEL).contains(&needs) { Ok(()) } else { Err(UnknownLevel(needs)) }
}
