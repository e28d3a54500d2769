//! Bounds of commands, and from where on they do something without the lock.
//!
//! Times are of a machine of 2024; a visit of a walk takes about 10 ns there.

// What a command may change and reply at all.

/// The bytes of a document, packed. Unit tests have smaller ones.
pub const DOCUMENT_BYTES_MAX: usize = if cfg!(test) { 1 << 20 } else { 2 << 30 };
/// Values that a command changes at paths that lead to several: some microseconds for each.
pub const PLACES_MAX: usize = 1 << 16;
/// Bytes that it adds at all of them together.
pub const MULTIPLIED_BYTES_MAX: usize = 64 << 20;
/// Bytes of the elements that JSON.ARRPOP replies, packed: their text is written under the lock.
pub const POPPED_BYTES_MAX: usize = if cfg!(test) { 1 << 16 } else { 64 << 20 };
/// The paths of a JSON.GET.
pub const PATHS_MAX: usize = 1024;
/// The bytes of a number's text. It is parsed under the lock.
pub const NUMBER_BYTES_MAX: usize = 64 << 10;

// From where on work is done without the lock.

/// Bytes of a document that is read, or of the words of a command that reads. Writing the text of a document
/// of this size takes 0.1 ms.
pub const READ_AT_ONCE_BYTES: usize = 64 << 10;
/// Bytes of all documents that JSON.MGET reads.
pub const READ_TOGETHER_BYTES: usize = 256 << 10;
/// Bytes of the texts of a command that writes. Parsing texts of this size takes 0.2 ms.
pub const PARSED_AT_ONCE_BYTES: usize = 128 << 10;
/// Bytes of a value that is put into a document.
pub const SET_AT_ONCE_BYTES: usize = 256 << 10;
/// Places of a document that are changed. Looking for one from the root takes up to 10 us.
pub const PLACES_AT_ONCE: usize = 512;
/// Bytes of a text that is copied into a reply, and not referred to.
pub const COPIED_BYTES_MAX: usize = 64 << 10;
