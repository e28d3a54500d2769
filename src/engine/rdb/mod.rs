//! Values in Redis's RDB format: what DUMP, RESTORE, `import` and `export` are made of. The bytes are the
//! crate `engramdb-rdb`'s; here parts become effects, and values bytes.

mod load;
mod save;
mod streams;

pub use load::{LoadedParts, PartLoader, load_payload};
pub use save::{UnsavedType, dump, save_value};
