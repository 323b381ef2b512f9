//! The policy repositories that stand in this one: its own, and the examples.

use std::path::{Path, PathBuf};

use keywheel::document::{self, Repository};
use keywheel::model::Severity;
use keywheel::provider::capabilities;
use keywheel::source::read_directory;

use crate::support::sandbox::Sandbox;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The documents of a policy repository, in which nothing is to be found worth more than a note.
fn documents(dir: &Path) -> Repository {
    let snapshot = read_directory(dir).unwrap();
    let loaded =
        document::load(snapshot.config.as_ref(), &snapshot.files, capabilities, keywheel::model::Timestamp::UNIX_EPOCH);
    let findings: Vec<_> = loaded.findings.iter().filter(|finding| finding.severity != Severity::Info).collect();
    assert!(findings.is_empty(), "{findings:#?}");
    loaded.repository
}

/// The YAML files of a policy repository.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.join("keywheel.yaml")];
    let mut folders = vec![dir.join("policies")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

#[test]
fn the_repositorys_own_policies_need_nothing_but_the_embedded_defaults() {
    let repository = documents(root());
    let keys: Vec<String> = repository.keys.keys().map(ToString::to_string).collect();
    assert_eq!(
        keys,
        [
            "acme-payments/card-numbers",
            "acme-payments/settlement-files",
            "healthcare-org-123/patient-data-encryption-key"
        ]
    );
    assert!(repository.keys.values().all(|key| key.value.kms_provider == keywheel::model::KmsProvider::Local));
    assert!(repository.policies.contains_key(&"healthcare-org-123/Daily PHI Key Rotation".parse().unwrap()));
    assert_eq!((repository.guardrails.len(), repository.freezes.len()), (1, 1));
}

#[test]
fn the_example_for_aws_adopts_a_key_by_its_alias() {
    let repository = documents(&root().join("examples/aws"));
    let key = &repository.keys[&"healthcare-org-123/patient-data-encryption-key".parse().unwrap()].value;
    assert_eq!(key.kms_key_id.as_deref(), Some("alias/patient-data"));
    assert_eq!(key.kms_alias, key.kms_key_id);
}

#[test]
fn every_document_tells_editors_where_its_schema_is() {
    for dir in [root().to_owned(), root().join("examples/aws")] {
        for file in files(&dir) {
            let text = std::fs::read_to_string(&file).unwrap();
            let schema = text.lines().next().unwrap().strip_prefix("# yaml-language-server: $schema=");
            let schema = file.parent().unwrap().join(schema.unwrap_or_else(|| panic!("{}", file.display())));
            assert!(schema.canonicalize().is_ok_and(|path| path.ends_with("schema/keywheel.v1.json")), "{file:?}");
        }
    }
}

#[test]
fn the_iam_policy_of_the_example_names_only_what_the_readme_explains() {
    let folder = root().join("examples/aws");
    let policy: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("iam-policy.json")).unwrap()).unwrap();
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    for statement in policy["Statement"].as_array().unwrap() {
        let actions = match &statement["Action"] {
            serde_json::Value::Array(actions) => actions.clone(),
            one => vec![one.clone()],
        };
        for action in actions {
            assert!(readme.contains(&format!("`{}`", action.as_str().unwrap())), "{action}");
        }
    }
}

/// The YAML of the README, block by block.
fn blocks_of_the_readme() -> Vec<String> {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    readme.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// This repository's own documents, and the README's that begin like this.
fn with_the_readmes() -> (Sandbox, impl Fn(&str) -> String) {
    let sandbox = Sandbox::new("");
    for path in files(root()) {
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        sandbox.write(&name, &std::fs::read_to_string(&path).unwrap());
    }
    let blocks = blocks_of_the_readme();
    let find = move |part: &str| {
        let found: Vec<&String> = blocks.iter().filter(|block| block.contains(part)).collect();
        assert_eq!(found.len(), 1, "{part}: {found:#?}");
        found[0].clone()
    };
    (sandbox, find)
}

const TODAY: &str = "2026-11-30 12:00:00";

#[test]
fn the_documents_of_the_readme_are_valid_and_mean_what_it_says() {
    let (sandbox, block) = with_the_readmes();
    sandbox.write("policies/healthcare-org-123/phi.yaml", &block("alias/patient-data #"));
    let guardrails = format!("{}---\n{}", sandbox.read("policies/guardrails.yaml"), block("name: Half a year"));
    sandbox.write("policies/guardrails.yaml", &guardrails);
    sandbox.write("tests/card.test.yaml", &block("kind: Test"));
    let config = sandbox.read("keywheel.yaml") + &block("approvals: {required: 2");
    sandbox.write("keywheel.yaml", &config);
    sandbox.write(
        "keywheel.yaml",
        &config.replace("state: sqlite:.keywheel/state.db\n", &block("state: ${KEYWHEEL_STATE}")),
    );
    sandbox.at(TODAY, &["validate"]).exits(0);
    sandbox.at(TODAY, &["test"]).exits(0).says("1 case passed");
    let cards = |days: u32, more: &str| {
        let policy = "apiVersion: keywheel/v1\nkind: RotationPolicy\ntenant_id: acme-payments\npolicy_name: Cards\nkey_type: pci_data\n";
        sandbox.write("policies/acme-payments/more.yaml", &format!("{policy}rotation_interval_days: {days}\n{more}"));
        let run = sandbox.at(TODAY, &["validate"]).ends();
        (run.status, format!("{}{}", run.stdout, run.stderr))
    };
    assert_eq!(cards(180, "").0, Some(0));
    let (status, broken) = cards(181, "");
    assert_eq!(status, Some(1), "{broken}");
    for said in ["guardrail/half-a-year", "keys of card data rotate twice a year: rotation_interval_days is 181"] {
        assert!(broken.contains(said), "no {said}: {broken}");
    }
    let (status, waived) = cards(181, &block("waivers:"));
    assert_eq!(status, Some(0), "{waived}");
    assert!(
        waived.contains("which is waived until 2027-03-31 by Ada Lovelace: migration of the old tokens"),
        "{waived}"
    );
}
