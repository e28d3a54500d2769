//! GEOSEARCH, GEORADIUS and their relatives.

use super::hash::GeoPosition;
use super::query::{GeoCommand, GeoOrder, GeoQuery};
use super::shape::GeoShape;
use super::{distance_text, write_position};
use crate::command::{Args, CommandError, Outcome, Reply};
use crate::commands::sorted_sets::{RangeBounds, room_to_store, sorted_set, store};
use crate::store::tx::Tx;
use crate::store::view::View;
use crate::types::{ScoredMember, SortedSetRef};

/// A member within the area of a search.
struct Found<'v> {
    entry: ScoredMember<'v>,
    /// From the centre, in metres.
    distance: f64,
    position: GeoPosition,
}

/// What a query finds, in its order.
fn find<'v>(set: SortedSetRef<'v>, shape: &GeoShape, query: &GeoQuery<'_>) -> Vec<Found<'v>> {
    let enough = if query.any { query.count } else { usize::MAX };
    let mut found = Vec::new();
    for cell in shape.cells() {
        let (first, end) = cell.scores();
        for entry in set.range(RangeBounds::scores_below(first, end).of(set, false)) {
            let position = GeoPosition::of_score(entry.score);
            if let Some(distance) = shape.contains(position) {
                found.push(Found { entry, distance, position });
                if found.len() >= enough {
                    break;
                }
            }
        }
        if found.len() >= enough {
            break;
        }
    }
    match query.order {
        Some(GeoOrder::Ascending) => found.sort_by(|one, other| one.distance.total_cmp(&other.distance)),
        Some(GeoOrder::Descending) => found.sort_by(|one, other| other.distance.total_cmp(&one.distance)),
        None => {}
    }
    if query.count > 0 {
        found.truncate(query.count);
    }
    found
}

fn write_found(found: &[Found<'_>], query: &GeoQuery<'_>, reply: &mut dyn Reply) {
    let options = [query.with_distance, query.with_hash, query.with_position];
    let parts = 1 + options.into_iter().filter(|option| *option).count();
    reply.array(found.len());
    for one in found {
        if parts > 1 {
            reply.array(parts);
        }
        reply.bulk(one.entry.member);
        if query.with_distance {
            reply.bulk(distance_text(one.distance / query.unit).as_bytes());
        }
        if query.with_hash {
            reply.integer(one.entry.score as i64);
        }
        if query.with_position {
            write_position(one.position, reply);
        }
    }
}

/// Searches, and writes the reply unless the query stores its result: then returns the key and the result.
#[expect(clippy::type_complexity, reason = "a key and members with their scores")]
fn search<'a>(
    view: &View<'_>,
    args: Args<'a>,
    command: GeoCommand,
    reply: &mut dyn Reply,
) -> Result<Option<(&'a [u8], Vec<(f64, Vec<u8>)>)>, CommandError> {
    let set = sorted_set(view, args.word(command.source()))?;
    let query = GeoQuery::parse(args, command, set)?;
    let found = match (set, &query.shape) {
        (Some(set), Some(shape)) => find(set, shape, &query),
        _ => Vec::new(),
    };
    let Some(key) = query.store_key else {
        write_found(&found, &query, reply);
        return Ok(None);
    };
    let stored = found.iter().map(|one| {
        let score = if query.stores_distance { one.distance / query.unit } else { one.entry.score };
        (score, one.entry.member.to_vec())
    });
    Ok(Some((key, stored.collect())))
}

fn search_and_store(
    tx: &mut Tx<'_>,
    args: Args<'_>,
    (command, event): (GeoCommand, &'static str),
    reply: &mut dyn Reply,
) -> Outcome {
    if let Some((key, members)) = tx.read(|view| search(view, args, command, reply))? {
        store(tx, key, &members, event);
        reply.integer(members.len() as i64);
    }
    Ok(())
}

pub fn georadius(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    search_and_store(tx, args, (GeoCommand::Radius, "georadiusstore"), reply)
}

pub fn georadiusbymember(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    search_and_store(tx, args, (GeoCommand::RadiusByMember, "georadiusstore"), reply)
}

pub fn georadiusbymember_ro(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    search(view, args, GeoCommand::RadiusByMemberReadOnly, reply).map(|_| ())
}

pub fn georadius_ro(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    search(view, args, GeoCommand::RadiusReadOnly, reply).map(|_| ())
}

pub fn geosearch(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    search(view, args, GeoCommand::Search, reply).map(|_| ())
}

pub fn geosearchstore(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    search_and_store(tx, args, (GeoCommand::SearchStore, "geosearchstore"), reply)
}

pub fn room_of_georadius(view: &View<'_>, args: Args<'_>) -> usize {
    match super::query::keys_of_georadius(args).as_deref() {
        Ok([source, destination]) => room(view, args.word(*source), args.word(*destination)),
        _ => 0,
    }
}

pub fn room_of_geosearchstore(view: &View<'_>, args: Args<'_>) -> usize {
    room(view, args.word(2), args.word(1))
}

fn room(view: &View<'_>, source: &[u8], destination: &[u8]) -> usize {
    let set = sorted_set(view, source).ok().flatten();
    set.map_or(0, |set| room_to_store(destination, set.len(), set.member_bytes_max()))
}
