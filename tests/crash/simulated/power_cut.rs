//! Power cuts at random moments of random histories.
//!
//! The story: a log that syncs its entries but omits the sync of the directory passes every test that kills
//! the process, because the kernel survives and keeps the name. The first power cut removes the whole file.
//! So this disk loses everything that a real one may lose, at every kind of moment. The last test shows for
//! each sync in the code that these histories detect its omission.

use super::history::small_segments;
use super::lives::{Endings, LIVES, LeaveOut, run_disk};
use engramdb_sim::disk::{SyncKind, SyncPoint};
use std::sync::Arc;

/// The number of power cuts in a normal run; `ENGRAMDB_POWER_CUTS` sets another number.
const POWER_CUTS: u64 = 10_000;

pub fn power_cuts() -> u64 {
    let wanted = std::env::var("ENGRAMDB_POWER_CUTS").ok();
    wanted.map_or(POWER_CUTS, |text| text.parse().expect("ENGRAMDB_POWER_CUTS is a number"))
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_invented() {
    for seed in 0..power_cuts().div_ceil(LIVES) {
        if let Err(broken) = run_disk(seed, Endings::PowerCuts, None) {
            panic!("{broken}");
        }
    }
}

#[test]
fn every_sync_is_needed() {
    type Filter = fn(&SyncPoint<'_>) -> bool;
    let syncs: [(&str, Filter); 5] = [
        ("entry", |point| point.kind == SyncKind::Write && point.offset_bytes > 0),
        ("segment header", |point| point.kind == SyncKind::Write && point.offset_bytes == 0),
        ("preallocation", |point| point.kind == SyncKind::File),
        ("directory after a create", |point| point.kind == SyncKind::Directory && !point.after_remove),
        ("directory after a remove", |point| point.kind == SyncKind::Directory && point.after_remove),
    ];
    for (name, filter) in syncs {
        let leave_out: LeaveOut = Arc::new(move |point, _| filter(point));
        let noticed =
            (0..100).find_map(|seed| run_disk(seed, Endings::PowerCuts, Some(leave_out.clone())).err());
        let noticed = noticed.unwrap_or_else(|| panic!("leaving out the {name} sync goes unnoticed"));
        println!("without the {name} sync: {noticed}");
    }
}

#[test]
fn options_make_several_entries_and_segments() {
    // The histories above are meaningful only if batches span entries and entries fill segments.
    let options = small_segments();
    assert!(options.entry_bytes_max < 20_000);
    assert!(options.segment_bytes < 90_000);
}
