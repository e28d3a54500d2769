//! FT.SYNUPDATE and FT.SYNDUMP. A word of a query is looked for with all terms of its groups, so documents
//! need not be indexed again, and SKIPINITIALSCAN has nothing to skip.

use crate::documents::text::lower;
use crate::effects::{KIND_SYNONYMS, effect_of};
use crate::error::Kind;
use crate::manage::copied::{SLICE_ITEMS, copied};
use crate::module::find;
use crate::schema::change::SynonymChange;
use crate::search::shape::{is_flat, shaped};
use crate::search::styled;
use engramdb_engine::command::{Args, CommandError, Job, Outcome, Reply, Rest, Stage};
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
pub fn dump(view: &View<'_>, args: Args<'_>, _reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let index = styled(view, find(view, args[1], Kind::NoIndexToTell))?.clone();
    view.wait_for(index.changed_by());
    let is_long = index.definition.synonyms.terms_after(None, SLICE_ITEMS).len() == SLICE_ITEMS;
    let job: Job = Box::new(move |looks| {
        let bytes_of = |(term, groups): &(Vec<u8>, Vec<Vec<u8>>)| {
            term.len() + groups.iter().map(Vec::len).sum::<usize>()
        };
        let synonyms = &index.definition.synonyms;
        let terms = copied(looks, bytes_of, |last| {
            synonyms.terms_after(last.map(|(term, _)| term.as_slice()), SLICE_ITEMS)
        });
        Box::new(move |view, reply| {
            view.wait_for(index.changed_by());
            let is_flat = is_flat(view, reply);
            Ok(Rest::Write(Box::new(move |reply| {
                let Some(terms) = terms else { return reply.give_up() };
                shaped(is_flat, reply, |reply| {
                    reply.map(terms.len());
                    for (term, groups) in &terms {
                        reply.bulk(term);
                        reply.array(groups.len());
                        groups.iter().for_each(|group| reply.bulk(group));
                    }
                });
            })))
        })
    });
    Ok(if is_long { Stage::Offload(job) } else { Stage::Run(job) })
}
