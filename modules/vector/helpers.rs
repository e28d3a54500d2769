//! Threads that help with a scan too long for one.
//!
//! The thread that searches does its share, and is the only one that asks its deadline (which need not be fit for other
//! threads). Helpers are lent while cores are idle: every thread in a long scan is counted, helping or not, and who finds all
//! cores counted works alone. So many searches at once cost what they cost one by one, and no search waits for a helper that
//! is busy with another.
//!
//! The pool is this crate's own, because whoever searches may itself be on a thread of rayon's global pool and would wait there
//! for its like; it is built when it is first of use. A search that is helped allocates a job for each helper.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

use rayon::{ThreadPool, ThreadPoolBuilder};

pub(crate) struct Helpers {
    /// What may run at once: the helpers, and one that is helped.
    threads: usize,
    /// Less to read for each thread is not worth waking one.
    bytes_each_min: usize,
    /// Threads in long scans, helpers and others.
    busy: AtomicUsize,
    /// `threads - 1` threads; none where the system refused them.
    pool: OnceLock<Option<ThreadPool>>,
}

/// Helpers lent to one scan, and its own thread: counted as busy while this lives.
pub(crate) struct Lent<'a> {
    owner: &'a Helpers,
    busy: usize,
    count: usize,
}

/// To wake a thread and to wait for it was measured to take 15 microseconds of processor time where it was about to sleep, and
/// up to 100 where it slept deeply, with as much delay. So many bytes are read in 200 (from a cache) to 600 (from memory).
const BYTES_EACH_MIN: usize = 8 << 20;

impl Helpers {
    pub const fn new(threads: usize, bytes_each_min: usize) -> Helpers {
        Helpers { threads, bytes_each_min, busy: AtomicUsize::new(0), pool: OnceLock::new() }
    }

    /// Those of the process, as many as it may use cores.
    pub fn of_process() -> &'static Helpers {
        static SHARED: OnceLock<Helpers> = OnceLock::new();
        SHARED.get_or_init(|| Helpers::new(available_parallelism().map_or(1, usize::from), BYTES_EACH_MIN))
    }

    /// Idle helpers for a scan that reads so many bytes.
    pub fn lend(&self, bytes: usize) -> Lent<'_> {
        let most = (bytes / self.bytes_each_min).min(self.threads).saturating_sub(1);
        if most == 0 || self.pool().is_none() {
            return Lent { owner: self, busy: 0, count: 0 };
        }
        let idle = |busy: usize| most.min(self.threads.saturating_sub(busy + 1));
        let busy = self
            .busy
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |busy| Some(busy + 1 + idle(busy)))
            .expect("there is always a next number");
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

    /// Runs `own` here and `help` on each helper; returns when all have ended.
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
    fn who_is_lent_runs_once_and_has_ended_when_run_returns() {
        let helpers = Helpers::new(4, 1);
        for bytes in [1, 2, 3, 4, 100] {
            let ran = AtomicUsize::new(0);
            let lent = helpers.lend(bytes);
            assert_eq!(lent.run(|| 7, || _ = ran.fetch_add(1, Ordering::Relaxed)), 7);
            assert_eq!(ran.into_inner(), bytes.min(4) - 1);
        }
    }
}
