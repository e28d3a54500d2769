//! FT.SPELLCHECK: words of a query that the index does not have, and words of the index that are like them.
//!
//! All terms of the index's TEXT fields are compared with each word, in slices and without the keyspace's
//! lock, so a check is no answer of one moment. It ends with an error when its time is over (TIMEOUT of
//! FT.CONFIG), or when it finds too much.

use crate::documents::texts::TextPosting;
use crate::edits::{EDITS_MAX, edits_between};
use crate::error::{Kind, SearchError};
use crate::index::Index;
use crate::module::{SearchModule, find};
use crate::number::format_number;
use crate::query::{self, Node, Parameters, Pattern, TextMatch, WordScope};
use crate::registry::dictionaries::Dictionary;
use crate::search::shape::{is_flat, shaped};
use crate::search::styled;
use crate::words::whole_number;
use engramdb_engine::command::{Args, CommandError, Finish, Job, Reply, Rest, Stage, WaitingJob};
use engramdb_engine::env::Clock;
use engramdb_engine::store::view::View;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Terms that are compared under one hold of the documents.
const TERMS_AT_ONCE: usize = 1024;
/// The most words that are like those of one query.
const FOUND_MAX: usize = 100_000;
/// Comparisons that run on the thread of the command.
const INLINE_COMPARISONS_MAX: usize = 4096;

/// The words that a request names beside those of the index.
#[derive(Default)]
struct WordList {
    dictionaries: Vec<Dictionary>,
    words: BTreeSet<Vec<u8>>,
}

impl WordList {
    fn contains(&self, word: &[u8]) -> bool {
        self.words.contains(word) || self.dictionaries.iter().any(|terms| terms.read().contains(word))
    }
}

/// A request.
struct Check {
    index: Arc<Index>,
    /// The words of the query in their order, each with the fields that it is looked for in.
    words: Vec<(Arc<[usize]>, Vec<u8>)>,
    distance: u8,
    counts_documents: bool,
    includes: WordList,
    excludes: WordList,
    clock: Arc<dyn Clock>,
    deadline: Option<Duration>,
    /// It waits for a backfill.
    waits: bool,
}

/// Words that are like one of the query, best first: the number of documents, and the word.
type Alike = Vec<(u64, Vec<u8>)>;

pub fn check(view: &View<'_>, args: Args<'_>, _reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    styled(view, begin(view, args))
}

fn begin(view: &View<'_>, args: Args<'_>) -> Result<Stage, SearchError> {
    let module = view.module::<SearchModule>();
    let index = find(view, args[1], Kind::NoIndexToChange)?;
    view.wait_for(index.changed_by());
    let clock = module.options.env.clock.clone();
    let timeout = module.settings.timeout();
    let waits = index.is_backfilling() && !module.settings.partial_results();
    let mut check = Check {
        index: index.clone(),
        words: Vec::new(),
        distance: 1,
        counts_documents: false,
        includes: WordList::default(),
        excludes: WordList::default(),
        deadline: timeout.map(|timeout| clock.monotonic() + timeout),
        clock,
        waits,
    };
    check.read_options(view, args)?;
    let scope = WordScope { keeps_stop_words: true, ..WordScope::default() };
    let template = query::parse(&index.definition, args[2], &Parameters::default(), scope)?;
    let query = template.bind(&index.definition, &args)?;
    words_of(&query.filter, &mut check.words);
    let terms = index.documents.read().texts().len();
    let comparisons = terms.saturating_mul(check.words.len());
    let job: Job = Box::new(move |_| check.run());
    if waits {
        let at_most = if view.is_exclusive() { Some(Duration::ZERO) } else { timeout };
        return Ok(Stage::Wait(WaitingJob { signal: index.backfilled(), at_most, job }));
    }
    Ok(if comparisons > INLINE_COMPARISONS_MAX { Stage::Offload(job) } else { Stage::Run(job) })
}

/// The exact words of a query's tree, whose depth the parser bounds.
fn words_of(node: &Node, words: &mut Vec<(Arc<[usize]>, Vec<u8>)>) {
    match node {
        Node::Text { fields, text: TextMatch::Term(Pattern::Exact(word)) } => {
            words.push((fields.clone(), word.clone()));
        }
        Node::Text { fields, text: TextMatch::Phrase(phrase) } => {
            words.extend(phrase.iter().map(|word| (fields.clone(), word.clone())));
        }
        node => node.children().iter().for_each(|node| words_of(node, words)),
    }
}

impl Check {
    fn read_options(&mut self, view: &View<'_>, args: Args<'_>) -> Result<(), SearchError> {
        let mut words = args.options(3);
        while !words.is_done() {
            if words.take("DISTANCE") {
                let word = words.word().map_err(|_| Kind::NoDistance.error())?;
                let distance: Option<u8> = whole_number(word);
                let distance = distance.filter(|distance| (1..=EDITS_MAX).contains(distance));
                self.distance = distance.ok_or(Kind::BadDistance.error())?;
            } else if words.take("TERMS") {
                let list = match words.peek() {
                    None => return Err(Kind::NoTerms.error()),
                    Some(_) if words.take("INCLUDE") => &mut self.includes,
                    Some(_) if words.take("EXCLUDE") => &mut self.excludes,
                    Some(_) => return Err(Kind::BadTerms.error()),
                };
                let name = words.word().map_err(|_| Kind::NoTerms.error())?;
                view.whole_keyspace();
                let dictionary = view.module::<SearchModule>().dictionaries.get(view.database(), name);
                list.dictionaries.push(dictionary.ok_or_else(|| Kind::NoDictionary.of(name))?.clone());
                let is_option = |word: &[u8]| {
                    [&b"DISTANCE"[..], b"TERMS", b"DIALECT", b"FULLSCOREINFO"]
                        .iter()
                        .any(|option| word.eq_ignore_ascii_case(option))
                };
                while words.peek().is_some_and(|word| !is_option(word)) {
                    list.words.insert(words.word()?.to_vec());
                }
            } else if words.take("DIALECT") {
                let word = words.word().map_err(|_| Kind::NeedsArgument.of(b"DIALECT"))?;
                let dialect: Option<u32> = whole_number(word);
                dialect.filter(|dialect| (1..=4).contains(dialect)).ok_or(Kind::BadDialect.error())?;
            } else if words.take("FULLSCOREINFO") {
                self.counts_documents = true;
            } else {
                return Err(Kind::UnknownArgument.of(words.word()?));
            }
        }
        Ok(())
    }

    fn run(self) -> Finish {
        let found = self.find();
        Box::new(move |view, reply| {
            let is_flat = is_flat(view, reply);
            if view.module::<SearchModule>().same_index(view.database(), &self.index).is_none() {
                view.whole_keyspace();
                return styled(view, Err(Kind::NoIndexToChange.of(&self.index.definition.name)));
            }
            view.wait_for(self.index.changed_by());
            let (found, documents) = styled(view, found)?;
            shaped(is_flat, reply, |reply| self.write(reply, &found, documents));
            Ok(Rest::Nothing)
        })
    }

    /// By word that the index does not have, the words that are like it; and the number of documents.
    fn find(&self) -> Result<(BTreeMap<Vec<u8>, Alike>, usize), SearchError> {
        if self.waits && self.index.is_backfilling() {
            return Err(Kind::Backfilling.error());
        }
        let (mut found, mut left) = (BTreeMap::new(), FOUND_MAX);
        for (fields, word) in &self.words {
            if found.contains_key(word) || self.is_known(fields, word) {
                continue;
            }
            let alike = self.alike(fields, word, &mut left)?;
            found.insert(word.clone(), alike);
        }
        Ok((found, self.index.documents.read().len()))
    }

    fn is_known(&self, fields: &[usize], word: &[u8]) -> bool {
        let documents = self.index.documents.read();
        let posting = documents.texts().get(word);
        let has = posting.is_some_and(|posting| posting.places().iter().any(|place| place.is_in(fields)));
        has || self.excludes.contains(word)
    }

    fn alike(&self, fields: &[usize], word: &[u8], left: &mut usize) -> Result<Alike, SearchError> {
        let wanted: Vec<char> = String::from_utf8_lossy(word).chars().collect();
        let mut found: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        let mut compare = |term: &[u8], count: &dyn Fn() -> u64| {
            let characters = String::from_utf8_lossy(term);
            if *left > 0 && edits_between(&wanted, characters.chars(), self.distance).is_some() {
                *found.entry(term.to_vec()).or_default() += count();
                *left -= 1;
            }
        };
        let mut after = None;
        loop {
            self.check_time()?;
            let documents = self.index.documents.read();
            let each = |term: &[u8], posting: &TextPosting| {
                if posting.places().iter().any(|place| place.is_in(fields)) {
                    compare(term, &|| posting.documents(fields).len());
                }
                true
            };
            if documents.texts().walk(&mut after, b"", (1, each), &mut { TERMS_AT_ONCE }) {
                break;
            }
        }
        for dictionary in &self.includes.dictionaries {
            self.in_slices(|after| {
                let terms = dictionary.read();
                let slice = terms.after(after).take(TERMS_AT_ONCE);
                slice.inspect(|term| compare(term, &|| 0)).last().map(<[u8]>::to_vec)
            })?;
        }
        self.includes.words.iter().for_each(|word| compare(word, &|| 0));
        if *left == 0 {
            return Err(Kind::TooManyAlike.with([FOUND_MAX.to_string().into()]));
        }
        let mut alike: Alike = found.into_iter().map(|(term, count)| (count, term)).collect();
        alike.sort_by(|one, other| other.0.cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
        Ok(alike)
    }

    /// Calls `step` until it returns no term, each time with the term that it returned before. Fails if the
    /// time is over.
    fn in_slices(&self, mut step: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>>) -> Result<(), SearchError> {
        let mut after = None;
        loop {
            self.check_time()?;
            after = match step(after.as_deref()) {
                Some(last) => Some(last),
                None => return Ok(()),
            };
        }
    }

    fn check_time(&self) -> Result<(), SearchError> {
        match self.deadline.is_some_and(|deadline| self.clock.monotonic() > deadline) {
            true => Err(Kind::Timeout.error()),
            false => Ok(()),
        }
    }

    fn score(&self, count: u64, documents: usize) -> f64 {
        if self.counts_documents { count as f64 } else { count as f64 / documents.max(1) as f64 }
    }

    fn write(&self, reply: &mut dyn Reply, found: &BTreeMap<Vec<u8>, Alike>, documents: usize) {
        if reply.is_resp3() {
            return self.write_maps(reply, found, documents);
        }
        let shown = self.words.iter().filter_map(|(_, word)| Some((word, found.get(word)?)));
        reply.array(shown.clone().count() + usize::from(self.counts_documents));
        if self.counts_documents {
            reply.integer(documents as i64);
        }
        for (word, alike) in shown {
            reply.array(3);
            reply.bulk(b"TERM");
            reply.bulk(word);
            reply.array(alike.len());
            for (count, term) in alike {
                reply.array(2);
                reply.bulk(format_number(self.score(*count, documents)).as_bytes());
                reply.bulk(term);
            }
        }
    }

    fn write_maps(&self, reply: &mut dyn Reply, found: &BTreeMap<Vec<u8>, Alike>, documents: usize) {
        reply.map(1 + usize::from(self.counts_documents));
        if self.counts_documents {
            reply.bulk(b"total_docs");
            reply.integer(documents as i64);
        }
        reply.bulk(b"results");
        reply.map(found.len());
        for (word, alike) in found {
            reply.bulk(word);
            reply.array(alike.len());
            for (count, term) in alike {
                reply.map(1);
                reply.bulk(term);
                reply.double(self.score(*count, documents));
            }
        }
    }
}
