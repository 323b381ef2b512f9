//! keywheel keeps encryption keys rotated the way Terraform keeps infrastructure in shape.

// -- pure core: no I/O, no async, no clock, no randomness, no logging
pub mod model;
pub mod diagnostic;
pub mod schedule;
pub mod document;
pub mod plan;
pub mod rotation;
// -- edges: each knows one outside thing, and they never import each other
pub mod source;
pub mod store;
pub mod provider;
// -- engine: joins core and edges, owns time
pub mod engine;
// -- surfaces: all text in and out
pub mod render;
pub mod cli;
