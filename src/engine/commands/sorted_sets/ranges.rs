//! ZRANGE and its relatives, ZRANGESTORE, ZREMRANGEBY*.

use super::bounds::{RangeBounds, RangeBy, RangeQuery};
use super::copying::{copy_members, write_members};
use super::sorted_set;
use super::storing::{room_to_store, store};
use crate::command::{Args, CommandError, Finish, Job, Outcome, Reply, Rest, Stage};
use crate::commands::slices::AT_ONCE;
use crate::effect::Effect;
use crate::store::tx::Tx;
use crate::store::view::View;

type Staged = Result<Stage, CommandError>;

pub fn zrange(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Staged {
    range(view, args, reply, RangeBy::Options, None)
}

pub fn zrangebylex(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Staged {
    range(view, args, reply, RangeBy::Names, Some(false))
}

pub fn zrangebyscore(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Staged {
    range(view, args, reply, RangeBy::Scores, Some(false))
}

pub fn zrevrange(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Staged {
    range(view, args, reply, RangeBy::Ranks, Some(true))
}

pub fn zrevrangebylex(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Staged {
    range(view, args, reply, RangeBy::Names, Some(true))
}

pub fn zrevrangebyscore(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Staged {
    range(view, args, reply, RangeBy::Scores, Some(true))
}

fn range(
    view: &View<'_>,
    args: Args<'_>,
    reply: &mut dyn Reply,
    by: RangeBy,
    is_reverse: Option<bool>,
) -> Staged {
    let query = RangeQuery::parse(args, 2, by, is_reverse, false)?;
    let Some(set) = sorted_set(view, args.word(1))? else {
        reply.array(0);
        return Ok(Stage::Done);
    };
    let ranks = query.of(set);
    if ranks.len() > AT_ONCE {
        return Ok(range_in_slices(args.word(1), query));
    }
    let count = ranks.len();
    match query.is_reverse {
        true => write_members(set.range(ranks).rev(), count, query.with_scores, reply),
        false => write_members(set.range(ranks), count, query.with_scores, reply),
    }
    Ok(Stage::Done)
}

fn range_in_slices(key: &[u8], query: RangeQuery) -> Stage {
    let key = key.to_vec();
    let job: Job = Box::new(move |looks| {
        let copied = copy_members(looks, &key, query.is_reverse, &|set| query.of(set));
        let finish: Finish = Box::new(move |_, _| {
            let copied = copied?;
            Ok(Rest::Write(Box::new(move |reply| copied.write(query.with_scores, reply))))
        });
        finish
    });
    Stage::Copy(job)
}

pub fn zrangestore(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let query = RangeQuery::parse(args, 3, RangeBy::Options, None, true)?;
    let members = tx.read(|view| {
        let Some(set) = sorted_set(view, args.word(2))? else { return Ok(Vec::new()) };
        Ok(set.range(query.of(set)).map(|entry| (entry.score, entry.member.to_vec())).collect())
    })?;
    store(tx, args.word(1), &members, "zrangestore");
    reply.integer(members.len() as i64);
    Ok(())
}

pub fn room_of_zrangestore(view: &View<'_>, args: Args<'_>) -> usize {
    let set = sorted_set(view, args.word(2)).ok().flatten();
    set.map_or(0, |set| room_to_store(args.word(1), set.len(), set.member_bytes_max()))
}

pub fn zremrangebylex(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    remove_range(tx, args, &RangeBounds::names(args.word(2), args.word(3))?, reply)
}

pub fn zremrangebyrank(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    remove_range(tx, args, &RangeBounds::ranks(args.word(2), args.word(3))?, reply)
}

pub fn zremrangebyscore(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    remove_range(tx, args, &RangeBounds::scores(args.word(2), args.word(3))?, reply)
}

fn remove_range(tx: &mut Tx<'_>, args: Args<'_>, bounds: &RangeBounds, reply: &mut dyn Reply) -> Outcome {
    let key = args.word(1);
    let ranks = tx.read(|view| {
        let set = sorted_set(view, key)?;
        Ok(set.map_or(0..0, |set| bounds.of(set, false)))
    })?;
    if !ranks.is_empty() {
        let (first, count) = (ranks.start as u64, ranks.len() as u64);
        tx.apply(Effect::SortedSetRemoveRange { key, first, count });
    }
    reply.integer(ranks.len() as i64);
    Ok(())
}
