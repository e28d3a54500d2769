//! The words of a search.

use super::hash::GeoPosition;
use super::shape::GeoShape;
use super::{position, unit};
use crate::command::{Args, CommandError, OptionWords, integer};
use crate::types::{SortedSetRef, parse_score};

const NO_MEMBER: CommandError = CommandError::of("ERR could not decode requested zset member");

/// Which command searches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum GeoCommand {
    Radius,
    RadiusByMember,
    /// The same two, which do not store.
    RadiusReadOnly,
    RadiusByMemberReadOnly,
    Search,
    SearchStore,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum GeoOrder {
    Ascending,
    Descending,
}

pub struct GeoQuery<'a> {
    /// `None` only if there is no set.
    pub shape: Option<GeoShape>,
    /// Metres in the unit of distances.
    pub unit: f64,
    pub with_distance: bool,
    pub with_hash: bool,
    pub with_position: bool,
    pub order: Option<GeoOrder>,
    /// COUNT with ANY: the search ends with the first ones that it finds.
    pub any: bool,
    /// 0 for all.
    pub count: usize,
    pub store_key: Option<&'a [u8]>,
    pub stores_distance: bool,
}

/// The size of an area around a position, in metres.
enum Area {
    Radius(f64),
    Box(f64, f64),
}

/// The parts of a query in the order of its words.
struct QueryParser<'a, 's> {
    command: GeoCommand,
    set: Option<SortedSetRef<'s>>,
    query: GeoQuery<'a>,
    /// FROMMEMBER or FROMLONLAT was there; the position is absent if there is no set.
    has_center: bool,
    center: Option<GeoPosition>,
    area: Option<Area>,
    polygon: Option<Vec<GeoPosition>>,
}

impl GeoCommand {
    fn is_search(self) -> bool {
        matches!(self, GeoCommand::Search | GeoCommand::SearchStore)
    }

    fn may_store(self) -> bool {
        matches!(self, GeoCommand::Radius | GeoCommand::RadiusByMember)
    }

    /// Which word is the key of the set.
    pub fn source(self) -> usize {
        if self == GeoCommand::SearchStore { 2 } else { 1 }
    }
}

/// The source, and the destination if there is one.
pub fn keys_of_georadius(args: Args<'_>) -> Result<Vec<usize>, CommandError> {
    let is_store = |at: &usize| args.is(*at, "STORE") || args.is(*at, "STOREDIST");
    let stored = (5..args.len().saturating_sub(1)).rev().find(is_store);
    Ok(std::iter::once(1).chain(stored.map(|at| at + 1)).collect())
}

impl<'a> GeoQuery<'a> {
    pub fn parse(
        args: Args<'a>,
        command: GeoCommand,
        set: Option<SortedSetRef<'_>>,
    ) -> Result<GeoQuery<'a>, CommandError> {
        let query = GeoQuery {
            shape: None,
            unit: 1.0,
            with_distance: false,
            with_hash: false,
            with_position: false,
            order: None,
            any: false,
            count: 0,
            store_key: (command == GeoCommand::SearchStore).then(|| args.word(1)),
            stores_distance: false,
        };
        let mut parser =
            QueryParser { command, set, query, has_center: false, center: None, area: None, polygon: None };
        let first = parser.fixed_words(args)?;
        let mut options = args.options(first);
        while !options.is_done() {
            let is_known =
                parser.option(&mut options)? || command.is_search() && parser.search_option(&mut options)?;
            if !is_known {
                return Err(CommandError::SYNTAX);
            }
        }
        parser.finish(args)
    }
}

impl<'a> QueryParser<'a, '_> {
    /// The words in front of the options; returns where these begin.
    fn fixed_words(&mut self, args: Args<'a>) -> Result<usize, CommandError> {
        match self.command {
            GeoCommand::Radius | GeoCommand::RadiusReadOnly => {
                self.center = Some(position(args.word(2), args.word(3))?);
                self.radius(args.word(4), args.word(5))?;
                Ok(6)
            }
            GeoCommand::RadiusByMember | GeoCommand::RadiusByMemberReadOnly => {
                if let Some(set) = self.set {
                    self.center = Some(GeoPosition::of_score(set.score(args.word(2)).ok_or(NO_MEMBER)?));
                    self.radius(args.word(3), args.word(4))?;
                }
                Ok(5)
            }
            GeoCommand::Search => Ok(2),
            GeoCommand::SearchStore => Ok(3),
        }
    }

    fn radius(&mut self, radius: &[u8], in_unit: &[u8]) -> Result<(), CommandError> {
        let radius = parse_score(radius).ok_or(CommandError::of("ERR need numeric radius"))?;
        if radius < 0.0 {
            return Err(CommandError::of("ERR radius cannot be negative"));
        }
        self.query.unit = unit(in_unit)?;
        self.area = Some(Area::Radius(radius * self.query.unit));
        Ok(())
    }

    fn sides(&mut self, words: &[&[u8]]) -> Result<(), CommandError> {
        let width = parse_score(words[0]).ok_or(CommandError::of("ERR need numeric width"))?;
        let height = parse_score(words[1]).ok_or(CommandError::of("ERR need numeric height"))?;
        if width < 0.0 || height < 0.0 {
            return Err(CommandError::of("ERR height or width cannot be negative"));
        }
        self.query.unit = unit(words[2])?;
        self.area = Some(Area::Box(width * self.query.unit, height * self.query.unit));
        Ok(())
    }

    /// Takes an option of any of the commands; false if it is none.
    fn option(&mut self, options: &mut OptionWords<'a>) -> Result<bool, CommandError> {
        let query = &mut self.query;
        let has_value = options.left() > 1;
        if options.take("WITHDIST") {
            query.with_distance = true;
        } else if options.take("WITHHASH") {
            query.with_hash = true;
        } else if options.take("WITHCOORD") {
            query.with_position = true;
        } else if options.take("ANY") {
            query.any = true;
        } else if options.take("ASC") {
            query.order = Some(GeoOrder::Ascending);
        } else if options.take("DESC") {
            query.order = Some(GeoOrder::Descending);
        } else if has_value && options.take("COUNT") {
            let count = integer(options.word()?)?;
            let count = usize::try_from(count).ok().filter(|count| *count > 0);
            query.count = count.ok_or(CommandError::of("ERR COUNT must be > 0"))?;
        } else if self.command.may_store() && has_value && options.take("STORE") {
            (query.store_key, query.stores_distance) = (Some(options.word()?), false);
        } else if self.command.may_store() && has_value && options.take("STOREDIST") {
            (query.store_key, query.stores_distance) = (Some(options.word()?), true);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// The same for those of GEOSEARCH and GEOSEARCHSTORE.
    fn search_option(&mut self, options: &mut OptionWords<'a>) -> Result<bool, CommandError> {
        let (left, has_polygon) = (options.left(), self.polygon.is_some());
        let may_center = !self.has_center && !has_polygon;
        if may_center && left > 1 && options.take("FROMMEMBER") {
            let member = options.word()?;
            if let Some(set) = self.set {
                self.center = Some(GeoPosition::of_score(set.score(member).ok_or(NO_MEMBER)?));
            }
            self.has_center = true;
        } else if may_center && left > 2 && options.take("FROMLONLAT") {
            self.center = Some(position(options.word()?, options.word()?)?);
            self.has_center = true;
        } else if !matches!(self.area, Some(Area::Box(..)))
            && !has_polygon
            && left > 2
            && options.take("BYRADIUS")
        {
            self.radius(options.word()?, options.word()?)?;
        } else if !matches!(self.area, Some(Area::Radius(_)))
            && !has_polygon
            && left > 3
            && options.take("BYBOX")
        {
            self.sides(options.words(3)?)?;
        } else if !self.has_center && self.area.is_none() && left > 1 && options.take("BYPOLYGON") {
            self.vertices(options)?;
        } else if self.command == GeoCommand::SearchStore && options.take("STOREDIST") {
            self.query.stores_distance = true;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn vertices(&mut self, options: &mut OptionWords<'a>) -> Result<(), CommandError> {
        let count =
            integer(options.word()?).map_err(|_| CommandError::of("ERR invalid number of vertices"))?;
        let words = usize::try_from(count).ok().filter(|count| *count >= 3);
        let words = words.and_then(|count| options.words(count.saturating_mul(2)).ok());
        let too_few = CommandError::of("ERR GEOSEARCH BYPOLYGON must have at least 3 vertices");
        let (pairs, _) = words.ok_or(too_few)?.as_chunks::<2>();
        let vertices = pairs.iter().map(|[longitude, latitude]| position(longitude, latitude));
        self.polygon = Some(vertices.collect::<Result<_, _>>()?);
        Ok(())
    }

    fn finish(mut self, args: Args<'_>) -> Result<GeoQuery<'a>, CommandError> {
        let query = &mut self.query;
        if query.store_key.is_some() && (query.with_distance || query.with_hash || query.with_position) {
            return Err(CommandError::of(match self.command {
                GeoCommand::SearchStore => {
                    "ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
                }
                _ => {
                    "ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD \
                     options"
                }
            }));
        }
        if self.command.is_search() && self.polygon.is_none() {
            let missing = if !self.has_center {
                Some("FROMMEMBER or FROMLONLAT")
            } else if self.area.is_none() {
                Some("BYRADIUS and BYBOX")
            } else {
                None
            };
            if let Some(missing) = missing {
                let name = crate::command::shown_word(args.word(0), 128);
                let text: [&[u8]; 4] =
                    [b"ERR exactly one of ", missing.as_bytes(), b" can be specified for ", name];
                return Err(CommandError::of_parts(&text));
            }
        }
        if query.any && query.count == 0 {
            return Err(CommandError::of("ERR the ANY argument requires COUNT argument"));
        }
        if query.count > 0 && !query.any && query.order.is_none() {
            query.order = Some(GeoOrder::Ascending);
        }
        query.shape = match (self.polygon, self.center, self.area) {
            (Some(vertices), ..) => Some(GeoShape::polygon(vertices)),
            (None, Some(center), Some(Area::Radius(radius))) => Some(GeoShape::Circle { center, radius }),
            (None, Some(center), Some(Area::Box(width, height))) => {
                Some(GeoShape::Box { center, width, height })
            }
            _ => None,
        };
        Ok(self.query)
    }
}
