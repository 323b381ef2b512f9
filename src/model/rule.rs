//! What holds beyond one policy, as people write it: guardrails and freezes.

use chrono::NaiveDateTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Name, RotationPolicy, Severity};

/// A rule over policies, keys and plans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Guardrail {
    /// The rule's name.
    pub name: Name,
    /// What the rule is for, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What a broken rule does.
    #[serde(default = "Guardrail::default_severity")]
    pub severity: Severity,
    /// The tenants that it holds for; absent means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<Name>,
    /// The classes of data that it holds for; absent means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key_types: Vec<String>,
    /// The rule, an expression in CEL that is true where it is kept. Beside its fields a policy has `longest_interval_days`: the most
    /// days from one rotation to the next, by its interval or its schedule; absent where nothing makes keys due by time.
    #[schemars(
        length(min = 1, max = 4096),
        example = &"policy.rotation_interval_days <= 90",
        example = &"has(policy.longest_interval_days) && policy.longest_interval_days <= 90"
    )]
    pub rule: String,
    /// What is said when it is broken.
    #[schemars(length(min = 1))]
    pub message: String,
    /// What to do then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Guardrail {
    /// Does it hold for this class of data of this tenant?
    #[must_use]
    pub fn selects(&self, tenant_id: &Name, key_type: &str) -> bool {
        selects(&self.tenants, &self.key_types, tenant_id, key_type)
    }

    const fn default_severity() -> Severity {
        Severity::Error
    }
}

/// A span of local time in which nothing starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// The freeze's name.
    #[schemars(example = &"Year-end change freeze")]
    pub name: Name,
    /// Why.
    #[schemars(length(min = 1))]
    pub reason: String,
    /// Its first instant, local time in `timezone`: `YYYY-MM-DDTHH:MM:SS`.
    #[schemars(with = "String", example = &"2026-12-20T00:00:00")]
    pub from: NaiveDateTime,
    /// The instant at which it has ended, local time in `timezone`: `YYYY-MM-DDTHH:MM:SS`.
    #[schemars(with = "String", example = &"2027-01-05T00:00:00")]
    pub until: NaiveDateTime,
    /// The IANA time zone of `from` and `until`.
    #[serde(default = "RotationPolicy::default_timezone")]
    #[schemars(length(min = 1, max = 50))]
    pub timezone: String,
    /// The tenants that it holds for; absent means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<Name>,
    /// The classes of data that it holds for; absent means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key_types: Vec<String>,
}

impl Freeze {
    /// Does it hold for this class of data of this tenant?
    #[must_use]
    pub fn selects(&self, tenant_id: &Name, key_type: &str) -> bool {
        selects(&self.tenants, &self.key_types, tenant_id, key_type)
    }
}

/// Do lists of tenants and of classes of data, of which an absent one means all, select this one?
fn selects(tenants: &[Name], key_types: &[String], tenant_id: &Name, key_type: &str) -> bool {
    (tenants.is_empty() || tenants.contains(tenant_id))
        && (key_types.is_empty() || key_types.iter().any(|class| class == key_type))
}
