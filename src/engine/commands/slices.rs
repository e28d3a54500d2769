//! Reads of many keys or fields: each look at the keyspace reads a slice, and the reply is still consistent
//! as of one moment.
//!
//! A hash is walked while it does not change; if it changes, the walk starts again, and in the end it takes
//! one look. A walk over all keys records which keys change meanwhile, and looks at these again.

use crate::command::{Looks, Reply};
use crate::error::CommandError;
use crate::gate::ReplyGate;
use crate::store::view::HashView;
use crate::types::{Field, StringRef};
use std::sync::Arc;

/// Up to this many keys or fields are read at once on the thread that received the command.
pub const AT_ONCE: usize = 2048;
/// The maximum number of keys or fields that one look reads.
pub const SLICE: usize = 256;
/// The approximate number of bytes that one look copies.
const SLICE_BYTES: usize = 256 * 1024;
/// The number of interrupted walks over a hash after which it is read in one look.
const ATTEMPTS: usize = 4;

/// Strings that were copied out of the keyspace. Large ones are referenced.
#[derive(Default)]
pub struct Copied {
    /// All chunks except the last have `CHUNK_ITEMS` items.
    chunks: Vec<Chunk>,
    length: usize,
    bytes: usize,
    /// There is more content than the reader accepts.
    is_beyond: bool,
}

#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// The end of each item in the bytes.
    ends: Vec<usize>,
    /// The referenced items, by index.
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

    /// The memory of the copies, plus the size of referenced strings.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records that there is more content than the reader accepts: the rest need not be copied.
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

    /// The item, if it was copied and not referenced.
    pub fn get(&self, at: usize) -> &[u8] {
        self.chunks[at / CHUNK_ITEMS].here(at % CHUNK_ITEMS)
    }

    pub fn write(&self, at: usize, reply: &mut dyn Reply) {
        self.chunks[at / CHUNK_ITEMS].write(at % CHUNK_ITEMS, reply);
    }

    /// Writes all items, and frees those that were written on the way.
    pub fn write_all(self, reply: &mut dyn Reply) {
        if self.is_beyond {
            return reply.give_up();
        }
        for chunk in self.chunks {
            (0..chunk.ends.len()).for_each(|at| chunk.write(at, reply));
        }
    }
}

/// Which parts of a hash are copied.
#[derive(Clone, Copy)]
pub struct Parts {
    pub names: bool,
    pub values: bool,
}

/// The fields of a hash as of one moment; none if the key does not exist. The copy stops beyond `room` bytes.
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

/// The sum of `of` over all fields of a hash as of one moment.
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

/// The result that a walk accumulates.
pub trait Gathered: Default {
    /// The number of bytes copied.
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

/// A walk over a hash, one slice per step.
pub struct Walk {
    cursor: u64,
    /// The batch that had last changed the key when the walk began, and the time then.
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

    /// Whether the next step is the first one of a walk, or of a restarted walk.
    pub fn begins(&self) -> bool {
        self.began.is_none()
    }

    /// Whether the next step would read everything in one look, because the hash has changed too often.
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
            // The hash has changed, or has expired as a whole.
            _ => return self.begin_again(gathered),
        };
        let is_last_attempt = self.attempts == ATTEMPTS;
        let count = if is_last_attempt { usize::MAX } else { self.count };
        let (before, mut taken) = (gathered.bytes(), 0);
        // Fields that have expired since the walk began existed at its beginning.
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
