//! The binary's allocator, and its one call that no crate wraps.

/// Freed memory of deleted keys is found again quickly, and threads do not share free lists.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

unsafe extern "C" {
    /// Of mimalloc, which is linked in as the allocator: <https://microsoft.github.io/mimalloc/group__extended.html>.
    fn mi_collect(force: bool);
}

/// Gives freed memory back to the system at once, instead of when it is next asked for some: after a start, which frees
/// what it read once it stands elsewhere.
pub fn give_back_freed() {
    // SAFETY: takes a flag, may be called at any time.
    unsafe { mi_collect(true) };
}
