//! The JSON schema of the documents, generated from the Rust types: one schema for editors and for validation.
//!
//! Every `$ref` to a small type is written out and every "or null" folded into its type, so that an error of the
//! validator names the field and not a branch of an `anyOf`.

use std::sync::LazyLock;

use chrono::NaiveDateTime;
use jsonschema::Validator;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::config::Config;
use super::kind::Kind;
use crate::model::{API_VERSION, EncryptionKey, Freeze, Guardrail, RotationPolicy, Tenant, Test};

/// The schema of one kind, and its compiled form.
pub(super) struct Compiled {
    pub schema: Value,
    pub validator: Option<Validator>,
}

/// The schema that documents of `kind` are held against.
pub(super) fn of(kind: Kind) -> &'static Compiled {
    static COMPILED: [LazyLock<Compiled>; 7] = [
        LazyLock::new(|| compile(Kind::Config)),
        LazyLock::new(|| compile(Kind::Guardrail)),
        LazyLock::new(|| compile(Kind::Freeze)),
        LazyLock::new(|| compile(Kind::Tenant)),
        LazyLock::new(|| compile(Kind::RotationPolicy)),
        LazyLock::new(|| compile(Kind::EncryptionKey)),
        LazyLock::new(|| compile(Kind::Test)),
    ];
    match kind {
        Kind::Config => &COMPILED[0],
        Kind::Guardrail => &COMPILED[1],
        Kind::Freeze => &COMPILED[2],
        Kind::Tenant => &COMPILED[3],
        Kind::RotationPolicy => &COMPILED[4],
        Kind::EncryptionKey => &COMPILED[5],
        Kind::Test => &COMPILED[6],
    }
}

fn compile(kind: Kind) -> Compiled {
    let schema = kind_schema(kind);
    let validator = jsonschema::draft202012::options()
        .should_validate_formats(true)
        .with_format(LOCAL_TIME, is_local_time)
        .build(&schema)
        .ok();
    Compiled { schema, validator }
}

/// The schema of every document, as it stands in `schema/keywheel.v1.json`. The root picks the kind by `kind`.
#[must_use]
pub fn schema() -> Value {
    let kinds = Kind::ALL.map(Kind::as_str);
    let branches: Vec<Value> = Kind::ALL
        .into_iter()
        .map(|kind| {
            json!({
                "if": { "properties": { "kind": { "const": kind.as_str() } }, "required": ["kind"] },
                "then": { "$ref": format!("#/$defs/{}", kind.as_str()) }
            })
        })
        .collect();
    let mut definitions: Map<String, Value> =
        Kind::ALL.into_iter().map(|kind| (kind.as_str().to_owned(), kind_schema(kind))).collect();
    // A document that stands in a test is one like any other, and is held against its own kind when the test is read.
    for holder in ["given", "recorded"] {
        let path = format!("/properties/{holder}/properties/documents");
        if let Some(documents) = definitions.get_mut(Kind::Test.as_str()).and_then(|test| test.pointer_mut(&path)) {
            documents["items"] = json!({ "$ref": "#" });
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "keywheel document",
        "description": "A document of a keywheel policy repository. A secret never stands in a document: \
            `${NAME}`, as the whole value of a field declared secret, is read from the environment where it is used.",
        "type": "object",
        "required": ["apiVersion", "kind"],
        "properties": {
            "apiVersion": api_version(),
            "kind": {
                "title": "Kind",
                "description": "What the document is.",
                "type": "string",
                "enum": kinds,
                "examples": ["RotationPolicy"]
            }
        },
        "allOf": branches,
        "$defs": definitions
    })
}

fn api_version() -> Value {
    json!({
        "title": "API version",
        "description": "The version of the document's form.",
        "type": "string",
        "const": API_VERSION,
        "examples": [API_VERSION]
    })
}

/// The schema of one kind, with `apiVersion` and `kind`.
fn kind_schema(kind: Kind) -> Value {
    let mut schema = match kind {
        Kind::Config => generate::<Config>(),
        Kind::Guardrail => generate::<Guardrail>(),
        Kind::Freeze => with_local_times(generate::<Freeze>()),
        Kind::Tenant => generate::<Tenant>(),
        Kind::RotationPolicy => generate::<RotationPolicy>(),
        Kind::EncryptionKey => generate::<EncryptionKey>(),
        Kind::Test => generate::<Test>(),
    };
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("apiVersion".to_owned(), api_version());
        properties.insert(
            "kind".to_owned(),
            json!({
                "title": "Kind",
                "description": "What the document is.",
                "type": "string",
                "const": kind.as_str(),
                "examples": [kind.as_str()]
            }),
        );
    }
    if let Some(schema) = schema.as_object_mut() {
        let required = schema.entry("required").or_insert_with(|| json!([]));
        if let Some(required) = required.as_array_mut() {
            required.splice(0..0, [json!("apiVersion"), json!("kind")]);
        }
    }
    schema
}

/// `from` and `until` of a freeze are local times, for which JSON schema has no format of its own.
fn with_local_times(mut schema: Value) -> Value {
    for field in ["from", "until"] {
        if let Some(field) = schema.get_mut("properties").and_then(|properties| properties.get_mut(field)) {
            field["format"] = json!(LOCAL_TIME);
        }
    }
    schema
}

/// The name of the format `YYYY-MM-DDTHH:MM:SS`.
pub(super) const LOCAL_TIME: &str = "local-date-time";

fn is_local_time(text: &str) -> bool {
    NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S").is_ok()
}

fn generate<T: JsonSchema>() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value();
    let definitions = schema.as_object_mut().and_then(|schema| {
        schema.remove("$schema");
        schema.remove("$defs")
    });
    let definitions = definitions.unwrap_or_default();
    simplify(&mut schema, &definitions);
    complete(&mut schema, false);
    schema
}

/// Writes out references, folds `anyOf [X, null]` into X, and `oneOf` of constants into `enum`.
fn simplify(schema: &mut Value, definitions: &Value) {
    let Some(object) = schema.as_object_mut() else { return };
    if let Some(Value::String(target)) = object.remove("$ref") {
        let name = target.rsplit('/').next().unwrap_or_default();
        inherit(object, definitions.get(name));
    }
    if let Some(Value::Array(mut branches)) = object.remove("anyOf") {
        let nullable = branches.iter().any(|branch| branch.get("type") == Some(&json!("null")));
        branches.retain(|branch| branch.get("type") != Some(&json!("null")));
        let mut branch = branches.pop().unwrap_or_default();
        simplify(&mut branch, definitions);
        inherit(object, Some(&branch));
        if nullable {
            allow_null(object);
        }
    }
    fold_constants(object);
    for key in ["properties", "patternProperties"] {
        if let Some(Value::Object(properties)) = object.get_mut(key) {
            properties.values_mut().for_each(|property| simplify(property, definitions));
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(key) {
            simplify(inner, definitions);
        }
    }
    // Rust's names of number types mean nothing to readers of the schema.
    if object.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
        object.remove("format");
    }
    if let Some(Value::String(description)) = object.get_mut("description") {
        *description = description.replace('\n', " ");
    }
}

/// Takes over what `object` does not say itself.
fn inherit(object: &mut Map<String, Value>, from: Option<&Value>) {
    for (key, value) in from.and_then(Value::as_object).into_iter().flatten() {
        object.entry(key.clone()).or_insert_with(|| value.clone());
    }
}

fn allow_null(object: &mut Map<String, Value>) {
    if let Some(kind) = object.get_mut("type") {
        *kind = json!([kind.clone(), "null"]);
    }
    if let Some(Value::Array(options)) = object.get_mut("enum") {
        options.push(Value::Null);
    }
    if let Some(Value::Array(descriptions)) = object.get_mut("enumDescriptions") {
        descriptions.push(json!("As if the field were absent, and nothing were inherited."));
    }
}

/// `oneOf` of constants becomes `enum`, with the descriptions beside it (editors show `enumDescriptions`).
fn fold_constants(object: &mut Map<String, Value>) {
    let Some(Value::Array(branches)) = object.get("oneOf") else { return };
    let constants: Option<Vec<Value>> = branches.iter().map(|branch| branch.get("const").cloned()).collect();
    let descriptions: Vec<Value> =
        branches.iter().map(|branch| branch.get("description").cloned().unwrap_or_default()).collect();
    if let Some(constants) = constants {
        object.remove("oneOf");
        object.insert("type".to_owned(), json!("string"));
        object.insert("enum".to_owned(), Value::Array(constants));
        object.insert("enumDescriptions".to_owned(), Value::Array(descriptions));
    }
}

/// Gives every field what editors show and the types do not say: a title, the default, an example.
fn complete(schema: &mut Value, in_defaults: bool) {
    let required = schema.get("required").cloned().unwrap_or_default();
    let is_required = |name: &str| required.as_array().is_some_and(|names| names.iter().any(|it| it == name));
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, property) in properties {
            complete(property, in_defaults || name == "defaults");
            let examples = example(name, property);
            let default = default(property).filter(|_| !in_defaults && !is_required(name));
            let Some(property) = property.as_object_mut() else { continue };
            property.entry("title").or_insert_with(|| Value::String(title(name)));
            property.entry("examples").or_insert(examples);
            if let Some(default) = default {
                property.entry("default").or_insert(default);
            }
        }
    }
    for inner in ["items", "additionalProperties"] {
        schema.get_mut(inner).into_iter().for_each(|inner| complete(inner, in_defaults));
    }
    if let Some(Value::Object(patterns)) = schema.get_mut("patternProperties") {
        patterns.values_mut().for_each(|inner| complete(inner, in_defaults));
    }
}

/// `kms_key_id` as `KMS key id`.
fn title(name: &str) -> String {
    let words = name.split('_').enumerate().map(|(index, word)| match word {
        "kms" | "aws" | "arn" | "url" => word.to_uppercase(),
        "slack" => "Slack".to_owned(),
        _ if index == 0 => word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)).collect(),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The default of a field that may be left out, where the type does not state one.
fn default(property: &Value) -> Option<Value> {
    match property.get("type")? {
        Value::Array(_) => Some(Value::Null),
        Value::String(kind) => match kind.as_str() {
            "array" => Some(json!([])),
            "object" => Some(json!({})),
            "integer" => Some(json!(0)),
            "boolean" => Some(json!(false)),
            _ => None,
        },
        _ => None,
    }
}

/// Examples of a field: its words, its default, or those of the table.
fn example(name: &str, property: &Value) -> Value {
    if let Some(words) = property.get("enum").and_then(Value::as_array) {
        return words.iter().filter(|word| !word.is_null()).cloned().collect();
    }
    if property.get("type") == Some(&json!("boolean")) {
        return json!([true, false]);
    }
    let default = property.get("default").filter(|default| default.is_string() || default.is_number());
    match (name, default) {
        (_, Some(default)) => json!([default]),
        ("tenant_id", _) => json!(["healthcare-org-123"]),
        ("tenants", _) if property.get("type") == Some(&json!("array")) => json!([["healthcare-org-123"]]),
        ("tenants", _) => json!([{"healthcare-org-123": {"region": "eu-central-1"}}]),
        ("description", _) => json!(["Rotate PHI encryption keys daily at 2 AM UTC"]),
        ("previous_name", _) => json!(["Weekly PHI Key Rotation"]),
        ("max_usage_count", _) => json!([1_000_000]),
        ("usage_threshold_warning", _) => json!([900_000]),
        ("destroy_after_disabled_days" | "retain_old_keys_days", _) => json!([30]),
        ("data_max_age_days", _) => json!([2555]),
        ("rollback_period_hours", _) => json!([24]),
        ("rotation_spread_minutes", _) => json!([60]),
        ("rotation_events", _) => json!([[{"type": "aws.guardduty.finding"}]]),
        ("rotation_windows", _) => json!([[{"days": ["sat", "sun"], "start": "01:00:00", "end": "05:00:00"}]]),
        ("days", _) => json!([["sat", "sun"]]),
        ("source", _) => json!(["arn:aws:guardduty:us-east-1:123456789012:detector/12abc"]),
        ("notification_settings", _) => {
            json!([{"email": ["security@example.org"], "slack_webhook": "${SLACK_WEBHOOK_URL}"}])
        }
        ("compliance_tags", _) => json!([["HIPAA", "SOC2"]]),
        ("authorized_services", _) => json!([["patient-portal"]]),
        ("waivers", _) => json!([[waiver()]]),
        ("until" | "expires_at" | "valid_before", _) => json!(["2027-12-31"]),
        ("valid_after", _) => json!(["2026-01-01"]),
        ("rule", _) => json!(["hipaa/rotation-interval"]),
        ("reason", _) => json!(["The vendor's migration ends in June"]),
        ("approver", _) => json!(["alice@example.org"]),
        ("kms_key_id", _) => json!(["arn:aws:kms:us-east-1:123456789012:key/0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f9"]),
        ("rotation_policy", _) => json!(["Daily PHI Key Rotation"]),
        ("key_policy", _) => json!([{"Version": "2012-10-17", "Statement": []}]),
        ("tags", _) => json!([{"team": "payments"}]),
        ("owners", _) => json!([[{"principal": "alice@example.org", "signing_key": "ssh-ed25519 AAAA..."}]]),
        ("signing_key", _) => json!(["ssh-ed25519 AAAA..."]),
        ("defaults", _) => json!([{"rotation_interval_days": 90, "timezone": "Europe/Berlin"}]),
        ("name", _) => json!(["PHI keys rotate at least every 90 days"]),
        ("key_types", _) => json!([["phi_data"]]),
        ("message", _) => json!(["PHI keys must rotate at least every 90 days"]),
        ("help", _) => json!(["lower rotation_interval_days, or ask the security team for a waiver"]),
        ("endpoint_url", _) => json!(["http://127.0.0.1:4566"]),
        ("profile", _) => json!(["production"]),
        ("region", _) => json!(["us-east-1"]),
        ("role_arn", _) => json!(["arn:aws:iam::123456789012:role/keywheel"]),
        ("root_key_file", _) => json!([".keywheel/root.key"]),
        _ => property.get("default").map_or_else(|| json!([]), |default| json!([default])),
    }
}

fn waiver() -> Value {
    json!({
        "rule": "hipaa/rotation-interval",
        "until": "2027-06-30",
        "reason": "The vendor's migration ends in June",
        "approver": "alice@example.org"
    })
}

/// The part of a schema that holds for the value at `path`.
pub(super) fn at<'s>(schema: &'s Value, path: &[Step<'_>]) -> Option<&'s Value> {
    path.iter().try_fold(schema, |schema, step| match step {
        Step::Index(_) => schema.get("items"),
        Step::Field(name) | Step::Name(name) => schema
            .get("properties")
            .and_then(|properties| properties.get(name))
            .or_else(|| schema.get("patternProperties").and_then(Value::as_object)?.values().next())
            .or_else(|| schema.get("additionalProperties").filter(|inner| inner.is_object())),
    })
}

/// A step from a value to one inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step<'a> {
    Field(&'a str),
    /// A field whose name is meant, not its value.
    Name(&'a str),
    Index(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field of a schema, with its path.
    fn fields<'s>(schema: &'s Value, path: &str, visit: &mut impl FnMut(String, &'s Value, bool)) {
        let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let path = format!("{path}.{name}");
            visit(path.clone(), property, required.contains(&json!(name)));
            fields(property, &path, visit);
        }
        for inner in ["items", "additionalProperties"] {
            schema.get(inner).into_iter().for_each(|inner| fields(inner, path, visit));
        }
    }

    #[test]
    fn every_field_has_what_an_editor_shows() {
        for kind in Kind::ALL {
            fields(&of(kind).schema, kind.as_str(), &mut |path, field, required| {
                for key in ["title", "description"] {
                    assert!(
                        field.get(key).and_then(Value::as_str).is_some_and(|text| !text.is_empty()),
                        "{path} has no {key}"
                    );
                }
                let examples = field.get("examples").and_then(Value::as_array);
                assert!(examples.is_some_and(|examples| !examples.is_empty()), "{path} has no examples");
                assert!(
                    required || path.contains(".defaults.") || field.get("default").is_some(),
                    "{path} has no default"
                );
            });
        }
    }

    #[test]
    fn every_example_and_default_fits_its_own_field() {
        for kind in Kind::ALL {
            fields(&of(kind).schema, kind.as_str(), &mut |path, field, _| {
                let validator = jsonschema::draft202012::options()
                    .should_validate_formats(true)
                    .with_format(LOCAL_TIME, is_local_time)
                    .build(field)
                    .unwrap();
                let examples = field.get("examples").and_then(Value::as_array).into_iter().flatten();
                for value in examples.chain(field.get("default")) {
                    assert!(validator.is_valid(value), "{path}: {value}");
                }
            });
        }
    }

    #[test]
    fn nothing_is_left_that_a_reader_of_the_schema_would_have_to_resolve() {
        for kind in Kind::ALL {
            let text = of(kind).schema.to_string();
            for word in ["$ref", "anyOf", "oneOf", "uint"] {
                assert!(!text.contains(&format!("\"{word}")), "{kind:?} has {word}");
            }
            assert!(of(kind).validator.is_some());
        }
    }

    #[test]
    fn fields_come_in_the_order_of_the_documentation() {
        assert_eq!(Kind::EncryptionKey.fields()[..3], ["tenant_id", "key_name", "description"]);
        for kind in Kind::ALL {
            let schema = &of(kind).schema;
            let names: std::collections::BTreeSet<&str> =
                schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
            let fields = kind.fields().iter().copied().chain(["apiVersion", "kind"]).collect();
            assert_eq!(names, fields);
        }
    }
}
