//! FT.ALTER: adds fields to an index.
//!
//! Keys that exist already are indexed again in the background. Until that is done, searches of the added
//! fields wait, as they do for an index that is being filled; searches of the other fields go on. With
//! SKIPINITIALSCAN existing keys lack the added fields until they change.

use crate::effects::{KIND_ALTER, effect_of};
use crate::error::{Kind, SearchError};
use crate::module::{SearchModule, find};
use crate::schema::change::Alteration;
use crate::schema::create::add_fields;
use crate::search::styled;
use engramdb_engine::command::{Args, Outcome, Reply};
use engramdb_engine::store::tx::Tx;
use engramdb_engine::store::view::View;

pub fn alter(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    add(tx, args, reply, false)
}

/// A field that exists already leaves the index as it is.
pub fn alter_if_new(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    add(tx, args, reply, true)
}

fn add(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply, only_new: bool) -> Outcome {
    let parsed = tx.read(|view| styled(view, parse(view, args, only_new)))?;
    if let Some(alteration) = parsed {
        tx.apply(effect_of(KIND_ALTER, &alteration.encode()));
    }
    reply.ok();
    Ok(())
}

/// The fields to add; `None` if there is nothing to do.
fn parse(view: &View<'_>, args: Args<'_>, only_new: bool) -> Result<Option<Alteration>, SearchError> {
    let index = find(view, args[1], Kind::NoIndexToTell)?;
    view.wait_for(index.changed_by());
    let definition = &index.definition;
    let mut words = args.options(2);
    let skips_scan = words.take("SKIPINITIALSCAN");
    if !words.take("SCHEMA") {
        return Err(Kind::AlterWithoutSchema.error());
    }
    if !words.take("ADD") {
        return Err(Kind::AlterAction.error());
    }
    let Some(first) = words.peek() else { return Err(Kind::AlterNothing.error()) };
    if only_new && definition.field(first).is_some() {
        return Ok(None);
    }
    let mut fields = definition.fields.clone();
    let most = view.module::<SearchModule>().block_bytes_max(view);
    add_fields(&mut words, &definition.name, definition.documents, most, &mut fields)?;
    let fields = fields.split_off(definition.fields.len());
    Ok(Some(Alteration { name: definition.name.clone(), fields, skips_scan }))
}
