//! From a value to RDB's bytes.

use super::streams::StreamSaver;
use crate::effect::Effect;
use crate::keyspace::{TypedValue, ValueRef};
use crate::types::HashRef;
use engramdb_rdb::{module_id, payload, writer};
use std::io;

/// A type whose values RDB has no form for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("values of type {0} have no form in RDB")]
pub struct UnsavedType(pub &'static str);

/// The payload of DUMP.
pub fn dump(value: ValueRef<'_>, now_ms: u64) -> Result<Vec<u8>, UnsavedType> {
    let mut out = Vec::new();
    let version = save_value(value, now_ms, &mut out)?;
    payload::seal(version, &mut out);
    Ok(out)
}

/// Appends type and bytes of a value as it is at this moment: fields that have expired are left out. Returns
/// the lowest version of RDB that has the value in this form.
pub fn save_value(value: ValueRef<'_>, now_ms: u64, out: &mut Vec<u8>) -> Result<u32, UnsavedType> {
    match value {
        ValueRef::String(string) => string.with_bytes(|text| writer::string(text, out)),
        ValueRef::Hash(hash) if hash.expiring() > 0 => return Ok(save_timed_hash(hash, now_ms, out)),
        ValueRef::Hash(hash) => {
            writer::hash(hash.len(), out);
            for field in hash.iter() {
                writer::put_string(field.name, out);
                field.value.with_bytes(|value| writer::put_string(value, out));
            }
        }
        ValueRef::Object(object) => save_object(object, out)?,
        ValueRef::Small(small) => save_object(&*small.unpack(), out)?,
    }
    Ok(writer::VERSION)
}

fn save_timed_hash(hash: HashRef<'_>, now_ms: u64, out: &mut Vec<u8>) -> u32 {
    let alive = || hash.iter().filter(|field| field.alive(now_ms));
    let first_ms = alive().map(|field| field.expires_at_ms).filter(|at| *at != 0).min();
    let (count, first_ms) = (alive().count(), first_ms.unwrap_or(0));
    writer::timed_hash(count, first_ms, out);
    for field in alive() {
        field.value.with_bytes(|value| {
            writer::timed_field(first_ms, (field.name, value), field.expires_at_ms, out);
        });
    }
    writer::VERSION_TIMES
}

/// A type of the engine is what its effects build; a module's has a text.
fn save_object(object: &dyn TypedValue, out: &mut Vec<u8>) -> Result<(), UnsavedType> {
    let data_type = object.data_type();
    let name = data_type.name();
    if data_type.module() == 0 {
        return save_parts(object, out).map_err(|_| UnsavedType(name));
    }
    let stored = object.rdb_text().and_then(|(version, text)| Some((module_id(name, version)?, text)));
    let (id, text) = stored.ok_or(UnsavedType(name))?;
    writer::module_string(id, &text, out);
    Ok(())
}

/// Appends the parts of a value of the engine's type.
fn save_parts(object: &dyn TypedValue, out: &mut Vec<u8>) -> io::Result<()> {
    let (mut has_begun, mut stream) = (false, None);
    let mut each = |effect: &Effect<'_>| {
        let begins = !std::mem::replace(&mut has_begun, true);
        match *effect {
            Effect::ListPush { elements, .. } => {
                if begins {
                    writer::list(object.len(), out);
                }
                elements.iter().for_each(|element| writer::put_string(element, out));
            }
            Effect::SetAdd { members, .. } => {
                if begins {
                    writer::set(object.len(), out);
                }
                members.iter().for_each(|member| writer::put_string(member, out));
            }
            Effect::SortedSetAdd { members, .. } => {
                if begins {
                    writer::sorted_set(object.len(), out);
                }
                members.iter().for_each(|entry| writer::scored(entry.member, entry.score, out));
            }
            ref other => {
                let saver: &mut StreamSaver = stream.get_or_insert_with(StreamSaver::new);
                if !saver.take(other) {
                    return Err(io::ErrorKind::Unsupported.into());
                }
            }
        }
        Ok(())
    };
    let mut cursor = 0;
    loop {
        cursor = object.save(b"", cursor, &mut each)?;
        if cursor == 0 {
            break;
        }
    }
    if let Some(stream) = stream {
        writer::stream(out);
        stream.finish(out);
    }
    Ok(())
}
