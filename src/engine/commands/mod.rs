//! One file per family of commands: the table first, then the handlers in its order.
//!
//! # How to add a command
//!
//! 1. Write its handler in the file of its family. It validates, then applies effects: an error after the
//!    first effect would leave half a command.
//! 2. Add its row: `read`, `write`, `blocking`, `staged` or `sliced` of [`crate::command`], with name, usage
//!    (the words after the name, from which arity and keys derive) and handler; then group, flags, ACL
//!    categories and docs. `keys` finds the keys if the usage does not determine them. `room` computes what a
//!    write may log beyond its words, `logs_words` says that it logs large words less often than any may.
//! 3. A command that waits for keys returns `BlockingStage::Park` before any effect or reply, and has
//!    `blocking` for its row, or `blocking_read` if it only reads; both set the flag. Inside EXEC it does not
//!    wait: the reply of a timeout is given at once.
//! 4. What a script must not call has `flag::NO_SCRIPT`.
//!
//! A new family is a file with `COMMANDS`, and a line in [`FAMILIES`].

mod bitfields;
mod bitmaps;
mod comparing;
mod copies;
mod dump;
mod expiry;
mod expiry_option;
mod geo;
mod glob;
mod hash_expiry;
mod hashes;
mod hyperloglogs;
mod increx;
mod keys;
mod lcs;
mod list_blocking;
mod list_reads;
mod lists;
mod memory;
mod object;
mod scan;
mod set_algebra;
mod sets;
mod slices;
mod sort;
mod sorted_sets;
mod streams;
mod strings;

pub use glob::glob_matches;

use crate::command::{Args, Command, CommandError, integer};
use crate::effect::{Cause, Effect};
use crate::keyspace::{Entry, ValueRef};
use crate::store::tx::Tx;
use crate::store::view::View;
use crate::types::StringRef;

/// All commands of the engine itself.
pub const FAMILIES: &[&[Command]] = &[
    strings::COMMANDS,
    comparing::COMMANDS,
    increx::COMMANDS,
    bitmaps::COMMANDS,
    bitfields::COMMANDS,
    hashes::COMMANDS,
    hash_expiry::COMMANDS,
    keys::COMMANDS,
    expiry::COMMANDS,
    scan::COMMANDS,
    object::COMMANDS,
    sorted_sets::COMMANDS,
    lists::COMMANDS,
    list_blocking::COMMANDS,
    sets::COMMANDS,
    set_algebra::COMMANDS,
    sort::COMMANDS,
    geo::COMMANDS,
    hyperloglogs::COMMANDS,
    streams::COMMANDS,
    dump::COMMANDS,
];

/// The number of words whose lookups are prefetched together.
const AHEAD: usize = 16;

/// Groups of `AHEAD` keys. If there are many keys, prefetches the memory that the lookups of a group will
/// read, most of which is not in the cache. A key is the first of `stride` words.
fn ahead<'w>(
    words: &'w [&'w [u8]],
    stride: usize,
    mut prefetch: impl FnMut(&mut dyn Iterator<Item = &'w [u8]>),
) -> impl Iterator<Item = &'w [&'w [u8]]> {
    let is_many = words.len() >= AHEAD * stride;
    words.chunks(AHEAD * stride).inspect(move |group| {
        if is_many {
            prefetch(&mut group.iter().step_by(stride).copied());
        }
    })
}

/// The indexes of keys that follow their number, which is the word at `at`.
fn numkeys(args: Args<'_>, at: usize) -> Result<Vec<usize>, CommandError> {
    const WRONG: CommandError = CommandError::of("ERR Invalid arguments specified for command");
    let count =
        args.get(at).and_then(|word| integer(word).ok()).and_then(|count| usize::try_from(count).ok());
    let count = count.filter(|count| (1..args.len() - at).contains(count)).ok_or(WRONG)?;
    Ok((at + 1..=at + count).collect())
}

fn exists(view: &View<'_>, key: &[u8]) -> bool {
    view.peek(view.database(), key).is_some()
}

/// Milliseconds since the epoch; 0 where the key is absent or never expires.
fn expiry_of(view: &View<'_>, key: &[u8]) -> u64 {
    view.peek(view.database(), key).map_or(0, Entry::expires_at_ms)
}

fn string_of(entry: &Entry) -> Result<StringRef<'_>, CommandError> {
    match entry.value() {
        ValueRef::String(string) => Ok(string),
        _ => Err(CommandError::WRONG_TYPE),
    }
}

/// Deletes the key if it is there; true if it was.
fn delete_key(tx: &mut Tx<'_>, key: &[u8]) -> bool {
    // An expired key is absent: its delete belongs to the expiry and is not counted.
    let present = tx.read(|view| exists(view, key));
    if present {
        tx.apply(Effect::Delete { key, cause: Cause::Command });
    }
    present
}

/// Sets the expiry of a key that is there; a time that has come deletes it, as in Redis.
fn set_expiry(tx: &mut Tx<'_>, key: &[u8], expires_at_ms: u64) {
    if expires_at_ms <= tx.now_ms() {
        delete_key(tx, key);
    } else {
        tx.apply(Effect::Expire { key, expires_at_ms });
    }
}
