//! The places of a term: the documents that have it in each field, and how often.

use super::super::ids::Counted;
use roaring::RoaringBitmap;

/// Most terms occur in one field only.
#[derive(Default)]
pub(super) enum Places {
    #[default]
    None,
    One(TermPlace),
    /// By field.
    Several(Vec<TermPlace>),
}

/// The documents that have a term in a field.
pub struct TermPlace {
    field: u16,
    pub(super) documents: Counted,
    counts: Option<Box<Counts>>,
}

/// The counts above 1: the documents whose count less one has the binary digit, for each digit.
#[derive(Default)]
pub(super) struct Counts {
    digits: Vec<Counted>,
}

impl Counts {
    pub(super) fn set(&mut self, document: u32, count: u32) {
        let left = count.saturating_sub(1);
        let digits = (u32::BITS - left.leading_zeros()) as usize;
        if self.digits.len() < digits {
            self.digits.resize_with(digits, Counted::default);
        }
        for (digit, documents) in self.digits.iter_mut().enumerate() {
            if left >> digit & 1 == 1 {
                documents.insert(document);
            } else {
                documents.remove(document);
            }
        }
    }

    pub(super) fn get(&self, document: u32) -> u32 {
        let digits = self.digits.iter().enumerate();
        1 + digits.map(|(digit, documents)| u32::from(documents.contains(document)) << digit).sum::<u32>()
    }

    fn bytes(&self) -> usize {
        let each = |documents: &Counted| size_of::<Counted>() + documents.bytes();
        self.digits.iter().map(each).sum()
    }
}

impl TermPlace {
    pub fn documents(&self) -> &RoaringBitmap {
        &self.documents
    }

    /// How often a document that has the term here has it.
    pub fn count(&self, document: u32) -> u32 {
        self.counts.as_ref().map_or(1, |counts| counts.get(document))
    }

    /// Calls `each` with the place in `documents`, which ascend, of each one whose count is not 1, and the
    /// value of a digit of its count less one. Several digits of a document come one by one.
    pub fn each_digit(&self, documents: &[u32], mut each: impl FnMut(usize, u32)) {
        let Some(counts) = &self.counts else { return };
        for (digit, found) in counts.digits.iter().enumerate() {
            each_common(found, documents, |at| each(at, 1 << digit));
        }
    }

    fn bytes(&self) -> usize {
        self.documents.bytes() + self.counts_bytes()
    }

    fn counts_bytes(&self) -> usize {
        self.counts.as_ref().map_or(0, |counts| size_of::<Counts>() + counts.bytes())
    }

    /// Returns the bytes on the heap of what was changed, before and after.
    pub(super) fn insert(&mut self, document: u32, count: u32) -> (usize, usize) {
        let before = self.documents.bytes();
        let is_new = self.documents.insert(document);
        let bytes = (before, self.documents.bytes());
        // A document that is new here has no digits yet.
        if count <= 1 && (is_new || self.counts.is_none()) {
            return bytes;
        }
        let before = self.counts_bytes();
        self.counts.get_or_insert_with(Box::default).set(document, count);
        (bytes.0 + before, bytes.1 + self.counts_bytes())
    }

    fn remove(&mut self, document: u32) {
        self.documents.remove(document);
        if let Some(counts) = &mut self.counts {
            counts.set(document, 1);
            if counts.digits.iter().all(|documents| documents.is_empty()) {
                self.counts = None;
            }
        }
    }

    /// Whether it is the place of one of these fields, which ascend.
    pub fn is_in(&self, fields: &[usize]) -> bool {
        fields.binary_search(&self.field()).is_ok()
    }

    pub fn field(&self) -> usize {
        self.field as usize
    }
}

/// Calls `each` with the positions in `documents`, which ascend, of those that a set contains.
pub fn each_common(set: &RoaringBitmap, documents: &[u32], mut each: impl FnMut(usize)) {
    let (Some(&first), Some(&last)) = (documents.first(), documents.last()) else { return };
    let mut members = set.range(first..=last);
    let mut member = members.next();
    let mut at = 0;
    while let Some(found) = member {
        while documents[at] < found {
            at += 1;
            if at == documents.len() {
                return;
            }
        }
        if documents[at] == found {
            each(at);
            at += 1;
            if at == documents.len() {
                return;
            }
        } else {
            members.advance_to(documents[at]);
        }
        member = members.next();
    }
}

impl Places {
    pub(super) fn as_slice(&self) -> &[TermPlace] {
        match self {
            Places::None => &[],
            Places::One(place) => std::slice::from_ref(place),
            Places::Several(places) => places,
        }
    }

    pub(super) fn at(&mut self, field: u16) -> &mut TermPlace {
        if !matches!(self, Places::One(place) if place.field == field) {
            self.add(field);
        }
        match self {
            Places::One(place) => place,
            Places::Several(places) => {
                let at = places.binary_search_by_key(&field, |place| place.field);
                &mut places[at.expect("added above")]
            }
            Places::None => unreachable!("added above"),
        }
    }

    /// Adds the place of a field, if there is none.
    fn add(&mut self, field: u16) {
        let new = TermPlace { field, documents: Counted::default(), counts: None };
        *self = match std::mem::take(self) {
            Places::None => Places::One(new),
            Places::One(place) if place.field == field => Places::One(place),
            Places::One(place) => {
                let mut both = vec![place, new];
                both.sort_unstable_by_key(|place| place.field);
                Places::Several(both)
            }
            Places::Several(mut places) => {
                if let Err(at) = places.binary_search_by_key(&field, |place| place.field) {
                    places.insert(at, new);
                }
                Places::Several(places)
            }
        };
    }

    /// Removes the document in a field, and the field if no document is left there. Returns whether it was
    /// there.
    pub(super) fn remove(&mut self, field: u16, document: u32) -> bool {
        let mut was_there = false;
        let mut remove = |place: &mut TermPlace| {
            was_there = place.documents.contains(document);
            place.remove(document);
        };
        *self = match std::mem::take(self) {
            Places::One(mut place) if place.field == field => {
                remove(&mut place);
                if place.documents.is_empty() { Places::None } else { Places::One(place) }
            }
            Places::Several(mut places) => {
                if let Ok(at) = places.binary_search_by_key(&field, |place| place.field) {
                    remove(&mut places[at]);
                    if places[at].documents.is_empty() {
                        places.remove(at);
                    }
                }
                match places.len() {
                    1 => Places::One(places.remove(0)),
                    _ => Places::Several(places),
                }
            }
            other => other,
        };
        was_there
    }

    pub(super) fn bytes(&self) -> usize {
        let boxed = match self {
            Places::Several(places) => {
                size_of::<Vec<TermPlace>>() + places.capacity() * size_of::<TermPlace>()
            }
            _ => 0,
        };
        boxed + self.as_slice().iter().map(TermPlace::bytes).sum::<usize>()
    }
}
