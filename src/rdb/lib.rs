//! Redis's and Valkey's RDB: files, and the payloads of DUMP and RESTORE. Bytes in, parts of values out, and
//! the other way round. Our own code: no kept crate writes it (docs/decisions/0059-an-rdb-codec.md).
//!
//! * [`file`]: a file, record by record, with its checksum; [`FileWriter`] writes one;
//! * [`value`]: a value of any encoding as a sequence of [`ValuePart`]s; [`stream`] those of streams;
//! * [`writer`]: values in the plain encodings, which every version since Redis 7.2 reads;
//! * [`payload`]: the frame of DUMP: version and checksum;
//! * `listpack`, `ziplist`, `lzf`: the encodings inside.
//!
//! What the input claims (lengths, counts) is never allocated before the bytes are there, and no input
//! panics. This crate knows no keyspace, opens no file and reads no clock.

#![forbid(unsafe_code)]

mod checksum;
mod error;
pub mod file;
mod file_writer;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod listpack;
mod lzf;
mod module_value;
mod part;
pub mod payload;
mod source;
pub mod stream;
#[cfg(test)]
mod tests;
pub mod value;
pub mod writer;
mod ziplist;

pub use error::RdbError;
pub use file::{KeyHeader, RawValue, RdbFile, RdbRecord};
pub use file_writer::FileWriter;
pub use module_value::{module_id, module_name};
pub use part::{
    ConsumerPart, EachPart, GroupPart, ModuleItem, PendingPart, RdbStreamId, StreamMeta, ValueKind, ValuePart,
};
pub use source::ByteSource;
pub use stream::{GroupRecord, StreamWriter};
pub use value::read_value;
