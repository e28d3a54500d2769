//! A full disk as clients and operators experience it: over TCP on the faulty disk, and with the real binary
//! on an ext4 file system of 330 MB that is filled to its last byte.

mod ext4;
mod served;
