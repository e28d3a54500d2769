//! VECSIM_INFO: a vector field's numbers, under RediSearch's names.
//!
//! A graph has the shape of RediSearch's tiered index: FRONTEND_INDEX is the tail of mutations that the graph
//! does not have yet, BACKEND_INDEX the graph. What describes parts that this server does not have (blocks of
//! vectors, jobs that swap deleted nodes) has RediSearch's value for the same definition.

use super::{index, vector_field};
use crate::module::SearchModule;
use crate::number::format_number;
use crate::schema::{Algorithm, VectorOptions, element_name, metric_name};
use crate::vectors::facts::{SearchMode, VectorFacts};
use engramdb_engine::command::{Args, CommandError, Reply, Stage};
use engramdb_engine::store::view::View;

/// The vectors of a block, and the deleted nodes that start a repair, where nothing else is said.
const BLOCK_VECTORS: u64 = 1024;
const SWAP_JOBS: i64 = 1024;

pub fn tell(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let index = index(view, args)?;
    let field = vector_field(index, args[3])?;
    let vectors = index.vectors[field].as_ref().expect("a vector field");
    let definition = &index.definition;
    let module = view.module::<SearchModule>();
    let options = vectors.options();
    let most = module.block_bytes_max(view) / options.element_bytes_estimated();
    let subject = Subject {
        options,
        facts: &vectors.facts(),
        rows: index.documents.read().row_count(field),
        is_multi: !definition.documents.leads_to_one(&definition.fields[field].identifier),
        block_vectors: BLOCK_VECTORS.min(most),
        total_bytes: vectors.memory_bytes(),
        management_bytes: size_of_val(&**vectors),
    };
    match options.algorithm {
        Algorithm::Flat => subject.flat(reply),
        Algorithm::Hnsw | Algorithm::Svs => subject.tiered(reply),
    }
    Ok(Stage::Done)
}

struct Subject<'a> {
    options: &'a VectorOptions,
    facts: &'a VectorFacts,
    /// Vectors after the first ones of their documents.
    rows: usize,
    is_multi: bool,
    block_vectors: u64,
    total_bytes: usize,
    management_bytes: usize,
}

impl Subject<'_> {
    /// The pairs that each part has, and `more`.
    fn part(&self, reply: &mut dyn Reply, algorithm: &str, numbers: Numbers, more: usize) {
        let VectorOptions { element, dimension, metric, .. } = *self.options;
        reply.array(2 * (9 + more));
        text(reply, "ALGORITHM", algorithm);
        text(reply, "TYPE", element_name(element));
        number(reply, "DIMENSION", i64::from(dimension));
        text(reply, "METRIC", metric_name(metric));
        number(reply, "IS_MULTI_VALUE", i64::from(self.is_multi));
        number(reply, "INDEX_SIZE", numbers.vectors as i64);
        number(reply, "INDEX_LABEL_COUNT", numbers.documents as i64);
        number(reply, "MEMORY", numbers.bytes as i64);
        text(reply, "LAST_SEARCH_MODE", numbers.mode.name());
    }

    fn all(&self) -> Numbers {
        let VectorFacts { live, mode, .. } = *self.facts;
        Numbers { vectors: live, documents: live.saturating_sub(self.rows), bytes: self.total_bytes, mode }
    }

    fn flat(&self, reply: &mut dyn Reply) {
        self.part(reply, "FLAT", self.all(), 1);
        number(reply, "BLOCK_SIZE", self.block_vectors as i64);
    }

    fn tiered(&self, reply: &mut dyn Reply) {
        let facts = self.facts;
        self.part(reply, "TIERED", self.all(), 6);
        number(reply, "MANAGEMENT_LAYER_MEMORY", self.management_bytes as i64);
        number(reply, "BACKGROUND_INDEXING", i64::from(facts.buffered_bytes > 0));
        number(reply, "TIERED_BUFFER_LIMIT", facts.tail_max as i64);
        reply.bulk(b"FRONTEND_INDEX");
        let buffered = Numbers {
            vectors: facts.buffered,
            documents: facts.buffered,
            bytes: facts.buffered_bytes,
            mode: SearchMode::None,
        };
        self.part(reply, "FLAT", buffered, 1);
        number(reply, "BLOCK_SIZE", self.block_vectors as i64);
        reply.bulk(b"BACKEND_INDEX");
        self.graph(reply);
        number(reply, "TIERED_HNSW_SWAP_JOBS_THRESHOLD", SWAP_JOBS);
    }

    fn graph(&self, reply: &mut dyn Reply) {
        let facts = self.facts;
        let live = facts.index.live;
        let numbers = Numbers {
            vectors: live,
            documents: live.saturating_sub(self.rows),
            bytes: facts.index_bytes,
            mode: facts.mode,
        };
        let options = self.options;
        self.part(reply, "HNSW", numbers, 8);
        number(reply, "BLOCK_SIZE", self.block_vectors as i64);
        number(reply, "M", i64::from(options.m));
        number(reply, "EF_CONSTRUCTION", i64::from(options.ef_construction));
        number(reply, "EF_RUNTIME", i64::from(options.ef_runtime));
        let top = facts.index.entry.map_or(-1, |_| facts.index.top_layer as i64);
        number(reply, "MAX_LEVEL", top);
        number(reply, "ENTRYPOINT", facts.index.entry.map_or(-1, i64::from));
        reply.bulk(b"EPSILON");
        if reply.is_resp3() {
            reply.double(options.epsilon);
        } else {
            reply.bulk(format_number(options.epsilon).as_bytes());
        }
        number(reply, "NUMBER_OF_MARKED_DELETED", facts.deleted as i64);
    }
}

#[derive(Clone, Copy)]
struct Numbers {
    vectors: usize,
    documents: usize,
    bytes: usize,
    mode: SearchMode,
}

fn text(reply: &mut dyn Reply, name: &str, value: &str) {
    reply.bulk(name.as_bytes());
    reply.bulk(value.as_bytes());
}

fn number(reply: &mut dyn Reply, name: &str, value: i64) {
    reply.bulk(name.as_bytes());
    reply.integer(value);
}
