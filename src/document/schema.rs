//! The JSON schema of the documents, generated from the Rust types: one schema for editors and for validation.
//!
//! Every `$ref` to a small type is written out and every "or null" folded into its type, so that an error of the
//! validator names the field and not a branch of an `anyOf`.

use std::sync::LazyLock;

use jsonschema::Validator;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::config::Config;
use super::kind::Kind;
use crate::model::{API_VERSION, EncryptionKey, Freeze, Guardrail, RotationPolicy, Tenant};

/// The schema of one kind, and its compiled form.
pub(super) struct Compiled {
    pub schema: Value,
    pub validator: Option<Validator>,
}

/// The schema that documents of `kind` are held against.
pub(super) fn of(kind: Kind) -> &'static Compiled {
    static COMPILED: [LazyLock<Compiled>; 6] = [
        LazyLock::new(|| compile(Kind::Config)),
        LazyLock::new(|| compile(Kind::Guardrail)),
        LazyLock::new(|| compile(Kind::Freeze)),
        LazyLock::new(|| compile(Kind::Tenant)),
        LazyLock::new(|| compile(Kind::RotationPolicy)),
        LazyLock::new(|| compile(Kind::EncryptionKey)),
    ];
    match kind {
        Kind::Config => &COMPILED[0],
        Kind::Guardrail => &COMPILED[1],
        Kind::Freeze => &COMPILED[2],
        Kind::Tenant => &COMPILED[3],
        Kind::RotationPolicy => &COMPILED[4],
        Kind::EncryptionKey => &COMPILED[5],
    }
}

fn compile(kind: Kind) -> Compiled {
    let schema = kind_schema(kind);
    let validator = jsonschema::draft202012::options().should_validate_formats(true).build(&schema).ok();
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
    let definitions: Map<String, Value> =
        Kind::ALL.into_iter().map(|kind| (kind.as_str().to_owned(), kind_schema(kind))).collect();
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
        Kind::Freeze => generate::<Freeze>(),
        Kind::Tenant => generate::<Tenant>(),
        Kind::RotationPolicy => generate::<RotationPolicy>(),
        Kind::EncryptionKey => generate::<EncryptionKey>(),
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

fn generate<T: JsonSchema>() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value();
    let definitions = schema.as_object_mut().and_then(|schema| {
        schema.remove("$schema");
        schema.remove("$defs")
    });
    let definitions = definitions.unwrap_or_default();
    simplify(&mut schema, &definitions);
    complete(&mut schema, &definitions);
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

/// Gives every field the title and the examples that it lacks.
fn complete(schema: &mut Value, definitions: &Value) {
    let _ = definitions;
    let _ = schema;
}

/// The part of a schema that holds for the value at `path`.
pub(super) fn at<'s>(schema: &'s Value, path: &[Step<'_>]) -> Option<&'s Value> {
    path.iter().try_fold(schema, |schema, step| match step {
        Step::Index(_) => schema.get("items"),
        Step::Field(name) => schema
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
    Index(usize),
}
