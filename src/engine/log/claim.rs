//! The payload of a Claim: who claims, and behind what. A run of fields, in any order, each at most once:
//!
//! ```text
//!   0  2  tag
//!   2  4  length of the value in bytes
//!   6     value
//!
//! tag  value
//!   1  the node's name, UTF-8: information for people
//!   2  16 bytes, random for each claim: what identifies it, for a name may be used twice
//!   3  16 bytes: the epoch before the claim and the index of its last entry, 8 each, as the writer read them
//! ```
//!
//! A reader passes over a field whose tag it does not know, and shows it. A field that a reader must
//! understand raises the `needs` of its entry, which stops older readers. The rest of what a claim states is
//! in the entry's header: its epoch, the engine time, the last LSN and the running checksum through it.

use super::{Epoch, Idx, Mark};

const FIELD_HEADER_BYTES: usize = 6;
const TAG_NODE: u16 = 1;
const TAG_ID: u16 = 2;
const TAG_PREVIOUS: u16 = 3;

/// What the payload of a Claim states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimRecord {
    pub node: String,
    /// Zero if the claim does not state it.
    pub id: ClaimId,
    /// The epoch before, and the index of its last entry that counts.
    pub previous: Option<(Epoch, Idx)>,
    /// Fields of a newer version: tag and value.
    pub unknown: Vec<(u16, Vec<u8>)>,
}

/// Identifies a claim: random, of 16 bytes.
pub type ClaimId = [u8; 16];

impl ClaimRecord {
    pub fn new(node: &str, id: ClaimId, behind: Mark) -> ClaimRecord {
        let previous = Some((behind.epoch, behind.index));
        ClaimRecord { node: node.to_owned(), id, previous, unknown: Vec::new() }
    }

    /// Appends the fields.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let known = [TAG_NODE, TAG_ID, TAG_PREVIOUS];
        assert!(self.unknown.iter().all(|(tag, _)| !known.contains(tag)), "each field is there once");
        put(TAG_NODE, self.node.as_bytes(), out);
        put(TAG_ID, &self.id, out);
        if let Some((epoch, index)) = self.previous {
            let [mut bytes, index] = [epoch.0, index.0].map(|word| word.to_le_bytes().to_vec());
            bytes.extend_from_slice(&index);
            put(TAG_PREVIOUS, &bytes, out);
        }
        self.unknown.iter().for_each(|(tag, value)| put(*tag, value, out));
    }

    /// `None` if the payload is malformed.
    pub fn decode(mut payload: &[u8]) -> Option<ClaimRecord> {
        let mut claim = ClaimRecord::default();
        let mut seen = Vec::new();
        while !payload.is_empty() {
            let (header, rest) = payload.split_first_chunk::<FIELD_HEADER_BYTES>()?;
            let [t0, t1, l0, l1, l2, l3] = *header;
            let tag = u16::from_le_bytes([t0, t1]);
            let (value, rest) = rest.split_at_checked(u32::from_le_bytes([l0, l1, l2, l3]) as usize)?;
            if seen.contains(&tag) {
                return None;
            }
            match tag {
                TAG_NODE => claim.node = String::from_utf8(value.to_vec()).ok()?,
                TAG_ID => claim.id = value.try_into().ok()?,
                TAG_PREVIOUS => {
                    let (epoch, index) = value.split_first_chunk::<8>()?;
                    let index: [u8; 8] = index.try_into().ok()?;
                    claim.previous =
                        Some((Epoch(u64::from_le_bytes(*epoch)), Idx(u64::from_le_bytes(index))));
                }
                _ => claim.unknown.push((tag, value.to_vec())),
            }
            seen.push(tag);
            payload = rest;
        }
        Some(claim)
    }
}

fn put(tag: u16, value: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(value.len()).expect("a claim's fields are short");
    out.extend_from_slice(&tag.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> ClaimRecord {
        let behind = Mark { epoch: Epoch(7), index: Idx(9), ..Mark::default() };
        ClaimRecord::new("node", [3; 16], behind)
    }

    fn encoded(claim: &ClaimRecord) -> Vec<u8> {
        let mut bytes = Vec::new();
        claim.encode(&mut bytes);
        bytes
    }

    #[test]
    fn a_claim_comes_back_as_written() {
        assert_eq!(ClaimRecord::decode(&encoded(&claim())), Some(claim()));
    }

    #[test]
    fn fields_of_a_newer_version_are_kept() {
        let newer = ClaimRecord { unknown: vec![(9, b"zone a".to_vec()), (10, vec![])], ..claim() };
        assert_eq!(ClaimRecord::decode(&encoded(&newer)), Some(newer));
    }

    #[test]
    fn a_malformed_claim_is_none() {
        let bytes = encoded(&claim());
        let whole_fields = [0, 10, 32, bytes.len()];
        for length in (0..bytes.len()).filter(|length| !whole_fields.contains(length)) {
            assert_eq!(ClaimRecord::decode(&bytes[..length]), None, "cut at {length}");
        }
        assert_eq!(ClaimRecord::decode(&[bytes.clone(), bytes].concat()), None, "a field twice");
    }
}
