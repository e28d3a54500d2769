//! Commands for tests that wait for keys: one takes, as BLPOP does with a list, and one reads, as XREAD does
//! with a stream.

use engramdb_engine::command::{
    Args, Awaited, BlockingStage, Command, CommandError, Park, Reply, blocking, blocking_read, integer,
};
use engramdb_engine::effect::{Cause, Effect, List};
use engramdb_engine::store::tx::Tx;
use engramdb_engine::store::view::View;
use std::time::Duration;

/// `TEST.PEEK key+ milliseconds` replies the first key that holds a hash, and the hash's first field;
/// `TEST.TAKE` also deletes that field. Both wait for at most `milliseconds`; 0 means no limit.
pub const COMMANDS: &[Command] = &[
    blocking_read("TEST.PEEK", "key+ milliseconds", peek),
    blocking("TEST.TAKE", "key+ milliseconds", take),
];

static HAS_FIELDS: Awaited = Awaited {
    name: "hash",
    holds: |view, key| matches!(view.hash(key), Ok(Some(_))),
    ends_without_key: false,
};

type KeyAndField<'k> = (&'k [u8], Vec<u8>);

/// The first key with a hash, and the name of its first field.
fn first<'k>(view: &View<'_>, keys: &[&'k [u8]]) -> Result<Option<KeyAndField<'k>>, CommandError> {
    for key in keys {
        if let Some(hash) = view.hash(key)? {
            let name = hash.iter().map(|field| field.name.to_vec()).min();
            return Ok(Some((key, name.expect("no hash is empty"))));
        }
    }
    Ok(None)
}

fn keys_and_time<'a>(args: Args<'a>) -> (&'a [&'a [u8]], &'a [u8]) {
    let (time, keys) = args.from(1).split_last().expect("the arity was checked");
    (keys, time)
}

fn wait_for(keys: &[&[u8]], milliseconds: &[u8]) -> Result<BlockingStage, CommandError> {
    let milliseconds = u64::try_from(integer(milliseconds)?).map_err(|_| CommandError::NOT_INTEGER)?;
    let at_most = (milliseconds > 0).then_some(Duration::from_millis(milliseconds));
    let keys = keys.iter().map(|key| key.to_vec()).collect();
    Ok(BlockingStage::Park(Box::new(Park::new(keys, &HAS_FIELDS, at_most, |reply| reply.null_array()))))
}

fn show(reply: &mut dyn Reply, key: &[u8], name: &[u8]) {
    reply.array(2);
    reply.bulk(key);
    reply.bulk(name);
}

fn peek(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<BlockingStage, CommandError> {
    let (keys, milliseconds) = keys_and_time(args);
    let Some((key, name)) = first(view, keys)? else { return wait_for(keys, milliseconds) };
    show(reply, key, &name);
    Ok(BlockingStage::Done)
}

fn take(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<BlockingStage, CommandError> {
    let (keys, milliseconds) = keys_and_time(args);
    let Some((key, name)) = tx.read(|view| first(view, keys))? else { return wait_for(keys, milliseconds) };
    tx.apply(Effect::HashDelete { key, fields: List::Arguments(&[&name]), cause: Cause::Command });
    show(reply, key, &name);
    Ok(BlockingStage::Done)
}
