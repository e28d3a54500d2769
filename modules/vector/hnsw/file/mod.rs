//! The saved form of a graph: plain little-endian arrays, so that loading is reading and checking.
//!
//! ```text
//! header, 64 bytes
//!    0  "ENGRHNSW"
//!    8  u32 format version (4)      12  u8 metric (0 L2, 1 inner product, 2 cosine), u8 element and u8 quantization
//!   16  u32 dimension                   (by their order in the enums), u8 0
//!   20  u32 M                       24  u32 ef_construction
//!   28  u32 slots                   32  u64 seed
//!   40  u32 upper blocks            44  u32 entry slot + 1, or 0
//!   48  u32 level of the entry      52  u32 1 if there are codes, else 0
//!   56  u32 members
//!   60  u32 CRC-32C of bytes 0..60
//! sections, each filled up with zeros to a multiple of 64 bytes
//!   ids            u32 x slots
//!   states         u8  x slots              0 free, 2 live, 3 deleted but still a way through; plus 4 where links are not to
//!                                           be chosen by codes, and 8 where walks do not go by them; plus 32 for a
//!                                           live one whose id has gone, the place of members
//!   levels         u8  x slots
//!   members        2 u32 x members          slot, in ascending order, and slot of its place (copies.rs), with the top bit set
//!                                           where their vectors are not equal byte for byte
//!   base links     u32 x 2 M x slots        slot + 1, with the top bit set if kept (tree.rs); the first 0 ends a block
//!   upper links    u32 x M x upper blocks   by slot, then by layer from 1
//!   norms          f32 x slots              one over the length; cosine only, else empty
//!   centre         f32 x dimension         what the codes are made around; empty without codes
//!   codes          rows of codes.rs x slots; empty without codes
//!   fingerprints   u64 x slots              of the vectors, see `fingerprint`
//! footer, 64 bytes
//!    0  u32 CRC-32C of each of the ten sections, without its filling
//!   40  zeros                       60  u32 CRC-32C of bytes 0..60
//! ```
//!
//! Vectors are not in the file: the caller keeps them elsewhere, and gives them back one by one (`Loading`). Where a
//! vector is not what it was, or is gone, its node is removed.
//!
//! A file has no keys and no LSN: the caller knows what ids mean, and wraps the file. Whatever does not fit
//! exactly is refused; the caller rebuilds. Nothing is allocated before the bytes that fill it were read.

mod loading;
mod read;
mod write;

use std::io;

use crate::ranking::Resolution;

pub use self::loading::{Loading, fuzz_load};
pub use self::read::Input;

const MAGIC: &[u8; 8] = b"ENGRHNSW";
const FORMAT_VERSION: u32 = 4;
const ALIGNMENT_BYTES: usize = 64;
const CHUNK_BYTES: usize = 64 << 10;
/// Far above any embedding; keeps a damaged header from asking for absurd rows.
const DIMENSION_MAX: usize = 1 << 20;
const SECTIONS: [&str; 10] = [
    "ids",
    "states",
    "levels",
    "members",
    "base links",
    "upper links",
    "norms",
    "centre",
    "codes",
    "fingerprints",
];
/// In the byte of a state: what codes are good for there.
const RESOLUTIONS: [(Resolution, u8); 3] =
    [(Resolution::Links, 0), (Resolution::Walks, 4), (Resolution::Nothing, 4 | 8)];
const RESOLUTION_BITS: u8 = 4 | 8;
/// And: its id has gone.
const HEADLESS: u8 = 32;
/// In the place of a member: they differ in some bytes.
const UNEQUAL: u32 = 1 << 31;

/// Why a saved graph was not taken. The caller rebuilds from the vectors.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the saved graph cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("this is not a saved graph")]
    Magic,
    #[error("the saved graph has format version {0}, which this build does not know")]
    Version(u32),
    #[error("the saved graph is damaged: checksum of {0}")]
    Checksum(&'static str),
    #[error("the saved graph is damaged: {0}")]
    Damaged(&'static str),
}

/// Puts the checksum of a 64-byte block into its last word.
fn seal(block: &mut [u8; 64]) {
    let crc = crc32c::crc32c(&block[..60]);
    block[60..].copy_from_slice(&crc.to_le_bytes());
}

fn filling(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT_BYTES) - bytes
}

/// Tells vectors apart: 64 bits, of four sums over every fourth word, each multiplied on (the constants are those of
/// SplitMix64). Two that differ have the same with a chance of about 2^-64; a vector that passes for another
/// is found less well, and its distances are right all the same. Part of the format.
pub(super) fn fingerprint(vector: &[u8]) -> u64 {
    const FACTOR: u64 = 0xBF58_476D_1CE4_E5B9;
    let mix = |sum: u64, word: u64| ((sum ^ word).wrapping_mul(FACTOR)).rotate_left(29);
    let mut sums = [1, 2, 3, vector.len() as u64];
    let (blocks, rest) = vector.as_chunks::<32>();
    for block in blocks {
        for (sum, &word) in sums.iter_mut().zip(block.as_chunks().0) {
            *sum = mix(*sum, u64::from_le_bytes(word));
        }
    }
    let sum = rest.iter().fold(0, |sum, &byte| mix(sum, u64::from(byte)));
    let all = sums.iter().fold(sum, |all, &sum| mix(all, sum));
    (all ^ all >> 31).wrapping_mul(0x94D0_49BB_1331_11EB)
}
