//! Random picks of SRANDMEMBER, SPOP, HRANDFIELD and ZRANDMEMBER: their counts, and how they are drawn.

use crate::command::{Args, CommandError, integer};

/// A negative count repeats picks, so that the size of the value does not bound the reply: this does.
const REPEATS_MAX: u64 = 1 << 24;

/// The count, which is word 2, and whether `option`, which doubles the reply, follows it; nothing else may.
pub fn parse_random(args: Args<'_>, option: &str) -> Result<(i64, bool), CommandError> {
    let count = integer(args.word(2))?;
    if count == i64::MIN {
        return Err(CommandError::of(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ));
    }
    let has_option = args.len() == 4 && args.is(3, option);
    if args.len() > 3 && !has_option {
        return Err(CommandError::SYNTAX);
    }
    let beyond_pairs = has_option && count.abs() > i64::MAX / 2;
    if beyond_pairs || (count < 0 && count.unsigned_abs() > REPEATS_MAX) {
        return Err(CommandError::of("ERR value is out of range"));
    }
    Ok((count, has_option))
}

/// Keeps `count` of the items, of which there are no fewer, drawn at random: the first steps of a shuffle
/// (Fisher and Yates). All of them keep their order, as in Redis.
pub fn draw<T>(items: &mut Vec<T>, count: usize, random: &dyn Fn() -> u64) {
    let length = items.len();
    if count < length {
        for place in 0..count {
            items.swap(place, place + (random() % (length - place) as u64) as usize);
        }
        items.truncate(count);
    }
}
