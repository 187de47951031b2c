//! The repository's own rules: module boundaries, names, fixtures, dependencies.

mod boundaries;
mod fixtures;
mod names;
mod size;
