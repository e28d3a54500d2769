//! The whole: commands, the server with its modules in this process, and the real binary.

mod backup;
mod bad_input;
mod bench;
mod command_coverage;
mod command_page;
mod commands;
mod following;
mod fuzz;
mod json;
mod json_model;
mod models;
mod objects;
mod program;
mod properties;
mod recorded;
mod replay;
mod scripts;
mod search;
#[allow(dead_code, reason = "`limits` uses the rest")]
mod served;
mod snapshots;
mod waiting;
