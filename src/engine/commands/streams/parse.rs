//! The words of stream commands: IDs, intervals, options.

use crate::command::{Args, CommandError, integer};
use crate::types::StreamId;
use std::ops::RangeInclusive;
use std::time::Duration;

pub(super) const INVALID_ID: CommandError =
    CommandError::of("ERR Invalid stream ID specified as stream command argument");

/// An ID that is neither `-` nor `+`. Without a sequence, that is `missing`.
pub(super) fn strict_id(word: &[u8], missing: u64) -> Result<StreamId, CommandError> {
    StreamId::parse(word, missing).ok_or(INVALID_ID)
}

/// The same, where `-` and `+` are the first and the last one.
pub(super) fn any_id(word: &[u8], missing: u64) -> Result<StreamId, CommandError> {
    match word {
        b"-" => Ok(StreamId::ZERO),
        b"+" => Ok(StreamId::MAX),
        word => strict_id(word, missing),
    }
}

/// The bounds of an interval; one with `(` in front is not part of it.
pub(super) fn interval(start: &[u8], end: &[u8]) -> Result<RangeInclusive<StreamId>, CommandError> {
    Ok(interval_start(start)?..=interval_end(end)?)
}

pub(super) fn interval_start(word: &[u8]) -> Result<StreamId, CommandError> {
    match exclusive(word) {
        Some(id) => {
            let next = strict_id(id, 0)?.next();
            next.ok_or(CommandError::of("ERR invalid start ID for the interval"))
        }
        None => any_id(word, 0),
    }
}

fn interval_end(word: &[u8]) -> Result<StreamId, CommandError> {
    match exclusive(word) {
        Some(id) => {
            let previous = strict_id(id, u64::MAX)?.previous();
            previous.ok_or(CommandError::of("ERR invalid end ID for the interval"))
        }
        None => any_id(word, u64::MAX),
    }
}

fn exclusive(word: &[u8]) -> Option<&[u8]> {
    word.strip_prefix(b"(").filter(|id| !id.is_empty())
}

/// All of these words, which must be IDs, one after the other.
pub(super) fn ids(words: &[&[u8]]) -> Result<Vec<StreamId>, CommandError> {
    words.iter().map(|word| strict_id(word, 0)).collect()
}

/// IDs as effects have them.
pub(super) fn packed(ids: impl IntoIterator<Item = StreamId>) -> Vec<u8> {
    let mut bytes = Vec::new();
    ids.into_iter().for_each(|id| bytes.extend_from_slice(&id.to_bytes()));
    bytes
}

/// What a deletion does with the references that groups have to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum References {
    /// They stay.
    Keep,
    /// They go with the entry.
    Delete,
    /// An entry is deleted only if all groups have read and acknowledged it.
    Acknowledged,
}

impl References {
    pub(super) fn parse(word: &[u8]) -> Option<References> {
        const WORDS: &[(&str, References)] = &[
            ("KEEPREF", References::Keep),
            ("DELREF", References::Delete),
            ("ACKED", References::Acknowledged),
        ];
        let found = WORDS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|(_, references)| *references)
    }
}

/// Which part of a stream a read wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Id(StreamId),
    /// `$`: what is added from now on.
    Now,
    /// `+`: the last entry.
    Last,
    /// `>`: what the group has not read.
    Unread,
}

/// The words of XREAD and XREADGROUP.
pub(super) struct ReadWords<'a> {
    /// The group and the consumer.
    pub(super) group: Option<(&'a [u8], &'a [u8])>,
    /// The most entries of each stream; `usize::MAX` for all.
    pub(super) count: usize,
    /// How long to wait; `Some(None)` for no limit.
    pub(super) block: Option<Option<Duration>>,
    pub(super) is_noack: bool,
    pub(super) keys: &'a [&'a [u8]],
    /// The index of the first ID among all words.
    pub(super) ids_at: usize,
    pub(super) ids: &'a [&'a [u8]],
}

impl<'a> ReadWords<'a> {
    pub(super) fn parse(args: Args<'a>, now_ms: u64) -> Result<ReadWords<'a>, CommandError> {
        let reads_group = args.word(0).len() == "XREADGROUP".len();
        let mut parsed = ReadWords {
            group: None,
            count: usize::MAX,
            block: None,
            is_noack: false,
            keys: &[],
            ids_at: 0,
            ids: &[],
        };
        let mut options = args.options(1);
        loop {
            if options.left() == 0 {
                return Err(CommandError::SYNTAX);
            }
            if options.left() > 1 && options.take("BLOCK") {
                parsed.block = Some(block(options.word()?, now_ms)?);
            } else if options.left() > 1 && options.take("COUNT") {
                let count = options.integer()?;
                parsed.count = usize::try_from(count).ok().filter(|count| *count > 0).unwrap_or(usize::MAX);
            } else if options.left() > 1 && options.take("STREAMS") {
                break;
            } else if options.left() > 2 && options.take("GROUP") {
                if !reads_group {
                    return Err(only_of_groups("GROUP"));
                }
                parsed.group = Some((options.word()?, options.word()?));
            } else if options.take("NOACK") {
                if !reads_group {
                    return Err(only_of_groups("NOACK"));
                }
                parsed.is_noack = true;
            } else {
                return Err(CommandError::SYNTAX);
            }
        }
        let (streams, words) = (args.from(options.index()), options.left());
        if !words.is_multiple_of(2) {
            return Err(unbalanced(reads_group));
        }
        if reads_group && parsed.group.is_none() {
            return Err(CommandError::of("ERR Missing GROUP option for XREADGROUP"));
        }
        parsed.ids_at = options.index() + words / 2;
        (parsed.keys, parsed.ids) = streams.split_at(words / 2);
        Ok(parsed)
    }

    /// What is wanted of each stream. An error with a special ID that does not fit the command.
    pub(super) fn after(&self, word: &[u8]) -> Result<After, CommandError> {
        match (word, self.group.is_some()) {
            (b"$" | b"+", true) => Err(meaningless(word)),
            (b"$", false) => Ok(After::Now),
            (b"+", false) => Ok(After::Last),
            (b">", true) => Ok(After::Unread),
            (b">", false) => Err(CommandError::of(
                "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
            )),
            // As in Redis, the last ID that can be asks for what the group has not read.
            (word, true) => {
                strict_id(word, 0).map(|id| if id == StreamId::MAX { After::Unread } else { After::Id(id) })
            }
            (word, false) => strict_id(word, 0).map(After::Id),
        }
    }
}

fn only_of_groups(option: &str) -> CommandError {
    CommandError::new(format!(
        "ERR The {option} option is only supported by XREADGROUP. You called XREAD instead."
    ))
}

fn unbalanced(reads_group: bool) -> CommandError {
    let (name, symbol) = if reads_group { ("xreadgroup", "ID or '>'") } else { ("xread", "ID, '+', or '$'") };
    CommandError::new(format!(
        "ERR Unbalanced '{name}' list of streams: for each stream key an {symbol} must be specified."
    ))
}

fn meaningless(word: &[u8]) -> CommandError {
    let id = String::from_utf8_lossy(word);
    CommandError::new(format!(
        "ERR The {id} ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by \
         specifying a proper ID, or use the > ID to get new messages. The {id} ID would just return an empty result set."
    ))
}

/// How long to wait, in milliseconds; 0 is no limit.
fn block(word: &[u8], now_ms: u64) -> Result<Option<Duration>, CommandError> {
    let ms = integer(word).map_err(|_| CommandError::of("ERR timeout is not an integer or out of range"))?;
    if ms < 0 {
        return Err(CommandError::of("ERR timeout is negative"));
    }
    if ms > i64::MAX - now_ms as i64 {
        return Err(CommandError::of("ERR timeout is out of range"));
    }
    Ok((ms > 0).then(|| Duration::from_millis(ms as u64)))
}

/// The keys of XREAD and XREADGROUP: the first half of the words after STREAMS.
pub(super) fn stream_keys(args: Args<'_>) -> Result<Vec<usize>, CommandError> {
    let mut place = 1;
    while place < args.len() {
        if args.is(place, "BLOCK") || args.is(place, "COUNT") {
            place += 2;
        } else if args.is(place, "GROUP") {
            place += 3;
        } else if args.is(place, "NOACK") {
            place += 1;
        } else if args.is(place, "STREAMS") {
            let words = args.len() - place - 1;
            if words == 0 || !words.is_multiple_of(2) {
                break;
            }
            return Ok((place + 1..place + 1 + words / 2).collect());
        } else {
            break;
        }
    }
    Err(CommandError::of("ERR Invalid arguments specified for command"))
}
