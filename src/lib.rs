//! keywheel keeps encryption keys rotated the way Terraform keeps infrastructure in shape.
//!
//! # The bird's-eye view
//!
//! ```text
//! git ----------> source -> document --+
//! state database -> store -------------+--> plan --> apply: journal, call, journal, one step at a time
//! key managers ---> provider ----------+
//! ```
//!
//! *Desired* is what git says, *recorded* what the state database says, *observed* what the key managers say. A plan is
//! data: the ordered list of changes that make recorded and observed equal desired, each with a reason. Apply carries a
//! plan out and makes no choices. A rotation is a durable workflow of four steps; its state machine is one file,
//! [`rotation`].
//!
//! # Invariants, stated as absences
//!
//! - The pure core (down to [`rotation`]) knows no clock, no randomness, no I/O, no async and no logging: `now` is an
//!   argument.
//! - The edges ([`source`], [`store`], [`provider`], [`notify`]) never import each other.
//! - The engine prints nothing; a surface decides nothing.
//! - What only reads cannot write: a plan gets [`store::ReadState`] and [`provider::Observe`], which have no writing
//!   methods.
//! - No effect without a durable intent: [`provider::KeyManager`] is called behind the journal.
//! - A secret has no way out: [`model::Secret`] shows its reference or nothing, by every trait that could show it.
//!
//! An import may only point down: `cli -> render -> engine -> source, store, provider, notify -> plan, rotation -> document ->
//! guardrail -> schedule, signature -> diagnostic, model`. A test reads the `use` lines and fails on any other arrow.
//!
//! Modules follow in reading order.

// -- pure core: no I/O, no async, no clock, no randomness, no logging
pub mod model;

pub mod diagnostic;

pub mod schedule;

pub mod guardrail;

pub mod signature;

pub mod document;

pub mod plan;

pub mod rotation;

// -- edges: each knows one outside thing, and they never import each other
pub mod source;

pub mod store;

pub mod provider;

pub mod notify;

// -- engine: joins core and edges, owns time
pub mod engine;

// -- surfaces: all text in and out
pub mod render;

pub mod cli;

#[cfg(test)]
#[path = "../tests/it/support/confined.rs"]
mod confined;
