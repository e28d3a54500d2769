//! Effects on strings.

macro_rules! string_effects {
    ([$next:ident $($later:ident)*] $($rows:tt)*) => {
        $next! { [$($later)*] $($rows)*

        /// Makes the key a string with this content and expiry (0 for none), whatever it was before.
        StringSet(3, Key, BUILDS) {
            key: &'a [u8] as Key, expires_at_ms: u64 as Until, value: &'a [u8] as Rest
        } " {key} = {value}{expires_at_ms}";

        /// Appends to a string; creates it where absent.
        StringAppend(4, Key) { key: &'a [u8] as Key, suffix: &'a [u8] as Rest } " {key} + {suffix}";

        /// Overwrites a part of a string, padding with zero bytes; creates it where absent.
        StringWrite(5, Key) {
            key: &'a [u8] as Key, offset: u64 as Offset, content: &'a [u8] as Rest
        } " {key} at {offset} = {content}";
        }
    };
}
