//! FT.DICTADD, FT.DICTDEL, FT.DICTDUMP. A dictionary belongs to a database, as indexes do, and exists while
//! it has terms.

use crate::effects::{KIND_DICTIONARY, effect_of};
use crate::error::Kind;
use crate::manage::copied::{SLICE_ITEMS, copied};
use crate::module::SearchModule;
use crate::schema::change::DictionaryChange;
use crate::search::shape::{is_flat, shaped};
use crate::search::styled;
use engramdb_engine::command::{Args, CommandError, Job, Outcome, Reply, Rest, Stage};
use engramdb_engine::store::tx::Tx;
use engramdb_engine::store::view::View;
use std::collections::BTreeSet;

pub fn add(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    change(tx, args, reply, true)
}

pub fn delete(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    change(tx, args, reply, false)
}

/// Adds the terms, or removes them; replies how many were not there, or were.
fn change(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply, adds: bool) -> Outcome {
    let name = args[1];
    let terms: Vec<Vec<u8>> = tx.read(|view| {
        view.whole_keyspace();
        let there = view.module::<SearchModule>().dictionaries.get(view.database(), name);
        let there = there.map(|terms| terms.read());
        let has = |term: &[u8]| there.as_ref().is_some_and(|there| there.contains(term));
        let given: BTreeSet<&[u8]> = args.from(2).iter().copied().collect();
        given.into_iter().filter(|term| has(term) != adds).map(<[u8]>::to_vec).collect()
    });
    if !terms.is_empty() {
        tx.apply(effect_of(KIND_DICTIONARY, &DictionaryChange::encode(name, adds, &terms)));
    }
    reply.integer(terms.len() as i64);
    Ok(())
}

/// The terms. While they are many, others may be added or removed meanwhile.
pub fn dump(view: &View<'_>, args: Args<'_>, _reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    view.whole_keyspace();
    let dictionary = view.module::<SearchModule>().dictionaries.get(view.database(), args[1]);
    let dictionary = styled(view, dictionary.ok_or(Kind::NoDictionaryToDump.error()))?.clone();
    let is_long = dictionary.read().len() > SLICE_ITEMS;
    let job: Job = Box::new(move |looks| {
        let slice = |last: Option<&Vec<u8>>| {
            let terms = dictionary.read();
            terms.after(last.map(Vec::as_slice)).take(SLICE_ITEMS).map(<[u8]>::to_vec).collect()
        };
        let terms = copied(looks, Vec::len, slice);
        Box::new(move |view, reply| {
            view.whole_keyspace();
            let is_flat = is_flat(view, reply);
            Ok(Rest::Write(Box::new(move |reply| {
                let Some(terms) = terms else { return reply.give_up() };
                shaped(is_flat, reply, |reply| {
                    reply.set(terms.len());
                    terms.iter().for_each(|term| reply.bulk(term));
                });
            })))
        })
    });
    Ok(if is_long { Stage::Offload(job) } else { Stage::Run(job) })
}
