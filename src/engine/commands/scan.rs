//! Walking over the keys of a database.
//!
//! A cursor is a position in hash order (see `table.rs`): a key that is there throughout a scan is returned, whatever
//! is inserted and removed meanwhile. Cursors stay valid over a restart only by their form: the order is another one.

use super::glob::glob_matches;
use crate::command::{Args, Command, CommandError, Options, Outcome, ReadHandler, Reply, acl, integer, read};
use crate::keyspace::{Database, Entry};
use crate::view::View;

pub const COMMANDS: &[Command] = &[
    row("KEYS", "pattern", keys)
        .acl(acl::KEYSPACE | acl::DANGEROUS)
        .tips(&["request_policy:all_shards", "nondeterministic_output_order"])
        .docs("1.0.0", "O(N) for N keys in the database", "Replies all keys that match a pattern."),
    row("RANDOMKEY", "", randomkey)
        .tips(&["request_policy:all_shards", "response_policy:special", "nondeterministic_output"])
        .docs("1.0.0", "O(1)", "Replies some key."),
    row("SCAN", "cursor [MATCH pattern] [COUNT count] [TYPE type]", scan)
        .tips(&["nondeterministic_output", "request_policy:special", "response_policy:special"])
        .docs(
            "2.8.0",
            "O(1) a call, O(N) for a whole walk over N keys",
            "Walks over the keys of the database in steps.",
        ),
];

const fn row(name: &'static str, usage: &'static str, handler: ReadHandler) -> Command {
    read(name, usage, handler).acl(acl::KEYSPACE)
}

fn keys(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let pattern = args.word(1);
    let entries = view.whole_database().into_iter().flat_map(Database::iter);
    let alive = entries.filter(|entry| entry.alive(view.now_ms()));
    let found: Vec<&[u8]> = alive.map(Entry::key).filter(|key| glob_matches(pattern, key)).collect();
    reply.array(found.len());
    found.iter().for_each(|key| reply.bulk(key));
    Ok(())
}

fn randomkey(view: &View<'_>, _: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    const TRIES: usize = 100;
    let Some(database) = view.whole_database() else {
        reply.null();
        return Ok(());
    };
    let alive = |entry: &&Entry| entry.alive(view.now_ms());
    let sampled = (0..TRIES).find_map(|_| database.sample(view.random(), view.random()).filter(alive));
    // Where nearly all have expired, chance may miss the rest.
    let found = sampled.or_else(|| database.iter().find(alive));
    reply.optional_bulk(found.map(Entry::key));
    Ok(())
}

fn scan(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let cursor = parse_cursor(args.word(1))?;
    let options = ScanOptions::parse(args.options(2), ScanOf::Keys)?;
    let mut keys: Vec<&[u8]> = Vec::new();
    let next = match view.whole_database() {
        None => 0,
        Some(database) => database.scan(cursor, options.count, &mut |entry| {
            let fits = entry.alive(view.now_ms())
                && options.wants(entry.key())
                && options
                    .type_name
                    .is_none_or(|name| name.eq_ignore_ascii_case(entry.value().type_name().as_bytes()));
            if fits {
                keys.push(entry.key());
            }
        }),
    };
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(next).as_bytes());
    reply.array(keys.len());
    keys.iter().for_each(|key| reply.bulk(key));
    Ok(())
}

/// What a scan walks over: it decides which options there are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ScanOf {
    Keys,
    Fields,
}

/// The options of SCAN and HSCAN.
pub struct ScanOptions<'a> {
    pattern: Option<&'a [u8]>,
    pub count: usize,
    pub type_name: Option<&'a [u8]>,
    /// HSCAN: names only.
    pub no_values: bool,
}

impl<'a> ScanOptions<'a> {
    pub fn parse(mut options: Options<'a>, of: ScanOf) -> Result<ScanOptions<'a>, CommandError> {
        let mut parsed = ScanOptions { pattern: None, count: 10, type_name: None, no_values: false };
        while !options.is_done() {
            if options.take("MATCH") {
                parsed.pattern = Some(options.word()?);
            } else if options.take("COUNT") {
                let count = usize::try_from(integer(options.word()?)?).ok().filter(|&count| count > 0);
                parsed.count = count.ok_or(CommandError::SYNTAX)?;
            } else if of == ScanOf::Keys && options.take("TYPE") {
                parsed.type_name = Some(options.word()?);
            } else if of == ScanOf::Fields && options.take("NOVALUES") {
                parsed.no_values = true;
            } else {
                return Err(CommandError::SYNTAX);
            }
        }
        Ok(parsed)
    }

    pub fn wants(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob_matches(pattern, name))
    }
}

pub fn parse_cursor(word: &[u8]) -> Result<u64, CommandError> {
    let digits = std::str::from_utf8(word).ok().filter(|text| !text.starts_with('+'));
    digits.and_then(|text| text.parse().ok()).ok_or(CommandError::INVALID_CURSOR)
}
