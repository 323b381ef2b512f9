//! Fields that are validated, stored and shown, and whose effect this version does not have yet: one line says so.

use std::collections::BTreeMap;

use crate::diagnostic::Finding;
use crate::document::Repository;
use crate::model::{RotationTrigger, Secret};

/// One line with every such field that somebody set, and the number of documents that set it.
pub(super) fn not_yet(repository: &Repository) -> Option<Finding> {
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut count = |field: &'static str, is_set: bool| {
        if is_set {
            *counts.entry(field).or_insert(0) += 1;
        }
    };
    for policy in repository.policies.values().map(|policy| &policy.value) {
        count("rotation_events", !policy.rotation_events.is_empty());
        if let Some(settings) = &policy.notification_settings {
            count("notification_settings.email", !settings.email.is_empty());
            let secrets = [&settings.slack_webhook, &settings.webhook_url, &settings.webhook_secret];
            let is_literal = |secret: &&Option<Secret>| secret.as_ref().is_some_and(|it| it.variable().is_none());
            count("notification_settings with a literal secret", secrets.iter().any(is_literal));
        }
        count("authorized_services", !policy.authorized_services.is_empty());
        count("rotation_trigger: event_based", policy.rotation_trigger == RotationTrigger::EventBased);
    }
    if counts.is_empty() {
        return None;
    }
    let fields: Vec<String> = counts.iter().map(|(field, count)| format!("{field} ({count})")).collect();
    Some(Finding::info(
        "plan/not-acting-yet",
        format!("stored, and without effect in keywheel {}: {}", env!("CARGO_PKG_VERSION"), fields.join(", ")),
    ))
}
