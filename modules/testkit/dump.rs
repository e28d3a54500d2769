//! The complete content of a keyspace in a comparable form, including expired keys and fields.

use engramdb_engine::effect::Effect;
use engramdb_engine::keyspace::{EncodingLimits, Keyspace, TypedValue, ValueRef};
use engramdb_engine::module::Modules;
use engramdb_engine::store::users::Users;
use std::collections::BTreeMap;

type Bytes = Vec<u8>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dumped {
    pub expires_at_ms: u64,
    /// What OBJECT ENCODING replies with the limits that are the default. Empty for strings: one that APPEND
    /// or SETRANGE has made of digits is an `int` once it has been saved and loaded, as in Redis.
    pub encoding: &'static str,
    pub content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    String(Bytes),
    /// Of another type.
    Object {
        type_name: String,
        /// The same for equal values.
        digest: u64,
        /// The effects that build it, encoded, without what is not durable: of a stream all entries, groups,
        /// consumers and pending entries. Of a JSON value none: where its pieces end depends on its history,
        /// and its digest is of all that it has.
        effects: Vec<Bytes>,
    },
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
                ValueRef::Object(object) => dump_object(object),
                ValueRef::Small(small) => dump_object(&*small.unpack()),
                ValueRef::Hash(hash) => Content::Hash(
                    hash.iter()
                        .map(|field| {
                            let value = field.value.to_bytes().into_owned();
                            (field.name.to_vec(), (value, field.expires_at_ms))
                        })
                        .collect(),
                ),
            };
            let encoding = match content {
                Content::String(_) => "",
                _ => entry.encoding(&EncodingLimits::default()),
            };
            let dumped = Dumped { expires_at_ms: entry.expires_at_ms(), encoding, content };
            let before = dump.insert((number, entry.key().to_vec()), dumped);
            assert!(before.is_none(), "a key occurs once");
        }
        assert_eq!(database.len(), database.iter().count(), "the length is the number of keys");
    }
    dump
}

fn dump_object(object: &dyn TypedValue) -> Content {
    let type_name = object.data_type().name();
    let (mut effects, mut cursor) = (Vec::new(), 0);
    let mut is_done = type_name == "ReJSON-RL";
    while !is_done {
        let next = object.save(b"", cursor, &mut |effect| {
            dump_effect(effect, &mut effects);
            Ok(())
        });
        cursor = next.expect("memory does not fail");
        is_done = cursor == 0;
    }
    // The order of a set's members is that of its table.
    if type_name == "set" {
        effects.sort_unstable();
    }
    Content::Object { type_name: type_name.to_owned(), digest: object.digest(), effects }
}

fn dump_effect(effect: &Effect<'_>, effects: &mut Vec<Bytes>) {
    let mut add = |effect: &Effect<'_>| {
        let mut bytes = Vec::new();
        effect.encode(0, &mut bytes);
        effects.push(bytes);
    };
    match *effect {
        Effect::SetAdd { members, .. } => effects.extend(members.iter().map(<[u8]>::to_vec)),
        // Reads note when a consumer was seen, without an effect.
        Effect::StreamConsumer { key, group, active_ms, consumer, .. } => {
            add(&Effect::StreamConsumer { key, group, seen_ms: 0, active_ms, consumer });
        }
        _ => add(effect),
    }
}

/// What a snapshot has beside the keys, encoded: users, and the definitions of modules.
pub fn definitions(users: &Users, modules: &Modules) -> Vec<Vec<u8>> {
    let mut definitions = Vec::new();
    let saved: Result<(), std::convert::Infallible> = users.save(|effect| {
        let mut bytes = Vec::new();
        effect.encode(0, &mut bytes);
        definitions.push(bytes);
        Ok(())
    });
    saved.expect("it is infallible");
    for module in modules.iter() {
        module.save(&mut |record| {
            let mut bytes = Vec::new();
            record.effect.encode(record.database, &mut bytes);
            definitions.push(bytes);
        });
    }
    definitions
}
