//! XDEL, XDELEX and XACKDEL.

use super::parse::{References, ids, packed};
use super::stream_of;
use crate::command::{Args, CommandError, Outcome, Reply, integer};
use crate::effect::Effect;
use crate::store::tx::Tx;
use crate::types::{Stream, StreamId};
use std::collections::BTreeSet;

pub(super) fn xdel(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let key = args.word(1);
    let present = tx.read(|view| {
        let Some(stream) = stream_of(view, key)? else { return Ok(Vec::new()) };
        let named: BTreeSet<StreamId> = ids(args.from(2))?.into_iter().collect();
        Ok(packed(named.into_iter().filter(|id| stream.get(*id).is_some())))
    })?;
    let count = match present.is_empty() {
        true => 0,
        false => tx.apply(Effect::StreamDelete { key, references: false, is_trim: false, ids: &present }),
    };
    reply.integer(count as i64);
    Ok(())
}

/// `[KEEPREF|DELREF|ACKED] IDS numids id...`
struct Named<'a> {
    references: References,
    words: &'a [&'a [u8]],
}

impl<'a> Named<'a> {
    fn parse(args: Args<'a>, from: usize) -> Result<Named<'a>, CommandError> {
        let mut options = args.options(from);
        let given = options.peek().and_then(References::parse);
        if given.is_some() {
            _ = options.word();
        }
        if !options.take("IDS") {
            return Err(CommandError::SYNTAX);
        }
        let count = integer(options.word()?).ok().and_then(|count| usize::try_from(count).ok());
        let count = count.filter(|count| *count > 0 && *count <= i32::MAX as usize);
        let count = count.ok_or(CommandError::of("ERR Number of IDs must be a positive integer"))?;
        let words = args.from(options.index());
        if words.len() < count {
            return Err(CommandError::of("ERR The `numids` parameter must match the number of arguments"));
        }
        if words.len() > count {
            return Err(CommandError::SYNTAX);
        }
        Ok(Named { references: given.unwrap_or(References::Keep), words })
    }
}

/// What became of an entry.
const ABSENT: i64 = -1;
const DELETED: i64 = 1;
const AWAITED: i64 = 2;

pub(super) fn xdelex(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let key = args.word(1);
    let named = Named::parse(args, 2)?;
    let (results, deleted) = tx.read(|view| {
        let Some(stream) = stream_of(view, key)? else {
            return Ok((vec![ABSENT; named.words.len()], BTreeSet::new()));
        };
        let mut deleted = BTreeSet::new();
        let result = |id: StreamId| {
            // As in Redis, also where there is no such entry.
            if named.references == References::Acknowledged && stream.is_awaited(id) {
                return AWAITED;
            }
            if deleted.contains(&id) || stream.get(id).is_none() {
                return ABSENT;
            }
            deleted.insert(id);
            DELETED
        };
        let results = ids(named.words)?.into_iter().map(result).collect();
        Ok((results, deleted))
    })?;
    delete(tx, key, named.references, deleted);
    reply_results(reply, &results);
    Ok(())
}

pub(super) fn xackdel(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, group) = (args.word(1), args.word(2));
    let named = Named::parse(args, 3)?;
    let (results, acknowledged, deleted) = tx.read(|view| {
        let found = stream_of(view, key)?.and_then(|stream| Some((stream, stream.group(group)?)));
        let (mut acknowledged, mut deleted) = (BTreeSet::new(), BTreeSet::new());
        let Some((stream, own)) = found else {
            return Ok((vec![ABSENT; named.words.len()], acknowledged, deleted));
        };
        let result = |id: StreamId| {
            if !own.pending().contains_key(&id) || !acknowledged.insert(id) {
                return ABSENT;
            }
            if named.references == References::Acknowledged && is_awaited_by_others(stream, group, id) {
                return AWAITED;
            }
            if stream.get(id).is_some() {
                deleted.insert(id);
            }
            DELETED
        };
        let results = ids(named.words)?.into_iter().map(result).collect();
        Ok((results, acknowledged, deleted))
    })?;
    if !acknowledged.is_empty() {
        tx.event("");
        tx.apply(Effect::StreamAcknowledge { key, group, ids: &packed(acknowledged) });
    }
    tx.event("xdel");
    delete(tx, key, named.references, deleted);
    reply_results(reply, &results);
    Ok(())
}

fn is_awaited_by_others(stream: &Stream, group: &[u8], id: StreamId) -> bool {
    let others = stream.groups().filter(|(name, _)| *name != group);
    others.into_iter().any(|(_, other)| other.last_id < id || other.pending().contains_key(&id))
}

fn delete(tx: &mut Tx<'_>, key: &[u8], references: References, ids: BTreeSet<StreamId>) {
    if !ids.is_empty() {
        let references = references == References::Delete;
        tx.apply(Effect::StreamDelete { key, references, is_trim: false, ids: &packed(ids) });
    }
}

fn reply_results(reply: &mut dyn Reply, results: &[i64]) {
    reply.array(results.len());
    results.iter().for_each(|result| reply.integer(*result));
}
