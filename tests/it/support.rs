//! What the tests run keywheel against.

pub mod hostile;
pub mod kms;
pub mod localstack;
pub mod moto;
pub mod rerun;
pub mod sandbox;
