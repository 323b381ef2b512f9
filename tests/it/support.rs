//! What the tests run keywheel against.

pub mod hostile;
pub mod moto;
pub mod rerun;
