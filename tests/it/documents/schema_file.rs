//! `schema/keywheel.v1.json` is what the types say.

use std::path::Path;

use keywheel::document;

#[test]
fn the_schema_in_the_repository_is_the_one_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/keywheel.v1.json");
    let generated = serde_json::to_string_pretty(&document::schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == generated,
        "schema/keywheel.v1.json is stale: run `keywheel schema --write schema/`, or this test with UPDATE=1"
    );
}

#[test]
fn the_schema_for_editors_picks_the_kind_by_its_name() {
    let validator = jsonschema::draft202012::new(&document::schema()).unwrap();
    let policy = serde_json::json!({
        "apiVersion": "keywheel/v1", "kind": "RotationPolicy",
        "tenant_id": "acme", "policy_name": "quarterly", "key_type": "system_data", "rotation_interval_days": 90
    });
    assert!(validator.is_valid(&policy));
    for (field, value) in
        [("kind", "EncryptionKey"), ("kind", "Nothing"), ("apiVersion", "keywheel/v2"), ("status", "on")]
    {
        let mut wrong = policy.clone();
        wrong[field] = value.into();
        assert!(!validator.is_valid(&wrong), "{field}: {value}");
    }
}
