//! keywheel keeps encryption keys rotated the way Terraform keeps infrastructure in shape.

// -- pure core: no I/O, no async, no clock, no randomness, no logging
pub mod diagnostic;
pub mod document;
pub mod model;
pub mod plan;
pub mod rotation;
pub mod schedule;
// -- edges: each knows one outside thing, and they never import each other
pub mod provider;
pub mod source;
pub mod store;
// -- engine: joins core and edges, owns time
pub mod engine;
// -- surfaces: all text in and out
pub mod cli;
pub mod render;
