//! What the table holds for a key: the key itself, its value, its expiry and its access clock.
//!
//! Most keys of most data sets are small, and so are their values: these lie together in one allocation
//! ([`Packed`]). An entry is [`Full`] where they do not fit. A hash goes from packed to full when it outgrows
//! its bounds, and never back.

use super::access::{FrequencySettings, noted_count, second_of};
use super::garbage::Garbage;
use super::packed::{self, KEY_BYTES_MAX, Kind, Packed, PackedMut, STRING_BYTES_MAX, pack};
use super::typed::{DataType, EffectOrigin, SmallChange, SmallRef, TypedValue, small_values};
use super::value::{OwnedValue, ValueRef};
use crate::effect::{Effect, List};
use crate::table::Keyed;
use crate::thin::{Mut, Ref, Thin};
use crate::types::packed_hash::{self, PackedHashMut};
use crate::types::{Content, Contents, Hash, Housed, ShortBytes, StringValue, parse_integer};
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

#[derive(Debug)]
struct Full {
    key: ShortBytes,
    value: OwnedValue,
    /// Milliseconds since the epoch; 0 for never.
    expires_at_ms: u64,
}

/// One key. A read never mutates it but for the access clock, which is atomic for that reason.
#[derive(Debug)]
pub struct Entry {
    body: Body,
    /// The second of the earliest place in the expiry index that names this entry; 0 for none.
    pub(super) queued_second: u32,
    /// The last read or write, or how frequent they are (`access`), for OBJECT IDLETIME and FREQ, and for
    /// eviction; 0 for none in this process.
    access: AtomicU32,
}

/// Packed, or full.
type Body = Thin<Full>;

const _: () = assert!(size_of::<Entry>() == 16, "an entry is a pointer and two clocks");

/// A string in memory of its own, which refers to its content where that can be referred to.
fn string_value(content: &[u8], referred: Option<&Content>) -> StringValue {
    referred.map_or_else(|| StringValue::new(content), StringValue::referring)
}

fn string_body(key: &[u8], content: &[u8], referred: Option<&Content>, expires_at_ms: u64) -> Body {
    let packed = match content.len() {
        ..=STRING_BYTES_MAX => pack(kind_of(content), key, content, expires_at_ms),
        _ => None,
    };
    packed.unwrap_or_else(|| full(key, OwnedValue::String(string_value(content, referred)), expires_at_ms))
}

fn full(key: &[u8], value: OwnedValue, expires_at_ms: u64) -> Body {
    Thin::boxed(Box::new(Full { key: ShortBytes::new(key), value, expires_at_ms }))
}

fn into_garbage(body: Body) -> Garbage {
    body.into_box().map_or(Garbage::None, |full| Garbage::of(full.value))
}

fn kind_of(content: &[u8]) -> Kind {
    if parse_integer(content).is_some() { Kind::Integer } else { Kind::String }
}

impl Entry {
    fn new(body: Body) -> Entry {
        Entry { body, queued_second: 0, access: AtomicU32::new(0) }
    }

    pub(super) fn string(
        key: &[u8],
        content: &[u8],
        referred: Option<&Content>,
        expires_at_ms: u64,
    ) -> Entry {
        Entry::new(string_body(key, content, referred, expires_at_ms))
    }

    /// A value that is in memory of its own already.
    pub(super) fn of(key: &[u8], value: OwnedValue, expires_at_ms: u64) -> Entry {
        Entry::new(full(key, value, expires_at_ms))
    }

    /// A hash without fields: the caller sets some.
    pub(super) fn empty_hash(key: &[u8]) -> Entry {
        let packed = pack(Kind::Hash, key, &packed_hash::EMPTY, 0);
        Entry::new(packed.unwrap_or_else(|| full(key, OwnedValue::Hash(Box::default()), 0)))
    }

    /// A copy under another key, with its expiry.
    pub(super) fn copy(&self, key: &[u8]) -> Entry {
        let expires_at_ms = self.expires_at_ms();
        Entry::new(match self.body.get() {
            Ref::Bytes(bytes) => Packed(bytes)
                .with(key, expires_at_ms)
                .unwrap_or_else(|| full(key, self.unpacked(), expires_at_ms)),
            Ref::Boxed(this) => full(key, this.value.clone(), expires_at_ms),
        })
    }

    /// The same value and expiry under another key.
    pub(super) fn renamed(self, key: &[u8]) -> Entry {
        match self.body.into_box() {
            Ok(mut full) => {
                full.key = ShortBytes::new(key);
                Entry::new(Thin::boxed(full))
            }
            Err(packed) => Entry::new(packed).copy(key),
        }
    }

    /// Takes over what another entry of the same key is, but for its place in the expiry index; returns what
    /// this was.
    pub(super) fn replace(&mut self, other: Entry) -> Garbage {
        into_garbage(std::mem::replace(&mut self.body, other.body))
    }

    /// What is left of it when it is gone.
    pub(super) fn into_garbage(self) -> Garbage {
        into_garbage(self.body)
    }

    #[inline]
    pub fn key(&self) -> &[u8] {
        match self.body.get() {
            Ref::Bytes(bytes) => Packed(bytes).key(),
            Ref::Boxed(full) => full.key.as_slice(),
        }
    }

    #[inline]
    pub fn value(&self) -> ValueRef<'_> {
        match self.body.get() {
            Ref::Bytes(bytes) => match Packed(bytes).kind() {
                Kind::Hash => ValueRef::Hash(Packed(bytes).hash()),
                Kind::String | Kind::Integer => ValueRef::String(Packed(bytes).string()),
                Kind::Small(number) => ValueRef::Small(SmallRef::new(number, Packed(bytes).value())),
            },
            Ref::Boxed(full) => full.value.read(),
        }
    }

    /// Whether it is a string that was set to an integer's text (OBJECT ENCODING).
    pub fn is_integer(&self) -> bool {
        match self.body.get() {
            Ref::Bytes(bytes) => Packed(bytes).kind() == Kind::Integer,
            Ref::Boxed(full) => matches!(full.value, OwnedValue::String(StringValue::Integer(_))),
        }
    }

    /// Milliseconds since the epoch; 0 for never.
    #[inline]
    pub fn expires_at_ms(&self) -> u64 {
        match self.body.get() {
            Ref::Bytes(bytes) => Packed(bytes).expires_at_ms(),
            Ref::Boxed(full) => full.expires_at_ms,
        }
    }

    pub(super) fn set_expires_at_ms(&mut self, expires_at_ms: u64) {
        match self.body.get_mut() {
            Mut::Boxed(full) => full.expires_at_ms = expires_at_ms,
            Mut::Bytes(bytes) => {
                if !PackedMut(bytes).set_expires_at_ms(expires_at_ms) {
                    let packed = Packed(bytes);
                    self.body = packed.with(packed.key(), expires_at_ms).expect("the key is packed already");
                }
            }
        }
    }

    /// False once the key has expired, or every field of a hash has.
    #[inline]
    pub fn alive(&self, now_ms: u64) -> bool {
        self.is_in_time(now_ms) && self.value().alive(now_ms)
    }

    pub(super) fn set_access(&mut self, access: u32) {
        *self.access.get_mut() = access;
    }

    /// Notes an access; stores only when the second changed, so that hot keys do not bounce between caches.
    #[inline]
    pub fn touch(&self, now_ms: u64) {
        let second = second_of(now_ms);
        if self.access.load(Ordering::Relaxed) != second {
            self.access.store(second, Ordering::Relaxed);
        }
    }

    /// Counts an access, where the policy goes by frequency.
    #[cold]
    pub(crate) fn count_access(&self, settings: FrequencySettings, now_ms: u64, random: u64) {
        let noted = self.access.load(Ordering::Relaxed);
        self.access.store(settings.counted(noted, now_ms, random), Ordering::Relaxed);
    }

    /// Sets the counter of accesses.
    pub(crate) fn set_access_count(&self, now_ms: u64, count: u8) {
        self.access.store(noted_count(now_ms, count), Ordering::Relaxed);
    }

    /// The counter of accesses, 0 to 255.
    pub(crate) fn access_count(&self, settings: FrequencySettings, now_ms: u64) -> u32 {
        settings.count(self.access(), now_ms)
    }

    /// What was noted of accesses: by recency the second of the last one; 0 where there was none in this
    /// process.
    pub fn access(&self) -> u32 {
        self.access.load(Ordering::Relaxed)
    }

    /// Bytes of key and value on the heap, and of the entry.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Entry>() + self.heap_bytes()
    }

    /// Bytes of key and value on the heap.
    pub fn heap_bytes(&self) -> usize {
        match self.body.get() {
            Ref::Bytes(_) => self.body.allocated().unwrap_or(0),
            Ref::Boxed(full) => size_of::<Full>() + full.key.heap_bytes() + full.value.heap_bytes(),
        }
    }

    /// False once the key itself has expired, whatever has become of its fields.
    #[inline]
    pub fn is_in_time(&self, now_ms: u64) -> bool {
        let expires_at_ms = self.expires_at_ms();
        expires_at_ms == 0 || expires_at_ms > now_ms
    }

    /// Whether a field may have expired: of a small hash, whether one has.
    pub(super) fn may_have_expired_field(&self, now_ms: u64) -> bool {
        let ValueRef::Hash(hash) = self.value() else { return false };
        hash.len() > LOOKED_AT_AT_ONCE || hash.iter().any(|field| !field.alive(now_ms))
    }

    /// Makes `next_expiry_ms` exact.
    pub(super) fn tighten_expiry(&mut self) {
        if let Mut::Boxed(full) = self.body.get_mut()
            && let OwnedValue::Hash(hash) = &mut full.value
        {
            hash.tighten_expiry();
        }
    }

    /// When something of this entry expires next, the key or a field, in milliseconds; may be early, never
    /// late.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        let key = Some(self.expires_at_ms()).filter(|&at| at != 0);
        key.into_iter().chain(self.value().next_expiry_ms()).min()
    }

    /// Makes it a string with this content and expiry, whatever it was. A large content is referred to where
    /// it can be.
    pub(super) fn set_string(
        &mut self,
        content: &[u8],
        referred: Option<&Content>,
        expires_at_ms: u64,
    ) -> Garbage {
        match self.body.get_mut() {
            Mut::Bytes(bytes) => {
                if PackedMut(bytes).overwrite::<Full>(kind_of(content), content, expires_at_ms) {
                    return Garbage::None;
                }
            }
            Mut::Boxed(full)
                if content.len() > STRING_BYTES_MAX || full.key.as_slice().len() > KEY_BYTES_MAX =>
            {
                full.expires_at_ms = expires_at_ms;
                if let OwnedValue::String(string) = &mut full.value
                    && referred.is_none()
                    && string.overwrite(content)
                {
                    return Garbage::None;
                }
                let value = OwnedValue::String(string_value(content, referred));
                return Garbage::of(std::mem::replace(&mut full.value, value));
            }
            Mut::Boxed(_) => {}
        }
        let new = string_body(self.key(), content, referred, expires_at_ms);
        into_garbage(std::mem::replace(&mut self.body, new))
    }

    /// Changes a string, or a copy of it that was made before and takes its place; `None` if it is none.
    pub(super) fn change_string(
        &mut self,
        given: Option<Box<OwnedValue>>,
        change: impl FnOnce(&mut StringValue),
    ) -> Option<Garbage> {
        if let Some(given) = given {
            let new = full(self.key(), *given, self.expires_at_ms());
            let replaced = into_garbage(std::mem::replace(&mut self.body, new));
            return self.change_string(None, change).map(|_| replaced);
        }
        if let Mut::Boxed(full) = self.body.get_mut() {
            let OwnedValue::String(string) = &mut full.value else { return None };
            change(string);
            return Some(Garbage::None);
        }
        let OwnedValue::String(mut string) = self.unpacked() else { return None };
        change(&mut string);
        let (key, expires_at_ms) = (self.key(), self.expires_at_ms());
        let packed = match string.len() {
            ..=STRING_BYTES_MAX => {
                string.with_bytes(|content| pack(Kind::String, key, content, expires_at_ms))
            }
            _ => None,
        };
        self.body = packed.unwrap_or_else(|| full(key, OwnedValue::String(string), expires_at_ms));
        Some(Garbage::None)
    }

    /// Sets fields of a hash, names and values; how many are new. `None` if it is none.
    pub(super) fn set_fields(
        &mut self,
        fields: List<'_>,
        keep_expiry: bool,
        contents: Option<&Contents>,
    ) -> Option<usize> {
        let is_many = fields.len() >= 2 * AHEAD;
        let mut fields = fields.pairs();
        let mut count = 0;
        if let Some(bytes) = self.packed_hash() {
            fields = PackedMut(bytes).overwrite_fields(fields, keep_expiry);
            if fields.clone().next().is_none() {
                return Some(count);
            }
            if fields.clone().all(|(name, value)| packed_hash::fits(name, value)) {
                let set = |hash: PackedHashMut<'_>| packed::set_fields(hash, fields, keep_expiry);
                (self.body, (count, fields)) = Packed(bytes).change(set);
                if fields.clone().next().is_none() {
                    return Some(count);
                }
            }
        }
        // What did not fit makes it full.
        let hash = self.full_hash()?;
        let pairs = fields.map(|(name, value)| [name, value]);
        let set = |hash: &mut Hash, [name, value]: [&[u8]; 2]| match contents
            .and_then(|contents| contents.of(value))
        {
            Some(content) => hash.set_referring(name, content, keep_expiry),
            None => hash.set(name, value, keep_expiry),
        };
        Some(count + each_field(hash, is_many, pairs, set))
    }

    /// Removes fields; how many were there. `None` if it is no hash.
    pub(super) fn remove_fields(&mut self, names: List<'_>) -> Option<usize> {
        self.change_fields(names, |hash, name| hash.remove(name), Hash::remove)
    }

    /// Sets the expiry of fields; how many are there. `None` if it is no hash.
    pub(super) fn expire_fields(&mut self, names: List<'_>, expires_at_ms: u64) -> Option<usize> {
        self.change_fields(
            names,
            |hash, name| hash.set_expiry(name, expires_at_ms),
            |hash, name| hash.set_expiry(name, expires_at_ms),
        )
    }

    fn change_fields(
        &mut self,
        names: List<'_>,
        mut in_packed: impl FnMut(&mut PackedHashMut<'_>, &[u8]) -> bool,
        mut in_full: impl FnMut(&mut Hash, &[u8]) -> bool,
    ) -> Option<usize> {
        if let Some(bytes) = self.packed_hash() {
            let count;
            (self.body, count) = Packed(bytes)
                .change(|mut hash| names.iter().filter(|name| in_packed(&mut hash, name)).count());
            return Some(count);
        }
        let hash = self.full_hash()?;
        let is_many = names.len() >= AHEAD;
        let names = names.iter().map(|name| [name]);
        Some(each_field(hash, is_many, names, |hash, [name]| in_full(hash, name)))
    }

    /// The value that an effect makes of none, and what it counts. `None` if the effect does not fit. The
    /// value may be empty: then it is not kept.
    pub(super) fn made_by(
        key: &[u8],
        data_type: &dyn DataType,
        effect: &Effect<'_>,
        origin: EffectOrigin,
    ) -> Option<(Entry, usize)> {
        if let Some(values) = data_type.small()
            && key.len() <= KEY_BYTES_MAX
        {
            let packed = with_scratch(|scratch| match values.apply(scratch, effect) {
                SmallChange::Done(count) => {
                    pack(Kind::Small(values.number()), key, scratch, 0).map(|body| Some((body, count)))
                }
                SmallChange::Misfit => Some(None),
                SmallChange::Outgrown => None,
            });
            if let Some(made) = packed {
                return made.map(|(body, count)| (Entry::new(body), count));
            }
        }
        let mut object = data_type.blank();
        debug_assert_eq!(object.data_type().name(), data_type.name(), "a type makes its own values");
        let count = object.apply(effect, origin)?;
        Some((Entry::of(key, OwnedValue::Object(object), 0), count))
    }

    /// Applies an effect to a value of this type, and returns what it counts. `None` if the value is of
    /// another type, or the effect does not fit.
    pub(super) fn change_object(
        &mut self,
        data_type: &dyn DataType,
        effect: &Effect<'_>,
        origin: EffectOrigin,
    ) -> Option<usize> {
        if let Mut::Bytes(bytes) = self.body.get_mut() {
            let packed = Packed(bytes);
            let Kind::Small(number) = packed.kind() else { return None };
            let values = small_values(number);
            if values.data_type().name() != data_type.name() {
                return None;
            }
            let changed = with_scratch(|scratch| {
                scratch.extend_from_slice(Packed(bytes).value());
                match values.apply(scratch, effect) {
                    SmallChange::Done(count) => {
                        PackedMut(bytes).replace_value(scratch).map(|body| Some((body, count)))
                    }
                    SmallChange::Misfit => Some(None),
                    SmallChange::Outgrown => None,
                }
            });
            if let Some(changed) = changed {
                let (body, count) = changed?;
                if let Some(body) = body {
                    self.body = body;
                }
                return Some(count);
            }
            self.body = full(self.key(), self.unpacked(), self.expires_at_ms());
        }
        match self.body.get_mut() {
            Mut::Boxed(Full { value: OwnedValue::Object(object), .. })
                if object.data_type().name() == data_type.name() =>
            {
                object.apply(effect, origin)
            }
            _ => None,
        }
    }

    /// Replaces an object of this type; `None` if it is none. The expiry stays.
    pub(super) fn replace_object(
        &mut self,
        data_type: &dyn DataType,
        by: &mut Option<Box<dyn TypedValue>>,
    ) -> Option<Garbage> {
        let Mut::Boxed(full) = self.body.get_mut() else { return None };
        let OwnedValue::Object(object) = &full.value else { return None };
        let by = by.take_if(|_| object.data_type().name() == data_type.name())?;
        Some(Garbage::of(std::mem::replace(&mut full.value, OwnedValue::Object(by))))
    }

    /// Replaces the value of a field by a handle to the same content in an index.
    pub(super) fn house(&mut self, field: &[u8], housed: Housed) {
        if let Some(hash) = self.full_hash() {
            hash.house(field, housed);
        }
    }

    /// Replaces a handle by a content of its own.
    pub(super) fn unhouse(&mut self, field: &[u8]) {
        if let Mut::Boxed(full) = self.body.get_mut()
            && let OwnedValue::Hash(hash) = &mut full.value
        {
            hash.unhouse(field);
        }
    }

    /// The hash in memory of its own, which it is from now on; `None` if it is none.
    fn full_hash(&mut self) -> Option<&mut Hash> {
        if self.packed_hash().is_some() {
            self.body = full(self.key(), self.unpacked(), self.expires_at_ms());
        }
        match self.body.get_mut() {
            Mut::Boxed(Full { value: OwnedValue::Hash(hash), .. }) => Some(hash),
            _ => None,
        }
    }

    /// The bytes of a packed hash.
    fn packed_hash(&mut self) -> Option<&mut [u8]> {
        match self.body.get_mut() {
            Mut::Bytes(bytes) if Packed(bytes).kind() == Kind::Hash => Some(bytes),
            _ => None,
        }
    }

    /// A copy of the value in memory of its own.
    fn unpacked(&self) -> OwnedValue {
        match self.value() {
            ValueRef::String(string) => OwnedValue::String(string.to_value()),
            ValueRef::Hash(hash) => {
                let mut full = Hash::new();
                hash.iter().for_each(|field| full.add(field));
                OwnedValue::Hash(Box::new(full))
            }
            ValueRef::Object(object) => OwnedValue::Object(object.copy()),
            ValueRef::Small(small) => OwnedValue::Object(small.unpack()),
        }
    }
}

thread_local! {
    /// The bytes of the small value that an effect changes.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Calls `with` on a vector without content, whose memory is kept.
fn with_scratch<R>(with: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let result = with(&mut scratch);
    if scratch.capacity() <= 2 * usize::from(u16::MAX) {
        SCRATCH.set(scratch);
    }
    result
}

/// Fields that are looked at for the sake of one entry before it is known whether any has expired.
const LOOKED_AT_AT_ONCE: usize = 1000;

/// Names whose lookups are begun together, so that their cache misses overlap.
const AHEAD: usize = 16;

/// Changes a hash by groups of words, the first of which is a field's name; how many changes were counted.
#[inline]
fn each_field<'w, const WORDS: usize>(
    hash: &mut Hash,
    is_many: bool,
    mut groups: impl Iterator<Item = [&'w [u8]; WORDS]>,
    mut change: impl FnMut(&mut Hash, [&'w [u8]; WORDS]) -> bool,
) -> usize {
    if !is_many {
        return groups.filter(|words| change(hash, *words)).count();
    }
    let mut count = 0;
    let mut ahead: [[&'w [u8]; WORDS]; AHEAD] = [[&[]; WORDS]; AHEAD];
    loop {
        let filled = ahead.iter_mut().map_while(|group| groups.next().map(|next| *group = next)).count();
        let ahead = &ahead[..filled];
        hash.prefetch(ahead.iter().map(|words| words[0]));
        count += ahead.iter().filter(|words| change(hash, **words)).count();
        if filled < AHEAD {
            return count;
        }
    }
}

impl Keyed for Entry {
    #[inline]
    fn key(&self) -> &[u8] {
        self.key()
    }

    #[inline]
    fn touch(&self) {
        std::hint::black_box(self.queued_second);
    }

    #[inline]
    fn follow(&self, step: usize) -> bool {
        let Ref::Boxed(full) = self.body.get() else { return false };
        let OwnedValue::Object(object) = &full.value else { return false };
        match step {
            0 => _ = std::hint::black_box(object.len()),
            _ => object.touch(),
        }
        step == 0
    }
}
