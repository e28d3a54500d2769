//! HIGHLIGHT and SUMMARIZE: what the reply shows of texts instead of the whole.

use crate::error::{Kind, SearchError};
use crate::words::{counted, whole_number};
use engramdb_engine::command::OptionWords;
use engramdb_engine::hashing::HashMap;

/// What is done with the texts of fields.
#[derive(Clone, Debug, Default)]
pub struct ExcerptOptions {
    /// With fields that are not named.
    pub others: ExcerptMode,
    /// By the field's name; an empty list if no field is named.
    pub named: Vec<(Vec<u8>, ExcerptMode)>,
    /// The places of the names in `named`.
    places: HashMap<Vec<u8>, usize>,
}

/// What is done with the text of a field.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExcerptMode {
    pub tags: Option<HighlightTags>,
    pub summary: Option<SummaryOptions>,
}

/// What is written around the words that a query found.
#[derive(Clone, Debug, PartialEq)]
pub struct HighlightTags {
    pub open: Vec<u8>,
    pub close: Vec<u8>,
}

/// How a text is shortened to fragments of it.
#[derive(Clone, Debug, PartialEq)]
pub struct SummaryOptions {
    /// The most fragments.
    pub fragments: usize,
    /// How many other words are shown with the words of a fragment.
    pub length: usize,
    /// Follows each fragment.
    pub separator: Vec<u8>,
}

/// The most fragments, and words of one, that a request may ask for.
const COUNT_MAX: usize = 1 << 16;

impl ExcerptOptions {
    pub fn are_none(&self) -> bool {
        self.named.is_empty() && self.others == ExcerptMode::default()
    }

    /// Reads one of the two options if it is next.
    pub fn read(&mut self, words: &mut OptionWords<'_>) -> Result<bool, SearchError> {
        let (mode, names) = if words.take("HIGHLIGHT") {
            read_highlight(words).ok_or_else(|| Kind::BadOption.of(b"HIGHLIGHT"))?
        } else if words.take("SUMMARIZE") {
            read_summary(words).ok_or_else(|| Kind::BadOption.of(b"SUMMARIZE"))?
        } else {
            return Ok(false);
        };
        if names.is_empty() {
            self.others.add(&mode);
        }
        for name in names {
            match self.places.get(&name) {
                Some(&place) => self.named[place].1.add(&mode),
                None => {
                    self.places.insert(name.clone(), self.named.len());
                    self.named.push((name, mode.clone()));
                }
            }
        }
        Ok(true)
    }

    /// What is done with the field that the reply shows under this name. If the request lists the fields of
    /// the reply (`returns`), the options for others are for these; otherwise they are for all fields only if
    /// none is named, as in RediSearch.
    pub fn mode(&self, name: &[u8], returns: bool) -> ExcerptMode {
        let named = self.places.get(name).map(|&place| &self.named[place].1);
        let mut mode = ExcerptMode::default();
        if returns || named.is_some() || self.named.is_empty() {
            mode.add(&self.others);
        }
        named.into_iter().for_each(|named| mode.add(named));
        mode
    }
}

impl ExcerptMode {
    fn add(&mut self, other: &ExcerptMode) {
        self.tags = other.tags.clone().or(self.tags.take());
        self.summary = other.summary.clone().or(self.summary.take());
    }
}

type Read = (ExcerptMode, Vec<Vec<u8>>);

fn read_highlight(words: &mut OptionWords<'_>) -> Option<Read> {
    let names = names(words)?;
    let mut tags = HighlightTags { open: b"<b>".to_vec(), close: b"</b>".to_vec() };
    while words.take("TAGS") {
        let [open, close] = words.words(2).ok()? else { return None };
        tags = HighlightTags { open: open.to_vec(), close: close.to_vec() };
    }
    Some((ExcerptMode { tags: Some(tags), summary: None }, names))
}

fn read_summary(words: &mut OptionWords<'_>) -> Option<Read> {
    let names = names(words)?;
    let mut summary = SummaryOptions { fragments: 3, length: 20, separator: b"... ".to_vec() };
    let number = |words: &mut OptionWords<'_>| {
        whole_number(words.word().ok()?).map(|number: u32| (number as usize).min(COUNT_MAX))
    };
    loop {
        if words.take("LEN") {
            summary.length = number(words)?;
        } else if words.take("FRAGS") {
            summary.fragments = number(words)?;
        } else if words.take("SEPARATOR") {
            summary.separator = words.word().ok()?.to_vec();
        } else {
            return Some((ExcerptMode { tags: None, summary: Some(summary) }, names));
        }
    }
}

fn names(words: &mut OptionWords<'_>) -> Option<Vec<Vec<u8>>> {
    if !words.take("FIELDS") {
        return Some(Vec::new());
    }
    let names = counted(words, "FIELDS").ok()?;
    Some(names.iter().map(|name| name.strip_prefix(b"@").unwrap_or(name).to_vec()).collect())
}
