//! XTRIM, and the trim of XADD.

use super::add::NewId;
use super::parse::{References, packed, strict_id};
use super::stream_of;
use crate::command::{Args, CommandError, Outcome, Reply};
use crate::effect::Effect;
use crate::store::tx::Tx;
use crate::store::view::View;
use crate::types::{Stream, StreamId};

#[derive(Clone, Copy, Debug)]
enum Threshold {
    Length(usize),
    Id(StreamId),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Trim {
    threshold: Threshold,
    /// Only whole blocks are removed.
    is_approximate: bool,
    /// The most entries of an approximate trim; `None` for the default, 0 for no limit.
    limit: Option<u64>,
}

/// The options of XADD and XTRIM.
pub(super) struct TrimOptions {
    pub(super) trim: Option<Trim>,
    pub(super) references: References,
    /// NOMKSTREAM
    pub(super) is_only_if_exists: bool,
    /// The ID of XADD, and its index among all words.
    pub(super) id: Option<NewId>,
    pub(super) end: usize,
}

impl TrimOptions {
    pub(super) fn parse(args: Args<'_>, is_add: bool) -> Result<TrimOptions, CommandError> {
        let (mut threshold, mut is_approximate, mut limit) = (None, false, None);
        let (mut references, mut is_only_if_exists, mut id) = (None, false, None);
        let mut options = args.options(2);
        while let Some(word) = options.peek() {
            let has_more = options.left() > 1;
            if is_add && word == b"*" {
                id = Some(NewId::Now);
                break;
            } else if has_more && (options.take("MAXLEN") || options.take("MINID")) {
                if threshold.is_some() {
                    return Err(CommandError::of(
                        "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                    ));
                }
                let is_length = word.eq_ignore_ascii_case(b"MAXLEN");
                is_approximate = options.left() > 1 && options.take("~");
                _ = !is_approximate && options.left() > 1 && options.take("=");
                threshold = Some(parse_threshold(is_length, options.word()?)?);
            } else if has_more && options.take("LIMIT") {
                let count = u64::try_from(options.integer()?);
                limit = Some(count.map_err(|_| CommandError::of("ERR The LIMIT argument must be >= 0."))?);
            } else if is_add && options.take("NOMKSTREAM") {
                is_only_if_exists = true;
            } else if references.is_none() && References::parse(word).is_some() {
                references = References::parse(word);
                _ = options.word();
            } else if is_add {
                id = Some(NewId::parse(word)?);
                break;
            } else {
                return Err(CommandError::SYNTAX);
            }
        }
        let trim = complete(threshold, is_approximate, limit, is_add)?;
        let references = references.unwrap_or(References::Keep);
        Ok(TrimOptions { trim, references, is_only_if_exists, id, end: options.index() })
    }
}

fn parse_threshold(is_length: bool, word: &[u8]) -> Result<Threshold, CommandError> {
    if !is_length {
        return strict_id(word, 0).map(Threshold::Id);
    }
    let length = usize::try_from(crate::command::integer(word)?);
    length.map(Threshold::Length).map_err(|_| CommandError::of("ERR The MAXLEN argument must be >= 0."))
}

fn complete(
    threshold: Option<Threshold>,
    is_approximate: bool,
    limit: Option<u64>,
    is_add: bool,
) -> Result<Option<Trim>, CommandError> {
    let Some(threshold) = threshold else {
        return match (limit, is_add) {
            (Some(1..), _) => Err(CommandError::of(
                "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
            )),
            (_, false) => {
                Err(CommandError::of("ERR syntax error, XTRIM must be called with a trimming strategy"))
            }
            (Some(0), true) => Err(LIMIT_OF_EXACT),
            (None, true) => Ok(None),
        };
    };
    if limit.is_some() && !is_approximate {
        return Err(LIMIT_OF_EXACT);
    }
    Ok(Some(Trim { threshold, is_approximate, limit }))
}

const LIMIT_OF_EXACT: CommandError =
    CommandError::of("ERR syntax error, LIMIT cannot be used without the special ~ option");

pub(super) fn xtrim(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let options = TrimOptions::parse(args, false)?;
    let trim = options.trim.expect("it is an error if there is none");
    let removed = run(tx, args.word(1), trim, options.references)?;
    reply.integer(removed as i64);
    Ok(())
}

/// What a trim that looks at each entry may log: the IDs of those that it deletes.
pub(super) fn room(view: &View<'_>, args: Args<'_>) -> usize {
    let is_add = args.word(0).eq_ignore_ascii_case(b"XADD");
    let Ok(options) = TrimOptions::parse(args, is_add) else { return 0 };
    let names = 2 * args.word(1).len() + 256;
    match (options.trim, options.references) {
        (Some(_), References::Acknowledged) => {
            let stream = stream_of(view, args.word(1)).ok().flatten();
            names + (1 + stream.map_or(0, Stream::len)) * StreamId::BYTES
        }
        _ => names,
    }
}

/// Trims the stream, if there is one; returns how many entries were removed.
pub(super) fn run(
    tx: &mut Tx<'_>,
    key: &[u8],
    trim: Trim,
    references: References,
) -> Result<usize, CommandError> {
    let limit = limit_of(&trim, tx.encoding_limits().stream_node_entries);
    // As in Redis, blocks are not removed as a whole where references count.
    if trim.is_approximate && references != References::Keep {
        return Ok(0);
    }
    let planned = tx.read(|view| {
        let Some(stream) = stream_of(view, key)? else { return Ok(Planned::UpTo(None)) };
        Ok(match references {
            References::Acknowledged => Planned::These(packed(acknowledged(stream, &trim))),
            References::Keep | References::Delete => Planned::UpTo(last_to_remove(stream, &trim, limit)),
        })
    })?;
    Ok(match planned {
        Planned::UpTo(None) => 0,
        Planned::UpTo(Some(last)) => {
            tx.apply(Effect::StreamTrim { key, references: references == References::Delete, last })
        }
        Planned::These(ids) if ids.is_empty() => 0,
        Planned::These(ids) => {
            tx.apply(Effect::StreamDelete { key, references: false, is_trim: true, ids: &ids })
        }
    })
}

enum Planned {
    UpTo(Option<StreamId>),
    These(Vec<u8>),
}

/// The most entries that a trim removes; without LIMIT, an approximate one removes those of a hundred full
/// blocks.
fn limit_of(trim: &Trim, block_entries_max: u64) -> usize {
    let limit = match (trim.limit, trim.is_approximate) {
        (_, false) | (Some(0), _) => return usize::MAX,
        (Some(limit), _) => limit,
        (None, true) => match block_entries_max.saturating_mul(100) {
            0 => 10_000,
            limit => limit.min(1_000_000),
        },
    };
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// The last entry that goes; all before it go too.
fn last_to_remove(stream: &Stream, trim: &Trim, limit: usize) -> Option<StreamId> {
    let (mut last, mut removed) = (None, 0);
    for block in 0..stream.blocks() {
        let (live, kept) = (stream.block_len(block), stream.len() - removed);
        let goes_whole = match trim.threshold {
            Threshold::Length(length) if kept <= length => break,
            Threshold::Length(length) => kept - live >= length,
            Threshold::Id(id) => stream.block_ends_before(block, id),
        };
        if removed + live > limit {
            break;
        }
        if goes_whole {
            last = Some(block);
            removed += live;
            continue;
        }
        if trim.is_approximate {
            break;
        }
        let entries = stream.block(block).into_iter().flatten().map(|entry| entry.id);
        let part = match trim.threshold {
            Threshold::Length(length) => entries.take(kept - length).last(),
            Threshold::Id(id) => entries.take_while(|other| *other < id).last(),
        };
        return part.or_else(|| last.and_then(|block| stream.block_end(block)));
    }
    last.and_then(|block| stream.block_end(block))
}

/// The entries that go, where those stay that a group has not read and acknowledged.
fn acknowledged(stream: &Stream, trim: &Trim) -> Vec<StreamId> {
    let mut ids = Vec::new();
    for block in 0..stream.blocks() {
        for entry in stream.block(block).into_iter().flatten() {
            let is_enough = match trim.threshold {
                Threshold::Length(length) => stream.len() - ids.len() <= length,
                Threshold::Id(id) => entry.id >= id,
            };
            if is_enough {
                return ids;
            }
            if !stream.is_awaited(entry.id) {
                ids.push(entry.id);
            }
        }
    }
    ids
}
