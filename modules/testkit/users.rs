//! Commands for tests that change users as ACL SETUSER and ACL DELUSER do: with the same effects, without
//! what rules mean.

use engramdb_engine::command::{Args, Command, Outcome, Reply, write};
use engramdb_engine::effect::Effect;
use engramdb_engine::store::tx::Tx;

/// `TEST.SETUSER name rules` and `TEST.DELUSER name`.
pub const COMMANDS: &[Command] =
    &[write("TEST.DELUSER", "username", delete), write("TEST.SETUSER", "username rules", set)];

fn set(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    tx.apply(Effect::UserSet { name: args.word(1), rules: args.word(2) });
    reply.ok();
    Ok(())
}

fn delete(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let name = args.word(1);
    let is_known = tx.read(|view| view.users().iter().any(|(known, _)| known == name));
    if is_known {
        tx.apply(Effect::UserDelete { name });
    }
    reply.integer(is_known.into());
    Ok(())
}
