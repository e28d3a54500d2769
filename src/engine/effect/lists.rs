//! Effects on lists.

macro_rules! list_effects {
    ([$next:ident $($later:ident)*] $($rows:tt)*) => {
        $next! { [$($later)*] $($rows)*

        /// Adds elements to one end of a list, one after the other; creates it where absent.
        ListPush(15, Key, BUILDS) {
            key: &'a [u8] as Key, end: ListEnd as End, elements: List<'a> as Names
        } " {key} at the {end}: {elements}";

        /// Removes elements from one end: as many as there are, or fewer.
        ListPop(16, Key) {
            key: &'a [u8] as Key, end: ListEnd as End, count: u64 as Number
        } " {key} {count} from the {end}";

        /// Replaces the element at an index, counted from the front.
        ListSet(17, Key) {
            key: &'a [u8] as Key, index: u64 as Number, element: &'a [u8] as Rest
        } " {key} at {index} = {element}";

        /// Inserts an element before the one at an index, or at the end.
        ListInsert(18, Key) {
            key: &'a [u8] as Key, index: u64 as Number, element: &'a [u8] as Rest
        } " {key} before {index}: {element}";

        /// Removes this number of elements that are equal to a word, the first ones from one end on.
        ListRemove(19, Key) {
            key: &'a [u8] as Key, end: ListEnd as End, count: u64 as Number, element: &'a [u8] as Rest
        } " {key} {count} from the {end}: {element}";

        /// Keeps the elements from one index to before another.
        ListTrim(20, Key) {
            key: &'a [u8] as Key, start: u64 as Number, end: u64 as Number
        } " {key} to {start}..{end}";
        }
    };
}
