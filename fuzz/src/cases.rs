//! Users' own cases: a file of tests, planned and held against what it expects.

use std::collections::BTreeMap;

use keywheel::document::{SourceFile, TestSource, test_file};
use keywheel::model::{Address, RecordedKey};
use keywheel::plan::{Situation, mismatches};
use keywheel::provider::capabilities;
use keywheel::render::findings;

/// A case that is read can be planned, and compared.
pub fn run(input: &[u8]) -> bool {
    let file = SourceFile { path: "tests/all.test.yaml".into(), content: input.into(), symlink: false };
    let read = test_file(&file);
    let _ = findings::draw(&read.findings, false, 80);
    let source = TestSource { config: None, config_path: "keywheel.yaml", files: &[] };
    for given in &read.tests {
        for (index, case) in given.test.cases.iter().enumerate().take(4) {
            let place = given.place(index);
            assert!(place.line >= 1 && place.column >= 1, "{place:?}");
            let loaded = given.given(source, capabilities, case.now);
            let before = given.applied_before(source, capabilities, case.now);
            let shared = given.test.recorded.iter().flat_map(|recorded| &recorded.keys);
            let keys: BTreeMap<Address, &RecordedKey> =
                shared.chain(&case.keys).map(|key| (key.key.clone(), key)).collect();
            let applied = before.as_ref().or(Some(&loaded));
            let situation = Situation { given: &loaded, applied, keys: &keys, capabilities, now: case.now };
            let _ = situation.unknown_keys();
            let _ = mismatches(&case.expect, &situation.plan());
        }
    }
    !read.tests.is_empty()
}
