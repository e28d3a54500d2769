use super::*;
use std::collections::BTreeSet;

type Words = Vec<Vec<u8>>;

/// Numbers that look random (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let value = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (value ^ value >> 27) % end
    }

    fn words(&mut self) -> Words {
        let mut words = Words::new();
        for _ in 0..=self.below(3) {
            words.push([&b"a"[..], b"b", b"name", b"17"][self.below(4) as usize].to_vec());
            words.push(match self.below(8) {
                0 => vec![b'x'; 5000],
                1 | 2 => self.below(u64::MAX).to_string().into_bytes(),
                3 | 4 => self.below(300).to_string().into_bytes(),
                _ => (0..self.below(90)).map(|_| self.below(256) as u8).collect(),
            });
        }
        words
    }
}

fn shown(entry: StreamEntry<'_>) -> (StreamId, Words) {
    let word = |word: words::StreamWord<'_>| word.with_bytes(<[u8]>::to_vec);
    (entry.id, entry.pairs().flat_map(|(name, value)| [word(name), word(value)]).collect())
}

fn check(stream: &Stream, model: &BTreeMap<StreamId, Words>) {
    let wanted: Vec<_> = model.iter().map(|(id, words)| (*id, words.clone())).collect();
    assert_eq!(stream.range(StreamId::ZERO..=StreamId::MAX).map(shown).collect::<Vec<_>>(), wanted);
    let mut backwards: Vec<_> = stream.backwards(StreamId::ZERO..=StreamId::MAX).map(shown).collect();
    backwards.reverse();
    assert_eq!(backwards, wanted);
    assert_eq!(stream.len(), model.len());
    assert_eq!(stream.first_id(), model.keys().next().copied().unwrap_or_default());
    assert_eq!(stream.top_id(), model.keys().next_back().copied().unwrap_or_default());
    let blocks: usize = (0..stream.blocks()).map(|place| stream.block_len(place)).sum();
    assert_eq!(blocks, model.len());
    let bytes: usize = stream.blocks.iter().map(Block::heap_bytes).sum();
    assert_eq!(bytes, stream.block_bytes);
    for ms in [0, 5, 20] {
        let (from, to) = (StreamId { ms, seq: 1 }, StreamId { ms: ms + 9, seq: 2 });
        let part: Vec<_> = model.range(from..=to).map(|(id, _)| *id).collect();
        assert_eq!(stream.range(from..=to).map(|entry| entry.id).collect::<Vec<_>>(), part);
        let back = stream.backwards(from..=to).map(|entry| entry.id);
        assert_eq!(back.collect::<BTreeSet<_>>(), part.iter().copied().collect());
        assert!(part.iter().all(|id| stream.get(*id).map(|entry| entry.id) == Some(*id)));
        assert!(stream.range(to..=from).next().is_none() && stream.backwards(to..=from).next().is_none());
    }
}

#[test]
fn a_stream_has_what_a_map_has() {
    for seed in 0..200 {
        let mut numbers = Numbers(seed);
        let (mut stream, mut model) = (Stream::new(), BTreeMap::new());
        for _ in 0..numbers.below(200) {
            match numbers.below(9) {
                0 | 1 => {
                    let id = StreamId { ms: numbers.below(60), seq: numbers.below(4) };
                    assert_eq!(stream.remove(id), model.remove(&id).is_some());
                }
                2 => {
                    let last = StreamId { ms: numbers.below(60), seq: numbers.below(4) };
                    let before = model.len();
                    model.retain(|id, _| *id > last);
                    assert_eq!(stream.trim(last), before - model.len());
                }
                _ => {
                    let (top, ms, seq) = (stream.top_id(), numbers.below(3), numbers.below(3));
                    let id = StreamId { ms: top.ms + ms, seq: if ms == 0 { top.seq + seq } else { seq } };
                    let words = numbers.words();
                    let slices: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                    let pairs = StreamPairs(&slices);
                    let is_first = numbers.below(10) == 0 || stream.needs_block(&pairs, 4096, 10);
                    assert_eq!(stream.push(id, is_first, &pairs), id > top);
                    if id > top {
                        model.insert(id, words);
                    }
                }
            }
        }
        check(&stream, &model);
    }
}

#[test]
fn small_entries_take_few_bytes_beside_their_values() {
    let mut stream = Stream::new();
    let value = [b'v'; 8];
    let words: [&[u8]; 2] = [b"name", &value];
    let pairs = StreamPairs(&words);
    for number in 0..100_000 {
        let is_first = stream.needs_block(&pairs, 4096, 100);
        assert!(stream.push(StreamId { ms: 1_700_000_000_000 + number, seq: 0 }, is_first, &pairs));
    }
    assert!(stream.heap_bytes() < 100_000 * (8 + 6), "{}", stream.heap_bytes());
    assert_eq!(stream.blocks(), 1000);
}

#[test]
fn pending_entries_are_in_both_lists() {
    let mut group = StreamGroup::default();
    let id = |seq| StreamId { ms: 1, seq };
    assert!(!group.set_pending(b"a", id(1), 5, 1), "there is no such consumer");
    assert!(group.set_consumer(b"b", 1, 0) && group.set_consumer(b"a", 1, 0));
    assert!(!group.set_consumer(b"a", 2, 2));
    for seq in 1..=1000 {
        assert!(group.set_pending(if seq % 2 == 0 { b"a" } else { b"b" }, id(seq), seq, 1));
    }
    assert!(group.set_pending(b"a", id(7), 9, 2), "another owner");
    let owned = |group: &StreamGroup, name: &[u8]| group.consumer(name).map(|owner| owner.pending().len());
    assert_eq!((owned(&group, b"a"), owned(&group, b"b")), (Some(501), Some(499)));
    assert!(group.acknowledge(id(7)) && !group.acknowledge(id(7)));
    let mut walked = Vec::new();
    while let step = group.pending_step(walked.len(), 7)
        && !step.is_empty()
    {
        walked.extend(step.into_iter().map(|(id, _)| id));
    }
    assert_eq!(walked, group.pending().keys().copied().collect::<Vec<_>>());
    assert_eq!(group.pending_step(10, 1)[0].0, id(12), "not where the walk was");
    assert_eq!(group.remove_consumer(b"a"), Some(500));
    assert_eq!((group.pending().len(), group.remove_consumer(b"a")), (499, None));
    assert!(group.set_consumer(b"c", 1, 0), "in the place of the other");
    assert!(group.consumers().map(|consumer| &*consumer.name).eq([&b"b"[..], b"c"]));
}
