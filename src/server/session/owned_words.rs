//! A request with large words, each in memory of its own: what becomes a value is then referred to and not
//! copied, under no lock and by no worker.

use engramdb_engine::types::{Content, Contents};
use engramdb_resp::Request;
use std::ops::Range;
use std::sync::Arc;

/// Large words of a request that are together as long as this are worth a job of their own.
const REQUEST_BYTES_MIN: usize = 1 << 20;

/// The ranges of a request's words in its buffer, if its large words are too long together for a worker to
/// copy them.
pub fn large_words(request: &Request<'_>) -> Option<Vec<Range<usize>>> {
    let (first, last) = (request.range(0)?, request.range(request.len() - 1)?);
    if last.end - first.start < REQUEST_BYTES_MIN {
        return None;
    }
    let large = request.iter().map(<[u8]>::len).filter(|&length| length >= Contents::BYTES_MIN);
    let is_large = large.sum::<usize>() >= REQUEST_BYTES_MIN;
    is_large.then(|| (0..request.len()).filter_map(|word| request.range(word)).collect())
}

pub struct Owned {
    /// The small words, concatenated.
    text: Vec<u8>,
    words: Vec<Word>,
    contents: Arc<Contents>,
    bytes: usize,
}

enum Word {
    Small(Range<usize>),
    Large(Arc<Vec<u8>>),
}

impl Owned {
    /// Copies the words.
    pub fn new(buffer: &[u8], ranges: &[Range<usize>]) -> Owned {
        let (mut text, mut contents) = (Vec::new(), Vec::new());
        let mut own = |range: &Range<usize>| {
            let word = &buffer[range.clone()];
            if word.len() < Contents::BYTES_MIN {
                let start = text.len();
                text.extend_from_slice(word);
                return Word::Small(start..text.len());
            }
            let content = Content::new(word.to_vec());
            let word = Word::Large(content.bytes().clone());
            contents.push(content);
            word
        };
        let words = ranges.iter().map(&mut own).collect();
        let bytes = ranges.iter().map(Range::len).sum();
        Owned { text, words, contents: Arc::new(Contents::new(contents)), bytes }
    }

    pub fn words(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.words.iter().map(|word| match word {
            Word::Small(range) => &self.text[range.clone()],
            Word::Large(bytes) => bytes.as_slice(),
        })
    }

    pub fn contents(&self) -> &Arc<Contents> {
        &self.contents
    }

    pub fn heap_bytes(&self) -> usize {
        self.bytes + self.words.capacity() * size_of::<Word>()
    }
}
