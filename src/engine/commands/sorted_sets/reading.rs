//! Reads of counts, scores, ranks and random members, and ZSCAN.

use super::bounds::RangeBounds;
use super::copying::{copy_members, write_members};
use super::sorted_set;
use crate::command::{Args, CommandError, Finish, Job, Outcome, Reply, Rest, Stage};
use crate::commands::random_picks::{draw, parse_random};
use crate::commands::scan::{ScanFound, ScanOf, ScanOptions, parse_cursor};
use crate::commands::slices::AT_ONCE;
use crate::hashing::{HashSet, HashState};
use crate::store::view::View;
use crate::types::{ScoredMember, SortedSetRef, format_score, format_score_17};

pub fn zcard(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply.integer(sorted_set(view, args.word(1))?.map_or(0, SortedSetRef::len) as i64);
    Ok(())
}

pub fn zcount(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    count(view, args, &RangeBounds::scores(args.word(2), args.word(3))?, reply)
}

pub fn zlexcount(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    count(view, args, &RangeBounds::names(args.word(2), args.word(3))?, reply)
}

fn count(view: &View<'_>, args: Args<'_>, bounds: &RangeBounds, reply: &mut dyn Reply) -> Outcome {
    let set = sorted_set(view, args.word(1))?;
    reply.integer(set.map_or(0, |set| bounds.of(set, false).len()) as i64);
    Ok(())
}

pub fn zmscore(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let set = sorted_set(view, args.word(1))?;
    reply.array(args.len() - 2);
    for member in args.from(2) {
        write_score(set.and_then(|set| set.score(member)), reply);
    }
    Ok(())
}

pub fn zscore(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let set = sorted_set(view, args.word(1))?;
    write_score(set.and_then(|set| set.score(args.word(2))), reply);
    Ok(())
}

fn write_score(score: Option<f64>, reply: &mut dyn Reply) {
    match score {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
}

pub fn zrank(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    rank(view, args, reply, "zrank", |_, rank| rank)
}

pub fn zrevrank(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    rank(view, args, reply, "zrevrank", |length, rank| length - 1 - rank)
}

fn rank(
    view: &View<'_>,
    args: Args<'_>,
    reply: &mut dyn Reply,
    command: &str,
    counted: fn(usize, usize) -> usize,
) -> Outcome {
    let with_score = args.len() == 4;
    if args.len() > 4 {
        return Err(CommandError::wrong_arity(command));
    }
    if with_score && !args.is(3, "WITHSCORE") {
        return Err(CommandError::SYNTAX);
    }
    let set = sorted_set(view, args.word(1))?;
    match set.and_then(|set| Some((set.len(), set.rank(args.word(2))?))) {
        Some((length, (rank, score))) => {
            if with_score {
                reply.array(2);
            }
            reply.integer(counted(length, rank) as i64);
            if with_score {
                reply.double(score);
            }
        }
        None if with_score => reply.null_array(),
        None => reply.null(),
    }
    Ok(())
}

pub fn zscan(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let cursor = parse_cursor(args.word(2))?;
    let Some(set) = sorted_set(view, args.word(1))? else {
        reply.array(2);
        reply.bulk(b"0");
        reply.array(0);
        return Ok(Stage::Done);
    };
    let options = ScanOptions::parse(args.options(3), ScanOf::Members)?;
    if options.count > AT_ONCE && set.len() > AT_ONCE {
        return Ok(scan_in_slices(args.word(1), cursor, &options));
    }
    let mut found = ScanFound::default();
    let next = scan(view, set, cursor, options.count, &options, &mut found);
    found.write(next, reply);
    Ok(Stage::Done)
}

/// One step. Scores have the digits that Redis's encodings give them.
fn scan(
    view: &View<'_>,
    set: SortedSetRef<'_>,
    cursor: u64,
    count: usize,
    options: &ScanOptions<'_>,
    found: &mut ScanFound,
) -> u64 {
    let limits = view.encoding_limits();
    let is_compact = set.is_within(limits.sorted_set_entries, limits.sorted_set_value);
    let format = if is_compact { format_score } else { format_score_17 };
    set.scan(cursor, count, &mut |entry| {
        if options.wants(entry.member) {
            found.pair(entry.member, format(entry.score).as_bytes());
        }
    })
}

/// ZSCAN with a large count: its result need not be consistent as of one moment.
fn scan_in_slices(key: &[u8], cursor: u64, options: &ScanOptions<'_>) -> Stage {
    let (key, options) = (key.to_vec(), options.to_owned());
    let job: Job = Box::new(move |looks| {
        let (mut next, mut found) = (cursor, ScanFound::default());
        found.in_slices(looks, options.count, |count, found| {
            looks.look(&mut |view| {
                // A deleted key, or one of another type, ends the walk.
                let set = sorted_set(view, &key).ok().flatten();
                next = set.map_or(0, |set| scan(view, set, next, count, &options.borrow(), found));
            });
            next != 0
        });
        let finish: Finish =
            Box::new(move |_, _| Ok(Rest::Write(Box::new(move |reply| found.write(next, reply)))));
        finish
    });
    Stage::Copy(job)
}

pub fn zrandmember(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    if args.len() == 2 {
        let set = sorted_set(view, args.word(1))?;
        let picked = set.and_then(|set| member_at(set, view.random() as usize % set.len()));
        reply.optional_bulk(picked.map(|entry| entry.member));
        return Ok(Stage::Done);
    }
    let (count, with_scores) = parse_random(args, "WITHSCORES")?;
    let Some(set) = sorted_set(view, args.word(1))? else {
        reply.array(0);
        return Ok(Stage::Done);
    };
    let picks = if count < 0 { count.unsigned_abs() as usize } else { (count as usize).min(set.len()) };
    if picks > AT_ONCE {
        return Ok(pick_from_copy(view, args.word(1), count, with_scores));
    }
    let ranks = if count < 0 {
        (0..picks).map(|_| view.random() as usize % set.len()).collect()
    } else {
        pick_distinct(set.len(), picks, &|| view.random())
    };
    let picked = ranks.iter().filter_map(|&rank| member_at(set, rank));
    write_members(picked, ranks.len(), with_scores, reply);
    Ok(Stage::Done)
}

fn member_at(set: SortedSetRef<'_>, rank: usize) -> Option<ScoredMember<'_>> {
    set.range(rank..rank + 1).next()
}

/// Distinct numbers below `length`, at most as many.
fn pick_distinct(length: usize, count: usize, random: &dyn Fn() -> u64) -> Vec<usize> {
    if count < length / 4 {
        // Few of many: most picks are new.
        let mut seen = HashSet::with_capacity_and_hasher(count, HashState::default());
        let mut picked = Vec::with_capacity(count);
        while picked.len() < count {
            let pick = (random() % length as u64) as usize;
            if seen.insert(pick) {
                picked.push(pick);
            }
        }
        return picked;
    }
    let mut all: Vec<usize> = (0..length).collect();
    draw(&mut all, count, random);
    all
}

/// ZRANDMEMBER of many members, from a copy of the set, without any lock.
fn pick_from_copy(view: &View<'_>, key: &[u8], count: i64, with_scores: bool) -> Stage {
    let (key, random) = (key.to_vec(), view.random_source());
    let job: Job = Box::new(move |looks| {
        let copied = copy_members(looks, &key, false, &|set| 0..set.len());
        let finish: Finish = Box::new(move |_, _| {
            let copied = copied?;
            Ok(Rest::Write(Box::new(move |reply| {
                let length = copied.len();
                let picks: Vec<usize> = match usize::try_from(count) {
                    Ok(count) => pick_distinct(length, count.min(length), &|| random.next_u64()),
                    Err(_) if length == 0 => Vec::new(),
                    Err(_) => {
                        let pick = |_| (random.next_u64() % length as u64) as usize;
                        (0..count.unsigned_abs()).map(pick).collect()
                    }
                };
                write_members(picks.iter().map(|&at| copied.get(at)), picks.len(), with_scores, reply);
            })))
        });
        finish
    });
    Stage::Copy(job)
}
