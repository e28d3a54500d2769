//! Effects of modules: their kinds and payloads are their own, so that there is one variant for all of them.
//!
//! One with a key changes the value of that key, which is of the module's data type (`keyspace::DataType`).
//! It is routed like any other effect on a key. One without changes what the module keeps for the database
//! (definitions of indexes).

use super::codec::{Reader, Sink, put_bytes};
use super::kinds::shown_bytes;
use super::{Effect, EffectDecodeError, Scope};
use std::fmt;

/// Where the payload of an effect begins, and whose it is.
pub(super) fn scope_of(key: Option<&[u8]>) -> Scope {
    if key.is_some() { Scope::Key } else { Scope::Database }
}

#[inline]
pub(super) fn put(out: &mut impl Sink, key: Option<&[u8]>, payload: &[u8]) {
    if let Some(key) = key {
        put_bytes(out, key);
    }
    out.put_word(payload);
}

/// An effect of a module, whose scope says whether it has a key.
pub(super) fn take<'a>(
    [module, version, kind, scope]: [u8; 4],
    mut reader: Reader<'a>,
) -> Result<Effect<'a>, EffectDecodeError> {
    const DATABASE: u8 = Scope::Database as u8;
    const KEY: u8 = Scope::Key as u8;
    let key = match scope {
        DATABASE => None,
        KEY => Some(reader.counted().ok_or(EffectDecodeError::Malformed(kind))?),
        _ => return Err(EffectDecodeError::Malformed(kind)),
    };
    Ok(Effect::Module { module, version, kind, key, payload: reader.rest() })
}

pub(super) fn show(
    f: &mut fmt::Formatter<'_>,
    (module, kind): (u8, u8),
    key: Option<&[u8]>,
    payload: &[u8],
) -> fmt::Result {
    write!(f, "Module {module} kind {kind}")?;
    if let Some(key) = key {
        write!(f, " {}", shown_bytes(key))?;
    }
    write!(f, " {}", shown_bytes(payload))
}
