//! A full disk as clients and operators meet it: over TCP on the faulty disk, and with the real binary on an ext4 file
//! system of 330 MB that is filled to its last byte.

#[path = "full_disk/ext4.rs"]
mod ext4;
mod harness;
#[path = "full_disk/served.rs"]
mod served;
mod support;
