//! What the engine calls: the module, whose ground state is the libraries of functions.

use crate::engine::ScriptEngine;
use crate::libraries::{KIND_DELETE, KIND_FLUSH, KIND_LOAD, Libraries, Library, NUMBER, VERSION};
use engramdb_engine::effect::{Effect, Record};
use engramdb_engine::gate::{Hazard, OpenBatch};
use engramdb_engine::keyspace::Housing;
use engramdb_engine::module::{Module, ModuleEffect};
use std::sync::Arc;

/// The module, for serving and offline alike: interpreters are made when a script runs.
#[derive(Default)]
pub struct ScriptModule {
    pub libraries: Libraries,
    pub engine: Arc<ScriptEngine>,
    /// The last change of the libraries.
    pub hazard: Arc<Hazard>,
}

/// The effects of this module.
pub fn load(payload: &[u8]) -> Effect<'_> {
    effect(KIND_LOAD, payload)
}

pub fn delete(name: &[u8]) -> Effect<'_> {
    effect(KIND_DELETE, name)
}

pub fn flush() -> Effect<'static> {
    effect(KIND_FLUSH, b"")
}

fn effect(kind: u8, payload: &[u8]) -> Effect<'_> {
    Effect::Module { module: NUMBER, version: VERSION, kind, key: None, payload }
}

impl Module for ScriptModule {
    fn name(&self) -> &'static str {
        "script"
    }

    fn number(&self) -> u8 {
        NUMBER
    }

    fn list_version(&self) -> u32 {
        0
    }

    fn apply(
        &mut self,
        _keyspace: &mut Housing<'_>,
        effect: &ModuleEffect<'_>,
        batch: &mut OpenBatch<'_>,
    ) -> Result<(), String> {
        if effect.version > VERSION {
            return Err(format!("libraries of version {} are newer than this program", effect.version));
        }
        batch.mark(&self.hazard);
        self.libraries.apply(effect.kind, effect.payload)
    }

    fn save(&self, each: &mut dyn FnMut(&Record<'_>)) {
        for library in self.libraries.iter() {
            each(&Record { database: 0, effect: load(&Library::encode(library)) });
        }
    }

    fn defining_commands(&self) -> Vec<(u32, Vec<Vec<u8>>)> {
        let load = |library: &Library| {
            let words = [&b"FUNCTION"[..], b"LOAD", b"REPLACE", &library.code];
            (0, words.map(<[u8]>::to_vec).to_vec())
        };
        self.libraries.iter().map(|library| load(library)).collect()
    }

    fn info_fields(&self) -> Vec<(&'static str, &'static str, u64)> {
        let usage = self.engine.usage();
        let (eval, functions) = (usage.eval_bytes as u64, usage.function_bytes as u64);
        let (scripts, libraries) = (usage.scripts_bytes as u64, self.libraries.heap_bytes() as u64);
        let memory = [
            ("used_memory_vm_eval", eval),
            ("used_memory_scripts_eval", scripts),
            ("number_of_cached_scripts", usage.scripts as u64),
            ("number_of_functions", self.libraries.functions_len() as u64),
            ("number_of_libraries", self.libraries.len() as u64),
            ("used_memory_vm_functions", functions),
            ("used_memory_vm_total", eval + functions),
            ("used_memory_functions", libraries),
            ("used_memory_scripts", scripts + libraries),
        ];
        let memory = memory.into_iter().map(|(name, value)| ("memory", name, value));
        memory.chain([("stats", "evicted_scripts", usage.evicted)]).collect()
    }

    fn memory_bytes(&self) -> usize {
        self.libraries.heap_bytes() + self.engine.memory_bytes()
    }
}
