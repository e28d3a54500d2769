//! Values of data types that the keyspace does not know by name: objects, the engine's own and those of
//! modules.
//!
//! A data type is a [`DataType`] and a [`TypedValue`]: what its effects do to a value, and which effects
//! build one. Everything else (TYPE, COPY, expiry, RENAME, snapshots, memory, freeing) follows from these.
//! Strings and hashes are apart, because small ones lie with their keys (`packed`).
//!
//! Invariants:
//! - a value is a function of the effects that were applied to it, and [`TypedValue::save`] gives effects
//!   that build an equal one. So a copy, a snapshot and a part that moves to another process are the same
//!   thing;
//! - an empty value does not exist: its key goes with its last part. A stream is empty only before anything
//!   made it.

use super::digest;
use super::document::{DocumentPath, DocumentSource, DocumentType, PathCost};
use super::encoding::EncodingLimits;
use super::lists::{ListType, SmallLists};
use super::sets::{SetType, SmallSets};
use super::sorted_sets::{SmallSortedSets, SortedSets};
use super::streams::StreamType;
use crate::effect::Effect;
use std::any::Any;
use std::fmt;
use std::io;
use std::sync::Arc;

/// The engine's own data types. Strings and hashes are not among them: see [`super::ValueRef`].
const ENGINE_TYPES: [&'static dyn DataType; 4] = [&ListType, &SetType, &SortedSets, &StreamType];

/// The types whose small values lie with their keys, by [`PackedValues::number`].
const SMALL_TYPES: [&'static dyn PackedValues; 3] = [&SmallLists, &SmallSets, &SmallSortedSets];

/// What is done with each effect that builds a value.
pub type EachEffect<'a> = dyn FnMut(&Effect<'_>) -> io::Result<()> + 'a;

/// The most elements of an effect that builds a part of a value; about [`SAVED_BYTES_MAX`] bound it too.
pub const SAVED_PARTS_MAX: usize = 512;
/// Beyond this number of bytes, no further element goes into the same effect.
pub const SAVED_BYTES_MAX: usize = 64 << 10;

/// A data type. It knows no module's state: the offline snapshotter has it without the module.
pub trait DataType: Send + Sync {
    /// What TYPE replies. No other type has it.
    fn name(&self) -> &'static str;

    /// The number of the module whose effects with a key are about values of this type; 0 for a type of the
    /// engine.
    fn module(&self) -> u8;

    /// Whether an effect is about values of this type: whether it changes one, or makes one where the key is
    /// absent. A type of the engine names its rows here; those of modules leave it as it is.
    fn takes(&self, effect: &Effect<'_>) -> bool {
        matches!(*effect, Effect::Module { module, key: Some(_), .. } if module == self.module())
    }

    /// A value without content, for the first effect on a key that is absent.
    fn blank(&self) -> Box<dyn TypedValue>;

    /// How its small values lie with their keys, if they do.
    fn small(&self) -> Option<&'static dyn PackedValues> {
        None
    }

    /// For a type of a module whose values RDB has as one text: calls `each` with effects that build, where
    /// the key is absent, the value that was stored as this text, by this version of the module's encoding.
    /// `None` if it is no such value.
    fn build_of_rdb(
        &self,
        _version: u16,
        _text: &[u8],
        _key: &[u8],
        _each: &mut EachEffect<'_>,
    ) -> Option<io::Result<()>> {
        None
    }

    /// What ON of FT.CREATE calls values of this type, in capitals, if they are documents. It is part of the
    /// format, in the definitions of indexes.
    fn documents(&self) -> Option<&'static str> {
        None
    }

    /// Whether an effect on a document changes the values at a path, or their order: where this says no, an
    /// index does not read the path again. `count` is what [`TypedValue::apply`] has returned; `None` before
    /// the effect is applied.
    fn concerns(&self, _effect: &Effect<'_>, _count: Option<usize>, _path: &[u8]) -> bool {
        true
    }

    /// The same for a path that is asked for again and again.
    fn concerns_at(&self, effect: &Effect<'_>, count: Option<usize>, path: &DocumentPath) -> bool {
        self.concerns(effect, count, path)
    }

    /// Whether there is at most one value at this path of a document.
    fn leads_to_one(&self, _path: &[u8]) -> bool {
        true
    }

    /// What it costs to read the values at this path of a document.
    fn path_cost(&self, _path: &[u8]) -> PathCost {
        PathCost::Lookup
    }

    /// How many patterns a path has that are compiled with it: each takes time and memory.
    fn patterns_in(&self, _path: &[u8]) -> usize {
        0
    }

    /// Whether a field of an index can be at this path of a document.
    fn is_document_path(&self, _path: &[u8]) -> bool {
        true
    }
}

/// Small values of a type: bytes that lie in one allocation with their key (`packed`). A value that outgrows
/// this becomes an object, and stays one. The bytes are in memory only, so they have no version.
pub trait PackedValues: Send + Sync {
    fn data_type(&self) -> &'static dyn DataType;

    /// The place in [`SMALL_TYPES`].
    fn number(&self) -> u8;

    /// How many parts the value has.
    fn len(&self, bytes: &[u8]) -> usize;

    fn encoding(&self, bytes: &[u8], limits: &EncodingLimits) -> &'static str;

    /// Applies an effect to a copy of the bytes, of which there are none for a new value. Where the result is
    /// not `Done`, the copy is dropped.
    fn apply(&self, bytes: &mut Vec<u8>, effect: &Effect<'_>) -> SmallChange;

    /// The same value as an object.
    fn unpack(&self, bytes: &[u8]) -> Box<dyn TypedValue>;
}

/// The result of an effect on a small value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmallChange {
    /// With what the effect counts.
    Done(usize),
    /// The value would be too large: the effect must be applied to an object.
    Outgrown,
    /// The effect does not fit the value.
    Misfit,
}

impl SmallChange {
    /// A change that fits if there is a count.
    pub fn of(count: Option<usize>) -> SmallChange {
        count.map_or(SmallChange::Misfit, SmallChange::Done)
    }
}

/// A small value as it is read.
#[derive(Clone, Copy)]
pub struct SmallRef<'a> {
    values: &'static dyn PackedValues,
    pub(super) bytes: &'a [u8],
}

impl<'a> SmallRef<'a> {
    pub(super) fn new(number: u8, bytes: &'a [u8]) -> SmallRef<'a> {
        SmallRef { values: small_values(number), bytes }
    }

    /// The bytes, if it is a value of the type with this number.
    #[inline]
    pub(super) fn of_type(&self, number: u8) -> Option<&'a [u8]> {
        (self.values.number() == number).then_some(self.bytes)
    }

    pub fn data_type(&self) -> &'static dyn DataType {
        self.values.data_type()
    }

    pub fn len(&self) -> usize {
        self.values.len(self.bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn encoding(&self, limits: &EncodingLimits) -> &'static str {
        self.values.encoding(self.bytes, limits)
    }

    /// The same value as an object.
    pub fn unpack(&self) -> Box<dyn TypedValue> {
        self.values.unpack(self.bytes)
    }

    /// See [`TypedValue::digest`].
    pub fn digest(&self) -> u64 {
        self.unpack().digest()
    }
}

impl fmt::Debug for SmallRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.unpack().fmt(f)
    }
}

pub(super) fn small_values(number: u8) -> &'static dyn PackedValues {
    SMALL_TYPES[usize::from(number)]
}

/// Where an effect comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EffectOrigin {
    /// A log, a snapshot, or a leader: a value checks what it reads.
    #[default]
    Stored,
    /// A command has just made it, so that it is well-formed and fits.
    Command,
}

/// A value of some data type.
pub trait TypedValue: Any + fmt::Debug + Send + Sync {
    fn data_type(&self) -> &'static dyn DataType;

    /// What OBJECT ENCODING replies: a function of the content and of the configured limits.
    fn encoding(&self, limits: &EncodingLimits) -> &'static str;

    /// How many parts it has (elements, fields): what it costs to copy or free it. Costs no walk.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes on the heap, beyond the value itself. Costs no walk: it is asked before and after each change.
    fn heap_bytes(&self) -> usize;

    /// Reads the beginning of the content, so that the cache misses of several values overlap.
    fn touch(&self) {}

    /// Bytes of contents that are stored and counted elsewhere (vectors in an index). Costs no walk.
    fn housed_bytes(&self) -> usize {
        0
    }

    /// Applies an effect, and returns what it counts (`EffectOutcome::count`): a pure function of the value
    /// and the effect. `None` where the effect does not fit the value, or is of a later version: the store
    /// stops. A value that was given in its place ([`Tx::apply_given`]) counts 1 if the key existed.
    ///
    /// [`Tx::apply_given`]: crate::store::tx::Tx::apply_given
    fn apply(&mut self, effect: &Effect<'_>, origin: EffectOrigin) -> Option<usize>;

    /// The value as an index reads it, for a type with [`DataType::documents`].
    fn document(&self) -> Option<&dyn DocumentSource> {
        None
    }

    /// One step of saving: calls `each` with an effect or a few, of [`SAVED_PARTS_MAX`] and
    /// [`SAVED_BYTES_MAX`] at most, which build the part of the value from `cursor` on, under this key.
    /// Returns where the next step begins; 0 at the end. The first step begins at 0. A cursor is good as long
    /// as the value does not change.
    fn save(&self, key: &[u8], cursor: u64, each: &mut EachEffect<'_>) -> io::Result<u64>;

    /// The text that RDB has for the value, and the version of its encoding: see [`DataType::build_of_rdb`].
    fn rdb_text(&self) -> Option<(u16, Vec<u8>)> {
        None
    }

    /// A digest that is the same for equal values, however they are stored. It is in snapshot files, so it is
    /// part of their format. This one is good for types whose effects of [`TypedValue::save`] are a function
    /// of the content alone, order included.
    fn digest(&self) -> u64 {
        let mut sum = digest::mix(3, self.data_type().name().as_bytes());
        let mut bytes = Vec::new();
        let digested = save_whole(self, b"", &mut |effect| {
            bytes.clear();
            effect.encode(0, &mut bytes);
            sum = digest::mix(sum, &bytes);
            Ok(())
        });
        digested.expect("a digest needs no disk");
        sum
    }

    /// A copy in memory of its own.
    fn copy(&self) -> Box<dyn TypedValue> {
        let mut copy = self.data_type().blank();
        let copied = save_whole(self, b"", &mut |effect| {
            copy.apply(effect, EffectOrigin::Command).expect("what a value is saved as builds one");
            Ok(())
        });
        copied.expect("applying needs no disk");
        copy
    }
}

/// Calls `each` with all effects that build the value under this key.
pub(super) fn save_whole<T: TypedValue + ?Sized>(
    value: &T,
    key: &[u8],
    each: &mut EachEffect<'_>,
) -> io::Result<()> {
    let mut cursor = 0;
    loop {
        cursor = value.save(key, cursor, &mut |effect| {
            assert!(effect.key() == Some(key) && effect.builds(), "a value is not built by {effect}");
            each(effect)
        })?;
        if cursor == 0 {
            return Ok(());
        }
    }
}

impl dyn TypedValue {
    /// The value, if it is of this type.
    #[inline]
    pub fn downcast_ref<T: TypedValue>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

impl Clone for Box<dyn TypedValue> {
    fn clone(&self) -> Box<dyn TypedValue> {
        (**self).copy()
    }
}

/// The data types that a keyspace has beside strings and hashes.
#[derive(Clone)]
pub struct DataTypes(Arc<[&'static dyn DataType]>);

impl DataTypes {
    /// The engine's, and these of modules.
    ///
    /// # Panics
    /// If two have the same name, the same name as documents, or the same module.
    pub fn new(of_modules: Vec<&'static dyn DataType>) -> DataTypes {
        let types = [&ENGINE_TYPES[..], &of_modules].concat();
        for (at, one) in types.iter().enumerate() {
            let other = types[..at].iter().find(|other| {
                other.name() == one.name()
                    || other.module() != 0 && other.module() == one.module()
                    || other.documents().is_some() && other.documents() == one.documents()
            });
            assert!(other.is_none(), "there are two data types {} of module {}", one.name(), one.module());
            assert_ne!(one.documents(), Some(DocumentType::Hash.name()), "an object is no hash");
        }
        DataTypes(types.into())
    }

    /// The type of the values that an effect is about; `None` where that is not part of this program.
    pub fn of_effect(&self, effect: &Effect<'_>) -> Option<&'static dyn DataType> {
        self.0.iter().copied().find(|data_type| data_type.takes(effect))
    }

    /// The type of documents that ON of FT.CREATE calls so, in any case.
    pub fn documents(&self, name: &[u8]) -> Option<DocumentType> {
        let objects = self.0.iter().filter(|data_type| data_type.documents().is_some());
        let mut all = std::iter::once(DocumentType::Hash).chain(objects.copied().map(DocumentType::Object));
        all.find(|documents| name.eq_ignore_ascii_case(documents.name().as_bytes()))
    }

    /// The type of a module with this name, which is that of its values in RDB.
    pub fn of_module(&self, name: &str) -> Option<&'static dyn DataType> {
        self.0.iter().copied().find(|data_type| data_type.module() != 0 && data_type.name() == name)
    }

    /// Whether a module brings one.
    pub fn has_of(&self, module: u8) -> bool {
        self.0.iter().any(|data_type| data_type.module() == module)
    }
}

impl Default for DataTypes {
    /// The engine's.
    fn default() -> DataTypes {
        DataTypes::new(Vec::new())
    }
}

impl fmt::Debug for DataTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|data_type| data_type.name())).finish()
    }
}
