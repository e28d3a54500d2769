//! Survival of kills, power cuts, damage, failing and full disks; on a simulated disk, and with the real
//! binary on ext4.

mod full_disk;
mod kill;
mod linearizability;
mod simulated;
