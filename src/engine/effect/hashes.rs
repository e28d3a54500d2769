//! Effects on hashes.

macro_rules! hash_effects {
    ([$next:ident $($later:ident)*] $($rows:tt)*) => {
        $next! { [$($later)*] $($rows)*

        /// Sets fields of a hash (names and values in turn); creates it where absent. Unless `keep_expiry`,
        /// the fields lose their expiry.
        HashSet(6, Key, BUILDS) {
            key: &'a [u8] as Key, keep_expiry: bool as KeepExpiry, fields: List<'a> as Pairs
        } " {key} {fields}{keep_expiry}";

        /// Removes fields; a hash without fields is removed with its last one.
        HashDelete(7, Key) {
            key: &'a [u8] as Key, cause: Cause as Reason, fields: List<'a> as Names
        } " {key} {fields}{cause}";

        /// Sets the expiry of fields that exist; 0 removes it.
        HashExpire(8, Key, BUILDS) {
            key: &'a [u8] as Key, expires_at_ms: u64 as At, fields: List<'a> as Names
        } " {key} {fields}{expires_at_ms}";
        }
    };
}
