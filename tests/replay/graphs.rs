//! Graphs of real vectors.
