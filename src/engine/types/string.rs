//! The string type: an integer if the text is a canonical one, short bytes inline, a separate buffer, or a
//! content that is housed elsewhere.

use super::number::parse_integer;
use super::{Content, House, Housed};
use std::borrow::Cow;
use std::sync::Arc;

/// The longest content kept inside the value itself (the whole value takes 32 bytes).
const INLINE_BYTES_MAX: usize = 30;

/// Contents of at least this many bytes are referenced instead of copied.
pub(super) const SHARED_BYTES_MIN: usize = 64 * 1024;

/// The content of a string key or of a hash field.
#[derive(Debug)]
pub enum StringValue {
    Integer(i64),
    Inline {
        length: u8,
        bytes: [u8; INLINE_BYTES_MAX],
    },
    Heap(Vec<u8>),
    /// A large content. A reply that is being sent refers to it; a later write does not change the content of
    /// the reply.
    Shared(Arc<Vec<u8>>),
    Housed(Housed),
}

impl StringValue {
    pub fn new(content: &[u8]) -> StringValue {
        if content.len() <= 20
            && let Some(integer) = parse_integer(content)
        {
            return StringValue::Integer(integer);
        }
        StringValue::raw(content)
    }

    fn raw(content: &[u8]) -> StringValue {
        if content.len() > INLINE_BYTES_MAX {
            return StringValue::buffer(content.to_vec());
        }
        let mut bytes = [0; INLINE_BYTES_MAX];
        bytes[..content.len()].copy_from_slice(content);
        StringValue::Inline { length: content.len() as u8, bytes }
    }

    fn buffer(content: Vec<u8>) -> StringValue {
        match content.len() {
            SHARED_BYTES_MIN.. => StringValue::Shared(Arc::new(content)),
            _ => StringValue::Heap(content),
        }
    }

    /// A content that is large enough to be referenced, or will be after the next write to it.
    pub(crate) fn of_large(content: Vec<u8>) -> StringValue {
        debug_assert!(content.capacity() >= SHARED_BYTES_MIN, "a small content has another form");
        StringValue::Shared(Arc::new(content))
    }

    /// A value that refers to a word of a request.
    pub(crate) fn referring(content: &Content) -> StringValue {
        StringValue::Shared(content.bytes().clone())
    }

    /// True if a write to a large content, up to `end`, copies it.
    pub fn copies_to_write(&self, end: usize) -> bool {
        match self {
            StringValue::Shared(bytes) => Arc::strong_count(bytes) > 1 || bytes.capacity() < end,
            _ => false,
        }
    }

    /// Stores another content of the same length in the existing buffer, which saves an allocation; false if
    /// there is no buffer of that length, and nothing has changed.
    pub fn overwrite(&mut self, content: &[u8]) -> bool {
        match self {
            StringValue::Heap(bytes) if bytes.len() == content.len() && content.len() > INLINE_BYTES_MAX => {
                bytes.copy_from_slice(content);
                true
            }
            StringValue::Shared(bytes) if bytes.len() == content.len() => {
                // If a reply refers to the content, it must be replaced instead.
                let own = Arc::get_mut(bytes);
                own.map(|bytes| bytes.copy_from_slice(content)).is_some()
            }
            _ => false,
        }
    }

    /// The content; an integer is formatted.
    pub fn to_bytes(&self) -> Cow<'_, [u8]> {
        match self {
            StringValue::Integer(integer) => Cow::Owned(integer.to_string().into_bytes()),
            StringValue::Inline { length, bytes } => Cow::Borrowed(&bytes[..*length as usize]),
            StringValue::Heap(bytes) => Cow::Borrowed(bytes),
            StringValue::Shared(bytes) => Cow::Borrowed(bytes),
            StringValue::Housed(housed) => Cow::Borrowed(housed.content()),
        }
    }

    /// Calls `with` on the content without allocating.
    #[inline]
    pub fn with_bytes<R>(&self, with: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            StringValue::Integer(integer) => with(itoa::Buffer::new().format(*integer).as_bytes()),
            StringValue::Inline { length, bytes } => with(&bytes[..*length as usize]),
            StringValue::Heap(bytes) => with(bytes),
            StringValue::Shared(bytes) => with(bytes),
            StringValue::Housed(housed) => with(housed.content()),
        }
    }

    /// The content, if it is large enough to be referenced.
    pub fn shared(&self) -> Option<&Arc<Vec<u8>>> {
        match self {
            StringValue::Shared(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub fn as_integer(&self) -> Option<i64> {
        match self {
            StringValue::Integer(integer) => Some(*integer),
            other => other.with_bytes(parse_integer),
        }
    }

    pub fn len(&self) -> usize {
        self.with_bytes(<[u8]>::len)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn append(&mut self, suffix: &[u8]) {
        let length = self.len();
        self.write(length, suffix);
    }

    /// Overwrites from `offset` on; pads with zero bytes if the value was shorter.
    pub fn write(&mut self, offset: usize, content: &[u8]) {
        self.edit(|bytes| write_at(bytes, offset, content));
    }

    /// Changes the bytes.
    pub fn edit<R>(&mut self, edit: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        if let StringValue::Shared(bytes) = self {
            return edit(Arc::make_mut(bytes));
        }
        let mut bytes = match std::mem::replace(self, StringValue::Integer(0)) {
            StringValue::Heap(bytes) => bytes,
            other => other.to_bytes().into_owned(),
        };
        let edited = edit(&mut bytes);
        let is_short = bytes.len() <= INLINE_BYTES_MAX;
        *self = if is_short { StringValue::raw(&bytes) } else { StringValue::buffer(bytes) };
        edited
    }

    /// Bytes on the heap, without the value itself. Housed contents are counted by their house.
    pub fn heap_bytes(&self) -> usize {
        match self {
            StringValue::Heap(bytes) => bytes.capacity(),
            StringValue::Shared(bytes) => size_of::<Vec<u8>>() + bytes.capacity(),
            _ => 0,
        }
    }

    /// True if the content is in this house.
    pub fn stands_in(&self, house: &Arc<dyn House>) -> bool {
        matches!(self, StringValue::Housed(housed) if housed.is_in(house))
    }

    pub fn housed_bytes(&self) -> usize {
        match self {
            StringValue::Housed(housed) => housed.content().len(),
            _ => 0,
        }
    }
}

/// A content for reading, in any representation.
#[derive(Clone, Copy)]
pub enum StringRef<'a> {
    /// Packed together with other contents.
    Bytes(&'a [u8]),
    Value(&'a StringValue),
}

impl<'a> StringRef<'a> {
    /// The content; an integer is formatted.
    pub fn to_bytes(self) -> Cow<'a, [u8]> {
        match self {
            StringRef::Bytes(bytes) => Cow::Borrowed(bytes),
            StringRef::Value(value) => value.to_bytes(),
        }
    }

    /// Calls `with` on the content without allocating.
    #[inline]
    pub fn with_bytes<R>(self, with: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            StringRef::Bytes(bytes) => with(bytes),
            StringRef::Value(value) => value.with_bytes(with),
        }
    }

    /// The content, if it is large enough to be referenced.
    pub fn shared(self) -> Option<&'a Arc<Vec<u8>>> {
        match self {
            StringRef::Bytes(_) => None,
            StringRef::Value(value) => value.shared(),
        }
    }

    pub fn as_integer(self) -> Option<i64> {
        match self {
            StringRef::Bytes(bytes) => parse_integer(bytes),
            StringRef::Value(value) => value.as_integer(),
        }
    }

    pub fn len(self) -> usize {
        match self {
            StringRef::Bytes(bytes) => bytes.len(),
            StringRef::Value(value) => value.len(),
        }
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// True if a write to a large content, up to `end`, copies it.
    pub fn copies_to_write(self, end: usize) -> bool {
        matches!(self, StringRef::Value(value) if value.copies_to_write(end))
    }

    /// A separate copy of the content.
    pub fn to_value(self) -> StringValue {
        match self {
            StringRef::Bytes(bytes) => StringValue::new(bytes),
            StringRef::Value(value) => value.clone(),
        }
    }

    /// True if the content is in this house.
    pub fn stands_in(self, house: &Arc<dyn House>) -> bool {
        matches!(self, StringRef::Value(value) if value.stands_in(house))
    }

    pub fn housed_bytes(self) -> usize {
        match self {
            StringRef::Bytes(_) => 0,
            StringRef::Value(value) => value.housed_bytes(),
        }
    }
}

impl std::fmt::Debug for StringRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.with_bytes(|bytes| write!(f, "\"{}\"", bytes.escape_ascii()))
    }
}

impl PartialEq for StringRef<'_> {
    /// Equal contents are equal, whatever the representation.
    fn eq(&self, other: &StringRef<'_>) -> bool {
        self.with_bytes(|mine| other.with_bytes(|theirs| mine == theirs))
    }
}

impl<'a> From<&'a StringValue> for StringRef<'a> {
    fn from(value: &'a StringValue) -> StringRef<'a> {
        StringRef::Value(value)
    }
}

fn write_at(bytes: &mut Vec<u8>, offset: usize, content: &[u8]) {
    let end = offset + content.len();
    if bytes.capacity() < end && end - bytes.len() >= SHARED_BYTES_MIN {
        // Zeroed memory from the system need not be written.
        let mut longer = vec![0; end];
        longer[..bytes.len()].copy_from_slice(bytes);
        *bytes = longer;
    } else if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(content);
}

impl Clone for StringValue {
    fn clone(&self) -> StringValue {
        match self {
            StringValue::Integer(integer) => StringValue::Integer(*integer),
            StringValue::Inline { length, bytes } => StringValue::Inline { length: *length, bytes: *bytes },
            StringValue::Heap(bytes) => StringValue::Heap(bytes.clone()),
            // The copy changes independently, because a write makes a separate content first.
            StringValue::Shared(bytes) => StringValue::Shared(bytes.clone()),
            StringValue::Housed(housed) => StringValue::raw(housed.content()),
        }
    }
}

impl PartialEq for StringValue {
    /// Equal contents are equal, whatever the representation.
    fn eq(&self, other: &StringValue) -> bool {
        self.with_bytes(|mine| other.with_bytes(|theirs| mine == theirs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn only_a_buffer_of_the_same_length_is_overwritten() {
        for (before, after, fits) in
            [(31, 31, true), (31, 32, false), (32, 31, false), (30, 30, false), (500, 500, true)]
        {
            let mut value = StringValue::new(&vec![b'a'; before]);
            let content = vec![b'b'; after];
            assert_eq!(value.overwrite(&content), fits);
            assert_eq!(value.to_bytes()[0], if fits { b'b' } else { b'a' });
            assert_eq!(value.len(), before);
        }
        assert!(!StringValue::new(b"12345678901234567890").overwrite(&[b'b'; 20]));
    }

    #[test]
    fn representation_never_changes_the_content() {
        for content in [&b""[..], b"1", b"-7", b"007", b"abc", &[b'x'; 30], &[b'x'; 31], &[0; 100]] {
            let value = StringValue::new(content);
            assert_eq!(value.to_bytes(), content);
            assert_eq!(value.len(), content.len());
        }
        assert_eq!(size_of::<StringValue>(), 32);
    }

    #[test]
    fn a_housed_content_reads_like_any_other_and_is_released_once() {
        struct Letters(AtomicUsize);
        impl House for Letters {
            fn content(&self, place: u32) -> &[u8] {
                &b"abcdefghijklmnopqrstuvwxyz0123456789"[place as usize..]
            }
            fn release(&self, _: u32) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let house = Arc::new(Letters(AtomicUsize::new(0)));
        let mut value = StringValue::Housed(Housed::new(house.clone(), 1));
        assert_eq!(value.len(), 35);
        assert_eq!((value.heap_bytes(), value.housed_bytes()), (0, 35));
        let copy = value.clone();
        assert_eq!(copy, value);
        assert!(matches!(copy, StringValue::Heap(_)));
        assert!(!value.overwrite(&[b'x'; 35]), "a referenced content is not overwritten");
        value.append(b"!");
        assert_eq!(value.to_bytes(), &b"bcdefghijklmnopqrstuvwxyz0123456789!"[..]);
        assert_eq!(house.0.load(Ordering::Relaxed), 1);
        assert_eq!(copy.to_bytes(), &b"bcdefghijklmnopqrstuvwxyz0123456789"[..]);
    }

    #[test]
    fn a_large_content_that_is_referred_to_stays_what_it_was() {
        let content = vec![b'a'; SHARED_BYTES_MIN];
        let mut value = StringValue::new(&content);
        assert!(value.overwrite(&vec![b'c'; SHARED_BYTES_MIN]), "there is no reference to it");
        let reply = value.shared().expect("large enough").clone();
        assert!(!value.overwrite(&content));
        value.write(1, b"b");
        value.append(b"end");
        let copy = value.clone();
        value.write(0, b"x");
        assert_eq!(*reply, vec![b'c'; SHARED_BYTES_MIN]);
        assert_eq!(copy.to_bytes()[..3], *b"cbc");
        assert_eq!(value.to_bytes()[..3], *b"xbc");
        assert_eq!(value.len(), SHARED_BYTES_MIN + 3);
        assert!(StringValue::new(&content[1..]).shared().is_none());
        let mut grown = StringValue::new(&content[1..]);
        grown.append(b"a");
        assert_eq!(**grown.shared().expect("grown"), content);
    }

    #[test]
    fn writes_pad_with_zeros_and_keep_the_tail() {
        let mut value = StringValue::new(b"12345");
        value.write(2, b"xx");
        assert_eq!(value.to_bytes(), &b"12xx5"[..]);
        value.write(7, b"y");
        assert_eq!(value.to_bytes(), &b"12xx5\0\0y"[..]);
        value.append(&[b'z'; 40]);
        assert_eq!(value.len(), 48);
        assert!(matches!(value, StringValue::Heap(_)));
    }
}
