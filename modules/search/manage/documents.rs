//! The commands by which older clients read and write documents: FT.ADD, FT.DEL, FT.GET, FT.MGET. A document
//! is the hash at its key, so these are other names for commands about hashes.
//!
//! What FT.ADD says of a document itself (score, language, payload) is kept in fields of these names, which
//! FT.GET does not show, as in RediSearch 2.10.

use crate::documents::filtering::is_taken;
use crate::error::{Kind, SearchError};
use crate::index::Index;
use crate::module::find;
use crate::schema::Definition;
use crate::schema::filter::DocumentFilter;
use crate::schema::language::NamedLanguage;
use crate::search::shape::{is_flat, shaped};
use crate::search::styled;
use engramdb_engine::command::{Args, CommandError, Outcome, Reply};
use engramdb_engine::effect::{Cause, Effect, List};
use engramdb_engine::keyspace::{DocumentType, Several, ShownValue};
use engramdb_engine::store::document::Document;
use engramdb_engine::store::tx::Tx;
use engramdb_engine::store::view::View;
use engramdb_engine::types::parse_double;

const SCORE: &[u8] = b"__score";
const LANGUAGE: &[u8] = b"__language";
const PAYLOAD: &[u8] = b"__payload";

/// The most fields of a document that a reply shows, the most keys of a command, and the most fields of all
/// of them: reading more would hold the keyspace's lock for long.
const SHOWN_MAX: usize = 4096;
const KEYS_MAX: usize = 4096;
const SHOWN_TOGETHER_MAX: usize = 65_536;

pub fn get(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    check_words(args, 3, 3)?;
    let index = styled(view, find(view, args[1], Kind::NoIndexToChange))?;
    view.wait_for(index.changed_by());
    write(view, index, args[2], reply)
}

pub fn get_many(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    check_words(args, 3, usize::MAX)?;
    let index = styled(view, find(view, args[1], Kind::NoIndexToChange))?;
    view.wait_for(index.changed_by());
    let keys = args.from(2);
    if keys.len() > KEYS_MAX {
        return Err(CommandError::new(format!("ERR FT.MGET reads at most {KEYS_MAX} documents")));
    }
    let stored = |key: &&[u8]| match view.document(key, index.definition.documents) {
        Some(Document::Hash(hash)) => hash.stored(),
        _ => 0,
    };
    if keys.iter().map(stored).sum::<usize>() > SHOWN_TOGETHER_MAX {
        let cause = format!("ERR the documents have more than {SHOWN_TOGETHER_MAX} fields: ask for fewer");
        return Err(CommandError::new(cause));
    }
    reply.array(keys.len());
    for key in keys {
        if reply.room() == 0 {
            reply.give_up();
            return Ok(());
        }
        write(view, index, key, reply)?;
    }
    Ok(())
}

/// Writes the fields of a document; a null if the index does not have it.
fn write(view: &View<'_>, index: &Index, key: &[u8], reply: &mut dyn Reply) -> Outcome {
    let is_indexed = index.documents.read().id(key).is_some();
    let document = view.document(key, index.definition.documents).filter(|_| is_indexed);
    let Some(document) = document else {
        reply.null();
        return Ok(());
    };
    // RediSearch shows nothing of other documents than hashes.
    let Document::Hash(hash) = document else {
        reply.array(0);
        return Ok(());
    };
    if hash.stored() > SHOWN_MAX {
        let cause =
            format!("ERR the document has more than {SHOWN_MAX} fields: read it with HGETALL or HSCAN");
        return Err(CommandError::new(cause));
    }
    let mut fields = Vec::with_capacity(hash.stored());
    document.each_shown(Several::First, |name, value| {
        if !is_own(&index.definition, name) {
            fields.push((name, value));
        }
    });
    shaped(is_flat(view, reply), reply, |reply| {
        reply.array(2 * fields.len());
        for (name, value) in fields {
            reply.bulk(name);
            if let ShownValue::Stored(value) = value {
                reply.string(value);
            }
        }
    });
    Ok(())
}

/// Whether a field says something of the document itself.
fn is_own(definition: &Definition, name: &[u8]) -> bool {
    let options = &definition.options;
    let own = [
        (&options.score_field, SCORE),
        (&options.language_field, LANGUAGE),
        (&options.payload_field, PAYLOAD),
    ];
    own.iter().any(|(given, default)| if given.is_empty() { name == *default } else { name == &given[..] })
}

pub fn delete(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    // The word DD was needed once to delete the hash as well.
    check_words(args, 3, 4)?;
    let key = args[2];
    let is_there = tx.read(|view| {
        let found = find(view, args[1], Kind::NoIndexToChange);
        let is_known = args.get(3).is_none() || args.is(3, "DD");
        styled(
            view,
            found.and_then(|_| match is_known {
                true => Ok(view.entry(key).is_some()),
                false => Err(Kind::UnknownArgument.of(args[3])),
            }),
        )
    })?;
    if is_there {
        tx.apply(Effect::Delete { key, cause: Cause::Command });
    }
    reply.integer(i64::from(is_there));
    Ok(())
}

fn check_words(args: Args<'_>, least: usize, most: usize) -> Outcome {
    if (least..=most).contains(&args.len()) {
        return Ok(());
    }
    let name = crate::error::text(args[0]).to_uppercase();
    Err(CommandError::new(format!("ERR wrong number of arguments for '{name}' command")))
}

/// FT.ADD's words.
#[derive(Default)]
struct Addition<'a> {
    replaces: bool,
    /// Fields that are not named stay.
    is_partial: bool,
    must_exist: bool,
    condition: Option<DocumentFilter>,
    /// Names and values in turn.
    fields: Vec<&'a [u8]>,
}

impl<'a> Addition<'a> {
    fn parse(args: Args<'a>, score: &'a str) -> Result<Addition<'a>, SearchError> {
        let mut addition = Addition::default();
        let mut own: Vec<&[u8]> = Vec::new();
        if score != "1" {
            own.extend([SCORE, score.as_bytes()]);
        }
        let mut words = args.options(4);
        loop {
            if words.is_done() {
                return Err(Kind::NoFieldList.error());
            } else if words.take("REPLACE") {
                addition.replaces = true;
            } else if words.take("PARTIAL") {
                addition.is_partial = true;
            } else if words.take("NOCREATE") {
                addition.must_exist = true;
            } else if words.take("LANGUAGE") {
                let language = crate::words::value(&mut words, "LANGUAGE")?;
                if NamedLanguage::of(&language.to_ascii_lowercase()) == NamedLanguage::Unknown {
                    return Err(Kind::UnsupportedLanguage.error());
                }
                own.extend([LANGUAGE, language]);
            } else if words.take("PAYLOAD") {
                own.extend([PAYLOAD, words.word().map_err(|_| Kind::NoPayload.error())?]);
            } else if words.take("IF") {
                addition.condition = Some(DocumentFilter::parse(crate::words::value(&mut words, "IF")?)?);
            } else if words.take("FIELDS") {
                break;
            } else {
                return Err(Kind::UnknownKeyword.of(words.word()?));
            }
        }
        addition.fields = words.words(words.left())?.to_vec();
        if !addition.fields.len().is_multiple_of(2) {
            return Err(Kind::FieldsUnpaired.error());
        }
        addition.fields.extend(own);
        Ok(addition)
    }
}

fn score_of(word: &[u8]) -> Result<String, SearchError> {
    let score = parse_double(word).filter(|score| !score.is_nan()).ok_or(Kind::DocumentScore.error())?;
    if !(0.0..=1.0).contains(&score) {
        return Err(Kind::ScoreBounds.error());
    }
    Ok(score.to_string())
}

/// What FT.ADD is to do with a document.
enum Step {
    /// Removes what it had.
    Replace,
    Change,
    /// The condition does not hold.
    Nothing,
}

pub fn add(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    check_words(args, 4, usize::MAX)?;
    let key = args[2];
    let score = tx.read(|view| styled(view, score_of(args[3])))?;
    let (addition, step) = tx.read(|view| {
        let parse = || {
            let addition = Addition::parse(args, &score)?;
            let index = find(view, args[1], Kind::NoIndexToTell)?;
            let step = step(view, index, key, &addition)?;
            Ok((addition, step))
        };
        styled(view, parse())
    })?;
    if let Step::Nothing = step {
        reply.simple("NOADD");
        return Ok(());
    }
    let fields = List::Arguments(&addition.fields);
    let effect = Effect::HashSet { key, fields, keep_expiry: false };
    if !tx.foresees_fields(&effect, &addition.fields) {
        return Ok(());
    }
    if let Step::Replace = step {
        tx.apply(Effect::Delete { key, cause: Cause::Command });
    }
    if !addition.fields.is_empty() {
        tx.apply(effect);
    }
    reply.ok();
    Ok(())
}

fn step(view: &View<'_>, index: &Index, key: &[u8], addition: &Addition<'_>) -> Result<Step, SearchError> {
    let before = view.hash(key).map_err(|_| Kind::BadDocumentKey.error())?;
    if before.is_none() {
        return if addition.must_exist { Err(Kind::NoDocument.error()) } else { Ok(Step::Change) };
    }
    if !addition.replaces {
        return Err(Kind::DocumentExists.error());
    }
    if let Some(condition) = &addition.condition {
        let document = view.document(key, DocumentType::Hash).expect("a hash is one");
        if !is_taken(condition, &index.definition, key, &document) {
            return Ok(Step::Nothing);
        }
    }
    Ok(if addition.is_partial { Step::Change } else { Step::Replace })
}

/// Reads bytes as the words of FT.ADD, which tabs separate. Panics if what is to be stored is not what the
/// words say.
pub fn fuzz_addition(bytes: &[u8]) {
    let mut words: Vec<&[u8]> = vec![b"FT.ADD", b"i", b"key"];
    words.extend(bytes.split(|&byte| byte == b'\t'));
    let args = Args::new(&words);
    let Ok(score) = score_of(args[3]) else { return };
    let Ok(addition) = Addition::parse(args, &score) else { return };
    assert!(addition.fields.len().is_multiple_of(2), "each name has a value");
    let own: usize = [LANGUAGE, PAYLOAD, SCORE]
        .iter()
        .map(|name| 2 * addition.fields.iter().step_by(2).filter(|field| field == &name).count())
        .sum();
    let given = addition.fields.len() - own;
    assert!(words[words.len() - given..] == addition.fields[..given] || own > 0, "fields are those given");
    let has_score = addition.fields.as_chunks::<2>().0.contains(&[SCORE, score.as_bytes()]);
    assert!(has_score || score == "1", "the score is kept");
}
