//! Tests of the whole: of the binary as a user runs it, of real servers, and of the source tree itself.

// One binary for all of them links once. `cfg(test)` lets helpers beside the tests unwrap, too.
#[cfg(test)]
mod architecture;
#[cfg(test)]
mod aws_kms;
#[cfg(test)]
mod ci;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod e2e;
#[cfg(test)]
mod engine;
#[cfg(test)]
mod exhaustive;
#[cfg(test)]
mod fuzz_corpus;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod local_provider;
#[cfg(test)]
mod notify;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod renderers;
#[cfg(test)]
mod repositories;
#[cfg(test)]
mod schedule;
#[cfg(test)]
mod support;
