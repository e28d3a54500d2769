//! Copies of large values for writes (see `prepared`): a hash or an object is copied in slices; a string is
//! referenced under the lock and copied outside.

use super::slices::Walk;
use crate::command::Looks;
use crate::effect::{Effect, decode_batch};
use crate::keyspace::{EffectOrigin, Entry, OwnedValue, TypedValue, ValueRef};
use crate::store::prepared::{Copied, Making};
use crate::store::view::View;
use crate::store::watch::Watch;
use crate::types::{Hash, OwnedField, StringRef, StringValue};
use std::sync::Arc;

/// Values of at most this many bytes are copied under the lock, which takes a fraction of a millisecond.
const AT_ONCE_BYTES: usize = 1 << 20;

/// The number of attempts to copy an object that is written to meanwhile.
const ATTEMPTS: usize = 4;

/// The function that copies the value without the lock, if it is so large that others would wait. Large
/// strings are referenced.
pub fn of(entry: &Entry) -> Option<fn(&[u8]) -> Making> {
    let value = entry.value();
    let is_long = value.len() > super::slices::AT_ONCE || entry.heap_bytes() > AT_ONCE_BYTES;
    match value {
        ValueRef::String(_) | ValueRef::Small(_) => None,
        ValueRef::Hash(_) => is_long.then_some(of_hash),
        ValueRef::Object(_) => is_long.then_some(of_object),
    }
}

/// A hash that is being copied.
#[derive(Default)]
struct Fields {
    hash: Hash,
    /// The fields copied by the last look; they are added to the hash after it.
    taken: Vec<OwnedField>,
    bytes: usize,
}

impl super::slices::Gathered for Fields {
    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Copies a hash, including expired fields: the effect copies what is stored.
fn of_hash(key: &[u8]) -> Making {
    let key = key.to_vec();
    Box::new(move |looks| {
        let mut fields = Fields::default();
        let mut walk = Walk::new();
        let mut watch = None;
        while !walk.is_over() {
            looks.look(&mut |view| {
                let watch = watch.get_or_insert_with(|| view.watch(&key));
                let has_changed = watch.dirtied_by();
                let hash = view.hash(&key);
                // At time 0, so that no field counts as expired.
                walk.step(has_changed.unwrap_or_default(), 0, hash, &mut fields, &mut |field, fields| {
                    fields.bytes += field.value.len();
                    fields.taken.push(field.into());
                });
            });
            if walk.begins() {
                watch = None;
            }
            if walk.is_in_vain() {
                return None;
            }
            let Fields { hash, taken, .. } = &mut fields;
            taken.drain(..).for_each(|field| hash.put(field));
        }
        let (hash, watch) = (fields.hash, watch?);
        (!hash.is_empty()).then(|| Copied { value: Box::new(OwnedValue::Hash(Box::new(hash))), watch })
    })
}

/// Copies an object, through the effects in which it is saved.
fn of_object(key: &[u8]) -> Making {
    let key = key.to_vec();
    Box::new(move |looks| (0..ATTEMPTS).find_map(|_| copy_object(looks, &key)).flatten())
}

/// One attempt. `None` if the value has changed meanwhile; `Some(None)` if there is none.
#[expect(clippy::option_option, reason = "an attempt that failed, and nothing to copy")]
fn copy_object(looks: &dyn Looks, key: &[u8]) -> Option<Option<Copied>> {
    let (mut cursor, mut effects) = (0, Vec::new());
    let mut begun = None::<(Box<dyn TypedValue>, Arc<Watch>)>;
    loop {
        let (mut is_there, mut is_same) = (true, true);
        looks.look(&mut |view| {
            let Some(ValueRef::Object(object)) = view.peek(view.database(), key).map(Entry::value) else {
                return is_there = false;
            };
            let (_, watch) = begun.get_or_insert_with(|| (object.data_type().blank(), view.watch(key)));
            is_same = watch.dirtied_by().is_none();
            if is_same {
                effects.clear();
                let mut take = |effect: &Effect<'_>| {
                    effect.encode(0, &mut effects);
                    Ok(())
                };
                cursor = object.save(b"", cursor, &mut take).expect("encoding needs no disk");
            }
        });
        if !is_there {
            return Some(None);
        }
        let (value, watch) = begun.take().filter(|_| is_same)?;
        let value = built(value, &effects);
        if cursor == 0 {
            return Some(Some(Copied { value: Box::new(OwnedValue::Object(value)), watch }));
        }
        begun = Some((value, watch));
    }
}

/// Builds a value from the effects in which it is saved.
fn built(mut value: Box<dyn TypedValue>, effects: &[u8]) -> Box<dyn TypedValue> {
    for record in decode_batch(effects) {
        let effect = record.expect("encoded just now").effect;
        value.apply(&effect, EffectOrigin::Command).expect("what a value is saved as builds one");
    }
    value
}

/// Whether a write to the string up to `end` copies a large part of it, or makes it much longer: because
/// there are other references to it, or because it has no room.
pub fn is_long_to_write(string: Option<StringRef<'_>>, end: usize) -> bool {
    let length = string.map_or(0, StringRef::len);
    let copies = string.is_some_and(|string| string.copies_to_write(end));
    let grows = string.is_none_or(|string| string.shared().is_none());
    length.max(end) > AT_ONCE_BYTES && (copies || grows)
}

/// Copies a string for an APPEND that extends it to `end`.
pub fn of_string_to_append(key: &[u8], end: usize) -> Making {
    of_string(key, move |content| {
        // Spare room, so that a string that is appended to repeatedly is not copied each time.
        let mut copy = Vec::with_capacity(end + end / 4);
        copy.extend_from_slice(content);
        copy
    })
}

/// Copies a string for a SETRANGE up to `end`; pads it with zero bytes.
pub fn of_string_to_write(key: &[u8], end: usize) -> Making {
    of_string(key, move |content| {
        let mut copy = vec![0; end.max(content.len())];
        copy[..content.len()].copy_from_slice(content);
        copy
    })
}

fn of_string(key: &[u8], copy: impl FnOnce(&[u8]) -> Vec<u8> + Send + 'static) -> Making {
    let key = key.to_vec();
    Box::new(move |looks| {
        let mut found = None;
        looks.look(&mut |view| found = content(view, &key).map(|content| (content, view.watch(&key))));
        let (content, watch) = found?;
        let value = Box::new(OwnedValue::String(StringValue::of_large(copy(&content))));
        Some(Copied { value, watch })
    })
}

/// `None` if the key is not a string.
fn content(view: &View<'_>, key: &[u8]) -> Option<Arc<Vec<u8>>> {
    let string = view.string(key).ok()?;
    let copy = |string: StringRef<'_>| Arc::new(string.to_bytes().into_owned());
    Some(string.map_or_else(Arc::default, |string| string.shared().cloned().unwrap_or_else(|| copy(string))))
}
