//! Lists of words in an effect.

use crate::types::ScoredMember;

/// Byte strings in a row: a request's arguments while executing, encoded bytes in replay.
#[derive(Clone, Copy, Debug)]
pub enum List<'a> {
    Arguments(&'a [&'a [u8]]),
    /// `count`, then each as u32 length and bytes.
    Encoded {
        count: u32,
        bytes: &'a [u8],
    },
}

impl<'a> List<'a> {
    pub fn len(&self) -> usize {
        match self {
            List::Arguments(items) => items.len(),
            List::Encoded { count, .. } => *count as usize,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn iter(&self) -> ListIter<'a> {
        ListIter(*self)
    }

    /// Names and values in turn, as pairs.
    pub fn pairs(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone + use<'a> {
        let mut items = self.iter();
        std::iter::from_fn(move || Some((items.next()?, items.next()?)))
    }
}

impl PartialEq for List<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

#[derive(Clone)]
pub struct ListIter<'a>(List<'a>);

impl<'a> Iterator for ListIter<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        match &mut self.0 {
            List::Arguments(items) => {
                let (first, rest) = items.split_first()?;
                *items = rest;
                Some(first)
            }
            List::Encoded { bytes, .. } => {
                // Checked when the effect was decoded.
                let (length, rest) = bytes.split_first_chunk::<4>()?;
                let (item, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
                *bytes = rest;
                Some(item)
            }
        }
    }
}

/// Members of a sorted set with their scores, in a row.
#[derive(Clone, Copy, Debug)]
pub enum ScoredList<'a> {
    Pairs(&'a [ScoredMember<'a>]),
    /// `count`, then each as the score's 8 bytes, u32 length and bytes.
    Encoded {
        count: u32,
        bytes: &'a [u8],
    },
}

impl<'a> ScoredList<'a> {
    pub fn len(&self) -> usize {
        match self {
            ScoredList::Pairs(pairs) => pairs.len(),
            ScoredList::Encoded { count, .. } => *count as usize,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = ScoredMember<'a>> + use<'a> {
        let mut list = *self;
        std::iter::from_fn(move || match &mut list {
            ScoredList::Pairs(pairs) => {
                let (first, rest) = pairs.split_first()?;
                *pairs = rest;
                Some(*first)
            }
            ScoredList::Encoded { bytes, .. } => {
                // Checked when the effect was decoded.
                let (score, rest) = bytes.split_first_chunk::<8>()?;
                let (length, rest) = rest.split_first_chunk::<4>()?;
                let (member, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
                *bytes = rest;
                Some(ScoredMember { score: f64::from_le_bytes(*score), member })
            }
        })
    }
}

impl PartialEq for ScoredList<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}
