//! FT.ALIASADD, FT.ALIASUPDATE, FT.ALIASDEL, FT.ALIASLIST: other names of indexes.
//!
//! An alias is of one index at a time, and goes with it. Each command that takes the name of an index takes
//! an alias too, except as the index of an alias. An index made later under an alias's name is found instead
//! of the alias's index, as in RediSearch.

use crate::effects::{KIND_ALIAS, effect_of};
use crate::error::{Kind, SearchError};
use crate::module::{SearchModule, find};
use crate::schema::change::AliasChange;
use crate::search::shape::{is_flat, shaped};
use crate::search::styled;
use engramdb_engine::command::{Args, Outcome, Reply};
use engramdb_engine::store::tx::Tx;
use engramdb_engine::store::view::View;

/// What a command does with an alias that exists.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    Refused,
    /// If it is the index's own, it stays.
    Kept,
    Moved,
}

pub fn add(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    set(tx, args, reply, Existing::Refused)
}

pub fn add_if_new(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    set(tx, args, reply, Existing::Kept)
}

pub fn update(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    set(tx, args, reply, Existing::Moved)
}

fn set(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply, existing: Existing) -> Outcome {
    let (alias, name) = (args[1], args[2]);
    let changes = tx.read(|view| {
        let module = view.module::<SearchModule>();
        let check = || {
            let registry = &module.registry;
            if registry.named(view.database(), name).is_none() {
                view.whole_keyspace();
                return Err(Kind::NoIndexForAlias.error());
            }
            if let Some(index) = registry.aliased(view.database(), alias) {
                view.wait_for(index.changed_by());
                let is_same = index.definition.name == name;
                return match existing {
                    Existing::Kept if is_same => Ok(false),
                    Existing::Refused | Existing::Kept => Err(Kind::AliasExists.error()),
                    Existing::Moved => Ok(!is_same),
                };
            }
            if let Some(index) = registry.named(view.database(), alias) {
                view.wait_for(index.changed_by());
                return Err(Kind::AliasIsIndex.error());
            }
            Ok(true)
        };
        styled(view, check())
    })?;
    if changes {
        tx.apply(effect_of(KIND_ALIAS, &AliasChange::encode(alias, Some(name))));
    }
    reply.ok();
    Ok(())
}

pub fn delete(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let found = tx.read(|view| styled(view, deletable(view, args[1])))?;
    if !found {
        return tx.read(|view| styled(view, Err(Kind::NoAlias.error())));
    }
    tx.apply(effect_of(KIND_ALIAS, &AliasChange::encode(args[1], None)));
    reply.ok();
    Ok(())
}

pub fn delete_if_there(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    if tx.read(|view| styled(view, deletable(view, args[1])))? {
        tx.apply(effect_of(KIND_ALIAS, &AliasChange::encode(args[1], None)));
    }
    reply.ok();
    Ok(())
}

/// Whether there is such an alias. An index of this name that does not have the alias is an error.
fn deletable(view: &View<'_>, alias: &[u8]) -> Result<bool, SearchError> {
    let registry = &view.module::<SearchModule>().registry;
    if registry.aliased(view.database(), alias).is_some() {
        return Ok(true);
    }
    view.whole_keyspace();
    match registry.named(view.database(), alias) {
        Some(_) => Err(Kind::AliasOfOther.error()),
        None => Ok(false),
    }
}

/// The aliases of an index.
pub fn list(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let index = styled(view, find(view, args[1], Kind::NoIndexToTell))?;
    view.wait_for(index.changed_by());
    let aliases: Vec<&[u8]> =
        view.module::<SearchModule>().registry.aliases_of(index.definition.id).collect();
    shaped(is_flat(view, reply), reply, |reply| {
        reply.set(aliases.len());
        aliases.iter().for_each(|alias| reply.bulk(alias));
    });
    Ok(())
}
