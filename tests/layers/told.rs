//! What is told of a send: masked, and one event for each attempt and for the end.
