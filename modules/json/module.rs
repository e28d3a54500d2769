//! What the engine calls: the module, which has no state.

use crate::document::JsonType;
use crate::effect::NUMBER;
use engramdb_engine::REDIS_VERSION_NUMBER;
use engramdb_engine::keyspace::DataType;
use engramdb_engine::module::Module;

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
}
