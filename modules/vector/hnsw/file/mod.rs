//! The saved form of a graph: plain little-endian arrays, so that loading is reading and checking.
//!
//! ```text
//! header, 64 bytes
//!    0  "ENGRHNSW"
//!    8  u32 format version (4)
//!   12  u8 metric (0 L2, 1 inner product, 2 cosine)
//!   13  u8 element, u8 quantization (their positions in `ALL`), u8 0
//!   16  u32 dimension
//!   20  u32 M                       24  u32 ef_construction
//!   28  u32 slots                   32  u64 seed
//!   40  u32 upper blocks            44  u32 entry slot + 1, or 0
//!   48  u32 level of the entry      52  u32 1 if there are codes, else 0
//!   56  u32 members
//!   60  u32 CRC-32C of bytes 0..60
//! sections, each padded with zeros to a multiple of 64 bytes
//!   ids            u32 x slots
//!   states         u8  x slots              0 free, 2 live, 3 deleted but still a way through;
//!                                           plus 4 if codes are too imprecise to choose links by,
//!                                           plus 8 if they are too imprecise for walks,
//!                                           plus 32 for a live place whose own id was removed
//!   levels         u8  x slots
//!   members        2 u32 x members          slot, in ascending order, and slot of its place
//!                                           (copies.rs), the latter with the top bit set if their
//!                                           vectors are not equal byte for byte
//!   base links     u32 x 2 M x slots        slot + 1, with the top bit set if kept (tree.rs);
//!                                           the first 0 ends a block
//!   upper links    u32 x M x upper blocks   by slot, then by layer from 1
//!   norms          f32 x slots              one over the length; cosine only, else empty
//!   centre         f32 x dimension          the centre of the codes; empty without codes
//!   codes          rows of codes.rs x slots; empty without codes
//!   fingerprints   u64 x slots              of the vectors, see `fingerprint`
//! footer, 64 bytes
//!    0  u32 CRC-32C of each of the ten sections, without its padding
//!   40  zeros                       60  u32 CRC-32C of bytes 0..60
//! ```
//!
//! Vectors are not in the file: the caller stores them elsewhere, and restores them one by one (`Loading`). A
//! node whose vector has changed or is missing is removed.
//!
//! A file contains no keys and no LSN: the caller knows the meaning of the ids, and stores the file together
//! with those. A file that violates the format in any way is refused, and the caller rebuilds the graph.
//! Memory is allocated only as the bytes that fill it are read.

mod loading;
mod read;
mod write;

use std::io;

use crate::store::Resolution;

pub use self::loading::{Loading, fuzz_load};
pub use self::read::Input;

const MAGIC: &[u8; 8] = b"ENGRHNSW";
const FORMAT_VERSION: u32 = 4;
const ALIGNMENT_BYTES: usize = 64;
const CHUNK_BYTES: usize = 64 << 10;
/// Far above any embedding; prevents a damaged header from requesting huge rows.
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
/// In the byte of a state: what codes are precise enough for around the slot.
const RESOLUTIONS: [(Resolution, u8); 3] =
    [(Resolution::Links, 0), (Resolution::Walks, 4), (Resolution::Nothing, 4 | 8)];
const RESOLUTION_BITS: u8 = 4 | 8;
/// In the byte of a state: the slot's id was removed.
const HEADLESS: u8 = 32;
/// In the entry of a member: its vector is not equal to that of its place byte for byte.
const UNEQUAL: u32 = 1 << 31;

/// Why a saved graph was refused. The caller rebuilds the graph from the vectors.
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

/// Writes the checksum of a 64-byte block to its last word.
fn seal(block: &mut [u8; 64]) {
    let crc = crc32c::crc32c(&block[..60]);
    block[60..].copy_from_slice(&crc.to_le_bytes());
}

fn filling(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT_BYTES) - bytes
}

/// A 64-bit hash of a vector: four sums over every fourth word, each multiplied at every step (the constants
/// are those of SplitMix64). Two different vectors have the same fingerprint with a probability of about
/// 2^-64; a vector that is mistaken for another is found less well, but its distances are correct. Part of
/// the format.
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
