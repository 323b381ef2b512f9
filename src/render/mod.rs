//! render

pub mod findings;
