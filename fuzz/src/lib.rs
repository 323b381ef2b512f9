//! What no input may do to keywheel: one function for each kind of input.
//!
//! libFuzzer calls them with inputs that it makes up (`targets/`), and keywheel's own tests with every file of `corpus/`
//! (`tests/it/fuzz_corpus.rs` takes in this very folder). A function that comes back has found nothing; whatever panics,
//! hangs or needs too much memory is a bug. What it gives says whether the input was taken for what it was meant to be, so
//! that a corpus shows when it has gone stale.
//!
//! `cargo +nightly fuzz run documents` (from `cargo install --locked cargo-fuzz`) goes on from the corpus of a target; what
//! it finds becomes a file of the corpus, named for what was wrong.
//!
//! Inputs of several parts are text, so that a corpus can be read: a part begins with a line `=== TITLE`.

pub mod cases;
pub mod documents;
pub mod keystore;
pub mod locations;
pub mod provider_answers;
pub mod rules;
pub mod saved_plan;
pub mod signatures;

/// A name, which is also that of the corpus, and its function.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// What is fuzzed.
pub const TARGETS: [Target; 8] = [
    ("documents", documents::run),
    ("saved_plan", saved_plan::run),
    ("provider_answers", provider_answers::run),
    ("keystore", keystore::run),
    ("locations", locations::run),
    ("signatures", signatures::run),
    ("rules", rules::run),
    ("cases", cases::run),
];

/// The parts of an input, with their titles. What stands before the first title has an empty one.
fn parts(input: &[u8]) -> Vec<(&str, &[u8])> {
    const MARK: &[u8] = b"=== ";
    let mut parts: Vec<(&str, &[u8])> = Vec::new();
    let (mut title, mut start, mut at) = ("", 0, 0);
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        let next = at + line.len();
        if let Some(text) = line.strip_prefix(MARK).and_then(|text| std::str::from_utf8(text).ok()) {
            if at > 0 {
                parts.push((title, &input[start..at]));
            }
            (title, start) = (text.trim_end_matches('\n'), next);
        }
        at = next;
    }
    parts.push((title, &input[start..]));
    parts
}
