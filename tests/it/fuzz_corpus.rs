//! Every input of `fuzz/corpus`, through the very functions that libFuzzer calls.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

#[test]
fn no_input_of_the_corpus_breaks_what_it_is_given_to() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut broken = Vec::new();
    for (target, run) in fuzz::TARGETS {
        let inputs: Vec<_> = fs::read_dir(corpus.join(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!inputs.is_empty(), "{target} has no corpus");
        let mut taken = 0;
        for path in inputs {
            let input = fs::read(&path).unwrap();
            match catch_unwind(|| run(&input)) {
                Ok(is_taken) => taken += usize::from(is_taken),
                Err(_) => broken.push(path),
            }
        }
        assert!(taken > 0, "{target}: no input is what it was meant to be any more");
    }
    assert!(broken.is_empty(), "see above for what each panicked with: {broken:#?}");
}
