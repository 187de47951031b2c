//! The right order, and three wrong ones: what docs/layers.md says of each.
