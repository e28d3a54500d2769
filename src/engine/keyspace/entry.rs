//! What the table holds for a key: the key itself, its value, its expiry and its access clock.

use crate::table::Keyed;
use crate::types::{Hash, ShortBytes, StringValue};
use std::sync::atomic::{AtomicU32, Ordering};

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    String(StringValue),
    Hash(Box<Hash>),
}

impl Value {
    /// The name that TYPE replies.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::String(_) => "string",
            Value::Hash(_) => "hash",
        }
    }

    /// Bytes of contents that stand elsewhere, and are counted there (the vectors of an index).
    pub fn housed_bytes(&self) -> usize {
        match self {
            Value::String(_) => 0,
            Value::Hash(hash) => hash.housed_bytes(),
        }
    }

    /// Bytes on the heap, beyond the entry.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Value::String(string) => string.heap_bytes(),
            Value::Hash(hash) => size_of::<Hash>() + hash.heap_bytes(),
        }
    }
}

/// One key. A read never mutates it but for the access clock, which is atomic for that reason.
#[derive(Debug)]
pub struct Entry {
    pub(super) key: ShortBytes,
    pub(super) value: Value,
    /// Milliseconds since the epoch; 0 for never.
    pub(super) expires_at_ms: u64,
    /// The second of the earliest place in the expiry index that names this entry; 0 for none.
    pub(super) queued_second: u32,
    /// The second of the last read or write, for OBJECT IDLETIME and eviction; 0 for none in this process.
    accessed_second: AtomicU32,
}

impl Entry {
    pub(super) fn new(key: &[u8], value: Value, accessed_second: u32) -> Entry {
        Entry {
            key: ShortBytes::new(key),
            value,
            expires_at_ms: 0,
            queued_second: 0,
            accessed_second: AtomicU32::new(accessed_second),
        }
    }

    pub fn key(&self) -> &[u8] {
        self.key.as_slice()
    }

    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Milliseconds since the epoch; 0 for never.
    pub fn expires_at_ms(&self) -> u64 {
        self.expires_at_ms
    }

    /// False once the key has expired, or every field of a hash has.
    #[inline]
    pub fn alive(&self, now_ms: u64) -> bool {
        if !self.is_in_time(now_ms) {
            return false;
        }
        match &self.value {
            Value::Hash(hash) => hash.alive(now_ms),
            Value::String(_) => true,
        }
    }

    pub(super) fn set_accessed_second(&mut self, second: u32) {
        *self.accessed_second.get_mut() = second;
    }

    /// Notes an access; stores only when the second changed, so that hot keys do not bounce between caches.
    #[inline]
    pub fn touch(&self, now_ms: u64) {
        let second = (now_ms / 1000) as u32;
        if self.accessed_second.load(Ordering::Relaxed) != second {
            self.accessed_second.store(second, Ordering::Relaxed);
        }
    }

    /// The second of the last read or write; 0 where there was none in this process.
    pub fn accessed_second(&self) -> u32 {
        self.accessed_second.load(Ordering::Relaxed)
    }

    /// Bytes of key and value on the heap, and of the entry.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Entry>() + self.key.heap_bytes() + self.value.heap_bytes()
    }

    /// False once the key itself has expired, whatever has become of its fields.
    pub fn is_in_time(&self, now_ms: u64) -> bool {
        self.expires_at_ms == 0 || self.expires_at_ms > now_ms
    }

    /// Whether a field may have expired: of a small hash, whether one has.
    pub(super) fn may_have_expired_field(&self, now_ms: u64) -> bool {
        let Value::Hash(hash) = &self.value else { return false };
        hash.len() > LOOKED_AT_AT_ONCE || hash.iter().any(|field| !field.alive(now_ms))
    }

    /// Makes `next_expiry_ms` exact.
    pub(super) fn tighten_expiry(&mut self) {
        if let Value::Hash(hash) = &mut self.value {
            hash.tighten_expiry();
        }
    }

    /// When something of this entry expires next, the key or a field; may be early, never late.
    pub(super) fn next_expiry_ms(&self) -> Option<u64> {
        let fields = match &self.value {
            Value::Hash(hash) => hash.next_expiry_ms(),
            Value::String(_) => None,
        };
        let key = (self.expires_at_ms != 0).then_some(self.expires_at_ms);
        key.into_iter().chain(fields).min()
    }
}

/// Fields that are looked at for the sake of one entry before it is known whether any has expired.
const LOOKED_AT_AT_ONCE: usize = 1000;

impl Keyed for Entry {
    fn key(&self) -> &[u8] {
        self.key.as_slice()
    }
}
