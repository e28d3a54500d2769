//! The claim, which may have to wait for room.
//!
//! A start on a full disk recovers everything, because reading needs no room. If there is no room even for a
//! claim (the log is unavailable), the start goes on without one: reads are served, nothing is admitted, and
//! the claim is tried again until there is room. If another writer claims meanwhile, the claim fails for
//! good.

use super::Shared;
use super::writer::PipelineWriter;
use crate::log::replay::Recovered;
use crate::log::{Claim, ClaimError, Idx, LogEnd, WriteError};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// The time between two attempts.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A claim to be made.
#[derive(Clone)]
pub struct Opening {
    at: LogEnd,
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
        Opening { at: recovered.end, claim }
    }

    /// Claims the log and sets `writer`. If there is no room, `writer` stays empty and `State::unclaimed`
    /// gets the cause. The writer is set before `unclaimed` is cleared, so that no batch is admitted without
    /// one.
    pub fn claim(&self, shared: &Arc<Shared>, writer: &mut Option<PipelineWriter>) -> Result<(), ClaimError> {
        match shared.log.claim(self.at, self.claim.clone()) {
            Ok(claimed) => {
                let acks = claimed.acks();
                let failed = |error: WriteError| ClaimError::Fatal { cause: error.to_string() };
                let mark = acks.wait(Idx(0), Duration::ZERO).map_err(failed)?;
                assert_eq!(mark.pos, self.at.mark.pos.next(), "a claim is where its writer has read to");
                assert_eq!(mark.epoch.0, mark.pos.0, "a claim's position is its epoch");
                *writer = Some(PipelineWriter::new(shared.clone(), claimed, acks, mark));
                let mut state = shared.state.lock();
                state.mark = mark;
                state.unclaimed = None;
                Ok(())
            }
            Err(ClaimError::Unavailable { cause }) => {
                shared.state.lock().unclaimed = Some(cause);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Waits until the log is claimed. False if the pipeline was closed or failed before.
    pub fn wait(&self, shared: &Arc<Shared>, writer: &Mutex<Option<PipelineWriter>>) -> bool {
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
            // Holds the writer's lock during the claim: a thread that is admitted right after the claim and
            // leads then waits here for the writer.
            let claimed = self.claim(shared, &mut writer.lock());
            if let Err(error) = claimed {
                shared.fail(error.to_string(), None);
                return false;
            }
        }
        true
    }
}
