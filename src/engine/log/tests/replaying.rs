//! Logs that contradict their checkpoint are refused with an error, on each backend.

use super::*;
use crate::log::replay::{Checkpoint, Replay};

on_each_backend!(batches_that_are_missing_before_the_first_entry_are_an_error);

/// A Claim states the last batch before it. Behind the beginning of a log, that is none.
fn batches_that_are_missing_before_the_first_entry_are_an_error(fresh: &Fresh) {
    let log = fresh.open();
    let mut writer = log.claim(LogEnd::default(), claim_behind(1000)).expect("an empty log");
    writer.append(data(1001, b"batch")).expect("there is room");
    acknowledged(&*writer.acks(), Idx(1));
    let mut replay = Replay::new(&*log, Checkpoint::default());
    let refused = replay.next().map(|batch| batch.is_some());
    assert!(matches!(&refused, Err(ReadError::Hole { want: Pos(1), .. })), "{refused:?}");
    // For a checkpoint that covers these batches, the log is whole.
    let covered = Checkpoint { lsn: Lsn(1000), ..Checkpoint::default() };
    let mut replay = Replay::new(&*log, covered);
    let batch = replay.next().expect("an undamaged log").expect("the one behind them");
    assert_eq!((batch.lsn, batch.bytes), (Lsn(1001), &b"batch"[..]));
}
