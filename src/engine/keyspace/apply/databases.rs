//! Effects on whole databases.

use super::{Keyspace, Outcome};
use crate::keyspace::Database;
use crate::keyspace::garbage::Garbage;

pub(super) fn flush(keyspace: &mut Keyspace, number: u32) -> Outcome {
    let flushed = std::mem::take(keyspace.database_mut(number));
    keyspace.database_mut(number).access_second = keyspace.access_second;
    Outcome { count: flushed.len(), garbage: Garbage::Databases(vec![flushed]), mismatch: false }
}

pub(super) fn flush_all(keyspace: &mut Keyspace) -> Outcome {
    let flushed: Vec<_> = keyspace.databases.iter_mut().map(std::mem::take).collect();
    let access_second = keyspace.access_second;
    keyspace.databases.iter_mut().for_each(|database| database.access_second = access_second);
    let count = flushed.iter().map(Database::len).sum();
    Outcome { count, garbage: Garbage::Databases(flushed), mismatch: false }
}

pub(super) fn swap(keyspace: &mut Keyspace, first: u32, second: u32) -> Outcome {
    keyspace.database_mut(first.max(second));
    keyspace.databases.swap(first as usize, second as usize);
    Outcome::count(1)
}
