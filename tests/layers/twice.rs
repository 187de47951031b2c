//! No message twice.
