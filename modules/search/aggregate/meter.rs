//! The time of an aggregation, which is looked at by the work that was done, not by rows: the expressions of
//! one row can take as long as a million rows.

use crate::error::{Kind, SearchError};
use engramdb_engine::env::Env;
use std::cell::Cell;
use std::time::Duration;

/// Units of work between two looks at the clock: some tenths of a millisecond.
const LOOK_AFTER: usize = 1 << 14;
/// Units of work that the thread of the command does, about a millisecond. The rest is done by the pool.
const HERE_MAX: usize = 1 << 16;
/// A row whose work is more than this is not gone on with after the time limit: some tenths of a second.
const ROW_MAX: usize = 1 << 22;
/// Bytes that are copied, hashed or compared in a unit of work.
const UNIT_BYTES: usize = 64;

/// Counts units of work: a step of an expression, a value that a reducer or an order takes.
pub struct WorkMeter {
    env: Env,
    /// On the monotonic clock; `None` for no limit.
    deadline: Cell<Option<Duration>>,
    /// Since the last look at the clock.
    done: Cell<usize>,
    /// Of the present row, up to the last look at the clock.
    of_row: Cell<usize>,
    /// The deadline has passed.
    is_late: Cell<bool>,
    /// What this thread may still do.
    left_here: Cell<usize>,
}

impl WorkMeter {
    /// Of a job that may be on the thread of its command.
    pub fn new(env: Env) -> WorkMeter {
        WorkMeter {
            env,
            deadline: Cell::new(None),
            done: Cell::new(0),
            of_row: Cell::new(0),
            is_late: Cell::new(false),
            left_here: Cell::new(HERE_MAX),
        }
    }

    /// Sets the end of the time limit.
    pub fn set_deadline(&self, deadline: Option<Duration>) {
        self.deadline.set(deadline);
        self.is_late.set(false);
    }

    /// The job goes on in the pool, which does all.
    pub fn leave_thread(&self) {
        self.left_here.set(usize::MAX);
    }

    /// A new job begins on the thread of its command.
    pub fn begin(&self) {
        self.left_here.set(HERE_MAX);
    }

    /// A new row begins.
    #[inline]
    pub fn begin_row(&self) {
        self.of_row.set(0);
    }

    /// Counts work. Fails if the time limit has passed and the present row has taken long.
    #[inline]
    pub fn spend(&self, units: usize) -> Result<(), SearchError> {
        let done = self.done.get().saturating_add(units);
        self.done.set(done);
        if done < LOOK_AFTER { Ok(()) } else { self.look() }
    }

    /// Counts bytes that are copied, hashed or compared.
    #[inline]
    pub fn spend_bytes(&self, bytes: usize) -> Result<(), SearchError> {
        self.spend(bytes / UNIT_BYTES)
    }

    #[cold]
    fn look(&self) -> Result<(), SearchError> {
        let done = self.done.replace(0);
        self.of_row.set(self.of_row.get().saturating_add(done));
        if self.left_here.get() < usize::MAX {
            self.left_here.set(self.left_here.get().saturating_sub(done));
        }
        if self.deadline.get().is_some_and(|deadline| self.env.clock.monotonic() > deadline) {
            self.is_late.set(true);
            if self.of_row.get() > ROW_MAX {
                return Err(Kind::Timeout.error());
            }
        }
        Ok(())
    }

    /// Whether the time limit had passed at the last look.
    pub fn is_late(&self) -> bool {
        self.is_late.get()
    }

    /// Whether the pool must go on.
    pub fn is_enough_here(&self) -> bool {
        self.left_here.get() == 0
    }

    /// Whether work of this size is for the pool.
    pub fn is_too_much_here(&self, units: usize) -> bool {
        self.left_here.get() < usize::MAX && units > LOOK_AFTER
    }
}
