//! Worker threads that help with long scans.
//!
//! The searching thread does its own share, and it alone checks the deadline, whose closure need not be
//! `Sync`. Helpers are lent only while cores are idle: every thread in a long scan is counted, helping or
//! not, and a thread that finds all cores counted scans alone. So many concurrent searches cost no more than
//! the same searches one after another, and no search waits for a helper that is busy with another one.
//!
//! The thread pool belongs to this crate, because a searching thread may itself run on rayon's global pool
//! and would then wait for a thread of its own pool. It is created at first use. A search that gets helpers
//! allocates one job per helper.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

use rayon::{ThreadPool, ThreadPoolBuilder};

pub(crate) struct Helpers {
    /// Threads that may scan at once: the helpers, and one searching thread.
    threads: usize,
    /// The least number of bytes per thread for which waking one pays.
    bytes_each_min: usize,
    /// Threads in long scans: helpers and searching threads.
    busy: AtomicUsize,
    /// `threads - 1` threads; `None` if the system refused to create them.
    pool: OnceLock<Option<ThreadPool>>,
}

/// Helpers lent to one scan. They and the searching thread count as busy while this lives.
pub(crate) struct Lent<'a> {
    owner: &'a Helpers,
    busy: usize,
    count: usize,
}

/// Waking a thread and waiting for it was measured to take 15 microseconds of processor time where the thread
/// was about to sleep, and up to 100 where it slept deeply, with the same delay. Reading this many bytes
/// takes 200 (from a cache) to 600 microseconds (from memory).
const BYTES_EACH_MIN: usize = 8 << 20;

impl Helpers {
    pub const fn new(threads: usize, bytes_each_min: usize) -> Helpers {
        Helpers { threads, bytes_each_min, busy: AtomicUsize::new(0), pool: OnceLock::new() }
    }

    /// The helpers of this process, as many as it may use cores.
    pub fn of_process() -> &'static Helpers {
        static SHARED: OnceLock<Helpers> = OnceLock::new();
        SHARED.get_or_init(|| Helpers::new(available_parallelism().map_or(1, usize::from), BYTES_EACH_MIN))
    }

    /// Idle helpers for a scan that reads this many bytes.
    pub fn lend(&self, bytes: usize) -> Lent<'_> {
        let most = (bytes / self.bytes_each_min).min(self.threads).saturating_sub(1);
        if most == 0 || self.pool().is_none() {
            return Lent { owner: self, busy: 0, count: 0 };
        }
        let idle = |busy: usize| most.min(self.threads.saturating_sub(busy + 1));
        let busy = self
            .busy
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |busy| Some(busy + 1 + idle(busy)))
            .expect("the closure always returns a number");
        Lent { owner: self, busy: 1 + idle(busy), count: idle(busy) }
    }

    fn pool(&self) -> Option<&ThreadPool> {
        let build = || {
            let builder = ThreadPoolBuilder::new().num_threads(self.threads - 1);
            builder.thread_name(|number| format!("scan-{number}")).build().ok()
        };
        self.pool.get_or_init(build).as_ref()
    }
}

impl Lent<'_> {
    pub fn count(&self) -> usize {
        self.count
    }

    /// Runs `own` on this thread and `help` on each helper; returns when all have ended.
    pub fn run<R>(&self, own: impl FnOnce() -> R, help: impl Fn() + Sync) -> R {
        match self.owner.pool.get() {
            Some(Some(pool)) if self.count > 0 => pool.in_place_scope(|scope| {
                (0..self.count).for_each(|_| scope.spawn(|_| help()));
                own()
            }),
            _ => own(),
        }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.owner.busy.fetch_sub(self.busy, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helpers_are_lent_while_threads_are_idle_and_bytes_worth_it() {
        let helpers = Helpers::new(4, 100);
        assert_eq!(helpers.lend(199).count(), 0, "two threads would not have enough to read");
        let first = helpers.lend(250);
        assert_eq!(first.count(), 1);
        let second = helpers.lend(10_000);
        assert_eq!(second.count(), 1, "two threads are busy, and this one is the third");
        let third = helpers.lend(10_000);
        assert_eq!(third.count(), 0);
        drop(first);
        assert_eq!(helpers.lend(10_000).count(), 0, "two are busy with the second scan, one with the third");
        drop((second, third));
        assert_eq!(helpers.lend(10_000).count(), 3);
    }

    #[test]
    fn each_lent_helper_runs_once_and_has_ended_when_run_returns() {
        let helpers = Helpers::new(4, 1);
        for bytes in [1, 2, 3, 4, 100] {
            let ran = AtomicUsize::new(0);
            let lent = helpers.lend(bytes);
            assert_eq!(lent.run(|| 7, || _ = ran.fetch_add(1, Ordering::Relaxed)), 7);
            assert_eq!(ran.into_inner(), bytes.min(4) - 1);
        }
    }
}
