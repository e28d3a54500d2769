//! Effects on keys of any type.

use super::{Effect, Record};

macro_rules! key_effects {
    ([$next:ident $($later:ident)*] $($rows:tt)*) => {
        $next! { [$($later)*] $($rows)*

        /// Removes a key.
        Delete(1, Key) { key: &'a [u8] as Key, cause: Cause as Reason } " {key}{cause}";

        /// Sets the expiry of a key that exists; 0 removes it.
        Expire(2, Key, BUILDS) { key: &'a [u8] as Key, expires_at_ms: u64 as At } " {key}{expires_at_ms}";

        /// Moves a value with its expiry to another key of the same database, replacing what is there.
        Rename(9, Keys) { key: &'a [u8] as Key, to: &'a [u8] as Rest } " {key} to {to}";

        /// Copies a value with its expiry, replacing what is there.
        Copy(10, Keys) { key: &'a [u8] as Key, to_database: u32 as DatabaseNumber, to: &'a [u8] as Rest }
            " {key} to {to} in database {to_database}";

        /// Moves a key to another database where it is absent.
        Move(11, Keys) { key: &'a [u8] as Key, to_database: u32 as DatabaseNumber } " {key} to database {to_database}";
        }
    };
}

impl<'a> Effect<'a> {
    /// Calls `each` for every key that the effect changes, with its database.
    pub fn changed_keys(&self, database: u32, each: &mut dyn FnMut(u32, &'a [u8])) {
        match (Record { database, effect: *self }).pair() {
            Some([_, (to_database, to)]) if matches!(self, Effect::Copy { .. }) => each(to_database, to),
            Some(pair) => pair.into_iter().for_each(|(database, key)| each(database, key)),
            None => self.key().into_iter().for_each(|key| each(database, key)),
        }
    }
}

impl<'a> Record<'a> {
    /// The two keys of an effect of scope Keys: where the value comes from, and where it goes. `None` for
    /// other scopes.
    #[inline]
    pub fn pair(&self) -> Option<[(u32, &'a [u8]); 2]> {
        let database = self.database;
        match self.effect {
            Effect::Rename { key, to } => Some([(database, key), (database, to)]),
            Effect::Copy { key, to, to_database } => Some([(database, key), (to_database, to)]),
            Effect::Move { key, to_database } => Some([(database, key), (to_database, key)]),
            _ => None,
        }
    }
}
