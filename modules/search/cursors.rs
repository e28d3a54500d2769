//! Cursors: aggregations that wait for their next read.
//!
//! A cursor belongs to its index, and ends with it: with FT.DROPINDEX, FLUSHDB and FLUSHALL. It ends when it
//! was not read for its MAXIDLE too. Cursors are bounded by their number for each index, and by the memory of
//! all together. What has ended is freed by background work, without the keyspace's lock.

use crate::error::{Kind, SearchError};
use crate::index::Index;
use crate::settings::Settings;
use engramdb_engine::env::Env;
use engramdb_engine::hashing::HashMap;
use parking_lot::Mutex;
use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Ids are below this, so that all clients can read them.
const IDS: u64 = 1 << 48;

/// The cursors of all indexes that are not being read.
pub struct CursorRegistry {
    env: Env,
    settings: Arc<Settings>,
    idle: Mutex<IdleCursors>,
}

#[derive(Default)]
struct IdleCursors {
    cursors: HashMap<u64, IdleCursor>,
    /// Their ids by the time at which they end.
    by_end: BTreeSet<(Duration, u64)>,
    /// How many there are of each index, by its id.
    counts: HashMap<u64, usize>,
    /// Those that have ended and are not freed yet.
    ended: Vec<IdleCursor>,
    /// Bytes of `cursors`.
    bytes: usize,
}

/// A cursor that waits. Its state is of a type that only its commands know.
pub struct IdleCursor {
    pub state: Box<dyn Any + Send>,
    pub index: Arc<Index>,
    /// The bytes that it takes, estimated.
    pub bytes: usize,
    /// When it ends, on the monotonic clock.
    pub until: Duration,
}

impl IdleCursors {
    fn insert(&mut self, id: u64, cursor: IdleCursor) {
        self.bytes += cursor.bytes;
        self.by_end.insert((cursor.until, id));
        *self.counts.entry(cursor.index.definition.id).or_default() += 1;
        self.cursors.insert(id, cursor);
    }

    fn remove(&mut self, id: u64) -> Option<IdleCursor> {
        let cursor = self.cursors.remove(&id)?;
        self.bytes -= cursor.bytes;
        self.by_end.remove(&(cursor.until, id));
        let index = cursor.index.definition.id;
        if let Some(count) = self.counts.get_mut(&index) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&index);
            }
        }
        Some(cursor)
    }

    /// Ends cursors, which are freed later.
    fn end(&mut self, ids: &[u64]) {
        for &id in ids {
            let cursor = self.remove(id);
            self.ended.extend(cursor);
        }
    }
}

impl CursorRegistry {
    pub fn new(env: Env, settings: Arc<Settings>) -> CursorRegistry {
        CursorRegistry { env, settings, idle: Mutex::default() }
    }

    /// Fails if the index has as many cursors as it may have.
    pub fn check_room(&self, index: &Arc<Index>) -> Result<(), SearchError> {
        self.end_idle();
        let most = self.settings.index_cursors_max();
        if self.count_of(index) < most {
            return Ok(());
        }
        Err(Kind::CursorsOver.with([most.to_string().into()]))
    }

    /// How many idle cursors an index has.
    pub fn count_of(&self, index: &Arc<Index>) -> usize {
        self.idle.lock().counts.get(&index.definition.id).copied().unwrap_or_default()
    }

    /// Keeps a cursor until its next read, under the id that it had, or a new one if that is 0.
    pub fn keep(&self, cursor: IdleCursor, mut id: u64) -> Result<u64, SearchError> {
        // One that comes back had its place.
        if id == 0 {
            self.check_room(&cursor.index)?;
        }
        let mut idle = self.idle.lock();
        let limit = self.settings.cursor_memory();
        if idle.bytes + cursor.bytes > limit {
            return Err(Kind::CursorMemory.with([limit.to_string().into()]));
        }
        while id == 0 || idle.cursors.contains_key(&id) {
            id = self.env.random.next_u64() % IDS;
        }
        idle.insert(id, cursor);
        Ok(id)
    }

    /// Takes a cursor of an index.
    pub fn take(&self, id: u64, index: Option<&Arc<Index>>) -> Option<IdleCursor> {
        self.end_idle();
        let mut idle = self.idle.lock();
        let cursor = idle.cursors.get(&id)?;
        if !index.is_some_and(|index| is_same(index, &cursor.index)) {
            return None;
        }
        idle.remove(id)
    }

    /// Ends a cursor whose id no reply contains.
    pub fn end_untold(&self, id: u64) {
        self.idle.lock().end(&[id]);
    }

    /// Ends the cursors that were idle for too long. Returns how many.
    pub fn end_idle(&self) -> usize {
        let now = self.env.clock.monotonic();
        let idle = &mut *self.idle.lock();
        let over: Vec<u64> =
            idle.by_end.iter().take_while(|(until, _)| *until <= now).map(|(_, id)| *id).collect();
        idle.end(&over);
        over.len()
    }

    /// Ends the cursors of an index that is dropped.
    pub fn end_of_index(&self, index: &Index) {
        let idle = &mut *self.idle.lock();
        let own = idle.cursors.iter().filter(|(_, cursor)| is_same(&cursor.index, index));
        let own: Vec<u64> = own.map(|(id, _)| *id).collect();
        idle.end(&own);
    }

    /// Whether there is something to free.
    pub fn has_ended(&self) -> bool {
        self.end_idle();
        !self.idle.lock().ended.is_empty()
    }

    /// Takes what has ended; the caller drops it without the keyspace's lock.
    pub fn take_ended(&self) -> Option<Box<dyn FnOnce() + Send>> {
        let ended = std::mem::take(&mut self.idle.lock().ended);
        if ended.is_empty() { None } else { Some(Box::new(move || drop(ended))) }
    }

    /// The number of idle cursors, and their bytes, estimated.
    pub fn totals(&self) -> (usize, usize) {
        let idle = self.idle.lock();
        (idle.cursors.len(), idle.bytes)
    }
}

/// Whether both are the same index, which FT.ALTER may have changed in between.
fn is_same(one: &Index, other: &Index) -> bool {
    one.definition.id == other.definition.id
}
