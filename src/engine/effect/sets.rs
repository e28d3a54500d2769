//! Effects on sets.

macro_rules! set_effects {
    ([$next:ident $($later:ident)*] $($rows:tt)*) => {
        $next! { [$($later)*] $($rows)*

        /// Adds members to a set; creates it where absent.
        SetAdd(21, Key, BUILDS) { key: &'a [u8] as Key, members: List<'a> as Names } " {key} {members}";

        /// Removes members of a set; a set without members is removed with its last one.
        SetRemove(22, Key) { key: &'a [u8] as Key, members: List<'a> as Names } " {key} {members}";
        }
    };
}
