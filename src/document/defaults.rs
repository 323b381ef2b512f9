//! Policy fields from the layers above a policy: `keywheel.yaml`, then the tenant, then the policy itself. The nearer
//! one wins, whole fields only.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Inherited;
use super::read::Document;

/// A layer of defaults: the document that has them, and its field `defaults`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer<'d, 't> {
    pub document: &'d Document<'t>,
    pub origin: Inherited,
}

impl<'d> Layer<'d, '_> {
    fn fields(self) -> Option<&'d Map<String, Value>> {
        self.document.fields.get("defaults").and_then(Value::as_object)
    }
}

/// The fields that fall away where a nearer layer has set another one: the field, and which nearer field and value
/// (none means any) makes it meaningless.
const OVERRULED: [(&str, &str, &[&str]); 6] = [
    ("rotation_interval_days", "rotation_schedule", &[]),
    ("rotation_schedule", "rotation_interval_days", &[]),
    ("rotation_interval_days", "rotation_trigger", &["manual", "usage_based", "event_based"]),
    ("rotation_schedule", "rotation_trigger", &["manual", "usage_based", "event_based"]),
    ("destroy_after_disabled_days", "old_key_disposition", &["keep", "disable"]),
    ("usage_threshold_warning", "max_usage_count", &[]),
];

/// Fills in what a policy does not say, from the nearest layer to the farthest; says which layer each field came from.
pub(super) fn merge(policy: &mut Map<String, Value>, layers: &[Layer<'_, '_>]) -> BTreeMap<String, Inherited> {
    let mut inherited = BTreeMap::new();
    for layer in layers {
        let Some(defaults) = layer.fields() else { continue };
        let taken: Vec<(&String, &Value)> =
            defaults.iter().filter(|(name, _)| !policy.contains_key(*name) && !is_overruled(name, policy)).collect();
        for (name, value) in taken {
            policy.insert(name.clone(), value.clone());
            inherited.insert(name.clone(), layer.origin);
        }
    }
    inherited
}

/// Has a nearer layer, all of which is in `nearer`, made the field meaningless?
fn is_overruled(name: &str, nearer: &Map<String, Value>) -> bool {
    OVERRULED.iter().filter(|(field, ..)| *field == name).any(|(_, by, values)| match nearer.get(*by) {
        None | Some(Value::Null) => false,
        Some(value) => values.is_empty() || value.as_str().is_some_and(|value| values.contains(&value)),
    })
}
