//! Positions on the earth: commands on sorted sets whose scores are [`hash`]es of positions.

mod hash;
mod query;
mod search;
mod shape;

use super::sorted_sets::{AddConditions, Additions, sorted_set};
use crate::command::{
    Args, Command, CommandError, Outcome, ReadHandler, Reply, WriteHandler, acl, flag, read, write,
};
use crate::store::tx::Tx;
use crate::store::view::View;
use crate::types::{ScoredMember, parse_score};
use hash::GeoPosition;

pub const COMMANDS: &[Command] = &[
    write_row("GEOADD", "key [NX|XX] [CH] (longitude latitude member)+", geoadd)
        .logs_words(1)
        .event("zadd")
        .docs("3.2.0", "O(log(N)) for each member", "Adds members with their positions to a sorted set."),
    read_row("GEODIST", "key member1 member2 [M|KM|FT|MI]", geodist).docs(
        "3.2.0",
        "O(1)",
        "Returns the distance between two members.",
    ),
    read_row("GEOHASH", "key [member+]", geohash).docs(
        "3.2.0",
        "O(1) for each member",
        "Returns the positions of members as geohash strings.",
    ),
    read_row("GEOPOS", "key [member+]", geopos).docs(
        "3.2.0",
        "O(1) for each member",
        "Returns the longitudes and latitudes of members.",
    ),
    radius_row("GEORADIUS", "key longitude latitude radius (M|KM|FT|MI) [option+]", search::georadius).docs(
        "3.2.0",
        SEARCH,
        "Returns or stores members within a distance of a position.",
    ),
    radius_row("GEORADIUSBYMEMBER", "key member radius (M|KM|FT|MI) [option+]", search::georadiusbymember)
        .docs("3.2.0", SEARCH, "Returns or stores members within a distance of a member."),
    read_row(
        "GEORADIUSBYMEMBER_RO",
        "key member radius (M|KM|FT|MI) [option+]",
        search::georadiusbymember_ro,
    )
    .docs("3.2.10", SEARCH, "Returns members within a distance of a member."),
    read_row("GEORADIUS_RO", "key longitude latitude radius (M|KM|FT|MI) [option+]", search::georadius_ro)
        .docs("3.2.10", SEARCH, "Returns members within a distance of a position."),
    read_row("GEOSEARCH", "key from a-position by a-size unit [option+]", search::geosearch).docs(
        "6.2.0",
        SEARCH,
        "Returns members within a circle, a box or a polygon.",
    ),
    write_row(
        "GEOSEARCHSTORE",
        "destination source from a-position by a-size unit [option+]",
        search::geosearchstore,
    )
    .room(search::room_of_geosearchstore)
    .event("geosearchstore")
    .access(&["OW update", "RO access"])
    .docs("6.2.0", SEARCH, "Stores members within a circle, a box or a polygon."),
];

const SEARCH: &str = "O(N+log(M)) for N members in the grid's cells around the area and M in the sorted set";

const fn read_row(name: &'static str, usage: &'static str, handler: ReadHandler) -> Command {
    read(name, usage, handler).group("geo").acl(acl::GEO)
}

const fn write_row(name: &'static str, usage: &'static str, handler: WriteHandler) -> Command {
    write(name, usage, handler).group("geo").flags(flag::DENY_OOM).acl(acl::GEO)
}

const fn radius_row(name: &'static str, usage: &'static str, handler: WriteHandler) -> Command {
    write_row(name, usage, handler)
        .keys(query::keys_of_georadius)
        .room(search::room_of_georadius)
        .event("georadiusstore")
        .access(&["RO access", "OW update", "OW update"])
}

/// A longitude and a latitude.
fn position(longitude: &[u8], latitude: &[u8]) -> Result<GeoPosition, CommandError> {
    let number = |word| parse_score(word).ok_or(CommandError::NOT_FLOAT);
    let position = GeoPosition { longitude: number(longitude)?, latitude: number(latitude)? };
    if position.is_on_grid() {
        return Ok(position);
    }
    let GeoPosition { longitude, latitude } = position;
    Err(CommandError::new(format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}")))
}

/// Metres in a unit.
fn unit(word: &[u8]) -> Result<f64, CommandError> {
    let units = [("m", 1.0), ("km", 1000.0), ("ft", 0.3048), ("mi", 1609.34)];
    let found = units.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
    let unknown = CommandError::of("ERR unsupported unit provided. please use M, KM, FT, MI");
    found.map(|(_, metres)| *metres).ok_or(unknown)
}

fn position_of(view: &View<'_>, key: &[u8], member: &[u8]) -> Result<Option<GeoPosition>, CommandError> {
    let set = sorted_set(view, key)?;
    Ok(set.and_then(|set| set.score(member)).map(GeoPosition::of_score))
}

fn geoadd(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let mut conditions = AddConditions::default();
    let (mut counts_changes, mut options) = (false, args.options(2));
    loop {
        if options.take("NX") {
            conditions.only_new = true;
        } else if options.take("XX") {
            conditions.only_present = true;
        } else if options.take("CH") {
            counts_changes = true;
        } else {
            break;
        }
    }
    let (triples, rest) = args.from(options.index()).as_chunks::<3>();
    if !rest.is_empty() || conditions.only_new && conditions.only_present {
        return Err(CommandError::SYNTAX);
    }
    let score = |[longitude, latitude, _]: &[&[u8]; 3]| Ok(position(longitude, latitude)?.score());
    let scores = triples.iter().map(score).collect::<Result<Vec<f64>, CommandError>>()?;
    if scores.is_empty() {
        return Err(CommandError::SYNTAX);
    }
    let key = args.word(1);
    let additions = tx.read(|view| {
        let pairs = scores.iter().zip(triples);
        let pairs = pairs.map(|(&score, [.., member])| ScoredMember { score, member });
        Ok(Additions::find(view, sorted_set(view, key)?, pairs, conditions))
    })?;
    additions.apply(tx, key);
    let (added, changed) = additions.counts();
    reply.integer(if counts_changes { changed } else { added } as i64);
    Ok(())
}

fn geodist(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let metres = match args.len() {
        4 => 1.0,
        5 => unit(args.word(4))?,
        _ => return Err(CommandError::SYNTAX),
    };
    let one = position_of(view, args.word(1), args.word(2))?;
    let other = position_of(view, args.word(1), args.word(3))?;
    match one.zip(other) {
        Some((one, other)) => reply.bulk(distance_text(shape::distance(one, other) / metres).as_bytes()),
        None => reply.null(),
    }
    Ok(())
}

/// Four decimals, rounded to even.
fn distance_text(distance: f64) -> String {
    let units = (distance * 10_000.0).round_ties_even() as i64;
    format!("{}.{:04}", units / 10_000, units % 10_000)
}

fn geohash(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let set = sorted_set(view, args.word(1))?;
    reply.array(args.len() - 2);
    for member in args.from(2) {
        match set.and_then(|set| set.score(member)) {
            Some(score) => reply.bulk(&GeoPosition::of_score(score).geohash()),
            None => reply.null(),
        }
    }
    Ok(())
}

fn geopos(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let set = sorted_set(view, args.word(1))?;
    reply.array(args.len() - 2);
    for member in args.from(2) {
        match set.and_then(|set| set.score(member)) {
            Some(score) => write_position(GeoPosition::of_score(score), reply),
            None => reply.null_array(),
        }
    }
    Ok(())
}

fn write_position(position: GeoPosition, reply: &mut dyn Reply) {
    reply.array(2);
    for degrees in [position.longitude, position.latitude] {
        reply.double(degrees);
    }
}
