//! What the tests run keywheel against.

pub mod canary;
pub mod confined;
pub mod cut;
pub mod hostile;
pub mod kms;
pub mod localstack;
pub mod moto;
pub mod pgbouncer;
pub mod postgres;
pub mod python;
pub mod rerun;
pub mod sandbox;
