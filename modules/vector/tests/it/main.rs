//! The crate's public interface, as the search module uses it: one file per kind of guarantee.

mod churn;
mod data;
mod effort;
mod exactness;
mod filters;
mod recall;
mod saved;
mod stress;
mod zoo;
