//! Field by field: what differs between two states of one object.

use serde::Serialize;
use serde_json::{Map, Value};

/// The fields that differ, as they are before and after. Both maps have the same keys; a field that one side does not
/// set is null there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FieldDiff {
    pub before: Map<String, Value>,
    pub after: Map<String, Value>,
}

impl FieldDiff {
    pub(super) fn is_empty(&self) -> bool {
        self.before.is_empty()
    }

    pub(super) fn touches(&self, field: &str) -> bool {
        self.before.contains_key(field)
    }

    pub(super) fn only(&self, field: &str) -> bool {
        self.before.len() == 1 && self.touches(field)
    }

    /// A field before and after, in words: `90 to 30`.
    pub(super) fn words(&self, field: &str) -> String {
        format!("{} to {}", word(self.before.get(field)), word(self.after.get(field)))
    }
}

/// Compares two documents. `previous_name` is how a rename is asked for, and not a difference.
pub(super) fn compare<T: Serialize>(before: &T, after: &T) -> FieldDiff {
    let (before, after) = (fields(before), fields(after));
    let mut diff = FieldDiff::default();
    for name in before.keys().chain(after.keys().filter(|name| !before.contains_key(*name))) {
        let (old, new) = (before.get(name), after.get(name));
        if old != new && name != "previous_name" {
            diff.before.insert(name.clone(), old.cloned().unwrap_or(Value::Null));
            diff.after.insert(name.clone(), new.cloned().unwrap_or(Value::Null));
        }
    }
    diff
}

/// The fields that a document sets, without its address (which the change's object has).
pub(super) fn fields<T: Serialize>(document: &T) -> Map<String, Value> {
    match serde_json::to_value(document) {
        Ok(Value::Object(mut map)) => {
            map.remove("previous_name");
            map
        }
        _ => Map::new(),
    }
}

fn word(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "nothing".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_that_one_side_does_not_set_is_null_there() {
        let diff = compare(&json!({"a": 1, "b": 2}), &json!({"a": 1, "c": 3}));
        assert_eq!(Value::Object(diff.before), json!({"b": 2, "c": null}));
        assert_eq!(Value::Object(diff.after), json!({"b": null, "c": 3}));
    }

    #[test]
    fn the_name_before_a_rename_is_no_difference() {
        assert!(compare(&json!({"previous_name": "x"}), &json!({})).is_empty());
    }
}
