//! The complete content of a keyspace in a comparable form, including expired keys and fields.

use engramdb_engine::keyspace::{Keyspace, ValueRef};
use engramdb_engine::module::Modules;
use std::collections::BTreeMap;

type Bytes = Vec<u8>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dumped {
    pub expires_at_ms: u64,
    pub content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    String(Bytes),
    /// Of another type: its name, and its digest, which is the same for equal values.
    Object(String, u64),
    /// By field name: the value, and the expiry (0 for never).
    Hash(BTreeMap<Bytes, (Bytes, u64)>),
}

/// By database and key.
pub type Dump = BTreeMap<(usize, Bytes), Dumped>;

pub fn dump(keyspace: &Keyspace) -> Dump {
    let mut dump = Dump::new();
    for (number, database) in keyspace.databases().iter().enumerate() {
        for entry in database.iter() {
            let content = match entry.value() {
                ValueRef::String(string) => Content::String(string.to_bytes().into_owned()),
                ValueRef::Object(object) => {
                    Content::Object(object.data_type().name().to_owned(), object.digest())
                }
                ValueRef::Small(small) => {
                    Content::Object(small.data_type().name().to_owned(), small.digest())
                }
                ValueRef::Hash(hash) => Content::Hash(
                    hash.iter()
                        .map(|field| {
                            let value = field.value.to_bytes().into_owned();
                            (field.name.to_vec(), (value, field.expires_at_ms))
                        })
                        .collect(),
                ),
            };
            let dumped = Dumped { expires_at_ms: entry.expires_at_ms(), content };
            let before = dump.insert((number, entry.key().to_vec()), dumped);
            assert!(before.is_none(), "a key occurs once");
        }
        assert_eq!(database.len(), database.iter().count(), "the length is the number of keys");
    }
    dump
}

/// The effects that the modules would write to a snapshot, encoded.
pub fn definitions(modules: &Modules) -> Vec<Vec<u8>> {
    let mut definitions = Vec::new();
    for module in modules.iter() {
        module.save(&mut |record| {
            let mut bytes = Vec::new();
            record.effect.encode(record.database, &mut bytes);
            definitions.push(bytes);
        });
    }
    definitions
}
