//! CHECK_GRAPH walks over the whole graph of a vector field and reports nodes that searches cannot reach.
//! Searches go on meanwhile; mutations wait in the field's tail.

use super::{index, vector_field};
use crate::index::Index;
use engramdb_engine::command::{Args, CommandError, Finish, Job, Reply, Rest, Stage};
use engramdb_engine::store::view::View;
use engramdb_vector::GraphCheck;
use std::sync::Arc;

pub fn check(view: &View<'_>, args: Args<'_>, _reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let index = index(view, args)?;
    let is_graph = |&field: &usize| {
        index.vectors[field].as_ref().is_some_and(|vectors| vectors.structure().graph().is_some())
    };
    let field = vector_field(index, args[3]).ok().filter(is_graph);
    let field = field.ok_or(CommandError::of("Vector index not found"))?;
    let index = index.clone();
    let job: Job = Box::new(move |_| {
        let vectors = index.vectors[field].as_ref().expect("a vector field");
        let check = vectors.structure().graph().expect("a graph").check();
        let pending = vectors.pending();
        let finish: Finish = Box::new(move |_view, reply| {
            write(&index, &check, pending, reply);
            Ok(Rest::Nothing)
        });
        finish
    });
    Ok(Stage::Offload(job))
}

fn write(index: &Arc<Index>, check: &GraphCheck, pending: usize, reply: &mut dyn Reply) {
    let counts = [
        ("sound", usize::from(check.is_sound())),
        ("live", check.live),
        ("pending_mutations", pending),
        ("places", check.places),
        ("members", check.members),
        ("unreachable", check.unreachable),
        ("unkept", check.unkept),
        ("linked_by_copies_only", check.linked_by_copies_only),
        ("dangling", check.dangling),
        ("lost_members", check.lost_members),
    ];
    reply.map(counts.len() + 1);
    for (name, count) in counts {
        reply.bulk(name.as_bytes());
        reply.integer(count as i64);
    }
    reply.bulk(b"unreachable_keys");
    let documents = index.documents.read();
    let keys: Vec<&[u8]> = check.unreachable_ids.iter().filter_map(|&id| documents.key(id)).collect();
    reply.array(keys.len());
    keys.iter().for_each(|key| reply.bulk(key));
}
