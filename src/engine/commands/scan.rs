//! Walks over the keys of a database.
//!
//! A cursor is a position in hash order (see `table.rs`): a key that exists throughout a scan is returned,
//! whatever is inserted and removed meanwhile. After a restart, a cursor is still accepted, but the order is
//! a different one.

use super::glob::glob_matches;
use super::slices::{AT_ONCE, Copied, SLICE};
use crate::command::{
    Args, Command, CommandError, Finish, Job, Looks, OptionWords, Outcome, ReadHandler, Reply, Rest, Stage,
    StagedHandler, acl, integer, read, sliced,
};
use crate::hashing::HashMap;
use crate::keyspace::{Database, Entry};
use crate::store::hazard::Changes;
use crate::store::view::View;
use crate::types::{Field, RowElement};
use std::sync::Arc;

pub const COMMANDS: &[Command] = &[
    sliced_row("KEYS", "pattern", keys)
        .acl(acl::KEYSPACE | acl::DANGEROUS)
        .tips(&["request_policy:all_shards", "nondeterministic_output_order"])
        .docs("1.0.0", "O(N) for N keys in the database", "Returns all keys that match a pattern."),
    row("RANDOMKEY", "", randomkey)
        .tips(&["request_policy:all_shards", "response_policy:special", "nondeterministic_output"])
        .docs("1.0.0", "O(1)", "Returns a random key."),
    sliced_row("SCAN", "cursor [MATCH pattern] [COUNT count] [TYPE type]", scan)
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

const fn sliced_row(name: &'static str, usage: &'static str, handler: StagedHandler) -> Command {
    sliced(name, usage, handler).acl(acl::KEYSPACE)
}

fn keys(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let database = view.whole_database();
    if database.is_some_and(|database| database.len() > AT_ONCE) {
        let (pattern, changes) = (args.word(1).to_vec(), view.note_changes());
        let job: Job = Box::new(move |looks| {
            let mut names = KeyNames::new(pattern, changes);
            names.walk(looks);
            let finish: Finish = Box::new(move |view, _| {
                names.look_again(view);
                let now_ms = view.now_ms();
                Ok(Rest::Write(Box::new(move |reply| names.write(now_ms, reply))))
            });
            finish
        });
        return Ok(Stage::Copy(job));
    }
    let pattern = args.word(1);
    let alive = database.into_iter().flat_map(Database::iter).filter(|entry| entry.alive(view.now_ms()));
    let found: Vec<&[u8]> = alive.map(Entry::key).filter(|key| glob_matches(pattern, key)).collect();
    reply.array(found.len());
    found.iter().for_each(|key| reply.bulk(key));
    Ok(Stage::Done)
}

/// The keys of a database that match a pattern, collected in slices. Keys that change meanwhile are looked at
/// again, so that the result is consistent as of the last look.
struct KeyNames {
    pattern: Vec<u8>,
    changes: Arc<Changes>,
    names: Copied,
    /// The expiry of each name; 0 for never.
    expiries: Vec<u64>,
    /// Changed keys: the expiry, if the key exists and matches.
    changed: HashMap<Vec<u8>, Option<u64>>,
}

/// The number of changed keys that may be left to the last look.
const CHANGED_FEW: usize = 256;

impl KeyNames {
    fn new(pattern: Vec<u8>, changes: Arc<Changes>) -> KeyNames {
        KeyNames {
            pattern,
            changes,
            names: Copied::default(),
            expiries: Vec::new(),
            changed: HashMap::default(),
        }
    }

    fn walk(&mut self, looks: &dyn Looks) {
        let mut cursor = 0;
        loop {
            looks.look(&mut |view| {
                let Some(database) = view.whole_database() else { return cursor = 0 };
                cursor = database.scan(cursor, SLICE, &mut |entry| {
                    if glob_matches(&self.pattern, entry.key()) {
                        self.names.push(entry.key());
                        self.expiries.push(entry.expires_at_ms());
                    }
                });
            });
            if self.names.bytes() > looks.room() {
                return self.names.give_up();
            }
            if cursor == 0 {
                break;
            }
        }
        // Repeat until the changes during one look are few, or no fewer than during the look before.
        let mut most = usize::MAX;
        while self.changes.count() > CHANGED_FEW && self.changes.count() < most {
            most = self.changes.count();
            let keys = self.changes.take();
            for some in keys.chunks(SLICE) {
                looks.look(&mut |view| some.iter().for_each(|key| self.look_at(view, key)));
            }
        }
    }

    /// The last look.
    fn look_again(&mut self, view: &View<'_>) {
        view.whole_keyspace();
        if self.names.is_beyond() {
            return;
        }
        if self.changes.are_all() {
            // The database was flushed or swapped.
            (self.names, self.expiries) = (Copied::default(), Vec::new());
            self.changed.clear();
            let database = view.whole_database().into_iter();
            for entry in
                database.flat_map(Database::iter).filter(|entry| glob_matches(&self.pattern, entry.key()))
            {
                self.names.push(entry.key());
                self.expiries.push(entry.expires_at_ms());
            }
            return;
        }
        self.changes.take().iter().for_each(|key| self.look_at(view, key));
    }

    fn look_at(&mut self, view: &View<'_>, key: &[u8]) {
        if glob_matches(&self.pattern, key) {
            let expiry = view.peek(view.database(), key).map(Entry::expires_at_ms);
            self.changed.insert(key.to_vec(), expiry);
        }
    }

    fn write(&self, now_ms: u64, reply: &mut dyn Reply) {
        if self.names.is_beyond() {
            return reply.give_up();
        }
        let is_alive = |expiry: u64| expiry == 0 || expiry > now_ms;
        let of_walk = (0..self.names.len())
            .filter(|&at| is_alive(self.expiries[at]) && !self.changed.contains_key(self.names.get(at)));
        let of_walk: Vec<usize> = of_walk.collect();
        let changed = self.changed.iter().filter(|(_, expiry)| expiry.is_some_and(is_alive));
        reply.array(of_walk.len() + changed.clone().count());
        of_walk.into_iter().for_each(|at| self.names.write(at, reply));
        changed.for_each(|(key, _)| reply.bulk(key));
    }
}

fn randomkey(view: &View<'_>, _: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    const TRIES: usize = 100;
    let Some(database) = view.whole_database() else {
        reply.null();
        return Ok(());
    };
    let alive = |entry: &&Entry| entry.alive(view.now_ms());
    let sampled = (0..TRIES).find_map(|_| database.sample(view.random(), view.random()).filter(alive));
    // If nearly all keys have expired, random draws may miss the others.
    let found = sampled.or_else(|| database.iter().find(alive));
    reply.optional_bulk(found.map(Entry::key));
    Ok(())
}

fn scan(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let cursor = parse_cursor(args.word(1))?;
    let options = ScanOptions::parse(args.options(2), ScanOf::Keys)?;
    let database = view.whole_database();
    if options.count > AT_ONCE && database.is_some_and(|database| database.len() > AT_ONCE) {
        return Ok(scan_in_slices(cursor, &options));
    }
    let mut found = ScanFound::default();
    let next = scan_database(view, cursor, options.count, &options, &mut found);
    found.write(next, reply);
    Ok(Stage::Done)
}

fn scan_database(
    view: &View<'_>,
    cursor: u64,
    count: usize,
    options: &ScanOptions<'_>,
    found: &mut ScanFound,
) -> u64 {
    let Some(database) = view.whole_database() else { return 0 };
    database.scan(cursor, count, &mut |entry| {
        let fits = entry.alive(view.now_ms())
            && options.wants(entry.key())
            && options
                .type_name
                .is_none_or(|name| name.eq_ignore_ascii_case(entry.value().type_name().as_bytes()));
        if fits {
            found.items.push(entry.key());
        }
    })
}

/// SCAN with a large count: its result need not be consistent as of one moment.
fn scan_in_slices(cursor: u64, options: &ScanOptions<'_>) -> Stage {
    let options = options.to_owned();
    let job: Job = Box::new(move |looks| {
        let (mut next, mut found) = (cursor, ScanFound::default());
        found.in_slices(looks, options.count, |count, found| {
            looks.look(&mut |view| next = scan_database(view, next, count, &options.borrow(), found));
            next != 0
        });
        let finish: Finish =
            Box::new(move |_, _| Ok(Rest::Write(Box::new(move |reply| found.write(next, reply)))));
        finish
    });
    Stage::Copy(job)
}

/// The result of a step of a scan.
#[derive(Default)]
pub struct ScanFound {
    items: Copied,
}

impl ScanFound {
    pub fn field(&mut self, options: &ScanOptions<'_>, field: Field<'_>) {
        if options.wants(field.name) {
            self.items.push(field.name);
            if !options.no_values {
                self.items.push_string(field.value);
            }
        }
    }

    /// A name and what belongs to it.
    pub fn pair(&mut self, name: &[u8], value: &[u8]) {
        self.items.push(name);
        self.items.push(value);
    }

    pub fn member(&mut self, options: &ScanOptions<'_>, member: RowElement<'_>) {
        member.with_bytes(|bytes| {
            if options.wants(bytes) {
                self.items.push(bytes);
            }
        });
    }

    /// Takes slices until `count` elements were examined, or `slice` reports that there are no more.
    pub fn in_slices(
        &mut self,
        looks: &dyn Looks,
        count: usize,
        mut slice: impl FnMut(usize, &mut ScanFound) -> bool,
    ) {
        let mut left = count;
        while left > 0 {
            let some = left.min(SLICE);
            left -= some;
            if !slice(some, self) {
                return;
            }
            if self.items.bytes() > looks.room() {
                return self.items.give_up();
            }
        }
    }

    pub fn write(self, next: u64, reply: &mut dyn Reply) {
        reply.array(2);
        reply.bulk(itoa::Buffer::new().format(next).as_bytes());
        reply.array(self.items.len());
        self.items.write_all(reply);
    }
}

/// The target of a scan, which determines the available options.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ScanOf {
    Keys,
    Fields,
    /// Members of sets and sorted sets.
    Members,
}

/// The options of SCAN, HSCAN and SSCAN.
pub struct ScanOptions<'a> {
    pattern: Option<&'a [u8]>,
    pub count: usize,
    pub type_name: Option<&'a [u8]>,
    /// HSCAN: names only.
    pub no_values: bool,
}

impl<'a> ScanOptions<'a> {
    pub fn parse(mut options: OptionWords<'a>, of: ScanOf) -> Result<ScanOptions<'a>, CommandError> {
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
            } else if options.take("NOVALUES") {
                return Err(CommandError::of("ERR NOVALUES option can only be used in HSCAN"));
            } else {
                return Err(CommandError::SYNTAX);
            }
        }
        Ok(parsed)
    }

    /// A copy for work that continues without the command's words.
    pub fn to_owned(&self) -> OwnedScanOptions {
        OwnedScanOptions {
            pattern: self.pattern.map(<[u8]>::to_vec),
            count: self.count,
            type_name: self.type_name.map(<[u8]>::to_vec),
            no_values: self.no_values,
        }
    }

    pub fn wants(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob_matches(pattern, name))
    }
}

pub struct OwnedScanOptions {
    pattern: Option<Vec<u8>>,
    pub count: usize,
    type_name: Option<Vec<u8>>,
    no_values: bool,
}

impl OwnedScanOptions {
    pub fn borrow(&self) -> ScanOptions<'_> {
        ScanOptions {
            pattern: self.pattern.as_deref(),
            count: self.count,
            type_name: self.type_name.as_deref(),
            no_values: self.no_values,
        }
    }
}

pub fn parse_cursor(word: &[u8]) -> Result<u64, CommandError> {
    let digits = std::str::from_utf8(word).ok().filter(|text| !text.starts_with('+'));
    digits.and_then(|text| text.parse().ok()).ok_or(CommandError::INVALID_CURSOR)
}
