//! The claim, which may have to wait for room.
//!
//! A start on a full disk recovers everything, because reading needs no room. Where there is not even room for a claim,
//! it goes on without one: what was recovered is served, nothing is admitted, and the claim is tried again until there
//! is room. Nothing else may claim meanwhile, or the claim fails for good.

use super::Shared;
use super::writer::Writer;
use crate::log::replay::Recovered;
use crate::log::{AppendError, Claim, Pos};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// Between two attempts.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What is to be claimed.
#[derive(Clone)]
pub struct Opening {
    after: Pos,
    claim: Claim,
}

impl Opening {
    pub fn new(node: String, recovered: &Recovered) -> Opening {
        let checkpoint = recovered.checkpoint;
        let claim = Claim {
            node,
            engine_time_ms: checkpoint.engine_time_ms,
            lsn: checkpoint.lsn,
            checksum: checkpoint.checksum,
        };
        Opening { after: recovered.end, claim }
    }

    /// Claims the log; `None` where there is no room for that, which the state then says.
    pub fn claim(&self, shared: &Arc<Shared>) -> Result<Option<Writer>, AppendError> {
        match shared.log.claim(self.after, self.claim.clone()) {
            Ok((appender, commits)) => {
                let mut state = shared.state.lock();
                state.mark = appender.mark();
                state.unclaimed = None;
                drop(state);
                Ok(Some(Writer::new(shared.clone(), appender, commits, self.claim.engine_time_ms)))
            }
            Err(AppendError::Full { cause }) => {
                shared.state.lock().unclaimed = Some(cause);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits until the log is claimed. False when the pipeline was closed, or failed, before.
    pub fn wait(&self, shared: &Arc<Shared>, writer: &Mutex<Option<Writer>>) -> bool {
        let is_claimed = || writer.lock().is_some();
        while !is_claimed() {
            {
                let mut state = shared.state.lock();
                if !state.closed {
                    shared.work.wait_for(&mut state, RETRY_AFTER);
                }
                if state.closed {
                    return false;
                }
            }
            match self.claim(shared) {
                Ok(claimed) => *writer.lock() = claimed,
                Err(error) => {
                    shared.fail(&error);
                    return false;
                }
            }
        }
        true
    }
}
