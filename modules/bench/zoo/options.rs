//! Command line words for values of other crates.

use clap::ValueEnum;
use engramdb_datasets::Workload;
use engramdb_vector::{Element, Quantization};
use serde::Serialize;

/// Element types, as FT.CREATE names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub enum ZooElement {
    Float32,
    Float64,
    Float16,
    Bfloat16,
    /// Values are scaled to integers unless they are integers in range
    Int8,
    /// The same, from zero
    Uint8,
}

impl ZooElement {
    pub fn generated(self) -> engramdb_datasets::DataElement {
        match self {
            ZooElement::Float32 => engramdb_datasets::DataElement::F32,
            ZooElement::Float64 => engramdb_datasets::DataElement::F64,
            ZooElement::Float16 => engramdb_datasets::DataElement::F16,
            ZooElement::Bfloat16 => engramdb_datasets::DataElement::Bf16,
            ZooElement::Int8 => engramdb_datasets::DataElement::I8,
            ZooElement::Uint8 => engramdb_datasets::DataElement::U8,
        }
    }

    pub fn library(self) -> Element {
        match self {
            ZooElement::Float32 => Element::F32,
            ZooElement::Float64 => Element::F64,
            ZooElement::Float16 => Element::F16,
            ZooElement::Bfloat16 => Element::Bf16,
            ZooElement::Int8 => Element::I8,
            ZooElement::Uint8 => Element::U8,
        }
    }
}

/// The codes that guide walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ZooQuantization {
    /// The index's own choice
    Default,
    None,
    Sq8,
    Sq4,
    Binary,
}

impl ZooQuantization {
    /// `default` is the index's own choice.
    pub fn library(self, default: Quantization) -> Quantization {
        match self {
            ZooQuantization::Default => default,
            ZooQuantization::None => Quantization::None,
            ZooQuantization::Sq8 => Quantization::Bits8,
            ZooQuantization::Sq4 => Quantization::Bits4,
            ZooQuantization::Binary => Quantization::Bits1,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            ZooQuantization::Default => "default",
            ZooQuantization::None => "NONE",
            ZooQuantization::Sq8 => "SQ8",
            ZooQuantization::Sq4 => "SQ4",
            ZooQuantization::Binary => "BINARY",
        }
    }
}

/// The changes to the rows before the index is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ZooWorkload {
    /// Each row is inserted once, in order
    Insert,
    /// Then all but 5 percent are removed
    DeleteMost,
    /// Each id gets ten rows, one after another
    Replace,
    /// All are inserted, removed, and inserted again
    Reload,
    /// All are inserted; the index is saved and loaded
    Restart,
}

impl ZooWorkload {
    pub fn generated(self) -> Workload {
        match self {
            ZooWorkload::Insert => Workload::Insert,
            ZooWorkload::DeleteMost => Workload::DeleteMost,
            ZooWorkload::Replace => Workload::Replace,
            ZooWorkload::Reload => Workload::Reload,
            ZooWorkload::Restart => Workload::Restart,
        }
    }
}

/// The source of the queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    /// Vectors that are not rows (data sets without such queries use rows)
    HeldOut,
    /// Rows, evenly spread over the set
    Rows,
}
