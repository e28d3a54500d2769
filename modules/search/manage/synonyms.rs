//! FT.SYNUPDATE and FT.SYNDUMP. A word of a query is looked for with all terms of its groups, so documents
//! need not be indexed again, and SKIPINITIALSCAN has nothing to skip.

use crate::documents::text::lower;
use crate::effects::{KIND_SYNONYMS, effect_of};
use crate::error::Kind;
use crate::module::find;
use crate::schema::change::SynonymChange;
use crate::search::shape::{is_flat, shaped};
use crate::search::styled;
use engramdb_engine::command::{Args, CommandError, Outcome, Reply};
use engramdb_engine::store::tx::Tx;
use engramdb_engine::store::view::View;

pub fn update(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let change = tx.read(|view| {
        let index = styled(view, find(view, args[1], Kind::NoIndexToTell))?;
        view.wait_for(index.changed_by());
        let first_term = if args.is(3, "SKIPINITIALSCAN") { 4 } else { 3 };
        let terms: Vec<Vec<u8>> = args.from(first_term).iter().map(|term| lower(term)).collect();
        if terms.is_empty() {
            return Err(CommandError::of("ERR wrong number of arguments for 'FT.SYNUPDATE' command"));
        }
        Ok(SynonymChange { index: index.definition.name.clone(), group: args[2].to_vec(), terms })
    })?;
    tx.apply(effect_of(KIND_SYNONYMS, &change.encode()));
    reply.ok();
    Ok(())
}

/// The groups of each term.
pub fn dump(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let index = styled(view, find(view, args[1], Kind::NoIndexToTell))?;
    view.wait_for(index.changed_by());
    let synonyms = &index.definition.synonyms;
    shaped(is_flat(view, reply), reply, |reply| {
        reply.map(synonyms.len());
        synonyms.each_term(|term, groups| {
            reply.bulk(term);
            reply.array(groups.len());
            groups.iter().for_each(|group| reply.bulk(group));
        });
    });
    Ok(())
}
