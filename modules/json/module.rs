//! What the engine calls: the module, which has no state.

use crate::document::JsonType;
use crate::effect::NUMBER;
use engramdb_engine::REDIS_VERSION_NUMBER;
use engramdb_engine::effect::Record;
use engramdb_engine::gate::OpenBatch;
use engramdb_engine::keyspace::{DataType, Housing};
use engramdb_engine::module::{Applied, Module, ModuleEffect};

/// The module, for serving and offline alike.
pub struct JsonModule;

impl Module for JsonModule {
    /// The name by which clients look for it in MODULE LIST.
    fn name(&self) -> &'static str {
        "ReJSON"
    }

    fn number(&self) -> u8 {
        NUMBER
    }

    fn list_version(&self) -> u32 {
        REDIS_VERSION_NUMBER
    }

    fn data_type(&self) -> Option<&'static dyn DataType> {
        Some(&JsonType)
    }

    fn apply(
        &mut self,
        _: &mut Housing<'_>,
        effect: &ModuleEffect<'_>,
        _: &mut OpenBatch<'_>,
    ) -> Result<(), String> {
        Err(format!("an effect of kind {} without a key is newer than this program", effect.kind))
    }

    fn observe(&mut self, _: &mut Housing<'_>, _: &Applied<'_>, _: &mut OpenBatch<'_>) {}

    fn save(&self, _: &mut dyn FnMut(&Record<'_>)) {}

    fn recovered(&mut self, _: &mut Housing<'_>) -> Vec<String> {
        Vec::new()
    }
}
