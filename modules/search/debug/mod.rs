//! FT.DEBUG: inspects an index, for operators and tests. RediSearch has many actions for its own structures.
//! Here there are those that clients and its tests of vectors use, answered from the structures of this
//! server:
//!
//! | action | reply |
//! |---|---|
//! | CHECK_GRAPH index field | the nodes of the field's graph that searches cannot reach (graph.rs) |
//! | VECSIM_INFO index field | the numbers of a vector field (vectors.rs) |
//! | GC_FORCEINVOKE index | after the memory of deleted vectors was freed |
//! | WORKERS DRAIN | after all pending mutations are in the graphs |
//!
//! What takes time in proportion to a graph runs in the search pool, without the keyspace's lock.

mod graph;
mod vectors;

use crate::index::Index;
use crate::module::SearchModule;
use crate::vectors::VectorField;
use crate::words::whole_number;
use engramdb_engine::command::{Args, CommandError, Finish, Job, Reply, Rest, Stage};
use engramdb_engine::env::Env;
use engramdb_engine::store::view::View;
use std::sync::Arc;
use std::time::Duration;

type Action = fn(&View<'_>, Args<'_>, &mut dyn Reply) -> Result<Stage, CommandError>;

/// Names, numbers of words, and handlers.
const ACTIONS: [(&str, usize, Action); 4] = [
    ("CHECK_GRAPH", 4, graph::check),
    ("GC_FORCEINVOKE", 3, collect),
    ("VECSIM_INFO", 4, vectors::tell),
    ("WORKERS", 3, workers),
];

pub fn debug(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    if args.is(1, "HELP") && args.len() == 2 {
        reply.array(ACTIONS.len());
        ACTIONS.iter().for_each(|(action, ..)| reply.simple(action));
        return Ok(Stage::Done);
    }
    let Some((name, words, action)) = ACTIONS.iter().find(|(action, ..)| args.is(1, action)) else {
        let action = crate::error::text(args[1]);
        return Err(CommandError::new(format!("ERR unknown subcommand '{action}'. Try FT.DEBUG HELP.")));
    };
    // GC_FORCEINVOKE takes a time limit, which is not needed: other clients do not wait for it.
    let is_limit = args.get(3).is_some_and(|limit| whole_number::<u64>(limit).is_some());
    let may_have_more = *name == "GC_FORCEINVOKE" && args.len() == words + 1 && is_limit;
    if args.len() != *words && !may_have_more {
        let text = format!("ERR wrong number of arguments for 'FT.DEBUG|{name}' command");
        return Err(CommandError::new(text));
    }
    action(view, args, reply)
}

/// The index that the command names. Its reply waits for the last change of the index.
fn index<'v>(view: &View<'v>, args: Args<'_>) -> Result<&'v Arc<Index>, CommandError> {
    let index = view.module::<SearchModule>().index(view.database(), args[2]).ok_or_else(|| {
        view.whole_keyspace();
        CommandError::of("Can not create a search ctx")
    })?;
    view.wait_for(index.changed_by());
    Ok(index)
}

/// The vector field that the command names, by its number.
fn vector_field(index: &Index, name: &[u8]) -> Result<usize, CommandError> {
    let field = index.definition.field(name).filter(|&field| index.vectors[field].is_some());
    field.ok_or(CommandError::of("Vector index not found"))
}

/// How long commands wait for work in the background, on a thread of the search pool, and how long between
/// two looks.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(1);

/// Work without the keyspace's lock, after which the reply is `done`; an error if it takes too long.
fn work(
    env: &Env,
    done: &'static str,
    step: impl Fn() -> bool + Send + 'static,
) -> Result<Stage, CommandError> {
    let clock = env.clock.clone();
    let deadline = clock.monotonic() + PATIENCE;
    let job: Job = Box::new(move |_| {
        let mut is_done = step();
        while !is_done && clock.monotonic() < deadline {
            std::thread::park_timeout(PAUSE);
            is_done = step();
        }
        let finish: Finish = Box::new(move |_view, reply| {
            if !is_done {
                return Err(CommandError::of("ERR the work in the background has not ended yet: try again"));
            }
            reply.simple(done);
            Ok(Rest::Nothing)
        });
        finish
    });
    Ok(Stage::Offload(job))
}

fn collect(view: &View<'_>, args: Args<'_>, _reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let fields: Vec<Arc<VectorField>> = index(view, args)?.vectors.iter().flatten().cloned().collect();
    let module = view.module::<SearchModule>();
    let workers = module.workers.handle();
    let step = move || fields.iter().all(|field| field.collect(&workers));
    work(&module.options.env, "DONE", step)
}

fn workers(view: &View<'_>, args: Args<'_>, _reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    if !args.is(2, "DRAIN") {
        return Err(CommandError::of("ERR WORKERS has no action but DRAIN in this server"));
    }
    let module = view.module::<SearchModule>();
    let indexes: Vec<Arc<Index>> = module.indexes().map(|(_, index)| index.clone()).collect();
    let workers = module.workers.handle();
    let step = move || {
        let mut fields = indexes.iter().flat_map(|index| index.vectors.iter().flatten());
        fields.all(|field| field.drain_all(&workers))
    };
    work(&module.options.env, "OK", step)
}
