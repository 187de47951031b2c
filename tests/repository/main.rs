//! The repository's own rules: module boundaries, fixtures, dependencies.

mod boundaries;
mod fixtures;
mod size;
