//! Pure rules and values against independent oracles, and the laws that hold for all of them.
#![allow(clippy::expect_used)]

mod gsm;
mod hours;
mod laws;
