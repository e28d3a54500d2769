//! What tests of commands share: an engine on a log in memory under a clock that stands still, its dump, replies as a
//! client reads them, and effects as text.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod dump;
pub mod effects;
pub mod instance;
pub mod served;
pub mod tcp;
pub mod wire;
pub mod words;
