//! Kills followed by power cuts: data that a start reads may not be durable.
//!
//! The story: a write is in the page cache and its sync is running when the process is killed. The next
//! process reads the write, shows it to clients, and continues from it; but it was never synced, and the next
//! power cut removes it, together with everything that was acknowledged since. If the sync had failed, the
//! kernel even considers the page clean. So a start writes again everything that may not be on the disk. The
//! last test shows for each sync and each rewrite of a start that these histories detect its omission.

use super::lives::{Endings, LIVES, LeaveOut, run_disk, syncs_of_starts};
use super::power_cut::power_cuts;
use std::sync::Arc;

const ENDINGS: Endings = Endings::KillsAndPowerCuts;

#[test]
fn data_read_by_a_start_survive_the_next_power_cut() {
    for seed in 0..power_cuts().div_ceil(LIVES) {
        if let Err(broken) = run_disk(seed, ENDINGS, None) {
            panic!("{broken}");
        }
    }
}

#[test]
fn every_sync_and_rewrite_of_a_start_is_needed() {
    let names = syncs_of_starts(ENDINGS);
    assert!(names.len() >= 9, "{names:?}");
    for name in names {
        let left_out = name.clone();
        let leave_out: LeaveOut = Arc::new(move |_, of_start| of_start == Some(&left_out));
        let noticed = (0..400).find_map(|seed| run_disk(seed, ENDINGS, Some(leave_out.clone())).err());
        let noticed = noticed.unwrap_or_else(|| panic!("without {name:?} nothing is noticed"));
        println!("without the {name}: {noticed}");
    }
}
