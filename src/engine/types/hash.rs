//! The hash type: fields with values, each with an expiry of its own.
//!
//! Few fields are stored in an array that is searched in order; more of them in the same segmented table as
//! the keyspace, so that HSCAN's cursor is a hash position and growth never moves more than one segment.
//!
//! Invariants: a field name occurs once; `expires_at_ms` 0 means never; `expiring` counts the fields with an
//! expiry; `expiry_floor_ms` is never later than the earliest of them (it may be earlier: removals do not
//! raise it). This file uses no clock: readers check whether a field has expired (`Field::alive`).

use super::{Content, Housed, ShortBytes, StringRef, StringValue};
use crate::table::{Keyed, Table};

/// The most fields that are kept in an array.
const FEW_FIELDS_MAX: usize = 32;

/// With up to this many fields, the array has no spare capacity, because most hashes keep their first number
/// of fields.
const EXACT_FIELDS_MAX: usize = 8;

/// A field, for reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Field<'a> {
    pub name: &'a [u8],
    pub value: StringRef<'a>,
    /// Milliseconds since the epoch; 0 for never.
    pub expires_at_ms: u64,
}

impl Field<'_> {
    #[inline]
    pub fn alive(&self, now_ms: u64) -> bool {
        self.expires_at_ms == 0 || self.expires_at_ms > now_ms
    }
}

/// A field in memory of its own.
#[derive(Clone, Debug)]
pub(crate) struct OwnedField {
    name: ShortBytes,
    value: StringValue,
    expires_at_ms: u64,
}

impl OwnedField {
    #[inline]
    fn read(&self) -> Field<'_> {
        let value = StringRef::Value(&self.value);
        Field { name: self.name.as_slice(), value, expires_at_ms: self.expires_at_ms }
    }

    fn heap_bytes(&self) -> usize {
        self.name.heap_bytes() + self.value.heap_bytes()
    }
}

impl From<Field<'_>> for OwnedField {
    fn from(field: Field<'_>) -> OwnedField {
        let (name, value) = (ShortBytes::new(field.name), field.value.to_value());
        OwnedField { name, value, expires_at_ms: field.expires_at_ms }
    }
}

impl Keyed for OwnedField {
    fn key(&self) -> &[u8] {
        self.name.as_slice()
    }
}

/// A hash.
#[derive(Debug)]
pub struct Hash {
    fields: Fields,
    expiring: usize,
    expiry_floor_ms: u64,
    heap_bytes: usize,
}

#[derive(Clone, Debug)]
enum Fields {
    Few(Vec<OwnedField>),
    /// Boxed, so that the many hashes with few fields do not carry its size.
    Many(Box<Table<Box<OwnedField>>>),
}

impl Hash {
    pub fn new() -> Hash {
        Hash { fields: Fields::Few(Vec::new()), expiring: 0, expiry_floor_ms: u64::MAX, heap_bytes: 0 }
    }

    /// How many fields are stored, expired ones included.
    pub fn len(&self) -> usize {
        match &self.fields {
            Fields::Few(fields) => fields.len(),
            Fields::Many(table) => table.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many fields carry an expiry.
    pub fn expiring(&self) -> usize {
        self.expiring
    }

    /// The stored field, expired or not.
    pub fn get(&self, name: &[u8]) -> Option<Field<'_>> {
        let stored = match &self.fields {
            Fields::Few(fields) => fields.iter().find(|field| field.key() == name),
            Fields::Many(table) => table.get(hash_of(name), name).map(|field| &**field),
        };
        stored.map(OwnedField::read)
    }

    /// Reads the memory that lookups of these fields will read, so that their cache misses overlap.
    pub fn prefetch<'n>(&self, names: impl Iterator<Item = &'n [u8]>) {
        if let Fields::Many(table) = &self.fields {
            table.prefetch(names.map(hash_of));
        }
    }

    fn get_mut(&mut self, name: &[u8]) -> Option<&mut OwnedField> {
        match &mut self.fields {
            Fields::Few(fields) => fields.iter_mut().find(|field| field.name.as_slice() == name),
            Fields::Many(table) => table.get_mut(hash_of(name), name).map(|field| &mut **field),
        }
    }

    /// Sets a value; true if the field is new. `keep_expiry` leaves the field's expiry as it is.
    pub fn set(&mut self, name: &[u8], value: &[u8], keep_expiry: bool) -> bool {
        self.set_made(name, keep_expiry, |field| {
            if !field.is_some_and(|field| field.overwrite(value)) {
                return Some(StringValue::new(value));
            }
            None
        })
    }

    /// The same with a value that refers to a content.
    pub(crate) fn set_referring(&mut self, name: &[u8], content: &Content, keep_expiry: bool) -> bool {
        self.set_made(name, keep_expiry, |_| Some(StringValue::referring(content)))
    }

    /// Sets a value: `make` gets the existing value, if there is one, and changes or makes it.
    #[inline]
    fn set_made(
        &mut self,
        name: &[u8],
        keep_expiry: bool,
        make: impl FnOnce(Option<&mut StringValue>) -> Option<StringValue>,
    ) -> bool {
        if let Some(field) = self.get_mut(name) {
            let removed_bytes = field.value.heap_bytes();
            if let Some(value) = make(Some(&mut field.value)) {
                field.value = value;
            }
            let added_bytes = field.value.heap_bytes();
            let expiry_cleared = !keep_expiry && std::mem::take(&mut field.expires_at_ms) != 0;
            self.expiring -= usize::from(expiry_cleared);
            self.heap_bytes = self.heap_bytes + added_bytes - removed_bytes;
            return false;
        }
        let value = make(None).expect("there is none to be changed");
        let field = OwnedField { name: ShortBytes::new(name), value, expires_at_ms: 0 };
        self.heap_bytes += field.heap_bytes();
        self.insert_new(field);
        true
    }

    /// Adds a copy of a field of another hash, unless this one has a field of that name.
    pub fn add(&mut self, field: Field<'_>) {
        if self.get(field.name).is_some() {
            return;
        }
        self.put(field.into());
    }

    /// Adds a field that is new.
    pub(crate) fn put(&mut self, field: OwnedField) {
        debug_assert!(self.get(field.key()).is_none(), "the field is new");
        self.heap_bytes += field.heap_bytes();
        if field.expires_at_ms != 0 {
            self.expiring += 1;
            self.expiry_floor_ms = self.expiry_floor_ms.min(field.expires_at_ms);
        }
        self.insert_new(field);
    }

    /// Sets the value of a field that is new to a content that is housed.
    pub(crate) fn set_housed(&mut self, name: &[u8], housed: Housed) {
        debug_assert!(self.get(name).is_none(), "the field is new");
        let field =
            OwnedField { name: ShortBytes::new(name), value: StringValue::Housed(housed), expires_at_ms: 0 };
        self.heap_bytes += field.heap_bytes();
        self.insert_new(field);
    }

    /// Replaces a field's value by a handle to the same content in a house.
    pub(crate) fn house(&mut self, name: &[u8], housed: Housed) {
        let Some(field) = self.get_mut(name) else { return };
        debug_assert_eq!(field.value.to_bytes(), housed.content(), "a house has the content of the field");
        let bytes = field.value.heap_bytes();
        field.value = StringValue::Housed(housed);
        self.heap_bytes -= bytes;
    }

    /// Replaces a housed value by a separate copy of its content.
    pub(crate) fn unhouse(&mut self, name: &[u8]) {
        let Some(field) = self.get_mut(name) else { return };
        let before = field.value.heap_bytes();
        field.value = field.value.clone();
        let after = field.value.heap_bytes();
        self.heap_bytes = self.heap_bytes + after - before;
    }

    fn insert_new(&mut self, field: OwnedField) {
        if let Fields::Few(fields) = &mut self.fields {
            if fields.len() < FEW_FIELDS_MAX {
                if fields.len() < EXACT_FIELDS_MAX {
                    fields.reserve_exact(1);
                }
                fields.push(field);
                return;
            }
            let mut table = Box::new(Table::new());
            for field in fields.drain(..) {
                table.insert_new(hash_of(field.key()), Box::new(field));
            }
            self.fields = Fields::Many(table);
        }
        let Fields::Many(table) = &mut self.fields else { unreachable!("grown above") };
        table.insert_new(hash_of(field.key()), Box::new(field));
    }

    /// Removes a field; true if it was there.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let removed = match &mut self.fields {
            Fields::Few(fields) => fields
                .iter()
                .position(|field| field.name.as_slice() == name)
                .map(|position| fields.remove(position)),
            Fields::Many(table) => table.remove(hash_of(name), name).map(|field| *field),
        };
        let Some(field) = removed else { return false };
        self.expiring -= usize::from(field.expires_at_ms != 0);
        self.heap_bytes -= field.heap_bytes();
        true
    }

    /// Sets a field's expiry (0 removes it); true if the field is there.
    pub fn set_expiry(&mut self, name: &[u8], expires_at_ms: u64) -> bool {
        let Some(field) = self.get_mut(name) else { return false };
        let before = std::mem::replace(&mut field.expires_at_ms, expires_at_ms);
        self.expiring = self.expiring + usize::from(expires_at_ms != 0) - usize::from(before != 0);
        if expires_at_ms != 0 {
            self.expiry_floor_ms = self.expiry_floor_ms.min(expires_at_ms);
        }
        true
    }

    fn stored(&self) -> impl Iterator<Item = &OwnedField> {
        let (few, many) = match &self.fields {
            Fields::Few(fields) => (Some(fields.iter()), None),
            Fields::Many(table) => (None, Some(table.iter().map(|field| &**field))),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }

    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.stored().map(OwnedField::read)
    }

    /// A field, expired or not, chosen by two random numbers; see `Table::sample`.
    pub fn sample(&self, random: u64, second: u64) -> Option<Field<'_>> {
        let stored = match &self.fields {
            Fields::Few(fields) if fields.is_empty() => None,
            Fields::Few(fields) => fields.get((random % fields.len() as u64) as usize),
            Fields::Many(table) => table.sample(random, second).map(|field| &**field),
        };
        stored.map(OwnedField::read)
    }

    /// False once every field has expired.
    #[inline]
    pub fn alive(&self, now_ms: u64) -> bool {
        self.expiring < self.len()
            || self.expiry_floor_ms > now_ms
            || self.iter().any(|field| field.alive(now_ms))
    }

    /// A time that is not later than the earliest expiry of a field, if any has one. Takes constant time.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        (self.expiring != 0).then_some(self.expiry_floor_ms)
    }

    /// Makes `next_expiry_ms` exact; visits all fields.
    pub fn tighten_expiry(&mut self) {
        let expiries = self.iter().map(|field| field.expires_at_ms);
        self.expiry_floor_ms = expiries.filter(|&at| at != 0).min().unwrap_or(u64::MAX);
    }

    /// One step of HSCAN: calls `each` for about `count` fields from `cursor` on; returns the next cursor, 0
    /// at the end.
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, each: &mut dyn FnMut(Field<'a>)) -> u64 {
        match &self.fields {
            Fields::Few(fields) => {
                fields.iter().map(OwnedField::read).for_each(each);
                0
            }
            Fields::Many(table) => table.scan(cursor, count, &mut |field| each(field.read())),
        }
    }

    /// Bytes of fields, names and values on the heap, estimated.
    pub fn heap_bytes(&self) -> usize {
        let fields = match &self.fields {
            Fields::Few(fields) => fields.capacity() * size_of::<OwnedField>(),
            Fields::Many(table) => {
                // The fields themselves are in boxes.
                size_of::<Table<Box<OwnedField>>>()
                    + table.heap_bytes()
                    + table.len() * size_of::<OwnedField>()
            }
        };
        fields + self.heap_bytes
    }

    /// Bytes of values that are stored elsewhere.
    pub fn housed_bytes(&self) -> usize {
        self.stored().map(|field| field.value.housed_bytes()).sum()
    }
}

impl Clone for Hash {
    /// Copies the hash (COPY). The copy may need more or less memory: it has no spare capacity, and housed
    /// values become separate contents.
    fn clone(&self) -> Hash {
        let fields = self.fields.clone();
        let mut copy = Hash { fields, heap_bytes: 0, ..*self };
        copy.heap_bytes = copy.stored().map(OwnedField::heap_bytes).sum();
        copy
    }
}

impl Default for Hash {
    fn default() -> Hash {
        Hash::new()
    }
}

impl PartialEq for Hash {
    /// Equal fields, values and expiries, in any order.
    fn eq(&self, other: &Hash) -> bool {
        self.len() == other.len() && self.iter().all(|field| other.get(field.name) == Some(field))
    }
}

/// Field names are hashed with the seed of the process, so that clients cannot choose colliding names.
fn hash_of(name: &[u8]) -> u64 {
    crate::table::hash_bytes(name)
}
