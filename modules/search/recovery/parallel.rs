//! Divides the work of a start among threads.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Calls `work` on every item, in any order, on up to `threads` threads including the caller's.
pub fn in_parallel<T: Sync>(threads: usize, items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let run = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(item);
        }
    };
    std::thread::scope(|scope| {
        (1..threads.max(1)).for_each(|_| _ = scope.spawn(run));
        run();
    });
}
