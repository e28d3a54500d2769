//! Long lists, copied in slices without the keyspace's lock, and written without it.

use engramdb_engine::command::Looks;

/// Items that one slice copies, under the list's own lock.
pub const SLICE_ITEMS: usize = 1024;

/// What a slice adds for an item beside its own bytes, as it counts for the client's output limit.
const ITEM_BYTES: usize = 16;

/// The items that `slice` returns, which gets the last one that it returned before; it ends with an empty
/// slice. `None` if they would exceed the client's output limit.
pub fn copied<T>(
    looks: &dyn Looks,
    bytes_of: impl Fn(&T) -> usize,
    mut slice: impl FnMut(Option<&T>) -> Vec<T>,
) -> Option<Vec<T>> {
    let (mut all, mut bytes) = (Vec::new(), 0);
    loop {
        let more = slice(all.last());
        if more.is_empty() {
            return Some(all);
        }
        bytes += more.iter().map(|item| bytes_of(item) + ITEM_BYTES).sum::<usize>();
        if bytes > looks.room() {
            return None;
        }
        all.extend(more);
    }
}
