//! The effective value of each field, who set it, and what was applied if that is something else.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::diagnostic::Place;
use crate::document::{Inherited, Kind, Located};
use crate::model::{EncryptionKey, RotationPolicy};
use crate::provider::capabilities;

use super::View;
use crate::engine::providers::place;

/// A field, and who set it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its effective value; null where it is not set.
    pub value: Value,
    /// The value that was applied last, where that is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied: Option<Value>,
    /// Who set it.
    pub origin: FieldOrigin,
    /// Where, if the document itself did.
    pub place: Option<Place>,
}

/// Who set a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FieldOrigin {
    /// The document itself.
    Document,
    /// `defaults` of the tenant.
    Tenant,
    /// `defaults` of `keywheel.yaml`.
    Config,
    /// The key manager: its own way, or its settings in `keywheel.yaml`.
    Provider,
    /// The built-in default.
    Default,
    /// The document that was applied last: it is gone from git, or has errors there.
    Record,
}

impl View<'_> {
    pub(super) fn policy_fields(
        &self,
        policy: &Located<RotationPolicy>,
        is_wanted: bool,
        record: Option<&RotationPolicy>,
    ) -> Vec<Field> {
        let mut fields = fields(Kind::RotationPolicy, policy, self.is_recorded(is_wanted), record);
        let strategy = capabilities(policy.value.kms_provider).strategies.first();
        fall_back(&mut fields, "rotation_strategy", strategy.map(|strategy| strategy.as_str().into()));
        fields
    }

    pub(super) fn key_fields(
        &self,
        key: &Located<EncryptionKey>,
        is_wanted: bool,
        record: Option<&EncryptionKey>,
    ) -> Vec<Field> {
        let mut fields = fields(Kind::EncryptionKey, key, self.is_recorded(is_wanted), record);
        let region = place(&self.wanted.config.providers, &key.value).region;
        fall_back(&mut fields, "kms_region", region.map(Value::from));
        fields
    }

    /// Is the record the only thing that speaks for an object?
    fn is_recorded(&self, is_wanted: bool) -> bool {
        self.has_errors || !is_wanted
    }
}

/// Each field of a kind with its effective value, who set it, and what was applied if that differs.
fn fields<T: Serialize>(kind: Kind, document: &Located<T>, is_recorded: bool, record: Option<&T>) -> Vec<Field> {
    let values = |document: &T| match serde_json::to_value(document) {
        Ok(Value::Object(values)) => values,
        _ => Map::new(),
    };
    let wanted = values(&document.value);
    let recorded = record.map(values);
    let value = |values: &Map<String, Value>, name: &str| values.get(name).cloned().unwrap_or_default();
    let field = |name: &&str| {
        let place = document.fields.get(name).cloned();
        let origin = match (&place, document.inherited.get(*name)) {
            _ if is_recorded => FieldOrigin::Record,
            (Some(_), _) => FieldOrigin::Document,
            (None, Some(Inherited::Tenant)) => FieldOrigin::Tenant,
            (None, Some(Inherited::Config)) => FieldOrigin::Config,
            (None, None) => FieldOrigin::Default,
        };
        let effective = value(&wanted, name);
        // `previous_name` is how a rename is asked for, and not an edit.
        let applied = recorded.as_ref().filter(|_| *name != "previous_name").map(|recorded| value(recorded, name));
        let applied = applied.filter(|applied| *applied != effective);
        Field { name: (*name).to_owned(), value: effective, applied, origin, place }
    };
    kind.fields().iter().map(field).collect()
}

/// A field that nobody set takes this value from the key manager, or from its settings.
fn fall_back(fields: &mut [Field], name: &str, value: Option<Value>) {
    let field = fields.iter_mut().find(|field| field.name == name && field.value.is_null());
    if let (Some(field), Some(value)) = (field, value) {
        field.value = value;
        field.origin = FieldOrigin::Provider;
    }
}
