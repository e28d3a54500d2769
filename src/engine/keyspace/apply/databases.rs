//! Effects on whole databases.

use super::{EffectOutcome, Keyspace};
use crate::keyspace::Database;
use crate::keyspace::garbage::Garbage;

pub(super) fn flush(keyspace: &mut Keyspace, number: u32) -> EffectOutcome {
    let flushed = std::mem::take(keyspace.database_mut(number));
    keyspace.database_mut(number).access = keyspace.access;
    EffectOutcome { count: flushed.len(), garbage: Garbage::Databases(vec![flushed]), mismatch: false }
}

pub(super) fn flush_all(keyspace: &mut Keyspace) -> EffectOutcome {
    let flushed: Vec<_> = keyspace.databases.iter_mut().map(std::mem::take).collect();
    let access = keyspace.access;
    keyspace.databases.iter_mut().for_each(|database| database.access = access);
    let count = flushed.iter().map(Database::len).sum();
    EffectOutcome { count, garbage: Garbage::Databases(flushed), mismatch: false }
}

pub(super) fn swap(keyspace: &mut Keyspace, first: u32, second: u32) -> EffectOutcome {
    keyspace.database_mut(first.max(second));
    keyspace.databases.swap(first as usize, second as usize);
    EffectOutcome::count(1)
}
