//! Results that are stored as a sorted set.

use crate::commands::delete_key;
use crate::effect::{Effect, ScoredList};
use crate::keyspace::{SAVED_BYTES_MAX, SAVED_PARTS_MAX};
use crate::store::tx::Tx;
use crate::types::ScoredMember;

/// What a member takes in the log beside its bytes: the score and a length.
const MEMBER_OVERHEAD_BYTES: usize = 12;
/// What an effect takes beside its key and its members.
const EFFECT_OVERHEAD_BYTES: usize = 64;

/// Makes the key a sorted set with these members, whatever it was before, and notifies the event; deletes it
/// if there are none.
pub fn store(tx: &mut Tx<'_>, key: &[u8], members: &[(f64, Vec<u8>)], event: &'static str) {
    if members.is_empty() {
        tx.event("del");
        delete_key(tx, key);
        return;
    }
    // What was there is replaced, which is no event of its own.
    tx.event("");
    delete_key(tx, key);
    tx.event(event);
    let limits = tx.encoding_limits();
    let is_short = |(_, member): &(f64, Vec<u8>)| member.len() as u64 <= limits.sorted_set_value;
    // Redis's compact encoding has no negative zero.
    let zero = match members.len() as u64 <= limits.sorted_set_entries && members.iter().all(is_short) {
        true => 0.0,
        false => -0.0,
    };
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    for (at, (score, member)) in members.iter().enumerate() {
        bytes += member.len();
        chunk.push(ScoredMember { score: *score + zero, member });
        if chunk.len() == SAVED_PARTS_MAX || bytes >= SAVED_BYTES_MAX || at + 1 == members.len() {
            tx.apply(Effect::SortedSetAdd { key, members: ScoredList::Pairs(&chunk) });
            (bytes, chunk) = (0, Vec::new());
        }
    }
}

/// The most bytes that `store` logs for this many members, which have `bytes` bytes together.
pub fn room_to_store(key: &[u8], members: usize, bytes: usize) -> usize {
    let effects = 2 + members / SAVED_PARTS_MAX + bytes / SAVED_BYTES_MAX;
    bytes + members * MEMBER_OVERHEAD_BYTES + effects * (key.len() + EFFECT_OVERHEAD_BYTES)
}
