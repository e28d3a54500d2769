//! Effects as text, for people (`engramdb log dump`) and golden scripts: the kind, the key, then what is particular.

use super::{Cause, Effect, List, Record};
use std::fmt;

impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show(&self.effect))?;
        if self.database == 0 { Ok(()) } else { write!(f, " (database {})", self.database) }
    }
}

fn show(effect: &Effect<'_>) -> String {
    match *effect {
        Effect::Delete { key, cause } => format!("Delete {}{}", bytes(key), show_cause(cause)),
        Effect::Expire { key, expires_at_ms: 0 } => format!("Expire {} never", bytes(key)),
        Effect::Expire { key, expires_at_ms } => format!("Expire {} at {expires_at_ms}", bytes(key)),
        Effect::StringSet { key, value, expires_at_ms: 0 } => {
            format!("StringSet {} = {}", bytes(key), bytes(value))
        }
        Effect::StringSet { key, value, expires_at_ms } => {
            format!("StringSet {} = {} until {expires_at_ms}", bytes(key), bytes(value))
        }
        Effect::StringAppend { key, suffix } => format!("StringAppend {} + {}", bytes(key), bytes(suffix)),
        Effect::StringWrite { key, offset, content } => {
            format!("StringWrite {} at {offset} = {}", bytes(key), bytes(content))
        }
        Effect::HashSet { key, fields, keep_expiry } => {
            let pairs: Vec<String> =
                fields.pairs().map(|(name, value)| format!("{} = {}", bytes(name), bytes(value))).collect();
            let kept = if keep_expiry { " keeping expiry" } else { "" };
            format!("HashSet {} {}{kept}", bytes(key), pairs.join(", "))
        }
        Effect::HashDelete { key, fields, cause } => {
            format!("HashDelete {} {}{}", bytes(key), names(fields), show_cause(cause))
        }
        Effect::HashExpire { key, fields, expires_at_ms: 0 } => {
            format!("HashExpire {} {} never", bytes(key), names(fields))
        }
        Effect::HashExpire { key, fields, expires_at_ms } => {
            format!("HashExpire {} {} at {expires_at_ms}", bytes(key), names(fields))
        }
        Effect::Rename { key, to } => format!("Rename {} to {}", bytes(key), bytes(to)),
        Effect::Copy { key, to, to_database } => {
            format!("Copy {} to {} in database {to_database}", bytes(key), bytes(to))
        }
        Effect::Move { key, to_database } => format!("Move {} to database {to_database}", bytes(key)),
        Effect::Module { module, kind, payload, .. } => {
            format!("Module {module} kind {kind} {}", bytes(payload))
        }
        Effect::Flush | Effect::FlushAll | Effect::SwapDatabases { .. } => format!("{effect:?}"),
    }
}

fn show_cause(cause: Cause) -> String {
    if cause == Cause::Command { String::new() } else { format!(" ({cause:?})") }
}

fn names(fields: List<'_>) -> String {
    fields.iter().map(bytes).collect::<Vec<_>>().join(", ")
}

/// Quoted and escaped; long ones by their length.
fn bytes(content: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 100;
    match content.len() {
        0..=SHOWN_BYTES_MAX => format!("\"{}\"", content.escape_ascii()),
        length => format!("({length} bytes)"),
    }
}
