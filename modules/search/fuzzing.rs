//! The target of fuzzing for what a log or a client says about indexes, dictionaries and suggestions.

use crate::effects::{KIND_SUGGEST, KIND_UNSUGGEST};
use crate::schema::change::{AliasChange, Alteration, DictionaryChange, SynonymChange};
use crate::schema::create::{self, add_fields};
use crate::schema::{Definition, VERSION};
use crate::suggest::top::top;
use crate::suggest::value::{Suggestions, effect_on};
use engramdb_engine::command::Args;
use engramdb_engine::keyspace::{DataTypes, DocumentType, EffectOrigin, TypedValue};

/// Reads bytes as words of FT.CREATE and FT.ALTER, and as each payload of the module's effects. The first
/// byte chooses the version of a definition. Panics if something that was read is written as something else.
pub fn fuzz_definitions(bytes: &[u8]) {
    let Some((&choice, bytes)) = bytes.split_first() else { return };
    let mut words: Vec<&[u8]> = vec![b"FT.CREATE", b"i"];
    words.extend(bytes.split(|&byte| byte == b' ').filter(|word| !word.is_empty()));
    let (args, types) = (Args::new(&words), DataTypes::default());
    if let Ok(definition) = create::parse(args, &types, u64::MAX) {
        let read = Definition::decode(VERSION, &definition.encode(), &types);
        assert_eq!(read, Ok(definition), "a definition is read as it was written");
    }
    let mut fields = Vec::new();
    if add_fields(&mut args.options(2), b"i", DocumentType::Hash, u64::MAX, &mut fields).is_ok() {
        let written = Alteration { name: b"i".to_vec(), fields, skips_scan: choice % 2 == 0 };
        let read = Alteration::decode(VERSION, &written.encode()).expect("it was written here");
        assert!(read.fields == written.fields && read.skips_scan == written.skips_scan);
    }
    _ = Definition::decode(choice % VERSION + 1, bytes, &types);
    _ = Alteration::decode(choice % VERSION + 1, bytes);
    _ = AliasChange::decode(bytes);
    if let Ok(change) = SynonymChange::decode(bytes) {
        assert_eq!(SynonymChange::decode(&change.encode()).map(|change| change.terms), Ok(change.terms));
    }
    _ = DictionaryChange::decode(bytes);
    suggest(bytes);
}

fn suggest(bytes: &[u8]) {
    let mut value = Suggestions::default();
    if value.apply(&effect_on(b"k", KIND_SUGGEST, bytes), EffectOrigin::Stored).is_none() {
        return;
    }
    assert_eq!(value.copy().digest(), value.digest(), "a copy is equal");
    let mut texts = Vec::new();
    value.0.each_from(0, &mut |suggestion| {
        texts.push(suggestion.text.to_vec());
        true
    });
    for text in texts {
        for fuzzy in [false, true] {
            let found = top(&value.0, &text, fuzzy, 3);
            assert!(found.is_err() || found.is_ok_and(|found| !found.is_empty()), "a text completes itself");
        }
        value.apply(&effect_on(b"k", KIND_UNSUGGEST, &text), EffectOrigin::Stored).expect("it fits");
    }
    assert!(value.is_empty());
}
