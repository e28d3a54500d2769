//! The crate from outside, as the search module uses it: one file per kind of promise.

mod churn;
mod data;
mod effort;
mod exactness;
mod filters;
mod recall;
mod saved;
mod stress;
mod zoo;
