//! Reads of much: a slice in each look at the keyspace, and a reply that is true of one moment all the same.
//!
//! A hash is walked while nothing changes it; where something does, the walk begins again, and at last it takes one
//! look. A walk over all keys is told which keys change meanwhile, and looks at these again.

use crate::command::{Looks, Reply};
use crate::error::CommandError;
use crate::gate::ReplyGate;
use crate::shard::view::HashView;
use crate::types::{Field, StringRef};
use std::sync::Arc;

/// Up to so many keys or fields are read where the command came in.
pub const AT_ONCE: usize = 2048;
/// Keys or fields that one look reads, at most.
pub const SLICE: usize = 256;
/// Bytes that one look copies, about.
const SLICE_BYTES: usize = 256 * 1024;
/// Walks over a hash that may be in vain before it is read in one look.
const ATTEMPTS: usize = 4;

/// Strings that were copied out of the keyspace. Large ones are referred to.
#[derive(Default)]
pub struct Copied {
    /// Full ones of `CHUNK_ITEMS`, but for the last.
    chunks: Vec<Chunk>,
    length: usize,
    bytes: usize,
    /// There is more of it than its reader takes.
    is_beyond: bool,
}

#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// Where each item ends in the bytes.
    ends: Vec<usize>,
    /// Those that are not in the bytes, by their place.
    shared: Vec<(usize, Arc<Vec<u8>>)>,
}

const CHUNK_ITEMS: usize = 1024;

impl Chunk {
    fn write(&self, at: usize, reply: &mut dyn Reply) {
        match self.shared(at) {
            Some(content) => reply.bulk_shared(content, 0..content.len()),
            None => reply.bulk(self.here(at)),
        }
    }

    fn here(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.bytes[start..self.ends[at]]
    }

    fn shared(&self, at: usize) -> Option<&Arc<Vec<u8>>> {
        let found = self.shared.binary_search_by_key(&at, |(place, _)| *place).ok()?;
        Some(&self.shared[found].1)
    }
}

impl Copied {
    pub fn len(&self) -> usize {
        self.length
    }

    /// What it takes in memory, and what it refers to.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Says that there is more of it than its reader takes: the rest need not be copied.
    pub fn give_up(&mut self) {
        *self = Copied { is_beyond: true, ..Copied::default() };
    }

    pub fn is_beyond(&self) -> bool {
        self.is_beyond
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        self.next().bytes.extend_from_slice(bytes);
        self.end_item();
    }

    pub fn push_string(&mut self, string: StringRef<'_>) {
        match string.shared() {
            Some(content) => {
                self.bytes += content.len();
                let chunk = self.next();
                let at = chunk.ends.len();
                chunk.shared.push((at, content.clone()));
                self.end_item();
            }
            None => string.with_bytes(|bytes| self.push(bytes)),
        }
    }

    fn next(&mut self) -> &mut Chunk {
        if self.length.is_multiple_of(CHUNK_ITEMS) {
            if let Some(full) = self.chunks.last_mut() {
                full.bytes.shrink_to_fit();
            }
            self.chunks.push(Chunk::default());
        }
        self.chunks.last_mut().expect("made above")
    }

    fn end_item(&mut self) {
        let chunk = self.chunks.last_mut().expect("it has an item");
        chunk.ends.push(chunk.bytes.len());
        self.length += 1;
        self.bytes += size_of::<usize>();
    }

    /// The item, if it was copied and not referred to.
    pub fn get(&self, at: usize) -> &[u8] {
        self.chunks[at / CHUNK_ITEMS].here(at % CHUNK_ITEMS)
    }

    pub fn write(&self, at: usize, reply: &mut dyn Reply) {
        self.chunks[at / CHUNK_ITEMS].write(at % CHUNK_ITEMS, reply);
    }

    /// Writes all items; what was written is given back on the way.
    pub fn write_all(self, reply: &mut dyn Reply) {
        if self.is_beyond {
            return reply.give_up();
        }
        for chunk in self.chunks {
            (0..chunk.ends.len()).for_each(|at| chunk.write(at, reply));
        }
    }
}

/// What is copied of a hash.
#[derive(Clone, Copy)]
pub struct Parts {
    pub names: bool,
    pub values: bool,
}

/// The fields of a hash at one moment; none where there is no such key. Beyond `room` bytes it is given up.
pub fn copy_fields(looks: &dyn Looks, key: &[u8], parts: Parts, room: usize) -> Result<Copied, CommandError> {
    let mut copied = Copied::default();
    let mut walk = Walk::new();
    while !walk.is_over {
        looks.look(&mut |view| {
            walk.step(
                view.changed_by(key),
                view.now_ms(),
                view.hash(key),
                &mut copied,
                &mut |field, copied| {
                    if parts.names {
                        copied.push(field.name);
                    }
                    if parts.values {
                        copied.push_string(field.value);
                    }
                },
            );
        });
        if copied.bytes() > room {
            copied.give_up();
            break;
        }
    }
    walk.failure.map_or(Ok(copied), Err)
}

/// How many fields a hash has, or the sum of something else over all of them, at one moment.
pub fn sum_fields(looks: &dyn Looks, key: &[u8], of: fn(Field<'_>) -> usize) -> Result<usize, CommandError> {
    let mut sum = Sum::default();
    let mut walk = Walk::new();
    while !walk.is_over {
        looks.look(&mut |view| {
            let hash = view.hash(key);
            walk.step(view.changed_by(key), view.now_ms(), hash, &mut sum, &mut |field, sum| {
                sum.0 += of(field)
            });
        });
    }
    walk.failure.map_or(Ok(sum.0), Err)
}

/// What a walk gathers.
pub trait Gathered: Default {
    /// Bytes that were copied.
    fn bytes(&self) -> usize {
        0
    }
}

impl Gathered for Copied {
    fn bytes(&self) -> usize {
        self.bytes
    }
}

#[derive(Default)]
struct Sum(usize);

impl Gathered for Sum {}

/// A walk over a hash, a slice in each step.
pub struct Walk {
    cursor: u64,
    /// The batch that had changed the key last when the walk began, and the time then.
    began: Option<(ReplyGate, u64)>,
    count: usize,
    attempts: usize,
    is_over: bool,
    failure: Option<CommandError>,
}

impl Walk {
    pub fn new() -> Walk {
        Walk { cursor: 0, began: None, count: SLICE, attempts: 0, is_over: false, failure: None }
    }

    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether the next step is the first one, or the first one again.
    pub fn begins(&self) -> bool {
        self.began.is_none()
    }

    /// Whether the next step would take one look for all of it, because it has changed again and again.
    pub fn is_in_vain(&self) -> bool {
        self.attempts == ATTEMPTS
    }

    pub fn step<G: Gathered>(
        &mut self,
        changed_by: ReplyGate,
        now_ms: u64,
        hash: Result<Option<HashView<'_>>, CommandError>,
        gathered: &mut G,
        take: &mut dyn FnMut(Field<'_>, &mut G),
    ) {
        let is_first = self.began.is_none();
        let (batch, began_ms) = *self.began.get_or_insert((changed_by, now_ms));
        let hash = match hash {
            Ok(Some(hash)) if batch == changed_by => hash,
            Ok(None) if is_first => return self.is_over = true,
            Err(failure) if is_first => {
                self.failure = Some(failure);
                return self.is_over = true;
            }
            // It has changed, or expired as a whole.
            _ => return self.begin_again(gathered),
        };
        let is_last_attempt = self.attempts == ATTEMPTS;
        let count = if is_last_attempt { usize::MAX } else { self.count };
        let (before, mut taken) = (gathered.bytes(), 0);
        // What has expired since the walk began was there when it did.
        self.cursor = hash.at(began_ms).scan(self.cursor, count, &mut |field| {
            take(field, gathered);
            taken += 1;
        });
        self.is_over = self.cursor == 0;
        let each = (gathered.bytes() - before) / taken.max(1);
        self.count = (SLICE_BYTES / each.max(1)).clamp(1, SLICE);
    }

    fn begin_again<G: Gathered>(&mut self, gathered: &mut G) {
        *gathered = G::default();
        *self = Walk { attempts: self.attempts + 1, ..Walk::new() };
    }
}
