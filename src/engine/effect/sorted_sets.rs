//! Effects on sorted sets.

macro_rules! sorted_set_effects {
    ([$next:ident $($later:ident)*] $($rows:tt)*) => {
        $next! { [$($later)*] $($rows)*

        /// Sets the scores of members, one after the other; creates the set where absent.
        SortedSetAdd(23, Key, BUILDS) {
            key: &'a [u8] as Key, members: ScoredList<'a> as Scores
        } " {key} {members}";

        /// Removes members; a set without members is removed with its last one.
        SortedSetRemove(24, Key) { key: &'a [u8] as Key, members: List<'a> as Names } " {key} {members}";

        /// Removes the members of `count` ranks from `first` on, which exist.
        SortedSetRemoveRange(25, Key) {
            key: &'a [u8] as Key, first: u64 as Offset, count: u64 as Offset
        } " {key} {count} from rank {first}";
        }
    };
}
