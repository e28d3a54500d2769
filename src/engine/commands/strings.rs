//! Strings.

use crate::command::{Args, Command, Outcome, Reply, acl, flag, read, write};
use crate::effect::Effect;
use crate::tx::Tx;
use crate::view::View;

pub const COMMANDS: &[Command] = &[
    read("GET", "key", get).group("string").flags(flag::FAST).acl(acl::STRING).docs(
        "1.0.0",
        "O(1)",
        "Returns the string value of a key.",
    ),
    write("SET", "key value", set).group("string").event("set").flags(flag::DENY_OOM).acl(acl::STRING).docs(
        "1.0.0",
        "O(1)",
        "Sets the string value of a key, ignoring its type.",
    ),
];

fn get(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    match view.string(args[1])? {
        Some(string) => string.with_bytes(|bytes| reply.bulk(bytes)),
        None => reply.null(),
    }
    Ok(())
}

fn set(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    tx.apply(Effect::StringSet { key: args[1], value: args[2], expires_at_ms: 0 });
    reply.ok();
    Ok(())
}
