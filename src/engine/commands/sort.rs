//! SORT: elements of a list, a set or a sorted set in the order of their own values or of other keys'.

use crate::command::{Args, Command, CommandError, Outcome, Reply, acl, flag, read, write};
use crate::effect::{Cause, Effect, List};
use crate::keyspace::{Entry, ValueRef, list_of, set_of, sorted_set_of};
use crate::store::tx::Tx;
use crate::store::view::View;
use crate::types::{ListEnd, RowElement};
use std::cmp::Ordering;

pub const COMMANDS: &[Command] = &[
    write(
        "SORT",
        "key [BY pattern] [LIMIT offset count] [GET pattern] [ASC|DESC] [ALPHA] [STORE destination]",
        sort,
    )
    .flags(flag::DENY_OOM)
    .acl(CATEGORIES)
    .keys(keys_of_sort)
    .room(room_to_store)
    .event("sortstore")
    .access(&["RO access", "RO access", "OW update"])
    .access_by(|_, key| if key == 0 { "RO access" } else { "OW update" })
    .docs(
        "1.0.0",
        "O(N+M*log(M)) for N elements, M of which are returned",
        "Sorts the elements of a list, a set or a sorted set, and may store the result.",
    ),
    read("SORT_RO", "key [BY pattern] [LIMIT offset count] [GET pattern] [ASC|DESC] [ALPHA]", sort_ro)
        .acl(CATEGORIES)
        .keys(|_| Ok(vec![1]))
        .access(&["RO access", "RO access"])
        .docs(
            "7.0.0",
            "O(N+M*log(M)) for N elements, M of which are returned",
            "Sorts the elements of a list, a set or a sorted set.",
        ),
];

const CATEGORIES: u32 = acl::SET | acl::SORTED_SET | acl::LIST | acl::DANGEROUS;

/// The options.
struct Sorting<'a> {
    /// The elements' values are their own if there is no pattern.
    by: Option<&'a [u8]>,
    /// The elements are not sorted: BY has a pattern without a place for the element.
    keeps_order: bool,
    gets: Vec<&'a [u8]>,
    /// Offset and count; a negative count is no limit.
    limit: (i64, i64),
    descending: bool,
    alpha: bool,
    destination: Option<&'a [u8]>,
}

impl<'a> Sorting<'a> {
    fn parse(args: Args<'a>, may_store: bool) -> Result<Sorting<'a>, CommandError> {
        let mut sorting = Sorting {
            by: None,
            keeps_order: false,
            gets: Vec::new(),
            limit: (0, -1),
            descending: false,
            alpha: false,
            destination: None,
        };
        let mut options = args.options(2);
        while !options.is_done() {
            if options.take("ASC") {
                sorting.descending = false;
            } else if options.take("DESC") {
                sorting.descending = true;
            } else if options.take("ALPHA") {
                sorting.alpha = true;
            } else if options.left() > 2 && options.take("LIMIT") {
                sorting.limit = (options.integer()?, options.integer()?);
            } else if options.left() > 1 && may_store && options.take("STORE") {
                sorting.destination = Some(options.word()?);
            } else if options.left() > 1 && options.take("BY") {
                let pattern = options.word()?;
                sorting.by = Some(pattern);
                sorting.keeps_order = !pattern.contains(&b'*');
            } else if options.left() > 1 && options.take("GET") {
                sorting.gets.push(options.word()?);
            } else {
                return Err(CommandError::SYNTAX);
            }
        }
        Ok(sorting)
    }

    /// The range of `length` elements that LIMIT leaves.
    fn range(&self, length: usize) -> std::ops::Range<usize> {
        let (offset, count) = self.limit;
        let start = usize::try_from(offset.max(0)).unwrap_or(usize::MAX).min(length);
        let end = match usize::try_from(count) {
            Ok(count) => start.saturating_add(count).min(length),
            Err(_) => length,
        };
        start..end
    }
}

/// The value by which an element is sorted.
enum Weight {
    Number(f64),
    Text(Option<Vec<u8>>),
}

/// The elements that the command is about, in their order, before LIMIT.
fn ordered(view: &View<'_>, key: &[u8], sorting: &Sorting<'_>) -> Result<Vec<Vec<u8>>, CommandError> {
    let Some(entry) = view.entry(key) else { return Ok(Vec::new()) };
    let (elements, kind) = elements_of(entry, sorting)?;
    let (mut by, mut alpha) = (sorting.by, sorting.alpha);
    let mut keeps_order = sorting.keeps_order;
    if keeps_order && kind == Kind::Set && (sorting.destination.is_some() || view.is_in_script) {
        // A set has no order, and what is stored needs one. Scripts get one too, as in Redis.
        (keeps_order, by, alpha) = (false, None, true);
    }
    if keeps_order {
        return Ok(elements);
    }
    let weigh = |element: Vec<u8>| {
        let value = match by {
            Some(pattern) => look_up(view, pattern, &element),
            None => Some(element.clone()),
        };
        let weight = if alpha { Weight::Text(value) } else { Weight::Number(number_of(value.as_deref())?) };
        Ok((weight, element))
    };
    let mut weighed = elements.into_iter().map(weigh).collect::<Result<Vec<_>, CommandError>>()?;
    weighed.sort_by(|(one, element), (other, another)| {
        let order = match (one, other) {
            (Weight::Number(one), Weight::Number(other)) => {
                one.partial_cmp(other).unwrap_or(Ordering::Equal).then_with(|| element.cmp(another))
            }
            (Weight::Text(one), Weight::Text(other)) => one.cmp(other),
            _ => Ordering::Equal,
        };
        if sorting.descending { order.reverse() } else { order }
    });
    Ok(weighed.into_iter().map(|(_, element)| element).collect())
}

#[derive(PartialEq, Eq)]
enum Kind {
    /// Without an order of its own.
    Set,
    Ordered,
}

/// The elements in the order that the value has, or in the reverse one for DESC.
fn elements_of(entry: &Entry, sorting: &Sorting<'_>) -> Result<(Vec<Vec<u8>>, Kind), CommandError> {
    let value = entry.value();
    if let Some(set) = set_of(value) {
        return Ok((set.iter().map(RowElement::to_vec).collect(), Kind::Set));
    }
    let mut elements: Vec<Vec<u8>> = match (list_of(value), value) {
        (Some(list), _) => list.iter().map(RowElement::to_vec).collect(),
        (None, value) => {
            let set = sorted_set_of(value).ok_or(CommandError::WRONG_TYPE)?;
            set.iter().map(|scored| scored.member.to_vec()).collect()
        }
    };
    if sorting.keeps_order && sorting.descending {
        elements.reverse();
    }
    Ok((elements, Kind::Ordered))
}

/// A value as a number: 0 if there is none.
fn number_of(value: Option<&[u8]>) -> Result<f64, CommandError> {
    const NO_NUMBER: CommandError = CommandError::of("ERR One or more scores can't be converted into double");
    match value {
        None | Some(b"") => Ok(0.0),
        Some(text) => crate::types::parse_double(text.trim_ascii_start()).ok_or(NO_NUMBER),
    }
}

/// The value to which a pattern leads for an element: `#` is the element itself, `*` in the name of a key is
/// replaced by it, and a field of a hash follows `->`. `None` if there is no such value.
fn look_up(view: &View<'_>, pattern: &[u8], element: &[u8]) -> Option<Vec<u8>> {
    if pattern == b"#" {
        return Some(element.to_vec());
    }
    let place = pattern.iter().position(|byte| *byte == b'*')?;
    let (prefix, rest) = (&pattern[..place], &pattern[place + 1..]);
    let arrow = rest.windows(2).position(|pair| pair == b"->").filter(|at| at + 2 < rest.len());
    let (suffix, field) = match arrow {
        Some(at) => (&rest[..at], Some(&rest[at + 2..])),
        None => (rest, None),
    };
    let key = [prefix, element, suffix].concat();
    match (field, view.entry(&key)?.value()) {
        (None, ValueRef::String(string)) => Some(string.to_bytes().into_owned()),
        (Some(field), ValueRef::Hash(_)) => {
            let hash = view.hash(&key).ok().flatten()?;
            Some(hash.get(field)?.value.to_bytes().into_owned())
        }
        _ => None,
    }
}

/// What the command replies or stores.
fn results(view: &View<'_>, key: &[u8], sorting: &Sorting<'_>) -> Result<Vec<Option<Vec<u8>>>, CommandError> {
    let mut elements = ordered(view, key, sorting)?;
    let range = sorting.range(elements.len());
    let elements = elements.drain(range);
    if sorting.gets.is_empty() {
        return Ok(elements.map(Some).collect());
    }
    let got = |element: Vec<u8>| {
        let values: Vec<_> = sorting.gets.iter().map(|pattern| look_up(view, pattern, &element)).collect();
        values
    };
    Ok(elements.flat_map(got).collect())
}

fn reply_results(results: &[Option<Vec<u8>>], reply: &mut dyn Reply) {
    reply.array(results.len());
    results.iter().for_each(|result| reply.optional_bulk(result.as_deref()));
}

fn sort(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let sorting = Sorting::parse(args, true)?;
    let results = tx.read(|view| results(view, args.word(1), &sorting))?;
    let Some(key) = sorting.destination else {
        reply_results(&results, reply);
        return Ok(());
    };
    if tx.read(|view| super::exists(view, key)) {
        if !results.is_empty() {
            tx.event("");
        }
        tx.apply(Effect::Delete { key, cause: Cause::Command });
    }
    if !results.is_empty() {
        tx.event("sortstore");
        let words: Vec<&[u8]> = results.iter().map(|result| result.as_deref().unwrap_or(b"")).collect();
        tx.apply(Effect::ListPush { key, end: ListEnd::Back, elements: List::Arguments(&words) });
    }
    reply.integer(results.len() as i64);
    Ok(())
}

fn sort_ro(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let sorting = Sorting::parse(args, false)?;
    reply_results(&results(view, args.word(1), &sorting)?, reply);
    Ok(())
}

/// What is stored, which the words do not show.
fn room_to_store(view: &View<'_>, args: Args<'_>) -> usize {
    const LENGTH_BYTES: usize = 4;
    let Ok(sorting) = Sorting::parse(args, true) else { return 0 };
    if sorting.destination.is_none() {
        return 0;
    }
    let results = results(view, args.word(1), &sorting).unwrap_or_default();
    results.iter().map(|result| LENGTH_BYTES + result.as_ref().map_or(0, Vec::len)).sum()
}

fn keys_of_sort(args: Args<'_>) -> Result<Vec<usize>, CommandError> {
    // Patterns look at keys that the words do not name, as in Redis.
    let mut keys = vec![1];
    let mut word = 2;
    while word < args.len() {
        if args.is(word, "LIMIT") {
            word += 2;
        } else if args.is(word, "GET") || args.is(word, "BY") {
            word += 1;
        } else if args.is(word, "STORE") && word + 1 < args.len() {
            keys.truncate(1);
            keys.push(word + 1);
            word += 1;
        }
        word += 1;
    }
    Ok(keys)
}
