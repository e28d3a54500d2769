//! Room in the log for what a connection executes next: admitted before any lock is taken.

use crate::context::ServerContext;
use crate::dispatch::execute::Core;
use crate::dispatch::wait::{Resumed, Waiting};
use engramdb_engine::command::CommandError;
use engramdb_engine::log::Purpose;
use engramdb_engine::log::pipeline::{Credit, Refusal};
use std::time::Duration;

/// The pause before another try when the log is behind or a module is overloaded.
const RETRY_PAUSE: Duration = Duration::from_millis(1);

/// Why a write does not begin.
pub(super) enum Admission {
    Wait,
    /// No room but what is held back.
    Full(CommandError),
    Refused(CommandError),
    Closed,
}

impl Core {
    pub(super) fn admit(
        &mut self,
        shared: &ServerContext,
        batches: usize,
        bytes: usize,
    ) -> Result<Credit, Admission> {
        // A transaction that only reads adds nothing to a module's work.
        if batches > 0 && shared.has_modules && shared.engine.is_overloaded() {
            self.turn.give_up();
            return Err(Admission::Wait);
        }
        self.admit_for(shared, batches, bytes, Purpose::Any)
    }

    /// The same for batches that may use room that is held back.
    pub(super) fn admit_for(
        &mut self,
        shared: &ServerContext,
        batches: usize,
        bytes: usize,
        purpose: Purpose,
    ) -> Result<Credit, Admission> {
        let admitted = shared.engine.admit_in_turn(&mut self.turn, batches, bytes, purpose);
        admitted.map_err(|refusal| self.admission(refusal))
    }

    fn admission(&mut self, refusal: Refusal) -> Admission {
        match refusal {
            Refusal::Busy => Admission::Wait,
            Refusal::Full { cause } => Admission::Full(CommandError::no_room(&cause)),
            Refusal::ReadOnly { cause } => Admission::Refused(CommandError::read_only(&cause)),
            Refusal::Role(refusal) => Admission::Refused(refusal.error()),
            Refusal::Failed(_) => {
                self.closing = true;
                Admission::Closed
            }
        }
    }

    /// The request is done, or is never executed: others must not wait for the room that it waited for.
    pub fn end_turn(&mut self) {
        self.turn.give_up();
    }
}

/// How much room to ask for, in bytes, before a command runs again that needs this much now. The needs may
/// have grown by then: it would come back once more for each growth.
pub(super) fn with_slack(needed_bytes: usize) -> usize {
    needed_bytes + needed_bytes / 8
}

pub(super) fn retry() -> Waiting {
    Box::pin(async {
        tokio::time::sleep(RETRY_PAUSE).await;
        Resumed::Retry
    })
}
