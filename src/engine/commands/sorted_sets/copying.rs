//! Reads of many members: they are copied in slices, and the reply is consistent as of one moment.

use super::sorted_set;
use crate::command::{CommandError, Looks, Reply};
use crate::commands::slices::{Copied, SLICE};
use crate::gate::ReplyGate;
use crate::types::{ScoredMember, SortedSetRef};
use std::ops::Range;

/// The number of interrupted copies after which the members are copied in one look.
const ATTEMPTS: usize = 4;

/// Members with their scores.
#[derive(Default)]
pub struct CopiedMembers {
    members: Copied,
    scores: Vec<f64>,
}

impl CopiedMembers {
    pub fn push(&mut self, entry: ScoredMember<'_>) {
        self.members.push(entry.member);
        self.scores.push(entry.score);
    }

    pub fn len(&self) -> usize {
        self.scores.len()
    }

    pub fn get(&self, at: usize) -> ScoredMember<'_> {
        ScoredMember { score: self.scores[at], member: self.members.get(at) }
    }

    pub fn write(self, with_scores: bool, reply: &mut dyn Reply) {
        if self.members.is_beyond() {
            return reply.give_up();
        }
        write_members((0..self.len()).map(|at| self.get(at)), self.len(), with_scores, reply);
    }
}

/// Writes members as an array, with their scores as pairs in RESP3.
pub fn write_members<'m>(
    members: impl Iterator<Item = ScoredMember<'m>>,
    count: usize,
    with_scores: bool,
    reply: &mut dyn Reply,
) {
    let is_nested = with_scores && reply.is_resp3();
    reply.array(if with_scores && !is_nested { count * 2 } else { count });
    for entry in members {
        if is_nested {
            reply.array(2);
        }
        reply.bulk(entry.member);
        if with_scores {
            reply.double(entry.score);
        }
    }
}

/// Copies the members of the ranks that `find` returns, as of one moment; none if the key is absent. The copy
/// stops beyond the room for replies.
pub fn copy_members(
    looks: &dyn Looks,
    key: &[u8],
    is_reverse: bool,
    find: &dyn Fn(SortedSetRef<'_>) -> Range<usize>,
) -> Result<CopiedMembers, CommandError> {
    let mut copied = CopiedMembers::default();
    let (mut attempts, mut began) = (0, None::<(ReplyGate, Range<usize>)>);
    let mut failure = None;
    let mut is_over = false;
    while !is_over {
        looks.look(&mut |view| {
            let changed_by = view.changed_by(key);
            let set = match sorted_set(view, key) {
                Ok(set) => set,
                Err(error) if began.is_none() => {
                    failure = Some(error);
                    return is_over = true;
                }
                Err(_) => None,
            };
            if began.as_ref().is_some_and(|(batch, _)| *batch != changed_by) {
                // The set has changed.
                (copied, began) = (CopiedMembers::default(), None);
                attempts += 1;
            }
            let Some(set) = set else { return is_over = began.is_none() };
            let (_, left) = began.get_or_insert_with(|| (changed_by, find(set)));
            let count = if attempts >= ATTEMPTS { left.len() } else { left.len().min(SLICE) };
            let ranks = match is_reverse {
                true => left.end - count..left.end,
                false => left.start..left.start + count,
            };
            match is_reverse {
                true => left.end = ranks.start,
                false => left.start = ranks.end,
            }
            is_over = left.start == left.end;
            match is_reverse {
                true => set.range(ranks).rev().for_each(|entry| copied.push(entry)),
                false => set.range(ranks).for_each(|entry| copied.push(entry)),
            }
        });
        if copied.members.bytes() > looks.room() {
            copied.members.give_up();
            break;
        }
    }
    failure.map_or(Ok(copied), Err)
}
